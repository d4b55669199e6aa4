"""How far the derivatives of the discrete solution are from those of the exact one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import mpmath as mp  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import pytest
import sympy as sp
from numpy.typing import NDArray

from frozen_scheme import Problem, benchmark_problem, worst
from pkmodel.compiler.engine import Engine, History
from pkmodel.compiler.gradient import Gradient
from pkmodel.compiler.second_order import Element, SecondOrder
from pkmodel.solve.records import Kind
from support import report

type Floats = NDArray[np.float64]


@lru_cache
def engine(name: str) -> Engine:
    return Engine(benchmark_problem(name).system)


def relative(derivatives: Floats, p: Floats) -> Floats:
    return derivatives * p


def error(got: Floats, exact: Floats) -> float:
    """Largest error over times, states and parameters, in units of the state's largest sensitivity."""
    size = np.abs(exact).max(axis=(0, 2))[None, :, None] + 1e-300
    return float((np.abs(got - exact) / size).max())


@lru_cache
def exact_linear() -> tuple[Floats, Floats]:
    """P1 in 34 digits: times, and derivatives by all parameters times the parameter.

    With z = (y, infusion) the problem is z' = A z, and the derivative along a parameter obeys (dz, z)' = (A dz + dA z,
    A z): an exponential of a block matrix (Frechet derivative; Higham 2008, Functions of Matrices, (10.44),
    doi:10.1137/1.9780898717778).
    """
    problem = benchmark_problem("P1")
    mp.mp.dps = 34
    states = list(problem.system.states)
    infusion = next(s for s in problem.system.parameters if s.name == "Rinf")
    extended = sp.Matrix([*problem.system.rates, 0]).jacobian([*states, infusion])
    n = len(states) + 1
    times = problem.times[[0, 12, 20, 29]]
    at = {s: mp.mpf(float(v)) for s, v in zip(problem.system.parameters, problem.p, strict=True)}
    result = np.zeros((len(times), n - 1, len(problem.p)))
    matrix = sp.lambdify(problem.system.parameters, extended, "mpmath")
    A = matrix(*at.values())
    for k, s in enumerate(problem.system.parameters):
        if s == infusion:
            continue  # what the records switch is not differentiated
        block = mp.zeros(2 * n)
        block[:n, :n], block[n:, n:] = A, A
        block[:n, n:] = sp.lambdify(problem.system.parameters, extended.diff(s), "mpmath")(*at.values())
        z, t = mp.zeros(2 * n, 1), 0.0
        z[n] = mp.mpf(10)  # the bolus
        z[2 * n - 1] = mp.mpf(20)  # the infusion, 20 nmol/h for half an hour
        for stop in sorted({*times, 0.5}):
            z, t = mp.expm(block * (mp.mpf(float(stop)) - mp.mpf(t))) * z, float(stop)
            if stop == 0.5:
                z[2 * n - 1] = mp.mpf(0)
            if stop in times:
                result[list(times).index(stop), :, k] = [float(x * at[s]) for x in z[: n - 1]]
    return times, result


@pytest.mark.parametrize(
    ("rtol", "allowed"), [(1e-4, 2e-4), (1e-6, 3e-6), (1e-8, 3e-8), (1e-10, 3e-10), (1e-12, 1e-11)]
)
def test_a_linear_system_against_34_digits(rtol: float, allowed: float) -> None:
    problem, (times, exact) = benchmark_problem("P1"), exact_linear()
    got = Gradient(engine("P1")).tangents(problem.p, np.diag(problem.p), problem.records, times, rtol, 1e-3 * rtol)
    keep = [k for k, s in enumerate(problem.system.parameters) if s.name != "Rinf"]
    report(f"P1 sensitivities at rtol {rtol:g}", 0.0, error(got.dout[..., keep], exact[..., keep]), atol=allowed)


@lru_cache
def truth(name: str, end: float) -> Floats:
    """Own tangents at rtol 1e-11, times the parameters; checked against differences of runs below."""
    problem = benchmark_problem(name).until(end)
    got = Gradient(engine(name)).tangents(
        problem.p, np.diag(problem.p), problem.records, problem.times, 1e-11, problem.atol * 1e-5
    )
    return got.dout


