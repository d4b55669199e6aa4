"""Figures of population fits: goodness of fit, random effects, predictive checks, npde, subjects, profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .inference.population.diagnosis.goodness import is_number
from .plot_style import (
    BLACK,
    BLUE,
    CYCLE,
    GREY,
    MARKS,
    ORANGE,
    SKY,
    VERMILLION,
    WIDTH,
    label,
    log_axis,
    new_figure,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .inference.population.diagnosis.goodness import Goodness
    from .inference.population.diagnosis.individual_curves import IndividualCurves
    from .inference.population.diagnosis.prediction_errors import PredictionErrors
    from .inference.population.diagnosis.profiling import PopulationProfile
    from .inference.population.diagnosis.visual_check import VisualCheck

Array = NDArray[np.float64]
DOT: dict[str, Any] = {"ms": 3.5, "ls": "none", "alpha": 0.65, "mew": 0.0}
SMOOTH = 0.6  # share of the values in each local line


def goodness_figure(result: Goodness, *, log: bool = False) -> Figure:
    """Six panels; blue marks are values (one mark per endpoint), the orange line is a local mean."""
    points = result.points
    ends = list(dict.fromkeys(points["endpoint"]))
    units = {result.units.get(e, "") for e in ends}
    unit = f" [{next(iter(units))}]" if len(units) == 1 else ""
    with style():
        figure = new_figure(WIDTH, 4.9, layout="constrained")
        axes = figure.subplots(2, 3).ravel()
        panels = (
            ("PRED", "value", f"population prediction{unit}", f"observed{unit}"),
            ("IPRED", "value", f"individual prediction{unit}", f"observed{unit}"),
            ("IPRED", "|IWRES|", f"individual prediction{unit}", "|IWRES|"),
            ("time", "CWRES", "time [h]", "CWRES"),
            ("PRED", "CWRES", f"population prediction{unit}", "CWRES"),
        )
        table = points.assign(**{"|IWRES|": points["IWRES"].abs()})
        kept = table[table["counted"] & (table["censored"] == 0)]
        for ax, (x, y, x_name, y_name) in zip(axes, panels, strict=False):
            both = kept[np.isfinite(kept[x].to_numpy(dtype=float)) & np.isfinite(kept[y].to_numpy(dtype=float))]
            scaled = log and x != "time"
            if scaled:
                both = both[(both[x] > 0) & ((both[y] > 0) | (y != "value"))]
            for k, e in enumerate(ends):
                one = both[both["endpoint"] == e]
                ax.plot(one[x], one[y], MARKS[k % len(MARKS)], color=BLUE, **DOT, label=label(e))
            if y == "value":
                edge = [float(min(both[x].min(), both[y].min())), float(max(both[x].max(), both[y].max()))]
                ax.plot(edge, edge, color=GREY, lw=1, zorder=0)
            elif y == "CWRES":
                _normal_lines(ax)
            a, b = both[x].to_numpy(dtype=float), both[y].to_numpy(dtype=float)
            curve = _smoothed(np.log(a) if scaled else a, np.log(b) if scaled and y == "value" else b)
            if curve is not None:
                cx, cy = curve
                ax.plot(
                    np.exp(cx) if scaled else cx, np.exp(cy) if scaled and y == "value" else cy, color=ORANGE, lw=1.6
                )
            if scaled:
                _log_across(ax)
                if y == "value":
                    log_axis(ax)
            ax.set_xlabel(x_name)
            ax.set_ylabel(y_name)
        _quantiles(axes[5], kept["CWRES"].dropna().to_numpy(dtype=float), "CWRES")
        if len(ends) > 1:
            handles, names = axes[0].get_legend_handles_labels()
            figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 6))
    return figure


def effects_figure(result: Goodness) -> Figure:
    """A row per effect: histogram over the population's density, and quantiles."""
    names = list(result.etas.columns)
    with style():
        figure = new_figure(WIDTH, 0.3 + 2.1 * len(names), layout="constrained")
        axes = figure.subplots(len(names), 2, squeeze=False)
        for (left, right), name in zip(axes, names, strict=True):
            values, sd = result.etas[name].to_numpy(dtype=float), result.spread[name]
            left.hist(values, bins=_cells(values), density=True, color=SKY, edgecolor="white")
            grid = np.linspace(min(-3 * sd, values.min()), max(3 * sd, values.max()), 200)
            left.plot(grid, np.exp(-0.5 * (grid / sd) ** 2) / (sd * np.sqrt(2 * np.pi)), color=BLACK, lw=1.2)
            left.plot(values, np.zeros(values.size), "|", color=BLUE, ms=7, mew=1.0, clip_on=False)
            left.set_xlabel(f"random effect of {label(name)} [scale of the fit]")
            left.set_ylabel("density")
            left.set_title(f"{label(name)}: shrinkage {100 * result.shrinkage[name]:.0f} %")
            _quantiles(right, values / sd, "effect / SD of the population")
    return figure


