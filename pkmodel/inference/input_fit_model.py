"""A tissue model driven by a fitted input instead of a measured one: blood and every region in one set of equations.

Plasma after a bolus at t = 0 is a sum of decaying exponentials (the tri-exponential), or Feng's function with its term
t exp(-l1 t) (Feng 1993, doi:10.1016/0020-7101(93)90049-C); given over some time both are convolved with the infusion.
Written as compartments that the dose enters, they are linear, exact, and their arrival, width, amplitudes and rates are
parameters like any other. Blood at the place of sampling may be smeared by its way there: dS/dt = (C - S)/tau
(Iida 1986, doi:10.1038/jcbfm.1986.99), and the tissue may see it later by `delay`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import sympy as sp

from ..composition import instantiate
from ..errors import FitError
from ..expressions import symbol
from ..formats.curve import Curve
from ..model import Model
from ..model_file import model_from_dict
from ..sharing import substitute

Kind = Literal["exponential", "feng"]
Blood = Literal["fitted", "measured", "none"]
SAMPLED, TISSUE = "sampled", "tissue"  # routes: the dose as the sampler sees it, and as the tissue does
PLASMA, WHOLE = "plasma_parent", "whole_blood"  # observables and regions of the samples
_SOURCE = "to be fitted"
SLOWEST, FASTEST = (
    1e-4,
    20.0,
)  # rates of an exponential [1/min]: a level during a scan of hours; gone in a second or two


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What an input function is made of; starts are of the scan (kBq/mL per MBq, 1/min, min)."""

    kind: Kind
    amplitudes: Mapping[str, tuple[float, ...]]  # "p": parent in plasma, "b": whole blood -> one per exponential
    rates: Mapping[str, tuple[float, ...]]
    arrival: float
    width: float
    blood: Blood
    delay: bool
    dispersion: bool
    image_derived: str = ""


def driven_model(tissue: Model, regions: Sequence[str], shape: Shape, shared: Sequence[str] = ()) -> Model:
    """One model of blood and all regions.

    Parameters
    ----------
    tissue : model of one region with the input ``Cp``, and ``Cb`` as it may be
    regions : their names, identifiers [text]
    shape : of the input function
    shared : parameters of the tissue that all regions have in common [text]

    Raises
    ------
    FitError
        The tissue model has no such inputs, or is not of one region.
    """
    if tissue.scope != "region" or "Cp" not in tissue.inputs or set(tissue.inputs) - {"Cp", "Cb"}:
        raise FitError(
            f"{tissue.who}: a fitted input drives models of one region with the inputs Cp and Cb; it has "
            f"{', '.join(tissue.inputs) or 'none'}"
        )
    base = model_from_dict(_input_text(shape, tissue))
    if not regions:
        return replace(base, name=f"input_of_{tissue.name}")
    delays = {i.delay for i in tissue.inputs.values() if i.delay}
    common = [*tissue.inputs, *sorted(delays), *shared]
    whole = instantiate(tissue, {r: {} for r in regions}, shared=common, name=tissue.name)
    copy = "_t" if shape.delay else ""
    drives = {symbol("Cp"): _plasma(shape, "p", copy)}
    if "Cb" in tissue.inputs and shape.blood != "measured":
        drives[symbol("Cb")] = _plasma(shape, "b" if shape.blood == "fitted" else "p", copy)
    kept = {n: p for n, p in whole.parameters.items() if n not in delays}
    return replace(
        base,
        name=f"{tissue.name}_with_input",
        title=f"{tissue.title}; input function fitted with it",
        parameters={**base.parameters, **kept},
        compartments={**base.compartments, **whole.compartments},
        flows=(*base.flows, *(replace(f, rate=substitute(f.rate, drives)) for f in whole.flows)),
        observables={
            **base.observables,
            **{n: replace(o, expression=substitute(o.expression, drives)) for n, o in whole.observables.items()},
        },
        derived={**base.derived, **whole.derived},
        inputs={
            n: replace(i, delay="delay") for n, i in whole.inputs.items() if n == "Cb" and shape.blood == "measured"
        },
        references=tissue.references,
    )


