"""An SBML file as plain records: what it declares, formulas as SymPy, nothing resolved yet.

libsbml reads the XML. What pkmodel cannot follow is refused here, by name, element and line.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import sympy as sp

from ..errors import ModelError
from ..expressions import symbol
from .mathml import Function, Math, Scope, as_number, as_truth, to_sympy
from .names import SafeNames

type Element = Any  # libsbml ships no types
PACKAGES_IGNORED = ("layout", "render", "groups")  # drawings and labels: no mathematics


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """Anything with an id and a value: compartment, species, parameter or species reference.

    `value` is the number in the file (none: nan). `compartment` and what follows it are of species only.
    """

    id: str
    kind: str  # "compartment", "species", "parameter", "reference"
    value: float
    constant: bool
    unit: str = ""  # a unit definition or a base unit; empty where none is declared
    meaning: str = ""
    compartment: str = ""
    is_amount: bool = True  # whether `value` is an amount (otherwise a concentration)
    means_amount: bool = True  # whether the id in a formula is the amount (hasOnlySubstanceUnits)
    boundary: bool = False
    conversion: str = ""
    flat: bool = False  # a compartment without dimensions: its species are amounts


@dataclass(frozen=True, slots=True)
class Participant:
    """A species in a reaction: `amount` is the stoichiometry, negative for a reactant."""

    species: str
    amount: sp.Expr


@dataclass(frozen=True, slots=True)
class Reaction:
    """A reaction with its rate law in extent per time."""

    id: str
    law: sp.Expr
    participants: tuple[Participant, ...]
    meaning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """An event as the file states it."""

    id: str
    trigger: Math
    delay: sp.Expr
    priority: sp.Expr | None
    assignments: Mapping[str, sp.Expr]
    persistent: bool
    initial_value: bool
    at_trigger: bool
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Everything a model file says. Ids are already safe names; `original` maps them back."""

    name: str
    title: str
    level: int
    version: int
    who: str
    original: Mapping[str, str]
    quantities: Mapping[str, Quantity]
    initial: Mapping[str, sp.Expr]
    assignment: Mapping[str, sp.Expr]
    rate: Mapping[str, sp.Expr]
    algebraic: tuple[tuple[int, sp.Expr], ...]  # (line, what is zero)
    reactions: Mapping[str, Reaction]
    events: tuple[Trigger, ...]
    conversion: str = ""  # conversion factor of the whole model
    units: Mapping[str, Element] = field(default_factory=dict)  # id -> libsbml UnitDefinition
    time_unit: str = ""
    substance_unit: str = ""
    volume_unit: str = ""
    extent_unit: str = ""
    keep: Any = None  # the libsbml document, which owns the unit definitions


def libsbml() -> ModuleType:
    """The library that reads and writes the XML.

    Raises
    ------
    ModelError
        It is not installed.
    """
    try:
        import libsbml as library
    except ImportError:
        raise ModelError("SBML needs python-libsbml; install it with: pip install 'pkmodel[sbml]'") from None
    return library  # type: ignore[no-any-return]


def read_document(source: str | Path, names: str = "id") -> Document:
    """Read a file, or the text of one (anything that contains ``<sbml``).

    Parameters
    ----------
    source : path, or the text itself [text]
    names : "id", or "name" to call things by the names a person gave them, where these are unique

    Raises
    ------
    ModelError
        The file does not exist, is not SBML, or uses what is not supported (which, where, on what line).
    """
    library = libsbml()
    if isinstance(source, str) and "<sbml" in source:
        who, text = "SBML text", source
    else:
        path = Path(source)
        if not path.is_file():
            raise ModelError(f"{path}: there is no such file; give the path of an SBML file, or its text")
        start = path.read_bytes()[:100].lstrip()
        if start.startswith(b"<?xml") or b"<" not in start:
            return _Reader(library.readSBMLFromFile(str(path)), str(path), names).document()
        who, text = str(path), path.read_text(encoding="utf-8-sig")
    # libsbml would put a missing first line on a line of its own and count one too many ever after
    whole = text if text.lstrip().startswith("<?xml") else f'<?xml version="1.0" encoding="UTF-8"?>{text}'
    return _Reader(library.readSBMLFromString(whole), who, names).document()


