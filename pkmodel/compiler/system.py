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
    observed = tuple(o.expression.xreplace(resolved) for o in model.observables.values())
    rates = tuple(model.rate_of_change(c).xreplace(resolved) for c in names) + observed
    initial = tuple(c.initial.xreplace(resolved) for c in model.compartments.values())
    states = names + tuple(integral_of(o) for o in model.observables)
    zero = sp.Integer(0)
    zeros = (zero,) * len(model.observables)
    entries = tuple(
        tuple(sp.sympify(parts[c]).xreplace(resolved) if c in parts else zero for c in names) + zeros  # exact, no text
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


@lru_cache(maxsize=16)
def _linear(rates: tuple[sp.Expr, ...], variables: tuple[str, ...]) -> bool:
    moving = {symbol(v) for v in variables}
    clock = symbol(TIME)
    for rate in rates:
        present = rate.free_symbols & moving
        if clock in rate.free_symbols:
            return False
        for s in present:
            slope = derivative(rate, s)
            if slope.free_symbols & moving and sp.expand(slope).free_symbols & moving:
                return False
        # |x| and min(x, y) have derivatives that look constant between kinks
        if present and rate.atoms(sp.Abs, sp.Min, sp.Max, sp.Piecewise) and _inside(rate, moving):
            return False
    return True


def _inside(rate: sp.Expr, moving: set[sp.Symbol]) -> bool:
    return any(a.free_symbols & moving for a in rate.atoms(sp.Abs, sp.Min, sp.Max, sp.Piecewise))
