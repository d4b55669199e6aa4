"""The pivoting LU, against LAPACK."""

from __future__ import annotations

import numpy as np
import pytest

from pkmodel.solve.pivoted import factorise, head, length, substitute


@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_solves_like_lapack(n: int) -> None:
    random = np.random.default_rng(n)
    W, b = random.standard_normal((n, n)), random.standard_normal(n)
    expected = np.linalg.solve(W, b)
    factors, order = W.copy(), np.zeros(n)
    assert factorise(factors, order) <= 1.0
    substitute(factors, order, b)
    np.testing.assert_allclose(b, expected, rtol=1e-9)


def test_a_zero_diagonal_is_no_obstacle() -> None:
    W, b, order = np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 4.0]]), np.array([2.0, 3.0, 9.0]), np.zeros(3)
    assert factorise(W, order) <= 1.0
    substitute(W, order, b)
    np.testing.assert_allclose(b, [3.0, 1.0, 2.0], rtol=1e-15)


@pytest.mark.parametrize("W", [[[1.0, 2.0], [2.0, 4.0]], [[0.0, 0.0], [0.0, 1.0]], [[np.nan, 1.0], [1.0, 1.0]]])
def test_a_singular_matrix_is_told(W: list[list[float]]) -> None:
    assert np.isnan(factorise(np.array(W), np.zeros(2)))


def test_the_work_array_holds_its_head() -> None:
    rows, columns = np.array([0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0])
    made = head(2, 1 << 46, rows, columns)
    assert made.tolist() == [2.0, 3.0, float(1 << 46), 0, 1, 1, 0, 0, 1]
    assert length(2, 3) == len(made) + 4 + 2 + 3 + 1
