"""Whole models from files: every grammar word does what it says, and what is wrong is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

import pkmodel as pk
from pkmodel.errors import LibraryError, ModelError, UnitError
from support import report

PERFUSED = """
name = "tissue"
ports = ["inlet", "outlet", "lymph"]
shared = ["V_arterial"]
[parameters]
Q = { unit = "L/h" }
L = { unit = "L/h" }
Vp = { unit = "L" }
Vi = { value = 0.3, unit = "L" }
PS = { unit = "L/h" }
V_arterial = { unit = "L" }
[compartments]
inlet = "nmol"
outlet = "nmol"
lymph = "nmol"
v = { unit = "nmol", region = "organ" }
i = { unit = "nmol", region = "organ" }
[[flows]]
from = "inlet"
to = "v"
rate = "Q*inlet/V_arterial"
carrier = "Q"
[[flows]]
from = "v"
to = "outlet"
rate = "(Q - L)*v/Vp"
carrier = "Q - L"
[[flows]]
from = "v"
to = "i"
rate = "(PS + L)*v/Vp - PS*i/Vi"
carrier = "L"
[[flows]]
from = "i"
to = "lymph"
rate = "L*i/Vi"
carrier = "L"
"""
RECEPTOR = """
name = "sites"
shared = ["KD", "kon"]
[parameters]
Vi = { unit = "L" }
V = { unit = "L" }
Bmax = { unit = "nmol/L" }
KD = { unit = "nmol/L" }
kon = { unit = "L/nmol/h" }
[compartments]
i = { unit = "nmol", region = "organ" }
b = { unit = "nmol", region = "organ", receptor = "Bmax*V" }
[[flows]]
from = "i"
to = "b"
rate = "kon/Vi*i*(Bmax*V - b) - kon*KD*b"
"""
HOST = """
name = "small_host"
organs = ["liver", "muscle"]
[parameters]
V_arterial = "1 L"
V_venous = "2 L"
share = "0.002 1"
ps_ratio = { unit = "1" }
Q_total = { unit = "L/h" }
[compartments]
arterial = { unit = "nmol", region = "blood" }
venous = { unit = "nmol", region = "blood" }
[administration]
injection = "venous"
[[flows]]
from = "venous"
to = "arterial"
rate = "Q_total*venous/V_venous"
carrier = "Q_total"
[connect]
"*" = { inlet = "arterial", outlet = "venous", lymph = "venous" }
[sums]
Q_total = { of = "Q", inlet = "arterial", unit = "L/h" }
[table.Q]
unit = "L/h"
values = { liver = 60, muscle = { value = 40, source = "a paper", cv = 0.1 }, tumour = 1 }
[table.L]
unit = "L/h"
formula = "Q*share"
[table.Vp]
unit = "L"
values = { "*" = 0.1 }
[table.V]
unit = "L"
values = { "*" = 1 }
[table.PS]
unit = "L/h"
formula = "ps_ratio*L"
[table.Bmax]
unit = "nmol/L"
values = { liver = 5 }
"""
VECTOR = """
name = "small_vector"
[parameters]
ps_ratio = "10 1"
KD = "1 nmol/L"
kon = "0.5 L/nmol/h"
idle = "3 L"
"""
AGENT = """
name = "small"
parts = ["small_host", "small_vector"]
tracer = { nuclide = "Lu-177", activity = "1 GBq" }
[[layers]]
file = "tissue"
organs = ["*", "tumour"]
[[layers]]
file = "sites"
organs = ["tumour", "liver"]
[table.Bmax]
unit = "nmol/L"
values = { tumour = 50 }
[set]
Vi_tumour = { value = 10, unit = "mL", source = "by hand" }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for text in (PERFUSED, RECEPTOR, HOST, VECTOR, AGENT):
        name = text.split('name = "')[1].split('"')[0]
        (tmp_path / f"{name}.toml").write_text(text)
    return tmp_path


def _with(folder: Path, name: str, old: str, new: str) -> Path:
    path = folder / f"{name}.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return folder / "small.toml"


def test_layers_share_the_compartments_of_an_organ(folder: Path) -> None:
    model = pk.load_model(folder / "small.toml")
    assert set(model.compartments) == {
        "arterial", "venous", "v_liver", "i_liver", "b_liver", "v_muscle", "i_muscle", "v_tumour", "i_tumour",
        "b_tumour",
    }  # fmt: skip
    assert str(model.observables["liver"].expression) == "b_liver + i_liver + v_liver"
    assert model.tracer["nuclide"] == "Lu-177"
    assert pk.check(model)
    assert pk.model_from_toml(pk.model_to_toml(model)) == model


def test_numbers_come_from_where_they_should(folder: Path) -> None:
    model = pk.load_model(folder / "small.toml")
    p = model.parameters
    assert p["Bmax_tumour"].value == 50 and p["Bmax_liver"].value == 5  # the agent's own column, and the host's
    assert p["Vi_tumour"].unit == "mL" and p["Vi_liver"].value == 0.3  # [set], and the layer's default
    assert p["Q_muscle"].source == "a paper" and p["Q_muscle"].cv == 0.1
    assert str(p["PS_liver"].formula) == "L_liver*ps_ratio"
    assert str(p["Q_total"].formula) == "Q_liver + Q_muscle + Q_tumour"
    assert "idle" not in p and "Bmax_muscle" not in p, "what nothing uses is left out"


