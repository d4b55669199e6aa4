"""Profile-likelihood intervals: how far a parameter can move before the rest can no longer make up for it.

The interval holds where the fit's own parabola does not: near bounds, with few points, for rates that the data
hardly see (Venzon & Moolgavkar 1988, doi:10.2307/2347496).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq, least_squares
from scipy.stats import chi2 as chi_square
from scipy.stats import f as fisher

from ..errors import FitError
from ..units import factor

if TYPE_CHECKING:
    from .likelihood import Likelihood
    from .result import Fit


def interval(fit: Fit, label: str, level: float = 0.95) -> tuple[float, float]:
    """Interval of one parameter at which the best fit of all others becomes significantly worse.

    Parameters
    ----------
    fit : result of `pkmodel.fit`
    label : e.g. ``"k_washout[liver]"`` [text]
    level : between 0 and 1 [1]

    Returns
    -------
    (low, high) : declared unit; a bound where the data never object (nan is never returned)

    Raises
    ------
    FitError
        The parameter was not fitted, the level is not between 0 and 1, or no freedom is left.
    """
    if not 0 < level < 1:
        raise FitError(f"level {level} must lie between 0 and 1")
    found = [(g, o, s) for g, o, s in zip(fit.groups, fit.optima, fit.scales, strict=True) if _at(g, label) >= 0]
    if not found:
        raise FitError(f"{label!r} was not fitted; fitted: {', '.join(s.label for s in fit.slots)}")
    group, optimum, scale = found[0]
    if not math.isfinite(scale):
        raise FitError("no degree of freedom is left to profile with")
    j = _at(group, label)
    known = fit.protocol.error.absolute
    limit = chi_square.ppf(level, 1) if known else fisher.ppf(level, 1, fit.freedom)
    rise = float(limit) * scale
    slot = group.slots[j]
    low, high = slot.box
    warm = np.delete(optimum.x, j)

    def excess(x: float, start: np.ndarray) -> tuple[float, np.ndarray]:
        cost, rest = _rest(group, j, x, start)
        return cost - optimum.chi2 - rise, rest

    ends = []
    for edge in (low, high):
        inner, rest = float(optimum.x[j]), warm
        step = math.copysign(max(0.25, 1e-3 * abs(inner)), edge - inner)
        outer = inner
        crossed = False
        for _ in range(60):
            outer = min(outer + step, edge) if edge > inner else max(outer + step, edge)
            value, moved = excess(outer, rest)
            if value > 0:
                crossed = True
                break
            rest, inner = moved, outer
            if outer == edge:
                break
            step *= 1.4
        if crossed:
            kept = rest
            outer = float(brentq(lambda x, k=kept: excess(x, k)[0], inner, outer, xtol=1e-4))
        ends.append(float(slot.from_scale(outer)) / factor(slot.unit))
    return min(ends), max(ends)


def _at(group: Likelihood, label: str) -> int:
    labels = [s.label for s in group.slots]
    return labels.index(label) if label in labels else -1


def _rest(group: Likelihood, j: int, x: float, start: np.ndarray) -> tuple[float, np.ndarray]:
    """Lowest cost with parameter j held at x, and where the others went."""
    if start.size == 0:
        r = group.residuals(np.array([x]))
        return float(r @ r), start
    boxes = [s.box for k, s in enumerate(group.slots) if k != j]
    bounds = np.array(boxes).T
    inside = np.clip(start, bounds[0] + 1e-9, bounds[1] - 1e-9)

    def full(rest: np.ndarray) -> np.ndarray:
        return np.insert(rest, j, x)

    found = least_squares(
        lambda r: group.residuals(full(r)),
        inside,
        jac=lambda r: np.delete(group.jacobian(full(r)), j, axis=1),
        bounds=(bounds[0], bounds[1]),
        x_scale="jac",
    )
    return 2 * float(found.cost), found.x


