"""Elementary functions on vectors, against mpmath, and their special cases, against C."""

from __future__ import annotations

import ctypes
import itertools
import math
from functools import lru_cache

import mpmath  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import pytest
from numpy.typing import NDArray

from pkmodel.compiler.llvm_math import LIBRARY
from pkmodel.compiler.machine import Library, Source, available, compile_source, host
from pkmodel.compiler.tape import Builder, Tape
from support import report

Floats = NDArray[np.float64]

pytestmark = pytest.mark.skipif(bool(available()), reason=f"no vector code here: {available()}")

OPERANDS = {"exp": 1, "log": 1, "tanh": 1, "pow": 2, "min": 2, "max": 2, **dict.fromkeys(LIBRARY, 1)}
SPECIAL = np.array(
    [0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 5e-324, -5e-324, 1e-310, 2.2250738585072014e-308, 0.5, 2.0,
     -2.0, 3.0, -3.0, 2.5, -2.5, 1e-20, -1e-20, 1e300, -1e300, 1.7976931348623157e308, 709.7, 709.79, 710.0, -708.5,
     -745.0, -745.2, -746.0, np.nextafter(1.0, 2.0), np.nextafter(1.0, 0.0), 4503599627370497.0, 9007199254740992.0]
)  # fmt: skip


def _tape(code: str) -> Tape:
    b = Builder()
    b.store("out", 0, b.apply(code, *(b.load("x", i) for i in range(OPERANDS[code]))))
    return b.tape(code, "x", "out")


@lru_cache
def _library(lanes: int) -> Library:
    return Library(compile_source(Source(tapes={code: _tape(code) for code in OPERANDS}), lanes, host()))


def compute(code: str, *values: Floats, lanes: int = 8) -> Floats:
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(_library(lanes).address(code))
    size = -len(values[0]) % lanes + len(values[0])
    padded = [np.resize(v, size) for v in values]
    out = np.empty(size)
    for at in range(0, size, lanes):
        x = np.concatenate([v[at : at + lanes] for v in padded])
        kernel(x.ctypes.data, out[at:].ctypes.data)
    return out[: len(values[0])]


def _worst(code: str, *values: Floats, lanes: int) -> float:
    """Largest relative error where the result is a normal number."""
    exact = {"pow": mpmath.power}.get(code) or getattr(mpmath, code)
    worst = 0.0
    with mpmath.workprec(140):
        for got, *x in zip(compute(code, *values, lanes=lanes), *values, strict=True):
            want = exact(*map(mpmath.mpf, x))
            if 1e-300 < abs(want) < 1e300:
                worst = max(worst, float(abs((mpmath.mpf(got) - want) / want)))
    return worst


@pytest.mark.parametrize("lanes", [1, 8])
def test_exponential(lanes: int) -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.uniform(-700, 700, 2000), rng.uniform(-1, 1, 2000), 10.0 ** rng.uniform(-20, 0, 500)])
    report(f"exp, {lanes} lanes, worst relative error", 0.0, _worst("exp", x, lanes=lanes), atol=2.5e-16)


@pytest.mark.parametrize("lanes", [1, 8])
def test_logarithm(lanes: int) -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate(
        [10.0 ** rng.uniform(-307, 308, 2000), rng.uniform(0.4, 2.5, 2000), 1 + rng.uniform(-1, 1, 500) * 1e-6]
    )
    x = np.append(x, [5e-324, 3e-320, 1e-310])
    report(f"log, {lanes} lanes, worst relative error", 0.0, _worst("log", x, lanes=lanes), atol=2.5e-16)


@pytest.mark.parametrize("lanes", [1, 8])
def test_hyperbolic_tangent(lanes: int) -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.uniform(-25, 25, 2000), rng.uniform(-1, 1, 2000), 10.0 ** rng.uniform(-290, 0, 500)])
    report(f"tanh, {lanes} lanes, worst relative error", 0.0, _worst("tanh", x, lanes=lanes), atol=6e-16)


@pytest.mark.parametrize("lanes", [1, 8])
def test_power(lanes: int) -> None:
    """Hill exponents, and results near the ends of the range, where an error of the logarithm counts 700 times."""
    rng = np.random.default_rng(4)
    hill = 10.0 ** rng.uniform(-12, 6, 2000), rng.uniform(-4, 4, 2000)
    report(f"pow, {lanes} lanes, worst relative error", 0.0, _worst("pow", *hill, lanes=lanes), atol=6e-16)
    wide = 10.0 ** rng.uniform(-300, 300, 1000), rng.uniform(-1, 1, 1000)
    steep = rng.uniform(0.6, 1.6, 1500), rng.uniform(-1400, 1400, 1500)
    x, y = (np.concatenate(v) for v in zip(wide, steep, strict=True))
    report(f"pow, {lanes} lanes, worst at the ends", 0.0, _worst("pow", x, y, lanes=lanes), atol=4e-15)


@pytest.mark.parametrize("code", ["exp", "log", "tanh", *LIBRARY])
@pytest.mark.parametrize("lanes", [1, 8])
def test_special_values_of_one_argument(code: str, lanes: int) -> None:
    """Zero, subnormal and infinite numbers and NaN, overflow and underflow: what NumPy's scalars give."""
    numpy_name = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}.get(code, code)
    with np.errstate(all="ignore"):
        want = getattr(np, numpy_name)(SPECIAL)
    np.testing.assert_allclose(compute(code, SPECIAL, lanes=lanes), want, rtol=1e-15, atol=1e-323)
    if code == "tanh":
        assert math.copysign(1.0, compute(code, np.array([-0.0]), lanes=lanes)[0]) == -1.0


@pytest.mark.parametrize("lanes", [1, 8])
def test_power_of_special_values_as_in_c(lanes: int) -> None:
    x, y = map(np.array, zip(*itertools.product(SPECIAL, SPECIAL), strict=True))
    with np.errstate(all="ignore"):
        want = np.power(x, y)
    got = compute("pow", x, y, lanes=lanes)
    np.testing.assert_allclose(got, want, rtol=4e-15, atol=1e-323)
    real = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[real]), np.signbit(want[real]))


@pytest.mark.parametrize("lanes", [1, 8])
@pytest.mark.parametrize(("code", "numpy_function"), [("min", np.minimum), ("max", np.maximum)])
def test_extremes_keep_nan(code: str, numpy_function: np.ufunc, lanes: int) -> None:
    x, y = map(np.array, zip(*itertools.product(SPECIAL, SPECIAL), strict=True))
    np.testing.assert_array_equal(compute(code, x, y, lanes=lanes), numpy_function(x, y))
