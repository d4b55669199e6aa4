"""Virtual patients of the published PSMA-617 population: does FOCE-I give back what they were drawn from?

Siebinga et al. 2023, doi:10.1002/psp4.12914, as in `psma_cohort`: a nonlinear model of twelve states, four regions with
five scans each, errors of 10 %.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from psma_cohort import GIVEN, REGIONS, entry, model, patients, population
from synthetic import protocol

import pkmodel as pk
from pkmodel.inference.noise import Noise, Scatter, Size
from pkmodel.units import factor
from support import report

SUBJECTS, ERROR = 20, 0.1


@pytest.mark.slow
def test_the_psma_population_is_recovered() -> None:
    """Typical values within three standard errors; spreads within three of what so few patients can say."""
    people, _ = patients(SUBJECTS, ERROR, seed=1)
    truth = population(ERROR)
    noise = Noise(
        REGIONS,
        tuple(Scatter("normal", -1, i) for i in range(len(REGIONS))),
        tuple(Size(f"proportional[{r}]", 0.2) for r in REGIONS),
    )
    typical = {s.label: float(s.from_scale(t)) for s, t in zip(truth.slots, truth.theta, strict=True)}
    start = {s.label: {"start": 1.3 * typical[s.label] / factor(s.unit)} for s in truth.slots}
    fit = pk.fit_population(
        model(), people, protocol(start), effects=dict.fromkeys(typical, 0.3), noise=noise,
        regimens=pk.Regimen(f"{GIVEN:g} MBq once"),
    )  # fmt: skip
    assert isinstance(fit, pk.PopulationFit) and fit.minimum.converged
    spread = np.sqrt(np.diag(truth.omega) + np.diag(truth.occasion_omega))  # one cycle each: both kinds together
    few = 3 / math.sqrt(2 * (SUBJECTS - 1))  # of an SD estimated from so many
    for k, slot in enumerate(fit.crowd.layout.slots):
        name, error = slot.label, float(fit.standard_errors[k])
        report(f"ln {name}", math.log(typical[name]), float(fit.phi[k]), atol=3 * error)
        known = float(spread[truth.labels.index(name)])
        report(f"SD of ln {name}", known, math.sqrt(entry(fit.omega, name, name)), rtol=few)
    degrees = SUBJECTS * (5 * len(REGIONS) - len(typical)) / len(REGIONS)  # of each region's error
    for name, size in fit.noise.items():
        report(name, ERROR, float(size), rtol=3 / math.sqrt(2 * degrees))
