"""NONMEM data files: every form of header and record that people write, and every mistake named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pkmodel as pk
from pkmodel.errors import DataError
from pkmodel.formats.curve import ABOVE, BELOW, MEASURED, MISSING
from pkmodel.formats.nonmem import AFTER
from pkmodel.inference.protocol import Free
from pkmodel.own_values import personal
from pkmodel.simulation import prepare
from support import report

UNITS = {"TIME": "h", "AMT": "mg", "DV": "mg/L"}


def read(tmp_path: Path, text: str, **words: Any) -> pk.Study:
    path = tmp_path / "data.csv"
    path.write_text(text)
    return pk.read_nonmem(path, **({"units": UNITS} | words))


PLAIN = "ID,TIME,AMT,DV,EVID\n1,0,100,.,1\n1,1,0,1.5,0\n1,4,.,0.7,0\n"
FORMS = {
    "comma": PLAIN,
    "blanks": PLAIN.replace(",", "   "),
    "tabs": PLAIN.replace(",", "\t"),
    "hash before the header": "#" + PLAIN,
    "comments": "# made by hand\n" + PLAIN.replace("1,4", "#1,2,0,9,0\n1,4"),
    "small letters": PLAIN.replace("ID,TIME,AMT,DV,EVID", "id,time,amt,dv,evid"),
    "a column C": "C,ID,TIME,AMT,DV,EVID\n.,1,0,100,.,1\nC,1,0.5,0,99,0\n.,1,1,0,1.5,0\n.,1,4,.,0.7,0\n",
    "a NONMEM table": "TABLE NO.  1\n ID TIME AMT DV EVID\n"
    "  1.0000E+00  0.0000E+00  1.0000E+02  0.0000E+00  1.0000E+00\n"
    "  1.0000E+00  1.0000D+00  0.0000E+00  1.5000E+00  0.0000E+00\n  1 4 0 0.7 0\n",
    "byte order mark": "\ufeff" + PLAIN,
    "no EVID": "ID,TIME,AMT,DV\n1,0,100,.\n1,1,0,1.5\n1,4,.,0.7\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_alike(form: str, tmp_path: Path) -> None:
    one = read(tmp_path, FORMS[form])["1"]
    assert one.regimen == pk.Regimen("100 mg once")
    assert one["plasma"].t.tolist() == [0 + 1.0, 4.0]
    assert one["plasma"].value.tolist() == [1.5, 0.7]
    assert one["plasma"].unit == "mg/L"
    assert one["plasma"].nuclide == ""


def test_a_file_without_header_and_with_letters(tmp_path: Path) -> None:
    text = "Q 1 2 3 4\n1 0 100 . 1\n1 1 0 1.5 0\n"
    one = read(tmp_path, text, columns="ID TIME AMT DV EVID", ignore="@")["1"]
    assert one["plasma"].value.tolist() == [1.5]


def test_dosing_records(tmp_path: Path) -> None:
    rows = """ID TIME AMT RATE II ADDL SS CMT EVID DV
