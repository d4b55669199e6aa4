"""Input functions as formulas: Feng's, exponentials with a linear rise, and infusions of either, fitted to samples.

With u = t - t0, all zero before t0 and linear in their amplitudes A, B, C:

* ``feng``: ``(A u - B - C) exp(-alpha u) + B exp(-beta u) + C exp(-gamma u)`` (doi:10.1016/0020-7101(93)90049-C, model
  2; known from its wide use, not read here)
* ``tri_exponential``: a straight line from zero at t0 to A + B + C at t0 + rise, then
  ``A exp(-alpha v) + B exp(-beta v) + C exp(-gamma v)``, v = u - rise
* ``feng_infusion`` and ``tri_exponential_infusion``: Feng's function, or three exponentials without rise, as the
  response to a bolus, averaged over an infusion of constant rate

All are `ExponentialSum`, so values, integrals to any time and to infinity, frame averages, dispersion and tissue
responses are exact. As formulas of t they may stand in a model's own text (`InputFit.formula`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError, did_you_mean
from ..formats.curve import Curve
from ..inputs import InputCurve
from ..units import factor
from .exponentials import ExponentialSum, Term
from .fitted import Fitted
from .measured import MINUTES

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = NDArray[np.float64]
Shapes = tuple[ExponentialSum, ExponentialSum, ExponentialSum]
AMPLITUDES = ("A", "B", "C")
RATES = ("alpha", "beta", "gamma")
_U = "max(t - t0, 0)"
MEANING = {
    "t0": "arrival",
    "rise": "time from arrival to peak",
    "duration": "length of the infusion",
    **{n: "amplitude" for n in AMPLITUDES},
    **{n: "rate" for n in RATES},
}


def _feng(t0: float, alpha: float, beta: float, gamma: float) -> Shapes:
    fast: Term = (t0, -1.0, 0, alpha)
    return (
        ExponentialSum.of([(t0, 1.0, 1, alpha)]),
        ExponentialSum.of([(t0, 1.0, 0, beta), fast]),
        ExponentialSum.of([(t0, 1.0, 0, gamma), fast]),
    )


def _rising(t0: float, rise: float, rate: float) -> ExponentialSum:
    peak = t0 + rise
    return ExponentialSum.of(
        [(t0, 1 / rise, 1, 0.0), (peak, -1 / rise, 1, 0.0), (peak, -1.0, 0, 0.0), (peak, 1.0, 0, rate)]
    )


def _tri(t0: float, alpha: float, beta: float, gamma: float, rise: float) -> Shapes:
    return _rising(t0, rise, alpha), _rising(t0, rise, beta), _rising(t0, rise, gamma)


def _feng_infusion(t0: float, alpha: float, beta: float, gamma: float, duration: float) -> Shapes:
    a, b, c = _feng(t0, alpha, beta, gamma)
    return a.infused(duration), b.infused(duration), c.infused(duration)


def _tri_infusion(t0: float, alpha: float, beta: float, gamma: float, duration: float) -> Shapes:
    a, b, c = (ExponentialSum.of([(t0, 1.0, 0, r)]).infused(duration) for r in (alpha, beta, gamma))
    return a, b, c


def _feng_integral(u: str) -> str:
    return (
        f"((A - alpha*(B + C))/alpha**2*(1 - exp(-alpha*{u})) - A/alpha*{u}*exp(-alpha*{u})"
        f" + B/beta*(1 - exp(-beta*{u})) + C/gamma*(1 - exp(-gamma*{u})))"
    )


def _tri_integral(u: str) -> str:
    terms = (f"{a}/{r}*(1 - exp(-{r}*{u}))" for a, r in zip(AMPLITUDES, RATES, strict=True))
    return f"({' + '.join(terms)})"


_V, _W = "max(t - t0 - rise, 0)", "max(t - t0 - duration, 0)"


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of input function: its extra parameter, its three shapes, and its formula of t."""

    extra: str  # name of a time of its own, or ""
    shapes: Callable[..., Shapes]
    formula: str
    reference: str


