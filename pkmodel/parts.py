"""What a model is made of: parameters, compartments, flows, observables and inputs, each a frozen record."""

from __future__ import annotations

import math
from dataclasses import dataclass

import sympy as sp

from .units import factor

STATUSES = ("published", "derived", "predicted", "assumed", "unverified", "fitted", "physical")
KINDS = ("ligand", "site")  # a site binds ligand and is not labelled: receptors as states
OUTSIDE = ""  # where a flow without "to" goes, and one without "from" comes from


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
    """What can be measured: a formula of compartments, inputs and parameters."""

    name: str
    expression: sp.Expr
    unit: str
    meaning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A measured curve that drives the model, e.g. the arterial plasma; `delay` names a parameter [time]."""

    name: str
    unit: str
    delay: str = ""
    meaning: str = ""
