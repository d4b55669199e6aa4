"""Figures of PET methods: the line of a graphical method, the fit of a reference model, blood and its functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .pet.arterial import ArterialInput
from .pet.fitted import Fitted
from .pet.input_functions import InputFit
from .pet.measured import MINUTES
from .pet.regression import regress
from .pet.result import PetResult
from .plot_style import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILLION, WIDTH, label, log_axis, new_figure, place, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
_TALL = 3.1  # [inch]
_LEFT, _GAP, _BOTTOM, _TOP = 0.68, 0.75, 0.52, 0.36


def pet_figure(result: PetResult) -> Figure:
    """Points and fit on the left, residuals over time on the right.

    A graphical method shows its line through the points used (filled; open ones were not) with a 95 % band; other
    methods show the curve over time.

    Parameters
    ----------
    result : of any method of `pkmodel.pet`
    """
    with style():
        figure = new_figure(WIDTH, _TALL)
        wide = 0.6 * WIDTH
        main = place(figure, left=_LEFT, right=WIDTH - wide, bottom=_BOTTOM, top=_TOP)
        side = place(figure, left=wide + _GAP, right=0.12, bottom=_BOTTOM, top=_TOP)
        _line(main, result) if result.straight else _over_time(main, result)
        _residuals(side, result)
        first = result.estimates[0]
        said = f"{first.name} = {first.value:.4g}" + ("" if np.isnan(first.se) else f" ± {first.se:.2g}")
        main.set_title(f"{result.method}, {label(result.region)}: {said} {_unit(first.unit)}".rstrip())
    return figure


def _unit(unit: str) -> str:
    return "" if unit == "1" else unit.replace("cm3", "cm³")


def _line(ax: Axes, result: PetResult) -> None:
    p = result.points
    used, shown = p.used, np.isfinite(p.x) & np.isfinite(p.y)
    # the ratio of the first frames is noise over noise and may lie anywhere: the window is that of the line
    low, high = 0.0, 1.06 * float(p.x[used].max())
    x = np.linspace(low, high, 80)
    columns = np.column_stack([np.where(used, p.x, 0.0), np.ones(p.x.size)])
    fit = regress(columns, np.where(used, p.y, 0.0), np.where(used, p.variance, np.inf), result.method)
    grid = np.column_stack([x, np.ones(x.size)])
    y = grid @ fit.coefficients
    spread = 1.96 * np.sqrt(np.sum((grid @ fit.covariance) * grid, axis=1))
    begin = float(p.x[used].min())
    inside = x >= begin
    ax.fill_between(x, y - spread, y + spread, color=BLUE, alpha=0.15, linewidth=0)
    ax.plot(x[inside], y[inside], color=BLUE)
    ax.plot(x[~inside], y[~inside], color=BLUE, linewidth=1.0, linestyle=(0, (4, 3)))
    rest = shown & ~used
    ax.plot(p.x[rest], p.y[rest], "o", color=GREY, markerfacecolor="white", markersize=4.5, label="not used")
    ax.plot(p.x[used], p.y[used], "o", color=BLACK, markersize=4.5, label="used")
    top = max(float(p.y[used].max()), float(y.max()))
    bottom = min(0.0, float(p.y[used].min()))
    ax.set_xlim(low, high)
    ax.set_ylim(bottom, 1.08 * top)
    ax.axvline(begin, color=GREY, linewidth=0.8, linestyle=(0, (1.5, 1.5)))
    ax.annotate(f"t* = {result.t_star:.3g} min", (begin, 0.02), xycoords=("data", "axes fraction"), xytext=(4, 0),
                textcoords="offset points", ha="left", fontsize=8, color=GREY)  # fmt: skip
    ax.set_xlabel(_math(p.x_label))
    ax.set_ylabel(_math(p.y_label))
    ax.legend(loc="upper left")


def _math(text: str) -> str:
    return text.replace("int ", "∫").replace("cm3", "cm³")


def _over_time(ax: Axes, result: PetResult) -> None:
    p = result.points
    rest = ~p.used
    shown = p.used if "from t*" in result._title() else np.ones(p.t.size, dtype=bool)
    ax.plot(p.t[shown], p.fitted[shown], color=BLUE, label="fit")
    if rest.any():
        ax.plot(p.t[rest], p.y[rest], "o", color=GREY, markerfacecolor="white", markersize=4, label="not used")
    ax.plot(p.t[p.used], p.y[p.used], "o", color=BLACK, markersize=4, label="measured")
    ax.set_xlim(left=0.0)
    ax.set_ylim(bottom=min(0.0, float(p.y.min())))
    ax.set_xlabel(p.x_label)
    ax.set_ylabel(_math(p.y_label))
    ax.legend(loc="best")


def _residuals(ax: Axes, result: PetResult) -> None:
    p = result.points
    relative = result.residuals[p.used] / np.sqrt(p.variance[p.used])
    size = float(np.sqrt(np.mean(relative**2))) or 1.0
    ax.axhspan(-2, 2, color="#EFEFEF", linewidth=0)
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    ax.plot(p.t[p.used], relative / size, "o", color=VERMILLION, markersize=4)
    most = 1.1 * max(3.0, float(np.abs(relative / size).max()))
    ax.set_ylim(-most, most)
    ax.set_xlabel("time [min]")
    ax.set_ylabel("residual / its root mean square")
    ax.set_title("Residuals (band: ± 2)")


def fitted_figure(fit: Fitted) -> Figure:
    """Samples and fitted function with a 95 % band; an input function once for its first minutes and once whole.

    Parameters
    ----------
    fit : input function, parent fraction or plasma ratio
    """
    t, y = fit.samples.t * MINUTES, fit.samples.value
    with style():
        figure = new_figure(WIDTH, _TALL)
        if isinstance(fit, InputFit):
            half = WIDTH / 2
            early = place(figure, left=_LEFT, right=half + 0.15, bottom=_BOTTOM, top=_TOP)
            whole = place(figure, left=half + 0.6, right=0.12, bottom=_BOTTOM, top=_TOP)
            end = max(4.0 * float(t[int(np.argmax(y))]), 1.0)
            _samples(early, fit, 0.0, end)
            _samples(whole, fit, 0.0, float(t[-1]))
            positive = np.concatenate([y[y > 0], [1e-3 * y.max()]])
            log_axis(whole)
            whole.set_ylim(max(float(positive.min()), 1e-3 * float(y.max())) / 1.5, 1.6 * float(y.max()))
            early.set_title(f"{label(fit.samples.region)}, {label(fit.family)}: first minutes")
            whole.set_title("All samples")
            whole.set_ylabel("")
        else:
            ax = place(figure, left=_LEFT, right=0.12, bottom=_BOTTOM, top=_TOP)
            _samples(ax, fit, 0.0, float(t[-1]))
            ax.set_ylim(0.0, 1.04 if fit.what == "parent fraction" else None)
            ax.set_title(f"{fit.what.capitalize()}, {label(fit.family)}: {label(fit.samples.subject)}")
    return figure


def _samples(ax: Axes, fit: Fitted, start: float, end: float) -> None:
    t, y = fit.samples.t * MINUTES, fit.samples.value
    x = np.linspace(start, end, 600)
    value, error = fit(x), 1.96 * fit.error(x)
    if np.all(np.isfinite(error)):
        ax.fill_between(x, np.maximum(value - error, 0.0), value + error, color=BLUE, alpha=0.2, linewidth=0)
    ax.plot(x, value, color=BLUE, label="fit, 95 % band")
    ax.plot(t, y, "o", color=BLACK, markersize=3.2, label="samples", zorder=1)
    ax.set_xlim(start, 1.02 * end)
    ax.set_xlabel("time [min]")
    unit = "" if fit.samples.unit == "1" else f" [{fit.samples.unit}]"
    ax.set_ylabel(("fraction" if fit.what == "parent fraction" else "ratio" if not unit else "activity") + unit)
    ax.legend(loc="upper right")


def arterial_figure(found: ArterialInput) -> Figure:
    """Parent plasma and whole blood: the first minutes, and all samples on a logarithmic axis.

    Parameters
    ----------
    found : of `pkmodel.pet.arterial_input`
    """
    with style():
        figure = new_figure(WIDTH, _TALL)
        half = WIDTH / 2
        early = place(figure, left=_LEFT, right=half + 0.15, bottom=_BOTTOM, top=_TOP)
        whole = place(figure, left=half + 0.6, right=0.12, bottom=_BOTTOM, top=_TOP)
        parent = found.parent
        peak = float(parent.t[int(np.argmax(parent.value))]) * MINUTES
        last, most = float(parent.t[-1]) * MINUTES, float(parent.value.max())
        for ax, end in ((early, max(4.0 * peak, 1.0)), (whole, last)):
            if found.blood is not None:
                ax.plot(
                    found.blood.t * MINUTES, found.blood.value, "s", color=ORANGE, markersize=3, label="whole blood"
                )
                most = max(most, float(found.blood.value.max()))
            ax.plot(parent.t * MINUTES, parent.value, "o", color=BLACK, markersize=3, label="parent in plasma")
            if found.input_fit is not None:
                x = np.linspace(0.0, end, 600)
                value, error = found.input_fit(x), 1.96 * found.input_fit.error(x)
                if np.all(np.isfinite(error)):
                    ax.fill_between(x, np.maximum(value - error, 0), value + error, color=GREEN, alpha=0.2, linewidth=0)
                ax.plot(x, value, color=GREEN, label=f"{label(found.input_fit.family)}, 95 % band")
            ax.set_xlim(0.0, 1.02 * end)
            ax.set_xlabel("time [min]")
        early.set_ylim(0.0, 1.08 * most)
        early.set_ylabel(f"activity [{parent.unit}]")
        early.set_title(f"{label(parent.subject)}: first minutes")
        log_axis(whole)
        positive = parent.value[parent.value > 0]
        whole.set_ylim(max(float(positive.min()), 1e-4 * most) / 1.5, 1.6 * most)
        whole.set_title("All samples")
        whole.legend(loc="upper right")
    return figure
