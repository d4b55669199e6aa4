"""Linear models, exactly: dx/dt = A x + B u(t) + c + r between stops, with sensitivities and integrals to infinity.

There is no step size and no tolerance: each segment of the timeline is one product with exp(A h) and its
integrals (`exponential` says how these are computed). Inputs are piecewise linear and integrated exactly, so a
measured blood curve drives a tissue model with no discretisation of its own.

A failure (overflow, a singular matrix) is returned as a `Status`, never as an unexplained NaN; arrays that do not
fit together raise `SimulationError`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkmodel.solve import exponential
from pkmodel.solve.status import MESSAGES, Status
from pkmodel.solve.timeline import array, check_seeds, check_timeline

type Floats = NDArray[np.float64]


class LinearResult(NamedTuple):
    """States, sensitivities and outcome; unpacks as ``X, S, status = ...``.

    Parameters
    ----------
    X : (m+1, n) array, states at the stops, after the jump there [state]
    S : (m+1, nd, n) array, derivatives of X along each direction; nd = 0 where none were asked for
    status : Status
    """

    X: Floats
    S: Floats
    status: Status

    @property
    def message(self) -> str:
        """The status as a sentence."""
        return MESSAGES[self.status]


class Propagators(NamedTuple):
    """x(h) = E x(0) + P1 v0 + P2 v1 solves dx/dt = A x + v0 + v1 t.

    Parameters
    ----------
    E : (n, n) array, exp(A h) [dimensionless]
    D : (n, n) array, exp(A h) - I without cancellation [dimensionless]
    P1 : (n, n) array, integral of exp(A s) over 0..h [h]
    P2 : (n, n) array, integral of (h - s) exp(A s) over 0..h [h^2]
    status : Status
    """

    E: Floats
    D: Floats
    P1: Floats
    P2: Floats
    status: Status


def propagators(A: ArrayLike, h: float) -> Propagators:
    """Propagators of one step, entry by entry to high relative accuracy where A is essentially non-negative.

    A regimen repeated every h with a gain g per dose is in steady state at x = -D^-1 E g just before a dose.

    Parameters
    ----------
    A : (n, n) array [1/h]
    h : float, step [h]

    Raises
    ------
    SimulationError
        If A is not square or not finite.
    """
    matrix = _square(A)
    n = matrix.shape[0]
    E, D, P1, P2 = (np.empty((n, n)) for _ in range(4))
    none = np.empty((0, n, n))
    status = Status(exponential.propagators(matrix, none, float(h), E, D, P1, P2, none, none, none))
    return Propagators(E, D, P1, P2, status)


def expm_metzler(A: ArrayLike, h: float = 1.0) -> Floats:
    """Matrix exponential exp(A h), entry by entry to high relative accuracy where A is essentially non-negative.

    Parameters
    ----------
    A : (n, n) array [1/h]
    h : float, step [h]

    Returns
    -------
    (n, n) array; not finite where the exponential overflows, of which `propagators` gives a status [dimensionless]

    Raises
    ------
    SimulationError
        If A is not square or not finite.

    References
    ----------
    Xue & Ye 2013, doi:10.1090/S0025-5718-2013-02677-4.
    """
    return propagators(A, h).E


def solve_linear(
    A: ArrayLike,
    B: ArrayLike,
    c: ArrayLike,
    x0: ArrayLike,
    times: ArrayLike,
    jumps: ArrayLike,
    rates: ArrayLike,
    u0: ArrayLike,
    du: ArrayLike,
) -> LinearResult:
    """States of a linear model at every stop of a timeline.

    Parameters
    ----------
    A : (n, n) array [1/h]
    B : (n, q) array, effect of the inputs [state/h per input]
    c : (n,) array, constant inflow [state/h]
    x0 : (n,) array, state before the jump at times[0] [state]
    times, jumps, rates, u0, du : arrays, as in `Timeline`

    Raises
    ------
    SimulationError
        If the arrays do not fit together.
    """
    n = _square(A).shape[0]
    m = np.size(times) - 1
    q = np.shape(B)[-1] if np.ndim(B) else 0
    return solve_linear_sens(
        A,
        B,
        c,
        np.empty((0, n, n)),
        np.empty((0, n, q)),
        np.empty((0, n)),
        x0,
        np.empty((0, n)),
        times,
        jumps,
        np.empty((0, m + 1, n)),
        rates,
        np.empty((0, max(m, 0), n)),
        u0,
        du,
        np.empty((0, max(m, 0), q)),
        np.empty((0, max(m, 0), q)),
    )


def solve_linear_sens(
    A: ArrayLike,
    B: ArrayLike,
    c: ArrayLike,
    dA: ArrayLike,
    dB: ArrayLike,
    dc: ArrayLike,
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
) -> LinearResult:
    """States and their exact derivatives along nd directions, at every stop of a timeline.

    Parameters
    ----------
    A, B, c, x0, times, jumps, rates, u0, du : arrays, as in `solve_linear`
    dA : (nd, n, n) array [1/h per unit of the direction]
    dB : (nd, n, q) array
    dc : (nd, n) array
    dx0, djumps, drates, du0_d, ddu_d : arrays, as in `Seeds`

    Raises
    ------
    SimulationError
        If the arrays do not fit together.

    References
    ----------
    Van Loan 1978, doi:10.1109/TAC.1978.1101743.
    """
    matrix = _square(A)
    n = matrix.shape[0]
    inputs = array("B", B, n, -1)
    q = inputs.shape[1]
    line = check_timeline(n, times, jumps, rates, u0, du, q=q)
    seeds = check_seeds(line, dx0, djumps, drates, du0_d, ddu_d)
    nd = seeds.dx0.shape[0]
    X, S = np.full(line.jumps.shape, np.nan), np.full((line.times.size, nd, n), np.nan)
    with np.errstate(all="ignore"):
        status = exponential.march(
            matrix,
            inputs,
            array("c", c, n),
            array("dA", dA, nd, n, n),
            array("dB", dB, nd, n, q),
            array("dc", dc, nd, n),
            array("x0", x0, n),
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
            X,
            S,
        )
    return LinearResult(X, S, Status(status))


class Integral(NamedTuple):
    """Integral from now to infinity, its derivatives, and whether it exists.

    Parameters
    ----------
    value : (n,) array, not a number where status is not OK [state h]
    derivative : (nd, n) array [state h per unit of the direction]
    status : Status
    """

    value: Floats
    derivative: Floats
    status: Status


def integral_to_infinity(
    A: ArrayLike, x: ArrayLike, dA: ArrayLike | None = None, dx: ArrayLike | None = None
) -> Integral:
    """Integral of exp(A t) x from zero to infinity, -A^-1 x, and its derivatives -A^-1 (dx + dA value).

    The status is SINGULAR where some activity reaches a state it never leaves, and GROWING where it does not die out.

    Parameters
    ----------
    A : (n, n) array [1/h]
    x : (n,) array, state now [state]
    dA : (nd, n, n) array, optional [1/h per unit of the direction]
    dx : (nd, n) array, optional [state per unit of the direction]

    Raises
    ------
    SimulationError
        If the arrays do not fit together.
    """
    matrix = _square(A)
    n = matrix.shape[0]
    slopes = array("dA", np.empty((0, n, n)) if dA is None else dA, -1, n, n)
    nd = slopes.shape[0]
    seeds = array("dx", np.zeros((nd, n)) if dx is None else dx, nd, n)
    start = array("x", x, n)
    failed = np.full(n, np.nan), np.full((nd, n), np.nan)
    if n == 0:
        return Integral(start.copy(), seeds.copy(), Status.OK)
    # Scaling each column by its largest entry makes "no way out" visible whatever the units and rates are.
    scale = np.abs(matrix).max(axis=0)
    if (scale == 0.0).any() or np.linalg.cond(matrix / scale) > 1.0 / (n * np.finfo(float).eps):
        return Integral(*failed, Status.SINGULAR)
    if np.linalg.eigvals(matrix).real.max() >= 0.0:
        return Integral(*failed, Status.GROWING)
    value = -np.linalg.solve(matrix, start)
    right = seeds + slopes @ value
    return Integral(value, -np.linalg.solve(matrix, right.T).T if nd else seeds.copy(), Status.OK)


def _square(A: ArrayLike) -> Floats:
    """A as a finite, square float matrix."""
    n = np.shape(A)[0] if np.ndim(A) else -1
    return array("A", A, n, n)
