"""Units of an SBML file as the unit texts of pkmodel, where the file declares them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import sympy as sp

from ..dimensions import dimension_of, multiply
from ..errors import PkmodelError, UnitError
from ..expressions import TIME, to_text
from ..units import Dimension, dimension, factor
from .document import Document, Element, Quantity

# Base unit of SBML -> our spelling; None where we have no such dimension.
_BASE = {
    "becquerel": "Bq",
    "dimensionless": "1",
    "gram": "g",
    "gray": "Gy",
    "item": "count",
    "kilogram": "kg",
    "liter": "L",
    "litre": "L",
    "meter": "m",
    "metre": "m",
    "mole": "mol",
    "second": "s",
    "sievert": "Sv",
}
# Names for whole multiples, tried in this order.
_NAMED = {
    "s": "s min h d wk ms us".split(),
    "mol": "mol mmol umol nmol pmol fmol".split(),
    "L": "L dL mL uL".split(),
    "g": "g kg mg ug ng".split(),
    "kg": "kg g mg ug ng".split(),
    "m": "m dm cm mm um".split(),
    "Bq": "Bq kBq MBq GBq".split(),
    "Gy": "Gy mGy".split(),
}


def unit_text(name: str, definitions: Mapping[str, Element]) -> str:
    """Spell a unit of the file in our words; empty where it is not declared.

    Raises
    ------
    UnitError
        The unit is of a kind that pkmodel does not know (ampere, kelvin ...).
    """
    if not name:
        return ""
    if name not in definitions:
        return _base(name)
    size, top, bottom = 1.0, [], []
    for unit in definitions[name].getListOfUnits():
        base = _base(_kind(unit))
        exponent = unit.getExponentAsDouble()
        multiple = unit.getMultiplier() * 10.0 ** unit.getScale()
        if base == "1":
            size *= multiple**exponent
            continue
        spelled, rest = _named(base, multiple)
        size *= rest**exponent
        side = top if exponent > 0 else bottom
        if exponent:
            side.append(spelled if abs(exponent) == 1 else f"{spelled}^{abs(exponent):g}")
    text = " ".join(top) + "".join(f"/{b}" for b in bottom)
    text = text if top else f"1{text}"
    if size == 1.0:
        return text
    return f"{size!r} {text}".replace("e+", "e") if text != "1" else f"{size!r}".replace("e+", "e")


def _kind(unit: Element) -> str:
    from .document import libsbml

    return str(libsbml().UnitKind_toString(unit.getKind()))


def _base(kind: str) -> str:
    if kind not in _BASE:
        raise UnitError(f"unit {kind!r} is not supported; known: {', '.join(_BASE)}")
    return _BASE[kind]


def _named(base: str, multiple: float) -> tuple[str, float]:
    """The unit of that size and what is left over, e.g. (s, 60) -> (min, 1)."""
    for name in _NAMED.get(base, ()):
        if math.isclose(factor(name) / factor(base), multiple, rel_tol=1e-12):
            return name, 1.0
    return base, multiple


def unit_of(q: Quantity, document: Document) -> str:
    """Unit of the value of a quantity; empty where the file does not say."""
    definitions = document.units
    if q.kind == "parameter":
        return unit_text(q.unit, definitions)
    if q.kind == "reference":
        return "1"
    if q.kind == "compartment":
        return "1" if q.flat else unit_text(q.unit or document.volume_unit, definitions)
    return amount_unit(q, document)


def amount_unit(q: Quantity, document: Document) -> str:
    """Unit of the amount of a species."""
    return unit_text(q.unit or document.substance_unit, document.units)


def over(unit: str, below: str) -> str:
    """One unit divided by another; empty where either is missing."""
    if not unit or not below:
        return ""
    if below == "1":
        return unit
    return f"{unit}/({below})" if any(c in below for c in " /") else f"{unit}/{below}"


def assert_consistent(expression: sp.Basic, wanted: Dimension | None, known: Mapping[str, Dimension], who: str) -> None:
    """Raise where terms of different dimensions meet, inside conditions too, or the whole is not as wanted.

    Raises
    ------
    UnitError
        The units of the file do not fit together.
    """
    for relation in _relations(expression):
        _same(relation.lhs, relation.rhs, known, who)
    if not isinstance(expression, sp.Expr):
        return
    found = dimension_of(expression, known, who)
    if wanted is not None and found is not None and found != wanted:
        raise UnitError(f"{who}: {to_text(expression)[:80]!r} is {found}, but should be {wanted}")


def _relations(expression: sp.Basic) -> Iterator[sp.core.relational.Relational]:
    yield from sorted(expression.atoms(sp.core.relational.Relational), key=str)


def _same(a: sp.Expr, b: sp.Expr, known: Mapping[str, Dimension], who: str) -> None:
    one, other = dimension_of(a, known, who), dimension_of(b, known, who)
    if one is not None and other is not None and one != other:
        raise UnitError(f"{who}: {to_text(a)[:80]!r} ({one}) is compared with {to_text(b)[:80]!r} ({other})")


def per_hour(unit: str) -> Dimension:
    """Dimension of a rate of change."""
    return multiply(dimension(unit), dimension("h"), -1)


def time_dimension() -> dict[str, Dimension]:
    """Dimension of the reserved name of time."""
    return {TIME: dimension("h")}


def hours(document: Document) -> float | None:
    """Hours in one unit of time of the file; None where it is not declared or no time."""
    try:
        text = unit_text(document.time_unit, document.units)
        return factor(text) if text and dimension(text) == dimension("h") else None
    except PkmodelError:
        return None
