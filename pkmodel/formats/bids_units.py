"""Units of a PET scan that cannot all be true: what tissue, plasma and the injected activity say of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import DataError
from .curve import Curve, measure_of

MOST = 500.0  # area of tissue over area of plasma, and back, beyond which a unit is wrong: volumes of 0.002 to 500
HIGHEST_SUV = 100.0  # median over regions of the peak; ten times what the brain sees of a tracer that enters it freely
LOWEST_SUV = 1e-3


def _area(curve: Curve, until: float) -> float:
    """Area under a curve up to a time, straight between its points [unit h]."""
    t = np.concatenate([[0.0], curve.t, [max(until, float(curve.t[-1]))]])
    value = np.concatenate([[0.0], curve.value, curve.value[-1:]])
    inside = np.unique(np.concatenate([t[t <= until], [until]]))
    return float(np.trapezoid(np.interp(inside, t, value), inside))


def same_size(curves: Sequence[Curve], units: Mapping[str, str], scan: str) -> None:
    """Refuse tissue and plasma whose areas differ more than any tracer distributes: a unit is wrong.

    Parameters
    ----------
    curves : of one scan
    units : units that the user said, in place of the files'; who says both is believed
    scan : its name [text]

    Raises
    ------
    DataError
        Tissue holds less than 1/500 or more than 500 times what plasma does.
    """
    plasma = [c for c in curves if c.kind == "plasma"]
    tissue = [c for c in curves if c.kind == "tissue"]
    known = {"tissue", "plasma_radioactivity"} <= set(units)
    per_volume = all(measure_of(c.unit) == ("activity", "volume") for c in (*plasma, *tissue))
    if known or not plasma or not tissue or not per_volume:
        return
    until = min(float(plasma[0].t_end[-1]), *(float(c.t_end[-1]) for c in tissue))
    reference = max(_area(c.to_unit("kBq/mL"), until) for c in plasma)
    ratio = float(np.median([_area(c.to_unit("kBq/mL"), until) for c in tissue])) / reference if reference > 0 else 1.0
    if 1 / MOST <= ratio <= MOST:
        return
    stated = {"tissue": tissue[0].unit, "plasma_radioactivity": plasma[0].unit}
    raise DataError(
        f"{scan}: tissue holds {ratio:.3g} times what plasma does (area under the curves, median of {len(tissue)} "
        f"regions), which no tracer does. Stated: tissue in {tissue[0].unit!r}, plasma in {plasma[0].unit!r} "
        f"({plasma[0].source}). Say the right one, such as units={{{scan!r}: {_likely(stated, ratio)}}}; if both are "
        f"right, say both: units={{{scan!r}: {stated}}}"
    )


def _likely(stated: Mapping[str, str], ratio: float) -> dict[str, str]:
    """Which unit would bring tissue and plasma together: plasma a thousandfold, or tissue a thousandth."""
    smaller, larger = ("plasma_radioactivity", "tissue") if ratio > 1 else ("tissue", "plasma_radioactivity")
    found = {smaller: "kBq/mL"} if stated[smaller] == "Bq/mL" else {larger: "Bq/mL"}
    if "plasma_radioactivity" in found:
        found["whole_blood_radioactivity"] = found["plasma_radioactivity"]
    return found


def suv_possible(
    curves: Sequence[Curve], injected: float, body_mass: float | None, file: str, warnings: list[str]
) -> bool:
    """Whether the injected activity can have made these curves; if not, it is left out and that is said."""
    if body_mass is None:
        return True
    peaks = [
        float(c.replace(injected_activity=injected).to_unit("SUV").value.max())
        for c in curves
        if c.kind == "tissue" and c.decay_corrected and measure_of(c.unit) == ("activity", "volume")
    ]
    if not peaks:
        return True
    suv = float(np.median(peaks))
    if LOWEST_SUV <= suv <= HIGHEST_SUV:
        return True
    warnings.append(
        f"{file}: {injected:.6g} MBq injected into {body_mass / 1000:g} kg would make regions peak at SUV {suv:.4g}; "
        "the injected activity is left out; say units={'InjectedRadioactivity': 'kBq'} if that is what it is"
    )
    return False
