"""DOTATATE and its relatives: the published whole-body model patient by patient, then doses on the reference man.

Where a number does not come out it stands here with its gap, and nothing is fitted to it.
"""

from __future__ import annotations

import csv
from functools import cache

import numpy as np
import pytest
from peptide_oracle import dotatate, solve

import pkmodel as pk
from support import report, shared

GRID = np.concatenate([[0.0], np.geomspace(0.01, 3000.0, 400)])
MASSES = {"kidneys": 310.0, "spleen": 150.0, "liver": 1800.0}  # g, ICRP 89
ORGANS = ("tumour", "kidneys", "spleen", "liver", "red_marrow")


def patients() -> list[dict[str, float]]:
    """Table 1 of Kletting 2016. Mass and haematocrit are not published: 71 kg, 0.45 for men and 0.40 for women."""
    out = []
    for row in csv.DictReader(shared("therapy/budiansah2025_covariates.csv").open()):
        female, net = row["female"] == "1", row["disease"] == "NET"
        out.append(
            {
                "BSA": float(row["BSA_m2"]), "Hct": 0.40 if female else 0.45, "WT": 71.0,
                "GFR": float(row["GFR_L_min"]), "female": female, "net": net, "kidneys": float(row["kidney_mL"]),
                "liver": float(row["liver_mL"]), "spleen": float(row["spleen_mL"] or 1.0),
                "tumour": float(row["tumour_mL"]),
            }
        )  # fmt: skip
    return out


def of(patient: dict[str, float]) -> dict[str, str | float]:
    """The same patient in the words of the model; a meningioma has its own vessels."""
    net = patient["net"]
    return {
        "BSA": patient["BSA"], "Hct": patient["Hct"], "GFR": f"{patient['GFR']} L/min",
        "female": float(patient["female"]), "V_kidneys": patient["kidneys"] / 1e3, "V_liver": patient["liver"] / 1e3,
        "V_spleen": patient["spleen"] / 1e3, "mass_tumour": patient["tumour"],
        "tumour_blood_flow": "1.0 1/min" if net else "0.9 1/min", "tumour_kPS": "0.2 1/min" if net else "0.31 1/min",
        "tumour_vp": 0.1 if net else 0.11, "tumour_vi": 0.3 if net else 0.23,
    }  # fmt: skip


@cache
def hot(name: str, nuclide: str) -> pk.Model:
    return pk.label(pk.load_model(name), nuclide, cold=True)


def residence(name: str, nmol: float, **changes: str) -> dict[str, float]:
    """TIAC of a bolus [h]."""
    model = hot(name, "Lu-177").replace(**changes)
    run = pk.simulate(model, pk.Regimen("1 MBq once", amount=f"{nmol} nmol"), [0, 3000.0])
    return {o: float(run[f"integral_{o}"][-1]) for o in ORGANS}


def test_published_simulation_of_eight_patients() -> None:
    """Serum with 111In, kidneys with 90Y, both over 30 000 min; nobody's curve was used to set anything here.

    The kidney TIACs that the paper tabulates (0.43 times which is what its own parameters give) are left out: its
    Table 1 and Table S3 contradict each other in that row, and the model follows Table 1.
    """
    reference = list(csv.DictReader(shared("therapy/budiansah2025_reference_simulation.csv").open()))
    for nuclide, region, column in (
        ("In-111", "serum", "serum_AUC_0_30000_min_per_L_typical"),
        ("Y-90", "kidneys", "kidney_TIAC_90Y_min_typical"),
    ):
        model = hot("dotatate_pbpk", nuclide)
        for patient, row in zip(patients(), reference, strict=True):
            run = pk.simulate(
                model.replace(**of(patient)), pk.Regimen("1 MBq over 51 min once", amount="75 nmol"), [0, 500.0]
            )
            got = 60 * float(run[f"integral_{region}"][-1])
            report(f"{row['subject']} {region} {nuclide} [min, serum min/L]", float(row[column]), got, rtol=0.01)


def test_against_the_equations_written_again() -> None:
    """Patient 1 against SciPy's Radau on the published equations: every region, at four times."""
    patient = patients()[0]
    model = hot("dotatate_pbpk", "In-111")
    rate = float(model.parameters["lambda_phys"].canonical) / 60
    times = np.array([0.0, 1.0, 4.0, 24.0, 72.0])
    amounts, integrals = solve(dotatate(patient), 75.0, rate, 60 * times)
    run = pk.simulate(model.replace(**of(patient)), pk.Regimen("1 MBq once", amount="75 nmol"), times)
    for organ in ("kidneys", "liver", "spleen", "tumour", "muscle", "gut", "reproductive", "rest"):
        scale = float(np.max(amounts[organ]))
        worst = float(np.max(np.abs(run[organ].values[1:] - amounts[organ][1:]))) / scale
        report(f"{organ}: curve, of its largest value", 0.0, worst, atol=1e-6)
        report(f"{organ}: integral [h]", integrals[organ][-1] / 60, float(run[f"integral_{organ}"][-1]), rtol=1e-6)


