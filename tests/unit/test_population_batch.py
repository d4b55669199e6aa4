"""Populations of nonlinear models: many solves share runs of the engine, and nobody's numbers depend on the others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from population_models import noise_of, samples
from scipy.special import lambertw
from synthetic import Array, protocol

import pkmodel as pk
from pkmodel.data import Curves
from pkmodel.inference import batch
from pkmodel.inference.population.crowd import Crowd, gather_crowd
from pkmodel.inference.population.effects import Effects
from pkmodel.inference.population.linearised import Approximation, objective
from pkmodel.inference.population.people import bind_people
from pkmodel.model import Model
from pkmodel.model_file import model_from_toml
from support import report

_SATURABLE = """
name = "saturable"
title = "saturable elimination"
[parameters]
Vmax = { value = 4, unit = "nmol/h", lower = 0, meaning = "rate", source = "made up", status = "assumed" }
Km = { value = 3, unit = "nmol", lower = 0, meaning = "half", source = "made up", status = "assumed" }
V = { value = 1, unit = "L", lower = 0, meaning = "volume", source = "made up", status = "assumed" }
F = { value = 0.9, unit = "1", lower = 0, meaning = "share", source = "made up", status = "assumed" }
[compartments]
central = { unit = "nmol", region = "blood" }
[administration]
injection = { central = "1" }
oral = { central = "F" }
[[flows]]
from = "central"
rate = "Vmax*central/(Km + central)"
[observables]
plasma = { formula = "central/V", unit = "nmol/L", meaning = "concentration" }
"""
T = np.array([0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0])


@cache
def saturable() -> Model:
    return model_from_toml(_SATURABLE)


def elimination(t: Array, dose: float, vmax: float, km: float) -> Array:
    """Amount after a bolus, the Lambert W solution of Beal 1982, doi:10.1007/BF01062207."""
    z = dose / km * np.exp((dose - vmax * t) / km)
    return km * np.array([lambertw(float(v)).real for v in z])


def data(n: int) -> list[Curves]:
    """Subjects with their own doses and numbers of samples."""
    rng = np.random.default_rng(1)
    out = []
    for i in range(n):
        t, dose = T[: 8 - i % 3], 10.0 + 5 * (i % 3)
        y = elimination(t, dose, 4 * np.exp(0.3 * rng.standard_normal()), 3.0) * np.exp(-0.2 * rng.standard_normal())
        out.append(samples(str(i), t, y * (1 + 0.1 * rng.standard_normal(t.size)), dose=dose))
    return out


def crowd_of(subjects: Sequence[Curves], free: str = "Vmax Km V") -> Crowd:
    effects = Effects(between={"Vmax": 0.3, "V": 0.2})
    people, _ = bind_people(saturable(), subjects, protocol(free), effects)
    return gather_crowd(people, effects, noise_of(0.02, 0.1))


def some(crowd: Crowd) -> Array:
    start = crowd.layout.typical(crowd.layout.start)
    return np.asarray(start + 0.2 * np.random.default_rng(0).standard_normal(start.shape))


def test_together_as_one_by_one_and_as_the_closed_form() -> None:
    crowd = crowd_of(data(9))
    x = some(crowd)
    found = crowd.predict(x)
    assert crowd._batch is not None and (crowd._batch[1] >= 0).all()
    worst = [0.0, 0.0, 0.0]
    for i, person in enumerate(crowd.people):
        at, one = crowd._slice(i), person.likelihood.predict(x[i])
        vmax, km, v = np.exp(x[i][[crowd.layout.names.index(n) for n in ("Vmax", "Km", "V")]])
        dose = 10.0 + 5 * (i % 3)
        exact = elimination(T[: 8 - i % 3], dose, vmax, km) / v  # nmol/L
        size = exact.max()
        worst[0] = max(worst[0], float(np.abs(found.value[at] - exact).max() / size))
        worst[1] = max(worst[1], float(np.abs(found.value[at] - one.value).max() / size))
        worst[2] = max(worst[2], float(np.abs(found.tangent[at] - one.tangent).max() / np.abs(one.tangent).max()))
    report("closed form, relative to the largest", 0.0, worst[0], atol=1e-7)
    report("one by one, relative to the largest", 0.0, worst[1], atol=1e-7)
    report("tangents, one by one", 0.0, worst[2], atol=1e-6)


def test_numbers_do_not_depend_on_threads_company_or_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = crowd_of(data(9))
    many = crowd.repeated(40)
    x = some(many)
    answers = []
    for threads in (1, 3):
        monkeypatch.setattr(batch, "processors", lambda threads=threads: threads)
        answers.append(many.predict(x))
    assert np.array_equal(answers[0].value, answers[1].value)
    assert np.array_equal(answers[0].tangent, answers[1].tangent)
    assert np.array_equal(answers[0].value, many.predict(x, tangents=False).value)
    who = np.zeros(9, dtype=bool)
    who[[2, 7]] = True
    few, rows = crowd.predict(x[:9], who=who), crowd._rows(np.flatnonzero(who))
    assert np.array_equal(few.value[rows], answers[0].value[rows])
    assert np.array_equal(few.tangent[rows], answers[0].tangent[rows])
    assert np.isnan(np.delete(few.value, rows)).all()


@pytest.mark.parametrize("kind", ["focei", "laplace"])
def test_gradients_of_a_nonlinear_model_are_those_of_the_objective(kind: Approximation) -> None:
    """Differences of an objective that the solver rounds to about 1e-8 end near 1e-5 of the slope."""
    crowd = crowd_of(data(6))
    phi = crowd.layout.start + 0.02 * np.arange(crowd.layout.size)
    got = objective(crowd, phi, kind=kind)
    assert got.found.all()
    numeric, h = np.zeros_like(got.gradient), 2e-3
    for j in range(phi.size):
        e = np.eye(phi.size)[j] * h
        a, b, c, d = (objective(crowd, phi + m * e, got.b, kind=kind, gradient=False).each for m in (1, -1, 2, -2))
        numeric[:, j] = (8 * (a - b) - (c - d)) / (12 * h)
    size = np.abs(numeric).max(axis=0)
    report(f"{kind}: worst slope", 0.0, float((np.abs(got.gradient - numeric) / size).max()), atol=5e-5)


def test_single_values_of_many_go_backwards() -> None:
    crowd = crowd_of([c.replace(curves=(c["plasma"].take(np.array([3])),)) for c in data(18)])
    x = some(crowd)
    found = crowd.predict(x)
    one = [p.likelihood.predict(x[i]).tangent for i, p in enumerate(crowd.people)]
    worst = np.abs(found.tangent - np.concatenate(one)).max() / np.abs(found.tangent).max()
    report("tangents, one by one", 0.0, float(worst), atol=1e-6)
    few = np.arange(18) < 3
    assert np.allclose(crowd.predict(x, who=few).tangent[:3], found.tangent[:3], rtol=1e-10)  # forwards


def test_who_cannot_share_a_run_is_solved_alone() -> None:
    """Subject 1 swallows the dose, and the share absorbed is free; the others share runs."""
    subjects = data(3)
    subjects[1] = subjects[1].replace(regimen=pk.Regimen("15 nmol once into oral"))
    crowd = crowd_of(subjects, "Vmax Km V F")
    x = some(crowd)
    found = crowd.predict(x)
    assert crowd._batch is not None and (crowd._batch[1] >= 0).tolist() == [True, False, True]
    for i, person in enumerate(crowd.people):
        one = person.likelihood.predict(x[i][crowd.layout.place[i]])
        assert np.allclose(found.value[crowd._slice(i)], one.value, rtol=1e-5, atol=1e-8)
    f = crowd.layout.names.index("F")
    assert np.abs(found.tangent[crowd._slice(1), f]).min() > 0 and not found.tangent[crowd._slice(0), f].any()


def test_a_subject_that_cannot_be_solved_does_not_spoil_the_others() -> None:
    crowd = crowd_of(data(4))
    x = some(crowd)
    good = crowd.predict(x)
    x[1] = 800.0  # exp(800) is infinite
    found = crowd.predict(x)
    mine = crowd.owner == 1
    assert np.isnan(found.value[mine]).all() and not found.tangent[mine].any()
    assert np.array_equal(found.value[~mine], good.value[~mine])
