"""How the results of a diagnosis are printed: title, tables, notes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

WIDE = 112


def number(value: float) -> str:
    """Four digits."""
    return f"{value:.4g}"


def text(title: Sequence[str], tables: Sequence[pd.DataFrame], notes: Sequence[str]) -> str:
    """Lines for a terminal."""
    lines = [line for t in title for line in textwrap.wrap(t, WIDE, subsequent_indent="  ")]
    for table in tables:
        lines += ["", table.to_string(float_format=number, na_rep="", index=False)]
    if notes:
        lines.append("")
    for note in notes:
        lines += textwrap.wrap(f"! {note}", WIDE, subsequent_indent="  ")
    return "\n".join(lines)


def markup(title: Sequence[str], tables: Sequence[pd.DataFrame], notes: Sequence[str]) -> str:
    """The same for a notebook."""
    top = "<br>".join(escape(line) for line in title)
    middle = "".join(t.to_html(float_format=number, na_rep="", index=False, border=0) for t in tables)
    below = "".join(f"<li>{escape(n)}</li>" for n in notes)
    return f"<p>{top}</p>{middle}" + (f"<ul>{below}</ul>" if below else "")
