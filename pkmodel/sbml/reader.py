"""An SBML file as a pkmodel model.

Units. Where the file declares every unit and all its formulas fit them, parameters keep their units and pkmodel
converts (nmol, h, L ...). Where it does not, which is the rule rather than the exception, numbers stay as they are in
the file, units are "1", and one fixed parameter, ``per_time`` [1/h], says how many of the file's units of time are an
hour: as declared; else as in the units of its parameters, if these agree on one; else 1. `Model.references` says which.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import sympy as sp

from ..errors import ModelError, PkmodelError
from ..expressions import TIME, symbol
from ..model import OUTSIDE, Compartment, Event, Flow, Model, Observable, Parameter
from ..units import dimension
from .algebraic import solved
from .document import Document, Quantity, read_document
from .equations import Equations
from .units import amount_unit, assert_consistent, clock, over, per_hour, time_dimension, unit_of

UNITS = ("auto", "none")
NAMES = ("id", "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A model with what the ids of its file mean.

    Parameters
    ----------
    model : Model
    values : id of the file -> its value in a formula of the file (of a species, amount or concentration), in terms of
        parameters and compartments of `model` and time
    amounts, concentrations : id of a species -> its amount and concentration, in the same terms
    starts : id of the file -> parameter of `model` that holds its initial value; absent where that is a formula or zero
    per_time : units of time of the file in one hour [1/h]
    """

    model: Model
    values: Mapping[str, sp.Expr]
    amounts: Mapping[str, sp.Expr]
    concentrations: Mapping[str, sp.Expr]
    starts: Mapping[str, str]
    per_time: float


def read_sbml(source: str | Path, units: str = "auto", names: str = "id") -> Model:
    """Read a model from SBML, Level 2 or 3 core.

    Species become compartments that hold amounts; an observable of the same name is what the id means in the file,
    an amount or a concentration. Assignment rules become observables, initial assignments become formulas of the
    parameters, so that they follow when a parameter is changed. Events become `Model.events`.

    Parameters
    ----------
    source : path of a file, or its text [text]
    units : "auto" (as declared, if all formulas agree with the declarations) or "none" (numbers and time as they are)
    names : "id" (the file's ids) or "name" (what a person called things, where that is unique; a species goes by
        compartment and name)

    Returns
    -------
    Model

    Raises
    ------
    ModelError
        The file is not SBML, refers to what it does not define, or uses an algebraic rule, a delay, a fast reaction, a
        package or another construct that is not supported; the message names it, its element and its line.
    """
    return import_sbml(source, units, names).model


def import_sbml(source: str | Path, units: str = "auto", names: str = "id") -> Imported:
    """Read a model from SBML, and what each id of the file means in it (see `read_sbml`)."""
    if units not in UNITS:
        raise ModelError(f"read_sbml: units={units!r} is not known; allowed: {', '.join(UNITS)}")
    if names not in NAMES:
        raise ModelError(f"read_sbml: names={names!r} is not known; allowed: {', '.join(NAMES)}")
    document = solved(read_document(source, names))
    equations = Equations(document)
    if units == "auto":
        try:
            return _Build(equations, Declared(document)).imported()
        except _Undeclared as reason:
            return _Build(equations, Bare(*clock(document), str(reason))).imported()
    return _Build(equations, Bare(1.0, "", "as asked for")).imported()


class _Undeclared(Exception):
    """Units are missing or do not fit; the message says where."""


class Declared:
    """Units as the file declares them."""

    per_time: float | None = None

    def __init__(self, document: Document) -> None:
        self.document = document

    def _sure(self, text: str, what: str) -> str:
        if not text:
            raise _Undeclared(f"no unit declared for {what}")
        try:
            dimension(text)
        except PkmodelError as error:
            raise _Undeclared(str(error)) from None
        return text

    def _try(self, q: Quantity, amount: bool) -> str:
        try:
            return self._sure(amount_unit(q, self.document) if amount else unit_of(q, self.document), q.id)
        except PkmodelError as error:
            raise _Undeclared(f"{q.id}: {error}") from None

    def value(self, q: Quantity) -> str:
        """Unit of the number in the file."""
        unit = self._try(q, amount=False)
        return unit if q.kind != "species" or q.is_amount else self._concentration(q, unit)

    def state(self, q: Quantity) -> str:
        """Unit of the state."""
        return self._try(q, amount=q.kind == "species")

    def meaning(self, q: Quantity) -> str:
        """Unit of what the id stands for in a formula."""
        unit = self.state(q)
        return unit if q.kind != "species" or q.means_amount else self._concentration(q, unit)

    def _concentration(self, q: Quantity, unit: str) -> str:
        return over(unit, self._try(self.document.quantities[q.compartment], amount=False))

    def note(self) -> str:
        """What a reader should know."""
        return "units as declared in the file"

    def verify(self, model: Model) -> None:
        """Refuse units that do not fit the formulas."""
        known = time_dimension() | {n: dimension(p.unit) for n, p in model.parameters.items()}
        known |= {n: dimension(c.unit) for n, c in model.compartments.items()}
        try:
            for f in model.flows:
                for end in (f.source, f.target):
                    if end != OUTSIDE:
                        assert_consistent(f.rate, per_hour(model.compartments[end].unit), known, f"flow {f}")
            for c in model.compartments.values():
                assert_consistent(c.initial, dimension(c.unit), known, f"initial value of {c.name}")
            for o in model.observables.values():
                assert_consistent(o.expression, dimension(o.unit), known, o.name)
            for p in model.parameters.values():
                if p.formula is not None:
                    assert_consistent(p.formula, dimension(p.unit), known, p.name)
            for e in model.events:
                assert_consistent(e.trigger, None, known, str(e))
                assert_consistent(e.delay, dimension("h"), known, f"delay of {e}")
                for target, x in e.assignments.items():
                    part = model.compartments.get(target) or model.parameters[target]
                    assert_consistent(x, dimension(part.unit), known, f"{e}: {target}")
        except PkmodelError as error:
            raise _Undeclared(str(error)) from None


