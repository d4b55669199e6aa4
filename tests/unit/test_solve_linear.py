"""The exact propagator: accuracy of every entry, exact inputs, sensitivities, conservation, and what it refuses."""

from __future__ import annotations

import time
from typing import Any

import mpmath  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pkmodel.errors import SimulationError
from pkmodel.solve.linear import expm_metzler, integral_to_infinity, propagators, solve_linear, solve_linear_sens
from pkmodel.solve.status import MESSAGES, Status, message
from support import report

type Floats = NDArray[np.float64]

EPS = float(np.finfo(float).eps)
SEEDS = st.integers(0, 2**32 - 1)


def compartmental(rng: np.random.Generator, n: int, low: float, high: float, *, closed: bool = False) -> Floats:
    """Random compartmental matrix with rates of 10^low..10^high per hour; half of the connections exist."""
    A = 10.0 ** rng.uniform(low, high, (n, n)) * (rng.random((n, n)) < 0.5)
    np.fill_diagonal(A, 0.0)
    lost = np.zeros(n) if closed else 10.0 ** rng.uniform(low, high, n) * (rng.random(n) < 0.7)
    np.fill_diagonal(A, -(A.sum(axis=0) + lost))
    return A


def exact_exponential(A: Floats, digits: int = 60) -> mpmath.matrix:
    """exp(A) by Taylor series and squaring in `digits` digits: shares no code and no method choice with the package."""
    with mpmath.workdps(digits):
        k = max(0, int(np.ceil(np.log2(max(1.0, np.abs(A).sum(axis=0).max()))))) + 3
        X = mpmath.matrix(A.tolist()) / mpmath.mpf(2) ** k
        total = term = mpmath.eye(A.shape[0])
        for j in range(1, 50):
            term = term * X / j
            total = total + term
        for _ in range(k):
            total = total * total
        return total


def worst_entry(got: Floats, exact: mpmath.matrix) -> float:
    """Largest relative error over entries; those below the smallest normal number are skipped."""
    worst = 0.0
    for i, j in np.ndindex(got.shape):
        if exact[i, j] > mpmath.mpf("1e-290"):
            worst = max(worst, float(abs((mpmath.mpf(float(got[i, j])) - exact[i, j]) / exact[i, j])))
        else:
            assert 0.0 <= got[i, j] <= 1e-280
    return worst


@pytest.mark.parametrize(("low", "high", "rtol"), [(-2, 1, 1e-13), (-6, 2, 1e-13), (-6, 6, 1e-13 + 1e6 * EPS)])
def test_every_entry_of_the_exponential(low: float, high: float, rtol: float) -> None:
    # exp(-rate h) itself moves by rate h eps when its rate is rounded: 1e6 eps is the limit for rates of 1e6.
    rng = np.random.default_rng(20)
    worst = 0.0
    for _ in range(12):
        A = compartmental(rng, int(rng.integers(1, 6)), low, high)
        worst = max(worst, worst_entry(expm_metzler(A), exact_exponential(A)))
    report(f"exp(A), rates 1e{low}..1e{high} per hour, worst relative error of an entry", 0.0, worst, atol=rtol)


def test_slow_loss_beside_a_fast_one() -> None:
    # A shift by the fastest rate would lose the slow one: 1e6 eps = 2e-10 of error here.
    A = np.array([[-1e6, 0.0], [1e6, -1e-6]])
    D = propagators(A, 1.0).D
    report("exp(-1e-6) - 1 beside a rate of 1e6", float(mpmath.expm1(mpmath.mpf(-1e-6))), D[1, 1], rtol=1e-14)


def test_long_chain() -> None:
    # The last of 12 states after a short time holds (rate h)^11 / 11! exp(-rate h), 5e-27 of the dose.
    A = -2.0 * np.eye(12) + 2.0 * np.eye(12, k=-1)
    h = 1e-2
    expected = mpmath.mpf(2 * h) ** 11 / mpmath.factorial(11) * mpmath.exp(-2 * h)
    report("end of a chain of 12, defective matrix", float(expected), expm_metzler(A, h)[11, 0], rtol=1e-13)


