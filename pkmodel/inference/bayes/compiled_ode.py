"""The compiled back end of other models: the engine's own driver and its exact tangents, called from compiled code.

All solves of all subjects share the lanes of a vector; then derivatives are pushed along each one's steps. What happens
to a subject must not depend on the free parameters: doses at fixed times in fixed fractions. A step that would need
another order of pivots counts as a failure here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...compiler.directions import directions, lay
from ...compiler.engine import FEW, MAX_STEPS
from ...compiler.gradient import Gradient
from ...compiler.machine import default_lanes
from ...compiler.walks import LONG, SHORT
from ...problem import Problem
from ...recording import Curve, record
from ...solve import itinerary, lanes, rosenbrock, tangents
from ...solve.call import carray
from ...solve.records import Records
from ...solve.task import Answer, Code, Lanes, Task
from .addresses import doubles, function, integers, linked, small_integers
from .kernels import Kernel, People
from .layout import Layout, gather, layout_of, spread

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]

ROOM = 256  # steps a solve is given at first
STAGES = lanes.STAGES


@dataclass(eq=False)
class Plan:
    """What is constant of all solves: S of them, at most E records and m times each."""

    layout: Layout
    problem: Problem
    time: Floats  # (S, E)
    kind: NDArray[np.int8]
    place: Integers
    value: Floats
    times: Floats  # (S, m)
    start: Integers  # (n,) of each prediction: index of its frame's start, of its end
    end: Integers
    observable: Integers
    width: Floats  # (n,) of the frame; 0: a value
    scale: Floats
    atol: Floats  # (states,)


def _plan(people: People) -> Plan | None:
    layout = layout_of(people)
    if layout is None:
        return None
    blocks = [b for one in people.likelihoods for b in one.blocks]
    first = blocks[0].problem
    found = []
    for block in blocks:
        q = block.problem
        free = [*block.indices, *(f for f, _ in block.ties)]
        same = q.compiled.digest == first.compiled.digest and (q.rtol, q.infused) == (first.rtol, first.infused)
        if not same or q.model.events or q.steps.by or q._fixed is None or q.compiled.switches:
            return None
        if set(free) & {d for d in q._delays if d >= 0} or q.compiled.entries_dp(block.values)[..., free].any():
            return None
        found.append(_records(q, block.values))
    most, wide = max(r.time.shape[1] for r in found), max(len(b.problem.times) for b in blocks)
    shape = (len(blocks), most)
    time, value = np.full(shape, np.inf), np.zeros(shape)
    kind, place = np.zeros(shape, np.int8), np.zeros(shape, np.int64)
    times = np.full((len(blocks), wide), np.inf)
    rows = []
    for s, (block, r) in enumerate(zip(blocks, found, strict=True)):
        e = r.time.shape[1]
        time[s, :e], value[s, :e], kind[s, :e], place[s, :e] = r.time[0], r.value[0], r.kind[0], r.index[0]
        times[s, : len(block.problem.times)] = block.problem.times
        for o in block.observers:
            end = o.end if o.mode == "frame" else o.start
            rows.append([o.start, end, np.full(o.start.size, o.observable), o.times[end] - o.times[o.start], o.scale])
    start, end, observable, width, scale = (np.concatenate(c) for c in zip(*rows, strict=True))
    states = len(_engine(first).system.states)
    atol = np.full(states, min(b.problem._absolute(b.values) for b in blocks))
    return Plan(
        layout, first, time, kind, place, value, times, start.astype(np.int64), end.astype(np.int64),
        observable.astype(np.int64), width.astype(float), scale.astype(float), atol,
    )  # fmt: skip


def _engine(problem: Problem) -> Any:
    """Solver that reports observables, then their integrals."""
    return problem.compiled.engine(problem.infused)


def _records(q: Problem, p: Floats) -> Records:
    table = p[:, None]
    events, _ = q.events(table, q.directions(()))
    curves = [
        Curve(c.t, c.value, table[d] if d >= 0 else np.zeros(1), np.zeros(0))
        for c, d in zip(q.inputs.values(), q._delays, strict=True)
    ]
    last = max(float(q.times[-1]), 0.0)
    return record(
        q.compiled, _engine(q).system, events, curves, q.steps, last, table, np.zeros((0, len(p)))
    ).records  # fmt: skip


class Ode:
    """Machine code that solves all subjects step by step.

    Parameters
    ----------
    people : whose predictions
    plan : their solves
    """

    words = "compiled, by the engine of differential equations with exact tangents"

    def __init__(self, people: People, plan: Plan) -> None:
        self.people, self.plan = people, plan
        self._made: dict[bool, Any] = {}
        self._kept: list[Any] = []  # what machine code reads where it lies: for both functions, as long as they live

    def address(self, tangents: bool) -> int:
        """Machine address of the function."""
        if tangents not in self._made:
            self._made[tangents] = self._compile(tangents)
        return int(self._made[tangents].address)

    def _compile(self, wanted: bool) -> Any:
        N, K, n = self.people.count, self.people.width, int(self.people.rows[-1])
        deep, plan, layout = n if wanted else 0, self.plan, self.plan.layout
        S, p = layout.base.shape
        F, T = layout.parameter.shape[1], layout.follower.shape[1]
        D = F if wanted else 0
        engine = _engine(plan.problem)
        moved = sorted({int(k) for k in layout.parameter[0]} | {int(k) for k in layout.follower[0]})
        gradient = Gradient(engine, moved)
        wide = SHORT if F <= SHORT else LONG
        L = 1 if S <= FEW else default_lanes()
        code = engine._code(L)
        forward = gradient.code.forward(wide)
        records = Records(plan.time[:1], plan.kind[:1], plan.place[:1], plan.value[:1])
        pattern = np.zeros((F, p))
        for j, at in enumerate(layout.parameter[0]):
            pattern[j, at] = 1.0
            for f, lead in zip(layout.follower[0], layout.leader[0], strict=True):
                pattern[j, f] += lead == at
        primary, states, E = len(engine.system.parameters), code.n, plan.time.shape[1]
        laid = lay(directions(pattern, primary, states, E, None, None, None), forward, records)
        _warm(gradient, plan)  # the drivers are compiled, or fetched, by one run
        march, push, walk = linked(lanes.march), linked(tangents.push), linked(itinerary._walk)
        blocks, m, r = laid.blocks, plan.times.shape[1], len(engine.system.report)
        o_count = r // 2
        rtol, gamma = float(plan.problem.rtol), float(rosenbrock.GAMMA)
        kernels, fkernels, A, C = code.kernels, forward.kernels, rosenbrock.A.copy(), rosenbrock.C.copy()
        products, head = np.ascontiguousarray(laid.products), np.zeros(0)
        numbers = np.array([L, code.n, code.nq, code.nw, forward.lanes, forward.width, forward.nq, forward.nw,
                            forward.entries, forward.levers, MAX_STEPS, 2 if wanted else 0, lanes.STRIDE])  # fmt: skip
        self._kept += [engine, gradient, code, forward, kernels, fkernels, A, C, products, head, numbers, plan]
        (subject, base, index, column, follower, leader, kind_, lower, upper, places) = (a.ctypes.data for a in layout)
        a_time, a_kind, a_place, a_value, a_times, a_start, a_end, a_what, a_width, a_scale, a_atol = (
            a.ctypes.data for a in (plan.time, plan.kind, plan.place, plan.value, plan.times, plan.start, plan.end,
                                    plan.observable, plan.width, plan.scale, plan.atol)
        )  # fmt: skip
        a_kernels, a_fkernels, a_A, a_C, a_products, a_numbers = (
            a.ctypes.data for a in (kernels, fkernels, A, C, products, numbers)
        )
        kernel_count, fkernel_count, (A0, A1), (P0, P1) = kernels.size, fkernels.size, A.shape, products.shape
        parameters = primary

        def run(px, pvalue, ptangent, pgood):  # type: ignore[no-untyped-def]
            x, value, good = carray(px, (N, K)), carray(pvalue, (n,)), carray(pgood, (N,))
            tangent = carray(ptangent, (deep, K))
            P, along = carray(doubles(base), (S, p)).copy(), np.zeros((S, D, p))
            who, into, place = (
                carray(integers(subject), (S,)), carray(integers(column), (S, F)), carray(integers(places), (S + 1,))
            )  # fmt: skip
            spread(
                x, who, carray(integers(index), (S, F)), into, carray(integers(follower), (S, T)),
                carray(integers(leader), (S, T)), carray(integers(kind_), (N, K)), carray(doubles(lower), (N, K)),
                carray(doubles(upper), (N, K)), P, along,
            )  # fmt: skip
            sizes = carray(integers(a_numbers), (13,))
            lanes_, ny, nq, nw = sizes[0], sizes[1], sizes[2], sizes[3]
            time, times = carray(doubles(a_time), (S, E)), carray(doubles(a_times), (S, m))
            kind, spot = carray(small_integers(a_kind), (S, E)), carray(integers(a_place), (S, E))
            amount, atol = carray(doubles(a_value), (S, E)), carray(doubles(a_atol), (states,))
            machine = Code(carray(integers(a_kernels), (kernel_count,)), lanes_, ny, nq, nw, np.zeros(0))
            chosen, status = np.arange(S), np.zeros(S, np.int64)
            answer = Answer(
                np.empty((S, m, r)), np.empty((0, m, states)), status, np.zeros(S), np.zeros(S, np.int64),
                np.zeros(S, np.int64),
            )  # fmt: skip
            good_numbers = True
            for s in range(S):
                for k in range(p):
                    good_numbers &= np.isfinite(P[s, k])
            found, slopes = np.zeros(n), np.zeros((n, D))
            if not good_numbers:
                status[:] = 3
                gather(status, who, into, place, found, slopes, value, tangent, good)
                return
            task = Task(
                P, time, kind, spot, amount, times, rtol, atol, sizes[10], np.zeros(0, np.int64), np.zeros(0), sizes[11]
            )
            room = ROOM * S + 16 * lanes_ if wanted else 0
            at, clock = np.zeros((10, lanes_), np.int64), np.ones((6, lanes_))
            at[0] = -1
            ctl = tangents._aligned(5 * lanes_)
            ctl[2 * lanes_ : 3 * lanes_] = rtol
            work = Lanes(
                at, clock, tangents._aligned(ny * lanes_), tangents._aligned(ny * lanes_),
                tangents._aligned(ny * lanes_), tangents._aligned(nq * lanes_), tangents._aligned(nw * lanes_), ctl,
                tangents._aligned(lanes_), tangents._aligned(STAGES * ny * lanes_), tangents._aligned(3 * ny * lanes_),
                tangents._aligned(r * lanes_), np.zeros(2, np.int64), np.empty(room, np.int64), np.empty(room),
                np.empty((room, ny)),
            )  # fmt: skip
            while march((machine, task, chosen, work, answer, sizes[12])):
                if wanted and work.counts[1] + lanes_ > work.who.size:
                    more = work.who.size
                    work = Lanes(
                        work.at, work.clock, work.y, work.u, work.x, work.q, work.w, work.ctl, work.theta, work.K,
                        work.D, work.shown, work.counts, np.concatenate((work.who, np.empty(more, np.int64))),
                        np.concatenate((work.size, np.empty(more))),
                        np.concatenate((work.state, np.empty((more, ny)))),
                    )  # fmt: skip
            out = answer.out
            first, last = carray(integers(a_start), (n,)), carray(integers(a_end), (n,))
            what, long = carray(integers(a_what), (n,)), carray(doubles(a_width), (n,))
            scale = carray(doubles(a_scale), (n,))
            for s in range(S):
                if status[s] == 0:
                    for q in range(place[s], place[s + 1]):
                        if long[q] > 0.0:
                            i = what[q] + o_count
                            found[q] = (out[s, last[q], i] - out[s, first[q], i]) / long[q] * scale[q]
                        else:
                            found[q] = out[s, first[q], what[q]] * scale[q]
            if wanted:
                written = work.counts[1]
                begins = np.zeros(S + 1, np.int64)
                for k in range(written):
                    begins[work.who[k] + 1] += 1
                for s in range(S):
                    begins[s + 1] += begins[s]
                order, length, fill = np.empty(written, np.int64), np.empty(written), begins[:S].copy()
                for k in range(written):
                    w = work.who[k]
                    order[fill[w]], length[fill[w]] = k, work.size[k]
                    fill[w] += 1
                never = np.iinfo(np.int64).max
                output, acts = np.full((S, m), never), np.full((S, E), never)
                since, long_ = np.zeros(written), np.zeros(written)
                walk((begins, length, time, times, since, long_, output, acts))
                width, fm = sizes[5], carray(integers(a_fkernels), (fkernel_count,))
                table_a, table_c = carray(doubles(a_A), (A0, A1)), carray(doubles(a_C), (A0, A1))
                steer = carray(integers(a_products), (P0, P1))
                for s in range(S):
                    if status[s] != 0:
                        continue
                    moments = m
                    while moments > 0 and not times[s, moments - 1] < np.inf:
                        moments -= 1
                    full = np.zeros(parameters)
                    full[:p] = P[s]
                    dp, ds = np.zeros((blocks, parameters * width)), np.zeros((blocks, ny * width))
                    for j in range(F):
                        for k in range(p):
                            dp[j // width, k * width + j % width] = along[s, j, k]
                    told, dtold = np.empty((moments, r)), np.empty((blocks, moments, r * width))
                    none = np.zeros((E, blocks * width))
                    b, e = begins[s], begins[s + 1]
                    ended = push((
                        fm, sizes[4], width, ny, sizes[6], sizes[7], sizes[8], np.zeros(0), table_a, table_c, gamma,
                        full, kind[s], spot[s], amount[s], none, none, long_[b:e], since[b:e], order[b:e], work.state,
                        times[s, :moments], output[s, :moments], acts[s], dp, ds, sizes[9], steer, told, dtold,
                    ))  # fmt: skip
                    status[s] = ended
                    for q in range(place[s], place[s + 1]):
                        for j in range(F):
                            c, lane = j // width, j % width
                            if long[q] > 0.0:
                                i = (what[q] + o_count) * width + lane
                                slopes[q, j] = (dtold[c, last[q], i] - dtold[c, first[q], i]) / long[q] * scale[q]
                            else:
                                slopes[q, j] = dtold[c, first[q], what[q] * width + lane] * scale[q]
            gather(status, who, into, place, found, slopes, value, tangent, good)

        return function(run)


def _warm(gradient: Gradient, plan: Plan) -> None:
    """One run, after which the drivers are compiled."""
    q, p = plan.problem, plan.layout.base[0]
    along = np.zeros((1, len(p)))
    along[0, gradient.free[0]] = 1.0
    records = Records(plan.time[:1], plan.kind[:1], plan.place[:1], plan.value[:1])
    gradient.tangents(p, along, records, q.times, q.rtol, plan.atol)


def compiled_ode(people: People) -> Kernel | None:
    """The back end, or None where what happens depends on the parameters, or steps need pivoting.

    Parameters
    ----------
    people : whose predictions
    """
    plan = _plan(people)
    if plan is None:
        return None
    engine = _engine(plan.problem)
    if len(engine._code(1).head):
        return None
    return Ode(people, plan)
