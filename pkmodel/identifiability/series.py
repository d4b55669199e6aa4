"""Power series in time, modulo a prime, of a model's states and of their derivatives by the parameters.

Just after a dose the solution of dx/dt = f(x, p) is its Taylor series. Its coefficients follow one from the other and
are rational in the parameters, so at a random point they can be computed exactly modulo a prime, and so can their
derivatives by the parameters (Sedoglavic 2002, doi:10.1006/jsco.2002.0532). Products of series are sums of
products (Griewank & Walther, Evaluating Derivatives, 2008, chapter 13); with primes below 2^22 such sums are
exact in doubles, so each is one matrix product.

exp, log and real powers stay exact: only their first coefficient is transcendental, and that is one more random number,
with the derivative that the chain rule gives it. A square root is a root modulo the prime, where the point has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .plan import Plan
from .residues import Point, Residues

MOST = 240  # coefficients: 2 * MOST * p^2 < 2^53


class Series:
    """The coefficients of every step of a plan at a point, computed order by order.

    `R` holds coefficient k of step s in ``R[s, last - k]``: reversed, so that a product of series is one product of a
    vector and a block of rows. `v` holds the values alone, in order.
    """

    def __init__(
        self,
        plan: Plan,
        point: Point,
        rates: Sequence[int],
        initial: Sequence[Residues],
        inflow: Mapping[int, Residues],
        orders: int,
    ):
        self.plan, self.point, self.rates, self.inflow = plan, point, rates, inflow
        self.initial = initial
        self.last = orders
        self.R = np.zeros((len(plan.steps), orders + 1, point.width))
        self.v = np.zeros((len(plan.steps), orders + 1))
        self.k = -1
        weights = [np.array([point.constant(w) for w in s.weights]) for s in plan.steps]
        self.sums = [(np.array(s.args, dtype=int), w) for s, w in zip(plan.steps, weights, strict=True)]

    def coefficient(self, step: int) -> Residues:
        """Coefficient of the order computed last, with its derivatives."""
        return np.asarray(self.R[step, self.last - self.k])

    def all_orders(self, step: int) -> Residues:
        """Every coefficient of a step so far, one per row, with its derivatives."""
        return np.asarray(self.R[step, self.last - self.k :])

    def advance(self) -> None:
        """Compute the coefficients of one more order.

        Raises
        ------
        ZeroDivisionError
            By chance, a number to divide by is a multiple of the prime.
        """
        self.k += 1
        k, at, p = self.k, self.last - self.k, self.point.p
        R, v = self.R, self.v
        scale = self.point.inverse(k) if k else 0
        state = 0
        for s, step in enumerate(self.plan.steps):
            match step.op:
                case "sum":
                    args, w = self.sums[s]
                    row = np.zeros(self.point.width)
                    if args.size:
                        row = w[:-1, 0] @ R[args, at]
                        row[1:] += v[args, k] @ w[:-1, 1:]
                    if k == 0:
                        row += w[-1]
                case "mul":
                    a, b = step.args
                    row = v[a, : k + 1] @ R[b, at:]
                    row[1:] += v[b, : k + 1] @ R[a, at:, 1:]
                case "div":
                    row = self._quotient(s, *step.args)
                case "root":
                    row = self._root(s, step.args[0])
                case "exp":
                    row = self._exp(s, step.args[0])
                case "log":
                    row = self._log(s, step.args[0])
                case "state":
                    if k == 0:
                        row = self.initial[state].copy()
                    else:
                        row = R[self.rates[state], at + 1].copy()
                        if k == 1 and state in self.inflow:
                            row += self.inflow[state]
                        row = row % p * scale
                    state += 1
                case "input":
                    row = np.zeros(self.point.width)
                    row[0] = self.point.draw()
                case _:  # time
                    row = np.zeros(self.point.width)
                    row[0] = float(k == 1)
            R[s, at] = row % p
            v[s, k] = R[s, at, 0]

    def _quotient(self, s: int, a: int, b: int) -> Residues:
        """c = a/b: b_0 c_k = a_k - sum_{i<k} c_i b_{k-i}, and its derivative."""
        k, at, p = self.k, self.last - self.k, self.point.p
        R, v = self.R, self.v
        inverse = self.point.inverse(v[b, 0])
        row = R[a, at].copy()
        if k:
            earlier = v[s, :k] @ R[b, at:-1]
            earlier[1:] += v[b, 1 : k + 1] @ R[s, at + 1 :, 1:]
            row -= earlier % p
        value = row[0] % p * inverse % p
        row[1:] -= value * R[b, -1, 1:] % p
        return np.asarray(row % p * inverse)

    def _root(self, s: int, a: int) -> Residues:
        """c^2 = a: 2 c_0 c_k = a_k - sum_{0<i<k} c_i c_{k-i}; its derivative is da/(2 c)."""
        k, at, p = self.k, self.last - self.k, self.point.p
        R, v = self.R, self.v
        row = R[a, at].copy()
        if k == 0:
            first = self.point.root(v[a, 0])
            row = row * self.point.inverse(2 * first) % p
            row[0] = first
            return np.asarray(row)
        row[0] -= v[s, 1:k] @ R[s, at + 1 : -1, 0] % p
        row[0] = row[0] % p * self.point.inverse(2 * v[s, 0]) % p
        v[s, k] = row[0]
        row[1:] = (row[1:] - 2 * (v[s, 1 : k + 1] @ R[s, at + 1 :, 1:] % p)) % p * self.point.inverse(2 * v[s, 0])
        return np.asarray(row % p)

    def _exp(self, s: int, a: int) -> Residues:
        """c = exp(a): k c_k = sum_i i a_i c_{k-i}; its derivative is c da."""
        k, at, p = self.k, self.last - self.k, self.point.p
        R, v = self.R, self.v
        row = np.zeros(self.point.width)
        if k == 0:
            row[0] = self.point.draw() if R[a, -1].any() else 1
        else:
            row[0] = (np.arange(1, k + 1) * v[a, 1 : k + 1] % p) @ R[s, at + 1 :, 0] % p * self.point.inverse(k) % p
        v[s, k] = row[0]
        row[1:] = v[s, : k + 1] @ R[a, at:, 1:]
        return row

    def _log(self, s: int, a: int) -> Residues:
        """c = log(a): k a_0 c_k = k a_k - sum_{0<i<k} i c_i a_{k-i}; its derivative is da/a."""
        k, at, p = self.k, self.last - self.k, self.point.p
        R, v = self.R, self.v
        inverse = self.point.inverse(v[a, 0])
        row = R[a, at].copy()
        if k == 0:
            row[0] = self.point.draw() * v[a, 0]
        else:
            row[1:] -= v[a, 1 : k + 1] @ R[s, at + 1 :, 1:] % p
            known = (np.arange(1, k) * v[s, 1:k] % p) @ R[a, at + 1 : -1, 0] % p
            row[0] -= known * self.point.inverse(k) % p
        return np.asarray(row % p * inverse)
