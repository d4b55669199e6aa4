"""One dosing record of NONMEM as an administration: EVID, AMT, RATE, II, ADDL, SS and CMT, checked together.

The rules are those of ICON's NONMEM Users Guide VI, ch. V, and of the help pages of the data items. EVID 0 is an
observation, 1 a dose, 2 any other event, 3 a reset, 4 a reset and a dose. RATE -1 is a rate and -2 a duration that the
model knows as a parameter, by NONMEM's name R1 or D1 unless the `Route` says another. SS 1 replaces what is there by
the steady state, 2 adds it. How they are carried out says `pkmodel.events`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..model import Model
from ..regimen import Administration

STEADY = {0: "", 1: "replace", 2: "add"}


@dataclass(frozen=True, slots=True)
class Route:
    """Where the doses into one compartment number go, and the parameters that act on them.

    Parameters
    ----------
    name : route of the model; "" is its first [text]
    lag, fraction : names of the parameters that NONMEM calls ALAG<n> and F<n>; "" where the model has them itself
    duration, rate : names of the parameters for RATE -2 and -1; default D<n> and R<n> [text]
    """

    name: str = ""
    lag: str = ""
    fraction: str = ""
    duration: str = ""
    rate: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """The numbers of one record, in canonical units; NaN where the file says nothing."""

    time: float  # [h]
    evid: int
    amount: float  # in `unit`
    rate: float  # [unit/h], or -1, -2
    interval: float  # [h]
    additional: float
    steady: float
    compartment: int | None
    unit: str  # of the dose: MBq, nmol or g


def wrong(e: Event) -> str:
    """What is wrong with the items of a record together, empty where nothing is."""
    amount, rate, ii, addl, ss = (
        0.0 if math.isnan(x) else x for x in (e.amount, e.rate, e.interval, e.additional, e.steady)
    )
    if ss not in STEADY:
        return f"SS is {ss:g}; allowed: 0, 1 (replaces what is there), 2 (is added to it)"
    if addl != int(addl):
        return f"ADDL is {addl:g}; allowed: a whole number of further doses"
    addl = max(addl, 0)  # NONMEM takes a negative number for none
    if e.evid in (0, 2, 3):
        for name, value in (("AMT", amount), ("RATE", rate), ("SS", ss), ("ADDL", addl)):
            if value:
                return f"{name} is not 0 but EVID {e.evid} is no dose; allowed: 0, or EVID 1 or 4 for a dose"
        return ""
    constant = bool(ss) and amount == 0 and rate > 0
    if amount == 0 and not constant:
        return "a dose record without a dose: AMT is 0; allowed: AMT above 0, or SS with a RATE (a constant infusion)"
    if constant and ii:
        return "a constant infusion (SS, AMT 0, RATE above 0) has an interval II; allowed: 0"
    if constant and addl:
        return f"a constant infusion (SS, AMT 0) has ADDL {addl:g}; allowed: 0"
    if ss and not constant and not ii:
        return f"SS is {ss:g} without II; a steady state needs the interval of its doses"
    if addl and not ii:
        return f"ADDL is {addl:g} without II; repeated doses need their interval"
    if ii and not ss and not addl:
        return "II without SS or ADDL; say ADDL (how many more doses), or SS 1 or 2, or make II 0"
    return ""


def route_of(
    e: Event, routes: Mapping[int, str | Route] | None, model: Model | None, several: bool
) -> tuple[Route, str]:
    """The route of a dose and, where there is none, what is wrong.

    Parameters
    ----------
    e : a dose
    routes : by number of the compartment, as the user said
    model : whose compartments are numbered in their order
    several : whether doses of the file go into more than one number
    """
    n = e.compartment
    if routes is not None:
        if n is None and len(routes) == 1:
            n = next(iter(routes))
        if n is None or n not in routes:
            known = ", ".join(f"{k}: {v if isinstance(v, str) else v.name!r}" for k, v in routes.items())
            return Route(), f"CMT {'is missing' if n is None else n}; routes are known of {known}"
        given = routes[n]
        found = Route(given) if isinstance(given, str) else given
        if model is not None and found.name and found.name not in model.routes:
            return Route(), f"CMT {n} is route {found.name!r}; {model.name} has {', '.join(model.routes)}"
    elif n is None:
        found = Route()
    elif model is not None:
        names = list(model.compartments)
        if not 1 <= n <= len(names):
            return Route(), f"CMT {n}; {model.name} has {', '.join(f'{k} {c}' for k, c in enumerate(names, 1))}"
        whole = [r for r, parts in model.administration.items() if list(parts) == [names[n - 1]]]
        found = Route(whole[0] if len(whole) == 1 else names[n - 1])
    elif several:
        return Route(), f"CMT {n}; doses go into several compartments: say routes={{{n}: 'oral', ...}} or model="
    else:
        found = Route()
    number = 1 if n is None else n
    found = replace(found, duration=found.duration or f"D{number}", rate=found.rate or f"R{number}")
    if model is not None:
        wanted = {"lag": found.lag, "fraction": found.fraction}
        wanted |= {"duration": found.duration} if e.rate == -2 else {"rate": found.rate} if e.rate == -1 else {}
        for what, name in wanted.items():
            if name and name not in model.parameters:
                why = {"duration": "RATE -2 needs", "rate": "RATE -1 needs"}.get(what, f"the {what} of CMT {number} is")
                return Route(), (
                    f"{why} a parameter {name}, which {model.name} has not; known: {', '.join(model.parameters)}; say "
                    f"another with routes={{{number}: Route({found.name!r}, {what}='...')}}"
                )
    return found, ""


def administrations(e: Event, route: Route) -> list[Administration]:
    """What a dosing record orders: the first dose, and each that ADDL adds."""
    if e.evid == 3:
        return [Administration(e.time, reset=True)]
    rate = 0.0 if math.isnan(e.rate) else e.rate
    steady = STEADY[0 if math.isnan(e.steady) else int(e.steady)]
    amount = 0.0 if math.isnan(e.amount) else e.amount
    first = Administration(
        e.time,
        into=route.name,
        rate=route.rate if rate == -1 else max(rate, 0.0),
        duration=route.duration if rate == -2 else 0.0,
        lag=route.lag or 0.0,
        fraction=route.fraction or 1.0,
        steady=steady,
        every=0.0 if math.isnan(e.interval) or not steady else e.interval,
        reset=e.evid == 4,
    ).giving(amount, e.unit)
    more = 0 if math.isnan(e.additional) else max(int(e.additional), 0)
    later = replace(first, ordered=e.time, steady="", every=0.0, reset=False)
    return [first, *(replace(later, time=e.time + k * e.interval) for k in range(1, more + 1))]
