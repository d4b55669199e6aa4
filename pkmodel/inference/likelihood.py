"""One likelihood for every engine: standardised residuals of all curves and their exact Jacobian.

Residuals are (predicted - measured) / SD, in the free parameters on the scale of the fit (`slots`). What is shared
between regions ties them into one group, and groups that share nothing are fitted one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..model import Model
from ..observation import Observer
from ..simulation import Problem, Solution
from ..solve.status import Status
from .modal_likelihood import Predictor, predictor_of
from .noise import Noise, default_noise
from .observations import Observations, gather
from .protocol import ErrorModel
from .slots import Slot

Array = NDArray[np.float64]
EQUAL = ErrorModel()
FAILED = 1e6  # a prediction that could not be computed counts as this many times the largest value


@dataclass(frozen=True)
class Block:
    """One solve: a model with the curves it predicts, and where its parameters come from."""

    problem: Problem
    observers: tuple[Observer, ...]
    columns: tuple[int, ...]  # slot of each free parameter of this block
    indices: tuple[int, ...]  # its index among the model's parameters
    ties: tuple[tuple[int, int], ...]  # (index that follows, index that leads)
    values: Array  # canonical parameters, fixed ones set
    occasion: str = ""  # where a subject is followed on several

    def parameters(self, values: Array) -> Array:
        """All parameters of the model, (p,), at the values of the slots, (k,); both canonical."""
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


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The likelihood at one point."""

    residuals: Array  # (points,)
    jacobian: Array  # (points, slots); empty where it was not asked for
    failure: str  # why the model could not be solved there, empty where it could


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of every value of `Likelihood.data`, in its unit.

    Parameters
    ----------
    value : (n,) array; nan where the model could not be solved
    tangent : (n, k) array, derivatives by the free parameters on the scale of the fit; (n, 0) where not asked for
    failure : why the model could not be solved, empty where it could [text]
    """

    value: Array
    tangent: Array
    failure: str = ""


@dataclass(frozen=True)
class Likelihood:
    """One subject's curves and what a model predicts of them, in some free parameters."""

    model: Model
    slots: tuple[Slot, ...]
    blocks: tuple[Block, ...]
    variances: tuple[tuple[Array, ...], ...]  # per block and observer, up to one scale; infinite: left out
    error: ErrorModel = EQUAL

    @cached_property
    def data(self) -> Observations:
        """Every measured value in the order of the predictions."""
        pairs = [(o.curve, b.occasion) for b in self.blocks for o in b.observers]
        return gather([c for c, _ in pairs], self.error, [o for _, o in pairs])

    @cached_property
    def noise(self) -> Noise:
        """What the protocol's error model says of the noise; its sizes are free unless they are known."""
        return default_noise(self.error, self.data)

    @cached_property
    def modes(self) -> Predictor | None:
        """Its predictions in closed form, where the model is linear and small enough."""
        return predictor_of([self])

    def __getstate__(self) -> dict[str, object]:
        """What it was made from; what it keeps (tables, compiled code) is made again where it is loaded."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the regions, in order."""
        return tuple(o.curve.region for b in self.blocks for o in b.observers)

    @property
    def points(self) -> int:
        """Number of data that count."""
        return int(sum(np.isfinite(v).sum() for block in self.variances for v in block))

    def values(self, x: Array) -> Array:
        """Canonical values of the slots, (k,), from the scale of the fit, (k,)."""
        return np.array([s.from_scale(v) for s, v in zip(self.slots, x, strict=True)])

    def residuals(self, x: Array) -> Array:
        """Standardised residuals, (points,), at x, (k,); where the model cannot be solved, large finite ones."""
        return self.evaluate(x, tangents=False).residuals

    def jacobian(self, x: Array) -> Array:
        """Derivative of the residuals, (points, k), by exact tangents of the solver."""
        return self.evaluate(x).jacobian

    def evaluate(self, x: Array, *, tangents: bool = True) -> Evaluation:
        """Residuals, and with `tangents` their Jacobian, from one solve per block.

        Parameters
        ----------
        x : (k,) array, on the scale of the fit
        tangents : whether the Jacobian is wanted

        Returns
        -------
        Evaluation
            A failed solve gives large residuals with a zero Jacobian, which a trust region backs away from.
        """
        predicted = self.predict(x, tangents=tangents)
        failure = predicted.failure
        rows: list[Array] = []
        tables: list[Array] = []
        at = 0
        for block, variances in zip(self.blocks, self.variances, strict=True):
            for observer, variance in zip(block.observers, variances, strict=True):
                piece = slice(at, at + variance.size)
                at += variance.size
                keep = np.isfinite(variance)
                sd = np.sqrt(variance[keep])
                measured, value = observer.curve.value[keep], predicted.value[piece][keep]
                if not np.all(np.isfinite(value)):
                    value = measured + FAILED * max(float(np.abs(measured).max()), float(sd.max()))
                rows.append((value - measured) / sd)
                tables.append(predicted.tangent[piece][keep] / sd[:, None])
        jacobian = np.concatenate(tables) if tangents else np.empty((0, len(self.slots)))
        if tangents and not np.all(np.isfinite(jacobian)):
            failure = failure or "the derivatives are not finite"
            jacobian = np.nan_to_num(jacobian, posinf=0.0, neginf=0.0)
        return Evaluation(np.concatenate(rows), jacobian, failure)

    def predict(self, x: Array, *, tangents: bool = True) -> Prediction:
        """What the model says of every value of `data`, from one solve per block.

        Parameters
        ----------
        x : (k,) array, on the scale of the fit
        tangents : whether the derivatives are wanted

        Returns
        -------
        Prediction
            A failed solve gives nan with derivatives of zero, for the curves of that block only.
        """
        if self.modes is not None:
            value, tangent, _, status = self.modes.predict(np.atleast_2d(x), tangents=tangents)
            if not status.any():
                return Prediction(value, tangent)
        with np.errstate(over="ignore"):
            values = self.values(x)
            slopes = np.array([float(s.slope(v)) for s, v in zip(self.slots, x, strict=True)])
        rows: list[Array] = []
        tables: list[Array] = []
        failure = ""
        for block in self.blocks:
            solution, groups = block.solve(values, tangents)
            for observer in block.observers:
                predicted = observer.predict(solution)
                table = np.zeros((predicted.size, len(self.slots) if tangents else 0))
                broken = _broken(solution, predicted)
                if broken:
                    failure = f"{observer.curve.region}: {broken}"
                    predicted = np.full(predicted.size, np.nan)
                elif tangents:
                    tangent = observer.tangent(solution)
                    for column, group in zip(block.columns, groups, strict=True):
                        table[:, column] = tangent[group].sum(axis=0) * slopes[column]
                rows.append(predicted)
                tables.append(table)
        return Prediction(np.concatenate(rows), np.concatenate(tables), failure)

    def groups(self) -> list[Likelihood]:
        """The parts that share no free parameter, each a likelihood of its own."""
        remaining = list(range(len(self.blocks)))
        found: list[Likelihood] = []
        while remaining:
            members = [remaining.pop(0)]
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
            members.sort()
            found.append(
                replace(
                    self,
                    slots=tuple(self.slots[c] for c in order),
                    blocks=tuple(
                        replace(self.blocks[b], columns=tuple(order.index(c) for c in self.blocks[b].columns))
                        for b in members
                    ),
                    variances=tuple(self.variances[b] for b in members),
                )
            )
        return found


def _broken(solution: Solution, predicted: Array) -> str:
    """Why a solution cannot be compared with data, empty where it can."""
    if solution.status != Status.OK:
        return solution.message
    return "" if np.all(np.isfinite(predicted)) else "the model gives values that are not finite"
