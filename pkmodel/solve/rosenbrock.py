r"""Rodas5P: the Rosenbrock method of the engine, its coefficients and its plainest form.

For y' = f(y) and a step of length h from y, with J = f'(y) exact and one matrix for all eight stages::

    W = I/(gamma h) - J
    Y_i = y + sum_{j<i} a_ij u_j                     W u_i = f(Y_i) + sum_{j<i} (c_ij / h) u_j          i = 1..8
    y_new = y + sum_i m_i u_i = Y_8 + u_8            error estimate = u_8

This is the u-form of Hairer & Wanner (1996, Solving Ordinary Differential Equations II, IV.7,
doi:10.1007/978-3-642-05221-7): no product with J is needed. The coefficients are Rodas5P's (Steinebach 2023,
Construction of Rosenbrock-Wanner method Rodas5P and numerical benchmarks within the Julia Differential Equations
package, BIT 63:27, doi:10.1007/s10543-023-00967-x): order 5 with an estimate of order 4, stiffly accurate and L-stable,
so that a component that decays in no time is simply at rest after the step. The last two stages add to the one before
(Y_7 = Y_6 + u_6, Y_8 = Y_7 + u_7), so only six rows of a are written out.

Between t and t + h the solution is the polynomial of order 4 ::

    y(t + theta h) = (1 - theta) y + theta (y_new + (1 - theta) (D_0 + theta (D_1 + theta D_2)))
    D_r = sum_j h_rj u_j

The method is written for an autonomous system; where time matters, time is a state whose rate is one, and the terms
with df/dt of the textbook are part of W. A kernel's arrays are described in the compiler; here each has one lane.

`step_kernel` is the plain form under the kernels' own calling convention. Its work array starts with what a model's own
machine code would know by itself: `HEAD` numbers, written by `head`. It serves the back end without SIMD and the
pivoting fallback; the fast form of the same formulae is written by the compiler.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkmodel.solve.call import call, carray, kernel
from pkmodel.solve.jit import njit

type Floats = NDArray[np.float64]

STAGES = 8
ORDER = 5  # of the solution; the estimate and the dense output have order 4
GAMMA = 0.21193756319429014

_A = [
    [],
    [3.0],
    [2.849394379747939, 0.45842242204463923],
    [-6.954028509809101, 2.489845061869568, -10.358996098473584],
    [2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641],
    [-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946],
]
_C = [
    [],
    [-14.155112264123755],
    [-17.97296035885952, -2.859693295451294],
    [147.12150275711716, -1.41221402718213, 71.68940251302358],
    [165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306],
    [24.854864614690072, -3.0009227002832186, 47.4931110020768, 5.5814197821558125, -0.6610691825249471],
    [30.91273214028599, -3.1208243349937974, 77.79954646070892, 34.28646028294783, -19.097331116725623,
     -28.087943162872662],
    [37.80277123390563, -3.2571969029072276, 112.26918849496327, 66.9347231244047, -40.06618937091002,
     -54.66780262877968, -9.48861652309627],
]  # fmt: skip
_H = [
    [25.948786856663858, -2.5579724845846235, 10.433815404888879, -2.3679251022685204, 0.524948541321073,
     1.1241088310450404, 0.4272876194431874, -0.17202221070155493],
    [-9.91568850695171, -0.9689944594115154, 3.0438037242978453, -24.495224566215796, 20.176138334709044,
     15.98066361424651, -6.789040303419874, -6.710236069923372],
    [11.419903575922262, 2.8879645146136994, 72.92137995996029, 80.12511834622643, -52.072871366152654,
     -59.78993625266729, -0.15582684282751913, 4.883087185713722],
]  # fmt: skip


def _lower(rows: list[list[float]]) -> Floats:
    """A strictly lower triangular matrix from its rows."""
    matrix = np.zeros((STAGES, STAGES))
    for i, row in enumerate(rows):
        matrix[i, : len(row)] = row
    return matrix


A = _lower([*_A, [*_A[5], 1.0], [*_A[5], 1.0, 1.0]])
C = _lower(_C)
H = np.array(_H)
M = np.append(A[7, :7], 1.0)  # y_new = y + sum m_i u_i
for _table in (A, C, H, M):
    _table.setflags(write=False)


@njit()
def step(
    rhs: int, factor: int, solve: int, n: int, y: Floats, q: Floats, ctl: Floats, atol: Floats, K: Floats, u: Floats,
    w: Floats,
) -> None:  # fmt: skip
    """One step of one patient; leaves the mean square of the scaled error estimate in ``ctl[3]``.

    Parameters
    ----------
    rhs, factor, solve : machine addresses of kernels for one lane
    n : number of states
    y : (n,) state at the start
    q : (nq,) parameters and constants
    ctl : (5,) 1/h, 1/(gamma h), rtol; then written: mean squared error, largest multiplier [1/h, 1/h, 1, 1, 1]
    atol : (n,) absolute tolerance [state]
    K : (8 n,) written: u_1 ... u_8 [state]
    u : (n,) written: the new state
    w : (nw,) written: the factors of W
    """
    at_y, at_q, at_u, at_w, at_k = y.ctypes.data, q.ctypes.data, u.ctypes.data, w.ctypes.data, K.ctypes.data
    call(factor, (at_y, at_q, ctl[1:].ctypes.data, at_w))
    for i in range(STAGES):
        for k in range(n):
            stage = y[k]
            for j in range(i):
                stage += A[i, j] * K[j * n + k]
            u[k] = stage
        at_stage = at_k + 8 * n * i
        call(rhs, (at_u, at_q, at_stage))
        for k in range(n):
            known = 0.0
            for j in range(i):
                known += C[i, j] * K[j * n + k]
            K[i * n + k] += known * ctl[0]
        call(solve, (at_w, at_stage))
    total = 0.0
    for k in range(n):
        error = K[7 * n + k]
        u[k] += error
        total += (error / (atol[k] + ctl[2] * max(abs(y[k]), abs(u[k])))) ** 2
    ctl[3] = total / n
    ctl[4] = w[-1]


@njit()
def dense(n: int, K: Floats, D: Floats) -> None:
    """Coefficients of the polynomial through the step.

    Parameters
    ----------
    n : number of states
    K : (8 n,) u_1 ... u_8 of an accepted step [state]
    D : (3 n,) written: D_0, D_1, D_2 [state]
    """
    for r in range(3):
        for k in range(n):
            total = 0.0
            for j in range(STAGES):
                total += H[r, j] * K[j * n + k]
            D[r * n + k] = total


@njit()
def interpolate(n: int, y: Floats, u: Floats, D: Floats, theta: float, out: Floats) -> None:
    """State inside a step.

    Parameters
    ----------
    n : number of states
    y, u : (n,) states at the start and at the end
    D : (3 n,) from `dense` [state]
    theta : part of the step that has passed, 0 to 1 [1]
    out : (n,) written: the state at t + theta h
    """
    rest = 1.0 - theta
    for k in range(n):
        out[k] = rest * y[k] + theta * (u[k] + rest * (D[k] + theta * (D[n + k] + theta * D[2 * n + k])))


HEAD = 6  # n, nq, length of the factors, addresses of rhs, factor and solve


def head(n: int, nq: int, nw: int, rhs: int, factor: int, solve: int) -> Floats:
    """First numbers of `step_kernel`'s work array; an address is below 2^53 and fits a float exactly.

    Parameters
    ----------
    n, nq, nw : numbers of states, of parameters with constants, and of the factors' entries
    rhs, factor, solve : machine addresses of kernels for one lane

    Returns
    -------
    (6,) array; the work array has 6 + nw entries.
    """
    return np.array([n, nq, nw, rhs, factor, solve], dtype=np.float64)


@kernel(7)
def step_kernel(y: Any, q: Any, ctl: Any, atol: Any, K: Any, u: Any, w: Any) -> None:
    """`step` as a kernel; the model is named in the head of the work array."""
    known = carray(w, HEAD)
    n, nq, nw = int(known[0]), int(known[1]), int(known[2])
    factors = carray(w, HEAD + nw)[HEAD:]
    step(
        int(known[3]), int(known[4]), int(known[5]), n, carray(y, n), carray(q, nq), carray(ctl, 5), carray(atol, n),
        carray(K, STAGES * n), carray(u, n), factors,
    )  # fmt: skip
