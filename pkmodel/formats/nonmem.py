"""NONMEM data files: `read_nonmem` turns one into a `Study`, one `Curves` per subject with its own regimen.

Conventions
-----------
* Units are said once (``units=``); doses and times become canonical, concentrations keep their unit.
* Records of equal time act in the order of the file: a sample above a dose is a trough. As results at a time are those
  after its doses, such a dose is put `AFTER` later, relative to its time.
* Covariates follow NONMEM: the value of a record holds back to the record before (``covariate_rule="next"``, NOCB);
  ``"last"`` carries values forward (LOCF). One that never changes is a number. Cells without a value are filled by the
  same rule, not with zero as NM-TRAN does. A dose reads its own record, also for the doses that ADDL adds.
* MDV 1 on an observation keeps the time without a value (`MISSING`): predicted, not counted.
* CENS 1 (or BLQ 1) says that DV (or LLOQ) is a limit the concentration was below, CENS -1 one it passed.
* Time may go back at a reset (EVID 3, 4); it is then counted on from the record before.
* Times below zero are counted from the subject's first record. Clock times (``13:30``) and dates are too, as in NONMEM.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..covariates import Covariate
from ..data import Curves, Study
from ..errors import DataError, NuclideError, SimulationError, UnitError
from ..model import Model
from ..nuclides import nuclide as find_nuclide
from ..regimen import Administration, Regimen
from ..units import dimension, factor
from .curve import ABOVE, BELOW, KINDS, MEASURED, MISSING, Curve, measure_of
from .long_row import Problems
from .nonmem_events import Event, Route, administrations, route_of, wrong
from .nonmem_records import Record, records
from .nonmem_table import KNOWN, Table, read_table

__all__ = ["Route", "read_nonmem"]

AFTER = 1e-9
"""A dose whose record stands below a sample of the same time is given this much later, relative to max(1 h, time)."""

_KIND = {"urine": "excreta", "faeces": "excreta", "whole_blood": "blood", "serum": "plasma"}


def read_nonmem(
    path: str | Path,
    *,
    units: Mapping[str, str],
    model: Model | None = None,
    routes: Mapping[int, str | Route] | None = None,
    regions: Mapping[int, str] | None = None,
    columns: str | Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    drop: Sequence[str] = (),
    ignore: Literal["#", "@"] = "#",
    covariate_rule: Literal["next", "last"] = "next",
    lloq: float | None = None,
    occasion: str = "",
    agent: str = "",
    nuclide: str = "",
    decay_corrected: bool | None = None,
) -> Study:
    """Read a NONMEM data file.

    Parameters
    ----------
    path : of the file, with columns ID, TIME, DV and as needed AMT EVID MDV CMT RATE II ADDL SS DVID CENS BLQ LLOQ
        DATE; every other column is a covariate [text]
    units : of TIME, AMT and DV, e.g. ``{"TIME": "h", "AMT": "mg", "DV": "mg/L"}``; of a region by its name where they
        differ, and of covariates
    model : to check routes, regions and parameters against; CMT n is then its n-th compartment
    routes : number of a compartment that is dosed -> route of the model, or a `Route` that also names parameters;
        default by `model`, or the model's first route where all doses have one CMT
    regions : DVID (CMT where there is no DVID) of samples -> name of the region, which is that of the observable;
        default the model's only observable, or "plasma"
    columns : names in order, as in ``$INPUT``, for a file without a header [text]
    rename : the file's name of a column -> the name wanted, e.g. ``{"CONC": "DV"}``
    drop : columns to leave out [text]
    ignore : "#", or "@" to leave out every line that begins with a letter
    covariate_rule : "next" (NONMEM) or "last": which value holds between two records [text]
    lloq : limit of quantification where BLQ is flagged and no column LLOQ says it [unit of DV]
    occasion : column that numbers occasions: each becomes a `Curves` of its own with the samples of that occasion and
        all doses until its end; default none [text]
    agent : what was given [text]
    nuclide : where DV is activity; then say `decay_corrected` too [text]
    decay_corrected : whether DV is corrected to the time 0 of each subject

    Returns
    -------
    Study

    Raises
    ------
    DataError
        The file holds something wrong; the message names every row, column, what was found and what is allowed.

    Examples
    --------
    >>> study = pk.read_nonmem("theo.csv", units={"TIME": "h", "AMT": "mg", "DV": "mg/L", "WT": "kg"})
    >>> study["1"].regimen, study["1"]["plasma"].value
    """
    file = Path(path).name
    problems = Problems(file)
    table = read_table(path, problems, columns=columns, rename=rename, drop=drop, ignore=ignore)
    scale = _units(table, units, nuclide, decay_corrected)
    if occasion and occasion not in table.columns:
        raise DataError(f"{file}: occasion = {occasion!r} is not a column; has: {', '.join(table.columns)}")
    covariates = [c for c in table.columns if c not in KNOWN and c != occasion]
    people = records(table, problems, scale, covariates, occasion)
    if not people:
        problems.stop()
        raise DataError(f"{file}: holds no records")
    dosed = {r.event.compartment for rows in people.values() for r in rows if r.event.evid in (1, 4)}
    seen = sorted({r.seen for rows in people.values() for r in rows if r.event.evid == 0 and r.seen is not None})
    names = _regions(seen, regions, model, problems, people)
    made: list[Curves] = []
    for subject, rows in people.items():
        doses, times = _regimen(rows, problems, routes, model, several=len(dosed) > 1)
        constants, warnings = _covariates(rows, times, covariates, covariate_rule, problems, model)
        warnings = [*_notes(rows), *warnings]
        visits = list(dict.fromkeys(r.occasion for r in rows)) if occasion else [""]
        for visit in visits:
            mine = [k for k, r in enumerate(rows) if r.occasion == visit] if occasion else list(range(len(rows)))
            given = tuple(a for a in doses if not occasion or a.order <= times[mine[-1]])
            curves = _curves(
                subject, [(rows[k], times[k]) for k in mine], names, units, lloq, problems, file,
                find_nuclide(nuclide).name if nuclide else "", True if decay_corrected is None else decay_corrected,
            )  # fmt: skip
            made.append(
                Curves(
                    subject=subject, study=Path(path).stem, nuclide=find_nuclide(nuclide).name if nuclide else "",
                    agent=agent, curves=curves, warnings=tuple(warnings), occasion=visit,
                    regimen=_checked(given, nuclide, subject, file) if not problems.found else None,
                    covariates=constants, covariate_units={c: units[c] for c in covariates if c in units},
                    injected_activity=_first_activity(given),
                )
            )  # fmt: skip
    problems.stop()
    return Study(
        name=Path(path).stem, title=f"NONMEM data file {file}", citation="", doi="", terms="", notes="",
        curves=tuple(made), published=(), digest=hashlib.sha256(Path(path).read_bytes()).hexdigest(),
    )  # fmt: skip


def _units(table: Table, units: Mapping[str, str], nuclide: str, decay_corrected: bool | None) -> dict[str, Any]:
    """Factors to canonical units of TIME and AMT, and the unit of a dose."""
    file = table.file
    if not isinstance(units, Mapping):
        raise DataError(f"{file}: units = {units!r}; say units={{'TIME': 'h', 'AMT': 'mg', 'DV': 'mg/L'}}")
    for name in ("TIME", "DV", *(["AMT"] if "AMT" in table.columns else [])):
        if name not in units:
            raise DataError(
                f"{file}: the unit of {name} is not said; say units={{'TIME': 'h', 'AMT': 'mg', 'DV': 'mg/L'}}"
            )
    if "DV" not in table.columns:
        raise DataError(f"{file}: has no column DV; has: {', '.join(table.columns)}; use rename={{'CONC': 'DV'}}")
    try:
        for name, unit in units.items():
            dimension(unit, f"{file}: units[{name!r}]")
        found = dimension(units.get("AMT", "nmol"))
        dose = next((u for u in ("MBq", "nmol", "g") if dimension(u) == found), "")
        if nuclide:
            find_nuclide(nuclide)
        measure_of(units["DV"], f"{file}: units['DV']", radioactive=bool(nuclide))
    except (UnitError, NuclideError) as error:
        raise DataError(str(error)) from None
    if not dose:
        raise DataError(f"{file}: AMT in {units['AMT']!r}; allowed: mass (mg), amount (nmol) or activity (MBq)")
    if dimension(units["TIME"]) != dimension("h"):
        raise DataError(f"{file}: TIME in {units['TIME']!r}; allowed: h, min, d ...")
    if nuclide and decay_corrected is None:
        raise DataError(f"{file}: {nuclide} decays; say decay_corrected=True (DV is corrected to time 0) or False")
    return {"TIME": factor(units["TIME"]), "AMT": factor(units["AMT"]) if "AMT" in units else 1.0, "dose": dose}


def _regions(
    seen: list[int],
    regions: Mapping[int, str] | None,
    model: Model | None,
    problems: Problems,
    people: Mapping[str, list[Record]],
) -> dict[int | None, str]:
    """Name of the region of each number that samples bear."""
    only = next(iter(model.observables)) if model is not None and len(model.observables) == 1 else ""
    if regions is None:
        if len(seen) > 1:
            raise DataError(
                f"{problems.file}: samples are of {', '.join(map(str, seen))} (DVID, or CMT without DVID); say "
                f"regions={{{seen[0]}: 'plasma', {seen[1]}: ...}}"
            )
        if model is not None and not only and "plasma" not in model.observables:
            raise DataError(
                f"{problems.file}: {model.name} has observables {', '.join(model.observables)}; say which is measured: "
                f"regions={{{seen[0] if seen else 1}: {next(iter(model.observables))!r}}}"
            )
        name = "plasma" if model is None or "plasma" in model.observables else only
        return {None: name, **dict.fromkeys(seen, name)}
    names: dict[int | None, str] = {k: name for k, name in regions.items()}
    names[None] = next(iter(regions.values())) if len(regions) == 1 else ""
    for rows in people.values():
        for r in rows:
            if r.event.evid == 0 and not names.get(r.seen):
                what = "is missing" if r.seen is None else r.seen
                problems.row(r.line, f"DVID (or CMT) of a sample {what}; regions are known of {names_of(regions)}")
    for name in regions.values():
        if model is not None and name not in model.observables:
            raise DataError(
                f"{problems.file}: region {name!r} is no observable of {model.name}; known: "
                f"{', '.join(model.observables)}"
            )
    return names


def names_of(regions: Mapping[int, str]) -> str:
    """How a message lists numbers and their names."""
    return ", ".join(f"{k}: {v!r}" for k, v in regions.items())


def _regimen(
    rows: Sequence[Record],
    problems: Problems,
    routes: Mapping[int, str | Route] | None,
    model: Model | None,
    *,
    several: bool,
) -> tuple[list[Administration], list[float]]:
    """What a subject is given, and the time of each record as it counts [h]."""
    given: list[Administration] = []
    times: list[float] = []
    sampled, late = -1.0, False  # time of the last sample; whether a dose of that time came below it
    for r in rows:
        e = r.event
        if e.time > sampled:
            late = False
        acts = e.evid in (1, 3, 4)
        late = late or (acts and e.time == sampled)
        if e.evid == 0:
            sampled = e.time
        time = e.time + AFTER * max(1.0, e.time) if late else e.time
        times.append(time)
        text = wrong(e)
        if text:
            problems.row(r.line, text)
            continue
        if not acts:
            continue
        route, text = (Route(), "") if e.evid == 3 else route_of(e, routes, model, several)
        if text:
            problems.row(r.line, text)
            continue
        moved = Event(time, e.evid, e.amount, e.rate, e.interval, e.additional, e.steady, e.compartment, e.unit)
        given += administrations(moved, route)
    return given, times


def _covariates(
    rows: Sequence[Record],
    times: Sequence[float],
    names: Sequence[str],
    rule: str,
    problems: Problems,
    model: Model | None,
) -> tuple[dict[str, float | Covariate], list[str]]:
    """Numbers, and what changes in time."""
    found: dict[str, float | Covariate] = {}
    warnings: list[str] = []
    for name in (n for n in names if n in rows[0].covariates):  # a column with text was complained of before
        t: list[float] = []
        v: list[float] = []
        acted = False  # whether the value at the last time is that of a dose or another event
        for r, time in zip(rows, times, strict=True):
            value = r.covariates[name]
            if math.isnan(value):
                continue
            acts = r.event.evid != 0
            if not t or time > t[-1]:
                t.append(time)
                v.append(value)
                acted = acts
            elif value != v[-1] and (rule == "last" or (acts and acted)):
                text = f"covariate {name} is {v[-1]:g} and {value:g} at one time; which holds cannot be said"
                if model is not None and name in model.parameters:
                    problems.row(r.line, f"{text}; make the two rows agree")
                    break
                warnings.append(f"{text}: taken as {v[-1]:g}")
            elif acts:  # a dose reads what its own record says, a sample of that time nothing
                v[-1], acted = value, True
        if not t:
            problems.row(
                rows[0].line, f"covariate {name} is missing in every row of ID {rows[0].subject}; give it, or "
                f"drop=({name!r},)"
            )  # fmt: skip
        else:
            found[name] = _steps(t, v, rule)
    return found, list(dict.fromkeys(warnings))


def _steps(t: list[float], v: list[float], rule: str) -> float | Covariate:
    """A number, or the steps without those that change nothing."""
    new = [a != b for a, b in zip(v[1:], v[:-1], strict=True)]
    keep = np.flatnonzero([*new, True] if rule == "next" else [True, *new])
    return v[0] if len(keep) == 1 else Covariate(np.array(t)[keep], np.array(v)[keep], rule)


def _notes(rows: Sequence[Record]) -> list[str]:
    notes = [r.note for r in rows if r.note]
    if not any(r.event.evid == 0 for r in rows):
        notes.append("has no samples")
    if not any(r.event.evid in (1, 4) for r in rows):
        notes.append("has no doses")
    return list(dict.fromkeys(notes))


def _checked(given: Sequence[Administration], nuclide: str, subject: str, file: str) -> Regimen:
    try:
        return Regimen.of(*given, nuclide=nuclide)
    except SimulationError as error:
        raise DataError(f"{file}: ID {subject}: {error}") from None


def _first_activity(given: Sequence[Administration]) -> float | None:
    """What was injected at time 0, for units of %IA."""
    return next((a.activity for a in given if a.activity and a.time == 0), None)


def _curves(
    subject: str,
    rows: Sequence[tuple[Record, float]],
    names: Mapping[int | None, str],
    units: Mapping[str, str],
    lloq: float | None,
    problems: Problems,
    file: str,
    nuclide: str,
    corrected: bool,
) -> tuple[Curve, ...]:
    """The samples of a subject, by region."""
    by: dict[str, list[tuple[Record, float, float, int]]] = {}
    for r, time in rows:
        if r.event.evid == 0:
            value, what = _value(r, lloq, problems)
            by.setdefault(names.get(r.seen) or "", []).append((r, time, value, what))
    out = []
    for region, points in by.items():
        n = len(points)
        t = np.array([p[1] for p in points])
        out.append(
            Curve(
                subject=subject, region=region, kind=_KIND.get(region, region if region in KINDS else "plasma"),
                t_start=t, t_end=t, value=np.array([p[2] for p in points]), sd=np.full(n, np.nan),
                weights=np.full(n, np.nan), n=np.ones(n, dtype=np.int64), unit=units.get(region, units["DV"]),
                decay_corrected=corrected, nuclide=nuclide, volume=np.full(n, np.nan),
                rows=tuple(p[0].line for p in points), source=file, injected_activity=None,
                censored=np.array([p[3] for p in points], dtype=np.int8),
            )
        )  # fmt: skip
    return tuple(out)


def _value(r: Record, lloq: float | None, problems: Problems) -> tuple[float, int]:
    """A sample's number and what it is: measured, a limit, or missing."""
    if r.missing:
        return math.nan, MISSING
    if r.below_flag:
        limit = r.lloq if not math.isnan(r.lloq) else lloq
        if limit is None:
            problems.row(r.line, "BLQ is 1, but the limit is not said; give a column LLOQ, or lloq=")
            return math.nan, MISSING
        return limit, BELOW
    if math.isnan(r.value):
        problems.row(r.line, "DV is missing in an observation; give it, or say MDV 1, or EVID 2")
        return math.nan, MISSING
    return r.value, {1: BELOW, -1: ABOVE}.get(r.censored, MEASURED)