def input_parameters(model: Model) -> tuple[str, ...]:
    """Names of the parameters of the input function, in order."""
    return tuple(n for n, p in model.parameters.items() if p.source == _SOURCE)


def _letters(shape: Shape) -> list[str]:
    return ["p", "b"] if shape.blood == "fitted" else ["p"]


def _states(shape: Shape, letter: str, copy: str) -> list[str]:
    return [f"{letter}{k}{copy}" for k in range(1, len(shape.rates[letter]) + 1)]


def _plasma_text(shape: Shape, letter: str, copy: str) -> str:
    """Concentration as a formula of the states, [kBq/mL]."""
    states = _states(shape, letter, copy)
    if shape.kind == "exponential":
        return " + ".join(f"A{s.removesuffix(copy)}*{s}" for s in states)
    rest = " + ".join(f"A{s.removesuffix(copy)}*({s} - {states[0]})" for s in states[1:])
    return f"A{letter}1*{letter}r{copy} + {rest}"


def _plasma(shape: Shape, letter: str, copy: str) -> sp.Expr:
    terms = _states(shape, letter, copy)
    a = [symbol(f"A{letter}{k}") for k in range(1, len(terms) + 1)]
    x = [symbol(t) for t in terms]
    if shape.kind == "exponential":
        return sp.Add(*(ai * xi for ai, xi in zip(a, x, strict=True)))
    return a[0] * symbol(f"{letter}r{copy}") + sp.Add(*(ai * (xi - x[0]) for ai, xi in zip(a[1:], x[1:], strict=True)))


def _input_text(shape: Shape, tissue: Model) -> dict[str, Any]:
    """The input function as a model: what a model file would say."""
    parameters: dict[str, Any] = {}
    compartments: dict[str, Any] = {}
    flows: list[dict[str, str]] = []
    observables: dict[str, Any] = {}
    copies = {SAMPLED: "", **({TISSUE: "_t"} if shape.delay else {})}
    routes: dict[str, Any] = {route: {} for route in copies}
    who = {"p": "parent tracer in plasma", "b": "whole blood"}
    for letter in _letters(shape):
        number = range(1, len(shape.rates[letter]) + 1)
        for k, start in zip(number, shape.amplitudes[letter], strict=True):
            name = f"A{letter}{k}"
            parameters[name] = _free(
                start,
                "kBq/mL/MBq",
                f"{who[letter]}: amplitude {k} per activity given",
                0.0,
                1e3 * max(shape.amplitudes[letter]),
            )
        for k, rate in zip(number, shape.rates[letter], strict=True):
            parameters[f"l{letter}{k}"] = _free(rate, "1/min", f"{who[letter]}: rate {k}", SLOWEST, FASTEST)
        for route, copy in copies.items():
            for k, state in zip(number, _states(shape, letter, copy), strict=True):
                compartments[state] = "MBq"
                flows.append({"from": state, "rate": f"l{letter}{k}*{state}"})
                routes[route][state] = 1
            if shape.kind == "feng":
                first, ramp = f"{letter}1{copy}", f"{letter}r{copy}"
                compartments[ramp] = "MBq"  # l1 t exp(-l1 t) of the dose
                flows.append({"to": ramp, "rate": f"l{letter}1*{first}"})
                flows.append({"from": ramp, "rate": f"l{letter}1*{ramp}"})
        name = PLASMA if letter == "p" else WHOLE
        formula = _plasma_text(shape, letter, "")
        if shape.dispersion:
            compartments[f"S{letter}"] = "kBq/mL"
            flows.append({"to": f"S{letter}", "rate": f"({formula})/tau"})
            flows.append({"from": f"S{letter}", "rate": f"S{letter}/tau"})
            formula = f"S{letter}"
        observables[name] = {"formula": formula, "unit": "kBq/mL"}
    parameters["arrival"] = _free(shape.arrival, "min", "arrival of the tracer at the place of sampling")
    parameters["width"] = _free(shape.width, "min", "time over which the bolus arrives")
    if shape.delay or shape.blood == "measured":
        parameters["delay"] = {
            "value": 0.0, "unit": "min", "lower": -2, "upper": 2,
            "meaning": "arrival in the tissue after arrival at the place of sampling",
            "source": _SOURCE if shape.delay else "none", "status": "assumed",
        }  # fmt: skip
    if shape.dispersion:
        parameters["tau"] = _free(0.1, "min", "time constant of dispersion on the way to the sampler", 0.005, 2.0)
    for route in routes:
        routes[route] |= {"duration": "width"}
        routes[route] |= {"lag": "arrival" if route == SAMPLED else "max(arrival + delay, 0)"}
    if shape.image_derived:
        parameters["RC"] = _free(0.9, "1", "recovery of blood in the image: apparent over true", 0.05, 1.5)
        blood = _plasma_text(shape, "b" if shape.blood == "fitted" else "p", "_t" if shape.delay else "")
        observables[shape.image_derived] = {"formula": f"RC*({blood})", "unit": "kBq/mL"}
    return {
        "name": "input_function",
        "title": f"{shape.kind} input function of {tissue.name}",
        "parameters": parameters,
        "compartments": compartments,
        "flows": flows,
        "observables": observables,
        "administration": routes,
    }


