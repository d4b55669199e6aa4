"""Formats beside each other: the numbers of small models that work out by hand, the same patients for all, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from format_models import FAST, SLOW, linear

import pkmodel as pk
from pkmodel.comparison import FormatComparison, compare_formats, map_size_affinity, sweep_tumour
from pkmodel.comparison import kinetics as k
from pkmodel.comparison.doses import read_limits, therapeutic_index
from pkmodel.comparison.recipes import known_formats, label_of, target_parts
from pkmodel.comparison.shared_draws import evaluate, shared_patients, sound
from pkmodel.errors import DoseError, LibraryError, ModelError, NuclideError, PkmodelError, SimulationError
from pkmodel.plot_formats import map_figure
from support import report

LU = math.log(2) / 159.528  # 1/h, ICRP 107: 6.647 d


@pytest.fixture(scope="module")
def found() -> FormatComparison:
    return compare_formats({"slow": SLOW, "fast": FAST}, ["Ga-68", "Lu-177"], amount="10 nmol", n=40, seed=3)


def test_integrals_and_doses_of_the_typical_patient(found: FormatComparison) -> None:
    """Plasma exp(-kel t) into an organ that lets go at k: TIAC = f kel/((kel + l)(k + l))."""
    for name, kel, out in (("slow", 0.01, 0.002), ("fast", 0.5, 0.02)):
        tiac = 0.002 * kel / ((kel + LU) * (out + LU))
        one = found.data.sel(format=name, nuclide="Lu-177", organ="tumour")
        report(f"{name}: TIAC of the tumour [h]", tiac, float(one["tiac_point"]), rtol=5e-4)
        # 0.1479 MeV a decay (ICRP 107), nearly all of it kept by 20 g
        report(f"{name}: dose [Gy/GBq]", tiac * 1000 * 0.57678 * 0.1479 / 20, float(one["dose_point"]), rtol=0.02)


def test_doses_are_those_of_integrate_and_dose(found: FormatComparison) -> None:
    """The same through labelled model, `integrate` and `dose`."""
    hot = pk.label(FAST, "Lu-177")
    run = pk.simulate(hot, "1 GBq once", k.grid(1600.0))
    tia = pk.integrate(run.drop_vars(["plasma", "integral_plasma"]))
    masses = {"tumour": "20 g", "kidneys": "300 g", "liver": "1800 g", "red_marrow": "1100 g"}
    doses = pk.dose(tia, masses=masses)
    for organ in masses:
        expected = float(doses.data["dose_point"].sel(organ=organ))
        got = float(found.data["dose_point"].sel(format="fast", nuclide="Lu-177", organ=organ))
        report(f"{organ} [Gy/GBq]", expected, got, rtol=1e-3)


def test_uptake_and_its_peak(found: FormatComparison) -> None:
    kel, out = 0.5, 0.02
    peak = math.log(kel / out) / (kel - out)
    report("time of the peak [h]", peak, float(found.data["peak_time_point"].sel(format="fast")[0]), rtol=1e-3)
    high = 0.002 * kel / (kel - out) * (math.exp(-out * peak) - math.exp(-kel * peak)) * 100 / 20
    got = float(found.data["uptake_point"].sel(format="fast", region="tumour").max())
    report("uptake at the peak [%IA/g]", high, got, rtol=1e-3)


def test_best_time_is_where_the_stated_criterion_is_largest(found: FormatComparison) -> None:
    t = np.linspace(0.01, 60.0, 600_000)
    kel, out, lam = 0.5, 0.02, math.log(2) / (67.71 / 60)
    tumour = 0.002 * kel / (kel - out) * (np.exp(-out * t) - np.exp(-kel * t)) / 20
    blood = np.exp(-kel * t) / 3000 * 0.6 / 1.06
    criterion = np.where(tumour > blood, (tumour - blood) ** 2 / (tumour + blood) * np.exp(-lam * t), 0.0)
    one = found.data.sel(format="fast", nuclide="Ga-68")
    report("best time, 68Ga [h]", float(t[np.argmax(criterion)]), float(one["best_time_point"]), rtol=5e-3)
    ratio = (tumour / blood)[np.argmax(criterion)]
    report("tumour to blood then", float(ratio), float(one["contrast_point"]), rtol=0.02)


def test_what_never_stands_out_has_no_time(found: FormatComparison) -> None:
    one = found.data.sel(format="slow", nuclide="Ga-68")
    assert math.isnan(float(one["best_time_point"])), "68Ga is gone before this format leaves the blood"


def test_half_life_match() -> None:
    """Uptake exp(-a t) - exp(-b t) at rate l: mean over max in closed form, best half-life where that is largest."""
    a, b = 0.02, 0.5
    times = k.grid(2000.0, 400)
    curve = np.exp(-a * times) - np.exp(-b * times)
    top = (b / a) ** (-a / (b - a)) - (b / a) ** (-b / (b - a))
    for half in (1.0, 10.0, 100.0):
        lam = math.log(2) / half
        expected = lam * (1 / (a + lam) - 1 / (b + lam)) / top
        report(f"match, half-life {half:g} h", expected, float(k.match(curve[None], times, lam)[0]), rtol=1e-3)
    # derivative of lam (b - a)/((a + lam)(b + lam)) is zero at lam = sqrt(a b)
    report("best half-life [h]", math.log(2) / math.sqrt(a * b), k.best_half_life(curve, times), rtol=0.05)


def test_weights_integrate_a_straight_line_exactly() -> None:
    times = np.array([0.0, 1e-5, 0.3, 2.0, 50.0])
    for lam in (1e-4, 0.05, 3.0):
        exact = (1 - math.exp(-50 * lam)) / lam * 2 + 3 * ((1 - math.exp(-50 * lam) * (1 + 50 * lam)) / lam**2)
        tail = (2 + 150) * math.exp(-50 * lam) / lam
        report(f"lambda {lam:g}", exact + tail, float(k.weights(times, lam) @ (2 + 3 * times)), rtol=1e-9)


def test_therapeutic_index_takes_the_first_organ() -> None:
    doses = {"tumour": np.array([4.0, 4.0]), "kidneys": np.array([1.0, 0.1]), "red_marrow": np.array([0.05, 0.05])}
    index = therapeutic_index(doses, {"kidneys": 23.0, "red_marrow": 2.0})
    report("limited by the kidneys, 23 GBq", 92.0, float(index.tumour[0]), rtol=1e-12)
    report("limited by the marrow, 40 GBq", 160.0, float(index.tumour[1]), rtol=1e-12)
    assert list(index.organ) == ["kidneys", "red_marrow"]
    report("tumour over marrow", 80.0, float(index.ratio[1]), rtol=1e-12)


def test_patients_are_the_same_under_every_format(found: FormatComparison) -> None:
    a, b = shared_patients(SLOW, 200, 3), shared_patients(FAST, 200, 3)
    np.testing.assert_allclose(a["kel"] / 0.01, b["kel"] / 0.5, rtol=1e-12)
    assert np.all(b["f_kidneys"] <= 1)
    spread = np.std(np.log(a["kel"].to_numpy()[1:]))
    report("spread of ln kel", math.sqrt(math.log(1.09)), float(spread), rtol=0.15)
    again = compare_formats({"fast": FAST, "slow": SLOW}, ["Lu-177"], amount="10 nmol", n=40, seed=3)
    one, two = (c.data["dose"].sel(format="fast", nuclide="Lu-177") for c in (found, again))
    np.testing.assert_allclose(one, two, rtol=1e-12)


def test_bounds_cut_the_draws_off_and_spread_may_be_given() -> None:
    drawn = shared_patients(linear("wide", 0.1, 0.1, 0.9), 500, 0, {"f_kidneys": 2.0, "no_such_name": 1.0})
    assert drawn["f_kidneys"].max() <= 1.0 and drawn["f_kidneys"].iloc[0] == 0.9
    nothing = shared_patients(SLOW, 3, 0, {"kel": 0, "f_kidneys": 0, "k_tumour": 0})
    assert len(nothing) == 4 and len(nothing.drop_duplicates()) == 1


def test_formulas_and_requirements_for_every_patient() -> None:
    text = pk.model_to_toml(SLOW).replace(
        "[compartments]", '[[require]]\nthat = "kel < 0.02"\nwhy = "a test"\n\n[compartments]', 1
    )
    model = pk.model_from_toml(text)
    people = shared_patients(model, 300, 1, {"kel": 1.0})
    np.testing.assert_array_equal(sound(model, people), people["kel"] < 0.02)
    assert evaluate(model, ["mass_liver", "nothing"], people)["mass_liver"][7] == 1800
    with pytest.raises(SimulationError, match=r"kel < .* does not hold in the first patient \(a test\)"):
        sweep_tumour({"slow": model}, {"kel": [0.03, 0.01]}, n=1)
    run = compare_formats({"slow": model}, "Lu-177", n=300, seed=1, spread={"kel": 1.0})
    assert any("patients left out: slow" in w for w in run.warnings)
    assert np.isnan(run.data["dose"]).any()


def test_it_prints_tabulates_and_writes(found: FormatComparison, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = str(found)
    for word in ("Lu-177", "Ga-68", "slow", "fast", "(T - B)^2/(T + B)", "not for planning", "kidneys"):
        assert word in text
    assert "<table>" in found._repr_html_()
    table = found.table("Lu-177")
    assert list(table.index.get_level_values("format")) == ["slow", "fast"]
    assert (table["dose tumour 5 %"] < table["dose tumour [Gy/GBq]"]).all()
    long = found.uptake_table()
    assert set(long["region"]) == {"tumour", "kidneys", "liver", "red_marrow", "blood"}
    path = tmp_path_factory.mktemp("out") / "formats.nc"
    found.to_netcdf(path)
    assert path.stat().st_size > 1000


@pytest.mark.parametrize("what", ["overview", "uptake", "contrast", "dose", "index"])
def test_figures_carry_units_and_names(found: FormatComparison, what: str) -> None:
    figure = found.plot(what)
    words = " ".join(ax.get_xlabel() + ax.get_ylabel() for ax in figure.axes)
    assert "[" in words or "tumour to" in words
    legend = " ".join(t.get_text() for t in figure.legends[0].get_texts())
    assert "slow" in legend and "fast" in legend


def test_sweep_follows_the_property() -> None:
    sweep = sweep_tumour({"slow": SLOW, "fast": FAST}, {"k_tumour": [0.001, 0.01, 0.1]}, times=(24.0,), n=8)
    for value in (0.001, 0.01, 0.1):
        got = sweep.data["dose_point"].sel(parameter="k_tumour", format="fast")[[0.001, 0.01, 0.1].index(value)]
        tiac = 0.002 * 0.5 / ((0.5 + LU) * (value + LU))
        report(f"dose at k = {value:g}", tiac * 1000 * 0.57678 * 0.1479 / 20, float(got), rtol=0.02)
    assert "k_tumour" in str(sweep) and len(sweep.table()) == 6
    assert len(sweep.plot().axes) == 1 and sweep.plot("uptake").axes[0].get_ylabel() == "uptake at 24 h [%IA/g]"
    with pytest.raises(SimulationError, match="did you mean 'k_tumour'"):
        sweep_tumour({"slow": SLOW}, {"k_tumor": [1.0]}, n=1)
    with pytest.raises(PkmodelError, match="allowed: dose, uptake"):
        sweep.plot("time")


def test_map_by_the_models() -> None:
    text = _with_parameters(pk.model_to_toml(FAST))
    found = map_size_affinity([5.0, 50.0], [0.1, 1.0, 10.0], model=pk.model_from_toml(text))
    assert found["uptake"].shape == (2, 3) and found["uptake"].attrs["units"] == "%IA/g"
    assert np.isfinite(found["dose_kidneys"]).all()
    assert map_figure(found, ["uptake"]).axes[0].get_xlabel() == "size [kDa]"
    with pytest.raises(PkmodelError, match="not over MW and KD"):
        map_figure(found, ["theta"])


def _with_parameters(text: str) -> str:
    """The model with a size and an affinity that its tumour uptake hangs on."""
    added = '[parameters.MW]\nvalue = 15\nunit = "kg/mol"\n\n[parameters.KD]\nvalue = 1\nunit = "nmol/L"\n\n'
    added += '[parameters.one_MW]\nvalue = 15\nunit = "kg/mol"\n\n[parameters.one_KD]\nvalue = 1\nunit = "nmol/L"\n\n'
    where = text.index("[compartments")
    rate = "k_tumour*tumour"
    assert rate in text
    return (text[:where] + added + text[where:]).replace(rate, f"{rate}*KD/one_KD*one_MW/MW")


def test_what_is_known() -> None:
    assert (
        label_of("Zr-89") == "label_dfo" and label_of("177Lu") == "label_dota" and label_of("I-131") == "label_iodine"
    )
    assert read_limits({"kidneys": "20 Gy", "liver": 30.0}) == {"kidneys": 20.0, "liver": 30.0}
    assert target_parts(["a", "b"]) == ("a", "b")


def test_refusals() -> None:
    with pytest.raises(LibraryError, match=r"format 'nanobdy' is not known.*did you mean 'nanobody'"):
        compare_formats(["nanobdy"], "Lu-177", n=1)
    with pytest.raises(LibraryError, match="target 'her3' is not known"):
        compare_formats(["fab"], "Lu-177", target="her3", n=1)
    with pytest.raises(ModelError, match="KD of fab: '1 nmol'"):
        compare_formats(["fab"], "Lu-177", KD="1 nmol", n=1)
    with pytest.raises(ModelError, match="format fab: no KD"):
        compare_formats(["fab"], "Lu-177", KD={"igg": "1 nmol/L"}, n=1)
    with pytest.raises(NuclideError):
        compare_formats({"slow": SLOW}, "Lx-177", n=1)
    with pytest.raises(SimulationError, match="amount '1 GBq'"):
        compare_formats({"slow": SLOW}, "Lu-177", amount="1 GBq", n=1)
    with pytest.raises(SimulationError, match="no observable 'spleen'"):
        compare_formats({"slow": SLOW}, "Lu-177", organs=("kidneys", "spleen"), n=1)
    with pytest.raises(SimulationError, match="unlabelled model"):
        compare_formats({"slow": pk.label(SLOW, "Lu-177")}, "Lu-177", n=1)
    with pytest.raises(DoseError, match="takes absorbed doses"):
        compare_formats({"slow": SLOW}, "Lu-177", limits={"kidneys": "40 Gy BED (a/b 2.5 Gy, repair 2.8 h)"}, n=1)
    with pytest.raises(DoseError, match="limit of spleen"):
        compare_formats({"slow": SLOW}, "Lu-177", limits={"kidneys": "23 Gy", "spleen": "40 Gy"}, n=1)
    with pytest.raises(SimulationError, match="at least one format"):
        compare_formats({}, "Lu-177", n=1)


def test_refusals_of_results(found: FormatComparison) -> None:
    with pytest.raises(PkmodelError, match="compared were Ga-68, Lu-177"):
        found.table("Lu-176")
    with pytest.raises(PkmodelError, match="did you mean 'uptake'"):
        found.plot("uptakes")
    assert "igg" in known_formats() and "peptide" in known_formats()
