"""What becomes of samples below quantification, of missing ones, and of the concentration at the time of the dose."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..formats.curve import BELOW

Array = NDArray[np.float64]
RULES = ("zero", "drop", "half", "limit")
WHERE = ("first", "middle", "last")
DEFAULT = {"first": "zero", "middle": "drop", "last": "drop"}
"""Before the first measurable sample zero, between measurable ones and after the last left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Samples that count, and what was done to get them.

    Parameters
    ----------
    t, c : (n,) arrays, from the dose on, the sample at time 0 put in where it was missing [h, concentration]
    measured : (n,) array, whether a value was measured and is above zero
    below_t, below_c : (m,) arrays, samples below quantification, at their limit
    c0 : concentration at time 0 of a bolus, NaN for other routes
    c0_how : how it was found [text]
    notes : what was done, in words
    """

    t: Array
    c: Array
    measured: NDArray[np.bool_]
    below_t: Array
    below_c: Array
    c0: float
    c0_how: str
    notes: tuple[str, ...]


def clean(
    t: Array,
    c: Array,
    censored: NDArray[np.int8],
    *,
    route: str,
    lloq: float | None,
    rules: Mapping[str, str],
    steady: bool,
    who: str,
) -> Samples:
    """Apply the rules and find the concentration at time 0.

    Parameters
    ----------
    t, c : (n,) arrays, times after the dose, increasing; NaN where nothing was measured
    censored : (n,) array, below quantification where `BELOW`, its value the limit
    route : "bolus", "infusion" or "extravascular" [text]
    lloq : values under it count as below quantification too
    rules : for "first", "middle" and "last": one of `RULES`
    steady : whether the dose is one of a series in steady state
    who : named in messages [text]

    Raises
    ------
    DataError
        Times do not increase, a concentration is negative, or nothing was measured.
    """
    for where, rule in rules.items():
        if where not in WHERE or rule not in RULES:
            raise DataError(
                f"{who}: blq = {{{where!r}: {rule!r}}}; allowed: {', '.join(WHERE)} with {', '.join(RULES)}"
            )
    rules = {**DEFAULT, **rules}
    notes: list[str] = []
    seen = np.isfinite(c)
    if not np.all(seen):
        notes.append(f"{int((~seen).sum())} samples without a value left out")
        t, c, censored = t[seen], c[seen], censored[seen]
    if not np.all(np.isfinite(t)) or np.any(np.diff(t) <= 0):
        bad = int(np.argmax(np.diff(t) <= 0)) + 1 if np.all(np.isfinite(t)) else 0
        raise DataError(f"{who}: times must be finite and increase; number {bad + 1} ({t[bad]:g} h) does not")
    if np.any(c < 0):
        bad = int(np.argmax(c < 0))
        raise DataError(f"{who}: concentration {bad + 1} is {c[bad]:g} at {t[bad]:g} h; allowed: zero or above")
    if np.any(before := t < 0):
        notes.append(f"{int(before.sum())} samples before the dose left out")
        t, c, censored = t[~before], c[~before], censored[~before]
    below = (censored == BELOW) | (c <= 0 if lloq is None else c < lloq)
    limit = np.where(censored == BELOW, c, 0.0 if lloq is None else lloq)
    if not np.any(~below):
        raise DataError(f"{who}: no sample is measurable; nothing can be computed")
    first, last = np.flatnonzero(~below)[[0, -1]]
    value, keep = c.copy(), np.ones(t.size, dtype=bool)
    for k in np.flatnonzero(below):
        rule = rules["first" if k < first else "last" if k > last else "middle"]
        keep[k] = rule != "drop"
        value[k] = {"zero": 0.0, "half": 0.5 * limit[k], "limit": limit[k]}.get(rule, 0.0)
    if count := int((below & (limit > 0)).sum()):
        notes.append(f"{count} samples below quantification: " + ", ".join(f"{w} {rules[w]}" for w in WHERE))
    below_t, below_c = t[below & (limit > 0)], limit[below & (limit > 0)]
    t, value, measured = t[keep], value[keep], (~below)[keep]
    c0, how = math.nan, ""
    if route == "bolus":
        c0, how = _back(t, value)
    if t[0] > 0:
        start = c0 if route == "bolus" else float(value[measured].min()) if steady else 0.0
        if steady and route != "bolus":
            notes.append("no sample at the dose: the lowest of the interval stands for it (steady state)")
        t, value = np.concatenate([[0.0], t]), np.concatenate([[start], value])
        measured = np.concatenate([[False], measured])
    return Samples(t, value, measured, below_t, below_c, c0, how, tuple(notes))


def _back(t: Array, c: Array) -> tuple[float, str]:
    """Concentration of a bolus at time 0: measured, or the line through the logarithms of the first two samples."""
    if t[0] == 0:
        return float(c[0]), "measured"
    if t.size > 1 and 0 < c[1] < c[0]:
        slope = math.log(c[0] / c[1]) / (t[1] - t[0])
        return float(c[0] * math.exp(slope * t[0])), "extrapolated back through the first two samples"
    return float(c[0]), "the first sample, as the first two do not fall"
