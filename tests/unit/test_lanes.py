"""The driver alone, with kernels written by hand: who gets which lane, and what is written down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pkmodel.solve import call, lanes
from pkmodel.solve.task import Answer, Code, Task

type Floats = NDArray[np.float64]

L = 4  # lanes, of a model with one state, y' = -k y; k is q[0], and q[1] = 2 k is a constant


def kernel(pointers: int) -> Callable[[Callable[..., None]], Any]:
    """Decorator that makes a kernel; nothing is kept on disk."""
    return call.kernel(pointers, cache=False)


@kernel(1)
def constants(q: Any) -> None:
    for lane in range(L):
        q[L + lane] = 2.0 * q[lane]


@kernel(2)
def initial(q: Any, y: Any) -> None:
    for lane in range(L):
        y[lane] = q[L + lane]


@kernel(3)
def rhs(y: Any, q: Any, f: Any) -> None:
    for lane in range(L):
        f[lane] = -q[lane] * y[lane]


@kernel(3)
def report(y: Any, q: Any, out: Any) -> None:
    for lane in range(L):
        out[lane] = y[lane] / q[L + lane]


@kernel(7)
def step(y: Any, q: Any, ctl: Any, atol: Any, K: Any, u: Any, w: Any) -> None:
    """An exact step, which claims an error of (k h)^2 and a growth that a negative k makes infinite."""
    for lane in range(L):
        h = 1.0 / ctl[lane]
        u[lane] = y[lane] * np.exp(-q[lane] * h)
        ctl[3 * L + lane] = (q[lane] * h) ** 2
        ctl[4 * L + lane] = np.inf if q[lane] < 0 else 1.0
        K[lane] = h


@kernel(2)
def dense(K: Any, D: Any) -> None:
    for lane in range(L):
        D[lane] = K[lane]


@kernel(5)
def interpolate(y: Any, u: Any, D: Any, theta: Any, out: Any) -> None:
    for lane in range(L):
        out[lane] = y[lane] * (u[lane] / y[lane]) ** max(theta[lane], 0.0)


CODE = Code(
    np.array([f.address for f in (step, dense, interpolate, report, rhs, constants, initial)]), L, 1, 2, 1, np.zeros(0)
)


def solve(
    k: list[float],
    rows: tuple[list[float], ...] = ([],),
    times: Any = (1.0, 2.0, 4.0),
    *,
    write: int = 0,
    chosen: list[int] | None = None,
    halted: bool = False,
    max_steps: int = 1000,
) -> tuple[Answer, Any]:
    """Doses of 1 at the times of `rows`."""
    n = len(k)
    time, times = np.array(rows, float).reshape(len(rows), -1), np.atleast_2d(np.array(times, float))
    task = Task(
        np.array(k)[:, None], time, np.zeros(time.shape, np.int8), np.zeros(time.shape, np.int64), np.ones(time.shape),
        times, 1e-6, np.full(1, 1e-9), max_steps, np.zeros(0, np.int64), np.zeros(0), write,
    )  # fmt: skip
    m = times.shape[1]
    answer = Answer(
        np.full((n, m, 1), -1.0),
        np.full((n, m, 1), -1.0),
        *(np.full(n, v) for v in (-1, -1.0, -1, -1)),
    )
    patients = np.arange(n) if chosen is None else np.array(chosen)
    return answer, lanes.solve(CODE, task, patients, answer, lambda: halted)


@pytest.mark.parametrize("patients", [1, 3, 4, 5, 23])
def test_everybody_is_solved_whatever_the_number_of_lanes(patients: int) -> None:
    k = (0.1 + np.arange(patients) / patients).tolist()
    answer, _ = solve(k)
    expected = np.exp(-np.outer(k, [1.0, 2.0, 4.0]))
    np.testing.assert_allclose(answer.out[:, :, 0], expected, rtol=1e-12)
    np.testing.assert_allclose(answer.states[:, :, 0], 2 * np.array(k)[:, None] * expected, rtol=1e-12)
    np.testing.assert_array_equal(answer.status, 0)
    np.testing.assert_array_equal(answer.until, 4.0)


def test_steps_end_at_records_and_an_output_there_is_after_them() -> None:
    answer, (who, size, state) = solve([0.5], ([2.0, 3.0],), write=2)
    e = np.exp(-0.5)
    np.testing.assert_allclose(answer.states[0, :, 0], [e, e**2 + 1, ((e**2 + 1) * e + 1) * e], rtol=1e-12)
    clock = np.cumsum(np.abs(size))
    met = clock[size < 0]
    np.testing.assert_allclose(met, [2.0, 3.0, 4.0], rtol=1e-15)
    assert (who == 0).all()
    assert state[0, 0] == 1.0  # 2 k


def test_the_wish_for_the_next_step_follows_the_error() -> None:
    _, (_, size, _) = solve([1.0], times=(100.0,), write=1)
    late = np.abs(size[60:120])
    # the error claimed is k h = e; h' = h 0.9 e^(-1/5) comes to rest where e = 0.9^5
    np.testing.assert_allclose(late, 0.9**5, rtol=1e-3)


def test_only_the_chosen_are_touched() -> None:
    answer, _ = solve([0.1, 0.2, 0.3], chosen=[2, 0])
    assert answer.status.tolist() == [0, -1, 0]
    assert (answer.out[1] == -1.0).all()


def test_growth_is_told_after_smaller_steps() -> None:
    answer, _ = solve([0.5, -0.5, 0.25])
    assert answer.status.tolist() == [0, 8, 0]
    assert answer.rejected[1] == 4
    assert np.isnan(answer.out[1]).all()
    np.testing.assert_allclose(answer.out[[0, 2], 2, 0], [np.exp(-2.0), np.exp(-1.0)], rtol=1e-12)


def test_a_lane_is_given_up_after_too_many_steps_and_the_next_patient_takes_it() -> None:
    answer, _ = solve([1e4] * 4 + [0.5] * 4, max_steps=50)
    assert answer.status.tolist() == [1] * 4 + [0] * 4
    np.testing.assert_allclose(answer.out[4:, 0, 0], np.exp(-0.5), rtol=1e-12)


def test_not_a_number_fails_at_once() -> None:
    answer, _ = solve([np.nan, 0.5])
    assert answer.status.tolist() == [3, 0]
    assert answer.until[0] == 0.0


def test_strides_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    k = [0.1, 3.0, 0.7, 1.1, 0.2, 5.0]
    answer, walk = solve(k, ([1.5, 3.0],), write=2)
    monkeypatch.setattr(lanes, "STRIDE", 3)
    again, same = solve(k, ([1.5, 3.0],), write=2)
    for one, other in zip((*answer, *walk), (*again, *same), strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_may_be_ended_between_strides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "STRIDE", 3)
    answer, _ = solve([0.1], halted=True)
    assert answer.status[0] == -1
