"""The benchmark problems are what they say: their equations, written a second time as loops over plain arrays."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import sympy as sp
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from benchmarks.problems import COLUMNS, DECAY, ORGANS, Equations, cord, equations, problem
from benchmarks.references import EVERY, FIRST, reference
from support import report, shared

Array = NDArray[np.float64]
NAMES = ("P1", "P2s", "P2", "P3")


def linear(y: Array, p: Array) -> Array:
    """P1; the last parameter is the rate of the infusion."""
    k12, k21, k13, k31, k14, k41, k10, kb, decay, infusion = p
    c, f, s, t, b = y
    return np.array([
        infusion - (k12 + k13 + k14 + k10 + decay) * c + k21 * f + k31 * s + k41 * t,
        k12 * c - (k21 + decay) * f,
        k13 * c - (k31 + decay) * s,
        k14 * c - (k41 + decay) * t,
        k10 * c - (kb + decay) * b,
    ])  # fmt: skip


def receptors(y: Array, p: Array) -> Array:
    """P2 and P2s: plasma (hot, cold), four places of each organ (hot, cold), decays in each organ."""
    kon, koff, decay, vp, gfr = p[:5]
    organs = p[5:].reshape(-1, 7)
    out = np.zeros_like(y)
    out[:2] = -gfr / vp * y[:2]
    for k, (q, vv, vi, ps, total, kint, krel) in enumerate(organs):
        at = slice(2 + 8 * k, 10 + 8 * k)
        vascular, interstitial, bound, inside = y[at].reshape(4, 2)
        flow = q * (y[:2] / vp - vascular / vv)
        exchange = ps * (vascular / vv - interstitial / vi)
        binding = kon * interstitial / vi * (total - bound.sum()) - koff * bound
        out[:2] -= flow
        slopes = [flow - exchange, exchange - binding, binding - kint * bound, kint * bound - krel * inside]
        out[at] = np.array(slopes).ravel()
        out[2 + 8 * len(organs) + k] = decay * (vascular + interstitial + bound + inside)[0]
    hot = np.arange(0, 2 + 8 * len(organs), 2)
    out[hot] -= decay * y[hot]
    out[hot + 1] += decay * y[hot]
    return out


def krogh(y: Array, p: Array) -> Array:
    """P3: finite volumes of equal width between the radii 8 and 75 um."""
    cl, v1, q, v2, ksyn, kdeg, kint, kon, koff, wall, diffusion, eps, antigen, kit, ktr, turnover, decay = p
    plasma, periphery, target, complex_ = y[:4]
    free, bound, sites, inside = y[4:].reshape(-1, 4).T
    rings = len(free)
    radius = 8.0 + (75.0 - 8.0) / rings * np.arange(rings + 1)
    volume = np.diff(radius**2) / 2
    crossing = np.zeros(rings + 1)  # through each radius, outwards
    crossing[0] = radius[0] * wall * (plasma - free[0] / eps)
    crossing[1:-1] = radius[1:-1] * diffusion * (free[:-1] - free[1:]) / ((75.0 - 8.0) / rings)
    capture = kon * plasma * target - koff * complex_
    binding = kon / eps * free * sites - koff * bound
    out = np.empty_like(y)
    out[:4] = [
        -cl / v1 * plasma - q / v1 * plasma + q / v2 * periphery - capture - decay * plasma,
        q / v1 * plasma - q / v2 * periphery - decay * periphery,
        ksyn - kdeg * target - capture,
        capture - (kint + decay) * complex_,
    ]
    out[4:] = np.stack(
        [
            -np.diff(crossing) / volume - binding - decay * free,
            binding - (kit + decay) * bound,
            turnover * (antigen - sites) - binding,
            kit * bound - (ktr + decay) * inside,
        ],
        axis=1,
    ).ravel()
    return out


BY_HAND = {"P1": linear, "P2s": receptors, "P2": receptors, "P3": krogh}


@cache
def written(name: str) -> Equations:
    """Equations of a problem, once."""
    return equations(problem(name))


def sides(name: str) -> tuple[Any, Array, Array]:
    """Our right-hand side as a function, a parameter set in its order, and the same in the order of drawing."""
    p = problem(name)
    e = written(name)
    ours = sp.lambdify([e.states, e.parameters], e.rates, "math", cse=True)
    values, drawn = p.sets(2, e.names)[1], p.sets(2, tuple(p.values))[1]
    if name == "P1":
        values[-1] = drawn[-1] = 20.0  # while it runs
    return ours, values, drawn


@pytest.mark.parametrize("name", NAMES)
def test_the_equations_are_those_written_by_hand(name: str) -> None:
    ours, values, drawn = sides(name)
    states = len(written(name).states)
    rng = np.random.default_rng(7)
    for _ in range(5):
        y = rng.lognormal(0.0, 2.0, states)
        expected, got = BY_HAND[name](y, drawn), np.array(ours(y, values))
        assert np.max(np.abs(got - expected) / np.abs(expected).max()) < 1e-13
    print(f"{name}: {states} states, {drawn.size} parameters")


@pytest.mark.parametrize("name", NAMES)
def test_the_problems_are_those_of_the_first_measurements(name: str) -> None:
    """Parameter sets, doses, times, starts and equations, so that times can be compared with those."""
    models = _module(shared("bench/models.py").as_posix())
    theirs, ours = models.get(name), problem(name)
    e = written(name)
    assert np.array_equal(models.sample(theirs, 1000), ours.sets(1000, tuple(ours.values)))
    assert np.array_equal(theirs.tout, ours.times)
    shift = len(e.parameters) - theirs.np  # ours have columns that nothing depends on
    expected = [(t, i if i < theirs.n else i + shift, a) for t, i, a in theirs.doses]
    assert [tuple(map(float, x)) for x in e.events] == [tuple(map(float, x)) for x in expected]
    rates, values, drawn = sides(name)
    begin = theirs.y0(drawn) if callable(theirs.y0) else theirs.y0
    start = sp.lambdify([e.parameters], [sp.sympify(x) for x in e.initial], "math")(values)
    assert np.allclose(start, begin, rtol=1e-14, atol=0.0)
    f = sp.lambdify([theirs.states, theirs.params], theirs.f, "math", cse=True)
    y = np.random.default_rng(3).lognormal(0.0, 2.0, theirs.n)
    expected_rates = np.array(f(y, drawn), dtype=float)
    assert np.max(np.abs(np.array(rates(y, values)) - expected_rates)) / np.abs(expected_rates).max() < 1e-13


@pytest.mark.parametrize("name", ["P2s", "P3"])  # P2 takes long in plain Python; the peers confirm it
def test_the_kept_references_solve_the_problems(name: str) -> None:
    """Up to the second dose, by LSODA on the equations written by hand."""
    kept, largest = reference(name, 1)
    p, e = problem(name), written(name)
    values = p.sets(1, tuple(p.values))[0]
    y = np.array(sp.lambdify([e.parameters], [sp.sympify(x) for x in e.initial], "math")(p.sets(1, e.names)[0]), float)
    begin, _, given, _ = e.segments()[0]
    for state, amount in given:
        y[state] += amount
    times = [float(t) for t in p.times[FIRST::EVERY] if t < e.segments()[0][1]]
    run = solve_ivp(
        lambda _, y: BY_HAND[name](y, values), (begin, times[-1]), y, method="LSODA", t_eval=times, rtol=1e-7,
        atol=0.1 * p.atol,
    )  # fmt: skip
    error = float((np.abs(run.y.T - kept[0, : len(times)]) / largest[0]).max())
    report(f"{name}: LSODA at 1e-7 against the kept reference, {len(times)} times", 0.0, error, atol=1e-6)


def test_sizes() -> None:
    assert [len(written(n).states) for n in NAMES] == [5, 38, 74, 84]
    assert [len(problem(n).values) for n in NAMES] == [10, 33, 61, 17]
    assert len(equations(cord(2)).states) == 12
    assert len(ORGANS) == 8 and len(COLUMNS) == 7 and np.isclose(np.log(2) / DECAY, 159.53)


def _module(path: str) -> ModuleType:
    name = "first_measurements"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
