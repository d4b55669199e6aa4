"""What a population is once it is known, from a fit or from a paper: `PopulationModel`, kept as a file.

A parameter of subject i on occasion c, on the scale of the fit (logarithm of a positive number, see `slots`):

    x = theta + covariate effects + eta_i + kappa_ic,   eta ~ N(0, omega), kappa ~ N(0, occasion_omega)

as in Lavielle 2014, Mixed Effects Models for the Population Approach, doi:10.1201/b17203. Coefficients of variation are
those of the log-normal, ``cv^2 = exp(omega^2) - 1``. A population belongs to the equations it was estimated with, so it
carries their digest and the values of the parameters that were held.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError, did_you_mean
from ..model import Model
from ..units import dimension, factor
from .population_parts import (
    CovariateEffect,
    EndpointNoise,
    PopulationDraws,
    check_covariance,
    check_draws,
    coefficient_of_variation,
)
from .protocol import Free
from .slots import Slot, make_slot

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PopulationModel:
    """Typical values, their uncertainty, the spread between subjects and occasions, and the residual error.

    Parameters
    ----------
    model, digest, nuclide : of the (labelled) model it was estimated with [text]
    slots : its parameters with unit, transform and bounds; `theta` and all matrices are in their order
    theta : (k,) typical values on the scale of the fit
    theta_covariance : (k, k) uncertainty of theta, nan where not known
    omega : (k, k) covariance between subjects; a row of zeros: does not vary
    occasion_omega : (k, k) covariance between the occasions (cycles) of one subject
    noise : region -> residual error
    fixed : values of the model's other parameters, with their unit, as ``"10.3 L"`` [text]
    covariates : effects of covariates that are not parameters of the model
    subjects : how many it was estimated from, 0: not said [1]
    source, method, note : where the numbers come from [text]
    draws : of the whole population, or None
    """

    model: str
    digest: str
    slots: tuple[Slot, ...]
    theta: Array
    omega: Array
    noise: Mapping[str, EndpointNoise]
    nuclide: str = ""
    theta_covariance: Array = field(default_factory=lambda: np.full((0, 0), np.nan))
    occasion_omega: Array = field(default_factory=lambda: np.zeros((0, 0)))
    fixed: Mapping[str, str] = field(default_factory=dict)
    covariates: tuple[CovariateEffect, ...] = ()
    subjects: int = 0
    source: str = ""
    method: str = ""
    note: str = ""
    draws: PopulationDraws | None = None

    def __post_init__(self) -> None:
        k = len(self.slots)
        fill = {"theta_covariance": np.full((k, k), np.nan), "occasion_omega": np.zeros((k, k))}
        for name, shape in (
            ("theta", (k,)),
            ("theta_covariance", (k, k)),
            ("omega", (k, k)),
            ("occasion_omega", (k, k)),
        ):
            given = np.array(getattr(self, name), dtype=float)
            given = fill[name] if given.size == 0 and name in fill else given
            if given.shape != shape:
                raise FitError(f"{self.who}: {name} has shape {given.shape}; needed: {shape}, one for each parameter")
            given.flags.writeable = False
            object.__setattr__(self, name, given)
        if not np.isfinite(self.theta).all():
            at = self.labels[int(np.argmin(np.isfinite(self.theta)))]
            raise FitError(f"{self.who}: the typical value of {at} is not a number its scale allows")
        values = (replace(s, start=float(s.from_scale(x))) for s, x in zip(self.slots, self.theta, strict=True))
        object.__setattr__(self, "slots", tuple(values))
        for name, what in (("omega", "between subjects"), ("occasion_omega", "between occasions")):
            check_covariance(getattr(self, name), self.labels, f"{self.who}: covariance {what}")
        if np.isfinite(self.theta_covariance).all():
            check_covariance(self.theta_covariance, self.labels, f"{self.who}: uncertainty of theta")
        for region, noise in self.noise.items():
            noise.check(f"{self.who}: noise of {region}")
        for effect in self.covariates:
            effect.check(self.labels, {s.label: s.transform for s in self.slots}, self.who)
        if self.draws is not None:
            check_draws(self.draws, k, self.who)

    @property
    def who(self) -> str:
        """How messages name it."""
        return f"population of {self.model}"

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of its parameters, with regions."""
        return tuple(s.label for s in self.slots)

    @property
    def varying(self) -> NDArray[np.intp]:
        """Numbers of the parameters that vary between subjects or occasions."""
        return np.flatnonzero((np.diag(self.omega) > 0) | (np.diag(self.occasion_omega) > 0))

    @classmethod
    def from_model(
        cls,
        model: Model | str,
        *,
        noise: Mapping[str, EndpointNoise | float],
        occasion: Mapping[str, float] | None = None,
        spread: Mapping[str, float] | None = None,
        correlation: pd.DataFrame | None = None,
        relative_se: Mapping[str, float] | None = None,
        subjects: int = 0,
        source: str = "",
        note: str = "",
    ) -> PopulationModel:
        """The population that a model of the library publishes: the `cv` of its parameters.

        Parameters
        ----------
        model : labelled with the nuclide that is measured, or the name of one
        noise : region -> residual error; a number is a proportional error; of a model of one region this names it [1]
        occasion : parameter -> coefficient of variation between occasions [1]
        spread : parameter -> coefficient of variation in place of, or beside, the model's own [1]
        correlation : of the logarithms between subjects, names as index and columns [1]
        relative_se : parameter -> relative standard error of its typical value [1]
        subjects : behind the numbers [1]
        source, note : where they come from; default the sources of the parameters [text]

        Raises
        ------
        FitError
            Nothing varies, a name is not a parameter with a positive value, or a number is no spread.
        """
        if isinstance(model, str):
            from ..assembly import load_model

            model = load_model(model)
        own = {n: model.parameters[n].cv or 0.0 for n in model.primary}
        between = {**own, **(spread or {})}
        given = {"spread": spread or {}, "occasion": occasion or {}, "relative_se": relative_se or {}}
        for what, named in given.items():
            for name, cv in named.items():
                if name not in model.primary:
                    raise FitError(
                        f"{model.name}: {what} of {name!r}{did_you_mean(name, model.primary)}: no parameter with a "
                        f"value of its own; known: {', '.join(model.primary)}"
                    )
                if not 0 <= cv < math.inf:
                    raise FitError(f"{model.name}: {what} of {name} is {cv}; allowed: 0 or more, as 0.25 for 25 %")
        used = [n for n in model.primary if any(d.get(n) for d in (between, given["occasion"], given["relative_se"]))]
        if not any(between[n] or given["occasion"].get(n) for n in used):
            raise FitError(f"{model.name}: no parameter has a spread; give spread={{name: cv}}")
        region = ""
        if model.scope == "region":
            if len(noise) != 1:
                raise FitError(
                    f"{model.name} describes one region, and its numbers are those of one; found noise of "
                    f"{', '.join(noise)}: make one population for each region"
                )
            region = next(iter(noise))
        slots = tuple(make_slot(model, n, Free(transform="log"), region) for n in used)
        omega = np.diag(np.log1p(np.array([between[n] for n in used]) ** 2))
        if correlation is not None:
            omega = _correlated(omega, used, correlation, model.name)
        se = np.array([given["relative_se"].get(n, math.nan) for n in used])
        covariance = np.diag(se**2) if np.isfinite(se).all() else np.full((len(used),) * 2, math.nan)
        if relative_se and not np.isfinite(se).all():
            lacking = ", ".join(n for n, e in zip(used, se, strict=True) if not math.isfinite(e))
            raise FitError(
                f"{model.name}: relative_se is not given for {lacking}; give it for all, 0 where it is known"
            )
        own_source = "; ".join(dict.fromkeys(model.parameters[n].source for n in used if model.parameters[n].source))
        return cls(
            model=model.name,
            digest=model.digest,
            nuclide=model.nuclide,
            slots=slots,
            theta=np.array([s.to_scale(s.start) for s in slots]),
            theta_covariance=covariance,
            omega=omega,
            occasion_omega=np.diag(np.log1p(np.array([given["occasion"].get(n, 0.0) for n in used]) ** 2)),
            noise={r: n if isinstance(n, EndpointNoise) else EndpointNoise(proportional=n) for r, n in noise.items()},
            fixed=held(model, used),
            subjects=subjects,
            source=source or own_source,
            method="published",
            note=note,
        )

    # -- use -----------------------------------------------------------------------------------------------------

    def apply(self, model: Model, *, accept_changed_model: bool = False) -> Model:
        """The model with the values this population holds; refuses equations that are not its own.

        Parameters
        ----------
        model : labelled as when the population was estimated
        accept_changed_model : go on with other equations, where all parameters are still there [bool]

        Raises
        ------
        FitError
            The digests differ, or a parameter is missing or of another dimension.
        """
        if model.digest != self.digest and not accept_changed_model:
            raise FitError(
                f"{self.who}: estimated with equations {self.digest[:12]} ({self.model}), but {model.name} has "
                f"{model.digest[:12]}; use the model it was estimated with (the same label, cold or not), estimate it "
                "again, or go on at your own risk with accept_changed_model=True"
            )
        for slot in self.slots:
            p = model.parameters.get(slot.parameter)
            if p is None or p.formula is not None:
                raise FitError(f"{self.who}: {model.name} has no parameter {slot.parameter} with a value")
            if dimension(p.unit) != dimension(slot.unit):
                raise FitError(
                    f"{self.who}: {slot.parameter} is in {slot.unit!r} here and in {p.unit!r} in {model.name}; correct "
                    "the unit in the file"
                )
        return model.replace(**{n: v for n, v in self.fixed.items() if n in model.primary})

    def individual_prior(
        self, covariates: Mapping[str, float | str] | None = None, previous: tuple[Array, Array] | None = None
    ) -> tuple[Array, Array]:
        """What is known of a new subject's parameters before any scan, on the scale of the fit.

        Parameters
        ----------
        covariates : of the subject; every covariate that has an effect
        previous : (k,) mean and (k, k) covariance of this subject's own parameters, without what belongs to one
            occasion, from earlier cycles; default the population

        Returns
        -------
        (k,) mean and (k, k) covariance of one occasion's parameters
        """
        mean, covariance = (self.typical(covariates), self.omega) if previous is None else previous
        return np.asarray(mean, dtype=float), np.asarray(covariance + self.occasion_omega, dtype=float)

    def typical(self, covariates: Mapping[str, float | str] | None = None, theta: Array | None = None) -> Array:
        """Parameters of the typical subject with these covariates, on the scale of the fit, (k,)."""
        out = np.array(self.theta if theta is None else theta, dtype=float)
        for effect in self.covariates:
            if effect.covariate not in (covariates or {}):
                raise FitError(
                    f"{self.who}: covariate {effect.covariate} of this subject is not given, and {effect.parameter} "
                    f"depends on it; give covariates={{'{effect.covariate}': ...}} [{effect.unit}]"
                )
            at = self.labels.index(effect.parameter)
            out[at] += effect.shift(self.slots[at].transform, (covariates or {})[effect.covariate], self.who)
        return out

    def replace(self, **changes: Any) -> PopulationModel:
        """A copy with some fields changed."""
        return replace(self, **changes)

    @property
    def table(self) -> pd.DataFrame:
        """One row per parameter: typical value in its unit, relative standard error, CV between subjects, occasions."""
        import pandas as pd

        rows = []
        for i, s in enumerate(self.slots):
            positive = s.transform == "log"
            spread = [m[i, i] for m in (self.omega, self.occasion_omega)]
            between, occasions = (coefficient_of_variation(v) if positive else math.sqrt(v) for v in spread)
            rows.append(
                {
                    "parameter": s.label,
                    "typical": float(s.from_scale(self.theta[i])) / factor(s.unit),
                    "unit": s.unit,
                    "rse [%]": 100 * math.sqrt(self.theta_covariance[i, i]) if positive else math.nan,
                    "between subjects [%]": 100 * between,
                    "between occasions [%]": 100 * occasions,
                }
            )
        return pd.DataFrame(rows).set_index("parameter")

    def __str__(self) -> str:
        heading = f"population of {self.model}, {self.subjects or 'unknown number of'} subjects, {self.method}"
        lines = [heading, self.table.to_string(float_format=lambda x: f"{x:.4g}", na_rep="-")]
        for region, n in self.noise.items():
            parts = [f"{n.additive:g} {n.unit}"] if n.additive else []
            parts += [f"{100 * n.proportional:g} %"] if n.proportional else []
            lines.append(f"residual error of {region}: {' and '.join(parts)}, {n.kind}")
        return "\n".join([*lines, *([f"source: {self.source}"] if self.source else [])])

    __repr__ = __str__

    # -- file ----------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write it as readable text (TOML); draws go into a NetCDF file beside it, of the same name.

        Raises
        ------
        FitError
            The folder does not exist.
        """
        from .population_text import write

        write(self, Path(path))

    @classmethod
    def load(
        cls, path: str | Path, model: Model | None = None, *, accept_changed_model: bool = False
    ) -> PopulationModel:
        """Read what `save` wrote.

        Parameters
        ----------
        path : of the text file
        model : what it will be applied to, checked now rather than later
        accept_changed_model : see `apply`

        Raises
        ------
        FitError
            A key is unknown or missing, a unit is wrong, a covariance is not positive definite, or the model is not
            the one it was estimated with.
        """
        from .population_text import read

        fields = read(Path(path))
        try:
            found = cls(**fields)
        except FitError as error:
            raise FitError(f"population file {path}: {error}") from None
        if model is not None:
            found.apply(model, accept_changed_model=accept_changed_model)
        return found


def held(model: Model, free: Sequence[str]) -> dict[str, str]:
    """Values of all other parameters of a model, with their units, as a population's file carries them."""
    return {
        n: f"{p.value!r} {p.unit}"
        for n, p in model.parameters.items()
        if p.formula is None and p.value is not None and n not in free and not p.fixed
    }


def _correlated(omega: Array, names: Sequence[str], correlation: pd.DataFrame, who: str) -> Array:
    varying = [n for i, n in enumerate(names) if omega[i, i] > 0]
    if unknown := [str(c) for c in {*correlation.index, *correlation.columns} if c not in varying]:
        raise FitError(
            f"{who}: correlation of {', '.join(unknown)}, which does not vary; varying: {', '.join(varying)}"
        )
    where = [names.index(c) for c in correlation.index]
    matrix = np.eye(len(names))
    matrix[np.ix_(where, where)] = correlation.loc[correlation.index, correlation.index].to_numpy(dtype=float)
    root = np.sqrt(np.diag(omega))
    return np.asarray(matrix * root[:, None] * root[None, :])
