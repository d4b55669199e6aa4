"""`fit(..., method="bayes")`: draws, what they become, and what happens when a run is interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom
from synthetic import curve, curves, protocol

from pkmodel.errors import FitError
from pkmodel.inference.bayes import fitting, sampling
from pkmodel.inference.bayes.calibration import calibrate
from pkmodel.inference.bayes.posterior import BayesFit, compare_posteriors
from pkmodel.inference.fitting import fit
from pkmodel.nuclides import nuclide
from support import report

T = np.array([2.0, 20.0, 48.0, 96.0, 144.0, 168.0])
TRUTH = {"fraction": 0.02, "k_washout": 0.012}
PRIORS = {
    "fraction": {"kind": "lognormal", "median": 0.02, "cv": 0.5},
    "k_washout": {"kind": "lognormal", "median": 0.01, "cv": 0.5},
    "additive": {"kind": "lognormal", "median": 0.3, "cv": 1.0},
}
PROTOCOL = protocol("fraction k_washout", priors=PRIORS)
OPTIONS: dict[str, Any] = {"method": "bayes", "draws": 300, "tune": 300, "chains": 2, "seed": 4}


def _data() -> Any:
    rate = TRUTH["k_washout"] + nuclide("Lu-177").decay_constant
    clean = 1000 * TRUTH["fraction"] * np.exp(-rate * T)
    return curves(curve("liver", T, clean + 0.3 * np.random.default_rng(1).standard_normal(T.size)))


@pytest.fixture(scope="module")
def machine() -> dict[str, Any]:
    """What was compiled, so that every test of this file compiles once."""
    return {}


@pytest.fixture(autouse=True)
def _once(machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    real = sampling.compile_model

    def compile_once(model: Any) -> Any:
        if "compiled" not in machine:
            machine["compiled"] = real(model)
        return machine["compiled"]

    monkeypatch.setattr(sampling, "compile_model", compile_once)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run of this file is kept."""
    return tmp_path_factory.mktemp("bayes") / "run.nc"


def _fit(**more: Any) -> BayesFit:
    found: BayesFit = fit("organ_1_phase", _data(), PROTOCOL, **(OPTIONS | more))
    return found


@pytest.fixture()
def posterior(machine: dict[str, Any], file: Path) -> BayesFit:
    """The run, drawn once."""
    if "fit" not in machine:
        machine["fit"] = _fit(file=file)
    found: BayesFit = machine["fit"]
    return found


def test_the_posterior_holds_the_truth_and_is_close_to_least_squares(posterior: BayesFit) -> None:
    plain = fit("organ_1_phase", _data(), protocol("fraction k_washout"))
    for name, truth in TRUTH.items():
        row: Any = posterior.table.loc[f"{name}[liver]"]
        assert row["low"] < truth < row["high"]
        report(f"{name}: median", plain.values[f"{name}[liver]"], float(row["value"]), rtol=0.03)
        assert row["rhat"] < 1.05
    assert "closed form" in posterior.how and posterior.priors["fraction[liver]"].kind == "lognormal"


def test_the_result_is_in_arviz_s_own_groups(posterior: BayesFit) -> None:
    groups = {
        "posterior", "sample_stats", "posterior_predictive", "log_likelihood", "log_prior", "prior", "observed_data",
    }  # fmt: skip
    assert groups <= set(posterior.tree.children)
    likelihood, x = posterior.likelihood, posterior.on_scale[5]
    z = np.log([posterior.posterior["additive"].to_numpy().ravel()[5]])
    want = likelihood.noise.log_density(likelihood.predict(x).value, z, likelihood.data).pointwise
    got = posterior.tree["log_likelihood"]["measured"].to_numpy().reshape(-1, T.size)[5]
    np.testing.assert_allclose(got, want, rtol=1e-9)
    seen = posterior.tree["posterior_predictive"]["measured"].to_numpy().reshape(-1, T.size)
    low, high = np.quantile(seen, [0.005, 0.995], axis=0)
    assert ((low < posterior.likelihood.data.value) & (posterior.likelihood.data.value < high)).all()


def test_loo_and_prior_sensitivity(posterior: BayesFit) -> None:
    assert np.isfinite(posterior.loo().elpd)
    table = posterior.sensitivity()
    assert list(table.index) == posterior.names and "likelihood" in table.columns


def test_the_print_tells_of_chains_priors_and_derived_results(posterior: BayesFit) -> None:
    text = str(posterior)
    assert "R-hat at most" in text and "lognormal(median 0.02, cv 0.5)" in text and "T_biological[liver]" in text
    assert "<table" in posterior._repr_html_()


def test_one_seed_gives_the_same_draws_however_many_run_at_once(posterior: BayesFit) -> None:
    again = _fit(cores=1)
    np.testing.assert_array_equal(again.on_scale, posterior.on_scale)
    other = _fit(seed=5)
    assert not np.array_equal(other.on_scale, posterior.on_scale)


def test_a_finished_file_is_read_not_drawn_again(posterior: BayesFit, file: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sampling, "_nutpie", None)
    np.testing.assert_array_equal(_fit(file=file).on_scale, posterior.on_scale)
    with pytest.raises(FitError, match="holds another run"):
        _fit(file=file, seed=9)


