"""Parameter estimation problems in the PEtab format: an SBML model, conditions, measurements and parameters in tables.

Version 1 of the format (Schmiester et al. 2021, doi:10.1371/journal.pcbi.1008646). A measurement m of an observable y
with noise sigma contributes to the log-likelihood

    normal   -log(sigma sqrt(2 pi)) - (g(y) - g(m))^2/(2 sigma^2) + log g'(m)
    laplace  -log(2 sigma) - |g(y) - g(m)|/sigma + log g'(m)

where g is the observable's transformation: the identity, log or log10. Formulas are read by `pkmodel.expressions`,
which lets no code through.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sympy as sp
from numpy.typing import NDArray

from .compiler.autonomous import Autonomous, autonomous
from .compiler.engine import Engine
from .compiler.system import build_system
from .errors import DataError, SimulationError, did_you_mean
from .expressions import TIME, parse, symbol
from .model import Model, Parameter
from .sbml import Imported, import_sbml
from .solve.records import Kind, Records, records, stack
from .trigger_walk import Machine
from .triggers import triggered

type Floats = NDArray[np.float64]

RTOL, ATOL = 1e-8, 1e-10
_PREPARED = "preequilibrationConditionId"
_STEADY = 1e-9  # relative change by which a steady state is known
_TRANSFORMATIONS: dict[str, tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]] = {  # g and log g'
    "lin": (lambda x: x, np.zeros_like),
    "log": (np.log, lambda m: -np.log(m)),
    "log10": (np.log10, lambda m: -np.log(m * math.log(10.0))),
}
_NOISE: dict[str, Callable[[Floats, Floats], Floats]] = {  # of (difference, sigma)
    "normal": lambda d, s: -0.5 * (d / s) ** 2 - np.log(s) - 0.5 * math.log(2 * math.pi),
    "laplace": lambda d, s: -np.abs(d) / s - np.log(2 * s),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PetabObservable:
    """What is measured: formula and noise in terms of the model, parameters and placeholders."""

    name: str
    formula: sp.Expr
    noise: sp.Expr
    transformation: str
    distribution: str


@dataclass(frozen=True, kw_only=True, eq=False)
class PetabProblem:
    """A model with measurements under conditions, and the parameters to be estimated from them.

    Parameters
    ----------
    name : str
    model : Model, numbers and time as in the SBML file
    parameters : table of parameters, by id
    conditions : table of conditions, by id
    measurements : table of measurements
    observables : by id
    """

    name: str
    model: Model
    parameters: pd.DataFrame
    conditions: pd.DataFrame
    measurements: pd.DataFrame
    observables: Mapping[str, PetabObservable]
    set_by: Mapping[str, str] = field(repr=False)  # id of the file -> primary parameter of the model that holds it

    @cached_property
    def nominal(self) -> dict[str, float]:
        """Nominal value of every parameter of the table, on the linear scale."""
        return {str(n): float(v) for n, v in self.parameters["nominalValue"].items()}

    @property
    def estimated(self) -> tuple[str, ...]:
        """Parameters to be estimated."""
        return tuple(str(n) for n, e in self.parameters["estimate"].items() if int(e))

    def log_likelihood(self, parameters: Mapping[str, float] | None = None) -> float:
        """Log-likelihood of all measurements.

        Parameters
        ----------
        parameters : values on the linear scale that differ from the nominal ones

        Raises
        ------
        DataError
            A parameter is not in the table.
        SimulationError
            A condition could not be simulated; the message says which.
        """
        table = self.simulate(parameters)
        total = 0.0
        for name, rows in table.groupby("observableId"):
            o = self.observables[str(name)]
            g, log_slope = _TRANSFORMATIONS[o.transformation]
            m, y = rows["measurement"].to_numpy(float), rows["simulation"].to_numpy(float)
            terms = _NOISE[o.distribution](g(y) - g(m), rows["noise"].to_numpy(float)) + log_slope(m)
            total += float(np.sum(terms))
        return total

    def simulate(self, parameters: Mapping[str, float] | None = None) -> pd.DataFrame:
        """The table of measurements with two more columns: `simulation` and `noise` (its standard deviation).

        Parameters
        ----------
        parameters : values on the linear scale that differ from the nominal ones
        """
        values = dict(self.nominal)
        for name, v in (parameters or {}).items():
            if name not in values:
                raise DataError(f"{self.name}: no parameter {name!r}{did_you_mean(name, values)} in the table")
            values[name] = float(v)
        table = self.measurements.copy()
        table["simulation"], table["noise"] = np.nan, np.nan
        keys = [table[_PREPARED].fillna("").astype(str), table["simulationConditionId"].astype(str)]
        groups = [(str(k[0]), str(k[1]), rows) for k, rows in table.groupby(keys, sort=False)]
        runs = self._run([(a, b, np.unique(rows["time"].to_numpy(float))) for a, b, rows in groups], values)
        for (_, condition, rows), (times, states) in zip(groups, runs, strict=True):
            known = self._known(condition, values)
            at = np.searchsorted(times, rows["time"].to_numpy(float))
            for observable, part in rows.groupby("observableId"):
                o = self.observables[str(observable)]
                here = at[rows.index.get_indexer(part.index)]
                for column, formula in (("simulation", o.formula), ("noise", o.noise)):
                    table.loc[part.index, column] = self._evaluate(formula, o, part, known, values, states[here])
        return table

    # One condition after the other

    @cached_property
    def _system(self) -> Autonomous:
        plain = replace(self.model, observables={})
        return autonomous(build_system(plain), report=tuple(self.model.compartments), states=True)

    @cached_property
    def _engine(self) -> Engine:
        return Engine(self._system, f"petab {self.model.digest}")

    @cached_property
    def _machine(self) -> Machine:
        return Machine(triggered(self._system, self.model))

    def _known(self, condition: str, values: Mapping[str, float]) -> dict[str, float]:
        """Primary parameters of the model under a condition."""
        known = self.model.canonical_values()
        known |= {self.set_by[n]: v for n, v in values.items() if n in self.set_by}
        if condition:
            for id, entry in self.conditions.loc[condition].items():
                if id != "conditionName" and not pd.isna(entry):
                    known[self.set_by[str(id)]] = self._number(entry, values, f"condition {condition}, {id}")
        return known

    def _number(self, entry: Any, values: Mapping[str, float], who: str) -> float:
        """A number of a table, or the value of the parameter that it names."""
        try:
            return float(entry)
        except ValueError:
            pass
        if entry in values:
            return values[entry]
        if entry in self.set_by:
            return self.model.canonical_values()[self.set_by[entry]]
        raise DataError(
            f"{self.name}: {who}: {entry!r} is neither a number nor a parameter{did_you_mean(entry, values)}"
        )

    def _run(
        self, wanted: Sequence[tuple[str, str, Floats]], values: Mapping[str, float]
    ) -> list[tuple[Floats, Floats]]:
        """(times, states (m, n)) of each (preparation, condition, times)."""
        prepared = {a: self._steady(a, values) for a, _, _ in wanted if a}
        P, rows, finite = [], [], []
        for before, condition, times in wanted:
            known = self._known(condition, values)
            P.append([known[n] for n in self.model.primary])
            rows.append(self._start(prepared[before], condition) if before else records([]))
            times = times[np.isfinite(times)]
            finite.append(times if times.size else np.zeros(1))
        if self.model.events:
            out = [self._followed(p, r, t) for p, r, t in zip(P, rows, finite, strict=True)]
        else:
            out = self._solved(np.array(P), rows, finite)
        return [
            (times, np.vstack([x, self._steady(c, values, b)]) if np.isinf(times).any() else x)
            for x, (b, c, times) in zip(out, wanted, strict=True)
        ]

    def _solved(self, P: Floats, rows: list[Records], times: list[Floats]) -> list[Floats]:
        longest = max(t.size for t in times)
        grid = np.array([np.pad(t, (0, longest - t.size), constant_values=np.inf) for t in times])
        run = self._engine.run(P, stack(rows), grid, RTOL, ATOL)
        if len(run.failed):
            raise SimulationError(f"{self.name}: {run.message(int(run.failed[0]))}")
        return [x[: t.size] for x, t in zip(run.out, times, strict=True)]

    def _followed(self, p: Sequence[float], rows: Records, times: Floats) -> Floats:
        run = self._machine.run(np.array(p), rows, times, RTOL, ATOL)
        if run.status:
            raise SimulationError(f"{self.name}: {run.message}")
        return run.out

    def _start(self, states: Floats, condition: str) -> Records:
        """Begin at these states, but where the condition sets its own."""
        own = {self.set_by.get(str(id), "") for id, v in self.conditions.loc[condition].items() if not pd.isna(v)}
        names = list(self.model.compartments)
        kept = [
            i
            for i, n in enumerate(names)
            if not {s.name for s in self.model.compartments[n].initial.free_symbols} & own
        ]
        return records([(0.0, Kind.SET_STATE, i, float(states[i])) for i in kept])

    def _steady(self, condition: str, values: Mapping[str, float], before: str = "") -> Floats:
        """States after a time so long that ten times as much changes nothing."""
        known = self._known(condition, values)
        p = np.array([[known[n] for n in self.model.primary]])
        start = self._start(self._steady(before, values), condition) if before else records([])
        times = 10.0 ** np.arange(0, 13)
        run = self._engine.run(p, start, times, RTOL, ATOL)
        x = run.out[0]
        for early, late in pairwise(x):
            if np.isfinite(late).all() and np.allclose(early, late, rtol=_STEADY, atol=ATOL):
                return np.asarray(late)
        raise SimulationError(f"{self.name}: condition {condition} reaches no steady state until t = {times[-1]:g}")

    def _evaluate(
        self, formula: sp.Expr, o: PetabObservable, rows: pd.DataFrame, known: Mapping[str, float],
        values: Mapping[str, float], states: Floats,
    ) -> Floats:  # fmt: skip
        """A formula for some measurements of one observable."""
        columns: dict[str, Any] = {**values, **known, TIME: rows["time"].to_numpy(float)}
        columns |= {n: states[:, i] for i, n in enumerate(self.model.compartments)}
        columns |= {s.name: s_value for s, s_value in self._formulas(known).items()}
        for kind in ("observable", "noise"):
            given = rows.get(f"{kind}Parameters")
            entries = [] if given is None else [_split(e) for e in given]
            for k in range(max(map(len, entries), default=0)):
                who = f"{kind}Parameters of {o.name}"
                columns[f"{kind}Parameter{k + 1}_{o.name}"] = np.array(
                    [self._number(e[k], values, who) if k < len(e) else math.nan for e in entries]
                )
        names = sorted(s.name for s in formula.free_symbols)
        if missing := [n for n in names if n not in columns]:
            raise DataError(f"{self.name}: observable {o.name}: {', '.join(missing)} is given nowhere")
        function = sp.lambdify([symbol(n) for n in names], formula, modules="numpy")
        return np.broadcast_to(np.asarray(function(*(columns[n] for n in names)), dtype=float), len(rows))

    def _formulas(self, known: Mapping[str, float]) -> dict[sp.Symbol, float]:
        """Parameters of the model that are formulas, as numbers."""
        numbers = {symbol(n): v for n, v in known.items()}
        return {s: float(e.xreplace(numbers)) for s, e in self.model.resolved.items()}


def read_petab(path: str | Path) -> PetabProblem:
    """Read a problem from its YAML file.

    Parameters
    ----------
    path : the file that names the tables and the SBML model

    Returns
    -------
    PetabProblem

    Raises
    ------
    DataError
        A file or column is missing, an id is not known, or a feature of the format is not supported.
    ModelError
        The SBML model cannot be read.
    """
    try:
        import yaml
    except ImportError:
        raise DataError("PEtab needs PyYAML; install it with: pip install 'pkmodel[petab]'") from None
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; give the YAML file of a PEtab problem")
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML: {error}") from None
    if not isinstance(told, dict) or str(told.get("format_version", "")) not in ("1", "1.0.0"):
        raise DataError(
            f"{path}: not a PEtab problem of version 1; found format_version {told.get('format_version')!r}"
        )
    if len(told.get("problems", ())) != 1:
        raise DataError(f"{path}: {len(told.get('problems', ()))} problems in one file; one is supported")
    (problem,) = told["problems"]

    def table(names: str | Sequence[str], *columns: str) -> pd.DataFrame:
        names = [names] if isinstance(names, str) else names
        parts = []
        for name in names:
            try:
                parts.append(pd.read_csv(path.parent / name, sep="\t", comment=None))
            except (OSError, ValueError) as error:
                raise DataError(f"{path.parent / name}: cannot be read: {error}") from None
            if missing := [c for c in columns if c not in parts[-1]]:
                raise DataError(
                    f"{path.parent / name}: no column {', '.join(missing)}; found {', '.join(map(str, parts[-1]))}"
                )
        return pd.concat(parts, ignore_index=True)

    if len(problem["sbml_files"]) != 1:
        raise DataError(f"{path}: {len(problem['sbml_files'])} models; one is supported")
    read = import_sbml(path.parent / problem["sbml_files"][0], units="none")
    parameters = table(told["parameter_file"], "parameterId", "nominalValue", "estimate").set_index("parameterId")
    conditions = table(problem["condition_files"], "conditionId").set_index("conditionId")
    measured = table(problem["measurement_files"], "observableId", "simulationConditionId", "measurement", "time")
    if _PREPARED not in measured:
        measured[_PREPARED] = ""
    observed = table(problem["observable_files"], "observableId", "observableFormula", "noiseFormula")
    model, set_by = _settable(read, [str(c) for c in conditions.columns if c != "conditionName"], str(path))
    observables = {
        str(row["observableId"]): _observable(row, read, parameters.index, str(path)) for _, row in observed.iterrows()
    }
    for column, known in (("observableId", observables), ("simulationConditionId", set(map(str, conditions.index)))):
        if unknown := sorted(set(measured[column].astype(str)) - set(known)):
            raise DataError(f"{path}: {column} {', '.join(unknown)} of the measurements is not defined")
    return PetabProblem(
        name=path.stem,
        model=model,
        parameters=parameters,
        conditions=conditions,
        measurements=measured,
        observables=observables,
        set_by=set_by,
    )


def _settable(read: Imported, ids: Sequence[str], who: str) -> tuple[Model, dict[str, str]]:
    """The model, with a parameter for the initial value of whatever a condition sets."""
    model, set_by = read.model, dict(read.starts)
    for id in ids:
        if id in set_by:
            continue
        if id not in read.values:
            raise DataError(
                f"{who}: a condition sets {id!r}, which the model does not have{did_you_mean(id, read.values)}"
            )
        value = read.values[id]
        states = [s.name for s in value.free_symbols if s.name in model.compartments]
        if len(states) != 1:
            raise DataError(f"{who}: a condition sets {id!r}, which is a formula in the model")
        name = f"{states[0]}_start"
        # value = state * factor: the state begins at what is given, divided by the factor
        factor = value / symbol(states[0])
        parameters = {**model.parameters, name: Parameter(name=name, unit="1", value=0.0)}
        changed = replace(model.compartments[states[0]], initial=symbol(name) / factor)
        model = replace(model, parameters=parameters, compartments={**model.compartments, states[0]: changed})
        set_by[id] = name
    return model, set_by


def _observable(row: pd.Series[Any], read: Imported, parameters: pd.Index[Any], who: str) -> PetabObservable:
    """One row of the table of observables."""
    name = str(row["observableId"])
    placeholders = re.findall(
        r"\b(?:observable|noise)Parameter\d+_\w+", f"{row['observableFormula']} {row['noiseFormula']}"
    )
    known = [*read.values, *map(str, parameters), *placeholders, "time"]

    def formula(column: str) -> sp.Expr:
        text = str(row[column]).replace("^", "**")
        read_in = parse(text, known, f"{who}: {column} of {name}")
        return read_in.xreplace({symbol(n): v for n, v in read.values.items()} | {symbol("time"): symbol(TIME)})

    def choice(column: str, default: str, allowed: Mapping[str, Any]) -> str:
        given = row.get(column)
        found = default if given is None or pd.isna(given) else str(given)
        if found not in allowed:
            raise DataError(f"{who}: {column} of {name} is {found!r}; allowed: {', '.join(allowed)}")
        return found

    return PetabObservable(
        name=name,
        formula=formula("observableFormula"),
        noise=formula("noiseFormula"),
        transformation=choice("observableTransformation", "lin", _TRANSFORMATIONS),
        distribution=choice("noiseDistribution", "normal", _NOISE),
    )


def _split(entry: Any) -> list[str]:
    """Numbers or names of one cell, separated by semicolons."""
    return [] if pd.isna(entry) else [e.strip() for e in str(entry).split(";") if e.strip()]
