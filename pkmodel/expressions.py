"""Formula text to SymPy through a whitelist on Python's own syntax tree, and back to text or code.

Never `sympify`: that evaluates text as Python (``sympify("__import__('os')...")`` runs it) and turns names such as
``Q``, ``S``, ``N``, ``I``, ``E`` or ``beta`` into SymPy objects. Here a name is a name, and only arithmetic,
comparisons inside ``where`` and the functions of `FUNCTIONS` are let through.
"""

from __future__ import annotations

import ast
import keyword
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sympy as sp
from sympy.logic.boolalg import Boolean

from .errors import ExpressionError, did_you_mean

TIME = "t"  # the one reserved name: time since the first administration [h]
FUNCTIONS = (
    "exp", "log", "sqrt", "tanh", "abs", "min", "max", "where", "hill",
    "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "floor", "ceil",
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_LONGEST = 5000  # characters; a rate law that needs more is a mistake or an attack
_LARGEST_POWER = 64
_LARGEST_NUMBER = 300  # decimal exponent: what a double can hold

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: sp.Lt,
    ast.LtE: sp.Le,
    ast.Gt: sp.Gt,
    ast.GtE: sp.Ge,
}


def symbol(name: str) -> sp.Symbol:
    """The SymPy symbol of a name; every module takes it from here so that equal names are equal symbols."""
    return sp.Symbol(name, real=True)


def check_name(name: str, who: str) -> str:
    """Return `name` if it may name a part of a model.

    Raises
    ------
    ExpressionError
        It is not an identifier, is a Python keyword, or is reserved.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ExpressionError(f"{who}: {name!r} cannot be a name; allowed: a letter, then letters, digits and '_'")
    if keyword.iskeyword(name) or name in ("True", "False", "None"):
        raise ExpressionError(f"{who}: {name!r} is a Python keyword and cannot be a name; try {name + '_'!r}")
    if name == TIME or name in FUNCTIONS:
        raise ExpressionError(f"{who}: {name!r} is reserved (time and {', '.join(FUNCTIONS)}); choose another name")
    return name


def parse(text: str | float, known: Iterable[str], who: str) -> sp.Expr:
    """Read one formula.

    Parameters
    ----------
    text : str or number, e.g. ``"CL*plasma/V"`` [text]
    known : names that may occur; time ``t`` is always known [text]
    who : what the formula belongs to, named first in an error [text]

    Returns
    -------
    sympy.Expr
        Built from `symbol` objects and exact numbers.

    Raises
    ------
    ExpressionError
        The text is not a permitted formula or uses an unknown name.
    """
    result, source = _read(text, known, who)
    return _checked(result, source, who)


def parse_condition(text: str, known: Iterable[str], who: str) -> Boolean:
    """Read one condition, such as ``"t > 5 and plasma < 2"``, in the words of `parse`.

    Raises
    ------
    ExpressionError
        The text is not a condition or uses an unknown name.
    """
    result, source = _read(text, known, who)
    if isinstance(result, sp.Expr):
        raise ExpressionError(f"{who}: expected a condition such as 't > 5', found the value {source!r}")
    return result


def _read(text: str | float, known: Iterable[str], who: str) -> tuple[Any, str]:
    """A value or a condition from text, and the text."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ExpressionError(f"{who}: expected a formula as text, found {text!r}")
    source = str(text).strip()
    if len(source) > _LONGEST:
        raise ExpressionError(f"{who}: the formula has {len(source)} characters; at most {_LONGEST} are read")
    if "^" in source:
        raise ExpressionError(f"{who}: '^' in {source!r} is not a power here; write '**'")
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        words = [w for w in _NAME.findall(source) if keyword.iskeyword(w)]
        why = f"{words[0]!r} is a Python keyword and cannot be a name" if words else getattr(error, "msg", str(error))
        raise ExpressionError(f"{who}: {source!r} is not a formula ({why})") from None
    names = {TIME, *known}
    try:
        return _walk(tree.body, names, source, who), source
    except RecursionError:
        raise ExpressionError(f"{who}: {source[:60]!r}... is nested too deeply") from None
    except (TypeError, ValueError, ArithmeticError) as error:  # what sympy cannot combine
        raise ExpressionError(f"{who}: {source!r} is not a formula ({error})") from None


