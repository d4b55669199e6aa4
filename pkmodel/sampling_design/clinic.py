"""When a scanner can be had: opening hours of a department, relative to the weekday and clock time of the injection."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SimulationError

Array = NDArray[np.float64]
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_AS_TEXT = {"injection": "Mon 10:00", "hours": "8-17", "days": "Mon-Fri"}
_CLOCK = re.compile(r"^(?P<day>[A-Za-z]{3})[a-z]*\s+(?P<hour>\d{1,2})(?::(?P<minute>\d{2}))?$")
_HOURS = re.compile(r"^(?P<a>\d{1,2}(?:\.\d+)?)\s*-\s*(?P<b>\d{1,2}(?:\.\d+)?)$")


@dataclass(frozen=True, slots=True)
class Clinic:
    """Opening hours.

    Parameters
    ----------
    injection : weekday and clock time of the first administration, ``"Mon 10:00"`` [text]
    hours : when scans may begin and must have ended, ``"8-17"`` [text]
    days : ``"Mon-Fri"``, or a list ``"Mon,Tue,Thu"`` [text]
    step : between the starts that are considered, on the clock [h]
    closed : days after the injection that are lost, 0 the day of the injection (public holidays) [d]
    """

    injection: str = "Mon 10:00"
    hours: str = "8-17"
    days: str = "Mon-Fri"
    step: float = 1.0
    closed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("injection", "hours", "days"):
            if not isinstance(getattr(self, name), str):
                raise SimulationError(f"clinic: {name} = {getattr(self, name)!r}; write text, as {_AS_TEXT[name]!r}")
        _ = self.start, self.opens, self.open_days
        if not 0 < self.step <= 24:
            raise SimulationError(f"clinic: step = {self.step:g} h; allowed: above 0 and at most 24")

    @property
    def start(self) -> float:
        """Hours from Monday 0:00 to the injection."""
        found = _CLOCK.match(self.injection.strip())
        day = found["day"].title() if found else ""
        if not found or day not in DAYS or int(found["hour"]) > 23 or int(found["minute"] or 0) > 59:
            raise SimulationError(f'clinic: injection {self.injection!r} cannot be read; write "Mon 10:00"')
        return 24.0 * DAYS.index(day) + int(found["hour"]) + int(found["minute"] or 0) / 60.0

    @property
    def opens(self) -> tuple[float, float]:
        """Clock times of opening and closing [h]."""
        found = _HOURS.match(self.hours.strip())
        if not found or not 0 <= float(found["a"]) < float(found["b"]) <= 24:
            raise SimulationError(f'clinic: hours {self.hours!r} cannot be read; write "8-17"')
        return float(found["a"]), float(found["b"])

    @property
    def open_days(self) -> tuple[int, ...]:
        """Weekdays on which it is open, Monday 0."""
        found: set[int] = set()
        for part in self.days.split(","):
            first, dash, last = (x.strip().title()[:3] for x in part.partition("-"))
            if first not in DAYS or (dash and last not in DAYS):
                raise SimulationError(f'clinic: days {self.days!r} cannot be read; write "Mon-Fri" or "Mon,Wed"')
            a, b = DAYS.index(first), DAYS.index(last) if dash else DAYS.index(first)
            found |= {d % 7 for d in range(a, b + 1 if b >= a else b + 8)}
        return tuple(sorted(found))

    def intervals(self, last: float) -> list[tuple[float, float]]:
        """When it is open, (from, to) after the injection, up to `last` [h]."""
        opens, closes = self.opens
        out = []
        for number in range(int(last // 24) + 2):
            if (int(self.start // 24) + number) % 7 not in self.open_days or number in self.closed:
                continue
            midnight = 24.0 * (self.start // 24 + number) - self.start
            a, b = max(midnight + opens, 0.0), min(midnight + closes, last)
            if b > a:
                out.append((a, b))
        return out

    def times(self, last: float, minutes: float = 0.0) -> Array:
        """Starts that can be considered, increasing, on the clock's grid; the scan ends before closing [h]."""
        opens, closes = self.opens
        found: list[float] = []
        for number in range(int(last // 24) + 2):
            if (int(self.start // 24) + number) % 7 not in self.open_days or number in self.closed:
                continue
            midnight = 24.0 * (self.start // 24 + number) - self.start
            clock = np.arange(opens, closes - minutes / 60.0 + 1e-9, self.step) + midnight
            found += [float(t) for t in clock if t > 1e-9 and t + minutes / 60.0 <= last + 1e-9]
        return np.array(found)

    def open_at(self, time: float, minutes: float = 0.0) -> bool:
        """Whether a scan that begins then can be done."""
        end = time + minutes / 60.0
        return any(a - 1e-9 <= time and end <= b + 1e-9 for a, b in self.intervals(end + 24.0))

    def when(self, time: float) -> str:
        """Weekday and clock time, ``"Thu 13:00"``; days beyond the first week are counted: ``"Thu 13:00 (day 10)"``."""
        clock = self.start + time
        minutes = round(60.0 * (clock % 24.0))
        day, minutes = int(clock // 24) + minutes // 1440, minutes % 1440
        after = day - int(self.start // 24)
        late = f" (day {after})" if after >= 7 else ""
        return f"{DAYS[day % 7]} {minutes // 60}:{minutes % 60:02d}{late}"


def within(times: Array, windows: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
    """Which times lie in which window, (windows, times).

    Raises
    ------
    SimulationError
        A window ends before it begins, or holds none of the times.
    """
    out = np.zeros((len(windows), times.size), dtype=bool)
    for k, (a, b) in enumerate(windows):
        if not b >= a:
            raise SimulationError(f"window {k + 1}: {a:g} to {b:g} h ends before it begins")
        out[k] = (times >= a - 1e-9) & (times <= b + 1e-9)
        if not out[k].any():
            near = f"; the nearest is {times[np.argmin(np.abs(times - (a + b) / 2))]:g} h" if times.size else ""
            raise SimulationError(
                f"window {k + 1}, {a:g} to {b:g} h, leaves nothing: no possible scan begins in it{near}; widen it, or "
                "the hours"
            )
    return out
