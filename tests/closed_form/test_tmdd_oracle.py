"""Target-mediated disposition (Mager & Jusko 2001): values against a table and SciPy, derivatives, mass balance."""

from __future__ import annotations

import csv
import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from pkmodel.solve.jit import njit
from pkmodel.solve.kernels import DFDP_SIGNATURE, JAC_SIGNATURE, RHS_SIGNATURE, Kernels
from pkmodel.solve.status import Status
from pkmodel.solve.stiff import StiffResult, solve_stiff, solve_stiff_sens
from support import report, shared

NAMES = ("KEL", "KPT", "KTP", "V2", "R0", "KDEG", "KINT", "KON", "KOFF")
STATES = ("A_central", "A_tissue", "R_free", "RC_complex")

type Floats = NDArray[np.float64]


@njit(RHS_SIGNATURE, cache=False)
def rhs(t: float, y: Floats, u: Floats, p: Floats, out: Floats) -> None:
    kel, kpt, ktp, v, r0, kdeg, kint, kon, koff = p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8]
    binding = kon * y[0] / v * y[2] - koff * y[3]
    out[0] = -(kel + kpt) * y[0] + ktp * y[1] - v * binding
    out[1] = kpt * y[0] - ktp * y[1]
    out[2] = (r0 - y[2]) * kdeg - binding
    out[3] = binding - kint * y[3]
    out[4] = kel * y[0] + v * kint * y[3]  # what has left, for the balance


@njit(JAC_SIGNATURE, cache=False)
def jac(t: float, y: Floats, u: Floats, p: Floats, out: Floats) -> None:
    kel, kpt, ktp, v, kdeg, kint, kon, koff = p[0], p[1], p[2], p[3], p[5], p[6], p[7], p[8]
    drug, target = kon * y[2] / v, kon * y[0] / v
    out[0, 0], out[0, 1], out[0, 2], out[0, 3] = -(kel + kpt) - v * drug, ktp, -v * target, v * koff
    out[1, 0], out[1, 1] = kpt, -ktp
    out[2, 0], out[2, 2], out[2, 3] = -drug, -kdeg - target, koff
    out[3, 0], out[3, 2], out[3, 3] = drug, target, -koff - kint
    out[4, 0], out[4, 3] = kel, v * kint


@njit(DFDP_SIGNATURE, cache=False)
def dfdp(t: float, y: Floats, u: Floats, p: Floats, out: Floats) -> None:
    v, r0, kdeg, kint, kon, koff = p[3], p[4], p[5], p[6], p[7], p[8]
    pair = y[0] / v * y[2]
    out[0, 0], out[0, 1], out[0, 2], out[0, 3] = -y[0], -y[0], y[1], koff * y[3]
    out[0, 7], out[0, 8] = -v * pair, v * y[3]
    out[1, 1], out[1, 2] = y[0], -y[1]
    out[2, 3], out[2, 4], out[2, 5], out[2, 7], out[2, 8] = kon * pair / v, kdeg, r0 - y[2], -pair, y[3]
    out[3, 3], out[3, 6], out[3, 7], out[3, 8] = -kon * pair / v, -y[3], pair, -y[3]
    out[4, 0], out[4, 3], out[4, 6] = y[0], kint * y[3], v * y[3]


@cache
def kernels() -> Kernels:
    return Kernels(rhs, jac, dfdp)


def parameters() -> Floats:
    values = json.loads(shared("oracles/tmdd/tmdd_parameters.json").read_text())
    return np.array([values[name] for name in NAMES])


def table() -> list[dict[str, float]]:
    with shared("oracles/tmdd/tmdd_full_reference.csv").open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def formula(y: Any, p: Any) -> Any:
    """The equations once more, for SciPy and for complex numbers; y may have trailing axes."""
    kel, kpt, ktp, v, r0, kdeg, kint, kon, koff = p
    cp = y[0] / v
    on, off = kon * cp * y[2], koff * y[3]
    central = -kel * y[0] - kpt * y[0] + ktp * y[1] + v * (off - on)
    return np.array([central, kpt * y[0] - ktp * y[1], r0 * kdeg - kdeg * y[2] - on + off, on - kint * y[3] - off])


