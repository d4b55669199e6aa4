"""Bind a model to doses, inputs, covariates and output times: `prepare`, and what a reader of the run should know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .compiler.compiled import Compiled, compile_model
from .covariates import Covariate, Steps, bind
from .errors import SimulationError
from .expressions import TIME
from .inputs import InputCurve
from .model import Model
from .problem import ATOL, METHODS, RTOL, Method, Problem
from .regimen import Regimen
from .triggers import settled
from .units import dimension, factor


def prepare(
    model: Model,
    regimen: Regimen | str | None,
    times: ArrayLike,
    *,
    inputs: Mapping[str, Any] | None = None,
    covariates: Mapping[str, Covariate] | None = None,
    rtol: float = RTOL,
    atol: float = ATOL,
    method: Method = "auto",
) -> Problem:
    """Bind a model to doses, inputs and output times.

    Parameters
    ----------
    model : labelled or not
    regimen : what is given, or None for a model driven by inputs alone
    times : (m,) array, increasing, from 0 [h]
    inputs : name -> InputCurve, or (times [h], values in the declared unit)
    covariates : parameters that change in time, by name
    rtol, atol : tolerances of the solver of nonlinear models; atol relative to the largest dose
    method : "exact" (linear models), "rosenbrock" (any), or "auto": exact where it can be [text]

    Raises
    ------
    SimulationError
        Times are not increasing or negative, an input is missing or ends too early, a covariate is not a parameter, or
        the model has no steady state of the kind asked for.
    """
    if method not in METHODS:
        raise SimulationError(f"method {method!r} is not known; allowed: {', '.join(METHODS)}")
    model, stepwise, lines = bind(settled(model), covariates or {})
    inputs = {**(inputs or {}), **lines}
    grid = np.atleast_1d(np.asarray(times, dtype=float))
    if grid.ndim != 1 or grid.size == 0 or not np.all(np.isfinite(grid)):
        raise SimulationError("times must be a list of finite numbers [h]")
    if grid[0] < 0 or np.any(np.diff(grid) <= 0):
        raise SimulationError("times must increase and not be negative [h from the first administration]")
    plan = Regimen(regimen) if isinstance(regimen, str) else regimen
    curves: dict[str, InputCurve] = {}
    for name, declared in model.inputs.items():
        given = (inputs or {}).get(name)
        if given is None:
            raise SimulationError(
                f"{model.who}: input {name} [{declared.unit}] is not given; pass inputs={{{name!r}: (times, values)}}"
            )
        if not isinstance(given, InputCurve):
            t, value = given
            scale = factor(declared.unit)
            given = InputCurve(np.asarray(t, dtype=float), np.asarray(value, dtype=float) * scale)
        late = model.parameters[declared.delay].canonical if declared.delay else 0.0
        if given.t[-1] + max(late, 0.0) < grid[-1] - 1e-9:
            raise SimulationError(
                f"{model.who}: input {name} ends at {given.t[-1]:g} h, but results are asked for until {grid[-1]:g} h; "
                "measure or extrapolate it further"
            )
        curves[name] = given
    if unknown := set(inputs or {}) - set(model.inputs):
        raise SimulationError(
            f"{model.who}: {', '.join(sorted(unknown))}: no such input; known: {', '.join(model.inputs) or 'none'}"
        )
    compiled = compile_model(model)
    if method == "exact" and (model.events or not compiled.linear):
        what = "events happen" if model.events else "not linear"
        raise SimulationError(f"{model.who}: {what}, so not solved exactly; use method='rosenbrock' or 'auto'")
    _check_steady(model, compiled, plan, stepwise)
    steps = Steps({compiled.parameters.index(n): c for n, c in stepwise.items()})
    return Problem(model, compiled, plan or Regimen.nothing(), grid, curves, rtol, atol, method, steps)


def _check_steady(model: Model, compiled: Compiled, plan: Regimen | None, covariates: Mapping[str, Covariate]) -> None:
    """Refuse a steady state of what never repeats itself."""
    steady = [a for a in plan.administrations if a.steady] if plan else []
    if not steady:
        return
    timed = any(TIME in {s.name for s in f.rate.free_symbols} for f in model.flows)
    if model.inputs or timed or model.events:
        what = "an input" if model.inputs else "a rate that depends on time" if timed else "events"
        raise SimulationError(f"{model.who}: {steady[0]}: with {what} no day is like the last; write out the doses")
    if not compiled.linear and any(a.steady == "add" for a in steady):
        raise SimulationError(
            f"{model.who}: a steady state is added to what is there, which holds for linear models only; use "
            "'at steady state'"
        )


def run_warnings(problem: Problem) -> list[str]:
    """What a reader of the result should know."""
    model = problem.model
    warnings = [model.unverified] if model.unverified else []
    substance = any(dict(dimension(c.unit).exponents).get("substance") for c in model.compartments.values())
    if model.nuclide and not problem.compiled.linear and not any(c.endswith("_cold") for c in model.compartments):
        what = "cold ligand is not followed" if substance else "decayed ligand frees its place"
        warnings.append(f"{model.name} saturates but is labelled without cold=True: {what}")
    for name, curve in problem.inputs.items():
        if curve.t[0] > 0 and curve.value[0] != 0:
            warnings.append(f"input {name} begins at {curve.t[0]:g} h above zero: taken as zero until then")
    last = float(problem.times[-1])
    if late := [a for a in problem.regimen.administrations if a.time > last]:
        warnings.append(
            f"{len(late)} administrations after the last time, {last:g} h, change nothing; first: {late[0]}"
        )
    return warnings
