"""What an administration means: lags, fractions, durations, rates, resets, order; and derivatives by each of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pkmodel.checks import check
from pkmodel.composition import join
from pkmodel.errors import ModelError, SimulationError
from pkmodel.inputs import InputCurve
from pkmodel.labelling import label
from pkmodel.model import Model
from pkmodel.model_file import model_from_dict, model_from_toml, model_to_toml
from pkmodel.problem import Method, OfDose, OfTime, Problem, records_of
from pkmodel.regimen import Administration, Regimen
from pkmodel.simulation import prepare, simulate
from pkmodel.solve.records import Kind
from pkmodel.solve.status import Status
from support import report

METHODS: tuple[Method, ...] = ("exact", "rosenbrock")
K = 0.2


def wash(**extra: Any) -> Model:
    """Washout with everything a dose may need; `law` makes it saturable."""
    return model_from_dict(
        {
            "name": "events",
            "parameters": {
                "k": f"{K} 1/h", "tlag": "0.7 h", "D1": "2 h", "R1": "4 nmol/h", "F1": "0.6 1", "dt": "0 h",
                "Kin": "0.5 1/h",
            },
            "compartments": {"a": "nmol", "b": {"unit": "nmol", "initial": "3*F1"}},
            "administration": {"iv": "a"},
            "flows": ["a -> b: k*a", "b -> : 0.5*k*b"],
            "observables": {"A": "a", "AB": "a + 2*b"},
            **extra,
        }
    )  # fmt: skip


def saturable() -> Model:
    return wash(flows=["a -> b: 5*k*a/(3*F1 + a)", "b -> : 0.5*k*b"])  # in other units, of no matter here


def amounts(regimen: Regimen | str, times: list[float], method: Method, model: Model | None = None) -> list[float]:
    solution = prepare(model or wash(), regimen, times, method=method, rtol=1e-10).solve()
    assert solution.status == Status.OK, solution.message
    return [float(x) for x in solution.observed[0]]


def bolus(t: float) -> float:
    return math.exp(-K * t) if t >= 0 else 0.0


def infused(t: float, duration: float) -> float:
    """Amount t after the start of an infusion of one unit."""
    return (math.exp(-K * max(t - duration, 0.0)) - math.exp(-K * t)) / (K * duration) if t > 0 else 0.0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10 nmol once lag tlag", lambda t: 10 * bolus(t - 0.7)),
        ("10 nmol once lag 30 min at 1 h", lambda t: 10 * bolus(t - 1.5)),
        ("10 nmol once fraction F1", lambda t: 6 * bolus(t)),
        ("10 nmol over D1 once", lambda t: 10 * infused(t, 2.0)),
        ("10 nmol over 90 min fraction 0.5 lag tlag", lambda t: 5 * infused(t - 0.7, 1.5)),
        ("10 nmol rate R1 once", lambda t: 10 * infused(t, 2.5)),
        ("10 nmol rate 4 nmol/h fraction F1", lambda t: 6 * infused(t, 1.5)),  # F shortens it, the rate stays
        ("10 nmol over 3 h every 2 h x 3", lambda t: sum(10 * infused(t - 2 * i, 3.0) for i in range(3))),
        ("10 nmol once; reset at 2 h; 3 nmol once at 3 h", lambda t: 10 * bolus(t) * (t < 2) + 3 * bolus(t - 3)),
        ("10 nmol over 5 h; reset and 4 nmol at 2 h", lambda t: 10 * infused(t, 5.0) * (t < 2) + 4 * bolus(t - 2)),
        ("10 nmol once lag 3 h; reset at 2 h", lambda t: 0.0),  # what had not entered never does
        ("10 nmol every 2 h x 9; reset at 3 h", lambda t: (10 * bolus(t) + 10 * bolus(t - 2)) * (t < 3)),
        ("10 nmol at 1 h; 5 nmol at 1 h; reset at 1 h; 2 nmol at 1 h", lambda t: 2 * bolus(t - 1)),
    ],
)  # fmt: skip
def test_what_enters(text: str, expected: Any, method: Method) -> None:
    times = [0.0, 0.5, 1.0, 1.7, 2.0, 3.0, 4.0, 6.5, 12.0]
    for t, got in zip(times, amounts(text, times, method), strict=True):
        report(f"{text}, {t:g} h, {method}", expected(t), got, rtol=1e-12 if method == "exact" else 1e-8, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_the_last_infusion_to_end_leaves_an_exact_zero(method: Method) -> None:
    """0.1 + 0.2 - 0.1 - 0.2 is not zero in floating point; nothing must be infused for ever after."""
    plan = Regimen("0.1 nmol over 1 h once; 0.2 nmol over 1 h once at 0.5 h; 0.7 nmol over 3 h once at 0.7 h")
    problem = prepare(wash(), plan, [10.0], method="rosenbrock")
    records = records_of(problem, problem.defaults).records
    rates = records.value[0, records.kind[0] == Kind.SET_PARAM]
    assert rates.size == 6 and rates[-1] == 0.0 and np.all(rates[:-1] > 0.0)
    late = amounts(plan, [400.0], method)[0]
    assert abs(late) < 1e-30 or method == "rosenbrock"


@pytest.mark.parametrize("method", METHODS)
def test_a_reset_returns_to_the_initial_state_and_integrals_run_on(method: Method) -> None:
    problem = prepare(wash(), "10 nmol once; reset at 2 h", [2.0, 7.0], method=method, rtol=1e-10)
    solution = problem.solve()
    report("a at the reset", 0.0, solution.states[0, 0], atol=1e-12)
    report("b at the reset, 3 F1", 1.8, solution.states[1, 0], rtol=1e-12)
    report("integral of a", 10 * -math.expm1(-2 * K) / K, solution.integrals[0, 1], rtol=1e-8)


def test_events_after_the_end_change_nothing_and_are_told() -> None:
    run = simulate(wash(), "10 nmol once; 5 nmol every 1 h x 3 at 100 h", [0.0, 50.0])
    report("only the first", 10 * bolus(50), float(run["A"][1]), rtol=1e-12)
    assert (
        "3 administrations after the last time, 50 h, change nothing; first: 5 nmol at 100 h" in run.attrs["warnings"]
    )
    assert simulate(wash(), "10 nmol once at 50 h", [0.0, 50.0]).attrs["warnings"] == ""


@pytest.mark.parametrize("model", [wash(), saturable()], ids=["linear", "nonlinear"])
@pytest.mark.parametrize(
    ("name", "value"), [("tlag", -0.5), ("D1", 0.0), ("D1", -1.0), ("F1", -0.1), ("tlag", math.nan)]
)
def test_what_cannot_be_given_is_a_status(model: Model, name: str, value: float) -> None:
    text = {"tlag": "10 nmol once lag tlag at 1 h", "D1": "10 nmol over D1", "F1": "10 nmol once fraction F1"}[name]
    problem = prepare(model, text, [1.0, 5.0])
    p = problem.defaults.copy()
    p[problem.compiled.parameters.index(name)] = value
    solution = problem.solve(p)
    assert solution.status == Status.BAD_INPUT and np.isnan(solution.observed[:, 1]).all()
    print(solution.message)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("10 nmol once lag tlg", "lag 'tlg' is not a parameter, did you mean 'tlag'"),
        ("10 nmol once lag k", "lag 'k' is in '1/h'; a parameter in 'h' is needed"),
        ("10 nmol over F1", "duration 'F1' is in '1'"),
        ("10 nmol rate D1", "rate 'D1' is in 'h'; a parameter in 'nmol/h'"),
        ("10 nmol once fraction tlag", "fraction 'tlag' is in 'h'"),
    ],
)
def test_names_are_checked(text: str, says: str) -> None:
    with pytest.raises(SimulationError) as error:
        prepare(wash(), text, [1.0]).solve()
    assert says.split(",")[0] in str(error.value), error.value


def numerical(problem: Problem, k: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Central differences by one parameter, extrapolated once (Richardson 1911)."""

    def slope(h: float) -> np.ndarray:
        ends = []
        for sign in (1, -1):
            p = problem.defaults.copy()
            p[k] += sign * h
            solution = problem.solve(p)
            ends.append(np.concatenate([solution.observed, solution.integrals]))
        return np.asarray((ends[0] - ends[1]) / (2 * h))

    coarse, fine = slope(step), slope(step / 2)
    return (4 * fine - coarse) / 3, np.abs(fine - coarse)


