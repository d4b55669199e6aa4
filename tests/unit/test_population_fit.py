"""`fit_population`: estimates of known populations, the printed table, bad input, interruption, what is handed on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from population_models import decay_model, line_model, noise_of, samples
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from synthetic import Array, curve, curves, protocol

from pkmodel.data import Curves
from pkmodel.errors import FitError
from pkmodel.inference.population import linearised
from pkmodel.inference.population import minimise as search
from pkmodel.inference.population.effects import Effects, allometric, relation
from pkmodel.inference.population.estimate import fit_population
from pkmodel.inference.population.result import PopulationFit
from pkmodel.inference.population_file import PopulationModel
from support import report

T = np.array([0.0, 1.0, 2.0, 4.0, 8.0])
LINE = {"level": {}, "share": {"transform": "none"}}


def _lines(people: int = 12) -> tuple[list[Curves], Array]:
    rng = np.random.default_rng(5)
    basis = np.column_stack([np.ones(5), 10 * np.exp(-0.5 * T)])
    own = np.array([2.0, 1.0]) + rng.standard_normal((people, 2)) * [0.5, 0.3]
    y = own @ basis.T + 0.3 * rng.standard_normal((people, 5))
    return [samples(f"p{i}", T, y[i], unit="nmol") for i in range(people)], y


def _maximum(y: Array) -> Array:
    """Maximum likelihood of the linear model, by another program: level, share, two SDs and sigma."""
    basis = np.column_stack([np.ones(5), 10 * np.exp(-0.5 * T)])

    def loss(p: Array) -> float:
        cov = basis @ np.diag(np.exp(2 * p[2:4])) @ basis.T + math.exp(2 * p[4]) * np.eye(5)
        return float(-2 * multivariate_normal.logpdf(y, basis @ p[:2], cov).sum())

    found = minimize(loss, [2.0, 1.0, -0.7, -1.2, -1.2], method="BFGS", options={"gtol": 1e-6})
    return np.concatenate([found.x[:2], np.exp(found.x[2:]), [found.fun]])


@pytest.mark.parametrize(("method", "rtol"), [("fo", 1e-5), ("focei", 1e-5), ("importance", 0.02), ("saem", 0.03)])
def test_a_linear_population_is_estimated_at_its_maximum(method: str, rtol: float) -> None:
    data, y = _lines()
    settings: dict[str, Any] = {
        "saem": {"iterations": 100, "smoothing": 100, "chains": 20},
        "importance": {"iterations": 15, "smoothing": 15},
    }
    fit = fit_population(
        line_model(), data, protocol(LINE), effects={"level": 0.4, "share": 0.4}, noise=noise_of(0.2), method=method,
        standard_errors=None, **settings.get(method, {}),
    )  # fmt: skip
    assert isinstance(fit, PopulationFit)
    want = _maximum(y)
    got = [*fit.values.values(), *np.sqrt(np.diag(fit.omega)), fit.noise["additive"]]
    names = ("level", "share", "omega level", "omega share", "additive")
    for name, expected, g in zip(names, want, got, strict=False):
        report(f"{method} {name}", float(expected), float(g), rtol=rtol)
    report("-2 log L", float(want[-1]), fit.minus_two_log_likelihood, atol=0.2 if method in settings else 1e-6)
    assert fit.objective == pytest.approx(fit.minus_two_log_likelihood - 60 * math.log(2 * math.pi))


def test_a_search_that_lost_a_spread_opens_it_again() -> None:
    data, y = _lines()
    fit = fit_population(
        line_model(), data, protocol(LINE), effects={"level": 1e-5, "share": 0.4}, noise=noise_of(0.2),
        standard_errors=None,
    )  # fmt: skip
    assert isinstance(fit, PopulationFit)
    want = _maximum(y)
    report("omega level from a start of nearly zero", float(want[2]), math.sqrt(fit.omega.to_numpy()[0, 0]), rtol=1e-4)
    report("-2 log L", float(want[-1]), fit.minus_two_log_likelihood, atol=1e-6)


def _decays(people: int = 16, occasions: int = 1) -> list[Curves]:
    rng = np.random.default_rng(8)
    data = []
    for i in range(people):
        weight = float(rng.uniform(50, 100))
        ke, v = 0.3 * math.exp(0.25 * rng.standard_normal()), 2 * weight / 70 * math.exp(0.2 * rng.standard_normal())
        for o in range(occasions):
            k = ke * math.exp(0.3 * rng.standard_normal() * (occasions > 1))
            y = 100 / v * np.exp(-k * T) * (1 + 0.1 * rng.standard_normal(5))
            data.append(samples(f"p{i}", T, y, dose=100, weight=weight, occasion=str(o + 1) if occasions > 1 else ""))
    return data


FREE = {"ke": {"start": 0.3}, "V": {"start": 2.0}}


@pytest.fixture(scope="module")
def fitted() -> PopulationFit:
    effects = Effects(between={"ke": 0.3, "V": 0.3}, covariates=allometric(volumes=["V"]))
    fit = fit_population(decay_model(), _decays(), protocol(FREE), effects=effects, noise=noise_of(0, 0.15))
    assert isinstance(fit, PopulationFit)
    return fit


def test_what_a_fit_prints(fitted: PopulationFit) -> None:
    text = str(fitted)
    wanted = (
        "FOCE-I|16 subjects, 80 values|without N log 2 pi|R^-1 S R^-1|RSE %|CV %|shrinkage %|omega ke|condition number"
    )
    for words in wanted.split("|"):
        assert words in text, words
    assert "<table" in fitted._repr_html_()
    low, high = fitted.table.loc[["V"], ["2.5 %", "97.5 %"]].to_numpy(dtype=float)[0]
    assert low < fitted.values["V"] < high


def test_individual_fits_and_predictions(fitted: PopulationFit) -> None:
    table = fitted.predictions
    assert len(table) == 80 and np.isfinite(table[["PRED", "IPRED", "IWRES", "CWRES", "WRES"]].to_numpy()).all()
    one = fitted["p3"]
    mine = table[table["subject"] == "p3"]
    assert np.allclose(one.predict(T)["plasma"].to_numpy(), mine["IPRED"].to_numpy(), rtol=1e-9)
    assert one.draw(50).shape == (50, 2) and set(one.values) == {"ke", "V"}
    # decorrelated residuals of the right model have unit variance; 80 values, so within 5 SD of it
    report("mean square of CWRES", 1.0, float((table["CWRES"] ** 2).mean()), atol=5 * math.sqrt(2 / 80))


def test_the_population_is_handed_on_and_saved(fitted: PopulationFit, tmp_path: Any) -> None:
    population = fitted.population("a test")
    population.save(tmp_path / "p.toml")
    again = PopulationModel.load(tmp_path / "p.toml")
    assert np.allclose(again.theta, fitted.phi[:2]) and np.allclose(again.omega, fitted.omega)
    mean = again.typical({"weight": "35 kg"})
    assert mean[1] - again.theta[1] == pytest.approx(math.log(0.5))


def test_occasions_are_told_apart_from_subjects() -> None:
    effects = Effects(between={"ke": 0.3, "V": 0.3}, occasion={"ke": 0.2}, covariates=allometric(volumes=["V"]))
    fit = fit_population(
        decay_model(), _decays(24, 3), protocol(FREE), effects=effects, noise=noise_of(0, 0.15), standard_errors=None
    )
    assert isinstance(fit, PopulationFit)
    assert "ke@2" in fit["p0"].values and "V" in fit["p0"].values
    # the spread of 24 subjects is known to about 15 %, that of 72 occasions to about 10 %: within three of these
    report("between subjects", 0.25, math.sqrt(fit.omega.to_numpy(dtype=float)[0, 0]), rtol=0.45)
    report("between occasions", 0.3, math.sqrt(fit.occasion_omega.to_numpy(dtype=float)[0, 0]), rtol=0.3)


def test_interrupted_and_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    real = linearised.objective

    def stopping(*args: Any, **settings: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return real(*args, **settings)

    monkeypatch.setattr(search, "objective", stopping)
    again = {"effects": {"ke": 0.6, "V": 0.6}, "noise": noise_of(0, 0.4)}
    half = fit_population(decay_model(), _decays(), protocol(FREE), **again)  # type: ignore[arg-type]
    assert isinstance(half, PopulationFit) and half.minimum.interrupted
    assert any("interrupted after" in w and "start=" in w for w in half.warnings)
    assert half.objective < half.minimum.trace[0] and half.table.shape[0] == 2
    whole = fit_population(decay_model(), _decays(), protocol(FREE), start=half, standard_errors=None, **again)  # type: ignore[arg-type]
    assert isinstance(whole, PopulationFit)
    assert whole.minimum.converged and whole.objective < half.objective


def test_a_covariate_of_the_model_is_set_for_each_subject() -> None:
    """V given per subject as a parameter of the model; only ke is estimated."""
    data = [c.replace(covariates={"V": 2 * float(c.covariates["weight"]) / 70}) for c in _decays()]  # type: ignore[arg-type]
    fit = fit_population(
        decay_model(), data, protocol("ke"), effects=["ke"], noise=noise_of(0, 0.2), standard_errors=None
    )
    assert isinstance(fit, PopulationFit)
    first = fit.crowd.predict(fit.crowd.layout.typical(fit.phi)).value[fit.crowd.starts]
    want = [100 / float(c.covariates["V"]) for c in data]  # type: ignore[arg-type]
    assert np.allclose(first, want, rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "settings", "words"),
    [
        ({}, {"effects": {"CL": 0.3}}, "'CL' is not a free parameter"),
        ({}, {"effects": {"ke": -0.3}}, "ke: SD between subjects is -0.3; allowed: above zero"),
        ({}, {"effects": []}, "nothing varies"),
        ({}, {"method": "foce-i"}, "method 'foce-i' is not known; allowed: fo, foce, focei"),
        ({"covariates": {}}, {"effects": Effects(between={"ke": 0.3}, covariates=(relation("V", "weight"),))},
         "subject p2: covariate weight is missing, and V depends on it"),
        ({"curves": ()}, {}, "subject p2: no data; leave the subject out"),
        ({"subject": "p1"}, {}, "subject p1: occasion '' is given twice"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_words(change: dict[str, Any], settings: dict[str, Any], words: str) -> None:
    data = _decays(4)
    data[2] = data[2].replace(**change)
    with pytest.raises(FitError, match=words.replace("(", r"\(")):
        fit_population(decay_model(), data, protocol(FREE), **settings)


def test_one_subject_is_no_population() -> None:
    with pytest.raises(FitError, match="one subject is not a population"):
        fit_population(decay_model(), _decays(1)[0], protocol(FREE))  # type: ignore[arg-type]


def test_two_units_of_one_endpoint_are_refused() -> None:
    data = _decays(3)
    (one,) = data[1].curves
    data[1] = data[1].replace(curves=(one.replace(unit="umol/L"),))
    with pytest.raises(FitError, match="plasma is given in nmol/L and in umol/L"):
        fit_population(decay_model(), data, protocol(FREE))


def test_values_that_are_all_missing_are_no_data() -> None:
    data = _decays(3)
    (one,) = data[1].curves
    data[1] = data[1].replace(curves=(one.replace(value=np.full(5, np.nan), censored=np.full(5, 2)),))
    with pytest.raises(FitError, match="subject p1: no measured value that counts"):
        fit_population(decay_model(), data, protocol(FREE))


def test_regions_have_parameters_and_noise_of_their_own_and_one_may_be_absent() -> None:
    """Organs of five subjects, logit-normal fraction, log-normal washout; one subject lacks a kidney."""
    rng = np.random.default_rng(4)
    t = np.array([2.0, 24.0, 72.0, 168.0])
    lam = math.log(2) / (6.6443 * 24)  # Lu-177
    data = []
    for i in range(5):
        organs = []
        for region, share, k in (("liver", 0.05, 0.008), ("kidney", 0.02, 0.02)):
            if region == "kidney" and i == 4:
                continue
            mine = k * math.exp(0.2 * rng.standard_normal())
            y = 1000 * share * np.exp(-(mine + lam) * t) * (1 + 0.03 * rng.standard_normal(4))
            organs.append(curve(region, t, y, subject=f"p{i}"))
        data.append(curves(*organs, subject=f"p{i}"))
    free = {"fraction": {"transform": "logit", "start": 0.03, "lower": 0.0, "upper": 1.0}, "k_washout": {"start": 0.01}}
    rules = protocol(free, error={"kind": "proportional"})
    fit = fit_population("organ_1_phase", data, rules, effects={"k_washout": 0.3}, standard_errors=None)
    assert isinstance(fit, PopulationFit)
    assert list(fit.omega.index) == ["k_washout[liver]", "k_washout[kidney]"]
    assert set(fit.noise) == {"proportional[liver]", "proportional[kidney]"}
    assert "k_washout[kidney]" not in fit["p4"].values and "k_washout[kidney]" in fit["p3"].values
    report("fraction of the liver", 0.05, fit.values["fraction[liver]"], rtol=0.05)
    report("washout of the liver", 0.008, fit.values["k_washout[liver]"], rtol=0.25)


def test_a_group_of_correlated_effects_must_vary() -> None:
    with pytest.raises(FitError, match="V is in a correlated group but does not vary"):
        fit_population(
            decay_model(), _decays(3), protocol(FREE), effects=Effects(between={"ke": 0.3}, correlated=(("ke", "V"),))
        )
