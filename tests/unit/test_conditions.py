"""Conditions in formulas and events: and, or, not, and the functions of angles and whole numbers."""

from __future__ import annotations

import math

import pytest
import sympy as sp

from pkmodel.checks import check
from pkmodel.composition import join
from pkmodel.errors import ExpressionError
from pkmodel.expressions import evaluate, parse, parse_condition, symbol, to_text
from pkmodel.model import Model
from pkmodel.model_file import model_from_dict

KNOWN = ["x", "y"]


@pytest.mark.parametrize(
    "text",
    ["x < 1 and y > 2", "x < 1 or not (y > 2 and x > 0)", "not (x < 1 or y < 2) or t >= 3", "x <= 1 and x >= 1"],
)
def test_a_condition_survives_text(text: str) -> None:
    condition = parse_condition(text, KNOWN, "here")
    assert parse_condition(to_text(condition), KNOWN, "here") == condition


def test_equality_is_written_as_two_comparisons() -> None:
    assert to_text(sp.Eq(symbol("x"), symbol("y"))) == "(x <= y) and (x >= y)"
    assert parse_condition(to_text(sp.true), [], "here") == sp.true


@pytest.mark.parametrize("text", ["x", "x + 1", "where(x < 1, 1, 0)", "x and y < 1", "not x", "x < y < 1", "x == 1"])
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_condition(text, KNOWN, "here")


@pytest.mark.parametrize("name", ["sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "floor", "ceil"])
def test_functions(name: str) -> None:
    expression = parse(f"2*{name}(x)", KNOWN, "here")
    assert evaluate(expression, {"x": 0.3}) == pytest.approx(2 * getattr(math, name)(0.3), rel=1e-14)
    assert parse(to_text(expression), KNOWN, "here") == expression


def model(when: str, new: str, delay: str = "0", law: str = "k*a") -> Model:
    raw = {
        "name": "m", "parameters": {"k": "0.1 1/h", "V": "2 L"}, "compartments": {"a": "nmol"},
        "flows": [f"a -> : {law}"],
        "events": [{"when": when, "set": {"a": new}, "delay": delay}],
    }  # fmt: skip
    return model_from_dict(raw)


def test_units_of_events_and_of_conditions_in_logic() -> None:
    assert check(model("t > 1/k", "2*a", "1/k")).findings[0].ok
    hidden = model("t > 1/k", "2*a", law="k*a*where(t*k < 1 and a > V, 1, 2)")
    assert "different dimensions" in check(hidden).findings[0].detail
    for when, new, delay, words in (
        ("a < V", "a", "0", "a"),
        ("k < 1/t", "V", "0", "length"),
        ("k < 1/t", "a", "V", "delay"),
    ):
        finding = check(model(when, new, delay)).findings[0]
        assert not finding.ok
        assert words in finding.detail


def test_joined_models_keep_their_events() -> None:
    one, other = model("t > 1/k", "a/2"), model("t > 2/k", "a/3")
    assert len(join(one, other).events) == 2
    assert len(join(one, one).events) == 1
