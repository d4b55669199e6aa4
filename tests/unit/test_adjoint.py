"""The adjoint is the transposed of the tangents, to the last digits."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from frozen_scheme import benchmark_problem, laws
from pkmodel.compiler.engine import Engine, History
from pkmodel.compiler.gradient import Gradient
from pkmodel.compiler.walks import Adjoint, part
from pkmodel.errors import SimulationError
from pkmodel.solve.records import Kind, Records, records, stack
from pkmodel.solve.status import Status
from support import report

type Floats = NDArray[np.float64]

CASES = {"P1": 168.0, "P2s": 30.0, "P3": 340.0, "laws": 14.0}  # until which hour


def weights(shape: tuple[int, ...]) -> Floats:
    return np.asarray(np.random.default_rng(7).standard_normal(shape))


def by_tangents(
    gradient: Gradient, p: Floats, acts: Records, times: Floats, steps: History, cotangent: Floats
) -> dict[str, Floats]:
    """The same gradient along the same steps forwards: each parameter, initial state and record is a direction."""
    k, n, events = len(p), len(gradient.engine.system.states), acts.time.shape[1]
    unit = np.eye(k + n + 2 * events)
    found = gradient.tangents(
        p, unit[:, :k], acts, times, replay=steps, dinitial=unit[:, k : k + n],
        dvalue=unit[:, k + n : k + n + events].T, dtime=unit[:, k + n + events :].T,
    )  # fmt: skip
    total = np.einsum("mr,mrd->d", cotangent, found.dout)
    parts = np.split(total, [k, k + n, k + n + events])
    return dict(zip(("parameters", "initial", "value", "time"), parts, strict=True))


def compare(name: str, got: Adjoint, i: int, expected: dict[str, Floats]) -> None:
    for kind, value in expected.items():
        error = np.abs(getattr(got, kind)[i] - value).max() / max(np.abs(value).max(), 1e-300)
        report(f"{name}, patient {i}: by {kind}", 0.0, float(error), atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_adjoint_is_the_transposed_of_the_tangents(name: str) -> None:
    """Eleven patients on eight lanes, random weights of all outputs; the last patient is one that came later."""
    problem = (laws() if name == "laws" else benchmark_problem(name)).until(CASES[name])
    gradient, P = Gradient(Engine(problem.system)), problem.patients(11)
    c = weights((11, len(problem.times), len(problem.system.report)))
    steps = _steps(gradient, P, problem.records, problem.times, 1e-5, problem.atol)
    got = gradient.adjoint(P, problem.records, problem.times, c, lanes=8, replay=steps)
    assert not got.status.any()
    for i in (0, 10):
        expected = by_tangents(gradient, P[i], problem.records, problem.times, part(steps, [i]), c[i])
        compare(name, got, i, expected)


def _steps(
    gradient: Gradient, P: Floats, acts: Records, times: Floats, rtol: float = 1e-6, atol: Floats | float = 1e-9
) -> History:
    """Steps for both to walk: powers round differently in one lane and in eight, which chooses steps 1e-8 apart."""
    history = gradient.engine.run(P, acts, times, rtol, atol, lanes=8, write_history=True).history
    assert history is not None
    return history


def test_each_patient_has_records_and_times_of_his_own() -> None:
    problem = laws()
    gradient, P = Gradient(Engine(problem.system)), laws().patients(5)
    acts = stack([
        problem.records,
        records([]),
        records([(1.0, Kind.ADD_STATE, 0, 5.0), (1.0, Kind.SET_PARAM, 11, 2.0), (99.0, Kind.ADD_STATE, 0, 1.0)]),
        records([(0.0, Kind.SET_PARAM, 11, 4.0), (14.0, Kind.ADD_STATE, 1, 2.0)]),
        records([(0.0, Kind.SET_STATE, 3, 2.0), (5.0, Kind.ADD_PARAM, 11, 1.0), (5.0, Kind.SET_PARAM, 11, 1.0)]),
    ])  # fmt: skip
    times = np.array([[0.0, 3.0, 14.0], [1.0, 2.0, np.inf], [1.0, 1.0, 2.0], [0.5, 14.0, 14.0], [5.0, np.inf, np.inf]])
    c = weights((5, 3, 4))
    steps = _steps(gradient, P, acts, times)
    got = gradient.adjoint(P, acts, times, c, lanes=4, replay=steps)
    for i in range(5):
        asked = np.isfinite(times[i])
        own = acts.take(slice(i, i + 1))
        compare("own", got, i, by_tangents(gradient, P[i], own, times[i, asked], part(steps, [i]), c[i, asked]))


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_the_gradient_does_not_depend_on_who_shares_the_vector(lanes: int) -> None:
    problem = laws()
    gradient, P = Gradient(Engine(problem.system)), laws().patients(5)
    c = weights((5, len(problem.times), 4))
    steps = _steps(gradient, P, problem.records, problem.times)
    expected = gradient.adjoint(P, problem.records, problem.times, c, lanes=8, replay=steps)
    got = gradient.adjoint(P, problem.records, problem.times, c, lanes=lanes, threads=2, replay=steps)
    for i in range(5):
        compare(
            f"{lanes} lanes", got, i, {k: getattr(expected, k)[i] for k in ("parameters", "initial", "value", "time")}
        )


def test_scalar_back_end(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, P = laws(), laws().patients(2)
    c = weights((2, len(problem.times), 4))
    vector = Gradient(Engine(problem.system))
    steps = _steps(vector, P, problem.records, problem.times)
    expected = vector.adjoint(P, problem.records, problem.times, c, replay=steps)
    monkeypatch.setenv("PKMODEL_BACKEND", "scalar")
    got = Gradient(Engine(problem.system)).adjoint(P, problem.records, problem.times, c, replay=steps)
    for i in range(2):
        compare("scalar", got, i, {k: getattr(expected, k)[i] for k in ("parameters", "initial", "value", "time")})


def test_pivoting_patients_have_gradients_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the fixed order of pivots fails, the gradient is made of tangents."""
    problem, P = laws(), laws().patients(2)
    c = weights((2, len(problem.times), 4))
    expected = Gradient(Engine(problem.system)).adjoint(P, problem.records, problem.times, c)
    engine = Engine(problem.system)
    monkeypatch.setattr(engine, "_code", lambda lanes: engine.pivoting())  # as if it had failed
    got = Gradient(engine).adjoint(P, problem.records, problem.times, c)
    for i in range(2):
        for kind in ("parameters", "initial", "value", "time"):
            value = getattr(expected, kind)[i]
            error = np.abs(getattr(got, kind)[i] - value).max() / np.abs(value).max()
            report(f"pivoting, patient {i}: by {kind}", 0.0, float(error), atol=1e-9)


