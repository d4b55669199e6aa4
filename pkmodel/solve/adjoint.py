r"""The gradient of one weighted sum of a solution's outputs, by everything it depends on: the steps, walked backwards.

Given cotangents c of the outputs, the steps of a run are undone from the last to the first, many patients at once, one
a lane. What is carried is the cotangent lam = d(sum c.output)/dy of the state at the present point of the way, and
what the levers and parameters have collected. The formulae of a step are in `compiler.second_order` and
`compiler.llvm_sensitivity`; only the starting state of each step is remembered, its stages and factors are computed
anew. So the memory is n + 2 numbers a step (a 74-state receptor model, 770 steps: 0.46 MB a patient), without any limit
on the number of steps.

With f the rates before (-) and after (+) a record, lam the cotangent just after it:

- a record that adds v to state i: dv gets lam_i; one that sets it: dv gets lam_i, which then is zero;
- its time: dt gets lam.(f^- - f^+), without f^-_i where state i is set;
- a record that adds v to a parameter: dv gets what the parameter has collected; one that sets it takes that over, and
  the parameter starts again at zero.

Records of equal time are undone one after the other. In the end the cotangent of the initial state flows through its
derivative by the parameters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkmodel.solve.call import call
from pkmodel.solve.jit import njit

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]

# Machine code in the order in which the driver gets the addresses: for a vector of patients, then for one.
KERNELS = (
    "step", "dense", "interpolate", "constants", "pull_report", "adjoint", "adjoint_output", "pull", "solve_transposed",
    "constants_one", "initial_one", "rhs_one", "pull_report_one", "pull_levers_one", "pull_initial_one",
)  # fmt: skip
(STEP, DENSE, INTERPOLATE, CONSTANTS, PULL_REPORT, ADJOINT, ADJOINT_OUTPUT, PULL, SOLVE_TRANSPOSED, CONSTANTS_ONE,
 INITIAL_ONE, RHS_ONE, PULL_REPORT_ONE, PULL_LEVERS_ONE, PULL_INITIAL_ONE) = range(len(KERNELS))  # fmt: skip

ADD_STATE, SET_STATE, SET_PARAM, ADD_PARAM = 0, 1, 2, 3
OK, NOT_FINITE, PIVOT_GROWTH = 0, 3, 8
MAX_GROWTH = 1e10


@njit()
def _aligned(size: int) -> Floats:
    """Zeros that start on a cache line: a vector that straddles two costs twice."""
    room = np.zeros(size + 8)
    start = (-(room.ctypes.data >> 3)) & 7
    return room[start : start + size]


@njit()
def adjoint_step(
    kernels: Integers, n: int, A: Floats, C: Floats, H: Floats, y: Floats, q: Floats, ctl: Floats, w: Floats,
    K: Floats, lam: Floats, d: Floats, V: Floats, Z: Floats, work: Floats, back: Floats, bar: Floats,
) -> None:  # fmt: skip
    """One step of one patient undone, plainly; the machine code "adjoint" does the same for a vector.

    Parameters
    ----------
    kernels : machine addresses, of which `PULL` and `SOLVE_TRANSPOSED` are called
    n : number of states
    A, C, H : coefficients of the method
    y, q, ctl, w, K : of the step: state, parameters with constants, 1/h and 1/(gamma h), factors, stages
    lam : (n,) cotangent of the new state
    d : (3 n,) cotangents of the dense output's vectors
    V, Z, work : (8 n,), (8 n,), (3 n,) overwritten
    back : (n,) cotangent of the state at the start, added to
    bar : (levers,) cotangents of the levers, added to
    """
    for i in range(7, -1, -1):
        stage, solved, z = K[i * n :], V[i * n :], Z[i * n :]
        for x in range(n):
            argument = y[x]
            for j in range(i):
                argument += A[i, j] * K[j * n + x]
            work[x] = argument
            total = lam[x] * (A[7, i] if i < 7 else 1.0)
            for r in range(3):
                total += H[r, i] * d[r * n + x]
            for j in range(i + 1, 8):
                total += A[j, i] * Z[j * n + x] + C[j, i] * ctl[0] * V[j * n + x]
            work[n + x] = total
            solved[x] = total
        call(kernels[SOLVE_TRANSPOSED], (w.ctypes.data, solved.ctypes.data))
        call(
            kernels[PULL],
            (work.ctypes.data, y.ctypes.data, stage.ctypes.data, solved.ctypes.data, work[n:].ctypes.data,
             q.ctypes.data, ctl[1:].ctypes.data, z.ctypes.data, back.ctypes.data, bar.ctypes.data),
        )  # fmt: skip


@njit()
def _undo(
    kernels: Integers, first: int, last: int, o: int, kind: NDArray[np.int8], index: Integers, value: Floats,
    record: Integers, output: Integers, landing: int, p: Floats, y: Floats, lam: Floats, bar: Floats, pbar: Floats,
    q: Floats, cotangent: Floats, by_value: Floats, by_time: Floats,
) -> int:  # fmt: skip
    """Undo a landing: outputs, then records `first` to `last` - 1; returns the next output.

    `p` (k,) and `y` (n,) are those before the landing. `lam`, `bar`, `pbar` are changed; `q` is overwritten.
    """
    n, k, count = y.size, p.size, last - first
    ys, ps = np.empty((count + 1, n)), np.empty((count + 1, k))
    ys[0], ps[0] = y, p
    for a in range(count):
        ys[a + 1], ps[a + 1] = ys[a], ps[a]
        e = first + a
        if kind[e] == ADD_STATE:
            ys[a + 1, index[e]] += value[e]
        elif kind[e] == SET_STATE:
            ys[a + 1, index[e]] = value[e]
        else:
            ps[a + 1, index[e]] = value[e] + (ps[a, index[e]] if kind[e] == ADD_PARAM else 0.0)
    q[:k] = ps[count]
    call(kernels[CONSTANTS_ONE], (q.ctypes.data,))
    while o >= 0 and output[o] == 2 * landing + 1:
        call(
            kernels[PULL_REPORT_ONE],
            (ys[count].ctypes.data, q.ctypes.data, cotangent[o].ctypes.data, lam.ctypes.data, pbar.ctypes.data),
        )
        o -= 1
    if count == 0:
        return o
    call(kernels[PULL_LEVERS_ONE], (q.ctypes.data, bar.ctypes.data, pbar.ctypes.data))
    bar[:] = 0.0
    before, after = np.empty(n), np.empty(n)
    call(kernels[RHS_ONE], (ys[count].ctypes.data, q.ctypes.data, after.ctypes.data))
    for a in range(count - 1, -1, -1):
        e = first + a
        if kind[e] >= SET_PARAM:
            q[:k] = ps[a]
            call(kernels[CONSTANTS_ONE], (q.ctypes.data,))
        call(kernels[RHS_ONE], (ys[a].ctypes.data, q.ctypes.data, before.ctypes.data))
        total = 0.0
        for i in range(n):
            total += lam[i] * (before[i] - after[i])
        i = index[e]
        if kind[e] == ADD_STATE:
            by_value[e] = lam[i]
        elif kind[e] == SET_STATE:
            by_value[e] = lam[i]
            total -= lam[i] * before[i]
            lam[i] = 0.0
        else:
            by_value[e] = pbar[i]
            if kind[e] == SET_PARAM:
                pbar[i] = 0.0
        by_time[e] = total
        before, after = after, before
    return o


@njit()
def pull(
    kernels: Integers, lanes: int, n: int, nq: int, nw: int, levers: int, head: Floats, A: Floats, C: Floats,
    H: Floats, gamma: float, parameters: Floats, kind: NDArray[np.int8], index: Integers, value: Floats,
    times: Floats, chosen: Integers, start: Integers, begin: Floats, size: Floats, rows: Integers, states: Floats,
    output: Integers, record: Integers, cotangent: Floats, by_parameter: Floats, by_initial: Floats, by_value: Floats,
    by_time: Floats, status: Integers,
) -> None:  # fmt: skip
    """Walk the ways of some patients backwards.

    Parameters
    ----------
    kernels : machine addresses, in the order of `KERNELS`; `ADJOINT` may be 0 for `adjoint_step`, with one lane
    lanes : patients in one vector
    n, nq, nw, levers : numbers of states, of parameters with constants, of entries of the work array, of levers
    head : (any,) numbers that the work array of a step starts with
    A, C, H, gamma : coefficients of the method
    parameters : (N, k) parameters, those that records switch with their value at time zero
    kind, index, value : (N or 1, E) records
    times : (N or 1, m) of the outputs [h]
    chosen : (any,) which patients
    start, begin, size, output, record : see `itinerary.Itinerary`
    rows, states : (start[-1],), (any, n) the state at the start of step j is ``states[rows[j]]``
    cotangent : (N, m, r) weights of the outputs
    by_parameter, by_initial, by_value, by_time : (N, k), (N, n), (N, E), (N, E) written: the gradient
    status : (N,) written
    """
    k, E, m, reports = parameters.shape[1], record.shape[1], output.shape[1], cotangent.shape[2]
    nl = n * lanes
    y, u, x = _aligned(nl), _aligned(nl), _aligned(nl)
    Q, W, K, D = _aligned(nq * lanes), _aligned(nw * lanes), _aligned(8 * nl), _aligned(3 * nl)
    W[: head.size] = head
    ctl, theta, atol = _aligned(5 * lanes), _aligned(lanes), np.ones(n)
    ctl[:] = 1.0
    lam, back, d, pulled = _aligned(nl), _aligned(nl), _aligned(3 * nl), _aligned(nl)
    weights = _aligned(reports * lanes)
    V, Z, work = _aligned(8 * nl), _aligned(8 * nl), _aligned(3 * nl)
    bars, pbars = _aligned(levers * lanes), _aligned(k * lanes)
    # of one patient, at a landing
    one_q, one_y, one_l, one_bar, one_p = np.zeros(nq), np.zeros(n), np.zeros(n), np.zeros(max(levers, 1)), np.zeros(k)
    p = np.zeros((lanes, k))  # parameters of the present step
    spare = np.zeros((lanes, E))  # what each record overwrote
    patient, step, out, last = (
        np.full(lanes, -1),
        np.zeros(lanes, np.int64),
        np.zeros(lanes, np.int64),
        np.zeros(lanes, np.int64),
    )
    first = np.zeros(lanes, np.int64)
    following = 0
    while True:
        # --- patients into free lanes, and parameters as they were in the step to come
        changed, active = False, False
        for lane in range(lanes):
            if patient[lane] < 0 and following < chosen.size:
                who = chosen[following]
                following += 1
                patient[lane] = who
                row = who if kind.shape[0] > 1 else 0
                step[lane] = start[who + 1] - start[who] - 1
                e, o = 0, 0
                p[lane] = parameters[who]
                while e < E and record[who, e] <= step[lane]:
                    if kind[row, e] >= SET_PARAM:
                        i = index[row, e]
                        spare[lane, e] = p[lane, i]
                        p[lane, i] = value[row, e] + (p[lane, i] if kind[row, e] == ADD_PARAM else 0.0)
                    e += 1
                while o < m and output[who, o] <= 2 * step[lane] + 1:
                    o += 1
                last[lane], out[lane] = e, o - 1
                by_value[who, :], by_time[who, :] = 0.0, 0.0
                status[who] = OK
                for i in range(n):
                    lam[i * lanes + lane] = 0.0
                for i in range(levers):
                    bars[i * lanes + lane] = 0.0
                for i in range(k):
                    pbars[i * lanes + lane] = 0.0
                changed = True
            if patient[lane] >= 0:
                who, active = patient[lane], True
                row = who if kind.shape[0] > 1 else 0
                e = last[lane]
                while e > 0 and record[who, e - 1] == step[lane]:
                    e -= 1
                    if kind[row, e] >= SET_PARAM:
                        p[lane, index[row, e]] = spare[lane, e]
                        changed = True
                first[lane] = e
        if not active:
            return
        if changed:
            for lane in range(lanes):
                for i in range(k):
                    Q[i * lanes + lane] = p[lane, i]
            call(kernels[CONSTANTS], (Q.ctypes.data,))
        # --- their steps anew
        for lane in range(lanes):
            who = patient[lane]
            if who < 0 or step[lane] < 0:
                continue
            at = start[who] + step[lane]
            ctl[lane], ctl[lanes + lane] = 1.0 / size[at], 1.0 / (gamma * size[at])
            for i in range(n):
                y[i * lanes + lane] = states[rows[at], i]
        call(
            kernels[STEP],
            (
                y.ctypes.data,
                Q.ctypes.data,
                ctl.ctypes.data,
                atol.ctypes.data,
                K.ctypes.data,
                u.ctypes.data,
                W.ctypes.data,
            ),
        )
        # --- landings after them
        for lane in range(lanes):
            who = patient[lane]
            if who < 0:
                continue
            if step[lane] >= 0 and not ctl[4 * lanes + lane] <= MAX_GROWTH:
                status[who] = PIVOT_GROWTH if ctl[3 * lanes + lane] < np.inf else NOT_FINITE
            landing = first[lane] < last[lane] or (out[lane] >= 0 and output[who, out[lane]] == 2 * step[lane] + 1)
            if not (landing or step[lane] < 0):
                continue
            row = who if kind.shape[0] > 1 else 0
            for i in range(n):
                one_y[i], one_l[i] = u[i * lanes + lane], lam[i * lanes + lane]
            for i in range(levers):
                one_bar[i] = bars[i * lanes + lane]
            for i in range(k):
                one_p[i] = pbars[i * lanes + lane]
            if step[lane] < 0:
                one_q[:k] = p[lane]
                call(kernels[CONSTANTS_ONE], (one_q.ctypes.data,))
                call(kernels[INITIAL_ONE], (one_q.ctypes.data, one_y.ctypes.data))
            out[lane] = _undo(
                kernels, first[lane], last[lane], out[lane], kind[row], index[row], value[row], record[who],
                output[who], step[lane], p[lane], one_y, one_l, one_bar, one_p, one_q, cotangent[who],
                by_value[who], by_time[who],
            )  # fmt: skip
            last[lane] = first[lane]
            if step[lane] < 0:
                call(kernels[PULL_LEVERS_ONE], (one_q.ctypes.data, one_bar.ctypes.data, one_p.ctypes.data))
                call(kernels[PULL_INITIAL_ONE], (one_q.ctypes.data, one_l.ctypes.data, one_p.ctypes.data))
                by_parameter[who], by_initial[who] = one_p, one_l
                patient[lane] = -1
                one_l[:], one_bar[:], one_p[:] = 0.0, 0.0, 0.0
            for i in range(n):
                lam[i * lanes + lane] = one_l[i]
            for i in range(levers):
                bars[i * lanes + lane] = one_bar[i]
            for i in range(k):
                pbars[i * lanes + lane] = one_p[i]
        # --- outputs inside them
        due = False
        for lane in range(lanes):
            due |= patient[lane] >= 0 and out[lane] >= 0 and output[patient[lane], out[lane]] == 2 * step[lane]
        inside = due
        back[:] = 0.0
        if inside:
            d[:] = 0.0
            call(kernels[DENSE], (K.ctypes.data, D.ctypes.data))
        while due:
            due = False
            weights[:], theta[:], pulled[:] = 0.0, 0.0, 0.0
            for lane in range(lanes):
                who = patient[lane]
                if who < 0 or out[lane] < 0 or output[who, out[lane]] != 2 * step[lane]:
                    continue
                at = start[who] + step[lane]
                theta[lane] = (times[who if times.shape[0] > 1 else 0, out[lane]] - begin[at]) / size[at]
                for i in range(reports):
                    weights[i * lanes + lane] = cotangent[who, out[lane], i]
                out[lane] -= 1
                due |= out[lane] >= 0 and output[who, out[lane]] == 2 * step[lane]
            call(
                kernels[INTERPOLATE],
                (y.ctypes.data, u.ctypes.data, D.ctypes.data, theta.ctypes.data, x.ctypes.data),
            )
            call(
                kernels[PULL_REPORT],
                (x.ctypes.data, Q.ctypes.data, weights.ctypes.data, pulled.ctypes.data, pbars.ctypes.data),
            )
            for i in range(n):
                for lane in range(lanes):
                    at, part = i * lanes + lane, theta[lane]
                    g = pulled[at]
                    back[at] += (1.0 - part) * g
                    lam[at] += part * g
                    g *= part * (1.0 - part)
                    d[at] += g
                    d[nl + at] += part * g
                    d[2 * nl + at] += part * part * g
        # --- the steps undone
        for i in range(nl):
            back[i] += lam[i]
        if kernels[ADJOINT] == 0:
            if not inside:
                d[:] = 0.0
            adjoint_step(kernels, n, A, C, H, y, Q, ctl, W[head.size :], K, lam, d, V, Z, work, back, bars)
        else:
            call(
                kernels[ADJOINT_OUTPUT if inside else ADJOINT],
                (y.ctypes.data, u.ctypes.data, Q.ctypes.data, ctl.ctypes.data, W.ctypes.data, K.ctypes.data,
                 lam.ctypes.data, d.ctypes.data, V.ctypes.data, Z.ctypes.data, work.ctypes.data, back.ctypes.data,
                 bars.ctypes.data),
            )  # fmt: skip
        lam, back = back, lam
        for lane in range(lanes):
            step[lane] -= 1
