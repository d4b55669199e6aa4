"""The subjects of a population: each with a likelihood, doses, inputs and covariates of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...covariates import Covariate
from ...data import Curves, Study
from ...errors import FitError
from ...model import Model
from ...regimen import Regimen
from ..fitting import bind_subject
from ..likelihood import Likelihood
from ..observations import Observations
from ..protocol import Protocol
from ..slots import Slot
from .effects import Effects

CovariateValue = float | str | Covariate


@dataclass(frozen=True, eq=False)
class Person:
    """One subject with all occasions.

    Parameters
    ----------
    name : of the subject [text]
    likelihood : of all its curves; slots that differ between occasions are labelled with them
    covariates : of each occasion, in the order of `occasions`
    occasions : names [text]
    curves : as given, one per occasion
    """

    name: str
    likelihood: Likelihood
    covariates: tuple[Mapping[str, CovariateValue], ...]
    occasions: tuple[str, ...]
    curves: tuple[Curves, ...]

    @property
    def data(self) -> Observations:
        """All measured values."""
        return self.likelihood.data


def bind_people(
    model: Model,
    data: Study | Sequence[Curves],
    protocol: Protocol,
    effects: Effects,
    *,
    regions: Sequence[str] | None = None,
    regimens: Mapping[str, Regimen] | Regimen | None = None,
    inputs: Mapping[str, Mapping[str, Any]] | str | None = None,
    covariates: Mapping[str, Mapping[str, CovariateValue]] | None = None,
) -> tuple[tuple[Person, ...], list[str]]:
    """Bind a model to every subject.

    Parameters
    ----------
    model : labelled or not
    data : one `Curves` per subject, or per subject and occasion
    protocol : what is free, fixed and tied; the error model
    effects : what varies
    regions : which; default as in `fit`
    regimens : of all, or by subject; default each subject's own, else its injection as a bolus at time zero
    inputs : by subject, or by "subject occasion": measured inputs as in `fit`; "arterial" for all
    covariates : by subject, or by "subject occasion"; added to those in the data

    Returns
    -------
    The subjects, and what a reader should know.

    Raises
    ------
    FitError
        A subject has no data, is named twice, lacks a covariate, or does not go with the model.
    """
    everyone = list(data)
    if not everyone:
        raise FitError("a population without subjects; give a Study or a list of Curves")
    if strange := [type(one).__name__ for one in everyone if not isinstance(one, Curves)]:
        raise FitError(f"a population is made of Curves, one per subject or visit; found {strange[0]}; see load_study")
    groups: dict[str, list[Curves]] = {}
    for one in everyone:
        groups.setdefault(one.subject, []).append(one)
    people: list[Person] = []
    notes: list[str] = []
    for name, visits in groups.items():
        occasions = tuple(v.occasion for v in visits)
        if len(set(occasions)) != len(occasions):
            twice = next(o for o in occasions if occasions.count(o) > 1)
            raise FitError(
                f"subject {name}: occasion {twice!r} is given twice; name the occasions: curves.replace(occasion='2')"
            )
        likelihoods, known = [], []
        for visit in visits:
            key = f"{name} {visit.occasion}".strip()
            extra = {**(covariates or {}).get(name, {}), **(covariates or {}).get(key, {})}
            visit = visit.replace(covariates={**visit.covariates, **extra})
            own = regimens.get(key, regimens.get(name)) if isinstance(regimens, Mapping) else regimens
            given = inputs if isinstance(inputs, str) else (inputs or {}).get(key, (inputs or {}).get(name))
            likelihoods.append(_bind(model, visit, protocol, regions, own, given, notes))
            known.append(_known(visit))
        joined = join_occasions(likelihoods, occasions, effects, known)
        if not joined.data.points:
            raise FitError(f"subject {name}: no measured value that counts; leave the subject out")
        people.append(Person(name, joined, tuple(known), occasions, tuple(visits)))
    return tuple(people), list(dict.fromkeys(notes))


def _bind(
    model: Model,
    visit: Curves,
    protocol: Protocol,
    regions: Sequence[str] | None,
    regimen: Regimen | None,
    inputs: Mapping[str, Any] | str | None,
    notes: list[str],
) -> Likelihood:
    who = f"subject {visit.subject}{f', occasion {visit.occasion}' if visit.occasion else ''}"
    if not sum(len(c) for c in visit):
        raise FitError(f"{who}: no data; leave the subject out, or give its curves")
    numbers = {n: v for n, v in visit.covariates.items() if not isinstance(v, str)}
    plain = visit.replace(covariates=numbers)
    _, _, likelihood, said = bind_subject(
        model, plain, protocol, regions=regions, inputs=inputs, regimen=regimen, sparse=True
    )
    notes += [f"{who}: {text}" for text in said]
    return likelihood


def _known(visit: Curves) -> dict[str, CovariateValue]:
    """Covariates of one visit; weight and sex from what the data set says of its subjects."""
    known: dict[str, CovariateValue] = {}
    if visit.body_mass is not None:
        known["weight"] = visit.body_mass / 1000.0  # kg
    if visit.sex:
        known["sex"] = visit.sex
    for name, value in visit.covariates.items():
        unit = visit.covariate_units.get(name, "")
        plain = isinstance(value, str | Covariate) or unit in ("", "1")
        known[name] = value if plain else f"{value!r} {unit}"
    return known


def join_occasions(
    likelihoods: Sequence[Likelihood],
    occasions: Sequence[str],
    effects: Effects,
    covariates: Sequence[Mapping[str, CovariateValue]],
) -> Likelihood:
    """One likelihood of several occasions: parameters are shared, but for those that differ between occasions.

    Parameters
    ----------
    likelihoods : one per occasion
    occasions : their names [text]
    effects : parameters in `occasion` have one value per occasion, and those whose covariate changes between them
    covariates : of each occasion
    """
    changing = {n for known in covariates for n in known if any(known[n] != other.get(n) for other in covariates)}
    own = {*effects.occasion, *(r.parameter for r in effects.covariates if r.covariate in changing)}
    slots: dict[str, Slot] = {}
    blocks, variances = [], []
    for number, (one, name) in enumerate(zip(likelihoods, occasions, strict=True)):
        where = []
        for slot in one.slots:
            differs = slot.parameter in own or slot.label in own
            placed = replace(slot, occasion=name or str(number + 1)) if differs else slot
            slots.setdefault(placed.label, placed)
            where.append(list(slots).index(placed.label))
        for block, variance in zip(one.blocks, one.variances, strict=True):
            blocks.append(replace(block, columns=tuple(where[c] for c in block.columns), occasion=name))
            variances.append(variance)
    first = likelihoods[0]
    return replace(first, slots=tuple(slots.values()), blocks=tuple(blocks), variances=tuple(variances))
