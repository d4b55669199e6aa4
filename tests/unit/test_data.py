"""Curves: conversions against numbers worked by hand, decay correction both ways, selection, tables, printing."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkmodel.data import Curve, Curves, decay_factor, load_study
from pkmodel.errors import DataError, UnitError
from pkmodel.formats.bids import read_frames, read_pet
from pkmodel.nuclides import nuclide
from support import report, shared

NAN = math.nan


def curve(**changes: object) -> Curve:
    """100 MBq in 250 mL and 260 g at 10 and 20 h, of 1000 MBq in a body of 80 kg."""
    fields: dict[str, object] = {
        "subject": "P01",
        "region": "kidney",
        "kind": "tissue",
        "t_start": [10.0, 20.0],
        "t_end": [10.0, 20.0],
        "value": [100.0, 50.0],
        "sd": [10.0, NAN],
        "weights": [4.0, NAN],
        "n": [1, 1],
        "unit": "MBq",
        "decay_corrected": True,
        "nuclide": "Lu-177",
        "volume": [250.0, 250.0],
        "mass": 260.0,
        "injected_activity": 1000.0,
        "body_mass": 80_000.0,
        "sd_kind": "sd",
        "rows": (2, 3),
        "source": "mine/tac.csv",
    }
    return Curve(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("MBq", 100.0),
        ("Bq", 1e8),
        ("kBq", 1e5),
        ("Bq/mL", 1e8 / 250),
        ("kBq/mL", 400.0),
        ("MBq/g", 100 / 260),
        ("%IA", 10.0),
        ("%ID", 10.0),
        ("%IA/g", 10 / 260),
        ("%IA/mL", 10 / 250),
        ("SUV", 0.4 * 80_000 / 1000),  # (MBq/mL) / (MBq/g)
    ],
)
def test_to_unit_by_hand_and_back(unit: str, expected: float) -> None:
    there = curve().to_unit(unit)
    report(f"100 MBq in {unit}", expected, float(there.value[0]), rtol=1e-12)
    report(f"its SD in {unit}", expected / 10, float(there.sd[0]), rtol=1e-12)
    assert there.unit == unit
    back = there.to_unit("MBq")
    report(f"back from {unit}", 100.0, float(back.value[0]), rtol=1e-12)
    report("weights survive the round trip", 4.0, float(back.weights[0]), rtol=1e-12)


def test_weights_keep_the_weighted_sum_of_squares() -> None:
    before, after = curve(), curve().to_unit("kBq/mL")
    report(
        "w v^2",
        float(before.weights[0] * before.value[0] ** 2),
        float(after.weights[0] * after.value[0] ** 2),
        rtol=1e-12,
    )


def test_density_relates_mass_and_volume() -> None:
    bare = curve(mass=None, volume=[NAN, NAN], unit="%IA/g", value=[2.0, 1.0])
    report(
        "2 %IA/g at 1.05 g/mL in kBq/mL",
        2 * 1.05 * 0.01 * 1e6,
        bare.to_unit("kBq/mL", density="1.05 g/mL").value[0],
        rtol=1e-12,
    )
    only_volume = curve(mass=None)
    report(
        "100 MBq in 250 mL at 1.04 g/mL",
        100 / 260,
        only_volume.to_unit("MBq/g", density="1.04 g/mL").value[0],
        rtol=1e-12,
    )
    only_mass = curve(volume=[NAN, NAN])
    report("100 MBq in 260 g at 1.04 g/mL", 0.4, only_mass.to_unit("MBq/mL", density="1.04 g/mL").value[0], rtol=1e-12)
    with pytest.raises(DataError, match=r"density '1\.05 g' is not a mass per volume"):
        bare.to_unit("kBq/mL", density="1.05 g")


@pytest.mark.parametrize(
    ("changes", "unit", "message"),
    [
        ({"injected_activity": None}, "%IA", "injected activity is not known; give injected_activity"),
        ({"body_mass": None}, "SUV", "body mass is not known; give body_mass"),
        ({"volume": [250.0, NAN]}, "kBq/mL", "the volume of every row is not known"),
        ({"mass": None, "volume": [NAN, NAN]}, "%IA/g", "the mass of the region .* is not known"),
        ({"decay_corrected": False}, "SUV", "SUV is decay-corrected by definition"),
        ({}, "h", "unit 'h' has dimension time; allowed: activity"),
    ],
)
def test_a_conversion_that_lacks_something_says_what(changes: dict[str, object], unit: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        curve(**changes).to_unit(unit)
    assert "mine/tac.csv: subject P01, region kidney" in str(caught.value)


def test_unknown_unit() -> None:
    with pytest.raises(UnitError, match="'MBqq' is not known"):
        curve().to_unit("MBqq")


def test_fraction_of_injected_needs_no_activity() -> None:
    report(
        "10 %IA in 260 g",
        10 / 260,
        curve(unit="%IA", value=[10, 5], injected_activity=None).to_unit("%IA/g").value[0],
        rtol=1e-12,
    )
    report(
        "SUV of 0.04 %IA/mL, 80 kg",
        32.0,
        curve(unit="%IA/mL", value=[0.04, 0.02], injected_activity=None).to_unit("SUV").value[0],
        rtol=1e-12,
    )


def test_decay_correction_of_a_sample() -> None:
    half = nuclide("Lu-177").half_life
    late = curve(t_start=[half, 2 * half], t_end=[half, 2 * half], decay_corrected=False)
    corrected = late.decay_correct()
    report("one half-life", 200.0, float(corrected.value[0]), rtol=1e-12)
    report("two half-lives", 200.0, float(corrected.value[1]), rtol=1e-12)
    report("SD scales with the value", 20.0, float(corrected.sd[0]), rtol=1e-12)
    assert corrected.decay_corrected
    assert corrected.decay_correct() is corrected


def test_decay_correction_of_a_frame_is_exact() -> None:
    """The average of exp(-lambda t) over a frame must correct to exactly 1, however long the frame."""
    rate = nuclide("C-11").decay_constant
    for start, length in ((0.0, 1e-7), (0.5, 0.05), (0.1, 2.0)):
        average = (math.exp(-rate * start) - math.exp(-rate * (start + length))) / (rate * length)
        # the reference loses digits to cancellation in a very short frame
        got = average * float(decay_factor(rate, start, start + length))
        report(f"frame of {length} h", 1.0, got, rtol=1e-12 if length > 1e-3 else 1e-8)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6),
    st.floats(0.001, 3.0),
    st.sampled_from(["F-18", "Tc-99m", "Lu-177"]),
)
def test_correcting_and_uncorrecting_is_the_identity(values: list[float], length: float, name: str) -> None:
    n = len(values)
    start = np.arange(n) * length
    nothing = np.full(n, NAN)
    raw = curve(
        t_start=start,
        t_end=start + length,
        value=values,
        sd=nothing,
        weights=nothing,
        n=np.ones(n),
        volume=nothing,
        nuclide=name,
        decay_corrected=False,
    )
    np.testing.assert_allclose(raw.decay_correct().decay_uncorrect().value, values, rtol=1e-12)


def test_suv_cannot_be_uncorrected() -> None:
    with pytest.raises(DataError, match="SUV is decay-corrected by definition"):
        curve(unit="SUV").decay_uncorrect()


def test_arrays_are_read_only_and_times_are_mid_frame() -> None:
    one = curve(t_start=[0.0, 2.0], t_end=[2.0, 6.0])
    assert one.framed
    np.testing.assert_array_equal(one.t, [1.0, 4.0])
    with pytest.raises(ValueError, match="read-only"):
        one.value[0] = 1.0


def test_standard_error_follows_the_kind_of_spread() -> None:
    report("SD 10 of n = 4", 5.0, float(curve(n=[4, 4]).standard_error[0]), rtol=1e-15)
    report("SEM 10 of n = 4", 10.0, float(curve(n=[4, 4], sd_kind="sem").standard_error[0]), rtol=1e-15)


def patient() -> Curves:
    return load_study("snmmi_p004")["P004"]


def test_curves_select_and_organs() -> None:
    one = patient()
    assert one.organs == ("kidney_left", "kidney_right", "liver", "spleen")
    assert one.select(["liver", "kidney_left"]).regions == ("liver", "kidney_left")
    with pytest.raises(DataError, match="has no region 'livver'; did you mean 'liver'"):
        one["livver"]
    with pytest.raises(DataError, match="has no subject 'P005'; did you mean 'P004'"):
        load_study("snmmi_p004")["P005"]


def test_curves_convert_together() -> None:
    share = patient().to_unit("%IA").decay_correct()
    one = share["liver"]
    rate = nuclide("Lu-177").decay_constant
    expected = 378.4744 / 7210.4255996394995 * 100 * math.exp(rate * 3.741111111111111)
    report("liver, first point, %IA corrected", expected, float(one.value[0]), rtol=1e-12)


def test_table_has_one_row_per_value() -> None:
    table = patient().table
    assert list(table.columns) == [
        "region", "kind", "t_start", "t_end", "t", "value", "sd", "weight", "n", "unit", "decay_corrected", "volume",
        "mass", "nuclide", "row",
    ]  # fmt: skip
    assert len(table) == 24
    assert table["row"].tolist() == list(range(2, 26))
    assert not table["decay_corrected"].any()


def test_printing() -> None:
    study = load_study("snmmi_p004")
    for text in (str(study), study._repr_html_(), str(study["P004"]), study["P004"]._repr_html_()):
        assert "P004" in text and "7.2104 GBq" in text
    assert max(map(len, str(study["P004"]).splitlines())) < 120
    assert "kidney_left" in str(study["P004"])
    assert "<table>" in study._repr_html_()
    assert "not decay-corrected" in str(study["P004"]["liver"])


def test_frames_are_converted_to_hours_and_shifted_to_injection(tmp_path: Path) -> None:
    (tmp_path / "tac.csv").write_text(
        "subject,region,t_start,t_end,value,sd,weight,volume,mass\nA,liver,15,20,3,0.3,2,0.0005,600\nA,liver,20,30,2,,,0.0005,600\n"
    )
    (tmp_path / "study.toml").write_text(
        'name="x"\ntitle="x"\ncitation="x"\nterms="x"\ntime_unit="min"\nvolume_unit="L"\nmass_unit="mg"\nsd_kind="sem"\n'
        'unit="kBq/mL"\nn=3\ndecay_corrected=true\nnuclide="18F"\nagent="FDG"\n'
        '[[subjects]]\nid="A"\ninjected_activity="0.2 GBq"\ninjection="15 min"\namount="2 pmol"\nbody_mass="25 g"\n'
    )
    one = load_study(tmp_path)["A"]
    assert one.nuclide == "F-18" and one.agent == "FDG"
    report("injected", 200.0, one.injected_activity or NAN, rtol=1e-12)
    report("amount [nmol]", 0.002, one.amount or NAN, rtol=1e-12)
    liver = one["liver"]
    report("first frame starts [h]", 0.0, float(liver.t_start[0]), atol=1e-15)
    report("last frame ends [h]", 0.25, float(liver.t_end[-1]), rtol=1e-12)
    report("volume [mL]", 0.5, float(liver.volume[0]), rtol=1e-12)
    report("mass [g]", 0.6, liver.mass or NAN, rtol=1e-12)
    assert liver.sd_kind == "sem" and liver.unit == "kBq/mL" and list(liver.n) == [3, 3] and liver.decay_corrected
    assert np.isnan(liver.sd[1]) and np.isnan(liver.weights[1])


def test_digest_follows_the_content(tmp_path: Path) -> None:
    source = Path(str(load_study.__globals__["find"]("study", "dbodc_99mtc")))
    for name in ("tac.csv", "study.toml", "SOURCE.md"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    shipped, copy = load_study("dbodc_99mtc"), load_study(tmp_path)
    assert shipped.digest == copy.digest and len(copy.digest) == 64
    (tmp_path / "tac.csv").write_text((tmp_path / "tac.csv").read_text().replace("1.67", "1.68"))
    assert load_study(tmp_path).digest != shipped.digest


def test_published_values_are_looked_up_by_name() -> None:
    study = load_study("radioiodine_uptake")
    found = study.published_value("thyroid", "dose", subject="uchiyama_b")
    assert found is not None and found.unit == "mGy"
    report("published thyroid dose of B [mGy]", 0.39, found.value, rtol=1e-15)
    assert study.published_value("liver", "dose") is None


# PET-BIDS


@pytest.mark.parametrize(
    ("file", "overlaps"),
    [
        ("bids_pet001/sub-01_ses-01_trc-CIMBI36_pet.json", "43 of 44"),
        ("bids_pet003/sub-01_ses-01_pet.json", "19 of 20"),
        ("bids_pet004/sub-01_pet.json", "43 of 44"),
    ],
)
def test_bids_durations_that_are_end_times(file: str, overlaps: str) -> None:
    path = shared(f"data/{file}")
    with pytest.raises(DataError) as caught:
        read_frames(path)
    text = str(caught.value)
    print(text)
    assert path.name in text and f"{overlaps} frames overlap" in text
    assert "FrameDuration looks like frame END times" in text and "FrameDuration = end - start" in text


def test_bids_scan_with_blood_keeps_each_unit() -> None:
    scan = "data/openneuro_ds004869/sub-04/ses-baseline/pet/sub-04_ses-baseline_"
    json_file, blood = shared(scan + "pet.json"), shared(scan + "recording-manual_blood.tsv")
    tacs = shared(
        "data/openneuro_ds004869/derivatives/petprep/sub-04/ses-baseline/pet/"
        "sub-04_ses-baseline_desc-preproc_seg-gtm_tacs.tsv"
    )
    with pytest.raises(DataError, match="whether blood is decay-corrected is not in the file"):
        read_pet(json_file, tacs, [blood])
    one = read_pet(json_file, tacs, [blood], blood_decay_corrected=True, body_mass="70 kg")
    assert one.subject == "04" and one.nuclide == "C-11"
    assert one["Left-Thalamus"].unit == "Bq/mL" and one["plasma"].unit == "kBq/mL"
    assert one["plasma"].kind == "plasma" and one["parent_fraction"].unit == "1"
    assert any("different units, Bq/mL and kBq/mL" in text for text in one.warnings)
    # 774.04 MBq is written once as 774040 Bq and once as 774040000 Bq in this file
    assert one.injected_activity is None
    assert any("InjectedRadioactivity is 0.77404 MBq but RadionuclideTotalDose 774.04 MBq" in t for t in one.warnings)
    report("amount injected [nmol]", 10.923676497109806, one.amount or NAN, rtol=1e-12)
    thalamus = one["Left-Thalamus"]
    assert len(thalamus) == 33
    report("first thalamus frame [Bq/mL]", 4.415811447966306, float(thalamus.value[0]), rtol=1e-12)
    report("last frame ends [h]", 2.0, float(thalamus.t_end[-1]), rtol=1e-12)
    report("first plasma sample at [h]", 16.2 / 3600, float(one["plasma"].t[0]), rtol=1e-12)
    together = one.select(["Left-Thalamus", "plasma"]).to_unit("kBq/mL")
    report("thalamus in kBq/mL", 4.415811447966306e-3, float(together["Left-Thalamus"].value[0]), rtol=1e-12)