def test_truth_of_the_receptor_model_against_differences() -> None:
    """Richardson differences of runs at rtol 1e-12; their own floor is about 1e-7."""
    problem = benchmark_problem("P2").until(1343.0)
    p, chosen = problem.p, [0, 1, 3, 4, 7, 9, 12, 17, 26, 33, 40, 60]
    shifts = (1e-3, -1e-3, 2e-3, -2e-3)
    P = np.repeat(p[None], 4 * len(chosen), axis=0)
    for a, k in enumerate(chosen):
        for b, shift in enumerate(shifts):
            P[4 * a + b, k] *= 1 + shift
    out = engine("P2").run(P, problem.records, problem.times, 1e-12, 1e-15).out
    out = out.reshape(len(chosen), 4, *out.shape[1:])
    near, wide = (out[:, 0] - out[:, 1]) / 2e-3, (out[:, 2] - out[:, 3]) / 4e-3
    differences = ((4 * near - wide) / 3).transpose(1, 2, 0)
    exact = truth("P2", 1343.0)
    size = np.abs(exact).max(axis=(0, 2))[None, :, None]
    gap = float((np.abs(exact[..., chosen] - differences) / size).max())
    report("P2: tangents at 1e-11 against differences", 0.0, gap, atol=3e-7)


@pytest.mark.parametrize(("rtol", "allowed"), [(1e-6, 5e-6), (1e-7, 1e-6)])
def test_all_61_sensitivities_of_the_receptor_model(rtol: float, allowed: float) -> None:
    """Four cycles, 74 states, 200 times. Measured: 4.0e-6 and 6.8e-7 (median of eight patients 3.0e-6 and 2.0e-7)."""
    problem = benchmark_problem("P2")
    got = Gradient(engine("P2")).tangents(
        problem.p, np.diag(problem.p), problem.records, problem.times, rtol, problem.atol * rtol / 1e-6
    )
    report(f"P2 sensitivities at rtol {rtol:g}", 0.0, error(got.dout, truth("P2", np.inf)), atol=allowed)


def without_curvature(second: SecondOrder) -> SecondOrder:
    """G left out: as if the Jacobian did not change with the states."""
    return replace(second, curvature=())


def without_slope(second: SecondOrder) -> SecondOrder:
    """d(J u)/dp left out: as if the Jacobian did not change with the parameters."""
    nothing = dict.fromkeys(second.stage, sp.Integer(0))
    return replace(
        second,
        cores={s: e.xreplace(nothing) for s, e in second.cores.items()},
        forcing=tuple(Element(e.row, e.column, e.value.xreplace(nothing)) for e in second.forcing),
    )


@pytest.mark.parametrize("left_out", [without_curvature, without_slope, lambda s: without_slope(without_curvature(s))])
@pytest.mark.parametrize("name", ["P1", "P2s"])
def test_a_term_left_out_is_noticed(name: str, left_out: Callable[[SecondOrder], SecondOrder]) -> None:
    """Half of the derivative of the Jacobian dropped: the error is a hundred times what is allowed."""
    problem = benchmark_problem(name).until(168.0)
    exact = truth(name, 168.0)

    def wrong_by(gradient: Gradient) -> float:
        found = gradient.tangents(problem.p, np.diag(problem.p), problem.records, problem.times, 1e-6, problem.atol)
        return error(found.dout, exact)

    right, wrong = wrong_by(Gradient(engine(name))), wrong_by(Gradient(engine(name), transform=left_out))
    print(f"{name}: error {right:.1e}, with the term left out {wrong:.1e}")
    assert right < 5e-6
    if name == "P1" and left_out is without_curvature:
        assert wrong == right  # a linear system has no curvature
    else:
        assert wrong > 1e-4


def equal_steps(count: int, length: float) -> History:
    size = np.full(count, length / count)
    size[-1] *= -1  # meets the last output
    return History(np.array([0, count]), size, np.zeros(0, np.int64), np.zeros((0, 0)))


def test_order_of_convergence() -> None:
    """Halving equal steps divides the error of states and sensitivities alike by about 2^5."""
    full = benchmark_problem("P1")
    kinds = full.records.kind[0] == Kind.ADD_STATE
    acts = replace(
        full.records, time=full.records.time[:, kinds], kind=full.records.kind[:, kinds],
        index=full.records.index[:, kinds], value=full.records.value[:, kinds],
    )  # fmt: skip
    problem = Problem(full.system, full.p, acts, np.array([8.0]), full.atol)
    gradient = Gradient(engine("P1"))

    def errors(count: int) -> tuple[float, float]:
        found = gradient.tangents(problem.p, np.diag(problem.p), acts, problem.times, replay=equal_steps(count, 8.0))
        return float(np.abs(found.out - exact.out).max()), worst(found.dout[..., :8], exact.dout[..., :8])

    exact = gradient.tangents(problem.p, np.diag(problem.p), acts, problem.times, 1e-13, 1e-16)
    coarse, fine = errors(16), errors(32)
    for name, a, b in zip(("states", "sensitivities"), coarse, fine, strict=True):
        order = float(np.log2(a / b))
        print(f"order of {name}: {order:.2f} (errors {a:.1e}, {b:.1e})")
        assert 4.5 < order < 6.5
