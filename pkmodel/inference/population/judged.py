"""What speaks against a population fit, in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .minimise import CLOSED

if TYPE_CHECKING:
    from .result import PopulationFit

SHRUNK = 0.3  # above it, plots of individual parameters mislead (Savic & Karlsson 2009, doi:10.1208/s12248-009-9133-0)
ILL = 1000.0  # condition number above which estimates lean on each other
TIED = 0.95  # correlation of two estimates
VAGUE = 0.5  # relative standard error
FEW = 10  # subjects


def judge(fit: PopulationFit) -> list[str]:
    """Warnings about a fit.

    Parameters
    ----------
    fit : with or without standard errors
    """
    layout, found = fit.crowd.layout, []
    if fit.minimum.interrupted:
        found.append(f"{fit.minimum.message}; go on with start=this fit")
    elif not fit.minimum.converged:
        found.append(f"the search did not converge: {fit.minimum.message}; go on with start=this fit, or other starts")
    at = fit.minimum.at
    if lost := [n for n, ok in zip(fit.subjects, at.found, strict=True) if not ok]:
        found.append(f"the most likely parameters of {_some(lost)} were not found to the last digit")
    if len(fit.subjects) < FEW and len(layout.between.entries):
        many = "1 subject says" if len(fit.subjects) == 1 else f"{len(fit.subjects)} subjects say"
        found.append(f"{many} little about a spread between subjects")
    for of, matrix, what in (
        (layout.varying, layout.omega(fit.phi), "subjects"),
        (layout.switching, layout.occasion_omega(fit.phi), "occasions"),
    ):
        for k, v in zip(of, np.diag(matrix), strict=True):
            if v < CLOSED**2:
                found.append(f"{layout.slots[k].label}: the spread between {what} went to zero; leave the effect out")
    root = layout.omega(fit.phi)
    for i in range(len(root)):
        for j in range(i):
            share = root[i, j] / math.sqrt(root[i, i] * root[j, j])
            if abs(share) > 0.98:
                names = [layout.slots[layout.varying[n]].label for n in (j, i)]
                found.append(f"random effects of {' and '.join(names)} are correlated by {share:.3f}: one is enough")
    shrunk = [f"{n} {100 * s:.0f} %" for n, s in fit.shrinkage.items() if s > SHRUNK]
    if shrunk:
        found.append(f"shrinkage above 30 % ({', '.join(shrunk)}): individual values lean on the population")
    if fit.information is not None:
        found += _uncertain(fit)
    cut = fit.crowd.data.counted & (fit.crowd.data.censored != 0)
    if cut.any() and fit.method in ("foce", "focei"):
        found.append(
            f"{int(cut.sum())} censored values: the linearisation is rough for them; method='laplace' is better"
        )
    return found


def _uncertain(fit: PopulationFit) -> list[str]:
    assert fit.information is not None
    if not np.isfinite(fit.covariance).all():
        return [
            "no standard errors: the curvature at the estimates is not positive definite; fewer effects, other starts, "
            "or more data"
        ]
    found = []
    if fit.information.missing > 0.01:
        found.append(
            f"the objective could still fall by about {fit.information.missing:.2g}; go on with start=this fit"
        )
    if fit.condition_number > ILL:
        found.append(f"condition number {fit.condition_number:.3g} above {ILL:g}: estimates lean on each other")
    c, names = fit.correlation.to_numpy(), fit.crowd.layout.names
    for i in range(len(c)):
        for j in range(i):
            if abs(c[i, j]) > TIED:
                found.append(f"estimates of {names[j]} and {names[i]} are correlated by {c[i, j]:.2f}")
    table = fit.table
    vague = [f"{n} {v:.0f} %" for n, v in table["RSE %"].items() if v > 100 * VAGUE]
    if vague:
        found.append(f"relative standard error above 50 %: {', '.join(vague)}")
    return found


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
