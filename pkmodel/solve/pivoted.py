"""The fallback where the fixed order of pivots fails: dense LU with partial pivoting, one patient at a time.

The compiler eliminates in an order chosen once from the pattern of the Jacobian. That is accurate where
W = I/(gamma h) - J is close to diagonally dominant, which mass balance makes the rule, and fails where a pivot cancels:
growth at a rate of 1/(gamma h), or a pair of states that feed each other. The driver notices (multipliers too large, a
NaN from a zero pivot) and says so; the engine then solves those patients again with the two kernels of this file in
place of the model's `factor` and `solve`. Everything else - stages, error test, records, outputs - is the same code.
Partial pivoting bounds every multiplier by one (Golub & Van Loan 2013, Matrix Computations, 3.4).

The kernels learn the model from the head of their work array: n, the number of the Jacobian's entries, the address of
the `jacobian` kernel, then row and column of each entry. Behind the head lie the factors (n^2), the order of the rows
(n), the entries and the largest multiplier.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkmodel.solve.call import call, carray, kernel
from pkmodel.solve.jit import njit

type Floats = NDArray[np.float64]

NAMED = 3  # n, number of entries, address of the jacobian kernel


def head(n: int, jacobian: int, rows: Floats, columns: Floats) -> Floats:
    """First numbers of the work array.

    Parameters
    ----------
    n : number of states
    jacobian : machine address of the kernel for one lane
    rows, columns : (nnz,) arrays, where each entry of the Jacobian stands

    Returns
    -------
    (3 + 2 nnz,) array
    """
    return np.concatenate([[n, len(rows), jacobian], rows, columns]).astype(np.float64)


def length(n: int, entries: int) -> int:
    """Length of the work array.

    Parameters
    ----------
    n, entries : numbers of states and of entries of the Jacobian
    """
    return NAMED + 2 * entries + n * n + n + entries + 1


@njit()
def factorise(W: Floats, order: Floats) -> float:
    """W = P L U in place, rows exchanged for the largest pivot; the largest multiplier, NaN for a singular matrix.

    Parameters
    ----------
    W : (n, n) array, overwritten by L (below the diagonal) and U [1/h]
    order : (n,) written: the row exchanged with each row
    """
    n = W.shape[0]
    largest = 0.0
    for k in range(n):
        best = k
        for i in range(k + 1, n):
            if abs(W[i, k]) > abs(W[best, k]):
                best = i
        order[k] = best
        if best != k:
            for j in range(n):
                W[k, j], W[best, j] = W[best, j], W[k, j]
        if not 0.0 < abs(W[k, k]) < np.inf:
            return np.nan
        for i in range(k + 1, n):
            if W[i, k] != 0.0:
                W[i, k] /= W[k, k]
                largest = max(largest, abs(W[i, k]))
                for j in range(k + 1, n):
                    W[i, j] -= W[i, k] * W[k, j]
    return largest


@njit()
def substitute(W: Floats, order: Floats, x: Floats) -> None:
    """Solve with the factors, in place.

    Parameters
    ----------
    W, order : from `factorise`
    x : (n,) right-hand side, overwritten by the solution
    """
    n = W.shape[0]
    for k in range(n):
        swap = int(order[k])
        x[k], x[swap] = x[swap], x[k]
    for i in range(n):
        for j in range(i):
            x[i] -= W[i, j] * x[j]
    for i in range(n - 1, -1, -1):
        for j in range(i + 1, n):
            x[i] -= W[i, j] * x[j]
        x[i] /= W[i, i]


@kernel(4)
def factor(y: Any, q: Any, g: Any, w: Any) -> None:
    """The kernel `factor`, W = g I - J, by `factorise`."""
    n, entries = int(w[0]), int(w[1])
    work = carray(w, NAMED + 3 * entries + n * n + n + 1)
    rows, columns = work[NAMED:], work[NAMED + entries :]
    factors = work[NAMED + 2 * entries :]
    W, order, J = factors[: n * n].reshape(n, n), factors[n * n :], factors[n * n + n :]
    call(int(w[2]), (carray(y, n).ctypes.data, carray(q, 1).ctypes.data, J.ctypes.data))
    W[:, :] = 0.0
    for k in range(n):
        W[k, k] = g[0]
    for k in range(entries):
        W[int(rows[k]), int(columns[k])] -= J[k]
    work[-1] = factorise(W, order)


@kernel(2)
def solve(w: Any, x: Any) -> None:
    """The kernel `solve`, by `substitute`."""
    n, entries = int(w[0]), int(w[1])
    factors = carray(w, NAMED + 2 * entries + n * n + n)[NAMED + 2 * entries :]
    substitute(factors[: n * n].reshape(n, n), factors[n * n :], carray(x, n))
