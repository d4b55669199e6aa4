"""One likelihood for every engine: standardised residuals of all curves and their exact Jacobian.

Residuals are (predicted - measured) / SD, in the free parameters on the scale of the fit (`slots`). What is shared
between regions ties them into one group, and groups that share nothing are fitted one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..model import Model
from ..observation import Observer
from ..simulation import Problem, Solution
from ..solve.status import Status
from .slots import Slot

Array = NDArray[np.float64]
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


@dataclass(frozen=True)
class Likelihood:
    """Residuals and Jacobian of some curves in some free parameters."""

    model: Model
    slots: tuple[Slot, ...]
    blocks: tuple[Block, ...]
    variances: tuple[tuple[Array, ...], ...]  # per block and observer, up to one scale; infinite: left out

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
        with np.errstate(over="ignore"):
            values = self.values(x)
        slopes = np.array([float(s.slope(v)) for s, v in zip(self.slots, x, strict=True)])
        rows: list[Array] = []
        tables: list[Array] = []
        failure = ""
        for block, variances in zip(self.blocks, self.variances, strict=True):
            solution, groups = block.solve(values, tangents)
            for observer, variance in zip(block.observers, variances, strict=True):
                keep = np.isfinite(variance)
                sd = np.sqrt(variance[keep])
                measured = observer.curve.value[keep]
                predicted = observer.predict(solution)[keep]
                table = np.zeros((sd.size, len(self.slots)))
                broken = _broken(solution, predicted)
                if broken:
                    failure = f"{observer.curve.region}: {broken}"
                    predicted = measured + FAILED * max(float(np.abs(measured).max()), float(sd.max()))
                elif tangents:
                    tangent = observer.tangent(solution)[:, keep] / sd
                    for column, group in zip(block.columns, groups, strict=True):
                        table[:, column] = tangent[group].sum(axis=0) * slopes[column]
                rows.append((predicted - measured) / sd)
                tables.append(table)
        jacobian = np.concatenate(tables) if tangents else np.empty((0, len(self.slots)))
        if tangents and not np.all(np.isfinite(jacobian)):
            failure = failure or "the derivatives are not finite"
            jacobian = np.nan_to_num(jacobian, posinf=0.0, neginf=0.0)
        return Evaluation(np.concatenate(rows), jacobian, failure)

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
