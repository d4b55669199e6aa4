"""Do 95 % intervals hold the truth 95 times in a hundred? Simulated patients with known noise say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom
from synthetic import Array, curve, curves, protocol

from pkmodel.inference.fitting import fit
from pkmodel.nuclides import nuclide

DECAY = nuclide("Lu-177").decay_constant
TIMES = np.array([2.0, 20.0, 48.0, 96.0, 144.0, 168.0])
TRUTH = {"fraction": 0.02, "k_washout": 0.012}
CLEAN = 1000 * TRUTH["fraction"] * np.exp(-(TRUTH["k_washout"] + DECAY) * TIMES)


def _patient(rng: np.random.Generator) -> Array:
    return np.asarray(CLEAN + 0.05 * CLEAN.max() * rng.standard_normal(TIMES.size), dtype=float)


def _coverage(patients: int, *, seed: int, profiles: int) -> dict[str, list[bool]]:
    """Whether the truth lies inside the interval of draws, of the table, and (for the first patients) of a profile."""
    rng = np.random.default_rng(seed)
    inside: dict[str, list[bool]] = {f"{n} {kind}": [] for n in TRUTH for kind in ("draws", "table", "profile")}
    for k in range(patients):
        got = fit(
            "organ_1_phase", curves(curve("liver", TIMES, _patient(rng))), protocol("fraction k_washout", starts=1)
        )
        draws = got.draws(2000, seed=k)
        for name, truth in TRUTH.items():
            label = f"{name}[liver]"
            low, high = np.quantile(draws[label], [0.025, 0.975])
            inside[f"{name} draws"].append(bool(low <= truth <= high))
            inside[f"{name} table"].append(bool(got.table["low"][label] <= truth <= got.table["high"][label]))
            if k < profiles:
                low, high = got.profile(label)
                inside[f"{name} profile"].append(low <= truth <= high)
    return inside


def _judge(inside: dict[str, list[bool]]) -> None:
    """Within what chance allows in 999 of 1000 repeats, and two points for the curvature of the model."""
    for name, found in inside.items():
        n, count = len(found), sum(found)
        low, high = binom.ppf(0.0005, n, 0.95) - 0.02 * n, binom.ppf(0.9995, n, 0.95) + 0.02 * n
        allowed = f"{low:.0f} to {min(high, n):.0f} of {n}"
        print(f"{name}: expected 95 % of {n} patients, got {100 * count / n:.1f} %, tolerance {allowed}")
        assert low <= count <= high


def test_intervals_of_200_patients_hold_the_truth() -> None:
    _judge(_coverage(200, seed=1, profiles=40))


@pytest.mark.slow
def test_intervals_of_3000_patients_hold_the_truth() -> None:
    _judge(_coverage(3000, seed=2, profiles=1000))


def test_the_error_that_is_estimated_is_the_one_that_was_put_in() -> None:
    rng = np.random.default_rng(5)
    sizes = []
    for _ in range(100):
        y = _patient(rng)
        got = fit("organ_1_phase", curves(curve("liver", TIMES, y)), protocol("fraction k_washout", starts=1))
        sizes.append(got.scales[0] * y.max() ** 2)
    got_sd, true_sd = math.sqrt(float(np.mean(sizes))), 0.05 * CLEAN.max()
    print(f"estimated noise: expected {true_sd:.4g} MBq, got {got_sd:.4g} MBq, tolerance 15 %")
    assert abs(got_sd / true_sd - 1) < 0.15
