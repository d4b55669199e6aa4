"""Areas under a concentration curve and under its first moment, piece by piece, and the terminal slope.

Linear pieces where the concentration rises, exponential ones where it falls ("linear-up log-down", exact for a
mono-exponential fall), or linear ones throughout: Yeh KC, Kwan KC. J Pharmacokinet Biopharm 1978;6:79,
doi:10.1007/BF01066064. The moments of an exponential piece are its integrals in closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

Array = NDArray[np.float64]
METHODS = ("linear-up log-down", "linear")
LEAST_POINTS = 3
TIE = 1e-4  # of the adjusted r2: within it, the fit with more points is taken (WinNonlin, PKNCA)


def pieces(t: Array, c: Array, method: str) -> tuple[Array, Array]:
    """Area and first moment of each piece between two samples.

    Parameters
    ----------
    t : (n,) array, increasing [h]
    c : (n,) array, not negative [concentration]
    method : one of `METHODS` [text]

    Returns
    -------
    (n - 1,) arrays : integral of c and of t c.
    """
    dt, a, b = np.diff(t), c[:-1], c[1:]
    area = 0.5 * (a + b) * dt
    moment = 0.5 * (t[:-1] * a + t[1:] * b) * dt
    if method == "linear":
        return area, moment
    falls = (b < a) & (b > 0)
    k = np.log(a[falls] / b[falls]) / dt[falls]
    area[falls] = (a - b)[falls] / k
    moment[falls] = (t[:-1] * a - t[1:] * b)[falls] / k + (a - b)[falls] / k**2
    return area, moment


def between(t: Array, c: Array, start: float, end: float, method: str, rate: float) -> float:
    """Area from `start` to `end`, interpolated as `method` says; beyond the last sample the terminal slope goes on.

    Parameters
    ----------
    t, c : (n,) arrays, the samples until the last measurable one
    start, end : of the interval [h]
    method : one of `METHODS` [text]
    rate : terminal slope, NaN where there is none [1/h]
    """
    inside = t[(t > start) & (t < end)]
    grid = np.concatenate([[start], inside, [end]])
    if start < t[-1] < end:
        grid = np.unique(np.concatenate([grid, t[-1:]]))
    values = np.array([at(t, c, float(x), method, rate) for x in grid])
    total = 0.0
    for i in range(grid.size - 1):
        a, b, dt = values[i], values[i + 1], grid[i + 1] - grid[i]
        log = (method != "linear" or grid[i] >= t[-1]) and 0 < b < a
        total += (a - b) * dt / math.log(a / b) if log else 0.5 * (a + b) * dt
    return float(total)


def at(t: Array, c: Array, x: float, method: str, rate: float) -> float:
    """Concentration at one time, interpolated as the areas are."""
    if x > t[-1]:
        return float(c[-1] * math.exp(-rate * (x - t[-1])))
    k = int(np.searchsorted(t, x))
    if k < t.size and t[k] == x:
        return float(c[k])
    if k == 0:
        return math.nan
    share = (x - t[k - 1]) / (t[k] - t[k - 1])
    a, b = float(c[k - 1]), float(c[k])
    if method != "linear" and 0 < b < a:
        return float(a * (b / a) ** share)
    return float(a + (b - a) * share)


@dataclass(frozen=True, slots=True, eq=False)
class Terminal:
    """The straight line through the logarithms of the last points.

    Parameters
    ----------
    rate : terminal slope, lambda z; NaN where it could not be found [1/h]
    intercept : log of the line at time 0 [log of concentration]
    t, c : (m,) arrays, the points used
    r2, adjusted_r2 : of the regression [1]
    covariance : (2, 2) array of intercept and slope
    why : empty, or why there is none
    """

    rate: float
    intercept: float
    t: Array
    c: Array
    r2: float
    adjusted_r2: float
    covariance: Array
    why: str = ""

    @property
    def half_life(self) -> float:
        """ln 2 over the slope [h]."""
        return math.log(2) / self.rate

    @property
    def span(self) -> float:
        """Time that the points cover, in half-lives [1]."""
        return float(self.t[-1] - self.t[0]) / self.half_life if self.t.size else math.nan

    def line(self, x: Array) -> Array:
        """The fitted concentration at times x."""
        return np.asarray(np.exp(self.intercept - self.rate * np.asarray(x, dtype=float)))


def none(why: str) -> Terminal:
    """No terminal slope, and why."""
    nan, empty = math.nan, np.zeros(0)
    return Terminal(nan, nan, empty, empty, nan, nan, np.full((2, 2), nan), why)


def terminal(t: Array, c: Array, points: int | None = None) -> Terminal:
    """The terminal slope by the best adjusted r2 among the last 3, 4, 5 ... points.

    Of fits within `TIE` of the best, the one with most points.

    Parameters
    ----------
    t, c : (n,) arrays, the points that may be used, concentrations above zero
    points : how many of the last to use; default by the rule [1]
    """
    n = t.size
    if points is not None and points < LEAST_POINTS:
        raise DataError(f"points = {points}; a terminal slope needs {LEAST_POINTS} or more, or leave it out")
    if n < (points or LEAST_POINTS):
        return none(f"{n} measurable points after the peak; {points or LEAST_POINTS} are needed")
    counts = [points] if points else range(LEAST_POINTS, n + 1)
    fits = [f for f in (_line(t[n - m :], c[n - m :]) for m in counts) if f.rate > 0]
    if not fits:
        return none("the last points do not fall")
    best = max(f.adjusted_r2 for f in fits)
    return max((f for f in fits if f.adjusted_r2 >= best - TIE), key=lambda f: f.t.size)


def _line(t: Array, c: Array) -> Terminal:
    """Least squares of log c on t."""
    y = np.log(c)
    n, middle = t.size, t.mean()
    spread = float(np.sum((t - middle) ** 2))
    slope = float(np.sum((t - middle) * (y - y.mean()))) / spread
    start = float(y.mean() - slope * middle)
    left = float(np.sum((y - start - slope * t) ** 2))
    whole = float(np.sum((y - y.mean()) ** 2))
    r2 = 1.0 - left / whole if whole > 0 else 0.0
    adjusted = 1.0 - (1.0 - r2) * (n - 1) / (n - 2) if n > 2 else math.nan
    variance = left / (n - 2) if n > 2 else math.nan
    covariance = variance * np.array(
        [[1.0 / n + middle**2 / spread, -middle / spread], [-middle / spread, 1.0 / spread]]
    )
    return Terminal(-slope, start, t, c, r2, adjusted, covariance)
