"""A PET-BIDS folder: which files belong together, what they get wrong, and how it is said right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pkmodel.data import Study, load_study
from pkmodel.errors import DataError
from pkmodel.formats.bids import read_bids, read_frames, read_pet
from pkmodel.library import find
from support import report

RIGHT = {"plasma_radioactivity": "kBq/mL", "whole_blood_radioactivity": "kBq/mL"}
BOTH = ["Left-Thalamus", "Right-Thalamus"]


def shipped() -> Path:
    return Path(str(find("study", "ds004869_mc1_brain")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Subject 04 of the shipped folder, to be spoilt."""
    top = tmp_path / "bids"
    top.mkdir()
    for name in ("dataset_description.json", "participants.tsv"):
        shutil.copyfile(shipped() / name, top / name)
    shutil.copytree(shipped() / "sub-04", top / "sub-04")
    shutil.copytree(shipped() / "derivatives/petprep/sub-04", top / "derivatives/petprep/sub-04")
    return top


def scan_file(folder: Path, end: str, session: str = "baseline") -> Path:
    return folder / f"sub-04/ses-{session}/pet/sub-04_ses-{session}_{end}"


def read(folder: Path, **how: object) -> Study:
    return read_bids(folder, **{"blood_decay_corrected": True, **how})  # type: ignore[arg-type]


def refused(folder: Path, *words: str, **how: object) -> None:
    with pytest.raises(DataError) as caught:
        read(folder, **how)
    print(caught.value)
    for word in words:
        assert word in str(caught.value), word


def test_every_scan_is_a_curves_with_its_session_as_occasion() -> None:
    study = load_study("ds004869_mc1_brain")
    assert len(study) == 54 and len(study.subjects) == 27
    assert [one.occasion for one in study][:2] == ["baseline", "blocked"]
    assert {one.nuclide for one in study} == {"C-11"}  # written 11C in 52 scans, C11 in two
    assert study["25", "test"].nuclide == "C-11" and ("25", "retest") in study
    with pytest.raises(
        DataError, match=r"subject 04 has 2 occasions; known: baseline, blocked; say study\['04', 'base"
    ):
        study["04"]
    with pytest.raises(DataError, match="has no occasion 'test'"):
        study["04", "test"]
    assert "04 baseline" in str(study) and "all subjects: decay correction of blood assumed yes" in str(study)


def test_regions_are_averaged_by_volume(folder: Path) -> None:
    one = read(folder, regions={"thalamus": BOTH}, unit="kBq/mL")["04", "baseline"]
    table = folder / "derivatives/petprep/sub-04/ses-baseline/pet/sub-04_ses-baseline_desc-preproc_seg-gtm_tacs.tsv"
    header, *rows = [line.split("\t") for line in table.read_text().splitlines()]
    left, right = (float(rows[9][header.index(name)]) for name in BOTH)
    report(
        "thalamus, frame 10",
        (left * 8.379 + right * 8.266) / 16.645 / 1000,
        float(one["thalamus"].value[9]),
        rtol=1e-12,
    )
    report("its volume [mL]", 16.645, float(one["thalamus"].volume[0]), rtol=1e-12)
    assert one.regions == ("thalamus", "plasma", "whole_blood", "parent_fraction")
    assert {c.unit for c in one if c.kind != "parent_fraction"} == {"kBq/mL"}


def test_plasma_in_the_wrong_unit_is_refused_and_mended() -> None:
    """The sidecar of one of the 54 scans says Bq/mL of numbers that are kBq/mL, as published."""
    refused(
        shipped(),
        "sub-01_ses-blocked: tissue holds 1",
        "times what plasma does",
        "tissue in 'Bq/mL', plasma in 'Bq/mL' (sub-01_ses-blocked_recording-manual_blood.tsv)",
        "units={'sub-01_ses-blocked': {'plasma_radioactivity': 'kBq/mL', 'whole_blood_radioactivity': 'kBq/mL'}}",
        subject="01",
    )
    one = read(shipped(), subject="sub-01", units={"sub-01_ses-blocked": RIGHT})["01", "blocked"]
    assert one["plasma"].unit == "kBq/mL" and one["Left-Thalamus"].unit == "Bq/mL"
    mended = load_study("ds004869_mc1_brain")["01", "blocked"]
    report("peak of plasma [kBq/mL]", 77.53072802791607, float(mended["plasma"].value.max()), rtol=1e-12)


