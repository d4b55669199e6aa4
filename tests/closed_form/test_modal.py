"""Linear models by modes: against 40 digits, against exact propagation, and where modes must be refused."""

from __future__ import annotations

from functools import cache

import mpmath as mp  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import pytest
from numpy.typing import NDArray

from pkmodel.assembly import load_model
from pkmodel.compiler.compiled import compile_model
from pkmodel.compiler.modal_code import FEW as FEW_STATES
from pkmodel.compiler.modal_code import exact_rows, modal_rows
from pkmodel.inference.modal import Course, course_of
from pkmodel.inputs import InputCurve
from pkmodel.labelling import label
from pkmodel.model import Model
from pkmodel.observation import Observer
from pkmodel.problem import Problem
from pkmodel.regimen import Administration, Regimen
from pkmodel.simulation import prepare
from pkmodel.solve.modal_eigen import modes
from support import ROOT, report

type Floats = NDArray[np.float64]
TIMES = np.array([0.0, 0.1, 0.5, 1.0, 3.0, 8.0, 10.0, 11.0, 13.0, 20.0, 50.0, 100.0, 200.0])
KNOTS = np.array([0.0, 0.05, 0.1, 0.4, 1.0, 2.5, 6.0, 15.0, 40.0, 201.0])
BLOOD = np.array([0.0, 30.0, 80.0, 41.0, 23.0, 12.0, 6.5, 3.0, 0.8, 0.1])
SMALL = ("one_tissue", "two_tissue", "two_tissue_irreversible", "organ_1_phase", "organ_3_phase", "two_compartment")


@cache
def _readers(observables: int) -> tuple[Observer, ...]:
    """Every observable at every time, and averaged between any two neighbours."""
    at = np.arange(TIMES.size)
    out = []
    for k in range(observables):
        out.append(Observer(None, k, "midpoint", TIMES, at, at, np.ones(at.size)))  # type: ignore[arg-type]
        out.append(Observer(None, k, "frame", TIMES, at[:-1], at[1:], np.ones(at.size - 1)))  # type: ignore[arg-type]
    return tuple(out)


def _problem(model: Model) -> Problem:
    """A bolus and an infusion where the model takes doses, and a blood curve for each input."""
    given = Regimen.nothing()
    if model.administration:
        extra = {"amount": 200.0} if model.nuclide else {}
        doses = (_dose(100.0, model), _dose(50.0, model) | {"duration": 3.0})
        given = Regimen.of(*(Administration(t, **(extra | d)) for t, d in zip((0.0, 10.0), doses, strict=True)))  # type: ignore[arg-type]
    return prepare(model, given, TIMES, inputs={n: InputCurve(KNOTS, BLOOD) for n in model.inputs})


def _course(problem: Problem) -> tuple[Course, tuple[Observer, ...]]:
    readers = _readers(len(problem.compiled.observables))
    course = course_of([problem], [readers])
    assert course is not None
    return course, readers


def _dose(size: float, model: Model) -> dict[str, float]:
    """MBq of what is labelled or counted in MBq, else nmol."""
    activities = model.nuclide or any(c.unit == "MBq" for c in model.compartments.values())
    return {"activity" if activities else "amount": size}


def _along(free: list[int], size: int) -> Floats:
    along = np.zeros((1, len(free), size))
    along[0, range(len(free)), free] = 1.0
    return along


def _gap(problem: Problem, p: Floats) -> float:
    """Largest difference from exact propagation, of values and of p df/dp, in units of the largest value."""
    course, readers = _course(problem)
    free = [k for k, n in enumerate(problem.compiled.parameters) if not problem.model.parameters[n].fixed]
    value, tangent, _, status = course.predict(p[None], _along(free, p.size))
    assert not status.any()
    exact = problem.solve(p, free)
    size = np.maximum(np.abs(p[free]), 1e-6)[:, None]
    worst, at = 0.0, 0
    for r in readers:
        expected, slopes = r.predict(exact), r.tangent(exact)
        mine = slice(at, at + expected.size)
        at += expected.size
        height = np.abs(expected).max()
        if height > 0:
            worst = max(worst, float(np.abs(value[mine] - expected).max() / height))
            worst = max(worst, float(np.abs((tangent[mine].T - slopes) * size).max(initial=0.0) / height))
    return worst


