"""The implicit solver: its order, exact cases, sensitivities of every kind, and how it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mpmath  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from pkmodel.errors import SimulationError
from pkmodel.solve import esdirk_tableau
from pkmodel.solve.jit import njit
from pkmodel.solve.kernels import DFDP_SIGNATURE, DFDU_SIGNATURE, JAC_SIGNATURE, RHS_SIGNATURE, Kernels
from pkmodel.solve.linear import solve_linear_sens
from pkmodel.solve.status import Status
from pkmodel.solve.stiff import solve_stiff, solve_stiff_sens
from support import ROOT, report

type Floats = NDArray[np.float64]


def order_conditions(A: Floats, b: Floats, order: int) -> dict[str, float]:
    """Residuals of the order conditions of a Runge-Kutta method, one per rooted tree (Butcher)."""
    c = A.sum(axis=1)
    trees: dict[int, dict[str, tuple[Any, float]]] = {
        1: {"1": (b.sum(), 1)},
        2: {"c": (b @ c, 1 / 2)},
        3: {"c2": (b @ c**2, 1 / 3), "Ac": (b @ A @ c, 1 / 6)},
        4: {
            "c3": (b @ c**3, 1 / 4),
            "cAc": (b @ (c * (A @ c)), 1 / 8),
            "Ac2": (b @ A @ c**2, 1 / 12),
            "AAc": (b @ A @ A @ c, 1 / 24),
        },
        5: {
            "c4": (b @ c**4, 1 / 5),
            "c2Ac": (b @ (c**2 * (A @ c)), 1 / 10),
            "(Ac)2": (b @ (A @ c) ** 2, 1 / 20),
            "cAc2": (b @ (c * (A @ c**2)), 1 / 15),
            "cAAc": (b @ (c * (A @ A @ c)), 1 / 30),
            "Ac3": (b @ A @ c**3, 1 / 20),
            "AcAc": (b @ A @ (c * (A @ c)), 1 / 40),
            "AAc2": (b @ A @ A @ c**2, 1 / 60),
            "AAAc": (b @ A @ A @ A @ c, 1 / 120),
        },
    }
    return {name: float(got) - want for q in range(1, order + 1) for name, (got, want) in trees[q].items()}


def test_order_conditions() -> None:
    A = esdirk_tableau.A
    for row, order in ((6, 5), (5, 4)):
        residuals = order_conditions(A, A[row], order)
        assert len(residuals) == {5: 17, 4: 8}[order]
        worst = max(abs(r) for r in residuals.values())
        report(f"order {order} conditions of row {row + 1}, worst residual", 0.0, worst, atol=5e-15)
    assert abs(order_conditions(A, A[5], 5)["c4"]) > 1e-4  # the comparison must not be of order 5 as well
    assert np.diag(A)[1:].tolist() == [esdirk_tableau.GAMMA] * 6
    np.testing.assert_allclose(esdirk_tableau.C[5:], 1.0, rtol=1e-14)


def test_stability_at_infinity() -> None:
    # R(z) = 1 + z b^T (I - z A)^-1 1 for z -> -infinity: 0 for the solution (L-stable), below 1 for the comparison.
    A = esdirk_tableau.A
    for row, allowed in ((6, 1e-6), (5, 1.0)):
        size = row + 1
        R = 1 + -1e9 * A[row, :size] @ np.linalg.solve(np.eye(size) + 1e9 * A[:size, :size], np.ones(size))
        report(f"R(-1e9) of row {row + 1}", 0.0, float(R), atol=allowed)


@njit(RHS_SIGNATURE, cache=False)
def saturable_rhs(t: float, y: Floats, u: Floats, p: Floats, out: Floats) -> None:
    out[0] = -p[0] * y[0] / (p[1] + y[0])


@njit(JAC_SIGNATURE, cache=False)
def saturable_jac(t: float, y: Floats, u: Floats, p: Floats, out: Floats) -> None:
    out[0, 0] = -p[0] * p[1] / (p[1] + y[0]) ** 2


@njit(DFDP_SIGNATURE, cache=False)
def saturable_dfdp(t: float, y: Floats, u: Floats, p: Floats, out: Floats) -> None:
    out[0, 0] = -y[0] / (p[1] + y[0])
    out[0, 1] = p[0] * y[0] / (p[1] + y[0]) ** 2


def saturable_exact(v: float, k: float, a: float, t: float) -> mpmath.mpf:
    """Michaelis-Menten elimination from amount a: k W(a/k exp((a - v t)/k)), W Lambert's function."""
    v, k, a, t = mpmath.mpf(v), mpmath.mpf(k), mpmath.mpf(a), mpmath.mpf(t)
    return k * mpmath.lambertw(a / k * mpmath.exp((a - v * t) / k)).real


