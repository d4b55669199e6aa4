"""Compiled code under `linear`: propagators of dx/dt = A x + v0 + v1 t over one step, and the march over stops.

Over a step h the solution is x(h) = E x(0) + P1 v0 + P2 v1 with

    E = exp(A h),   P1 = h phi1(A h),   P2 = h^2 phi2(A h),   phi_k(z) = sum_j z^j / (j + k)!

Compartmental matrices are essentially non-negative (Metzler): every off-diagonal entry is a rate constant. Their
exponential is determined entry by entry to high relative accuracy (Xue & Ye, Computing exponentials of
essentially non-negative matrices entrywise to high relative accuracy, Math. Comp. 82:1577, 2013,
doi:10.1090/S0025-5718-2013-02677-4), so what little reaches the end of a long chain is as accurate as the dose.
Three choices get there:

* Step h / 2^k so small (norm of A h / 2^k at most 1/4, and 2^k at least four times the number of states, so that
  long paths are spread over many small steps: Shao, Gao & Xue, Aggressively truncated Taylor series method,
  UMINF 12.04, 2012) that 14 Taylor terms reach rounding and no entry suffers cancellation.
* Doubling, not a shift by the largest rate: a shift s costs s h units of rounding in every entry, so a
  state that loses 1e-6 per hour would drown beside one that turns over 1e6 times per hour.
* Doubling carries D = E - I as well as E, and of each diagonal pair keeps the one that is exact: D while
  |D| < 1/2, E afterwards. (1 - 1e-12)^2 loses four digits of the rate, 2 D + D^2 none. All other terms
  of the doubling formulae are sums of non-negative numbers.

The derivative along a direction follows by differentiating the same formulae, which gives the off-diagonal block of
the exponential of [[A, 0], [dA, A]] (Van Loan 1978, doi:10.1109/TAC.1978.1101743) at half its size.
Matrices that are not Metzler take the same path with the usual, normwise accuracy; defective ones are nothing special.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkmodel.solve.jit import njit

type Floats = NDArray[np.float64]

# Loops are written out: numba takes four times as long to compile the array expressions that would replace them.

SLOTS = 8  # step lengths remembered within one march; uniform grids need one, a dosing schedule a handful


@njit()
def _add_product(a: Floats, b: Floats, out: Floats) -> None:
    """out += a b, skipping zeros of a: compartmental matrices are mostly empty."""
    n = a.shape[0]
    for i in range(n):
        for k in range(n):
            aik = a[i, k]
            if aik != 0.0:
                for j in range(n):
                    out[i, j] += aik * b[k, j]


@njit()
def _norm(A: Floats) -> float:
    """Largest column sum of |A|, bound of the fastest rate."""
    largest = 0.0
    for j in range(A.shape[1]):
        column = 0.0
        for i in range(A.shape[0]):
            column += abs(A[i, j])
        largest = max(largest, column)
    return largest


@njit()
def _combine(a: float, M: Floats, b: float, N: Floats, out: Floats) -> None:
    """out = a M + b N; out may be M or N."""
    for i in range(M.shape[0]):
        for j in range(M.shape[1]):
            out[i, j] = a * M[i, j] + b * N[i, j]


@njit()
def _finite(M: Floats) -> bool:
    """Whether every entry is finite."""
    for i in range(M.shape[0]):
        for j in range(M.shape[1]):
            if not np.isfinite(M[i, j]):
                return False
    return True


@njit()
def _product(a: Floats, b: Floats, c: Floats, d: Floats, out: Floats) -> None:
    """out = a b + c d."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = 0.0
    _add_product(a, b, out)
    _add_product(c, d, out)


@njit()
def _double(E: Floats, D: Floats, new_E: Floats, new_D: Floats) -> None:
    """exp(2 X) and exp(2 X) - I from exp(X) and exp(X) - I, without cancellation for Metzler X."""
    n = E.shape[0]
    for i in range(n):
        for j in range(n):
            between = 0.0
            for k in range(n):
                if k != i and k != j:
                    between += D[i, k] * D[k, j]
            if i != j:
                new_D[i, j] = (E[i, i] + E[j, j]) * D[i, j] + between
                new_E[i, j] = new_D[i, j]
            else:
                d = D[i, i] * (1.0 + E[i, i]) + between
                e = E[i, i] * E[i, i] + between
                small = abs(d) < 0.5
                new_D[i, i] = d if small else e - 1.0
                new_E[i, i] = 1.0 + d if small else e


