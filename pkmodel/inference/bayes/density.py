"""`noise.Noise.log_density` as an expression of PyTensor: the same formulae, differentiated by PyTensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..noise import LOG_2PI, Noise
from ..observations import Observations


def log_likelihood(
    prediction: Any, sizes: Mapping[str, Any], measured: Any, noise: Noise, data: Sequence[Observations]
) -> Any:
    """Sum of the log densities of the values that count; -inf where a prediction makes one impossible, never nan.

    Parameters
    ----------
    prediction : (n,) vector, all subjects one after the other
    sizes : free sizes by name
    measured : (n,) vector of the values
    noise : of all endpoints
    data : one a subject, in the order of the predictions
    """
    import pytensor.tensor as pt
    from pymc.distributions.dist_math import normal_lcdf

    ends = np.concatenate([d.aligned(noise.endpoints).endpoint for d in data])
    shape, censored, counted = (np.concatenate([getattr(d, w) for d in data]) for w in ("shape", "censored", "counted"))
    keep = np.flatnonzero(counted)
    ends, shape, censored = ends[keep], shape[keep], censored[keep]
    f, y = (prediction, measured) if len(keep) == len(counted) else (prediction[keep], measured[keep])
    known = pt.stack([*(sizes.get(s.name, s.start) for s in noise.sizes), 0.0])
    which = np.array([[s.additive, s.proportional] for s in noise.scatters], dtype=np.int64)[ends] % (
        len(noise.sizes) + 1
    )
    logs = np.array([s.kind == "lognormal" for s in noise.scatters])[ends]
    additive, proportional = _each(known, which[:, 0]), _each(known, which[:, 1])
    zero = len(noise.sizes)
    variance = 0.0
    if (which[:, 0] != zero).any():
        variance = additive**2 * shape
    if (which[:, 1] != zero).any():
        variance = variance + proportional**2 * (pt.switch(logs, 1.0, f**2) if logs.any() else f**2)
    sound = variance > 0
    centre = f
    if logs.any():
        sound = sound & (~logs | (f > 0))
        centre = pt.switch(logs, pt.log(pt.switch(f > 0, f, 1.0)), f)
        y = pt.switch(logs, pt.log(pt.switch(logs & (y > 0), y, 1.0)), y)
    variance = pt.switch(sound, variance, 1.0)
    u = (y - centre) / pt.sqrt(variance)
    pointwise = -0.5 * (LOG_2PI + pt.log(variance) + u**2)
    if logs.any():
        pointwise = pointwise - pt.switch(logs, y, 0.0)
    cut = np.flatnonzero(censored)
    if cut.size:
        side = np.where(censored[cut] < 0, 1.0, -1.0)
        pointwise = pt.set_subtensor(pointwise[cut], normal_lcdf(0.0, 1.0, side * u[cut]))
    return pt.sum(pt.switch(sound, pointwise, -math.inf))


def _each(known: Any, which: Any) -> Any:
    """One number where all are the same, else one for each value."""
    return known[int(which[0])] if len(set(which.tolist())) == 1 else known[which]
