"""From a regimen to elementary events: what is added to or set in which state when, and which infusion runs how fast.

The meaning of an administration is that of NONMEM's dosing record (NONMEM Users Guide VI, ch. V):

* A dose ordered at t enters at t + lag. The lag, the fraction absorbed and the duration are those that hold at the
  order, not when the dose enters; one order of repeated doses reads them once, for all of them.
* A rate r lets F dose / r hours pass (the fraction absorbed shortens the infusion), a duration D gives F dose / D.
* A reset sets every compartment to its initial state, stops what is infused, and cancels what is still to come of
  earlier orders: lagged doses, and the rest of a repeated dose. Integrals of observables run on.
* A dose in steady state is the last of a series that began long ago, lags and all: what the series has still to bring
  (lagged doses, infusions longer than the interval) comes after t. As a replacement it cancels earlier orders as a
  reset does; added, it lies on top of what is there, which holds for linear models only.
* A constant infusion in steady state ends at its time t.
* Events of equal time act in the order of the regimen; results at such a time are those after all of them.

Other programs differ. NONMEM 7.4.3 itself runs a steady state backwards in time where the lag is longer than the
interval, to negative concentrations until the next dose enters; here the steady state holds from t on. mrgsolve has
read F and durations that vary in time at the dose itself instead of its order, and has differed in a lag longer than
the interval (its issues 239, 270, 808); rxode2 refuses or changes some of these by option (its issue 717).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .compiler.compiled import Compiled
from .dosing import Dose
from .solve.records import Kind

Array = NDArray[np.float64]
Whole = NDArray[np.int64]

RATE = 10  # add to the rate of a route; the kinds below it are those of `Kind`
STOP = 11  # stop every infusion
ROUNDING = 1e-12  # relative, of times


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """What to differentiate along: nd directions through parameters, doses and their times.

    Parameters
    ----------
    parameters : (nd, k) array, derivative of each parameter [canonical unit per unit of the direction]
    doses : (nd, number of administrations) array, derivative of each dose, relative to the dose [1]
    times : (nd, number of administrations) array, derivative of the time of each order [h]
    """

    parameters: Array
    doses: Array
    times: Array

    @property
    def count(self) -> int:
        """Number of directions."""
        return int(self.parameters.shape[0])

    @classmethod
    def of(cls, parameters: Array, administrations: int) -> Directions:
        """Directions through parameters alone, (nd, k)."""
        none = np.zeros((parameters.shape[0], administrations))
        return cls(parameters, none, none)


class SteadyState(Protocol):
    """What computes the state that a series of doses leaves behind."""

    def __call__(
        self, dose: Dose, number: int, p: Array, directions: Directions, lag: Array, duration: Array, rates: list[Array]
    ) -> tuple[Array, Array]:
        """State of the compartments just before the order, (N, n), and its derivatives, (nd, n)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Elementary events of N patients, sorted by time; a time of infinity is no event.

    Parameters
    ----------
    kind, index : (N, E) arrays, `Kind`, RATE or STOP, and the number of the state or route
    time, value : (N, E) arrays [h, amount or amount/h]
    dtime, dvalue : (E, nd) arrays of the one patient that is differentiated
    late : number of orders after the end of the run
    """

    kind: Whole
    index: Whole
    time: Array
    value: Array
    dtime: Array
    dvalue: Array
    late: int = 0


@dataclass(slots=True)
class _Columns:
    """Events as they are found, one column for all patients."""

    patients: int
    directions: int
    kind: list[int] = field(default_factory=list)
    index: list[int] = field(default_factory=list)
    owner: list[int] = field(default_factory=list)
    time: list[Array] = field(default_factory=list)
    value: list[Array] = field(default_factory=list)
    dtime: list[Array] = field(default_factory=list)
    dvalue: list[Array] = field(default_factory=list)

    def add(
        self, owner: int, kind: int, index: int, time: Array, value: Array, dtime: Array, dvalue: Array | None = None
    ) -> None:
        self.owner.append(owner)
        self.kind.append(kind)
        self.index.append(index)
        self.time.append(time)
        self.value.append(value)
        self.dtime.append(dtime)
        self.dvalue.append(np.zeros(self.directions) if dvalue is None else dvalue)

    def table(self, name: str, rows: int) -> Array:
        columns = getattr(self, name)
        return np.array(columns).T.reshape(rows, len(columns)) if columns else np.zeros((rows, 0))


def events_of(
    compiled: Compiled,
    doses: Sequence[Dose],
    values: Callable[[float], Array],
    directions: Directions,
    times: Array,
    steady: SteadyState,
) -> Events:
    """Elementary events of a schedule.

    Parameters
    ----------
    compiled : the model
    doses : what is given (`dosing.doses_of`), in order of time
    values : parameters, (k, N), that hold at a time [h]
    directions : with N = 1 only, else empty
    times : (m,) array, times of the results: an event within rounding of one is at that time [h]
    steady : computes steady states

    Returns
    -------
    Events
        Of each patient; impossible numbers (a negative lag or duration) are values that are not numbers.
    """
    p = values(0.0)
    columns = _Columns(p.shape[1], directions.count)
    last = max(float(times[-1]), 0.0)
    late = 0
    for number, dose in enumerate(doses):
        if float(snap(np.array(dose.administration.time), times)) > last:
            late += 1
            continue
        _expand(columns, compiled, number, dose, values(dose.administration.order), directions, steady)
    time = columns.table("time", columns.patients)
    value = columns.table("value", columns.patients)
    _cancel(time, columns, doses)
    time = snap(time, times)
    value, time = np.where(time >= 0.0, value, np.nan), np.where(time >= 0.0, time, 0.0)
    time = np.where(time > last, np.inf, time)
    dtime, dvalue = (columns.table(n, columns.directions).T for n in ("dtime", "dvalue"))
    kind = np.broadcast_to(np.array(columns.kind, dtype=np.int64), time.shape)
    index = np.broadcast_to(np.array(columns.index, dtype=np.int64), time.shape)
    if time.shape[1] > 1 and np.any(time[:, 1:] < time[:, :-1]):
        order = np.argsort(time, axis=1, kind="stable")
        kind, index = (np.take_along_axis(a, order, axis=1) for a in (kind, index))
        time, value = (np.take_along_axis(a, order, axis=1) for a in (time, value))
        dtime, dvalue = (a[order[0]] for a in (dtime, dvalue))
    return Events(kind, index, time, value, dtime, dvalue, late)


@dataclass(frozen=True, slots=True, eq=False)
class Fixed:
    """A schedule of plain doses, sorted once: only what each state receives of a dose depends on parameters.

    Parameters
    ----------
    kind, index : (E,) arrays, ADD_STATE and the state, or RATE and the route
    route, owner : (E,) arrays, number of the route and of the administration
    time, size : (E,) arrays [h, dose or rate]
    late : number of orders after the end of the run
    """

    kind: Whole
    index: Whole
    route: Whole
    owner: Whole
    time: Array
    size: Array
    late: int

    def events(self, compiled: Compiled, p: Array, directions: Directions) -> Events:
        """The events of N patients, at parameters (k, N)."""
        shape = (p.shape[1], self.time.size)
        kind, index = (np.broadcast_to(a, shape) for a in (self.kind, self.index))
        time = np.broadcast_to(self.time, shape)
        bolus = self.kind == Kind.ADD_STATE
        value = np.broadcast_to(self.size, shape).copy()
        none = np.zeros((self.time.size, directions.count))
        if not self.time.size:
            return Events(kind, index, time, value, none, none, self.late)
        received = compiled.entries_of(p)[self.route[bolus], self.index[bolus]].T
        value[:, bolus] *= received
        if not directions.count:
            return Events(kind, index, time, value, none, none, self.late)
        dvalue = value[0][:, None] * directions.doses[:, self.owner].T
        along = _along_entries(compiled, p, directions)[self.route[bolus], self.index[bolus]]
        dvalue[bolus] += self.size[bolus, None] * along
        return Events(kind, index, time, value, directions.times[:, self.owner].T, dvalue, self.late)


def fixed(compiled: Compiled, doses: Sequence[Dose], targets: Sequence[Sequence[int]], times: Array) -> Fixed | None:
    """The schedule where nothing but the fractions of its routes depends on parameters, else None.

    Parameters
    ----------
    compiled : the model
    doses : what is given
    targets : per route, the states that receive a dose
    times : (m,) array, times of the results [h]
    """
    last, late = max(float(times[-1]), 0.0), 0
    rows: list[tuple[float, int, int, int, int, float]] = []
    nowhere = np.zeros((len(compiled.parameters), 1))
    for number, dose in enumerate(doses):
        a = dose.administration
        if a.steady or a.reset or any(t.value for t in (dose.lag, dose.fraction, dose.duration, dose.rate)):
            return None
        if float(snap(np.array(a.time), times)) > last:
            late += 1
            continue
        lag, duration, _, sizes = timing(dose, nowhere)
        start = a.time + float(lag[0])
        for (route, _), size in zip(dose.parts, sizes, strict=True):
            if dose.rate.given or dose.duration.given:
                rows.append((start, RATE, route, route, number, float(size[0])))
                rows.append((start + float(duration[0]), RATE, route, route, number, -float(size[0])))
            else:
                rows += [(start, Kind.ADD_STATE, i, route, number, float(size[0])) for i in targets[route]]
    time = snap(np.array([r[0] for r in rows]), times)
    order = np.argsort(time, kind="stable")
    order = order[time[order] <= last]
    whole = np.array([r[1:5] for r in rows], dtype=np.int64).reshape(-1, 4)[order]
    kind, index, into, owner = whole.T
    return Fixed(kind, index, into, owner, time[order], np.array([r[5] for r in rows])[order], late)


def snap(t: Array, grid: Array) -> Array:
    """Times, each that is within rounding of one of the grid moved there: 0.1 h three times is not 0.3 h."""
    near = np.clip(np.searchsorted(grid, t), 0, grid.size - 1)
    before = np.maximum(near - 1, 0)
    with np.errstate(invalid="ignore"):
        near = np.where(np.abs(grid[before] - t) < np.abs(grid[near] - t), before, near)
        close = np.isfinite(t) & (np.abs(grid[near] - t) <= ROUNDING * np.maximum(1.0, np.abs(t)))
    return np.where(close, grid[near], t)


def periods(length: Array, interval: float) -> tuple[Array, Array]:
    """Whole intervals in a length of time and what is left, so that an interval less a rounding is a whole one."""
    whole = np.floor(length / interval * (1 + 4e-16) + ROUNDING)
    return whole, np.maximum(length - whole * interval, 0.0)


def timing(dose: Dose, p: Array) -> tuple[Array, Array, Array, list[Array]]:
    """Lag, duration and fraction absorbed of a dose, (N,) each, and per part its amount or, infused, its rate."""
    a = dose.administration
    lag, fraction, duration = (t.of(p) for t in (dose.lag, dose.fraction, dose.duration))
    lag, fraction = (np.where(x >= 0, x, np.nan) for x in (lag, fraction))
    amounts = [fraction * amount for _, amount in dose.parts]
    with np.errstate(all="ignore"):
        if a.constant:
            return lag, duration, fraction, amounts
        if dose.rate.given:
            rate = np.where(dose.rate.of(p) > 0, dose.rate.of(p), np.nan)
            share = [amount / a.given if a.given else 0.0 for _, amount in dose.parts]
            return lag, fraction * a.given / rate, fraction, [s * rate for s in share]
        if dose.duration.given:
            duration = np.where(duration > 0, duration, np.nan)
            return lag, duration, fraction, [amount / duration for amount in amounts]
    return lag, duration, fraction, amounts


def _expand(
    columns: _Columns,
    compiled: Compiled,
    number: int,
    dose: Dose,
    p: Array,
    directions: Directions,
    steady: SteadyState,
) -> None:
    """Events of one administration."""
    a, n = dose.administration, columns.patients
    start, dstart = np.full(n, a.time), directions.times[:, number]
    if a.reset:
        _set(columns, compiled, number, start, dstart, *_initial(compiled, p, directions))
    if not dose.parts:
        return
    lag, duration, fraction, sizes = timing(dose, p)
    dlag, dduration, dsizes = slopes(dose, number, p, directions, duration, fraction, sizes)
    infused = dose.rate.given or dose.duration.given
    entries, dentries = compiled.entries_of(p), _along_entries(compiled, p, directions)

    def enter(on: Array, off: Array, there: NDArray[np.bool_], don: Array, doff: Array) -> None:
        """One dose, at once or from `on` to `off`, for the patients where it is there."""
        begin, end = np.where(there, on, np.inf), np.where(there, off, np.inf)
        for (route, _), size, dsize in zip(dose.parts, sizes, dsizes, strict=True):
            if infused:
                columns.add(number, RATE, route, begin, size, don, dsize)
                columns.add(number, RATE, route, end, -size, doff, -dsize)
                continue
            for i in np.flatnonzero(np.any(entries[route] != 0.0, axis=1) | np.any(dentries[route] != 0.0, axis=1)):
                slope = dsize * entries[route, i, 0] + size[0] * dentries[route, i] if directions.count else dsize
                columns.add(number, Kind.ADD_STATE, int(i), begin, size * entries[route, i], don, slope)

    everyone = np.ones(n, dtype=bool)
    if a.steady:
        state, dstate = steady(dose, number, p, directions, lag, duration, sizes)
        if a.steady == "add":
            for i in range(compiled.compartments):
                columns.add(number, Kind.ADD_STATE, i, start, state[:, i], dstart, dstate[:, i])
        else:
            _set(columns, compiled, number, start, dstart, state, dstate)
        if a.constant:
            return
        whole, phase = periods(lag, a.every)
        for j in range(1, int(np.nanmax(periods(lag + duration, a.every)[0], initial=0)) + 1):
            on = a.time + phase + (whole - j) * a.every
            runs = infused & (on < a.time) & (on + duration >= a.time * (1 - ROUNDING))
            enter(start, np.maximum(on + duration, a.time), runs, dstart, dstart + dlag + dduration)
            enter(on, on + duration, on >= a.time, dstart + dlag, dstart + dlag + dduration)
    enter(a.time + lag, a.time + lag + duration, everyone, dstart + dlag, dstart + dlag + dduration)


def slopes(
    dose: Dose, number: int, p: Array, directions: Directions, duration: Array, fraction: Array, sizes: list[Array]
) -> tuple[Array, Array, list[Array]]:
    """Derivatives of lag, duration and sizes along the directions, (nd,) each."""
    nd = directions.count
    if nd == 0:
        none = np.zeros(0)
        return none, none, [none] * len(sizes)
    a, along = dose.administration, directions.parameters
    dlag, dfraction = dose.lag.along(p, along), dose.fraction.along(p, along)
    relative = dfraction / fraction[0] + directions.doses[:, number] if fraction[0] else np.zeros(nd)
    if dose.rate.given and not a.constant:
        rate = dose.rate.of(p)[0]
        drate = dose.rate.along(p, along)
        return dlag, duration[0] * (relative - drate / rate), [s[0] / rate * drate for s in sizes]
    amounts = [amount * (dfraction + fraction[0] * directions.doses[:, number]) for _, amount in dose.parts]
    if not dose.duration.given:
        return dlag, np.zeros(nd), amounts
    dduration = dose.duration.along(p, along)
    return dlag, dduration, [(d - s[0] * dduration) / duration[0] for d, s in zip(amounts, sizes, strict=True)]


def _along_entries(compiled: Compiled, p: Array, directions: Directions) -> Array:
    """Derivative of what each state receives, (routes, n, nd)."""
    if not directions.count:
        return np.zeros((len(compiled.routes), len(compiled.states), 0))
    return compiled.entries_dp(p[:, 0]) @ directions.parameters.T


def _initial(compiled: Compiled, p: Array, directions: Directions) -> tuple[Array, Array]:
    """Initial state of the compartments, (N, n), and its derivatives, (nd, n)."""
    cut = compiled.compartments
    tangent = (
        (compiled.initial_dp(p[:, 0]) @ directions.parameters.T)[:cut].T if directions.count else np.zeros((0, cut))
    )
    return compiled.initial_of(p)[:cut].T, tangent


def _set(
    columns: _Columns, compiled: Compiled, number: int, start: Array, dstart: Array, state: Array, dstate: Array
) -> None:
    """Stop every infusion and set every compartment."""
    columns.add(number, STOP, 0, start, np.zeros(columns.patients), dstart)
    for i in range(compiled.compartments):
        columns.add(number, Kind.SET_STATE, i, start, state[:, i], dstart, dstate[:, i])


def _cancel(time: Array, columns: _Columns, doses: Sequence[Dose]) -> None:
    """Move to infinity what a reset, or a steady state that replaces, cancels of earlier orders."""
    owner = np.array(columns.owner, dtype=np.int64)
    for number, dose in enumerate(doses):
        a = dose.administration
        if not (a.reset or a.steady == "replace"):
            continue
        for other, earlier in enumerate(doses):
            b = earlier.administration
            if other != number and (b.order < a.time or (b.order == a.time == b.time and other < number)):
                mine = owner == other
                time[:, mine] = np.where(time[:, mine] >= a.time, np.inf, time[:, mine])
