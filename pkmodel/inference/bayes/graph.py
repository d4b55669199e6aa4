"""The posterior of one subject as a PyMC model: priors, predictions in closed form or by the operation, noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from ...errors import FitError
from ...units import factor
from ..likelihood import Likelihood
from ..slots import Slot
from .density import log_likelihood
from .kernels import People
from .priors import Prior

Route = Literal["auto", "closed form", "operation"]


@dataclass(frozen=True)
class Graph:
    """A model of PyMC and how it computes.

    Parameters
    ----------
    model : pymc.Model; its data "measured" can be exchanged without compiling again
    words : how predictions are computed [text]
    """

    model: Any
    words: str


def scale_of(slot: Slot, value: Any) -> Any:
    """A value in the declared unit, of PyTensor, on the scale of the fit."""
    import pytensor.tensor as pt

    canonical = value * factor(slot.unit)
    if slot.transform == "log":
        return pt.log(canonical)
    if slot.transform == "logit":
        return pt.log(canonical - slot.lower) - pt.log(slot.upper - canonical)
    return canonical


def predictions_of(people: People, x: Any, route: Route) -> tuple[Any, Any, str]:
    """Predictions (n,), what to add to the log posterior (0, or -inf where a subject failed), and how it is computed.

    Parameters
    ----------
    people : whose
    x : (N, K) matrix of PyTensor, on the scale of the fit
    route : "closed form", "operation", or "auto": the first where it can be
    """
    import pytensor.tensor as pt

    from .closed_form import closed_form

    value = closed_form(people, x) if route != "operation" else None
    if value is not None:
        return value, 0.0, "closed form in PyTensor"
    if route == "closed form":
        raise FitError(f"{people.likelihoods[0].model.name}: cannot be written in closed form; use route='auto'")
    from .operation import Predictions

    operation = Predictions(people)
    value, _, good = cast(Any, operation(x))
    return value, pt.switch(pt.all(good > 0), 0.0, -np.inf), operation.kernel.words


def build(likelihood: Likelihood, priors: Mapping[str, Prior], noise: Mapping[str, Prior], route: Route) -> Graph:
    """The posterior of one subject.

    Parameters
    ----------
    likelihood : of the subject
    priors, noise : of the free parameters by label and of the free sizes of the noise by name
    route : how predictions are computed, see `predictions_of`
    """
    import pymc as pm
    import pytensor.tensor as pt

    with pm.Model() as model:
        columns = [scale_of(s, priors[s.label].variable(s.label)) for s in likelihood.slots]
        sizes = {name: prior.variable(name) for name, prior in noise.items()}
        value, solved, words = predictions_of(People([likelihood]), pt.stack(columns)[None, :], route)
        measured = pm.Data("measured", likelihood.data.value)
        score = log_likelihood(value, sizes, measured, likelihood.noise, [likelihood.data])
        pm.Potential("likelihood", score + solved)
    return Graph(model, words)
