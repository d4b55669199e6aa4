"""``*_kinpar.tsv``: what is written is read again, to the last digit, with units, model and version beside it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pkmodel import __version__
from pkmodel.data import load_study
from pkmodel.errors import DataError
from pkmodel.formats.kinpar import read_kinpar, write_kinpar
from pkmodel.inference.fitting import fit
from pkmodel.inference.protocol import ErrorModel, Free, Protocol
from support import report


@dataclass(frozen=True)
class Method:
    """What a result of `pkmodel.pet` shows of itself."""

    method: str
    subject: str
    region: str
    table: pd.DataFrame
    reference: str = "doi:10.1038/jcbfm.1990.127"
    bias: str = "noise lowers VT"
    warnings: tuple[str, ...] = ("t* was chosen",)


def logan(region: str, vt: float) -> Method:
    row = {"value": [vt], "se": [0.1], "unit": ["mL/cm3"], "meaning": ["total distribution volume"]}
    return Method("Logan", "04", region, pd.DataFrame(row, index=pd.Index(["VT"], name="parameter")))


def test_a_fit_goes_out_and_comes_back(tmp_path: Path) -> None:
    scan = load_study("ds004869_mc1_brain")["04", "baseline"]
    rules = Protocol(free={"K1": Free(), "k2": Free()}, fixed={"vB": 0.05}, error=ErrorModel(kind="counts"), starts=1)
    result = fit("one_tissue", scan, rules, inputs="arterial")
    (path,) = write_kinpar(result, tmp_path)
    assert path.name == "sub-04_ses-baseline_model-1TCM_kinpar.tsv"
    back = read_kinpar(path)
    assert set(back["region"]) == {"thalamus", "putamen", "superior_frontal", "cerebellum"}
    assert set(back["parameter"]) == {"K1", "k2", "VT"} and set(back["model"]) == {"1TCM"}
    for row in back.itertuples():
        frame = result.derived if row.parameter == "VT" else result.table
        assert row.value == frame["value"][f"{row.parameter}[{row.region}]"]
        assert row.se == frame["se"][f"{row.parameter}[{row.region}]"]
    assert set(back["unit"]) == {"mL/cm3/min", "1/min", "mL/cm3"}
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["SoftwareVersion"] == __version__ and about["ModelName"] == "one_tissue"
    assert about["ModelDigest"] == result.model.digest and about["Fixed"] == {"vB": "0.05"}
    assert about["VT"] == {"Description": "total distribution volume", "Units": "mL/cm3"}
    assert about["K1-se"]["Units"] == "mL/cm3/min" and about["Warnings"] == list(result.warnings)
    header = path.read_text().splitlines()[0].split("\t")
    assert header == ["pet", "region", "K1", "K1-se", "k2", "k2-se", "VT", "VT-se"]


def test_results_of_a_method_share_one_file(tmp_path: Path) -> None:
    (path,) = write_kinpar([logan("thalamus", 2.664), logan("cerebellum", 2.267)], tmp_path, pet="sub-04_ses-baseline")
    assert path.name == "sub-04_ses-baseline_model-Logan_kinpar.tsv"
    assert list(read_kinpar(path)["value"]) == [2.664, 2.267]
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["KnownBias"] == "noise lowers VT" and about["References"] == ["doi:10.1038/jcbfm.1990.127"]
    with pytest.raises(DataError, match="VT of thalamus is given twice"):
        write_kinpar([logan("thalamus", 1.0), logan("thalamus", 2.0)], tmp_path)
    assert (
        write_kinpar(logan("thalamus", 1.0), tmp_path, desc="model1")[0].name
        == "sub-04_model-Logan_desc-model1_kinpar.tsv"
    )


def test_a_population_gives_one_file_a_scan(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "subject": ["01", "01", "02", "02"],
            "occasion": ["test", "retest", "test", "test"],
            "region": ["thalamus", "thalamus", "thalamus", ""],
            "parameter": ["VT", "VT", "VT", "delay"],
            "value": [1 / 3, 2 / 3, np.nan, 0.1],
            "unit": ["mL/cm3"] * 3 + ["min"],
        }
    )
    paths = write_kinpar(table, tmp_path, model="1TCM")
    assert [p.name for p in paths] == [
        "sub-01_ses-test_model-1TCM_kinpar.tsv",
        "sub-01_ses-retest_model-1TCM_kinpar.tsv",
        "sub-02_ses-test_model-1TCM_kinpar.tsv",
    ]
    assert read_kinpar(paths[0])["value"][0] == 1 / 3
    last = read_kinpar(paths[2]).set_index("parameter")
    assert math.isnan(last["value"]["VT"]) and last["value"]["delay"] == 0.1 and last["region"]["delay"] == "thalamus"
    assert "n/a" in paths[2].read_text() and "-se" not in paths[2].read_text()


def test_a_population_fit_is_written_by_scan(tmp_path: Path) -> None:
    """Each person's numbers and what follows from them are those of a fit of that person alone, here its stand-in."""
    study = load_study("ds004869_mc1_brain")
    rules = Protocol(free={"K1": Free(), "k2": Free()}, error=ErrorModel(kind="counts"), starts=1)
    people, fits = [], {}
    for name in ("04", "05"):
        scan = study[name, "baseline"]
        one = fit("one_tissue", scan, rules, regions=["thalamus"], inputs="arterial")
        people.append(SimpleNamespace(name=name, occasions=("baseline",)))
        fits[name] = SimpleNamespace(
            slots=one.slots, x=one.x, covariance=one.covariance, likelihood=one.likelihood, of=one
        )
    model = next(iter(fits.values())).of.model
    population = SimpleNamespace(individual_fits=fits, crowd=SimpleNamespace(people=people), model=model, warnings=())
    paths = write_kinpar(population, tmp_path)
    assert [p.name for p in paths] == [f"sub-{n}_ses-baseline_model-1TCM_kinpar.tsv" for n in fits]
    for path, person in zip(paths, fits.values(), strict=True):
        back = read_kinpar(path).set_index("parameter")
        assert back["value"]["K1"] == person.of.values["K1[thalamus]"]
        report("VT", float(person.of.derived["value"].iloc[0]), float(back["value"]["VT"]), rtol=1e-12)
        report("its error", float(person.of.derived["se"].iloc[0]), float(back["se"]["VT"]), rtol=1e-9)
        report("error of k2", float(person.of.table["se"]["k2[thalamus]"]), float(back["se"]["k2"]), rtol=1e-9)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no result to write"):
        write_kinpar([], tmp_path)
    with pytest.raises(DataError, match="model '2TCM irr' cannot be in a file name"):
        write_kinpar(logan("thalamus", 1.0), tmp_path, model="2TCM irr")
    nobody = Method("Logan", "", "thalamus", logan("thalamus", 1.0).table)
    with pytest.raises(DataError, match="does not say whose it is"):
        write_kinpar(nobody, tmp_path)
    (path,) = write_kinpar(logan("thalamus", 1.0), tmp_path)
    path.write_text(path.read_text().replace("1.0\t", "one\t"))
    with pytest.raises(DataError, match=r"kinpar.tsv row 2: VT is 'one'; allowed: a number or n/a"):
        read_kinpar(path)
