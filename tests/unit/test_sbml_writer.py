"""A model written as SBML and read back behaves as it did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sbml_texts as x
from needs_sbml import libsbml
from pkmodel import assembly
from pkmodel.errors import ModelError
from pkmodel.labelling import label
from pkmodel.model import Model
from pkmodel.model_file import model_from_dict
from pkmodel.sbml import read_sbml, write_sbml

TIMES = np.array([0.0, 0.7, 5.0, 40.0])
SATURABLE = model_from_dict(
    {
        "name": "saturable",
        "title": "binding with a limit <and> signs & words",
        "parameters": {
            "V": "3 L",
            "dose": "20 nmol",
            "kon": "0.05 L/nmol/h",
            "koff": "0.1 1/h",
            "Bmax": {"formula": "V*density", "unit": "nmol"},
            "density": "4 nmol/L",
            "kdeg": "0.02 1/h",
            "limit": "5 nmol",
        },
        "compartments": {
            "free": {"unit": "nmol", "initial": "dose"},
            "bound": "nmol",
            "plasma": {"unit": "nmol/L", "initial": "density/2"},
        },
        "flows": [
            "free -> bound: kon*free*max(0, Bmax - bound)/V",
            "bound -> free: koff*bound",
            "bound -> : kdeg*bound*hill(bound, limit, 2)",
            "plasma -> : kdeg*plasma*where(t*kdeg < 0.1 and plasma > density/100, 2, sqrt(2))",
        ],
        "observables": {"seen": "free + bound", "free": "free", "conc": "free/V"},
        "events": [{"name": "wash", "when": "bound < limit/2", "set": {"bound": "bound/2", "koff": "koff*2"}}],
        "administration": {"iv": {"free": 1}},
    }
)


def same(model: Model, doses: dict[str, float] | None = None) -> Model:
    text = write_sbml(model)
    document = libsbml.readSBMLFromString(text)
    document.checkConsistency()
    errors = [document.getError(i) for i in range(document.getNumErrors())]
    assert not [e.getMessage() for e in errors if e.getSeverity() >= libsbml.LIBSBML_SEV_ERROR]
    again = read_sbml(text)
    before, after = x.follow(model, TIMES, doses), x.follow(again, TIMES, doses)
    for name in model.observables:
        found = name if name in model.compartments or f"{name}_observed" not in after else f"{name}_observed"
        np.testing.assert_allclose(after[found], before[name], rtol=1e-6, atol=1e-9, err_msg=name)
    return again


def test_a_model_with_everything() -> None:
    again = same(SATURABLE)
    assert again.references[0].endswith("units as declared in the file")
    assert again.title == SATURABLE.title
    changed = {"dose": 7.0, "density": 9.0}
    before, after = x.follow(SATURABLE.replace(**changed), TIMES), x.follow(again.replace(**changed), TIMES)
    np.testing.assert_allclose(after["seen"], before["seen"], rtol=1e-6)


@pytest.mark.parametrize("name", ["psma617_siebinga2023", "whole_body_linear", "organ_3_phase"])
def test_models_of_the_library(name: str) -> None:
    model = assembly.load_model(name)
    route = next(iter(model.routes.values()))
    same(model, {c: 10.0 * float(f) for c, f in route.items() if f.is_number})


def test_a_labelled_model() -> None:
    same(label(assembly.load_model("whole_body_linear"), "177Lu"), {"in_blood": 5.0})


def test_a_file_is_written(tmp_path: Path) -> None:
    text = write_sbml(SATURABLE, tmp_path / "m.xml")
    assert (tmp_path / "m.xml").read_text(encoding="utf-8") == text
    assert read_sbml(tmp_path / "m.xml").compartments.keys() == SATURABLE.compartments.keys() | {
        "koff"
    }  # an event sets it


def test_a_measured_input_has_no_place() -> None:
    with pytest.raises(ModelError, match="input Cp, Cb is a measured curve"):
        write_sbml(assembly.load_model("two_tissue"))
