"""Formulas from and to MathML, against Python's own mathematics."""

from __future__ import annotations

import math

import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from needs_sbml import libsbml
from pkmodel.errors import ModelError
from pkmodel.expressions import symbol
from pkmodel.sbml.content import mathml
from pkmodel.sbml.mathml import Function, Scope, as_number, to_sympy

X, Y = 0.7, 2.5
NAMES = {"x": symbol("x"), "y": symbol("y")}
VALUES = {symbol("x"): X, symbol("y"): Y}


def read(text: str) -> sp.Expr:
    """A formula in libsbml's infix notation."""
    node = libsbml.parseL3Formula(text)
    assert node is not None, libsbml.getLastParseL3Error()
    return as_number(to_sympy(node, Scope("test", NAMES, {"twice": Function(("a",), libsbml.parseL3Formula("2*a"))})))


NUMBERS = {
    "x + y*3 - x/y": X + Y * 3 - X / Y,
    "-x^y": -(X**Y),
    "root(3, y)": Y ** (1 / 3),
    "sqrt(x)": math.sqrt(X),
    "ln(x)": math.log(X),
    "log10(y)": math.log10(Y),
    "log(2, y)": math.log2(Y),
    "exp(-x)": math.exp(-X),
    "abs(x - y)": Y - X,
    "floor(y) + ceil(y)": 5.0,
    "sin(x) + cos(x)*tan(x)": 2 * math.sin(X),
    "sec(x)*csc(x)*cot(x)": 1 / math.sin(X) ** 2,
    "arcsin(x) + arccos(x)": math.pi / 2,
    "arctan(x)": math.atan(X),
    "arccot(x)": math.atan(1 / X),
    "arcsec(y) + arccsc(y)": math.pi / 2,
    "sinh(x)^2": math.sinh(X) ** 2,
    "cosh(x)/tanh(x)": math.cosh(X) / math.tanh(X),
    "sech(x) + csch(x) + coth(x)": 1 / math.cosh(X) + 1 / math.sinh(X) + 1 / math.tanh(X),
    "arcsinh(x)": math.asinh(X),
    "arccosh(y)": math.acosh(Y),
    "arctanh(x)": math.atanh(X),
    "arcsech(x)": math.acosh(1 / X),
    "arccsch(x)": math.asinh(1 / X),
    "arccoth(y)": math.atanh(1 / Y),
    "min(x, y, 1) + max(x, y)": X + Y,
    "quotient(-7, 2)": -3.0,
    "rem(-7, 2)": -1.0,
    "factorial(5)": 120.0,
    "pi*exponentiale": math.pi * math.e,
    "avogadro": 6.02214179e23,
    "twice(x) + twice(twice(y))": 2 * X + 4 * Y,
    "piecewise(1, x > y, 2, x == y, 3)": 3.0,
    "piecewise(1, x < y && !(x >= 1), 2)": 1.0,
    "x < y": 1.0,
    "true + (x > y)": 1.0,
    "piecewise(1, x, 2)": 1.0,
    "piecewise(5, xor(x < y, y < x, 1 < 2), 6)": 6.0,
    "piecewise(5, implies(x < y, x < 0), 6)": 6.0,
    "1e-3*2.5e2": 0.25,
}


@pytest.mark.parametrize("text", NUMBERS)
def test_a_formula_is_worth_what_python_says(text: str) -> None:
    assert float(read(text).subs(VALUES)) == pytest.approx(NUMBERS[text], rel=1e-13)


def test_comparisons_of_three() -> None:
    node = libsbml.readMathMLFromString(
        '<math xmlns="http://www.w3.org/1998/Math/MathML"><apply><lt/><cn>1</cn><cn>2</cn><cn>2</cn></apply></math>'
    )
    assert to_sympy(node, Scope("test", {}, {})) == sp.false


@pytest.mark.parametrize("text", ["factorial(x)", "factorial(-1)", "1/0", "9^9^9", "inf", "x^-0.5 + ln(-1)"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match=r"test: .* is not supported"):
        read(text)


def expressions() -> st.SearchStrategy[sp.Expr]:
    leaves = st.sampled_from([symbol("x"), symbol("y"), sp.Integer(3), sp.Rational(1, 10), sp.Rational(-1, 3), sp.pi])

    def grow(inner: st.SearchStrategy[sp.Expr]) -> st.SearchStrategy[sp.Expr]:
        pair = st.tuples(inner, inner)
        return st.one_of(
            pair.map(lambda p: p[0] + p[1]),
            pair.map(lambda p: p[0] * p[1]),
            pair.map(lambda p: sp.Max(*p)),
            inner.map(sp.tanh),
            inner.map(lambda e: sp.exp(-(e**2))),
            pair.map(lambda p: p[0] / (1 + p[1] ** 2)),
            pair.map(lambda p: sp.Piecewise((p[0], symbol("x") < 1), (p[1], True))),
        )

    return st.recursive(leaves, grow, max_leaves=6)


@given(expressions())
def test_written_and_read_a_formula_is_the_same(expression: sp.Expr) -> None:
    again = as_number(to_sympy(libsbml.readMathMLFromString(mathml(expression)), Scope("test", NAMES, {})))
    assert float(again.subs(VALUES)) == pytest.approx(float(expression.subs(VALUES)), rel=1e-12, abs=1e-300)
