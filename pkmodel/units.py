"""Unit strings to and from the canonical units: h, nmol, MBq, L, g, Gy.

Numbers cross this border once. Inside, everything is a plain float in canonical units; outside, it carries a
unit string. pint does the algebra on a registry of our own, because in the usual one a becquerel equals 1/s
and a gray equals a sievert: here each is a dimension of its own, so mixing them up is an error.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .errors import UnitError

if TYPE_CHECKING:
    import numpy.typing as npt

# Base units are chosen so that pint's root units are the canonical ones (length is the cube root of a litre).
_DEFINITIONS = """
nano- = 1e-9 = n-
micro- = 1e-6 = u- = µ- = μ-
milli- = 1e-3 = m-
centi- = 1e-2 = c-
deci- = 1e-1 = d-
kilo- = 1e3 = k-
mega- = 1e6 = M-
giga- = 1e9 = G-
tera- = 1e12 = T-
pico- = 1e-12 = p-
femto- = 1e-15 = f-

hour = [time] = h = hr = hours
minute = hour / 60 = min = minutes
second = hour / 3600 = s = sec
day = 24 * hour = d = days
week = 7 * day = wk = weeks
year = 365.25 * day = a = yr

nmol_ = [substance]
mole = 1e9 * nmol_ = mol
molar = mole / liter = M_

MBq_ = [activity]
becquerel = 1e-6 * MBq_ = Bq
curie = 3.7e4 * MBq_ = Ci

decimeter_ = [length]
meter = 10 * decimeter_ = m
liter = decimeter_ ** 3 = L = l
cc = 1e-3 * liter

gram = [mass] = g

gray = [dose] = Gy
sievert = [equivalent_dose] = Sv

eV = [energy]

injected = [injected_activity] = IA = ID
percent = 0.01 = pct
count = [count] = counts
cell = [cells] = cells
mmHg = [pressure]
degC_ = [temperature]
"""

# What nearly every model is written in, as exact numbers: products of these need no pint, and so not its import.
_EVERYDAY = """
time: h 1, min 1/60, s 1/3600, d 24
substance: nmol 1, pmol 1/1000, umol 1000, mol 1e9
activity: MBq 1, Bq 1e-6, kBq 1e-3, GBq 1e3, mCi 37
length: cm 1/10
length^3: L 1, mL 1/1000
mass: g 1, mg 1/1000, kg 1000
dose: Gy 1, mGy 1/1000
injected_activity: IA 1, ID 1
: percent 1/100, 1 1
"""
_TERM = r"\w+(\*\*[1-9])?"

_FRIENDLY = (
    "Bq, kBq, MBq, GBq, mCi, nmol, pmol, h, min, s, d, wk, mL, L, cm3, g, kg, Gy, mGy, %IA, %IA/g, %ID/g, "
    "and products such as nmol/L, 1/h, mL/min/g, MBq h, mGy/(MBq s)"
)


@dataclass(frozen=True, slots=True)
class Dimension:
    """Exponents of the base dimensions, e.g. ``activity / length**3``."""

    exponents: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        if not self.exponents:
            return "dimensionless"
        return " * ".join(n if e == 1 else f"{n}^{e:g}" for n, e in self.exponents)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in canonical units with its dimension, as read from text such as ``"7.4 GBq"``."""

    value: float
    dimension: Dimension
    text: str


@lru_cache(maxsize=1)
def _registry() -> Any:
    import pint

    registry: Any = pint.UnitRegistry(None, autoconvert_offset_to_baseunit=False)
    registry.load_definitions(_DEFINITIONS.strip().splitlines())
    return registry


def _normal(unit: str) -> str:
    """Spell a unit the way the registry reads it: ``%`` as a word, a space as a product, ``cm3`` as ``cm**3``."""
    text = unit.strip().replace("·", " ").replace("%", "percent ").replace("^", "**")
    text = re.sub(r"\b([munck]?m)([23])\b", r"\1**\2", text)
    text = re.sub(r"\s*([*/()])\s*", r"\1", text.replace("**", "@"))
    return re.sub(r"\s+", "*", text.strip()).replace("@", "**")


@lru_cache(maxsize=1)
def _everyday() -> dict[str, tuple[Fraction, str, int]]:
    """Size, base dimension and its power of each word of `_EVERYDAY`."""
    words: dict[str, tuple[Fraction, str, int]] = {}
    for kind, _, line in (row.partition(":") for row in _EVERYDAY.strip().splitlines()):
        base, _, power = kind.partition("^")
        words |= {w: (Fraction(size), base, int(power or 1)) for w, size in map(str.split, line.split(","))}
    return words


def _product(text: str) -> tuple[float, Dimension] | None:
    """A unit such as ``mL/min/g``, made of everyday words; None where it has any other."""
    if not re.fullmatch(rf"{_TERM}([*/]{_TERM})*", text):
        return None
    size, exponents = Fraction(1), dict[str, float]()
    for over, word, power in re.findall(r"([*/]?)(\w+)(?:\*\*(\d))?", text):
        if word not in _everyday():
            return None
        one, base, times = _everyday()[word]
        count = int(power or 1) * (-1 if over == "/" else 1)
        size *= one**count
        exponents[base] = exponents.get(base, 0.0) + times * count
    return float(size), Dimension(tuple(sorted((k, v) for k, v in exponents.items() if k and v)))


