"""BED: worked checks, G against numerical quadrature, overlapping cycles, and what must always hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from pkmodel.dosimetry.radiobiology import bed_from_exponentials, eqd2, incomplete_repair_factor
from pkmodel.errors import DoseError
from support import report

REPAIR, RATIO = 2.8, 2.5  # h, Gy
LN2 = np.log(2.0)


def mono(half_life: float) -> tuple[list[float], list[float]]:
    return [1.0], [LN2 / half_life]


def from_amplitudes(amplitudes: list[float], half_lives: list[float]) -> tuple[np.ndarray, np.ndarray, float]:
    """Shares, rates and dose of a dose rate sum a exp(-l t)."""
    rates = LN2 / np.array(half_lives)
    parts = np.array(amplitudes) / rates
    return parts / parts.sum(), rates, float(parts.sum())


def test_worked_checks_mono_exponential() -> None:
    shares, rates = mono(51.6)
    g = float(incomplete_repair_factor(shares, rates, REPAIR))
    report("G, T_eff 51.6 h, repair 2.8 h", 0.0514706, g, rtol=1e-6)
    report("G, T_rep/(T_rep + T_eff)", REPAIR / (REPAIR + 51.6), g, rtol=1e-14)
    for dose, expected, equivalent in ((23.0, 33.8912, 18.8284), (28.0, 44.1412, 24.5229), (40.0, 72.9412, None)):
        value = float(bed_from_exponentials(dose, shares, rates, RATIO, REPAIR))
        report(f"BED of {dose:g} Gy [Gy]", expected, value, rtol=1e-6)
        if equivalent is not None:
            report(f"EQD2 of {dose:g} Gy [Gy]", equivalent, float(eqd2(value, RATIO)), rtol=3e-6)
    for dose, expected in ((5.75, 25.7228), (7.0, 32.0353)):
        value = float(bed_from_exponentials(dose, shares, rates, RATIO, REPAIR, cycles=4))
        report(f"BED of 4 x {dose:g} Gy, well separated [Gy]", expected, value, rtol=2e-6)


def test_worked_checks_bi_exponential() -> None:
    shares, rates, dose = from_amplitudes([1.0, 0.5], [3.0, 60.0])
    report("D, a = (1, 0.5), T = (3, 60) h [Gy]", 47.60894, dose, rtol=1e-6)
    report("G, a = (1, 0.5)", 0.05165607, float(incomplete_repair_factor(shares, rates, REPAIR)), rtol=1e-6)
    shares, rates, _ = from_amplitudes([1.0, -1.0], [60.0, 2.0])
    report(
        "G, a = (1, -1), T = (60, 2) h", 0.04398671, float(incomplete_repair_factor(shares, rates, REPAIR)), rtol=1e-6
    )


def g_by_integration(shares: Any, rates: Any, repair: float, cycles: int = 1, interval: float = 0.0) -> float:
    """G from its definition: solve dI/dt = D'(t) - mu I, dJ/dt = D'(t) I; then G = 2 J / D^2, restarting each cycle."""
    shares, rates, mu = np.asarray(shares), np.asarray(rates), LN2 / repair
    state = np.concatenate([np.zeros_like(rates), [0.0, 0.0]])  # each exponential, then I and J

    def slope(_t: float, y: np.ndarray) -> np.ndarray:
        rate = y[:-2].sum()
        return np.concatenate([-rates * y[:-2], [rate - mu * y[-2], rate * y[-2]]])

    for k in range(cycles):
        state[:-2] += shares * rates
        end = interval if k < cycles - 1 else 60.0 / min(rates.min(), mu)
        state = solve_ivp(slope, (0.0, end), state, method="LSODA", rtol=1e-11, atol=1e-15).y[:, -1]
    return float(2.0 * state[-1] / cycles**2)


@pytest.mark.parametrize(
    ("name", "amplitudes", "half_lives", "repair"),
    [
        ("two phases", [1.0, 0.5], [3.0, 60.0], 2.8),
        ("uptake and washout", [1.0, -1.0], [60.0, 2.0], 2.8),
        ("three phases", [2.0, 1.0, -3.0], [20.0, 100.0, 1.5], 0.5),
        ("repair as fast as washout", [1.0], [2.8], 2.8),
    ],
)
def test_g_against_its_definition(name: str, amplitudes: list[float], half_lives: list[float], repair: float) -> None:
    shares, rates, _ = from_amplitudes(amplitudes, half_lives)
    got = float(incomplete_repair_factor(shares, rates, repair))
    report(f"G by integration, {name}", g_by_integration(shares, rates, repair), got, rtol=1e-8)


@pytest.mark.parametrize(
    ("half_lives", "amplitudes", "repair", "cycles", "interval"),
    [
        ([51.6], [1.0], 2.8, 2, 24.0),
        ([51.6], [1.0], 2.8, 4, 1.0),
        ([60.0, 2.0], [1.0, -1.0], 2.8, 3, 48.0),
        ([3.0, 60.0], [1.0, 0.5], 40.0, 5, 72.0),
        ([2.8], [1.0], 2.8, 3, 5.0),
        ([2.8 * (1 + 1e-9)], [1.0], 2.8, 3, 5.0),
    ],
)
def test_overlapping_cycles(
    half_lives: list[float], amplitudes: list[float], repair: float, cycles: int, interval: float
) -> None:
    shares, rates, _ = from_amplitudes(amplitudes, half_lives)
    got = float(incomplete_repair_factor(shares, rates, repair, cycles=cycles, interval=interval))
    expected = g_by_integration(shares, rates, repair, cycles, interval)
    report(f"G of {cycles} cycles every {interval:g} h, T {half_lives}, repair {repair:g} h", expected, got, rtol=1e-8)


def test_limits_of_the_interval() -> None:
    shares, rates, _ = from_amplitudes([1.0, -1.0], [60.0, 2.0])
    apart = float(incomplete_repair_factor(shares, rates, REPAIR, cycles=4))
    weeks = float(incomplete_repair_factor(shares, rates, REPAIR, cycles=4, interval="8 wk"))
    report("G, 4 cycles every 8 wk against well separated", apart, weeks, rtol=1e-6)
    at_once = float(incomplete_repair_factor(shares, rates, REPAIR, cycles=4, interval=1e-9))
    report(
        "G, 4 cycles at once against one", float(incomplete_repair_factor(shares, rates, REPAIR)), at_once, rtol=1e-8
    )


def test_draws_are_vectorised_and_unused_terms_do_nothing() -> None:
    rng = np.random.default_rng(1)
    rates = rng.uniform(0.005, 0.5, (50, 2))
    shares = np.stack([np.full(50, 1.3), np.full(50, -0.3)], axis=1)
    together = incomplete_repair_factor(shares, rates, REPAIR, cycles=2, interval=30.0)
    one = [
        float(incomplete_repair_factor(s, r, REPAIR, cycles=2, interval=30.0))
        for s, r in zip(shares, rates, strict=True)
    ]
    report("largest difference, draws at once against one by one", 0.0, float(np.abs(together - one).max()), atol=1e-15)
    padded = incomplete_repair_factor(
        np.pad(shares, ((0, 0), (0, 1))), np.pad(rates, ((0, 0), (0, 1)), constant_values=1.0), REPAIR
    )
    plain = incomplete_repair_factor(shares, rates, REPAIR)
    report("largest difference with an unused term", 0.0, float(np.abs(padded - plain).max()), atol=1e-15)


positive = st.floats(0.001, 10.0)


@settings(max_examples=200, deadline=None)
@given(
    parts=st.lists(st.tuples(st.floats(0.01, 1.0), positive), min_size=1, max_size=4),
    repair=st.floats(0.05, 100.0),
    cycles=st.integers(1, 5),
    interval=st.floats(0.01, 2000.0),
    dose=st.floats(0.01, 50.0),
)
def test_g_of_a_dose_rate_lies_in_zero_to_one(
    parts: Any, repair: float, cycles: int, interval: float, dose: float
) -> None:
    weights, rates = np.array([p[0] for p in parts]), np.array([p[1] for p in parts])
    shares = weights / weights.sum()
    g = float(incomplete_repair_factor(shares, rates, repair, cycles=cycles, interval=interval))
    assert 0.0 < g <= 1.0 + 1e-12
    apart = float(incomplete_repair_factor(shares, rates, repair, cycles=cycles))
    assert apart <= g * (1 + 1e-12)  # overlap can only leave less time for repair
    value = float(bed_from_exponentials(dose, shares, rates, RATIO, repair, cycles=cycles, interval=interval))
    assert value >= cycles * dose


@pytest.mark.parametrize(
    ("shares", "rates", "repair", "words"),
    [
        ([np.nan], [np.nan], 2.8, "not known"),
        ([1.0], [-0.1], 2.8, "positive"),
        ([0.5], [0.1], 2.8, "add up to 1"),
        ([1.0], [0.1], 0.0, "repair half-life"),
        ([1.0], [0.1], "2.8 Gy", "repair half-life"),
    ],
)
def test_refusals(shares: Any, rates: Any, repair: Any, words: str) -> None:
    with pytest.raises(DoseError, match=words):
        incomplete_repair_factor(shares, rates, repair)
    with pytest.raises(DoseError, match="alpha/beta"):
        eqd2(30.0, 0.0)
    with pytest.raises(DoseError, match="cycles"):
        incomplete_repair_factor([1.0], [0.1], 2.8, cycles=0)
