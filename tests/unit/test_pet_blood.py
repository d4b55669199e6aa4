"""Blood: bad samples named by row, dispersion, delay, parent fraction, the arterial input in one call, the image's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pet_truth import END, KNOTS, PLASMA, SETTINGS, START, frames, plasma, tissue_average
from synthetic import Array, curve

from pkmodel.errors import DataError, FitError
from pkmodel.formats.curve import Curve
from pkmodel.pet import (
    arterial_input,
    check_samples,
    correct_dispersion,
    disperse,
    find_delay,
    fit_parent_fraction,
    fit_plasma_ratio,
    image_derived_input,
    input_function,
    logan,
    samples,
    shift,
)
from pkmodel.pet import frames as make_frames
from pkmodel.pet.parent_fraction import FAMILIES
from pkmodel.pet.signal import through_samples
from support import report

TIMES = np.array([0.5, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0])


def _fractions(value: Array, **more: Any) -> Curve:
    settings = SETTINGS | {"unit": "1", "kind": "parent_fraction", "rows": tuple(range(2, 2 + value.size))} | more
    return curve("parent_fraction", TIMES[: value.size] / 60, value, **settings)


def _hill(t: Array, n: float = 1.6, t50: float = 14.0, end: float = 0.08) -> Array:
    return np.asarray(1 - (1 - end) * t**n / (t50**n + t**n), dtype=float)


TRUTHS = {
    "hill": _hill(TIMES),
    "power": (1 + (TIMES / 8.0) ** 1.5) ** -0.6,
    "exponential": 0.7 * np.exp(-0.12 * TIMES) + 0.3 * np.exp(-0.01 * TIMES),
    "sigmoid": ((9.0**3 / (TIMES**3 + 9.0**3)) ** 0.4 + 0.1) / 1.1,
}
EXPECTED = {
    "hill": {"n": 1.6, "t50": 14.0, "f_end": 0.08},
    "power": {"tau": 8.0, "n": 1.5, "c": 0.6},
    "exponential": {"w": 0.7, "a": 0.12, "b": 0.01},
    "sigmoid": {"ts": 9.0, "n": 0.4, "c": 0.1},
}


@pytest.mark.parametrize("family", EXPECTED)
def test_parent_fraction_models_find_the_truth(family: str) -> None:
    got = fit_parent_fraction(_fractions(TRUTHS[family]), family)
    for name, value in EXPECTED[family].items():
        report(f"{family} {name}", value, got[name], rtol=1e-4)
    report("at injection", 1.0, float(got(0.0)), rtol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_parent_fractions_stay_within_bounds_and_fall(family: str) -> None:
    rng = np.random.default_rng(2)
    noisy = np.clip(_hill(TIMES) + 0.05 * rng.standard_normal(TIMES.size), 0, 1)
    got = fit_parent_fraction(_fractions(noisy), family)(np.linspace(0, 500, 400))
    assert got.min() >= 0 and got.max() <= 1
    assert np.all(np.diff(got) <= 1e-12)


def test_fractions_outside_are_refused_by_row_or_clipped() -> None:
    value = _hill(TIMES)
    value[[0, 3]] = 1.02, 1.2
    with pytest.raises(DataError, match=r"row 2 \(1.02 at 0.5 min\), row 5 \(1.2 at 10 min\)"):
        fit_parent_fraction(_fractions(value))
    got = fit_parent_fraction(_fractions(value), out_of_range="clip")
    assert any("clipped" in n for n in got.notes)
    with pytest.raises(DataError, match="percent"):
        fit_parent_fraction(_fractions(100 * _hill(TIMES)))
    with pytest.raises(FitError, match="did you mean 'hill'"):
        fit_parent_fraction(_fractions(_hill(TIMES)), "hil")


def test_negative_samples_are_refused_by_row_kept_or_set_to_zero() -> None:
    bad = plasma().replace(value=np.where(KNOTS < 0.6, -0.5, PLASMA), rows=tuple(range(2, 16)))
    with pytest.raises(DataError, match=r"2 values below zero, row 2 .*, row 3 .*negative='zero'"):
        check_samples(bad)
    with pytest.raises(DataError, match="row 2"):
        arterial_input(bad)
    kept, said = check_samples(bad, "keep")
    assert kept.value.min() == -0.5 and "kept as asked" in said[0]
    zero, said = check_samples(bad, "zero")
    assert zero.value.min() == 0 and "set to zero as asked" in said[0]


@pytest.mark.parametrize("tau", [0.02, 0.1, 0.5])
def test_dispersion_is_exact_for_straight_lines(tau: float) -> None:
    """A ramp a t through a tube: a (t - tau + tau exp(-t/tau))."""
    t = np.array([0.0, 0.3, 1.0, 2.5, 9.0])
    ramp = curve("ramp", t / 60, 4 * t, kind="plasma", **SETTINGS)
    for at, got in zip(t, disperse(ramp, tau).value, strict=True):
        report(f"ramp at {at} min", 4 * (at - tau + tau * np.exp(-at / tau)), float(got), rtol=1e-12, atol=1e-13)


def test_dispersion_and_its_correction_undo_each_other() -> None:
    f = input_function("feng", {"t0": 0.2, "A": 851.1, "B": 21.9, "C": 20.8, "alpha": 4.1, "beta": 0.12, "gamma": 0.01})
    t, tau = np.arange(0, 10, 1 / 60), 0.15
    smeared = f.convolve(1 / tau).scaled(1 / tau)(t)
    back = correct_dispersion(curve("Cp", t / 60, smeared, kind="plasma", **SETTINGS), tau)
    away = np.abs(t - 0.2) > 0.05  # at the jump of the slope a parabola cannot follow
    report("largest miss, of the peak", 0.0, float(np.abs(back.value - f(t))[away].max() / f(t).max()), atol=5e-3)
    with pytest.raises(FitError, match="zero or above"):
        disperse(back, -1.0)


def test_a_delay_is_found() -> None:
    """Tissue of one compartment with blood, seen 0.25 min later than the sampler saw the blood."""
    signal = through_samples(KNOTS, PLASMA)
    blood = (signal.integral(END) - signal.integral(START)) / (END - START)
    tissue = frames(0.95 * tissue_average(0.2, 0.3) + 0.05 * blood)
    early = plasma().replace(t_start=plasma().t_start - 0.25 / 60, t_end=plasma().t_end - 0.25 / 60)
    got = find_delay(tissue, early)
    report("delay [min]", 0.25, got.value, atol=1e-3)
    assert got.se < 1e-3 and "min" in str(got)
    with pytest.raises(FitError, match="edge"):
        find_delay(tissue, early, span=(0.3, 1.0))
    with pytest.raises(FitError, match="6"):
        find_delay(tissue, early, window=1.0)
    moved = shift(early, 0.25)
    report("shifted", float(plasma().t[3]), float(moved.t[-11]), rtol=1e-12)


def test_plasma_over_blood() -> None:
    t = np.array([1.0, 5, 10, 20, 40, 60])
    blood = curve("blood", t / 60, np.linspace(9, 3, 6), kind="blood", **SETTINGS)
    ratio = 1.6 - 0.5 * np.exp(-0.08 * t)
    made = blood.replace(value=blood.value * ratio, kind="plasma", region="plasma")
    got = fit_plasma_ratio(made, blood, "exponential")
    for name, value in {"a": 1.6, "b": 1.1, "c": 0.08}.items():
        report(f"ratio {name}", value, got[name], rtol=1e-6)
    got_input = arterial_input(made.take(t > 4), None, blood, ratio="exponential")
    first = 9 * (1.6 - 0.5 * np.exp(-0.08))
    report("plasma made from blood at 1 min", first, float(got_input.parent.value[0]), rtol=0.01)
    report("by a number", 1.2 * 9, float(arterial_input(blood=blood, ratio=1.2).parent.value[0]), rtol=1e-12)
    with pytest.raises(DataError, match="ratio="):
        arterial_input(blood=blood)


def test_the_arterial_input_in_one_call() -> None:
    """Uncorrected plasma in Bq/mL, blood in kBq/mL, parent fractions: corrected for decay, metabolites and delay."""
    raw = plasma().decay_uncorrect()
    blood = plasma().replace(kind="blood", region="blood", value=1e3 * PLASMA, unit="Bq/mL")
    got = arterial_input(raw, _fractions(_hill(TIMES)), blood, delay=0.3)
    for k in (2, 5, 9):
        expected = float(PLASMA[k] * _hill(KNOTS)[k])
        report(f"parent at {KNOTS[k]} min", expected, float(got.parent.value[k]), rtol=1e-4)
    report("delay", (KNOTS[4] + 0.3) / 60, float(got.parent.t[4]), rtol=1e-12)
    assert got.blood is not None and got.blood.unit == "kBq/mL"
    assert set(got.inputs()) == {"Cp", "Cb"}
    text = str(got)
    for word in ("corrected for decay", "converted from Bq/mL to kBq/mL", "parent fraction, hill", "shifted by 0.3"):
        assert word in text
    straight = arterial_input(raw, _fractions(_hill(TIMES)), parent_model=None)
    part = float(np.interp(3.0, np.append(0.0, TIMES), np.append(1.0, _hill(TIMES))))
    report("parent fraction by straight lines", 22.0 * part, float(straight.parent.value[5]), rtol=1e-12)
    late = arterial_input(raw, _fractions(_hill(TIMES[:6])))
    assert any("last measured at 20 min" in n for n in late.notes)
    assert any("counts as parent" in n for n in arterial_input(raw).notes)
    fitted = arterial_input(raw, input_model="tri_exponential")
    assert fitted.input_fit is not None and fitted.curve().unit == "kBq/mL"


def test_the_image_as_input() -> None:
    """Recovery and spill-in from late samples: a pool that sees 70 % of the blood and 20 % of the tissue around it."""
    signal = through_samples(KNOTS, PLASMA)
    blood = (signal.integral(END) - signal.integral(START)) / (END - START)
    tissue = frames(tissue_average(0.1, 0.04), "myocardium")
    pool = frames(0.7 * blood + 0.2 * tissue.value, "left ventricle")
    at = np.array([16.0, 23.0, 35.0, 52.0])  # between the kinks of the made-up blood, which frames smooth
    late = curve("late samples", at / 60, np.interp(at, KNOTS, PLASMA), kind="blood", **SETTINGS)
    got = image_derived_input(pool, tissue=tissue, samples=late)
    report("recovery", 0.7, got["recovery"], rtol=0.02)
    report("spill-in", 0.2, got["spill_in"], rtol=0.05)
    given = image_derived_input(pool.decay_uncorrect(), tissue=tissue, recovery=0.7, spill_in=0.2)
    report("blood, largest difference", 0.0, float(np.abs(given.blood.value - blood).max()), atol=1e-9)
    scaled = image_derived_input(frames(0.5 * blood), samples=late, recovery=1.0, rescale=True)
    report("scale", 2.0, scaled["scale"], rtol=0.01)
    by_image = logan(tissue, given, t_star=20.0)["VT"]
    report("VT with the image's blood", logan(tissue, plasma(), t_star=20.0)["VT"], by_image, rtol=2e-3)
    assert "pure blood" in str(image_derived_input(pool))
    with pytest.raises(FitError, match="tissue="):
        image_derived_input(pool, spill_in=0.1)
    with pytest.raises(FitError, match="not possible"):
        image_derived_input(frames(3 * blood), samples=late)
    with pytest.raises(FitError, match="samples="):
        image_derived_input(pool, recovery=0.7, rescale=True)
    with pytest.raises(FitError, match="outside the scan"):
        image_derived_input(pool, samples=shift(late, 100.0))


def test_bare_arrays_need_their_units_said() -> None:
    said: dict[str, Any] = {"unit": "kBq/mL", "time_unit": "s", "nuclide": "11C", "decay_corrected": True}
    made = make_frames(START * 60, END * 60, np.ones(33), **said)
    report("end of the last frame [h]", 70 / 60, float(made.t_end[-1]), rtol=1e-12)
    assert made.nuclide == "C-11" and made.kind == "tissue"
    with pytest.raises(DataError, match="as many"):
        samples([1.0, 2.0], [1.0], **said)
    with pytest.raises(TypeError):
        samples([1.0], [1.0])  # type: ignore[call-arg]


def test_figures_are_drawn() -> None:
    """Every kind of figure has its axes labelled with units."""
    tissue = frames(tissue_average(0.1, 0.04))
    fit = arterial_input(plasma(), _fractions(_hill(TIMES)), input_model="tri_exponential")
    assert fit.parent_fraction is not None and fit.input_fit is not None
    results = (logan(tissue, plasma(), t_star=20.0), fit, fit.parent_fraction, fit.input_fit)
    for one in results:
        figure = one.plot()
        assert figure.axes and all("[min]" in ax.get_xlabel() for ax in figure.axes)
        assert len(figure._repr_png_()) > 5000
