"""Tangents are the derivatives of the discrete solution, to the last digits."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from frozen_scheme import Problem, benchmark_problem, complex_step, laws, worst
from pkmodel.compiler.engine import Engine
from pkmodel.compiler.gradient import Gradient
from pkmodel.compiler.sensitivity_code import Code, SensitivityCode
from pkmodel.compiler.walks import Tangents
from pkmodel.errors import SimulationError
from pkmodel.solve.records import Kind, Records, records
from pkmodel.solve.status import Status
from support import report

type Floats = NDArray[np.float64]

CASES = {"P1": None, "P2s": 10.0, "P3": 2.0, "laws": None}  # until which hour


def case(name: str) -> Problem:
    problem = laws() if name == "laws" else benchmark_problem(name)
    end = CASES[name]
    return problem if end is None else problem.until(end)


def all_directions(problem: Problem) -> tuple[Floats, Floats, Floats]:
    """dp, dvalue, dinitial: every parameter, every record's value, every initial state."""
    k, events, n = len(problem.p), problem.records.time.shape[1], len(problem.system.states)
    unit = np.eye(k + events + n)
    return unit[:, :k], unit[:, k : k + events].T, unit[:, k + events :]


@pytest.mark.parametrize("name", CASES)
def test_tangent_is_the_complex_step_through_the_same_steps(name: str) -> None:
    problem, engine = case(name), Engine(case(name).system)
    dp, dvalue, dinitial = all_directions(problem)
    run = engine.run(problem.p, problem.records, problem.times, 1e-5, problem.atol, write_history=True)
    assert run.history is not None
    got = Gradient(engine).tangents(
        problem.p, dp, problem.records, problem.times, 1e-5, problem.atol, dvalue=dvalue, dinitial=dinitial,
        replay=run.history,
    )  # fmt: skip
    expected = complex_step(engine.programs, run.history.size, problem, problem.p, dp, dvalue, dinitial)
    report(f"{name}: worst error of {len(dp)} tangents", 0.0, worst(got.dout, expected), atol=1e-12)
    report(
        f"{name}: outputs beside them",
        0.0,
        float(np.abs(got.out - run.out[0]).max() / np.abs(run.out).max()),
        atol=1e-13,
    )


def test_any_number_of_directions_in_vectors_of_any_width() -> None:
    problem, engine = laws(), Engine(laws().system)
    gradient, full = Gradient(engine), np.diag(problem.p)
    whole = gradient.tangents(problem.p, full, problem.records, problem.times).dout
    for count, width in ((1, None), (3, 4), (5, None), (9, 8), (11, 2), (11, 16)):
        part = gradient.tangents(problem.p, full[:count], problem.records, problem.times, width=width).dout
        report(f"{count} directions, width {width}", 0.0, worst(part, whole[..., :count]), atol=1e-13)


def test_dense_directions_are_sums_of_the_unit_ones() -> None:
    problem, engine = laws(), Engine(laws().system)
    gradient, mix = Gradient(engine), np.random.default_rng(1).standard_normal((6, len(problem.p)))
    units = gradient.tangents(problem.p, np.eye(len(problem.p)), problem.records, problem.times).dout
    mixed = gradient.tangents(problem.p, mix, problem.records, problem.times).dout
    report("dense directions", 0.0, worst(mixed, units @ mix.T), atol=1e-13)


@pytest.mark.parametrize("free", [(), (1,), ("g", "Km"), (0, 3, 9)])
def test_only_what_is_free_is_differentiated(free: tuple[int | str, ...]) -> None:
    problem, engine = laws(), Engine(laws().system)
    whole = Gradient(engine).tangents(problem.p, np.eye(len(problem.p)), problem.records, problem.times).dout
    gradient = Gradient(engine, free)
    chosen = list(gradient.free)
    some = gradient.tangents(problem.p, np.eye(len(problem.p))[chosen], problem.records, problem.times).dout
    assert some.shape[2] == len(free)
    if chosen:
        report(f"free {free}", 0.0, worst(some, whole[..., chosen]), atol=1e-13)
    with pytest.raises(SimulationError, match=r"only .* is free; make another Gradient"):
        gradient.tangents(problem.p, np.ones((1, len(problem.p))), problem.records, problem.times)


