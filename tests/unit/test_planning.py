"""Plans: closed-form cases, overlap of cycles, properties that must hold, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from pkmodel.dosimetry.absorbed import dose
from pkmodel.dosimetry.limits import Limit, published_limits
from pkmodel.dosimetry.planning import Plan, plan
from pkmodel.dosimetry.radiobiology import bed, bed_from_exponentials
from pkmodel.dosimetry.result import TIA, Doses
from pkmodel.errors import DoseError, PkmodelError
from support import report

BED_LIMIT = "40 Gy BED (a/b 2.5 Gy, repair 2.8 h)"
HALF_LIFE = {"kidneys": 51.6, "liver": 70.0, "tumour": 100.0}
PER_GBQ = {"kidneys": 0.5, "liver": 0.2, "tumour": 4.0}  # Gy/GBq


def doses(relative_sd: float = 0.0, draws: int = 2000, known: bool = True, seed: int = 0) -> Doses:
    """Doses with chosen Gy/GBq at 7.4 GBq: an S matrix of 1e-4 Gy/(MBq h) on its diagonal."""
    organs = list(PER_GBQ)
    tia = {x: 7.4 * PER_GBQ[x] / 1e-4 for x in organs}
    integrated = TIA.from_values(
        tia,
        nuclide="Lu-177",
        injected_activity="7.4 GBq",
        sd={x: relative_sd * v for x, v in tia.items()} if relative_sd else None,
        effective_half_life=HALF_LIFE if known else None,
        draws=draws,
        seed=seed,
    )
    s = xr.DataArray(
        np.eye(3) * 1e-4,
        dims=("target", "source"),
        coords={"target": organs, "source": organs},
        attrs={"units": "Gy/(MBq h)"},
    )
    return dose(integrated, s=s)


def test_the_doses_are_those_meant() -> None:
    result = doses()
    for organ, expected in PER_GBQ.items():
        got = float(result.data["dose_per_activity_point"].sel(organ=organ))
        report(f"{organ}: dose per activity [Gy/GBq]", expected, got, rtol=1e-12)


def test_a_dose_limit_without_uncertainty() -> None:
    result = plan(doses(), {"kidneys": "23 Gy", "liver": "30 Gy"}, cycles=4)
    report(
        "4 cycles, 23 Gy at 0.5 Gy/GBq: activity per cycle [MBq]", 23 / 0.5 / 4 * 1000, result.best.activity, rtol=1e-12
    )
    assert result.best.limiting == "kidneys (dose)"
    assert result.regimen == "11.5 GBq every 8 wk x 4"
    tumour = float(result.expected()["dose [Gy]"]["tumour"])
    report("tumour dose at that plan [Gy]", 46 * 4.0, tumour, rtol=1e-12)


def test_a_bed_limit_without_uncertainty() -> None:
    result = plan(doses(), {"kidneys": BED_LIMIT}, cycles=4)
    g = 2.8 / (2.8 + 51.6)  # well separated: each cycle D (1 + g D / 2.5) = 10 Gy
    per_cycle = (-1 + np.sqrt(1 + 4 * g * 10.0 / 2.5)) / (2 * g / 2.5)
    report("4 cycles, 40 Gy BED: activity per cycle [MBq]", per_cycle / 0.5 * 1000, result.best.activity, rtol=1e-6)
    back = bed_from_exponentials(
        result.best.activity / 1000 * 0.5, [1.0], [np.log(2) / 51.6], 2.5, 2.8, cycles=4, interval="8 wk"
    )
    report("BED of the planned activity [Gy]", 40.0, float(back), rtol=1e-12)
    report("BED in the plan's own table [Gy]", 40.0, float(result.against_limits()["value [Gy]"].iloc[0]), rtol=1e-12)


def test_an_eqd2_limit_is_a_bed_limit() -> None:
    by_bed = plan(doses(0.2), {"kidneys": "36 Gy BED (a/b 2.5 Gy, repair 2.8 h)"}).best.activity
    by_eqd2 = plan(doses(0.2), {"kidneys": "20 Gy EQD2 (a/b 2.5 Gy, repair 2.8 h)"}).best.activity
    report("20 Gy EQD2 is 36 Gy BED at a/b 2.5 [MBq]", by_bed, by_eqd2, rtol=1e-12)


def test_overlapping_cycles_allow_less() -> None:
    near = plan(doses(), {"kidneys": BED_LIMIT}, cycles=4, interval="12 h").best.activity
    far = plan(doses(), {"kidneys": BED_LIMIT}, cycles=4, interval="8 wk").best.activity
    print(f"activity per cycle: {near:.1f} MBq every 12 h, {far:.1f} MBq every 8 wk")
    assert near < far
    back = bed_from_exponentials(near / 1000 * 0.5, [1.0], [np.log(2) / 51.6], 2.5, 2.8, cycles=4, interval=12.0)
    report("BED of the activity every 12 h [Gy]", 40.0, float(back), rtol=1e-12)


def test_the_stated_probability_is_kept_jointly() -> None:
    result = plan(doses(0.3), {"kidneys": "23 Gy", "liver": "8 Gy"}, probability=0.05, cycles=range(1, 5))
    for one in result.schedules:
        any_limit, each = one.exceeded(one.activity)
        print(f"{one.number} cycles: P(any) {any_limit:.4f}, each {each}")
        assert max(each) <= any_limit <= 0.05
        assert one.exceeded(one.activity * 1.01)[0] > 0.05  # and no larger activity keeps it
        assert one.activity < min(one.organ_activity)  # two limits leave less than either alone


def test_one_limit_against_the_lognormal_quantile() -> None:
    # D = A d with d log-normal: the activity is limit / (95 % quantile of the dose per activity)
    cv = 0.3
    sigma = np.sqrt(np.log1p(cv**2))
    quantile = 0.5 * np.exp(1.6448536269514722 * sigma - sigma**2 / 2)
    result = plan(doses(cv, draws=200_000), {"kidneys": "23 Gy"}, cycles=1)
    report("activity at 5 % [MBq]", 23 / quantile * 1000, result.best.activity, rtol=5e-3)


def test_what_was_received_before_counts() -> None:
    fresh = plan(doses(0.2), {"kidneys": "23 Gy"}).best.activity
    later = plan(doses(0.2), {"kidneys": "23 Gy"}, already={"kidneys": "11.5 Gy"}).best.activity
    report("half received: half the activity [MBq]", fresh / 2, later, rtol=1e-12)
    with pytest.raises(DoseError, match="write '12 Gy BED'"):
        plan(doses(), {"kidneys": BED_LIMIT}, already={"kidneys": "12 Gy"})
    with pytest.raises(DoseError, match="nothing is left"):
        plan(doses(), {"kidneys": "23 Gy"}, already={"kidneys": "23 Gy"})


def test_a_maximum_activity() -> None:
    result = plan(doses(), {"kidneys": "23 Gy"}, cycles=range(1, 9), maximum_activity="7.4 GBq")
    assert result.schedule(4).limiting == "maximum activity"
    assert result.best.number == 7  # 46 GBq in all: six full cycles are 44.4 GBq
    report("7 cycles [MBq]", 46000 / 7, result.best.activity, rtol=1e-12)
    assert result.regimen == "6.57 GBq every 8 wk x 7"  # rounded down


def test_bed_of_a_dose_result() -> None:
    result = bed(doses(0.2), {"kidneys": "2.5 Gy"}, {"kidneys": "2.8 h"}, cycles=4)
    d = 7.4 * 0.5
    expected = 4 * d * (1 + 2.8 / (2.8 + 51.6) * d / 2.5)
    report("BED of 4 x 7.4 GBq [Gy]", expected, float(result.data["bed_point"].sel(organ="kidneys")), rtol=1e-12)
    assert result.table().index.tolist() == ["kidneys"]
    assert "BED" in str(result)
    assert "<table>" in result._repr_html_()


@settings(max_examples=50, deadline=None)
@given(a=st.floats(10.0, 1e5), b=st.floats(10.0, 1e5))
def test_more_activity_never_lowers_the_probability(a: float, b: float, noisy: Plan) -> None:
    low, high = sorted((a, b))
    assert noisy.exceedance(low) <= noisy.exceedance(high)


@pytest.fixture(scope="module")
def noisy() -> Plan:
    """A plan with uncertain doses and limits of both kinds."""
    return plan(doses(0.3, draws=500), {"kidneys": BED_LIMIT, "liver": "30 Gy"})


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.1, 10.0), cv=st.floats(0.0, 0.5))
def test_dose_limits_scale_linearly(scale: float, cv: float) -> None:
    base = plan(doses(cv, draws=200), {"kidneys": 23.0}).best.activity
    scaled = plan(doses(cv, draws=200), {"kidneys": 23.0 * scale}).best.activity
    assert scaled == pytest.approx(base * scale, rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(p=st.floats(0.001, 0.999), q=st.floats(0.001, 0.999))
def test_a_stricter_probability_never_allows_more(p: float, q: float) -> None:
    strict, loose = sorted((p, q))
    result = doses(0.3, draws=300)
    limits = {"kidneys": BED_LIMIT}
    assert (
        plan(result, limits, probability=strict).best.activity <= plan(result, limits, probability=loose).best.activity
    )


def test_it_reads_well_and_says_what_it_is_not() -> None:
    result = plan(doses(0.2), {"kidneys": BED_LIMIT, "liver": "30 Gy"}, cycles=[2, 4])
    text = str(result)
    print(text)
    for words in (
        "not a medical device",
        "kidneys: 40 Gy BED",
        "repair 2.8 h",
        "tumour",
        "cycles",
        "same dose per activity",
    ):
        assert words in text
    assert "<table>" in result._repr_html_()
    assert all(len(line) < 200 for line in text.splitlines())


def test_what_a_self_dose_leaves_out_is_carried_into_the_plan() -> None:
    tia = TIA.from_values({"kidneys": 15000.0, "liver": 56000.0}, nuclide="Lu-177", injected_activity="7.4 GBq")
    masses = {"kidneys": 310.0, "liver": 1800.0}
    result = dose(tia, masses=masses, body_mass="73 kg", mass_relative_sd=0.1)
    point = result.data.sel(organ="kidneys")
    bounded = plan(result, {"kidneys": "23 Gy"})
    at_most = float((point["dose"] + point["cross_bound"]).quantile(0.95))
    report(
        "activity if all missing dose were real [MBq]", 7400 * 23 / at_most / 4, bounded.best.with_missing, rtol=2e-3
    )
    assert any("% lower" in x for x in bounded.warnings)
    unbounded = plan(dose(tia, masses=masses), {"kidneys": "23 Gy"}).best
    assert np.isnan(unbounded.with_missing)


@pytest.mark.parametrize(
    ("limits", "options", "words"),
    [
        ({"kidney": "23 Gy"}, {}, "no such organ.*kidneys, liver, tumour"),
        ({"kidneys": "40 Gy BED"}, {}, "alpha/beta and repair half-life; there is no default"),
        ({"kidneys": "lots"}, {}, "cannot be read"),
        ({"kidneys": "23 MBq"}, {}, "needed: a number in Gy"),
        ({"kidneys": "-23 Gy"}, {}, "positive"),
        ({}, {}, "no limit was given"),
        ({"kidneys": "23 Gy"}, {"probability": 0.0}, "above 0 and below 1"),
        ({"kidneys": "23 Gy"}, {"probability": 5}, "0.05 for 5 %"),
        ({"kidneys": "23 Gy"}, {"cycles": 0}, "whole numbers"),
        ({"kidneys": "23 Gy"}, {"interval": "8 GBq"}, "interval"),
        ({"kidneys": "23 Gy"}, {"already": {"liver": "1 Gy"}}, "has no limit"),
        ({"kidneys": "23 Gy"}, {"activity_unit": "GBqq"}, "not known"),
    ],
)
def test_refusals(limits: Any, options: Any, words: str) -> None:
    with pytest.raises(PkmodelError, match=words):
        plan(doses(), limits, **options)


def test_a_bed_limit_needs_kinetics() -> None:
    assert plan(doses(known=False), {"kidneys": "23 Gy"}).best.activity > 0
    with pytest.raises(DoseError, match="kidneys: a BED needs the dose rate over time"):
        plan(doses(known=False), {"kidneys": BED_LIMIT})


def test_limits_round_trip_and_the_published_table() -> None:
    limit = Limit.parse("kidneys", "28 Gy EQD2 (a/b=2.5 Gy, repair=168 min)")
    assert str(limit) == "kidneys: 28 Gy EQD2 (a/b 2.5 Gy, repair 2.8 h)"
    table = published_limits("kidney")
    assert set(table["status"]) <= {"published", "secondary", "unverified"}
    assert table["source"].notna().all()
    with pytest.raises(DoseError, match="the table has"):
        published_limits("kindey")
