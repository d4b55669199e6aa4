"""Formulas of an SBML file as SymPy: each node of the parsed MathML is rebuilt by hand, nothing is evaluated as code.

The result uses only what every back end can compute: arithmetic, powers, exp, log, sin, cos, tan and their inverses,
sinh, cosh, tanh, abs, floor, ceiling, min, max, comparisons, logic and piecewise. Rarer functions are written with
these, e.g. arcsinh(x) = log(x + sqrt(x**2 + 1)).

Truth values and numbers stand for each other as in SBML Level 3 Version 2, section 3.4.9: true is 1, and a number
is true where it is not 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import sympy as sp
from sympy.logic.boolalg import Boolean

from ..errors import ModelError
from ..expressions import TIME, symbol

AVOGADRO = sp.Rational("6.02214179e23")  # the value that SBML Level 3 prescribes, not the present CODATA one
RATE_OF = "rateOf "  # names of symbols that stand for d(id)/dt; a space cannot occur in an SBML id
_LARGEST_FACTORIAL = 170  # beyond it a double overflows
_LARGEST_EXPONENT = 300  # decimal

type Math = Any  # a SymPy expression or truth value; sympy has no type information


@dataclass(frozen=True, slots=True)
class Function:
    """A function definition: names of its arguments, and its body as a libsbml node (None: no formula given)."""

    arguments: tuple[str, ...]
    body: Any


@dataclass(frozen=True, slots=True)
class Scope:
    """What the names in a formula mean, and how an error calls the formula."""

    who: str
    names: Mapping[str, Math]
    functions: Mapping[str, Function]


def number(value: float) -> sp.Expr:
    """An exact number, as written: 0.1 is 1/10."""
    return sp.Rational(repr(float(value))) if math.isfinite(value) else sp.Float(value)


def is_truth(x: Math) -> bool:
    """Whether it is true or false (for SymPy a bare symbol could be either; here it is a number)."""
    return isinstance(x, Boolean) and not isinstance(x, sp.Expr)


def as_number(x: Math) -> sp.Expr:
    """A truth value as 1 or 0, a number as itself."""
    if x in (sp.true, sp.false):
        return sp.Integer(int(bool(x)))
    return sp.Piecewise((1, x), (0, True)) if is_truth(x) else x


def as_truth(x: Math) -> Boolean:
    """A number as the condition that it is not 0, a truth value as itself."""
    return _without_choices(x if is_truth(x) else sp.Ne(x, 0))


def _without_choices(x: Math) -> Math:
    """A condition in and, or, not: SymPy makes an if-then-else of conditions out of a piecewise in a condition."""
    return x.replace(sp.ITE, lambda c, a, b: (c & a) | (~c & b)) if x.has(sp.ITE) else x


def to_sympy(node: Any, scope: Scope) -> Math:
    """One formula.

    Parameters
    ----------
    node : libsbml.ASTNode
    scope : names and functions known where the formula stands

    Raises
    ------
    ModelError
        The formula uses an unknown name or a function that is not supported.
    """
    try:
        return _Walk(scope).math(node)
    except RecursionError:
        raise ModelError(f"{scope.who}: the formula is nested too deeply to be read") from None


def _chain(relation: Callable[[Any, Any], Any]) -> Callable[[Sequence[Math]], Boolean]:
    """A comparison of two or more: a < b < c means a < b and b < c."""

    def compare(args: Sequence[Math]) -> Boolean:
        x = [as_number(a) for a in args]
        return sp.And(*(relation(a, b) for a, b in pairwise(x)))

    return compare


def _equal(args: Sequence[Math]) -> Boolean:
    if all(map(is_truth, args)):
        return sp.And(*(_same(a, b) for a, b in pairwise(args)))
    return _chain(sp.Eq)(args)


def _same(a: Boolean, b: Boolean) -> Boolean:
    return sp.Or(sp.And(a, b), sp.And(sp.Not(a), sp.Not(b)))


def _xor(args: Sequence[Math]) -> Boolean:
    result: Boolean = sp.false
    for a in map(as_truth, args):
        result = sp.Not(_same(result, a))
    return result


def _truncated(a: sp.Expr, b: sp.Expr) -> sp.Expr:
    """a/b without its fraction, towards zero."""
    return sp.Piecewise((sp.floor(a / b), a / b >= 0), (sp.ceiling(a / b), True))


def _power(x: sp.Expr, n: sp.Expr) -> sp.Expr:
    """x**n; a tower of numbers that no double can hold is not begun."""
    numbers = x.is_Rational and n.is_Rational and abs(x) not in (0, 1)
    if numbers and abs(n) * abs(math.log10(abs(x.p)) - math.log10(x.q)) > _LARGEST_EXPONENT:
        raise TypeError
    return x**n


# Functions of numbers by the name that libsbml gives them.
_FUNCTIONS: dict[str, Callable[..., sp.Expr]] = {
    "abs": sp.Abs,
    "ceil": sp.ceiling,
    "floor": sp.floor,
    "exp": sp.exp,
    "ln": sp.log,
    "sin": sp.sin,
    "cos": sp.cos,
    "tan": sp.tan,
    "sec": lambda x: 1 / sp.cos(x),
    "csc": lambda x: 1 / sp.sin(x),
    "cot": lambda x: sp.cos(x) / sp.sin(x),
    "sinh": sp.sinh,
    "cosh": sp.cosh,
    "tanh": sp.tanh,
    "sech": lambda x: 1 / sp.cosh(x),
    "csch": lambda x: 1 / sp.sinh(x),
    "coth": lambda x: 1 / sp.tanh(x),
    "asin": sp.asin,
    "acos": sp.acos,
    "atan": sp.atan,
    "arcsec": lambda x: sp.acos(1 / x),
    "arccsc": lambda x: sp.asin(1 / x),
    "arccot": lambda x: sp.atan(1 / x),
    "arcsinh": lambda x: sp.log(x + sp.sqrt(x**2 + 1)),
    "arccosh": lambda x: sp.log(x + sp.sqrt(x - 1) * sp.sqrt(x + 1)),
    "arctanh": lambda x: sp.log((1 + x) / (1 - x)) / 2,
    "arcsech": lambda x: sp.log(1 / x + sp.sqrt(1 / x - 1) * sp.sqrt(1 / x + 1)),
    "arccsch": lambda x: sp.log(1 / x + sp.sqrt(1 / x**2 + 1)),
    "arccoth": lambda x: sp.log((x + 1) / (x - 1)) / 2,
    "pow": _power,
    "log": lambda base, x: sp.log(x) / sp.log(base),
    "root": lambda degree, x: x ** (1 / degree),
    "min": sp.Min,
    "max": sp.Max,
    "quotient": _truncated,
    "rem": lambda a, b: a - b * _truncated(a, b),
    "plus": lambda *x: sp.Add(*x),
    "times": lambda *x: sp.Mul(*x),
    "minus": lambda *x: -x[0] if len(x) == 1 else sp.Add(x[0], *(-y for y in x[1:])),
    "divide": lambda a, b: a / b,
}
_LOGIC: dict[str, Callable[[Sequence[Math]], Boolean]] = {
    "and": lambda x: sp.And(*map(as_truth, x)),
    "or": lambda x: sp.Or(*map(as_truth, x)),
    "xor": _xor,
    "not": lambda x: sp.Not(as_truth(x[0])),
    "implies": lambda x: sp.Or(sp.Not(as_truth(x[0])), as_truth(x[1])),
    "eq": _equal,
    "neq": lambda x: sp.Not(_equal(x)),
    "lt": _chain(sp.Lt),
    "leq": _chain(sp.Le),
    "gt": _chain(sp.Gt),
    "geq": _chain(sp.Ge),
}
# Where libsbml's constants (after AST_, FUNCTION_, RELATIONAL_, LOGICAL_) differ from the names above.
_SPELLING = {
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "ceiling": "ceil",
    "power": "pow",
}


def _kinds() -> dict[int, str]:
    """Number of a node type -> its name here."""
    import libsbml

    out = {}
    for constant in dir(libsbml):
        if constant.startswith("AST_") and isinstance(getattr(libsbml, constant), int):
            name = constant.removeprefix("AST_").lower()
            for group in ("function_", "relational_", "logical_"):
                name = name.removeprefix(group)
            if constant != "AST_FUNCTION":
                out[getattr(libsbml, constant)] = _SPELLING.get(name, name)
            else:
                out[getattr(libsbml, constant)] = "call"
    return out


_KINDS: dict[int, str] = {}


class _Walk:
    """Rebuilds one tree; `who` is named in every error."""

    def __init__(self, scope: Scope) -> None:
        if not _KINDS:
            _KINDS.update(_kinds())
        self.scope = scope

    def fail(self, what: str, advice: str = "") -> ModelError:
        return ModelError(f"{self.scope.who}: {what} is not supported" + (f"; {advice}" if advice else ""))

    def math(self, node: Any) -> Math:
        kind = _KINDS.get(node.getType(), "unknown")
        if kind == "integer":
            return sp.Integer(node.getInteger())
        if kind in ("real", "real_e"):
            value = node.getReal()
            if not math.isfinite(value):
                raise self.fail(f"the number {value}", "write a finite one")
            return number(value)
        if kind == "rational":
            return sp.Rational(node.getNumerator(), node.getDenominator())
        if kind == "name":
            return self.name(node.getName())
        if kind == "name_time":
            return symbol(TIME)
        if kind == "name_avogadro":
            return AVOGADRO
        if kind in ("constant_e", "constant_pi", "constant_true", "constant_false"):
            return {"e": sp.E, "pi": sp.pi, "true": sp.true, "false": sp.false}[kind.removeprefix("constant_")]
        children = [node.getChild(i) for i in range(node.getNumChildren())]
        if kind == "piecewise":
            return self.piecewise(children)
        if kind == "call":
            return self.call(node.getName(), [self.math(c) for c in children])
        if kind == "rate_of":
            return self.rate_of(children)
        if kind == "delay":
            raise self.fail("the delay of a value (csymbol delay)", "rewrite it as a chain of transit compartments")
        args = [self.math(c) for c in children]
        if kind in _LOGIC:
            return _LOGIC[kind](args)
        if kind == "factorial":
            return self.factorial(as_number(args[0]))
        if kind in _FUNCTIONS:
            if len(args) == 1 and kind in ("root", "log"):  # a square root, a logarithm to base ten
                args = [sp.Integer(2 if kind == "root" else 10), *args]
            try:
                result = _FUNCTIONS[kind](*map(as_number, args))
            except TypeError:
                raise self.fail(f"{kind}({', '.join(map(str, args))})") from None
            if result.has(sp.zoo, sp.nan, sp.I):
                raise self.fail(f"{kind}({', '.join(map(str, args))}), which is no real number,")
            return result
        raise self.fail(f"the construct {node.getName() or kind!r}")

    def name(self, name: str) -> Math:
        found = self.scope.names.get(name)
        if found is None:
            raise ModelError(f"{self.scope.who}: {name!r} is used but not defined in the file")
        return found

    def piecewise(self, children: Sequence[Any]) -> Math:
        args = [self.math(c) for c in children]
        pairs = [(args[i], as_truth(args[i + 1])) for i in range(0, len(args) - 1, 2)]
        if len(args) % 2 == 0:
            if not pairs or pairs[-1][1] != sp.true:
                raise self.fail("piecewise without otherwise", "its value is undefined where no condition holds")
            otherwise = pairs.pop()[0]
        else:
            otherwise = args[-1]
        if all(map(is_truth, (otherwise, *(v for v, _ in pairs)))):
            result = otherwise
            for value, condition in reversed(pairs):
                result = sp.Or(sp.And(condition, value), sp.And(sp.Not(condition), result))
            return result
        return _without_choices(sp.Piecewise(*((as_number(v), c) for v, c in pairs), (as_number(otherwise), True)))

    def call(self, name: str, args: Sequence[Math]) -> Math:
        function = self.scope.functions.get(name)
        if function is None:
            raise ModelError(f"{self.scope.who}: function {name!r} is called but not defined in the file")
        if function.body is None:
            raise self.fail(f"function {name!r}, which has no formula,")
        if len(args) != len(function.arguments):
            raise ModelError(
                f"{self.scope.who}: function {name!r} takes {len(function.arguments)} arguments, found {len(args)}"
            )
        inside = Scope(
            f"{self.scope.who}: function {name}",
            dict(zip(function.arguments, args, strict=True)),
            self.scope.functions,
        )
        return _Walk(inside).math(function.body)

    def rate_of(self, children: Sequence[Any]) -> Math:
        if len(children) != 1 or _KINDS.get(children[0].getType()) != "name":
            raise self.fail("rateOf of anything but one name")
        of = self.name(children[0].getName())
        if not isinstance(of, sp.Symbol):
            raise self.fail(f"rateOf({of})")
        return symbol(RATE_OF + of.name)

    def factorial(self, x: sp.Expr) -> sp.Expr:
        if not (x.is_Integer and 0 <= x <= _LARGEST_FACTORIAL):
            raise self.fail(f"the factorial of {x}", f"only whole numbers from 0 to {_LARGEST_FACTORIAL} can be taken")
        return sp.factorial(x)
