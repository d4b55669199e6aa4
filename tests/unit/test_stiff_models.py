"""Hard models from end to end: a closed form and its order, stiffness, explosions, and everything on one timeline."""

from __future__ import annotations

from typing import Any

import mpmath  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from pkmodel.model import Model
from pkmodel.model_file import model_from_dict
from pkmodel.problem import OfDose
from pkmodel.regimen import Regimen
from pkmodel.simulation import InputCurve, prepare
from pkmodel.solve.status import Status
from support import report


def saturable() -> Model:
    return model_from_dict(
        {
            "name": "saturable",
            "parameters": {"V": "2 nmol/h", "K": "1.5 nmol"},
            "compartments": {"a": "nmol"},
            "administration": {"iv": "a"},
            "flows": ["a -> : V*a/(K + a)"],
            "observables": {"A": "a"},
        }
    )


def saturable_exact(v: Any, k: Any, a: Any, t: float) -> Any:
    """Michaelis-Menten elimination from amount a: k W(a/k exp((a - v t)/k)), W Lambert's function."""
    v, k, a = mpmath.mpf(v), mpmath.mpf(k), mpmath.mpf(a)
    return k * mpmath.lambertw(a / k * mpmath.exp((a - v * t) / k)).real


def test_saturable_elimination_and_its_order() -> None:
    expected = float(saturable_exact(2.0, 1.5, 10.0, 6.0))
    steps, errors = [], []
    for rtol in (1e-7, 1e-8, 1e-9, 1e-10, 1e-11):
        solution = prepare(saturable(), "10 nmol once", [6.0], rtol=rtol, atol=1e-15).solve()
        got = float(solution.states[0, 0])
        report(f"Michaelis-Menten, rtol {rtol:g}, {solution.steps} steps", expected, got, rtol=20 * rtol)
        steps.append(solution.steps)
        errors.append(abs(got - expected) / expected)
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    report("observed order of convergence", 5.0, float(slope), atol=1.0)


def test_derivatives_of_saturable_elimination() -> None:
    solution = prepare(saturable(), "10 nmol once", [2.0, 6.0], rtol=1e-10).solve(directions=[0, 1, OfDose(0)])
    with mpmath.workdps(30):
        point = (mpmath.mpf(2), mpmath.mpf("1.5"), mpmath.mpf(10))
        for d, (name, scale) in enumerate((("V", 1.0), ("K", 1.0), ("ln dose", 10.0))):
            which = tuple(int(d == i) for i in range(3))
            expected = float(mpmath.diff(lambda v, k, a: saturable_exact(v, k, a, 6.0), point, which)) * scale
            report(f"Michaelis-Menten, derivative by {name}", expected, solution.state_tangent[d, 0, 1], rtol=1e-7)


def robertson() -> Model:
    """Robertson's kinetics (1966), with seconds called hours."""
    return model_from_dict(
        {
            "name": "robertson",
            "parameters": {"slow": "0.04 1/h", "fast": "3e7 1/nmol/h", "back": "1e4 1/nmol/h", "one": "1 nmol"},
            "compartments": {"x": {"unit": "nmol", "initial": "one"}, "y": "nmol", "z": "nmol"},
            "flows": ["x -> y: slow*x - back*y*z", "y -> z: fast*y*y"],
            "observables": {"X": "x"},
        }
    )


def test_robertson() -> None:
    def f(t: float, y: Any) -> list[float]:
        back, fast = 1e4 * y[1] * y[2], 3e7 * y[1] ** 2
        return [-0.04 * y[0] + back, 0.04 * y[0] - back - fast, fast]

    reference = solve_ivp(f, (0, 4e5), [1, 0, 0], method="Radau", rtol=1e-10, atol=1e-15, t_eval=[40.0, 4e5])
    for atol in (1e-14, 1e-30):  # far below rounding does no harm
        solution = prepare(robertson(), None, [40.0, 4e5], rtol=1e-9, atol=atol).solve()
        assert solution.status == Status.OK, solution.message
        for k, when in ((0, "40"), (1, "4e5")):
            for i in range(3):
                report(f"Robertson, y{i + 1} at {when}", reference.y[i, k], solution.states[i, k], rtol=1e-6)
        print(f"{solution.steps} steps")
        assert solution.steps < 5000


