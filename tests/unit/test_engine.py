"""The engine: right against independent solvers, in both back ends, and honest where something fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import sympy as sp
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from pkmodel.compiler.autonomous import Autonomous
from pkmodel.compiler.engine import PIVOTING, Engine, History
from pkmodel.errors import SimulationError
from pkmodel.solve.lanes import march
from pkmodel.solve.records import Kind, Records, broadcast, records, stack
from pkmodel.solve.rosenbrock import GAMMA, A, C
from pkmodel.solve.status import Status
from support import report

type Floats = NDArray[np.float64]

NOTHING = records([])


def system(
    states: str, parameters: str, rates: str, *, initial: str = "", switched: int = 0, shown: str = ""
) -> Autonomous:
    """A system from its formulas, separated by semicolons."""
    names = {n: sp.Symbol(n, real=True) for n in f"{states} {parameters}".split()}

    def formulas(text: str) -> tuple[sp.Expr, ...]:
        return tuple(sp.sympify(part, locals=names) for part in text.split(";"))

    y, p = (tuple(names[n] for n in text.split()) for text in (states, parameters))
    return Autonomous(
        states=y, parameters=p, primary=len(p) - switched, rates=formulas(rates),
        initial=formulas(initial) if initial else (sp.Integer(0),) * len(y),
        report=formulas(shown) if shown else y, report_names=tuple((shown or states.replace(" ", ";")).split(";")),
    )  # fmt: skip


CHAIN = system("a b", "ka ke rate", "-ka*a + rate; ka*a - ke*b", switched=1)
ROBERTSON = system("x y z", "k1 k2 k3", "-k1*x + k3*y*z; k1*x - k2*y**2 - k3*y*z; k2*y**2", initial="1; 0; 0")
ROBERTSON_P = np.array([[0.04, 3e7, 1e4]])
FORCED = system("y t", "w k", "-k*(y - sin(w*t)) + w*cos(w*t); 1")  # y = sin(w t) whatever k, time as a state
TMDD = system(
    "A T R C", "kel kpt ktp V R0 kdeg kint kon koff",
    "-(kel + kpt)*A + ktp*T + V*(koff*C - kon*A/V*R); kpt*A - ktp*T; R0*kdeg - kdeg*R - kon*A/V*R + koff*C;"
    "kon*A/V*R - (kint + koff)*C",
    initial="0; 0; R0; 0", shown="A/V; R",
)  # fmt: skip
TMDD_P = np.array([0.106, 0.064, 0.123, 0.032, 64.31, 0.079, 2.0, 0.101, 10.1])


@cache
def _engine(of: Autonomous, backend: str) -> Engine:
    return Engine(of)


def tmdd() -> Engine:
    """An engine of TMDD for the back end of the moment, compiled once."""
    return _engine(TMDD, os.environ.get("PKMODEL_BACKEND", ""))


@pytest.fixture(params=["simd", "scalar"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both back ends, one after the other."""
    monkeypatch.setenv("PKMODEL_BACKEND", request.param)
    yield request.param


def equal_steps(duration: float, steps: int) -> History:
    """Steps of one size for one patient; the last meets the end."""
    size = np.full(steps, duration / steps)
    size[-1] = -size[-1]
    return History(np.array([0, steps]), size, np.zeros(0, np.int64), np.zeros((0, 0)))


def orders(engine: Engine, p: Floats, given: Records, duration: float, steps: tuple[int, ...], exact: Floats, at: Floats
           ) -> Floats:  # fmt: skip
    """Observed orders of the largest error at times `at`, from one number of steps to the next."""
    errors = [np.abs(engine.run(p, given, at, replay=equal_steps(duration, n)).out[0] - exact).max() for n in steps]
    return np.asarray(np.log(np.array(errors[:-1]) / errors[1:]) / np.log(np.array(steps[1:]) / steps[:-1]))


def test_order_on_a_linear_chain(backend: str) -> None:
    p, given = np.array([[1.2, 0.3]]), records([(0.0, Kind.ADD_STATE, 0, 1.0)])
    J = np.array([[-1.2, 0.0], [1.2, -0.3]])
    end = np.array([4.0])
    exact = expm(4.0 * J)[:, 0]
    found = orders(Engine(CHAIN), p, given, 4.0, (8, 16, 32), exact[None], end)
    assert found.min() > 4.8, found


