"""A compartment model as data: frozen parts that hold SymPy expressions.

A model says what the ligand does: amounts in compartments and flows between them. It never mentions decay
(`pkmodel.label` adds it) and never a nuclide. Files are read in `model_file`, joined in `composition`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import sympy as sp

from .errors import ModelError, UnitError, did_you_mean
from .expressions import TIME, check_name, symbol, to_text
from .parts import (
    KINDS,
    OUTSIDE,
    STATUSES,
    TIMING,
    Compartment,
    Event,
    Flow,
    Input,
    Observable,
    Parameter,
    Requirement,
)
from .requirements import meet
from .sharing import substitute
from .units import dimension, factor, quantity

__all__ = [
    "KINDS",
    "OUTSIDE",
    "STATUSES",
    "TIMING",
    "Compartment",
    "Event",
    "Flow",
    "Input",
    "Model",
    "Observable",
    "Parameter",
    "Requirement",
]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A symbolic compartment model; change it with `replace`, `rename`, `join` or `label`.

    `administration` maps the name of a route to the fraction that each compartment receives, `timing` to the lag
    before a dose enters and the time it takes, where the route has them.
    `scope` is "region" when the model describes one region and is repeated for each measured one.
    `ports` and `shared` matter where it is a layer of an assembled model: compartments of a neighbour, and names that
    all organs have in common. `tracer` says how an agent is given: nuclide, activity, amount, daughters.
    """

    name: str
    title: str = ""
    scope: str = "body"
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    compartments: Mapping[str, Compartment] = field(default_factory=dict)
    flows: tuple[Flow, ...] = ()
    observables: Mapping[str, Observable] = field(default_factory=dict)
    inputs: Mapping[str, Input] = field(default_factory=dict)
    administration: Mapping[str, Mapping[str, sp.Expr]] = field(default_factory=dict)
    timing: Mapping[str, Mapping[str, sp.Expr]] = field(default_factory=dict)  # of a route: TIMING -> parameters
    events: tuple[Event, ...] = ()  # what happens when a condition becomes true
    derived: Mapping[str, Parameter] = field(default_factory=dict)  # results such as VT, computed after a fit
    references: tuple[str, ...] = ()
    checks: tuple[Mapping[str, Any], ...] = ()
    requirements: tuple[Requirement, ...] = ()
    ports: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    tracer: Mapping[str, Any] = field(default_factory=dict)
    nuclide: str = ""  # set by `label`
    origin: str = field(default="", compare=False)  # file the model came from, for messages

    def __post_init__(self) -> None:
        validate(self)

    @property
    def who(self) -> str:
        """What error messages call this model."""
        return self.origin or self.name

    @property
    def primary(self) -> tuple[str, ...]:
        """Parameters with a value of their own, in order."""
        return tuple(n for n, p in self.parameters.items() if p.formula is None)

    @property
    def unverified(self) -> str:
        """One sentence that names the numbers nobody has read in their source; empty where there are none."""
        names = [n for n, p in self.parameters.items() if p.status == "unverified"]
        few = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        return f"unverified numbers in {self.name}: {few}" if names else ""

    @property
    def symbols(self) -> set[str]:
        """Every name a formula of this model may use."""
        return {*self.parameters, *self.compartments, *self.inputs}

    @cached_property
    def routes(self) -> dict[str, Mapping[str, sp.Expr]]:
        """Where a dose may go: the administrations, and every amount of ligand by its own name.

        The hot half of a labelled compartment goes by the name of the whole, the cold half by its own.
        """
        plain: dict[str, Mapping[str, sp.Expr]] = {}
        for name, c in self.compartments.items():
            if c.kind == "ligand" and dimension(c.unit) in [dimension(unit) for unit in ("nmol", "MBq", "g")]:
                whole = name.removesuffix("_hot")
                split = bool(self.nuclide) and f"{whole}_cold" in self.compartments
                plain[whole if split else name] = {name: sp.Integer(1)}
        return {**self.administration, **{n: parts for n, parts in plain.items() if n not in self.administration}}

    @cached_property
    def resolved(self) -> dict[sp.Symbol, sp.Expr]:
        """Formula parameters written out in primary ones, in order of dependence."""
        done: dict[sp.Symbol, sp.Expr] = {}
        for s in self.resolution:
            formula = self.parameters[s.name].formula
            assert formula is not None
            done[s] = substitute(formula, done)
        return done

    @cached_property
    def resolution(self) -> tuple[sp.Symbol, ...]:
        """Formula parameters, each after those it uses."""
        return tuple(symbol(n) for n in _formula_order(self))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the equations and units; values and prose do not change it."""
        structure: dict[str, Any] = {
            "parameters": [
                [n, p.unit, None if p.formula is None else to_text(p.formula)] for n, p in self.parameters.items()
            ],
            "compartments": [[n, c.unit, to_text(c.initial), c.kind] for n, c in self.compartments.items()],
            "flows": [[f.source, f.target, to_text(f.rate)] for f in self.flows],
            "observables": [[n, to_text(o.expression), o.unit] for n, o in self.observables.items()],
            "inputs": [[n, i.unit, i.delay] for n, i in self.inputs.items()],
            "administration": {r: {c: to_text(e) for c, e in m.items()} for r, m in self.administration.items()},
        }
        if self.events:
            structure["events"] = [
                {
                    "when": to_text(e.trigger),
                    "set": {n: to_text(x) for n, x in e.assignments.items()},
                    "how": [
                        to_text(e.delay),
                        to_text(e.priority) if e.priority is not None else "",
                        e.persistent,
                        e.initial_value,
                    ],
                    "early": e.use_trigger_values,
                }
                for e in self.events
            ]
        if self.timing:
            structure["timing"] = {r: {k: to_text(e) for k, e in t.items()} for r, t in self.timing.items()}
        return hashlib.sha256(json.dumps(structure, sort_keys=True).encode()).hexdigest()

    def rate_of_change(self, compartment: str) -> sp.Expr:
        """Sum of the flows in minus the flows out of one compartment."""
        gain = (f.rate for f in self.flows if f.target == compartment)
        return sp.Add(*gain, *(-f.rate for f in self.flows if f.source == compartment))

    def canonical_values(self, changes: Mapping[str, float] | None = None) -> dict[str, float]:
        """Primary parameters in canonical units, `changes` (canonical) applied.

        Raises
        ------
        ModelError
            A parameter has no value.
        """
        values = {n: self.parameters[n].canonical for n in self.primary} | dict(changes or {})
        missing = [n for n, v in values.items() if math.isnan(v)]
        if missing:
            raise ModelError(
                f"{self.who}: no value for {', '.join(missing)}; give one in the file or with "
                f"model.replace({missing[0]}=...)"
            )
        return values

    def replace(self, **values: float | str | Parameter) -> Model:
        """Return the model with other parameter values (numbers in the declared unit, or text with a unit).

        Raises
        ------
        ModelError
            The name is not a parameter with a value.
        UnitError
            The unit has another dimension.
        """
        if not values:
            return self
        parameters = dict(self.parameters)
        for name, new in values.items():
            old = parameters.get(name)
            if old is None:
                raise ModelError(
                    f"{self.who}: no parameter {name!r}{did_you_mean(name, self.parameters)}; known: "
                    f"{', '.join(self.parameters)}"
                )
            if isinstance(new, Parameter):
                parameters[name] = replace(new, name=name)
                continue
            if old.formula is not None:
                raise ModelError(f"{self.who}: {name} is a formula ({to_text(old.formula)}); change what it is made of")
            if isinstance(new, str):
                read = quantity(new, f"{self.who}: {name}")
                if read.dimension != dimension(old.unit):
                    raise UnitError(
                        f"{self.who}: {name} = {new!r} is {read.dimension}, but the parameter is in {old.unit!r} "
                        f"({dimension(old.unit)})"
                    )
                new = read.value / factor(old.unit)
            parameters[name] = replace(old, value=float(new))
        changed = replace(self, parameters=parameters)
        if not any(isinstance(new, Parameter) for new in values.values()):
            # other values, the same equations: what was worked out of those still holds
            kept = ("digest", "resolution", "resolved")
            changed.__dict__.update({name: self.__dict__[name] for name in kept if name in self.__dict__})
        return changed

    def rename(self, names: Mapping[str, str]) -> Model:
        """Return the model with compartments, parameters, inputs or observables renamed.

        Raises
        ------
        ModelError
            An old name does not exist or a new one is taken.
        """
        everything = [*self.parameters, *self.compartments, *self.inputs, *self.observables, *self.derived]
        for old in names:
            if old not in everything:
                raise ModelError(
                    f"{self.who}: cannot rename {old!r}{did_you_mean(old, everything)}; known: {', '.join(everything)}"
                )
        swap = {symbol(o): symbol(n) for o, n in names.items()}

        def new(name: str) -> str:
            return names.get(name, name)

        def formula(e: sp.Expr | None) -> Any:
            return None if e is None else e.xreplace(swap)

        def renamed[T](parts: Mapping[str, T], **formulas: str) -> dict[str, T]:
            out: dict[str, T] = {}
            for name, part in parts.items():
                if new(name) in out:
                    raise ModelError(f"{self.who}: renaming gives {new(name)!r} to two parts")
                changes: dict[str, Any] = {"name": new(name)}
                changes |= {a: formula(getattr(part, a)) for a in formulas.values()}
                out[new(name)] = replace(part, **changes)  # type: ignore[type-var]
            return out

        inputs = {n: replace(i, delay=new(i.delay) if i.delay else "") for n, i in renamed(self.inputs).items()}
        return replace(
            self,
            parameters=renamed(self.parameters, a="formula"),
            compartments=renamed(self.compartments, a="initial", b="receptor"),
            observables=renamed(self.observables, a="expression"),
            derived=renamed(self.derived, a="formula"),
            inputs=inputs,
            flows=tuple(
                replace(f, source=new(f.source), target=new(f.target), rate=formula(f.rate), carrier=formula(f.carrier))
                for f in self.flows
            ),
            administration={
                r: {new(c): formula(e) for c, e in parts.items()} for r, parts in self.administration.items()
            },
            timing={r: {k: formula(e) for k, e in t.items()} for r, t in self.timing.items()},
            events=tuple(
                replace(
                    e,
                    trigger=formula(e.trigger),
                    delay=formula(e.delay),
                    priority=formula(e.priority),
                    assignments={new(n): formula(x) for n, x in e.assignments.items()},
                )
                for e in self.events
            ),
            requirements=tuple(replace(r, condition=formula(r.condition)) for r in self.requirements),
            ports=tuple(map(new, self.ports)),
            shared=tuple(map(new, self.shared)),
            checks=(),  # reference numbers belong to the names they were written with
        )

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.title}" if self.title else self.name]
        if self.nuclide:
            lines.append(f"  labelled with {self.nuclide}")
        lines.append(
            "  compartments: " + (", ".join(f"{n} [{c.unit}]" for n, c in self.compartments.items()) or "none")
        )
        lines += [f"  {f}: {to_text(f.rate)}" for f in self.flows]
        lines += [
            f"  {e}: when {to_text(e.trigger)}: " + ", ".join(f"{n} = {to_text(x)}" for n, x in e.assignments.items())
            for e in self.events
        ]
        lines += [f"  observe {n} [{o.unit}] = {to_text(o.expression)}" for n, o in self.observables.items()]
        for n, p in self.parameters.items():
            what = to_text(p.formula) if p.formula is not None else "?" if p.value is None else f"{p.value:g}"
            lines.append(f"  {n} = {what} {p.unit}  {p.meaning}".rstrip())
        return "\n".join(lines)


def validate(model: Model) -> None:
    """Raise `ModelError` where the parts of a model do not fit together."""
    who = model.who
    seen: dict[str, str] = {}
    groups: Iterable[tuple[str, Mapping[str, Any]]] = (
        ("parameter", model.parameters),
        ("compartment", model.compartments),
        ("input", model.inputs),
    )
    for group, parts in groups:
        for name in parts:
            check_name(name, f"{who}: {group}")
            if name in seen:
                raise ModelError(f"{who}: {name!r} is both a {seen[name]} and a {group}")
            seen[name] = group
    for group, names in (("observable", model.observables), ("derived number", model.derived)):
        for name in names:
            check_name(name, f"{who}: {group}")
            if name in model.parameters or name in model.inputs:
                raise ModelError(f"{who}: {name!r} is both a {seen[name]} and of another kind: {group}")
    for p in (*model.parameters.values(), *model.derived.values()):
        _validate_parameter(p, who)
    for c in model.compartments.values():
        factor(c.unit, f"{who}: compartment {c.name}")
        if c.kind not in KINDS:
            raise ModelError(f"{who}: compartment {c.name}: kind {c.kind!r} is not known; allowed: {', '.join(KINDS)}")
    for flow in model.flows:
        if flow.source == flow.target:
            raise ModelError(f"{who}: flow {flow}: it needs a 'from' or a 'to', and they must differ")
        for end in (flow.source, flow.target):
            if end != OUTSIDE and end not in model.compartments:
                known = ", ".join(model.compartments) or "none"
                hint = did_you_mean(end, model.compartments)
                raise ModelError(f"{who}: flow {flow}: {end!r} is not a compartment{hint}; known: {known}")
    for o in model.observables.values():
        if o.unit:  # left open in a file, it is filled in at once
            factor(o.unit, f"{who}: observable {o.name}")
    for i in model.inputs.values():
        factor(i.unit, f"{who}: input {i.name}")
        if i.delay and i.delay not in model.parameters:
            raise ModelError(f"{who}: input {i.name}: delay {i.delay!r} is not a parameter")
        if i.delay and model.parameters[i.delay].formula is not None:
            raise ModelError(f"{who}: input {i.name}: delay {i.delay} is a formula; name a parameter with a value")
    for route, parts in model.administration.items():
        check_name(route, f"{who}: administration")
        for target in parts:
            if target not in model.compartments:
                hint = did_you_mean(target, model.compartments)
                raise ModelError(f"{who}: administration {route}: {target!r} is not a compartment{hint}")
    for route, times in model.timing.items():
        if route not in model.administration or not set(times) <= set(TIMING):
            raise ModelError(f"{who}: timing of {route!r}: {', '.join(times)}; allowed: {', '.join(TIMING)} of a route")
    for event in model.events:
        for target in event.assignments:
            parameter = model.parameters.get(target)
            if target not in model.compartments and (parameter is None or parameter.formula is not None):
                hint = did_you_mean(target, (*model.compartments, *model.primary))
                raise ModelError(
                    f"{who}: {event}: {target!r} cannot be set; allowed: a compartment, or a parameter with a value"
                    f"{hint}"
                )
    if model.scope not in ("body", "region"):
        raise ModelError(f"{who}: scope {model.scope!r} is not known; allowed: body, region")
    for name in (*model.ports, *model.shared):
        if name not in (model.compartments if name in model.ports else model.symbols):
            raise ModelError(
                f"{who}: port or shared name {name!r}: no such part{did_you_mean(name, model.symbols)}; a port is a "
                "compartment"
            )
    _formula_order(model)
    _validate_symbols(model)
    meet(model.requirements, model.parameters, who)


def _validate_symbols(model: Model) -> None:
    """Every name in a formula exists, and where only parameters make sense there are only parameters."""
    anywhere = {symbol(n) for n in (*model.symbols, TIME)}
    parameters = {symbol(n) for n in model.parameters}
    for what, e in iterate_expressions(model):
        moving = what.startswith(("flow", "carrier", "observable", "event"))
        for s in sorted(e.free_symbols - (anywhere if moving else parameters), key=str):
            if s in anywhere:
                raise ModelError(f"{model.who}: {what}: may use parameters only, found {s.name!r}")
            if s.name in model.symbols:  # made by hand, with other assumptions than ours
                raise ModelError(f"{model.who}: {what}: make {s.name!r} with pkmodel.expressions.symbol or parse")
            hint = did_you_mean(s.name, model.symbols)
            raise ModelError(f"{model.who}: {what}: {s.name!r} is neither a parameter nor a compartment{hint}")


def _validate_parameter(p: Parameter, who: str) -> None:
    if p.status not in STATUSES:
        raise ModelError(f"{who}: {p.name}: status {p.status!r} is not known; allowed: {', '.join(STATUSES)}")
    factor(p.unit, f"{who}: {p.name}")
    if p.value is not None and p.formula is not None:
        raise ModelError(f"{who}: {p.name} has both a value and a formula")
    if p.value is not None and not math.isfinite(p.value):
        raise ModelError(f"{who}: {p.name} = {p.value} is not a finite number")
    if not p.lower <= p.upper:
        raise ModelError(f"{who}: {p.name}: lower bound {p.lower:g} is not below upper bound {p.upper:g}")
    if p.value is not None and not p.lower <= p.value <= p.upper:
        raise ModelError(f"{who}: {p.name} = {p.value:g} lies outside its bounds {p.lower:g} to {p.upper:g}")
    if p.cv is not None and not p.cv >= 0:
        raise ModelError(f"{who}: {p.name}: cv {p.cv} must not be negative")


def _formula_order(model: Model) -> list[str]:
    """Formula parameters so that each comes after what it uses; a circle is an error that names its members."""
    formulas = {n: p.formula for n, p in model.parameters.items() if p.formula is not None}
    order: list[str] = []
    state: dict[str, int] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if state.get(name) == 2:
            return
        if state.get(name) == 1:
            circle = " -> ".join([*path[path.index(name) :], name])
            raise ModelError(f"{model.who}: circular definition {circle}; give one of them a value")
        state[name] = 1
        for s in sorted(x.name for x in formulas[name].free_symbols):
            if s in formulas:
                visit(s, (*path, name))
            elif s not in model.parameters:
                raise ModelError(f"{model.who}: {name}: a parameter formula may use parameters only, found {s!r}")
        state[name] = 2
        order.append(name)

    for name in formulas:
        visit(name, ())
    return order


def iterate_expressions(model: Model) -> Iterator[tuple[str, sp.Expr]]:
    """Every expression of a model with what it belongs to."""
    for f in model.flows:
        yield f"flow {f}", f.rate
        if f.carrier is not None:
            yield f"carrier of flow {f}", f.carrier
    for o in model.observables.values():
        yield f"observable {o.name}", o.expression
    for c in model.compartments.values():
        yield f"initial {c.name}", c.initial
        if c.receptor is not None:
            yield f"receptor {c.name}", c.receptor
    for p in (*model.parameters.values(), *model.derived.values()):
        if p.formula is not None:
            yield f"parameter {p.name}", p.formula
    for event in model.events:
        yield f"{event}: trigger", event.trigger
        yield f"{event}: delay", event.delay
        if event.priority is not None:
            yield f"{event}: priority", event.priority
        for target, e in event.assignments.items():
            yield f"{event}: {target}", e
    for route, parts in model.administration.items():
        for c_name, e in parts.items():
            yield f"administration {route} into {c_name}", e
    for route, times in model.timing.items():
        for key, e in times.items():
            yield f"administration {route}: {key}", e
    for r in model.requirements:
        yield f"requirement {r.condition}", r.condition
