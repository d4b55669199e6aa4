"""Curves from bare arrays: nothing is assumed about unit, time unit, nuclide or decay; all four must be said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..formats.curve import KINDS, Curve
from ..nuclides import nuclide as find_nuclide
from ..units import convert

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = NDArray[np.float64]


def samples(
    t: ArrayLike,
    value: ArrayLike,
    *,
    unit: str,
    time_unit: str,
    nuclide: str,
    decay_corrected: bool,
    kind: str = "plasma",
    region: str | None = None,
    subject: str = "not stated",
    **more: Any,
) -> Curve:
    """Samples at single times, such as blood.

    Parameters
    ----------
    t : (n,) array, increasing, after injection [time_unit]
    value : (n,) array [unit]
    unit : such as "kBq/mL"; "1" for a parent fraction [text]
    time_unit : "s", "min" or "h" [text]
    nuclide : such as "C-11" [text]
    decay_corrected : whether the values are corrected to injection [bool]
    kind : one of `pkmodel.formats.curve.KINDS` [text]
    region, subject : names; region defaults to the kind [text]
    more : further fields of `Curve`, such as sd or weights

    Raises
    ------
    DataError
        Lengths differ, or a kind is unknown.
    UnitError, NuclideError
        A unit or nuclide is unknown.
    """
    return frames(
        t, t, value, unit=unit, time_unit=time_unit, nuclide=nuclide, decay_corrected=decay_corrected, kind=kind,
        region=region, subject=subject, **more,
    )  # fmt: skip


def frames(
    start: ArrayLike,
    end: ArrayLike,
    value: ArrayLike,
    *,
    unit: str,
    time_unit: str,
    nuclide: str,
    decay_corrected: bool,
    kind: str = "tissue",
    region: str | None = None,
    subject: str = "not stated",
    **more: Any,
) -> Curve:
    """Averages over frames from start to end, such as a region of an image.

    Parameters
    ----------
    start, end : (n,) arrays, edges of the frames after injection [time_unit]
    value : (n,) array, averages [unit]

    The others are those of `samples`.

    Raises
    ------
    DataError
        Lengths differ, or a kind is unknown.
    UnitError, NuclideError
        A unit or nuclide is unknown.
    """
    a, b, y = (np.asarray(x, dtype=float) for x in (start, end, value))
    if a.ndim != 1 or a.shape != b.shape or a.shape != y.shape:
        raise DataError(f"{region or kind}: {a.size} starts, {b.size} ends, {y.size} values; needed: as many of each")
    if kind not in KINDS:
        raise DataError(f"{region or kind}: kind {kind!r}; allowed: {', '.join(KINDS)}")
    hours = float(convert(1.0, time_unit, "h"))
    nothing = np.full(a.size, np.nan)
    settings: dict[str, Any] = {
        "subject": subject, "region": region or kind, "kind": kind, "t_start": a * hours, "t_end": b * hours,
        "value": y, "sd": nothing, "weights": nothing, "n": np.ones(a.size, dtype=np.int64), "unit": unit,
        "decay_corrected": decay_corrected, "nuclide": find_nuclide(nuclide).name, "volume": nothing,
    }  # fmt: skip
    return Curve(**(settings | more))