class Bare:
    """Numbers without units; `hours` in one unit of the file's time, and how that is known."""

    def __init__(self, hours: float, known: str, reason: str) -> None:
        self.per_time: float = 1.0 / hours
        self._note = f"numbers as in the file, without units ({reason})" + (f"; {known}" if known else "")

    def value(self, q: Quantity) -> str:
        """Unit of the number in the file."""
        return "1"

    state = meaning = value

    def note(self) -> str:
        """What a reader should know."""
        return self._note

    def verify(self, model: Model) -> None:
        """Nothing to refuse."""


class _Build:
    """Puts the parts of a model together."""

    def __init__(self, equations: Equations, units: Declared | Bare) -> None:
        self.equations, self.units = equations, units
        self.document = equations.document
        self.clock = sp.Integer(1)  # units of the file's time per hour
        self.per_time = "per_time"
        while self.per_time in self.document.quantities or self.per_time in self.document.reactions:
            self.per_time += "_"
        if units.per_time is not None:
            self.clock = symbol(self.per_time)

    def imported(self) -> Imported:
        d, e = self.document, self.equations
        compartments = self.compartments()
        flows = tuple(self.flows())
        observables = self.observables()
        events = tuple(self.events())
        parameters = self.parameters(self.used(compartments, flows, observables, events))
        model = Model(
            name=d.name,
            title=d.title,
            parameters=parameters,
            compartments=compartments,
            flows=flows,
            observables=observables,
            events=events,
            references=(f"SBML Level {d.level} Version {d.version}: {self.units.note()}",),
            origin="" if d.who == "SBML text" else d.who,
        )
        self.units.verify(model)
        known = {*parameters, *compartments, TIME}
        names = [
            n for n in (*d.quantities, *d.reactions) if {s.name for s in self.timed(e.value(n)).free_symbols} <= known
        ]
        amounts = {n: self.timed(e.amount(n)) for n in names if n in d.quantities and d.quantities[n].kind == "species"}
        volumes = {n: self.timed(e.value(d.quantities[n].compartment)) for n in amounts}
        return Imported(
            model=model,
            values={d.original[n]: self.timed(e.value(n)) for n in names},
            amounts={d.original[n]: x for n, x in amounts.items()},
            concentrations={d.original[n]: x / volumes[n] for n, x in amounts.items()},
            starts={d.original[n]: p for n in e.states if (p := e.initial_name(n)) in parameters}
            | {d.original[n]: n for n in e.constants if n in parameters and parameters[n].formula is None},
            per_time=1.0 if self.units.per_time is None else self.units.per_time,
        )  # fmt: skip

    def timed(self, expression: sp.Expr) -> sp.Expr:
        """Time in hours in place of the file's."""
        return expression.xreplace({symbol(TIME): symbol(TIME) * self.clock}) if self.clock != 1 else expression

    def meaning(self, q: Quantity) -> str:
        original = self.document.original[q.id]
        return q.meaning or ("" if original == q.id else f"{original} in the file")

    def compartments(self) -> dict[str, Compartment]:
        out = {}
        for id in self.equations.states:
            q = self.document.quantities[id]
            out[id] = Compartment(
                name=id,
                unit=self.units.state(q),
                region=q.compartment,
                initial=self.equations.start_of_state(id),
                meaning=self.meaning(q),
            )
        return out

    def flows(self) -> Iterator[Flow]:
        e = self.equations
        for r, turned in e.by_reaction.items():
            rates = {s: self.timed(rate * self.clock) for s, rate in turned.items()}
            if len(rates) == 2:
                (a, x), (b, y) = rates.items()
                if x + y == 0:
                    out_of_a = x.could_extract_minus_sign()
                    source, target = (a, b) if out_of_a else (b, a)
                    yield Flow(source=source, target=target, rate=y if out_of_a else x, name=r)
                    continue
            for s, rate in rates.items():
                if rate.could_extract_minus_sign():
                    yield Flow(source=s, target=OUTSIDE, rate=-rate, name=r)
                else:
                    yield Flow(source=OUTSIDE, target=s, rate=rate, name=r)
        for s in e.states:
            if s in self.document.rate:
                rate = e.rate(s)
                if rate != 0:
                    yield Flow(source=OUTSIDE, target=s, rate=self.timed(rate * self.clock), name=f"rate of {s}")

    def observables(self) -> dict[str, Observable]:
        out = {}
        for id, q in self.document.quantities.items():
            if id in self.equations.assigned and id not in self.equations.derived:
                out[id] = Observable(
                    name=id, expression=self.timed(self.equations.value(id)), unit=self.units.meaning(q),
                    meaning=self.meaning(q),
                )  # fmt: skip
            elif q.kind == "species" and id in self.equations.states:
                expression = self.timed(self.equations.value(id))
                out[id] = Observable(
                    name=id, expression=expression, unit=self.units.meaning(q), meaning=self.meaning(q)
                )
        return out

    def events(self) -> Iterator[Event]:
        e = self.equations
        for event in self.document.events:
            assignments = {}
            for target, formula in event.assignments.items():
                x = self.timed(e.formula(formula))
                q = self.document.quantities[target]
                if target in e.assigned:
                    raise ModelError(
                        f"{self.document.who}, line {event.line}: {event.id} sets {target}, which has a rule"
                    )
                if q.kind == "species" and not q.means_amount:
                    volume = e.value(q.compartment)  # before the event: the amount does not change with it
                    late = event.at_trigger and event.delay != 0
                    if late and any(s.name not in e.still and s.name not in e.derived for s in volume.free_symbols):
                        raise ModelError(
                            f"{self.document.who}, line {event.line}: {event.id} sets the concentration of {target} "
                            f"after a delay to what it was at trigger time, while the size of {q.compartment} changes; "
                            "this is not supported; set an amount (hasOnlySubstanceUnits)"
                        )
                    x = x * self.timed(volume)
                assignments[target] = x
            yield Event(
                name=event.id,
                trigger=self.timed(e.formula(event.trigger)),
                assignments=assignments,
                delay=self.timed(e.formula(event.delay)) / self.clock,
                priority=None if event.priority is None else self.timed(e.formula(event.priority)),
                persistent=event.persistent,
                initial_value=event.initial_value,
                use_trigger_values=event.at_trigger,
                line=event.line,
            )

    def used(
        self,
        compartments: Mapping[str, Compartment],
        flows: tuple[Flow, ...],
        observables: Mapping[str, Observable],
        events: tuple[Event, ...],
    ) -> set[str]:
        """Names that some formula of the model needs, through other formulas too."""
        expressions: list[sp.Basic] = [c.initial for c in compartments.values()]
        expressions += [f.rate for f in flows] + [o.expression for o in observables.values()]
        for event in events:
            expressions += [event.trigger, event.delay, *event.assignments.values()]
            expressions += [event.priority] if event.priority is not None else []
        document, quantities = self.document, self.document.quantities
        expressions += [
            self.formula(n) for n, q in quantities.items() if q.kind != "reference" and n not in document.rate
        ]
        waiting = {s.name for e in expressions for s in e.free_symbols}
        done: set[str] = set()
        while waiting:
            name = waiting.pop()
            done.add(name)
            waiting |= {s.name for s in self.formula(name).free_symbols} - done
        return done

    def formula(self, name: str) -> sp.Expr:
        """Formula of a constant, zero where it has a number."""
        if name in self.equations.derived:
            return self.equations.derived[name]
        if name in self.equations.still and name in self.document.initial:
            return self.equations.initial_formula(name)
        return sp.Integer(0)

    def parameters(self, used: set[str]) -> dict[str, Parameter]:
        d, e = self.document, self.equations
        out: dict[str, Parameter] = {}
        if self.units.per_time is not None:
            out[self.per_time] = Parameter(
                name=self.per_time,
                unit="1/h",
                value=self.units.per_time,
                meaning="units of time of the SBML file in an hour",
                fixed=True,
            )
        for id, q in d.quantities.items():
            if id in e.derived or (id in e.still and id in d.initial):
                if id in used or q.kind != "reference":
                    unit = self.units.meaning(q)
                    out[id] = Parameter(name=id, unit=unit, formula=self.formula(id), meaning=self.meaning(q))
            elif id in e.still and (id in used or (q.kind != "reference" and not math.isnan(q.value))):
                out[id] = self.number(q, id, self.units.value(q))
            elif id in e.states and (name := e.initial_name(id)) in used:
                made = self.number(q, name, self.units.value(q))
                out[name] = replace(made, meaning=f"initial {'amount' if q.is_amount else 'value'} of {id}")
        return out

    def number(self, q: Quantity, name: str, unit: str) -> Parameter:
        if math.isinf(q.value):
            raise ModelError(
                f"{self.document.who}: {q.kind} {q.id!r} has the infinite value {q.value}; give it a number"
            )
        value = None if math.isnan(q.value) else q.value  # none: it must be given before a run
        return Parameter(name=name, unit=unit, value=value, meaning=self.meaning(q))
