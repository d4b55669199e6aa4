"""Every model file: it loads, its equations hold, it survives its own text, and its reference numbers come out."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from pkmodel.assembly import load_model
from pkmodel.checks import check
from pkmodel.errors import ModelError
from pkmodel.labelling import label
from pkmodel.library import find, list_models
from pkmodel.model import STATUSES
from pkmodel.model_file import model_from_toml, model_to_toml
from pkmodel.reference import run_checks
from pkmodel.units import dimension, factor
from support import ROOT, report

NAMES = list_models()
FOLDER = {name: Path(str(find("model", name))).relative_to(ROOT / "models").parts[0] for name in NAMES}
PARTS = [n for n in NAMES if FOLDER[n] != "agents"]  # agents have tests of their own: test_agents.py
WRITTEN = [*PARTS, "lu177_psma617", "zr89_trastuzumab", "ac225_2rs15d", "f18_fmiso", "mouse_in111_mn14"]
load = cache(load_model)


def test_every_file_is_listed() -> None:
    assert sorted(p.stem for p in (ROOT / "models").rglob("*.toml")) == sorted(NAMES)
    assert NAMES


@pytest.mark.parametrize("name", PARTS)
def test_equations_hold(name: str) -> None:
    model = load(name)
    found = check(model)
    print(found)
    assert found
    weighed = {dimension(c.unit) for c in model.compartments.values()} == {dimension("mg")}  # has no label
    if model.compartments and not model.ports and not weighed:
        for cold in (False, True):
            both = check(label(model, "Lu-177", cold=cold))
            print(both)
            assert both


@pytest.mark.parametrize("name", WRITTEN)
def test_round_trip(name: str) -> None:
    model = load(name)
    again = model_from_toml(model_to_toml(model))
    assert again == model
    assert again.digest == model.digest


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is(name: str) -> None:
    model = load(name)
    assert model.name == name
    assert model.title
    assert model.references
    whole = model.compartments and all(p.value is not None or p.formula for p in model.parameters.values())
    assert model.checks or model.ports or not whole or FOLDER[name] == "bodies", "a model proves itself"
    for p in model.parameters.values():
        assert p.meaning, p.name
        assert p.status in STATUSES
        assert p.source or p.value is None, f"{p.name}: where is {p.value} from?"
        factor(p.unit)


@pytest.mark.parametrize("name", [n for n in NAMES if "[[check]]" in find("model", n).read_text(encoding="utf-8")])
def test_reference_numbers(name: str) -> None:
    model = load(name)
    rows = run_checks(model)
    assert len(rows) == sum(len(c["expect"]) for c in model.checks)
    for row in rows:
        assert row.source
        report(f"{row.name} [{row.unit}]", row.expected, row.got, rtol=row.rtol, atol=row.atol)
        assert row.ok


def test_a_wrong_reference_number_is_reported() -> None:
    text = model_to_toml(load_model("two_compartment")).replace("33.7108953614", "33.8")
    (row,) = run_checks(model_from_toml(text))
    print(row)
    assert not row.ok
    assert str(row).startswith("FAIL") and "33.8" in str(row) and "CL" in str(row)


SMALL = """
name = "small"
[parameters]
k = "0.1 1/h"
[compartments]
organ = "nmol"
[administration]
injection = { organ = "1" }
[[flows]]
from = "organ"
rate = "k*organ"
[observables]
amount = "organ"
[[check]]
regimen = "10 nmol once"
time = "10 h"
expect = { amount = 3.6787944117 }
source = "10 exp(-1)"
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('expect = { amount', 'expect = { amuont'), "did you mean 'amount'"),
        (('time = "10 h"', 'quantity = "sum"'), "allowed: value, integral, integral to infinity"),
        (('time = "10 h"', ""), "needs a time"),
        (('source = "10 exp(-1)"', ""), "a reference number without a source proves nothing"),
        (('time = "10 h"', 'times = "10 h"'), "did you mean 'time'"),
    ],
)  # fmt: skip
def test_a_check_that_cannot_be_understood(change: tuple[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        run_checks(model_from_toml(SMALL.replace(*change), "small.toml"))


def test_every_kind_of_check() -> None:
    kinds = {
        'parameters = { k = "0.2 1/h" }\nexpect = { amount = 1.3533528324 }\n': "time",
        'nuclide = "F-18"\nregimen = "1 MBq once"\nexpect = { amount = 0.0083231 }\nrtol = 1e-4\n': "label",
        'quantity = "integral"\nexpect = { amount = 63.212055883 }\n': "integral",
        'quantity = "integral to infinity"\nexpect = { amount = 100.0 }\nrtol = 1e-12\n': "to infinity",
        'regimen = "10 nmol over 5 h once"\nquantity = "integral to infinity"\nexpect = { amount = 100.0 }\n': "slow",
        'atol = 1e-9\nexpect = { amount = 3.6787944117 }\n': "atol alone",
    }  # fmt: skip
    head = SMALL.split("[[check]]")[0]
    for row, what in kinds.items():
        start = "" if "regimen" in row else 'regimen = "10 nmol once"\n'
        rows = run_checks(model_from_toml(f'{head}[[check]]\n{start}time = "10 h"\nsource = "by hand"\n{row}'))
        for r in rows:
            report(f"{what}: {r.name}", r.expected, r.got, rtol=r.rtol, atol=r.atol)


def test_integral_to_infinity_of_a_saturable_model() -> None:
    text = SMALL.replace('k = "0.1 1/h"', 'Vm = "2 nmol/h"\nKm = "3 nmol"').replace("k*organ", "Vm*organ/(Km + organ)")
    text = text.replace('time = "10 h"', 'quantity = "integral to infinity"').replace("3.6787944117", "40.0")
    (row,) = run_checks(model_from_toml(text))
    # integral of x dt with dx/dt = -Vm x/(Km + x): (Km x0 + x0^2/2)/Vm
    report(row.name, (3 * 10 + 50) / 2, row.got, rtol=1e-7)
