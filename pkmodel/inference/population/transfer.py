"""A population fit as a `PopulationModel`: what is kept, saved, and applied to new subjects."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..population_file import PopulationModel, held
from ..population_parts import CovariateEffect, EndpointNoise

if TYPE_CHECKING:
    from .result import PopulationFit


def population_of(fit: PopulationFit, source: str = "") -> PopulationModel:
    """What a fit learned.

    Parameters
    ----------
    fit : of a population
    source : where the data come from [text]
    """
    layout = fit.crowd.layout
    k = len(layout.slots)
    omega, cycles = np.zeros((k, k)), np.zeros((k, k))
    omega[np.ix_(layout.varying, layout.varying)] = layout.omega(fit.phi)
    cycles[np.ix_(layout.switching, layout.switching)] = layout.occasion_omega(fit.phi)
    at = layout.parts["theta"]
    own = {c for person in fit.crowd.people for known in person.covariates for c in known}
    # a covariate that is a parameter of the model belongs to one subject, not to the population
    fixed = {n: v for n, v in held(fit.model, [s.parameter for s in layout.slots]).items() if n not in own}
    effects = []
    free = layout.part(fit.phi, "coefficients")
    for s in layout.shifts:
        r = s.relation
        coefficient = float(free[s.coefficient]) if s.coefficient >= 0 else r.coefficient
        for label in dict.fromkeys(layout.slots[p].label for p in layout.of[s.columns]):
            effects.append(
                CovariateEffect(
                    parameter=label, covariate=r.covariate, kind=r.kind, coefficient=coefficient,
                    reference=r.reference, unit=r.unit, level=r.level,
                )
            )  # fmt: skip
    sizes = list(fit.noise.values())
    noise = {}
    for endpoint, unit, scatter in zip(
        fit.crowd.data.endpoints, fit.crowd.data.units, fit.crowd.noise.scatters, strict=True
    ):
        additive = sizes[scatter.additive] if scatter.additive >= 0 else 0.0
        noise[endpoint] = EndpointNoise(
            kind=scatter.kind, additive=additive, unit=unit if additive else "",
            proportional=sizes[scatter.proportional] if scatter.proportional >= 0 else 0.0,
        )  # fmt: skip
    return PopulationModel(
        model=fit.model.name,
        digest=fit.model.digest,
        nuclide=fit.model.nuclide,
        slots=tuple(replace(s, occasion="") for s in layout.slots),
        theta=layout.part(fit.phi, "theta"),
        theta_covariance=fit.covariance[at, at],
        omega=omega,
        occasion_omega=cycles,
        noise=noise,
        fixed=fixed,
        covariates=tuple(effects),
        subjects=len(fit.subjects),
        source=source,
        method=fit.method,
    )
