"""The engine: an autonomous system, solved for any number of patients.

What happens to one equation on its way is the compiler's business (`programs` to tapes, `machine` to machine code); this
file puts the parts to work. It chooses how many patients share a vector, gives each thread its share of patients, solves
again with pivoting whom the fixed order of pivots has failed, and says what it did.

A result does not depend on the number of threads, nor on which other patients were asked for in the same call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SimulationError
from ..solve import lanes as driver
from ..solve import pivoted, rosenbrock
from ..solve.records import Records
from ..solve.status import Status, message
from .autonomous import Autonomous
from .llvm_step import Tableau
from .machine import Kernels, Source, backend, default_lanes, library
from .programs import Programs, programs

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]

FEW = 3  # up to so many patients are faster one at a time than on one vector with idle lanes
SHARE = 16  # patients a lane gets before a thread asks for more work
MAX_STEPS = 100_000
FIXED, PIVOTING = 0, 1  # methods


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Steps of a run, to be walked again with other parameters.

    Parameters
    ----------
    start : (N + 1,) array, where each patient's steps begin
    size : (start[-1],) array, step sizes; negative where the step met a record or the last output [h]
    """

    start: Integers
    size: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Solutions of N patients at m times.

    Parameters
    ----------
    out : (N, m, no) array, what the system reports; NaN after a failure and at times that were not asked for
    states : (N, m, n) array, or None where they were not wanted
    status : (N,) array of `Status`
    until : (N,) array, how far the solution goes [h]
    steps, rejected : (N,) arrays, accepted and rejected steps
    method : (N,) array, `FIXED` order of pivots or `PIVOTING`
    lanes : patients in one vector
    bad : parameters that were not finite, by patient [text]
    history : the steps, where they were wanted
    """

    out: Floats
    states: Floats | None
    status: Integers
    until: Floats
    steps: Integers
    rejected: Integers
    method: NDArray[np.int8]
    lanes: int
    bad: dict[int, str] = field(default_factory=dict)
    history: History | None = None

    @property
    def failed(self) -> Integers:
        """Numbers of the patients whose solution is not complete."""
        return np.flatnonzero(self.status)

    def message(self, patient: int) -> str:
        """How the solve of a patient ended, in words.

        Parameters
        ----------
        patient : number of the patient
        """
        status = Status(int(self.status[patient]))
        where = "" if status in (Status.OK, Status.BAD_INPUT) else f" at t = {self.until[patient]:.6g} h"
        how = " (with pivoting)" if self.method[patient] == PIVOTING else ""
        what = self.bad.get(patient) or message(status)
        return f"patient {patient}: {status.name}{where}{how}: {what}"


@dataclass(frozen=True, slots=True)
class _Code:
    """What the driver needs to know of a model's machine code."""

    kernels: Integers
    lanes: int
    nw: int
    head: Floats


@dataclass(frozen=True, slots=True)
class _Task:
    """A run without its choice of patients and machine code."""

    arguments: tuple[object, ...]
    results: tuple[NDArray[np.generic], ...]


