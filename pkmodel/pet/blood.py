"""Blood as it comes from the catheter: negative samples, delay, dispersion, plasma from whole blood.

Dispersion by a tube of time constant tau is ``measured = true * exp(-t/tau)/tau``; for a curve of straight lines it is
exact. Its inverse, ``true = measured + tau d(measured)/dt``, enlarges noise: fit tau in the model where you can
(doi:10.1038/jcbfm.1986.180 describes delay and dispersion; known from its use, not read here).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, FitError
from ..formats.curve import Curve
from .fitted import Fitted, summarise
from .linear_phase import Mask
from .measured import MINUTES, Forcing, Mode, see, source
from .minimum import minimise
from .parent_fraction import named_rows
from .result import Estimate
from .signal import through_samples

Array = NDArray[np.float64]
Negative = Literal["refuse", "keep", "zero"]
_RATIO = {"constant": 1, "linear": 2, "exponential": 3}


def check_samples(curve: Curve, negative: Negative = "refuse") -> tuple[Curve, list[str]]:
    """Samples without values below zero, or with them kept or set to zero as asked, and what was done.

    Raises
    ------
    DataError
        A value is below zero (the message names every row), not finite, or times do not increase.
    """
    if negative not in ("refuse", "keep", "zero"):
        raise DataError(f"{curve.who}: negative={negative!r}; allowed: 'refuse', 'keep', 'zero'")
    if not np.all(np.isfinite(curve.value)):
        raise DataError(f"{curve.who}: {named_rows(curve, np.flatnonzero(~np.isfinite(curve.value)))} not finite")
    if np.any(np.diff(curve.t) <= 0):
        raise DataError(
            f"{curve.who}: times do not increase at {named_rows(curve, np.flatnonzero(np.diff(curve.t) <= 0) + 1)}"
        )
    below = np.flatnonzero(curve.value < 0)
    if not below.size:
        return curve, []
    text = f"{curve.region}: {below.size} values below zero, {named_rows(curve, below)}"
    if negative == "refuse":
        raise DataError(
            f"{curve.who}: {text}; allowed: zero or above. Correct the rows, or pass negative='zero' to set them to "
            "zero, or negative='keep' to leave them in (background-corrected counters scatter around zero)"
        )
    if negative == "keep":
        return curve, [f"{text}; kept as asked"]
    return curve.replace(value=np.maximum(curve.value, 0.0)), [f"{text}; set to zero as asked"]


def shift(curve: Curve, delay: float) -> Curve:
    """The same samples `delay` minutes later (below zero: earlier); times before injection are left out.

    Raises
    ------
    DataError
        Fewer than two samples are left.
    """
    moved = curve.replace(t_start=curve.t_start + delay / MINUTES, t_end=curve.t_end + delay / MINUTES)
    keep = moved.t_start >= -1e-12
    if keep.sum() < 2:
        raise DataError(f"{curve.who}: a delay of {delay:g} min leaves {keep.sum()} samples after injection")
    return moved if keep.all() else moved.take(keep)


def disperse(curve: Curve, tau: float) -> Curve:
    """What a tube of time constant tau makes of a curve of straight lines, at the same times; exact.

    Parameters
    ----------
    curve : samples, straight lines between them
    tau : time constant, zero or above [min]

    Raises
    ------
    FitError
        tau is below zero.
    """
    _time_constant(tau, curve)
    if tau == 0:
        return curve
    t = curve.t * MINUTES
    value, _ = through_samples(t, curve.value).convolve(1.0 / tau, t)
    return curve.replace(value=value / tau, sd=np.full(t.size, np.nan), weights=np.full(t.size, np.nan))


def correct_dispersion(curve: Curve, tau: float) -> Curve:
    """The curve before a tube of time constant tau: value plus tau times the slope of a parabola through three samples.

    Parameters are those of `disperse`. Noise of neighbouring samples d minutes apart grows by about tau/d.

    Raises
    ------
    FitError
        tau is below zero or there are fewer than three samples.
    """
    _time_constant(tau, curve)
    if len(curve) < 3:
        raise FitError(f"{curve.who}: {len(curve)} samples; a slope needs three")
    t = curve.t * MINUTES
    value = curve.value + tau * np.gradient(curve.value, t, edge_order=2)
    return curve.replace(value=value, sd=np.full(t.size, np.nan), weights=np.full(t.size, np.nan))


def _time_constant(tau: float, curve: Curve) -> None:
    if not (np.isfinite(tau) and tau >= 0):
        raise FitError(f"{curve.who}: dispersion tau={tau!r} min; allowed: zero or above")


@dataclass(frozen=True, slots=True)
class Delay:
    """How much later the tissue sees the blood than the sampler did [min], its error, and what it was found with."""

    value: float
    se: float
    words: str

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"delay {self.value:.4g} +- {self.se:.2g} min ({self.words})"


def find_delay(
    tissue: Curve,
    plasma: Curve | Forcing,
    blood: Curve | Forcing | None = None,
    *,
    window: float = 5.0,
    span: tuple[float, float] = (-1.0, 1.0),
    mode: Mode | None = None,
) -> Delay:
    """Delay between sampled blood and tissue, from a one-tissue model with blood of the first minutes.

    Parameters
    ----------
    tissue : a large region with a good signal
    plasma, blood : parent plasma, and whole blood (plasma where not given)
    window : how much of the scan is used [min]
    span : where to look [min]
    mode : as for `pkmodel.pet.logan`

    Raises
    ------
    FitError
        Fewer than six frames lie in the window, or the delay runs to the edge of the span.
    """
    seen = see(tissue, mode=mode)
    cp, _, _ = source(plasma, seen, "plasma")
    cb = cp if blood is None else source(blood, seen, "blood")[0]
    use: Mask = seen.end <= window + 1e-9
    if use.sum() < 6:
        raise FitError(
            f"{tissue.who}: {use.sum()} frames end within {window:g} min; needed: 6 for delay, K1, k2 and vB"
        )
    early = see(tissue.take(np.isin(tissue.t_end, seen.end[use] / MINUTES)), mode=mode)
    rates = np.geomspace(3e-3, 2.0, 7)

    def solve(delay: float, rate: float) -> tuple[Array, Array]:
        p = cp.shifted(delay)
        if early.mode == "midpoint":
            response = p.convolve(rate, early.t)[0]
        else:
            difference = p.convolve(rate, early.end)[0] - p.convolve(rate, early.start)[0]
            response = (early.of(p) - difference / early.duration) / rate
        columns = np.column_stack([response, early.of(cb.shifted(delay))])
        found = np.linalg.lstsq(columns, early.value, rcond=None)[0]
        return found, columns @ found

    def misfit(x: Array) -> Array:
        return solve(float(x[0]), float(np.exp(x[1])))[1] - early.value

    grid = np.linspace(*span, 41)
    costs = np.array([[float(np.sum(misfit(np.array([d, np.log(r)])) ** 2)) for r in rates] for d in grid])
    k, m = (int(i) for i in np.unravel_index(int(np.argmin(costs)), costs.shape))
    found = minimise(
        misfit, np.array([grid[k], np.log(rates[m])]), low=np.array([span[0], -12.0]), high=np.array([span[1], 3.0])
    )
    at, rate, h = float(found.x[0]), float(np.exp(found.x[1])), 0.01
    if min(at - span[0], span[1] - at) < 1e-3 * (span[1] - span[0]):
        raise FitError(
            f"{tissue.who}: the delay runs to {at:.3g} min, the edge of span={span}; widen it or check clocks"
        )
    (k1, vb), fitted = solve(at, rate)

    def curve(delay: float, r: float, a: float, b: float) -> Array:
        p = cp.shifted(delay)
        if early.mode == "midpoint":
            response = p.convolve(r, early.t)[0]
        else:
            response = (
                early.of(p) - (p.convolve(r, early.end)[0] - p.convolve(r, early.start)[0]) / early.duration
            ) / r
        return np.asarray(a * response + b * early.of(cb.shifted(delay)), dtype=float)

    x = np.array([at, rate, k1, vb])
    steps = np.array([h, 1e-3 * rate, 1e-3 * max(abs(k1), 1e-6), 1e-3 * max(abs(vb), 1e-3)])
    jacobian = np.column_stack([(curve(*(x + d)) - curve(*(x - d))) / (2 * d.sum()) for d in np.diag(steps)])
    se, _, _ = summarise(["delay", "k2", "K1", "vB"], x, jacobian, early.value - fitted, np.ones(4, dtype=bool))
    return Delay(at, float(se[0]), f"one tissue with blood, first {window:g} min, {early.value.size} frames")


def fit_plasma_ratio(plasma: Curve, blood: Curve, family: str = "constant") -> Fitted:
    """Ratio of plasma to whole blood over time, from the times at which both were measured.

    Parameters
    ----------
    plasma, blood : samples; blood is read at the plasma's times
    family : "constant", "linear" (a + b t), or "exponential" (a + (b - a) exp(-c t)) [text]

    Raises
    ------
    FitError
        The family is unknown, or too few samples have blood above zero.
    DataError
        Units or nuclides do not fit.
    """
    if family not in _RATIO:
        raise FitError(f"plasma to blood ratio {family!r}; allowed: {', '.join(_RATIO)}")
    p, b = plasma.decay_correct(), blood.decay_correct().to_unit(plasma.unit)
    t = p.t * MINUTES
    inside = (p.t >= b.t[0]) & (p.t <= b.t[-1])
    at = np.interp(p.t, b.t, b.value)
    use = inside & (at > 0) & (p.value > 0)
    k = _RATIO[family]
    if use.sum() < k:
        raise FitError(f"{plasma.who}: {use.sum()} samples with blood beside them; {family} needs {k}")
    ratio = np.where(use, p.value / np.where(use, at, 1.0), np.nan)
    x, y = t[use], ratio[use]

    def value(times: Array, v: Array) -> Array:
        if k == 1:
            return np.full(times.shape, v[0])
        line = v[0] + v[1] * times if k == 2 else v[0] + (v[1] - v[0]) * np.exp(-v[2] * times)
        return np.asarray(line, dtype=float)

    start = np.array([float(np.median(y)), float(y[0]) if k == 3 else 0.0, 0.05])[:k]
    found = minimise(lambda v: value(x, v) - y, start)
    names = ["a", "b", "c"][:k]
    free = np.ones(k, dtype=bool)
    se, covariance, warnings = summarise(names, found.x, found.jacobian, value(x, found.x) - y, free)
    units = dict(zip("abc", ("1", "1/min" if k == 2 else "1", "1/min"), strict=True))
    meaning = {"a": "ratio" if k < 3 else "late ratio", "b": "slope" if k == 2 else "early ratio", "c": "rate"}
    sampled = p.take(use).replace(value=y, unit="1", region=f"{plasma.region}/{blood.region}", kind="parent_fraction")
    rows = zip(names, found.x, se, strict=True)

    def remake(v: Array) -> Callable[[Array], Array]:
        return lambda times: value(times, v)

    return Fitted(
        what="plasma to blood ratio", family=family,
        estimates=tuple(Estimate(n, float(v), float(e), units[n], meaning[n]) for n, v, e in rows),
        covariance=covariance, samples=sampled, predicted=value(x, found.x), variance=np.ones(x.size),
        function=remake(found.x), remake=remake, reference="", warnings=tuple(warnings),
    )  # fmt: skip
