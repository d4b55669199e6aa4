"""Least squares with lmfit and the exact Jacobian, from several starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .likelihood import Likelihood

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Optimum:
    """The best of several minimisations of one group, on the scale of the fit."""

    x: Array  # (k,)
    residuals: Array  # (n,)
    jacobian: Array  # (n, k)
    starts: int
    agreeing: int  # starts that ended at the same minimum
    converged: bool
    message: str

    @property
    def chi2(self) -> float:
        """Sum of squared standardised residuals."""
        return float(self.residuals @ self.residuals)


def minimise(likelihood: Likelihood, starts: int, seed: int) -> Optimum:
    """Minimise one group from its start values and from points spread around them.

    Parameters
    ----------
    likelihood : one group (see `Likelihood.groups`)
    starts : minimisations [1]
    seed : of the points [1]

    Returns
    -------
    Optimum
    """
    begin = np.array([s.to_scale(s.start) for s in likelihood.slots], dtype=float)
    runs = [_run(likelihood, x) for x in _spread(likelihood, begin, starts, seed)]
    best = min(runs, key=lambda r: r[1])
    x, cost, converged, message = best
    agreeing = sum(abs(r[1] - cost) <= 1e-6 * max(cost, 1e-300) + 1e-14 for r in runs)
    residuals, jacobian = likelihood._evaluate(x, tangents=True)
    return Optimum(x, residuals, jacobian, len(runs), agreeing, converged, message)


def _spread(likelihood: Likelihood, begin: Array, starts: int, seed: int) -> list[Array]:
    """Latin hypercube of a factor of ten (or half of the box) to either side of the first start."""
    rng = np.random.default_rng(seed)
    points = [begin]
    if starts > 1:
        k = begin.size
        cells = np.array([rng.permutation(starts - 1) for _ in range(k)]).T
        offsets = (cells + rng.random((starts - 1, k))) / (starts - 1) * 2 - 1
        for offset in offsets:
            x = begin.copy()
            for j, s in enumerate(likelihood.slots):
                low, high = s.box
                reach = np.log(10.0) if s.transform != "none" else min(abs(begin[j]) + 1.0, 0.5 * (high - low))
                x[j] = np.clip(begin[j] + reach * offset[j], low + 1e-9, high - 1e-9)
            points.append(x)
    return points


def _run(likelihood: Likelihood, begin: Array) -> tuple[Array, float, bool, str]:
    """One minimisation; returns where it ended, its cost, whether it converged, and lmfit's words."""
    import lmfit

    parameters = lmfit.Parameters()
    names = [f"x{j}" for j in range(begin.size)]
    for j, (name, slot) in enumerate(zip(names, likelihood.slots, strict=True)):
        low, high = slot.box
        parameters.add(name, value=float(np.clip(begin[j], low, high)), min=low, max=high)
    last: dict[str, Any] = {}

    def both(p: Any) -> tuple[Array, Array]:
        x = np.array([p[n].value for n in names])
        key = x.tobytes()
        if last.get("key") != key:  # residuals and Jacobian come from one solve
            last.update(key=key, pair=likelihood._evaluate(x, tangents=True))
        pair: tuple[Array, Array] = last["pair"]
        return pair

    minimiser = lmfit.Minimizer(lambda p: both(p)[0], parameters, calc_covar=False)
    # lmfit takes the root of its own covariance even where a parameter is not informed; ours is in `result`
    with np.errstate(invalid="ignore"):
        result = minimiser.minimize(
            method="least_squares",
            jac=lambda p: both(p)[1],
            ftol=1e-14,
            xtol=1e-12,
            gtol=1e-12,
            x_scale="jac",
            max_nfev=300,
        )
    x = np.array([result.params[n].value for n in names])
    return x, float(result.chisqr), bool(result.success), str(result.message)
