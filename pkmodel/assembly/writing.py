"""From the collected files to one flat model: ports tied, columns filled in, sums formed, the unused left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import sympy as sp

from ..composition import agree
from ..dimensions import infer_observable_units
from ..errors import ModelError, UnitError, did_you_mean
from ..expressions import symbol
from ..model import Flow, Model, Observable, Parameter, iterate_expressions
from ..model_file import read_parameter
from ..parts import VOIDED, WHOLE_BODY
from ..units import dimension
from .columns import ABOUT, Table, names_in, read_column
from .layers import EVERY, Layer, Written, read_layers, write_out
from .tree import Leaf

ALWAYS = "mass"  # a column that doses need, whether or not a rate does
_MERGED = ("compartments", "observables", "inputs", "derived")


def written_model(leaves: list[Leaf]) -> Model:
    """One flat model of a tree of files.

    Without a host (nothing in the tree names organs) it is a fragment: what the files say themselves, with the
    columns for the organs they name, and no layers.

    Parameters
    ----------
    leaves : from `collect`, the root first

    Raises
    ------
    ModelError
        Two files disagree, a port leads nowhere, or a number is asked for and given nowhere.
    """
    root = leaves[0]
    organs, ports = _host(leaves)
    rows = [row for leaf in leaves for row in read_layers(leaf, organs)] if organs or ports else []
    instances = tuple(dict.fromkeys([*organs, *(o for row in rows for o in row.organs)]))
    made = write_out(rows, ports)
    columns = [read_column(n, raw, leaf) for leaf in leaves for n, raw in leaf.words.get("table", {}).items()]
    if not instances:  # a fragment: the organs its own columns name
        instances = tuple(dict.fromkeys(o for c in columns for o in (*c.values, *c.organs) if o != EVERY))
    table = Table(columns, made.bases, instances)
    whole = _join(leaves, made)
    given = _parameters(leaves, made, table, whole, ports, rows)
    model = Model(
        name=root.name,
        title=root.own.title,
        scope=root.own.scope,
        parameters=given,
        flows=(*dict.fromkeys(f for leaf in leaves for f in leaf.own.flows), *made.flows),
        events=(*(e for leaf in leaves for e in leaf.own.events), *made.events),
        administration=_routes(leaves),
        timing={r: t for leaf in reversed(leaves) for r, t in leaf.own.timing.items()},
        references=tuple(dict.fromkeys(r for leaf in leaves for r in leaf.own.references)),
        checks=root.own.checks,
        ports=() if rows else tuple(dict.fromkeys(p for leaf in leaves for p in leaf.own.ports)),
        tracer=next((leaf.own.tracer for leaf in leaves if leaf.own.tracer), {}),
        origin=root.origin,
        **whole,
    )
    seen = _observed(model) if rows or model.flows else model.observables
    return infer_observable_units(replace(model, observables=seen))


def _host(leaves: list[Leaf]) -> tuple[tuple[str, ...], dict[str, dict[str, str]]]:
    """Organs of the host, and what the ports of each are; files nearer to the root have the last word."""
    hosts = [leaf for leaf in leaves if "organs" in leaf.words]
    if len(hosts) > 1:
        raise ModelError(f"{leaves[0].origin}: two hosts, {hosts[0].origin} and {hosts[1].origin}; name one")
    organs = tuple(hosts[0].words["organs"]) if hosts else ()
    ports: dict[str, dict[str, str]] = {}
    for leaf in reversed(leaves):
        for organ, tied in leaf.words.get("connect", {}).items():
            ports.setdefault(organ, {}).update(tied)
    return organs, ports


def _join(leaves: list[Leaf], made: Written) -> dict[str, Any]:
    """Compartments, observables, inputs and derived numbers of all files and layers."""
    whole: dict[str, dict[str, Any]] = {group: {} for group in _MERGED}
    waiting = set(made.ports)
    for leaf in leaves:
        for group in _MERGED:
            for n, part in getattr(leaf.own, group).items():
                if group == "compartments" and n in leaf.own.ports:
                    waiting.add(n)
                    continue
                into = whole[group]
                into[n] = agree(into[n], part, f"{leaf.origin}: {n}") if n in into else part
    for group, parts in (("compartments", made.compartments), ("observables", made.observables)):
        for n, part in parts.items():
            into = whole[group]
            into[n] = agree(into[n], part, f"{leaves[0].origin}: {n}") if n in into else part
    for port in sorted(waiting - {*whole["compartments"]}):
        if made.compartments:
            known = ", ".join(whole["compartments"])
            users = [str(f) for f in made.flows if port in (f.source, f.target)][:2]
            raise ModelError(
                f"{leaves[0].origin}: port {port!r} ({', '.join(users)}) leads to no compartment; name a part that has "
                f"it, or say in [connect] what it is; known: {known}"
            )
        for leaf in leaves:
            if port in leaf.own.ports:
                whole["compartments"][port] = leaf.own.compartments[port]
    return whole


def _routes(leaves: list[Leaf]) -> dict[str, dict[str, sp.Expr]]:
    """Administrations, those of files nearer to the root first."""
    routes: dict[str, dict[str, sp.Expr]] = {}
    for leaf in leaves:
        for route, parts in leaf.own.administration.items():
            routes.setdefault(route, dict(parts))
    return routes


def _parameters(
    leaves: list[Leaf],
    made: Written,
    table: Table,
    whole: dict[str, Any],
    ports: Mapping[str, Mapping[str, str]],
    rows: list[Layer],
) -> dict[str, Parameter]:
    """Every parameter that something uses, with its value or formula."""
    root = leaves[0]
    own: dict[str, Parameter] = {}
    for leaf in leaves:
        for n, p in leaf.own.parameters.items():
            own[n] = agree(own[n], p, f"{leaf.origin}: parameter {n}") if n in own else p
    sums = _sums(leaves, table, ports)
    last = _last_words(leaves)
    taken: dict[str, Parameter] = {}

    def valued(p: Parameter | None) -> bool:
        return p is not None and (p.value is not None or p.formula is not None)

    def resolve(name: str) -> Parameter | None:
        if name in last:
            return _set(name, last[name], own.get(name) or made.parameters.get(name))
        if valued(p := own.get(name)):
            return p
        if name in sums:
            return sums[name]
        pair = made.asked.get(name) or table.split(name)
        found = table.find(*pair, known=own) if pair else None
        return found or made.parameters.get(name) or own.get(name)

    # what is used: by flows and the rest, by what doses need; a host or fragment by itself keeps everything
    wanted = [s.name for e in _expressions(leaves, made, whole) for s in sorted(e.free_symbols, key=str)]
    wanted += [i.delay for i in whole["inputs"].values() if i.delay]
    organs = [o for o in table.instances if table.find(ALWAYS, o, known=own)] if ALWAYS in table.columns else []
    wanted += [f"{ALWAYS}_{o}" for o in organs]
    if not rows:
        wanted += [*own, *(f"{b}_{o}" for b in table.columns for o in table.instances if table.find(b, o, known=own))]
        wanted += [*sums]
    demands = _requirements(leaves, made, resolve)
    wanted += [n for r in demands for n in sorted(s.name for s in r.condition.free_symbols)]
    queue = list(dict.fromkeys(n for n in wanted if n not in whole["compartments"] and n not in whole["inputs"]))
    missing: list[str] = []
    for name in queue:  # grows while it is walked
        if name in taken or name == "t":
            continue
        found = resolve(name)
        if not valued(found):
            missing.append(name)
        if found is not None:
            _same_kind(root, found, made.parameters.get(name))
            taken[name] = found
            inside = found.formula.free_symbols if found.formula is not None else ()
            queue += [s.name for s in sorted(inside, key=str)]
    if not rows:  # a fragment leaves out what only a whole model can work out
        while loose := [
            n
            for n, p in taken.items()
            if n not in own and p.formula is not None and not {s.name for s in p.formula.free_symbols} <= taken.keys()
        ]:
            taken = {n: p for n, p in taken.items() if n not in loose}
    if unknown := [n for n in last if n not in taken and not (valued(own.get(n)) or n in made.parameters or n in sums)]:
        near = did_you_mean(unknown[0], {*taken, *made.parameters, *missing})
        raise ModelError(f"{root.origin}: [set] {', '.join(unknown)}: the assembled model has no such parameter{near}")
    _complain(root, [n for n in missing if n not in whole["compartments"]], rows, made, taken, table)
    order = [*own, *sums, *made.parameters, *taken]
    whole["requirements"] = tuple(r for r in demands if all(s.name in taken for s in r.condition.free_symbols))
    return {n: taken[n] for n in dict.fromkeys(order) if n in taken}


def _same_kind(root: Leaf, found: Parameter, asked: Parameter | None) -> None:
    """A number that is given must be what the layer asks for: a density in cells is no concentration."""
    if asked is not None and dimension(found.unit) != dimension(asked.unit):
        raise UnitError(
            f"{root.origin}: {found.name} is given in {found.unit!r} ({dimension(found.unit)}), but the layer that "
            f"uses it needs {asked.unit!r} ({dimension(asked.unit)}); a formula may convert it"
        )


def _expressions(leaves: list[Leaf], made: Written, whole: Mapping[str, Any]) -> Iterable[sp.Expr]:
    """Every expression that is not a parameter's own."""
    flows: list[Flow] = [*(f for leaf in leaves for f in leaf.own.flows), *made.flows]
    for f in flows:
        yield f.rate
        if f.carrier is not None:
            yield f.carrier
    for c in whole["compartments"].values():
        yield c.initial
        if c.receptor is not None:
            yield c.receptor
    yield from (o.expression for o in whole["observables"].values())
    yield from (p.formula for p in whole["derived"].values() if p.formula is not None)
    for leaf in leaves:
        bare = replace(leaf.own, flows=(), observables={}, requirements=())
        for what, e in iterate_expressions(bare):
            if what.startswith(("event", "administration")):
                yield e
    for event in made.events:
        yield from (event.trigger, event.delay, *event.assignments.values())


