"""Small tables for terminals and notebooks: aligned text and plain HTML, with numbers people can read."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any


def show(value: Any, digits: int = 4) -> str:
    """Write a number with `digits` significant digits and no exponent where that stays short; ``-`` for nan."""
    if isinstance(value, str):
        return value
    number = float(value)
    if math.isnan(number):
        return "-"
    if math.isinf(number):
        return "inf" if number > 0 else "-inf"
    if number == 0:
        return "0"
    if not 1e-3 <= abs(number) < 1e6:
        return f"{number:.{digits - 1}e}"
    return f"{number:.{max(digits - 1 - math.floor(math.log10(abs(number))), 0)}f}"


def text_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns aligned for a terminal: the first to the left, all others to the right."""
    cells = [[show(x) for x in row] for row in rows]
    widths = [max([len(name), *(len(row[i]) for row in cells)]) for i, name in enumerate(header)]

    def line(row: Sequence[str]) -> str:
        parts = [row[0].ljust(widths[0]), *(x.rjust(w) for x, w in zip(row[1:], widths[1:], strict=True))]
        return "  ".join(parts).rstrip()

    return "\n".join([line(header), "  ".join("-" * w for w in widths), *(line(row) for row in cells)])


def html_table(header: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> str:
    """Give the same table as HTML, for notebooks."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(show(x))}</td>" for x in row) + "</tr>" for row in rows)
    top = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{top}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_list(lines: Sequence[str]) -> str:
    """Give lines of text as an HTML list; nothing where there are none."""
    return "<ul>" + "".join(f"<li>{html.escape(x)}</li>" for x in lines) + "</ul>" if lines else ""


def text_list(lines: Sequence[str], mark: str = "!") -> str:
    """Give lines of text one below the other, each with a mark in front."""
    return "".join(f"\n{mark} {line}" for line in lines)


def round_down(x: float) -> str:
    """Three significant digits, never rounded up: a printed activity must not pass its limit by rounding."""
    if x <= 0:
        return "0"
    step = 10.0 ** (math.floor(math.log10(x)) - 2)
    return f"{math.floor(x / step * (1 + 1e-12)) * step:.6g}"
