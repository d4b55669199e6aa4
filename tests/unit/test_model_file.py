"""Models as text and as dictionaries: the same words, the same model, there and back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkmodel.expressions import parse, symbol
from pkmodel.model import Compartment, Flow, Input, Model, Observable, Parameter
from pkmodel.model_file import model_from_dict, model_from_toml, model_to_toml

TEXT = """
name  = "plasma_tumour"
title = "Two-compartment plasma kinetics with a receptor-bearing tumour"
references = ["doi:10.1000/one"]
[parameters]
CL   = { value = 0.30, unit = "L/h", lower = 0, cv = 0.3, meaning = "clearance", source = "me", status = "published" }
V    = { value = 3.0, unit = "L", lower = 0 }
PS   = { value = 0.02, unit = "L/h" }
Vt   = { value = 50, unit = "mL" }
Bmax = { value = 40, unit = "nmol/L" }
KD   = { value = 1, unit = "nmol/L", fixed = true }
kon  = { value = 0.36, unit = "L/nmol/h" }
koff = { formula = "KD*kon", unit = "1/h" }
late = { value = 1, unit = "min" }
[compartments]
plasma = { unit = "nmol", region = "blood" }
free   = { unit = "nmol", region = "tumour", initial = "0.1*Bmax*Vt" }
bound  = { unit = "nmol", region = "tumour", receptor = "Bmax*Vt", meaning = "on the cells" }
[inputs]
Cb = { unit = "nmol/L", delay = "late", meaning = "blood" }
[administration]
iv = { plasma = "1" }
[[flows]]
from = "plasma"
rate = "CL*plasma/V"
name = "clearance"
carrier = "CL"
[[flows]]
from = "plasma"
to   = "free"
rate = "PS*(plasma/V - free/Vt)"
[[flows]]
from = "free"
to   = "bound"
rate = "kon/Vt*free*(Bmax*Vt - bound) - koff*bound"
[[flows]]
to   = "free"
rate = "PS*Cb*where(t < 5, 1, 0)"
[observables]
tumour = "free + bound"
occupancy = { formula = "bound/(Bmax*Vt)", unit = "%", meaning = "occupied share" }
[derived]
T_half = { formula = "log(2)*V/CL", unit = "h" }
[[check]]
regimen = "10 nmol once"
inputs  = { Cb = [[0, 0], [48, 0]] }
time    = "24 h"
expect  = { tumour = 0.5 }
rtol    = 1e-6
source  = "nobody"
"""


def in_python() -> Model:
    """The same model from its parts."""
    p = ["CL", "V", "PS", "Vt", "Bmax", "KD", "kon", "koff", "late"]
    every = [*p, "plasma", "free", "bound", "Cb"]

    def read(text: str) -> object:
        return parse(text, every, "here")

    parts = [
        Parameter(name="CL", unit="L/h", value=0.3, lower=0, cv=0.3, meaning="clearance",
                  source="me", status="published"),
        Parameter(name="V", unit="L", value=3.0, lower=0),
        Parameter(name="PS", unit="L/h", value=0.02),
        Parameter(name="Vt", unit="mL", value=50),
        Parameter(name="Bmax", unit="nmol/L", value=40),
        Parameter(name="KD", unit="nmol/L", value=1, fixed=True),
        Parameter(name="kon", unit="L/nmol/h", value=0.36),
        Parameter(name="koff", unit="1/h", formula=symbol("KD") * symbol("kon")),
        Parameter(name="late", unit="min", value=1),
    ]  # fmt: skip
    return Model(
        name="plasma_tumour",
        title="Two-compartment plasma kinetics with a receptor-bearing tumour",
        references=("doi:10.1000/one",),
        parameters={q.name: q for q in parts},
        compartments={
            "plasma": Compartment(name="plasma", unit="nmol", region="blood"),
            "free": Compartment(name="free", unit="nmol", region="tumour", initial=read("0.1*Bmax*Vt")),
            "bound": Compartment(
                name="bound", unit="nmol", region="tumour", receptor=read("Bmax*Vt"), meaning="on the cells"
            ),
        },
        inputs={"Cb": Input(name="Cb", unit="nmol/L", delay="late", meaning="blood")},
        administration={"iv": {"plasma": read("1")}},
        flows=(
            Flow(source="plasma", target="", rate=read("CL*plasma/V"), name="clearance", carrier=read("CL")),
            Flow(source="plasma", target="free", rate=read("PS*(plasma/V - free/Vt)")),
            Flow(source="free", target="bound", rate=read("kon/Vt*free*(Bmax*Vt - bound) - koff*bound")),
            Flow(source="", target="free", rate=read("PS*Cb*where(t < 5, 1, 0)")),
        ),
        observables={
            "tumour": Observable(name="tumour", expression=read("free + bound"), unit="nmol"),
            "occupancy": Observable(
                name="occupancy", expression=read("bound/(Bmax*Vt)"), unit="%", meaning="occupied share"
            ),
        },
        derived={"T_half": Parameter(name="T_half", unit="h", formula=read("log(2)*V/CL"))},
        checks=model_from_toml(TEXT).checks,
    )


def test_python_and_toml_give_the_same_model() -> None:
    assert model_from_toml(TEXT) == in_python()
    assert model_from_toml(TEXT).digest == in_python().digest


def test_the_file_a_model_came_from_is_not_part_of_it() -> None:
    assert model_from_toml(TEXT, "here.toml") == model_from_toml(TEXT, "there.toml")


def test_round_trip_says_everything() -> None:
    model = model_from_toml(TEXT)
    again = model_from_toml(model_to_toml(model))
    assert again == model
    assert model_to_toml(again) == model_to_toml(model)


def test_short_forms() -> None:
    short = model_from_dict(
        {
            "name": "wash",
            "parameters": {"k": "0.1 1/h", "f": "5 %"},
            "compartments": {"organ": "nmol", "urine": "nmol"},
            "administration": {"iv": "organ"},
            "flows": ["organ -> urine: k*organ"],
            "observables": {"amount": "organ"},
        }
    )
    long = model_from_toml(
        """name = "wash"
        parameters.k = { value = 0.1, unit = "1/h" }
        parameters.f = { value = 5, unit = "%" }
        compartments.organ = { unit = "nmol" }
        compartments.urine = { unit = "nmol" }
        administration.iv = { organ = 1 }
        flows = [{ from = "organ", to = "urine", rate = "k*organ" }]
        observables.amount = { formula = "organ", unit = "nmol" }
        """
    )
    assert short == long
    assert str(short.rate_of_change("organ")) == "-k*organ"


@pytest.mark.parametrize(
    ("formula", "unit"),
    [("a", "pmol"), ("a + b", "nmol"), ("a/V", "nmol/L"), ("a/(a + b)", "1"), ("k*a", "nmol/h"), ("sqrt(a*b)", "nmol")],
)
def test_units_of_observables_are_inferred(formula: str, unit: str) -> None:
    model = model_from_dict(
        {
            "name": "m",
            "parameters": {"V": "3 L", "k": "1 1/h"},
            "compartments": {"a": "pmol", "b": "nmol"},
            "flows": ["a -> b: k*a"],
            "observables": {"seen": formula},
        }
    )
    assert model.observables["seen"].unit == unit


@given(
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=30),
    st.floats(allow_nan=False, allow_infinity=False, width=64),
    st.one_of(st.none(), st.floats(1e-9, 1e9)),
)
def test_any_prose_and_any_number_survive(prose: str, value: float, cv: float | None) -> None:
    k = Parameter(name="k", unit="1/h", value=value, lower=-math.inf, upper=max(value, 1.0), cv=cv, meaning=prose)
    model = Model(name="m", title=prose, parameters={"k": k}, references=(prose,))
    assert model_from_toml(model_to_toml(model)) == model
