"""Visual predictive check: percentiles of the data over those of data simulated from the fit.

With prediction correction (Bergstrand 2011, doi:10.1208/s12248-011-9255-z) each value is multiplied by the median
prediction of its bin over its own prediction, so that doses, covariates and times within a bin do not widen the bands.
Values below a limit are the lowest of all, and their share is checked beside (Bergstrand & Karlsson 2009,
doi:10.1208/s12248-009-9112-5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ....errors import FitError, did_you_mean
from ..crowd import Crowd
from .bins import bins_of, percentile
from .replicates import simulate_again
from .shown import markup, text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ..result import PopulationFit

Array = NDArray[np.float64]
PERCENTILES = (5.0, 50.0, 95.0)
THIN = 5  # values in a bin below which its outer percentiles are extremes
FAINT = 0.05  # share of its bin's median prediction below which a correction would magnify nothing but noise


@dataclass(frozen=True, eq=False)
class VisualCheck:
    """Percentiles of data and of simulated data.

    Parameters
    ----------
    table : one row per panel, bin and percentile: time (median), start, end, values, observed, and of the simulated
        percentile low, median, high; -inf is below the limit
    shares : one row per panel and bin of endpoints with a limit: share below it, observed and simulated
    points : the values that were counted, prediction-corrected where asked for
    units : of each endpoint [text]
    limits : limit of quantification of each endpoint that has one
    corrected : whether by prediction
    level : of the bands [%]
    replicates : simulated data sets [1]
    notes : what a reader should know [text]
    """

    table: pd.DataFrame
    shares: pd.DataFrame
    points: pd.DataFrame
    units: Mapping[str, str]
    limits: Mapping[str, float]
    corrected: bool
    level: float
    replicates: int
    notes: tuple[str, ...]

    @property
    def outside(self) -> float:
        """Share of the observed percentiles that lie outside their band."""
        t = self.table
        known = t["observed"].notna()
        out = (t["observed"] < t["low"]) | (t["observed"] > t["high"])
        return float(out[known].mean())

    def plot(self, *, log: bool = False) -> Figure:
        """A panel per endpoint (and stratum): data, their percentiles, bands; shares below the limit beneath."""
        from ....plot_population import visual_check_figure

        return visual_check_figure(self, log=log)

    def _title(self) -> list[str]:
        what = "prediction-corrected visual predictive check" if self.corrected else "visual predictive check"
        return [
            f"{what}: {self.replicates} simulated data sets, {self.level:g} % bands; "
            f"{100 * self.outside:.0f} % of the observed percentiles lie outside"
        ]

    def __str__(self) -> str:
        return text(self._title(), [self.table, *([self.shares] if len(self.shares) else [])], self.notes)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return markup(self._title(), [self.table, *([self.shares] if len(self.shares) else [])], self.notes)


def visual_check(
    fit: PopulationFit,
    *,
    replicates: int = 500,
    corrected: bool = False,
    bins: str | int | Sequence[float] = "auto",
    percentiles: Sequence[float] = PERCENTILES,
    level: float = 95.0,
    limits: Mapping[str, float] | None = None,
    uncertainty: bool = False,
    by: str = "",
    seed: int = 0,
) -> VisualCheck:
    """Compare the data with data simulated from a fit.

    Parameters
    ----------
    fit : of a population
    replicates : simulated data sets [1]
    corrected : divide by predictions (prediction-corrected check)
    bins : "auto", "times", "quantile", a number, or edges [h]; see `bins_of`
    percentiles : of the data [%]
    level : of the bands [%]
    limits : limit of quantification by endpoint, in its unit; default the largest limit of its censored data
    uncertainty : whether the parameters are drawn from their uncertainty in each data set
    by : covariate whose values get a panel each [text]
    seed : of the draws [1]

    Raises
    ------
    FitError
        A setting is not possible.
    """
    import pandas as pd

    if not 0 < level < 100 or any(not 0 <= p <= 100 for p in percentiles):
        raise FitError("level and percentiles are in percent, between 0 and 100")
    crowd, data = fit.crowd, fit.crowd.data
    if unknown := [e for e in limits or {} if e not in data.endpoints]:
        raise FitError(f"limits: no endpoint {unknown[0]!r}{did_you_mean(unknown[0], data.endpoints)}")
    drawn = simulate_again(fit, replicates, seed=seed, uncertainty=uncertainty)
    notes = list(drawn.notes)
    low, high = limits_of(crowd, limits)
    y, sims = beyond(data.value, low, high), beyond(drawn.value, low, high)
    y = np.where(data.censored < 0, -np.inf, np.where(data.censored > 0, np.inf, y))
    use = data.counted.copy()
    pred = fit.predictions["PRED"].to_numpy(dtype=float)
    strata = strata_of(crowd, by)[crowd.owner] if by else np.full(len(y), "", dtype=object)
    if corrected and not (usable := pred > 0)[use].all():
        notes.append(f"{int((use & ~usable).sum())} values with a prediction of zero or below cannot be corrected")
        use &= usable
    if corrected and np.isinf(y[use]).any():
        notes.append("values beyond a limit stay the lowest (or highest) of their bin after the correction")
    edge = (100 - level) / 200
    rows: list[dict[str, object]] = []
    shares: list[dict[str, object]] = []
    number = np.full(len(y), -1)
    scale = np.ones(len(y))
    dim = 0
    panels = [(e, s) for e in range(len(data.endpoints)) for s in dict.fromkeys(strata)]
    for e, stratum in panels:
        mine = np.flatnonzero(use & (data.endpoint == e) & (strata == stratum))
        if not mine.size:
            continue
        each = np.bincount(crowd.owner[mine])
        number[mine] = bins_of(data.time[mine], bins, int(np.median(each[each > 0])))
        for k in range(number[mine].max() + 1):
            at = mine[number[mine] == k]
            if corrected:
                faint = pred[at] < FAINT * np.median(pred[at])
                number[at[faint]] = -1
                dim += int(faint.sum())
                at = at[~faint]
                scale[at] = np.median(pred[at]) / pred[at]
            head = {
                "endpoint": data.endpoints[e], "stratum": stratum, "bin": k, "time": float(np.median(data.time[at])),
                "start": float(data.time[at].min()), "end": float(data.time[at].max()), "values": at.size,
            }  # fmt: skip
            for p in percentiles:
                simulated = percentile(sims[:, at] * scale[at], p / 100)
                rows.append(head | {"percentile": p} | _row(percentile(y[at] * scale[at], p / 100), simulated, edge))
            if np.isfinite(low[at]).any():
                share = np.where(np.isnan(sims[:, at]), np.nan, sims[:, at] == -np.inf)
                shares.append(head | _row(np.mean(y[at] == -np.inf), np.nanmean(share, axis=1), edge))
    if dim:
        notes.append(f"{dim} values with a prediction below {100 * FAINT:g} % of their bin's median are left out")
    thin = {(r["endpoint"], r["bin"], r["stratum"]) for r in rows if int(str(r["values"])) < THIN}
    if thin:
        notes.append(f"{len(thin)} bins hold fewer than {THIN} values: their outer percentiles are extremes")
    shown = number >= 0
    points = pd.DataFrame(
        {
            "subject": [crowd.people[i].name for i in crowd.owner[shown]],
            "endpoint": [data.endpoints[e] for e in data.endpoint[shown]], "stratum": strata[shown],
            "time": data.time[shown], "bin": number[shown], "value": (y * scale)[shown],
            "censored": data.censored[shown],
        }
    )  # fmt: skip
    known = {
        n: float(low[data.endpoint == e].max()) for e, n in enumerate(data.endpoints) if (data.endpoint == e).any()
    }
    table, beneath = pd.DataFrame(rows), pd.DataFrame(shares)
    if not by:
        table = table.drop(columns="stratum")
        beneath = beneath.drop(columns="stratum") if len(beneath) else beneath
    return VisualCheck(
        table, beneath, points, dict(zip(data.endpoints, data.units, strict=True)),
        {n: v for n, v in known.items() if np.isfinite(v)}, corrected, level, replicates, tuple(notes),
    )  # fmt: skip


def _row(observed: float | Array, simulated: Array, edge: float) -> dict[str, float]:
    """Observed number with the median and the band of its simulated ones."""
    low, median, high = (float(percentile(simulated, s)) for s in (edge, 0.5, 1 - edge))
    return {"observed": float(observed), "low": low, "median": median, "high": high}


def limits_of(crowd: Crowd, given: Mapping[str, float] | None = None) -> tuple[Array, Array]:
    """Lower and upper limit of quantification at each value, (n,) each, infinite where there is none.

    Parameters
    ----------
    crowd : subjects
    given : lower limits by endpoint; default the largest limit that a value of the endpoint is below
    """
    data = crowd.data
    low, high = np.full(len(data), -np.inf), np.full(len(data), np.inf)
    for e, name in enumerate(data.endpoints):
        mine = (data.endpoint == e) & data.counted
        below, above = mine & (data.censored < 0), mine & (data.censored > 0)
        if given and name in given:
            low[data.endpoint == e] = given[name]
        elif below.any():
            low[data.endpoint == e] = data.value[below].max()
        if above.any():
            high[data.endpoint == e] = data.value[above].min()
    return low, high


def beyond(value: Array, low: Array, high: Array) -> Array:
    """Values with -inf below the limit and inf at or above the upper one."""
    return np.where(value < low, -np.inf, np.where(value >= high, np.inf, value))


def strata_of(crowd: Crowd, covariate: str) -> NDArray[np.object_]:
    """The covariate of each subject, as text."""
    out = []
    for person in crowd.people:
        known = person.covariates[0]
        if covariate not in known:
            raise FitError(
                f"subject {person.name}: no covariate {covariate!r}{did_you_mean(covariate, known)}; known: "
                f"{', '.join(known) or 'none'}"
            )
        value = known[covariate]
        out.append(value if isinstance(value, str) else f"{value:g}" if isinstance(value, int | float) else "varies")
    if len(set(out)) > 6:
        raise FitError(f"{covariate} has {len(set(out))} different values; panels by covariate need at most 6")
    return np.array(out, dtype=object)