def _against_exact(name: str) -> None:
    rng = np.random.default_rng(3)
    model = load_model(name)
    for variant in (model, label(model, "Lu-177") if model.administration else model):
        problem = _problem(variant)
        for k in range(4):
            noise = 0.5 * k * rng.standard_normal(problem.defaults.size) / 3
            fixed = np.array([variant.parameters[n].fixed for n in problem.compiled.parameters])
            p = problem.defaults * np.exp(np.where(fixed, 0.0, noise))
            report(f"{variant.name}, set {k}: modes less exact propagation", 0.0, _gap(problem, p), atol=1e-10)


@pytest.mark.parametrize("name", SMALL)
def test_the_same_as_exact_propagation(name: str) -> None:
    _against_exact(name)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["pet", "organs", "plasma"])
def test_every_small_model_of_the_library_is_the_same_as_exact_propagation(folder: str) -> None:
    for path in sorted((ROOT / "models" / folder).glob("*.toml")):
        model = load_model(path.stem)
        masses = any(c.unit in ("mg", "g", "ug") for c in model.compartments.values())
        compiled = compile_model(model)
        if compiled.linear and compiled.compartments <= FEW_STATES and not masses:
            _against_exact(path.stem)


def test_two_compartments_in_forty_digits() -> None:
    """Bolus and infusion, the plasma concentration and its derivatives by all four parameters."""
    problem = _problem(load_model("two_compartment"))
    course, _ = _course(problem)
    names = list(problem.compiled.parameters)
    free = [names.index(n) for n in ("CL", "V", "Q", "V2")]
    value, tangent, _, _ = course.predict(problem.defaults[None], _along(free, len(names)))
    mp.mp.dps = 40

    def curve(t: float, *q: mp.mpf) -> mp.mpf:
        cl, v, qq, v2 = q
        a = mp.matrix([[-(cl + qq) / v, qq / v2], [qq / v, -qq / v2]])
        x = mp.expm(a * t) * mp.matrix([100, 0])
        if t > 10:
            on = min(t, 13.0) - 10.0
            inside = mp.inverse(a) * (mp.expm(a * on) - mp.eye(2)) * mp.matrix([mp.mpf(50) / 3, 0])
            x += mp.expm(a * (t - 10.0 - on)) * inside
        return x[0] / v

    q = [mp.mpf(float(problem.defaults[k])) for k in free]
    expected = np.array([float(curve(t, *q)) for t in TIMES])
    n = TIMES.size
    report("two compartments, value", 0.0, float(np.abs(value[:n] - expected).max() / expected.max()), atol=1e-13)
    for d in range(4):
        which = tuple(int(k == d) for k in range(4))
        slopes = np.array([float(mp.diff(lambda *z, t=t: curve(t, *z), tuple(q), which)) for t in TIMES[1:]])
        got = tangent[1:n, d]
        report(f"by {names[free[d]]}", 0.0, float(np.abs(got - slopes).max() / np.abs(slopes).max()), atol=1e-11)


