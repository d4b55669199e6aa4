"""Compiled code under `stiff`: one adaptive march over a timeline, with the tangent of every accepted step.

One step of length h solves, stage after stage,  Y_i = x + h sum_{j<i} a_ij k_j + h gamma k_i,  k_i = f(t_i, Y_i) + r,
by Newton's method with the matrix I - h gamma J(t, x) factorised once per step. The tangent of an
accepted step differentiates these equations with h held fixed:

    (I - h gamma J_i) S_i = s + h sum_{j<i} a_ij K_j + h gamma (f_p P + f_u du + dr),     J_i = df/dy at (t_i, Y_i)

J_i is the Jacobian at the stage value itself, so S is the exact derivative of the discrete solution and not an
approximation of its own accuracy.

How kernels are called. numba can take a function as an argument and still cache the caller, but looks the address
up through Python at each call of the driver, at 20 to 30 microseconds a function. `_vector_kernel` and `_matrix_kernel`
do the last part of that by hand: they turn an address (found once per model in `kernels`) into numba's own
function value, so a call of the driver costs nothing extra. The driver has one explicit signature, is compiled
once, and loads from the disk cache afterwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types  # type: ignore[import-untyped, unused-ignore]
from numba.core import cgutils as _cgutils  # type: ignore[import-untyped, unused-ignore]
from numba.extending import intrinsic as _intrinsic  # type: ignore[import-untyped, unused-ignore]
from numpy.typing import NDArray

from pkmodel.solve.jit import njit

type Floats = NDArray[np.float64]

# numba's own extension interface has no types, whether or not a stub package is installed.
cgutils: Any = _cgutils
intrinsic: Any = _intrinsic

_VECTOR = types.float64[::1]
_MATRIX = types.float64[:, ::1]
_VECTOR_KERNEL = types.FunctionType(types.void(types.float64, _VECTOR, _VECTOR, _VECTOR, _VECTOR))
_MATRIX_KERNEL = types.FunctionType(types.void(types.float64, _VECTOR, _VECTOR, _VECTOR, _MATRIX))


def _from_address(kind: Any) -> Any:
    """Generator of machine code that makes a numba function value of an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = cgutils.create_struct_proxy(kind)(context, builder)
        pointer = context.get_value_type(types.voidptr)
        function.c_addr = builder.inttoptr(args[0], pointer)
        function.py_addr = cgutils.get_null_value(pointer)
        function.jit_addr = cgutils.get_null_value(pointer)
        return function._getvalue()

    return codegen


def _vector(context: Any, address: Any) -> Any:
    return _VECTOR_KERNEL(types.int64), _from_address(_VECTOR_KERNEL)


def _matrix(context: Any, address: Any) -> Any:
    return _MATRIX_KERNEL(types.int64), _from_address(_MATRIX_KERNEL)


_vector_kernel: Any = intrinsic(_vector)
_matrix_kernel: Any = intrinsic(_matrix)


@njit()
def _factorise(J: Floats, scale: float, LU: Floats, pivot: NDArray[np.int64]) -> bool:
    """LU = P (I - scale J) with partial pivoting; False where the matrix is singular or not finite."""
    n = J.shape[0]
    for i in range(n):
        for j in range(n):
            LU[i, j] = -scale * J[i, j]
        LU[i, i] += 1.0
    for k in range(n):
        best, row = abs(LU[k, k]), k
        for i in range(k + 1, n):
            if abs(LU[i, k]) > best:
                best, row = abs(LU[i, k]), i
        pivot[k] = row
        if not (best > 0.0 and best < np.inf):
            return False
        if row != k:
            for j in range(n):
                LU[k, j], LU[row, j] = LU[row, j], LU[k, j]
        for i in range(k + 1, n):
            if LU[i, k] != 0.0:
                LU[i, k] /= LU[k, k]
                factor = LU[i, k]
                for j in range(k + 1, n):
                    LU[i, j] -= factor * LU[k, j]
    return True


@njit()
def _back_substitute(LU: Floats, pivot: NDArray[np.int64], b: Floats) -> None:
    """Overwrite b with the solution of (I - scale J) x = b."""
    n = LU.shape[0]
    for k in range(n):
        row = pivot[k]
        if row != k:
            b[k], b[row] = b[row], b[k]
    for i in range(n):
        total = b[i]
        for j in range(i):
            total -= LU[i, j] * b[j]
        b[i] = total
    for i in range(n - 1, -1, -1):
        total = b[i]
        for j in range(i + 1, n):
            total -= LU[i, j] * b[j]
        b[i] = total / LU[i, i]


@njit()
def _input(u0: Floats, du: Floats, k: int, elapsed: float, u: Floats) -> None:
    """u = inputs at `elapsed` into segment k."""
    for i in range(u.size):
        u[i] = u0[k, i] + du[k, i] * elapsed


@njit()
def _norm(v: Floats, x: Floats, y: Floats, rtol: float, atol: Floats) -> float:
    """Largest |v_i| in units of its tolerance at x and y; infinite where any is not a number."""
    worst = 0.0
    for i in range(v.size):
        e = abs(v[i]) / (atol[i] + rtol * max(abs(x[i]), abs(y[i])))
        if not e < np.inf:
            return np.inf
        worst = max(worst, e)
    return worst


