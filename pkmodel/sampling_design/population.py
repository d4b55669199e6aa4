"""Expected information of a population study: typical values, between-subject variances, and error variances.

Of one subject with expectation E and variance V of its data, for parameters a, b:
``M_ab = E_a^T V^-1 E_b + tr(V^-1 V_a V^-1 V_b) / 2``. By first-order linearisation (FO) about eta = 0,
E = f and V = F Omega F^T + Sigma(f) (Mentre, Mallet & Baccar 1997, doi:10.1093/biomet/84.2.429; Retout & Mentre 2003,
doi:10.1081/BIP-120019267). "block" leaves V's dependence on the typical values out, "full" keeps it; the two are
compared, with simulations, by Nyberg et al. 2015, doi:10.1111/bcp.12352. "foce" linearises about drawn random effects
instead of zero and averages (there V does not depend on the typical values).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import SimulationError
from .search import Indices
from .setting import Setting

Array = NDArray[np.float64]
EXPRESSIONS = ("block", "full", "foce")
_STEP = 1e-4  # of the central difference of exact tangents, on the scale of the fit


@dataclass(frozen=True, eq=False)
class PopulationInformation:
    """Information matrix of a study, its parameters by name, and their values.

    Variances are of random effects on the scale of the fit (``omega2``) and of the errors (``sigma2``).
    """

    matrix: Array  # (m, m)
    names: tuple[str, ...]
    value: Array  # (m,)
    relative: NDArray[np.bool_]  # (m,) whether its error is relative already: typical values on the log scale
    subjects: int
    expression: str

    @property
    def relative_se(self) -> Array:
        """Expected relative standard errors, (m,); nan where not determined."""
        value, vectors = np.linalg.eigh(_scaled(self.matrix))
        scale = np.sqrt(np.diag(self.matrix))
        sound = value > 1e-12 * value[-1]
        var = np.einsum("ik,k->i", vectors**2, np.where(sound, 1.0 / np.where(sound, value, 1.0), np.inf))
        with np.errstate(divide="ignore", invalid="ignore"):
            se = np.sqrt(var) / scale
            return np.asarray(np.where(np.isfinite(se), np.where(self.relative, se, se / np.abs(self.value)), np.nan))


def _scaled(matrix: Array) -> Array:
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    return np.asarray(matrix / np.outer(scale, scale))


@dataclass(frozen=True, eq=False)
class PopulationSensitivities:
    """What the candidates show at the points of linearisation: value (P, C, J), tangent (P, C, J, k), and at x +- step.

    Parameters
    ----------
    shifted : (k, 2, C, J) values and (k, 2, C, J, k) tangents of the typical patient with one parameter moved; empty
        where "full" is not asked for
    """

    value: Array
    tangent: Array
    hours: Array
    shifted: tuple[Array, Array] | None


def sensitivities(
    setting: Setting, start: Array, hours: Array, expression: str, *, draws: int = 200, seed: int = 0
) -> PopulationSensitivities:
    """Compute what `study_information` needs for any subset of these scans."""
    if expression not in EXPRESSIONS:
        raise SimulationError(
            f"{setting.model.who}: expression {expression!r} of the population's information; allowed: "
            f"{', '.join(EXPRESSIONS)}"
        )
    if not setting.known.any():
        raise SimulationError(f"{setting.model.who}: a population needs a spread; give spread={{name: cv}}")
    points = setting.drawn(draws, seed) if expression == "foce" else setting.typical[None, :]
    seen = setting.expected(start, hours, people=points)
    shifted = None
    if expression == "full":
        k = len(setting.slots)
        moved = np.repeat(setting.typical[None, None, :], k, axis=0).repeat(2, axis=1)
        for j in range(k):
            moved[j, :, j] += np.array([_STEP, -_STEP])
        both = setting.expected(start, hours, people=moved.reshape(2 * k, k))
        size = (k, 2, start.size, len(setting.organs))
        shifted = both.value.reshape(size), both.tangent.reshape(*size, k)
    return PopulationSensitivities(seen.value, seen.tangent, hours, shifted)


def study_information(
    setting: Setting,
    sens: PopulationSensitivities,
    groups: Sequence[tuple[Indices, int]],
    expression: str,
) -> PopulationInformation:
    """Information of a study: groups of subjects, each with its own scans.

    Parameters
    ----------
    setting : model, spread, organs and their noise
    sens : of all candidates
    groups : (numbers of the scans, number of subjects)
    expression : "block", "full" or "foce" [text]
    """
    random = np.flatnonzero(setting.known)
    errors = [
        (j, kind)
        for j, o in enumerate(setting.organs)
        for kind in ("proportional", "additive")
        if getattr(o.noise, kind)
    ]
    names = [s.parameter for s in setting.slots]
    names += [f"omega2({setting.slots[r].parameter})" for r in random]
    names += [f"sigma2({kind}, {setting.organs[j].name})" for j, kind in errors]
    size = len(names)
    total = np.zeros((size, size))
    for indices, subjects in groups:
        each = [
            _subject(setting, sens, p, np.asarray(indices), random, errors, expression) for p in range(len(sens.value))
        ]
        total += subjects * np.mean(each, axis=0)
    value = np.concatenate([
        [s.start for s in setting.slots],
        np.diag(setting.omega)[random],
        [getattr(setting.organs[j].noise, kind) ** 2 for j, kind in errors],
    ])  # fmt: skip
    relative = np.array([s.transform == "log" for s in setting.slots] + [False] * (size - len(setting.slots)))
    return PopulationInformation(
        total, tuple(names), value, relative, sum(n for _, n in groups), expression
    )  # fmt: skip


def _subject(
    setting: Setting, sens: PopulationSensitivities, point: int, chosen: Indices, random: Indices,
    errors: list[tuple[int, str]], expression: str,
) -> Array:  # fmt: skip
    """Information of one subject, linearised at one point."""
    k = len(setting.slots)
    f = sens.value[point, chosen].reshape(-1)  # scans, then organs within a scan
    slope = sens.tangent[point, chosen].reshape(-1, k)
    hours = sens.hours[chosen]
    inner = setting.omega[np.ix_(random, random)]
    variance = slope[:, random] @ inner @ slope[:, random].T + np.diag(_error(setting, f, hours))
    derivatives: list[Array | None] = [None] * k
    if expression == "full":
        assert sens.shifted is not None
        values, tangents = sens.shifted
        for j in range(k):
            both = []
            for side in range(2):
                fs = values[j, side, chosen].reshape(-1)
                ss = tangents[j, side, chosen].reshape(-1, k)[:, random]
                both.append(ss @ inner @ ss.T + np.diag(_error(setting, fs, hours)))
            derivatives[j] = (both[0] - both[1]) / (2 * _STEP)
    derivatives += [np.outer(slope[:, r], slope[:, r]) for r in random]
    organ = np.tile(np.arange(len(setting.organs)), chosen.size)
    for j, kind in errors:
        derivatives.append(np.diag(np.where(organ == j, f**2 if kind == "proportional" else 1.0, 0.0)))
    inverse = np.linalg.inv(variance)
    out = np.zeros((len(derivatives), len(derivatives)))
    out[:k, :k] = slope.T @ inverse @ slope
    spread = [None if d is None else inverse @ d for d in derivatives]
    for a, left in enumerate(spread):
        for b, right in enumerate(spread[: a + 1]):
            if left is not None and right is not None:
                out[a, b] += 0.5 * float(np.sum(left * right.T))
                out[b, a] = out[a, b]
    return out


def _error(setting: Setting, f: Array, hours: Array) -> Array:
    """Variances of the errors of a subject's data, scans and organs flat."""
    table = f.reshape(hours.size, -1)
    each = [o.noise.variance(table[:, j], hours)[0] for j, o in enumerate(setting.organs)]
    return np.asarray(np.stack(each, axis=1).reshape(-1))


