"""The driver: many patients at once, one on each lane of the vector unit, none waiting for another.

The kernels (`rosenbrock`, and the model's own) advance L patients with one stream of instructions. Each lane has its
own time, step size, error test, records and outputs; when its patient is finished it takes the next. A lane never reads
another's numbers, so a patient's result is the same to the last bit whoever shares the vector, and a failure stays
where it happened.

**A lane's life.** Load parameters, compute constants and initial state, apply the records at time 0. Step until the
next record, which a step always meets exactly (the one before is shortened to make room); apply the records of that
time; choose a new first step; go on. Outputs between the ends of a step come from its polynomial; outputs at the time
of a record come after all records of that time.

**Error control.** e^2 = mean over states of (u_8 / (atol + rtol max(|y|, |y_new|)))^2. A step with e <= 1 is accepted,
and the next has the size h min(GROW, max(SHRINK, SAFETY e^(-1/5))) (Hairer & Wanner 1996, Solving Ordinary Differential
Equations II, IV.7, doi:10.1007/978-3-642-05221-7). The memory of a PI controller was tried on receptor models and cost
steps at equal error.

**First step,** at the start and after each record. A method of order 5 errs by about |f| h (L h)^4 in a step, where L
says how fast f changes; `_first_steps` measures both along a short trial and makes that one tolerance.

**Replay.** The steps of a run can be written down (`march` returns them) and walked again with other parameters,
without any error test: the result is then a smooth function of the parameters. A step that met a record is stored as
a negative number and meets the record again wherever it has moved.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkmodel.solve.call import call
from pkmodel.solve.jit import njit
from pkmodel.solve.task import Answer, Code, Task

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]

STEP, DENSE, INTERPOLATE, REPORT, RHS, CONSTANTS, INITIAL = range(7)  # task.KERNELS

# Outcomes; the numbers of status.Status, which compiled code cannot name.
OK, TOO_MANY_STEPS, STEP_TOO_SMALL, NOT_FINITE, PIVOT_GROWTH = 0, 1, 2, 3, 8

GAMMA = 0.21193756319429014  # rosenbrock.GAMMA
MAX_GROWTH = 1e10  # of a multiplier in the LU without pivoting: beyond it a solve has fewer digits than a step needs
TRIES = 3  # smaller steps tried before the fixed order of pivots is given up
SMALLEST = 1e-15  # step size, as a part of the time to reach
SAFETY, SHRINK, GROW = 0.9, 0.1, 6.0
FIRST = 0.1  # longest first step, as a part of the way to the next record


# Where each lane stands: rows of an integer table and of a table of times, a column for each lane. (Two plain arrays,
# and functions that see to all lanes at once, because numba counts every array in and out of every call.)
PATIENT = 0  # who is on it; -1 for nobody
RECORD, OUTPUT, OUTPUTS = 1, 2, 3  # next record, next output, number of outputs
TRIED, GOOD, BAD, LOST = 4, 5, 6, 7  # steps tried, accepted, rejected; rejected in a row
LANDING = 8  # the step ends at STOP
TAKEN = 9  # the step was accepted
FRESH = 10  # the patient is new, or a first step is wanted
T, H, SIZE = 0, 1, 2  # time, wish for the next step, size of the present one [h]
STOP, END = 3, 4  # the next time to meet exactly, the last output [h]
NEXT = 5  # the next output; infinite after the last [h]


@njit()
def _aligned(size: int) -> Floats:
    """Zeros that start on a cache line: a vector that straddles two costs twice."""
    room = np.zeros(size + 8)
    start = (-(room.ctypes.data >> 3)) & 7
    return room[start : start + size]


@njit()
def _load(parameters: Floats, who: int, lane: int, L: int, q: Floats) -> None:
    """Parameters of a patient into a lane; what is switched by records starts at zero."""
    k = parameters.shape[1]
    for i in range(k):
        q[i * L + lane] = parameters[who, i]
    for i in range(k, q.size // L):
        q[i * L + lane] = 0.0


@njit()
def _begin(times: Floats, at: Integers, clock: Floats, lane: int, L: int, start: Floats, y: Floats) -> None:
    """A patient's first moment: initial state, and how many outputs to give until when."""
    for i in range(y.size // L):
        y[i * L + lane] = start[i * L + lane]
    row = at[PATIENT, lane] if times.shape[0] > 1 else 0
    outputs = times.shape[1]
    while outputs > 0 and not times[row, outputs - 1] < np.inf:
        outputs -= 1
    at[RECORD:FRESH, lane] = 0
    at[OUTPUTS, lane] = outputs
    at[LANDING, lane] = 1
    clock[T, lane], clock[END, lane] = 0.0, times[row, outputs - 1] if outputs else 0.0
    clock[NEXT, lane] = times[row, 0] if outputs else np.inf


@njit()
def _meet(
    time: Floats, kind: NDArray[np.int8], index: Integers, value: Floats, at: Integers, clock: Floats, lane: int,
    L: int, y: Floats, q: Floats,
) -> bool:  # fmt: skip
    """Apply the records of this time, one after the other; whether a parameter changed."""
    row = at[PATIENT, lane] if time.shape[0] > 1 else 0
    records, switched, e = time.shape[1], False, at[RECORD, lane]
    while e < records and time[row, e] <= clock[T, lane]:
        what, place, v = kind[row, e], index[row, e] * L + lane, value[row, e]
        if what == 0:
            y[place] += v
        elif what == 1:
            y[place] = v
        elif what == 2:
            q[place] = v
        else:
            q[place] += v
        switched |= what >= 2
        e += 1
    at[RECORD, lane] = e
    clock[STOP, lane] = min(clock[END, lane], time[row, e]) if e < records else clock[END, lane]
    return switched


@njit()
def _tell(
    out: Floats, states: Floats, times: Floats, at: Integers, clock: Floats, L: int, theta: Floats, shown: Floats,
    x: Floats,
) -> None:  # fmt: skip
    """Store reports and state as the next output of the lanes with theta >= 0."""
    for lane in range(L):
        if theta[lane] >= 0.0:
            who, output = at[PATIENT, lane], at[OUTPUT, lane]
            for i in range(out.shape[2]):
                out[who, output, i] = shown[i * L + lane]
            if states.shape[0]:
                for i in range(states.shape[2]):
                    states[who, output, i] = x[i * L + lane]
            output += 1
            at[OUTPUT, lane] = output
            row = who if times.shape[0] > 1 else 0
            clock[NEXT, lane] = times[row, output] if output < at[OUTPUTS, lane] else np.inf


@njit()
def _leave(
    outcome: Any, at: Integers, clock: Floats, lane: int, out: Floats, states: Floats, status: Integers, until: Floats,
    steps: Integers, rejected: Integers,
) -> None:  # fmt: skip
    """A patient leaves its lane; outputs that were not reached are NaN."""
    who = at[PATIENT, lane]
    status[who], until[who], steps[who], rejected[who] = outcome, clock[T, lane], at[GOOD, lane], at[BAD, lane]
    for output in range(at[OUTPUT, lane], out.shape[1]):
        for i in range(out.shape[2]):
            out[who, output, i] = np.nan
        if states.shape[0]:
            for i in range(states.shape[2]):
                states[who, output, i] = np.nan
    at[PATIENT, lane], at[LANDING, lane] = -1, 0


@njit()
def _first_steps(
    rhs: int, rtol: float, atol: Floats, at: Integers, clock: Floats, L: int, y: Floats, q: Floats, x: Floats,
    f: Floats, g: Floats,
) -> None:  # fmt: skip
    """First step of the lanes that want one, from f and from its change along a short trial step.

    The trial crosses a thousandth of the time in which f would make up y. Sizes are in units of the tolerance.
    """
    n = atol.size
    call(rhs, (y.ctypes.data, q.ctypes.data, f.ctypes.data))
    for lane in range(L):
        if at[FRESH, lane]:
            state, rate = 0.0, 0.0
            for i in range(n):
                k = i * L + lane
                tolerance = atol[i] + rtol * abs(y[k])
                state += (y[k] / tolerance) ** 2
                rate += (f[k] / tolerance) ** 2
            trial = 1e-3 * np.sqrt(state / rate) if state > 1e-10 * n and rate > 1e-10 * n else 1e-6
            clock[H, lane] = min(trial, FIRST * (clock[STOP, lane] - clock[T, lane]))
            for i in range(n):
                k = i * L + lane
                x[k] = y[k] + clock[H, lane] * f[k]
    call(rhs, (x.ctypes.data, q.ctypes.data, g.ctypes.data))
    for lane in range(L):
        if at[FRESH, lane]:
            rate, change = 0.0, 0.0
            for i in range(n):
                k = i * L + lane
                tolerance = atol[i] + rtol * max(abs(y[k]), abs(x[k]))
                rate += (f[k] / tolerance) ** 2
                change += ((g[k] - f[k]) / tolerance) ** 2
            longest = FIRST * (clock[STOP, lane] - clock[T, lane])
            error = np.sqrt(rate / n) * (change / rate / clock[H, lane] ** 2) ** 2  # |f| L^4
            clock[H, lane] = min(longest, error**-0.2) if error > 0.0 else longest


@njit()
def _arrive(
    kernels: Integers, chosen: Integers, following: Any, parameters: Floats, time: Floats, kind: NDArray[np.int8],
    index: Integers, value: Floats, times: Floats, rtol: float, atol: Floats, replaying: bool, at: Integers,
    clock: Floats, L: int, y: Floats, q: Floats, x: Floats, K: Floats, theta: Floats, shown: Floats, out: Floats,
    states: Floats, status: Integers, until: Floats, steps: Integers, rejected: Integers,
) -> Any:  # fmt: skip
    """See to lanes that are free, or have met a record or their end; the number of patients taken so far."""
    again = True
    while again:
        again, loaded, switched, told, starting = False, False, False, False, False
        for lane in range(L):
            if at[PATIENT, lane] < 0 and following < chosen.size:
                at[PATIENT, lane], at[FRESH, lane], loaded = chosen[following], 1, True
                _load(parameters, chosen[following], lane, L, q)
                following += 1
        if loaded:
            call(kernels[CONSTANTS], (q.ctypes.data,))
            call(kernels[INITIAL], (q.ctypes.data, x.ctypes.data))
        for lane in range(L):
            if at[FRESH, lane]:
                _begin(times, at, clock, lane, L, x, y)
                at[FRESH, lane] = 0
            if at[LANDING, lane]:
                switched |= _meet(time, kind, index, value, at, clock, lane, L, y, q)
        if switched:
            call(kernels[CONSTANTS], (q.ctypes.data,))
        while True:
            due = False
            for lane in range(L):
                due_here = at[LANDING, lane] and clock[NEXT, lane] <= clock[T, lane]
                theta[lane] = 0.0 if due_here else -1.0
                due |= due_here
            if not due:
                break
            if not told:
                call(kernels[REPORT], (y.ctypes.data, q.ctypes.data, shown.ctypes.data))
                told = True
            _tell(out, states, times, at, clock, L, theta, shown, y)
        for lane in range(L):
            if at[LANDING, lane]:
                if at[OUTPUT, lane] < at[OUTPUTS, lane]:
                    at[FRESH, lane], starting = 1, True
                else:
                    _leave(np.int64(OK), at, clock, lane, out, states, status, until, steps, rejected)
                    again |= following < chosen.size
        if starting and not replaying:
            _first_steps(kernels[RHS], rtol, atol, at, clock, L, y, q, x, K, K[atol.size * L :])
        for lane in range(L):
            at[FRESH, lane], at[LANDING, lane] = 0, 0
    return following


@njit()
def _propose(replay_from: Integers, replay: Floats, at: Integers, clock: Floats, L: int, ctl: Floats) -> bool:
    """Step sizes; whether anybody is there."""
    anybody = False
    for lane in range(L):
        if at[PATIENT, lane] < 0:
            ctl[lane], ctl[L + lane] = 1e9, 1e9 / GAMMA
            continue
        anybody = True
        rest, size = clock[STOP, lane] - clock[T, lane], clock[H, lane]
        if replay_from.size:
            size = replay[replay_from[at[PATIENT, lane]] + at[GOOD, lane]]
            landing = size < 0.0
        else:
            landing = size >= 0.999999 * rest
            size = min(size, 0.5 * rest)
        if landing:
            size = rest
        at[LANDING, lane] = landing
        clock[SIZE, lane] = size
        ctl[lane], ctl[L + lane] = 1.0 / size, 1.0 / (GAMMA * size)
    return anybody


@njit()
def _judge(replaying: bool, ctl: Floats, at: Integers, clock: Floats, L: int) -> bool:
    """Accept or reject each step by its mean squared error, and wish for the next; whether an output is due."""
    due = False
    for lane in range(L):
        if at[PATIENT, lane] < 0:
            continue
        error, pivots = ctl[3 * L + lane], ctl[4 * L + lane] <= MAX_GROWTH  # not so for NaN
        factor = GROW
        if not pivots:
            factor = 0.5
        elif not error < np.inf:
            factor = SHRINK
        elif error > 1e-8:
            factor = min(GROW, max(SHRINK, SAFETY * error**-0.1))
        at[TRIED, lane] += 1
        if pivots and (error <= 1.0 or (replaying and error < np.inf)):
            if at[LOST, lane]:
                factor = min(factor, 1.0)
            at[TAKEN, lane], at[LOST, lane] = 1, 0
            at[GOOD, lane] += 1
            due |= clock[NEXT, lane] <= clock[T, lane] + clock[SIZE, lane]
        else:
            at[TAKEN, lane], at[LANDING, lane] = 0, 0
            at[BAD, lane] += 1
            at[LOST, lane] += 1
        clock[H, lane] = clock[SIZE, lane] * factor
    return due


@njit()
def _fractions(at: Integers, clock: Floats, L: int, theta: Floats) -> bool:
    """Where in its step each lane has its next output, -1 for nowhere; whether any has one."""
    due = False
    for lane in range(L):
        theta[lane] = -1.0
        if at[PATIENT, lane] >= 0 and at[TAKEN, lane]:
            moment, t, size = clock[NEXT, lane], clock[T, lane], clock[SIZE, lane]
            if moment < clock[STOP, lane] if at[LANDING, lane] else moment <= t + size:
                theta[lane] = (moment - t) / size
                due = True
    return due


@njit()
def _longer(a: Any) -> Any:
    """An array twice as long with the same beginning."""
    longer = np.empty((2 * a.shape[0], *a.shape[1:]), a.dtype)
    longer[: a.shape[0]] = a
    return longer


@njit()
def _write(
    keep_state: bool, at: Integers, clock: Floats, L: int, y: Floats, who: Integers, size: Floats, state: Floats,
    logged: int,
) -> int:  # fmt: skip
    """Write the accepted steps down; how many are written."""
    for lane in range(L):
        if at[PATIENT, lane] >= 0 and at[TAKEN, lane]:
            who[logged] = at[PATIENT, lane]
            size[logged] = -clock[SIZE, lane] if at[LANDING, lane] else clock[SIZE, lane]
            if keep_state:
                for i in range(state.shape[1]):
                    state[logged, i] = y[i * L + lane]
            logged += 1
    return logged


@njit()
def _advance(
    replaying: bool, max_steps: int, ctl: Floats, at: Integers, clock: Floats, L: int, y: Floats, u: Floats,
    out: Floats, states: Floats, status: Integers, until: Floats, steps: Integers, rejected: Integers,
) -> bool:  # fmt: skip
    """Move the clocks, undo rejected steps, give up on lanes that cannot go on; whether a lane needs attention."""
    attention = False
    for lane in range(L):
        if at[PATIENT, lane] < 0:
            continue
        outcome: Any = np.int64(OK)  # not a literal, for which numba would compile another `_leave`
        if at[TAKEN, lane]:
            clock[T, lane] = clock[STOP, lane] if at[LANDING, lane] else clock[T, lane] + clock[SIZE, lane]
            attention |= at[LANDING, lane] != 0
        else:
            for i in range(y.size // L):
                u[i * L + lane] = y[i * L + lane]
            if (replaying or at[LOST, lane] > TRIES) and not ctl[4 * L + lane] <= MAX_GROWTH:
                outcome = PIVOT_GROWTH
            elif replaying or clock[H, lane] < SMALLEST * clock[STOP, lane]:
                outcome = STEP_TOO_SMALL if ctl[3 * L + lane] < np.inf else NOT_FINITE
        if at[TRIED, lane] >= max_steps and not at[LANDING, lane]:
            outcome = TOO_MANY_STEPS
        if outcome:
            _leave(outcome, at, clock, lane, out, states, status, until, steps, rejected)
            attention = True
    return attention


@njit()
def march(code: Code, task: Task, chosen: Integers, answer: Answer) -> tuple[Integers, Floats, Floats]:
    """Solve some patients.

    Parameters
    ----------
    code : the model's machine code
    task : what to solve
    chosen : (any,) array, which patients, at least one
    answer : written

    Returns
    -------
    patients, sizes, starts : of each accepted step, in the order of acceptance: who, how long, from which (n,) state
        [-, h, state]; what is not to be written is empty
    """
    kernels, L, n, nq, nw, head = code
    parameters, time, kind, index, value, times, rtol, atol, max_steps, replay_from, replay, write, halt = task
    out, states, status, until, steps, rejected = answer
    replaying = replay_from.size > 0
    y, u, x = _aligned(n * L), _aligned(n * L), _aligned(n * L)
    q, w, ctl, theta = _aligned(nq * L), _aligned(nw * L), _aligned(5 * L), _aligned(L)
    K, D, shown = _aligned(8 * n * L), _aligned(3 * n * L), _aligned(out.shape[2] * L)
    # Addresses are taken where they are used: an array that is never named again is freed.
    for i in range(head.size):
        w[i] = head[i]
    at, clock = np.zeros((11, L), np.int64), np.ones((6, L))
    room, logged = 1024 if write else 0, 0
    who: Integers = np.zeros(room, np.int64)
    size: Floats = np.zeros(room)
    state: Floats = np.zeros((room if write > 1 else 0, n))
    for lane in range(L):  # a lane without a patient idles on somebody's numbers
        ctl[2 * L + lane] = rtol
        at[PATIENT, lane] = -1
        _load(parameters, chosen[min(lane, chosen.size - 1)], lane, L, q)
    call(kernels[CONSTANTS], (q.ctypes.data,))
    call(kernels[INITIAL], (q.ctypes.data, y.ctypes.data))
    following: Any = np.int64(0)
    attention = True
    while True:
        if attention:
            following = _arrive(
                kernels, chosen, following, parameters, time, kind, index, value, times, rtol, atol, replaying, at,
                clock, L, y, q, x, K, theta, shown, out, states, status, until, steps, rejected,
            )  # fmt: skip
        if not _propose(replay_from, replay, at, clock, L, ctl) or halt[0]:
            break
        call(
            kernels[STEP],
            (y.ctypes.data, q.ctypes.data, ctl.ctypes.data, atol.ctypes.data, K.ctypes.data, u.ctypes.data,
             w.ctypes.data),
        )  # fmt: skip
        due = _judge(replaying, ctl, at, clock, L)
        if write:
            if logged + L > who.size:
                who, size, state = _longer(who), _longer(size), _longer(state)
            logged = _write(write > 1, at, clock, L, y, who, size, state, logged)
        if due:
            call(kernels[DENSE], (K.ctypes.data, D.ctypes.data))
            while _fractions(at, clock, L, theta):
                call(
                    kernels[INTERPOLATE],
                    (y.ctypes.data, u.ctypes.data, D.ctypes.data, theta.ctypes.data, x.ctypes.data),
                )
                call(kernels[REPORT], (x.ctypes.data, q.ctypes.data, shown.ctypes.data))
                _tell(out, states, times, at, clock, L, theta, shown, x)
        attention = _advance(replaying, max_steps, ctl, at, clock, L, y, u, out, states, status, until, steps, rejected)
        y, u = u, y
    return who[:logged], size[:logged], state[:logged]
