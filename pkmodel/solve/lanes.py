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

**Strides.** `march` keeps nothing to itself: where the lanes stand lies in arrays that `solve` makes. So it may stop
after some thousand steps and be called again, and in between Python hears an interrupt.

**Replay.** The steps of a run can be written down (`solve` returns them) and walked again with other parameters,
without any error test: the result is then a smooth function of the parameters. A step that met a record is stored as
a negative number and meets the record again wherever it has moved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkmodel.solve.call import FLUSH, call, denormals
from pkmodel.solve.jit import njit
from pkmodel.solve.task import Answer, Code, Lanes, Task

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
STRIDE = 4096  # steps of all lanes between two moments in which an interrupt is heard
STAGES = 8  # rosenbrock.STAGES
LINE = 8  # numbers in a cache line
BITS_OF_ROOT = 1.1 * float(0x3FF << 52) - 0.05 * 2.0**52  # bits(x^(-1/10)) + bits(x)/10, on average
FIRST = 0.1  # longest first step, as a part of the way to the next record


# Where each lane stands: rows of an integer table and of a table of times, a column for each lane.
PATIENT = 0  # who is on it; -1 for nobody
RECORD, OUTPUT, OUTPUTS = 1, 2, 3  # next record, next output, number of outputs
GOOD, BAD, LOST = 4, 5, 6  # steps accepted, rejected; rejected in a row
LANDING = 7  # the step ends at STOP
TAKEN = 8  # the step was accepted
FRESH = 9  # the patient is new, or a first step is wanted
T, H, SIZE = 0, 1, 2  # time, wish for the next step, size of the present one [h]
STOP, END = 3, 4  # the next time to meet exactly, the last output [h]
NEXT = 5  # the next output; infinite after the last [h]
TAKEN_UP, WRITTEN = 0, 1  # of `Lanes.counts`


