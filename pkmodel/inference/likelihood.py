"""One likelihood for every engine: standardised residuals of all curves and their exact Jacobian.

Free parameters live on a scale where they are unbounded or nearly so (log for positive numbers, logit for
fractions); residuals are (predicted - measured) / SD. What is shared between regions ties them into one group, and
groups that share nothing are fitted one by one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Curves
from ..errors import FitError, SimulationError
from ..formats.curve import Curve, decay_factor
from ..model import Model
from ..nuclides import nuclide
from ..observation import Observer, observe
from ..regimen import Administration, Regimen
from ..simulation import Problem, Solution, prepare
from ..solve.status import Status
from ..units import factor
from .protocol import ErrorModel, Free, Protocol, Transform

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Slot:
    """A free parameter: of one region, or of all (`region` empty). Values are canonical."""

    parameter: str
    region: str
    unit: str
    transform: Transform
    start: float
    lower: float
    upper: float

    @property
    def label(self) -> str:
        """Its name in tables, e.g. ``k_washout[liver]``."""
        return f"{self.parameter}[{self.region}]" if self.region else self.parameter

    def to_scale(self, value: Any) -> Any:
        """Value -> the scale of the fit."""
        if self.transform == "log":
            return np.log(value)
        if self.transform == "logit":
            share = (np.asarray(value) - self.lower) / (self.upper - self.lower)
            return np.log(share / (1 - share))
        return value

    def from_scale(self, x: Any) -> Any:
        """The scale of the fit -> value."""
        if self.transform == "log":
            return np.exp(x)
        if self.transform == "logit":
            return self.lower + (self.upper - self.lower) / (1 + np.exp(-np.asarray(x)))
        return x

    def slope(self, x: Any) -> Any:
        """Derivative of the value with respect to the scale of the fit."""
        if self.transform == "log":
            return np.exp(x)
        if self.transform == "logit":
            share = 1 / (1 + np.exp(-np.asarray(x)))
            return (self.upper - self.lower) * share * (1 - share)
        return np.ones_like(np.asarray(x, dtype=float))

    @property
    def box(self) -> tuple[float, float]:
        """Bounds on the scale of the fit; a lower bound of zero is a millionth of a millionth of the start."""
        if self.transform == "log":
            return math.log(max(self.lower, 1e-12 * self.start)), math.log(self.upper)
        if self.transform == "logit":
            return -20.0, 20.0
        return self.lower, self.upper


@dataclass(frozen=True)
class Block:
    """One solve: a model with the curves it predicts, and where its parameters come from."""

    problem: Problem
    observers: tuple[Observer, ...]
    at: tuple[NDArray[np.intp], ...]  # where each observer's times lie among the problem's
    columns: tuple[int, ...]  # slot of each free parameter of this block
    indices: tuple[int, ...]  # its index among the model's parameters
    ties: tuple[tuple[int, int], ...]  # (index that follows, index that leads)
    values: Array  # canonical parameters, fixed ones set

    def parameters(self, values: Array) -> Array:
        """All parameters of the model at the given values of the slots."""
        p = self.values.copy()
        p[list(self.indices)] = values[list(self.columns)]
        for follower, leader in self.ties:
            p[follower] = p[leader]
        return p

    def solve(self, values: Array, tangents: bool) -> tuple[Solution, list[list[int]]]:
        """Solution at slot values, and for each free parameter the directions that belong to it."""
        directions = list(self.indices) if tangents else []
        groups = [[k] for k in range(len(directions))]
        for follower, leader in self.ties if tangents else ():
            if leader in self.indices:
                groups[self.indices.index(leader)].append(len(directions))
                directions.append(follower)
        return self.problem.solve(self.parameters(values), directions), groups


@dataclass(frozen=True)
class Likelihood:
    """Residuals and Jacobian of some curves in some free parameters."""

    model: Model
    slots: tuple[Slot, ...]
    blocks: tuple[Block, ...]
    variances: tuple[tuple[Array, ...], ...]  # per block and observer, up to one scale; infinite: left out
    error: ErrorModel

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the regions, in order."""
        return tuple(o.curve.region for b in self.blocks for o in b.observers)

    @property
    def points(self) -> int:
        """Number of data that count."""
        return int(sum(np.isfinite(v).sum() for block in self.variances for v in block))

    def values(self, x: Array) -> Array:
        """Canonical values of the slots from the scale of the fit."""
        return np.array([s.from_scale(v) for s, v in zip(self.slots, x, strict=True)])

    def residuals(self, x: Array) -> Array:
        """Standardised residuals, (points,); a failed solve gives large finite ones."""
        return self._evaluate(x, tangents=False)[0]

    def jacobian(self, x: Array) -> Array:
        """Derivative of the residuals, (points, slots), by exact tangents of the solver."""
        return self._evaluate(x, tangents=True)[1]

    def _evaluate(self, x: Array, tangents: bool) -> tuple[Array, Array]:
        values = self.values(x)
        slopes = np.array([float(s.slope(v)) for s, v in zip(self.slots, x, strict=True)])
        rows: list[Array] = []
        tables: list[Array] = []
        for block, variances in zip(self.blocks, self.variances, strict=True):
            solution, groups = block.solve(values, tangents)
            failed = solution.status != Status.OK
            for observer, variance in zip(block.observers, variances, strict=True):
                keep = np.isfinite(variance)
                sd = np.sqrt(variance[keep])
                predicted = observer.predict(solution)[keep]
                if failed or not np.all(np.isfinite(predicted)):
                    predicted = np.full(sd.size, 1e6 * max(1.0, float(np.abs(observer.curve.value).max())))
                rows.append((predicted - observer.curve.value[keep]) / sd)
                if tangents:
                    table = np.zeros((sd.size, len(self.slots)))
                    tangent = np.nan_to_num(observer.tangent(solution)[:, keep] / sd)
                    for column, group in zip(block.columns, groups, strict=True):
                        table[:, column] = tangent[group].sum(axis=0) * slopes[column]
                    tables.append(table)
        return np.concatenate(rows), np.concatenate(tables) if tables else np.empty((0, 0))

    def groups(self) -> list[Likelihood]:
        """The parts that share no free parameter, each a likelihood of its own."""
        remaining = list(range(len(self.blocks)))
        found: list[Likelihood] = []
        while remaining:
            members, columns = [remaining.pop(0)], set(self.blocks[0].columns)
            columns = set(self.blocks[members[0]].columns)
            grew = True
            while grew:
                grew = False
                for b in list(remaining):
                    if columns & set(self.blocks[b].columns):
                        members.append(b)
                        columns |= set(self.blocks[b].columns)
                        remaining.remove(b)
                        grew = True
            order = sorted(columns)
            blocks = tuple(
                replace(self.blocks[b], columns=tuple(order.index(c) for c in self.blocks[b].columns))
                for b in sorted(members)
            )
            found.append(
                replace(
                    self,
                    slots=tuple(self.slots[c] for c in order),
                    blocks=blocks,
                    variances=tuple(self.variances[b] for b in sorted(members)),
                )
            )
        return found


