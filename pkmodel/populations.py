"""Many patients at once: one model, a table of parameters, one schedule for all or one for each.

Patients are solved in chunks, each chunk over all threads, and only what was asked for is kept. With `file`, each chunk
goes to disk when it is done: memory stays that of one chunk, and an interrupted run goes on where it stopped. A patient
that fails has a status, a message and NaN; the others are not touched. Nothing here is random, and the arithmetic of a
patient depends on no other, so results are the same bit for bit whatever the number of threads.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .compiler.codegen import CODE_VERSION
from .compiler.focused import focused
from .compiler.system import integral_of
from .covariates import Covariate, Steps
from .errors import SimulationError, did_you_mean
from .model import Model
from .part_store import PartStore
from .preparation import prepare, run_warnings
from .problem import EXACT, ROSENBROCK, Method, Problem, records_of
from .progress import progress
from .regimen import Regimen
from .solve.records import stack
from .solve.status import MESSAGES, Status
from .units import factor

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Array = NDArray[np.float64]
RTOL, ATOL = 1e-6, 1e-10
CHUNK_BYTES = 64 * 2**20  # of results held at a time
LARGEST_CHUNK = 4096  # patients; more does not run faster and shows no progress
IN_MEMORY_BYTES = 2**30  # beyond this a file is asked for
FEW = 100  # up to so many patients a linear model is propagated exactly, one after the other


@dataclass(frozen=True)
class Population:
    """What is to be solved; `solve` does it for consecutive patients."""

    model: Model
    regimens: tuple[Regimen | None, ...]  # one for all, or one for each patient
    times: Array  # (m,) [h]
    parameters: Array  # (N, k) canonical
    wanted: tuple[str, ...]  # names of the results
    inputs: Mapping[str, Any] | None
    covariates: Mapping[str, Covariate] | None
    rtol: float
    atol: float
    method: Method
    threads: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "problem", lru_cache(maxsize=256)(self.problem))

    def problem(self, regimen: Regimen | None) -> Problem:
        """The problem of everyone who gets this regimen."""
        return prepare(
            self.model,
            regimen,
            self.times,
            inputs=self.inputs,
            covariates=self.covariates,
            rtol=self.rtol,
            atol=self.atol,
            method=self.method,
        )

    @cached_property
    def first(self) -> Problem:
        """The problem of the first patient, for what is the same in all."""
        return self.problem(self.regimens[0])

    @cached_property
    def exact(self) -> bool:
        """Whether patients are propagated exactly: linear models of few patients, or as asked."""
        if self.method == "auto":
            return self.first.exact and len(self.parameters) <= FEW
        return self.method == "exact"

    @cached_property
    def alone(self) -> bool:
        """Whether patients are solved one after the other: exactly, or because the state itself triggers events."""
        return self.exact or bool(self.model.events)

    @cached_property
    def absolute(self) -> float:
        """Absolute tolerance of the engine, from the largest dose of anyone: the same in every chunk."""
        return max(self.problem(r)._absolute(self.first.defaults) for r in set(self.regimens))

    @cached_property
    def given(self) -> tuple[str, ...] | None:
        """Routes by which anyone is given anything; None where a steady state or a reset may set any compartment."""
        problems = [self.problem(r) for r in set(self.regimens)]
        if any(a.steady or a.reset for p in problems for a in p.regimen.administrations):
            return None
        routes = {route for p in problems for dose in p.doses for route, _ in dose.parts}
        return tuple(self.first.compiled.routes[r] for r in sorted(routes))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the engine is to report."""
        integrals = {f"integral_{o}": integral_of(o) for o in self.model.observables}
        return tuple(integrals.get(w, w) for w in self.wanted)

    @cached_property
    def scale(self) -> Array:
        """(results,) array, canonical value of one declared unit."""
        return np.array([factor(self.model.observables[w.removeprefix("integral_")].unit) for w in self.wanted])

    def solve(self, part: slice) -> dict[str, NDArray[Any]]:
        """Results of some patients by name, (patients, m) each, with their status and steps."""
        run = self._one_by_one if self.alone else self._together
        out, status, steps = run(part)
        with np.errstate(invalid="ignore"):
            values = {w: out[:, :, j] / self.scale[j] for j, w in enumerate(self.wanted)}
        return {**values, "status": status.astype(np.int8), "steps": steps.astype(np.int32)}

    def _of(self, patient: int) -> Regimen | None:
        return self.regimens[patient if len(self.regimens) > 1 else 0]

    def _rows(self, regimen: Regimen | None, patients: Sequence[int]) -> Problem:
        """The problem of some patients who get this regimen: of covariates, their own rows."""
        problem = self.problem(regimen)
        own = {k: c for k, c in problem.steps.by.items() if c.value.ndim == 2}
        if not own:
            return problem
        mine = {k: replace(c, value=c.value[list(patients)]) for k, c in own.items()}
        return replace(problem, steps=Steps({**problem.steps.by, **mine}))

    def _together(self, part: slice) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
        """By the engine, all patients with the same kind of infusion in one run."""
        patients = range(part.start, part.stop)
        groups: dict[tuple[str, ...], dict[Regimen | None, list[int]]] = {}
        for i in patients:
            regimen = self._of(i)
            groups.setdefault(self.problem(regimen).infused, {}).setdefault(regimen, []).append(i)
        out = np.empty((len(patients), self.times.size, len(self.wanted)))
        status, steps = np.zeros(len(patients), np.int64), np.zeros(len(patients), np.int64)
        for infused, by_regimen in groups.items():
            engine = focused(self.first.compiled, infused, self.names, self.given)
            rows = np.array([i for members in by_regimen.values() for i in members])
            given = [records_of(self._rows(r, m), self.parameters[m]) for r, m in by_regimen.items()]
            found = np.concatenate([g.status for g in given])
            run = engine.run(
                np.concatenate([g.parameters for g in given]), stack([g.records for g in given]), self.times, self.rtol,
                self.absolute, threads=self.threads,
            )  # fmt: skip
            at = rows - part.start
            out[at] = np.where((found != Status.OK)[:, None, None], np.nan, run.out)
            status[at] = np.where((found != Status.OK) & (run.status == Status.OK), found, run.status)
            steps[at] = run.steps
        return out, status, steps

    def _one_by_one(self, part: slice) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
        """One after the other, each as `Problem.solve` does it."""
        observables = list(self.model.observables)
        patients = range(part.start, part.stop)
        out = np.full((len(patients), self.times.size, len(self.wanted)), np.nan)
        status, steps = np.zeros(len(patients), np.int64), np.zeros(len(patients), np.int64)
        for row, i in enumerate(patients):
            if not np.isfinite(self.parameters[i]).all():
                status[row] = Status.BAD_INPUT
                continue
            try:
                solution = self._rows(self._of(i), [i]).solve(self.parameters[i])
            except SimulationError:  # a matrix with an infinity in it
                status[row] = Status.NOT_FINITE
                continue
            status[row], steps[row] = solution.status, solution.steps
            for j, w in enumerate(self.wanted):
                which = solution.integrals if w.startswith("integral_") else solution.observed
                out[row, :, j] = which[observables.index(w.removeprefix("integral_"))]
        return out, status, steps


