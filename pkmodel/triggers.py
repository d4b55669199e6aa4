"""Models in which something happens when a condition becomes true: events with a trigger, followed in time.

The solver takes the steps of the engine's method one by one. In each, every trigger is looked at in a few places of the
polynomial through the step; where one has changed, bisection finds the time to `RESOLUTION`, the state there becomes
the new start, and the event happens. Times at which a condition on time alone changes (``t > 5``) are not searched but
computed, and steps end there exactly.

At one time, in this order: records of doses; then, as long as there are any, triggers that became true schedule their
events (SBML Level 3 Version 2 Core, 4.11.6), those that became false call off what is not persistent, and of what is
due the event of highest priority happens. Among equals chance decides, as SBML asks, from a fixed seed. Outputs are
what remains after all that.

A condition that holds for less than 1/`LOOKS`/`PARTS` of the run may be missed.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import sympy as sp
from numpy.typing import NDArray
from sympy.core.relational import Relational
from sympy.logic.boolalg import Boolean

from .compiler.autonomous import Autonomous
from .compiler.machine import Kernels, Source, library
from .compiler.programs import programs
from .compiler.reduce import Reduced, reduced
from .errors import SimulationError
from .expressions import TIME, symbol
from .model import Model
from .parts import Compartment, Event
from .solve import pivoted, rosenbrock
from .solve.records import Kind, Records
from .solve.status import Status, message

type Floats = NDArray[np.float64]

RESOLUTION = 1e-12  # of the time of an event, relative to the time
LOOKS = 8  # places in a step where triggers are looked at
PARTS = 64  # no step is longer than this part of the run
MAX_STEPS = 1_000_000
MAX_EVENTS = 10_000  # at one time
_KERNELS = {"rhs": 3, "jacobian": 3, "report": 3, "initial": 2, "constants": 1}  # with their number of arrays


@dataclass(frozen=True, slots=True)
class Triggered:
    """A system that knows its events: what they read is reported behind what the user asked for.

    Parameters
    ----------
    given : the system as it was
    small : what is left of it once time and whatever an event sets are states, and idle states are gone
    events : of the model, in primary parameters
    targets : per event, the numbers of the states it sets; -1 for one that reaches nothing reported
    stops : how many reports are times at which a condition on time alone changes
    """

    given: Autonomous
    small: Reduced
    events: tuple[Event, ...]
    targets: tuple[tuple[int, ...], ...]
    stops: int

    @property
    def reported(self) -> int:
        """How many reports are the user's."""
        return len(self.given.report)


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
    """

    out: Floats
    status: Status
    until: float
    steps: int
    happened: tuple[tuple[float, str], ...]

    @property
    def message(self) -> str:
        """The status in words."""
        return message(self.status)


def settled(model: Model) -> Model:
    """The model with a compartment ``<name>_now`` for each parameter that an event sets; the parameter is its start.

    What an event changes moves in time, so it is a state. Formulas that depend on it are written out where they are used
    in rates, observables and events; initial values and administrations keep the parameter.

    Parameters
    ----------
    model : any
    """
    moved = sorted({t for e in model.events for t in e.assignments if t in model.parameters})
    if not moved:
        return model
    now = {p: f"{p}_now" for p in moved}
    while taken := [p for p in moved if now[p] in model.symbols]:
        now |= {p: f"{now[p]}_" for p in taken}
    swap = {symbol(p): symbol(now[p]) for p in moved}
    swap |= {s: e.xreplace(swap) for s, e in model.resolved.items() if e.free_symbols & swap.keys()}
    made = {
        now[p]: Compartment(
            name=now[p], unit=model.parameters[p].unit, initial=symbol(p), kind="site", meaning=f"{p} now"
        )
        for p in moved
    }
    return replace(
        model,
        compartments={**model.compartments, **made},
        flows=tuple(replace(f, rate=f.rate.xreplace(swap)) for f in model.flows),
        observables={n: replace(o, expression=o.expression.xreplace(swap)) for n, o in model.observables.items()},
        events=tuple(
            replace(
                e,
                trigger=e.trigger.xreplace(swap),
                delay=e.delay.xreplace(swap),
                priority=None if e.priority is None else e.priority.xreplace(swap),
                assignments={now.get(t, t): x.xreplace(swap) for t, x in e.assignments.items()},
            )
            for e in model.events
        ),
    )


def triggered(system: Autonomous, model: Model) -> Triggered:
    """Add what events need to a system.

    Parameters
    ----------
    system : made from `model`
    model : with events, `settled`

    Raises
    ------
    SimulationError
        An event sets a parameter.
    """
    if any(t in model.parameters for e in model.events for t in e.assignments):
        raise SimulationError(f"{model.who}: an event sets a parameter; make the system from triggers.settled(model)")
    clock = symbol(TIME)
    events = tuple(_resolved(e, model) for e in model.events)
    timed = (clock,) if clock not in system.states else ()
    states = (*system.states, *timed)
    report = [*system.report, *(_indicator(e.trigger) for e in events)]
    for e in events:
        report += [e.delay, sp.Integer(0) if e.priority is None else e.priority, *e.assignments.values()]
    moving = {s for s, r in zip(system.states, system.rates, strict=True) if r != 0}
    stops = _stops((*system.rates, *(e.trigger for e in events)), moving)
    report += [*stops, clock]
    whole = replace(
        system,
        states=states,
        rates=(*system.rates, *(sp.Integer(1) for _ in timed)),
        initial=(*system.initial, *(sp.Integer(0) for _ in timed)),
        report=tuple(report),
        report_names=tuple(map(str, range(len(report)))),
    )
    small = reduced(whole)
    targets = tuple(tuple(small.state(whole.state(t)) for t in e.assignments) for e in events)
    return Triggered(system, small, events, targets, len(stops))


def _indicator(condition: Boolean) -> sp.Expr:
    """One where a condition holds, else zero; SymPy's if-then-else of conditions is written in and, or, not."""
    chosen = sp.Piecewise((sp.Integer(1), condition), (sp.Integer(0), True))
    return chosen.replace(sp.ITE, lambda c, a, b: (c & a) | (~c & b)) if chosen.has(sp.ITE) else chosen


