"""A compiled model with its doses, inputs and output times, ready to be solved for any parameters: `Problem`.

Time is in hours from the first administration. Results come at the requested times, just after any dose at that time.
A linear model is propagated exactly (`exact`), any other is solved by the engine (`compiler.engine`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .compiler.compiled import Compiled, compile_model
from .compiler.engine import PIVOTING, Engine
from .compiler.gradient import Gradient
from .covariates import Steps
from .dosing import Dose, doses_of
from .errors import SimulationError
from .events import Directions, Events, Fixed, events_of, fixed
from .exact import Drive, propagate
from .inputs import InputCurve as InputCurve
from .inputs import values
from .model import Model
from .recording import Curve, Recorded, record
from .regimen import Regimen
from .solve.records import Kind, Records
from .solve.status import MESSAGES, Status
from .steady_state import SteadyStates
from .trigger_walk import Machine
from .triggers import triggered

if TYPE_CHECKING:
    pass

Array = NDArray[np.float64]
Method = Literal["auto", "exact", "rosenbrock"]
METHODS: tuple[Method, ...] = ("auto", "exact", "rosenbrock")
RTOL, ATOL = 1e-8, 1e-12
NO_STEPS = Steps({})
EXACT, ROSENBROCK = "exact propagation", "Rosenbrock (Rodas5P)"


@dataclass(frozen=True)
class Solution:
    """States and observables at the output times, in canonical units; tangents along the asked directions."""

    status: Status
    method: str
    steps: int
    states: Array  # (n, m)
    observed: Array  # (observables, m)
    integrals: Array  # (observables, m)
    observed_tangent: Array  # (directions, observables, m)
    integral_tangent: Array  # (directions, observables, m)
    state_tangent: Array  # (directions, n, m)
    detail: str = ""  # how it ended, where there is more to say than the status

    @property
    def message(self) -> str:
        """The status in words."""
        return self.detail or MESSAGES[self.status]


@dataclass(frozen=True, slots=True)
class OfDose:
    """A direction: the dose of one administration, relative to itself."""

    administration: int  # number in the regimen


@dataclass(frozen=True, slots=True)
class OfTime:
    """A direction: the time of one administration [h]."""

    administration: int  # number in the regimen


type Direction = int | OfDose | OfTime


@dataclass(frozen=True)
class Problem:
    """A compiled model with its doses, inputs and output times; only parameter values are missing."""

    model: Model
    compiled: Compiled
    regimen: Regimen
    times: Array  # (m,) increasing [h]
    inputs: Mapping[str, InputCurve]
    rtol: float = RTOL
    atol: float = ATOL
    method: Method = "auto"
    steps: Steps = NO_STEPS

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what it was made from: machine code and solvers are found again where it is loaded."""
        return _again, (
            self.model, self.regimen, self.times, dict(self.inputs), self.rtol, self.atol, self.method, self.steps
        )  # fmt: skip

    @cached_property
    def defaults(self) -> Array:
        """Parameter values of the model, canonical, (k,)."""
        values = self.model.canonical_values()
        return np.array([values[n] for n in self.compiled.parameters])

    @property
    def exact(self) -> bool:
        """Whether it is solved by exact propagation."""
        return self.compiled.linear and self.method != "rosenbrock" and not self.model.events

    @cached_property
    def doses(self) -> tuple[Dose, ...]:
        """What each administration puts where."""
        return doses_of(self.model, self.compiled, self.regimen)

    @cached_property
    def _doses(self) -> list[tuple[float, int, float, float]]:
        """(time it enters, route, canonical amount, duration) of every dose, at the parameters of the model."""
        p = self.defaults[:, None]
        out = []
        for dose in self.doses:
            lag, fraction, duration = (float(t.of(p)[0]) for t in (dose.lag, dose.fraction, dose.duration))
            if dose.rate.given:
                duration = fraction * dose.administration.given / float(dose.rate.of(p)[0])
            out += [(dose.administration.time + lag, r, fraction * amount, duration) for r, amount in dose.parts]
        return out

    @property
    def end(self) -> float:
        """When the last dose is in, at the parameters of the model [h]."""
        return max((time + duration for time, _, _, duration in self._doses), default=0.0)

    @cached_property
    def _delays(self) -> list[int]:
        """Index of the delay parameter of each input, -1 without."""
        names = self.compiled.parameters
        return [names.index(i.delay) if i.delay else -1 for i in self.model.inputs.values()]

    @cached_property
    def infused(self) -> tuple[str, ...]:
        """Routes by which something is infused."""
        found = {r for d in self.doses if d.rate.given or d.duration.given for r, _ in d.parts}
        return tuple(name for k, name in enumerate(self.compiled.routes) if k in found)

    @cached_property
    def engine(self) -> Engine:
        """The solver of nonlinear models, which reports every state; made when first asked for."""
        return self.compiled.engine(self.infused, self.compiled.states, states=True)

    @cached_property
    def _fixed(self) -> Fixed | None:
        """The schedule sorted once, where no parameter moves it."""
        if self.steps.by:
            return None
        at = {name: k for k, name in enumerate(self.compiled.states)}
        targets = [[at[c] for c in parts] for parts in self.model.routes.values()]
        return fixed(self.compiled, self.doses, targets, self.times)

    @cached_property
    def _machine(self) -> Machine:
        """The solver of a model in which something happens when a condition becomes true."""
        return Machine(triggered(self.engine.system, self.model), self.engine.digest)

    def directions(self, wanted: Sequence[Direction]) -> Directions:
        """What to differentiate along.

        Parameters
        ----------
        wanted : numbers of parameters, or doses and times of administrations

        Raises
        ------
        SimulationError
            A parameter is a covariate, whose value is given, or an administration does not exist.
        """
        nd, k, count = len(wanted), len(self.compiled.parameters), len(self.doses)
        parameters, doses, times = np.zeros((nd, k)), np.zeros((nd, count)), np.zeros((nd, count))
        for d, what in enumerate(wanted):
            if isinstance(what, OfDose | OfTime):
                if not 0 <= what.administration < count:
                    raise SimulationError(f"{self.model.who}: {what}: the regimen has {count} administrations")
                (doses if isinstance(what, OfDose) else times)[d, what.administration] = 1.0
                continue
            if what in self.steps.by:
                name = self.compiled.parameters[what]
                raise SimulationError(f"{self.model.who}: {name} is a covariate; its derivative means nothing")
            parameters[d, what] = 1.0
        return Directions(parameters, doses, times)

    def events(self, p: Array, directions: Directions) -> tuple[Events, list[Status]]:
        """What happens to N patients, and how it went to find their steady states.

        Parameters
        ----------
        p : (k, N) array, parameters
        directions : to differentiate along, with N = 1
        """
        if self._fixed is not None:
            return self._fixed.events(self.compiled, p, directions), [Status.OK] * p.shape[1]
        steady = SteadyStates(self.compiled, None if self.exact else self._period)
        found = events_of(self.compiled, self.doses, lambda t: self.steps.values(p, t), directions, self.times, steady)
        return found, steady.status or [Status.OK] * p.shape[1]

    def _period(
        self, y: Array, p: Array, events: Events, every: float, directions: Directions, monodromy: bool
    ) -> tuple[Array, Array, Array, Status]:
        """One interval of a series of doses (`steady_state.Period`)."""
        cut, nd = self.compiled.compartments, directions.count
        more = cut if monodromy else 0
        series = _from_state(y, events, more)
        along = np.vstack([directions.parameters.reshape(nd, p.size), np.zeros((more, p.size))])
        given = record(self.compiled, self.engine.system, series, (), NO_STEPS, every, p[:, None], along)
        grid = np.array([every])
        states, tangent, status, _, _ = self._run(p, along, given, grid, max(1e-10, 1e-2 * self.rtol), y)
        after, slopes = states[:cut, 0], tangent[:, :cut, 0]
        return after, slopes[:nd], slopes[nd:].T, status

    def solve(self, p: Array | None = None, directions: Sequence[Direction] = ()) -> Solution:
        """Solve for one set of parameters.

        Parameters
        ----------
        p : (k,) array, canonical values in the order of ``compiled.parameters``; default the model's own
        directions : numbers of the parameters to differentiate with respect to; also `OfDose`, `OfTime`

        Returns
        -------
        Solution
            A failure is a status with a message, and the arrays are nan from the point of failure.
        """
        p = self.defaults if p is None else np.ascontiguousarray(p, dtype=float)
        if any(c.value.ndim > 1 and len(c.value) > 1 for c in self.steps.by.values()):
            raise SimulationError(f"{self.model.who}: covariates of several patients; `records_of` runs them together")
        p = self.steps.values(p[:, None], 0.0)[:, 0]
        along = self.directions(directions)
        delays = np.array([along.parameters[:, d] if d >= 0 else np.zeros(along.count) for d in self._delays])
        delays = delays.reshape(len(self._delays), along.count)
        events, steady = self.events(p[:, None], along)
        steps, detail = 0, ""
        if self.exact:
            run = propagate(
                self.compiled, p, along, self.compiled.initial(p),
                (self.compiled.initial_dp(p) @ along.parameters.T).T, self.times, events,
                [Drive(t, v, d) for (t, v), d in zip(self._knots(p), delays, strict=True)], self.steps,
            )  # fmt: skip
            y, dy, status = run.states.T, run.tangents.transpose(1, 2, 0), run.status
        else:
            zero = np.zeros(1)
            curves = [
                Curve(c.t, c.value, p[d : d + 1] if d >= 0 else zero, slope)
                for c, d, slope in zip(self.inputs.values(), self._delays, delays, strict=True)
            ]
            last = max(float(self.times[-1]), 0.0)
            given = record(
                self.compiled, self.engine.system, events, curves, self.steps, last, p[:, None], along.parameters
            )
            y, dy, status, steps, detail = self._run(p, along.parameters, given, self.times, self.rtol, None)
        if steady[0] != Status.OK:
            status, detail = steady[0], ""
        if status == Status.BAD_INPUT:
            wrong = [f"{n} = {x}" for n, x in zip(self.compiled.parameters, p, strict=True) if not np.isfinite(x)]
            detail = f"{', '.join(wrong)}: parameters must be finite numbers" if wrong else _BAD
        y, dy = np.ascontiguousarray(y), np.ascontiguousarray(dy)
        u, slope = self._inputs_at(p)
        table = self.steps.table(p, self.times)
        now = p if table.shape[1] == 1 else table
        cut = self.compiled.compartments
        with np.errstate(all="ignore"):
            observed = self.compiled.observe(self.times, y, u, now)
            tangent = np.zeros((0, *observed.shape))
            if along.count:
                du = -delays.T[:, :, None] * slope
                tangent = self.compiled.observe_tangent(self.times, y, u, now, dy, du, along.parameters)
        return Solution(
            status=status,
            method=EXACT if self.exact else ROSENBROCK,
            steps=steps,
            states=y,
            observed=observed,
            integrals=y[cut:],
            observed_tangent=tangent,
            integral_tangent=dy[:, cut:],
            state_tangent=dy,
            detail=detail,
        )

    def _run(
        self, p: Array, along: Array, given: Recorded, times: Array, rtol: float, start: Array | None
    ) -> tuple[Array, Array, Status, int, str]:
        """States (n, m), tangents (nd, n, m), status, steps and message of the engine."""
        n = len(self.compiled.states)
        nowhere = np.full((n, times.size), np.nan), np.full((len(along), n, times.size), np.nan)
        if given.bad[0] or not np.isfinite(p).all():
            return *nowhere, Status.BAD_INPUT, 0, ""
        atol = self._absolute(p, start)
        if self.model.events:
            if len(along):
                raise SimulationError(
                    f"{self.model.who}: no derivatives of a model with events that a condition triggers"
                )
            walk = self._machine.run(p, given.records, times, rtol, atol)
            return walk.out.T, nowhere[1], walk.status, walk.steps, walk.detail
        if not len(along):
            run = self.engine.run(p[None], given.records, times, rtol, atol)
            status, detail = Status(int(run.status[0])), run.message(0) if run.status[0] else ""
            return run.out[0].T, nowhere[1], status, int(run.steps[0]), detail
        run = self.engine.run(p[None], given.records, times, rtol, atol, lanes=1, write_history=True, write_states=True)
        status, detail = Status(int(run.status[0])), run.message(0) if run.status[0] else ""
        dy = nowhere[1]
        if status == Status.OK:
            slopes = self._gradient(along).tangents(
                p, along, given.records, times, rtol, atol, dvalue=given.dvalue, dtime=given.dtime,
                history=None if run.method[0] == PIVOTING else run.history,
            )  # fmt: skip
            status, dy = slopes.status, slopes.dout.transpose(2, 1, 0)
        return run.out[0].T, dy, status, int(run.steps[0]), detail

    def _gradient(self, along: Array) -> Gradient:
        """Derivatives of the engine by the parameters that the directions move."""
        free = tuple(np.flatnonzero(along.any(axis=0)).tolist())
        if free not in self._gradients:
            self._gradients[free] = Gradient(self.engine, free)
        return self._gradients[free]

    @cached_property
    def _gradients(self) -> dict[tuple[int, ...], Gradient]:
        """Derivatives made so far, by the parameters that are free."""
        return {}

    def _absolute(self, p: Array, start: Array | None = None) -> float:
        """Absolute tolerance: relative to the largest dose, so that the unit of amount does not matter."""
        sizes = [amount for dose in self.doses for _, amount in dose.parts]
        there = self.compiled.initial(p) if start is None else start
        return self.atol * (max([*sizes, float(np.abs(there).max(initial=0.0)), 0.0]) or 1.0)

    def _knots(self, p: Array) -> list[tuple[Array, Array]]:
        """Knots of each input, its delay included, and its values there."""
        return [
            (c.t + (p[d] if d >= 0 else 0.0), c.value) for c, d in zip(self.inputs.values(), self._delays, strict=True)
        ]

    def _inputs_at(self, p: Array) -> tuple[Array, Array]:
        """Inputs and their slopes at the output times, each (q, m)."""
        q, m = len(self.compiled.inputs), self.times.size
        u, slope = np.zeros((q, m)), np.zeros((q, m))
        for j, (knots, value) in enumerate(self._knots(p)):
            u[j], slope[j] = values(self.times, knots, value)
        return u, slope


