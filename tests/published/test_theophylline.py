"""Theophylline, twelve subjects, one oral dose: SAEM against nlmixr2 and against the exact maximum.

Data: study of R. Upton as printed in Boeckmann AJ, Sheiner LB, Beal SL, NONMEM Users Guide part V, 1994: subject,
weight [kg], dose [mg/kg], hours; below them mg/L. Expected: the SAEM
table in the README of nlmixr2est (log ka, log CL, log V with standard errors, additive error, CV between subjects). The
exact maximum of the same likelihood, by Gauss-Hermite quadrature with 9^3 nodes about each mode, lies at CV 70.66,
26.99 and 13.66 %, so the published 13.1 % for V is itself 4 % away from it.
"""

from __future__ import annotations

import numpy as np
import pytest
from population_models import noise_of, samples
from scipy.optimize import minimize
from synthetic import Array

from pkmodel.assembly import load_model
from pkmodel.data import Curves
from pkmodel.formats.curve import Curve
from pkmodel.inference.population.crowd import gather_crowd
from pkmodel.inference.population.effects import Effects
from pkmodel.inference.population.estimate import fit_population
from pkmodel.inference.population.linearised import objective
from pkmodel.inference.population.people import bind_people
from pkmodel.inference.population.result import PopulationFit
from pkmodel.inference.protocol import protocol_from_dict
from pkmodel.regimen import Administration, Regimen
from support import report

DATA = """
1; 79.6; 4.02; 0 0.25 0.57 1.12 2.02 3.82 5.1 7.03 9.05 12.12 24.37
  0.74 2.84 6.57 10.5 9.66 8.58 8.36 7.47 6.89 5.94 3.28
2; 72.4; 4.4; 0 0.27 0.52 1 1.92 3.5 5.02 7.03 9 12 24.3
  0 1.72 7.91 8.31 8.33 6.85 6.08 5.4 4.55 3.01 0.9
3; 70.5; 4.53; 0 0.27 0.58 1.02 2.02 3.62 5.08 7.07 9 12.15 24.17
  0 4.4 6.9 8.2 7.8 7.5 6.2 5.3 4.9 3.7 1.05
4; 72.7; 4.4; 0 0.35 0.6 1.07 2.13 3.5 5.02 7.02 9.02 11.98 24.65
  0 1.89 4.6 8.6 8.38 7.54 6.88 5.78 5.33 4.19 1.15
5; 54.6; 5.86; 0 0.3 0.52 1 2.02 3.5 5.02 7.02 9.1 12 24.35
  0 2.02 5.63 11.4 9.33 8.74 7.56 7.09 5.9 4.37 1.57
6; 80; 4; 0 0.27 0.58 1.15 2.03 3.57 5 7 9.22 12.1 23.85
  0 1.29 3.08 6.44 6.32 5.53 4.94 4.02 3.46 2.78 0.92
7; 64.6; 4.95; 0 0.25 0.5 1.02 2.02 3.48 5 6.98 9 12.05 24.22
  0.15 0.85 2.35 5.02 6.58 7.09 6.66 5.25 4.39 3.53 1.15
8; 70.5; 4.53; 0 0.25 0.52 0.98 2.02 3.53 5.05 7.15 9.07 12.1 24.12
  0 3.05 3.05 7.31 7.56 6.59 5.88 4.73 4.57 3 1.25
9; 86.4; 3.1; 0 0.3 0.63 1.05 2.02 3.53 5.02 7.17 8.8 11.6 24.43
  0 7.37 9.03 7.14 6.33 5.66 5.67 4.24 4.11 3.16 1.12
10; 58.2; 5.5; 0 0.37 0.77 1.02 2.05 3.55 5.05 7.08 9.38 12.1 23.7
  0.24 2.89 5.22 6.41 7.83 10.21 9.18 8.02 7.14 5.68 2.42
11; 65; 4.92; 0 0.25 0.5 0.98 1.98 3.6 5.02 7.03 9.03 12.12 24.08
  0 4.86 7.24 8 6.81 5.87 5.22 4.45 3.62 2.69 0.86
12; 60.5; 5.3; 0 0.25 0.5 1 2 3.52 5.07 7.07 9.03 12.05 24.15
  0 1.25 3.96 7.82 9.72 9.75 8.57 6.59 6.11 4.57 1.17
"""
START = {"KA": {"start": 1.57}, "CL": {"start": 2.72}, "V": {"start": 31.5}}  # as in the README


def subjects() -> list[Curves]:
    """One Curves per subject; doses in mg."""
    out = []
    lines = DATA.strip().splitlines()
    for line, y in zip(lines[::2], lines[1::2], strict=True):
        name, weight, dose, t = line.split(";")
        one = samples(name, np.array(t.split(), dtype=float), np.array(y.split(), dtype=float), unit="mg/L")
        given = Administration(0.0, mass=float(weight) * float(dose) / 1000, into="oral")
        out.append(one.replace(regimen=Regimen.of(given)))
    return out


