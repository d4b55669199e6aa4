"""Integrals and exponentials of linear models, exactly: -C A^-1 x0, as `integrate` has them of a fit."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..dosimetry.integration import _exponentials
from .scans import Scans

Array = NDArray[np.float64]


def exponentials(scans: Scans, x: Array, region: str) -> tuple[Array, Array, Array] | None:
    """Integral (d,), effective rates and shares (d, terms) of one region; None where it has no fixed exponentials.

    Parameters
    ----------
    scans : of a cycle whose doses are a bolus at time zero
    x : (d, k) array, parameters on the scale of the fit
    region : measured, or an observable of a model of the whole body [text]
    """
    model = scans.likelihood.model
    for block in scans.likelihood.blocks:
        own = [o for o in block.observers if o.curve.region == region]
        if not own and (model.scope == "region" or region not in model.observables):
            continue
        problem = block.problem
        doses = problem._doses
        if not problem.compiled.linear or problem.steps.by or any(t or d for t, _, _, d in doses):
            return None
        observable = own[0].observable if own else list(model.observables).index(region)
        n = problem.compiled.compartments
        matrices, reads, starts = np.empty((len(x), n, n)), np.empty((len(x), n)), np.empty((len(x), n))
        for i, row in enumerate(x):
            p = block.parameters(scans.likelihood.values(row[scans.columns]))
            a, _, _ = problem.compiled.matrices(p)
            given = problem.compiled.entries(p)
            start = problem.compiled.initial(p) + sum(amount * given[route] for _, route, amount, _ in doses)
            matrices[i], reads[i], starts[i] = a[:n, :n], a[n + observable, :n], start[:n]
        try:
            tia = -np.einsum("dn,dn->d", reads, np.linalg.solve(matrices, starts[..., None])[..., 0])
        except np.linalg.LinAlgError:
            tia = np.full(len(x), math.nan)
        if not np.all(np.isfinite(tia) & (tia > 0)):
            return None
        return tia, *_exponentials(matrices, reads, starts, tia)
    return None
