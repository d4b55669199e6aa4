"""A fit as text for a terminal and as HTML for a notebook."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from .result import Fit


def describe(fit: Fit) -> str:
    """Several lines: what was fitted, estimates, derived results, criteria, warnings."""
    lines = [_title(fit), _criteria(fit), ""]
    lines += aligned(_estimates(fit))
    if len(fit.derived):
        lines += ["", *aligned(_derived(fit))]
    lines += [f"warning: {w}" for w in fit.warnings]
    return "\n".join(lines)


def describe_html(fit: Fit) -> str:
    """The same as HTML."""
    parts = [f"<p><b>{html.escape(_title(fit))}</b><br>{html.escape(_criteria(fit))}</p>"]
    parts.append(_estimates(fit).to_html(index=False, border=0))
    if len(fit.derived):
        parts.append(_derived(fit).to_html(index=False, border=0))
    if fit.warnings:
        parts.append("<ul>" + "".join(f"<li>{html.escape(w)}</li>" for w in fit.warnings) + "</ul>")
    return "".join(parts)


def _title(fit: Fit) -> str:
    who = f"{fit.curves.subject}, {fit.curves.agent}" if fit.curves.agent else fit.curves.subject
    return f"Fit of {fit.model.name} to {who} (protocol {fit.protocol.name}, {fit.method.replace('_', ' ')})"


def _criteria(fit: Fit) -> str:
    scores = {"AIC": fit.aic, "AICc": fit.aicc, "BIC": fit.bic}
    judged = ", ".join(f"{n} {'undefined' if math.isnan(v) else f'{v:.2f}'}" for n, v in scores.items())
    noise = sorted({f"{100 * math.sqrt(s):.2g}" for s in fit.scales if not math.isnan(s)})
    error = fit.protocol.error
    if error.kind == "constant" and noise:
        size = f", error {' / '.join(noise)} % of the largest value"
    elif error.kind == "proportional" and noise:
        size = f", error {' / '.join(noise)} %"
    else:
        size = ""
    regions = len(fit.likelihood.regions)
    what = "1 region" if regions == 1 else f"{regions} regions"
    return f"{fit.points} points, {what}, {len(fit.slots)} parameters{size}; {judged}"


def _estimates(fit: Fit) -> pd.DataFrame:
    t = fit.table.reset_index()
    t["value"] = t["value"].map("{:.5g}".format)
    t["se"] = ["unknown" if math.isnan(v) else f"{v:.2g}" for v in t["se"]]
    t["RSE %"] = t["rse_percent"].map(_percent)
    t["95 % interval"] = [f"{a:.4g} to {b:.4g}" for a, b in zip(t["low"], t["high"], strict=True)]
    return t[["label", "value", "se", "RSE %", "95 % interval", "unit"]].rename(columns={"label": "parameter"})


def _derived(fit: Fit) -> pd.DataFrame:
    t = fit.derived.reset_index()
    t["value"] = t["value"].map("{:.5g}".format)
    t["se"] = ["unknown" if math.isnan(v) else f"{v:.2g}" for v in t["se"]]
    t["RSE %"] = t["rse_percent"].map(_percent)
    return t[["label", "value", "se", "RSE %", "unit"]].rename(columns={"label": "derived"})


def aligned(table: pd.DataFrame) -> list[str]:
    """Lines of a table: first and last column to the left, numbers to the right."""
    cells = [list(table.columns), *table.astype(str).to_numpy().tolist()]
    widths = [max(len(str(row[k])) for row in cells) for k in range(len(cells[0]))]
    out = []
    for row in cells:
        first = str(row[0]).ljust(widths[0])
        last = str(row[-1])
        middle = [str(c).rjust(w) for c, w in zip(row[1:-1], widths[1:-1], strict=True)]
        out.append("  ".join([first, *middle, last]).rstrip())
    return out


def _percent(value: float) -> str:
    return "unknown" if math.isnan(value) else "> 1000" if value > 1000 else f"{value:.1f}"
