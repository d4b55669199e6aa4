"""Model files with something wrong in them: each is refused, and the message says who, what, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkmodel.assembly import load_model
from pkmodel.checks import check
from pkmodel.errors import ExpressionError, LibraryError, ModelError, PkmodelError, UnitError
from pkmodel.model_file import model_from_dict, model_from_toml

GOOD = """
name = "plasma_tumour"
[parameters]
CL = { value = 0.3, unit = "L/h", lower = 0, upper = 10, cv = 0.3, status = "published" }
V = { value = 3.0, unit = "L" }
PS = { value = 0.02, unit = "L/h" }
Vt = { formula = "V/60", unit = "L" }
[compartments]
plasma = { unit = "nmol", region = "blood" }
tumour = "nmol"
[inputs]
Cb = "nmol/L"
[administration]
iv = { plasma = "1" }
[[flows]]
from = "plasma"
rate = "CL*plasma/V"
[[flows]]
from = "plasma"
to = "tumour"
rate = "PS*(plasma/V - tumour/Vt)"
[observables]
uptake = "tumour"
[[check]]
regimen = "10 nmol once"
time = "1 h"
expect = { uptake = 1.0 }
source = "none"
"""

CASES: dict[str, tuple[str, str, type[PkmodelError], list[str]]] = {
    "not TOML": ("[parameters]", "[parameters", ModelError, ["not valid TOML", "line 3"]),
    "duplicate name": ("V = {", "CL = {", ModelError, ["not valid TOML"]),
    "no name": ('name = "plasma_tumour"', "", ModelError, ["needs a name"]),
    "unknown top key": ("[observables]", "[observable]", ModelError, ["'observable'", "did you mean 'observables'"]),
    "unknown key": ("lower = 0", "lowr = 0", ModelError, ["parameter CL", "'lowr'", "did you mean 'lower'"]),
    "unknown flow key": ('rate = "CL*', 'rates = "CL*', ModelError, ["'rates'", "did you mean 'rate'"]),
    "compartment typo in a rate": ("CL*plasma/V", "CL*plasm/V", ExpressionError,
        ["flow plasma ->", "'plasm'", "did you mean 'plasma'", "known: "]),
    "compartment typo at an end": ('to = "tumour"', 'to = "tumor"', ModelError,
        ["flow plasma -> tumor", "'tumor'", "did you mean 'tumour'"]),
    "compartment typo in a route": ('iv = { plasma', 'iv = { plasme', ModelError, ["administration iv", "'plasma'"]),
    "observable typo": ('uptake = "tumour"', 'uptake = "tumours"', ExpressionError, ["observable uptake", "'tumour'"]),
    "unit missing": ('PS = { value = 0.02, unit = "L/h" }', "PS = { value = 0.02 }", UnitError,
        ["parameter PS", "no unit", 'unit = "1"']),
    "unit missing in short form": ('PS = { value = 0.02, unit = "L/h" }', 'PS = "0.02"', UnitError,
        ["parameter PS", "no unit", "0.30 L/h"]),
    "unit unknown": ('value = 3.0, unit = "L"', 'value = 3.0, unit = "litrez"', UnitError, ["V", "'litrez'"]),
    "compartment unit missing": ('{ unit = "nmol", region = "blood" }', '{ region = "blood" }', UnitError,
        ["compartment plasma", "no unit"]),
    "compartment unit unknown": ('tumour = "nmol"', 'tumour = "nmolz"', UnitError, ["tumour", "'nmolz'"]),
    "input unit unknown": ('Cb = "nmol/L"', 'Cb = "nmol/litrez"', UnitError, ["input Cb", "'nmol/litrez'"]),
    "observable unit unknown": ('uptake = "tumour"', 'uptake = { formula = "tumour", unit = "xyz" }', UnitError,
        ["uptake", "'xyz'"]),
    "circular definition": ('value = 3.0, unit = "L"', 'formula = "60*Vt", unit = "L"', ModelError,
        ["circular definition", "V -> Vt -> V", "give one of them a value"]),
    "formula of itself": ('formula = "V/60"', 'formula = "Vt/60"', ModelError, ["circular definition Vt -> Vt"]),
    "import in a rate": ("CL*plasma/V", "__import__('os').system('touch oops')", ExpressionError, ["not allowed"]),
    "import in a parameter": ("V/60", "__import__('os').getpid()", ExpressionError, ["parameter Vt", "not allowed"]),
    "keyword as a name": ("PS = {", "lambda = {", ExpressionError, ["parameter", "'lambda' is a Python keyword"]),
    "keyword as a compartment": ('tumour = "nmol"', 'global = "nmol"', ExpressionError, ["compartment", "'global'"]),
    "reserved name": ("V = {", "t = {", ExpressionError, ["'t' is reserved"]),
    "function as a name": ("V = {", "exp = {", ExpressionError, ["'exp' is reserved"]),
    "bounds the wrong way": ("lower = 0, upper = 10", "lower = 10, upper = 0", ModelError, ["CL", "lower bound 10"]),
    "value out of bounds": ("lower = 0, upper = 10", "lower = 1, upper = 10", ModelError,
        ["CL = 0.3", "outside its bounds 1 to 10"]),
    "value not a number": ("value = 3.0", 'value = "3.0"', ModelError, ["parameter V", "expected a number"]),
    "value true": ("value = 3.0", "value = true", ModelError, ["parameter V", "expected a number"]),
    "value infinite": ("value = 3.0", "value = inf", ModelError, ["V = inf", "finite"]),
    "value nan": ("value = 3.0", "value = nan", ModelError, ["V = nan", "finite"]),
    "bound nan": ("lower = 0", "lower = nan", ModelError, ["CL", "lower bound nan"]),
    "spread negative": ("cv = 0.3", "cv = -0.3", ModelError, ["CL", "cv"]),
    "value and formula": ('formula = "V/60"', 'formula = "V/60", value = 1', ModelError, ["Vt", "both"]),
    "unknown status": ('status = "published"', 'status = "rumour"', ModelError, ["'rumour'", "published, derived"]),
    "fixed is not a flag": ("cv = 0.3", 'fixed = "no"', ModelError, ["parameter CL", "true or false"]),
    "check without source": ('source = "none"', "", ModelError, ["[[check]]", "'source'"]),
    "check without numbers": ("expect = { uptake = 1.0 }", "", ModelError, ["[[check]]", "'expect'"]),
    "a name used twice": ('Cb = "nmol/L"', 'plasma = "nmol/L"', ModelError, ["'plasma' is both a compartment and a"]),
    "observable named as a parameter": ('uptake = "tumour"', 'V = "tumour"', ModelError, ["'V' is both"]),
    "flow into itself": ('to = "tumour"', 'to = "plasma"', ModelError, ["they must differ"]),
    "flow from nowhere to nowhere": ('from = "plasma"\nrate', "rate", ModelError, ["'from' or a 'to'"]),
    "flow without a rate": ('rate = "CL*plasma/V"', "", ModelError, ["flow plasma ->", "no rate"]),
    "unknown kind": ('region = "blood"', 'kind = "vessel"', ModelError, ["'vessel'", "ligand, site"]),
    "unknown scope": ("[parameters]", 'scope = "organ"\n[parameters]', ModelError, ["'organ'", "body, region"]),
    "initial of a compartment": ('region = "blood"', 'initial = "tumour"', ExpressionError, ["initial", "'tumour'"]),
    "initial in time": ('region = "blood"', 'initial = "V*t"', ModelError, ["initial plasma", "parameters only"]),
    "formula of a compartment": ('formula = "V/60"', 'formula = "plasma/60"', ExpressionError, ["'plasma'"]),
    "formula in time": ('formula = "V/60"', 'formula = "V*t"', ModelError, ["parameters only", "'t'"]),
    "delay that is not there": ('Cb = "nmol/L"', 'Cb = { unit = "nmol/L", delay = "late" }', ModelError, ["'late'"]),
    "delay by a formula": ('Cb = "nmol/L"', 'Cb = { unit = "nmol/L", delay = "Vt" }', ModelError, ["is a formula"]),
    "route with a bad name": ("iv = {", '"i.v." = {', ExpressionError, ["administration", "'i.v.'"]),
    "observable adds apples to pears": ('uptake = "tumour"', 'uptake = "tumour + V"', UnitError,
        ["observable uptake", "substance", "length^3"]),
    "flows as a table": ("[[flows]]\nfrom = \"plasma\"\nrate", "[flows]\nfrom = \"plasma\"\nrate", ModelError, []),
    "references as text": ("[parameters]", 'references = "doi"\n[parameters]', ModelError, ["must be a list"]),
}  # fmt: skip


def test_the_good_file_is_good() -> None:
    assert check(model_from_toml(GOOD, "good.toml"))


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str) -> None:
    old, new, kind, says = CASES[case]
    assert GOOD.count(old) >= 1, case
    with pytest.raises(kind) as error:
        model_from_toml(GOOD.replace(old, new, 1), "bad.toml")
    text = str(error.value)
    print(text)
    assert text.startswith("bad.toml")
    for part in says:
        assert part in text, text


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            '"CL*plasma/V"',
            '"CL*plasma"',
            ["flow plasma -> (out)", "length^3 * substance * time^-1", "substance * time^-1"],
        ),
        ('"CL*plasma/V"', '"exp(CL)*plasma"', ["flow plasma -> (out)", "must be a pure number"]),
        ('"CL*plasma/V"', '"CL*plasma/V + PS"', ["have different dimensions"]),
        ('unit = "L/h", lower', 'unit = "MBq/h", lower', ["flow plasma -> (out)", "activity"]),
        ('formula = "V/60", unit = "L"', 'formula = "V/60", unit = "1/h"', ["parameter Vt", "time^-1"]),
        ('iv = { plasma = "1" }', 'iv = { plasma = "1/V" }', ["administration iv", "length^-3"]),
    ],
)
def test_wrong_dimension_is_reported_by_check(old: str, new: str, says: list[str]) -> None:
    found = check(model_from_toml(GOOD.replace(old, new, 1), "bad.toml"))
    print(found)
    assert not found
    for part in says:
        assert part in str(found)


def test_a_typo_in_the_name_of_a_model() -> None:
    with pytest.raises(LibraryError, match="two_tissue"):
        load_model("two_tisue")


def test_nothing_is_run_when_a_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("CL*plasma/V", "V/60"):
        text = GOOD.replace(place, "__import__('pathlib').Path('oops').touch()")
        with pytest.raises(ExpressionError):
            model_from_toml(text)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"name": "m", "parameters": ["k"]}, "must be a table"),
        ({"name": "m", "parameters": {"k": 3}}, "expected a table or text"),
        ({"name": "m", "compartments": {"a": 3}}, "expected a table or a unit"),
        ({"name": "m", "compartments": {"a": "nmol"}, "flows": ["a: 1"]}, "from -> to: rate"),
        ({"name": "m", "compartments": {"a": "nmol"}, "flows": [3]}, "a flow is a table or text"),
        ({"name": "m", "compartments": {"a": "nmol"}, "flows": "a -> : a"}, "must be a list"),
        ({"name": "m", "observables": {"o": 3}}, "expected a formula"),
        ({"name": "m", "observables": {"o": {"unit": "1"}}}, "no formula"),
        ({"name": "m", "administration": {"iv": 3}}, "a table of fractions"),
        ({"name": "m", "check": ["x"]}, "must be a table"),
    ],
)
def test_wrong_types(raw: dict[str, object], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        model_from_dict(raw)