@njit(
    "int64(float64[:, ::1], float64[:, :, ::1], float64, float64[:, ::1], float64[:, ::1], float64[:, ::1], "
    "float64[:, ::1], float64[:, :, ::1], float64[:, :, ::1], float64[:, :, ::1])"
)
def propagators(
    A: Floats,
    dA: Floats,
    h: float,
    E: Floats,
    D: Floats,
    P1: Floats,
    P2: Floats,
    dE: Floats,
    dP1: Floats,
    dP2: Floats,
) -> int:
    """Fill E, D = E - I, P1, P2 and their derivatives along nd directions; returns a status code (0, or 3 not finite).

    Parameters
    ----------
    A : (n, n) array [1/h]
    dA : (nd, n, n) array, derivative of A along each direction [1/h per unit of the direction]
    h : float, step [h]
    E, D, P1, P2 : (n, n) arrays, overwritten [dimensionless, dimensionless, h, h^2]
    dE, dP1, dP2 : (nd, n, n) arrays, overwritten [as above per unit of the direction]
    """
    n, nd = A.shape[0], dA.shape[0]
    norm = _norm(A)
    if not np.isfinite(norm * h):
        return 3
    doublings = int(np.ceil(np.log2(max(4.0 * norm * abs(h), 4.0 * n))))
    x = h * 2.0**-doublings
    X, dX = np.empty((n, n)), np.empty((nd, n, n))
    Q, T, new_D, zero = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n))
    dQ = np.zeros((nd, n, n))
    _combine(x, A, 0.0, zero, X)
    active = np.empty(nd, np.bool_)
    for d in range(nd):
        _combine(x, dA[d], 0.0, zero, dX[d])
        active[d] = _norm(dA[d]) > 0.0

    # Horner, from the coefficient 1/14! down to 1/2!, 1/1! and 0: Q becomes phi2, then phi1, then exp(X) - I.
    coefficient = 1.0
    for j in range(2, 15):
        coefficient /= j
    for i in range(n):
        Q[i, i] = coefficient
    for term in range(14, 0, -1):
        coefficient = coefficient * term if term > 2 else term - 1.0
        for d in range(nd):
            if active[d]:
                _product(dX[d], Q, X, dQ[d], T)
                _combine(1.0, T, 0.0, zero, dQ[d])
        _product(X, Q, zero, zero, T)
        for i in range(n):
            T[i, i] += coefficient
        _combine(1.0, T, 0.0, zero, Q)
        for d in range(nd):
            if term == 3:
                _combine(x * x, dQ[d], 0.0, zero, dP2[d])
            elif term == 2:
                _combine(x, dQ[d], 0.0, zero, dP1[d])
            elif term == 1:
                _combine(1.0, dQ[d], 0.0, zero, dE[d])
        if term == 3:
            _combine(x * x, Q, 0.0, zero, P2)
        elif term == 2:
            _combine(x, Q, 0.0, zero, P1)
    _combine(1.0, Q, 0.0, zero, D)
    _combine(1.0, Q, 0.0, zero, E)
    for i in range(n):
        E[i, i] += 1.0

    for _ in range(doublings):
        for d in range(nd):
            if active[d]:
                # the derivatives of the lines below, in an order that still finds the old P1 and E
                _product(dE[d], P2, E, dP2[d], T)
                _combine(1.0, T, 1.0, dP2[d], dP2[d])
                _combine(1.0, dP2[d], x, dP1[d], dP2[d])
                _product(dE[d], P1, E, dP1[d], T)
                _combine(1.0, T, 1.0, dP1[d], dP1[d])
                _product(dE[d], E, E, dE[d], T)
                _combine(1.0, T, 0.0, zero, dE[d])
        _product(E, P2, zero, zero, T)
        _combine(1.0, T, 1.0, P2, P2)
        _combine(1.0, P2, x, P1, P2)
        _product(E, P1, zero, zero, T)
        _combine(1.0, T, 1.0, P1, P1)
        _double(E, D, T, new_D)
        _combine(1.0, T, 0.0, zero, E)
        _combine(1.0, new_D, 0.0, zero, D)
        x *= 2.0
    finite = _finite(E) and _finite(P2)
    for d in range(nd):
        finite = finite and _finite(dE[d]) and _finite(dP2[d])
    return 0 if finite else 3


@njit()
def _add_apply(M: Floats, v: Floats, scale: float, out: Floats) -> None:
    """out += scale M v."""
    for i in range(M.shape[0]):
        total = 0.0
        for j in range(M.shape[1]):
            total += M[i, j] * v[j]
        out[i] += scale * total


