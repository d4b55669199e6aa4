"""How well one scan measures an organ: standard deviation of a frame of given length, and what such data tell.

``sd^2 = additive^2 + proportional^2 f^2 + inflation f / (sensitivity * length)``: the last term is counting noise,
which falls with the length of the frame (Poisson counts ``sensitivity * f * length``, times what reconstruction adds).
What makes up the relative error of SPECT: Gear et al. 2018, EANM practical guidance, doi:10.1007/s00259-018-4136-7.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SimulationError, did_you_mean

Array = NDArray[np.float64]
ASSUMED = 0.10  # relative error of one organ in one scan where none is given; always said in the result


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanNoise:
    """Error of one measurement of one organ.

    Parameters
    ----------
    proportional : relative part of the SD [1]
    additive : constant part of the SD, in the unit of the observable
    sensitivity : counts a second per unit of the observable; 0: no counting noise [1/s per unit]
    inflation : variance of the image over that of the counts it came from [1]
    """

    proportional: float = 0.0
    additive: float = 0.0
    sensitivity: float = 0.0
    inflation: float = 1.0

    def __post_init__(self) -> None:
        for name in ("proportional", "additive", "sensitivity", "inflation"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise SimulationError(f"scan noise: {name} = {value}; allowed: a finite number, 0 or more")
        if not (self.proportional or self.additive or self.sensitivity):
            raise SimulationError("scan noise: nothing is uncertain; give proportional, additive or sensitivity")

    def variance(self, value: Array, hours: Array) -> tuple[Array, Array]:
        """Variance of a measurement and its derivative by the expected value, for frames of these lengths [h]."""
        slope = 2.0 * self.proportional**2 * value
        counting = np.zeros_like(value)
        if self.sensitivity:
            counting = counting + self.inflation / (self.sensitivity * 3600.0 * hours)
        return self.additive**2 + self.proportional**2 * value**2 + counting * value, slope + counting

    def __str__(self) -> str:
        parts = [f"{100 * self.proportional:g} %"] if self.proportional else []
        parts += [f"{self.additive:g} of the observable's unit"] if self.additive else []
        if self.sensitivity:
            more = f" x {self.inflation:g}" if self.inflation != 1 else ""
            parts.append(f"counts at {self.sensitivity:g}/s per unit{more}")
        return " + ".join(parts)


Noise = float | ScanNoise


def noise_of(given: Noise | Mapping[str, Noise] | None, organs: tuple[str, ...], who: str) -> dict[str, ScanNoise]:
    """Noise of each organ.

    Parameters
    ----------
    given : one for all, or name -> noise; a plain number is a relative SD; None: 10 %, which is an assumption
    organs : names [text]
    who : named in errors [text]

    Raises
    ------
    SimulationError
        A name is not an organ of the design, or an organ has none.
    """
    if not isinstance(given, Mapping):
        one = ScanNoise(proportional=ASSUMED) if given is None else _read(given)
        return dict.fromkeys(organs, one)
    if unknown := [n for n in given if n not in organs]:
        raise SimulationError(
            f"{who}: noise of {unknown[0]!r}{did_you_mean(unknown[0], organs)}: not imaged; imaged: {', '.join(organs)}"
        )
    if missing := [n for n in organs if n not in given]:
        raise SimulationError(f"{who}: no noise for {', '.join(missing)}; give noise={{{missing[0]!r}: 0.1}}")
    return {n: _read(given[n]) for n in organs}


def _read(given: Noise) -> ScanNoise:
    if isinstance(given, ScanNoise):
        return given
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise SimulationError(f"scan noise: {given!r} is not a number; write 0.1 for 10 %, or ScanNoise(...)")
    return ScanNoise(proportional=float(given))
