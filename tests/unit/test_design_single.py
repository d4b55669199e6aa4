"""The best time of a single scan, against closed forms, quadrature, and published optima."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest

import pkmodel as pk
from pkmodel.errors import SimulationError
from pkmodel.model import Model
from pkmodel.nuclides import nuclide
from pkmodel.sampling_design import Clinic, best_time
from pkmodel.sampling_design.single_scan import BestTime
from support import report, shared

DECAY = nuclide("Lu-177").decay_constant
DOSE, SIZE = 7400.0, 0.4  # MBq; coefficient of variation of the fraction taken up


def _organ(half_life: float, relative_sd: float) -> tuple[Model, dict[str, float]]:
    """One exponential with an effective half-life and its relative SD between patients [h, 1]."""
    rate = math.log(2) / half_life
    washout = rate - DECAY
    return pk.load_model("organ_1_phase").replace(k_washout=washout), {
        "fraction": SIZE,
        "k_washout": relative_sd * rate / washout,
    }


def _best(half_life: float, relative_sd: float, **changes: object) -> BestTime:
    model, spread = _organ(half_life, relative_sd)
    given = {"nuclide": "Lu-177", "spread": spread, "noise": 0.1, "patients": 0, **changes}
    return best_time(model, "7400 MBq once", **given)  # type: ignore[arg-type]


def test_the_linear_answer_is_the_closed_form() -> None:
    """Brute force on a grid of minutes; with a perfect scan it is one over the rate (Madsen, doi:10.1002/mp.12886)."""
    rate = math.log(2) / 56.0
    got = _best(56.0, 13 / 56)
    prior = np.diag([1 / math.log1p(SIZE**2), 1 / math.log1p((13 / 56 * rate / (rate - DECAY)) ** 2)])
    g = np.array([1.0, -(rate - DECAY) / rate])
    t = np.arange(1, 168 * 60) / 60.0
    d = np.stack([np.ones_like(t), -(rate - DECAY) * t], axis=1)
    weight = 1 / 0.1**2 + 2.0  # of a relative measurement: 1/sd^2, and what the variance says
    matrix = prior + weight * d[:, :, None] * d[:, None, :]
    sd = np.sqrt(np.einsum("a,tab,b->t", g, np.linalg.inv(matrix), g))
    report("best time [h]", float(t[np.argmin(sd)]), got.linear_time, atol=0.05)
    report("SD there", float(sd.min()), float(got.linear_sd.min()), rtol=1e-3)
    perfect = _best(56.0, 13 / 56, noise=0.001)
    report("perfect scan: one over the rate [h]", 1 / rate, perfect.linear_time, atol=0.05)


def test_published_optima_dotatate() -> None:
    """Kidneys, 56 +- 13 h (Spink 2024, doi:10.1186/s40658-024-00665-9); about 72 h in doi:10.2967/jnumed.120.254656."""
    found = _best(56.0, 13 / 56, patients=150, draws=1500)
    report("linear, between 60 and 100 h", 80.0, found.linear_time, atol=20.0)
    report("simulated, between 60 and 100 h", 80.0, found.simulated_time, atol=20.0)
    low, high = found.good
    assert low < found.time < high and "as good" in str(found)


def test_published_optima_psma() -> None:
    """Siebinga's population; about 48 h in doi:10.2967/jnumed.120.254656."""
    found = best_time(
        "psma617_siebinga2023", "7.4 GBq once", organs=["kidneys", "salivary_glands", "tumour"], nuclide="Lu-177",
        noise=0.1, patients=100, draws=1000, times=np.arange(4.0, 168.0, 8.0),
    )  # fmt: skip
    report("linear, between 36 and 72 h", 54.0, found.linear_time, atol=18.0)
    report("simulated, between 36 and 72 h", 54.0, found.simulated_time, atol=18.0)