def covariates_figure(result: Goodness) -> Figure:
    """A row per effect, a column per covariate; a line is the straight one through all, p stands above."""
    names = list(result.etas.columns)
    shown = [c for c in result.known.columns if result.known[c].nunique() > 1]
    if not shown:
        from .errors import FitError

        raise FitError("no covariate differs between the subjects; give covariates= to the fit")
    chance = {(r["effect"], r["covariate"]): r["p"] for r in result.covariates.to_dict("records")}
    columns = min(len(shown), 4)
    pairs = [(n, c) for n in names for c in shown]
    lines = -(-len(pairs) // columns)
    with style():
        figure = new_figure(max(3.2, WIDTH * columns / 4 + 0.8), 0.3 + 1.9 * lines, layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for ax, (name, covariate) in zip(axes, pairs, strict=False):
            there = result.known[covariate].notna()
            x, y = result.known[covariate][there], result.etas[name][there].to_numpy(dtype=float)
            unit = f" [{result.units[covariate]}]" if covariate in result.units else ""
            ax.axhline(0, color=GREY, lw=0.8)
            if is_number(x) and x.nunique() > 2:
                at = x.to_numpy(dtype=float)
                ax.plot(at, y, "o", color=BLUE, **DOT)
                slope, level = np.polyfit(at, y, 1)
                edge = np.array([at.min(), at.max()])
                ax.plot(edge, level + slope * edge, color=ORANGE)
            else:
                levels = sorted(x.unique(), key=str)
                groups = [y[(x == v).to_numpy()] for v in levels]
                ax.boxplot(groups, widths=0.5, showfliers=False, medianprops={"color": ORANGE})
                for k, group in enumerate(groups):
                    ax.plot(np.full(group.size, k + 1.0), group, "o", color=BLUE, **DOT)
                ax.set_xticks(range(1, len(levels) + 1), [v if isinstance(v, str) else f"{v:g}" for v in levels])
            ax.set_xlabel(f"{label(covariate)}{unit}")
            ax.set_ylabel(f"effect of {label(name)}")
            p = chance.get((name, covariate), np.nan)
            ax.set_title(f"p {p:.2g}" if np.isfinite(p) else "", fontweight="normal")
        for ax in axes[len(pairs) :]:
            ax.set_axis_off()
    return figure


def visual_check_figure(check: VisualCheck, *, log: bool = False) -> Figure:
    """Observed percentiles (lines) over the bands of simulated ones; the share below the limit beneath."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    table, points = check.table, check.points
    panels = list(dict.fromkeys(zip(points["endpoint"], points["stratum"], strict=True)))
    columns = min(len(panels), 2)
    lines = -(-len(panels) // columns)
    censored = len(check.shares) > 0
    with style():
        figure = new_figure(WIDTH, (3.3 + 1.2 * censored) * lines + 0.4, layout="constrained")
        heights = [3.0, 1.1] * lines if censored else [1.0] * lines
        axes = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
        for k, (endpoint, stratum) in enumerate(panels):
            row, column = divmod(k, columns)
            ax = axes[row * (2 if censored else 1)][column]
            mine = points[(points["endpoint"] == endpoint) & (points["stratum"] == stratum)]
            part = _panel(table, endpoint, stratum)
            limit = check.limits.get(endpoint)
            seen = mine[np.isfinite(mine["value"].to_numpy(dtype=float))]
            ax.plot(seen["time"], seen["value"], "o", color=GREY, **(DOT | {"ms": 2.5, "alpha": 0.45}))
            bottom = limit if limit is not None else (float(seen["value"][seen["value"] > 0].min()) if log else None)
            every = sorted(part["percentile"].unique())
            for p in every:
                one = part[part["percentile"] == p].sort_values("time")
                middle = abs(p - 50) < 1e-9
                low, high = (_floored(one[n], bottom, log) for n in ("low", "high"))
                _band(ax, one, low, high, VERMILLION if middle else SKY)
                ax.plot(one["time"], one["observed"].replace(-np.inf, np.nan), color=BLACK, lw=1.6 if middle else 1.1,
                        ls="-" if middle else (0, (4, 2)), marker="o" if len(one) < 3 else "", ms=3)  # fmt: skip
            if limit is not None:
                ax.axhline(limit, color=GREY, lw=0.8, ls=(0, (1.5, 1.5)))
            if log:
                log_axis(ax)
                ax.set_ylim(bottom=0.8 * bottom if bottom else None)
            unit = f" [{check.units[endpoint]}]" if check.units.get(endpoint) else ""
            ax.set_ylabel(
                f"{label(endpoint)}, prediction-corrected{unit}" if check.corrected else f"{label(endpoint)}{unit}"
            )
            ax.set_title(f"{label(endpoint)} {stratum}".strip() if len(panels) > 1 else "")
            ax.set_xlabel("time [h]")
            if censored:
                _shares(axes[2 * row + 1][column], _panel(check.shares, endpoint, stratum))
        for k in range(len(panels), lines * columns):
            row, column = divmod(k, columns)
            for r in (2 * row, 2 * row + 1) if censored else (row,):
                axes[r][column].set_axis_off()
        names = " / ".join(f"{p:g}" for p in every)
        handles = [
            Line2D([], [], color=BLACK), Line2D([], [], color=BLACK, lw=1.1, ls=(0, (4, 2))),
            Patch(color=VERMILLION, alpha=0.3, lw=0), Patch(color=SKY, alpha=0.4, lw=0),
        ]  # fmt: skip
        words = [
            "observed median", f"other percentiles ({names})", f"simulated median, {check.level:g} %",
            f"simulated others, {check.level:g} %",
        ]  # fmt: skip
        figure.legend(handles, words, loc="outside lower center", ncols=2)
    return figure


def prediction_errors_figure(result: PredictionErrors) -> Figure:
    """Quantiles, histogram over the normal density, npde over time and over the mean simulated value."""
    table = result.table
    ends = list(dict.fromkeys(table["endpoint"]))
    units = {result.units.get(e, "") for e in ends}
    unit = f" [{next(iter(units))}]" if len(units) == 1 else ""
    values = table["npde"].to_numpy(dtype=float)
    with style():
        figure = new_figure(WIDTH, 4.9, layout="constrained")
        axes = figure.subplots(2, 2).ravel()
        _quantiles(axes[0], values, "npde")
        axes[1].hist(values, bins=_cells(values), density=True, color=SKY, edgecolor="white")
        grid = np.linspace(-4, 4, 200)
        axes[1].plot(grid, np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi), color=BLACK, lw=1.2)
        axes[1].set_xlabel("npde")
        axes[1].set_ylabel("density")
        row = result.tests.iloc[0]
        axes[1].set_title(
            f"mean {row['mean']:.2f}, variance {row['variance']:.2f}, joined p {row['p joined']:.2g}", fontsize=8.5
        )
        for ax, x, name in ((axes[2], "time", "time [h]"), (axes[3], "predicted", f"mean simulated value{unit}")):
            for k, e in enumerate(ends):
                one = table[table["endpoint"] == e]
                measured = one["censored"] == 0
                ax.plot(one[x][measured], one["npde"][measured], MARKS[k % 7], color=BLUE, **DOT, label=label(e))
                ax.plot(one[x][~measured], one["npde"][~measured], MARKS[k % 7], color=VERMILLION, **DOT)
            _normal_lines(ax)
            curve = _smoothed(table[x].to_numpy(dtype=float), values)
            if curve is not None:
                ax.plot(*curve, color=ORANGE)
            ax.set_xlabel(name)
            ax.set_ylabel("npde")
        if len(ends) > 1:
            handles, names = axes[2].get_legend_handles_labels()
            figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 6))
    return figure


def individual_figures(result: IndividualCurves, *, rows: int = 4, columns: int = 3, log: bool = False) -> list[Figure]:
    """Pages of subjects: data (open where censored), own curve (line) and that of the typical subject (dashes)."""
    from matplotlib.lines import Line2D

    panels = list(dict.fromkeys(zip(result.curves["subject"], result.curves["occasion"], strict=True)))
    pages = []
    for first in range(0, len(panels), rows * columns):
        page = panels[first : first + rows * columns]
        lines = -(-len(page) // columns)
        with style():
            figure = new_figure(WIDTH, 0.6 + 1.75 * lines, layout="constrained")
            axes = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
            shown: dict[str, Any] = {}
            for k, (ax, (subject, occasion)) in enumerate(zip(axes, page, strict=False)):
                _subject(ax, result, subject, occasion, shown)
                ax.set_title(label(f"{subject} {occasion}".strip()))
                if log:
                    values = result.points.loc[result.points["subject"] == subject, "value"].to_numpy(dtype=float)
                    log_axis(ax)
                    if (values > 0).any():  # not down to the nothing before the first value
                        ax.set_ylim(bottom=0.5 * float(values[values > 0].min()))
                if k >= len(page) - columns:
                    ax.set_xlabel("time [h]")
                    ax.tick_params(labelbottom=True)
                if k % columns == 0:
                    units = set(result.units.values())
                    ax.set_ylabel(f"[{next(iter(units))}]" if len(units) == 1 else "value")
            for ax in axes[len(page) :]:
                ax.set_axis_off()
            handles = [Line2D([], [], color=GREY, lw=1.4), Line2D([], [], color=GREY, lw=1.0, ls=(0, (4, 2)))]
            words = ["individual prediction", "typical subject"]
            figure.legend(
                [*handles, *shown.values()], [*words, *map(label, shown)], loc="outside lower center",
                ncols=min(len(words) + len(shown), 6),
            )  # fmt: skip
        pages.append(figure)
    return pages


def profile_figure(result: PopulationProfile) -> Figure:
    """Rise of -2 log L over the parameter, its limit, and both intervals."""
    points = result.points
    unit = f" [{result.unit}]" if result.unit not in ("", "1") else ""
    with style():
        figure = new_figure(0.6 * WIDTH, 2.9, layout="constrained")
        ax = figure.add_subplot()
        ax.plot(points["value"], points["rise"], "o-", color=BLUE, ms=4)
        ax.axhline(result.limit, color=GREY, lw=0.8, ls=(0, (4, 2)))
        ends = [v for v in (result.low, result.high) if np.isfinite(v)]
        ax.plot(
            ends, [result.limit] * len(ends), "|", color=VERMILLION, ms=12, mew=2, label=f"profile, {result.level:g} %"
        )
        if np.isfinite(result.normal).all():
            ax.plot(
                result.normal, [-0.35, -0.35], color=ORANGE, lw=3, solid_capstyle="butt",
                label=f"standard error, {result.level:g} %",
            )  # fmt: skip
        ax.axvline(result.estimate, color=GREY, lw=0.8)
        top = float(np.nanmin([points["rise"].max(), 2.2 * result.limit]))
        ax.set_ylim(-0.7, max(top, result.limit) * 1.1)
        ax.set_xlabel(f"{label(result.name)}{unit}")
        ax.set_ylabel("rise of -2 log L")
        ax.legend(loc="upper center")
    return figure


# -- parts -----------------------------------------------------------------------------------------------------------


def _log_across(ax: Axes) -> None:
    """A logarithmic horizontal axis with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=6))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _normal_lines(ax: Axes) -> None:
    ax.axhline(0, color=GREY, lw=0.8)
    for s in (-1.96, 1.96):
        ax.axhline(s, color=GREY, lw=0.8, ls=(0, (4, 2)))


