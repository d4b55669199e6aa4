r"""Derivatives of a solution along many directions: the steps of one patient, each differentiated exactly.

What is differentiated is the discrete solution, step sizes held fixed; so the result is the derivative of the numbers
the solver returned, and agrees with differences of replayed runs to rounding. The formulae of a step are in
`compiler.second_order`; here they are put in order:

- The steps and their starting states are known. So eight consecutive steps are computed anew at once, one a lane of
  the vector unit: their stages, factors and dense output.
- The derivatives are then pushed through one step after the other, with one direction a lane and as many blocks of
  lanes as there are directions; the factors are shared by all.
- A record that adds to a state adds its derivative; one that moves in time adds a jump. With f the rates before (-) and
  after (+), \dot v and \dot t the derivatives of the record's value and time,

  .. math:: s^+ = s^- + (f^- - f^+) \dot t + \dot v .

  A component that is set instead has s^+ = \dot v - f^+ \dot t. A parameter that is switched takes \dot v as its own
  derivative. Records of equal time act one after the other, each with its own f before and after.
- An output at the time of a record follows all records of that time; its derivative is the one-sided one of a record
  that does not pass the output.

All arrays with a last index `width` hold one direction a lane.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkmodel.solve.call import call
from pkmodel.solve.jit import njit

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]

# Machine code, in the order in which the driver gets the addresses. The first three are for as many lanes as steps are
# computed at once, the next four for one, `stages` and `prepare` for one stage a lane, the rest for directions.
KERNELS = (
    "step", "dense", "interpolate",
    "constants", "initial", "rhs", "report",
    "stages", "prepare",
    "push_levers", "push_initial", "push_report", "tangent", "dense_tangent", "interpolate_tangent", "push", "solve",
)  # fmt: skip
(STEP, DENSE, INTERPOLATE, CONSTANTS, INITIAL, RHS, REPORT, STAGES, PREPARE, PUSH_LEVERS, PUSH_INITIAL, PUSH_REPORT,
 TANGENT, DENSE_TANGENT, INTERPOLATE_TANGENT, PUSH, SOLVE) = range(len(KERNELS))  # fmt: skip

ADD_STATE, SET_STATE, SET_PARAM, ADD_PARAM = 0, 1, 2, 3
OK, NOT_FINITE, PIVOT_GROWTH = 0, 3, 8
MAX_GROWTH = 1e10
HEAD = 6  # rosenbrock.HEAD: numbers before the factors in the work array of its plain step


@njit()
def _aligned(size: int) -> Floats:
    """Zeros that start on a cache line: a vector that straddles two costs twice."""
    room = np.zeros(size + 8)
    start = (-(room.ctypes.data >> 3)) & 7
    return room[start : start + size]


@njit()
def tangent_step(
    kernels: Integers, n: int, width: int, A: Floats, C: Floats, s: Floats, ctl: Floats, w: Floats, M: Floats,
    weights: Floats, places: Integers, K: Floats, u: Floats,
) -> None:  # fmt: skip
    """The derivative of one step, plainly; the machine code "tangent" does the same.

    Parameters
    ----------
    kernels : machine addresses, of which `PUSH` and `SOLVE` are called
    n, width : numbers of states and of directions
    A, C : (8, 8) coefficients of the method
    s : (n*width,) derivative of the state at the start
    ctl : (2,) 1/h and 1/(gamma h) [1/h]
    w : (nw,) factors of the step's matrix
    M : (8*entries,) matrices of the stages, stage by stage
    weights : (2*levers*width,) derivatives of the levers
    places : count, length of a stage in M, then (row, entry, weight) of each product of F pdot
    K : (8*n*width,) written: derivatives of the stages
    u : (n*width,) written: derivative of the new state
    """
    size = n * width
    for i in range(8):
        for x in range(size):
            z, known = s[x], 0.0
            for j in range(i):
                z += A[i, j] * K[j * size + x]
                known += C[i, j] * K[j * size + x]
            u[x] = z
            K[i * size + x] = ctl[1] * z + ctl[0] * known
        stage, matrix = K[i * size :], M[i * places[1] :]
        call(kernels[PUSH], (u.ctypes.data, s.ctypes.data, matrix.ctypes.data, stage.ctypes.data))
        for e in range(places[0]):
            row, entry, weight = places[2 + 3 * e] * width, places[3 + 3 * e], places[4 + 3 * e] * width
            for lane in range(width):
                stage[row + lane] += matrix[entry] * weights[weight + lane]
        call(kernels[SOLVE], (w.ctypes.data, stage.ctypes.data))
        for x in range(size):
            stage[x] -= u[x]
    for x in range(size):
        u[x] += K[7 * size + x]


@njit()
def _act(
    kernels: Integers, width: int, kind: int, index: int, value: float, dvalue: Floats, dtime: Floats, y: Floats,
    q: Floats, s: Floats, dp: Floats, before: Floats, after: Floats,
) -> bool:  # fmt: skip
    """One record; returns whether it switched a parameter. dvalue, dtime: (blocks*width,)."""
    n, blocks = y.size, s.shape[0]
    moves = False
    for lane in range(dtime.size):
        moves |= dtime[lane] != 0.0
    if moves:
        call(kernels[RHS], (y.ctypes.data, q.ctypes.data, before.ctypes.data))
    if kind == ADD_STATE:
        y[index] += value
    elif kind == SET_STATE:
        y[index] = value
    else:
        q[index] = value + (q[index] if kind == ADD_PARAM else 0.0)
        call(kernels[CONSTANTS], (q.ctypes.data,))
    if moves:
        call(kernels[RHS], (y.ctypes.data, q.ctypes.data, after.ctypes.data))
        for i in range(n):
            kept = 0.0 if kind == SET_STATE and i == index else before[i]
            for b in range(blocks):
                for lane in range(width):
                    s[b, i * width + lane] += (kept - after[i]) * dtime[b * width + lane]
    for b in range(blocks):
        for lane in range(width):
            at, change = index * width + lane, dvalue[b * width + lane]
            if kind == ADD_STATE:
                s[b, at] += change
            elif kind == SET_STATE:
                s[b, at] = change - (after[index] * dtime[b * width + lane] if moves else 0.0)
            elif kind == SET_PARAM:
                dp[b, at] = change
            else:
                dp[b, at] += change
    return kind >= SET_PARAM


@njit()
def push(
    kernels: Integers, lanes: int, width: int, n: int, nq: int, nw: int, entries: int, head: Floats, A: Floats,
    C: Floats, gamma: float, p: Floats, kind: NDArray[np.int8], index: Integers, value: Floats, dvalue: Floats,
    dtime: Floats, size: Floats, begin: Floats, rows: Integers, states: Floats, times: Floats, output: Integers,
    record: Integers, dp: Floats, s: Floats, levers: int, places: Integers, out: Floats, dout: Floats,
) -> int:  # fmt: skip
    """Push derivatives along the steps of one patient; returns how it ended.

    Parameters
    ----------
    kernels : machine addresses, in the order of `KERNELS`; `TANGENT` may be 0 for `tangent_step`
    lanes : steps computed at once
    width : directions in a vector
    n, nq, nw, entries : numbers of states, of parameters with constants, of entries of a step's work array and of M
    head : (any,) numbers that the work array of a step starts with; empty for a model's own machine code
    A, C, gamma : coefficients of the method
    p : (k,) parameters, those that records switch with their value at time zero
    kind, index, value : (E,) records
    dvalue, dtime : (E, blocks*width) their derivatives [state or parameter], [h]
    size, begin : (steps,) length and start of each step [h]
    rows, states : (steps,), (any, n) the state at the start of step j is ``states[rows[j]]``
    times : (m,) of the outputs [h]
    output, record : (m,) and (E,), when they happen (`Itinerary`)
    dp : (blocks, k*width) derivatives of the parameters; changed
    s : (blocks, n*width) derivatives of the initial state beside what the parameters do to it; changed
    levers : how many
    places : (blocks, any) for each block the products that make up F pdot, see `tangent_step`
    out : (m, r) written: the reports
    dout : (blocks, m, r*width) written: their derivatives
    """
    blocks, steps, m, reports = s.shape[0], size.size, times.size, out.shape[1]
    skip = HEAD if head.size else 0
    q, y, before, after = np.zeros(nq), np.zeros(n), np.zeros(n), np.zeros(n)
    q[: p.size] = p
    call(kernels[CONSTANTS], (q.ctypes.data,))
    call(kernels[INITIAL], (q.ctypes.data, y.ctypes.data))
    weights = _aligned(blocks * 2 * levers * width).reshape(blocks, 2 * levers * width)
    for b in range(blocks):
        call(kernels[PUSH_LEVERS], (q.ctypes.data, dp[b].ctypes.data, weights[b].ctypes.data))
        call(kernels[PUSH_INITIAL], (q.ctypes.data, dp[b].ctypes.data, s[b].ctypes.data))
    # of `lanes` steps at once
    Q, Y, U, atol = _aligned(nq * lanes), _aligned(n * lanes), _aligned(n * lanes), np.ones(n)
    K, D, W, ctl = _aligned(8 * n * lanes), _aligned(3 * n * lanes), _aligned(nw * lanes), _aligned(5 * lanes)
    W[: head.size] = head
    ctl[:] = 1.0
    # of one step
    stage_y, stage_u, M = _aligned(n * 8), _aligned(n * 8), _aligned(entries * 8)
    factors, control = _aligned(nw), _aligned(2)
    # of its derivatives
    present = _aligned(blocks * n * width).reshape(blocks, n * width)
    following = _aligned(blocks * n * width).reshape(blocks, n * width)
    KS, DS, xs, theta = _aligned(8 * n * width), _aligned(3 * n * width), _aligned(n * width), _aligned(width)
    present[:] = s
    s = present
    shown, told = np.zeros((m, n)), np.zeros(reports)
    e, o, first, stale = 0, 0, 0, True
    step = -1  # the landing after this step is next
    while True:
        # --- a landing: records, then outputs
        switched = False
        while e < record.size and record[e] == step:
            switched |= _act(
                kernels, width, kind[e], index[e], value[e], dvalue[e], dtime[e], y, q, s, dp, before, after
            )
            e += 1
        if switched:
            stale = True
            for b in range(blocks):
                call(kernels[PUSH_LEVERS], (q.ctypes.data, dp[b].ctypes.data, weights[b].ctypes.data))
        while o < m and output[o] == 2 * step + 1:
            call(kernels[REPORT], (y.ctypes.data, q.ctypes.data, told.ctypes.data))
            out[o] = told
            for b in range(blocks):
                call(
                    kernels[PUSH_REPORT],
                    (y.ctypes.data, q.ctypes.data, s[b].ctypes.data, dp[b].ctypes.data, dout[b, o].ctypes.data),
                )
            o += 1
        step += 1
        if step >= steps:
            return OK
        # --- the next steps, computed side by side; parameters do not change among them
        if step == first:
            count, ahead = 0, e
            while count < lanes and first + count < steps:
                j = first + count
                count += 1
                switches = False
                while ahead < record.size and record[ahead] == j:
                    switches |= kind[ahead] >= SET_PARAM
                    ahead += 1
                if switches:
                    break
            if stale:
                stale = False
                for i in range(nq):
                    for lane in range(lanes):
                        Q[i * lanes + lane] = q[i]
            for lane in range(lanes):
                j = first + min(lane, count - 1)
                ctl[lane], ctl[lanes + lane] = 1.0 / size[j], 1.0 / (gamma * size[j])
                for i in range(n):
                    Y[i * lanes + lane] = states[rows[j], i]
            call(
                kernels[STEP],
                (
                    Y.ctypes.data,
                    Q.ctypes.data,
                    ctl.ctypes.data,
                    atol.ctypes.data,
                    K.ctypes.data,
                    U.ctypes.data,
                    W.ctypes.data,
                ),
            )
            if o < m and output[o] < 2 * (first + count):
                call(kernels[DENSE], (K.ctypes.data, D.ctypes.data))
            for lane in range(count):
                if not ctl[4 * lanes + lane] <= MAX_GROWTH:
                    return PIVOT_GROWTH if ctl[3 * lanes + lane] < np.inf else NOT_FINITE
            base = first
            first += count
        # --- one of them
        lane = step - base
        start = states[rows[step]]
        if lanes == 1:
            for i in range(8):
                for k in range(n):
                    z = start[k]
                    for j in range(i):
                        z += A[i, j] * K[j * n + k]
                    stage_y[k] = z
                call(
                    kernels[PREPARE],
                    (
                        stage_y.ctypes.data,
                        K[i * n :].ctypes.data,
                        start.ctypes.data,
                        q.ctypes.data,
                        M[i * entries :].ctypes.data,
                    ),
                )
        else:
            call(kernels[STAGES], (start.ctypes.data, K[lane:].ctypes.data, stage_y.ctypes.data, stage_u.ctypes.data))
            call(
                kernels[PREPARE],
                (stage_y.ctypes.data, stage_u.ctypes.data, start.ctypes.data, q.ctypes.data, M.ctypes.data),
            )
        for i in range(nw - skip):
            factors[i] = W[skip + i * lanes + lane]
        for i in range(n):
            y[i] = U[i * lanes + lane]
        control[0], control[1] = ctl[lane], ctl[lanes + lane]
        inside = o
        while inside < m and output[inside] == 2 * step:
            part = (times[inside] - begin[step]) / size[step]
            rest = 1.0 - part
            for i in range(n):
                at = i * lanes + lane
                bend = D[at] + part * (D[n * lanes + at] + part * D[2 * n * lanes + at])
                shown[inside, i] = rest * start[i] + part * (y[i] + rest * bend)
            call(kernels[REPORT], (shown[inside].ctypes.data, q.ctypes.data, told.ctypes.data))
            out[inside] = told
            inside += 1
        for b in range(blocks):
            if kernels[TANGENT] == 0:
                tangent_step(
                    kernels, n, width, A, C, s[b], control, factors, M, weights[b], places[b], KS, following[b]
                )
            else:
                call(
                    kernels[TANGENT],
                    (s[b].ctypes.data, control.ctypes.data, factors.ctypes.data, M.ctypes.data, weights[b].ctypes.data,
                     places[b].ctypes.data, KS.ctypes.data, following[b].ctypes.data),
                )  # fmt: skip
            if inside > o:
                call(kernels[DENSE_TANGENT], (KS.ctypes.data, DS.ctypes.data))
            for at in range(o, inside):
                theta[:] = (times[at] - begin[step]) / size[step]
                call(
                    kernels[INTERPOLATE_TANGENT],
                    (s[b].ctypes.data, following[b].ctypes.data, DS.ctypes.data, theta.ctypes.data, xs.ctypes.data),
                )
                call(
                    kernels[PUSH_REPORT],
                    (shown[at].ctypes.data, q.ctypes.data, xs.ctypes.data, dp[b].ctypes.data, dout[b, at].ctypes.data),
                )
        o = inside
        s, following = following, s


@njit()
def push_all(
    kernels: Integers, lanes: int, width: int, n: int, nq: int, nw: int, entries: int, head: Floats, A: Floats,
    C: Floats, gamma: float, who: Integers, P: Floats, kind: NDArray[np.int8], index: Integers, value: Floats,
    dvalue: Floats, dtime: Floats, start: Integers, size: Floats, begin: Floats, rows: Integers, states: Floats,
    times: Floats, output: Integers, record: Integers, dp: Floats, s: Floats, levers: int, places: Integers,
    out: Floats, dout: Floats, status: Integers,
) -> None:  # fmt: skip
    """Push the same directions along the steps of some patients.

    Parameters
    ----------
    who : (any,) numbers of the patients
    P : (N, k) parameters
    kind, index, value : (N or 1, E) records
    start : (N + 1,) where each patient's steps begin in size, begin and rows
    times : (N or 1, m) of the outputs, infinite where a patient has fewer [h]
    output, record : (N, m) and (N, E)
    out, dout : (N, m, r) and (N, blocks, m, r*width) written
    status : (N,) written: how each ended
    others : as in `push`; not changed
    """
    for i in who:
        row, at = i if kind.shape[0] > 1 else 0, i if times.shape[0] > 1 else 0
        m = times.shape[1]
        while m > 0 and not times[at, m - 1] < np.inf:
            m -= 1
        b, e = start[i], start[i + 1]
        status[i] = push(
            kernels, lanes, width, n, nq, nw, entries, head, A, C, gamma, P[i], kind[row], index[row], value[row],
            dvalue, dtime, size[b:e], begin[b:e], rows[b:e], states, times[at, :m], output[i, :m], record[i],
            dp.copy(), s.copy(), levers, places, out[i], dout[i],
        )  # fmt: skip
