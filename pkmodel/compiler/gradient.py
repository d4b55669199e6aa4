"""Derivatives of an engine's solutions by its parameters, its initial state and its records.

Two ways, both exact derivatives of the steps that were taken:

- `Gradient.tangents`: how every output of a patient changes along given directions. The cost grows with the number of
  directions, not of outputs: for Jacobians (least squares, linearised populations, Fisher information).
- `Gradient.adjoint`: the gradient of one weighted sum of each patient's outputs, by everything at once. The cost does
  not grow with the number of parameters: for scalar objectives (sampling, maximum a posteriori).

`Gradient.jacobian` takes the first way, `Gradient.gradient` the cheaper one. Steps are chosen from the states alone, so
a run is the same with and without derivatives; they are then three to ten times less accurate than the states: ask for
an rtol smaller by that factor where they matter (1e-7 for fits). Steps of one run can be walked again at other
parameters (`replay`), which makes differences of runs, and of derivatives, smooth: so `Gradient.second` takes second
derivatives.

A derivative at an output that coincides with a record, by the time of that record, is one-sided: that of a record
that does not pass the output. Programs and machine code are made when first needed, for the free parameters only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SimulationError
from ..solve.records import Records
from ..solve.status import Status
from .directions import directions
from .engine import PIVOTING, Engine, History, Run
from .machine import default_lanes
from .second_order import SecondOrder
from .sensitivity_code import SensitivityCode
from .walks import (
    Adjoint,
    Tangents,
    joined,
    part,
    walk_all_forwards,
    walk_backwards,
    walk_forwards,
    widest_backwards,
    written,
)

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]
type Cotangent = ArrayLike | Callable[[Floats, Integers], ArrayLike]

CHUNK = 4  # patients a lane whose steps are remembered at once: bounds the memory of `adjoint`
CROSSOVER = 8  # directions up to which tangents give a lone patient's gradient faster than the adjoint


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
        p, dp = np.asarray(p, dtype=np.float64), np.atleast_2d(np.asarray(dp, dtype=np.float64))
        times = np.asarray(times, dtype=np.float64)
        self._check_directions(dp)
        given = directions(
            dp, len(system.parameters), len(system.states), records.time.shape[1], dinitial, dvalue, dtime
        )
        pivoting = False
        if history is None:
            run = self.engine.run(
                p, records, times, rtol, atol, lanes=1, write_history=True, write_states=True, replay=replay
            )
            if run.status[0]:
                shape = (len(times), len(system.report), given.count)
                return Tangents(Status(int(run.status[0])), run.out[0], np.full(shape, np.nan))
            history, pivoting = written(run), run.method[0] == PIVOTING
        return walk_forwards(self.code, p, given, records, times, history, pivoting=pivoting, width=width)

    def jacobian(
        self,
        P: ArrayLike,
        records: Records,
        times: ArrayLike,
        rtol: float = 1e-6,
        atol: ArrayLike = 1e-9,
        *,
        lanes: int | None = None,
        threads: int = 1,
    ) -> tuple[Run, Floats]:
        """Outputs of N patients, and their derivatives by the free parameters.

        Parameters
        ----------
        P : (N, primary) array, parameters
        records, times, rtol, atol, lanes : see `Engine.run`
        threads : how many

        Returns
        -------
        Run, and the (N, m, r, free) array of derivatives, NaN for a patient that failed
        """
        P = np.atleast_2d(np.asarray(P, dtype=np.float64))
        times = np.atleast_2d(np.asarray(times, dtype=np.float64))
        run = self.engine.run(
            P, records, times, rtol, atol, lanes=lanes, threads=threads, write_history=True, write_states=True
        )
        system, units = self.engine.system, np.eye(P.shape[1])[list(self.free)]
        given = directions(units, len(system.parameters), len(system.states), records.time.shape[1], None, None, None)
        return run, walk_all_forwards(self.code, P, given, records, times, run, threads)

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
        if run.failed.size:
            return np.full((run.out.shape[1], run.out.shape[2], len(dp), len(dp)), np.nan)
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
        cotangent : (N, m, r) array, or a function that makes (M, m, r) of it from the outputs (M, m, r) and numbers
            (M,) of some patients, such as the derivative of an objective by the outputs
        lanes : patients in a vector, by default 1 for a few and what processor and cache have room for with more
        threads : how many
        replay : steps to walk again instead of choosing them

        Notes
        -----
        Remembers n + 2 numbers a step for 4 patients a lane and thread at a time.
        """
        P = np.atleast_2d(np.asarray(P, dtype=np.float64))
        times = np.atleast_2d(np.asarray(times, dtype=np.float64))
        N = len(P)
        width = lanes or (1 if N < 3 else default_lanes())
        back = lanes or min(width, widest_backwards(len(self.engine.system.states)))
        self.code.backward(back)  # made once, not by every thread

        def some(patients: Integers) -> Adjoint:
            rows = records if records.patients == 1 else records.take(patients)
            moments = times if len(times) == 1 else times[patients]
            steps = None if replay is None else part(replay, patients)
            run = self.engine.run(
                P[patients], rows, moments, rtol, atol, lanes=width, write_history=True, write_states=True, replay=steps
            )
            c = cotangent(run.out, patients) if callable(cotangent) else np.asarray(cotangent)[patients]
            return walk_backwards(self.code, P[patients], rows, moments, np.asarray(c), run, back)

        size = CHUNK * width
        chunks = [np.arange(first, min(first + size, N)) for first in range(0, N, size)]
        return joined(list(_mapped(some, chunks, threads)))

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


def _mapped[A, B](do: Callable[[A], B], parts: Iterable[A], threads: int) -> Iterator[B]:
    """The results for each part, in order, computed by some threads."""
    if threads <= 1:
        yield from map(do, parts)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(do, parts)
