"""Population likelihoods against closed forms, and their gradients against differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from population_models import WANG, decay_model, line_model, noise_of, samples
from scipy.stats import multivariate_normal
from synthetic import Array, protocol

from pkmodel.inference.population.crowd import Crowd, gather_crowd
from pkmodel.inference.population.effects import Effects, relation
from pkmodel.inference.population.importance import marginal_likelihood
from pkmodel.inference.population.linearised import Approximation, objective
from pkmodel.inference.population.people import bind_people
from support import report

T = np.array([0.0, 1.0, 2.0, 4.0, 8.0])
KINDS: tuple[Approximation, ...] = ("fo", "foce", "focei", "laplace")


def line_crowd(occasions: int = 1) -> tuple[Crowd, list[Array]]:
    """Six subjects; with two occasions each, the level differs between them."""
    rng = np.random.default_rng(3)
    data, values = [], []
    for i in range(6):
        level, share = 2 + 0.5 * rng.standard_normal(), 1 + 0.3 * rng.standard_normal()
        mine = []
        for o in range(occasions):
            y = level + 0.4 * o * rng.standard_normal() + share * 10 * np.exp(-0.5 * T) + 0.3 * rng.standard_normal(5)
            data.append(samples(str(i), T, y, unit="nmol", occasion=str(o + 1) if occasions > 1 else ""))
            mine.append(y)
        values.append(np.concatenate(mine))
    effects = Effects(
        between={"level": 0.5, "share": 0.3}, correlated=(("all",),), occasion={"level": 0.4} if occasions > 1 else {}
    )
    people, _ = bind_people(line_model(), data, protocol({"level": {}, "share": {"transform": "none"}}), effects)
    return gather_crowd(people, effects, noise_of(0.3)), values


def exact(phi: Array, values: list[Array], occasions: int) -> float:
    """-2 log L of the linear model, a normal density."""
    basis = np.column_stack([np.ones(5), 10 * np.exp(-0.5 * T)])
    root = np.array([[math.exp(phi[2]), 0.0], [phi[3], math.exp(phi[4])]])
    cycle = math.exp(2 * phi[5]) if occasions > 1 else 0.0
    design = np.vstack([basis] * occasions)
    blocks = np.kron(np.eye(occasions), np.ones((5, 5)))
    cov = design @ root @ root.T @ design.T + cycle * blocks + math.exp(2 * phi[-1]) * np.eye(5 * occasions)
    return float(-2 * sum(multivariate_normal.logpdf(y, design @ phi[:2], cov) for y in values))


@pytest.mark.parametrize("occasions", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_linear_model_is_exact_in_every_approximation(kind: Approximation, occasions: int) -> None:
    crowd, values = line_crowd(occasions)
    phi = crowd.layout.start
    phi[3] = 0.1  # a correlation
    got = objective(crowd, phi, kind=kind)
    constant = crowd.data.points * math.log(2 * math.pi)
    report(f"{kind}, {occasions} occasions", exact(phi, values, occasions), got.value + constant, rtol=1e-10)
    numeric = np.array(
        [
            (exact(phi + 1e-4 * e, values, occasions) - exact(phi - 1e-4 * e, values, occasions)) / 2e-4
            for e in np.eye(phi.size)
        ]
    )
    report("worst slope", 0.0, float(np.abs(got.gradient.sum(axis=0) - numeric).max()), atol=1e-5)


def test_importance_sampling_of_a_linear_model() -> None:
    crowd, values = line_crowd()
    phi = crowd.layout.start
    got, error = marginal_likelihood(crowd, phi, objective(crowd, phi), draws=2000)
    assert 0 < error < 0.2
    report("-2 log L by importance sampling", exact(phi, values, 1), got, atol=4 * error)


def wide_crowd(noise: str) -> Crowd:
    """Two correlated effects, a free and a fixed covariate, two occasions for some, and a censored value."""
    data = []
    for i in range(6):
        y = np.array([*WANG[2 * i : 2 * i + 2], 4.0 - 0.2 * i, 1.5])
        cut = [0, 0, 0, -1 if i % 2 and noise == "cut" else 0]
        for o in ("1", "2") if i < 3 else ("1",):
            data.append(
                samples(
                    str(i),
                    [0.0, 1.0, 2.0, 3.0],
                    y * (1 + 0.1 * (o == "2")),
                    occasion=o,
                    censored=cut,
                    weight=60.0 + 5 * i,
                    high=float(i > 2),
                )
            )
    effects = Effects(
        between={"ke": 0.3, "V": 0.2},
        correlated=(("ke", "V"),),
        occasion={"ke": 0.15},
        covariates=(
            relation("V", "weight", reference=70.0, unit="kg", coefficient=1.0, fixed=True),
            relation("ke", "weight", reference=70.0, unit="kg", coefficient=-0.2),
            relation("V", "high", "proportional", coefficient=0.1),
        ),
    )
    sizes = {"normal": noise_of(0.2, 0.15), "log": noise_of(0, 0.2, "lognormal"), "cut": noise_of(0.3, 0.1)}[noise]
    people, _ = bind_people(decay_model(), data, protocol("ke V"), effects)
    return gather_crowd(people, effects, sizes)


@pytest.mark.parametrize(
    ("kind", "noise"),
    [
        ("fo", "normal"),
        ("foce", "normal"),
        ("focei", "normal"),
        ("laplace", "normal"),
        ("focei", "log"),
        ("laplace", "log"),
        ("focei", "cut"),
        ("laplace", "cut"),
    ],
)
def test_gradients_are_those_of_the_objective(kind: Approximation, noise: str) -> None:
    crowd = wide_crowd(noise)
    phi = crowd.layout.start + 0.02 * np.arange(crowd.layout.size)
    got = objective(crowd, phi, kind=kind)
    assert got.found.all()
    numeric = np.zeros_like(got.gradient)
    h = 1e-3
    for j in range(phi.size):
        e = np.eye(phi.size)[j] * h
        a, b, c, d = (objective(crowd, phi + m * e, got.b, kind=kind, gradient=False).each for m in (1, -1, 2, -2))
        numeric[:, j] = (8 * (a - b) - (c - d)) / (12 * h)
    size = np.abs(numeric).max(axis=0)
    report(f"{kind}, {noise}: worst slope", 0.0, float((np.abs(got.gradient - numeric) / size).max()), atol=2e-5)


def test_fo_refuses_what_it_cannot_count() -> None:
    from pkmodel.errors import FitError

    crowd = wide_crowd("cut")
    with pytest.raises(FitError, match="fo cannot count censored values"):
        objective(crowd, crowd.layout.start, kind="fo")
