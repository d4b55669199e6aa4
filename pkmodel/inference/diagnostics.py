"""What is wrong with a fit, in words a user can act on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..units import factor

if TYPE_CHECKING:
    from .least_squares import Optimum
    from .likelihood import Likelihood
    from .result import Fit

HIGH_CORRELATION = 0.95
HIGH_RSE = 50.0  # [%]


def judge(fit: Fit) -> list[str]:
    """Warnings about a fit: bounds, correlation, precision, parameters no datum informs, starts that disagree."""
    out: list[str] = []
    first = 0
    for group, optimum, scale in zip(fit.groups, fit.optima, fit.scales, strict=True):
        mine = slice(first, first + len(group.slots))  # among all estimates; no tables: a warm fit takes milliseconds
        first = mine.stop
        out += _minimum(group, optimum)
        out += _parameters(fit, group, optimum, scale, mine)
        out += _pairs(fit, group, mine)
    if not fit.protocol.error.absolute:
        out += _freedom(fit)
    if math.isnan(fit.aicc):
        out.append(f"AICc is undefined: {fit.points} points for {fit.estimated} estimated numbers")
    return out


def _minimum(group: Likelihood, optimum: Optimum) -> list[str]:
    """Whether the search ended well, and how many starts say the same."""
    where = ", ".join(group.regions)
    out = []
    if not optimum.converged:
        out.append(
            f"{where}: the minimisation did not converge ({optimum.message}); try other starts or fewer parameters"
        )
    if optimum.starts > 2 and optimum.agreeing == 1:
        out.append(f"{where}: only one of {optimum.starts} starts reached this minimum; raise starts in the protocol")
    elif 2 * optimum.agreeing < optimum.starts:
        out.append(
            f"{where}: starts disagree: {optimum.agreeing} of {optimum.starts} reached this minimum, the best found"
        )
    if optimum.failed:
        out.append(f"{where}: the model could not be solved from {optimum.failed} of {optimum.starts} starts")
    return out


def _parameters(fit: Fit, group: Likelihood, optimum: Optimum, scale: float, mine: slice) -> list[str]:
    """Parameters at a bound, without information, or imprecise."""
    out = []
    values = np.array([fit.values[s.label] for s in group.slots])
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = 100 * fit.errors[mine] / np.abs(values)
    noise = math.sqrt(scale) if scale >= 0 else math.nan
    doubled = np.linalg.norm(optimum.jacobian, axis=0) * math.log(2)
    for j, slot in enumerate(group.slots):
        side = _bound(optimum.x[j], *slot.box)
        if side:
            value = float(slot.from_scale(optimum.x[j])) / factor(slot.unit)
            # zero has no logarithm: near enough is where the scale of the fit ends
            zero = side == "lower" and slot.lower == 0 and slot.transform == "log"
            place = "zero" if zero else f"its {side} bound ({value:.4g} {slot.unit})"
            out.append(f"{slot.label} ran to {place}: the data do not hold it back")
        if slot.label in fit.held:
            out.append(
                f"{slot.label}: no datum informs it where it ended: doubling it changes the prediction by far less "
                "than the noise; it is held there and its error is unknown"
            )
        elif slot.transform != "none" and doubled[j] < noise:
            out.append(f"{slot.label}: no datum informs it: doubling it changes the prediction by less than the noise")
        elif not side and values[j] and (rse := float(relative[j])) > HIGH_RSE:
            size = "above 1000 %" if rse > 1000 else f"{rse:.0f} %"
            out.append(f"{slot.label} is uncertain: relative standard error {size}")
    return out


def _pairs(fit: Fit, group: Likelihood, mine: slice) -> list[str]:
    """Parameters that the data see only together."""
    labels = [s.label for s in group.slots]
    r = fit.correlations[mine, mine]
    return [
        f"{labels[a]} and {labels[b]} cannot be told apart (correlation {r[a, b]:.3f}); fix or tie one"
        for a in range(len(labels))
        for b in range(a + 1, len(labels))
        if abs(r[a, b]) > HIGH_CORRELATION
    ]


def _freedom(fit: Fit) -> list[str]:
    """What the error estimate rests on."""
    pooled = fit.protocol.error.pooled
    out = []
    for group, left in list(zip(fit.groups, fit.freedoms, strict=True))[: 1 if pooled else None]:
        where = "all regions" if pooled else ", ".join(group.regions)
        if left == 0:
            out.append(
                f"{where}: as many parameters as points: the curve passes through every point and nothing can be said "
                "of errors"
            )
        elif left <= 2:
            plural = "degree" if left == 1 else "degrees"
            out.append(
                f"{where}: the error estimate rests on {left} {plural} of freedom: intervals are wide and uncertain"
            )
    return out


def _bound(x: float, low: float, high: float) -> str:
    width = high - low if math.isfinite(high - low) else max(abs(x), 1.0)
    if math.isfinite(low) and x - low <= 1e-4 * width:
        return "lower"
    if math.isfinite(high) and high - x <= 1e-4 * width:
        return "upper"
    return ""