def test_order_of_the_dense_output(backend: str) -> None:
    p, given = np.array([[1.2, 0.3]]), records([(0.0, Kind.ADD_STATE, 0, 1.0)])
    J = np.array([[-1.2, 0.0], [1.2, -0.3]])
    at = np.append(np.linspace(0.05, 3.95, 40), 4.0)  # inside steps
    exact = np.array([expm(t * J)[:, 0] for t in at])
    found = orders(Engine(CHAIN), p, given, 4.0, (8, 16, 32), exact, at)
    assert found[-1] > 4.5, found  # local error of order 5 where the polynomial dominates


def test_order_where_time_is_a_state(backend: str) -> None:
    p = np.array([[2.0, 0.7]])
    end = np.array([3.0])
    exact = np.array([[np.sin(6.0), 3.0]])
    found = orders(Engine(FORCED), p, NOTHING, 3.0, (12, 24, 48), exact, end)
    report(f"order with time as a state, {backend}", 5.0, found[-1], atol=0.4)


def robertson(t: float, y: Floats) -> list[float]:
    """The rates of Robertson's problem, for SciPy."""
    a, b, c = 0.04 * y[0], 3e7 * y[1] ** 2, 1e4 * y[1] * y[2]
    return [-a + c, a - b - c, b]


def test_order_on_robertson() -> None:
    y = solve_ivp(robertson, (0, 5), [1, 0, 0], "Radau", [1, 5], rtol=1e-12, atol=1e-17).y
    given = records([(0.0, Kind.SET_STATE, i, y[i, 0]) for i in range(3)])  # past the first transient
    found = orders(Engine(ROBERTSON), ROBERTSON_P, given, 4.0, (2, 4, 8), y[None, :, 1], np.array([4.0]))
    assert found.max() > 3.5, found  # stiff: the order falls below five


@cache
def robertson_exact() -> Floats:
    """Robertson's problem by SciPy at `LATE`."""
    return np.asarray(solve_ivp(robertson, (0, 4e4), [1, 0, 0], "Radau", LATE, rtol=1e-10, atol=1e-16).y.T)


LATE = np.geomspace(1e-3, 4e4, 25)


def test_robertson_against_radau(backend: str) -> None:
    run = Engine(ROBERTSON).run(ROBERTSON_P, NOTHING, LATE, rtol=1e-9, atol=1e-14)
    assert run.status[0] == Status.OK
    np.testing.assert_allclose(run.out[0], robertson_exact(), rtol=1e-6)


@cache
def receptor_exact() -> Floats:
    """Concentration and receptor by SciPy at 0.25, 2, 8, 24, 30 h: a dose at 0, and one at 24 h before the output."""
    kel, kpt, ktp, V, R0, kdeg, kint, kon, koff = TMDD_P

    def rate(t: float, y: Floats) -> list[float]:
        A, T, R, C = y
        bind = kon * A / V * R
        return [-(kel + kpt) * A + ktp * T + V * (koff * C - bind), kpt * A - ktp * T,
                R0 * kdeg - kdeg * R - bind + koff * C, bind - (kint + koff) * C]  # fmt: skip

    dose = np.array([10.0, 0, 0, 0])
    one = solve_ivp(rate, (0, 24), [10.0, 0, R0, 0], "Radau", [0.25, 2.0, 8.0, 24.0], rtol=1e-11, atol=1e-13).y.T
    one[3] += dose
    two = solve_ivp(rate, (24, 30), one[3], "Radau", [30.0], rtol=1e-11, atol=1e-13).y.T
    return np.asarray([[y[0] / V, y[2]] for y in (*one, *two)])


