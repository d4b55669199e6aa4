"""Figures of dosimetry from few scans: one patient by every method, and errors over a cohort."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .plot_style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, WIDTH, label, new_figure, style
from .single_time.evaluation import POOLED, TRUTH
from .single_time.practice import HAENSCHEID, MADSEN, MONO, PREVIOUS, TYPICAL
from .single_time.result import POPULATION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .single_time.evaluation import ScanComparison
    from .single_time.result import ReducedScan

LOOK = {  # colour and mark of each method: told apart without colour too
    POPULATION: (BLUE, "o"),
    HAENSCHEID: (VERMILLION, "s"),
    MADSEN: (GREEN, "^"),
    TYPICAL: (ORANGE, "D"),
    PREVIOUS: (PURPLE, "v"),
    MONO: (SKY, "P"),
}
WITHIN = 10.0  # [%], the band that is drawn
FAR_APART = 10.0  # ratio of regions from which the axis is logarithmic


def single_time_figure(result: ReducedScan) -> Figure:
    """TIA of each region: the population's median with its 95 % interval, and the answers of daily practice."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    regions = result.regions
    with style():
        figure = new_figure(WIDTH, 1.3 + 0.62 * len(regions), layout="constrained")
        ax = figure.add_subplot()
        for i, region in enumerate(regions):
            one = result.tia.data.sel(organ=region)
            point = float(one["tia_point"])
            low, high = np.quantile(one["tia"].to_numpy(), [0.025, 0.975])
            colour, mark = LOOK[POPULATION]
            ax.errorbar(
                point, i, xerr=[[point - low], [high - point]], fmt=mark, color=colour, capsize=3,
                label=f"{POPULATION}, 95 %" if i == 0 else None,
            )  # fmt: skip
            beside = [p for p in result.practised if p.region == region and np.isfinite(p.tia)]
            for j, p in enumerate(beside):
                colour, mark = LOOK[p.method]
                below = i + 0.16 * (j + 1) - 0.02
                drawn = ax.get_legend_handles_labels()[1]
                ax.plot(p.tia, below, mark, color=colour, ms=5, label=None if p.method in drawn else p.method)
        ax.set_yticks(range(len(regions)), [label(r) for r in regions])
        ax.set_ylim(len(regions) - 0.2, -0.5)
        points = result.tia.data["tia_point"].to_numpy()
        if points.min() > 0 and points.max() > FAR_APART * points.min():
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.xaxis.set_minor_formatter(NullFormatter())
        else:
            ax.set_xlim(left=0)
        ax.set_xlabel("time-integrated activity [MBq h]")
        times = sorted({f"{t:.4g}" for c in result.curves for t in c.t}, key=float)
        ax.set_title(
            f"{label(result.curves.subject)}: TIA from {'a scan' if len(times) == 1 else 'scans'} at "
            f"{', '.join(times)} h"
        )
        handles, names = ax.get_legend_handles_labels()
        first = sorted(range(len(names)), key=lambda i: not names[i].startswith(POPULATION))
        figure.legend(
            [handles[i] for i in first], [names[i] for i in first], loc="outside lower center", ncols=len(names)
        )
    return figure


def comparison_figure(
    comparison: ScanComparison, reference: str = TRUTH, regions: Sequence[str] | None = None
) -> Figure:
    """Errors by scan time and method: median, middle half (bar) and 5 to 95 % of patients (line); 10 % is shaded."""
    errors = comparison.errors(reference)
    shown = list(regions) if regions else list(dict.fromkeys(errors["region"]))
    scans = list(dict.fromkeys(errors["scans"]))
    methods = [m for m in LOOK if (errors["method"] == m).any()]
    columns = min(2, len(shown))
    lines = -(-len(shown) // columns)
    with style():
        figure = new_figure(WIDTH, 0.7 + 2.35 * lines, layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False, sharex=True)
        for ax, region in zip(axes.flat, shown, strict=False):
            part = errors if region == POOLED else errors[errors["region"] == region]
            _panel(ax, part, scans, methods)
            ax.set_title(label(region))
        for ax in list(axes.flat)[len(shown) :]:
            ax.set_axis_off()
        for ax in axes[-1]:
            ax.set_xlabel("scan at [h]" if all("+" not in s for s in scans) else "scans at [h]")
        for row in axes:
            row[0].set_ylabel("error of TIA [%]")
        handles, names = axes[0][0].get_legend_handles_labels()
        n = errors["subject"].nunique()
        figure.legend(handles, names, loc="outside lower center", ncols=len(methods))
        figure.suptitle(
            f"TIA from few scans against {'the truth' if reference == TRUTH else reference}, {n} patients: median, "
            "middle half, 5 to 95 %", fontsize=9,
        )  # fmt: skip
    return figure


def _panel(ax: Axes, part: object, scans: Sequence[str], methods: Sequence[str]) -> None:
    import pandas as pd

    assert isinstance(part, pd.DataFrame)
    step = 0.8 / len(methods)
    ax.axhspan(-WITHIN, WITHIN, color="#DDDDDD", lw=0, zorder=0)
    ax.axhline(0, color=GREY, lw=0.8, zorder=1)
    shown: list[float] = []
    for j, method in enumerate(methods):
        colour, mark = LOOK[method]
        for i, scan in enumerate(scans):
            e = 100 * part.loc[(part["method"] == method) & (part["scans"] == scan), "error"].dropna().to_numpy()
            if not e.size:
                continue
            p5, p25, p50, p75, p95 = np.quantile(e, [0.05, 0.25, 0.5, 0.75, 0.95])
            x = i + (j - (len(methods) - 1) / 2) * step
            ax.plot([x, x], [p5, p95], color=colour, lw=1.0, zorder=2)
            ax.plot([x, x], [p25, p75], color=colour, lw=4.0, alpha=0.55, solid_capstyle="butt", zorder=2)
            ax.plot(
                x, p50, mark, color=colour, mec=BLACK, mew=0.4, ms=5, zorder=3, ls="none",
                label=method if i == 0 else None,
            )  # fmt: skip
            shown += [float(p5), float(p95)]
    room = 1.1 * max(np.abs(shown).max(initial=0.0), 1.5 * WITHIN)
    ax.set_ylim(max(-100.0, -room), room)
    ax.set_xticks(range(len(scans)), [s.removesuffix(" h") for s in scans])
