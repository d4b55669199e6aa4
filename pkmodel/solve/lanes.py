"""The driver: many patients at once, one on each lane of the vector unit, none waiting for another.

The kernels (`rosenbrock`, and the model's own) advance L patients with one instruction stream. Each lane has its own
time, step size, error test, records and outputs; when its patient is finished it takes the next. A lane never reads
another's numbers, so a patient's result is the same to the last bit whoever shares the vector, and a failure stays
where it happened.

**A lane's life.** Load parameters, compute constants and initial state, apply the records at time 0. Step until the next
record, which a step always meets exactly (the one or two steps before are shortened); apply the records of that time;
choose a new first step; go on. Outputs between the ends of a step come from its polynomial; outputs at the time of
a record come after all records of that time.

**Error control.** e^2 = mean over states of (u_8 / (atol + rtol max(|y|, |y_new|)))^2. A step with e <= 1 is accepted, and the
next has the size h' = h min(GROW, max(SHRINK, SAFETY e^-I e_before^P)), a proportional-integral controller (Gustafsson
1991, doi:10.1145/210232.210242). After a record the first step follows from y and f, as in Hairer, Noersett & Wanner (1993,
II.4, doi:10.1007/978-3-540-78862-1).

**Replay.** The steps of a run can be written down (`march` returns them) and walked again with other parameters, without
any error test: the result is then a smooth function of the parameters. A step that met a record is stored as a negative
number and meets the record again wherever it has moved.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkmodel.solve.call import call
from pkmodel.solve.jit import njit

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]

KERNELS = ("step", "dense", "interpolate", "report", "rhs", "constants", "initial")
STEP, DENSE, INTERPOLATE, REPORT, RHS, CONSTANTS, INITIAL = range(7)

# Outcomes; the numbers of status.Status, which compiled code cannot name.
OK, TOO_MANY_STEPS, STEP_TOO_SMALL, NOT_FINITE, PIVOT_GROWTH = 0, 1, 2, 3, 8

GAMMA = 0.21193756319429014  # rosenbrock.GAMMA
MAX_GROWTH = 1e10  # of a multiplier in the LU without pivoting: beyond it a solve has fewer digits than a step needs
TRIES = 3  # smaller steps tried before the fixed order of pivots is given up

SAFETY, SHRINK, GROW = 0.9, 0.1, 6.0
INTEGRAL, PROPORTIONAL = 0.2, 0.0


@njit()
def _load(who: int, lane: int, lanes: int, parameters: Floats, nq: int, q: Floats) -> None:
    """Parameters of a patient into a lane; what is switched by records starts at zero."""
    k = parameters.shape[1]
    for i in range(k):
        q[i * lanes + lane] = parameters[who, i]
    for i in range(k, nq):
        q[i * lanes + lane] = 0.0


@njit()
def _apply(
    lane: int, lanes: int, row: int, at: int, t: float, time: Floats, kind: NDArray[np.int8], index: Integers,
    value: Floats, y: Floats, q: Floats,
) -> tuple[int, bool]:  # fmt: skip
    """Records until t, one after the other; the next one's number, and whether a parameter changed."""
    switched = False
    while at < time.shape[1] and time[row, at] <= t:
        what, place, v = kind[row, at], index[row, at] * lanes + lane, value[row, at]
        if what == 0:
            y[place] += v
        elif what == 1:
            y[place] = v
        elif what == 2:
            q[place] = v
            switched = True
        else:
            q[place] += v
            switched = True
        at += 1
    return at, switched


