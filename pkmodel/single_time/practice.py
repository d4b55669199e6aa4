"""The methods of daily practice for the same scans, to stand beside the population's answer.

Haenscheid 2018, doi:10.2967/jnumed.117.193706; Madsen 2018, doi:10.1002/mp.12886, with the mean effective half-life of
the population; the half-life of its typical patient; the patient's own half-life from an earlier cycle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data import Curves
from ..dosimetry.practice import LN2, haenscheid, known_half_life, madsen, mono_exponential
from ..errors import DoseError, PkmodelError
from ..formats.curve import MEASURED, Curve
from ..inference.population_file import PopulationModel
from ..model import Model
from ..nuclides import nuclide
from .batch import Rows, predict
from .estimate import loadings
from .scans import bind_scans, noise_of

Array = NDArray[np.float64]
TIMES = (24.0, 48.0, 72.0, 96.0, 168.0)  # [h], of the effective half-life: after uptake, where clinics scan
HAENSCHEID, MADSEN, TYPICAL, PREVIOUS, MONO = (
    "Haenscheid",
    "Madsen",
    "population half-life",
    "own previous half-life",
    "mono-exponential",
)


@dataclass(frozen=True, slots=True)
class HalfLives:
    """Effective half-lives of a population, region -> [h]: of its typical patient, and their mean over patients."""

    typical: Mapping[str, float]
    mean: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Practised:
    """One answer of daily practice: region, method, TIA [MBq h], half-life [h], what to know of it."""

    region: str
    method: str
    tia: float
    half_life: float
    note: str


def half_lives(
    population: PopulationModel,
    model: Model,
    curves: Curves,
    covariates: Mapping[str, float | str] | None = None,
    *,
    patients: int = 200,
    seed: int = 0,
) -> HalfLives:
    """Effective half-lives of a population, by a straight line through the logarithms at `TIMES` after the peak.

    Parameters
    ----------
    population, model : what is known before, and its model
    curves : of the patient: injected activity, and regions
    covariates : of the patient
    patients : drawn for the mean [1]
    seed : of the draws [1]
    """
    grid = np.array(TIMES)
    template = curves.replace(curves=tuple(_on_grid(c, grid) for c in curves if c.kind == "tissue"))
    if not len(template):
        return HalfLives({}, {})
    scans = bind_scans(population, model, template, covariates)
    rng = np.random.default_rng(seed)
    b = loadings(population.omega, population.occasion_omega, 1)[0]
    z = np.vstack([np.zeros(b.shape[1]), rng.standard_normal((patients, b.shape[1]))])
    rows = Rows(population, noise_of(population), (scans,), np.zeros(len(z), dtype=np.intp))
    value = predict(rows, scans.typical + z @ b.T).value.reshape(len(z), len(template), grid.size)
    physical = nuclide(model.nuclide).half_life
    typical, mean = {}, {}
    for j, c in enumerate(template):
        each = np.array([_half_life(grid, v, physical) for v in value[:, j]])
        typical[c.region] = float(each[0])
        mean[c.region] = float(np.nanmean(each[1:])) if np.isfinite(each[1:]).any() else math.nan
    return HalfLives(typical, mean)


def practised(
    curves: Curves, known: HalfLives, previous: Sequence[Curves] = (), *, given: Mapping[str, float] | None = None
) -> list[Practised]:
    """What daily practice makes of the same scans: of several the last one, by methods that take one.

    Parameters
    ----------
    curves : scans of this cycle
    known : half-lives of the population
    previous : earlier cycles; the last one with two scans or more of a region gives its own half-life
    given : region -> effective half-life for Madsen's method, in place of the population's mean [h]
    """
    out: list[Practised] = []
    for c in curves:
        if c.kind != "tissue" or not len(c):
            continue
        t, activity = _measured(c)
        if not len(t):
            continue
        methods = [(HAENSCHEID, math.nan), (MADSEN, (given or {}).get(c.region, known.mean.get(c.region, math.nan)))]
        methods += [(TYPICAL, known.typical.get(c.region, math.nan)), (PREVIOUS, _previous(c, previous))]
        for name, half_life in methods:
            if name == PREVIOUS and math.isnan(half_life):
                continue
            out.append(_one(c, name, float(t[-1]), float(activity[-1]), half_life))
        if len(t) > 1:
            try:
                found = mono_exponential(t, activity, c.nuclide)
                out.append(Practised(c.region, MONO, found.value, found.effective_half_life, f"{len(t)} scans"))
            except DoseError as error:
                out.append(Practised(c.region, MONO, math.nan, math.nan, str(error)))
    return out


def _one(curve: Curve, name: str, t: float, activity: float, half_life: float) -> Practised:
    try:
        if name == HAENSCHEID:
            found = haenscheid(t, activity)
        elif name == MADSEN:
            found = madsen(t, activity, half_life, curve.nuclide)
        else:
            found = known_half_life(t, activity, half_life, curve.nuclide)
    except DoseError as error:
        return Practised(curve.region, name, math.nan, half_life, str(error))
    return Practised(curve.region, name, found.value, half_life, f"scan at {t:.4g} h")


def _measured(curve: Curve) -> tuple[Array, Array]:
    """Times and activities that were measured, not decay-corrected [h, MBq]; none where they cannot be had."""
    try:
        plain = curve.to_unit("MBq").decay_uncorrect()
    except PkmodelError:
        return np.zeros(0), np.zeros(0)
    there = (plain.censored == MEASURED) & (plain.t > 0)
    order = np.argsort(plain.t[there])
    return plain.t[there][order], plain.value[there][order]


def _previous(curve: Curve, previous: Sequence[Curves]) -> float:
    """Effective half-life of this region in the last earlier cycle that shows one [h], nan without."""
    for cycle in reversed(previous):
        if curve.region in cycle:
            t, activity = _measured(cycle[curve.region])
            found = _half_life(t, activity, nuclide(curve.nuclide).half_life)
            if math.isfinite(found):
                return found
    return math.nan


def _half_life(t: Array, activity: Array, physical: float) -> float:
    """By a straight line through the logarithms from the largest value on; never above the physical half-life [h]."""
    if len(t) < 2 or not np.all(np.isfinite(activity)):
        return math.nan
    peak = min(int(np.argmax(activity)), len(t) - 2)
    late = activity[peak:] > 0
    if late.sum() < 2:
        return math.nan
    rate = -float(np.polyfit(t[peak:][late], np.log(activity[peak:][late]), 1)[0])
    return min(LN2 / rate, physical) if rate > 0 else physical


def _on_grid(curve: Curve, grid: Array) -> Curve:
    """The curve's region at other times, as activity without values."""
    n = len(grid)
    nothing, one = np.full(n, np.nan), np.ones(n)
    return curve.replace(
        t_start=grid, t_end=grid, value=one, sd=nothing, weights=nothing, n=np.ones(n, dtype=np.int64),
        volume=np.full(n, float(curve.volume[0]) if len(curve.volume) else np.nan),
        censored=np.zeros(n, dtype=np.int8), rows=(), unit="MBq", decay_corrected=False,
    )  # fmt: skip
