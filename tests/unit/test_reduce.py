"""What is left out changes nothing that is reported."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from pkmodel.compiler.autonomous import Autonomous
from pkmodel.compiler.programs import programs
from pkmodel.compiler.reduce import reduced
from pkmodel.compiler.tape_reference import evaluate
from pkmodel.expressions import parse, symbol

Array = NDArray[np.float64]


def system(rates: dict[str, str], parameters: str, initial: dict[str, str], out: dict[str, str]) -> Autonomous:
    names = [*rates, *parameters.split()]
    return Autonomous(
        states=tuple(map(symbol, rates)),
        parameters=tuple(map(symbol, parameters.split())),
        primary=len(parameters.split()),
        rates=tuple(parse(e, names, "") for e in rates.values()),
        initial=tuple(parse(initial.get(s, "0"), names, "") for s in rates),
        report=tuple(parse(e, names, "") for e in out.values()),
        report_names=tuple(out),
    )


# A hot and a cold ligand that compete for a receptor, and the integral of what is bound.
BINDING = {
    "hot": "-kon*hot*(R - bhot - bcold) + koff*bhot - k*hot",
    "cold": "-kon*cold*(R - bhot - bcold) + koff*bcold - k*cold",
    "bhot": "kon*hot*(R - bhot - bcold) - koff*bhot",
    "bcold": "kon*cold*(R - bhot - bcold) - koff*bcold",
    "urine": "k*hot*f",
    "tia": "bhot",
}


def binding(**out: str) -> Autonomous:
    return system(BINDING, "kon koff R k f unused", {}, out)


def run(s: Autonomous, y0: Array, p: Array) -> Array:
    """Report at four times, by SciPy over the programs."""
    made = programs(s)
    q, f = np.zeros(made.nq), np.zeros(made.n)
    q[: made.k] = p
    evaluate(made.tapes["constants"], q=q)

    def rates(t: float, y: Array) -> Array:
        evaluate(made.tapes["rhs"], y=y, q=q, f=f)
        return f.copy()

    times = np.array([0.1, 0.5, 1.0, 3.0])
    states = solve_ivp(rates, (0, 3), y0, t_eval=times, method="LSODA", rtol=1e-10, atol=1e-12).y
    out = np.zeros((made.no, times.size))
    evaluate(made.tapes["report"], y=states, q=q, out=out)
    return out


def test_without_cold_ligand_its_states_stay_zero() -> None:
    whole = binding(bound="bhot + bcold", tia="tia")
    small = reduced(whole, {0})
    assert [s.name for s in small.system.states] == ["hot", "bhot", "tia"]
    assert [s.name for s in small.system.parameters] == ["kon", "koff", "R", "k"]
    assert small.states == (0, 2, 5) and small.parameters == (0, 1, 2, 3)
    assert small.state(2) == 1 and small.state(1) == -1 and small.parameter(5) == -1
    p = np.array([1.3, 0.4, 2.0, 0.7, 0.5, 9.0])
    y0 = np.array([3.0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(run(small.system, y0[[0, 2, 5]], p[:4]), run(whole, y0, p), rtol=1e-7)


def test_what_may_be_entered_stays() -> None:
    whole = binding(bound="bhot")
    assert [s.name for s in reduced(whole, {0, 1}).system.states] == ["hot", "cold", "bhot", "bcold"]
    assert [s.name for s in reduced(whole).system.states] == ["hot", "cold", "bhot", "bcold"]


def test_what_is_not_reported_goes() -> None:
    small = reduced(binding(urine="urine"), {0})
    assert [s.name for s in small.system.states] == ["hot", "bhot", "urine"]
    assert "unused" not in {s.name for s in small.system.parameters}
    nothing = reduced(binding(R="R"), {0})
    assert nothing.system.states == () and [s.name for s in nothing.system.parameters] == ["R"]


def test_only_a_dose_of_nothing_leaves_nothing() -> None:
    small = reduced(binding(bound="bhot + 2"), set())
    assert small.system.states == () and small.system.report == (2,)


def test_a_source_or_an_initial_amount_is_not_zero() -> None:
    s = system(
        {"a": "ksyn - k*a", "b": "k*a - b", "c": "b*c", "d": "-d", "e": "d"}, "k ksyn", {"d": "k"}, {"x": "b+c+e"}
    )
    assert [x.name for x in reduced(s, set()).system.states] == ["a", "b", "d", "e"]


def test_zero_over_zero_is_no_reason_to_leave_out() -> None:
    s = system({"a": "-a", "b": "-b"}, "k", {}, {"ratio": "a/(a + b)"})
    assert len(reduced(s, set()).system.states) == 2


def test_primary_and_switched_parameters_are_told_apart() -> None:
    s = system({"a": "inflow - k*a", "b": "other"}, "k gone inflow other", {}, {"a": "a"})
    s = Autonomous(**{f: getattr(s, f) for f in Autonomous.__slots__} | {"primary": 2})
    small = reduced(s)
    assert [p.name for p in small.system.parameters] == ["k", "inflow"] and small.system.primary == 1


@given(seed=st.integers(0, 2**31), n=st.integers(2, 9))
def test_random_networks(seed: int, n: int) -> None:
    """The rate of every state kept is the same as in the whole system with the states left out at zero."""
    rng = np.random.default_rng(seed)
    y = [symbol(f"y{i}") for i in range(n)]
    k = symbol("k")
    rates = [-k * y[i] + sum((y[j] * y[m] for j, m in rng.integers(0, n, (2, 2))), sp.Integer(0)) for i in range(n)]
    s = Autonomous(
        states=tuple(y), parameters=(k,), primary=1, rates=tuple(rates), initial=(sp.Integer(0),) * n,
        report=(y[0] + y[n - 1],), report_names=("sum",),
    )  # fmt: skip
    entered = {int(i) for i in rng.integers(0, n, 2)}
    small = reduced(s, entered)
    if not small.states:
        assert not entered & {0, n - 1}
        return
    values = rng.lognormal(size=n)
    reachable = set(entered)  # what may ever be positive, by following the products forward
    while grown := {
        i for i in range(n) if i not in reachable for t in sp.Add.make_args(rates[i])
        if (f := [y.index(a) for a in t.free_symbols if a in y]) and set(f) <= reachable
    }:  # fmt: skip
        reachable |= grown
    assert set(small.states) <= reachable
    point = {y[i]: values[i] if i in reachable else 0.0 for i in range(n)} | {k: 0.3}
    for at, i in enumerate(small.states):
        assert float(small.system.rates[at].xreplace(point)) == pytest.approx(
            float(rates[i].xreplace(point)), rel=1e-12
        )
