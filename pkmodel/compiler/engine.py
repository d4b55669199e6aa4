"""The engine: an autonomous system, solved for any number of patients.

What happens to one equation on its way is the compiler's business (`programs` to tapes, `machine` to machine code);
this file puts the parts to work. It chooses how many patients share a vector, gives each thread its share of patients,
solves again with pivoting whom the fixed order of pivots has failed, and says what it did.

A result does not depend on the number of threads, nor on which other patients were asked for in the same call: only
one lane and several round differently, and up to three patients take one.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SimulationError
from ..solve import pivoted, rosenbrock
from ..solve.lanes import solve
from ..solve.records import Records
from ..solve.status import Status, message
from ..solve.task import KERNELS, STEP, Answer, Code, Task
from .autonomous import Autonomous
from .llvm_step import Tableau
from .machine import Kernels, Source, backend, default_lanes, library
from .programs import Programs, programs
from .tape import Builder, Tape

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]

FEW = 3  # up to so many patients are faster one at a time than on one vector with idle lanes
SHARE = 16  # patients a lane gets before a thread asks for more work
MAX_STEPS = 100_000
WIDTHS = (1, 2, 4, 8, 16, 32, 64)  # numbers of lanes a vector may have
FIXED, PIVOTING = 0, 1  # methods


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Steps of a run, to be walked again with other parameters.

    Parameters
    ----------
    start : (N + 1,) array, where each patient's steps begin
    size : (start[-1],) array, step sizes; negative where the step met a record or the last output [h]
    row : (start[-1],) array, where the state at the start of each step lies in `state`
    state : (start[-1], n) array, states in the order of the run, not of the patients; empty if not wanted [state]
    """

    start: Integers
    size: Floats
    row: Integers
    state: Floats


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
    bad : parameters or reports that were not finite, by patient [text]
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
        where = "" if status == Status.OK or patient in self.bad else f" at t = {self.until[patient]:.6g} h"
        how = " (with pivoting)" if self.method[patient] == PIVOTING else ""
        what = self.bad.get(patient) or message(status)
        return f"patient {patient}: {status.name}{where}{how}: {what}"


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
        tapes = {**p.tapes, **_STAND_INS} if p.dense else p.tapes
        rows, columns = zip(*p.plan.pattern, strict=True) if p.plan.pattern else ((), ())
        flops = {name: tapes[name].flops for name in ("rhs", "jacobian", "factor", "solve", "constants", "report")}
        facts = {
            "n": p.n, "nq": p.nq, "nw": p.nw, "reports": p.no, "dense": p.dense, "rows": rows, "columns": columns,
            "flops": flops,
        }  # fmt: skip
        tableau = Tableau(rosenbrock.A, rosenbrock.C, rosenbrock.H, rosenbrock.GAMMA)
        return Source(tapes=tapes, tableau=tableau, facts=facts)

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
        write_states: bool = False,
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
        write_states : whether to keep the state at the start of each step with them; derivatives need it
        replay : steps to walk again instead of choosing them

        Raises
        ------
        SimulationError
            Arguments do not fit the system.
        """
        P, times, atol = self._checked(P, records, times, rtol, atol)
        if lanes is not None and lanes not in WIDTHS:
            raise SimulationError(f"engine: lanes is {lanes}; allowed: {', '.join(map(str, WIDTHS))}")
        N, m, n = len(P), times.shape[1], len(self.system.states)
        finite = np.isfinite(P).all(axis=1)
        bad = {} if finite.all() else {int(i): self._bad(P[i]) for i in np.flatnonzero(~finite)}
        chosen = np.flatnonzero(finite) if bad else np.arange(N)
        width = lanes or (1 if N <= FEW else default_lanes())  # by all who were asked: a bad one changes no other
        out, kept = np.empty((N, m, len(self.system.report))), np.empty((N if states else 0, m, n))
        status, steps, rejected = np.zeros((3, N), np.int64)
        until = np.zeros(N)
        for i in bad:
            status[i], out[i] = Status.BAD_INPUT, np.nan
            kept[i : i + 1] = np.nan
        if replay and len(replay.start) != N + 1:
            raise SimulationError(f"engine: steps of {len(replay.start) - 1} patients to walk again, for {N} patients")
        start, size = (replay.start, replay.size) if replay else (np.zeros(0, np.int64), np.zeros(0))
        task = Task(
            P, records.time, records.kind, records.index, records.value, times, float(rtol), atol, max_steps, start,
            size, 2 if write_states else int(write_history),
        )  # fmt: skip
        answer = Answer(out, kept, status, until, steps, rejected)

        code = self._code(width)
        written = _share(code, task, chosen, answer, threads)
        method = np.full(N, PIVOTING if len(code.head) else FIXED, np.int8)
        if status.any():
            grown = np.flatnonzero(status == Status.PIVOT_GROWTH)
            if len(grown) and not len(code.head):
                method[grown] = PIVOTING
                written = [_without(grown, *part) for part in written]
                written += _share(self.pivoting(), task, grown, answer, threads)
            status[status == Status.PIVOT_GROWTH] = Status.NOT_FINITE  # no pivot but zero and NaN: a nonsense matrix
        bad |= self._nonsense(out, times, status)
        return Run(
            out, kept if states else None, status, until, steps, rejected, method, code.lanes, bad,
            _history(written, N, n) if write_history or write_states else None,
        )  # fmt: skip

    def _checked(
        self, P: ArrayLike, records: Records, times: ArrayLike, rtol: float, atol: ArrayLike
    ) -> tuple[Floats, Floats, Floats]:
        """Arguments of `run` in the driver's form."""
        system = self.system
        P = np.require(np.atleast_2d(np.asarray(P, dtype=np.float64)), None, ["C", "W"])  # one type for numba
        N, n = len(P), len(system.states)
        if P.ndim != 2 or P.shape[1] != system.primary:
            names = ", ".join(s.name for s in system.parameters[: system.primary])
            raise SimulationError(
                f"engine: parameters have shape {P.shape}; give one row for each patient "
                f"and {system.primary} columns: {names}"
            )
        if records.patients not in (1, N):
            raise SimulationError(f"engine: {records.patients} rows of records for {N} patients; give {N} or 1")
        records.check(n, len(system.parameters))
        times = np.require(np.atleast_2d(np.asarray(times, dtype=np.float64)), None, ["C", "W"])  # one type for numba
        if times.ndim != 2 or len(times) not in (1, N) or not times.shape[1]:
            raise SimulationError(f"engine: times have shape {times.shape}; give (m,), (1, m) or ({N}, m) with m >= 1")
        if not (times >= 0).all() or (times[:, 1:] < times[:, :-1]).any():
            raise SimulationError("engine: times must be numbers of hours from 0 on that do not decrease; sort them")
        if not 0 < rtol < 1:
            raise SimulationError(f"engine: rtol is {rtol}; it must lie between 0 and 1, usually 1e-6")
        tolerances = np.empty(n)
        tolerances[:] = atol
        if not (tolerances.min() > 0 and tolerances.max() < np.inf):
            raise SimulationError("engine: atol must be positive and finite for every state")
        return P, times, tolerances

    def _bad(self, p: Floats) -> str:
        """What is wrong with a patient's parameters."""
        wrong = (f"{s.name} = {v}" for s, v in zip(self.system.parameters, p, strict=False) if not np.isfinite(v))
        return f"{', '.join(wrong)}: parameters must be finite numbers; nothing was computed for this patient"

    def _nonsense(self, out: Floats, times: Floats, status: Integers) -> dict[int, str]:
        """A report that is not finite although the states are (a logarithm of zero) is a failure too; by patient."""
        if np.isfinite(out).all():
            return {}
        wrong = ~np.isfinite(out) & (times < np.inf)[:, :, None] & (status == Status.OK)[:, None, None]
        told = {}
        for i in np.flatnonzero(wrong.any(axis=(1, 2))):
            j, k = np.argwhere(wrong[i])[0]
            status[i] = Status.NOT_FINITE
            t = times[i if len(times) > 1 else 0, j]
            told[int(i)] = f"{self.system.report_names[k]} is {out[i, j, k]} at t = {t:.6g} h, the states are finite"
        return told

    def _code(self, lanes: int) -> Code:
        """Machine code in the fixed order of pivots, or with pivoting where the matrix is too full for it."""
        code = self.library(lanes)
        facts = code.facts
        if facts["dense"]:
            return self.pivoting()
        kernels = np.array([code.address(name) for name in KERNELS], dtype=np.int64)
        return Code(kernels, code.lanes, facts["n"], facts["nq"], facts["nw"], np.zeros(0))

    def pivoting(self) -> Code:
        """The same with partial pivoting in every step, for one lane."""
        code = self.library(1)
        facts = code.facts
        kernels = np.array([code.address(name) for name in KERNELS], dtype=np.int64)
        kernels[STEP] = rosenbrock.step_kernel.address
        inner = pivoted.head(facts["n"], code.address("jacobian"), facts["rows"], facts["columns"])
        nw = pivoted.length(facts["n"], len(facts["rows"]))
        addresses = code.address("rhs"), pivoted.factor.address, pivoted.solve.address
        outer = rosenbrock.head(facts["n"], facts["nq"], nw, *addresses)
        head = np.concatenate([outer, inner])
        return Code(kernels, 1, facts["n"], facts["nq"], rosenbrock.HEAD + nw, head)


