"""How uncertain one measurement is: variances, the only form in which an error model enters a fit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError
from ..formats.curve import MEASURED, MISSING, Curve, decay_factor
from ..nuclides import nuclide
from .protocol import ErrorModel

Array = NDArray[np.float64]


def variance_of(curve: Curve, error: ErrorModel) -> Array:
    """Variance of each value up to one scale; infinite for a value that does not count.

    constant: equal, relative to the largest value. proportional: the value squared. combined: additive^2 +
    (proportional*value)^2. table: the standard errors in the data squared. weights: one over the weights in the data
    (zero weight: left out). counts: a frame of length T with value a has N = a*T/f counts up to the camera's
    sensitivity, f the factor that corrected it for decay (1 where it was not), so a has the variance (f/T)^2 N =
    a*f/T (Thiele & Buchert 2008, doi:10.1097/MNM.0b013e3282fbe7f7). Censored and missing values have no variance of
    their own: least squares leaves them out.

    Parameters
    ----------
    curve : measured curve, n values
    error : kind and its settings

    Returns
    -------
    (n,) array, unit of the curve squared (up to the scale that is estimated, unless `error.absolute`)

    Raises
    ------
    FitError
        The data do not hold what the error model needs.
    """
    known = curve.censored == MEASURED
    if known.all():
        return _variance(curve, error)
    variance = np.full(len(curve), np.inf)
    if known.any():
        variance[known] = _variance(curve.take(known), error)
    return variance


def _variance(curve: Curve, error: ErrorModel) -> Array:
    """`variance_of` where every value was measured."""
    y = curve.value
    n = len(curve)
    if error.kind in ("constant", "counts") and not np.any(y != 0):
        raise FitError(f"{curve.who}: every value is zero, so an error relative to the values has no size")
    if error.kind == "constant":
        return np.full(n, float(np.abs(y).max()) ** 2)
    if error.kind == "proportional":
        if np.any(y <= 0):
            raise FitError(
                f"{curve.who}, {_row(curve, y <= 0)}: a proportional error has no size at a value of zero or below; "
                "use error kind 'combined' with an additive part"
            )
        return np.asarray(y**2, dtype=float)
    if error.kind == "combined":
        variance = np.asarray(error.additive**2 + (error.proportional * y) ** 2, dtype=float)
        if np.any(variance == 0):
            raise FitError(f"{curve.who}, {_row(curve, variance == 0)}: a value of zero needs additive above zero")
        return variance
    if error.kind == "table":
        sd = curve.standard_error
        bad = ~np.isfinite(sd) | (sd <= 0)
        if np.any(bad):
            raise FitError(
                f"{curve.who}, {_row(curve, bad)}: error kind 'table' needs an sd above zero for every value"
            )
        return np.asarray(sd**2, dtype=float)
    if error.kind == "weights":
        w = curve.weights
        bad = ~np.isfinite(w) | (w < 0)
        if np.any(bad) or not np.any(w > 0):
            place = f", {_row(curve, bad)}" if np.any(bad) else ""
            raise FitError(
                f"{curve.who}{place}: error kind 'weights' needs a weight for every value, none negative, not all zero"
            )
        return np.asarray(np.divide(1.0, w, out=np.full(n, np.inf), where=w > 0), dtype=float)
    long = curve.t_end - curve.t_start
    if not np.all(long > 0):
        raise FitError(
            f"{curve.who}, {_row(curve, long <= 0)}: error kind 'counts' needs a frame for every value, t_start before "
            "t_end"
        )
    correction = np.ones(n)
    if curve.decay_corrected:
        correction = decay_factor(nuclide(curve.nuclide).decay_constant, curve.t_start, curve.t_end)
    # a frame with no counts has no Poisson variance of its own; a hundredth of the largest keeps it finite
    floor = 0.01 * float(np.abs(y).max())
    return np.asarray(np.maximum(y, floor) * correction / long, dtype=float)


def shape_of(curve: Curve, error: ErrorModel) -> Array:
    """What is known of the variance of each value before its size: 1 where the error model says nothing.

    The size is a parameter of the noise (`noise.Noise`). For an error relative to each region's largest value
    ("constant", pooled) the shape is that value squared; for counts, tables and weights it is `variance_of`.

    Parameters
    ----------
    curve : measured curve, n values
    error : kind and its settings

    Returns
    -------
    (n,) array, infinite for a value that does not count
    """
    there = curve.censored != MISSING
    shape = np.full(len(curve), np.inf)
    if not there.any():
        return shape
    shape[there] = 1.0
    if error.kind in ("counts", "table", "weights"):
        shape[there] = _variance(curve.take(there), error)
    elif error.kind == "constant" and error.pooled:
        shape[there] = float(np.abs(curve.value[there]).max()) ** 2 or 1.0
    return shape


def _row(curve: Curve, bad: NDArray[np.bool_]) -> str:
    """The first offending value, by its line in the file where there is one."""
    k = int(np.argmax(bad))
    return f"row {curve.rows[k]}" if len(curve.rows) == len(curve) else f"value {k + 1} ({curve.t[k]:g} h)"
