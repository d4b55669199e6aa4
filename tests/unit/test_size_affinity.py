"""Closed-form tumour uptake: against an ODE solver, in its limits, and where the input makes no sense."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from pkmodel.assembly import assemble, load_model
from pkmodel.errors import ModelError
from pkmodel.library import list_models
from pkmodel.size_affinity import (
    Plasma,
    biot,
    clearance_spheroid,
    clearance_vascular,
    exchange_rate,
    free_fraction,
    front_depth,
    law,
    loss_rate,
    retention_affinity,
    size_affinity_map,
    thiele_spheroid,
    thiele_vascular,
    tumour_uptake,
)
from support import report

SCFV = {"kperm": 0.106916, "eps": 0.342773, "KD": 1.0, "Ag": 150.0, "ke": np.log(2) / 12}


def _ode(t: float, plasma: Plasma, kperm: float, eps: float, KD: float, Ag: float, ke: float) -> float:
    """Free F and the rest of a well-mixed tumour, binding fast; written in free and bound, not in their sum."""

    def slope(time: float, y: np.ndarray) -> list[float]:
        (total,) = y
        bound = total * (Ag / eps) / (KD + Ag / eps)
        free = (total - bound) / eps
        return [kperm * (float(plasma.at(time)) - free) - ke * bound]

    return float(solve_ivp(slope, (0, t), [0.0], method="DOP853", rtol=1e-11, atol=1e-14).y[0, -1])


@pytest.mark.parametrize("KD", [1e-3, 1.0, 300.0, 1e5])
def test_against_a_solver(KD: float) -> None:
    plasma = Plasma(np.array([30.0, 15.0, 5.0]), np.array([1.8, 0.2, 0.01]))
    numbers = SCFV | {"KD": KD}
    for t in (0.5, 24.0, 150.0):
        got = float(tumour_uptake(t, plasma, **numbers))
        report(f"KD {KD:g}, {t:g} h", _ode(t, plasma, **numbers), got, rtol=1e-8, atol=1e-12)


def test_worked_intermediates() -> None:
    # 25 kDa of the worked setting, in digits
    report("free fraction", 0.00227995, float(free_fraction(1.0, 150, 0.342773)), rtol=5e-6)
    report("Omega [1/h]", 0.0583417, float(loss_rate(**SCFV)), rtol=2e-6)
    report("kperm [1/h]", 0.106916, float(exchange_rate(1.0440989676527668e-06)), rtol=1e-5)
    made = float(tumour_uptake(24.0, Plasma(np.array([50.0]), np.array([1.798784])), **SCFV))
    report("%ID/mL at 24 h", 0.7573, made, rtol=1e-4)


def test_where_the_two_rates_meet() -> None:
    omega = float(loss_rate(**SCFV))
    expected = 0.106916 * 50 * 24 * np.exp(-omega * 24)
    for off in (0.0, 1e-14, 1e-9, -1e-9):
        got = float(tumour_uptake(24.0, Plasma(np.array([50.0]), np.array([omega * (1 + off)])), **SCFV))
        report(f"rates apart by {off:g}", expected, got, rtol=1e-8)
    fast = Plasma(np.array([50.0]), np.array([1e6]))  # no overflow
    report(
        "plasma gone at once",
        0.106916 * 50 / 1e6 * np.exp(-omega * 24),
        float(tumour_uptake(24.0, fast, **SCFV)),
        rtol=1e-6,
    )


def test_limits() -> None:
    steady = Plasma(np.array([10.0]), np.array([0.0]))
    unbound = SCFV | {"KD": 1e12}
    report("without binding: eps times plasma", 0.342773 * 10, float(tumour_uptake(1e4, steady, **unbound)), rtol=1e-8)
    tight = SCFV | {"KD": 1e-9, "ke": 0.0}
    report(
        "tight and kept: kperm times area", 0.106916 * 10 * 100, float(tumour_uptake(100.0, steady, **tight)), rtol=1e-6
    )
    plasma = Plasma(np.array([50.0]), np.array([1.8]))
    uptake = tumour_uptake(24.0, plasma, **(SCFV | {"KD": np.geomspace(1e-4, 1e4, 50)}))
    assert np.all(np.diff(uptake) < 0), "weaker binding keeps less"
    assert float(tumour_uptake(0.0, plasma, **SCFV)) == 0.0
    two = Plasma(np.array([30.0, 20.0]), np.array([1.8, 0.05]))
    parts = [Plasma(two.amplitude[j : j + 1], two.rate[j : j + 1]) for j in (0, 1)]
    summed = sum(float(tumour_uptake(24.0, p, **SCFV)) for p in parts)
    report("sum of exponentials", summed, float(tumour_uptake(24.0, two, **SCFV)), rtol=1e-13)


def test_retention_affinity_halves_the_fate() -> None:
    KD = float(retention_affinity(0.0397, 150, 0.0578))
    f = float(free_fraction(KD, 150, 0.24))
    report("back to plasma over into cells", 1.0, 0.0397 * f / 0.24 / (0.0578 * (1 - f)), rtol=1e-12)


def test_moduli() -> None:
    kperm = float(exchange_rate(3.8728e-7))
    report("IgG, kperm [1/h]", 0.039657, kperm, rtol=1e-4)
    report("plasma that saturates 500 nmol/L [nmol/L]", 728, 0.0578 * 500 / kperm, rtol=2e-3)
    report(
        "vascular Thiele modulus there",
        1.0,
        float(thiele_vascular(kperm, 500, 0.0578, 0.0578 * 500 / kperm)),
        rtol=1e-12,
    )
    report(
        "clearance modulus of twice the area", 0.5, float(clearance_vascular(kperm, 500, 2 * 500 / kperm)), rtol=1e-12
    )
    # 3.87e-3 um/s, 25 um2/s, 8 um
    report("Biot number of IgG", 2.5e-3, float(biot(3.87e-7, 25e-8)), rtol=0.01)
    # R 100 um, D 1e-7 cm2/s = 10 um2/s: R^2/D = 1000 s
    report(
        "spheroid Thiele",
        1000 / 3600 * 0.06 * 1000 / (90 + 10),
        float(thiele_spheroid(100, 1e-7, 0.2, 200, 0.06, 90, 10)),
        rtol=1e-12,
    )
    report(
        "spheroid clearance", 1000 / 3600 * 1000 / 500, float(clearance_spheroid(100, 1e-7, 0.2, 200, 500)), rtol=1e-12
    )
    depth = float(front_depth(1e-7, 0.2, 200, 5000))
    report("front [um]: x^2 = 2 D eps AUC/Ag", np.sqrt(2 * 10 * 3600 * 0.2 * 5000 / 200), depth, rtol=1e-12)


def test_a_map_has_names_and_units() -> None:
    made = size_affinity_map([7.0, 25.0, 150.0], [0.1, 10.0], t=[1.0, 24.0])
    assert made.uptake.dims == ("MW", "KD", "t") and made.uptake.shape == (3, 2, 2)
    assert made.uptake.attrs["unit"] == "%ID/mL" and made.kperm.attrs["unit"] == "1/h"
    assert made.attrs["status"] == "predicted"
    assert np.all(np.diff(made.Rh) > 0) and np.all(np.diff(made.retention) > 0)
    # every cell is the closed form of its own size, affinity and time
    plasma = Plasma(np.array([50.0]), made.kel.values[1:2])
    one = tumour_uptake(24.0, plasma, kperm=made.kperm[1], eps=made["eps"][1], KD=10.0, Ag=150, ke=0.057762265)
    report("one cell", float(one), float(made.uptake[1, 1, 1]), rtol=1e-12)
    loose = size_affinity_map([7.0], [0.1], fu=0.0)
    report("all on albumin", 5.12776e-7, float(loose.P[0]), rtol=1e-6)


def test_a_plasma_curve() -> None:
    plasma = Plasma(np.array([3.0, 1.0]), np.array([1.0, 0.1]))
    report("at zero", 4.0, float(plasma.at(0.0)), rtol=1e-14)
    report("area", 13.0, float(plasma.auc), rtol=1e-14)
    assert np.isinf(Plasma(np.array([1.0]), np.array([0.0])).auc)
    assert plasma.at([0.0, 1.0, 2.0]).shape == (3,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Plasma(np.ones(2), np.ones(3)), "2 amplitudes and 3 rates"),
        (lambda: Plasma(np.ones(1), -np.ones(1)), "rates of 0 1/h or more"),
        (lambda: exchange_rate(-1e-7), "P = -1e-07; allowed: at least 0"),
        (lambda: exchange_rate(1e-7, Rkrogh=0), "Rkrogh = 0; allowed: above 0"),
        (lambda: free_fraction(0.0, 150, 0.3), "KD = 0; allowed: above 0"),
        (lambda: tumour_uptake(-1.0, Plasma(np.ones(1), np.ones(1)), **SCFV), "t = -1"),
        (lambda: tumour_uptake(np.nan, Plasma(np.ones(1), np.ones(1)), **SCFV), "t = nan"),
        (lambda: size_affinity_map([250.0], [1.0]), "clearance law of the mouse ends below 250 kDa"),
        (lambda: law("law_two_pore", ("tehta",), MW_size=7, fu=1), "did you mean 'theta'"),
        (lambda: law("law_two_pore", ("theta",), MW_size=7), "theta needs fu"),
        (lambda: law("law_two_pore", ("theta",), theta_free=1, MW_size=7, fu=1), "theta_free is a formula"),
    ],
)  # fmt: skip
def test_bad_input(call: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        call()  # type: ignore[operator]


BINDERS = [n for n in list_models() if n.startswith("binder_")]


@pytest.mark.parametrize("name", BINDERS)
def test_a_binder_gives_two_of_three(name: str) -> None:
    model = load_model(name)
    formulas = [n for n in ("KD", "kon", "koff") if model.parameters[n].formula is not None]
    assert len(formulas) == 1, f"{name}: two of KD, kon and koff are numbers, the third follows; found {formulas}"
    assert model.requirements
    for n in {"KD", "kon", "koff"} - {*formulas}:
        p = model.parameters[n]
        unread = "nobody has read" in p.source or "not read" in p.source
        assert p.status in ("unverified", "assumed") or not unread, f"{name}: {n} was not read and says {p.status}"


def test_a_third_that_does_not_follow_is_refused() -> None:
    wrong = {"koff": {"value": 5.0, "unit": "1/h", "source": "a slip"}}
    with pytest.raises(ModelError, match="two of KD, kon and koff say the third"):
        assemble("slip", parts=["binder_trastuzumab"], set=wrong)


def test_a_vector_brings_its_size_law() -> None:
    made = assemble("nanobody", parts=["vector_nanobody", "binder_2rs15d"])
    assert {"P_tumour", "eps", "Dfree", "theta", "ps_per_lymph", "j_per_lymph", "KD", "koff"} <= {*made.parameters}
    assert made.parameters["theta"].status == "predicted"
    own = load_model("vector_peptide").parameters["theta"]  # published, in place of the law's
    assert own.formula is None and own.status == "published"