@dataclass(frozen=True, eq=False)
class PopulationCriterion:
    """D, Ds or A of a population study whose subjects are all scanned at the same times."""

    setting: Setting
    sens: PopulationSensitivities
    kind: str
    expression: str
    subjects: int
    subset: tuple[int, ...] = ()

    def __call__(self, sets: Indices) -> Array:
        """Values of sets, (B, n) -> (B,)."""
        return np.array([self.of(s) for s in sets])

    def of(self, chosen: Indices) -> float:
        """Geometric (D, Ds) or quadratic (A) mean of the expected relative standard errors."""
        found = study_information(self.setting, self.sens, [(chosen, self.subjects)], self.expression)
        scale = np.where(found.relative, 1.0, np.abs(found.value))
        matrix = found.matrix * np.outer(scale, scale)  # of relative changes
        if self.kind == "A":
            return float(np.sqrt(np.mean(found.relative_se**2))) if np.isfinite(found.relative_se).all() else np.inf
        if self.subset:
            covariance = np.linalg.pinv(matrix, hermitian=True)[np.ix_(self.subset, self.subset)]
            sign, logdet = np.linalg.slogdet(covariance)
            return float(np.exp(0.5 * logdet / len(self.subset))) if sign > 0 else np.inf
        sign, logdet = np.linalg.slogdet(matrix)
        return float(np.exp(-0.5 * logdet / len(matrix))) if sign > 0 else np.inf


def without_uncertain_errors(found: PopulationInformation) -> PopulationInformation:
    """The same with the error variances taken as known."""
    keep = [i for i, n in enumerate(found.names) if not n.startswith("sigma2")]
    return replace(
        found, matrix=found.matrix[np.ix_(keep, keep)], names=tuple(found.names[i] for i in keep),
        value=found.value[keep], relative=found.relative[keep],
    )  # fmt: skip
