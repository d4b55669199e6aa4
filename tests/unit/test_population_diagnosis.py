"""Diagnosis of population fits against normal theory: a model linear in its effects has a normal likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from line_population import BASIS, MEAN, SD, T, covariance, fitted, lines, loss_of, moved, truth
from population_models import decay_model, noise_of, samples
from scipy.optimize import brentq, minimize
from scipy.stats import chi2, norm
from synthetic import Array, protocol

from pkmodel.data import Curves
from pkmodel.errors import FitError
from pkmodel.inference.population import minimise as search
from pkmodel.inference.population.diagnosis import profiling
from pkmodel.inference.population.diagnosis.bins import bins_of, percentile
from pkmodel.inference.population.diagnosis.covariate_search import search_covariates
from pkmodel.inference.population.diagnosis.individual_curves import individual_curves
from pkmodel.inference.population.diagnosis.prediction_errors import normality
from pkmodel.inference.population.diagnosis.profiling import profile
from pkmodel.inference.population.effects import Effects, relation
from pkmodel.inference.population.estimate import fit_population
from pkmodel.inference.population.linearised import objective
from pkmodel.inference.population.minimise import Minimum
from pkmodel.inference.population.result import PopulationFit
from support import report


@pytest.fixture(scope="module")
def data() -> tuple[list[Curves], Array, dict[str, Array]]:
    return lines()


@pytest.fixture(scope="module")
def fit(data: tuple[list[Curves], Array, dict[str, Array]]) -> PopulationFit:
    return fitted(data[0], standard_errors="r")


# -- profiles ----------------------------------------------------------------------------------------------------


def ends(
    loss: Callable[[Array], float], start: Array, read: Callable[[Array], float], fix: Callable[..., Array]
) -> Any:
    """Interval by another program: the rest minimised by BFGS at every step of a bracketing search."""
    best: Any = minimize(loss, start, method="BFGS", options={"gtol": 1e-6})
    near: Array = best.x

    def excess(u: float) -> float:
        def held(p: Array) -> float:
            return loss(fix(p, u))

        rest: Any = minimize(held, near, method="BFGS", options={"gtol": 1e-5})
        return float(rest.fun - best.fun - chi2.ppf(0.95, 1))

    middle = read(best.x)
    return brentq(excess, middle - 1.5, middle, xtol=1e-4), brentq(excess, middle, middle + 1.5, xtol=1e-4)


@pytest.mark.parametrize(("name", "k"), [("level", 0), ("omega share", 3), ("additive", 4)])
def test_profile_against_normal_theory(data: Any, fit: PopulationFit, name: str, k: int) -> None:
    def fix(p: Array, u: float) -> Array:
        out = p.copy()
        out[k] = u
        return out

    start = np.array([2, 1, -0.7, -1.2, -1.2])
    want = ends(loss_of(data[1]), start, lambda p: float(p[k]), fix)
    got = profile(fit, name)
    scale: Callable[[float], float] = (lambda u: u) if k == 0 else (lambda u: math.exp((2 if k == 3 else 1) * u))
    report(f"{name}, low", scale(want[0]), got.low, rtol=1e-3)
    report(f"{name}, high", scale(want[1]), got.high, rtol=1e-3)
    assert not got.notes and got.points["rise"].min() > -1e-6


def test_profile_of_a_correlated_variance(data: Any) -> None:
    """The variance of `share` is the sum of two squares of the Cholesky factor: moved as one."""
    effects = Effects(between={"level": 0.4, "share": 0.4}, correlated=(("all",),))
    got = profile(fitted(data[0], effects=effects), "omega share")

    def fix(p: Array, u: float) -> Array:
        out = p.copy()
        left = math.exp(2 * u) - p[5] ** 2
        out[3] = 0.5 * math.log(left) if left > 1e-12 else -14.0
        return out

    def read(p: Array) -> float:
        return 0.5 * math.log(math.exp(2 * p[3]) + p[5] ** 2)

    want = ends(loss_of(data[1], correlated=True), np.array([2, 1, -0.7, -1.2, -1.2, 0.0]), read, fix)
    report("low", math.exp(2 * want[0]), got.low, rtol=2e-3)
    report("high", math.exp(2 * want[1]), got.high, rtol=2e-3)


def test_profile_begins_anew_at_a_lower_minimum(fit: PopulationFit, monkeypatch: pytest.MonkeyPatch) -> None:
    want = profile(fit, "level")

    real, calls = search.minimise, 0

    def stays(crowd: Any, phi: Array, **settings: Any) -> Minimum:
        """The first search ends where it begins, above the minimum."""
        nonlocal calls
        calls += 1
        return real(crowd, phi, **settings) if calls > 1 else replace(fit.minimum, phi=phi, at=objective(crowd, phi))

    monkeypatch.setattr(profiling, "minimise", stays)
    got = profile(moved(fit, fit.phi + 0.3), "level")
    assert any("lower" in n for n in got.notes)
    assert got.objective == pytest.approx(want.objective, abs=1e-6)
    assert got.low == pytest.approx(want.low, abs=1e-3) and got.high == pytest.approx(want.high, abs=1e-3)


def test_profile_names_and_figure(fit: PopulationFit) -> None:
    with pytest.raises(FitError, match="omega level"):
        profile(fit, "omega levle")
    with pytest.raises(FitError, match="between 0 and 100"):
        profile(fit, "level", level=0)
    got = fit.profile("share", level=80)
    got.plot().draw_without_rendering()
    assert "likelihood profile" in str(got) and "share" in got._repr_html_()


# -- simulated data ----------------------------------------------------------------------------------------------


def test_npde_is_the_decorrelated_residual_of_a_normal_model(data: Any, fit: PopulationFit) -> None:
    """In a normal model npde is the residual over the Cholesky factor, and npd the residual over its SD."""
    got = truth(fit).npde(replicates=8000, seed=1).table
    residual = data[1] - MEAN @ BASIS.T
    want = np.linalg.solve(np.linalg.cholesky(covariance()), residual.T).T.ravel()
    plain = (residual / np.sqrt(np.diag(covariance()))).ravel()
    inside = np.abs(want) < 2
    report("worst npde within 2", 0.0, float(np.abs(got["npde"] - want)[inside].max()), atol=0.1)
    report("worst npd within 2", 0.0, float(np.abs(got["npd"] - plain)[np.abs(plain) < 2].max()), atol=0.1)


def test_normality_of_numbers_that_are_known() -> None:
    """Student's t and chi-squared, written out."""
    x = np.array([-1.2, -0.3, 0.1, 0.4, 0.9, 1.7])
    from scipy.stats import t as student

    mean, variance = x.mean(), x.var(ddof=1)
    got = normality(x)
    report("p mean", 2 * student.sf(abs(mean) / math.sqrt(variance / 6), 5), got["p mean"], rtol=1e-9)
    report("p variance", 2 * min(chi2.cdf(5 * variance, 5), chi2.sf(5 * variance, 5)), got["p variance"], rtol=1e-9)
    assert got["p joined"] == min(1.0, 3 * min(got["p mean"], got["p variance"], got["p normal"]))


