"""Radioactive decay as a transformation of a model: biology is written once, physics is applied here.

A model file describes the ligand and never a nuclide. `label` adds the decay of what is radioactive; with
``cold=True`` it also follows the ligand that is not (given unlabelled, or decayed), which competes for the same
receptors. Flows are split by who carries them: in ``kon*free*(Bmax - bound) - koff*bound`` the first term is
carried by `free`, the second by `bound`; a carrier's hot share takes the hot share of the flow, and everything else
in the rate (the occupied receptors) sees hot and cold together.

Of a decay chain, each daughter that lives long enough to move is one more carrier while it stays on the ligand, and
has states of its own once it is free (`chains` says where it is born).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import sympy as sp

from .chains import LAMBDA, MOLAR_ACTIVITY, MOVES, Chain, Daughters, constants, plan_chain, tag
from .daughters import Birth, Forms, trace, with_daughters
from .dimensions import dimension_of, symbol_dimensions
from .errors import ModelError
from .expressions import symbol, to_text
from .model import OUTSIDE, Compartment, Flow, Model, Observable
from .nuclides import Nuclide, nuclide
from .units import canonical_unit, dimension, quantity


def label(
    model: Model,
    nuclide_name: str | Nuclide,
    cold: bool = False,
    *,
    daughters: Daughters | None = None,
    moves: float | str = MOVES,
) -> Model:
    """Label a model with a nuclide.

    Parameters
    ----------
    model : a model of the ligand, without decay
    nuclide_name : e.g. ``"Lu-177"``, ``"177Lu"`` [text]
    cold : follow unlabelled and decayed ligand as well, sharing receptors with the hot
    daughters : what becomes of the radioactive daughters that live long enough to move; default: they are not
        followed. ``{"Bi-213": Release(...), "Fr-221": "in place", "*": "with ligand"}``, or one word for all:
        ``"in place"`` (off the ligand, decays where it is born), ``"with ligand"`` (stays chelated), or, by name only,
        ``"left out"`` (its branch ends there). Every one must be spoken of [text]
    moves : half-life from which a daughter is followed; those that live shorter are in equilibrium with what feeds
        them (the error of that: `chains`). Default 1 min, the time in which blood goes round once [h, or text]

    Returns
    -------
    Model
        With states in the amounts of hot (and cold) ligand and observables in activity. Without `cold`, hot ligand
        that decays leaves; with it, it becomes cold ligand and goes on competing.

        With `daughters`, the atoms of 213Bi in ``plasma`` are ``plasma_Bi213`` (on ligand), ``plasma_Bi213_stays``
        and ``plasma_Bi213_free`` (of the free model). Every observable of an amount is the activity of the nuclide
        itself under its old name and that of each daughter as ``plasma_Bi213``, those in equilibrium included. An
        observable of the free model adds to the one of the same name.

    Raises
    ------
    ModelError
        The model is labelled already, a rate cannot be divided between its two ends, or a daughter is not spoken of.
    NuclideError
        The nuclide is unknown.
    """
    if model.nuclide:
        raise ModelError(f"{model.who}: already labelled with {model.nuclide}; label the unlabelled model")
    n = nuclide_name if isinstance(nuclide_name, Nuclide) else nuclide(nuclide_name)
    for name in (LAMBDA, MOLAR_ACTIVITY):
        if name in model.symbols:
            raise ModelError(f"{model.who}: {name!r} is reserved for the label; rename it")
    _refuse_what_has_no_activity(model)
    ligand = [c for c in model.compartments.values() if c.kind == "ligand"]
    hot = {c.name: symbol(f"{c.name}_hot" if cold else c.name) for c in ligand}
    chill = {c.name: symbol(f"{c.name}_cold") for c in ligand} if cold else {}
    chain, forms, births = _follow(model, n, daughters, moves, hot)
    carried = {"hot": hot, "cold": chill} | {tag(x): f.ligand for x, f in forms.items() if x != n.name}
    carried = {kind: states for kind, states in carried.items() if states}
    shared = len(carried) > 1
    if shared:
        _refuse_events(model, hot)
    total = {symbol(c.name): _whole(c, carried) for c in ligand} if shared else {}

    flows: list[Flow] = []
    for flow in model.flows:
        if not cold:
            _refuse_unlabelled_production(model, flow)
        flows += _split(model, flow, carried, total) if shared else [flow]
    for c in ligand:
        if c.initial != 0 and not cold and not _is_activity(c):
            raise ModelError(
                f"{model.who}: {c.name} starts with ligand that nobody gave, which is not radioactive; use "
                "label(..., cold=True), or give it as a dose"
            )
    decays = [] if chain else [_decay(hot[c.name], chill.get(c.name), symbol(LAMBDA), c.name) for c in ligand]
    routes = model.administration
    labelled = replace(
        model,
        name=f"{model.name}_{n.name.replace('-', '')}",
        parameters={**model.parameters, **constants(n, daughter=False)},
        compartments=_compartments(model, cold),
        flows=() if chain else (*flows, *decays),
        observables={o.name: _observe(model, o, hot, total) for o in model.observables.values()},
        administration={
            **{r: {(str(hot[c]) if c in hot else c): e for c, e in parts.items()} for r, parts in routes.items()},
            **{f"{r}_cold": {str(chill[c]): e for c, e in parts.items()} for r, parts in routes.items() if cold},
        },
        checks=(),
        ports=(),  # what is labelled is no layer of another model any more
        shared=(),
        nuclide=n.name,
    )
    if chain is None:
        return labelled
    return with_daughters(model, labelled, flows, chain, forms, births, chill)


def _follow(
    model: Model, n: Nuclide, daughters: Daughters | None, moves: float | str, hot: Mapping[str, sp.Symbol]
) -> tuple[Chain | None, dict[str, Forms], list[Birth]]:
    if daughters is None:
        return None, {}, []
    if model.inputs:
        raise ModelError(
            f"{model.who}: driven by {', '.join(model.inputs)}, and what daughters that brings is not known; label "
            "without daughters"
        )
    if isinstance(moves, str):
        said = quantity(moves, f"{model.who}: moves")
        if said.dimension != dimension("h"):
            raise ModelError(f"{model.who}: moves = {moves!r} is no time; write for example '1 min'")
        moves = said.value
    chain = plan_chain(model, n, daughters, moves)
    return chain, *trace(model, chain, hot)


def _refuse_events(model: Model, hot: Mapping[str, sp.Symbol]) -> None:
    """What an event does to ligand is not said by what it does to the sum of hot, cold and daughters."""
    for event in model.events:
        formulas = (event.trigger, event.delay, *event.assignments.values())
        read = {s.name for e in formulas for s in e.free_symbols}
        if touched := sorted({*event.assignments, *read} & {*hot}):
            raise ModelError(
                f"{model.who}: {event} reads or sets {', '.join(touched)}, which the label divides by what the ligand "
                "carries; label without cold and daughters, or write the event for parameters"
            )


def _whole(c: Compartment, carried: Mapping[str, Mapping[str, sp.Symbol]]) -> sp.Expr:
    """All ligand of a compartment, whatever it carries; a model in activities has no molecules to count."""
    kinds = [k for k in carried if k in ("hot", "cold") or not _is_activity(c)]
    return sp.Add(*(carried[k][c.name] for k in kinds))


def _decay(source: sp.Symbol, target: sp.Symbol | None, rate: sp.Expr, where: str) -> Flow:
    return Flow(
        source=str(source), target=str(target or OUTSIDE), rate=rate * source, name=f"decay in {where}", decay=True
    )


def _refuse_what_has_no_activity(model: Model) -> None:
    for c in model.compartments.values():
        if c.kind == "ligand" and not {"substance", "activity"} & dict(dimension(c.unit).exponents).keys():
            raise ModelError(
                f"{model.who}: compartment {c.name} is in {c.unit!r}; a label needs ligand in nmol (or in MBq, for a "
                "model written in activities)"
            )
    for f in model.flows:
        kinds = {model.compartments[e].kind for e in (f.source, f.target) if e != OUTSIDE}
        if len(kinds) > 1:
            raise ModelError(
                f"{model.who}: flow {f} runs between ligand and binding site; write a flow of ligand and one of sites"
            )


def _is_activity(c: Compartment) -> bool:
    return "activity" in dict(dimension(c.unit).exponents)


def _compartments(model: Model, cold: bool) -> dict[str, Compartment]:
    out: dict[str, Compartment] = {}
    for c in model.compartments.values():
        if c.kind != "ligand" or not cold:
            out[c.name] = c
            continue
        if taken := {f"{c.name}_hot", f"{c.name}_cold"} & {*model.symbols, *model.observables}:
            raise ModelError(f"{model.who}: {', '.join(sorted(taken))}: the label needs this name; rename the part")
        # what a model starts with is its own ligand, unless it is written in activities
        hot, chill = (c.initial, sp.Integer(0)) if _is_activity(c) else (sp.Integer(0), c.initial)
        out[f"{c.name}_hot"] = replace(c, name=f"{c.name}_hot", initial=hot, meaning=f"{c.meaning} (hot)")
        out[f"{c.name}_cold"] = replace(c, name=f"{c.name}_cold", initial=chill, meaning=f"{c.meaning} (cold)")
    return out


def _refuse_unlabelled_production(model: Model, flow: Flow) -> None:
    made = flow.source == OUTSIDE and flow.target in model.compartments
    driven = {s.name for s in flow.rate.free_symbols} & {*model.inputs}
    if made and model.compartments[flow.target].kind == "ligand" and not driven:
        raise ModelError(
            f"{model.who}: flow {flow} makes ligand inside the body, which is not radioactive; use "
            "label(..., cold=True)"
        )


def _split(
    model: Model, flow: Flow, carried: Mapping[str, Mapping[str, sp.Symbol]], total: dict[sp.Symbol, sp.Expr]
) -> list[Flow]:
    """The part of one flow that the hot, the cold and each daughter's ligand carries."""
    source, target = flow.source, flow.target
    if source not in carried["hot"] and target not in carried["hot"]:  # between sites: sees all ligand
        return [replace(flow, rate=flow.rate.xreplace(total))]
    forward, back, made = carriers(model, flow)
    driven = {s.name for s in made.free_symbols} & {*model.inputs}
    out = []
    for kind, names in carried.items():
        rate = sp.Integer(0)
        if source in names:
            rate += names[source] * forward.xreplace(total)
        if target in names:
            rate += names[target] * back.xreplace(total)
        if made != 0 and kind == ("hot" if driven else "cold"):  # measured inputs are radioactive, production is not
            rate += made.xreplace(total)
        if rate != 0:
            out.append(
                replace(
                    flow,
                    source=str(names.get(source, source)),
                    target=str(names.get(target, target)),
                    rate=rate,
                    name=f"{flow.name} ({kind})" if flow.name else "",
                )
            )
    return out


