"""The peers: each solves the same problem for the same parameter sets, used as its own documentation advises.

Every maker returns a function from parameter sets (N, k) to all states at all output times (N, m, n), or raises
ImportError where the peer is not installed. All get the same relative and absolute tolerance.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from functools import cache
from importlib import import_module
from typing import Any, Literal

import numpy as np
import sympy as sp
from numba import carray, cfunc, njit  # type: ignore[attr-defined, import-untyped, unused-ignore]
from numpy.typing import NDArray

from benchmarks.plain import FOLDER, plain, starts
from benchmarks.problems import Equations

Array = NDArray[np.float64]
Solver = Callable[[Array], Array]
STEPS = 1_000_000  # per call: no peer may stop early


def scipy_odeint(equations: Equations, rtol: float, atol: float) -> Solver:
    """SciPy's LSODA through `odeint`, which stays in compiled code between calls of f and J; both by numba."""
    from scipy.integrate import odeint

    f = plain(equations)

    def piece(t: Array, y: Array, p: Array) -> Array:
        out = odeint(
            lambda _, y: f.rhs(y, p), y, t, tfirst=True, Dfun=lambda _, y: f.jacobian(y, p),
            rtol=rtol, atol=atol, mxstep=STEPS,
        )  # fmt: skip
        return np.asarray(out)

    return _piecewise(equations, piece)


def scipy_solve_ivp(
    equations: Equations, rtol: float, atol: float, method: Literal["LSODA", "Radau"] = "LSODA"
) -> Solver:
    """SciPy's `solve_ivp`, whose steps are taken in Python; f and the dense J by numba."""
    from scipy.integrate import solve_ivp

    f = plain(equations)

    def piece(t: Array, y: Array, p: Array) -> Array:
        out = solve_ivp(
            lambda _, y: f.rhs(y, p), (t[0], t[-1]), y, method=method, t_eval=t, rtol=rtol, atol=atol,
            jac=lambda _, y: f.jacobian(y, p),
        )  # fmt: skip
        if not out.success:
            raise RuntimeError(out.message)
        return np.asarray(out.y.T)

    return _piecewise(equations, piece)


def _piecewise(equations: Equations, piece: Callable[[Array, Array, Array], Array]) -> Solver:
    """Solve from event to event; `piece(t, y, p)` gives the states at all of `t`."""
    n = len(equations.states)
    plan = [(given, _grid(a, b, times), times.size) for a, b, given, times in equations.segments()]

    def solve(sets: Array) -> Array:
        out = np.empty((len(sets), equations.times.size, n))
        for y, values, rows in zip(starts(equations, sets), sets, out, strict=True):
            p, at = values.copy(), 0
            for given, grid, size in plan:
                for index, value in given:
                    if index < n:
                        y[index] += value
                    else:
                        p[index - n] = value
                found = piece(grid, y, p)
                rows[at : at + size] = found[1 : size + 1]
                y, at = found[-1].copy(), at + size
        return out

    return solve


def _grid(begin: float, end: float, times: Array) -> Array:
    """Where a piece is looked at: its begin, the output times, its end."""
    return np.concatenate([[begin], times, [] if times.size and times[-1] == end else [end]])


def numbalsoda_lsoda(equations: Equations, rtol: float, atol: float) -> Solver:
    """numbalsoda: LSODA and the right-hand side in compiled code, the loop over patients too; J by differences."""
    return _numbalsoda(equations, rtol, atol, import_module("numbalsoda").lsoda)


def numbalsoda_dop853(equations: Equations, rtol: float, atol: float) -> Solver:
    """The explicit method of order 8 by Dormand and Prince, for references: its steps are as short as it is stiff."""
    return _numbalsoda(equations, rtol, atol, import_module("numbalsoda").dop853)


