"""Which parameters vary between subjects and occasions, how they go together, and what covariates do to them.

On the scale of the fit (logarithm of a positive parameter, logit of a bounded one) a parameter of subject i on occasion
c is::

    x = theta + covariate effects + eta_i + kappa_ic,   eta ~ N(0, omega), kappa ~ N(0, occasion_omega)

(Lavielle 2014, Mixed Effects Models for the Population Approach, doi:10.1201/b17203).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import FitError, did_you_mean
from ..population_parts import CovariateEffect
from ..slots import Slot

Array = NDArray[np.float64]
START = 0.3  # SD that a random effect begins with on the scale of the fit, unless one is given
FLOW_POWER, VOLUME_POWER = 0.75, 1.0  # West 1997, doi:10.1126/science.276.5309.122; see `allometric`


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation(CovariateEffect):
    """A covariate's effect in a population that is to be estimated; its `coefficient` is the start where it is free."""

    fixed: bool = False


def relation(
    parameter: str,
    covariate: str,
    kind: str = "power",
    *,
    coefficient: float | None = None,
    reference: float | None = None,
    unit: str = "1",
    level: str = "",
    fixed: bool = False,
) -> Relation:
    """How a covariate moves a parameter.

    Parameters
    ----------
    parameter : which one; ``k_washout`` means that of every region [text]
    covariate : its name in the data [text]
    kind : "power" ``(c/reference)^coefficient``, "exponential" ``exp(coefficient (c - reference))``, "proportional"
        ``1 + coefficient (c - reference)``, "category" ``exp(coefficient)`` where c is `level` [text]
    coefficient : start, or the value where `fixed`; default 0
    reference : value the typical subject has; default 1 for a power, else 0
    unit : of the covariate [text]
    level : of a category [text]
    fixed : whether the coefficient is known

    Examples
    --------
    >>> relation("CL", "weight", reference=70, unit="kg", coefficient=0.75, fixed=True).coefficient
    0.75
    """
    if kind not in ("power", "exponential", "proportional", "category"):
        raise FitError(
            f"{parameter}: covariate kind {kind!r} is not known; allowed: power, exponential, proportional, category"
        )
    if fixed and coefficient is None:
        raise FitError(f"{parameter}: the effect of {covariate} is fixed, but at what? give coefficient=...")
    standard = 1.0 if kind == "power" else 0.0
    return Relation(
        parameter=parameter, covariate=covariate, kind=kind, coefficient=coefficient or 0.0,  # type: ignore[arg-type]
        reference=standard if reference is None else reference, unit=unit, level=level, fixed=fixed,
    )  # fmt: skip


def allometric(
    *,
    flows: Sequence[str] = (),
    volumes: Sequence[str] = (),
    rates: Sequence[str] = (),
    weight: str = "weight",
    reference: float = 70.0,
    fixed: bool = True,
) -> tuple[Relation, ...]:
    """Powers of body weight: flows 3/4, volumes 1, rates -1/4 (West 1997, doi:10.1126/science.276.5309.122).

    Parameters
    ----------
    flows, volumes, rates : parameters [text]
    weight : name of the covariate, in kg [text]
    reference : weight of the typical subject [kg]
    fixed : False estimates the powers, from these
    """
    powers = ((flows, FLOW_POWER), (volumes, VOLUME_POWER), (rates, FLOW_POWER - VOLUME_POWER))
    return tuple(
        relation(n, weight, coefficient=power, reference=reference, unit="kg", fixed=fixed)
        for names, power in powers
        for n in names
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """Random and covariate effects.

    Parameters
    ----------
    between : parameter -> SD between subjects to start from, on the scale of the fit (about the CV of a positive one)
    occasion : parameter -> SD between the occasions (cycles) of one subject
    correlated : groups of parameters whose effects between subjects are correlated; ("all",) makes one of all [text]
    covariates : see `relation` and `allometric`
    held : parameters whose SDs stay at their start [text]
    """

    between: Mapping[str, float]
    occasion: Mapping[str, float] = field(default_factory=dict)
    correlated: tuple[tuple[str, ...], ...] = ()
    covariates: tuple[Relation, ...] = ()
    held: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, named in (("between subjects", self.between), ("between occasions", self.occasion)):
            for name, sd in named.items():
                if not (math.isfinite(sd) and sd > 0):
                    raise FitError(f"effects: {name}: SD {what} is {sd!r}; allowed: above zero, such as 0.3 for 30 %")
        if not (self.between or self.occasion):
            raise FitError("effects: nothing varies; name parameters, for example between={'CL': 0.3}")
        seen: list[str] = []
        for group in self.correlated:
            for name in group:
                if name in seen:
                    raise FitError(f"effects: {name} is in two groups of correlated parameters; join them")
                seen.append(name)
        for name in self.held:
            if name not in self.between and name not in self.occasion:
                raise FitError(f"effects: held {name!r} does not vary; varying: {', '.join(self.between)}")

    def replace(self, **changes: Any) -> Effects:
        """A copy with some settings changed."""
        return replace(self, **changes)


def effects_of(given: Effects | Mapping[str, float] | Sequence[str] | None, free: Sequence[str]) -> Effects:
    """Read what a caller says of the effects.

    Parameters
    ----------
    given : `Effects`, SDs by parameter, names of what varies, or None: every free parameter varies
    free : free parameters of the protocol [text]
    """
    if isinstance(given, Effects):
        return given
    if isinstance(given, str):
        given = [given]
    if given is None or not isinstance(given, Mapping):
        given = dict.fromkeys(given if given is not None else free, START)
    return Effects(between=given)


def expand(names: Sequence[str], slots: Sequence[Slot], what: str) -> list[list[int]]:
    """Numbers of the parameters that each name means: its own label, or the same parameter of every region.

    Raises
    ------
    FitError
        A name is not a free parameter.
    """
    labels = [s.label for s in slots]
    out = []
    for name in names:
        found = [k for k, s in enumerate(slots) if name in (s.parameter, s.label)]
        if not found:
            raise FitError(
                f"effects: {what} {name!r} is not a free parameter{did_you_mean(name, labels)}; free: "
                f"{', '.join(labels)}; make it free in the protocol, or leave the effect out"
            )
        out.append(found)
    return out
