"""Which random effects are correlated with which, and what is thought of correlations before the data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def groups_of(entries: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Groups of effects that are correlated, from the free entries of a Cholesky factor.

    Parameters
    ----------
    entries : (row, column) of each free entry
    """
    groups: list[set[int]] = []
    for i, j in entries:
        if i != j:
            joined = [g for g in groups if g & {i, j}]
            groups = [g for g in groups if not g & {i, j}] + [set.union({i, j}, *joined)]
    return sorted(sorted(g) for g in groups)


def lkj_root(name: str, n: int, eta: float) -> Any:
    """Cholesky factor of a correlation matrix with density det^(eta - 1), (n, n), in the PyMC model being built.

    From the partial correlations of a C-vine: of the j-th variable with each later one, given those before it,
    (r + 1)/2 is of the beta distribution with both numbers eta + (n - 1 - j)/2 (Lewandowski et al. 2009,
    doi:10.1016/j.jmva.2009.04.008). Written out here because PyMC's own changed its meaning between versions.

    Parameters
    ----------
    name : of what is drawn [text]
    n : variables [1]
    eta : above 1 prefers small correlations [1]
    """
    import pymc as pm
    import pytensor.tensor as pt

    rows, columns = np.tril_indices(n, -1)
    shape = eta + (n - 2 - columns) / 2
    partial = 2 * pm.Beta(name, shape, shape, shape=len(rows)) - 1
    root: list[list[Any]] = [[pt.constant(0.0)] * n for _ in range(n)]
    for i in range(n):
        rest: Any = pt.constant(1.0)
        for j in range(i):
            r = partial[i * (i - 1) // 2 + j]
            root[i][j] = r * pt.sqrt(rest)
            rest = rest * (1 - r**2)
        root[i][i] = pt.sqrt(rest)
    return pt.stack([pt.stack(row) for row in root])
