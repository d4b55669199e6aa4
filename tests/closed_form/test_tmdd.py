"""Target-mediated disposition written in the model language, against a reference on which three solvers agree.

Mager DE, Jusko WJ. J Pharmacokinet Pharmacodyn 2001;28:507, doi:10.1023/A:1014414520282. The reference agrees between
Radau, LSODA and DOP853 to 3.6e-10.
"""

from __future__ import annotations

import csv
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from pkmodel.checks import check
from pkmodel.model import Model
from pkmodel.model_file import model_from_dict
from pkmodel.problem import OfDose, Problem, Solution
from pkmodel.simulation import prepare, simulate
from pkmodel.solve.status import Status
from support import report, shared

NAMES = ("KEL", "KPT", "KTP", "V2", "R0", "KDEG", "KINT", "KON", "KOFF")
STATES = ("A_central", "A_tissue", "R_free", "RC_complex")

type Floats = NDArray[np.float64]


def tmdd() -> Model:
    """Ligand in amounts; the receptor is a binding site, made, degraded, and used up with the complex."""
    v = json.loads(shared("oracles/tmdd/tmdd_parameters.json").read_text())
    return model_from_dict(
        {
            "name": "tmdd",
            "parameters": {
                "kel": f"{v['KEL']} 1/h",
                "kpt": f"{v['KPT']} 1/h",
                "ktp": f"{v['KTP']} 1/h",
                "V": f"{v['V2']} L",
                "R0": f"{v['R0']} nmol/L",
                "kdeg": f"{v['KDEG']} 1/h",
                "kint": f"{v['KINT']} 1/h",
                "kon": f"{v['KON']} L/nmol/h",
                "koff": f"{v['KOFF']} 1/h",
                "ksyn": {"formula": "R0*kdeg", "unit": "nmol/L/h"},
            },
            "compartments": {
                "central": "nmol",
                "tissue": "nmol",
                "complex_": {"unit": "nmol", "meaning": "ligand on its receptor"},
                "receptor": {"unit": "nmol/L", "kind": "site", "initial": "R0"},
            },
            "administration": {"iv": "central"},
            "flows": [
                "central -> : kel*central",
                "central -> tissue: kpt*central - ktp*tissue",
                "central -> complex_: kon*central*receptor - koff*complex_",
                "complex_ -> : kint*complex_",
                " -> receptor: ksyn",
                "receptor -> : kdeg*receptor",
                "receptor -> : kon*central/V*receptor - koff*complex_/V",
            ],
            "observables": {"CP": "central/V", "RC": "complex_/V", "R": "receptor"},
        }
    )


def test_its_equations_hold() -> None:
    found = check(tmdd())
    print(found)
    for what in ("units", "mass balance", "doses"):
        assert [f.ok for f in found.findings if f.what == what] == [True]


