"""One row of the long table: cells to numbers, and everything that can be wrong with a row on its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import DataError, NuclideError, UnitError
from ..nuclides import nuclide
from ..units import factor
from .curve import ABOVE, BELOW, KINDS, MEASURED, MISSING, UNITS_ALLOWED, measure_of
from .study_file import FLAGS, StudyFile, nearest

CENSORED = {"": MEASURED, "below": BELOW, "above": ABOVE, "missing": MISSING}
"""Words of the column ``censored``: the value is a limit it was below, or reached; or nothing was measured."""


class Problems:
    """Collects what is wrong with a file, so that a person mends it in one go."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[str] = []

    def row(self, line: int | Sequence[int], text: str) -> None:
        """Note a problem of one or several rows (line numbers of the file, the header is 1)."""
        where = f"row {line}" if isinstance(line, int) else "rows " + " and ".join(map(str, line))
        self.found.append(f"{self.file} {where}: {text}")

    def stop(self) -> None:
        """Raise DataError if anything was noted."""
        if not self.found:
            return
        shown = self.found[:12]
        more = f"\n  ... and {len(self.found) - len(shown)} more" if len(self.found) > len(shown) else ""
        if len(self.found) == 1:
            raise DataError(self.found[0])
        raise DataError(f"{self.file} has {len(self.found)} problems:\n  " + "\n  ".join(shown) + more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row in canonical units: times [h], volume [mL], mass [g], value in `unit`; NaN where there is nothing."""

    line: int
    subject: str
    region: str
    t_start: float
    t_end: float
    value: float
    sd: float
    weight: float
    n: int
    unit: str
    flag: str
    nuclide: str
    agent: str
    kind: str | None
    volume: float
    mass: float
    censored: int = MEASURED


class RowReader:
    """Turns one row's cells into numbers and notes what is wrong."""

    def __init__(self, line: int, cells: dict[str, str], study: StudyFile, problems: Problems) -> None:
        self.line, self.cells, self.study, self.problems = line, cells, study, problems

    def row(self) -> Row:
        study, cells = self.study, self.cells
        subject = cells["subject"]
        if subject not in study.subjects:
            self.wrong(
                f"subject {subject!r} is not in {study.file}{nearest(subject, study.subjects)} "
                f"known: {', '.join(study.subjects)}"
            )
        if not cells["region"]:
            self.wrong("region is empty; allowed: a name")
        start, end = self.times(study.subjects[subject].injection if subject in study.subjects else 0.0)
        kind = cells.get("kind", "") or None
        if kind is not None and kind not in KINDS:
            self.wrong(f"kind {kind!r} is not known{nearest(kind, KINDS)} allowed: {', '.join(KINDS)}")
        censored = cells.get("censored", "")
        if censored not in CENSORED:
            self.wrong(f"censored {censored!r} is not known; allowed: below, above, missing, or nothing")
        if censored == "missing" and cells["value"]:
            self.wrong(f"value is {cells['value']} but censored says 'missing'; leave one of them empty")
        row = Row(
            line=self.line,
            subject=subject,
            region=cells["region"],
            t_start=start,
            t_end=end,
            value=math.nan if censored == "missing" else self.number("value", "a number, zero or above"),
            sd=self.number("sd", "a number above zero, or nothing", optional=True, above_zero=True),
            weight=self.number("weight", "a number, zero or above, or nothing", optional=True),
            n=self.count(self.said("n", subject)),
            unit=self.said("unit", subject),
            flag=self.said("decay_corrected", subject),
            nuclide=self.said("nuclide", subject),
            agent=self.said("agent", subject),
            kind=kind,
            volume=self.number("volume", "a number above zero, or nothing", optional=True, above_zero=True)
            * (factor(study.volume_unit) / factor("mL") if study.volume_unit else 1.0),
            mass=self.number("mass", "a number above zero, or nothing", optional=True, above_zero=True)
            * (factor(study.mass_unit) if study.mass_unit else 1.0),
            censored=CENSORED.get(censored, MEASURED),
        )
        self.check_physics(row)
        return row

    def wrong(self, text: str) -> None:
        self.problems.row(self.line, text)

    def number(self, column: str, allowed: str, *, optional: bool = False, above_zero: bool = False) -> float:
        text = self.cells.get(column, "")
        if not text:
            if not optional:
                self.wrong(f"{column} is missing; allowed: {allowed}; leave the row out where nothing was measured")
            return math.nan
        try:
            value = float(text)
        except ValueError:
            self.wrong(f"{column} {text!r} is not a number; allowed: {allowed}")
            return math.nan
        if not math.isfinite(value):
            self.wrong(f"{column} is {text!r}; allowed: {allowed}")
        elif value < 0 or (above_zero and value == 0):
            self.wrong(f"{column} is {text}; allowed: {allowed}")
        return value

    def times(self, injection: float) -> tuple[float, float]:
        hours = factor(self.study.time_unit)
        unit = self.study.time_unit
        found = []
        for column in ("t",) if "t" in self.cells else ("t_start", "t_end"):
            text = self.cells[column]
            try:
                value = float(text) * hours - injection
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                self.wrong(f"{column} is {text!r}; allowed: a finite number in {unit}")
            elif value < -1e-9:
                self.wrong(
                    f"{column} is {text} {unit}, which is {-value:.6g} h before injection; allowed: times from "
                    "injection on; if the clock did not start at injection, say injection = ... for the subject in "
                    f"{self.study.file}"
                )
            found.append(max(value, 0.0))
        if len(found) == 2 and found[1] <= found[0]:
            self.wrong(
                f"t_end {self.cells['t_end']} is not after t_start {self.cells['t_start']}; allowed: t_end > t_start "
                "(use a single column t for samples)"
            )
        return found[0], found[-1]

    def said(self, column: str, subject: str) -> str:
        """A value given in the row, for the subject, or for the study; the row may not contradict study.toml."""
        cell = self.cells.get(column, "")
        of_subject = self.study.subjects[subject].defaults if subject in self.study.subjects else {}
        general = of_subject.get(column, self.study.defaults.get(column, ""))
        if cell and general and cell != general:
            self.wrong(f"{column} is {cell!r} but {self.study.file} says {general!r}; say it once")
        if not cell and not general:
            allowed = ", ".join(FLAGS) if column == "decay_corrected" else "text"
            self.wrong(f"{column} is missing; allowed: {allowed}, here or once in {self.study.file}")
        return cell or general

    def count(self, text: str) -> int:
        try:
            value = float(text)
        except ValueError:
            value = math.nan if text else 1.0  # a missing n has been noted already
        if not (value >= 1 and value == int(value)):
            self.wrong(f"n is {text!r}; allowed: a whole number from 1 (animals or patients behind the value)")
            return 1
        return int(value)

    def check_physics(self, row: Row) -> None:
        if row.flag and row.flag not in FLAGS:
            self.wrong(
                f"decay_corrected is {row.flag!r}; allowed: {', '.join(FLAGS)} (the last two need "
                f"decay_corrected_reason in {self.study.file})"
            )
        if row.flag.startswith("assumed") and not self.study.decay_reason:
            self.wrong(f"decay_corrected is {row.flag!r}; that needs decay_corrected_reason = why in {self.study.file}")
        if row.nuclide:
            try:
                nuclide(row.nuclide)
            except NuclideError as error:
                self.wrong(f"nuclide {row.nuclide!r}: {error}")
        if not row.unit:
            return
        try:
            counts = measure_of(row.unit)[0]
        except UnitError:
            familiar = ("Bq", "kBq", "MBq", "GBq", "Bq/mL", "kBq/mL", "MBq/mL", "%IA", "%IA/g", "%ID/g", "SUV")
            self.wrong(f"unit {row.unit!r} is not known{nearest(row.unit, familiar)} allowed: {UNITS_ALLOWED}")
            return
        except DataError as error:
            self.wrong(str(error))
            return
        if (counts == "fraction") != (row.kind == "parent_fraction"):
            self.wrong(
                f"unit {row.unit!r} with kind {row.kind or 'tissue'!r}; a pure number is for parent_fraction only"
            )
        if counts == "suv" and row.flag.endswith("no"):
            self.wrong("unit SUV with decay_corrected 'no'; SUV is decay-corrected by definition; give Bq/mL instead")
