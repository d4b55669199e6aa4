"""Bind a model, curves and a protocol into a likelihood, refusing what does not go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..covariates import Covariate
from ..data import Curves
from ..errors import FitError, SimulationError
from ..formats.curve import MISSING, Curve
from ..inputs import InputCurve
from ..model import Model
from ..observation import observe
from ..regimen import Administration, Regimen
from ..simulation import prepare
from ..units import dimension
from .likelihood import Block, Likelihood
from .protocol import Protocol
from .slots import Slot, make_slot
from .variances import variance_of

Array = NDArray[np.float64]


def build_likelihood(
    model: Model,
    curves: Curves,
    protocol: Protocol,
    inputs: Mapping[str, InputCurve] | None = None,
    *,
    regimen: Regimen | None = None,
    covariates: Mapping[str, Covariate] | None = None,
    sparse: bool = False,
) -> Likelihood:
    """Bind model, data and protocol.

    Parameters
    ----------
    model : labelled where its data decay
    curves : the regions to fit
    protocol : what is free, shared and tied; the error model
    inputs : measured inputs (see `measured_inputs.read_inputs`)
    regimen : what was given and when; default the injection that the curves state, as a bolus at time zero
    covariates : parameters that change in time, by name
    sparse : whether more may be free than was measured, because a prior or a population adds to it

    Raises
    ------
    FitError
        A name is not a parameter, nothing is free, or more is free than was measured (unless `sparse`).
    """
    _check_names(model, protocol)
    if protocol.fixed:
        _ = model.digest  # worked out once for the caller's model, so that its copies with other values have it
        model = model.replace(**dict(protocol.fixed))
    regional = model.scope == "region"
    sets = [[c] for c in curves] if regional else [list(curves)]
    slots: dict[str, Slot] = {}
    blocks: list[Block] = []
    variances: list[tuple[Array, ...]] = []
    for members in sets:
        for c in members:
            _check_values(c)
        region = members[0].region if regional else ""
        mine = [make_slot(model, n, f, "" if n in protocol.shared else region) for n, f in protocol.free.items()]
        for slot in mine:
            slots.setdefault(slot.label, slot)
        columns = [list(slots).index(slot.label) for slot in mine]
        given = _injection(model, curves, members) if regimen is None else regimen
        blocks.append(_block(model, given, members, protocol, columns, inputs, covariates))
        variances.append(tuple(variance_of(c, protocol.error) for c in members))
    likelihood = Likelihood(model, tuple(slots.values()), tuple(blocks), tuple(variances), protocol.error)
    for group in likelihood.groups():
        if len(group.slots) > group.points and not sparse:
            raise FitError(
                f"{', '.join(group.regions)}: {len(group.slots)} free parameters "
                f"({', '.join(s.label for s in group.slots)}) but only {group.points} points; fix some, share some, "
                "or use a model with fewer phases"
            )
    return likelihood


def _check_names(model: Model, protocol: Protocol) -> None:
    who = f"protocol {protocol.name}"
    known = ", ".join(model.primary)
    named = {"free": protocol.free, "fixed": protocol.fixed, "tied": protocol.ties, "shared": protocol.shared}
    for kind, names in named.items():
        for n in names:
            if n not in model.primary:
                raise FitError(f"{who}: {kind} {n!r} is not a parameter of {model.name}; known: {known}")
            if model.parameters[n].fixed and kind != "shared":
                raise FitError(f"{who}: {n} is a physical constant ({model.parameters[n].meaning}) and is never fitted")
    if not protocol.free:
        raise FitError(f"{who}: nothing is free; name the free parameters, for example free = {{ {model.primary[0]} }}")
    if both := sorted(set(protocol.free) & set(protocol.fixed)):
        raise FitError(f"{who}: {', '.join(both)}: free and fixed at once")
    for follower, leader in protocol.ties.items():
        _check_tie(model, protocol, follower, leader)
    for n in protocol.shared:
        if n not in protocol.free:
            raise FitError(f"{who}: shared {n!r} is not free")
        if model.scope != "region":
            raise FitError(f"{who}: {model.name} describes all regions at once, so {n} cannot be shared between them")


def _check_tie(model: Model, protocol: Protocol, follower: str, leader: str) -> None:
    who = f"protocol {protocol.name}: tie {follower} = {leader!r}"
    if leader not in model.primary:
        raise FitError(f"{who}: {leader!r} is not a parameter of {model.name}; known: {', '.join(model.primary)}")
    if leader == follower:
        raise FitError(f"{who}: a parameter cannot be tied to itself")
    if leader in protocol.ties:
        raise FitError(f"{who}: {leader} is itself tied, to {protocol.ties[leader]}; tie both to that one")
    for kind, names in (("free", protocol.free), ("fixed", protocol.fixed)):
        if follower in names:
            raise FitError(f"{who}: {follower} is {kind} and tied at once")
    mine, its = model.parameters[follower].unit, model.parameters[leader].unit
    if dimension(mine) != dimension(its):
        raise FitError(f"{who}: {follower} is in {mine!r} and {leader} in {its!r}; only like can be tied to like")


def _check_values(curve: Curve) -> None:
    if not len(curve):
        raise FitError(f"{curve.who}: has no values")
    for name in ("value", "t_start", "t_end"):
        bad = ~np.isfinite(getattr(curve, name)) & ((curve.censored != MISSING) | (name != "value"))
        if np.any(bad):
            raise FitError(f"{curve.who}: {name} {int(np.argmax(bad)) + 1} is not a number; leave that row out")


def _block(
    model: Model,
    regimen: Regimen,
    members: Sequence[Curve],
    protocol: Protocol,
    columns: list[int],
    inputs: Mapping[str, InputCurve] | None,
    covariates: Mapping[str, Covariate] | None,
) -> Block:
    for name, declared in model.inputs.items():
        if inputs and declared.delay in protocol.free and inputs[name].value[0] != 0.0:
            raise FitError(
                f"{model.name}: input {name} starts at {inputs[name].value[0]:g}, not zero, and a delay cannot be "
                "fitted across that jump; begin the input with a zero"
            )
    observers = [observe(model, c, mode=protocol.observation) for c in members]
    times = np.unique(np.concatenate([o.times for o in observers]))
    problem = prepare(model, regimen, times, inputs=inputs, covariates=covariates)
    names = list(problem.compiled.parameters)
    moved = []
    for o in observers:
        at = np.searchsorted(times, o.times)  # where its own times lie among all
        moved.append(replace(o, times=times, start=at[o.start], end=at[o.end]))
    ties = tuple((names.index(f), names.index(lead)) for f, lead in protocol.ties.items())
    values = problem.defaults.copy()
    for follower, leader in ties:
        values[follower] = values[leader]
    return Block(problem, tuple(moved), tuple(columns), tuple(names.index(n) for n in protocol.free), ties, values)


def _injection(model: Model, curves: Curves, members: Sequence[Curve]) -> Regimen:
    """The injection that the study states, as a bolus at time zero."""
    if not model.administration:
        return Regimen.nothing()
    curve = members[0]
    if curve.injected_activity is None:
        raise FitError(
            f"{curve.who}: the injected activity is not stated; say injected_activity = '... MBq' in study.toml"
        )
    try:
        return Regimen.of(Administration(0.0, activity=curve.injected_activity, amount=curves.amount))
    except SimulationError as error:
        raise FitError(f"{curve.who}: {error}") from None