@pytest.mark.parametrize("dose", ["10.0"])
def test_reference(dose: str) -> None:
    with shared("oracles/tmdd/tmdd_full_reference.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["dose_amount"] == dose]
    assert len(rows) == 20
    times = [float(r["time"]) for r in rows]
    run = simulate(tmdd(), f"{dose} nmol once", times, rtol=1e-9, atol=1e-12)
    assert "Rosenbrock" in run.attrs["solver"]
    names = {"CP": "CP", "A_tissue": "state_tissue", "R_free": "R", "RC_complex": "RC"}
    for i, row in enumerate(rows):
        for column, name in names.items():
            report(f"{column} at {times[i]:g} h", float(row[column]), float(run[name][i]), rtol=1e-6, atol=1e-9)


def parameters() -> Floats:
    values = json.loads(shared("oracles/tmdd/tmdd_parameters.json").read_text())
    return np.array([values[name] for name in NAMES])


def formula(y: Any, p: Any) -> Any:
    """The equations once more, for SciPy and for complex numbers; y may have trailing axes."""
    kel, kpt, ktp, v, r0, kdeg, kint, kon, koff = p
    cp = y[0] / v
    on, off = kon * cp * y[2], koff * y[3]
    central = -kel * y[0] - kpt * y[0] + ktp * y[1] + v * (off - on)
    return np.array([central, kpt * y[0] - ktp * y[1], r0 * kdeg - kdeg * y[2] - on + off, on - kint * y[3] - off])


def problem(dose: float, times: Floats, rtol: float) -> Problem:
    return prepare(tmdd(), f"{dose} nmol once", times, rtol=rtol, atol=1e-14)


def table_of(solution: Solution) -> Floats:
    """Amounts of ligand, concentrations of target and complex, (times, 4), in the order of `STATES`."""
    central, tissue, _, free = solution.states[:4]
    return np.stack([central, tissue, free, solution.observed[1]], axis=1)


def solve(dose: float, times: Floats, rtol: float) -> Solution:
    solution = problem(dose, times, rtol).solve()
    assert solution.status == Status.OK, solution.message
    return solution


@pytest.mark.parametrize("dose", [1.0, 10.0, 100.0])
def test_three_doses_against_scipy(dose: float) -> None:
    p, times = parameters(), np.array([0.0, 0.01, 0.1, 0.5, 2.0, 8.0, 24.0, 72.0, 168.0])
    start = np.array([dose, 0.0, p[4], 0.0])
    reference = solve_ivp(
        lambda t, y: formula(y, p), (0, 168), start, method="Radau", t_eval=times, rtol=1e-12, atol=1e-15
    )
    table = table_of(solve(dose, times, rtol=1e-9))
    for i, name in enumerate(STATES):
        expected, got = reference.y[i], table[:, i]
        errors = np.where(expected > 1e-6, np.abs(got - expected) / np.maximum(expected, 1e-300), 0.0)
        k = int(np.argmax(errors))
        report(f"dose {dose:g}, {name}, worst at {times[k]:g} h", expected[k], got[k], rtol=1e-6)


@pytest.mark.parametrize("dose", [1.0, 10.0, 100.0])
def test_what_was_given_is_there_or_has_left(dose: float) -> None:
    """Ligand leaves as such from the centre, and with its target."""
    result, p = solve(dose, np.array([0.0, 0.1, 1.0, 10.0, 100.0]), rtol=1e-9), parameters()
    left = p[3] * (p[0] * result.integrals[0] + p[6] * result.integrals[1])
    total = result.states[:3].sum(axis=0) + left
    for k in range(1, 5):
        report(f"dose {dose:g}, mass at stop {k}", dose, float(total[k]), rtol=1e-12)


@pytest.mark.parametrize("dose", [1.0, 10.0, 100.0])
def test_sensitivities_against_the_variational_equations(dose: float) -> None:
    """All nine parameters and the dose; the reference is SciPy's DOP853 on complex-step variational equations."""
    # An explicit reference is slow where the drug saturates its target, so the largest dose ends earlier.
    end = 24.0 if dose < 100 else 8.0
    p, times, tiny = parameters(), np.array([0.0, 0.05, 0.5, 2.0, end]), 1e-30
    nd = p.size + 1
    directions = np.vstack([np.eye(p.size), np.zeros(p.size)])
    start = np.concatenate([[dose, 0.0, p[4], 0.0], np.zeros(4 * nd)])
    seed = start[4:].reshape(4, nd)
    seed[2, NAMES.index("R0")], seed[0, nd - 1] = 1.0, 1.0

    def variational(t: float, z: Floats) -> Floats:
        y, s = z[:4, None], z[4:].reshape(4, nd)
        moved = formula(y + 1j * tiny * s, [q + 1j * tiny * d for q, d in zip(p, directions.T, strict=True)])
        slopes: Floats = np.concatenate([moved[:, 0].real, (moved.imag / tiny).ravel()])
        return slopes

    reference = solve_ivp(variational, (0, end), start, method="DOP853", t_eval=times, rtol=1e-12, atol=1e-14)
    expected = reference.y[4:].reshape(4, nd, times.size).transpose(2, 1, 0)
    asked = problem(dose, times, 1e-9)
    order = ["kel", "kpt", "ktp", "V", "R0", "kdeg", "kint", "kon", "koff"]
    numbers = [asked.compiled.parameters.index(n) for n in order]
    result = asked.solve(directions=[*numbers, OfDose(0)])
    assert result.status == Status.OK, result.message
    np.testing.assert_array_equal(result.states, solve(dose, times, rtol=1e-9).states)
    parts = [*result.state_tangent[:, [0, 1, 3]].transpose(1, 0, 2), result.observed_tangent[:, 1]]
    slopes = np.stack(parts, axis=-1)  # (direction, time, state)
    slopes[nd - 1] /= dose  # per nmol
    for d, name in enumerate((*NAMES, "dose")):
        scale = np.abs(expected[:, d]).max(axis=0)
        errors = np.abs(slopes[d] - expected[:, d]) / np.where(scale > 0, scale, 1.0)
        k, i = np.unravel_index(int(np.argmax(errors)), errors.shape)
        label = f"dose {dose:g}, d {STATES[i]} / d {name}, worst at {times[k]:g} h"
        report(label, float(expected[k, d, i]), float(slopes[d, k, i]), atol=1e-6 * float(scale[i]))