def test_visual_check_against_normal_theory(fit: PopulationFit) -> None:
    """Tolerances are four Monte Carlo errors of 4000 medians of 14 values (SD 0.335 of one value's)."""
    check = truth(fit).vpc(replicates=4000, seed=3)
    middle = check.table[check.table["percentile"] == 50]
    assert list(middle["time"]) == list(T) and (middle["values"] == 14).all()
    want = MEAN @ BASIS.T
    spread = np.sqrt(np.diag(covariance()))
    for k, row in enumerate(middle.to_dict("records")):
        report(f"median at {T[k]:g} h", float(want[k]), row["median"], atol=0.027 * float(spread[k]))
        # the median of 14 normal numbers, by its exact distribution
        draws = np.median(np.random.default_rng(0).standard_normal((40_000, 14)), axis=1)
        report(
            f"band at {T[k]:g} h", float(want[k] + spread[k] * np.quantile(draws, 0.975)), row["high"],
            atol=0.057 * float(spread[k]),
        )  # fmt: skip
    assert 0 <= check.outside <= 1


def test_shares_below_a_limit_against_normal_theory(data: Any) -> None:
    values, limit = data[1], 2.2
    cut = [
        samples(f"p{i}", T, np.maximum(y, limit), unit="nmol", censored=[-1 if v < limit else 0 for v in y])
        for i, y in enumerate(values)
    ]
    got = truth(fitted(cut, method="laplace", iterations=1))
    check = got.vpc(replicates=1000)
    assert check.limits == {"plasma": limit}
    want: Any = norm.cdf(limit, MEAN @ BASIS.T, np.sqrt(np.diag(covariance())))
    for k, row in enumerate(check.shares.to_dict("records")):
        report(f"simulated share at {T[k]:g} h", float(want[k]), row["median"], atol=0.5 / 14 + 1e-9)
        assert row["observed"] == pytest.approx(np.mean(values[:, k] < limit))
    last = check.table[(check.table["bin"] == 4) & (check.table["percentile"] == 5)].iloc[0]
    assert last["observed"] == -np.inf and last["median"] == -np.inf
    errors = got.npde(replicates=300)
    assert len(errors.table) == 70 and any("drawn beyond" in n for n in errors.notes)
    drawn = errors.table[errors.table["censored"] < 0]
    bound = want[np.searchsorted(T, drawn["time"])]
    assert (drawn["pd"] <= bound + 0.1).all()
    assert len(got.npde(replicates=300, censored="omit").table) == 70 - len(drawn)
    for figure in (check.plot(log=True), errors.plot()):
        figure.draw_without_rendering()