type _Written = tuple[Integers, Floats, Floats]
"""Patient, size and starting state of each accepted step."""


def _stand_ins() -> dict[str, Tape]:
    """Programs that hold the places of factor and solve in a step that is never called."""
    factor, solve = Builder(), Builder()
    factor.store("w", 0, factor.const(0.0))
    solve.store("x", 0, solve.load("x", 0))
    return {"factor": factor.tape("factor", "y", "q", "g", "w"), "solve": solve.tape("solve", "w", "x")}


_STAND_INS = _stand_ins()


def _share(code: Code, task: Task, chosen: Integers, answer: Answer, threads: int) -> list[_Written]:
    """Divide patients among threads, each taking the next part when it has finished one."""
    if not len(chosen):
        return []
    parts = min(threads * 4, -(-len(chosen) // (SHARE * code.lanes))) if threads > 1 else 1
    if parts <= 1:
        return [solve(code, task, chosen, answer)]
    halt = threading.Event()
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(solve, code, task, part, answer, halt.is_set) for part in np.array_split(chosen, parts)]
        try:
            return [part.result() for part in waiting]
        except BaseException:
            halt.set()
            for part in waiting:
                part.cancel()
            raise


def _without(patients: Integers, who: Integers, size: Floats, state: Floats) -> _Written:
    """Steps of all others."""
    others = ~np.isin(who, patients)
    return who[others], size[others], state[others] if len(state) else state


def _history(written: list[_Written], patients: int, n: int) -> History:
    """Steps sorted by patient."""
    if not written:
        written = [(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, n)))]
    who, size, state = written[0] if len(written) == 1 else (np.concatenate(a) for a in zip(*written, strict=True))
    order = np.argsort(who, kind="stable")
    start = np.zeros(patients + 1, np.int64)
    np.cumsum(np.bincount(who, minlength=patients), out=start[1:])
    return History(start, size[order], order, state)  # states are many: they stay where they are
