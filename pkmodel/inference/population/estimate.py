"""The verb `fit_population`: a model and the data of several subjects, to a `PopulationFit`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...assembly import load_model
from ...data import Curves, Study
from ...errors import FitError
from ...model import Model
from ...regimen import Regimen
from ..fitting import default_protocol
from ..noise import Noise
from ..protocol import Protocol, load_protocol
from ..settings import check_sampling, check_seed, check_settings
from .complete import estimate_complete
from .crowd import Crowd, gather_crowd
from .effects import Effects, effects_of
from .importance import marginal_likelihood
from .judged import judge
from .linearised import APPROXIMATIONS, Approximation, objective
from .minimise import ITERATIONS, Minimum, search
from .people import CovariateValue, bind_people
from .result import PopulationFit
from .uncertainty import Information, Matrix, information

if TYPE_CHECKING:
    from ..bayes.population_result import BayesPopulation

METHODS = (*APPROXIMATIONS, "saem", "importance", "bayes")


def fit_population(
    model: Model | str,
    data: Study | Sequence[Curves],
    protocol: Protocol | str | None = None,
    *,
    effects: Effects | Mapping[str, float] | Sequence[str] | None = None,
    method: str = "focei",
    noise: Noise | None = None,
    regions: Sequence[str] | None = None,
    regimens: Mapping[str, Regimen] | Regimen | None = None,
    inputs: Mapping[str, Mapping[str, Any]] | str | None = None,
    covariates: Mapping[str, Mapping[str, CovariateValue]] | None = None,
    start: PopulationFit | None = None,
    standard_errors: Matrix | None = "sandwich",
    seed: int | None = None,
    iterations: int | None = None,
    **settings: Any,
) -> PopulationFit | BayesPopulation:
    """Fit a model to several subjects at once, with effects that vary between them.

    Parameters
    ----------
    model : a model or its name; labelled with the nuclide of the data where they decay
    data : one `Curves` per subject, or per subject and occasion (`Curves.occasion`); a `Study` has them
    protocol : what is free and fixed, where it starts, the error model; default everything free, as in `fit`
    effects : what varies between subjects and occasions, and covariates (see `Effects`); SDs or names are enough;
        default every free parameter varies between subjects
    method : "fo", "foce", "focei" (default), "laplace", "saem", "importance", or "bayes" [text]
    noise : residual error; default what the protocol's error model means
    regions : which; default as in `fit`
    regimens : of all, or by subject; default each subject's own, else its injection as a bolus at time zero
    inputs : measured inputs by subject, or by "subject occasion"; "arterial": each from its own blood samples
    covariates : by subject, or by "subject occasion", added to those in the data
    start : an earlier fit of the same parameters to go on from
    standard_errors : "sandwich" (R^-1 S R^-1), "r", "s", or None to leave them out [text]
    seed : of what is random; default the protocol's [1]
    iterations : most [1]
    settings : of the method (see `complete.estimate_complete`; for "bayes" those of its sampler)

    Returns
    -------
    PopulationFit, or for "bayes" a BayesPopulation
        An interrupted search gives the best so far, with a warning; go on with ``start=``.

    Raises
    ------
    FitError
        The model, data, protocol and effects do not go together; the message says what to change.

    Examples
    --------
    >>> import pkmodel as pk
    >>> fit = pk.fit_population(model, study, effects={"CL": 0.3, "V": 0.2})  # doctest: +SKIP
    """
    if method not in METHODS:
        raise FitError(f"method {method!r} is not known; allowed: {', '.join(METHODS)}")
    if isinstance(data, Curves):
        raise FitError("one subject is not a population; use fit, or give a Study or a list of Curves")
    if standard_errors not in (None, "sandwich", "r", "s"):
        raise FitError(f"standard_errors {standard_errors!r} is not known; allowed: sandwich, r, s, or None")
    if iterations is not None and (isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1):
        raise FitError(f"iterations = {iterations!r}; allowed: a whole number above zero")
    check_seed(seed)
    _check_settings(method, settings)
    model = load_model(model) if isinstance(model, str) else model
    rules = load_protocol(protocol) if isinstance(protocol, str) else protocol or default_protocol(model)
    chosen = effects_of(effects, tuple(rules.free))
    if method == "bayes":
        from ..bayes.hierarchical import fit_population_bayes

        return fit_population_bayes(
            model, data, rules, chosen, regions=regions, regimens=regimens, inputs=inputs, covariates=covariates,
            noise=noise, seed=seed, **settings,
        )  # fmt: skip
    people, notes = bind_people(
        model, data, rules, chosen, regions=regions, regimens=regimens, inputs=inputs, covariates=covariates
    )
    crowd = gather_crowd(people, chosen, noise)
    notes += _same_everywhere(crowd)
    begin, modes = crowd.layout.start, None
    if start is not None:
        begin, modes = _resume(start, crowd)
    likelihood: tuple[float, float] | None = None
    if method in ("saem", "importance"):
        minimum = estimate_complete(
            crowd, begin, method=method, seed=rules.seed if seed is None else seed, iterations=iterations, **settings
        )
        likelihood = marginal_likelihood(crowd, minimum.phi, minimum.at, seed=rules.seed if seed is None else seed)
        kind: Approximation = "focei"
    else:
        kind = method  # type: ignore[assignment]
        minimum = search(crowd, begin, kind=kind, modes=modes, iterations=iterations or ITERATIONS)
    found: Information | None = None
    if standard_errors is not None and not minimum.interrupted:
        found = information(crowd, minimum.phi, minimum.at.b, kind)
        if likelihood is None and found.definite and found.missing > 1e-6:
            minimum = _polish(crowd, minimum, found, kind)
    if likelihood is None:
        count = int((crowd.data.counted & (crowd.data.censored == 0)).sum())
        likelihood = minimum.at.value + count * math.log(2 * math.pi), 0.0
    fit = PopulationFit(
        people[0].likelihood.model, crowd, rules, chosen, method, minimum, found, standard_errors or "sandwich",
        *likelihood,
    )  # fmt: skip
    unverified = filter(None, (fit.model.unverified,))
    warned = [w for p in people for c in p.curves for w in c.warnings]
    return replace(fit, warnings=(*dict.fromkeys(warned), *notes, *judge(fit), *unverified))


def _same_everywhere(crowd: Crowd) -> list[str]:
    """Endpoints with one value for everybody at all times; refused where there is no other."""
    from ..bayes.judged import judge_data

    said = judge_data(crowd.data)
    if said and len(said) == len(crowd.data.endpoints):
        raise FitError(f"{'; '.join(said)}; is it the right column?")
    return said


def _check_settings(method: str, settings: Mapping[str, Any]) -> None:
    """Refuse words that the method does not have."""
    if method == "bayes":
        from ..bayes.hierarchical import fit_population_bayes

        taken = ("regions", "regimens", "inputs", "covariates", "noise", "seed")
        check_settings(method, settings, fit_population_bayes, taken=taken)
        check_sampling(settings)
    elif method in ("saem", "importance"):
        check_settings(method, settings, estimate_complete, taken=("method", "seed", "iterations"))
    else:
        check_settings(method, settings)


def _resume(start: PopulationFit, crowd: Crowd) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """Parameters and modes of an earlier fit, where they mean the same."""
    before, now = start.crowd.layout.names, crowd.layout.names
    if before != now:
        lacking = sorted(set(now) - set(before))
        raise FitError(
            "start: that fit has other parameters; it lacks "
            f"{', '.join(lacking) or 'none'}, and has besides {', '.join(sorted(set(before) - set(now))) or 'none'}"
        )
    same = start.subjects == tuple(p.name for p in crowd.people)
    return start.phi, start.minimum.at.b if same else None


def _polish(crowd: Crowd, minimum: Minimum, found: Information, kind: Approximation) -> Minimum:
    """One Newton step with the curvature that is now known, if it makes the objective better."""
    step = -np.linalg.solve(found.r, found.slope)
    if np.abs(step).max() > 0.1:
        return minimum
    new = objective(crowd, minimum.phi + step, minimum.at.b, kind=kind)
    if not new.value < minimum.at.value:
        return minimum
    return replace(minimum, phi=minimum.phi + step, at=new, trace=(*minimum.trace, new.value))