class Engine:
    """Solver of one system; programs and machine code are made when first needed.

    Parameters
    ----------
    system : what to solve
    digest : names the system in the cache of machine code; empty: keep nothing [text]
    """

    def __init__(self, system: Autonomous, digest: str = "") -> None:
        self.system = system
        self.digest = digest
        self._lock = threading.RLock()
        self._programs: Programs | None = None
        self._libraries: dict[int, Kernels] = {}

    @property
    def programs(self) -> Programs:
        """The tapes."""
        with self._lock:
            if self._programs is None:
                self._programs = programs(self.system)
            return self._programs

    def library(self, lanes: int) -> Kernels:
        """Machine code for some number of lanes; fewer where the machine has no vectors.

        Parameters
        ----------
        lanes : patients in one vector
        """
        with self._lock:
            if lanes not in self._libraries:
                self._libraries[lanes] = library(self.digest, self._source, lanes)
            return self._libraries[lanes]

    def _source(self) -> Source:
        """Programs, method and facts: what machine code is made from."""
        p = self.programs
        rows, columns = zip(*p.plan.pattern, strict=True) if p.plan.pattern else ((), ())
        flops = {name: p.tapes[name].flops for name in ("rhs", "factor", "solve", "constants", "report")}
        facts = {"n": p.n, "nq": p.nq, "nw": p.nw, "reports": p.no, "rows": rows, "columns": columns, "flops": flops}
        tableau = Tableau(rosenbrock.A, rosenbrock.C, rosenbrock.H, rosenbrock.GAMMA)
        return Source(tapes=p.tapes, tableau=tableau, facts=facts)

    def describe(self) -> dict[str, object]:
        """Sizes of the system and of its programs.

        Returns
        -------
        dict of numbers of states, parameters, reports, nonzeros of the Jacobian, numbers in the factors, operations
        (by program and for a step), lanes of a population, back end
        """
        code = self.library(default_lanes())
        facts, flops = code.facts, code.facts["flops"]
        return {
            "states": facts["n"],
            "parameters": len(self.system.parameters),
            "reports": facts["reports"],
            "nonzeros": len(facts["rows"]),
            "factors": facts["nw"],
            "operations": {**flops, "step": flops["factor"] + rosenbrock.STAGES * (flops["rhs"] + flops["solve"])},
            "lanes": code.lanes,
            "backend": backend(),
        }

    def run(
        self,
        P: ArrayLike,
        records: Records,
        times: ArrayLike,
        rtol: float = 1e-6,
        atol: ArrayLike = 1e-9,
        *,
        states: bool = False,
        lanes: int | None = None,
        threads: int = 1,
        max_steps: int = MAX_STEPS,
        write_history: bool = False,
        replay: History | None = None,
    ) -> Run:
        """Solve N patients.

        Parameters
        ----------
        P : (N, primary) array, primary parameters; a patient with one that is not finite is left out, with a status
        records : of each patient, or one row for all
        times : (m,) or (N, m) array, not decreasing, 0 or later; infinite where a patient has fewer outputs [h]
        rtol : relative tolerance [1]
        atol : one number or (n,) array, absolute tolerance [state]
        states : whether to return the states too
        lanes : patients in one vector; by default 1 for a few patients and 8 for more
        threads : how many
        max_steps : steps after which a patient is given up
        write_history : whether to keep the steps
        replay : steps to walk again instead of choosing them

        Raises
        ------
        SimulationError
            Arguments do not fit the system.
        """
        P, times, atol = self._checked(P, records, times, rtol, atol)
        N, m, n = len(P), times.shape[1], len(self.system.states)
        finite = np.isfinite(P)
        bad = {int(i): self._bad(P[i]) for i in np.flatnonzero(~finite.all(axis=1))}
        chosen = np.flatnonzero(finite.all(axis=1))
        width = lanes or (1 if len(chosen) <= FEW else default_lanes())
        out, kept = np.empty((N, m, len(self.system.report))), np.empty((N if states else 0, m, n))
        status, until, steps, rejected = np.zeros(N, np.int64), np.zeros(N), np.zeros(N, np.int64), np.zeros(N, np.int64)
        for i in bad:
            status[i], out[i] = Status.BAD_INPUT, np.nan
            kept[i : i + 1] = np.nan
        start, size = (replay.start, replay.size) if replay else (np.zeros(0, np.int64), np.zeros(0))
        halt = np.zeros(1, np.int64)

        def march(code: _Code, patients: Integers) -> tuple[Integers, Floats]:
            written: tuple[Integers, Floats] = driver.march(
                code.kernels, code.lanes, n, self.library(code.lanes).facts["nq"], code.nw, code.head, P, records.time, records.kind,
                records.index, records.value, times, float(rtol), atol, patients, max_steps, start, size,
                write_history, halt, out, kept, status, until, steps, rejected,
            )  # fmt: skip
            return written

        code = self._code(width)
        width = code.lanes
        written = _share(lambda patients: march(code, patients), chosen, threads, width, halt)
        grown = np.flatnonzero(status == Status.PIVOT_GROWTH)
        method = np.zeros(N, np.int8)
        if len(grown):
            method[grown] = PIVOTING
            code = self._pivoting()
            written += _share(lambda patients: march(code, patients), grown, threads, 1, halt)
        return Run(
            out, kept if states else None, status, until, steps, rejected, method, width, bad,
            _history(written, status, grown, N) if write_history else None,
        )  # fmt: skip

    def _checked(
        self, P: ArrayLike, records: Records, times: ArrayLike, rtol: float, atol: ArrayLike
    ) -> tuple[Floats, Floats, Floats]:
        """Arguments of `run` in the driver's form."""
        system = self.system
        P = np.ascontiguousarray(np.atleast_2d(np.asarray(P, dtype=np.float64)))
        N, n = len(P), len(system.states)
        if P.ndim != 2 or P.shape[1] != system.primary:
            names = ", ".join(s.name for s in system.parameters[: system.primary])
            raise SimulationError(
                f"engine: parameters have shape {P.shape}; give one row for each patient and {system.primary} columns: {names}"
            )
        if records.patients not in (1, N):
            raise SimulationError(f"engine: {records.patients} rows of records for {N} patients; give {N} or 1")
        records.check(n, len(system.parameters))
        times = np.ascontiguousarray(np.atleast_2d(np.asarray(times, dtype=np.float64)))
        if times.ndim != 2 or len(times) not in (1, N) or not times.shape[1]:
            raise SimulationError(f"engine: times have shape {times.shape}; give (m,), (1, m) or ({N}, m) with m >= 1")
        if not (times >= 0).all() or (times[:, 1:] < times[:, :-1]).any():
            raise SimulationError("engine: times must be numbers of hours from 0 on that do not decrease; sort them")
        if not 0 < rtol < 1:
            raise SimulationError(f"engine: rtol is {rtol}; it must lie between 0 and 1, usually 1e-6")
        atol = np.ascontiguousarray(np.broadcast_to(np.asarray(atol, dtype=np.float64), (n,)))
        if not ((atol > 0) & (atol < np.inf)).all():
            raise SimulationError("engine: atol must be positive and finite for every state")
        return P, times, atol

    def _bad(self, p: Floats) -> str:
        """What is wrong with a patient's parameters."""
        wrong = (f"{s.name} = {v}" for s, v in zip(self.system.parameters, p, strict=False) if not np.isfinite(v))
        return f"{', '.join(wrong)}: parameters must be finite numbers; nothing was computed for this patient"

    def _code(self, lanes: int) -> _Code:
        """Machine code in the fixed order of pivots."""
        code = self.library(lanes)
        kernels = np.array([code.address(name) for name in driver.KERNELS], dtype=np.int64)
        return _Code(kernels, code.lanes, code.facts["nw"], np.zeros(0))

    def _pivoting(self) -> _Code:
        """The same with partial pivoting in every step, for one lane."""
        code = self.library(1)
        facts, kernels = code.facts, self._code(1).kernels
        kernels[driver.STEP] = rosenbrock.step_kernel.address
        inner = pivoted.head(facts["n"], code.address("jacobian"), facts["rows"], facts["columns"])
        nw = pivoted.length(facts["n"], len(facts["rows"]))
        addresses = code.address("rhs"), pivoted.factor.address, pivoted.solve.address
        outer = rosenbrock.head(facts["n"], facts["nq"], nw, *addresses)
        return _Code(kernels, 1, rosenbrock.HEAD + nw, np.concatenate([outer, inner]))


type _Written = list[tuple[Integers, Floats]]


def _share(
    march: Callable[[Integers], tuple[Integers, Floats]], chosen: Integers, threads: int, lanes: int, halt: Integers
) -> _Written:
    """Divide patients among threads, each taking the next part when it has finished one."""
    if not len(chosen):
        return []
    parts = min(threads * 4, -(-len(chosen) // (SHARE * lanes))) if threads > 1 else 1
    if parts <= 1:
        return [march(chosen)]
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(march, part) for part in np.array_split(chosen, parts)]
        try:
            return [part.result() for part in waiting]
        except BaseException:
            halt[0] = 1
            for part in waiting:
                part.cancel()
            raise


def _history(written: _Written, status: Integers, again: Integers, patients: int) -> History:
    """Steps sorted by patient; of those solved again, the second walk only."""
    if not written:
        return History(np.zeros(patients + 1, np.int64), np.zeros(0))
    who, size = (np.concatenate(a) for a in zip(*written, strict=True))
    order = np.argsort(who, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(who, minlength=patients))])
    return History(start.astype(np.int64), size[order])