def test_large_steps_do_not_overflow() -> None:
    # Rounding the diagonal of A by eps is a leak of eps |A| per hour, so eps |A| h is the limit of any method.
    for size in (1e4, 1e6, 1e9):
        A = size * np.array([[-1.0, 0.5], [1.0, -0.5]])
        E = expm_metzler(A)
        report(f"column sum of exp(A), |A| = {size:g}", 1.0, float(E[:, 0].sum()), rtol=10 * size * EPS)
        report(f"equilibrium of exp(A), |A| = {size:g}", 1.0 / 3.0, float(E[0, 0]), rtol=10 * size * EPS)


def test_matrix_that_is_not_metzler() -> None:
    E = expm_metzler(np.array([[0.0, -3.0], [3.0, 0.0]]), 2.0)
    report("rotation, cos 6", float(mpmath.cos(6)), E[0, 0], rtol=1e-13)
    report("rotation, sin 6", float(mpmath.sin(6)), E[1, 0], rtol=1e-13)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 8), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_semigroup_and_positivity(seed: int, n: int, s: float, t: float) -> None:
    A = compartmental(np.random.default_rng(seed), n, -3, 1)
    both, product = expm_metzler(A, s + t), expm_metzler(A, s) @ expm_metzler(A, t)
    assert (both >= 0.0).all()
    np.testing.assert_allclose(both, product, rtol=1e-12 + 20 * EPS * np.abs(A).max() * (s + t), atol=1e-300)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(2, 8))
