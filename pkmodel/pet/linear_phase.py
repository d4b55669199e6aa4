"""From which time on the points of a graphical method lie on its line: t*, given or found by a stated criterion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError
from .regression import Line

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
MAX_DEVIATION = 0.05  # of the fitted ordinate
AT_LEAST = 5  # points, so that the criterion has something to judge


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The points used, the line through them, and how they were chosen."""

    used: Mask
    line: Line
    t_star: float
    words: str
    warning: str = ""


def deviation(line: Line, y: Array, used: Mask) -> float:
    """Largest distance of a used point from the line, relative to the line."""
    fitted = line.predicted[used]
    return float(np.max(np.abs(y[used] - fitted) / np.maximum(np.abs(fitted), 1e-300)))


def choose(
    solve: Callable[[Mask], Line],
    t: Array,
    y: Array,
    usable: Mask,
    *,
    t_star: float | str,
    frames: int | None,
    max_deviation: float,
    who: str,
) -> Choice:
    """Points from t* on.

    Parameters
    ----------
    solve : fits the points of a mask
    t, y : (n,) arrays, middle of each frame and ordinate [min, unit]
    usable : (n,) array, points that exist and count [bool]
    t_star : first time used [min], or "auto": the earliest one from which on every point lies within
        `max_deviation` of the line through them, with at least `AT_LEAST` points [min or text]
    frames : use this many last points instead [1]
    max_deviation : see t_star, relative to the line [1]
    who : for messages [text]

    Raises
    ------
    FitError
        The choice leaves too few points or is none of those allowed.
    """
    if not usable.any():
        raise FitError(f"{who}: no point can be used; the curve is not above zero, or no value counts")
    if frames is not None:
        if t_star != "auto":
            raise FitError(f"{who}: t_star={t_star!r} and frames={frames} both say where to start; give one")
        index = np.flatnonzero(usable)
        if not 2 <= frames <= index.size:
            raise FitError(f"{who}: frames={frames}; allowed: 2 to {index.size}, the points there are")
        used = np.zeros_like(usable)
        used[index[-frames:]] = True
        return Choice(used, solve(used), float(t[used][0]), f"last {frames} frames")
    if t_star == "auto":
        return _find(solve, t, y, usable, max_deviation, who)
    if isinstance(t_star, str) or not np.isfinite(t_star):
        raise FitError(f"{who}: t_star={t_star!r}; allowed: a time in min, or 'auto'")
    used = usable & (t >= t_star)
    if used.sum() < 3:
        raise FitError(
            f"{who}: {used.sum()} points from t* = {t_star:g} min on; needed: 3; the last is at {t[-1]:g} min"
        )
    return Choice(used, solve(used), float(t[used][0]), "t* given")


def _find(solve: Callable[[Mask], Line], t: Array, y: Array, usable: Mask, max_deviation: float, who: str) -> Choice:
    index = np.flatnonzero(usable)
    least = min(AT_LEAST, index.size)
    if index.size < 3:
        raise FitError(f"{who}: {index.size} usable points; needed: 3 or more")
    rule = f"t* found: every point from it on within {max_deviation:.3g} of the line, {AT_LEAST} points or more"
    for first in index[: index.size - least + 1]:
        used = usable & (np.arange(t.size) >= first)
        line = solve(used)
        if deviation(line, y, used) <= max_deviation:
            return Choice(used, line, float(t[first]), rule)
    warning = (
        f"no t* meets the criterion (within {max_deviation:.3g} of the line); the last {least} points were used and "
        f"lie within {deviation(line, y, used):.2g}: give t_star= or frames="
    )
    return Choice(used, line, float(t[used][0]), f"last {least} frames", warning)