def test_an_interrupted_run_goes_on_with_the_missing_chains(
    posterior: BayesFit, tmp_path: Path, monkeypatch: Any
) -> None:
    """Interrupted when its first chain is done: that chain is kept, and the same call draws the other one."""
    path = tmp_path / "half.nc"
    write = sampling._write

    def stop(file: Any, mark: str, done: dict[int, Any]) -> None:
        write(file, mark, done)
        raise KeyboardInterrupt

    monkeypatch.setattr(sampling, "_write", stop)
    half = _fit(file=path, cores=1)
    assert half.posterior.sizes["chain"] == 1
    assert any("1 of 2 chains are kept" in w for w in half.warnings)
    monkeypatch.setattr(sampling, "_write", write)
    whole = _fit(file=path)
    assert any("were read from half.nc" in w for w in whole.warnings)
    np.testing.assert_array_equal(whole.on_scale, posterior.on_scale)


def test_tia_and_dose_use_the_draws(posterior: BayesFit) -> None:
    from pkmodel.dosimetry.absorbed import dose
    from pkmodel.dosimetry.integration import integrate
    from pkmodel.dosimetry.s_values import s_self

    tia = integrate(posterior, draws=400)
    draws = posterior.draws_on_scale(400)
    decay = nuclide("Lu-177").decay_constant
    exact = 1000 * np.exp(draws[:, 0]) / (np.exp(draws[:, 1]) + decay)  # dose times fraction over the effective rate
    got = np.sort(tia.data["tia"].to_numpy().ravel())
    np.testing.assert_allclose(got, np.sort(exact), rtol=1e-9)
    absorbed = dose(tia, masses={"liver": 1800.0}).data["dose"].to_numpy().ravel()
    one = s_self("Lu-177", 1800.0, organ="liver")  # Gy/(MBq h)
    spread = float(np.hypot(exact.std() / exact.mean(), one.relative_sd))
    report("dose [Gy]", float(exact.mean() * one.value), float(absorbed.mean()), rtol=4 * spread / 20)
    report("its relative SD", spread, float(absorbed.std() / absorbed.mean()), rtol=4 / np.sqrt(2 * 400))


def test_the_tree_is_written_as_netcdf(posterior: BayesFit, tmp_path: Path) -> None:
    import xarray as xr

    posterior.to_netcdf(tmp_path / "fit.nc")
    with xr.open_datatree(tmp_path / "fit.nc", engine="h5netcdf") as back:
        np.testing.assert_array_equal(back["posterior"]["additive"], posterior.posterior["additive"])
        assert back.attrs["model"] == "organ_1_phase_Lu177"


def test_a_curve_is_predicted_as_in_least_squares(posterior: BayesFit) -> None:
    got = posterior.predict("liver", [2.0, 48.0])
    rate = np.exp(posterior.x[1]) + nuclide("Lu-177").decay_constant
    np.testing.assert_allclose(got, 1000 * np.exp(posterior.x[0]) * np.exp(-rate * np.array([2.0, 48.0])), rtol=1e-9)


def test_ranks_of_a_few_patients_are_uniform(posterior: BayesFit, machine: dict[str, Any]) -> None:
    """Calibration by simulation, 24 patients on the machine code of this file; 500 in ``statistics/test_sbc.py``."""
    found = calibrate(
        posterior.likelihood, PRIORS, patients=24, draws=300, tune=200, seed=2, compiled=machine["compiled"]
    )
    low, high = binom.ppf(0.0005, 24, 0.95) / 24, binom.ppf(0.9995, 24, 0.95) / 24
    for name, p in found.chi_square().items():
        share = found.coverage[name]
        print(f"{name}: uniform with p = {p:.3f}; intervals hold {share:.3f}, tolerance {low:.3f} to {high:.3f}")
        assert p > 0.001 and found.inside_envelope(0.999)[name] and low <= share <= high


def test_mistakes_are_refused_by_name() -> None:
    with pytest.raises(FitError, match="prior of k_uptake: not free"):
        _fit(priors={"k_uptake": {"kind": "normal", "mean": 1, "sd": 1}})
    with pytest.raises(FitError, match="sampler 'emcee' is not known"):
        _fit(sampler="emcee")
    with pytest.raises(FitError, match="draws = 0 must be"):
        _fit(draws=0)
    with pytest.raises(FitError, match="only method='bayes' draws"):
        fit("organ_1_phase", _data(), PROTOCOL, draws=100)  # type: ignore[call-overload]
    with pytest.raises(FitError, match="give at least two"):
        compare_posteriors([])


@pytest.mark.slow
def test_pymc_s_own_sampler_and_the_operation_give_the_same_posterior(posterior: BayesFit, monkeypatch: Any) -> None:
    """Another sampler, and the operation instead of the closed form: medians agree within their Monte Carlo errors."""
    other = _fit(sampler="pymc", route="operation", draws=1000, tune=500)
    assert "modes" in other.how and fitting is not None
    for name in posterior.names:
        a: Any = posterior.table.loc[name]
        b: Any = other.table.loc[name]
        error = np.hypot(a["sd"] / np.sqrt(a["ess_bulk"]), b["sd"] / np.sqrt(b["ess_bulk"]))
        report(f"{name}: median", float(a["value"]), float(b["value"]), atol=float(5 * error))
    weights = compare_posteriors([posterior, other])
    assert len(weights) == 2
