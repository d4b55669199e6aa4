"""Allometry: the worked numbers, closed forms of the integral, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from pkmodel import allometry
from pkmodel.errors import PkmodelError
from support import report


def test_mouse_to_man_worked_numbers() -> None:
    report("clearance, 20 g to 70 kg", 455.04, float(allometry.clearance(1.0, 0.020, 70.0)), atol=0.005)
    report("rate, 20 g to 70 kg", 0.13001, float(allometry.rate(1.0, 0.020, 70.0)), atol=5e-6)
    kidneys = float(allometry.organ_share(1.0, 0.302, 25.0, 310.0, 73000.0))
    report("kidneys, 0.302 g of 25 g to 310 g of 73 kg", 0.35154, kidneys, atol=5e-6)
    report("volume, 20 g to 70 kg", 3500.0, float(allometry.volume(1.0, 0.020, 70.0)), rtol=1e-12)
    report("time is the inverse of rate", 1 / 0.13001, float(allometry.time(1.0, 0.020, 70.0)), rtol=1e-4)


def test_clearance_is_rate_times_volume_and_the_way_back_undoes_it() -> None:
    there = [float(f(2.0, 0.025, 73.0)) for f in (allometry.clearance, allometry.rate, allometry.volume)]
    report("CL = k V", there[0] * 2.0, there[1] * there[2], rtol=1e-12)
    report("and back", 2.0, float(allometry.clearance(there[0], 73.0, 0.025)), rtol=1e-12)
    report("another power", 3500**0.65, float(allometry.clearance(1.0, 0.02, 70.0, power=0.65)), rtol=1e-12)
    np.testing.assert_allclose(allometry.time(np.array([0.0, 1.0, 24.0]), 1.0, 16.0), [0.0, 2.0, 48.0])


def test_integral_of_a_washed_out_organ() -> None:
    # f exp(-k t), decay d: in the other species share r, time s: r f/(k/s + d)
    k, decay, animal, man = 0.05, np.log(2) / 160, (0.3, 25.0), (310.0, 73000.0)
    t = np.linspace(0, 400, 8001)
    got = allometry.tiac(t, 0.1 * np.exp(-k * t), decay, *animal, *man)
    s, r = (73000 / 25) ** 0.25, (310 / 73000) / (0.3 / 25)
    report("TIAC [h]", r * 0.1 / (k / s + decay), got, rtol=1e-5)


def test_integral_of_straight_lines_is_exact() -> None:
    same = (1.0, 10.0, 1.0, 10.0)
    decay = 0.1
    got = allometry.tiac([0.0, 10.0], [0.2, 0.2], decay, *same)
    report("held for good [h]", 0.2 / decay, got, rtol=1e-12)
    # up in a line from 0 to 1 at 10 h, held after that: (1 - e^-x)/(10 d^2) with x = 1
    got = allometry.tiac([10.0, 20.0], [1.0, 1.0], decay, *same)
    report("taken up and held [h]", (1 - np.exp(-1.0)) / (10 * decay**2), got, rtol=1e-12)
    slow = allometry.tiac([0.0, 10.0, 20.0], [1.0, 0.5, 0.25], 1e-9, *same)
    report("no decay to speak of: trapezia and the last slope [h]", 7.5 + 3.75 + 0.25 * 10 / np.log(2), slow, rtol=1e-6)


def test_a_curve_that_rises_falls_with_decay_alone() -> None:
    got = allometry.tiac([0.0, 10.0], [0.0, 1.0], 0.05, 1.0, 10.0, 1.0, 10.0)
    rise = (1 - np.exp(-0.5) * 1.5) / (10 * 0.05**2)
    report("TIAC [h]", rise + np.exp(-0.5) / 0.05, got, rtol=1e-12)


@pytest.mark.parametrize("mass", [0.0, -1.0, float("nan"), float("inf")])
def test_masses_are_positive(mass: float) -> None:
    with pytest.raises(PkmodelError, match="a number above 0"):
        allometry.clearance(1.0, mass, 70.0)
    with pytest.raises(PkmodelError, match="a number above 0"):
        allometry.organ_share(1.0, 0.3, 25.0, 310.0, mass)


def test_what_is_refused() -> None:
    with pytest.raises(PkmodelError, match="give both in one unit"):
        allometry.organ_share(1.0, 310.0, 73.0, 0.3, 25.0)
    with pytest.raises(PkmodelError, match="increasing"):
        allometry.tiac([1.0, 1.0], [0.1, 0.1], 0.1, 1.0, 10.0, 1.0, 10.0)
    with pytest.raises(PkmodelError, match="0 or more"):
        allometry.tiac([0.0, 1.0], [0.1, -0.1], 0.1, 1.0, 10.0, 1.0, 10.0)
    with pytest.raises(PkmodelError, match="no end"):
        allometry.tiac([0.0, 1.0], [0.1, 0.1], 0.0, 1.0, 10.0, 1.0, 10.0)
