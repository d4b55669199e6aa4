"""Graphical methods on curves of known kinetics, their notes on units, decay and blood, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from pet_truth import END, KNOTS, PLASMA, START, frames, plasma, tissue_average

import pkmodel
from pkmodel.errors import DataError, FitError
from pkmodel.pet import logan, logan_multilinear, ma1, ma2, patlak, t_star_table
from pkmodel.pet.signal import through_samples
from support import report

K1, K2 = 0.1, 0.04
ONE = frames(tissue_average(K1, K2))
TWO = {"K1": 0.1, "k2": 0.11, "k3": 0.07, "k4": 0.06}
REVERSIBLE = frames(tissue_average(*TWO.values()))


@pytest.mark.parametrize("method", [logan, ma1, logan_multilinear])
def test_one_tissue_is_a_line_from_the_start(method: object) -> None:
    """``int C = VT int Cp - C/k2`` holds at all times, so every t* gives VT and 1/k2."""
    for t_star in (5.0, 30.0):
        got = method(ONE, plasma(), t_star=t_star)  # type: ignore[operator]
        report(f"VT from {t_star} min", K1 / K2, got["VT"], rtol=2e-4)
        report("intercept", -1 / K2, got["intercept"], rtol=2e-3)


def test_patlak_of_a_trapped_tracer() -> None:
    """With k2 high the tracer in exchange follows the plasma and C = Ki int Cp + V0 Cp nearly at once."""
    k1, k2, k3 = 0.1, 2.0, 0.05
    trapped = frames(tissue_average(k1, k2, k3))
    report("Ki", k1 * k3 / (k2 + k3), patlak(trapped, plasma(), t_star=30.0)["Ki"], rtol=0.01)


def test_two_tissues_in_four_terms() -> None:
    got = ma2(REVERSIBLE, plasma())
    k1, k2, k3, k4 = TWO.values()
    report("VT", k1 / k2 * (1 + k3 / k4), got["VT"], rtol=1e-3)
    report("VND", k1 / k2, got["VND"], rtol=0.01)
    for name, value in TWO.items():
        report(name, value, got[name], rtol=0.01)
    report("VS is the difference", got["VT"] - got["VND"], got["VS"], rtol=1e-12)


def test_logan_approaches_the_volume_of_two_tissues_from_below() -> None:
    truth = TWO["K1"] / TWO["k2"] * (1 + TWO["k3"] / TWO["k4"])
    early, late = (logan(REVERSIBLE, plasma(), t_star=t)["VT"] for t in (10.0, 45.0))
    print(f"VT {truth:.5f}, from 10 min {early:.5f}, from 45 min {late:.5f}")
    assert early < late < truth
    report("VT from 45 min", truth, late, rtol=0.01)


def test_blood_in_the_tissue_is_taken_out_exactly() -> None:
    """The blood's share is what the frames see of it, not its value at their middle."""
    signal = through_samples(KNOTS, PLASMA)
    blood = (signal.integral(END) - signal.integral(START)) / (END - START)
    mixed = frames(0.95 * ONE.value + 0.05 * blood)
    clean, corrected = logan(ONE, plasma(), t_star=20.0), logan(mixed, plasma(), t_star=20.0, vB=0.05, blood=plasma())
    report("VT", clean["VT"], corrected["VT"], rtol=1e-12)
    with pytest.raises(FitError, match="blood="):
        logan(mixed, plasma(), t_star=20.0, vB=0.05)


def test_a_delay_is_taken_out() -> None:
    late = plasma().replace(t_start=plasma().t_start - 0.2 / 60, t_end=plasma().t_end - 0.2 / 60)
    got = logan(ONE, late, t_star=20.0, delay=0.2)
    report("VT", logan(ONE, plasma(), t_star=20.0)["VT"], got["VT"], rtol=1e-9)


def test_units_are_brought_together_and_said() -> None:
    """Tissue in Bq/mL beside plasma in kBq/mL, as in a real data set: the same VT, and a note."""
    got = logan(ONE.to_unit("Bq/mL"), plasma(), t_star=20.0)
    report("VT", logan(ONE, plasma(), t_star=20.0)["VT"], got["VT"], rtol=1e-12)
    assert any("converted from kBq/mL to Bq/mL" in n for n in got.notes)
    with pytest.raises(DataError):
        logan(ONE.replace(unit="MBq"), plasma(), t_star=20.0)


def test_uncorrected_curves_are_corrected_and_said() -> None:
    got = logan(ONE.decay_uncorrect(), plasma().decay_uncorrect(), t_star=20.0)
    report("VT", logan(ONE, plasma(), t_star=20.0)["VT"], got["VT"], rtol=1e-12)
    assert sum("corrected for decay" in n for n in got.notes) == 2
    with pytest.raises(DataError, match="F-18"):
        logan(ONE, plasma(nuclide="F-18"), t_star=20.0)


