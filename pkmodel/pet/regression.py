"""Weighted linear least squares with standard errors, and how errors carry over to functions of the coefficients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """Coefficients of ``y = columns @ coefficients`` with their covariance, the noise estimated from the residuals."""

    coefficients: Array  # (p,)
    covariance: Array  # (p, p); nan where no point is left to judge the noise
    predicted: Array  # (n,) for every row, counted or not

    def error(self, slope: Array) -> float:
        """Standard error of a function of the coefficients with this derivative, (p,)."""
        return float(np.sqrt(slope @ self.covariance @ slope))


def regress(columns: Array, y: Array, variance: Array, who: str) -> Line:
    """Least squares weighted by one over the variance; rows of infinite variance do not count.

    Raises
    ------
    FitError
        There are fewer points than coefficients, or the columns depend on one another.
    """
    counted = np.isfinite(variance)
    n, p = int(counted.sum()), columns.shape[1]
    if n < p:
        raise FitError(f"{who}: {n} points for {p} coefficients; use an earlier t_star or more frames")
    root = 1.0 / np.sqrt(variance[counted])
    size = np.sqrt(np.sum((columns[counted] * root[:, None]) ** 2, axis=0))
    if np.any(size == 0):
        raise FitError(f"{who}: one term of the equation is zero in every point; check input and reference")
    scaled = columns[counted] * root[:, None] / size
    u, s, v = np.linalg.svd(scaled, full_matrices=False)
    if s[-1] < 1e-12 * s[0]:
        raise FitError(f"{who}: the points do not tell the terms of the equation apart; use fewer terms or more frames")
    found = (v.T @ ((u.T @ (y[counted] * root)) / s)) / size
    predicted = columns @ found
    left = (y[counted] - predicted[counted]) * root
    noise = float(left @ left) / (n - p) if n > p else float("nan")
    covariance = noise * (v.T / s**2 @ v) / np.outer(size, size)
    return Line(found, covariance, predicted)


def propagated(line: Line, columns: Array, y: Array, weighting: Array, jacobian: Array, variance: Array) -> Line:
    """The same coefficients with the errors that noise of the measured curve causes through every term.

    A term such as the integral of the measured curve carries its noise, and neighbouring residuals share it; the usual
    formula takes terms as exact and residuals as independent, and its errors are too small.

    Parameters
    ----------
    line : of `regress`
    columns, y, weighting : what it was found with, (n, p), (n,), (n,)
    jacobian : (n, n) derivative of each residual by each measured value, coefficients held
    variance : (n,) of the measured values, up to one factor; infinite ones are left out
    """
    used = np.isfinite(weighting)
    n, p = int(used.sum()), columns.shape[1]
    if n <= p:
        return line
    size = np.sqrt(np.sum((columns[used] / np.sqrt(weighting[used])[:, None]) ** 2, axis=0))
    x, w = columns[used] / size, 1.0 / weighting[used]
    solve = np.linalg.solve((x.T * w) @ x, x.T * w)  # coefficients from ordinates
    known = np.where(np.isfinite(variance), variance, 0.0)
    noise = (jacobian[used] * known) @ jacobian[used].T
    left = np.eye(n) - x @ solve
    expected = float(np.sum(w * np.sum((left @ noise) * left, axis=1)))
    residual = y[used] - line.predicted[used]
    scale = float(np.sum(w * residual**2)) / expected if expected > 0 else float("nan")
    covariance = scale * solve @ noise @ solve.T / np.outer(size, size)
    return Line(line.coefficients, covariance, line.predicted)
