"""Powers of what moves are one-sided: numbers below zero, slopes that a solver can use, derivatives of both."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from frozen_scheme import Problem as Case
from frozen_scheme import complex_step, worst
from pkmodel.compiler.autonomous import Autonomous
from pkmodel.compiler.compiled import compile_model
from pkmodel.compiler.derivative import derivative
from pkmodel.compiler.engine import Engine
from pkmodel.compiler.gradient import Gradient
from pkmodel.compiler.lower import Lowering
from pkmodel.compiler.powers import STEEPEST, OneSided, one_sided, written
from pkmodel.compiler.tape import Builder
from pkmodel.compiler.tape_reference import evaluate
from pkmodel.model_file import model_from_dict
from pkmodel.simulation import simulate
from pkmodel.solve.records import Kind, records

X, E, G, K = sp.symbols("x e g k", real=True)


def value(e: sp.Expr, x: float, g: float = 0.5) -> float:
    builder, out = Builder(), np.zeros(1)
    builder.store("out", 0, Lowering(builder, {X: ("y", 0), G: ("q", 0)}).number(e))
    evaluate(builder.tape("value", "y", "q", "out"), y=np.array([x]), q=np.array([g]), out=out)
    return float(out[0])


@pytest.mark.parametrize(
    ("x", "g", "power", "slope"),
    [
        (4.0, 0.5, 2.0, 0.25),
        (4.0, 1.5, 8.0, 3.0),
        (0.0, 0.5, 0.0, 0.0),
        (0.0, 1.5, 0.0, 0.0),
        (-1e-20, 0.5, 0.0, 0.0),
        (-4.0, 1.5, 0.0, 0.0),
        (1e-40, 0.5, 1e-20, 0.5 * STEEPEST),
        (-3.0, 2.0, 9.0, -6.0),  # whole
        (-3.0, 1.0, -3.0, 1.0),
        (0.0, 1.0, 0.0, 1.0),
        (-2.0, 0.0, 1.0, 0.0),
        (-2.0, -1.0, -0.5, -0.25),  # negative and whole
        (4.0, -0.5, 0.5, -0.0625),
        (-4.0, -0.5, np.nan, np.nan),
        (0.0, -1.0, np.inf, -np.inf),
        (np.nan, 0.5, np.nan, np.nan),
    ],
)
def test_values_and_slopes(x: float, g: float, power: float, slope: float) -> None:
    e = one_sided(X**G, [X])
    assert value(e, x, g) == pytest.approx(power, rel=1e-14, nan_ok=True)
    assert value(written(e), x, g) == pytest.approx(power, rel=1e-14, nan_ok=True)
    assert value(derivative(e, X), x, g) == pytest.approx(slope, rel=1e-14, nan_ok=True)


def test_exponents_that_are_numbers() -> None:
    e = one_sided(sp.sqrt(X) + X ** sp.Rational(5, 2), [X])
    assert value(e, 4.0) == 34.0 and value(e, -4.0) == 0.0
    for same in (X**2, X**-1, 1 / sp.sqrt(X), 2**X, X**X, G**K, sp.sqrt(G)):
        assert one_sided(same, [X]) == same
    assert one_sided(sp.sqrt(1 + X**G), [X]) == OneSided(1 + OneSided(X, G), sp.Rational(1, 2))


@pytest.mark.parametrize("g", [0.5, 1.4, 2.0])
def test_tangents_are_the_complex_step_from_an_empty_compartment_on(g: float) -> None:
    system = Autonomous(
        states=(X, E), parameters=(G, K), primary=2, initial=(sp.Integer(0), sp.Integer(0)),
        rates=(-K * (X / K) ** G / (1 + (X / K) ** G), X**G / (K + X**G) - sp.sqrt(E) * K),
        report=(X, E, sp.sqrt(E) + E**G), report_names=("x", "e", "s"),
    )  # fmt: skip
    acts = records([(1.0, Kind.ADD_STATE, 0, 9.0)])
    case = Case(system, np.array([g, 0.7]), acts, np.array([0.5, 1.5, 4.0, 8.0]), 1e-9)
    engine, dp = Engine(system), np.eye(2)
    run = engine.run(case.p, acts, case.times, 1e-6, 1e-9, write_history=True)
    assert run.history is not None and not run.status.any()
    got = Gradient(engine).tangents(case.p, dp, acts, case.times, 1e-6, 1e-9, replay=run.history)
    expected = complex_step(engine.programs, run.history.size, case, case.p, dp, np.zeros((1, 2)), np.zeros((2, 2)))
    assert worst(got.dout, expected) < 1e-11


def test_a_model_begins_at_nothing_and_observes_the_same() -> None:
    model = model_from_dict(
        {
            "name": "root",
            "parameters": {"Vm": "2 nmol/h", "K": "3 nmol", "g": {"value": 0.5, "unit": "1"}},
            "compartments": {"a": "nmol"},
            "administration": {"iv": "a"},
            "flows": ["a -> : Vm*(a/K)**g/(1 + (a/K)**g)"],
            "observables": {"A": "a", "R": {"formula": "K*(a/K)**g", "unit": "nmol"}},
        }
    )
    found = simulate(model, "10 nmol at 1 h", [0.5, 2.0, 30.0])
    assert found.R.values[0] == 0.0
    np.testing.assert_allclose(found.R.values, 3 * np.sqrt(np.maximum(found.A.values, 0) / 3), rtol=1e-12)
    compiled = compile_model(model)
    y = np.array([[-1e-15, 0.0, 3.0], [0.0] * 3, [0.0] * 3])
    p = np.array([model.canonical_values()[n] for n in compiled.parameters])
    assert compiled.observe(np.zeros(3), y, np.zeros((0, 3)), p)[1, :2].tolist() == [0.0, 0.0]
