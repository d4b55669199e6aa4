"""Warnings in words: each one appears where it is due, names its parameter, and stays away from a good fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from synthetic import Array, curve, curves, protocol

from pkmodel.inference.fitting import fit
from pkmodel.nuclides import nuclide

DECAY = nuclide("Lu-177").decay_constant
TIMES = np.array([1.0, 4.0, 10.0, 24.0, 48.0, 72.0, 120.0])
NOISE = 1 + 0.03 * np.random.default_rng(2).standard_normal(TIMES.size)
THREE = "fraction k_uptake k_washout"


def _two_phase(t: Array, f: float, ku: float, kw: float) -> Array:
    return np.asarray(1000 * f * ku / (ku - kw) * (np.exp(-(kw + DECAY) * t) - np.exp(-(ku + DECAY) * t)), dtype=float)


def _warn(y: Array, free: str | dict[str, Any] = THREE, t: Array = TIMES, model: str = "organ_2_phase") -> list[str]:
    got = fit(model, curves(curve("liver", t, y)), protocol(free))
    print("\n".join(got.warnings) or "no warnings")
    return list(got.warnings)


def test_a_good_fit_has_none() -> None:
    assert _warn(_two_phase(TIMES, 0.03, 0.4, 0.01) * NOISE) == []


def test_an_upper_bound() -> None:
    free = {"fraction": {"upper": 0.02, "start": 0.01}, "k_uptake": {}, "k_washout": {}}
    said = _warn(_two_phase(TIMES, 0.03, 0.4, 0.01) * NOISE, free)
    assert any(w.startswith("fraction[liver] ran to its upper bound (0.02 1)") for w in said)


def test_a_lower_bound() -> None:
    free = {"fraction": {}, "k_washout": {"lower": 0.05, "start": 0.1}}
    said = _warn(_two_phase(TIMES, 0.03, 40.0, 0.01) * NOISE, free, model="organ_1_phase")
    assert any(w.startswith("k_washout[liver] ran to its lower bound (0.05 1/h)") for w in said)


def test_a_washout_slower_than_none() -> None:
    """Activity that falls more slowly than decay allows: the biological rate goes to zero and that is said."""
    y = 20 * np.exp(-0.8 * DECAY * TIMES)
    said = _warn(y, "fraction k_washout", model="organ_1_phase")
    assert any(w.startswith("k_washout[liver]") and ("zero" in w or "no datum informs it" in w) for w in said)


def test_a_rate_that_no_datum_informs() -> None:
    late = np.array([48.0, 72.0, 96.0, 120.0, 168.0])
    said = _warn(_two_phase(late, 0.03, 2.0, 0.01) * NOISE[:5], t=late)
    assert any(w.startswith("k_uptake[liver]: no datum informs it") for w in said)


def test_two_that_cannot_be_told_apart() -> None:
    """Fast uptake only just seen and slow washout: amplitude and rate go together."""
    t = np.array([96.0, 108.0, 120.0, 132.0, 144.0])
    y = _two_phase(t, 0.03, 5.0, 0.01) * (1 + 0.01 * np.array([1, -1, 1, -1, 1]))
    said = _warn(y, "fraction k_washout", t, "organ_1_phase")
    assert any("fraction[liver] and k_washout[liver] cannot be told apart (correlation 0.99" in w for w in said)


def test_an_uncertain_parameter() -> None:
    y = _two_phase(TIMES, 0.03, 0.4, 0.002) * (1 + 6 * (NOISE - 1))
    said = _warn(y)
    assert any("is uncertain: relative standard error" in w or "no datum informs it" in w for w in said)


def test_no_freedom() -> None:
    said = _warn(_two_phase(TIMES[::3], 0.03, 0.4, 0.01), t=TIMES[::3])
    assert any("liver: as many parameters as points" in w for w in said)
    assert any("AICc is undefined: 3 points for 4 estimated numbers" in w for w in said)


def test_little_freedom() -> None:
    t = TIMES[[0, 2, 4, 6]]
    said = _warn(_two_phase(t, 0.03, 0.4, 0.01) * NOISE[:4], t=t)
    assert any("liver: the error estimate rests on 1 degree of freedom" in w for w in said)


def test_known_errors_need_no_freedom() -> None:
    t = TIMES[::3]
    y = _two_phase(t, 0.03, 0.4, 0.01)
    c = curve("liver", t, y, sd=0.05 * y, sd_kind="sem")
    got = fit("organ_2_phase", curves(c), protocol(THREE, error={"kind": "table", "absolute": True}))
    assert not any("freedom" in w or "as many" in w for w in got.warnings)
    assert np.all(np.isfinite(got.table["se"]))


def test_pooled_freedom_is_said_once() -> None:
    t = TIMES[::3]
    a, b = (curve(r, t, _two_phase(t, 0.03, 0.4, 0.01)) for r in ("a", "b"))
    got = fit("organ_2_phase", curves(a, b), protocol(THREE, error={"pooled": True}))
    assert sum("as many parameters as points" in w for w in got.warnings) == 1


def test_what_is_held_spoils_no_other_error_and_no_draw() -> None:
    """Beside a rate that runs to infinity the washout keeps the error it has in the model without that rate."""
    late = np.array([96.0, 120.0, 144.0, 168.0, 192.0])
    y = 20 * np.exp(-(0.01 + DECAY) * late) * (1 + 0.02 * np.array([1, -1, 0, 1, -1]))
    two = fit(
        "organ_2_phase",
        curves(curve("liver", late, y)),
        protocol({"fraction": {}, "k_uptake": {"start": 50.0}, "k_washout": {}}, starts=1),
    )
    one = fit("organ_1_phase", curves(curve("liver", late, y)), protocol("fraction k_washout"))
    assert two.held == ("k_uptake[liver]",)
    ratio = float(two.table["se"]["k_washout[liver]"] / one.table["se"]["k_washout[liver]"])
    print(f"se of the washout, with and without the uptake: ratio {ratio:.4f}")  # freedom 2 against 3
    assert 1.0 <= ratio < 1.3
    assert two.draws(100)["k_uptake[liver]"].nunique() == 1
    assert two.table["low"]["k_uptake[liver]"] == 0 and two.table["high"]["k_uptake[liver]"] == pytest.approx(100)


def test_the_studys_own_warnings_come_along() -> None:
    data = curves(curve("liver", TIMES, _two_phase(TIMES, 0.03, 0.4, 0.01) * NOISE), warnings=("times are rounded",))
    assert fit("organ_2_phase", data, protocol(THREE)).warnings == ("times are rounded",)