def test_everything_given_is_present_or_decayed(folder: Path) -> None:
    model = pk.load_model(folder / "small.toml")
    run = pk.simulate(model, "10 nmol once", [0.0, 1.0, 100.0])
    for k in range(3):
        report("whole body", 10.0, float(run["whole_body"][k]), rtol=1e-9)


def test_a_second_copy_of_a_layer(folder: Path) -> None:
    second = '[[layers]]\nfile = "sites"\norgans = ["tumour"]\nrename = { b = "b2", KD = "KD2", kon = "kon2", Bmax = '
    second += '"Bmax2" }\n[table.Bmax2]\nunit = "nmol/L"\nvalues = { tumour = 7 }\n[table.Bmax]'
    path = _with(folder, "small", "[table.Bmax]", second)
    _with(folder, "small_vector", 'KD = "1 nmol/L"', 'KD = "1 nmol/L"\nKD2 = "30 nmol/L"\nkon2 = "0.1 L/nmol/h"')
    model = pk.load_model(path)
    assert {"b_tumour", "b2_tumour"} <= set(model.compartments)
    assert model.parameters["Bmax2_tumour"].value == 7


def test_a_port_may_lead_elsewhere(folder: Path) -> None:
    path = _with(folder, "small_host", "[sums]", 'muscle = { outlet = "v_liver" }\n[sums]')
    _with(
        folder,
        "small_host",
        "Q_total = { of",
        'Q_portal = { of = "Q - L", outlet = "v_liver", unit = "L/h" }\nQ_total = { of',
    )
    model = pk.load_model(path)
    assert any((f.source, f.target) == ("v_muscle", "v_liver") for f in model.flows)
    assert not pk.check(model), "the small liver lets out only its own arterial flow"


def test_from_python(folder: Path) -> None:
    parts = [str(folder / "small_host.toml"), str(folder / "small_vector.toml")]
    layers = [{"file": str(folder / "tissue.toml"), "organs": "*"}]
    model = pk.assemble("mine", parts, layers=layers, set={"Q_liver": "50 L/h"})
    assert model.parameters["Q_liver"].value == 50
    assert "b_liver" not in model.compartments


def test_a_fragment_holds_what_it_says(folder: Path) -> None:
    host = pk.load_model(folder / "small_host.toml")
    assert host.parameters["Q_liver"].value == 60
    assert pk.model_from_toml(pk.model_to_toml(host)) == host


@pytest.mark.parametrize(
    ("file", "old", "new", "error", "message"),
    [
        ("small", '"small_vector"]', '"small_vectr"]', LibraryError, "small.toml: part 'small_vectr'"),
        ("small", 'file = "sites"', 'file = "site"', LibraryError, r"\[\[layers\]\] site"),
        ("small", 'organs = ["tumour", "liver"]', 'organ = ["tumour"]', ModelError, "did you mean 'organs'"),
        ("small", 'organs = ["tumour", "liver"]', "organs = []", ModelError, "needs file"),
        ("small", "values = { tumour = 50 }", "values = { tumor = 50 }", ModelError, r"\[table.Bmax\] has no tumour"),
        ("small", "values = { tumour = 50 }", "value = { tumour = 50 }", ModelError, "did you mean 'values'"),
        ("small", "Vi_tumour = {", "Vi_tumr = {", ModelError, "no such parameter.*did you mean 'Vi_tumour'"),
        ("small", 'value = 10, unit = "mL"', 'value = 10, unit = "1/h"', UnitError, "Vi_tumour"),
        ("small", 'Vi_tumour = { value = 10, unit = "mL", source = "by hand" }', "Vi_tumour = 1", ModelError, "unit"),
        ("small_host", "values = { liver = 60, muscle", "values = { muscle", ModelError, "Q_liver"),
        ("small_host", '"*" = { inlet = "arterial"', '"*" = { inlet = "artery"', ModelError, "port 'artery'"),
        ("small_vector", 'KD = "1 nmol/L"', 'KD = "1 nmol/L"\nV_venous = "3 L"', ModelError, "V_venous"),
        ("small_vector", 'KD = "1 nmol/L"', 'KD = "1 1/L"', UnitError, "KD is given in '1/L'.*needs 'nmol/L'"),
        ("small_vector", "[parameters]", "organs = ['x']\n[parameters]", ModelError, "two hosts"),
        ("small_vector", 'name = "small_vector"', 'name = "small_vector', ModelError, "not valid TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    folder: Path, file: str, old: str, new: str, error: type[Exception], message: str
) -> None:
    path = _with(folder, file, old, new)
    with pytest.raises(error, match=message):
        pk.load_model(path)


def test_a_requirement_is_kept(folder: Path) -> None:
    rule = '[[require]]\nthat = "KD < 5"\nwhy = "tight binders only"\n'
    path = _with(folder, "small_vector", "[parameters]", rule + "[parameters]")
    model = pk.load_model(path)
    with pytest.raises(ModelError, match="KD < 5 does not hold, found KD = 6 nmol/L: tight binders only"):
        model.replace(KD="6 nmol/L")
    with pytest.raises(ModelError, match="tight binders only"):
        pk.assemble("mine", [str(path)], set={"KD": "7 nmol/L"})
    assert pk.label(model, "Lu-177", cold=True).requirements == model.requirements


def test_composed_text_is_not_one_model() -> None:
    with pytest.raises(ModelError, match="load_model"):
        pk.model_from_toml(AGENT)