def _requirements(leaves: list[Leaf], made: Written, resolve: Any) -> list[Any]:
    """Those all of whose parameters exist."""
    every = [*(r for leaf in leaves for r in leaf.own.requirements), *made.requirements]
    return [r for r in dict.fromkeys(every) if all(resolve(s.name) is not None for s in r.condition.free_symbols)]


def _sums(leaves: list[Leaf], table: Table, ports: Mapping[str, Mapping[str, str]]) -> dict[str, Parameter]:
    """``[sums]``: a formula of columns added up over the organs whose ports lead to the place named."""
    out: dict[str, Parameter] = {}
    for leaf in leaves:
        for name, raw in leaf.words.get("sums", {}).items():
            who = f"{leaf.origin}: [sums] {name}"
            if not isinstance(raw, Mapping) or "of" not in raw or "unit" not in raw:
                raise ModelError(f'{who}: a sum is a table with of = "Q", unit and, for example, inlet = "arterial"')
            tied = {k: v for k, v in raw.items() if k not in (*ABOUT, "of")}
            about = {k: v for k, v in raw.items() if k in ABOUT}
            one = read_parameter(name, {**about, "formula": raw["of"]}, names_in(raw["of"]), who)
            chosen = [
                o
                for o in table.instances
                if all({**ports.get(EVERY, {}), **ports.get(o, {})}.get(k) == v for k, v in tied.items())
            ]
            terms = [table.suffixed(one, o).formula for o in chosen]
            out[name] = replace(
                one, formula=sp.Add(*terms), status="derived" if one.status == "assumed" else one.status
            )
    return out


