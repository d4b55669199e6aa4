"""Several models for the same data: information criteria, Akaike weights, and what follows averaged over models.

Weights are exp(-delta/2) of AICc (Burnham & Anderson 2004, doi:10.1177/0049124104268644) over all data of a fit; where
there are too few points for AICc, that is said, and nothing is weighed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError
from .result import Fit

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Comparison:
    """Fits of different models to the same data, in the order given."""

    fits: tuple[Fit, ...]
    criterion: str = "aicc"

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per model: points, parameters, AIC, AICc, BIC, difference and Akaike weight."""
        import pandas as pd

        rows = [
            {
                "model": f.model.name,
                "protocol": f.protocol.name,
                "points": f.points,
                "parameters": len(f.slots),
                "AIC": f.aic,
                "AICc": f.aicc,
                "BIC": f.bic,
                "delta": d,
                "weight": w,
                "warnings": len(f.warnings),
            }
            for f, d, w in zip(self.fits, self.delta, self.weights, strict=True)
        ]
        return pd.DataFrame(rows)

    @cached_property
    def delta(self) -> tuple[float, ...]:
        """Difference of the criterion to the best model; nan where it is undefined."""
        scores = [getattr(f, self.criterion) for f in self.fits]
        finite = [s for s in scores if math.isfinite(s)]
        return tuple(s - min(finite) if finite else math.nan for s in scores)

    @cached_property
    def weights(self) -> tuple[float, ...]:
        """Akaike weights; a model whose criterion is undefined has weight zero, all nan if none is defined."""
        if all(math.isnan(d) for d in self.delta):
            return tuple(math.nan for _ in self.fits)
        raw = [0.0 if math.isnan(d) else math.exp(-0.5 * d) for d in self.delta]
        return tuple(r / sum(raw) for r in raw)

    @property
    def best(self) -> Fit:
        """Fit with the largest weight.

        Raises
        ------
        FitError
            The criterion is defined for no model.
        """
        if any(math.isnan(w) for w in self.weights):
            raise FitError(f"{self.criterion} is undefined for every model: too few points; compare by 'aic' or 'bic'")
        return self.fits[int(np.argmax(self.weights))]

    @property
    def notes(self) -> list[str]:
        """What to keep in mind when reading the table."""
        undefined = [f.model.name for f in self.fits if math.isnan(getattr(f, self.criterion))]
        if not undefined:
            return []
        return [f"{self.criterion} is undefined for {', '.join(undefined)} (too few points): weight 0, not judged bad"]

    def shares(self, n: int) -> list[int]:
        """How many of n draws each model contributes, by weight (largest remainders); they sum to n."""
        if any(math.isnan(w) for w in self.weights):
            raise FitError(f"{self.criterion} is undefined for every model: nothing to average by")
        exact = np.array(self.weights) * n
        counts = np.floor(exact).astype(int)
        for k in np.argsort(exact - counts)[::-1][: n - counts.sum()]:
            counts[k] += 1
        return [int(c) for c in counts]

    def __str__(self) -> str:
        from .words import aligned

        t = self.table.copy()
        for column in ("AIC", "AICc", "BIC", "delta"):
            t[column] = [("undefined" if math.isnan(v) else f"{v:.2f}") for v in t[column]]
        t["weight"] = [("-" if math.isnan(v) else f"{v:.3f}") for v in t["weight"]]
        return "\n".join([*aligned(t), *(f"note: {n}" for n in self.notes)])

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{n}</p>" for n in self.notes)
        return str(self.table.to_html(index=False, border=0, float_format="{:.3f}".format)) + notes


def compare(fits: Sequence[Fit], criterion: str = "aicc") -> Comparison:
    """Compare fits of different models to the same data.

    Parameters
    ----------
    fits : two or more fits of the same points
    criterion : "aicc", "aic" or "bic" [text]

    Raises
    ------
    FitError
        The fits are not of the same data with the same error model, so their likelihoods cannot be compared.
    """
    if criterion not in ("aicc", "aic", "bic"):
        raise FitError(f"criterion {criterion!r} is not known; allowed: aicc, aic, bic")
    if len(fits) < 2:
        raise FitError(f"{len(fits)} fit to compare; give at least two")
    first = fits[0]
    for other in fits[1:]:
        if other.protocol.error != first.protocol.error:
            raise FitError(
                f"{other.model.name} was fitted with error {other.protocol.error} and {first.model.name} with "
                f"{first.protocol.error}; likelihoods compare only under one error model"
            )
        mine, theirs = first.residuals, other.residuals
        same: bool = len(mine) == len(theirs) and bool((mine["region"] == theirs["region"]).all())
        same = same and np.array_equal(_counts(first), _counts(other))
        if not same or not np.allclose(mine["measured"], theirs["measured"], rtol=1e-9):
            raise FitError(f"{other.model.name} and {first.model.name} were not fitted to the same points")
    return Comparison(tuple(fits), criterion)


def _counts(fit: Fit) -> NDArray[np.bool_]:
    """Which measurements count, in the order of `Fit.residuals`."""
    return np.concatenate([np.isfinite(v) for block in fit.likelihood.variances for v in block])
