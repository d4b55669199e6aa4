"""Give a regimen to a model and follow it, for one patient or for a table of them: `simulate`.

Time is in hours from the first administration. Results come at the requested times, just after any dose at that time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import populations
from .covariates import Covariate
from .errors import SimulationError
from .inputs import InputCurve
from .model import Model
from .preparation import prepare, run_warnings
from .problem import ATOL, RTOL, Method, Problem, Solution
from .regimen import Regimen
from .solve.status import Status
from .units import factor

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["InputCurve", "Problem", "Solution", "prepare", "simulate"]


def simulate(
    model: Model,
    regimen: Regimen | str | Sequence[Regimen | str] | None = None,
    times: ArrayLike | None = None,
    *,
    days: float | None = None,
    parameters: pd.DataFrame | None = None,
    observables: Sequence[str] | None = None,
    inputs: Mapping[str, Any] | None = None,
    covariates: Mapping[str, Covariate] | None = None,
    sensitivities: Sequence[str] = (),
    rtol: float | None = None,
    atol: float | None = None,
    method: Method = "auto",
    file: str | Path | None = None,
    threads: int | None = None,
) -> xr.Dataset:
    """Follow a model in time: one patient, or every patient of a table.

    Parameters
    ----------
    model : labelled or not
    regimen : a Regimen, or text such as ``"7.4 GBq every 8 wk x 4"``; with `parameters` also one for each patient
    times : (m,) array, increasing, from 0 [h]; default 200 points over `days`
    days : length where `times` is not given; default until 10 days after the last dose [d]
    parameters : one row a patient, one column a parameter, in the declared units; what it leaves out is the model's
    observables : with `parameters`: which observables, or ``integral_<observable>``; default all, no integral [text]
    inputs : measured curves that drive the model, name -> (times [h], values)
    covariates : parameters that change in time, by name
    sensitivities : parameters to differentiate with respect to; for one patient
    rtol, atol : tolerances of the engine, atol relative to the largest dose; by default 1e-8 and 1e-12 for one
        patient, 1e-6 and 1e-10 for a table
    method : "exact" (linear models), "rosenbrock" (any) or "auto"; the result says which ran [text]
    file : with `parameters`: NetCDF file, written as patients are done; the same call goes on where it stopped [path]
    threads : with `parameters`: default one a processor; results do not depend on it [1]

    Returns
    -------
    xarray.Dataset
        One variable per observable over time, ``integral_<observable>`` (the time-integrated activity so far),
        and ``d_<observable>_d_<parameter>``; units in ``attrs["units"]``. With `parameters`: what was asked for over
        patient and time, and ``status`` of each patient (0: solved).

    Raises
    ------
    SimulationError
        The run cannot be set up, or the solver failed (the message says at what). A patient of a table that fails has
        a status, and the others go on.
    """
    if times is None:
        plans = [Regimen(r) if isinstance(r, str) else r for r in _each(regimen)]
        last = max((p.end for p in plans), default=0.0)
        times = np.linspace(0.0, 24.0 * days if days is not None else last + 240.0, 200)
    if parameters is not None:
        if sensitivities:
            raise SimulationError(f"{model.who}: sensitivities are for one patient; leave out parameters=")
        return populations.simulate_population(
            model, regimen, parameters, times, observables=observables, inputs=inputs, covariates=covariates,
            file=file, threads=threads, method=method, rtol=populations.RTOL if rtol is None else rtol,
            atol=populations.ATOL if atol is None else atol,
        )  # fmt: skip
    given = {"observables": observables, "file": file, "threads": threads}
    if idle := [name for name, value in given.items() if value is not None]:
        raise SimulationError(
            f"{model.who}: {', '.join(idle)} only mean something with parameters=, a table of patients"
        )
    if regimen is not None and not isinstance(regimen, str | Regimen):
        raise SimulationError(f"{model.who}: several regimens need parameters=, a table with a row for each")
    return _one(
        model, regimen, times, inputs, covariates, sensitivities, RTOL if rtol is None else rtol,
        ATOL if atol is None else atol, method,
    )  # fmt: skip


def _each(regimen: Regimen | str | Sequence[Regimen | str] | None) -> Sequence[Regimen | str]:
    return () if regimen is None else (regimen,) if isinstance(regimen, str | Regimen) else regimen


def _one(
    model: Model,
    regimen: Regimen | str | None,
    times: ArrayLike,
    inputs: Mapping[str, Any] | None,
    covariates: Mapping[str, Covariate] | None,
    sensitivities: Sequence[str],
    rtol: float,
    atol: float,
    method: Method,
) -> xr.Dataset:
    """The run of one patient."""
    import xarray as xr

    plan = Regimen(regimen) if isinstance(regimen, str) else regimen
    problem = prepare(model, plan, times, inputs=inputs, covariates=covariates, rtol=rtol, atol=atol, method=method)
    model = problem.model
    names = list(problem.compiled.parameters)
    if unknown := [s for s in sensitivities if s not in names]:
        raise SimulationError(f"{model.who}: {', '.join(unknown)}: no such parameter; known: {', '.join(names)}")
    solution = problem.solve(directions=[names.index(s) for s in sensitivities])
    if solution.status != Status.OK:
        raise SimulationError(f"{model.who}: {solution.message}")
    data: dict[str, Any] = {}  # all at once: a Dataset that grows merges itself each time
    for k, o in enumerate(model.observables.values()):
        scale = factor(o.unit)
        about = {"units": o.unit, "long_name": o.meaning or o.name, "nuclide": o.nuclide or model.nuclide}
        data[o.name] = ("time", solution.observed[k] / scale, about)
        data[f"integral_{o.name}"] = ("time", solution.integrals[k] / scale, {"units": f"{o.unit} h"})
        for j, s in enumerate(sensitivities):
            per = factor(model.parameters[s].unit)
            unit = f"({o.unit})/({model.parameters[s].unit})"
            tangent = solution.observed_tangent[j, k] * per / scale
            data[f"d_{o.name}_d_{s}"] = ("time", tangent, {"units": unit})
    for k, (name, c) in enumerate(model.compartments.items()):
        data[f"state_{name}"] = ("time", solution.states[k] / factor(c.unit), {"units": c.unit})
    attrs = {
        "model": model.name,
        "digest": model.digest,
        "nuclide": model.nuclide,
        "regimen": str(plan or ""),
        "given_MBq": plan.activity if plan else 0.0,
        "solver": solution.method,
        "warnings": "; ".join(run_warnings(problem)),
    }
    return xr.Dataset(data, {"time": ("time", problem.times, {"units": "h"})}, attrs)
