"""Doses, inputs and curves of problems as the arrays of `compiler.modal_code`, and predictions from them.

One `Course` holds what is constant of some subjects (or regions): when what is given and what is read. Parameters come
later, for as many members as there are: the starts of a search, the patients of a population. All of it is one call of
compiled code. What a course cannot hold (times that formulas move, steady states, resets, covariates that change,
nonlinear models) is solved by `problem.Problem` as before; `course_of` says so by None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from ..compiler.modal_code import modal_module, modal_rows
from ..dosing import Dose, Term
from ..events import snap, timing
from ..observation import Observer
from ..problem import Problem

Array = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """Constant data of some subjects, for `compiler.modal_code`."""

    module: ModuleType
    delay: Whole  # (channels,)
    bounds: Whole  # (courses, channels + 1)
    at: Array  # knots of all channels [h]
    jump: Array
    u: Array
    m: Array
    clock: Whole  # (courses + 1,)
    times: Array
    rows: Whole  # (courses + 1,)
    observable: Whole
    start: Whole
    end: Whole
    scale: Array

    def predict(self, p: Array, along: Array, which: Whole | None = None) -> tuple[Array, Array, Whole, Whole]:
        """Rows of S members.

        Parameters
        ----------
        p : (S, K) array, parameters [canonical]
        along : (S, k, K) array, derivatives of the parameters along k directions; k = 0 for values only
        which : (S,) array, course of each member; default one each [1]

        Returns
        -------
        value (R,), tangent (R, k), place (S + 1,) of each member's first row, status (S,)
        """
        courses = np.arange(len(p)) if which is None else which
        place = np.zeros(len(p) + 1, dtype=np.int64)
        np.cumsum(np.diff(self.rows)[courses], out=place[1:])
        value, tangent = np.empty(place[-1]), np.empty((place[-1], along.shape[1]))
        status = np.empty(len(p), dtype=np.int64)
        size, nd = along.shape[:2]
        n, states, channels = self.module.N, self.module.STATES, self.module.CHANNELS
        matrices = (
            np.empty((size, n, states)), np.empty((size, n, channels)), np.empty((size, nd, n, states)),
            np.empty((size, nd, n, channels)), np.empty((size, channels)), np.empty((size, nd, channels)),
        )  # fmt: skip
        self.module.fill(p, along, self.delay, *matrices)
        all_of = (
            *matrices, courses, self.bounds, self.at, self.jump, self.u, self.m, self.clock, self.times, self.rows,
            self.observable, self.start, self.end, self.scale, place, value, tangent, status,
        )  # fmt: skip
        modal_rows().rows(*all_of)
        for k in np.flatnonzero(status == 1).tolist():
            status[k] = self._exactly(k, int(courses[k]), matrices, int(place[k]), value, tangent)
        return value, tangent, place, status

    def _exactly(
        self, k: int, course: int, matrices: tuple[Array, ...], place: int, value: Array, tangent: Array
    ) -> int:
        """Rows of member k by exact propagation; returns a status. As `exact_rows().exactly`, compiled already."""
        from ..solve.exponential import march
        from ..solve.modal_march import grid, lay, read

        a, g, da, dg, wait, later = (matrix[k] for matrix in matrices)
        begin, finish = int(self.clock[course]), int(self.clock[course + 1])
        first, stop = int(self.rows[course]), int(self.rows[course + 1])
        knots = self.bounds[course], self.at, self.jump, self.u, self.m
        stops = grid(wait, self.bounds[course], self.at, begin, finish, self.times)
        (n, states), channels, nd, s = a.shape, g.shape[1], len(da), stops.size - 1
        jumps, djumps = np.zeros((s + 1, n)), np.zeros((nd, s + 1, n))
        u0, du, du0 = np.zeros((s, channels)), np.zeros((s, channels)), np.zeros((nd, s, channels))
        lay(a, g, dg, wait, later, *knots, stops, jumps, djumps, u0, du, du0)
        square, slopes = np.zeros((n, n)), np.zeros((nd, n, n))
        square[:, :states], slopes[:, :, :states] = a, da
        x, dx = np.empty((s + 1, n)), np.empty((s + 1, nd, n))
        code = march(
            square, g, np.zeros(n), slopes, dg, np.zeros((nd, n)), np.zeros(n), np.zeros((nd, n)), stops, jumps, djumps,
            np.zeros((s, n)), np.zeros((nd, s, n)), u0, du, du0, np.zeros((nd, s, channels)), x, dx,
        )  # fmt: skip
        if code == 0:
            code = read(
                a, g, da, dg, stops, u0, du0, x, dx, begin, self.times, first, stop, self.observable, self.start,
                self.end, self.scale, place, value, tangent,
            )  # fmt: skip
        if code:
            value[place : place + stop - first], tangent[place : place + stop - first] = np.nan, np.nan
        return code


def course_of(problems: Sequence[Problem], observers: Sequence[Sequence[Observer]]) -> Course | None:
    """Constant data of problems of one model with the curves that each predicts; None where modes do not describe them.

    Parameters
    ----------
    problems : of models with the same equations
    observers : of each problem, which read its times
    """
    first = problems[0]
    if any(q.compiled.digest != first.compiled.digest for q in problems) or not all(map(_plain, problems)):
        return None
    module = modal_module(first.compiled)
    if module is None:
        return None
    delay: Whole | None = None
    knots: list[Array] = []
    bounds, times, rows = [0], [], []
    for q, members in zip(problems, observers, strict=True):
        found = _channels(q, module)
        if found is None or (delay is not None and np.any(found[0] != delay)):
            return None
        delay = found[0]
        for channel in found[1]:
            knots.append(channel)
            bounds.append(bounds[-1] + channel.shape[1])
        times.append(q.times)
        rows.append(np.concatenate([np.zeros((4, 0)), *(_rows(o) for o in members)], axis=1))
    channels = module.CHANNELS
    table = np.concatenate([np.zeros((4, 0)), *knots], axis=1)
    starts = np.array(bounds, dtype=np.int64)
    lengths = [r.shape[1] for r in rows]
    data = np.concatenate([np.zeros((4, 0)), *rows], axis=1)
    assert delay is not None
    at, jump, u, m = (np.ascontiguousarray(row) for row in table)
    observable, start, end = (np.ascontiguousarray(row.astype(np.int64)) for row in data[:3])
    return Course(
        module=module,
        delay=delay,
        bounds=np.array([starts[k * channels : (k + 1) * channels + 1] for k in range(len(problems))]),
        at=at, jump=jump, u=u, m=m,
        clock=_offsets([t.size for t in times]),
        times=np.concatenate(times),
        rows=_offsets(lengths),
        observable=observable, start=start, end=end,
        scale=np.ascontiguousarray(data[3]),
    )  # fmt: skip


def _offsets(lengths: Sequence[int]) -> Whole:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _rows(o: Observer) -> Array:
    """Observable, start, end and factor of each value of a curve, (4, n)."""
    start, end = o.start, o.end if o.mode == "frame" else o.start
    width = o.times[end] - o.times[start]
    scale = o.scale / np.where(width > 0, width, 1.0)
    return np.stack([np.full(start.size, float(o.observable)), start, end, scale])


def _plain(q: Problem) -> bool:
    """Whether modes could describe a problem, doses aside."""
    return q.exact and q.method == "auto" and not q.steps.by and q.times.size > 0 and float(q.times[0]) >= 0.0


def _channels(q: Problem, module: ModuleType) -> tuple[Whole, list[Array]] | None:
    """Parameter that delays each channel and its knots (time, impulse, value, slope), (4, k); None where it cannot."""
    delays, knots = list(q._delays), []
    for curve, by in zip(q.inputs.values(), delays, strict=True):
        slope = np.append(np.diff(curve.value) / np.diff(curve.t), 0.0)
        knots.append(_from_zero(np.stack([curve.t, np.zeros(curve.t.size), curve.value, slope]), by))
    for route in range(len(q.compiled.routes)):
        given = [d for d in q.doses if any(r == route for r, _ in d.parts)]
        lags = {_delay(d.lag, len(q.compiled.parameters)) for d in given}
        if len(lags) > 1 or -2 in lags:
            return None
        delays.append(lags.pop() if lags else -1)
        steps: list[tuple[float, float, float]] = []
        for dose in given:
            more = _steps(q, dose, route)
            if more is None:
                return None
            steps += more
        knots.append(_stairs(steps))
    once = np.array([[0.0], [0.0], [1.0], [0.0]]), np.array([[0.0], [1.0], [0.0], [0.0]])
    for there, channel in zip((module.CONSTANT, module.INITIAL), once, strict=True):
        delays.append(-1)
        knots.append(channel if there else np.zeros((4, 0)))
    return np.array(delays, dtype=np.int64), knots


def _from_zero(knots: Array, delay: int) -> Array:
    """Knots of an input from time zero on, where it is not delayed."""
    if delay >= 0 or knots[0, 0] >= 0.0:
        return knots
    k = int(np.searchsorted(knots[0], 0.0, side="right")) - 1
    here = knots[:, k:].copy()
    here[2, 0] += here[3, 0] * (0.0 - here[0, 0])
    here[0, 0] = 0.0
    return here


def _delay(lag: Term, parameters: int) -> int:
    """Number of the parameter that is the lag, -1 for a number, -2 for a formula."""
    if lag.value is None:
        return -1
    if len(lag.slopes) != 1:
        return -2
    at = lag.slopes[0][0]
    probe = np.linspace(0.1, 0.7, parameters)[:, None]
    same = all(float(np.squeeze(lag.of(p))) == float(p[at, 0]) for p in (probe, probe**2))
    return at if same else -2


def _steps(q: Problem, dose: Dose, route: int) -> list[tuple[float, float, float]] | None:
    """(time, impulse, change of rate) of a dose into a route; None where a parameter moves more than its lag."""
    a = dose.administration
    if a.steady or a.reset or any(t.value for t in (dose.fraction, dose.duration, dose.rate)):
        return None
    lag, duration, _, sizes = timing(dose, np.zeros((len(q.compiled.parameters), 1)))
    start = a.time + (float(lag[0]) if dose.lag.value is None else 0.0)
    out = []
    for (into, _), size in zip(dose.parts, sizes, strict=True):
        if into != route:
            continue
        amount = float(size[0])
        if dose.rate.given or dose.duration.given:
            out += [(start, 0.0, amount), (start + float(duration[0]), 0.0, -amount)]
        else:
            out.append((start, amount, 0.0))
    moved = snap(np.array([s[0] for s in out]), q.times)
    return [(float(t), j, r) for t, (_, j, r) in zip(moved, out, strict=True)]


def _stairs(steps: list[tuple[float, float, float]]) -> Array:
    """Knots (4, k) from impulses and changes of rate; the last to end leaves an exact zero, not a rounding."""
    times = sorted({t for t, _, _ in steps})
    out = np.zeros((4, len(times)))
    rate, running = 0.0, 0
    for k, t in enumerate(times):
        for s, jump, change in steps:
            if s == t:
                out[1, k] += jump
                rate += change
                running += (change > 0) - (change < 0)
        rate = rate if running else 0.0
        out[0, k], out[2, k] = t, rate
    return out
