"""`write_nonmem`: what it writes reads back as the same study; what NONMEM cannot say is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pkmodel as pk
from pkmodel.covariates import Covariate
from pkmodel.data import Curves, Study
from pkmodel.errors import DataError
from pkmodel.formats.curve import BELOW, MEASURED, MISSING, Curve
from pkmodel.simulation import prepare
from support import report

UNITS = {"TIME": "min", "AMT": "mg", "DV": "ng/mL"}
ROUTES: dict[int, str | pk.Route] = {1: "oral", 2: pk.Route("iv", lag="tlag", fraction="F", duration="Tinf", rate="R9")}


def curve(subject: str = "7", **changes: Any) -> Curve:
    t = np.array([0.1, 1.0 / 3.0, 2.0, 12.0, 30.0])
    nothing = np.full(5, np.nan)
    made = Curve(
        subject=subject, region="plasma", kind="plasma", t_start=t, t_end=t, sd=nothing, weights=nothing,
        value=np.array([0.1, np.pi, 7.0, 0.05, np.nan]), n=np.ones(5, dtype=np.int64), unit="ng/mL", nuclide="",
        decay_corrected=True, volume=nothing,
        censored=np.array([MEASURED, MEASURED, MEASURED, BELOW, MISSING], dtype=np.int8),
    )  # fmt: skip
    return made.replace(**changes)


def person(regimen: pk.Regimen, subject: str = "7", **changes: Any) -> Curves:
    covariates: dict[str, float | Covariate] = {
        "WT": 71.3,
        "CRCL": Covariate(np.array([0.1, 5.0, 30.0]), np.array([90.0, 1 / 3, 80.0]), "next"),
    }
    given: dict[str, Any] = {
        "subject": subject, "study": "x", "nuclide": "", "agent": "", "curves": (curve(subject),), "regimen": regimen,
        "covariates": covariates,
    }  # fmt: skip
    return Curves(**(given | changes))


def again(tmp_path: Path, study: Any, **words: Any) -> Study:
    path = tmp_path / "written.csv"
    pk.write_nonmem(study, path, units=UNITS, routes=ROUTES, **words)
    print(path.read_text())
    return pk.read_nonmem(path, units=UNITS, routes=ROUTES, **words)


IV = "lag tlag into iv"
REGIMENS = {
    "nothing": pk.Regimen.nothing(),
    "one": pk.Regimen("0.1 mg once into oral"),
    "repeated": pk.Regimen("100 mg every 8 h x 4 at 20 min into oral; 50 mg at 5 h into oral"),
    "named": pk.Regimen(f"100 mg fraction F {IV}; 30 mg over Tinf fraction F lag tlag at 2 h into iv"),
    "infused": pk.Regimen(f"30 mg rate R9 every 24 h at steady state fraction F {IV}"),
    "rate": pk.Regimen("33.3 mg rate 7 mg/h at 1 h into oral; 10 mg every 7 h at added steady state at 2 h into oral"),
    "reset": pk.Regimen(
        "5 mg/h at steady state into oral; reset at 3 h; reset and 7 mg every 12 h x 3 at 5 h into oral"
    ),
    "twice": pk.Regimen("10 mg every 12 h x 3 into oral; 10 mg every 12 h x 3 into oral"),
    "at a sample": pk.Regimen("1 mg into oral; 1 mg at 12 h into oral"),
}


@pytest.mark.parametrize("name", REGIMENS)
def test_the_same_regimen_comes_back(name: str, tmp_path: Path) -> None:
    one = person(REGIMENS[name])
    (back,) = again(tmp_path, one)
    assert back.regimen == one.regimen
    for field in ("t_start", "value", "censored"):
        assert np.array_equal(getattr(back["plasma"], field), getattr(one["plasma"], field), equal_nan=True), field
    assert back.covariates["WT"] == 71.3
    steps, given = back.covariates["CRCL"], one.covariates["CRCL"]
    assert isinstance(steps, Covariate)
    assert isinstance(given, Covariate)
    assert (steps.t.tolist(), steps.value.tolist()) == (given.t.tolist(), given.value.tolist())
    once = (tmp_path / "written.csv").read_text()
    again(tmp_path, back)
    assert (tmp_path / "written.csv").read_text() == once


def test_a_trough_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "trough.csv"
    path.write_text("ID,TIME,AMT,DV,EVID,CL\n1,0,5,.,1,4\n1,720,0,3,0,4\n1,720,5,.,1,6\n1,800,0,4,0,6\n")
    first = pk.read_nonmem(path, units=UNITS, routes={1: "oral"})
    second = again(tmp_path, first)
    assert second["1"].regimen == first["1"].regimen
    assert second["1"]["plasma"].t.tolist() == first["1"]["plasma"].t.tolist()
    assert str(second["1"].covariates) == str(first["1"].covariates)
    assert "720,0,0" in (tmp_path / "written.csv").read_text()


def test_a_duration_becomes_a_rate(tmp_path: Path) -> None:
    regimen = pk.Regimen("30 mg over 2 h every 12 h x 2 into oral")
    (back,) = again(tmp_path, person(regimen))
    model, times = pk.load_model("pk_1cpt_oral"), [1.0, 5.0, 13.0]
    for t, a, b in zip(
        times, *(prepare(model, r, times).solve().observed[0] for r in (regimen, back.regimen)), strict=True
    ):
        report(f"{t:g} h", float(a), float(b), rtol=1e-12)


def test_occasions_and_regions_come_back(tmp_path: Path) -> None:
    early, late = pk.Regimen("5 mg once into oral"), pk.Regimen("5 mg once into oral; 5 mg at 40 h into oral")
    t = np.array([41.0, 50.0, 60.0, 61.0, 62.0])
    other = curve(t_start=t, t_end=t, region="metabolite")
    study = [
        person(early, occasion="1", covariates={}),
        person(late, occasion="2", covariates={}, curves=(curve(t_start=t, t_end=t), other)),
    ]
    back = again(tmp_path, study, occasion="OCC", regions={1: "plasma", 2: "metabolite"})
    assert [b.regimen for b in back] == [early, late]
    assert [b.regions for b in back] == [("plasma",), ("plasma", "metabolite")]
    assert back.curves[1]["metabolite"].t.tolist() == t.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regimen": pk.Regimen("1 mg once into sc")}, "which routes= does not number"),
        ({"regimen": pk.Regimen("1 mg once lag 2 h into oral")}, "NONMEM reads it from the control stream"),
        ({"regimen": pk.Regimen("1 mg over D7 into oral")}, "its duration is 'D7', that of CMT 1 'D1'"),
        ({"regimen": pk.Regimen("1 mg over 2 h fraction F lag tlag into iv")}, "NONMEM's F shortens an infusion"),
        ({"regimen": pk.Regimen("1 nmol once into oral")}, "is in nmol, but AMT in 'mg'"),
        ({"subject": "anna"}, "NONMEM knows numbers only"),
        ({"curves": (curve(t_end=curve().t + 0.1),)}, "averages over frames"),
        ({"covariates": {"WT": Covariate(np.array([0, 9]), np.array([1, 2]), "linear")}}, "in a straight line"),
        ({"regimen": None, "injected_activity": 5.0, "amount": 3.0}, "a NONMEM dose is one number"),
    ],
)
def test_what_nonmem_cannot_say(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    one = person(pk.Regimen("1 mg once into oral")).replace(**changes)
    with pytest.raises(DataError) as caught:
        pk.write_nonmem(one, tmp_path / "x.csv", units=UNITS, routes=ROUTES)
    print(caught.value)
    assert message in str(caught.value)
    assert not (tmp_path / "x.csv").exists()


def test_names_get_numbers(tmp_path: Path) -> None:
    pk.write_nonmem(person(REGIMENS["one"], "anna"), tmp_path / "x.csv", units=UNITS, routes=ROUTES, ids={"anna": 3})
    assert pk.read_nonmem(tmp_path / "x.csv", units=UNITS, routes=ROUTES).subjects == ("3",)