@lru_cache(maxsize=4096)
def _resolve(unit: str) -> tuple[float, Dimension]:
    text = unit.strip()
    if not text:
        raise UnitError(f"the unit is empty; allowed: {_FRIENDLY}; write '1' for a pure number")
    if text in ("1", "-", "dimensionless"):
        return 1.0, Dimension(())
    if not re.fullmatch(r"[A-Za-zµμ%·0-9_/*^(). \-]+", text):
        raise UnitError(f"unit {unit!r} is not known; allowed: {_FRIENDLY}")
    if plain := _product(_normal(text)):
        return plain
    try:
        quantity = _registry().Quantity(1.0, _normal(text)) if not text[0].isdigit() else _registry()(_normal(text))
        root = quantity.to_root_units()
        exponents = tuple(sorted((k.strip("[]"), float(v)) for k, v in quantity.dimensionality.items() if v))
        # The cube root in the litre leaves a residue in the last bits: a number that short is meant to be round.
        size = float(root.magnitude)
        short = float(f"{size:.15g}")
        return (short if abs(short - size) <= 4 * math.ulp(size) else size), Dimension(exponents)
    except Exception as error:  # pint raises many kinds; each means the text is not a unit we know
        raise UnitError(f"unit {unit!r} is not known; allowed: {_FRIENDLY}") from error


def _lookup(unit: str, who: str) -> tuple[float, Dimension]:
    if not isinstance(unit, str):
        raise UnitError(f"{who + ': ' if who else ''}a unit must be text, found {unit!r}; allowed: {_FRIENDLY}")
    try:
        return _resolve(unit)
    except UnitError as error:
        if who:
            raise UnitError(f"{who}: {error}") from None
        raise


def factor(unit: str, who: str = "") -> float:
    """Number of canonical units in one `unit`: ``value_in_unit * factor(unit)`` is canonical.

    Parameters
    ----------
    unit : str, a unit such as ``"mL/min/g"`` [text]
    who : str, named first in the error message [text]

    Raises
    ------
    UnitError
        The unit is not known.
    """
    return _lookup(unit, who)[0]


def dimension(unit: str, who: str = "") -> Dimension:
    """Dimension of a unit string (`who` is named in the error)."""
    return _lookup(unit, who)[1]


def same_dimension(a: str, b: str) -> bool:
    """Whether two unit strings can be converted into each other."""
    return dimension(a) == dimension(b)


def convert(x: npt.ArrayLike, from_unit: str, to_unit: str, who: str = "") -> Any:
    """Convert numbers between two units of one dimension.

    Parameters
    ----------
    x : number or array [from_unit]
    from_unit, to_unit : str [text]
    who : str, named first in the error message [text]

    Returns
    -------
    float or array of the shape of x [to_unit]

    Raises
    ------
    UnitError
        A unit is unknown, or the two have different dimensions.
    """
    import numpy as np

    from_factor, from_dimension = _lookup(from_unit, who)
    to_factor, to_dimension = _lookup(to_unit, who)
    if from_dimension != to_dimension:
        prefix = f"{who}: " if who else ""
        raise UnitError(f"{prefix}{from_unit!r} ({from_dimension}) cannot be converted to {to_unit!r} ({to_dimension})")
    result = np.asarray(x, dtype=float) * (from_factor / to_factor)
    return float(result) if result.ndim == 0 else result


_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*)", re.DOTALL)


def split(text: str, who: str = "", example: str = "7.4 GBq") -> tuple[float, str]:
    """Take ``"7.4 GBq"`` apart into 7.4 and ``"GBq"``; the unit is not looked up.

    Parameters
    ----------
    text : str, a number with its unit [text]
    who : str, named first in the error message [text]
    example : str, shown in the error message [text]

    Raises
    ------
    UnitError
        There is no number or no unit.
    """
    prefix = f"{who}: " if who else ""
    match = _NUMBER.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise UnitError(f"{prefix}{text!r} is not a number with a unit; write for example {example!r}")
    number, unit = match.groups()
    if not unit.strip():
        raise UnitError(f"{prefix}{text!r} has no unit; write for example {example!r}")
    return float(number), unit


def quantity(text: str, who: str = "") -> Quantity:
    """Read a number with its unit, e.g. ``"7.4 GBq"`` -> 7400 MBq.

    Parameters
    ----------
    text : str, a number with its unit [text]
    who : str, named first in the error message [text]

    Raises
    ------
    UnitError
        There is no number, no unit, or the unit is unknown.
    """
    number, unit = split(text, who)
    scale, dim = _lookup(unit, who)
    return Quantity(number * scale, dim, text)


_CANONICAL = {
    "time": "h",
    "substance": "nmol",
    "activity": "MBq",
    "mass": "g",
    "dose": "Gy",
    "equivalent_dose": "Sv",
    "injected_activity": "IA",
    "energy": "eV",
    "count": "count",
    "cells": "cell",
    "pressure": "mmHg",
}


def canonical_unit(dim: Dimension) -> str:
    """Spell the canonical unit of a dimension, e.g. ``nmol/L``."""
    top: list[str] = []
    bottom: list[str] = []
    for name, exponent in dim.exponents:
        if name == "length":
            symbol, power = ("L", exponent / 3) if exponent % 3 == 0 else ("dm", exponent)
        else:
            symbol, power = _CANONICAL.get(name, name), exponent
        side = top if power > 0 else bottom
        side.append(symbol if abs(power) == 1 else f"{symbol}^{abs(power):g}")
    if not top and not bottom:
        return "1"
    over = " ".join(top) or "1"
    return over if not bottom else over + "".join("/" + b for b in bottom)
