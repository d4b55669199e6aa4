"""Walking the same steps again: differences become smooth, and derivatives of derivatives possible."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from frozen_scheme import benchmark_problem, laws, worst
from pkmodel.compiler.engine import Engine
from pkmodel.compiler.gradient import Gradient
from support import report

type Floats = NDArray[np.float64]


@pytest.mark.parametrize("name", ["P2s", "laws"])
def test_differences_of_replayed_runs_are_the_tangents(name: str) -> None:
    problem = laws() if name == "laws" else benchmark_problem(name).until(168.0)
    engine, p, eps = Engine(problem.system), problem.p, 1e-5
    run = engine.run(p, problem.records, problem.times, 1e-6, problem.atol, write_history=True)
    tangents = Gradient(engine).tangents(p, np.diag(p), problem.records, problem.times, 1e-6, problem.atol)

    def replayed(sign: float, k: int) -> Floats:
        q = p.copy()
        q[k] *= 1 + sign * eps
        again = engine.run(q, problem.records, problem.times, 1e-6, problem.atol, replay=run.history)
        return np.asarray(again.out[0])

    differences = np.stack([(replayed(1, k) - replayed(-1, k)) / (2 * eps) for k in range(len(p))], axis=-1)
    size = np.abs(differences).max(axis=(0, 2))[None, :, None]  # of each state: differences of small ones are noise
    error = float((np.abs(tangents.dout - differences) / size).max())
    report(f"{name}: differences under replay", 0.0, error, atol=2e-9)


def test_second_derivatives_against_differences_of_tight_solutions() -> None:
    problem = laws()
    gradient, chosen = Gradient(Engine(problem.system)), [1, 3, 4, 9]
    directions = np.diag(problem.p)[chosen]
    got = gradient.second(problem.p, directions, problem.records, problem.times, 1e-8, 1e-11)

    def tight(step: Floats) -> Floats:
        return gradient.tangents(
            problem.p + step, directions, problem.records, problem.times, 1e-11, 1e-13
        ).dout  # fmt: skip

    for a, direction in enumerate(directions):
        wide, near = ((tight(h * direction) - tight(-h * direction)) / (2 * h) for h in (2e-3, 1e-3))
        expected = (4 * near - wide) / 3
        name = problem.system.parameters[chosen[a]].name
        report(f"second derivatives by {name}", 0.0, worst(got[..., a], expected), atol=2e-5)
    assert np.array_equal(got, got.swapaxes(2, 3))


def test_replayed_second_derivatives_are_smoother_than_adaptive_ones() -> None:
    """At rtol 1e-6 the steps of neighbouring parameters differ, and differences of their tangents show it."""
    problem = benchmark_problem("P3").until(335.0)
    gradient, p = Gradient(Engine(problem.system), range(2)), problem.p
    directions = np.diag(p)[:2]
    arguments = (problem.records, problem.times)
    truth = gradient.second(p, directions, *arguments, 1e-9, 1e-10)
    replayed = gradient.second(p, directions, *arguments, 1e-6, problem.atol)

    def adaptive(direction: Floats) -> Floats:
        ahead, behind = (
            gradient.tangents(p + s * 1e-4 * direction, directions, *arguments, 1e-6, problem.atol).dout
            for s in (1, -1)
        )
        return (ahead - behind) / 2e-4

    rough = np.stack([adaptive(d) for d in directions], axis=-1)
    shape = (*truth.shape[:2], -1)
    smooth = worst(replayed.reshape(shape), truth.reshape(shape))
    jumpy = worst(rough.reshape(shape), truth.reshape(shape))
    print(
        f"second derivatives of P3 at rtol 1e-6: error {smooth:.1e} under replay, {jumpy:.1e} with steps of their own"
    )
    report("under replay", 0.0, smooth, atol=5e-5)
    assert smooth < jumpy
