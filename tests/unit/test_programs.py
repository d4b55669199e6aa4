"""All programs of a system, each against SymPy or against another of them; and what they cost."""

from __future__ import annotations

import runpy
import sys

import numpy as np
import pytest
import sympy as sp
from numpy.typing import NDArray

from pkmodel.assembly import load_model
from pkmodel.compiler import programs as module
from pkmodel.compiler.autonomous import Autonomous, autonomous
from pkmodel.compiler.programs import Programs, equations, programs
from pkmodel.compiler.reduce import linearity
from pkmodel.compiler.system import System, build_system
from pkmodel.compiler.tape_reference import evaluate
from pkmodel.errors import ModelError
from pkmodel.expressions import parse, symbol
from support import report, shared

Array = NDArray[np.float64]
MODELS = ("psma617_siebinga2023", "two_compartment", "two_tissue", "whole_body_linear", "organ_3_phase")


def problem(name: str, monkeypatch: pytest.MonkeyPatch) -> Autonomous:
    """A benchmark problem, its symbols made real."""
    path = shared("bench/models.py")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    m = runpy.run_path(str(path))["get"](name)
    real = {s: symbol(s.name) for s in (*m.states, *m.params)}
    return Autonomous(
        states=tuple(real[s] for s in m.states),
        parameters=tuple(real[s] for s in m.params),
        primary=len(m.params),
        rates=tuple(sp.sympify(f).xreplace(real) for f in m.f),
        initial=(sp.Integer(0),) * m.n,
        report=tuple(real[s] for s in m.states),
        report_names=tuple(s.name for s in m.states),
    )


def hard() -> Autonomous:
    """A small system with every kind of entry: linear, saturable, Hill, a power, an exponential, time, a kink."""
    names = ["A", "B", "C", "D", "t", "k", "V", "Vm", "Km", "n", "lag"]
    laws = [
        "-k*A/V - Vm*A/(Km + A) + lag*B", "k*A/V - lag*B - hill(B, Km, n)*Vm", "Vm*A/(Km + A) - min(k*C, Vm)",
        "A*B - 0.3*D**1.5 + exp(-k*t)*Vm - where(C > A, C - A, 0)", "1",
    ]  # fmt: skip
    return Autonomous(
        states=tuple(symbol(s) for s in names[:5]),
        parameters=tuple(symbol(s) for s in names[5:]),
        primary=6,
        rates=tuple(parse(e, names, "a test") for e in laws),
        initial=tuple(parse(e, names, "a test") for e in ("0", "k*V", "3", "exp(-lag)", "0")),
        report=tuple(parse(e, names, "a test") for e in ("(A + B)/V", "Km", "C")),
        report_names=("conc", "Km", "C"),
    )


def point(made: Programs, seed: int) -> tuple[Array, Array]:
    """State and filled q at random."""
    rng = np.random.default_rng(seed)
    q = np.zeros(made.nq)
    q[: made.k] = rng.lognormal(0, 0.5, made.k)
    evaluate(made.tapes["constants"], q=q)
    return rng.lognormal(0, 0.7, made.n), q


def jacobian(made: Programs, y: Array, q: Array) -> Array:
    values, full = np.zeros(len(made.plan.pattern)), np.zeros((made.n, made.n))
    evaluate(made.tapes["jacobian"], y=y, q=q, J=values)
    for (i, j), v in zip(made.plan.pattern, values, strict=True):
        full[i, j] = v
    return full


def systems() -> list[Autonomous]:
    return [hard(), *(autonomous(s, infused=s.routes) for s in (build_system(load_model(m)) for m in MODELS))]


