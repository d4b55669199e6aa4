r"""Linear models of few states in closed form: modes, their convolution with doses and inputs, and exact derivatives.

With A = V diag(lam) W and W V = 1, what a channel (a dose route, a measured input, production, the initial state)
brings into the states by its vector g(p) is a sum over modes of one scalar function each,

.. math:: x(t) = \sum_i V_i (W_i g)\, z_i(t), \qquad z_i(t) = \int_0^t e^{\lambda_i (t - s)} u(s)\, ds,

where u is made of impulses and of pieces that are linear in time. The derivative along a direction of the parameters
needs nothing but the same functions and their derivatives by lam: with M = W dA V,

.. math:: dx = \sum_i V_i \Big[ (W_i\, dg)\, z_i + M_{ii} (W_i g) \frac{\partial z_i}{\partial\lambda_i}
          + \sum_{j \ne i} M_{ij} (W_j g) \frac{z_i - z_j}{\lambda_i - \lambda_j} \Big]

(Najfeld & Havel 1995, doi:10.1006/aama.1995.1017, applied to a convolution). z_i, its integral and both derivatives are
carried from knot to knot by the functions phi_k(lam h), h the step (`_phi`); there is no step size and no tolerance. So
the cost is that of one exponential for each mode and knot, whatever the number of directions. Equal, nearly equal and
complex eigenvalues, and eigenvectors that lie too close together, are found by `_trusted` and refused: exact
propagation (`solve.exponential`) has no such limits.

Everything here is for compiled code; a generated module (`compiler.modal_code`) joins it to one model and says how it
is called.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pkmodel.solve.jit import njit

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]
FINE, REFUSED, NOT_FINITE = 0, 1, 3
EPSILON = 2.220446049250313e-16
LOST = 1e-11  # of a curve's height, that rounding in the modes may cost before they are refused
SAME = 1e-7  # lam_i - lam_j in units of one over the time it has: below, the derivative is their quotient


@njit(inner=True, allocates=False)
def _phi(x: float) -> tuple[float, float, float, float, float]:
    """phi_0 .. phi_4 of x, phi_0 = exp(x), phi_k(x) = (phi_{k-1}(x) - 1/(k-1)!)/x; phi_k' = phi_k - k phi_{k+1}.

    Within 0.7 of zero by the series of phi_4, of which what is left out is below 1e-17 of it.
    """
    if abs(x) < 0.7:
        q = 1.0 / 6227020800.0 + x * (1.0 / 87178291200.0 + x * (1.0 / 1307674368000.0))
        q = 1.0 / 39916800.0 + x * (1.0 / 479001600.0 + x * q)
        q = 1.0 / 362880.0 + x * (1.0 / 3628800.0 + x * q)
        q = 1.0 / 5040.0 + x * (1.0 / 40320.0 + x * q)
        p4 = 1.0 / 24.0 + x * (1.0 / 120.0 + x * (1.0 / 720.0 + x * q))
        p3 = 1.0 / 6.0 + x * p4
        p2 = 0.5 + x * p3
        p1 = 1.0 + x * p2
        return 1.0 + x * p1, p1, p2, p3, p4
    e, r = math.exp(x), 1.0 / x
    p1 = (e - 1.0) * r
    p2 = (p1 - 1.0) * r
    p3 = (p2 - 0.5) * r
    return e, p1, p2, p3, (p3 - 1.0 / 6.0) * r


@njit(inner=True, allocates=False)
def _weights(lam: float, h: float) -> tuple[float, float, float, float, float, float, float, float]:
    """exp(lam h), what a state, a value and a slope at the start of a step add up to in it, and derivatives by lam."""
    e, p1, p2, p3, p4 = _phi(lam * h)
    h2 = h * h
    h3 = h2 * h
    return e, h * e, h * p1, h2 * (p1 - p2), h2 * p2, h3 * (p2 - 2.0 * p3), h3 * p3, h2 * h2 * (p3 - 3.0 * p4)


@njit(inner=True, allocates=False)
def _mode(
    lam: float, at: Floats, jump: Floats, u: Floats, m: Floats, first: int, end: int, delay: float, times: Floats,
    begin: int, stop: int, Z: Floats,
) -> None:  # fmt: skip
    """Fill Z (4, times) of one mode of one channel: z, dz/dlam and the integrals of both from time zero.

    A step that is as long as the one before, but for the rounding of the times, takes its weights.
    """
    z = dz = y = dy = last = before = 0.0
    e, he, a, b, c, d, f, g = 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    k, o, n = first, 0, stop - begin
    while o < n:
        t = times[begin + o]
        knot = k < end and at[k] + delay <= t
        if knot:
            t = at[k] + delay
        if k == first or t <= 0.0:
            if not knot:
                Z[0, o], Z[1, o], Z[2, o], Z[3, o] = z, dz, y, dy
                o += 1
                continue
        else:
            start = max(last, 0.0)  # what comes before time zero does not count
            h = t - start
            if abs(h - before) > 4.0 * EPSILON * t:
                e, he, a, b, c, d, f, g = _weights(lam, h)
                before = h
            slope = m[k - 1]
            value = u[k - 1] + slope * (start - last)
            z1, dz1 = e * z + a * value + c * slope, e * dz + he * z + b * value + d * slope
            y1, dy1 = y + a * z + c * value + f * slope, dy + a * dz + b * z + d * value + g * slope
            if not knot:
                Z[0, o], Z[1, o], Z[2, o], Z[3, o] = z1, dz1, y1, dy1
                o += 1
                continue
            z, dz, y, dy = z1, dz1, y1, dy1
        if t >= 0.0:
            z += jump[k]
        last = t
        k += 1


@njit(inner=True, allocates=False)
def _itself(
    at: Floats,
    u: Floats,
    m: Floats,
    first: int,
    end: int,
    delay: float,
    times: Floats,
    begin: int,
    stop: int,
    Z: Floats,
) -> float:
    """Fill Z (3, times) with a channel: its value, slope and integral; returns what it is at time zero if it began
    before."""
    total, last, origin = 0.0, 0.0, 0.0
    k = first
    for r in range(begin, stop):
        t = times[r]
        while k < end and at[k] + delay <= t:
            if k > first:
                h = at[k] - at[k - 1]
                total += h * (u[k - 1] + 0.5 * h * m[k - 1])
            last = at[k] + delay
            k += 1
        o = r - begin
        if k == first:
            Z[0, o] = Z[1, o] = Z[2, o] = 0.0
        else:
            h = t - last
            Z[0, o], Z[1, o] = u[k - 1] + h * m[k - 1], m[k - 1]
            Z[2, o] = total + h * (u[k - 1] + 0.5 * h * m[k - 1])
    if at[first] + delay < 0.0:
        k = first
        while k + 1 < end and at[k + 1] + delay <= 0.0:
            k += 1
        origin = u[k] - m[k] * (at[k] + delay)
    return origin


@njit(inner=True, allocates=False)
def _cancelled(n: int, lam: Floats, V: Floats, W: Floats, span: float) -> float:
    """By how much modes are larger than their sum, sum_i V_ki W_ij exp(lam_i t), in which state j shows in state k.

    The sum is looked at when each mode has fallen to 1/e, or at the end of the time span.
    """
    worst = 1.0
    for k in range(n):
        for j in range(n):
            size, high, left, right = 0.0, 0.0, 0.0, 0.0
            for i in range(n):
                size += abs(V[k, i] * W[i, j])
                left, right = max(left, abs(V[k, i])), max(right, abs(W[i, j]))
            if size <= 1e-12 * left * right:
                continue  # a zero but for rounding
            for q in range(n):
                t = min(span, 1.0 / abs(lam[q])) if lam[q] != 0.0 else span
                now = 0.0
                for i in range(n):
                    now += V[k, i] * W[i, j] * math.exp(lam[i] * t)
                high = max(high, abs(now))
            worst = max(worst, size / max(high, 1e-300))
    return worst


@njit(inner=True, allocates=False)
def _trusted(A: Floats, n: int, lam: Floats, V: Floats, W: Floats, span: float) -> bool:
    """Whether rounding in lam, V and W costs less than `LOST` of what follows within a time span.

    Judged are how much modes cancel, of which derivatives feel the square; the distance of eigenvalues; and the
    residual W A V - diag(lam), over the time in which its modes live.
    """
    for i in range(n):
        if lam[i] * span > 30.0:
            return False
    worst = _cancelled(n, lam, V, W, span)
    if not worst * worst * EPSILON < LOST:
        return False
    for i in range(n):
        for j in range(n):
            off, weight = 0.0, 0.0
            for k in range(n):
                av = 0.0
                for q in range(n):
                    av += A[k, q] * V[q, j]
                off += W[i, k] * av
                weight += abs(W[i, k] * V[k, j])
            if i == j:
                off -= lam[i]
            slow = min(abs(lam[i]), abs(lam[j]))
            time = span if slow * span < 1.0 else 1.0 / slow
            if not abs(off) * time < LOST * max(weight, 1.0):
                return False
            gap = abs(lam[i] - lam[j]) * time
            if i != j and gap >= SAME and not worst * EPSILON < LOST * min(gap, 1.0):
                return False
    return True


@njit(inner=True, allocates=False)
def _slopes(
    lam: Floats, V: Floats, W: Floats, h: Floats, g: Floats, dA: Floats, dG: Floats, d: int, span: float, M: Floats,
    x: Floats, a: Floats, b: Floats,
) -> None:  # fmt: skip
    """Coefficients of z (a) and of dz/dlam (b), each (k, observables, channels, n), in derivative d of the observables.

    The terms of delays are not in them; M (n, n) and x (n,) are overwritten.
    """
    n, observables, channels = lam.shape[0], h.shape[0], g.shape[1]
    for j in range(n):
        for i in range(n):
            total = 0.0
            for q in range(n):
                total += dA[d, i, q] * V[q, j]
            x[i] = total
        for i in range(n):
            total = 0.0
            for q in range(n):
                total += W[i, q] * x[q]
            M[i, j] = total
    for c in range(channels):
        for i in range(n):
            total = 0.0
            for q in range(n):
                total += W[i, q] * dG[d, q, c]
            x[i] = total
        for o in range(observables):
            for i in range(n):
                total = 0.0
                for q in range(n):
                    total += dA[d, n + o, q] * V[q, i]
                a[d, o, c, i] = total * g[i, c] + h[o, i] * x[i]
                b[d, o, c, i] = h[o, i] * M[i, i] * g[i, c]
            for i in range(n):
                for j in range(i):
                    ij, ji = h[o, i] * M[i, j] * g[j, c], h[o, j] * M[j, i] * g[i, c]
                    gap = lam[i] - lam[j]
                    slow = min(abs(lam[i]), abs(lam[j]))
                    if abs(gap) * min(span, 1.0 / slow if slow > 0.0 else span) < SAME:
                        b[d, o, c, i] += 0.5 * (ij + ji)
                        b[d, o, c, j] += 0.5 * (ij + ji)
                    else:
                        a[d, o, c, i] += (ij + ji) / gap
                        a[d, o, c, j] -= (ij + ji) / gap


@njit(inner=True, allocates=False)
def _add_mode(
    Z: Floats, times: Floats, begin: int, lam: Floats, h: Floats, g: Floats, a: Floats, b: Floats, later: Floats,
    origin: float, c: int, i: int, observable: Integers, start: Integers, end: Integers, scale: Floats, first: int,
    stop: int, place: int, value: Floats, tangent: Floats,
) -> None:  # fmt: skip
    """Add mode i of channel c to the rows.

    The channel's delay moves z by -(lam z + u - origin exp(lam t)): `origin` is what the channel is at time zero, if it
    began before.
    """
    nd, rate = later.shape[0], lam[i]
    for r in range(first, stop):
        o, s, e, f, to = observable[r], start[r], end[r], scale[r], place + r - first
        weight = h[o, i] * g[i, c]
        if s == e:
            z, dz, moved = f * Z[0, s], f * Z[1, s], f * rate * Z[0, s]
        else:
            z, dz, moved = f * (Z[2, e] - Z[2, s]), f * (Z[3, e] - Z[3, s]), f * (Z[0, e] - Z[0, s])
        if origin != 0.0:
            t = times[begin + s]
            more = f * origin * math.exp(rate * t)
            moved -= more if s == e else more * _weights(rate, times[begin + e] - t)[2]
        value[to] += weight * z
        for d in range(nd):
            tangent[to, d] += a[d, o, c, i] * z + b[d, o, c, i] * dz - later[d, c] * weight * moved


@njit(inner=True, allocates=False)
def _add_itself(
    Z: Floats, A: Floats, G: Floats, dG: Floats, later: Floats, c: int, observable: Integers, start: Integers,
    end: Integers, scale: Floats, first: int, stop: int, place: int, value: Floats, tangent: Floats,
) -> None:  # fmt: skip
    """Add what channel c is in the observables without passing through a state, and what its delay moves."""
    n = A.shape[1]
    for r in range(first, stop):
        o, s, e, f, to = n + observable[r], start[r], end[r], scale[r], place + r - first
        direct = G[o, c]
        if s == e:
            enters = 0.0
            for q in range(n):
                enters += A[o, q] * G[q, c]
            u, moved = f * Z[0, s], f * (enters * Z[0, s] + direct * Z[1, s])
        else:
            u, moved = f * (Z[2, e] - Z[2, s]), f * direct * (Z[0, e] - Z[0, s])
        value[to] += direct * u
        for d in range(later.shape[0]):
            tangent[to, d] += dG[d, o, c] * u - later[d, c] * moved


@njit(inner=True, allocates=False)
def _passes(h: Floats, g: Floats, a: Floats, b: Floats, c: int, i: int) -> bool:
    """Whether channel c is seen through mode i."""
    for o in range(h.shape[0]):
        if h[o, i] * g[i, c] != 0.0:
            return True
        for d in range(a.shape[0]):
            if a[d, o, c, i] != 0.0 or b[d, o, c, i] != 0.0:
                return True
    return False


@njit(inner=True, allocates=False)
def _is_seen(n: int, G: Floats, dG: Floats, later: Floats, c: int) -> bool:
    """Whether channel c is seen itself, or its delay is wanted."""
    for d in range(later.shape[0]):
        if later[d, c] != 0.0:
            return True
    for o in range(n, G.shape[0]):
        if G[o, c] != 0.0:
            return True
        for d in range(dG.shape[0]):
            if dG[d, o, c] != 0.0:
                return True
    return False


@njit(
    "int64(float64[:, ::1], float64[:, ::1], float64[:, :, ::1], float64[:, :, ::1], float64[::1], float64[:, ::1], "
    "float64[::1], float64[:, ::1], float64[:, ::1], int64[::1], float64[::1], float64[::1], float64[::1], "
    "float64[::1], int64, int64, float64[::1], int64, int64, int64[::1], int64[::1], int64[::1], float64[::1], int64, "
    "float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, :, :, ::1], float64[:, :, :, ::1], "
    "float64[:, ::1], float64[::1], float64[:, ::1])",
    allocates=False,
)
def follow(
    A: Floats, G: Floats, dA: Floats, dG: Floats, wait: Floats, later: Floats, lam: Floats, V: Floats, W: Floats,
    bounds: Integers, at: Floats, jump: Floats, u: Floats, m: Floats, begin: int, finish: int, times: Floats,
    first: int, stop: int, observable: Integers, start: Integers, end: Integers, scale: Floats, place: int,
    h: Floats, g: Floats, M: Floats, a: Floats, b: Floats, Z: Floats, value: Floats, tangent: Floats,
) -> int:  # fmt: skip
    """Rows of one subject at one set of parameters; returns 0, 1 (refused: propagate exactly) or 3 (not finite).

    A row is the value of an observable at a time, or the difference of its integral between two times, times `scale`.

    Parameters
    ----------
    A, G : (n + observables, n), (n + observables, channels) arrays, of dx/dt = A x + G u and, below, the observables
    dA, dG : (k, ...) arrays, their derivatives along k directions; k = 0 for values only
    wait, later : (channels,), (k, channels) arrays, delay of each channel and its derivatives [h]
    lam, V, W : arrays, the first n rows of A are V diag(lam) W (`modal_eigen.modes`)
    bounds : (channels + 1,) array, where each channel's knots lie in the following
    at, jump, u, m : arrays, times [h], impulses there, value and slope from there on
    begin, finish : of this subject's times in `times` (increasing from 0 or later) [h]
    first, stop : of this subject's rows in the following
    observable, start, end : arrays, number of the observable, and of two times counted from `begin`; equal: the value
    scale : array, factor of the row
    place : first row of `value` and `tangent` to write
    h, g, M : (observables, n), (n, channels), (n + 1, n) arrays, overwritten
    a, b, Z : (k, observables, channels, n) arrays and (4, times) array, overwritten
    value, tangent : (rows,), (rows, k) arrays, written
    """
    n, channels, nd = A.shape[1], G.shape[1], dA.shape[0]
    observables = A.shape[0] - n
    for r in range(place, place + stop - first):
        value[r] = 0.0
        for d in range(nd):
            tangent[r, d] = 0.0
    span = times[finish - 1] if finish > begin else 0.0
    if not _trusted(A, n, lam, V, W, span):
        return REFUSED
    for i in range(n):
        for o in range(observables):
            h[o, i] = 0.0
            for q in range(n):
                h[o, i] += A[n + o, q] * V[q, i]
        for c in range(channels):
            g[i, c] = 0.0
            for q in range(n):
                g[i, c] += W[i, q] * G[q, c]
    for d in range(nd):
        _slopes(lam, V, W, h, g, dA, dG, d, span, M[:n], M[n], a, b)
    for c in range(channels):
        low, high = bounds[c], bounds[c + 1]
        if low == high:
            continue
        origin = 0.0
        if _is_seen(n, G, dG, later, c):
            origin = _itself(at, u, m, low, high, wait[c], times, begin, finish, Z)
            _add_itself(Z, A, G, dG, later, c, observable, start, end, scale, first, stop, place, value, tangent)
        for i in range(n):
            if _passes(h, g, a, b, c, i):
                _mode(lam[i], at, jump, u, m, low, high, wait[c], times, begin, finish, Z)
                _add_mode(
                    Z, times, begin, lam, h, g, a, b, later, origin, c, i, observable, start, end, scale, first, stop,
                    place, value, tangent,
                )  # fmt: skip
    for r in range(place, place + stop - first):
        if not math.isfinite(value[r]):
            return NOT_FINITE
        for d in range(nd):
            if not math.isfinite(tangent[r, d]):
                return NOT_FINITE
    return FINE
