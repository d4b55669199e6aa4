"""Figures of a design: what is known of the organs before and after the scans, and what each scan's time is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import PkmodelError
from .plot_style import BLACK, CYCLE, DASHES, GREY, MARKS, WIDTH, label, new_figure, style
from .sampling_design.clinic import Clinic
from .sampling_design.information import of_scans
from .sampling_design.result import Design
from .sampling_design.single_scan import BestTime

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
_POINTS = 240
_Z90 = 1.645  # of a 90 % interval
_OPEN = "#EDEDED"


def design_figure(design: Design) -> Figure:
    """Expected activity of each organ with 90 % bands before and after the scans; below, SD of TIA as one scan moves.

    Parameters
    ----------
    design : of `design` or `sampling_adequacy`

    Raises
    ------
    PkmodelError
        The design is of a population study, which has no TIA to draw.
    """
    if design.criterion is None:
        raise PkmodelError("a population study has no curve of its own; print it, or draw one patient's design")
    last = _last(design)
    with style():
        figure = new_figure(WIDTH, 5.6, "constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.0, 1.0))
        for ax in (upper, lower):
            _shade(ax, design.clinic, last)
        _organs(upper, design, last)
        _moving(lower, design, last)
        upper.set_title("a  what is expected, and known before (light) and after (dark) the scans: 90 %")
        lower.set_title("b  one scan moved, the others held")
        lower.set_xlabel("time after injection [h]")
        lower.set_xlim(0.0, last)
        _days(lower, last)
    return figure


def best_time_figure(result: BestTime) -> Figure:
    """Error of TIA against the time of a single scan: linear and simulated, each organ, and the best time."""
    last = float(result.times[-1])
    names = result.setting.names
    several = sum(o.weight > 0 for o in result.setting.organs) > 1
    with style():
        figure = new_figure(WIDTH, 3.8, "constrained")
        ax = figure.subplots()
        _shade(ax, result.clinic, last)
        for j, name in enumerate(names):
            colour = CYCLE[j % (len(CYCLE) - 1)]
            ax.plot(result.times, 100 * result.linear[:, j], color=colour, ls=DASHES[1], lw=1.1)
            shown = 100 * (result.linear[:, j] if result.simulated is None else result.simulated.rmse[:, j])
            if result.simulated is None:
                ax.plot([], [], color=colour, label=label(name))
                continue
            ax.plot(result.times, shown, color=colour, label=label(name))
            wide = 1.96 / np.sqrt(2.0 * result.simulated.patients)  # of a root mean square of so many normal errors
            ax.fill_between(result.times, shown * (1 - wide), shown * (1 + wide), color=colour, alpha=0.18, lw=0)
        if several:
            ax.plot(result.times, 100 * result.error, color=BLACK, lw=2.0, label="all, root mean square")
        best, (a, b) = result.time, result.good
        k = int(np.argmin(np.abs(result.times - best)))
        value = 100 * float(result.error[k])
        ax.plot(best, value, "o", color=BLACK, ms=6, zorder=5)
        ax.annotate(
            f"{best:.3g} h: {value:.3g} %", (best, value), (0, 12), textcoords="offset points", ha="center", fontsize=8
        )
        ax.plot(
            [a, b], [value, value], color=BLACK, lw=9, alpha=0.2, solid_capstyle="butt", label="within 5 % of the best"
        )
        top = np.quantile(100 * result.linear, 0.9) * 1.3
        ax.set_ylim(0, max(float(top), 1.6 * value))
        ax.set_xlim(0, last)
        _days(ax, last)
        ax.set_xlabel("time of the scan after injection [h]")
        ax.set_ylabel("relative error of TIA [%]")
        ax.plot([], [], color=GREY, ls=DASHES[1], lw=1.1, label="linear: expected SD")
        if result.simulated is not None:
            ax.plot([], [], color=GREY, label="simulated: RMSE (95 % band)")
        figure.legend(loc="outside upper center", ncols=4)
    return figure


def _last(design: Design) -> float:
    ends = [float((design.start + design.hours)[-1])]
    if design.candidates is not None and design.candidates.start.size:
        ends.append(float((design.candidates.start + design.candidates.hours).max()))
    return 1.03 * max(ends)


def _shade(ax: Axes, clinic: Clinic | None, last: float) -> None:
    for k, (a, b) in enumerate(clinic.intervals(last) if clinic else ()):
        ax.axvspan(a, b, color=_OPEN, lw=0, zorder=0, label="clinic open" if k == 0 else None)


def _days(ax: Axes, last: float) -> None:
    """Ticks once a day where that is readable."""
    if 48 <= last <= 400:
        ax.set_xticks(np.arange(0.0, last, 24.0))


def _organs(ax: Axes, design: Design, last: float) -> None:
    """Expected curves with what is known of them before and after."""
    setting = design.setting
    grid = np.unique(np.concatenate([np.geomspace(last / 300, last, _POINTS), design.start]))
    seen = setting.expected(grid, np.zeros_like(grid), people=setting.typical[None, :])
    information = setting.precision + design.scan_information[0].sum(axis=0)
    after = np.linalg.pinv(information, hermitian=True)
    lowest = np.inf
    for j, organ in enumerate(setting.organs):
        colour = CYCLE[j % (len(CYCLE) - 1)]
        value, slope = seen.value[0, :, j], seen.tangent[0, :, j]
        shown = value > 1e-6 * value.max()
        lowest = min(lowest, float(value[shown][-1]))
        for covariance, alpha in ((setting.omega if setting.prior else None, 0.14), (after, 0.34)):
            if covariance is None:
                continue
            with np.errstate(divide="ignore", invalid="ignore"):
                sd = np.sqrt(np.maximum(np.einsum("ta,ab,tb->t", slope, covariance, slope), 0.0)) / value
            band = np.exp(_Z90 * np.minimum(sd[shown], 5.0))
            ax.fill_between(grid[shown], value[shown] / band, value[shown] * band, color=colour, alpha=alpha, lw=0)
        ax.plot(grid[shown], value[shown], color=colour, label=label(organ.name))
        at = np.searchsorted(grid, design.start)
        noise = np.sqrt(organ.noise.variance(value[at], np.maximum(design.hours, 1e-9))[0])
        ax.errorbar(
            design.start + design.hours / 2, value[at], yerr=_Z90 * noise, fmt=MARKS[j % len(MARKS)], color=colour,
            ms=4, lw=1.0, capsize=2, mfc="white",
        )  # fmt: skip
    units = {o.unit for o in setting.organs}
    ax.set_yscale("log")
    ax.set_ylim(bottom=lowest / 3)
    ax.set_ylabel(f"expected value [{units.pop()}]" if len(units) == 1 else "expected value [own units]")
    ax.legend(ncols=3)


def _moving(ax: Axes, design: Design, last: float) -> None:
    """The criterion as one scan moves."""
    setting, criterion = design.setting, design.criterion
    assert criterion is not None
    grid = np.linspace(last / _POINTS, last / 1.03, _POINTS)
    lines = []
    for k in range(design.start.size):
        times = np.unique(np.append(grid, design.start[k]))
        scan = of_scans(setting, setting.expected(times, np.full(times.size, design.hours[k])))
        others = design.information - design.scan_information[:, k]
        value = 100 * criterion.of(others[:, None] + scan)
        value[~np.isfinite(value)] = np.nan
        colour = CYCLE[k % len(CYCLE)]
        name = f"scan {k + 1}" if design.start.size > 1 else "the scan"
        ax.plot(times, value, color=colour, ls=DASHES[k % len(DASHES)], label=name)
        here = value[np.searchsorted(times, design.start[k])]
        ax.plot(design.start[k], here, MARKS[k % len(MARKS)], color=colour, ms=6, zorder=5)
        lines.append(value)
    here = 100 * design.value
    top = np.nanquantile(np.concatenate(lines), 0.95) if np.isfinite(np.concatenate(lines)).any() else 1.0
    low = np.nanmin(np.concatenate(lines)) if np.isfinite(np.concatenate(lines)).any() else 0.0
    if np.isfinite(here):
        top = min(top, 6 * here)
        low = min(low, here)
    ax.set_ylim(max(low - 0.12 * (top - low), 0.0), top + 0.05 * (top - low))
    ax.set_ylabel("expected relative SD [%]" if design.totals is not None else "criterion [%]")
    ax.legend(ncols=4)
