"""First-order and Laplace approximations of a population's likelihood, with exact gradients.

FO linearises about the typical subject, FOCE and FOCE-I about each subject's mode, Laplace takes the full curvature
there (Wang 2007, doi:10.1007/s10928-007-9060-6). The objective is -2 log L without N log(2 pi), as NONMEM prints it.
Gradients follow the mode: the derivative of the log-determinant comes from second derivatives of the predictions, which
are differences of exact first ones (Almquist 2015, doi:10.1007/s10928-015-9409-1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import FitError
from .crowd import Crowd
from .modes import Modes, find_modes, gauss_newton
from .points import points_at

Array = NDArray[np.float64]
Approximation = Literal["fo", "foce", "focei", "laplace"]
APPROXIMATIONS: tuple[Approximation, ...] = ("fo", "foce", "focei", "laplace")
STEP = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """The approximate -2 log likelihood at one point.

    Parameters
    ----------
    each : (people,) array, contributions; infinite where a model could not be solved
    gradient : (people, p) array, their derivatives; (people, 0) where not asked for
    b : (people, q) array, modes; for FO the modes of the linear model
    spread : (people, q, q) array, conditional covariances of the effects
    found : (people,) array, whether each mode was found
    """

    each: Array
    gradient: Array
    b: Array
    spread: Array
    found: NDArray[np.bool_]

    @property
    def value(self) -> float:
        """Sum over the subjects."""
        return float(self.each.sum())


def objective(
    crowd: Crowd, phi: Array, begin: Array | None = None, *, kind: Approximation = "focei", gradient: bool = True
) -> Objective:
    """Approximate -2 log L of a population, without N log(2 pi).

    Parameters
    ----------
    crowd : subjects
    phi : (p,) population parameters
    begin : (people, q) array, where the search of the modes begins; default zero
    kind : "fo", "foce", "focei" or "laplace" [text]
    gradient : whether derivatives are wanted
    """
    q = crowd.layout.design.shape[1]
    start = np.zeros((len(crowd.people), q)) if begin is None else begin
    if kind == "fo":
        return _first_order(crowd, phi, gradient)
    modes = find_modes(crowd, phi, start, interaction=kind != "foce")
    return _at_modes(crowd, phi, modes, laplace=kind == "laplace", gradient=gradient)


def _at_modes(crowd: Crowd, phi: Array, modes: Modes, *, laplace: bool, gradient: bool) -> Objective:
    layout, points, b = crowd.layout, modes.points, modes.b
    design, prior, z = layout.design, layout.prior(phi), layout.part(phi, "noise")
    inverse = np.linalg.inv(prior)
    people, q = b.shape
    t = modes.answer.tangent
    dead = ~np.isfinite(modes.joint)
    t = np.where(dead[crowd.owner][:, None], 0.0, t)
    _, information = gauss_newton(crowd, t, points, b, inverse)
    second = crowd.second(modes.x) if (laplace or gradient) else np.zeros((len(t), 0, 0))
    second = np.where(dead[crowd.owner][:, None, None] | ~np.isfinite(second), 0.0, second)
    full = information
    if laplace or gradient:
        bent = crowd.sum(
            points.ff[:, None, None] * t[:, :, None] * t[:, None, :] + points.f[:, None, None] * second
        )  # of l, by x
        full = inverse - design.T @ bent @ design
        good = np.linalg.eigvalsh(np.where(np.isfinite(full), full, 0.0))[:, 0] > 0
        full = np.where(good[:, None, None], full, information)
    used = full if laplace else information
    used = np.where(dead[:, None, None], np.eye(q), used)
    spread = np.linalg.inv(used)
    each = modes.joint + np.linalg.slogdet(prior)[1] + np.linalg.slogdet(used)[1]
    each = np.where(dead, np.inf, each)
    if not gradient:
        return Objective(each, np.zeros((people, 0)), b, spread, modes.found)

    # derivative of log|used| by x (through the predictions), by the prediction of the variance, and by the noise
    cover = design @ spread @ design.T  # (people, columns, columns)
    of = cover[crowd.owner]
    ct = np.einsum("nij,nj->ni", of, t)
    quadratic = np.einsum("ni,ni->n", ct, t)
    if laplace:
        fff, ffz = _third(crowd, modes, z)
        trace = np.einsum("nij,nij->n", of, second)
        third = np.nan_to_num(crowd.third(modes.x))
        by_x = -(
            (fff * quadratic + points.ff * trace)[:, None] * t
            + 2 * points.ff[:, None] * np.einsum("nil,ni->nl", second, ct)
            + points.f[:, None] * np.einsum("nij,nijl->nl", of, third)
        )
        by_z = -(ffz * quadratic[:, None] + points.fz * trace[:, None])
        plain = ~good[crowd.owner]
    else:
        plain = np.ones(len(t), dtype=bool)
        by_x, by_z = np.zeros_like(t), np.zeros_like(points.z)
    expected = (points.curvature_f * quadratic)[:, None] * t + 2 * points.curvature[:, None] * np.einsum(
        "nil,ni->nl", second, ct
    )
    by_x = np.where(plain[:, None], expected, by_x)
    by_z = np.where(plain[:, None], points.curvature_z * quadratic[:, None], by_z)
    slope_x = crowd.sum(by_x)  # (people, columns)
    pull = np.linalg.solve(full, (slope_x @ design)[..., None])[..., 0]  # the mode follows: adjoint of db/dphi

    # theta and coefficients
    moved = layout.typical_derivatives(phi)
    direct = -2 * crowd.sum(points.f[:, None] * t) + slope_x
    along = pull @ design.T  # (people, columns)
    direct = direct + np.einsum("pi,pij->pj", along, bent)
    if modes.typical is not None:  # the variance follows the typical subject
        t0 = np.where(dead[crowd.owner][:, None], 0.0, modes.typical.tangent)
        tugged = np.einsum("ni,ni->n", t, along[crowd.owner])
        direct = direct + crowd.sum((-2 * points.g + points.curvature_g * quadratic + points.fg * tugged)[:, None] * t0)
    by_theta = np.einsum("pj,pjk->pk", direct, moved)
    # covariances
    entries = layout.prior_derivatives(phi)
    ib = b @ inverse
    by_prior = np.zeros((people, len(entries)))
    for n, e in enumerate(entries):
        inner = inverse @ e @ inverse
        by_prior[:, n] = -np.einsum("pi,ij,pj->p", ib, e, ib) + np.trace(inverse @ e)
        by_prior[:, n] -= np.einsum("pij,ji->p", spread, inner)
        by_prior[:, n] += np.einsum("pi,ij,pj->p", pull, inner, b)
    # noise
    tugged = np.einsum("ni,ni->n", t, along[crowd.owner])
    by_noise = crowd.sum(-2 * points.z + by_z + points.fz * tugged[:, None])
    total = np.concatenate([by_theta, by_prior, by_noise], axis=1)
    return Objective(each, np.where(dead[:, None], 0.0, total), b, spread, modes.found)


def _third(crowd: Crowd, modes: Modes, z: Array) -> tuple[Array, Array]:
    """Derivatives of the second derivative of the log density, by the prediction and by the noise."""
    f = modes.answer.value
    h = STEP * np.maximum(np.abs(f), 1e-8 * np.nanmax(np.abs(f)))
    up, down = (points_at(f + s * h, None, z, crowd.noise, crowd.data, second=False).ff for s in (1, -1))
    by_z = np.zeros((len(f), z.size))
    for m in range(z.size):
        d = np.zeros_like(z)
        d[m] = STEP
        high, low = (points_at(f, None, z + s * d, crowd.noise, crowd.data, second=False).ff for s in (1, -1))
        by_z[:, m] = (high - low) / (2 * STEP)
    return (up - down) / (2 * h), by_z


def _first_order(crowd: Crowd, phi: Array, gradient: bool) -> Objective:
    """y ~ N(f(typical), J prior J' + V(f(typical)))."""
    layout, data = crowd.layout, crowd.data
    if data.censored.any() or any(s.kind == "lognormal" for s in crowd.noise.scatters):
        raise FitError("fo cannot count censored values or lognormal noise; use method='laplace' or 'saem'")
    mean, prior, z = layout.typical(phi), layout.prior(phi), layout.part(phi, "noise")
    answer = crowd.predict(mean)
    noise = crowd.noise.variance(answer.value, z, data)
    j = answer.tangent @ layout.design
    people, q = len(crowd.people), prior.shape[0]
    each, b = np.full(people, np.inf), np.zeros((people, q))
    spread = np.tile(prior, (people, 1, 1))
    slopes = np.zeros((people, phi.size if gradient else 0))
    second = crowd.second(mean) if gradient else np.zeros((0, 0, 0))
    moved = layout.typical_derivatives(phi)
    entries = layout.prior_derivatives(phi)
    k = moved.shape[2]
    for i in range(people):
        at = np.flatnonzero((crowd.owner == i) & data.counted)
        r, ji, v = data.value[at] - answer.value[at], j[at], noise.value[at]
        if not (np.isfinite(r).all() and np.isfinite(ji).all() and (v > 0).all()):
            continue
        c = ji @ prior @ ji.T + np.diag(v)
        ci = np.linalg.inv(c)
        a = ci @ r
        each[i] = np.linalg.slogdet(c)[1] + r @ a
        b[i], spread[i] = prior @ ji.T @ a, prior - prior @ ji.T @ ci @ ji @ prior
        if not gradient:
            continue
        weight = ci - np.outer(a, a)  # derivative of the objective by c
        by_v = np.diag(weight)
        reach = 2 * weight @ ji @ prior  # by J
        by_x = np.einsum("nq,ncl,cq->l", reach, second[at], layout.design)
        by_x += (by_v * noise.d_prediction[at] - 2 * a) @ answer.tangent[at]
        slopes[i, :k] = by_x @ moved[i]
        inside = ji.T @ weight @ ji
        slopes[i, k : k + len(entries)] = np.einsum("ij,nij->n", inside, entries)
        slopes[i, k + len(entries) :] = by_v @ noise.d_noise[at]
    return Objective(each, slopes, b, spread, np.isfinite(each))