1 0 100 0 12 2 0 1 1 .
1 1 0 0 0 0 0 2 0 5
2 0 100 20 0 0 0 2 1 .
2 1 0 0 0 0 0 2 0 5
3 0 100 -2 24 0 1 2 1 .
3 1 0 0 0 0 0 2 0 5
3 30 50 -1 0 0 0 2 4 .
4 0 0 5 0 0 1 2 1 .
4 1 0 0 0 0 0 2 0 5
4 2 0 0 0 0 0 2 3 .
5 0 100 0 12 1 2 1 1 .
5 1 0 0 0 0 0 2 0 5"""
    study = read(tmp_path, rows, routes={1: "oral", 2: "iv"}, regions={2: "plasma"})
    expected = {
        "1": "100 mg every 12 h x 3 into oral",
        "2": "100 mg rate 20 mg/h into iv",
        "3": "100 mg over D2 every 24 h at steady state into iv; reset and 50 mg rate R2 at 30 h into iv",
        "4": "5 mg/h at steady state into iv; reset at 2 h",
    }
    for subject, text in expected.items():
        assert study[subject].regimen == pk.Regimen(text), subject
    first, second = study["5"].regimen.administrations  # type: ignore[union-attr]
    assert (first.steady, first.every, second.time, second.ordered, second.steady) == ("add", 12.0, 12.0, 0.0, "")


def test_a_sample_above_a_dose_of_its_time_is_a_trough(tmp_path: Path) -> None:
    model = pk.load_model("pk_1cpt")
    below = "ID,TIME,AMT,DV,EVID,CL\n1,0,0,0,0,4\n1,0,100,.,1,4\n1,24,0,0.3,0,4\n1,24,100,.,1,5\n1,25,0,2,0,5\n"
    one = read(tmp_path, below)["1"]
    assert [a.time for a in one.regimen.administrations] == [AFTER, 24 + 24 * AFTER]  # type: ignore[union-attr]
    alone, varying = personal(model, one)
    got = 1e3 * prepare(alone, one.regimen, one["plasma"].t, covariates=varying).solve().observed[0]
    for t, expected, c in zip([0, 24], [0.0, 2 * np.exp(-0.08 * 24)], got, strict=False):
        report(f"before the dose at {t} h", expected, float(c), rtol=1e-7, atol=1e-12)
    above = below.replace("1,24,0,0.3,0,4\n1,24,100,.,1,5\n", "1,24,100,.,1,5\n1,24,0,0.3,0,5\n")
    one = read(tmp_path, above)["1"]
    alone, varying = personal(model, one)
    got = 1e3 * prepare(alone, one.regimen, one["plasma"].t, covariates=varying).solve().observed[0]
    report("after the dose at 24 h", 2 + 2 * np.exp(-0.1 * 24), float(got[1]), rtol=1e-7)


def test_covariates_hold_back_or_forward(tmp_path: Path) -> None:
    text = "ID,TIME,AMT,DV,EVID,CL,WT\n1,0,100,.,1,4,70\n1,10,0,1,0,8,70\n1,20,0,.,2,6,70\n1,30,0,1,0,6,70\n"
    following = read(tmp_path, text, units=UNITS | {"CL": "L/h"})["1"]
    assert following.covariates["WT"] == 70.0
    back, varying = personal(pk.load_model("pk_1cpt"), following)
    got = prepare(back, following.regimen, [10.0, 20.0, 30.0], covariates=varying).solve().observed[0]
    areas = {"next": [80, 80 + 60, 80 + 120], "last": [40, 40 + 80, 40 + 80 + 60]}  # integral of CL: 8, 6, 6; 4, 8, 6
    for c, area in zip(got, areas["next"], strict=True):
        report("next observation carried back", 2e-3 * np.exp(-area / 50), float(c), rtol=1e-9)
    forward = read(tmp_path, text, covariate_rule="last")["1"]
    back, varying = personal(pk.load_model("pk_1cpt"), forward)
    got = prepare(back, forward.regimen, [10.0, 20.0, 30.0], covariates=varying).solve().observed[0]
    for c, area in zip(got, areas["last"], strict=True):
        report("last observation carried forward", 2e-3 * np.exp(-area / 50), float(c), rtol=1e-9)
    minutes = following.replace(covariate_units={"CL": "mL/min"})
    _, varying = personal(pk.load_model("pk_1cpt"), minutes)
    report("a clearance in mL/min [L/h]", 4 * 0.06, float(varying["CL"].value[0]), rtol=1e-12)


def test_limits_and_missing_values(tmp_path: Path) -> None:
    text = "ID,TIME,AMT,DV,EVID,MDV,CENS,BLQ,LLOQ\n1,0,100,.,1,1,.,.,.\n1,1,0,9,0,0,-1,0,.\n1,2,0,5,0,0,0,0,.\n"
    text += "1,3,0,.,0,1,0,0,.\n1,4,0,0.5,0,0,1,0,.\n1,5,0,.,0,0,0,1,0.25\n"
    curve = read(tmp_path, text)["1"]["plasma"]
    assert curve.censored.tolist() == [ABOVE, MEASURED, MISSING, BELOW, BELOW]
    assert curve.value.tolist()[:2] + curve.value.tolist()[3:] == [9, 5, 0.5, 0.25]
    assert np.isnan(curve.value[2])


def test_clock_times_and_dates(tmp_path: Path) -> None:
    text = "ID,DATE,TIME,AMT,DV,EVID\n1,12/31/24,22:30,100,.,1\n1,1/1/2025,1:00,0,1,0\n1,01-02-25,22:30,0,0.5,0\n"
    one = read(tmp_path, text)["1"]
    assert one["plasma"].t.tolist() == [2.5, 48.0]
    text = "ID,DAT2,TIME,AMT,DV,EVID\n1,24/12/31,6,100,.,1\n1,25/01/01,6,0,1,0\n"
    assert read(tmp_path, text)["1"]["plasma"].t.tolist() == [24.0]


def test_times_before_zero_and_after_a_reset(tmp_path: Path) -> None:
    text = "ID,TIME,AMT,DV,EVID\n1,-2,0,0.1,0\n1,0,100,.,1\n1,3,0,1,0\n1,0,50,.,4\n1,3,0,1,0\n"
    one = read(tmp_path, text)["1"]
    assert one["plasma"].t.tolist() == [0.0, 5.0, 8.0]
    assert [round(a.time, 6) for a in one.regimen.administrations] == [2.0, 5.0]  # type: ignore[union-attr]
    assert any("counted on" in w for w in one.warnings)


def test_occasions_keep_what_went_before(tmp_path: Path) -> None:
    text = "ID,TIME,AMT,DV,EVID,OCC\n1,0,100,.,1,1\n1,2,0,1,0,1\n1,24,100,.,1,2\n1,26,0,1.5,0,2\n"
    study = read(tmp_path, text, occasion="OCC")
    assert [(one.occasion, len(one.regimen.administrations)) for one in study] == [("1", 1), ("2", 2)]  # type: ignore[union-attr]
    assert [one["plasma"].t.tolist() for one in study] == [[2.0], [26.0]]


def test_two_regions(tmp_path: Path) -> None:
    text = "ID,TIME,AMT,DV,EVID,DVID\n1,0,100,.,1,0\n1,2,0,1,0,1\n1,2,0,30,0,2\n"
    units = UNITS | {"metabolite": "ng/mL"}
    one = read(tmp_path, text, units=units, regions={1: "plasma", 2: "metabolite"})["1"]
    assert one.regions == ("plasma", "metabolite")
    report("ng/mL to mg/L", 0.03, float(one["metabolite"].to_unit("mg/L").value[0]), rtol=1e-12)
    with pytest.raises(DataError, match="say regions"):
        read(tmp_path, text)


def test_activity(tmp_path: Path) -> None:
    text = "ID,TIME,AMT,DV,EVID\n1,0,7400,.,1\n1,2,0,1,0\n"
    words: dict[str, Any] = {"units": {"TIME": "h", "AMT": "MBq", "DV": "MBq/L"}, "nuclide": "Lu177"}
    with pytest.raises(DataError, match="say decay_corrected"):
        read(tmp_path, text, **words)
    one = read(tmp_path, text, decay_corrected=False, **words)["1"]
    assert (one.nuclide, one["plasma"].decay_corrected, one.injected_activity) == ("Lu-177", False, 7400.0)


BAD = {
    "negative AMT": ("1,0,-100,.,1,0,0,1,0", "row 2: AMT is -100; allowed: zero or above"),
    "missing TIME": ("1,.,100,.,1,0,0,1,0", "row 2: TIME is missing"),
    "text in TIME": ("1,noon,100,.,1,0,0,1,0", "row 2: TIME is 'noon'"),
    "decreasing time": ("1,5,100,.,1,0,0,1,0\n1,4,0,1,0,0,0,1,0", "row 3: TIME goes back, from 5 to 4 h"),
    "unknown EVID": ("1,0,100,.,7,0,0,1,0", "row 2: EVID is 7; allowed: 0, 1, 2, 3, 4"),
    "the EVID of RxODE": ("1,0,100,.,101,0,0,1,0", "RxODE's code"),
    "text in DV": ("1,0,0,BLQ,0,0,0,1,0", "row 2: DV is 'BLQ'; allowed: a number"),
    "no DV": ("1,0,0,.,0,0,0,1,0", "row 2: DV is missing in an observation"),
    "two blocks of one ID": ("1,0,0,1,0,0,0,1,0\n2,0,0,1,0,0,0,1,0\n1,1,0,1,0,0,0,1,0", "rows 2 and 4: ID 1 has two"),
    "unknown CMT": ("1,0,100,.,1,0,0,9,0", "row 2: CMT 9; pk_1cpt_oral has 1 depot, 2 central"),
    "CMT turned off": ("1,0,0,.,2,0,0,-1,0", "compartments cannot be turned off"),
    "II alone": ("1,0,100,.,1,0,12,1,0", "row 2: II without SS or ADDL"),
    "SS without II": ("1,0,100,.,1,1,0,1,0", "row 2: SS is 1 without II"),
    "SS of a kind unknown": ("1,0,100,.,1,3,12,1,0", "SS is 3; allowed: 0, 1"),
    "RATE -2 without a parameter": ("1,0,100,.,1,0,0,2,-2", "RATE -2 needs a parameter D2, which pk_1cpt_oral has not"),
    "RATE -3": ("1,0,100,.,1,0,0,2,-3", "row 2: RATE is -3; allowed: zero or above, -1"),
    "a dose in an observation": ("1,0,100,5,0,0,0,1,0", "AMT is not 0 but EVID 0 is no dose"),
    "a dose of nothing": ("1,0,0,.,1,0,0,1,0", "a dose record without a dose"),
    "too many cells": ("1,0,0,1,0,0,0,1,0,5,6", "row 2: has 11 cells, but there are 9 columns"),
    "no ID": (".,0,0,1,0,0,0,1,0", "row 2: ID is missing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows(case: str, tmp_path: Path) -> None:
    rows, message = BAD[case]
    with pytest.raises(DataError) as caught:
        read(tmp_path, f"ID,TIME,AMT,DV,EVID,SS,II,CMT,RATE\n{rows}\n", model=pk.load_model("pk_1cpt_oral"))
    print(caught.value)
    assert message in str(caught.value)
    assert "data.csv" in str(caught.value)


def test_all_mistakes_of_a_file_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, "ID,TIME,AMT,DV,EVID\n1,0,-1,.,1\n1,x,0,1,0\n2,0,0,high,0\n2,1,0,1,9\n")
    text = str(caught.value)
    assert "has 4 problems" in text
    for row in (2, 3, 4, 5):
        assert f"row {row}:" in text


COVARIATES = "ID,TIME,AMT,DV,EVID,WT,SEX\n1,0,100,.,1,70,F\n1,1,0,1,0,70,F\n2,0,100,.,1,.,M\n2,1,0,1,0,.,M\n"


def test_bad_covariates(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, COVARIATES)
    assert "column SEX holds 'F' and in 3 more rows; a covariate must be a number" in str(caught.value)
    with pytest.raises(DataError, match="covariate WT is missing in every row of ID 2"):
        read(tmp_path, COVARIATES, drop=("SEX",))
    assert read(tmp_path, COVARIATES, drop=("SEX", "WT")).subjects == ("1", "2")
    clash = "ID,TIME,AMT,DV,EVID,CL\n1,0,100,.,1,4\n1,0,50,.,1,5\n1,1,0,1,0,5\n"
    with pytest.raises(DataError, match="covariate CL is 4 and 5 at one time"):
        read(tmp_path, clash, model=pk.load_model("pk_1cpt"))
    with pytest.raises(DataError, match="covariate CL"):
        one = read(tmp_path, clash.replace("50,.,1,5", "50,.,1,4"), units=UNITS | {"CL": "kg"})["1"]
        personal(pk.load_model("pk_1cpt"), one)


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("1,2,3\n", {}, "where the names of the columns belong"),
        ("", {}, "the file is empty"),
        ("# only\n", {}, "has only comments"),
        ("ID;TIME;DV\n1;0;3\n", {}, "separated by ';'"),
        ("ID,TIME,DV,DV\n1,0,3,4\n", {}, "column DV is there twice"),
        ("ID,TIME,CONC\n1,0,3\n", {}, "has no column DV"),
        (PLAIN, {"units": {"TIME": "h", "AMT": "mg"}}, "the unit of DV is not said"),
        (PLAIN, {"units": UNITS | {"AMT": "h"}}, "allowed: mass (mg), amount (nmol) or activity"),
        (PLAIN, {"units": UNITS | {"DV": "MBq/L"}}, "without a nuclide"),
        (PLAIN, {"drop": ("DVX",)}, "drop = 'DVX' is not a column; did you mean 'DV'?"),
        (PLAIN, {"occasion": "OCC"}, "occasion = 'OCC' is not a column"),
        (PLAIN, {"regions": {1: "plasma", 2: "urine"}}, "DVID (or CMT) of a sample is missing"),
    ],
)
def test_bad_files(text: str, words: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, text, **words)
    print(caught.value)
    assert message in str(caught.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(DataError, match="there is no such file"):
        pk.read_nonmem("nowhere.csv", units=UNITS)


def test_a_subject_of_a_file_is_fitted(tmp_path: Path) -> None:
    times = np.array([0.5, 1, 2, 4, 8, 13, 16, 24])
    ka, k, volume = 1.1, 0.09, 30.0
    rows = ["ID,TIME,AMT,DV,EVID,CMT", "1,0,300,.,1,1"]
    c = np.zeros(times.size)
    for start, dose in ((0.0, 300.0), (12.0, 150.0)):
        late = np.maximum(times - start, 0.0)
        c += dose * ka / volume / (ka - k) * (np.exp(-k * late) - np.exp(-ka * late))
    for t, value in zip(times.tolist(), c.tolist(), strict=True):
        rows += ["1,12,150,.,1,1"] if t == 13 else []
        rows.append(f"1,{t!r},0,{value!r},0,2")
    model = pk.load_model("pk_1cpt_oral")
    study = read(tmp_path, "\n".join(rows), model=model)
    protocol = pk.Protocol(name="flip", free={"KA": Free(lower=0.3), "CL": Free(), "V": Free()}, starts=2)
    found = pk.fit(model, study["1"], protocol).values
    for name, expected in {"KA": ka, "CL": k * volume, "V": volume}.items():
        report(name, expected, found[name], rtol=1e-5)
