"""What subjects and their occasions deviate by, as random variables that a sampler moves through easily.

A parameter that varies between subjects (spread omega) and between their occasions (spread kappa) is
x_io = theta + eta_i + kappa_io. With n occasions this is the same as their mean and what is left::

    m_i = N(theta, omega^2 + kappa^2/n),   x_io - m_i = (H c_i)_o,   c_i = N(0, kappa^2), n - 1 of them

where the columns of H are orthonormal and each sums to zero (Helmert). So eta_i, of which a few occasions say little,
is integrated out: a spread between subjects near zero makes no funnel, and omega and kappa are told apart by m and c
alone. Means and contrasts are drawn themselves ("centred") or as standard normal numbers times their spread. What a
subject has no data of is always drawn the second way, unless it is correlated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..population.layout import Layout

type Floats = NDArray[np.float64]


def visits_of(layout: Layout) -> NDArray[np.bool_]:
    """Occasions of which a subject has data, (people, occasions, switching parameters).

    Parameters
    ----------
    layout : of the population
    """
    out = np.zeros((len(layout.used), layout.occasions, len(layout.switching)), dtype=bool)
    switching = list(layout.switching)
    for c, (slot, k) in enumerate(zip(layout.columns, layout.of, strict=True)):
        if k in switching:
            out[:, int(slot.occasion) - 1, switching.index(k)] = layout.used[:, c]
    return out


def contrasts(used: NDArray[np.bool_]) -> Floats:
    """Orthonormal contrasts among the occasions that are used, (occasions, occasions - 1), zero elsewhere.

    Parameters
    ----------
    used : (occasions,) mask
    """
    out = np.zeros((used.size, max(used.size - 1, 0)))
    at = np.flatnonzero(used)
    for j in range(1, at.size):
        out[at[:j], j - 1] = 1.0 / np.sqrt(j * (j + 1))
        out[at[j], j - 1] = -j / np.sqrt(j * (j + 1))
    return out


def normal(name: str, middle: Any, sd: Any, known: NDArray[np.bool_], *, centred: bool) -> Any:
    """Independent normal numbers, of the shape of `known`.

    Parameters
    ----------
    name : of what is drawn; with "raw " before it where standard normal numbers are [text]
    middle, sd : of each number, of PyTensor
    known : whether data tell of a number
    centred : whether those are drawn themselves
    """
    import pymc as pm
    import pytensor.tensor as pt

    if not centred:
        return middle + pm.Normal(f"raw {name}", shape=known.shape) * sd
    if known.all():
        return pm.Normal(name, middle, sd, shape=known.shape)
    whole = pt.zeros(known.shape)
    middle, sd = middle + whole, sd + whole
    told, other = np.nonzero(known), np.nonzero(~known)
    drawn = pm.Normal(name, middle[told], sd[told], shape=len(told[0]))
    rest = middle[other] + pm.Normal(f"raw {name}", shape=len(other[0])) * sd[other]
    return pt.set_subtensor(pt.set_subtensor(whole[told], drawn)[other], rest)


def correlated(name: str, middle: Any, root: Any, added: Any, counts: Floats, *, centred: bool) -> Any:
    """Normal vectors, one a subject, (people, q), of a covariance, plus `added` over each subject's counts.

    Parameters
    ----------
    name : see `normal`
    middle : (people, q) matrix
    root : (q, q) factor of the covariance
    added : (q,) variances; None: nothing is added
    counts : (people, q) array, inf where nothing is added
    centred : whether the vectors are drawn themselves
    """
    import pymc as pm
    import pytensor.tensor as pt

    kinds, which = np.unique(counts, axis=0, return_inverse=True)
    out = pt.zeros(counts.shape)
    for n, kind in enumerate(kinds):
        mine = np.flatnonzero(which.ravel() == n)
        factor = root if added is None else pt.linalg.cholesky(pt.dot(root, root.T) + pt.diag(added / kind))
        label = name if len(kinds) == 1 else f"{name} {n + 1}"
        shape = (mine.size, counts.shape[1])
        if centred:
            drawn = pm.MvNormal(label, middle[mine], chol=factor, shape=shape)
        else:
            drawn = middle[mine] + pt.dot(pm.Normal(f"raw {label}", shape=shape), factor.T)
        out = drawn if len(kinds) == 1 else pt.set_subtensor(out[mine], drawn)
    return out


def parted(layout: Layout, shift: Any | None) -> tuple[Any | None, Any | None]:
    """What covariates add, as the mean over a subject's columns of each parameter, and what is left.

    Parameters
    ----------
    layout : of the population: k parameters
    shift : (N, columns) matrix, or None

    Returns
    -------
    (N, k) and (N, columns) matrices of PyTensor, or None
    """
    import pytensor.tensor as pt

    if shift is None:
        return None, None
    mean = np.zeros((*layout.used.shape, len(layout.slots)))
    for c, k in enumerate(layout.of):
        mean[:, c, k] = layout.used[:, c]
    mean /= np.maximum(mean.sum(axis=1, keepdims=True), 1.0)
    common = (shift[:, :, None] * mean).sum(axis=1)
    varies = np.isin(layout.of, [*layout.varying, *layout.switching])
    return common, shift - pt.switch(varies, common[:, layout.of], 0.0)


def deviating(
    layout: Layout, theta: list[Any], omega: Any, correlation: Any | None, kappa: Any, common: Any | None,
    rest: Any | None, *, centred: bool,
) -> tuple[Any, Any]:  # fmt: skip
    """Parameters of every subject (N, m) and occasion (N, occasions, r), on the scale of the fit.

    Covariates are part of the mean that is deviated from: centred draws would otherwise hang on their coefficients.

    Parameters
    ----------
    layout : of the population: m parameters vary between subjects, r between occasions
    theta : typical values
    omega, kappa : (m,) and (r,) spreads; None where nothing varies so
    correlation : (m, m) Cholesky factor of the correlations between subjects, or None
    common, rest : from `parted`; the rest is added to occasions, and left out of the subjects' own
    centred : whether means and contrasts are drawn themselves
    """
    import pytensor.tensor as pt

    varying, switching = [int(k) for k in layout.varying], [int(k) for k in layout.switching]
    every = sorted({*varying, *switching})
    if not every:
        return None, None
    used = visits_of(layout)
    N, at = len(layout.used), {k: j for j, k in enumerate(every)}
    counts = np.full((N, len(every)), np.inf)
    for j, k in enumerate(switching):
        n = used[:, :, j].sum(axis=1)
        counts[:, at[k]] = np.where(n > 0, n, np.inf)
    known = np.stack([layout.used[:, layout.of == k].any(axis=1) for k in every], axis=1)
    middle = pt.zeros((N, len(every))) + pt.stack([theta[k] for k in every])
    if common is not None:
        middle = middle + common[:, every]
    among, switched = [at[k] for k in varying], [at[k] for k in switching]
    visiting = pt.set_subtensor(pt.zeros(len(every))[switched], kappa**2) if switching else None
    if correlation is None:
        variance = pt.set_subtensor(pt.zeros(len(every))[among], omega**2) if varying else 0.0
        variance = variance + (visiting / counts if switching else pt.zeros(counts.shape))
        means = normal("subjects", middle, pt.sqrt(variance), known, centred=centred)
    else:
        root = pt.set_subtensor(pt.zeros((len(every),) * 2)[np.ix_(among, among)], correlation * omega[:, None])
        means = correlated("subjects", middle, root, visiting, counts, centred=centred)
    own = means[:, among] if varying else None
    if not switching:
        return own, None
    return own, means[:, None, switched] + _around(layout, used, kappa, rest, centred=centred)


def _around(layout: Layout, used: NDArray[np.bool_], kappa: Any, rest: Any | None, *, centred: bool) -> Any:
    """What occasions differ by from their subject's mean, (N, occasions, r)."""
    import pytensor.tensor as pt

    N, visits, r = used.shape
    basis = np.stack([[contrasts(used[i, :, j]) for j in range(r)] for i in range(N)])  # (N, r, visits, visits - 1)
    free = basis.any(axis=2)  # (N, r, visits - 1)
    if not free.any():
        return pt.zeros(used.shape)
    rows = np.nonzero(free)
    middle: Any = 0.0
    if rest is not None:
        moved = pt.zeros((N, r, visits))
        for c, (slot, k) in enumerate(zip(layout.columns, layout.of, strict=True)):
            if k in layout.switching:
                place = (slice(None), list(layout.switching).index(k), int(slot.occasion) - 1)
                moved = pt.set_subtensor(moved[place], rest[:, c])
        middle = (moved[:, :, :, None] * basis).sum(axis=2)[rows]
    drawn = normal("occasions", middle, kappa[rows[1]], np.ones(len(rows[0]), dtype=bool), centred=centred)
    c = pt.set_subtensor(pt.zeros(free.shape)[rows], drawn)
    return (c[:, :, None, :] * basis).sum(axis=3).transpose(0, 2, 1)
