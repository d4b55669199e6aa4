"""The search: the better of two minima, the same one twice, agreement with other programs, and solves that fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import curve_fit
from synthetic import Array, curve, curves, protocol

from pkmodel.data import Curves
from pkmodel.errors import FitError
from pkmodel.inference.fitting import fit
from pkmodel.inference.result import Fit
from pkmodel.model import Model
from pkmodel.model_file import model_from_toml
from pkmodel.nuclides import nuclide
from support import report

DECAY = nuclide("Lu-177").decay_constant
TIMES = np.array([1.0, 4.0, 10.0, 24.0, 48.0, 72.0, 120.0])


def _two_phase(t: Array, f: float, ku: float, kw: float) -> Array:
    return np.asarray(1000 * f * ku / (ku - kw) * (np.exp(-(kw + DECAY) * t) - np.exp(-(ku + DECAY) * t)), dtype=float)


def _noisy(seed: int = 2, size: float = 0.03) -> Curves:
    y = _two_phase(TIMES, 0.03, 0.4, 0.01)
    noise = size * np.random.default_rng(seed).standard_normal(TIMES.size)
    return curves(curve("liver", TIMES, y * (1 + noise), sd=size * y, sd_kind="sem"))


# Two peaks of blood, a high one a minute after a low one, seen late. A delay that lays the wrong peak over the other is
# a minimum too, and a search that starts beside it stays there.
MINUTES = np.arange(0.0, 6.01, 0.1)


def _peaks(t: Array) -> Array:
    return np.asarray(10 * np.exp(-(((t - 1.0) / 0.15) ** 2)) + 30 * np.exp(-(((t - 2.0) / 0.15) ** 2)), dtype=float)


def _two_peaks(starts: int) -> Fit:
    knots = np.arange(0.0, 6.001, 0.01)
    inputs = {n: (knots / 60, np.where(knots > 0, _peaks(knots), 0.0)) for n in ("Cp", "Cb")}
    t = MINUTES[:50]
    data = curve("vessel", t / 60, _peaks(t - 0.3), unit="kBq/mL", nuclide="C-11", decay_corrected=True)
    rules = protocol({"delay": {"start": -0.7}}, fixed={"K1": 0.0, "k2": 0.1, "vB": 1.0}, starts=starts)
    return fit("one_tissue", curves(data), rules, inputs=inputs)


def test_several_starts_find_the_better_of_two_minima() -> None:
    stuck, found = _two_peaks(1), _two_peaks(16)
    print(f"delay from one start {stuck.values}, cost {stuck.chi2:.3g}; from 16 {found.values}, cost {found.chi2:.3g}")
    assert stuck.chi2 > 100 * found.chi2
    report("delay from 16 starts [min]", 0.3, found.values["delay[vessel]"], atol=2e-3)


def test_the_number_of_agreeing_starts_is_told() -> None:
    found = _two_peaks(16)
    optimum = found.optima[0]
    print(f"{optimum.agreeing} of {optimum.starts} starts agree; warnings: {found.warnings}")
    assert optimum.starts == 16 and 1 <= optimum.agreeing < 8
    assert [w for w in found.warnings if f"starts disagree: {optimum.agreeing} of 16" in w or "only one of 16" in w]


def test_the_same_seed_gives_the_same_fit_bit_for_bit() -> None:
    a, b = (fit("organ_2_phase", _noisy(), protocol("fraction k_uptake k_washout", seed=5)) for _ in range(2))
    assert np.array_equal(a.x, b.x) and np.array_equal(a.covariance, b.covariance)


def test_another_seed_starts_elsewhere_and_ends_at_the_same_place() -> None:
    from pkmodel.inference.least_squares import _spread

    a = fit("organ_2_phase", _noisy(), protocol("fraction k_uptake k_washout"), seed=1)
    b = fit("organ_2_phase", _noisy(), protocol("fraction k_uptake k_washout"), seed=2)
    begin = np.array([s.to_scale(s.start) for s in a.slots])
    one, two = (_spread(a.groups[0], begin, 4, seed) for seed in (1, 2))
    assert np.array_equal(one[0], two[0]) and not np.array_equal(one[1], two[1])
    report("chi2 from another seed", a.chi2, b.chi2, rtol=1e-9)


@pytest.mark.parametrize("absolute", [False, True])
def test_estimates_and_covariance_are_those_of_scipy(absolute: bool) -> None:
    """Independent: a closed form with numerical derivatives, in logarithms of the parameters."""
    data = _noisy()
    got = fit(
        "organ_2_phase",
        data,
        protocol("fraction k_uptake k_washout", error={"kind": "table", "absolute": absolute}),
    )
    c = data["liver"]
    x, covariance = curve_fit(
        lambda t, *p: _two_phase(t, *np.exp(p)), c.t, c.value, p0=got.x + 0.1, sigma=c.standard_error,
        absolute_sigma=absolute, ftol=1e-14, xtol=1e-14, gtol=1e-14,
    )  # fmt: skip
    for k, slot in enumerate(got.slots):
        report(f"log {slot.label}", float(x[k]), float(got.x[k]), rtol=1e-6)
        for j in range(k + 1):
            report(f"covariance {k + 1}, {j + 1}", float(covariance[k, j]), float(got.covariance[k, j]), rtol=1e-3)


def test_estimates_and_errors_are_those_of_lmfit_on_its_own() -> None:
    import lmfit

    data = _noisy()
    got = fit("organ_2_phase", data, protocol("fraction k_uptake k_washout"))
    c = data["liver"]
    other = lmfit.Model(lambda t, f, ku, kw: _two_phase(t, f, ku, kw), independent_vars=["t"])
    start: dict[str, Any] = {"f": 0.02, "ku": 0.6, "kw": 0.012}
    result = other.fit(c.value, t=c.t, **start)
    for ours, theirs in (("fraction", "f"), ("k_uptake", "ku"), ("k_washout", "kw")):
        label = f"{ours}[liver]"
        report(f"{label}, lmfit alone", result.params[theirs].value, got.values[label], rtol=1e-5)
        report(f"{label} se, lmfit alone", result.params[theirs].stderr, float(got.table["se"][label]), rtol=1e-3)


EXPLODES = """
name = "explodes"
scope = "region"
[parameters]
growth = { value = 5e-5, unit = "1/MBq/h", lower = 0, upper = 1000, meaning = "growth" }
share = { value = 1, unit = "1", lower = 0, meaning = "share of the dose" }
[compartments]
pool = { unit = "MBq", region = "organ" }
[administration]
injection = { pool = "share" }
[[flows]]
to = "pool"
rate = "growth*pool*pool"
[observables]
organ = "pool"
"""


@pytest.fixture(scope="module")
def explosive() -> Model:
    """dx/dt = k x^2 is infinite at 1/(k x0): 20 h at the truth, sooner at larger k."""
    return model_from_toml(EXPLODES)


def _growing() -> Curves:
    t = np.array([1.0, 3.0, 6.0, 10.0])
    return curves(curve("liver", t, 1000 / (1 - 5e-5 * 1000 * t), decay_corrected=True))


def test_starts_that_cannot_be_solved_are_survived_and_told(explosive: Model) -> None:
    got = fit(explosive, _growing(), protocol({"growth": {"start": 2e-5}}, starts=8, fixed={"share": 1.0}))
    report("growth, where several starts explode", 5e-5, got.values["growth[liver]"], rtol=1e-6)
    assert np.all(np.isfinite(got.covariance)) and np.all(np.isfinite(got.residuals["predicted"]))
    print(f"{got.optima[0].failed} of 8 starts could not be solved; warnings: {got.warnings}")
    assert (got.optima[0].failed > 0) == any("could not be solved from" in w for w in got.warnings)


def test_a_search_that_runs_into_an_explosion_turns_back(explosive: Model) -> None:
    """From a good start whose first steps overshoot: the only start, so nothing else can rescue it."""
    got = fit(explosive, _growing(), protocol({"growth": {"start": 1e-7}, "share": {}}, starts=1))
    report("growth from a far start", 5e-5, got.values["growth[liver]"], rtol=1e-5)


def test_a_model_that_can_never_be_solved_is_an_error_in_words(explosive: Model) -> None:
    with pytest.raises(FitError, match=r"liver: explodes could not be solved from any of 1 starts \(.+\); check start"):
        fit(explosive, _growing(), protocol({"growth": {"start": 900.0}}, starts=1, fixed={"share": 1.0}))


def test_a_prediction_where_the_model_explodes_is_an_error_and_not_nan(explosive: Model) -> None:
    got = fit(explosive, _growing(), protocol({"growth": {"start": 4e-5}}, starts=1, fixed={"share": 1.0}))
    assert np.all(np.isfinite(got.predict("liver", [0.0, 15.0])))
    with pytest.raises(FitError, match="liver: explodes could not be solved for row 1"):
        got.predict("liver", [0.0, 25.0])


def test_far_ends_of_the_scale_neither_crash_nor_give_nan() -> None:
    """Parameters at either end of what their bounds allow, up to infinity."""
    free = {"k_kidneys_in": {}, "k_urine": {"upper": float("inf")}}
    t = np.array([1.0, 10.0, 50.0])
    got = fit("whole_body_linear", curves(curve("kidneys", t, [5.0, 20.0, 10.0])), protocol(free, starts=1))
    group = got.groups[0]
    for end in (-80.0, 80.0, 700.0):
        evaluated = group.evaluate(np.full(2, end))
        print(
            f"all logarithms at {end:g}: largest residual {np.abs(evaluated.residuals).max():.3g} {evaluated.failure}"
        )
        assert np.all(np.isfinite(evaluated.residuals)) and np.all(np.isfinite(evaluated.jacobian))
