"""A model as a system of differential equations: states, right-hand side, derivatives.

Each observable gets a state that integrates it from time zero (its time-integrated activity), so that integrals are
as exact as the states themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import sympy as sp

from ..expressions import TIME, symbol
from ..model import Model
from ..sharing import parts_of, substitute_all, symbols_of
from .derivative import derivative


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Equations in the order in which the solvers see them; every expression uses primary parameters only."""

    states: tuple[str, ...]  # compartments, then one integral per observable
    parameters: tuple[str, ...]
    inputs: tuple[str, ...]
    observables: tuple[str, ...]
    routes: tuple[str, ...]
    rates: tuple[sp.Expr, ...]
    initial: tuple[sp.Expr, ...]
    observed: tuple[sp.Expr, ...]
    entries: tuple[tuple[sp.Expr, ...], ...]  # per route, the fraction each state receives

    @property
    def compartments(self) -> int:
        """Number of states that are compartments."""
        return len(self.states) - len(self.observables)

    @property
    def linear(self) -> bool:
        """Whether every rate is linear in states and inputs with coefficients constant in time."""
        return _linear(self.rates, (*self.states[: self.compartments], *self.inputs))


def integral_of(observable: str) -> str:
    """Name of the state that integrates an observable."""
    return f"integral of {observable}"


def build_system(model: Model) -> System:
    """Assemble the equations of a model, formulas resolved, integrals appended."""
    resolved = model.resolved
    names = tuple(model.compartments)
    observed = substitute_all((o.expression for o in model.observables.values()), resolved)
    rates = substitute_all(map(model.rate_of_change, names), resolved) + observed
    initial = substitute_all((c.initial for c in model.compartments.values()), resolved)
    states = names + tuple(integral_of(o) for o in model.observables)
    zero = sp.Integer(0)
    zeros = (zero,) * len(model.observables)
    entries = tuple(
        substitute_all((sp.sympify(parts.get(c, zero)) for c in names), resolved) + zeros  # exact, no text
        for parts in model.routes.values()
    )
    return System(
        states=states,
        parameters=model.primary,
        inputs=tuple(model.inputs),
        observables=tuple(model.observables),
        routes=tuple(model.routes),
        rates=rates,
        initial=initial + zeros,
        observed=observed,
        entries=entries,
    )


_KINKS = (sp.Abs, sp.Min, sp.Max, sp.Piecewise)


@lru_cache(maxsize=16)
def _linear(rates: tuple[sp.Expr, ...], variables: tuple[str, ...]) -> bool:
    moving = frozenset(symbol(v) for v in variables)
    clock = symbol(TIME)
    if any(clock in symbols_of(rate) for rate in rates):
        return False
    known: dict[sp.Basic, int] = {}
    return all(_degree(rate, moving, known) <= 1 or _slopes_stand_still(rate, moving) for rate in rates)


def _degree(e: sp.Basic, moving: frozenset[sp.Symbol], known: dict[sp.Basic, int]) -> int:
    """Degree in what moves, as written; 2 for all that is no polynomial of degree 1."""
    if not symbols_of(e) & moving:
        return 0
    if e.is_Symbol:
        return 1
    if e not in known:
        degrees = (_degree(a, moving, known) for a in e.args)
        known[e] = max(degrees) if e.is_Add else sum(degrees) if e.is_Mul else 2
    return known[e]


def _slopes_stand_still(rate: sp.Expr, moving: frozenset[sp.Symbol]) -> bool:
    """The same after working it out: (x + 1)^2 - x^2 is linear."""
    for s in sorted(symbols_of(rate) & moving, key=str):
        slope = derivative(rate, s)
        if symbols_of(slope) & moving and symbols_of(sp.expand(slope)) & moving:
            return False
    # |x| and min(x, y) have derivatives that look constant between kinks
    return not any(isinstance(a, _KINKS) and symbols_of(a) & moving for a in parts_of(rate))
