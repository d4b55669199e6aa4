"""Where on its way a solution met its records and gave its outputs, from the steps that it took.

The derivatives of a solution walk its steps again (`tangents` from the first, `adjoint` from the last). Between two
steps, at a landing, records act and outputs at the time of a record are given. All other outputs lie inside a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkmodel.solve.jit import njit

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Itinerary:
    """Steps, outputs and records of N patients in the order of their happening.

    Parameters
    ----------
    start : (N + 1,) array, where each patient's steps begin in the following two
    begin : (start[-1],) array, time at the start of each step [h]
    size : (start[-1],) array, length of each step [h]
    output : (N, m) array, 2 j for an output inside step j, 2 j + 1 for one at the landing after it; -1 for one at time
        zero, and the largest integer for one that was not reached
    record : (N, E) array, j for a record that acts at the landing after step j, -1 at time zero; the largest integer
        for one that never acts
    """

    start: Integers
    begin: Floats
    size: Floats
    output: Integers
    record: Integers


NEVER = np.iinfo(np.int64).max


@njit()
def _walk(
    start: Integers, size: Floats, time: Floats, times: Floats, begin: Floats, length: Floats, output: Integers,
    record: Integers,
) -> None:  # fmt: skip
    for who in range(start.size - 1):
        when = time[who if time.shape[0] > 1 else 0]
        moment = times[who if times.shape[0] > 1 else 0]
        last = moment.size
        while last > 0 and not moment[last - 1] < np.inf:
            last -= 1
        end = moment[last - 1] if last else 0.0
        t, e, o = 0.0, 0, 0
        while e < when.size and when[e] <= t:
            record[who, e] = -1
            e += 1
        while o < last and moment[o] <= t:
            output[who, o] = -1
            o += 1
        for j in range(start[who + 1] - start[who]):
            k = start[who] + j
            landing = size[k] < 0.0
            stop = min(end, when[e]) if e < when.size else end
            then = stop if landing else t + size[k]
            begin[k] = t
            length[k] = then - t if landing else size[k]
            while o < last and (moment[o] < then or (moment[o] <= then and not landing)):
                output[who, o] = 2 * j
                o += 1
            t = then
            if landing:
                while e < when.size and when[e] <= t:
                    record[who, e] = j
                    e += 1
                while o < last and moment[o] <= t:
                    output[who, o] = 2 * j + 1
                    o += 1


def itinerary(start: Integers, size: Floats, time: Floats, times: Floats) -> Itinerary:
    """Lay steps, records and outputs side by side.

    Parameters
    ----------
    start : (N + 1,) array, where each patient's steps begin in `size`
    size : (start[-1],) array, lengths of steps, negative where a step met a record or the last output [h]
    time : (N or 1, E) array, of the records [h]
    times : (N or 1, m) array, of the outputs [h]
    """
    patients = len(start) - 1
    output = np.full((patients, times.shape[1]), NEVER)
    record = np.full((patients, time.shape[1]), NEVER)
    begin, length = np.zeros(len(size)), np.zeros(len(size))
    _walk(start, size, time, times, begin, length, output, record)
    return Itinerary(start, begin, length, output, record)
