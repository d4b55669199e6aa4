"""Practice methods against the published integrals of a real patient, and worked checks.

Patient 004 of the SNMMI 177Lu dosimetry challenge, doi:10.7302/864r-tb45; the published fit is
A (exp(-l1 t) - exp(-l2 t)), for kidney_left and liver. For kidney_right and spleen, which have no published fit, the
same function is fitted here (it reproduces the two published integrals, which is asserted first).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares

from pkmodel.dosimetry.practice import haenscheid, known_half_life, madsen, mono_exponential, trapezoid
from pkmodel.errors import DoseError
from support import report, shared

ORGANS = ("kidney_left", "kidney_right", "liver", "spleen")
LN2 = np.log(2.0)
Patient = dict[str, tuple[np.ndarray, np.ndarray, float]]


def _residuals(p: np.ndarray, t: np.ndarray, a: np.ndarray) -> np.ndarray:
    return np.asarray(p[0] * (np.exp(-p[1] * t) - np.exp(-p[2] * t)) - a)


@pytest.fixture(scope="module")
def patient() -> Patient:
    """Times [h], activities [MBq] and reference TIA [MBq h] of four organs."""
    curves = pd.read_csv(shared("therapy/snmmi_p004_177lu_dotatate_tac.csv"))
    published = pd.read_csv(shared("therapy/snmmi_p004_expected.csv")).set_index("region")["TIA_MBq_h"]
    found = {}
    for organ in ORGANS:
        rows = curves[curves["region"] == organ]
        t, a = rows["time_h"].to_numpy(), rows["value"].to_numpy()
        x = least_squares(
            _residuals,
            [1.1 * a[0], 0.012, 0.8],
            args=(t, a),
            x_scale=[100.0, 0.01, 1.0],
            xtol=1e-14,
            ftol=1e-14,
            gtol=1e-14,
        ).x
        fitted = float(x[0] * (1 / x[1] - 1 / x[2]))
        if organ in published:
            report(
                f"{organ}: TIA of the fit used here against the published one [MBq h]",
                published[organ],
                fitted,
                rtol=1e-5,
            )
        found[organ] = (t, a, float(published.get(organ, fitted)))
    return found


def errors(patient: Patient, method: Callable[..., Any]) -> dict[str, float]:
    """Relative error in per cent, by organ."""
    return {organ: 100.0 * (float(method(t, a)) / tia - 1.0) for organ, (t, a, tia) in patient.items()}


def check(name: str, found: dict[str, float], low: float, high: float) -> None:
    print(f"{name}: " + ", ".join(f"{organ} {x:+.2f} %" for organ, x in found.items()))
    report(f"{name}: smallest error [%]", low, min(found.values()), atol=0.6)
    report(f"{name}: largest error [%]", high, max(found.values()), atol=0.6)


def test_trapezoid_with_a_physical_tail(patient: Patient) -> None:
    check("trapezoid, physical tail", errors(patient, lambda t, a: trapezoid(t, a, "Lu-177")), 30.0, 43.0)


def test_mono_exponential(patient: Patient) -> None:
    both = {
        f"{organ} {method}": x
        for method in ("log_linear", "least_squares")
        for organ, x in errors(patient, lambda t, a, m=method: mono_exponential(t, a, "Lu-177", method=m)).items()
    }
    check("mono-exponential", both, 0.2, 5.0)


@pytest.mark.parametrize(("point", "low", "high"), [(2, -0.5, 7.0), (1, -51.0, -21.0)])
def test_haenscheid(patient: Patient, point: int, low: float, high: float) -> None:
    found = errors(patient, lambda t, a: haenscheid(t[point], a[point]))
    check(f"Haenscheid at {patient['liver'][0][point]:.0f} h", found, low, high)


def test_an_effective_tail_is_far_better_than_a_physical_one(patient: Patient) -> None:
    found = errors(patient, lambda t, a: trapezoid(t, a, "Lu-177", tail="effective"))
    print("trapezoid, effective tail: " + ", ".join(f"{organ} {x:+.2f} %" for organ, x in found.items()))
    assert max(found.values()) < 20.0


@pytest.mark.parametrize(("half_life", "expected"), [(51.6, 2.47), (67.0, 6.15), (100.0, -1.30), (30.0, -30.36)])
def test_haenscheid_worked_checks(half_life: float, expected: float) -> None:
    rate = LN2 / half_life
    got = float(haenscheid(96.0, np.exp(-rate * 96.0)))
    report(f"Haenscheid at 96 h, T_eff {half_life:g} h: error [%]", expected, 100 * (got * rate - 1), atol=0.006)


def test_haenscheid_worked_numbers() -> None:
    report("Haenscheid, 1 MBq at 96 h [MBq h]", 276.997, float(haenscheid(96.0, 1.0)), rtol=2e-6)
    true = float(known_half_life(96.0, 1.0, 51.6, "Lu-177"))
    report("exact, 1 MBq at 96 h, T_eff 51.6 h [MBq h]", 270.321, true, rtol=2e-6)


@pytest.mark.parametrize(
    ("t", "true", "expected"),
    [(96, 40, -11.25), (96, 65, 3.56), (72, 40, -2.55), (72, 65, -3.10), (24, 40, 17.49), (24, 65, -15.16)],
)
def test_madsen_worked_checks(t: float, true: float, expected: float) -> None:
    rate = LN2 / true
    got = float(madsen(t, np.exp(-rate * t), 51.6, "Lu-177"))
    report(f"Madsen, prior 51.6 h, true {true} h, at {t} h: error [%]", expected, 100 * (got * rate - 1), atol=0.006)


def test_exact_where_the_curve_is_a_mono_exponential() -> None:
    t, rate = np.array([4.0, 24.0, 96.0, 168.0]), LN2 / 60.0
    a = 100.0 * np.exp(-rate * t)
    for method in ("log_linear", "least_squares"):
        got = float(mono_exponential(t, a, "Lu-177", method=method))
        report(f"mono-exponential, {method} [MBq h]", 100.0 / rate, got, rtol=1e-7)
    report("known half-life [MBq h]", 100.0 / rate, float(known_half_life(96.0, a[2], 60.0, "Lu-177")), rtol=1e-12)
    # straight lines through points on a line are exact, whatever comes before and after
    line, lam = 200.0 - t, LN2 / 159.528
    for start, first in (("linear", 196 * 2.0), ("constant", 196 * 4.0), ("decay", 196 * np.expm1(4 * lam) / lam)):
        expected = first + (200 * 164 - (168**2 - 16) / 2) + 32.0 / lam
        area = trapezoid(t, line, 159.528, start=start)  # type: ignore[arg-type]
        report(f"trapezoid, {start} start [MBq h]", expected, float(area), rtol=1e-12)


def test_refusals() -> None:
    t, rising = [4.0, 24.0, 96.0], [50.0, 60.0, 70.0]
    with pytest.raises(DoseError, match="does not fall"):
        mono_exponential(t, rising, "Lu-177")
    with pytest.raises(DoseError, match="biological half-life"):
        known_half_life(96.0, 10.0, 200.0, "Lu-177")
    with pytest.raises(DoseError, match="increasing"):
        trapezoid([4.0, 4.0], [1.0, 1.0], "Lu-177")
    with pytest.raises(DoseError, match="not negative"):
        trapezoid([4.0, 24.0], [1.0, -1.0], "Lu-177")
    with pytest.raises(DoseError, match="physical"):
        trapezoid([4.0, 24.0], [1.0, 0.5], "Lu-177", tail="exponential")  # type: ignore[arg-type]
    slow = trapezoid(t, [50.0, 49.0, 48.0], "Lu-177", tail="effective")
    assert any("physical decay" in x for x in slow.warnings)
    assert any("after the last" in x for x in slow.warnings)
