"""Derivatives of an engine's solutions by its parameters, its initial state and its records.

Two ways, both exact derivatives of the steps that were taken:

- `Gradient.tangents`: how every output of a patient changes along given directions. The cost grows with the number of
  directions, not of outputs: for Jacobians (least squares, linearised populations, Fisher information).
- `Gradient.adjoint`: the gradient of one weighted sum of each patient's outputs, by everything at once. The cost does
  not grow with the number of parameters: for scalar objectives (sampling, maximum a posteriori).

`Gradient.jacobian` takes the first way, `Gradient.gradient` the cheaper one. Steps are chosen from the states alone, so
a run is the same with and without derivatives; they are then three to ten times less accurate than the states: ask for
an rtol smaller by that factor where they matter (1e-7 for fits). Steps of one run can be walked again at other parameters
(`replay`), which makes differences of runs, and of derivatives, smooth: `Gradient.second` takes second derivatives so.

A derivative at an output that coincides with a record, by the time of that record, is one-sided: that of records that do
not pass the output. Programs and machine code are made when first needed, for the free parameters only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SimulationError
from ..solve import adjoint as backward_driver
from ..solve import rosenbrock
from ..solve import tangents as forward_driver
from ..solve.itinerary import itinerary
from ..solve.records import Kind, Records
from ..solve.status import Status
from .engine import PIVOTING, Engine, History, Run
from .machine import default_lanes
from .second_order import SecondOrder
from .sensitivity_code import Code, SensitivityCode

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]
type Cotangent = ArrayLike | Callable[[Floats, Integers], ArrayLike]

CHUNK = 4  # patients a lane whose steps are remembered at once: bounds the memory of `adjoint`
FEW_DIRECTIONS = 4  # as many lie in a short vector, which is faster than a long one that is half empty
CROSSOVER = 8  # directions up to which tangents give a lone patient's gradient faster than the adjoint


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


class Gradient:
    """Derivatives of one engine.

    Parameters
    ----------
    engine : whose solutions to differentiate
    free : names or positions of the primary parameters that derivatives may be asked for, by default all. Parameters
        that records switch are always among them.
    transform : changes the matrices of a stage before programs are written; for tests that leave something out

    Raises
    ------
    SimulationError
        A name or position is not that of a primary parameter.
    """

    def __init__(
        self,
        engine: Engine,
        free: Iterable[int | str] | None = None,
        *,
        transform: Callable[[SecondOrder], SecondOrder] | None = None,
    ) -> None:
        system = engine.system
        names = [s.name for s in system.parameters[: system.primary]]
        chosen = range(system.primary) if free is None else [_position(f, names) for f in free]
        self.engine = engine
        self.free = tuple(sorted(set(chosen)))
        switched = range(system.primary, len(system.parameters))
        self.code = SensitivityCode(engine, (*self.free, *switched), transform)

    # --- forward -------------------------------------------------------------------------------------------------

    def tangents(
        self,
        p: ArrayLike,
        dp: ArrayLike,
        records: Records,
        times: ArrayLike,
        rtol: float = 1e-6,
        atol: ArrayLike = 1e-9,
        *,
        dinitial: ArrayLike | None = None,
        dvalue: ArrayLike | None = None,
        dtime: ArrayLike | None = None,
        replay: History | None = None,
        history: History | None = None,
        width: int | None = None,
    ) -> Tangents:
        """Outputs of one patient, and their derivatives along nd directions.

        Parameters
        ----------
        p : (primary,) array, parameters
        dp : (nd, primary) array, derivative of the parameters along each direction; zero for those that are not free
        records : of the patient
        times : (m,) array, not decreasing, 0 or later [h]
        rtol, atol : tolerances of the solution, see `Engine.run`
        dinitial : (nd, n) array, derivative of the initial state beside what the parameters do to it [state]
        dvalue : (E, nd) array, derivative of the records' values
        dtime : (E, nd) array, derivative of the records' times [h]
        replay : steps to walk again instead of choosing them, one patient's
        history : a run's steps and states of this very patient, if at hand; else the patient is solved first
        width : directions in a vector; by default four for up to four directions, else eight

        Raises
        ------
        SimulationError
            Arrays do not fit each other or the system, or a direction moves a parameter that is not free.
        """
        system = self.engine.system
        n, k = len(system.states), len(system.parameters)
        p, dp = np.asarray(p, dtype=np.float64), np.atleast_2d(np.asarray(dp, dtype=np.float64))
        times = np.asarray(times, dtype=np.float64)
        nd, events = len(dp), records.time.shape[1]
        self._check_directions(dp)
        values = _shaped("dvalue", dvalue, (events, nd))
        shifts = _shaped("dtime", dtime, (events, nd))
        start = _shaped("dinitial", dinitial, (nd, n))
        method = 0
        if history is None:
            run = self.engine.run(
                p, records, times, rtol, atol, lanes=1, write_history=True, write_states=True, replay=replay
            )
            if run.status[0]:
                shape = (len(times), len(system.report), nd)
                return Tangents(Status(int(run.status[0])), run.out[0], np.full(shape, np.nan))
            assert run.history is not None
            history, method = run.history, int(run.method[0])
        wanted = width or (FEW_DIRECTIONS if nd <= FEW_DIRECTIONS else 8)
        code = self.code.forward(wanted, pivoting=method == PIVOTING)
        w = code.width
        blocks = max(-(-nd // w), 1)

        way = itinerary(history.start, history.size, records.time, times[None])
        moving = np.zeros((blocks * w, k))
        moving[:nd, : system.primary] = dp
        by_value, by_time = (np.pad(a, ((0, 0), (0, blocks * w - nd))) for a in (values, shifts))
        places = _places(code, _moved(moving, by_value, records, blocks, w))
        full = np.zeros(k)
        full[: system.primary] = p
        out = np.empty((len(times), len(system.report)))
        dout = np.empty((blocks, len(times), out.shape[1] * w))
        status = Status(
            forward_driver.push(
                code.kernels, code.lanes, w, n, code.nq, code.nw, code.entries, code.head, rosenbrock.A, rosenbrock.C,
                rosenbrock.GAMMA, full, records.kind[0], records.index[0], records.value[0], by_value, by_time,
                way.size, way.begin, history.row, history.state, times, way.output[0], way.record[0], _blocks(moving, blocks, w),
                _blocks(np.pad(start, ((0, blocks * w - nd), (0, 0))), blocks, w), code.levers, places, out, dout,
            )  # fmt: skip
        )
        if status:
            dout[:] = np.nan
        shaped = dout.reshape(blocks, len(times), out.shape[1], w).transpose(1, 2, 0, 3)
        return Tangents(status, out, shaped.reshape(len(times), out.shape[1], blocks * w)[..., :nd])

    def jacobian(
        self,
        P: ArrayLike,
        records: Records,
        times: ArrayLike,
        rtol: float = 1e-6,
        atol: ArrayLike = 1e-9,
        *,
        threads: int = 1,
    ) -> tuple[Run, Floats]:
        """Outputs of N patients, and their derivatives by the free parameters.

        Parameters
        ----------
        P : (N, primary) array, parameters
        records, times, rtol, atol : see `Engine.run`
        threads : how many

        Returns
        -------
        Run, and the (N, m, r, free) array of derivatives, NaN for a patient that failed
        """
        P = np.atleast_2d(np.asarray(P, dtype=np.float64))
        times = np.atleast_2d(np.asarray(times, dtype=np.float64))
        run = self.engine.run(
            P, records, times, rtol, atol, threads=threads, write_history=True, write_states=True
        )
        directions = np.eye(P.shape[1])[list(self.free)]
        result = np.full((*run.out.shape, len(self.free)), np.nan)
        reached = np.isfinite(times)

        def one(i: int) -> None:
            asked = reached[i if len(times) > 1 else 0]
            again = run.method[i] == PIVOTING  # the history of a pivoting run is not shared: it is walked once more
            result[i, asked] = self.tangents(
                P[i], directions, _row(records, i), times[i if len(times) > 1 else 0][asked], rtol, atol,
                history=None if again else _patient(run.history, i),
            ).dout  # fmt: skip

        each = [int(i) for i in np.flatnonzero(run.status == Status.OK)]
        if threads > 1:
            self.code.forward(FEW_DIRECTIONS if len(self.free) <= FEW_DIRECTIONS else 8)  # compile once
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(one, each))
        else:
            for i in each:
                one(i)
        return run, result

    def second(
        self,
        p: ArrayLike,
        dp: ArrayLike,
        records: Records,
        times: ArrayLike,
        rtol: float = 1e-6,
        atol: ArrayLike = 1e-9,
        *,
        step: float = 1e-4,
    ) -> Floats:
        """Second derivatives of one patient's outputs along pairs of directions.

        Central differences of tangents, all on the steps of the run at p; their error is about step^2 times the fourth
        derivative plus the error of the tangents.

        Parameters
        ----------
        p : (primary,) array, parameters
        dp : (nd, primary) array, directions in units in which `step` is small, such as ``diag(p)`` for relative changes
        records, times, rtol, atol : see `tangents`
        step : difference along each direction [1]

        Returns
        -------
        (m, r, nd, nd) array, symmetric in the last two; NaN if a walk failed
        """
        p, dp = np.asarray(p, dtype=np.float64), np.atleast_2d(np.asarray(dp, dtype=np.float64))
        run = self.engine.run(p, records, times, rtol, atol, lanes=1, write_history=True)
        assert run.history is not None
        columns = []
        for direction in dp:
            ahead, behind = (
                self.tangents(p + s * step * direction, dp, records, times, rtol, atol, replay=run.history).dout
                for s in (1.0, -1.0)
            )
            columns.append((ahead - behind) / (2 * step))
        hessian = np.stack(columns, axis=-1)
        return np.asarray((hessian + hessian.swapaxes(-1, -2)) / 2)

    # --- backward ------------------------------------------------------------------------------------------------

    def adjoint(
        self,
        P: ArrayLike,
        records: Records,
        times: ArrayLike,
        cotangent: Cotangent,
        rtol: float = 1e-6,
        atol: ArrayLike = 1e-9,
        *,
        lanes: int | None = None,
        threads: int = 1,
        replay: History | None = None,
    ) -> Adjoint:
        """Gradient of sum(cotangent * outputs) for each of N patients.

        Parameters
        ----------
        P : (N, primary) array, parameters
        records, times, rtol, atol : see `Engine.run`
        cotangent : (N, m, r) array, or a function that makes (M, m, r) of it from the outputs (M, m, r) and numbers (M,)
            of some patients, such as the derivative of an objective by the outputs
        lanes : patients in a vector, by default 1 for a few and what the processor has for more
        threads : how many
        replay : steps to walk again instead of choosing them

        Notes
        -----
        Remembers n + 2 numbers a step for 4 patients a lane and thread at a time.
        """
        P = np.atleast_2d(np.asarray(P, dtype=np.float64))
        times = np.atleast_2d(np.asarray(times, dtype=np.float64))
        system = self.engine.system
        N, n, events, m = len(P), len(system.states), records.time.shape[1], times.shape[1]
        width = lanes or (1 if N < 3 else default_lanes())
        result = Adjoint(
            np.zeros(N, np.int64), np.full((N, m, len(system.report)), np.nan), np.full((N, system.primary), np.nan),
            np.full((N, n), np.nan), np.full((N, events), np.nan), np.full((N, events), np.nan),
        )  # fmt: skip
        code = self.code.backward(width)

        def some(patients: Integers) -> None:
            rows = records if records.patients == 1 else records.take(patients)
            moments = times if len(times) == 1 else times[patients]
            steps = None if replay is None else _patients(replay, patients)
            run = self.engine.run(
                P[patients], rows, moments, rtol, atol, lanes=width, write_history=True, write_states=True, replay=steps
            )
            c = cotangent(run.out, patients) if callable(cotangent) else np.asarray(cotangent)[patients]
            result.out[patients] = run.out
            self._pull(code, P[patients], rows, moments, np.asarray(c, dtype=np.float64), run, result, patients)

        parts = [np.arange(a, min(a + CHUNK * width, N)) for a in range(0, N, CHUNK * width)]
        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(some, parts))
        else:
            for part in parts:
                some(part)
        return result

    def gradient(
        self,
        P: ArrayLike,
        records: Records,
        times: ArrayLike,
        cotangent: Cotangent,
        rtol: float = 1e-6,
        atol: ArrayLike = 1e-9,
        *,
        threads: int = 1,
    ) -> tuple[Floats, Floats]:
        """Outputs of N patients, and the gradient of sum(cotangent * outputs) of each by the free parameters.

        Parameters
        ----------
        P, records, times, cotangent, rtol, atol, threads : see `adjoint`, which does the work; a lone patient with few
            free parameters is faster forwards

        Returns
        -------
        (N, m, r) and (N, free) arrays; NaN for a patient that failed
        """
        P = np.atleast_2d(np.asarray(P, dtype=np.float64))
        if len(P) == 1 and len(self.free) <= CROSSOVER:
            run, by = self.jacobian(P, records, times, rtol, atol)
            who = np.zeros(1, np.int64)
            c = np.asarray(cotangent(run.out, who) if callable(cotangent) else cotangent)
            asked = np.isfinite(np.atleast_2d(np.asarray(times, dtype=np.float64)))[0]
            return run.out, np.einsum("imr,imrk->ik", c[:, asked], by[:, asked])
        found = self.adjoint(P, records, times, cotangent, rtol, atol, threads=threads)
        return found.out, found.parameters[:, list(self.free)]

    def _pull(
        self, code: Code, P: Floats, records: Records, times: Floats, cotangent: Floats, run: Run, result: Adjoint,
        patients: Integers,
    ) -> None:  # fmt: skip
        """Walk some patients' runs backwards."""
        assert run.history is not None
        system = self.engine.system
        N, k, n, events = len(P), len(system.parameters), len(system.states), records.time.shape[1]
        if cotangent.shape != run.out.shape:
            raise SimulationError(f"gradient: cotangents have shape {cotangent.shape}; outputs have {run.out.shape}")
        way = itinerary(run.history.start, run.history.size, records.time, times)
        full = np.zeros((N, k))
        full[:, : system.primary] = P
        status = run.status.copy()
        status[(run.method == PIVOTING) & (status == Status.OK)] = Status.PIVOT_GROWTH
        chosen = np.flatnonzero(status == Status.OK)
        by_parameter, by_initial = np.full((N, k), np.nan), np.full((N, n), np.nan)
        by_value, by_time = np.full((N, events), np.nan), np.full((N, events), np.nan)
        backward_driver.pull(
            code.kernels, code.lanes, n, code.nq, code.nw, code.levers, code.head, rosenbrock.A, rosenbrock.C,
            rosenbrock.H, rosenbrock.GAMMA, full, records.kind, records.index, records.value, times, chosen, way.start,
            way.begin, way.size, run.history.row, run.history.state, way.output, way.record, np.ascontiguousarray(cotangent),
            by_parameter, by_initial, by_value, by_time, status,
        )  # fmt: skip
        failed = status != Status.OK
        for into, found in (
            (result.parameters, by_parameter[:, : system.primary]), (result.initial, by_initial),
            (result.value, by_value), (result.time, by_time),
        ):  # fmt: skip
            found[failed] = np.nan
            into[patients] = found
        result.status[patients] = status

    def _check_directions(self, dp: Floats) -> None:
        names = [s.name for s in self.engine.system.parameters[: self.engine.system.primary]]
        if dp.shape[1] != len(names):
            raise SimulationError(
                f"gradient: directions have shape {dp.shape}; give one column for each parameter: {', '.join(names)}"
            )
        fixed = [names[i] for i in np.flatnonzero(dp.any(axis=0)) if i not in self.free]
        if fixed:
            free = ", ".join(names[i] for i in self.free)
            raise SimulationError(
                f"gradient: a direction moves {', '.join(fixed)}, but only {free or 'nothing'} is free; "
                "make another Gradient with those free too"
            )


