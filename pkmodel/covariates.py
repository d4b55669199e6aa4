"""Parameters that change in time: a weight, a clearance measured again, a tumour volume.

A covariate is a parameter of the model with values at some times. Which value holds between two of them must be said:

* ``"next"``: the next value, back to the one before (next observation carried backward, as in NONMEM);
* ``"last"``: the last value, until the next (last observation carried forward, as mrgsolve's default);
* ``"linear"``: a straight line from value to value.

Before the first value it is the first, after the last the last. Steps are switches of a parameter, at which the solver
stops; a straight line makes the covariate an input of the model (`as_input`), which may make a linear model nonlinear.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .errors import SimulationError, did_you_mean
from .expressions import symbol
from .inputs import InputCurve
from .model import Input, Model
from .units import factor

Array = NDArray[np.float64]
RULES = ("next", "last", "linear")


@dataclass(frozen=True, slots=True, eq=False)
class Covariate:
    """Values of a parameter at some times.

    Parameters
    ----------
    t : (m,) array, increasing [h]
    value : (m,) array, or (N, m) for patients of their own [declared unit of the parameter]
    rule : one of `RULES` [text]

    Raises
    ------
    SimulationError
        The shapes differ, the times do not increase, a number is not finite, or the rule is unknown.
    """

    t: Array
    value: Array
    rule: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "t", np.atleast_1d(np.asarray(self.t, dtype=float)))
        object.__setattr__(self, "value", np.atleast_1d(np.asarray(self.value, dtype=float)))
        if self.rule not in RULES:
            raise SimulationError(f"a covariate's rule is {self.rule!r}; allowed: {', '.join(map(repr, RULES))}")
        if self.t.ndim != 1 or self.value.shape[-1:] != self.t.shape or self.value.ndim > 2 or not self.t.size:
            raise SimulationError(
                f"a covariate has {self.t.shape} times and {self.value.shape} values; give (m,) times and (m,) values, "
                "or (N, m) for N patients"
            )
        if not (np.all(np.isfinite(self.t)) and np.all(np.isfinite(self.value))):
            raise SimulationError("a covariate must be finite; found nan or infinity")
        if np.any(np.diff(self.t) <= 0):
            at = int(np.argmax(np.diff(self.t) <= 0))
            raise SimulationError(f"covariate times must increase; number {at + 2} at {self.t[at + 1]:g} h does not")

    @property
    def switches(self) -> tuple[Array, NDArray[np.intp]]:
        """Times at which a step covariate takes a new value [h], and the number of that value."""
        count = np.arange(1, self.t.size, dtype=np.intp)
        return (self.t[:-1] if self.rule == "next" else self.t[1:]), count

    def at(self, time: float) -> Array:
        """Value at a time [h], () or (N,)."""
        following = self.rule == "next"
        at = int(np.searchsorted(self.t, time, side="left" if following else "right")) - (not following)
        return np.asarray(self.value[..., min(max(at, 0), self.t.size - 1)])


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The step covariates of a run, in canonical units, by the number of their parameter."""

    by: Mapping[int, Covariate]

    def values(self, p: Array, time: float) -> Array:
        """Parameters (k, N) as they are at a time [h]."""
        if not self.by:
            return p
        now = p.copy()
        for k, covariate in self.by.items():
            now[k] = covariate.at(time)
        return now

    def table(self, p: Array, times: Array) -> Array:
        """Parameters of one patient at each time, (k, m), from p, (k,); p itself, (k, 1), without covariates."""
        if not self.by:
            return p[:, None]
        return np.stack([self.values(p[:, None], float(t))[:, 0] for t in times], axis=1)

    @property
    def times(self) -> Array:
        """Every time at which one of them switches [h]."""
        return np.unique(np.concatenate([np.zeros(0), *(c.switches[0] for c in self.by.values())]))


def bind(
    model: Model, covariates: Mapping[str, Covariate]
) -> tuple[Model, dict[str, Covariate], dict[str, InputCurve]]:
    """Steps in canonical units, and what runs in straight lines as inputs of a changed model.

    Parameters
    ----------
    model : whose parameters vary
    covariates : by name of the parameter

    Returns
    -------
    The model, the covariates that are steps, and the curves of those that have become inputs.

    Raises
    ------
    SimulationError
        A name is not a parameter with a value of its own, or a straight line is asked for where only a value will do.
    """
    steps: dict[str, Covariate] = {}
    curves: dict[str, InputCurve] = {}
    for name, covariate in covariates.items():
        parameter = model.parameters.get(name)
        if parameter is None or parameter.formula is not None:
            raise SimulationError(
                f"{model.who}: covariate {name!r} is not a parameter with a value"
                f"{did_you_mean(name, model.primary)}; known: {', '.join(model.primary)}"
            )
        if parameter.fixed:
            raise SimulationError(f"{model.who}: covariate {name} is a physical constant ({parameter.meaning})")
        value = covariate.value * factor(parameter.unit)
        if covariate.rule != "linear" or covariate.t.size == 1:
            steps[name] = replace(covariate, value=value, rule="last" if covariate.t.size == 1 else covariate.rule)
            continue
        if value.ndim > 1:
            raise SimulationError(f"{model.who}: covariate {name}: straight lines are for one patient at a time")
        model = as_input(model, name)
        curves[name] = _extended(covariate.t, value)
    return model, steps, curves


def _extended(t: Array, value: Array) -> InputCurve:
    """A curve that is level before its first and after its last value."""
    if t[0] > 0:
        t, value = np.concatenate([[0.0], t]), np.concatenate([value[:1], value])
    return InputCurve(np.concatenate([t, [1e300]]), np.concatenate([value, value[-1:]]))


def as_input(model: Model, name: str) -> Model:
    """The model with a parameter turned into an input; formulas that use it are written out where they are used.

    Raises
    ------
    SimulationError
        An initial state, a dose, a delay or another input needs its value.
    """
    moving = {symbol(name)}
    written: dict[str, object] = {}
    for formula, e in model.resolved.items():
        if e.free_symbols & moving:
            written[formula.name] = e
    swap = {symbol(n): e for n, e in written.items()}
    wanted = {symbol(name), *swap}
    fixed = {f"initial {c.name}": c.initial for c in model.compartments.values()}
    fixed |= {f"administration {r} into {c}": e for r, parts in model.administration.items() for c, e in parts.items()}
    fixed |= {f"{k} of administration {r}": e for r, times in model.timing.items() for k, e in times.items()}
    for what, e in fixed.items():
        if e.free_symbols & wanted:
            raise SimulationError(
                f"{model.who}: {what} depends on the covariate {name}, which changes all the time; use the rule 'next' "
                "or 'last'"
            )
    parameter = model.parameters[name]
    return replace(
        model,
        parameters={n: p for n, p in model.parameters.items() if n != name and n not in written},
        inputs={**model.inputs, name: Input(name=name, unit=parameter.unit, meaning=parameter.meaning)},
        flows=tuple(
            replace(f, rate=f.rate.xreplace(swap), carrier=None if f.carrier is None else f.carrier.xreplace(swap))
            for f in model.flows
        ),
        compartments={
            n: replace(c, receptor=None if c.receptor is None else c.receptor.xreplace(swap))
            for n, c in model.compartments.items()
        },
        observables={n: replace(o, expression=o.expression.xreplace(swap)) for n, o in model.observables.items()},
        derived={n: d for n, d in model.derived.items() if d.formula is None or not d.formula.free_symbols & wanted},
    )
