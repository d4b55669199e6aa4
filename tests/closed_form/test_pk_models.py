"""The plain models of plasma in mg, against 40-digit concentrations and, with three compartments, a matrix exponential
of 40 digits."""

from __future__ import annotations

import csv
from collections import defaultdict

import mpmath  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import pytest

from pkmodel.assembly import load_model
from pkmodel.errors import DataError, PkmodelError, SimulationError, UnitError
from pkmodel.formats.curve import Curve
from pkmodel.labelling import label
from pkmodel.observation import observe
from pkmodel.regimen import Administration, Regimen
from pkmodel.simulation import prepare
from support import report, shared

FOLDER = "oracles/linear_compartment/"
SCENARIOS = {
    "iv_bolus_sd": "100 mg once into iv",
    "infusion2h_sd": "100 mg over 2 h once into iv",
    "oral_sd": "100 mg once into oral",
    "oral_lag0.7_F0.85_sd": "100 mg once into oral",
    "iv_bolus_addl5_ii12": "100 mg every 12 h x 6 into iv",
    "oral_addl5_ii12": "100 mg every 12 h x 6 into oral",
    "infusion2h_addl5_ii12": "100 mg rate 50 mg/h every 12 h x 6 into iv",
    "iv_bolus_ss_ii12": "100 mg every 12 h at steady state into iv",
    "oral_ss_ii12": "0.1 g every 12 h at steady state into oral",
    "infusion2h_ss_ii12": "100000 ug over 2 h every 12 h at steady state into iv",
}


def model_name(kind: str, scenario: str) -> str:
    """The simplest model that has the route."""
    return f"pk_{kind[0]}cpt" + ("_oral_lag" if "lag" in scenario else "_oral" if "oral" in scenario else "")


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("kind", ["1c", "2c"])
def test_against_the_table(kind: str, scenario: str) -> None:
    grouped: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    with shared(FOLDER + "linear_cpt_reference.csv").open() as file:
        for row in csv.DictReader(file):
            grouped[row["model"], row["scenario"]].append((float(row["time_h"]), float(row["conc"])))
    reference = grouped[kind, scenario]
    problem = prepare(load_model(model_name(kind, scenario)), SCENARIOS[scenario], [t for t, _ in reference])
    solution = problem.solve()
    assert solution.status == 0, solution.message
    got = [1e3 * c for c in solution.observed[0].tolist()]  # g/L to mg/L
    worst = max(zip(reference, got, strict=True), key=lambda x: abs(x[1] - x[0][1]) / (x[0][1] or 1.0))
    name = f"{model_name(kind, scenario)}, {scenario}, worst of {len(got)} times ({worst[0][0]:g} h)"
    report(name, worst[0][1], worst[1], rtol=1e-12, atol=0.0 if worst[0][1] else 1e-15)


@pytest.mark.parametrize("route", ["iv", "oral"])
def test_three_compartments(route: str) -> None:
    mpmath.mp.dps = 40
    number = {k: mpmath.mpf(v) for k, v in
              {"CL": "4", "V": "50", "Q": "6", "V2": "80", "Q3": "1.5", "V3": "120", "KA": "1.2"}.items()}  # fmt: skip
    a = mpmath.zeros(4, 4)  # depot, central, peripheral, deep
    a[0, 0], a[1, 0] = -number["KA"], number["KA"]
    a[1, 1] = -(number["CL"] + number["Q"] + number["Q3"]) / number["V"]
    for k, (q, v) in enumerate((("Q", "V2"), ("Q3", "V3")), start=2):
        a[k, 1], a[1, k], a[k, k] = number[q] / number["V"], number[q] / number[v], -number[q] / number[v]
    times = [0.5, 2.0, 8.0, 24.0, 96.0]
    start = mpmath.zeros(4, 1)
    start[0 if route == "oral" else 1] = 100
    problem = prepare(load_model("pk_3cpt" + ("_oral" if route == "oral" else "")), f"100 mg once into {route}", times)
    got = 1e3 * problem.solve().observed[0]
    for t, c in zip(times, got, strict=True):
        expected = (mpmath.expm(a * mpmath.mpf(t)) * start)[1] / number["V"]
        report(f"three compartments, {route}, {t:g} h", float(expected), float(c), rtol=1e-12)


def test_a_mass_into_a_model_in_nmol() -> None:
    from pkmodel.model_file import model_from_dict

    model = model_from_dict(
        {
            "name": "molar",
            "parameters": {"CL": "4 L/h", "V": "50 L", "MW": "150 kg/mol"},
            "compartments": {"central": "nmol"},
            "administration": {"iv": "central"},
            "flows": ["central -> : CL/V*central"],
            "observables": {"plasma": "central/V"},
        }
    )
    got = prepare(model, "300 mg once", [0.0]).solve().observed[0, 0]
    report("300 mg of 150 kg/mol in 50 L [nmol/L]", 300e-3 / 150e3 * 1e9 / 50, float(got), rtol=1e-12)


@pytest.mark.parametrize(
    ("model", "regimen", "message"),
    [
        ("pk_1cpt", "10 nmol once", "its states are masses, so 10 nmol at 0 h needs a mass"),
        ("two_compartment", "10 mg once", "needs a parameter MW"),
        ("pk_1cpt", "10 mg rate 3 nmol/h", "is not a positive rate in g/h"),
        ("pk_1cpt", "10 mL once", "nor a mass (mg)"),
    ],
)
def test_doses_that_do_not_fit(model: str, regimen: str, message: str) -> None:
    with pytest.raises(SimulationError) as caught:
        prepare(load_model(model), regimen, [1.0]).solve()
    print(caught.value)
    assert message in str(caught.value)


def test_a_mass_beside_an_amount() -> None:
    with pytest.raises(SimulationError, match="gives an amount twice"):
        Regimen("10 mg once", amount="5 nmol")
    with pytest.raises(SimulationError, match="a mass beside an activity or an amount"):
        Regimen.of(Administration(0.0, activity=5.0, mass=1.0))


def test_a_drug_in_mg_has_no_label() -> None:
    with pytest.raises(PkmodelError, match="a label needs ligand in nmol"):
        label(load_model("pk_1cpt"), "Lu-177")


def test_concentrations_without_a_nuclide() -> None:
    t, nothing = np.array([1.0, 2.0]), np.full(2, np.nan)
    curve = Curve(
        subject="1", region="plasma", kind="plasma", t_start=t, t_end=t, value=np.array([1.0, 2.0]), sd=nothing,
        weights=nothing, n=np.ones(2, dtype=np.int64), unit="mg/L", decay_corrected=True, nuclide="", volume=nothing,
    )  # fmt: skip
    report("1 mg/L [ng/mL]", 1000.0, float(curve.to_unit("ng/mL").value[0]), rtol=1e-14)
    assert curve.decay_uncorrect() is curve
    assert curve.decay_correct() is curve
    assert "decay" not in str(curve)
    with pytest.raises(DataError, match="without a nuclide"):
        curve.to_unit("kBq/mL")
    with pytest.raises(UnitError, match="cannot be converted"):
        curve.to_unit("nmol/L")
    with pytest.raises(DataError, match="the values are not radioactive"):
        observe(label(load_model("two_compartment"), "Lu-177"), curve, observable="plasma")
