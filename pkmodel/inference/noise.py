"""How measurements scatter about a prediction: densities with exact derivatives.

For endpoint e and prediction f the standard deviation is::

    normal      sd^2 = additive_e^2 * shape + proportional_e^2 * f^2
    lognormal   log y ~ normal(log f, proportional_e)

A value below a limit counts with the probability of lying there, P(y < limit), one above with P(y >= limit) (method M3
of Beal 2001, doi:10.1023/A:1012299115260). Sizes are fitted on the log scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from ..errors import FitError
from .observations import Observations
from .protocol import ErrorModel

Array = NDArray[np.float64]
Kind = Literal["normal", "lognormal"]
LOG_2PI = math.log(2 * math.pi)
START = 0.1  # a size that nobody stated begins at a tenth of the values


@dataclass(frozen=True, slots=True)
class Size:
    """One number of the noise: `additive` or `proportional`, of one endpoint or of several."""

    name: str
    start: float
    unit: str = ""
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Scatter:
    """Noise of one endpoint: which sizes make it, -1 for none."""

    kind: Kind = "normal"
    additive: int = -1
    proportional: int = -1


@dataclass(frozen=True, slots=True, eq=False)
class Density:
    """Log density of each value and its derivatives; zero where a value does not count.

    Parameters
    ----------
    pointwise : (n,) array; -inf where the prediction makes the value impossible
    d_prediction : (n,) array, by each value's own prediction
    d_noise : (n, q) array, by the log-scale sizes
    """

    pointwise: Array
    d_prediction: Array
    d_noise: Array


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Variance of each value; of its logarithm where the noise is lognormal.

    Parameters
    ----------
    value, d_prediction, d2_prediction : (n,) arrays, variance and its derivatives by the prediction
    d_noise : (n, q) array, derivative by the log-scale sizes
    """

    value: Array
    d_prediction: Array
    d2_prediction: Array
    d_noise: Array


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise of all endpoints; the free sizes are its parameters, in order, on the log scale."""

    endpoints: tuple[str, ...]
    scatters: tuple[Scatter, ...]
    sizes: tuple[Size, ...]

    def __post_init__(self) -> None:
        for name, scatter in zip(self.endpoints, self.scatters, strict=True):
            if scatter.additive < 0 and scatter.proportional < 0:
                raise FitError(f"{name}: noise without a size; give an additive or a proportional one")
            if scatter.kind == "lognormal" and (scatter.additive >= 0 or scatter.proportional < 0):
                raise FitError(f"{name}: lognormal noise has one size, the proportional one")
        for size in self.sizes:
            if not (math.isfinite(size.start) and size.start > 0):
                raise FitError(f"noise {size.name}: {size.start!r} must be a number above zero")

    @property
    def free(self) -> tuple[int, ...]:
        """Which sizes are free."""
        return tuple(k for k, s in enumerate(self.sizes) if not s.fixed)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the free sizes."""
        return tuple(self.sizes[k].name for k in self.free)

    @property
    def start(self) -> Array:
        """(q,) where a fit begins, log scale."""
        return self.to_scale(np.array([self.sizes[k].start for k in self.free]))

    @staticmethod
    def to_scale(sizes: Array) -> Array:
        """Free sizes to the log scale."""
        return np.asarray(np.log(sizes), dtype=float)

    @staticmethod
    def from_scale(z: Array) -> Array:
        """Log scale to the free sizes."""
        return np.asarray(np.exp(z), dtype=float)

    def values(self, z: Array) -> dict[str, float]:
        """Every size by name, free ones at z, (q,), fixed ones as they are."""
        known = np.array([s.start for s in self.sizes])
        known[list(self.free)] = self.from_scale(np.asarray(z, dtype=float))
        return dict(zip((s.name for s in self.sizes), known.tolist(), strict=True))

    def variance(self, prediction: Array, z: Array, data: Observations) -> Spread:
        """Variance of each value about its prediction.

        Parameters
        ----------
        prediction : (n,) array
        z : (q,) array, log-scale sizes
        data : the values, n of them
        """
        f = np.asarray(prediction, dtype=float)
        additive, proportional, plain, d_noise = self._parts(z, data)
        relative = proportional**2
        value = additive**2 * data.shape + relative * np.where(plain, f**2, 1.0)
        slope = np.where(plain, 2 * relative * f, 0.0)
        by_size = np.stack([2 * additive**2 * data.shape, 2 * relative * np.where(plain, f**2, 1.0)])
        return Spread(value, slope, np.where(plain, 2 * relative, 0.0), d_noise(by_size))

    def log_density(self, prediction: Array, z: Array, data: Observations) -> Density:
        """Log density of the data at a prediction, per value, with its derivatives.

        Parameters
        ----------
        prediction : (n,) array
        z : (q,) array, log-scale sizes
        data : the values, n of them

        Returns
        -------
        Density
            A prediction that is not a number, or under which a value is impossible, gives -inf and derivatives of zero.
        """
        f = np.asarray(prediction, dtype=float)
        spread = self.variance(f, z, data)
        data = data.aligned(self.endpoints)
        logs = np.array([s.kind == "lognormal" for s in self.scatters])[data.endpoint]
        with np.errstate(all="ignore"):
            y = np.where(logs, np.log(data.value), data.value)
            centre, by_f = np.where(logs, np.log(f), f), np.where(logs, 1 / f, 1.0)
            v = spread.value
            u = (y - centre) / np.sqrt(v)
            # by the standardised distance u and by the variance, for a density and for a tail
            log_p = -0.5 * (LOG_2PI + np.log(v) + u**2) - np.where(logs, y, 0.0)
            by_u, by_v = -u, -0.5 / v
            side = np.where(data.censored < 0, 1.0, -1.0)
            tail = log_ndtr(side * u)
            hazard = side * np.exp(-0.5 * (LOG_2PI + u**2) - tail)
            cut = data.censored != 0
            log_p = np.where(cut, tail, log_p)
            by_u, by_v = np.where(cut, hazard, by_u), np.where(cut, 0.0, by_v)
            full_v = by_v - 0.5 * by_u * u / v  # u moves with the variance too
            d_prediction = -by_u * by_f / np.sqrt(v) + full_v * spread.d_prediction
            d_noise = full_v[:, None] * spread.d_noise
        bad = ~(np.isfinite(log_p) & np.isfinite(d_prediction) & (v > 0) & np.isfinite(d_noise).all(axis=1))
        log_p = np.where(bad, -np.inf, log_p)
        dead = bad | ~data.counted
        return Density(
            np.where(data.counted, log_p, 0.0), np.where(dead, 0.0, d_prediction), np.where(dead[:, None], 0.0, d_noise)
        )

    def draw(self, prediction: Array, z: Array, data: Observations, rng: np.random.Generator) -> Array:
        """Simulated measurements at a prediction, (..., n); censoring is not applied."""
        f = np.asarray(prediction, dtype=float)
        additive, proportional, plain, _ = self._parts(z, data)
        e = rng.standard_normal(f.shape)
        sd = np.sqrt(additive**2 * data.shape + proportional**2 * f**2)
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(np.where(plain, f + sd * e, f * np.exp(proportional * e)), dtype=float)

    def _parts(self, z: Array, data: Observations) -> tuple[Array, Array, NDArray[np.bool_], Callable[[Array], Array]]:
        """Additive and proportional size and kind at each value, and how their effects go to the columns of z."""
        ends = data.aligned(self.endpoints).endpoint
        known = np.array([*(s.start for s in self.sizes), 0.0])
        free = list(self.free)
        known[free] = np.exp(np.asarray(z, dtype=float))
        which = np.array([[s.additive, s.proportional] for s in self.scatters], dtype=np.intp)[ends]  # (n, 2)
        plain = np.array([s.kind == "normal" for s in self.scatters])[ends]
        column = np.full(known.size, -1, dtype=np.intp)
        column[free] = np.arange(len(free))

        def spread_out(effects: Array) -> Array:
            out = np.zeros((len(ends), len(free)))
            for part in (0, 1):
                at = column[which[:, part]]
                rows = np.flatnonzero(at >= 0)
                out[rows, at[rows]] += effects[part, rows]
            return out

        return known[which[:, 0]], known[which[:, 1]], plain, spread_out


