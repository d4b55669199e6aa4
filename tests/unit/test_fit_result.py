"""What a fit gives: tables, criteria, draws, predictions, a file; numbers by hand where a hand suffices."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from synthetic import curve, curves, protocol

from pkmodel.assembly import load_model
from pkmodel.data import load_study
from pkmodel.errors import FitError
from pkmodel.inference.fitting import fit
from pkmodel.inference.result import Fit
from pkmodel.labelling import label
from pkmodel.nuclides import nuclide
from support import report

DECAY = nuclide("Lu-177").decay_constant
K = 0.01  # biological washout, fixed: the model is then linear in its fraction [1/h]
T = np.array([2.0, 24.0, 72.0, 120.0])
SHAPE = 1000 * np.exp(-(K + DECAY) * T)  # MBq per unit fraction
Y = SHAPE * 0.02 * np.array([1.03, 0.98, 1.01, 0.95])


@pytest.fixture(scope="module")
def linear() -> Fit:
    return fit("organ_1_phase", curves(curve("liver", T, Y)), protocol("fraction", fixed={"k_washout": K}))


@pytest.fixture(scope="module")
def patient() -> Fit:
    return fit("organ_2_phase", load_study("snmmi_p004")["P004"], "serial_spect")


BEST = float(SHAPE @ Y / (SHAPE @ SHAPE))
RSS = float(((Y - BEST * SHAPE) ** 2).sum())


def test_a_straight_line_through_zero_by_hand(linear: Fit) -> None:
    report("fraction = sum(xy)/sum(xx)", BEST, linear.values["fraction[liver]"], rtol=1e-8)
    se = math.sqrt(RSS / 3 / float(SHAPE @ SHAPE))
    report("se = sqrt(RSS/(n-1)/sum(xx))", se, float(linear.table["se"]["fraction[liver]"]), rtol=1e-8)
    report("relative error of the largest value", math.sqrt(RSS / 3) / Y.max(), math.sqrt(linear.scales[0]), rtol=1e-10)


def test_criteria_by_hand(linear: Fit) -> None:
    """n = 4, K = 2 (fraction and error): AIC = n ln(2 pi RSS/n) + n + 2K and so on."""
    n, k = 4, 2
    minus_two = n * (math.log(2 * math.pi * RSS / n) + 1)
    report("AIC", minus_two + 2 * k, linear.aic, rtol=1e-10)
    report("AICc", minus_two + 2 * k + 2 * k * (k + 1) / (n - k - 1), linear.aicc, rtol=1e-10)
    report("BIC", minus_two + k * math.log(n), linear.bic, rtol=1e-10)


def test_criteria_with_known_errors_by_hand() -> None:
    sd = np.array([0.5, 0.4, 0.2, 0.1])
    c = curve("liver", T, Y, sd=sd, sd_kind="sem")
    rules = protocol("fraction", fixed={"k_washout": K}, error={"kind": "table", "absolute": True})
    got = fit("organ_1_phase", curves(c), rules)
    best = float((SHAPE / sd**2) @ Y / ((SHAPE / sd**2) @ SHAPE))
    chi2 = float((((Y - best * SHAPE) / sd) ** 2).sum())
    minus_two = chi2 + float(np.log(2 * np.pi * sd**2).sum())
    report("chi2", chi2, got.chi2, rtol=1e-10)
    report("AIC with known errors (K = 1)", minus_two + 2, got.aic, rtol=1e-10)
    report("BIC with known errors", minus_two + math.log(4), got.bic, rtol=1e-10)
    error = 1 / math.sqrt(float((SHAPE / sd) @ (SHAPE / sd)))
    report("se with known errors", error, float(got.table["se"]["fraction[liver]"]), rtol=1e-8)
    low = best * math.exp(-1.959964 * error / best)
    report("normal, not Student's, interval", low, float(got.table["low"]["fraction[liver]"]), rtol=1e-8)


def test_pooled_errors_by_hand() -> None:
    """Two organs, errors relative to each one's largest value, one scale from both."""
    both = curves(curve("a", T, Y), curve("b", T, 10 * Y[::-1].copy()[np.argsort(-Y[::-1])]))
    rules = protocol("fraction", fixed={"k_washout": K}, error={"pooled": True})
    got = fit("organ_1_phase", both, rules)
    total = 0.0
    for c in both:
        best = float(SHAPE @ c.value / (SHAPE @ SHAPE))
        total += float((((c.value - best * SHAPE) / c.value.max()) ** 2).sum())
    for k, scale in enumerate(got.scales):
        report(f"pooled scale, group {k + 1}: sum of squares over 8 - 2", total / 6, scale, rtol=1e-9)
    assert got.freedom == 6 and got.freedoms == [6, 6] and got.estimated == 3