class AlwaysPivoting(SensitivityCode):
    """Code that solves every step with pivoting, as if the fixed order had failed."""

    def forward(self, width: int, *, pivoting: bool = False) -> Code:
        return super().forward(width, pivoting=True)


def test_scalar_back_end_and_pivoting_agree_with_the_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, engine = laws(), Engine(laws().system)
    dp, dvalue, dinitial = all_directions(problem)
    run = engine.run(problem.p, problem.records, problem.times, write_history=True, write_states=True)

    def tangents(gradient: Gradient) -> Tangents:
        return gradient.tangents(
            problem.p, dp, problem.records, problem.times, dvalue=dvalue, dinitial=dinitial, history=run.history
        )

    fast = tangents(Gradient(engine))
    pivoting = Gradient(engine)
    pivoting.code = AlwaysPivoting(engine, range(len(problem.system.parameters)))
    report("pivoting", 0.0, worst(tangents(pivoting).dout, fast.dout), atol=1e-11)
    monkeypatch.setenv("PKMODEL_BACKEND", "scalar")
    plain = Gradient(Engine(problem.system))
    report("scalar back end", 0.0, worst(tangents(plain).dout, fast.dout), atol=1e-12)


def moved(acts: Records, directions: Floats) -> Records:
    """Records with other times."""
    return Records(acts.time + directions, acts.kind, acts.index, acts.value)


# Which records move together (records of equal time move as one, or they would change places), and by how much outputs
# near them must stay away: an output at the time of a record has a one-sided derivative only.
MOVES = {"first switch": [1], "second switch": [2], "end of infusion": [4], "four at once": [5, 6, 7, 8], "reset": [10]}


@pytest.mark.parametrize("name", MOVES)
def test_event_times_against_differences(name: str) -> None:
    """Richardson differences of tight solutions; the derivative of the exact solution, so not to the last digit."""
    problem, engine = laws(), Engine(laws().system)
    times = np.setdiff1d(problem.times, problem.records.time)
    direction = np.zeros(problem.records.time.shape[1])
    direction[MOVES[name]] = 1.0

    def solve(shift: float) -> Floats:
        acts = moved(problem.records, shift * direction)
        return np.asarray(engine.run(problem.p, acts, times, 1e-12, 1e-14).out[0])

    def difference(h: float) -> Floats:
        return (solve(h) - solve(-h)) / (2 * h)

    h = 2e-3
    expected = (4 * difference(h / 2) - difference(h)) / 3
    got = Gradient(engine).tangents(
        problem.p, np.zeros((1, len(problem.p))), problem.records, times, 1e-10, 1e-12, dtime=direction[:, None]
    )
    report(f"time of {name}", 0.0, worst(got.dout, expected[..., None]), atol=2e-7)


def test_lag_of_a_dose_in_an_output_at_its_time_is_one_sided() -> None:
    """The output follows the dose, so a later dose changes it by -f: at once, before anything has flowed away."""
    problem, engine = laws(), Engine(laws().system)
    acts = records([(1.0, Kind.ADD_STATE, 0, 5.0)])
    got = Gradient(engine).tangents(problem.p, np.zeros((1, 11)), acts, [0.5, 1.0], dtime=np.ones((1, 1)))
    absorbed = problem.p[0] * 5.0  # ka A: what the dose adds to the rate of C, which is the report
    report("dC/dlag at the dose", -absorbed, float(got.dout[1, 0, 0]), rtol=1e-12)
    assert np.array_equal(got.dout[0], np.zeros((4, 1)))


def test_failures_are_told() -> None:
    problem, engine = laws(), Engine(laws().system)
    p = problem.p.copy()
    p[7] = -50.0  # the logarithm of a negative number
    got = Gradient(engine).tangents(p, np.eye(11), problem.records, problem.times)
    assert got.status == Status.NOT_FINITE and np.isnan(got.dout).all()
    with pytest.raises(SimulationError, match="dvalue has shape"):
        Gradient(engine).tangents(problem.p, np.eye(11), problem.records, problem.times, dvalue=np.ones((2, 2)))
    with pytest.raises(SimulationError, match="no primary parameter 'kb' to be free; allowed: ka, Vm"):
        Gradient(engine, ["kb"])
