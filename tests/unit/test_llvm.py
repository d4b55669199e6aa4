"""Tapes as vector code, held against the interpreter of tapes."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray

from kernel_support import OPERATIONS, call, check_step, one_operation, random_tape, two_states
from pkmodel.compiler.machine import Library, Source, Target, available, compile_source, host
from pkmodel.compiler.tape import Builder, Tape
from pkmodel.compiler.tape_reference import evaluate

Floats = NDArray[np.float64]

pytestmark = pytest.mark.skipif(bool(available()), reason=f"no vector code here: {available()}")

VALUES = (0.0, -0.0, 1.0, -1.5, 2.5, 1e-310, 1e200, math.inf, -math.inf, math.nan)
ORDINARY = np.random.default_rng(0).uniform(-3, 3, (3, 64))
EVERYTHING = np.hstack([ORDINARY, np.array(list(itertools.product(VALUES, repeat=3))).T])


def compiled(
    *tapes: Tape, lanes: int, target: Target | None = None, broadcast: frozenset[str] = frozenset()
) -> Library:
    source = Source(tapes={t.name: t for t in tapes}, broadcast={t.name: broadcast for t in tapes})
    return Library(compile_source(source, lanes, target or host()))


@lru_cache
def _operations(lanes: int, target: Target | None = None) -> Library:
    return compiled(*map(one_operation, OPERATIONS), lanes=lanes, target=target)


def _apply(library: Library, code: str, x: Floats) -> Floats:
    """Run a program of one operation on (3, m) values."""
    lanes = library.lanes
    out = np.empty(x.shape[1])
    for at in range(0, x.shape[1] - x.shape[1] % lanes, lanes):
        call(library, f"one_{code}", np.ascontiguousarray(x[:, at : at + lanes]), out[at : at + lanes])
    return out[: x.shape[1] - x.shape[1] % lanes]


@pytest.mark.parametrize("code", OPERATIONS)
@pytest.mark.parametrize("lanes", [1, 2, 8])
def test_operation(code: str, lanes: int) -> None:
    got = _apply(_operations(lanes), code, EVERYTHING)
    want = np.empty((1, EVERYTHING.shape[1]))
    evaluate(one_operation(code), x=EVERYTHING, out=want)
    np.testing.assert_allclose(got, want[0, : got.size], rtol=1e-15, atol=1e-323)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("lanes", [1, 4, 8])
def test_random_program(seed: int, lanes: int) -> None:
    rng = np.random.default_rng(seed)
    x, q, want, got = (
        rng.uniform(0.1, 5, (6, lanes)),
        rng.uniform(0.1, 5, (4, lanes)),
        np.empty((12, lanes)),
        np.empty((12, lanes)),
    )
    tape = random_tape(seed)
    evaluate(tape, x=x, q=q, out=want)
    call(compiled(tape, lanes=lanes), "random", x, q, got)
    np.testing.assert_allclose(got, want, rtol=1e-13)


def test_one_number_for_all_lanes() -> None:
    rng = np.random.default_rng(7)
    x, q, want, got = rng.uniform(0.1, 5, (6, 8)), rng.uniform(0.1, 5, 4), np.empty((12, 8)), np.empty((12, 8))
    tape = random_tape(7)
    evaluate(tape, x=x, q=np.repeat(q[:, None], 8, axis=1), out=want)
    call(compiled(tape, lanes=8, broadcast=frozenset({"q"})), "random", x, q, got)
    np.testing.assert_allclose(got, want, rtol=1e-13)


def test_what_is_stored_into_must_have_lanes() -> None:
    with pytest.raises(ValueError, match="stores into out, which has no lanes"):
        compiled(random_tape(0), lanes=8, broadcast=frozenset({"out"}))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, 0.0])
def test_a_lane_never_touches_another(bad: float) -> None:
    """Whatever one patient's numbers are, the others' results are the same to the last bit."""
    rng = np.random.default_rng(3)
    x, q, alone, beside = rng.uniform(0.1, 5, (6, 8)), rng.uniform(0.1, 5, (4, 8)), np.empty((12, 8)), np.empty((12, 8))
    library = compiled(random_tape(3), lanes=8)
    call(library, "random", x, q, alone)
    x[:, 5] = bad
    call(library, "random", x, q, beside)
    others = np.arange(8) != 5
    np.testing.assert_array_equal(beside[:, others], alone[:, others])


def test_a_lane_does_not_depend_on_its_place() -> None:
    rng = np.random.default_rng(4)
    x, q, out, moved = rng.uniform(0.1, 5, (6, 8)), rng.uniform(0.1, 5, (4, 8)), np.empty((12, 8)), np.empty((12, 8))
    library = compiled(random_tape(4), lanes=8)
    call(library, "random", x, q, out)
    order = rng.permutation(8)
    call(library, "random", np.ascontiguousarray(x[:, order]), np.ascontiguousarray(q[:, order]), moved)
    np.testing.assert_array_equal(moved, out[:, order])


@pytest.mark.parametrize("lanes", [1, 8])
def test_loads_come_before_stores(lanes: int) -> None:
    """Two numbers change places, and a third takes the old first."""
    b = Builder()
    first, second = b.load("x", 0), b.load("x", 1)
    b.store("x", 0, second)
    b.store("x", 1, first)
    b.store("x", 2, b.apply("add", first, b.load("x", 2)))
    x = np.arange(3.0 * lanes).reshape(3, lanes)
    want = np.array([x[1], x[0], x[0] + x[2]])
    call(compiled(b.tape("swap", "x"), lanes=lanes), "swap", x)
    np.testing.assert_array_equal(x, want)


@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16])
def test_step(lanes: int) -> None:
    check_step(Library(compile_source(two_states(), lanes, host())))


OLDER = {"sse2": Target("x86-64", ""), "avx2": Target("x86-64-v3", "+avx2,+fma")}


@pytest.mark.skipif("avx2" not in host().features, reason="not an x86 processor with AVX2")
@pytest.mark.parametrize("name", OLDER)
@pytest.mark.parametrize("lanes", [2, 4, 8])
def test_code_for_older_processors_gives_the_same(name: str, lanes: int) -> None:
    """What this processor has more than others changes no result beyond rounding."""
    check_step(Library(compile_source(two_states(), lanes, OLDER[name])))
    older, own = _operations(lanes, OLDER[name]), _operations(lanes)
    for code in OPERATIONS:
        np.testing.assert_allclose(
            _apply(older, code, EVERYTHING), _apply(own, code, EVERYTHING), rtol=1e-15, atol=1e-323, err_msg=code
        )


def test_lanes_fill_the_registers() -> None:
    assert Target("any", "+sse2,+avx,+avx2,+avx512f").lanes == 8
    assert Target("any", "+sse2,+avx,+avx2,-avx512f").lanes == 4
    assert Target("any", "+neon").lanes == 2
