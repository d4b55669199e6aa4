"""Figures of a comparison of formats: uptake and contrast over time, time to image, dose, index, sweeps, the map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .comparison.result import FormatComparison
from .comparison.sweeps import TumourSweep
from .errors import PkmodelError, did_you_mean
from .plot_style import BLACK, CYCLE, DASHES, GREY, MARKS, WIDTH, label, log_axis, new_figure, style

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
TUMOUR = "tumour"


def comparison_figure(result: FormatComparison, what: str = "overview", **options: Any) -> Figure:
    """One of the figures of a comparison.

    Parameters
    ----------
    result : of `compare_formats`
    what : "overview", "uptake", "contrast", "dose" or "index" [text]
    options : `nuclide` for "overview" and "dose", `label` for "uptake" and "contrast"; default the first [text]

    Raises
    ------
    PkmodelError
        There is no such figure.
    """
    drawn = {
        "overview": overview_figure,
        "uptake": uptake_figure,
        "contrast": contrast_figure,
        "dose": dose_figure,
        "index": index_figure,
    }
    if what not in drawn:
        raise PkmodelError(f"figure {what!r}{did_you_mean(what, drawn)}; allowed: {', '.join(drawn)}")
    return drawn[what](result, **options)


def overview_figure(result: FormatComparison, nuclide: str | None = None) -> Figure:
    """Tumour uptake, contrast, time to image, dose of one nuclide, and index: one figure for a paper.

    Parameters
    ----------
    result : of `compare_formats`
    nuclide : whose doses are drawn; default the last [text]
    """
    chosen = nuclide or result.nuclides[-1]
    chemistry = str(result.data["label_of"].sel(nuclide=chosen).item())
    with style():
        figure = new_figure(WIDTH, 6.6, "constrained")
        grid = figure.add_gridspec(3, 2, height_ratios=(1.0, 0.62, 0.85))
        upper = [figure.add_subplot(grid[0, k]) for k in range(2)]
        _uptake(upper[0], result, TUMOUR, chemistry)
        upper[0].set_title("a  tumour")
        _contrast(upper[1], result, str(result.data.attrs["background"]), chemistry)
        upper[1].set_title("b  contrast")
        middle = figure.add_subplot(grid[1, :])
        _times(middle, result)
        middle.set_title("c  best time to image, each nuclide")
        left = figure.add_subplot(grid[2, 0])
        _doses(left, result, chosen)
        left.set_title(f"d  dose of {_nuclide(chosen)}")
        right = figure.add_subplot(grid[2, 1])
        _index(right, result)
        right.set_title("e  therapeutic index")
        handles, words = upper[0].get_legend_handles_labels()
        figure.legend(handles, words, loc="outside upper center", ncols=min(len(words), 6))
    return figure


def uptake_figure(result: FormatComparison, label: str | None = None) -> Figure:
    """Uptake over time, a panel for each region: typical patient and the middle 90 % of the others."""
    chemistry = label or str(result.data["label"].to_numpy()[0])
    regions = [str(r) for r in result.data["region"].to_numpy()]
    with style():
        figure, panels = _grid(len(regions), columns=3, height=2.2)
        for ax, region in zip(panels, regions, strict=True):
            _uptake(ax, result, region, chemistry)
            ax.set_title(_plain(region))
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    return figure


def contrast_figure(result: FormatComparison, label: str | None = None) -> Figure:
    """Tumour-to-organ ratio over time, a panel for each organ."""
    chemistry = label or str(result.data["label"].to_numpy()[0])
    regions = [str(r) for r in result.data["region"].to_numpy() if r != TUMOUR]
    with style():
        figure, panels = _grid(len(regions), columns=2, height=2.4)
        for ax, region in zip(panels, regions, strict=True):
            _contrast(ax, result, region, chemistry)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    return figure


def _grid(panels: int, *, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of some panels over the same times, `height` inches each; places left over stay empty."""
    columns = min(panels, columns)
    rows = math.ceil(panels / columns)
    figure = new_figure(WIDTH, height * rows + 0.4, "constrained")
    every = np.ravel(figure.subplots(rows, columns, squeeze=False, sharex=True))
    for ax in every[panels:]:
        ax.axis("off")
    return figure, list(every[:panels])


