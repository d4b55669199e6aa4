"""A population applied to one patient with few scans: `predict_tia`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from ..data import Curves
from ..dosimetry.integration import FAR
from ..dosimetry.result import TIA
from ..errors import FitError, did_you_mean
from ..inference.population_file import PopulationModel
from ..model import Model
from ..units import dimension, factor
from .batch import Rows, predict
from .estimate import Modes, Person, loadings, most_probable, rows_of
from .kinetics import exponentials
from .practice import half_lives, practised
from .result import ReducedScan
from .sampling import Draws, is_uncertain, sample
from .scans import Scans, bind_scans, find_model, noise_of

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
FEWEST = 100  # effective draws below which the sampling is said to be poor
LITTLE = 0.5  # share of the variance taken away below which the population dominates
FAR_OUT = 0.01  # share of a population that lies farther than a patient who is said to be outside
SURPRISE = 4.0  # standard deviations between a scan and its prediction that are pointed out
PRIOR_DRAWS = 400


def predict_tia(
    population: PopulationModel | str | Path,
    curves: Curves,
    *,
    model: Model | None = None,
    previous: Sequence[Curves] = (),
    covariates: Mapping[str, float | str] | None = None,
    regions: Sequence[str] | None = None,
    method: Literal["importance", "laplace"] = "importance",
    draws: int = 1000,
    seed: int = 0,
    half_life: Mapping[str, float] | None = None,
    accept_changed_model: bool = False,
) -> ReducedScan:
    """Time-integrated activity from one, two or three scans of a patient whose population is known.

    The scans of all cycles are fitted together: what earlier cycles say of the patient carries over, what belongs to
    one cycle (`occasion_omega`) does not. Intervals hold the noise of the scans, the spread of the population that the
    scans leave open and, where the file knows it, the uncertainty of the population.

    Parameters
    ----------
    population : from a fit or a paper, or its file
    curves : scans of this cycle, any regions, times from its injection
    model : that the population was estimated with; default the library's, found by its equations
    previous : scans of earlier cycles of the same patient, in order, each with times from its own injection
    covariates : of the patient, beside those that the curves bring
    regions : to integrate; default the organs that were scanned, others only in a model of the whole body [text]
    method : "importance" (weighted draws) or "laplace" (a normal distribution at the most probable parameters) [text]
    draws : draws of the TIA [1]
    seed : of the draws [1]
    half_life : region -> effective half-life for Madsen's method; default the population's mean [h]
    accept_changed_model : go on with equations that are not the population's

    Returns
    -------
    ReducedScan
        With a `TIA` for `dose`, the answers of daily practice beside it, and warnings in words.

    Raises
    ------
    FitError, DataError
        There is no scan, a region or its error is not known, two scans have one time, one lies before the injection,
        the model is not the population's, or nothing could be computed.

    Examples
    --------
    >>> found = predict_tia("psma617.toml", patient.select(["kidneys"]))
    >>> found.dose(masses={"kidneys": "310 g"})
    """
    if method not in ("importance", "laplace"):
        raise FitError(f"method {method!r} is not known; allowed: importance, laplace")
    if draws < 10:
        raise FitError(f"draws = {draws}; needed: 10 or more for an interval")
    for one in (curves, *previous):
        if not isinstance(one, Curves):
            raise FitError(f"a {type(one).__name__} is not one patient's scans; give Curves, as study[subject]")
    known = population if isinstance(population, PopulationModel) else PopulationModel.load(population)
    applied = known.apply(model or find_model(known), accept_changed_model=accept_changed_model)
    cycles = (*previous, curves)
    if len({c.subject for c in cycles}) > 1:
        raise FitError(f"cycles of different subjects: {', '.join(dict.fromkeys(c.subject for c in cycles))}")
    person = Person(tuple(bind_scans(known, applied, c, covariates) for c in cycles))
    scans = person.cycles[-1]
    if curves.injected_activity is None and curves.regimen is None:
        raise FitError(f"{scans.who}: the injected activity is not stated, so there is no TIA")
    asked = _regions(applied, scans, regions)
    if strange := [r for r in half_life or {} if r not in curves.regions]:
        raise FitError(
            f"half_life of {strange[0]!r}{did_you_mean(strange[0], curves.regions)}: not scanned; scanned: "
            f"{', '.join(curves.regions)}"
        )
    modes = most_probable(known, [person])
    rng = np.random.default_rng([seed, *b"single time"])
    found = sample(known, person, modes, draws=draws, regions=asked, rng=rng, weighted=method == "importance")
    if not np.isfinite(found.tia).all():
        raise FitError(f"{scans.who}: {applied.name} could not be solved at any draw; check the population's numbers")
    prior = _prior(known, scans, asked, rng)
    with np.errstate(all="ignore"):
        information = 1.0 - np.log(found.tia).var(axis=0) / np.log(prior).var(axis=0)
    taken = dict(zip(asked, information.tolist(), strict=True))
    distance = _distance(modes)
    notes = _warnings(known, applied, person, modes, found, taken, distance, accept_changed_model, method)
    return ReducedScan(
        population=known,
        curves=curves,
        previous=tuple(previous),
        tia=_tia(scans, found, modes, asked, notes, method),
        practised=tuple(practised(curves, half_lives(known, applied, curves, covariates), previous, given=half_life)),
        parameters=_parameters(known, scans, found),
        information=taken,
        distance=distance,
        draws=found,
        method=_said(method, found, is_uncertain(known)),
    )


def _said(method: str, found: Draws, uncertain: bool) -> str:
    how = f"importance sampling, {found.effective:.0f} effective draws" if method == "importance" else "Laplace"
    return how + (", the population's own uncertainty included" if uncertain else "")


def _regions(model: Model, scans: Scans, regions: Sequence[str] | None) -> list[str]:
    """What is integrated: activities only."""
    own = {o.curve.region: list(model.observables)[o.observable] for b in scans.likelihood.blocks for o in b.observers}
    organs = [c.region for c in scans.curves if c.kind == "tissue"]
    if regions is None:
        regions = [r for r in organs if dimension(model.observables[own[r]].unit) == dimension("MBq")]
        if not regions:
            raise FitError(
                f"{scans.who}: none of {', '.join(scans.curves.regions)} is an organ with an activity in MBq; name "
                "what to integrate with regions=[...]"
            )
    for r in regions:
        if model.scope == "region" and r not in own:
            raise FitError(f"region {r!r} was not scanned, and {model.name} describes one region at a time")
        if r not in own and r not in model.observables:
            raise FitError(
                f"region {r!r}{did_you_mean(r, model.observables)} is not in {model.name}; known: "
                f"{', '.join(model.observables)}"
            )
        observable = model.observables[own.get(r, r)]
        if dimension(observable.unit) != dimension("MBq"):
            raise FitError(f"region {r}: observable {observable.name} is in {observable.unit}; a TIA needs MBq")
    return list(regions)


def _prior(population: PopulationModel, scans: Scans, regions: Sequence[str], rng: np.random.Generator) -> Array:
    """Integrals of patients of this population, (draws, regions)."""
    b = loadings(population.omega, population.occasion_omega, 1)[0]
    x = scans.typical + rng.standard_normal((PRIOR_DRAWS, b.shape[1])) @ b.T
    rows = Rows(population, noise_of(population), (scans,), np.zeros(PRIOR_DRAWS, dtype=np.intp))
    tia = predict(rows, x, regions=regions).tia
    return np.asarray(tia[np.isfinite(tia).all(axis=1)])


def _distance(modes: Modes) -> tuple[float, int, float]:
    """How far the patient lies from the population, in the directions its scans tell.

    The most probable effects of a patient of the population scatter with covariance 1 - P^-1, P their precision.
    """
    value, vector = np.linalg.eigh(modes.precision[0])
    told = 1.0 - 1.0 / value
    seen = told > 1e-3
    square = float(np.sum((vector.T @ modes.z[0])[seen] ** 2 / told[seen]))
    return square, int(seen.sum()), float(chi2.sf(square, max(int(seen.sum()), 1)))


def _parameters(population: PopulationModel, scans: Scans, found: Draws) -> pd.DataFrame:
    """The patient's parameters in this cycle, in declared units; shrinkage is 1 where the scans say all."""
    import pandas as pd

    rows = []
    prior = np.diag(population.omega) + np.diag(population.occasion_omega)
    for i in population.varying:
        slot = population.slots[i]
        size = factor(slot.unit)
        low, middle, high = (float(slot.from_scale(v)) / size for v in np.quantile(found.x[:, i], [0.025, 0.5, 0.975]))
        rows.append(
            {
                "parameter": slot.label,
                "typical": float(slot.from_scale(scans.typical[i])) / size,
                "estimate": middle,
                "2.5 %": low,
                "97.5 %": high,
                "unit": slot.unit,
                "known from scans": 1.0 - float(found.x[:, i].var()) / float(prior[i]),
            }
        )
    return pd.DataFrame(rows).set_index("parameter")


