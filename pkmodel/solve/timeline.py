"""The arrays that tell a solver what happens when, checked once before any compiled code reads them.

A timeline is a list of stop times with, at each stop, a jump of the state and, between two stops, a constant
rate added to dx/dt and inputs that run linearly in time. Doses, infusions, measured blood curves and the times
at which the user wants to see the state are all written this way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkmodel.errors import SimulationError

type Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Stops, and what happens at and between them (m segments, n states, q inputs).

    Parameters
    ----------
    times : (m+1,) array, not decreasing [h]
    jumps : (m+1, n) array, added to the state at each stop; the state reported there is after the jump [state]
    rates : (m, n) array, added to dx/dt during each segment [state/h]
    u0 : (m, q) array, inputs at the start of each segment, from the right [input]
    du : (m, q) array, slopes of the inputs during each segment [input/h]
    """

    times: Floats
    jumps: Floats
    rates: Floats
    u0: Floats
    du: Floats


@dataclass(frozen=True, slots=True)
class Seeds:
    """How the start and the timeline move along each of nd directions of differentiation.

    Parameters
    ----------
    dx0 : (nd, n) array, of the initial state [state per unit of the direction]
    djumps : (nd, m+1, n) array, of the jumps
    drates : (nd, m, n) array, of the rates
    du0_d : (nd, m, q) array, of the input values
    ddu_d : (nd, m, q) array, of the input slopes
    """

    dx0: Floats
    djumps: Floats
    drates: Floats
    du0_d: Floats
    ddu_d: Floats


def array(name: str, values: ArrayLike, *shape: int) -> Floats:
    """`values` as a finite, contiguous, writeable float array of the given shape.

    Compiled code is compiled for writeable arrays; it writes to none of its inputs.

    Parameters
    ----------
    name : str
        What to call it in the message.
    values : array
        Numbers [any].
    *shape : int
        Required length of every axis; -1 accepts any.

    Raises
    ------
    SimulationError
        If the shape differs or a value is not finite.
    """
    result = np.ascontiguousarray(values, dtype=np.float64)
    if len(shape) != result.ndim or any(s not in (-1, r) for s, r in zip(shape, result.shape, strict=True)):
        raise SimulationError(f"solver: {name} has shape {result.shape}; needed {shape} (-1: any); pass that shape")
    if not np.isfinite(result).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(result))[0])
        raise SimulationError(f"solver: {name}{list(where)} is {result[where]}; every number must be finite")
    return result if result.flags.writeable else result.copy()


def check_timeline(
    n: int, times: ArrayLike, jumps: ArrayLike, rates: ArrayLike, u0: ArrayLike, du: ArrayLike, *, q: int = -1
) -> Timeline:
    """Timeline of `n` states with shapes, order and finiteness checked.

    Parameters
    ----------
    n : int
        Number of states [dimensionless].
    times, jumps, rates, u0, du : arrays
        As in `Timeline`.
    q : int
        Number of inputs; -1 takes it from `u0` [dimensionless].

    Raises
    ------
    SimulationError
        If a shape is wrong, a number is not finite, or the times go back.
    """
    t = array("times", times, -1)
    if t.size == 0:
        raise SimulationError("solver: times is empty; give at least the start time")
    if (np.diff(t) < 0).any():
        k = int(np.argmax(np.diff(t) < 0))
        raise SimulationError(f"solver: times[{k + 1}] = {t[k + 1]} lies before times[{k}] = {t[k]}; sort them")
    m = t.size - 1
    start = array("u0", u0, m, q)
    return Timeline(
        t, array("jumps", jumps, m + 1, n), array("rates", rates, m, n), start, array("du", du, m, start.shape[1])
    )


def check_seeds(
    line: Timeline,
    dx0: ArrayLike,
    djumps: ArrayLike,
    drates: ArrayLike,
    du0_d: ArrayLike,
    ddu_d: ArrayLike,
) -> Seeds:
    """Seeds that fit a timeline.

    Parameters
    ----------
    line : Timeline
    dx0, djumps, drates, du0_d, ddu_d : arrays
        As in `Seeds`.

    Raises
    ------
    SimulationError
        If a shape does not fit the timeline or a number is not finite.
    """
    m, n, q = line.rates.shape[0], line.jumps.shape[1], line.u0.shape[1]
    x = array("dx0", dx0, -1, n)
    nd = x.shape[0]
    return Seeds(
        x,
        array("djumps", djumps, nd, m + 1, n),
        array("drates", drates, nd, m, n),
        array("du0_d", du0_d, nd, m, q),
        array("ddu_d", ddu_d, nd, m, q),
    )
