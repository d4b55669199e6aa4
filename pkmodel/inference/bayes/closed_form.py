"""Small linear models written out: sums of up to three exponentials as expressions of PyTensor.

The response of an observable to a dose is c exp(A t) b, for distinct eigenvalues l_k of A (Sylvester's formula)::

    sum_k a_k exp(l_k t),   a_k = c prod_{j != k} (A - l_j I) b / prod_{j != k} (l_k - l_j)

Only compartments on a way from the dose to the observable take part. Eigenvalues are those of the strongly connected
parts: one number, a quadratic, or a cubic with three real roots (a chain or a star of three; others are not written
out). Two that nearly coincide are held apart by 1e-7 of their size, which changes a curve by less than that. Frames are
averages, infusions integrals of the same sum. What has inputs, covariates in time, production, doses whose times depend
on parameters, or more compartments goes another way (`kernels`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from ...compiler.system import System, build_system
from ...expressions import symbol
from .kernels import People

type Floats = NDArray[np.float64]

LARGEST = 3  # compartments on the way
DOSES = 12  # more are slower this way than by propagation
APART = 1e-7  # smallest relative distance of two eigenvalues
_ZERO = -1e-30  # an eigenvalue of zero: expm1(l t)/l is t


@dataclass(frozen=True)
class _Way:
    """From a route to an observable: the system of the compartments on the way."""

    route: int
    observable: int
    A: sp.Matrix
    b: tuple[sp.Expr, ...]
    c: tuple[sp.Expr, ...]
    parts: tuple[tuple[int, ...], ...]  # strongly connected


def closed_form(people: People, x: Any) -> Any | None:
    """Predictions of all subjects as an expression, (n,), or None where they cannot be written out.

    Parameters
    ----------
    people : whose
    x : (N, K) matrix of PyTensor, on the scale of the fit
    """
    import pytensor.tensor as pt

    plan = _plan(people)
    if plan is None:
        return None
    pieces, order = [], []
    start = 0
    for b in range(len(people.likelihoods[0].blocks)):
        blocks = [one.blocks[b] for one in people.likelihoods]
        values = _values(people, x, b)
        seen = sorted({o.observable for o in blocks[0].observers})
        for observable in seen:
            rows = [_rows(block, observable) for block in blocks]
            wide = max(len(r) for r in rows)
            table = np.zeros((len(blocks), wide, 4))  # begin, end, scale, where it goes
            table[:, :, 1] = 1.0
            for i, r in enumerate(rows):
                table[i, : len(r)] = r
                offset = people.rows[i] + sum(
                    len(o.scale) for k in range(b) for o in people.likelihoods[i].blocks[k].observers
                )
                order += [(int(offset + w), start + i * wide + j) for j, w in enumerate(r[:, 3])]
            start += len(blocks) * wide
            total = 0.0
            for way in (w for w in plan[b] if w.observable == observable):
                total = total + _response(way, values, _doses(blocks, way.route), table)
            pieces.append(
                (total * table[:, :, 2]).ravel() if way_exists(plan[b], observable) else pt.zeros(len(blocks) * wide)
            )
    flat = pieces[0] if len(pieces) == 1 else pt.concatenate(pieces)
    order.sort()
    take = np.array([source for _, source in order])
    return flat if np.array_equal(take, np.arange(start)) else flat[take]


def way_exists(ways: list[_Way], observable: int) -> bool:
    """Whether anything that is given reaches an observable."""
    return any(w.observable == observable for w in ways)


def _plan(people: People) -> list[list[_Way]] | None:
    """Ways of every block, where all subjects have the same and all can be written out."""
    first = people.likelihoods[0]
    plan = []
    for b, block in enumerate(first.blocks):
        digest = block.problem.model.digest
        seen = {o.observable for o in block.observers}
        routes: set[int] = set()
        for one, place in zip(people.likelihoods, people.places, strict=True):
            if len(one.blocks) != len(first.blocks):
                return None
            mine = one.blocks[b]
            if [place[c] for c in mine.columns] != [people.places[0][c] for c in block.columns]:
                return None
            p = mine.problem
            if p.model.digest != digest or not p.exact or p.inputs or p.steps.by or p._fixed is None:
                return None
            if {o.observable for o in mine.observers} != seen or len(p._doses) > DOSES:
                return None
            if (mine.indices, mine.ties) != (block.indices, block.ties):
                return None
            routes |= {route for _, route, _, _ in p._doses}
        ways = _ways(build_system(block.problem.model), sorted(routes), sorted(seen))
        if ways is None:
            return None
        plan.append(ways)
    return plan


def _ways(system: System, routes: list[int], seen: list[int]) -> list[_Way] | None:
    n = system.compartments
    states = [symbol(s) for s in system.states[:n]]
    if any(e != 0 for e in system.initial[:n]):
        return None
    zero = dict.fromkeys(states, sp.Integer(0))
    if any(sp.expand(system.rates[i].xreplace(zero)) != 0 for i in range(n)):  # something is made without a dose
        return None
    A = sp.Matrix(n, n, lambda i, j: sp.expand(sp.diff(system.rates[i], states[j])))
    reach = np.array([[i == j or A[i, j] != 0 for j in range(n)] for i in range(n)])
    for _ in range(n):
        reach = reach @ reach
    ways = []
    for observable in seen:
        e = system.observed[observable]
        c = [sp.expand(sp.diff(e, s)) for s in states]
        if sp.expand(e.xreplace(zero)) != 0 or any(k.free_symbols & set(states) for k in c):
            return None
        for route in routes:
            b = system.entries[route][:n]
            forward = reach @ np.array([k != 0 for k in b])
            backward = np.array([k != 0 for k in c]) @ reach
            on = np.flatnonzero(forward & backward).tolist()
            if not on:
                continue
            parts = _parts(reach[np.ix_(on, on)])
            cycle = len(on) == 3 and any(len(p) == 3 for p in parts) and not _star(A, on)
            if len(on) > LARGEST or cycle:
                return None
            own = A.extract(on, on)
            ways.append(_Way(route, observable, own, tuple(b[i] for i in on), tuple(c[i] for i in on), parts))
    return ways


def _parts(reach: NDArray[np.bool_]) -> tuple[tuple[int, ...], ...]:
    """Strongly connected parts of a graph whose paths are known."""
    both = reach & reach.T
    return tuple(sorted({tuple(np.flatnonzero(row).tolist()) for row in both}))


def _star(A: sp.Matrix, on: list[int]) -> bool:
    """Whether three compartments exchange in pairs without a ring, so that all eigenvalues are real."""
    there = [[A[i, j] != 0 for j in on] for i in on]
    pairs = [(0, 1), (0, 2), (1, 2)]
    return all(there[i][j] == there[j][i] for i, j in pairs) and sum(there[i][j] for i, j in pairs) == 2


def _rows(block: Any, observable: int) -> Floats:
    """Begin and end of the frame [h], scale, and place of each prediction of an observable, (r, 4)."""
    out, place = [], 0
    for o in block.observers:
        here = place + np.arange(len(o.scale))
        place += len(o.scale)
        if o.observable == observable:
            begin = o.times[o.start]
            end = begin if o.mode == "midpoint" else o.times[o.end]
            out.append(np.stack([begin, end, o.scale, here], axis=1))
    return np.concatenate(out)


def _values(people: People, x: Any, b: int) -> dict[sp.Symbol, Any]:
    """Every parameter of a block, (N,), canonical."""
    import pytensor.tensor as pt

    first = people.likelihoods[0]
    block = first.blocks[b]
    fixed = np.array([one.blocks[b].values for one in people.likelihoods])
    names = block.problem.compiled.parameters
    values: list[Any] = [fixed[:, k] if np.ptp(fixed[:, k]) else float(fixed[0, k]) for k in range(len(names))]
    for column, index in zip(block.columns, block.indices, strict=True):
        slot, v = first.slots[column], x[:, people.places[0][column]]
        if slot.transform == "log":
            values[index] = pt.exp(v)
        elif slot.transform == "logit":
            values[index] = slot.lower + (slot.upper - slot.lower) * pt.sigmoid(v)
        else:
            values[index] = v
    for follower, leader in block.ties:
        values[follower] = values[leader]
    return {symbol(n): v for n, v in zip(names, values, strict=True)}


def _number(e: sp.Basic, values: dict[sp.Symbol, Any]) -> Any:
    """An expression of parameters as one of PyTensor."""
    import pytensor.tensor as pt

    if e.is_Symbol:
        return values[e]
    if e.is_number:
        return float(e)
    args = [_number(a, values) for a in e.args]
    if e.is_Add:
        return reduce(lambda a, b: a + b, args)
    if e.is_Mul:
        return reduce(lambda a, b: a * b, args)
    if e.is_Pow:
        return 1.0 / args[0] if e.args[1] == -1 else args[0] ** args[1]
    return getattr(pt, {"exp": "exp", "log": "log", "sqrt": "sqrt"}[type(e).__name__.lower()])(*args)


def _doses(blocks: list[Any], route: int) -> Floats:
    """Time [h], amount and duration [h] of each subject's doses by a route, (N, D, 3); amount zero: none."""
    rows = [[(t, a, d) for t, r, a, d in block.problem._doses if r == route] for block in blocks]
    out = np.zeros((len(rows), max(map(len, rows)), 3))
    for i, row in enumerate(rows):
        if row:
            out[i, : len(row)] = row
    return out


