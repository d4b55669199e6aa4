"""A population linear in its effects, so that its likelihood is a normal density, and that density by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from population_models import line_model, noise_of, samples
from scipy.optimize import minimize
from synthetic import Array, protocol

from pkmodel.data import Curves
from pkmodel.inference.population.estimate import fit_population
from pkmodel.inference.population.linearised import objective
from pkmodel.inference.population.result import PopulationFit

T = np.array([0.0, 1.0, 2.0, 4.0, 8.0])
BASIS = np.column_stack([np.ones(5), 10 * np.exp(-0.5 * T)])
LINE = {"level": {}, "share": {"transform": "none"}}
MEAN, SD, SIGMA = np.array([2.0, 1.0]), np.array([0.5, 0.3]), 0.3


def lines(people: int = 14, seed: int = 5) -> tuple[list[Curves], Array, dict[str, Array]]:
    """Subjects whose level rises with age; height and sex do nothing."""
    rng = np.random.default_rng(seed)
    age, height = rng.uniform(20, 80, people).round(1), rng.uniform(150, 200, people).round(1)
    male = rng.random(people) < 0.5
    own = MEAN + rng.standard_normal((people, 2)) * SD
    own[:, 0] += 0.06 * (age - 50)
    y = own @ BASIS.T + SIGMA * rng.standard_normal((people, 5))
    data = [
        samples(f"p{i}", T, y[i], unit="nmol", age=age[i], height=height[i], sex="m" if male[i] else "f")
        for i in range(people)
    ]
    return data, y, {"age": age, "height": height, "male": male.astype(float)}


def fitted(data: Sequence[Curves], **settings: Any) -> PopulationFit:
    given: dict[str, Any] = {"effects": {"level": 0.4, "share": 0.4}, "noise": noise_of(0.2), "standard_errors": None}
    got = fit_population(line_model(), data, protocol(LINE), **(given | settings))
    assert isinstance(got, PopulationFit)
    return got


def loss_of(y: Array, shifts: Array | None = None, correlated: bool = False) -> Callable[[Array], float]:
    """-2 log L by normal theory of mean (2), log SDs (2), log sigma, [Cholesky entry], [coefficient per column]."""

    def loss(p: Array) -> float:
        root = np.diag(np.exp(p[2:4]))
        root[1, 0] = p[5] if correlated else 0.0
        cov = BASIS @ root @ root.T @ BASIS.T + math.exp(2 * p[4]) * np.eye(5)
        mean = np.tile(p[:2], (len(y), 1))
        if shifts is not None:
            mean[:, 0] += shifts @ p[5 + correlated :]
        r = y - mean @ BASIS.T
        constant = len(y) * (np.linalg.slogdet(cov)[1] + 5 * math.log(2 * math.pi))
        return float(constant + (r * np.linalg.solve(cov, r.T).T).sum())

    return loss


def lowest(y: Array, shifts: Array | None = None) -> float:
    start = np.concatenate([[2, 1, -0.7, -1.2, -1.2], np.zeros(0 if shifts is None else shifts.shape[1])])
    return float(minimize(loss_of(y, shifts), start, method="BFGS", options={"gtol": 1e-5}).fun)


def moved(fit: PopulationFit, phi: Array) -> PopulationFit:
    """The same fit with other estimates."""
    at = objective(fit.crowd, phi)
    return replace(fit, minimum=replace(fit.minimum, phi=phi, at=at))


def truth(fit: PopulationFit) -> PopulationFit:
    return moved(fit, np.concatenate([MEAN, np.log(SD), [math.log(SIGMA)]]))


def covariance(scale: float = 1.0) -> Array:
    return np.asarray(BASIS @ np.diag((scale * SD) ** 2) @ BASIS.T + SIGMA**2 * np.eye(5))
