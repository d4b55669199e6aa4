"""A curve as a function of time: polynomials between knots, with exact integrals and exact exponential convolution.

Samples become straight lines between them. Frames become parabolas whose average over each frame is the measured one,
continuous at the edges; the value at an edge comes from the cumulative activity of two frames on either side and stays
between the averages of its neighbours (the reconstruction of Colella and Woodward, doi:10.1016/0021-9991(84)90143-8,
known from its use, not read here). Before the first knot a signal is zero, after the last it stays level, as the inputs
of models do (`pkmodel.inputs`). Times are minutes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = NDArray[np.float64]
_FAR = 1e7  # [min], 19 years: the last piece, level, ends nowhere near any measurement
_SERIES = 20  # terms of the exponential series for arguments below one: 1/20! is 4e-19


@dataclass(frozen=True, slots=True, eq=False)
class Signal:
    """Piecewise parabolas: ``start + slope h + bend h^2`` with h counted from each knot.

    Parameters
    ----------
    knots : (k,) array, increasing [min]
    start, slope, bend : (k,) arrays, one piece per knot, the last one without end [unit, unit/min, unit/min^2]
    """

    knots: Array
    start: Array
    slope: Array
    bend: Array
    _antiderivatives: list[Any] = field(default_factory=list, repr=False)

    def __call__(self, t: ArrayLike) -> Array:
        """Value at t, (n,) [min]."""
        return self.integral(t, 0)

    def integral(self, t: ArrayLike, times: int = 1) -> Array:
        """Integral from the beginning to t, repeated `times` times: 0 is the value itself, (n,) [unit min^times]."""
        if not self._antiderivatives:
            from scipy.interpolate import PPoly

            knots = np.concatenate([[self.knots[0] - _FAR], self.knots, [self.knots[-1] + _FAR]])
            pieces = np.vstack([self.bend, self.slope, self.start])
            self._antiderivatives.append(PPoly(np.hstack([np.zeros((3, 1)), pieces]), knots))
        while len(self._antiderivatives) <= times:
            self._antiderivatives.append(self._antiderivatives[-1].antiderivative())
        return np.asarray(self._antiderivatives[times](np.asarray(t, dtype=float)), dtype=float)

    def shifted(self, delay: float) -> Signal:
        """The same signal, `delay` minutes later."""
        return Signal(self.knots + delay, self.start, self.slope, self.bend) if delay else self

    def scaled(self, by: float) -> Signal:
        """The same signal times a number."""
        return Signal(self.knots, self.start * by, self.slope * by, self.bend * by)

    def convolve(self, rate: float, t: ArrayLike) -> tuple[Array, Array]:
        """``integral of s(u) exp(-rate (t - u)) du`` and its derivative by `rate`, exact.

        Parameters
        ----------
        rate : zero or above [1/min]
        t : (n,) array [min]
        """
        times = np.asarray(t, dtype=float)
        width = np.append(np.diff(self.knots), 0.0)
        whole, dwhole = self._pieces(rate, width, slice(None))
        kept = np.exp(-rate * width)
        state, tangent = np.zeros(self.knots.size), np.zeros(self.knots.size)
        e = g = 0.0
        for i, (keep, h, add, dadd) in enumerate(
            zip(kept[:-1].tolist(), width[:-1].tolist(), whole[:-1].tolist(), dwhole[:-1].tolist(), strict=True)
        ):
            e, g = keep * e + add, keep * (g - h * e) + dadd
            state[i + 1], tangent[i + 1] = e, g
        at = np.searchsorted(self.knots, times, side="right") - 1
        first = np.maximum(at, 0)
        h = np.maximum(times - self.knots[first], 0.0)
        part, dpart = self._pieces(rate, h, first)
        keep = np.exp(-rate * h)
        value = keep * state[first] + part
        slope = keep * (tangent[first] - h * state[first]) + dpart
        before = at < 0
        return np.where(before, 0.0, value), np.where(before, 0.0, slope)

    def _pieces(self, rate: float, h: Array, which: Any) -> tuple[Array, Array]:
        """What a piece adds within h of its knot, and the derivative by the rate."""
        one, two, three, four = _phi(-rate * h)
        a, b, c = self.start[which], self.slope[which], self.bend[which]
        value = h * (a * one + h * (b * two + h * 2.0 * c * three))
        by_rate = -h * h * (a * (one - two) + h * (b * (two - 2 * three) + h * 2.0 * c * (three - 3 * four)))
        return value, by_rate


def _phi(z: Array) -> tuple[Array, Array, Array, Array]:
    """phi_1 to phi_4 of exponential integrators: (e^z - 1)/z and its followers, without cancellation."""
    z = np.asarray(z, dtype=float)
    small = np.abs(z) < 1.0
    safe = np.where(small, 1.0, z)
    one = np.expm1(safe) / safe
    two = (one - 1.0) / safe
    three = (two - 0.5) / safe
    four = (three - 1.0 / 6.0) / safe
    near = np.where(small, z, 0.0)
    last = np.zeros_like(near)
    for k in range(_SERIES, 0, -1):  # phi_4(z) = sum of z^j / (j + 4)!
        last = (last * near / (k + 4)) + 1.0
    last = last / 24.0
    third = near * last + 1.0 / 6.0
    second = near * third + 0.5
    first = near * second + 1.0
    pick = [np.where(small, n, f) for n, f in zip((first, second, third, last), (one, two, three, four), strict=True)]
    return pick[0], pick[1], pick[2], pick[3]


def through_samples(t: Array, value: Array) -> Signal:
    """Straight lines through samples at t, (n,) increasing [min]."""
    slope = np.append(np.diff(value) / np.diff(t), 0.0)
    return Signal(np.asarray(t, dtype=float), np.asarray(value, dtype=float), slope, np.zeros(t.size))


def through_frames(start: Array, end: Array, average: Array) -> Signal:
    """Parabolas with the measured average in every frame; gaps between frames are bridged by a straight line.

    Parameters
    ----------
    start, end : (n,) arrays, start < end, not overlapping [min]
    average : (n,) array, average over each frame [unit]
    """
    left, right, mean = _without_gaps(start, end, average)
    width = right - left
    edge = np.empty(mean.size + 1)
    edge[0] = 0.0 if left[0] <= 1e-9 else mean[0]  # nothing has arrived at injection
    low, high = np.minimum(mean[:-1], mean[1:]), np.maximum(mean[:-1], mean[1:])
    edge[1:-1] = np.clip(_slopes(np.append(left, right[-1]), np.append(0.0, np.cumsum(mean * width))), low, high)
    # a parabola with ends below three times its average stays above zero where the average does
    edge[1:-1] = np.where(low > 0, np.minimum(edge[1:-1], 3.0 * low), edge[1:-1])
    last = 1.5 * mean[-1] - 0.5 * edge[-2]
    edge[-1] = np.clip(last, *sorted((0.0, 3.0 * mean[-1])))
    a, b = edge[:-1], edge[1:]
    bend = 3.0 * (a + b - 2.0 * mean) / width**2
    slope = (6.0 * mean - 4.0 * a - 2.0 * b) / width
    return Signal(np.append(left, right[-1]), np.append(a, edge[-1]), np.append(slope, 0.0), np.append(bend, 0.0))


def _slopes(t: Array, area: Array) -> Array:
    """Slope of the cumulative activity at inner nodes, by the polynomial through two nodes on either side, (n - 1,)."""
    out = np.empty(t.size - 2)
    for j in range(1, t.size - 1):
        near = np.arange(max(j - 2, 0), min(j + 3, t.size))
        at, here = t[near], int(np.flatnonzero(near == j)[0])
        others = np.delete(np.arange(near.size), here)
        away = at[here] - at[others]
        slope = float(np.sum(1.0 / away)) * area[j]
        for k in others.tolist():
            rest = [m for m in others.tolist() if m != k]
            weight = np.prod((at[here] - at[rest]) / (at[k] - at[rest]))
            slope += float(weight) / (at[k] - at[here]) * area[near[k]]
        out[j - 1] = slope
    return out


def _without_gaps(start: Array, end: Array, average: Array) -> tuple[Array, Array, Array]:
    left, right, mean = [], [], []
    before, level = 0.0, 0.0
    for a, b, value in zip(start.tolist(), end.tolist(), average.tolist(), strict=True):
        if a < before - 1e-6 * (1.0 + abs(before)):
            raise DataError(f"frames overlap: one ends at {before:g} min and the next starts at {a:g} min")
        if a > before + 1e-6 * (1.0 + before):
            left.append(before)
            right.append(a)
            mean.append(0.5 * (level + value) if before > 0 else 0.5 * value * a / (0.5 * (a + b)))
        left.append(max(a, before) if left else a)
        right.append(b)
        mean.append(value)
        before, level = b, value
    return np.array(left), np.array(right), np.array(mean)
