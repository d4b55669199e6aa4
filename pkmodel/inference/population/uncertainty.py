"""Uncertainty of population parameters: R (curvature), S (products of slopes), and the sandwich of both.

R is half the curvature of the objective at the estimates, S the sum over subjects of products of half slopes; the
covariance of the estimates is R^-1, S^-1 or R^-1 S R^-1 (White 1982, doi:10.2307/1912526; NONMEM's default is the
last).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...progress import progress
from .crowd import Crowd
from .linearised import Approximation, objective

Array = NDArray[np.float64]
Matrix = Literal["sandwich", "r", "s"]
STEP = 3e-3  # of the differences of exact slopes
SINGULAR = 1e-14  # smallest over largest eigenvalue below which a matrix has no inverse in double precision


@dataclass(frozen=True, slots=True, eq=False)
class Information:
    """What the data say of the parameters, on the scale of the fit.

    Parameters
    ----------
    r, s : (p, p) arrays
    slope : (p,) array, of half the objective
    """

    r: Array
    s: Array
    slope: Array

    @property
    def definite(self) -> bool:
        """Whether R is positive definite, so that the estimates are a minimum."""
        if not np.isfinite(self.r).all():
            return False
        sizes = np.linalg.eigvalsh(self.r)
        return bool(sizes[0] > SINGULAR * sizes[-1])

    @property
    def missing(self) -> float:
        """How far the objective still is above its minimum, as R sees it."""
        return float(self.slope @ np.linalg.solve(self.r, self.slope)) if self.definite else float("nan")

    def covariance(self, matrix: Matrix = "sandwich") -> Array:
        """Covariance of the estimates; nan where it does not exist."""
        nothing = np.full_like(self.r, np.nan)
        if matrix == "s":
            return _inverse(self.s)
        if not self.definite:
            return nothing
        inverse = np.linalg.inv(self.r)
        return inverse if matrix == "r" else inverse @ self.s @ inverse


def information(crowd: Crowd, phi: Array, modes: Array, kind: Approximation) -> Information:
    """R and S by differences of exact gradients.

    Parameters
    ----------
    crowd : subjects
    phi : (p,) estimates
    modes : (people, q) array, where the search of the modes begins
    kind : approximation [text]
    """
    at = objective(crowd, phi, modes, kind=kind)
    p = phi.size
    r = np.zeros((p, p))
    with progress("standard errors: parameters", p) as done:
        for j in range(p):
            step = np.zeros(p)
            step[j] = STEP
            up, down = (objective(crowd, phi + s * step, at.b, kind=kind).gradient.sum(axis=0) for s in (1, -1))
            r[:, j] = 0.5 * (up - down) / (2 * STEP)
            done(1)
    half = 0.5 * at.gradient
    return Information(0.5 * (r + r.T), half.T @ half, half.sum(axis=0))


def _inverse(matrix: Array) -> Array:
    sizes = np.linalg.eigvalsh(matrix) if np.isfinite(matrix).all() else np.array([-1.0])
    return np.linalg.inv(matrix) if sizes[0] > SINGULAR * abs(sizes[-1]) else np.full_like(matrix, np.nan)
