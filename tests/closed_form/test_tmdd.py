"""Target-mediated disposition written in the model language, against a reference on which three solvers agree.

Mager DE, Jusko WJ. J Pharmacokinet Pharmacodyn 2001;28:507, doi:10.1023/A:1014414520282. The reference agrees between
Radau, LSODA and DOP853 to 3.6e-10.
"""

from __future__ import annotations

import csv
import json

import pytest

from pkmodel.checks import check
from pkmodel.model import Model
from pkmodel.model_file import model_from_dict
from pkmodel.simulation import simulate
from support import report, shared


def tmdd() -> Model:
    """Ligand in amounts; the receptor is a binding site, made, degraded, and used up with the complex."""
    v = json.loads(shared("oracles/tmdd/tmdd_parameters.json").read_text())
    return model_from_dict(
        {
            "name": "tmdd",
            "parameters": {
                "kel": f"{v['KEL']} 1/h",
                "kpt": f"{v['KPT']} 1/h",
                "ktp": f"{v['KTP']} 1/h",
                "V": f"{v['V2']} L",
                "R0": f"{v['R0']} nmol/L",
                "kdeg": f"{v['KDEG']} 1/h",
                "kint": f"{v['KINT']} 1/h",
                "kon": f"{v['KON']} L/nmol/h",
                "koff": f"{v['KOFF']} 1/h",
                "ksyn": {"formula": "R0*kdeg", "unit": "nmol/L/h"},
            },
            "compartments": {
                "central": "nmol",
                "tissue": "nmol",
                "complex_": {"unit": "nmol", "meaning": "ligand on its receptor"},
                "receptor": {"unit": "nmol/L", "kind": "site", "initial": "R0"},
            },
            "administration": {"iv": "central"},
            "flows": [
                "central -> : kel*central",
                "central -> tissue: kpt*central - ktp*tissue",
                "central -> complex_: kon*central*receptor - koff*complex_",
                "complex_ -> : kint*complex_",
                " -> receptor: ksyn",
                "receptor -> : kdeg*receptor",
                "receptor -> : kon*central/V*receptor - koff*complex_/V",
            ],
            "observables": {"CP": "central/V", "RC": "complex_/V", "R": "receptor"},
        }
    )


def test_its_equations_hold() -> None:
    found = check(tmdd())
    print(found)
    for what in ("units", "mass balance", "doses"):
        assert [f.ok for f in found.findings if f.what == what] == [True]


@pytest.mark.parametrize("dose", ["10.0"])
def test_reference(dose: str) -> None:
    with shared("oracles/tmdd/tmdd_full_reference.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["dose_amount"] == dose]
    assert len(rows) == 20
    times = [float(r["time"]) for r in rows]
    run = simulate(tmdd(), f"{dose} nmol once", times, rtol=1e-9, atol=1e-12)
    assert "Rosenbrock" in run.attrs["solver"]
    names = {"CP": "CP", "A_tissue": "state_tissue", "R_free": "R", "RC_complex": "RC"}
    for i, row in enumerate(rows):
        for column, name in names.items():
            report(f"{column} at {times[i]:g} h", float(row[column]), float(run[name][i]), rtol=1e-6, atol=1e-9)
