"""Measured curves that drive a model, piecewise linear between their knots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import SimulationError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class InputCurve:
    """A measured input: piecewise linear between knots, zero before the first."""

    t: Array  # (k,) [h]
    value: Array  # (k,) canonical unit

    def __post_init__(self) -> None:
        if self.t.ndim != 1 or self.t.size < 2 or self.t.shape != self.value.shape:
            raise SimulationError("an input curve needs at least two times and as many values")
        if not (np.all(np.isfinite(self.t)) and np.all(np.isfinite(self.value))):
            raise SimulationError("an input curve must be finite; found nan or infinity")
        if np.any(np.diff(self.t) <= 0):
            at = int(np.argmax(np.diff(self.t) <= 0))
            raise SimulationError(f"input times must increase; knot {at + 2} at {self.t[at + 1]:g} h does not")


def values(t: Array, knots: Array, value: Array) -> tuple[Array, Array]:
    """Value and right-hand slope of a piecewise linear curve; zero before the first knot, level after the last."""
    slopes = np.append(np.diff(value) / np.diff(knots), 0.0)
    where = np.searchsorted(knots, t, side="right") - 1
    slope = np.where(where < 0, 0.0, slopes[where])
    start = np.where(where < 0, 0.0, value[where])
    return start + slope * np.where(where < 0, 0.0, t - knots[where]), slope


def segments(times: Array, knots: Array, value: Array) -> tuple[Array, Array]:
    """Start value and slope of a curve on each segment between `times`."""
    middle = 0.5 * (times[:-1] + times[1:])
    at_middle, slope = values(middle, knots, value)  # the middle is never on a knot, so the interval is certain
    return at_middle - slope * (middle - times[:-1]), slope
