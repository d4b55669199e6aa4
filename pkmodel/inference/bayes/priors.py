"""What is known of a parameter before the data: priors, their words in a protocol, and what stands where none is said.

A protocol says ``[priors]`` with one line per parameter, in the model's declared unit::

    k_uptake  = { kind = "lognormal", median = 0.8, cv = 0.5, source = "doi:..." }
    fraction  = { kind = "uniform", lower = 0, upper = 0.1 }
    additive  = { kind = "halfnormal", sd = 0.05 }          # a size of the noise

Priors are cut off at the parameter's bounds. Where nothing is said, a parameter with a value and a cv in the model gets
the log-normal distribution they describe; one with two finite bounds a wide log-normal about its start (95 % within a
factor of 19) where it is fitted on the logarithmic scale, else the uniform distribution between them; and the result
says so. Any other has no prior, which is an error. A rate bounded by 0 and 100 /h is not uniform between them: that
would say that it exceeds 1 /h with 99 %, and four scans do not outweigh it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import FitError
from ...model import Model
from ...units import factor
from ..noise import Noise
from ..slots import Slot

type Floats = NDArray[np.float64]
Kind = Literal["lognormal", "normal", "halfnormal", "uniform", "beta", "logitnormal"]

WORDS: dict[str, tuple[str, str]] = {
    "lognormal": ("median", "cv"),
    "normal": ("mean", "sd"),
    "halfnormal": ("sd", ""),
    "uniform": ("lower", "upper"),
    "beta": ("alpha", "beta"),
    "logitnormal": ("median", "sd"),
}
WIDE = 1.5  # SD of the logarithm of a number that nobody spoke of: 95 % within a factor of 19
AUXILIARY = (" share", " logit", " log")  # ends of names that are sampled in place of a parameter
_NEGLIGIBLE = 1e-9  # probability beyond a bound that need not be cut off


@dataclass(frozen=True, slots=True)
class Prior:
    """A distribution of one number, in its declared unit.

    Parameters
    ----------
    kind : name of the distribution [text]
    a, b : its two numbers, in the order of `WORDS`; of "lognormal" the median and the cv
    lower, upper : where it is cut off; "beta" and "logitnormal" live between them
    source : where it comes from [text]
    """

    kind: Kind
    a: float
    b: float = 0.0
    lower: float = -math.inf
    upper: float = math.inf
    source: str = ""

    @property
    def spread(self) -> float:
        """SD of the logarithm of a log-normal number."""
        return math.sqrt(math.log1p(self.b**2))

    def __str__(self) -> str:
        numbers = ", ".join(f"{w} {v:.4g}" for w, v in zip(WORDS[self.kind], (self.a, self.b), strict=True) if w)
        return f"{self.kind}({numbers})"

    def _whole(self) -> Any:
        """Without its ends cut off; of the share of the range, or its logit, for those that live on a range."""
        from scipy import stats

        if self.kind == "lognormal":
            return stats.lognorm(self.spread, scale=self.a)
        if self.kind == "normal":
            return stats.norm(self.a, self.b)
        if self.kind == "halfnormal":
            return stats.halfnorm(scale=self.a)
        if self.kind == "uniform":
            return stats.uniform(self.a, self.b - self.a)
        return stats.beta(self.a, self.b) if self.kind == "beta" else stats.norm(self._centre, self.b)

    @property
    def _centre(self) -> float:
        """Logit of the median of a logit-normal number."""
        share = (self.a - self.lower) / (self.upper - self.lower)
        return math.log(share / (1 - share))

    @property
    def _ends(self) -> tuple[float, float]:
        """Probability below the lower and below the upper bound."""
        if self.kind in ("beta", "logitnormal"):
            return 0.0, 1.0
        return float(self._whole().cdf(self.lower)), float(self._whole().cdf(self.upper))

    @property
    def cut(self) -> bool:
        """Whether a bound takes away anything."""
        low, high = self._ends
        return self.kind != "uniform" and (low > _NEGLIGIBLE or 1 - high > _NEGLIGIBLE)

    def quantile(self, u: Any) -> Floats:
        """Values at probabilities u."""
        low, high = self._ends
        q = np.asarray(self._whole().ppf(low + np.asarray(u) * (high - low)), dtype=float)
        if self.kind == "beta":
            return self.lower + (self.upper - self.lower) * q
        if self.kind == "logitnormal":
            return self.lower + (self.upper - self.lower) / (1 + np.exp(-q))
        return q

    def log_density(self, value: Floats) -> Floats:
        """Log density at values; -inf outside the bounds."""
        v = np.asarray(value, dtype=float)
        low, high = self._ends
        with np.errstate(all="ignore"):
            if self.kind in ("beta", "logitnormal"):
                width = self.upper - self.lower
                share = (v - self.lower) / width
                if self.kind == "beta":
                    density = self._whole().logpdf(share) - math.log(width)
                else:
                    slope = np.log(share) + np.log1p(-share) + math.log(width)
                    density = self._whole().logpdf(np.log(share / (1 - share))) - slope
            else:
                density = self._whole().logpdf(v) - math.log(high - low)
        return np.where((v < self.lower) | (v > self.upper) | np.isnan(density), -np.inf, density)

    def variable(self, name: str) -> Any:
        """A random variable of the PyMC model that is being built, in the declared unit."""
        import pymc as pm

        if self.kind == "uniform":
            return pm.Uniform(name, max(self.a, self.lower), min(self.b, self.upper))
        if self.kind in ("beta", "logitnormal"):
            if self.kind == "beta":
                share = pm.Beta(f"{name} share", self.a, self.b)
            else:
                share = pm.math.sigmoid(pm.Normal(f"{name} logit", self._centre, self.b))
            return pm.Deterministic(name, self.lower + (self.upper - self.lower) * share)
        if not self.cut:
            if self.kind == "lognormal":
                return pm.LogNormal(name, math.log(self.a), self.spread)
            if self.kind == "normal":
                return pm.Normal(name, self.a, self.b)
            return pm.HalfNormal(name, self.a)
        # PyMC's Truncated with one bound walks below zero, where a log-normal density has no slope
        if self.kind == "lognormal":
            inside = [math.log(v) if 0 < v < math.inf else None for v in (self.lower, self.upper)]
            log = pm.TruncatedNormal(f"{name} log", math.log(self.a), self.spread, lower=inside[0], upper=inside[1])
            return pm.Deterministic(name, pm.math.exp(log))
        centre, sd, least = (
            (self.a, self.b, self.lower) if self.kind == "normal" else (0.0, self.a, max(self.lower, 0.0))
        )
        ends = [v if math.isfinite(v) else None for v in (least, self.upper)]
        return pm.TruncatedNormal(name, centre, sd, lower=ends[0], upper=ends[1])


def prior_from_dict(raw: Any, who: str) -> Prior:
    """A prior in the words of a protocol.

    Parameters
    ----------
    raw : a table such as ``{ kind = "lognormal", median = 0.8, cv = 0.5 }``, or a Prior
    who : how messages name it [text]

    Raises
    ------
    FitError
        A word is unknown or missing, or a number makes no sense.
    """
    if isinstance(raw, Prior):
        return raw
    if not isinstance(raw, Mapping) or raw.get("kind") not in WORDS:
        raise FitError(
            f"{who}: found {raw!r}; expected a table such as {{ kind = 'lognormal', median = 1, cv = 0.5 }}; kinds: "
            f"{', '.join(WORDS)}"
        )
    kind = raw["kind"]
    words = [w for w in WORDS[kind] if w]
    if unknown := sorted(set(raw) - {"kind", "source", *words}):
        raise FitError(f"{who}: {', '.join(unknown)}: not known for a {kind} prior; allowed: {', '.join(words)}")
    numbers: list[float] = []
    for word in words:
        v = raw.get(word)
        if isinstance(v, bool) or not isinstance(v, int | float) or not math.isfinite(v):
            raise FitError(f"{who}: {word} = {v!r} must be a finite number")
        if (word in ("cv", "sd", "alpha", "beta") and v <= 0) or (word == "median" and kind == "lognormal" and v <= 0):
            raise FitError(f"{who}: {word} = {v!r} must be above zero")
        numbers.append(float(v))
    if kind == "uniform" and not numbers[0] < numbers[1]:
        raise FitError(f"{who}: lower {numbers[0]:g} must lie below upper {numbers[1]:g}")
    return Prior(kind, numbers[0], numbers[1] if len(numbers) > 1 else 0.0, source=str(raw.get("source", "")))


def priors_of(model: Model, slots: tuple[Slot, ...], given: Mapping[str, Any]) -> tuple[dict[str, Prior], list[str]]:
    """The prior of every free parameter by label, and what was taken without being said.

    Parameters
    ----------
    model : whose parameters
    slots : the free ones
    given : by label (``k_uptake[liver]``) or by parameter, for all its regions

    Raises
    ------
    FitError
        A parameter has no prior and no bounds that could make one.
    """
    found: dict[str, Prior] = {}
    notes: list[str] = []
    for slot in slots:
        unit = factor(slot.unit)
        lower, upper = slot.lower / unit, slot.upper / unit
        raw = given.get(slot.label, given.get(slot.parameter))
        if raw is not None:
            prior = prior_from_dict(raw, f"prior of {slot.label}")
        else:
            prior = _default(model, slot, lower, upper)
            note = f"prior of {slot.parameter}: {prior} {slot.unit}, {prior.source}"
            notes += [note] if note not in notes else []
        found[slot.label] = _bounded(prior, slot.label, lower, upper)
    return found, notes


def _default(model: Model, slot: Slot, lower: float, upper: float) -> Prior:
    p = model.parameters[slot.parameter]
    if p.value is not None and p.cv and p.value > 0 and lower >= 0:
        return Prior("lognormal", p.value, p.cv, source=f"value and cv of {model.name} ({p.source or 'no source'})")
    if p.value is not None and p.cv:
        return Prior("normal", p.value, p.cv * abs(p.value), source=f"value and cv of {model.name}")
    if math.isfinite(lower) and math.isfinite(upper):
        if slot.transform == "log":
            start = slot.start / factor(slot.unit)
            return Prior(
                "lognormal",
                start,
                math.sqrt(math.expm1(WIDE**2)),
                source="wide about its start: 95 % within a factor of 19, since nothing else is said",
            )
        return Prior("uniform", lower, upper, source="between its bounds, since nothing else is said")
    raise FitError(
        f"{model.name}: no prior for {slot.label}, which is not bounded ({lower:g} to {upper:g} {slot.unit}); say one: "
        f"priors = {{ {slot.parameter} = {{ kind = 'lognormal', median = ..., cv = ... }} }}"
    )


def _bounded(prior: Prior, label: str, lower: float, upper: float) -> Prior:
    """The same, cut off at the parameter's bounds."""
    if prior.kind in ("beta", "logitnormal") and not (math.isfinite(lower) and math.isfinite(upper)):
        raise FitError(f"prior of {label}: {prior.kind} needs two finite bounds, found {lower:g} to {upper:g}")
    if prior.kind == "uniform":
        lower, upper = max(lower, prior.a), min(upper, prior.b)
        if not lower < upper:
            raise FitError(f"prior of {label}: {prior} lies outside the bounds of the parameter")
        return Prior("uniform", lower, upper, lower, upper, prior.source)
    bounded = Prior(prior.kind, prior.a, prior.b, lower, upper, prior.source)
    if prior.kind == "logitnormal" and not lower < prior.a < upper:
        raise FitError(f"prior of {label}: median {prior.a:g} must lie between {lower:g} and {upper:g}")
    low, high = bounded._ends
    if high - low < _NEGLIGIBLE:
        raise FitError(f"prior of {label}: {prior} has nothing between the bounds {lower:g} and {upper:g}")
    return bounded


