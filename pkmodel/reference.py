"""The reference numbers that model files carry (`[[check]]`), run and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .compiler.system import integral_of
from .errors import ModelError, SimulationError, did_you_mean
from .labelling import label
from .model import Model
from .regimen import Regimen
from .requirements import number
from .simulation import Problem, prepare
from .solve.linear import integral_to_infinity
from .solve.status import MESSAGES, Status
from .units import convert, dimension, factor, quantity

QUANTITIES = ("value", "integral", "integral to infinity", "parameter")
RTOL = 1e-6
_LONGEST = 1e9  # [h]; a model that has not emptied by then never does
_SETTLED = 1e-10  # relative change of an integral when the horizon is doubled


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One number of a model file beside what the model gives."""

    name: str
    expected: float
    got: float
    rtol: float
    atol: float
    unit: str
    source: str

    @property
    def ok(self) -> bool:
        """Whether the two agree within the tolerance."""
        return bool(abs(self.got - self.expected) <= self.atol + self.rtol * abs(self.expected))

    def __str__(self) -> str:
        mark = "ok  " if self.ok else "FAIL"
        return (
            f"{mark} {self.name}: expected {self.expected:.8g}, got {self.got:.8g} {self.unit} "
            f"(rtol {self.rtol:g}, atol {self.atol:g}); {self.source}"
        )


def run_checks(model: Model) -> list[Reference]:
    """Run every ``[[check]]`` of a model.

    Parameters
    ----------
    model : as loaded from its file (a label or a change of names drops the checks)

    Returns
    -------
    list of Reference
        One for each expected number, in the order of the file.

    Raises
    ------
    ModelError
        A check cannot be understood.
    SimulationError
        A check cannot be run.
    """
    return [reference for k, row in enumerate(model.checks, 1) for reference in _run(model, row, k)]


def _run(model: Model, row: Mapping[str, Any], number: int) -> list[Reference]:
    who = f"{model.who}: [[check]] {number}"
    what = row.get("quantity", "value")
    if what not in QUANTITIES:
        raise ModelError(f"{who}: quantity {what!r} is not known; allowed: {', '.join(QUANTITIES)}")
    model = model.replace(**row.get("parameters", {}))
    if what == "parameter":
        return _parameters(model, row, who)
    if "nuclide" in row:
        model = label(model, row["nuclide"], cold=row.get("cold", False))
    regimen = Regimen.nothing()
    if "regimen" in row:
        nuclide, amount, into = (row.get(k) for k in ("nuclide", "amount", "into"))
        regimen = Regimen(row["regimen"], nuclide=nuclide or "", amount=amount, into=into or "")
    hour = factor(row.get("input_time", "h"), who)
    inputs = {n: (np.array(k, float)[:, 0] * hour, np.array(k, float)[:, 1]) for n, k in row.get("inputs", {}).items()}
    expected: Mapping[str, float] = row["expect"]
    for name in expected:
        if name not in model.observables:
            known = ", ".join(model.observables)
            hint = did_you_mean(name, model.observables)
            raise ModelError(f"{who}: expect {name!r} is not an observable{hint}; known: {known}")
    if what == "integral to infinity":
        if inputs:
            raise ModelError(f"{who}: an input curve ends, so nothing can be integrated to infinity")
        at, values = "to infinity", integrals_to_infinity(model, regimen, tuple(expected))
    else:
        if "time" not in row:
            raise ModelError(f'{who}: needs a time, e.g. time = "24 h"')
        at = f"at {row['time']}"
        values = _at(prepare(model, regimen, [_hours(row["time"], who)], inputs=inputs), what)
    label_of = {"value": ""}.get(what, "integral of ")
    return [
        Reference(
            name=f"{model.name}: {label_of}{name} {at}",
            expected=float(number),
            got=values[name] / factor(model.observables[name].unit),
            rtol=float(row.get("rtol", 0.0 if "atol" in row else RTOL)),
            atol=float(row.get("atol", 0.0)),
            unit=model.observables[name].unit + (" h" if label_of else ""),
            source=str(row["source"]),
        )
        for name, number in expected.items()
    ]


