"""The frozen model: what it computes about itself and how it is changed."""

from __future__ import annotations

import dataclasses

import pytest
import sympy as sp

from pkmodel.errors import ModelError, UnitError
from pkmodel.expressions import symbol
from pkmodel.model import Compartment, Flow, Model, Observable, Parameter
from pkmodel.model_file import model_from_dict
from support import report


def exchange() -> Model:
    return model_from_dict(
        {
            "name": "exchange",
            "parameters": {
                "CL": {"value": 50.0, "unit": "mL/min", "lower": 0, "upper": 500},
                "V": "3 L",
                "k": {"formula": "CL/V", "unit": "1/h"},
                "half": {"formula": "log(2)/k", "unit": "h"},
                "PS": {"unit": "L/h"},
            },
            "compartments": {"plasma": {"unit": "nmol", "region": "blood"}, "tissue": "nmol"},
            "administration": {"iv": "plasma"},
            "flows": ["plasma -> : k*plasma", "plasma -> tissue: PS*(plasma - tissue)/V"],
            "observables": {"seen": "tissue"},
            "derived": {"twice": {"formula": "2*half", "unit": "h"}},
        }
    )


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        exchange().name = "other"  # type: ignore[misc]


def test_formulas_are_written_out_in_primary_parameters() -> None:
    model = exchange()
    cl, v = symbol("CL"), symbol("V")
    assert model.primary == ("CL", "V", "PS")
    assert model.resolved == {symbol("k"): cl / v, symbol("half"): sp.log(2) * v / cl}


def test_rate_of_change_is_in_minus_out() -> None:
    model = exchange()
    plasma, tissue, ps, v, k = (symbol(n) for n in ("plasma", "tissue", "PS", "V", "k"))
    assert sp.expand(model.rate_of_change("plasma") - (-k * plasma - ps * (plasma - tissue) / v)) == 0
    assert sp.expand(model.rate_of_change("tissue") - ps * (plasma - tissue) / v) == 0


def test_canonical_values() -> None:
    values = exchange().replace(PS=0.1).canonical_values({"V": 4.0})
    report("CL of 50 mL/min in L/h", 3.0, values["CL"], rtol=1e-14)
    assert values["V"] == 4.0
    with pytest.raises(ModelError, match=r"no value for PS.*replace\(PS=\.\.\.\)"):
        exchange().canonical_values()


def test_replace() -> None:
    model = exchange()
    report("text with a unit", 100.0, model.replace(CL="6 L/h").parameters["CL"].value or 0, rtol=1e-14)
    report("number in the declared unit", 100.0, model.replace(CL=100).parameters["CL"].value or 0, rtol=1e-14)
    assert model.replace(CL=100).digest == model.digest
    assert model.parameters["CL"].value == 50.0
    new = Parameter(name="ignored", unit="L", value=2.0)
    assert model.replace(V=new).parameters["V"] == dataclasses.replace(new, name="V")


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"Cl": 1.0}, ModelError, "no parameter 'Cl'.*did you mean 'CL'.*known: CL, V"),
        ({"CL": "6 L"}, UnitError, r"length\^3.*'mL/min'"),
        ({"CL": "6"}, UnitError, "has no unit"),
        ({"CL": "6 MBq h"}, UnitError, "activity"),
        ({"CL": 501.0}, ModelError, "outside its bounds"),
        ({"CL": float("nan")}, ModelError, "finite"),
        ({"k": 1.0}, ModelError, "is a formula"),
    ],
)
def test_replace_refuses(change: dict[str, float | str], kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        exchange().replace(**change)


def test_rename() -> None:
    model = exchange()
    renamed = model.rename(
        {"plasma": "tissue", "tissue": "plasma", "CL": "clearance", "seen": "uptake", "twice": "two"}
    )
    plasma, tissue = symbol("plasma"), symbol("tissue")
    swap = {plasma: tissue, tissue: plasma}
    assert renamed.rate_of_change("tissue") == model.rate_of_change("plasma").xreplace(swap)
    assert renamed.observables["uptake"].expression == plasma
    assert renamed.administration["iv"] == {"tissue": 1}
    assert renamed.resolved[symbol("k")] == symbol("clearance") / symbol("V")
    assert "two" in renamed.derived
    back = renamed.rename({"plasma": "tissue", "tissue": "plasma", "clearance": "CL", "uptake": "seen", "two": "twice"})
    assert dict(back.parameters) == dict(model.parameters) and back.flows == model.flows


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({"plasm": "x"}, "cannot rename 'plasm'.*did you mean 'plasma'"),
        ({"plasma": "tissue"}, "gives 'tissue' to two parts"),
        ({"plasma": "CL"}, "'CL' is both"),
        ({"plasma": "lambda"}, "keyword"),
        ({"seen": "V"}, "'V' is both"),
    ],
)
def test_rename_refuses(names: dict[str, str], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        exchange().rename(names)


def by_hand(rate: sp.Expr, seen: sp.Expr = sp.Integer(0)) -> Model:
    return Model(
        name="by_hand",
        parameters={"k": Parameter(name="k", unit="1/h", value=1.0)},
        compartments={"a": Compartment(name="a", unit="nmol")},
        flows=(Flow(source="a", target="", rate=rate),),
        observables={"o": Observable(name="o", expression=seen, unit="nmol")},
    )


def test_a_model_built_by_hand_is_checked_like_a_file() -> None:
    assert by_hand(symbol("k") * symbol("a")).rate_of_change("a") == -symbol("k") * symbol("a")
    with pytest.raises(ModelError, match=r"flow a -> \(out\): 'kk' is neither a parameter nor a compartment"):
        by_hand(symbol("kk") * symbol("a"))
    with pytest.raises(ModelError, match=r"make 'k' with pkmodel\.expressions\.symbol"):
        by_hand(sp.Symbol("k") * symbol("a"))
    with pytest.raises(ModelError, match="observable o: 'b'"):
        by_hand(symbol("k") * symbol("a"), symbol("b"))


def test_digest_follows_the_equations_only() -> None:
    model = exchange()
    assert model.replace(V=4.0, CL=60.0).digest == model.digest
    assert dataclasses.replace(model, title="other", name="other").digest == model.digest
    for changed in (
        dataclasses.replace(model, flows=model.flows[:1]),
        model.rename({"V": "Vc"}),
        dataclasses.replace(model, observables={}),
        dataclasses.replace(model, administration={"iv": {"tissue": sp.Integer(1)}}),
    ):
        assert changed.digest != model.digest


def test_print_shows_everything() -> None:
    text = str(exchange())
    for part in ("plasma [nmol]", "plasma -> tissue: PS*(plasma - tissue)/V", "observe seen [nmol]", "PS = ? L/h"):
        assert part in text, text
