"""Solves of all subjects as plain arrays: where each solve's parameters come from, for compiled code."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...solve.jit import njit
from .kernels import People

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]

TRANSFORMS = ("none", "log", "logit")


class Layout(NamedTuple):
    """S solves, one for each block of each subject, in the order of the predictions.

    Attributes
    ----------
    subject : (S,) array
    base : (S, p) array, canonical parameters, fixed ones set
    parameter, column : (S, F) arrays: parameter, and free parameter of the subject that it is
    follower, leader : (S, T) arrays, parameters that follow others
    kind, lower, upper : (N, K) arrays, transform of each subject's free parameters, and its bounds [canonical]
    rows : (S + 1,) array, first prediction of each solve
    """

    subject: Integers
    base: Floats
    parameter: Integers
    column: Integers
    follower: Integers
    leader: Integers
    kind: Integers
    lower: Floats
    upper: Floats
    rows: Integers


def layout_of(people: People) -> Layout | None:
    """The layout, or None where solves differ in their numbers of parameters.

    Parameters
    ----------
    people : whose
    """
    blocks = [(i, b) for i, one in enumerate(people.likelihoods) for b in one.blocks]
    sizes = {(len(b.values), len(b.indices), len(b.ties)) for _, b in blocks}
    if len(sizes) != 1:
        return None
    ((_, free, ties),) = sizes
    lengths = [sum(len(o.scale) for o in b.observers) for _, b in blocks]
    kind, lower, upper = (np.zeros((people.count, people.width)) for _ in range(3))
    for i, (one, place) in enumerate(zip(people.likelihoods, people.places, strict=True)):
        for slot, k in zip(one.slots, place, strict=True):
            kind[i, k], lower[i, k], upper[i, k] = TRANSFORMS.index(slot.transform), slot.lower, slot.upper

    def whole(rows: list[list[int]], width: int) -> Integers:
        return np.array(rows, dtype=np.int64).reshape(len(blocks), width)

    return Layout(
        subject=np.array([i for i, _ in blocks], dtype=np.int64),
        base=np.array([b.values for _, b in blocks], dtype=float),
        parameter=whole([list(b.indices) for _, b in blocks], free),
        column=whole([[people.places[i][c] for c in b.columns] for i, b in blocks], free),
        follower=whole([[f for f, _ in b.ties] for _, b in blocks], ties),
        leader=whole([[lead for _, lead in b.ties] for _, b in blocks], ties),
        kind=kind.astype(np.int64),
        lower=lower,
        upper=upper,
        rows=np.cumsum([0, *lengths]).astype(np.int64),
    )


@njit()
def spread(
    x: Floats, subject: Integers, index: Integers, column: Integers, follower: Integers, leader: Integers,
    kind: Integers, lower: Floats, upper: Floats, P: Floats, along: Floats,
) -> None:  # fmt: skip
    """Parameters of every solve and their derivatives by its free ones on the scale of the fit.

    Parameters
    ----------
    x : (N, K) array, on the scale of the fit
    P : (S, p) array, holds the fixed parameters; free ones are written
    along : (S, F or 0, p) array of zeros, written
    """
    derivatives = along.shape[1] > 0
    for s in range(P.shape[0]):
        i = subject[s]
        for j in range(index.shape[1]):
            k, at = column[s, j], index[s, j]
            v = x[i, k]
            value, slope = v, 1.0
            if kind[i, k] == 1:
                value = np.exp(v)
                slope = value
            elif kind[i, k] == 2:
                share = 1.0 / (1.0 + np.exp(-v))
                value = lower[i, k] + (upper[i, k] - lower[i, k]) * share
                slope = (upper[i, k] - lower[i, k]) * share * (1.0 - share)
            P[s, at] = value
            if derivatives:
                along[s, j, at] = slope
        for t in range(follower.shape[1]):
            P[s, follower[s, t]] = P[s, leader[s, t]]
            if derivatives:
                for j in range(index.shape[1]):
                    along[s, j, follower[s, t]] = along[s, j, leader[s, t]]


@njit()
def gather(
    ok: Integers, subject: Integers, column: Integers, rows: Integers, found: Floats, slopes: Floats, value: Floats,
    tangent: Floats, good: Floats,
) -> None:  # fmt: skip
    """From solves to subjects: a solve that failed, or is not finite, makes zeros and a flag for its whole subject.

    Parameters
    ----------
    ok : (S,) array, 0 where a solve went well
    found, slopes : (n,) and (n, F or 0) arrays of the solves
    value, tangent, good : (n,), (n, K or 0) and (N,) arrays, written
    """
    good[:] = 1.0
    derivatives = tangent.shape[0] > 0
    for s in range(subject.size):
        fine = ok[s] == 0
        for r in range(rows[s], rows[s + 1]):
            fine &= np.isfinite(found[r])
            if derivatives:
                for j in range(column.shape[1]):
                    fine &= np.isfinite(slopes[r, j])
        if not fine:
            good[subject[s]] = 0.0
    tangent[:] = 0.0
    for s in range(subject.size):
        alive = good[subject[s]]
        for r in range(rows[s], rows[s + 1]):
            value[r] = found[r] if alive > 0.0 else 0.0
            if derivatives and alive > 0.0:
                for j in range(column.shape[1]):
                    tangent[r, column[s, j]] += slopes[r, j]
