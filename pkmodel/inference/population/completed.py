"""How population parameters follow from drawn random effects: one step of SAEM or EM (`complete`).

A typical value whose parameter varies between subjects, and a covariate effect on it, are means of what was drawn: with
the subjects' own values psi = B beta + eta fixed, beta is a weighted regression and omega the covariance of what is
left. All else (values without random effect, effects that change between occasions, noise) takes a Newton step with the
expected information.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .crowd import Crowd
from .importance import batches
from .layout import Factor
from .points import points_at

Array = NDArray[np.float64]
LONGEST = 0.5  # of a Newton step, on the scale of the fit
SLOWLY = 0.9  # variances may not fall below this share of the last ones while the search explores


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Random effects of all subjects, (draws, people, q), and their weights, (draws, people), of sum one over draws."""

    b: Array
    weight: Array


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Averages over iterations.

    Parameters
    ----------
    psi : (people, m) array, subjects' own values
    square : (m, m) array, sum over subjects of their products
    kappa : (r, r) array, mean product of the effects of occasions
    information : (d, d) array, of the parameters that take Newton steps
    """

    psi: Array
    square: Array
    kappa: Array
    information: Array

    @classmethod
    def empty(cls, crowd: Crowd) -> Statistics:
        """Before the first iteration, which has full weight."""
        m, r = len(crowd.layout.varying), len(crowd.layout.switching)
        d = len(_stepping(crowd)[0]) + len(crowd.noise.free)
        return cls(np.zeros((len(crowd.people), m)), np.zeros((m, m)), np.zeros((r, r)), np.zeros((d, d)))

    def mixed(self, new: Statistics, weight: float) -> Statistics:
        """Moved towards new ones."""
        parts = ("psi", "square", "kappa", "information")
        return Statistics(*(getattr(self, n) + weight * (getattr(new, n) - getattr(self, n)) for n in parts))


def update(
    crowd: Crowd, phi: Array, drawn: Draws, statistics: Statistics, weight: float, *, anneal: bool
) -> tuple[Array, Statistics, Array]:
    """One step.

    Parameters
    ----------
    crowd : subjects
    phi : (p,) population parameters
    drawn : random effects at phi
    statistics : so far
    weight : of what is new [1]
    anneal : whether variances may fall only slowly

    Returns
    -------
    New parameters, new statistics, and what to take off the effects between subjects, (people, m), so that each
    subject's own parameters stay as drawn.
    """
    layout = crowd.layout
    m, r = len(layout.varying), len(layout.switching)
    steps, means, regressors = _stepping(crowd)
    beta = phi[means]
    middle = np.einsum("pmk,k->pm", regressors, beta)
    own = middle + drawn.b[..., :m]
    psi = np.einsum("np,npi->pi", drawn.weight, own)
    square = np.einsum("np,npi,npj->ij", drawn.weight, own, own)
    kappa = np.zeros((r, r))
    if r:
        have = np.array([[o < len(p.occasions) for o in range(layout.occasions)] for p in crowd.people])
        k = drawn.b[..., m:].reshape(*drawn.weight.shape, layout.occasions, r)
        kappa = np.einsum("np,po,npoi,npoj->ij", drawn.weight, have, k, k) / have.sum()
    slope, information = _score(crowd, phi, drawn, steps)
    statistics = statistics.mixed(Statistics(psi, square, kappa, information), weight)

    new = phi.copy()
    people = len(crowd.people)
    if m:
        omega = layout.omega(phi)
        inverse = np.linalg.inv(omega)
        if means.size:
            left = np.einsum("pmk,mn,pnl->kl", regressors, inverse, regressors)
            right = np.einsum("pmk,mn,pn->k", regressors, inverse, statistics.psi)
            new[means] = np.linalg.solve(left, right)
        fitted = np.einsum("pmk,k->pm", regressors, new[means])
        cross = statistics.psi.T @ fitted
        residual = (statistics.square - cross - cross.T + fitted.T @ fitted) / people
        new[layout.parts["between"]] = _shaped(layout.between, residual, omega, anneal)
    if r:
        new[layout.parts["occasion"]] = _shaped(layout.occasion, statistics.kappa, layout.occasion_omega(phi), anneal)
    if slope.size:
        at = np.concatenate([steps, np.arange(layout.parts["noise"].start, layout.parts["noise"].stop)]).astype(int)
        ridge = 1e-9 * np.diag(statistics.information) + 1e-12
        step = np.linalg.solve(statistics.information + np.diag(ridge), slope)
        new[at] = phi[at] + weight * np.clip(step, -LONGEST, LONGEST)
    moved = np.einsum("pmk,k->pm", regressors, new[means]) - middle
    return new, statistics, moved


def _stepping(crowd: Crowd) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """Numbers (in phi) of theta and coefficients that take Newton steps, of those that are means of subjects' own
    values, and the regressors of the latter, (people, m, means)."""
    layout = crowd.layout
    k, varying = len(layout.slots), layout.varying.tolist()
    means = [v for v in range(k) if v in varying]
    columns: list[Array] = []
    people, m = len(crowd.people), len(varying)
    for v in means:
        one = np.zeros((people, m))
        one[:, varying.index(v)] = 1.0
        columns.append(one)
    for s in layout.shifts:
        if s.coefficient < 0 or s.relation.kind == "proportional":
            continue
        one, same = np.zeros((people, m)), True
        for label in dict.fromkeys(layout.of[s.columns].tolist()):
            mine = np.flatnonzero(layout.of[s.columns] == label)
            value = np.where(layout.used[:, s.columns[mine]], s.value[:, mine], np.nan)
            known = np.isfinite(value)
            first = np.where(known.any(axis=1), np.take_along_axis(value, known.argmax(axis=1)[:, None], 1)[:, 0], 0.0)
            same &= label in varying and bool(np.all(~known | (value == first[:, None])))
            if label in varying:
                one[:, varying.index(label)] = first
        if same:
            means.append(k + s.coefficient)
            columns.append(one)
    count = k + len(layout.free_relations)
    steps = [n for n in range(count) if n not in means]
    regressors = np.stack(columns, axis=2) if columns else np.zeros((people, m, 0))
    return np.array(steps, dtype=np.intp), np.array(means, dtype=np.intp), regressors


def _score(crowd: Crowd, phi: Array, drawn: Draws, steps: NDArray[np.intp]) -> tuple[Array, Array]:
    """Slope and expected information of the log density of the data by what takes Newton steps."""
    parts, at = [], 0
    for n in batches(crowd, len(drawn.b)):
        parts.append(_score_of(crowd.repeated(n), phi, drawn.b[at : at + n], drawn.weight[at : at + n], steps))
        at += n
    return np.sum([g for g, _ in parts], axis=0), np.sum([i for _, i in parts], axis=0)


def _score_of(crowd: Crowd, phi: Array, b: Array, weights: Array, steps: NDArray[np.intp]) -> tuple[Array, Array]:
    layout = crowd.layout
    z = layout.part(phi, "noise")
    answer = crowd.predict(
        layout.typical(phi) + b.reshape(-1, b.shape[-1]) @ layout.design.T, tangents=bool(steps.size)
    )
    points = points_at(answer.value, None, z, crowd.noise, crowd.data, second=False)
    d, q = len(steps), z.size
    slope, information = np.zeros(d + q), np.zeros((d + q, d + q))
    weight = weights.ravel()[crowd.owner]
    fine = np.isfinite(points.value) & np.isfinite(points.f)
    weight = np.where(fine, weight, 0.0)
    if d:
        moved = layout.typical_derivatives(phi)[:, :, steps]
        along = np.einsum("nc,ncd->nd", np.nan_to_num(answer.tangent), moved[crowd.owner])
        slope[:d] = (weight * np.nan_to_num(points.f)) @ along
        information[:d, :d] = (along * (weight * np.nan_to_num(points.curvature))[:, None]).T @ along
    if q:
        spread = crowd.noise.variance(answer.value, z, crowd.data)
        with np.errstate(invalid="ignore", divide="ignore"):
            relative = np.nan_to_num(spread.d_noise / spread.value[:, None])
        measured = np.where(crowd.data.counted & (crowd.data.censored == 0), weight, 0.0)
        slope[d:] = weight @ np.nan_to_num(points.z)
        information[d:, d:] = 0.5 * (relative * measured[:, None]).T @ relative
    return slope, information


def _shaped(root: Factor, covariance: Array, before: Array, anneal: bool) -> Array:
    """Free entries of a covariance with the blocks of a factor; held variances stay."""
    m = len(before)
    kept = np.eye(m, dtype=bool)
    for i, j in root.entries:
        kept[i, j] = kept[j, i] = True
    free = {i for i, j in root.entries if i == j}
    out = np.where(kept, 0.5 * (covariance + covariance.T), 0.0)
    for i in range(m):
        if i not in free:
            out[i, i] = before[i, i]
        elif anneal and out[i, i] < SLOWLY * before[i, i]:
            grown = np.sqrt(SLOWLY * before[i, i] / max(out[i, i], 1e-300))
            out[i, :] *= grown
            out[:, i] *= grown
        out[i, i] = max(out[i, i], 1e-10)
    low = np.linalg.eigvalsh(out)[0] if m else 1.0
    if low <= 0:
        out += (1e-10 - low) * np.eye(m)
    return root.free_from(out)
