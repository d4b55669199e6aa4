"""What the daughters of a decay chain add to a labelled model: states, flows, observables and routes.

`trace` finds every state that is needed and every way into it; `with_daughters` writes them into the model. Without
cold ligand a decay moves atoms from state to state. With it, molecules are kept as well: a molecule whose atom left
becomes cold ligand, and the atom appears where the free model says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import sympy as sp

from .chains import IN_PLACE, LAMBDA, MOLAR_ACTIVITY, Chain, constants, tag
from .composition import join
from .dimensions import dimension_of, symbol_dimensions
from .errors import ModelError
from .expressions import symbol
from .model import OUTSIDE, Compartment, Flow, Model, Observable
from .nuclides import nuclide
from .units import canonical_unit, dimension


@dataclass(frozen=True, slots=True)
class Forms:
    """States of one nuclide, by place: on the ligand, freed and staying, freed and moving."""

    ligand: Mapping[str, sp.Symbol]
    stays: dict[str, sp.Symbol]
    free: Mapping[str, sp.Symbol]


@dataclass(frozen=True, slots=True)
class Birth:
    """Atoms of `daughter` born at `rate` [1/h per atom] from a state of `parent`, into a state; `freed` off ligand."""

    parent: str
    daughter: str
    place: str
    source: sp.Symbol
    target: sp.Symbol
    share: sp.Expr
    freed: bool


def trace(model: Model, chain: Chain, hot: Mapping[str, sp.Symbol]) -> tuple[dict[str, Forms], list[Birth]]:
    """Every state that the followed nuclides need, and every way into it.

    Parameters
    ----------
    model : the unlabelled model
    chain : from `plan_chain`
    hot : state of the labelled ligand in each compartment

    Raises
    ------
    ModelError
        A daughter is born where nothing is said of it.
    """
    scheme = chain.scheme
    forms = {scheme.followed[0]: Forms(hot, {}, {})}
    region = {c.name: c.region for c in model.compartments.values()}
    births: list[Birth] = []
    for name in scheme.followed[1:]:
        release = chain.releases[name]
        inside = release.model.compartments if release.model else {}
        region = {f: c.region for f, c in inside.items()} | region
        mine = Forms(
            {c: symbol(f"{c}_{tag(name)}") for c in hot}, {}, {f: symbol(f"{f}_{tag(name)}_free") for f in inside}
        )
        born: list[Birth] = []
        for parent, fed in scheme.feeds.items():
            if name not in fed:
                continue
            for place, source in forms[parent].ligand.items():
                gone = chain.fraction(name, place, region[place])
                if gone != 1:
                    share = fed[name] * (1 - gone)
                    born.append(Birth(parent, name, place, source, mine.ligand[place], share, freed=False))
                if gone != 0:
                    target = _freed(chain, name, place, region[place], mine)
                    born.append(Birth(parent, name, place, source, target, fed[name] * gone, freed=True))
            for place, source in (*forms[parent].stays.items(), *forms[parent].free.items()):
                if release.fraction == 0:
                    raise ModelError(
                        f"{chain.who}: {name} is also born from {parent} that is free in {place!r}, where there is no "
                        f"ligand to stay with; say {IN_PLACE!r} or Release(...)"
                    )
                target = _freed(chain, name, place, region[place], mine)
                born.append(Birth(parent, name, place, source, target, fed[name], freed=True))
        forms[name] = Forms({}, mine.stays, mine.free) if all(b.freed for b in born) else mine
        births += born
    return forms, births


def _freed(chain: Chain, name: str, place: str, region: str, mine: Forms) -> sp.Symbol:
    """The state of an atom that is free in a place: of the free model, or one that stays."""
    target = chain.goes(name, place, region)
    if target:
        return mine.free[target]
    return mine.stays.setdefault(place, symbol(f"{place}_{tag(name)}_stays"))


def with_daughters(
    model: Model,
    labelled: Model,
    flows: Iterable[Flow],
    chain: Chain,
    forms: Mapping[str, Forms],
    births: list[Birth],
    cold: Mapping[str, sp.Symbol],
) -> Model:
    """Add the daughters to a labelled model.

    Parameters
    ----------
    model, labelled : before and after the ligand was labelled; `labelled` has no flows yet
    flows : of everything the ligand carries, without decay
    chain, forms, births : from `plan_chain` and `trace`
    cold : state of the cold ligand in each compartment, empty where it is not followed

    Raises
    ------
    ModelError
        A name is taken, or a free model does not fit to the ligand's.
    """
    parent = chain.scheme.followed[0]
    own = chain.parameters()
    for name in chain.scheme.followed[1:]:
        own |= constants(nuclide(name), daughter=True)
    states = _compartments(model, chain, forms)
    _refuse_taken(chain, {*labelled.symbols, *labelled.observables} & {*own, *states})
    whole = replace(
        labelled, parameters={**labelled.parameters, **own}, compartments={**labelled.compartments, **states}
    )
    for name, release in chain.releases.items():
        if release.model is None:
            continue
        free = release.model.rename({f: str(state) for f, state in forms[name].free.items()})
        free = replace(free, observables={}, administration={}, derived={}, checks=(), nuclide=labelled.nuclide)
        whole = join(whole, free, name=labelled.name)
    seen = {o.name: o for o in _observables(whole, model, labelled, chain, forms)}
    _refuse_taken(chain, {*whole.parameters, *labelled.observables} & {*seen})
    routes = _routes(model, whole, forms, parent)
    timing = {f"{r}_{tag(name)}": times for r, times in model.timing.items() for name in chain.releases}
    decays = _decays(model, whole, forms, births, cold, parent)
    _refuse_idle(chain, decays)
    return replace(
        whole,
        flows=(*flows, *whole.flows, *decays),
        observables={**labelled.observables, **seen},
        administration={**labelled.administration, **routes},
        timing={**labelled.timing, **{route: times for route, times in timing.items() if route in routes}},
    )


def _refuse_idle(chain: Chain, decays: Iterable[Flow]) -> None:
    """A released fraction that no flow uses belongs to a daughter that is never born on ligand."""
    used = {s.name for flow in decays for s in flow.rate.free_symbols}
    for name in chain.parameters():
        if name not in used:
            raise ModelError(
                f"{chain.who}: {name} changes nothing: none of that daughter is born on ligand, since its parent is "
                "said to stay where it was born or to be free; say 'with ligand' for the parent, or fraction=1 here"
            )


def _refuse_taken(chain: Chain, taken: set[str]) -> None:
    if taken:
        raise ModelError(f"{chain.who}: {', '.join(sorted(taken))}: the label needs this name; rename the part")


def _compartments(model: Model, chain: Chain, forms: Mapping[str, Forms]) -> dict[str, Compartment]:
    """Daughters on the ligand, and those that are free and stay where they are; `join` brings the others."""
    out: dict[str, Compartment] = {}
    places = dict(model.compartments)
    for name, release in chain.releases.items():
        for states, how in ((forms[name].ligand, "on ligand"), (forms[name].stays, "free, staying")):
            for place, state in states.items():
                old = places[place]
                unit = old.unit
                if _in_activity(old):
                    unit = "nmol/L" if "length" in dict(dimension(old.unit).exponents) else "nmol"
                out[str(state)] = Compartment(
                    name=str(state), unit=unit, region=old.region, meaning=f"{name} in {place}, {how}"
                )
        places = {**(release.model.compartments if release.model else {}), **places}
    return out


def _in_activity(c: Compartment) -> bool:
    return "activity" in dict(dimension(c.unit).exponents)


def _decays(
    model: Model,
    whole: Model,
    forms: Mapping[str, Forms],
    births: Iterable[Birth],
    cold: Mapping[str, sp.Symbol],
    parent: str,
) -> list[Flow]:
    """Every decay of every followed nuclide, as a flow to what it becomes."""
    flows: list[Flow] = []
    moved: dict[sp.Symbol, sp.Expr] = {}  # share of the decays in a state that are a flow out of it already
    units = {symbol(n): dimension(c.unit) for n, c in whole.compartments.items()}
    active = {s for c, s in forms[parent].ligand.items() if _in_activity(model.compartments[c])}
    for b in births:
        atoms = b.source / symbol(MOLAR_ACTIVITY) if b.source in active else b.source
        on_ligand = b.source in forms[b.parent].ligand.values()
        stays_a_molecule = b.freed and on_ligand and bool(cold)
        leaves = b.source not in active and not stays_a_molecule
        if b.freed and "length" in dict(units[b.source].exponents) and units[b.source] != units[b.target]:
            raise ModelError(
                f"{model.who}: {b.daughter} is freed in {b.place}, which is a concentration, and goes into an amount; "
                "write the model in amounts"
            )
        flows.append(
            Flow(
                source=str(b.source) if leaves else OUTSIDE,
                target=str(b.target),
                rate=_rate(b.parent, parent) * b.share * atoms,
                name=f"{b.parent} to {b.daughter} in {b.place}",
                decay=True,
            )
        )
        if leaves:
            moved[b.source] = moved.get(b.source, sp.Integer(0)) + b.share
    for name, form in forms.items():
        for kind in (form.ligand, form.stays, form.free):
            for place, state in kind.items():
                rest = 1 - moved.get(state, sp.Integer(0))
                if rest == 0:
                    continue
                kept = kind is form.ligand and cold and units[cold[place]] == units[state]
                flows.append(
                    Flow(
                        source=str(state),
                        target=str(cold[place]) if kept else OUTSIDE,
                        rate=_rate(name, parent) * rest * state,
                        name=f"decay in {place}" if name == parent else f"decay of {name} in {place}",
                        decay=True,
                    )
                )
    return flows


def _rate(name: str, parent: str) -> sp.Symbol:
    return symbol(LAMBDA if name == parent else f"lambda_{tag(name)}")


def _molar(name: str, parent: str) -> sp.Symbol:
    return symbol(MOLAR_ACTIVITY if name == parent else f"{MOLAR_ACTIVITY}_{tag(name)}")


def _observables(
    whole: Model, model: Model, labelled: Model, chain: Chain, forms: Mapping[str, Forms]
) -> list[Observable]:
    """Activity of each daughter in every observable of ligand, and in those of its free model."""
    parent = chain.scheme.followed[0]
    hot = set(forms[parent].ligand.values())
    on_ligand = {
        o.name: _per_place(model.observables[o.name].expression, forms[parent].ligand)
        for o in labelled.observables.values()
        if "activity" in dict(dimension(o.unit).exponents) and hot & o.expression.free_symbols
    }
    free = {
        name: {o.name: _per_place(o.expression, r.model.compartments) for o in r.model.observables.values()}
        for name, r in chain.releases.items()
        if r.model is not None
    }
    staying = {o: dict(shares) for o, shares in on_ligand.items()}
    for seen in free.values():
        for o, shares in seen.items():
            staying[o] = {**shares, **staying.get(o, {})}
    activity = {parent: {o: labelled.observables[o].expression for o in on_ligand}}
    for name in chain.scheme.followed[1:]:
        mine: dict[str, sp.Expr] = dict.fromkeys(on_ligand, sp.Integer(0))
        views = ((on_ligand, forms[name].ligand), (staying, forms[name].stays), (free.get(name, {}), forms[name].free))
        for view, states in views:
            for o, shares in view.items():
                atoms = sp.Add(*(share * states[place] for place, share in shares.items() if place in states))
                if atoms != 0:
                    mine[o] = mine.get(o, sp.Integer(0)) + atoms * _molar(name, parent)
        activity[name] = mine
    about = {name: f"activity of {name}" for name in activity}
    for name, fed in chain.scheme.short.items():
        for e, share in fed.items():
            for o, expression in activity[name].items():
                mine = activity.setdefault(e, {})
                mine[o] = mine.get(o, sp.Integer(0)) + share * expression
            about[e] = f"activity of {e} in equilibrium, {chain.scheme.lag[e] * 3600:.2g} s early"
    known = symbol_dimensions(whole)
    out = []
    for name, seen in activity.items():
        for o, expression in seen.items():
            if name == parent:
                continue
            found = dimension_of(expression, known, f"{chain.who}: activity of {name} in {o}")
            unit = labelled.observables[o].unit if o in on_ligand else canonical_unit(found or dimension("MBq"))
            if found is not None and found != dimension(unit):
                raise ModelError(
                    f"{chain.who}: observable {o} of free {name} is in {canonical_unit(found)}, but {model.who} has it "
                    f"in {unit}; rename one of them"
                )
            out.append(
                Observable(
                    name=f"{o}_{tag(name)}",
                    expression=expression,
                    unit=unit,
                    meaning=f"{about[name]}, {o}",
                    nuclide=name,
                )
            )
    return out


def _per_place(expression: sp.Expr, places: Iterable[str]) -> dict[str, sp.Expr]:
    """What one unit in each place adds to an observable; nothing where that depends on how much there is."""
    states = [symbol(c) for c in places if symbol(c) in expression.free_symbols]
    shares = {s.name: sp.diff(expression, s) for s in states}
    return {} if any(set(states) & e.free_symbols for e in shares.values()) else shares


def _routes(model: Model, labelled: Model, forms: Mapping[str, Forms], parent: str) -> dict[str, dict[str, sp.Expr]]:
    """Ways to give a daughter: with the ligand as ``<route>_Bi213``, or into one of its own states.

    A dose of activity is turned into atoms with the molar activity of the labelled nuclide; the ratio corrects that.
    """
    out: dict[str, dict[str, sp.Expr]] = {}
    for name, form in forms.items():
        if name == parent:
            continue
        ratio = symbol(MOLAR_ACTIVITY) / _molar(name, parent)
        for route, parts in model.administration.items():
            if form.ligand:
                out[f"{route}_{tag(name)}"] = {
                    str(form.ligand[c]): e * ratio for c, e in parts.items() if c in form.ligand
                }
        for state in (*form.ligand.values(), *form.stays.values(), *form.free.values()):
            if dimension(labelled.compartments[str(state)].unit) == dimension("nmol"):
                out[str(state)] = {str(state): ratio}
    return {route: parts for route, parts in out.items() if parts}