def test_tissue_in_the_wrong_unit_is_refused(folder: Path) -> None:
    path = scan_file(folder, "pet.json")
    path.write_text(path.read_text().replace('"Units": "Bq/mL"', '"Units": "kBq/mL"'))
    refused(folder, "sub-04_ses-baseline: tissue holds 1", "plasma in 'kBq/mL'", "{'tissue': 'Bq/mL'}")
    sure = {"sub-04_ses-baseline": {"tissue": "kBq/mL", "plasma_radioactivity": "kBq/mL"}}
    assert len(read(folder, units=sure)) == 2  # who says both is believed


def test_injected_activity_a_thousand_times_too_small(folder: Path) -> None:
    one = read(folder)["04", "baseline"]
    assert one.injected_activity is None
    said = [w for w in one.warnings if "InjectedRadioactivity is 0.77404 MBq but RadionuclideTotalDose 774.04 MBq" in w]
    assert said and "say units={'InjectedRadioactivity': 'kBq'}" in said[0]
    path = scan_file(folder, "pet.json")
    path.write_text(path.read_text().replace('"RadionuclideTotalDose"', '"Other"'))
    alone = read(folder, units={"weight": "kg"})["04", "baseline"]
    assert alone.injected_activity is None
    assert any("would make regions peak at SUV 3" in w and "InjectedRadioactivity" in w for w in alone.warnings)
    right = read(folder, units={"weight": "kg", "InjectedRadioactivity": "kBq"})["04", "baseline"]
    report("injected [MBq]", 774.04, right.injected_activity or 0.0, rtol=1e-12)
    report("body mass [g]", 62_000, right.body_mass or 0.0, rtol=1e-12)
    suv = right["Left-Thalamus"].to_unit("SUV").value.max()
    report("peak SUV", 39395.3 * 62_000 / 774.04e6, float(suv), rtol=1e-4)
    assert any("weight has no unit" in w for w in one.warnings) and not any("weight" in w for w in right.warnings)


def test_samples_below_zero_are_named_by_row() -> None:
    refused(
        shipped(),
        "sub-02_ses-baseline_recording-manual_blood.tsv row 2",
        "-0.00624068",
        "negative='zero'",
        subject="02",
    )
    kept = read(shipped(), subject="02", negative="keep")["02", "baseline"]
    report("kept [kBq/mL]", -0.006240675538021957, float(kept["plasma"].value[0]), rtol=1e-12)
    zero = read(shipped(), subject="02", negative="zero")["02", "baseline"]
    assert zero["plasma"].value[0] == 0 and zero["plasma"].value[1] == kept["plasma"].value[1]
    assert any("row 2: plasma_radioactivity is -0.0062" in w and "taken as zero" in w for w in zero.warnings)


def test_overlapping_frames_are_named(folder: Path) -> None:
    path = scan_file(folder, "pet.json", "blocked")
    meta = json.loads(path.read_text())
    start, long = np.array(meta["FrameTimesStart"]), np.array(meta["FrameDuration"])
    path.write_text(json.dumps({**meta, "FrameDuration": (start + long).tolist()}))
    refused(folder, "sub-04_ses-blocked_pet.json: 31 of 32 frames overlap the next, first frame 2: 30 to 90 s",
            "frame 3 starts at 60 s", "write FrameDuration = end - start", session="blocked")  # fmt: skip
    assert len(read(folder, session="ses-baseline")) == 1
    long[4] = 45
    path.write_text(json.dumps({**meta, "FrameDuration": long.tolist()}))
    with pytest.raises(DataError, match=r"1 of 32 frames overlap the next, first frame 5: 120 to 165 s"):
        read_frames(path)


