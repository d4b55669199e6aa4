"""A function of time fitted to blood samples: estimates with errors, the samples, print, table and plot."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError, did_you_mean
from ..formats.curve import Curve
from .result import Estimate

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Fitted:
    """One fitted function; call it with times in minutes.

    Parameters
    ----------
    what, family : such as "input function", "feng" [text]
    estimates : parameters with errors
    covariance : (k, k) of the estimates that were not fixed, in their order [product of units]
    samples : the fitted curve as it was used, decay-corrected
    predicted : (n,) at the samples, or over their frames [unit]
    variance : (n,) of the samples, up to one factor [unit^2]
    function : times [min] -> values
    remake : (all parameters,) array -> such a function
    reference : where the function is described [text]
    """

    what: str
    family: str
    estimates: tuple[Estimate, ...]
    covariance: Array
    samples: Curve
    predicted: Array
    variance: Array
    function: Callable[[Array], Array]
    remake: Callable[[Array], Callable[[Array], Array]]
    reference: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __call__(self, t: ArrayLike) -> Array:
        """Value at t, (n,) [min]."""
        return self.function(np.asarray(t, dtype=float))

    def __getitem__(self, name: str) -> float:
        for one in self.estimates:
            if one.name == name:
                return one.value
        known = [e.name for e in self.estimates]
        raise FitError(f"{self.family}: no {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")

    def error(self, t: ArrayLike) -> Array:
        """Standard error of the function at t, (n,), from the errors of its parameters [unit]."""
        times, at = np.asarray(t, dtype=float), np.array([e.value for e in self.estimates])
        free = np.flatnonzero([e.se != 0 for e in self.estimates])
        sides = []
        for k in free:
            step = np.zeros(at.size)
            step[k] = 1e-4 * max(abs(at[k]), 1e-4)
            sides.append((self.remake(at + step)(times) - self.remake(at - step)(times)) / (2 * step[k]))
        slopes = np.column_stack(sides)
        return np.asarray(np.sqrt(np.maximum(np.sum((slopes @ self.covariance) * slopes, axis=1), 0.0)), dtype=float)

    @property
    def values(self) -> dict[str, float]:
        """Name -> value."""
        return {e.name: e.value for e in self.estimates}

    @property
    def residuals(self) -> Array:
        """(n,) measured minus fitted [unit]."""
        return self.samples.value - self.predicted

    @property
    def table(self) -> pd.DataFrame:
        """One row per parameter: value, se, unit, meaning."""
        import pandas as pd

        rows = [[e.value, e.se, e.unit, e.meaning] for e in self.estimates]
        index = pd.Index([e.name for e in self.estimates], name="parameter")
        return pd.DataFrame(rows, index=index, columns=["value", "se", "unit", "meaning"])

    def plot(self, **options: Any) -> Any:
        """Figure of samples and function (see `pkmodel.plot_pet.fitted_figure`)."""
        from ..plot_pet import fitted_figure

        return fitted_figure(self, **options)

    def _lines(self) -> list[str]:
        width = max(len(e.name) for e in self.estimates)
        rows = []
        for e in self.estimates:
            error = "fixed" if e.se == 0 else "unknown" if np.isnan(e.se) else f"+- {e.se:.2g}"
            rows.append(f"{e.name.ljust(width)}  {e.value:11.5g}  {error:>10}  {e.unit}".rstrip())
        return [*rows, *(f"note: {x}" for x in self.notes), *(f"warning: {x}" for x in self.warnings)]

    def _title(self) -> str:
        return f"{self.what}, {self.family}: {self.samples.region}, {self.samples.subject}, {len(self.samples)} values"

    def __str__(self) -> str:
        return "\n".join([self._title(), *self._lines()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<p><b>{html.escape(self._title())}</b></p><pre>{html.escape(chr(10).join(self._lines()))}</pre>"


def summarise(
    names: list[str], values: Array, jacobian: Array, residual: Array, free: NDArray[np.bool_]
) -> tuple[Array, Array, list[str]]:
    """Standard errors (0 where fixed), covariance of the free ones, and warnings.

    Parameters
    ----------
    names : all parameters [text]
    values : (k,) array
    jacobian : (n, number free) weighted derivatives by the free parameters, values that do not count left out
    residual : (n,) weighted residuals
    free : (k,) array [bool]
    """
    n, k = jacobian.shape
    size = np.sqrt(np.sum(jacobian**2, axis=0))
    safe = np.where(size > 0, size, 1.0)
    noise = float(residual @ residual) / (n - k) if n > k else float("nan")
    scaled = jacobian / safe
    covariance = noise * np.linalg.pinv(scaled.T @ scaled, hermitian=True) / np.outer(safe, safe)
    se = np.zeros(values.size)
    se[free] = np.where(size > 0, np.sqrt(np.maximum(np.diag(covariance), 0.0)), np.nan)
    loose = [x for x, v, e in zip(names, values.tolist(), se.tolist(), strict=True) if not e <= abs(v) and e != 0]
    warnings = [f"{', '.join(loose)}: not determined by these samples (error above the value)"] if loose else []
    if n <= k:
        warnings.append(f"{n} samples for {k} parameters: errors are unknown")
    return se, covariance, warnings
