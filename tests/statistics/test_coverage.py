"""Do 95 % intervals hold the truth 95 times in a hundred? Simulated patients with known noise say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from pkmodel.inference.fitting import fit
from pkmodel.nuclides import nuclide
from synthetic import Array, curve, curves, protocol

DECAY = nuclide("Lu-177").decay_constant
TIMES = np.array([2.0, 20.0, 48.0, 96.0, 144.0, 168.0])
TRUTH = {"fraction": 0.02, "k_washout": 0.012}
CLEAN = 1000 * TRUTH["fraction"] * np.exp(-(TRUTH["k_washout"] + DECAY) * TIMES)


def _patient(rng: np.random.Generator) -> Array:
    return np.asarray(CLEAN + 0.05 * CLEAN.max() * rng.standard_normal(TIMES.size), dtype=float)


def _coverage(patients: int, *, seed: int, profile: bool) -> dict[str, int]:
    """How often the truth lies inside, of `patients`: interval of draws, table, and profile."""
    rng = np.random.default_rng(seed)
    hits = dict.fromkeys([f"{n} {kind}" for n in TRUTH for kind in ("draws", "table", "profile")], 0)
    for k in range(patients):
        got = fit("organ_1_phase", curves(curve("liver", TIMES, _patient(rng))), protocol("fraction k_washout", starts=1))
        draws = got.draws(2000, seed=k)
        for name, truth in TRUTH.items():
            label = f"{name}[liver]"
            low, high = np.quantile(draws[label], [0.025, 0.975])
            hits[f"{name} draws"] += int(low <= truth <= high)
            hits[f"{name} table"] += int(got.table["low"][label] <= truth <= got.table["high"][label])
            if profile:
                low, high = got.profile(label)
                hits[f"{name} profile"] += int(low <= truth <= high)
    return hits


def _judge(hits: dict[str, int], n: int, *, profile: bool) -> None:
    """Within what chance allows in 999 of 1000 repeats, and two points for the curvature of the model."""
    low, high = binom.ppf(0.0005, n, 0.95) - 0.02 * n, binom.ppf(0.9995, n, 0.95) + 0.02 * n
    for name, count in hits.items():
        if name.endswith("profile") and not profile:
            continue
        print(f"{name}: expected 95 % of {n}, got {100 * count / n:.1f} %, tolerance {low:.0f} to {min(high, n):.0f} of {n}")
        assert low <= count <= high


def test_intervals_of_200_patients_hold_the_truth() -> None:
    _judge(_coverage(200, seed=1, profile=True), 200, profile=True)


@pytest.mark.slow
def test_intervals_of_3000_patients_hold_the_truth() -> None:
    _judge(_coverage(3000, seed=2, profile=True), 3000, profile=True)


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
