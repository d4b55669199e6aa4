"""Every shipped data set: it loads, it says where it comes from, and its numbers are the transcribed ones."""

from __future__ import annotations

import csv
import math
import re

import numpy as np
import pytest

from pkmodel.data import Curves, load_study
from pkmodel.errors import DataError
from pkmodel.library import find, list_studies
from pkmodel.nuclides import nuclide
from pkmodel.units import dimension
from support import report, shared

SHIPPED = ("dbodc_99mtc", "ds004869_mc1_brain", "l8a4_177lu_mouse", "radioiodine_uptake", "snmmi_p004")
COUNTS = {
    "dbodc_99mtc": (2, 80),
    "ds004869_mc1_brain": (54, 9351),
    "l8a4_177lu_mouse": (2, 60),
    "radioiodine_uptake": (3, 9),
    "snmmi_p004": (1, 24),
}


def rows_of(path: str) -> list[dict[str, str]]:
    with shared(path).open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_these_are_shipped() -> None:
    assert set(SHIPPED) <= set(list_studies())


@pytest.mark.parametrize("name", list_studies())
def test_every_study_is_complete(name: str) -> None:
    study = load_study(name)
    assert study.name == name
    for text in (study.title, study.citation, study.terms):
        assert len(text) > 20
    source = find("study", name).joinpath("SOURCE.md").read_text()
    assert source.startswith(f"# {name}")
    assert re.fullmatch(r"[0-9a-f]{64}", study.digest)
    assert study.digest == load_study(name).digest
    for one in study:
        assert one.study == name and one.subject in study
        for curve in one:
            assert np.all(np.isfinite(curve.value)) and np.all(curve.value >= 0)
            assert np.all(np.diff(curve.t_start) > 0)
    for number in study.published:
        dimension(number.unit)
        assert number.subject in study and number.source


@pytest.mark.parametrize("name", SHIPPED)
def test_counts(name: str) -> None:
    study = load_study(name)
    subjects, values = COUNTS[name]
    report(f"{name}: subjects", subjects, len(study), atol=0.1)
    report(f"{name}: values", values, sum(len(curve) for one in study for curve in one), atol=0.1)


def test_readme_names_every_study() -> None:
    readme = find("study", "snmmi_p004").joinpath("../README.md").read_text()
    for name in list_studies():
        assert f"`{name}`" in readme, name


# snmmi_p004


def test_snmmi_values_are_the_published_ones() -> None:
    patient = load_study("snmmi_p004")["P004"]
    for row in rows_of("therapy/snmmi_p004_177lu_dotatate_tac.csv"):
        curve = patient[row["region"]]
        i = int(np.flatnonzero(curve.t == float(row["time_h"]))[0])
        assert curve.value[i] == float(row["value"]) and curve.unit == row["unit"]
        assert not curve.decay_corrected and curve.nuclide == "Lu-177"
        volume = re.search(r"volume ([\d.]+) mL", row["notes"])
        assert volume is not None and curve.volume[i] == float(volume[1])
    report("injected activity [MBq]", 7210.426, patient.injected_activity or math.nan, atol=5e-4)


def test_snmmi_published_results_are_the_published_ones() -> None:
    study = load_study("snmmi_p004")
    names = {"A": "A_MBq", "l1": "l1_per_h", "l2": "l2_per_h", "R2": "R2", "TIA": "TIA_MBq_h", "TIAC": "TIAC_h"}
    names |= {"dose": "AD_Gy", "dose_per_activity": "AD_Gy_per_GBq", "mean_volume": "mean_volume_mL"}
    names |= {"first_volume": "vol_tp1_mL"}
    compared = 0
    for row in rows_of("therapy/snmmi_p004_expected.csv"):
        for quantity, column in names.items():
            found = study.published_value(row["region"], quantity)
            assert found is not None and found.value == float(row[column]), (row["region"], quantity)
            compared += 1
        injected = study["P004"].injected_activity
        assert injected == float(row["injected_MBq"])
    assert compared == len(study.published) == 40


