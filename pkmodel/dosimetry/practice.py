"""The integrals of daily practice, as named functions, to compare with the integral of a fitted model.

All take activities as measured (NOT decay-corrected) and return a `PracticeTIA`. None of them is used for doses by
default: on the one real patient shipped here they are off by up to half (tests/published/test_single_time_point.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import DoseError
from ..nuclides import nuclide as find_nuclide

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

LN2 = float(np.log(2.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class PracticeTIA:
    """A time-integrated activity [MBq h], with the method, its effective half-life [h] and the part extrapolated."""

    value: float
    method: str
    effective_half_life: float = float("nan")
    extrapolated_fraction: float = float("nan")
    source: str = ""
    warnings: tuple[str, ...] = ()

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        tail = "" if np.isnan(self.extrapolated_fraction) else f", {self.extrapolated_fraction:.0%} extrapolated"
        text = f"{self.value:.6g} MBq h ({self.method}{tail})"
        return text + "".join(f"\n! {x}" for x in self.warnings)


def _physical_rate(nuclide: str | float) -> float:
    """Decay constant [1/h] from a nuclide's name or a physical half-life [h]."""
    if isinstance(nuclide, str):
        return find_nuclide(nuclide).decay_constant
    if not (np.isfinite(nuclide) and nuclide > 0):
        raise DoseError(
            f"physical half-life {nuclide!r} h; give a nuclide such as 'Lu-177' or a positive half-life [h]"
        )
    return LN2 / float(nuclide)


def _series(t: npt.ArrayLike, activity: npt.ArrayLike, at_least: int, who: str) -> tuple[Floats, Floats]:
    times, values = np.atleast_1d(np.asarray(t, dtype=float)), np.atleast_1d(np.asarray(activity, dtype=float))
    if times.shape != values.shape or times.ndim != 1 or times.size < at_least:
        raise DoseError(
            f"{who}: found {times.size} times and {values.size} activities; needed: the same number, {at_least} or more"
        )
    if not np.all(np.isfinite(times)) or times[0] < 0 or np.any(np.diff(times) <= 0):
        raise DoseError(f"{who}: times must be finite, not negative and increasing [h]; found {times.tolist()}")
    if not np.all(np.isfinite(values)) or np.any(values < 0):
        raise DoseError(f"{who}: activities must be finite and not negative [MBq]; found {values.tolist()}")
    return times, values


def _one(t: float, activity: float, who: str) -> tuple[float, float]:
    times, values = _series(t, activity, 1, who)
    if times.size != 1 or times[0] <= 0:
        raise DoseError(f"{who}: needed: one measurement at a time above 0 h; found t = {times.tolist()}")
    return float(times[0]), float(values[0])


def trapezoid(
    t: npt.ArrayLike,
    activity: npt.ArrayLike,
    nuclide: str | float,
    *,
    start: Literal["linear", "constant", "decay"] = "linear",
    tail: Literal["physical", "effective"] = "physical",
) -> PracticeTIA:
    """Straight lines between measurements, and an exponential after the last.

    Parameters
    ----------
    t : (n,) array, increasing, n >= 2 [h]
    activity : (n,) array, not decay-corrected [MBq]
    nuclide : name, or physical half-life [h]
    start : from time zero to the first point: ``"linear"`` a line from zero, ``"constant"`` the first value,
        ``"decay"`` the first value extrapolated back with physical decay [text]
    tail : after the last point: ``"physical"`` decay only, ``"effective"`` the rate of the last two points, never
        slower than physical decay [text]

    Raises
    ------
    DoseError
        The measurements or an option cannot be used.
    """
    times, values = _series(t, activity, 2, "trapezoid")
    physical = _physical_rate(nuclide)
    starts = {
        "linear": values[0] * times[0] / 2.0,
        "constant": values[0] * times[0],
        "decay": values[0] * np.expm1(physical * times[0]) / physical,
    }
    if start not in starts:
        raise DoseError(f"trapezoid: start {start!r}; allowed: {', '.join(starts)}")
    warnings: list[str] = []
    if tail == "physical":
        rate = physical
    elif tail == "effective":
        if values[-1] <= 0 or values[-2] <= 0:
            raise DoseError(
                "trapezoid: an effective tail needs two positive activities at the end; use tail='physical'"
            )
        rate = float(np.log(values[-2] / values[-1]) / (times[-1] - times[-2]))
        if rate < physical:
            warnings.append("the last two points fall more slowly than physical decay; physical decay was used")
            rate = physical
    else:
        raise DoseError(f"trapezoid: tail {tail!r}; allowed: physical, effective")
    after = values[-1] / rate
    total = float(starts[start] + np.trapezoid(values, times) + after)
    fraction = float(after / total) if total > 0 else 0.0
    if fraction > 0.2:
        warnings.append(f"{fraction:.0%} of the integral lies after the last measurement")
    return PracticeTIA(
        value=total,
        method=f"trapezoid, {start} start, {tail} tail",
        effective_half_life=LN2 / rate,
        extrapolated_fraction=fraction,
        warnings=tuple(warnings),
    )


