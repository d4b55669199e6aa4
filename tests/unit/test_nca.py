"""Non-compartmental analysis: closed forms of exponentials, WinNonlin's own numbers, and what it says of bad data."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest

import pkmodel as pk
from pkmodel.errors import DataError
from support import report, shared

# Theophylline by mouth (R. A. Upton; Boeckmann AJ, Sheiner LB, Beal SL, NONMEM Users Guide V, 1994), subjects 1, 2, 6,
# and indometacin by vein (Kwan KC et al. J Pharmacokinet Biopharm 1976;4:255), subjects 1 and 2: h and mg/L.
THEOPHYLLINE = {
    "1": ([0, 0.25, 0.57, 1.12, 2.02, 3.82, 5.1, 7.03, 9.05, 12.12, 24.37],
          [0.74, 2.84, 6.57, 10.5, 9.66, 8.58, 8.36, 7.47, 6.89, 5.94, 3.28]),
    "2": ([0, 0.27, 0.52, 1, 1.92, 3.5, 5.02, 7.03, 9, 12, 24.3],
          [0, 1.72, 7.91, 8.31, 8.33, 6.85, 6.08, 5.4, 4.55, 3.01, 0.9]),
    "6": ([0, 0.27, 0.58, 1.15, 2.03, 3.57, 5, 7, 9.22, 12.1, 23.85],
          [0, 1.29, 3.08, 6.44, 6.32, 5.53, 4.94, 4.02, 3.46, 2.78, 0.92]),
}  # fmt: skip
INDOMETACIN = {
    "1": ([0.25, 0.5, 0.75, 1, 1.25, 2, 3, 4, 5, 6, 8],
          [1.5, 0.94, 0.78, 0.48, 0.37, 0.19, 0.12, 0.11, 0.08, 0.07, 0.05]),
    "2": ([0.25, 0.5, 0.75, 1, 1.25, 2, 3, 4, 5, 6, 8],
          [2.03, 1.63, 0.71, 0.7, 0.64, 0.36, 0.32, 0.2, 0.25, 0.12, 0.08]),
}  # fmt: skip

# Phoenix WinNonlin 6.3, as published by Han S, validation of the R package NonCompart (github.com/asancpt), 2018
WINNONLIN = [
    ("theophylline", "1", "linear-up log-down", {
        "lambda_z": 0.048456997, "points": 3, "auc_last": 147.2347485, "auc_inf": 214.9236316,
        "extrapolated": 31.49438828, "vz_f": 30.72623247, "cl_f": 1.488900954, "auc_inf_predicted": 214.9266543,
        "aumc_last": 1499.129085, "aumc_inf": 4545.592801, "mrt_last": 10.18189728, "mrt": 21.14980455}),
    ("theophylline", "2", "linear-up log-down", {
        "lambda_z": 0.104086444, "points": 4, "r2_adjusted": 0.995793082, "auc_last": 88.73127549,
        "auc_inf": 97.37793463, "vz_f": 31.57150238, "cl_f": 3.286165405, "aumc_inf": 1009.46445, "mrt": 10.36645985}),
    ("theophylline", "1", "linear", {"half_life": 14.30437757, "auc_last": 148.9231, "auc_inf": 216.6119}),
    ("indometacin", "1", "linear-up log-down", {
        "lambda_z": 0.158320482400297, "points": 3, "c0": 2.3936170212766, "auc_last": 2.00989843640473,
        "auc_inf": 2.32571354283916, "back_extrapolated": 20.5542573329663, "vz": 67.8963897782725,
        "cl": 10.7493891829347, "aumc_inf": 7.82610054595283, "mrt": 3.36503202212899, "vss": 36.1720388189023}),
    ("indometacin", "2", "linear-up log-down", {
        "lambda_z": 0.302280019819912, "points": 9, "c0": 2.52815950920245, "cl": 7.20971582365952,
        "vss": 19.5568334493971}),
    ("infusion", "2", "linear-up log-down", {
        "auc_inf": 3.15379886868934, "cl": 7.92694811587321, "vz": 26.2238573379604, "mrt": 2.85586043346388,
        "vss": 22.6382574822433}),
]  # fmt: skip


@pytest.mark.parametrize(("drug", "subject", "method", "numbers"), WINNONLIN)
def test_winnonlin(drug: str, subject: str, method: str, numbers: dict[str, float]) -> None:
    oral = drug == "theophylline"
    t, c = (THEOPHYLLINE if oral else INDOMETACIN)[subject]
    route = "extravascular" if oral else "infusion" if drug == "infusion" else "bolus"
    one = pk.nca(
        t, c, unit="mg/L", dose="320 mg" if oral else "25 mg", route=route, method=method,
        infusion="15 min" if drug == "infusion" else "",
    )  # fmt: skip
    digits = 2e-6 if method == "linear" else 2e-8
    for name, expected in numbers.items():
        report(f"{drug} {subject}, {method}: {name}", expected, one[name], rtol=digits)


COLUMNS = {
    "Lambda_z": "lambda_z", "HL_Lambda_z": "half_life", "No_points_lambda_z": "points", "Rsq_adjusted": "r2_adjusted",
    "Cmax": "cmax", "Tmax": "tmax", "C0": "c0", "AUClast": "auc_last", "AUCINF_obs": "auc_inf",
    "AUCINF_pred": "auc_inf_predicted", "AUC_%Extrap_obs": "extrapolated", "AUC_%Back_Ext_obs": "back_extrapolated",
    "AUMClast": "aumc_last", "AUMCINF_obs": "aumc_inf", "MRTlast": "mrt_last", "MRTINF_obs": "mrt", "Vz_F_obs": "vz_f",
    "Cl_F_obs": "cl_f", "Vz_obs": "vz", "Cl_obs": "cl", "Vss_obs": "vss",
}  # fmt: skip


@pytest.mark.parametrize("table", ["Theoph_Linear", "Theoph_Log", "Indometh_Linear", "Indometh_Log",
                                   "Indometh_Linear_Infusion", "Indometh_Log_Infusion"])  # fmt: skip
def test_every_number_of_winnonlin(table: str) -> None:
    """All subjects: needs theoph.csv, indometh.tsv and the tables in ../shared/oracles/nca or PKMODEL_NCA."""
    folder = Path(os.environ["PKMODEL_NCA"]) if "PKMODEL_NCA" in os.environ else shared("oracles/nca")
    oral = table.startswith("Theoph")
    with (folder / ("theoph.csv" if oral else "indometh.tsv")).open() as file:
        rows = list(csv.reader(file, delimiter="," if oral else "\t"))[1:]
    with (folder / f"{table}.csv").open() as file:
        expected = list(csv.DictReader(file))
    infused = table.endswith("Infusion")
    worst, count = 0.0, 0
    for row in expected:
        mine = [(float(r[-2]), float(r[-1])) for r in rows if r[0] == row["Subject"]]
        one = pk.nca(
            *zip(*mine, strict=True), unit="mg/L", dose="320 mg" if oral else "25 mg",
            route="extravascular" if oral else "infusion" if infused else "bolus",
            infusion="0.25 h" if infused else "", method="linear" if "Linear" in table else "linear-up log-down",
        )  # fmt: skip
        for theirs, name in COLUMNS.items():
            if row.get(theirs):
                value = float(row[theirs])
                worst, count = max(worst, abs(one[name] - value) / (abs(value) or 1.0)), count + 1
    report(f"WinNonlin {table}: worst relative difference of {count} numbers", 0.0, worst, atol=1e-8)


def test_pknca_summary() -> None:
    """PKNCA's theophylline vignette prints 82.2 for subject 6 over an interval in steady state: the area to infinity of
    the single dose; and 71.8 from 0 to 24 h."""
    t, c = THEOPHYLLINE["6"]
    one = pk.nca(t, c, unit="mg/L", route="extravascular", partial=[(0, 24)])
    report("area to infinity", 82.2, one["auc_inf"], atol=0.05)
    report("area from 0 to 24 h", 71.8, one["auc_0_24"], atol=0.05)


def test_a_mono_exponential_fall_is_exact() -> None:
    k, volume, dose = 0.11, 40.0, 300.0
    t = np.array([0.5, 1, 2, 5, 9, 14, 30])
    one = pk.nca(
        t, dose / volume * np.exp(-k * t), unit="mg/L", dose="300 mg", route="bolus", partial=[(3, 7), (2, 60)]
    )
    expected = {
        "c0": dose / volume, "auc_inf": dose / volume / k, "aumc_inf": dose / volume / k**2, "cl": k * volume,
        "vz": volume, "vss": volume, "mrt": 1 / k, "half_life": math.log(2) / k,
        "extrapolated": 100 * math.exp(-30 * k),
        "auc_3_7": dose / volume / k * (math.exp(-3 * k) - math.exp(-7 * k)),
        "auc_2_60": dose / volume / k * (math.exp(-2 * k) - math.exp(-60 * k)),
    }  # fmt: skip
    for name, value in expected.items():
        report(f"mono-exponential: {name}", value, one[name], rtol=1e-12)


def test_a_bi_exponential_curve_converges() -> None:
    a, alpha, b, beta = 8.0, 1.2, 2.0, 0.05
    t = np.concatenate([np.linspace(0, 6, 600), np.linspace(6, 200, 600)[1:]])
    one = pk.nca(
        t, a * np.exp(-alpha * t) + b * np.exp(-beta * t), unit="mg/L", dose="100 mg", route="bolus", points=50
    )
    area, moment = a / alpha + b / beta, a / alpha**2 + b / beta**2
    for name, value in {"auc_inf": area, "aumc_inf": moment, "cl": 100 / area, "vss": 100 * moment / area**2,
                        "lambda_z": beta, "vz": 100 / area / beta}.items():  # fmt: skip
        report(f"bi-exponential: {name}", value, one[name], rtol=2e-5)


def test_an_infusion_and_a_steady_state() -> None:
    k, volume, hours, tau = 0.2, 10.0, 2.0, 12.0
    t = np.unique(np.concatenate([np.linspace(0, hours, 400), np.linspace(hours, 60, 200)]))
    rise = (1 - np.exp(-k * np.minimum(t, hours))) * np.exp(-k * np.maximum(t - hours, 0))
    one = pk.nca(t, 100 / hours / (k * volume) * rise, unit="mg/L", dose="100 mg", infusion="2 h")
    for name, value in {"cl": k * volume, "vss": volume, "mrt": 1 / k}.items():
        report(f"infusion: {name}", value, one[name], rtol=2e-6)
    t = np.linspace(0, tau, 13)
    c = 100 / volume * np.exp(-k * t) / (1 - math.exp(-k * tau))
    one = pk.nca(t, c, unit="mg/L", dose="100 mg", route="bolus", tau="12 h")
    steady = {"auc_tau": 100 / (k * volume), "cl": k * volume, "c_average": 100 / (k * volume) / tau, "vz": volume,
              "vss": volume, "mrt": 1 / k, "accumulation": 1 / (1 - math.exp(-k * tau))}  # fmt: skip
    for name, value in steady.items():
        report(f"steady state: {name}", value, one[name], rtol=1e-10)


def test_units_are_carried() -> None:
    t, c = THEOPHYLLINE["2"]
    plain = pk.nca(t, c, unit="mg/L", dose="320 mg", route="extravascular")
    other = pk.nca(
        np.array(t) * 60, np.array(c) * 1e3, unit="ng/mL", dose="0.32 g", route="extravascular", time_unit="min"
    )
    for name in ("cl_f", "vz_f", "half_life", "mrt"):
        report(f"{name}, in other units", plain[name], other[name], rtol=1e-12)
    assert (other.value("auc_inf").unit, other.value("cl_f").unit) == ("ng/mL h", "L/h")
    assert other.value("AUCIFO").name == "auc_inf"
    assert "half_life" in plain.table.index
    assert "clearance" in str(plain)


def test_below_quantification() -> None:
    t = [0, 1, 2, 4, 8, 12, 24, 36]
    c = [0.05, 0.02, 9.0, 6.0, 0.03, 1.5, 0.4, 0.01]
    one = pk.nca(t, c, unit="mg/L", route="extravascular", lloq=0.1)
    assert one.samples.t.tolist() == [0, 1, 2, 4, 12, 24]
    assert one.samples.c.tolist() == [0, 0, 9, 6, 1.5, 0.4]
    assert one["tlast"] == 24
    assert one.samples.below_c.tolist() == [0.1] * 4
    half = pk.nca(t, c, unit="mg/L", route="extravascular", lloq=0.1, blq={"middle": "half"})
    assert half.samples.c.tolist() == [0, 0, 9, 6, 0.05, 1.5, 0.4]
    assert any("4 samples below quantification" in w for w in half.warnings)


def test_what_it_warns_of() -> None:
    flat = pk.nca([0, 1, 2, 3], [0, 5, 5.5, 6], unit="mg/L", dose="1 mg", route="extravascular")
    assert any("no terminal slope" in w for w in flat.warnings)
    assert "auc_inf" not in flat
    assert "cl_f" not in flat
    short = pk.nca([0, 1, 2, 3, 4], [0, 9, 8, 7.2, 6.5], unit="mg/L", route="extravascular")
    text = str(short)
    for part in (
        "fewer than 2 half-lives",
        "20 % of the area is extrapolated",
        "first measurable sample is the highest",
    ):
        assert part in text, part


@pytest.mark.parametrize(("words", "message"), [
    ({"route": "oral"}, "say one of bolus, infusion, extravascular"),
    ({"route": "infusion"}, "an infusion has both"),
    ({"method": "spline"}, "allowed: linear-up log-down, linear"),
    ({"dose": "320"}, "has no unit"),
    ({"dose": "320 nmol"}, "do not make a clearance"),
    ({"dose": "-1 mg"}, "above zero"),
    ({"tau": "12 mg"}, "not a time"),
    ({"unit": ""}, "the unit of the concentrations is not said"),
    ({"unit": "furlong"}, "is not known"),
    ({"blq": {"start": "zero"}}, "allowed: first, middle, last"),
    ({"partial": [(4, 2)]}, "partial area from 4 to 2 h"),
    ({"times": [0, 2, 1, 4]}, "times must be finite and increase; number 3"),
    ({"concentrations": [0, 1, -2, 1]}, "concentration 3 is -2 at 2 h"),
    ({"concentrations": [0, 0, 0, 0]}, "no sample is measurable"),
    ({"concentrations": [1, 2]}, "4 times and 2 concentrations"),
])  # fmt: skip
def test_bad_input(words: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"times": [0, 1, 2, 4], "concentrations": [0, 3, 2, 1], "unit": "mg/L", "dose": "10 mg"}
    given |= {"route": "extravascular"} | words
    with pytest.raises((DataError, pk.PkmodelError)) as caught:
        pk.nca(given.pop("times"), given.pop("concentrations"), **given)  # type: ignore[call-overload]
    print(caught.value)
    assert message in str(caught.value)


def test_a_study_and_its_figures(tmp_path: Path) -> None:
    lines = ["ID,TIME,AMT,DV,EVID,RATE"]
    for subject in ("1", "2"):
        t, c = INDOMETACIN[subject]
        lines += [f"{subject},0,25,.,1,100", *(f"{subject},{x},0,{y},0,0" for x, y in zip(t, c, strict=True))]
    lines += ["3,0,25,.,1,100", "3,1,0,0,0,0"]
    path = tmp_path / "indometacin.csv"
    path.write_text("\n".join(lines))
    study = pk.read_nonmem(path, units={"TIME": "h", "AMT": "mg", "DV": "mg/L"})
    result = pk.nca(study)
    assert [one.subject for one in result] == ["1", "2"]
    assert result.failed[0][0] == "3 plasma"
    report("infusion from the regimen: vss", 22.6382574822433, result["2"]["vss"], rtol=1e-12)
    assert "geometric mean" in str(result)
    for figure in (result.plot(), result["1"].plot()):
        figure.savefig(tmp_path / "nca.png")
    ax = result["1"].plot().axes[1]
    assert "[mg/L]" in ax.get_ylabel()
    assert "[h]" in ax.get_xlabel()


def test_several_doses_must_be_said(tmp_path: Path) -> None:
    path = tmp_path / "two.csv"
    rows = ["1,0,100,.,1", *(f"1,{t},0,{10 * math.exp(-0.3 * t)},0" for t in (1, 2, 4, 8))]
    rows += ["1,24,50,.,1", *(f"1,{24 + t},0,{5 * math.exp(-0.3 * t)},0" for t in (1, 2, 4, 8))]
    path.write_text("\n".join(["ID,TIME,AMT,DV,EVID", *rows]))
    study = pk.read_nonmem(path, units={"TIME": "h", "AMT": "mg", "DV": "mg/L"})
    with pytest.raises(DataError, match="say after='first'"):
        pk.nca(study, route="bolus")
    for after in ("first", "last"):
        report(
            f"clearance after the {after} dose", 3.0, pk.nca(study, route="bolus", after=after)["1"]["cl"], rtol=1e-9
        )
