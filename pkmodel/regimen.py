"""What is given, when, where and how: each administration carries activity (dose depends on it) and amount
(saturation depends on it)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from .errors import SimulationError
from .nuclides import nuclide as find_nuclide
from .units import dimension, quantity


@dataclass(frozen=True, slots=True)
class Administration:
    """One dose; `duration` 0 is a bolus."""

    time: float  # [h]
    activity: float | None = None  # [MBq]
    amount: float | None = None  # all ligand, hot and cold [nmol]
    duration: float = 0.0  # [h]
    into: str = ""  # route of the model; default its first

    def __str__(self) -> str:
        what = [f"{self.activity:g} MBq"] if self.activity is not None else []
        what += [f"{self.amount:g} nmol"] if self.amount is not None else []
        how = f" over {self.duration:g} h" if self.duration else ""
        return f"{' / '.join(what) or 'nothing'}{how} at {self.time:g} h"


_TEXT = re.compile(
    r"^(?P<dose>[^x]+?)"
    r"(?:\s+over\s+(?P<over>.+?))?"
    r"(?:\s+(?P<once>once)|\s+every\s+(?P<every>.+?)\s+x\s*(?P<times>\d+))?"
    r"(?:\s+(?:from|at)\s+(?P<start>.+?))?"
    r"(?:\s+into\s+(?P<into>\w+))?$"
)


class Regimen:
    """A schedule of administrations.

    Parameters
    ----------
    text : ``"7.4 GBq once"``, ``"7.4 GBq every 8 wk x 4"``, ``"10 nmol over 30 min every 12 h x 5"``, optionally
        ``... at 2 h`` or ``... into depot`` [text]
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
        match = _TEXT.match(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise SimulationError(
                f"regimen {text!r} does not read as a schedule; write '7.4 GBq once', '7.4 GBq every 8 wk x 4' or "
                "'10 nmol over 30 min every 12 h x 5'"
            )
        activity, ligand = _dose(match["dose"], text)
        if amount is not None:
            if ligand is not None:
                raise SimulationError(f"regimen {text!r} gives an amount twice")
            _, ligand = _dose(amount, text)
            if ligand is None:
                raise SimulationError(f"regimen {text!r}: amount {amount!r} is not an amount of substance")
        duration = _hours(match["over"], text) if match["over"] else 0.0
        count = int(match["times"]) if match["times"] else 1
        every = _hours(match["every"], text) if match["every"] else 0.0
        start = _hours(match["start"], text) if match["start"] else 0.0
        if count < 1 or (count > 1 and every <= 0):
            raise SimulationError(f"regimen {text!r}: the number of doses and the interval must be positive")
        if match["into"] and into not in ("", match["into"]):
            raise SimulationError(f"regimen {text!r} goes into {match['into']!r}, but into={into!r} is asked for")
        into = into or match["into"] or ""
        self.text = text
        self.nuclide = find_nuclide(nuclide).name if nuclide else ""
        self.administrations: tuple[Administration, ...] = tuple(
            Administration(start + k * every, activity, ligand, duration, into) for k in range(count)
        )

    @classmethod
    def of(cls, *administrations: Administration, nuclide: str = "") -> Regimen:
        """A regimen of explicit administrations, in order of time."""
        made = cls.__new__(cls)
        made.administrations = tuple(sorted(administrations, key=lambda a: a.time))
        made.nuclide = find_nuclide(nuclide).name if nuclide else ""
        made.text = "; ".join(map(str, made.administrations))
        for a in made.administrations:
            if not all(0 <= x < math.inf for x in (a.time, a.duration, a.activity or 0.0, a.amount or 0.0)):
                raise SimulationError(f"{a}: times, durations and doses must be finite and not negative")
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
        return Regimen.of(*(replace(a, time=a.time + late) for a in self.administrations), nuclide=self.nuclide)

    @property
    def activity(self) -> float:
        """Activity given in all [MBq]."""
        return sum(a.activity or 0.0 for a in self.administrations)

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


def _dose(text: str, whole: str) -> tuple[float | None, float | None]:
    """Activity [MBq] or amount [nmol] of a text."""
    read = quantity(text, f"regimen {whole!r}")
    if read.value < 0:
        raise SimulationError(f"regimen {whole!r}: a dose must not be negative")
    if read.dimension == dimension("MBq"):
        return read.value, None
    if read.dimension == dimension("nmol"):
        return None, read.value
    raise SimulationError(f"regimen {whole!r}: {text!r} is neither an activity (MBq) nor an amount (nmol)")


def _hours(text: str, whole: str) -> float:
    read = quantity(text, f"regimen {whole!r}")
    if read.dimension != dimension("h"):
        raise SimulationError(f"regimen {whole!r}: {text!r} is not a time")
    if read.value < 0:
        raise SimulationError(f"regimen {whole!r}: {text!r} is negative")
    return read.value
