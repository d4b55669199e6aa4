"""What all figures share: colours, marks, type, and how they become bytes. Nothing global is changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#6B6B6B"
CYCLE = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK)
MARKS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 7.2  # [inch], two columns of a journal
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 2, 1.5, 2)), (0, (8, 3)))

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "#333333",
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",  # text stays text: small files, and readers can search them
    "svg.hashsalt": "pkmodel",  # the same figure gives the same file
    "pdf.fonttype": 42,
}


@contextmanager
def style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """An empty figure that shows itself in a notebook."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    # on the object: a subclass would make matplotlib write its documentation anew, a quarter of a second
    setattr(figure, "_repr_png_", partial(png, figure, 110))  # noqa: B010
    return figure


def place(figure: Figure, *, left: float, right: float, bottom: float, top: float) -> Axes:
    """Axes with margins in inches: far quicker than letting matplotlib find its layout."""
    width, height = figure.get_figwidth(), figure.get_figheight()
    size = (1.0 - (left + right) / width, 1.0 - (bottom + top) / height)
    return figure.add_axes((left / width, bottom / height, *size))


def text_width(words: Iterable[str]) -> float:
    """Room that the longest of these needs at 8 points [inch]."""
    return 0.067 * max(map(len, words), default=0)


def png(figure: Figure, dpi: int = 200) -> bytes:
    """Bytes of a figure as PNG."""
    from io import BytesIO

    out = BytesIO()
    figure.savefig(out, format="png", dpi=dpi)
    return out.getvalue()


def svg(figure: Figure) -> str:
    """Text of a figure as SVG, the same for the same figure."""
    from io import StringIO

    out = StringIO()
    with style():
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def label(name: str) -> str:
    """A name as people write it: ``kidney_left`` -> ``kidney left``; nothing in it is read as mathematics."""
    return name.replace("_", " ").replace("$", r"\$")


def log_axis(ax: Axes) -> None:
    """Logarithmic, with plain numbers: 20, 50, 100 rather than powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
