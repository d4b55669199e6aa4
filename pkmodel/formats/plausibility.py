"""What physics forbids in a set of time-activity curves.

Errors (warnings with ``strict=False``):

* a field-of-view box, by its name or by a volume above the body's, that is declared as something else;
* more activity than was given: the organs and excreta of one time, which must not overlap each other
  (``part_of`` says which do), hold above 105 % of the injected activity, decayed to that time;
* a curve that is not decay-corrected whose last two points fall slower than physical decay by more than 5 % and more
  than two standard deviations, where uptake should be over: activity falls between those points, or a whole physical
  half-life has passed. An organ that still takes up activity can do this, so ``continued_uptake = "reason"`` on the
  region turns the error into a warning; far more often the curve is already decay-corrected and its flag is wrong.

Warnings: a tail slower than decay but within 5 % or the noise; a spread above the value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..errors import DataError
from ..nuclides import nuclide
from .curve import MEASURED, Curve
from .long_row import Problems
from .study_file import Region

EXCESS = 1.05
"""How far a sum of activities or a half-life may exceed its bound before it is an error [1]."""

_BOX = re.compile(r"(^|_)(w?fov|box|bbox)(_|$)|field_?of_?view|bounding_?box", re.IGNORECASE)
_NAMES = {
    "blood": re.compile(r"^(whole_?)?blood$|^heart_?blood$", re.IGNORECASE),
    "plasma": re.compile(r"plasma|serum", re.IGNORECASE),
    "excreta": re.compile(r"urine|fa?eces|stool|excret", re.IGNORECASE),
    "whole_body": re.compile(r"^(whole|total)_?body$", re.IGNORECASE),
}


def check_plausible(
    curves: Sequence[Curve],
    regions: Mapping[str, Region],
    file: str,
    *,
    kinds_said: Iterable[str] = (),
    strict: bool = True,
) -> tuple[str, ...]:
    """Check the curves of one subject; return warnings, raise on the impossible.

    Parameters
    ----------
    curves : curves of one subject
    regions : what ``study.toml`` says about them, by name
    file : name for messages [text]
    kinds_said : names of regions whose kind was stated rather than taken as tissue [text]
    strict : whether the impossible raises (the default) or only warns [bool]

    Raises
    ------
    DataError
        Something in the list above, with ``strict=True``.
    """
    problems, warnings = Problems(file), []
    curves = [k for k in (c.take(c.censored == MEASURED) for c in curves) if len(k)]
    said = set(kinds_said) | {name for name, region in regions.items() if region.kind}
    for curve in curves:
        region = regions.get(curve.region, Region(name=curve.region))
        _name_and_size(curve, curve.region in said, problems)
        warnings += _tail(curve, region, problems)
        warnings += _spread(curve)
    _sum(curves, problems)
    if strict:
        problems.stop()
    return tuple(problems.found + warnings)


def _where(curve: Curve, *points: int) -> list[int]:
    return [curve.rows[i] for i in points] if curve.rows else [0]


def _name_and_size(curve: Curve, said: bool, problems: Problems) -> None:
    name = re.sub(r"[\s\-.]+", "_", curve.region)
    lines = _where(curve, 0)
    if curve.kind == "field_of_view":
        return
    if _BOX.search(name):
        problems.row(
            lines[0],
            f"region {curve.region!r} is named like a box of the field of view but has kind {curve.kind!r}; a box "
            "holds air and several organs and may not be used as one; allowed: kind = 'field_of_view'",
        )
        return
    if curve.kind == "tissue" and not said:
        for kind, pattern in _NAMES.items():
            if pattern.search(name):
                problems.row(
                    lines[0],
                    f"region {curve.region!r} is named like {kind} but no kind is given, so it would count as an "
                    f"organ; say kind = {kind!r} or kind = 'tissue' in study.toml",
                )
    if curve.body_mass is not None and curve.kind in ("tissue", "whole_body"):
        body = curve.body_mass / 0.9  # mL; no human or mouse body is lighter than 0.9 g/mL
        largest = np.nanmax(curve.volume) if np.isfinite(curve.volume).any() else 0.0
        if largest > body:
            problems.row(
                _where(curve, int(np.nanargmax(curve.volume)))[0],
                f"region {curve.region!r} has a volume of {largest:.6g} mL, more than the whole body of "
                f"{curve.body_mass:.6g} g; a box of the field of view? allowed then: kind = 'field_of_view'",
            )


def _tail(curve: Curve, region: Region, problems: Problems) -> list[str]:
    """Effective half-life of the last two points against the physical one, for curves that are not decay-corrected."""
    if curve.decay_corrected or len(curve) < 2 or curve.kind in ("excreta", "parent_fraction", "field_of_view"):
        return []
    one = nuclide(curve.nuclide)
    (t1, t2), (v1, v2) = curve.t[-2:], curve.value[-2:]
    if min(v1, v2) <= 0 or not (v2 < v1 or t2 > one.half_life):
        return []
    rate = math.log(v1 / v2) / (t2 - t1)
    if rate > one.decay_constant:
        return []
    relative = curve.standard_error[-2:] / curve.value[-2:]
    noise = float(np.sqrt(np.nansum(relative**2))) / (t2 - t1)
    found = f"{math.log(2) / rate:.4g} h" if rate > 0 else "infinite (it does not fall)"
    text = (
        f"region {curve.region}: effective half-life between {t1:.4g} and {t2:.4g} h is {found}, the physical "
        f"half-life of {one.name} is {one.half_life:.4g} h"
    )
    too_slow = one.decay_constant > EXCESS * rate and one.decay_constant - rate > 2 * noise
    if too_slow and region.continued_uptake is None:
        problems.row(
            _where(curve, len(curve) - 2, len(curve) - 1),
            f"{text}; allowed without decay correction: at or below it. Either the values are decay-corrected already "
            "(decay_corrected = 'yes'), or activity still arrives (then say continued_uptake = 'why' for the region)",
        )
        return []
    why = (
        f"; stated as continued uptake: {region.continued_uptake}"
        if region.continued_uptake
        else "; within noise or 5 %"
    )
    return [text + why]


def _spread(curve: Curve) -> list[str]:
    wide = np.flatnonzero(curve.sd > curve.value)
    return [
        f"{curve.source} row {curve.rows[i]}: region {curve.region}: {curve.sd_kind or 'sd'} {curve.sd[i]:.4g} is "
        f"above the value {curve.value[i]:.4g}; a normal error model would allow negative activity"
        for i in wide
    ]


def _sum(curves: Sequence[Curve], problems: Problems) -> None:
    """Activity of all separate regions at one time against what was injected and is left by decay."""
    sums: dict[tuple[float, float], list[tuple[float, Curve, int]]] = {}
    for curve in curves:
        if curve.kind in ("blood", "plasma", "parent_fraction"):
            continue
        try:
            share = curve.decay_correct().to_unit("IA")
        except DataError:
            continue  # injected activity, mass or volume is not known, so there is nothing to compare with
        separate = curve.kind in ("tissue", "excreta") and curve.part_of is None
        for i, value in enumerate(share.value):
            key = (round(share.t_start[i], 6), round(share.t_end[i], 6))
            if separate:
                sums.setdefault(key, []).append((float(value), curve, i))
            elif value > EXCESS:
                _too_much(float(value), [(float(value), curve, i)], problems)
    for parts in sums.values():
        total = sum(value for value, _, _ in parts)
        if total > EXCESS:
            _too_much(total, parts, problems)


def _too_much(total: float, parts: Sequence[tuple[float, Curve, int]], problems: Problems) -> None:
    names = ", ".join(curve.region for _, curve, _ in parts)
    _, curve, i = max(parts, key=lambda part: part[0])
    several = f"regions {names} together hold" if len(parts) > 1 else f"region {names} holds"
    problems.row(
        sorted(_where(c, j)[0] for _, c, j in parts)[:4],
        f"{several} {100 * total:.4g} % of the injected activity at {curve.t[i]:.4g} h (decay to that time counted); "
        f"allowed: at most {100 * EXCESS:.0f} %. Check unit, injected activity and decay flag; a region inside "
        "another one needs part_of = its name in study.toml",
    )