def _position(asked: int | str, names: Sequence[str]) -> int:
    if isinstance(asked, str) and asked in names:
        return names.index(asked)
    if isinstance(asked, int | np.integer) and 0 <= asked < len(names):
        return int(asked)
    raise SimulationError(f"gradient: no primary parameter {asked!r} to be free; allowed: {', '.join(names)}")


def _shaped(name: str, given: ArrayLike | None, shape: tuple[int, int]) -> Floats:
    if given is None:
        return np.zeros(shape)
    array = np.asarray(given, dtype=np.float64)
    if array.shape != shape:
        raise SimulationError(f"gradient: {name} has shape {array.shape}; it must be {shape}")
    return array


def _blocks(a: Floats, blocks: int, width: int) -> Floats:
    """(blocks*width, size) to (blocks, size*width): one direction a lane."""
    size = a.shape[1]
    return np.ascontiguousarray(a.reshape(blocks, width, size).transpose(0, 2, 1).reshape(blocks, size * width))


def _moved(moving: Floats, by_value: Floats, records: Records, blocks: int, width: int) -> NDArray[np.bool_]:
    """(blocks, k) whether a parameter moves along some direction of a block, from the start or by a record."""
    moved = moving.reshape(blocks, width, -1).any(axis=1)
    for e in np.flatnonzero(records.there[0] & (records.kind[0] >= Kind.SET_PARAM)):
        moved[:, records.index[0, e]] |= by_value[e].reshape(blocks, width).any(axis=1)
    return np.asarray(moved)


