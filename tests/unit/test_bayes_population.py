"""A population by full Bayes: what its graph computes, and what becomes of its draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from synthetic import curve, curves, protocol

from pkmodel.assembly import load_model
from pkmodel.errors import FitError
from pkmodel.inference.bayes.hierarchical import _people, _rich, _spread_priors, build_population, fit_population_bayes
from pkmodel.inference.bayes.population_result import BayesPopulation, finished
from pkmodel.inference.bayes.priors import Prior, noise_priors_of, priors_of
from pkmodel.inference.population.crowd import Crowd, gather_crowd
from pkmodel.inference.population.effects import Effects, relation
from pkmodel.inference.population.people import bind_people
from pkmodel.nuclides import nuclide
from support import report, shared

T = np.array([2.0, 20.0, 48.0, 96.0, 144.0, 168.0])
DECAY = nuclide("Lu-177").decay_constant
PRIORS = {
    "fraction": {"kind": "lognormal", "median": 0.02, "cv": 0.5},
    "k_washout": {"kind": "lognormal", "median": 0.01, "cv": 0.5},
    "additive": {"kind": "lognormal", "median": 0.3, "cv": 1.0},
    "omega k_washout": {"kind": "halfnormal", "sd": 0.4},
}
RULES = protocol("fraction k_washout", priors=PRIORS)


def study(subjects: int, seed: int = 1, times: Any = T) -> list[Any]:
    """Subjects whose fraction and washout vary by 30 %, washout with the power of weight; noise of 0.3 MBq."""
    rng = np.random.default_rng(seed)
    out = []
    for k in range(subjects):
        weight = 50.0 + 40.0 * rng.random()
        fraction = 0.02 * np.exp(0.3 * rng.standard_normal())
        rate = 0.012 * np.exp(0.3 * rng.standard_normal()) * (weight / 70) ** -0.25 + DECAY
        value = 1000 * fraction * np.exp(-rate * times) + 0.3 * rng.standard_normal(times.size)
        name = f"s{k + 1}"
        out.append(
            curves(curve("liver", times, value, subject=name), subject=name, body_mass=1000 * weight)
        )  # body mass in g
    return out


EFFECTS = Effects(
    between={"fraction": 0.3, "k_washout": 0.3},
    correlated=(("fraction", "k_washout"),),
    covariates=(relation("k_washout", "weight", coefficient=-0.25, reference=70, unit="kg"),),
)


def crowd_of(effects: Effects, subjects: int = 3) -> Crowd:
    """Bound subjects."""
    people, _ = bind_people(load_model("organ_1_phase"), study(subjects), RULES, effects)
    return gather_crowd(people, effects)


def priors_for(crowd: Crowd) -> tuple[dict[str, Prior], dict[str, Prior], dict[str, Prior]]:
    """Of typical values, spreads and noise."""
    model = crowd.people[0].likelihood.model
    return (
        priors_of(model, crowd.layout.slots, PRIORS)[0],
        _spread_priors(crowd.layout, PRIORS)[0],
        noise_priors_of(crowd.noise, PRIORS)[0],
    )


def test_spreads_get_priors_and_what_is_not_said_is_told() -> None:
    found, said = _spread_priors(crowd_of(EFFECTS).layout, PRIORS)
    assert found["omega k_washout[liver]"].a == 0.4
    assert found["omega fraction[liver]"].kind == "halfnormal" and "omega fraction[liver]" in said[0]


@pytest.mark.parametrize("centred", [False, True])
def test_the_graph_is_the_likelihood_at_everybody_s_own_parameters(centred: bool) -> None:
    """Evaluated without compiling: parameters from the layout's own formula, density from the noise's."""
    pytensor: Any = pytest.importorskip("pytensor")

    effects = Effects(between={"fraction": 0.3, "k_washout": 0.3}, covariates=EFFECTS.covariates)
    crowd = crowd_of(effects)
    typical, spreads, sizes = priors_for(crowd)
    model = build_population(crowd, typical, spreads, sizes, centred=centred, route="closed form").model
    wanted = [model["x"], model["likelihood"]]
    inputs = model.free_RVs
    rng = np.random.default_rng(2)
    values = {rv.name: np.abs(0.1 + 0.3 * rng.random(rv.shape.eval())) for rv in inputs}
    values["fraction[liver]"], values["k_washout[liver]"] = np.array(0.021), np.array(0.011)
    values["weight on k_washout"] = np.array(-0.4)
    f = pytensor.function(inputs, wanted, mode=pytensor.compile.mode.Mode(linker="py"), on_unused_input="ignore")
    x, score = f(*(values[rv.name] for rv in inputs))
    layout = crowd.layout
    theta = np.log([0.021, 0.011])
    phi = layout.start.copy()
    phi[layout.parts["theta"]], phi[layout.parts["coefficients"]] = theta, [-0.4]
    sd = np.array([values["omega fraction[liver]"], values["omega k_washout[liver]"]])
    eta = values["subjects"] - layout.typical(phi) if centred else values["raw subjects"] * sd
    want = layout.typical(phi) + eta @ layout.design.T
    np.testing.assert_allclose(x, want, rtol=1e-12)
    z = np.log([values["additive"]])
    density = crowd.noise.log_density(crowd.predict(want).value, z, crowd.data).pointwise.sum()
    report("log density", float(density), float(score), rtol=1e-9)


@pytest.mark.parametrize("correlated", [False, True])
def test_integrating_out_the_subjects_leaves_the_covariance_of_all_effects(correlated: bool) -> None:
    """Not centred, parameters are linear in standard normal numbers: their covariance is that of the layout's effects.

    Three subjects, of whom one has no second occasion; washout varies between both, the fraction between subjects.
    """
    pytensor: Any = pytest.importorskip("pytensor")

    data = [c.replace(occasion="1") for c in study(3)] + [c.replace(occasion="2") for c in study(2, seed=5)]
    between = {"fraction": 0.3, "k_washout": 0.2}
    effects = Effects(between=between, occasion={"k_washout": 0.15}, correlated=(tuple(between),) if correlated else ())
    people, _ = bind_people(load_model("organ_1_phase"), data, RULES, effects)
    crowd = gather_crowd(people, effects)
    layout = crowd.layout
    model = build_population(crowd, *priors_for(crowd), centred=False, route="operation").model
    values: dict[str, Any] = {v.name: np.zeros(v.shape.eval()) for v in model.free_RVs}
    values |= {
        "fraction[liver]": np.array(0.02), "k_washout[liver]": np.array(0.012), "omega fraction[liver]": np.array(0.3),
        "omega k_washout[liver]": np.array(0.2), "occasion k_washout[liver]": np.array(0.15),
        "raw correlation 0": np.array([0.8]),  # (1 + 0.6)/2
    }  # fmt: skip
    mode = pytensor.compile.mode.Mode(linker="py")
    f = pytensor.function(model.free_RVs, model["x"], mode=mode, on_unused_input="ignore")
    moved = [v.name for v in model.free_RVs if v.name.startswith(("raw subjects", "raw occasions"))]
    sizes = [values[n].size for n in moved]

    def at(z: Any) -> Any:
        parts = dict(zip(moved, np.split(z, np.cumsum(sizes)[:-1]), strict=True))
        return f(*(parts[v.name].reshape(values[v.name].shape) if v.name in parts else values[v.name]
                   for v in model.free_RVs))  # fmt: skip

    middle = at(np.zeros(sum(sizes)))
    np.testing.assert_allclose(middle, np.tile(np.log([0.02, 0.012, 0.012]), (3, 1)), rtol=1e-12)
    slope = np.stack([at(e) - middle for e in np.eye(sum(sizes))], axis=-1)  # (people, columns, numbers)
    covariance = np.diag([0.09, 0.04, 0.0225, 0.0225])
    covariance[0, 1] = covariance[1, 0] = 0.6 * 0.3 * 0.2 if correlated else 0.0
    want = layout.design @ covariance @ layout.design.T
    for i, used in enumerate(layout.used):
        got = slope[i] @ slope[i].T
        np.testing.assert_allclose(got[np.ix_(used, used)], want[np.ix_(used, used)], rtol=1e-10, atol=1e-12)
        for other in range(i):
            np.testing.assert_allclose(slope[i][used] @ slope[other][layout.used[other]].T, 0.0, atol=1e-12)


def _drawn(crowd: Crowd, draws: int = 400) -> BayesPopulation:
    """A posterior that was made up: 30 % of spread, everybody shrunk by half."""
    import xarray as xr

    rng = np.random.default_rng(8)
    shape = (4, draws)
    made = {
        "fraction[liver]": 0.02 * np.exp(0.05 * rng.standard_normal(shape)),
        "k_washout[liver]": 0.012 * np.exp(0.05 * rng.standard_normal(shape)),
        "omega fraction[liver]": np.full(shape, 0.3) + 1e-3 * rng.standard_normal(shape),
        "omega k_washout[liver]": np.full(shape, 0.2) + 1e-3 * rng.standard_normal(shape),
        "additive": 0.3 + 0.01 * rng.standard_normal(shape),
        "weight on k_washout": -0.25 + 0.01 * rng.standard_normal(shape),
    }
    data: dict[str, Any] = {k: (("chain", "draw"), v) for k, v in made.items()}
    correlation = np.broadcast_to(np.array([[1.0, 0.5], [0.5, 1.0]]), (*shape, 2, 2))
    data["correlation 0"] = (("chain", "draw", "a", "b"), correlation)
    n = len(crowd.people)
    middle = np.log([0.02, 0.012]) + np.linspace(-1, 1, n)[:, None] * np.array([0.15, 0.1])
    noise = 0.02 * rng.standard_normal((*shape, n, 2))
    data["x"] = (("chain", "draw", "person", "column"), middle + noise)
    stats = xr.Dataset({"diverging": (("chain", "draw"), np.zeros(shape, dtype=bool))})
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset(data), "sample_stats": stats})
    return finished(crowd, tree, *priors_for(crowd), warnings=(), how="made up", seconds=(0, 0), protocol=RULES)


def test_tables_shrinkage_and_the_population_that_is_left_behind() -> None:
    crowd = crowd_of(EFFECTS, subjects=21)
    found = _drawn(crowd)
    row: Any = found.table.loc["fraction[liver]"]
    report("typical fraction", 0.02, float(row["value"]), rtol=0.02)
    report("CV between subjects", 100 * np.sqrt(np.expm1(0.09)), float(row["bsv_cv_percent"]), rtol=1e-2)
    spread = 0.15 * np.linspace(-1, 1, 21).std(ddof=1)
    report("shrinkage", 100 * (1 - spread / 0.3), float(row["shrinkage_percent"]), atol=1.0)
    assert len(found.individuals) == 42 and set(found.individuals["unit"]) == {"1", "1/h"}
    assert "between subjects CV %" in str(found) and "<table" in found._repr_html_()
    population = found.population(source="made up")
    report("theta", np.log(0.02), float(population.theta[0]), atol=5e-3)
    report("omega", 0.09, float(population.omega[0, 0]), rtol=1e-2)
    report("covariance", 0.5 * 0.3 * 0.2, float(population.omega[0, 1]), rtol=1e-2)
    assert population.draws is not None and len(population.draws.theta) == 1600
    assert population.covariates[0].covariate == "weight" and population.subjects == 21
    report("coefficient", -0.25, population.covariates[0].coefficient, atol=1e-2)


def test_few_values_are_drawn_as_deviations_many_as_they_are() -> None:
    assert _rich(crowd_of(EFFECTS))
    people, _ = bind_people(load_model("organ_1_phase"), study(3, times=T[:3]), RULES, EFFECTS)
    assert not _rich(gather_crowd(people, EFFECTS))


def test_one_subject_is_no_population_and_an_unknown_prior_is_refused() -> None:
    model = load_model("organ_1_phase")
    with pytest.raises(FitError, match="1 subject is no population"):
        fit_population_bayes(model, study(1), RULES)
    with pytest.raises(FitError, match="prior of k_uptake: not free"):
        fit_population_bayes(model, study(2), RULES, priors={"k_uptake": {"kind": "normal", "mean": 1, "sd": 1}})


def test_a_subject_without_an_occasion_has_no_data_there() -> None:
    data = study(3)
    again = [c.replace(occasion="2") for c in study(2, seed=5)]
    data = [c.replace(occasion="1") for c in data] + again
    effects = Effects(between={"fraction": 0.3}, occasion={"k_washout": 0.2})
    people, _ = bind_people(load_model("organ_1_phase"), data, RULES, effects)
    crowd = gather_crowd(people, effects)
    everyone = _people(crowd)
    assert everyone.width == 3 and len(everyone.places[2]) == 2
    x = np.tile(np.log([0.02, 0.012, 0.012]), (3, 1))
    value, tangent, good = np.zeros(30), np.zeros((30, 3)), np.zeros(3)
    everyone.solve(x, value, tangent, good, True)
    assert good.all() and not tangent[-6:, 2].any()
    np.testing.assert_allclose(value, np.tile(1000 * 0.02 * np.exp(-(0.012 + DECAY) * T), 5), rtol=1e-9)


@pytest.mark.slow
def test_a_population_with_correlation_and_a_covariate_is_found_again() -> None:
    """30 subjects of a known population; truth inside 95 % intervals, chains that agree."""
    found = fit_population_bayes(
        load_model("organ_1_phase"), study(30), RULES, EFFECTS, draws=800, tune=600, chains=4, seed=2
    )
    print(found)
    for name, truth in {
        "fraction[liver]": 0.02, "k_washout[liver]": 0.012, "omega fraction[liver]": 0.3,
        "omega k_washout[liver]": 0.3, "additive": 0.3, "weight on k_washout": -0.25,
    }.items():  # fmt: skip
        row: Any = found.table.loc[name]
        assert row["low"] < truth < row["high"], name
        assert row["rhat"] < 1.01 and row["ess"] > 400, name
    assert found.quality["divergences"] == 0
    correlation = found.posterior["correlation 0"].to_numpy()[..., 0, 1]
    low, middle, high = np.quantile(correlation, [0.025, 0.5, 0.975])
    print(f"correlation: expected 0, got {middle:.3f}, 95 % from {low:.3f} to {high:.3f}")
    assert low < 0 < high
    assert found.population().omega[0, 1] != 0


@pytest.mark.slow
def test_54_scans_of_ds004869() -> None:
    """One tissue compartment, K1 and k2 varying between 27 subjects and their two scans, measured blood.

    Chains agree (R-hat below 1.01) without divergences, and subjects are drawn towards each other.
    """
    from pkmodel.formats.bids import read_bids

    units = {
        "tissue": "Bq/mL", "InjectedRadioactivity": "kBq", "plasma_radioactivity": "kBq/mL",
        "whole_blood_radioactivity": "kBq/mL",
    }  # fmt: skip
    scans = read_bids(
        shared("data/openneuro_ds004869"), blood_decay_corrected=True, negative="zero", regions=["Left-Thalamus"],
        unit="kBq/mL", units=units,
    )  # fmt: skip
    rules = protocol(
        {"K1": {"start": 0.15}, "k2": {"start": 0.08}}, fixed={"vB": 0.05}, error={"kind": "counts", "pooled": True},
        priors={
            "K1": {"kind": "lognormal", "median": 0.1, "cv": 1.0},
            "k2": {"kind": "lognormal", "median": 0.05, "cv": 1.0},
        },
    )  # fmt: skip
    effects = Effects(between={"K1": 0.3, "k2": 0.3}, occasion={"K1": 0.2, "k2": 0.2})
    inputs: Any = {f"{c.subject} {c.occasion}": "arterial" for c in scans}
    model = load_model("one_tissue")
    found = fit_population_bayes(model, scans, rules, effects, inputs=inputs, draws=1500, tune=700, chains=4, seed=1)
    print(found, found.seconds)
    assert len(scans) == 54 and len(found.crowd.people) == 27
    assert max(v["rhat"] for v in found.quality["parameters"].values()) < 1.01
    assert found.quality["divergences"] == 0
    worth = min(v["ess_bulk"] for v in found.quality["parameters"].values())
    print(f"effective draws at least {worth:.0f}, wanted 400")
    assert worth > 400
    from pkmodel.inference.fitting import fit

    for parameter in ("K1", "k2"):
        alone = []
        for c in scans:
            one = fit(model, c, rules.replace(priors={}), inputs="arterial")
            alone.append(one.values[f"{parameter}[Left-Thalamus]"])
        table = found.individuals
        together = table[table["parameter"] == f"{parameter}[Left-Thalamus]"]["value"].to_numpy()
        apart, closer = float(np.std(np.log(alone))), float(np.std(np.log(together)))
        print(f"{parameter}: SD of the logarithm over 54 scans, each alone {apart:.3f}, as a population {closer:.3f}")
        assert 0.5 * apart < closer < apart
