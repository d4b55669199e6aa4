"""Log density of single values and its derivatives to second order, by the prediction and by the noise.

A value's log density is a function l(c, V) of a centre c(f) and a variance V(f, z): f the prediction, z the logarithms
of the noise. With interaction V follows the individual prediction; without, the prediction of the typical subject, as
in NONMEM's FOCE (Beal, Sheiner, Boeckmann, NONMEM Users Guides). `curvature` is the expected information of f,
``c'^2/V + V'^2/(2 V^2)`` (Almquist 2015, doi:10.1007/s10928-015-9409-1), for a censored value the Gauss-Newton part of
the observed one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from ..noise import Noise
from ..observations import Observations

Array = NDArray[np.float64]
LOG_2PI = math.log(2 * math.pi)
STEP = 1e-5  # relative step of the differences of closed formulas below


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Derivatives of each value's log density l; f is the individual prediction, g the one of the variance.

    Parameters
    ----------
    value : (n,) array, a measured value's without the constant -log(2 pi)/2
    f, ff, g, fg : (n,) arrays, derivatives; g and fg are zero with interaction
    z, fz : (n, q) arrays, by the noise
    curvature, curvature_f, curvature_g : (n,) arrays, expected information and its derivatives
    curvature_z : (n, q) array
    """

    value: Array
    f: Array
    ff: Array
    g: Array
    fg: Array
    z: Array
    fz: Array
    curvature: Array
    curvature_f: Array
    curvature_g: Array
    curvature_z: Array


def points_at(f: Array, g: Array | None, z: Array, noise: Noise, data: Observations, *, second: bool = True) -> Points:
    """Derivatives of the log density of every value.

    Parameters
    ----------
    f : (n,) array, individual predictions
    g : (n,) array, predictions that the variance follows; None: f (interaction)
    z : (q,) array, log-scale noise
    noise, data : noise of the endpoints of the data
    second : whether derivatives of the curvature are wanted (else they are empty)
    """
    interaction = g is None
    at = f if g is None else g
    with np.errstate(all="ignore"):
        spread = noise.variance(at, z, data)
        v, v_g, v_gg, v_z = spread.value, spread.d_prediction, spread.d2_prediction, spread.d_noise
        logs = _logs(noise, data)
        c, c_f = np.where(logs, np.log(f), f), np.where(logs, 1 / f, 1.0)
        c_ff = np.where(logs, -1 / f**2, 0.0)
        value, by_c, by_v, cc, cv, vv = _density(c, v, data, logs)
        along = _mixed(noise, v_g, data)
        ll_f = by_c * c_f
        ff = cc * c_f**2 + by_c * c_ff
        fz = (cv * c_f)[:, None] * v_z
        by_g = by_v * v_g
        fg = cv * c_f * v_g
        if interaction:
            ll_f = ll_f + by_g
            ff = ff + 2 * fg + vv * v_g**2 + by_v * v_gg
            fz = fz + (vv * v_g)[:, None] * v_z + by_v[:, None] * along
            by_g, fg = np.zeros_like(by_g), np.zeros_like(fg)
        by_z = by_v[:, None] * v_z
        w = _curvature(f, at, z, noise, data, interaction)
        nothing = np.zeros((len(f), 0))
        w_f = w_g = np.zeros(0)
        w_z = nothing
        if second:
            h = STEP * np.maximum(np.abs(at), 1e-8 * np.abs(at).max(initial=1e-300))
            if interaction:
                high, low = (_curvature(f + s * h, at + s * h, z, noise, data, True) for s in (1, -1))
                w_f, w_g = (high - low) / (2 * h), np.zeros_like(w)
            else:
                e = STEP * np.maximum(np.abs(f), 1e-8 * np.abs(f).max(initial=1e-300))
                high, low = (_curvature(f + s * e, at, z, noise, data, False) for s in (1, -1))
                w_f = (high - low) / (2 * e)
                high, low = (_curvature(f, at + s * h, z, noise, data, False) for s in (1, -1))
                w_g = (high - low) / (2 * h)
            w_z = np.zeros_like(v_z)
            for m in range(z.size):
                d = np.zeros_like(z)
                d[m] = STEP
                high, low = (_curvature(f, at, z + s * d, noise, data, interaction) for s in (1, -1))
                w_z[:, m] = (high - low) / (2 * STEP)
    off = ~data.counted

    def kept(a: Array) -> Array:
        a = np.array(a)
        if len(a) == len(off):
            a[off] = 0.0
        return a

    return Points(
        kept(value), kept(ll_f), kept(ff), kept(by_g), kept(fg), kept(by_z), kept(fz), kept(w), kept(w_f), kept(w_g),
        kept(w_z),
    )  # fmt: skip