def build_likelihood(
    model: Model, curves: Curves, protocol: Protocol, inputs: Mapping[str, Any] | None = None
) -> Likelihood:
    """Bind model, data and protocol.

    Parameters
    ----------
    model : labelled where its data decay
    curves : the regions to fit
    protocol : what is free, shared and tied; the error model
    inputs : measured inputs, name -> (times [h], values in the declared unit)

    Raises
    ------
    FitError
        A name is not a parameter, nothing is free, or more is free than was measured.
    """
    model = model.replace(**dict(protocol.fixed)) if protocol.fixed else model
    _check_names(model, protocol)
    regional = model.scope == "region"
    sets = [[c] for c in curves] if regional else [list(curves)]
    slots: list[Slot] = []
    blocks: list[Block] = []
    variances: list[tuple[Array, ...]] = []
    for members in sets:
        region = members[0].region if regional else ""
        columns: list[int] = []
        for name, free in protocol.free.items():
            slot = _slot(model, name, free, "" if name in protocol.shared else region)
            if slot.label not in [s.label for s in slots]:
                slots.append(slot)
            columns.append([s.label for s in slots].index(slot.label))
        blocks.append(_block(model, members, protocol, columns, inputs))
        variances.append(tuple(variance_of(c, protocol.error) for c in members))
    likelihood = Likelihood(model, tuple(slots), tuple(blocks), tuple(variances), protocol.error)
    for group in likelihood.groups():
        if len(group.slots) > group.points:
            raise FitError(
                f"{', '.join(group.regions)}: {len(group.slots)} free parameters "
                f"({', '.join(s.label for s in group.slots)}) but only {group.points} points; fix some, share some, "
                "or use a model with fewer phases"
            )
    return likelihood


def _check_names(model: Model, protocol: Protocol) -> None:
    who = f"protocol {protocol.name}"
    known = ", ".join(model.primary)
    for kind, names in (("free", protocol.free), ("tied", protocol.ties), ("shared", protocol.shared)):
        for n in names:
            if n not in model.primary:
                raise FitError(f"{who}: {kind} {n!r} is not a parameter of {model.name}; known: {known}")
            if model.parameters[n].fixed and kind != "shared":
                raise FitError(f"{who}: {n} is a physical constant ({model.parameters[n].meaning}) and is never fitted")
    if not protocol.free:
        raise FitError(f"{who}: nothing is free; name the free parameters, for example free = {{ {model.primary[0]} }}")
    for follower, leader in protocol.ties.items():
        if leader not in model.primary:
            raise FitError(f"{who}: tie {follower} = {leader}: {leader!r} is not a parameter; known: {known}")
        if follower in protocol.free:
            raise FitError(f"{who}: {follower} is free and tied to {leader} at once")
        if factor(model.parameters[follower].unit) and leader in protocol.ties:
            raise FitError(f"{who}: tie {follower} = {leader}: {leader} is itself tied")
    for n in protocol.shared:
        if n not in protocol.free:
            raise FitError(f"{who}: shared {n!r} is not free")


