"""Doses, lags, fractions, steady states and infusions against 40-digit concentrations, by both ways of solving."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from typing import Any, Literal

import pytest

from pkmodel.model import Model
from pkmodel.model_file import model_from_dict
from pkmodel.simulation import prepare
from support import report, shared

FOLDER = "oracles/linear_compartment/"
SCENARIOS = {
    "iv_bolus_sd": "100 nmol once into iv",
    "infusion2h_sd": "100 nmol over 2 h once into iv",
    "oral_sd": "100 nmol once into oral",
    "oral_lag0.7_F0.85_sd": "100 nmol once fraction F lag tlag into oral",
    "iv_bolus_addl5_ii12": "100 nmol every 12 h x 6 into iv",
    "oral_addl5_ii12": "100 nmol every 12 h x 6 into oral",
    "infusion2h_addl5_ii12": "100 nmol over Tinf every 12 h x 6 into iv",
    "iv_bolus_ss_ii12": "100 nmol every 12 h at steady state into iv",
    "oral_ss_ii12": "100 nmol every 12 h at steady state into oral",
    "infusion2h_ss_ii12": "100 nmol over Tinf every 12 h at steady state into iv",
}


def model(kind: str) -> Model:
    values: dict[str, Any] = json.loads(shared(FOLDER + "linear_cpt_parameters.json").read_text())
    own = values["models"][kind]
    parameters = {"CL": f"{own['CL']} L/h", "V": f"{own['V']} L", "KA": f"{values['KA']} 1/h"}
    parameters |= {"F": f"{values['F']} 1", "tlag": f"{values['lag_h']} h", "Tinf": f"{values['Tinf_h']} h"}
    compartments, flows = (
        {"depot": "nmol", "central": "nmol"},
        ["depot -> central: KA*depot", "central -> : CL/V*central"],
    )
    if kind == "2c":
        parameters |= {"Q": f"{own['Q']} L/h", "V2": f"{own['V2']} L"}
        compartments["outer"] = "nmol"
        flows += ["central -> outer: Q/V*central", "outer -> central: Q/V2*outer"]
    return model_from_dict(
        {
            "name": f"oracle_{kind}",
            "parameters": parameters,
            "compartments": compartments,
            "administration": {"iv": "central", "oral": "depot"},
            "flows": flows,
            "observables": {"conc": "central/V"},
        }
    )


def rows() -> dict[tuple[str, str], list[tuple[float, float]]]:
    grouped: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    with shared(FOLDER + "linear_cpt_reference.csv").open() as file:
        for row in csv.DictReader(file):
            grouped[row["model"], row["scenario"]].append((float(row["time_h"]), float(row["conc"])))
    return grouped


@pytest.mark.parametrize("method", ["exact", "rosenbrock"])
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("kind", ["1c", "2c"])
def test_concentrations(kind: str, scenario: str, method: Literal["exact", "rosenbrock"]) -> None:
    reference = rows()[kind, scenario]
    rtol = 1e-8
    tolerance = 1e-12 if method == "exact" else 10 * rtol
    # The table's steady-state row at 12 h lies just before the next dose, as here, where no further dose is ordered.
    problem = prepare(model(kind), SCENARIOS[scenario], [t for t, _ in reference], rtol=rtol, method=method)
    solution = problem.solve()
    assert solution.status == 0, solution.message
    top = max(c for _, c in reference)
    got = solution.observed[0].tolist()
    errors = [
        abs(g - c) / c if c and method == "exact" else abs(g - c) / top
        for g, (_, c) in zip(got, reference, strict=True)
    ]
    worst = max(range(len(errors)), key=errors.__getitem__)
    time, expected = reference[worst]
    scale = 0.0 if method == "exact" else tolerance * top
    name = f"{kind} {scenario} {method}, worst of {len(errors)} times ({time:g} h)"
    report(name, expected, got[worst], rtol=tolerance * (method == "exact"), atol=scale)
    assert max(errors) <= tolerance