def _checked(result: Any, source: str, who: str) -> sp.Expr:
    """The value of a formula or of a part of one; conditions, infinities and complex numbers are refused."""
    if not isinstance(result, sp.Expr):  # a comparison is not
        raise ExpressionError(f"{who}: a condition in {source!r} is not a value; use where(condition, a, b)")
    if result.has(sp.zoo, sp.nan, sp.oo, -sp.oo):
        raise ExpressionError(f"{who}: {source!r} divides by zero")
    if result.has(sp.I):
        raise ExpressionError(f"{who}: {source!r} is not a real number")
    if result.is_number and result != 0:
        # Parts were checked before, so this costs little: a tower such as exp(exp(exp(100))) is never evaluated.
        if isinstance(result, sp.Rational):
            size = math.log10(abs(result.p)) - math.log10(result.q)
        else:
            size = float(sp.log(abs(result.evalf(15)), 10).evalf(15))
        if abs(size) > _LARGEST_NUMBER:
            raise ExpressionError(f"{who}: a number of size 1e{size:.3g} in {source[:60]!r} cannot be computed with")
    return result


def _walk(node: ast.AST, known: set[str], source: str, who: str) -> Any:
    """One node of the syntax tree as SymPy; a condition comes back as such."""

    def value(part: ast.AST) -> sp.Expr:
        return _checked(_walk(part, known, source, who), source, who)

    def condition(part: ast.AST) -> Boolean:
        found = _walk(part, known, source, who)
        if isinstance(found, sp.Expr):
            raise ExpressionError(f"{who}: {ast.unparse(part)!r} in {source!r} is a value, not a condition")
        return found

    def factors(part: ast.AST) -> list[sp.Expr]:
        """A chain of products at once: pairwise, SymPy would multiply 2*(a + b)*(c + d) out in part."""
        match part:
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return factors(left) + factors(right)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return factors(left) + [1 / f for f in factors(right)]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return [sp.Integer(-1), *factors(operand)]
            case _:
                return [value(part)]

    def refuse(what: str) -> ExpressionError:
        return ExpressionError(
            f"{who}: {what} in {source!r} is not allowed; a formula may use + - * / **, numbers, names, "
            f"comparisons inside where(), and {', '.join(FUNCTIONS)}"
        )

    match node:
        case ast.Constant(value=bool()):
            raise refuse(f"{node.value!r}")
        case ast.Constant(value=int() | float() as number):
            if not abs(number) < 10**_LARGEST_NUMBER:
                raise refuse("a number this large")
            # Numbers as written, so that a proof such as mass balance is exact and 0.1 stays 1/10.
            return sp.Rational(str(number))
        case ast.Constant():
            raise refuse(f"the constant {node.value!r}")
        case ast.Name(id=name):
            if name in known:
                return symbol(name)
            hint = did_you_mean(name, known)
            listed = ", ".join(sorted(known)) or "nothing"
            raise ExpressionError(f"{who}: {name!r} in {source!r} is not known{hint}; known: {listed}")
        case ast.UnaryOp(op=ast.USub()) | ast.BinOp(op=ast.Mult() | ast.Div()):
            return sp.Mul(*factors(node))
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return value(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            base, power = value(left), value(right)
            if power.is_number and not (isinstance(power, sp.Rational) and abs(power) <= _LARGEST_POWER):
                raise refuse(f"the power {to_text(power)[:40]}")
            return base**power
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return value(left) + value(right)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return sp.Add(value(left), sp.Mul(-1, *factors(right)))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
            return _COMPARISONS[type(op)](value(left), value(right))
        case ast.BoolOp(op=op, values=parts):
            return (sp.And if isinstance(op, ast.And) else sp.Or)(*(condition(part) for part in parts))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return sp.Not(condition(operand))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            if any(isinstance(a, ast.Starred) for a in args):
                raise refuse("'*'")
            return _call(name, [_walk(a, known, source, who) for a in args], source, who)
        case ast.Call(func=ast.Name(id=name)):
            raise refuse(f"the call {name}(...)")
        case ast.Call():
            raise refuse("a call of this kind")
        case ast.Attribute(attr=attr):
            raise refuse(f"the attribute '.{attr}'")
        case ast.Subscript():
            raise refuse("a subscript")
        case _:
            raise refuse(type(node).__name__)


def _call(name: str, args: list[Any], source: str, who: str) -> Any:
    wanted = {"min": (2, 8), "max": (2, 8), "where": (3, 3), "hill": (3, 3)}.get(name, (1, 1))
    if not wanted[0] <= len(args) <= wanted[1]:
        many = f"{wanted[0]}" if wanted[0] == wanted[1] else f"{wanted[0]} to {wanted[1]}"
        raise ExpressionError(f"{who}: {name}() in {source!r} takes {many} arguments, found {len(args)}")
    for a in args[1:] if name == "where" else args:
        _checked(a, source, who)
    match name:
        case "where":
            condition, yes, no = args
            if isinstance(condition, sp.Expr):
                raise ExpressionError(f"{who}: where() in {source!r} needs a comparison first, e.g. where(t < 5, a, b)")
            return sp.Piecewise((yes, condition), (no, True))
        case "hill":  # hill(x, k, n) = x^n / (k^n + x^n), in x/k so that n may be any real number
            x, k, n = args
            # below zero, where a solver may step by a rounding error, a broken power would not be a number
            ratio = (x if n.is_Integer else sp.Max(0, x)) / k
            return ratio**n / (1 + ratio**n)
        case "min":
            return sp.Min(*args)
        case "max":
            return sp.Max(*args)
        case "abs":
            return sp.Abs(*args)
        case "ceil":
            return sp.ceiling(*args)
        case _:
            return getattr(sp, name)(*args)


def to_text(expression: sp.Expr | Boolean) -> str:
    """Write a formula or condition so that `parse` or `parse_condition` reads it back to the same expression."""
    return str(_TextPrinter().doprint(expression))


class _TextPrinter(sp.printing.str.StrPrinter):  # type: ignore[misc]  # sympy has no type information
    def _print_Exp1(self, e: sp.Expr) -> str:
        return "exp(1)"  # not E, which may be anyone's parameter

    def _print_Min(self, e: sp.Min) -> str:
        return f"min({', '.join(self._print(a) for a in e.args)})"

    def _print_Max(self, e: sp.Max) -> str:
        return f"max({', '.join(self._print(a) for a in e.args)})"

    def _print_Abs(self, e: sp.Abs) -> str:
        return f"abs({self._print(e.args[0])})"

    def _print_Piecewise(self, e: sp.Piecewise) -> str:
        text = self._print(e.args[-1][0])
        for value, condition in reversed(e.args[:-1]):
            text = f"where({self._print(condition)}, {self._print(value)}, {text})"
        return str(text)

    def _print_ceiling(self, e: sp.Expr) -> str:
        return f"ceil({self._print(e.args[0])})"

    def _print_Relational(self, e: Any) -> str:
        return f"{self._print(e.lhs)} {e.rel_op} {self._print(e.rhs)}"

    def _print_Equality(self, e: Any) -> str:  # as the language has no "==": numbers that are computed are seldom equal
        a, b = self._print(e.lhs), self._print(e.rhs)
        return f"({a} <= {b}) and ({a} >= {b})"

    def _print_Unequality(self, e: Any) -> str:
        a, b = self._print(e.lhs), self._print(e.rhs)
        return f"({a} < {b}) or ({a} > {b})"

    def _print_And(self, e: Any) -> str:
        return " and ".join(f"({self._print(a)})" for a in sorted(e.args, key=str))

    def _print_Or(self, e: Any) -> str:
        return " or ".join(f"({self._print(a)})" for a in sorted(e.args, key=str))

    def _print_Not(self, e: Any) -> str:
        return f"not ({self._print(e.args[0])})"

    def _print_BooleanTrue(self, e: Any) -> str:
        return "0 < 1"

    def _print_BooleanFalse(self, e: Any) -> str:
        return "1 < 0"


def evaluate(expression: sp.Expr, values: Mapping[str, float]) -> float:
    """Number of an expression at given values of its symbols."""
    return float(expression.subs({symbol(n): v for n, v in values.items()}))
