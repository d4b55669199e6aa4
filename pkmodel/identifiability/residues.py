"""Arithmetic modulo a prime: a random point with its constants, and rows in echelon form."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from ..errors import ModelError
from ..expressions import to_text

type Rows = NDArray[np.int64]
type Residues = NDArray[np.float64]  # whole numbers from 0 to p - 1

PRIMES = (4194287, 4194271, 4194247)  # each below 2^22, and 3 modulo 4, so that square roots are powers


class Point:
    """A random point of the parameters modulo a prime: constants with their derivatives, (1 + m,) each."""

    def __init__(self, prime: int, seed: str, free: Sequence[sp.Symbol], exact: Mapping[sp.Symbol, sp.Rational]):
        self.p = prime
        self.random = random.Random(f"{prime} {seed}")
        self.width = 1 + len(free)
        self.column = {s: k + 1 for k, s in enumerate(free)}
        self._values: dict[sp.Expr, Residues] = {}
        for s, number in exact.items():
            self._values[s] = self._number(number)

    def inverse(self, x: float) -> int:
        """1/x modulo the prime; ZeroDivisionError where x is zero, and the point is of no use."""
        if int(x) % self.p == 0:
            raise ZeroDivisionError
        return pow(int(x), -1, self.p)

    def root(self, x: float) -> int:
        """A square root modulo the prime; ZeroDivisionError where there is none, and the point is of no use."""
        r = pow(int(x), (self.p + 1) // 4, self.p)
        if r * r % self.p != int(x) % self.p:
            raise ZeroDivisionError
        return r

    def draw(self) -> int:
        """A random residue that is not zero."""
        return self.random.randrange(1, self.p)

    def _number(self, q: sp.Rational) -> Residues:
        out = np.zeros(self.width)
        out[0] = int(q.p) * self.inverse(int(q.q)) % self.p
        return out

    def constant(self, e: sp.Expr) -> Residues:
        """Value and derivatives of an expression of parameters."""
        if e not in self._values:
            self._values[e] = self._compute(e)
        return self._values[e]

    def _compute(self, e: sp.Expr) -> Residues:
        p = self.p
        if isinstance(e, sp.Symbol):
            out = np.zeros(self.width)
            out[0] = self.draw()
            if e in self.column:
                out[self.column[e]] = 1.0
            return out
        if e.is_Rational:
            return self._number(e)
        if isinstance(e, sp.Float):
            return self._number(sp.Rational(str(e)))
        if isinstance(e, sp.Add):
            return np.asarray(np.sum([self.constant(a) for a in e.args], axis=0) % p)
        if isinstance(e, sp.Mul):
            out = self.constant(e.args[0])
            for a in e.args[1:]:
                out = self.multiply(out, self.constant(a))
            return out
        if isinstance(e, sp.Pow) and e.exp.is_Integer:
            return self._raised(self.constant(e.base), int(e.exp))
        if isinstance(e, sp.Pow) and (2 * e.exp).is_Integer:
            inner = self.constant(e.base)
            first = self.root(inner[0])
            out = inner * self.inverse(2 * first) % p
            out[0] = first
            return out if e.exp == sp.Rational(1, 2) else self._raised(out, int(2 * e.exp))
        if isinstance(e, sp.Pow):
            return self.constant(sp.exp(e.exp * sp.log(e.base, evaluate=False), evaluate=False))
        if isinstance(e, sp.exp):
            inner = self.constant(e.args[0])
            first = self.draw() if inner[0] or inner.any() else 1
            out = inner * first % p
            out[0] = first
            return out
        if isinstance(e, sp.log):
            inner = self.constant(e.args[0])
            out = inner * self.inverse(inner[0]) % p
            out[0] = self.draw()
            return out
        if isinstance(e, sp.tanh):
            twice = sp.exp(2 * e.args[0])
            return self.constant((twice - 1) / (twice + 1))
        raise ModelError(f"{to_text(e)!r} cannot be examined: give its parameters values, so that its branch is known")

    def _raised(self, base: Residues, n: int) -> Residues:
        """A whole power of a constant."""
        first = self.inverse(base[0]) if n < 0 else int(base[0])
        out = base * (n * pow(first, abs(n - 1), self.p) % self.p) % self.p
        out[0] = pow(first, abs(n), self.p)
        return np.asarray(out)

    def multiply(self, a: Residues, b: Residues) -> Residues:
        """Product of two constants, with its derivatives."""
        out = (a[0] * b % self.p + b[0] * a % self.p) % self.p
        out[0] = a[0] * b[0] % self.p
        return np.asarray(out)


class Echelon:
    """Rows modulo a prime, kept in echelon form."""

    def __init__(self, width: int, prime: int, rows: Iterable[Rows | Residues] = ()):
        self.width, self.p = width, prime
        self.rows = np.zeros((0, width), dtype=np.int64)
        self.pivots: list[int] = []
        for row in rows:
            self.add(row)

    @property
    def rank(self) -> int:
        return len(self.pivots)

    def copy(self) -> Echelon:
        """An echelon that can grow on its own."""
        other = Echelon(self.width, self.p)
        other.rows, other.pivots = self.rows.copy(), list(self.pivots)
        return other

    def add(self, row: Rows | Residues) -> None:
        """Take in one row; the rows stay reduced: each pivot is one, and alone in its column."""
        new = row.astype(np.int64) % self.p
        if self.pivots:
            at = new[self.pivots]
            for k in np.flatnonzero(at):
                new = (new - at[k] * self.rows[k]) % self.p
        where = np.flatnonzero(new)
        if not where.size:
            return
        pivot = int(where[0])
        new = new * pow(int(new[pivot]), -1, self.p) % self.p
        self.rows = (self.rows - self.rows[:, pivot : pivot + 1] * new) % self.p
        self.rows = np.vstack([self.rows, new])
        self.pivots.append(pivot)

    def complement(self) -> Rows:
        """Vectors orthogonal to every row, one per column that is no pivot."""
        free = [j for j in range(self.width) if j not in self.pivots]
        out = np.zeros((len(free), self.width), dtype=np.int64)
        out[range(len(free)), free] = 1
        if self.pivots and free:
            out[:, self.pivots] = -self.rows[:, free].T % self.p
        return out

    def determined(self) -> tuple[int, ...]:
        """Columns whose unit vector is a combination of the rows."""
        return tuple(p for row, p in zip(self.rows, self.pivots, strict=True) if np.count_nonzero(row) == 1)
