"""Expressions on a tape compute what SymPy says they are, wherever their parameters are taken from."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import sympy as sp
from hypothesis import assume, given
from hypothesis import strategies as st

from pkmodel.compiler.lower import Constants, Hoisting, Lowering, shared_sums, terms
from pkmodel.compiler.tape import Builder, Tape
from pkmodel.compiler.tape_reference import evaluate
from pkmodel.errors import ModelError
from pkmodel.expressions import parse, symbol
from support import ROOT

Y = tuple(symbol(n) for n in "xyz")
P = tuple(symbol(n) for n in "abcn")
X, A, B, N = Y[0], P[0], P[1], P[3]
PLACES = {s: ("y", i) for i, s in enumerate(Y)} | {s: ("q", i) for i, s in enumerate(P)}
POINTS = [((0.7, 1.3, 2.1), (1.1, 0.4, 3.2, 1.7)), ((2.5, 0.2, 0.9), (0.3, 1.9, 0.8, 2.4))]


def written(e: sp.Expr) -> tuple[Tape, Constants]:
    """Program of one value with its constants hoisted."""
    constants, builder = Constants(P), Builder()
    builder.store("out", 0, Hoisting(builder, PLACES, constants).number(e))
    return builder.tape("value", "y", "q", "out"), constants


def hoisted(e: sp.Expr, y: tuple[float, ...], p: tuple[float, ...]) -> float:
    tape, constants = written(e)
    q, out = np.zeros(constants.size), np.zeros(1)
    q[: len(P)] = p
    evaluate(constants.tape(), q=q)
    evaluate(tape, y=np.array(y), q=q, out=out)
    return float(out[0])


def plain(e: sp.Expr, y: tuple[float, ...], p: tuple[float, ...]) -> float:
    builder, out = Builder(), np.zeros(1)
    builder.store("out", 0, Lowering(builder, PLACES).number(e))
    evaluate(builder.tape("value", "y", "q", "out"), y=np.array(y), q=np.array(p), out=out)
    return float(out[0])


def exact(e: sp.Expr, y: tuple[float, ...], p: tuple[float, ...]) -> float:
    """SymPy's own value, to 30 digits."""
    values = {s: sp.Float(v, 30) for s, v in zip((*Y, *P), (*y, *p), strict=True)}
    return float(e.xreplace(values).evalf(30))


LAWS = {
    "flow": "a*(x/b - y/c) + a*x*(c - y - z)/b",
    "michaelis": "a*x/(b + x) - c*y/(b + y)**2",
    "hill": "hill(x, a, n)*b",
    "hill with a number": "hill(x, a, 2.5)",
    "powers": "x**n + x**1.7 + x**2.5 + x**-1.5 + x**7/y**3 + a**n*x**0.5 + x**-0.5",
    "exponent that moves": "a**x + x**y",
    "functions": "exp(-a*x)*log(b + y) + tanh(x - z) + sqrt(x + a*y)",
    "extremes": "min(x, a*y, b) + max(x - y, 0) + abs(y - x)",
    "where": "where(x < a, b*x, where(y >= c, a, z))",
    "numbers": "exp(1)*x/3 + 0.1*y - 7",
    "only parameters": "a*exp(b)/(c + n)",
    "alike": "a*(x + y + z) - b*(x - y) - a*z",
}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize(("y", "p"), POINTS, ids=["first", "second"])
def test_every_allowed_function(law: str, y: tuple[float, ...], p: tuple[float, ...]) -> None:
    e = parse(law, [s.name for s in (*Y, *P)], "a test")
    assert hoisted(e, y, p) == pytest.approx(exact(e, y, p), rel=1e-13)
    assert plain(e, y, p) == pytest.approx(exact(e, y, p), rel=1e-13)


def test_functions_that_only_sbml_has() -> None:
    e = sp.sin(X) + sp.cos(A * X) + sp.tan(X) + sp.asin(X / 3) + sp.acos(X / 4) + sp.atan(X) + sp.sinh(X) + sp.cosh(X)
    e += sp.floor(3 * X) + sp.ceiling(A * X) + sp.Piecewise((1, sp.And(X > A, Y[1] > A)), (2, sp.Or(X > 9, X < 8)))
    e += sp.Piecewise((5, sp.Ne(X, A)), (3, True)) + sp.Piecewise((4, sp.Not(sp.Eq(X, A))), (3, True)) + sp.pi
    for y, p in POINTS:
        assert hoisted(e, y, p) == pytest.approx(exact(e, y, p), rel=1e-14)


LEAVES = st.sampled_from([*Y, *P, sp.Integer(2), sp.Rational(1, 3), sp.Integer(-1)])


def _grown(parts: st.SearchStrategy[sp.Expr]) -> st.SearchStrategy[sp.Expr]:
    pairs = st.tuples(parts, parts)
    return st.one_of(
        pairs.map(lambda ab: ab[0] + ab[1]),
        pairs.map(lambda ab: ab[0] - ab[1]),
        pairs.map(lambda ab: ab[0] * ab[1]),
        pairs.map(lambda ab: ab[0] / (2 + ab[1] ** 2)),
        parts.map(lambda a: sp.exp(-(a**2))),
        parts.map(lambda a: sp.log(1 + a**2)),
        parts.map(sp.tanh),
        parts.map(lambda a: sp.sqrt(3 + a**2)),
        parts.map(lambda a: (1 + a**2) ** N),
        pairs.map(lambda ab: sp.Max(*ab)),
        pairs.map(lambda ab: sp.Piecewise((ab[0], ab[0] < ab[1]), (2 * ab[1], True))),
    )


