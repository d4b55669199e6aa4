"""Rodas5P's coefficients satisfy the order conditions, and its steps converge with that order."""

from __future__ import annotations

from itertools import combinations_with_replacement
from math import prod

import numpy as np
import pytest
from numpy.typing import NDArray

from pkmodel.solve.rosenbrock import GAMMA, STAGES, A, C, H, M
from support import report

type Floats = NDArray[np.float64]
type Tree = tuple["Tree", ...]


def trees(order: int) -> list[Tree]:
    """Rooted trees with a number of vertices; a tree is the sorted tuple of its branches."""
    if order == 1:
        return [()]

    def forests(left: int, at_most: int) -> list[tuple[Tree, ...]]:
        if left == 0:
            return [()]
        found = []
        for size in range(min(left, at_most), 0, -1):
            for count in range(1, left // size + 1):
                for chosen in combinations_with_replacement(trees(size), count):
                    found += [(*chosen, *rest) for rest in forests(left - size * count, size - 1)]
        return found

    return forests(order - 1, order - 1)


def size(tree: Tree) -> int:
    """Number of vertices."""
    return 1 + sum(size(branch) for branch in tree)


def density(tree: Tree) -> int:
    """Product over the vertices of the size of the tree above each (gamma of Butcher)."""
    return size(tree) * prod(density(branch) for branch in tree)


# The textbook form k_i = h f(y + sum alpha_ij k_j) + h J sum gamma_ij k_j has u = GAMMAS k, alpha = A GAMMAS and
# b = M GAMMAS.
GAMMAS = np.linalg.inv(np.eye(STAGES) / GAMMA - C)
ALPHA = A @ GAMMAS
BETA = ALPHA + GAMMAS


def weight(tree: Tree) -> Floats:
    """Elementary weights of the stages: beta where a vertex has one branch, alpha where it has more.

    Hairer & Wanner 1996, Solving Ordinary Differential Equations II, theorem IV.7.4, doi:10.1007/978-3-642-05221-7.
    """
    if len(tree) == 1:
        return BETA @ weight(tree[0])
    return np.prod([ALPHA @ weight(branch) for branch in tree], axis=0) if tree else np.ones(STAGES)


def test_numbers_of_trees() -> None:
    assert [len(trees(k)) for k in range(1, 7)] == [1, 1, 2, 4, 9, 20]  # OEIS A000081


@pytest.mark.parametrize("order", range(1, 6))
def test_solution_has_order_five(order: int) -> None:
    for tree in trees(order):
        report(f"tree {tree}", 1 / density(tree), float(M @ GAMMAS @ weight(tree)), atol=2e-13)


def test_solution_has_not_order_six() -> None:
    wrong = [abs(M @ GAMMAS @ weight(tree) - 1 / density(tree)) for tree in trees(6)]
    assert max(wrong) > 1e-5


@pytest.mark.parametrize("order", range(1, 5))
def test_comparison_has_order_four(order: int) -> None:
    for tree in trees(order):
        report(f"tree {tree}", 1 / density(tree), float(A[7] @ GAMMAS @ weight(tree)), atol=2e-13)


@pytest.mark.parametrize("theta", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("order", range(1, 5))
def test_dense_output_has_order_four(order: int, theta: float) -> None:
    weights = theta * (M + (1 - theta) * (H[0] + theta * (H[1] + theta * H[2])))
    for tree in trees(order):
        expected = theta**order / density(tree)
        report(f"theta {theta}, tree {tree}", expected, float(weights @ GAMMAS @ weight(tree)), atol=2e-13)


def test_stiffly_accurate_and_l_stable() -> None:
    # R(z) = 1 + z b^T (I - z B)^-1 1 with B = alpha + gamma; stiffly accurate: b is the last row of B, so R(inf) = 0
    np.testing.assert_allclose(M @ GAMMAS, BETA[-1], atol=1e-13)
    z = 1j * np.logspace(-3, 4, 200)
    amplification = [1 + x * (M @ GAMMAS) @ np.linalg.solve(np.eye(STAGES) - x * BETA, np.ones(STAGES)) for x in z]
    assert max(np.abs(amplification)) <= 1 + 1e-9
    assert abs(amplification[-1]) < 1e-2
    assert GAMMA > 0
