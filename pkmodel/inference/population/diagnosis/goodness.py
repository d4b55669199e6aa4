"""Goodness of fit of a population: residuals, random effects against what they should be, and covariates.

Random effects lean towards zero where shrinkage is large, and plots of them then mislead (Savic & Karlsson 2009,
doi:10.1208/s12248-009-9133-0); the shrinkage stands beside everything that is made of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..judged import SHRUNK
from .shown import markup, text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ..crowd import Crowd
    from ..result import PopulationFit

Array = NDArray[np.float64]
NAMES = ("CWRES", "IWRES")
FAR = 5.0  # standard deviations beyond which a residual is named


@dataclass(frozen=True, eq=False)
class Goodness:
    """Residuals and random effects of a fit.

    Parameters
    ----------
    points : one row per value, as `PopulationFit.predictions`
    residuals : one row per endpoint and kind: n, mean, SD, p of mean 0, slopes of rank with time and prediction
    effects : one row per random effect between subjects: mean with p of mean 0, SD beside that of the population,
        shrinkage, p of normality
    covariates : one row per random effect and covariate: rank correlation or Kruskal & Wallis, with p
    etas : one row per subject: random effects
    known : one row per subject: covariates of the first occasion
    units : of each endpoint and covariate [text]
    shrinkage : of each effect, as a fraction
    spread : SD of each effect in the population
    notes : what a reader should know [text]
    """

    points: pd.DataFrame
    residuals: pd.DataFrame
    effects: pd.DataFrame
    covariates: pd.DataFrame
    etas: pd.DataFrame
    known: pd.DataFrame
    units: Mapping[str, str]
    shrinkage: Mapping[str, float]
    spread: Mapping[str, float]
    notes: tuple[str, ...]

    def plot(self, *, log: bool = False) -> Figure:
        """Observed against PRED and IPRED, CWRES against time and PRED, |IWRES| against IPRED, quantiles of CWRES."""
        from ....plot_population import goodness_figure

        return goodness_figure(self, log=log)

    def plot_effects(self) -> Figure:
        """Histogram and quantiles of every random effect, with its shrinkage."""
        from ....plot_population import effects_figure

        return effects_figure(self)

    def plot_covariates(self) -> Figure:
        """Every random effect against every covariate."""
        from ....plot_population import covariates_figure

        return covariates_figure(self)

    def _tables(self) -> list[pd.DataFrame]:
        return [self.residuals, self.effects, *([self.covariates] if len(self.covariates) else [])]

    def _title(self) -> list[str]:
        return [f"goodness of fit: {len(self.points)} values of {len(self.etas)} subjects"]

    def __str__(self) -> str:
        return text(self._title(), self._tables(), self.notes)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return markup(self._title(), self._tables(), self.notes)


def goodness(fit: PopulationFit) -> Goodness:
    """Residuals and random effects between subjects of a fit, with tests.

    Parameters
    ----------
    fit : of a population
    """
    import pandas as pd

    layout, crowd = fit.crowd.layout, fit.crowd
    points = fit.predictions
    names = [layout.slots[k].label for k in layout.varying]
    etas = pd.DataFrame(fit.minimum.at.b[:, : len(names)], columns=names, index=pd.Index(fit.subjects, name="subject"))
    omega = np.sqrt(np.diag(layout.omega(fit.phi)))
    known = covariate_table(crowd)
    rows = [
        _residual(str(e), n, group) for e, group in points.groupby("endpoint", sort=False) for n in NAMES
    ]  # fmt: skip
    effects = []
    for name, sd in zip(names, omega, strict=True):
        values = etas[name].to_numpy()
        varies = values.size >= 3 and np.ptp(values) > 0
        effects.append(
            {
                "effect": name, "mean": values.mean(),
                "p mean 0": float(stats.ttest_1samp(values, 0.0).pvalue) if varies else np.nan,
                "SD": values.std(), "SD population": sd, "shrinkage %": 100 * fit.shrinkage[name],
                "p normal": float(stats.shapiro(values).pvalue) if varies else np.nan,
            }
        )  # fmt: skip
    notes = []
    shrunk = [n for n in names if fit.shrinkage[n] > SHRUNK]
    if shrunk:
        notes.append(f"shrinkage of {', '.join(shrunk)} is above 30 %: its plots and tests hide or feign relations")
    far = points[points["CWRES"].abs() > FAR]
    if len(far):
        first = far.iloc[int(np.argmax(far["CWRES"].abs().to_numpy(dtype=float)))]
        notes.append(
            f"{len(far)} values with |CWRES| above {FAR:g}; the largest, {first['CWRES']:.3g}, is {first['endpoint']} "
            f"of subject {first['subject']} at {first['time']:.4g} h"
        )
    pairs = [p for n in names for c in known.columns if (p := _relation(n, c, etas[n], known[c]))]
    columns = ["effect", "covariate", "test", "subjects", "correlation", "p"]
    return Goodness(
        points, pd.DataFrame(rows), pd.DataFrame(effects), pd.DataFrame(pairs, columns=columns), etas, known,
        covariate_units(crowd) | dict(zip(crowd.data.endpoints, crowd.data.units, strict=True)),
        {n: fit.shrinkage[n] for n in names},
        dict(zip(names, omega.tolist(), strict=True)), tuple(notes),
    )  # fmt: skip


def covariate_table(crowd: Crowd) -> pd.DataFrame:
    """One row per subject: covariates of the first occasion; numbers where they are, nan where they change in time."""
    import pandas as pd

    def read(value: object) -> object:
        if isinstance(value, int | float):
            return float(value)
        if not isinstance(value, str):
            return np.nan
        try:
            return float(value.split()[0])  # a number, alone or with its unit
        except (ValueError, IndexError):
            return value

    rows = [{n: read(v) for n, v in p.covariates[0].items()} for p in crowd.people]
    return pd.DataFrame(rows, index=pd.Index([p.name for p in crowd.people], name="subject"))


def covariate_units(crowd: Crowd) -> dict[str, str]:
    """Unit of each covariate that has one."""
    units = {"weight": "kg"}
    for person in crowd.people:
        for visit in person.curves:
            units |= {n: u for n, u in visit.covariate_units.items() if u not in ("", "1")}
    return units


def is_number(column: pd.Series) -> bool:
    """Whether a covariate is a number rather than a category."""
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(column))


def _residual(endpoint: str, name: str, group: pd.DataFrame) -> dict[str, object]:
    kept = group[np.isfinite(group[name].to_numpy(dtype=float))]
    values = kept[name].to_numpy(dtype=float)
    enough = values.size >= 3
    of = "PRED" if name == "CWRES" else "IPRED"
    return {
        "endpoint": endpoint, "residual": name, "n": values.size, "mean": values.mean() if enough else np.nan,
        "SD": values.std(ddof=1) if enough else np.nan,
        "p mean 0": float(stats.ttest_1samp(values, 0.0).pvalue) if enough else np.nan,
        "rank correlation with time": _rank(values, kept["time"].to_numpy(dtype=float)),
        "with prediction": _rank(values, kept[of].to_numpy(dtype=float)),
        "of size with prediction": _rank(np.abs(values), kept[of].to_numpy(dtype=float)),
    }  # fmt: skip


def _rank(a: Array, b: Array) -> float:
    """Spearman's correlation; nan where one of them does not vary."""
    if a.size < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(stats.spearmanr(a, b).statistic)


def _relation(effect: str, covariate: str, eta: pd.Series, known: pd.Series) -> dict[str, object] | None:
    """Test of a random effect against a covariate; None where the covariate does not vary."""
    there = known.notna()
    x, y = known[there], eta[there]
    row: dict[str, object] = {"effect": effect, "covariate": covariate, "subjects": int(there.sum())}
    if x.nunique() < 2 or there.sum() < 4:
        return None
    if is_number(known) and x.nunique() > 2:
        found = stats.spearmanr(x, y)
        return row | {"test": "Spearman", "correlation": float(found.statistic), "p": float(found.pvalue)}
    groups = [y[x == level] for level in x.unique()]
    return row | {"test": "Kruskal & Wallis", "correlation": np.nan, "p": float(stats.kruskal(*groups).pvalue)}
