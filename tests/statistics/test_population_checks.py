"""Checks of population fits hold their level on data sets from the model itself, and see a wrong one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from line_population import BASIS, MEAN, T, covariance, fitted, lines, moved, truth
from population_models import samples

from pkmodel.data import Curves
from pkmodel.inference.population.result import PopulationFit
from support import report

DATA_SETS = 120


@pytest.mark.slow
def test_npde_and_visual_check_hold_their_level() -> None:
    """Data sets from the model itself: the joined test rejects at most 5 %, and 5 % of percentiles lie outside."""
    rng = np.random.default_rng(1)
    base = truth(fitted(lines(20)[0]))
    chances, outside, wrong = [], [], []
    for k in range(DATA_SETS):
        # drawn by hand, not by the code under test
        y = rng.multivariate_normal(MEAN @ BASIS.T, covariance(), size=20)
        people = [samples(f"p{i}", T, y[i], unit="nmol") for i in range(20)]
        one = moved(_unfitted(people), base.phi)
        chances.append(one.npde(seed=k).p)
        outside.append(one.vpc(seed=k, replicates=250).outside)
        phi = base.phi.copy()
        phi[2:4] -= math.log(2)  # effects half as wide as they are
        wrong.append(moved(one, phi).npde(seed=k).p)
    rejected = float(np.mean(np.array(chances) < 0.05))
    powerful = float(np.mean(np.array(wrong) < 0.05))
    print(f"true model: rejected {rejected:.3f} (allowed 0.05 + 3 SE); wrong model: {powerful:.3f}")
    assert rejected <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / DATA_SETS)
    assert powerful > 0.8
    report("share of percentiles outside their band", 0.05, float(np.mean(outside)), atol=0.02)


def _unfitted(people: list[Curves]) -> PopulationFit:
    return fitted(people, iterations=1)
