"""A design as text for a terminal and as HTML for a notebook."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

from ..dosimetry.present import html_list, html_table, text_list, text_table

if TYPE_CHECKING:
    import pandas as pd

    from .result import Design

_NAMES = {
    "time_h": "after injection [h]",
    "when": "when",
    "minutes": "frame [min]",
    "without_it_percent": "SD without it [%]",
    "TIA_MBq_h": "TIA [MBq h]",
    "sd_before_percent": "SD before [%]",
    "sd_percent": "expected SD [%]",
    "after_last_scan_percent": "after last scan [%]",
    "dose_sd_percent": "SD of dose [%]",
    "told_percent": "told by the scans [%]",
    "value": "value",
    "unit": "unit",
}


def describe(design: Design) -> str:
    """Scans, organs, parameters, what one scan more would bring, warnings."""
    lines = [_title(design), _value(design)]
    for table in _tables(design):
        lines += ["", text_table(*table)]
    lines += [""] + [x for x in (_others(design), _more(design), _steps(design)) if x]
    return "\n".join(lines).rstrip() + text_list(design.warnings)


def describe_html(design: Design) -> str:
    """The same as HTML."""
    parts = [f"<p><b>{html.escape(_title(design))}</b><br>{html.escape(_value(design))}</p>"]
    parts += [html_table(*table) for table in _tables(design)]
    parts += [f"<p>{html.escape(x)}</p>" for x in (_others(design), _more(design), _steps(design)) if x]
    return "".join(parts) + html_list(design.warnings)


def _title(design: Design) -> str:
    s = design.setting
    n = design.start.size
    given = str(s.regimen.text or s.regimen)
    return f"{n} scan{'s' if n != 1 else ''} of {', '.join(s.names)} ({s.model.name}, {given})"


def _value(design: Design) -> str:
    how = design.method + (f", {design.tried} tried" if design.tried else "")
    value = "not determined" if math.isinf(design.value) else f"{100 * design.value:.3g} %"
    return f"{design.meaning}: {value} ({how})"


def _tables(design: Design) -> list[tuple[list[str], list[list[Any]]]]:
    out = [_plain(design.scans)]
    if design.population is not None:
        p = design.population
        rows = [[n, v, 100 * se] for n, v, se in zip(p.names, p.value, p.relative_se, strict=True)]
        return [*out, (["parameter of the population", "value", "expected RSE [%]"], rows)]
    if len(design.organs.columns):
        out.append(_plain(design.organs))
    return [*out, _plain(design.parameters.loc[[n for n in design.parameters.index if design.matters(n)]])]


def _plain(table: pd.DataFrame) -> tuple[list[str], list[list[Any]]]:
    header = [str(table.index.name), *(_NAMES.get(str(c), str(c)) for c in table.columns)]
    rows = [[str(i), *(_cell(str(c), v) for c, v in zip(table.columns, row, strict=True))]
            for i, row in zip(table.index, table.itertuples(index=False), strict=True)]  # fmt: skip
    return header, rows


def _cell(column: str, value: Any) -> Any:
    if isinstance(value, str):
        return value
    if column.endswith("_percent"):
        return "unknown" if not math.isfinite(value) else f"{abs(value):.0f}" if "told" in column else f"{value:.3g}"
    return f"{value:.5g}"


def _others(design: Design) -> str:
    """Which unknown parameters are not in the table."""
    if design.population is not None:
        return ""
    rest = [n for n in design.parameters.index if not design.matters(n)]
    return f"these TIAs hardly depend on {', '.join(rest)}" if rest else ""


def _more(design: Design) -> str:
    """What one scan more would bring, in one sentence."""
    table = design.add_scan()
    if not len(table) or not math.isfinite(float(table["criterion_percent"].min())):
        return ""
    best = table.iloc[int(table["criterion_percent"].argmin())]
    when = f" ({best['when']})" if "when" in table else ""
    now = "not determined" if math.isinf(design.value) else f"{100 * design.value:.3g}"
    return f"one scan more is best at {best['time_h']:.4g} h{when}: {now} -> {best['criterion_percent']:.3g} %"


def _steps(design: Design) -> str:
    if len(design.steps) < 2:
        return ""
    parts = [f"{n}: {100 * v:.3g} % ({', '.join(f'{t:.4g}' for t in at)} h)" for n, v, at in design.steps]
    return "by number of scans: " + "; ".join(parts)
