"""Phenobarbital in 59 newborns (Grasela & Donn 1985, doi:10.1159/000457062) against NONMEM 7.5.1, FOCE-I.

The data and NONMEM's output are those of Pharmpy's tests (tests/testdata/nonmem/pheno.dta and pheno_real.*, LGPL). They
are not copied here: PKMODEL_PHENO names a folder that holds them, else this is skipped. Model: one compartment,
CL = theta1 weight exp(eta1), V = theta2 weight (1 + theta3 [Apgar score below 5]) exp(eta2), proportional error.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from population_models import noise_of

from pkmodel.assembly import load_model
from pkmodel.data import Curves
from pkmodel.formats.nonmem import read_nonmem
from pkmodel.inference.population.crowd import Crowd, gather_crowd
from pkmodel.inference.population.effects import Effects, relation
from pkmodel.inference.population.estimate import fit_population
from pkmodel.inference.population.linearised import objective
from pkmodel.inference.population.people import bind_people
from pkmodel.inference.population.result import PopulationFit
from pkmodel.inference.protocol import Protocol, protocol_from_dict
from support import report

OBJECTIVE = 586.27605628520962
THETA = (4.69555e-3, 0.984258, 0.158920)
OMEGA = (0.0293508, 0.0279060)
SIGMA = 0.0132410
SE = (2.09967e-4, 2.68946e-2, 8.37555e-2, 1.34156e-2, 7.47591e-3, 2.27991e-3)
SHRINKAGE = (47.58, 13.58, 21.20)


def folder() -> Path:
    """Where the files are."""
    path = Path(os.environ.get("PKMODEL_PHENO", ""))
    if not (path.name and (path / "pheno.dta").exists()):
        pytest.skip("set PKMODEL_PHENO to a folder with Pharmpy's pheno.dta and pheno_real.*")
    return path


def subjects() -> list[Curves]:
    """With weight and whether the Apgar score was below 5."""
    units = {"TIME": "h", "AMT": "mg", "DV": "mg/L", "WGT": "kg"}
    study = read_nonmem(folder() / "pheno.dta", units=units, drop=("FA1", "FA2"), ignore="@")
    return [c.replace(covariates={**c.covariates, "low": float(float(str(c.covariates["APGR"])) < 5)}) for c in study]


def rules(cl: float, v: float) -> Protocol:
    """CL and V free."""
    return protocol_from_dict({"name": "pheno", "free": {"CL": {"start": cl}, "V": {"start": v}}})


def effects(omega: tuple[float, float], theta3: float) -> Effects:
    """Both per kg; V besides by the Apgar score."""
    weight = {"coefficient": 1.0, "fixed": True, "unit": "kg"}
    return Effects(
        between={"CL": omega[0] ** 0.5, "V": omega[1] ** 0.5},
        covariates=(
            relation("CL", "WGT", **weight),  # type: ignore[arg-type]
            relation("V", "WGT", **weight),  # type: ignore[arg-type]
            relation("V", "low", "proportional", coefficient=theta3),
        ),
    )


def crowd(data: list[Curves], theta: tuple[float, ...], omega: tuple[float, float], sigma: float) -> Crowd:
    what = effects(omega, theta[2])
    people, _ = bind_people(load_model("pk_1cpt"), data, rules(theta[0], theta[1]), what)
    return gather_crowd(people, what, noise_of(0, sigma**0.5))


def test_objective_at_the_estimates_of_nonmem() -> None:
    data = subjects()
    at = crowd(data, THETA, OMEGA, SIGMA)
    assert len(at.people) == 59 and at.data.points == 155
    report("objective at the estimates", OBJECTIVE, objective(at, at.layout.start).value, atol=1e-3)
    start = crowd(data, (0.00469307, 1.00916, 0.1), (0.0309626, 0.031128), 1.3087e-2)
    report("objective at the start", 587.36644134661617, objective(start, start.layout.start).value, atol=1e-3)


@pytest.fixture(scope="module")
def fit() -> PopulationFit:
    got = fit_population(
        load_model("pk_1cpt"), subjects(), rules(0.00469307, 1.00916), effects=effects((0.0309626, 0.031128), 0.1),
        noise=noise_of(0, 0.013241**0.5),
    )  # fmt: skip
    assert isinstance(got, PopulationFit)
    return got


def test_our_own_minimum(fit: PopulationFit) -> None:
    report("objective", OBJECTIVE, fit.objective, atol=1e-3)
    estimates = [
        fit.values["CL"],
        fit.values["V"],
        float(fit.phi[2]),
        *np.diag(fit.omega),
        fit.noise["proportional"] ** 2,
    ]
    for name, want, got in zip(
        ("theta1", "theta2", "theta3", "omega1", "omega2", "sigma"), (*THETA, *OMEGA, SIGMA), estimates, strict=True
    ):
        report(name, want, float(got), rtol=0.01)
    slopes = [fit.values["CL"], fit.values["V"], 1.0, *(2 * np.diag(fit.omega)), 2 * fit.noise["proportional"] ** 2]
    for k, (want, slope) in enumerate(zip(SE, slopes, strict=True)):
        report(f"SE {k + 1}", want, float(fit.standard_errors[k] * slope), rtol=0.05)


def test_shrinkage(fit: PopulationFit) -> None:
    for name, want in zip(("CL", "V", "residuals"), SHRINKAGE, strict=True):
        report(f"shrinkage of {name} [%]", want, 100 * fit.shrinkage[name], atol=1.0)


def test_predictions_and_residuals_of_nonmem(fit: PopulationFit) -> None:
    """PRED, IPRED and CWRES of NONMEM's table, printed with five digits."""
    lines = (folder() / "pheno_real.tab").read_text().splitlines()
    names = lines[1].split()
    table = np.array([[float(x) for x in line.split()] for line in lines[2:]])
    at = {n: table[:, k] for k, n in enumerate(names)}
    sampled = at["AMT"] == 0
    ours = fit.predictions
    assert np.allclose(ours["time"], at["TIME"][sampled])
    for name, want in (("PRED", "PRED"), ("IPRED", "IPRED" if "IPRED" in at else "CIPREDI")):
        worst = np.abs(ours[name].to_numpy() / at[want][sampled] - 1).max()
        report(f"worst {name}", 0.0, float(worst), atol=1e-3)
    report("worst CWRES", 0.0, float(np.abs(ours["CWRES"].to_numpy() - at["CWRES"][sampled]).max()), atol=5e-3)
