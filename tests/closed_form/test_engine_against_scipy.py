"""Random models with every function of a rate law: the engine against SciPy, its derivatives against themselves.

A model is drawn as text, once in SymPy's words for the engine and once as a Python function for SciPy, so that the two
share nothing but the formula. Tangents are held against Richardson differences of replayed runs, the adjoint
against the tangents: both are derivatives of the same discrete solution, and differ by rounding only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import sympy as sp
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from pkmodel.compiler.autonomous import Autonomous
from pkmodel.compiler.engine import Engine, Run
from pkmodel.compiler.gradient import Gradient
from pkmodel.solve.records import Kind, Records, records
from pkmodel.solve.status import Status

type Floats = NDArray[np.float64]
type Row = tuple[float, int, int, float]

END = 12.0
TIMES = np.array([0.0, 0.3, 1.0, 2.5, 4.0, 7.0, END])

# One flow out of x, with two parameters a and b, in words that SymPy and Python share (see _WORDS).
FLOWS = {
    "linear": "{a}*{x}",
    "Michaelis-Menten": "{a}*{x}/({b} + {x})",
    "Hill": "{a}*({x} + 0.01)**(1 + {b})/(0.5 + ({x} + 0.01)**(1 + {b})) - {a}*0.01**(1 + {b})/(0.5 + 0.01**(1 + {b}))",
    "exp": "{a}*{x}*exp(-{b}*{x})",
    "log": "{a}*log(1 + {b}*{x})",
    "tanh": "{a}*tanh({b}*{x})",
    "sqrt": "{a}*{x}/sqrt({b} + {x}**2)",
    "clock": "{a}*{x}*(1 + 0.5*sin({b}*time))",
    "another": "{a}*{x}*{z}/(1 + {b}*{z})",
}
KINKS = {
    "min": "{a}*Min({x}, {b})",
    "max": "{a}*Max({x} - {b}, 0)",
    "piecewise": "Piecewise(({a}*{x}, {x} < {b}), ({a}*{b} + 0.5*{a}*({x} - {b}), True))",
}


def _piecewise(*parts: tuple[float, bool]) -> float:
    return next(value for value, holds in parts if holds)


_WORDS = {
    "exp": math.exp, "log": math.log, "tanh": math.tanh, "sqrt": math.sqrt, "sin": math.sin, "Min": min, "Max": max,
    "Piecewise": _piecewise,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A model, its parameters and its doses."""

    n: int
    flows: tuple[tuple[int, int, str], ...]  # from, to (n: out of the body), formula
    parameters: tuple[float, ...]
    rows: tuple[Row, ...]  # records

    def rates(self) -> list[str]:
        """Rate of each state as text; the last state is the time, an infusion enters the first."""
        rates = ["0" for _ in range(self.n)]
        for source, target, formula in self.flows:
            rates[source] += f" - ({formula})"
            if target < self.n:
                rates[target] += f" + ({formula})"
        rates[0] += " + infusion"
        return [*rates, "1"]

    def system(self) -> Autonomous:
        """For the engine."""
        states = [f"x{i}" for i in range(self.n)] + ["time"]
        names = [f"p{i}" for i in range(len(self.parameters))] + ["infusion"]
        words = {w: sp.Symbol(w, real=True) for w in (*states, *names)}
        shown = [words[s] for s in states[:-1]] + [sp.log(1 + words["x0"] ** 2) * words["p0"]]
        return Autonomous(
            states=tuple(words[s] for s in states), parameters=tuple(words[p] for p in names), primary=len(names) - 1,
            rates=tuple(sp.sympify(r, locals=words) for r in self.rates()),
            initial=(words["p0"],) + (sp.Integer(0),) * self.n,
            report=tuple(shown), report_names=(*states[:-1], "observed"),
        )  # fmt: skip

    def function(self, infusion: float) -> Callable[[float, Floats], Floats]:
        """For SciPy: rates at a time and a state."""
        code = [compile(r, r, "eval") for r in self.rates()[:-1]]
        known = {**_WORDS, **{f"p{i}": v for i, v in enumerate(self.parameters)}}

        def f(t: float, y: Floats) -> Floats:
            names = {**known, "time": t, "infusion": infusion, **{f"x{i}": float(v) for i, v in enumerate(y)}}
            return np.array([eval(c, names) for c in code])

        return f

    def records(self) -> Records:
        """For the engine."""
        return records(self.rows)

    def reference(self, method: Literal["DOP853", "LSODA"]) -> Floats:
        """(m, n) states at `TIMES`, from SciPy, stopped at every record."""
        y, rate = np.zeros(self.n), 0.0
        y[0] = self.parameters[0]
        ordered = sorted(self.rows, key=lambda r: r[0])
        stops = sorted({0.0, END, *(r[0] for r in ordered if r[0] <= END)})
        found = np.zeros((len(TIMES), self.n))
        for begin, end in zip(stops, [*stops[1:], END], strict=True):
            for when, kind, index, value in ordered:
                if when != begin:
                    continue
                if kind == Kind.ADD_STATE:
                    y[index] += value
                else:
                    rate += value
            found[begin == TIMES] = y
            if end > begin:
                inside = (begin < TIMES) & (end > TIMES)
                part = solve_ivp(
                    self.function(rate), (begin, end), y, method, np.append(TIMES[inside], end), rtol=1e-10, atol=1e-12
                )
                assert part.success, part.message
                found[inside], y = part.y.T[:-1], part.y[:, -1].copy()
        return found