@njit()
def _first_steps(
    wanted: NDArray[np.bool_], rhs: int, n: int, lanes: int, y: Floats, q: Floats, atol: Floats, rtol: float, f: Floats,
    x: Floats, g: Floats, span: Floats, h: Floats,
) -> None:  # fmt: skip
    """First step of the lanes that want one: from the size of y and f, and from how f changes over a trial step."""
    call(rhs, (y.ctypes.data, q.ctypes.data, f.ctypes.data))
    for lane in range(lanes):
        if not wanted[lane]:
            continue
        d0, d1 = 0.0, 0.0
        for i in range(n):
            k = i * lanes + lane
            scale = atol[i] + rtol * abs(y[k])
            d0 += (y[k] / scale) ** 2
            d1 += (f[k] / scale) ** 2
        trial = 0.01 * np.sqrt(d0 / d1) if d0 > 1e-10 * n and d1 > 1e-10 * n else 1e-6
        h[lane] = min(trial, span[lane])
        for i in range(n):
            k = i * lanes + lane
            x[k] = y[k] + h[lane] * f[k]
    call(rhs, (x.ctypes.data, q.ctypes.data, g.ctypes.data))
    for lane in range(lanes):
        if not wanted[lane]:
            continue
        d1, d2 = 0.0, 0.0
        for i in range(n):
            k = i * lanes + lane
            scale = atol[i] + rtol * abs(y[k])
            d1 += (f[k] / scale) ** 2
            d2 += ((g[k] - f[k]) / scale) ** 2
        d1 = np.sqrt(d1 / n)
        d2 = np.sqrt(d2 / n) / h[lane]
        largest = max(d1, d2)
        better = (0.01 / largest) ** 0.2 if largest > 1e-15 else max(1e-6, h[lane] * 1e-3)
        h[lane] = min(100.0 * h[lane], better)
        wanted[lane] = False


