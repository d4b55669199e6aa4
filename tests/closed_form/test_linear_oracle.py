"""Exact propagation against one- and two-compartment concentrations from a 40-digit matrix exponential."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pkmodel.solve.linear import integral_to_infinity, propagators, solve_linear
from pkmodel.solve.status import Status
from support import report, shared

type Floats = NDArray[np.float64]

FOLDER = "oracles/linear_compartment/"
SCENARIOS = [
    "iv_bolus_sd",
    "infusion2h_sd",
    "oral_sd",
    "oral_lag0.7_F0.85_sd",
    "iv_bolus_addl5_ii12",
    "oral_addl5_ii12",
    "infusion2h_addl5_ii12",
    "iv_bolus_ss_ii12",
    "oral_ss_ii12",
    "infusion2h_ss_ii12",
]
DEPOT, CENTRAL = 0, 1


@dataclass(frozen=True)
class Dose:
    """One administration: at a time [h], into a state, at once (duration 0) or over a duration [h]."""

    time: float
    amount: float
    into: int
    duration: float = 0.0


def parameters() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(shared(FOLDER + "linear_cpt_parameters.json").read_text())
    return values


def matrix(model: str, values: dict[str, Any]) -> tuple[Floats, float]:
    """States depot, central and, in the two-compartment model, peripheral; also the central volume."""
    m = {k: float(v) for k, v in values["models"][model].items()}
    ka, n = float(values["KA"]), 3 if model == "2c" else 2
    A = np.zeros((n, n))
    A[0, 0], A[1, 0], A[1, 1] = -ka, ka, -m["CL"] / m["V"]
    if n == 3:
        A[1, 1] = -(m["CL"] + m["Q"]) / m["V"]
        A[2, 1], A[1, 2], A[2, 2] = m["Q"] / m["V"], m["Q"] / m["V2"], -m["Q"] / m["V2"]
    return A, m["V"]


def doses_of(scenario: str, values: dict[str, Any]) -> list[Dose]:
    amount, tau = float(values["dose"]), float(values["tau_h"])
    repeats = 6 if "addl5" in scenario else 1
    if scenario.startswith("iv_bolus"):
        first = Dose(0.0, amount, CENTRAL)
    elif scenario.startswith("infusion"):
        first = Dose(0.0, amount, CENTRAL, float(values["Tinf_h"]))
    elif "lag" in scenario:
        first = Dose(float(values["lag_h"]), amount * float(values["F"]), DEPOT)
    else:
        first = Dose(0.0, amount, DEPOT)
    return [Dose(first.time + i * tau, first.amount, first.into, first.duration) for i in range(repeats)]


def states(A: Floats, x0: Floats, doses: list[Dose], at: list[float]) -> Floats:
    """States at the wanted times, doses given at those times included."""
    n = A.shape[0]
    ends = [d.time + d.duration for d in doses]
    times = np.unique([0.0, *at, *[d.time for d in doses], *ends])
    m = times.size - 1
    jumps, rates = np.zeros((m + 1, n)), np.zeros((m, n))
    for d in doses:
        if d.duration:
            inside = (times[:-1] >= d.time) & (times[:-1] < d.time + d.duration)
            rates[inside, d.into] += d.amount / d.duration
        else:
            jumps[np.searchsorted(times, d.time), d.into] += d.amount
    none = np.zeros((m, 0))
    result = solve_linear(A, np.zeros((n, 0)), np.zeros(n), x0, times, jumps, rates, none, none)
    assert result.status == Status.OK, result.message
    return result.X[np.searchsorted(times, at)]


def rows() -> dict[tuple[str, str], list[tuple[float, float]]]:
    grouped: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    with shared(FOLDER + "linear_cpt_reference.csv").open() as file:
        for row in csv.DictReader(file):
            grouped[row["model"], row["scenario"]].append((float(row["time_h"]), float(row["conc"])))
    return grouped


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("model", ["1c", "2c"])
def test_concentrations(model: str, scenario: str) -> None:
    values, reference = parameters(), rows()[model, scenario]
    A, volume = matrix(model, values)
    doses, start = doses_of(scenario, values), np.zeros(A.shape[0])
    tau = float(values["tau_h"])
    if "_ss_" in scenario:
        # x = E x + y just before a dose, with y what one interval leaves of its own dose; E - I is D.
        left = states(A, start, doses, [tau])[0]
        start = -np.linalg.solve(propagators(A, tau).D, left)
        # The table's steady-state row at 12 h lies just before the next dose; its repeated-dose row, just after.
    got = states(A, start, doses, [t for t, _ in reference])[:, CENTRAL] / volume
    assert len(reference) >= 11
    errors = [abs(g - e) / e if e else abs(g) for g, (_, e) in zip(got, reference, strict=True)]
    worst = int(np.argmax(errors))
    time, expected = reference[worst]
    name = f"{model} {scenario}, worst of {len(reference)} times ({time:g} h), conc"
    report(name, expected, float(got[worst]), rtol=1e-12)
    for g, (_, e) in zip(got, reference, strict=True):
        assert abs(g - e) <= 1e-12 * abs(e)


@pytest.mark.parametrize("model", ["1c", "2c"])
def test_area_to_infinity(model: str) -> None:
    values = parameters()
    ((_, expected),) = rows()[model, "AUCinf_iv_bolus"]
    A, volume = matrix(model, values)
    x = np.zeros(A.shape[0])
    x[CENTRAL] = float(values["dose"])
    # The clearance is direction 0: d(dose / CL)/dCL = -dose / CL^2.
    dA = np.zeros((1, *A.shape))
    dA[0, CENTRAL, CENTRAL] = -1.0 / volume
    area = integral_to_infinity(A, x, dA)
    assert area.status == Status.OK
    report(f"{model} AUC to infinity", expected, area.value[CENTRAL] / volume, rtol=1e-12)
    clearance = float(values["models"][model]["CL"])
    report(f"{model} dAUC/dCL", -expected / clearance, area.derivative[0, CENTRAL] / volume, rtol=1e-12)
