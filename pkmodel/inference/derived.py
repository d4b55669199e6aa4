"""Results computed from the estimates, such as VT or a half-life, with the errors that follow (delta method)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..expressions import symbol
from ..units import factor

if TYPE_CHECKING:
    import pandas as pd

    from .likelihood import Block
    from .result import Fit


def derived_table(fit: Fit) -> pd.DataFrame:
    """One row per derived quantity and region: value, se, relative se [%], unit; nan where unknown."""
    import pandas as pd

    rows = []
    for block in fit.likelihood.blocks:
        region = block.observers[0].curve.region if fit.model.scope == "region" else ""
        for d in fit.model.derived.values():
            value, se = _derive(fit, d, block)
            unit = factor(d.unit)
            rse = 100 * se / abs(value) if value else math.nan
            rows.append([f"{d.name}[{region}]" if region else d.name, value / unit, se / unit, rse, d.unit])
    return pd.DataFrame(rows, columns=["label", "value", "se", "rse_percent", "unit"]).set_index("label")


def _derive(fit: Fit, d: Any, block: Block) -> tuple[float, float]:
    """Value and standard error, canonical; nan where the formula has no finite value."""
    labels = [s.label for s in fit.slots]
    order = [labels.index(s.label) for s in fit.likelihood.slots]
    names = block.problem.compiled.parameters
    p = block.parameters(fit._slot_values(fit.x))
    at = {symbol(n): v for n, v in zip(names, p, strict=True)}
    formula = d.formula.xreplace(fit.model.resolved)
    gradient = np.zeros(len(labels))
    leaders = dict(block.ties)
    for n, name in enumerate(names):
        source = leaders.get(n, n)
        if source in block.indices and formula.has(symbol(name)):
            column = order[block.columns[block.indices.index(source)]]
            slope = float(fit.slots[column].slope(fit.x[column]))
            gradient[column] += _number(formula.diff(symbol(name)).subs(at)) * slope
    variance = float(gradient @ fit.covariance @ gradient)
    if any(gradient[labels.index(h)] for h in fit.held):
        variance = math.nan  # it depends on something whose error is unknown
    return _number(formula.subs(at)), math.sqrt(variance) if variance >= 0 else math.nan


def _number(expression: Any) -> float:
    """A SymPy number as a float; nan for what has no finite value (a ratio with zero below)."""
    return float(expression) if expression.is_finite else math.nan
