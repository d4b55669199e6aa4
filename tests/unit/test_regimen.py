"""Schedules as text: what is given, when and how much."""

from __future__ import annotations

import math
from dataclasses import replace

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
    assert all(a.duration == 0.5 and a.amount == 10.0 and a.into == "depot" for a in doses)
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
        ("7.4 GBq every 8 wk", SimulationError, "say how often"),
        ("5 nmol/h once", SimulationError, "is a rate; write '5 nmol/h at steady state'"),
        ("10 nmol at steady state", SimulationError, "needs the interval"),
        ("10 nmol over 1 h rate 2 nmol/h", SimulationError, "a duration and a rate"),
        ("10 nmol rate 2 MBq/h", SimulationError, "not a positive rate in nmol/h"),
        ("10 nmol rate 0 nmol/h", SimulationError, "not a positive rate"),
        ("10 nmol fraction -1", SimulationError, "negative"),
        ("10 nmol fraction 1/2", SimulationError, "neither a number nor a name"),
        ("10 nmol once lag -1 h", SimulationError, "negative"),
        ("10 MBq / 5 MBq once", SimulationError, "not 'activity / amount'"),
        ("10 nmol once; nothing at 5 h", PkmodelError, "regimen"),
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


WORDS = {
    "10 nmol every 12 h at steady state": Administration(0.0, amount=10.0, steady="replace", every=12.0),
    "10 MBq every 1 d at added steady state at 3 h": Administration(3.0, 10.0, steady="add", every=24.0),
    "5 nmol/h at steady state into iv": Administration(0.0, amount=0.0, rate=5.0, steady="replace", into="iv"),
    "5 MBq/h at steady state": Administration(0.0, activity=0.0, rate=5.0, steady="replace"),
    "10 nmol over D1 once fraction F1 lag tlag at 1 h": Administration(
        1.0, amount=10.0, duration="D1", fraction="F1", lag="tlag"
    ),
    "10 nmol rate R1": Administration(0.0, amount=10.0, rate="R1"),
    "10 nmol rate 120 nmol/d fraction 0.5": Administration(0.0, amount=10.0, rate=5.0, fraction=0.5),
    "reset at 50 h": Administration(50.0, reset=True),
    "reset and 120 nmol at 50 h": Administration(50.0, amount=120.0, reset=True),
    "7.4 GBq / 10 nmol once": Administration(0.0, 7400.0, 10.0),
}


@pytest.mark.parametrize("text", WORDS)
def test_words(text: str) -> None:
    (read,) = Regimen(text).administrations
    assert read == WORDS[text]
    again = Regimen(str(read)).administrations[0]
    assert again == (WORDS[text] if not read.into else replace(read, into=""))


def test_a_series_knows_its_order_and_a_text_may_hold_several() -> None:
    plan = Regimen(
        "10 nmol every 12 h x 3 at steady state at 2 h lag 1 h".replace(" at 2 h lag 1 h", " lag 1 h at 2 h")
    )
    first, *later = plan.administrations
    assert (first.steady, first.every, first.order) == ("replace", 12.0, 2.0)
    assert [(a.time, a.order, a.steady, a.every, a.lag) for a in later] == [
        (14.0, 2.0, "", 0.0, 1.0),
        (26.0, 2.0, "", 0.0, 1.0),
    ]
    assert plan.shifted("1 h").administrations[2].order == 3.0
    both = Regimen("10 nmol every 12 h x 3; reset at 50 h; 20 nmol once at 13 h into iv")
    assert [a.time for a in both.administrations] == [0.0, 12.0, 13.0, 24.0, 50.0]
    assert Regimen("10 nmol over 2 h fraction 0.5 lag 1 h at 5 h").end == 8.0
    assert Regimen("10 nmol rate 2 nmol/h fraction 0.5 at 5 h").end == 7.5
    assert Regimen("10 nmol over D lag L at 5 h").end == 5.0


def test_administrations_that_mean_nothing() -> None:
    for bad, says in (
        (Administration(0.0, 1.0, steady="sometimes", every=2.0), "steady 'sometimes' is not known"),
        (Administration(0.0, 1.0, every=12.0), "an interval without a steady state"),
        (Administration(2.0, 1.0, ordered=3.0), "given before it was ordered"),
        (Administration(0.0, 1.0, lag=-1.0), "finite and not negative"),
        (Administration(0.0, 0.0, steady="replace"), "needs the interval"),
    ):
        with pytest.raises(SimulationError, match=says):
            Regimen.of(bad)
