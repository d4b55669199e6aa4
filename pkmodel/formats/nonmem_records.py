"""Cells of a NONMEM file to numbers, row by row and subject by subject: every row is checked, every mistake noted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .long_row import Problems
from .nonmem_events import Event
from .nonmem_table import DATES, Line, Table, day, hours, number


@dataclass(frozen=True, slots=True)
class Record:
    """One row: what happens, and what a sample is."""

    line: int
    subject: str
    event: Event
    value: float  # DV, NaN where missing
    missing: bool  # MDV
    censored: int  # CENS: 1 below, -1 above
    below_flag: bool  # BLQ
    lloq: float
    seen: int | None  # DVID, or CMT where there is none
    occasion: str
    covariates: Mapping[str, float]
    note: str = ""


def records(
    table: Table, problems: Problems, scale: Mapping[str, Any], covariates: Sequence[str], occasion: str
) -> dict[str, list[Record]]:
    """Rows of each subject in time, in the order of the file; what is wrong goes into `problems`.

    Parameters
    ----------
    table : the file cut into cells
    problems : takes what is wrong
    scale : factors of TIME and AMT to canonical units, and the unit of a dose
    covariates : columns to read as numbers
    occasion : column that numbers occasions, or ""
    """
    people: dict[str, list[Record]] = {}
    blocks: dict[str, int] = {}
    spoiled = {c: _not_numbers(table, c) for c in covariates}
    for name, lines in spoiled.items():
        if lines:
            first = lines[0]
            more = f" and in {len(lines) - 1} more rows" if len(lines) > 1 else ""
            problems.row(
                first.number, f"column {name} holds {first.cells[name]!r}{more}; a covariate must be a number: code "
                f"it, or drop=({name!r},)"
            )  # fmt: skip
    clocks = any(":" in line.cells.get("TIME", "") for line in table.lines)
    date = next((c for c in DATES if c in table.columns), "")
    usable = [c for c in covariates if not spoiled[c]]
    last = ""
    for line in table.lines:
        subject = _subject(line.cells["ID"])
        if not subject:
            problems.row(line.number, "ID is missing")
            continue
        if subject != last and subject in blocks:
            problems.row(
                (blocks[subject], line.number),
                f"ID {subject} has two blocks with another ID between; NONMEM takes them for two people: bring the "
                "rows together or give a new ID",
            )
        last = subject
        blocks[subject] = line.number
        record = _record(line, subject, problems, scale, usable, occasion, clocks, date)
        if record is not None:
            people.setdefault(subject, []).append(record)
    return {
        subject: _in_time(rows, problems, from_first=clocks or bool(date)) for subject, rows in people.items() if rows
    }


def _subject(text: str) -> str:
    """An ID as text: 1, 1.0 and 1.00E+00 are one."""
    try:
        value = number(text)
    except ValueError:
        return text
    return "" if math.isnan(value) else f"{value:.15g}"


def _not_numbers(table: Table, name: str) -> list[Line]:
    bad = []
    for line in table.lines:
        try:
            number(line.cells[name])
        except ValueError:
            bad.append(line)
    return bad


def _record(
    line: Line,
    subject: str,
    problems: Problems,
    scale: Mapping[str, Any],
    covariates: Sequence[str],
    occasion: str,
    clocks: bool,
    date: str,
) -> Record | None:
    """One row; None where it has no time or its event is unknown."""
    cells = line.cells

    def read(name: str, allowed: str) -> float:
        text = cells.get(name, "")
        try:
            return number(text)
        except ValueError:
            problems.row(line.number, f"{name} is {text!r}; allowed: {allowed}")
            return math.nan

    def whole(name: str, allowed: Sequence[int] | None = None) -> int | None:
        value = read(name, "a whole number")
        if math.isnan(value):
            return None
        if value != int(value) or (allowed is not None and int(value) not in allowed):
            those = ", ".join(map(str, allowed)) if allowed is not None else "a whole number"
            problems.row(line.number, f"{name} is {cells[name]}; allowed: {those}")
            return None
        return int(value)

    before = len(problems.found)
    time = _time(line, problems, scale["TIME"], clocks, date)
    amount, rate, interval = (read(n, "a number") for n in ("AMT", "RATE", "II"))
    for name, x in (("AMT", amount), ("II", interval)):
        if x < 0:
            problems.row(line.number, f"{name} is {cells[name]}; allowed: zero or above")
    if rate < 0 and rate not in (-1, -2):
        also = "-1 (the rate is a parameter), -2 (the duration is a parameter)"
        problems.row(line.number, f"RATE is {cells['RATE']}; allowed: zero or above, {also}")
    evid = _evid(line, problems, amount, whole)
    compartment = whole("CMT") or None
    if compartment is not None and compartment < 0:
        problems.row(line.number, f"CMT is {compartment}: compartments cannot be turned off here; allowed: above 0")
    mdv = whole("MDV", (0, 1))
    value = read("DV", "a number, or '.' where there is none") if evid == 0 else math.nan
    flags = [whole(n, those) for n, those in (("CENS", (-1, 0, 1)), ("BLQ", (0, 1)))]
    seen = whole("DVID") if "DVID" in cells else compartment
    if evid == 0 and not math.isnan(read("LIMIT", "a number")) and read("LIMIT", "") > 0 and flags[0] == 1:
        problems.row(
            line.number, f"LIMIT is {cells['LIMIT']}: an interval; allowed: 0 or '.', CENS alone says the limit"
        )
    if evid == 0 and mdv is None and rate and not math.isnan(rate):
        problems.row(line.number, f"RATE is {rate:g} in a row without a dose; allowed: 0, or AMT above 0")
    limit = read("LLOQ", "a number")
    values = {c: read(c, "a number") for c in covariates}
    visit = _subject(cells[occasion]) if occasion else ""
    if occasion and not visit:
        problems.row(line.number, f"{occasion} is missing; allowed: the number of the occasion")
    if time is None or evid is None:
        return None
    unit = scale["AMT"]
    event = Event(
        time=time,
        evid=evid,
        amount=amount * unit,
        rate=rate if rate < 0 else rate * (unit / scale["TIME"]),
        interval=interval * scale["TIME"],
        additional=read("ADDL", "a whole number"),
        steady=read("SS", "0, 1, 2"),
        compartment=compartment,
        unit=scale["dose"],
    )
    if len(problems.found) > before:  # said once: what is left of the row must not be found wrong again
        dose = 1.0 if evid in (1, 4) else 0.0
        event = replace(event, amount=dose, rate=0.0, steady=0.0, additional=0.0, interval=0.0)
        value = 0.0 if math.isnan(value) else value
    return Record(
        line.number, subject, event, value, mdv == 1, flags[0] or 0, flags[1] == 1, limit, seen, visit, values
    )  # fmt: skip


def _evid(line: Line, problems: Problems, amount: float, whole: Any) -> int | None:
    """What a record is; without EVID, a dose where AMT is not zero, else a sample."""
    text = line.cells.get("EVID", "")
    if text in ("", "."):
        if "EVID" in line.cells:
            problems.row(line.number, "EVID is missing; allowed: 0, 1, 2, 3, 4")
            return None
        return 1 if amount and not math.isnan(amount) else 0
    found: int | None = whole("EVID")
    if found is None or 0 <= found <= 4:
        return found
    hint = "; this is RxODE's code, in NONMEM it is 1 and CMT says where" if found >= 100 else ""
    problems.row(line.number, f"EVID is {found}; allowed: 0, 1, 2, 3, 4{hint}")
    return None


def _time(line: Line, problems: Problems, scale: float, clocks: bool, date: str) -> float | None:
    """Time of a row [h], with its date where there is one."""
    text = line.cells.get("TIME", "0" if date else "")
    try:
        time = hours(text) if ":" in text else number(text) * (1.0 if clocks else scale)
    except ValueError:
        problems.row(line.number, f"TIME is {text!r}; allowed: a number, or a clock time such as 13:30")
        return None
    if math.isnan(time):
        problems.row(line.number, "TIME is missing; every record needs one")
        return None
    if not date:
        return time
    said = line.cells[date]
    try:
        return time + 24.0 * day(said, DATES[date])
    except ValueError:
        order = "/".join(DATES[date])
        problems.row(line.number, f"{date} is {said!r}; allowed: {order} such as 10/21/24 for mdy, or a day number")
        return None


def _in_time(rows: list[Record], problems: Problems, *, from_first: bool) -> list[Record]:
    """Times counted from where they should be; a subject's time never goes back but at a reset."""
    first = rows[0].event.time
    start = first if from_first or first < 0 else 0.0
    note = f"times are counted from the first record, at {first:g} h" if first < 0 and not from_first else ""
    offset, last = -start, -math.inf
    out: list[Record] = []
    for r in rows:
        time = r.event.time + offset
        said = note
        if time < last:
            if r.event.evid in (3, 4):
                offset += last - time
                time = last
                said = "time goes back at a reset: counted on from the record before it"
            else:
                problems.row(
                    r.line, f"TIME goes back, from {last + start:g} to {r.event.time:g} h; allowed: not below the row "
                    "above of the same ID, unless EVID is 3 or 4"
                )  # fmt: skip
                continue
        if time < 0:
            problems.row(r.line, f"TIME is {r.event.time:g} h, below zero after a record at zero")
            continue
        last = time
        out.append(replace(r, event=replace(r.event, time=time), note=said))
    return out or rows
