"""Priors, density, closed forms and judgements of Bayesian fits: what needs no compiled model."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from synthetic import curve, curves, protocol

from pkmodel.assembly import load_model
from pkmodel.errors import FitError
from pkmodel.inference.bayes.calibration import Calibration
from pkmodel.inference.bayes.correlations import groups_of, lkj_root
from pkmodel.inference.bayes.judged import judge, judge_data
from pkmodel.inference.bayes.priors import Prior, noise_priors_of, prior_from_dict, priors_of
from pkmodel.inference.fitting import bind_subject
from pkmodel.inference.likelihood import Likelihood
from support import report

T = np.array([2.0, 24.0, 72.0, 168.0])


def bound(model: str = "organ_2_phase", free: str = "fraction k_uptake k_washout", **changes: object) -> Likelihood:
    """A likelihood of made-up values."""
    values = curve("liver", T, 20 * np.exp(-0.01 * T))
    return bind_subject(load_model(model), curves(values), protocol(free, **changes), sparse=True)[2]


def test_a_lognormal_prior_has_the_median_and_cv_it_is_given() -> None:
    prior = prior_from_dict({"kind": "lognormal", "median": 0.8, "cv": 0.5}, "k")
    report("median", 0.8, float(prior.quantile(0.5)), rtol=1e-12)
    q = prior.quantile((np.arange(200_000) + 0.5) / 200_000)
    report("cv", 0.5, float(q.std() / q.mean()), rtol=2e-3)


@pytest.mark.parametrize(
    "prior",
    [
        Prior("lognormal", 2.0, 0.7, 0.5, 3.0),
        Prior("normal", 1.0, 2.0, 0.0, 4.0),
        Prior("halfnormal", 2.0, 0.0, 0.0, 3.0),
        Prior("uniform", 1.0, 3.0, 1.0, 3.0),
        Prior("beta", 2.0, 3.0, 1.0, 5.0),
        Prior("logitnormal", 2.0, 1.5, 1.0, 5.0),
    ],
    ids=lambda p: p.kind,
)
def test_density_and_quantiles_of_a_prior_belong_together(prior: Prior) -> None:
    """The density integrates to one and to the probabilities its quantiles stand for."""
    q = prior.quantile(np.linspace(0.0005, 0.9995, 20001))
    area = np.trapezoid(np.exp(prior.log_density(q)), q)
    report(f"area of {prior}", 0.999, float(area), rtol=1e-5)
    half = q[: q.size // 2 + 1]
    report("below the median", 0.4995, float(np.trapezoid(np.exp(prior.log_density(half)), half)), rtol=1e-5)
    assert prior.log_density(np.array([prior.lower - 0.1])) == -np.inf


def test_a_prior_is_cut_off_at_the_bounds() -> None:
    prior = Prior("normal", 0.0, 1.0, 0.0, np.inf)
    assert prior.cut
    report("half normal", float(stats.halfnorm.logpdf(0.7)), float(prior.log_density(np.array([0.7]))[0]), rtol=1e-12)


@pytest.mark.parametrize("prior", [Prior("lognormal", 0.015, 2.9, 0.0, 1.0), Prior("halfnormal", 0.5, 0.0, 0.0, 1.0)])
def test_a_prior_that_is_cut_off_has_a_slope_everywhere(prior: Prior) -> None:
    import pymc as pm

    with pm.Model() as model:
        prior.variable("x")
    slope, start = model.compile_dlogp(), model.initial_point()
    (name,) = start
    for step in (-6.0, -2.0, 0.0, 2.0, 6.0):
        assert np.isfinite(slope({name: start[name] + step})).all(), f"no slope at {step} from the start"


def test_defaults_are_said_and_an_unbounded_parameter_without_a_prior_is_refused() -> None:
    likelihood = bound()
    found, said = priors_of(likelihood.model, likelihood.slots, {})
    assert found["fraction[liver]"].kind == "lognormal"  # not uniform: its bounds span decades
    low, high = found["k_washout[liver]"].quantile(np.array([0.025, 0.975]))
    report("ratio of the ends of 95 %", float(np.exp(2 * 1.959964 * 1.5)), float(high / low), rtol=1e-3)
    assert any("fraction" in s and "wide about its start" in s for s in said)
    plasma = load_model("two_compartment")
    slots = [s for s in bound().slots]
    from pkmodel.inference.protocol import Free
    from pkmodel.inference.slots import make_slot

    slots = [make_slot(plasma, "CL", Free(), ""), make_slot(plasma, "V", Free(), "")]
    assert priors_of(plasma, (slots[0],), {})[0]["CL"].kind == "lognormal"  # value and cv, published
    with pytest.raises(FitError, match=r"no prior for V, which is not bounded.*priors = \{ V ="):
        priors_of(plasma, tuple(slots), {})


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"kind": "gamma", "a": 1}, "kinds: lognormal"),
        ({"kind": "lognormal", "median": 1.0}, "cv = None must be a finite number"),
        ({"kind": "lognormal", "median": -1.0, "cv": 1.0}, "median = -1.0 must be above zero"),
        ({"kind": "uniform", "lower": 2, "upper": 1}, "must lie below"),
        ({"kind": "normal", "mean": 1, "sd": 1, "cv": 2}, "cv: not known for a normal prior"),
        (3.0, "expected a table"),
    ],
)
def test_a_prior_that_makes_no_sense_is_refused(raw: object, said: str) -> None:
    with pytest.raises(FitError, match=said):
        prior_from_dict(raw, "prior of k")


def test_a_prior_outside_the_bounds_is_refused() -> None:
    likelihood = bound()
    with pytest.raises(FitError, match="nothing between the bounds"):
        priors_of(likelihood.model, likelihood.slots, {"fraction": {"kind": "normal", "mean": 50, "sd": 0.1}})


def test_sizes_of_the_noise_get_a_wide_prior_about_their_start() -> None:
    likelihood = bound()
    found, said = noise_priors_of(likelihood.noise, {})
    (name,) = likelihood.noise.names
    report("median", float(np.exp(likelihood.noise.start[0])), float(found[name].quantile(0.5)), rtol=1e-9)
    report("factor of 19", 18.9, float(found[name].quantile(0.975) / found[name].quantile(0.5)), rtol=2e-3)
    assert "factor of 19" in said[0]


def test_a_protocol_holds_priors() -> None:
    p = protocol("k_washout", priors={"k_washout": {"kind": "lognormal", "median": 0.01, "cv": 0.5}})
    assert p.priors["k_washout"]["cv"] == 0.5
    with pytest.raises(FitError, match="priors: expected a table"):
        protocol("k_washout", priors=["k_washout"])


def _tree(values: np.ndarray, diverging: int = 0) -> object:
    import xarray as xr

    chains, draws = values.shape
    flags = np.zeros((chains, draws), dtype=bool)
    flags.ravel()[:diverging] = True
    energy = np.random.default_rng(5).standard_normal((chains, draws))
    stats_ = xr.Dataset({"diverging": (("chain", "draw"), flags), "energy": (("chain", "draw"), energy)})
    return xr.DataTree.from_dict({"posterior": xr.Dataset({"k": (("chain", "draw"), values)}), "sample_stats": stats_})


def test_good_chains_are_not_blamed_and_bad_ones_are_said_to_be() -> None:
    rng = np.random.default_rng(1)
    good = rng.standard_normal((4, 500))
    assert judge(_tree(good), ["k"])[0] == []
    said, found = judge(_tree(good + np.array([[0.0], [0.0], [0.0], [3.0]])), ["k"])
    assert "chains do not mix" in said[0] and "the draws are kept" in said[0]
    assert found["parameters"]["k"]["rhat"] > 1.1
    assert "7 of 2000 draws diverged" in judge(_tree(good, 7), ["k"])[0][0]
    slow = np.cumsum(0.05 * rng.standard_normal((4, 200)), axis=1)
    assert judge(_tree(slow), ["k"])[0]


def test_a_value_that_is_not_a_number_names_parameter_and_chain() -> None:
    values = np.zeros((4, 100))
    values[2, 7] = np.nan
    with pytest.raises(FitError, match="k is not a number in chain 2"):
        judge(_tree(values), ["k"])


def test_data_that_do_not_change_in_time_are_said_to_teach_nothing() -> None:
    flat = curve("liver", T, np.full(4, 3.0))
    likelihood = bind_subject(load_model("organ_1_phase"), curves(flat), protocol("fraction k_washout"))[2]
    assert judge_data(likelihood.data) == ["liver: all 4 values are 3, so nothing is learned of any rate"]
    assert judge_data(bound().data) == []


def test_groups_of_correlated_effects() -> None:
    assert groups_of([(0, 0), (1, 1), (2, 2), (2, 0), (3, 3)]) == [[0, 2]]
    assert groups_of([(1, 0), (2, 1)]) == [[0, 1, 2]]


def test_correlations_are_of_the_lkj_distribution() -> None:
    """Of three variables each correlation r has (r + 1)/2 of a beta distribution, eta + 1/2 twice (LKJ 2009)."""
    import pymc as pm
    from pytensor.compile.mode import Mode

    with pm.Model() as model:
        root = lkj_root("partial", 3, 2.0)
    roots = pm.draw(root, draws=3000, random_seed=4, mode=Mode(linker="py"))
    assert len(model.free_RVs) == 1
    found = roots @ roots.transpose(0, 2, 1)
    np.testing.assert_allclose(np.diagonal(found, axis1=1, axis2=2), 1.0, rtol=1e-12)
    for i, j in ((1, 0), (2, 0), (2, 1)):
        p = stats.kstest((found[:, i, j] + 1) / 2, stats.beta(2.5, 2.5).cdf).pvalue
        print(f"correlation of {i} and {j}: beta with p = {p:.3f}, expected above 0.001")
        assert p > 0.001


def _ranked(ranks: np.ndarray) -> Calibration:
    n = len(ranks)
    return Calibration(("k",), np.zeros((n, 1)), -np.ones((n, 1)), np.ones((n, 1)), ranks[:, None], 99)


def test_calibration_tells_uniform_ranks_from_others() -> None:
    rng = np.random.default_rng(3)
    even = _ranked(rng.integers(0, 100, 500))
    assert even.chi_square()["k"] > 0.01 and even.inside_envelope()["k"]
    narrow = _ranked(np.clip(rng.normal(50, 18, 500), 0, 99).astype(int))  # intervals that are too wide
    assert narrow.chi_square()["k"] < 1e-6 and not narrow.inside_envelope()["k"]
    shifted = _ranked(np.clip(rng.integers(0, 100, 500) + 12, 0, 99))
    assert not shifted.inside_envelope()["k"]
    assert even.coverage == {"k": 1.0}