def _numbalsoda(equations: Equations, rtol: float, atol: float, integrate: Any) -> Solver:
    address, population = _address(equations), _population(integrate)
    plan = equations.segments()
    n, k = len(equations.states), len(equations.parameters)
    grids = [_grid(a, b, times) for a, b, _, times in plan]
    grid, edges = np.concatenate(grids), np.cumsum([0, *(g.size for g in grids)])
    sizes = np.array([times.size for *_, times in plan])
    given = np.array([(s, i, v) for s, (_, _, values, _) in enumerate(plan) for i, v in values])
    piece, index = given[:, :2].astype(np.int64).T

    def solve(sets: Array) -> Array:
        out = np.empty((len(sets), equations.times.size, n))
        assert sets.shape[1] == k
        bad = population(
            address, sets, starts(equations, sets), grid, edges, sizes, piece, index, given[:, 2].copy(), rtol, atol,
            100 * STEPS, out,
        )  # fmt: skip
        if bad >= 0:
            raise RuntimeError(f"numbalsoda failed in set {bad}")
        return out

    return solve


_SLOPES: dict[str, Any] = {}  # compiled right-hand sides by problem: they must live as long as their addresses


def _address(equations: Equations) -> int:
    if equations.name not in _SLOPES:
        fill, n, k = plain(equations, jacobian=False).fill, len(equations.states), len(equations.parameters)

        @cfunc(import_module("numbalsoda").lsoda_sig)
        def slope(t, y, out, p):  # type: ignore[no-untyped-def]
            fill(carray(y, (n,)), carray(p, (k,)), carray(out, (n,)))

        _SLOPES[equations.name] = slope
    return int(_SLOPES[equations.name].address)


@cache
def _population(integrate: Any) -> Any:
    """The loop over patients and pieces, compiled once for all problems; gives the first set that failed, or -1."""

    @njit
    def population(address, sets, first, grid, edges, sizes, piece, index, value, rtol, atol, steps, out):  # type: ignore[no-untyped-def]
        n = first.shape[1]
        for i in range(len(sets)):
            y, p, at = first[i].copy(), sets[i].copy(), 0
            for s in range(len(sizes)):
                for e in range(len(piece)):
                    if piece[e] == s and index[e] < n:
                        y[index[e]] += value[e]
                    elif piece[e] == s:
                        p[index[e] - n] = value[e]
                found, good = integrate(address, y, grid[edges[s] : edges[s + 1]], p, rtol, atol, steps)
                if not good:
                    return i
                out[i, at : at + sizes[s]] = found[1 : sizes[s] + 1]
                y, at = found[-1].copy(), at + sizes[s]
        return -1

    return population


def casadi_cvodes(equations: Equations, rtol: float, atol: float, **options: Any) -> Solver:
    """CasADi: CVODES with the exact sparse Jacobian and its sparse QR (its fastest solver here); one call for all."""
    ca = import_module("casadi")

    n = len(equations.states)
    y, p = ca.SX.sym("y", n), ca.SX.sym("p", len(equations.parameters))
    written = sp.lambdify([equations.states, equations.parameters], equations.rates, modules=[{}], cse=True)
    ode = ca.vertcat(*written(ca.vertsplit(y), ca.vertsplit(p)))
    settings = {"reltol": rtol, "abstol": atol, "max_num_steps": STEPS, **options}
    plan = []
    for a, b, given, times in equations.segments():
        grid = _grid(a, b, times)
        plan.append(
            (given, times.size, ca.integrator("f", "cvodes", {"x": y, "p": p, "ode": ode}, a, grid[1:], settings))
        )

    def solve(sets: Array) -> Array:
        state, values = starts(equations, sets).T.copy(), sets.T.copy()
        count = len(sets)
        out = np.empty((count, equations.times.size, n))
        at = 0
        for given, size, integrator in plan:
            for index, value in given:
                if index < n:
                    state[index] += value
                else:
                    values[index - n] = value
            found = np.array(integrator(x0=state, p=values)["xf"]).T.reshape(count, -1, n)
            out[:, at : at + size] = found[:, :size]
            state, at = found[:, -1].T.copy(), at + size
        return out

    return solve


