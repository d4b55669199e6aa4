"""Predictions of likelihoods by modes: from free parameters to values and derivatives in compiled code alone.

One `Predictor` serves one likelihood from many starts or draws at once, and a population of likelihoods of one model,
each with its own doses, inputs and times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..solve.modal_scale import place
from .modal import Course, course_of

if TYPE_CHECKING:
    from .likelihood import Block, Likelihood

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
KINDS = {"none": 0, "log": 1, "logit": 2}


@dataclass(frozen=True, slots=True, eq=False)
class Predictor:
    """What is constant of some likelihoods of one model with the same free parameters.

    Parameters
    ----------
    course : doses, inputs, times and rows of every block
    kind, lower, upper : (k,) arrays, scale of each free parameter (`solve.modal_scale`)
    fixed, slot : (blocks, K) arrays, parameters that are not free, and the column that a free one follows
    first : (likelihoods + 1,) array, first block of each likelihood
    """

    course: Course
    kind: Whole
    lower: Array
    upper: Array
    fixed: Array
    slot: Whole
    first: Whole

    def predict(
        self, x: Array, who: Whole | None = None, *, tangents: bool = True
    ) -> tuple[Array, Array, Whole, Whole]:
        """Predictions of S members.

        Parameters
        ----------
        x : (S, k) array, on the scale of the fit
        who : (S,) array, likelihood of each member; default one each, or all of the only one [1]
        tangents : whether the derivatives are wanted

        Returns
        -------
        value (R,) in the order of `Likelihood.data`, member after member; tangent (R, k) by x, or (R, 0);
        place (S + 1,), first row of each member; status (blocks of the members,), 0 or a code of `solve.status`
        """
        likelihoods = self.first.size - 1
        members = who if who is not None else np.zeros(len(x), np.int64) if likelihoods == 1 else np.arange(len(x))
        counts = np.diff(self.first)[members]
        owner = np.repeat(np.arange(len(x)), counts)
        ends = np.cumsum(counts)
        block = np.arange(owner.size) - np.repeat(ends - counts - self.first[:-1][members], counts)
        p = np.empty((owner.size, self.fixed.shape[1]))
        along = np.empty((owner.size, x.shape[1] if tangents else 0, self.fixed.shape[1]))
        place(
            np.ascontiguousarray(x, dtype=float), owner, block, self.kind, self.lower, self.upper, self.fixed,
            self.slot, p, along,
        )  # fmt: skip
        value, tangent, rows, status = self.course.predict(p, along, block)
        return value, tangent, rows[np.concatenate([[0], ends])], status


def predictor_of(likelihoods: Sequence[Likelihood]) -> Predictor | None:
    """The predictor of likelihoods with the same free parameters; None where modes cannot serve them all.

    Parameters
    ----------
    likelihoods : of one model, each of one subject, whose slots stand in the same order on the same scales
    """
    blocks = [b for one in likelihoods for b in one.blocks]
    slots = likelihoods[0].slots
    scales = [(s.transform, s.lower, s.upper) for s in slots]
    if any([(s.transform, s.lower, s.upper) for s in one.slots] != scales for one in likelihoods[1:]):
        return None
    course = course_of([b.problem for b in blocks], [b.observers for b in blocks])
    if course is None:
        return None
    return Predictor(
        course,
        np.array([KINDS[s.transform] for s in slots], dtype=np.int64),
        np.array([s.lower for s in slots], dtype=float),
        np.array([s.upper for s in slots], dtype=float),
        np.array([_fixed(b) for b in blocks]),
        np.array([_slots(b) for b in blocks], dtype=np.int64),
        np.concatenate([[0], np.cumsum([len(one.blocks) for one in likelihoods])]).astype(np.int64),
    )


def _fixed(block: Block) -> Array:
    p = block.values.copy()
    for follower, leader in block.ties:
        p[follower] = p[leader]
    return p


def _slots(block: Block) -> Whole:
    """Column of the free parameter that each parameter of a block follows, -1 where none."""
    found = np.full(block.values.size, -1, dtype=np.int64)
    found[list(block.indices)] = block.columns
    for follower, leader in block.ties:
        found[follower] = found[leader]
    return found