def test_receptor_model_against_radau(backend: str) -> None:
    given = records([(0.0, Kind.ADD_STATE, 0, 10.0), (24.0, Kind.ADD_STATE, 0, 10.0)])
    run = tmdd().run(TMDD_P[None], given, [0.25, 2.0, 8.0, 24.0, 30.0], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(run.out[0], receptor_exact(), rtol=2e-8)
    # mrgsolve's parameters of Mager & Jusko 2001, doi:10.1023/A:1014414520282; three solvers agree on the numbers
    report("CP(0.25 h), dose 10", 250.334191955, run.out[0, 0, 0], rtol=1e-8)
    report("R(2 h)", 3.20098148493, run.out[0, 1, 1], rtol=1e-7)


def test_infusion_is_switched_on_and_off() -> None:
    given = records([(1.0, Kind.ADD_PARAM, 2, 3.0), (3.0, Kind.ADD_PARAM, 2, -3.0)])
    at = np.array([0.5, 1.0, 2.0, 3.0, 5.0])
    run = Engine(CHAIN).run([[0.5, 0.1]], given, at, rtol=1e-9, atol=1e-12)

    def a(t: float) -> float:
        return 6.0 * (1 - np.exp(-0.5 * (min(t, 3.0) - 1.0))) * np.exp(-0.5 * max(t - 3.0, 0.0)) if t > 1 else 0.0

    np.testing.assert_allclose(run.out[0, :, 0], [a(t) for t in at], rtol=1e-9, atol=1e-12)


def test_records_of_one_time_act_in_order_and_before_the_output() -> None:
    rows = [(2.0, Kind.ADD_STATE, 0, 5.0), (2.0, Kind.SET_STATE, 0, 1.0), (2.0, Kind.ADD_STATE, 0, 2.0)]
    run = Engine(CHAIN).run([[0.5, 0.1]], records(rows), [2.0, 2.0, 3.0])
    np.testing.assert_allclose(run.out[0, :, 0], [3.0, 3.0, 3.0 * np.exp(-0.5)], rtol=1e-6)


def test_records_after_the_last_output_do_nothing() -> None:
    early = [(0.0, Kind.ADD_STATE, 0, 1.0)]
    late = [*early, (9.0, Kind.ADD_STATE, 0, 7.0)]
    engine, at = Engine(CHAIN), [0.0, 1.0, 4.0]
    runs = [engine.run([[0.5, 0.1]], records(rows), at) for rows in (early, late)]
    np.testing.assert_array_equal(runs[0].out, runs[1].out)
    assert runs[1].until[0] == 4.0


def test_only_the_output_at_zero() -> None:
    run = Engine(CHAIN).run([[0.5, 0.1]], records([(0.0, Kind.ADD_STATE, 1, 2.0)]), [0.0])
    np.testing.assert_array_equal(run.out[0], [[0.0, 2.0]])
    assert run.steps[0] == 0


def population(n: int) -> Floats:
    """Receptor models that differ."""
    return TMDD_P * np.exp(0.3 * np.random.default_rng(7).standard_normal((n, 9)))


def doses(n: int) -> Records:
    """A dose at 0, and for every third patient others."""
    rows = [[(0.0, int(Kind.ADD_STATE), 0, 10.0 + i)] for i in range(n)]
    for i in range(0, n, 3):
        rows[i] += [(5.0 + i / n, int(Kind.ADD_STATE), 0, 4.0)]
    return stack([records(r) for r in rows])


AT = np.geomspace(0.1, 40.0, 12)


def test_a_patient_does_not_depend_on_company_or_threads() -> None:
    engine, n = tmdd(), 300
    P, given = population(n), doses(n)
    whole = engine.run(P, given, AT, lanes=8, states=True)
    for threads in (2, 3):
        shared = engine.run(P, given, AT, lanes=8, states=True, threads=threads)
        np.testing.assert_array_equal(shared.out, whole.out)
        np.testing.assert_array_equal(shared.states, whole.states)
        np.testing.assert_array_equal(shared.steps, whole.steps)
    some = np.array([250, 3, 77, 4])
    few = engine.run(P[some], given.take(some), AT, lanes=8)
    np.testing.assert_array_equal(few.out, whole.out[some])
    assert not whole.failed.size


def test_widths_and_back_ends_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    P, given = population(20), doses(20)
    engine = tmdd()
    history = engine.run(P, given, AT, lanes=8, write_history=True)
    runs = [engine.run(P, given, AT, lanes=lanes, replay=history.history) for lanes in (1, 2, 4, 8)]
    monkeypatch.setenv("PKMODEL_BACKEND", "scalar")
    runs += [tmdd().run(P, given, AT, replay=history.history)]
    for run in runs:
        np.testing.assert_allclose(run.out, history.out, rtol=1e-9)


def test_one_bad_parameter_in_a_thousand() -> None:
    engine, P = tmdd(), population(1000)
    given = records([(0.0, Kind.ADD_STATE, 0, 10.0)])
    clean = engine.run(P, given, AT)
    P[17, 7] = np.nan
    run = engine.run(P, given, AT, threads=2)
    assert run.failed.tolist() == [17]
    assert run.status[17] == Status.BAD_INPUT
    assert "kon = nan" in run.message(17)
    assert np.isnan(run.out[17]).all()
    others = np.arange(1000) != 17
    np.testing.assert_array_equal(run.out[others], clean.out[others])


def test_a_failure_stays_where_it_happened() -> None:
    engine, P = tmdd(), population(64)
    given = records([(0.0, Kind.ADD_STATE, 0, 10.0)])
    clean = engine.run(P, given, AT, lanes=8)
    P[5, 3] = 0.0  # a volume of zero
    run = engine.run(P, given, AT, lanes=8)
    assert run.failed.tolist() == [5]
    assert run.status[5] == Status.NOT_FINITE
    assert "t = 0" in run.message(5)
    others = np.arange(64) != 5
    np.testing.assert_array_equal(run.out[others], clean.out[others])


def test_a_solution_that_explodes_is_given_up_with_its_time() -> None:
    engine = Engine(system("y", "k", "k*y**2", initial="1"))  # y = 1/(1 - k t)
    at = np.linspace(0.0, 2.0, 21)
    run = engine.run([[1.0], [0.1], [1.0]], NOTHING, at, lanes=8)
    assert run.status.tolist() == [int(run.status[0]), Status.OK, int(run.status[0])]
    assert run.status[0] in (Status.STEP_TOO_SMALL, Status.NOT_FINITE, Status.TOO_MANY_STEPS)
    report("time of failure", 1.0, run.until[0], atol=1e-3)
    np.testing.assert_allclose(run.out[0, :10, 0], 1 / (1 - at[:10]), rtol=1e-5)
    assert np.isnan(run.out[0, 11:]).all()
    np.testing.assert_allclose(run.out[1, :, 0], 1 / (1 - 0.1 * at), rtol=1e-5)


def test_too_many_steps() -> None:
    run = tmdd().run(TMDD_P[None], doses(1), AT, max_steps=5)
    assert run.status[0] == Status.TOO_MANY_STEPS
    assert run.steps[0] + run.rejected[0] == 5
    assert 0 < run.until[0] < AT[-1]


def test_a_report_that_is_not_finite_is_a_failure() -> None:
    engine = Engine(system("y", "k", "-k*y", shown="log(y)"))
    run = engine.run([[1.0], [1.0]], stack([NOTHING, records([(0.0, Kind.ADD_STATE, 0, 1.0)])]), [1.0, 2.0])
    assert run.status.tolist() == [Status.NOT_FINITE, Status.OK]
    assert "log(y) is -inf at t = 1 h" in run.message(0)
    np.testing.assert_allclose(run.out[1, :, 0], [-1.0, -2.0], rtol=1e-5)


def test_each_patient_may_have_its_own_times() -> None:
    P, given = population(3), doses(3)
    engine = tmdd()
    own = np.array([[1.0, 2.0, 3.0], [0.0, 7.5, np.inf], [20.0, np.inf, np.inf]])
    run = engine.run(P, given, own, lanes=8)
    for i in range(3):
        alone = engine.run(P[i : i + 1], given.take(slice(i, i + 1)), own[i][own[i] < np.inf], lanes=8)
        np.testing.assert_array_equal(run.out[i][own[i] < np.inf], alone.out[0])
        assert np.isnan(run.out[i][own[i] == np.inf]).all()
    assert not run.failed.size


def test_replay_is_the_same_walk() -> None:
    P, given = population(12), doses(12)
    engine = tmdd()
    first = engine.run(P, given, AT, lanes=8, write_history=True, write_states=True)
    assert first.history is not None
    np.testing.assert_array_equal(np.diff(first.history.start), first.steps)
    again = engine.run(P, given, AT, lanes=8, replay=first.history)
    np.testing.assert_array_equal(again.out, first.out)
    np.testing.assert_array_equal(again.steps, first.steps)
    assert not again.rejected.any()
    begin = first.history.start[:-1]
    states = first.history.state[first.history.row[begin]]
    np.testing.assert_array_equal(states[:, 0], 10.0 + np.arange(12))


def test_a_walk_again_is_smooth_in_the_parameters() -> None:
    engine, given = Engine(CHAIN), records([(0.0, Kind.ADD_STATE, 0, 1.0)])
    at = np.array([3.3])
    base = engine.run([[0.5, 0.1]], given, at, write_history=True)
    step = 1e-4
    up, down = (engine.run([[0.5 + d, 0.1]], given, at, replay=base.history).out[0, 0, 0] for d in (step, -step))
    report("d a / d ka", -3.3 * np.exp(-0.5 * 3.3), (up - down) / (2 * step), rtol=1e-5)


def test_a_vanishing_pivot_is_met_with_pivoting(monkeypatch: pytest.MonkeyPatch) -> None:
    # W = [[g - k, m], [-m, g]]: the first pivot is zero where the step makes g = k, though the matrix is sound
    J = np.array([[1.3, -2.0], [2.0, 0.0]])
    engine = Engine(system("x y", "k", "k*x - 2*y; 2*x", initial="1; 0.5"))
    at = np.linspace(0.1, 3.0, 9)
    x = np.array([expm(t * J) @ [1.0, 0.5] for t in at])
    fixed = engine.run([[1.3]], NOTHING, at, rtol=1e-8, atol=1e-10, lanes=1)
    monkeypatch.setattr(engine, "_code", lambda lanes: engine.pivoting())
    pivoting = engine.run([[1.3]], NOTHING, at, rtol=1e-8, atol=1e-10, lanes=1)
    assert pivoting.method[0] == PIVOTING
    np.testing.assert_allclose(pivoting.out, fixed.out, rtol=1e-10)
    np.testing.assert_allclose(pivoting.out[0], x, rtol=1e-5, atol=1e-6)
    size = 1 / (GAMMA * 1.3)  # the step at which the pivot is zero
    zero = History(np.array([0, 1]), np.array([-size]), np.zeros(0, np.int64), np.zeros((0, 0)))
    monkeypatch.undo()
    run = engine.run([[1.3]], NOTHING, [size], replay=zero)
    assert run.method[0] == PIVOTING
    assert run.status[0] == Status.OK
    W, Y, u = np.eye(2) / (GAMMA * size) - J, np.zeros(2), np.zeros((8, 2))
    for i in range(8):  # one step, with LAPACK
        Y = np.array([1.0, 0.5]) + A[i] @ u
        u[i] = np.linalg.solve(W, J @ Y + C[i] @ u / size)
    np.testing.assert_allclose(run.out[0, 0], Y + u[7], rtol=1e-10)


def test_patients_with_lost_digits_are_solved_again() -> None:
    # x and y/c exchange at the rate k/2; a unit of y that is 1e14 times too small makes a multiplier beyond the bound
    engine = Engine(system("x y", "c k", "-k*x + k*y/(2*c); k*c*x/2 - k*y", initial="1; c"))
    run = engine.run([[1.0, 0.5], [1e14, 0.5]], NOTHING, [1.0, 2.0], lanes=8, write_history=True)
    assert run.status.tolist() == [Status.OK, Status.OK]
    assert run.method.tolist() == [0, PIVOTING]
    assert "pivoting" in run.message(1)
    np.testing.assert_allclose(run.out[:, :, 0], np.exp(-0.25 * np.array([[1.0, 2.0]] * 2)), rtol=1e-5)
    assert run.history is not None
    np.testing.assert_array_equal(np.diff(run.history.start), run.steps)


def test_a_full_matrix_is_solved_by_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pkmodel.compiler.programs.MOST_UPDATES", 0)
    run = Engine(TMDD).run(population(4), doses(4), AT)
    monkeypatch.undo()
    usual = tmdd().run(population(4), doses(4), AT)
    assert (run.method == PIVOTING).all()
    np.testing.assert_allclose(run.out, usual.out, rtol=1e-5)


def test_arrays_of_any_kind_use_the_same_machine_code() -> None:
    P, given = population(2), doses(2)
    expected = tmdd().run(P, given, AT).out
    known = len(march.signatures)  # type: ignore[attr-defined]
    fortran, fixed = np.asfortranarray(P), AT.copy()
    fixed.setflags(write=False)
    none = broadcast(NOTHING, 2)
    np.testing.assert_array_equal(tmdd().run(fortran, given, fixed).out, expected)
    tmdd().run(np.broadcast_to(P[0], (2, 9)), none, fixed[None])
    assert len(march.signatures) == known  # type: ignore[attr-defined]


def test_describe() -> None:
    told = tmdd().describe()
    assert (told["states"], told["parameters"], told["reports"], told["nonzeros"]) == (4, 9, 2, 12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"P": [[1.0]]}, "2 columns: ka, ke"),
        ({"times": [2.0, 1.0]}, "do not decrease"),
        ({"times": [-1.0]}, "from 0 on"),
        ({"times": [np.nan]}, "from 0 on"),
        ({"rtol": 0.0}, "between 0 and 1"),
        ({"atol": 0.0}, "positive"),
        ({"records": records([(0.0, Kind.ADD_STATE, 2, 1.0)])}, "a state, 0 to 1"),
        ({"records": records([(0.0, Kind.SET_PARAM, 3, 1.0)])}, "a parameter, 0 to 2"),
        ({"records": stack([NOTHING, NOTHING])}, "2 rows of records for 1"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], words: str) -> None:
    arguments: dict[str, object] = {"P": [[0.5, 0.1]], "records": NOTHING, "times": [1.0], **change}
    with pytest.raises(SimulationError, match=words):
        Engine(CHAIN).run(**arguments)  # type: ignore[arg-type]


def test_a_report_may_be_empty_of_states() -> None:
    bare = replace(CHAIN, report=(sp.Integer(7),), report_names=("seven",))
    np.testing.assert_array_equal(Engine(bare).run([[0.5, 0.1]], NOTHING, [0.0, 1.0]).out, 7.0)
