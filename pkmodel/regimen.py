"""What is given, when, where and how: each administration carries activity (dose depends on it) and amount
(saturation depends on it), or a mass for a drug whose amounts are weighed.

A lag, a duration, a rate or a fraction absorbed may be a number or the name of a parameter of the model. Repeated
doses, steady states and resets mean what they mean in NONMEM's event records (ICON, NONMEM Users Guide VI, ch. V);
`events` says how they are carried out and where other programs differ.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from .errors import SimulationError
from .nuclides import nuclide as find_nuclide
from .units import dimension, quantity

STEADY = ("", "replace", "add")


@dataclass(frozen=True, slots=True)
class Administration:
    """One dose; `duration` 0 is a bolus. A text in place of a number names a parameter of the model.

    With `steady` the dose is the last of a series, one every `every` hours since ever: the state that this series
    leaves behind replaces what is there, or is added to it. A dose of zero with a rate is a constant infusion, on
    since ever and off at `time`. `reset` empties the body first, and cancels what is still to come of earlier orders.
    """

    time: float  # of the order [h]
    activity: float | None = None  # [MBq]
    amount: float | None = None  # all ligand, hot and cold [nmol]
    duration: float | str = 0.0  # [h]
    into: str = ""  # route of the model; default its first
    rate: float | str = 0.0  # instead of a duration [`unit` per h]
    lag: float | str = 0.0  # from the order until the dose begins to enter [h]
    fraction: float | str = 1.0  # of the dose that enters at all
    steady: str = ""  # one of STEADY
    every: float = 0.0  # interval of the series in steady state [h]
    reset: bool = False
    ordered: float | None = None  # when a repeated dose was ordered, where that is not its own time [h]
    mass: float | None = None  # of a drug that is weighed, instead of an amount [g]

    @property
    def given(self) -> float:
        """The dose, in `unit`."""
        return next((x for x in (self.activity, self.amount, self.mass) if x is not None), 0.0)

    @property
    def unit(self) -> str:
        """Unit of the dose: MBq where an activity is given, g where a mass is, else nmol."""
        return "MBq" if self.activity is not None else "g" if self.mass is not None and self.amount is None else "nmol"

    def giving(self, dose: float, unit: str) -> Administration:
        """The same with another dose, in MBq, nmol or g."""
        if unit == "MBq":
            return replace(self, activity=dose)
        return replace(self, mass=dose) if unit == "g" else replace(self, amount=dose)

    @property
    def constant(self) -> bool:
        """Whether it is a constant infusion that has run since ever."""
        return bool(self.steady) and not self.every

    @property
    def order(self) -> float:
        """When it was ordered: a reset cancels what was ordered before [h]."""
        return self.time if self.ordered is None else self.ordered

    @property
    def end(self) -> float:
        """When all of it is in, as far as the numbers say; what a parameter says counts as zero [h]."""
        lag, duration, rate = (0.0 if isinstance(x, str) else x for x in (self.lag, self.duration, self.rate))
        fraction = 1.0 if isinstance(self.fraction, str) else self.fraction
        return self.time + lag + (fraction * self.given / rate if rate else duration)

    def __str__(self) -> str:
        unit = self.unit
        what = [f"{self.activity:g} MBq"] if self.activity is not None else []
        what += [f"{self.amount:g} nmol"] if self.amount is not None else []
        what += [f"{1e3 * self.mass:.10g} mg"] if self.mass is not None else []
        dose = " / ".join(what) or "nothing"
        if self.constant:
            dose = f"{_said(self.rate, f'{unit}/h')} at steady state"
        elif self.reset and not what:
            return f"reset at {self.time:g} h"
        how = f" over {_said(self.duration, 'h')}" if self.duration else ""
        how += f" rate {_said(self.rate, f'{unit}/h')}" if self.rate and not self.constant else ""
        if self.every:
            how += f" every {self.every:g} h at {'added ' if self.steady == 'add' else ''}steady state"
        how += f" fraction {_said(self.fraction, '')}" if self.fraction != 1.0 else ""
        how += f" lag {_said(self.lag, 'h')}" if self.lag else ""
        return f"{'reset and ' if self.reset else ''}{dose}{how} at {self.time:g} h"


def _said(value: float | str, unit: str) -> str:
    return value if isinstance(value, str) else f"{value:g} {unit}".rstrip()


_TEXT = re.compile(
    r"^(?P<reset>reset\s+and\s+)?"
    r"(?P<dose>[^x]+?)"
    r"(?:\s+over\s+(?P<over>.+?))?"
    r"(?:\s+rate\s+(?P<rate>.+?))?"
    r"(?:\s+(?P<once>once)|\s+every\s+(?P<every>.+?)(?:\s+x\s*(?P<times>\d+))?)?"
    r"(?:\s+at\s+(?P<steady>steady state|added steady state))?"
    r"(?:\s+fraction\s+(?P<fraction>\S+))?"
    r"(?:\s+lag\s+(?P<lag>.+?))?"
    r"(?:\s+(?:from|at)\s+(?P<start>.+?))?"
    r"(?:\s+into\s+(?P<into>\w+))?$"
)
_RESET = re.compile(r"^reset(?:\s+at\s+(?P<start>.+?))?$")
_NAME = re.compile(r"[A-Za-z]\w*")
_BOTH = re.compile(r"\s/\s(?=[\d.])")  # '7400 MBq / 10 nmol'


class Regimen:
    """A schedule of administrations.

    Parameters
    ----------
    text : ``"7.4 GBq once"``, ``"7.4 GBq every 8 wk x 4"``, ``"10 nmol over 30 min every 12 h x 5"``, ``"300 mg
        once"`` for models of a drug that is weighed, optionally
        ``... at 2 h`` or ``... into depot``; ``... over D1``, ``... rate 5 nmol/h``, ``... fraction 0.8`` and
        ``... lag tlag``, each with a number or a parameter's name; ``"10 nmol every 12 h at steady state"``;
        ``"5 nmol/h at steady state"``; ``"reset at 50 h"``; several joined by ``;`` [text]
    nuclide : checked against the model's label [text]
    amount : ligand in each administration, hot and cold together, e.g. ``"10 nmol"`` [text]
    into : route of the model; default its first [text]

    Raises
    ------
    SimulationError
        The text does not read as a schedule.
    UnitError
        A unit is unknown or of the wrong dimension.
    """

    __slots__ = ("administrations", "nuclide", "text")

    def __init__(self, text: str, *, nuclide: str = "", amount: str | None = None, into: str = "") -> None:
        if not isinstance(text, str):
            raise _unreadable(text)
        read = [a for part in text.split(";") for a in _read(part.strip(), amount, into)]
        self.text = text
        self.nuclide = find_nuclide(nuclide).name if nuclide else ""
        self.administrations: tuple[Administration, ...] = tuple(sorted(read, key=lambda a: a.time))
        _check(self.administrations)

    @classmethod
    def of(cls, *administrations: Administration, nuclide: str = "") -> Regimen:
        """A regimen of explicit administrations, in order of time."""
        made = cls.__new__(cls)
        made.administrations = tuple(sorted(administrations, key=lambda a: a.time))
        made.nuclide = find_nuclide(nuclide).name if nuclide else ""
        made.text = "; ".join(map(str, made.administrations))
        _check(made.administrations)
        return made

    @classmethod
    def nothing(cls) -> Regimen:
        """No administration: the model is driven by inputs."""
        return cls.of()

    def __add__(self, other: Regimen) -> Regimen:
        if self.nuclide and other.nuclide and self.nuclide != other.nuclide:
            raise SimulationError(f"{self} is {self.nuclide}, {other} is {other.nuclide}; a regimen has one nuclide")
        return Regimen.of(*self.administrations, *other.administrations, nuclide=self.nuclide or other.nuclide)

    def shifted(self, text: str) -> Regimen:
        """The same schedule later, e.g. ``regimen.shifted("2 h")``."""
        late = _hours(text, self.text)
        moved = (
            replace(a, time=a.time + late, ordered=None if a.ordered is None else a.ordered + late)
            for a in self.administrations
        )
        return Regimen.of(*moved, nuclide=self.nuclide)

    @property
    def activity(self) -> float:
        """Activity given in all [MBq]."""
        return sum(a.activity or 0.0 for a in self.administrations)

    @property
    def end(self) -> float:
        """When the last dose is in, as far as the numbers say [h]."""
        return max((a.end for a in self.administrations), default=0.0)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Regimen):
            return NotImplemented
        return (self.administrations, self.nuclide) == (other.administrations, other.nuclide)

    def __hash__(self) -> int:
        return hash((self.administrations, self.nuclide))

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Regimen({self.text!r})"


def _unreadable(text: object) -> SimulationError:
    return SimulationError(
        f"regimen {text!r} does not read as a schedule; write '7.4 GBq once', '7.4 GBq every 8 wk x 4', "
        "'10 nmol over 30 min every 12 h x 5', '10 nmol every 12 h at steady state' or 'reset at 50 h'"
    )


def _read(text: str, amount: str | None, into: str) -> list[Administration]:
    """The administrations of one schedule."""
    if alone := _RESET.match(text):
        return [Administration(_hours(alone["start"], text) if alone["start"] else 0.0, reset=True)]
    match = _TEXT.match(text)
    if match is None:
        raise _unreadable(text)
    activity, ligand, mass, rate = _dose(match["dose"], text)
    if amount is not None:
        if ligand is not None or mass is not None:
            raise SimulationError(f"regimen {text!r} gives an amount twice")
        ligand = _dose(amount, text)[1]
        if ligand is None:
            raise SimulationError(f"regimen {text!r}: amount {amount!r} is not an amount of substance")
    count = int(match["times"]) if match["times"] else 1
    every = _hours(match["every"], text) if match["every"] else 0.0
    steady = {None: "", "steady state": "replace", "added steady state": "add"}[match["steady"]]
    if count < 1 or ((count > 1 or match["every"]) and every <= 0):
        raise SimulationError(f"regimen {text!r}: the number of doses and the interval must be positive")
    if every and not (match["times"] or steady):
        raise SimulationError(f"regimen {text!r}: say how often, 'every 8 wk x 4', or 'every 12 h at steady state'")
    if rate and (not steady or every):
        raise SimulationError(f"regimen {text!r}: {match['dose']} is a rate; write '{match['dose']} at steady state'")
    if match["into"] and into not in ("", match["into"]):
        raise SimulationError(f"regimen {text!r} goes into {match['into']!r}, but into={into!r} is asked for")
    start = _hours(match["start"], text) if match["start"] else 0.0
    first = Administration(
        time=start,
        activity=activity,
        amount=ligand,
        duration=_hours_or_name(match["over"], text),
        into=into or match["into"] or "",
        rate=rate or _rate_or_name(match["rate"], Administration(0.0, activity, ligand, mass=mass).unit, text),
        lag=_hours_or_name(match["lag"], text),
        fraction=_fraction_or_name(match["fraction"], text),
        steady=steady,
        every=every if steady else 0.0,
        reset=match["reset"] is not None,
        mass=mass,
    )
    later = replace(first, steady="", every=0.0, reset=False, ordered=start)
    return [first, *(replace(later, time=start + k * every) for k in range(1, count))]


def _check(administrations: tuple[Administration, ...]) -> None:
    """Refuse numbers and combinations that mean nothing."""
    for a in administrations:
        doses = (a.activity or 0.0, a.amount or 0.0, a.mass or 0.0)
        numbers = (a.time, a.duration, *doses, a.rate, a.lag, a.fraction, a.every, a.order)
        if not all(isinstance(x, str) or 0 <= x < math.inf for x in numbers):
            raise SimulationError(f"regimen: {a}: times, durations and doses must be finite and not negative")
        if a.mass is not None and (a.activity is not None or a.amount is not None):
            raise SimulationError(f"regimen: {a}: a mass beside an activity or an amount; give one of them")
        if a.steady not in STEADY:
            raise SimulationError(
                f"regimen: {a}: steady {a.steady!r} is not known; allowed: {', '.join(map(repr, STEADY))}"
            )
        if a.duration and a.rate:
            raise SimulationError(f"regimen: {a}: a duration and a rate; give one, the other follows from the dose")
        if a.steady and not a.every and (a.given or not a.rate):
            raise SimulationError(
                f"regimen: {a}: a steady state needs the interval of its doses, or a dose of zero and a rate"
            )
        if a.every and not a.steady:
            raise SimulationError(
                f"regimen: {a}: an interval without a steady state; write out repeated doses one by one"
            )
        if a.order > a.time:
            raise SimulationError(f"regimen: {a}: given before it was ordered, at {a.order:g} h")


def _dose(text: str, whole: str) -> tuple[float | None, float | None, float | None, float]:
    """Activity [MBq], amount [nmol], mass [g] and, of a constant infusion, the rate of one of them, of a text."""
    if len(both := _BOTH.split(text)) == 2:
        activity, ligand = _dose(both[0], whole)[0], _dose(both[1], whole)[1]
        if activity is None or ligand is None:
            raise SimulationError(f"regimen {whole!r}: {text!r} is not 'activity / amount'")
        return activity, ligand, None, 0.0
    read = quantity(text, f"regimen {whole!r}")
    if read.value < 0:
        raise SimulationError(f"regimen {whole!r}: a dose must not be negative")
    for k, unit in enumerate(("MBq", "nmol", "g")):
        dose: list[float | None] = [None, None, None]
        if read.dimension == dimension(unit):
            dose[k] = read.value
            return dose[0], dose[1], dose[2], 0.0
        if read.dimension == dimension(f"{unit}/h"):
            dose[k] = 0.0
            return dose[0], dose[1], dose[2], read.value
    raise SimulationError(
        f"regimen {whole!r}: {text!r} is neither an activity (MBq) nor an amount (nmol) nor a mass (mg)"
    )


def _hours(text: str, whole: str) -> float:
    read = quantity(text, f"regimen {whole!r}")
    if read.dimension != dimension("h"):
        raise SimulationError(f"regimen {whole!r}: {text!r} is not a time")
    if read.value < 0:
        raise SimulationError(f"regimen {whole!r}: {text!r} is negative")
    return read.value


def _hours_or_name(text: str | None, whole: str) -> float | str:
    if text is None:
        return 0.0
    return text if _NAME.fullmatch(text) else _hours(text, whole)


def _rate_or_name(text: str | None, dose_unit: str, whole: str) -> float | str:
    if text is None:
        return 0.0
    if _NAME.fullmatch(text):
        return text
    read, unit = quantity(text, f"regimen {whole!r}"), f"{dose_unit}/h"
    if read.dimension != dimension(unit) or read.value <= 0:
        raise SimulationError(f"regimen {whole!r}: {text!r} is not a positive rate in {unit}")
    return read.value


def _fraction_or_name(text: str | None, whole: str) -> float | str:
    if text is None:
        return 1.0
    if _NAME.fullmatch(text):
        return text
    try:
        value = float(text)
    except ValueError:
        raise SimulationError(f"regimen {whole!r}: fraction {text!r} is neither a number nor a name") from None
    if value < 0:
        raise SimulationError(f"regimen {whole!r}: fraction {text!r} is negative")
    return value
