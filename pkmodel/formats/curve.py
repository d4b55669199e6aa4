"""One region's time-activity curve, as every reader makes it.

Conventions
-----------
* Times are hours after injection. A sample has ``t_start == t_end``; a frame has ``t_start < t_end`` and its value is
  the AVERAGE over the frame.
* Decay correction refers to injection (t = 0). A frame's average is corrected with the exact in-frame factor
  ``exp(lambda t_start) * lambda T / (1 - exp(-lambda T))``, T the frame's length, which is the usual scanner
  convention (it is exact when the corrected activity does not change within the frame).
* Values stay in the unit they were declared in until `Curve.to_unit`. %IA and SUV refer to the activity injected at
  t = 0, so %IA of a curve that is not decay-corrected falls with the physical half-life even if nothing is lost.
* A curve without a nuclide (a drug in plasma: mg/L, nmol/L) does not decay: corrected or not, it is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..nuclides import nuclide
from ..units import Dimension, convert, dimension, factor, quantity

Array = npt.NDArray[np.float64]

KINDS = ("tissue", "blood", "plasma", "excreta", "field_of_view", "whole_body", "parent_fraction")
"""What a region can be. Only ``tissue`` may receive a dose; ``field_of_view`` is a box with air in it."""

UNITS_ALLOWED = (
    "activity (Bq, kBq, MBq, uCi), per volume (Bq/mL, kBq/mL) or per mass (Bq/g); %IA, %IA/mL, %IA/g (or %ID...); SUV"
)


COLD_UNITS_ALLOWED = "without a nuclide: mass or substance (mg, nmol), per volume (mg/L, ng/mL, nmol/L); 1 or %"

MEASURED, BELOW, ABOVE, MISSING = 0, -1, 1, 2
"""What a value is: measured; a limit it was below; a limit it reached or passed; nothing (the value is NaN)."""


@cache
def _measures() -> dict[Dimension, tuple[str, str]]:
    """Dimension -> (what is counted, per what)."""
    table = {"MBq": ("activity", "total"), "MBq/L": ("activity", "volume"), "MBq/g": ("activity", "mass")}
    table |= {"IA": ("injected", "total"), "IA/L": ("injected", "volume"), "IA/g": ("injected", "mass")}
    table |= {"g/L": ("suv", "volume"), "1": ("fraction", "total")}
    return {dimension(unit): measure for unit, measure in table.items()}


@cache
def _cold_measures() -> dict[Dimension, tuple[str, str]]:
    """As `_measures`, of what is not radioactive: g/L is a concentration here, not an SUV."""
    table = {"nmol": ("substance", "total"), "nmol/L": ("substance", "volume"), "nmol/g": ("substance", "mass")}
    table |= {"g": ("mass", "total"), "g/L": ("mass", "volume"), "1": ("fraction", "total")}
    return {dimension(unit): measure for unit, measure in table.items()}


def measure_of(unit: str, who: str = "", *, radioactive: bool = True) -> tuple[str, str]:
    """What a unit of a curve counts (activity, injected, suv, fraction) and per what (total, volume, mass).

    Parameters
    ----------
    unit : of the curve [text]
    who : named first in the error [text]
    radioactive : whether the curve has a nuclide; without one a unit counts substance, mass or a fraction

    Raises
    ------
    UnitError
        The unit is unknown.
    DataError
        The unit exists but is not one of a time-activity curve.
    """
    dim = dimension(_plain(unit), who)
    found = (_measures() if radioactive else _cold_measures()).get(dim)
    if found is None:
        prefix = f"{who}: " if who else ""
        allowed = UNITS_ALLOWED if radioactive else COLD_UNITS_ALLOWED
        raise DataError(f"{prefix}unit {unit!r} has dimension {dim}; allowed: {allowed}")
    if found[0] == "suv" and factor(_plain(unit)) != factor("g/mL"):
        prefix = f"{who}: " if who else ""
        raise DataError(
            f"{prefix}unit {unit!r} is a mass per volume; of a tracer only SUV (g/mL) is; allowed: {UNITS_ALLOWED}"
        )
    return found


def _plain(unit: str) -> str:
    return "g/mL" if unit.strip().upper() == "SUV" else unit


def decay_factor(decay_constant: float, t_start: npt.ArrayLike, t_end: npt.ArrayLike) -> Array:
    """Factor that turns an uncorrected sample or frame average into one decay-corrected to t = 0.

    Parameters
    ----------
    decay_constant : float [1/h]
    t_start : (n,) array, start of each frame [h]
    t_end : (n,) array, end of each frame, equal to `t_start` for a sample [h]

    Returns
    -------
    (n,) array
        ``exp(lambda t_start) * x / (1 - exp(-x))`` with ``x = lambda (t_end - t_start)`` [1].
    """
    start = np.asarray(t_start, dtype=float)
    x = decay_constant * (np.asarray(t_end, dtype=float) - start)
    in_frame = np.divide(x, -np.expm1(-x), out=np.ones_like(x), where=x > 0)
    return np.asarray(np.exp(decay_constant * start) * in_frame, dtype=float)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """Time-activity curve of one region of one subject; arrays are read-only and share the length n.

    Parameters
    ----------
    subject, region : names [text]
    kind : one of `KINDS` [text]
    t_start, t_end : (n,) arrays, increasing, equal for samples [h]
    value : (n,) array, in `unit`
    sd : (n,) array, spread as the source gives it (`sd_kind` says SD or SEM), NaN where absent, in `unit`
    weights : (n,) array, multipliers of squared residuals, NaN where absent [1/unit^2 up to a scale]
    n : (n,) array, animals or patients behind each value [1]
    unit : unit of value and sd [text]
    decay_corrected : whether values are corrected to injection [bool]
    nuclide : canonical name, such as "Lu-177"; "" for what is not radioactive [text]
    volume : (n,) array, NaN where absent [mL]
    mass : mass of the region, or None [g]
    injected_activity : activity at t = 0, or None where the source does not say [MBq]
    body_mass : or None [g]
    sd_kind : "sd", "sem", or None where there is no spread [text]
    organ : name of the organ for S values, or None [text]
    part_of : region that already contains this one, or None [text]
    rows : line of each value in its source file, from 1 [1]
    source : the file, for messages [text]
    censored : (n,) array of `MEASURED`, `BELOW`, `ABOVE`, `MISSING`; default all measured [1]
    """

    subject: str
    region: str
    kind: str
    t_start: Array
    t_end: Array
    value: Array
    sd: Array
    weights: Array
    n: npt.NDArray[np.int64]
    unit: str
    decay_corrected: bool
    nuclide: str
    volume: Array
    mass: float | None = None
    injected_activity: float | None = None
    body_mass: float | None = None
    sd_kind: str | None = None
    organ: str | None = None
    part_of: str | None = None
    note: str = ""
    rows: tuple[int, ...] = ()
    source: str = ""
    censored: npt.NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, dtype=np.int8))

    def __post_init__(self) -> None:
        if np.size(self.censored) == 0:
            object.__setattr__(self, "censored", np.zeros(np.size(self.value), dtype=np.int8))
        for name in _PER_VALUE:
            array: npt.NDArray[Any] = np.array(getattr(self, name), dtype=_WHOLE.get(name, np.float64))
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @property
    def t(self) -> Array:
        """(n,) middle of each frame, or the sample's time [h]."""
        return np.asarray(0.5 * (self.t_start + self.t_end), dtype=float)

    @property
    def framed(self) -> bool:
        """Whether any value is an average over a frame."""
        return bool(np.any(self.t_end > self.t_start))

    @property
    def standard_error(self) -> Array:
        """(n,) standard error of each value: ``sd/sqrt(n)`` if the source gives SD, as given if it gives SEM."""
        return np.asarray(self.sd if self.sd_kind == "sem" else self.sd / np.sqrt(self.n), dtype=float)

    @property
    def who(self) -> str:
        """How messages name this curve."""
        place = f"{self.source}: " if self.source else ""
        return f"{place}subject {self.subject}, region {self.region}"

    def __len__(self) -> int:
        return len(self.value)

    def take(self, which: npt.NDArray[np.bool_]) -> Curve:
        """Only some of the values.

        Parameters
        ----------
        which : (n,) array, True for those to keep
        """
        kept: dict[str, Any] = {name: getattr(self, name)[which] for name in _PER_VALUE}
        rows = tuple(np.asarray(self.rows)[which].tolist()) if len(self.rows) == len(self) else ()
        return replace(self, rows=rows, **kept)

    def __str__(self) -> str:
        corrected = "decay-corrected to injection" if self.decay_corrected else "not decay-corrected"
        decay = f", {self.nuclide}, {corrected}" if self.nuclide else ""
        lines = [f"{self.region} ({self.kind}), subject {self.subject}{decay}"]
        for i in range(len(self)):
            when = f"{self.t_start[i]:.6g}"
            if self.t_end[i] > self.t_start[i]:
                when += f" to {self.t_end[i]:.6g}"
            spread = f" +- {self.sd[i]:.4g}" if np.isfinite(self.sd[i]) else ""
            lines.append(f"  {when:>20} h  {_said(self.value[i], int(self.censored[i]))}{spread} {self.unit}")
        return "\n".join(lines)

    def replace(self, **changes: Any) -> Curve:
        """A copy with some fields changed."""
        if "value" in changes and "censored" not in changes and not self.censored.any():
            changes["censored"] = self.censored[:0]  # all measured, however many they are now
        return replace(self, **changes)

    def decay_correct(self) -> Curve:
        """The same curve corrected for decay to injection; unchanged where it already is."""
        if self.decay_corrected or not self.nuclide:
            return self
        return self._scaled(self._decay_factor()).replace(decay_corrected=True)

    def decay_uncorrect(self) -> Curve:
        """The same curve as activity present in each sample or frame; unchanged where it already is.

        Raises
        ------
        DataError
            The curve is in SUV, which is decay-corrected by definition.
        """
        if not self.decay_corrected or not self.nuclide:
            return self
        if measure_of(self.unit)[0] == "suv":
            raise DataError(
                f"{self.who}: SUV is decay-corrected by definition and cannot be uncorrected; "
                "convert first, for example .to_unit('Bq/mL').decay_uncorrect()"
            )
        return self._scaled(1.0 / self._decay_factor()).replace(decay_corrected=False)

    def to_unit(self, unit: str, *, density: str | None = None) -> Curve:
        """The same curve in another unit: Bq, Bq/mL, Bq/g, %IA, %IA/mL, %IA/g, SUV and their multiples.

        Parameters
        ----------
        unit : the unit wanted [text]
        density : mass density with its unit, such as "1.05 g/mL"; needed between per-mass and per-volume units
            unless both mass and volume are known [text]

        Raises
        ------
        UnitError
            The unit is unknown.
        DataError
            Something the conversion needs is not known: injected activity, body mass, volume, mass or density.
        """
        if not self.nuclide:
            for one in (self.unit, unit):
                measure_of(one, self.who, radioactive=False)
            return self._scaled(np.full(len(self), convert(1.0, self.unit, unit, self.who))).replace(unit=unit)
        old, old_per = measure_of(self.unit, self.who)
        new, new_per = measure_of(unit, self.who)
        if unit == self.unit:
            return self
        if "fraction" in (old, new) and old != new:
            raise DataError(f"{self.who}: {self.unit!r} cannot become {unit!r}; a fraction has no activity")
        if new == "suv" and not self.decay_corrected:
            raise DataError(
                f"{self.who}: SUV is decay-corrected by definition and this curve is not; "
                "use .decay_correct().to_unit('SUV')"
            )
        scale = np.full(len(self), factor(_plain(self.unit)) / factor(_plain(unit)))
        scale *= self._injected(old, new, unit) * self._size(old_per, new_per, unit, density)
        return self._scaled(scale).replace(unit=unit)

    def _decay_factor(self) -> Array:
        if self.kind == "parent_fraction" or not self.nuclide:
            return np.ones(len(self))
        return decay_factor(nuclide(self.nuclide).decay_constant, self.t_start, self.t_end)

    def _scaled(self, by: Array) -> Curve:
        # weights multiply squared residuals, so they shrink with the square
        return self.replace(value=self.value * by, sd=self.sd * by, weights=self.weights / by**2)

    def _injected(self, old: str, new: str, unit: str) -> float:
        """Ratio of canonical numbers for MBq, fraction of injected activity and SUV [MBq, 1, g per litre]."""
        powers = {"activity": (0, 0), "fraction": (0, 0), "injected": (1, 0), "suv": (1, -1)}
        of_activity, of_body = (a - b for a, b in zip(powers[old], powers[new], strict=True))
        result = 1.0
        if of_activity:
            if self.injected_activity is None:
                raise self._missing(unit, "the injected activity", 'injected_activity = "185 MBq"')
            result *= self.injected_activity**of_activity
        if of_body:
            if self.body_mass is None:
                raise self._missing(unit, "the body mass", 'body_mass = "72 kg"')
            result *= self.body_mass**of_body
        return result

    def _size(self, old_per: str, new_per: str, unit: str, density: str | None) -> Array | float:
        """Ratio between total, per litre and per gram."""
        if old_per == new_per:
            return 1.0
        known = None
        if density is not None:
            found = quantity(density, f"{self.who}: density")
            if found.dimension != dimension("g/L"):
                raise DataError(
                    f"{self.who}: density {density!r} is not a mass per volume; write for example '1.05 g/mL'"
                )
            known = found.value
        if known is not None and {old_per, new_per} == {"volume", "mass"}:
            return known if new_per == "volume" else 1.0 / known
        litres = self.volume * 1e-3
        if known is not None and self.mass is not None:
            litres = np.where(np.isfinite(litres), litres, self.mass / known)
        sizes: dict[str, Array | float] = {"total": 1.0}
        if {"volume"} & {old_per, new_per}:
            if not np.all(np.isfinite(litres)):
                raise self._missing(unit, "the volume of every row", "a column 'volume' with volume_unit", "tac.csv")
            sizes["volume"] = litres
        if {"mass"} & {old_per, new_per}:
            if self.mass is not None:
                sizes["mass"] = self.mass
            elif known is not None and np.all(np.isfinite(litres)):
                sizes["mass"] = litres * known
            else:
                raise self._missing(
                    unit,
                    "the mass of the region (or volume and density)",
                    'density= here, or mass = "310 g" for the region',
                )
        return sizes[old_per] / sizes[new_per]

    def _missing(self, unit: str, what: str, example: str, where: str = "study.toml") -> DataError:
        return DataError(
            f"{self.who}: {self.unit!r} cannot become {unit!r} because {what} is not known; give {example} in {where}"
        )


_PER_VALUE = ("t_start", "t_end", "value", "sd", "weights", "n", "volume", "censored")
_WHOLE: dict[str, type] = {"n": np.int64, "censored": np.int8}


def _said(value: float, censored: int) -> str:
    if censored == MISSING:
        return "missing"
    return {BELOW: "below ", ABOVE: "at least "}.get(censored, "") + f"{value:.6g}"