@pytest.mark.parametrize("cold", [True, False])
@pytest.mark.parametrize("back", [0.0, 0.5, 1.0])
def test_nothing_is_lost(cold: bool, back: float) -> None:
    """Given = present + excreted + decayed, of activity and of molecules, over ten half-lives."""
    model = hot("lu177_dotatate", "Lu-177") if cold else pk.label(pk.load_model("lu177_dotatate"), "Lu-177")
    regimen = pk.Regimen("7.4 GBq over 30 min once", amount="140 nmol" if cold else None)
    run = pk.simulate(model.replace(f_released_back=back), regimen, [0, 1, 24, 240, 1595.0])
    rate = float(model.parameters["lambda_phys"].canonical)
    here = (run["whole_body"] + run["urine"]).values[1:]
    decayed = rate * (run["integral_whole_body"] + run["integral_urine"]).values[1:]
    report("activity, of that given", 0.0, float(np.max(np.abs((here + decayed) / 7400 - 1))), atol=1e-9)
    if cold:
        every = np.sum([run[v].values for v in run if str(v).startswith("state_")], axis=0)
        report("molecules, of those given", 0.0, float(np.max(np.abs(every[1:] / 140 - 1))), atol=1e-9)


def doses(model: pk.Model, regimen: pk.Regimen, masses: dict[str, float]) -> dict[str, float]:
    """Self-dose of a simulation [Gy/GBq], by `integrate` and `dose`."""
    names = [n for o in masses for n in (o, f"integral_{o}")]
    run = pk.simulate(model, regimen, [0, 2500.0])[names]
    table = pk.dose(pk.integrate(run), masses=masses)
    print(table)
    return {o: float(table.data["dose"].sel(organ=o).mean()) / regimen.activity * 1e3 for o in masses}


# Gy/GBq of 177Lu-DOTATATE, lowest mean - 2 SD to highest mean + 2 SD of the cohorts (or the printed range where wider).
# Kidneys: Gupta 2013 0.57 +- 0.09, PMC6300448 0.38 +- 0.19, Santoro 2018 0.43 +- 0.13 (to 0.91), Staanum 2021 0.46.
# Spleen and liver: Gupta 2013 (1.17 +- 0.14 and 0.27 +- 0.05; 61 patients, planar, 3.7 to 7.4 GBq) and one patient by
# SPECT/CT after 7.2 GBq (SNMMI 004): spleen 1.33 h in 253 mL, 0.45; liver 0.33. Santoro's liver, 0.54 +- 0.58 with
# lesions in it, bounds nothing. Nobody printed the mass of peptide beside these doses.
COHORTS = {"kidneys": (0.0, 0.91), "spleen": (0.45, 1.45), "liver": (0.17, 0.37)}
GUPTA = {"kidneys": (0.39, 0.75), "spleen": (0.89, 1.45), "liver": (0.17, 0.37)}
FULL, HALF = ("7.4 GBq over 30 min once", "140 nmol"), ("3.7 GBq over 30 min once", "70 nmol")


@cache
def cohort_doses(activity: str, amount: str, siebinga: bool = False) -> dict[str, float]:
    """The reference man [Gy/GBq]; with the receptors that another group found in spleen and liver."""
    model = hot("lu177_dotatate", "Lu-177")
    if siebinga:
        model = model.replace(Bmax_spleen=4.40 / 0.150, Bmax_liver=7.80 / 1.8)
    got = doses(model, pk.Regimen(activity, amount=amount), MASSES)
    for organ, (low, high) in COHORTS.items():
        said = "inside" if low <= got[organ] <= high else "MISSED"
        print(f"{organ} of {activity}, {amount}: {got[organ]:.3f} Gy/GBq, published {low:.2f} to {high:.2f}: {said}")
    return got


@pytest.mark.parametrize(
    ("given", "organ"),
    [
        (FULL, "kidneys"),
        (HALF, "kidneys"),
        (FULL, "spleen"),
        (HALF, "spleen"),
        pytest.param(FULL, "liver", marks=pytest.mark.xfail(strict=True, reason="0.10 for 0.17 to 0.37 Gy/GBq")),
        pytest.param(HALF, "liver", marks=pytest.mark.xfail(strict=True, reason="0.15 for 0.17 to 0.37 Gy/GBq")),
    ],
)
def test_doses_of_177lu_dotatate(given: tuple[str, str], organ: str) -> None:
    """The reference man against the published cohorts, at both ends of the activities that Gupta gave.

    Receptors saturate, so an organ's dose per activity depends on the mass. 140 nmol are assumed for 7.4 GBq; with the
    same molar activity 3.7 GBq are 70 nmol. The liver is missed at both.
    """
    low, high = COHORTS[organ]
    assert low <= cohort_doses(*given)[organ] <= high