def no_events(times: list[float], n: int, q: int = 0) -> tuple[Floats, ...]:
    m = len(times) - 1
    return np.array(times), np.zeros((m + 1, n)), np.zeros((m, n)), np.zeros((m, q)), np.zeros((m, q))


def no_seeds(nd: int, m: int, n: int, q: int = 0) -> dict[str, Any]:
    return {
        "djumps": np.zeros((nd, m + 1, n)),
        "drates": np.zeros((nd, m, n)),
        "du0_d": np.zeros((nd, m, q)),
        "ddu_d": np.zeros((nd, m, q)),
    }


def test_saturable_elimination_and_its_order() -> None:
    kernels = Kernels(saturable_rhs, saturable_jac)
    expected = float(saturable_exact(2.0, 1.5, 10.0, 6.0))
    steps, errors = [], []
    for rtol in (1e-8, 1e-9, 1e-10, 1e-11, 1e-12):
        result = solve_stiff(kernels, [2.0, 1.5], [10.0], *no_events([0.0, 6.0], 1), rtol=rtol, atol=1e-14)
        assert result.status == Status.OK
        got = float(result.X[-1, 0])
        report(f"Michaelis-Menten, rtol {rtol:g}, {result.steps} steps", expected, got, rtol=20 * rtol)
        steps.append(result.steps)
        errors.append(abs(got - expected) / expected)
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    report("observed order of convergence", 5.0, float(slope), atol=0.8)


def test_sensitivities_of_saturable_elimination() -> None:
    kernels = Kernels(saturable_rhs, saturable_jac, saturable_dfdp)
    P, dx0 = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), np.array([[0.0], [0.0], [1.0]])
    times, jumps, rates, u0, du = no_events([0.0, 2.0, 6.0], 1)
    seeds = no_seeds(3, 2, 1)
    args = (kernels, [2.0, 1.5], P, [10.0], dx0, times, jumps, seeds["djumps"], rates, seeds["drates"], u0, du)
    result = solve_stiff_sens(*args, seeds["du0_d"], seeds["ddu_d"], rtol=1e-9)
    with mpmath.workdps(30):
        point = (mpmath.mpf(2), mpmath.mpf("1.5"), mpmath.mpf(10))
        for d, name in enumerate(("Vmax", "Km", "dose")):
            which = tuple(int(d == i) for i in range(3))
            expected = mpmath.diff(lambda v, k, a: saturable_exact(v, k, a, 6.0), point, which)
            report(f"Michaelis-Menten, derivative by {name}", float(expected), result.S[-1, d, 0], rtol=1e-7)


RATES = np.array([[-200.0, 0.3], [0.5, -0.4]])
GAIN = np.array([[2.0, 0.0], [0.0, 1.0]])


@njit(RHS_SIGNATURE, cache=False)
def linear_rhs(t: float, y: Floats, u: Floats, p: Floats, out: Floats) -> None:
    out[0] = -p[0] * y[0] + p[1] * y[1] + 2.0 * u[0]
    out[1] = 0.5 * y[0] - 0.4 * y[1] + u[1]


@njit(JAC_SIGNATURE, cache=False)
def linear_jac(t: float, y: Floats, u: Floats, p: Floats, out: Floats) -> None:
    out[0, 0], out[0, 1], out[1, 0], out[1, 1] = -p[0], p[1], 0.5, -0.4


@njit(DFDP_SIGNATURE, cache=False)
def linear_dfdp(t: float, y: Floats, u: Floats, p: Floats, out: Floats) -> None:
    out[0, 0], out[0, 1] = -y[0], y[1]


@njit(DFDU_SIGNATURE, cache=False)
def linear_dfdu(t: float, y: Floats, u: Floats, p: Floats, out: Floats) -> None:
    out[0, 0], out[1, 1] = 2.0, 1.0


