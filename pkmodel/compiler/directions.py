"""Directions of derivatives in the form of the driver: one a lane, in blocks, with what each block needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SimulationError
from ..solve.records import Kind, Records
from .sensitivity_code import Code

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """How everything changes along nd directions.

    Parameters
    ----------
    parameters : (nd, k) array, derivative of the parameters, those that records switch with their value at time zero
    initial : (nd, n) array, of the initial state beside what the parameters do to it [state]
    value : (E, nd) array, of the records' values
    time : (E, nd) array, of the records' times [h]
    """

    parameters: Floats
    initial: Floats
    value: Floats
    time: Floats

    @property
    def count(self) -> int:
        """Number of directions."""
        return len(self.parameters)


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """The same, padded with directions that are zero, one direction a lane.

    Parameters
    ----------
    blocks : number of vectors
    parameters, initial : (blocks, k*width) and (blocks, n*width) arrays
    value, time : (E, blocks*width) arrays
    products : (blocks, any) array: count, entries of a stage, then the products that make up F pdot in that block
    """

    blocks: int
    parameters: Floats
    initial: Floats
    value: Floats
    time: Floats
    products: Integers


def directions(
    dp: Floats, parameters: int, states: int, events: int, dinitial: ArrayLike | None, dvalue: ArrayLike | None,
    dtime: ArrayLike | None,
) -> Directions:  # fmt: skip
    """Directions from what a user gives.

    Parameters
    ----------
    dp : (nd, primary) array
    parameters, states, events : numbers of parameters, of states and of records
    dinitial, dvalue, dtime : (nd, states), (events, nd) and (events, nd) arrays, or None for zeros

    Raises
    ------
    SimulationError
        An array has another shape.
    """
    moving = np.zeros((len(dp), parameters))
    moving[:, : dp.shape[1]] = dp
    return Directions(
        moving,
        _shaped("dinitial", dinitial, (len(dp), states)),
        _shaped("dvalue", dvalue, (events, len(dp))),
        _shaped("dtime", dtime, (events, len(dp))),
    )


def everything(free: Integers, parameters: int, states: int, events: int) -> Directions:
    """Every free parameter, initial state, record's value and record's time a direction of its own, in that order.

    Parameters
    ----------
    free : (any,) positions of parameters
    parameters, states, events : numbers of parameters, of states and of records
    """
    unit = np.eye(parameters + states + 2 * events)
    a, b, c = np.cumsum([parameters, states, events])
    unit = np.concatenate([unit[free], unit[a:]])
    return Directions(unit[:, :a], unit[:, a:b], unit[:, b:c].T, unit[:, c:].T)


def lay(given: Directions, code: Code, records: Records) -> Laid:
    """Lay directions side by side.

    Parameters
    ----------
    given : Directions
    code : whose vectors they shall fill
    records : of the patient
    """
    width = code.width
    blocks = max(-(-given.count // width), 1)
    more = blocks * width - given.count
    moving, initial = (np.pad(a, ((0, more), (0, 0))) for a in (given.parameters, given.initial))
    value, time = (np.ascontiguousarray(np.pad(a, ((0, 0), (0, more)))) for a in (given.value, given.time))
    moved = moving.reshape(blocks, width, -1).any(axis=1)  # by block and parameter
    for e in np.flatnonzero(records.there[0] & (records.kind[0] >= Kind.SET_PARAM)):
        moved[:, records.index[0, e]] |= value[e].reshape(blocks, width).any(axis=1)
    return Laid(blocks, _lanes(moving, width), _lanes(initial, width), value, time, _products(code, moved))


def _shaped(name: str, given: ArrayLike | None, shape: tuple[int, int]) -> Floats:
    if given is None:
        return np.zeros(shape)
    array = np.asarray(given, dtype=np.float64)
    if array.shape != shape:
        raise SimulationError(f"gradient: {name} has shape {array.shape}; it must be {shape}")
    return array


def _lanes(a: Floats, width: int) -> Floats:
    """(blocks*width, size) to (blocks, size*width)."""
    size = a.shape[1]
    return np.ascontiguousarray(a.reshape(-1, width, size).transpose(0, 2, 1).reshape(-1, size * width))


def _products(code: Code, moved: NDArray[np.bool_]) -> Integers:
    """Those whose lever moves along some direction of a block; rows are filled up to the longest."""
    rows: list[list[Any]] = []
    for block in moved:
        levers = np.unique(code.steering[block[code.steering[:, 1]], 0])
        chosen = code.places[np.isin(code.places[:, 2] % max(code.levers, 1), levers)]
        rows.append([len(chosen), code.entries, *chosen.ravel()])
    longest = max(map(len, rows))
    return np.array([row + [0] * (longest - len(row)) for row in rows], dtype=np.int64)