def _cells(values: Array) -> int:
    return int(np.clip(np.sqrt(values.size) + 2, 5, 25))


def _quantiles(ax: Axes, values: Array, name: str) -> None:
    """Ordered values over normal quantiles, with the pointwise 95 % range of as many normal ones."""
    from scipy.stats import beta, norm

    n = values.size
    rank = np.arange(1, n + 1)
    x = norm.ppf((rank - 0.375) / (n + 0.25))
    low, high = (norm.ppf(beta.ppf(s, rank, n + 1 - rank)) for s in (0.025, 0.975))
    ax.fill_between(x, low, high, color="#DDDDDD", lw=0)
    ax.plot(x, x, color=GREY, lw=1)
    ax.plot(x, np.sort(values), "o", color=BLUE, **DOT)
    ax.set_xlabel("normal quantile")
    ax.set_ylabel(name)


def _smoothed(x: Array, y: Array) -> tuple[Array, Array] | None:
    """Local lines with tricube weights (Cleveland 1979, doi:10.1080/01621459.1979.10481038), without robustness."""
    if x.size < 8 or np.unique(x).size < 5:
        return None
    grid = np.linspace(x.min(), x.max(), 60)
    keep = max(int(SMOOTH * x.size), 5)
    out = np.empty(grid.size)
    for k, at in enumerate(grid):
        distance = np.abs(x - at)
        width = np.partition(distance, keep - 1)[keep - 1] or 1e-300
        w = np.clip(1 - (distance / (1.001 * width)) ** 3, 0, None) ** 3
        total, mean = w.sum(), (w * x).sum() / w.sum()
        bend = (w * (x - mean) ** 2).sum()
        slope = (w * (x - mean) * y).sum() / bend if bend > 1e-12 * total * np.ptp(x) ** 2 else 0.0
        out[k] = (w * y).sum() / total + slope * (at - mean)
    return grid, out


