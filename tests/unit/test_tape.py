"""The tape: what the builder writes, what it leaves out, and what each operation means."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pkmodel.compiler.tape import BINARY, NULLARY, TERNARY, UNARY, Builder, Tape
from pkmodel.compiler.tape_reference import OPERATIONS, evaluate

NAN = math.nan


def one(code: str, *values: float) -> float:
    """Result of a single operation, its operands read from an array so that nothing is folded."""
    b = Builder()
    b.store("out", 0, b.apply(code, *(b.load("x", i) for i in range(len(values)))))
    out = np.zeros(1)
    evaluate(b.tape("one", "x", "out"), x=np.array(values), out=out)
    return float(out[0])


def codes(tape: Tape) -> list[str]:
    return [o.code for o in tape.operations if o.code != "load"]


def test_equal_operations_are_written_once() -> None:
    b = Builder()
    x, y = b.load("x", 0), b.load("x", 1)
    assert b.apply("mul", x, y) == b.apply("mul", y, x)
    assert b.apply("sub", x, y) != b.apply("sub", y, x)
    assert b.load("x", 0) == x


def test_what_is_trivial_is_not_written() -> None:
    b = Builder()
    x, one_, zero = b.load("x", 0), b.const(1.0), b.const(0.0)
    assert b.apply("mul", x, one_) == b.apply("div", x, one_) == b.apply("pow", x, one_) == x
    assert b.apply("add", zero, x) == b.apply("sub", x, zero) == x
    assert b.apply("neg", b.apply("neg", x)) == x
    assert b.value(b.apply("mul", b.const(3.0), b.const(-0.5))) == -1.5
    assert b.value(b.apply("div", one_, zero)) is None  # infinity is left to the machine


def test_signs_move_outwards_and_vanish() -> None:
    b = Builder()
    x, y, z = (b.load("x", i) for i in range(3))
    minus = b.apply("neg", x)
    assert b.apply("mul", minus, b.apply("neg", y)) == b.apply("mul", x, y)
    assert b.apply("add", z, b.apply("mul", minus, y)) == b.apply("sub", z, b.apply("mul", x, y))
    assert b.apply("sub", z, b.apply("mul", b.const(-2.0), y)) == b.apply("add", z, b.apply("mul", b.const(2.0), y))
    assert b.apply("neg", b.apply("sub", x, y)) == b.apply("sub", y, x)
    assert b.apply("abs", minus) == b.apply("abs", x)


def test_a_reciprocal_becomes_a_division_unless_it_is_shared() -> None:
    def quotients(many: int) -> Tape:
        b = Builder()
        r = b.apply("div", b.const(1.0), b.load("x", 0))
        for i in range(many):
            b.store("out", i, b.apply("mul", b.load("x", i + 1), r))
        return b.tape("quotients", "x", "out")

    assert codes(quotients(1)) == ["div"]
    assert codes(quotients(2)) == ["const", "div", "mul", "mul"]
    out = np.zeros(2)
    evaluate(quotients(2), x=np.array([4.0, 6.0, 10.0]), out=out)
    assert out.tolist() == [1.5, 2.5]


def test_what_nothing_needs_is_left_out_and_a_foreign_array_is_refused() -> None:
    b = Builder()
    b.apply("exp", b.load("x", 3))
    b.store("out", 0, b.load("x", 1))
    assert len(b.tape("t", "x", "out").operations) == 1
    with pytest.raises(ValueError, match="uses x, which is not an argument"):
        b.tape("t", "out")


def test_loads_see_the_arrays_as_they_were() -> None:
    b = Builder()
    b.store("x", 0, b.load("x", 1))
    b.store("x", 1, b.load("x", 0))
    x = np.array([1.0, 2.0])
    evaluate(b.tape("swap", "x"), x=x)
    assert x.tolist() == [2.0, 1.0]


def test_lanes_and_missing_arrays() -> None:
    b = Builder()
    b.store("out", 0, b.apply("add", b.load("x", 0), b.load("x", 1)))
    tape, out = b.tape("t", "x", "out"), np.zeros((1, 3))
    evaluate(tape, x=np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]), out=out)
    assert out.tolist() == [[11.0, 22.0, 33.0]]
    with pytest.raises(ValueError, match="no array given for x"):
        evaluate(tape, out=out)


def test_every_operation_has_a_meaning() -> None:
    assert set(OPERATIONS) == {*UNARY, *BINARY, *TERNARY}
    assert not set(OPERATIONS) & set(NULLARY)


@pytest.mark.parametrize(
    ("code", "values", "expected"),
    [
        ("div", (0.0, 0.0), NAN),
        ("div", (1.0, 0.0), math.inf),
        ("log", (-1.0,), NAN),
        ("log", (0.0,), -math.inf),
        ("sqrt", (-1.0,), NAN),
        ("pow", (0.0, 0.0), 1.0),
        ("pow", (NAN, 0.0), 1.0),
        ("pow", (-2.0, 3.0), -8.0),
        ("pow", (-2.0, 0.5), NAN),
        ("pow", (0.0, -1.5), math.inf),
        ("min", (NAN, 1.0), NAN),
        ("min", (1.0, NAN), NAN),
        ("max", (NAN, 1.0), NAN),
        ("max", (1.0, NAN), NAN),
        ("max", (-1.0, 2.0), 2.0),
        ("min", (-1.0, 2.0), -1.0),
        ("exp", (1000.0,), math.inf),
        ("exp", (NAN,), NAN),
        ("abs", (-3.0,), 3.0),
        ("abs", (NAN,), NAN),
        ("floor", (-1.5,), -2.0),
        ("ceil", (-1.5,), -1.0),
    ],
)
def test_edges(code: str, values: tuple[float, ...], expected: float) -> None:
    assert one(code, *values) == pytest.approx(expected, nan_ok=True, rel=1e-15)


@pytest.mark.parametrize(("code", "expected"), [("lt", 5.0), ("le", 5.0), ("gt", 5.0), ("eq", 5.0), ("ne", 7.0)])
def test_comparison_with_nan_is_false(code: str, expected: float) -> None:
    b = Builder()
    x = b.load("x", 0)
    b.store("out", 0, b.apply("select", b.apply(code, x, x), b.const(7.0), b.const(5.0)))
    out = np.zeros(1)
    evaluate(b.tape("t", "x", "out"), x=np.array([NAN]), out=out)
    assert out[0] == expected


def test_complex_numbers_carry_a_derivative() -> None:
    b = Builder()
    x = b.load("x", 0)
    y = b.apply("max", b.apply("mul", x, b.apply("exp", x)), b.apply("abs", b.apply("neg", x)))
    b.store("out", 0, y)
    out = np.zeros(1, complex)
    evaluate(b.tape("t", "x", "out"), x=np.array([0.5 + 1e-30j]), out=out)
    assert out[0].imag / 1e-30 == pytest.approx(1.5 * math.exp(0.5), rel=1e-15)  # (x e^x)' = (1 + x) e^x


def test_a_tape_can_be_read() -> None:
    b = Builder()
    b.store("f", 0, b.apply("mul", b.load("y", 0), b.const(2.5)))
    text = str(b.tape("rhs", "y", "f"))
    assert text.splitlines()[0] == "rhs(y, f)"
    assert "mul    0 1" in text and text.endswith("f[0] = 2")
