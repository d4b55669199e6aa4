"""Layers: a model of one organ, written again for every organ that asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sympy as sp

from ..composition import ORGAN, agree
from ..errors import ModelError, did_you_mean
from ..expressions import symbol
from ..model import Compartment, Event, Flow, Model, Parameter, Requirement
from .tree import Leaf, layer_file

EVERY = "*"
_ROW = ("file", "organs", "without", "rename")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One row of ``[[layers]]``: which model, in which organs, under which names."""

    model: Model
    organs: tuple[str, ...]
    rename: Mapping[str, str]
    origin: str


@dataclass(slots=True)
class Written:
    """What layers amount to once they are written for their organs."""

    parameters: dict[str, Parameter] = field(default_factory=dict)
    asked: dict[str, tuple[str, str]] = field(default_factory=dict)  # Bmax_liver -> (Bmax, liver)
    compartments: dict[str, Compartment] = field(default_factory=dict)
    ports: set[str] = field(default_factory=set)  # names that stand for somebody else's compartment
    flows: list[Flow] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    observables: dict[str, Any] = field(default_factory=dict)
    requirements: list[Requirement] = field(default_factory=list)
    bases: set[str] = field(default_factory=set)  # names that take an organ's suffix


def read_layers(leaf: Leaf, organs: Iterable[str]) -> list[Layer]:
    """The rows of one file.

    Parameters
    ----------
    leaf : a file of the tree
    organs : of the host: what ``"*"`` means [text]

    Raises
    ------
    ModelError
        A row has an unknown key or no organs.
    """
    rows = leaf.words.get("layers", [])
    if not isinstance(rows, list) or not all(isinstance(r, Mapping) for r in rows):
        raise ModelError(f"{leaf.origin}: layers must be tables ([[layers]] in a file), found {rows!r}")
    out = []
    for row in rows:
        who = f"{leaf.origin}: [[layers]] {row.get('file', '?')}"
        for key in row:
            if key not in _ROW:
                raise ModelError(
                    f"{who}: key {key!r} is not known{did_you_mean(key, _ROW)}; allowed: {', '.join(_ROW)}"
                )
        if not isinstance(row.get("file"), str) or not row.get("organs"):
            raise ModelError(f'{who}: a layer needs file = "name" and organs = [...] (or "*")')
        said = row["organs"]
        said = [said] if isinstance(said, str) else list(said)
        without = set(row.get("without", ()))
        every = [o for o in organs if o not in without] if EVERY in said else []
        named = tuple(dict.fromkeys([*every, *(o for o in said if o != EVERY)]))
        model = layer_file(row["file"], leaf.folder, who)
        names = dict(row.get("rename", {}))
        model = model.rename(names) if names else model
        out.append(Layer(model=model, organs=named, rename=names, origin=who))
    return out


def write_out(layers: Iterable[Layer], ports: Mapping[str, Mapping[str, str]]) -> Written:
    """Write every layer for every organ it is for.

    Parameters
    ----------
    layers : rows of all files
    ports : what a port is, by organ; ``"*"`` for all others [text]

    Raises
    ------
    ModelError
        Two layers of an organ disagree about a part they share.
    """
    out = Written()
    for layer in layers:
        m = layer.model
        out.bases |= {n for n in (*m.parameters, *m.compartments) if n not in {*m.shared, *m.ports}}
    done: set[tuple[str, str, tuple[tuple[str, str], ...]]] = set()
    for layer in layers:
        for organ in layer.organs:
            key = (layer.model.name, organ, tuple(sorted(layer.rename.items())))
            if key not in done:  # two files may ask for the same
                done.add(key)
                _write(layer, organ, {**ports.get(EVERY, {}), **ports.get(organ, {})}, out)
    return out


def _write(layer: Layer, organ: str, ports: Mapping[str, str], out: Written) -> None:
    m = layer.model
    names = {n: n for n in m.shared} | {p: ports.get(p, p) for p in m.ports}
    for n in (*m.parameters, *m.compartments):
        names.setdefault(n, f"{n}_{organ}")
    swap = {symbol(a): symbol(b) for a, b in names.items()}
    who = f"{layer.origin} in {organ}"

    def new(e: Any) -> Any:
        return None if e is None else e.xreplace(swap)

    def add[T](into: dict[str, T], name: str, part: T) -> None:
        into[name] = agree(into[name], part, f"{who}: {name}") if name in into else part

    for n, p in m.parameters.items():
        add(out.parameters, names[n], replace(p, name=names[n], formula=new(p.formula)))
        if n not in m.shared:
            out.asked[names[n]] = (n, organ)
    for n, c in m.compartments.items():
        if n in m.ports:
            out.ports.add(names[n])
            continue
        region = organ if c.region in ("", ORGAN) and n not in m.shared else c.region
        made = replace(c, name=names[n], region=region, initial=new(c.initial), receptor=new(c.receptor))
        add(out.compartments, names[n], made)
    for f in m.flows:
        source, target = names.get(f.source, f.source), names.get(f.target, f.target)
        said = f"{f.name} ({organ})" if f.name else ""
        flow = replace(f, source=source, target=target, rate=new(f.rate), carrier=new(f.carrier), name=said)
        if flow.source == flow.target:
            raise ModelError(f"{who}: flow {f}: both ends are {flow.source}; say in [connect] where {organ} drains to")
        if flow not in out.flows:
            out.flows.append(flow)
    for e in m.events:
        sets = {names.get(n, n): new(x) for n, x in e.assignments.items()}
        event = replace(e, trigger=new(e.trigger), delay=new(e.delay), priority=new(e.priority), assignments=sets)
        out.events.append(event)
    for n, o in m.observables.items():
        name = organ if n == ORGAN else f"{n}_{organ}"
        add(out.observables, name, replace(o, name=name, expression=new(o.expression)))
    for r in m.requirements:
        out.requirements.append(replace(r, condition=sp.sympify(new(r.condition))))