SCHEDULES = [
    "10 nmol once lag tlag fraction F1".replace("lag tlag fraction F1", "fraction F1 lag tlag"),
    "10 nmol over D1 every 3 h x 2 fraction F1 lag tlag",
    "10 nmol rate R1 every 3 h x 2 fraction F1 lag tlag",
    "10 nmol over D1 once lag tlag; 5 nmol once lag tlag",
    "10 nmol over D1 every 3 h x 3 lag tlag; reset and 4 nmol over D1 at 5 h",
]


@pytest.mark.parametrize("kind", ["exact", "rosenbrock", "nonlinear"])
@pytest.mark.parametrize("text", SCHEDULES)
def test_derivatives_by_lag_fraction_duration_and_rate(text: str, kind: str) -> None:
    model = saturable() if kind == "nonlinear" else wash()
    method: Method = "exact" if kind == "exact" else "rosenbrock"
    problem = prepare(model, text, [0.3, 1.1, 2.0, 3.9, 5.5, 9.0], method=method, rtol=1e-11, atol=1e-14)
    names = ["k", "tlag", "D1", "R1", "F1"]
    at = [problem.compiled.parameters.index(n) for n in names]
    solution = problem.solve(directions=at)
    got = np.concatenate([solution.observed_tangent, solution.integral_tangent], axis=1)
    for d, (name, k) in enumerate(zip(names, at, strict=True)):
        expected, _ = numerical(problem, k, 4e-3 * problem.defaults[k])
        scale = max(float(np.abs(expected).max()), 1e-6)
        worst = float(np.abs(got[d] - expected).max() / scale)
        report(f"{text}, {kind}, d/d{name}, worst over {scale:.3g}", 0.0, worst, atol=1e-7 if kind == "exact" else 2e-6)