def mono_exponential(
    t: npt.ArrayLike,
    activity: npt.ArrayLike,
    nuclide: str | float,
    *,
    method: Literal["log_linear", "least_squares"] = "log_linear",
) -> PracticeTIA:
    """One exponential from time zero, fitted to all points.

    Parameters
    ----------
    t : (n,) array, increasing, n >= 2 [h]
    activity : (n,) array, positive, not decay-corrected [MBq]
    nuclide : name, or physical half-life [h]
    method : ``"log_linear"`` a line through the logarithms (equal relative errors), or ``"least_squares"`` on the
        activities (equal absolute errors) [text]

    Raises
    ------
    DoseError
        The measurements cannot be used, or fall more slowly than physical decay.
    """
    times, values = _series(t, activity, 2, "mono_exponential")
    if np.any(values <= 0):
        raise DoseError(f"mono_exponential: activities must be positive [MBq]; found {values.tolist()}")
    if method not in ("log_linear", "least_squares"):
        raise DoseError(f"mono_exponential: method {method!r}; allowed: log_linear, least_squares")
    slope, intercept = np.polyfit(times, np.log(values), 1)
    amplitude, rate = float(np.exp(intercept)), float(-slope)
    if method == "least_squares":
        from scipy.optimize import least_squares

        start = np.array([intercept, np.log(max(rate, 1e-6))])  # logarithms keep both positive

        def residuals(q: Floats) -> Floats:
            return np.asarray(np.exp(q[0] - np.exp(q[1]) * times) - values)

        fit = least_squares(residuals, start, xtol=1e-13, ftol=1e-13, gtol=1e-13)
        amplitude, rate = float(np.exp(fit.x[0])), float(np.exp(fit.x[1]))
    physical = _physical_rate(nuclide)
    if rate < physical * (1.0 - 1e-9):
        found = f"effective half-life {LN2 / rate:.4g} h" if rate > 0 else "an activity that does not fall"
        raise DoseError(
            f"mono_exponential: found {found}; allowed: at most the physical half-life {LN2 / physical:.4g} h. "
            "Check the decay-correction flag, or fit a model with uptake"
        )
    total = amplitude / rate
    return PracticeTIA(
        value=total,
        method=f"mono-exponential, {method.replace('_', ' ')}",
        effective_half_life=LN2 / rate,
        extrapolated_fraction=float(np.exp(-rate * times[-1])),
    )


def haenscheid(t: float, activity: float) -> PracticeTIA:
    """Single time point of Haenscheid: ``TIA = A(t) 2 t / ln 2``, no half-life needed.

    Within 10 % of a mono-exponential where t lies between 0.75 and 2.5 effective half-lives.
    Source: Haenscheid et al. 2018, J Nucl Med 59:75, doi:10.2967/jnumed.117.193706.

    Parameters
    ----------
    t : time of the measurement [h]
    activity : activity then, not decay-corrected [MBq]

    Raises
    ------
    DoseError
        Not one positive time with an activity that is not negative.
    """
    time, value = _one(t, activity, "haenscheid")
    return PracticeTIA(
        value=value * 2.0 * time / LN2,
        method=f"Haenscheid, one point at {time:.4g} h",
        source="doi:10.2967/jnumed.117.193706",
    )


def known_half_life(t: float, activity: float, effective_half_life: float, nuclide: str | float) -> PracticeTIA:
    """Single time point with a known effective half-life: ``TIA = A(t) exp(k t) / k``, ``k = ln 2 / T_eff``.

    Exact for a mono-exponential with that half-life, which may be the patient's own from an earlier cycle or a
    population's (`madsen`).

    Parameters
    ----------
    t : time of the measurement [h]
    activity : activity then, not decay-corrected [MBq]
    effective_half_life : at most the physical half-life [h]
    nuclide : name, or physical half-life [h]

    Raises
    ------
    DoseError
        The half-life is not positive, or above the physical one.
    """
    time, value = _one(t, activity, "known_half_life")
    physical = LN2 / _physical_rate(nuclide)
    if not 0 < effective_half_life <= physical * (1.0 + 1e-9):
        raise DoseError(
            f"effective half-life {effective_half_life:g} h; allowed: above 0 and at most the physical half-life "
            f"{physical:.6g} h. Was a biological half-life given?"
        )
    rate = LN2 / effective_half_life
    return PracticeTIA(
        value=float(value * np.exp(rate * time) / rate),
        method=f"one point at {time:.4g} h, effective half-life {effective_half_life:.4g} h",
        effective_half_life=effective_half_life,
        extrapolated_fraction=float(np.exp(-rate * time)),
    )


def madsen(t: float, activity: float, prior_half_life: float, nuclide: str | float) -> PracticeTIA:
    """Single time point of Madsen: ``TIA = A(t) exp(k t) / k`` with k from a population's mean effective half-life.

    The error from a wrong k is smallest near ``t = 1/k``.
    Source: Madsen et al. 2018, Med Phys, doi:10.1002/mp.12886.

    Parameters
    ----------
    t : time of the measurement [h]
    activity : activity then, not decay-corrected [MBq]
    prior_half_life : effective half-life of the population [h]
    nuclide : name, or physical half-life [h]

    Raises
    ------
    DoseError
        The half-life is not positive, or above the physical one.
    """
    one = known_half_life(t, activity, prior_half_life, nuclide)
    return PracticeTIA(
        value=one.value,
        method=f"Madsen, one point at {float(t):.4g} h, prior half-life {prior_half_life:.4g} h",
        effective_half_life=prior_half_life,
        extrapolated_fraction=one.extrapolated_fraction,
        source="doi:10.1002/mp.12886",
    )
