"""A pulse written as a condition on time is met exactly, however short it is and whatever else happens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import solve_ivp

from pkmodel.compiler.compiled import compile_model
from pkmodel.compiler.switches import switches
from pkmodel.compiler.system import build_system
from pkmodel.model import Model
from pkmodel.model_file import model_from_dict
from pkmodel.populations import simulate_population
from pkmodel.preparation import prepare
from pkmodel.solve.status import Status

TIMES = np.array([1.0, 10.2, 12.0, 35.0, 400.0, 700.3, 720.0])


def pulsed(condition: str = "t > begin and t < begin + wide", **more: Any) -> Model:
    """Elimination that saturates, and a pulse of inflow."""
    return model_from_dict(
        {
            "name": "pulsed",
            "parameters": {
                "Vm": "2 nmol/h", "K": "3 nmol", "rate": "40 nmol/h", "begin": "10 h", "wide": "0.05 h",
                "late": "30 h", "k": "0.1 1/h",
            },
            "compartments": {"a": "nmol", "b": "nmol"},
            "administration": {"iv": "a"},
            "flows": [
                "a -> b: Vm*a/(K + a)", f"-> a: where({condition}, rate, 0*rate)", "b -> : where(t <= late, k, 2*k)*b"
            ],
            "observables": {"A": "a", "B": "b"},
            **more,
        }
    )  # fmt: skip


def by_hand(begin: float, wide: float, late: float, times: np.ndarray) -> np.ndarray:
    """SciPy, piece by piece."""
    y, t = np.array([10.0, 0.0]), 0.0
    out = np.zeros((2, len(times)))
    for end in sorted({begin, begin + wide, late, *times} - {0.0}):
        inflow, k = (40.0 if begin <= t < begin + wide else 0.0), (0.1 if t < late else 0.2)

        def f(_: float, y: np.ndarray, inflow: float = inflow, k: float = k) -> list[float]:
            flow = 2.0 * y[0] / (3.0 + y[0])
            return [inflow - flow, flow - k * y[1]]

        y, t = solve_ivp(f, (t, end), y, "DOP853", rtol=1e-13, atol=1e-15).y[:, -1], end
        out[:, times == end] = y[:, None]
    return out


def test_a_short_pulse_after_a_long_rest() -> None:
    found = prepare(pulsed(), "10 nmol", TIMES).solve()
    assert found.status == Status.OK
    np.testing.assert_allclose(found.observed, by_hand(10.0, 0.05, 30.0, TIMES), rtol=1e-7, atol=1e-10)


def test_a_population_with_other_moments() -> None:
    table = pd.DataFrame({"begin": [10.0, 350.0, 5.0, 800.0, 0.0], "late": [700.0, 710.0, 3.0, 900.0, 650.0]})
    run = simulate_population(pulsed(), "10 nmol", table, TIMES, rtol=1e-9, atol=1e-13)
    assert not run.status.any()
    for i, (begin, late) in enumerate(table.to_numpy()):
        expected = by_hand(begin, 0.05, late, np.append(TIMES, 1000.0))[:, :-1]
        np.testing.assert_allclose(np.stack([run.A[i], run.B[i]]), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["begin", "wide", "late"])
def test_derivatives_by_the_moments(name: str) -> None:
    problem = prepare(pulsed(), "10 nmol", TIMES, rtol=1e-10, atol=1e-13)
    at = problem.compiled.parameters.index(name)
    found = problem.solve(directions=[at])
    values = {"begin": 10.0, "wide": 0.05, "late": 30.0}
    h = 1e-3

    def moved(x: float) -> np.ndarray:
        return by_hand(**{**values, name: values[name] + x}, times=TIMES)

    expected = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h)
    np.testing.assert_allclose(found.observed_tangent[0], expected, rtol=1e-5, atol=1e-7)


def test_what_is_a_moment() -> None:
    model = pulsed("t > begin and 2*t < 2*begin + wide/k*k and a < K and sin(t) > 0 and rate*t > K")
    found = {str(s.moment): len(s.conditions) for s in switches(build_system(model))}
    assert found == {"begin": 1, "begin + wide/2": 1, "K/rate": 1, "late": 1}
    assert len(compile_model(model).switches) == 4
