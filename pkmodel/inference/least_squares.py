"""Least squares with lmfit and the exact Jacobian, from several starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError
from .likelihood import Evaluation, Likelihood

Array = NDArray[np.float64]
STARTS = 1  # purpose of a stream of random numbers: one seed, unrelated numbers for starts and for draws
COARSE, FINE = 1e-7, 1e-14  # relative change of the cost at which a minimisation stops
SAME = 1e-3  # relative difference of cost below which two starts have found the same minimum


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
    failed: int = 0  # starts from which the model could not be solved

    @property
    def chi2(self) -> float:
        """Sum of squared standardised residuals."""
        return float(self.residuals @ self.residuals)


@dataclass(frozen=True, slots=True)
class _Run:
    """Where one minimisation ended."""

    x: Array
    cost: float
    converged: bool
    message: str
    failure: str


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

    Raises
    ------
    FitError
        The model could not be solved from any start.
    """
    begin = np.array([s.to_scale(s.start) for s in likelihood.slots], dtype=float)
    # every start to within a thousandth of its minimum, which tells minima apart; only the best to the last digit
    runs = [_run(likelihood, x, COARSE) for x in _spread(likelihood, begin, starts, seed)]
    good = [r for r in runs if not r.failure]
    if not good:
        raise FitError(
            f"{', '.join(likelihood.regions)}: {likelihood.model.name} could not be solved from any of {starts} starts "
            f"({runs[0].failure}); check start values and units"
        )
    best = _run(likelihood, min(good, key=lambda r: r.cost).x, FINE)
    agreeing = sum(r.cost - best.cost <= SAME * best.cost + 1e-14 for r in good)
    at = likelihood.evaluate(best.x)
    return Optimum(
        best.x, at.residuals, at.jacobian, len(runs), agreeing, best.converged, best.message, len(runs) - len(good)
    )


def _spread(likelihood: Likelihood, begin: Array, starts: int, seed: int) -> list[Array]:
    """Latin hypercube of a factor of ten (or half of the box) to either side of the first start."""
    rng = np.random.default_rng([seed, STARTS])
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
                x[j] = np.clip(begin[j] + reach * offset[j], low, high)
            points.append(x)
    return points


def _run(likelihood: Likelihood, begin: Array, tolerance: float) -> _Run:
    """One minimisation to a relative change of cost below `tolerance`."""
    import lmfit

    parameters = lmfit.Parameters()
    names = [f"x{j}" for j in range(begin.size)]
    for j, (name, slot) in enumerate(zip(names, likelihood.slots, strict=True)):
        low, high = slot.box
        parameters.add(name, value=float(np.clip(begin[j], low, high)), min=low, max=high)
    last: dict[bytes, Evaluation] = {}

    def at(p: Any) -> Evaluation:
        x = np.array([p[n].value for n in names])
        key = x.tobytes()
        if key not in last:  # residuals and Jacobian come from one solve
            last.clear()
            last[key] = likelihood.evaluate(x)
        return last[key]

    minimiser = lmfit.Minimizer(lambda p: at(p).residuals, parameters, calc_covar=False)
    # lmfit takes the root of its own covariance even where a parameter is not informed; ours is in `result`
    with np.errstate(invalid="ignore", divide="ignore"):
        result = minimiser.minimize(
            method="least_squares",
            jac=lambda p: at(p).jacobian,
            ftol=tolerance,
            xtol=100 * tolerance,
            gtol=100 * tolerance,
            x_scale="jac",
            max_nfev=300,
        )
    x = np.array([result.params[n].value for n in names])
    end = likelihood.evaluate(x, tangents=False)
    cost = float(end.residuals @ end.residuals)
    return _Run(x, cost, bool(result.success), str(result.message), end.failure)
