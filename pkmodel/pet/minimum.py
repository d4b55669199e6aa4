"""Non-linear least squares within bounds, as the fits of this package call it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Misfit = Callable[[Array], Array]


@dataclass(frozen=True, slots=True, eq=False)
class Minimum:
    """Where half the sum of squares is least, and the derivatives of the residuals there."""

    x: Array  # (k,)
    cost: float
    jacobian: Array  # (n, k)


def minimise(
    misfit: Misfit,
    start: Array,
    *,
    low: Array | float = -np.inf,
    high: Array | float = np.inf,
    jacobian: Misfit | None = None,
    scale: Array | str = "jac",
    most: int | None = None,
    coarse: bool = False,
) -> Minimum:
    """Least squares from one start; derivatives by central differences where they are not given.

    Parameters
    ----------
    misfit : (k,) -> (n,) weighted residuals
    start : (k,) array, moved inside the bounds
    low, high : bounds
    jacobian : (k,) -> (n, k)
    scale : (k,) typical sizes, or "jac"
    most : evaluations allowed [1]
    coarse : one-sided differences and early stop, for a search that is refined later [bool]
    """
    import scipy.optimize

    run: Any = scipy.optimize.least_squares
    bottom, top = np.broadcast_to(low, start.shape), np.broadcast_to(high, start.shape)
    tolerance = 1e-7 if coarse else 1e-12
    differences = "2-point" if coarse else "3-point"
    inside = 1e-9 * np.maximum(1.0, np.abs(start))
    found = run(
        misfit, np.clip(start, bottom + inside, top - inside), jac=jacobian or differences, bounds=(bottom, top),
        x_scale=scale, xtol=tolerance, ftol=tolerance, gtol=tolerance, max_nfev=most,
    )  # fmt: skip
    return Minimum(np.asarray(found.x, dtype=float), float(found.cost), np.asarray(found.jac, dtype=float))


def least_along(
    cost: Callable[[float], float], low: float, high: float, tolerance: float = 1e-8
) -> tuple[float, float]:
    """Where a function of one variable is least between two bounds, and its value there."""
    import scipy.optimize

    run: Any = scipy.optimize.minimize_scalar
    found = run(cost, bounds=(low, high), method="bounded", options={"xatol": tolerance})
    return float(found.x), float(found.fun)
