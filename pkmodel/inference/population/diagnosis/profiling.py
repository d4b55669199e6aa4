"""Likelihood profiles of population parameters: one is moved, the rest minimised again.

The interval ends where -2 log L has risen by the quantile of chi-squared with one degree of freedom (3.84 for 95 %); it
need not be symmetric (Venzon & Moolgavkar 1988, doi:10.2307/2347496). The objective is that of the fit's own
approximation; a fit by SAEM, by importance sampling or by draws is profiled with FOCE-I.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from ....errors import FitError, did_you_mean
from ....progress import progress
from ....units import factor
from ..crowd import Crowd
from ..layout import Layout
from ..linearised import APPROXIMATIONS, Approximation, Objective, objective
from ..minimise import minimise
from .shown import markup, text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ..result import PopulationFit

Array = NDArray[np.float64]
CLOSE = 0.005  # how near the wanted rise an end is searched
POINTS = 14  # most on one side
ITERATIONS = 60  # of one minimisation of the rest
NEAR = 1e-6  # expected change of the objective at which that ends
LONGEST = 1.0  # of one step, on the scale of the fit
NOTHING = 1e-4  # SD of a random effect that is as good as none
BETTER = 0.02  # fall below the minimum from which the profile begins anew there


@dataclass(frozen=True, eq=False)
class Target:
    """A parameter to be moved: where it lies, and what number people read of it.

    Parameters
    ----------
    name, unit : [text]
    index : in phi
    row : entries of phi beside it whose squares its variance contains (a correlated random effect)
    read : from the scale of the profile to the reported value
    lowest : where a walk down ends, on the scale of the profile
    """

    name: str
    unit: str
    index: int
    row: NDArray[np.intp]
    read: Callable[[float], float]
    lowest: float = -math.inf

    def now(self, phi: Array) -> float:
        """Where it is."""
        if not self.row.size:
            return float(phi[self.index])
        return 0.5 * math.log(math.exp(2 * phi[self.index]) + float((phi[self.row] ** 2).sum()))

    def place(self, phi: Array, u: float) -> Array:
        """phi with it moved to u; nan where that is impossible."""
        out = phi.copy()
        left = math.exp(2 * u) - float((phi[self.row] ** 2).sum()) if self.row.size else 1.0
        out[self.index] = u if not self.row.size else 0.5 * math.log(left) if left > 0 else math.nan
        return out

    def slope(self, phi: Array, slope: Array) -> Array:
        """Derivative by the rest, with it held: what a correlated effect takes is given back by its own part."""
        out = slope.copy()
        out[self.row] -= slope[self.index] * phi[self.row] * math.exp(-2 * phi[self.index])
        return out


@dataclass(frozen=True, eq=False)
class PopulationProfile:
    """Profile of one parameter.

    Parameters
    ----------
    name, unit : [text]
    estimate : value at the minimum
    low, high : ends of the interval; the end of the parameter's range where the data never object
    normal : interval from the standard error, back-transformed; nan where there is none
    points : one row per point: value and rise of -2 log L
    level : of the intervals [%]
    limit : rise at the ends
    objective : at the minimum, as NONMEM prints it
    phi : parameters there, on the scale of the fit
    notes : what a reader should know [text]
    """

    name: str
    unit: str
    estimate: float
    low: float
    high: float
    normal: tuple[float, float]
    points: pd.DataFrame
    level: float
    limit: float
    objective: float
    phi: Array
    notes: tuple[str, ...]

    def plot(self) -> Figure:
        """Rise over value, with the interval and that of the standard error."""
        from ....plot_population import profile_figure

        return profile_figure(self)

    def _title(self) -> list[str]:
        unit = f" {self.unit}" if self.unit not in ("", "1") else ""
        low, high = self.normal
        return [
            f"{self.name} {self.estimate:.5g}{unit}, {self.level:g} % interval by likelihood profile {self.low:.5g} to "
            f"{self.high:.5g}, by standard error {low:.5g} to {high:.5g}"
        ]

    def __str__(self) -> str:
        return text(self._title(), [self.points], self.notes)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return markup(self._title(), [self.points], self.notes)


def profile(fit: PopulationFit, name: str, *, level: float = 95.0) -> PopulationProfile:
    """Likelihood profile of one population parameter.

    Parameters
    ----------
    fit : of a population
    name : typical value ("CL"), covariate effect ("weight on CL"), variance ("omega CL", "occasion CL") or noise
        ("additive"), as in the tables of the fit [text]
    level : of the interval [%]

    Returns
    -------
    PopulationProfile
        Where the profile meets a lower minimum than the fit's, it begins anew there and says so; when interrupted, it
        holds the points so far.
    """
    if not 0 < level < 100:
        raise FitError(f"level {level} must lie between 0 and 100 %")
    crowd, target = fit.crowd, _target(fit.crowd.layout, name)
    kind: Approximation = fit.method if fit.method in APPROXIMATIONS else "focei"
    notes = [] if kind == fit.method else [f"the fit is by {fit.method}; the profile is that of its FOCE-I objective"]
    limit, quantile = float(chi2.ppf(level / 100, 1)), float(norm.ppf(0.5 + level / 200))
    minimum = minimise(crowd, fit.phi, kind=kind, modes=fit.minimum.at.b)
    phi, at = minimum.phi, minimum.at
    se = float(fit.standard_errors[target.index]) if not target.row.size else math.nan
    size = se if math.isfinite(se) and 0 < se < 3 else 0.2
    walk = _Walk(crowd, target, kind, phi, at, _inverse(fit, at, target))
    ends, stopped = (math.nan, math.nan), False
    try:
        with progress(f"profile of {name}: points (about)", POINTS) as done:
            for _ in range(4):
                try:
                    ends = (walk.end(-1, size * quantile, limit, done), walk.end(+1, size * quantile, limit, done))
                    break
                except _LowerMinimum as better:
                    notes.append(
                        f"an objective lower by {walk.at.value - better.at.value:.3g} was met; begun anew there"
                    )
                    lowest = minimise(crowd, better.phi, kind=kind, modes=better.at.b)
                    walk = _Walk(crowd, target, kind, lowest.phi, lowest.at, walk.inverse)
            else:
                notes.append("lower minima are found again and again; fit anew from other starts before profiling")
    except KeyboardInterrupt:
        stopped = True
    if stopped:
        notes.append("interrupted; the points so far are kept")
    for side, end in zip(("below", "above"), ends, strict=True):
        if math.isinf(end):
            notes.append(f"the data set no limit {side}")
    u = target.now(walk.phi)
    normal = tuple(target.read(u + s * quantile * se) if math.isfinite(se) else math.nan for s in (-1, 1))
    return PopulationProfile(
        name, target.unit, target.read(u), target.read(ends[0]), target.read(ends[1]), (normal[0], normal[1]),
        walk.table(), level, limit, walk.at.value, walk.phi, tuple(notes),
    )  # fmt: skip


class _LowerMinimum(Exception):
    """News, not an error."""

    def __init__(self, phi: Array, at: Objective) -> None:
        self.phi, self.at = phi, at


@dataclass
class _Walk:
    """A walk along one parameter; keeps every point, and the curvature it has learned."""

    crowd: Crowd
    target: Target
    kind: Approximation
    phi: Array
    at: Objective
    inverse: Array

    def __post_init__(self) -> None:
        self.seen: dict[float, float] = {self.target.now(self.phi): 0.0}

    def table(self) -> pd.DataFrame:
        """All points, in order."""
        import pandas as pd

        rows = [{"value": self.target.read(u), "rise": r} for u, r in sorted(self.seen.items()) if math.isfinite(r)]
        return pd.DataFrame(rows)

    def end(self, side: int, first: float, limit: float, done: Callable[[int], None]) -> float:
        """Where the rise reaches the limit; infinite where it does not."""
        centre, wanted = self.target.now(self.phi), math.sqrt(limit)
        phi, modes = self.phi, self.at.b
        inner, outer = (0.0, 0.0), (math.inf, math.inf)  # distance and root of the rise
        distance = first
        for _ in range(POINTS):
            u = max(centre + side * distance, self.target.lowest)
            new_phi, new = self._rest(u, phi, modes)
            rise = new.value - self.at.value
            self.seen[u] = rise
            done(1)
            if rise < -BETTER:
                raise _LowerMinimum(new_phi, new)
            if abs(rise - limit) < CLOSE:
                self._between(side, distance, done)
                return u
            root = math.sqrt(max(rise, 0.0))
            if rise < limit and u == self.target.lowest:
                return side * math.inf
            if rise < limit:
                inner, phi, modes = (distance, root), new_phi, new.b
                if math.isinf(outer[0]):
                    distance *= min(max(1.02 * wanted / max(root, 1e-3), 1.1), 2.5)
                    continue
            else:
                outer = distance, root
            share = (wanted - inner[1]) / (outer[1] - inner[1]) if math.isfinite(outer[1]) else 0.5
            distance = inner[0] + min(max(share, 0.03), 0.97) * (outer[0] - inner[0])
        if math.isinf(outer[0]):
            return side * math.inf
        return centre + side * distance

    def _between(self, side: int, distance: float, done: Callable[[int], None]) -> None:
        """One point half way to the end, for the shape, and to meet a lower minimum that hides there."""
        centre = self.target.now(self.phi)
        if any(0.2 < side * (u - centre) / distance < 0.8 for u in self.seen):
            return
        u = centre + 0.5 * side * distance
        phi, new = self._rest(u, self.phi, self.at.b)
        self.seen[u] = new.value - self.at.value
        done(1)
        if self.seen[u] < -BETTER:
            raise _LowerMinimum(phi, new)

    def _rest(self, u: float, phi: Array, modes: Array) -> tuple[Array, Objective]:
        """Minimum over the rest: BFGS, with the best so far kept."""
        others = np.delete(np.arange(phi.size), self.target.index)
        phi = self.target.place(phi, u)
        at = self._at(phi, modes)
        if not math.isfinite(at.value):
            return phi, at
        inverse = self.inverse
        for _ in range(ITERATIONS):
            slope = self.target.slope(phi, at.gradient.sum(axis=0))[others]
            step = -inverse @ slope
            fall = float(slope @ step)
            if fall > -2 * NEAR:
                break
            step *= min(1.0, LONGEST / float(np.abs(step).max()))
            fall, length, moved = float(slope @ step), 1.0, None
            while length > 1e-6:
                trial = phi.copy()
                trial[others] += length * step
                trial = self.target.place(trial, u)
                new = self._at(trial, at.b)
                if new.value <= at.value + 1e-4 * length * fall:
                    moved = length * step
                    break
                length *= 0.3
            if moved is None:
                break
            turned = self.target.slope(trial, new.gradient.sum(axis=0))[others] - slope
            phi, at = trial, new
            bend = float(moved @ turned)
            if bend > 1e-12:
                left = np.eye(len(moved)) - np.outer(moved, turned) / bend
                inverse = left @ inverse @ left.T + np.outer(moved, moved) / bend
        self.inverse = inverse
        return phi, at

    def _at(self, phi: Array, modes: Array) -> Objective:
        if not np.isfinite(phi).all():
            return _nowhere(phi, modes)
        try:
            return objective(self.crowd, phi, modes, kind=self.kind)
        except np.linalg.LinAlgError:  # a variance among the rest went to zero
            return _nowhere(phi, modes)


def _nowhere(phi: Array, modes: Array) -> Objective:
    """An objective that no search goes to."""
    return Objective(np.array([np.inf]), np.zeros((1, phi.size)), modes, np.zeros((0, 0, 0)), np.zeros(1, bool))


def _inverse(fit: PopulationFit, at: Objective, target: Target) -> Array:
    """Inverse curvature of the rest at the minimum, from R where the fit has it, else from the subjects' slopes."""
    others = np.delete(np.arange(fit.phi.size), target.index)
    found = fit.information
    if found is not None and found.definite and fit.method in APPROXIMATIONS:
        return np.asarray(np.linalg.inv(2 * found.r[np.ix_(others, others)]))
    g = at.gradient[:, others]
    curvature = 0.5 * g.T @ g
    return np.asarray(np.linalg.inv(curvature + np.diag(1e-3 * np.diag(curvature) + 1e-6)))


