"""Leave out what cannot matter: states that stay zero, and states and parameters that reach nothing reported.

A hot ligand alone needs no cold one; a study that reports the kidneys needs no integral over the liver. Each state
left out saves its share of every step, and a smaller error norm cannot be filled with states nobody asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import sympy as sp

from ..sharing import parts_of, substitute, substitute_all, symbols_of
from .autonomous import Autonomous
from .programs import Equations


@dataclass(frozen=True, slots=True)
class Reduced:
    """A smaller system with the same report, and where its states and parameters come from."""

    system: Autonomous
    states: tuple[int, ...]  # of the whole system, kept, in order
    parameters: tuple[int, ...]  # of the whole system, kept, in order

    def state(self, whole: int) -> int:
        """New number of a state; -1 where it was left out, and an event on it changes nothing."""
        return self.states.index(whole) if whole in self.states else -1

    def parameter(self, whole: int) -> int:
        """New number of a parameter; -1 where it was left out."""
        return self.parameters.index(whole) if whole in self.parameters else -1


def reduced(system: Autonomous, entered: Iterable[int] | None = None) -> Reduced:
    """Leave out states that stay zero, then states and parameters that the report does not depend on.

    Parameters
    ----------
    system : the whole system
    entered : numbers of the states that events may add to or set; by default any, and no state is known to stay zero

    Returns
    -------
    Reduced
        Its report has the names and, to the accuracy of the solver, the values of the whole system's.
    """
    zero = frozenset[sp.Symbol]() if entered is None else _stay_zero(system, frozenset(entered))
    nothing = {s: sp.Integer(0) for s in zero}
    rates = dict(zip(system.states, substitute_all(system.rates, nothing), strict=True))
    report = substitute_all(system.report, nothing)
    needed = _reached(report, rates)
    states = tuple(i for i, s in enumerate(system.states) if s in needed)
    kept = [system.states[i] for i in states]
    initial = tuple(system.initial[i] for i in states)
    present = set().union(*(symbols_of(e) for e in (*report, *initial, *(rates[s] for s in kept))))
    parameters = tuple(i for i, p in enumerate(system.parameters) if p in present)
    small = replace(
        system,
        states=tuple(kept),
        parameters=tuple(system.parameters[i] for i in parameters),
        primary=sum(i < system.primary for i in parameters),
        rates=tuple(rates[s] for s in kept),
        initial=initial,
        report=report,
    )
    return Reduced(small, states, parameters)


_INFINITE = {sp.nan, sp.zoo, sp.oo, -sp.oo}


def _stay_zero(system: Autonomous, entered: frozenset[int]) -> frozenset[sp.Symbol]:
    """The largest set of states that begin at zero, that nothing enters, and that only each other would fill."""
    rate = dict(zip(system.states, system.rates, strict=True))
    zero = {s for i, s in enumerate(system.states) if i not in entered and system.initial[i] == 0}
    others = (*system.rates, *system.report)
    while True:
        nothing = {s: sp.Integer(0) for s in zero}
        known: dict[sp.Basic, sp.Basic] = {}
        filled = {s for s in zero if substitute(rate[s], nothing, known) != 0}
        for e in others:  # 0/0 is no reason to leave something out
            if symbols_of(e) & zero and not _INFINITE.isdisjoint(parts_of(substitute(e, nothing, known))):
                filled |= symbols_of(e) & zero
        if not filled:
            return frozenset(zero)
        zero -= filled


def _reached(report: Iterable[sp.Expr], rates: dict[sp.Symbol, sp.Expr]) -> set[sp.Symbol]:
    """States that the report depends on, directly or through other states."""
    needed: set[sp.Symbol] = set()
    waiting = [s for e in report for s in symbols_of(e) if s in rates]
    while waiting:
        s = waiting.pop()
        if s not in needed:
            needed.add(s)
            waiting.extend(x for x in symbols_of(rates[s]) if x in rates)
    return needed


@dataclass(frozen=True, slots=True)
class Linearity:
    """What of a system is linear: how much of its Jacobian is known before the first step."""

    entries: int  # nonzeros of the Jacobian
    constant: int  # those that depend on parameters only: computed once per patient
    blocks: tuple[tuple[int, ...], ...]  # states with linear rates, those that exchange with each other together

    @property
    def states(self) -> int:
        """Number of states whose rates are linear in all states."""
        return sum(map(len, self.blocks))

    def __str__(self) -> str:
        return (
            f"{self.constant} of {self.entries} entries of the Jacobian are constant; {self.states} states in "
            f"{len(self.blocks)} blocks have linear rates"
        )


def linearity(equations: Equations) -> Linearity:
    """Recognise the linear part of a system.

    Parameters
    ----------
    equations : rates and Jacobian as sums of cores; a rate is linear where every core is a state or 1
    """
    n = len(equations.system.states)
    constant = sum(not equations.varies(e) for e in equations.jacobian)
    linear = [all(core == 1 or core.is_Symbol for core in rate) for rate in equations.rates]
    block = list(range(n))

    def first(i: int) -> int:
        while block[i] != i:
            block[i] = i = block[block[i]]
        return i

    for i, j in equations.jacobian:
        if linear[i] and linear[j]:
            block[max(first(i), first(j))] = min(first(i), first(j))
    together: dict[int, list[int]] = {}
    for i in range(n):
        if linear[i]:
            together.setdefault(first(i), []).append(i)
    return Linearity(len(equations.jacobian), constant, tuple(map(tuple, together.values())))