@pytest.mark.parametrize("system", systems(), ids=["hard", *MODELS])
@pytest.mark.parametrize("seed", [1, 2])
def test_every_program(system: Autonomous, seed: int) -> None:
    made = programs(system)
    y, q = point(made, seed)
    values = {s: sp.Float(v, 30) for s, v in zip((*system.states, *system.parameters), (*y, *q), strict=False)}

    def exact(items: tuple[sp.Expr, ...]) -> Array:
        return np.array([float(e.xreplace(values).evalf(30)) for e in items])

    f, out, start = np.zeros(made.n), np.zeros(made.no), np.zeros(made.n)
    evaluate(made.tapes["rhs"], y=y, q=q, f=f)
    evaluate(made.tapes["report"], y=y, q=q, out=out)
    evaluate(made.tapes["initial"], q=q, y=start)
    np.testing.assert_allclose(f, exact(system.rates), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(out, exact(system.report), rtol=1e-13)
    np.testing.assert_allclose(start, exact(system.initial), rtol=1e-13)

    full = jacobian(made, y, q)
    stepped = np.zeros((made.n, made.n))
    for j in range(made.n):
        moved, slope = y.astype(complex), np.zeros(made.n, complex)
        moved[j] += 1e-40j
        evaluate(made.tapes["rhs"], y=moved, q=q, f=slope)
        stepped[:, j] = slope.imag / 1e-40
    np.testing.assert_allclose(full, stepped, rtol=1e-12, atol=1e-13)

    g, w, b = 3.7, np.zeros(made.nw), np.random.default_rng(seed).standard_normal(made.n)
    evaluate(made.tapes["factor"], y=y, q=q, g=np.array([g]), w=w)
    for name, matrix in (("solve", g * np.eye(made.n) - full), ("solve_transposed", (g * np.eye(made.n) - full).T)):
        x = b.copy()
        evaluate(made.tapes[name], w=w, x=x)
        np.testing.assert_allclose(matrix @ x, b, atol=1e-11)


# Operations per call of the proof of concept (rates; Jacobian and factorisation; solve), ../shared/facts/performance.md
PROVED = {"P2": (489, 278 + 631, 604), "P3": (468, 256 + 418, 458)}


@pytest.mark.parametrize("name", PROVED)
def test_operations_per_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer operations than the proof of concept; the watch on pivots, which it had not, is counted by itself."""
    made = programs(problem(name, monkeypatch))
    multipliers = sum(map(len, made.plan.elimination.below))
    got = (made.tapes["rhs"].flops, made.tapes["factor"].flops - 2 * multipliers, made.tapes["solve"].flops)
    print(f"{name}: proved {PROVED[name]}, here {got}, {multipliers} multipliers watched, {linearity(made.equations)}")
    assert all(mine <= proved for mine, proved in zip(got, PROVED[name], strict=True))


@pytest.mark.parametrize(("name", "entries", "constant"), [("P2", 267, 171), ("P3", 271, 145)])
def test_constant_entries_are_recognised(
    name: str, entries: int, constant: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: 96 entries belong to binding, 16 pairs of 3 (sensitivities.md). P3: 21 reactions of 6."""
    found = linearity(equations(problem(name, monkeypatch)))
    assert found.entries == entries
    report(f"{name}: constant entries", constant, found.constant, atol=0.5)


def test_linear_blocks() -> None:
    found = linearity(equations(hard()))
    assert found.blocks == ((4,),)  # time alone; all else is bent
    linear = linearity(equations(autonomous(build_system(load_model("two_compartment")))))
    assert linear.constant == linear.entries and len(linear.blocks) == 1
    assert "7 of 7 entries" in str(linear)


def test_a_matrix_too_full_for_straight_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_UPDATES", 0)
    made = programs(hard())
    assert made.dense and made.nw == 0
    assert {"rhs", "jacobian", "constants", "initial", "report"} == set(made.tapes)


SYSTEM = System(
    states=("A", "B", "integral of C"),
    parameters=("k", "F"),
    inputs=("u",),
    observables=("C",),
    routes=("mouth", "vein"),
    rates=tuple(parse(e, ["A", "B", "u", "k"], "") for e in ("-k*A", "k*A*t + u", "2*B")),
    initial=tuple(parse(e, ["k"], "") for e in ("k + t", "0", "0")),
    observed=(parse("2*B", ["B"], ""),),
    entries=(
        (symbol("F"), 1 - symbol("F"), sp.Integer(0)),
        (sp.Integer(0), sp.Integer(1), sp.Integer(0)),
    ),
)


def test_autonomous() -> None:
    a = autonomous(SYSTEM, infused=("mouth",))
    assert [s.name for s in a.states] == ["A", "B", "t", "u", "integral of C"]
    assert [s.name for s in a.parameters] == ["k", "F", "rate of mouth", "slope of u"]
    assert a.primary == 2 and a.state("u") == 3 and a.state("v") == -1 and a.parameter("slope of u") == 3
    rate, slope, k, amount = symbol("rate of mouth"), symbol("slope of u"), symbol("k"), symbol("A")
    assert sp.expand(a.rates[0] - (symbol("F") * rate - k * amount)) == 0
    assert sp.expand(a.rates[1] - ((1 - symbol("F")) * rate + k * amount * symbol("t") + symbol("u"))) == 0
    assert a.rates[2:4] == (1, slope)
    assert a.initial == (k, 0, 0, 0, 0)
    assert a.report_names == ("C", "integral of C") and a.report == (2 * symbol("B"), symbol("integral of C"))


def test_a_report_by_name() -> None:
    a = autonomous(SYSTEM, report=("u", "A", "C"))
    assert a.report == (symbol("u"), symbol("A"), 2 * symbol("B"))
    with pytest.raises(ModelError, match=r"no 'X' to report.*known: A, B"):
        autonomous(SYSTEM, report=("X",))
    with pytest.raises(ModelError, match=r"no route 'vien' to infuse into \(did you mean 'vein'"):
        autonomous(SYSTEM, infused=("vien",))
