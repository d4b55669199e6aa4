"""Derivatives against the complex step on an independent implementation: SciPy on complex numbers, no code of ours.

With p + i*1e-30 the imaginary part of the solution is the derivative without any cancellation, so SciPy's tight
tolerance carries over to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from pkmodel.model_file import model_from_dict
from pkmodel.regimen import Administration, Regimen
from pkmodel.simulation import InputCurve, prepare, simulate
from support import report

STEP = 1e-30
TIMES = np.array([0.0, 0.7, 2.0, 5.5, 13.0, 30.0])
KNOTS = np.array([0.0, 0.4, 1.0, 3.0, 8.0, 40.0])
LEVEL = np.array([0.0, 6.0, 9.0, 3.0, 1.0, 0.2])
BOLUS, INFUSION = [(0.0, 8.0), (5.5, 8.0), (12.0, 8.0)], (2.5, 1.5, 6.0)  # (time, nmol); (start, duration, nmol)
PARAMETERS = {
    "F": 0.7,
    "k": 0.4,
    "Vm": 1.5,
    "Km": 2.0,
    "n": 1.6,
    "kb": 0.12,
    "b0": 3.0,
    "Kin": 0.5,
    "delay": 0.33,
    "w": 0.1,
}
UNITS = {
    "F": "1",
    "k": "1/h",
    "Vm": "nmol/h",
    "Km": "nmol",
    "n": "1",
    "kb": "1/h",
    "b0": "nmol",
    "Kin": "L/h",
    "delay": "h",
    "w": "1",
}
LAWS = {"linear": "k*a", "saturable": "Vm*a/(Km + a)", "hill": "Vm*hill(a, Km, n)"}


def model(law: str) -> Any:
    raw = {
        "name": f"sensitive_{law}",
        "parameters": {n: {"value": v, "unit": UNITS[n]} for n, v in PARAMETERS.items()},
        "compartments": {"a": "nmol", "b": {"unit": "nmol", "initial": "b0*(1 + F)"}},
        "inputs": {"C": {"unit": "nmol/L", "delay": "delay"}},
        "administration": {"iv": {"a": "F", "b": "1 - F"}},
        "flows": [f"a -> b: {LAWS[law]} - kb*b", "b -> : 0.3*kb*b", " -> a: Kin*C"],
        "observables": {"seen": "(1 - w)*(a + 0.5*b) + w*C*Kin/k", "b_only": "b"},
    }
    return model_from_dict(raw)


@dataclass
class Independent:
    """The same equations once more, on complex numbers."""

    law: str

    def flow(self, a: Any, p: dict[str, Any]) -> Any:
        if self.law == "linear":
            return p["k"] * a
        if self.law == "saturable":
            return p["Vm"] * a / (p["Km"] + a)
        return p["Vm"] * a ** p["n"] / (p["Km"] ** p["n"] + a ** p["n"]) if abs(a) > 0 else 0.0 * a

    def run(self, p: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Observables and their integrals at TIMES, (2, m) each, complex."""
        knots = KNOTS + np.real(p["delay"])
        start, duration, amount = INFUSION
        stops = np.unique(
            np.concatenate([[0.0], TIMES, knots[knots < 30.0], [t for t, _ in BOLUS], [start, start + duration]])
        )
        y = np.array([0.0, p["b0"] * (1 + p["F"]), 0.0, 0.0], dtype=complex)
        seen, integral = [], []

        def curve(t: float, k: int) -> Any:
            if k < 0:
                return 0.0
            slope = (LEVEL[k + 1] - LEVEL[k]) / (KNOTS[k + 1] - KNOTS[k])
            return LEVEL[k] + slope * (t - KNOTS[k] - p["delay"])

        def observe(t: float, y: Any, k: int) -> list[Any]:
            first = (1 - p["w"]) * (y[0] + 0.5 * y[1]) + p["w"] * curve(t, k) * p["Kin"] / p["k"]
            return [first, y[1]]

        for i, t in enumerate(stops):
            for when, dose in BOLUS:
                if when == t:
                    y[0] += p["F"] * dose
                    y[1] += (1 - p["F"]) * dose
            if t in TIMES:
                seen.append(observe(t, y, int(np.searchsorted(knots, t, side="right")) - 1))
                integral.append(y[2:].copy())
            if i + 1 == len(stops):
                break
            middle = 0.5 * (t + stops[i + 1])
            k = int(np.searchsorted(knots, middle)) - 1
            rate = amount / duration if start <= middle < start + duration else 0.0

            def slope(s: float, y: Any, k: int = k, rate: float = rate) -> Any:
                out = self.flow(y[0], p) - p["kb"] * y[1]
                return np.array(
                    [
                        p["Kin"] * curve(s, k) - out + p["F"] * rate,
                        out - 0.3 * p["kb"] * y[1] + (1 - p["F"]) * rate,
                        *observe(s, y, k),
                    ]
                )

            y = solve_ivp(slope, (t, stops[i + 1]), y, method="DOP853", rtol=1e-13, atol=1e-15).y[:, -1]
        return np.array(seen).T, np.array(integral).T