def dose_figure(result: FormatComparison, nuclide: str | None = None) -> Figure:
    """Dose per GBq of tumour and organs, all formats beside each other."""
    chosen = [nuclide] if nuclide else list(result.nuclides)
    with style():
        figure = new_figure(WIDTH, 2.9, "constrained")
        panels = np.ravel(figure.subplots(1, len(chosen), squeeze=False, sharey=True))
        for k, (ax, n) in enumerate(zip(panels, chosen, strict=True)):
            _doses(ax, result, n)
            ax.set_title(_nuclide(n))
            ax.tick_params(labelleft=k == 0)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    return figure


def index_figure(result: FormatComparison) -> Figure:
    """Dose of the tumour when the first organ reaches its limit, by nuclide."""
    with style():
        figure = new_figure(4.6, 0.75 * len(result.nuclides) + 1.3, "constrained")
        ax = figure.subplots()
        _index(ax, result)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def sweep_figure(sweep: TumourSweep, what: str = "dose") -> Figure:
    """Tumour dose or uptake of each format against each property of the tumour.

    Raises
    ------
    PkmodelError
        `what` is neither "dose" nor "uptake".
    """
    if what not in ("dose", "uptake"):
        raise PkmodelError(f"figure {what!r}; allowed: dose, uptake")
    data = sweep.data if what == "dose" else sweep.data.isel(time=0)
    with style():
        figure = new_figure(WIDTH, 2.9, "constrained")
        panels = np.ravel(figure.subplots(1, len(sweep.parameters), squeeze=False, sharey=True))
        for k, (ax, name) in enumerate(zip(panels, sweep.parameters, strict=True)):
            one = data.sel(parameter=name)
            x = one["value"].to_numpy()
            inside = np.isfinite(x)
            for j, f in enumerate(sweep.formats):
                middle = one[f"{what}_point"].sel(format=f).to_numpy()
                low, high = _band(one[what].sel(format=f).to_numpy())
                keys: dict[str, Any] = {"color": CYCLE[j % len(CYCLE)]}
                ax.fill_between(x[inside], low[inside], high[inside], alpha=0.15, linewidth=0, **keys)
                mark = {"marker": MARKS[j % len(MARKS)], "markersize": 3.5, "linestyle": DASHES[j % len(DASHES)]}
                ax.plot(x[inside], middle[inside], label=label(f), **keys, **mark)
            unit = str(one["unit"].item())
            ax.set_xlabel(_PROPERTY.get(name, _plain(name)) + ("" if unit == "1" else f" [{unit}]"))
            log_axis(ax)
            if k == 0:
                n = _nuclide(str(data.attrs["nuclide"]))
                hours = f"{float(data['time']):g} h" if what == "uptake" else ""
                ax.set_ylabel(f"dose of {n} [Gy/GBq]" if what == "dose" else f"uptake at {hours} [%IA/g]")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    return figure


_PROPERTY = {
    "collagen_tumour": "matrix: collagen, volume share",
    "gag_tumour": "matrix: GAG, volume share",
    "p_vessel_tumour": "pressure in tumour vessels",
    "stroma_tumour": "stroma, share of tissue",
    "perfusion_tumour": "perfusion",
}


