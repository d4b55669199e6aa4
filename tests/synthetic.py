"""Curves made from known formulas, for tests that need to know the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkmodel.data import Curves
from pkmodel.formats.curve import Curve
from pkmodel.inference.protocol import Protocol, protocol_from_dict

Array = NDArray[np.float64]


def curve(region: str, t: ArrayLike, value: ArrayLike, *, t_end: ArrayLike | None = None, **changes: Any) -> Curve:
    """One curve: samples at t [h], or frames from t to t_end; Lu-177 in MBq, not decay-corrected, unless changed."""
    start = np.asarray(t, dtype=float)
    empty = np.full(start.size, np.nan)
    settings: dict[str, Any] = {
        "subject": "made up", "region": region, "kind": "tissue", "t_start": start,
        "t_end": start if t_end is None else np.asarray(t_end, dtype=float), "value": np.asarray(value, dtype=float),
        "sd": empty, "weights": empty, "n": np.ones(start.size, dtype=np.int64), "unit": "MBq",
        "decay_corrected": False, "nuclide": "Lu-177", "volume": empty, "injected_activity": 1000.0,
    }  # fmt: skip
    return Curve(**(settings | changes))


def curves(*members: Curve, **changes: Any) -> Curves:
    """One subject's curves; nuclide and injection are those of the first."""
    settings: dict[str, Any] = {
        "subject": "made up", "study": "made up", "nuclide": members[0].nuclide, "agent": "tracer",
        "curves": members, "injected_activity": members[0].injected_activity,
    }  # fmt: skip
    return Curves(**(settings | changes))


def protocol(free: str | dict[str, Any], **settings: Any) -> Protocol:
    """A protocol from the names of its free parameters, or a table of them; four starts unless changed."""
    table = {n: {} for n in free.split()} if isinstance(free, str) else free
    return protocol_from_dict({"name": "test", "starts": 4, "free": table} | settings)
