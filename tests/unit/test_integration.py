"""Time-integrated activity of fits, averages and runs against closed forms and quadrature."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

import pkmodel as pk
from pkmodel.data import Curves
from pkmodel.errors import DoseError
from pkmodel.formats.curve import Curve
from pkmodel.inference.protocol import ErrorModel, Free
from support import report

LAMBDA = math.log(2) / (6.647 * 24)  # 177Lu, ICRP 107
GIVEN = 7400.0
TIMES = np.array([1.0, 4.0, 24.0, 72.0, 120.0, 168.0, 240.0])


def curve(region: str, value: np.ndarray, times: np.ndarray = TIMES, kind: str = "tissue") -> Curve:
    nan = np.full(times.size, math.nan)
    return Curve(
        subject="S1",
        region=region,
        kind=kind,
        t_start=times,
        t_end=times,
        value=value,
        sd=nan,
        weights=nan,
        n=np.ones(times.size, dtype=np.int64),
        unit="MBq",
        decay_corrected=False,
        nuclide="Lu-177",
        volume=nan,
        injected_activity=GIVEN,
    )


def subject(*curves: Curve) -> Curves:
    return Curves(
        subject="S1", study="made", nuclide="Lu-177", agent="", curves=curves, injected_activity=GIVEN, amount=None
    )


def two_phase(f: float, ku: float, kw: float, t: np.ndarray) -> np.ndarray:
    return f * GIVEN * ku / (ku - kw) * (np.exp(-(kw + LAMBDA) * t) - np.exp(-(ku + LAMBDA) * t))


def noisy(value: np.ndarray, seed: int, cv: float = 0.02) -> np.ndarray:
    return value * (1 + cv * np.random.default_rng(seed).standard_normal(value.size))


@pytest.fixture(scope="module")
def kidney() -> pk.Fit:
    measured = noisy(two_phase(0.03, 0.8, 0.01, TIMES), 1)
    return pk.fit("organ_2_phase", subject(curve("kidneys", measured)), "serial_spect")


def test_two_phase_integral_is_the_closed_form(kidney: pk.Fit) -> None:
    f, ku, kw = (kidney.values[f"{n}[kidneys]"] for n in ("fraction", "k_uptake", "k_washout"))
    tia = pk.integrate(kidney, draws=50)
    expected = f * GIVEN * ku / (ku - kw) * (1 / (kw + LAMBDA) - 1 / (ku + LAMBDA))
    report("TIA of a two-phase organ [MBq h]", expected, float(tia.data.tia_point[0]), rtol=1e-10)
    amplitude = f * GIVEN * ku / (ku - kw)
    left = sum(s * amplitude / r * math.exp(-r * TIMES[-1]) for s, r in ((1, kw + LAMBDA), (-1, ku + LAMBDA)))
    report("fraction extrapolated", left / expected, float(tia.data.extrapolated_fraction[0]), rtol=1e-8)


def test_shares_and_rates_rebuild_the_curve(kidney: pk.Fit) -> None:
    tia = pk.integrate(kidney, draws=20).data.isel(organ=0)
    t = np.array([0.5, 3.0, 30.0, 200.0])
    rate, share = tia.rate_point.to_numpy(), tia.share_point.to_numpy()
    rebuilt = float(tia.tia_point) * (share * rate * np.exp(-rate * t[:, None])).sum(axis=1)
    for at, a, b in zip(t, kidney.predict("kidneys", t), rebuilt, strict=True):
        report(f"activity at {at:g} h from exponentials [MBq]", float(a), float(b), rtol=1e-9)
    assert np.allclose(tia.share.sum("term"), 1.0)


def test_every_rate_is_at_least_physical_decay(kidney: pk.Fit) -> None:
    tia = pk.integrate(kidney, draws=500).data
    assert float(tia.rate.where(abs(tia.share) > 0).min()) >= LAMBDA * (1 - 1e-9)
    assert float(tia.tiac.max()) <= 1 / LAMBDA


def test_three_phase_integral_against_quadrature() -> None:
    model = pk.load_model("organ_3_phase").replace(fraction=0.05, share=0.4, k_uptake=1.5, k_fast=0.2, k_slow=0.008)
    truth = pk.simulate(pk.label(model, "Lu-177"), f"{GIVEN} MBq once", [0.0, *TIMES])["organ"].to_numpy()[1:]
    protocol = pk.load_protocol("serial_spect").replace(
        free={n: Free() for n in ("fraction", "share", "k_uptake", "k_fast", "k_slow")}
    )
    fit = pk.fit(model, subject(curve("liver", noisy(truth, 2, 0.005))), protocol)
    tia = pk.integrate(fit, draws=0)
    parts = [0.0, 2.0, 10.0, 50.0, 200.0, 1000.0, 6000.0]
    pieces = [
        quad(lambda t: float(fit.predict("liver", [t])[0]), a, b, epsabs=1e-6, epsrel=1e-10)[0]
        for a, b in pairwise(parts)
    ]
    report("TIA of a three-phase organ by quadrature [MBq h]", sum(pieces), float(tia.data.tia_point[0]), rtol=1e-7)


def test_body_model_integrates_every_organ_of_one_solve() -> None:
    body = pk.label(pk.load_model("whole_body_linear"), "Lu-177")
    run = pk.simulate(body, f"{GIVEN} MBq once", [0.0, *TIMES, 4000.0])
    curves = [curve(o, noisy(run[o].to_numpy()[1:-1], k)) for k, o in enumerate(("kidneys", "liver"))]
    free = {n: Free() for n in ("k_urine", "k_kidneys_in", "k_kidneys_out", "k_liver_in", "k_liver_out")}
    fit = pk.fit("whole_body_linear", subject(*curves), pk.load_protocol("serial_spect").replace(free=free))
    tia = pk.integrate(fit, draws=100)
    again = pk.simulate(fit.model.replace(**fit.values), f"{GIVEN} MBq once", [0.0, 4000.0])
    for organ in ("kidneys", "liver"):
        expected = float(again[f"integral_{organ}"][-1])
        got = float(tia.data.tia_point.sel(organ=organ))
        report(f"TIA of {organ} in a body model [MBq h]", expected, got, rtol=1e-7)
    assert np.isfinite(tia.data.rate_point).all()


def test_saturable_model_is_run_to_the_end() -> None:
    model = pk.load_model("psma617_siebinga2023")
    hot = pk.label(model, "Lu-177", cold=True)
    run = pk.simulate(hot, f"{GIVEN} MBq once", [0.0, *TIMES, 24.0 * 200])
    glands = curve("salivary_glands", noisy(run["salivary_glands"].to_numpy()[1:-1], 3))
    rules = pk.Protocol(name="gland", free={"Bmax": Free(), "k21": Free()}, error=ErrorModel(), cold=True, starts=2)
    fit = pk.fit(model, subject(glands), rules)
    tia = pk.integrate(fit, draws=3)
    again = pk.simulate(fit.model.replace(**fit.values), f"{GIVEN} MBq once", [0.0, 24.0 * 200])
    report(
        "TIA of a saturable gland [MBq h]",
        float(again["integral_salivary_glands"][-1]),
        float(tia.data.tia_point[0]),
        rtol=1e-5,
    )
    assert any("saturable kinetics" in w for w in tia.warnings)


def test_a_run_ends_with_physical_decay() -> None:
    model = pk.label(pk.load_model("organ_1_phase"), "Lu-177")
    f, k = 0.01491, 0.009736
    run = pk.simulate(model, "1000 MBq once", [0.0, 100.0])
    tia = pk.integrate(run)
    rate = k + LAMBDA
    expected = f * 1000 * ((1 - math.exp(-rate * 100)) / rate + math.exp(-rate * 100) / LAMBDA)
    report("TIA of a run with physical tail [MBq h]", expected, float(tia.data.tia_point[0]), rtol=1e-10)
    assert any("after the end of the run" in w for w in tia.warnings)


def test_model_average_lies_between_its_models() -> None:
    data = subject(curve("kidneys", noisy(two_phase(0.03, 0.15, 0.01, TIMES), 4, 0.05)))
    one = pk.fit("organ_1_phase", data, "serial_spect_1_phase")
    two = pk.fit("organ_2_phase", data, "serial_spect")
    both = pk.compare([one, two])
    average = pk.integrate(both, draws=400)
    points = [float(pk.integrate(f, draws=0).data.tia_point[0]) for f in (one, two)]
    expected = sum(w * p for w, p in zip(both.weights, points, strict=True))
    report("model-averaged TIA [MBq h]", expected, float(average.data.tia_point[0]), rtol=1e-9)
    assert np.allclose(average.data.share_point.sum("term"), 1.0)


def test_unlabelled_run_is_refused() -> None:
    run = pk.simulate(pk.load_model("organ_1_phase"), "10 nmol once", [0.0, 10.0])
    with pytest.raises(DoseError, match="without a label"):
        pk.integrate(run)


def test_driven_model_is_refused() -> None:
    fit = _pet_fit()
    with pytest.raises(DoseError, match="driven by a measured input"):
        pk.integrate(fit)


def _pet_fit() -> pk.Fit:
    knots = np.linspace(0.0, 2.0, 30)
    plasma = np.exp(-knots) * knots
    times = np.array([0.1, 0.3, 0.6, 1.0, 1.5])
    data = replace(
        subject(curve("cortex", np.array([0.5, 1.0, 1.2, 1.1, 0.9]), times)),
        nuclide="C-11",
        curves=(
            curve("cortex", np.array([0.5, 1.0, 1.2, 1.1, 0.9]), times).replace(
                unit="kBq/mL", nuclide="C-11", decay_corrected=True
            ),
        ),
    )
    rules = pk.Protocol(free={"K1": Free(), "k2": Free()}, starts=1)
    return pk.fit("one_tissue", data, rules, inputs={"Cp": (knots, plasma), "Cb": (knots, plasma)})
