"""Profile intervals against exact ones (a linear parameter), a direct search (a rate), and bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import chi2, f, t
from synthetic import Array, curve, curves, protocol

from pkmodel.errors import FitError
from pkmodel.inference.fitting import fit
from pkmodel.inference.result import Fit
from pkmodel.nuclides import nuclide
from support import report

DECAY = nuclide("Lu-177").decay_constant
TIMES = np.array([2.0, 24.0, 72.0, 120.0, 168.0])
K = 0.01


def _shape(k: float) -> Array:
    return np.asarray(1000 * np.exp(-(k + DECAY) * TIMES), dtype=float)


Y = 0.02 * _shape(K) * np.array([1.05, 0.96, 1.02, 0.93, 1.1])
SD = 0.05 * Y


def _linear(**error: object) -> Fit:
    data = curves(curve("liver", TIMES, Y, sd=SD, sd_kind="sem"))
    return fit("organ_1_phase", data, protocol("fraction", fixed={"k_washout": K}, error=error or {}))


def test_a_linear_parameter_has_students_interval() -> None:
    """One amplitude of known shape: estimate -+ t * se, exactly."""
    x = _shape(K)
    best = float(x @ Y / (x @ x))
    se = math.sqrt(float(((Y - best * x) ** 2).sum()) / 4 / float(x @ x))
    low, high = _linear().profile("fraction[liver]")
    report("low end, t interval with 4 degrees of freedom", best - float(t.ppf(0.975, 4)) * se, low, rtol=1e-5)
    report("high end", best + float(t.ppf(0.975, 4)) * se, high, rtol=1e-5)


@pytest.mark.parametrize("level", [0.68, 0.95, 0.99])
def test_with_known_errors_it_is_the_normal_interval(level: float) -> None:
    x = _shape(K)
    best = float((x / SD**2) @ Y / ((x / SD**2) @ x))
    wide = math.sqrt(float(chi2.ppf(level, 1)) / float((x / SD) @ (x / SD)))
    low, high = _linear(kind="table", absolute=True).profile("fraction[liver]", level)
    report(f"low end at {level}", best - wide, low, rtol=1e-5)
    report(f"high end at {level}", best + wide, high, rtol=1e-5)


def _cost(k: float) -> float:
    """Lowest sum of squares with the rate held at k: the amplitude follows in closed form."""
    x = _shape(k)
    best = float(x @ Y / (x @ x))
    return float(((Y - best * x) ** 2).sum())


def test_a_rate_against_a_direct_search() -> None:
    got = fit("organ_1_phase", curves(curve("liver", TIMES, Y)), protocol("fraction k_washout"))
    found = minimize_scalar(_cost, bounds=(1e-4, 0.1), method="bounded", options={"xatol": 1e-12})
    limit = found.fun * (1 + float(f.ppf(0.95, 1, 3)) / 3)
    low, high = got.profile("k_washout[liver]")
    report("k_washout, low end", brentq(lambda k: _cost(k) - limit, 1e-5, found.x), low, rtol=1e-4)
    report("k_washout, high end", brentq(lambda k: _cost(k) - limit, found.x, 0.1), high, rtol=1e-4)


def test_each_region_has_its_own_freedom() -> None:
    """Beside an organ with fewer points the interval of this one does not change."""
    alone = fit("organ_1_phase", curves(curve("a", TIMES, Y)), protocol("fraction k_washout"))
    short = curve("b", TIMES[:3], Y[:3])
    both = fit("organ_1_phase", curves(curve("a", TIMES, Y), short), protocol("fraction k_washout"))
    for end, expected, got in zip(
        ("low", "high"), alone.profile("k_washout[a]"), both.profile("k_washout[a]"), strict=True
    ):
        report(f"{end} end beside another organ", expected, got, rtol=1e-6)


def test_where_the_data_never_object_the_end_is_the_bound() -> None:
    """Uptake long before the first scan: any fast rate will do."""
    late = np.array([24.0, 48.0, 72.0, 96.0, 120.0])
    y = 20 * np.exp(-(K + DECAY) * late) * np.array([1.01, 0.99, 1.0, 1.01, 0.99])
    got = fit("organ_2_phase", curves(curve("liver", late, y)), protocol("fraction k_uptake k_washout"))
    low, high = got.profile("k_uptake[liver]")
    print(f"k_uptake: expected a finite low end and the bound 100 /h, got {low:.3g} to {high:.3g}")
    assert 0.01 < low < 1 and high == pytest.approx(100.0, rel=1e-12)


def test_a_washout_that_may_be_nothing_reaches_zero() -> None:
    y = 20 * np.exp(-DECAY * TIMES) * np.array([1.05, 0.95, 1.0, 0.95, 1.05])
    got = fit("organ_1_phase", curves(curve("liver", TIMES, y)), protocol("fraction k_washout"))
    low, high = got.profile("k_washout[liver]")
    print(f"k_washout: expected zero to a small rate, got {low:.3g} to {high:.3g}")
    assert low == 0.0 and 0 < high < 0.01


def test_a_delay_is_searched_in_its_own_measure() -> None:
    """Seconds in a scale of hours: the ends are as fine as for any rate."""
    knots = np.arange(0.0, 3.001, 0.02)
    pulse = np.where(knots > 0, 40 * knots * np.exp(-knots / 0.3), 0.0)
    inputs = {n: (knots / 60, pulse) for n in ("Cp", "Cb")}
    at = np.arange(0.3, 2.6, 0.1)
    y = np.interp(at - 0.2, knots, pulse) + 0.05 * np.cos(7 * np.arange(at.size))
    data = curve("vessel", at / 60, y, unit="kBq/mL", nuclide="C-11", decay_corrected=True)
    rules = protocol("delay", fixed={"K1": 0.0, "k2": 0.1, "vB": 1.0})
    got = fit("one_tissue", curves(data), rules, inputs=inputs)

    def cost(d: float) -> float:
        return float(((np.interp(at - d, knots, pulse, left=0.0) - y) ** 2).sum())

    best = minimize_scalar(cost, bounds=(0.1, 0.3), method="bounded", options={"xatol": 1e-10})
    limit = best.fun * (1 + float(f.ppf(0.95, 1, at.size - 1)) / (at.size - 1))
    low, high = got.profile("delay[vessel]")
    report("delay, low end [min]", brentq(lambda d: cost(d) - limit, 0.1, best.x), low, atol=2e-6)
    report("delay, high end [min]", brentq(lambda d: cost(d) - limit, best.x, 0.3), high, atol=2e-6)


def test_what_cannot_be_profiled_says_so() -> None:
    got = _linear()
    with pytest.raises(FitError, match=r"'fraction' was not fitted; fitted: fraction\[liver\]"):
        got.profile("fraction")
    with pytest.raises(FitError, match="level 95 must lie between 0 and 1"):
        got.profile("fraction[liver]", 95)
    exact = fit("organ_1_phase", curves(curve("liver", TIMES[:2], Y[:2])), protocol("fraction k_washout"))
    with pytest.raises(FitError, match="no degree of freedom"):
        exact.profile("fraction[liver]")
