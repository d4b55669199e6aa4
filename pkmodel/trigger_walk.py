"""Following a model in which something happens when a condition becomes true.

The solver takes the steps of the engine's method one by one. In each, every trigger is looked at in a few places of the
polynomial through the step; where one has changed, bisection finds the time to `RESOLUTION`, the state there becomes
the new start, and the event happens. A condition that holds for less than 1/`LOOKS`/`PARTS` of the run may be missed.

At one time, in this order: records of doses; then, as long as there are any, triggers that became true schedule their
events (SBML Level 3 Version 2 Core, 4.11.6), those that became false call off what is not persistent, and of what is
due the event of highest priority happens. Among equals chance decides, as SBML asks, from a fixed seed. Outputs are
what remains after all that.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .compiler.machine import Kernels, Source, library
from .compiler.programs import programs
from .errors import SimulationError
from .expressions import TIME
from .solve import pivoted, rosenbrock
from .solve.records import Kind, Records
from .solve.status import Status, message
from .triggers import Triggered

type Floats = NDArray[np.float64]

RESOLUTION = 1e-12  # of the time of an event, relative to the time
LOOKS = 8  # places in a step where triggers are looked at
PARTS = 64  # no step is longer than this part of the run
MAX_STEPS = 1_000_000
MAX_EVENTS = 10_000  # at one time
_KERNELS = {"rhs": 3, "jacobian": 3, "report": 3, "initial": 2, "constants": 1}  # with their number of arrays
_ENDLESS = "events set each other off without end; look for two that undo each other"


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """A run with events.

    Parameters
    ----------
    out : (m, no) array, what the system reports; NaN from a failure on
    status : how it ended
    until : how far it went [h]
    steps : accepted steps
    happened : (time [h], name) of every event that happened
    detail : more than the status says [text]
    """

    out: Floats
    status: Status
    until: float
    steps: int
    happened: tuple[tuple[float, str], ...]
    detail: str = ""

    @property
    def message(self) -> str:
        """How it ended, in words."""
        return self.detail or message(self.status)


@dataclass(slots=True, eq=False)
class _Pending:
    """An event that has been triggered and waits."""

    due: float
    event: int
    values: Floats | None  # computed when it was triggered


class Machine:
    """Compiled equations of a `Triggered`, used again for each run.

    Parameters
    ----------
    what : Triggered
    digest : names the system in the cache of machine code; empty: keep nothing [text]
    """

    def __init__(self, what: Triggered, digest: str = "") -> None:
        self.what = what
        self.n = len(what.small.system.states)
        self.code: Kernels = library(f"{digest} triggers" if digest else "", self._source, 1)
        facts = self.code.facts
        self.nq, self.no = facts["nq"], facts["reports"]
        self.head = pivoted.head(self.n, self.code.address("jacobian"), facts["rows"], facts["columns"])
        self.nw = pivoted.length(self.n, len(facts["rows"]))

    def _source(self) -> Source:
        p = programs(self.what.small.system)
        rows, columns = zip(*p.plan.pattern, strict=True) if p.plan.pattern else ((), ())
        facts = {"nq": p.nq, "reports": p.no, "rows": rows, "columns": columns}
        return Source(tapes={name: p.tapes[name] for name in _KERNELS}, facts=facts)

    def run(
        self, p: Floats, records: Records, times: Floats, rtol: float = 1e-8, atol: float | Floats = 1e-12
    ) -> Followed:
        """Follow one patient.

        Parameters
        ----------
        p : (primary,) array, primary parameters, canonical
        records : of one patient
        times : (m,) array, increasing, from 0 [h]
        rtol, atol : tolerances of a step; atol one number or (n,) array [state]

        Raises
        ------
        SimulationError
            A parameter is not finite, or the records are of several patients.
        """
        if not np.isfinite(p).all() or records.patients != 1:
            raise SimulationError("events: give finite parameters and the records of one patient")
        small, given = self.what.small, len(self.what.given.states)
        absolute = np.ones(len(small.states))
        asked = [k for k, i in enumerate(small.states) if i < given]
        absolute[asked] = np.broadcast_to(atol, given)[[small.states[k] for k in asked]]
        return _Walk(self, p, records, times, rtol, absolute).walk()


@dataclass(slots=True)
class _State:
    """Where a run stands."""

    t: float = 0.0
    steps: int = 0
    pending: list[_Pending] = field(default_factory=list)
    happened: list[tuple[float, str]] = field(default_factory=list)
    detail: str = ""


class _Walk:
    """One run."""

    def __init__(self, m: Machine, p: Floats, records: Records, times: Floats, rtol: float, atol: Floats) -> None:
        self.m, self.what, self.times, self.rtol, self.atol = m, m.what, times, rtol, atol
        n, small = m.n, m.what.small
        self.q = np.zeros(m.nq)
        whole = np.zeros(len(self.what.given.parameters))
        whole[: len(p)] = p
        self.q[: len(small.parameters)] = whole[list(small.parameters)]
        self.y, self.u = np.zeros(n), np.zeros(n)
        self.K, self.D, self.w = np.zeros(8 * n), np.zeros(3 * n), np.zeros(m.nw)
        self.w[: len(m.head)] = m.head
        self.ctl = np.zeros(5)
        self.reports = np.zeros(m.no)
        self.kernels = {
            name: ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * count)(m.code.address(name))
            for name, count in _KERNELS.items()
        }
        self.seen, self.report = np.zeros(n), self.kernels["report"]
        self.addresses = tuple(a.ctypes.data for a in (self.seen, self.q, self.reports))
        self.clock = small.system.state(TIME)
        there = records.time[0] < np.inf
        columns = (records.time, records.kind, records.index, records.value)
        self.records = [tuple(row) for row in zip(*(c[0][there] for c in columns), strict=True)]
        self.at = _State()
        self.random = np.random.default_rng(0)
        self.truth = np.array([e.initial_value for e in self.what.events])
        count, e = len(self.truth), self.what.reported
        self.triggers = slice(e, e + count)
        self.reads = []
        e += count
        for targets in self.what.targets:
            self.reads.append((e, e + 1, slice(e + 2, e + 2 + len(targets))))
            e += 2 + len(targets)
        self.stop_reports = slice(e, e + self.what.stops)
        self.roots: list[float] = []

    # Numbers

    def call(self, name: str, *arrays: Floats) -> None:
        self.kernels[name](*(a.ctypes.data for a in arrays))

    def look(self, y: Floats) -> Floats:
        """Everything that is reported at a state."""
        self.seen[:] = y
        self.report(*self.addresses)
        return self.reports

    def true(self, y: Floats) -> NDArray[np.bool_]:
        return np.asarray(self.look(y)[self.triggers] != 0.0)

    # The run

    def walk(self) -> Followed:
        m = len(self.times)
        out = np.full((m, self.what.reported), np.nan)
        self.call("constants", self.q)
        self.call("initial", self.q, self.y)
        written, end = 0, float(self.times[-1])
        status = self.settle()
        h = 1e-3 * end
        while status == Status.OK:
            while written < m and self.times[written] <= self.at.t:
                out[written] = self.look(self.y)[: self.what.reported]
                written += 1
            if written == m:
                break
            status, h, written = self.step(h, end, written, out)
        return Followed(out, status, self.at.t, self.at.steps, tuple(self.at.happened), self.at.detail)

    def step(self, h: float, end: float, written: int, out: Floats) -> tuple[Status, float, int]:
        """One accepted step, to the next event at most; outputs inside it are written."""
        at, stop = self.at, self.next_stop(end)
        smallest = 1e-14 * max(abs(at.t), 1e-3 * end)
        if stop - at.t < smallest:  # two times that are one but for rounding
            at.t = self.y[self.clock] = stop
            return self.settle(), h, written
        while True:
            length = stop - at.t
            whole = h >= length * (1 - 1e-10)
            if not whole:  # two steps of one size rather than a last one that is tiny
                length = 0.5 * length if h > 0.5 * length else h
            if length < smallest:
                return Status.STEP_TOO_SMALL, h, written
            if at.steps >= MAX_STEPS:
                return Status.TOO_MANY_STEPS, h, written
            self.ctl[:3] = 1 / length, 1 / (rosenbrock.GAMMA * length), self.rtol
            rosenbrock.step(
                self.m.code.address("rhs"), pivoted.factor.address, pivoted.solve.address, self.m.n,
                self.y, self.q, self.ctl, self.atol, self.K, self.u, self.w,
            )  # fmt: skip
            at.steps += 1
            error = math.sqrt(self.ctl[3]) if self.ctl[3] >= 0 else math.nan
            if error <= 1.0:
                break
            h = length * (0.25 if not math.isfinite(error) else max(0.2, 0.9 * error**-0.2))
        grown = min(end / PARTS, length * min(5.0, 0.9 * max(error, 1e-8) ** -0.2))
        rosenbrock.dense(self.m.n, self.K, self.D)
        theta = self.first_change(at.t, length)
        last = at.t + theta * length if theta < 1.0 or not whole else stop
        while written < len(self.times) and self.times[written] < last:
            y = self.inside((self.times[written] - at.t) / length, float(self.times[written]))
            out[written] = self.look(y)[: self.what.reported]
            written += 1
        self.y = self.inside(theta, last) if theta < 1.0 else self.u.copy()
        at.t = self.y[self.clock] = last
        return self.settle(), max(grown, min(h, end / PARTS) if whole else 0.0), written

    def inside(self, theta: float, t: float) -> Floats:
        y = np.empty(self.m.n)
        rosenbrock.interpolate(self.m.n, self.y, self.u, self.D, theta, y)
        y[self.clock] = t
        return y

    def next_stop(self, end: float) -> float:
        """The end of the longest step allowed."""
        t = self.at.t
        known = [p.due for p in self.at.pending] + [r for r in self.roots if r > t]
        known += [float(self.records[0][0])] if self.records else []
        return min([end, *(k for k in known if k > t)])

    def first_change(self, t: float, length: float) -> float:
        """Part of the step after which some trigger is not what it was; 1 where all stay."""
        if not len(self.truth):
            return 1.0
        before = 0.0
        for k in range(1, LOOKS + 1):
            theta = k / LOOKS
            y = self.inside(theta, t + theta * length) if k < LOOKS else self.u
            if (self.true(y) == self.truth).all():
                before = theta
                continue
            if k == LOOKS and (self.true(self.inside(1.0 - 1e-9, t + length * (1 - 1e-9))) == self.truth).all():
                return 1.0  # at the very end, as for a time that was computed
            while (theta - before) * length > RESOLUTION * max(abs(t), 1e-3):
                middle = 0.5 * (before + theta)
                if middle in (before, theta):
                    break
                if (self.true(self.inside(middle, t + middle * length)) == self.truth).all():
                    before = middle
                else:
                    theta = middle
            return theta
        return 1.0

    # What happens at one time

    def settle(self) -> Status:
        """Records, then events until nothing more is due."""
        at = self.at
        while self.records and self.records[0][0] <= at.t:
            self.apply(*self.records.pop(0))
        self.notice()
        before = len(at.happened)
        while (now := self.due()) is not None:
            at.pending.remove(now)
            event = self.what.events[now.event]
            values = now.values if now.values is not None else self.read(now.event)
            for i, value in zip(self.what.targets[now.event], values, strict=True):
                if i >= 0:
                    self.y[i] = value
            at.happened.append((at.t, event.name))
            if len(at.happened) - before > MAX_EVENTS:
                at.detail = f"at t = {at.t:.6g} h {_ENDLESS}"
                return Status.TOO_MANY_STEPS
            self.notice()
        self.roots = [float(r) for r in self.look(self.y)[self.stop_reports]]
        return Status.OK

    def notice(self) -> None:
        """Schedule events whose trigger became true, call off those it left."""
        now = self.true(self.y).copy()
        for k in np.flatnonzero(now != self.truth):
            event = self.what.events[k]
            if now[k]:
                delay = float(self.reports[self.reads[k][0]])
                values = self.read(int(k)) if event.use_trigger_values else None
                self.at.pending.append(_Pending(self.at.t + delay, int(k), values))
            elif not event.persistent:
                self.at.pending = [p for p in self.at.pending if p.event != k]
        self.truth = now

    def due(self) -> _Pending | None:
        """The next event to happen now."""
        now = [p for p in self.at.pending if p.due <= self.at.t]
        if not now:
            return None
        reports = self.look(self.y)

        def rank(p: _Pending) -> float:
            return -math.inf if self.what.events[p.event].priority is None else reports[self.reads[p.event][1]]

        highest = max(map(rank, now))
        first = [p for p in now if rank(p) == highest]
        return first[0] if len(first) == 1 else first[int(self.random.integers(len(first)))]

    def read(self, event: int) -> Floats:
        """New values that an event would set now."""
        return self.look(self.y)[self.reads[event][2]].copy()

    def apply(self, time: float, kind: int, index: int, value: float) -> None:
        """Carry out one record."""
        small = self.what.small
        at = small.state(index) if kind <= Kind.SET_STATE else small.parameter(index)
        if at < 0:
            return  # it reaches nothing that is reported
        numbers = self.y if kind <= Kind.SET_STATE else self.q
        numbers[at] = value + (numbers[at] if kind in (Kind.ADD_STATE, Kind.ADD_PARAM) else 0.0)
        if kind > Kind.SET_STATE:
            self.call("constants", self.q)
