"""The groups of ArviZ that follow from draws: likelihood of each value, predictive draws, priors and the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...units import factor
from ..likelihood import Likelihood
from ..slots import Slot
from .backends import evaluate
from .kernels import People
from .priors import Prior

type Floats = NDArray[np.float64]

PREDICTIVE, PRIOR = 11, 12  # purposes of streams of random numbers
POINTS = "point"


def to_scale(slots: tuple[Slot, ...], posterior: Any) -> Floats:
    """Draws on the scale of the fit, (chain, draw, k).

    Parameters
    ----------
    slots : free parameters
    posterior : Dataset with a variable for each, in declared units
    """
    columns = [
        np.asarray(s.to_scale(posterior[s.label].transpose("chain", "draw").to_numpy() * factor(s.unit)), dtype=float)
        for s in slots
    ]
    return np.stack(columns, axis=-1)


def fill(tree: Any, likelihood: Likelihood, priors: Mapping[str, Prior], noise: Mapping[str, Prior], seed: int) -> Any:
    """Add log_likelihood, log_prior, posterior_predictive, prior and observed_data to a tree of draws.

    Parameters
    ----------
    tree : DataTree with the group posterior
    likelihood : of the subject
    priors, noise : of parameters by label and of sizes of the noise by name
    seed : of predictive draws [1]
    """
    import xarray as xr

    posterior, data = tree["posterior"].to_dataset(), likelihood.data
    X = to_scale(likelihood.slots, posterior)
    chains, draws, k = X.shape
    values = evaluate(People([likelihood]), X.reshape(-1, 1, k))
    names = likelihood.noise.names
    sizes = [posterior[n].transpose("chain", "draw").to_numpy().ravel() for n in names]
    z = np.log(np.stack(sizes, axis=1)) if names else np.zeros((chains * draws, 0))
    rng = np.random.default_rng([seed, PREDICTIVE])
    scores, seen = np.empty_like(values), np.empty_like(values)
    with np.errstate(all="ignore"):
        for d, f in enumerate(values):
            scores[d] = likelihood.noise.log_density(f, z[d], data).pointwise
            seen[d] = likelihood.noise.draw(f, z[d], data, rng)
    counted = np.flatnonzero(data.counted)
    coords = {
        "chain": posterior["chain"].to_numpy(),
        "draw": posterior["draw"].to_numpy(),
        "region": (POINTS, np.array(data.endpoints)[data.endpoint]),
        "time_h": (POINTS, data.time),
    }
    grid = ("chain", "draw", POINTS)

    def table(values: Floats, rows: NDArray[np.intp] | slice = slice(None)) -> Any:
        made = xr.Dataset({"measured": (grid, values.reshape(chains, draws, -1))}, coords)
        return made.isel({POINTS: rows})

    tree["log_likelihood"] = table(scores, counted)
    tree["posterior_predictive"] = table(seen).assign(predicted=(grid, values.reshape(chains, draws, -1)))
    tree["observed_data"] = xr.Dataset(
        {"measured": (POINTS, data.value), "censored": (POINTS, data.censored)},
        {n: coords[n] for n in ("region", "time_h")},
    )
    every = {**priors, **noise}
    tree["log_prior"] = xr.Dataset(
        {
            n: (("chain", "draw"), p.log_density(posterior[n].transpose("chain", "draw").to_numpy()))
            for n, p in every.items()
        },
        {n: coords[n] for n in ("chain", "draw")},
    )
    stream = np.random.default_rng([seed, PRIOR])
    tree["prior"] = xr.Dataset(
        {n: (("chain", "draw"), p.quantile(stream.random((1, 1000)))) for n, p in every.items()},
        {"chain": [0], "draw": np.arange(1000)},
    )
    return tree


def plain(tree: Any) -> Any:
    """A copy that NetCDF can hold: without attributes of objects, flags as numbers."""
    out = tree.copy()
    out.attrs = {k: v for k, v in tree.attrs.items() if isinstance(v, str | int | float)}
    for name in list(out.children):
        data = out[name].to_dataset()
        data.attrs = {}
        out[name] = data.map(lambda v: v.astype("int8") if v.dtype == bool else v)
    return out
