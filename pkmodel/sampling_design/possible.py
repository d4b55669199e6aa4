"""Which scans are possible: beginnings within hours, windows and gaps, each with each length."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SimulationError
from ..nuclides import nuclide
from .clinic import Clinic, within
from .reading import scan_times
from .search import Candidates
from .setting import Setting

Array = NDArray[np.float64]
_POINTS = 168  # candidates where nobody says which times are possible: every hour of a week


def latest(setting: Setting) -> float:
    """Default end of the time in which scans are done [h]."""
    lives = 5 * nuclide(setting.model.nuclide).half_life if setting.model.nuclide else math.inf
    return setting.last_dose + min(168.0, lives)


def candidates_of(
    setting: Setting,
    clinic: Clinic | None,
    times: ArrayLike | None,
    last: float | None,
    minutes: float | Sequence[float],
    gap: float,
    windows: Sequence[tuple[float, float]] | None,
    budget: float | None,
    fixed: Sequence[float],
) -> Candidates:
    """Every scan that is possible: each time with each length."""
    who = setting.model.who
    if clinic is not None and not isinstance(clinic, Clinic):
        raise SimulationError(f"{who}: clinic={clinic!r} is no Clinic; write clinic=Clinic({str(clinic)!r})")
    end = latest(setting) if last is None else float(last)
    lengths = sorted({float(m) for m in np.atleast_1d(np.asarray(minutes, dtype=float))})
    if not lengths or lengths[0] < 0 or not all(map(math.isfinite, lengths)):
        raise SimulationError(f"{who}: minutes = {minutes}; lengths of frames must be 0 or more")
    if not (gap >= 0 and end > 0 and (budget is None or budget > 0)):
        raise SimulationError(f"{who}: gap {gap} h, last {end:g} h, budget {budget} min: must not be negative")
    starts, hours = [], []
    for m in lengths:
        if times is not None:
            one = np.unique(np.asarray(times, dtype=float))
            if one.size and one[0] < 0:
                raise SimulationError(
                    f"{who}: a scan at {one[0]:g} h is before the injection; times are hours after it"
                )
            one = np.array([t for t in one if clinic is None or clinic.open_at(t, m)])
        elif clinic is not None:
            one = clinic.times(end, m)
        else:
            one = np.linspace(end / _POINTS, end, _POINTS)
            one = one[one + m / 60.0 <= end + 1e-9]
        starts.append(one)
        hours.append(np.full(one.size, m / 60.0))
    start, hour = np.concatenate(starts), np.concatenate(hours)
    if not start.size:
        raise SimulationError(f"{who}: the hours leave no time for a scan; widen them, or shorten the frames")
    order = np.lexsort((hour, start))
    start, hour = start[order], hour[order]
    if len(fixed):
        taken, length = scan_times(np.asarray(fixed), lengths[0] / 60.0, who)
        clear = (start[:, None] >= taken + length + gap - 1e-9) | (start[:, None] + hour[:, None] + gap <= taken + 1e-9)
        clear &= start[:, None] != taken
        start, hour = start[clear.all(axis=1)], hour[clear.all(axis=1)]
    table = None if windows is None else within(start, windows)
    return Candidates(start, hour, gap, table, math.inf if budget is None else budget / 60.0)


def with_fixed(candidates: Candidates, fixed: Sequence[float], hours: float) -> Candidates:
    more = np.sort(np.asarray(fixed, dtype=float))
    return Candidates(
        np.concatenate([candidates.start, more]), np.concatenate([candidates.hours, np.full(more.size, hours)]),
        candidates.gap, None, candidates.budget,
    )  # fmt: skip