def test_snmmi_published_numbers_agree_with_each_other_and_with_the_table() -> None:
    study = load_study("snmmi_p004")
    patient = study["P004"]

    def get(region: str, quantity: str) -> float:
        found = study.published_value(region, quantity)
        assert found is not None
        return found.value

    for region in ("kidney_left", "liver", "remainder_of_fov", "whole_fov"):
        tia = get(region, "A") * (1 / get(region, "l1") - 1 / get(region, "l2"))
        report(f"{region}: TIA = A (1/l1 - 1/l2)", get(region, "TIA"), tia, rtol=1e-12)
        report(
            f"{region}: TIAC = TIA / injected", get(region, "TIAC"), tia / (patient.injected_activity or 1), rtol=1e-12
        )
        mean = float(patient[region].volume.mean())
        report(f"{region}: mean volume [mL]", get(region, "mean_volume"), mean, rtol=1e-5)
        report(
            f"{region}: dose per GBq",
            get(region, "dose_per_activity"),
            get(region, "dose") / 7.2104255996395,
            rtol=1e-9,
        )


def test_snmmi_box_is_the_sum_of_its_parts_and_never_an_organ() -> None:
    patient = load_study("snmmi_p004")["P004"]
    parts = ("kidney_left", "kidney_right", "liver", "spleen", "remainder_of_fov")
    for i, whole in enumerate(patient["whole_fov"].value):
        report(f"box at {patient['liver'].t[i]:.3f} h [MBq]", whole, sum(patient[r].value[i] for r in parts), rtol=2e-6)
    assert patient.organs == ("kidney_left", "kidney_right", "liver", "spleen")
    assert patient["whole_fov"].kind == patient["remainder_of_fov"].kind == "field_of_view"


# dbodc_99mtc


def test_dbodc_values_are_the_published_ones() -> None:
    study = load_study("dbodc_99mtc")
    for row in rows_of("therapy/cittanti2008_99mtc_dbodc_tac.csv"):
        curve = study[row["study"].rsplit("_", 1)[1]][row["region"]]
        i = int(np.argmin(abs(curve.t - float(row["time_h"]))))
        assert abs(curve.t[i] - float(row["time_h"])) < 1e-9
        assert (curve.value[i], curve.sd[i], curve.n[i]) == (float(row["value"]), float(row["sd"]), 10)
        assert curve.unit == "%IA" and curve.sd_kind == "sd" and curve.nuclide == "Tc-99m"


def test_dbodc_can_only_be_decay_corrected() -> None:
    """The stated reason: from 4 to 24 h all sixteen effective half-lives are above the physical one."""
    study = load_study("dbodc_99mtc")
    physical = nuclide("Tc-99m").half_life
    half_lives = {
        (one.subject, curve.region): math.log(2) * 20 / math.log(curve.value[3] / curve.value[4])
        for one in study
        for curve in one
    }
    assert len(half_lives) == 16
    shortest, longest = min(half_lives, key=half_lives.__getitem__), max(half_lives, key=half_lives.__getitem__)
    print(f"physical {physical:.3f} h; shortest {shortest} {half_lives[shortest]:.2f} h, longest {longest}")
    assert shortest == ("rest", "liver") and longest == ("exercise", "salivary_glands")
    report("shortest effective half-life [h]", 6.7, half_lives[shortest], atol=0.05)
    report("longest effective half-life [h]", 53, half_lives[longest], atol=0.5)
    assert half_lives[shortest] > physical
    assert any("assumed yes" in text and "effective half-life" in text for text in study["rest"].warnings)


def test_dbodc_declared_uncorrected_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("dbodc_wrong")
    source = find("study", "dbodc_99mtc")
    (folder / "tac.csv").write_bytes(source.joinpath("tac.csv").read_bytes())
    text = source.joinpath("study.toml").read_text().replace('"assumed yes"', '"no"')
    (folder / "study.toml").write_text(text)
    with pytest.raises(DataError, match=r"region heart: effective half-life .* physical half-life of Tc-99m is 6\.0"):
        load_study(folder)


