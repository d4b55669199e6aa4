"""The scans of one patient in one cycle, bound to a population and its model: `Scans`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..covariates import Covariate
from ..data import Curves
from ..errors import DataError, FitError, LibraryError, SimulationError
from ..formats.curve import BELOW, Curve
from ..inference.binding import build_likelihood
from ..inference.likelihood import Block, Likelihood
from ..inference.noise import Noise, Scatter, Size
from ..inference.population_file import PopulationModel
from ..inference.protocol import Free, Protocol
from ..model import Model
from ..own_values import personal

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scans:
    """One cycle of one patient.

    Parameters
    ----------
    curves : what was measured, times from this cycle's injection
    likelihood : of these curves, in the population's parameters
    columns : number of each of the likelihood's parameters in the population
    typical : (k,) parameters of the typical patient with these covariates, on the scale of the fit
    """

    curves: Curves
    likelihood: Likelihood
    columns: NDArray[np.intp]
    typical: Array

    @cached_property
    def last(self) -> float:
        """End of the last scan [h]."""
        return max(float(c.t_end.max()) for c in self.curves)

    @property
    def who(self) -> str:
        """How messages name them."""
        return f"subject {self.curves.subject}" + (f", cycle {self.curves.occasion}" if self.curves.occasion else "")


def bind_scans(
    population: PopulationModel, model: Model, curves: Curves, covariates: Mapping[str, float | str] | None = None
) -> Scans:
    """Bind the scans of one cycle.

    Parameters
    ----------
    population : with the residual error of every region that was scanned
    model : the population's, with its values (`PopulationModel.apply`)
    curves : any of its regions, each with one scan or more
    covariates : of the patient, beside those the curves bring: parameters of the model, or covariates of the population

    Raises
    ------
    FitError, DataError
        There is no scan, a region or its error is not known, two scans have one time, one lies before the injection, or
        the decay flag does not go with the model.
    """
    check_scans(population, model, curves)
    known = {n: v for n, v in curves.covariates.items() if not isinstance(v, Covariate)} | dict(covariates or {})
    needed = {e.covariate for e in population.covariates}
    if unknown := [n for n in covariates or {} if n not in needed and n not in model.primary]:
        raise FitError(
            f"subject {curves.subject}: covariate {', '.join(unknown)} is neither a parameter of {model.name} nor a "
            f"covariate of the population; known: {', '.join([*model.primary, *sorted(needed)])}"
        )
    own, varying = personal(model, curves) if curves.covariates else (model, {})
    if given := {n: v for n, v in (covariates or {}).items() if n in model.primary}:
        own = own.replace(**given)
    curves = curves.replace(curves=tuple(_in_unit(c, population) for c in curves))
    free = {s.parameter: Free(transform=s.transform) for s in population.slots}
    protocol = Protocol(name=population.who, free=_within(model, population, free), shared=_shared(population, model))
    likelihood = build_likelihood(model, curves, protocol, regimen=curves.regimen, covariates=varying, sparse=True)
    if own is not model:  # in the values alone: equations that are written anew cost far more than the scans
        likelihood = replace(likelihood, blocks=tuple(_with_values(b, own) for b in likelihood.blocks))
    labels = population.labels
    if missing := [s.label for s in likelihood.slots if s.label not in labels]:
        raise FitError(
            f"subject {curves.subject}: the population has no {', '.join(missing)}; regions it knows: "
            f"{', '.join(dict.fromkeys(s.region for s in population.slots if s.region))}"
        )
    columns = np.array([labels.index(s.label) for s in likelihood.slots], dtype=np.intp)
    return Scans(curves, likelihood, columns, population.typical(known))


def check_scans(population: PopulationModel, model: Model, curves: Curves) -> None:
    """Refuse what cannot be used, by name."""
    who = f"subject {curves.subject}"
    if not len(curves) or not any(len(c) for c in curves):
        raise FitError(f"{who}: there is no scan; give at least one value of one region")
    if not model.nuclide:
        raise FitError(
            f"{model.name} is not labelled, so its activity never decays; "
            f"use label(model, {curves.nuclide or 'Lu-177'!r})"
        )
    if model.inputs:
        raise FitError(f"{model.name} is driven by a measured input, which ends: it has no integral to infinity")
    if model.events:
        raise FitError(f"{model.name} has events that a condition triggers; their derivatives are not known")
    regional = model.scope == "region"
    # of a model of one region: those with parameters of their own, else all that share them
    own = {s.region for s in population.slots if s.region} or set(population.noise)
    regions = own if regional else set(model.observables)
    for c in curves:
        if c.region not in regions:
            raise DataError(
                f"{c.who}: {model.name} has no such region; known: {', '.join(sorted(regions))}; rename the region or "
                "leave it out with curves.select([...])"
            )
        if c.region not in population.noise:
            raise FitError(
                f"{c.who}: the population says no residual error for it; known: {', '.join(population.noise)}; add "
                f"[noise.{c.region}] to its file"
            )
        if np.any(c.t_start < 0):
            at = float(c.t_start[c.t_start < 0][0])
            raise DataError(f"{c.who}: a scan at {at:g} h lies before the injection; times are hours after injection")
        times = [*zip(c.t_start.tolist(), c.t_end.tolist(), strict=True)]
        if twice := [t for t in dict.fromkeys(times) if times.count(t) > 1]:
            raise DataError(
                f"{c.who}: two scans at the same time, {twice[0][0]:g} h; average them, or correct the time of one"
            )
        if np.any((c.value < 0) & (c.censored != BELOW)):
            raise DataError(f"{c.who}: a negative activity; leave the scan out, or give it as below its limit")


def noise_of(population: PopulationModel) -> Noise:
    """The population's residual error, every size known."""
    scatters: list[Scatter] = []
    sizes: list[Size] = []
    for region, one in population.noise.items():
        at = {}
        for part, unit in (("additive", one.unit), ("proportional", "")):
            value = float(getattr(one, part))
            at[part] = len(sizes) if value > 0 else -1
            if value > 0:
                sizes.append(Size(f"{part}[{region}]", value, unit, fixed=True))
        scatters.append(Scatter(one.kind, at["additive"], at["proportional"]))
    return Noise(tuple(population.noise), tuple(scatters), tuple(sizes))


