"""Joining models and writing one tissue for every organ of a table."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from pkmodel.assembly import load_model
from pkmodel.checks import check
from pkmodel.composition import instantiate, join
from pkmodel.errors import ModelError, UnitError
from pkmodel.labelling import label
from pkmodel.model import Model
from pkmodel.model_file import model_from_dict
from pkmodel.regimen import Regimen
from pkmodel.simulation import simulate
from support import report


def blood() -> Model:
    return model_from_dict(
        {
            "name": "blood",
            "parameters": {"kel": "0.2 1/h", "V": "5 L"},
            "compartments": {"blood": {"unit": "nmol", "region": "blood"}},
            "administration": {"injection": "blood"},
            "flows": ["blood -> : kel*blood"],
            "observables": {"blood_amount": "blood"},
            "references": ["one"],
        }
    )


def organ(**parameters: str) -> Model:
    return model_from_dict(
        {
            "name": "organ",
            "parameters": {"V": "5 L", "PS": "0.5 L/h", **parameters},
            "compartments": {"blood": {"unit": "nmol", "region": "blood"}, "tissue": "nmol"},
            "flows": ["blood -> tissue: PS*blood/V", "tissue -> blood: PS*tissue/V"],
            "observables": {"organ_amount": "tissue"},
            "references": ["one", "two"],
        }
    )


def test_shared_names_are_shared() -> None:
    whole = join(blood(), organ(), name="whole")
    assert whole.name == "whole"
    assert list(whole.parameters) == ["kel", "V", "PS"]
    assert list(whole.compartments) == ["blood", "tissue"]
    assert len(whole.flows) == 3
    assert whole.references == ("one", "two")
    assert check(whole)
    assert join(blood(), organ(), organ()).flows == whole.flows, "joining twice adds nothing"


def test_the_joined_model_moves_as_its_equations_say() -> None:
    run = simulate(join(blood(), organ()), "10 nmol once", [1.0, 7.0, 30.0])
    k, b = 0.1, 0.2
    a = np.array([[-b - k, k], [k, -k]])
    values, vectors = np.linalg.eig(a)
    for i, t in enumerate([1.0, 7.0, 30.0]):
        exact = vectors @ (np.exp(values * t) * np.linalg.solve(vectors, [10.0, 0.0]))
        report(f"blood at {t} h", exact[0], float(run["blood_amount"][i]), rtol=1e-12)
        report(f"organ at {t} h", exact[1], float(run["organ_amount"][i]), rtol=1e-12)


def test_one_value_in_two_units_is_one_value() -> None:
    assert join(blood(), organ(V="5000 mL")).parameters["V"].unit == "L"
    without = organ()
    without = model_from_dict(
        {"name": "open", "parameters": {"V": {"unit": "L"}}, "compartments": {"x": "nmol"}, "observables": {"o": "x/V"}}
    )
    assert join(without, blood()).parameters["V"].value == 5.0
    assert join(blood(), without).parameters["V"].value == 5.0


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (organ(V="5 L/h"), r"parameter V: unit 'L' \(length\^3\) in one and 'L/h'.*rename"),
        (organ(V="6 L"), "parameter V: 5.0 L in one and 6.0 L in the other; make them equal"),
        (organ().rename({"tissue": "kel"}), "'kel' is both"),
    ],
)
def test_clashes(other: Model, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        join(blood(), other)


def test_compartments_of_two_units_clash() -> None:
    other = model_from_dict({"name": "c", "compartments": {"blood": "nmol/L"}, "observables": {"o": "blood"}})
    with pytest.raises(ModelError, match=r"compartment blood: unit 'nmol'.*'nmol/L'"):
        join(blood(), other)


def test_routes_of_one_name() -> None:
    other = organ().rename({"blood": "plasma"})
    raw = {"name": "o", "parameters": {"f": "0.5 1"}, "compartments": {"blood": "nmol"}, "observables": {"o": "blood"}}
    half = model_from_dict({**raw, "administration": {"injection": {"blood": "f"}}})
    with pytest.raises(ModelError, match="administration injection into blood: 1 in one and f in the other"):
        join(blood(), half)
    raw["compartments"] = {"depot": "nmol"}
    raw["observables"] = {"o": "depot"}
    raw["administration"] = {"injection": "depot"}
    twice = check(join(blood(), model_from_dict(raw)))
    print(twice)
    assert not twice and "injection gives 2 times the dose, to blood, depot" in str(twice)
    assert check(join(blood(), other))


def test_labelled_models_are_not_joined_with_unlabelled() -> None:
    with pytest.raises(ModelError, match="label after joining"):
        join(label(blood(), "Lu-177"), organ())
    with pytest.raises(ModelError, match="at least one"):
        join()


TABLE: dict[str, dict[str, float | str]] = {
    "kidneys": {"k_in": 0.00867, "k_out": "0.0141 1/h"},
    "liver": {"k_in": 0.0238, "k_out": 0.0283},
    "remainder": {"k_in": "1.05 1/h", "k_out": 0.744},
}


@pytest.mark.parametrize("as_frame", [False, True])
def test_instantiate_makes_the_whole_body(as_frame: bool) -> None:
    """Blood and exchanging tissues, written once, against the whole-body model that was written out."""
    numbers = {o: {k: float(str(v).split()[0]) for k, v in row.items()} for o, row in TABLE.items()}
    organs = pd.DataFrame.from_dict(numbers, orient="index") if as_frame else TABLE
    tissues = instantiate(load_model("exchange"), organs, shared=["blood"])
    assert [c.region for c in tissues.compartments.values()] == ["blood", *TABLE]
    assert list(tissues.observables) == list(TABLE)
    host = blood().replace(kel=0.288).rename({"V": "V_blood"})
    built = join(host, tissues)
    assert check(built)
    reference = load_model("whole_body_linear")
    times = [1.0, 24.0, 168.0]
    got, expected = (simulate(m, "10 nmol once", times) for m in (built, reference))
    for name in TABLE:
        for i, t in enumerate(times):
            report(f"{name} at {t:g} h", float(expected[name][i]), float(got[name][i]), rtol=1e-12)


def test_shared_parameters_must_agree_between_organs() -> None:
    with pytest.raises(ModelError, match=r"parameter k_out: 0\.1 1/h in one and 0\.2 1/h in the other"):
        table = {"a": {"k_in": 1, "k_out": 0.1}, "b": {"k_in": 1, "k_out": 0.2}}
        instantiate(load_model("exchange"), table, shared=["blood", "k_out"])


@pytest.mark.parametrize(
    ("table", "shared", "kind", "says"),
    [
        ({}, [], ModelError, "no organs"),
        ({"a": {"k_inn": 1}}, ["blood"], ModelError, "no parameter 'k_inn'.*did you mean 'k_in'"),
        ({"a": {"k_in": 1}}, ["bloood"], ModelError, "shared bloood: no such part; known: .*blood"),
        ({"a": {"k_in": "1 L"}}, ["blood"], UnitError, "length"),
        ({"a": {"k_in": math.nan}}, ["blood"], ModelError, "finite"),
        ({"left kidney": {"k_in": 1}}, ["blood"], ModelError, "cannot be a name"),
    ],
)
def test_instantiate_refuses(
    table: dict[str, dict[str, float]], shared: list[str], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        instantiate(load_model("exchange"), table, shared=shared)


def test_inputs_can_be_shared() -> None:
    two = instantiate(
        load_model("one_tissue"), {"cortex": {}, "cerebellum": {"K1": 0.08}}, shared=["Cp", "Cb", "vB", "delay"]
    )
    assert list(two.inputs) == ["Cp", "Cb"]
    assert list(two.observables) == ["cortex", "cerebellum"]
    assert check(two)
    run = simulate(two, None, [0.5], inputs={"Cp": ([0, 1], [1, 1]), "Cb": ([0, 1], [1, 1])})
    for name, k1 in (("cortex", 0.101658), ("cerebellum", 0.08)):
        exact = 0.95 * k1 / 0.0467176 * (1 - math.exp(-30 * 0.0467176)) + 0.05
        report(f"{name} under a constant input", exact, float(run[name][0]), rtol=1e-12)


def test_doses_of_instantiated_organs_add_up() -> None:
    organs = instantiate(load_model("organ_1_phase"), {"left": {"fraction": 0.01}, "right": {"fraction": 0.02}})
    assert check(organs)
    run = simulate(label(organs, "Lu-177"), Regimen("1000 MBq once"), [0.0])
    report("left", 10.0, float(run["left"][0]), rtol=1e-12)
    report("right", 20.0, float(run["right"][0]), rtol=1e-12)
