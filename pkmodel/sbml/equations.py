"""The meaning of an SBML document: which names move in time, how fast, from where, and what every id is worth.

States are amounts. A species named S of amount n in a compartment of volume V stands in a formula for n, or for the
concentration n/V (hasOnlySubstanceUnits false). With the stoichiometry s, the conversion factor c and the rate v of
each reaction,

    dn/dt = sum of s*c*v,

and where a rule gives the rate r of the concentration instead, dn/dt = d(c V)/dt = r V + (n/V) dV/dt. Compartments,
parameters and stoichiometries with a rate rule, and whatever an event changes, are states of their own.

SBML Level 3 Version 2 Core, doi:10.1515/jib-2017-0081, sections 4.5 to 4.12.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property

import sympy as sp

from ..errors import ModelError
from ..expressions import TIME, symbol
from .document import Document, Quantity
from .mathml import RATE_OF, Math, number

ZERO, ONE = sp.Integer(0), sp.Integer(1)


class Equations:
    """Formulas of a document in terms of parameters, states and time alone, each worked out when asked for."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._values: dict[str, sp.Expr] = {}
        self._starts: dict[str, sp.Expr] = {}
        self._rates: dict[str, sp.Expr] = {}
        self._derived: dict[str, sp.Expr] = {}
        self._path: list[str] = []

    # Which is what

    @cached_property
    def assigned(self) -> frozenset[str]:
        """Ids that an assignment rule gives at every time."""
        return frozenset(self.document.assignment)

    @cached_property
    def states(self) -> tuple[str, ...]:
        """Ids with a differential equation, in the order of the file."""
        d = self.document
        reacting = {p.species for r in d.reactions.values() for p in r.participants}
        set_by_events = {target for e in d.events for target in e.assignments}

        def moves(q: Quantity) -> bool:
            if q.id in d.rate or q.id in set_by_events:
                return True
            return q.kind == "species" and q.id in reacting and not q.boundary and not q.constant

        moving = {q.id for q in d.quantities.values() if moves(q)} - self.assigned
        # A species that nothing changes keeps its amount, also where its volume does not keep its size.
        kept = {
            q.id
            for q in d.quantities.values()
            if q.kind == "species" and not (q.means_amount and q.is_amount) and q.compartment in moving | self.assigned
        }
        return tuple(id for id in d.quantities if id in moving | (kept - self.assigned))

    @cached_property
    def constants(self) -> tuple[str, ...]:
        """Ids that keep their value."""
        return tuple(id for id in self.document.quantities if id not in self.assigned and id not in self.states)

    @cached_property
    def derived(self) -> Mapping[str, sp.Expr]:
        """Assigned ids that keep their value, with their formula in parameters."""
        for id in self.document.assignment:
            self.value(id)
        return self._derived

    @cached_property
    def still(self) -> frozenset[str]:
        """Constants, for fast look-up."""
        return frozenset(self.constants)

    # What a name is worth

    def formula(self, expression: Math) -> Math:
        """An expression of ids in terms of parameters, states and time."""
        return expression.xreplace({s: self.value(s.name) for s in expression.free_symbols if s.name != TIME})

    def value(self, id: str) -> sp.Expr:
        """What an id stands for in a formula."""
        return self._memo(self._values, id, self._value)

    def _value(self, id: str) -> sp.Expr:
        d = self.document
        if id.startswith(RATE_OF):
            return self.rate_of(id.removeprefix(RATE_OF))
        if id in d.reactions:
            return self.formula(d.reactions[id].law)
        if id in self.assigned:
            expression = self.formula(d.assignment[id])
            if any(s.name not in self.still and s.name not in self._derived for s in expression.free_symbols):
                return expression
            self._derived[id] = expression
            return symbol(id)
        q = d.quantities[id]
        if q.kind != "species" or (id in self.constants and id in d.initial):
            return symbol(id)
        is_amount = True if id in self.states else q.is_amount
        if is_amount == q.means_amount:
            return symbol(id)
        volume = self.value(q.compartment)
        return symbol(id) / volume if is_amount else symbol(id) * volume

    def amount(self, id: str) -> sp.Expr:
        """The amount of a species."""
        q = self.document.quantities[id]
        return self.value(id) if q.means_amount else self.value(id) * self.value(q.compartment)

    # Where it begins

    def start(self, id: str) -> sp.Expr:
        """What an id stands for at time zero, in parameters alone."""
        return self._memo(self._starts, id, self._start)

    def _start(self, id: str) -> sp.Expr:
        d = self.document
        if id in self.assigned or id in d.reactions or id.startswith(RATE_OF):
            return self._at_zero(self.value(id))
        if id in d.initial:
            if id in self.constants:
                return symbol(id)
            return self.initial_formula(id)
        q = d.quantities[id]
        if id in self.constants:
            return self._at_zero(self.value(id))
        if q.kind != "species" or q.is_amount == q.means_amount:
            return self.given(q)
        volume = self.start(q.compartment)
        return self.given(q) / volume if q.is_amount else self.given(q) * volume

    def initial_formula(self, id: str) -> sp.Expr:
        """The initial assignment of an id in parameters alone."""
        expression = self.document.initial[id]
        found = {s: self.start(s.name) for s in expression.free_symbols if s.name != TIME}
        return expression.xreplace(found | {symbol(TIME): ZERO})

    def start_of_state(self, id: str) -> sp.Expr:
        """Initial value of a state: of a species, its amount."""
        q = self.document.quantities[id]
        start = self.start(id)
        return start if q.kind != "species" or q.means_amount else start * self.start(q.compartment)

    def _at_zero(self, expression: sp.Expr) -> sp.Expr:
        states = {symbol(s): self.start_of_state(s) for s in self.states if symbol(s) in expression.free_symbols}
        return expression.xreplace(states | {symbol(TIME): ZERO})

    def given(self, q: Quantity) -> sp.Expr:
        """The number of the file, as a parameter unless it is zero."""
        return ZERO if q.value == 0 else symbol(self.initial_name(q.id))

    def initial_name(self, id: str) -> str:
        """Name of the parameter that holds the initial value of a state."""
        name = f"{id}_0"
        while name in self.document.quantities or name in self.document.reactions:
            name += "_"
        return name

    # How it moves

    def rate(self, state: str) -> sp.Expr:
        """d(state)/dt in the unit of time of the file."""
        return self._memo(self._rates, state, self._rate)

    def _rate(self, state: str) -> sp.Expr:
        d = self.document
        q = d.quantities[state]
        if state in d.rate:
            rule = self.formula(d.rate[state])
            if q.kind != "species" or q.means_amount:
                return rule
            volume = self.value(q.compartment)
            return rule * volume + self.value(state) * self.derivative(volume)
        return sp.Add(*(rate for s, rate in self.turnover if s == state))

    @cached_property
    def turnover(self) -> tuple[tuple[str, sp.Expr], ...]:
        """(species, amount per time) of each reaction that changes a species."""
        return tuple((s, rate) for parts in self.by_reaction.values() for s, rate in parts.items())

    @cached_property
    def by_reaction(self) -> Mapping[str, Mapping[str, sp.Expr]]:
        """Reaction -> species -> amount per time; what cancels is left out."""
        out: dict[str, dict[str, sp.Expr]] = {}
        for r in self.document.reactions.values():
            turned: dict[str, sp.Expr] = {}
            for p in r.participants:
                q = self.document.quantities[p.species]
                if p.species not in self.states or q.boundary or q.constant or p.species in self.document.rate:
                    continue
                turned[p.species] = turned.get(p.species, ZERO) + self.stoichiometry(p.amount) * self.conversion(q)
            law = self.value(r.id)
            out[r.id] = {s: n * law for s, n in turned.items() if n != 0 and law != 0}
        return out

    def stoichiometry(self, amount: sp.Expr) -> sp.Expr:
        """How many: a number, unless something changes it."""
        fixed = {}
        for s in amount.free_symbols:
            q = self.document.quantities.get(s.name)
            if q is not None and q.kind == "reference" and q.id in self.still and q.id not in self.document.initial:
                if math.isnan(q.value):
                    raise ModelError(
                        f"{self.document.who}: stoichiometry {q.id!r} has no value; give it one in the file"
                    )
                fixed[s] = number(q.value)
        return self.formula(amount.xreplace(fixed))

    def conversion(self, q: Quantity) -> sp.Expr:
        """Amount of a species per extent of a reaction."""
        factor = q.conversion or self.document.conversion
        return self.value(factor) if factor else ONE

    def derivative(self, expression: sp.Expr) -> sp.Expr:
        """Total derivative with respect to time along the solution."""
        total = sp.diff(expression, symbol(TIME))
        for s in sorted(expression.free_symbols, key=str):
            if s.name in self.states:
                total += sp.diff(expression, s) * self.rate(s.name)
        return total

    def rate_of(self, id: str) -> sp.Expr:
        """What csymbol rateOf gives: the derivative of what the id stands for."""
        return self.derivative(self.value(id))

    def _memo(self, done: dict[str, sp.Expr], id: str, work: Callable[[str], sp.Expr]) -> sp.Expr:
        if id not in done:
            label = f"{work.__name__} {id}"
            if label in self._path:
                circle = [p.split(" ", 1)[1] for p in self._path[self._path.index(label) :]]
                raise ModelError(f"{self.document.who}: circular definition {' -> '.join([*circle, id])}")
            self._path.append(label)
            done[id] = work(id)
            self._path.pop()
        return done[id]