def carriers(model: Model, flow: Flow) -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """Write a rate as ``source*forward + target*back + made``.

    Raises
    ------
    ModelError
        A term is proportional to neither end, so nobody carries it.
    """
    rest = flow.rate
    forward = back = sp.Integer(0)
    if flow.source != OUTSIDE:
        forward, rest = _share(model, flow, rest, symbol(flow.source))
    if flow.target != OUTSIDE and rest != 0:
        back, rest = _share(model, flow, rest, symbol(flow.target))
    rest = rest and sp.simplify(rest)
    if rest != 0 and flow.source != OUTSIDE:
        raise ModelError(
            f"{model.who}: flow {flow}: the term {to_text(rest)!r} is proportional to neither {flow.source!r} nor "
            f"{flow.target or 'a target'!r}, so it cannot be divided between hot and cold; write it as two flows"
        )
    return forward, back, rest


def _share(model: Model, flow: Flow, rate: sp.Expr, s: sp.Symbol) -> tuple[sp.Expr, sp.Expr]:
    """Write a rate as ``share*s + rest``, the rest being what flows when `s` is empty."""
    if written := _as_written(rate, s):
        share, rest = written
        if s not in share.free_symbols or not share.subs(s, 0).has(sp.nan, sp.zoo, sp.oo, -sp.oo):
            return share, rest
    rest = rate.subs(s, 0)
    if powers := [p for p in rest.atoms(sp.Pow) if p.base == 0]:  # 0**n in hill(): its power is positive
        rest = rest.xreplace(dict.fromkeys(powers, sp.Integer(0)))
    moved = rate - rest
    powers = [p for p in moved.atoms(sp.Pow) if not p.exp.is_Integer and _per(p.base, s) is not None]
    if len(powers) == 1:  # (s/k)**n = s * (s/k)**(n - 1)/k, which is finite where s is zero
        (p,) = powers
        stand_in = sp.Dummy("power")
        by_power = sp.together(moved.xreplace({p: stand_in}))
        top, bottom = sp.fraction(by_power)
        share = sp.cancel(top / stand_in)
        if share.has(1 / stand_in) or s in share.free_symbols - {stand_in}:
            share = sp.zoo
        else:
            share = (share / bottom).xreplace({stand_in: p}) * p.base ** (p.exp - 1) * _per(p.base, s)
    else:
        share = sp.cancel(moved / s)
        if share.subs(s, 0).has(sp.nan, sp.zoo, sp.oo, -sp.oo):
            share = sp.zoo
    if rest.has(sp.nan, sp.zoo, sp.oo, -sp.oo) or share.has(sp.zoo):
        raise ModelError(
            f"{model.who}: flow {flow}: {to_text(rate)!r} is no product of {s.name} and something finite, so it "
            "cannot be "
            "divided between hot and cold"
        )
    return share, rest


