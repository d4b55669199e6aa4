"""Pieces of a population: residual error of an endpoint, effect of a covariate, draws, what a covariance must be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError, did_you_mean
from ..units import dimension, factor, quantity

Array = NDArray[np.float64]
CovariateKind = Literal["power", "exponential", "proportional", "category"]
COVARIATE_KINDS: tuple[CovariateKind, ...] = ("power", "exponential", "proportional", "category")
NoiseKind = Literal["normal", "lognormal"]
NOISE_KINDS: tuple[NoiseKind, ...] = ("normal", "lognormal")
LARGEST = 700.0  # variance of a logarithm whose exponential is still a number


def coefficient_of_variation(variance: float) -> float:
    """Of a log-normal variable [1], infinite where no number can hold it.

    Parameters
    ----------
    variance : of the logarithm [1]
    """
    return math.sqrt(math.expm1(variance)) if variance < LARGEST else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointNoise:
    """Residual error of one endpoint: ``sd^2 = additive^2 + proportional^2 f^2``, or log-normal.

    Parameters
    ----------
    kind : "normal", or "lognormal" with `proportional` the standard deviation of the logarithm [text]
    additive : in `unit`; 0: none
    proportional : 0: none [1]
    unit : of `additive`; empty where there is none [text]
    """

    kind: NoiseKind = "normal"
    additive: float = 0.0
    proportional: float = 0.0
    unit: str = ""

    def check(self, who: str) -> None:
        """Refuse what is no error model; `who` begins the message."""
        if self.kind not in NOISE_KINDS:
            raise FitError(f"{who}: kind {self.kind!r} is not known; allowed: {', '.join(NOISE_KINDS)}")
        for name in ("additive", "proportional"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise FitError(f"{who}: {name} = {value!r}; allowed: finite and not negative")
        if self.kind == "lognormal" and (self.additive or not self.proportional):
            raise FitError(f"{who}: a log-normal error has a proportional part above zero and no additive part")
        if self.additive and not self.unit:
            raise FitError(f"{who}: additive = {self.additive:g} has no unit; say for example unit = 'MBq'")
        if not (self.additive or self.proportional):
            raise FitError(f"{who}: additive and proportional are both zero; a measurement without error is not known")


@dataclass(frozen=True, slots=True, kw_only=True)
class CovariateEffect:
    """How a covariate moves a parameter of the typical subject.

    Parameters
    ----------
    parameter : which one; with its region as in ``k_washout[liver]`` [text]
    covariate : its name [text]
    kind : "power": ``(c/reference)^coefficient``; "exponential": ``exp(coefficient (c - reference))``;
        "proportional": ``1 + coefficient (c - reference)``; "category": ``exp(coefficient)`` where c is `level`; of a
        parameter that is not positive the exponents are added on the scale of the fit [text]
    coefficient : [1], or one over the covariate's unit
    reference : value the typical subject has, in `unit`
    unit : of the covariate [text]
    level : of a category [text]
    """

    parameter: str
    covariate: str
    kind: CovariateKind
    coefficient: float
    reference: float = 1.0
    unit: str = "1"
    level: str = ""

    def shift(self, transform: str, value: float | str, who: str) -> float:
        """What is added on the scale of the fit for a covariate's value (number in `unit`, text with a unit, level)."""
        if self.kind == "category":
            return self.coefficient if str(value) == self.level else 0.0
        if isinstance(value, str):
            read = quantity(value, f"{who}: covariate {self.covariate}")
            if read.dimension != dimension(self.unit):
                raise FitError(f"{who}: covariate {self.covariate} = {value!r}; needed: a number in {self.unit}")
            value = read.value / factor(self.unit)
        if not math.isfinite(value) or (self.kind == "power" and value <= 0):
            raise FitError(f"{who}: covariate {self.covariate} = {value!r}; allowed: finite, and positive for a power")
        if self.kind == "exponential":
            return self.coefficient * (value - self.reference)
        if self.kind == "power":
            return self.coefficient * math.log(value / self.reference)
        change = 1.0 + self.coefficient * (value - self.reference)
        if change <= 0:
            raise FitError(f"{who}: covariate {self.covariate} = {value:g} makes {self.parameter} negative")
        return math.log(change)

    def check(self, labels: Sequence[str], transforms: Mapping[str, str], who: str) -> None:
        """Refuse an effect that cannot be."""
        if self.parameter not in labels:
            raise FitError(
                f"{who}: covariate {self.covariate} acts on {self.parameter!r}{did_you_mean(self.parameter, labels)}, "
                f"which is not in the population; known: {', '.join(labels)}"
            )
        if self.kind not in COVARIATE_KINDS:
            raise FitError(f"{who}: covariate kind {self.kind!r} is not known; allowed: {', '.join(COVARIATE_KINDS)}")
        if self.kind in ("power", "proportional") and transforms[self.parameter] != "log":
            raise FitError(f"{who}: a {self.kind} effect needs a positive parameter; {self.parameter} is not one")
        if self.kind == "category" and not self.level:
            raise FitError(f"{who}: covariate {self.covariate}: a category needs its level")
        if not (math.isfinite(self.coefficient) and math.isfinite(self.reference)):
            raise FitError(f"{who}: covariate {self.covariate}: coefficient and reference must be finite")
        if self.kind == "power" and self.reference <= 0:
            raise FitError(f"{who}: covariate {self.covariate}: the reference of a power is positive")


@dataclass(frozen=True, slots=True, eq=False)
class PopulationDraws:
    """Draws of what a population's numbers may be: its posterior, or a bootstrap.

    Parameters
    ----------
    theta : (d, k) array, on the scale of the fit
    omega, occasion_omega : (d, k, k) arrays
    """

    theta: Array
    omega: Array
    occasion_omega: Array


def check_covariance(matrix: Array, labels: Sequence[str], who: str) -> None:
    """Refuse a matrix that is no covariance of what varies."""
    if not np.isfinite(matrix).all():
        raise FitError(f"{who} holds values that are not finite")
    if not np.allclose(matrix, matrix.T, rtol=1e-10, atol=0):
        raise FitError(f"{who} is not symmetric")
    varies = np.diag(matrix) != 0
    if np.any(matrix[~varies]):
        at = labels[int(np.argmax(~varies & matrix.any(axis=1)))]
        raise FitError(f"{who}: {at} has a covariance but no variance")
    if not varies.any():
        return
    inside = matrix[np.ix_(varies, varies)]
    lowest = float(np.linalg.eigvalsh(inside)[0])
    if lowest <= 0:
        names = ", ".join(x for x, v in zip(labels, varies, strict=True) if v)
        raise FitError(f"{who} ({names}) is not positive definite: its smallest eigenvalue is {lowest:.3g}")


def check_draws(draws: PopulationDraws, k: int, who: str) -> None:
    d = len(draws.theta)
    for name, shape in (("theta", (d, k)), ("omega", (d, k, k)), ("occasion_omega", (d, k, k))):
        found = getattr(draws, name).shape
        if found != shape or not np.isfinite(getattr(draws, name)).all():
            raise FitError(f"{who}: draws of {name} have shape {found}; needed: {shape}, all finite")
