"""Fit an input function to samples: times and rates searched, amplitudes solved for, then all refined together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError
from ..formats.curve import Curve
from .exponentials import ExponentialSum
from .fitted import summarise
from .input_functions import AMPLITUDES, FAMILIES, MEANING, RATES, InputFit, made, parameter_names, units_of
from .measured import Seen, see
from .minimum import minimise
from .result import Estimate

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = NDArray[np.float64]
_FASTEST = 100.0  # [1/min], a half-life of 0.4 s
_STARTS = 5
_LATE = 0.1  # of the time measured: from here on it is the tail


def fit_input(
    samples: Curve,
    family: str = "feng",
    *,
    fixed: Mapping[str, float] | None = None,
    variance: str | ArrayLike = "poisson",
) -> InputFit:
    """Fit an input function to blood or plasma samples, or to the frames of an image-derived input.

    Parameters
    ----------
    samples : plasma, parent plasma or blood; corrected for decay first where it is not
    family : one of `pkmodel.pet.input_functions.FAMILIES` [text]
    fixed : parameters held at a value, such as {"duration": 0.5} for an infusion of 30 s [min, 1/min or unit]
    variance : of the samples (see `pkmodel.pet.variance.variance_of`); the default keeps the many samples around the
        peak from deciding alone [text or unit^2]

    Raises
    ------
    FitError
        The family or a fixed parameter is unknown, or there are too few samples.
    DataError
        The samples cannot be used.
    """
    names, held = parameter_names(family), dict(fixed or {})
    if unknown := sorted(set(held) - set(names)):
        raise FitError(f"{family}: {', '.join(unknown)} cannot be fixed; parameters: {', '.join(names)}")
    seen = see(samples, variance=variance)
    free = np.array([n not in held for n in names])
    counts = np.isfinite(seen.variance)
    if counts.sum() < free.sum():
        raise FitError(f"{samples.who}: {counts.sum()} samples count for {free.sum()} free parameters of {family}")
    if not seen.value.max() > 0:
        raise FitError(f"{samples.who}: no sample is above zero")
    root = np.where(counts, 1 / np.sqrt(np.where(counts, seen.variance, 1.0)), 0.0)
    search = _Search(family, seen, root, held)
    start = search.best()

    # t0 on its own scale, everything else as its logarithm
    is_log = np.array([n != "t0" for n in names])
    begin = np.array([start[n] for n in names])
    tiny = 1e-6 * max(start[n] for n in AMPLITUDES)
    x0 = np.where(is_log, np.log(np.maximum(begin, max(tiny, 1e-300))), begin)[free]

    def natural(x: Array) -> Array:
        full = begin.copy()
        full[free] = np.where(is_log[free], np.exp(np.where(is_log[free], x, 0.0)), x)
        return full

    def remake(values: Array) -> ExponentialSum:
        return made(family, dict(zip(names, values.tolist(), strict=True)))

    low = np.where(is_log[free], -40.0, search.earliest)
    top = np.array([np.log(_FASTEST) if n in RATES else 40.0 for n in names])[free]
    high = np.where(is_log[free], top, search.latest)
    found = minimise(
        lambda x: (seen_by(seen, remake(natural(x))) - seen.value) * root, x0, low=low, high=high, most=100
    )
    values = natural(found.x)
    function = remake(values)
    predicted = seen_by(seen, function)
    jacobian = found.jacobian[counts] / np.where(is_log[free], values[free], 1.0)
    residual = ((predicted - seen.value) * root)[counts]
    se, covariance, warnings = summarise(names, values, jacobian, residual, free)
    units = units_of(samples.unit, family)
    note, doubt = _judged(seen, predicted, function)
    return InputFit(
        what="input function", family=family,
        estimates=tuple(
            Estimate(n, float(v), float(e), units[n], MEANING[n]) for n, v, e in zip(names, values, se, strict=True)
        ),
        covariance=covariance, samples=seen.curve, predicted=predicted, variance=seen.variance, function=function,
        remake=remake, reference=FAMILIES[family].reference, notes=(*seen.notes, note), warnings=(*warnings, *doubt),
        end=float(seen.end[-1]),
    )  # fmt: skip


def seen_by(seen: Seen, curve: ExponentialSum) -> Array:
    """What samples or frames show of a function, (n,)."""
    if seen.mode == "midpoint":
        return curve(seen.t)
    return curve.mean(seen.start, seen.end)


def _judged(seen: Seen, predicted: Array, function: ExponentialSum) -> tuple[str, list[str]]:
    """Areas of samples and function side by side, and whether the tail is missed: VT and Ki hang on both."""
    end = float(seen.end[-1])
    area, fitted = float(seen.signal().integral(end)), float(function.integral()(end))
    more = 100 * (fitted / area - 1) if area else float("nan")
    note = f"area to {end:.4g} min: samples {area:.4g}, function {fitted:.4g} ({more:+.1f} %)"
    late = (seen.t > _LATE * end) & (seen.value > 0)
    miss = 100 * float(np.mean(predicted[late] / seen.value[late] - 1)) if late.sum() >= 3 else 0.0
    if abs(miss) < 10 and abs(more) < 5:
        return note, []
    where = (
        f"the function misses the samples after {_LATE * end:.3g} min by {miss:+.0f} % and their area by {more:+.1f} %"
    )
    return note, [f"{where}; try another family or variance, or use the samples"]


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """Times and rates of lowest misfit, with the best amplitudes at or above zero for each (variable projection)."""

    family: str
    seen: Seen
    root: Array
    held: Mapping[str, float]

    @property
    def earliest(self) -> float:
        return min(-1.0, float(self.seen.start[0]) - 1.0)

    @property
    def latest(self) -> float:
        return max(float(self.seen.t[int(np.argmax(self.seen.value))]), 1e-3)

    def amplitudes(self, v: Mapping[str, float]) -> tuple[dict[str, float], Array]:
        """Amplitudes and weighted residuals for times and rates."""
        from scipy.optimize import nnls

        extra = FAMILIES[self.family].extra
        shapes = FAMILIES[self.family].shapes(v["t0"], *(v[r] for r in RATES), *([v[extra]] if extra else []))
        columns = {n: seen_by(self.seen, s) * self.root for n, s in zip(AMPLITUDES, shapes, strict=True)}
        target = self.seen.value * self.root
        for n in AMPLITUDES:
            target = target - (self.held[n] * columns[n] if n in self.held else 0.0)
        loose = [n for n in AMPLITUDES if n not in self.held]
        out = {n: float(self.held[n]) for n in AMPLITUDES if n in self.held}
        if not loose:
            return out, target
        matrix = np.column_stack([columns[n] for n in loose])
        if not np.all(np.isfinite(matrix)):
            return out | dict.fromkeys(loose, 0.0), target
        found, _ = nnls(matrix, target)
        return out | dict(zip(loose, found.tolist(), strict=True)), target - matrix @ found

    def best(self) -> dict[str, float]:
        """Parameters to refine: all of them, by name."""
        names = [n for n in parameter_names(self.family) if n not in AMPLITUDES]
        loose = [n for n in names if n not in self.held]
        is_log = np.array([n != "t0" for n in loose])

        def of(x: Array) -> dict[str, float]:
            given = dict(zip(loose, np.where(is_log, np.exp(np.where(is_log, x, 0.0)), x).tolist(), strict=True))
            return {n: float(self.held[n]) if n in self.held else given[n] for n in names}

        chosen: list[tuple[float, dict[str, float]]] = []
        low = np.where(is_log, np.log(1e-5), self.earliest)
        high = np.where(is_log, np.log(_FASTEST), self.latest)
        for v in self._grid(names):
            if not loose:
                chosen.append((0.0, v))
                continue
            x0 = np.array([np.log(v[n]) if n != "t0" else v[n] for n in loose])
            found = minimise(lambda x: self.amplitudes(of(x))[1], x0, low=low, high=high, most=60, coarse=True)
            chosen.append((found.cost, of(found.x)))
        # Feng's alpha is the fastest rate; a solution with beta above it may fit the peak but has no tail left
        ordered = [pair for pair in chosen if max(pair[1]["beta"], pair[1]["gamma"]) < pair[1]["alpha"]]
        v = min(ordered if ordered and "feng" in self.family else chosen, key=lambda pair: pair[0])[1]
        v = v | self.amplitudes(v)[0]
        order = [(a, r) for a, r in zip(AMPLITUDES, RATES, strict=True) if a != "A" or "feng" not in self.family]
        if not {n for pair in order for n in pair} & set(self.held):  # exchangeable: the last one is the slowest
            ranked = sorted(((v[r], v[a]) for a, r in order), reverse=True)
            for (a, r), (rate, amplitude) in zip(order, ranked, strict=True):
                v |= {a: amplitude, r: rate}
        return v

    def _grid(self, names: list[str]) -> list[dict[str, float]]:
        """The best point for each pair of first and last rate, best first."""
        t, y = self.seen.t, self.seen.value
        peak = int(np.argmax(y))
        first = int(np.argmax(y > 0.05 * y[peak]))
        before = float(t[first - 1]) if first else 0.0
        rise = max(float(t[peak]) - before, 0.05)
        grid: dict[str, list[float]] = {
            "t0": [before, 0.5 * (before + float(t[first])), 0.8 * float(t[peak])],
            "rise": [rise, 0.5 * rise],
            "duration": [rise, 0.5 * rise],
            "alpha": [0.7, 3.0, 10.0],
            "beta": [0.05, 0.3],
            "gamma": [0.003, 0.015],
        }
        best: dict[tuple[float, float], tuple[float, dict[str, float]]] = {}
        for values in product(*([float(self.held[n])] if n in self.held else grid[n] for n in names)):
            v = dict(zip(names, values, strict=True))
            miss = float(np.sum(self.amplitudes(v)[1] ** 2))
            key = v["alpha"], v["gamma"]
            if key not in best or miss < best[key][0]:
                best[key] = miss, v
        return [v for _, v in sorted(best.values(), key=lambda pair: pair[0])[:_STARTS]]
