"""Bounded least squares from many starts at once (Levenberg 1944, Marquardt 1963), for compiled code.

Each turn takes what was found at the points tried, keeps or drops each, and says what to try next; who computes the
residuals is not known here. Steps solve (J^T J + mu D^2) step = -J^T r in what is not held at a bound; mu follows the
ratio of the reduction found to the reduction predicted (Nielsen 1999, IMM-REP-1999-05, section 2). Steps beyond a bound
are cut off there (Kanzow et al. 2004, doi:10.1016/j.cam.2004.02.013).

D is 1 on a log scale, where equal steps are equal factors, so that of two parameters that say the same the one that
says it with the smaller step moves; on any other scale it is the largest column norm of J so far (More 1978,
doi:10.1007/BFb0067700) in units of the largest of all at the start.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pkmodel.solve.jit import njit

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]
RUNNING, CONVERGED, STUCK, FAILED = 0, 1, 2, 3
ROUNDING = 1e-13  # of a sum of squares
BOLDER = 4  # times that a start which gains no more is tried with longer steps before it has converged


@njit(inner=True, allocates=False)
def _factor(H: Floats, mu: float, D: Floats, held: Integers, L: Floats) -> bool:
    """L L^T = H + mu diag(D^2), rows and columns that are held being those of the unit matrix."""
    k = H.shape[0]
    for i in range(k):
        for j in range(i + 1):
            total = 0.0 if held[i] or held[j] else H[i, j]
            if i == j:
                total = 1.0 if held[i] else total + mu * D[i] * D[i]
            for q in range(j):
                total -= L[i, q] * L[j, q]
            if i == j:
                if not total > 0.0:
                    return False
                L[i, i] = math.sqrt(total)
            else:
                L[i, j] = total / L[j, j]
    return True


@njit(inner=True, allocates=False)
def _propose(
    x: Floats, g: Floats, H: Floats, D: Floats, low: Floats, high: Floats, reach: Floats, mu: float, held: Integers,
    L: Floats, trial: Floats,
) -> float:  # fmt: skip
    """Fill the point to try; returns the reduction of the sum of squares that is expected there, negative: no step."""
    k = x.size
    for j in range(k):
        held[j] = int((x[j] <= low[j] and g[j] >= 0.0) or (x[j] >= high[j] and g[j] <= 0.0) or D[j] == 0.0)
    if not _factor(H, mu, D, held, L):
        return -1.0
    for i in range(k):
        total = 0.0 if held[i] else -g[i]
        for q in range(i):
            total -= L[i, q] * trial[q]
        trial[i] = total / L[i, i]
    for i in range(k - 1, -1, -1):
        total = trial[i]
        for q in range(i + 1, k):
            total -= L[q, i] * trial[q]
        trial[i] = total / L[i, i]
    expected, longest = 0.0, 1.0
    for i in range(k):
        if trial[i] * trial[i] > longest * longest * reach[i] * reach[i]:
            longest = abs(trial[i]) / reach[i]
    for i in range(k):
        trial[i] /= longest
        trial[i] = min(max(x[i] + trial[i], low[i]), high[i])
    for i in range(k):
        step, total = trial[i] - x[i], 0.0
        for j in range(k):
            total += H[i, j] * (trial[j] - x[j])
        expected -= step * (2.0 * g[i] + total)
    return expected


@njit(
    "int64(float64[::1], float64[:, ::1], int64[::1], int64[::1], float64[::1], float64[::1], int64[::1], "
    "float64[::1], float64[::1], float64[::1], float64, float64[:, ::1], float64[:, ::1], float64[::1], "
    "float64[:, ::1], float64[:, :, ::1], float64[:, ::1], float64[:, ::1], int64[::1], int64[::1])"
)
def turn(
    value: Floats, tangent: Floats, place: Integers, who: Integers, measured: Floats, weight: Floats, keep: Integers,
    low: Floats, high: Floats, reach: Floats, tolerance: float, trial: Floats, x: Floats, cost: Floats, g: Floats,
    H: Floats, D: Floats, control: Floats, count: Integers, state: Integers,
) -> int:  # fmt: skip
    """Judge the points tried and write the next into `trial`; returns how many starts still run.

    Parameters
    ----------
    value, tangent : (R,), (R, k) arrays, predictions at the points tried, one start after the other
    place : (S + 1,) array, first row of each
    who : (S,) array, the starts they belong to, which index all that follows `tolerance`
    measured, weight, keep : (rows,) arrays; a residual is weight (prediction - measured), if keep is not zero
    low, high : (k,) arrays, bounds
    reach : (k,) array, longest step of each on a log scale, so that none leaps to where nothing matters; else infinity
    tolerance : relative reduction of the sum of squares at which a start has converged
    trial, x, g, D : (starts, k) arrays: point to try, best point, half the gradient there, scale
    cost : (starts,) array, sum of squares at x; infinity before the first turn
    H : (starts, k, k) array, J^T J
    control : (starts, 5) array: mu (negative before the first turn), its next factor, expected reduction, turns
        without a gain, largest diagonal element of J^T J at the start
    count, state : (starts,) arrays: evaluations, and whether a start runs
    """
    k = low.size
    gradient, matrix, step, L, held = (
        np.empty(k),
        np.empty((k, k)),
        np.empty(k),
        np.empty((k, k)),
        np.empty(k, np.int64),
    )
    running = 0
    for n in range(who.size):
        s = who[n]
        total = 0.0
        gradient[:], matrix[:] = 0.0, 0.0
        for r in range(place[n], place[n + 1]):
            o = r - place[n]
            if keep[o]:
                w = weight[o]
                residual = w * (value[r] - measured[o])
                total += residual * residual
                for i in range(k):
                    a = w * tangent[r, i]
                    gradient[i] += a * residual
                    for j in range(i + 1):
                        matrix[i, j] += a * w * tangent[r, j]
        fine = math.isfinite(total)
        for i in range(k):
            for j in range(i + 1):
                matrix[j, i] = matrix[i, j]
                fine = fine and math.isfinite(matrix[i, j])
        count[s] += 1
        first = control[s, 0] < 0.0
        if first and not fine:
            state[s] = FAILED
            continue
        found, expected = cost[s] - total, control[s, 2]
        ended = False
        if not first and expected <= tolerance * cost[s] and not (fine and found > tolerance * cost[s]):
            ended = True  # nothing is to be gained any more
        # where the sum of squares no longer tells, the gradient still does
        if fine and (first or found > 0.0 or (ended and found > -ROUNDING * cost[s])):
            if not first:
                ratio = found / expected if expected > 0.0 else 1.0
                control[s, 0] *= max(1.0 / 3.0, 1.0 - (2.0 * ratio - 1.0) ** 3)
                control[s, 1] = 2.0
                if found <= tolerance * cost[s] and expected <= 10.0 * tolerance * cost[s]:
                    ended = True
            else:
                top = 0.0
                for i in range(k):
                    top = max(top, matrix[i, i])
                control[s, 0], control[s, 1], control[s, 3], control[s, 4] = 1e-3 * top, 2.0, 0.0, top
            moved = False
            cost[s] = min(cost[s], total)
            for i in range(k):
                moved = moved or abs(trial[s, i] - x[s, i]) > 1e-13 * (abs(x[s, i]) + 1e-3)
                x[s, i], g[s, i] = trial[s, i], gradient[i]
                column = math.sqrt(matrix[i, i] / control[s, 4]) if control[s, 4] > 0.0 else 0.0
                D[s, i] = max(D[s, i], column) if reach[i] == np.inf else 1.0
                for j in range(k):
                    H[s, i, j] = matrix[i, j]
            if total == 0.0 or not (moved or first):
                state[s] = CONVERGED
        else:
            control[s, 0] *= control[s, 1]
            control[s, 1] *= 2.0
        if ended and state[s] == RUNNING:
            # where D is far above the columns of J, short steps may only seem to gain nothing
            control[s, 3] += 1.0
            control[s, 0], control[s, 1] = min(control[s, 0], 1e-3 ** control[s, 3] * control[s, 4]), 2.0
            if control[s, 3] > BOLDER:
                state[s] = CONVERGED
        if state[s] == RUNNING:
            expected = -1.0
            for _ in range(60):
                expected = _propose(x[s], g[s], H[s], D[s], low, high, reach, control[s, 0], held, L, step)
                if expected >= 0.0:
                    break
                control[s, 0] *= control[s, 1]
                control[s, 1] *= 2.0
            far = 0.0
            for i in range(k):
                far = max(far, abs(step[i] - x[s, i]) / (abs(x[s, i]) + 1e-3))
                trial[s, i] = step[i]
            control[s, 2] = expected
            if expected < 0.0 or far < 1e-13:
                state[s] = CONVERGED
            elif count[s] >= 300:
                state[s] = STUCK
        running += int(state[s] == RUNNING)
    return running
