"""Schedules as text: what is given, when and how much."""

from __future__ import annotations

import math

import pytest

from pkmodel.errors import NuclideError, PkmodelError, SimulationError, UnitError
from pkmodel.regimen import Administration, Regimen
from support import report


def test_once() -> None:
    (a,) = Regimen("7.4 GBq once", amount="10 nmol").administrations
    assert (a.time, a.activity, a.amount, a.duration, a.into) == (0.0, 7400.0, 10.0, 0.0, "")


def test_repeated() -> None:
    doses = Regimen("7.4 GBq every 8 wk x 4", nuclide="177Lu", amount="10 nmol")
    assert [a.time for a in doses.administrations] == [0.0, 1344.0, 2688.0, 4032.0]
    assert doses.nuclide == "Lu-177"
    report("activity in all [MBq]", 4 * 7400.0, doses.activity, rtol=1e-15)


def test_infusions_later_and_elsewhere() -> None:
    doses = Regimen("10 nmol over 30 min every 12 h x 5 at 2 h into depot").administrations
    assert len(doses) == 5
    assert [a.time for a in doses] == [2.0, 14.0, 26.0, 38.0, 50.0]
    assert all(abs(a.duration - 0.5) < 1e-15 and a.amount == 10.0 and a.into == "depot" for a in doses)
    assert Regimen("10 nmol once", into="depot") == Regimen("10 nmol once into depot")
    assert Regimen("10 nmol") == Regimen("10 nmol once")


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("", PkmodelError, "does not read as a schedule|not a number"),
        ("once", UnitError, "once"),
        ("7.4 once", UnitError, "no unit"),
        ("7.4 GBqq once", UnitError, "'GBqq'"),
        ("7.4 L once", SimulationError, "neither an activity"),
        ("-7.4 GBq once", SimulationError, "must not be negative"),
        ("7.4 GBq every 8 wk x 0", SimulationError, "must be positive"),
        ("7.4 GBq every 0 h x 3", SimulationError, "must be positive"),
        ("7.4 GBq every 8 MBq x 3", SimulationError, "not a time"),
        ("7.4 GBq over -1 h once", SimulationError, "negative"),
        ("7.4 GBq every 8 wk", UnitError, "not known"),
    ],
)
def test_refused(text: str, kind: type[PkmodelError], says: str) -> None:
    with pytest.raises(kind, match=says) as error:
        Regimen(text)
    assert "regimen" in str(error.value)


def test_other_refusals() -> None:
    with pytest.raises(SimulationError, match="gives an amount twice"):
        Regimen("10 nmol once", amount="10 nmol")
    with pytest.raises(SimulationError, match="not an amount of substance"):
        Regimen("7.4 GBq once", amount="10 MBq")
    with pytest.raises(NuclideError, match="Xx-1"):
        Regimen("7.4 GBq once", nuclide="Xx-1")
    with pytest.raises(SimulationError, match="goes into 'depot'"):
        Regimen("10 nmol once into depot", into="plasma")
    with pytest.raises(SimulationError, match="does not read as a schedule"):
        Regimen(3)  # type: ignore[arg-type]
    for bad in (
        Administration(-1.0, 1.0),
        Administration(0.0, -1.0),
        Administration(0.0, None, math.nan),
        Administration(math.inf, 1.0),
    ):
        with pytest.raises(SimulationError, match="finite and not negative"):
            Regimen.of(bad)


def test_sum_shift_and_equality() -> None:
    first, later = Regimen("7.4 GBq once", nuclide="Lu-177"), Regimen("3 GBq once at 6 wk")
    both = first + later
    assert [a.time for a in both.administrations] == [0.0, 1008.0] and both.nuclide == "Lu-177"
    assert both == later + first and hash(both) == hash(later + first)
    assert [a.time for a in first.shifted("2 h").administrations] == [2.0]
    assert Regimen.nothing().administrations == () and Regimen.nothing().activity == 0.0
    assert first != Regimen("7.4 GBq once", nuclide="Ac-225") and first != "7.4 GBq once"
    with pytest.raises(SimulationError, match="a regimen has one nuclide"):
        first + Regimen("8 MBq once", nuclide="Ac-225")
