"""Variances of measured values: the only thing that weighs them; a weight is one over a variance and never asked for.

Counts: a frame of duration d that saw a mean activity A (as it was, not decay-corrected) has about N = s A d counts, so
the variance of A is A/(s d). The decay-corrected value is C = f A with f the decay factor exact over the frame
(`pkmodel.formats.curve.decay_factor`), so the variance of C is f^2 A/(s d) = f C/(s d). The scale s cancels in
estimates and is taken from the residuals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError
from ..formats.curve import Curve, decay_factor
from ..nuclides import nuclide as find_nuclide

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = NDArray[np.float64]
KINDS = ("uniform", "poisson", "proportional", "duration", "counts", "table", "weights")
FLOOR = 0.01  # of the largest value: a frame with next to no counts is not known exactly


def count_variance(
    t_start: ArrayLike,
    t_end: ArrayLike,
    value: ArrayLike,
    nuclide: str,
    *,
    decay_corrected: bool,
    floor: float = FLOOR,
) -> Array:
    """Variance of frame averages from counting statistics, up to one factor common to all frames.

    Parameters
    ----------
    t_start, t_end : (n,) arrays, edges of the frames, t_start < t_end [h]
    value : (n,) array, frame averages [any unit]
    nuclide : such as "C-11" [text]
    decay_corrected : whether the values are corrected to injection; there is no default [bool]
    floor : values below this part of the largest count as that part, for frames of next to no counts [1]

    Returns
    -------
    (n,) array
        ``f C/d`` (corrected) or ``A/d`` (not corrected), d in minutes [unit/min].

    Raises
    ------
    FitError
        A frame has no duration, or no value is above zero.
    """
    start, end, y = (np.asarray(x, dtype=float) for x in (t_start, t_end, value))
    if np.any(end <= start):
        k = int(np.argmax(end <= start))
        raise FitError(
            f"count variance: frame {k + 1} at {start[k]:g} h has no duration, so no counts; allowed: frames; use "
            "variance='uniform' or give variances for samples"
        )
    if not y.size or not y.max() > 0:
        raise FitError("count variance: no value is above zero, so nothing was counted; use variance='uniform'")
    factor = decay_factor(find_nuclide(nuclide).decay_constant, start, end)
    activity = y / factor if decay_corrected else y  # what the scanner counted
    counted = np.maximum(activity, floor * activity.max()) / (60.0 * (end - start))
    return np.asarray(factor**2 * counted if decay_corrected else counted, dtype=float)


def variance_of(curve: Curve, variance: str | ArrayLike) -> Array:
    """Variances of a curve's values as they stand, up to one common factor; infinite where a value does not count.

    Parameters
    ----------
    curve : n values
    variance : "uniform"; "poisson" (the value) or "proportional" (its square), at least at 0.1 % of the largest;
        "duration" (1/duration of the frame); "counts" (`count_variance`); "table" (the curve's spread, as standard
        error); "weights" (one over the curve's own weights; a weight of zero: not counted); or (n,) array of
        variances, infinite for a value that does not count [unit^2]

    Raises
    ------
    FitError
        The kind is unknown, or what it needs is not in the curve.
    """
    n, long = len(curve), curve.t_end > curve.t_start
    if not isinstance(variance, str):
        found = np.asarray(variance, dtype=float)
        if found.shape != (n,) or np.any(np.isnan(found)) or np.any(found <= 0):
            raise FitError(
                f"{curve.who}: variance has shape {found.shape}, smallest {np.min(found, initial=np.inf):g}; allowed: "
                f"{n} numbers above zero (infinite: not counted), or one of {', '.join(KINDS)}"
            )
        return found
    if variance not in KINDS:
        raise FitError(f"{curve.who}: variance {variance!r}; allowed: {', '.join(KINDS)}, or {n} numbers above zero")
    if variance == "uniform":
        return np.ones(n)
    if variance in ("poisson", "proportional"):
        size = np.abs(curve.value)
        power = 1 if variance == "poisson" else 2
        return np.asarray(np.maximum(size, 1e-3 * np.max(size, initial=1e-300)) ** power, dtype=float)
    if variance in ("duration", "counts"):
        if not long.any():
            raise FitError(f"{curve.who}: variance {variance!r} needs frames, and these are samples; use 'uniform'")
        out = np.full(n, np.inf)  # a row without duration (the zero at injection) is no measurement
        if variance == "duration":
            out[long] = 1.0 / (60.0 * (curve.t_end[long] - curve.t_start[long]))
        else:
            frames = curve.t_start[long], curve.t_end[long], curve.value[long]
            out[long] = count_variance(*frames, curve.nuclide, decay_corrected=curve.decay_corrected)
        return out
    given = curve.standard_error**2 if variance == "table" else curve.weights
    if np.any(np.isnan(given)) or np.any(given < 0):
        column = "sd" if variance == "table" else "weights"
        raise FitError(f"{curve.who}: variance {variance!r} needs a value at or above zero in column {column!r}")
    if variance == "weights":
        return np.asarray(np.divide(1.0, given, out=np.full(n, np.inf), where=given > 0), dtype=float)
    return np.asarray(np.where(given > 0, given, np.inf), dtype=float)
