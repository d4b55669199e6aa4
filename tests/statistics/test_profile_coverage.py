"""Do 95 % profile intervals of least squares hold the truth for 93 to 97 of 100 patients?"""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import curve, curves, protocol

from pkmodel.inference.fitting import fit
from pkmodel.nuclides import nuclide

DECAY = nuclide("Lu-177").decay_constant
PATIENTS = 500
TIMES = np.array([1.0, 4.0, 10.0, 24.0, 48.0, 72.0, 96.0, 144.0, 168.0, 192.0])
ONE = {"fraction": 0.02, "k_washout": 0.012}
TWO = {"fraction": 0.02, "k_uptake": 0.15, "k_washout": 0.012}


def _clean(truth: dict[str, float]) -> np.ndarray:
    """Activity in closed form: a washout, after an uptake where there is one."""
    out, into = truth["k_washout"], truth.get("k_uptake")
    shape = np.exp(-out * TIMES)
    if into is not None:
        shape = into / (into - out) * (np.exp(-out * TIMES) - np.exp(-into * TIMES))
    return np.asarray(1000 * truth["fraction"] * np.exp(-DECAY * TIMES) * shape)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "truth"), [("organ_1_phase", ONE), ("organ_2_phase", TWO)])
def test_profile_intervals_of_500_patients(model: str, truth: dict[str, float]) -> None:
    rng = np.random.default_rng(20)
    clean = _clean(truth)
    inside = dict.fromkeys(truth, 0)
    for _ in range(PATIENTS):
        noisy = clean + 0.04 * clean.max() * rng.standard_normal(TIMES.size)
        got = fit(model, curves(curve("liver", TIMES, noisy)), protocol(" ".join(truth), starts=2))
        for name, value in truth.items():
            low, high = got.profile(f"{name}[liver]")
            inside[name] += low <= value <= high
    for name, count in inside.items():
        share = 100 * count / PATIENTS
        print(f"{model}, {name}: expected 95 %, got {share:.1f} % of {PATIENTS}, allowed 93 to 97 %")
    assert all(0.93 <= count / PATIENTS <= 0.97 for count in inside.values())
