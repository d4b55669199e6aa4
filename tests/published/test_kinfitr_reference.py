"""Simulated reference-tissue curves (kinfitr's simref, PET ybnx_1), three regions, against kinfitr 0.9.1, DynamicPET.

Expected numbers of ROI1 are in ../shared/oracles/pet; those of ROI2 and ROI3 were made with kinfitr at commit f4527ba
and R 4.2.2. Weights of the file, k2' = 0.1 where fixed, reference Logan and Patlak with the last 10 frames.
kinfitr's names: its k2 of MRTM1 and MRTM2 is k2a, its R1 of MRTM2 is 1 + BPND; here they are compared as what they are.
"""

from __future__ import annotations

import csv
from functools import cache
from typing import Any

import numpy as np
import pytest
from synthetic import Array, curve

from pkmodel.formats.curve import Curve
from pkmodel.pet import mrtm1, mrtm2, reference_logan, reference_patlak, srtm, srtm2
from pkmodel.pet.result import PetResult
from support import report, shared

SETTINGS: dict[str, Any] = {"unit": "kBq/mL", "decay_corrected": True, "nuclide": "C-11"}
SRTM = {  # BPND, R1, k2
    "ROI1": (1.93148150709, 0.851221940262, 0.100807849334),
    "ROI2": (0.886237749777, 1.16686613103, 0.092467267666),
    "ROI3": (0.30325479329, 1.18810353115, 0.0875692319476),
}
MRTM1 = {  # BPND, k2', R1, k2a
    "ROI1": (1.92992603652, 0.118829489531, 0.85238841046, 0.0345704561938),
    "ROI2": (0.887766894497, 0.080431536116, 1.16540310272, 0.0496539917187),
    "ROI3": (0.304244135494, 0.0743534200103, 1.18628924126, 0.0676289505995),
}
MRTM2 = {  # BPND, k2a
    "ROI1": (2.05124403905, 0.0289243354885),
    "ROI2": (0.854206020639, 0.061763996282),
    "ROI3": (0.298123647908, 0.0909626979393),
}
SRTM2 = {  # BPND, R1
    "ROI1": (2.06860002353, 0.87807699507),
    "ROI2": (0.808750805956, 1.15320830748),
    "ROI3": (0.287469764795, 1.18531190316),
}
PLOTS = {  # reference Logan BPND, reference Patlak Ki
    "ROI1": (1.948202512, 0.00337113370983),
    "ROI2": (0.878690560743, 0.000181026257724),
    "ROI3": (0.310017122152, 0.00149843197103),
}
DYNAMICPET = {"BPND": 1.962109, "R1": 0.851598, "k2": 0.101822}  # ROI1, Lammertsma's form, unweighted


@cache
def _columns() -> dict[str, Array]:
    with shared("data/kinfitr_simref/simref_all.csv").open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["PET"] == "ybnx_1"]
    return {n: np.array([float(r[n]) for r in rows]) for n in rows[0] if n not in ("PET", "Subjname")}


def _curve(region: str) -> Curve:
    """Frames around the middle times: the column StartTime of the file is offset."""
    c = _columns()
    half = c["Duration"] / 2
    start, end = np.maximum(c["Times"] - half, 0.0) / 60, (c["Times"] + half) / 60
    return curve(region, start, c[region], t_end=end, weights=c["Weights"], **SETTINGS)


@cache
def _srtm(region: str, mode: str, variance: str = "weights") -> PetResult:
    return srtm(_curve(region), _curve("Reference"), variance=variance, mode=mode)  # type: ignore[arg-type]


SRTM_TOLERANCE = (("BPND", 0.02), ("R1", 0.005), ("k2", 0.03))


@pytest.mark.parametrize("mode", ["midpoint", "frame"])
@pytest.mark.parametrize("region", ["ROI1", "ROI2"])
def test_srtm_against_kinfitr(region: str, mode: str) -> None:
    for (name, rtol), expected in zip(SRTM_TOLERANCE, SRTM[region], strict=True):
        report(f"{region} {mode} SRTM {name}", expected, _srtm(region, mode)[name], rtol=rtol)


@pytest.mark.parametrize("mode", ["midpoint", "frame"])
def test_srtm_of_a_region_with_little_binding(mode: str) -> None:
    """ROI3: BPND and R1 as required; k2 is known to 38 % only, so it is compared within its own error below."""
    got = _srtm("ROI3", mode)
    report(f"ROI3 {mode} SRTM BPND", SRTM["ROI3"][0], got["BPND"], rtol=0.02)
    report(f"ROI3 {mode} SRTM R1", SRTM["ROI3"][1], got["R1"], rtol=0.005)
    difference = abs(got["k2"] - SRTM["ROI3"][2]) / got.estimate("k2").se
    report(f"ROI3 {mode} SRTM k2, distance in its standard errors", 0.0, difference, atol=0.5)


@pytest.mark.xfail(strict=True, reason="k2 of ROI3: 0.0965 against 0.0876 (10 %), of a standard error of 38 %")
def test_srtm_k2_of_a_region_with_little_binding() -> None:
    report("ROI3 midpoint SRTM k2", SRTM["ROI3"][2], _srtm("ROI3", "midpoint")["k2"], rtol=0.03)


def test_srtm_unweighted_against_kinfitr_and_dynamicpet() -> None:
    for (name, rtol), expected in zip(SRTM_TOLERANCE, (1.931431, 0.851108, 0.100819), strict=True):
        report(f"ROI1 SRTM unweighted {name}", expected, _srtm("ROI1", "frame", "uniform")[name], rtol=rtol)
        report(f"ROI1 SRTM {name}, DynamicPET", DYNAMICPET[name], _srtm("ROI1", "frame", "uniform")[name], rtol=rtol)


