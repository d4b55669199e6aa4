"""Bins of time for a visual check, and percentiles of values of which some are only known to lie below a limit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ....errors import FitError

Array = NDArray[np.float64]
Index = NDArray[np.intp]
NOMINAL = 12  # most distinct times that are bins by themselves
FEWEST, MOST = 3, 12  # quantile bins, where nobody says how many
VALUES = 25  # for which there is a quantile bin, if subjects have few values each
RULES = "'auto', 'times', 'quantile', a number of bins, or the edges between bins [h]"


def bins_of(time: ArrayLike, rule: str | int | Sequence[float] = "auto", each: int = 8) -> Index:
    """Bin of each time.

    "times" makes each distinct time a bin. "quantile" makes bins of nearly equal numbers of values: as many as a
    subject has values, or one per 25 values where that is more, 3 to 12 of them; a number makes so many. "auto" takes
    the times where there are at most 12, else quantiles. Equal times are never parted.

    Parameters
    ----------
    time : (n,) array [h]
    rule : as above, or edges between the bins [text, 1 or h]
    each : values that a subject typically has [1]

    Returns
    -------
    (n,) numbers from zero in the order of time, none of them empty
    """
    t = np.asarray(time, dtype=float)
    distinct = np.unique(t)
    edges: Array
    if isinstance(rule, str):
        if rule not in ("auto", "times", "quantile"):
            raise FitError(f"bins {rule!r} is not known; allowed: {RULES}")
        if rule == "times" or (rule == "auto" and distinct.size <= NOMINAL):
            return np.searchsorted(distinct, t)
        rule = int(np.clip(max(each, t.size // VALUES), FEWEST, MOST))
    if isinstance(rule, int | np.integer):
        if rule < 1:
            raise FitError(f"{rule} bins; allowed: {RULES}")
        edges = np.quantile(t, np.linspace(0, 1, rule + 1)[1:-1])
    else:
        edges = np.asarray(rule, dtype=float)
        if edges.ndim != 1 or not (np.diff(edges) > 0).all():
            raise FitError("the edges of the bins must be increasing times [h]")
    raw = np.searchsorted(edges, t, side="left")
    return np.asarray(np.unique(raw, return_inverse=True)[1], dtype=np.intp)


def percentile(values: Array, share: float) -> Array:
    """Percentile along the last axis; nan is left out, -inf and inf (beyond a limit) stay what they are.

    Parameters
    ----------
    values : (..., n) array
    share : between 0 and 1 [1]
    """
    ordered = np.sort(values, axis=-1)  # nan last
    known = (~np.isnan(ordered)).sum(axis=-1)
    place = np.maximum(known - 1, 0) * share
    low = np.floor(place).astype(np.intp)
    high = np.minimum(low + 1, np.maximum(known - 1, 0))
    a = np.take_along_axis(ordered, low[..., None], axis=-1)[..., 0]
    b = np.take_along_axis(ordered, high[..., None], axis=-1)[..., 0]
    with np.errstate(invalid="ignore"):
        between = np.where((place > low) & np.isfinite(a), a + (place - low) * (b - a), a)
    return np.asarray(np.where(known > 0, between, np.nan))