@pytest.mark.parametrize(
    ("given", "organ"),
    [
        (FULL, "kidneys"),
        (HALF, "kidneys"),
        (HALF, "spleen"),
        pytest.param(FULL, "spleen", marks=pytest.mark.xfail(strict=True, reason="0.69 for 0.89 to 1.45 Gy/GBq")),
    ],
)
def test_doses_of_the_largest_cohort(given: tuple[str, str], organ: str) -> None:
    """Gupta 2013, mean +- 2 SD: met where 3.7 GBq were given, the spleen missed where 7.4 GBq were."""
    low, high = GUPTA[organ]
    assert low <= cohort_doses(*given)[organ] <= high


def test_two_published_receptor_sets_bracket_spleen_and_liver() -> None:
    """Receptors: 1.1 nmol in spleen and 1.7 in liver (8 patients, this model) or 4.40 and 7.80 (41, Siebinga 2021).

    Gupta's 1.17 and 0.27 Gy/GBq lie between what the two give. The low set stays the default: with 68Ga at 20 nmol it
    gives the published 0.282 and 0.045 mGy/MBq (Walker 2013) within a third, the high one does not.
    """
    low, high = cohort_doses(*FULL), cohort_doses(*FULL, siebinga=True)
    for organ, published in (("spleen", 1.17), ("liver", 0.27)):
        print(f"{organ}: {low[organ]:.3f} to {high[organ]:.3f} Gy/GBq, published {published}")
        assert low[organ] < published < high[organ]
    gallium = hot("ga68_dotatate", "Ga-68")
    for organ, published, own in (("spleen", 0.282, 0.35), ("liver", 0.045, 0.35)):
        ratio = []
        for changes in ({}, {"Bmax_spleen": 4.40 / 0.150, "Bmax_liver": 7.80 / 1.8}):
            run = pk.simulate(gallium.replace(**changes), pk.Regimen("1 MBq once", amount="20 nmol"), [0, 30.0])
            s = pk.s_self("Ga-68", MASSES[organ], organ=organ).value * 1e3
            ratio.append(float(run[f"integral_{organ}"][-1]) * s / published)
        print(f"{organ}, 68Ga: {ratio[0]:.2f} and {ratio[1]:.2f} of the published {published} mGy/MBq")
        assert abs(ratio[0] - 1) < own < abs(ratio[1] - 1)


def test_marrow_of_177lu_dotatate_by_its_blood() -> None:
    """Marrow has the concentration of blood (Forrer 2009): 0.246 Gy from 7.4 GBq, SD 67.5 % (Sood 2026)."""
    run = pk.simulate(hot("lu177_dotatate", "Lu-177"), pk.Regimen("1 MBq once", amount="140 nmol"), GRID)
    plasma, Hct = 3.0, 2.3 / 5.3  # L, 1: ICRP 89
    mobile = (run["state_arterial_hot"] + run["state_venous_hot"]).values / (0.33 * plasma)
    bound = run["state_protein_bound_hot"].values / plasma
    given = float(run["state_venous_hot"][0])
    blood = (1 - Hct) * np.trapezoid((mobile + bound) / given, GRID)  # MBq h per MBq and L
    dose = blood * 1e3 * pk.s_self("Lu-177", 1000.0).value  # a litre of marrow is 1 kg
    low, high = 0.246 / 7.4 * (1 - 0.675), 0.246 / 7.4 * (1 + 0.675)
    print(f"marrow by blood: {dose:.4f} Gy/GBq, published 0.033, {low:.3f} to {high:.3f}")
    assert low <= dose <= high


def test_more_peptide_saturates() -> None:
    """10 to 1000 nmol: tumour, kidneys, spleen and liver take a smaller share each time."""
    rows = [residence("lu177_dotatate", n) for n in (10, 100, 1000)]
    for organ in ("tumour", "kidneys", "spleen", "liver"):
        tau = [r[organ] for r in rows]
        print(f"{organ}: TIAC {tau[0]:.3f}, {tau[1]:.3f}, {tau[2]:.3f} h at 10, 100, 1000 nmol")
        assert tau[0] > tau[1] > tau[2] > 0


def test_albumin_binder_over_dotatoc() -> None:
    """EB-TATE over DOTATOC in the same man: published 1.7, 3.2, 4.7 and 4.0 (5 patients), here within a factor 2."""
    binder, plain = residence("lu177_eb_tate", 100), residence("lu177_dotatoc", 140)
    for organ, published in {"tumour": 1.7, "kidneys": 3.2, "spleen": 4.7, "liver": 4.0}.items():
        ratio = binder[organ] / plain[organ]
        print(f"{organ}: {ratio:.2f} times, published {published}")
        assert ratio > 1
        assert published / 2 <= ratio <= published * 2


def test_dotatoc_in_kidneys() -> None:
    """0.37 Gy/GBq (59 patients), DOTATATE 0.46 (56): the ratio is what KD was fitted to, the doses are not."""
    for name, published in (("lu177_dotatoc", 0.37), ("lu177_dotatate", 0.46)):
        dose = residence(name, 140)["kidneys"] * 1e3 * pk.s_self("Lu-177", 310.0, organ="kidneys").value
        report(f"{name}: kidneys [Gy/GBq]", published, dose, rtol=0.25)