def find_model(population: PopulationModel) -> Model:
    """The library's model that a population was estimated with, labelled as it was.

    Raises
    ------
    FitError
        There is none; the model must be given.
    """
    from ..assembly import load_model
    from ..labelling import label

    name = population.model.removesuffix(f"_{population.nuclide.replace('-', '')}")
    try:
        plain = load_model(name)
        for cold in (False, True):
            found = label(plain, population.nuclide, cold=cold)
            if found.digest == population.digest:
                return found
    except (LibraryError, SimulationError, ValueError):
        pass
    raise FitError(
        f"{population.who}: no model of the library has its equations ({population.digest[:12]}); give the model "
        "it was estimated with: model=..."
    )


def at_times(curves: Curves, wanted: Sequence[float], tolerance: float) -> Curves:
    """Only the scans near some times; regions without one are left out."""
    kept = []
    for c in curves:
        near = np.zeros(len(c), dtype=bool)
        for t in wanted:
            if len(c) and abs(float(c.t[k := int(np.argmin(np.abs(c.t - t)))]) - t) <= tolerance:
                near[k] = True
        if near.any():
            kept.append(c.take(near))
    return curves.replace(curves=tuple(kept))


def _with_values(block: Block, own: Model) -> Block:
    """A block with the values of one patient's covariates."""
    values = own.canonical_values()
    return replace(block, values=np.array([values[n] for n in block.problem.compiled.parameters]))


def _in_unit(curve: Curve, population: PopulationModel) -> Curve:
    """The curve in the unit of its additive error, where there is one."""
    one = population.noise[curve.region]
    return curve.to_unit(one.unit) if one.additive and one.unit != curve.unit else curve


def _shared(population: PopulationModel, model: Model) -> tuple[str, ...]:
    if model.scope != "region":
        return ()
    return tuple(s.parameter for s in population.slots if not s.region)


def _within(model: Model, population: PopulationModel, free: Mapping[str, Free]) -> dict[str, Free]:
    """Starts at the population's values: those of the model may lie outside the bounds of a logit."""
    from ..units import factor

    out = {}
    for slot in population.slots:
        size = factor(model.parameters[slot.parameter].unit)
        one = free[slot.parameter]
        out[slot.parameter] = replace(one, start=slot.start / size, lower=slot.lower / size, upper=slot.upper / size)
    return out