def _free(start: float, unit: str, meaning: str, lower: float = 0.0, upper: float | None = None) -> dict[str, Any]:
    row = {"value": start, "unit": unit, "lower": lower, "meaning": meaning, "source": _SOURCE, "status": "assumed"}
    return row if upper is None else {**row, "upper": upper}


def first_guess(samples: Sequence[Curve], dose: float, kind: Kind, phases: tuple[int, int], blood: Blood) -> Shape:
    """Where a fit of the input starts: rates a decade apart, amplitudes by the samples, arrival between two of them.

    Parameters
    ----------
    samples : parent in plasma and, where it is fitted, whole blood
    dose : activity given [MBq]
    kind, blood : see `Shape`
    phases : exponentials of each [1]

    Raises
    ------
    FitError
        There are no phases, or more than four.
    """
    if not all(1 <= n <= 4 for n in phases):
        raise FitError(f"phases = {phases}; allowed: 1 to 4")
    t, y = samples[0].t * 60.0, samples[0].value
    peak = int(np.argmax(y))
    below = np.flatnonzero(y[: peak + 1] < 0.02 * y[peak])
    arrival = 0.5 * float(t[below[-1]] + t[below[-1] + 1]) if len(below) else 0.5 * float(t[0])
    rates, amplitudes = {}, {}
    for letter, c, n in zip("pb", samples, phases, strict=False):
        rates[letter] = {1: (0.05,), 2: (0.6, 0.01), 3: (0.8, 0.06, 0.005), 4: (2.0, 0.4, 0.05, 0.005)}[n]
        at = [0.0, 8.0, 40.0] if n < 4 else [0.0, 4.0, 15.0, 60.0]
        later = [float(np.interp(t[peak] + a, t, c.value)) for a in ([0.0, 20.0] if n == 2 else at)[:n]]
        amplitudes[letter] = tuple(
            max(a, 1e-6 * later[0]) * (1.8 if k == 0 else 1.0) / dose for k, a in enumerate(later)
        )
    width = max(float(t[peak]) - arrival, 0.1)
    return Shape(
        kind=kind, amplitudes=amplitudes, rates=rates, arrival=max(arrival, 0.01), width=width, blood=blood,
        delay=False, dispersion=False,
    )  # fmt: skip