@pytest.mark.parametrize(
    ("rate", "starts"), [("k*a*a", 1.0), ("k*one*one*one/(one - a)", 0.5)], ids=["explosion", "vertical end"]
)
def test_failures_are_statuses(rate: str, starts: float) -> None:
    """a' = a^2 from 1 has its end at 1 h; (1 - a) a' = 1 from a half, at 1/8 h."""
    model = model_from_dict(
        {
            "name": "ends",
            "parameters": {"k": "1 1/nmol/h", "one": "1 nmol"},
            "compartments": {"a": "nmol"},
            "administration": {"iv": "a"},
            "flows": [f" -> a: {rate}"],
            "observables": {"A": "a"},
        }
    )
    solution = prepare(model, f"{starts} nmol once", [0.1, 2.0]).solve(directions=[0])
    assert solution.status in (Status.STEP_TOO_SMALL, Status.NOT_FINITE, Status.TOO_MANY_STEPS, Status.PIVOT_GROWTH)
    expected = 1 / 0.9 if starts == 1.0 else 1 - np.sqrt(0.05)
    report("before the end the value stands", expected, float(solution.states[0, 0]), rtol=1e-6)
    assert np.isnan(solution.states[0, 1]) and np.isnan(solution.state_tangent[0, 0, 1])
    print(solution.message)


def test_everything_on_a_timeline_by_both_ways() -> None:
    """Doses, infusions, a kinked and jumping delayed input, and the derivatives of all, on a stiff linear model."""
    model = model_from_dict(
        {
            "name": "timeline",
            "parameters": {
                "fast": "200 1/h", "slow": "0.3 1/h", "F": "0.7 1", "late": "0.15 h", "lag": "0.4 h", "D": "0.6 h",
                "R": "1.7 nmol/h", "gain": "2 1/h", "made": "0.1 nmol/h",
            },
            "compartments": {"a": "nmol", "b": {"unit": "nmol", "initial": "made/slow"}},
            "administration": {"iv": {"a": "F", "b": "1 - F"}, "other": "b"},
            "inputs": {"C": {"unit": "nmol", "delay": "late"}},
            "flows": ["a -> b: fast*a - slow*b", "b -> : 0.4*slow*b", " -> a: gain*C", " -> b: made"],
            "observables": {"A": "a + F*C", "B": "b"},
        }
    )  # fmt: skip
    plan = Regimen(
        "3 nmol over D every 1 h x 3 fraction F lag lag; 2 nmol rate R fraction 0.8 at 0.5 h into other; "
        "1 nmol every 0.7 h x 3 lag lag into other; reset and 4 nmol at 2.9 h; 1 nmol over 5 h at 3 h"
    )
    curve = {"C": InputCurve(np.array([0.0, 0.3, 1.0, 3.3, 9.0]), np.array([1.5, 4.0, 2.0, 2.5, 0.0]))}
    times = np.array([0.0, 0.1, 0.5, 1.03, 1.7, 2.2, 2.9, 3.5, 8.0])
    every = [*range(9), OfDose(1)]
    exact = prepare(model, plan, times, inputs=curve, method="exact").solve(directions=every)
    assert exact.status == Status.OK
    solved = prepare(model, plan, times, inputs=curve, method="rosenbrock", rtol=1e-9).solve(directions=every)
    assert solved.status == Status.OK, solved.message
    top = np.abs(exact.states).max(axis=1, keepdims=True)
    report("states", 0.0, float(np.abs((solved.states - exact.states) / top).max()), atol=1e-8)
    for d, name in enumerate((*model.primary, "a dose")):
        scale = np.abs(exact.state_tangent[d]).max()
        error = np.abs(solved.state_tangent[d] - exact.state_tangent[d]).max()
        report(f"d/d{name}, worst over {scale:.3g}", 0.0, float(error / scale), atol=2e-7)
        scale = np.abs(exact.observed_tangent[d]).max()
        error = np.abs(solved.observed_tangent[d] - exact.observed_tangent[d]).max()
        report(f"d observed/d{name}, worst over {scale:.3g}", 0.0, float(error / scale), atol=2e-7)
