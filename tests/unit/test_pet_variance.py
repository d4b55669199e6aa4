"""Variances of frames from counts, against the closed form and against simulated counting."""

from __future__ import annotations

import numpy as np
import pytest
from pet_truth import END, START, frames, plasma

from pkmodel.errors import FitError
from pkmodel.nuclides import nuclide
from pkmodel.pet.variance import count_variance, variance_of
from support import report

HALF_LIFE = {"C-11": 20.39, "F-18": 109.77}  # [min], ICRP 107


@pytest.mark.parametrize("name", ["C-11", "F-18"])
def test_counts_of_decay_corrected_frames(name: str) -> None:
    """A constant decay-corrected level c: the scanner saw c/f on average, so the variance is f c/d."""
    rate = np.log(2) / HALF_LIFE[name]
    start, end, c = np.array([0.0, 30.0, 60.0]), np.array([0.5, 35.0, 90.0]), 7.0
    d = end - start
    factor = np.exp(rate * start) * rate * d / -np.expm1(-rate * d)
    got = count_variance(start / 60, end / 60, np.full(3, c), name, decay_corrected=True, floor=0.0)
    for k in range(3):
        report(f"{name} variance of frame {k + 1}", factor[k] * c / d[k], float(got[k]), rtol=1e-3)


def test_corrected_and_uncorrected_curves_weigh_alike() -> None:
    """The variance of the corrected value is the factor squared times that of the uncorrected one."""
    c = frames(np.linspace(1, 9, START.size))
    raw = c.decay_uncorrect()
    ratio = c.value / raw.value
    a, b = variance_of(c, "counts"), variance_of(raw, "counts") * ratio**2
    report("largest relative difference", 0.0, float(np.abs(a / b - 1).max()), atol=1e-12)


def test_simulated_counting_has_this_variance() -> None:
    """Poisson counts of an uncorrected activity, corrected afterwards: variance over the formula is one constant."""
    rng = np.random.default_rng(5)
    rate, scale = nuclide("C-11").decay_constant / 60, 400.0
    start, end = np.array([0.0, 10.0, 40.0, 60.0]), np.array([1.0, 15.0, 50.0, 90.0])
    d = end - start
    factor = np.exp(rate * start) * rate * d / -np.expm1(-rate * d)
    level = np.array([3.0, 8.0, 5.0, 2.0])
    counts = rng.poisson(scale * level / factor * d, size=(40_000, 4))
    corrected = counts / (scale * d) * factor
    formula = count_variance(start / 60, end / 60, level, "C-11", decay_corrected=True) / scale
    for k in range(4):
        # standard error of a variance from 40 000 draws: 0.7 %
        report(f"simulated variance of frame {k + 1}", float(formula[k]), float(corrected[:, k].var()), rtol=0.03)


def test_named_variances() -> None:
    c = frames(np.linspace(1, 9, START.size), weights=np.append(0.0, np.full(START.size - 1, 4.0)))
    assert np.all(variance_of(c, "uniform") == 1)
    report("duration of the last frame", 1 / 5.0, float(variance_of(c, "duration")[-1]), rtol=1e-12)
    from_weights = variance_of(c, "weights")
    assert np.isinf(from_weights[0]) and np.all(from_weights[1:] == 0.25)
    spread = frames(np.ones(START.size), sd=np.full(START.size, 2.0), sd_kind="sd", n=np.full(START.size, 4))
    assert np.all(variance_of(spread, "table") == 1.0)  # the standard error, squared
    assert END[-1] == 70.0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("inverse", "allowed"), ("counts", "needs frames"), (np.array([1.0, -1.0]), "above zero"), ("table", "sd")],
)
def test_what_cannot_be_a_variance(wrong: object, said: str) -> None:
    with pytest.raises(FitError, match=said):
        variance_of(plasma(), wrong)  # type: ignore[arg-type]