def _tia(scans: Scans, found: Draws, modes: Modes, regions: Sequence[str], notes: Sequence[str], method: str) -> TIA:
    """Draws as a `TIA`; of a linear model exact, with its exponentials for the dose rate."""
    x = np.vstack([modes.x[0, -1][None], found.x])
    kinetics = [exponentials(scans, x, r) for r in regions]
    terms = max((k[1].shape[1] for k in kinetics if k is not None), default=1)
    d = len(found.x)
    rate, share = np.full((2, len(regions), d + 1, terms), math.nan)
    draws = found.tia.T.copy()
    for i, k in enumerate(kinetics):
        if k is not None:
            draws[i], rate[i], share[i] = k[0][1:], k[1], k[2]
    curves = scans.curves
    injected = curves.injected_activity
    if injected is None and curves.regimen is not None:
        injected = curves.regimen.activity
    mixed = ", ".join(r for r, k in zip(regions, kinetics, strict=True) if k is None)
    extra = [f"{mixed}: kinetics are not a fixed sum of exponentials, so no BED can be computed"] if mixed else []
    return TIA.from_arrays(
        list(regions),
        point=np.median(draws, axis=1),
        draws=draws,
        rate_point=rate[:, 0],
        share_point=share[:, 0],
        rate=rate[:, 1:],
        share=share[:, 1:],
        extrapolated_fraction=np.median(1.0 - found.until_last / found.tia, axis=0),
        nuclide=scans.likelihood.model.nuclide,
        injected_activity=float(injected or 0.0),
        method=f"population and {sum(len(c) for c in curves)} values, {method}",
        study=curves.study,
        subject=curves.subject,
        warnings=(*notes, *extra),
    )


