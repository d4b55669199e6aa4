"""Predictions of all subjects at once: values and derivatives by each subject's own parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...errors import FitError
from ..batch import Batch, Member, shares
from ..modal_likelihood import Predictor, predictor_of
from ..noise import Noise, default_noise
from ..observations import Observations
from .effects import Effects
from .layout import Layout, make_layout
from .people import Person

Array = NDArray[np.float64]
STEP, COARSE = 1e-4, 2e-3  # of differences of exact derivatives, and of those that an ODE solver rounds


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What the model says of all values.

    Parameters
    ----------
    value : (n,) array; nan for all values of a subject whose model could not be solved
    tangent : (n, columns) array, derivatives on the scale of the fit; (n, 0) where not asked for
    """

    value: Array
    tangent: Array


@dataclass(frozen=True, eq=False)
class Crowd:
    """Subjects with their layout and all their data in one table."""

    people: tuple[Person, ...]
    layout: Layout

    @cached_property
    def data(self) -> Observations:
        """Values of all subjects, one after the other."""
        return stack([p.data for p in self.people], self.layout.noise.endpoints)

    @cached_property
    def starts(self) -> NDArray[np.intp]:
        """Where each subject's values begin."""
        sizes = [len(p.data) for p in self.people]
        return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp)

    @cached_property
    def owner(self) -> NDArray[np.intp]:
        """(n,) subject of each value."""
        return np.repeat(np.arange(len(self.people)), [len(p.data) for p in self.people])

    @property
    def noise(self) -> Noise:
        """Noise of all endpoints."""
        return self.layout.noise

    def sum(self, values: Array) -> Array:
        """Sums over each subject's values, along the first axis."""
        return np.asarray(np.add.reduceat(values, self.starts, axis=0))

    def predict(self, x: Array, *, tangents: bool = True, who: NDArray[np.bool_] | None = None) -> Answer:
        """Predictions at the subjects' parameters.

        Parameters
        ----------
        x : (people, columns) array, on the scale of the fit
        tangents : whether derivatives are wanted
        who : (people,) mask; the values of others are nan
        """
        n, k = len(self.data), x.shape[1]
        value = np.full(n, np.nan)
        tangent = np.zeros((n, k if tangents else 0))
        wanted = np.ones(len(self.people), dtype=bool) if who is None else who
        wanted = wanted & np.isfinite(np.where(self.layout.used, x, 0.0)).all(axis=1)
        if self._together is not None and wanted.any():
            asked = np.flatnonzero(wanted)
            column = self.layout.place[0]
            got, slopes, first, status = self._together.predict(
                np.ascontiguousarray(x[np.ix_(asked, column)]), asked.astype(np.int64), tangents=tangents
            )
            if asked.size == len(self.people):
                value = got
                if tangents:
                    tangent[:, column] = slopes
            else:
                rows = self._rows(asked)
                value[rows] = got
                if tangents:
                    tangent[np.ix_(rows, column)] = slopes
            if not status.any():
                return Answer(value, tangent)
            wanted = np.zeros(len(self.people), dtype=bool)
            wanted[asked] = ~np.isfinite(np.add.reduceat(got, first[:-1]))
            wanted[self._blocks_of(asked, status != 0)] = True
        if self._batch is not None:
            batch, number = self._batch
            asked = np.flatnonzero(wanted & (number >= 0))
            found = batch.predict(x[asked], number[asked], tangents=tangents)
            rows = self._rows(asked)
            lost = np.repeat(found.failed, np.diff(found.start))
            value[rows] = np.where(lost, np.nan, found.value)
            if tangents:
                tangent[rows] = np.where(lost[:, None], 0.0, found.tangent)
            wanted = wanted & (number < 0)
        for i, person in enumerate(self.people):
            if not wanted[i]:
                continue
            at = self._slice(i)
            place = self.layout.place[i]
            one = person.likelihood.predict(x[i, place], tangents=tangents)
            value[at] = np.nan if one.failure else one.value
            if tangents:
                tangent[at, place] = 0.0 if one.failure else one.tangent
        return Answer(value, tangent)

    def _slice(self, i: int) -> slice:
        """Where the values of a subject are."""
        return slice(int(self.starts[i]), int(self.starts[i]) + len(self.people[i].data))

    def _rows(self, asked: NDArray[np.intp]) -> NDArray[np.intp]:
        """Where the values of some subjects are, one subject after the other."""
        size = np.diff(np.append(self.starts, len(self.data)))[asked]
        return np.asarray(np.arange(size.sum()) + np.repeat(self.starts[asked] - np.cumsum(size) + size, size))

    def repeated(self, times: int) -> Crowd:
        """The same subjects several times over, all ahead of all again; one call then answers for many draws."""
        if times == 1:
            return self
        if times not in self._copies:
            layout = self.layout
            shifts = tuple(replace(s, value=np.tile(s.value, (times, 1))) for s in layout.shifts)
            many = replace(layout, used=np.tile(layout.used, (times, 1)), place=layout.place * times, shifts=shifts)
            self._copies[times] = Crowd(self.people * times, many)
        return self._copies[times]

    @cached_property
    def _copies(self) -> dict[int, Crowd]:
        return {}

    @cached_property
    def _together(self) -> Predictor | None:
        """All subjects in one call of compiled code, where they have the same free parameters."""
        first = self.layout.place[0]
        if any(not np.array_equal(p, first) for p in self.layout.place[1:]):
            return None
        return predictor_of([p.likelihood for p in self.people])

    @cached_property
    def _batch(self) -> tuple[Batch, NDArray[np.intp]] | None:
        """Subjects that share runs of the engine, where modes do not serve, and the number of each; -1: alone."""
        if self._together is not None:
            return None
        numbers: dict[int, int] = {}
        members: list[Member] = []
        number = np.full(len(self.people), -1, dtype=np.intp)
        for i, (person, place) in enumerate(zip(self.people, self.layout.place, strict=True)):
            if id(person) not in numbers and all(shares(b) for b in person.likelihood.blocks):
                numbers[id(person)] = len(members)
                members.append(Member(person.likelihood, place))
            number[i] = numbers.get(id(person), -1)
        return (Batch(tuple(members), self.layout.columns), number) if members else None

    def __getstate__(self) -> dict[str, object]:
        """What it was made from; solvers are found again where it is loaded."""
        return {"people": self.people, "layout": self.layout}

    def _blocks_of(self, asked: NDArray[np.intp], failed: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Subjects of which a block failed."""
        counts = [len(self.people[i].likelihood.blocks) for i in asked]
        return np.unique(np.repeat(asked, counts)[failed])

    @cached_property
    def exact(self) -> bool:
        """Whether no solver rounds, so that predictions are smooth to the last digits."""
        return all(b.problem.exact for p in self.people for b in p.likelihood.blocks)

    @property
    def step(self) -> float:
        """Step of differences of derivatives, on the scale of the fit."""
        return STEP if self.exact else COARSE

    @property
    def rounding(self) -> float:
        """Relative rise of a density that means nothing."""
        return 1e-13 if self.exact else 1e-9

    def second(self, x: Array) -> Array:
        """Second derivatives of the predictions, (n, columns, columns): differences of exact first ones."""
        k, n = x.shape[1], len(self.data)
        shifts = self.step * np.concatenate([np.eye(k), -np.eye(k)])
        mine = np.concatenate([self.layout.used.T, self.layout.used.T])
        at_once = 1 if self._together is not None else 2 * k  # many subjects fill the lanes of the engine
        many = self.repeated(at_once)
        parts = [
            many.predict(
                (x + shifts[j : j + at_once, None]).reshape(-1, k), who=mine[j : j + at_once].reshape(-1)
            ).tangent.reshape(at_once, n, k)
            for j in range(0, 2 * k, at_once)
        ]
        found = np.concatenate(parts)
        out = ((found[:k] - found[k:]) / (2 * self.step)).transpose(1, 2, 0)
        return 0.5 * (out + out.transpose(0, 2, 1))

    def third(self, x: Array) -> Array:
        """Third derivatives, (n, columns, columns, columns)."""
        k, h = x.shape[1], max(10 * STEP, 5 * self.step)
        out = np.zeros((len(self.data), k, k, k))
        for j in range(k):
            step = np.zeros(k)
            step[j] = h
            out[..., j] = (self.second(x + step) - self.second(x - step)) / (2 * h)
        return out


def stack(parts: Sequence[Observations], endpoints: Sequence[str]) -> Observations:
    """Values of several subjects in one table."""
    every = [p.aligned(endpoints) for p in parts]
    for e, name in enumerate(endpoints):
        if len(found := {p.units[e] for p in every if p.units[e]}) > 1:
            raise FitError(f"{name} is given in {' and in '.join(sorted(found))}; convert all subjects to one unit")
    units = tuple(next((p.units[e] for p in every if p.units[e]), "") for e in range(len(endpoints)))

    def joined(name: str) -> Array:
        return np.concatenate([getattr(p, name) for p in every])

    return Observations(
        value=joined("value"), time=joined("time"), shape=joined("shape"),
        endpoint=joined("endpoint").astype(np.intp), endpoints=tuple(endpoints), units=units,
        censored=joined("censored").astype(np.int8), counted=joined("counted").astype(bool),
        occasion=joined("occasion").astype(np.intp),
        occasions=max((p.occasions for p in every), key=len),
    )  # fmt: skip


def gather_crowd(people: Sequence[Person], effects: Effects, noise: Noise | None = None) -> Crowd:
    """Lay out subjects; the noise is the protocol's unless given.

    Parameters
    ----------
    people : subjects
    effects : what varies
    noise : of all endpoints; default as the protocol's error model says
    """
    endpoints = list(dict.fromkeys(e for p in people for e in p.data.endpoints))
    together = stack([p.data for p in people], endpoints)
    noise = noise or default_noise(people[0].likelihood.error, together)
    return Crowd(tuple(people), make_layout(people, effects, noise))