def test_two_tissues_and_blood_in_forty_digits() -> None:
    """Piecewise linear blood, two tissues, each segment integrated in closed form with 40 digits."""
    problem = _problem(load_model("two_tissue"))
    course, _ = _course(problem)
    names = list(problem.compiled.parameters)
    free = [names.index(n) for n in ("K1", "k2", "k3", "k4")]
    p = problem.defaults.copy()
    p[names.index("vB")] = 0.0
    value, tangent, _, _ = course.predict(p[None], _along(free, len(names)))
    mp.mp.dps = 40

    def tissue(t: float, *q: mp.mpf) -> mp.mpf:
        k1, k2, k3, k4 = q
        total = k2 + k3 + k4
        root = mp.sqrt(total**2 - 4 * k2 * k4)
        out = mp.mpf(0)
        for rate, sign in (((total - root) / 2, -1), ((total + root) / 2, 1)):
            weight = sign * k1 * (rate - k3 - k4) / root
            for a, b, u, w in zip(KNOTS[:-1], KNOTS[1:], BLOOD[:-1], BLOOD[1:], strict=True):
                if a < t:
                    m = mp.mpf(w - u) / mp.mpf(b - a)
                    e = min(mp.mpf(b), mp.mpf(t))

                    # integral over a..e of exp(-rate (t - s)) (u + m (s - a)) ds
                    def part(s: mp.mpf, rate: mp.mpf = rate, u: float = u, m: mp.mpf = m, a: float = a) -> mp.mpf:
                        return mp.exp(-rate * (t - s)) * ((u + m * (s - a)) / rate - m / rate**2)

                    out += weight * (part(e) - part(mp.mpf(a)))
        return out

    q = [mp.mpf(float(p[k])) for k in free]
    expected = np.array([float(tissue(t, *q)) for t in TIMES])
    n = TIMES.size
    report("two tissues, value", 0.0, float(np.abs(value[:n] - expected).max() / expected.max()), atol=1e-13)
    for d in range(4):
        which = tuple(int(k == d) for k in range(4))
        slopes = np.array([float(mp.diff(lambda *z, t=t: tissue(t, *z), tuple(q), which)) for t in TIMES[1:]])
        got = tangent[1:n, d]
        report(f"by {names[free[d]]}", 0.0, float(np.abs(got - slopes).max() / np.abs(slopes).max()), atol=1e-11)


@pytest.mark.parametrize("apart", [0.0, 1e-15, 1e-12, 1e-9, 1e-6, 1e-4, 1e-3, 1e-2, 0.1])
def test_rates_that_are_nearly_equal(apart: float) -> None:
    problem = _problem(load_model("organ_2_phase"))
    names = list(problem.compiled.parameters)
    p = problem.defaults.copy()
    p[names.index("k_uptake")] = p[names.index("k_washout")] * (1.0 + apart)
    report(f"rates apart by {apart:g}: less exact propagation", 0.0, _gap(problem, p), atol=1e-10)


@pytest.mark.parametrize("rate", [0.0, 1e-12, 1e-6])
def test_a_rate_of_zero(rate: float) -> None:
    problem = _problem(load_model("two_tissue"))
    names = list(problem.compiled.parameters)
    p = problem.defaults.copy()
    p[names.index("k4")] = rate
    report(f"k4 = {rate:g}: less exact propagation", 0.0, _gap(problem, p), atol=1e-10)


@pytest.mark.parametrize("delay", [-0.3, -0.05, 0.0, 0.02, 0.7])
def test_a_delayed_input(delay: float) -> None:
    problem = _problem(load_model("two_tissue"))
    p = problem.defaults.copy()
    p[list(problem.compiled.parameters).index("delay")] = delay
    report(f"delay {delay:g} h: less exact propagation", 0.0, _gap(problem, p), atol=1e-10)


