"""One person's numbers in an assembled model: body, blood, kidneys and the organs that imaging measured.

A host gives organs as formulas of body mass, height and haematocrit. `patient` puts a person's own numbers in their
place, a value where the host had a formula; what hangs on them (an organ's blood, interstitium and flows, the tissue
left over as `rest`) follows by the host's formulas. A model made so still takes a cohort: whatever was not given here
varies as before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .errors import ModelError, UnitError, did_you_mean
from .model import Model, Parameter
from .requirements import number
from .units import Quantity, dimension, factor, quantity

_REST = "rest"  # of a host: the tissue that no other organ is
_SOURCE = "this patient"


def patient(
    model: Model | str,
    *,
    body_mass: str | float | None = None,
    height: str | float | None = None,
    lean_mass: str | float | None = None,
    haematocrit: str | float | None = None,
    GFR: str | float | None = None,
    organs: Mapping[str, str] | None = None,
) -> Model:
    """Give a model a person's own numbers.

    Parameters
    ----------
    model : assembled over a host, labelled or not; or the name of one
    body_mass : with unit, or in the model's [kg for people, g for a mouse]
    height : with unit, or in the model's [m]
    lean_mass : body mass without separable adipose tissue; default from body mass and height [kg]
    haematocrit : share of the blood, ``0.42`` or ``"42 %"`` [1]
    GFR : glomerular filtration rate, ``"95 mL/min"`` [L/h]
    organs : organ or tumour -> its volume or mass, ``{"liver": "1.6 L", "kidneys": "290 g"}``

    Returns
    -------
    Model
        With values where the host had formulas or typical numbers, and no spread left in them.

    Raises
    ------
    ModelError
        The model knows no such organ or number, a haematocrit is outside 0 to 1, an organ is larger than the body, or
        all together are.
    UnitError
        A number has another dimension: an organ takes a volume or a mass.

    Examples
    --------
    >>> from pkmodel.assembly import assemble
    >>> hers = patient(assemble("hers", ["adult_female"]), body_mass="72 kg", organs={"liver": "1.9 L"})
    >>> round(hers.parameters["mass_liver"].value)  # 1.04 g/mL
    1976
    """
    if isinstance(model, str):
        from .assembly import load_model

        model = load_model(model)
    who = f"{model.who}: patient"
    given = {"body_mass": body_mass, "height": height, "lean_mass": lean_mass, "Hct": haematocrit, "GFR": GFR}
    new = {n: _given(model, n, x, who) for n, x in given.items() if x is not None}
    if haematocrit is not None and not 0 < new["Hct"].canonical < 1:
        raise ModelError(f"{who}: haematocrit is {haematocrit!r}; allowed: between 0 and 1. Write 0.42 or '42 %'")
    for n, p in new.items():
        if not (math.isfinite(p.canonical) and p.canonical >= 0 and (p.canonical > 0 or n == "GFR")):
            raise ModelError(f"{who}: {n} is {given.get(n, haematocrit)!r}; allowed: a number above 0")
    body = (new.get("body_mass") or _of_host(model, "body_mass", who)).canonical
    for organ, text in (organs or {}).items():
        new[f"mass_{organ}"] = _organ(model, organ, text, body, who)
    _fits(model, new, body, who)
    return model.replace(**new)


def organ_masses(model: Model) -> dict[str, float]:
    """Mass of every organ and tumour of a model that has one, as its formulas give it [g]."""
    known: dict[str, Any] = {}
    masses = {o: number(f"mass_{o}", model.parameters, known) for o in _organs(model)}
    return {o: float(m) for o, m in masses.items() if m is not None}


def _organs(model: Model) -> list[str]:
    """Regions with a mass, in order; a host by itself has no regions, so there all masses count."""
    regions = dict.fromkeys(c.region for c in model.compartments.values())
    named = [n.removeprefix("mass_") for n in model.parameters if n.startswith("mass_")]
    if regions:
        return [n for n in named if n in regions]
    return [n for n in named if not n.startswith(("ref_", "exp_"))]


def _of_host(model: Model, name: str, who: str) -> Parameter:
    p = model.parameters.get(name)
    if p is None:
        if name == "body_mass":
            raise ModelError(f"{who}: the model has no body_mass; put it together with a host, such as 'adult_male'")
        raise ModelError(f"{who}: nothing in this model depends on {name}, so it cannot be given; leave it out")
    return p


def _given(model: Model, name: str, said: str | float, who: str) -> Parameter:
    p = _of_host(model, name, who)
    if isinstance(said, str):
        read = _read(said, f"{who}: {name}")
        if read.dimension != dimension(p.unit):
            raise UnitError(
                f"{who}: {name} = {said!r} is {read.dimension}; it is {dimension(p.unit)}, written for example in "
                f"{p.unit!r}"
            )
        value = read.value / factor(p.unit)
    else:
        value = float(said)
    return _known(p, value)


def _read(text: str, who: str) -> Quantity:
    """A number with its unit; a pure number may stand alone."""
    try:
        return quantity(f"{float(text)} 1", who)
    except ValueError:
        return quantity(text, who)


def _known(p: Parameter, value: float) -> Parameter:
    """The parameter with a value that is this person's: no formula and no spread."""
    return replace(p, value=value, formula=None, cv=None, source=_SOURCE, status="derived")