def decays(people: int = 12) -> list[Curves]:
    """Doses of 50 to 200 nmol."""
    rng = np.random.default_rng(8)
    out = []
    for i in range(people):
        dose = float(50 * 2 ** (i % 3))
        k, v = 0.3 * math.exp(0.25 * rng.standard_normal()), 2 * math.exp(0.2 * rng.standard_normal())
        y = dose / v * np.exp(-k * T) * (1 + 0.1 * rng.standard_normal(5))
        out.append(samples(f"p{i}", T, y, dose=dose, group=f"g{i % 3}"))
    return out


@pytest.fixture(scope="module")
def decay_fit() -> PopulationFit:
    got = fit_population(
        decay_model(), decays(), protocol("ke V"), effects={"ke": 0.3, "V": 0.3}, noise=noise_of(0, 0.1),
        standard_errors="r",
    )  # fmt: skip
    assert isinstance(got, PopulationFit)
    return got


def test_prediction_correction_takes_out_the_dose(decay_fit: PopulationFit) -> None:
    """Value times the median prediction of its time over its own; by hand with dose/V exp(-ke t)."""
    check = decay_fit.vpc(corrected=True, replicates=400)
    k, v = decay_fit.values["ke"], decay_fit.values["V"]
    doses = np.array([50 * 2 ** (i % 3) for i in range(12)], dtype=float)
    pred = doses[:, None] / v * np.exp(-k * T)
    values = np.array([c[0].value for c in map(list, decays())])
    want = values * np.median(pred, axis=0) / pred
    assert np.allclose(check.points["value"], want.ravel(), rtol=1e-6)
    # at time zero the ratio to the prediction is exp(-eta)(1 + error), whatever the dose; four Monte Carlo errors
    rng = np.random.default_rng(0)
    sd, error = math.sqrt(decay_fit.omega.to_numpy()[1, 1]), decay_fit.noise["proportional"]
    ratio = np.exp(-sd * rng.standard_normal((40_000, 12))) * (1 + error * rng.standard_normal((40_000, 12)))
    for p in (5, 50, 95):
        each = np.quantile(ratio, p / 100, axis=1)
        row = check.table[(check.table["percentile"] == p) & (check.table["bin"] == 0)].iloc[0]
        report(
            f"{p} % at time zero", float(np.median(pred[:, 0]) * np.median(each)), float(row["median"]),
            atol=float(4 * 1.25 * np.median(pred[:, 0]) * each.std() / math.sqrt(400)),
        )  # fmt: skip
    parts = decay_fit.vpc(by="group", replicates=50, uncertainty=True)
    assert sorted(set(parts.table["stratum"])) == ["g0", "g1", "g2"] and len(parts.table) == 45


def test_individual_curves_and_pages(decay_fit: PopulationFit) -> None:
    got = individual_curves(decay_fit, ["p1"], points=9, draws=20)
    own = decay_fit["p1"].values
    c = got.curves
    assert np.allclose(c["IPRED"], 100 / own["V"] * np.exp(-own["ke"] * c["time"]), rtol=1e-6)
    k, v = decay_fit.values["ke"], decay_fit.values["V"]
    assert np.allclose(c["PRED"], 100 / v * np.exp(-k * c["time"]), rtol=1e-6)
    assert (c["low"] < c["high"]).all() and set(T) <= set(c["time"])
    pages = decay_fit.individual_plots(rows=3, columns=3)
    assert len(pages) == 2
    with pytest.raises(FitError, match="did you mean"):
        decay_fit.individual_plots("p11x")