FAMILIES: dict[str, Family] = {
    "feng": Family(
        "",
        _feng,
        f"where(t > t0, (A*{_U} - B - C)*exp(-alpha*{_U}) + B*exp(-beta*{_U}) + C*exp(-gamma*{_U}), 0)",
        "Feng 1993, doi:10.1016/0020-7101(93)90049-C",
    ),
    "tri_exponential": Family(
        "rise",
        _tri,
        f"where(t > t0 + rise, A*exp(-alpha*{_V}) + B*exp(-beta*{_V}) + C*exp(-gamma*{_V}), (A + B + C)*{_U}/rise)",
        "three exponentials after a straight rise",
    ),
    "feng_infusion": Family(
        "duration",
        _feng_infusion,
        f"({_feng_integral(_U)} - {_feng_integral(_W)})/duration",
        "Feng 1993, doi:10.1016/0020-7101(93)90049-C, averaged over the infusion",
    ),
    "tri_exponential_infusion": Family(
        "duration",
        _tri_infusion,
        f"({_tri_integral(_U)} - {_tri_integral(_W)})/duration",
        "three exponentials, averaged over the infusion",
    ),
}


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise FitError(f"input function {name!r}{did_you_mean(name, FAMILIES)}; known: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def parameter_names(family: str) -> list[str]:
    """Parameters of a family, in order."""
    one = _family(family)
    return ["t0", *([one.extra] if one.extra else []), *AMPLITUDES, *RATES]


def input_function(family: str, values: Mapping[str, float]) -> ExponentialSum:
    """An input function from its parameters.

    Parameters
    ----------
    family : one of `FAMILIES` [text]
    values : every parameter by name [min, unit or unit/min, 1/min]

    Raises
    ------
    FitError
        The family is unknown, a parameter is missing or unknown, or a rate or time is not above zero.
    """
    names = parameter_names(family)
    if set(values) != set(names):
        raise FitError(f"{family}: parameters {', '.join(values)}; needed: {', '.join(names)}")
    bad = [n for n in (*RATES, _family(family).extra) if n and not values[n] > 0]
    if bad:
        raise FitError(f"{family}: {', '.join(f'{n}={values[n]!r}' for n in bad)}; allowed: above zero")
    return made(family, dict(values))


def made(family: str, v: Mapping[str, float]) -> ExponentialSum:
    one = FAMILIES[family]
    more = [v[one.extra]] if one.extra else []
    shapes = one.shapes(v["t0"], *(v[r] for r in RATES), *more)
    out = ExponentialSum.of([])
    for shape, name in zip(shapes, AMPLITUDES, strict=True):
        out = out + shape.scaled(v[name])
    return out


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class InputFit(Fitted):
    """A fitted input function, exact in value, integral and convolution (`function` is an `ExponentialSum`)."""

    end: float  # last time measured [min]

    @property
    def sum(self) -> ExponentialSum:
        """The function itself."""
        assert isinstance(self.function, ExponentialSum)
        return self.function

    def integral(self, t: ArrayLike) -> Array:
        """Integral from the beginning to t, (n,) [unit min]."""
        return self.sum.integral()(t)

    def total(self) -> float:
        """Integral to infinity [unit min]."""
        return self.sum.total()

    def mean(self, start: ArrayLike, end: ArrayLike) -> Array:
        """Averages over frames, (n,) [unit]."""
        return self.sum.mean(start, end)

    def curve(self, times: ArrayLike | None = None) -> Curve:
        """The function as a Curve of samples.

        Parameters
        ----------
        times : (n,) array; default: so dense that lines between them miss the function by about 1e-5 [min]
        """
        t = self._knots() if times is None else np.asarray(times, dtype=float)
        nothing = np.full(t.size, np.nan)
        return self.samples.replace(
            t_start=t / MINUTES, t_end=t / MINUTES, value=self(t), sd=nothing, weights=nothing,
            n=np.ones(t.size, dtype=np.int64), volume=nothing, rows=(), censored=np.zeros(t.size, dtype=np.int8),
        )  # fmt: skip

    def input_curve(self, end: float | None = None) -> InputCurve:
        """The function as an input of a model, decay-corrected, until `end` [min]."""
        t = self._knots(end)
        return InputCurve(t / MINUTES, self(t) * factor(self.samples.unit))

    def formula(self) -> tuple[str, dict[str, tuple[float, str]]]:
        """Formula of t for a model's text, and its parameters with their units."""
        return FAMILIES[self.family].formula, {e.name: (e.value, e.unit) for e in self.estimates}

    def _knots(self, end: float | None = None) -> Array:
        last = self.end if end is None else float(end)
        breaks = np.unique(self.sum.start)
        out = [np.array([min(0.0, breaks[0])]), breaks]
        for b in breaks:
            out.append(b + np.geomspace(1e-4, max(last - b, 1e-3), 700))
        t = np.unique(np.concatenate(out))
        return np.asarray(t[(t >= min(0.0, breaks[0])) & (t <= max(last, breaks[-1]))], dtype=float)


def units_of(unit: str, family: str) -> dict[str, str]:
    """Unit of every parameter for samples in `unit`."""
    out = dict.fromkeys(("t0", "rise", "duration"), "min") | dict.fromkeys(AMPLITUDES, unit)
    out |= dict.fromkeys(RATES, "1/min")
    return out | ({"A": f"{unit}/min"} if family.startswith("feng") else {})