def test_t_star_is_found_by_the_stated_criterion() -> None:
    got = logan(REVERSIBLE, plasma(), max_deviation=0.02)
    p, used = got.points, got.points.used
    assert np.all(np.abs(got.residuals[used]) <= 0.02 * np.abs(p.fitted[used]))
    first = int(np.argmax(used))
    earlier = logan(REVERSIBLE, plasma(), frames=int(used.sum()) + 1)
    inside = earlier.points.used
    assert np.any(np.abs(earlier.residuals[inside]) > 0.02 * np.abs(earlier.points.fitted[inside]))
    report("t*", 0.5 * (START + END)[first], got.t_star, rtol=1e-9)
    assert "t* found" in str(got)
    missed = logan(frames(ONE.value * np.where(np.arange(33) % 2, 1.4, 0.7)), plasma(), max_deviation=0.01)
    assert any("no t* meets" in w for w in missed.warnings)
    table = t_star_table(lambda n: logan(REVERSIBLE, plasma(), frames=n))
    report(
        "VT of the table's last row",
        logan(REVERSIBLE, plasma(), frames=20)["VT"],
        float(table["VT"].iloc[-1]),
        rtol=1e-12,
    )


def test_weights_do_not_matter_without_noise_and_infinite_variance_leaves_a_frame_out() -> None:
    variance = np.ones(33)
    variance[-3] = np.inf
    spoilt = frames(np.where(np.arange(33) == 30, 50.0, ONE.value))
    for kind in ("duration", "counts", np.linspace(1, 5, 33)):
        report("VT", K1 / K2, logan(ONE, plasma(), t_star=20.0, variance=kind)["VT"], rtol=5e-4)
    got = ma1(spoilt, plasma(), t_star=40.0, variance=variance)
    assert not got.points.used[30] and got.points.used[32]


def test_noise_lowers_logan_and_ma1_less() -> None:
    """The stated bias: 10 % noise of each frame, 300 draws, against the standard error of the mean."""
    rng = np.random.default_rng(11)
    drawn: dict[str, list[float]] = {"logan": [], "ma1": []}
    for _ in range(300):
        noisy = frames(ONE.value * (1 + 0.1 * rng.standard_normal(33)))
        drawn["logan"].append(logan(noisy, plasma(), t_star=14.0)["VT"])
        drawn["ma1"].append(ma1(noisy, plasma(), t_star=14.0)["VT"])
    bias = {n: float(np.mean(v)) / (K1 / K2) - 1 for n, v in drawn.items()}
    error = {n: float(np.std(v)) / np.sqrt(300) / (K1 / K2) for n, v in drawn.items()}
    print({n: f"{100 * bias[n]:+.2f} +- {100 * error[n]:.2f} %" for n in bias})
    assert bias["logan"] < -4 * error["logan"]
    assert abs(bias["ma1"]) < 0.5 * abs(bias["logan"])
    assert "lowers VT" in logan(ONE, plasma(), t_star=14.0).bias


@pytest.mark.parametrize("method", [ma1, logan, logan_multilinear])
def test_standard_errors_are_those_of_the_draws(method: object) -> None:
    """With the variance that made the noise: root mean square of the stated errors against the spread of estimates."""
    rng = np.random.default_rng(3)
    sd = 0.02 * ONE.value
    found = [
        method(frames(ONE.value + sd * rng.standard_normal(33)), plasma(), t_star=14.0, variance=sd**2).estimate("VT")  # type: ignore[operator]
        for _ in range(300)
    ]
    spread = float(np.std([e.value for e in found]))
    # the spread of 300 draws is known to 4 %; noise on the scale of 2 % leaves second-order terms below that
    report("standard error of VT", spread, float(np.sqrt(np.mean([e.se**2 for e in found]))), rtol=0.12)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"t_star": 69.0}, "needed: 3"),
        ({"frames": 99}, "allowed: 2 to"),
        ({"frames": 5, "t_star": 10.0}, "give one"),
        ({"t_star": "late"}, "auto"),
        ({"vB": 1.0}, "allowed: 0"),
        ({"variance": "inverse"}, "allowed"),
        ({"variance": "duration", "errors_in": "both"}, "residual"),
    ],
)
def test_what_logan_refuses(change: dict[str, object], said: str) -> None:
    with pytest.raises(FitError, match=said):
        logan(ONE, plasma(), **change)  # type: ignore[arg-type]


def test_frames_that_overlap_or_are_not_finite_are_named() -> None:
    rows = tuple(range(2, 35))
    late = ONE.replace(t_end=ONE.t_end + np.where(np.arange(33) == 4, 0.1, 0.0), rows=rows)
    with pytest.raises(DataError, match="row 7"):
        logan(late, plasma())
    with pytest.raises(DataError, match="row 5"):
        logan(ONE.replace(value=np.where(np.arange(33) == 3, np.nan, ONE.value), rows=rows), plasma())
    with pytest.raises(DataError, match="parent fraction is no plasma"):
        logan(ONE, plasma().replace(kind="parent_fraction"))


def test_the_result_speaks() -> None:
    got = pkmodel.pet.logan(ONE, plasma(), t_star=20.0, variance="duration")
    text = str(got)
    for word in ("Logan plot", "VT", "mL/cm3", "known bias", "t* = 22.5 min"):
        assert word in text
    assert "<table>" in got._repr_html_()
    assert list(got.table.columns) == ["value", "se", "rse_percent", "unit", "meaning"]
    with pytest.raises(FitError, match="did you mean 'VT'"):
        got["Vt"]
    with pytest.raises(AttributeError, match="known"):
        _ = pkmodel.pet.loggan
