"""What is wrong with a fit, in words a user can act on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..units import factor

if TYPE_CHECKING:
    from .likelihood import Likelihood
    from .least_squares import Optimum
    from .result import Fit

HIGH_CORRELATION = 0.95
HIGH_RSE = 50.0  # [%]


def judge(fit: Fit) -> list[str]:
    """Warnings about a fit: bounds, correlation, precision, parameters no datum informs, starts that disagree."""
    out: list[str] = []
    for group, optimum, scale in zip(fit.groups, fit.optima, fit.scales, strict=True):
        out += _group(fit, group, optimum, scale)
    if fit.freedom == 0 and not fit.protocol.error.absolute:
        out.append("as many parameters as points: the curve passes through every point and nothing can be said of errors")
    elif 0 < fit.freedom <= 2 and not fit.protocol.error.absolute:
        out.append(f"the error estimate rests on {fit.freedom} degree(s) of freedom: intervals are wide and uncertain")
    if math.isnan(fit.aicc):
        out.append(f"AICc is undefined: {fit.points} points for {fit.estimated} estimated numbers")
    return out


def _group(fit: Fit, group: Likelihood, optimum: Optimum, scale: float) -> list[str]:
    out: list[str] = []
    where = ", ".join(group.regions)
    if not optimum.converged:
        out.append(f"{where}: the minimisation did not converge ({optimum.message}); try other starts or fewer parameters")
    if optimum.starts > 2 and optimum.agreeing == 1:
        out.append(f"{where}: only one of {optimum.starts} starts reached this minimum; raise starts in the protocol")
    stuck = set()
    for j, slot in enumerate(group.slots):
        side = _bound(optimum.x[j], *slot.box)
        if side:
            stuck.add(j)
            value = float(slot.from_scale(optimum.x[j])) / factor(slot.unit)
            out.append(f"{slot.label} ran to its {side} bound ({value:.4g} {slot.unit}): the data do not hold it back")
    if not np.isfinite(scale):
        return out
    noise = math.sqrt(scale)
    change = np.linalg.norm(optimum.jacobian, axis=0) * math.log(2)
    table = fit.table
    for j, slot in enumerate(group.slots):
        if slot.transform != "none" and change[j] < noise:
            out.append(f"{slot.label}: no datum informs it: doubling it changes the prediction by less than the noise")
        elif j not in stuck and table.loc[slot.label, "rse_percent"] > HIGH_RSE:
            rse = float(table.loc[slot.label, "rse_percent"])
            size = "above 1000 %" if rse > 1000 else f"{rse:.0f} %"
            out.append(f"{slot.label} is uncertain: relative standard error {size}")
    correlation = fit.correlation
    labels = [s.label for s in group.slots]
    for a in range(len(labels)):
        for b in range(a + 1, len(labels)):
            r = float(correlation.loc[labels[a], labels[b]])
            if abs(r) > HIGH_CORRELATION:
                out.append(f"{labels[a]} and {labels[b]} cannot be told apart (correlation {r:.3f}); fix or tie one")
    return out


def _bound(x: float, low: float, high: float) -> str:
    width = high - low if math.isfinite(high - low) else max(abs(x), 1.0)
    if math.isfinite(low) and x - low <= 1e-4 * width:
        return "lower"
    if math.isfinite(high) and high - x <= 1e-4 * width:
        return "upper"
    return ""
