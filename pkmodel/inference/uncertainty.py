"""Errors of the estimates from the Jacobian: covariance, draws, and what is held because no datum informs it.

Near the best fit the predictions are taken as straight in the parameters on the scale of the fit; for a linear model
that is exact. A parameter that even a factor of a thousand hardly shows in the data has no error of that kind: it is
held at its estimate, so that it does not spoil the errors of the others, and its own is unknown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .least_squares import Optimum

Array = NDArray[np.float64]
DRAWS = 2  # purpose of a stream of random numbers (see `least_squares.STARTS`)
UNSEEN = math.log(1000.0)  # a change on the scale of the fit


@dataclass(frozen=True, slots=True)
class Spread:
    """Uncertainty of one group: covariance = root @ root.T."""

    root: Array  # (k, r)
    held: NDArray[np.bool_]  # (k,) not informed by any datum: no spread

    @property
    def covariance(self) -> Array:
        """Covariance on the scale of the fit, (k, k); zero for what is held, nan where no error can be estimated."""
        return self.root @ self.root.T


def spread_of(optimum: Optimum, scale: float) -> Spread:
    """Uncertainty of a group by singular values, which stays accurate where J'J would not.

    Parameters
    ----------
    optimum : the best fit of the group
    scale : variance of a standardised residual [1], nan where it cannot be estimated
    """
    jacobian = optimum.jacobian
    norms = np.linalg.norm(jacobian, axis=0)
    noise = math.sqrt(scale) if scale > 0 else 0.0
    held = norms * UNSEEN <= noise
    held |= norms <= 1e-14 * norms.max(initial=0.0)
    seen = np.flatnonzero(~held)
    root = np.zeros((norms.size, seen.size))
    if seen.size:
        _, s, vt = np.linalg.svd(jacobian[:, seen] / norms[seen], full_matrices=False)
        # directions that the rounding of the solver decides get a large error, not an infinite one
        root[seen] = (vt.T / np.maximum(s, 1e-10 * s.max())) / norms[seen][:, None]
    return Spread(root * math.sqrt(scale) if scale >= 0 else np.full_like(root, math.nan), held)


def draw(spreads: list[Spread], freedoms: list[int], *, pooled: bool, n: int, seed: int) -> Array:
    """Deviations from the estimates, (n, k), all groups side by side.

    Normal where the size of the error is known (freedom 0), else Student's t with the freedom behind each group's
    error; groups whose error was pooled share one draw of its size.

    Parameters
    ----------
    spreads, freedoms : one per group
    pooled : whether all groups share one error estimate
    n : draws [1]
    seed : of the random numbers [1]
    """
    rng = np.random.default_rng([seed, DRAWS])
    parts = []
    stretch = np.ones((n, 1))
    for k, (spread, freedom) in enumerate(zip(spreads, freedoms, strict=True)):
        if freedom > 0 and (k == 0 or not pooled):
            stretch = np.sqrt(freedom / rng.chisquare(freedom, size=(n, 1)))
        parts.append(stretch * rng.standard_normal((n, spread.root.shape[1])) @ spread.root.T)
    return np.concatenate(parts, axis=1)
