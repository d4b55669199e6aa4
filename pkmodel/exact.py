"""Linear models, exactly, through every event: dx/dt = A x + B u(t) + c + infusions, piece by piece.

Between two stops the solution is a product with exp(A h) and its integrals (`solve.linear`). A piece of the timeline
ends where a state is set or a parameter switches; from piece to piece state and tangents are carried over.

No solver is needed for the derivative by the time of an event. Where an event at t moves by dt along a direction, the
tangent s just after it is s+ = s- + (f(y-) - f(y+)) dt, and in a linear model f(y-) - f(y+) = -(A dy + dr + B du): it
depends on the jump alone (dy of the state, dr of the infusions, du of the inputs), so it is a jump of the tangent known
beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .compiler.compiled import Compiled
from .covariates import Steps
from .events import RATE, STOP, Directions, Events
from .inputs import segments
from .solve.exponential import march
from .solve.records import Kind
from .solve.status import Status

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Drive:
    """A piecewise linear input as it stands for one set of parameters.

    Parameters
    ----------
    knots, value : (k,) arrays, its delay included [h, input]
    ddelay : (nd,) array, derivative of the delay [h]
    """

    knots: Array
    value: Array
    ddelay: Array


@dataclass(frozen=True, slots=True, eq=False)
class Exact:
    """States (m, n) and tangents (m, nd, n) at the times asked for, and how it went."""

    states: Array
    tangents: Array
    status: Status


@dataclass(slots=True, eq=False)
class _Infusions:
    """Rates of the routes as they run, with their tangents."""

    rate: Array  # (routes,)
    slope: Array  # (nd, routes)
    running: list[int] = field(default_factory=list)

    def change(self, route: int, value: float, dvalue: Array) -> tuple[float, Array]:
        """Add to a rate; how much it changed. The last to end leaves an exact zero, not a rounding."""
        before, dbefore = self.rate[route], self.slope[:, route].copy()
        self.running[route] += 1 if value > 0 else -1 if value < 0 else 0
        self.rate[route] = before + value if self.running[route] else 0.0
        self.slope[:, route] = dbefore + dvalue if self.running[route] else 0.0
        return self.rate[route] - before, self.slope[:, route] - dbefore

    def stop(self) -> None:
        self.rate[:], self.slope[:] = 0.0, 0.0
        self.running = [0] * len(self.running)


@dataclass(slots=True, eq=False)
class _Piece:
    """The system while no parameter switches."""

    A: Array
    B: Array
    c: Array
    dA: Array
    dB: Array
    dc: Array
    fractions: Array  # (routes, n)
    dfractions: Array  # (routes, n, nd)

    @classmethod
    def of(cls, compiled: Compiled, p: Array, along: Array) -> _Piece:
        nd, n = along.shape[0], len(compiled.states)
        fractions = compiled.entries(p)
        if not nd:
            a, b, c = compiled.matrices(p)
            none = np.zeros((len(compiled.routes), n, 0))
            return cls(a, b, c, np.empty((0, *a.shape)), np.empty((0, *b.shape)), np.empty((0, n)), fractions, none)
        a, b, c = compiled.matrices(p)
        da, db, dc = (np.tensordot(along, d, axes=1) for d in compiled.dmatrices(p))
        return cls(a, b, c, da, db, dc, fractions, compiled.entries_dp(p) @ along.T)


def propagate(
    compiled: Compiled,
    p: Array,
    directions: Directions,
    start: Array,
    dstart: Array,
    times: Array,
    events: Events,
    drives: Sequence[Drive] = (),
    steps: Steps | None = None,
    alone: bool = False,
) -> Exact:
    """Follow a linear model through its events.

    Parameters
    ----------
    compiled : a linear model
    p : (k,) array, parameters at time zero [canonical]
    directions : to differentiate along
    start, dstart : (n,), (nd, n) arrays, state at time zero before any event
    times : (m,) array, increasing, from 0 [h]
    events : of this one patient
    drives : its inputs, in the order of the model
    steps : covariates
    alone : follow what is given alone, without what the body makes (c = 0)

    Returns
    -------
    Exact
        States are those after all events of their time. A failure is a status.
    """
    n, nd = len(compiled.states), directions.count
    there = np.flatnonzero(events.time[0] < np.inf)
    when = events.time[0, there]
    if not (np.isfinite(p).all() and np.isfinite(events.value[0, there]).all()):
        return _failed(times, nd, n, Status.BAD_INPUT)
    last = max(float(times[-1]), 0.0)
    switches = steps.times if steps and steps.by else np.zeros(0)
    grid = np.unique(np.concatenate([[0.0], times, when, switches, *(d.knots for d in drives)]))
    grid = grid[(grid >= 0.0) & (grid <= last)]
    rows = np.searchsorted(grid, when)
    edges = _edges(grid, rows[(events.kind[0, there] == Kind.SET_STATE) | (events.kind[0, there] == STOP)], switches)
    X, S = np.empty((grid.size, n)), np.empty((grid.size, nd, n))
    x, s = start.copy(), np.ascontiguousarray(dstart)
    flow = _Infusions(np.zeros(len(compiled.routes)), np.zeros((nd, len(compiled.routes))), [0] * len(compiled.routes))
    for k, (a, b) in enumerate(pairwise(edges)):
        now = p if steps is None or not steps.by else steps.values(p[:, None], 0.5 * (grid[a] + grid[b]))[:, 0]
        with np.errstate(all="ignore"):
            piece = _Piece.of(compiled, now, directions.parameters)
        if alone:
            piece.c, piece.dc = np.zeros_like(piece.c), np.zeros_like(piece.dc)
        mine = (rows >= a) & ((rows < b) | (k == len(edges) - 2))
        line = _line(piece, grid[a : b + 1], drives, directions, n)
        _act(events, there[mine], rows[mine] - a, piece, flow, line, x, s)
        code = march(
            piece.A, piece.B, piece.c, piece.dA, piece.dB, piece.dc, x, s, grid[a : b + 1].copy(), line.jumps,
            line.djumps, line.rates, line.drates, line.u0, line.du, line.du0_d, np.zeros_like(line.du0_d),
            X[a : b + 1], S[a : b + 1],
        )  # fmt: skip
        if code:
            return _failed(times, nd, n, Status(code))
        x, s = X[b].copy(), S[b].copy()
    at = np.searchsorted(grid, times)
    return Exact(X[at], S[at], Status.OK)


def _failed(times: Array, nd: int, n: int, status: Status) -> Exact:
    return Exact(np.full((times.size, n), np.nan), np.full((times.size, nd, n), np.nan), status)


def _edges(grid: Array, sets: NDArray[np.intp], switches: Array) -> list[int]:
    """Rows of the grid at which pieces begin and end; a state that is set at the end is a piece of no length."""
    end = grid.size - 1
    inside = switches[(switches > 0) & (switches < grid[-1])]
    edges = sorted({0, end, *sets.tolist(), *np.searchsorted(grid, inside).tolist()})
    return edges + [end] * (end == 0 or end in sets)


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """What `solve.timeline` wants of one piece of m segments."""

    jumps: Array  # (m+1, n)
    djumps: Array  # (nd, m+1, n)
    rates: Array  # (m, n)
    drates: Array  # (nd, m, n)
    u0: Array  # (m, q)
    du: Array  # (m, q)
    du0_d: Array  # (nd, m, q)


def _line(piece: _Piece, grid: Array, drives: Sequence[Drive], directions: Directions, n: int) -> _Line:
    """The inputs of a piece; a curve that moves to the right by its delay changes by -slope, and jumps later."""
    m, q, nd = grid.size - 1, len(drives), directions.count
    line = _Line(
        np.zeros((m + 1, n)), np.zeros((nd, m + 1, n)), np.zeros((m, n)), np.zeros((nd, m, n)),
        np.zeros((m, q)), np.zeros((m, q)), np.zeros((nd, m, q)),
    )  # fmt: skip
    for j, drive in enumerate(drives):
        line.u0[:, j], line.du[:, j] = segments(grid, drive.knots, drive.value)
        if drive.ddelay.any():
            line.du0_d[:, :, j] = -drive.ddelay[:, None] * line.du[:, j]
            jump = drive.value[0]
            if jump != 0.0 and grid[0] < drive.knots[0] <= grid[-1]:
                row = int(np.searchsorted(grid, drive.knots[0]))
                line.djumps[:, row] -= drive.ddelay[:, None] * (piece.B[:, j] * jump)
    return line


def _act(
    events: Events, mine: NDArray[np.intp], at: NDArray[np.intp], piece: _Piece, flow: _Infusions, line: _Line,
    x: Array, s: Array,
) -> None:  # fmt: skip
    """Write the events of a piece into its line; states that are set, which happens at its start, into x and s."""
    m = line.rates.shape[0]
    row = 0
    for k, r in zip(mine.tolist(), at.tolist(), strict=True):
        _fill(flow, piece, line, row, r)
        row = r
        kind, index, value = int(events.kind[0, k]), int(events.index[0, k]), float(events.value[0, k])
        dvalue, dtime = events.dvalue[k], events.dtime[k]
        if kind == Kind.ADD_STATE:
            line.jumps[r, index] += value
            line.djumps[:, r, index] += dvalue
            if dtime.any():
                line.djumps[:, r] -= dtime[:, None] * (piece.A[:, index] * value)
        elif kind == RATE:
            change, _ = flow.change(index, value, dvalue)
            if dtime.any():
                line.djumps[:, r] -= dtime[:, None] * (piece.fractions[index] * change)
        elif kind == STOP:
            if dtime.any():
                line.djumps[:, r] += dtime[:, None] * (flow.rate @ piece.fractions)
            flow.stop()
        else:  # what the events before it in this row have added is gone
            y = x + line.jumps[r]
            if dtime.any():
                line.djumps[:, r] -= dtime[:, None] * (piece.A[:, index] * (value - y[index]))
                y[index] = value
                dvalue = dvalue - dtime * (piece.A[index] @ y + _inflow(piece, flow, line, r)[index])
            x[index], s[:, index] = value, dvalue
            line.jumps[r, index], line.djumps[:, r, index] = 0.0, 0.0
    _fill(flow, piece, line, row, m)


def _inflow(piece: _Piece, flow: _Infusions, line: _Line, row: int) -> Array:
    """What enters the states at a row whatever is in them: production, inputs and infusions."""
    inputs = piece.B @ line.u0[row] if row < len(line.u0) else np.zeros(len(piece.c))
    return np.asarray(piece.c + inputs + flow.rate @ piece.fractions)


def _fill(flow: _Infusions, piece: _Piece, line: _Line, begin: int, end: int) -> None:
    """Infusions as they run now, for some segments."""
    if begin < end and any(flow.running):
        line.rates[begin:end] = flow.rate @ piece.fractions
        if line.drates.size:
            line.drates[:, begin:end] = (
                flow.slope @ piece.fractions + np.einsum("r,rnd->dn", flow.rate, piece.dfractions)
            )[:, None, :]