@njit(
    "int64(float64[:, ::1], float64[:, ::1], float64[::1], float64[:, :, ::1], float64[:, :, ::1], float64[:, ::1], "
    "float64[::1], float64[:, ::1], float64[::1], float64[:, ::1], float64[:, :, ::1], float64[:, ::1], "
    "float64[:, :, ::1], float64[:, ::1], float64[:, ::1], float64[:, :, ::1], float64[:, :, ::1], "
    "float64[:, ::1], float64[:, :, ::1])"
)
def march(
    A: Floats,
    B: Floats,
    c: Floats,
    dA: Floats,
    dB: Floats,
    dc: Floats,
    x0: Floats,
    dx0: Floats,
    times: Floats,
    jumps: Floats,
    djumps: Floats,
    rates: Floats,
    drates: Floats,
    u0: Floats,
    du: Floats,
    du0_d: Floats,
    ddu_d: Floats,
    X: Floats,
    S: Floats,
) -> int:
    """Walk the timeline, filling X (m+1, n) and S (m+1, nd, n); returns a status code. Arguments as in `linear`.

    Uniformly spaced stops differ in their spacing by the rounding of the stop times. A propagator is reused where
    the spacings agree to 1e-9, relative and in units of the fastest rate, and the difference delta is then
    carried by x + delta dx/dt: what is left out is of order 1e-18, so nothing is rounded away and nothing drifts.
    """
    m, n, nd = rates.shape[0], A.shape[0], dA.shape[0]
    norm = _norm(A)
    lengths = np.full(SLOTS, -1.0)
    E, D = np.empty((SLOTS, n, n)), np.empty((n, n))
    P1, P2 = np.empty((SLOTS, n, n)), np.empty((SLOTS, n, n))
    dE = np.empty((SLOTS, nd, n, n))
    dP1, dP2 = np.empty((SLOTS, nd, n, n)), np.empty((SLOTS, nd, n, n))
    filled = 0
    x, y, v0, v1 = x0.copy(), np.empty(n), np.empty(n), np.empty(n)
    s = dx0.copy()
    w0, w1, w = np.empty(n), np.empty(n), np.empty(n)
    for k in range(m + 1):
        for i in range(n):
            x[i] += jumps[k, i]
            X[k, i] = x[i]
            for d in range(nd):
                s[d, i] += djumps[d, k, i]
                S[k, d, i] = s[d, i]
        if k == m:
            break
        h = times[k + 1] - times[k]
        if h == 0.0:
            continue
        slot = -1
        for i in range(min(filled, SLOTS)):
            gap = abs(h - lengths[i])
            if gap <= 1e-9 * h and gap * norm <= 1e-9:
                slot = i
                break
        if slot < 0:
            slot = filled % SLOTS
            filled += 1
            status = propagators(A, dA, h, E[slot], D, P1[slot], P2[slot], dE[slot], dP1[slot], dP2[slot])
            if status:
                return status
            lengths[slot] = h
        delta = h - lengths[slot]

        for i in range(n):
            v0[i] = c[i] + rates[k, i]
            v1[i] = 0.0
            y[i] = 0.0
        _add_apply(B, u0[k], 1.0, v0)
        _add_apply(B, du[k], 1.0, v1)
        _add_apply(E[slot], x, 1.0, y)
        _add_apply(P1[slot], v0, 1.0, y)
        _add_apply(P2[slot], v1, 1.0, y)
        if delta != 0.0:
            for i in range(n):
                w[i] = v0[i] + h * v1[i]
            _add_apply(A, y, 1.0, w)
            for i in range(n):
                y[i] += delta * w[i]
        for d in range(nd):
            for i in range(n):
                w0[i] = dc[d, i] + drates[d, k, i]
                w1[i] = 0.0
                w[i] = 0.0
            _add_apply(dB[d], u0[k], 1.0, w0)
            _add_apply(B, du0_d[d, k], 1.0, w0)
            _add_apply(dB[d], du[k], 1.0, w1)
            _add_apply(B, ddu_d[d, k], 1.0, w1)
            _add_apply(E[slot], s[d], 1.0, w)
            _add_apply(P1[slot], w0, 1.0, w)
            _add_apply(P2[slot], w1, 1.0, w)
            _add_apply(dE[slot, d], x, 1.0, w)
            _add_apply(dP1[slot, d], v0, 1.0, w)
            _add_apply(dP2[slot, d], v1, 1.0, w)
            for i in range(n):
                s[d, i] = w[i]
            if delta != 0.0:
                for i in range(n):
                    w[i] = w0[i] + h * w1[i]
                _add_apply(A, s[d], 1.0, w)
                _add_apply(dA[d], y, 1.0, w)
                for i in range(n):
                    s[d, i] += delta * w[i]
        for i in range(n):
            x[i] = y[i]
    for k in range(m + 1):
        if not _finite(S[k]):
            return 3
    return 0 if _finite(X) else 3
