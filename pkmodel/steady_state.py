"""The state that a series of doses leaves behind: one period later, everything is as before.

With Phi(y) the state one interval after y, doses of the interval included, the steady state is the fixed point
y = Phi(y). For a linear model Phi(y) = E y + g with E = exp(A T), so y = (I - E)^-1 g at once, and along a direction
dy = (I - E)^-1 (dE y + dg). For any other model Newton's method finds it: (I - M)(y' - y) = Phi(y) - y with the
monodromy matrix M = dPhi/dy from the tangents of the solver; at the solution, dy = (I - M)^-1 dPhi/dtheta.

What only moves from state to state (a receptor without turnover) makes I - M singular; its total is what it was at the
start, which is added to Newton's equations. What only collects (urine without voiding) has no steady state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .compiler.compiled import Compiled
from .dosing import Dose
from .events import RATE, Directions, Events, periods, slopes, timing
from .exact import propagate
from .solve.linear import propagators
from .solve.records import Kind
from .solve.status import Status

Array = NDArray[np.float64]
NEWTON_STEPS = 30
SETTLED = 1e-9  # relative error, as Newton's step tells it, at which a state is steady
NOISE = 1e-6  # relative error that may be the solver's own, where steps no longer become smaller
SMALL = 1e-3  # of the largest state: what is smaller counts by this measure
CONSERVED = 1e-7  # relative size of a singular value of I - M that counts as zero

type Period = Callable[[Array, Array, Events, float, Directions, bool], tuple[Array, Array, Array, Status]]
"""State (n,), parameters (k,), events, interval, directions, whether M is wanted ->
state after it, its derivatives along the directions (nd, n), M (n, n), how it went."""


@dataclass(slots=True, eq=False)
class SteadyStates:
    """Computes steady states of one model; `status` says for each patient how it went.

    Parameters
    ----------
    compiled : the model
    period : one interval of a nonlinear model; None for a linear one
    status : (N,) array of `Status`, filled in as they are computed
    """

    compiled: Compiled
    period: Period | None
    status: list[Status] = field(default_factory=list)

    def __call__(
        self, dose: Dose, number: int, p: Array, directions: Directions, lag: Array, duration: Array, rates: list[Array]
    ) -> tuple[Array, Array]:
        """State of the compartments just before an order, (N, n), and its derivatives, (nd, n)."""
        cut, patients = self.compiled.compartments, p.shape[1]
        self.status = self.status or [Status.OK] * patients
        state, tangent = np.full((patients, cut), np.nan), np.zeros((directions.count, cut))
        for i in range(patients):
            one = p[:, i]
            events = series(self.compiled, dose, number, one, directions, lag[i], duration[i], [r[i] for r in rates])
            if not (np.isfinite(one).all() and np.isfinite(events.value).all()):
                status = Status.BAD_INPUT
            elif self.period is None:
                state[i], tangent, status = linear(self.compiled, one, events, dose, directions)
            else:
                state[i], tangent, status = nonlinear(self.compiled, one, events, dose, directions, self.period)
            self.status[i] = self.status[i] or status
        return state, tangent


def series(
    compiled: Compiled,
    dose: Dose,
    number: int,
    p: Array,
    directions: Directions,
    lag: float,
    duration: float,
    sizes: list[float],
) -> Events:
    """Events of one interval of an endless series, from one order to the next: doses, and ends of infusions.

    Parameters
    ----------
    compiled : the model
    dose : what the series repeats
    number : of its administration, among the directions
    p : (k,) array, parameters
    directions : to differentiate along
    lag, duration : of each dose [h]
    sizes : of each part, its amount or the rate of its infusion
    """
    table = p[:, None]
    fraction = timing(dose, table)[2]
    nd = directions.count
    dlag, dduration, dsizes = slopes(
        dose, number, table, directions, np.array([duration]), fraction, [np.array([s]) for s in sizes]
    )
    nothing = np.zeros(nd)
    rows: list[tuple[float, int, int, float, Array, Array]] = []
    entries = compiled.entries(p)
    dentries = compiled.entries_dp(p) @ directions.parameters.T if nd else np.zeros((*entries.shape, 0))
    constant, infused = dose.administration.constant, dose.rate.given or dose.duration.given
    every = dose.administration.every
    for (route, _), size, dsize in zip(dose.parts, sizes, dsizes, strict=True):
        if constant:
            rows.append((0.0, RATE, route, size, nothing, dsize))
        elif infused:
            phase = float(periods(np.array(lag), every)[1])
            whole, end = (float(x) for x in periods(np.array(phase + duration), every))
            rows += [(0.0, RATE, route, size, nothing, dsize)] * int(whole)
            rows.append((phase, RATE, route, size, dlag, dsize))
            rows.append((end, RATE, route, -size, dlag + dduration, -dsize))
        else:
            phase = float(periods(np.array(lag), every)[1])
            for i in np.flatnonzero((entries[route] != 0.0) | np.any(dentries[route] != 0.0, axis=1)):
                slope = dsize * entries[route, i] + size * dentries[route, i] if nd else nothing
                rows.append((phase, Kind.ADD_STATE, int(i), size * entries[route, i], dlag, slope))
    rows.sort(key=lambda row: row[0])
    time, kind, index, value, dtime, dvalue = zip(*rows, strict=True) if rows else ((),) * 6
    return Events(
        kind=np.array([kind], dtype=np.int64).reshape(1, -1),
        index=np.array([index], dtype=np.int64).reshape(1, -1),
        time=np.array([time], dtype=float).reshape(1, -1),
        value=np.array([value], dtype=float).reshape(1, -1),
        dtime=np.array(dtime, dtype=float).reshape(len(rows), nd),
        dvalue=np.array(dvalue, dtype=float).reshape(len(rows), nd),
    )


def linear(
    compiled: Compiled, p: Array, events: Events, dose: Dose, directions: Directions
) -> tuple[Array, Array, Status]:
    """Steady state of a linear model, (n,), its derivatives, (nd, n), and how it went."""
    cut, n, nd = compiled.compartments, len(compiled.states), directions.count
    a, _, c = compiled.matrices(p)
    alone = dose.administration.steady == "add"  # what is made all the time is there already
    failed = np.full(cut, np.nan), np.zeros((nd, cut))
    if dose.administration.constant:
        return _under_constant(compiled, p, events, directions, a[:cut, :cut], c[:cut] * (not alone), alone)
    every = np.array([dose.administration.every])
    moved = propagators(a[:cut, :cut], float(every[0]))
    if moved.status != Status.OK:
        return *failed, moved.status
    if (status := _settles(moved.D, a[:cut, :cut])) != Status.OK:
        return *failed, status
    zero, none = np.zeros(n), np.zeros((nd, n))
    still = Directions.of(np.zeros((0, p.size)), directions.doses.shape[1])
    gain = propagate(compiled, p, still, zero, none[:0], every, _undirected(events), alone=alone)
    start = zero.copy()
    start[:cut] = -np.linalg.solve(moved.D, gain.states[0, :cut])
    if not nd or gain.status != Status.OK:
        return start[:cut], failed[1], gain.status
    around = propagate(compiled, p, directions, start, none, every, events, alone=alone)
    return start[:cut], -np.linalg.solve(moved.D, around.tangents[0, :, :cut].T).T, around.status


def _undirected(events: Events) -> Events:
    """The same events, not differentiated."""
    none = np.zeros((events.time.shape[1], 0))
    return Events(events.kind, events.index, events.time, events.value, none, none)


def _settles(change: Array, a: Array) -> Status:
    """Whether exp(A T) - I can be inverted, and what is left dies out."""
    scale = np.abs(change).max(axis=0, initial=0.0)
    n = len(a)
    if n and ((scale == 0.0).any() or np.linalg.cond(change / scale) > 1.0 / (n * np.finfo(float).eps)):
        return Status.NO_STEADY_STATE
    return Status.NO_STEADY_STATE if n and np.linalg.eigvals(a).real.max() >= 0.0 else Status.OK


def _under_constant(
    compiled: Compiled, p: Array, events: Events, directions: Directions, a: Array, c: Array, alone: bool
) -> tuple[Array, Array, Status]:
    """Steady state under a constant infusion: 0 = A y + c + r."""
    cut, nd = len(a), directions.count
    if (status := _settles(a, a)) != Status.OK:
        return np.full(cut, np.nan), np.zeros((nd, cut)), status
    entries = compiled.entries(p)[:, :cut]
    routes, sizes = events.index[0], events.value[0]
    state = -np.linalg.solve(a, c + sizes @ entries[routes])
    if not nd:
        return state, np.zeros((0, cut)), Status.OK
    da, _, dc = (np.tensordot(directions.parameters, d, axes=1) for d in compiled.dmatrices(p))
    dentries = (compiled.entries_dp(p) @ directions.parameters.T)[:, :cut]
    right = da[:, :cut, :cut] @ state + events.dvalue.T @ entries[routes]
    right += np.einsum("e,end->dn", sizes, dentries[routes])
    right += 0.0 if alone else dc[:, :cut]
    return state, -np.linalg.solve(a, right.T).T, Status.OK


def nonlinear(
    compiled: Compiled, p: Array, events: Events, dose: Dose, directions: Directions, period: Period
) -> tuple[Array, Array, Status]:
    """Steady state of any model by Newton's method, (n,), its derivatives, (nd, n), and how it went."""
    cut, nd = compiled.compartments, directions.count
    a = dose.administration
    every = a.every or 24.0  # under a constant infusion any interval will do
    still = Directions.of(np.zeros((0, p.size)), directions.doses.shape[1])
    y = compiled.initial(p)[:cut]
    dy0 = (compiled.initial_dp(p) @ directions.parameters.T)[:cut].T if nd else np.zeros((0, cut))
    quiet = _undirected(events)
    for _ in range(2):  # a state that the doses have reached, not the empty one
        y, _, _, status = period(y, p, quiet, every, still, False)
        if status != Status.OK:
            return np.full(cut, np.nan), np.zeros((nd, cut)), status
    best = np.inf
    for _ in range(NEWTON_STEPS):
        after, _, m, status = period(y, p, quiet, every, still, True)
        if status != Status.OK:
            return np.full(cut, np.nan), np.zeros((nd, cut)), status
        kept, residual = _conserved(m), after - y
        step = _solve(m, kept, residual, np.zeros(len(kept)))
        largest = np.maximum(np.abs(y), np.abs(after)).max(initial=1e-300)
        error = float(np.max(np.abs(step) / (SMALL * largest + np.abs(after)), initial=0.0))
        if error <= SETTLED or (error <= NOISE and error >= 0.5 * best):  # settled, or as far as the solver's noise
            break
        best = min(best, error)
        y = _damped(y, step, after)
    else:
        return np.full(cut, np.nan), np.zeros((nd, cut)), Status.NO_STEADY_STATE
    if np.any(np.abs(kept @ residual) > NOISE * largest):  # something only collects
        return np.full(cut, np.nan), np.zeros((nd, cut)), Status.NO_STEADY_STATE
    y = y + step
    if not nd:
        return y, np.zeros((0, cut)), Status.OK
    _, along, m, status = period(y, p, events, every, directions, True)
    kept = _conserved(m)
    return y, np.array([_solve(m, kept, r, kept @ d) for r, d in zip(along, dy0, strict=True)]), status


def _conserved(m: Array) -> Array:
    """Combinations of states that an interval does not change: left null vectors of I - M, (c, n)."""
    if not len(m):
        return np.zeros((0, 0))
    left, size, _ = np.linalg.svd(np.eye(len(m)) - m)
    return np.asarray(left[:, size <= CONSERVED * size[0]].T)


def _solve(m: Array, kept: Array, right: Array, total: Array) -> Array:
    """(I - M) x = right with kept x = total."""
    whole = np.vstack([np.eye(len(m)) - m, kept])
    return np.asarray(np.linalg.lstsq(whole, np.concatenate([right, total]), rcond=None)[0])


def _damped(y: Array, step: Array, after: Array) -> Array:
    """Newton's next state; where it would make a full compartment negative, that of the period instead."""
    new = y + step
    return after if np.any((new < 0) & (after > 0) & (new < -1e-6 * np.abs(after).max())) else new