def _target(layout: Layout, name: str) -> Target:
    names, none = layout.names, np.zeros(0, dtype=np.intp)
    variances = {n for n in names if n.startswith(("omega ", "occasion ")) and ", " in n}
    if name not in names or name in variances:
        allowed = [n for n in names if n not in variances]
        held = "; covariances cannot be profiled" if name in variances else ""
        raise FitError(
            f"no parameter {name!r} to profile{held}{did_you_mean(name, allowed)}; known: {', '.join(allowed)}"
        )
    k = names.index(name)
    part = next(n for n, at in layout.parts.items() if at.start <= k < at.stop)
    if part == "theta":
        slot = layout.slots[k]
        unit = factor(slot.unit)
        return Target(name, slot.unit, k, none, lambda u: _limit(slot.from_scale, u) / unit)
    if part == "coefficients":
        return Target(name, "", k, none, float)
    if part == "noise":
        size = layout.noise.sizes[layout.noise.free[k - layout.parts["noise"].start]]
        return Target(name, size.unit, k, none, lambda u: _limit(np.exp, u))
    first = layout.parts[part].start
    entries = (layout.between if part == "between" else layout.occasion).entries
    i = entries[k - first][0]
    row = np.array([first + n for n, (a, b) in enumerate(entries) if a == i and b != i], dtype=np.intp)
    return Target(name, "", k, row, lambda u: _limit(lambda x: np.exp(2 * x), u), math.log(NOTHING))


def _limit(read: Callable[[float], float], u: float) -> float:
    with np.errstate(over="ignore"):
        return float(read(u))