def prepared(law: str) -> Any:
    doses = [Administration(t, amount=d) for t, d in BOLUS]
    start, duration, amount = INFUSION
    doses.append(Administration(start, amount=amount, duration=duration))
    inputs = {"C": InputCurve(KNOTS, LEVEL)}
    return prepare(model(law), Regimen.of(*doses), TIMES, inputs=inputs, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("law", LAWS)
def test_against_the_complex_step(law: str) -> None:
    problem = prepared(law)
    assert problem.compiled.linear == (law == "linear")
    names = list(problem.compiled.parameters)
    solution = problem.solve(directions=range(len(names)))
    assert not solution.status, solution.message
    exact, integrals = Independent(law).run({k: v + 0j for k, v in PARAMETERS.items()})
    for o in range(2):
        for i, t in enumerate(TIMES):
            report(f"{law} observable {o} at {t:g} h", exact[o, i].real, solution.observed[o, i], rtol=1e-8)
            report(
                f"{law} integral {o} at {t:g} h", integrals[o, i].real, solution.integrals[o, i], rtol=1e-8, atol=1e-12
            )
    for d, name in enumerate(names):
        moved = {k: v + (1j * STEP if k == name else 0j) for k, v in PARAMETERS.items()}
        seen, integral = (z.imag / STEP for z in Independent(law).run(moved))
        for what, expected, got in (
            ("d", seen, solution.observed_tangent[d]),
            ("d integral", integral, solution.integral_tangent[d]),
        ):
            scale = np.abs(expected).max(axis=1)
            for o in range(2):
                at = int(np.argmax(np.abs(got[o] - expected[o])))
                label = f"{law}: {what} observable {o} / d {name}, worst of {TIMES.size} times ({TIMES[at]:g} h)"
                report(label, expected[o, at], got[o, at], rtol=1e-6, atol=1e-6 * scale[o] + 1e-13)


def richardson(f: Callable[[float], np.ndarray], x: float, h: float) -> np.ndarray:
    """Central difference of sixth order."""
    d = [(f(x + k * h) - f(x - k * h)) / (2 * k * h) for k in (1, 2, 3)]
    return np.asarray(1.5 * d[0] - 0.6 * d[1] + 0.1 * d[2])


def test_the_states_do_not_depend_on_asking_for_sensitivities() -> None:
    for law in LAWS:
        problem = prepared(law)
        one, other = problem.solve(), problem.solve(directions=[0, 3])
        np.testing.assert_array_equal(one.states, other.states)
        np.testing.assert_array_equal(one.observed, other.observed)


def test_kinks_have_the_slope_of_their_branch() -> None:
    raw = {
        "name": "kinks",
        "parameters": {"k": "0.3 1/h", "cap": "2 nmol", "late": "4.1 h"},
        "compartments": {"a": "nmol", "b": "nmol"},
        "administration": {"iv": "a"},
        "flows": ["a -> b: k*min(a, cap)", "b -> : 0.1*k*max(b, abs(b - cap))*where(b < 4*cap, 1, 2)"],
        "observables": {"A": "a", "B": "b"},
    }
    kinks = model_from_dict(raw)
    problem = prepare(kinks, "10 nmol once", [1.0, 6.0, 20.0], rtol=1e-12, atol=1e-15)
    for name in ("k", "cap"):
        j = problem.compiled.parameters.index(name)
        got = problem.solve(directions=[j]).observed_tangent[0]

        def f(x: float, j: int = j) -> np.ndarray:
            p = problem.defaults.copy()
            p[j] = x
            return problem.solve(p).observed

        expected = richardson(f, problem.defaults[j], 1e-3)
        for o in range(2):
            for i in range(3):
                # dA/dcap stays below the kink's own smoothing: the state passes it once
                report(
                    f"d {'AB'[o]} / d {name} at {problem.times[i]:g} h", expected[o, i], got[o, i], rtol=2e-5, atol=1e-7
                )


def test_simulate_returns_them_in_the_units_of_the_file() -> None:
    raw = {
        "name": "wash",
        "parameters": {"k": "0.01 1/min", "f": "20 %"},
        "compartments": {"a": "nmol"},
        "administration": {"iv": {"a": "f"}},
        "flows": ["a -> : k*a"],
        "observables": {"A": {"formula": "a", "unit": "pmol"}},
    }
    run = simulate(model_from_dict(raw), "10 nmol once", [0.0, 2.0], sensitivities=["k", "f"])
    # 2000 pmol exp(-0.01 * 120 min): by k -120 min times the value, by f a 20th of it per %
    value = 2000 * np.exp(-1.2)
    report("dA/dk", -120 * value, float(run["d_A_d_k"][1]), rtol=1e-12)
    report("dA/df", value / 20, float(run["d_A_d_f"][1]), rtol=1e-12)
    assert run["d_A_d_k"].attrs["units"] == "(pmol)/(1/min)"
