"""Put models together: `join` several, or `instantiate` one tissue over a table of organs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from .errors import ModelError
from .expressions import to_text
from .model import Model, Parameter
from .units import dimension

ORGAN = "organ"  # an observable or region of this name in a tissue takes the organ's own name
_GROUPS = ("parameters", "compartments", "observables", "inputs", "derived")


def join(*models: Model, name: str = "") -> Model:
    """One model of several: parts with the same name are the same part.

    Parameters
    ----------
    models : two or more models
    name : name of the result; default: the names joined by '_' [text]

    Raises
    ------
    ModelError
        Parts of one name differ: in unit, in value, in formula, or in kind.
    """
    if not models:
        raise ModelError("join needs at least one model")
    first, *others = models
    name = name or "_".join(m.name for m in models)
    whole: dict[str, Any] = {group: getattr(first, group) for group in _GROUPS}
    routes = {r: dict(p) for r, p in first.administration.items()}
    timing = {r: dict(t) for r, t in first.timing.items()}
    flows, events = first.flows, first.events
    for other in others:
        who = f"joining {name} with {other.name}"
        if other.nuclide != first.nuclide:
            raise ModelError(f"{who}: label after joining: one is labelled {first.nuclide!r}, one {other.nuclide!r}")
        for route, parts in other.administration.items():
            ours = routes.setdefault(route, {})
            for target, share in parts.items():
                if ours.setdefault(target, share) != share:
                    raise ModelError(
                        f"{who}: administration {route} into {target}: {to_text(ours[target])} in one and "
                        f"{to_text(share)} in the other"
                    )
        for route, times in other.timing.items():
            for key, e in times.items():
                if timing.setdefault(route, {}).setdefault(key, e) != e:
                    raise ModelError(
                        f"{who}: administration {route}: {key} {to_text(timing[route][key])} in one and {to_text(e)} "
                        "in the other"
                    )
        for group in _GROUPS:
            whole[group] = _merge(whole[group], getattr(other, group), f"{who}: {group.removesuffix('s')}")
        flows += tuple(f for f in other.flows if f not in flows)
        events += tuple(e for e in other.events if e not in events)
    return replace(
        first,
        name=name,
        origin="",
        flows=flows,
        administration=routes,
        timing=timing,
        events=events,
        references=tuple(dict.fromkeys(r for m in models for r in m.references)),
        requirements=tuple(dict.fromkeys(r for m in models for r in m.requirements)),
        ports=tuple(dict.fromkeys(p for m in models for p in m.ports)),
        shared=tuple(dict.fromkeys(s for m in models for s in m.shared)),
        checks=(),
        **whole,
    )


def _merge[T](ours: Mapping[str, T], theirs: Mapping[str, T], who: str) -> dict[str, T]:
    merged = dict(ours)
    for name, part in theirs.items():
        merged[name] = agree(merged[name], part, f"{who} {name}") if name in merged else part
    return merged


def agree(a: Any, b: Any, who: str) -> Any:
    """The part that both models mean, or an error that says in what they differ."""
    if a.unit != b.unit and dimension(a.unit) != dimension(b.unit):
        raise ModelError(
            f"{who}: unit {a.unit!r} ({dimension(a.unit)}) in one and {b.unit!r} ({dimension(b.unit)}) in the "
            "other; rename one of them"
        )
    if isinstance(a, Parameter):
        if b.value is None and b.formula is None:
            return a
        if a.value is None and a.formula is None:
            return b
        same_value = (
            a.value is not None and b.value is not None and abs(a.canonical - b.canonical) <= 1e-12 * abs(a.canonical)
        )
        if not (same_value or (a.formula is not None and a.formula == b.formula)):
            raise ModelError(
                f"{who}: {_describe(a)} in one and {_describe(b)} in the other; make them equal with replace() or "
                "rename one"
            )
        return a
    for attribute in ("initial", "kind", "receptor", "expression", "delay"):
        if hasattr(a, attribute) and getattr(a, attribute) != getattr(b, attribute):
            raise ModelError(f"{who}: {attribute} differs: {getattr(a, attribute)} and {getattr(b, attribute)}")
    return a


def _describe(p: Parameter) -> str:
    return to_text(p.formula) if p.formula is not None else f"{p.value!r} {p.unit}"


def instantiate(
    tissue: Model,
    organs: Mapping[str, Mapping[str, Any]] | Any,
    *,
    shared: Iterable[str] = (),
    name: str = "",
) -> Model:
    """Write one tissue once for every organ of a table.

    Every part is renamed ``<part>_<organ>`` except those in `shared`; an observable or region called ``organ``
    takes the organ's own name.

    Parameters
    ----------
    tissue : the model of one tissue
    organs : organ -> {parameter: value or "number unit"}, or a DataFrame with organs as its index
    shared : names that all organs have in common, e.g. ``["blood", "GFR"]``
    name : name of the result [text]

    Raises
    ------
    ModelError
        The table names a parameter the tissue does not have, or `shared` a part it does not have.
    """
    table: Mapping[str, Mapping[str, Any]] = organs.to_dict("index") if hasattr(organs, "to_dict") else organs
    if not len(table):
        raise ModelError(f"{tissue.who}: no organs to instantiate it for")
    keep = set(shared)
    everything = [*tissue.parameters, *tissue.compartments, *tissue.inputs, *tissue.observables, *tissue.derived]
    if unknown := keep - set(everything):
        raise ModelError(
            f"{tissue.who}: shared {', '.join(sorted(unknown))}: no such part; known: {', '.join(everything)}"
        )
    parts = []
    for organ, values in table.items():
        names = {n: organ if n == ORGAN else f"{n}_{organ}" for n in everything if n not in keep}
        filled = tissue.replace(**{k: v if isinstance(v, str) else float(v) for k, v in values.items()})
        one = filled.rename(names)
        compartments = {
            n: replace(c, region=organ if c.region in ("", ORGAN) and n not in keep else c.region)
            for n, c in one.compartments.items()
        }
        parts.append(replace(one, compartments=compartments, name=organ, origin=""))
    return join(*parts, name=name or tissue.name)
