"""The whitelist parser: every name is a name, every refused construct is refused, and text survives the round trip."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from pkmodel.errors import ExpressionError
from pkmodel.expressions import FUNCTIONS, check_name, evaluate, parse, symbol, to_text
from support import report

NAMES = [
    "Q",
    "S",
    "N",
    "I",
    "E",
    "O",
    "C",
    "beta",
    "gamma",
    "zeta",
    "pi",
    "work",
    "lambda_phys",
    "Integer",
    "Symbol",
    "oo",
    "nan",
    "re",
    "im",
    "CL",
    "V",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_only_a_name(name: str) -> None:
    e = parse(f"2*{name} + {name}**2", [name], "flow")
    assert e.free_symbols == {symbol(name)}
    report(f"2*{name} + {name}**2 at 3", 15.0, evaluate(e, {name: 3.0}), rtol=1e-15)


REFUSED = {
    "import": "__import__('os').system('true')",
    "call of an unknown function": "open(x)",
    "attribute": "x.real",
    "method": "x.subs(1)",
    "subscript": "x[0]",
    "lambda": "lambda: 1",
    "keyword as a name": "CL*lambda",
    "another keyword": "class + 1",
    "conditional": "x if x < 1 else y",
    "list comprehension": "[x for x in y]",
    "generator": "sum(x for x in y)",
    "dictionary": "{x: y}",
    "set": "{x}",
    "tuple": "(x, y)",
    "string": "'x'",
    "f-string": "f'{x}'",
    "bytes": "b'x'",
    "walrus": "(x := 1)",
    "bool": "True",
    "none": "None",
    "ellipsis": "...",
    "complex": "1j",
    "and": "x and y",
    "or": "x or y",
    "not": "not x",
    "bitwise": "x | y",
    "invert": "~x",
    "floor division": "x // y",
    "modulo": "x % y",
    "matrix product": "x @ y",
    "caret": "x^2",
    "equality": "where(x == 1, x, y)",
    "membership": "x in y",
    "chained comparison": "where(1 < x < 2, x, y)",
    "await": "await x",
    "yield": "yield x",
    "statement": "x = 1",
    "two statements": "x; y",
    "keyword argument": "exp(x=1)",
    "starred argument": "exp(*x)",
    "too few arguments": "min(x)",
    "too many arguments": "exp(x, y)",
    "condition as a value": "x < y",
    "condition in a sum": "x + (x < y)",
    "condition in a call": "exp(x < y)",
    "condition with a sign": "-(x < y)",
    "value as a condition": "where(x, 1, 2)",
    "division by zero": "x/0",
    "zero to a negative power": "0**-1",
    "infinite float": "1e400",
    "huge power": "x**65",
    "tower of powers": "(((9**64)**64)**64)**64",
    "tower of powers in the exponent": "2**2**2**2**2**2",
    "tower of exponentials": "exp(exp(exp(exp(100)))) < x",
    "exponential of a big number": "exp(1000)*x",
    "huge integer": "9"*4990,
    "huge hexadecimal": "0x" + "f"*4900,
    "root of a negative number": "sqrt(-1)*x",
    "broken power of a negative number": "(-2)**0.5",
    "logarithm of a negative number": "log(-1)",
    "logarithm of zero": "log(0)",
    "complex inside min": "min(sqrt(-1), x)",
    "nothing": "",
    "two words": "x y",
    "unknown name": "z",
    "dunder": "__class__",
    "deep brackets": "(" * 300 + "x" + ")" * 300,
    "deep signs": "-" * 4000 + "x",
    "deep sum": "x" + "+x" * 2000,
    "very long": "x + " * 2000 + "x",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_refused(text: str) -> None:
    start = time.process_time()
    with pytest.raises(ExpressionError, match=r"^flow a -> b: "):
        parse(text, ["x", "y"], "flow a -> b")
    assert time.process_time() - start < 5.0


@pytest.mark.parametrize("thing", [True, None, 3j, ["x"], b"x"])
def test_only_text_and_numbers_are_read(thing: object) -> None:
    with pytest.raises(ExpressionError):
        parse(thing, ["x"], "flow")  # type: ignore[arg-type]


def test_text_is_never_evaluated(tmp_path: Path) -> None:
    mark = tmp_path / "was_here"
    for text in (f"__import__('pathlib').Path({str(mark)!r}).touch()", f"open({str(mark)!r}, 'w')", "exit()"):
        with pytest.raises(ExpressionError):
            parse(text, ["x"], "flow")
    assert not mark.exists()


def test_the_error_says_who_what_and_what_is_known() -> None:
    with pytest.raises(ExpressionError) as error:
        parse("PSx*plasma", ["PS", "plasma"], "antibody.toml: flow plasma -> stroma")
    text = str(error.value)
    print(text)
    for part in ("antibody.toml: flow plasma -> stroma", "'PSx'", "did you mean 'PS'", "known: PS, plasma, t"):
        assert part in text


def test_numbers_are_exact() -> None:
    assert parse("0.1 + 0.2", [], "x") == sp.Rational(3, 10)
    assert parse(0.1, [], "x") == sp.Rational(1, 10)
    assert parse("1e-3", [], "x") == sp.Rational(1, 1000)


VALUES = {"x": 0.7, "y": 2.5, "k": 1.9, "n": 2.3, "E": 5.0, "t": 4.0}
FUNCTION_CASES = {
    "exp(-x*t)": math.exp(-0.7 * 4.0),
    "log(y)": math.log(2.5),
    "sqrt(x)": math.sqrt(0.7),
    "tanh(x)": math.tanh(0.7),
    "abs(x - y)": 1.8,
    "min(x, y, k)": 0.7,
    "max(x, y, k)": 2.5,
    "where(t < 5, x, y)": 0.7,
    "where(t >= 5, x, y)": 2.5,
    "where(t < 3, x, where(t <= 4, y, k))": 2.5,
    "hill(x, k, n)": 0.7**2.3 / (1.9**2.3 + 0.7**2.3),
    "hill(x, k, 2)": 0.7**2 / (1.9**2 + 0.7**2),
    "hill(x, k, 1)": 0.7 / (1.9 + 0.7),
    "x**n": 0.7**2.3,
    "x**-1.5": 0.7**-1.5,
    "2**x": 2**0.7,
    "exp(1)*E": math.e * 5.0,
    "-x**2": -0.49,
    "x - y - k": 0.7 - 2.5 - 1.9,
    "x/y/k": 0.7 / 2.5 / 1.9,
    "x/(y/k)": 0.7 / (2.5 / 1.9),
    "-(x + y)*(k + 1)": -(3.2 * 2.9),
    "+x": 0.7,
}


@pytest.mark.parametrize(("text", "expected"), FUNCTION_CASES.items())
def test_value(text: str, expected: float) -> None:
    e = parse(text, VALUES, "test")
    report(text, expected, evaluate(e, VALUES), rtol=1e-14)
    again = parse(to_text(e), VALUES, "round trip")
    assert again == e


def test_e_is_a_parameter_and_not_the_number() -> None:
    number, parameter = parse("exp(1)*x", ["E", "x"], "a"), parse("E*x", ["E", "x"], "a")
    assert to_text(number) != to_text(parameter)
    assert parse(to_text(number), ["E", "x"], "a") == number


@pytest.mark.parametrize("name", ["t", "lambda", "if", "None", "True", "1x", "a b", "", "a-b", "_x", "é", *FUNCTIONS])
def test_refused_as_a_name(name: str) -> None:
    with pytest.raises(ExpressionError, match="parameter"):
        check_name(name, "parameter")


def _trees() -> st.SearchStrategy[str]:
    names = st.sampled_from(["x", "y", "E", "S", "beta", "t"])
    numbers = st.sampled_from(["2", "3", "0.5", "1e-3", "7", "1.25"])
    comparison = st.sampled_from(["<", "<=", ">", ">="])

    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        two = st.tuples(inner, inner)
        return st.one_of(
            two.map(lambda p: f"({p[0]}) + ({p[1]})"),
            two.map(lambda p: f"({p[0]}) - ({p[1]})"),
            two.map(lambda p: f"({p[0]})*({p[1]})"),
            two.map(lambda p: f"({p[0]})/(({p[1]}) + 11)"),
            st.tuples(inner, st.sampled_from(["2", "-1", "0.5", "-1.5", "3", "y"])).map(
                lambda p: f"(abs({p[0]}) + 1)**{p[1]}"
            ),
            inner.map(lambda p: f"-({p})"),
            inner.map(lambda p: f"exp(-abs({p}))"),
            inner.map(lambda p: f"tanh({p})"),
            inner.map(lambda p: f"sqrt(1 + ({p})**2)"),
            inner.map(lambda p: f"log(2 + abs({p}))"),
            two.map(lambda p: f"min({p[0]}, {p[1]})"),
            two.map(lambda p: f"max({p[0]}, {p[1]}, 2)"),
            two.map(lambda p: f"hill(abs({p[0]}) + 1, abs({p[1]}) + 1, E)"),
            st.tuples(inner, comparison, inner, inner, inner).map(
                lambda p: f"where({p[0]} {p[1]} {p[2]}, {p[3]}, {p[4]})"
            ),
        )

    return st.recursive(st.one_of(names, numbers), grow, max_leaves=6)


@given(_trees())
def test_text_round_trip(text: str) -> None:
    names = ["x", "y", "E", "S", "beta"]
    try:
        e = parse(text, names, "random")
    except ExpressionError as error:  # a random formula may divide by zero or fold to a complex constant
        assert "divides by zero" in str(error) or "not a real" in str(error) or "cannot be computed" in str(error)
        return
    written = to_text(e)
    assert parse(written, names, "random again") == e, written


@given(_trees(), st.floats(0.1, 3.0), st.floats(0.1, 3.0), st.floats(0.1, 3.0))
def test_value_is_that_of_python(text: str, x: float, y: float, big: float) -> None:
    """An independent reading of the same text: Python's own arithmetic on floats."""
    names = {"x": x, "y": y, "E": big, "S": 1.1, "beta": 0.3, "t": 2.0}
    functions = {
        "exp": math.exp, "log": math.log, "sqrt": math.sqrt, "tanh": math.tanh, "abs": abs, "min": min, "max": max,
        "where": lambda c, a, b: a if c else b, "hill": lambda v, k, n: v**n / (k**n + v**n),
    }  # fmt: skip
    try:
        e = parse(text, list(names), "random")
        expected = float(eval(text, {"__builtins__": {}}, {**names, **functions}))
    except (ExpressionError, ZeroDivisionError, OverflowError, TypeError):
        return
    got = evaluate(e, names)
    assert got == pytest.approx(expected, rel=1e-9, abs=1e-9)