def test_dbodc_abstract_averages_both_conditions() -> None:
    study = load_study("dbodc_99mtc")
    for i, expected in ((2, 3.64), (3, 2.37)):
        mean = float(np.mean([study[s]["liver"].value[i] for s in ("rest", "exercise")]))
        report(f"liver at {study['rest']['liver'].t[i]:g} h, mean of both [%IA]", expected, mean, atol=0.0051)


# radioiodine_uptake


def test_radioiodine_values_are_the_published_ones() -> None:
    study = load_study("radioiodine_uptake")
    subjects = {"A": "uchiyama_a", "B": "uchiyama_b", "cohort": "willegaignon"}
    regions = {"thyroid": "thyroid", "urine_0_24h": "urine", "whole_body_excreted": "excreted"}
    compared = 0
    for row in rows_of("therapy/radioiodine_131i_series.csv"):
        subject = subjects[row["subject"]]
        if row["time_h"]:
            curve = study[subject][regions[row["region"]]]
            i = int(np.flatnonzero(curve.t == float(row["time_h"]))[0])
            assert curve.value[i] == float(row["value"]) and curve.n[i] == int(row["n"])
            assert (curve.sd[i] == float(row["sd"])) if row["sd"] else np.isnan(curve.sd[i])
        else:
            name = "effective_half_life" if "half-life" in row["unit"] else "dose"
            found = study.published_value(row["region"], name, subject)
            scale = 1e-3 if row["unit"].startswith("uGy") else 1.0
            assert found is not None
            report(f"{subject} {row['region']} {name}", float(row["value"]) * scale, found.value, rtol=1e-12)
        compared += 1
    assert compared == 17
    assert study["willegaignon"].injected_activity is None
    report("injected [kBq]", 2.74, 1e3 * (study["uchiyama_a"].injected_activity or math.nan), rtol=1e-12)


def test_radioiodine_sums_show_the_correction() -> None:
    study = load_study("radioiodine_uptake")
    left = 100 * math.exp(-nuclide("I-131").decay_constant * 24)
    report("left by decay at 24 h [%]", 91.7, left, atol=0.05)
    for subject, expected in (("uchiyama_a", 100.9), ("uchiyama_b", 98.3)):
        total = float(sum(study[subject][region].value[0] for region in ("thyroid", "urine")))
        report(f"{subject}: thyroid and urine [%]", expected, total, rtol=1e-12)
        assert total > left
    assert study["uchiyama_a"].organs == ("thyroid",)
    assert {curve.kind for curve in study["willegaignon"]} == {"excreta"}


# l8a4_177lu_mouse


def _label(nuclide_name: str) -> Curves:
    return load_study("l8a4_177lu_mouse")["lu177" if nuclide_name == "Lu-177" else "i125"]


def test_l8a4_values_are_the_published_ones() -> None:
    compared = 0
    for row in rows_of("data/biodistribution/IgG_L8A4_Lu177_I125_U87EGFR_mouse.csv"):
        curve = _label(row["nuclide"])[row["organ"].lower()]
        i = int(np.flatnonzero(np.isclose(curve.t, float(row["time_h"])))[0])
        assert (curve.value[i], curve.sd[i]) == (float(row["mean_pIDg"]), float(row["spread"]))
        assert curve.n[i] == 5 and curve.unit == "%IA/g" and curve.nuclide == row["nuclide"]
        compared += 1
    assert compared == 54  # the thyroid, in percent per organ, is not in that file
    assert _label("Lu-177")["thyroid"].unit == "%IA"


def test_l8a4_blood_ratio_shows_the_correction() -> None:
    ratio = _label("Lu-177")["blood"].value / _label("I-125")["blood"].value
    for expected, got in zip((1.05, 1.01, 1.05), ratio, strict=True):
        report("blood 177Lu / 125I", expected, float(got), atol=0.005)
    faster = nuclide("Lu-177").decay_constant - nuclide("I-125").decay_constant
    report("fall of the ratio if uncorrected", 0.52, math.exp(-faster * 7 * 24), atol=0.005)


def test_l8a4_has_no_mass_so_percent_per_organ_is_refused() -> None:
    with pytest.raises(DataError, match=r"the mass of the region .* is not known"):
        _label("Lu-177")["liver"].to_unit("%IA")
