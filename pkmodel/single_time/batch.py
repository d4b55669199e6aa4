"""Predictions for many patients, or many draws of one, in one run of the engine; derivatives by exact tangents.

The same numbers as `Likelihood.predict` gives one at a time (tests compare them). Rows with the same doses and scan
times share a run, whatever their parameters.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compiler.focused import Focused, focused
from ..compiler.gradient import Gradient
from ..compiler.system import integral_of
from ..inference.likelihood import Block
from ..inference.noise import Noise
from ..inference.observations import Observations
from ..inference.population_file import PopulationModel
from ..nuclides import nuclide
from ..problem import Problem, records_of
from ..solve.records import Records
from ..solve.status import Status
from .scans import Scans

Array = NDArray[np.float64]
Whole = NDArray[np.intp]
HALF_LIVES = 25  # after the last scan; what is left is below 3e-8
CHUNK = 4096  # rows in one run
DIFFERENCE = 1e-5  # relative, of predictions, for second derivatives of the error model
MANY, FEW = 16, 8  # rows from which, and values up to which, the adjoint gives their derivatives


@dataclass(frozen=True, eq=False)
class Rows:
    """Some cycles, each for one set of parameters: what is predicted, and what was measured.

    Parameters
    ----------
    scans : cycles
    which : (R,) array, cycle of each row
    """

    population: PopulationModel
    noise: Noise
    scans: tuple[Scans, ...]
    which: Whole

    @cached_property
    def _lengths(self) -> Whole:
        """Number of values of each row, (R,)."""
        return np.array([len(s.likelihood.data) for s in self.scans], dtype=np.intp)[self.which]

    @cached_property
    def start(self) -> Whole:
        """(R + 1,) array, where each row begins in `data`."""
        return np.concatenate([[0], np.cumsum(self._lengths)]).astype(np.intp)

    @cached_property
    def row(self) -> Whole:
        """(n,) array, row of each value of `data`."""
        return np.repeat(np.arange(len(self.which)), self._lengths)

    @cached_property
    def data(self) -> Observations:
        """Measured values of all rows in one flat table."""
        tables = [s.likelihood.data.aligned(self.noise.endpoints) for s in self.scans]
        first = np.concatenate([[0], np.cumsum([len(t) for t in tables])])
        index = [np.arange(first[w], first[w + 1]) for w in self.which]
        return _joined(tables).take(np.concatenate([np.zeros(0, dtype=np.intp), *index]))

    def log_likelihood(self, predicted: Array) -> Array:
        """Log density of each row's data, (R,); -inf where the model could not be solved."""
        density = self.noise.log_density(predicted, np.zeros(0), self.data).pointwise
        return np.bincount(self.row, density, minlength=len(self.which))

    def by_ratio(self, predicted: Array) -> tuple[Array, Array, Array]:
        """Log density of each row as if logarithms were normal, derivative and information of each value.

        Only to begin a search with: the standard deviation is that at the measured value, and what is censored or not
        positive does not count.
        """
        y = self.data.value
        spread = self.noise.variance(y, np.zeros(0), self.data).value
        logs = np.array([s.kind == "lognormal" for s in self.noise.scatters])[self.data.endpoint]
        with np.errstate(all="ignore"):
            variance = np.where(logs, spread, spread / y**2)
            off = np.log(y / predicted)
            counts = self.data.counted & (self.data.censored == 0) & (y > 0)
            log_l = np.where(counts, -0.5 * off**2 / variance, 0.0)
            slope = np.where(counts, off / (variance * predicted), 0.0)
            known = np.where(counts, 1.0 / (variance * predicted**2), 0.0)
        log_l = np.where(np.isfinite(log_l), log_l, -np.inf)
        sound = np.isfinite(slope) & np.isfinite(known)
        return (
            np.bincount(self.row, log_l, minlength=len(self.which)), np.where(sound, slope, 0.0),
            np.where(sound, known, 0.0),
        )  # fmt: skip

    def curvature(self, predicted: Array) -> tuple[Array, Array]:
        """Derivative of each value's log density by its prediction, and the information it holds of it, (n,) each.

        The information is the expected one, ``1/v + (dv/df)^2/(2 v^2)``, or where that is larger the observed one by
        ln f: a value above its prediction pulls harder than expected, and steps that ignore it overshoot for ever.
        """
        empty = np.zeros(0)
        slope = self.noise.log_density(predicted, empty, self.data).d_prediction
        spread = self.noise.variance(predicted, empty, self.data)
        logs = np.array([s.kind == "lognormal" for s in self.noise.scatters])[self.data.endpoint]
        with np.errstate(all="ignore"):
            plain = 1.0 / spread.value + 0.5 * (spread.d_prediction / spread.value) ** 2
            expected = np.where(logs, 1.0 / (spread.value * predicted**2), plain)
            expected = np.where(self.data.censored != 0, slope**2, expected)
            h = DIFFERENCE * predicted
            ahead, behind = (self.noise.log_density(predicted + d, empty, self.data).d_prediction for d in (h, -h))
            observed = -(ahead - behind) / (2 * h) - slope / predicted
        information = np.where(np.isfinite(observed), np.maximum(expected, observed), expected)
        sound = self.data.counted & np.isfinite(information) & np.isfinite(predicted)
        return slope, np.where(sound, information, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """What the model says of all rows.

    Parameters
    ----------
    value : (n,) array, of every value of `Rows.data`; nan where the model could not be solved
    tangent : (n, k) array, by the population's parameters on the scale of the fit; (n, 0) where not asked for
    tia : (R, regions) array, from zero to infinity; (R, 0) where not asked for [MBq h]
    until_last : (R, regions) array, until the last scan [MBq h]
    """

    value: Array
    tangent: Array
    tia: Array
    until_last: Array


def predict(rows: Rows, x: Array, *, tangents: bool = False, regions: Sequence[str] = ()) -> Predicted:
    """Predict the scans of many rows, and integrals.

    Parameters
    ----------
    rows : R of them
    x : (R, k) array, parameters on the scale of the fit
    tangents : whether derivatives are wanted
    regions : observables whose integrals are wanted
    """
    k = x.shape[1]
    with np.errstate(over="ignore"):
        values = np.stack([s.from_scale(x[:, j]) for j, s in enumerate(rows.population.slots)], axis=1)
        slopes = np.stack([s.slope(x[:, j]) for j, s in enumerate(rows.population.slots)], axis=1)
    out = Predicted(
        np.full(len(rows.data), np.nan),
        np.zeros((len(rows.data), k if tangents else 0)),
        np.full((len(x), len(regions)), np.nan),
        np.full((len(x), len(regions)), np.nan),
    )
    for members in _groups(rows):
        for first in range(0, len(members), CHUNK):
            _solve(rows, members[first : first + CHUNK], values, slopes, tangents, regions, out)
    return out


@dataclass(frozen=True, slots=True)
class _Piece:
    """One block of one row."""

    row: int
    block: Block
    columns: Whole
    offset: int  # of its first value in the flat table


def _groups(rows: Rows) -> Iterator[list[_Piece]]:
    """Pieces that share doses, times and equations."""
    parts: dict[int, list[tuple[object, Block, Whole, int]]] = {}
    for w in np.unique(rows.which).tolist():
        scans, at = rows.scans[w], 0
        parts[w] = []
        for b, block in enumerate(scans.likelihood.blocks):
            parts[w].append((_key(scans, block, b), block, scans.columns[list(block.columns)], at))
            at += sum(len(o.curve) for o in block.observers)
    found: dict[object, list[_Piece]] = {}
    for r, (w, start) in enumerate(zip(rows.which.tolist(), rows.start.tolist(), strict=False)):
        for key, block, columns, at in parts[w]:
            found.setdefault(key, []).append(_Piece(r, block, columns, start + at))
    yield from found.values()


def _key(scans: Scans, block: Block, number: int) -> object:
    problem = block.problem
    if problem.steps.by:
        return id(problem)
    seen = tuple(
        (o.curve.region, o.observable, o.mode, o.start.tobytes(), o.end.tobytes(), o.scale.tobytes())
        for o in block.observers
    )
    return number, problem.model.digest, problem.regimen, problem.times.tobytes(), seen, scans.last


def _solve(
    rows: Rows,
    members: Sequence[_Piece],
    values: Array,
    slopes: Array,
    tangents: bool,
    regions: Sequence[str],
    out: Predicted,
) -> None:
    """Solve some pieces that share a run, and put what comes out in its place."""
    block = members[0].block
    problem, last = block.problem, rows.scans[rows.which[members[0].row]].last
    row = np.array([m.row for m in members])
    p = np.stack([m.block.values for m in members])
    columns = members[0].columns
    indices = list(block.indices)
    p[:, indices] = values[row][:, columns]
    wanted = _integrals(problem, block, regions)
    if tangents and not wanted and _alone(problem, p[0], indices):
        _one_by_one(problem, members, p, slopes[row][:, columns], out)
        return
    times = problem.times
    if wanted:
        horizon = max(last, problem.end) + HALF_LIVES * nuclide(problem.model.nuclide).half_life
        times = np.unique(np.concatenate([times, [last, horizon]]))
        problem = replace(problem, times=times)
    names = list(problem.model.observables)
    needed = {names[o.observable] for o in block.observers}
    framed = {names[o.observable] for o in block.observers if o.mode == "frame" and np.any(o.end > o.start)}
    report = tuple(sorted(needed)) + tuple(integral_of(n) for n in sorted(framed | {w for w, _ in wanted}))
    engine = focused(problem.compiled, problem.infused, report, _routes(problem))
    found = records_of(problem, p)
    free = tuple(problem.compiled.parameters[i] for i in indices)
    at = np.searchsorted(times, block.problem.times)
    where = {n: j for j, n in enumerate(report)}
    read = _read_at(block, names, at, where) if tangents else []
    reported, slope, status = _run(engine, found.parameters, found.records, times, problem, free, read)
    bad = (status != Status.OK) | (found.status != Status.OK)
    reported[bad] = np.nan
    offset = np.array([m.offset for m in members])
    for o in block.observers:
        name = names[o.observable]
        pair = where[name], where.get(integral_of(name), where[name])
        index = offset[:, None] + np.arange(len(o.curve))
        out.value[index] = o._read(reported[:, at, pair[0]], reported[:, at, pair[1]])
        if tangents:
            by = np.moveaxis(slope, 3, 1)[:, :, at]  # (M, free, times, reports)
            table = o._read(by[..., pair[0]], by[..., pair[1]])
            out.tangent[index[:, :, None], columns[None, None]] = np.nan_to_num(
                np.moveaxis(table, 1, 2) * slopes[row][:, None, columns]
            )
        offset = offset + len(o.curve)
    for name, j in wanted:
        integral = reported[:, :, where[integral_of(name)]]
        out.tia[row, j] = integral[:, -1]
        out.until_last[row, j] = integral[:, np.searchsorted(times, last)]


def _alone(problem: Problem, p: Array, indices: Sequence[int]) -> bool:
    """Whether derivatives are taken one row at a time: of exact solutions, and where doses depend on what is free."""
    if problem.exact or problem.steps.by:
        return True
    events, _ = problem.events(p[:, None], problem.directions(list(indices)))
    return bool(np.any(events.dvalue) or np.any(events.dtime))


def _one_by_one(problem: Problem, members: Sequence[_Piece], p: Array, slopes: Array, out: Predicted) -> None:
    """Predictions and derivatives as `Problem.solve` has them."""
    for i, piece in enumerate(members):
        solution = problem.solve(p[i], list(piece.block.indices))
        if solution.status != Status.OK:
            continue
        at = piece.offset
        for o in piece.block.observers:
            here = slice(at, at + len(o.curve))
            out.value[here] = o.predict(solution)
            out.tangent[here, piece.columns] = np.nan_to_num(o.tangent(solution).T * slopes[i])
            at += len(o.curve)


def _integrals(problem: Problem, block: Block, regions: Sequence[str]) -> list[tuple[str, int]]:
    """Observable and column of each integral that this block gives; a regional model has one observable for all."""
    if problem.model.scope == "region":
        own = {o.curve.region: list(problem.model.observables)[o.observable] for o in block.observers}
        return [(own[r], j) for j, r in enumerate(regions) if r in own]
    return [(r, j) for j, r in enumerate(regions)]


def _read_at(block: Block, names: Sequence[str], at: Whole, where: Mapping[str, int]) -> list[tuple[int, int]]:
    """Times and reports that the predictions are made of, each pair once."""
    found = []
    for o in block.observers:
        long = (o.end > o.start) & (o.mode == "frame")
        name = names[o.observable]
        found += [(int(at[i]), where[name]) for i in o.start[~long]]
        found += [(int(at[i]), where[integral_of(name)]) for i in (*o.start[long], *o.end[long])]
    return list(dict.fromkeys(found))


def _run(
    engine: Focused,
    p: Array,
    records: Records,
    times: Array,
    problem: Problem,
    free: tuple[str, ...],
    read: Sequence[tuple[int, int]],
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Reports (M, m, r), derivatives (M, m, r, free) of those in `read`, and status of each row.

    Forwards for a few rows. For many with few values to predict the adjoint is cheaper, one row a value: its walk goes
    over many rows at once.
    """
    atol = problem._absolute(problem.defaults)
    if not read:
        run = engine.run(p, records, times, problem.rtol, atol, threads=processors() if len(p) > 64 else 1)
        return run.out, np.zeros((*run.out.shape, 0)), run.status
    kept = [problem.compiled.parameters[i] for i in engine.primary]
    by = _gradient(engine, tuple(n for n in free if n in kept))
    p, records = np.ascontiguousarray(p[:, engine.primary]), engine.translated(records)
    columns = [(j, kept.index(n)) for j, n in enumerate(free) if n in kept]
    if len(p) < MANY or len(read) > FEW:
        run, jacobian = by.jacobian(p, records, times, problem.rtol, atol)
        out, status = run.out, run.status
        slope = np.zeros((*out.shape, len(free)))
        for j, k in columns:
            slope[..., j] = jacobian[..., by.free.index(k)]
        return out, slope, status
    n, m, r = len(p), len(times), len(engine.engine.system.report)
    cotangent = np.zeros((len(read), n, m, r))
    for i, (t, report) in enumerate(read):
        cotangent[i, :, t, report] = 1.0
    again = records if records.patients == 1 else records.take(np.tile(np.arange(n), len(read)))
    found = by.adjoint(
        np.tile(p, (len(read), 1)), again, times, cotangent.reshape(-1, m, r), problem.rtol, atol
    )  # fmt: skip
    slope = np.zeros((n, m, r, len(free)))
    for i, (t, report) in enumerate(read):
        for j, k in columns:
            slope[:, t, report, j] = found.parameters[i * n : (i + 1) * n, k]
    return found.out[:n], slope, found.status[:n]


@lru_cache(maxsize=64)
def _gradient(engine: Focused, free: tuple[str, ...]) -> Gradient:
    return Gradient(engine.engine, free)


def _routes(problem: Problem) -> tuple[str, ...] | None:
    """Routes by which anything is given; None where a steady state or a reset may set any compartment."""
    if any(a.steady or a.reset for a in problem.regimen.administrations):
        return None
    return tuple(problem.compiled.routes[r] for r in sorted({r for d in problem.doses for r, _ in d.parts}))


def processors() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _joined(parts: Sequence[Observations]) -> Observations:
    """Several tables of one numbering of endpoints, one after the other."""
    names = ("value", "time", "shape", "endpoint", "censored", "counted", "occasion")
    arrays: dict[str, Any] = {n: np.concatenate([getattr(p, n) for p in parts]) for n in names}
    return replace(parts[0], **arrays)
