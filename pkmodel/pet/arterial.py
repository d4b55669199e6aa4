"""From blood samples to the input of a tissue model in one call: parent tracer in plasma, and whole blood."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..formats.curve import Curve
from .blood import Negative, check_samples, correct_dispersion, fit_plasma_ratio, shift
from .fitted import Fitted
from .input_fitting import fit_input
from .input_functions import InputFit
from .measured import MINUTES
from .parent_fraction import OutOfRange, check_fractions, fit_parent_fraction

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = NDArray[np.float64]
_BETWEEN = 20  # steps between two samples, late ones half an hour apart, over which the parent fraction falls


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class ArterialInput:
    """The input of a tissue model.

    Parameters
    ----------
    parent : parent tracer in plasma, decay-corrected samples
    fine : parent between the samples too: plasma by straight lines times the parent fraction at each time
    blood : whole blood, decay-corrected samples, or None
    parent_fraction, plasma_ratio, input_fit : the models behind them, where asked for
    notes : what was done, in order [text]
    """

    parent: Curve
    fine: Curve
    blood: Curve | None = None
    parent_fraction: Fitted | None = None
    plasma_ratio: Fitted | None = None
    input_fit: InputFit | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def curve(self, times: ArrayLike | None = None) -> Curve:
        """Parent in plasma: from the fitted function where there is one, else the samples.

        Parameters
        ----------
        times : (n,) array of times wanted, default as fitted or sampled [min]
        """
        if self.input_fit is not None:
            return self.input_fit.curve(times)
        if times is None:
            return self.fine
        t = np.asarray(times, dtype=float)
        nothing = np.full(t.size, np.nan)
        value = np.interp(t, self.fine.t * MINUTES, self.fine.value, left=0.0)
        return self.fine.replace(
            t_start=t / MINUTES, t_end=t / MINUTES, value=value, sd=nothing, weights=nothing,
            n=np.ones(t.size, dtype=np.int64), volume=nothing, rows=(), censored=np.zeros(t.size, dtype=np.int8),
        )  # fmt: skip

    def inputs(self, parent: str = "Cp", blood: str = "Cb") -> dict[str, Curve]:
        """Inputs by the names a model uses, for `pkmodel.fit`; whole blood where there is any."""
        out = {parent: self.curve()}
        return out if self.blood is None else out | {blood: self.blood}

    def plot(self, **options: Any) -> Any:
        """Figure of parent plasma, whole blood and the fitted function (see `pkmodel.plot_pet.arterial_figure`)."""
        from ..plot_pet import arterial_figure

        return arterial_figure(self, **options)

    def __str__(self) -> str:
        lines = [f"Arterial input of {self.parent.subject}: {len(self.parent)} samples of parent [{self.parent.unit}]"]
        for fit in (self.plasma_ratio, self.parent_fraction, self.input_fit):
            lines += [] if fit is None else ["", *str(fit).splitlines()]
        said = [*(f"note: {x}" for x in self.notes), *(f"warning: {x}" for x in self.warnings)]
        return "\n".join([*lines, *(x for x in said if x not in lines)])

    __repr__ = __str__


def arterial_input(
    plasma: Curve | None = None,
    parent_fraction: Curve | Fitted | None = None,
    blood: Curve | None = None,
    *,
    parent_model: str | None = "hill",
    ratio: float | str | None = None,
    input_model: str | None = None,
    fixed: Mapping[str, float] | None = None,
    variance: str | ArrayLike = "poisson",
    delay: float = 0.0,
    dispersion: float = 0.0,
    negative: Negative = "refuse",
    out_of_range: OutOfRange = "refuse",
) -> ArterialInput:
    """Metabolite-corrected plasma input from blood data.

    The order: negative samples, decay correction, dispersion, plasma from blood where needed, parent fraction, delay,
    fitted function.

    Parameters
    ----------
    plasma : total activity in plasma, or None to make it from whole blood with `ratio`
    parent_fraction : samples of the parent fraction, a fitted model of it, or None for a tracer without metabolites
    blood : whole blood, for the vascular term of models
    parent_model : family of `fit_parent_fraction`; None joins the samples by straight lines, from 1 at injection [text]
    ratio : plasma over whole blood where plasma is None: a number, or with both curves given a family of
        `fit_plasma_ratio`, used to fill plasma in wherever blood was sampled [1 or text]
    input_model : family of `fit_input` for the parent; None keeps the samples [text]
    fixed, variance : for that fit
    delay : how much later the tissue sees the blood; shifts all curves [min]
    dispersion : time constant of the sampler, corrected in plasma and blood (see `correct_dispersion`) [min]
    negative : samples below zero: "refuse", "keep", "zero" [text]
    out_of_range : parent fractions below 0 or above 1: "refuse", "clip" [text]

    Raises
    ------
    DataError
        A sample is negative, a fraction outside 0 to 1 (rows are named), or something needed is not given.
    FitError
        A model does not fit.
    """
    notes: list[str] = []
    ready: dict[str, Curve] = {}
    for name, curve in (("plasma", plasma), ("blood", blood)):
        if curve is None:
            continue
        good, said = check_samples(curve, negative)
        notes += said
        if not good.decay_corrected and good.nuclide:
            notes.append(f"{curve.region} was corrected for decay to injection")
        good = good.decay_correct()
        if dispersion:
            good = correct_dispersion(good, dispersion)
            notes.append(f"{curve.region}: dispersion of {dispersion:g} min corrected")
        ready[name] = good
    if "plasma" in ready and "blood" in ready and ready["blood"].unit != ready["plasma"].unit:
        notes.append(f"{ready['blood'].region} was converted from {ready['blood'].unit} to {ready['plasma'].unit}")
        ready["blood"] = ready["blood"].to_unit(ready["plasma"].unit)
    made, fit_of_ratio = _plasma(ready, ratio, notes)
    parent, fine, fit_of_fraction = _parent(made, parent_fraction, parent_model, out_of_range, notes)
    whole = ready.get("blood")
    if delay:
        last = float(parent.t[-1]) * MINUTES
        if not abs(delay) < last:
            raise DataError(
                f"{parent.who}: a delay of {delay:g} min, but samples end at {last:.4g} min; was it in seconds?"
            )
        parent, fine, whole = shift(parent, delay), shift(fine, delay), None if whole is None else shift(whole, delay)
        notes.append(f"all curves shifted by {delay:g} min")
    fit = None if input_model is None else fit_input(parent, input_model, fixed=fixed, variance=variance)
    warnings = [w for f in (fit_of_ratio, fit_of_fraction, fit) if f is not None for w in f.warnings]
    return ArterialInput(
        parent=parent, fine=fine, blood=whole, parent_fraction=fit_of_fraction, plasma_ratio=fit_of_ratio,
        input_fit=fit, notes=tuple(notes), warnings=tuple(warnings),
    )  # fmt: skip


def _plasma(ready: dict[str, Curve], ratio: float | str | None, notes: list[str]) -> tuple[Curve, Fitted | None]:
    """Total plasma: measured, or whole blood times a ratio."""
    if ratio is None:
        if "plasma" not in ready:
            raise DataError("arterial input: no plasma; give plasma=, or blood= with ratio= (plasma over whole blood)")
        return ready["plasma"], None
    if "blood" not in ready:
        raise DataError(f"arterial input: ratio={ratio!r} needs blood=, the curve it is to be applied to")
    blood = ready["blood"]
    if isinstance(ratio, str):
        if "plasma" not in ready:
            raise DataError(f"arterial input: ratio={ratio!r} is fitted to plasma over blood and needs plasma= as well")
        fit = fit_plasma_ratio(ready["plasma"], blood, ratio)
        notes.append(f"plasma is whole blood times the fitted ratio ({ratio})")
        return blood.replace(kind="plasma", region="plasma", value=blood.value * fit(blood.t * MINUTES)), fit
    if not ratio > 0:
        raise DataError(f"arterial input: ratio={ratio!r}; allowed: above zero, or a family to fit")
    notes.append(f"plasma is whole blood times {ratio:g}")
    return blood.replace(kind="plasma", region="plasma", value=blood.value * ratio), None


def _parent(
    plasma: Curve, fraction: Curve | Fitted | None, family: str | None, out_of_range: OutOfRange, notes: list[str]
) -> tuple[Curve, Curve, Fitted | None]:
    """Plasma times the parent fraction: at the samples, and between them."""
    t = plasma.t * MINUTES
    part: Callable[[Array], Array]
    if fraction is None:
        notes.append("no parent fraction given: all of the plasma's activity counts as parent")
        return plasma, plasma, None
    if isinstance(fraction, Fitted):
        fit: Fitted | None = fraction
    elif family is not None:
        fit = fit_parent_fraction(fraction, family, out_of_range=out_of_range)
    else:
        fit = None
    if fit is not None:
        part, last = fit.function, float(fit.samples.t[-1]) * MINUTES
        notes += list(fit.notes)
    else:
        assert isinstance(fraction, Curve)
        good, said = check_fractions(fraction, out_of_range)
        notes += said
        at, value = good.t * MINUTES, good.value
        if at[0] > 0:
            at, value = np.append(0.0, at), np.append(1.0, value)
        part, last = (lambda x: np.asarray(np.interp(x, at, value), dtype=float)), float(at[-1])
    if t[-1] > last + 0.01:
        how = "extrapolated by the model" if fit is not None else "held level"
        notes.append(f"the parent fraction was last measured at {last:.4g} min and is {how} to {t[-1]:.4g} min")
    finer = np.append(np.concatenate([np.linspace(a, b, _BETWEEN, endpoint=False) for a, b in pairwise(t)]), t[-1])
    nothing = np.full(finer.size, np.nan)
    parent = plasma.replace(value=plasma.value * part(t), region="parent_plasma")
    fine = parent.replace(
        t_start=finer / MINUTES, t_end=finer / MINUTES, value=np.interp(finer, t, plasma.value) * part(finer),
        sd=nothing, weights=nothing, n=np.ones(finer.size, dtype=np.int64), volume=nothing, rows=(),
        censored=np.zeros(finer.size, dtype=np.int8),
    )  # fmt: skip
    return parent, fine, fit
