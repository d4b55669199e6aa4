"""Unit strings: the border that every number crosses once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkmodel.errors import UnitError
from pkmodel.units import (
    _everyday,
    _normal,
    _product,
    _registry,
    canonical_unit,
    convert,
    dimension,
    factor,
    quantity,
    same_dimension,
    split,
)
from support import report


@pytest.mark.parametrize(
    ("unit", "canonical"),
    [
        ("h", 1.0),
        ("min", 1 / 60),
        ("s", 1 / 3600),
        ("d", 24.0),
        ("wk", 168.0),
        ("MBq", 1.0),
        ("GBq", 1e3),
        ("kBq", 1e-3),
        ("Bq", 1e-6),
        ("mCi", 37.0),
        ("nmol", 1.0),
        ("pmol", 1e-3),
        ("mol", 1e9),
        ("L", 1.0),
        ("mL", 1e-3),
        ("cm3", 1e-3),
        ("cm^3", 1e-3),
        ("m3", 1e3),
        ("mL/cm3", 1.0),
        ("kBq/mL", 1.0),
        ("MBq/L", 1.0),
        ("mL/min/g", 0.06),
        ("mL/cm3/min", 60.0),
        ("g", 1.0),
        ("kg", 1e3),
        ("Gy", 1.0),
        ("mGy/(MBq s)", 3.6),
        ("MBq h", 1.0),
        ("MBq*h", 1.0),
        ("%IA", 0.01),
        ("%IA/g", 0.01),
        ("%ID/g", 0.01),
        ("L/nmol/h", 1.0),
        ("1/h", 1.0),
        ("1/min", 60.0),
        ("1", 1.0),
        ("%", 0.01),
        ("1/Gy^2", 1.0),
    ],
)
def test_canonical_value(unit: str, canonical: float) -> None:
    report(f"1 {unit}", canonical, factor(unit), rtol=1e-14)


def test_everyday_units_are_those_of_the_registry() -> None:
    for word in _everyday():
        for unit in (word, f"{word}/h", f"nmol {word}", f"1/{word}^2"):
            root = _registry()(f"1*{_normal(unit)}").to_root_units()
            plain = _product(_normal(unit))
            assert plain is not None, unit
            assert plain[0] == pytest.approx(root.magnitude, rel=1e-14), unit
            assert dict(plain[1].exponents) == {k.strip("[]"): v for k, v in root.dimensionality.items()}, unit


@pytest.mark.parametrize(
    "unit", ["mGy/(MBq s)", "wk", "L**0.75", "h**", "*h", "h*", "h//s", "h**0", "h**-1", "2/h", ""]
)
def test_anything_else_is_left_to_the_registry(unit: str) -> None:
    assert _product(_normal(unit)) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Gy", "Sv"),
        ("Bq", "1/s"),
        ("MBq", "nmol"),
        ("MBq h", "MBq"),
        ("mL", "g"),
        ("%IA", "1"),
        ("%IA/g", "MBq/g"),
        ("1/h", "h"),
        ("Gy", "1"),
    ],
)
def test_different_things_never_convert(one: str, other: str) -> None:
    assert not same_dimension(one, other)
    with pytest.raises(UnitError, match="cannot be converted") as error:
        convert(1.0, one, other, who="table row 3")
    assert str(error.value).startswith("table row 3: ")
    assert str(dimension(one)) in str(error.value) and str(dimension(other)) in str(error.value)


@pytest.mark.parametrize("unit", ["MBqq", "", "   ", "hours2", "Bq?", "__import__('os')", "nmol/", "furlong", "MBq;h"])
def test_unknown_unit_names_who_and_what_is_allowed(unit: str) -> None:
    with pytest.raises(UnitError, match="allowed: Bq, kBq, MBq") as error:
        factor(unit, who="tac.csv row 7")
    assert str(error.value).startswith("tac.csv row 7: ")


def test_a_unit_must_be_text() -> None:
    with pytest.raises(UnitError, match="must be text"):
        factor(3)  # type: ignore[arg-type]


def test_quantity() -> None:
    dose = quantity("7.4 GBq")
    report("7.4 GBq", 7400.0, dose.value, rtol=1e-15)
    assert dose.dimension == dimension("MBq")
    report("1e-3 mol", 1e6, quantity("1e-3 mol").value, rtol=1e-15)
    report("-5min", -5 / 60, quantity("-5min").value, rtol=1e-15)
    assert split("0.30 L/h") == (0.3, "L/h")


@pytest.mark.parametrize("text", ["GBq", "7.4", "7.4 ", "", "7,4 GBq", "many GBq"])
def test_quantity_needs_number_and_unit(text: str) -> None:
    with pytest.raises(UnitError, match="regimen"):
        quantity(text, who="regimen")


def test_quantity_of_a_bare_number_is_refused() -> None:
    with pytest.raises(UnitError, match=r"write for example '7\.4 GBq'"):
        quantity(7.4)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("unit", "canonical"),
    [
        ("mL/min", "L/h"),
        ("pmol/mL", "nmol/L"),
        ("1/s", "1/h"),
        ("%", "1"),
        ("kBq min", "MBq h"),
        ("%ID/g", "IA/g"),
        ("mGy/(MBq s)", "Gy/MBq/h"),
        ("L/mol/s", "L/h/nmol"),
    ],
)
def test_canonical_unit_reads_back(unit: str, canonical: str) -> None:
    spelled = canonical_unit(dimension(unit))
    assert sorted(spelled.replace("/", " ").split()) == sorted(canonical.replace("/", " ").split()), spelled
    assert dimension(spelled) == dimension(unit)
    if "IA" not in spelled:
        report(f"one {spelled}", 1.0, factor(spelled), rtol=1e-15)


def test_convert_keeps_the_shape() -> None:
    assert isinstance(convert(2.0, "h", "min"), float)
    np.testing.assert_allclose(convert([[1.0, 2.0]], "h", "min"), [[60.0, 120.0]], rtol=1e-15)


@given(st.floats(1e-6, 1e6), st.sampled_from(["MBq/mL", "kBq/cm3", "mCi/L"]), st.sampled_from(["Bq/mL", "GBq/L"]))
def test_there_and_back(x: float, one: str, other: str) -> None:
    assert convert(convert(x, one, other), other, one) == pytest.approx(x, rel=1e-14)