def fitted(method: str, **settings: object) -> PopulationFit:
    """SDs begin where the README begins: variances 0.6, 0.3, 0.1, residual SD 0.7."""
    fit = fit_population(
        load_model("pk_1cpt_oral"), subjects(), protocol_from_dict({"name": "theophylline", "free": START}),
        effects={"KA": 0.6**0.5, "CL": 0.3**0.5, "V": 0.1**0.5}, noise=noise_of(0.7), method=method, **settings,  # type: ignore[arg-type]
    )  # fmt: skip
    assert isinstance(fit, PopulationFit)
    return fit


def spread(fit: PopulationFit) -> list[float]:
    """CV between subjects [%]."""
    return [100 * float(np.sqrt(np.expm1(v))) for v in np.diag(fit.omega)]


def test_foce_interaction_against_a_plain_one() -> None:
    """Bateman's function, modes by Nelder-Mead and BFGS, slopes by differences: no code of ours."""
    theta, omega, sigma = np.array([0.464, 1.01, 3.46]), np.array([0.409, 0.0724, 0.0170]), 0.696

    def predicted(x: Array, dose: float, time: Array) -> Array:
        ka, cl, v = np.exp(x)
        return np.asarray(dose * ka / (v * ka - cl) * (np.exp(-cl / v * time) - np.exp(-ka * time)))

    want = 0.0
    for one in subjects():
        curve = one["plasma"]
        dose = 1000 * (one.regimen.administrations[0].mass or 0.0) if one.regimen else 0.0

        def joint(b: Array, dose: float = dose, curve: Curve = curve) -> float:
            r = curve.value - predicted(theta + b, dose, curve.t)
            return float((r**2).sum() / sigma**2 + (b**2 / omega).sum())

        rough = minimize(joint, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10})
        b = minimize(joint, rough.x, method="BFGS").x
        h = 1e-5
        j = np.column_stack(
            [
                (predicted(theta + b + h * e, dose, curve.t) - predicted(theta + b - h * e, dose, curve.t)) / (2 * h)
                for e in np.eye(3)
            ]
        )
        curvature = j.T @ j / sigma**2 + np.diag(1 / omega)
        want += joint(b) + len(curve) * np.log(sigma**2) + np.log(omega).sum() + np.linalg.slogdet(curvature)[1]
    what = Effects(between=dict(zip(START, np.sqrt(omega), strict=True)))
    rules = protocol_from_dict(
        {"name": "t", "free": {n: {"start": float(np.exp(x))} for n, x in zip(START, theta, strict=True)}}
    )
    people, _ = bind_people(load_model("pk_1cpt_oral"), subjects(), rules, what)
    crowd = gather_crowd(people, what, noise_of(sigma))
    report("FOCE-I at the published estimates", want, objective(crowd, crowd.layout.start).value, atol=1e-5)


@pytest.fixture(scope="module")
def saem() -> PopulationFit:
    return fitted("saem", standard_errors="r")


@pytest.mark.slow
def test_saem_table(saem: PopulationFit) -> None:
    published = {"KA": (0.464, 0.195), "CL": (1.01, 0.085), "V": (3.46, 0.0447)}
    for k, (name, (value, _)) in enumerate(published.items()):
        report(f"log {name}", value, float(saem.phi[k]), rtol=0.02)
    report("SE of log KA", 0.195, float(saem.standard_errors[0]), rtol=0.02)
    report("SE of log CL", 0.085, float(saem.standard_errors[1]), rtol=0.02)
    report("additive error", 0.696, saem.noise["additive"], rtol=0.02)
    report("CV of KA", 71.1, spread(saem)[0], rtol=0.02)
    report("CV of CL", 27.4, spread(saem)[1], rtol=0.02)


@pytest.mark.slow
@pytest.mark.xfail(strict=True, reason="published 13.1 %; the exact maximum is 13.66 % (quadrature), and we find that")
def test_saem_spread_of_the_volume(saem: PopulationFit) -> None:
    report("CV of V", 13.1, spread(saem)[2], rtol=0.02)


@pytest.mark.slow
@pytest.mark.xfail(strict=True, reason="published 0.0447, goes with a CV of 13.1 %; ours, with 13.66 %, is 0.0459")
def test_saem_standard_error_of_the_volume(saem: PopulationFit) -> None:
    report("SE of log V", 0.0447, float(saem.standard_errors[2]), rtol=0.02)


@pytest.mark.slow
def test_saem_finds_the_exact_maximum(saem: PopulationFit) -> None:
    """Quadrature with 9^3 nodes about each mode, minimised by BFGS."""
    for name, want, got in zip(("KA", "CL", "V"), (70.66, 26.99, 13.66), spread(saem), strict=True):
        report(f"CV of {name}", want, got, rtol=0.02)
    for k, want in enumerate((0.45929, 1.01167, 3.45385)):
        report(f"theta {k + 1}", want, float(saem.phi[k]), atol=0.005)
    report("objective", 118.101, saem.objective, atol=4 * saem.monte_carlo_error)
