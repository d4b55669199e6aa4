"""Measured inputs that drive a model (blood, plasma): read, checked, and brought to the decay state of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Curves
from ..errors import FitError
from ..formats.curve import Curve
from ..inputs import InputCurve
from ..model import Model
from ..nuclides import nuclide
from ..units import factor

Array = NDArray[np.float64]
STEP = 5e-4  # between knots of an input whose correction is undone, times lambda: bent by its square/8, 3e-8
PIECES = 10  # and at least so many between two samples, where the input climbs or falls steeply


def read_inputs(
    model: Model, curves: Curves, inputs: Mapping[str, Any] | None
) -> tuple[dict[str, InputCurve], list[str]]:
    """Inputs of a model, and what a reader should know of them.

    A `Curve` carries its unit and decay flag and is brought to what the model needs: activity as it was where the
    model decays (it is labelled), decay-corrected otherwise. Bare arrays are taken in the declared unit and with the
    decay state of the fitted curves, and that is said.

    Parameters
    ----------
    model : labelled or not
    curves : the curves to fit
    inputs : name -> Curve, (times [h], values in the declared unit), or InputCurve (canonical)

    Raises
    ------
    FitError
        An input is missing, unknown, not finite, not increasing, or of another nuclide.
    DataError, UnitError
        The unit of a curve cannot become the declared one.
    """
    given = dict(inputs or {})
    if unknown := sorted(set(given) - set(model.inputs)):
        known = ", ".join(model.inputs) or "none"
        raise FitError(f"{model.name}: {', '.join(unknown)}: no such input; known: {known}")
    out: dict[str, InputCurve] = {}
    bare = []
    for name, declared in model.inputs.items():
        if name not in given:
            raise FitError(
                f"{model.name}: input {name} [{declared.unit}] is not given; pass "
                f"inputs={{{name!r}: curve}} or {{{name!r}: (times in h, values in {declared.unit})}}"
            )
        one, who = given[name], f"{model.name}: input {name}"
        if isinstance(one, InputCurve):
            out[name] = one
            continue
        if isinstance(one, Curve):
            t, value = _from_curve(one, declared.unit, curves, decaying=bool(model.nuclide), who=who)
        else:
            t, value = _from_arrays(one, who)
            bare.append(name)
        _check(t, value, who)
        out[name] = InputCurve(t, value * factor(declared.unit))
    notes = []
    if bare and model.nuclide:
        notes.append(
            f"the curves are not decay-corrected, so {', '.join(bare)} was taken as not decay-corrected either; "
            "pass a Curve to have it converted"
        )
    return out, notes


def _from_arrays(given: Any, who: str) -> tuple[Array, Array]:
    try:
        t, value = (np.asarray(part, dtype=float) for part in given)
    except (TypeError, ValueError):
        raise FitError(f"{who}: expected a Curve or (times [h], values), found {type(given).__name__}") from None
    return t, value


def _from_curve(curve: Curve, unit: str, curves: Curves, *, decaying: bool, who: str) -> tuple[Array, Array]:
    mine, theirs = (nuclide(n).name if n else "" for n in (curve.nuclide, curves.nuclide))
    if mine != theirs:
        raise FitError(f"{who}: measured with {mine or 'no nuclide'}, but the curves with {theirs or 'none'}")
    converted = curve.to_unit(unit)
    t, value = converted.t, converted.value
    decay = nuclide(mine).decay_constant if mine else 0.0
    if curve.decay_corrected and decaying:
        # straight between knots when corrected means curved when not: more knots keep it the same curve
        finer = np.concatenate(
            [*(np.linspace(a, b, _pieces(decay * (b - a)), endpoint=False) for a, b in _pairs(t)), t[-1:]]
        )
        return finer, np.interp(finer, t, value) * np.exp(-decay * finer)
    if decay and not curve.decay_corrected and not decaying:
        return t, value * np.exp(decay * t)
    return t, value


def _pieces(decays: float) -> int:
    return max(PIECES, math.ceil(decays / STEP))


def _pairs(t: Array) -> list[tuple[float, float]]:
    return list(pairwise(t.tolist()))


def _check(t: Array, value: Array, who: str) -> None:
    if t.ndim != 1 or t.shape != value.shape or t.size < 2:
        raise FitError(f"{who}: needs at least two times and as many values, found {t.size} and {value.size}")
    bad = ~(np.isfinite(t) & np.isfinite(value))
    if np.any(bad):
        k = int(np.argmax(bad))
        raise FitError(f"{who}: knot {k + 1} is not finite: {value[k]:g} at {t[k]:g} h; leave it out")
    if np.any(np.diff(t) <= 0):
        k = int(np.argmax(np.diff(t) <= 0)) + 1
        raise FitError(f"{who}: times must increase; knot {k + 1} at {t[k]:g} h does not")
