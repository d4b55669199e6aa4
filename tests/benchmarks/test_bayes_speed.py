"""How long a gradient of a Bayesian model takes, and what PyTensor adds to the bare solver; CPU time, interleaved."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from synthetic import curve, curves, protocol

from pkmodel.assembly import load_model
from pkmodel.inference.bayes.closed_form import closed_form
from pkmodel.inference.bayes.compiled_modal import compiled_modal
from pkmodel.inference.bayes.compiled_ode import compiled_ode
from pkmodel.inference.bayes.kernels import FUNCTION, Kernel, People
from pkmodel.inference.binding import build_likelihood
from pkmodel.inference.likelihood import Likelihood
from pkmodel.regimen import Regimen

pytestmark = pytest.mark.bench
ROUNDS, CALLS = 15, 40
TIMES = np.geomspace(0.25, 72.0, 20)


def patient(rtol: float = 1e-6) -> Likelihood:
    """Two compartments, 20 samples, four free parameters."""
    c = curve("plasma", TIMES, np.ones(20), unit="nmol/L", nuclide="C-11", decay_corrected=True, kind="blood")
    one = build_likelihood(
        load_model("two_compartment"), curves(c), protocol("CL V Q V2"), regimen=Regimen("100 nmol once")
    )
    blocks = (replace(b, problem=replace(b.problem, rtol=rtol, atol=1e-10)) for b in one.blocks)
    return replace(one, blocks=tuple(blocks))


def stepwise(one: Likelihood) -> Likelihood:
    """The same by the engine of differential equations."""
    return replace(one, blocks=tuple(replace(b, problem=replace(b.problem, method="rosenbrock")) for b in one.blocks))


def cpu(*runs: Callable[[], Any]) -> list[float]:
    """CPU time of one call of each [us]: the best of some rounds, taken in turns."""
    best = [np.inf] * len(runs)
    for _ in range(ROUNDS):
        for k, run in enumerate(runs):
            began = time.process_time()
            for _ in range(CALLS):
                run()
            best[k] = min(best[k], (time.process_time() - began) / CALLS * 1e6)
    return best


def bare(kernel: Kernel, people: People, x: Any) -> Callable[[], None]:
    """A call of the machine code alone."""
    n = int(people.rows[-1])
    value, tangent, good = np.zeros(n), np.zeros((n, people.width)), np.zeros(people.count)
    run = FUNCTION(kernel.address(True))
    args = (x.ctypes.data, value.ctypes.data, tangent.ctypes.data, good.ctypes.data)
    return lambda: run(*args)


def gradient(people: People, *, closed: bool) -> Any:
    """Log likelihood and gradient as PyTensor compiles them."""
    pytensor: Any = pytest.importorskip("pytensor")
    pt: Any = pytest.importorskip("pytensor.tensor")

    from pkmodel.inference.bayes.operation import Predictions

    x = pt.matrix("x")
    value: Any = closed_form(people, x) if closed else Predictions(people)(x)[0]
    score = -0.5 * ((value - 1.0) ** 2).sum()
    return pytensor.function([x], [score, pt.grad(score, x)], mode="NUMBA", trust_input=True)


def start(people: People) -> Any:
    """A point, (N, K)."""
    return np.array([[s.to_scale(s.start) for s in one.slots] for one in people.likelihoods])


def test_what_pytensor_adds_to_the_bare_gradient() -> None:
    people = People([patient()])
    kernel = compiled_modal(people)
    assert kernel is not None
    x = start(people)
    whole, empty = gradient(people, closed=False), _nothing()
    bare_us, with_us, call_us = cpu(bare(kernel, people, x), lambda: whole(x), lambda: empty(x))
    print(
        f"gradient of one patient: bare {bare_us:.1f} us, in PyTensor {with_us:.1f} us (a call of an empty function "
        f"from Python is {call_us:.1f} us of it): adds {with_us - bare_us:.1f} us; asked for: 20"
    )
    assert with_us - bare_us <= 20.0 * max(1.0, call_us / 5.0)


def _nothing() -> Any:
    pytensor: Any = pytest.importorskip("pytensor")
    pt: Any = pytest.importorskip("pytensor.tensor")

    x = pt.matrix("x")
    return pytensor.function([x], [x.sum()], mode="NUMBA", trust_input=True)


def test_population_of_twenty() -> None:
    """20 patients, two compartments: closed form, modes, and the engine, one after the other in turns."""
    people = People([patient() for _ in range(20)])
    steps = People([stepwise(one) for one in people.likelihoods])
    modes, engine = compiled_modal(people), compiled_ode(steps)
    assert modes is not None and engine is not None
    x = start(people)
    closed = gradient(people, closed=True)
    a, b, c = cpu(lambda: closed(x), bare(modes, people, x), bare(engine, steps, x))
    print(
        f"gradient of 20 patients: closed form {a / 1000:.3f} ms (asked for: 0.05), modes {b / 1000:.3f} ms, engine "
        f"at rtol 1e-6 {c / 1000:.3f} ms (asked for: 0.7); closed form is {c / a:.0f} times faster than the engine"
    )
    assert a < b < c
