"""What `modal.follow` is given, for exact propagation instead: `lay` writes the timeline, `read` the rows from states.

Between the two stands `exponential.march`, of the whole system with its integrals: observables and their integrals
are states of it, or sums of states and channels. It has no trouble with equal, near or complex eigenvalues.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pkmodel.solve.jit import njit

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]
type Timeline = tuple[Floats, Floats, Floats, Floats, Floats, Floats, Floats, Floats]
_F1, _F2, _F3 = "float64[::1]", "float64[:, ::1]", "float64[:, :, ::1]"


@njit(f"{_F1}({_F1}, int64[::1], {_F1}, int64, int64, {_F1})")
def grid(wait: Floats, bounds: Integers, at: Floats, begin: int, finish: int, times: Floats) -> Floats:
    """Times from zero to the last at which anything happens or is wanted; arguments as in `modal.follow`."""
    last = times[finish - 1] if finish > begin else 0.0
    all_of = np.empty(1 + finish - begin + bounds[-1] - bounds[0])
    all_of[0] = 0.0
    k = 1
    for r in range(begin, finish):
        all_of[k] = times[r]
        k += 1
    for c in range(wait.size):
        for r in range(bounds[c], bounds[c + 1]):
            t = at[r] + wait[c]
            if 0.0 <= t <= last:
                all_of[k] = t
                k += 1
    some = np.sort(all_of[:k])
    out = np.empty(k + 1)
    out[0] = some[0]
    count = 1
    for r in range(1, k):
        if some[r] != out[count - 1]:
            out[count] = some[r]
            count += 1
    out[count] = out[count - 1]  # so that there is a segment to the right of each time
    return out[: count + 1].copy()


@njit(
    f"void({_F2}, {_F2}, {_F3}, {_F1}, {_F2}, int64[::1], {_F1}, {_F1}, {_F1}, {_F1}, {_F1}, "
    f"{_F2}, {_F3}, {_F2}, {_F2}, {_F3})"
)
def lay(
    A: Floats, G: Floats, dG: Floats, wait: Floats, later: Floats, bounds: Integers, at: Floats, jump: Floats,
    u: Floats, m: Floats, stops: Floats, jumps: Floats, djumps: Floats, u0: Floats, du: Floats, du0: Floats,
) -> None:  # fmt: skip
    """Fill the timeline of `exponential.march`.

    Parameters
    ----------
    A, G, dG, wait, later, bounds, at, jump, u, m : as in `modal.follow`, N = n + observables
    stops : (s + 1,) array, from `grid`; the last twice [h]
    jumps, djumps : (s + 1, N), (k, s + 1, N) arrays, of zeros
    u0, du, du0 : (s, channels), (s, channels), (k, s, channels) arrays, of zeros
    """
    n, rows, channels, nd, segments = A.shape[1], A.shape[0], G.shape[1], later.shape[0], stops.size - 1
    for c in range(channels):
        k, low = bounds[c], bounds[c]
        for s in range(segments + 1):
            t = stops[s]
            while k < bounds[c + 1] and at[k] + wait[c] <= t:
                if at[k] + wait[c] >= 0.0:
                    step = u[k]
                    if k > low:
                        step -= u[k - 1] + m[k - 1] * (at[k] - at[k - 1])
                    # a step that is one but for rounding is none
                    if abs(step) <= 1e-12 * abs(u[k]):
                        step = 0.0
                    for i in range(n):
                        jumps[s, i] += G[i, c] * jump[k]
                        for d in range(nd):
                            djumps[d, s, i] += dG[d, i, c] * jump[k]
                    for d in range(nd):
                        if later[d, c] != 0.0:
                            for i in range(rows):
                                total = G[i, c] * step
                                for q in range(n):
                                    total += A[i, q] * G[q, c] * jump[k]
                                djumps[d, s, i] -= later[d, c] * total
                k += 1
            if s < segments and k > low:
                u0[s, c] = u[k - 1] + m[k - 1] * (t - at[k - 1] - wait[c])
                du[s, c] = m[k - 1]
                for d in range(nd):
                    du0[d, s, c] = -later[d, c] * m[k - 1]


@njit(
    f"int64({_F2}, {_F2}, {_F3}, {_F3}, {_F1}, {_F2}, {_F3}, {_F2}, {_F3}, int64, {_F1}, int64, int64, "
    f"int64[::1], int64[::1], int64[::1], {_F1}, int64, {_F1}, {_F2})"
)
def read(
    A: Floats, G: Floats, dA: Floats, dG: Floats, stops: Floats, u0: Floats, du0: Floats,
    X: Floats, S: Floats, begin: int, times: Floats, first: int, stop: int, observable: Integers,
    start: Integers, end: Integers, scale: Floats, place: int, value: Floats, tangent: Floats,
) -> int:  # fmt: skip
    """Rows from the states X (s + 1, N) and tangents S (s + 1, k, N) of `exponential.march`; 0, or 3 (not finite)."""
    (
        n,
        channels,
        nd,
    ) = A.shape[1], G.shape[1], dA.shape[0]
    for r in range(first, stop):
        o, f, to = n + observable[r], scale[r], place + r - first
        s, e = np.searchsorted(stops, times[begin + start[r]]), np.searchsorted(stops, times[begin + end[r]])
        fine = True
        if s != e:
            value[to] = f * (X[e, o] - X[s, o])
            for d in range(nd):
                tangent[to, d] = f * (S[e, d, o] - S[s, d, o])
                fine = fine and math.isfinite(tangent[to, d])
        else:
            value[to] = 0.0
            for d in range(nd):
                tangent[to, d] = 0.0
            for q in range(n):
                value[to] += f * A[o, q] * X[s, q]
                for d in range(nd):
                    tangent[to, d] += f * (A[o, q] * S[s, d, q] + dA[d, o, q] * X[s, q])
            for c in range(channels):
                now = u0[s, c]
                value[to] += f * G[o, c] * now
                for d in range(nd):
                    late = du0[d, s, c]
                    tangent[to, d] += f * (dG[d, o, c] * now + G[o, c] * late)
                    fine = fine and math.isfinite(tangent[to, d])
        if not (fine and math.isfinite(value[to])):
            return 3
    return 0