@njit(
    "int64(int64[::1], float64[:, ::1], float64[::1], float64, int64, float64[::1], float64[:, ::1], "
    "float64[::1], float64[:, ::1], float64[::1], float64[:, ::1], float64[:, :, ::1], "
    "float64[:, ::1], float64[:, :, ::1], float64[:, ::1], float64[:, ::1], float64[:, :, ::1], float64[:, :, ::1], "
    "float64, float64[::1], float64[:, ::1], int64, float64, float64[:, ::1], float64[:, :, ::1], int64[::1])"
)
def march(
    addresses: NDArray[np.int64],
    a: Floats,
    c: Floats,
    gamma: float,
    order: int,
    p: Floats,
    P: Floats,
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
    rtol: float,
    atol: Floats,
    satol: Floats,
    max_steps: int,
    newton: float,
    X: Floats,
    S: Floats,
    counts: NDArray[np.int64],
) -> int:
    """Walk the timeline, filling X, S and counts (accepted, rejected, right-hand sides); returns a status code.

    `satol` is empty where sensitivities take no part in the error test. Other arguments as in `stiff`.
    """
    m, n, q, nd = rates.shape[0], x0.size, u0.shape[1], dx0.shape[0]
    stages, npar = a.shape[0], p.size
    rhs, jac = _vector_kernel(addresses[0]), _matrix_kernel(addresses[1])
    dfdp, dfdu = _matrix_kernel(addresses[2]), _matrix_kernel(addresses[3])
    has_p, has_u = addresses[2] != 0, addresses[3] != 0

    x, u, f, known, delta, error = x0.copy(), np.zeros(q), np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    k1, f1, y1 = np.zeros(n), np.zeros(n), np.zeros(n)
    Y, K = np.zeros((stages, n)), np.zeros((stages, n))
    J, LU, pivot = np.zeros((n, n)), np.zeros((n, n)), np.zeros(n, np.int64)
    JS, LUS, pivotS = np.zeros((n, n)), np.zeros((n, n)), np.zeros(n, np.int64)
    Fp, Fu = np.zeros((n, npar)), np.zeros((n, q))
    s, ds1 = dx0.copy(), np.zeros((nd, n))
    Z, KS = np.zeros((nd, n)), np.zeros((stages, nd, n))
    hint = 0.0

    for k in range(m + 1):
        changed = k == 0
        for i in range(n):
            x[i] += jumps[k, i]
            X[k, i] = x[i]
            changed = changed or jumps[k, i] != 0.0 or (k < m and rates[k, i] != rates[k - 1, i])
            for d in range(nd):
                s[d, i] += djumps[d, k, i]
                S[k, d, i] = s[d, i]
        if k == m:
            break
        start, stop = times[k], times[k + 1]
        if stop == start:
            continue
        t = start
        smallest = 16.0 * 2.220446049250313e-16 * max(abs(start), abs(stop))

        # Every segment starts with a fresh slope: rates, inputs and the state may all have jumped.
        _input(u0, du, k, 0.0, u)
        rhs(t, x, u, p, k1)
        counts[2] += 1
        for i in range(n):
            k1[i] += rates[k, i]
        slope = _norm(k1, x, x, rtol, atol)
        if not slope < np.inf:
            return 3
        if changed:
            # First step of Hairer, Norsett & Wanner, Solving ODEs I, II.4: one Euler step and its change of slope.
            size = _norm(x, x, x, rtol, atol)
            h0 = 1e-6 * (stop - start) if size < 1e-5 or slope < 1e-5 else 0.01 * size / slope
            h0 = min(h0, stop - start)
            for i in range(n):
                y1[i] = x[i] + h0 * k1[i]
            _input(u0, du, k, h0, u)
            rhs(t + h0, y1, u, p, f1)
            counts[2] += 1
            for i in range(n):
                f1[i] += rates[k, i] - k1[i]
            bend = max(_norm(f1, x, x, rtol, atol) / h0, slope)
            h1 = max(1e-6 * (stop - start), 1e-3 * h0) if bend < 1e-15 else (0.01 / bend) ** (1.0 / order)
            h1 = min(100.0 * h0, h1) if bend < np.inf else h0
            # An empty state with a minute tolerance proposes less than time can resolve; the error test has the say.
            h1 = max(h1, 64.0 * smallest)
            hint = h1 if hint == 0.0 else min(hint, h1)
        if nd > 0:
            _input(u0, du, k, 0.0, u)
            jac(t, x, u, p, JS)
            if has_p:
                dfdp(t, x, u, p, Fp)
            if has_u:
                dfdu(t, x, u, p, Fu)
            for d in range(nd):
                for i in range(n):
                    total = drates[d, k, i]
                    for j in range(n):
                        total += JS[i, j] * s[d, j]
                    for j in range(npar):
                        total += Fp[i, j] * P[d, j]
                    for j in range(q):
                        total += Fu[i, j] * du0_d[d, k, j]
                    ds1[d, i] = total

        h = hint
        rejected, fresh, failure = False, False, 2
        while t < stop:
            if counts[0] + counts[1] >= max_steps:
                return 1
            left = stop - t
            last = h >= 0.999 * left
            # Two equal steps to the stop rather than a full one and a sliver.
            step = left if last else (0.5 * left if h > 0.5 * left else h)
            if step < smallest and not (last and not rejected):
                return failure
            if not fresh:
                _input(u0, du, k, t - start, u)
                jac(t, x, u, p, J)
                fresh = True
            ok = _factorise(J, step * gamma, LU, pivot)
            if not ok:
                failure = 5

            for i in range(n):
                Y[0, i] = x[i]
                K[0, i] = k1[i]
            stage = 1
            while ok and stage < stages:
                tau = t + c[stage] * step
                _input(u0, du, k, tau - start, u)
                for i in range(n):
                    total = 0.0
                    for j in range(stage):
                        total += a[stage, j] * K[j, i]
                    known[i] = x[i] + step * total
                    Y[stage, i] = known[i] + step * gamma * K[stage - 1, i]
                # Newton, until what is left is a small part of the tolerance by the observed rate of contraction.
                before, converged = np.inf, False
                for iteration in range(10):
                    rhs(tau, Y[stage], u, p, f)
                    counts[2] += 1
                    for i in range(n):
                        delta[i] = known[i] - Y[stage, i] + step * gamma * (f[i] + rates[k, i])
                    _back_substitute(LU, pivot, delta)
                    change = _norm(delta, x, Y[stage], rtol, atol)
                    if not change < np.inf:
                        failure = 3
                        break
                    for i in range(n):
                        Y[stage, i] += delta[i]
                    contraction = change / before
                    if contraction < 1.0 and change * contraction / (1.0 - contraction) < newton:
                        converged = iteration > 0 or change < 0.01 * newton
                    # Stuck far below the tolerance is rounding, not divergence.
                    converged = converged or (iteration > 3 and change < 0.01)
                    if converged or (iteration > 1 and contraction > 2.0):
                        break
                    before = change
                if not converged:
                    failure = 3 if failure == 3 else 4
                ok = ok and converged
                for i in range(n):
                    K[stage, i] = (Y[stage, i] - known[i]) / (step * gamma)
                stage += 1
            if not ok:
                counts[1] += 1
                h = 0.25 * step
                rejected = True
                continue

            for i in range(n):
                total = 0.0
                for j in range(stages):
                    total += (a[stages - 1, j] - a[stages - 2, j]) * K[j, i]
                error[i] = step * total
            size = _norm(error, x, Y[stages - 1], rtol, atol)

            if size <= 1.0 and nd > 0:
                for d in range(nd):
                    for i in range(n):
                        KS[0, d, i] = ds1[d, i]
                for stage in range(1, stages):
                    tau = t + c[stage] * step
                    _input(u0, du, k, tau - start, u)
                    jac(tau, Y[stage], u, p, JS)
                    if has_p:
                        dfdp(tau, Y[stage], u, p, Fp)
                    if has_u:
                        dfdu(tau, Y[stage], u, p, Fu)
                    if not _factorise(JS, step * gamma, LUS, pivotS):
                        return 5
                    for d in range(nd):
                        for i in range(n):
                            total = 0.0
                            for j in range(stage):
                                total += a[stage, j] * KS[j, d, i]
                            known[i] = s[d, i] + step * total
                            total = drates[d, k, i]
                            for j in range(npar):
                                total += Fp[i, j] * P[d, j]
                            for j in range(q):
                                total += Fu[i, j] * (du0_d[d, k, j] + ddu_d[d, k, j] * (tau - start))
                            Z[d, i] = known[i] + step * gamma * total
                        _back_substitute(LUS, pivotS, Z[d])
                        for i in range(n):
                            KS[stage, d, i] = (Z[d, i] - known[i]) / (step * gamma)
                for d in range(satol.shape[0]):
                    for i in range(n):
                        total = 0.0
                        for j in range(stages):
                            total += (a[stages - 1, j] - a[stages - 2, j]) * KS[j, d, i]
                        error[i] = step * total
                    size = max(size, _norm(error, s[d], Z[d], rtol, satol[d]))

            factor = 5.0 if size < 1e-6 else 0.9 * size ** (-1.0 / order)
            factor = min(5.0, max(0.2, factor))
            if size > 1.0:
                counts[1] += 1
                failure = 2
                h = step * min(1.0, factor)
                rejected = True
                continue
            counts[0] += 1
            t = stop if last else t + step
            for i in range(n):
                x[i] = Y[stages - 1, i]
                k1[i] = K[stages - 1, i]
                for d in range(nd):
                    s[d, i] = Z[d, i]
                    ds1[d, i] = KS[stages - 1, d, i]
            # A step cut short by a stop and far better than asked says nothing against the longer one that was meant.
            h = max(h, step * factor) if factor == 5.0 else step * (min(1.0, factor) if rejected else factor)
            rejected, fresh, failure = False, False, 2
        hint = h
    return 0
