"""What a design is made for: a model with its doses, what is unknown of a patient, what is imaged, and how well.

The unknown parameters are on the scale of a fit (`inference.slots`): the logarithm of a positive parameter, so that a
standard deviation there is a relative one. What is known of them beforehand is the population's spread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SimulationError
from ..inference.slots import Slot
from ..model import Model
from ..nuclides import nuclide
from ..preparation import prepare
from ..problem import Problem
from ..regimen import Regimen
from ..solve.status import Status
from ..units import factor
from .scan_noise import ScanNoise

Array = NDArray[np.float64]
_EXACT, _ENGINE = 40, 25  # half-lives after the last dose that are followed: what is left is below 1e-12 and 3e-8
_REDRAWS = 100


@dataclass(frozen=True, slots=True)
class Imaged:
    """An organ that is imaged: an observable, the noise of one scan of it, and its weight in the criterion."""

    name: str
    index: int
    unit: str
    noise: ScanNoise
    weight: float
    activity: bool  # whether it is an activity, so that it has a TIA


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """What P patients show in C scans of J organs, with derivatives by k parameters on the scale of the fit.

    Parameters
    ----------
    value : (P, C, J) array, in each observable's unit
    tangent : (P, C, J, k) array
    hours : (C,) array, length of the frames [h]
    """

    value: Array
    tangent: Array
    hours: Array


@dataclass(frozen=True, slots=True, eq=False)
class Totals:
    """Time-integrated activity of P patients, (P, J) [MBq h], and derivatives of its logarithm, (P, J, k)."""

    value: Array
    slope: Array


@dataclass(frozen=True)
class Setting:
    """A model with its doses, and what is unknown, imaged and known beforehand; see the verbs for the words."""

    model: Model
    regimen: Regimen
    slots: tuple[Slot, ...]
    organs: tuple[Imaged, ...]
    omega: Array  # (k, k) between-subject covariance on the scale of the fit; rows of zero where none is known
    known: NDArray[np.bool_]  # (k,) whether a spread is known
    people: Array  # (P, k) parameters on the scale of the fit; the first is the typical patient
    prior: bool  # whether what is known beforehand counts as information
    inputs: Mapping[str, Any]
    covariates: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the organs."""
        return tuple(o.name for o in self.organs)

    @property
    def typical(self) -> Array:
        """The typical patient on the scale of the fit, (k,)."""
        return np.array([s.to_scale(s.start) for s in self.slots])

    @cached_property
    def precision(self) -> Array:
        """Information known beforehand, (k, k); zero for parameters without a spread."""
        out = np.zeros_like(self.omega)
        if self.prior and self.known.any():
            at = np.ix_(self.known, self.known)
            out[at] = np.linalg.inv(self.omega[at])
        return out

    @cached_property
    def _problem(self) -> Problem:
        return prepare(self.model, self.regimen, [0.0, 1.0], inputs=self.inputs, covariates=self.covariates)

    @cached_property
    def indices(self) -> list[int]:
        """Number of each unknown parameter in the compiled model."""
        names = list(self._problem.compiled.parameters)
        return [names.index(s.parameter) for s in self.slots]

    @property
    def weights(self) -> Array:
        """Weights of the organs, adding up to one, (J,)."""
        w = np.array([o.weight for o in self.organs])
        return np.asarray(w / w.sum())

    @cached_property
    def last_dose(self) -> float:
        """When the last dose is in [h]."""
        return float(self._problem.end)

    @cached_property
    def horizon(self) -> float:
        """When all activity is gone [h]."""
        if self.model.inputs:
            raise SimulationError(
                f"{self.model.who}: driven by a measured input, which ends, so it has no TIA; use criterion='D'"
            )
        if not self.model.nuclide:
            raise SimulationError(
                f"{self.model.who}: not labelled, so it has no time-integrated activity; give nuclide='Lu-177', or "
                "use criterion='D'"
            )
        lives = _EXACT if self._problem.exact else _ENGINE
        return self.last_dose + lives * nuclide(self.model.nuclide).half_life

    def parameters(self, x: Array) -> Array:
        """Canonical parameters of the model at x, (k,) on the scale of the fit."""
        p = self._problem.defaults.copy()
        p[self.indices] = [s.from_scale(v) for s, v in zip(self.slots, x, strict=True)]
        return p

    def _solve(self, times: Array, x: Array, tangents: bool) -> tuple[Array, Array, Array, Array]:
        """Observables and their integrals (J, m), and derivatives (k, J, m), in the observables' units."""
        problem = self._problem if np.array_equal(times, self._problem.times) else self._at(times)
        solution = problem.solve(self.parameters(x), self.indices if tangents else [])
        if solution.status != Status.OK:
            raise SimulationError(f"{self.model.who}: {solution.message}")
        rows = [o.index for o in self.organs]
        unit = np.array([factor(o.unit) for o in self.organs])[:, None]
        slope = np.array([float(s.slope(v)) for s, v in zip(self.slots, x, strict=True)])[:, None, None]
        if not tangents:
            nothing = np.zeros((0, len(rows), times.size))
            return solution.observed[rows] / unit, solution.integrals[rows] / unit, nothing, nothing
        return (
            solution.observed[rows] / unit, solution.integrals[rows] / unit,
            solution.observed_tangent[:, rows] / unit * slope, solution.integral_tangent[:, rows] / unit * slope,
        )  # fmt: skip

    def _at(self, times: Array) -> Problem:
        return prepare(self.model, self.regimen, times, inputs=self.inputs, covariates=self.covariates)

    def expected(self, start: Array, hours: Array, *, people: Array | None = None, tangents: bool = True) -> Expected:
        """Expected measurements: averages over frames, or values where a frame has no length.

        Parameters
        ----------
        start, hours : (C,) arrays [h]
        people : (P, k) array on the scale of the fit; default the setting's own
        tangents : whether derivatives are wanted
        """
        who = self.people if people is None else people
        end = start + hours
        grid = np.unique(np.round(np.concatenate([start, end]), 12))
        a, b = np.searchsorted(grid, np.round(start, 12)), np.searchsorted(grid, np.round(end, 12))
        long = hours > 0
        width = np.where(long, hours, 1.0)
        values, slopes = [], []
        for x in who:
            seen, sums, dseen, dsums = self._solve(grid, x, tangents)
            values.append(np.where(long, (sums[:, b] - sums[:, a]) / width, seen[:, a]).T)
            slopes.append(np.where(long, (dsums[..., b] - dsums[..., a]) / width, dseen[..., a]).transpose(2, 1, 0))
        value = np.array(values)
        return Expected(value, np.array(slopes), hours)

    def totals(self, *, people: Array | None = None) -> Totals:
        """Time-integrated activity to infinity and the derivatives of its logarithm.

        The integral runs until nothing is left (`horizon`); an exact tangent of the solver gives the derivative.
        """
        who = self.people if people is None else people
        grid = np.array([0.0, self.horizon])
        values, slopes = [], []
        for x in who:
            _, sums, _, dsums = self._solve(grid, x, True)
            value = sums[:, -1]
            values.append(value)
            with np.errstate(divide="ignore", invalid="ignore"):
                slopes.append(np.where(value[:, None] > 0, dsums[:, :, -1].T / value[:, None], 0.0))
        return Totals(np.array(values), np.array(slopes))

    def after(self, time: float) -> Array:
        """Fraction of the typical patient's TIA that lies after a time, (J,)."""
        grid = np.array([0.0, time, self.horizon]) if time > 0 else np.array([0.0, self.horizon])
        _, sums, _, _ = self._solve(grid, self.typical, False)
        inside = sums[:, -2] if time > 0 else np.zeros(len(sums))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(1.0 - inside / sums[:, -1])

    def drawn(self, n: int, seed: int) -> Array:
        """Patients of the population, (n, k) on the scale of the fit, within the bounds of the model."""
        if not self.known.any():
            raise SimulationError(f"{self.model.who}: no parameter has a spread, so patients do not differ")
        root = np.zeros_like(self.omega)
        at = np.ix_(self.known, self.known)
        root[at] = np.linalg.cholesky(self.omega[at])
        low, high = np.array([s.box for s in self.slots]).T
        out = np.empty((n, len(self.slots)))
        for i in range(n):
            rng = np.random.default_rng([seed, i])
            for _ in range(_REDRAWS):
                out[i] = self.typical + root @ rng.standard_normal(len(self.slots))
                if np.all((out[i] >= low - 1e-9) & (out[i] <= high + 1e-9)):
                    break
            else:
                raise SimulationError(
                    f"{self.model.who}: {_REDRAWS} draws of a patient all lay outside the bounds of the parameters; "
                    "widen them or lower the spread"
                )
        return out
