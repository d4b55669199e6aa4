"""Conditions on time alone, such as ``t > 10``: moments at which a system changes, which a solver must not step over.

Between two steps a solver knows nothing of a pulse that begins and ends there; no error estimate can see it. Where a
condition compares time with what parameters say, s (t - T(p)) > 0, its moment T is known beforehand. Then a parameter
that is 0 before T and 1 from T on takes the place of the comparison, and a record switches it: the solver stops there
exactly, rounding of its clock decides nothing, and the rates on both sides of T, which the derivative by T needs, are
those of two values of a parameter.

A condition on a state, on a function of time that is not linear (``sin(t) > 0``), or an equality is left as it is: the
solver meets it by its error control only.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp
from sympy.core.relational import Relational
from sympy.logic.boolalg import Boolean

from ..expressions import TIME, symbol
from ..sharing import parts_of, substitute
from .derivative import derivative
from .system import System

_HALF = sp.Rational(1, 2)
_ORDERED = (sp.StrictGreaterThan, sp.GreaterThan, sp.StrictLessThan, sp.LessThan)


@dataclass(frozen=True, slots=True)
class Switch:
    """A moment at which conditions on time change.

    Parameters
    ----------
    past : parameter, 0 before the moment and 1 from it on
    moment : T, of primary parameters [h]
    conditions : comparisons, and what each of them is in terms of `past`
    """

    past: sp.Symbol
    moment: sp.Expr
    conditions: tuple[tuple[Relational, Boolean], ...]


def switches(system: System) -> tuple[Switch, ...]:
    """Moments of a system, of its rates and observables.

    Parameters
    ----------
    system : equations of a model
    """
    clock, still = symbol(TIME), {symbol(n) for n in system.parameters}
    found: dict[sp.Expr, list[tuple[Relational, sp.Expr]]] = {}
    relations = {r for r in parts_of(*system.rates, *system.observed) if isinstance(r, _ORDERED)}
    for relation in sorted(relations, key=str):
        gap = relation.gts - relation.lts
        if clock not in gap.free_symbols or gap.free_symbols - still - {clock}:
            continue
        slope = sp.expand(derivative(gap, clock))
        if slope != 0 and clock not in slope.free_symbols and not gap.atoms(sp.Piecewise, sp.Abs, sp.Min, sp.Max):
            moment = sp.expand(-gap.xreplace({clock: sp.Integer(0)}) / slope)
            found.setdefault(moment, []).append((relation, slope))
    out = []
    for moment, alike in found.items():
        past = symbol(f"past {moment}")
        out.append(Switch(past, moment, tuple((r, _after(past, slope)) for r, slope in alike)))
    return tuple(out)


def _after(past: sp.Symbol, slope: sp.Expr) -> Boolean:
    """slope (t - T) > 0 in terms of `past`."""
    yes, no = sp.Gt(past, _HALF), sp.Lt(past, _HALF)
    if slope.is_number:
        return yes if slope > 0 else no
    return sp.Or(sp.And(yes, sp.Ge(slope, 0)), sp.And(no, sp.Lt(slope, 0)))


def switch(e: sp.Expr, found: tuple[Switch, ...]) -> sp.Expr:
    """An expression with parameters in the place of its conditions on time.

    Parameters
    ----------
    e : a rate or an observable
    found : of its system
    """
    return substitute(e, {relation: condition for s in found for relation, condition in s.conditions})
