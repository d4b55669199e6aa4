"""What must hold of every model of the library, whatever its numbers: two solvers, nothing lost, no favourites."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import sympy as sp
from numpy.typing import NDArray

from pkmodel.assembly import load_model
from pkmodel.compiler.autonomous import autonomous
from pkmodel.compiler.engine import Engine
from pkmodel.compiler.system import build_system
from pkmodel.expressions import symbol
from pkmodel.inputs import InputCurve
from pkmodel.labelling import label
from pkmodel.model import Model
from pkmodel.problem import Problem, Solution, records_of
from pkmodel.regimen import Administration, Regimen
from pkmodel.simulation import prepare
from pkmodel.solve.records import Records
from pkmodel.solve.status import Status

type Floats = NDArray[np.float64]

TIMES = np.array([0.0, 0.5, 2.0, 3.0, 10.0, 24.0, 24.5, 30.0, 100.0])
LABELS = {"plain": None, "hot": False, "hot and cold": True}
RTOL = 1e-8
CURVE = (np.array([0.0, 0.3, 2.0, 20.0, 120.0]), np.array([0.0, 50.0, 9.0, 2.0, 0.1]))

# one of each kind of equations; the agents put together of layers have invariants of their own in tests/library
ALONE = (
    "organ_1_phase organ_2_phase organ_3_phase one_tissue two_tissue two_tissue_irreversible two_compartment exchange "
    "whole_body_linear psma617_siebinga2023 trastuzumab_quartino2019 ion_zirconium"
).split()
every = pytest.mark.parametrize("name", ALONE)
labelled = pytest.mark.parametrize("kind", list(LABELS))


@cache
def model_of(name: str, kind: str) -> Model:
    """A model of the library with a value for every parameter."""
    model = load_model(name)
    empty = {n: 0.3 for n, p in model.parameters.items() if p.value is None and n in model.primary}
    model = model.replace(**empty)
    cold = LABELS[kind]
    return model if cold is None else label(model, "Lu-177", cold=cold)


def regimen_of(name: str, kind: str, by: float = 1.0, bolus: bool = True, infusion: bool = True) -> Regimen:
    """A bolus, and a day later an infusion of three hours."""
    model = model_of(name, kind)
    into = "" if model.administration else next(r for r in model.routes if not r.endswith("_cold"))
    labels = LABELS[kind] is not None or any(c.unit == "MBq" for c in model.compartments.values())
    activity = 500.0 * by if labels else None
    given = [Administration(0.0, activity, 80.0 * by, into=into)] if bolus else []
    given += [Administration(24.0, activity, 40.0 * by, 3.0, into)] if infusion else []
    return Regimen.of(*given)


def problem_of(name: str, kind: str, method: str = "auto", regimen: Regimen | None = None) -> Problem:
    """Doses where the model takes any, curves where it is driven by them."""
    model = model_of(name, kind)
    curves = {u: InputCurve(CURVE[0], CURVE[1] * (k + 1)) for k, u in enumerate(model.inputs)}
    given = (regimen or regimen_of(name, kind)) if model.routes else None
    return prepare(model, given, TIMES, inputs=curves, rtol=RTOL, method=method)  # type: ignore[arg-type]


@cache
def solution_of(name: str, kind: str, method: str) -> Solution:
    """Solved once for all tests."""
    return problem_of(name, kind, method).solve()


def values_of(s: Solution) -> Floats:
    """States, observables and integrals together."""
    return np.vstack([s.states, s.observed, s.integrals])


@every
@labelled
def test_the_engine_agrees_with_exact_propagation(name: str, kind: str) -> None:
    stepped = solution_of(name, kind, "rosenbrock")
    assert stepped.status == Status.OK, stepped.message
    if not problem_of(name, kind).compiled.linear:
        return
    exact = solution_of(name, kind, "exact")
    assert exact.status == Status.OK, exact.message
    largest = np.abs(values_of(exact)).max(axis=1, keepdims=True)
    assert largest.max() > 0.0
    wrong = np.abs(values_of(stepped) - values_of(exact)) / np.where(largest > 0.0, largest, 1.0)
    assert wrong.max() < 1e-6


@every
@labelled
def test_nothing_is_negative(name: str, kind: str) -> None:
    for method in ("rosenbrock", "auto"):
        found = values_of(solution_of(name, kind, method))
        assert np.isfinite(found).all()
        largest = np.abs(found).max()
        assert found.min() > -1e-7 * largest


def balanced(problem: Problem) -> tuple[Engine, Floats]:
    """An engine whose last state is what has left the body, by excretion and decay; it reports all compartments."""
    model = problem.model
    system = build_system(model)
    small = autonomous(system, infused=problem.infused, report=tuple(model.compartments))
    gone = symbol("everything that left")
    leaves = [f.rate for f in model.flows if not f.target and f.source]
    made = [f.rate for f in model.flows if not f.source]
    rate = (sp.Add(*leaves) - sp.Add(*made)).xreplace(model.resolved)
    held = replace(
        small, states=(*small.states, gone), rates=(*small.rates, rate), initial=(*small.initial, sp.Integer(0)),
        report=(*small.report, gone), report_names=(*small.report_names, "gone"),
    )  # fmt: skip
    return Engine(held), np.array([model.canonical_values()[n] for n in system.parameters])


@pytest.mark.parametrize("name", [n for n in ALONE if load_model(n).routes])
@labelled
def test_what_is_given_is_there_or_has_left(name: str, kind: str) -> None:
    problem = problem_of(name, kind, "rosenbrock")
    engine, p = balanced(problem)
    run = engine.run(p, records_of(problem, p).records, TIMES, 1e-6, 1e-7)
    assert run.status[0] == Status.OK, run.message(0)
    given = np.zeros(len(TIMES))
    for dose in problem.doses:
        begin, length = dose.administration.time, float(dose.administration.duration)
        part = np.clip((TIMES - begin) / length, 0.0, 1.0) if length else np.where(begin <= TIMES, 1.0, 0.0)
        enters = problem.compiled.entries(p)
        given += part * sum(amount * enters[route].sum() for route, amount in dose.parts)
    assert given[-1] > 0.0
    np.testing.assert_allclose(run.out[0].sum(axis=1), given, rtol=1e-12, atol=1e-12 * given[-1])
    if any(f.source and not f.target for f in problem.model.flows):
        assert run.out[0, -1, -1] > 0.0


@pytest.mark.parametrize("name", [n for n in ALONE if load_model(n).routes])
@pytest.mark.parametrize("method", ["rosenbrock", "exact"])
def test_doses_add_up_in_linear_models(name: str, method: str) -> None:
    kind = "hot"
    if not problem_of(name, kind).compiled.linear:
        pytest.skip(f"{name} is not linear")
    both = values_of(solution_of(name, kind, method))
    alone = [
        values_of(problem_of(name, kind, method, regimen_of(name, kind, 1.0, *which)).solve())
        for which in ((True, False), (False, True))
    ]
    thrice = values_of(problem_of(name, kind, method, regimen_of(name, kind, 3.0)).solve())
    largest = np.abs(both).max(axis=1, keepdims=True)
    bound = (1e-6 if method == "rosenbrock" else 1e-12) * largest
    assert (np.abs(alone[0] + alone[1] - both) <= bound).all()
    assert (np.abs(thrice / 3.0 - both) <= bound).all()


def test_doses_do_not_add_up_where_receptors_fill() -> None:
    name, kind = "psma617_siebinga2023", "hot and cold"
    once = solution_of(name, kind, "rosenbrock")
    much = problem_of(name, kind, "rosenbrock", regimen_of(name, kind, 1e4)).solve()
    assert not np.allclose(much.observed[:, -1] / 1e4, once.observed[:, -1], rtol=0.05)


@cache
def population() -> tuple[Engine, Floats, Records]:
    """Patients that differ in everything: parameters, and times and amounts of their doses."""
    problem = problem_of("psma617_siebinga2023", "hot and cold", "rosenbrock")
    draw = np.random.default_rng(11)
    P = problem.defaults * np.exp(0.4 * draw.standard_normal((150, problem.defaults.size)))
    given = records_of(problem, P).records
    there = given.there & (given.time > 0.0)
    moved = np.sort(np.where(there, given.time + draw.uniform(0.0, 2.0, (150, 1)), given.time), axis=1)
    return problem.engine, P, Records(moved, given.kind, given.index, given.value)


@pytest.mark.parametrize("lanes", [1, 2, 4, 8])
def test_threads_neighbours_and_order_change_no_bit(lanes: int) -> None:
    engine, P, given = population()
    few = slice(0, 60) if lanes < 8 else slice(0, 150)
    P, given = P[few], given.take(few)
    whole = engine.run(P, given, TIMES, lanes=lanes)
    assert not whole.failed.size
    for threads in (2, 4):
        again = engine.run(P, given, TIMES, lanes=lanes, threads=threads)
        np.testing.assert_array_equal(again.out, whole.out)
        np.testing.assert_array_equal(again.steps, whole.steps)
    shuffled = np.random.default_rng(3).permutation(len(P))
    again = engine.run(P[shuffled], given.take(shuffled), TIMES, lanes=lanes)
    np.testing.assert_array_equal(again.out, whole.out[shuffled])
    alone = np.array([17])
    again = engine.run(P[alone], given.take(alone), TIMES, lanes=lanes)
    np.testing.assert_array_equal(again.out[0], whole.out[17])


def test_the_number_of_lanes_changes_no_more_than_rounding() -> None:
    engine, P, given = population()
    P, given = P[:40], given.take(slice(0, 40))
    runs = [engine.run(P, given, TIMES, lanes=lanes).out for lanes in (1, 2, 4, 8)]
    largest = np.abs(runs[0]).max(axis=1, keepdims=True)
    for run in runs[1:]:
        assert (np.abs(run - runs[0]) <= 1e-12 * largest).all()


def test_a_bad_patient_changes_no_other_even_in_a_small_group() -> None:
    engine, P, given = population()
    for size in (2, 4, 5, 9):  # around the group size at which vectors begin to be used
        some, rows = P[:size].copy(), given.take(slice(0, size))
        whole = engine.run(some, rows, TIMES)
        some[-1, 0] = np.nan
        again = engine.run(some, rows, TIMES)
        assert again.status[-1] == Status.BAD_INPUT
        assert np.isnan(again.out[-1]).all()
        np.testing.assert_array_equal(again.out[:-1], whole.out[:-1])
