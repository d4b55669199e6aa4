"""The planned LU against LAPACK, its order against known best orders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pkmodel.compiler.sparsity import Elimination, LUPlan, elimination, factor, solve, solve_transposed
from pkmodel.compiler.tape import Builder, Tape
from pkmodel.compiler.tape_reference import evaluate
from support import report

Array = NDArray[np.float64]


def planned(pattern: list[tuple[int, int]], n: int) -> tuple[Tape, LUPlan]:
    """Factorisation of a matrix whose nonzeros are given in y, in the order of the pattern."""
    builder = Builder()
    entries = {e: builder.load("y", k) for k, e in enumerate(pattern)}
    return factor(elimination(n, pattern), builder, entries, ("y", "g", "w"))


def solved(j: Array, g: float, b: Array, transposed: bool = False) -> tuple[Array, float, LUPlan]:
    pattern = [(int(r), int(c)) for r, c in zip(*np.nonzero(j), strict=True)]
    tape, plan = planned(pattern, len(j))
    w, x = np.zeros(plan.nw), b.copy()
    evaluate(tape, y=np.array([j[e] for e in pattern]), g=np.array([g]), w=w)
    evaluate(solve_transposed(plan) if transposed else solve(plan), w=w, x=x)
    return x, float(w[-1]), plan


@given(n=st.integers(1, 40), fill=st.floats(0.0, 0.3), seed=st.integers(0, 2**31), transposed=st.booleans())
def test_against_lapack(n: int, fill: float, seed: int, transposed: bool) -> None:
    rng = np.random.default_rng(seed)
    j = np.where(rng.random((n, n)) < fill, rng.standard_normal((n, n)), 0.0)
    g = 1.0 + float(np.abs(j).sum(axis=0).max())  # diagonally dominant by columns
    b = rng.standard_normal(n)
    x, multiplier, plan = solved(j, g, b, transposed)
    matrix = g * np.eye(n) - j
    expected = np.linalg.solve(matrix.T if transposed else matrix, b)
    assert np.abs(x - expected).max() <= 1e-12 * np.abs(expected).max()
    assert 0 <= multiplier < n**0.5  # dominance by columns keeps the multipliers of a column below 1 in sum
    assert plan.nw <= plan.elimination.entries + 1


def test_the_norm_of_the_multipliers() -> None:
    """Worked by hand: row 2 less 3 times row 1, row 3 less 4 times row 1, row 3 less 12 times row 2."""
    w = np.array([[1.0, 1.0, 1.0], [3.0, 4.0, 5.0], [4.0, 16.0, 50.0]])
    _, norm, _ = solved(-w, 0.0, np.ones(3))
    report("norm of the multipliers", 13.0, norm, rtol=1e-15)


def test_a_failed_pivot_shows_in_the_norm() -> None:
    j = np.array([[0.0, 1.0], [1.0, 0.0]])  # with g = 0 both pivots vanish, and the matrix is regular
    _, norm, _ = solved(j, 0.0, np.ones(2))
    assert not np.isfinite(norm)


def test_nan_shows_in_the_norm() -> None:
    j = np.array([[-1.0, 0.5, 0.0], [0.5, -1.0, 0.2], [0.0, 0.2, np.nan]])
    _, norm, _ = solved(j, 1.0, np.ones(3))
    _, healthy, _ = solved(np.nan_to_num(j, nan=-1.0), 1.0, np.ones(3))
    assert np.isfinite(healthy)
    assert np.isnan(norm) or np.isnan(solved(j, 1.0, np.ones(3))[0]).any()


def star(n: int) -> list[tuple[int, int]]:
    return [(0, i) for i in range(1, n)] + [(i, 0) for i in range(1, n)]


def chain(n: int) -> list[tuple[int, int]]:
    return [(i, i + 1) for i in range(n - 1)] + [(i + 1, i) for i in range(n - 1)]


@pytest.mark.parametrize("shape", [star, chain])
def test_trees_are_eliminated_without_fill(shape: object) -> None:
    """Leaves first leaves a tree a tree (Parter 1961, doi:10.1137/1003021)."""
    pattern = shape(60)  # type: ignore[operator]
    steps = elimination(60, pattern)
    assert steps.entries == 60 + len(pattern)
    assert steps.updates == 59


def test_every_fill_is_planned_and_the_order_is_a_permutation() -> None:
    rng = np.random.default_rng(3)
    pattern = [(int(i), int(j)) for i, j in zip(*np.nonzero(rng.random((30, 30)) < 0.1), strict=True)]
    steps = elimination(30, pattern)
    assert sorted(steps.order) == list(range(30))
    assert steps == elimination(30, reversed(pattern))  # nothing hangs on the order of the entries
    position = {k: at for at, k in enumerate(steps.order)}
    planned_entries = {(k, j) for k, right in zip(steps.order, steps.right, strict=True) for j in right}
    planned_entries |= {(i, k) for k, below in zip(steps.order, steps.below, strict=True) for i in below}
    assert {e for e in pattern if e[0] != e[1]} <= planned_entries
    for i, k in planned_entries:  # closed under elimination: what column k of row i and row k of column j cause
        for k2, j in planned_entries:
            if k == k2 and i != j and position[k] < position[i] and position[k] < position[j]:
                assert (i, j) in planned_entries


def test_equal_factors_share_a_place() -> None:
    """Ten integrals of one amount: all have the pivot g and the same entry."""
    builder = Builder()
    a = builder.load("y", 0)
    entries = {(i, 0): a for i in range(1, 11)}
    _, plan = factor(elimination(11, entries), builder, entries, ("y", "g", "w"))
    assert plan.nw == 3  # 1/g, a/g (or a), and the norm
    assert plan.slot[4, 4] == plan.slot[9, 9]


def test_large_systems_are_planned_quickly() -> None:
    """Not a timing: a count of what the order costs where a poor one would cost thousands of times more."""
    n = 500
    pattern = chain(n) + [(i, i + 2) for i in range(n - 2)] + [(i + 2, i) for i in range(n - 2)]
    steps: Elimination = elimination(n, pattern)
    assert steps.updates < 5 * n
    tape, plan = planned(pattern, n)
    assert tape.flops < 30 * n
    assert solve(plan).flops < 12 * n
