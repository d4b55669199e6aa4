"""`write_nonmem`: a study as a NONMEM data file, which `read_nonmem` with the same words reads back to the same study.

What a NONMEM file cannot say is refused, not bent: frames, a lag or a bioavailability that is a number (they stand in
the control stream, so here they must be parameters that a `Route` names), covariates in straight lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..covariates import Covariate
from ..data import Curves, Study
from ..errors import DataError, UnitError
from ..regimen import Administration, Regimen
from ..units import dimension, factor
from .curve import ABOVE, BELOW, MISSING, Curve
from .nonmem import AFTER
from .nonmem_events import Route

_NONE = "."


@dataclass(slots=True)
class _Row:
    """One record before it is text."""

    time: float  # as it counts [h]
    said: float  # as it is written [h]
    order: int  # among records of one time
    occasion: str
    cells: dict[str, str] = field(default_factory=dict)


def write_nonmem(
    study: Study | Curves | Iterable[Curves],
    path: str | Path,
    *,
    units: Mapping[str, str],
    routes: Mapping[int, str | Route] | None = None,
    regions: Mapping[int, str] | None = None,
    occasion: str = "",
    ids: Mapping[str, int] | None = None,
) -> None:
    """Write a NONMEM data file, with commas and a header.

    Parameters
    ----------
    study : whose subjects have regimens
    path : of the file; one that is there is replaced [text]
    units : of TIME, AMT and DV, e.g. ``{"TIME": "h", "AMT": "mg", "DV": "mg/L"}``, and of a region by its name;
        covariates are written as they are
    routes : number of a compartment -> name of a route, or a `Route` with the parameters that act on it
    regions : DVID -> name of a region; default one region, without DVID
    occasion : name of the column for occasions, where subjects have several [text]
    ids : number for each subject whose name is not one

    Raises
    ------
    DataError
        The study holds what a NONMEM file cannot say; the message says what to do.
    """
    people: dict[str, list[Curves]] = {}
    for one in [study] if isinstance(study, Curves) else study:
        people.setdefault(one.subject, []).append(one)
    for name in ("TIME", "AMT", "DV"):
        if name not in units:
            raise DataError(f"{Path(path).name}: the unit of {name} is not said; say units={{{name!r}: ...}}")
    first = next(iter(people.values()), None)
    if first is None:
        raise DataError(f"{Path(path).name}: there is no subject to write")
    covariates = list(first[0].covariates)
    columns = ["ID", "TIME", "EVID", "AMT", "RATE", "II", "ADDL", "SS", "CMT", "DV", "MDV", "CENS"]
    columns += ["DVID"] if regions else []
    columns += ([occasion] if occasion else []) + covariates
    lines = [",".join(columns)]
    for subject, visits in people.items():
        number = _number_of(subject, ids)
        if len(visits) > 1 and not occasion:
            raise DataError(f"subject {subject} has {len(visits)} occasions; say occasion='OCC', the column for them")
        if set(visits[0].covariates) != set(covariates):
            raise DataError(
                f"subject {subject} has covariates {', '.join(visits[0].covariates) or 'none'}, the first subject "
                f"{', '.join(covariates) or 'none'}; give all subjects the same"
            )
        for row in _rows(subject, visits, units, routes, regions):
            values = {c: _covariate(visits[0].covariates[c], row.time, f"subject {subject}: {c}") for c in covariates}
            cells = {"ID": number, "TIME": _text(row.said, factor(units["TIME"])), occasion: row.occasion}
            cells |= row.cells | values
            lines.append(",".join(cells.get(c, _NONE) for c in columns))
    try:
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}; name a file in a folder that exists") from None


def _number_of(subject: str, ids: Mapping[str, int] | None) -> str:
    if ids is not None and subject in ids:
        return str(ids[subject])
    try:
        return f"{float(subject):.15g}"
    except ValueError:
        raise DataError(f"subject {subject!r}: NONMEM knows numbers only; say ids={{{subject!r}: 1, ...}}") from None


def _text(value: float, unit: float) -> str:
    """A number in a unit, so written that reading it gives the same canonical number again."""
    if math.isnan(value):
        return _NONE
    near = value / unit
    for x in (float(f"{near:.12g}"), near, np.nextafter(near, math.inf), np.nextafter(near, -math.inf)):
        if float(x) * unit == value:
            near = float(x)
            break
    text = repr(float(near))
    return text.removesuffix(".0")


def _rows(
    subject: str,
    visits: Sequence[Curves],
    units: Mapping[str, str],
    routes: Mapping[int, str | Route] | None,
    regions: Mapping[int, str] | None,
) -> list[_Row]:
    """Every record of one subject, in time."""
    regimens = [_regimen_of(v) for v in visits]
    whole = max(regimens, key=lambda r: len(r.administrations))
    for r in regimens:
        if not set(r.administrations) <= set(whole.administrations):
            raise DataError(
                f"subject {subject}: its occasions were given different doses; one subject has one schedule"
            )
    samples = [row for v in visits for c in v for row in _samples(c, v.occasion, units, regions)]
    rows = list(samples)
    at = {s.time for s in samples}
    for k, (order, more, every) in enumerate(_orders(whole, subject)):
        visit = next(v.occasion for v, r in zip(visits, regimens, strict=True) if order in r.administrations)
        before = [t for t in at if t + AFTER * max(1.0, t) == order.time]
        row = _Row(order.time, before[0] if before else order.time, k - 10**6, visit)
        row.cells = _dose(order, more, every, units, routes, subject)
        rows.append(row)
    known = {r.time for r in rows}
    changes = {float(t) for c in visits[0].covariates.values() if isinstance(c, Covariate) for t in c.t}
    for t in sorted(changes - known):
        rows.append(_Row(t, t, 0, visits[0].occasion, {"EVID": "2", "MDV": "1", "AMT": "0"}))
    return sorted(rows, key=lambda r: (r.time, r.order))


def _regimen_of(one: Curves) -> Regimen:
    if one.regimen is not None:
        return one.regimen
    if one.injected_activity is None:
        return Regimen.nothing()
    if one.amount is not None:
        raise DataError(
            f"subject {one.subject} was given activity and amount, a NONMEM dose is one number: say a regimen with the "
            "one that the model needs"
        )
    return Regimen.of(Administration(0.0, activity=one.injected_activity))


def _samples(curve: Curve, occasion: str, units: Mapping[str, str], regions: Mapping[int, str] | None) -> list[_Row]:
    if curve.framed:
        raise DataError(f"{curve.who}: values are averages over frames, which a NONMEM file cannot say")
    numbers = {name: k for k, name in (regions or {}).items()}
    if regions and curve.region not in numbers:
        raise DataError(f"{curve.who}: has no DVID; regions are known of {', '.join(numbers)}")
    told = curve.to_unit(units.get(curve.region, units["DV"]))
    rows = []
    for k, (t, value, what) in enumerate(zip(told.t_start, told.value, told.censored, strict=True)):
        missing = what == MISSING
        cells = {"EVID": "0", "AMT": "0", "DV": _NONE if missing else _text(float(value), 1.0)}
        cells |= {"MDV": str(int(missing)), "CENS": {BELOW: "1", ABOVE: "-1"}.get(int(what), "0")}
        cells |= {"DVID": str(numbers[curve.region])} if regions else {}
        rows.append(_Row(float(t), float(t), k, occasion, cells))
    return rows


def _orders(regimen: Regimen, subject: str) -> list[tuple[Administration, int, float]]:
    """Each order with the number of doses it adds and their interval [h]."""
    out: list[tuple[Administration, int, float]] = []
    left = [a for a in regimen.administrations if a.ordered is not None]
    resets = any(a.reset or a.steady == "replace" for a in regimen.administrations)
    for a in regimen.administrations:
        if a.ordered is not None:
            continue
        plain = replace(a, steady="", every=0.0, reset=False)
        mine = [b for b in left if b.ordered == a.time and replace(b, time=a.time, ordered=None) == plain]
        mine = list(dict.fromkeys(mine))  # of two equal orders, one series each
        for b in mine:
            left.remove(b)
        every = a.every or (_interval(a.time, [b.time for b in mine]) if mine else 0.0)
        if any(not math.isclose(b.time, a.time + k * every, rel_tol=1e-9) for k, b in enumerate(mine, start=1)):
            raise DataError(
                f"subject {subject}: {a}: the doses it adds are not {every:g} h apart; order them one by one"
            )
        out.append((a, len(mine), every))
    if left and resets:
        raise DataError(f"subject {subject}: {left[0]}: ordered at {left[0].ordered:g} h by no dose of the regimen")
    out += [(replace(a, ordered=None), 0, 0.0) for a in left]
    return sorted(out, key=lambda o: o[0].time)


def _interval(start: float, times: Sequence[float]) -> float:
    """The interval that gives these times exactly, where one does."""
    near = (times[-1] - start) / len(times)
    for x in (float(f"{near:.12g}"), near, times[0] - start):
        if all(start + k * x == t for k, t in enumerate(times, start=1)):
            return x
    return near


def _dose(
    a: Administration,
    more: int,
    every: float,
    units: Mapping[str, str],
    routes: Mapping[int, str | Route] | None,
    subject: str,
) -> dict[str, str]:
    """AMT, RATE, II, ADDL, SS, CMT and EVID of an order."""
    if a.reset and a.activity is None and a.amount is None and a.mass is None:
        return {"EVID": "3", "AMT": "0", "MDV": "1"}
    who = f"subject {subject}: {a}"
    number, route = _route(a, routes, who)
    try:
        if dimension(units["AMT"]) != dimension(a.unit):
            raise DataError(f"{who}: is in {a.unit}, but AMT in {units['AMT']!r}; say another unit of AMT")
        unit, hour = factor(units["AMT"]), factor(units["TIME"])
    except UnitError as error:
        raise DataError(str(error)) from None
    for what, found, named in (("lag", a.lag, route.lag or 0.0), ("fraction", a.fraction, route.fraction or 1.0)):
        if found != named:
            raise DataError(
                f"{who}: its {what} is {found!r}, that of CMT {number} {named!r}; NONMEM reads it from the control "
                f"stream: name one parameter for all doses, routes={{{number}: Route({a.into!r}, {what}='...')}}"
            )
    rate = "0"
    if isinstance(a.rate, str) or isinstance(a.duration, str):
        kind, name = ("rate", a.rate) if isinstance(a.rate, str) else ("duration", a.duration)
        wanted = getattr(route, kind) or f"{kind[0].upper()}{number}"
        if name != wanted:
            raise DataError(f"{who}: its {kind} is {name!r}, that of CMT {number} {wanted!r}; name it in routes=")
        rate = "-1" if kind == "rate" else "-2"
    elif a.rate:
        rate = _text(a.rate, unit / hour)
    elif a.duration:
        if a.fraction != 1.0:
            raise DataError(f"{who}: a duration and a fraction; NONMEM's F shortens an infusion: say a rate instead")
        rate = _text(a.given / a.duration, unit / hour)
    return {
        "EVID": "4" if a.reset else "1",
        "AMT": _text(a.given, unit),
        "RATE": rate,
        "II": _text(every, hour) if every else "0",
        "ADDL": str(more),
        "SS": {"": "0", "replace": "1", "add": "2"}[a.steady],
        "CMT": str(number),
        "MDV": "1",
    }


def _route(a: Administration, routes: Mapping[int, str | Route] | None, who: str) -> tuple[int, Route]:
    if routes is None:
        if a.into:
            raise DataError(f"{who}: goes into {a.into!r}; say its compartment: routes={{1: {a.into!r}}}")
        return 1, Route()
    for number, given in routes.items():
        route = Route(given) if isinstance(given, str) else given
        if route.name == a.into:
            return number, route
    raise DataError(f"{who}: goes into {a.into!r}, which routes= does not number: {dict(routes)}")


def _covariate(value: float | Covariate, time: float, who: str) -> str:
    if not isinstance(value, Covariate):
        return _text(float(value), 1.0)
    if value.rule == "linear":
        raise DataError(f"{who}: changes in a straight line; NONMEM knows steps only ('next' or 'last')")
    return _text(float(value.at(time)), 1.0)
