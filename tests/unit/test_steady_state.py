"""Steady states against what a long series of doses leaves behind, and their derivatives against differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pkmodel.errors import SimulationError
from pkmodel.labelling import label
from pkmodel.model import Model
from pkmodel.model_file import model_from_dict
from pkmodel.problem import Method, records_of
from pkmodel.regimen import Regimen
from pkmodel.simulation import InputCurve, prepare
from pkmodel.solve.status import Status
from support import report

PARAMETERS = {
    "ka": "0.9 1/h", "k": "0.15 1/h", "kt": "0.3 1/h", "Vm": "6 nmol/h", "Km": "4 nmol", "tlag": "0.7 h", "D": "2 h",
    "R": "4.7 nmol/h", "F": "0.8 1", "syn": "0.4 nmol/h", "R0": "8 nmol", "kon": "0.05 1/nmol/h", "koff": "0.1 1/h",
}  # fmt: skip
FLOWS = {
    "linear": ["gut -> a: ka*gut", "a -> b: kt*a", "b -> a: 0.5*kt*b", "a -> : k*a"],
    "produced": ["gut -> a: ka*gut", "a -> b: kt*a", "b -> a: 0.5*kt*b", "a -> : k*a", " -> a: syn"],
    "saturable": ["gut -> a: ka*gut", "a -> b: kt*a", "b -> a: 0.5*kt*b", "a -> : Vm*a/(Km + a)"],
}


def model(law: str, **extra: Any) -> Model:
    return model_from_dict(
        {
            "name": f"steady_{law}",
            "parameters": PARAMETERS,
            "compartments": {"gut": "nmol", "a": "nmol", "b": "nmol"},
            "administration": {"oral": "gut", "iv": "a"},
            "flows": FLOWS[law],
            "observables": {"A": "a", "B": "b"},
            **extra,
        }
    )


def receptor() -> Model:
    """A ligand that is eliminated, and a receptor without turnover, whose total stays what it was."""
    return model_from_dict(
        {
            "name": "steady_receptor",
            "parameters": PARAMETERS,
            "compartments": {"a": "nmol", "ra": "nmol", "r": {"unit": "nmol", "kind": "site", "initial": "R0"}},
            "administration": {"iv": "a"},
            "flows": ["a -> ra: kon*a*r - koff*ra", "r -> : kon*a*r - koff*ra", "a -> : k*a"],
            "observables": {"A": "a", "bound": "ra", "sites": "r + ra"},
        }
    )


SERIES = [
    ("10 nmol every {T} h{ss} into iv", 6.0),
    ("10 nmol every {T} h{ss} fraction F lag tlag into oral", 6.0),
    ("10 nmol over D every {T} h{ss} lag tlag into iv", 6.0),
    ("10 nmol over D every {T} h{ss} lag 9.5 h into iv", 4.0),  # the lag is longer than the interval
    ("10 nmol over 11 h every {T} h{ss} lag tlag into iv", 4.0),  # and so is the infusion
    ("10 nmol rate R every {T} h{ss} fraction F lag 4.5 h into iv", 4.0),
    ("10 nmol over 8 h every {T} h{ss} into iv", 4.0),  # two whole intervals
]


@pytest.mark.parametrize("case", [(m, s) for m in ("linear", "produced", "saturable", "receptor") for s in SERIES[:]],
                         ids=lambda c: f"{c[0]}: {c[1][0][:40]}")  # fmt: skip
def test_against_many_doses(case: tuple[str, tuple[str, float]]) -> None:
    law, (text, interval) = case
    subject = receptor() if law == "receptor" else model(law)
    if law == "receptor" and "oral" in text:
        text = text.replace("oral", "iv")
    before = 60 * int(interval)  # [h] of doses: exp(-0.05/h 60 T) is small enough
    count = int(before / interval) * 3
    times = np.array([0.0, 0.3, 1.1, 2.5, 3.9])
    steady = prepare(subject, text.format(T=interval, ss=" at steady state"), times, rtol=1e-11, atol=1e-14).solve()
    assert steady.status == Status.OK, steady.message
    many = Regimen(text.format(T=interval, ss=f" x {count + 1}"))
    start = count * interval
    long = prepare(subject, many, start + times, rtol=1e-11, atol=1e-14).solve()
    n = len(subject.compartments)
    top = np.maximum(np.abs(long.states[:n]).max(axis=1, keepdims=True), 1e-3 * np.abs(long.states[:n]).max())
    error = np.abs(steady.states[:n] - long.states[:n]) / top
    worst = np.unravel_index(int(np.argmax(error)), error.shape)
    report(
        f"{law}, {text}, state {worst[0]} at {times[worst[1]]} h",
        float(long.states[worst]),
        float(steady.states[worst]),
        rtol=1e-8,
        atol=1e-8 * float(top[worst[0], 0]),
    )


@pytest.mark.parametrize("method", ["exact", "rosenbrock"])
def test_a_constant_infusion_that_ends(method: Method) -> None:
    """Steady state of a loop of two: a = R/k, b = 2 a (kt a = 0.5 kt b); from then on nothing comes in."""
    problem = prepare(model("linear"), "3 nmol/h at steady state into iv", [0.0, 400.0], method=method)
    solution = problem.solve()
    report("a", 3 / 0.15, solution.states[1, 0], rtol=1e-9)
    report("b", 2 * 3 / 0.15, solution.states[2, 0], rtol=1e-9)
    assert solution.states[1, 1] < 1e-3
    slope = problem.solve(directions=[problem.compiled.parameters.index("k")])
    report("da/dk", -3 / 0.15**2, slope.state_tangent[0, 1, 0], rtol=1e-7)


def test_a_constant_infusion_of_a_saturable_model() -> None:
    """Vm a/(Km + a) = R at a = R Km/(Vm - R)."""
    problem = prepare(model("saturable"), "3 nmol/h at steady state into iv", [0.0], rtol=1e-10)
    report("a", 3 * 4 / (6 - 3), problem.solve().states[1, 0], rtol=1e-8)


@pytest.mark.parametrize("law", ["linear", "produced", "saturable"])
@pytest.mark.parametrize("series", [SERIES[1], SERIES[3], SERIES[5]], ids=lambda s: s[0][:40])
def test_derivatives(law: str, series: tuple[str, float]) -> None:
    text = series[0].format(T=series[1], ss=" at steady state")
    problem = prepare(model(law), text, [0.0, 0.9, 2.1, 3.9], rtol=1e-11, atol=1e-14)
    names = problem.compiled.parameters
    for name in ("ka", "kt", "syn", "Km", "tlag", "D", "R", "F"):
        k = names.index(name)
        solution = problem.solve(directions=[k])
        assert solution.status == Status.OK, solution.message
        ends = []
        for h in (1e-4, -1e-4):
            p = problem.defaults.copy()
            p[k] *= 1 + h
            ends.append(problem.solve(p).states)
        expected = (ends[0] - ends[1]) / (2e-4 * problem.defaults[k])
        scale = max(float(np.abs(expected).max()), 1e-3)
        worst = float(np.abs(solution.state_tangent[0] - expected).max()) / scale
        report(f"{law}, {text}, d/d{name}, worst over {scale:.3g}", 0.0, worst, atol=3e-6)


def test_added_to_what_is_there() -> None:
    """Superposition: a series since ever on top of a series since ever, and what the body makes counts once."""
    subject, times = model("produced"), [0.0, 1.0, 5.0]
    text = "10 nmol every 12 h at steady state into iv; 4 nmol every 24 h at added steady state into oral"
    both = prepare(subject, text, times).solve().states
    one = prepare(subject, "10 nmol every 12 h at steady state into iv", times).solve().states
    other = prepare(model("linear"), "4 nmol every 24 h at steady state into oral", times).solve().states
    for i, j in np.ndindex(3, 3):
        report(f"state {i} at {times[j]} h", float(one[i, j] + other[i, j]), float(both[i, j]), rtol=1e-12)


def test_the_present_dose_counts_and_repeats_follow() -> None:
    times = np.array([0.0, 6.0, 12.0, 18.0])
    steady = prepare(model("linear"), "10 nmol every 6 h x 4 at steady state into iv", times).solve().states
    for i in range(1, 4):
        for j in range(3):
            report(f"state {j} at {times[i]} h", steady[j, 0], steady[j, i], rtol=1e-12)


def test_a_table_of_patients() -> None:
    problem = prepare(model("saturable"), "10 nmol every 6 h at steady state fraction F lag tlag into oral", [2.0])
    table = np.tile(problem.defaults, (3, 1))
    table[:, 3] = [6.0, 9.0, 1.0]  # Vm; of the last, less than what is given
    given = records_of(problem, table)
    assert given.status.tolist() == [Status.OK, Status.OK, Status.NO_STEADY_STATE]
    run = problem.engine.run(table[:2], given.records.take(slice(0, 2)), problem.times, 1e-8, 1e-11)
    for i in range(2):
        report(f"patient {i}", problem.solve(table[i]).states[1, 0], float(run.out[i, 0, 1]), rtol=1e-7)


@pytest.mark.parametrize("law", ["linear", "saturable"])
def test_what_has_no_steady_state_says_so(law: str) -> None:
    collects = model(law, flows=[*FLOWS[law], "b -> urine: 0.01*k*b"],
                     compartments={"gut": "nmol", "a": "nmol", "b": "nmol", "urine": "nmol"})  # fmt: skip
    solution = prepare(collects, "10 nmol every 6 h at steady state into iv", [1.0]).solve()
    assert solution.status == Status.NO_STEADY_STATE and "no steady state" in solution.message
    if law == "saturable":
        faster = prepare(model(law), "10 nmol every 1 h at steady state into iv", [1.0]).solve()
        assert faster.status == Status.NO_STEADY_STATE


def test_what_is_refused() -> None:
    curve = {"C": InputCurve(np.array([0.0, 9.0]), np.ones(2))}
    driven = model("linear", inputs={"C": "nmol"}, flows=[*FLOWS["linear"], " -> a: k*C"])
    with pytest.raises(SimulationError, match="with an input no day is like the last"):
        prepare(driven, "1 nmol every 6 h at steady state into iv", [1.0], inputs=curve)
    timed = model("linear", flows=[*FLOWS["linear"], "a -> : k*exp(-k*t)*a"])
    with pytest.raises(SimulationError, match="a rate that depends on time no day is like the last"):
        prepare(timed, "1 nmol every 6 h at steady state into iv", [1.0])
    with pytest.raises(SimulationError, match="holds for linear models only"):
        prepare(model("saturable"), "1 nmol every 6 h at added steady state into iv", [1.0])
    with pytest.raises(SimulationError, match="not linear, so not solved exactly"):
        prepare(model("saturable"), "1 nmol once into iv", [1.0], method="exact")
    with pytest.raises(SimulationError, match="method 'euler' is not known"):
        prepare(model("linear"), "1 nmol once into iv", [1.0], method="euler")  # type: ignore[arg-type]


def test_hot_and_cold_together() -> None:
    """Both halves of a labelled ligand share the receptor, so their steady state is one."""
    hot = label(receptor(), "Tc-99m", cold=True)  # 6 h: little is left over from long before
    times = np.array([0.0, 1.5, 5.0])
    one = Regimen("200000 MBq over 1 h every 8 h at steady state lag tlag", amount="20 nmol")
    steady = prepare(hot, one, times, rtol=1e-11, atol=1e-14).solve()
    assert steady.status == Status.OK, steady.message
    many = Regimen("200000 MBq over 1 h every 8 h x 61 lag tlag", amount="20 nmol")
    long = prepare(hot, many, 480 + times, rtol=1e-11, atol=1e-14).solve()
    n = len(hot.compartments)
    worst = np.abs(steady.states[:n] - long.states[:n]).max() / np.abs(long.states[:n]).max()
    report("worst difference of any state, over the largest", 0.0, float(worst), atol=1e-8)
    with pytest.raises(SimulationError, match=r"follows cold ligand, so .* needs an amount"):
        prepare(hot, "5 MBq/h at steady state", times).solve()
