"""Normalised prediction distribution errors: is each value where the model's own distribution expects it?

Simulated and observed values of each subject are decorrelated with the mean and the Cholesky factor of the simulated
covariance; the rank of the observed one among the simulated, as a normal quantile, is its npde, which is N(0, 1) under
the true model (Comets 2008, doi:10.1016/j.cmpb.2007.12.002). Without decorrelation it is the normalised prediction
discrepancy (npd), which is correlated within a subject.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ....errors import FitError
from .replicates import simulate_again
from .shown import markup, text
from .visual_check import limits_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ..result import PopulationFit

Array = NDArray[np.float64]
PER_VALUE = 5  # simulated data sets needed per value of a subject, that its covariance can be known
SHAPIRO = 5000  # values above which the p value of Shapiro and Wilk is not exact
STREAM = 12  # purpose of a stream of random numbers


@dataclass(frozen=True, eq=False)
class PredictionErrors:
    """Normalised prediction distribution errors and whether they are standard normal.

    Parameters
    ----------
    table : one row per value: subject, endpoint, time, value, predicted (mean of the simulated), pd, npd, pde, npde
    tests : of all values (and of each endpoint): mean, variance, p of mean 0 (t test), of variance 1 (chi-squared), of
        normality (Shapiro & Wilk), and all three joined: thrice the smallest, at most 1 (Bonferroni)
    replicates : simulated data sets [1]
    units : of each endpoint [text]
    notes : what a reader should know [text]
    """

    table: pd.DataFrame
    tests: pd.DataFrame
    replicates: int
    units: dict[str, str]
    notes: tuple[str, ...]

    @property
    def p(self) -> float:
        """Joined p value of all values: small speaks against the model."""
        return float(self.tests["p joined"].iloc[0])

    def plot(self) -> Figure:
        """Quantiles, histogram, and npde over time and over the prediction."""
        from ....plot_population import prediction_errors_figure

        return prediction_errors_figure(self)

    def _title(self) -> list[str]:
        verdict = "speaks against the model" if self.p < 0.05 else "nothing speaks against the model"
        return [f"npde of {len(self.table)} values, {self.replicates} simulated data sets: p {self.p:.3g}, {verdict}"]

    def __str__(self) -> str:
        return text(self._title(), [self.tests], self.notes)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return markup(self._title(), [self.tests], self.notes)


def prediction_errors(
    fit: PopulationFit,
    *,
    replicates: int = 1000,
    censored: Literal["impute", "omit"] = "impute",
    uncertainty: bool = False,
    seed: int = 0,
) -> PredictionErrors:
    """Normalised prediction distribution errors of a fit.

    Parameters
    ----------
    fit : of a population
    replicates : simulated data sets [1]
    censored : "impute" draws a censored value from the simulated ones beyond its limit, "omit" leaves it out [text]
    uncertainty : whether the parameters are drawn from their uncertainty in each data set
    seed : of the draws [1]

    Raises
    ------
    FitError
        There are too few replicates for a subject's number of values.
    """
    import pandas as pd

    if censored not in ("impute", "omit"):
        raise FitError(f"censored {censored!r} is not known; allowed: impute, omit")
    crowd, data = fit.crowd, fit.crowd.data
    use = data.counted & ((data.censored == 0) | (censored == "impute"))
    most = int(np.bincount(crowd.owner[use], minlength=1).max())
    if replicates < PER_VALUE * most:
        raise FitError(
            f"{replicates} replicates are too few for a subject with {most} values: its covariance would not be known; "
            f"give replicates={max(1000, PER_VALUE * most)}"
        )
    drawn = simulate_again(fit, replicates, seed=seed, uncertainty=uncertainty)
    rng = np.random.default_rng([seed, STREAM])
    notes = list(drawn.notes)
    low, high = limits_of(crowd)
    n = len(data)
    pd_, pde, centre = (np.full(n, np.nan) for _ in range(3))
    lost: list[str] = []
    for i, person in enumerate(crowd.people):
        at = np.flatnonzero((crowd.owner == i) & use)
        sims = drawn.value[:, at]
        sims = sims[np.isfinite(sims).all(axis=1)]
        if not at.size or len(sims) < PER_VALUE * at.size:
            lost += [person.name] if at.size else []
            continue
        y = data.value[at].copy()
        pd_[at] = _ranks(sims, y)
        for j, k in enumerate(at):
            if data.censored[k]:
                cut = low[k] if data.censored[k] < 0 else high[k]
                y[j], pd_[k] = _imputed(sims[:, j], cut, int(data.censored[k]), rng)
        centre[at] = sims.mean(axis=0)
        covariance = np.atleast_2d(np.cov(sims, rowvar=False))
        try:
            root = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            lost.append(person.name)
            continue
        white = np.linalg.solve(root, np.column_stack([y - centre[at], (sims - centre[at]).T]))
        pde[at] = _ranks(white[:, 1:].T, white[:, 0])
    if lost:
        notes.append(f"no errors for {', '.join(lost[:5])}: too few usable simulations, or a singular covariance")
    cut_off = int((data.counted & (data.censored != 0)).sum())
    if cut_off:
        notes.append(
            f"{cut_off} censored values were {'drawn beyond their limit' if censored == 'impute' else 'left out'}"
        )
    shown = np.flatnonzero(use & np.isfinite(pde))
    if not shown.size:
        raise FitError("no value has a prediction error; see whether the model can be simulated at the estimates")
    table = pd.DataFrame(
        {
            "subject": [crowd.people[i].name for i in crowd.owner[shown]],
            "endpoint": [data.endpoints[e] for e in data.endpoint[shown]],
            "time": data.time[shown], "value": data.value[shown], "censored": data.censored[shown],
            "predicted": centre[shown], "pd": pd_[shown], "npd": stats.norm.ppf(pd_[shown]), "pde": pde[shown],
            "npde": stats.norm.ppf(pde[shown]),
        }
    )  # fmt: skip
    if len(table) > SHAPIRO:
        notes.append(f"{len(table)} values: the p value of Shapiro and Wilk is exact up to {SHAPIRO}")
    groups = [("all", table["npde"].to_numpy())]
    if table["endpoint"].nunique() > 1:
        groups += [(str(e), g["npde"].to_numpy()) for e, g in table.groupby("endpoint", sort=False)]
    tests = pd.DataFrame([{"values of": name} | normality(values) for name, values in groups])
    units = dict(zip(data.endpoints, data.units, strict=True))
    return PredictionErrors(table, tests, replicates, units, tuple(notes))


def normality(values: Array) -> dict[str, float]:
    """Tests of mean 0, variance 1 and normality, and all joined: thrice the smallest p, at most 1 (Bonferroni).

    Parameters
    ----------
    values : (n,) array, independent and standard normal if all is well
    """
    n = values.size
    if n < 3:
        raise FitError(f"{n} values; tests of normality need at least 3")
    variance = float(values.var(ddof=1))
    below = float(stats.chi2.cdf((n - 1) * variance, n - 1))
    p_mean = float(stats.ttest_1samp(values, 0.0).pvalue)
    p_variance = 2 * min(below, 1 - below)
    p_shape = float(stats.shapiro(values).pvalue)
    return {
        "n": n, "mean": float(values.mean()), "variance": variance, "p mean": p_mean, "p variance": p_variance,
        "p normal": p_shape, "p joined": min(1.0, 3 * min(p_mean, p_variance, p_shape)),
    }  # fmt: skip


def _ranks(sims: Array, y: Array) -> Array:
    """Share of simulated values below each observed one, half a simulation away from 0 and from 1."""
    half = 0.5 / len(sims)
    below = (sims < y).mean(axis=0) + 0.5 * (sims == y).mean(axis=0)
    return np.asarray(np.clip(below, half, 1 - half))


def _imputed(sims: Array, cut: float, side: int, rng: np.random.Generator) -> tuple[float, float]:
    """A value drawn from the simulated ones beyond a limit, and its rank (the "cdf" way of npde 2.0, Comets 2008)."""
    edge = float(np.mean(sims < cut))
    half = 0.5 / len(sims)
    share = rng.uniform(0, edge) if side < 0 else rng.uniform(edge, 1)
    share = float(np.clip(share, half, 1 - half))
    return float(np.quantile(sims, share)), share
