"""Error models as variances, each against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from synthetic import curve

from pkmodel.errors import FitError
from pkmodel.inference.protocol import ErrorModel
from pkmodel.inference.variances import variance_of
from pkmodel.nuclides import nuclide
from support import report

T, Y = [1.0, 2.0, 4.0], [10.0, 20.0, 5.0]
HAND = {
    "constant": (ErrorModel(), [400.0, 400.0, 400.0]),  # the largest value squared
    "proportional": (ErrorModel(kind="proportional"), [100.0, 400.0, 25.0]),
    "combined": (ErrorModel(kind="combined", additive=3.0, proportional=0.1), [10.0, 13.0, 9.25]),  # 9 + (y/10)^2
}


@pytest.mark.parametrize("kind", HAND)
def test_variances_by_hand(kind: str) -> None:
    error, expected = HAND[kind]
    for k, (e, got) in enumerate(zip(expected, variance_of(curve("liver", T, Y), error), strict=True)):
        report(f"{kind}, value {k + 1}", e, float(got), rtol=1e-14)


def test_a_table_of_sd_is_divided_by_the_number_of_animals_and_one_of_sem_is_not() -> None:
    sd, n = np.array([2.0, 3.0, 1.0]), np.array([4, 9, 1])
    as_sd = variance_of(curve("liver", T, Y, sd=sd, n=n, sd_kind="sd"), ErrorModel(kind="table"))
    as_sem = variance_of(curve("liver", T, Y, sd=sd, n=n, sd_kind="sem"), ErrorModel(kind="table"))
    for k, (e, got) in enumerate(zip([1.0, 1.0, 1.0], as_sd, strict=True)):  # 2/sqrt 4, 3/sqrt 9, 1/sqrt 1
        report(f"table of SD, value {k + 1}", e, float(got), rtol=1e-14)
    for k, (e, got) in enumerate(zip([4.0, 9.0, 1.0], as_sem, strict=True)):
        report(f"table of SEM, value {k + 1}", e, float(got), rtol=1e-14)


def test_weights_are_inverse_variances_and_zero_leaves_out() -> None:
    got = variance_of(curve("liver", T, Y, weights=np.array([0.5, 0.0, 4.0])), ErrorModel(kind="weights"))
    report("weight 0.5", 2.0, float(got[0]), rtol=1e-14)
    assert math.isinf(got[1])
    report("weight 4", 0.25, float(got[2]), rtol=1e-14)


def test_counts_that_were_not_corrected_vary_as_activity_over_time() -> None:
    frames = curve("liver", [0.0, 1.0, 3.0], Y, t_end=[1.0, 3.0, 8.0])
    got = variance_of(frames, ErrorModel(kind="counts"))
    for k, expected in enumerate([10.0, 10.0, 1.0]):  # 10/1, 20/2, 5/5
        report(f"counts, frame {k + 1}", expected, float(got[k]), rtol=1e-14)


def test_correcting_for_decay_multiplies_the_variance_by_the_factor_squared() -> None:
    """The same scan with and without correction: value times f, so variance times f^2, f about exp(lambda t)."""
    start, end = np.array([0.0, 60.0, 120.0]) / 60, np.array([5.0, 65.0, 130.0]) / 60
    raw = curve("brain", start, Y, t_end=end, nuclide="C-11", unit="kBq/mL")
    decay = nuclide("C-11").decay_constant
    x = decay * (end - start)
    f = np.exp(decay * start) * x / (1 - np.exp(-x))
    error = ErrorModel(kind="counts")
    before, after = variance_of(raw, error), variance_of(raw.decay_correct(), error)
    for k in range(3):
        report(f"frame at {60 * start[k]:.0f} min", float(before[k] * f[k] ** 2), float(after[k]), rtol=1e-12)
    flat = variance_of(
        curve("b", start, [7.0] * 3, t_end=start + 0.1, nuclide="C-11", decay_corrected=True), ErrorModel(kind="counts")
    )
    growth = math.exp(decay * (start[2] - start[0]))
    report("equal corrected values two hours apart: exp(lambda t)", growth, float(flat[2] / flat[0]), rtol=1e-12)


def test_a_frame_without_counts_keeps_a_finite_variance() -> None:
    got = variance_of(curve("liver", [0, 1], [0.0, 50.0], t_end=[1, 2]), ErrorModel(kind="counts"))
    report("empty frame: a hundredth of the largest", 0.5, float(got[0]), rtol=1e-14)


def test_known_poisson_noise_has_the_variance_that_counts_say() -> None:
    """10 000 simulated scans of decaying frames, corrected: the ratio of variances is as computed."""
    rng = np.random.default_rng(3)
    start, end = np.array([0.0, 1.0]), np.array([0.1, 1.5])
    c = curve("brain", start, [10.0, 1.0], t_end=end, nuclide="C-11", unit="kBq/mL")
    counts = rng.poisson(1000 * c.value * (end - start), size=(10_000, 2))
    scans = [c.replace(value=row / 1000 / (end - start)).decay_correct().value for row in counts]
    spread = np.var(scans, axis=0, ddof=1)
    model = variance_of(c.decay_correct(), ErrorModel(kind="counts"))
    report("ratio of the variances of two frames", float(spread[1] / spread[0]), float(model[1] / model[0]), rtol=0.06)


BAD: dict[str, tuple[ErrorModel, dict[str, Any], str]] = {
    "proportional": (ErrorModel(kind="proportional"), {"value": np.array([10.0, 0.0, 5.0])}, "value 2 .*'combined'"),
    "combined": (
        ErrorModel(kind="combined", proportional=0.1),
        {"value": np.array([0.0, 1, 2])},
        "additive above zero",
    ),
    "table": (ErrorModel(kind="table"), {}, "value 1 .*needs an sd above zero"),
    "table with a zero": (
        ErrorModel(kind="table"),
        {"sd": np.array([1.0, 0, 1]), "sd_kind": "sem"},
        "value 2 .*sd above",
    ),
    "weights": (ErrorModel(kind="weights"), {}, "value 1 .*needs a weight for every value"),
    "negative weight": (ErrorModel(kind="weights"), {"weights": np.array([1.0, -1, 1])}, "value 2 .*none negative"),
    "only zero weights": (ErrorModel(kind="weights"), {"weights": np.zeros(3)}, "not all zero"),
    "counts of samples": (ErrorModel(kind="counts"), {}, "value 1 .*needs a frame"),
    "nothing but zeros": (ErrorModel(), {"value": np.zeros(3)}, "every value is zero"),
}


@pytest.mark.parametrize("case", BAD)
def test_data_that_lack_what_the_error_needs_are_refused(case: str) -> None:
    error, changes, message = BAD[case]
    with pytest.raises(FitError, match=f"region liver.*{message}"):
        variance_of(curve("liver", T, Y).replace(**changes), error)


def test_the_row_of_the_file_is_named() -> None:
    c = curve("liver", T, [1.0, 0.0, 1.0], rows=(2, 7, 9))
    with pytest.raises(FitError, match="row 7"):
        variance_of(c, ErrorModel(kind="proportional"))
