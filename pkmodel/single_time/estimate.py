"""The most probable parameters of many patients at once, and how well the scans determine them.

Effects are written ``B z`` with z standard normal before any scan: first those of the subject, then those of each
cycle, so that what earlier cycles say of the subject carries over and what belongs to one cycle does not. The most
probable z minimises ``z'z/2 - log likelihood`` by Gauss-Newton steps with the expected information (as FOCE with
interaction does, Lindstrom & Bates 1990, doi:10.2307/2532087) from exact tangents, damped until the sum falls. It
begins with ratios of measured to predicted values in place of differences: an error relative to the prediction makes
the sum flat far above the data, where a first step from the typical patient may end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..inference.noise import Noise
from ..inference.population_file import PopulationModel
from .batch import Rows, predict
from .scans import Scans, noise_of

Array = NDArray[np.float64]
Whole = NDArray[np.intp]
FIRST_STEPS, MOST_STEPS = 15, 60
LONGEST = 2.0  # step, in standard deviations of the population
SMALL = 1e-6  # squared length, in standard deviations of what is left open, of the step at which it ends
ROUNDING = 1e-9  # relative, of the sum that falls: what the solver's tolerance leaves in it


@dataclass(frozen=True, eq=False)
class Person:
    """One patient: cycles in order, the last is the one asked about."""

    cycles: tuple[Scans, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Modes:
    """Most probable effects of N patients with the same number of cycles C.

    Parameters
    ----------
    z : (N, q) array, standardised effects
    precision : (N, q, q) array, of z given the scans
    x : (N, C, k) array, parameters of each cycle on the scale of the fit
    score : (N, C, k) array, derivative of the log likelihood at x
    information : (N, C, k, k) array, what each cycle's scans hold of x
    converged : (N,) array of bool
    """

    z: Array
    precision: Array
    x: Array
    score: Array
    information: Array
    converged: NDArray[np.bool_]


def loadings(omega: Array, occasion_omega: Array, cycles: int) -> Array:
    """Matrices B that turn standardised effects into parameters: (cycles, k, q)."""
    between, within = np.flatnonzero(np.diag(omega) > 0), np.flatnonzero(np.diag(occasion_omega) > 0)
    v, w, k = len(between), len(within), len(omega)
    b = np.zeros((cycles, k, v + w * cycles))
    if v:
        b[:, between, :v] = np.linalg.cholesky(omega[np.ix_(between, between)])
    for c in range(cycles if w else 0):
        at = slice(v + c * w, v + (c + 1) * w)
        b[c, within, at] += np.linalg.cholesky(occasion_omega[np.ix_(within, within)])
    return b


def rows_of(population: PopulationModel, people: Sequence[Person]) -> Rows:
    """Every cycle of every patient, one after the other."""
    scans = tuple(s for p in people for s in p.cycles)
    return Rows(population, noise_of(population), scans, np.arange(len(scans)))


def most_probable(population: PopulationModel, people: Sequence[Person]) -> Modes:
    """Most probable effects of some patients.

    Parameters
    ----------
    population : what is known before
    people : with the same number of cycles each
    """
    b = loadings(population.omega, population.occasion_omega, len(people[0].cycles))
    every = tuple(s for p in people for s in p.cycles)
    search = _Search(
        population, every, noise_of(population), b, np.stack([[s.typical for s in p.cycles] for p in people])
    )
    start = np.zeros((len(people), b.shape[2]))
    near, _, _ = search.run(start, FIRST_STEPS, by_ratio=True)
    fair, own = search.at(near, np.arange(len(people)))[0], search.at(start, np.arange(len(people)))[0]
    z, found, converged = search.run(np.where((fair < own)[:, None], near, start), MOST_STEPS, by_ratio=False)
    _, x, score, information = found
    precision = np.eye(b.shape[2]) + np.einsum("ckq,nckl,clr->nqr", b, information, b)
    return Modes(z, precision, x, score, information, converged)


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """What is minimised for each patient, and how."""

    population: PopulationModel
    scans: tuple[Scans, ...]  # of all patients, one after the other
    noise: Noise
    b: Array  # (C, k, q)
    typical: Array  # (N, C, k)

    def at(self, z: Array, who: Whole, by_ratio: bool = False) -> tuple[Array, Array, Array, Array]:
        """Objective, x, score and information of some patients."""
        c, k = self.b.shape[:2]
        x = self.typical[who] + np.einsum("ckq,nq->nck", self.b, z)
        rows = Rows(self.population, self.noise, self.scans, (who[:, None] * c + np.arange(c)).ravel())
        found = predict(rows, x.reshape(-1, k), tangents=True)
        if by_ratio:
            log_l, slope, known = rows.by_ratio(found.value)
        else:
            log_l, (slope, known) = rows.log_likelihood(found.value), rows.curvature(found.value)
        score, information = np.zeros((len(rows.which), k)), np.zeros((len(rows.which), k, k))
        np.add.at(score, rows.row, found.tangent * slope[:, None])
        np.add.at(information, rows.row, known[:, None, None] * found.tangent[:, :, None] * found.tangent[:, None, :])
        objective = 0.5 * (z**2).sum(axis=1) - log_l.reshape(-1, c).sum(axis=1)
        return objective, x, score.reshape(-1, c, k), information.reshape(-1, c, k, k)

    def run(
        self, z: Array, most: int, by_ratio: bool
    ) -> tuple[Array, tuple[Array, Array, Array, Array], NDArray[np.bool_]]:
        """Damped Gauss-Newton steps of all patients at once: z, what `at` gives there, and who converged."""
        n, q = z.shape
        z = z.copy()
        now = self.at(z, np.arange(n), by_ratio)
        damping, converged, active = np.full(n, 1e-3), np.zeros(n, dtype=bool), np.isfinite(now[0])
        for _ in range(most):
            who = np.flatnonzero(active & ~converged)
            if not len(who):
                break
            gradient = z[who] - np.einsum("ckq,nck->nq", self.b, now[2][who])
            hessian = np.eye(q) + np.einsum("ckq,nckl,clr->nqr", self.b, now[3][who], self.b)
            newton = np.linalg.solve(hessian, gradient[..., None])[..., 0]
            left = np.einsum("nq,nq->n", gradient, newton)
            step = -np.linalg.solve(hessian * (1.0 + damping[who, None, None] * np.eye(q)), gradient[..., None])[..., 0]
            step *= np.minimum(1.0, LONGEST / np.maximum(np.abs(step).max(axis=1), 1e-300))[:, None]
            tried = self.at(z[who] + step, who, by_ratio)
            with np.errstate(invalid="ignore"):
                better = tried[0] <= now[0][who] + ROUNDING * (1.0 + np.abs(now[0][who]))
            good = who[better]
            z[good] += step[better]
            for array, new in zip(now, tried, strict=True):
                array[good] = new[better]
            damping[who] = np.where(better, np.maximum(damping[who] * 0.1, 1e-12), damping[who] * 10.0)
            converged[who] |= left < SMALL
            active[who] &= damping[who] < 1e12
        return z, now, converged
