"""Predictions and densities for many patients, or many draws of one, all in one batch (`inference.batch`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inference.batch import Batch, Member, Totals
from ..inference.likelihood import Block
from ..inference.noise import Noise
from ..inference.observations import Observations
from ..inference.population_file import PopulationModel
from ..nuclides import nuclide
from .scans import Scans

Array = NDArray[np.float64]
Whole = NDArray[np.intp]
HALF_LIVES = 25  # after the last scan; what is left is below 3e-8
DIFFERENCE = 1e-5  # relative, of predictions, for second derivatives of the error model


@dataclass(frozen=True, eq=False)
class Rows:
    """Some cycles, each for one set of parameters: what is predicted, and what was measured.

    Parameters
    ----------
    scans : cycles
    which : (R,) array, cycle of each row
    """

    population: PopulationModel
    noise: Noise
    scans: tuple[Scans, ...]
    which: Whole

    def batch(self, regions: tuple[str, ...]) -> Batch:
        """What predicts all cycles, and the integrals of some regions."""
        if regions not in self._batches:
            members = tuple(_member(s, regions) for s in self.scans)
            self._batches[regions] = Batch(members, self.population.slots)
        return self._batches[regions]

    @cached_property
    def _batches(self) -> dict[tuple[str, ...], Batch]:
        return {}

    @cached_property
    def _lengths(self) -> Whole:
        """Number of values of each row, (R,)."""
        return np.array([len(s.likelihood.data) for s in self.scans], dtype=np.intp)[self.which]

    @cached_property
    def start(self) -> Whole:
        """(R + 1,) array, where each row begins in `data`."""
        return np.concatenate([[0], np.cumsum(self._lengths)]).astype(np.intp)

    @cached_property
    def row(self) -> Whole:
        """(n,) array, row of each value of `data`."""
        return np.repeat(np.arange(len(self.which)), self._lengths)

    @cached_property
    def data(self) -> Observations:
        """Measured values of all rows in one flat table."""
        tables = [s.likelihood.data.aligned(self.noise.endpoints) for s in self.scans]
        first = np.concatenate([[0], np.cumsum([len(t) for t in tables])])
        index = [np.arange(first[w], first[w + 1]) for w in self.which]
        return _joined(tables).take(np.concatenate([np.zeros(0, dtype=np.intp), *index]))

    def log_likelihood(self, predicted: Array) -> Array:
        """Log density of each row's data, (R,); -inf where the model could not be solved."""
        density = self.noise.log_density(predicted, np.zeros(0), self.data).pointwise
        return np.bincount(self.row, density, minlength=len(self.which))

    def by_ratio(self, predicted: Array) -> tuple[Array, Array, Array]:
        """Log density of each row as if logarithms were normal, derivative and information of each value.

        Only to begin a search with: the standard deviation is that at the measured value, and what is censored or not
        positive does not count.
        """
        y = self.data.value
        spread = self.noise.variance(y, np.zeros(0), self.data).value
        logs = np.array([s.kind == "lognormal" for s in self.noise.scatters])[self.data.endpoint]
        with np.errstate(all="ignore"):
            variance = np.where(logs, spread, spread / y**2)
            off = np.log(y / predicted)
            counts = self.data.counted & (self.data.censored == 0) & (y > 0)
            log_l = np.where(counts, -0.5 * off**2 / variance, 0.0)
            slope = np.where(counts, off / (variance * predicted), 0.0)
            known = np.where(counts, 1.0 / (variance * predicted**2), 0.0)
        log_l = np.where(np.isfinite(log_l), log_l, -np.inf)
        sound = np.isfinite(slope) & np.isfinite(known)
        return (
            np.bincount(self.row, log_l, minlength=len(self.which)), np.where(sound, slope, 0.0),
            np.where(sound, known, 0.0),
        )  # fmt: skip

    def curvature(self, predicted: Array) -> tuple[Array, Array]:
        """Derivative of each value's log density by its prediction, and the information it holds of it, (n,) each.

        The information is the expected one, ``1/v + (dv/df)^2/(2 v^2)``, or where that is larger the observed one by
        ln f: a value above its prediction pulls harder than expected, and steps that ignore it overshoot for ever.
        """
        empty = np.zeros(0)
        slope = self.noise.log_density(predicted, empty, self.data).d_prediction
        spread = self.noise.variance(predicted, empty, self.data)
        logs = np.array([s.kind == "lognormal" for s in self.noise.scatters])[self.data.endpoint]
        with np.errstate(all="ignore"):
            plain = 1.0 / spread.value + 0.5 * (spread.d_prediction / spread.value) ** 2
            expected = np.where(logs, 1.0 / (spread.value * predicted**2), plain)
            expected = np.where(self.data.censored != 0, slope**2, expected)
            h = DIFFERENCE * predicted
            ahead, behind = (self.noise.log_density(predicted + d, empty, self.data).d_prediction for d in (h, -h))
            observed = -(ahead - behind) / (2 * h) - slope / predicted
        information = np.where(np.isfinite(observed), np.maximum(expected, observed), expected)
        sound = self.data.counted & np.isfinite(information) & np.isfinite(predicted)
        return slope, np.where(sound, information, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """What the model says of all rows.

    Parameters
    ----------
    value : (n,) array, of every value of `Rows.data`; nan where the model could not be solved
    tangent : (n, k) array, by the population's parameters on the scale of the fit; (n, 0) where not asked for
    tia : (R, regions) array, from zero to infinity; (R, 0) where not asked for [MBq h]
    until_last : (R, regions) array, until the last scan [MBq h]
    """

    value: Array
    tangent: Array
    tia: Array
    until_last: Array


def predict(rows: Rows, x: Array, *, tangents: bool = False, regions: Sequence[str] = ()) -> Predicted:
    """Predict the scans of many rows, and integrals.

    Parameters
    ----------
    rows : R of them
    x : (R, k) array, parameters on the scale of the fit
    tangents : whether derivatives are wanted
    regions : observables whose integrals are wanted
    """
    until = 2 if regions else 0
    found = rows.batch(tuple(regions)).predict(x, rows.which, tangents=tangents, totals=(len(regions), until))
    last, whole = (found.totals[:, :, j] if regions else np.zeros((len(x), 0)) for j in (0, 1))
    return Predicted(found.value, found.tangent, whole, last)


def _member(scans: Scans, regions: Sequence[str]) -> Member:
    """One cycle, with its integrals until the last scan and until nothing is left."""
    totals = tuple(_totals(b, scans.last, regions) for b in scans.likelihood.blocks) if regions else ()
    return Member(scans.likelihood, scans.columns, totals)


def _totals(block: Block, last: float, regions: Sequence[str]) -> Totals:
    """Integrals that a block gives; a regional model has one observable for all regions."""
    model = block.problem.model
    horizon = max(last, block.problem.end) + HALF_LIVES * nuclide(model.nuclide).half_life
    pairs = [(r, j) for j, r in enumerate(regions)]
    if model.scope == "region":
        own = {o.curve.region: list(model.observables)[o.observable] for o in block.observers}
        pairs = [(own[r], j) for r, j in pairs if r in own]
    return Totals(tuple(n for n, _ in pairs), tuple(j for _, j in pairs), (last, horizon) if pairs else ())


def _joined(parts: Sequence[Observations]) -> Observations:
    """Several tables of one numbering of endpoints, one after the other."""
    names = ("value", "time", "shape", "endpoint", "censored", "counted", "occasion")
    arrays: dict[str, Any] = {n: np.concatenate([getattr(p, n) for p in parts]) for n in names}
    return replace(parts[0], **arrays)
