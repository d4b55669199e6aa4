"""What a model is made of: parameters, compartments, flows, observables and inputs, each a frozen record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import sympy as sp
from sympy.logic.boolalg import Boolean

from .units import factor

STATUSES = ("published", "derived", "predicted", "assumed", "unverified", "fitted", "physical")
TIMING = ("lag", "duration")  # what a route may say of when its doses enter, besides where
KINDS = ("ligand", "site")  # a site binds ligand and is not labelled: receptors as states
OUTSIDE = ""  # where a flow without "to" goes, and one without "from" comes from
VOIDED = ("urine", "faeces")  # regions that have left the body
WHOLE_BODY = "whole_body"  # the region that is the sum of all that is not voided


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A number of the model with its unit, or a formula of other parameters.

    `cv` is the between-subject spread as a coefficient of variation of a log-normal; `fixed` marks what a fit
    must never free (physical constants).
    """

    name: str
    unit: str
    value: float | None = None
    formula: sp.Expr | None = None
    lower: float = -math.inf
    upper: float = math.inf
    cv: float | None = None
    meaning: str = ""
    source: str = ""
    status: str = "assumed"
    fixed: bool = False

    @property
    def canonical(self) -> float:
        """Value in canonical units (nan for a formula)."""
        return math.nan if self.value is None else self.value * factor(self.unit, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compartment:
    """An amount or concentration that changes in time."""

    name: str
    unit: str
    region: str = ""
    initial: sp.Expr = sp.Integer(0)
    kind: str = "ligand"
    receptor: sp.Expr | None = None  # the capacity that hot and cold ligand share
    meaning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A rate from one compartment to another; no source: made, no target: leaves the body.

    `carrier` is the volume flow (blood, lymph) that carries it, where there is one; `decay` marks what `label` adds.
    """

    source: str
    target: str
    rate: sp.Expr
    name: str = ""
    carrier: sp.Expr | None = None
    decay: bool = False

    def __str__(self) -> str:
        return self.name or f"{self.source or '(made)'} -> {self.target or '(out)'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observable:
    """What can be measured: a formula of compartments, inputs and parameters.

    `nuclide` is set by `label` where it is the activity of a daughter and not of the model's own nuclide.
    """

    name: str
    expression: sp.Expr
    unit: str
    meaning: str = ""
    nuclide: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A measured curve that drives the model, e.g. the arterial plasma; `delay` names a parameter [time]."""

    name: str
    unit: str
    delay: str = ""
    meaning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A condition that the values of the parameters must meet, and why."""

    condition: Boolean
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happens when a condition becomes true: after `delay`, numbers are set.

    The words are those of SBML Level 3. `initial_value` is what the trigger counts as before time zero (true: an event
    whose trigger holds from the start does not happen then). An event that is not `persistent` is called off when its
    trigger becomes false before the delay is over. `use_trigger_values` says whether the new values are computed when
    the trigger becomes true or when they are set. Of events at one time, the highest `priority` goes first.
    """

    trigger: Boolean
    assignments: Mapping[str, sp.Expr]  # compartment or parameter -> its new value, canonical
    name: str = ""
    delay: sp.Expr = sp.Integer(0)  # [h]
    priority: sp.Expr | None = None
    persistent: bool = True
    initial_value: bool = True
    use_trigger_values: bool = True
    line: int = field(default=0, compare=False)  # of the file it came from

    def __str__(self) -> str:
        return f"event {self.name}" if self.name else f"event when {self.trigger}"