def _again(model: Model, *rest: Any) -> Problem:
    """A problem that was pickled."""
    return Problem(model, compile_model(model), *rest)


_BAD = (
    "a dose of this patient has a negative or infinite lag, duration, rate or fraction, or a condition on time has no "
    "moment (0/0), so nothing was computed"
)


def _from_state(y: Array, events: Events, more: int) -> Events:
    """An interval that begins with a given state; `more` further directions are those of that state."""
    n, nd = y.size, events.dtime.shape[1]
    one = np.zeros((n, nd + more))
    one[:, nd:] = np.eye(n)[:, :more]
    wide = ((0, 0), (0, more))
    return Events(
        kind=np.hstack([np.full((1, n), int(Kind.SET_STATE)), events.kind]),
        index=np.hstack([np.arange(n)[None], events.index]),
        time=np.hstack([np.zeros((1, n)), events.time]),
        value=np.hstack([y[None], events.value]),
        dtime=np.vstack([np.zeros((n, nd + more)), np.pad(events.dtime, wide)]),
        dvalue=np.vstack([one, np.pad(events.dvalue, wide)]),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What the engine needs to run N patients of one problem.

    Parameters
    ----------
    parameters : (N, k) array, with the covariates as they are at time zero [canonical]
    records : of each patient
    status : (N,) array of `Status`; a patient that is not OK was given something impossible, or has no steady state,
        and has no records
    """

    parameters: Array
    records: Records
    status: NDArray[np.int64]


def records_of(problem: Problem, p: ArrayLike) -> Batch:
    """What happens to each patient of a table of parameters, as records of the engine.

    Parameters
    ----------
    problem : with the regimen, inputs and covariates of all
    p : (N, k) array, canonical values in the order of ``compiled.parameters``

    Returns
    -------
    Batch
        For ``problem.engine``, or any engine of the model for the routes ``problem.infused``.
    """
    table = problem.steps.values(np.atleast_2d(np.asarray(p, dtype=float)).T, 0.0)
    events, steady = problem.events(table, problem.directions(()))
    curves = [
        Curve(c.t, c.value, table[d] if d >= 0 else np.zeros(table.shape[1]), np.zeros(0))
        for c, d in zip(problem.inputs.values(), problem._delays, strict=True)
    ]
    last = max(float(problem.times[-1]), 0.0)
    given = record(
        problem.compiled, problem.engine.system, events, curves, problem.steps, last, table, np.zeros((0, len(table)))
    )
    status = np.where(np.array(steady) != Status.OK, np.array(steady), np.where(given.bad, Status.BAD_INPUT, Status.OK))
    return Batch(np.ascontiguousarray(table.T), given.records, status.astype(np.int64))