def _response(way: _Way, values: dict[sp.Symbol, Any], doses: Floats, table: Floats) -> Any:
    """Averages over the frames, or values, of an observable after some doses, (N, R)."""
    import pytensor.tensor as pt

    n = len(way.b)
    A = [[_number(way.A[i, j], values) for j in range(n)] for i in range(n)]
    b, c = ([_number(k, values) for k in v] for v in (way.b, way.c))
    rates = _eigenvalues(way.parts, A)
    begin, end = table[:, :, 0], table[:, :, 1]
    total: Any = 0.0
    for k, rate in enumerate(rates):
        v, below = b, 1.0
        for j, other in enumerate(rates):
            if j != k:
                v = [sum(A[r][q] * v[q] for q in range(n) if not _none(A[r][q])) - other * v[r] for r in range(n)]
                below = below * (rate - other)
        amplitude = sum(ck * vk for ck, vk in zip(c, v, strict=True) if not _none(ck)) / below
        column = pt.as_tensor(rate) if np.ndim(rate) == 0 and not hasattr(rate, "type") else rate
        column = column[:, None] if getattr(column, "ndim", 0) == 1 else column
        sums = 0.0
        for d in range(doses.shape[1]):
            time, amount, duration = (doses[:, d, w][:, None] for w in range(3))
            sums = sums + amount * _average(column, begin - time, end - time, duration)
        tall = amplitude[:, None] if getattr(amplitude, "ndim", 0) == 1 else amplitude
        total = total + tall * sums
    return total


