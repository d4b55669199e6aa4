"""Events with a trigger: what a system must know of them before it can be followed (`trigger_walk`).

A parameter that an event sets moves in time, so it becomes a state (`settled`). What events read - triggers, delays,
priorities, new values - joins the report of the system, so that one compiled program computes all of it (`triggered`).
Where a condition compares time with what stands still between events (``t > 5``), the time at which it changes is
written down as a formula, and steps end there exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sympy as sp
from sympy.core.relational import Relational
from sympy.logic.boolalg import Boolean

from .compiler.autonomous import Autonomous
from .compiler.reduce import Reduced, reduced
from .errors import SimulationError
from .expressions import TIME, symbol
from .model import Model
from .parts import Compartment, Event


@dataclass(frozen=True, slots=True)
class Triggered:
    """A system that knows its events: what they read is reported behind what the user asked for.

    Parameters
    ----------
    given : the system as it was
    small : what is left of it once time and whatever an event sets are states, and idle states are gone
    events : of the model, in primary parameters
    targets : per event, the numbers of the states it sets; -1 for one that reaches nothing reported
    stops : how many reports are times at which a condition on time alone changes
    """

    given: Autonomous
    small: Reduced
    events: tuple[Event, ...]
    targets: tuple[tuple[int, ...], ...]
    stops: int

    @property
    def reported(self) -> int:
        """How many reports are the user's."""
        return len(self.given.report)


def settled(model: Model) -> Model:
    """The model with a compartment ``<name>_now`` for each parameter that an event sets, which is its start.

    What an event changes moves in time, so it is a state. Formulas that depend on it are written out where they are
    used in rates, observables and events; initial values and administrations keep the parameter.

    Parameters
    ----------
    model : any
    """
    moved = sorted({t for e in model.events for t in e.assignments if t in model.parameters})
    if not moved:
        return model
    now = {p: f"{p}_now" for p in moved}
    while taken := [p for p in moved if now[p] in model.symbols]:
        now |= {p: f"{now[p]}_" for p in taken}
    swap = {symbol(p): symbol(now[p]) for p in moved}
    swap |= {s: e.xreplace(swap) for s, e in model.resolved.items() if e.free_symbols & swap.keys()}
    made = {
        now[p]: Compartment(
            name=now[p], unit=model.parameters[p].unit, initial=symbol(p), kind="site", meaning=f"{p} now"
        )
        for p in moved
    }
    return replace(
        model,
        compartments={**model.compartments, **made},
        flows=tuple(replace(f, rate=f.rate.xreplace(swap)) for f in model.flows),
        observables={n: replace(o, expression=o.expression.xreplace(swap)) for n, o in model.observables.items()},
        events=tuple(
            replace(
                e,
                trigger=e.trigger.xreplace(swap),
                delay=e.delay.xreplace(swap),
                priority=None if e.priority is None else e.priority.xreplace(swap),
                assignments={now.get(t, t): x.xreplace(swap) for t, x in e.assignments.items()},
            )
            for e in model.events
        ),
    )


def triggered(system: Autonomous, model: Model) -> Triggered:
    """Add what events need to a system.

    Parameters
    ----------
    system : made from `model`
    model : with events, `settled`

    Raises
    ------
    SimulationError
        An event sets a parameter.
    """
    if any(t in model.parameters for e in model.events for t in e.assignments):
        raise SimulationError(f"{model.who}: an event sets a parameter; make the system from triggers.settled(model)")
    clock = symbol(TIME)
    events = tuple(_resolved(e, model) for e in model.events)
    timed = (clock,) if clock not in system.states else ()
    states = (*system.states, *timed)
    report = [*system.report, *(_indicator(e.trigger) for e in events)]
    for e in events:
        report += [e.delay, sp.Integer(0) if e.priority is None else e.priority, *e.assignments.values()]
    moving = {s for s, r in zip(system.states, system.rates, strict=True) if r != 0}
    stops = _stops((*system.rates, *(e.trigger for e in events)), moving)
    report += [*stops, clock]
    whole = replace(
        system,
        states=states,
        rates=(*system.rates, *(sp.Integer(1) for _ in timed)),
        initial=(*system.initial, *(sp.Integer(0) for _ in timed)),
        report=tuple(report),
        report_names=tuple(map(str, range(len(report)))),
    )
    small = reduced(whole)
    targets = tuple(tuple(small.state(whole.state(t)) for t in e.assignments) for e in events)
    return Triggered(system, small, events, targets, len(stops))


def _indicator(condition: Boolean) -> sp.Expr:
    """One where a condition holds, else zero; SymPy's if-then-else of conditions is written in and, or, not."""
    chosen = sp.Piecewise((sp.Integer(1), condition), (sp.Integer(0), True))
    return chosen.replace(sp.ITE, lambda c, a, b: (c & a) | (~c & b)) if chosen.has(sp.ITE) else chosen


def _resolved(e: Event, model: Model) -> Event:
    """An event in primary parameters."""
    known = model.resolved
    return replace(
        e,
        trigger=e.trigger.xreplace(known),
        assignments={n: x.xreplace(known) for n, x in e.assignments.items()},
        name=str(e).removeprefix("event "),
        delay=e.delay.xreplace(known),
        priority=None if e.priority is None else e.priority.xreplace(known),
    )


def _stops(expressions: Sequence[sp.Basic], moving: set[sp.Symbol]) -> list[sp.Expr]:
    """Times at which a comparison of time with what stands still between events changes; time enters it linearly."""
    clock = symbol(TIME)
    found: list[sp.Expr] = []
    for relation in sorted({r for e in expressions for r in e.atoms(Relational)}, key=str):
        gap = relation.lhs - relation.rhs
        if clock not in gap.free_symbols or gap.free_symbols & (moving - {clock}):
            continue
        slope = sp.diff(gap, clock)
        if slope != 0 and clock not in slope.free_symbols:
            found.append(-gap.xreplace({clock: sp.Integer(0)}) / slope)
    return list(dict.fromkeys(found))
