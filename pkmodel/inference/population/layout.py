"""The numbers of a population as one vector, and the subjects' parameters as functions of it.

The vector phi holds typical values theta, free covariate coefficients, the covariances as Cholesky factors (logarithms
on the diagonal), and the logarithms of the noise. All subjects share one set of columns: a parameter that differs
between occasions has a column for each. A column that a subject does not use has no data and so no effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...covariates import Covariate
from ...errors import FitError
from ...units import dimension, factor, quantity
from ..noise import Noise
from ..slots import Slot
from .effects import Effects, Relation, expand
from .people import Person

Array = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """A covariance as a Cholesky factor: which entries are parameters, and where they start.

    Parameters
    ----------
    start : (m, m) lower triangle
    entries : (row, column) of each free entry; the diagonal is kept as logarithms
    """

    start: Array
    entries: tuple[tuple[int, int], ...]

    @property
    def begin(self) -> Array:
        """Start of the free entries."""
        return np.array([np.log(self.start[i, i]) if i == j else self.start[i, j] for i, j in self.entries])

    def root(self, values: Array) -> Array:
        """The Cholesky factor at the free entries, (m, m)."""
        out = self.start.copy()
        for (i, j), v in zip(self.entries, values, strict=True):
            out[i, j] = np.exp(v) if i == j else v
        return out

    def derivatives(self, root: Array) -> Array:
        """Derivative of the covariance by each free entry, (entries, m, m)."""
        out = np.zeros((len(self.entries), *root.shape))
        for n, (i, j) in enumerate(self.entries):
            step = np.zeros_like(root)
            step[i, j] = root[i, i] if i == j else 1.0
            out[n] = step @ root.T + root @ step.T
        return out

    def free_from(self, covariance: Array) -> Array:
        """Free entries of a covariance (only its free entries count)."""
        root = np.linalg.cholesky(covariance) if covariance.size else covariance
        return np.array([np.log(root[i, i]) if i == j else root[i, j] for i, j in self.entries])


@dataclass(frozen=True, slots=True, eq=False)
class Shift:
    """One covariate effect on its columns: values of the covariate per subject and column."""

    relation: Relation
    coefficient: int  # among the free ones, -1 where it is fixed
    columns: Index
    value: Array  # (people, columns); already centred: log(c/ref), c - ref, or 1 where c is the level

    def add(self, coefficient: float) -> tuple[Array, Array]:
        """What is added on the scale of the fit, and its derivative by the coefficient, both (people, columns)."""
        if self.relation.kind != "proportional":
            return coefficient * self.value, self.value
        with np.errstate(invalid="ignore", divide="ignore"):
            change = 1.0 + coefficient * self.value
            return np.where(change > 0, np.log(change), np.nan), self.value / change


@dataclass(frozen=True, eq=False)
class Layout:
    """Where everything is.

    Parameters
    ----------
    slots : population parameters, one per label without occasion
    columns : slots of all subjects' parameters; with occasions numbered from one
    of : (columns,) parameter of each column
    used : (people, columns) whether a subject has it
    place : per subject, the column of each slot of its likelihood
    varying, switching : parameters that vary between subjects, between occasions
    design : (columns, q) which random effect enters which column
    between, occasion : their covariances
    occasions : most occasions that any subject has
    shifts : covariate effects
    noise : of all endpoints
    """

    slots: tuple[Slot, ...]
    columns: tuple[Slot, ...]
    of: Index
    used: NDArray[np.bool_]
    place: tuple[Index, ...]
    varying: Index
    switching: Index
    design: Array
    between: Factor
    occasion: Factor
    occasions: int
    shifts: tuple[Shift, ...]
    noise: Noise

    @cached_property
    def parts(self) -> dict[str, slice]:
        """Where in phi each part lies: theta, coefficients, between, occasion, noise."""
        sizes = {
            "theta": len(self.slots),
            "coefficients": len(self.free_relations),
            "between": len(self.between.entries),
            "occasion": len(self.occasion.entries),
            "noise": len(self.noise.free),
        }
        at, out = 0, {}
        for name, n in sizes.items():
            out[name] = slice(at, at + n)
            at += n
        return out

    @property
    def size(self) -> int:
        """Length of phi."""
        return int(self.parts["noise"].stop)

    @property
    def free_relations(self) -> tuple[Relation, ...]:
        """Covariate effects that are estimated."""
        return tuple(s.relation for s in self.shifts if s.coefficient >= 0)

    @property
    def start(self) -> Array:
        """Where a fit begins."""
        theta = np.array([s.to_scale(s.start) for s in self.slots], dtype=float)
        coefficients = np.array([r.coefficient for r in self.free_relations])
        return np.concatenate([theta, coefficients, self.between.begin, self.occasion.begin, self.noise.start])

    def closed(self, phi: Array, below: float) -> NDArray[np.intp]:
        """Where in phi the spreads lie that are smaller than an SD, on the scale of the fit."""
        at = self.parts
        found = []
        for word, spread in (("between", self.between), ("occasion", self.occasion)):
            small = np.diag(spread.root(self.part(phi, word))) < below
            found += [at[word].start + n for n, (i, j) in enumerate(spread.entries) if i == j and small[i]]
        return np.array(found, dtype=np.intp)

    @property
    def names(self) -> tuple[str, ...]:
        """What each number of phi is."""
        theta = [s.label for s in self.slots]
        effects = [f"{r.covariate} on {r.parameter}{f' ({r.level})' if r.level else ''}" for r in self.free_relations]
        spread = [_entry("omega", [self.slots[k].label for k in self.varying], e) for e in self.between.entries]
        cycles = [_entry("occasion", [self.slots[k].label for k in self.switching], e) for e in self.occasion.entries]
        return (*theta, *effects, *spread, *cycles, *self.noise.names)

    def part(self, phi: Array, name: str) -> Array:
        """One part of phi."""
        return np.asarray(phi[self.parts[name]], dtype=float)

    def omega(self, phi: Array) -> Array:
        """Covariance between subjects, (m, m), in the order of `varying`."""
        root = self.between.root(self.part(phi, "between"))
        return root @ root.T

    def occasion_omega(self, phi: Array) -> Array:
        """Covariance between occasions, in the order of `switching`."""
        root = self.occasion.root(self.part(phi, "occasion"))
        return root @ root.T

    def prior(self, phi: Array) -> Array:
        """Covariance of all random effects of a subject, (q, q)."""
        m, r = len(self.varying), len(self.switching)
        out = np.zeros((self.design.shape[1],) * 2)
        out[:m, :m] = self.omega(phi)
        one = self.occasion_omega(phi)
        for c in range(self.occasions if r else 0):
            at = slice(m + c * r, m + (c + 1) * r)
            out[at, at] = one
        return out

    def prior_derivatives(self, phi: Array) -> Array:
        """Derivative of `prior` by each entry of both factors, (entries, q, q)."""
        m, r = len(self.varying), len(self.switching)
        q = self.design.shape[1]
        first = self.between.derivatives(self.between.root(self.part(phi, "between")))
        second = self.occasion.derivatives(self.occasion.root(self.part(phi, "occasion")))
        out = np.zeros((len(first) + len(second), q, q))
        out[: len(first), :m, :m] = first
        for c in range(self.occasions if r else 0):
            at = slice(m + c * r, m + (c + 1) * r)
            out[len(first) :, at, at] = second
        return out

    def typical(self, phi: Array) -> Array:
        """Parameters of each subject without random effects, (people, columns), on the scale of the fit."""
        out = np.tile(self.part(phi, "theta")[self.of], (len(self.used), 1))
        free = self.part(phi, "coefficients")
        for s in self.shifts:
            out[:, s.columns] += s.add(float(free[s.coefficient]) if s.coefficient >= 0 else s.relation.coefficient)[0]
        return out

    def typical_derivatives(self, phi: Array) -> Array:
        """Derivative of `typical` by theta and the coefficients, (people, columns, K)."""
        k = len(self.slots)
        free = self.part(phi, "coefficients")
        out = np.zeros((*self.used.shape, k + free.size))
        out[:, np.arange(self.of.size), self.of] = 1.0
        for s in self.shifts:
            if s.coefficient >= 0:
                out[:, s.columns, k + s.coefficient] += s.add(float(free[s.coefficient]))[1]
        return out


def _entry(what: str, names: Sequence[str], entry: tuple[int, int]) -> str:
    i, j = entry
    return f"{what} {names[i]}" if i == j else f"{what} {names[i]}, {names[j]}"


def make_layout(people: Sequence[Person], effects: Effects, noise: Noise) -> Layout:
    """Lay out a population.

    Parameters
    ----------
    people : its subjects
    effects : what varies
    noise : of all endpoints

    Raises
    ------
    FitError
        An effect names no free parameter, or a subject lacks a covariate.
    """
    slots: dict[str, Slot] = {}
    columns: dict[tuple[str, int], Slot] = {}
    keys: list[list[tuple[str, int]]] = []
    for person in people:
        names = [o or str(n + 1) for n, o in enumerate(person.occasions)]
        mine = []
        for s in person.likelihood.slots:
            number = names.index(s.occasion) if s.occasion else -1
            plain = Slot(s.parameter, s.region, s.unit, s.transform, s.start, s.lower, s.upper)
            slots.setdefault(plain.label, plain)
            key = (plain.label, number)
            columns.setdefault(
                key,
                Slot(
                    s.parameter,
                    s.region,
                    s.unit,
                    s.transform,
                    s.start,
                    s.lower,
                    s.upper,
                    str(number + 1) if number >= 0 else "",
                ),
            )
            mine.append(key)
        keys.append(mine)
    labels, order = list(slots), sorted(columns, key=lambda k: (list(slots).index(k[0]), k[1]))
    every = tuple(slots.values())
    place = tuple(np.array([order.index(k) for k in mine], dtype=np.intp) for mine in keys)
    used = np.zeros((len(people), len(order)), dtype=bool)
    for i, at in enumerate(place):
        used[i, at] = True
    of = np.array([labels.index(k[0]) for k in order], dtype=np.intp)
    between, varying = _factor(effects.between, effects.correlated, effects.held, every, "between subjects")
    occasion, switching = _factor(effects.occasion, (), effects.held, every, "between occasions")
    most = max(len(p.occasions) for p in people)
    m, r = len(varying), len(switching)
    design = np.zeros((len(order), m + r * most))
    for c, (label, number) in enumerate(order):
        k = labels.index(label)
        if k in varying:
            design[c, list(varying).index(k)] = 1.0
        if k in switching:
            design[c, m + number * r + list(switching).index(k)] = 1.0
    return Layout(
        slots=every, columns=tuple(columns[k] for k in order), of=of, used=used, place=place, varying=varying,
        switching=switching, design=design, between=between, occasion=occasion, occasions=most,
        shifts=_shifts(people, effects, every, order, used), noise=noise,
    )  # fmt: skip


def _factor(
    given: Mapping[str, float],
    groups: Sequence[Sequence[str]],
    held: Sequence[str],
    slots: Sequence[Slot],
    what: str,
) -> tuple[Factor, Index]:
    """A covariance from SDs and groups of correlated parameters."""
    sds: dict[int, float] = {}
    fixed: set[int] = set()
    for (name, sd), found in zip(given.items(), expand(list(given), slots, what), strict=True):
        sds |= dict.fromkeys(found, float(sd))
        fixed |= set(found) if name in held else set()
    at = sorted(sds)
    entries = [(n, n) for n, k in enumerate(at) if k not in fixed]
    for group in groups:
        members = at if tuple(group) == ("all",) else sorted({k for f in expand(group, slots, what) for k in f})
        if missing := [slots[k].label for k in members if k not in sds]:
            raise FitError(f"effects: {', '.join(missing)} is in a correlated group but does not vary {what}")
        if tied := [slots[k].label for k in members if k in fixed]:
            raise FitError(f"effects: {', '.join(tied)} is held and correlated at once; hold it or correlate it")
        rows = [at.index(k) for k in members]
        entries += [(i, j) for i in rows for j in rows if j < i]
    return Factor(np.diag([sds[k] for k in at]), tuple(sorted(entries))), np.array(at, dtype=np.intp)


def _shifts(
    people: Sequence[Person],
    effects: Effects,
    slots: Sequence[Slot],
    order: Sequence[tuple[str, int]],
    used: NDArray[np.bool_],
) -> tuple[Shift, ...]:
    labels = [s.label for s in slots]
    out, free = [], 0
    for r in effects.covariates:
        (found,) = expand([r.parameter], slots, "covariate effect on")
        r.check([r.parameter], {r.parameter: slots[found[0]].transform}, "effects")
        at = np.array([c for c, k in enumerate(order) if labels.index(k[0]) in found], dtype=np.intp)
        value = np.zeros((len(people), at.size))
        for i, person in enumerate(people):
            for n, c in enumerate(at):
                if used[i, c]:
                    visit = max(order[c][1], 0)
                    value[i, n] = _centred(r, person, visit)
        if not r.fixed and np.ptp(value[used[:, at]]) == 0:
            raise FitError(
                f"effects: {r.covariate}{f' (level {r.level})' if r.level else ''} is the same for everybody, "
                f"so its effect on {r.parameter} cannot be told from {r.parameter}; leave it out, or fix it"
            )
        out.append(Shift(r, -1 if r.fixed else free, at, value))
        free += 0 if r.fixed else 1
    return tuple(out)


def _centred(r: Relation, person: Person, visit: int) -> float:
    """The covariate of one visit as it enters: log(c/reference), c - reference, or whether it is the level."""
    known = person.covariates[visit]
    who = f"subject {person.name}"
    if r.covariate not in known:
        raise FitError(
            f"{who}: covariate {r.covariate} is missing, and {r.parameter} depends on it; known: "
            f"{', '.join(known) or 'none'}; give covariates={{{person.name!r}: {{{r.covariate!r}: ...}}}}, or leave "
            "the subject out"
        )
    value = known[r.covariate]
    if isinstance(value, Covariate):
        raise FitError(
            f"{who}: covariate {r.covariate} changes in time; make it a parameter of the model, or give one number"
        )
    if r.kind == "category":
        same = str(value) == r.level or (not isinstance(value, str) and f"{value:g}" == r.level)
        return 1.0 if same else 0.0
    if isinstance(value, str):
        read = quantity(value, f"{who}: covariate {r.covariate}")
        if read.dimension != dimension(r.unit):
            raise FitError(f"{who}: covariate {r.covariate} = {value!r}; needed: a number in {r.unit}")
        value = read.value / factor(r.unit)
    if not np.isfinite(value):
        raise FitError(f"{who}: covariate {r.covariate} is missing (it is {value}); give it or leave the subject out")
    if r.kind != "power":
        return float(value) - r.reference
    if value <= 0:
        raise FitError(f"{who}: covariate {r.covariate} = {value:g}; a power needs a positive number")
    return float(np.log(value / r.reference))
