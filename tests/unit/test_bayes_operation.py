"""The model as an operation of PyTensor: one solve for value and gradient, no object mode, pickles, failures."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from synthetic import curve, curves, protocol

from pkmodel.assembly import load_model
from pkmodel.data import Curves
from pkmodel.inference.bayes.backends import evaluate, kernel_of
from pkmodel.inference.bayes.kernels import FUNCTION, Callback, People
from pkmodel.inference.binding import build_likelihood
from pkmodel.inference.likelihood import Likelihood
from pkmodel.regimen import Regimen
from support import report

TIMES = np.array([0.5, 2.0, 8.0, 24.0])


def plasma(times: Any = TIMES, dose: str = "100 nmol once", free: str = "CL V Q V2", frame: float = 0.0) -> Likelihood:
    """A two-compartment model of plasma with made-up values."""
    c = curve(
        "plasma", times - frame, np.ones(len(times)), t_end=times + frame, unit="nmol/L", nuclide="C-11",
        decay_corrected=True, kind="blood",
    )  # fmt: skip
    one: Curves = curves(c)
    return build_likelihood(load_model("two_compartment"), one, protocol(free), regimen=Regimen(dose), sparse=True)


def point(people: People, seed: int = 0) -> Any:
    """A point near the start, (N, K)."""
    start = np.array([[s.to_scale(s.start) for s in one.slots] for one in people.likelihoods])
    return start + 0.1 * np.random.default_rng(seed).standard_normal(start.shape)


def run(kernel: Any, people: People, x: Any) -> tuple[Any, Any, Any]:
    """Value, tangent and flags by a kernel's machine code."""
    n = int(people.rows[-1])
    value, tangent, good = np.zeros(n), np.zeros((n, people.width)), np.zeros(people.count)
    x = np.ascontiguousarray(x)
    FUNCTION(kernel.address(True))(x.ctypes.data, value.ctypes.data, tangent.ctypes.data, good.ctypes.data)
    return value, tangent, good


@pytest.fixture(scope="module")
def people() -> People:
    """Two subjects with different times and doses."""
    return People([plasma(), plasma(TIMES[:3], "50 nmol over 1 h")])


@pytest.fixture(scope="module")
def compiled(people: People) -> Any:
    """A log posterior and its gradient through the operation, compiled by numba; object mode is an error."""
    pytensor: Any = pytest.importorskip("pytensor")
    pt: Any = pytest.importorskip("pytensor.tensor")

    from pkmodel.inference.bayes.operation import Predictions

    x = pt.matrix("x")
    value, _, good = Predictions(people)(x)
    score = -0.5 * ((value - 1.0) ** 2).sum() + pt.switch(pt.all(good > 0), 0.0, -np.inf)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*object mode.*")
        function = pytensor.function([x], [score, pt.grad(score, x)], mode="NUMBA")
        function(point(people))
    return function


def expected(people: People, x: Any) -> tuple[float, Any]:
    """The same from the likelihood alone."""
    score, gradient = 0.0, []
    for one, row in zip(people.likelihoods, x, strict=True):
        p = one.predict(row)
        score += -0.5 * float(((p.value - 1.0) ** 2).sum())
        gradient.append(-(p.value - 1.0) @ p.tangent)
    return score, np.array(gradient)


def test_value_and_gradient_are_those_of_the_likelihood_and_share_one_solve(people: People, compiled: Any) -> None:
    from pkmodel.inference.bayes.operation import Predictions

    nodes = [n for n in compiled.maker.fgraph.apply_nodes if isinstance(n.op, Predictions)]
    assert len(nodes) == 1
    x = point(people)
    score, gradient = compiled(x)
    want, slopes = expected(people, x)
    report("log density", want, float(score), rtol=1e-10)
    report("gradient", 0.0, float(np.abs(gradient - slopes).max() / np.abs(slopes).max()), atol=1e-10)


def test_a_failure_is_minus_infinity_and_nothing_is_nan(people: People, compiled: Any) -> None:
    x = point(people)
    x[1, 0] = np.nan
    score, gradient = compiled(x)
    assert score == -np.inf and np.isfinite(gradient).all()
    x[1, 0] = 800.0  # e^800 is infinite
    assert compiled(x)[0] == -np.inf


def test_an_operation_is_its_digest(people: People) -> None:
    from pkmodel.inference.bayes.operation import Predictions

    again = People([plasma(), plasma(TIMES[:3], "50 nmol over 1 h")])
    assert Predictions(people) == Predictions(again) and hash(Predictions(people)) == hash(Predictions(again))
    other = People([plasma(), plasma(TIMES[:3], "51 nmol over 1 h")])
    assert Predictions(people) != Predictions(other)
    assert Predictions(people) != Predictions(people, tangents=False)
    first = people.likelihoods[0]
    looser = replace(first, blocks=tuple(replace(b, problem=replace(b.problem, rtol=1e-5)) for b in first.blocks))
    assert People([first]).key != People([looser]).key


def test_an_operation_is_pickled_as_what_it_was_made_from(people: People) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    from pkmodel.inference.bayes.operation import Predictions

    kernel_of(people)
    op = Predictions(people)
    for library in (pickle, cloudpickle):
        text = library.dumps(op)
        assert len(text) < 30_000
        back = pickle.loads(text)
        assert back == op and back.people is not people
        np.testing.assert_array_equal(evaluate(back.people, point(people)[None]), evaluate(people, point(people)[None]))


def _elsewhere(people: People, x: Any, answer: Any) -> None:
    answer.put(evaluate(people, x[None])[0])


