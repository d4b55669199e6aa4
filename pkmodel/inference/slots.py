"""Free parameters and the scale on which they are fitted.

On that scale a parameter is unbounded or nearly so: the logarithm of a positive number, the logit of a share of its
range. Equal steps there are equal factors, so starts, errors and draws mean the same for fast and for slow rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FitError
from ..model import Model
from ..units import factor
from .protocol import Free, Transform


@dataclass(frozen=True, slots=True)
class Slot:
    """A free parameter: of one region or of all (`region` empty), of one occasion or of all. Values are canonical."""

    parameter: str
    region: str
    unit: str
    transform: Transform
    start: float
    lower: float
    upper: float
    occasion: str = ""

    @property
    def label(self) -> str:
        """Its name in tables, e.g. ``k_washout[liver]``, or ``CL@2`` on occasion 2."""
        where = f"[{self.region}]" if self.region else ""
        return f"{self.parameter}{where}{f'@{self.occasion}' if self.occasion else ''}"

    def to_scale(self, value: Any) -> Any:
        """Value -> the scale of the fit."""
        if self.transform == "log":
            return np.log(value)
        if self.transform == "logit":
            share = (np.asarray(value) - self.lower) / (self.upper - self.lower)
            return np.log(share / (1 - share))
        return value

    def from_scale(self, x: Any) -> Any:
        """The scale of the fit -> value."""
        if self.transform == "log":
            return np.exp(x)
        if self.transform == "logit":
            return self.lower + (self.upper - self.lower) / (1 + np.exp(-np.asarray(x)))
        return x

    def slope(self, x: Any) -> Any:
        """Derivative of the value with respect to the scale of the fit."""
        if self.transform == "log":
            return np.exp(x)
        if self.transform == "logit":
            share = 1 / (1 + np.exp(-np.asarray(x)))
            return (self.upper - self.lower) * share * (1 - share)
        return np.ones_like(np.asarray(x, dtype=float))

    @property
    def box(self) -> tuple[float, float]:
        """Bounds on the scale of the fit; a lower bound of zero is a millionth of a millionth of the start."""
        if self.transform == "log":
            return math.log(max(self.lower, 1e-12 * self.start)), math.log(self.upper)
        if self.transform == "logit":
            return -20.0, 20.0
        return self.lower, self.upper


def make_slot(model: Model, name: str, free: Free, region: str) -> Slot:
    """Combine what the model declares of a parameter with what the protocol says.

    Parameters
    ----------
    model : the model that has it
    name : parameter [text]
    free : start, bounds and transform; None takes the model's
    region : the region it belongs to, empty for one shared by all [text]

    Raises
    ------
    FitError
        There is no start, the start is not between the bounds, or the transform does not suit them.
    """
    p = model.parameters[name]
    unit = factor(p.unit)
    lower = p.lower if free.lower is None else free.lower
    upper = p.upper if free.upper is None else free.upper
    start = p.value if free.start is None else free.start
    who = f"{model.name}: {name}"
    if start is None:
        raise FitError(f"{who}: no start value; give one in the protocol: {name} = {{ start = ... }}")
    if not (math.isfinite(start) and lower <= start <= upper and lower < upper):
        raise FitError(f"{who}: start {start:g} must lie between the bounds, {lower:g} to {upper:g} {p.unit}")
    transform: Transform = free.transform or ("log" if lower >= 0 and start > 0 else "none")
    if transform == "log" and (lower < 0 or start <= 0):
        raise FitError(f"{who}: the log transform needs a positive start and no negative lower bound")
    if transform == "logit" and not (math.isfinite(lower) and math.isfinite(upper) and lower < start < upper):
        raise FitError(f"{who}: the logit transform needs two finite bounds with the start between them")
    return Slot(name, region, p.unit, transform, start * unit, lower * unit, upper * unit)