def test_published_half_life_of_psma() -> None:
    """Kidneys, median 35.5 h (37 patients, range 8.5 to 152 h: 4.3 SDs of a log-normal); within 36 to 72 h."""
    with shared("therapy/effective_halflife_and_dose_priors.csv").open(encoding="utf-8") as file:
        row = next(r for r in csv.DictReader(file) if r["study"] == "AAPM2026_PSMA617" and r["region"] == "kidneys")
    low, high = map(float, row["range"].split("-"))
    found = _best(float(row["value"]), math.log(high / low) / 4.3, patients=150, draws=1500)
    report("linear, between 36 and 72 h", 54.0, found.linear_time, atol=18.0)
    report("simulated, between 36 and 72 h", 54.0, found.simulated_time, atol=18.0)


def test_opening_hours_move_the_best_time() -> None:
    open_all = _best(56.0, 13 / 56)
    friday = _best(56.0, 13 / 56, clinic=Clinic("Fri 10:00", hours="8-17"))
    assert friday.clinic is not None and friday.clinic.open_at(friday.time)
    assert friday.time != pytest.approx(open_all.time, abs=1.0) and friday.time in (70.0, 78.0, 94.0, 79.0)
    assert "(Mon" in str(friday) or "(Tue" in str(friday)
    assert "<table>" in friday._repr_html_()
    with pytest.raises(SimulationError, match="clinic is closed"):
        _best(56.0, 13 / 56, clinic=Clinic("Fri 17:00"), last=30.0, times=[10.0, 20.0])


def test_figure() -> None:
    from pkmodel.plot_style import png

    found = _best(56.0, 13 / 56, patients=20, draws=200, times=np.arange(6.0, 168.0, 12.0), clinic=None)
    figure = found.plot()
    assert figure.axes[0].get_ylabel() == "relative error of TIA [%]" and len(png(figure, 50)) > 5_000


def test_it_needs_a_population() -> None:
    with pytest.raises(SimulationError, match="no spread of k_washout"):
        best_time("organ_1_phase", "7.4 GBq once", nuclide="Lu-177", free=["fraction", "k_washout"],
                  spread={"fraction": 0.3})  # fmt: skip
    with pytest.raises(SimulationError, match="needed: 2 and 100"):
        _best(56.0, 0.2, patients=1)


@pytest.mark.slow
def test_the_simulated_answer_is_that_of_quadrature() -> None:
    """Posterior of two parameters on a fine grid, for 4000 patients of its own; within 4 Monte Carlo errors."""
    found = _best(56.0, 13 / 56, patients=3000, draws=6000, times=[24.0, 80.0, 150.0])
    model, spread = _organ(56.0, 13 / 56)
    washout = float(model.parameters["k_washout"].value or 0.0)
    sd = np.sqrt(np.log1p(np.array([spread["fraction"], spread["k_washout"]]) ** 2))
    z = np.linspace(-4.5, 4.5, 121)
    a, b = (x.ravel() for x in np.meshgrid(z, z, indexing="ij"))
    base = -0.5 * (a**2 + b**2)
    size, k = np.log(0.01491) + sd[0] * a, washout * np.exp(sd[1] * b)
    log_tia = size - np.log(k + DECAY)
    rng = np.random.default_rng(9)
    assert found.simulated is not None
    for i, t in enumerate((24.0, 80.0, 150.0)):
        n = 4000
        u = rng.standard_normal((n, 2))
        mine, rate = math.log(0.01491) + sd[0] * u[:, 0], washout * np.exp(sd[1] * u[:, 1])
        f = np.exp(mine - (rate + DECAY) * t)
        y = f * (1 + 0.1 * rng.standard_normal(n))
        expected = np.exp(size - (k + DECAY) * t)
        wrong = np.empty(n)
        for p in range(n):
            log_weight = base - 0.5 * ((y[p] - expected) / (0.1 * expected)) ** 2 - np.log(expected)
            w = np.exp(log_weight - log_weight.max())
            wrong[p] = math.exp(float(w @ log_tia) / float(w.sum())) * (rate[p] + DECAY) / math.exp(mine[p]) - 1
        rmse = math.sqrt(float(np.mean(wrong**2)))
        error = float(np.std(wrong**2)) / (2 * rmse) * math.sqrt(1 / n + 1 / 3000)
        report(f"RMSE at {t:g} h", rmse, float(found.simulated.rmse[i, 0]), atol=4 * error + 0.01 * rmse)
