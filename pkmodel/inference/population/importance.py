"""-2 log L of a population by importance sampling: exact but for Monte Carlo error, which is given.

Each subject's random effects are drawn from a t distribution about its mode, as wide as its conditional covariance, and
weighed by data times prior over that density (Kuhn & Lavielle 2005, doi:10.1016/j.csda.2004.07.002).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from ...progress import progress
from .crowd import Crowd
from .linearised import Objective

Array = NDArray[np.float64]
FREEDOM = 5.0  # of the t distribution
WIDER = 1.1  # than the conditional covariance, so that weights stay bounded
TOGETHER = 4000  # subjects times draws in one call
STREAM = 7  # purpose of a stream of random numbers
LOG_2PI = math.log(2 * math.pi)


def marginal_likelihood(
    crowd: Crowd, phi: Array, at: Objective, *, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """-2 log L with all constants, and its standard error.

    Parameters
    ----------
    crowd : subjects
    phi : (p,) population parameters
    at : modes and conditional covariances
    draws : per subject [1]
    seed : of the draws [1]
    """
    rng = np.random.default_rng([seed, STREAM])
    parts = []
    with progress("likelihood: draws", draws) as done:
        for n in batches(crowd, draws):
            b, log_q = propose(at, rng, n)
            parts.append(log_joint(crowd, phi, b) - log_q)
            done(n)
    weights = np.concatenate(parts)
    each = logsumexp(weights, axis=0) - math.log(draws)
    with np.errstate(under="ignore"):
        relative = np.exp(weights - weights.max(axis=0))
        variance = relative.var(axis=0) / draws / relative.mean(axis=0) ** 2  # of each logarithm
    return float(-2 * each.sum()), float(2 * np.sqrt(variance.sum()))


def batches(crowd: Crowd, draws: int) -> list[int]:
    """How many draws to take at once, so that one call answers for some thousand subjects."""
    most = max(1, TOGETHER // len(crowd.people))
    full, rest = divmod(draws, most)
    return [most] * full + ([rest] if rest else [])


def propose(at: Objective, rng: np.random.Generator, draws: int) -> tuple[Array, Array]:
    """Draws of everybody's effects (draws, people, q) from a t about the modes; log densities (draws, people)."""
    people, q = at.b.shape
    roots = np.linalg.cholesky(WIDER**2 * at.spread)
    normal = rng.standard_normal((draws, people, q))
    scale = rng.chisquare(FREEDOM, (draws, people)) / FREEDOM
    b = at.b + np.einsum("pij,npj->npi", roots, normal / np.sqrt(scale)[..., None])
    return b, proposal_density(at, b)


def proposal_density(at: Objective, b: Array) -> Array:
    """Log density of the t about the modes, (draws, people), at effects (draws, people, q)."""
    q = b.shape[-1]
    roots = np.linalg.cholesky(WIDER**2 * at.spread)
    distance = (np.einsum("pij,npj->npi", np.linalg.inv(roots), b - at.b) ** 2).sum(axis=-1)
    size = np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(axis=1)
    constant = gammaln(0.5 * (FREEDOM + q)) - gammaln(0.5 * FREEDOM) - 0.5 * q * math.log(FREEDOM * math.pi)
    return np.asarray(constant - 0.5 * (FREEDOM + q) * np.log1p(distance / FREEDOM) - size)


def log_joint(crowd: Crowd, phi: Array, b: Array) -> Array:
    """Log density of each subject's data and random effects (draws, people, q): (draws, people)."""
    prior = crowd.layout.prior(phi)
    many = crowd.repeated(len(b))
    flat = b.reshape(-1, b.shape[-1])
    x = many.layout.typical(phi) + flat @ many.layout.design.T
    quadratic = np.einsum("npi,ij,npj->np", b, np.linalg.inv(prior), b)
    constant = np.linalg.slogdet(prior)[1] + b.shape[-1] * LOG_2PI
    return np.asarray(log_data(many, phi, x).reshape(len(b), -1) - 0.5 * (quadratic + constant))


def log_data(crowd: Crowd, phi: Array, x: Array) -> Array:
    """Log density of each subject's data at its parameters, (people,)."""
    answer = crowd.predict(x, tangents=False)
    density = crowd.noise.log_density(answer.value, crowd.layout.part(phi, "noise"), crowd.data)
    return crowd.sum(density.pointwise)
