"""Eigenvalues and eigenvectors of a small real matrix whose eigenvalues are real, for compiled code.

Balanced by powers of two, made triangular by shifted QR steps of plane rotations, A = Q T Q^T, and solved back:
A = V diag(lam) W with W V = 1 (Golub & Van Loan, Matrix Computations, 4th ed. 2013, sections 7.4 to 7.6; algorithm of
the 2 by 2 block as in EISPACK's hqr2, Smith et al. 1976, doi:10.1007/3-540-07546-1). A pair of complex eigenvalues or
a defective matrix is said by the status.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pkmodel.solve.jit import njit

type Floats = NDArray[np.float64]
EPSILON = 2.220446049250313e-16
FINE, REFUSED = 0, 1


@njit(inner=True, allocates=False)
def _rotate(T: Floats, Q: Floats, i: int, c: float, s: float, first: int) -> None:
    """T <- G T G^T and Q <- Q G^T with the rotation G of rows i and i + 1; T is zero left of column `first`."""
    n = T.shape[0]
    for j in range(first, n):
        a, b = T[i, j], T[i + 1, j]
        T[i, j], T[i + 1, j] = c * a + s * b, c * b - s * a
    for j in range(n):
        a, b = T[j, i], T[j, i + 1]
        T[j, i], T[j, i + 1] = c * a + s * b, c * b - s * a
        a, b = Q[j, i], Q[j, i + 1]
        Q[j, i], Q[j, i + 1] = c * a + s * b, c * b - s * a


@njit(inner=True, allocates=False)
def _block(T: Floats, Q: Floats, i: int) -> int:
    """Make the 2 by 2 block at i triangular."""
    a, b, c, d = T[i, i], T[i, i + 1], T[i + 1, i], T[i + 1, i + 1]
    half = 0.5 * (a - d)
    root = half * half + b * c
    if not root >= 0.0:
        return REFUSED
    z = half + math.copysign(math.sqrt(root), half)
    if z == 0.0:
        return REFUSED if b != 0.0 or c != 0.0 else FINE
    # an eigenvector of the eigenvalue d + z is (z, c), and that of the other one is d - b c / z
    size = math.hypot(z, c)
    _rotate(T, Q, i, z / size, c / size, 0)
    T[i, i], T[i + 1, i + 1], T[i + 1, i] = d + z, d - b * (c / z), 0.0
    return FINE


@njit(inner=True, allocates=False)
def _triangular(T: Floats, Q: Floats) -> int:
    """T <- Q^T T Q, upper triangular."""
    n = T.shape[0]
    for j in range(n - 2):
        for i in range(n - 2, j, -1):
            if T[i + 1, j] != 0.0:
                size = math.hypot(T[i, j], T[i + 1, j])
                _rotate(T, Q, i, T[i, j] / size, T[i + 1, j] / size, 0)
                T[i + 1, j] = 0.0
    high, turns = n - 1, 0
    while high > 0:
        low = high
        while low > 0:
            scale = abs(T[low, low]) + abs(T[low - 1, low - 1])
            if abs(T[low, low - 1]) <= EPSILON * scale:
                T[low, low - 1] = 0.0
                break
            low -= 1
        if low == high:
            high, turns = high - 1, 0
            continue
        if low == high - 1:
            if _block(T, Q, low):
                return REFUSED
            high, turns = high - 2, 0
            continue
        turns += 1
        if turns > 40:
            return REFUSED
        a, d, bc = T[high - 1, high - 1], T[high, high], T[high - 1, high] * T[high, high - 1]
        half = 0.5 * (a - d)
        root = half * half + bc
        shift = d
        if root > 0.0:
            z = half + math.copysign(math.sqrt(root), half)
            shift = d - bc / z
        x, y = T[low, low] - shift, T[low + 1, low]
        for i in range(low, high):
            size = math.hypot(x, y)
            if size == 0.0:
                break
            _rotate(T, Q, i, x / size, y / size, 0)
            if i > low:
                T[i + 1, i - 1] = 0.0
            if i + 2 <= high:
                x, y = T[i + 1, i], T[i + 2, i]
    return FINE


@njit("int64(float64[:, ::1], int64, float64[::1], float64[:, ::1], float64[:, ::1])")
def modes(A: Floats, n: int, lam: Floats, V: Floats, W: Floats) -> int:
    """Fill lam, V, W; returns 0, or 1 where an eigenvalue is not real or eigenvectors do not span all.

    Parameters
    ----------
    A : (>= n, n) array, of which the first n rows count [1/h]
    n : order [1]
    lam : (n,) array, overwritten [1/h]
    V, W : (n, n) arrays, overwritten, A = V diag(lam) W, W V = 1 [1]
    """
    T, Q, D = np.empty((n, n)), np.zeros((n, n)), np.ones(n)
    norm = 0.0
    for i in range(n):
        for j in range(n):
            T[i, j] = A[n - 1 - i, n - 1 - j]  # a chain from source to sink is upper triangular when turned round
            if not math.isfinite(T[i, j]):
                return REFUSED
        Q[i, i] = 1.0
    for _ in range(2 if n > 1 else 0):
        for i in range(n):
            row = column = 0.0
            for j in range(n):
                if j != i:
                    row += abs(T[i, j])
                    column += abs(T[j, i])
            if row > 0.0 and column > 0.0:
                factor = 2.0 ** math.floor(0.5 * (math.log2(row) - math.log2(column)) + 0.5)
                if factor != 1.0:
                    D[i] *= factor
                    for j in range(n):
                        T[i, j] /= factor
                    for j in range(n):
                        T[j, i] *= factor
    for i in range(n):
        for j in range(n):
            norm = max(norm, abs(T[i, j]))
    if n == 2:
        if (T[0, 1] != 0.0 or T[1, 0] != 0.0) and T[1, 0] != 0.0 and _block(T, Q, 0):
            return REFUSED
    elif n > 2 and _triangular(T, Q):
        return REFUSED
    near = 16.0 * n * EPSILON * norm
    # T Y = Y diag(lam) with Y unit upper triangular; X = Y^-1
    Y, X = np.zeros((n, n)), np.zeros((n, n))
    for j in range(n):
        lam[j] = T[j, j]
        Y[j, j] = X[j, j] = 1.0
        for i in range(j - 1, -1, -1):
            total = 0.0
            for k in range(i + 1, j + 1):
                total += T[i, k] * Y[k, j]
            gap = T[j, j] - T[i, i]
            if abs(gap) <= near:
                if abs(total) > near:
                    return REFUSED
            else:
                Y[i, j] = total / gap
        for i in range(j - 1, -1, -1):
            total = 0.0
            for k in range(i + 1, j + 1):
                total += Y[i, k] * X[k, j]
            X[i, j] = -total
    for i in range(n):
        for j in range(n):
            v = w = 0.0
            for k in range(n):
                if k <= j:
                    v += Q[i, k] * Y[k, j]
                if k >= i:
                    w += X[i, k] * Q[j, k]
            V[n - 1 - i, j] = D[i] * v
            W[i, n - 1 - j] = w / D[j]
    return FINE
