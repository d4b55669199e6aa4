"""Simulation-based calibration: patients whose truth is known, drawn from the prior, fitted by the posterior.

If sampler, likelihood and gradient are right, the rank of the truth among the draws is uniform and a 95 % interval
holds the truth 95 times in a hundred (Talts et al. 2018, arXiv:1804.06788). The model is compiled once; every patient
is other data for the same machine code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...progress import progress
from ...units import factor
from ..likelihood import Likelihood
from .graph import Route, build
from .priors import noise_priors_of, priors_of
from .sampling import compile_model

type Floats = NDArray[np.float64]

THIN = 4  # draws from one that is kept for a rank to the next: neighbours are correlated
BINS = 20


@dataclass(frozen=True)
class Calibration:
    """Ranks of the truth and intervals, one row a patient, one column a number of the model.

    Parameters
    ----------
    names : of the numbers [text]
    truth, low, high : (patients, names) arrays: truth, ends of the 95 % interval [declared unit]
    ranks : (patients, names) array, draws below the truth, 0 to `draws`
    draws : that were ranked [1]
    """

    names: tuple[str, ...]
    truth: Floats
    low: Floats
    high: Floats
    ranks: NDArray[np.int64]
    draws: int

    @property
    def coverage(self) -> dict[str, float]:
        """Share of the patients whose interval holds the truth, by name [1]."""
        inside = ((self.low <= self.truth) & (self.truth <= self.high)).mean(axis=0)
        return dict(zip(self.names, inside.tolist(), strict=True))

    def chi_square(self) -> dict[str, float]:
        """Probability of ranks at least as uneven, in 20 bins, if they were uniform, by name [1]."""
        from scipy.stats import chisquare

        edges = np.linspace(0, self.draws + 1, min(BINS, max(2, len(self.ranks) // 10)) + 1)
        whole = np.bincount(np.digitize(np.arange(self.draws + 1), edges) - 1)
        out = {}
        for k, name in enumerate(self.names):
            found = np.bincount(np.digitize(self.ranks[:, k], edges) - 1, minlength=whole.size)
            out[name] = float(chisquare(found, whole / whole.sum() * len(self.ranks)).pvalue)
        return out

    def inside_envelope(self, level: float = 0.95, seed: int = 0) -> dict[str, bool]:
        """Whether the distribution function of the ranks stays inside a simultaneous band of uniform ones, by name.

        The band is that of Saeilynoja et al. 2022 (doi:10.1007/s11222-022-10090-6): pointwise binomial intervals,
        widened until `level` of simulated uniform samples stay inside all of them.

        Parameters
        ----------
        level : of the band [1]
        seed : of the simulated samples [1]
        """
        n, size = len(self.ranks), self.draws + 1
        points = np.unique(np.linspace(0, size, min(100, size) + 1)[1:-1].astype(int))
        rng = np.random.default_rng(seed)
        samples = rng.integers(0, size, size=(2000, n))
        worst = np.sort(np.array([_tail(s, points, size) for s in samples]))
        limit = worst[int((1 - level) * len(worst))]
        return {name: bool(_tail(self.ranks[:, k], points, size) >= limit) for k, name in enumerate(self.names)}


def _tail(ranks: NDArray[np.int64], points: NDArray[np.int64], size: int) -> float:
    """Smallest pointwise two-sided probability of the counts below each point."""
    from scipy.stats import binom

    n = len(ranks)
    counts = np.searchsorted(np.sort(ranks), points, side="left")
    low, high = binom.cdf(counts, n, points / size), binom.sf(counts - 1, n, points / size)
    return float(2 * np.minimum(low, high).min())


def calibrate(
    likelihood: Likelihood,
    priors: Mapping[str, Any],
    *,
    patients: int,
    seed: int = 0,
    draws: int = 500,
    tune: int = 500,
    route: Route = "auto",
    compiled: Any = None,
) -> Calibration:
    """Simulate patients from the prior, fit each, and see where the truth lies among the draws.

    Parameters
    ----------
    likelihood : doses, times and noise of every patient; its own values do not matter
    priors : of every parameter and size of the noise, see `priors`
    patients : how many [1]
    seed : of the patients and the draws [1]
    draws, tune : of the one chain of each patient [1]
    route : how predictions are computed, see `graph.predictions_of`
    compiled : from `compiled_for`, where it was compiled before
    """
    import nutpie

    ours, _ = priors_of(likelihood.model, likelihood.slots, priors)
    noise, _ = noise_priors_of(likelihood.noise, priors)
    compiled = compiled or compiled_for(likelihood, priors, route)
    every = {**ours, **noise}
    names = tuple(every)
    k = len(ours)
    kept = len(range(0, draws, THIN))
    rng = np.random.default_rng([seed, 17])
    truth, low, high = (np.empty((patients, len(names))) for _ in range(3))
    ranks = np.empty((patients, len(names)), dtype=np.int64)
    with progress(f"calibrating {patients} patients", patients) as advance:
        for i in range(patients):
            truth[i] = [float(p.quantile(rng.random())) for p in every.values()]
            x = [float(s.to_scale(v * factor(s.unit))) for s, v in zip(likelihood.slots, truth[i, :k], strict=True)]
            f = likelihood.predict(np.array(x), tangents=False).value
            y = likelihood.noise.draw(f, np.log(truth[i, k:]), likelihood.data, rng)
            found = nutpie.sample(
                compiled.with_data(measured=y), draws=draws, tune=tune, chains=1, cores=1, save_warmup=False,
                seed=int(rng.integers(2**31)), progress_bar=False, target_accept=0.9,
            )["posterior"]  # fmt: skip
            for j, name in enumerate(names):
                v = found[name].to_numpy().ravel()
                low[i, j], high[i, j] = np.quantile(v, [0.025, 0.975])
                ranks[i, j] = int((v[::THIN] < truth[i, j]).sum())
            advance(1)
    return Calibration(names, truth, low, high, ranks, kept)


def compiled_for(likelihood: Likelihood, priors: Mapping[str, Any], route: Route = "auto") -> Any:
    """The posterior, compiled for any data of these times."""
    ours, _ = priors_of(likelihood.model, likelihood.slots, priors)
    noise, _ = noise_priors_of(likelihood.noise, priors)
    return compile_model(build(likelihood, ours, noise, route).model)