def _panel(table: Any, endpoint: str, stratum: str) -> Any:
    mine = table[table["endpoint"] == endpoint] if len(table) else table
    return mine[mine["stratum"] == stratum] if "stratum" in mine else mine


def _floored(values: Any, bottom: float | None, log: bool) -> Array:
    """What is below the limit, or below a logarithmic axis, at its edge."""
    out = np.asarray(values, dtype=float).copy()
    if bottom is not None and log:
        return np.maximum(out, 0.8 * bottom)
    return np.where(np.isneginf(out), np.nan if bottom is None else bottom, out)


def _band(ax: Axes, one: Any, low: Array, high: Array, colour: str) -> None:
    """A band over the bins; a single bin is drawn as wide as it is."""
    t = one["time"].to_numpy(dtype=float)
    if t.size == 1:
        t, low, high = np.array([t[0] - 0.5, t[0] + 0.5]), np.repeat(low, 2), np.repeat(high, 2)
    ax.fill_between(t, low, high, color=colour, alpha=0.3 if colour == VERMILLION else 0.4, lw=0)
    for edge in (low, high):  # bands of few subjects overlap: their edges tell them apart
        ax.plot(t, edge, color=colour, lw=0.7)


def _shares(ax: Axes, part: Any) -> None:
    if not len(part):
        ax.set_axis_off()
        return
    part = part.sort_values("time")
    _band(ax, part, 100 * part["low"].to_numpy(), 100 * part["high"].to_numpy(), SKY)
    ax.plot(part["time"], 100 * part["observed"], color=BLACK, marker="o", ms=3, lw=1.2)
    ax.set_ylabel("below limit [%]")
    ax.set_xlabel("time [h]")
    ax.set_ylim(bottom=0)