def _organ(model: Model, organ: str, text: str, body: float, who: str) -> Parameter:
    """The mass of an organ from its mass or volume."""
    known = _organs(model)
    if organ not in known:
        raise ModelError(f"{who}: no organ {organ!r}{did_you_mean(organ, known)}; known: {', '.join(known)}")
    if organ == _REST:
        raise ModelError(f"{who}: rest is what no other organ is; give body_mass and the organs that were measured")
    if organ == "adipose" and "lean_mass" in model.parameters:
        raise ModelError(f"{who}: adipose tissue is what lean mass leaves of the body; give lean_mass instead")
    if not isinstance(text, str):
        raise UnitError(f"{who}: {organ} = {text!r} has no unit; write for example '1.6 L' or '290 g'")
    read = quantity(text, f"{who}: {organ}")
    mass = read.value
    if read.dimension == dimension("L"):
        density = number(f"density_{organ}", model.parameters, {}) if f"density_{organ}" in model.parameters else None
        if density is None:
            raise ModelError(f"{who}: {organ} = {text!r}: the model has no density of {organ}; give its mass in g")
        mass *= float(density)
    elif read.dimension != dimension("g"):
        raise UnitError(f"{who}: {organ} = {text!r} is {read.dimension}; give a volume or a mass, such as '1.6 L'")
    if not mass > 0:
        raise ModelError(f"{who}: {organ} = {text!r}; an organ weighs more than nothing")
    if mass >= body:
        raise ModelError(f"{who}: {organ} = {text!r} is {mass:.4g} g, and the whole body {body:.4g} g")
    p = model.parameters[f"mass_{organ}"]
    return _known(p, mass / factor(p.unit))


def _fits(model: Model, new: Mapping[str, Parameter], body: float, who: str) -> None:
    """Organs, tumours and blood must leave something of the body."""
    parameters = {**model.parameters, **new}
    known: dict[str, Any] = {}

    def mass(name: str) -> float:
        value = number(name, parameters, known)
        return 0.0 if value is None else float(value)

    organs = {o: mass(f"mass_{o}") for o in _organs(model) if o != _REST}
    total = sum(organs.values())
    left = mass(f"mass_{_REST}") if f"mass_{_REST}" in parameters else body - total
    if total < body and left > 0:
        return
    largest = sorted(organs, key=lambda o: -organs[o])[:4]
    listed = ", ".join(f"{o} {organs[o]:.4g} g" for o in largest)
    raise ModelError(
        f"{who}: organs, blood and gut contents weigh {body - min(left, body - total):.5g} g, the body {body:.5g} g "
        f"({listed}, ...); give a larger body_mass, a smaller lean_mass or smaller organs"
    )
