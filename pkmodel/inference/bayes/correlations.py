"""Which random effects are correlated with which."""

from __future__ import annotations

from collections.abc import Iterable


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
