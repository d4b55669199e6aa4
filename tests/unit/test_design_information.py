"""Expected information of one patient against closed forms of one exponential, worked out here."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import pkmodel as pk
from pkmodel.errors import SimulationError
from pkmodel.model import Model
from pkmodel.nuclides import nuclide
from pkmodel.sampling_design import Clinic, ScanNoise, design, sampling_adequacy
from support import report

Array = NDArray[np.float64]
DECAY = nuclide("Lu-177").decay_constant
FRACTION, WASHOUT = 0.02, 0.008
DOSE = 7400.0
CV = {"fraction": 0.4, "k_washout": 0.3}
PRIOR = np.diag([1 / math.log1p(0.4**2), 1 / math.log1p(0.3**2)])


@pytest.fixture(scope="module")
def organ() -> Model:
    return pk.load_model("organ_1_phase").replace(fraction=FRACTION, k_washout=WASHOUT)


def _mean(t: Array, long: float = 0.0) -> tuple[Array, Array]:
    """Mean activity over frames and its derivatives by log fraction and log k_washout, in closed form."""
    k = WASHOUT + DECAY
    f = DOSE * FRACTION * np.exp(-k * t)
    if not long:
        return f, np.stack([f, -t * WASHOUT * f], axis=1)
    average = (1 - math.exp(-k * long)) / (k * long)
    slope = (math.exp(-k * long) * (1 + k * long) - 1) / (k * k * long)  # d average / d k
    return f * average, np.stack([f * average, WASHOUT * (f * slope - t * f * average)], axis=1)


def _information(t: Array, noise: ScanNoise, long: float = 0.0) -> Array:
    f, d = _mean(t, long)
    count = noise.inflation / (noise.sensitivity * 3600 * long) if noise.sensitivity else 0.0
    v = noise.additive**2 + noise.proportional**2 * f**2 + count * f
    dv = 2 * noise.proportional**2 * f + count
    return np.asarray(np.einsum("t,ta,tb->tab", 1 / v + 0.5 * (dv / v) ** 2, d, d))


G = np.array([1.0, -WASHOUT / (WASHOUT + DECAY)])  # gradient of log(DOSE F / (k + decay))


def _tia_sd(information: Array, prior: Array = PRIOR) -> float:
    return math.sqrt(float(G @ np.linalg.solve(information + prior, G)))


@pytest.mark.parametrize(
    ("noise", "long"),
    [
        (ScanNoise(proportional=0.1), 0.0),
        (ScanNoise(proportional=0.05, additive=3.0), 0.0),
        (ScanNoise(proportional=0.03, sensitivity=9.0, inflation=50.0), 0.5),
    ],
)
def test_precision_of_a_protocol_is_the_closed_form(organ: Model, noise: ScanNoise, long: float) -> None:
    t = np.array([4.0, 24.0, 96.0])
    got = sampling_adequacy(
        organ, "7400 MBq once", t, nuclide="Lu-177", spread=CV, noise=noise, minutes=60 * long, mass_sd={"organ": 0.05}
    )
    each = _information(t, noise, long)
    expected = _tia_sd(each.sum(axis=0))
    report("SD of TIA", expected, got.value, rtol=1e-7)
    row = got.organs.T["organ"].astype(float).to_dict()
    report("TIA [MBq h]", DOSE * FRACTION / (WASHOUT + DECAY), row["TIA_MBq_h"], rtol=1e-9)
    report("SD before any scan [%]", 100 * _tia_sd(np.zeros((2, 2))), row["sd_before_percent"], rtol=1e-9)
    report("after the last scan [%]", 100 * math.exp(-(WASHOUT + DECAY) * (96 + long)), row["after_last_scan_percent"],
           rtol=1e-8)  # fmt: skip
    report("SD of dose [%]", 100 * math.hypot(expected, 0.05), row["dose_sd_percent"], rtol=1e-7)
    covariance = np.linalg.inv(each.sum(axis=0) + PRIOR)
    for k, name in enumerate(CV):
        report(f"SD of {name} [%]", 100 * math.sqrt(covariance[k, k]), got.parameters["sd_percent"][name], rtol=1e-7)
    out = got.leave_out()
    for k in range(3):
        report(f"without scan {k + 1} [%]", 100 * _tia_sd(np.delete(each, k, 0).sum(axis=0)),
               out["organ_percent"][k + 1], rtol=1e-7)  # fmt: skip
    more = got.add_scan().set_index("time_h")
    at = float(more.index[40])
    wanted = 100 * _tia_sd(each.sum(axis=0) + _information(np.array([at]), noise, long)[0])
    report(f"one scan more at {at:g} h [%]", wanted, more["organ_percent"][at], rtol=1e-7)


@pytest.mark.parametrize("criterion", ["tia", "D", "A", "Ds"])
def test_the_best_scans_are_those_of_brute_force(organ: Model, criterion: str) -> None:
    """Every combination of a grid, judged by the closed form; opening hours and a gap of 20 h."""
    noise, clinic = ScanNoise(proportional=0.08, additive=1.0), Clinic("Wed 9:00", hours="8-16", step=2.0)
    found = design(
        organ, "7400 MBq once", scans=3, nuclide="Lu-177", spread=CV, noise=noise, clinic=clinic, gap=20.0,
        criterion=criterion, of=["k_washout"] if criterion == "Ds" else [], method="exact",
    )  # fmt: skip
    times = clinic.times(168.0)
    each = _information(times, noise)

    def value(chosen: tuple[int, ...]) -> float:
        m = each[list(chosen)].sum(axis=0) + PRIOR
        c = np.linalg.inv(m)
        if criterion == "tia":
            return _tia_sd(m - PRIOR)
        if criterion == "D":
            return float(np.linalg.det(c) ** 0.25)
        return math.sqrt(float(c[1, 1])) if criterion == "Ds" else math.sqrt(float(np.trace(c)) / 2)

    every = [c for c in combinations(range(times.size), 3) if np.diff(times[list(c)]).min() >= 20]
    best = min(every, key=value)
    assert found.tried == len(every)
    report("value", value(best), found.value, rtol=1e-7)
    np.testing.assert_allclose(found.start, times[list(best)])


def test_off_the_grid_is_never_worse_and_stationary(organ: Model) -> None:
    common: dict[str, Any] = {"scans": 2, "nuclide": "Lu-177", "spread": CV, "noise": 0.1}
    grid = design(organ, "7400 MBq once", polished=False, **common)
    fine = design(organ, "7400 MBq once", **common)
    assert fine.value <= grid.value and "off the grid" in fine.method
    noise = ScanNoise(proportional=0.1)
    times = np.linspace(0.2, 168.0, 840)
    each = _information(times, noise)
    pairs = np.array(list(combinations(range(times.size), 2)))
    m = each[pairs].sum(axis=1) + PRIOR
    fine_grid = math.sqrt(float((np.linalg.solve(m, np.broadcast_to(G, (len(m), 2))[..., None])[..., 0] @ G).min()))
    report("brute force on 840 times", fine_grid, fine.value, rtol=1e-5)


def test_without_prior_knowledge(organ: Model) -> None:
    free = ["fraction", "k_washout"]
    common: dict[str, Any] = {"nuclide": "Lu-177", "free": free, "noise": 0.1, "prior": False}
    two = sampling_adequacy(organ, "7400 MBq once", [24, 96], **common)
    each = _information(np.array([24.0, 96.0]), ScanNoise(proportional=0.1))
    report("SD of TIA", _tia_sd(each.sum(axis=0), np.zeros((2, 2))), two.value, rtol=1e-7)
    one = sampling_adequacy(organ, "7400 MBq once", [24], **common)
    assert math.isinf(one.value) and "not determined" in str(one)
    assert any("do not determine fraction, k_washout" in w for w in one.warnings)
    with pytest.raises(SimulationError, match="1 scan cannot determine fraction, k_washout"):
        design(organ, "7400 MBq once", scans=1, **common)
    with pytest.raises(SimulationError, match="even all candidates together do not determine k_uptake"):
        instant = pk.load_model("organ_2_phase").replace(k_uptake=90.0)
        design(
            instant, "7400 MBq once", scans=3, times=[24, 48, 96], nuclide="Lu-177", noise=0.1, prior=False,
            free=["fraction", "k_uptake", "k_washout"], criterion="D",
        )  # fmt: skip


def test_correlation_and_a_cohort(organ: Model) -> None:
    omega = pd.DataFrame([[0.15, 0.05], [0.05, 0.09]], index=list(CV), columns=list(CV))
    got = sampling_adequacy(organ, "7400 MBq once", [72], nuclide="Lu-177", omega=omega, noise=0.1)
    prior = np.linalg.inv(omega.to_numpy())
    each = _information(np.array([72.0]), ScanNoise(proportional=0.1))
    report("SD of TIA, correlated", _tia_sd(each[0], prior), got.value, rtol=1e-7)
    table = pd.DataFrame({"k_washout": [0.004, 0.008, 0.016]})
    many = sampling_adequacy(organ, "7400 MBq once", [72], nuclide="Lu-177", spread=CV, noise=0.1, patients=table)
    alone = [
        sampling_adequacy(organ.replace(k_washout=k), "7400 MBq once", [72], nuclide="Lu-177", spread=CV, noise=0.1)
        for k in table["k_washout"]
    ]
    report("over patients", math.sqrt(sum(a.value**2 for a in alone) / 3), many.value, rtol=1e-9)
    drawn = design(organ, "7400 MBq once", scans=1, nuclide="Lu-177", spread=CV, noise=0.1, patients=20, seed=1)
    assert len(drawn.setting.people) == 20 and "20 patients" in str(drawn)


def test_several_organs_with_weights_and_a_nonlinear_model() -> None:
    """The gland of this model saturates, so the engine follows it; tangents against differences of whole runs."""
    common: dict[str, Any] = {
        "organs": {"kidneys": 1.0, "salivary_glands": 2.0, "blood": 0.0},
        "nuclide": "Lu-177",
        "noise": 0.1,
    }
    got = sampling_adequacy("psma617_siebinga2023", "7.4 GBq once", [24, 72], **common)
    hot = pk.label(pk.load_model("psma617_siebinga2023"), "Lu-177")
    names = [s.parameter for s in got.setting.slots]
    assert got.totals is not None
    for j, organ in enumerate(["kidneys", "salivary_glands"]):
        for k, name in enumerate(names):
            both = []
            for sign in (1, -1):
                value = hot.parameters[name].value
                assert value is not None
                run = pk.simulate(hot.replace(**{name: value * math.exp(sign * 1e-3)}), "7.4 GBq once", [0, 4000])
                both.append(math.log(float(run[f"integral_{organ}"][-1])))
            report(f"d log TIA of {organ} / d log {name}", (both[0] - both[1]) / 2e-3, got.totals.slope[0, j, k],
                   rtol=1e-4, atol=1e-6)  # fmt: skip
    sd = got.organs["sd_percent"]
    assert list(sd.index) == ["kidneys", "salivary_glands"], "blood is a concentration: no TIA"
    report("weighted", math.sqrt((sd.iloc[0] ** 2 + 2 * sd.iloc[1] ** 2) / 3), 100 * got.value, rtol=1e-9)
    worst = sampling_adequacy("psma617_siebinga2023", "7.4 GBq once", [24, 72], criterion="worst", **common)
    report("worst", float(sd.max()), 100 * worst.value, rtol=1e-9)


@pytest.mark.slow
def test_expected_sd_is_that_of_fits(organ: Model) -> None:
    """2000 simulated patients, fitted by weighted least squares; SD of log TIA within 4 Monte Carlo errors."""
    from scipy.optimize import least_squares

    t, sd = np.array([6.0, 30.0, 100.0]), 2.0
    got = sampling_adequacy(
        organ, "7400 MBq once", t, nuclide="Lu-177", free=list(CV), prior=False, noise=ScanNoise(additive=sd)
    )
    rng = np.random.default_rng(5)
    logs = []
    for _ in range(2000):
        y = _mean(t)[0] + sd * rng.standard_normal(3)

        def residuals(q: Array, y: Array = y) -> Array:
            return np.asarray((DOSE * np.exp(q[0] - (np.exp(q[1]) + DECAY) * t) - y) / sd)

        fit = least_squares(residuals, np.log([FRACTION, WASHOUT]))
        logs.append(fit.x[0] - math.log(math.exp(fit.x[1]) + DECAY))
    report("SD of log TIA", float(np.std(logs)), got.value, rtol=4 / math.sqrt(2 * 2000))
