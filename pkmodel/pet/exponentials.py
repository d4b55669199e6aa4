"""Sums of ``c u^p exp(-r u)``, each from its own time on: input functions with exact integrals and convolutions.

Feng's function, exponentials with a linear rise, infusions of either, their dispersion and the response of a tissue
all belong to this family: integrating one, or convolving it with an exponential, gives another member.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = NDArray[np.float64]
Term = tuple[float, float, int, float]
_EQUAL = 1e-7  # relative difference of two rates below which they count as one


@dataclass(frozen=True, slots=True, eq=False)
class ExponentialSum:
    """``sum of coefficient u^power exp(-rate u)``, u = t - start, each term from its start on.

    Parameters
    ----------
    start : (m,) array [min]
    coefficient : (m,) array [unit/min^power]
    power : (m,) array of whole numbers from 0 [1]
    rate : (m,) array, zero or above [1/min]
    """

    start: Array
    coefficient: Array
    power: NDArray[np.int64]
    rate: Array

    @classmethod
    def of(cls, terms: Iterable[Term]) -> ExponentialSum:
        """From (start, coefficient, power, rate) of each term."""
        rows = list(terms)
        s, c, p, r = zip(*rows, strict=True) if rows else ((), (), (), ())
        return cls(np.array(s, float), np.array(c, float), np.array(p, np.int64), np.array(r, float))

    def terms(self) -> list[Term]:
        """(start, coefficient, power, rate) of each."""
        return list(
            zip(self.start.tolist(), self.coefficient.tolist(), self.power.tolist(), self.rate.tolist(), strict=True)
        )

    def __call__(self, t: ArrayLike) -> Array:
        """Value at t, (n,) [unit]."""
        u = np.asarray(t, dtype=float)[..., None] - self.start
        on = u > 0
        u = np.where(on, u, 0.0)
        each = np.where(on, self.coefficient * u**self.power * np.exp(-self.rate * u), 0.0)
        return np.asarray(each.sum(axis=-1), dtype=float)

    def __add__(self, other: ExponentialSum) -> ExponentialSum:
        return ExponentialSum.of(self.terms() + other.terms())

    def scaled(self, by: float) -> ExponentialSum:
        """The sum times a number."""
        return ExponentialSum(self.start, self.coefficient * by, self.power, self.rate)

    def shifted(self, by: float) -> ExponentialSum:
        """The sum, `by` minutes later."""
        return ExponentialSum(self.start + by, self.coefficient, self.power, self.rate)

    def integral(self) -> ExponentialSum:
        """The integral from the beginning, as a sum of the same kind."""
        out: list[Term] = []
        for s, c, p, r in self.terms():
            if r == 0:
                out.append((s, c / (p + 1), p + 1, 0.0))
                continue
            out.append((s, c * math.factorial(p) / r ** (p + 1), 0, 0.0))
            out += [(s, -c * math.factorial(p) / math.factorial(k) / r ** (p + 1 - k), k, r) for k in range(p + 1)]
        return ExponentialSum.of(out)

    def mean(self, start: ArrayLike, end: ArrayLike) -> Array:
        """Average from start to end, (n,) each [min], exact."""
        a, b = np.asarray(start, dtype=float), np.asarray(end, dtype=float)
        whole = self.integral()
        return np.asarray((whole(b) - whole(a)) / (b - a), dtype=float)

    def total(self) -> float:
        """Integral to infinity [unit min]; infinite where something stays."""
        last = float(self.start.max())
        head = float(self.integral()(last))
        stays, tail = np.zeros(int(self.power.max()) + 1), 0.0
        for s, c, p, r in self.terms():
            d = last - s
            if r == 0:  # expand (u + d)^p
                stays[: p + 1] += [c * math.comb(p, k) * d ** (p - k) for k in range(p + 1)]
                continue
            polynomial = (c * math.exp(-r * d) * math.comb(p, k) * d ** (p - k) for k in range(p + 1))
            tail += sum(f * math.factorial(k) / r ** (k + 1) for k, f in enumerate(polynomial))
        size = float(np.abs(self.coefficient).max())
        return head + tail if np.all(np.abs(stays) <= 1e-9 * size) else math.inf

    def convolve(self, rate: float) -> ExponentialSum:
        """The sum convolved with ``exp(-rate t)``, as a sum of the same kind.

        Dispersion with time constant tau is ``convolve(1/tau).scaled(1/tau)``; a one-tissue response to it is
        ``convolve(k2).scaled(K1)``.
        """
        out: list[Term] = []
        for s, c, p, r in self.terms():
            difference = rate - r
            if abs(difference) <= _EQUAL * max(rate, r):
                out.append((s, c / (p + 1), p + 1, r))
                continue
            factor = c / difference  # u^p e^{-ru}/d - p/d (the same with p - 1), down to (e^{-ru} - e^{-ku})/d
            for k in range(p, -1, -1):
                out.append((s, factor, k, r))
                if k == 0:
                    out.append((s, -factor, 0, rate))
                factor *= -k / difference
        return ExponentialSum.of(out)

    def infused(self, duration: float) -> ExponentialSum:
        """The sum as the response to a bolus, given at a constant rate over `duration` minutes instead."""
        whole = self.integral().scaled(1.0 / duration)
        return whole + whole.shifted(duration).scaled(-1.0)