def _parameters(model: Model, row: Mapping[str, Any], who: str) -> list[Reference]:
    """Values of formulas: the worked checks of a law."""
    known: dict[str, Any] = {}
    out = []
    for name, expected in row["expect"].items():
        if name not in model.parameters:
            raise ModelError(f"{who}: expect {name!r} is not a parameter{did_you_mean(name, model.parameters)}")
        got = number(name, model.parameters, known)
        if got is None:
            raise ModelError(f"{who}: {name} has no value; give what it is made of in parameters = {{ ... }}")
        unit = model.parameters[name].unit
        out.append(
            Reference(
                name=f"{model.name}: {name}",
                expected=float(expected),
                got=float(got) / factor(unit),
                rtol=float(row.get("rtol", 0.0 if "atol" in row else RTOL)),
                atol=float(row.get("atol", 0.0)),
                unit=unit,
                source=str(row["source"]),
            )
        )
    return out


def _hours(text: str, who: str) -> float:
    read = quantity(text, who)
    if read.dimension != dimension("h"):
        convert(1.0, text.split(maxsplit=1)[-1], "h", who)  # raises, with both dimensions
    return read.value


def _at(problem: Problem, what: str) -> dict[str, float]:
    """Observables, or their integrals, at the last time of a problem, in canonical units."""
    solution = problem.solve()
    if solution.status != Status.OK:
        raise SimulationError(f"{problem.model.who}: {solution.message}")
    rows = solution.observed if what == "value" else solution.integrals
    return dict(zip(problem.compiled.observables, rows[:, -1].tolist(), strict=True))


def integrals_to_infinity(model: Model, regimen: Regimen, names: tuple[str, ...]) -> dict[str, float]:
    """Integrals of observables from zero to infinity, in canonical units.

    Exact for a linear model; of a nonlinear one the horizon is doubled until the integrals stand still.

    Parameters
    ----------
    model : without inputs, labelled or not
    regimen : what is given
    names : observables

    Raises
    ------
    SimulationError
        An observable does not die out.
    """
    end = prepare(model, regimen, [0.0]).end
    problem = prepare(model, regimen, [end])
    if not problem.compiled.linear:
        horizon = max(end, 1.0) * 1000.0
        last = _at(prepare(model, regimen, [horizon]), "integral")
        while horizon < _LONGEST:
            horizon *= 2.0
            values = _at(prepare(model, regimen, [horizon]), "integral")
            if all(abs(values[n] - last[n]) <= _SETTLED * abs(values[n]) for n in names):
                return values
            last = values
        raise SimulationError(f"{model.who}: an integral still grows after {_LONGEST:g} h; something never leaves")
    c = problem.compiled
    a, _, constant = c.matrices(problem.defaults)
    solution = problem.solve()
    out = {}
    for name in names:
        row = c.states.index(integral_of(name))
        # what feeds the observable: a bladder that only fills is of no concern to the blood
        feeds = {j for j in range(c.compartments) if a[row, j] != 0.0}
        while more := {j for i in feeds for j in range(c.compartments) if a[i, j] != 0.0} - feeds:
            feeds |= more
        keep = sorted(feeds)
        tail = integral_to_infinity(a[np.ix_(keep, keep)], solution.states[keep, -1])
        if tail.status != Status.OK or np.any(constant[[*keep, row]] != 0.0):
            why = MESSAGES[tail.status] if tail.status != Status.OK else "it is made in the body for ever"
            raise SimulationError(f"{model.who}: no integral of {name} to infinity: {why}")
        out[name] = float(solution.integrals[c.observables.index(name), -1] + a[row, keep] @ tail.value)
    return out
