"""Derivatives as the kernels need them: finite at an empty compartment, one-sided at a kink, real throughout.

SymPy's own are right but not fit to be computed with: it writes d/dx (x/k)^n as n (x/k)^n / x, which is 0/0 in an
empty compartment; it counts both branches of min(x, y) where they meet; and for |f| of an f that might be complex it
returns what no kernel can evaluate.
"""

from __future__ import annotations

from functools import lru_cache

import sympy as sp

from ..sharing import symbols_of
from .powers import OneSided


@lru_cache(maxsize=65536)
def derivative(e: sp.Expr, s: sp.Symbol) -> sp.Expr:
    """Derivative of an expression of a model by one of its symbols.

    Parameters
    ----------
    e : built from what `expressions.parse` lets through
    s : the symbol to differentiate by

    Returns
    -------
    sympy.Expr
        At a kink of min, max or abs, the slope of the first branch that attains the value.
    """
    if s not in symbols_of(e):
        return sp.Integer(0)
    if e == s:
        return sp.Integer(1)
    if isinstance(e, sp.Add):
        return sp.Add(*(derivative(a, s) for a in e.args))
    if isinstance(e, sp.Mul):
        return sp.Add(*(sp.Mul(*e.args[:i], derivative(a, s), *e.args[i + 1 :]) for i, a in enumerate(e.args)))
    if isinstance(e, sp.Pow):
        return _of_power(e.base, e.exp, s)
    if isinstance(e, OneSided):
        return _of_one_sided(e, s)
    if isinstance(e, sp.Min | sp.Max):
        first, *others = e.args
        rest = e.func(*others)
        wins = sp.Le(first, rest) if isinstance(e, sp.Min) else sp.Ge(first, rest)
        return sp.Piecewise((derivative(first, s), wins), (derivative(rest, s), True))
    if isinstance(e, sp.Abs):
        inside = derivative(e.args[0], s)
        return sp.Piecewise((inside, sp.Ge(e.args[0], 0)), (-inside, True))
    if isinstance(e, sp.Piecewise):
        return sp.Piecewise(*((derivative(value, s), condition) for value, condition in e.args))
    if isinstance(e, sp.floor | sp.ceiling):
        return sp.Integer(0)
    return _of_function(e, s)


def _of_power(base: sp.Expr, power: sp.Expr, s: sp.Symbol) -> sp.Expr:
    result = power * base ** (power - 1) * derivative(base, s)
    slope = derivative(power, s)
    if slope != 0:  # b^n log b tends to zero with b
        result += slope * sp.Piecewise((base**power * sp.log(base), sp.Gt(base, 0)), (0, True))
    return result


def _of_one_sided(e: OneSided, s: sp.Symbol) -> sp.Expr:
    base, power = e.args
    result = power * e.slope * derivative(base, s)
    by_power = derivative(power, s)
    if by_power != 0:
        result += by_power * sp.Piecewise((base**power * sp.log(base), sp.Gt(base, 0)), (0, True))
    return result


def _of_function(e: sp.Expr, s: sp.Symbol) -> sp.Expr:
    """exp, log, tanh, sin and their like: the chain rule."""
    inside = sp.Dummy("x", real=True)
    outer = sp.diff(e.func(inside), inside).xreplace({inside: e.args[0]})
    return outer * derivative(e.args[0], s)
