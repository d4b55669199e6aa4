"""From curves of a ligand to what a nuclide makes of them: integrals, the best time to image, the half-life that fits.

A bolus of ligand with one specific activity keeps it everywhere: hot ligand that decays stays as cold ligand and goes
on competing, so the whole is independent of the nuclide and its hot share is ``exp(-lambda t)`` in every place. One
run of the unlabelled model therefore serves every nuclide with the same label chemistry:

    TIAC = integral N(t)/N0 exp(-lambda t) dt

with N between output times on a straight line, the weight exact, and after the last one N held (physical decay alone,
which no tail can be slower than).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FIRST = 1.0 / 30.0  # h, the first output time after the dose
POINTS = 220
LEAST_LEFT = 2.0**-10  # share of the activity below which nobody images


def grid(horizon: float, points: int = POINTS) -> Array:
    """Zero, and times that are equally far apart in their logarithm (points,) [h]."""
    return np.concatenate([[0.0], np.geomspace(FIRST, horizon, points - 1)])


def weights(times: Array, decay: float) -> Array:
    """Weights w such that ``w @ N`` is the integral of N(t) exp(-decay t) from the first time to infinity.

    Parameters
    ----------
    times : (m,) array, increasing [h]
    decay : decay constant [1/h]
    """
    a, b = times[:-1], times[1:]
    h = b - a
    x = decay * h
    whole = -np.expm1(-x) / decay * np.exp(-decay * a)  # integral of exp(-decay t)
    with np.errstate(invalid="ignore", divide="ignore"):
        ahead = (-np.expm1(-x) - x * np.exp(-x)) / (decay * x)  # of (t - a)/h exp(-decay (t - a))
    ahead = np.where(x < 1e-4, h * (0.5 - x / 3.0), ahead) * np.exp(-decay * a)
    out = np.zeros(times.size)
    out[:-1] += whole - ahead
    out[1:] += ahead
    out[-1] += np.exp(-decay * times[-1]) / decay
    return out


def detectability(lesion: Array, background: Array, times: Array, decay: float) -> Array:
    """Square of the signal to noise of a lesion for a given injected activity and time of counting.

    ``(T - B)^2/(T + B) exp(-decay t)``: difference of counts over their Poisson noise, per volume and per time, with
    what decay has left. It rises with contrast and falls with the counts that waiting costs; zero where the lesion is
    not above the background, and after ten half-lives, when there is nothing to image. Attenuation, scatter and
    resolution are the same at all times and are left out.

    Parameters
    ----------
    lesion, background : (..., m) arrays, decay-corrected concentration [any, the same]
    times : (m,) array [h]
    decay : decay constant [1/h]
    """
    above = np.maximum(lesion - background, 0.0)
    both = lesion + background
    ratio = np.divide(above**2, both, out=np.zeros_like(above), where=both > 0)
    left = np.exp(-decay * times)
    return np.asarray(ratio * np.where(left >= LEAST_LEFT, left, 0.0))


def peak(values: Array, times: Array) -> tuple[Array, Array]:
    """Time and height of the largest value of (..., m) curves; nan where a curve is nowhere above zero.

    Between output times a parabola in the logarithm of time goes through the largest value and its neighbours.
    """
    k = np.clip(np.argmax(values, axis=-1), 2, times.size - 2)
    x = np.log(times[1:])
    flat = values.reshape(-1, times.size)
    at = k.reshape(-1)
    rows = np.arange(flat.shape[0])
    y0, y1, y2 = (flat[rows, at + d] for d in (-1, 0, 1))
    step = x[1] - x[0]
    bend = y0 - 2.0 * y1 + y2
    shift = np.divide(0.5 * (y0 - y2), bend, out=np.zeros_like(bend), where=bend < 0)
    shift = np.clip(shift, -1.0, 1.0)
    when = np.exp(x[at - 1] + shift * step)
    height = y1 - 0.25 * (y0 - y2) * shift
    largest = flat.max(axis=-1)
    first = np.argmax(flat, axis=-1)
    edge = (first < 2) | (first > times.size - 2)  # no neighbour on both sides: the output time itself
    when = np.where(edge, times[first], when)
    height = np.where(edge, largest, height)
    empty = ~(largest > 0)
    when, height = np.where(empty, np.nan, when), np.where(empty, np.nan, height)
    return when.reshape(k.shape), height.reshape(k.shape)


def window(values: Array, times: Array, share: float = 0.9) -> tuple[float, float]:
    """First and last output time at which one curve (m,) reaches a share of its maximum [h]."""
    top = float(values.max())
    if not top > 0:
        return float("nan"), float("nan")
    inside = times[values >= share * top]
    return float(inside[0]), float(inside[-1])


def match(uptake: Array, times: Array, decay: float) -> Array:
    """Half-life match: mean uptake that the decays see, over the largest uptake [0 to 1].

    ``decay * integral u(t) exp(-decay t) dt / max u``. One where all decays happen at peak uptake; low where the
    nuclide decays before the ligand has arrived (too short), or lives on after it has left (too long).
    """
    top = uptake.max(axis=-1)
    mean = decay * (uptake @ weights(times, decay))
    return np.asarray(np.divide(mean, top, out=np.full_like(mean, np.nan), where=top > 0))


def best_half_life(uptake: Array, times: Array) -> float:
    """Physical half-life with the highest `match` for one uptake curve (m,), within 0.1 h to the last time [h]."""
    half_lives = np.geomspace(0.1, times[-1], 121)
    found = [float(match(uptake[None, :], times, np.log(2.0) / x)[0]) for x in half_lives]
    return float(half_lives[int(np.nanargmax(found))]) if np.any(np.isfinite(found)) else float("nan")
