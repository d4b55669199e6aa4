"""Profile-likelihood intervals: how far a parameter can move before the rest can no longer make up for it.

The interval holds where the fit's own parabola does not: near bounds, with few points, for rates that the data
hardly see (Venzon & Moolgavkar 1988, doi:10.2307/2347496).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, least_squares
from scipy.stats import chi2 as chi_square
from scipy.stats import f as fisher

from ..errors import FitError
from ..units import factor

Array = NDArray[np.float64]

if TYPE_CHECKING:
    from .likelihood import Evaluation, Likelihood
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
    position = next((k for k, g in enumerate(fit.groups) if _at(g, label) >= 0), -1)
    if position < 0:
        raise FitError(f"{label!r} was not fitted; fitted: {', '.join(s.label for s in fit.slots)}")
    group, optimum, scale = fit.groups[position], fit.optima[position], fit.scales[position]
    if not math.isfinite(scale):
        raise FitError("no degree of freedom is left to profile with")
    j = _at(group, label)
    known = fit.protocol.error.absolute
    freedom = fit.freedoms[position]
    limit = chi_square.ppf(level, 1) if known else fisher.ppf(level, 1, freedom)
    rise = float(limit) * scale
    slot = group.slots[j]
    low, high = slot.box
    warm = np.delete(optimum.x, j)

    def excess(x: float, start: Array) -> tuple[float, Array]:
        cost, rest = _rest(group, j, x, start)
        return cost - optimum.chi2 - rise, rest

    # Steps in the measure of the parameter's own error, so that a delay of seconds is as finely searched as a rate
    sd = float(np.sqrt(fit.spreads[position].covariance[j, j]))
    unit = sd if 0 < sd < 2.0 else 0.25
    ends = []
    for edge in (low, high):
        inner, rest = float(optimum.x[j]), warm
        step = math.copysign(unit, edge - inner)
        outer = inner
        crossed = False
        for _ in range(80):
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
            outer = float(brentq(lambda x, k=kept: excess(x, k)[0], inner, outer, xtol=1e-5 * unit))
        end = float(slot.from_scale(outer)) / factor(slot.unit)
        if not crossed:  # never objected: the bound itself, and not the last number before it
            end = (slot.lower if edge == low else slot.upper) / factor(slot.unit)
        ends.append(end)
    return min(ends), max(ends)


def _at(group: Likelihood, label: str) -> int:
    labels = [s.label for s in group.slots]
    return labels.index(label) if label in labels else -1


def _rest(group: Likelihood, j: int, x: float, start: Array) -> tuple[float, Array]:
    """Lowest cost with parameter j held at x, and where the others went."""
    if start.size == 0:
        r = group.residuals(np.array([x]))
        return float(r @ r), start
    boxes = [s.box for k, s in enumerate(group.slots) if k != j]
    bounds = np.array(boxes).T
    inside = np.clip(start, bounds[0] + 1e-9, bounds[1] - 1e-9)

    def full(rest: Array) -> Array:
        return np.asarray(np.insert(rest, j, x), dtype=float)

    last: dict[bytes, Evaluation] = {}

    def at(rest: Array) -> Evaluation:
        key = rest.tobytes()
        if key not in last:  # residuals and Jacobian come from one solve
            last.clear()
            last[key] = group.evaluate(full(rest))
        return last[key]

    def residuals(rest: Array) -> Array:
        return at(rest).residuals

    def jacobian(rest: Array) -> Array:
        return np.asarray(np.delete(at(rest).jacobian, j, axis=1), dtype=float)

    found = least_squares(
        residuals,
        inside,
        jac=jacobian,
        bounds=(bounds[0], bounds[1]),
        x_scale="jac",
    )
    return 2 * float(found.cost), np.asarray(found.x, dtype=float)