def _as_written(e: sp.Expr, s: sp.Symbol) -> tuple[sp.Expr, sp.Expr] | None:
    """The same, where `s` itself is a factor of every term it is in; None where algebra must find out.

    The rest is free of `s`, so there is no other such pair.
    """
    if s not in e.free_symbols:
        return sp.Integer(0), e
    if e == s:
        return sp.Integer(1), sp.Integer(0)
    if isinstance(e, sp.Add):
        terms = [_as_written(a, s) for a in e.args]
        return None if None in terms else tuple(sp.Add(*side) for side in zip(*terms, strict=True))
    if not isinstance(e, sp.Mul):
        return None
    inside = [a for a in e.args if s in a.free_symbols]
    if s in inside:
        return sp.Mul(*(a for a in e.args if a != s)), sp.Integer(0)
    part = _as_written(inside[0], s) if len(inside) == 1 else None
    others = sp.Mul(*(a for a in e.args if a not in inside))
    return part and (others * part[0], others * part[1])


def _per(base: sp.Expr, s: sp.Symbol) -> sp.Expr | None:
    """c where base is c*s (for s not below zero), else None."""
    ratio = base.xreplace({sp.Max(0, s): s}) / s
    return ratio if s in base.free_symbols and s not in ratio.free_symbols else None


