"""Draws of one patient's parameters given the scans, and given how well the population itself is known.

Draws are proposed from Student's t about the most probable effects, of the width that the curvature there says
(Laplace), and weighted by how probable they are (importance sampling, Kong, Liu & Wong 1994 for the effective number of
draws, doi:10.1080/01621459.1994.10476469); then they are drawn again by their weights. Where the population's own
numbers are uncertain, each draw has a population of its own, and the proposal moves with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from ..inference.population_file import PopulationModel
from .batch import Rows, predict
from .estimate import Modes, Person, loadings
from .scans import noise_of

Array = NDArray[np.float64]
FREEDOM = 6.0  # of Student's t: heavier tails than what is sampled
SURPLUS = 4  # draws weighted for each that is kept


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Equally probable draws of one patient.

    Parameters
    ----------
    x : (d, k) array, parameters of the last cycle on the scale of the fit
    subject : (d, k) array, the same without what belongs to that cycle alone
    tia, until_last : (d, regions) arrays [MBq h]
    effective : effective number of independent draws behind them [1]
    failed : share of the proposed draws whose model could not be solved [1]
    """

    x: Array
    subject: Array
    tia: Array
    until_last: Array
    effective: float
    failed: float


def populations_of(population: PopulationModel, count: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Draws of theta, omega and occasion omega; theta varies within its uncertainty where no draws are known.

    Where neither is known, `count` copies of the estimates.
    """
    known = population.draws
    if known is not None:
        pick = rng.integers(len(known.theta), size=count)
        return known.theta[pick], known.omega[pick], known.occasion_omega[pick]
    k = len(population.theta)
    theta = np.repeat(population.theta[None], count, axis=0)
    covariance = population.theta_covariance
    if np.isfinite(covariance).all():
        value, vector = np.linalg.eigh(covariance)
        theta = theta + rng.standard_normal((count, k)) @ (vector * np.sqrt(np.maximum(value, 0.0))).T
    copies = (count, k, k)
    return theta, np.broadcast_to(population.omega, copies), np.broadcast_to(population.occasion_omega, copies)


def is_uncertain(population: PopulationModel) -> bool:
    """Whether the population's own numbers come with their uncertainty."""
    covariance = population.theta_covariance
    return population.draws is not None or bool(np.isfinite(covariance).all() and np.any(covariance))


def sample(
    population: PopulationModel,
    person: Person,
    modes: Modes,
    *,
    draws: int,
    regions: Sequence[str],
    rng: np.random.Generator,
    weighted: bool = True,
    uncertain: bool = True,
    at: int = 0,
) -> Draws:
    """Draw one patient's parameters and integrals.

    Parameters
    ----------
    population : what was known before
    person : the patient
    modes : its most probable effects, number `at` among them
    draws : how many are kept [1]
    regions : observables to integrate [text]
    rng : NumPy random generator
    weighted : importance sampling; else a normal distribution at the mode (Laplace)
    uncertain : let the population vary within its own uncertainty, where that is known
    """
    count = draws * SURPLUS if weighted else draws
    c, k = modes.x.shape[1:]
    if uncertain and is_uncertain(population):
        theta, omega, occasion = populations_of(population, count, rng)
    else:
        theta, omega, occasion = populations_of(
            population.replace(draws=None, theta_covariance=np.zeros((k, k))), count, rng
        )
    shift = np.stack([s.typical for s in person.cycles]) - population.theta  # (C, k), of covariates
    mean = theta[:, None, :] + shift  # (count, C, k)
    same = omega.strides[0] == 0
    first = loadings(omega[0], occasion[0], c)
    b = np.broadcast_to(first, (count, *first.shape)) if same else np.stack(
        [loadings(o, w, c) for o, w in zip(omega, occasion, strict=True)]
    )  # fmt: skip
    z, log_q = _propose(b, mean, modes, at, weighted, rng)
    x = mean + np.einsum("dckq,dq->dck", b, z)
    log_p = -0.5 * (z**2).sum(axis=1) - 0.5 * z.shape[1] * math.log(2 * math.pi)
    tia, until_last = np.empty((count, len(regions))), np.empty((count, len(regions)))
    noise = noise_of(population)
    for cycle, scans in enumerate(person.cycles):
        rows = Rows(population, noise, (scans,), np.zeros(count, dtype=np.intp))
        new = cycle == c - 1
        if not (weighted or new):
            continue
        found = predict(rows, np.ascontiguousarray(x[:, cycle]), regions=regions if new else ())
        log_p += rows.log_likelihood(found.value)
        if new:
            tia, until_last = found.tia, found.until_last
    sound = np.isfinite(tia).all(axis=1) & np.isfinite(log_p)
    weight = np.where(sound, 1.0, 0.0)
    if weighted:
        ratio = np.where(sound, log_p - log_q, -np.inf)
        weight = np.exp(ratio - ratio.max()) if sound.any() else weight
    if not sound.any():
        nothing = np.full((draws, len(regions)), np.nan)
        return Draws(x[:draws, -1], x[:draws, -1], nothing, nothing, 0.0, 1.0)
    weight = weight / weight.sum()
    kept = _again(weight, draws, rng)
    v = int(np.sum(np.diag(omega[0]) > 0))
    own = mean[:, -1] + np.einsum("dkq,dq->dk", b[:, -1, :, :v], z[:, :v])
    return Draws(
        x[kept, -1], own[kept], tia[kept], until_last[kept], float(1.0 / np.sum(weight**2)), float(1.0 - sound.mean())
    )


def _propose(
    b: Array, mean: Array, modes: Modes, at: int, weighted: bool, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Standardised effects about the mode of each population, and the log density they were drawn with.

    Near the most probable parameters the log likelihood is quadratic, so the mode under another population is one
    linear step away.
    """
    count, _, _, q = b.shape
    x, score, information = modes.x[at], modes.score[at], modes.information[at]
    pull = score[None] + np.einsum("ckl,dcl->dck", information, x[None] - mean)
    precision = np.eye(q) + np.einsum("dckq,ckl,dclr->dqr", b, information, b)
    centre = np.linalg.solve(precision, np.einsum("dckq,dck->dq", b, pull)[..., None])[..., 0]
    root = np.linalg.cholesky(precision)  # precision = R R', so R'^-1 e has covariance precision^-1
    e = rng.standard_normal((count, q))
    chi = np.ones(count)
    if weighted:
        chi = np.sqrt(rng.chisquare(FREEDOM, count) / FREEDOM)
    step = np.linalg.solve(np.swapaxes(root, 1, 2), (e / chi[:, None])[..., None])[..., 0]
    half_log_det = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    square = ((e / chi[:, None]) ** 2).sum(axis=1)
    if weighted:
        constant = gammaln((FREEDOM + q) / 2) - gammaln(FREEDOM / 2) - q / 2 * math.log(FREEDOM * math.pi)
        log_q = constant + half_log_det - (FREEDOM + q) / 2 * np.log1p(square / FREEDOM)
    else:
        log_q = -0.5 * square - q / 2 * math.log(2 * math.pi) + half_log_det
    return centre + step, log_q


def _again(weight: Array, draws: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Numbers of draws by their weights, systematically: as even as the weights allow."""
    edges = np.cumsum(weight)
    where = (rng.random() + np.arange(draws)) / draws
    return rng.permutation(np.minimum(np.searchsorted(edges, where), len(weight) - 1)).astype(np.intp)