def test_each_region_has_its_own_freedom_where_errors_are_not_pooled() -> None:
    """Two organs of unequal length: the interval of each uses its own Student's t."""
    from scipy.stats import t as student

    both = curves(curve("a", T, Y), curve("b", T[:2], Y[:2]))
    got = fit("organ_1_phase", both, protocol("fraction", fixed={"k_washout": K}))
    assert got.freedoms == [3, 1] and got.freedom == 1
    for region, freedom in (("a", 3), ("b", 1)):
        row = {c: float(got.table[c][f"fraction[{region}]"]) for c in ("value", "se", "high")}
        width = math.log(row["high"] / row["value"]) / (row["se"] / row["value"])
        report(f"quantile in the interval of {region}", float(student.ppf(0.975, freedom)), width, rtol=1e-6)


def test_derived_results_by_hand(patient: Fit) -> None:
    k = {c: float(patient.table[c]["k_washout[liver]"]) for c in ("value", "rse_percent")}
    row = {c: float(patient.derived[c]["T_biological[liver]"]) for c in ("value", "rse_percent")}
    report("T_biological = ln 2/k", math.log(2) / k["value"], row["value"], rtol=1e-10)
    report("its relative error is that of k", k["rse_percent"], row["rse_percent"], rtol=1e-8)


def test_a_derived_result_without_a_finite_value_is_nan_and_no_crash() -> None:
    """BPnd = k3/k4 and VT with k4 fixed at zero."""
    t = np.array([0.0, 0.02, 0.1, 0.5, 1.0])
    c = curve("FC", t[1:], [4.0, 8, 9, 9], unit="kBq/mL", nuclide="C-11", decay_corrected=True)
    inputs = {"Cp": (t, np.array([0.0, 50, 10, 3, 1])), "Cb": (t, np.array([0.0, 40, 9, 3, 1]))}
    rules = protocol("K1 k2", fixed={"k3": 0.01, "k4": 0.0, "vB": 0.05})
    got = fit("two_tissue", curves(c), rules, inputs=inputs)
    assert math.isnan(got.derived["value"]["BPnd[FC]"])
    assert "nan" in str(got) or "unknown" in str(got)


def test_draws_have_the_covariance_of_the_fit() -> None:
    sd = 0.02 * Y
    data = curves(*(curve(r, T, Y, sd=sd, sd_kind="sem") for r in ("a", "b")))
    rules = protocol("fraction k_washout", error={"kind": "table", "absolute": True}, shared=["k_washout"])
    got = fit("organ_1_phase", data, rules)
    x = got.draws_on_scale(40_000, seed=4)
    spread = np.cov(x.T)
    for k in range(3):
        for j in range(k + 1):
            size = math.sqrt(got.covariance[k, k] * got.covariance[j, j])
            report(f"covariance {k + 1}, {j + 1} of 40 000 draws", got.covariance[k, j], spread[k, j], atol=0.03 * size)


def test_draws_are_students_where_the_error_was_estimated(linear: Fit) -> None:
    from scipy.stats import kstest

    x = linear.draws_on_scale(20_000, seed=1)[:, 0]
    z = (x - linear.x[0]) / math.sqrt(linear.covariance[0, 0])
    p = float(kstest(z, "t", args=(3,)).pvalue)
    print(f"Kolmogorov-Smirnov against Student's t with 3 degrees of freedom: expected p > 0.001, got {p:.3f}")
    assert p > 0.001


def test_draws_are_in_declared_units_and_reproducible(patient: Fit) -> None:
    a, b, c = patient.draws(50, seed=3), patient.draws(50, seed=3), patient.draws(50, seed=4)
    assert a.equals(b) and not a.equals(c)
    assert list(a.columns) == [s.label for s in patient.slots]
    for column in a:
        report(f"median of draws of {column}", patient.values[str(column)], float(a[column].median()), rtol=0.2)


def test_draws_do_not_follow_the_stream_of_the_starts() -> None:
    from pkmodel.inference import least_squares, uncertainty

    assert least_squares.STARTS != uncertainty.DRAWS


