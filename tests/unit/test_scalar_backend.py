"""The plain back end against the interpreter of tapes, and the fast one against the plain one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kernel_support import OPERATIONS, call, check_step, one_operation, random_tape, two_states
from pkmodel.compiler.machine import Library, Source, available, compile_source, host
from pkmodel.compiler.scalar import ScalarLibrary, function_text, scalar_library
from pkmodel.compiler.tape import Builder
from pkmodel.compiler.tape_reference import evaluate

VALUES = (0.0, -0.0, 1.0, -1.5, 2.5, 1e-310, 1e200, math.inf, -math.inf, math.nan)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of this file's own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("PKMODEL_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def operations(cache: Path) -> ScalarLibrary:
    return scalar_library("", lambda: Source(tapes={f"one_{code}": one_operation(code) for code in OPERATIONS}))


@pytest.mark.parametrize("code", OPERATIONS)
def test_operation(code: str, operations: ScalarLibrary) -> None:
    ordinary = np.random.default_rng(0).uniform(-3, 3, (3, 50))
    x = np.hstack([ordinary, np.array(list(itertools.product(VALUES, repeat=3))).T])
    want, got = np.empty((1, x.shape[1])), np.empty(x.shape[1])
    evaluate(one_operation(code), x=x, out=want)
    for at in range(x.shape[1]):
        call(operations, f"one_{code}", x[:, at].copy(), got[at:])
    np.testing.assert_allclose(got, want[0], rtol=1e-15, atol=1e-323)


def test_both_back_ends_give_the_same(cache: Path) -> None:
    """Random programs at random and at hopeless numbers: equal to rounding, and NaN in the same places."""
    if available():
        pytest.skip(f"no vector code here: {available()}")
    source = Source(tapes={f"random{seed}": random_tape(seed, 40) for seed in range(3)})
    plain, fast = scalar_library("", lambda: source), Library(compile_source(source, 1, host()))
    rng = np.random.default_rng(1)
    for name in source.tapes:
        for bad in (1.0, math.nan, math.inf, 0.0, -1.0, 1e-310):
            x, q = rng.uniform(0.1, 5, 6), rng.uniform(0.1, 5, 4)
            x[2] = bad
            one, other = np.empty(12), np.empty(12)
            call(plain, name, x, q, one)
            call(fast, name, x, q, other)
            np.testing.assert_allclose(one, other, rtol=1e-13)


def test_step(cache: Path) -> None:
    library = scalar_library("two states", two_states)
    check_step(library)
    assert library.lanes == 1
    assert library.facts["names"] == ["x", "z"]
    with pytest.raises(KeyError):
        library.address("other")


def test_found_again_without_the_programs(cache: Path) -> None:
    first = scalar_library("again", lambda: Source(tapes={"one_add": one_operation("add")}))
    second = scalar_library("again", lambda: pytest.fail("the programs were written again"))
    assert second.address("one_add") == first.address("one_add")


def test_text_can_be_read() -> None:
    b = Builder()
    x, k = b.load("y", 0), b.load("q", 2)
    b.store("f", 0, b.apply("neg", b.apply("mul", x, k)))
    b.store("f", 1, b.apply("sub", b.apply("mul", x, k), b.load("y", 1)))
    assert function_text(b.tape("rhs", "y", "q", "f"), "rhs").splitlines() == [
        '@njit("void(f8[::1], f8[::1], f8[::1])")',
        "def _rhs(y, q, f):",
        "    v2 = y[0] * q[2]",
        "    v3 = -v2",
        "    v5 = v2 - y[1]",
        "    f[0] = v3",
        "    f[1] = v5",
        "    return",
        "",
    ]


def test_loads_come_before_stores(cache: Path) -> None:
    b = Builder()
    first, second = b.load("x", 0), b.load("x", 1)
    b.store("x", 0, second)
    b.store("x", 1, first)
    x = np.array([1.0, 2.0])
    call(scalar_library("", lambda: Source(tapes={"swap": b.tape("swap", "x")})), "swap", x)
    assert x.tolist() == [2.0, 1.0]
