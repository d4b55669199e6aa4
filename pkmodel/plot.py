"""Figures fit for a paper: fits with their residuals, integrals, doses, plans and runs.

Every function gives a matplotlib ``Figure`` made without pyplot, so nothing is kept in memory, no window opens and no
global setting changes. Save one with ``figure.savefig("fit.pdf")``; in a notebook it shows itself. Colours are those of
Okabe and Ito (https://jfly.uni-koeln.de/color), which readers with colour-vision deficiency can tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .dosimetry.present import round_down, show
from .errors import PkmodelError
from .plot_style import (
    BLACK,
    BLUE,
    CYCLE,
    DASHES,
    GREY,
    MARKS,
    ORANGE,
    SKY,
    WIDTH,
    label,
    log_axis,
    new_figure,
    place,
    png,
    style,
    svg,
    text_width,
)

if TYPE_CHECKING:
    import numpy.typing as npt
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .dosimetry.planning import Plan
    from .dosimetry.result import TIA, Doses
    from .evidence import Practice
    from .inference.result import Fit

    Floats = npt.NDArray[np.float64]

__all__ = ["dose_figure", "fit_figure", "plan_figure", "png", "simulation_figure", "svg", "tia_figure"]


def fit_figure(
    fit: Fit,
    *,
    regions: Sequence[str] | None = None,
    tia: TIA | None = None,
    scale: Literal["linear", "log"] = "linear",
    draws: int = 200,
    seed: int = 0,
    until: float | None = None,
) -> Figure:
    """Measured values with error bars, fitted curve with its 95 % band, and residuals; one panel per region.

    Parameters
    ----------
    fit : a fit
    regions : which; default all [text]
    tia : integral of this fit; its draws then give the band, so that figure and dose share them
    scale : of the vertical axis, ``"linear"`` or ``"log"`` [text]
    draws : for the band, where no `tia` is given [1]
    seed : of these draws [1]
    until : right end of the time axis; default a little beyond the last value [h]

    Raises
    ------
    PkmodelError
        A region was not fitted, or `scale` is not known.
    """
    known = fit.likelihood.regions
    names = list(known if regions is None else regions)
    if unknown := [n for n in names if n not in known]:
        raise PkmodelError(f"region {', '.join(map(repr, unknown))} was not fitted; fitted: {', '.join(known)}")
    if scale not in ("linear", "log"):
        raise PkmodelError(f"scale {scale!r} is not known; allowed: linear, log")
    table = fit.residuals
    with style():
        figure, panels = _panels(len(names))
        for name, (top, bottom) in zip(names, panels, strict=True):
            one = table[table["region"] == name]
            _curve(top, fit, name, one, tia, scale, draws, seed, until)
            _residuals(bottom, one)
            bottom.set_xlim(top.get_xlim())
            for ax, inches in ((top, 0.5), (bottom, 0.38)):
                ax.yaxis.set_label_coords(-inches / (figure.get_figwidth() * ax.get_position().width), 0.5)
        handles, labels = panels[0][0].get_legend_handles_labels()
        if len(names) == 1:
            panels[0][0].legend(loc="upper right")
        else:
            figure.legend(handles, labels, loc="upper center", ncols=len(labels), handlelength=1.8)
    return figure


def _panels(count: int) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """Pairs of axes, a curve above its residuals, placed by hand as in `place`."""
    columns = 1 if count == 1 else 2 if count <= 4 else 3
    rows = math.ceil(count / columns)
    left, right, gap, top = 0.66, 0.12, 0.72, 0.3 if count == 1 else 0.55  # [inch]
    main, between, low, below = 1.75, 0.08, 0.55, 0.75
    width = 4.6 if columns == 1 else WIDTH
    height = top + rows * (main + between + low + below) - 0.3
    wide = (width - left - right - (columns - 1) * gap) / columns
    figure = new_figure(width, height)
    pairs = []
    for k in range(count):
        x = left + (k % columns) * (wide + gap)
        y = height - top - (k // columns) * (main + between + low + below) - main
        upper = figure.add_axes((x / width, y / height, wide / width, main / height))
        lower = figure.add_axes((x / width, (y - between - low) / height, wide / width, low / height))
        pairs.append((upper, lower))
    return figure, pairs


def _curve(
    ax: Axes,
    fit: Fit,
    name: str,
    one: Any,
    tia: TIA | None,
    scale: str,
    draws: int,
    seed: int,
    until: float | None,
) -> None:
    curve = fit.curves[name]
    t, measured = one["time_h"].to_numpy(), one["measured"].to_numpy()
    last = float(curve.t_end.max())
    driven = bool(fit.likelihood.blocks[0].problem.inputs)  # the model ends with its input
    end = until or (last if driven else 1.25 * last)
    inside = np.unique(np.concatenate([np.geomspace(end * 1e-3, last, 60), np.linspace(end * 1e-3, last, 60)]))
    grid = inside if end <= last else np.concatenate([inside, np.linspace(last, end, 20)[1:]])
    middle, band = _prediction(fit, name, grid, tia, draws, seed)
    if band is not None:
        ax.fill_between(grid, band[0], band[1], color=SKY, alpha=0.35, linewidth=0, label="95 % band")
    seen = grid <= last
    ax.plot(grid[seen], middle[seen], color=BLUE, label="fit")
    if not np.all(seen):
        ax.plot(grid[grid >= last], middle[grid >= last], color=BLUE, linestyle=(0, (3, 2)), label="extrapolated")
    given = curve.sd if np.any(np.isfinite(curve.sd)) else one["sd"].to_numpy()
    words = "measured, SD of the data" if np.any(np.isfinite(curve.sd)) else "measured, SD of the fit"
    bars: dict[str, Any] = {
        "fmt": "o",
        "color": BLACK,
        "markersize": 3.2,
        "elinewidth": 1.0,
        "capsize": 3.5,
        "zorder": 5,
    }
    spread = np.where(np.isfinite(given), given, 0.0)
    ax.errorbar(t, measured, yerr=spread, label=words, **bars)
    ax.set_title(label(name))
    what = "activity" if curve.unit.endswith("Bq") else "value"
    corrected = ", decay-corrected" if curve.decay_corrected else ""
    ax.set_ylabel(f"{what}{corrected} [{curve.unit}]".replace("value [", "["))
    ax.tick_params(labelbottom=False)
    ax.set_xlim(0.0, end)
    if scale == "log":
        log_axis(ax)
        low = measured[measured > 0].min(initial=np.inf)
        ax.set_ylim(0.5 * min(low, float(middle[-1])), 1.5 * float(max(measured.max(), middle.max())))
    elif measured.min() >= 0:
        ax.set_ylim(bottom=0.0)


def _prediction(
    fit: Fit, name: str, grid: Floats, tia: TIA | None, draws: int, seed: int
) -> tuple[Floats, tuple[Floats, Floats] | None]:
    """Fitted curve and its 95 % band."""
    curve = fit.curves[name]
    if tia is not None and name in tia.organs and curve.unit == "MBq" and not curve.decay_corrected:
        one = tia.data.sel(organ=name)
        rate, share = one["rate"].to_numpy(), one["share"].to_numpy()
        if np.all(np.isfinite(rate)):
            weight = one["tia"].to_numpy()[:, None] * share * rate
            many = np.einsum("dk,dkm->dm", weight, np.exp(-rate[:, :, None] * grid))
            shape = one["share_point"].to_numpy() * one["rate_point"].to_numpy()
            middle = float(one["tia_point"]) * shape @ np.exp(-one["rate_point"].to_numpy()[:, None] * grid)
            return np.asarray(middle, dtype=float), _quantiles(many)
    middle = fit.predict(name, grid)
    if draws < 2 or not np.all(np.isfinite(fit.covariance)):
        return middle, None
    return middle, _quantiles(fit.predict(name, grid, fit.draws_on_scale(draws, seed)))


def _quantiles(many: Floats) -> tuple[Floats, Floats] | None:
    if len(many) < 2:
        return None
    low, high = np.quantile(many, [0.025, 0.975], axis=0)
    return low, high


def _residuals(ax: Axes, one: Any) -> None:
    t, z = one["time_h"].to_numpy(), one["standardised"].to_numpy()
    ax.axhspan(-1.96, 1.96, color="#EDEDED", linewidth=0)
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    ax.vlines(t, 0.0, z, color=BLACK, linewidth=1.0)
    ax.plot(t, z, "o", color=BLACK, markersize=3.5)
    reach = max(2.6, 1.15 * float(np.nanmax(np.abs(z), initial=0.0)))
    ax.set_ylim(-reach, reach)
    ax.set_xlabel("time after injection [h]")
    ax.set_yticks([-2, 0, 2] if reach < 6 else [-round(reach / 2), 0, round(reach / 2)])
    ax.set_ylabel("residual\n/ SD", fontsize=7.5)


def dose_figure(doses: Doses) -> Figure:
    """Absorbed dose of every organ with its 95 % interval, and the bound on what is missing where it is known."""
    data = doses.data
    point, draws = data["dose_point"].to_numpy(), data["dose"].to_numpy()
    bound = data["cross_bound"].to_numpy()
    missing = np.where(np.isfinite(bound), bound, 0.0)
    spread = draws.shape[1] > 1
    low, high = np.quantile(draws, [0.025, 0.975], axis=1) if spread else (point, point)
    tails = [f" ({show(a, 3)} to {show(b, 3)})" if spread else "" for a, b in zip(low, high, strict=True)]
    words = [f"{show(x, 3)} Gy{tail}" for x, tail in zip(point, tails, strict=True)]
    names = [label(x) for x in doses.organs]
    order = np.argsort(point)
    rows = np.arange(len(order))
    with style():
        figure = new_figure(WIDTH, 0.36 * len(order) + 1.0)
        ax = place(figure, left=text_width(names) + 0.15, right=text_width(words) + 0.1, bottom=0.48, top=0.36)
        ax.plot(point[order], rows, "o", color=BLUE, markersize=6, zorder=4, label="absorbed dose")
        if spread:
            ax.hlines(rows, low[order], high[order], color=BLUE, linewidth=2, zorder=3, label="95 % interval")
        if missing.any():
            ends = (point + missing)[order]
            said = "if all missing cross-dose were real"
            ax.hlines(rows, point[order], ends, color=ORANGE, linewidth=5, alpha=0.6, label=said)
        beside: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        beside["annotation_clip"] = False
        for row, i in enumerate(order):
            ax.annotate(words[i], (1.0, row), xytext=(4, 0), va="center", fontsize=8, **beside)
        right = float(max((high + missing).max(), (point + missing).max()))
        ax.set_yticks(rows, [names[i] for i in order])
        ax.set_ylim(-0.6, len(order) - 0.4)
        ax.set_xlim(0.0, 1.06 * right if right > 0 else 1.0)
        _across(ax)
        ax.set_xlabel(f"absorbed dose from {doses.injected_activity / 1000:.4g} GBq {doses.nuclide} [Gy]")
        figure.legend(loc="upper center", ncols=3)
    return figure


def _across(ax: Axes) -> None:
    """Rows with names: vertical lines to read values from, and nothing else."""
    ax.grid(axis="x", color="#E3E3E3", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)


def tia_figure(tia: TIA, practice: Sequence[Practice]) -> Figure:
    """How far the integrals of daily practice are from that of the fitted model, per organ [%]."""
    methods = list(dict.fromkeys(p.method for p in practice))
    found = {(p.method, p.organ): 100.0 * p.difference for p in practice}
    with style():
        figure = new_figure(WIDTH, 0.32 * len(methods) + 1.0)
        names = [m.split(" (")[0] for m in methods]
        ax = place(figure, left=text_width(names) + 0.15, right=0.12, bottom=0.48, top=0.36)
        ax.axvline(0.0, color=BLACK, linewidth=1.0)
        ax.axvspan(-10.0, 10.0, color="#EDEDED", linewidth=0, label="within 10 %")
        shift = 0.5 / max(len(tia.organs), 1)
        for k, organ in enumerate(tia.organs):
            y = [len(methods) - 1 - m + (len(tia.organs) / 2 - k - 0.5) * shift for m in range(len(methods))]
            x = [found.get((m, organ), math.nan) for m in methods]
            colour, mark = CYCLE[k % len(CYCLE)], MARKS[k % len(MARKS)]
            ax.plot(x, y, mark, color=colour, markersize=4.5, linestyle="none", label=label(organ))
        ax.set_yticks(range(len(methods)), names[::-1])
        ax.set_ylim(-0.6, len(methods) - 0.4)
        _across(ax)
        ax.set_xlabel("difference from the integral of the fitted model [%]")
        figure.legend(loc="upper center", ncols=min(len(tia.organs) + 1, 5), handletextpad=0.3)
    return figure


def plan_figure(plan: Plan, schedules: Plan | None = None) -> Figure:
    """Probability of exceeding each limit against activity per cycle, and the activity each number of cycles may have.

    Parameters
    ----------
    plan : its best schedule is drawn on the left
    schedules : plan over several numbers of cycles, drawn on the right; default `plan` itself where it has several
    """
    one = plan.best
    several = schedules or (plan if len(plan.schedules) > 1 else None)
    top = max(
        float(np.nanquantile(one.allowed[one.allowed > 0], 0.5)) if np.any(one.allowed > 0) else 1.0, one.activity
    )
    finite = np.where(np.isfinite(one.allowed), one.allowed, np.inf)
    reach = min(1.45 * float(np.quantile(finite.min(axis=0), 0.99)), 3.0 * top)
    grid = np.linspace(0.0, max(reach, 1.6 * one.activity), 160)
    sorted_each = np.sort(one.allowed, axis=1)
    with style():
        figure = new_figure(WIDTH, 3.1)
        left = place(figure, left=0.72, right=3.1 if several else 0.12, bottom=0.5, top=0.3)
        for k, limit in enumerate(plan.limits):
            p = np.searchsorted(sorted_each[k], grid, side="left") / sorted_each.shape[1]
            colour = CYCLE[k % len(CYCLE)]
            words = f"{label(limit.organ)}, {limit.value:g} Gy{'' if limit.kind == 'dose' else ' ' + limit.kind}"
            left.plot(grid / 1000, 100 * p, color=colour, linestyle=DASHES[k % len(DASHES)], label=words)
        if len(plan.limits) > 1:
            p = np.searchsorted(np.sort(one.allowed.min(axis=0)), grid, side="left") / one.allowed.shape[1]
            left.plot(grid / 1000, 100 * p, color="#BBBBBB", linewidth=4, zorder=0, label="any limit")
        left.axhline(100 * plan.probability, color=GREY, linewidth=0.9, linestyle=":")
        left.plot(one.activity / 1000, 100 * plan.probability, "o", color=BLACK, zorder=6)
        left.annotate(
            f"{round_down(one.activity / 1000)} GBq\nat {100 * plan.probability:g} %",
            (one.activity / 1000, 100 * plan.probability), xytext=(-8, 10), textcoords="offset points",
            ha="right", fontsize=8,
        )  # fmt: skip
        left.set_xlim(0.0, grid[-1] / 1000)
        left.set_ylim(0.0, 102.0)
        further = "further " if plan.counts_measured else ""
        left.set_title(f"{one.number} {further}{'cycle' if one.number == 1 else 'cycles'}")
        left.set_xlabel("activity per cycle [GBq]")
        left.set_ylabel("probability that the limit\nis exceeded [%]")
        left.legend(loc="upper left")
        if several:
            _schedules(place(figure, left=4.75, right=0.08, bottom=0.5, top=0.3), several, one.number)
    return figure


def _schedules(ax: Axes, plan: Plan, chosen: int) -> None:
    numbers = [s.number for s in plan.schedules]
    values = [s.activity / 1000 for s in plan.schedules]
    colours = [BLUE if n == chosen else "#B9D3E6" for n in numbers]
    ax.bar(numbers, values, color=colours, width=0.7)
    for n, v in zip(numbers, values, strict=True):
        ax.annotate(
            round_down(v), (n, v), ha="center", va="bottom", fontsize=8, xytext=(0, 1), textcoords="offset points"
        )
    ax.set_xticks(numbers)
    ax.set_ylim(0.0, 1.12 * max([*values, 1e-9]))
    ax.set_title("by number of cycles")
    ax.set_xlabel("further cycles" if plan.counts_measured else "cycles")
    ax.set_ylabel("activity per cycle [GBq]")


def simulation_figure(
    run: xr.Dataset, *, names: Sequence[str] | None = None, scale: Literal["linear", "log"] = "linear"
) -> Figure:
    """Observables of a run over time; those that share a unit share a panel.

    Parameters
    ----------
    run : result of `simulate`
    names : which observables; default all [text]
    scale : of the vertical axis [text]

    Raises
    ------
    PkmodelError
        The run has no such observable.
    """
    known = [str(v) for v in run.data_vars if f"integral_{v}" in run]
    shown = list(known if names is None else names)
    if unknown := [n for n in shown if n not in known]:
        raise PkmodelError(f"{', '.join(map(repr, unknown))} is not in this run; it has: {', '.join(known)}")
    units: dict[str, list[str]] = {}
    for name in shown:
        units.setdefault(str(run[name].attrs["units"]), []).append(name)
    time = run["time"].to_numpy()
    days = time[-1] > 96.0
    with style():
        figure = new_figure(WIDTH if len(units) > 1 else 5.2, 2.9 * math.ceil(len(units) / 2) + 0.2, "constrained")
        columns = 1 if len(units) == 1 else 2
        axes = np.ravel(figure.subplots(math.ceil(len(units) / columns), columns, squeeze=False))
        for ax, (unit, members) in zip(axes, units.items(), strict=False):
            for k, name in enumerate(members):
                x, y = (time / 24.0 if days else time), run[name].to_numpy()
                dash = DASHES[(k // len(CYCLE)) % len(DASHES)]
                ax.plot(x, y, color=CYCLE[k % len(CYCLE)], linestyle=dash, label=label(name))
            ax.set_xlabel("time after the first administration " + ("[d]" if days else "[h]"))
            ax.set_ylabel(f"[{unit}]" if len(members) > 1 else f"{label(members[0])} [{unit}]")
            ax.set_xlim(0.0, x[-1])
            if scale == "log":
                log_axis(ax)
                top = float(max(np.max(run[n].to_numpy()) for n in members))
                ax.set_ylim(top * 1e-4, top * 2) if top > 0 else None
            else:
                ax.set_ylim(bottom=0.0)
            if len(members) > 1:
                ax.legend(ncols=1 if len(members) < 8 else 2)
        for ax in axes[len(units) :]:
            ax.axis("off")
    return figure