def simulate_population(
    model: Model,
    regimen: Regimen | str | Sequence[Regimen | str] | None,
    parameters: pd.DataFrame,
    times: ArrayLike,
    *,
    observables: Sequence[str] | None = None,
    inputs: Mapping[str, Any] | None = None,
    covariates: Mapping[str, Covariate] | None = None,
    file: str | Path | None = None,
    threads: int | None = None,
    method: Method = "auto",
    rtol: float = RTOL,
    atol: float = ATOL,
) -> xr.Dataset:
    """Follow many patients in time.

    Parameters
    ----------
    model : labelled or not
    regimen : one for all patients, or one for each in the order of the table
    parameters : one row a patient, one column a parameter, in the declared units; what it leaves out is the model's
    times : (m,) array, increasing, from 0 [h]
    observables : names of observables, or ``integral_<observable>``; default every observable, no integral [text]
    inputs : measured curves that drive the model, the same for all, name -> (times [h], values)
    covariates : parameters that change in time, the same for all or a row for each, by name
    file : NetCDF file to write to; the same call after an interruption goes on where it stopped [path]
    threads : default one a processor; results do not depend on it [1]
    method : "auto" is exact propagation for a linear model of up to 100 patients, the engine otherwise [text]
    rtol, atol : tolerances of the engine; atol relative to the largest dose

    Returns
    -------
    xarray.Dataset
        Each result over patient and time, ``status`` (0: solved) and ``steps`` of each patient. Read from `file` as
        needed where one is given. ``attrs["failures"]`` names the first patients that failed, and why.

    Raises
    ------
    SimulationError
        A column is not a parameter with a value, an observable is unknown, there are more or fewer regimens than
        patients, the file belongs to another run, or the results would fill the memory and no file is given.
    """
    import pandas as pd

    if not isinstance(parameters, pd.DataFrame):
        raise SimulationError(
            f"parameters must be a pandas DataFrame, one row a patient; found {type(parameters).__name__}"
        )
    regimens = _regimens(model, regimen, len(parameters))
    grid = np.atleast_1d(np.asarray(times, dtype=float))
    # preparing the first finds what is wrong with the schedule; a covariate may have become an input of the model
    first = prepare(model, regimens[0], grid, inputs=inputs, covariates=covariates, rtol=rtol, atol=atol, method=method)
    run = Population(
        model=model,
        regimens=regimens,
        times=first.times,
        parameters=_table(first.model, parameters),
        wanted=_wanted(model, observables),
        inputs=inputs,
        covariates=covariates,
        rtol=rtol,
        atol=atol,
        method=method,
        threads=threads or _processors(),
    )
    n, m = len(parameters), first.times.size
    if short := [name for name, c in (covariates or {}).items() if c.value.ndim == 2 and len(c.value) != n]:
        raise SimulationError(f"{model.who}: covariate {short[0]} has not one row for each of the {n} patients")
    size = n * m * len(run.wanted) * 8
    labels = parameters.index.to_numpy()
    labels = labels.astype(np.int64) if labels.dtype.kind in "iu" else labels.astype(str)
    if file is None:
        if size > IN_MEMORY_BYTES:
            raise SimulationError(
                f"{model.who}: {n} patients x {m} times x {len(run.wanted)} results are {size / 2**30:.1f} GiB; give "
                "file='runs.nc' to write them as they come, or ask for fewer observables"
            )
        chunks = list(_chunks(run, labels, None))
        arrays = {name: np.concatenate([c[name] for c in chunks]) for name in chunks[0]}
        return _dataset(run, arrays, arrays["status"], labels)
    store = PartStore(Path(file), _identity(run, labels))
    if not store.finished():
        store.open()
        status = np.concatenate([part["status"] for part in _chunks(run, labels, store)])
        empty = {name: values[:0] for name, values in _shape(run, labels).items()}
        store.join(_dataset(run, empty, status, labels), "patient", len(_parts(run)))
    import xarray as xr

    return xr.open_dataset(Path(file), engine="h5netcdf")


