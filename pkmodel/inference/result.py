"""`Fit`: estimates with their uncertainty, what the data say against them, and draws for everything that follows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data import Curves
from ..errors import FitError
from ..model import Model
from ..solve.status import Status
from ..units import factor
from .least_squares import Optimum
from .likelihood import Likelihood
from .protocol import Protocol
from .slots import Slot
from .uncertainty import Spread, draw, spread_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A model fitted to the curves of one subject.

    `groups` and `optima` go together: each group shares no free parameter with the others. Numbers in tables are in
    the declared units; `x` and `covariance` are on the scale of the fit (log for positive parameters).
    """

    model: Model
    curves: Curves
    protocol: Protocol
    likelihood: Likelihood
    groups: tuple[Likelihood, ...]
    optima: tuple[Optimum, ...]
    method: str
    warnings: tuple[str, ...] = ()

    # -- estimates -----------------------------------------------------------------------------------------------

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Free parameters in the order of `x`."""
        return tuple(s for g in self.groups for s in g.slots)

    @cached_property
    def x(self) -> Array:
        """Estimates on the scale of the fit, (k,)."""
        return np.concatenate([o.x for o in self.optima])

    @cached_property
    def scales(self) -> tuple[float, ...]:
        """Estimated variance of a standardised residual, one per group."""
        if self.protocol.error.absolute:
            return tuple(1.0 for _ in self.groups)
        counts = [(o.chi2, g.points - len(g.slots)) for g, o in zip(self.groups, self.optima, strict=True)]
        if self.protocol.error.pooled:
            total = sum(d for _, d in counts)
            pooled = sum(c for c, _ in counts) / total if total > 0 else math.nan
            return tuple(pooled for _ in counts)
        return tuple(c / d if d > 0 else math.nan for c, d in counts)

    @property
    def freedoms(self) -> list[int]:
        """Degrees of freedom behind the error of each group (of all together, where pooled; 0 where it is known)."""
        counts = [0 if self._absolute else g.points - len(g.slots) for g in self.groups]
        return [sum(counts)] * len(counts) if self.protocol.error.pooled else counts

    @property
    def freedom(self) -> int:
        """Smallest degrees of freedom behind an error estimate."""
        return min(self.freedoms)

    @cached_property
    def spreads(self) -> list[Spread]:
        """Uncertainty of each group."""
        return [spread_of(o, s) for o, s in zip(self.optima, self.scales, strict=True)]

    @property
    def held(self) -> tuple[str, ...]:
        """Labels of the parameters that no datum informs: held at their estimates, error unknown."""
        flags = [h for spread in self.spreads for h in spread.held]
        return tuple(s.label for s, h in zip(self.slots, flags, strict=True) if h)

    @cached_property
    def covariance(self) -> Array:
        """Covariance of the estimates on the scale of the fit, (k, k).

        Zero for what is `held`; nan for a group without freedom to estimate an error from.
        """
        from scipy.linalg import block_diag

        return np.asarray(block_diag(*(s.covariance for s in self.spreads)), dtype=float)

    @cached_property
    def correlations(self) -> Array:
        """Correlation of the estimates, (k, k), in the order of `slots`."""
        sd = np.sqrt(np.diag(self.covariance))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.covariance / np.outer(sd, sd), dtype=float)

    @cached_property
    def correlation(self) -> pd.DataFrame:
        """Correlation of the estimates."""
        import pandas as pd

        names = [s.label for s in self.slots]
        return pd.DataFrame(self.correlations, index=names, columns=names)

    @cached_property
    def errors(self) -> Array:
        """Standard errors of the estimates in declared units, (k,); nan where unknown."""
        sd = np.sqrt(np.diag(self.covariance))
        out = [float(s.slope(v)) * float(e) / factor(s.unit) for s, v, e in zip(self.slots, self.x, sd, strict=True)]
        held = self.held
        return np.array([math.nan if s.label in held else e for s, e in zip(self.slots, out, strict=True)])

    @cached_property
    def values(self) -> dict[str, float]:
        """Estimates by label, in declared units, e.g. ``fit.values["k_washout[liver]"]``."""
        return {s.label: float(s.from_scale(v)) / factor(s.unit) for s, v in zip(self.slots, self.x, strict=True)}

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per free parameter: value, se, relative se [%], 95 % interval, unit; se nan where it is unknown."""
        import pandas as pd
        from scipy.stats import t as student

        sd = np.sqrt(np.diag(self.covariance))
        freedoms = [f for g, f in zip(self.groups, self.freedoms, strict=True) for _ in g.slots]
        rows = []
        for s, v, e, se, freedom in zip(self.slots, self.x, sd, self.errors.tolist(), freedoms, strict=True):
            unit = factor(s.unit)
            error = math.inf if s.label in self.held else float(e)
            wide = float(student.ppf(0.975, freedom)) if freedom > 0 else 1.959964
            with np.errstate(over="ignore"):
                ends = [float(s.from_scale(v + sign * wide * error)) / unit for sign in (-1, 1)]
            ends = [max(ends[0], s.lower / unit), min(ends[1], s.upper / unit)]
            value = float(s.from_scale(v)) / unit
            rse = 100 * se / abs(value) if value else math.nan
            rows.append([s.label, s.parameter, s.region, value, se, rse, *ends, s.unit])
        columns = ["label", "parameter", "region", "value", "se", "rse_percent", "low", "high", "unit"]
        return pd.DataFrame(rows, columns=columns).set_index("label")

    @property
    def _absolute(self) -> bool:
        return self.protocol.error.absolute

    @cached_property
    def derived(self) -> pd.DataFrame:
        """Results computed from the estimates (VT, half-lives ...), with delta-method standard errors."""
        from .derived import derived_table

        return derived_table(self)

    # -- quality ---------------------------------------------------------------------------------------------------

    @property
    def points(self) -> int:
        """Data that count."""
        return self.likelihood.points

    @property
    def chi2(self) -> float:
        """Sum of squared standardised residuals (standardised up to one scale, see `scales`)."""
        return sum(o.chi2 for o in self.optima)

    @property
    def estimated(self) -> int:
        """Number of estimated numbers, error scales included (K of the information criteria)."""
        scales = 0 if self._absolute else 1 if self.protocol.error.pooled else len(self.groups)
        return len(self.slots) + scales

    @cached_property
    def minus_two_log_likelihood(self) -> float:
        """-2 log likelihood at the estimates, Gaussian, variances maximum-likelihood where they are estimated.

        nan where a curve through every point leaves nothing to estimate one from: the likelihood has no maximum.
        """
        if not self._absolute and self.freedom == 0:
            return math.nan
        total = sum(float(np.log(v[np.isfinite(v)]).sum()) for block in self.likelihood.variances for v in block)
        n = self.points
        if self._absolute:
            return total + n * math.log(2 * math.pi) + self.chi2
        if self.protocol.error.pooled:
            return total + n * (math.log(2 * math.pi * max(self.chi2, 1e-300) / n) + 1)
        parts = ((o.chi2, g.points) for g, o in zip(self.groups, self.optima, strict=True))
        return total + sum(m * (math.log(2 * math.pi * max(c, 1e-300) / m) + 1) for c, m in parts)

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return self.minus_two_log_likelihood + 2 * self.estimated

    @property
    def aicc(self) -> float:
        """AIC with the small-sample correction (Hurvich & Tsai 1989, doi:10.1093/biomet/76.2.297); nan where n is too
        small for it."""
        left = self.points - self.estimated - 1
        return self.aic + 2 * self.estimated * (self.estimated + 1) / left if left > 0 else math.nan

    @property
    def bic(self) -> float:
        """Schwarz's criterion."""
        return self.minus_two_log_likelihood + self.estimated * math.log(self.points)

    @cached_property
    def residuals(self) -> pd.DataFrame:
        """One row per measurement: predicted, residual, standardised residual."""
        import pandas as pd

        frames = []
        for block, variances in zip(self.likelihood.blocks, self.likelihood.variances, strict=True):
            solution, _ = block.solve(self._slot_values(self.x), tangents=False)
            for observer, variance in zip(block.observers, variances, strict=True):
                c = observer.curve
                scale = self._scale_of(c.region)
                predicted = observer.predict(solution)
                with np.errstate(invalid="ignore", divide="ignore"):
                    standardised = (c.value - predicted) / np.sqrt(variance * scale)
                frames.append(
                    pd.DataFrame(
                        {
                            "region": c.region,
                            "time_h": c.t,
                            "measured": c.value,
                            "predicted": predicted,
                            "residual": c.value - predicted,
                            "standardised": standardised,
                            "sd": np.sqrt(variance * scale),
                            "unit": c.unit,
                        }
                    )
                )
        return pd.concat(frames, ignore_index=True)

    def _scale_of(self, region: str) -> float:
        return next(s for g, s in zip(self.groups, self.scales, strict=True) if region in g.regions)

    def _slot_values(self, x: Array) -> Array:
        """Canonical values in the order of the whole likelihood's slots from x in the order of the groups."""
        by_label = {s.label: s.from_scale(v) for s, v in zip(self.slots, x, strict=True)}
        return np.array([by_label[s.label] for s in self.likelihood.slots])

    # -- what follows from it ----------------------------------------------------------------------------------------

    def draws_on_scale(self, n: int, seed: int = 0) -> Array:
        """Draws of the estimates on the scale of the fit, (n, k), inside the bounds.

        Normal, or Student's t with the degrees of freedom of the error estimate where that was estimated; exact for
        a linear model, an approximation otherwise (profile intervals and Bayes go further). What no datum informs
        (`held`) stays at its estimate.

        Parameters
        ----------
        n : draws [1]
        seed : of the random numbers [1]

        Raises
        ------
        FitError
            There is no freedom left to estimate an error from.
        """
        if not np.all(np.isfinite(self.covariance)):
            raise FitError(
                f"{self.curves.subject}: as many parameters as points leave no estimate of the error; fix a parameter, "
                "pool the error over regions (error = { pooled = true }), or give the data an sd"
            )
        away = draw(self.spreads, self.freedoms, pooled=self.protocol.error.pooled, n=n, seed=seed)
        box = np.array([s.box for s in self.slots])
        return np.asarray(np.clip(self.x + away, box[:, 0], box[:, 1]), dtype=float)

    def draws(self, n: int = 1000, seed: int = 0) -> pd.DataFrame:
        """Draws of the estimates in declared units, one column per free parameter."""
        import pandas as pd

        x = self.draws_on_scale(n, seed)
        columns = {s.label: np.asarray(s.from_scale(x[:, j])) / factor(s.unit) for j, s in enumerate(self.slots)}
        return pd.DataFrame(columns)

    def predict(self, region: str, times: ArrayLike, x: Array | None = None) -> Array:
        """Predicted curve of a region in the unit of its data and with their decay flag.

        Parameters
        ----------
        region : fitted region [text]
        times : (m,) array, increasing [h]
        x : (k,) or (n, k) array on the scale of the fit; default the estimates

        Returns
        -------
        (m,) or (n, m) array, unit of the region's data

        Raises
        ------
        FitError
            The region was not fitted, or the model cannot be solved at x.
        """
        from ..observation import observe
        from ..simulation import prepare

        grid = np.asarray(times, dtype=float)
        block, observer = next(
            ((b, o) for b in self.likelihood.blocks for o in b.observers if o.curve.region == region), (None, None)
        )
        if block is None or observer is None:
            raise FitError(f"region {region!r} was not fitted; fitted: {', '.join(self.likelihood.regions)}")
        c = observer.curve
        empty = np.full(grid.size, math.nan)
        wanted = c.replace(
            t_start=grid, t_end=grid, value=np.zeros(grid.size), sd=empty, weights=empty,
            n=np.ones(grid.size, dtype=int), volume=empty, rows=(),
        )  # fmt: skip
        problem = prepare(block.problem.model, block.problem.regimen, grid, inputs=block.problem.inputs)
        seen = observe(problem.model, wanted, mode="midpoint")
        sets = np.atleast_2d(self.x if x is None else x)
        out = np.empty((len(sets), grid.size))
        for k, row in enumerate(sets):
            solution = problem.solve(block.parameters(self._slot_values(row)))
            if solution.status != Status.OK:
                raise FitError(
                    f"{region}: {self.model.name} could not be solved for row {k + 1} of x: {solution.message}"
                )
            out[k] = seen.predict(solution)
        return out[0] if x is None or np.ndim(x) == 1 else out

    def profile(self, label: str, level: float = 0.95) -> tuple[float, float]:
        """Profile-likelihood interval of one parameter, in its declared unit (see `profile.interval`)."""
        from .profile import interval

        return interval(self, label, level)

    def plot(self, **options: Any) -> Any:
        """Figure of curves, bands, data and residuals (see `pkmodel.plot.fit_figure`)."""
        from ..plot import fit_figure

        return fit_figure(self, **options)

    def dataset(self) -> xr.Dataset:
        """Everything as one Dataset: estimates, covariance, residuals, provenance."""
        import xarray as xr

        t, r = self.table, self.residuals
        data = xr.Dataset(
            {
                **{c: ("parameter", t[c].to_numpy()) for c in ("value", "se", "low", "high")},
                "unit": ("parameter", t["unit"].to_numpy(dtype=str)),
                "covariance": (("parameter", "parameter2"), self.covariance),
                **{c: ("point", r[c].to_numpy()) for c in ("time_h", "measured", "predicted", "standardised")},
                "region": ("point", r["region"].to_numpy(dtype=str)),
            },
            coords={"parameter": list(t.index), "parameter2": list(t.index)},
        )
        data["covariance"].attrs["note"] = "on the scale of the fit: log of positive parameters"
        data.attrs = {
            "model": self.model.name,
            "model_digest": self.model.digest,
            "protocol": self.protocol.name,
            "subject": self.curves.subject,
            "study": self.curves.study,
            "method": self.method,
            "aic": self.aic,
            "aicc": self.aicc,
            "bic": self.bic,
            "held": ", ".join(self.held),
            "warnings": "\n".join(self.warnings),
        }
        return data

    def to_netcdf(self, path: str | Path) -> None:
        """Write `dataset()` as NetCDF."""
        self.dataset().to_netcdf(path, engine="h5netcdf")

    def __str__(self) -> str:
        from .words import describe

        return describe(self)

    def _repr_html_(self) -> str:
        from .words import describe_html

        return describe_html(self)