@njit()
def march(
    kernels: Integers, lanes: int, n: int, nq: int, nw: int, head: Floats, parameters: Floats, time: Floats,
    kind: NDArray[np.int8], index: Integers, value: Floats, times: Floats, rtol: float, atol: Floats,
    chosen: Integers, max_steps: int, replay_from: Integers, replay: Floats, write: bool, halt: Integers, out: Floats,
    states: Floats, status: Integers, until: Floats, steps: Integers, rejected: Integers,
) -> tuple[Integers, Floats]:  # fmt: skip
    """Solve some patients.

    Parameters
    ----------
    kernels : (7,) machine addresses, in the order of `KERNELS`
    lanes : patients in one vector, L; the kernels' own
    n, nq, nw : numbers of states, of parameters with constants, and of entries of a step's work array
    head : (any,) numbers that the work array starts with; empty for a model's own machine code
    parameters : (N, k) array
    time, kind, index, value : (N or 1, E) arrays, the records; one row serves all [h, -, -, state or parameter]
    times : (N or 1, m) array, not decreasing, infinite where a patient has fewer outputs [h]
    rtol : relative tolerance [1]
    atol : (n,) array, absolute tolerance [state]
    chosen : (any,) array, which patients, at least one
    max_steps : steps tried, accepted or not, before a patient is given up
    replay_from : (N + 1,) array, where each patient's steps begin in `replay`; empty: choose steps by error [-]
    replay : all patients' steps, negative where a step met a record [h]
    write : whether to write the steps down
    halt : (1,) array; another thread that sets it to one ends the run
    out : (N, m, r) written: the reports
    states : (N, m, n) written: the states; (0, m, n) if they are not wanted
    status, until, steps, rejected : (N,) written: outcome, time reached [h], accepted and rejected steps

    Returns
    -------
    patients, sizes : of each accepted step, in the order of acceptance [-, h]; empty unless `write`
    """
    reports, record_rows, time_rows = out.shape[2], time.shape[0], times.shape[0]
    y, u, x = np.zeros(n * lanes), np.zeros(n * lanes), np.zeros(n * lanes)
    q, w = np.zeros(nq * lanes), np.zeros(nw * lanes)
    w[: head.size] = head
    K, D, shown = np.zeros(8 * n * lanes), np.zeros(3 * n * lanes), np.zeros(max(reports, 1) * lanes)
    ctl, theta = np.zeros(5 * lanes), np.zeros(lanes)
    t, h, size, stop, end, before = (np.zeros(lanes), np.ones(lanes), np.ones(lanes), np.ones(lanes), np.ones(lanes),
        np.ones(lanes))  # fmt: skip
    patient, record, output, outputs = (
        np.full(lanes, -1),
        np.zeros(lanes, np.int64),
        np.zeros(lanes, np.int64),
        np.zeros(lanes, np.int64),
    )
    tries, good, bad, lost = (
        np.zeros(lanes, np.int64),
        np.zeros(lanes, np.int64),
        np.zeros(lanes, np.int64),
        np.zeros(lanes, np.int64),
    )
    accepted, landing, fresh = np.zeros(lanes, np.bool_), np.zeros(lanes, np.bool_), np.zeros(lanes, np.bool_)
    replaying = replay_from.size > 0
    log_patient, log_size, logged = np.zeros(1024 if write else 0, np.int64), np.zeros(1024 if write else 0), 0
    following, last = 0, chosen.size
    ctl[2 * lanes : 3 * lanes] = rtol
    for lane in range(lanes):  # a lane without a patient idles on somebody's numbers
        _load(chosen[min(lane, last - 1)], lane, lanes, parameters, nq, q)
    call(kernels[CONSTANTS], (q.ctypes.data,))
    call(kernels[INITIAL], (q.ctypes.data, y.ctypes.data))
    attention = True
    while True:
        while attention:  # some lane has met a record or its end, or is free
            attention = False
            loaded, switched = False, False
            for lane in range(lanes):
                if patient[lane] < 0 and following < last:
                    patient[lane] = chosen[following]
                    _load(chosen[following], lane, lanes, parameters, nq, q)
                    following += 1
                    loaded = True
                    fresh[lane] = True
            if loaded:
                call(kernels[CONSTANTS], (q.ctypes.data,))
                call(kernels[INITIAL], (q.ctypes.data, x.ctypes.data))
            for lane in range(lanes):
                who = patient[lane]
                if who < 0:
                    continue
                moment = times[who if time_rows > 1 else 0]
                row = who if record_rows > 1 else 0
                if fresh[lane]:
                    fresh[lane] = False
                    for i in range(n):
                        y[i * lanes + lane] = x[i * lanes + lane]
                    count = moment.size
                    while count > 0 and not moment[count - 1] < np.inf:
                        count -= 1
                    outputs[lane], output[lane], record[lane] = count, 0, 0
                    end[lane] = moment[count - 1] if count else 0.0
                    t[lane], landing[lane] = 0.0, True
                    tries[lane], good[lane], bad[lane], lost[lane] = 0, 0, 0, 0
                if landing[lane]:
                    at, changed = _apply(lane, lanes, row, record[lane], t[lane], time, kind, index, value, y, q)
                    record[lane] = at
                    switched |= changed
                    stop[lane] = min(end[lane], time[row, at]) if at < time.shape[1] else end[lane]
            if switched:
                call(kernels[CONSTANTS], (q.ctypes.data,))
            told = False
            for lane in range(lanes):
                who = patient[lane]
                if who < 0:
                    continue
                moment = times[who if time_rows > 1 else 0]
                while output[lane] < outputs[lane] and moment[output[lane]] <= t[lane]:
                    if not told:
                        call(kernels[REPORT], (y.ctypes.data, q.ctypes.data, shown.ctypes.data))
                        told = True
                    at = output[lane]
                    for i in range(reports):
                        out[who, at, i] = shown[i * lanes + lane]
                    if states.shape[0]:
                        for i in range(n):
                            states[who, at, i] = y[i * lanes + lane]
                    output[lane] += 1
                if landing[lane]:
                    if output[lane] == outputs[lane]:
                        status[who], until[who], steps[who], rejected[who] = OK, t[lane], good[lane], bad[lane]
                        for at in range(output[lane], moment.size):
                            out[who, at, :] = np.nan
                            if states.shape[0]:
                                states[who, at, :] = np.nan
                        patient[lane] = -1
                        attention |= following < last
                    else:
                        fresh[lane] = True  # of a first step
            if not replaying and fresh.any():
                _first_steps(
                    fresh,
                    kernels[RHS],
                    n,
                    lanes,
                    y,
                    q,
                    atol,
                    rtol,
                    K[: n * lanes],
                    x,
                    K[n * lanes : 2 * n * lanes],
                    stop - t,
                    h,
                )
            for lane in range(lanes):
                fresh[lane], landing[lane] = False, False
        active = False
        for lane in range(lanes):
            if patient[lane] < 0:
                ctl[lane], ctl[lanes + lane] = 1e9, 1e9 / GAMMA
                continue
            active = True
            rest = stop[lane] - t[lane]
            wish = h[lane]
            if replaying:
                wish = replay[replay_from[patient[lane]] + good[lane]]
                landing[lane] = wish < 0.0
                if landing[lane]:
                    wish = rest
            elif wish >= 0.999999 * rest:
                wish = rest
                landing[lane] = True
            elif wish > 0.5 * rest:
                wish = 0.5 * rest
            size[lane] = wish
            ctl[lane], ctl[lanes + lane] = 1.0 / wish, 1.0 / (GAMMA * wish)
        if not active or halt[0]:
            break
        call(
            kernels[STEP],
            (
                y.ctypes.data,
                q.ctypes.data,
                ctl.ctypes.data,
                atol.ctypes.data,
                K.ctypes.data,
                u.ctypes.data,
                w.ctypes.data,
            ),
        )
        due = False
        for lane in range(lanes):
            who = patient[lane]
            accepted[lane] = True
            theta[lane] = 0.0
            if who < 0:
                continue
            error, growth = ctl[3 * lanes + lane], ctl[4 * lanes + lane]
            pivots = growth <= MAX_GROWTH  # not so for NaN
            tries[lane] += 1
            if pivots and (error <= 1.0 or (replaying and error < np.inf)):
                good[lane] += 1
                if write:
                    if logged == log_size.size:
                        log_patient = np.concatenate((log_patient, np.zeros(logged, np.int64)))
                        log_size = np.concatenate((log_size, np.zeros(logged)))
                    log_patient[logged] = who
                    log_size[logged] = -size[lane] if landing[lane] else size[lane]
                    logged += 1
                moment = times[who if time_rows > 1 else 0]
                if moment[output[lane]] <= t[lane] + size[lane]:
                    due = True
                factor = GROW
                if error > 1e-20:
                    factor = min(GROW, max(SHRINK, SAFETY * error ** (-0.5 * INTEGRAL)))
                if lost[lane]:
                    factor = min(factor, 1.0)
                h[lane] = size[lane] * factor
                lost[lane] = 0
            else:
                accepted[lane] = False
                landing[lane] = False
                bad[lane] += 1
                lost[lane] += 1
                if not pivots:
                    factor = 0.5
                elif error < np.inf:
                    factor = max(SHRINK, SAFETY * error ** (-0.5 * INTEGRAL))
                else:
                    factor = 0.1
                h[lane] = size[lane] * factor
        if due:
            call(kernels[DENSE], (K.ctypes.data, D.ctypes.data))
        while due:
            due = False
            for lane in range(lanes):
                theta[lane] = -1.0
                who = patient[lane]
                if who >= 0 and accepted[lane] and output[lane] < outputs[lane]:
                    moment = times[who if time_rows > 1 else 0, output[lane]]
                    if moment < stop[lane] if landing[lane] else moment <= t[lane] + size[lane]:
                        theta[lane] = (moment - t[lane]) / size[lane]
                        due = True
            if not due:
                break
            call(
                kernels[INTERPOLATE],
                (y.ctypes.data, u.ctypes.data, D.ctypes.data, theta.ctypes.data, x.ctypes.data),
            )
            call(kernels[REPORT], (x.ctypes.data, q.ctypes.data, shown.ctypes.data))
            for lane in range(lanes):
                if theta[lane] >= 0.0:
                    who, at = patient[lane], output[lane]
                    for i in range(reports):
                        out[who, at, i] = shown[i * lanes + lane]
                    if states.shape[0]:
                        for i in range(n):
                            states[who, at, i] = x[i * lanes + lane]
                    output[lane] += 1
        for lane in range(lanes):
            who = patient[lane]
            if who < 0:
                continue
            failure = OK
            if accepted[lane]:
                t[lane] = stop[lane] if landing[lane] else t[lane] + size[lane]
                attention |= landing[lane]
            else:
                for i in range(n):
                    u[i * lanes + lane] = y[i * lanes + lane]
                finite = ctl[3 * lanes + lane] < np.inf
                if lost[lane] > TRIES and not ctl[4 * lanes + lane] <= MAX_GROWTH:
                    failure = PIVOT_GROWTH
                elif replaying or h[lane] < 1e-15 * stop[lane]:
                    failure = STEP_TOO_SMALL if finite else NOT_FINITE
            if tries[lane] >= max_steps and not landing[lane]:
                failure = TOO_MANY_STEPS
            if failure:
                status[who], until[who], steps[who], rejected[who] = failure, t[lane], good[lane], bad[lane]
                for at in range(output[lane], out.shape[1]):
                    out[who, at, :] = np.nan
                    if states.shape[0]:
                        states[who, at, :] = np.nan
                patient[lane] = -1
                attention |= following < last
        y, u = u, y
    return log_patient[:logged], log_size[:logged]