def noise_priors_of(noise: Noise, given: Mapping[str, Any]) -> tuple[dict[str, Prior], list[str]]:
    """The prior of every free size of the noise by name, and what was taken without being said.

    Parameters
    ----------
    noise : of all endpoints
    given : by name (``additive[liver]``) or by word, for all endpoints
    """
    found: dict[str, Prior] = {}
    notes = []
    for k in noise.free:
        size = noise.sizes[k]
        raw = given.get(size.name, given.get(size.name.split("[")[0]))
        if raw is not None:
            prior = prior_from_dict(raw, f"prior of {size.name}")
        else:
            cv = math.sqrt(math.expm1(WIDE**2))
            prior = Prior("lognormal", size.start, cv, source="wide, about a tenth of the values")
            notes.append(f"prior of {size.name}: log-normal about {size.start:.3g}, 95 % within a factor of 19")
        found[size.name] = _bounded(prior, size.name, 0.0, math.inf)
    return found, notes


def check_names(given: Mapping[str, Any], slots: tuple[Slot, ...], noise: Noise) -> None:
    """Refuse a prior of what is not free.

    Raises
    ------
    FitError
        A name belongs to no free parameter and to no size of the noise.
    """
    known = {s.label for s in slots} | {s.parameter for s in slots}
    known |= set(noise.names) | {n.split("[")[0] for n in noise.names}
    if unknown := sorted(set(given) - known):
        raise FitError(f"prior of {', '.join(unknown)}: not free in this fit; free: {', '.join(sorted(known))}")