def _places(code: Code, moved: NDArray[np.bool_]) -> Integers:
    """(blocks, any) for each block: count, entries of a stage, then the products of F pdot whose lever moves."""
    rows: list[list[Any]] = []
    for block in moved:
        levers = np.unique(code.steering[block[code.steering[:, 1]], 0])
        chosen = code.places[np.isin(code.places[:, 2] % max(code.levers, 1), levers)]
        rows.append([len(chosen), code.entries, *chosen.ravel()])
    longest = max(map(len, rows))
    return np.array([row + [0] * (longest - len(row)) for row in rows], dtype=np.int64)


def _row(records: Records, i: int) -> Records:
    return records if records.patients == 1 else records.take(slice(i, i + 1))


def _patient(history: History | None, i: int) -> History:
    """One patient's part of a history."""
    assert history is not None
    return _patients(history, np.array([i]))


def _patients(history: History, patients: Integers) -> History:
    """Some patients' part of a history."""
    parts = [slice(history.start[i], history.start[i + 1]) for i in patients]
    start = np.concatenate([[0], np.cumsum([p.stop - p.start for p in parts])]).astype(np.int64)
    size = np.concatenate([history.size[p] for p in parts])
    row = np.concatenate([history.row[p] for p in parts])
    return History(start, size, row, history.state)
