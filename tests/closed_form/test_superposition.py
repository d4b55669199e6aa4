"""Properties of every linear model: doses scale, add up and shift; and of every model: nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkmodel.assembly import load_model
from pkmodel.composition import join
from pkmodel.labelling import label
from pkmodel.model import Model
from pkmodel.model_file import model_from_dict
from pkmodel.regimen import Administration, Regimen
from pkmodel.simulation import simulate
from support import report

TIMES = [0.0, 1.0, 7.5, 24.0, 100.0]
NAMES = ["two_compartment", "whole_body_linear", "organ_3_phase"]

times = st.floats(0.0, 60.0).map(lambda t: round(t, 6))  # what lies within rounding of an output is given there
amounts = st.floats(1e-3, 1e3)
durations = st.one_of(st.just(0.0), st.floats(0.01, 20.0))
doses = st.builds(lambda t, a, d: Administration(t, amount=a, duration=d), times, amounts, durations)
regimens = st.lists(doses, min_size=1, max_size=4).map(lambda d: Regimen.of(*d))


def curves(model: Model, regimen: Regimen) -> np.ndarray:
    """Every observable and integral, (k, m)."""
    run = simulate(model, regimen, TIMES)
    return np.array([run[v].values for v in run.data_vars])


def close(got: np.ndarray, expected: np.ndarray, rtol: float = 1e-11) -> None:
    scale = np.abs(expected).max(axis=1, keepdims=True)
    assert np.all(np.abs(got - expected) <= rtol * (np.abs(expected) + scale) + 1e-300)


@settings(max_examples=25)
@given(st.sampled_from(NAMES), regimens, regimens)
def test_doses_add_up(name: str, one: Regimen, other: Regimen) -> None:
    model = load_model(name)
    close(curves(model, one + other), curves(model, one) + curves(model, other))


@settings(max_examples=25)
@given(st.sampled_from(NAMES), regimens, st.floats(1e-3, 1e3))
def test_doses_scale(name: str, regimen: Regimen, by: float) -> None:
    model = load_model(name)
    scaled = Regimen.of(
        *(Administration(a.time, amount=(a.amount or 0) * by, duration=a.duration) for a in regimen.administrations)
    )
    close(curves(model, scaled), by * curves(model, regimen))


@settings(max_examples=20)
@given(st.sampled_from(NAMES), st.floats(0.1, 50.0), amounts)
def test_a_later_dose_is_the_same_curve_later(name: str, late: float, amount: float) -> None:
    model = load_model(name)
    grid = [0.5, 3.0, 20.0]
    now = simulate(model, Regimen.of(Administration(0.0, amount=amount)), grid)
    then = simulate(model, Regimen.of(Administration(late, amount=amount)), [late + t for t in grid])
    for v in now.data_vars:
        np.testing.assert_allclose(then[v].values, now[v].values, rtol=1e-10)


@settings(max_examples=20)
@given(regimens, st.booleans())
def test_what_was_given_is_somewhere(regimen: Regimen, saturable: bool) -> None:
    """Mass balance as a run: a body with a bladder, and an organ that saturates or not."""
    law = "Vm*blood/(Km + blood)" if saturable else "k*blood"
    body = model_from_dict(
        {
            "name": "body",
            "parameters": {"k": "0.4 1/h", "back": "0.1 1/h", "kel": "0.2 1/h", "Vm": "3 nmol/h", "Km": "8 nmol"},
            "compartments": {"blood": "nmol", "organ": "nmol", "bladder": "nmol"},
            "administration": {"iv": "blood"},
            "flows": [f"blood -> organ: {law} - back*organ", "blood -> bladder: kel*blood"],
            "observables": {"all": "blood + organ + bladder"},
        }
    )
    run = simulate(body, regimen, TIMES)
    for i, t in enumerate(TIMES):
        given_so_far = sum(
            (a.amount or 0.0)
            * (min(max((t - a.time) / float(a.duration), 0.0), 1.0) if a.duration else float(t >= a.time))
            for a in regimen.administrations
        )
        assert abs(float(run["all"][i]) - given_so_far) <= 1e-9 * max(regimen_total(regimen), 1e-12)


def regimen_total(regimen: Regimen) -> float:
    return sum(a.amount or 0.0 for a in regimen.administrations)


@settings(max_examples=15)
@given(st.lists(st.floats(0.0, 20.0), min_size=4, max_size=4), st.lists(st.floats(0.0, 20.0), min_size=4, max_size=4))
def test_inputs_add_up(one: list[float], other: list[float]) -> None:
    model = load_model("two_tissue")
    knots, grid = np.array([0.0, 0.05, 0.4, 2.0]), [0.03, 0.4, 1.7]

    def run(values: np.ndarray) -> np.ndarray:
        found = simulate(model, None, grid, inputs={"Cp": (knots, values), "Cb": (knots, 0.7 * values)})
        return np.asarray(found["organ"].values)

    a, b = np.array(one), np.array(other)
    np.testing.assert_allclose(run(a + 2 * b), run(a) + 2 * run(b), rtol=1e-11, atol=1e-12)


def test_steady_state_of_a_repeated_dose() -> None:
    """Mean concentration over an interval at steady state is dose/(CL tau)."""
    run = simulate(load_model("two_compartment"), "100 nmol every 12 h x 80", [78 * 12.0, 79 * 12.0])
    mean = float(run["integral_plasma"][1] - run["integral_plasma"][0]) / 12.0
    report("mean plasma concentration [nmol/L]", 100 / (2.9664 * 12.0), mean, rtol=1e-10)


@pytest.mark.parametrize("nuclide", ["Lu-177", "F-18", "Ac-225"])
def test_labelled_doses_add_up_as_well(nuclide: str) -> None:
    model = label(load_model("whole_body_linear"), nuclide)
    one = simulate(model, Regimen("1 MBq once"), TIMES)
    three = simulate(model, Regimen("1 MBq once") + Regimen("2 MBq once"), TIMES)
    for v in one.data_vars:
        np.testing.assert_allclose(three[v].values, 3 * one[v].values, rtol=1e-12)


def test_joined_models_without_a_common_part_do_not_meet() -> None:
    body = load_model("whole_body_linear")
    apart = load_model("two_compartment")
    both = join(body, apart)
    regimen = Regimen.of(
        Administration(0.0, amount=5.0, into="extravascular"), Administration(3.0, amount=2.0, into="injection")
    )
    alone = simulate(apart, regimen, TIMES)
    joined = simulate(both, regimen, TIMES)
    np.testing.assert_allclose(joined["plasma"].values, alone["plasma"].values, rtol=1e-12)
