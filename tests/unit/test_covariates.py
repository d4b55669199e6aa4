"""Parameters that change in time: which value holds when, by either way of solving, and with every kind of event."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from pkmodel.covariates import Covariate, as_input
from pkmodel.errors import SimulationError
from pkmodel.model import Model
from pkmodel.model_file import model_from_dict
from pkmodel.problem import Method, records_of
from pkmodel.simulation import prepare, simulate
from support import report

METHODS: tuple[Method, ...] = ("exact", "rosenbrock")
T, WEIGHT = [0.0, 4.0, 10.0], [70.0, 35.0, 140.0]


def model(**extra: Any) -> Model:
    return model_from_dict(
        {
            "name": "weighed",
            "parameters": {
                "CL70": "2 L/h", "WT": "70 kg", "W": "70 kg", "V70": "10 L", "ka": "0.8 1/h", "F": "1 1",
                "CL": {"formula": "CL70*WT/W", "unit": "L/h"}, "V": {"formula": "V70*WT/W", "unit": "L"},
            },
            "compartments": {"gut": "nmol", "a": "nmol"},
            "administration": {"iv": "a", "oral": {"gut": "F"}},
            "flows": ["gut -> a: ka*gut", "a -> : CL/V70*a"],
            "observables": {"A": "a", "C": "a/V"},
            **extra,
        }
    )  # fmt: skip


def decay(rule: str, t: float) -> float:
    """Integral of the clearance over V70 up to t: 0.2 per hour at 70 kg, in proportion to weight."""
    if rule == "next":  # the value at 4 h holds since 0 h, that at 10 h since 4 h
        return 0.1 * min(t, 4.0) + 0.4 * max(t - 4.0, 0.0)
    if rule == "last":
        return 0.2 * min(t, 4.0) + 0.1 * max(min(t, 10.0) - 4.0, 0.0) + 0.4 * max(t - 10.0, 0.0)
    knots, rate = [0.0, 4.0, 10.0, 1e3], [0.2, 0.1, 0.4, 0.4]
    total = 0.0
    for (t0, t1), (r0, r1) in zip(pairwise(knots), pairwise(rate), strict=True):
        h = max(min(t, t1) - t0, 0.0)
        total += r0 * h + (r1 - r0) / (t1 - t0) * h * h / 2
    return total


def weight(rule: str, t: float) -> float:
    if rule == "linear":
        return float(np.interp(t, T, WEIGHT))
    if rule == "next":
        return WEIGHT[min(int(np.searchsorted(T, t, side="left")), 2)]
    return WEIGHT[int(np.searchsorted(T, t, side="right")) - 1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rule", ["next", "last", "linear"])
def test_amount_and_concentration(rule: str, method: Method) -> None:
    chosen: Method = "auto" if rule == "linear" and method == "exact" else method
    times = [0.0, 1.0, 4.0, 7.0, 10.0, 13.0]
    covariates = {"WT": Covariate(np.array(T), np.array(WEIGHT), rule)}
    run = simulate(model(), "10 nmol once into iv", times, covariates=covariates, method=chosen, rtol=1e-10)
    exact = run.attrs["solver"] == "exact propagation"
    assert exact == (method == "exact" and rule != "linear")
    for i, t in enumerate(times):
        amount = 10 * math.exp(-decay(rule, t))
        report(f"{rule}, {method}, amount at {t:g} h", amount, float(run["A"][i]), rtol=1e-12 if exact else 1e-9)
        # a concentration is read with the weight of its own time
        expected = amount / (10 * weight(rule, t) / 70)
        report(f"{rule}, {method}, concentration at {t:g} h", expected, float(run["C"][i]), rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_derivatives_across_steps(method: Method) -> None:
    covariates = {"WT": Covariate(np.array(T), np.array(WEIGHT), "last")}
    problem = prepare(
        model(), "10 nmol once into iv", [3.0, 8.0, 12.0], covariates=covariates, method=method, rtol=1e-10
    )
    k = problem.compiled.parameters.index("CL70")
    solution = problem.solve(directions=[k])
    for i, t in enumerate(problem.times):
        x = decay("last", t)
        expected = -x / 2.0 * 10 * math.exp(-x)
        report(f"dA/dCL70 at {t:g} h, {method}", expected, solution.observed_tangent[0, 0, i], rtol=1e-8)
    with pytest.raises(SimulationError, match="WT is a covariate; its derivative means nothing"):
        problem.solve(directions=[problem.compiled.parameters.index("WT")])


@pytest.mark.parametrize("method", METHODS)
def test_a_fraction_is_read_at_the_order(method: Method) -> None:
    """F at the order, not when the lagged dose enters; repeated doses keep that of their order."""
    covariates = {"F": Covariate(np.array([0.0, 1.0, 5.0]), np.array([0.5, 1.0, 0.25]), "last")}
    still = model(flows=[])
    text = "8 nmol once lag 2 h into oral; 4 nmol every 2 h x 3 at 3 h into oral; 16 nmol once at 5 h into oral"
    run = simulate(still, text, [1.0, 2.0, 4.0, 9.0], covariates=covariates, method=method)
    for got, expected in zip(run["state_gut"].values, [0.0, 4.0, 8.0, 20.0], strict=True):
        report("in the gut", expected, float(got), atol=1e-9)


def test_a_saturable_model_with_infusions_against_scipy() -> None:
    law = model(flows=["a -> : 2*CL70*(WT/W)*a/(5*V70 + a)"])
    covariates = {"WT": Covariate(np.array(T), np.array(WEIGHT), "next")}
    run = simulate(law, "30 nmol over 6 h once at 1 h into iv", [2.0, 6.0, 14.0], covariates=covariates, rtol=1e-10)

    def slope(t: float, y: Any, rate: float, w: float) -> Any:
        return rate - 4 * (w / 70) * y / (50 + y)

    y, ends = np.zeros(1), {2.0: 0.0, 6.0: 0.0, 14.0: 0.0}
    marks = [0.0, 1.0, 2.0, 4.0, 6.0, 7.0, 14.0]
    for t0, t1 in pairwise(marks):
        middle = (t0 + t1) / 2
        arguments = (5.0 if 1 < middle < 7 else 0.0, weight("next", middle))
        y = solve_ivp(slope, (t0, t1), y, args=arguments, method="DOP853", rtol=1e-12, atol=1e-14).y[:, -1]
        if t1 in ends:
            ends[t1] = float(y[0])
    for i, (t, expected) in enumerate(ends.items()):
        report(f"amount at {t:g} h", expected, float(run["A"][i]), rtol=1e-8)


def test_values_of_their_own_for_each_patient() -> None:
    values = np.array([[70.0, 35.0, 140.0], [50.0, 60.0, 80.0]])
    covariates = {"WT": Covariate(np.array(T), values, "last")}
    problem = prepare(model(), "10 nmol once into iv", [3.0, 12.0], covariates=covariates, method="rosenbrock")
    with pytest.raises(SimulationError, match="covariates of several patients"):
        problem.solve()
    batch = records_of(problem, np.tile(problem.defaults, (2, 1)))
    run = problem.engine.run(batch.parameters, batch.records, problem.times, 1e-9, 1e-12)
    for i, row in enumerate(values):
        one = {"WT": Covariate(np.array(T), row, "last")}
        alone = prepare(model(), "10 nmol once into iv", [3.0, 12.0], covariates=one).solve()
        report(f"patient {i}", alone.states[1, 1], float(run.out[i, 1, 1]), rtol=1e-7)


def test_outside_the_measured_times() -> None:
    """Before the first value the first, after the last the last, by every rule."""
    for rule in ("next", "last", "linear"):
        covariates = {"WT": Covariate(np.array([3.0, 5.0]), np.array([35.0, 140.0]), rule)}
        run = simulate(model(), "10 nmol once into iv", [2.0, 6.0, 9.0], covariates=covariates, rtol=1e-10)
        report(f"{rule}: before", 10 * math.exp(-0.1 * 2), float(run["A"][0]), rtol=1e-9)
        report(f"{rule}: after", float(run["A"][1]) * math.exp(-0.4 * 3), float(run["A"][2]), rtol=1e-9)


@pytest.mark.parametrize(
    ("covariates", "says"),
    [
        ({"WT": ([0.0, 1.0], [1.0, 2.0], "nocb")}, "rule is 'nocb'; allowed: 'next', 'last', 'linear'"),
        ({"WT": ([0.0, 1.0], [1.0], "last")}, r"\(2,\) times and \(1,\) values"),
        ({"WT": ([1.0, 0.0], [1.0, 2.0], "last")}, "must increase; number 2 at 0 h"),
        ({"WT": ([0.0, 1.0], [1.0, math.nan], "last")}, "must be finite"),
        ({"CL": ([0.0, 1.0], [1.0, 2.0], "last")}, "'CL' is not a parameter with a value"),
        ({"weight": ([0.0, 1.0], [1.0, 2.0], "last")}, "'weight' is not a parameter"),
        ({"F": ([0.0, 1.0], [1.0, 2.0], "linear")}, "administration oral into gut depends on the covariate F"),
    ],
)
def test_refused(covariates: dict[str, Any], says: str) -> None:
    with pytest.raises(SimulationError, match=says):
        made = {n: Covariate(np.array(t), np.array(v), rule) for n, (t, v, rule) in covariates.items()}
        prepare(model(), "1 nmol once into iv", [1.0], covariates=made)


def test_a_parameter_becomes_an_input() -> None:
    changed = as_input(model(), "WT")
    assert list(changed.inputs) == ["WT"] and changed.inputs["WT"].unit == "kg"
    assert set(changed.parameters) == {"CL70", "W", "V70", "ka", "F"}
    assert str(changed.flows[1].rate) == "CL70*WT*a/(V70*W)"
