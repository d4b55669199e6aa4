"""Walking runs again: forwards with directions, backwards with cotangents; from histories to arrays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..errors import SimulationError
from ..solve import adjoint as backward_driver
from ..solve import rosenbrock
from ..solve import tangents as forward_driver
from ..solve.itinerary import itinerary
from ..solve.records import Records
from ..solve.status import Status
from .directions import Directions, everything, lay
from .engine import PIVOTING, SHARE, History, Run
from .machine import default_lanes
from .sensitivity_code import SensitivityCode

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]

# Up to as many directions as a short vector holds it is used, which is faster than a long one that is half empty.
SHORT, LONG = 4, 8
NEAR = 8192  # numbers that lie near the processor: a step backwards is slower with more in use, however wide the vector


@dataclass(frozen=True, slots=True, eq=False)
class Tangents:
    """Outputs of a patient and their derivatives.

    Parameters
    ----------
    status : Status
    out : (m, r) array, what the system reports
    dout : (m, r, nd) array, its derivatives along each direction; NaN after a failure
    """

    status: Status
    out: Floats
    dout: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Adjoint:
    """Gradients of N weighted sums, one a patient.

    Parameters
    ----------
    status : (N,) array of `Status`; gradients of a patient that failed are NaN
    out : (N, m, r) array, what the system reports
    parameters : (N, primary) array, by the primary parameters; zero for those that are not free
    initial : (N, n) array, by the initial state
    value, time : (N, E) arrays, by value and time of each record
    """

    status: Integers
    out: Floats
    parameters: Floats
    initial: Floats
    value: Floats
    time: Floats


def walk_forwards(
    code_of: SensitivityCode, p: Floats, given: Directions, records: Records, times: Floats, history: History, *,
    pivoting: bool, width: int | None = None,
) -> Tangents:  # fmt: skip
    """Walk the steps of one patient again with directions.

    Parameters
    ----------
    code_of : makes the machine code
    p : (primary,) array, parameters
    given : Directions
    records : of the patient
    times : (m,) array, of the outputs [h]
    history : his steps, with states
    pivoting : whether they were solved with pivoting
    width : directions in a vector
    """
    system = code_of.engine.system
    code = code_of.forward(width or (SHORT if given.count <= SHORT else LONG), pivoting=pivoting)
    laid, way = lay(given, code, records), itinerary(history.start, history.size, records.time, times[None])
    full = np.zeros(len(system.parameters))
    full[: system.primary] = p
    out = np.empty((len(times), len(system.report)))
    dout = np.empty((laid.blocks, len(times), out.shape[1] * code.width))
    ended = forward_driver.push(
        code.kernels, code.lanes, code.width, len(system.states), code.nq, code.nw, code.entries, code.head,
        rosenbrock.A, rosenbrock.C, rosenbrock.GAMMA, full, records.kind[0], records.index[0], records.value[0],
        laid.value, laid.time, way.size, way.begin, history.row, history.state, times, way.output[0], way.record[0],
        laid.parameters, laid.initial, code.levers, laid.products, out, dout,
    )  # fmt: skip
    if ended:
        dout[:] = np.nan
    by_block = dout.reshape(laid.blocks, len(times), out.shape[1], code.width).transpose(1, 2, 0, 3)
    return Tangents(Status(ended), out, by_block.reshape(*out.shape, -1)[..., : given.count])


def walk_all_forwards(
    code_of: SensitivityCode, P: Floats, given: Directions, records: Records, times: Floats, run: Run, threads: int = 1
) -> Floats:
    """Walk the steps of all patients again with the same directions.

    Parameters
    ----------
    code_of : makes the machine code
    P : (N, primary) array, parameters
    given : Directions, along which no record changes
    records, times : of the run; (N or 1, m) times [h]
    run : with its history
    threads : how many; results do not depend on it

    Returns
    -------
    (N, m, r, nd) array, NaN for a patient that failed and at times that were not asked for
    """
    system, history = code_of.engine.system, written(run)
    code = code_of.forward(SHORT if given.count <= SHORT else LONG)
    N, m, r = run.out.shape
    laid, way = lay(given, code, records), itinerary(history.start, history.size, records.time, times)
    full = np.zeros((N, len(system.parameters)))
    full[:, : system.primary] = P
    out, dout = np.empty((N, m, r)), np.full((N, laid.blocks, m, r * code.width), np.nan)
    status = run.status.astype(np.int64)
    chosen = np.flatnonzero((run.status == Status.OK) & (run.method != PIVOTING)).astype(np.int64)

    def some(who: Integers) -> None:
        forward_driver.push_all(
            code.kernels, code.lanes, code.width, len(system.states), code.nq, code.nw, code.entries, code.head,
            rosenbrock.A, rosenbrock.C, rosenbrock.GAMMA, who, full, records.kind, records.index, records.value,
            laid.value, laid.time, history.start, way.size, way.begin, history.row, history.state, times, way.output,
            way.record, laid.parameters, laid.initial, code.levers, laid.products, out, dout, status,
        )  # fmt: skip

    parts = min(threads, len(chosen) // SHARE)
    if parts <= 1:
        some(chosen)
    else:
        with ThreadPoolExecutor(parts) as pool:
            list(pool.map(some, np.array_split(chosen, parts)))
    by_block = dout.reshape(N, laid.blocks, m, r, code.width).transpose(0, 2, 3, 1, 4)
    result = by_block.reshape(N, m, r, -1)[..., : given.count].copy()
    result[status != Status.OK] = np.nan
    for i in map(int, np.flatnonzero((run.status == Status.OK) & (run.method == PIVOTING))):
        moments = times[i if len(times) > 1 else 0]
        asked = np.isfinite(moments)
        own = part(history, [i])
        result[i, asked] = walk_forwards(
            code_of, P[i], given, one_row(records, i), moments[asked], own, pivoting=True
        ).dout  # fmt: skip
    return result


def widest_backwards(states: int) -> int:
    """Patients in a vector that a step backwards has room for: stages, their cotangents and sums, 24 numbers a state.

    Parameters
    ----------
    states : number of states
    """
    lanes = default_lanes()
    return lanes if 24 * states * lanes <= NEAR else min(lanes, 4)


def walk_backwards(
    code_of: SensitivityCode, P: Floats, records: Records, times: Floats, cotangent: Floats, run: Run, lanes: int
) -> Adjoint:
    """Walk the runs of N patients backwards.

    Parameters
    ----------
    code_of : makes the machine code
    P : (N, primary) array, parameters
    records, times : of the run; (N or 1, m) times [h]
    cotangent : (N, m, r) array, weights of the outputs
    run : with its history
    lanes : patients in a vector

    Raises
    ------
    SimulationError
        The cotangents do not fit the outputs.
    """
    if cotangent.shape != run.out.shape:
        raise SimulationError(f"gradient: cotangents have shape {cotangent.shape}; outputs have {run.out.shape}")
    system, history, code = code_of.engine.system, written(run), code_of.backward(lanes)
    way = itinerary(history.start, history.size, records.time, times)
    full = np.zeros((len(P), len(system.parameters)))
    full[:, : system.primary] = P
    pivoting, status = run.method == PIVOTING, run.status.copy()
    chosen = np.flatnonzero((status == Status.OK) & ~pivoting)
    sizes = (len(system.parameters), len(system.states), records.time.shape[1], records.time.shape[1])
    parameters, initial, value, time = found = [np.full((len(P), size), np.nan) for size in sizes]
    backward_driver.pull(
        code.kernels, code.lanes, len(system.states), code.nq, code.nw, code.levers, code.head, rosenbrock.A,
        rosenbrock.C, rosenbrock.H, rosenbrock.GAMMA, full, records.kind, records.index, records.value, times, chosen,
        way.start, way.begin, way.size, history.row, history.state, way.output, way.record,
        np.ascontiguousarray(cotangent, dtype=np.float64), parameters, initial, value,
        time, status,
    )  # fmt: skip
    for i in map(int, np.flatnonzero((status == Status.OK) & pivoting)):  # there is no transposed pivoting solve
        own = one_row(records, i), times[i if len(times) > 1 else 0], cotangent[i], part(history, [i])
        for array, gradient in zip(found, _gradient_forwards(code_of, P[i], *own), strict=True):
            array[i] = gradient
    for array in found:
        array[status != Status.OK] = np.nan
    return Adjoint(status, run.out, parameters[:, : system.primary], initial, value, time)


def joined(parts: list[Adjoint]) -> Adjoint:
    """Gradients of some patients after those of others.

    Parameters
    ----------
    parts : in the order of the patients
    """
    return Adjoint(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Adjoint)))


def _gradient_forwards(
    code_of: SensitivityCode, p: Floats, records: Records, times: Floats, cotangent: Floats, history: History
) -> tuple[Floats, ...]:
    """One patient's gradient from tangents along everything, his steps solved with pivoting."""
    system, events, asked = code_of.engine.system, records.time.shape[1], np.isfinite(times)
    k, n, free = len(system.parameters), len(system.states), np.array(code_of.free, dtype=np.int64)
    found = walk_forwards(
        code_of, p, everything(free, k, n, events), records, times[asked], history, pivoting=True
    )  # fmt: skip
    total = np.einsum("mr,mrd->d", cotangent[asked], found.dout)
    by_free, *others = np.split(total, np.cumsum([len(free), n, events]))
    by_parameter = np.zeros(k)
    by_parameter[free] = by_free
    return by_parameter, *others


def one_row(records: Records, i: int) -> Records:
    """Records of patient i, where one row may serve all."""
    return records if records.patients == 1 else records.take(slice(i, i + 1))


def written(run: Run) -> History:
    """The history of a run that was asked for it."""
    assert run.history is not None
    return run.history


def part(history: History, patients: Integers | list[int]) -> History:
    """Some patients' part of a history.

    Parameters
    ----------
    history : of all
    patients : numbers of patients
    """
    parts = [slice(history.start[i], history.start[i + 1]) for i in patients]
    start = np.cumsum([0, *(p.stop - p.start for p in parts)])
    size = np.concatenate([history.size[p] for p in parts])
    row = np.concatenate([history.row[p] for p in parts]) if len(history.row) else history.row
    return History(start.astype(np.int64), size, row, history.state)
