"""What the driver is given and gives back: tuples of numbers and arrays, which compiled code takes apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]

KERNELS = ("step", "dense", "interpolate", "report", "rhs", "constants", "initial")
STEP = KERNELS.index("step")


class Code(NamedTuple):
    """A model's machine code.

    Attributes
    ----------
    kernels : (7,) machine addresses, in the order of `KERNELS`
    lanes : patients in one vector, L; the kernels' own
    n, nq, nw : numbers of states, of parameters with constants, and of entries of a step's work array
    head : (any,) numbers that the work array starts with; empty for a model's own machine code
    """

    kernels: Integers
    lanes: int
    n: int
    nq: int
    nw: int
    head: Floats


class Task(NamedTuple):
    """What to solve for N patients, and how.

    Attributes
    ----------
    parameters : (N, k) array
    time, kind, place, value : (N or 1, E) arrays, the records; one row serves all [h, -, -, state or parameter]
    times : (N or 1, m) array, not decreasing, infinite where a patient has fewer outputs [h]
    rtol : relative tolerance [1]
    atol : (n,) array, absolute tolerance [state]
    max_steps : steps tried, accepted or not, before a patient is given up
    replay_from : (N + 1,) array, where each patient's steps begin in `replay`; empty: choose steps by error [-]
    replay : all patients' steps, negative where a step met a record [h]
    write : 0 nothing, 1 the steps, 2 the steps and the states at their start
    """

    parameters: Floats
    time: Floats
    kind: NDArray[np.int8]
    place: Integers
    value: Floats
    times: Floats
    rtol: float
    atol: Floats
    max_steps: int
    replay_from: Integers
    replay: Floats
    write: int


class Answer(NamedTuple):
    """Arrays that are written.

    Attributes
    ----------
    out : (N, m, r) array, the reports
    states : (N, m, n) array, the states; (0, m, n) if they are not wanted
    status, until, steps, rejected : (N,) arrays: outcome, time reached [h], accepted and rejected steps
    """

    out: Floats
    states: Floats
    status: Integers
    until: Floats
    steps: Integers
    rejected: Integers


class Lanes(NamedTuple):
    """Where each lane stands, and room to work in: all that is kept between two calls of the driver.

    Attributes
    ----------
    at : (10, L) array and
    clock : (6, L) array, the rows that `lanes` names
    y, u, x : (n L,) arrays: state at the start of the step, at its end, and wherever else it is wanted
    q, w, ctl, theta, K, D, shown : the kernels' arrays
    counts : (2,) array, patients taken and steps written down so far
    who, size, state : (room,), (room,) and (room or 0, n) arrays, the steps written down [-, h, state]
    """

    at: Integers
    clock: Floats
    y: Floats
    u: Floats
    x: Floats
    q: Floats
    w: Floats
    ctl: Floats
    theta: Floats
    K: Floats
    D: Floats
    shown: Floats
    counts: Integers
    who: Integers
    size: Floats
    state: Floats
