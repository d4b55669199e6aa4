"""One person's numbers: what follows from them, what still varies in a cohort, and what is refused."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest

import pkmodel as pk
from pkmodel.errors import ModelError, PkmodelError, UnitError
from pkmodel.patients import organ_masses, patient
from pkmodel.requirements import number
from support import report


def value(model: pk.Model, name: str) -> float:
    got = number(name, model.parameters, {})
    assert got is not None, name
    return float(got)


@lru_cache(maxsize=1)
def man() -> pk.Model:
    return pk.load_model("adult_male")


@lru_cache(maxsize=1)
def body() -> pk.Model:
    """A body whose ligand is exchanged and filtered."""
    return pk.assemble(
        "filtered",
        ["adult_male", "passive_body"],
        table={
            "PS": {"unit": "L/h", "formula": "20*L", "meaning": "diffusion"},
            "J": {"unit": "L/h", "formula": "0.3*L", "meaning": "convection"},
        },
        ports=["v_kidneys", "bladder"],
        compartments={
            "v_kidneys": {"unit": "nmol", "region": "kidneys"},
            "bladder": {"unit": "nmol", "region": "bladder"},
        },
        parameters={"GFR": {"unit": "L/h"}, "Vp_kidneys": {"unit": "L", "meaning": "plasma in the kidneys"}},
        flows=["v_kidneys -> bladder: GFR*v_kidneys/Vp_kidneys"],
    )


def test_an_organ_by_volume_or_mass() -> None:
    his = patient(man(), organs={"liver": "1.6 L", "kidneys": "290 g"})
    masses = organ_masses(his)
    report("liver: 1.6 L at 1.04 g/mL [g]", 1664.0, masses["liver"], rtol=1e-12)
    report("kidneys [g]", 290.0, masses["kidneys"], rtol=1e-12)
    report("liver [L]", 1.6, value(his, "V_liver"), rtol=1e-12)
    report("kidneys: blood by mass", 290 / 310, value(his, "Vp_kidneys") / value(man(), "Vp_kidneys"), rtol=1e-9)
    report("kidneys: flow by mass", 290 / 310, value(his, "Q_kidneys") / value(man(), "Q_kidneys"), rtol=1e-9)
    report("spleen is as it was", 150.0, masses["spleen"], rtol=1e-12)
    rest = organ_masses(man())["rest"] + (1800 - 1664) + (310 - 290)
    report("the rest takes what they leave [g]", rest, masses["rest"], rtol=1e-12)
    p = his.parameters["mass_kidneys"]
    assert p.formula is None and p.cv is None and p.source == "this patient"


def test_lean_mass_follows_body_mass_and_height() -> None:
    def fat_free(kg: float, m: float) -> float:  # Janmahasatian 2005, men
        return 9270 * kg / (6680 + 216 * kg / m**2)

    his = patient(man(), body_mass="110 kg", height="175 cm")
    expected = 58.5 * fat_free(110, 1.75) / fat_free(73, 1.76)
    report("lean mass [kg]", expected, value(his, "lean_mass") / 1000, rtol=1e-7)
    report(
        "adipose tissue is the rest of the body [kg]", 110 - expected, organ_masses(his)["adipose"] / 1000, rtol=1e-7
    )
    report("liver grows with lean mass [g]", 1800 * expected / 58.5, organ_masses(his)["liver"], rtol=1e-7)
    report("brain does not [g]", 1450, organ_masses(his)["brain"], rtol=1e-12)
    measured = patient(man(), body_mass="110 kg", lean_mass="70 kg")
    report("lean mass measured [kg]", 40.0, organ_masses(measured)["adipose"] / 1000, rtol=1e-12)


def test_flows_and_blood_follow_the_body() -> None:
    his = patient(man(), body_mass=100, height=1.9)
    report("cardiac output", (100 / 73) ** 0.75, value(his, "Q_total") / value(man(), "Q_total"), rtol=1e-9)
    surface = (100 / 73) ** 0.425 * (1.9 / 1.76) ** 0.725
    report("blood", surface, value(his, "V_blood") / value(man(), "V_blood"), rtol=1e-9)


def test_numbers_take_their_unit() -> None:
    his = patient(body(), GFR="95 mL/min", haematocrit="30 %", body_mass="80000 g")
    report("GFR [L/h]", 5.7, his.parameters["GFR"].value or 0, rtol=1e-12)
    report("haematocrit", 0.30, his.parameters["Hct"].value or 0, rtol=1e-12)
    report("body mass [kg]", 80.0, his.parameters["body_mass"].value or 0, rtol=1e-12)
    assert patient(body(), haematocrit=0.3).parameters["Hct"].value == 0.3
    assert patient(body(), haematocrit="0.3").parameters["Hct"].value == 0.3
    report("anuric", 0.0, patient(body(), GFR="0 mL/min").parameters["GFR"].value or 0, atol=0)


def test_what_was_not_given_is_still_a_formula_or_free() -> None:
    his = patient(body(), organs={"liver": "2.4 L"}, haematocrit=0.38)
    assert {"body_mass", "height", "GFR", "Hct"} <= set(his.primary)
    heavier = his.replace(body_mass=100.0, GFR=3.0)
    assert value(heavier, "Q_kidneys") > 1.1 * value(his, "Q_kidneys")
    report("the liver is what was measured [g]", 2.4 * 1040, organ_masses(heavier)["liver"], rtol=1e-12)


@pytest.mark.slow  # a minute of compilation
def test_a_cohort_still_varies_what_was_not_given() -> None:
    his = patient(body(), organs={"liver": "2.4 L"}, haematocrit=0.38)
    cohort = pd.DataFrame({"body_mass": [60.0, 73.0, 95.0], "GFR": [3.0, 7.2, 8.0]})
    together = pk.simulate(his, "1 nmol once", [0.0, 1.0, 6.0], parameters=cohort)
    for n, (_, row) in enumerate(cohort.iterrows()):
        alone = pk.simulate(patient(his, body_mass=row["body_mass"], GFR=row["GFR"]), "1 nmol once", [0.0, 1.0, 6.0])
        for what in ("urine", "liver"):
            a, b = alone[what].to_numpy().ravel()[-1], together[what].to_numpy()[n].ravel()[-1]
            report(f"patient {n}: {what} at 6 h", float(a), float(b), rtol=1e-6)
    urine = together["urine"].to_numpy()[:, -1]
    assert np.all(np.diff(urine) != 0)


@pytest.mark.parametrize(
    ("numbers", "error", "words"),
    [
        ({"organs": {"livr": "1.6 L"}}, ModelError, "no organ 'livr' (did you mean 'liver'?); known: "),
        ({"organs": {"liver": "80 kg"}}, ModelError, "and the whole body 7.3e+04 g"),
        ({"organs": {"muscle": "35 kg", "bone": "20 kg"}}, ModelError, "give a larger body_mass, a smaller lean_mass"),
        ({"organs": {"liver": "3 h"}}, UnitError, "give a volume or a mass"),
        ({"organs": {"liver": "1.6"}}, UnitError, "has no unit"),
        ({"organs": {"liver": 1600}}, UnitError, "has no unit"),
        ({"organs": {"liver": "0 g"}}, ModelError, "weighs more than nothing"),
        ({"organs": {"rest": "3 kg"}}, ModelError, "rest is what no other organ is"),
        ({"organs": {"adipose": "20 kg"}}, ModelError, "give lean_mass instead"),
        ({"haematocrit": 42}, ModelError, "between 0 and 1. Write 0.42 or '42 %'"),
        ({"haematocrit": 0}, ModelError, "between 0 and 1"),
        ({"haematocrit": "0.4 L"}, UnitError, "dimensionless"),
        ({"body_mass": "73 L"}, UnitError, "written for example in 'kg'"),
        ({"body_mass": -5}, PkmodelError, "body_mass"),
        ({"height": "0 m"}, ModelError, "height"),
        ({"lean_mass": "90 kg"}, ModelError, "lean_mass < body_mass"),
    ],
)
def test_what_is_refused(numbers: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        patient(man(), **numbers)  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_a_model_without_kidneys_takes_no_gfr() -> None:
    plain = pk.assemble(
        "plain",
        ["adult_male", "passive_body"],
        table={k: {"unit": "L/h", "formula": "L", "meaning": "exchange"} for k in ("PS", "J")},
    )
    with pytest.raises(ModelError, match="nothing in this model depends on GFR"):
        patient(plain, GFR="90 mL/min")
    with pytest.raises(ModelError, match="has no body_mass; put it together with a host"):
        patient("whole_body_linear", body_mass="80 kg", organs={"liver": "1 L"})


def test_a_mouse_is_a_patient_too() -> None:
    its = patient("mouse", body_mass="20 g", organs={"kidneys": "0.25 g"})
    report("kidneys [g]", 0.25, organ_masses(its)["kidneys"], rtol=1e-12)
    report("liver [g]", 1.93 * 20 / 28, organ_masses(its)["liver"], rtol=1e-9)