@pytest.mark.parametrize("kind", ["exact", "rosenbrock", "nonlinear"])
def test_derivatives_by_doses_and_times(kind: str) -> None:
    model = saturable() if kind == "nonlinear" else wash()
    method: Method = "exact" if kind == "exact" else "rosenbrock"
    plan = Regimen("10 nmol once; 6 nmol over D1 once at 2 h; reset and 3 nmol at 7 h")
    times = [1.0, 3.1, 5.0, 8.0, 12.0]
    problem = prepare(model, plan, times, method=method, rtol=1e-11, atol=1e-14)
    solution = problem.solve(directions=[OfDose(1), OfTime(1), OfTime(2), OfDose(0)])

    def moved(number: int, h: float, what: str) -> np.ndarray:
        def one(x: float) -> np.ndarray:
            listed = list(plan.administrations)
            a = listed[number]
            assert a.amount is not None
            listed[number] = replace(a, time=a.time + x) if what == "time" else replace(a, amount=a.amount * (1 + x))
            return prepare(model, Regimen.of(*listed), times, method=method, rtol=1e-11, atol=1e-14).solve().states

        return np.asarray((one(h) - one(-h)) / (2 * h))

    cases = [(1, "dose"), (1, "time"), (2, "time"), (0, "dose")]
    for d, (number, what) in enumerate(cases):
        expected = moved(number, 1e-4, what)
        scale = float(np.abs(expected).max())
        worst = float(np.abs(solution.state_tangent[d] - expected).max() / scale)
        report(f"{kind}, d/d {what} of {number}, worst over {scale:.3g}", 0.0, worst, atol=1e-6)


@pytest.mark.parametrize("kind", ["exact", "rosenbrock", "nonlinear"])
def test_a_delay_moves_a_jump_of_an_input(kind: str) -> None:
    """An input that begins with a jump, fitted for its delay."""
    law = {"k": "k*a", "s": "5*k*a/(3 + a)"}["s" if kind == "nonlinear" else "k"]
    model = wash(
        inputs={"C": {"unit": "nmol", "delay": "dt"}}, flows=["a -> b: " + law, " -> a: Kin*C"], administration={},
        observables={"A": "a", "seen": "a + C"},
    ).replace(dt=0.4)  # fmt: skip
    curve = InputCurve(np.array([0.0, 1.0, 30.0]), np.array([3.0, 1.0, 0.5]))
    method: Method = "exact" if kind == "exact" else "rosenbrock"
    problem = prepare(model, None, [0.2, 0.9, 2.0, 9.0], inputs={"C": curve}, method=method, rtol=1e-11, atol=1e-14)
    k = problem.compiled.parameters.index("dt")
    got = problem.solve(directions=[k])
    expected, _ = numerical(problem, k, 1e-3)
    both = np.concatenate([got.observed_tangent[0], got.integral_tangent[0]])
    report(f"{kind}: worst", 0.0, float(np.abs(both - expected).max() / np.abs(expected).max()), atol=1e-6)


