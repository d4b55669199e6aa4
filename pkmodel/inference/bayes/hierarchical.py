"""A population by full Bayes: typical values, spread between subjects and occasions, and everybody's own parameters.

On the scale of the fit a subject's parameter is its typical value with covariate effects, plus a normal deviation of
the subject, plus one of the occasion (`population.effects`). Deviations are drawn as standard normal numbers times
their spread ("not centred"), which suits subjects with few data. Where everyone has many, "centred" draws the
parameters themselves, and mixes better (Betancourt & Girolami 2015, arXiv:1312.0906). See `deviations`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...data import Curves, Study
from ...errors import FitError
from ...model import Model
from ..noise import Noise
from ..population.crowd import Crowd, gather_crowd
from ..population.effects import Effects, effects_of
from ..population.layout import Layout
from ..population.people import bind_people
from ..protocol import Protocol
from .correlations import groups_of, lkj_root
from .density import log_likelihood
from .deviations import deviating, parted
from .graph import Graph, Route, predictions_of, scale_of
from .kernels import People
from .population_result import BayesPopulation
from .priors import Prior, noise_priors_of, prior_from_dict, priors_of
from .sampling import Sampler, Settings, sample

SPREAD = 0.5  # half-normal SD of a spread nobody spoke of, on the scale of the fit: 95 % below a factor of 2.7
COEFFICIENT = 1.0  # SD of a covariate's coefficient about its start
RICH = 3.0  # values per free parameter above which everybody's parameters are drawn themselves
LKJ = 2.0  # of correlations: mild preference for small ones (Lewandowski et al. 2009, doi:10.1016/j.jmva.2009.04.008)
Centred = bool | Literal["auto"]


def fit_population_bayes(
    model: Model,
    data: Study | Sequence[Curves],
    protocol: Protocol,
    effects: Effects | Mapping[str, float] | Sequence[str] | None = None,
    *,
    priors: Mapping[str, Any] | None = None,
    regions: Sequence[str] | None = None,
    regimens: Any = None,
    inputs: Any = None,
    covariates: Any = None,
    noise: Noise | None = None,
    centred: Centred = "auto",
    seed: int | None = None,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    sampler: Sampler = "nutpie",
    target_accept: float = 0.9,
    cores: int | None = None,
    file: str | Path | None = None,
    route: Route = "auto",
) -> BayesPopulation:
    """Draw from the posterior of a population.

    Parameters
    ----------
    model : labelled or not
    data : one Curves per subject, or per subject and occasion
    protocol : what is free, fixed and tied; the error model; priors
    effects : what varies, see `population.effects`
    priors : by parameter (of the typical value), ``"omega K1"`` (spread between subjects), ``"occasion K1"``, or size
        of the noise; before those of the protocol
    regions, regimens, inputs, covariates : see `population.people.bind_people`
    noise : of all endpoints; default as the protocol says
    centred : whether subjects' parameters are drawn themselves; "auto": where there are three values for each
    seed, draws, tune, chains, sampler, target_accept, cores, file, route : see `fitting.fit_bayes`

    Raises
    ------
    FitError
        Data, model and protocol do not go together, or a parameter has no prior.
    """
    what = effects_of(effects, list(protocol.free))
    people, notes = bind_people(
        model, data, protocol, what, regions=regions, regimens=regimens, inputs=inputs, covariates=covariates
    )
    if len(people) < 2:
        raise FitError(f"{len(people)} subject is no population; use fit(..., method='bayes')")
    crowd = gather_crowd(people, what, noise)
    given = {**protocol.priors, **(priors or {})}
    typical, said = priors_of(people[0].likelihood.model, crowd.layout.slots, given)
    sizes, also = noise_priors_of(crowd.noise, given)
    spreads, unsaid = _spread_priors(crowd.layout, given)
    known = {*typical, *sizes, *spreads} | {s.parameter for s in crowd.layout.slots}
    known |= {n.split("[")[0] for n in (*sizes, *spreads)}
    if unknown := sorted(set(given) - known):
        raise FitError(f"prior of {', '.join(unknown)}: not free in this fit; free: {', '.join(sorted(known))}")
    itself = _rich(crowd) if centred == "auto" else centred
    graph = build_population(crowd, typical, spreads, sizes, centred=itself, route=route)
    number = protocol.seed if seed is None else seed
    settings = Settings(draws, tune, chains, number, sampler, target_accept, cores)
    key = hashlib.sha256(f"{_people(crowd).key} {typical} {sizes} {spreads} {itself} {crowd.noise} {what}".encode())
    for a in (crowd.data.value, crowd.data.shape, crowd.data.censored, crowd.data.counted):
        key.update(a.tobytes())
    drawn = sample(graph.model, settings, key=key.hexdigest(), file=file)
    from .population_result import finished

    kind = "parameters drawn themselves (centred)" if itself else "deviations drawn (not centred)"
    return finished(
        crowd,
        drawn.tree,
        typical,
        spreads,
        sizes,
        warnings=(*notes, *said, *unsaid, *also, *drawn.notes),
        how=f"{sampler}, {graph.words}; {kind}",
        seconds=drawn.seconds,
        protocol=protocol,
    )


def _people(crowd: Crowd) -> People:
    width = len(crowd.layout.columns)
    return People([p.likelihood for p in crowd.people], [p.tolist() for p in crowd.layout.place], width)


def _rich(crowd: Crowd) -> bool:
    """Whether the median subject has many values for each of its parameters."""
    ratios = [p.data.points / len(p.likelihood.slots) for p in crowd.people]
    return float(np.median(ratios)) >= RICH


def _spread_priors(layout: Layout, given: Mapping[str, Any]) -> tuple[dict[str, Prior], list[str]]:
    found: dict[str, Prior] = {}
    default = []
    for word, which in (("omega", layout.varying), ("occasion", layout.switching)):
        for k in which:
            slot = layout.slots[k]
            label = f"{word} {slot.label}"
            raw = given.get(label, given.get(f"{word} {slot.parameter}"))
            if raw is None:
                default.append(label)
                found[label] = Prior("halfnormal", SPREAD, lower=0.0)
            else:
                read = prior_from_dict(raw, f"prior of {label}")
                found[label] = Prior(read.kind, read.a, read.b, 0.0, math.inf, read.source)
    if not default:
        return found, []
    return found, [f"prior of {', '.join(default)}: half-normal, SD {SPREAD} on the scale of the fit"]


def build_population(
    crowd: Crowd,
    typical: Mapping[str, Prior],
    spreads: Mapping[str, Prior],
    sizes: Mapping[str, Prior],
    *,
    centred: bool,
    route: Route,
) -> Graph:
    """The posterior of a population as a PyMC model.

    Parameters
    ----------
    crowd : subjects and layout
    typical, spreads, sizes : priors of typical values, of spreads and of the noise
    centred : whether subjects' parameters are drawn themselves
    route : how predictions are computed, see `graph.predictions_of`
    """
    import pymc as pm

    layout = crowd.layout
    N, m, r = len(crowd.people), len(layout.varying), len(layout.switching)
    with pm.Model() as model:
        theta = [scale_of(s, typical[s.label].variable(s.label)) for s in layout.slots]
        labels = [s.label for s in layout.slots]
        omega: Any = None
        kappa: Any = None
        if m:
            omega = _spreads("omega", [labels[k] for k in layout.varying], layout.between, spreads)
        if r:
            kappa = _spreads("occasion", [labels[k] for k in layout.switching], layout.occasion, spreads)
        common, rest = parted(layout, _shift(layout))
        own, visits = deviating(layout, theta, omega, _correlation(layout, m), kappa, common, rest, centred=centred)
        x = pm.Deterministic("x", _columns(layout, theta, own, visits, rest, N))
        noise = {name: prior.variable(name) for name, prior in sizes.items()}
        value, solved, words = predictions_of(_people(crowd), x, route)
        measured = pm.Data("measured", crowd.data.value)
        pm.Potential("likelihood", log_likelihood(value, noise, measured, crowd.noise, [crowd.data]) + solved)
    return Graph(model, words)


def _spreads(word: str, labels: Sequence[str], factor: Any, priors: Mapping[str, Prior]) -> Any:
    """Spreads of what varies; one that is held stays at its start."""
    import pytensor.tensor as pt

    free = {i for i, j in factor.entries if i == j}
    return pt.stack(
        [
            priors[f"{word} {n}"].variable(f"{word} {n}") if k in free else pt.constant(float(factor.start[k, k]))
            for k, n in enumerate(labels)
        ]
    )


def _correlation(layout: Layout, m: int) -> Any | None:
    """Cholesky factor of the correlations between subjects, (m, m); None where nothing is correlated."""
    import pymc as pm
    import pytensor.tensor as pt

    groups = groups_of(layout.between.entries)
    if not groups:
        return None
    whole = pt.eye(m)
    for n, members in enumerate(groups):
        root = lkj_root(f"raw correlation {n}", len(members), LKJ)
        pm.Deterministic(f"correlation {n}", pt.dot(root, root.T))
        whole = pt.set_subtensor(whole[np.ix_(members, members)], root)
    return whole


def _shift(layout: Layout) -> Any | None:
    """What covariates add to everybody's parameters on the scale of the fit, (N, columns); None without any."""
    import pymc as pm
    import pytensor.tensor as pt

    if not layout.shifts:
        return None
    whole = pt.zeros(layout.used.shape)
    for shift in layout.shifts:
        rel = shift.relation
        coefficient: Any = rel.coefficient
        level = f" ({rel.level})" if rel.level else ""
        name = f"{rel.covariate} on {rel.parameter}{level}"
        if shift.coefficient >= 0:
            coefficient = pm.Normal(name, rel.coefficient, COEFFICIENT)
        added = pt.as_tensor(coefficient * shift.value)
        if rel.kind == "proportional":
            change = 1.0 + added
            pm.Potential(f"possible {name}", pt.switch(pt.all(change > 0), 0.0, -np.inf))
            added = pt.log(pt.switch(change > 0, change, 1.0))
        whole = pt.inc_subtensor(whole[:, shift.columns], added)
    return whole


def _columns(layout: Layout, theta: Sequence[Any], own: Any, visits: Any, shift: Any, N: int) -> Any:
    """Everybody's parameters on the scale of the fit, (N, columns)."""
    import pytensor.tensor as pt

    varying, switching = list(layout.varying), list(layout.switching)
    columns = []
    for c, (slot, k) in enumerate(zip(layout.columns, layout.of, strict=True)):
        if k in switching:
            columns.append(visits[:, int(slot.occasion) - 1, switching.index(k)])
        else:
            alone = own[:, varying.index(k)] if k in varying else theta[k] + pt.zeros(N)
            columns.append(alone if shift is None else alone + shift[:, c])
    return pt.stack(columns, axis=1)