def test_everything_on_a_timeline_against_the_exact_solver() -> None:
    """Jumps, rates, kinked and jumping inputs, and the derivatives of each, on a stiff linear model."""
    rng = np.random.default_rng(3)
    n, q, m, nd = 2, 2, 8, 4
    line: dict[str, Any] = {
        "times": np.r_[0.0, rng.uniform(0.05, 2.0, m).cumsum()],
        "jumps": rng.uniform(0, 3, (m + 1, n)),
        "rates": rng.uniform(0, 3, (m, n)),
        "u0": rng.uniform(0, 3, (m, q)),
        "du": rng.uniform(-1, 1, (m, q)),
    }
    line["times"][4] = line["times"][3]  # two events at one time
    x0 = rng.uniform(0, 3, n)
    seeds = {name: rng.normal(size=s.shape) for name, s in no_seeds(nd, m, n, q).items()}
    seeds["dx0"] = rng.normal(size=(nd, n))
    P = rng.normal(size=(nd, 2))
    dA = np.zeros((nd, n, n))
    dA[:, 0, 0], dA[:, 0, 1] = -P[:, 0], P[:, 1]
    exact = solve_linear_sens(
        RATES, GAIN, np.zeros(n), dA, np.zeros((nd, n, q)), np.zeros((nd, n)), x0, **line, **seeds
    )
    kernels = Kernels(linear_rhs, linear_jac, linear_dfdp, linear_dfdu)
    p = [200.0, 0.3]
    result = solve_stiff_sens(kernels, p, P, x0, **line, **seeds, rtol=1e-9, atol=1e-11)
    assert result.status == Status.OK
    report("states, worst relative error", 0.0, float(np.abs(result.X / exact.X - 1).max()), atol=1e-7)
    scale = np.abs(exact.S).max(axis=(0, 2), keepdims=True)
    report("sensitivities, worst error over maximum", 0.0, float(np.abs((result.S - exact.S) / scale).max()), atol=1e-6)
    np.testing.assert_array_equal(result.X, solve_stiff(kernels, p, x0, **line, rtol=1e-9, atol=1e-11).X)
    loose: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-7}
    free = solve_stiff_sens(kernels, p, P, x0, **line, **seeds, **loose)
    tested = solve_stiff_sens(kernels, p, P, x0, **line, **seeds, **loose, satol=np.full((nd, n), 1e-7))
    error = [float(np.abs((r.S - exact.S) / scale).max()) for r in (free, tested)]
    print(
        f"S outside, inside the error test: errors {error[0]:.1e}, {error[1]:.1e}; {free.steps}, {tested.steps} steps"
    )
    assert tested.steps >= free.steps
    assert error[1] <= max(error[0], 1e-5)


@njit(RHS_SIGNATURE, cache=False)
def robertson_rhs(t: float, y: Floats, u: Floats, p: Floats, out: Floats) -> None:
    slow, fast, back = 0.04 * y[0], 3e7 * y[1] * y[1], 1e4 * y[1] * y[2]
    out[0], out[1], out[2] = back - slow, slow - back - fast, fast


@njit(JAC_SIGNATURE, cache=False)
def robertson_jac(t: float, y: Floats, u: Floats, p: Floats, out: Floats) -> None:
    out[0, 0], out[0, 1], out[0, 2] = -0.04, 1e4 * y[2], 1e4 * y[1]
    out[1, 0], out[1, 1], out[1, 2] = 0.04, -1e4 * y[2] - 6e7 * y[1], -1e4 * y[1]
    out[2, 1] = 6e7 * y[1]


def test_robertson() -> None:
    def f(t: float, y: Floats) -> list[float]:
        back, fast = 1e4 * y[1] * y[2], 3e7 * y[1] ** 2
        return [-0.04 * y[0] + back, 0.04 * y[0] - back - fast, fast]

    reference = solve_ivp(f, (0, 4e5), [1, 0, 0], method="Radau", rtol=1e-10, atol=1e-15, t_eval=[40.0, 4e5])
    kernels = Kernels(robertson_rhs, robertson_jac)
    result = solve_stiff(kernels, [], [1.0, 0.0, 0.0], *no_events([0.0, 40.0, 4e5], 3), rtol=1e-9, atol=1e-15)
    assert result.status == Status.OK
    for k, when in ((0, "40"), (1, "4e5")):
        for i in range(3):
            report(f"Robertson, y{i + 1} at {when}", reference.y[i, k], result.X[k + 1, i], rtol=1e-6)
    print(f"{result.steps} steps, {result.rejected} rejected")
    assert result.steps < 5000


