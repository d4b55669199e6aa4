"""Few scans and a population: the same likelihood in batches, known answers in limits, and refusals by name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from psma_cohort import GIVEN, REGIONS, entry, model, patients, population
from synthetic import curve, curves

import pkmodel as pk
from pkmodel.data import Curves
from pkmodel.errors import DataError, FitError, PkmodelError
from pkmodel.inference.population_file import PopulationModel
from pkmodel.inference.population_parts import CovariateEffect, EndpointNoise, PopulationDraws
from pkmodel.single_time.batch import Rows, predict
from pkmodel.single_time.estimate import Person, loadings, most_probable
from pkmodel.single_time.sampling import sample
from pkmodel.single_time.scans import at_times, bind_scans, noise_of
from support import report

LAMBDA = math.log(2) / pk.nuclide("Lu-177").half_life


def one_phase(**settings: Any) -> tuple[pk.Model, PopulationModel]:
    """A = f A0 exp(-(k + lambda) t): with a log-normal error and ln f normal, every answer is a normal distribution."""
    one = pk.label(pk.load_model("organ_1_phase"), "Lu-177")
    noise = {"kidneys": EndpointNoise(kind="lognormal", proportional=SIGMA)}
    return one, PopulationModel.from_model(one, noise=noise, spread={"fraction": CV}, **settings)


SIGMA, CV = 0.2, 0.4
OMEGA2 = math.log(1 + CV**2)
F, K = 0.01491, 0.009736  # of the library's model


def scan(t: float | list[float], value: float | list[float], region: str = "kidneys", **changes: Any) -> Curves:
    times, values = np.atleast_1d(t), np.atleast_1d(value)
    return curves(curve(region, times, values, **{"injected_activity": GIVEN, **changes}), injected_activity=GIVEN)


def shift(t: float, value: float) -> float:
    """What one scan says of ln f - ln F."""
    return math.log(value / (F * GIVEN * math.exp(-(K + LAMBDA) * t)))


def typical_tia() -> float:
    return F * GIVEN / (K + LAMBDA)


# -- the shared likelihood, in batches ---------------------------------------------------------------------------


def test_batches_predict_what_the_likelihood_predicts() -> None:
    """Values and exact tangents, forwards for a few rows and by the adjoint for many, one patient after the other."""
    people, _ = patients(20, 0.05, times=(24.0, 72.0))
    first, second = np.array([True, False]), np.array([False, True])
    for i, (kept, other) in enumerate(((first, second), (second, first))):  # the same times in all, not in each region
        members = list(people[i])
        members[:2] = members[0].take(kept), members[1].take(other)
        people[i] = people[i].replace(curves=tuple(members))
    people[2] = people[2].decay_correct().to_unit("%IA")
    known = population(0.05)
    bound = [bind_scans(known, model(), p) for p in people]
    x = known.theta + 0.2 * np.random.default_rng(0).standard_normal((20, len(known.theta)))
    for n in (3, 20):
        rows = Rows(known, noise_of(known), tuple(bound[:n]), np.arange(n))
        found = predict(rows, x[:n], tangents=True)
        for i in range(n):
            one = bound[i].likelihood.predict(x[i][bound[i].columns])
            at = slice(rows.start[i], rows.start[i + 1])
            assert np.allclose(found.value[at], one.value, rtol=1e-7)
            scale = np.abs(one.tangent).max()
            assert np.allclose(found.tangent[at][:, bound[i].columns], one.tangent, rtol=1e-6, atol=1e-8 * scale)


def test_frames_and_gradient_of_the_sum_that_is_minimised() -> None:
    known = population(0.05)
    frames = curves(
        curve("kidneys", [24.0, 72.0], [100.0, 60.0], t_end=[24.5, 72.5], injected_activity=GIVEN),
        injected_activity=GIVEN,
    )
    person = Person((bind_scans(known, model(), frames),))
    modes = most_probable(known, [person])
    assert modes.converged.all()
    rows = Rows(known, noise_of(known), person.cycles, np.zeros(1, dtype=np.intp))
    b = loadings(known.omega, known.occasion_omega, 1)[0]

    def total(z: np.ndarray) -> float:
        value = predict(rows, (known.theta + b @ z)[None]).value
        return float(0.5 * z @ z - rows.log_likelihood(value)[0])

    here = total(modes.z[0])
    for e in np.eye(b.shape[1]):  # a minimum: no neighbour is lower
        assert total(modes.z[0] + 0.02 * e) > here and total(modes.z[0] - 0.02 * e) > here


# -- limits in which the answer is known -------------------------------------------------------------------------


def test_one_scan_of_one_phase_is_bayes_rule() -> None:
    one, known = one_phase()
    value = 1.3 * F * GIVEN * math.exp(-(K + LAMBDA) * 48.0)
    found = pk.predict_tia(known, scan(48.0, value), model=one, draws=2000)
    share = OMEGA2 / (OMEGA2 + SIGMA**2)
    report("TIA, median [MBq h]", typical_tia() * 1.3**share, float(found.tia.data["tia_point"][0]), rtol=0.01)
    spread = np.log(found.tia.data["tia"].to_numpy()[0]).std()
    report("sd of ln TIA", math.sqrt(OMEGA2 * (1 - share)), float(spread), rtol=0.05)
    report("share known from the scan", share, float(found.parameters["known from scans"].iloc[0]), atol=0.05)
    report("effective rate [1/h]", K + LAMBDA, float(found.tia.data["rate_point"][0, 0]), rtol=1e-9)
    report("squared distance", math.log(1.3) ** 2 / (OMEGA2 + SIGMA**2), found.distance[0], rtol=1e-6)
    report("after the scan", math.exp(-(K + LAMBDA) * 48), float(found.tia.data["extrapolated_fraction"][0]), rtol=1e-6)
    laplace = pk.predict_tia(known, scan(48.0, value), model=one, draws=2000, method="laplace")
    report("by Laplace", typical_tia() * 1.3**share, float(laplace.tia.data["tia_point"][0]), rtol=0.01)


def test_earlier_cycles_inform_the_patient_and_not_the_cycle() -> None:
    """ln f = eta + kappa_c: with kappa the second cycle keeps its own part (closed form of three normal numbers)."""
    one, known = one_phase(occasion={"fraction": 0.3})
    tau2 = math.log(1 + 0.3**2)
    values = [r * F * GIVEN * math.exp(-(K + LAMBDA) * 48.0) for r in (1.5, 0.8)]
    first, second = (scan(48.0, v) for v in values)
    covariance = np.full((2, 2), OMEGA2) + (tau2 + SIGMA**2) * np.eye(2)
    cross = np.array([OMEGA2, OMEGA2 + tau2])
    expected = cross @ np.linalg.solve(covariance, np.log([1.5, 0.8]))
    left = OMEGA2 + tau2 - cross @ np.linalg.solve(covariance, cross)
    found = pk.predict_tia(known, second, previous=[first], model=one, draws=2000)
    report(
        "TIA of the second cycle", typical_tia() * math.exp(expected), float(found.tia.data["tia_point"][0]), rtol=0.01
    )
    report("sd of ln TIA", math.sqrt(left), float(np.log(found.tia.data["tia"].to_numpy()[0]).std()), rtol=0.05)
    alone = pk.predict_tia(known, second, model=one, draws=2000)
    share = (OMEGA2 + tau2) / (OMEGA2 + tau2 + SIGMA**2)
    report("without the first", typical_tia() * 0.8**share, float(alone.tia.data["tia_point"][0]), rtol=0.01)


@pytest.mark.parametrize("kind", ["standard error", "draws"])
def test_uncertainty_of_the_population_widens_the_interval(kind: str) -> None:
    one, known = one_phase()
    s = 0.5
    if kind == "draws":
        theta = known.theta + s * np.random.default_rng(3).standard_normal((20000, 1))
        still = np.repeat(known.omega[None], len(theta), axis=0)
        unsure = known.replace(draws=PopulationDraws(theta, still, 0 * still))
    else:
        unsure = known.replace(theta_covariance=np.array([[s**2]]))
    value = 1.3 * F * GIVEN * math.exp(-(K + LAMBDA) * 48.0)
    found = pk.predict_tia(unsure, scan(48.0, value), model=one, draws=2000)
    wide = OMEGA2 + s**2
    share = wide / (wide + SIGMA**2)
    report("TIA, median [MBq h]", typical_tia() * 1.3**share, float(found.tia.data["tia_point"][0]), rtol=0.02)
    report(
        "sd of ln TIA",
        math.sqrt(wide * (1 - share)),
        float(np.log(found.tia.data["tia"].to_numpy()[0]).std()),
        rtol=0.06,
    )
    assert "uncertainty included" in str(found)


def test_a_value_below_the_limit_counts_with_its_probability() -> None:
    """Posterior of ln f given y < limit, by quadrature of prior times normal distribution function."""
    from scipy.stats import norm

    one, known = one_phase()
    limit = 0.5 * F * GIVEN * math.exp(-(K + LAMBDA) * 48.0)
    below = scan(48.0, limit, censored=np.array([-1], dtype=np.int8))
    found = pk.predict_tia(known, below, model=one, draws=2000)
    grid = np.linspace(-4, 3, 20001)
    weight = norm.pdf(grid, 0, math.sqrt(OMEGA2)) * norm.cdf((math.log(0.5) - grid) / SIGMA)
    median = grid[np.searchsorted(np.cumsum(weight) / weight.sum(), 0.5)]
    report("TIA, median [MBq h]", typical_tia() * math.exp(median), float(found.tia.data["tia_point"][0]), rtol=0.02)


def test_importance_weights_repair_a_poor_proposal() -> None:
    """With a mode that is wrong by 1.5 standard deviations the draws still find the answer, with fewer that count."""
    from dataclasses import replace

    one, known = one_phase()
    value = 1.3 * F * GIVEN * math.exp(-(K + LAMBDA) * 48.0)
    person = Person((bind_scans(known, one, scan(48.0, value)),))
    modes = most_probable(known, [person])
    wrong = replace(modes, score=modes.score + 1.5 * modes.information[..., 0] ** 0.5)
    settings = {"draws": 2000, "regions": ["kidneys"]}
    good, bad = (sample(known, person, m, rng=np.random.default_rng(1), **settings) for m in (modes, wrong))  # type: ignore[arg-type]
    assert bad.effective < good.effective
    report("median with a wrong proposal", float(np.median(good.tia)), float(np.median(bad.tia)), rtol=0.02)


# -- a whole body ------------------------------------------------------------------------------------------------


def test_a_patient_of_the_psma_population() -> None:
    people, truth = patients(3, 0.05)
    known = population(0.05)
    found = pk.predict_tia(known, at_times(people[0], [48.0], 1.0), regions=[*REGIONS, "remainder"], draws=300)
    for region in REGIONS:
        one = found.tia.data.sel(organ=region)["tia"].to_numpy()
        low, high = np.quantile(one, [0.001, 0.999])
        assert low < entry(truth, "P000", region) < high
    text = str(found)
    assert "not scanned, so known only from other regions and the population: remainder" in text
    assert "integral after the last scan" in text and "is taken as exact" in text
    assert set(found.table.loc["kidneys"].index) == {"population model", "Haenscheid", "Madsen", "population half-life"}
    doses = found.dose(masses=dict.fromkeys(found.regions, "200 g"))
    report("dose over TIA is the S value", float(doses.data["dose_point"][0] / found.tia.data["tia_point"][0]),
           float(doses.data["s_point"][0]), rtol=1e-12)  # fmt: skip
    again = pk.predict_tia(known, at_times(people[0], [48.0], 1.0), regions=[*REGIONS, "remainder"], draws=300)
    assert np.array_equal(found.tia.data["tia"], again.tia.data["tia"])
    assert len(found.plot().axes) == 1


def test_own_half_life_of_an_earlier_cycle_stands_beside() -> None:
    people, _ = patients(2, 0.02)
    later = at_times(people[0], [48.0], 1.0)
    found = pk.predict_tia(population(0.02), later, previous=[people[0]], draws=50)
    table = pd.DataFrame(found.table.xs("kidneys", level="region"))
    assert "own previous half-life" in table.index
    t, y = people[0]["kidneys"].t, people[0]["kidneys"].value
    slope = np.polyfit(t[np.argmax(y) :], np.log(y[np.argmax(y) :]), 1)[0]
    report(
        "own half-life [h]",
        -math.log(2) / slope,
        entry(table, "own previous half-life", "half-life [h]"),
        rtol=1e-6,
    )
    several = pk.predict_tia(population(0.02), at_times(people[0], [24.0, 72.0, 168.0], 1.0), draws=50)
    assert "mono-exponential" in several.table.loc["kidneys"].index


def test_a_scan_from_another_world_is_pointed_out() -> None:
    people, _ = patients(2, 0.05)
    one = at_times(people[0], [48.0], 1.0)
    wrong = one.replace(curves=tuple(c.replace(value=c.value * 1000) for c in one))
    text = str(pk.predict_tia(population(0.05), wrong, draws=50))
    assert "lies outside the population" in text and "check unit, decay flag" in text
    weak = str(pk.predict_tia(population(3.0), one, draws=50))
    assert "the population dominates" in weak


def test_decay_correction_of_the_scan_changes_nothing() -> None:
    people, _ = patients(2, 0.05)
    one = at_times(people[0], [48.0], 1.0)
    plain = pk.predict_tia(population(0.05), one, draws=50)
    corrected = pk.predict_tia(population(0.05), one.decay_correct(), draws=50)
    assert np.allclose(plain.table["TIA [MBq h]"], corrected.table["TIA [MBq h]"], rtol=1e-6)


def test_covariates_move_the_patient() -> None:
    one, known = one_phase()
    effect = CovariateEffect(
        parameter="fraction[kidneys]", covariate="GFR", kind="power", coefficient=1.0, reference=90.0
    )
    known = known.replace(covariates=(effect,), noise={"kidneys": EndpointNoise(kind="lognormal", proportional=50.0)})
    found = pk.predict_tia(known, scan(48.0, 1.0), model=one, covariates={"GFR": 45.0}, draws=2000)
    report("TIA of half the filtration", typical_tia() / 2, float(found.tia.data["tia_point"][0]), rtol=0.03)
    people, _ = patients(2, 0.05)
    big = bind_scans(population(0.05), model(), people[0], {"tumour_volume": "17.3 mL"})
    at = big.likelihood.blocks[0].problem.compiled.parameters.index("tumour_volume")
    report("tumour volume [L]", 0.0173, float(big.likelihood.blocks[0].values[at]), rtol=1e-12)


# -- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (lambda c: c.replace(curves=()), "there is no scan"),
        (lambda c: c.replace(curves=(c["kidneys"].replace(region="spleen"),)), "has no such region; known: .*kidneys"),
        (lambda c: c.replace(curves=(c["kidneys"].replace(region="remainder"),)), "says no residual error for it"),
        (
            lambda c: c.replace(curves=(c["kidneys"].replace(t_start=[-2.0], t_end=[-2.0]),)),
            "-2 h lies before the injec",
        ),
        (
            lambda c: c.replace(curves=(curve("kidneys", [24.0, 24.0], [1.0, 2.0], injected_activity=GIVEN),)),
            "two scans at the same time, 24 h",
        ),
        (lambda c: c.replace(curves=(c["kidneys"].replace(value=[-1.0]),)), "a negative activity"),
        (lambda c: c.replace(curves=(c["kidneys"].replace(nuclide="I-131"),)), "measured with I-131, but the model"),
        (lambda c: c.replace(curves=(c["kidneys"].replace(unit="kg"),)), "kg"),
        (
            lambda c: c.replace(injected_activity=None, curves=(c["kidneys"].replace(injected_activity=None),)),
            "injected activity is not stated",
        ),
    ],
)
def test_scans_that_cannot_be_used_are_refused(given: Any, says: str) -> None:
    people, _ = patients(2, 0.05)
    with pytest.raises(PkmodelError, match=says):
        pk.predict_tia(population(0.05), given(at_times(people[0], [48.0], 1.0)), model=model(), draws=50)


def test_other_requests_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    people, _ = patients(2, 0.05)
    one = at_times(people[0], [48.0], 1.0)
    known = population(0.05)
    plain = pk.load_model("psma617_siebinga2023")
    hot = pk.label(plain, "Lu-177")
    requests: list[tuple[dict[str, Any], str]] = [
        ({"model": hot}, "accept_changed_model=True"),
        ({"regions": ["spleen"]}, "'spleen' is not in"),
        ({"regions": ["blood"]}, "a TIA needs MBq"),
        ({"method": "guess"}, "allowed: importance, laplace"),
        ({"draws": 3}, "needed: 10 or more"),
        ({"covariates": {"age": 50}}, "covariate age is neither"),
        ({"previous": [people[1]]}, "different subjects"),
    ]
    for settings, says in requests:
        with pytest.raises(FitError, match=says):
            pk.predict_tia(known, one, **settings)
    accepted = pk.predict_tia(known, one, model=hot, accept_changed_model=True, draws=50)
    assert "accepted by you" in str(accepted)
    with pytest.raises(FitError, match="is not labelled"):
        pk.predict_tia(known, one, model=plain, accept_changed_model=True)
    with pytest.raises(FitError, match="there is no such file"):
        pk.predict_tia(tmp_path / "none.toml", one)
    with pytest.raises(FitError, match="the cohort is empty"):
        pk.leave_scans_out(known, [])
    with pytest.raises(FitError, match="count = 9"):
        pk.leave_scans_out(known, people, count=9)
    _, two = one_phase()
    with pytest.raises(DataError, match="has no such region"):
        pk.predict_tia(two, one.select(["liver"]))


def test_a_saved_population_finds_its_model_and_gives_the_same(tmp_path: Path) -> None:
    people, _ = patients(2, 0.05)
    one = at_times(people[0], [48.0], 1.0)
    known = population(0.05)
    known.save(tmp_path / "psma.toml")
    direct = pk.predict_tia(known, one, draws=50)
    read = pk.predict_tia(tmp_path / "psma.toml", one, draws=50)
    assert np.allclose(direct.tia.data["tia"], read.tia.data["tia"], rtol=1e-9)


def test_typical_values_that_are_uncertain_and_do_not_vary() -> None:
    """Standard errors of Siebinga 2023, Table 2, for all typical values: wider intervals, the same draws that count."""
    people, _ = patients(2, 0.05)
    one = at_times(people[0], [168.0], 1.0)
    rse = {"k10_typical": 7.6, "V1": 4.5, "k12": 12.4, "k21": 5.8, "Bmax": 12.3, "k13": 8.6, "k31": 4.7, "k14": 7.9}
    rse |= {"k41": 4.6, "k15_typical": 14.0, "k51": 11.4, "k16": 15.3, "k61": 7.9}
    noise = dict.fromkeys(REGIONS, 0.05)
    unsure = PopulationModel.from_model(
        model(), noise=noise, occasion={"k15_typical": 0.435}, relative_se={n: e / 100 for n, e in rse.items()}
    )
    wide = pk.predict_tia(unsure, one, model=model(), draws=500)
    narrow = pk.predict_tia(population(0.05), one, model=model(), draws=500)
    sd = [np.log(f.tia.data.sel(organ="kidneys")["tia"].to_numpy()).std() for f in (wide, narrow)]
    print(f"sd of ln TIA of the kidneys: {sd[0]:.3f} with standard errors, {sd[1]:.3f} without; {wide.method}")
    assert sd[0] > 1.3 * sd[1] and wide.draws.effective > 100
    assert "is taken as exact" not in str(wide)


# -- over a cohort -----------------------------------------------------------------------------------------------


def test_leaving_scans_out() -> None:
    people, truth = patients(6, 0.05, times=(24.0, 48.0, 96.0))
    people[0] = at_times(people[0], [24.0, 48.0], 1.0)
    compared = pk.leave_scans_out(population(0.05), people, times=[24, 48, 96], tolerance=1.0)
    assert compared.left_out == {"24 h": 0, "48 h": 0, "96 h": 1}
    table = compared.summary()
    assert entry(table, ("96 h", "kidneys", "population model"), "n") == 5
    with pytest.raises(FitError, match="the truth was not given"):
        compared.summary("truth")
    with pytest.raises(FitError, match="region 'spleen' was not compared"):
        compared.best(region="spleen")
    pairs = pk.leave_scans_out(population(0.05), people[1:], count=2, truth=truth, regions=["kidneys"], tolerance=1.0)
    assert list(pairs.left_out) == ["24 + 48 h", "24 + 96 h", "48 + 96 h"]
    assert "mono-exponential" in pairs.summary("truth").index.get_level_values("method")
    assert "against truth" in str(pairs) and len(pairs.plot("truth").axes) == 1


@pytest.mark.slow
def test_intervals_cover_what_they_say() -> None:
    """One scan at 48 h of 300 patients drawn from the population: 95 % intervals hold the truth in 92 to 98 %."""
    people, truth = patients(300, 0.1, seed=5)
    known = population(0.1)
    inside = {r: 0 for r in REGIONS}
    for one in people:
        found = pk.predict_tia(known, at_times(one, [48.0], 1.0), model=model(), draws=400)
        for r in REGIONS:
            low, high = np.quantile(found.tia.data.sel(organ=r)["tia"], [0.025, 0.975])
            inside[r] += low < entry(truth, one.subject, r) < high
    for r, count in inside.items():
        report(f"coverage of {r}", 0.95, count / len(people), atol=0.03)


# -- the command -------------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pkmodel.cli_output import UsageError
    from pkmodel.cli_single_time import predict_and_show

    people, _ = patients(2, 0.05)
    population(0.05).save(tmp_path / "psma.toml")
    rows = [f"P000,{c.region},{t},{v}" for c in people[0] for t, v in zip(c.t, c.value, strict=True)]
    (tmp_path / "tac.csv").write_text("\n".join(["subject,region,t,value", *rows]), encoding="utf-8")
    regions = "".join(f'[regions.{r}]\nkind = "tissue"\n' for r in REGIONS)
    (tmp_path / "study.toml").write_text(
        'name = "mine"\ntitle = "t"\ncitation = "c"\nterms = "none"\nnotes = "n"\nnuclide = "Lu-177"\n'
        'agent = "PSMA-617"\ntime_unit = "h"\nunit = "MBq"\ndecay_corrected = false\nn = 1\n'
        f'[[subjects]]\nid = "P000"\ninjected_activity = "6 GBq"\n{regions}',
        encoding="utf-8",
    )
    common: dict[str, Any] = {
        "subject": None, "cycle": None, "model": None, "cold": False, "covariates": ["CrCl=70 mL/min"],
        "accept_changed_model": False, "seed": 0,
    }  # fmt: skip
    files = [tmp_path / "t.csv", tmp_path / "t.png"]
    masses = [f"{r}=100 g" for r in REGIONS]
    predict_and_show(str(tmp_path / "psma.toml"), str(tmp_path), at="48", masses=masses, out=files, **common)
    said = capsys.readouterr()
    assert "TIA of P000 from 1 scan at 48 h" in said.out and "Absorbed dose" in said.out
    assert "integral after the last scan" in said.err
    assert all(f.stat().st_size > 500 for f in files)
    for wrong, says in (({"at": "4x"}, "--at '4x' cannot be read"), ({"at": "900"}, "no scan of P000 is within 6 h")):
        with pytest.raises(UsageError, match=says):
            predict_and_show(str(tmp_path / "psma.toml"), str(tmp_path), masses=[], out=[], **(common | wrong))
    with pytest.raises(UsageError, match="--cycle '2'"):
        predict_and_show(
            str(tmp_path / "psma.toml"), str(tmp_path), at=None, masses=[], out=[], **(common | {"cycle": "2"})
        )
