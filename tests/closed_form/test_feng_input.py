"""Two-tissue models under Feng's blood curve, twice: as a sampled input, and as a rate that is a formula of time.

The reference is a solution with DOP853 at rtol 1e-12. Feng D et al. Int J Biomed Comput 1993;32:95.
"""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from pkmodel.assembly import load_model
from pkmodel.composition import join
from pkmodel.model import Model
from pkmodel.model_file import model_from_dict
from pkmodel.simulation import simulate
from support import report, shared

A1, A2, A3 = 851.1, 21.88, 20.81  # kBq/mL/min, kBq/mL, kBq/mL
L1, L2, L3 = 4.134, 0.1191, 0.01043  # 1/min
MODELS = {
    "two_tissue": ("2tcm_K1.1_k2.11_k3.07_k4.06", {"K1": 0.1, "k2": 0.11, "k3": 0.07, "k4": 0.06}),
    "two_tissue_irreversible": ("2tcm_irr_K1.2_k2.2_k3.02", {"K1": 0.2, "k2": 0.2, "k3": 0.02}),
}


def feng(t: np.ndarray) -> np.ndarray:
    """Plasma activity at t minutes."""
    return (A1 * t - A2 - A3) * np.exp(-L1 * t) + A2 * np.exp(-L2 * t) + A3 * np.exp(-L3 * t)


def rows() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    with shared("oracles/pet/feng_input_reference_solutions.csv").open() as file:
        table = list(csv.DictReader(file))
    columns = {k: np.array([float(r[k]) for r in table]) for k in table[0]}
    return columns["t_min"], columns


def tissue(name: str) -> Model:
    return load_model(name).replace(vB=0.0, **MODELS[name][1])


def knots(n: int) -> np.ndarray:
    """Dense where the curve bends: geometric from a second on, after a straight run-up."""
    return np.concatenate([np.linspace(0, 1 / 60, n // 20, endpoint=False), np.geomspace(1 / 60, 240.0, n)])


def test_the_input_is_the_one_of_the_reference() -> None:
    t, columns = rows()
    for minute, expected, got in zip(t, columns["Cp"], feng(t), strict=True):
        report(f"plasma at {minute:g} min", expected, got, rtol=1e-9)


def test_interpolation_error_is_below_the_tolerance() -> None:
    """Between knots a chord misses the curve by at most h^2/8 times its bend."""
    t = knots(40_000)
    middle = 0.5 * (t[:-1] + t[1:])
    miss = np.abs(0.5 * (feng(t[:-1]) + feng(t[1:])) - feng(middle))
    report("largest miss of the chords over the peak", 0.0, float(miss.max() / feng(t).max()), atol=1e-7)


@pytest.mark.parametrize("name", MODELS)
def test_sampled_input(name: str) -> None:
    t, columns = rows()
    curve = (knots(40_000) / 60, feng(knots(40_000)))
    run = simulate(tissue(name), None, t / 60, inputs={"Cp": curve, "Cb": curve})
    assert run.attrs["solver"] == "exact propagation"
    column = MODELS[name][0]
    for i, minute in enumerate(t):
        report(
            f"{name}, sampled: tissue at {minute:g} min", columns[f"{column}_Ct"][i], float(run["organ"][i]), rtol=1e-6
        )
        report(
            f"{name}, sampled: C2 at {minute:g} min", columns[f"{column}_C2"][i], float(run["state_C2"][i]), rtol=1e-6
        )


def body(name: str) -> Model:
    """The tissue with its input written as a formula of time, which makes the rates depend on time."""
    curve = "(A1*t - A2 - A3)*exp(-l1*t) + A2*exp(-l2*t) + A3*exp(-l3*t)"
    source = tissue(name)
    plasma = model_from_dict(
        {
            "name": "feng",
            "parameters": {
                "A1": f"{A1} kBq/mL/min", "A2": f"{A2} kBq/mL", "A3": f"{A3} kBq/mL",
                "l1": f"{L1} 1/min", "l2": f"{L2} 1/min", "l3": f"{L3} 1/min",
                "K1": {"value": MODELS[name][1]["K1"], "unit": "mL/cm3/min", "lower": 0, "upper": 10},
            },
            "compartments": {"C1": {"unit": "kBq/mL", "region": "organ"}},
            "flows": [f" -> C1: K1*({curve})"],
            "observables": {"plasma": curve},
        }
    )  # fmt: skip
    undriven = tuple(f for f in source.flows if f.source)
    closed = replace(source, inputs={}, observables={}, flows=undriven, derived={}, checks=())
    return join(plasma, closed)


@pytest.mark.parametrize("name", MODELS)
def test_input_as_a_formula_of_time(name: str) -> None:
    t, columns = rows()
    run = simulate(body(name), None, t / 60, rtol=1e-9, atol=1e-10)
    assert "Rosenbrock" in run.attrs["solver"]
    column = MODELS[name][0]
    for i, minute in enumerate(t):
        total = float(run["state_C1"][i] + run["state_C2"][i])
        report(f"{name}, formula: plasma at {minute:g} min", columns["Cp"][i], float(run["plasma"][i]), rtol=1e-9)
        report(f"{name}, formula: tissue at {minute:g} min", columns[f"{column}_Ct"][i], total, rtol=1e-6)
        report(
            f"{name}, formula: C2 at {minute:g} min", columns[f"{column}_C2"][i], float(run["state_C2"][i]), rtol=1e-6
        )