def _none(e: Any) -> bool:
    return isinstance(e, float) and e == 0.0


def _eigenvalues(parts: tuple[tuple[int, ...], ...], A: list[list[Any]]) -> list[Any]:
    """One a compartment, no two the same."""
    import pytensor.tensor as pt

    found: list[Any] = []
    for part in parts:
        if len(part) == 1:
            found.append(A[part[0]][part[0]])
        elif len(part) == 2:
            i, j = part
            half, distance = 0.5 * (A[i][i] + A[j][j]), 0.5 * (A[i][i] - A[j][j])
            root = pt.sqrt(distance**2 + A[i][j] * A[j][i])
            slow = (A[i][i] * A[j][j] - A[i][j] * A[j][i]) / (half - root)  # without cancellation
            found += [half - root, slow]
        else:
            found += _cubic(A)
    apart: list[Any] = []
    for rate in found:
        r = pt.minimum(rate, _ZERO)
        for other in apart:
            near = pt.abs(r - other) < APART * pt.abs(other)
            r = pt.switch(near, other * (1 + APART), r)
        apart.append(r)
    return apart


def _cubic(A: list[list[Any]]) -> list[Any]:
    """Three real roots by cosines (Viete)."""
    import pytensor.tensor as pt

    trace = A[0][0] + A[1][1] + A[2][2]
    minors = sum(A[i][i] * A[j][j] - A[i][j] * A[j][i] for i, j in ((0, 1), (0, 2), (1, 2)))
    det = (
        A[0][0] * (A[1][1] * A[2][2] - A[1][2] * A[2][1])
        - A[0][1] * (A[1][0] * A[2][2] - A[1][2] * A[2][0])
        + A[0][2] * (A[1][0] * A[2][1] - A[1][1] * A[2][0])
    )
    third = trace / 3
    p = pt.maximum(third**2 - minors / 3, 1e-300)
    q = third**3 - 0.5 * third * minors + 0.5 * det
    radius = pt.sqrt(p)
    angle = pt.arccos(pt.clip(q / (p * radius), -1 + 1e-15, 1 - 1e-15)) / 3
    first = third + 2 * radius * pt.cos(angle + 2 * np.pi / 3)  # the fastest
    middle = third + 2 * radius * pt.cos(angle - 2 * np.pi / 3)
    return [first, middle, det / (first * middle)]  # the slowest without cancellation


def _average(rate: Any, begin: Floats, end: Floats, duration: Floats) -> Any:
    """Of exp(rate t) after a dose at zero: its average from begin to end, or value where they are the same, (N, R).

    Parameters
    ----------
    rate : eigenvalue, (N, 1) or one number [1/h]
    begin, end : (N, R) arrays, since the dose [h]
    duration : (N, 1) array, of an infusion; zero: at once [h]
    """
    import pytensor.tensor as pt

    framed = end > begin
    width = np.where(framed, end - begin, 1.0)
    total: Any = 0.0
    if (duration == 0).any():
        since, until = np.maximum(begin, 0.0), np.maximum(end, 0.0)
        value = pt.exp(rate * since)
        if framed.any():
            inside = value * pt.expm1(rate * (until - since)) / rate / width
            value = pt.switch(framed, inside, value) if not framed.all() else inside
        total = value * ((duration == 0) & (np.where(framed, end > 0, begin >= 0)))
    if (duration > 0).any():
        running = np.where(duration > 0, duration, 1.0)

        def integral(t: Floats) -> Any:
            """Integral of exp(rate s) from 0 to t."""
            return pt.expm1(rate * np.maximum(t, 0.0)) / rate

        def twice(t: Floats) -> Any:
            s = np.maximum(t, 0.0)
            z = rate * s
            series = s**2 * (0.5 + z / 6 + z**2 / 24 + z**3 / 120)
            return pt.switch(pt.abs(z) < 1e-3, series, (pt.expm1(z) / rate - s) / rate)

        value = integral(begin) - integral(begin - running)
        if framed.any():
            inside = (twice(end) - twice(begin) - twice(end - running) + twice(begin - running)) / width
            value = pt.switch(framed, inside, value) if not framed.all() else inside
        total = total + value * (duration > 0) / running
    return total