def map_figure(found: xr.Dataset, names: Sequence[str] | None = None) -> Figure:
    """Maps over size and affinity, of `map_size_affinity` or of `size_affinity.size_affinity_map`.

    Parameters
    ----------
    found : Dataset over MW [kDa] and KD [nmol/L]
    names : its variables, one panel each; default those over both, four at most [text]

    Raises
    ------
    PkmodelError
        A name is not over MW and KD.
    """
    flat = found.isel(t=0) if "t" in found.dims else found
    known = [str(v) for v in flat.data_vars if set(flat[v].dims) == {"MW", "KD"}]
    chosen = list(names) if names is not None else known[:4]
    if wrong := [n for n in chosen if n not in known]:
        raise PkmodelError(f"{', '.join(wrong)}: not over MW and KD; known: {', '.join(known)}")
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FuncFormatter, NullFormatter

    with style():
        columns = min(len(chosen), 2)
        rows = math.ceil(len(chosen) / columns)
        figure = new_figure(WIDTH if columns > 1 else 4.4, 2.8 * rows, "constrained")
        panels = np.ravel(figure.subplots(rows, columns, squeeze=False))
        for ax, name in zip(panels, chosen, strict=False):
            z = np.asarray(flat[name].transpose("KD", "MW").to_numpy(), dtype=float)
            good = z[np.isfinite(z) & (z > 0)]
            low, high = max(float(good.min()), float(good.max()) * 1e-3), float(good.max())
            if high <= 1.01 * low:
                low = high / 2.0
            mesh = ax.pcolormesh(
                flat["MW"],
                flat["KD"],
                np.clip(z, low, high),
                norm=LogNorm(low, high),
                cmap="cividis",
                shading="gouraud",
            )
            levels = [x for e in range(-9, 9) for x in (10.0**e, 3 * 10.0**e) if low < x < high]
            lines = ax.contour(flat["MW"], flat["KD"], z, levels=levels, colors="white", linewidths=0.8)
            ax.clabel(lines, fmt=lambda v: f"{v:.2g}", fontsize=7)
            for axis, scale in ((ax.xaxis, ax.set_xscale), (ax.yaxis, ax.set_yscale)):
                scale("log")
                axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
                axis.set_minor_formatter(NullFormatter())
            ax.set_xlabel("size [kDa]")
            ax.set_ylabel("KD [nmol/L]")
            about = flat[name].attrs
            unit = str(about.get("units", about.get("unit", "1")))
            ax.set_title(_MAP.get(name, _plain(name)) + ("" if unit == "1" else f" [{unit}]"))
            bar = figure.colorbar(mesh, ax=ax, pad=0.02)
            bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
            bar.ax.yaxis.set_minor_formatter(NullFormatter())
        for ax in panels[len(chosen) :]:
            ax.axis("off")
    return figure


_MAP = {"uptake": "tumour uptake", "to_blood": "tumour to blood"}


def _uptake(ax: Axes, result: FormatComparison, region: str, chemistry: str) -> None:
    data = result.data.sel(label=chemistry, region=region)
    t = data["time"].to_numpy()[1:]
    top = 0.0
    for k, f in enumerate(result.formats):
        one = data.sel(format=f)
        _line(ax, t, one["uptake_point"].to_numpy()[1:], one["uptake"].to_numpy()[1:], k, f)
        top = max(top, float(np.nanmax(one["uptake_point"].to_numpy())))
    ax.set_ylabel("uptake [%IA/g]")
    _hours(ax, t)
    log_axis(ax)
    ax.set_ylim(top * 1e-3, top * 2.5)


def _contrast(ax: Axes, result: FormatComparison, region: str, chemistry: str) -> None:
    data = result.data.sel(label=chemistry)
    t = data["time"].to_numpy()[1:]
    top = 1.0
    for k, f in enumerate(result.formats):
        one = data.sel(format=f)
        point, many = (_ratio(one[v].sel(region=TUMOUR), one[v].sel(region=region)) for v in ("uptake_point", "uptake"))
        _line(ax, t, point, many, k, f)
        top = max(top, float(np.nanmax(np.where(np.isfinite(point), point, 0.0))))
    ax.axhline(1.0, color=GREY, linewidth=0.8, linestyle=":")
    ax.set_ylabel(f"tumour to {_plain(region)}")
    _hours(ax, t)
    log_axis(ax)
    ax.set_ylim(0.05, min(max(2.0 * top, 20.0), 2000.0))


def _ratio(above: xr.DataArray, below: xr.DataArray) -> Floats:
    """Ratio of two courses; nothing where the lower has fallen a millionfold and is the solver's noise."""
    a, b = above.to_numpy()[1:].astype(float), below.to_numpy()[1:].astype(float)
    least = 1e-6 * np.nanmax(b, axis=0, keepdims=True)
    return np.asarray(np.divide(a, b, out=np.full(a.shape, np.nan), where=b > least))


