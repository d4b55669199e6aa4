"""Signals of samples and frames: exact integrals and convolutions against quadrature."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from pkmodel.errors import DataError
from pkmodel.pet.signal import Signal, through_frames, through_samples
from support import report

FRAMES = through_frames(np.array([0.0, 1, 2, 5]), np.array([1.0, 2, 4, 9]), np.array([1.0, 5, 3, 1]))
SAMPLES = through_samples(np.array([0.5, 1, 3, 7]), np.array([2.0, 9, 4, 1]))


def _quad(signal: Signal, rate: float, t: float, power: int = 0) -> float:
    breaks = [float(p) for p in signal.knots if 0 < p < t]
    return float(
        quad(
            lambda u: float(signal(u)) * (u - t) ** power * np.exp(-rate * (t - u)), 0, t, points=breaks, limit=200,
            epsabs=1e-13,
        )[0]
    )  # fmt: skip


@pytest.mark.parametrize("signal", [FRAMES, SAMPLES], ids=["frames", "samples"])
@pytest.mark.parametrize("rate", [0.0, 1e-9, 0.01, 0.5, 5.0])
@pytest.mark.parametrize("t", [0.75, 3.3, 12.0])
def test_convolution_and_its_derivative(signal: Signal, rate: float, t: float) -> None:
    value, slope = signal.convolve(rate, [t])
    report(f"convolution, rate {rate}, t {t}", _quad(signal, rate, t), float(value[0]), rtol=1e-11, atol=1e-12)
    report("derivative by the rate", _quad(signal, rate, t, 1), float(slope[0]), rtol=1e-11, atol=1e-12)


def test_frames_keep_their_averages_and_do_not_overshoot() -> None:
    got = FRAMES.integral([1, 2, 4, 9]) - FRAMES.integral([0, 1, 2, 5])
    for expected, found in zip([1, 5, 6, 4], got, strict=True):
        report("area of a frame", expected, float(found), rtol=1e-13)
    assert FRAMES(np.linspace(0, 20, 500)).min() >= 0
    assert float(FRAMES(0.0)) == 0.0


def test_repeated_integrals() -> None:
    for times in (1, 2, 3):
        expected = quad(lambda u, n=times: float(SAMPLES.integral(u, n - 1)), 0, 9, points=[0.5, 1, 3, 7])[0]
        report(f"integral taken {times} times", expected, float(SAMPLES.integral(9.0, times)), rtol=1e-10)


def test_before_the_first_knot_zero_after_the_last_level() -> None:
    assert float(SAMPLES(0.4)) == 0.0
    assert float(SAMPLES(50.0)) == 1.0


def test_a_pause_between_frames_is_a_straight_line() -> None:
    """Frames of a falling line with a pause: the pause holds the line's own average."""
    start, end = np.array([10.0, 12, 20, 22]), np.array([12.0, 14, 22, 24])
    line = 30 - 0.5 * (start + end)
    area = through_frames(start, end, line).integral([14.0, 20.0])
    report("area of the pause", 6 * (30 - 17), float(area[1] - area[0]), rtol=1e-12)


def test_overlapping_frames_are_refused() -> None:
    with pytest.raises(DataError, match="overlap"):
        through_frames(np.array([0.0, 1]), np.array([1.5, 2]), np.ones(2))
