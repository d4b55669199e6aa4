"""A population is kept as text: what comes back is what went in, and what does not fit the model is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from psma_cohort import entry

import pkmodel as pk
from pkmodel.errors import FitError
from pkmodel.inference.population_file import PopulationModel
from pkmodel.inference.population_parts import CovariateEffect, EndpointNoise, PopulationDraws
from support import report


@pytest.fixture(scope="module")
def model() -> pk.Model:
    return pk.label(pk.load_model("psma617_siebinga2023"), "Lu-177", cold=True)


@pytest.fixture(scope="module")
def population(model: pk.Model) -> PopulationModel:
    return PopulationModel.from_model(
        model,
        noise={"kidneys": 0.304, "blood": EndpointNoise(additive=0.25, unit="MBq/L", proportional=0.193)},
        occasion={"k15_typical": 0.435},
        correlation=pd.DataFrame([[1, 0.3], [0.3, 1]], index=["Bmax", "k13"], columns=["Bmax", "k13"]),
        subjects=10,
    )


def test_spread_of_a_library_model_is_that_of_the_paper(population: PopulationModel) -> None:
    """Siebinga 2023, doi:10.1002/psp4.12914, Table 2; omega^2 = ln(1 + cv^2)."""
    published = {"k10_typical": 17.2, "Bmax": 59.3, "k13": 16.1, "k41": 9.5, "k15_typical": 58.8}
    assert list(population.labels) == list(published)
    for name, cv in published.items():
        report(f"CV of {name} [%]", cv, entry(population.table, name, "between subjects [%]"), rtol=1e-12)
    report(
        "CV of k15 between cycles [%]",
        43.5,
        entry(population.table, "k15_typical", "between occasions [%]"),
        rtol=1e-12,
    )
    report("variance of ln k13", np.log(1 + 0.161**2), population.omega[2, 2], rtol=1e-12)
    report(
        "covariance", 0.3 * np.sqrt(population.omega[1, 1] * population.omega[2, 2]), population.omega[1, 2], rtol=1e-12
    )


def test_what_is_saved_comes_back_to_the_last_bit(tmp_path: Path, model: pk.Model, population: PopulationModel) -> None:
    rng = np.random.default_rng(1)
    k = len(population.slots)
    many = np.repeat(population.omega[None], 7, axis=0)
    full = population.replace(
        theta_covariance=np.diag(rng.random(k)),
        draws=PopulationDraws(rng.standard_normal((7, k)), many, 0 * many),
        covariates=(CovariateEffect(parameter="k13", covariate="age", kind="power", coefficient=-0.2, reference=60.0),),
    )
    path = tmp_path / "psma.toml"
    full.save(path)
    back = PopulationModel.load(path, model)
    for name in ("theta", "theta_covariance", "omega", "occasion_omega"):
        assert np.array_equal(getattr(back, name), getattr(full, name)), name
    for name in ("slots", "noise", "fixed", "covariates", "digest", "model", "nuclide", "subjects", "source"):
        assert getattr(back, name) == getattr(full, name), name
    assert back.draws is not None and full.draws is not None
    for name in ("theta", "omega", "occasion_omega"):
        assert np.array_equal(getattr(back.draws, name), getattr(full.draws, name)), name
    path.with_suffix(".nc").unlink()
    with pytest.raises(FitError, match="are not beside it"):
        PopulationModel.load(path)


def test_a_person_may_write_one(tmp_path: Path, model: pk.Model) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        f'format = "pkmodel population 1"\nmodel = "mine"\ndigest = "{model.digest}"\n'
        '[[parameter]]\nname = "k13"\nunit = "1/min"\ntypical = 0.0001445\n'
        '[[parameter]]\nname = "k31"\nunit = "1/h"\ntypical = 0.0141\n'
        '[between]\nparameters = ["k13"]\ncv = [0.161]\n[noise.kidneys]\nproportional = 0.1\n',
        encoding="utf-8",
    )
    found = PopulationModel.load(path, model)
    report("ln k13 in 1/h", np.log(0.0001445 * 60), found.theta[0], rtol=1e-14)
    report("omega^2", np.log1p(0.161**2), found.omega[0, 0], rtol=1e-14)
    assert list(found.varying) == [0]


def test_values_of_parameters_that_were_held_come_with_it(model: pk.Model, population: PopulationModel) -> None:
    other = model.replace(k31=0.5)
    report("k31 [1/h]", 0.0141, float(population.apply(other).parameters["k31"].value or 0), rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.replace('unit = "1/h"', 'unit = "1/min"', 1), "unit, typical and theta must agree"),
        (lambda t: t.replace('unit = "1/h"', 'unit = "furlong"', 1), "furlong"),
        (lambda t: t.replace("typical = 40.4", "typical = 404"), "Bmax: typical is 404.* MBq, but theta"),
        (lambda t: t.replace("subjects = 10", "subjekts = 10"), "'subjekts' is not known .did you mean 'subjects'"),
        (lambda t: t.replace('kind = "normal"', 'kind = "gaussian"', 1), "kind 'gaussian' is not known"),
        (lambda t: t.replace("population 1", "population 9"), "this version reads 'pkmodel population 1'"),
        (lambda t: t.replace("  [0.02", "  [-0.02", 1), "not positive definite: its smallest eigenvalue is -0.02"),
        (lambda t: t.replace('["k10_typical", "Bmax"', '["k10_typical", "Bmx"', 1), "'Bmx' .did you mean 'Bmax'"),
        (lambda t: t.replace("[between]", "[between"), "not valid TOML"),
        (
            lambda t: t.replace("additive = 0.25", "additive = -1.0"),
            "additive = -1.0; allowed: finite and not negative",
        ),
        (lambda t: t.replace('unit = "MBq/L"', 'unit = ""'), "has no unit"),
    ],
)
def test_a_file_with_something_wrong_is_refused(
    tmp_path: Path, population: PopulationModel, change: Callable[[str], str], says: str
) -> None:
    path = tmp_path / "p.toml"
    population.save(path)
    text = path.read_text(encoding="utf-8")
    assert change(text) != text
    path.write_text(change(text), encoding="utf-8")
    with pytest.raises(FitError, match=says) as caught:
        PopulationModel.load(path)
    assert "population file" in str(caught.value)


def test_other_equations_are_refused_and_both_are_named(tmp_path: Path, population: PopulationModel) -> None:
    path = tmp_path / "p.toml"
    population.save(path)
    hot_only = pk.label(pk.load_model("psma617_siebinga2023"), "Lu-177")
    with pytest.raises(FitError, match="accept_changed_model=True") as caught:
        PopulationModel.load(path, hot_only)
    assert population.digest[:12] in str(caught.value) and hot_only.digest[:12] in str(caught.value)
    PopulationModel.load(path, hot_only, accept_changed_model=True)
    with pytest.raises(FitError, match="has no parameter k10_typical"):
        PopulationModel.load(path, pk.load_model("organ_1_phase"), accept_changed_model=True)
    with pytest.raises(FitError, match="there is no such file"):
        PopulationModel.load(tmp_path / "none.toml")


def test_prior_of_a_subject(population: PopulationModel) -> None:
    effects = (
        CovariateEffect(parameter="k13", covariate="GFR", kind="power", coefficient=0.8, reference=90.0, unit="mL/min"),
        CovariateEffect(parameter="k13", covariate="sex", kind="category", coefficient=-0.1, level="female"),
        CovariateEffect(parameter="k41", covariate="age", kind="proportional", coefficient=-0.01, reference=60.0),
        CovariateEffect(parameter="Bmax", covariate="age", kind="exponential", coefficient=0.02, reference=60.0),
    )
    one = population.replace(covariates=effects)
    mean, covariance = one.individual_prior({"GFR": "45 mL/min", "sex": "female", "age": 70})
    shift = mean - population.theta
    report("power and category", 0.8 * np.log(0.5) - 0.1, shift[2], rtol=1e-12)
    report("proportional", np.log(0.9), shift[3], rtol=1e-12)
    report("exponential", 0.2, shift[1], rtol=1e-12)
    assert np.allclose(covariance, population.omega + population.occasion_omega)
    with pytest.raises(FitError, match="covariate sex of this subject is not given"):
        one.individual_prior({"GFR": 45.0, "age": 70})
    with pytest.raises(FitError, match="needed: a number in mL/min"):
        one.individual_prior({"GFR": "45 kg", "sex": "female", "age": 70})
    mean, covariance = population.individual_prior(previous=(np.zeros(5), np.eye(5)))
    assert not mean.any() and np.allclose(covariance, np.eye(5) + population.occasion_omega)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"spread": {"k99": 0.1}}, "spread of 'k99'"),
        ({"spread": {"k13": -0.1}}, "spread of k13 is -0.1"),
        ({"occasion": {"k13": float("nan")}}, "occasion of k13 is nan"),
        ({"noise": {"kidneys": 0.0}}, "both zero"),
        ({"relative_se": {"k13": 0.1}}, "relative_se is not given for k10_typical"),
        (
            {"spread": dict.fromkeys(("k10_typical", "Bmax", "k13", "k41", "k15_typical"), 0)},
            "no parameter has a spread",
        ),
        ({"correlation": pd.DataFrame([[1, 2], [2, 1]], ["k13", "k41"], ["k13", "k41"])}, "not positive definite"),
    ],
)
def test_a_population_that_cannot_be_is_refused(model: pk.Model, settings: dict[str, object], says: str) -> None:
    with pytest.raises(FitError, match=says):
        PopulationModel.from_model(model, **{"noise": {"kidneys": 0.1}, **settings})  # type: ignore[arg-type]
