"""Choose n of C candidate scans: all combinations where that can be afforded, else exchange; then to the minute.

Exchange: Fedorov 1972, Theory of Optimal Experiments; coordinate exchange, Meyer & Nachtsheim 1995,
doi:10.1080/00401706.1995.10485889. Every start ends where no replacement of one scan by another helps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SimulationError

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Objective = Callable[[Indices], Array]  # (sets, scans) -> (sets,), the smaller the better; inf where it is no design
LIMIT = 1_000_000  # combinations times patients that are tried one by one: a second or two
_CHUNK = 4096
_STARTS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Scans that can be chosen, in the order in which they begin.

    Parameters
    ----------
    start, hours : (C,) arrays, beginning and length [h]
    gap : least time from the end of one to the beginning of the next [h]
    windows : (n, C) array, which candidate can be the first, second, ... scan; None: any
    budget : all frames together at most [h]
    """

    start: Array
    hours: Array
    gap: float
    windows: NDArray[np.bool_] | None
    budget: float

    @property
    def follows(self) -> NDArray[np.bool_]:
        """Whether candidate j can come after candidate i, (C, C)."""
        free = self.start[None, :] - (self.start + self.hours)[:, None] >= self.gap - 1e-9
        return np.asarray(free & (self.start[None, :] > self.start[:, None]))

    def allowed(self, sets: Indices) -> NDArray[np.bool_]:
        """Which of these sets, (B, n), each in the order of time, can be done."""
        follows = self.follows
        good = np.ones(len(sets), dtype=bool)
        for k in range(1, sets.shape[1]):
            good &= follows[sets[:, k - 1], sets[:, k]]
        if self.windows is not None:
            for k in range(sets.shape[1]):
                good &= self.windows[k, sets[:, k]]
        return np.asarray(good & (self.hours[sets].sum(axis=1) <= self.budget + 1e-9))

    def count(self, scans: int) -> float:
        """Number of sets that keep gaps and windows (the budget left out)."""
        ways = self._at(0).astype(float)
        follows = self.follows.astype(float)
        for k in range(1, scans):
            ways = (ways @ follows) * self._at(k)
        return float(ways.sum())

    def _at(self, k: int) -> NDArray[np.bool_]:
        return np.ones(self.start.size, dtype=bool) if self.windows is None else self.windows[k]

    def every(self, scans: int) -> Iterator[Indices]:
        """All sets that can be done, in chunks (B, n)."""
        follows = self.follows
        stack: list[Indices] = [np.flatnonzero(self._at(0))[::-1, None].astype(np.int64)]
        while stack:
            part = stack.pop()
            if len(part) > _CHUNK:
                stack += [part[_CHUNK:], part[:_CHUNK]]
                continue
            width = part.shape[1]
            if width == scans:
                kept = part[self.hours[part].sum(axis=1) <= self.budget + 1e-9]
                if len(kept):
                    yield kept
                continue
            which, following = np.nonzero(follows[part[:, -1]] & self._at(width)[None, :])
            if len(which):
                stack.append(np.column_stack([part[which], following]).astype(np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The best set, its value, how it was found, and how many sets were tried."""

    indices: Indices
    value: float
    method: str
    tried: int


def choose(
    objective: Objective, candidates: Candidates, scans: int, *, method: str = "auto", patients: int = 1, seed: int = 0
) -> Found:
    """The best set of scans.

    Parameters
    ----------
    objective : value of sets, (B, n) -> (B,)
    candidates : what can be chosen
    scans : number of scans [1]
    method : "exact" (all combinations), "exchange", or "auto": exact up to a million combinations times patients [text]
    patients : how much one value costs [1]
    seed : of the starts of the exchange [1]

    Raises
    ------
    SimulationError
        No set keeps gaps, windows and budget.
    """
    count = candidates.count(scans)
    if count < 1:
        raise SimulationError(
            f"no {scans} scans keep the gap of {candidates.gap:g} h and the windows among {candidates.start.size} "
            "candidates; widen the windows or the hours, or ask for fewer scans"
        )
    if method == "exact" or (method == "auto" and count * patients <= LIMIT):
        found = _exact(objective, candidates, scans)
    else:
        found = _exchange(objective, candidates, scans, seed)
    if found is None:
        raise SimulationError(
            f"no {scans} scans keep the budget of {60 * candidates.budget:g} min; allow shorter frames or fewer scans"
        )
    return found


def _exact(objective: Objective, candidates: Candidates, scans: int) -> Found | None:
    best: Found | None = None
    tried = 0
    for sets in candidates.every(scans):
        values = objective(sets)
        tried += len(sets)
        k = int(np.argmin(values))
        if best is None or values[k] < best.value:
            best = Found(sets[k], float(values[k]), "all combinations", tried)
    return None if best is None else Found(best.indices, best.value, best.method, tried)


def _exchange(objective: Objective, candidates: Candidates, scans: int, seed: int) -> Found | None:
    rng = np.random.default_rng(seed)
    best: Found | None = None
    tried = 0
    for _ in range(_STARTS):
        current = _random(candidates, scans, rng)
        if current is None:
            continue
        value = float(objective(current[None, :])[0])
        while True:
            near = _neighbours(candidates, current)
            values = objective(near)
            tried += len(near)
            k = int(np.argmin(values))
            if not values[k] < value - 1e-12 * abs(value):
                break
            current, value = near[k], float(values[k])
        if best is None or value < best.value:
            best = Found(current, value, "exchange", tried)
    return None if best is None else Found(best.indices, best.value, best.method, tried)


def _random(candidates: Candidates, scans: int, rng: np.random.Generator) -> Indices | None:
    """One random set that can be done; the shortest frames are taken where the budget is tight; None: none found."""
    shortest = candidates.hours <= candidates.hours.min() + 1e-12
    for usable in [np.ones(shortest.size, dtype=bool)] * 20 + [shortest] * 20:
        follows = candidates.follows & usable[None, :]
        ways = [(candidates._at(scans - 1) & usable).astype(float)]  # in how many ways a set goes on from each
        for k in range(scans - 2, -1, -1):
            ways.append((follows @ ways[-1]) * (candidates._at(k) & usable))
        ways.reverse()
        weights, out = ways[0], [0] * scans
        if not weights.sum() > 0:
            continue
        for k in range(scans):
            out[k] = int(rng.choice(weights.size, p=weights / weights.sum()))
            weights = ways[k + 1] * follows[out[k]] if k + 1 < scans else weights
        chosen = np.array(out)
        if candidates.hours[chosen].sum() <= candidates.budget + 1e-9:
            return chosen
    return None


def _neighbours(candidates: Candidates, current: Indices) -> Indices:
    """Every set that differs in one scan, or in the lengths of two frames, and can be done; with the current one."""
    size, scans = candidates.start.size, current.size
    near = np.repeat(current[None, :], size * scans, axis=0)
    near[np.arange(size * scans), np.repeat(np.arange(scans), size)] = np.tile(np.arange(size), scans)
    tables = [near]
    lengths = [np.flatnonzero(candidates.start == candidates.start[c]) for c in current]
    for i in range(scans):
        for j in range(i + 1, scans):
            if lengths[i].size > 1 or lengths[j].size > 1:  # one frame longer, another shorter
                pairs = np.array(np.meshgrid(lengths[i], lengths[j])).reshape(2, -1)
                both = np.repeat(current[None, :], pairs.shape[1], axis=0)
                both[:, i], both[:, j] = pairs
                tables.append(both)
    near = np.concatenate(tables)
    order = np.argsort(candidates.start[near], axis=1, kind="stable")
    near = np.unique(np.take_along_axis(near, order, axis=1), axis=0)
    good = near[candidates.allowed(near)]
    return good if len(good) else current[None, :]


def polish(
    value_at: Callable[[Array], float], times: Array, bounds: list[tuple[float, float]], hours: Array, gap: float
) -> tuple[Array, float]:
    """Move the scans one by one within their bounds until none gains.

    Parameters
    ----------
    value_at : value of beginnings, (n,) -> number
    times : (n,) array, where to start from [h]
    bounds : of each scan [h]
    hours : (n,) array, length of each frame [h]
    gap : least time from the end of one to the beginning of the next [h]

    Returns
    -------
    tuple
        (n,) array of beginnings [h], and the value there, never above that of the start.
    """
    from scipy.optimize import minimize_scalar

    now, best = times.copy(), value_at(times)
    for _ in range(30):
        moved = 0.0
        for k, (low, high) in enumerate(bounds):
            a = max(low, now[k - 1] + hours[k - 1] + gap) if k else low
            b = min(high, now[k + 1] - hours[k] - gap) if k + 1 < now.size else high
            if b - a < 1e-6:
                continue

            def along(t: float, k: int = k) -> float:
                trial = now.copy()
                trial[k] = t
                return value_at(trial)

            found = minimize_scalar(along, bounds=(a, b), method="bounded", options={"xatol": 1e-3})
            if found.fun < best - 1e-10 * abs(best):
                moved = max(moved, abs(float(found.x) - now[k]))
                now[k], best = float(found.x), float(found.fun)
        if moved < 1e-2:
            break
    return now, best
