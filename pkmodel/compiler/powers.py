r"""Powers of what moves, for a solver that steps a rounding error below zero and begins in an empty compartment.

An amount never is negative, its numerical solution is, by an error. There x^g is no number unless g is whole, and
at x = 0 its slope g x^(g-1) is infinite for g < 1: either spoils a step. So a power with a positive exponent that is
not whole is one-sided,

.. math:: x_+^g = \begin{cases} x^g & x > 0 \\ 0 & x \le 0 \end{cases}, \qquad
   \frac{d x_+^g}{dx} = \begin{cases} g \min(x^{g-1}, S) & x > 0 \\ 0 & x \le 0 \end{cases},

continuous for each g > 0, with S acting for g < 1 only. Zero is the right slope of an empty compartment that stays
empty, and one that fills leaves zero within its first step. The bound `STEEPEST` on the slope, S = 1e8, is reached
where x < S^(-1/(1-g)), 1e-16 for a square root; there J is not the Jacobian, which costs order where x^g < 1e-8 and
keeps the LU within 1e10, its limit for a fixed order of pivots. Values are never changed by it.

Whole exponents stay ordinary powers, also when they are parameters whose value is known only when solving:
(-2)^n = 4 for n = 2, as a variable of SBML may need. Exponents that are negative, or that move, keep the meaning of C's
`pow`: a pole at zero, and no number below it.
"""

from __future__ import annotations

from collections.abc import Iterable

import sympy as sp
from sympy.logic.boolalg import Boolean

from ..sharing import parts_of, symbols_of

STEEPEST = 10**8  # S


class OneSided(sp.Function):  # type: ignore[misc]  # sympy has no type information
    """x_+^g of a base x and an exponent g that stands still."""

    nargs = 2
    is_real = True

    @property
    def written(self) -> sp.Expr:
        """The value in terms that any printer knows; NaN stays NaN."""
        base, power = self.args
        return sp.Piecewise((0, _vanishes(base, power)), (base**power, True))

    @property
    def slope(self) -> sp.Expr:
        """min(x^(g-1), S), and zero at and below zero: the slope by the base without its factor g."""
        base, power = self.args
        steep = base ** (power - 1)
        beyond = sp.And(sp.Gt(power, 0), sp.Lt(power, 1), sp.Gt(steep, STEEPEST))
        return sp.Piecewise((0, _vanishes(base, power)), (STEEPEST, beyond), (steep, True))


def _vanishes(base: sp.Expr, power: sp.Expr) -> Boolean:
    """Where the power is zero and not what `pow` says."""
    if power.is_Rational:
        return sp.Le(base, 0)
    return sp.And(sp.Le(base, 0), sp.Gt(power, 0), sp.Ne(sp.floor(power), power))


def one_sided(e: sp.Expr, moving: Iterable[sp.Symbol]) -> sp.Expr:
    """An expression with its powers of what moves made one-sided.

    Parameters
    ----------
    e : of states, inputs, time and parameters
    moving : all of these but the parameters

    Returns
    -------
    sympy.Expr
        Equal to `e` wherever that is a real number, exponents that are whole, negative or moving left as they are.
    """
    moves = frozenset(moving)
    if not any(_moves(p, moves) for p in parts_of(e)):
        return e
    known: dict[sp.Basic, sp.Basic] = {}

    def rewritten(part: sp.Basic) -> sp.Basic:
        if not part.args:
            return part
        if part not in known:
            args = [rewritten(a) for a in part.args]
            if _moves(part, moves):
                known[part] = OneSided(*args)
            else:
                known[part] = part if all(a is b for a, b in zip(args, part.args, strict=True)) else part.func(*args)
        return known[part]

    return rewritten(e)


def _moves(part: sp.Basic, moving: frozenset[sp.Symbol]) -> bool:
    """Whether it is a power, not whole, of what moves."""
    return bool(part.is_Pow and _broken(part.exp, moving) and symbols_of(part.base) & moving)


def _broken(power: sp.Expr, moving: frozenset[sp.Symbol]) -> bool:
    """Whether an exponent stands still and may be positive without being whole."""
    if power.is_Rational:
        return bool(power > 0 and not power.is_Integer)
    return bool(symbols_of(power)) and not symbols_of(power) & moving


def written(e: sp.Expr) -> sp.Expr:
    """An expression without `OneSided`, for printers."""
    if not any(isinstance(part, OneSided) for part in parts_of(e)):
        return e
    return e.replace(OneSided, lambda *args: OneSided(*args).written)
