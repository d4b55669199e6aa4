"""Follow the unlabelled ligand of one model in all patients: what share of the dose is where, and per gram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import SimulationError, did_you_mean
from ..expressions import to_text
from ..model import Model
from ..regimen import Regimen
from ..simulation import simulate
from ..units import dimension, factor
from .shared_draws import evaluate, sound

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

BLOOD_DENSITY = 1.06  # g/mL, ICRP 89
PLASMA = "plasma"  # observable of a concentration in plasma
BLOOD = "blood"
ROUTE = "injection"


@dataclass(frozen=True, slots=True)
class Followed:
    """Course of one model in all patients, the typical one first; nan where a patient was left out."""

    share: dict[str, Array]  # region -> (patients, times) share of the dose in the region, decay-corrected [1]
    per_gram: dict[str, Array]  # region -> (patients, times) [%IA/g], decay-corrected
    mass: dict[str, Array]  # region -> (patients,) [g]
    body_mass: float  # of the typical patient [g]; nan where the model does not say
    left_out: int  # patients that failed or whose numbers do not go together


def follow(model: Model, patients: pd.DataFrame, nmol: float, times: Array, regions: Sequence[str]) -> Followed:
    """Give a bolus to every patient, by the route ``injection`` (or the model's first), and follow it.

    Parameters
    ----------
    model : unlabelled, with an observable [nmol] and a parameter ``mass_<region>`` [g] for every region
    patients : one row each, the typical one first, as `shared_patients` gives them
    nmol : ligand given [nmol]
    times : (m,) array, from 0 [h]
    regions : names of organs and tumours; ``blood`` is what a gamma counter would see in a blood sample, computed from
        the observable ``plasma`` [nmol/L] and the haematocrit ``Hct``

    Raises
    ------
    SimulationError
        A region or its mass is not in the model, the model is labelled, or the first patient fails or breaks a
        requirement.
    """
    who = model.who
    if model.nuclide:
        raise SimulationError(f"{who}: a comparison starts from the unlabelled model; it labels what it compares")
    wanted = [PLASMA if r == BLOOD else r for r in regions]
    for name in wanted:
        if name not in model.observables:
            hint = did_you_mean(name, model.observables)
            raise SimulationError(
                f"{who}: no observable {name!r}{hint}; known: {', '.join(model.observables)}; leave it out of organs="
            )
    mass = evaluate(model, [f"mass_{r}" for r in regions if r != BLOOD], patients)
    if lacking := [r for r in regions if r != BLOOD and f"mass_{r}" not in mass]:
        raise SimulationError(
            f"{who}: {', '.join(lacking)}: no parameter mass_{lacking[0]} [g]; give it in [parameters] or [table.mass]"
        )
    fine = sound(model, patients)
    if not fine[0]:
        unmet = next(r for r in model.requirements if not sound(replace(model, requirements=(r,)), patients[:1])[0])
        raise SimulationError(
            f"{who}: {to_text(unmet.condition)} does not hold in the first patient ({unmet.why}); change what was set"
        )
    dose = Regimen(f"{nmol:.12g} nmol once", into=ROUTE if ROUTE in model.administration else "")
    asked = list(dict.fromkeys(wanted))
    run = simulate(model, dose, times, parameters=patients, observables=asked, method="rosenbrock")
    good = fine & (run["status"].to_numpy() == 0)
    if not good[0]:
        raise SimulationError(f"{who}: the first patient could not be followed: {run.attrs['failures']}")
    share: dict[str, Array] = {}
    per_gram: dict[str, Array] = {}
    for region, name in zip(regions, wanted, strict=True):
        unit = model.observables[name].unit
        values = np.where(good[:, None], run[name].to_numpy(), np.nan) * factor(unit)
        if region == BLOOD:
            if dimension(unit) != dimension("nmol/L"):
                raise SimulationError(f"{who}: observable {PLASMA} is in {unit}; a concentration in nmol/L is needed")
            hct = evaluate(model, ["Hct"], patients).get("Hct", np.zeros(len(patients)))
            per_ml = values / 1000.0 * (1.0 - hct[:, None])
            per_gram[region] = 100.0 * per_ml / nmol / BLOOD_DENSITY
            continue
        if dimension(unit) != dimension("nmol"):
            raise SimulationError(f"{who}: observable {region} is in {unit}; an amount in nmol is needed")
        share[region] = values / nmol
        grams = mass[f"mass_{region}"] * factor(model.parameters[f"mass_{region}"].unit)
        mass[f"mass_{region}"] = grams
        per_gram[region] = 100.0 * share[region] / grams[:, None]
    body = evaluate(model, ["body_mass"], patients)
    kg = body.get("body_mass")
    typical = float("nan") if kg is None else float(kg[0]) * factor(model.parameters["body_mass"].unit)
    return Followed(share, per_gram, {r: mass[f"mass_{r}"] for r in share}, typical, int((~good).sum()))
