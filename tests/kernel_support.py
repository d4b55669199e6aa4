"""What tests of the compiler's back ends share: calling a kernel, tapes written by hand, and a model of two states."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from pkmodel.compiler.llvm_step import Tableau
from pkmodel.compiler.machine import Kernels, Source
from pkmodel.compiler.tape import BINARY, TERNARY, TRUTH, UNARY, Builder, Tape
from pkmodel.solve import rosenbrock

Floats = NDArray[np.float64]

TABLEAU = Tableau(rosenbrock.A, rosenbrock.C, rosenbrock.H, rosenbrock.GAMMA)


def call(kernels: Kernels, name: str, *arrays: Floats) -> None:
    """Run a kernel on arrays as they lie."""
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(arrays))(kernels.address(name))
    function(*(a.ctypes.data for a in arrays))


def one_operation(code: str) -> Tape:
    """``out[0] = code(x[0], x[1], ...)``; a truth value is stored as 1 or 0."""
    b = Builder()
    x = [b.load("x", i) for i in range(3)]
    if code in ("and", "or"):
        number = b.apply(code, b.apply("lt", x[0], x[1]), b.apply("lt", x[1], x[2]))
    elif code == "not":
        number = b.apply(code, b.apply("lt", x[0], x[1]))
    elif code == "select":
        number = b.apply(code, b.apply("lt", x[0], x[1]), x[1], x[2])
    else:
        number = b.apply(code, *x[: 1 if code in UNARY else 2])
    if code in TRUTH:
        number = b.apply("select", number, b.const(1.0), b.const(0.0))
    b.store("out", 0, number)
    return b.tape(f"one_{code}", "x", "out")  # a kernel must not have the name of a C function


OPERATIONS = (*UNARY, *BINARY, *TERNARY)


_COMBINATIONS = ("mean", "parallel", "root", "decay", "tanh", "hill", "share", "log", "min", "max", "branch")


def _combined(b: Builder, how: str, x: int, y: int, condition: int) -> int:
    """A positive number from two others."""
    total, one = b.apply("add", x, y), b.const(1.0)
    if how == "mean":
        return b.apply("mul", total, b.const(0.5))
    if how == "parallel":
        return b.apply("div", b.apply("mul", x, y), total)
    if how == "root":
        return b.apply("sqrt", b.apply("mul", x, y))
    if how == "decay":
        return b.apply("exp", b.apply("neg", x))
    if how == "tanh":
        return b.apply("tanh", x)
    if how == "hill":
        return b.apply("pow", x, b.const(1.37))
    if how == "share":
        return b.apply("div", x, b.apply("add", one, total))
    if how == "log":
        return b.apply("log", b.apply("add", b.const(2.0), total))
    if how == "branch":
        return b.apply("select", condition, x, y)
    return b.apply(how, x, y)


def random_tape(seed: int, length: int = 120) -> Tape:
    """A program of (x, q) whose every step keeps positive numbers positive and is well conditioned."""
    rng = np.random.default_rng(seed)
    b = Builder()
    loads = [b.load("x", i) for i in range(6)] + [b.load("q", i) for i in range(4)]
    known = list(loads)
    one = b.const(1.0)
    for _ in range(length):
        a, c = (known[int(k)] for k in rng.integers(0, len(known), 2))
        i, j = (loads[int(k)] for k in rng.choice(len(loads), 2, replace=False))
        new = _combined(b, str(rng.choice(_COMBINATIONS)), a, c, b.apply("lt", i, j))
        known.append(b.apply("div", new, b.apply("add", one, new)) if len(known) % 3 == 0 else new)
    for k, number in enumerate(known[-12:]):
        b.store("out", k, number)
    return b.tape("random", "x", "q", "out")


def two_states() -> Source:
    """f = (-a x + b x z, c - d z - b x z) with q = (a, b, c, d), and its LU without pivoting."""
    b = Builder()
    x, z = b.load("y", 0), b.load("y", 1)
    a, k, c, d = (b.load("q", i) for i in range(4))
    flow = b.apply("mul", b.apply("mul", k, x), z)
    b.store("f", 0, b.apply("sub", flow, b.apply("mul", a, x)))
    b.store("f", 1, b.apply("sub", b.apply("sub", c, b.apply("mul", d, z)), flow))
    rhs = b.tape("rhs", "y", "q", "f")

    b = Builder()
    x, z, g = b.load("y", 0), b.load("y", 1), b.load("g", 0)
    a, k, d = (b.load("q", i) for i in (0, 1, 3))
    kx, kz = b.apply("mul", k, x), b.apply("mul", k, z)
    first = b.apply("div", b.const(1.0), b.apply("sub", b.apply("add", g, a), kz))
    multiplier = b.apply("mul", kz, first)
    right = b.apply("neg", kx)
    second = b.apply("sub", b.apply("add", b.apply("add", g, d), kx), b.apply("mul", multiplier, right))
    for at, number in enumerate((first, multiplier, right, b.apply("div", b.const(1.0), second))):
        b.store("w", at, number)
    b.store("w", 4, b.apply("abs", multiplier))
    factor = b.tape("factor", "y", "q", "g", "w")

    b = Builder()
    x, z = b.load("x", 0), b.load("x", 1)
    w = [b.load("w", i) for i in range(4)]
    z = b.apply("mul", b.apply("sub", z, b.apply("mul", w[1], x)), w[3])
    b.store("x", 0, b.apply("mul", b.apply("sub", x, b.apply("mul", w[2], z)), w[0]))
    b.store("x", 1, z)
    return Source(
        tapes={"rhs": rhs, "factor": factor, "solve": b.tape("solve", "w", "x")},
        tableau=TABLEAU,
        facts={"names": ["x", "z"]},
    )


def textbook_step(y: Floats, q: Floats, h: float, rtol: float, atol: Floats) -> tuple[Floats, Floats, float]:
    """New state, stage vectors and mean squared error of one patient, with a dense solve for each stage."""
    a, k, c, d = q
    jacobian = np.array([[-a + k * y[1], k * y[0]], [-k * y[1], -d - k * y[0]]])
    matrix = np.eye(2) / (TABLEAU.gamma * h) - jacobian
    stages = np.zeros((TABLEAU.stages, 2))
    for i in range(TABLEAU.stages):
        x, z = y + TABLEAU.a[i] @ stages
        rate = np.array([k * x * z - a * x, c - d * z - k * x * z])
        stages[i] = np.linalg.solve(matrix, rate + TABLEAU.c[i] @ stages / h)
    new = y + TABLEAU.a[-1] @ stages + stages[-1]
    error = stages[-1] / (atol + rtol * np.maximum(abs(y), abs(new)))
    return new, stages, float(np.mean(error**2))


def check_step(kernels: Kernels) -> None:
    """``step``, ``dense`` and ``interpolate`` of a library of `two_states`, each lane another patient and step size."""
    lanes = kernels.lanes
    rng = np.random.default_rng(5)
    y, q = rng.uniform(0.5, 2.0, (2, lanes)), rng.uniform(0.1, 3.0, (4, lanes))
    h, atol = rng.uniform(0.01, 0.5, lanes), np.array([1e-6, 1e-3])
    ctl = np.array([1 / h, 1 / (TABLEAU.gamma * h), np.full(lanes, 1e-4), np.zeros(lanes), np.zeros(lanes)])
    K, u, w = np.empty((8, 2, lanes)), np.empty((2, lanes)), np.empty((5, lanes))
    D, theta, out = np.empty((3, 2, lanes)), rng.uniform(0, 1, lanes), np.empty((2, lanes))
    call(kernels, "step", y, q, ctl, atol, K, u, w)
    call(kernels, "dense", K, D)
    call(kernels, "interpolate", y, u, D, theta, out)
    for lane in range(lanes):
        new, stages, error = textbook_step(y[:, lane], q[:, lane], h[lane], 1e-4, atol)
        np.testing.assert_allclose(u[:, lane], new, rtol=1e-13, atol=1e-12)  # stage sums cancel
        np.testing.assert_allclose(K[:, :, lane], stages, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(ctl[3, lane], error, rtol=1e-7)
        d, s = TABLEAU.dense @ stages, theta[lane]
        inside = (1 - s) * y[:, lane] + s * (new + (1 - s) * (d[0] + s * (d[1] + s * d[2])))
        np.testing.assert_allclose(out[:, lane], inside, rtol=1e-12, atol=1e-11)
    np.testing.assert_array_equal(ctl[4], w[4])
    np.testing.assert_array_equal(ctl[4], abs(w[1]))