def test_occasions_and_a_variance_without_a_lower_limit() -> None:
    """Two occasions whose rates differ as much within as between subjects."""
    rng = np.random.default_rng(3)
    visits = []
    for i in range(6):
        v = 2 * math.exp(0.2 * rng.standard_normal())
        for o in ("1", "2"):
            y = 100 / v * np.exp(-0.3 * math.exp(0.3 * rng.standard_normal()) * T) * (1 + 0.1 * rng.standard_normal(5))
            visits.append(samples(f"p{i}", T, y, dose=100, occasion=o, clearance=80.0 + 10 * (o == "2")))
    effects = Effects(between={"ke": 0.3, "V": 0.3}, occasion={"ke": 0.2})
    fit = fit_population(
        decay_model(), visits, protocol("ke V"), effects=effects, noise=noise_of(0, 0.1), standard_errors=None
    )
    assert isinstance(fit, PopulationFit)
    got = fit.profile("omega ke")
    assert got.low == 0.0 and got.high > got.estimate and any("no limit below" in n for n in got.notes)
    assert len(fit.npde(replicates=200).table) == 60 and len(fit.vpc(replicates=50).table) == 15
    assert len(individual_curves(fit, points=5).curves.groupby(["subject", "occasion"])) == 12
    with pytest.raises(FitError, match="clearance of subject p0 changes between occasions"):
        search_covariates(fit, [relation("V", "clearance", reference=80)])
    allowed = search_covariates(fit, [relation("ke", "clearance", reference=80)])
    assert allowed.table["change"].iloc[1] <= 0


def test_bad_requests_are_refused(fit: PopulationFit) -> None:
    bare = replace(fit, information=None)
    for wrong, match in (
        ({"bins": "days"}, "bins 'days'"), ({"bins": [3.0, 1.0]}, "increasing"), ({"by": "agee"}, "did you mean 'age'"),
        ({"by": "age"}, "at most 6"), ({"limits": {"plasm": 1.0}}, "plasma"), ({"replicates": 0}, "at least one"),
    ):  # fmt: skip
        with pytest.raises(FitError, match=match):
            fit.vpc(**wrong)
    with pytest.raises(FitError, match="standard_errors"):
        bare.vpc(uncertainty=True)
    with pytest.raises(FitError, match="too few"):
        fit.npde(replicates=10)


def test_bins_and_percentiles() -> None:
    assert bins_of([4.0, 1.0, 1.0, 2.0]).tolist() == [2, 0, 0, 1]
    t = np.repeat(np.arange(20.0), 3)
    assert np.bincount(bins_of(t, "quantile", 4)).tolist() == [15, 15, 15, 15]
    assert np.bincount(bins_of(t, [4.5])).tolist() == [15, 45]
    assert bins_of(t).max() == 7  # eight values each, unless said otherwise
    x = np.array([[-np.inf, -np.inf, 1.0, 3.0, np.nan]])
    assert percentile(x, 0.0)[0] == -np.inf and percentile(x, 0.5)[0] == -np.inf
    assert percentile(x, 1.0)[0] == 3.0 and percentile(x, 5 / 6)[0] == 2.0


# -- residuals and covariates ------------------------------------------------------------------------------------


def test_goodness_against_normal_theory(data: Any, fit: PopulationFit) -> None:
    """Random effects are the best linear predictors; CWRES have unit covariance."""
    got = truth(fit).gof()
    residual = data[1] - MEAN @ BASIS.T
    want = residual @ np.linalg.inv(covariance()) @ BASIS @ np.diag(SD**2)
    assert np.allclose(got.etas.to_numpy(), want, atol=1e-7)
    white = residual @ np.linalg.inv(np.asarray(_root(covariance()))).T
    report("SD of CWRES", float(white.std(ddof=1)), float(got.residuals["SD"][0]), rtol=1e-6)
    row = got.covariates[(got.covariates["effect"] == "level") & (got.covariates["covariate"] == "age")].iloc[0]
    assert row["test"] == "Spearman" and row["p"] < 0.05
    assert set(got.covariates["covariate"]) == {"age", "height", "sex"}
    for figure in (got.plot(), got.plot_effects(), got.plot_covariates()):
        figure.draw_without_rendering()
    assert "CWRES" in str(got) and "<table" in got._repr_html_()


def _root(c: Array) -> Array:
    values, vectors = np.linalg.eigh(c)
    return np.asarray((vectors * np.sqrt(values)) @ vectors.T)
