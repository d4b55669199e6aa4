"""Noise-free PET curves from closed forms, for tests that need to know the truth."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import solve_ivp
from synthetic import curve

from pkmodel.formats.curve import Curve

Array = NDArray[np.float64]
SETTINGS: dict[str, Any] = {"unit": "kBq/mL", "decay_corrected": True, "nuclide": "C-11"}
# 33 frames over 70 min, those of the generator that facts 4c used
STARTS = [0, 0.25, 0.5, 0.75, *np.arange(1, 5, 0.5), *range(5, 15), 17, 20, *range(25, 70, 5)]
START = np.array(STARTS, dtype=float)
END = np.append(START[1:], 70.0)
# a bolus through plasma as straight lines [min, kBq/mL]
KNOTS = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0, 45.0, 60.0, 70.0])
PLASMA = np.array([0.0, 20.0, 100.0, 60.0, 35.0, 22.0, 14.0, 9.0, 6.5, 4.5, 3.4, 2.5, 2.0, 1.8])


def frames(value: ArrayLike, region: str = "target", **more: Any) -> Curve:
    """A curve over the 33 frames."""
    return curve(region, START / 60, value, t_end=END / 60, **(SETTINGS | more))


def plasma(**more: Any) -> Curve:
    """The bolus as samples."""
    return curve("plasma", KNOTS / 60, PLASMA, kind="plasma", **(SETTINGS | more))


def reference_average(k1: float, k2: float, decay: float = 0.03) -> Array:
    """Frame averages of one tissue fed by ``10 exp(-decay t)``."""

    def area(t: Array) -> Array:
        gone = (1 - np.exp(-decay * t)) / decay - (1 - np.exp(-k2 * t)) / k2
        return np.asarray(10 * k1 / (k2 - decay) * gone, dtype=float)

    return np.asarray((area(END) - area(START)) / (END - START), dtype=float)


def tissue_average(k1: float, k2: float, k3: float = 0.0, k4: float = 0.0) -> Array:
    """Frame averages of two tissues fed by the bolus, integrated knot by knot."""
    times = np.unique(np.concatenate([KNOTS, START, END]))
    state, areas = np.zeros(3), [0.0]

    def change(t: float, y: Array) -> list[float]:
        cp = float(np.interp(t, KNOTS, PLASMA))
        return [k1 * cp - (k2 + k3) * y[0] + k4 * y[1], k3 * y[0] - k4 * y[1], y[0] + y[1]]

    for a, b in pairwise(times.tolist()):
        state = solve_ivp(change, (a, b), state, method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
        areas.append(float(state[2]))
    at = dict(zip(times.tolist(), areas, strict=True))
    return np.array([(at[b] - at[a]) / (b - a) for a, b in zip(START.tolist(), END.tolist(), strict=True)])
