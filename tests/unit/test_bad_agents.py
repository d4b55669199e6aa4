"""What a scientist gets wrong in an agent of the library: each is refused, by name, with what was found and allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

import pkmodel as pk
from pkmodel.errors import LibraryError, ModelError, PkmodelError, UnitError

AGENT = """
name = "mine"
title = "my antibody"
parts = ["man_igg", "antibody_body", "vector_igg", "binder_trastuzumab", "target_her2", "her2_ihc_3", "tumour_simple",
         "atezolizumab_stroh2017_clearance", "label_dota"]
references = ["none"]
tracer = { nuclide = "Lu-177", activity = "1 GBq", amount = "20 nmol" }
[[layers]]
file = "release"
organs = ["*", "tumour"]
[set]
CL = { value = 0.2, unit = "L/d", source = "by hand", status = "assumed" }
"""
AGENT = AGENT.replace('"tumour_simple",\n         "atezolizumab_stroh2017_clearance", ', '"tumour_simple", ')


def _agent(folder: Path, old: str = "", new: str = "", text: str = AGENT) -> Path:
    assert old in text
    path = folder / "mine.toml"
    path.write_text(text.replace(old, new) if old else text)
    return path


def test_as_it_is_it_loads(tmp_path: Path) -> None:
    assert pk.load_agent(_agent(tmp_path)).nuclide == "Lu-177"


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ('"target_her2"', '"target_her22"', LibraryError, "mine.toml: part 'target_her22'.*did you mean 'target_her2'"),
        ('"man_igg"', '"mann_igg"', LibraryError, "mine.toml: part 'mann_igg'.*'man_igg'"),
        ('file = "release"', 'file = "releas"', LibraryError, r"\[\[layers\]\] releas.*'release'"),
        ('organs = ["*", "tumour"]', 'organs = ["*", "tumour", "antlers"]', ModelError, "k_loss_antlers|antlers"),
        ("CL = {", "CLL = {", ModelError, r"\[set\] CLL.*no such parameter"),
        ("CL = {", "koff = { value = 9, unit = '1/h' }\nCL = {", ModelError, "koff.*does not hold"),
        ("CL = {", "Bmax_tumour = { value = 2e9, unit = 'cell/mL' }\nCL = {", UnitError, "Bmax_tumour.*nmol/L"),
        ("CL = {", "Bmax_tumour = { value = 2e6, unit = '1/cell' }\nCL = {", UnitError, "Bmax_tumour.*nmol/L"),
        ("CL = {", "Q_muscle = { value = 0, unit = 'L/h' }\nCL = {", ModelError, "Q_muscle > L_muscle does not hold"),
        ('nuclide = "Lu-177"', 'nuclide = "Lu-1777"', PkmodelError, "Lu-1777"),
        ('amount = "20 nmol"', 'mass = "3 mg"', ModelError, "mass"),
        ('activity = "1 GBq"', 'activity = "1 GBqq"', PkmodelError, "GBqq"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pk.regimen_of(pk.load_agent(_agent(tmp_path, old, new)))


def test_a_fibre_fraction_above_one(tmp_path: Path) -> None:
    path = _agent(tmp_path, '"tumour_simple"', '"tumour_solid"')
    model = pk.load_model(path)
    with pytest.raises(ModelError, match=r"collagen_tumour = 1.2 lies outside its bounds 0 to 0.39"):
        model.replace(collagen_tumour=1.2)


def test_an_organ_larger_than_the_body() -> None:
    model = pk.load_model("lu177_psma617")
    with pytest.raises(ModelError, match="liver"):
        pk.patient(model, organs={"liver": "90 L"})
    with pytest.raises(ModelError, match=r"lver.*liver"):
        pk.patient(model, organs={"lver": "1.6 L"})
    with pytest.raises(PkmodelError, match=r"aematocrit|Hct"):
        pk.patient(model, haematocrit=1.4)
    with pytest.raises(UnitError):
        pk.patient(model, organs={"liver": "1.6 h"})


def test_code_in_a_file_is_text() -> None:
    with pytest.raises(PkmodelError, match="__import__"):
        pk.assemble("evil", ["adult_male"], set={"GFR": {"formula": "__import__('os').getpid()", "unit": "L/h"}})
