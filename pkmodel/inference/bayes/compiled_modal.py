"""The compiled back end of linear models of few compartments, inputs and delays included (`inference.modal`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...compiler.modal_code import exact_rows, modal_rows
from ...solve.call import carray
from ..modal import course_of
from .addresses import doubles, function, integers, linked
from .kernels import Kernel, People
from .layout import gather, layout_of, spread


class Modal:
    """Machine code that predicts all subjects from the modes of their matrices.

    Parameters
    ----------
    people : whose predictions
    layout, course : their solves, and what is constant of them
    """

    words = "compiled, from the modes of the linear system"

    def __init__(self, people: People, layout: Any, course: Any) -> None:
        self.people, self.layout, self.course = people, layout, course
        self._made: dict[bool, Any] = {}
        self._kept: list[Any] = []  # what machine code reads where it lies: for both functions, as long as they live

    def address(self, tangents: bool) -> int:
        """Machine address of the function."""
        if tangents not in self._made:
            self._made[tangents] = self._compile(tangents)
        return int(self._made[tangents].address)

    def _compile(self, tangents: bool) -> Any:
        N, K, n = self.people.count, self.people.width, int(self.people.rows[-1])
        deep = n if tangents else 0
        lay, c = self.layout, self.course
        by_modes, exactly, fill = (linked(f) for f in (modal_rows().rows, exact_rows().exactly, c.module.fill))
        S, p = lay.base.shape
        F, T = lay.parameter.shape[1], lay.follower.shape[1]
        D = F if tangents else 0
        height, states, channels = int(c.module.N), int(c.module.STATES), int(c.module.CHANNELS)
        knots, moments, rows = len(c.at), len(c.times), len(c.scale)
        which = np.arange(S)
        self._kept += [lay, c, which]  # compiled code reads them where they lie
        (subject, base, index, column, follower, leader, kind, lower, upper, places) = (a.ctypes.data for a in lay)
        courses, delay, bounds, at, jump, u, m, clock, times, first, what, start, end, scale = (
            a.ctypes.data
            for a in (
                which, c.delay, c.bounds, c.at, c.jump, c.u, c.m, c.clock, c.times, c.rows, c.observable, c.start,
                c.end, c.scale,
            )
        )  # fmt: skip

        def run(px, pvalue, ptangent, pgood):  # type: ignore[no-untyped-def]
            x, value, good = carray(px, (N, K)), carray(pvalue, (n,)), carray(pgood, (N,))
            tangent = carray(ptangent, (deep, K))
            P, along = carray(doubles(base), (S, p)).copy(), np.zeros((S, D, p))
            who, into, place = (
                carray(integers(subject), (S,)), carray(integers(column), (S, F)), carray(integers(places), (S + 1,))
            )  # fmt: skip
            spread(
                x, who, carray(integers(index), (S, F)), into, carray(integers(follower), (S, T)),
                carray(integers(leader), (S, T)), carray(integers(kind), (N, K)), carray(doubles(lower), (N, K)),
                carray(doubles(upper), (N, K)), P, along,
            )  # fmt: skip
            A, G = np.empty((S, height, states)), np.empty((S, height, channels))
            dA, dG = np.empty((S, D, height, states)), np.empty((S, D, height, channels))
            wait, later = np.empty((S, channels)), np.empty((S, D, channels))
            found, slopes, status = np.empty(n), np.empty((n, D)), np.empty(S, np.int64)
            finite = True
            for s in range(S):
                for k in range(p):
                    finite &= np.isfinite(P[s, k])
            status[:] = 3
            if finite:
                fill((P, along, carray(integers(delay), (channels,)), A, G, dA, dG, wait, later))
                a, b = carray(integers(courses), (S,)), carray(integers(bounds), (S, channels + 1))
                d, e = carray(doubles(at), (knots,)), carray(doubles(jump), (knots,))
                f, g = carray(doubles(u), (knots,)), carray(doubles(m), (knots,))
                h, i = carray(integers(clock), (S + 1,)), carray(doubles(times), (moments,))
                j, k, q = (
                    carray(integers(first), (S + 1,)),
                    carray(integers(what), (rows,)),
                    carray(integers(start), (rows,)),
                )
                r, t = carray(integers(end), (rows,)), carray(doubles(scale), (rows,))
                every = (
                    A, G, dA, dG, wait, later, a, b, d, e, f, g, h, i, j, k, q, r, t, place, found, slopes, status
                )  # fmt: skip
                by_modes(every)
                exactly(every)
            gather(status, who, into, place, found, slopes, value, tangent, good)

        return function(run)


def compiled_modal(people: People) -> Kernel | None:
    """The back end, or None where modes do not describe every subject.

    Parameters
    ----------
    people : whose predictions
    """
    layout = layout_of(people)
    if layout is None:
        return None
    blocks = [b for one in people.likelihoods for b in one.blocks]
    course = course_of([b.problem for b in blocks], [b.observers for b in blocks])
    return None if course is None else Modal(people, layout, course)
