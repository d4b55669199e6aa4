"""Give a regimen to a model and follow it: `simulate`, and `prepare` for whoever solves one problem many times.

Time is in hours from the first administration. Results come at the requested times, just after any dose at that time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .compiler.compiled import Compiled, compile_model
from .covariates import Covariate, Steps, bind
from .errors import SimulationError
from .expressions import TIME
from .inputs import InputCurve
from .model import Model
from .problem import (
    ATOL,
    EXACT,
    METHODS,
    ROSENBROCK,
    RTOL,
    Batch,
    Method,
    OfDose,
    OfTime,
    Problem,
    Solution,
    records_of,
)
from .regimen import Regimen
from .solve.status import Status
from .triggers import settled
from .units import dimension, factor

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "EXACT", "ROSENBROCK", "Batch", "Covariate", "InputCurve", "Method", "OfDose", "OfTime", "Problem", "Solution",
    "prepare", "records_of", "run_warnings", "simulate",
]  # fmt: skip


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


def simulate(
    model: Model,
    regimen: Regimen | str | None = None,
    times: ArrayLike | None = None,
    *,
    days: float | None = None,
    inputs: Mapping[str, Any] | None = None,
    covariates: Mapping[str, Covariate] | None = None,
    sensitivities: Sequence[str] = (),
    rtol: float = RTOL,
    atol: float = ATOL,
    method: Method = "auto",
) -> xr.Dataset:
    """Follow a model in time.

    Parameters
    ----------
    model : labelled or not
    regimen : a Regimen, or text such as ``"7.4 GBq every 8 wk x 4"``
    times : (m,) array, increasing, from 0 [h]; default 200 points over `days`
    days : length where `times` is not given; default until 10 days after the last dose [d]
    inputs : measured curves that drive the model, name -> (times [h], values)
    covariates : parameters that change in time, by name
    sensitivities : parameters to differentiate with respect to

    Returns
    -------
    xarray.Dataset
        One variable per observable over time, ``integral_<observable>`` (the time-integrated activity so far),
        and ``d_<observable>_d_<parameter>``; units in ``attrs["units"]``.

    Raises
    ------
    SimulationError
        The run cannot be set up, or the solver failed (the message says at what).
    """
    import xarray as xr

    plan = Regimen(regimen) if isinstance(regimen, str) else regimen
    if times is None:
        last = plan.end if plan else 0.0
        times = np.linspace(0.0, 24.0 * days if days is not None else last + 240.0, 200)
    problem = prepare(model, plan, times, inputs=inputs, covariates=covariates, rtol=rtol, atol=atol, method=method)
    model = problem.model
    names = list(problem.compiled.parameters)
    if unknown := [s for s in sensitivities if s not in names]:
        raise SimulationError(f"{model.who}: {', '.join(unknown)}: no such parameter; known: {', '.join(names)}")
    solution = problem.solve(directions=[names.index(s) for s in sensitivities])
    if solution.status != Status.OK:
        raise SimulationError(f"{model.who}: {solution.message}")
    data = xr.Dataset(coords={"time": ("time", problem.times, {"units": "h"})})
    for k, o in enumerate(model.observables.values()):
        scale = factor(o.unit)
        about = {"units": o.unit, "long_name": o.meaning or o.name}
        data[o.name] = ("time", solution.observed[k] / scale, about)
        data[f"integral_{o.name}"] = ("time", solution.integrals[k] / scale, {"units": f"{o.unit} h"})
        for j, s in enumerate(sensitivities):
            per = factor(model.parameters[s].unit)
            unit = f"({o.unit})/({model.parameters[s].unit})"
            tangent = solution.observed_tangent[j, k] * per / scale
            data[f"d_{o.name}_d_{s}"] = ("time", tangent, {"units": unit})
    states = [f"state_{c}" for c in model.compartments]
    for k, (name, c) in enumerate(zip(states, model.compartments.values(), strict=True)):
        data[name] = ("time", solution.states[k] / factor(c.unit), {"units": c.unit})
    data.attrs = {
        "model": model.name,
        "digest": model.digest,
        "nuclide": model.nuclide,
        "regimen": str(plan or ""),
        "given_MBq": plan.activity if plan else 0.0,
        "solver": solution.method,
        "warnings": "; ".join(run_warnings(problem)),
    }
    return data


def run_warnings(problem: Problem) -> list[str]:
    """What a reader of the result should know."""
    model = problem.model
    warnings = []
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