def default_noise(error: ErrorModel, data: Observations) -> Noise:
    """The noise that a protocol's error model means.

    constant, counts, table and weights: an additive size times the square root of the shape, one per endpoint (one for
    all where pooled; fixed at 1 where the variances are known). proportional: a relative size. combined: both, from
    the protocol's numbers, which are fixed where they are known absolutely.

    Parameters
    ----------
    error : of the protocol
    data : of one subject, or of all
    """
    scatters: list[Scatter] = []
    sizes: list[Size] = []

    def size(word: str, endpoint: str, start: float, unit: str) -> int:
        name = word if error.pooled or len(data.endpoints) == 1 else f"{word}[{endpoint}]"
        names = [s.name for s in sizes]
        if name not in names:
            sizes.append(Size(name, start, unit, error.absolute))
            return len(sizes) - 1
        return names.index(name)

    for e, (endpoint, unit) in enumerate(zip(data.endpoints, data.units, strict=True)):
        mine = (data.endpoint == e) & data.counted
        values = data.value[mine]
        typical = float(np.sqrt(np.mean(values**2))) if values.size else 1.0
        width = float(np.sqrt(np.mean(data.shape[mine]))) if values.size else 1.0
        additive = proportional = -1
        if error.kind == "proportional":
            proportional = size("proportional", endpoint, START, "")
        elif error.kind == "combined":
            if error.additive > 0:
                additive = size("additive", endpoint, error.additive, unit)
            if error.proportional > 0:
                proportional = size("proportional", endpoint, error.proportional, "")
        elif error.absolute or error.kind == "table":
            additive = size("additive", endpoint, 1.0, "")
        else:
            plain = error.kind == "constant" and not error.pooled
            additive = size("additive", endpoint, START * (typical or 1.0) / (width or 1.0), unit if plain else "")
        scatters.append(Scatter("normal", additive, proportional))
    return Noise(data.endpoints, tuple(scatters), tuple(sizes))


def lognormal_noise(endpoints: Sequence[str], start: float = START) -> Noise:
    """Noise of constant relative size on the log scale, one size per endpoint.

    Parameters
    ----------
    endpoints : names [text]
    start : size to begin with, the SD of the logarithm [1]
    """
    names = [f"proportional[{e}]" if len(endpoints) > 1 else "proportional" for e in endpoints]
    scatters = tuple(Scatter("lognormal", -1, k) for k in range(len(names)))
    return Noise(tuple(endpoints), scatters, tuple(Size(n, start) for n in names))
