"""Events, inputs and covariates as the records of an autonomous system (`solve.records`), for one patient or for many.

In an autonomous system an infusion is a parameter, switched on and off; an input is a state whose slope is a parameter,
switched at each knot; a covariate is a primary parameter, switched at each step. The derivatives of the records along
directions come with them: a delay moves knots, a lag moves doses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .compiler.autonomous import Autonomous, rate_of, slope_of
from .compiler.compiled import Compiled
from .covariates import Steps
from .events import RATE, STOP, Events
from .inputs import values
from .solve.records import Kind, Records

Array = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """Records with their derivatives, and which patients were given something impossible.

    Parameters
    ----------
    records : of N patients
    dvalue, dtime : (E, nd) arrays, of the one patient that is differentiated
    bad : (N,) array; such a patient's records are empty
    """

    records: Records
    dvalue: Array
    dtime: Array
    bad: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """An input for N patients: its knots may be delayed by another time in each.

    Parameters
    ----------
    t, value : (k,) arrays [h, input]
    delay : (N,) array [h]
    ddelay : (nd,) array, of the one patient that is differentiated [h]
    """

    t: Array
    value: Array
    delay: Array
    ddelay: Array


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Records not yet merged: (N, E) arrays, and (E, nd) derivatives."""

    time: Array
    kind: Whole
    index: Whole
    value: Array
    dvalue: Array
    dtime: Array


def record(
    compiled: Compiled,
    system: Autonomous,
    events: Events,
    curves: Sequence[Curve],
    steps: Steps,
    last: float,
    p: Array,
    along: Array,
) -> Recorded:
    """Everything that happens, as records.

    Parameters
    ----------
    compiled : the model
    system : its autonomous form
    events : of the doses
    curves : of the inputs, in the order of the model
    steps : covariates
    last : time after which nothing matters [h]
    p : (k, N) array, parameters
    along : (nd, k) array, how those of the one patient that is differentiated change
    """
    patients, nd = events.time.shape[0], events.dtime.shape[1]
    tables = [_of_curve(system, name, c, nd, last) for name, c in zip(compiled.inputs, curves, strict=True)]
    if steps.by:
        tables.append(_of_covariates(steps, patients, nd, last))
    tables += _of_switches(compiled, system, steps, last, p, along)
    whole = _joined([*tables, *_of_events(compiled, system, events)])
    happens = np.isfinite(whole.time)
    bad = (happens & ~np.isfinite(whole.value)).any(axis=1) | np.isnan(whole.time).any(axis=1)
    if happens.all() and not bad.any() and not (whole.time[:, 1:] < whole.time[:, :-1]).any():
        return Recorded(
            Records(whole.time, whole.kind.astype(np.int8), whole.index, whole.value), whole.dvalue, whole.dtime, bad
        )
    time = np.where(bad[:, None], np.inf, whole.time)
    value = np.where(np.isfinite(whole.value), whole.value, 0.0)
    order = np.argsort(time, axis=1, kind="stable")[:, : int(np.isfinite(time).sum(axis=1).max(initial=0))]
    records = Records(
        time=np.take_along_axis(time, order, axis=1),
        kind=np.take_along_axis(whole.kind, order, axis=1).astype(np.int8),
        index=np.take_along_axis(whole.index, order, axis=1),
        value=np.take_along_axis(value, order, axis=1),
    )
    dvalue, dtime = (a[order[0]] if nd else a[: order.shape[1]] for a in (whole.dvalue, whole.dtime))
    return Recorded(records, dvalue, dtime, bad)


def _of_events(compiled: Compiled, system: Autonomous, events: Events) -> list[_Table]:
    """Doses; an infusion is written as the rate that runs from then on, so that the last to end leaves a true zero."""
    kind, index, value, dvalue = events.kind, events.index, events.value, events.dvalue
    if extra := len(system.states) - len(compiled.states):
        index = np.where((kind <= Kind.SET_STATE) & (index >= compiled.compartments), index + extra, index)
    if not (kind >= RATE).any():
        return [_Table(events.time, kind, index, value, dvalue, events.dtime)]
    stop, happens = kind == STOP, np.isfinite(events.time)
    tables = []
    for route in np.unique(events.index[kind == RATE]).tolist():
        mine = (events.kind == RATE) & (events.index == route)
        at = system.parameter(rate_of(compiled.routes[route]))
        change = np.where(mine & happens, events.value, 0.0)
        sums, counts = _running(change, stop & happens), _running(np.sign(change), stop & happens)
        value = np.where(mine, np.where(counts == 0.0, 0.0, sums), value)
        kind, index = np.where(mine, Kind.SET_PARAM, kind), np.where(mine, at, index)
        if dvalue.shape[1]:
            slopes = np.where(mine[0], 1.0, 0.0)[:, None] * events.dvalue
            running = np.stack([_running(d[None], stop)[0] for d in slopes.T], axis=1)
            dvalue = np.where(mine[0][:, None], np.where(counts[0][:, None] == 0.0, 0.0, running), dvalue)
        if stop.any():
            tables.append(_stops(events, stop, at))
    time = np.where(stop, np.inf, events.time)
    return [*tables, _Table(time, np.where(stop, 0, kind), np.where(stop, 0, index), value, dvalue, events.dtime)]


