"""Units of an SBML file as the unit texts of pkmodel, where the file declares them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product

import sympy as sp

from ..dimensions import check_condition, dimension_of, multiply
from ..errors import UnitError
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
# Names to spell a unit with, by base dimension, tried in this order; a length cubed is a volume.
_NAMES = {
    "time": "h min s d wk ms us".split(),
    "substance": "nmol pmol umol mmol mol fmol".split(),
    "volume": "L mL uL dL".split(),
    "length": "m dm cm mm um".split(),
    "mass": "g kg mg ug ng".split(),
    "activity": "MBq kBq Bq GBq".split(),
    "dose": "Gy mGy".split(),
    "count": ["count"],
    "equivalent_dose": "Sv mSv".split(),
}
_ROUNDING = 1e-9  # 1/60 is written with some fifteen digits


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
    parts = ["1"]
    size = 1.0
    for unit in definitions[name].getListOfUnits():
        exponent = unit.getExponentAsDouble()
        size *= (unit.getMultiplier() * 10.0 ** unit.getScale()) ** exponent
        parts.append(f"{_base(_kind(unit))}^({exponent:g})")
    plain = " ".join(parts)
    return spelled(size * factor(plain), dimension(plain))


def spelled(size: float, of: Dimension) -> str:
    """The unit of a dimension that is `size` canonical units, with a number in front where no name fits.

    Parameters
    ----------
    size : canonical units in one of it
    of : its dimension
    """
    powers = {n: e for n, e in of.exponents}
    if "length" in powers and powers["length"] % 3 == 0:
        powers = {"volume" if n == "length" else n: e / 3 if n == "length" else e for n, e in powers.items()}
    choices = [_NAMES[n] for n in powers]
    for names in product(*choices):
        found = math.prod(factor(n) ** e for n, e in zip(names, powers.values(), strict=True))
        if math.isclose(found, size, rel_tol=_ROUNDING):
            return _text(names, powers)
    first = tuple(c[0] for c in choices)
    rest = size / math.prod(factor(n) ** e for n, e in zip(first, powers.values(), strict=True))
    text = _text(first, powers)
    return (f"{rest!r}" if text == "1" else f"{rest!r} {text}").replace("e+", "e")


def _text(names: tuple[str, ...], powers: Mapping[str, float]) -> str:
    """Names with their exponents, those below the line behind a slash."""
    written = [(n if abs(e) == 1 else f"{n}^{abs(e):g}", e > 0) for n, e in zip(names, powers.values(), strict=True)]
    above, below = [w for w, up in written if up], [w for w, up in written if not up]
    return (" ".join(above) or "1") + "".join(f"/{w}" for w in below)


def _kind(unit: Element) -> str:
    from .document import libsbml

    return str(libsbml().UnitKind_toString(unit.getKind()))


def _base(kind: str) -> str:
    if kind not in _BASE:
        raise UnitError(f"unit {kind!r} is not supported; known: {', '.join(_BASE)}")
    return _BASE[kind]


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
    check_condition(expression, known, who)
    if not isinstance(expression, sp.Expr):
        return
    found = dimension_of(expression, known, who)
    if wanted is not None and found is not None and found != wanted:
        raise UnitError(f"{who}: {to_text(expression)[:80]!r} is {found}, but should be {wanted}")


def per_hour(unit: str) -> Dimension:
    """Dimension of a rate of change."""
    return multiply(dimension(unit), dimension("h"), -1)


def time_dimension() -> dict[str, Dimension]:
    """Dimension of the reserved name of time."""
    return {TIME: dimension("h")}


def clock(document: Document) -> tuple[float, str]:
    """Hours in one unit of time of the file, and how that is known."""
    try:
        declared = unit_text(document.time_unit, document.units)
    except UnitError:
        declared = ""
    if declared and dimension(declared) == dimension("h"):
        return factor(declared), f"its unit of time is {declared}, as declared"
    used = {w for q in document.quantities.values() for w in _times_in(q, document)}
    if len(used) == 1:
        (found,) = used
        return factor(
            found
        ), f"its unit of time is not declared and taken to be {found}, as in the units of its parameters"
    return 1.0, "its unit of time is not declared and counts as one hour"


def _times_in(q: Quantity, document: Document) -> set[str]:
    """Units of time in the unit of a parameter."""
    if q.kind != "parameter":
        return set()
    try:
        return {w.partition("^")[0] for w in unit_of(q, document).replace("/", " ").split()} & {*_NAMES["time"]}
    except UnitError:
        return set()
