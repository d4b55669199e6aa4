"""Sparse LU of W = g I - J, planned once per model: the order of pivots, the fill, and the operations themselves.

The pattern of the Jacobian never changes (Curtis, Powell and Reid 1974, doi:10.1093/imamat/13.1.117), so elimination
becomes straight-line code without indices, as in KPP (Sandu and Sander 2006, doi:10.5194/acp-6-187-2006). The next
pivot is the one with the least (r - 1)(c - 1), r and c its counts of nonzeros in row and column (Markowitz 1957,
doi:10.1287/mnsc.3.3.255). Pivots stay on the diagonal: mass balance makes W nearly diagonally dominant;
`solve.pivoted` is for when it is not, which the last entry of w tells.

Signs are chosen so that a system of flows adds what is positive, the diagonal apart. With N = -(off-diagonal part),
and d the diagonal, eliminating column k is::

    d_k <- 1/d_k,   m_ik = N_ik d_k,   N_ij <- N_ij + m_ik N_kj,   d_i <- d_i - m_ik N_ki

and solving W x = b::

    x_i <- x_i + m_ik x_k (k in order),   x_k <- (x_k + sum_j N_kj x_j) d_k (k in reverse)
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .tape import Builder, Tape

Entry = tuple[int, int]  # row, column


@dataclass(frozen=True, slots=True)
class Elimination:
    """In which order states are eliminated, and what each step touches; indices are those of the states."""

    n: int
    order: tuple[int, ...]  # pivots
    below: tuple[tuple[int, ...], ...]  # (n) per pivot in order: rows still to come with an entry in its column
    right: tuple[tuple[int, ...], ...]  # (n) per pivot in order: columns still to come with an entry in its row

    @property
    def entries(self) -> int:
        """Nonzeros of L and U together, the diagonal once."""
        return self.n + sum(len(b) + len(r) for b, r in zip(self.below, self.right, strict=True))

    @property
    def updates(self) -> int:
        """Multiplications with addition of one factorisation."""
        return sum(len(b) * len(r) for b, r in zip(self.below, self.right, strict=True))


def elimination(n: int, pattern: Iterable[Entry]) -> Elimination:
    """Order of least fill, by Markowitz' count; ties go to the shorter column, then to the first state.

    Parameters
    ----------
    n : number of states
    pattern : (row, column) of the nonzeros of J; the diagonal need not be among them
    """
    rows: list[set[int]] = [set() for _ in range(n)]  # off the diagonal, of what is not yet eliminated
    columns: list[set[int]] = [set() for _ in range(n)]
    for i, j in pattern:
        if i != j:
            rows[i].add(j)
            columns[j].add(i)

    def cost(k: int) -> tuple[int, int, int]:
        return len(rows[k]) * len(columns[k]), len(columns[k]), k

    waiting = [cost(k) for k in range(n)]
    heapq.heapify(waiting)
    left = set(range(n))
    order, below, right = [], [], []
    while left:
        best = heapq.heappop(waiting)
        k = best[2]
        if k not in left or best != cost(k):
            continue  # eliminated, or its count has changed since: the newer one is in the heap too
        left.discard(k)
        order.append(k)
        below.append(tuple(sorted(columns[k])))
        right.append(tuple(sorted(rows[k])))
        for i in columns[k]:
            rows[i].discard(k)
            rows[i] |= rows[k] - {i}
        for j in rows[k]:
            columns[j].discard(k)
            columns[j] |= columns[k] - {j}
        for i in columns[k] | rows[k]:
            heapq.heappush(waiting, cost(i))
    return Elimination(n, tuple(order), tuple(below), tuple(right))


@dataclass(frozen=True, slots=True)
class LUPlan:
    """The factors of W and where each of their entries lies in w.

    Entries with equal values (a decay constant in every row) share a place. `slot` holds for (k, k) the reciprocal
    of the pivot, for i before k in the order (row i of U) -U_ik, and for i after k (column k of L) -L_ik.
    """

    elimination: Elimination
    pattern: tuple[Entry, ...]  # nonzeros of J, by rows: what the program "jacobian" gives
    slot: Mapping[Entry, int]
    nw: int  # entries of w; the last is the Euclidean norm of the multipliers, never less than the largest of them


def factor(
    steps: Elimination, builder: Builder, jacobian: Mapping[Entry, int], names: tuple[str, ...]
) -> tuple[Tape, LUPlan]:
    """The program ``factor(..., g, w)``.

    Parameters
    ----------
    steps : from `elimination` of the entries of `jacobian`
    builder : holds the entries of J; the operations are added to it
    jacobian : number of the operation that gives each nonzero entry of J
    names : arguments of the program, the last two being g and w
    """
    apply = builder.apply
    n = steps.n
    g = builder.load("g", 0)
    d = [apply("sub", g, jacobian[i, i]) if (i, i) in jacobian else g for i in range(n)]
    off: dict[Entry, int] = {e: k for e, k in jacobian.items() if e[0] != e[1]}
    one = builder.const(1.0)
    norms = []
    for k, below, right in zip(steps.order, steps.below, steps.right, strict=True):
        d[k] = apply("div", one, d[k])
        squares = []
        for i in below:
            m = off[i, k] = apply("mul", off[i, k], d[k])
            size = builder.signed(m)[1]
            squares.append(apply("mul", size, size))
            for j in right:
                update = apply("mul", m, off[k, j])
                if i == j:
                    d[i] = apply("sub", d[i], update)
                else:
                    off[i, j] = apply("add", off[i, j], update) if (i, j) in off else update
        norms += _summed(builder, squares, 4)
    slots: dict[int, int] = {}
    where = {(i, i): slots.setdefault(x, len(slots)) for i, x in enumerate(d)}
    for k, below, right in zip(steps.order, steps.below, steps.right, strict=True):
        for e in [(k, j) for j in right] + [(i, k) for i in below]:
            where[e] = slots.setdefault(off[e], len(slots))
    for x, at in slots.items():
        builder.store("w", at, x)
    squared = _summed(builder, norms, len(norms))
    builder.store("w", len(slots), apply("sqrt", squared[0]) if squared else builder.const(0.0))
    return builder.tape("factor", *names), LUPlan(steps, tuple(sorted(jacobian)), where, len(slots) + 1)


def _summed(builder: Builder, numbers: list[int], most: int) -> list[int]:
    """Sums of up to `most` results each, pairwise, so that they need not wait for each other."""
    out = []
    for start in range(0, len(numbers), max(most, 1)):
        part = numbers[start : start + most]
        while len(part) > 1:
            pairs = [builder.apply("add", *part[i : i + 2]) for i in range(0, len(part) - 1, 2)]
            part = pairs + part[len(part) - len(part) % 2 :]
        out += part
    return out


def solve(plan: LUPlan) -> Tape:
    """The program ``solve(w, x)``: W x = b, in place."""
    builder, w, x = _start(plan)
    steps = list(zip(plan.elimination.order, plan.elimination.below, plan.elimination.right, strict=True))
    apply = builder.apply
    for k, below, _ in steps:
        for i in below:
            x[i] = apply("add", x[i], apply("mul", w[i, k], x[k]))
    for k, _, right in reversed(steps):
        for j in right:
            x[k] = apply("add", x[k], apply("mul", w[k, j], x[j]))
        x[k] = apply("mul", x[k], w[k, k])
    return _finish(builder, x, "solve")


def solve_transposed(plan: LUPlan) -> Tape:
    """The program ``solve_transposed(w, x)``: W' x = b with the same factors, in place."""
    builder, w, x = _start(plan)
    steps = list(zip(plan.elimination.order, plan.elimination.below, plan.elimination.right, strict=True))
    apply = builder.apply
    for k, _, right in steps:
        x[k] = apply("mul", x[k], w[k, k])
        for j in right:
            x[j] = apply("add", x[j], apply("mul", w[k, j], x[k]))
    for k, below, _ in reversed(steps):
        for i in below:
            x[k] = apply("add", x[k], apply("mul", w[i, k], x[i]))
    return _finish(builder, x, "solve_transposed")


def _start(plan: LUPlan) -> tuple[Builder, dict[Entry, int], list[int]]:
    builder = Builder()
    x = [builder.load("x", i) for i in range(plan.elimination.n)]
    return builder, {e: builder.load("w", at) for e, at in plan.slot.items()}, x


def _finish(builder: Builder, x: list[int], name: str) -> Tape:
    for i, number in enumerate(x):
        builder.store("x", i, number)
    return builder.tape(name, "w", "x")
