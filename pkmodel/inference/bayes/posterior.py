"""`BayesFit`: draws from a posterior, what they say, and everything that follows from them."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...data import Curves
from ...errors import FitError
from ...expressions import symbol
from ...model import Model
from ...units import factor
from ..likelihood import Likelihood
from ..protocol import Protocol
from ..slots import Slot
from .priors import Prior

if TYPE_CHECKING:
    import pandas as pd

type Floats = NDArray[np.float64]

SENSITIVE = 0.05  # of a power-scaling diagnostic (Kallioinen et al. 2024, doi:10.1007/s11222-023-10366-5)


@dataclass(frozen=True)
class BayesFit:
    """The posterior of a model given the curves of one subject.

    Numbers in tables and in `tree` are in the declared units; `x` is on the scale of the fit (log for positive ones).

    Parameters
    ----------
    tree : xarray.DataTree of ArviZ: posterior, sample_stats, posterior_predictive, log_likelihood, log_prior, prior,
        observed_data
    priors, noise_priors : of the parameters by label, of the sizes of the noise by name
    quality : R-hat, effective draws, divergences and E-BFMI
    method : "bayes" [text]
    how : how predictions were computed and draws made [text]
    """

    model: Model
    curves: Curves
    protocol: Protocol
    likelihood: Likelihood
    tree: Any
    priors: Mapping[str, Prior]
    noise_priors: Mapping[str, Prior]
    quality: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    method: str = "bayes"
    how: str = ""

    # -- draws ---------------------------------------------------------------------------------------------------

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Free parameters, in the order of `x`."""
        return self.likelihood.slots

    @property
    def names(self) -> list[str]:
        """Free parameters and free sizes of the noise."""
        return [*(s.label for s in self.slots), *self.noise_priors]

    @property
    def posterior(self) -> Any:
        """Draws as a Dataset over chain and draw, in declared units."""
        return self.tree["posterior"].to_dataset()

    @cached_property
    def on_scale(self) -> Floats:
        """Every draw on the scale of the fit, (chains*draws, k)."""
        from .groups import to_scale

        return to_scale(self.slots, self.posterior).reshape(-1, len(self.slots))

    @cached_property
    def x(self) -> Floats:
        """Posterior mean on the scale of the fit, (k,)."""
        return np.asarray(self.on_scale.mean(axis=0))

    @cached_property
    def covariance(self) -> Floats:
        """Posterior covariance on the scale of the fit, (k, k)."""
        return np.atleast_2d(np.cov(self.on_scale, rowvar=False))

    def draws_on_scale(self, n: int, seed: int = 0) -> Floats:
        """Some of the draws on the scale of the fit, (n, k); each at most once where there are enough.

        Parameters
        ----------
        n : draws [1]
        seed : of the choice [1]
        """
        have = len(self.on_scale)
        chosen = np.random.default_rng([seed, 13]).choice(have, size=n, replace=n > have)
        return np.asarray(self.on_scale[chosen])

    def draws(self, n: int = 1000, seed: int = 0) -> pd.DataFrame:
        """Some of the draws in declared units, one column per free parameter."""
        import pandas as pd

        x = self.draws_on_scale(n, seed)
        columns = {s.label: np.asarray(s.from_scale(x[:, j])) / factor(s.unit) for j, s in enumerate(self.slots)}
        return pd.DataFrame(columns)

    # -- tables --------------------------------------------------------------------------------------------------

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per parameter and size of the noise: median, SD, 95 % interval, R-hat, effective draws, unit."""
        import pandas as pd

        units = {s.label: s.unit for s in self.slots} | {s.name: s.unit for s in self.likelihood.noise.sizes}
        rows = []
        for n in self.names:
            v = self.posterior[n].to_numpy().ravel()
            low, value, high = np.quantile(v, [0.025, 0.5, 0.975])
            q = self.quality["parameters"][n]
            rows.append([n, value, v.std(ddof=1), low, high, q["rhat"], q["ess_bulk"], q["ess_tail"], units[n]])
        columns = ["label", "value", "sd", "low", "high", "rhat", "ess_bulk", "ess_tail", "unit"]
        return pd.DataFrame(rows, columns=columns).set_index("label")

    @cached_property
    def values(self) -> dict[str, float]:
        """Posterior medians by label, in declared units."""
        return {s.label: float(np.median(self.posterior[s.label])) for s in self.slots}

    @cached_property
    def derived(self) -> pd.DataFrame:
        """Results computed from every draw (VT, half-lives ...): median, SD and 95 % interval."""
        import pandas as pd

        rows = [[label, *summary, unit] for label, summary, unit in self._derive()]
        return pd.DataFrame(rows, columns=["label", "value", "sd", "low", "high", "unit"]).set_index("label")

    def _derive(self) -> list[tuple[str, list[float], str]]:
        import sympy as sp

        out = []
        for block in self.likelihood.blocks:
            region = block.observers[0].curve.region if self.model.scope == "region" else ""
            names = block.problem.compiled.parameters
            p = np.array([block.parameters(self.likelihood.values(x)) for x in self.on_scale])
            for d in self.model.derived.values():
                if d.formula is None:
                    continue
                formula = sp.lambdify([symbol(n) for n in names], d.formula.xreplace(self.model.resolved), "numpy")
                with np.errstate(all="ignore"):
                    v = np.broadcast_to(np.asarray(formula(*p.T), dtype=float), len(p)) / factor(d.unit)
                low, value, high = np.quantile(v, [0.025, 0.5, 0.975])
                label = f"{d.name}[{region}]" if region else d.name
                out.append((label, [float(value), float(np.std(v, ddof=1)), float(low), float(high)], d.unit))
        return out

    # -- checks --------------------------------------------------------------------------------------------------

    def loo(self) -> Any:
        """Expected log predictive density of new values by leaving each out (PSIS-LOO, Vehtari et al. 2017,
        doi:10.1007/s11222-016-9696-4); its Pareto k tell where it cannot be trusted."""
        import arviz as az

        return az.loo(self.tree, pointwise=True)

    def sensitivity(self) -> pd.DataFrame:
        """How the posterior moves when the prior or the likelihood is raised to a power near one (Kallioinen et al.
        2024, doi:10.1007/s11222-023-10366-5): above 0.05 it matters, and prior and likelihood together may disagree."""
        import arviz as az

        table: pd.DataFrame = az.psense_summary(self.tree, var_names=self.names, threshold=SENSITIVE)
        return table

    # -- predictions ---------------------------------------------------------------------------------------------

    def _slot_values(self, x: Floats) -> Floats:
        """Canonical values of the slots."""
        return self.likelihood.values(x)

    def predict(self, region: str, times: ArrayLike, x: Floats | None = None) -> Floats:
        """Predicted curve of a region, see `Fit.predict`; `x` defaults to the posterior mean.

        Parameters
        ----------
        region : fitted region [text]
        times : (m,) array, increasing [h]
        x : (k,) or (n, k) array on the scale of the fit
        """
        from ..result import Fit

        return Fit.predict(self, region, times, x)  # type: ignore[arg-type]  # it needs likelihood, x and _slot_values

    def to_netcdf(self, path: str | Path) -> None:
        """Write every group as NetCDF; ``arviz.from_netcdf`` reads it."""
        from .groups import plain

        tree = plain(self.tree)
        tree.attrs = {
            "model": self.model.name,
            "model_digest": self.model.digest,
            "protocol": self.protocol.name,
            "subject": self.curves.subject,
            "study": self.curves.study,
            "method": f"{self.method}: {self.how}",
            "warnings": "\n".join(self.warnings),
        }
        tree.to_netcdf(path, engine="h5netcdf")

    # -- words ---------------------------------------------------------------------------------------------------

    def _title(self) -> str:
        from .judged import verdict

        posterior = self.posterior
        chains, draws = posterior.sizes["chain"], posterior.sizes["draw"]
        return (
            f"Posterior of {self.model.name} for {self.curves.subject} (protocol {self.protocol.name}), "
            f"{self.likelihood.data.points} points, {chains} chains of {draws} draws\n"
            f"{verdict(dict(self.quality), chains)}; {self.how}"
        )

    def _printed(self) -> pd.DataFrame:
        t = self.table.reset_index()
        t["prior"] = [str({**self.priors, **self.noise_priors}[n]) for n in t["label"]]
        for c in ("value", "low", "high"):
            t[c] = t[c].map("{:.4g}".format)
        t["sd"], t["rhat"] = t["sd"].map("{:.2g}".format), t["rhat"].map("{:.3f}".format)
        t["ess"] = [f"{min(a, b):.0f}" for a, b in zip(t["ess_bulk"], t["ess_tail"], strict=True)]
        t["95 % interval"] = [f"{a} to {b}" for a, b in zip(t["low"], t["high"], strict=True)]
        t = t.rename(columns={"label": "parameter", "value": "median", "rhat": "R-hat", "ess": "draws worth"})
        return t[["parameter", "median", "sd", "95 % interval", "R-hat", "draws worth", "unit", "prior"]]

    def __str__(self) -> str:
        from ..words import aligned

        lines = [self._title(), "", *aligned(self._printed())]
        if len(self.derived):
            t = self.derived.reset_index()
            for c in ("value", "sd", "low", "high"):
                t[c] = t[c].map("{:.4g}".format)
            lines += ["", *aligned(t)]
        return "\n".join([*lines, *(f"warning: {w}" for w in self.warnings)])

    def _repr_html_(self) -> str:
        title = "<br>".join(html.escape(self._title()).split("\n"))
        notes = "".join(f"<li>{html.escape(w)}</li>" for w in self.warnings)
        return f"<p>{title}</p>{self._printed().to_html(index=False, border=0)}<ul>{notes}</ul>"


def compare_posteriors(fits: Sequence[BayesFit]) -> pd.DataFrame:
    """Models for the same data by expected log predictive density, with stacking weights (`arviz.compare`).

    Parameters
    ----------
    fits : posteriors of different models given the same values

    Raises
    ------
    FitError
        Fewer than two, of other data, or two of one name.
    """
    import arviz as az

    if len(fits) < 2:
        raise FitError(f"{len(fits)} posterior to compare; give at least two")
    names = [f"{f.model.name} ({f.protocol.name})" for f in fits]
    if len(set(names)) < len(names):
        names = [f"{k + 1}: {n}" for k, n in enumerate(names)]
    for name, f in zip(names, fits, strict=True):
        mine, first = f.likelihood.data, fits[0].likelihood.data
        if len(mine) != len(first) or not np.array_equal(mine.value, first.value, equal_nan=True):
            raise FitError(f"{name} and {names[0]} were not given the same values")
    table: pd.DataFrame = az.compare({n: f.tree for n, f in zip(names, fits, strict=True)})
    return table
