"""Input and tissue fitted together: blood samples and all regions in one likelihood.

A tissue fit that takes the input as known reports errors that are too small. Here the input function has parameters of
its own, the blood samples are data like the frames, and what they leave open widens the errors of K1 and VT; tissue in
turn helps where samples are missing. Delay and dispersion belong to the scan and are shared by its regions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..assembly import load_model
from ..data import Curves
from ..errors import FitError
from ..expressions import symbol
from ..formats.curve import Curve
from ..model import Model
from ..regimen import Administration, Regimen
from ..units import factor
from .fitting import default_protocol, fit
from .input_fit_arterial import arterial_inputs, made_of, parent_in_plasma
from .input_fit_model import (
    PLASMA,
    SAMPLED,
    TISSUE,
    WHOLE,
    Blood,
    Kind,
    Shape,
    driven_model,
    first_guess,
    input_parameters,
)
from .protocol import ErrorModel, Free, Protocol, load_protocol
from .result import Fit
from .variances import variance_of

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
UNIT = "kBq/mL"
FLOOR = 0.02  # SD of a blood sample, relative to the largest, below which the error is no longer proportional
PULLED = 1.25  # residuals of the samples, joint over alone, from which on the tissue is said to pull the input


@dataclass(frozen=True)
class InputFit:
    """A joint fit of input and tissue.

    `fit` is the joint fit of one model (`driven_model`), with every property of a `Fit`; `two_step` the fit of the same
    tissue model with the input of `input_only` taken as known. `sizes` are the errors that these two steps left, by
    which the joint fit weighs its curves: of a blood sample relative to its value, of a region relative to the standard
    deviation that its error model says. Were they estimated from the joint fit, a tissue model that fits badly would
    bend the input until it fits.
    """

    fit: Fit
    input_only: Fit
    two_step: Fit
    sizes: Mapping[str, float]
    regions: Mapping[str, str]  # name in the model -> name in the data
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the numbers must know."""
        return (*self.notes, *self.fit.warnings)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per region and quantity: value, se, se_input_known, growth of the error, two_step value and se.

        `se_input_known` is the error of the same joint fit if the parameters of the input were known exactly.
        """
        import pandas as pd

        known = set(input_parameters(self.fit.model))
        free = np.array([s.parameter not in known for s in self.fit.slots])
        jacobian = self.fit.optima[0].jacobian[:, free]
        conditional = np.zeros_like(self.fit.covariance)
        conditional[np.ix_(free, free)] = np.linalg.pinv(jacobian.T @ jacobian) * self.fit.scales[0]
        rows = []
        for name, (value, gradient, unit) in self._quantities().items():
            region, quantity = self._split(name)
            se, se_known = (_error(c, gradient) for c in (self.fit.covariance, conditional))
            growth = se / se_known if se_known > 0 else np.nan
            rows.append([region, quantity, value, se, se_known, growth, *self._separately(region, quantity), unit])
        columns = ["region", "quantity", "value", "se", "se_input_known", "growth", "two_step", "two_step_se", "unit"]
        return pd.DataFrame(rows, columns=columns)

    def _quantities(self) -> dict[str, tuple[float, Array, str]]:
        """Value, derivative by x, unit of every free parameter of the tissue and everything derived from them."""
        found: dict[str, tuple[float, Array, str]] = {}
        block = self.fit.likelihood.blocks[0]
        names = block.problem.compiled.parameters
        values = np.array([s.from_scale(v) for s, v in zip(self.fit.slots, self.fit.x, strict=True)])
        p = dict(zip([symbol(n) for n in names], block.parameters(values), strict=True))
        leaders = dict(block.ties)
        slopes = [float(s.slope(v)) for s, v in zip(self.fit.slots, self.fit.x, strict=True)]
        for j, s in enumerate(self.fit.slots):
            unit = factor(s.unit)
            gradient = np.zeros(len(slopes))
            gradient[j] = slopes[j] / unit
            found[s.parameter] = (float(values[j]) / unit, gradient, s.unit)
        for d in self.fit.model.derived.values():
            assert d.formula is not None
            formula = d.formula.xreplace(self.fit.model.resolved)
            gradient = np.zeros(len(slopes))
            for n, name in enumerate(names):
                at = leaders.get(n, n)
                if at in block.indices and formula.has(symbol(name)):
                    column = block.columns[block.indices.index(at)]
                    gradient[column] += float(formula.diff(symbol(name)).subs(p)) * slopes[column] / factor(d.unit)
            found[d.name] = (float(formula.subs(p)) / factor(d.unit), gradient, d.unit)
        return found

    def _split(self, name: str) -> tuple[str, str]:
        """Region (as in the data) and quantity of a name of the model, such as K1_thalamus."""
        for known in sorted(self.regions, key=len, reverse=True):
            if name.endswith(f"_{known}"):
                return self.regions[known], name.removesuffix(f"_{known}")
        return "", name

    def _separately(self, region: str, quantity: str) -> tuple[float, float]:
        for frame in (self.two_step.table, self.two_step.derived):
            for label in (f"{quantity}[{region}]", quantity):
                if label in frame.index:
                    return float(frame["value"][label]), float(frame["se"][label])
        return np.nan, np.nan

    def input_curve(self, times: ArrayLike, *, whole_blood: bool = False, n: int = 0, seed: int = 0) -> Array:
        """The fitted input, or draws of it.

        Parameters
        ----------
        times : (m,) array, increasing [h]
        whole_blood : that instead of parent tracer in plasma
        n : draws from the joint fit; 0 for the estimate

        Returns
        -------
        (m,) or (n, m) array [kBq/mL]
        """
        x = self.fit.draws_on_scale(n, seed) if n else None
        return self.fit.predict(WHOLE if whole_blood else PLASMA, times, x)

    def __str__(self) -> str:
        tissue = self.table[self.table["region"] != ""]
        lines = [f"{self.fit.model.name}: {self.fit.curves.subject}, {self.fit.points} values"]
        lines += tissue.to_string(index=False, float_format=lambda v: f"{v:.4g}").splitlines()
        known = self.table[self.table["region"] == ""]
        lines += [f"  {r.quantity} = {r.value:.4g} +- {r.se:.2g} {r.unit}" for r in known.itertuples()]
        lines += [
            f"  error of {name}: {100 * size:.3g} %" for name, size in self.sizes.items() if name in (PLASMA, WHOLE)
        ]
        return "\n".join([*lines, *(f"! {w}" for w in self.warnings)])


def fit_with_input(
    model: Model | str,
    curves: Curves,
    protocol: Protocol | str | None = None,
    *,
    kind: Kind = "feng",
    phases: int = 3,
    blood_phases: int = 2,
    blood: Blood = "fitted",
    delay: bool = True,
    dispersion: bool = False,
    image_derived: str = "",
    regions: Sequence[str] | None = None,
    starts: int = 3,
    seed: int = 0,
) -> InputFit:
    """Fit the input function and the tissue of one scan together.

    Parameters
    ----------
    model : a model of one region with the inputs Cp and, or not, Cb (models/pet) [text or Model]
    curves : one scan with tissue, plasma (and its parent fraction) and blood
    protocol : what is free in the tissue, shared between regions, tied; its error model says how the variance of a
        region changes in time, and its size is estimated for each curve
    kind : "feng", Feng's function, or "exponential", a sum of exponentials; either over an infusion of unknown width
    phases, blood_phases : exponentials of the parent in plasma and of whole blood [1]
    blood : whole blood in the tissue is "fitted" with exponentials of its own, "measured" (lines between samples), or
        "none": taken as the parent in plasma
    delay : fit the arrival in the tissue after that at the sampler, one for all regions [bool]
    dispersion : fit the time constant of the way to the sampler [bool]
    image_derived : region that shows blood, such as "carotid": observed as RC times blood, with RC fitted; where no
        plasma was sampled it is the input, with an RC of 1 [text]
    regions : default all of kind tissue
    starts, seed : of the input fit and of the tissue fits before the joint one [1]

    Returns
    -------
    InputFit

    Raises
    ------
    FitError
        There are no samples of plasma, or the model is not of one region.

    Examples
    --------
    >>> import pkmodel as pk
    >>> scan = pk.load_study("ds004869_mc1_brain")["04", "baseline"]
    >>> joint = fit_with_input("two_tissue", scan, regions=["thalamus"])
    >>> print(joint)
    """
    tissue = load_model(model) if isinstance(model, str) else model
    rules = load_protocol(protocol) if isinstance(protocol, str) else protocol or default_protocol(tissue)
    notes: list[str] = []
    dose = curves.injected_activity or 1.0
    if not isinstance(curves, Curves):
        raise FitError(f"a {type(curves).__name__} is not one scan; give Curves, as study[subject, session]")
    if kind not in ("feng", "exponential"):
        raise FitError(f"kind {kind!r} is not known; allowed: feng, exponential")
    if curves.injected_activity is None:
        notes.append("the injected activity is not stated: amplitudes of the input are as if 1 MBq had been given")
    scan = _prepared(curves)
    wanted = [r for r in (regions or scan.organs) if r != image_derived]
    if image_derived and not any(c.kind == "plasma" for c in scan):
        scan, blood = _image_as_plasma(scan, image_derived), "none"
        notes.append(
            f"no plasma was sampled: {image_derived} is taken as plasma and as whole blood, without metabolites and "
            "with all of its activity recovered"
        )
        image_derived = ""
    names = _identifiers([*wanted, *([image_derived] if image_derived else [])])
    samples = _samples(scan, blood)
    shape = first_guess(samples, dose, kind, (phases, blood_phases), blood)
    weighted = {c.region: c.replace(weights=1.0 / _blood_variance(c.value)) for c in samples}
    given = _regimen(dose, delay=False)

    before = driven_model(tissue, [], shape)
    first = replace(scan, curves=tuple(weighted.values()), regimen=given)
    input_only = fit(before, first, _rules("input", before, input_parameters(before), {}, starts, seed))

    two_step = fit(
        tissue,
        scan.select(wanted),
        rules.replace(free={n: f for n, f in rules.free.items() if n not in _delays(tissue)}, starts=starts, seed=seed),
        inputs=_known_input(input_only, tissue, scan, blood),
    )
    shape = replace(shape, delay=delay, dispersion=dispersion, image_derived=names.get(image_derived, ""))
    joint = driven_model(tissue, [names[r] for r in wanted], shape, rules.shared)
    free = _free(joint, tissue, rules, names, wanted, two_step, input_only, shape, dose)
    sizes = {**sizes_of(input_only), **sizes_of(two_step)}
    weighted = {r: c.replace(weights=c.weights / sizes[r] ** 2) for r, c in weighted.items()}
    for r in [*wanted, *([image_derived] if image_derived else [])]:
        c, size = scan[r], sizes.get(r, float(np.median([sizes[w] for w in wanted])))
        variance = variance_of(c, rules.error) * size**2
        weighted[names[r]] = c.replace(region=names[r], weights=np.where(np.isfinite(variance), 1 / variance, 0.0))
    ties = {f"{f}_{names[r]}": f"{lead}_{names[r]}" for f, lead in rules.ties.items() for r in wanted}
    fixed = {(n if n in rules.shared else f"{n}_{names[r]}"): v for n, v in rules.fixed.items() for r in wanted}
    fixed = {n: v for n, v in fixed.items() if n in joint.parameters}
    final = Protocol(
        name=f"{rules.name}_with_input", free=free, fixed=fixed, ties=ties, error=ErrorModel(kind="weights"),
        observation=rules.observation, starts=1, seed=seed,
    )  # fmt: skip
    whole = replace(scan, curves=tuple(weighted.values()), regimen=_regimen(dose, delay=delay))
    inputs = {"Cb": arterial_inputs(scan)["Cb"]} if "Cb" in joint.inputs else None
    result = fit(joint, whole, final, regions=list(whole.regions), inputs=inputs)
    notes += _pulled(sizes_of(result))
    return InputFit(result, input_only, two_step, sizes, {names[r]: r for r in wanted}, tuple(notes))


def _error(covariance: Array, gradient: Array) -> float:
    """Standard error along a gradient; rounding cannot make it imaginary."""
    return float(np.sqrt(np.maximum(gradient @ covariance @ gradient, 0.0)))


def _pulled(after: Mapping[str, float]) -> list[str]:
    """What to say where the joint fit follows the samples worse than the input alone did."""
    return [
        f"{name}: residuals are {100 * (after[name] - 1):.0f} % larger than when the input is fitted alone: the tissue "
        "pulls the input, which points at the tissue model; compare with two_step"
        for name in (PLASMA, WHOLE)
        if after.get(name, 1.0) > PULLED
    ]


def _prepared(curves: Curves) -> Curves:
    made = []
    for c in curves:
        made.append(c if c.kind == "parent_fraction" else c.decay_correct().to_unit(UNIT))
    return replace(curves, curves=tuple(made), covariates={}, covariate_units={})


def _image_as_plasma(scan: Curves, region: str) -> Curves:
    """The region that shows blood as the curve of plasma, frames and all."""
    blood = scan[region].replace(kind="plasma")
    return replace(scan, curves=(blood, *(c for c in scan if c.region != region)))


def _identifiers(names: Sequence[str]) -> dict[str, str]:
    """Names that a model may use: Left-Thalamus is Left_Thalamus there."""
    out = {n: re.sub(r"\W", "_", n) for n in names}
    if len(set(out.values())) < len(out):
        raise FitError(f"regions {', '.join(names)} cannot be told apart by letters and digits alone; rename one")
    return out


def _samples(scan: Curves, blood: Blood) -> list[Curve]:
    """Parent tracer in plasma at the times of its samples, and whole blood."""
    plasma = [c for c in scan if c.kind == "plasma"]
    fraction = [c for c in scan if c.kind == "parent_fraction"]
    whole = [c for c in scan if c.kind == "blood" and not c.framed]
    if len(plasma) != 1:
        raise FitError(f"{scan.subject}: {len(plasma)} curves of plasma; an input is fitted to one")
    if fraction:
        joined = parent_in_plasma(plasma[0], fraction[0])
        found = [made_of(plasma[0], PLASMA, plasma[0].t, np.interp(plasma[0].t, joined.t, joined.value))]
    else:
        found = [plasma[0].replace(region=PLASMA)]
    if blood == "fitted":
        if len(whole) != 1:
            raise FitError(f"{scan.subject}: {len(whole)} curves of sampled blood; say blood='none' or 'measured'")
        found.append(made_of(whole[0], WHOLE, whole[0].t, whole[0].value))
    return found


def _blood_variance(y: Array) -> Array:
    """Up to a scale: proportional to the value, level where it is small."""
    return np.asarray(np.maximum(y, 0.0) ** 2 + (FLOOR * y.max()) ** 2, dtype=float)


def _regimen(dose: float, *, delay: bool) -> Regimen:
    routes = (SAMPLED, TISSUE) if delay else (SAMPLED,)
    return Regimen.of(*(Administration(0.0, activity=dose, into=route) for route in routes))


def _rules(
    name: str, model: Model, free: Sequence[str], starts_at: Mapping[str, float], starts: int, seed: int
) -> Protocol:
    table = {n: Free(start=starts_at.get(n)) for n in free if n != "delay" or n in starts_at}
    return Protocol(name=name, free=table, error=ErrorModel(kind="weights"), starts=starts, seed=seed)


def _delays(tissue: Model) -> set[str]:
    return {i.delay for i in tissue.inputs.values() if i.delay}


def _known_input(input_only: Fit, tissue: Model, scan: Curves, blood: Blood) -> dict[str, Any]:
    """The fitted input on a grid so fine that lines between its points are the curve."""
    last = max(float(c.t_end.max()) for c in scan)
    arrival = input_only.values["arrival"] / 60.0
    early = np.linspace(0.0, min(arrival + 15.0 / 60, last), 900)
    grid = np.unique(np.concatenate([[0.0], early, np.geomspace(max(early[-1], 1e-3), last * 1.001, 300)]))
    sources = {"Cp": PLASMA, "Cb": WHOLE if blood == "fitted" else PLASMA}
    found: dict[str, Any] = {}
    for name in tissue.inputs:
        if name == "Cb" and blood == "measured":
            found[name] = arterial_inputs(scan)["Cb"]
            continue
        found[name] = (grid, input_only.predict(sources[name], grid))
    return found


def _free(
    joint: Model,
    tissue: Model,
    rules: Protocol,
    names: Mapping[str, str],
    wanted: Sequence[str],
    two_step: Fit,
    input_only: Fit,
    shape: Shape,
    dose: float,
) -> dict[str, Free]:
    """Every free parameter of the joint fit, started where the two steps ended."""
    free: dict[str, Free] = {}
    for n in input_parameters(joint):
        if n in input_only.values:
            free[n] = Free(start=_inside(input_only.values[n], 1e-9))
        elif n != "RC" or shape.blood != "none":
            free[n] = Free(start=0.0 if n == "delay" else None)
    for n, f in rules.free.items():
        if n in _delays(tissue):
            continue
        for r in wanted:
            label, target = (n, n) if n in rules.shared else (f"{n}[{r}]", f"{n}_{names[r]}")
            p = tissue.parameters[n]
            low = p.lower if f.lower is None else f.lower
            high = p.upper if f.upper is None else f.upper
            start = float(np.clip(two_step.values[label], low, high))
            free[target] = replace(f, start=_inside(start, 1e-9 if low >= 0 else -np.inf))
    return free


def _inside(start: float, least: float) -> float:
    """A start on the logarithm's side of zero."""
    return max(start, least)


def sizes_of(result: Fit) -> dict[str, float]:
    """Size of each curve's error relative to what its weights say, from its residuals.

    The degrees of freedom of a curve are its points less their leverages, so that a curve which only the input follows
    is not charged for parameters of the tissue.
    """
    found = {}
    for group, optimum in zip(result.groups, result.optima, strict=True):
        leverage = np.sum(np.linalg.qr(optimum.jacobian)[0] ** 2, axis=1)
        at = 0
        for block, variances in zip(group.blocks, group.variances, strict=True):
            for observer, variance in zip(block.observers, variances, strict=True):
                part = slice(at, at := at + int(np.isfinite(variance).sum()))
                residuals = optimum.residuals[part]
                left = max(residuals.size - float(leverage[part].sum()), 1.0)
                found[observer.curve.region] = float(np.sqrt(residuals @ residuals / left))
    return found