def test_what_is_not_said_is_asked_for(folder: Path) -> None:
    with pytest.raises(DataError, match="whether blood is decay-corrected is not in the file"):
        read_bids(folder)
    refused(folder, "no region Thalamus; known: Left-Thalamus", regions=["Thalamus"])
    refused(folder, "derivatives 'other' has no *_tacs.tsv; found: petprep", derivatives="other")
    refused(folder, "no scan of that subject and session; it has 2: sub-04_ses-baseline", subject="05")
    refused(folder, "units: speed: not known", units={"speed": "km/h"})
    refused(folder, "units of sub-09: no such scan", units={"sub-09": {"tissue": "Bq/mL"}})
    refused(folder / "sub-04", "dataset_description.json: the file is missing")
    refused(folder / "nowhere", "there is no such folder")


def test_parent_fraction_in_percent_is_refused_by_row(folder: Path) -> None:
    path = scan_file(folder, "recording-manual_blood.tsv")
    lines = path.read_text().splitlines()
    cells = lines[4].split("\t")
    lines[4] = "\t".join([*cells[:2], "97.9", *cells[3:]])
    path.write_text("\n".join(lines) + "\n")
    refused(folder, "recording-manual_blood.tsv row 5: metabolite_parent_fraction is 97.9", "is it in percent?")


def test_two_tables_of_one_scan_need_a_choice(folder: Path) -> None:
    pet = folder / "derivatives/petprep/sub-04/ses-baseline/pet"
    gtm = pet / "sub-04_ses-baseline_desc-preproc_seg-gtm_tacs.tsv"
    shutil.copyfile(gtm, pet / "sub-04_ses-baseline_desc-preproc_seg-wm_tacs.tsv")
    refused(folder, "sub-04_ses-baseline_pet.json: 2 tables of curves", "segmentation=", session="baseline")
    assert len(read(folder, session="baseline", segmentation="gtm")) == 1
    other = folder / "derivatives/other/sub-04/ses-baseline/pet"
    other.mkdir(parents=True)
    shutil.copyfile(gtm, other / gtm.name)
    refused(folder, "curves in other and petprep; say derivatives='other'")
    assert len(read(folder, derivatives="petprep", segmentation="gtm")) == 2


def test_without_volumes_regions_are_not_averaged(folder: Path) -> None:
    (folder / "derivatives/petprep/sub-04/anat/sub-04_desc-preproc_seg-gtm_morph.tsv").unlink()
    refused(folder, "Left-Thalamus, Right-Thalamus: no volume in a *_morph.tsv", regions={"thalamus": BOTH})
    assert np.isnan(read(folder)["04", "baseline"]["Left-Thalamus"].volume).all()


def test_study_toml_of_a_bids_folder_is_checked(folder: Path) -> None:
    text = (shipped() / "study.toml").read_text()
    one = folder / "study.toml"
    for old, new, message in (
        ('terms    = "CC0', 'licence  = "CC0', "licence: not known; allowed: bids, citation"),
        ('"assumed yes"', '"perhaps"', "blood_decay_corrected = 'perhaps'; allowed: true, false"),
        ('negative    = "zero"', 'negative    = "drop"', "negative = 'drop' is not known"),
        ("[bids.scans.sub-01_ses-blocked]", "[bids.scans.sub-77]", "units of sub-77: no such scan"),
    ):
        one.write_text(text.replace(old, new))
        with pytest.raises(DataError) as caught:
            load_study(folder)
        print(caught.value)
        assert message in str(caught.value)


def test_one_scan_takes_the_same_words() -> None:
    path = shipped() / "sub-01/ses-blocked/pet"
    stem = "sub-01_ses-blocked"
    tacs = shipped() / f"derivatives/petprep/{stem.replace('_', '/')}/pet/{stem}_desc-preproc_seg-gtm_tacs.tsv"
    blood = [path / f"{stem}_recording-manual_blood.tsv"]
    with pytest.raises(DataError, match="times what plasma does"):
        read_pet(path / f"{stem}_pet.json", tacs, blood, blood_decay_corrected=True)
    one = read_pet(path / f"{stem}_pet.json", tacs, blood, blood_decay_corrected=True, units=RIGHT)
    assert one.occasion == "blocked" and one["whole_blood"].unit == "kBq/mL"
