"""Agents beside what was published of them: doses, time-integrated activity, half-lives, content over time.

An agent is loaded, given as its file says, and followed until its activity is gone. Doses are self-doses; what photons
from elsewhere could add at most is bounded, so that a reader sees whether a missing dose can be that. Nothing is
adjusted here, and nothing is left out because it does not fit.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .agents import load_agent, regimen_of
from .dosimetry.cross_dose import cross_dose_bound
from .dosimetry.s_values import Daughters, s_self
from .errors import LibraryError, PkmodelError, did_you_mean
from .library import library_root
from .model import Model
from .nuclides import nuclide
from .parts import VOIDED, WHOLE_BODY
from .simulation import simulate
from .units import dimension, factor

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

QUANTITIES = ("dose", "dose ratio", "TIAC", "effective half-life", "biological half-life", "content", "SUV")
BLOOD = ("blood", "plasma")
BLOOD_DENSITY = 1.06  # g/mL, ICRP 89
HALF_LIVES = 10.0
FACTOR = 2.0  # within which a number without a published spread counts as met
_TEXT = ("agent", "region", "quantity", "unit", "n", "of", "status", "source", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One published number of an agent.

    Parameters
    ----------
    agent : file of `models/agents` [text]
    region : observable of the model, ``whole_body`` or ``blood`` [text]
    quantity : one of `QUANTITIES` [text]
    value, sd, low, high : mean or median, standard deviation, printed range; nan where not printed
    unit : mGy/MBq, h, %IA or 1 [text]
    n : number of people as printed [text]
    from_h, until_h : time, or stretch of time a half-life was fitted over [h]
    of : agent that a ratio is to [text]
    status : ``published`` or ``unverified`` [text]
    source, note : citation; what a reader must know [text]
    """

    agent: str
    region: str
    quantity: str
    value: float
    unit: str
    sd: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: str = ""
    from_h: float = math.nan
    until_h: float = math.nan
    of: str = ""
    status: str = "published"
    source: str = ""
    note: str = ""

    @property
    def band(self) -> tuple[float, float]:
        """What counts as inside: the wider of mean +- 2 SD and the printed range; nan where neither was printed."""
        lows = [x for x in (self.low, self.value - 2 * self.sd) if not math.isnan(x)]
        highs = [x for x in (self.high, self.value + 2 * self.sd) if not math.isnan(x)]
        return (max(min(lows), 0.0), max(highs)) if lows and highs else (math.nan, math.nan)

    @property
    def what(self) -> str:
        """Quantity with its time, as a table says it."""
        if self.quantity.endswith("half-life"):
            return f"{self.quantity}, {self.from_h:g} to {self.until_h:g} h"
        at = "" if math.isnan(self.from_h) else f" at {self.from_h:g} h"
        return f"{self.quantity}{at}" + (f" to {self.of}" if self.of else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A published number with the model's."""

    fact: Fact
    got: float
    bound: float = math.nan  # of the cross-dose that is missing, in the unit of the fact
    reason: str = ""

    @property
    def ratio(self) -> float:
        """Model over published."""
        return self.got / self.fact.value if self.fact.value else math.nan

    @property
    def inside(self) -> bool | None:
        """Whether it lies in the published spread; None where none was printed."""
        low, high = self.fact.band
        return None if math.isnan(low) else low <= self.got <= high

    @property
    def met(self) -> bool:
        """Inside the spread or, where none was printed, within a factor 2."""
        inside = self.inside
        return inside if inside is not None else 1 / FACTOR <= self.ratio <= FACTOR


def facts(path: Path | str | None = None) -> tuple[Fact, ...]:
    """Read published facts.

    Parameters
    ----------
    path : of a CSV file; default ``models/agents/published.csv`` [text]

    Raises
    ------
    LibraryError
        A column is missing, a quantity is not known, or a number cannot be read; with its line.
    """
    place = library_root().joinpath("models", "agents", "published.csv") if path is None else Path(path)
    lines = [x for x in place.read_text(encoding="utf-8").splitlines() if x and not x.startswith("#")]
    out = []
    for k, r in enumerate(csv.DictReader(lines), start=1):
        who = f"{place.name}, row {k} ({r.get('agent')} {r.get('region')})"
        if r.get("quantity") not in QUANTITIES:
            raise LibraryError(f"{who}: quantity {r.get('quantity')!r}; allowed: {', '.join(QUANTITIES)}")
        try:
            numbers = {c: float(r[c] or "nan") for c in ("value", "sd", "low", "high", "from_h", "until_h")}
        except (KeyError, ValueError) as error:
            raise LibraryError(f"{who}: {error} is missing or no number") from None
        text = {c: r.get(c) or "" for c in _TEXT}
        out.append(Fact(**text, **numbers))  # type: ignore[arg-type]
    return tuple(out)


@dataclass(frozen=True)
class Followed:
    """One agent's course: activity of every region as a share of what was given, decay included."""

    model: Model
    times: Array
    share: Mapping[str, Array]  # region -> activity over injected activity
    blood: Array  # decay-corrected, %IA/g of blood; nan without the observable plasma
    tiac: Mapping[str, float]  # of the nuclide itself [h]
    chain: Mapping[str, Mapping[str, float]]  # followed daughter -> region -> decays per injected activity [h]

    @property
    def decay(self) -> float:
        """Decay constant of the label [1/h]."""
        return nuclide(self.model.nuclide).decay_constant

    @cached_property
    def values(self) -> dict[str, float]:
        """Parameters in canonical units, formulas worked out."""
        from .requirements import number

        known: dict[str, Any] = {}
        wanted = [*(f"mass_{r}" for r in self.share), "body_mass"]
        found = {n: number(n, self.model.parameters, known) for n in wanted if n in self.model.parameters}
        return {n: float(v) for n, v in found.items() if v is not None}

    def mass(self, region: str) -> float:
        """Mass of a region [g]; nan where the model does not say."""
        name = "body_mass" if region == WHOLE_BODY else f"mass_{region}"
        return self.values.get(name, math.nan)


def follow(agent: str) -> Followed:
    """Give an agent as its file says, once, and follow it until its activity is gone.

    Raises
    ------
    LibraryError, ModelError, SimulationError
        The agent does not load or cannot be followed.
    """
    model = load_agent(agent)
    plan = regimen_of(model)
    if len(plan.administrations) > 1:
        first = plan.administrations[0]
        plan = type(plan).of(first, nuclide=model.nuclide)
    one = nuclide(model.nuclide)
    times = np.concatenate([[0.0], np.geomspace(1 / 30, HALF_LIVES * one.half_life, 160)])
    times = np.unique(np.concatenate([times, [t for t in (1, 2, 4, 24, 48, 72, 96, 168) if t < times[-1]]]))
    run = simulate(model, plan, times, rtol=1e-7)
    given = plan.activity
    active = [o for o in model.observables.values() if dimension(o.unit) == dimension("MBq")]
    own = [o.name for o in active if (o.nuclide or model.nuclide) == model.nuclide]
    share = {o: run[o].to_numpy() * factor(model.observables[o].unit) / given for o in own}
    inside = {o: float(run[f"integral_{o}"][-1]) * factor(model.observables[o].unit) / given for o in own}
    tiac = {o: inside[o] + float(share[o][-1]) / one.decay_constant for o in own}
    chain: dict[str, dict[str, float]] = {}
    for o in active:
        if o.name in own or not o.nuclide:
            continue
        region = o.name.removesuffix(f"_{o.nuclide.replace('-', '')}")
        total = float(run[f"integral_{o.name}"][-1]) * factor(o.unit) / given
        chain.setdefault(o.nuclide, {})[region] = total
    blood = np.full(times.size, np.nan)
    if "plasma" in model.observables:
        unit = model.observables["plasma"].unit
        if dimension(unit) == dimension("MBq/L"):
            hct = model.parameters["Hct"].value if "Hct" in model.parameters else 0.0
            per_ml = run["plasma"].to_numpy() * factor(unit) / 1000.0 * (1.0 - (hct or 0.0))
            blood = 100.0 * per_ml / given / BLOOD_DENSITY * np.exp(one.decay_constant * times)
    return Followed(model, times, share, blood, tiac, chain)


def dose(course: Followed, region: str) -> float:
    """Self-dose of a region per injected activity, followed daughters where they decay [mGy/MBq]."""
    mass = course.mass(region)
    if region not in course.tiac or not mass > 0:
        return math.nan
    organ = "body" if region == WHOLE_BODY else region
    parent = course.model.nuclide
    how: Daughters = "none" if course.chain else "equilibrium"
    total = course.tiac[region] * s_self(parent, mass, organ=organ, daughters=how).value
    for name, parts in course.chain.items():
        total += parts.get(region, 0.0) * s_self(name, mass, organ=organ, daughters="none").value
    return 1000.0 * total


def bound(course: Followed, region: str) -> float:
    """Most that photons from all other regions can add [mGy/MBq]; nan where masses are not known."""
    body = course.mass(WHOLE_BODY)
    organs = [o for o in course.tiac if o not in (WHOLE_BODY, "blood", *VOIDED) and course.mass(o) > 0]
    if region == WHOLE_BODY or region not in organs or not body > 0:
        return math.nan
    activity = {o: course.tiac[o] for o in organs}
    whole = course.tiac.get(WHOLE_BODY, 1.0 / course.decay)
    return 1000.0 * cross_dose_bound(
        region,
        {o: course.mass(o) for o in organs},
        activity,
        course.model.nuclide,
        remainder_tia=max(whole - sum(activity.values()), 0.0),
        body_mass_g=max(body, 1.001 * sum(course.mass(o) for o in organs)),
        daughters="equilibrium",
    )


def evaluate(fact: Fact, courses: Mapping[str, Followed]) -> Row:
    """The model's number beside a published one; nan with a reason where the model does not have it.

    Parameters
    ----------
    fact : published
    courses : agent -> its course, from `follow`; the agent of a ratio's denominator too
    """
    course = courses[fact.agent]
    region = fact.region
    if region not in course.share and region not in BLOOD:
        return Row(fact=fact, got=math.nan, reason=f"the model has no region {region}")
    if fact.quantity == "dose":
        got, missing = dose(course, region), bound(course, region)
        return Row(fact=fact, got=got, bound=missing, reason=_why_dose(fact, got, missing, course))
    if fact.quantity == "dose ratio":
        return Row(fact=fact, got=dose(course, region) / dose(courses[fact.of], region), reason="self-doses")
    if fact.quantity == "TIAC":
        return Row(fact=fact, got=course.tiac.get(region, math.nan))
    if fact.quantity.endswith("half-life"):
        return Row(fact=fact, got=half_life(course, region, fact))
    if fact.quantity == "content":
        at = float(np.interp(fact.from_h, course.times, course.share[region]))
        grown = 1.0 if "not decay-corrected" in fact.note else math.exp(course.decay * fact.from_h)
        return Row(fact=fact, got=100.0 * at * grown)
    if region == "blood":
        per_gram = float(np.interp(fact.from_h, course.times, course.blood))
    else:
        at = float(np.interp(fact.from_h, course.times, course.share[region]))
        per_gram = 100.0 * at * math.exp(course.decay * fact.from_h) / course.mass(region)
    return Row(fact=fact, got=per_gram / 100.0 * course.mass(WHOLE_BODY))


def half_life(course: Followed, region: str, fact: Fact) -> float:
    """Half-life of the line through the logarithm of activity between two times [h]."""
    biological = fact.quantity == "biological half-life"
    if region in BLOOD:
        values = course.blood * (1.0 if biological else np.exp(-course.decay * course.times))
    else:
        values = course.share[region] * (np.exp(course.decay * course.times) if biological else 1.0)
    t = np.linspace(fact.from_h, fact.until_h, 7)
    y = np.interp(t, course.times, np.log(np.maximum(values, 1e-300)))
    slope = float(np.polyfit(t, y, 1)[0])
    return math.log(2.0) / -slope if slope < 0 else math.inf


def _why_dose(fact: Fact, got: float, missing: float, course: Followed) -> str:
    """What is known of a self-dose that misses."""
    row = Row(fact=fact, got=got)
    if math.isnan(got):
        return "no mass in the model"
    said = []
    low = fact.band[0] if not math.isnan(fact.band[0]) else fact.value / FACTOR
    if got < low and math.isfinite(missing):
        covers = "could close it" if got + missing >= low else "cannot close it"
        said.append(f"self-dose; photons from elsewhere at most {100 * missing / fact.value:.0f} % of it, {covers}")
    if fact.region == "red_marrow" and got > fact.value:
        said.append("marrow: energy counted where emitted, an upper bound")
    return "; ".join(said) if not row.met else ""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Validation:
    """All rows, and agents that could not be followed.

    Parameters
    ----------
    rows : published numbers with the model's
    failed : agent -> why it was not followed
    """

    rows: tuple[Row, ...]
    failed: Mapping[str, str]

    @property
    def agents(self) -> tuple[str, ...]:
        """Agents with at least one row."""
        return tuple(dict.fromkeys(r.fact.agent for r in self.rows))

    def table(self) -> pd.DataFrame:
        """One row for each published number."""
        import pandas as pd

        return pd.DataFrame(
            {
                "agent": [r.fact.agent for r in self.rows],
                "region": [r.fact.region for r in self.rows],
                "quantity": [r.fact.what for r in self.rows],
                "published": [r.fact.value for r in self.rows],
                "low": [r.fact.band[0] for r in self.rows],
                "high": [r.fact.band[1] for r in self.rows],
                "unit": [r.fact.unit for r in self.rows],
                "model": [r.got for r in self.rows],
                "ratio": [r.ratio for r in self.rows],
                "inside": [r.inside for r in self.rows],
                "met": [r.met for r in self.rows],
                "cross-dose at most": [r.bound for r in self.rows],
                "reason": [r.reason for r in self.rows],
                "status": [r.fact.status for r in self.rows],
                "source": [r.fact.source for r in self.rows],
            }
        )


def validate(
    agents: Sequence[str] | None = None,
    *,
    path: Path | str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Validation:
    """Set agents beside what was published of them.

    Parameters
    ----------
    agents : names; default all with published facts [text]
    path : of the facts, default those of the library [text]
    progress : called with a sentence before each agent

    Raises
    ------
    LibraryError
        An agent has no published facts here.
    """
    every = facts(path)
    known = list(dict.fromkeys(f.agent for f in every))
    wanted = list(agents) if agents else known
    if absent := [a for a in wanted if a not in known]:
        raise LibraryError(
            f"agent {absent[0]!r}{did_you_mean(absent[0], known)}: no published facts; there are some of: "
            f"{', '.join(known)}"
        )
    chosen = [f for f in every if f.agent in wanted]
    courses: dict[str, Followed] = {}
    failed: dict[str, str] = {}
    for name in dict.fromkeys([*(f.agent for f in chosen), *(f.of for f in chosen if f.of)]):
        if progress:
            progress(name)
        try:
            courses[name] = follow(name)
        except PkmodelError as error:
            failed[name] = str(error)
    rows = [evaluate(f, courses) for f in chosen if f.agent in courses and (not f.of or f.of in courses)]
    return Validation(tuple(replace(r, reason=_known(r)) for r in rows), failed)


def _known(row: Row) -> str:
    """Reason of a miss, with what the table of facts says."""
    words = [w for w in (row.reason, row.fact.note) if w]
    return "; ".join(dict.fromkeys(words))
