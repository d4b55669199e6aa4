"""Simulation-based calibration (Talts et al. 2018, arXiv:1804.06788) and coverage of intervals, Bayes and profile.

Patients are drawn from the prior, so ranks of the truth are uniform and 95 % intervals hold it 95 times in a hundred,
exactly, if likelihood, gradient and sampler are right. A few patients are in ``unit/test_bayes_fit.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom
from synthetic import curve, curves, protocol

from pkmodel.assembly import load_model
from pkmodel.inference.bayes.backends import kernel_of
from pkmodel.inference.bayes.calibration import Calibration, calibrate
from pkmodel.inference.bayes.kernels import People
from pkmodel.inference.binding import build_likelihood
from pkmodel.inference.fitting import bind_subject, fit
from pkmodel.inference.likelihood import Likelihood
from pkmodel.nuclides import nuclide
from pkmodel.regimen import Regimen

TIMES = np.array([2.0, 20.0, 48.0, 96.0, 144.0, 168.0])
ORGAN = {
    "fraction": {"kind": "lognormal", "median": 0.02, "cv": 0.4},
    "k_washout": {"kind": "lognormal", "median": 0.012, "cv": 0.4},
    "additive": {"kind": "lognormal", "median": 1.0, "cv": 0.4},
}
TISSUE = {
    "K1": {"kind": "lognormal", "median": 0.1, "cv": 0.3},
    "k2": {"kind": "lognormal", "median": 0.05, "cv": 0.3},
    "additive": {"kind": "lognormal", "median": 0.3, "cv": 0.4},
}
SATURABLE = {
    "Vmax": {"kind": "lognormal", "median": 8.0, "cv": 0.3},
    "Km": {"kind": "lognormal", "median": 0.5, "cv": 0.5},
    "V": {"kind": "lognormal", "median": 50.0, "cv": 0.3},
    "additive": {"kind": "lognormal", "median": 0.05, "cv": 0.4},
}
CHANCE = 0.001  # a test that is right fails once in a thousand
FRAMES = np.array([0, 1, 2, 3, 5, 8, 12, 18, 25, 35, 45, 60.0]) / 60.0


def organ() -> Likelihood:
    """An organ with one washout: linear and small, in closed form."""
    made = curves(curve("liver", TIMES, 20 * np.exp(-0.01 * TIMES)))
    return bind_subject(load_model("organ_1_phase"), made, protocol("fraction k_washout"))[2]


def tissue() -> Likelihood:
    """One tissue compartment driven by a measured input: the operation."""
    t = np.array([0, 0.5, 1, 1.5, 2, 3, 5, 8, 12, 20, 30, 45, 60.0]) / 60.0
    blood = np.array([0, 5, 60, 45, 30, 20, 14, 10, 8, 6, 5, 4, 3.5])
    made = curve(
        "grey", FRAMES[:-1], np.ones(FRAMES.size - 1), t_end=FRAMES[1:], unit="kBq/mL", nuclide="C-11",
        decay_corrected=True,
    )  # fmt: skip
    inputs = {"Cp": (t, blood), "Cb": (t, blood)}
    rules = protocol("K1 k2", fixed={"vB": 0.05, "delay": 0.0})
    return bind_subject(load_model("one_tissue"), curves(made), rules, inputs=inputs)[2]


def saturable() -> Likelihood:
    """A drug whose elimination saturates (100 mg in 50 L, half the greatest rate at 0.5 mg/L): not linear in its state.

    The operation, by the engine of differential equations and its tangents.
    """
    t = np.array([0.5, 1, 2, 4, 6, 8, 10, 12, 16, 24.0])
    made = curve("plasma", t, np.ones(t.size), unit="mg/L", nuclide="C-11", decay_corrected=True, kind="blood")
    return build_likelihood(
        load_model("pk_1cpt_mm"), curves(made), protocol("Vmax Km V"), regimen=Regimen("100 mg once")
    )


def judge(found: Calibration, low: float, high: float) -> None:
    """Ranks uniform by chi square and envelope; intervals hold the truth as often as asked."""
    n = len(found.ranks)
    tests, inside = found.chi_square(), found.inside_envelope(1 - CHANCE)
    for name, share in found.coverage.items():
        print(
            f"{name}: {n} patients: ranks uniform with p = {tests[name]:.3f} (chi square), inside the envelope: "
            f"{inside[name]}; 95 % intervals hold {100 * share:.1f} %, tolerance {100 * low:.1f} to {100 * high:.1f}"
        )
        assert tests[name] > CHANCE and inside[name]
        assert low <= share <= high


@pytest.mark.slow
@pytest.mark.parametrize(("make", "priors"), [(organ, ORGAN), (tissue, TISSUE)], ids=["organ", "tissue"])
def test_500_patients(make: Any, priors: dict[str, Any]) -> None:
    judge(calibrate(make(), priors, patients=500, draws=800, tune=500, seed=1), 0.93, 0.97)


@pytest.mark.slow
def test_300_patients_whose_elimination_saturates() -> None:
    """Fewer than of the linear models, since each takes a second; tolerance of the share: 3.3 of its SDs (binomial)."""
    one = saturable()
    assert "differential equations" in kernel_of(People([one])).words
    found = calibrate(one, SATURABLE, patients=300, draws=800, tune=500, seed=3)
    low, high = (float(binom.ppf(q, 300, 0.95)) / 300 for q in (CHANCE / 2, 1 - CHANCE / 2))
    judge(found, low, high)


@pytest.mark.slow
def test_profile_intervals_of_500_patients() -> None:
    """Least squares: 95 % profile intervals of patients with 5 % noise hold the truth 93 to 97 times in a hundred."""
    rng = np.random.default_rng(11)
    truth = {"fraction": 0.02, "k_washout": 0.012}
    clean = 1000 * 0.02 * np.exp(-(0.012 + nuclide("Lu-177").decay_constant) * TIMES)
    inside: dict[str, int] = dict.fromkeys(truth, 0)
    for _ in range(500):
        value = clean + 0.05 * clean.max() * rng.standard_normal(TIMES.size)
        got = fit("organ_1_phase", curves(curve("liver", TIMES, value)), protocol("fraction k_washout", starts=1))
        for name, at in truth.items():
            low, high = got.profile(f"{name}[liver]")
            inside[name] += low <= at <= high
    for name, count in inside.items():
        print(f"{name}: expected 95 % of 500 patients, got {count / 5:.1f} %, tolerance 93 to 97 %")
        assert 465 <= count <= 485