class _Reader:
    """One pass over the libsbml document."""

    def __init__(self, raw: Any, who: str, names: str) -> None:
        self.raw, self.who = raw, who
        self.library = libsbml()
        for i in range(raw.getNumErrors()):
            error = raw.getError(i)
            if error.getSeverity() >= self.library.LIBSBML_SEV_ERROR:
                message = " ".join(error.getMessage().split())
                raise ModelError(f"{who}, line {error.getLine()}: not valid SBML: {message}")
        self.model = raw.getModel()
        if self.model is None:
            raise ModelError(f"{who}: no <model> in the file")
        self.safe = SafeNames(self.wishes() if names == "name" else None)
        self.functions: dict[str, Function] = {}
        self.names: dict[str, Math] = {}

    def wishes(self) -> dict[str, str]:
        """What a person called each thing; a species with its compartment, as names repeat from one to the next."""
        m = self.model
        called = {e.getId(): e.getName() for e in (*m.getListOfCompartments(), *m.getListOfParameters())}
        for s in m.getListOfSpecies():
            where = m.getCompartment(s.getCompartment())
            called[s.getId()] = f"{where.getName()}_{s.getName()}" if where and s.getName() else ""
        called |= {r.getId(): r.getName() for r in m.getListOfReactions()}
        counts = Counter(called.values())
        return {id: name for id, name in called.items() if name and counts[name] == 1}

    def refuse(self, element: Element, what: str, advice: str = "") -> ModelError:
        label = element.getId() or element.getElementName()
        return ModelError(
            f"{self.who}, line {element.getLine()}: {label!r}: {what} is not supported"
            + (f"; {advice}" if advice else "")
        )

    def document(self) -> Document:
        m = self.model
        for i in range(self.raw.getNumPlugins()):
            plugin = self.raw.getPlugin(i)
            package = plugin.getPackageName()
            if package not in (*PACKAGES_IGNORED, "l3v2extendedmath"):
                raise self.refuse(m, f"the SBML package {package!r}", "flatten or export the model as core SBML")
        self.functions = {f.getId(): self.function(f) for f in m.getListOfFunctionDefinitions()}
        found = [*self.compartments(), *self.species(), *self.parameters(), *self.references()]
        quantities = {q.id: q for q in found}
        self.names = {self.safe.original[q.id]: symbol(q.id) for q in found}
        for r in m.getListOfReactions():
            self.names[r.getId()] = symbol(self.safe(r.getId()))
        reactions, local = self.reactions()
        time, substance, volume, extent = self.global_units()
        return Document(
            name=SafeNames()(m.getId() or m.getName() or "model"),
            title=m.getName() or m.getId(),
            level=self.raw.getLevel(),
            version=self.raw.getVersion(),
            who=self.who,
            quantities=quantities | local,
            initial={
                self.known(a, a.getSymbol()): self.value(a, a.getMath(), f"initial assignment of {a.getSymbol()}")
                for a in m.getListOfInitialAssignments()
                if a.isSetMath()
            },
            assignment=self.rules(lambda r: r.isAssignment()),
            rate=self.rules(lambda r: r.isRate()),
            algebraic=tuple(
                (r.getLine(), self.value(r, r.getMath(), "algebraic rule"))
                for r in m.getListOfRules()
                if r.isAlgebraic() and r.isSetMath()
            ),
            reactions=reactions,
            events=tuple(self.events()),
            original=dict(self.safe.original),
            conversion=self.safe(m.getConversionFactor()) if m.isSetConversionFactor() else "",
            units={u.getId(): u for u in m.getListOfUnitDefinitions()},
            time_unit=time,
            substance_unit=substance,
            volume_unit=volume,
            extent_unit=extent,
            keep=self.raw,
        )

    # What the formulas are made of

    def function(self, element: Element) -> Function:
        arguments = tuple(element.getArgument(i).getName() for i in range(element.getNumArguments()))
        return Function(arguments, element.getBody() if element.isSetMath() else None)

    def math(self, element: Element, node: Any, what: str, names: Mapping[str, Math] | None = None) -> Math:
        who = f"{self.who}, line {element.getLine()}: {what}"
        return to_sympy(node, Scope(who, names if names is not None else self.names, self.functions))

    def value(self, element: Element, node: Any, what: str, names: Mapping[str, Math] | None = None) -> sp.Expr:
        return as_number(self.math(element, node, what, names))

    def known(self, element: Element, id: str) -> str:
        if id not in self.names:
            raise ModelError(f"{self.who}, line {element.getLine()}: {id!r} is set but not defined in the file")
        return self.safe(id)

    def global_units(self) -> tuple[str, str, str, str]:
        """Units of time, substance, volume and extent; empty where the file leaves them open."""
        m = self.model
        if self.raw.getLevel() >= 3:
            return (m.getTimeUnits(), m.getSubstanceUnits(), m.getVolumeUnits(), m.getExtentUnits())
        mine = {u.getId() for u in m.getListOfUnitDefinitions()}
        time, substance, volume = (u if u in mine else "" for u in ("time", "substance", "volume"))
        return time, substance, volume, substance

    # What has a value

    def compartments(self) -> Iterator[Quantity]:
        for c in self.model.getListOfCompartments():
            flat = _is_flat(c)
            given = c.getSize() if c.isSetSize() else math.nan
            yield Quantity(
                id=self.safe(c.getId()),
                kind="compartment",
                value=1.0 if self.raw.getLevel() == 1 and not c.isSetSize() else given,
                constant=c.getConstant(),
                unit=c.getUnits(),
                meaning=c.getName(),
                flat=flat,
            )

    def species(self) -> Iterator[Quantity]:
        for s in self.model.getListOfSpecies():
            is_amount = s.isSetInitialAmount()
            where = self.model.getCompartment(s.getCompartment())
            if where is None:
                raise ModelError(
                    f"{self.who}, line {s.getLine()}: species {s.getId()!r} is in the compartment "
                    f"{s.getCompartment()!r}, which is not defined"
                )
            flat = _is_flat(where)
            given = s.getInitialConcentration() if s.isSetInitialConcentration() else math.nan
            yield Quantity(
                id=self.safe(s.getId()),
                kind="species",
                value=s.getInitialAmount() if is_amount else given,
                constant=s.getConstant(),
                unit=s.getSubstanceUnits(),
                meaning=s.getName(),
                compartment=self.safe(s.getCompartment()),
                is_amount=is_amount or flat,
                means_amount=s.getHasOnlySubstanceUnits() or flat,
                boundary=s.getBoundaryCondition(),
                conversion=self.safe(s.getConversionFactor()) if s.isSetConversionFactor() else "",
            )

    def parameters(self) -> Iterator[Quantity]:
        for p in self.model.getListOfParameters():
            yield self.parameter(p, self.safe(p.getId()))

    def parameter(self, p: Element, id: str, constant: bool | None = None) -> Quantity:
        return Quantity(
            id=id,
            kind="parameter",
            value=p.getValue() if p.isSetValue() else math.nan,
            constant=p.getConstant() if constant is None else constant,
            unit=p.getUnits(),
            meaning=p.getName(),
        )

    def references(self) -> Iterator[Quantity]:
        """Stoichiometries with an id, which formulas and rules may use."""
        for reaction in self.model.getListOfReactions():
            for reference in _references(reaction):
                if reference.getId():
                    yield Quantity(
                        id=self.safe(reference.getId()),
                        kind="reference",
                        value=self.stoichiometry(reference),
                        constant=False,
                    )

    def stoichiometry(self, reference: Element) -> float:
        if self.raw.getLevel() >= 3 and not reference.isSetStoichiometry():
            return math.nan
        return float(reference.getStoichiometry())

    # What changes them

    def rules(self, wanted: Callable[[Element], bool]) -> dict[str, sp.Expr]:
        return {
            self.known(r, r.getVariable()): self.value(r, r.getMath(), f"rule of {r.getVariable()}")
            for r in self.model.getListOfRules()
            if wanted(r) and r.isSetMath()
        }

    def reactions(self) -> tuple[dict[str, Reaction], dict[str, Quantity]]:
        reactions: dict[str, Reaction] = {}
        local: dict[str, Quantity] = {}
        for r in self.model.getListOfReactions():
            if r.isSetFast() and r.getFast():
                raise self.refuse(r, "a fast reaction (fast='true')", "write its equilibrium as an assignment rule")
            names = dict(self.names)
            law: sp.Expr = sp.Integer(0)
            if r.isSetKineticLaw():
                k = r.getKineticLaw()
                parameters = k.getListOfLocalParameters() if self.raw.getLevel() >= 3 else k.getListOfParameters()
                for p in parameters:
                    id = self.safe.fresh(f"{r.getId()}_{p.getId()}")
                    local[id] = self.parameter(p, id, constant=True)
                    names[p.getId()] = symbol(id)
                if k.isSetMath():
                    law = self.value(k, k.getMath(), f"rate of reaction {r.getId()}", names)
            id = self.safe(r.getId())
            reactions[id] = Reaction(id, law, tuple(self.participants(r)), r.getName())
        return reactions, local

    def participants(self, r: Element) -> Iterator[Participant]:
        reactants = r.getNumReactants()
        for i, reference in enumerate(_references(r)):
            what = f"stoichiometry of {reference.getSpecies()} in reaction {r.getId()}"
            if reference.isSetStoichiometryMath() and reference.getStoichiometryMath().isSetMath():
                amount = self.value(reference, reference.getStoichiometryMath().getMath(), what)
            elif reference.getId():
                amount = symbol(self.safe(reference.getId()))
            else:
                given = self.stoichiometry(reference)
                if math.isnan(given):
                    raise self.refuse(reference, f"no {what}")
                amount = sp.Rational(repr(given))
            yield Participant(self.known(reference, reference.getSpecies()), -amount if i < reactants else amount)

    def events(self) -> Iterator[Trigger]:
        for n, e in enumerate(self.model.getListOfEvents()):
            label = e.getId() or f"event_{n + 1}"
            if not e.isSetTrigger() or not e.getTrigger().isSetMath():
                continue  # Level 3 Version 2: an event without a trigger never happens
            trigger, delay, priority = e.getTrigger(), sp.Integer(0), None
            if e.isSetDelay() and e.getDelay().isSetMath():
                delay = self.value(e, e.getDelay().getMath(), f"delay of event {label}")
            if e.isSetPriority() and e.getPriority().isSetMath():
                priority = self.value(e, e.getPriority().getMath(), f"priority of event {label}")
            yield Trigger(
                id=self.safe.fresh(label),
                trigger=as_truth(self.math(e, trigger.getMath(), f"trigger of event {label}")),
                delay=delay,
                priority=priority,
                assignments={
                    self.known(a, a.getVariable()): self.value(a, a.getMath(), f"event {label} sets {a.getVariable()}")
                    for a in e.getListOfEventAssignments()
                    if a.isSetMath()
                },
                persistent=trigger.getPersistent() if trigger.isSetPersistent() else True,
                initial_value=trigger.getInitialValue() if trigger.isSetInitialValue() else True,
                at_trigger=e.getUseValuesFromTriggerTime(),
                line=e.getLine(),
            )


def _is_flat(compartment: Element) -> bool:
    """Whether it is a point, whose species have amounts only."""
    point = compartment.isSetSpatialDimensions() and compartment.getSpatialDimensionsAsDouble() == 0
    return point and not compartment.isSetSize()


def _references(reaction: Element) -> Iterable[Element]:
    yield from reaction.getListOfReactants()
    yield from reaction.getListOfProducts()