def _stops(events: Events, stop: NDArray[np.bool_], parameter: int) -> _Table:
    """An infusion set to zero at each reset."""
    time = np.where(stop, events.time, np.inf)
    return _Table(
        time, np.full(time.shape, int(Kind.SET_PARAM)), np.full(time.shape, parameter), np.zeros(time.shape),
        np.zeros(events.dvalue.shape), events.dtime,
    )  # fmt: skip


def _running(change: Array, stop: NDArray[np.bool_]) -> Array:
    """Running sums along rows, begun again at each stop."""
    sums = np.cumsum(change, axis=1)
    if not stop.any():
        return sums
    at = np.maximum.accumulate(np.where(stop, np.arange(stop.shape[1]), -1), axis=1)
    before = np.take_along_axis(sums, np.maximum(at, 0), axis=1)
    return sums - np.where(at >= 0, before, 0.0)


def _of_curve(system: Autonomous, name: str, curve: Curve, nd: int, last: float) -> _Table:
    """An input: its value at zero, then value and slope from each later knot on."""
    state, slope = system.state(name), system.parameter(slope_of(name))
    patients, knots = curve.delay.size, curve.t.size
    time = curve.t[None, :] + curve.delay[:, None]
    time = np.where((time > 0.0) & (time <= last), time, np.inf)
    slopes = np.append(np.diff(curve.value) / np.diff(curve.t), 0.0)
    first, rising = values(-curve.delay, curve.t, curve.value)
    shape = (patients, knots)
    begin = np.zeros((patients, 1))
    moved = np.broadcast_to(curve.ddelay, (knots, nd))
    still = np.zeros((1, nd))
    state_part = _Table(
        np.hstack([begin, time]),
        np.full((patients, knots + 1), int(Kind.SET_STATE)),
        np.full((patients, knots + 1), state),
        np.hstack([first[:, None], np.broadcast_to(curve.value, shape)]),
        np.vstack([-rising[:1, None] * curve.ddelay[None, :], np.zeros((knots, nd))])
        if nd
        else np.zeros((knots + 1, 0)),
        np.vstack([still, moved]),
    )
    slope_part = _Table(
        state_part.time,
        np.full((patients, knots + 1), int(Kind.SET_PARAM)),
        np.full((patients, knots + 1), slope),
        np.hstack([rising[:, None], np.broadcast_to(slopes, shape)]),
        np.zeros((knots + 1, nd)),
        state_part.dtime,
    )
    return _joined([state_part, slope_part])


def _of_covariates(steps: Steps, patients: int, nd: int, last: float) -> _Table:
    """Each covariate's new value at each of its steps; the value at zero is among the parameters."""
    columns: list[tuple[float, int, Array]] = []
    for parameter, covariate in steps.by.items():
        times, numbers = covariate.switches
        for t, k in zip(times.tolist(), numbers.tolist(), strict=True):
            if 0.0 <= t <= last:
                columns.append((t, parameter, np.broadcast_to(covariate.value[..., k], (patients,))))
    size = len(columns)
    time = np.broadcast_to(np.array([c[0] for c in columns]), (patients, size))
    index = np.broadcast_to(np.array([c[1] for c in columns], dtype=np.int64), (patients, size))
    value = np.array([c[2] for c in columns]).T.reshape(patients, size)
    none = np.zeros((size, nd))
    return _Table(time, np.full((patients, size), int(Kind.SET_PARAM)), index, value, none, none)


def _of_switches(
    compiled: Compiled, system: Autonomous, steps: Steps, last: float, p: Array, along: Array
) -> list[_Table]:
    """Conditions on time: each from its moment on. Where a covariate steps, the moments are those of its new value."""
    tables = []
    begins = [0.0, *(t for t in steps.times.tolist() if 0.0 < t <= last)]
    for begin, end in zip(begins, [*begins[1:], np.inf], strict=True):
        moments = compiled.moments_of(steps.values(p, begin)).T if compiled.switches else np.zeros((p.shape[1], 0))
        shape, nd = moments.shape, len(along)
        slopes = compiled.moments_dp(steps.values(p, begin)[:, 0]) @ along.T if nd and shape[1] else None
        for j, name in enumerate(compiled.switches):
            at = system.parameter(name)
            if at < 0:
                continue
            moment = moments[:, j]
            past = moment <= begin
            later = np.where((moment > begin) & (moment < end) & (moment <= last), moment, np.inf)
            time = np.stack([np.where(np.isnan(moment), np.nan, begin), later], axis=1)
            value = np.stack([past.astype(float), np.ones(shape[0])], axis=1)
            dtime = np.zeros((2, nd))
            if slopes is not None:
                dtime[1] = slopes[j]
            kind = np.full(time.shape, int(Kind.SET_PARAM))
            tables.append(_Table(time, kind, np.full(time.shape, at), value, np.zeros((2, nd)), dtime))
    return tables


def _joined(tables: Sequence[_Table]) -> _Table:
    """Several tables side by side."""
    if len(tables) == 1:
        return tables[0]

    def wide[T: np.generic](arrays: list[NDArray[T]]) -> NDArray[T]:
        return np.concatenate(arrays, axis=1)

    return _Table(
        time=wide([t.time for t in tables]),
        kind=wide([t.kind for t in tables]),
        index=wide([t.index for t in tables]),
        value=wide([t.value for t in tables]),
        dvalue=np.concatenate([t.dvalue for t in tables]),
        dtime=np.concatenate([t.dtime for t in tables]),
    )
