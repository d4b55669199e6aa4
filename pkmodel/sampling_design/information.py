"""Expected information of one patient's scans, and the criteria that judge a set of them.

One measurement y ~ N(f, s^2(f)) of an organ tells ``f' f'^T (1/s^2 + (ds^2/df)^2 / (2 s^4))`` about the parameters
(Fisher information of a normal distribution whose variance depends on its mean; Kay 1993, Fundamentals of Statistical
Signal Processing, eq. 3.31). Information of scans adds, and what the population says beforehand adds its inverse
covariance (Chaloner & Verdinelli 1995, doi:10.1214/ss/1177009939). The variance of log TIA is g^T M^-1 g, g its exact
gradient (delta method; c-optimality, Atkinson, Donev & Tobias 2007, Optimum Experimental Designs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SimulationError, did_you_mean
from .search import Indices
from .setting import Expected, Setting, Totals

Array = NDArray[np.float64]
CRITERIA = ("tia", "dose", "worst", "D", "A", "Ds")
ABOUT_TIA = ("tia", "dose", "worst")
UNKNOWN = 1e3  # a relative SD above this means: not determined
_MOVES = 1e-3  # relative change of g by a relative change of an open parameter that is too much
_FLOOR = 1e-13  # eigenvalues of the information below this share of the largest count as zero


def of_scans(setting: Setting, expected: Expected) -> Array:
    """Information of each scan, all organs together, (P, C, k, k)."""
    value, tangent = expected.value, expected.tangent
    weight = np.empty_like(value)
    for j, organ in enumerate(setting.organs):
        if organ.noise.sensitivity and np.any(expected.hours <= 0):
            raise SimulationError(
                f"{setting.model.who}: counting noise of {organ.name} needs frames with a length; give minutes="
            )
        variance, slope = organ.noise.variance(np.maximum(value[:, :, j], 0.0), expected.hours[None, :])
        with np.errstate(divide="ignore", invalid="ignore"):
            weight[:, :, j] = np.where(variance > 0, 1.0 / variance + 0.5 * (slope / variance) ** 2, 0.0)
    return np.asarray(np.einsum("pcj,pcja,pcjb->pcab", weight, tangent, tangent, optimize=True))


def variances(matrix: Array, slope: Array) -> Array:
    """g^T M^-1 g; infinite where M leaves a parameter open that moves g.

    That also covers the time at which one scan tells TIA by itself if the rate is exactly as assumed (one over the
    rate): without prior knowledge nobody knows that time.

    Parameters
    ----------
    matrix : (..., k, k) array, information
    slope : (..., J, k) array, gradients
    """
    value, vectors = np.linalg.eigh(matrix)
    open_ = value <= _FLOOR * np.maximum(value[..., -1:], 1e-300)
    along = np.einsum("...jk,...ka->...ja", slope, vectors)
    with np.errstate(divide="ignore", over="ignore"):
        total = np.sum(
            np.where(open_[..., None, :], 0.0, along**2 / np.where(open_, 1.0, value)[..., None, :]), axis=-1
        )
    if open_.any():
        moved = np.einsum("...jk,...ka->...ja", np.abs(slope), np.abs(vectors))
        lost = (open_[..., None, :] & (moved > _MOVES)).any(axis=-1)
        total = np.where(lost, np.inf, total)
    return np.where(total > UNKNOWN**2, np.inf, total)


def log_volume(matrix: Array) -> Array:
    """-log det M / k: twice the logarithm of the geometric mean SD; infinite where M is singular."""
    value = np.linalg.eigvalsh(matrix)
    sound = value[..., 0] > _FLOOR * value[..., -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = -np.log(np.where(sound[..., None], value, 1.0)).mean(axis=-1)
    return np.where(sound, logs, np.inf)


@dataclass(frozen=True, eq=False)
class Criterion:
    """A number for any set of scans, the smaller the better: a relative standard deviation.

    Parameters
    ----------
    kind : one of CRITERIA [text]
    scans : (P, C, k, k) array, information of each candidate
    precision : (k, k) array, what is known beforehand
    slopes : (P, J, k) array, gradients of log TIA; empty for D, A and Ds
    weights : (J,) array, of the organs
    subset : numbers of the parameters of interest, for Ds
    """

    kind: str
    scans: Array
    precision: Array
    slopes: Array
    weights: Array
    subset: tuple[int, ...] = ()

    def __call__(self, sets: Indices) -> Array:
        """Values of sets, (B, n) -> (B,)."""
        matrix = self.precision + self.scans[:, sets].sum(axis=2)
        return self.of(matrix)

    def of(self, matrix: Array) -> Array:
        """Values of information matrices, (P, B, k, k) -> (B,), averaged over the patients."""
        if self.kind in ABOUT_TIA:
            each = variances(matrix, self.slopes[:, None])
            each = np.where(self.weights > 0, each, 0.0)
            one = each.max(axis=-1) if self.kind == "worst" else np.where(each > 0, each * self.weights, 0.0).sum(-1)
            return np.asarray(np.sqrt(one.mean(axis=0)))
        if self.kind == "D":
            return np.asarray(np.exp(0.5 * log_volume(matrix).mean(axis=0)))
        if self.kind == "Ds":  # det of the block of the inverse, by the complement of Schur
            a = list(self.subset)
            b = [k for k in range(matrix.shape[-1]) if k not in self.subset]
            if b:
                inner = np.linalg.pinv(matrix[..., b, :][..., :, b], hermitian=True)
                cross = matrix[..., a, :][..., :, b]
                matrix = matrix[..., a, :][..., :, a] - cross @ inner @ np.swapaxes(cross, -1, -2)
            return np.asarray(np.exp(0.5 * log_volume(matrix).mean(axis=0)))
        eye = np.eye(matrix.shape[-1])
        return np.asarray(np.sqrt(variances(matrix, eye).mean(axis=-1).mean(axis=0)))


def make_criterion(
    setting: Setting, kind: str, expected: Expected, totals: Totals | None, of: Sequence[str] = ()
) -> Criterion:
    """Bind a criterion to candidate scans.

    Raises
    ------
    SimulationError
        There is no such criterion, or the parameters of interest are not unknown.
    """
    who = setting.model.who
    if kind not in CRITERIA:
        raise SimulationError(
            f"{who}: criterion {kind!r}{did_you_mean(kind, CRITERIA)}; allowed: {', '.join(CRITERIA)}"
        )
    names = [s.parameter for s in setting.slots]
    if kind == "Ds" and (not of or any(n not in names for n in of)):
        raise SimulationError(f"{who}: criterion Ds needs of=[...], some of {', '.join(names)}")
    if kind in ABOUT_TIA and (idle := [o.name for o in setting.organs if o.weight > 0 and not o.activity]):
        raise SimulationError(
            f"{who}: {idle[0]} is no activity in MBq, so it has no TIA; give it the weight 0 or use criterion='D'"
        )
    slopes = totals.slope if totals is not None else np.zeros((len(setting.people), 0, len(names)))
    subset = tuple(names.index(n) for n in of)
    return Criterion(kind, of_scans(setting, expected), setting.precision, slopes, setting.weights, subset)


def not_informed(setting: Setting, matrix: Array) -> list[str]:
    """Parameters that information, (k, k), leaves undetermined, by name."""
    lost = np.isinf(variances(matrix, np.eye(len(setting.slots))))
    return [s.parameter for s, x in zip(setting.slots, lost, strict=True) if x]
