"""Population fits of the same data side by side: objective, AIC, BIC, and the likelihood ratio of nested ones.

The test refers to chi-squared with as many degrees of freedom as parameters were added. For a variance that may be zero
that is conservative: the distribution is then a mixture (Stram & Lee 1994, doi:10.2307/2533455).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import chi2

from ....errors import FitError
from .shown import markup, text

if TYPE_CHECKING:
    import pandas as pd

    from ..result import PopulationFit


@dataclass(frozen=True, eq=False)
class PopulationComparison:
    """Fits of the same data, in the order given.

    Parameters
    ----------
    fits : by name
    table : one row per fit: parameters, objective, -2 log L, AIC, BIC (log of the number of values for every
        parameter), BIC mixed (log of the subjects for what varies between them), and against the first fit the change
        of the objective, degrees of freedom, and p of the likelihood ratio where one is nested in the other
    notes : what a reader should know [text]
    """

    fits: Mapping[str, PopulationFit]
    table: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def best(self) -> str:
        """Name of the fit with the lowest BIC for mixed models."""
        return str(self.table["fit"].iloc[int(np.argmin(self.table["BIC mixed"].to_numpy(dtype=float)))])

    def _title(self) -> list[str]:
        one = next(iter(self.fits.values()))
        return [f"{len(self.fits)} population fits of {one.points} values of {len(one.subjects)} subjects"]

    def __str__(self) -> str:
        return text(self._title(), [self.table], self.notes)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return markup(self._title(), [self.table], self.notes)


def compare_populations(fits: Mapping[str, PopulationFit] | Sequence[PopulationFit]) -> PopulationComparison:
    """Compare population fits of the same data; the first is the reference.

    Parameters
    ----------
    fits : by name, or in order

    Raises
    ------
    FitError
        The fits are not of the same data.
    """
    import pandas as pd

    if not isinstance(fits, Mapping | Sequence):
        raise FitError("one fit to compare; give at least two, as a list or by name")
    named = dict(fits) if isinstance(fits, Mapping) else _names(fits)
    if len(named) < 2:
        raise FitError(f"{len(named)} fit to compare; give at least two")
    first_name, first = next(iter(named.items()))
    notes: list[str] = []
    rows = []
    for name, fit in named.items():
        _check(first_name, first, name, fit)
        row: dict[str, object] = {
            "fit": name, "model": fit.model.name, "method": fit.method, "parameters": fit.phi.size,
            "objective": fit.objective, "-2 log L": fit.minus_two_log_likelihood, "AIC": fit.aic, "BIC": fit.bic,
            "BIC mixed": fit.bic_mixed, "change": fit.objective - first.objective,
        }  # fmt: skip
        if fit is not first and (found := _ratio(first, fit)):
            row |= found
        if fit.minimum.interrupted or not fit.minimum.converged:
            notes.append(f"{name} did not converge: {fit.minimum.message}")
        if fit.monte_carlo_error:
            notes.append(f"the objective of {name} has a Monte Carlo error of {fit.monte_carlo_error:.2g}")
        rows.append(row)
    if len({f.method for f in named.values()}) > 1:
        notes.append("the objectives are of different approximations: small differences mean nothing")
    table = pd.DataFrame(rows)
    if "p" in table and any(_variances(f) != _variances(first) for f in named.values()):
        notes.append("p of a variance that may be zero is conservative (about halve it for one variance)")
    notes.append(f"BIC counts {first.crowd.data.points} values; BIC mixed also {len(first.subjects)} subjects")
    return PopulationComparison(named, table, tuple(dict.fromkeys(notes)))


def _names(fits: Sequence[PopulationFit]) -> dict[str, PopulationFit]:
    plain = [f"{f.model.name} {f.method}" for f in fits]
    return {p if plain.count(p) == 1 else f"{p} {n + 1}": f for n, (p, f) in enumerate(zip(plain, fits, strict=True))}


def _check(first_name: str, first: PopulationFit, name: str, fit: PopulationFit) -> None:
    mine, theirs = first.crowd.data, fit.crowd.data
    same = first.subjects == fit.subjects and len(mine) == len(theirs)
    same = same and np.array_equal(mine.counted, theirs.counted) and np.array_equal(mine.censored, theirs.censored)
    counted = mine.counted
    if not same or not np.allclose(mine.value[counted], theirs.value[counted], rtol=1e-9, equal_nan=True):
        raise FitError(
            f"{name} and {first_name} were not fitted to the same values of the same subjects; their likelihoods do "
            "not compare"
        )


def _variances(fit: PopulationFit) -> set[str]:
    return {n for n in fit.crowd.layout.names if n.startswith(("omega ", "occasion "))}


def _ratio(first: PopulationFit, fit: PopulationFit) -> dict[str, float] | None:
    """Degrees of freedom and p, where the parameters of one are among those of the other; else nothing."""
    a, b = set(first.crowd.layout.names), set(fit.crowd.layout.names)
    nested = first.model.digest == fit.model.digest and first.method == fit.method and (a < b or b < a)
    kinds = [[s.kind for s in f.crowd.noise.scatters] for f in (first, fit)]
    if not nested or kinds[0] != kinds[1]:
        return None
    df = abs(len(a) - len(b))
    fall = (first.objective - fit.objective) * (1 if a < b else -1)
    return {"df": df, "p": float(chi2.sf(max(fall, 0.0), df))}
