"""Comparing models: weights by hand, what is undefined, what cannot be compared, and shares of draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from synthetic import curve, curves, protocol

from pkmodel.errors import FitError
from pkmodel.inference.compare import Comparison, compare
from pkmodel.inference.fitting import fit
from pkmodel.inference.result import Fit
from pkmodel.nuclides import nuclide
from support import report

DECAY = nuclide("Lu-177").decay_constant
TIMES = np.array([1.0, 4.0, 10.0, 24.0, 48.0, 72.0, 96.0, 120.0])
Y = (
    1000 * 0.02 * 0.5 / 0.49 * (np.exp(-(0.01 + DECAY) * TIMES) - np.exp(-(0.5 + DECAY) * TIMES))
    + 0.3 * np.random.default_rng(8).standard_normal(TIMES.size)
)  # fmt: skip
ONE, TWO = "fraction k_washout", "fraction k_uptake k_washout"
THREE = "fraction share k_uptake k_fast k_slow"


def _fit(model: str, free: str, n: int = 8, **settings: object) -> Fit:
    return fit(model, curves(curve("liver", TIMES[:n], Y[:n])), protocol(free, **settings))


@pytest.fixture(scope="module")
def fits() -> list[Fit]:
    return [_fit("organ_1_phase", ONE), _fit("organ_2_phase", TWO), _fit("organ_3_phase", THREE)]


@pytest.mark.parametrize("criterion", ["aicc", "aic", "bic"])
def test_weights_by_hand(fits: list[Fit], criterion: str) -> None:
    """exp(-delta/2), from the residuals alone: n = 8, K = parameters + 1."""
    n = 8
    scores = []
    for f in fits:
        k = len(f.slots) + 1
        rss = float((f.residuals["residual"] ** 2).sum())
        score = n * (math.log(2 * math.pi * rss / n) + 1)
        score += {"aic": 2 * k, "aicc": 2 * k + 2 * k * (k + 1) / (n - k - 1), "bic": k * math.log(n)}[criterion]
        scores.append(score)
    raw = [math.exp(-(s - min(scores)) / 2) for s in scores]
    got = compare(fits, criterion)
    for f, expected, weight in zip(fits, raw, got.weights, strict=True):
        report(f"{criterion} weight of {f.model.name}", expected / sum(raw), weight, atol=1e-9)
    report("sum of weights", 1.0, sum(got.weights), rtol=1e-12)
    assert got.best.model.name == "organ_2_phase_Lu177"
    assert list(got.table["weight"]) == list(got.weights)


def test_a_model_with_too_few_points_is_not_judged() -> None:
    """Six points, five parameters and an error: AICc has no value there."""
    small, large = _fit("organ_2_phase", TWO, 6), _fit("organ_3_phase", THREE, 6)
    assert math.isnan(large.aicc) and math.isfinite(small.aicc)
    got = compare([small, large])
    assert got.weights == (1.0, 0.0) and "organ_3_phase" in got.notes[0] and "undefined" in str(got)
    assert any("AICc is undefined: 6 points for 6 estimated numbers" in w for w in large.warnings)


def test_a_curve_through_every_point_wins_nothing() -> None:
    """Its likelihood has no maximum, so no criterion is defined, and it cannot beat the others by a perfect fit."""
    honest, exact = _fit("organ_1_phase", ONE, 3), _fit("organ_2_phase", TWO, 3)
    assert math.isnan(exact.aic) and math.isnan(exact.bic)
    for criterion in ("aic", "bic"):
        got = compare([honest, exact], criterion)
        assert got.best is honest and got.weights == (1.0, 0.0)
    assert "AIC undefined" in str(exact)


def test_where_nothing_is_defined_nothing_is_weighed() -> None:
    a, b = _fit("organ_1_phase", ONE, 3), _fit("organ_2_phase", TWO, 3)
    got = compare([a, b])
    assert all(math.isnan(w) for w in got.weights)
    with pytest.raises(FitError, match="aicc is undefined for every model"):
        _ = got.best
    with pytest.raises(FitError, match="aicc is undefined for every model"):
        got.shares(100)


@pytest.mark.parametrize("n", [1, 7, 100, 1001])
def test_shares_of_draws_follow_the_weights(fits: list[Fit], n: int) -> None:
    got = compare(fits, "aic")
    shares = got.shares(n)
    print(f"weights {got.weights}, {n} draws shared as {shares}")
    assert sum(shares) == n
    assert all(abs(s - w * n) < 1 for s, w in zip(shares, got.weights, strict=True))


def test_model_averaged_draws_have_the_mixtures_mean(fits: list[Fit]) -> None:
    """Draws of the washout half-life from each model by its share: mean of all is the weighted mean."""
    got = compare(fits[:2], "aic")
    shares = got.shares(4000)
    pooled = np.concatenate(
        [f.draws(n, seed=1)["k_washout[liver]"] for f, n in zip(got.fits, shares, strict=True) if n]
    )
    expected = sum(
        w * float(f.draws(20_000, seed=2)["k_washout[liver]"].median())
        for f, w in zip(got.fits, got.weights, strict=True)
    )
    report("mean of model-averaged draws", expected, float(np.median(pooled)), rtol=0.02)


def test_other_data_are_refused(fits: list[Fit]) -> None:
    with pytest.raises(FitError, match="were not fitted to the same points"):
        compare([fits[0], _fit("organ_2_phase", TWO, 7)])
    other = fit("organ_2_phase", curves(curve("liver", TIMES, 1.01 * Y)), protocol(TWO))
    with pytest.raises(FitError, match="were not fitted to the same points"):
        compare([fits[0], other])
    elsewhere = fit("organ_2_phase", curves(curve("spleen", TIMES, Y)), protocol(TWO))
    with pytest.raises(FitError, match="were not fitted to the same points"):
        compare([fits[0], elsewhere])


def test_other_error_models_are_refused(fits: list[Fit]) -> None:
    other = _fit("organ_2_phase", TWO, error={"kind": "combined", "additive": 1.0})
    with pytest.raises(FitError, match="likelihoods compare only under one error model"):
        compare([fits[0], other])


def test_the_same_points_left_out(fits: list[Fit]) -> None:
    """Weights decide which data count; fits that count other ones are not of the same data."""
    weights = [np.ones(8), np.append(np.ones(7), 0.0)]
    a, b = (
        fit("organ_1_phase", curves(curve("liver", TIMES, Y, weights=w)), protocol(ONE, error={"kind": "weights"}))
        for w in weights
    )
    with pytest.raises(FitError, match="were not fitted to the same points"):
        compare([a, b])


def test_what_to_compare_is_checked(fits: list[Fit]) -> None:
    with pytest.raises(FitError, match="1 fit to compare; give at least two"):
        compare(fits[:1])
    with pytest.raises(FitError, match="criterion 'r2' is not known; allowed: aicc, aic, bic"):
        compare(fits, "r2")


def test_it_prints_and_shows(fits: list[Fit]) -> None:
    got = compare(fits)
    print(got)
    assert isinstance(got, Comparison)
    assert "organ_2_phase" in str(got) and "weight" in str(got) and "<table" in got._repr_html_()
