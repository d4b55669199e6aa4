"""Reference-tissue methods on curves of known parameters: the truth of facts 4c, made exactly by closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pet_truth import END, START, frames, reference_average, tissue_average

from pkmodel.errors import FitError
from pkmodel.formats.curve import Curve
from pkmodel.pet import frtm, mrtm1, mrtm2, reference_logan, reference_patlak, srtm, srtm2, srtm2_shared
from pkmodel.pet.result import PetResult
from support import report

K2_REFERENCE = 0.3
REFERENCE = frames(reference_average(1.0, K2_REFERENCE), "reference")
TRUTHS = [(1.5, 1.2), (0.5, 0.8), (3.0, 1.0)]  # BPND, R1


def _target(bp: float, r1: float, name: str = "target") -> Curve:
    return frames(reference_average(r1, K2_REFERENCE * r1 / (1 + bp)), name)


METHODS: dict[str, Callable[[Curve], PetResult]] = {
    "srtm": lambda c: srtm(c, REFERENCE),
    "srtm2": lambda c: srtm2(c, REFERENCE, K2_REFERENCE),
    "mrtm1": lambda c: mrtm1(c, REFERENCE),
    "mrtm2": lambda c: mrtm2(c, REFERENCE, K2_REFERENCE),
}


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("method", METHODS)
def test_noise_free_truth(method: str, truth: tuple[float, float]) -> None:
    """Required: 0.5 %. Definitions: k2 = R1 k2', k2a = k2/(1 + BPND)."""
    bp, r1 = truth
    got = METHODS[method](_target(bp, r1))
    k2 = r1 * K2_REFERENCE
    for name, value in {"BPND": bp, "R1": r1, "k2": k2, "k2a": k2 / (1 + bp), "k2prime": K2_REFERENCE}.items():
        report(f"{method} {name}", value, got[name], rtol=5e-4)  # ten times closer than required
    units = {e.name: e.unit for e in got.estimates}
    assert units["k2"] == "1/min" and units["BPND"] == "1"


@pytest.mark.parametrize("truth", TRUTHS)
def test_reference_logan_of_the_truth(truth: tuple[float, float]) -> None:
    bp, r1 = truth
    got = reference_logan(_target(bp, r1), REFERENCE, K2_REFERENCE, t_star=20.0)
    report("DVR", 1 + bp, got["DVR"], rtol=5e-4)
    report("BPND is DVR - 1", got["DVR"] - 1, got["BPND"], rtol=1e-12)
    report("error of BPND is that of DVR", got.estimate("DVR").se, got.estimate("BPND").se, rtol=1e-12)


def test_reference_patlak_of_a_trapped_tracer() -> None:
    """Two tissues without release over a reference of the same free kinetics: slope k2 k3/(k2 + k3)."""
    k1, k2, k3 = 0.1, 1.0, 0.03
    target, reference = frames(tissue_average(k1, k2, k3)), frames(tissue_average(k1, k2), "reference")
    got = reference_patlak(target, reference, t_star=30.0)
    report("Ki_ref", k2 * k3 / (k2 + k3), got["Ki_ref"], rtol=0.01)


def test_one_k2_of_the_reference_for_all_regions() -> None:
    targets = [_target(bp, r1, f"region {i}") for i, (bp, r1) in enumerate(TRUTHS)]
    got = srtm2_shared(targets, REFERENCE)
    assert list(got) == ["region 0", "region 1", "region 2"]
    for (bp, r1), one in zip(TRUTHS, got.values(), strict=True):
        report("BPND", bp, one["BPND"], rtol=5e-4)
        report("R1", r1, one["R1"], rtol=5e-4)
        report("shared k2'", K2_REFERENCE, one["k2prime"], rtol=5e-4)
    assert len({one.estimate("k2prime").se for one in got.values()}) == 1


def test_four_parameters_of_the_full_model() -> None:
    """A two-tissue target over a one-tissue reference, K1/k2 the same in both."""
    k1, k2, k3, k4, r1 = 0.12, 0.3, 0.15, 0.05, 1.2
    reference = frames(tissue_average(k1 / r1, k2 / r1), "reference")
    got = frtm(frames(tissue_average(k1, k2, k3, k4)), reference)
    for name, value in {"BPND": k3 / k4, "R1": r1, "k2": k2, "k3": k3, "k4": k4, "k2prime": k2 / r1}.items():
        report(f"FRTM {name}", value, got[name], rtol=0.01)
    simple = srtm(frames(tissue_average(k1, k2, k3, k4)), reference)
    print(f"SRTM of the same two-tissue target: BPND {simple['BPND']:.4f}, truth {k3 / k4}")
    assert abs(simple["BPND"] / (k3 / k4) - 1) > 0.05  # the bias it states


