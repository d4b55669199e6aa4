"""SymPy to content MathML, the way back from `mathml`."""

from __future__ import annotations

import sympy as sp

from ..errors import ModelError
from ..expressions import TIME

_SPACE = "http://www.w3.org/1998/Math/MathML"
_SYMBOLS = "http://www.sbml.org/sbml/symbols/time"
_LONGEST = 2**31  # whole numbers beyond it are written as real ones

_FUNCTIONS: dict[str, str] = {
    "exp": "exp",
    "log": "ln",
    "sin": "sin",
    "cos": "cos",
    "tan": "tan",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "sinh": "sinh",
    "cosh": "cosh",
    "tanh": "tanh",
    "Abs": "abs",
    "floor": "floor",
    "ceiling": "ceiling",
    "Min": "min",
    "Max": "max",
    "Add": "plus",
    "And": "and",
    "Or": "or",
    "Not": "not",
    "StrictLessThan": "lt",
    "LessThan": "leq",
    "StrictGreaterThan": "gt",
    "GreaterThan": "geq",
    "Equality": "eq",
    "Unequality": "neq",
}


def mathml(expression: sp.Basic) -> str:
    """One formula or condition as a ``<math>`` element.

    Raises
    ------
    ModelError
        It contains what MathML has no word for.
    """
    return f'<math xmlns="{_SPACE}">{_write(expression)}</math>'


def _write(e: sp.Basic) -> str:
    if isinstance(e, sp.Symbol):
        if e.name == TIME:
            return f'<csymbol encoding="text" definitionURL="{_SYMBOLS}">time</csymbol>'
        return f"<ci>{e.name}</ci>"
    if e in (sp.true, sp.false):
        return f"<{str(bool(e)).lower()}/>"
    if e == sp.pi:
        return "<pi/>"
    if e == sp.E:
        return "<exponentiale/>"
    if isinstance(e, sp.Integer | sp.Rational | sp.Float):
        return _number(e)
    if isinstance(e, sp.Mul):
        return _product(e)
    if isinstance(e, sp.Pow):
        base, power = e.args
        if power == sp.Rational(1, 2):
            return _apply("root", base)
        if power.is_Rational and power < 0:
            return _apply("divide", sp.Integer(1), base ** (-power))
        return _apply("power", base, power)
    if isinstance(e, sp.Piecewise):
        return _piecewise(e)
    name = e.func.__name__
    if name in _FUNCTIONS:
        return _apply(_FUNCTIONS[name], *e.args)
    raise ModelError(f"SBML: {e}: {name} cannot be written as MathML")


def _apply(operator: str, *args: sp.Basic) -> str:
    return f"<apply><{operator}/>{''.join(map(_write, args))}</apply>"


def _number(x: sp.Expr) -> str:
    if isinstance(x, sp.Integer) and abs(x) < _LONGEST:
        return f'<cn type="integer">{x}</cn>'
    short = repr(float(x))
    if isinstance(x, sp.Rational) and sp.Rational(short) != x and max(abs(x.p), x.q) < _LONGEST:
        return f'<cn type="rational">{x.p}<sep/>{x.q}</cn>'
    mantissa, e, exponent = short.partition("e")
    return f'<cn type="e-notation">{mantissa}<sep/>{int(exponent)}</cn>' if e else f"<cn>{mantissa}</cn>"


def _product(e: sp.Mul) -> str:
    """Factors above and below the line."""
    above: list[sp.Expr] = []
    below: list[sp.Expr] = []
    for factor in e.args:
        base, power = factor.as_base_exp()
        if power.is_Rational and power < 0 and not base.is_number:
            below.append(base ** (-power))
        else:
            above.append(factor)
    top = _apply("times", *above) if len(above) > 1 else _write(above[0] if above else sp.Integer(1))
    if not below:
        return top
    bottom = _apply("times", *below) if len(below) > 1 else _write(below[0])
    return f"<apply><divide/>{top}{bottom}</apply>"


def _piecewise(e: sp.Piecewise) -> str:
    parts = [
        f"<otherwise>{_write(v)}</otherwise>" if c == sp.true else f"<piece>{_write(v)}{_write(c)}</piece>"
        for v, c in e.args
    ]
    return f"<piecewise>{''.join(parts)}</piecewise>"