@njit(RHS_SIGNATURE, cache=False)
def explosion_rhs(t: float, y: Floats, u: Floats, p: Floats, out: Floats) -> None:
    out[0] = y[0] * y[0]


@njit(JAC_SIGNATURE, cache=False)
def explosion_jac(t: float, y: Floats, u: Floats, p: Floats, out: Floats) -> None:
    out[0, 0] = 2.0 * y[0]


@njit(JAC_SIGNATURE, cache=False)
def wrong_jac(t: float, y: Floats, u: Floats, p: Floats, out: Floats) -> None:
    out[0, 0] = np.nan


@njit(RHS_SIGNATURE, cache=False)
def root_rhs(t: float, y: Floats, u: Floats, p: Floats, out: Floats) -> None:
    out[0] = -1.0 / (y[0] - 1.0)


def test_failures_are_statuses() -> None:
    explosion, line = Kernels(explosion_rhs, explosion_jac), no_events([0.0, 0.5, 2.0], 1)
    result = solve_stiff(explosion, [], [1.0], *line)
    assert result.status in (Status.STEP_TOO_SMALL, Status.NOT_FINITE, Status.NEWTON_FAILED)
    report("before the explosion the value stands", 2.0, float(result.X[1, 0]), rtol=1e-6)
    assert np.isnan(result.X[2, 0])
    assert solve_stiff(explosion, [], [1.0], *line, max_steps=3).status == Status.TOO_MANY_STEPS
    assert solve_stiff(Kernels(root_rhs, explosion_jac), [], [1.0], *line).status == Status.NOT_FINITE
    assert solve_stiff(Kernels(explosion_rhs, wrong_jac), [], [1.0], *line).status == Status.SINGULAR


def test_an_absolute_tolerance_far_below_rounding_does_no_harm() -> None:
    kernels, line = Kernels(robertson_rhs, robertson_jac), no_events([0.0, 40.0], 3)
    usual, minute = (solve_stiff(kernels, [], [1.0, 0.0, 0.0], *line, rtol=1e-8, atol=a) for a in (1e-15, 1e-30))
    assert minute.status == Status.OK, minute.message
    report("Robertson, y2 at 40, atol 1e-30", float(usual.X[1, 1]), float(minute.X[1, 1]), rtol=1e-6)


def test_arrays_that_may_not_be_written_to_are_taken() -> None:
    arrays = [np.array([2.0, 1.5]), np.array([10.0]), *no_events([0.0, 6.0], 1)]
    for a in arrays:
        a.setflags(write=False)
    result = solve_stiff(Kernels(saturable_rhs, saturable_jac), *arrays)
    report("read-only arrays", float(saturable_exact(2.0, 1.5, 10.0, 6.0)), float(result.X[1, 0]), rtol=1e-6)


def test_requests_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(SimulationError, match=r"rhs .* is not compiled as void"):
        Kernels(saturable_jac, saturable_jac)
    with pytest.raises(SimulationError, match=r"jac .* is not compiled as void"):
        Kernels(saturable_rhs, lambda t, y, u, p, out: None)
    kernels, line = Kernels(saturable_rhs, saturable_jac), no_events([0.0, 1.0], 1)
    with pytest.raises(SimulationError, match="rtol is 0"):
        solve_stiff(kernels, [1.0, 1.0], [1.0], *line, rtol=0.0)
    with pytest.raises(SimulationError, match="above zero"):
        solve_stiff(kernels, [1.0, 1.0], [1.0], *line, atol=0.0)
    times, jumps, rates, u0, du = line
    seeds = no_seeds(1, 1, 1)
    with pytest.raises(SimulationError, match="dfdp"):
        solve_stiff_sens(
            kernels, [1.0, 1.0], [[1.0, 0.0]], [1.0], [[0.0]], times, jumps, rates=rates, u0=u0, du=du, **seeds
        )


def test_a_second_process_compiles_nothing() -> None:
    code = (
        "import time; a = time.process_time()\n"
        "from pkmodel.solve import esdirk, exponential\n"
        "print(time.process_time() - a)\n"
        "print(sum(f.stats.cache_misses.total() for f in (esdirk.march, exponential.march, exponential.propagators)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(ROOT))}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    seconds, misses = ran.stdout.split()
    print(f"import of both solvers from cache: {float(seconds):.2f} s CPU")
    assert int(misses) == 0
