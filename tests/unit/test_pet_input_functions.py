"""Input functions: closed integrals and convolutions against quadrature, formulas against the functions, fits."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np
import pytest
from pet_truth import END, SETTINGS, START, frames
from scipy.integrate import quad
from synthetic import curve

from pkmodel.errors import FitError
from pkmodel.expressions import parse, symbol
from pkmodel.formats.curve import Curve
from pkmodel.pet import ExponentialSum, fit_input, input_function, logan
from pkmodel.pet.input_functions import FAMILIES
from support import report, shared

COMMON = {"t0": 0.2, "B": 21.88, "C": 20.81, "alpha": 4.134, "beta": 0.1191, "gamma": 0.01043}
TRUTH: dict[str, dict[str, float]] = {
    "feng": COMMON | {"A": 851.1},
    "feng_infusion": COMMON | {"A": 851.1, "duration": 0.5},
    "tri_exponential": COMMON | {"A": 100.0, "rise": 0.4},
    "tri_exponential_infusion": COMMON | {"A": 100.0, "duration": 0.5},
}
BREAKS = [0.2, 0.6, 0.7]
TIMES = np.concatenate([np.arange(0.05, 3, 0.05), np.arange(3, 10, 0.5), np.arange(10, 92, 4)])


def _samples(value: np.ndarray[Any, Any], **more: Any) -> Curve:
    return curve("plasma", TIMES / 60, value, kind="plasma", **(SETTINGS | more))


@pytest.mark.parametrize("family", FAMILIES)
def test_integrals_and_convolutions_are_exact(family: str) -> None:
    f = input_function(family, TRUTH[family])
    area = quad(lambda t: float(f(t)), 0, 30, points=[*BREAKS, 3], limit=300, epsabs=1e-12)[0]
    report(f"{family} integral to 30 min", area, float(f.integral()(30.0)), rtol=1e-9)
    tail = quad(lambda t: float(f(t)), 30, 3000, limit=300, epsabs=1e-12)[0]
    report(f"{family} integral to infinity", area + tail, f.total(), rtol=1e-8)
    mean = quad(lambda t: float(f(t)), 0.3, 0.9, points=[0.6, 0.7], epsabs=1e-13)[0] / 0.6
    report(f"{family} average over a frame", mean, float(f.mean(0.3, 0.9)), rtol=1e-10)
    for rate in (0.05, 4.134, 12.0):  # one equals a rate of the function itself
        direct = quad(lambda u, k=rate: float(f(u)) * np.exp(-k * (4 - u)), 0, 4, points=BREAKS, epsabs=1e-13)[0]
        report(f"{family} convolved, rate {rate}", direct, float(f.convolve(rate)(4.0)), rtol=1e-9)


def test_what_stays_has_no_finite_total() -> None:
    assert np.isinf(ExponentialSum.of([(0.0, 1.0, 0, 0.0)]).total())


@pytest.mark.parametrize("family", FAMILIES)
def test_formulas_for_models_are_the_same_functions(family: str) -> None:
    """The text a model would hold, evaluated by SymPy, in minutes."""
    values = TRUTH[family]
    expression = parse(FAMILIES[family].formula, values, family).subs({symbol(n): v for n, v in values.items()})
    f = input_function(family, values)
    for t in (0.1, 0.35, 0.65, 2.0, 40.0):
        report(f"{family} at {t} min", float(f(t)), float(expression.subs(symbol("t"), t)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_fits_find_the_truth_without_noise(family: str) -> None:
    f = input_function(family, TRUTH[family])
    got = fit_input(_samples(f(TIMES)), family)
    for name, value in TRUTH[family].items():
        report(f"{family} {name}", value, got[name], rtol=2e-3)
    report("integral to infinity", f.total(), got.total(), rtol=1e-4)
    report(
        "the curve of the fit",
        float(f(12.34)),
        float(np.interp(12.34 / 60, got.curve().t, got.curve().value)),
        rtol=1e-4,
    )
    made = got.input_curve(200.0)
    report(
        "an input of a model, in its own units",
        1e-3 * float(f(150.0)) * 1e3,
        float(np.interp(2.5, made.t, made.value)),
        rtol=1e-4,
    )


def test_framed_samples_are_fitted_by_their_averages() -> None:
    """An image-derived input: frame averages, not values at midpoints."""
    f = input_function("feng", TRUTH["feng"])
    got = fit_input(frames(f.mean(START, END), kind="blood"), "feng")
    for name, value in TRUTH["feng"].items():
        report(name, value, got[name], rtol=0.01)


def test_standard_errors_are_those_of_the_draws() -> None:
    rng = np.random.default_rng(4)
    truth = input_function("tri_exponential", TRUTH["tri_exponential"])
    sd = 0.03 * truth(TIMES) + 0.05
    found = [
        fit_input(
            _samples(truth(TIMES) + sd * rng.standard_normal(TIMES.size)), "tri_exponential", variance=sd**2,
            fixed={"t0": 0.2, "rise": 0.4},
        )
        for _ in range(25)
    ]  # fmt: skip
    for name in ("A", "gamma"):
        spread = float(np.std([f[name] for f in found], ddof=1))
        stated = float(np.sqrt(np.mean([next(e.se for e in f.estimates if e.name == name) ** 2 for f in found])))
        report(f"standard error of {name}", spread, stated, rtol=0.45)  # 25 draws know it to 14 %: three times that
        assert next(e.se for e in found[0].estimates if e.name == "t0") == 0


def test_response_of_tissues_to_fengs_function() -> None:
    """One- and two-tissue responses by convolution against DOP853 at rtol 1e-12 (../shared/oracles/pet)."""
    with shared("oracles/pet/feng_input_reference_solutions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    f = input_function("feng", TRUTH["feng"] | {"t0": 0.0})
    k1, k2, k3, k4 = 0.1, 0.11, 0.07, 0.06
    total = k2 + k3 + k4
    root = np.sqrt(total**2 - 4 * k2 * k4)
    slow, fast = (total - root) / 2, (total + root) / 2
    parts = f.convolve(slow).scaled(k1 * (k3 + k4 - slow) / root) + f.convolve(fast).scaled(
        k1 * (fast - k3 - k4) / root
    )
    for r in rows:
        t = float(r["t_min"])
        report(f"Cp at {t} min", float(r["Cp"]), float(f(t)), rtol=1e-6)
        report(f"2TCM at {t} min", float(r["2tcm_K1.1_k2.11_k3.07_k4.06_Ct"]), float(parts(t)), rtol=1e-6)


def test_a_fit_stands_where_a_curve_is_asked_for() -> None:
    f = input_function("feng", TRUTH["feng"])
    response = f.convolve(0.04).scaled(0.1)
    tissue = frames(response.mean(START, END))
    got = logan(tissue, fit_input(_samples(f(TIMES)), "feng"), t_star=20.0)
    report("VT from the fitted input", 0.1 / 0.04, got["VT"], rtol=1e-3)


def test_a_missed_tail_is_said() -> None:
    f = input_function("feng", TRUTH["feng"])
    slow = _samples(f(TIMES) + np.where(TIMES > 10, 15.0, 0.0))
    got = fit_input(slow, "feng", fixed={"gamma": 0.5, "beta": 1.0}, variance="uniform")
    assert any("misses the samples" in w for w in got.warnings)
    assert any(n.startswith("area to") for n in got.notes)


@pytest.mark.parametrize(
    ("family", "fixed", "said"),
    [
        ("fengg", {}, "did you mean 'feng'"),
        ("feng", {"duration": 1.0}, "cannot be fixed"),
        ("feng", {}, "samples count"),
    ],
)
def test_what_a_fit_refuses(family: str, fixed: dict[str, float], said: str) -> None:
    with pytest.raises(FitError, match=said):
        fit_input(_samples(np.ones(TIMES.size)).take(TIMES < 0.3), family, fixed=fixed)


def test_parameters_must_be_possible() -> None:
    with pytest.raises(FitError, match="above zero"):
        input_function("feng", TRUTH["feng"] | {"alpha": 0.0})
    with pytest.raises(FitError, match="needed"):
        input_function("feng", {"A": 1.0})
