"""Least squares with the exact Jacobian, from several starts.

Models whose predictions are compiled as a whole (`Likelihood.modes`) go down from all starts at once, in compiled code
(`solve.levenberg`); any other goes to lmfit, start by start, and so does what did not converge.
"""

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
REACH = 1.0  # longest step on a log scale: a factor of e
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
    points = _spread(likelihood, begin, starts, seed)
    runs = _descend(likelihood, points, COARSE)
    good = [r for r in runs if not r.failure]
    if not good:
        raise FitError(
            f"{', '.join(likelihood.regions)}: {likelihood.model.name} could not be solved from any of {starts} starts "
            f"({runs[0].failure}); check start values and units"
        )
    best = _descend(likelihood, [min(good, key=lambda r: r.cost).x], FINE)[0]
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


def _descend(likelihood: Likelihood, points: list[Array], tolerance: float) -> list[_Run]:
    """Minimisations from some points to a relative change of cost below `tolerance`."""
    modes = likelihood.modes
    if modes is None:
        return [_run(likelihood, x, tolerance) for x in points]
    from ..solve.levenberg import CONVERGED, FAILED, RUNNING, turn

    low, high = (np.array(side, dtype=float) for side in zip(*(s.box for s in likelihood.slots), strict=True))
    logs = np.array([slot.transform != "none" for slot in likelihood.slots])
    reach = np.where(logs, REACH, np.inf)
    measured = np.concatenate([o.curve.value for b in likelihood.blocks for o in b.observers])
    variance = np.concatenate([v for block in likelihood.variances for v in block])
    counted = np.isfinite(variance)
    measured = np.where(counted, measured, 0.0)
    weight = np.where(counted, 1.0 / np.sqrt(variance), 0.0)
    trial = np.clip(np.array(points, dtype=float), low, high)
    s, k = trial.shape
    x, g, d = trial.copy(), np.zeros((s, k)), np.zeros((s, k))
    cost, h = np.full(s, np.inf), np.zeros((s, k, k))
    control, count, state = np.full((s, 5), -1.0), np.zeros(s, np.int64), np.zeros(s, np.int64)
    who = np.arange(s)
    while who.size:
        value, tangent, place, _ = modes.predict(trial[who], np.zeros(who.size, np.int64))
        turn(
            value, tangent, place, who, measured, weight, counted.astype(np.int64), low, high, reach, tolerance, trial,
            x, cost, g, h, d, control, count, state,
        )  # fmt: skip
        who = np.flatnonzero(state == RUNNING)
    runs = []
    for j in range(s):
        if state[j] == FAILED:
            failure = likelihood.predict(x[j], tangents=False).failure or "the derivatives are not finite"
            runs.append(_Run(x[j], np.inf, False, failure, failure))
        elif state[j] != CONVERGED:
            runs.append(_run(likelihood, x[j], tolerance))
        else:
            runs.append(_Run(x[j], float(cost[j]), True, "the sum of squares does not fall any further", ""))
    return runs


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