def timeline(dose: float, times: Floats) -> tuple[Floats, ...]:
    m = len(times) - 1
    jumps = np.zeros((m + 1, 5))
    jumps[0, 0] = dose
    return times, jumps, np.zeros((m, 5)), np.zeros((m, 0)), np.zeros((m, 0))


def solve(dose: float, times: Floats, rtol: float) -> StiffResult:
    p = parameters()
    result = solve_stiff(kernels(), p, [0, 0, p[4], 0, 0], *timeline(dose, times), rtol=rtol, atol=1e-13)
    assert result.status == Status.OK, result.message
    return result


def test_table() -> None:
    # The table has 12 digits, on which three SciPy solvers agree to 3.6e-10.
    rows = [row for row in table() if row["dose_amount"] == 10.0]
    result = solve(10.0, np.array([row["time"] for row in rows]), rtol=1e-9)
    assert len(rows) == 20
    for i, name in enumerate(STATES):
        pairs = [(float(x), row[name]) for x, row in zip(result.X[:, i], rows, strict=True)]
        errors = [abs(x - expected) / expected if expected > 1e-6 else 0.0 for x, expected in pairs]
        k = int(np.argmax(errors))
        report(f"dose 10, {name}, worst at {rows[k]['time']:g} h", rows[k][name], float(result.X[k, i]), rtol=1e-6)
    print(f"{result.steps} steps, {result.rejected} rejected, {result.evaluations} right-hand sides")


@pytest.mark.parametrize("dose", [1.0, 10.0, 100.0])
def test_three_doses_against_scipy(dose: float) -> None:
    p, times = parameters(), np.array([0.0, 0.01, 0.1, 0.5, 2.0, 8.0, 24.0, 72.0, 168.0])
    start = np.array([dose, 0.0, p[4], 0.0])
    reference = solve_ivp(
        lambda t, y: formula(y, p), (0, 168), start, method="Radau", t_eval=times, rtol=1e-12, atol=1e-15
    )
    result = solve(dose, times, rtol=1e-9)
    for i, name in enumerate(STATES):
        expected, got = reference.y[i], result.X[:, i]
        errors = np.where(expected > 1e-6, np.abs(got - expected) / np.maximum(expected, 1e-300), 0.0)
        k = int(np.argmax(errors))
        report(f"dose {dose:g}, {name}, worst at {times[k]:g} h", expected[k], got[k], rtol=1e-6)


@pytest.mark.parametrize("dose", [1.0, 10.0, 100.0])
def test_what_was_given_is_there_or_has_left(dose: float) -> None:
    result, v = solve(dose, np.array([0.0, 0.1, 1.0, 10.0, 100.0]), rtol=1e-9), parameters()[3]
    total = result.X[:, 0] + result.X[:, 1] + v * result.X[:, 3] + result.X[:, 4]
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
    ds0 = np.zeros((nd, 5))
    ds0[NAMES.index("R0"), 2] = 1.0  # the target starts at R0
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
    line = timeline(dose, times)
    djumps = np.zeros((nd, times.size, 5))
    djumps[nd - 1, 0, 0] = 1.0
    m, none = times.size - 1, np.zeros((nd, times.size - 1, 0))
    x0 = [0, 0, p[4], 0, 0]
    zero = np.zeros((nd, m, 5))
    args: tuple[Any, ...] = (kernels(), p, directions, x0, ds0, *line[:2], djumps, line[2], zero, *line[3:], none, none)
    result = solve_stiff_sens(*args, rtol=1e-9, atol=1e-13)
    assert result.status == Status.OK, result.message
    np.testing.assert_array_equal(result.X, solve(dose, times, rtol=1e-9).X)
    for d, name in enumerate((*NAMES, "dose")):
        scale = np.abs(expected[:, d]).max(axis=0)
        errors = np.abs(result.S[:, d, :4] - expected[:, d]) / np.where(scale > 0, scale, 1.0)
        k, i = np.unravel_index(int(np.argmax(errors)), errors.shape)
        label = f"dose {dose:g}, d {STATES[i]} / d {name}, worst at {times[k]:g} h"
        report(label, float(expected[k, d, i]), float(result.S[k, d, i]), atol=1e-6 * float(scale[i]))
