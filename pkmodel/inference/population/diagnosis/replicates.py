"""New measurements of the same subjects at the same times, drawn from a fitted population."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ....errors import FitError
from ....progress import progress
from ..importance import batches

if TYPE_CHECKING:
    from ..result import PopulationFit

Array = NDArray[np.float64]
STREAM = 11  # purpose of a stream of random numbers


@dataclass(frozen=True, slots=True, eq=False)
class Replicates:
    """Simulated measurements.

    Parameters
    ----------
    value : (replicates, n) array, in the order of the data and their unit; nan where a model could not be solved
    failed : subjects, over all replicates, whose model could not be solved [1]
    """

    value: Array
    failed: int

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know."""
        if not self.failed:
            return ()
        return (f"{self.failed} simulated subjects could not be solved and are left out",)


def simulate_again(fit: PopulationFit, replicates: int, *, seed: int = 0, uncertainty: bool = False) -> Replicates:
    """Draw random effects and noise anew for every subject of a fit.

    Parameters
    ----------
    fit : of a population
    replicates : how often [1]
    seed : of the draws [1]
    uncertainty : whether each replicate has parameters of its own, drawn from the uncertainty of the estimates

    Raises
    ------
    FitError
        Uncertainty is asked for and the fit has no covariance.
    """
    if replicates < 1:
        raise FitError(f"{replicates} replicates; give at least one")
    crowd, layout = fit.crowd, fit.crowd.layout
    rng = np.random.default_rng([seed, STREAM])
    if uncertainty and not np.isfinite(fit.covariance).all():
        raise FitError(
            "the fit has no covariance of its estimates, so their uncertainty cannot be simulated; fit with "
            "standard_errors='sandwich', or leave uncertainty=False"
        )
    people, q, n = len(crowd.people), layout.design.shape[1], len(crowd.data)
    parts: list[Array] = []
    with progress("simulated replicates", replicates) as done:
        for count in batches(crowd, replicates):
            drawn = (
                rng.multivariate_normal(fit.phi, fit.covariance, size=count, method="eigh")
                if uncertainty
                else [fit.phi]
            )
            roots = [_root(layout.prior(phi)) for phi in drawn]
            means = [layout.typical(phi) for phi in drawn]
            b = rng.standard_normal((count, people, q))
            x = np.concatenate(
                [means[r % len(means)] + b[r] @ roots[r % len(roots)].T @ layout.design.T for r in range(count)]
            )
            f = crowd.repeated(count).predict(x, tangents=False).value.reshape(count, n)
            noises = [layout.part(phi, "noise") for phi in drawn]
            if uncertainty:
                parts += [crowd.noise.draw(f[r], noises[r], crowd.data, rng)[None] for r in range(count)]
            else:
                parts.append(crowd.noise.draw(f, noises[0], crowd.data, rng))
            done(count)
    value = np.concatenate(parts)
    lost = crowd.sum((~np.isfinite(value)).astype(float).T) > 0
    return Replicates(np.where(np.isfinite(value), value, np.nan), int(lost.sum()))


def _root(covariance: Array) -> Array:
    """A root of a covariance that may have effects of size zero."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
