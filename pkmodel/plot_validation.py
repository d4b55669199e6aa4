"""One figure for the validation page: model over published for every number, with the published spread."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .plot_style import BLACK, BLUE, GREY, VERMILLION, WIDTH, label, new_figure, style
from .validation import FACTOR, Row, Validation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW = 0.125  # [inch]
_LEAST, _MOST = 0.02, 50.0  # ratios beyond are drawn at the edge, as arrows
_SHORT = {
    "effective half-life": "Teff", "biological half-life": "Tbio", "dose ratio": "dose ratio", "content": "content",
    "TIAC": "TIAC", "SUV": "SUV", "dose": "dose",
}  # fmt: skip


def validation_figure(found: Validation) -> Figure:
    """Ratio of model to published, a row for each number, agents in two columns.

    Filled marks lie inside the published spread (bar; where none was printed, within a factor 2: grey band), open ones
    outside. Ratios outside 0.02 to 50 stand at the edge as triangles.

    Parameters
    ----------
    found : of `validate`
    """
    blocks = [[r for r in found.rows if r.fact.agent == a] for a in found.agents]
    columns = _halves(blocks)
    height = max(sum(len(b) + 1.6 for b in c) for c in columns) * _ROW + 1.0
    with style():
        figure = new_figure(WIDTH, height)
        for k, members in enumerate(columns):
            left = (0.22 if k == 0 else 0.5 * WIDTH + 0.22) + 1.35
            wide = 0.5 * WIDTH - 1.35 - 0.4
            tall = sum(len(b) + 1.6 for b in members) * _ROW
            axes = figure.add_axes((left / WIDTH, 1 - (0.4 + tall) / height, wide / WIDTH, tall / height))
            _column(axes, members)
        _key(figure)
    return figure


def _halves(blocks: list[list[Row]]) -> list[list[list[Row]]]:
    """Two columns of about the same length, in order."""
    total, so_far, cut = sum(len(b) + 1.6 for b in blocks), 0.0, len(blocks)
    for k, b in enumerate(blocks):
        so_far += len(b) + 1.6
        if so_far >= total / 2:
            cut = k + 1
            break
    return [c for c in (blocks[:cut], blocks[cut:]) if c]


def _column(ax: Axes, blocks: list[list[Row]]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    rows = sum(len(b) + 1.6 for b in blocks)
    ax.axvspan(1 / FACTOR, FACTOR, color="#EFEFEF", linewidth=0)
    ax.axvline(1.0, color=GREY, linewidth=0.8)
    beside: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    beside |= {"annotation_clip": False, "va": "center"}
    y = rows - 0.8
    for block in blocks:
        name = block[0].fact.agent.replace("_", " ")
        ax.annotate(name, (0.0, y), xytext=(-94, 0), fontsize=7, fontweight="bold", **beside)
        y -= 1.0
        for r in block:
            words = f"{label(r.fact.region)}, {_SHORT[r.fact.quantity]}"
            if not math.isnan(r.fact.from_h) and r.fact.quantity in ("content", "SUV"):
                words += f" {r.fact.from_h:g} h"
            ax.annotate(words, (0.0, y), xytext=(-4, 0), fontsize=6, ha="right", **beside)
            _mark(ax, r, y)
            y -= 1.0
        y -= 0.6
    ax.set_xscale("log")
    ax.set_xlim(_LEAST, _MOST)
    ax.set_ylim(0.0, rows)
    ax.set_yticks([])
    ax.set_xticks([0.02, 0.1, 0.5, 1, 2, 10, 50])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(axis="x", labelsize=6.5)
    ax.set_xlabel("model / published", fontsize=7.5)
    ax.spines["left"].set_visible(False)


def _mark(ax: Axes, r: Row, y: float) -> None:
    colour = BLUE if r.met else VERMILLION
    low, high = r.fact.band
    if not math.isnan(low) and r.fact.value:
        ends = np.clip([low / r.fact.value, high / r.fact.value], _LEAST, _MOST)
        ax.hlines(y, *ends, color=GREY, linewidth=2.2, alpha=0.45)
    if not np.isfinite(r.ratio):
        ax.annotate("not in the model" if math.isnan(r.got) else "never falls", (1.0, y), fontsize=5.5, va="center")
        return
    mark, x = "o", r.ratio
    if not _LEAST < x < _MOST:
        mark, x = ("<", _LEAST * 1.1) if x <= _LEAST else (">", _MOST / 1.1)
    face = colour if r.met else "white"
    ax.plot(x, y, mark, color=colour, markerfacecolor=face, markersize=3.6, markeredgewidth=1.0, zorder=4)


def _key(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    dot: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 4}
    items = [
        Line2D([], [], color=BLUE, label="met", **dot),
        Line2D([], [], color=VERMILLION, markerfacecolor="white", label="missed", **dot),
        Line2D([], [], color=GREY, linewidth=2.2, alpha=0.45, label="published: mean ± 2 SD, or range"),
        Line2D([], [], color="#DDDDDD", linewidth=6, label="factor 2"),
    ]
    figure.legend(handles=items, loc="upper center", ncols=4, fontsize=7, labelcolor=BLACK)