def _processors() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _parts(run: Population) -> list[slice]:
    """Which patients are solved together."""
    n = len(run.parameters)
    size = max(1, min(LARGEST_CHUNK, CHUNK_BYTES // (run.times.size * len(run.wanted) * 8)))
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _chunks(run: Population, labels: NDArray[Any], store: PartStore | None) -> Iterator[dict[str, NDArray[Any]]]:
    """Results of each chunk in turn; of one that is on disk only the status is read again."""
    kept = 0
    with progress(f"{run.model.name}: patients", len(run.parameters)) as advance:
        try:
            for k, part in enumerate(_parts(run)):
                done = store.read(k) if store else None
                if done is None:
                    done = {"patient": labels[part], **run.solve(part)}
                    if store:
                        store.write(k, done)
                kept = part.stop
                advance(part.stop - part.start)
                yield done if store is None else {"status": done["status"]}
        except KeyboardInterrupt as stop:
            if store:
                stop.add_note(f"{kept} of {len(labels)} patients are kept; the same call goes on from there")
            raise


def _shape(run: Population, labels: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Arrays of the right kinds without contents."""
    values: dict[str, NDArray[Any]] = {w: np.empty((0, run.times.size)) for w in run.wanted}
    return {"patient": labels[:0], **values, "status": np.empty(0, np.int8), "steps": np.empty(0, np.int32)}


def _dataset(
    run: Population, arrays: Mapping[str, NDArray[Any]], status: NDArray[np.int8], labels: NDArray[Any]
) -> xr.Dataset:
    """Results with units, and what a reader must know."""
    import xarray as xr

    model = run.model
    data = xr.Dataset(coords={"time": ("time", run.times, {"units": "h"}), "patient": ("patient", arrays["patient"])})
    for name in run.wanted:
        o = model.observables[name.removeprefix("integral_")]
        unit = f"{o.unit} h" if name.startswith("integral_") else o.unit
        about = {"units": unit, "long_name": o.meaning or o.name, "nuclide": o.nuclide or model.nuclide}
        data[name] = (("patient", "time"), arrays[name], about)
    codes = ", ".join(f"{int(s)} {s.name.lower()}" for s in Status)
    data["status"] = ("patient", arrays["status"], {"long_name": "how the solve ended", "codes": codes})
    data["steps"] = ("patient", arrays["steps"], {"long_name": "accepted steps; 0 for exact propagation"})
    failed = np.flatnonzero(status)
    warnings = run_warnings(run.first)
    if len(failed):
        warnings.append(
            f"{len(failed)} of {len(labels)} patients failed; their results are nan, see status and failures"
        )
    data.attrs = {
        "model": model.name,
        "digest": model.digest,
        "nuclide": model.nuclide,
        "regimen": str(run.regimens[0] or "") if len(run.regimens) == 1 else "one for each patient",
        "solver": EXACT if run.exact else ROSENBROCK,
        "tolerance": "none" if run.exact else f"rtol {run.rtol:g}, atol {run.atol:g} of the largest dose",
        "failed": len(failed),
        "failures": "; ".join(f"patient {labels[i]}: {_why(run, int(i), Status(int(status[i])))}" for i in failed[:20]),
        "warnings": "; ".join(warnings),
    }
    return data


def _why(run: Population, i: int, status: Status) -> str:
    """Reason of a failure, naming the parameter where that is it."""
    names = run.first.compiled.parameters
    wrong = [f"{n} = {v}" for n, v in zip(names, run.parameters[i], strict=True) if not np.isfinite(v)]
    return f"{', '.join(wrong)} is not a finite number" if wrong else MESSAGES[status]


def _regimens(
    model: Model, regimen: Regimen | str | Sequence[Regimen | str] | None, n: int
) -> tuple[Regimen | None, ...]:
    """One regimen for all, or one for each; equal texts are read once."""
    if regimen is None or isinstance(regimen, str | Regimen):
        return (Regimen(regimen) if isinstance(regimen, str) else regimen,)
    if len(regimen) != n:
        raise SimulationError(
            f"{model.who}: {len(regimen)} regimens for {n} patients; give one for all or one for each"
        )
    read = lru_cache(maxsize=4096)(Regimen)
    return tuple(read(r) if isinstance(r, str) else r for r in regimen)


def _wanted(model: Model, observables: Sequence[str] | None) -> tuple[str, ...]:
    known = [*model.observables, *(f"integral_{o}" for o in model.observables)]
    for name in observables or ():
        if name not in known:
            raise SimulationError(
                f"{model.who}: no observable {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}"
            )
    wanted = tuple(dict.fromkeys(observables)) if observables is not None else tuple(model.observables)
    if not wanted:
        raise SimulationError(f"{model.who}: nothing to report; known: {', '.join(known)}")
    return wanted


def _table(model: Model, parameters: pd.DataFrame) -> Array:
    """Canonical parameters of every patient, (N, k), in the order of the model."""
    if not len(parameters):
        raise SimulationError(f"{model.who}: the table of parameters has no rows")
    columns = [str(c) for c in parameters.columns]
    if twice := {c for c in columns if columns.count(c) > 1}:
        raise SimulationError(f"{model.who}: {', '.join(sorted(twice))}: a parameter stands in two columns")
    for name in columns:
        if name in model.parameters and name not in model.primary:
            raise SimulationError(f"{model.who}: {name} is a formula; give what it is made of")
        if name not in model.primary:
            hint = did_you_mean(name, model.primary)
            raise SimulationError(
                f"{model.who}: column {name!r} is not a parameter{hint}; known: {', '.join(model.primary)}"
            )
    own = model.canonical_values({n: 0.0 for n in columns})  # only those without a column need a value
    out = np.empty((len(parameters), len(model.primary)))
    for j, name in enumerate(model.primary):
        if name not in columns:
            out[:, j] = own[name]
            continue
        try:
            values = parameters[name].to_numpy(dtype=float)
        except (TypeError, ValueError):
            raise SimulationError(f"{model.who}: column {name} holds something that is not a number") from None
        p = model.parameters[name]
        if (outside := (values < p.lower) | (values > p.upper)).any():
            row = int(np.argmax(outside))
            raise SimulationError(
                f"{model.who}: {name} of patient {parameters.index[row]} is {values[row]:g} {p.unit}; allowed: "
                f"{p.lower:g} to {p.upper:g}"
            )
        out[:, j] = values * factor(p.unit)
    return out


def _identity(run: Population, labels: NDArray[Any]) -> dict[str, str]:
    """What decides the results, so that a file is never continued by another run."""

    def sha(*parts: bytes) -> str:
        return hashlib.sha256(b"|".join(parts)).hexdigest()[:16]

    curves = [sha(c.t.tobytes(), c.value.tobytes()) for c in run.first.inputs.values()]
    moving = [
        sha(n.encode(), c.t.tobytes(), c.value.tobytes(), c.rule.encode()) for n, c in (run.covariates or {}).items()
    ]
    return {
        "model": run.model.digest[:16],
        "regimen": sha("\n".join(f"{r}" for r in run.regimens).encode()),
        "parameters": sha(run.parameters.tobytes(), "\n".join(map(str, labels)).encode()),
        "times": sha(run.times.tobytes()),
        "results": ", ".join(run.wanted),
        "inputs": ", ".join(curves),
        "covariates": ", ".join(moving),
        "solver": f"{EXACT if run.exact else ROSENBROCK}, rtol {run.rtol!r}, atol {run.atol!r}, code {CODE_VERSION}",
    }
