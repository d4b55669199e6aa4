"""Predictions of many likelihoods, or many draws of one, in one run of the engine; derivatives by exact tangents.

The same numbers as `Likelihood.predict` gives one at a time (tests compare them). Solves of the same equations and
results share a run, each with its own parameters, doses and times. A row's numbers do not depend on the other rows of
a call, nor on the number of threads: every lane of a vector keeps to itself. Only where each row has a single value are
derivatives of many taken backwards, which agrees with forwards to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from ..compiler.focused import Focused, focused
from ..compiler.gradient import Gradient
from ..compiler.machine import default_lanes
from ..compiler.system import integral_of
from ..compiler.walks import LONG
from ..problem import Problem, records_of
from ..solve.records import Records, stack
from ..solve.status import Status
from .likelihood import Block, Likelihood
from .slots import Slot

Array = NDArray[np.float64]
Whole = NDArray[np.intp]
CHUNK, REMEMBERED = 4096, 512  # rows in one run; where their steps are remembered for derivatives
MANY = 16  # rows from which the adjoint may give derivatives


@dataclass(frozen=True, slots=True)
class Totals:
    """Integrals of observables from zero that are wanted of one block.

    Parameters
    ----------
    observables : names [text]
    columns : where each goes in `Predicted.totals`
    until : when they end, the same number of times for all [h]
    """

    observables: tuple[str, ...] = ()
    columns: tuple[int, ...] = ()
    until: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One likelihood of a batch.

    Parameters
    ----------
    likelihood : of one subject
    columns : (k,) array, column of each of its slots in the parameters of all
    totals : integrals of each block; empty: none
    """

    likelihood: Likelihood
    columns: Whole
    totals: tuple[Totals, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """What the models say of R rows, n values in all, row after row in the order of each `Likelihood.data`.

    Parameters
    ----------
    start : (R + 1,) array, first value of each row
    value : (n,) array; nan where the model could not be solved
    tangent : (n, columns) array, on the scale of the fit; (n, 0) where not asked for
    totals : (R, integrals, times) array [observable h]
    failed : (R,) array, whether a model could not be solved
    """

    start: Whole
    value: Array
    tangent: Array
    totals: Array
    failed: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Batch:
    """Likelihoods that are predicted together.

    Parameters
    ----------
    members : likelihoods
    slots : what each column of the parameters is
    """

    members: tuple[Member, ...]
    slots: tuple[Slot, ...]

    @cached_property
    def sizes(self) -> Whole:
        """(members,) number of values of each."""
        return np.array([len(m.likelihood.data) for m in self.members], dtype=np.intp)

    @cached_property
    def _groups(self) -> list[_Group]:
        found: dict[object, list[_Piece]] = {}
        for i, member in enumerate(self.members):
            at = 0
            for b, block in enumerate(member.likelihood.blocks):
                piece = _piece(i, member, block, member.totals[b] if member.totals else Totals(), at)
                at += piece.scale.size
                found.setdefault(piece.key, []).append(piece)
        return [_Group(tuple(pieces), len(self.members)) for pieces in found.values()]

    def predict(self, x: Array, who: Whole, *, tangents: bool = False, totals: tuple[int, int] = (0, 0)) -> Predicted:
        """Predict rows.

        Parameters
        ----------
        x : (R, columns) array, parameters on the scale of the fit
        who : (R,) array, member of each row
        tangents : whether derivatives are wanted
        totals : number of integrals and of the times until which they go
        """
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.stack([s.from_scale(x[:, j]) for j, s in enumerate(self.slots)], axis=1)
            slopes = np.stack([s.slope(x[:, j]) for j, s in enumerate(self.slots)], axis=1)
        start = np.concatenate([[0], np.cumsum(self.sizes[who])]).astype(np.intp)
        n, rows = int(start[-1]), len(x)
        out = Predicted(
            start, np.full(n, np.nan), np.zeros((n, x.shape[1] if tangents else 0)), np.full((rows, *totals), np.nan),
            np.zeros(rows, dtype=bool),
        )  # fmt: skip
        most = REMEMBERED if tangents else CHUNK
        for group in self._groups:
            count = group.count[who]
            row = np.repeat(np.arange(rows), count)
            within = np.arange(row.size) - np.repeat(np.cumsum(count) - count, count)
            piece = group.first[who][row] + within
            for at in range(0, row.size, most):
                part = slice(at, at + most)
                group.solve(row[part], piece[part], values, slopes, tangents, out)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """One block of one member. A value is scale (read[last] - read[begin]) / width, for moments scale read[last]."""

    key: object
    alike: object  # pieces with equal ones have the same doses at the same times
    member: int
    problem: Problem
    block: Block
    columns: Whole  # of each free parameter
    totals: Totals
    offset: int  # of its first value in the member
    report: tuple[str, ...]
    reads: NDArray[np.intp]  # (q, 2) time and report, each pair once
    begin: Whole
    last: Whole
    width: Array  # 0 for a moment
    scale: Array


def shares(block: Block) -> bool:
    """Whether solves of a block can share a run with derivatives: what happens when is fixed, and there are steps."""
    return not block.problem.exact and not block.problem.model.events and _settled(block)


def _settled(block: Block) -> bool:
    """Whether nothing that is given depends on what is free."""
    q = block.problem
    free = [*block.indices, *(f for f, _ in block.ties)]
    if q.steps.by or q.compiled.switches or q._fixed is None or set(free) & {d for d in q._delays if d >= 0}:
        return False
    routes = sorted({r for d in q.doses for r, _ in d.parts})
    return not q.compiled.entries_dp(_held(block))[routes][..., free].any()


def _held(block: Block) -> Array:
    """Parameters with those that follow fixed ones."""
    p = block.values.copy()
    for follower, leader in block.ties:
        p[follower] = p[leader]
    return p


def _piece(number: int, member: Member, block: Block, totals: Totals, offset: int) -> _Piece:
    problem = block.problem
    if totals.observables:
        problem = replace(problem, times=np.unique(np.concatenate([problem.times, totals.until])))
    names = list(problem.model.observables)
    long = [(o.mode == "frame") & (o.end > o.start) for o in block.observers]
    needed = sorted({names[o.observable] for o in block.observers})
    framed = {names[o.observable] for o, frames in zip(block.observers, long, strict=True) if np.any(frames)}
    report = (*needed, *(integral_of(n) for n in sorted(framed | set(totals.observables))))
    at = np.searchsorted(problem.times, block.problem.times)
    begin, last = [], []
    for o, frames in zip(block.observers, long, strict=True):
        name = names[o.observable]
        where = np.full(len(frames), report.index(name))
        if frames.any():
            where[frames] = report.index(integral_of(name))
        begin.append(np.stack([at[o.start], where], axis=1))
        last.append(np.stack([at[np.where(frames, o.end, o.start)], where], axis=1))
    pairs = np.concatenate([*begin, *last])
    reads, index = np.unique(pairs, axis=0, return_inverse=True)
    n = len(pairs) // 2
    width = np.concatenate(
        [np.where(f, o.times[o.end] - o.times[o.start], 0.0) for o, f in zip(block.observers, long, strict=True)]
    )
    settled = _settled(block)
    key = (
        problem.compiled.digest, problem.infused, _routes(problem), report, problem.rtol, problem.exact, settled,
        block.indices, block.ties, totals.observables, totals.columns,
    )  # fmt: skip
    alone = problem.steps.by or problem.inputs
    alike = id(block.problem) if alone else (problem.regimen, problem.times.tobytes())
    return _Piece(
        key, alike, number, problem, block, member.columns[list(block.columns)], totals, offset, report, reads,
        index.reshape(-1)[:n], index.reshape(-1)[n:], width, np.concatenate([o.scale for o in block.observers]),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Group:
    """Pieces that share a run; tables have one row for each piece, filled up to the longest."""

    pieces: tuple[_Piece, ...]  # in the order of the members
    members: int

    @cached_property
    def count(self) -> Whole:
        """(members,) pieces of each member."""
        return np.bincount([p.member for p in self.pieces], minlength=self.members).astype(np.intp)

    @cached_property
    def first(self) -> Whole:
        """(members,) first piece of each member."""
        return np.asarray(np.cumsum(self.count) - self.count)

    @cached_property
    def engine(self) -> Focused:
        """The solver of what is read."""
        one = self.pieces[0]
        return focused(one.problem.compiled, one.problem.infused, one.report, _routes(one.problem))

    @cached_property
    def settled(self) -> bool:
        """Whether what is given does not depend on what is free."""
        return _settled(self.pieces[0].block)

    @cached_property
    def held(self) -> Array:
        """(pieces, k) parameters that are not free."""
        return np.stack([_held(p.block) for p in self.pieces])

    @cached_property
    def columns(self) -> Whole:
        """(pieces, free) column of each free parameter."""
        return np.stack([p.columns for p in self.pieces])

    @cached_property
    def times(self) -> Array:
        """(pieces, m) output times."""
        return _filled([p.problem.times for p in self.pieces], np.inf)

    @cached_property
    def atol(self) -> float:
        """Absolute tolerance: that of the smallest dose."""
        return min(p.problem._absolute(p.problem.defaults) for p in self.pieces)

    @cached_property
    def alike(self) -> Whole:
        """(pieces,) which have the same doses."""
        numbers: dict[object, int] = {}
        return np.array([numbers.setdefault(p.alike, len(numbers)) for p in self.pieces], dtype=np.intp)

    @cached_property
    def given(self) -> tuple[Records, NDArray[np.int64], Array]:
        """Records, status and parameters of every piece, where they are settled."""
        return self.happens(np.arange(len(self.pieces)), self.held)

    def happens(self, piece: Whole, p: Array) -> tuple[Records, NDArray[np.int64], Array]:
        """What is given to some pieces at their parameters: records of the small engine, status, all parameters."""
        order, parts, status, parameters = [], [], [], []
        for kind in np.unique(self.alike[piece]):
            mine = np.flatnonzero(self.alike[piece] == kind)
            found = records_of(self.pieces[piece[mine[0]]].problem, p[mine])
            order.append(mine)
            parts.append(self.engine.translated(found.records))
            status.append(found.status)
            parameters.append(found.parameters)
        back = np.argsort(np.concatenate(order))
        return stack(parts).take(back), np.concatenate(status)[back], np.concatenate(parameters)[back]

    @cached_property
    def reads(self) -> tuple[Whole, Whole]:
        """(pieces, q) time and report of each read; filled up with the first."""
        time, report = (_filled([p.reads[:, j] for p in self.pieces], 0).astype(np.intp) for j in (0, 1))
        return time, report

    @cached_property
    def made(self) -> tuple[Whole, Whole, Array, Array, Whole, NDArray[np.bool_]]:
        """(pieces, n) reads of each value, its width and scale, its place in the member, and whether there is one."""
        last, begin = (_filled([getattr(p, n) for p in self.pieces], 0).astype(np.intp) for n in ("last", "begin"))
        width, scale = (_filled([getattr(p, n) for p in self.pieces], 0.0) for n in ("width", "scale"))
        there = _filled([np.ones(p.scale.size) for p in self.pieces], 0.0) > 0
        place = np.array([p.offset for p in self.pieces])[:, None] + np.arange(last.shape[1])
        return last, begin, width, scale, place, there

    def solve(self, row: Whole, piece: Whole, values: Array, slopes: Array, tangents: bool, out: Predicted) -> None:
        """Solve some pieces, and put what comes out in its place."""
        one = self.pieces[0]
        column, indices = self.columns[piece], list(one.block.indices)
        p = self.held[piece]
        p[:, indices] = values[row[:, None], column]
        for follower, leader in one.block.ties:
            p[:, follower] = p[:, leader]
        along = tangents and self.settled and not one.problem.exact
        if along or not tangents or one.totals.observables:
            self._together(row, piece, p, slopes[row[:, None], column], along, out)
        if tangents and not along:
            self._one_by_one(row, piece, p, slopes, out)

    def _together(self, row: Whole, piece: Whole, p: Array, slopes: Array, along: bool, out: Predicted) -> None:
        if self.settled:
            records, status, _ = self.given
            records, status = records.take(piece.astype(np.int64)), status[piece]
        else:
            records, status, p = self.happens(piece, p)
        time, report = (a[piece] for a in self.reads)
        reported, by, ended = self._run(p, records, self.times[piece], time, report, along)
        bad = (ended != Status.OK) | (status != Status.OK)
        reported[bad] = np.nan
        out.failed[row[bad]] = True
        last, begin, width, scale, place, there = (a[piece] for a in self.made)
        here = np.arange(len(row))[:, None]
        long = width > 0
        scale = scale / np.where(long, width, 1.0)
        read = reported[here, time, report]
        value = (read[here, last] - np.where(long, read[here, begin], 0.0)) * scale
        place = place + out.start[row][:, None]
        out.value[place[there]] = value[there]
        if along:
            table = (by[here, last] - np.where(long[..., None], by[here, begin], 0.0)) * scale[..., None]
            with np.errstate(invalid="ignore", over="ignore"):
                table *= slopes[:, None, :]
            table[bad] = 0.0
            into = np.broadcast_to(self.columns[piece][:, None, :], table.shape)
            out.tangent[place[there][:, None], into[there]] = table[there]
        totals, names = self.pieces[0].totals, self.pieces[0].report
        for name, k in zip(totals.observables, totals.columns, strict=True):
            at = np.stack([np.searchsorted(self.pieces[i].problem.times, self.pieces[i].totals.until) for i in piece])
            out.totals[row, k] = reported[here, at, names.index(integral_of(name))]

    def _run(
        self, p: Array, records: Records, times: Array, time: Whole, report: Whole, along: bool
    ) -> tuple[Array, Array, NDArray[np.int64]]:
        """Reports (S, m, r), derivatives of what is read (S, q, free), and status of each solve.

        Forwards, a vector of directions at once. Of many solves with one value, or few along many directions, the
        adjoint is cheaper, one row a value: its walk goes over many rows at once.
        """
        engine, block, problem = self.engine, self.pieces[0].block, self.pieces[0].problem
        rtol, atol, threads = problem.rtol, self.atol, processors() if len(p) > 64 else 1
        if not along:
            run = engine.run(p, records, times, rtol, atol, threads=threads)
            return run.out, np.zeros((len(p), 0, 0)), run.status
        kept = {int(k): j for j, k in enumerate(engine.primary)}
        moved = [[i, *(f for f, lead in block.ties if lead == i)] for i in block.indices]
        free = tuple(sorted({kept[i] for group in moved for i in group if i in kept}))
        gradient = _gradient(engine, free)
        P = np.ascontiguousarray(p[:, engine.primary])
        n, q = time.shape
        here = np.arange(n)[:, None]
        if n < MANY or q > -(-len(free) // LONG):  # measured: a value backwards costs a vector of directions forwards
            run, jacobian = gradient.jacobian(P, records, times, rtol, atol, threads=threads, lanes=default_lanes())
            out, status, read = run.out, run.status, jacobian[here, time, report]
        else:
            cotangent = np.zeros((q, n, times.shape[1], len(engine.engine.system.report)))
            for i in range(q):
                cotangent[i, np.arange(n), time[:, i], report[:, i]] = 1.0
            again = np.tile(np.arange(n), q)
            found = gradient.adjoint(
                P[again], records.take(again), times[again], cotangent.reshape(-1, *cotangent.shape[2:]), rtol, atol,
                lanes=default_lanes(), threads=threads,
            )  # fmt: skip
            out, status = found.out[:n], found.status.reshape(q, n).max(axis=0)
            read = found.parameters.reshape(q, n, -1).swapaxes(0, 1)[..., list(free)]
        by = np.zeros((n, q, len(moved)))
        for j, group in enumerate(moved):
            for i in group:
                if i in kept:
                    by[..., j] += read[..., free.index(kept[i])]
        status = np.where((status == Status.OK) & ~np.isfinite(by).all(axis=(1, 2)), Status.NOT_FINITE, status)
        return out, by, status

    def _one_by_one(self, row: Whole, piece: Whole, p: Array, slopes: Array, out: Predicted) -> None:
        """Predictions and derivatives as `Problem.solve` has them."""
        for r, i, q in zip(row, piece, p, strict=True):
            one = self.pieces[i]
            moved = [[k, *(f for f, lead in one.block.ties if lead == k)] for k in one.block.indices]
            solution = one.block.problem.solve(q, [k for group in moved for k in group])
            if solution.status != Status.OK:
                out.failed[r] = True
                continue
            owner = np.repeat(np.arange(len(moved)), [len(group) for group in moved])
            at = int(out.start[r]) + one.offset
            for o in one.block.observers:
                here = slice(at, at + len(o.curve))
                out.value[here] = o.predict(solution)
                table = np.zeros((len(o.curve), len(moved)))
                np.add.at(table.T, owner, o.tangent(solution))
                out.tangent[here, one.columns] = np.nan_to_num(table * slopes[r, one.columns])
                at += len(o.curve)


def _filled(rows: Sequence[NDArray[np.generic]], filling: float) -> Array:
    """Rows of different lengths as a table."""
    table = np.full((len(rows), max(map(len, rows))), filling)
    for i, r in enumerate(rows):
        table[i, : len(r)] = r
    return table


def _routes(problem: Problem) -> tuple[str, ...] | None:
    """Routes by which anything is given; None where a steady state or a reset may set any compartment."""
    if any(a.steady or a.reset for a in problem.regimen.administrations):
        return None
    return tuple(problem.compiled.routes[r] for r in sorted({r for d in problem.doses for r, _ in d.parts}))


@lru_cache(maxsize=64)
def _gradient(engine: Focused, free: tuple[int, ...]) -> Gradient:
    return Gradient(engine.engine, free)


def processors() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
