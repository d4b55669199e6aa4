"""Arterial blood of a scan as the inputs of a tissue model: parent tracer in plasma, and whole blood."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Curves
from ..errors import FitError
from ..formats.curve import Curve
from ..model import Model

Array = NDArray[np.float64]
PIECES = 8  # between two samples, where plasma and parent fraction, both straight, make a product that bends
PLASMA, BLOOD = ("Cp",), ("Cb",)  # names of inputs in models/pet: parent in plasma, whole blood


def arterial_inputs(curves: Curves, model: Model | None = None) -> dict[str, Curve]:
    """Inputs ``Cp`` and ``Cb`` of the models of PET from the blood samples of the same scan.

    Lines join the samples. A sample of zero at injection is added before the first one, the parent fraction is level
    before its first and after its last sample (1 at injection), and whole blood and plasma are level after their last.
    Fit an input function instead where samples are few or noisy (`fit_with_input`, `pkmodel.pet`).

    Parameters
    ----------
    curves : one scan with kinds plasma and, or, blood, and a parent_fraction where plasma holds metabolites too
    model : only the inputs it has; default all that there is blood for

    Returns
    -------
    dict of Curve
        By the name of the input, in the unit of the samples.

    Raises
    ------
    FitError
        The scan has no plasma, or two curves of one kind.
    """
    plasma, blood, fraction = (_one(curves, kind) for kind in ("plasma", "blood", "parent_fraction"))
    wanted = set(model.inputs) if model is not None else {*PLASMA, *BLOOD}
    found: dict[str, Curve] = {}
    last = max((float(c.t_end[-1]) for c in curves), default=0.0)
    if wanted & set(PLASMA):
        if plasma is None:
            raise FitError(
                f"{curves.subject}: no curve of kind 'plasma'; give inputs={{'Cp': curve}}, a blood curve where plasma "
                "holds as much, or use a method with a reference region (pkmodel.pet)"
            )
        found["Cp"] = _joined(parent_in_plasma(plasma, fraction), last)
    if wanted & set(BLOOD):
        if blood is None:
            raise FitError(
                f"{curves.subject}: no curve of kind 'blood' for the blood in the tissue; give inputs={{'Cb': curve}}, "
                "for example total plasma"
            )
        found["Cb"] = _joined(blood, last)
    return found


def resolve_inputs(model: Model, curves: Curves, inputs: Mapping[str, Any] | str | None) -> Mapping[str, Any] | None:
    """Inputs as a mapping: "arterial" means those of the same scan's blood samples.

    Parameters
    ----------
    model : whose inputs they are
    curves : all curves of the scan, blood too
    inputs : name -> input, "arterial", or None

    Raises
    ------
    FitError
        It is another word, or the scan has no blood.
    """
    if not isinstance(inputs, str):
        return inputs
    if inputs != "arterial":
        raise FitError(f"inputs={inputs!r} is not known; allowed: 'arterial', or a mapping name -> curve")
    return arterial_inputs(curves, model)


def parent_in_plasma(plasma: Curve, fraction: Curve | None) -> Curve:
    """Plasma times parent fraction, both straight between samples; plasma as it is where there is no fraction.

    Parameters
    ----------
    plasma : total radioactivity in plasma
    fraction : parent fraction, or None
    """
    if fraction is None:
        return plasma
    knots = np.unique(np.concatenate([plasma.t, fraction.t[fraction.t < plasma.t[-1]]]))
    knots = knots[knots >= plasma.t[0]]
    t = np.unique(np.concatenate([np.linspace(a, b, PIECES + 1) for a, b in pairwise(knots)]))
    share_t, share = fraction.t, fraction.value
    if share_t[0] > 0:
        share_t, share = np.append(0.0, share_t), np.append(1.0, share)
    value = np.interp(t, plasma.t, plasma.value) * np.interp(t, share_t, share)
    return made_of(plasma, "parent_in_plasma", t, value)


def made_of(curve: Curve, region: str, t: Array, value: Array) -> Curve:
    """A curve of samples with the unit, nuclide and decay flag of another."""
    nothing = np.full(t.size, np.nan)
    return curve.replace(
        region=region,
        t_start=t,
        t_end=t,
        value=value,
        sd=nothing,
        weights=nothing,
        volume=nothing,
        n=np.ones(t.size, dtype=np.int64),
        censored=np.zeros(t.size, dtype=np.int8),
        rows=(),
    )


def _joined(curve: Curve, last: float) -> Curve:
    """Zero at injection before the first sample, level after the last one."""
    t, value = curve.t, curve.value
    if t[0] > 0:
        t, value = np.append(0.0, t), np.append(0.0, value)
    if t[-1] < last:
        t, value = np.append(t, last), np.append(value, value[-1])
    return made_of(curve, curve.region, t, value)


def _one(curves: Curves, kind: str) -> Any:
    found = [c for c in curves if c.kind == kind]
    if len(found) > 1:
        names = ", ".join(c.region for c in found)
        raise FitError(f"{curves.subject}: {len(found)} curves of kind {kind!r} ({names}); leave only one in")
    return found[0] if found else None