def _last_words(leaves: list[Leaf]) -> dict[str, Any]:
    """``[set]``, of files nearer to the root first."""
    last: dict[str, Any] = {}
    for leaf in reversed(leaves):
        for name, raw in leaf.words.get("set", {}).items():
            last[name] = (raw, leaf.origin)
    return last


def _set(name: str, said: tuple[Any, str], was: Parameter | None) -> Parameter:
    """A parameter of ``[set]``; what it does not say is as it was."""
    raw, origin = said
    who = f"{origin}: [set] {name}"
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        raise ModelError(f'{who}: {raw!r} has no unit; write for example "{raw} {was.unit if was else "L"}"')
    names = names_in(str(raw.get("formula", ""))) if isinstance(raw, Mapping) else ()
    if isinstance(raw, Mapping) and was is not None:
        about = {"unit": was.unit, "meaning": was.meaning}
        raw = {**{k: v for k, v in about.items() if v}, **raw}
    p = read_parameter(name, raw, names, who)
    if was is not None and dimension(was.unit) != dimension(p.unit):
        raise UnitError(f"{who}: {p.unit!r} is {dimension(p.unit)}, but it is in {was.unit!r} ({dimension(was.unit)})")
    if was is not None and not p.meaning:
        p = replace(p, meaning=was.meaning)
    return p


def _complain(
    root: Leaf, missing: list[str], rows: list[Layer], made: Written, taken: Mapping[str, Parameter], table: Table
) -> None:
    """Say all that was asked for and not given; a fragment may leave things open."""
    if not rows or not missing:
        return
    asked = []
    for n in missing:
        pair = made.asked.get(n) or table.split(n)
        users = sorted({m for m, p in taken.items() if p.formula is not None and symbol(n) in p.formula.free_symbols})
        by = f" (for {', '.join(users[:3])})" if users else ""
        asked.append(f"{n}{by}" + (f": [table.{pair[0]}] has no {pair[1]}" if pair else ""))
    raise ModelError(
        f"{root.origin}: no value for " + "; ".join(asked) + ". Give it in a part, in a [table.<name>], or in [set]"
    )


def _observed(model: Model) -> dict[str, Observable]:
    """What is written, and for each region the sum of its ligand; for the whole body all that is not voided."""
    regions: dict[str, list[sp.Symbol]] = {}
    unit = {c.unit for c in model.compartments.values() if c.kind == "ligand"}
    for n, c in model.compartments.items():
        if c.kind == "ligand" and c.region and dimension(c.unit) in (dimension("nmol"), dimension("MBq")):
            regions.setdefault(c.region, []).append(symbol(n))
    inside = [s for region, parts in regions.items() if region not in VOIDED for s in parts]
    regions[WHOLE_BODY] = inside
    one = unit.pop() if len(unit) == 1 else "nmol"
    sums = {r: Observable(name=r, expression=sp.Add(*parts), unit=one) for r, parts in regions.items() if parts}
    return {**{r: o for r, o in sums.items() if r not in model.parameters}, **model.observables}