def _warnings(
    population: PopulationModel,
    model: Model,
    person: Person,
    modes: Modes,
    found: Draws,
    information: Mapping[str, float],
    distance: tuple[float, int, float],
    accepted: bool,
    method: str,
) -> list[str]:
    """What to know, in words."""
    scans = person.cycles[-1]
    notes = list(dict.fromkeys(w for s in person.cycles for w in s.curves.warnings))
    if model.digest != population.digest and accepted:
        notes.append(f"the equations of {model.name} are not those the population was estimated with: accepted by you")
    if model.unverified:
        notes.append(model.unverified)
    tail = np.median(1.0 - found.until_last / found.tia, axis=0)
    late = [f"{r} {100 * t:.0f} %" for (r, t) in zip(information, tail, strict=True) if t > FAR]
    if late:
        notes.append(f"integral after the last scan, which the population alone decides: {', '.join(late)}")
    unseen = [r for r in information if r not in scans.curves]
    if unseen:
        notes.append(f"not scanned, so known only from other regions and the population: {', '.join(unseen)}")
    weak = [f"{r} {100 * max(1 - i, 0):.0f} %" for r, i in information.items() if i < LITTLE]
    if weak:
        notes.append(f"the population dominates; of its variance of ln TIA the scans leave: {', '.join(weak)}")
    if distance[2] < FAR_OUT:
        notes.append(
            f"this patient lies outside the population: squared distance {distance[0]:.3g} for {distance[1]} degrees "
            f"of freedom, farther than {100 * (1 - distance[2]):.4g} % of its patients; check unit, decay flag and "
            "injected activity, or take more scans"
        )
    notes += _surprises(population, person, modes)
    if not modes.converged[0]:
        notes.append("the most probable parameters were not found to full accuracy")
    if method == "importance" and found.effective < FEWEST:
        notes.append(f"only {found.effective:.0f} effective draws: the interval is rough; ask for more draws")
    if found.failed > 0.01:
        notes.append(f"{100 * found.failed:.0f} % of the draws could not be solved and were left out")
    if not is_uncertain(population):
        few = f" ({population.subjects} subjects)" if population.subjects else ""
        notes.append(f"the population{few} is taken as exact: its file has no standard errors")
    if len(person.cycles) > 1 and not population.occasion_omega.any():
        notes.append("the population knows no spread between cycles: all cycles are taken as equal")
    return notes


def _surprises(population: PopulationModel, person: Person, modes: Modes) -> list[str]:
    """Scans that lie far from what even the fitted patient should show."""
    rows = rows_of(population, [person])
    value = predict(rows, modes.x[0]).value
    spread = rows.noise.variance(value, np.zeros(0), rows.data).value
    logs = np.array([s.kind == "lognormal" for s in rows.noise.scatters])[rows.data.endpoint]
    measured = rows.data.counted & (rows.data.censored == 0)
    with np.errstate(all="ignore"):
        off = np.where(logs, np.log(rows.data.value / value), rows.data.value - value) / np.sqrt(spread)
    data = rows.data
    return [
        f"{data.endpoints[data.endpoint[i]]} at {data.time[i]:.4g} h: measured {data.value[i]:.4g}, expected "
        f"{value[i]:.4g} {data.units[data.endpoint[i]]}, {abs(off[i]):.0f} standard deviations apart"
        for i in np.flatnonzero(measured & (np.abs(off) > SURPRISE))
    ]
