r"""What the derivative of a Rosenbrock step needs beyond the Jacobian: how the Jacobian itself changes.

One stage of a step of size h from y_n solves, with g = 1/(gamma h) and J = df/dy,

.. math:: (g - J(y_n))\, u_i = f(Y_i, p) + \tfrac1h \sum_j c_{ij} u_j, \qquad Y_i = y_n + \sum_j a_{ij} u_j .

Its exact derivative along a direction (s, v_i, Z_i the derivatives of y_n, u_i, Y_i; \dot p that of p) is again a solve
with the same matrix,

.. math:: (g - J(y_n))\, v_i = J(Y_i) Z_i + G_i s + F_i \dot p + \tfrac1h \sum_j c_{ij} v_j, \qquad
   G_i = \frac{\partial}{\partial y} J(y) u_i \Big|_{y_n}, \quad
   F_i = \frac{\partial f}{\partial p}(Y_i) + \frac{\partial}{\partial p} J(y_n) u_i .

Both halves of the derivative of J matter: without either, the error of a sensitivity at rtol 1e-6 is a thousand times
larger and the order of the method is lost.

An entry of J that does not depend on the states drops out: since (g - J) Z = g Z - J Z, the sum x_i = v_i + Z_i obeys

.. math:: (g - J(y_n))\, x_i = g Z_i + [J(Y_i) - J(y_n)] Z_i + G_i s + F_i \dot p + \tfrac1h \sum_j c_{ij} v_j ,

and its bracket has only the entries that move. The transposed identity serves the adjoint.

Parameters act through `levers`: a rate is a sum of cores with coefficients, and a lever is a coefficient c(p), or a
parameter inside a core. With the value of a core in a stage, X = core(Y_i) + d core/dy (y_n) u_i, the column of
F_i for a coefficient holds X's only; the derivatives of the levers by the parameters are taken once per patient. So a
step costs the same however the parameters make up the coefficients.

Scheme: Hairer & Wanner 1996, Solving Ordinary Differential Equations II, sec. IV.7, doi:10.1007/978-3-642-05221-7;
coefficients Steinebach 2023, doi:10.1007/s10543-023-00967-x.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sympy as sp

from .derivative import derivative
from .programs import Equations

ONE = sp.Integer(1)


class Element(NamedTuple):
    """A structural nonzero of a sparse matrix."""

    row: int
    column: int
    value: sp.Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondOrder:
    """The matrices of one stage, as expressions.

    The system's own symbols of states stand for the stage's argument Y_i, `start` for y_n, `stage` for u_i, and
    `cores` maps further symbols to the values X that they stand for.

    Parameters
    ----------
    free : positions, in the system's parameters, of those that a derivative may be asked for
    start, stage : (n,) symbols of y_n and of u_i
    levers : expressions of parameters, through which the free ones act on the rates
    cores : values X by symbol
    moving : elements of J(Y_i) - J(y_n)
    curvature : elements of G_i
    forcing : elements of F_i; the column is a lever
    steering : elements of d(levers)/dp; here and below the column is a position in the system's parameters
    reported, reported_by_parameter : elements of d(report)/dy and d(report)/dp
    initial_by_parameter : elements of d(y_0)/dp
    """

    free: tuple[int, ...]
    start: tuple[sp.Symbol, ...]
    stage: tuple[sp.Symbol, ...]
    levers: tuple[sp.Expr, ...]
    cores: dict[sp.Symbol, sp.Expr]
    moving: tuple[Element, ...]
    curvature: tuple[Element, ...]
    forcing: tuple[Element, ...]
    steering: tuple[Element, ...]
    reported: tuple[Element, ...]
    reported_by_parameter: tuple[Element, ...]
    initial_by_parameter: tuple[Element, ...]


def second_order(equations: Equations, free: Iterable[int]) -> SecondOrder:
    """Differentiate a system as far as the derivative of a step needs it.

    Parameters
    ----------
    equations : of an autonomous system
    free : positions in the system's parameters
    """
    system = equations.system
    positions = tuple(sorted(set(free)))
    parameters = {system.parameters[k]: k for k in positions}
    start = tuple(sp.Symbol(f"{y.name} at the start", real=True) for y in system.states)
    stage = tuple(sp.Symbol(f"stage of {y.name}", real=True) for y in system.states)
    at_start = dict(zip(system.states, start, strict=True))

    moving, bent = [], [sp.Integer(0)] * len(system.states)  # bent: what moves of J(y) u_i
    for (i, j), parts in equations.jacobian.items():
        entry = sp.Add(*(c * core for core, c in parts.items() if core != 1))
        if entry != 0:
            moving.append(Element(i, j, entry - entry.xreplace(at_start)))
            bent[i] += entry.xreplace(at_start) * stage[j]

    levers = _Levers(system.states, start, stage, set(parameters))
    forcing = [Element(i, k, e) for i, rate in enumerate(equations.rates) for k, e in levers.forcing(rate).items()]
    return SecondOrder(
        free=positions,
        start=start,
        stage=stage,
        levers=tuple(levers.place),
        cores=levers.cores,
        moving=tuple(moving),
        curvature=jacobian(bent, dict(zip(start, range(len(start)), strict=True))),
        forcing=tuple(e for e in forcing if e.value != 0),
        steering=jacobian(tuple(levers.place), parameters),
        reported=jacobian(system.report, {s: i for i, s in enumerate(system.states)}),
        reported_by_parameter=jacobian(system.report, parameters),
        initial_by_parameter=jacobian(system.initial, parameters),
    )


def jacobian(rows: Sequence[sp.Expr], columns: dict[sp.Symbol, int]) -> tuple[Element, ...]:
    """Nonzero derivatives of each row by each symbol, row by row.

    Parameters
    ----------
    rows : expressions
    columns : numbers of the columns by symbol
    """
    found = []
    for i, row in enumerate(rows):
        present = sorted((s for s in row.free_symbols if s in columns), key=columns.__getitem__)
        found += [Element(i, columns[s], e) for s in present if (e := derivative(row, s)) != 0]
    return tuple(found)


class _Levers:
    """Collects levers and values of cores while the rates are gone through."""

    def __init__(
        self,
        states: Sequence[sp.Symbol],
        start: Sequence[sp.Symbol],
        stage: Sequence[sp.Symbol],
        parameters: set[sp.Symbol],
    ) -> None:
        self.states = states
        self.at_start = dict(zip(states, start, strict=True))
        self.stage = dict(zip(states, stage, strict=True))
        self.parameters = parameters
        self.place: dict[sp.Expr, int] = {}
        self.cores: dict[sp.Symbol, sp.Expr] = {}
        self._symbol: dict[sp.Expr, sp.Symbol] = {}

    def forcing(self, rate: dict[sp.Expr, sp.Expr]) -> dict[int, sp.Expr]:
        """One row of F_i by lever."""
        row: dict[int, sp.Expr] = {}

        def add(lever: sp.Expr, e: sp.Expr) -> None:
            at = self.place.setdefault(lever, len(self.place))
            row[at] = row.get(at, sp.Integer(0)) + e

        for core, c in rate.items():
            if c.free_symbols & self.parameters:
                lever, sign = (-c, -1) if c.could_extract_minus_sign() else (c, 1)
                add(lever, sign * self._value(core))
            for p in sorted(core.free_symbols & self.parameters, key=lambda s: s.name):
                add(p, c * self._advanced(derivative(core, p)))
        return row

    def _value(self, core: sp.Expr) -> sp.Expr:
        """A symbol that stands for X."""
        if core == ONE:
            return core
        known = self._symbol.get(core)
        if known is None:
            known = self._symbol[core] = sp.Dummy(f"X{len(self._symbol)}", real=True)
            self.cores[known] = self._advanced(core)
        return known

    def _advanced(self, e: sp.Expr) -> sp.Expr:
        """e(Y_i) + de/dy (y_n) u_i."""
        present = [s for s in self.states if s in e.free_symbols]
        return e + sp.Add(*(derivative(e, s).xreplace(self.at_start) * self.stage[s] for s in present))