@given(e=st.recursive(LEAVES, _grown, max_leaves=12), point=st.sampled_from(POINTS))
def test_random_expressions(e: sp.Expr, point: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    expected = exact(e, *point)
    assume(math.isfinite(expected) and abs(expected) < 1e12)
    size = 1e-12 * (1 + abs(expected))
    # min, max and where may meet exactly; then either branch is right and SymPy's is the same value
    assert abs(plain(e, *point) - expected) < 1e3 * size
    assert abs(hoisted(e, *point) - expected) < 1e3 * size


def test_what_stands_still_is_computed_before() -> None:
    tape, constants = written(A * (X / B - Y[1] / P[2]))
    assert sorted(o.code for o in tape.operations if o.code != "load") == ["mul", "mul", "sub"]
    assert constants.size == len(P) + 2  # a/b and a/c
    assert [o.code for o in constants.tape().operations if o.code != "load"] == ["div", "div"]


def test_a_constant_and_its_negative_share_a_place() -> None:
    constants, builder = Constants(P), Builder()
    plus = constants.number(A / B, builder)
    minus = constants.number(-A / B, builder)
    assert builder.apply("neg", plus) == minus
    assert builder.apply("neg", constants.number(A - B, builder)) == constants.number(B - A, builder)
    assert constants.size == len(P) + 2
    assert builder.value(constants.number(sp.Rational(1, 4), builder)) == 0.25


def test_a_copy_of_the_constants_begins_with_the_original() -> None:
    constants, builder = Constants(P), Builder()
    constants.number(A / B, builder)
    more = constants.copy()
    more.number(A * B, builder)
    more.number(A / B, builder)
    assert (constants.size, more.size) == (len(P) + 1, len(P) + 2)
    short, long = np.array([2.0, 4.0, 0, 0, 0]), np.array([2.0, 4.0, 0, 0, 0, 0])
    evaluate(constants.tape(), q=short)
    evaluate(more.tape(), q=long)
    assert short[4:].tolist() == [0.5] and long[4:].tolist() == [0.5, 8.0]


def test_terms_collect_and_cancel() -> None:
    constants = Constants(P)
    assert terms(A * (X - Y[1]) + 2 * X - A * X, constants) == {X: sp.Integer(2), Y[1]: -A}
    assert terms(A * X * (B - Y[1]), constants) == {X * (B - Y[1]): A}
    assert terms(A * B, constants) == {sp.Integer(1): A * B}


def test_long_sums_used_twice_stay_whole() -> None:
    constants, s = Constants(P), sum(Y)
    assert shared_sums([A * s + B, sp.exp(X) + B * s], constants) == {s}
    assert shared_sums([A * s, B * X], constants) == frozenset()
    builder = Builder()
    write = Hoisting(builder, PLACES, constants, frozenset({s}))
    for i, e in enumerate((A * s, B * s)):
        builder.store("out", i, write.number(e))
    tape, out = builder.tape("t", "y", "q", "out"), np.zeros(2)
    assert tape.flops == 4
    evaluate(tape, y=np.array([1.0, 2.0, 3.0]), q=np.array([2.0, 5.0, 0, 0]), out=out)
    assert out.tolist() == [12.0, 30.0]


@pytest.mark.parametrize(
    ("e", "said"),
    [(sp.gamma(X), "no code can be written for gamma"), (symbol("who") * X, "use who"), (sp.zoo, "no code .* for zoo")],
)
def test_what_cannot_be_computed_is_refused(e: sp.Expr, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        written(e)


def test_where_nothing_applies_is_nan() -> None:
    assert math.isnan(hoisted(sp.Piecewise((X, X > 5)), *POINTS[0]))


def test_an_empty_compartment_keeps_its_powers() -> None:
    y, p = (0.0, 1.0, 1.0), (1.0, 1.0, 1.0, 1.5)
    assert hoisted(X**N + X**2.5 + X**0.5 + A, y, p) == 1.0


SAME = """
import sympy as sp
from pkmodel.expressions import parse
from pkmodel.compiler.lower import Constants, Hoisting
from pkmodel.compiler.tape import Builder
names = "abcdefgh"
places = {sp.Symbol(n, real=True): ("y" if n < "e" else "q", ord(n) % 4) for n in names}
builder = Builder()
constants = Constants([s for s, (at, _) in places.items() if at == "q"])
e = parse("min(a, b, c*e, f) + max(a*b/g, d/(h + a)) + e*(a - b)*(f + c)*d + where(a < b, exp(-e*a), d**h)", names, "")
builder.store("out", 0, Hoisting(builder, places, constants).number(e))
print(builder.tape("t", "y", "q", "out"), constants.tape())
"""


def test_programs_are_the_same_in_every_process() -> None:
    """The cache knows a program by its text, so nothing in it may depend on Python's hash seed."""

    def run(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", SAME], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
        ).stdout

    assert run("1") == run("2") != ""
