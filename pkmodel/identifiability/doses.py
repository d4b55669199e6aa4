"""What `identify` takes from a regimen: which doses go where, together or apart, and what of them is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Protocol

from ..errors import ModelError, did_you_mean
from ..model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    """One dose as `identify` sees it: how it enters and whether its size is known.

    Parameters
    ----------
    into : route or compartment; of a labelled model, its cold part is given with it [text]
    infusion : enters at a constant rate rather than at once
    known : whether the amount is known
    fraction : parameter that multiplies it, such as a bioavailability that is not part of the model [text]
    time : doses at one time count as one [h]
    """

    into: str
    infusion: bool = False
    known: bool = True
    fraction: str = ""
    time: float = 0.0


class _Administration(Protocol):
    time: Any
    into: str
    duration: Any


def experiments_of(model: Model, doses: Any) -> list[list[Dose]]:
    """Doses by time; what is given twice in the same way is examined once."""
    default = next((r for r in model.administration if not r.endswith("_cold")), "")
    listed: list[Dose] = []
    if doses is None:
        listed = [Dose(into=default)] if default else []
    elif hasattr(doses, "administrations"):
        listed = [_of_regimen(a, default) for a in doses.administrations]
    else:
        for d in [doses] if isinstance(doses, str | Dose) else doses:
            listed.append(Dose(into=d) if isinstance(d, str) else d)
    for d in listed:
        if d.into not in model.routes:
            raise ModelError(
                f"{model.who}: no way to give a dose into {d.into!r}{did_you_mean(d.into, model.routes)}; known: "
                f"{', '.join(model.routes) or 'none'}"
            )
        if d.fraction and d.fraction not in model.parameters:
            raise ModelError(f"{model.who}: fraction {d.fraction!r} of a dose is not a parameter of the model")
    listed.sort(key=lambda d: d.time)
    together = {
        tuple(sorted({replace(d, time=0.0) for d in group}, key=repr)): None
        for _, group in groupby(listed, key=lambda d: d.time)
    }
    return [list(group) for group in together] or [[]]


def _of_regimen(a: _Administration, default: str) -> Dose:
    lasts = a.duration != 0 or getattr(a, "rate", 0) not in (0, None, "")
    fraction = getattr(a, "fraction", 1.0)
    return Dose(
        into=a.into or default,
        infusion=bool(lasts),
        fraction=fraction if isinstance(fraction, str) else "",
        time=float(a.time),
    )


def in_words(experiment: list[Dose], model: Model) -> str:
    if not experiment:
        return f"any {' and '.join(model.inputs)}" if model.inputs else "no dose"
    return " with ".join(
        f"{'' if d.known else 'an unknown '}{'infusion' if d.infusion else 'bolus'} into {d.into}" for d in experiment
    )
