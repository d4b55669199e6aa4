"""Fraction of plasma activity that is unchanged parent tracer, as a function of time; always within 0 and 1.

Models in the form their reviewers give them (Tonietto 2016, doi:10.1177/0271678X15610585), t in minutes, f0 the
fraction at injection:

* ``hill``: ``f0 - (f0 - f_end) t^n / (t50^n + t^n)``
* ``power``: ``f0 / (1 + (t/tau)^n)^c``
* ``exponential``: ``f0 [w exp(-a t) + (1 - w) exp(-b t)]``
* ``sigmoid``: ``f0 [(1 - t^3/(t^3 + ts^3))^n + c] / (1 + c)`` (Guo 2013, J Nucl Med 54:1915)
* ``gamma``: ``f0 [1 - w P(k, t/theta)]``, P the gamma distribution's function (Naganawa 2014, NeuroImage 99:69)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, FitError, did_you_mean
from ..formats.curve import Curve
from .fitted import Fitted, summarise
from .measured import MINUTES
from .minimum import minimise
from .result import Estimate
from .variance import variance_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = NDArray[np.float64]
OutOfRange = Literal["refuse", "clip"]


def _hill(t: Array, v: Mapping[str, float]) -> Array:
    with np.errstate(divide="ignore"):
        part = np.where(t > 0, 1.0 / (1.0 + (v["t50"] / np.where(t > 0, t, 1.0)) ** v["n"]), 0.0)
    return v["f0"] * (1.0 - (1.0 - v["f_end"]) * part)


def _power(t: Array, v: Mapping[str, float]) -> Array:
    return np.asarray(v["f0"] * (1.0 + (t / v["tau"]) ** v["n"]) ** -v["c"], dtype=float)


def _exponential(t: Array, v: Mapping[str, float]) -> Array:
    return np.asarray(v["f0"] * (v["w"] * np.exp(-v["a"] * t) + (1 - v["w"]) * np.exp(-v["b"] * t)), dtype=float)


def _sigmoid(t: Array, v: Mapping[str, float]) -> Array:
    inner = v["ts"] ** 3 / (t**3 + v["ts"] ** 3)
    return np.asarray(v["f0"] * (inner ** v["n"] + v["c"]) / (1 + v["c"]), dtype=float)


def _gamma(t: Array, v: Mapping[str, float]) -> Array:
    from scipy.special import gammainc

    return np.asarray(v["f0"] * (1 - v["w"] * gammainc(v["k"], t / v["theta"])), dtype=float)


@dataclass(frozen=True, slots=True)
class _Parameter:
    low: float
    high: float
    starts: tuple[float, ...]
    unit: str
    meaning: str


_FRACTION = (0.0, 1.0)
_TIME = (1e-3, 1e5)
_F0 = _Parameter(*_FRACTION, (1.0,), "1", "parent fraction at injection")
_SHAPE = _Parameter(0.1, 20.0, (1.0, 2.5), "1", "steepness")
FAMILIES: dict[str, tuple[Callable[[Array, Mapping[str, float]], Array], dict[str, _Parameter]]] = {
    "hill": (
        _hill,
        {
            "f0": _F0,
            "f_end": _Parameter(*_FRACTION, (0.02, 0.3), "1", "final fraction, relative to f0"),
            "n": _SHAPE,
            "t50": _Parameter(*_TIME, (8.0, 25.0), "min", "time of half of the fall"),
        },
    ),
    "power": (
        _power,
        {
            "f0": _F0,
            "tau": _Parameter(*_TIME, (5.0, 30.0), "min", "time scale"),
            "n": _SHAPE,
            "c": _Parameter(1e-3, 50.0, (0.3, 1.0), "1", "exponent"),
        },
    ),
    "exponential": (
        _exponential,
        {
            "f0": _F0,
            "w": _Parameter(*_FRACTION, (0.3, 0.7), "1", "part that falls with rate a"),
            "a": _Parameter(0.0, 10.0, (0.05, 0.3), "1/min", "fast rate"),
            "b": _Parameter(0.0, 10.0, (0.002, 0.02), "1/min", "slow rate"),
        },
    ),
    "sigmoid": (
        _sigmoid,
        {
            "f0": _F0,
            "ts": _Parameter(*_TIME, (5.0, 20.0), "min", "time scale"),
            "n": _Parameter(1e-3, 20.0, (0.2, 1.0), "1", "steepness"),
            "c": _Parameter(0.0, 100.0, (0.05, 0.5), "1", "final level, c/(1 + c) of f0"),
        },
    ),
    "gamma": (
        _gamma,
        {
            "f0": _F0,
            "w": _Parameter(*_FRACTION, (0.6, 0.95), "1", "part that falls"),
            "k": _Parameter(0.1, 50.0, (1.0, 3.0), "1", "shape"),
            "theta": _Parameter(*_TIME, (5.0, 20.0), "min", "scale"),
        },
    ),
}


def check_fractions(curve: Curve, out_of_range: OutOfRange = "refuse") -> tuple[Curve, list[str]]:
    """A parent-fraction curve with every value within 0 and 1, and what was done.

    Raises
    ------
    DataError
        A value lies outside and is not to be clipped, or is not finite; the message names every row.
    """
    if curve.kind != "parent_fraction":
        raise DataError(f"{curve.who}: kind is {curve.kind!r}; allowed: 'parent_fraction'")
    if out_of_range not in ("refuse", "clip"):
        raise DataError(f"{curve.who}: out_of_range={out_of_range!r}; allowed: 'refuse', 'clip'")
    value = curve.to_unit("1").value
    if not np.all(np.isfinite(value)):
        raise DataError(f"{curve.who}: parent fraction has values that are not finite; leave those rows out")
    outside = np.flatnonzero((value < 0) | (value > 1))
    if not outside.size:
        return curve.to_unit("1"), []
    text = f"parent fraction outside 0 to 1 in {named_rows(curve, outside)}"
    if out_of_range == "refuse":
        raise DataError(
            f"{curve.who}: {text}; allowed: 0 to 1. Correct the rows (is it in percent?), or pass "
            "out_of_range='clip' to set them to the nearest bound"
        )
    return curve.to_unit("1").replace(value=np.clip(value, 0.0, 1.0)), [f"{text}; clipped as asked"]


def named_rows(curve: Curve, which: NDArray[np.intp]) -> str:
    """Rows with their values and times, for messages; at most six are written out."""
    has = len(curve.rows) == len(curve)
    name = "row" if has else "value"
    said = [
        f"{name} {curve.rows[k] if has else k + 1} ({curve.value[k]:g} at {curve.t[k] * MINUTES:.4g} min)"
        for k in which[:6]
    ]
    more = f" and {which.size - 6} more" if which.size > 6 else ""
    return ", ".join(said) + more


def fit_parent_fraction(
    samples: Curve,
    family: str = "hill",
    *,
    fixed: Mapping[str, float] | None = None,
    variance: str | ArrayLike = "uniform",
    out_of_range: OutOfRange = "refuse",
) -> Fitted:
    """Fit a parent-fraction model; the result is a function of minutes, within 0 and 1.

    Parameters
    ----------
    samples : curve of kind "parent_fraction"
    family : one of `FAMILIES` [text]
    fixed : parameters held at a value; f0 is held at 1 unless given as {"f0": None}, which frees it [1, min, 1/min]
    variance : of the samples [text or 1]
    out_of_range : what to do with samples below 0 or above 1: "refuse" or "clip" [text]

    Raises
    ------
    FitError
        The family or a parameter is unknown, or there are too few samples.
    DataError
        A fraction lies outside 0 to 1.
    """
    if family not in FAMILIES:
        raise FitError(f"parent fraction {family!r}{did_you_mean(family, FAMILIES)}; known: {', '.join(FAMILIES)}")
    function, parameters = FAMILIES[family]
    names = list(parameters)
    held: dict[str, float] = {n: v for n, v in ({"f0": 1.0} | dict(fixed or {})).items() if v is not None}
    if unknown := sorted(set(held) - set(names)):
        raise FitError(f"{family}: {', '.join(unknown)} cannot be fixed; parameters: {', '.join(names)}")
    wrong = [n for n, v in held.items() if not parameters[n].low <= v <= parameters[n].high]
    if wrong:
        one = parameters[wrong[0]]
        raise FitError(f"{family}: {wrong[0]}={held[wrong[0]]!r}; allowed: {one.low:g} to {one.high:g}")
    curve, notes = check_fractions(samples, out_of_range)
    spread = variance_of(curve, variance)
    counts, t, y = np.isfinite(spread), curve.t * MINUTES, curve.value
    free = np.array([n not in held for n in names])
    if counts.sum() < free.sum():
        raise FitError(f"{samples.who}: {counts.sum()} samples for {free.sum()} parameters of {family}; fix some")
    root = np.where(counts, 1 / np.sqrt(np.where(counts, spread, 1.0)), 0.0)
    low = np.array([parameters[n].low for n in names])[free]
    high = np.array([parameters[n].high for n in names])[free]

    def whole(x: Array) -> dict[str, float]:
        given = iter(x.tolist())
        return {n: held[n] if n in held else next(given) for n in names}

    def misfit(x: Array) -> Array:
        return (function(t, whole(x)) - y) * root

    grids = [parameters[n].starts for n in names if n not in held]
    tried = [minimise(misfit, np.array(s), low=low, high=high, scale=np.maximum(s, 0.1)) for s in product(*grids)]
    found = min(tried, key=lambda r: r.cost)
    values = np.array(list(whole(found.x).values()))
    se, covariance, warnings = summarise(names, values, found.jacobian[counts], misfit(found.x)[counts], free)
    final = whole(found.x)

    def remake(x: Array) -> Callable[[Array], Array]:
        named = dict(zip(names, x.tolist(), strict=True))
        return lambda times: function(np.maximum(times, 0.0), named)

    estimates = tuple(
        Estimate(n, float(v), float(e), parameters[n].unit, parameters[n].meaning)
        for n, v, e in zip(names, values, se, strict=True)
    )
    return Fitted(
        what="parent fraction", family=family, estimates=estimates, covariance=covariance, samples=curve,
        predicted=function(t, final), variance=spread, function=remake(values), remake=remake,
        reference="Tonietto 2016, doi:10.1177/0271678X15610585", notes=tuple(notes), warnings=tuple(warnings),
    )  # fmt: skip