def _mixed(noise: Noise, slope: Array, data: Observations) -> Array:
    """Mixed derivative of the variance by the prediction and the noise, (n, q): a size squared is a factor, so twice
    the slope where the size is the proportional one."""
    ends = data.aligned(noise.endpoints).endpoint
    out = np.zeros((len(slope), len(noise.free)))
    for e, s in enumerate(noise.scatters):
        if s.kind == "normal" and s.proportional in noise.free:
            rows = ends == e
            out[rows, noise.free.index(s.proportional)] = 2 * slope[rows]
    return out


def _logs(noise: Noise, data: Observations) -> NDArray[np.bool_]:
    kinds = np.array([s.kind == "lognormal" for s in noise.scatters])
    return np.asarray(kinds[data.aligned(noise.endpoints).endpoint])


def _density(
    c: Array, v: Array, data: Observations, logs: NDArray[np.bool_]
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """l, l_c, l_V, l_cc, l_cV, l_VV of each value."""
    y = np.where(logs, np.log(np.where(logs, data.value, 1.0)), data.value)
    r = y - c
    value = -0.5 * (np.log(v) + r**2 / v) - np.where(logs, y, 0.0)
    by_c, by_v = r / v, 0.5 * (r**2 / v - 1) / v
    cc, cv, vv = -1 / v, -r / v**2, 0.5 / v**2 - r**2 / v**3
    cut = data.censored != 0
    if not cut.any():
        return value, by_c, by_v, cc, cv, vv
    u = r / np.sqrt(v)
    side = np.where(data.censored < 0, 1.0, -1.0)
    tail = log_ndtr(side * u)
    h = side * np.exp(-0.5 * (LOG_2PI + u**2) - tail)
    uu = -h * (h + u)
    u_c, u_v = -1 / np.sqrt(v), -0.5 * u / v
    u_cv, u_vv = 0.5 / v**1.5, 0.75 * u / v**2
    return (
        np.where(cut, tail, value),
        np.where(cut, h * u_c, by_c),
        np.where(cut, h * u_v, by_v),
        np.where(cut, uu * u_c**2, cc),
        np.where(cut, uu * u_c * u_v + h * u_cv, cv),
        np.where(cut, uu * u_v**2 + h * u_vv, vv),
    )


def _curvature(f: Array, at: Array, z: Array, noise: Noise, data: Observations, interaction: bool) -> Array:
    """Expected information of the prediction."""
    spread = noise.variance(at, z, data)
    v = spread.value
    v_f = spread.d_prediction if interaction else np.zeros_like(v)
    logs = _logs(noise, data)
    c_f = np.where(logs, 1 / f, 1.0)
    w = c_f**2 / v + 0.5 * (v_f / v) ** 2
    cut = data.censored != 0
    if not cut.any():
        return np.asarray(w)
    c = np.where(logs, np.log(f), f)
    y = np.where(logs, np.log(np.where(logs, data.value, 1.0)), data.value)
    u = (y - c) / np.sqrt(v)
    side = np.where(data.censored < 0, 1.0, -1.0)
    h = side * np.exp(-0.5 * (LOG_2PI + u**2) - log_ndtr(side * u))
    slope = -c_f / np.sqrt(v) - 0.5 * u * v_f / v
    return np.where(cut, h * (h + u) * slope**2, w)
