"""The long table ``tac.csv``: one row per value, every row checked before anything is built from it.

Columns: ``subject, region, value`` and either ``t`` or ``t_start, t_end``; further ``sd, unit, n, decay_corrected,
nuclide, agent, weight, kind, volume, mass, censored, note``. ``unit, n, decay_corrected, nuclide, agent`` must be
said, per row or once in ``study.toml``; none has a default. ``censored`` is ``below`` or ``above`` (the value is a
limit) or ``missing`` (there is no value). All problems of a table are reported together, each with its line.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..errors import DataError
from ..nuclides import nuclide
from .curve import Curve
from .long_row import Problems, Row, RowReader
from .study_file import Region, StudyFile, nearest

COLUMNS = (
    "subject", "region", "t", "t_start", "t_end", "value", "sd", "unit", "n", "decay_corrected", "nuclide", "agent",
    "weight", "kind", "volume", "mass", "censored", "note",
)  # fmt: skip
_SAID = ("unit", "n", "decay_corrected", "nuclide", "agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class LongTable:
    """Curves in order of first appearance; agent and warnings per subject; regions whose kind a row states."""

    curves: tuple[Curve, ...]
    kinds_said: frozenset[str]
    agents: Mapping[str, str]
    warnings: Mapping[str, tuple[str, ...]]


def read_long_table(text: str, file: str, study: StudyFile) -> LongTable:
    """Read and check the text of a ``tac.csv``.

    Parameters
    ----------
    text : contents [text]
    file : name for messages [text]
    study : the ``study.toml`` beside it

    Raises
    ------
    DataError
        Anything wrong with the header, a row, or the rows of one curve taken together.
    """
    problems = Problems(file)
    rows = _rows(text, file, study, problems)
    problems.stop()
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.subject, row.region), []).append(row)
    _check_coverage(groups, file, study)
    agents = {
        name: _one([r for r in rows if r.subject == name], "agent", f"subject {name}", problems)
        for name in study.subjects
    }
    for name in study.subjects:
        _one([r for r in rows if r.subject == name], "nuclide", f"subject {name}", problems)
    curves = [_curve(subject, region, group, file, study, problems) for (subject, region), group in groups.items()]
    problems.stop()
    warnings = {name: _assumption(name, rows, study) for name in study.subjects}
    said = frozenset(row.region for row in rows if row.kind is not None)
    return LongTable(curves=tuple(curves), kinds_said=said, agents=agents, warnings=warnings)


def _rows(text: str, file: str, study: StudyFile, problems: Problems) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader)]
        body = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except StopIteration:
        raise DataError(f"{file}: the file is empty; its first line must name the columns") from None
    except csv.Error as error:
        raise DataError(f"{file} row {reader.line_num}: not readable as CSV: {error}") from None
    _check_header(header, file, study)
    if not body:
        raise DataError(f"{file}: there is a header but no row")
    rows = []
    for line, cells in body:
        if len(cells) != len(header):
            problems.row(line, f"found {len(cells)} cells, the header names {len(header)} columns")
            continue
        before = len(problems.found)
        row = RowReader(line, dict(zip(header, (c.strip() for c in cells), strict=True)), study, problems).row()
        if len(problems.found) == before:
            rows.append(row)
    return rows


def _check_header(header: list[str], file: str, study: StudyFile) -> None:
    for name in header:
        if name not in COLUMNS:
            raise DataError(
                f"{file} row 1: column {name!r} is not known{nearest(name, COLUMNS)} allowed: {', '.join(COLUMNS)}"
            )
        if header.count(name) > 1:
            raise DataError(f"{file} row 1: column {name!r} appears {header.count(name)} times")
    framed = "t_start" in header and "t_end" in header
    if framed == ("t" in header) or ("t_start" in header) != ("t_end" in header):
        found = [c for c in ("t", "t_start", "t_end") if c in header]
        raise DataError(f"{file} row 1: found time columns {found}; allowed: either t, or t_start and t_end")
    for name in ("subject", "region", "value"):
        if name not in header:
            raise DataError(f"{file} row 1: column {name!r} is missing; found: {', '.join(header)}")
    for name in _SAID:
        said = name in study.defaults or all(name in s.defaults for s in study.subjects.values())
        if name not in header and not said:
            what = "yes or no; pkmodel never assumes it" if name == "decay_corrected" else f"for every row of {file}"
            raise DataError(
                f"{file} row 1: {name!r} is not said: no column {name!r} and no {name} = ... in {study.file}; "
                f"give it ({what})"
            )
    for name, key in (("volume", study.volume_unit), ("mass", study.mass_unit), ("sd", study.sd_kind)):
        if name in header and key is None:
            wanted = {"sd": "sd_kind = 'sd' or 'sem'", "volume": "volume_unit = 'mL'", "mass": "mass_unit = 'g'"}[name]
            raise DataError(f"{file} row 1: column {name!r} needs {wanted} in {study.file}")


def _check_coverage(groups: Mapping[tuple[str, str], list[Row]], file: str, study: StudyFile) -> None:
    subjects = {subject for subject, _ in groups}
    regions = {region for _, region in groups}
    for name in study.subjects:
        if name not in subjects:
            raise DataError(f"{study.file}: subject {name!r} has no row in {file}{nearest(name, subjects)}")
    for name in study.regions:
        if name not in regions:
            raise DataError(f"{study.file}: region {name!r} has no row in {file}{nearest(name, regions)}")


def _one(rows: Sequence[Row], attribute: str, who: str, problems: Problems) -> str:
    """The single value an attribute must have over some rows."""
    first = rows[0]
    wanted = getattr(first, attribute)
    for row in rows:
        found = getattr(row, attribute)
        same = found == wanted or (attribute == "nuclide" and nuclide(found).name == nuclide(wanted).name)
        if not same:
            problems.row(
                [first.line, row.line],
                f"{who}: {attribute} is {wanted!r}, then {found!r}; allowed: one {attribute} per {who.split()[0]}",
            )
            break
    return str(wanted)


def _curve(subject: str, region: str, rows: list[Row], file: str, study: StudyFile, problems: Problems) -> Curve:
    who = f"region {region} of subject {subject}"
    info = study.regions.get(region, Region(name=region))
    rows = sorted(rows, key=lambda row: (row.t_start, row.t_end))
    unit = _one(rows, "unit", who, problems)
    flag = _one(rows, "flag", who, problems)
    for before, after in pairwise(rows):
        tolerance = 1e-9 * (1 + abs(after.t_start))
        same_start = abs(after.t_start - before.t_start) <= tolerance
        if same_start and abs(after.t_end - before.t_end) <= tolerance:
            lines = sorted((before.line, after.line))
            problems.row(
                lines, f"{who} is given twice at {before.t_start:.6g} h; allowed: one row per subject, region and time"
            )
        elif before.t_end > after.t_start + tolerance:
            problems.row(
                [before.line, after.line],
                f"{who}: frame {before.t_start:.6g} to {before.t_end:.6g} h overlaps the next, which starts at "
                f"{after.t_start:.6g} h; allowed: each frame ends before the next starts",
            )
    kinds = {row.kind for row in rows if row.kind is not None} | ({info.kind} if info.kind else set())
    if len(kinds) > 1:
        problems.row([row.line for row in rows[:2]], f"{who}: kind is {' and '.join(sorted(kinds))}; allowed: one")
    masses = {row.mass for row in rows if math.isfinite(row.mass)} | ({info.mass} if info.mass is not None else set())
    if len(masses) > 1:
        problems.row([row.line for row in rows[:2]], f"{who}: mass is {sorted(masses)} g; allowed: one mass per region")
    person = study.subjects[subject]
    return Curve(
        subject=subject,
        region=region,
        kind=next(iter(kinds), "tissue"),
        t_start=np.array([row.t_start for row in rows]),
        t_end=np.array([row.t_end for row in rows]),
        value=np.array([row.value for row in rows]),
        sd=np.array([row.sd for row in rows]),
        weights=np.array([row.weight for row in rows]),
        n=np.array([row.n for row in rows]),
        unit=unit,
        decay_corrected=flag.endswith("yes"),
        nuclide=nuclide(rows[0].nuclide).name,
        volume=np.array([row.volume for row in rows]),
        censored=np.array([row.censored for row in rows], dtype=np.int8),
        mass=next(iter(masses), None),
        injected_activity=person.injected_activity,
        body_mass=person.body_mass,
        sd_kind=study.sd_kind if any(math.isfinite(row.sd) for row in rows) else None,
        organ=info.organ,
        part_of=info.part_of,
        note=info.note,
        rows=tuple(row.line for row in rows),
        source=file,
    )


def _assumption(subject: str, rows: Sequence[Row], study: StudyFile) -> tuple[str, ...]:
    flags = sorted({row.flag for row in rows if row.subject == subject and row.flag.startswith("assumed")})
    reason = " ".join(study.decay_reason.split())
    return tuple(f"decay correction is {flag} (the source does not say): {reason}" for flag in flags)