@pytest.mark.slow
def test_a_spawned_process_computes_the_same(people: People) -> None:
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    x = point(people)
    child = context.Process(target=_elsewhere, args=(people, x, answer))
    child.start()
    got = answer.get(timeout=240)
    child.join()
    np.testing.assert_array_equal(got, evaluate(people, x[None])[0])


def test_the_value_only_twin_has_no_gradient(people: People) -> None:
    pt: Any = pytest.importorskip("pytensor.tensor")
    from pytensor.gradient import DisconnectedInputError

    from pkmodel.inference.bayes.operation import Predictions

    x = pt.matrix("x")
    value, tangent, _ = Predictions(people, tangents=False)(x)
    assert tangent.type.shape == (0, 4) and value.type.shape == (7,)
    with pytest.raises(DisconnectedInputError):
        pt.grad(value.sum(), x)


def test_compiled_modes_and_python_agree(people: People) -> None:
    kernel = kernel_of(people)
    assert "modes" in kernel.words
    x = point(people, 3)
    value, tangent, good = run(kernel, people, x)
    want, slopes, fine = run(Callback(people), people, x)
    assert good.all() and fine.all()
    report("values", 0.0, float(np.abs(value / want - 1).max()), atol=1e-11)
    report("tangents", 0.0, float(np.abs(tangent - slopes).max() / np.abs(slopes).max()), atol=1e-11)


def test_the_function_without_tangents_leaves_the_other_s_arrays_alone(people: People) -> None:
    """Machine code reads arrays where they lie: making the second function must not let go of those of the first."""
    kernel, x = kernel_of(people), point(people, 3)
    before = run(kernel, people, x)
    np.testing.assert_array_equal(evaluate(people, x[None])[0], before[0])
    gc.collect()
    rubbish = [np.full(k, -1, dtype=np.int64) for k in range(1, 2000)]  # takes the place of what was let go
    for a, b in zip(before, run(kernel, people, x), strict=True):
        np.testing.assert_array_equal(a, b)
    assert rubbish


def test_a_steady_state_is_called_back_in_python_which_is_said() -> None:
    """A state that earlier doses left behind depends on all parameters: no compiled back end computes it."""
    people = People([plasma(dose="100 nmol every 12 h at steady state")])
    kernel = kernel_of(people)
    assert isinstance(kernel, Callback) and "Python" in kernel.words
    x = point(people)
    value, tangent, good = run(kernel, people, x)
    want = people.likelihoods[0].predict(x[0])
    np.testing.assert_array_equal(value, want.value)
    np.testing.assert_array_equal(tangent, want.tangent)
    assert good.all()
    assert not run(kernel, people, np.full((1, 4), np.nan))[2].any()


@pytest.mark.slow
@pytest.mark.parametrize("dose", ["100 nmol once", "100 nmol over 2 h every 12 h x 3"])
def test_compiled_steps_and_python_agree(dose: str) -> None:
    from pkmodel.inference.bayes.compiled_ode import compiled_ode

    def stepwise(one: Likelihood) -> Likelihood:
        blocks = (replace(b, problem=replace(b.problem, method="rosenbrock", rtol=1e-7)) for b in one.blocks)
        return replace(one, blocks=tuple(blocks))

    people = People([stepwise(plasma(TIMES[: 2 + k], dose, frame=0.1)) for k in range(3)])
    kernel = compiled_ode(people)
    assert kernel is not None
    x = point(people)
    value, tangent, good = run(kernel, people, x)
    want, slopes, _ = run(Callback(people), people, x)
    assert good.all()
    report("values", 0.0, float(np.abs(value / want - 1).max()), atol=1e-11)
    report("tangents", 0.0, float(np.abs(tangent - slopes).max() / np.abs(slopes).max()), atol=1e-10)
    x[1] = np.nan
    assert not run(kernel, people, x)[2].any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dose", "free", "frame"),
    [
        ("100 nmol once", "CL V Q V2", 0.0),
        ("100 nmol over 2 h every 12 h x 3", "CL V Q V2", 0.1),
        ("100 nmol into extravascular", "CL V Q V2 KA", 0.0),
    ],
)
def test_closed_forms_and_propagation_agree(dose: str, free: str, frame: float) -> None:
    pytensor: Any = pytest.importorskip("pytensor")
    pt: Any = pytest.importorskip("pytensor.tensor")

    from pkmodel.inference.bayes.closed_form import closed_form

    people = People([plasma(TIMES[: 2 + k], dose, free, frame) for k in range(3)])
    x = pt.matrix("x")
    value = closed_form(people, x)
    assert value is not None
    weights = np.random.default_rng(1).standard_normal(int(people.rows[-1]))
    f = pytensor.function([x], [value, pt.grad((value * weights).sum(), x)], mode="NUMBA")
    at = point(people)
    got, gradient = f(at)
    found = [one.predict(row) for one, row in zip(people.likelihoods, at, strict=True)]
    want = np.concatenate([p.value for p in found])
    slopes = np.array([weights[a:b] @ p.tangent for p, a, b in zip(found, people.rows, people.rows[1:], strict=False)])
    report("values", 0.0, float(np.abs(got / want - 1).max()), atol=1e-10)
    report("gradient", 0.0, float(np.abs(gradient - slopes).max() / np.abs(slopes).max()), atol=1e-10)


def test_what_cannot_be_written_out_says_so() -> None:
    pt: Any = pytest.importorskip("pytensor.tensor")

    from pkmodel.inference.bayes.closed_form import closed_form

    steady = People([plasma(dose="100 nmol every 12 h at steady state")])
    assert closed_form(steady, pt.matrix("x")) is None
