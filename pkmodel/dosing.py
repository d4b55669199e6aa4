"""What each administration of a regimen puts where: activity and amount become doses of hot and of cold ligand, and
the names in a schedule become terms in the parameters of the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from .compiler.compiled import Compiled
from .compiler.derivative import derivative
from .errors import SimulationError, did_you_mean
from .expressions import symbol
from .model import Model
from .regimen import Administration, Regimen
from .units import dimension

Array = NDArray[np.float64]
ROUNDING = 1e-9  # relative: carrier-free ligand is given as amount = activity/molar activity


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """A number of the schedule: a constant, a parameter, or a formula of parameters, with its derivatives.

    `value` and each of `slopes` (number of the parameter, derivative by it) take parameters (k, N), give (N,) or one.
    """

    constant: float = 0.0
    value: Callable[[Array], Array] | None = None
    slopes: tuple[tuple[int, Callable[[Array], Array]], ...] = ()

    def of(self, p: Array) -> Array:
        """Its value for each patient, (N,), at parameters (k, N)."""
        patients = p.shape[1]
        if self.value is None:
            return np.full(patients, self.constant)
        return np.broadcast_to(np.asarray(self.value(p), dtype=float), (patients,))

    def along(self, p: Array, dp: Array) -> Array:
        """Derivative along directions, (nd,), at the parameters of one patient, (k, 1); dp is (nd, k)."""
        out = np.zeros(dp.shape[0])
        for k, slope in self.slopes:
            out += float(np.squeeze(slope(p))) * dp[:, k]
        return out

    @property
    def given(self) -> bool:
        """Whether it is anything but zero."""
        return self.value is not None or self.constant != 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Dose:
    """One administration in the terms of a compiled model.

    `parts` are (number of the route, dose in the unit of its states), hot first; of a constant infusion, the rate.
    """

    administration: Administration
    parts: tuple[tuple[int, float], ...]
    lag: Term
    fraction: Term
    duration: Term
    rate: Term

    @property
    def moves(self) -> bool:
        """Whether a time of it depends on a parameter."""
        return any(t.value is not None for t in (self.lag, self.duration, self.rate)) or (
            self.rate.given and self.fraction.value is not None
        )


def doses_of(model: Model, compiled: Compiled, regimen: Regimen) -> tuple[Dose, ...]:
    """What each administration puts where.

    Parameters
    ----------
    model : labelled or not
    compiled : its compiled form, for the numbers of the routes and parameters
    regimen : what is given

    Raises
    ------
    SimulationError
        The route or a named parameter is unknown or of the wrong unit, or the activity or amount that the model needs
        is not given.
    """
    if regimen.nuclide and model.nuclide and regimen.nuclide != model.nuclide:
        raise SimulationError(f"{model.who}: labelled with {model.nuclide}, but the regimen gives {regimen.nuclide}")
    return tuple(_dose(model, compiled, a) for a in regimen.administrations)


def _dose(model: Model, compiled: Compiled, a: Administration) -> Dose:
    zero = Term()
    if a.reset and a.activity is None and a.amount is None and a.mass is None:
        return Dose(a, (), zero, Term(1.0), zero, zero)
    first = next((r for r in model.administration if not r.endswith("_cold")), "")
    route = a.into or str(model.tracer.get("route", "")) or first
    targets = model.routes.get(route)
    if not targets:
        known = ", ".join(model.routes) or "none"
        hint = did_you_mean(route, model.routes)
        raise SimulationError(f"{model.who}: no way to give {a} into {route!r}{hint}; known: {known}")
    running = a
    if a.constant:
        if isinstance(a.rate, str):
            raise SimulationError(f"{model.who}: {a}: the rate of a constant infusion must be a number")
        running = a.giving(a.rate, a.unit)
    hot, cold = _hot_and_cold(model, running, next(iter(targets)))
    parts = [(compiled.routes.index(route), hot)]
    if cold is not None and f"{route}_cold" in model.routes:
        parts.append((compiled.routes.index(f"{route}_cold"), cold))
    unit = f"{a.unit}/h"
    own = model.timing.get(route, {})

    def said(value: float | str, what: str, wanted: str) -> Term:
        if value == 0.0 and what in own and not (what == "duration" and a.rate):
            return _formula(model, compiled, own[what])
        return _term(model, compiled, value, f"{model.who}: {a}: {what}", wanted)

    return Dose(
        administration=a,
        parts=tuple(parts),
        lag=said(a.lag, "lag", "h"),
        fraction=said(a.fraction, "fraction", "1"),
        duration=said(a.duration, "duration", "h"),
        rate=said(a.rate, "rate", unit),
    )


def _term(model: Model, compiled: Compiled, value: float | str, who: str, unit: str) -> Term:
    """A number, or a named parameter of the right unit."""
    if not isinstance(value, str):
        return Term(float(value))
    parameter = model.parameters.get(value)
    if parameter is None:
        raise SimulationError(
            f"{who} {value!r} is not a parameter{did_you_mean(value, model.parameters)}; known: "
            f"{', '.join(model.parameters)}"
        )
    if dimension(parameter.unit) != dimension(unit):
        raise SimulationError(f"{who} {value!r} is in {parameter.unit!r}; a parameter in {unit!r} is needed")
    return _formula(model, compiled, symbol(value))


def _formula(model: Model, compiled: Compiled, formula: sp.Expr) -> Term:
    """A formula of parameters, with its derivatives by those it uses."""
    names = compiled.parameters
    e = formula.xreplace(model.resolved)
    if e.is_Symbol:
        at = names.index(e.name)
        return Term(math.nan, lambda p: np.asarray(p[at]), ((at, lambda p: np.ones(1)),))
    if not e.free_symbols:
        return Term(float(e))
    arguments = [symbol(n) for n in names]

    def code(expression: sp.Expr) -> Callable[[Array], Array]:
        function = sp.lambdify(arguments, expression, "numpy")
        return lambda p: np.asarray(function(*p))

    used = sorted(names.index(s.name) for s in e.free_symbols)
    return Term(math.nan, code(e), tuple((k, code(derivative(e, arguments[k]))) for k in used))


def _molar_mass(model: Model, a: Administration) -> float:
    """Of a model in amounts that is given a mass [g/nmol]."""
    parameter = model.parameters.get("MW")
    if parameter is None or dimension(parameter.unit) != dimension("g/nmol") or not parameter.canonical > 0:
        raise SimulationError(
            f"{model.who}: its states are amounts, so {a} needs a parameter MW, its molar mass in 'g/mol', or "
            "an amount in nmol"
        )
    return parameter.canonical


def _hot_and_cold(model: Model, a: Administration, compartment: str) -> tuple[float, float | None]:
    """Dose of the (hot) ligand in the unit of its state, and of the cold where the model follows it [nmol]."""
    state = model.compartments[compartment]
    found = dict(dimension(state.unit).exponents)
    if "activity" in found:
        if a.activity is None:
            raise SimulationError(f"{model.who}: its states are activities, so {a} needs an activity [MBq]")
        return a.activity, None
    if "substance" not in found and "mass" in found:
        if a.mass is None:
            raise SimulationError(f"{model.who}: its states are masses, so {a} needs a mass, for example '10 mg once'")
        return a.mass, None
    if "substance" not in found:
        raise SimulationError(f"{model.who}: {compartment} is in {state.unit!r}, so neither nmol nor MBq can be given")
    if not model.nuclide:
        if a.mass is not None:
            return a.mass / _molar_mass(model, a), None
        if a.amount is None:
            raise SimulationError(f"{model.who}: not labelled, so {a} needs an amount, for example amount='10 nmol'")
        return a.amount, None
    if a.activity is None:
        raise SimulationError(f"{model.who}: labelled with {model.nuclide}, so {a} needs an activity; 0 MBq is one")
    hot = a.activity / model.parameters["mbq_per_nmol"].canonical
    if a.amount is not None and hot > a.amount * (1 + ROUNDING):
        raise SimulationError(
            f"{model.who}: {a}: {a.activity:g} MBq is {hot:.4g} nmol of {model.nuclide}, more than the "
            f"{a.amount:g} nmol given in all"
        )
    follows_cold = any(c.endswith("_cold") for c in model.compartments)
    if follows_cold and a.amount is None:
        raise SimulationError(f"{model.who}: follows cold ligand, so {a} needs an amount, e.g. amount='10 nmol'")
    return hot, None if a.amount is None else max(a.amount - hot, 0.0)