def test_midpoints_are_what_frame_averages_avoid() -> None:
    """On the same curves taken at midpoints R1 is off by ten times as much or more."""
    target = _target(1.5, 1.2)
    exact, middle = srtm(target, REFERENCE), srtm(target, REFERENCE, mode="midpoint")
    print(f"BPND {exact['BPND']:.6f} by frames, {middle['BPND']:.6f} at midpoints, truth 1.5")
    assert abs(exact["BPND"] - 1.5) < 0.1 * abs(middle["BPND"] - 1.5)


@pytest.mark.parametrize(
    "method", ["mrtm1", "mrtm2", *(pytest.param(n, marks=pytest.mark.slow) for n in ("srtm", "srtm2"))]
)
def test_standard_errors_are_those_of_the_draws(method: str) -> None:
    """1 % noise of the target: root mean square of the stated errors against the spread of 120 estimates."""
    rng = np.random.default_rng(8)
    clean = _target(1.5, 1.2)
    sd = 0.01 * clean.value
    settings: dict[str, Any] = {"variance": sd**2}
    run: dict[str, Callable[[Curve], PetResult]] = {
        "srtm": lambda c: srtm(c, REFERENCE, **settings),
        "srtm2": lambda c: srtm2(c, REFERENCE, K2_REFERENCE, **settings),
        "mrtm1": lambda c: mrtm1(c, REFERENCE, **settings),
        "mrtm2": lambda c: mrtm2(c, REFERENCE, K2_REFERENCE, **settings),
    }
    found = [run[method](clean.replace(value=clean.value + sd * rng.standard_normal(33))) for _ in range(120)]
    for name in ("BPND", "R1", "k2"):
        spread = float(np.std([f[name] for f in found]))
        stated = float(np.sqrt(np.mean([f.estimate(name).se ** 2 for f in found])))
        report(f"{method} standard error of {name}", spread, stated, rtol=0.2)  # 120 draws know it to 6.5 %


def test_k2_and_r1_are_not_given_from_a_later_start() -> None:
    got = mrtm1(_target(1.5, 1.2), REFERENCE, t_star=20.0)
    assert set(got.values) == {"BPND", "k2prime"}
    assert any("from the first frame" in n for n in got.notes)
    report("BPND from 20 min", 1.5, got["BPND"], rtol=5e-3)


def test_rows_without_duration_and_units_that_differ() -> None:
    """A table that begins with a zero row at injection, and a reference in another unit, change nothing."""
    t, r = _target(1.5, 1.2), REFERENCE.to_unit("Bq/mL")
    extra = {
        "sd": np.full(34, np.nan), "weights": np.full(34, np.nan), "volume": np.full(34, np.nan),
        "n": np.ones(34, dtype=np.int64), "censored": np.zeros(34, dtype=np.int8),
    }  # fmt: skip
    longer = t.replace(
        t_start=np.append(0.0, t.t_start), t_end=np.append(0.0, t.t_end), value=np.append(0.0, t.value), **extra
    )
    got = srtm(longer, r)
    report("BPND", srtm(t, REFERENCE)["BPND"], got["BPND"], rtol=1e-9)
    assert any("converted" in n for n in got.notes)


def test_what_is_not_determined_is_said() -> None:
    flat = frames(np.full(START.size, 5.0) * (END > 1))
    got = srtm(flat, REFERENCE)
    assert any("not determined" in w for w in got.warnings)


def test_what_reference_methods_refuse() -> None:
    target = _target(1.5, 1.2)
    with pytest.raises(FitError, match="k2prime"):
        mrtm2(target, REFERENCE, -0.1)
    with pytest.raises(FitError, match="k2prime"):
        srtm2(target, REFERENCE, 0.0)
    with pytest.raises(FitError, match="allowed: a tissue"):
        srtm(target, REFERENCE.replace(kind="plasma"))
    with pytest.raises(FitError, match="two or more"):
        srtm2_shared([target], REFERENCE)
    with pytest.raises(FitError, match="given twice"):
        srtm2_shared([target, target], REFERENCE)
    with pytest.raises(FitError, match="same time"):
        srtm(target, REFERENCE.take(np.arange(33) < 30))