def _resolved(e: Event, model: Model) -> Event:
    """An event in primary parameters."""
    known = model.resolved
    return replace(
        e,
        trigger=e.trigger.xreplace(known),
        assignments={n: x.xreplace(known) for n, x in e.assignments.items()},
        name=str(e).removeprefix("event "),
        delay=e.delay.xreplace(known),
        priority=None if e.priority is None else e.priority.xreplace(known),
    )


def _stops(expressions: Sequence[sp.Basic], moving: set[sp.Symbol]) -> list[sp.Expr]:
    """Times at which a comparison of time with what stands still between events changes; time enters it linearly."""
    clock = symbol(TIME)
    found: list[sp.Expr] = []
    for relation in sorted({r for e in expressions for r in e.atoms(Relational)}, key=str):
        gap = relation.lhs - relation.rhs
        if clock not in gap.free_symbols or gap.free_symbols & (moving - {clock}):
            continue
        slope = sp.diff(gap, clock)
        if slope != 0 and clock not in slope.free_symbols:
            found.append(-gap.xreplace({clock: sp.Integer(0)}) / slope)
    return list(dict.fromkeys(found))


@dataclass(slots=True)
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


class _Walk:
    """One run."""

    def __init__(self, m: Machine, p: Floats, records: Records, times: Floats, rtol: float, atol: Floats) -> None:
        self.m, self.what, self.times, self.rtol, self.atol = m, m.what, times, rtol, atol
        n, small = m.n, m.what.small
        self.q = np.zeros(m.nq)
        whole = np.zeros(len(self.what.given.parameters))
        whole[: len(p)] = p
        self.q[: len(small.parameters)] = whole[list(small.parameters)]
        self.y, self.u, self.f = np.zeros(n), np.zeros(n), np.zeros(n)
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
        return Followed(out, status, self.at.t, self.at.steps, tuple(self.at.happened))

    def step(self, h: float, end: float, written: int, out: Floats) -> tuple[Status, float, int]:
        """One accepted step, to the next event at most; outputs inside it are written."""
        at, stop = self.at, self.next_stop(end)
        while True:
            length = stop - at.t
            whole = h >= length * (1 - 1e-10)
            if not whole:  # two steps of one size rather than a last one that is tiny
                length = 0.5 * length if h > 0.5 * length else h
            if length < 1e-14 * max(abs(at.t), 1e-3 * end):
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