def _slot(model: Model, name: str, free: Free, region: str) -> Slot:
    p = model.parameters[name]
    unit = factor(p.unit)
    lower = p.lower if free.lower is None else free.lower
    upper = p.upper if free.upper is None else free.upper
    start = p.value if free.start is None else free.start
    who = f"{model.name}: {name}"
    if start is None:
        raise FitError(f"{who}: no start value; give one in the protocol: {name} = {{ start = ... }}")
    if not lower <= start <= upper:
        raise FitError(f"{who}: start {start:g} lies outside {lower:g} to {upper:g} {p.unit}")
    transform: Transform = free.transform or ("log" if lower >= 0 and start > 0 else "none")
    if transform == "log" and (lower < 0 or start <= 0):
        raise FitError(f"{who}: the log transform needs a positive start and no negative lower bound")
    if transform == "logit" and not (math.isfinite(lower) and math.isfinite(upper) and lower < start < upper):
        raise FitError(f"{who}: the logit transform needs two finite bounds with the start between them")
    return Slot(name, region, p.unit, transform, start * unit, lower * unit, upper * unit)


def _block(
    model: Model, members: Sequence[Curve], protocol: Protocol, columns: list[int], inputs: Mapping[str, Any] | None
) -> Block:
    observers = [observe(model, c, mode=protocol.observation) for c in members]
    times = np.unique(np.concatenate([o.times for o in observers]))
    # the delay may be fitted: inputs have to reach a little further than the data, which `prepare` checks
    regimen = _injection(model, members)
    problem = prepare(model, regimen, times, inputs=inputs)
    names = list(problem.compiled.parameters)
    at = tuple(np.searchsorted(times, o.times) for o in observers)
    moved = tuple(
        replace(o, times=times, start=a[o.start], end=a[o.end]) for o, a in zip(observers, at, strict=True)
    )
    ties = tuple((names.index(f), names.index(lead)) for f, lead in protocol.ties.items())
    values = problem.defaults.copy()
    for follower, leader in ties:
        values[follower] = values[leader]
    return Block(problem, moved, at, tuple(columns), tuple(names.index(n) for n in protocol.free), ties, values)


def _injection(model: Model, members: Sequence[Curve]) -> Regimen:
    """The injection that the study states, as a bolus at time zero."""
    if not model.administration:
        return Regimen.nothing()
    curve = members[0]
    if curve.injected_activity is None:
        raise FitError(f"{curve.who}: the injected activity is not stated; say injected_activity = '... MBq' in study.toml")
    try:
        return Regimen.of(Administration(0.0, activity=curve.injected_activity))
    except SimulationError as error:
        raise FitError(f"{curve.who}: {error}") from None


def variance_of(curve: Curve, error: ErrorModel) -> Array:
    """Variance of each value up to one scale; infinite for a value that does not count.

    constant: equal, relative to the largest value. proportional: the value squared. combined: additive^2 +
    (proportional*value)^2. table: the standard errors in the data. weights: one over the weights in the data (zero
    weight: left out). counts: Poisson counts of a frame, value * factor / duration, with the decay-correction
    factor where the values are corrected (Thiele & Buchert 2008, doi:10.1097/MNM.0b013e3282fbe7f7).

    Raises
    ------
    FitError
        The data do not hold what the error model needs.
    """
    y = curve.value
    n = len(curve)
    if error.kind == "constant":
        return np.full(n, float(np.abs(y).max()) ** 2)
    if error.kind == "proportional":
        if np.any(y <= 0):
            raise FitError(f"{curve.who}: a proportional error has no size at a value of zero; use 'combined'")
        return np.asarray(y**2, dtype=float)
    if error.kind == "combined":
        return np.asarray(error.additive**2 + (error.proportional * y) ** 2, dtype=float)
    if error.kind == "table":
        sd = curve.standard_error
        if not np.all(np.isfinite(sd)) or np.any(sd <= 0):
            raise FitError(f"{curve.who}: error kind 'table' needs an sd above zero for every value")
        return np.asarray(sd**2, dtype=float)
    if error.kind == "weights":
        w = curve.weights
        if not np.all(np.isfinite(w)) or np.any(w < 0) or not np.any(w > 0):
            raise FitError(f"{curve.who}: error kind 'weights' needs a weight for every value, none negative")
        return np.divide(1.0, w, out=np.full(n, np.inf), where=w > 0)
    if not np.all(curve.t_end > curve.t_start):
        raise FitError(f"{curve.who}: error kind 'counts' needs frames (t_start and t_end) for every value")
    correction = np.ones(n)
    if curve.decay_corrected:
        correction = decay_factor(nuclide(curve.nuclide).decay_constant, curve.t_start, curve.t_end)
    # a frame with no counts has no Poisson variance of its own; a hundredth of the largest keeps it finite
    floor = 0.01 * float(np.abs(y).max())
    return np.asarray(np.maximum(y, floor) * correction / (curve.t_end - curve.t_start), dtype=float)