def test_the_grid_of_kinfitr_accounts_for_the_difference() -> None:
    """Its 1024-point rectangles, written out here, give its numbers to 1e-5 and a smaller sum of squares: the one
    frame at 0.58 min in which the reference starts to rise is smeared by the grid."""
    from scipy.optimize import least_squares

    c = _columns()
    t, reference, y, root = c["Times"], c["Reference"], c["ROI1"], np.sqrt(c["Weights"])
    grid = np.linspace(t.min(), t.max(), 1024)

    def model(x: Array) -> Array:
        r1, k2, bp = x
        on_grid = np.interp(grid, t, reference)
        tail = np.convolve((k2 - r1 * k2 / (1 + bp)) * on_grid, np.exp(-k2 / (1 + bp) * grid))[:1024]
        return np.asarray(np.interp(t, grid, r1 * on_grid + tail * (grid[1] - grid[0])), dtype=float)

    def misfit(x: Array) -> Array:
        return np.asarray((model(x) - y) * root, dtype=float)

    found = least_squares(misfit, np.array([1.0, 0.1, 1.5]), xtol=1e-14, ftol=1e-14)
    for name, expected, got in zip(("R1", "k2", "BPND"), np.array(SRTM["ROI1"])[[1, 2, 0]], found.x, strict=True):
        report(f"kinfitr's own SRTM written out, {name}", float(expected), float(got), rtol=1e-5)


@pytest.mark.parametrize("region", MRTM1)
def test_mrtm1_is_the_same_at_midpoints(region: str) -> None:
    got = mrtm1(_curve(region), _curve("Reference"), variance="weights", mode="midpoint")
    for name, expected in zip(("BPND", "k2prime", "R1", "k2a"), MRTM1[region], strict=True):
        report(f"{region} MRTM1 {name}", expected, got[name], rtol=1e-9)
    report("k2 is k2a (1 + BPND)", got["k2a"] * (1 + got["BPND"]), got["k2"], rtol=1e-12)
    report("k2 is R1 k2'", got["R1"] * got["k2prime"], got["k2"], rtol=1e-12)


@pytest.mark.parametrize("region", MRTM2)
def test_mrtm2_is_the_same_at_midpoints(region: str) -> None:
    got = mrtm2(_curve(region), _curve("Reference"), 0.1, variance="weights", mode="midpoint")
    for name, expected in zip(("BPND", "k2a"), MRTM2[region], strict=True):
        report(f"{region} MRTM2 {name}", expected, got[name], rtol=1e-9)
    report("R1, not 1 + BPND", got["k2a"] * (1 + got["BPND"]) / 0.1, got["R1"], rtol=1e-12)


@pytest.mark.parametrize("region", MRTM1)
def test_mrtm_of_frames(region: str) -> None:
    """Averages over frames instead of trapezoids between midpoints: BPND within 2 %, R1 within 0.5 %."""
    got = mrtm1(_curve(region), _curve("Reference"), variance="weights")
    report(f"{region} MRTM1 BPND", MRTM1[region][0], got["BPND"], rtol=0.02)
    report(f"{region} MRTM1 R1", MRTM1[region][2], got["R1"], rtol=0.005)
    fixed = mrtm2(_curve(region), _curve("Reference"), 0.1, variance="weights")
    report(f"{region} MRTM2 BPND", MRTM2[region][0], fixed["BPND"], rtol=0.02)


@pytest.mark.parametrize("mode", ["midpoint", "frame"])
@pytest.mark.parametrize("region", SRTM2)
def test_srtm2_against_kinfitr(region: str, mode: str) -> None:
    got = srtm2(_curve(region), _curve("Reference"), 0.1, variance="weights", mode=mode)  # type: ignore[arg-type]
    report(f"{region} {mode} SRTM2 BPND", SRTM2[region][0], got["BPND"], rtol=0.02)
    report(f"{region} {mode} SRTM2 R1", SRTM2[region][1], got["R1"], rtol=0.005)


@pytest.mark.parametrize("region", PLOTS)
def test_reference_plots(region: str) -> None:
    """kinfitr does not use the weights for Logan's plot without durations; for Patlak's it carries them over."""
    target, reference = _curve(region), _curve("Reference")
    for mode, rtol in (("midpoint", 1e-9), ("frame", 0.02)):
        plot = reference_logan(target, reference, 0.1, frames=10, mode=mode)  # type: ignore[arg-type]
        report(f"{region} {mode} reference Logan BPND", PLOTS[region][0], plot["BPND"], rtol=rtol)
        line = reference_patlak(target, reference, frames=10, variance="weights", mode=mode)  # type: ignore[arg-type]
        report(f"{region} {mode} reference Patlak Ki", PLOTS[region][1], line["Ki_ref"], rtol=rtol)


def test_errors_of_mrtm1_count_the_noise_of_the_integral() -> None:
    """kinfitr states 0.88 % for BPND, as if the integral of the noisy curve were exact; SRTM's error says 1.4 %."""
    got = mrtm1(_curve("ROI1"), _curve("Reference"), variance="weights", mode="midpoint").estimate("BPND")
    print(f"MRTM1 relative error of BPND: {100 * got.se / got.value:.2f} %, kinfitr MRTM1 0.88 %, SRTM 1.39 %")
    assert 0.0088 * got.value < got.se < 0.025 * got.value
