"""From what a model computes to what a scanner reports: frames, decay correction, units.

A scan reports the average over its frame, so that is what a fit compares with by default; comparing with the middle
of the frame is there for parity with programs that do (on real [11C]PBR28 data it moves k2 and k3 by up to 6 %).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .formats.curve import Curve, decay_factor
from .model import Model
from .nuclides import nuclide
from .simulation import Solution
from .units import convert, dimension, factor

Array = NDArray[np.float64]
Mode = Literal["frame", "midpoint"]


@dataclass(frozen=True)
class Observer:
    """How one curve sees one observable: which output times it needs and how they make its values.

    `times` is sorted and starts wherever the curve does; predictions come in the curve's own unit.
    """

    curve: Curve
    observable: int
    mode: Mode
    times: Array  # (m,) [h]
    start: NDArray[np.intp]  # (n,) index of each frame's start (or middle) in times
    end: NDArray[np.intp]  # (n,)
    scale: Array  # (n,) observable [canonical] -> curve's unit and decay flag

    def predict(self, solution: Solution) -> Array:
        """Predicted values, (n,), in the curve's unit."""
        return self._read(solution.observed[self.observable], solution.integrals[self.observable])

    def tangent(self, solution: Solution) -> Array:
        """Derivatives of the predictions, (directions, n)."""
        k = self.observable
        return self._read(solution.observed_tangent[:, k], solution.integral_tangent[:, k])

    def _read(self, value: Array, integral: Array) -> Array:
        if self.mode == "midpoint":
            return value[..., self.start] * self.scale
        long = self.end > self.start
        width = np.where(long, self.times[self.end] - self.times[self.start], 1.0)
        average = (integral[..., self.end] - integral[..., self.start]) / width
        return np.where(long, average, value[..., self.start]) * self.scale


def observe(model: Model, curve: Curve, *, observable: str | None = None, mode: Mode | None = None) -> Observer:
    """Bind a curve to an observable of a model.

    Parameters
    ----------
    model : labelled, where the curve holds activity that decays
    curve : measured curve
    observable : default: the model's only one, or the one named like the region [text]
    mode : "frame" (default where frames are known) or "midpoint" [text]

    Raises
    ------
    DataError
        No observable fits the region, or the units cannot be related.
    """
    name = observable or _find(model, curve.region)
    wanted = model.observables[name]
    if model.nuclide and model.nuclide != curve.nuclide:
        what = f"measured with {curve.nuclide}" if curve.nuclide else "the values are not radioactive"
        raise DataError(f"{curve.who}: {what}, but the model is labelled with {model.nuclide}")
    chosen: Mode = mode or ("frame" if curve.framed else "midpoint")
    if chosen == "frame":
        times = np.unique(np.concatenate([curve.t_start, curve.t_end]))
        start, end = np.searchsorted(times, curve.t_start), np.searchsorted(times, curve.t_end)
    else:
        times = np.unique(curve.t)
        start = end = np.searchsorted(times, curve.t)
    n = len(curve)
    scale = np.full(n, _relate(model, name, wanted.unit, curve))
    if curve.decay_corrected and model.nuclide:
        decay = nuclide(curve.nuclide).decay_constant
        ends = (curve.t_start, curve.t_end) if chosen == "frame" else (curve.t, curve.t)
        scale = scale * decay_factor(decay, *ends)
    elif not curve.decay_corrected and not model.nuclide:
        raise DataError(
            f"{curve.who}: values are not decay-corrected, so the model must decay: use label(model, {curve.nuclide!r})"
        )
    return Observer(curve, list(model.observables).index(name), chosen, times, start, end, scale)


def _find(model: Model, region: str) -> str:
    names = list(model.observables)
    if region in names:
        return region
    if len(names) == 1 and model.scope == "region":
        return names[0]
    raise DataError(
        f"model {model.name} has no observable for region {region!r}; known: {', '.join(names)}; select the regions "
        "it describes or rename an observable"
    )


def _relate(model: Model, name: str, unit: str, curve: Curve) -> float:
    """Factor from canonical observable values to the curve's unit."""
    try:
        have, want = dimension(unit), dimension(curve.unit)
        if have == want:
            return 1.0 / factor(curve.unit)
        injected = curve.injected_activity
        if have == dimension("MBq") and want == dimension("%IA") and injected:
            return 1.0 / injected / factor("%IA")
        return float(convert(1.0, unit, curve.unit))  # raises, naming both dimensions
    except Exception as error:
        raise DataError(
            f"{curve.who}: unit {curve.unit!r} cannot be compared with observable {name} [{unit}] of {model.name}; "
            f"convert the curves first, e.g. curves.to_unit('MBq') ({error})"
        ) from None
