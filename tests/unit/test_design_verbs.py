"""The verbs of a design: numbers of scans, fixed scans, targets, words, figures, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pkmodel as pk
from pkmodel import cli
from pkmodel.errors import PkmodelError
from pkmodel.sampling_design import Clinic, Design, ScanNoise, design, sampling_adequacy

CV = {"fraction": 0.4, "k_uptake": 0.5, "k_washout": 0.4}
COMMON: dict[str, Any] = {"nuclide": "Lu-177", "spread": CV, "noise": 0.1}


def _design(**changes: Any) -> Design:
    return design("organ_2_phase", "7.4 GBq once", **{**COMMON, "clinic": Clinic(), "gap": 12.0, **changes})


def test_what_a_design_says() -> None:
    found = _design(scans=[1, 2, 3], mass_sd={"organ": 0.1})
    text = str(found)
    for words in ("3 scans of organ", "all combinations", "Mon 15:00", "SD without it", "by number of scans: 1:",
                  "one scan more is best at", "k_washout", "SD of dose"):  # fmt: skip
        assert words in text, words
    assert "<table>" in found._repr_html_() and "one scan more" in found._repr_html_()
    assert [n for n, _, _ in found.steps] == [1, 2, 3]
    values = [v for _, v, _ in found.steps]
    assert values[0] > values[1] > values[2], "more scans tell more"
    assert list(found.scans.columns) == ["time_h", "when", "minutes", "without_it_percent"]
    assert all(found.clinic is not None and found.clinic.open_at(t) for t in found.start)
    extra = found.add_scan()
    assert (extra["criterion_percent"] < 100 * found.value).all(), "a scan more never harms"
    assert np.abs(extra["time_h"].to_numpy()[:, None] - found.start).min() >= 12


def test_the_fewest_scans_that_reach_a_target() -> None:
    found = _design(scans=[1, 2, 3, 4], target=0.08)
    assert found.start.size == 2 and found.value <= 0.08
    missed = _design(scans=2, target=0.01)
    assert any("target of 1 % is not reached" in w for w in missed.warnings)


def test_fixed_scans_stay_and_count() -> None:
    found = _design(scans=1, fixed=[5.0, 47.0])
    whole = sampling_adequacy("organ_2_phase", "7.4 GBq once", found.start, **COMMON)
    assert {5.0, 47.0} < set(found.start) and found.start.size == 3
    assert found.value == pytest.approx(whole.value, rel=1e-9)
    assert found.start.max() > 100, "what is missing is a late scan"


def test_frames_share_a_budget() -> None:
    noise = ScanNoise(proportional=0.03, sensitivity=9.0, inflation=100.0)
    found = _design(noise=noise, minutes=[10, 20, 40], budget=60, scans=3)
    assert 60 * found.hours.sum() <= 60 + 1e-9
    assert found.hours[-1] == max(found.hours), "the late scan has the fewest counts and gets the longest frame"
    spread_evenly = _design(noise=noise, minutes=20, scans=3)
    assert found.value <= spread_evenly.value * (1 + 1e-9)


def test_windows() -> None:
    found = _design(scans=2, windows=[(20, 30), (90, 100)])
    assert 20 <= found.start[0] <= 30 and 90 <= found.start[1] <= 100


def test_a_known_population_brings_its_spread_and_noise() -> None:
    from pkmodel.inference.population_file import PopulationModel

    hot = pk.label(pk.load_model("psma617_siebinga2023"), "Lu-177")
    known = PopulationModel.from_model(hot, noise={"kidneys": 0.304, "tumour": 0.458}, occasion={"k15_typical": 0.435})
    organs = ["kidneys", "tumour"]
    got = sampling_adequacy(hot, "7.4 GBq once", [24, 96], organs=organs, population=known)
    own = sampling_adequacy(
        hot, "7.4 GBq once", [24, 96], organs=organs, noise={"kidneys": 0.304, "tumour": 0.458},
        spread={"k15_typical": float(np.sqrt((1 + 0.588**2) * (1 + 0.435**2) - 1))},
    )  # fmt: skip
    assert got.value == pytest.approx(own.value, rel=1e-9)
    with pytest.raises(PkmodelError, match="no residual error for liver"):
        sampling_adequacy(hot, "7.4 GBq once", [24], organs=["liver"], population=known)


def test_warnings_in_words() -> None:
    early = sampling_adequacy("organ_2_phase", "7.4 GBq over 60 min once", [0.5, 1.5, 2.0], nuclide="Lu-177", spread=CV)
    text = "\n".join(early.warnings)
    for words in (
        "is an assumption",
        "of the TIA lies after the last scan: organ",
        "before the administration is over",
    ):
        assert words in text, words
    close = sampling_adequacy("organ_2_phase", "7.4 GBq once", [95, 96], **COMMON)
    assert any("close together" in w for w in close.warnings)
    poor = sampling_adequacy(
        "psma617_siebinga2023", "7.4 GBq once", [24], organs=["liver"], nuclide="Lu-177", noise=0.5
    )
    assert any("say little about" in w and "k41" in w for w in poor.warnings)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scans": 0}, "no scans tell nothing"),
        ({"organs": ["organs"]}, "did you mean 'organ'"),
        ({"organs": {"organ": 0}}, "weights of all organs are 0"),
        ({"organs": []}, "no organ is imaged"),
        ({"times": [-2.0, 4.0]}, "-2 h is before the injection"),
        ({"windows": [(10, 12)], "scans": 1}, "leaves nothing"),
        ({"windows": [(20, 30)], "scans": 2}, "1 windows for 2 scans"),
        ({"gap": 100.0}, "keep the gap of 100 h"),
        ({"criterion": "tai"}, "did you mean 'tia'"),
        ({"criterion": "Ds"}, "needs of="),
        ({"method": "exat"}, "did you mean 'exact'"),
        ({"spread": {"k_washot": 0.3}}, "did you mean 'k_washout'"),
        ({"spread": {"k_washout": -0.3}}, "0 or more"),
        ({"spread": {}}, "no parameter is unknown"),
        ({"noise": {"liver": 0.1}}, "not imaged"),
        ({"noise": -0.1}, "0 or more"),
        ({"noise": 0.0}, "nothing is uncertain"),
        ({"noise": ScanNoise(sensitivity=9.0)}, "give minutes="),
        ({"nuclide": None}, "not labelled"),
        ({"mass_sd": {"liver": 0.1}}, "mass_sd of liver"),
        ({"subjects": 10}, "allowed: D, Ds, A"),
        ({"minutes": -5}, "must be 0 or more"),
        ({"clinic": Clinic(hours="8-9"), "minutes": 90}, "leave no time"),
        ({"fixed": [-1.0]}, "before the injection"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PkmodelError, match=words):
        _design(**changes)


@pytest.mark.parametrize(
    ("times", "words"), [([], "no scans"), ([-1, 4], "before the injection"), ([4, 4], "is over"), ([np.nan], "before")]
)
def test_protocols_that_cannot_be(times: list[float], words: str) -> None:
    with pytest.raises(PkmodelError, match=words):
        sampling_adequacy("organ_2_phase", "7.4 GBq once", times, **COMMON)


def test_figures() -> None:
    from pkmodel.plot_style import png

    figure = _design(scans=2).plot()
    assert len(png(figure, 50)) > 5_000
    upper, lower = figure.axes
    assert upper.get_ylabel() == "expected value [MBq]" and lower.get_xlabel() == "time after injection [h]"
    assert len([t for t in lower.get_legend_handles_labels()[1] if t.startswith("scan")]) == 2


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["pkmodel", *arguments])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ["design", "organ_2_phase", "7.4 GBq once", "--nuclide", "Lu-177", "--spread", "fraction=40 %",
              "--spread", "k_washout=30 %", "--noise", "8 %"]  # fmt: skip
    assert (
        _run(monkeypatch, *common, "--scans", "1-2", "--clinic", "Mon 10:00", "--out", "d.csv", "--out", "d.png") == 0
    )
    done = capsys.readouterr()
    assert "2 scans of organ" in done.out and "not a medical device" in done.out
    assert len(pd.read_csv("d.csv")) == 2 and Path("d.png").stat().st_size > 10_000
    assert _run(monkeypatch, *common, "--at", "4,1 d,96") == 0
    assert "given" in capsys.readouterr().out
    for wrong, words in ((["--at", "4", "--single"], "one of the two"), (["--window", "20"], "--window"),
                         (["--noise", "organ=5 %"], "not both"), (["--minutes", "x"], "not a number"),
                         (["--organs", "liver"], "no such organ")):  # fmt: skip
        assert _run(monkeypatch, *common, *wrong) in (1, 2)
        assert words in capsys.readouterr().err