@njit(allocates=False, inner=True)
def _load(parameters: Floats, who: int, lane: int, L: int, q: Floats) -> None:
    """Parameters of a patient into a lane; what is switched by records starts at zero."""
    k = parameters.shape[1]
    for i in range(k):
        q[i * L + lane] = parameters[who, i]
    for i in range(k, q.size // L):
        q[i * L + lane] = 0.0


@njit(allocates=False, inner=True)
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


@njit(allocates=False, inner=True)
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


@njit(allocates=False, inner=True)
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


@njit(allocates=False, inner=True)
def _leave(outcome: Any, at: Integers, clock: Floats, lane: int, answer: Answer) -> None:
    """A patient leaves its lane; outputs that were not reached are NaN."""
    out, states, who = answer.out, answer.states, at[PATIENT, lane]
    answer.status[who], answer.until[who] = outcome, clock[T, lane]
    answer.steps[who], answer.rejected[who] = at[GOOD, lane], at[BAD, lane]
    for output in range(at[OUTPUT, lane], out.shape[1]):
        for i in range(out.shape[2]):
            out[who, output, i] = np.nan
        if states.shape[0]:
            for i in range(states.shape[2]):
                states[who, output, i] = np.nan
    at[PATIENT, lane], at[LANDING, lane], at[TAKEN, lane] = -1, 0, 0


@njit(allocates=False, inner=True)
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


@njit(allocates=False, inner=True)
def _arrive(code: Code, task: Task, chosen: Integers, lanes: Lanes, answer: Answer, swapped: bool) -> None:
    """See to lanes that are free, or have met a record or their end."""
    kernels, L = code.kernels, code.lanes
    parameters, time, kind, place, value, times = task[:6]
    at, clock, first, second, x, q = lanes[:6]
    K, theta, shown, count = lanes.K, lanes.theta, lanes.shown, lanes.counts
    y = second if swapped else first
    at_y, at_x, at_q, at_shown = y.ctypes.data, x.ctypes.data, q.ctypes.data, shown.ctypes.data
    again = True
    while again:
        again, loaded, switched, told, starting = False, False, False, False, False
        for lane in range(L):
            if at[PATIENT, lane] < 0 and count[TAKEN_UP] < chosen.size:
                who = chosen[count[TAKEN_UP]]
                count[TAKEN_UP] += 1
                at[PATIENT, lane], at[FRESH, lane], loaded = who, 1, True
                _load(parameters, who, lane, L, q)
        if loaded:
            call(kernels[CONSTANTS], (at_q,))
            call(kernels[INITIAL], (at_q, at_x))
        for lane in range(L):
            if at[FRESH, lane]:
                _begin(times, at, clock, lane, L, x, y)
                at[FRESH, lane] = 0
            if at[LANDING, lane]:
                switched |= _meet(time, kind, place, value, at, clock, lane, L, y, q)
        if switched:
            call(kernels[CONSTANTS], (at_q,))
        while True:
            due = False
            for lane in range(L):
                due_here = at[LANDING, lane] and clock[NEXT, lane] <= clock[T, lane]
                theta[lane] = 0.0 if due_here else -1.0
                due |= due_here
            if not due:
                break
            if not told:
                call(kernels[REPORT], (at_y, at_q, at_shown))
                told = True
            _tell(answer.out, answer.states, times, at, clock, L, theta, shown, y)
        for lane in range(L):
            if at[LANDING, lane]:
                if at[OUTPUT, lane] < at[OUTPUTS, lane]:
                    at[FRESH, lane], starting = 1, True
                else:
                    _leave(np.int64(OK), at, clock, lane, answer)
                    again |= count[TAKEN_UP] < chosen.size
        if starting and not task.replay_from.size:
            _first_steps(kernels[RHS], task.rtol, task.atol, at, clock, L, y, q, x, K, K[task.atol.size * L :])
        for lane in range(L):
            at[FRESH, lane], at[LANDING, lane] = 0, 0


@njit(allocates=False, inner=True)
def _propose(replay_from: Integers, replay: Floats, at: Integers, clock: Floats, L: int, ctl: Floats) -> bool:
    """Step sizes; whether anybody is there."""
    anybody = False
    for lane in range(L):
        there = at[PATIENT, lane] >= 0
        rest, size = clock[STOP, lane] - clock[T, lane], clock[H, lane]
        if there and replay_from.size:
            step = replay_from[at[PATIENT, lane]] + at[GOOD, lane]
            size = replay[step] if step < replay_from[at[PATIENT, lane] + 1] else np.nan  # used up
            landing = size < 0.0
        else:
            landing = size >= 0.999999 * rest
            size = min(size, 0.5 * rest)
        size = (rest if landing else size) if there else 1e-9
        anybody |= there
        at[LANDING, lane] = there and landing
        clock[SIZE, lane] = size
        ctl[lane] = 1.0 / size
        ctl[L + lane] = ctl[lane] * (1.0 / GAMMA)
    return anybody


@njit(allocates=False, inner=True)
def _inverse_tenth_root(x: Any) -> float:
    """x^(-1/10) to seven digits, x > 0, without the branches of a power: as many lanes at once as the processor can.

    The bits of a number, read as a whole number, are nearly its logarithm; three of Newton's steps do the rest.
    """
    bits = np.float64(x).view(np.int64)
    r = np.int64(BITS_OF_ROOT - 0.1 * bits).view(np.float64)
    for _ in range(3):
        square = r * r
        r *= 1.1 - 0.1 * x * square * (square * square) ** 2
    return r


@njit(allocates=False, inner=True)
def _judge(replaying: bool, ctl: Floats, at: Integers, clock: Floats, L: int) -> tuple[bool, bool]:
    """Accept or reject each step by its mean squared error, and wish for the next.

    Returns whether an output is due, and whether a step was rejected.
    """
    due, lost = False, False
    for lane in range(L):
        there = at[PATIENT, lane] >= 0
        error, pivots = ctl[3 * L + lane], ctl[4 * L + lane] <= MAX_GROWTH  # not so for NaN
        bounded = max(error, 1e-30) if error < 1e30 else 1e30  # for NaN too
        factor = min(GROW, max(SHRINK, SAFETY * _inverse_tenth_root(bounded)))
        factor = factor if pivots else 0.5
        good = there and pivots and (error <= 1.0 or (replaying and error < np.inf))
        bad = there and not good
        factor = min(factor, 1.0) if good and at[LOST, lane] > 0 else factor
        at[TAKEN, lane] = good
        at[GOOD, lane] += good
        at[BAD, lane] += bad
        at[LOST, lane] = at[LOST, lane] + 1 if bad else 0
        at[LANDING, lane] = at[LANDING, lane] if good else 0
        clock[H, lane] = clock[SIZE, lane] * factor
        due |= good and clock[NEXT, lane] <= clock[T, lane] + clock[SIZE, lane]
        lost |= bad
    return due, lost


@njit(allocates=False, inner=True)
def _fractions(at: Integers, clock: Floats, L: int, theta: Floats) -> bool:
    """Where in its step each lane has its next output, -1 for nowhere; whether any has one."""
    due = False
    for lane in range(L):
        moment, t, size = clock[NEXT, lane], clock[T, lane], clock[SIZE, lane]
        inside = moment < clock[STOP, lane] if at[LANDING, lane] else moment <= t + size
        inside = inside and at[TAKEN, lane]
        theta[lane] = (moment - t) / size if inside else -1.0
        due |= inside
    return due


@njit(allocates=False, inner=True)
def _write(task: Task, lanes: Lanes, L: int, swapped: bool) -> None:
    """Write the accepted steps down."""
    y = lanes.u if swapped else lanes.y
    for lane in range(L):
        if lanes.at[TAKEN, lane]:
            line = lanes.counts[WRITTEN]
            lanes.who[line] = lanes.at[PATIENT, lane]
            lanes.size[line] = -lanes.clock[SIZE, lane] if lanes.at[LANDING, lane] else lanes.clock[SIZE, lane]
            if task.write > 1:
                for i in range(lanes.state.shape[1]):
                    lanes.state[line, i] = y[i * L + lane]
            lanes.counts[WRITTEN] += 1


@njit(allocates=False, inner=True)
def _advance(max_steps: int, at: Integers, clock: Floats, L: int) -> tuple[bool, bool]:
    """Move the clocks; whether a lane has arrived somewhere, and whether one has used up its steps."""
    arrived, tired = False, False
    for lane in range(L):
        t = clock[STOP, lane] if at[LANDING, lane] else clock[T, lane] + clock[SIZE, lane]
        clock[T, lane] = t if at[TAKEN, lane] else clock[T, lane]
        arrived |= at[LANDING, lane] != 0
        tired |= at[GOOD, lane] + at[BAD, lane] >= max_steps
    return arrived, tired


@njit(allocates=False, inner=True)
def _yield(task: Task, lanes: Lanes, L: int, answer: Answer, swapped: bool) -> bool:
    """Undo rejected steps, and give up on lanes that cannot go on; whether there was one."""
    left, at, clock, ctl = False, lanes.at, lanes.clock, lanes.ctl
    y, u = (lanes.u, lanes.y) if swapped else (lanes.y, lanes.u)
    replaying = task.replay_from.size > 0
    for lane in range(L):
        if at[PATIENT, lane] < 0:
            continue
        outcome: Any = np.int64(OK)  # not a literal, for which numba would compile another `_leave`
        if not at[TAKEN, lane]:
            for i in range(y.size // L):
                u[i * L + lane] = y[i * L + lane]
            if (replaying or at[LOST, lane] > TRIES) and not ctl[4 * L + lane] <= MAX_GROWTH:
                outcome = PIVOT_GROWTH
            elif replaying or clock[H, lane] < SMALLEST * max(clock[T, lane], SMALLEST * clock[STOP, lane]):
                outcome = STEP_TOO_SMALL if ctl[3 * L + lane] < np.inf else NOT_FINITE
        used_up = replaying and np.isnan(clock[SIZE, lane])
        if used_up or (at[GOOD, lane] + at[BAD, lane] >= task.max_steps and not at[LANDING, lane]):
            outcome = TOO_MANY_STEPS
        if outcome != OK:
            _leave(outcome, at, clock, lane, answer)
            left = True
    return left


@njit(allocates=False)
def march(code: Code, task: Task, chosen: Integers, lanes: Lanes, answer: Answer, turns: int) -> bool:
    """Take steps for some patients; whether there is more to do.

    Parameters
    ----------
    code : the model's machine code
    task : what to solve
    chosen : (any,) array, which patients, at least one
    lanes : where the last call left off
    answer : written
    turns : how many steps of all lanes, at most
    """
    kernels, L = code.kernels, code.lanes
    out, states, times, replay_from, replay = answer.out, answer.states, task.times, task.replay_from, task.replay
    at, clock, y, u, x, q, w, ctl, theta, K, D, shown = lanes[:12]
    at_y, at_u, at_x, at_q, at_w, at_ctl = (
        y.ctypes.data, u.ctypes.data, x.ctypes.data, q.ctypes.data, w.ctypes.data, ctl.ctypes.data
    )  # fmt: skip
    at_theta, at_k, at_d, at_shown, at_atol = (
        theta.ctypes.data, K.ctypes.data, D.ctypes.data, shown.ctypes.data, task.atol.ctypes.data
    )  # fmt: skip
    step, dense, interpolate, report = kernels[STEP], kernels[DENSE], kernels[INTERPOLATE], kernels[REPORT]
    writing, replaying, swapped = task.write > 0, replay_from.size > 0, turns < 0  # a literal would compile twice
    if not lanes.counts[TAKEN_UP]:
        for lane in range(L):  # a lane without a patient idles on somebody's numbers
            _load(task.parameters, chosen[min(lane, chosen.size - 1)], lane, L, q)
        call(kernels[CONSTANTS], (q.ctypes.data,))
        call(kernels[INITIAL], (q.ctypes.data, y.ctypes.data))
    attention, more, mode = True, True, denormals(FLUSH)
    for _ in range(turns):
        if attention:
            _arrive(code, task, chosen, lanes, answer, swapped)
        more = _propose(replay_from, replay, at, clock, L, ctl)
        if not more or (writing and lanes.counts[WRITTEN] + L > lanes.who.size):
            break
        call(step, (at_y, at_q, at_ctl, at_atol, at_k, at_u, at_w))
        due, lost = _judge(replaying, ctl, at, clock, L)
        if writing:
            _write(task, lanes, L, swapped)
        if due:
            call(dense, (at_k, at_d))
            while _fractions(at, clock, L, theta):
                call(interpolate, (at_y, at_u, at_d, at_theta, at_x))
                call(report, (at_x, at_q, at_shown))
                _tell(out, states, times, at, clock, L, theta, shown, x)
        attention, tired = _advance(task.max_steps, at, clock, L)
        if lost or tired:
            attention |= _yield(task, lanes, L, answer, swapped)
        at_y, at_u, swapped = at_u, at_y, not swapped
    denormals(mode)
    if swapped:
        for i in range(y.size):
            y[i] = u[i]
    return more


def solve(
    code: Code, task: Task, chosen: Integers, answer: Answer, halted: Callable[[], bool] = lambda: False
) -> tuple[Integers, Floats, Floats]:
    """Solve some patients, in strides, between which an interrupt is heard.

    Parameters
    ----------
    code : the model's machine code
    task : what to solve
    chosen : (any,) array, which patients, at least one
    answer : written
    halted : asked after each stride whether to end

    Returns
    -------
    patients, sizes, starts : of each accepted step, in the order of acceptance: who, how long, from which (n,) state
        [-, h, state]; what is not to be written is empty
    """
    lanes = _lanes(code, task, answer.out.shape[2])
    while march(code, task, chosen, lanes, answer, STRIDE) and not halted():
        if task.write and lanes.counts[WRITTEN] + code.lanes > len(lanes.who):
            lanes = lanes._replace(**{a: _longer(getattr(lanes, a)) for a in ("who", "size", "state")})
    written = int(lanes.counts[WRITTEN])
    return lanes.who[:written], lanes.size[:written], lanes.state[:written]


def _lanes(code: Code, task: Task, reports: int) -> Lanes:
    """Empty lanes."""
    L, n = code.lanes, code.n
    sizes = [L * k for k in (n, n, n, code.nq, code.nw, 5, 1, STAGES * n, 3 * n, reports)]
    y, u, x, q, w, ctl, theta, K, D, shown = _aligned(sizes)
    w[: code.head.size] = code.head
    ctl[2 * L : 3 * L] = task.rtol
    at, clock = np.zeros((10, L), np.int64), np.ones((6, L))
    at[PATIENT] = -1
    room = 2048 * L if task.write else 0  # address space: memory is taken only as it is written
    return Lanes(
        at, clock, y, u, x, q, w, ctl, theta, K, D, shown, np.zeros(2, np.int64), np.empty(room, np.int64),
        np.empty(room), np.empty((room if task.write > 1 else 0, n)),
    )  # fmt: skip


def _aligned(sizes: list[int]) -> list[Floats]:
    """Zeros that start on cache lines: a vector that straddles two costs twice."""
    pool, views = np.zeros(sum(sizes) + LINE * (len(sizes) + 1)), []
    at = -(pool.ctypes.data // 8) % LINE
    for size in sizes:
        views.append(pool[at : at + size])
        at += -(-size // LINE) * LINE
    return views


def _longer(a: Any) -> Any:
    """An array twice as long with the same beginning."""
    return np.concatenate([a, np.empty_like(a)])
