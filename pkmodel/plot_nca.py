"""Figures of non-compartmental analyses: each curve with its area, its terminal line and the line's 95 % band."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import DataError
from .noncompartmental.result import NCA
from .plot_style import BLUE, GREY, VERMILLION, WIDTH, label, log_axis, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 24  # panels in one figure


def nca_figure(analyses: Sequence[NCA]) -> Figure:
    """Concentrations over time on a logarithmic axis, one panel per curve; one curve gets a linear panel too.

    Filled marks were used for the terminal line, open ones not; triangles are limits of samples below quantification.
    The band is the 95 % confidence of the line (from the regression alone).

    Parameters
    ----------
    analyses : at most 24

    Raises
    ------
    DataError
        There is nothing to draw, or too much.
    """
    if not 1 <= len(analyses) <= MOST:
        raise DataError(f"{len(analyses)} analyses; a figure shows 1 to {MOST}: pick some, e.g. result[subject].plot()")
    with style():
        if len(analyses) == 1:
            figure = new_figure(WIDTH, 3.0, "constrained")
            left, right = figure.subplots(1, 2)
            _panel(left, analyses[0], log=False)
            _panel(right, analyses[0], log=True)
            left.set_title("area", fontsize=9)
            fit = analyses[0].terminal
            right.set_title(fit.why or f"half-life {fit.half_life:.3g} h", fontsize=9)
            right.legend(loc="best")
            figure.suptitle(label(analyses[0].heading), fontsize=9)
            return figure
        columns = 3 if len(analyses) > 4 else 2
        rows = math.ceil(len(analyses) / columns)
        figure = new_figure(WIDTH, 2.2 * rows + 0.3, "constrained")
        axes = np.ravel(figure.subplots(rows, columns, squeeze=False))
        for k, (ax, one) in enumerate(zip(axes, analyses, strict=False)):
            _panel(ax, one, log=True)
            slope = "" if one.terminal.why else f", half-life {one.terminal.half_life:.3g} h"
            ax.set_title(label(" ".join(x for x in (one.subject, one.region) if x)) + slope, fontsize=8)
            ax.set_xlabel("time after the dose [h]" if k >= len(analyses) - columns else "")
            ax.set_ylabel(f"[{one.unit}]" if k % columns == 0 else "")
        for ax in axes[len(analyses) :]:
            ax.axis("off")
        legend = {name: h for ax in axes for h, name in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.legend(list(legend.values()), list(legend), loc="outside upper center", ncols=len(legend))
    return figure


def _panel(ax: Axes, one: NCA, *, log: bool) -> None:
    s, fit = one.samples, one.terminal
    last = int(np.flatnonzero(s.measured)[-1])
    t, c = s.t[: last + 1], s.c[: last + 1]
    x, y = _between(t, c, one.method)
    ax.plot(x, y, color=BLUE, linewidth=1.2)
    if not log:
        ax.fill_between(x, 0.0, y, color=BLUE, alpha=0.12, linewidth=0, label="area")
    used = np.isin(s.t, fit.t) & s.measured
    other = s.measured & ~used
    marks: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 4.5, "color": BLUE}
    ax.plot(s.t[other], s.c[other], markerfacecolor="white", label="samples", **marks)
    if used.any():
        ax.plot(s.t[used], s.c[used], label="in the line", **marks)
        _line(ax, one)
    if s.below_t.size:
        shown = s.below_c > 0
        ax.plot(s.below_t[shown], s.below_c[shown], "v", color=GREY, markersize=5, label="below this limit")
    ax.set_xlabel("time after the dose [h]")
    ax.set_ylabel(f"concentration [{one.unit}]")
    if log:
        log_axis(ax)
        positive = s.c[s.measured & (s.c > 0)]
        ax.set_ylim(0.5 * positive.min(), 2.0 * positive.max())
    else:
        ax.set_ylim(bottom=0.0)
    ax.set_xlim(left=-0.02 * float(t[-1] or 1.0))


def _between(t: Any, c: Any, method: str) -> tuple[Any, Any]:
    """The curve as its areas take it: straight pieces, and exponential ones where it falls."""
    xs, ys = [t[:1]], [c[:1]]
    for a, b, low, high in zip(c[:-1], c[1:], t[:-1], t[1:], strict=True):
        share = np.linspace(0.0, 1.0, 20)[1:]
        falls = method != "linear" and 0 < b < a
        xs.append(low + (high - low) * share)
        ys.append(a * (b / a) ** share if falls else a + (b - a) * share)
    return np.concatenate(xs), np.concatenate(ys)


def _line(ax: Axes, one: NCA) -> None:
    """The terminal line from its first sample to a half-life beyond the last, with its band."""
    from scipy.stats import t as student

    fit = one.terminal
    x = np.linspace(fit.t[0], fit.t[-1] + min(fit.half_life, 0.5 * float(fit.t[-1])), 80)
    y = fit.line(x)
    ax.plot(x, y, color=VERMILLION, linewidth=1.3, linestyle=(0, (5, 2)), label="terminal line, 95 % band")
    if fit.t.size > 2:
        design = np.stack([np.ones_like(x), x])
        spread = np.sqrt(np.einsum("ix,ij,jx->x", design, fit.covariance, design))
        wide = np.exp(float(student.ppf(0.975, fit.t.size - 2)) * spread)
        ax.fill_between(x, y / wide, y * wide, color=VERMILLION, alpha=0.15, linewidth=0)
