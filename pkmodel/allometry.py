"""From one species to another: clearances, volumes, rates, times and time-integrated activity, by body mass.

::

    CL, flows   ~ M^(3/4)          West 1997, doi:10.1126/science.276.5309.122; Mordenti 1986
    volumes     ~ M                Mordenti 1986, doi:10.1002/jps.2600751102
    rates       ~ M^(-1/4)         as clearance over volume
    times       ~ M^(1/4)          Boxenbaum 1982, doi:10.1007/BF01062336
    TIAC organ  ~ m_organ/M        Kirschner 1975, J Nucl Med 16:248: uptake per gram goes with the share of the body

These are powers of body mass for what nothing else is known of. They hold for filtered and metabolised substances of
the same fate in both species; a target that one species lacks, or an FcRn of another affinity, they do not know. Over
115 substances the power of clearance was 0.74 +- 0.16, 0.65 where the kidneys excrete (Hu, Hayton 2001,
doi:10.1208/ps030429): give `power` to see what that changes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import PkmodelError

FLOW_POWER = 0.75
VOLUME_POWER = 1.0

Array = NDArray[np.float64]


def clearance(value: ArrayLike, from_mass: float, to_mass: float, *, power: float = FLOW_POWER) -> Array | float:
    """Clearance, or a flow, in a body of another mass (doi:10.1002/jps.2600751102).

    Parameters
    ----------
    value : number or array, in the first species [any flow]
    from_mass, to_mass : body masses, in one unit [kg]
    power : of body mass [1]

    Raises
    ------
    PkmodelError
        A mass is not a positive number.

    Examples
    --------
    >>> round(float(clearance(1.0, 0.020, 70.0)), 2)
    455.04
    """
    return _scaled(value, _ratio(from_mass, to_mass) ** power)


def volume(value: ArrayLike, from_mass: float, to_mass: float, *, power: float = VOLUME_POWER) -> Array | float:
    """Volume of distribution in a body of another mass (doi:10.1002/jps.2600751102).

    Parameters
    ----------
    value : number or array, in the first species [any volume]
    from_mass, to_mass : body masses, in one unit [kg]
    power : of body mass [1]

    Raises
    ------
    PkmodelError
        A mass is not a positive number.
    """
    return _scaled(value, _ratio(from_mass, to_mass) ** power)


def rate(value: ArrayLike, from_mass: float, to_mass: float, *, power: float | None = None) -> Array | float:
    """Biological rate constant in a body of another mass: clearance over volume (doi:10.1002/jps.2600751102).

    Parameters
    ----------
    value : number or array, in the first species [1/time]
    from_mass, to_mass : body masses, in one unit [kg]
    power : of body mass; default `FLOW_POWER` - `VOLUME_POWER` [1]

    Raises
    ------
    PkmodelError
        A mass is not a positive number.
    """
    return _scaled(value, _ratio(from_mass, to_mass) ** (FLOW_POWER - VOLUME_POWER if power is None else power))


def time(value: ArrayLike, from_mass: float, to_mass: float) -> Array | float:
    """Biological times, such as those of a curve, in a body of another mass (doi:10.1007/BF01062336).

    Physical decay does not slow down in a larger animal: take it out of a curve, stretch the times, and put it back.

    Parameters
    ----------
    value : number or array, in the first species [time]
    from_mass, to_mass : body masses, in one unit [kg]

    Raises
    ------
    PkmodelError
        A mass is not a positive number.
    """
    return _scaled(value, _ratio(from_mass, to_mass) ** (VOLUME_POWER - FLOW_POWER))


def organ_share(
    value: ArrayLike, from_organ: float, from_mass: float, to_organ: float, to_mass: float
) -> Array | float:
    """What an organ holds of the activity given, or its time-integral, in a body of another build (kg/g method).

    Activity per gram over that of an even spread in the body is taken to be the same: the share goes with the organ's
    share of the body (Kirschner AS, Ice RD, Beierwaltes WH. J Nucl Med 1975;16:248).

    Parameters
    ----------
    value : fraction of the activity given, or TIAC, in the first species, number or array [1 or h]
    from_organ, from_mass : masses of organ and body in the first species, in one unit [g]
    to_organ, to_mass : the same in the second, in one unit [g]

    Raises
    ------
    PkmodelError
        A mass is not a positive number, or an organ is larger than its body.

    Examples
    --------
    >>> round(float(organ_share(1.0, 0.302, 25.0, 310.0, 73000.0)), 5)
    0.35154
    """
    for organ, body in ((from_organ, from_mass), (to_organ, to_mass)):
        _ratio(organ, body)
        if organ >= body:
            raise PkmodelError(f"allometry: an organ of {organ:g} in a body of {body:g}; give both in one unit")
    return _scaled(value, (to_organ / to_mass) / (from_organ / from_mass))


def tiac(
    times: ArrayLike,
    fraction: ArrayLike,
    decay: float,
    from_organ: float,
    from_mass: float,
    to_organ: float,
    to_mass: float,
) -> float:
    """Time-integrated activity coefficient of an organ from an animal's curve: share by mass, time by `time`.

    The curve is joined by straight lines through the points and by its last slope of the logarithm after them, or by
    decay alone where it does not fall (never slower than decay); from zero to the first point it rises in a line from
    zero. Each stretch of line is integrated exactly with the decay of the nuclide.

    Parameters
    ----------
    times : (m,) array, increasing, in the animal [h]
    fraction : (m,) array, fraction of the activity given that the organ held, decay taken out [1]
    decay : physical decay constant [1/h]
    from_organ, from_mass : masses of organ and body of the animal, in one unit [g]
    to_organ, to_mass : the same of the second species, in one unit [g]

    Returns
    -------
    float
        TIAC in the second species [h]

    Raises
    ------
    PkmodelError
        Shapes differ, times do not increase, or a mass is not a positive number.
    """
    t = np.atleast_1d(np.asarray(time(times, from_mass, to_mass), dtype=float))
    a = np.atleast_1d(np.asarray(organ_share(fraction, from_organ, from_mass, to_organ, to_mass), dtype=float))
    if t.shape != a.shape or t.ndim != 1 or t.size < 2 or np.any(np.diff(t) <= 0) or t[0] < 0:
        raise PkmodelError(
            f"allometry: {t.size} times and {a.size} fractions; give two or more of each, times from 0 on, increasing"
        )
    if decay < 0 or not np.all(np.isfinite(a)) or np.any(a < 0):
        raise PkmodelError("allometry: the decay constant and all fractions must be 0 or more")
    if t[0] > 0:
        t, a = np.concatenate([[0.0], t]), np.concatenate([[0.0], a])
    total = sum(_line(t[k], t[k + 1], a[k], a[k + 1], decay) for k in range(t.size - 1))
    wash = np.log(a[-2] / a[-1]) / (t[-1] - t[-2]) if 0 < a[-1] < a[-2] else 0.0
    if a[-1] > 0 and wash + decay <= 0:
        raise PkmodelError("allometry: without decay and with a curve that does not fall the integral has no end")
    tail = a[-1] * np.exp(-decay * t[-1]) / (wash + decay) if a[-1] > 0 else 0.0
    return float(total + tail)


def _line(t0: float, t1: float, a0: float, a1: float, decay: float) -> float:
    """Integral of a straight line from (t0, a0) to (t1, a1) times exp(-decay t)."""
    span = t1 - t0
    x = decay * span
    if x < 1e-3:  # series: the closed form loses its digits
        first = 1 - x / 2 + x * x / 6 - x**3 / 24
        second = 0.5 - x / 3 + x * x / 8 - x**3 / 30
    else:
        first = -np.expm1(-x) / x
        second = (-np.expm1(-x) - x * np.exp(-x)) / (x * x)
    return float(np.exp(-decay * t0) * span * (a0 * first + (a1 - a0) * second))


def _ratio(first: float, second: float) -> float:
    for m in (first, second):
        if not (np.isfinite(m) and m > 0):
            raise PkmodelError(f"allometry: a mass of {m}; allowed: a number above 0, both in one unit")
    return float(second) / float(first)


def _scaled(value: ArrayLike, by: float) -> Array | float:
    out = np.asarray(value, dtype=float) * by
    return float(out) if out.ndim == 0 else out
