"""What each administration of a regimen puts where: activity and amount become doses of hot and of cold ligand."""

from __future__ import annotations

from .compiler.compiled import Compiled
from .errors import SimulationError, did_you_mean
from .model import Model
from .regimen import Administration, Regimen
from .units import dimension

ROUNDING = 1e-9  # relative: carrier-free ligand is given as amount = activity/molar activity


def doses_of(model: Model, compiled: Compiled, regimen: Regimen) -> list[tuple[float, int, float, float]]:
    """What each administration puts where, in the units of the states.

    Parameters
    ----------
    model : labelled or not
    compiled : its compiled form, for the numbers of the routes
    regimen : what is given

    Returns
    -------
    list of (time [h], number of the route, dose [nmol or MBq], duration [h])

    Raises
    ------
    SimulationError
        The route is unknown, or the activity or amount that the model needs is not given.
    """
    if regimen.nuclide and model.nuclide and regimen.nuclide != model.nuclide:
        raise SimulationError(f"{model.who}: labelled with {model.nuclide}, but the regimen gives {regimen.nuclide}")
    out = []
    for a in regimen.administrations:
        route = a.into or next((r for r in model.administration if not r.endswith("_cold")), "")
        parts = model.routes.get(route)
        if not parts:
            known = ", ".join(model.routes) or "none"
            hint = did_you_mean(route, model.routes)
            raise SimulationError(f"{model.who}: no way to give {a} into {route!r}{hint}; known: {known}")
        hot, cold = _hot_and_cold(model, a, next(iter(parts)))
        out.append((a.time, compiled.routes.index(route), hot, a.duration))
        if cold is not None and f"{route}_cold" in model.routes:
            out.append((a.time, compiled.routes.index(f"{route}_cold"), cold, a.duration))
    return out


def _hot_and_cold(model: Model, a: Administration, compartment: str) -> tuple[float, float | None]:
    """Dose of the (hot) ligand in the unit of its state, and of the cold where the model follows it [nmol]."""
    state = model.compartments[compartment]
    found = dict(dimension(state.unit).exponents)
    if "activity" in found:
        if a.activity is None:
            raise SimulationError(f"{model.who}: its states are activities, so {a} needs an activity [MBq]")
        return a.activity, None
    if "substance" not in found:
        raise SimulationError(f"{model.who}: {compartment} is in {state.unit!r}, so neither nmol nor MBq can be given")
    if not model.nuclide:
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