def test_predictions_are_the_closed_form(linear: Fit) -> None:
    t = np.linspace(0, 200, 7)
    got = linear.predict("liver", t)
    expected = linear.values["fraction[liver]"] * 1000 * np.exp(-(K + DECAY) * t)
    report("worst relative error of predict", 0.0, float(np.abs(got / expected - 1).max()), atol=1e-10)
    x = linear.draws_on_scale(5, seed=0)
    several = linear.predict("liver", t, x)
    assert several.shape == (5, 7)
    report("one draw, predicted", float(np.exp(x[3, 0]) * 1000), float(several[3, 0]), rtol=1e-10)
    assert linear.predict("liver", t, x[0]).shape == (7,)
    with pytest.raises(FitError, match="'spleen' was not fitted; fitted: liver"):
        linear.predict("spleen", t)


def test_predictions_keep_the_decay_flag_of_the_data() -> None:
    c = curve("liver", T, Y).decay_correct()
    got = fit("organ_1_phase", curves(c), protocol("fraction", fixed={"k_washout": K}))
    expected = got.values["fraction[liver]"] * 1000 * math.exp(-K * 50)
    report("prediction for corrected data at 50 h", expected, float(got.predict("liver", [50.0])[0]), rtol=1e-9)


def test_residuals_add_up(patient: Fit) -> None:
    r = patient.residuals
    assert len(r) == patient.points == 16
    assert np.allclose(r["measured"] - r["predicted"], r["residual"])
    report(
        "sum of squared standardised residuals over freedom", 1.0, float((r["standardised"] ** 2).sum()) / 4, rtol=1e-9
    )


def test_print_and_html_read_well(patient: Fit) -> None:
    text, page = str(patient), patient._repr_html_()
    print(text)
    for word in ("organ_2_phase", "P004", "serial_spect", "least squares", "k_washout[liver]", "AICc", "1/h", "RSE %"):
        assert word in text and word.replace("<", "&lt;") in page
    assert max(map(len, text.splitlines())) <= 240 and "nan" not in text
    assert page.count("<table") == 2


def test_a_file_holds_it_all_and_can_be_read_back(patient: Fit, tmp_path: Path) -> None:
    path = tmp_path / "fit.nc"
    patient.to_netcdf(path)
    with xr.open_dataset(path, engine="h5netcdf") as read:
        assert list(read["parameter"].values) == [s.label for s in patient.slots]
        assert np.array_equal(read["value"].values, patient.table["value"])
        assert np.allclose(read["covariance"].values, patient.covariance)
        assert np.allclose(read["measured"].values, patient.residuals["measured"])
        assert list(read["region"].values) == list(patient.residuals["region"])
        assert read.attrs["model"] == "organ_2_phase_Lu177" and read.attrs["aic"] == patient.aic
        assert list(read["unit"].values) == list(patient.table["unit"])


def test_cold_amount_reaches_the_model() -> None:
    """A model that follows cold ligand needs the amount given, and the study states it."""
    from pkmodel.model_file import model_from_toml
    from pkmodel.regimen import Regimen
    from pkmodel.simulation import simulate

    model = model_from_toml(SATURABLE)
    truth = simulate(label(model, "Lu-177", cold=True), Regimen("1 GBq once", amount="50 nmol"), T)
    data = curves(curve("liver", T, truth["organ"].to_numpy()), amount=50.0)
    got = fit(model, data, protocol({"capacity": {"start": 6.0}}, cold=True, starts=1))
    report("capacity of a receptor seen through 50 nmol", 10.0, got.values["capacity[liver]"], rtol=1e-6)


SATURABLE = """
name = "saturable"
scope = "region"
[parameters]
k = { value = 0.05, unit = "1/h", lower = 0, meaning = "loss from blood", source = "made up", status = "assumed" }
kon = { value = 0.02, unit = "1/nmol/h", lower = 0, meaning = "binding", source = "made up", status = "assumed" }
capacity = { value = 10, unit = "nmol", lower = 0, meaning = "sites", source = "made up", status = "assumed" }
[compartments]
blood = { unit = "nmol", region = "blood" }
bound = { unit = "nmol", region = "organ" }
[administration]
injection = { blood = "1" }
[[flows]]
from = "blood"
rate = "k*blood"
[[flows]]
from = "blood"
to = "bound"
rate = "kon*blood*(capacity - bound)"
[observables]
organ = "bound"
"""


def test_the_model_of_the_whole_can_be_loaded_by_name_or_given(linear: Fit) -> None:
    given = fit(load_model("organ_1_phase"), linear.curves, linear.protocol)
    labelled = fit(label(load_model("organ_1_phase"), "Lu-177"), linear.curves, linear.protocol)
    assert given.values == linear.values == labelled.values
