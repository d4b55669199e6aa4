"""The dimension of an expression, so that every rate, observable and formula can be checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import sympy as sp

from .errors import UnitError
from .expressions import TIME, to_text
from .model import Model
from .units import Dimension, canonical_unit, dimension

PURE = Dimension(())


def multiply(a: Dimension, b: Dimension, power: float = 1.0) -> Dimension:
    """Dimension of ``a * b**power``."""
    total = dict(a.exponents)
    for name, exponent in b.exponents:
        total[name] = total.get(name, 0.0) + power * exponent
    return Dimension(tuple(sorted((n, e) for n, e in total.items() if abs(e) > 1e-12)))


def symbol_dimensions(model: Model) -> dict[str, Dimension]:
    """Dimension of every name in a model."""
    out = {TIME: dimension("h")}
    out |= {n: dimension(p.unit, f"{model.who}: {n}") for n, p in model.parameters.items()}
    out |= {n: dimension(c.unit, f"{model.who}: {n}") for n, c in model.compartments.items()}
    out |= {n: dimension(i.unit, f"{model.who}: {n}") for n, i in model.inputs.items()}
    return out


def dimension_of(expression: sp.Expr, known: Mapping[str, Dimension], who: str) -> Dimension | None:
    """Dimension of an expression; None for zero, which fits any.

    Raises
    ------
    UnitError
        Terms of different dimensions are added, or a function gets something that is not a pure number.
    """
    if expression == 0:
        return None
    if expression.is_number:
        return PURE
    if isinstance(expression, sp.Symbol):
        return known[expression.name]
    if isinstance(expression, sp.Mul):
        total = PURE
        for factor in expression.args:
            part = dimension_of(factor, known, who)
            total = multiply(total, part if part is not None else PURE)
        return total
    if isinstance(expression, sp.Pow):
        base, power = expression.args
        inside = dimension_of(base, known, who)
        if not power.is_number:
            _pure(power, known, who)
            _pure(base, known, who)
            return PURE
        return multiply(PURE, inside if inside is not None else PURE, float(power))
    if isinstance(expression, sp.Add | sp.Min | sp.Max):
        return _same(list(expression.args), known, who, expression)
    if isinstance(expression, sp.Abs):
        return dimension_of(expression.args[0], known, who)
    if isinstance(expression, sp.Piecewise):
        for _, condition in expression.args:
            check_condition(condition, known, who)
        return _same([value for value, _ in expression.args], known, who, expression)
    for argument in expression.args:  # exp, log, tanh
        _pure(argument, known, who)
    return PURE


def check_condition(condition: sp.Basic, known: Mapping[str, Dimension], who: str) -> None:
    """Raise `UnitError` where a condition compares two numbers of different dimensions."""
    for relation in sorted(condition.atoms(sp.core.relational.Relational), key=str):
        _same([relation.lhs, relation.rhs], known, who, relation)


def _pure(expression: sp.Expr, known: Mapping[str, Dimension], who: str) -> None:
    found = dimension_of(expression, known, who)
    if found not in (None, PURE):
        raise UnitError(f"{who}: {to_text(expression)!r} must be a pure number, found {found}")


def _same(terms: list[sp.Expr], known: Mapping[str, Dimension], who: str, whole: sp.Basic) -> Dimension | None:
    result: Dimension | None = None
    first: sp.Expr | None = None
    for term in terms:
        found = dimension_of(term, known, who)
        if found is None:
            continue
        if result is None:
            result, first = found, term
        elif found != result:
            raise UnitError(
                f"{who}: in {to_text(whole)!r} the terms {to_text(first)!r} ({result}) and {to_text(term)!r} ({found}) "
                "have different dimensions"
            )
    return result


def infer_observable_units(model: Model) -> Model:
    """Fill in the unit of every observable and derived number that the file left open."""
    if all(o.unit for o in model.observables.values()):
        return model
    known = symbol_dimensions(model)
    observables = {}
    for name, o in model.observables.items():
        if not o.unit:
            names = {s.name for s in o.expression.free_symbols}
            plain = {c.unit for n, c in model.compartments.items() if n in names}
            found = dimension_of(o.expression, known, f"{model.who}: observable {name}") or PURE
            # keep the file's own spelling where the observable is a sum of compartments
            keep = [u for u in plain if dimension(u) == found]
            o = replace(o, unit=keep[0] if len(plain) == 1 and keep else canonical_unit(found))
        observables[name] = o
    return replace(model, observables=observables)
