"""The verb `fit`: a model, one subject's curves and a protocol, to a `Fit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..assembly import load_model
from ..data import Curves, Study
from ..errors import FitError
from ..labelling import label
from ..model import Model
from ..units import dimension
from .binding import build_likelihood
from .diagnostics import judge
from .least_squares import minimise
from .measured_inputs import read_inputs
from .protocol import Free, Protocol, load_protocol
from .result import Fit


def fit(
    model: Model | str,
    curves: Curves | Study,
    protocol: Protocol | str | None = None,
    *,
    method: str = "least_squares",
    regions: Sequence[str] | None = None,
    inputs: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> Fit:
    """Fit a model to the curves of one subject.

    Parameters
    ----------
    model : a model or its name; labelled with the nuclide of the data where they decay
    curves : one subject's curves, or a study with one subject
    protocol : a protocol or its name; default: every parameter that is not fixed and not a delay is free
    method : "least_squares" [text]
    regions : which regions; default the organs (for a whole-body model every region it describes), never a field of
        view
    inputs : measured inputs that drive the model, name -> Curve, or (times [h], values in the declared unit); arrays
        are taken with the decay state of `curves`
    seed : of the starts; default the protocol's [1]

    Returns
    -------
    Fit

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
    if method != "least_squares":
        raise FitError(f"method {method!r} is not known; allowed: least_squares")
    if isinstance(curves, Study):
        if len(curves) != 1:
            raise FitError(
                f"{curves.name} has {len(curves)} subjects ({', '.join(curves.subjects)}); fit one: study[name]"
            )
        curves = next(iter(curves))
    model = load_model(model) if isinstance(model, str) else model
    rules = load_protocol(protocol) if isinstance(protocol, str) else protocol or default_protocol(model)
    notes: list[str] = []
    chosen = curves.select(regions) if regions is not None else _default_regions(model, curves, notes)
    if twice := {r for r in chosen.regions if chosen.regions.count(r) > 1}:
        raise FitError(f"{curves.subject}: region {', '.join(sorted(twice))} is named twice")
    if not len(chosen):
        raise FitError(f"{curves.subject}: no regions to fit; known: {', '.join(curves.regions)}")
    if model.administration and chosen.injected_activity is None:
        chosen, note = _per_megabecquerel(chosen)
        notes.append(note)
    labelled = _label(model, chosen, rules)
    driving, said = read_inputs(labelled, chosen, inputs)
    likelihood = build_likelihood(labelled, chosen, rules, driving)
    groups = tuple(likelihood.groups())
    optima = tuple(minimise(g, rules.starts, rules.seed if seed is None else seed) for g in groups)
    result = Fit(labelled, chosen, rules, likelihood, groups, optima, method)
    return replace(
        result, warnings=(*curves.warnings, *notes, *said, *judge(result), *filter(None, (result.model.unverified,)))
    )


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
    if model.nuclide:
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
