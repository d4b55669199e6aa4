"""Covariate effects that a search may add: one effect of a covariate on a parameter each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ....errors import FitError, did_you_mean
from ..effects import Relation, relation
from .goodness import covariate_table, covariate_units, is_number

if TYPE_CHECKING:
    from ..crowd import Crowd
    from ..result import PopulationFit

LEVELS = 6  # most categories of a covariate


@dataclass(frozen=True, slots=True)
class Candidate:
    """A covariate's effect on a parameter: one relation, or one per level of a category.

    Parameters
    ----------
    relations : all of one parameter and one covariate, to be estimated
    """

    relations: tuple[Relation, ...]

    def __post_init__(self) -> None:
        if not self.relations or len({(r.parameter, r.covariate, r.kind) for r in self.relations}) != 1:
            raise FitError("a candidate is one or more relations of one parameter, one covariate and one kind")
        if any(r.fixed for r in self.relations):
            raise FitError(f"{self.name}: its coefficient is fixed; a search is for what is to be estimated")

    @property
    def name(self) -> str:
        """Such as ``weight on CL (power)``."""
        first = self.relations[0]
        return f"{first.covariate} on {first.parameter} ({first.kind})"

    @property
    def pair(self) -> tuple[str, str]:
        """Parameter and covariate."""
        return self.relations[0].parameter, self.relations[0].covariate


def candidate(given: Candidate | Relation) -> Candidate:
    """A candidate whose effect begins at zero, so that adding it never makes a fit worse."""
    made = Candidate((given,)) if isinstance(given, Relation) else given
    return Candidate(tuple(replace(r, coefficient=0.0) for r in made.relations))


def candidates_of(
    fit: PopulationFit,
    parameters: Sequence[str] | None = None,
    covariates: Sequence[str] | None = None,
    kinds: Sequence[str] = ("power",),
) -> tuple[Candidate, ...]:
    """Candidates of all parameters that vary and all covariates that differ between subjects.

    A number is centred at its median over the subjects; a category, or a number with two values, gets an effect of
    every level but the commonest.

    Parameters
    ----------
    fit : of a population
    parameters : which; default all that vary between subjects [text]
    covariates : which; default all known of every subject [text]
    kinds : of numbers: "power", "exponential", "proportional"; a power of a covariate that is not positive, or on a
        parameter that is not, becomes exponential [text]
    """
    layout = fit.crowd.layout
    table, units = covariate_table(fit.crowd), covariate_units(fit.crowd)
    known = [c for c in table.columns if table[c].notna().all() and table[c].nunique() > 1]
    there = {(s.relation.parameter, s.relation.covariate) for s in layout.shifts}
    slots = {layout.slots[k].label: layout.slots[k] for k in range(len(layout.slots))}
    varying = [layout.slots[k].label for k in layout.varying]
    for name in parameters or ():
        if name not in slots:
            raise FitError(f"no free parameter {name!r}{did_you_mean(name, slots)}; free: {', '.join(slots)}")
    for name in covariates or ():
        if name not in known:
            raise FitError(
                f"covariate {name!r} is unknown, missing for a subject, or the same for all"
                f"{did_you_mean(name, known)}; usable: {', '.join(known) or 'none'}"
            )
    out = []
    for parameter in parameters or varying:
        for name in covariates or known:
            if (parameter, name) in there:
                continue
            column = table[name]
            if not is_number(column) or column.nunique() == 2:
                out.append(_levels(fit.crowd, parameter, name))
                continue
            positive = bool((column > 0).all()) and slots[parameter].transform == "log"
            chosen = dict.fromkeys("exponential" if k == "power" and not positive else k for k in kinds)
            middle, unit = float(column.median()), units.get(name, "1")
            out += [Candidate((relation(parameter, name, k, reference=middle, unit=unit),)) for k in chosen]
    return tuple(out)


def _levels(crowd: Crowd, parameter: str, name: str) -> Candidate:
    values = [p.covariates[0][name] for p in crowd.people]
    words = [v if isinstance(v, str) else f"{v:g}" for v in values if isinstance(v, str | int | float)]
    names, counts = np.unique(words, return_counts=True)
    if len(names) > LEVELS:
        raise FitError(
            f"covariate {name} has {len(names)} levels; a category may have {LEVELS}; name candidates yourself"
        )
    common = names[int(np.argmax(counts))]
    return Candidate(tuple(relation(parameter, name, "category", level=str(n)) for n in names if n != common))


def check_occasions(crowd: Crowd, candidates: Sequence[Candidate]) -> None:
    """Refuse a covariate that changes between occasions where the parameter has one value for all of them."""
    slots = crowd.layout.columns
    for c in candidates:
        parameter, covariate = c.pair
        own = any(s.occasion for s in slots if parameter in (s.parameter, f"{s.parameter}[{s.region}]"))
        for person in crowd.people:
            if not own and len({repr(known.get(covariate)) for known in person.covariates}) > 1:
                raise FitError(
                    f"{c.name}: {covariate} of subject {person.name} changes between occasions; let {parameter} vary "
                    "between occasions in the first fit, or leave the candidate out"
                )
