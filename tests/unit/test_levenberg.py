"""Least squares from many starts at once: the same minima as lmfit, at bounds, and where a model fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from synthetic import curve, curves, protocol

from pkmodel.inference.fitting import fit
from pkmodel.inference.least_squares import COARSE, FINE, _descend, _run
from pkmodel.inference.likelihood import Likelihood
from support import report

T = np.array([0.5, 2.0, 6.0, 12.0, 24.0, 48.0, 96.0, 144.0, 192.0])
CLEAN = 25 * (np.exp(-0.015 * T) - np.exp(-0.3 * T))
NOISE = np.random.default_rng(4).standard_normal(T.size)


def _likelihood(free: Any = "fraction k_uptake k_washout", noise: float = 0.3) -> Likelihood:
    got = fit("organ_2_phase", curves(curve("liver", T, CLEAN + noise * NOISE)), protocol(free, starts=1))
    return got.groups[0]


def _starts(one: Likelihood, n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    begin = np.array([s.to_scale(s.start) for s in one.slots])
    return [begin + rng.uniform(-2, 2, begin.size) for _ in range(n)]


def test_every_start_ends_where_lmfit_ends() -> None:
    one = _likelihood()
    reference = _run(one, np.array([s.to_scale(s.start) for s in one.slots]), FINE)
    for found in _descend(one, _starts(one, 12), FINE):
        assert found.converged
        report("sum of squares", reference.cost, found.cost, rtol=1e-10)
        report("largest difference on the scale of the fit", 0.0, float(np.abs(found.x - reference.x).max()), atol=1e-6)


def test_a_start_does_not_depend_on_the_others() -> None:
    one = _likelihood()
    points = _starts(one, 5)
    together = _descend(one, points, COARSE)
    for point, found in zip(points, together, strict=True):
        assert np.array_equal(_descend(one, [point], COARSE)[0].x, found.x)


def test_a_minimum_beyond_a_bound_is_found_on_the_bound() -> None:
    one = _likelihood({"fraction": {}, "k_uptake": {"lower": 0.5, "start": 1.0}, "k_washout": {}})
    reference = _run(one, np.array([s.to_scale(s.start) for s in one.slots]), FINE)
    found = _descend(one, _starts(one, 4), FINE)
    for run in found:
        assert run.converged
        assert run.x[1] == pytest.approx(np.log(0.5), abs=1e-12)
        report("sum of squares at the bound", reference.cost, run.cost, rtol=1e-6)
        assert run.cost <= reference.cost * (1 + 1e-12)


def test_data_without_noise_leave_nothing() -> None:
    one = _likelihood(noise=0.0)
    run = _descend(one, _starts(one, 3), FINE)
    assert all(r.converged and r.cost < 1e-20 for r in run)


def test_a_start_where_the_model_overflows_is_said_to_have_failed() -> None:
    one = _likelihood({"fraction": {"upper": 1e300}, "k_uptake": {}, "k_washout": {}})
    begin = np.array([s.to_scale(s.start) for s in one.slots])
    bad = begin.copy()
    bad[0] = 690.0
    good, failed = _descend(one, [begin, bad], COARSE)
    assert not good.failure
    assert failed.failure or failed.converged
