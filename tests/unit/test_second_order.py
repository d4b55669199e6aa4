"""The matrices of a stage, against complex steps of the expressions they come from."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from numpy.typing import NDArray

from frozen_scheme import TINY, laws
from pkmodel.compiler.programs import programs
from pkmodel.compiler.second_order import second_order
from pkmodel.compiler.sensitivity_programs import SensitivityPrograms, sensitivity_programs
from pkmodel.compiler.tape_reference import evaluate
from support import report

type Floats = NDArray[np.float64]

SYSTEM = laws().system
BASE = programs(SYSTEM)
N, K = len(SYSTEM.states), len(SYSTEM.parameters)
RANDOM = np.random.default_rng(5)
Y, START, Z, S, V = RANDOM.uniform(0.5, 2.0, (5, N))
STAGE = RANDOM.standard_normal(N)
P = np.append(laws().p, 0.7)
DP = RANDOM.standard_normal(K) * P


def q_of(tapes: SensitivityPrograms) -> Floats:
    q = np.zeros(tapes.nq)
    q[:K] = P
    evaluate(tapes.tapes["constants"], q=q)
    return q


def jacobian(y: NDArray[np.complex128], p: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """SymPy's own, not the project's derivative."""
    matrix = sp.Matrix(SYSTEM.rates).jacobian(sp.Matrix(SYSTEM.states))
    least = lambda a, b: np.where(np.real(a) <= np.real(b), a, b)  # noqa: E731
    step = lambda x, _=0: np.where(np.real(x) > 0, 1.0, 0.0)  # noqa: E731
    f = sp.lambdify([SYSTEM.states, SYSTEM.parameters], matrix, [{"Min": least, "Heaviside": step}, "numpy"])
    return np.asarray(f(y, p), dtype=complex)


def rates(y: NDArray[np.complex128], p: NDArray[np.complex128]) -> NDArray[np.complex128]:
    least = lambda a, b: np.where(np.real(a) <= np.real(b), a, b)  # noqa: E731
    f = sp.lambdify([SYSTEM.states, SYSTEM.parameters], list(SYSTEM.rates), [{"Min": least}, "numpy"])
    return np.asarray(f(y, p), dtype=complex)


def pushed(tapes: SensitivityPrograms, z: Floats, s: Floats, dp: Floats) -> Floats:
    """[J(Y) - J(y)] z + G s + F dp, by the programs."""
    q = q_of(tapes)
    M, k, weights = np.zeros(tapes.entries), np.zeros(N), np.zeros(2 * tapes.levers)
    evaluate(tapes.tapes["prepare"], Y=Y, u=STAGE, y=START, q=q, M=M)
    evaluate(tapes.tapes["push"], Z=z, s=s, M=M, k=k)
    evaluate(tapes.tapes["push_levers"], q=q, dp=dp, weights=weights)
    for row, entry, weight in tapes.places:
        k[row] += M[entry] * weights[weight]
    return k


def test_a_stage_is_differentiated_completely() -> None:
    """d/de of f(Y + e Z, p + e dp) + J(y + e s, p + e dp) u - J(y) e Z."""
    p = P + 1j * TINY * DP
    expected = (rates(Y + 1j * TINY * Z, p) + jacobian(START + 1j * TINY * S, p) @ STAGE).imag / TINY
    expected -= jacobian(START + 0j, P + 0j).real @ Z
    got = pushed(sensitivity_programs(BASE, range(K), stride=1), Z, S, DP)
    for i in range(N):
        report(f"row {SYSTEM.states[i]}", float(expected[i]), float(got[i]), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("free", [range(K), (1, 4), ()])
def test_pull_is_the_transposed_of_push(free: tuple[int, ...]) -> None:
    tapes = sensitivity_programs(BASE, free, stride=1)
    q, g, b = q_of(tapes), np.array([3.0]), RANDOM.standard_normal(N)
    z, back, bar, pbar = np.zeros(N), np.zeros(N), np.zeros(max(tapes.levers, 1)), np.zeros(K)
    evaluate(tapes.tapes["pull"], Y=Y, y=START, u=STAGE, v=V, b=b, q=q, g=g, z=z, back=back, bar=bar)
    evaluate(tapes.tapes["pull_levers"], q=q, bar=bar, pbar=pbar)
    none = np.zeros(N)
    dp = np.zeros(K)
    dp[list(free)] = DP[list(free)]
    moving = z - (g[0] * V - b)
    report("states", float(V @ pushed(tapes, Z, none, np.zeros(K))), float(moving @ Z), rtol=1e-12)
    report("start", float(V @ pushed(tapes, none, S, np.zeros(K))), float((back - z) @ S), rtol=1e-12)
    report("parameters", float(V @ pushed(tapes, none, none, dp)), float(pbar @ dp), rtol=1e-12, atol=1e-14)
    assert set(np.flatnonzero(pbar)) <= set(free)


def test_only_free_parameters_and_moving_entries_are_written() -> None:
    second = second_order(BASE.equations, [1])
    assert {e.column for e in second.steering} == {1}
    assert {e.column for e in second.reported_by_parameter} <= {1}
    everything = second_order(BASE.equations, range(K))
    assert len(second.levers) < len(everything.levers)
    states = set(SYSTEM.states) | set(everything.start) | set(everything.stage) | set(everything.cores)
    assert all(e.value.free_symbols & states for e in (*everything.moving, *everything.curvature))
    assert not any(lever.free_symbols & states for lever in everything.levers)