def _observe(model: Model, o: Observable, hot: dict[str, sp.Symbol], total: dict[sp.Symbol, sp.Expr]) -> Observable:
    """Activity of an observable that is an amount of ligand; anything else (an occupancy) stays in totals."""
    ligand = [symbol(c) for c in hot if symbol(c) in o.expression.free_symbols]
    parts = [_as_written(o.expression, s) for s in ligand]
    linear = all(p and not p[0].free_symbols & {*ligand} for p in parts) or all(
        sp.diff(o.expression, a, b) == 0 for a in ligand for b in ligand
    )
    found = dict(dimension(o.unit).exponents)
    if not ligand or not linear or not {"substance", "activity"} & found.keys():
        return replace(o, expression=o.expression.xreplace(total))
    swapped = o.expression.xreplace({symbol(c): h for c, h in hot.items()})
    if "activity" in found:
        return replace(o, expression=swapped)
    sites = {symbol(c): 0 for c in model.compartments if c not in hot}  # counted with the ligand, but not radioactive
    expression = swapped.xreplace(sites) * symbol(MOLAR_ACTIVITY)
    known = symbol_dimensions(model) | {str(h): dimension(model.compartments[c].unit) for c, h in hot.items()}
    known[MOLAR_ACTIVITY] = dimension("MBq/nmol")
    unit = canonical_unit(dimension_of(expression, known, f"{model.who}: observable {o.name}") or dimension("MBq"))
    return replace(o, expression=expression, unit=unit)