def _subject(ax: Axes, result: IndividualCurves, subject: str, occasion: str, shown: dict[str, Any]) -> None:
    """One panel; `shown` gathers a mark of each endpoint for the legend."""
    ends: Sequence[str] = list(dict.fromkeys(result.curves["endpoint"]))
    curves = result.curves[(result.curves["subject"] == subject) & (result.curves["occasion"] == occasion)]
    points = result.points[(result.points["subject"] == subject) & (result.points["occasion"] == occasion)]
    for k, e in enumerate(ends):
        colour, mark = CYCLE[k % len(CYCLE)], MARKS[k % len(MARKS)]
        c, p = curves[curves["endpoint"] == e], points[(points["endpoint"] == e) & points["counted"]]
        if not len(c):
            continue
        if "low" in c:
            ax.fill_between(c["time"], c["low"], c["high"], color=colour, alpha=0.2, lw=0)
        ax.plot(c["time"], c["IPRED"], color=colour, lw=1.4)
        ax.plot(c["time"], c["PRED"], color=colour, lw=1.0, ls=(0, (4, 2)))
        measured = p["censored"] == 0
        (drawn,) = ax.plot(p["time"][measured], p["value"][measured], mark, color=colour, ms=4, ls="none")
        ax.plot(p["time"][~measured], p["value"][~measured], mark, mfc="none", color=colour, ms=4, ls="none")
        shown.setdefault(e, drawn)
