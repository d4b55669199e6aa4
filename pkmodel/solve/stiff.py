"""Nonlinear models: dx/dt = f(t, x, u(t), p) + r, adaptive implicit Runge-Kutta with forward sensitivities.

The scheme is Kvaerno's ESDIRK 5(4) (`esdirk_tableau`); it stops exactly at every time of the timeline and starts afresh
there, so a dose or a kink of an input never lies inside a step. Sensitivities are the exact derivatives of
the discrete solution for the steps that were taken (`esdirk`).

Steps are chosen from the states alone by default: X is then the same to the last bit with and without
sensitivities, which an optimiser needs, at the price that S is a few times less accurate than X. Ask for a smaller
rtol, or give `satol` to put S under the error test too.

Compilation, numba 0.68: the driver has one explicit signature and is compiled once for all models. A model's kernels
arrive as addresses (`kernels.Kernels`), so a new model compiles its own few small functions and nothing else.
Measured on one core: the driver 8 s once per installation, two kernels of a five-state model 0.8 s once, 7 ms from
the disk cache; numba itself takes 0.5 s in every process, and one call of the driver 0.1 ms beside its steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkmodel.errors import SimulationError
from pkmodel.solve import esdirk, esdirk_tableau
from pkmodel.solve.kernels import Kernels
from pkmodel.solve.status import MESSAGES, Status
from pkmodel.solve.timeline import Seeds, Timeline, array, check_seeds, check_timeline

type Floats = NDArray[np.float64]

SMALLEST_RTOL = 1e-13
NEWTON_TOLERANCE = 1e-3  # of the error tolerance: small enough that the tangent is that of the scheme


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StiffResult:
    """States, sensitivities and how the solve went.

    Parameters
    ----------
    X : (m+1, n) array, states at the stops, after the jump there; rows not reached are not numbers [state]
    S : (m+1, nd, n) array, derivatives of X along each direction; nd = 0 where none were asked for
    status : Status
    steps : int, accepted steps [dimensionless]
    rejected : int, steps given up [dimensionless]
    evaluations : int, right-hand sides evaluated [dimensionless]
    """

    X: Floats
    S: Floats
    status: Status
    steps: int
    rejected: int
    evaluations: int

    @property
    def message(self) -> str:
        """The status as a sentence."""
        return MESSAGES[self.status]


def solve_stiff(
    kernels: Kernels,
    p: ArrayLike,
    x0: ArrayLike,
    times: ArrayLike,
    jumps: ArrayLike,
    rates: ArrayLike,
    u0: ArrayLike,
    du: ArrayLike,
    *,
    rtol: float = 1e-8,
    atol: ArrayLike = 1e-12,
    max_steps: int = 100_000,
) -> StiffResult:
    """States of a nonlinear model at every stop of a timeline.

    Parameters
    ----------
    kernels : Kernels
    p : (np,) array, parameters [any]
    x0 : (n,) array, state before the jump at times[0] [state]
    times, jumps, rates, u0, du : arrays, as in `Timeline`
    rtol : float, relative tolerance of a step [dimensionless]
    atol : float or (n,) array, absolute tolerance of a step, per state [state]
    max_steps : int, steps allowed over the whole timeline, rejected ones included [dimensionless]

    Raises
    ------
    SimulationError
        If the arrays do not fit together or a tolerance is not positive.
    """
    start = array("x0", x0, -1)
    line = check_timeline(start.size, times, jumps, rates, u0, du)
    m, q, n = line.rates.shape[0], line.u0.shape[1], start.size
    values = array("p", p, -1)
    none = Seeds(
        np.empty((0, n)), np.empty((0, m + 1, n)), np.empty((0, m, n)), np.empty((0, m, q)), np.empty((0, m, q))
    )
    return _solve(kernels, values, np.empty((0, values.size)), start, line, none, rtol, atol, None, max_steps)


def solve_stiff_sens(
    kernels: Kernels,
    p: ArrayLike,
    P: ArrayLike,
    x0: ArrayLike,
    dx0: ArrayLike,
    times: ArrayLike,
    jumps: ArrayLike,
    djumps: ArrayLike,
    rates: ArrayLike,
    drates: ArrayLike,
    u0: ArrayLike,
    du: ArrayLike,
    du0_d: ArrayLike,
    ddu_d: ArrayLike,
    *,
    rtol: float = 1e-8,
    atol: ArrayLike = 1e-12,
    satol: ArrayLike | None = None,
    max_steps: int = 100_000,
) -> StiffResult:
    """States and their derivatives along nd directions, at every stop of a timeline.

    Parameters
    ----------
    kernels : Kernels
        With dfdp where P has a nonzero, and dfdu where an input seed has one.
    p, x0, times, jumps, rates, u0, du, rtol, atol, max_steps : as in `solve_stiff`
    P : (nd, np) array, derivative of the parameters along each direction
    dx0, djumps, drates, du0_d, ddu_d : arrays, as in `Seeds`
    satol : (nd, n) array, optional
        Absolute tolerance of each sensitivity; given, they share the error test at the same rtol
        [state per unit of the direction].

    Raises
    ------
    SimulationError
        If the arrays do not fit together, a tolerance is not positive, or a derivative kernel is missing.
    """
    start = array("x0", x0, -1)
    line = check_timeline(start.size, times, jumps, rates, u0, du)
    seeds = check_seeds(line, dx0, djumps, drates, du0_d, ddu_d)
    values = array("p", p, -1)
    directions = array("P", P, seeds.dx0.shape[0], values.size)
    if kernels.dfdp is None and directions.any():
        raise SimulationError("solver: P asks for derivatives by parameters, but the model has no dfdp kernel")
    if kernels.dfdu is None and (seeds.du0_d.any() or seeds.ddu_d.any()):
        raise SimulationError("solver: an input seed is not zero, but the model has no dfdu kernel")
    return _solve(kernels, values, directions, start, line, seeds, rtol, atol, satol, max_steps)


def _solve(
    kernels: Kernels,
    p: Floats,
    P: Floats,
    x0: Floats,
    line: Timeline,
    seeds: Seeds,
    rtol: float,
    atol: ArrayLike,
    satol: ArrayLike | None,
    max_steps: int,
) -> StiffResult:
    """Run the compiled march and wrap what it leaves."""
    n, nd = x0.size, seeds.dx0.shape[0]
    absolute = array("atol", np.broadcast_to(np.asarray(atol, dtype=np.float64), (n,)), n)
    shared = np.empty((0, n)) if satol is None else array("satol", satol, nd, n)
    if not rtol >= SMALLEST_RTOL:
        raise SimulationError(f"solver: rtol is {rtol}; it must be at least {SMALLEST_RTOL:g} (rounding)")
    if not (absolute > 0).all() or not (shared > 0).all():
        raise SimulationError("solver: every absolute tolerance (atol, satol) must be above zero")
    X = np.full(line.jumps.shape, np.nan)
    S = np.full((line.times.size, nd, n), np.nan)
    counts = np.zeros(3, dtype=np.int64)
    code = esdirk.march(
        np.array(kernels.addresses, dtype=np.int64),
        np.array(esdirk_tableau.A),
        np.array(esdirk_tableau.C),
        esdirk_tableau.GAMMA,
        esdirk_tableau.ORDER,
        p,
        P,
        x0,
        seeds.dx0,
        line.times,
        line.jumps,
        seeds.djumps,
        line.rates,
        seeds.drates,
        line.u0,
        line.du,
        seeds.du0_d,
        seeds.ddu_d,
        float(rtol),
        absolute,
        shared,
        int(max_steps),
        max(NEWTON_TOLERANCE, 100.0 * np.finfo(np.float64).eps / rtol),
        X,
        S,
        counts,
    )
    steps, rejected, evaluations = (int(i) for i in counts)
    return StiffResult(X=X, S=S, status=Status(code), steps=steps, rejected=rejected, evaluations=evaluations)