@st.composite
def cases(draw: st.DrawFn, laws: tuple[str, ...]) -> Case:
    """Two to four compartments, each with a way on or out."""
    n = draw(st.integers(2, 4))
    numbers = st.floats(0.1, 2.0).map(lambda x: round(x, 3))
    parameters = [draw(numbers)]
    flows = []
    for k in range(draw(st.integers(n, n + 3))):
        source = k % n
        target = draw(st.sampled_from([j for j in range(n + 1) if j != source]))
        law = laws[draw(st.integers(0, len(laws) - 1))]
        at = len(parameters)
        parameters += [draw(numbers), draw(numbers)]
        other = (source + 1) % n
        flows.append((source, target, _formula(law, a=f"p{at}", b=f"p{at + 1}", x=f"x{source}", z=f"x{other}")))
    rows: list[Row] = []
    for _ in range(draw(st.integers(1, 3))):
        when, lag = draw(st.sampled_from([0.0, 1.0, 3.7])), draw(st.sampled_from([0.0, 0.25]))
        again = draw(st.integers(1, 3))
        for j in range(again):  # every two hours
            start = when + lag + 2.0 * j
            if draw(st.booleans()):
                rows.append((start, int(Kind.ADD_STATE), draw(st.integers(0, n - 1)), draw(numbers)))
            else:
                rate = draw(numbers)
                rows += [(start, int(Kind.ADD_PARAM), len(parameters), rate)]
                rows += [(start + 0.7, int(Kind.ADD_PARAM), len(parameters), -rate)]
    return Case(n, tuple(flows), tuple(parameters), tuple(sorted(rows)))


def _formula(law: str, **words: str) -> str:
    return {**FLOWS, **KINKS}[law].format(**words)


def run_of(case: Case, rtol: float = 1e-10, atol: float = 1e-12) -> Run:
    """The engine's solution."""
    found = Engine(case.system()).run(case.parameters, case.records(), TIMES, rtol, atol)
    assert found.status[0] == Status.OK, found.message(0)
    return found


@settings(max_examples=9, phases=[Phase.generate])  # each smaller example would compile a model
@given(cases(tuple(FLOWS)))
def test_smooth_models(case: Case) -> None:
    expected, got = case.reference("DOP853"), run_of(case).out[0]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(got[:, :-1], expected, rtol=1e-7, atol=1e-8 * scale)
    shown = np.log(1 + expected[:, 0] ** 2) * case.parameters[0]
    np.testing.assert_allclose(got[:, -1], shown, rtol=1e-6, atol=1e-8 * scale)


@settings(max_examples=10, phases=[Phase.generate])  # each smaller example would compile a model
@given(cases((*KINKS, "linear", "Hill")))
def test_models_with_kinks(case: Case) -> None:
    expected, got = case.reference("LSODA"), run_of(case, 1e-9, 1e-11).out[0]
    np.testing.assert_allclose(got[:, :-1], expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


@settings(max_examples=7, phases=[Phase.generate])  # each smaller example would compile a model
@given(cases(tuple(FLOWS)), st.integers(0, 2**31))
def test_derivatives(case: Case, seed: int) -> None:
    engine, given, p = Engine(case.system()), case.records(), np.array(case.parameters)
    free = min(3, len(p))
    gradient, draw = Gradient(engine, range(free)), np.random.default_rng(seed)
    along = np.zeros((2, len(p)))
    along[:, :free] = draw.uniform(-1.0, 1.0, (2, free))
    dvalue = draw.uniform(-1.0, 1.0, (given.time.shape[1], 2))
    tangents = gradient.tangents(p, along, given, TIMES, dvalue=dvalue)
    assert tangents.status == Status.OK
    first = engine.run(p, given, TIMES, lanes=1, write_history=True)
    np.testing.assert_allclose(tangents.out, first.out[0], rtol=1e-12, atol=1e-13)

    def walked(direction: int, step: float) -> Floats:
        moved = Records(given.time, given.kind, given.index, given.value + step * dvalue[:, direction])
        run = engine.run(p + step * along[direction], moved, TIMES, lanes=1, replay=first.history)
        return np.asarray(run.out[0])

    for d in range(2):
        slopes = [(walked(d, h) - walked(d, -h)) / (2 * h) for h in (4e-3, 2e-3, 1e-3)]
        once = [(4 * b - a) / 3 for a, b in pairwise(slopes)]
        expected = (16 * once[1] - once[0]) / 15
        scale = np.abs(expected).max() + np.abs(first.out[0]).max()
        np.testing.assert_allclose(tangents.dout[:, :, d], expected, rtol=1e-7, atol=1e-8 * scale)

    weights = draw.uniform(-1.0, 1.0, first.out.shape)
    pulled = gradient.adjoint(p, given, TIMES, weights)
    assert pulled.status[0] == Status.OK
    got = along @ pulled.parameters[0] + pulled.value[0] @ dvalue
    expected = np.einsum("mr,mrd->d", weights[0], tangents.dout)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10 * np.abs(tangents.dout).max())