def test_mass_is_balanced_by_a_sink(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    A = compartmental(rng, n, -3, 3, closed=True)
    A[:, 0] = 0.0  # state 0 is the sink: everything may flow in, nothing leaves
    jumps, rates = rng.uniform(0, 5, (4, n)), rng.uniform(0, 2, (3, n))
    times = np.array([0.0, 1.0, 5.0, 30.0])
    none = np.zeros((3, 0))
    result = solve_linear(A, np.zeros((n, 0)), np.zeros(n), np.zeros(n), times, jumps, rates, none, none)
    given_so_far = jumps.sum(axis=1).cumsum() + np.r_[0.0, (rates.sum(axis=1) * np.diff(times)).cumsum()]
    np.testing.assert_allclose(result.X.sum(axis=1), given_so_far, rtol=1e-11)
    assert (result.X >= 0.0).all()


def random_problem(rng: np.random.Generator, n: int, q: int, m: int) -> dict[str, Any]:
    return {
        "A": compartmental(rng, n, -2, 1),
        "B": rng.uniform(0, 1, (n, q)),
        "c": rng.uniform(0, 1, n),
        "x0": rng.uniform(0, 1, n),
        "times": np.r_[0.0, rng.uniform(0.1, 3.0, m).cumsum()],
        "jumps": rng.uniform(0, 1, (m + 1, n)),
        "rates": rng.uniform(0, 1, (m, n)),
        "u0": rng.uniform(0, 1, (m, q)),
        "du": rng.uniform(-0.3, 1, (m, q)),
    }


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_superposition_of_doses(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = random_problem(rng, 4, 2, 5), random_problem(rng, 4, 2, 5)
    for fixed in ("A", "B", "times"):
        other[fixed] = one[fixed]
    both = {k: one[k] if k in ("A", "B", "times") else 2.0 * one[k] + 3.0 * other[k] for k in one}
    expected = 2.0 * solve_linear(**one).X + 3.0 * solve_linear(**other).X
    np.testing.assert_allclose(solve_linear(**both).X, expected, rtol=1e-12)


def test_linear_input_is_exact() -> None:
    # dx/dt = -k x + (a + b t) from 0 has the solution (a/k - b/k^2)(1 - exp(-k t)) + b t / k.
    k, a, b, t = mpmath.mpf(0.7), mpmath.mpf(2), mpmath.mpf(-0.25), mpmath.mpf(6)
    expected = (a / k - b / k**2) * (1 - mpmath.exp(-k * t)) + b * t / k
    zero = np.zeros((2, 1)), np.zeros((1, 1))
    result = solve_linear([[-0.7]], [[1.0]], [0.0], [0.0], [0.0, 6.0], *zero, [[2.0]], [[-0.25]])
    report("one state under a falling input", float(expected), result.X[1, 0], rtol=1e-14)


def test_many_knots_are_exact_and_fast() -> None:
    # The same straight line cut into 7000 pieces: spacings differ by rounding, nothing may drift.
    n, m = 2, 7000
    A, B = np.array([[-0.9, 0.1], [0.2, -0.15]]), np.array([[0.4], [0.0]])

    def run(knots: Floats) -> tuple[Floats, float]:
        k = knots.size - 1
        u0, du = (1.0 + 0.3 * knots[:-1])[:, None], np.full((k, 1), 0.3)
        started = time.perf_counter()
        result = solve_linear(A, B, np.zeros(n), np.zeros(n), knots, np.zeros((k + 1, n)), np.zeros((k, n)), u0, du)
        return result.X[-1], time.perf_counter() - started

    pieces = np.linspace(0.0, 90.0, m + 1)
    (expected, _), (got, _) = run(np.array([0.0, 90.0])), run(pieces)
    report("7000 pieces against one", float(expected[0]), float(got[0]), rtol=1e-13)
    seconds = min(run(pieces)[1] for _ in range(3))
    print(f"7000 segments of a two-state model: {seconds * 1e3:.1f} ms")
    assert seconds < 0.1


def complex_exponential(A: Floats) -> Floats:
    """exp(A) of a complex matrix by 30 Taylor terms and squaring, for the complex step."""
    k = max(0, int(np.ceil(np.log2(max(1e-300, np.abs(A).sum(axis=0).max()))))) + 1
    total = term = np.eye(A.shape[0], dtype=complex)
    for j in range(1, 30):
        term = term @ A / 2.0**k / j
        total = total + term
    for _ in range(k):
        total = total @ total
    return total


def complex_states(problem: dict[str, Any]) -> Floats:
    """The timeline walked with the exponential of [[A, v0, v1], [0, 0, 0], [0, 1, 0]], in complex numbers."""
    n = len(problem["x0"])
    x, rows = problem["x0"].astype(complex), []
    for k, jump in enumerate(problem["jumps"]):
        x = x + jump
        rows.append(x)
        if k < len(problem["rates"]):
            h = problem["times"][k + 1] - problem["times"][k]
            M = np.zeros((n + 2, n + 2), dtype=complex)
            M[:n, :n] = problem["A"]
            M[:n, n] = problem["B"] @ problem["u0"][k] + problem["c"] + problem["rates"][k]
            M[:n, n + 1] = problem["B"] @ problem["du"][k]
            M[n + 1, n] = 1.0
            x = (complex_exponential(M * h) @ np.r_[x, 1.0, 0.0])[:n]
    return np.array(rows)


def test_sensitivities_against_the_complex_step() -> None:
    rng = np.random.default_rng(7)
    n, q, m, nd = 4, 2, 6, 3
    problem = random_problem(rng, n, q, m)
    problem["times"][3] = problem["times"][2] + (problem["times"][1] - problem["times"][0]) * (1 + 4e-11)
    problem["times"][4:] += problem["times"][3]  # a nearly repeated step takes the first-order correction
    names = {"A": "dA", "B": "dB", "c": "dc", "x0": "dx0", "jumps": "djumps", "rates": "drates"}
    names |= {"u0": "du0_d", "du": "ddu_d"}
    seeds = {seed: rng.normal(size=(nd, *np.shape(problem[name]))) for name, seed in names.items()}
    seeds["dA"][1] = 0.0  # a direction that leaves the matrix alone, such as a dose
    result = solve_linear_sens(**problem, **seeds)
    assert result.status == Status.OK
    np.testing.assert_array_equal(result.X, solve_linear(**problem).X)
    np.testing.assert_allclose(result.X, complex_states(problem).real, rtol=1e-12)
    for d in range(nd):
        moved = {name: problem[name] + 1e-30j * seeds[seed][d] for name, seed in names.items()}
        expected = complex_states(problem | moved).imag / 1e-30
        scale = np.abs(expected).max()
        error = np.abs(result.S[:, d] - expected).max() / scale
        report(f"sensitivity along direction {d}, error over its maximum", 0.0, float(error), atol=1e-12)


def test_integral_to_infinity() -> None:
    A, x = np.array([[-0.5, 0.1], [0.2, -0.3]]), np.array([10.0, 0.0])
    dA, dx = np.array([[[-1.0, 0.0], [1.0, 0.0]]]), np.array([[0.0, 2.0]])
    result = integral_to_infinity(A, x, dA, dx)
    determinant = 0.5 * 0.3 - 0.1 * 0.2
    report("integral of state 1", 10.0 * 0.3 / determinant, result.value[0], rtol=1e-14)
    step = 1e-30
    moved = -np.linalg.solve(A + 1j * step * dA[0], x + 1j * step * dx[0]).imag / step
    report("its derivative", float(moved[1]), result.derivative[0, 1], rtol=1e-13)


@pytest.mark.parametrize(
    ("A", "status"),
    [
        ([[-1.0, 0.0], [1.0, 0.0]], Status.SINGULAR),
        ([[-1.0, 2.0], [1.0, -2.0]], Status.SINGULAR),
        ([[-1.0, 0.0], [0.0, 0.3]], Status.GROWING),
        ([[-1e6, 0.0], [1e6, -1e-6]], Status.OK),
    ],
)
def test_integral_that_does_not_exist_says_so(A: list[list[float]], status: Status) -> None:
    result = integral_to_infinity(A, [1.0, 0.0])
    assert result.status == status
    assert np.isnan(result.value).all() == (status != Status.OK)


def test_overflow_is_a_status() -> None:
    result = solve_linear([[500.0]], np.zeros((1, 0)), [0.0], [1.0], [0.0, 9.0], np.zeros((2, 1)), *empty(1, 1))
    assert result.status == Status.NOT_FINITE
    assert "infinite" in result.message


def empty(m: int, n: int) -> tuple[Floats, Floats, Floats]:
    """Rates and inputs of a timeline that has none."""
    return np.zeros((m, n)), np.zeros((m, 0)), np.zeros((m, 0))


def test_stops_may_coincide_and_one_stop_is_enough() -> None:
    jumps = np.array([[1.0], [2.0], [0.0]])
    result = solve_linear([[-1.0]], np.zeros((1, 0)), [0.0], [0.0], [0.0, 0.0, 1.0], jumps, *empty(2, 1))
    np.testing.assert_allclose(result.X[:, 0], [1.0, 3.0, 3.0 * np.exp(-1.0)], rtol=1e-15)
    alone = solve_linear([[-1.0]], np.zeros((1, 0)), [0.0], [4.0], [0.0], [[1.0]], *empty(0, 1))
    assert alone.X.tolist() == [[5.0]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"times": [0.0, 2.0, 1.0]}, "times"),
        ({"A": [[1.0, 2.0]]}, "A has shape"),
        ({"x0": [float("nan")]}, r"x0\[0\] is nan"),
        ({"rates": np.zeros((1, 1))}, "rates has shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, Any], says: str) -> None:
    rates, u0, du = empty(2, 1)
    problem: dict[str, Any] = {"A": [[-1.0]], "B": np.zeros((1, 0)), "c": [0.0], "x0": [1.0], "times": [0.0, 1.0, 2.0]}
    problem |= {"jumps": np.zeros((3, 1)), "rates": rates, "u0": u0, "du": du}
    with pytest.raises(SimulationError, match=says):
        solve_linear(**(problem | change))


def test_every_status_has_a_sentence() -> None:
    assert set(MESSAGES) == set(Status)
    assert all(message(status) for status in Status)
