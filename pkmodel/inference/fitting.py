"""The verb `fit`: a model, one subject's curves and a protocol, to a `Fit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from ..assembly import load_model
from ..data import Curves, Study
from ..errors import FitError
from ..formats.curve import ABOVE, BELOW, Curve
from ..labelling import label
from ..model import Model
from ..own_values import personal
from ..regimen import Regimen
from ..units import dimension
from .binding import build_likelihood
from .diagnostics import judge
from .input_fit_arterial import resolve_inputs
from .least_squares import minimise
from .likelihood import Likelihood
from .measured_inputs import read_inputs
from .protocol import Free, Protocol, load_protocol
from .result import Fit
from .settings import check_sampling, check_seed, check_settings

if TYPE_CHECKING:
    from .bayes.posterior import BayesFit


@overload
def fit(
    model: Model | str,
    curves: Curves | Study,
    protocol: Protocol | str | None = None,
    *,
    method: Literal["least_squares"] = "least_squares",
    regions: Sequence[str] | None = None,
    inputs: Mapping[str, Any] | str | None = None,
    seed: int | None = None,
) -> Fit: ...


@overload
def fit(
    model: Model | str,
    curves: Curves | Study,
    protocol: Protocol | str | None = None,
    *,
    method: Literal["bayes"],
    regions: Sequence[str] | None = None,
    inputs: Mapping[str, Any] | str | None = None,
    seed: int | None = None,
    **sampling: Any,
) -> BayesFit: ...


def fit(
    model: Model | str,
    curves: Curves | Study,
    protocol: Protocol | str | None = None,
    *,
    method: str = "least_squares",
    regions: Sequence[str] | None = None,
    inputs: Mapping[str, Any] | str | None = None,
    seed: int | None = None,
    **sampling: Any,
) -> Fit | BayesFit:
    """Fit a model to the curves of one subject.

    Parameters
    ----------
    model : a model or its name; labelled with the nuclide of the data where they decay
    curves : one subject's curves, or a study with one subject
    protocol : a protocol or its name; default: every parameter that is not fixed and not a delay is free
    method : "least_squares", or "bayes": draws from the posterior [text]
    regions : which regions; default the organs (for a whole-body model every region it describes), never a field of
        view
    inputs : measured inputs that drive the model, name -> Curve, or (times [h], values in the declared unit); arrays
        are taken with the decay state of `curves`. "arterial": from the blood samples in `curves`, straight between
        them (see `input_fit_arterial.arterial_inputs`)
    seed : of the starts or the draws; default the protocol's [1]
    sampling : with "bayes": priors, draws, tune, chains, sampler, target_accept, cores, file; see
        `bayes.fitting.fit_bayes`

    Returns
    -------
    Fit, or with "bayes" a BayesFit

    Raises
    ------
    FitError
        The model, data and protocol do not go together; the message says what to change.

    Examples
    --------
    >>> import pkmodel as pk
    >>> study = pk.load_study("snmmi_p004")
    >>> result = pk.fit(pk.load_model("organ_2_phase"), study["P004"], protocol="serial_spect")
    """
    if method not in ("least_squares", "bayes"):
        raise FitError(f"method {method!r} is not known; allowed: least_squares, bayes")
    if sampling and method != "bayes":
        raise FitError(f"{', '.join(sampling)}: only method='bayes' draws; leave out or set method='bayes'")
    check_seed(seed)
    if isinstance(curves, Study):
        if len(curves) != 1:
            raise FitError(
                f"{curves.name} has {len(curves)} subjects ({', '.join(curves.subjects)}); fit one: study[name]"
            )
        curves = next(iter(curves))
    model = load_model(model) if isinstance(model, str) else model
    rules = load_protocol(protocol) if isinstance(protocol, str) else protocol or default_protocol(model)
    bayes = method == "bayes"
    labelled, chosen, likelihood, notes = bind_subject(
        model, curves, rules, regions=regions, inputs=inputs, sparse=bayes
    )
    if bayes:
        from .bayes.fitting import fit_bayes

        check_settings(method, sampling, fit_bayes, taken=("seed", "notes"))
        check_sampling(sampling)
        notes += filter(None, (labelled.unverified,))
        return fit_bayes(likelihood, chosen, rules, seed=seed, notes=(*curves.warnings, *notes), **sampling)
    notes += _left_out(chosen)
    groups = tuple(likelihood.groups())
    optima = tuple(minimise(g, rules.starts, rules.seed if seed is None else seed) for g in groups)
    result = Fit(labelled, chosen, rules, likelihood, groups, optima, method)
    return replace(
        result, warnings=(*curves.warnings, *notes, *judge(result), *filter(None, (result.model.unverified,)))
    )


def bind_subject(
    model: Model,
    curves: Curves,
    rules: Protocol,
    *,
    regions: Sequence[str] | None = None,
    inputs: Mapping[str, Any] | str | None = None,
    regimen: Regimen | None = None,
    sparse: bool = False,
) -> tuple[Model, Curves, Likelihood, list[str]]:
    """Bring a model, one subject's curves and a protocol together; every verb that fits begins here.

    Parameters
    ----------
    model : labelled here where the data decay
    curves : of one subject, with regimen and covariates where the source gives them
    rules : the protocol
    regions, inputs : as in `fit`
    regimen : what was given; default what the curves say
    sparse : whether more may be free than was measured

    Returns
    -------
    The labelled model, the curves that are used, the likelihood, and what a reader should know.

    Raises
    ------
    FitError
        They do not go together; the message says what to change.
    """
    notes: list[str] = []
    chosen = curves.select(regions) if regions is not None else _default_regions(model, curves, notes)
    if twice := {r for r in chosen.regions if chosen.regions.count(r) > 1}:
        raise FitError(f"{curves.subject}: region {', '.join(sorted(twice))} is named twice")
    if early := [c for c in chosen if np.any(c.t_start < 0)]:
        c = early[0]
        raise FitError(
            f"{c.who}: {_at(c, int(np.argmax(c.t_start < 0)))} lies before the first administration; times are hours "
            "after it: take(curve.t >= 0), or shift the times"
        )
    if not len(chosen):
        raise FitError(f"{curves.subject}: no regions to fit; known: {', '.join(curves.regions)}")
    if model.administration and chosen.injected_activity is None and (regimen or chosen.regimen) is None:
        chosen, note = _per_megabecquerel(chosen)
        notes.append(note)
    labelled, varying = personal(_label(model, chosen, rules), chosen)
    driving, said = read_inputs(labelled, chosen, resolve_inputs(labelled, curves, inputs))
    given = chosen.regimen if regimen is None else regimen
    likelihood = build_likelihood(labelled, chosen, rules, driving, regimen=given, covariates=varying, sparse=sparse)
    return labelled, chosen, likelihood, [*notes, *said]


def _at(curve: Curve, k: int) -> str:
    """How a message names one value."""
    return f"{f'row {curve.rows[k]}' if curve.rows else f'value {k + 1}'} ({curve.t_start[k]:g} h)"


def _left_out(curves: Curves) -> list[str]:
    """What least squares cannot use: limits."""
    cut = {c.region: int(np.isin(c.censored, (BELOW, ABOVE)).sum()) for c in curves}
    if not any(cut.values()):
        return []
    where = ", ".join(f"{n} of {region}" for region, n in cut.items() if n)
    return [f"censored values are not used by least squares ({where}); method='bayes' counts them"]


def _default_regions(model: Model, curves: Curves, notes: list[str]) -> Curves:
    """The organs; for a model of the whole body, what it describes, with a note of what it does not."""
    if model.scope == "region":
        return curves.select(curves.organs)
    known = [c.region for c in curves if c.kind != "field_of_view"]
    described = [r for r in known if r in model.observables]
    if left_out := [r for r in known if r not in described]:
        notes.append(f"{model.name} does not describe {', '.join(left_out)}: not fitted")
    return curves.select(described)


def default_protocol(model: Model) -> Protocol:
    """Everything free that can be: not physical constants, not delays, equal weights."""
    delays = {i.delay for i in model.inputs.values()}
    free = {n: Free() for n in model.primary if not model.parameters[n].fixed and n not in delays}
    return Protocol(name="default", model=model.name, free=free)


def _label(model: Model, curves: Curves, rules: Protocol) -> Model:
    if model.nuclide or not curves.nuclide:
        return model
    substance = any(dict(dimension(c.unit).exponents).get("substance") for c in model.compartments.values())
    decaying = any(not c.decay_corrected for c in curves)
    return label(model, curves.nuclide, cold=rules.cold) if substance or decaying else model


def _per_megabecquerel(curves: Curves) -> tuple[Curves, str]:
    """Curves in percent of an injection that the source does not state, as if 1 MBq had been given."""
    if any(dimension(c.unit) != dimension("%IA") for c in curves):
        raise FitError(
            f"{curves.subject}: the injected activity is not stated and not all values are %IA; say "
            "injected_activity = '... MBq' in study.toml"
        )
    one = curves.replace(injected_activity=1.0, curves=tuple(c.replace(injected_activity=1.0) for c in curves))
    return one, "the injected activity is not stated: results are per MBq injected"