def test_records_of_a_table_of_patients() -> None:
    """Each patient has lags and durations of its own; records are sorted for each, and who asks too much has none."""
    problem = prepare(wash(), "10 nmol over D1 every 3 h x 3 fraction F1 lag tlag", [1.0, 20.0], method="rosenbrock")
    names = problem.compiled.parameters
    table = np.tile(problem.defaults, (4, 1))
    table[:, names.index("tlag")] = [0.1, 4.0, 0.5, -1.0]
    table[:, names.index("D1")] = [1.0, 7.0, 0.5, 1.0]
    given = records_of(problem, table)
    assert given.status.tolist() == [Status.OK] * 3 + [Status.BAD_INPUT]
    assert given.records.patients == 4 and not given.records.there[3].any()
    run = problem.engine.run(table[:3], given.records.take(slice(0, 3)), problem.times, 1e-9, 1e-12)
    for i in range(3):
        one = problem.solve(table[i])
        assert one.status == Status.OK
        for state in range(2):
            report(f"patient {i}, state {state}", one.states[state, 1], float(run.out[i, 1, state]), rtol=1e-7)


def test_a_model_file_says_lag_and_duration() -> None:
    text = """
name = "timed"
parameters = { k = "0.2 1/h", tlag = "0.5 h", mtt = "1 h", D = { formula = "2*mtt", unit = "h" } }
compartments = { a = "nmol" }
administration = { iv = { a = 1, lag = "tlag", duration = "D" } }
flows = ["a -> : k*a"]
observables = { A = "a" }
"""
    model = model_from_toml(text)
    assert model_from_toml(model_to_toml(model)) == model
    assert model.digest != replace(model, timing={}).digest
    for got, t in zip(amounts("10 nmol once", [1.0, 4.0], "auto", model), [1.0, 4.0], strict=True):
        report(f"{t:g} h", 10 * infused(t - 0.5, 2.0), got, rtol=1e-12)
    report(
        "the regimen's own word",
        10 * infused(1.0, 3.0),
        amounts("10 nmol over 3 h lag 2 h", [3.0], "auto", model)[0],
        rtol=1e-12,
    )
    hot = label(model, "Lu-177", cold=True)
    run = prepare(hot, Regimen("7400 MBq once", amount="20 nmol"), [0.4, 0.6]).solve()
    assert run.states[:2, 0].tolist() == [0.0, 0.0] and np.all(run.states[:2, 1] > 0.0)
    renamed = model.rename({"tlag": "late"})
    assert str(renamed.timing["iv"]["lag"]) == "late"
    slope = prepare(model, "10 nmol once", [4.0]).solve(directions=[2])
    step = [amounts("10 nmol once", [4.0], "auto", model.replace(mtt=1.0 + h))[0] for h in (1e-5, -1e-5)]
    report("d A / d mtt", (step[0] - step[1]) / 2e-5, slope.observed_tangent[0, 0, 0], rtol=1e-8)


def test_administrations_as_objects() -> None:
    plan = Regimen.of(Administration(0.0, amount=10.0, lag="tlag", fraction="F1"))
    report("by name", 6 * bolus(0.3), amounts(plan, [1.0], "auto")[0], rtol=1e-12)


def test_lags_of_routes_are_checked_and_joined() -> None:
    parts: dict[str, Any] = {"administration": {"iv": {"a": 1, "lag": "tlag"}}}
    model = wash(**parts)
    assert join(model, wash(**parts)).timing == model.timing
    with pytest.raises(ModelError, match="administration iv: lag tlag in one and D1 in the other"):
        join(model, wash(administration={"iv": {"a": 1, "lag": "D1"}}))
    with pytest.raises(ModelError, match="timing of 'oral'"):
        replace(model, timing={"oral": model.timing["iv"]})
    wrong = check(wash(administration={"iv": {"a": 1, "lag": "F1"}}))
    assert any("lag of administration iv" in f.detail for f in wrong.findings if f.what == "units" and not f.ok)
    whole = wash(compartments={"a": "nmol", "b": "nmol", "lag": "nmol"}, administration={"iv": {"a": 1, "lag": 1}})
    assert not whole.timing and list(whole.administration["iv"]) == [
        "a",
        "lag",
    ]  # a compartment of that name comes first