def _line(ax: Axes, t: Floats, point: Floats, draws: Floats, k: int, name: str) -> None:
    colour = CYCLE[k % len(CYCLE)]
    low, high = _band(draws)
    ax.fill_between(t, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.plot(t, point, color=colour, linestyle=DASHES[k % len(DASHES)], label=label(name))


def _hours(ax: Axes, t: Floats) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    ax.set_xscale("log")
    ax.set_xlim(max(float(t[0]), 0.1), min(float(t[-1]), 1000.0))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("time after injection [h]")


def _times(ax: Axes, result: FormatComparison) -> None:
    """Best time of each nuclide and format, with the spread of patients; what never stands out has no mark."""
    _rows(ax, result, "best_time", result.nuclides, lambda n: {"nuclide": n})
    names = [f"{_nuclide(n)} ({_span(float(result.data['half_life'].sel(nuclide=n)))})" for n in result.nuclides]
    ax.set_yticks(range(len(names)), names[::-1])
    ax.set_xlabel("best time to image [h]")


def _doses(ax: Axes, result: FormatComparison, nuclide: str) -> None:
    _rows(ax, result, "dose", result.organs, lambda o: {"nuclide": nuclide, "organ": o})
    ax.set_yticks(range(len(result.organs)), [_plain(o) for o in result.organs][::-1])
    ax.set_xlabel("dose [Gy/GBq]")


def _index(ax: Axes, result: FormatComparison) -> None:
    _rows(ax, result, "index", result.nuclides, lambda n: {"nuclide": n})
    ax.set_yticks(range(len(result.nuclides)), [_nuclide(n) for n in result.nuclides][::-1])
    ax.set_xlabel("tumour dose at the first organ's limit [Gy]")


def _rows(ax: Axes, result: FormatComparison, name: str, rows: Sequence[str], where: Any) -> None:
    """A row for each name, a mark and an interval for each format in it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    count = len(result.formats)
    step = 0.72 / count
    for j, f in enumerate(result.formats):
        colour, mark = CYCLE[j % len(CYCLE)], MARKS[j % len(MARKS)]
        for i, row in enumerate(rows):
            one = result.data.sel(format=f, **where(row))
            y = len(rows) - 1 - i + (count / 2 - j - 0.5) * step
            x = one[name].to_numpy()
            good = x[np.isfinite(x)]
            if good.size > 1 and 2 * good.size >= x.size:  # else most have none
                ax.hlines(y, *np.quantile(good, [0.05, 0.95]), color=colour, linewidth=2.2, alpha=0.45)
            words = label(f) if i == 0 else None
            ax.plot(float(one[f"{name}_point"]), y, mark, color=colour, markersize=4.5, label=words, zorder=4)
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 200 * low else (1.0,), numticks=12))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(-0.55, len(rows) - 0.45)
    for y in range(1, len(rows)):
        ax.axhline(y - 0.5, color="#DDDDDD", linewidth=0.6)
    ax.grid(axis="x", color="#E8E8E8", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.label.set_color(BLACK)


def _band(draws: Floats) -> tuple[Floats, Floats]:
    """Middle 90 % of the patients along the last axis; nothing where there are fewer than two."""
    if draws.shape[-1] < 2:
        nothing = np.full(draws.shape[:-1], np.nan)
        return nothing, nothing
    if np.isfinite(draws).all():
        low, high = np.quantile(draws, [0.05, 0.95], axis=-1)  # many times as quick as with nan
        return low, high
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where no patient counts there is no band
        low, high = np.nanquantile(draws, [0.05, 0.95], axis=-1)
    return low, high


def _plain(name: str) -> str:
    return label(name)


def _nuclide(name: str) -> str:
    """``Lu-177`` -> ``$^{177}$Lu``."""
    element, _, mass = name.partition("-")
    return rf"$^{{{mass}}}${element}" if mass else name


def _span(hours: float) -> str:
    return f"{hours / 24:.3g} d" if hours >= 48 else f"{hours:.3g} h" if hours >= 1 else f"{60 * hours:.3g} min"
