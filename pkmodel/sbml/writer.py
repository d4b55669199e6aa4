"""A pkmodel model as SBML Level 3 Version 2 core.

Compartments that hold an amount of substance become species of one SBML compartment, in amounts; other states
(activities, concentrations) become parameters with a rate rule, as SBML knows species in substance only. Flows become
reactions, formulas initial assignments, observables assignment rules. Numbers are canonical: h, nmol, MBq, L, g.

Doses are no part of a model, here as there: routes are told in the notes, and a regimen is not written.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import sympy as sp

from ..errors import ModelError
from ..expressions import symbol, to_text
from ..model import OUTSIDE, Model
from ..units import Dimension, canonical_unit, dimension
from .content import mathml
from .document import libsbml
from .names import SafeNames

type Element = Any  # libsbml ships no types

_AMOUNT = dimension("nmol")
# Base dimension -> SBML's base unit, multiplier, scale and exponent per power of ours.
_BASE = {
    "time": ("second", 3600.0, 0),
    "substance": ("mole", 1.0, -9),
    "length": ("metre", 1.0, -1),
    "mass": ("gram", 1.0, 0),
    "activity": ("becquerel", 1.0, 6),
    "dose": ("gray", 1.0, 0),
    "equivalent_dose": ("sievert", 1.0, 0),
    "count": ("item", 1.0, 0),
    "cells": ("item", 1.0, 0),
    "energy": ("joule", 1.602176634, -19),
    "pressure": ("pascal", 133.322387415, 0),
    "injected_activity": ("dimensionless", 1.0, 0),
    "temperature": ("kelvin", 1.0, 0),
}


def write_sbml(model: Model, path: str | Path | None = None) -> str:
    """Write a model as SBML; `read_sbml` reads it back to one that behaves the same.

    Parameters
    ----------
    model : labelled or not
    path : where to keep it; not given, the text is returned only

    Returns
    -------
    str
        The text of the file.

    Raises
    ------
    ModelError
        The model is driven by a measured input, which a model file cannot hold, or uses a function that SBML lacks.
    """
    if model.inputs:
        raise ModelError(
            f"{model.who}: input {', '.join(model.inputs)} is a measured curve and no part of a model; SBML has no "
            "place for it; replace it by a compartment or a formula of time first"
        )
    text = _Writer(model).text()
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


class _Writer:
    """Builds one document."""

    def __init__(self, model: Model) -> None:
        self.library = libsbml()
        self.model = model
        self.names = SafeNames()
        for taken in (*model.parameters, *model.compartments):
            self.names(taken)
        self.document = self.library.SBMLDocument(3, 2)
        self.out = self.document.createModel()
        self.species = {n for n, c in model.compartments.items() if dimension(c.unit) == _AMOUNT}
        self.units: dict[Dimension, str] = {}
        set_by_events = {symbol(t) for e in model.events for t in e.assignments}
        self.moving = {s.name for s in set_by_events if s.name in model.parameters}
        self.moving |= {s.name for s, e in model.resolved.items() if e.free_symbols & set_by_events}

    def text(self) -> str:
        m = self.model
        self.out.setId(SafeNames()(m.name))
        self.out.setName(m.title or m.name)
        self.out.setNotes(self.notes())
        self.out.setTimeUnits(self.unit(dimension("h")))
        for place in (self.out.setSubstanceUnits, self.out.setExtentUnits):
            place(self.unit(_AMOUNT))
        self.out.setVolumeUnits(self.unit(dimension("L")))
        self.parameters()
        if self.species:
            self.body()
        self.states()
        self.reactions()
        self.observables()
        self.events()
        problems = self.document.checkInternalConsistency()
        if problems:
            raise ModelError(f"{m.who}: cannot be written as SBML: {self.document.getError(0).getMessage()}")
        return str(self.library.writeSBMLToString(self.document))

    def notes(self) -> str:
        routes = (
            f"route {route}: " + ", ".join(f"{to_text(e)} into {c}" for c, e in parts.items())
            for route, parts in self.model.administration.items()
        )
        lines = [*self.model.references, *routes]
        body = "".join(f"<p>{escape(line)}</p>" for line in lines) or "<p/>"
        return f'<notes><body xmlns="http://www.w3.org/1999/xhtml">{body}</body></notes>'

    def unit(self, of: Dimension) -> str:
        """Id of the canonical unit of a dimension."""
        if not of.exponents:
            return "dimensionless"
        if of not in self.units:
            words = canonical_unit(of).replace("/", " per ").replace("^", "").replace("1 per", "per").split()
            self.units[of] = SafeNames()("_".join(words).replace(".", "_"))
            definition = self.out.createUnitDefinition()
            definition.setId(self.units[of])
            for name, exponent in of.exponents:
                kind, multiplier, scale = _BASE[name]
                unit = definition.createUnit()
                unit.setKind(self.library.UnitKind_forName(kind))
                unit.setExponent(exponent)
                unit.setMultiplier(multiplier)
                unit.setScale(scale)
        return self.units[of]

    def math(self, expression: sp.Basic) -> Element:
        node = self.library.readMathMLFromString(mathml(expression))
        if node is None:
            raise ModelError(f"{self.model.who}: {expression} cannot be written as SBML")
        return node

    def parameter(self, id: str, unit: str, meaning: str, constant: bool) -> Element:
        p = self.out.createParameter()
        p.setId(id)
        p.setUnits(self.unit(dimension(unit)))
        p.setConstant(constant)
        if meaning:
            p.setName(meaning)
        return p

    def assign(self, kind: str, id: str, expression: sp.Basic) -> None:
        """An initial assignment, an assignment rule or a rate rule."""
        made = getattr(self.out, f"create{kind}")()
        (made.setSymbol if kind == "InitialAssignment" else made.setVariable)(id)
        made.setMath(self.math(expression))

    def parameters(self) -> None:
        for n, p in self.model.parameters.items():
            made = self.parameter(n, p.unit, p.meaning, constant=n not in self.moving)
            if p.formula is not None:
                self.assign("AssignmentRule" if n in self.moving else "InitialAssignment", n, p.formula)
            elif not math.isnan(p.canonical):
                made.setValue(p.canonical)

    def body(self) -> None:
        """The one SBML compartment in which the species are."""
        self.place = self.names.fresh("body")
        c = self.out.createCompartment()
        c.setId(self.place)
        c.setSize(1.0)
        c.setSpatialDimensions(3)
        c.setUnits(self.unit(dimension("L")))
        c.setConstant(True)

    def states(self) -> None:
        for n, c in self.model.compartments.items():
            number = float(c.initial) if c.initial.is_number else None
            if n in self.species:
                made = self.out.createSpecies()
                made.setId(n)
                made.setCompartment(self.place)
                made.setSubstanceUnits(self.unit(_AMOUNT))
                made.setHasOnlySubstanceUnits(True)
                made.setBoundaryCondition(False)
                made.setConstant(False)
                if c.meaning:
                    made.setName(c.meaning)
                place = made.setInitialAmount
            else:
                made = self.parameter(n, c.unit, c.meaning, constant=False)
                self.assign("RateRule", n, self.model.rate_of_change(n))
                place = made.setValue
            if number is None:
                self.assign("InitialAssignment", n, c.initial)
            else:
                place(number)

    def reactions(self) -> None:
        for f in self.model.flows:
            ends = [e for e in (f.source, f.target) if e in self.species]
            if not ends:
                continue
            r = self.out.createReaction()
            r.setId(self.names.fresh(f.name or f"{f.source or 'outside'}_to_{f.target or 'outside'}"))
            if f.name:
                r.setName(f.name)
            r.setReversible(False)
            for end, make in ((f.source, r.createReactant), (f.target, r.createProduct)):
                if end != OUTSIDE and end in self.species:
                    reference = make()
                    reference.setSpecies(end)
                    reference.setStoichiometry(1.0)
                    reference.setConstant(True)
            for other in sorted({s.name for s in f.rate.free_symbols} & self.species - set(ends)):
                r.createModifier().setSpecies(other)
            r.createKineticLaw().setMath(self.math(f.rate))

    def observables(self) -> None:
        for n, o in self.model.observables.items():
            if n in self.species and o.expression == symbol(n):
                continue  # the species speaks for itself
            id = n if n not in self.names.original else self.names.fresh(f"{n}_observed")
            if id == n:
                self.names(n)
            self.parameter(id, o.unit, o.meaning, constant=False)
            self.assign("AssignmentRule", id, o.expression)

    def events(self) -> None:
        for e in self.model.events:
            made = self.out.createEvent()
            made.setId(self.names.fresh(e.name or "event"))
            made.setUseValuesFromTriggerTime(e.use_trigger_values)
            trigger = made.createTrigger()
            trigger.setInitialValue(e.initial_value)
            trigger.setPersistent(e.persistent)
            trigger.setMath(self.math(e.trigger))
            if e.delay != 0:
                made.createDelay().setMath(self.math(e.delay))
            if e.priority is not None:
                made.createPriority().setMath(self.math(e.priority))
            for target, expression in e.assignments.items():
                assignment = made.createEventAssignment()
                assignment.setVariable(target)
                assignment.setMath(self.math(expression))
