"""A population fit as the table a pharmacometrician expects."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from ...units import factor
from ..population_parts import coefficient_of_variation
from .layout import Factor

if TYPE_CHECKING:
    import pandas as pd

    from .result import PopulationFit

Z95 = 1.959963984540054


def parameters(fit: PopulationFit) -> pd.DataFrame:
    """Typical values and covariate coefficients.

    Columns: value in `unit`, SE and RSE of that value, 95 % interval (back-transformed, so never below zero for a
    positive parameter), CV between subjects and occasions (SD where the parameter is not log-normal), shrinkage.
    """
    import pandas as pd

    layout, se = fit.crowd.layout, fit.standard_errors
    rows = []
    omega, cycles = np.diag(layout.omega(fit.phi)), np.diag(layout.occasion_omega(fit.phi))
    for k, s in enumerate(layout.slots):
        x, e, unit = fit.phi[k], se[k], factor(s.unit)
        value, slope = float(s.from_scale(x)) / unit, float(s.slope(x)) / unit
        low, high = (float(s.from_scale(x + sign * Z95 * e)) / unit for sign in (-1, 1))
        row = {
            "parameter": s.label, "value": value, "unit": s.unit, "SE": slope * e,
            "RSE %": 100 * abs(slope * e / value) if value else math.nan, "2.5 %": low, "97.5 %": high,
            "CV %": math.nan, "CV occasion %": math.nan, "shrinkage %": math.nan,
        }  # fmt: skip
        if k in layout.varying:
            row["CV %"] = _spread(float(omega[list(layout.varying).index(k)]), s.transform)
            row["shrinkage %"] = 100 * fit.shrinkage[s.label]
        if k in layout.switching:
            row["CV occasion %"] = _spread(float(cycles[list(layout.switching).index(k)]), s.transform)
        rows.append(row)
    names = layout.names
    for k in range(layout.parts["coefficients"].start, layout.parts["coefficients"].stop):
        value, e = float(fit.phi[k]), float(se[k])
        rows.append(
            {
                "parameter": names[k], "value": value, "unit": "", "SE": e,
                "RSE %": 100 * abs(e / value) if value else math.nan, "2.5 %": value - Z95 * e,
                "97.5 %": value + Z95 * e, "CV %": math.nan, "CV occasion %": math.nan, "shrinkage %": math.nan,
            }
        )  # fmt: skip
    return pd.DataFrame(rows).set_index("parameter")


def _spread(variance: float, transform: str) -> float:
    """CV of a log-normal parameter [%]; for others the SD on the scale of the fit times 100."""
    return 100 * (coefficient_of_variation(variance) if transform == "log" else math.sqrt(variance))


def variances(fit: PopulationFit) -> pd.DataFrame:
    """Elements of the covariances and of the noise with SE and RSE; a correlation beside each covariance."""
    import pandas as pd

    layout = fit.crowd.layout
    rows: list[dict[str, float | str]] = []
    parts: tuple[tuple[str, str, Factor, list[int]], ...] = (
        ("omega", "between", layout.between, layout.varying.tolist()),
        ("occasion", "occasion", layout.occasion, layout.switching.tolist()),
    )
    for word, part, root, members in parts:
        at = layout.parts[part]
        covariance = fit.covariance[at, at]
        matrix = layout.omega(fit.phi) if part == "between" else layout.occasion_omega(fit.phi)
        moved = root.derivatives(root.root(fit.phi[at]))  # (entries, m, m)
        free = {max(e) for e in root.entries}
        names = [layout.slots[k].label for k in members]
        for i in range(len(members)):
            for j in range(i + 1):
                if i != j and matrix[i, j] == 0:
                    continue
                along = moved[:, i, j]
                se = math.sqrt(max(float(along @ covariance @ along), 0.0)) if i in free and along.any() else math.nan
                share = float(matrix[i, j] / math.sqrt(matrix[i, i] * matrix[j, j]))
                name = f"{word} {names[i]}" if i == j else f"{word} {names[i]}, {names[j]}"
                value = float(matrix[i, j])
                rows.append(
                    {
                        "parameter": name, "value": value, "SE": se, "RSE %": 100 * abs(se / value),
                        "correlation": math.nan if i == j else share,
                    }
                )  # fmt: skip
    at = layout.parts["noise"]
    for n, k in enumerate(layout.noise.free):
        value, e = math.exp(fit.phi[at][n]), float(fit.standard_errors[at][n])
        rows.append(
            {
                "parameter": layout.noise.sizes[k].name, "value": value, "SE": value * e, "RSE %": 100 * e,
                "correlation": math.nan,
            }
        )  # fmt: skip
    return pd.DataFrame(rows).set_index("parameter")


def heading(fit: PopulationFit) -> list[str]:
    """Lines above the tables."""
    data = fit.crowd.data
    cut = int((data.counted & (data.censored != 0)).sum())
    people = len(fit.subjects)
    counted = f"{people} subject{'s' * (people != 1)}, {fit.points} values" + (f", {cut} censored" if cut else "")
    error = f" +- {fit.monte_carlo_error:.2g} (Monte Carlo)" if fit.monte_carlo_error else ""
    lines = [
        f"population fit of {fit.model.name} by {NAMES.get(fit.method, fit.method)}: {counted}",
        f"objective (-2 log L without N log 2 pi, as NONMEM prints it) {fit.objective:.3f}{error}",
        f"-2 log L {fit.minus_two_log_likelihood:.3f}   AIC {fit.aic:.2f}   BIC {fit.bic:.2f}   "
        f"BIC for mixed models {fit.bic_mixed:.2f}",
        f"{fit.minimum.message}; {len(fit.minimum.trace) - 1} iterations",
    ]
    if fit.information is not None:
        lines.append(f"standard errors: {MATRICES[fit.matrix]}; condition number {fit.condition_number:.3g}")
    return lines


NAMES = {
    "fo": "FO", "foce": "FOCE", "focei": "FOCE-I", "laplace": "Laplace", "saem": "SAEM",
    "importance": "importance-sampling EM",
}  # fmt: skip
MATRICES = {"sandwich": "R^-1 S R^-1", "r": "R^-1", "s": "S^-1"}


def footing(fit: PopulationFit) -> list[str]:
    """Lines below the tables."""
    return [f"shrinkage of residuals {100 * fit.shrinkage['residuals']:.2f} %", *(f"! {w}" for w in fit.warnings)]


def as_text(fit: PopulationFit) -> str:
    """The fit as text."""
    import textwrap

    def shown(table: pd.DataFrame) -> str:
        kept = table.dropna(axis=1, how="all")
        return kept.to_string(float_format=lambda x: f"{x:.4g}", na_rep="", index_names=False)

    lines = [*heading(fit), "", shown(parameters(fit)), "", shown(variances(fit)), ""]
    for line in footing(fit):
        lines += textwrap.wrap(line, 112, subsequent_indent="  ")
    return "\n".join(lines)


def as_html(fit: PopulationFit) -> str:
    """The fit for a notebook."""
    top = "<br>".join(escape(line) for line in heading(fit))
    tables = "".join(
        t.dropna(axis=1, how="all").to_html(float_format=lambda x: f"{x:.4g}", na_rep="", border=0)
        for t in (parameters(fit), variances(fit))
    )
    below = "".join(f"<li>{escape(line.removeprefix('! '))}</li>" for line in footing(fit))
    return f"<p>{top}</p>{tables}<ul>{below}</ul>"