def casadi_compiled(equations: Equations, rtol: float, atol: float) -> Solver:
    """The same, with CasADi's functions written as C and compiled for this processor; needs a C compiler."""
    if not shutil.which("gcc"):
        raise ImportError("no C compiler (gcc)")
    how = {"flags": ["-O3", "-march=native"], "compiler": "gcc"}
    FOLDER.mkdir(exist_ok=True)
    with chdir(FOLDER):  # where its files then stay: it looks for them in the folder of the day when it cleans up
        return casadi_cvodes(equations, rtol, atol, jit=True, jit_cleanup=False, compiler="shell", jit_options=how)


def libroadrunner_cvode(equations: Equations, rtol: float, atol: float) -> Solver:
    """libroadrunner: CVODE on machine code made from SBML; doses are SBML events, one `simulate` a patient."""
    antimony, roadrunner = import_module("antimony"), import_module("roadrunner")

    n = len(equations.states)
    plain_names = {s: sp.Symbol(str(s).replace(" ", "_")) for s in (*equations.states, *equations.parameters)}
    names = [str(plain_names[s]) for s in equations.states]
    values = [str(plain_names[p]) for p in equations.parameters]

    def text(e: Any) -> str:
        return str(sp.sstr(sp.sympify(e).xreplace(plain_names), full_prec=False)).replace("**", "^")

    lines = ["model m()"]
    lines += [f"  {s}' = {text(r)};" for s, r in zip(names, equations.rates, strict=True)]
    at_once = {i: v for t, i, v in equations.events if t == 0}
    lines += [*(f"  {s} = 0;" for s in names), *(f"  {p} = 1;" for p in values)]
    for t in sorted({t for t, _, _ in equations.events if t > 0}):
        given = [(i, v) for when, i, v in equations.events if when == t]
        what = [f"{names[i]} = {names[i]} + {v!r}" if i < n else f"{values[i - n]} = {v!r}" for i, v in given]
        lines.append(f"  at (time >= {t!r}): {', '.join(what)};")
    antimony.clearPreviousLoads()
    if antimony.loadAntimonyString("\n".join([*lines, "end"])) < 0:
        raise RuntimeError(antimony.getLastError())
    roadrunner.Logger.setLevel(roadrunner.Logger.LOG_ERROR)
    runner = roadrunner.RoadRunner(antimony.getSBMLString("m"))
    runner.integrator.setValue("relative_tolerance", rtol)
    runner.integrator.setValue("absolute_tolerance", atol)
    runner.integrator.setValue("maximum_num_steps", STEPS)
    runner.timeCourseSelections = names
    ids = list(runner.model.getGlobalParameterIds())
    state_at, value_at = [ids.index(s) for s in names], [ids.index(p) for p in values]
    grid = [0.0, *equations.times.tolist()]

    def solve(sets: Array) -> Array:
        out = np.empty((len(sets), equations.times.size, n))
        for y, values, rows in zip(starts(equations, sets), sets, out, strict=True):
            p = values.copy()
            for i, v in at_once.items():
                if i < n:
                    y[i] += v
                else:
                    p[i - n] = v
            runner.reset()
            runner.model.setGlobalParameterValues(value_at, p.tolist())
            runner.model.setGlobalParameterValues(state_at, y.tolist())
            rows[:] = np.asarray(runner.simulate(times=grid))[1:]
        return out

    return solve


@contextmanager
def quiet() -> Iterator[None]:
    """Send what compiled code writes to the error stream nowhere."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


PEERS: dict[str, Callable[[Equations, float, float], Solver]] = {
    "CasADi CVODES": casadi_cvodes,
    "CasADi CVODES, as C": casadi_compiled,
    "numbalsoda": numbalsoda_lsoda,
    "libroadrunner": libroadrunner_cvode,
    "SciPy LSODA (solve_ivp)": scipy_solve_ivp,
    "SciPy LSODA (odeint)": scipy_odeint,
}