def test_complex_and_defective_matrices_are_refused() -> None:
    lam, v, w = np.empty(3), np.empty((3, 3)), np.empty((3, 3))
    ring = np.array([[-1.0, 0.0, 1.0], [1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])  # eigenvalues -1.5 +- 0.87 i
    jordan = np.array([[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0], [0.0, 0.0, -1.0]])
    assert modes(ring, 3, lam, v, w) == 1
    assert modes(jordan, 3, lam, v, w) == 1


def test_eigenvectors_of_random_compartments() -> None:
    rng = np.random.default_rng(5)
    worst = 0.0
    for _ in range(500):
        n = int(rng.integers(1, 7))
        s = rng.random((n, n))
        d = np.exp(2 * rng.standard_normal(n))
        a = np.ascontiguousarray((s + s.T) * d[:, None] / d)  # similar to a symmetric matrix: real eigenvalues
        lam, v, w = np.empty(n), np.empty((n, n)), np.empty((n, n))
        assert modes(a, n, lam, v, w) == 0
        weight = np.abs(v) @ np.abs(w).clip(1e-300) * np.abs(a).max()
        worst = max(worst, float((np.abs(v * lam @ w - a) / weight).max()))
        worst = max(worst, float(np.abs(w @ v - np.eye(n)).max() / (np.abs(w) @ np.abs(v)).max()))
    report("V diag(lam) W less A, in units of what is summed", 0.0, worst, atol=1e-13)


def test_many_members_of_two_courses_at_once() -> None:
    """A batch gives each member what it gets alone; members that modes refuse are propagated exactly."""
    model = load_model("organ_2_phase")
    one = _problem(model)
    two = (
        prepare(model, Regimen.of(Administration(2.0, amount=70.0)), TIMES[:6], inputs={}) if not model.nuclide else one
    )
    readers = (_readers(1), tuple(_shorter(r) for r in _readers(1)))
    course = course_of([one, two], readers)
    assert course is not None
    names = list(one.compiled.parameters)
    sets = np.repeat(one.defaults[None], 5, axis=0)
    sets[:, names.index("k_uptake")] *= np.geomspace(0.3, 4.0, 5)
    sets[3, names.index("k_uptake")] = sets[3, names.index("k_washout")] * (1 + 1e-5)
    which = np.array([0, 1, 1, 0, 1])
    along = np.repeat(_along([0, 1], len(names)), 5, axis=0)
    value, tangent, place, status = course.predict(sets, along, which)
    assert not status.any()
    for k in range(5):
        alone, slopes, _, _ = course.predict(sets[k : k + 1], along[:1], which[k : k + 1])
        assert np.array_equal(value[place[k] : place[k + 1]], alone)
        assert np.array_equal(tangent[place[k] : place[k + 1]], slopes)


def _shorter(r: Observer) -> Observer:
    count = 6 if r.mode == "midpoint" else 5
    return Observer(r.curve, r.observable, r.mode, TIMES[:6], r.start[:count], r.end[:count], r.scale[:count])


def test_what_the_compiled_fallback_gives() -> None:
    """`exact_rows` for compiled callers, `Course` for Python: the same exact propagation."""
    problem = _problem(load_model("two_tissue"))
    course, _ = _course(problem)
    p = problem.defaults[None]
    along = _along([0, 1], p.size)
    n, states, channels = course.module.N, course.module.STATES, course.module.CHANNELS
    matrices = (
        np.empty((1, n, states)), np.empty((1, n, channels)), np.empty((1, 2, n, states)),
        np.empty((1, 2, n, channels)), np.empty((1, channels)), np.empty((1, 2, channels)),
    )  # fmt: skip
    course.module.fill(p, along, course.delay, *matrices)
    rows = int(course.rows[1])
    out = {}
    for who, compiled in (("modes", modal_rows().rows), ("exactly", exact_rows().exactly)):
        value, tangent, status = np.empty(rows), np.empty((rows, 2)), np.ones(1, np.int64)
        compiled(
            *matrices, np.zeros(1, np.int64), course.bounds, course.at, course.jump, course.u, course.m, course.clock,
            course.times, course.rows, course.observable, course.start, course.end, course.scale,
            np.zeros(1, np.int64), value, tangent, status,
        )  # fmt: skip
        assert status[0] == 0
        out[who] = np.column_stack([value, tangent])
    size = np.abs(out["exactly"]).max(axis=0)
    report(
        "modes less the compiled fallback", 0.0, float((np.abs(out["modes"] - out["exactly"]) / size).max()), atol=1e-10
    )


def test_what_modes_cannot_hold_is_left_to_the_solver() -> None:
    assert course_of([_problem(load_model("two_tissue"))], [_readers(1)]) is not None
    model = load_model("organ_2_phase")
    kind = _dose(1.0, model)
    again = Regimen.of(Administration(0.0, **kind), Administration(5.0, reset=True, **kind))  # type: ignore[arg-type]
    assert course_of([prepare(model, again, TIMES)], [_readers(1)]) is None
    assert course_of([prepare(model, Regimen.nothing(), TIMES, method="exact")], [_readers(1)]) is None
