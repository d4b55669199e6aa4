"""Combinations of parameters that are determined although the parameters are not.

A function c(p) is determined where its gradient is orthogonal to every direction v in which nothing that is observed
changes. Of all such functions the simplest are looked for: the formulas of the model itself, then sums, products and
quotients of two or three parameters (two that enter only as a product count as one), then monomials and sums of any
length, which show as complements of the directions that are the same at every point (in logarithms, for monomials).
The conditions are tested modulo a prime at random points, so that what is found holds in general with near certainty;
nothing says that every combination has a form this simple.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, permutations, product
from types import MappingProxyType

import numpy as np
import sympy as sp

from .residues import Echelon, Point, Rows

MOST_TRIPLES = 24  # parameters up to which combinations of three are tried
LARGEST = 6  # exponent or coefficient


@dataclass(frozen=True, slots=True)
class Free:
    """What is not determined, at one random point.

    Parameters
    ----------
    directions : in which nothing that is observed changes
    columns : (m,) which columns of `point` the parameters are
    point : the random point
    """

    directions: Echelon
    columns: Sequence[int]
    point: Point

    @property
    def null(self) -> Rows:
        """Independent directions, (d, m)."""
        return self.directions.rows

    def gradient(self, e: sp.Expr) -> Rows | None:
        """Gradient of a combination, or None where it divides by zero."""
        try:
            return np.array(self.point.constant(e)[1:][self.columns], dtype=np.int64)
        except ZeroDivisionError:
            return None

    def contains(self, direction: Rows) -> bool:
        """Whether a direction changes nothing that is observed."""
        wider = self.directions.copy()
        wider.add(direction)
        return wider.rank == self.directions.rank

    def holds(self, gradient: Rows) -> bool:
        """Whether nothing changes along any direction."""
        return not ((self.null * gradient % self.point.p).sum(axis=1) % self.point.p).any()

    def along(self, e: sp.Expr) -> tuple[Rows, Rows, Rows]:
        """Relative change and change of an atom along each direction, and its value, (d,) each."""
        p = self.point.p
        value = int(self.point.constant(e)[0])
        gradient = self.gradient(e)
        assert gradient is not None
        change = (self.null * gradient % p).sum(axis=1) % p
        return change * self.point.inverse(value) % p, change, np.full(len(change), value)


def combinations_of(
    names: Sequence[sp.Symbol],
    trials: Sequence[Free],
    wanted: int,
    shares: Sequence[sp.Symbol] = (),
    determined: Sequence[sp.Symbol] = (),
    formulas: Mapping[sp.Symbol, sp.Expr] = MappingProxyType({}),
) -> tuple[sp.Expr, ...]:
    """Simplest independent combinations that are determined.

    Parameters
    ----------
    names : (m,) parameters that are not determined, without those that have no effect
    trials : what is not determined, at each random point
    wanted : how many independent combinations there are
    shares : those of `names` that are pure numbers, whose complement 1 - x may be a factor
    determined : parameters that are determined, which may be part of a combination
    formulas : named formulas of the model, tried first and returned by name

    Returns
    -------
    tuple of at most `wanted` expressions
    """
    if not wanted:
        return ()
    found: list[sp.Expr] = []
    gradients = Echelon(len(names), trials[0].point.p)
    atoms = [*_atoms(names, trials), *(1 - s for s in shares)]
    for expression in chain(formulas, _candidates(names, atoms, trials, determined)):
        if len(found) == wanted:
            break
        each = [t.gradient(formulas.get(expression, expression)) for t in trials]
        if any(g is None or not t.holds(g) for t, g in zip(trials, each, strict=True)):
            continue
        first = each[0]
        assert first is not None
        gradients.add(first)
        if gradients.rank > len(found):
            found.append(expression)
    return tuple(found)


def _atoms(names: Sequence[sp.Symbol], trials: Sequence[Free]) -> list[sp.Expr]:
    """The parameters, where two that enter only as a product or a quotient are one."""
    atoms: list[sp.Expr] = list(names)
    for i, j in combinations(range(len(names)), 2):
        for sign in (-1, 1):
            unit = np.zeros((2, len(names)), dtype=np.int64)
            unit[0, i], unit[1, j] = 1, sign
            if (
                names[i] in atoms
                and names[j] in atoms
                and all(
                    t.contains(
                        unit[0] * int(t.point.constant(names[i])[0]) + unit[1] * int(t.point.constant(names[j])[0])
                    )
                    for t in trials
                )
            ):
                atoms[atoms.index(names[i])] = names[i] * names[j] ** -sign
                atoms.remove(names[j])
    return atoms


def _candidates(
    names: Sequence[sp.Symbol], atoms: Sequence[sp.Expr], trials: Sequence[Free], determined: Sequence[sp.Symbol]
) -> Iterator[sp.Expr]:
    """What is worth a test, simplest first; a quick look at the directions leaves few."""
    m = len(atoms)
    along = [[t.along(a) for t in trials] for a in atoms]
    u, v, x = (np.array([np.concatenate([one[k] for one in each]) for each in along]) for k in range(3))
    p = np.concatenate([np.full(len(t.null), t.point.p) for t in trials])

    def zero(change: Rows) -> bool:
        return not (change % p).any()

    yield from (a for a in atoms if a not in names)
    for i, j in combinations(range(m), 2):
        if zero(u[i] + u[j]):
            yield atoms[i] * atoms[j]
        if zero(u[i] - u[j]):
            yield atoms[i] / atoms[j]
        if zero(v[i] + v[j]):
            yield atoms[i] + atoms[j]
        if zero(v[i] - v[j]):
            yield atoms[i] - atoms[j]
    if m <= MOST_TRIPLES:
        for i, j, k in combinations(range(m), 3):
            if zero(u[i] + u[j] + u[k]):
                yield atoms[i] * atoms[j] * atoms[k]
            if zero(v[i] + v[j] + v[k]):
                yield atoms[i] + atoms[j] + atoms[k]
        for i, j, k in permutations(range(m), 3):
            if j < k:
                total = (x[j] + x[k]) % p
                if zero(u[j] + u[k] - u[i]):
                    yield atoms[j] * atoms[k] / atoms[i]
                if zero(u[i] - u[j] - u[k]):
                    yield atoms[i] / (atoms[j] * atoms[k])
                if zero(v[i] + (x[j] * x[k] % p) * ((u[j] + u[k]) % p)):
                    yield atoms[i] + atoms[j] * atoms[k]
                if zero(u[i] * total + v[j] + v[k]):
                    yield atoms[i] * (atoms[j] + atoms[k])
                if zero(u[i] * total - v[j] - v[k]):
                    yield (atoms[j] + atoms[k]) / atoms[i]
            if zero(v[i] * x[k] + x[j] * ((u[j] - u[k]) % p)):
                yield atoms[i] + atoms[j] / atoms[k]
    for (i, j), d, sign in product(permutations(range(m), 2), determined, (1, -1)):
        value = sign * np.concatenate([np.full(len(t.null), int(t.point.constant(d)[0])) for t in trials])
        total = (x[i] + value) % p
        if zero(v[i] + u[j] * total):
            yield (atoms[i] + sign * d) * atoms[j]
        if zero(v[i] - u[j] * total):
            yield (atoms[i] + sign * d) / atoms[j]
        if i < j and zero(v[i] + v[j] * value):
            yield atoms[i] + sign * d * atoms[j]
    changes = [(np.array([t.along(n)[0] for n in names]).T, t.point.p) for t in trials]
    yield from _constant(names, changes, monomial=True)
    yield from _constant(names, [(t.null, t.point.p) for t in trials], monomial=False)


def _constant(names: Sequence[sp.Symbol], changes: Sequence[tuple[Rows, int]], monomial: bool) -> Iterator[sp.Expr]:
    """Monomials or sums of any length: rows of the orthogonal complement that are the same small numbers everywhere."""
    rows = [Echelon(len(names), p, c).complement() for c, p in changes]
    for k in range(len(rows[0])):
        same: list[sp.Rational | None] | None = None
        for each, (_, p) in zip(rows, changes, strict=True):
            here = [_small(int(a), p) for a in each[k]] if k < len(each) else [None]
            if None in here or (same is not None and here != same):
                same = None
                break
            same = here
        if same is None:
            continue
        whole = sp.ilcm(*(q.q for q in same if q is not None))
        powers = [whole * q for q in same if q is not None]
        if monomial:
            yield sp.Mul(*(n**a for n, a in zip(names, powers, strict=True)))
        else:
            yield sp.Add(*(a * n for n, a in zip(names, powers, strict=True)))


def _small(residue: int, p: int) -> sp.Rational | None:
    """The fraction of small numbers that a residue stands for, if there is one."""
    for q in range(1, LARGEST + 1):
        n = residue * q % p
        n = n - p if n > p // 2 else n
        if abs(n) <= LARGEST:
            return sp.Rational(n, q)
    return None
