"""A model as an autonomous system y' = f(y, p): what moves is a state, what stands still is a parameter.

Time is a state with rate one, a measured input is a state whose slope is a parameter, and an infusion is a parameter
that enters rates. Events switch those parameters and set those states, so the solvers and their derivatives know one
kind of equation, one kind of parameter and four kinds of event.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import sympy as sp

from ..errors import ModelError, did_you_mean
from ..expressions import TIME, symbol
from ..sharing import substitute_all, symbols_of
from .switches import switch, switches
from .system import System, integral_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Autonomous:
    """States y (n), parameters p (k) and what is reported (no), as expressions of real symbols."""

    states: tuple[sp.Symbol, ...]
    parameters: tuple[sp.Symbol, ...]  # primary, then switched by events
    primary: int  # how many parameters are primary
    rates: tuple[sp.Expr, ...]  # (n), of states and parameters
    initial: tuple[sp.Expr, ...]  # (n), of primary parameters
    report: tuple[sp.Expr, ...]  # (no), of states and parameters
    report_names: tuple[str, ...]

    def state(self, name: str) -> int:
        """Number of a state; -1 where the system has none of that name."""
        return next((i for i, s in enumerate(self.states) if s.name == name), -1)

    def parameter(self, name: str) -> int:
        """Number of a parameter; -1 where the system has none of that name."""
        return next((i for i, s in enumerate(self.parameters) if s.name == name), -1)


def rate_of(route: str) -> str:
    """Name of the parameter that holds the rate of an infusion by a route [amount/h]."""
    return f"rate of {route}"


def slope_of(name: str) -> str:
    """Name of the parameter that holds the slope of an input curve [unit of the input/h]."""
    return f"slope of {name}"


def autonomous(
    system: System,
    *,
    infused: tuple[str, ...] = (),
    report: tuple[str, ...] | None = None,
    states: bool = False,
    switched: bool = False,
) -> Autonomous:
    """Make a system autonomous.

    Parameters
    ----------
    system : equations of a model
    infused : routes by which something is infused; each gets a parameter, `rate_of` it
    report : names of observables, of their integrals (`integral_of`), states or inputs; by default all observables,
        then all their integrals
    states : whether `report` names states, of which an observable may have the name
    switched : whether conditions on time become parameters, which records must then set (`switches`)

    Returns
    -------
    Autonomous
        States are the compartments, the time where something depends on it, the inputs, then the integrals.

    Raises
    ------
    ModelError
        A route or a name to report is unknown.
    """
    cut = system.compartments
    clock = symbol(TIME)
    found = switches(system) if switched else ()
    if found:
        rates, observed = (tuple(switch(e, found) for e in part) for part in (system.rates, system.observed))
        system = replace(system, rates=rates, observed=observed)
    timed = any(clock in symbols_of(e) for e in (*system.rates, *system.observed))
    slopes = tuple(symbol(slope_of(u)) for u in system.inputs)
    infusions = tuple(symbol(rate_of(r)) for r in infused)
    changed = list(system.rates)
    for route, size in zip(infused, infusions, strict=True):
        for i, fraction in enumerate(system.entries[_route(system, route)]):
            if fraction != 0:
                changed[i] += fraction * size
    extra = (clock,) * timed + tuple(symbol(u) for u in system.inputs)
    extra_rates = (sp.Integer(1),) * timed + slopes
    start = substitute_all(system.initial, {clock: sp.Integer(0)})
    names = _report_names(system, report)
    return Autonomous(
        states=tuple(map(symbol, system.states[:cut])) + extra + tuple(map(symbol, system.states[cut:])),
        parameters=tuple(map(symbol, system.parameters)) + infusions + slopes + tuple(s.past for s in found),
        primary=len(system.parameters),
        rates=(*changed[:cut], *extra_rates, *changed[cut:]),
        initial=(*start[:cut], *(sp.Integer(0) for _ in extra), *start[cut:]),
        report=_reported(system, names, states),
        report_names=names,
    )


def _route(system: System, route: str) -> int:
    if route not in system.routes:
        known = ", ".join(system.routes) or "none"
        raise ModelError(f"no route {route!r} to infuse into{did_you_mean(route, system.routes)}; known: {known}")
    return system.routes.index(route)


def _report_names(system: System, report: tuple[str, ...] | None) -> tuple[str, ...]:
    return (*system.observables, *map(integral_of, system.observables)) if report is None else report


def _reported(system: System, names: tuple[str, ...], states: bool) -> tuple[sp.Expr, ...]:
    known = {n: symbol(n) for n in (*system.states, *system.inputs)}
    if not states:
        known |= dict(zip(system.observables, system.observed, strict=True))
    for name in names:
        if name not in known:
            raise ModelError(f"no {name!r} to report{did_you_mean(name, known)}; known: {', '.join(known)}")
    return tuple(known[n] for n in names)