def test_gradient_of_an_objective_either_way() -> None:
    """Least squares: the weights are residuals, made from the outputs; one patient forwards, many backwards."""
    problem, engine = laws(), Engine(laws().system)
    P = problem.patients(3)
    data = engine.run(P, problem.records, problem.times).out * 1.1

    def residual(out: Floats, patients: NDArray[np.int64]) -> Floats:
        return 2 * (out - data[patients])

    gradient = Gradient(engine, ["CL", "Vm", "w"])
    out, together = gradient.gradient(P, problem.records, problem.times, residual)
    run, by = gradient.jacobian(P, problem.records, problem.times)
    expected = np.einsum("imr,imrk->ik", 2 * (run.out - data), by)
    alone = [
        gradient.gradient(P[i : i + 1], problem.records, problem.times, 2 * (out - data)[i : i + 1])[1]
        for i in range(3)
    ]
    report("backwards", 0.0, float(np.abs(together / expected - 1).max()), atol=1e-10)
    report("forwards", 0.0, float(np.abs(np.concatenate(alone) / expected - 1).max()), atol=1e-10)


def test_a_failed_patient_does_not_spoil_the_others() -> None:
    problem, gradient = laws(), Gradient(Engine(laws().system))
    P = np.tile(problem.p, (3, 1))
    P[1, 7] = -50.0  # the logarithm of a negative number
    P[2, 0] = np.nan
    c = weights((3, len(problem.times), 4))
    got = gradient.adjoint(P, problem.records, problem.times, c, lanes=8)
    assert got.status.tolist() == [Status.OK, Status.NOT_FINITE, Status.BAD_INPUT]
    assert np.isfinite(got.parameters[0]).all() and np.isnan(got.parameters[1:]).all()
    with pytest.raises(SimulationError, match="cotangents have shape"):
        gradient.adjoint(P, problem.records, problem.times, c[..., :2])
