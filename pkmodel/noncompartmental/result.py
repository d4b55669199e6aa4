"""Results of a non-compartmental analysis: one subject's numbers with units, and the table of many."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, did_you_mean
from .areas import Terminal
from .cleaning import Samples

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Value:
    """One number: its name here, what it means, and its code in CDISC's PPTESTCD where there is one."""

    name: str
    value: float
    unit: str
    meaning: str
    code: str = ""

    def __str__(self) -> str:
        return f"{self.name} = {self.value:.6g} {self.unit}".rstrip()


@dataclass(frozen=True, slots=True, eq=False)
class NCA:
    """A non-compartmental analysis of one curve.

    Parameters
    ----------
    subject, region : names, "" where nobody said [text]
    dose : as given [text]
    route : "bolus", "infusion" or "extravascular" [text]
    method : of the areas [text]
    unit : of concentrations; times are hours [text]
    values : the numbers
    samples : what was computed from
    terminal : the terminal slope
    warnings : what a reader must know [text]
    """

    subject: str
    region: str
    dose: str
    route: str
    method: str
    unit: str
    values: tuple[Value, ...]
    samples: Samples
    terminal: Terminal
    warnings: tuple[str, ...]

    def __getitem__(self, name: str) -> float:
        return self.value(name).value

    def __contains__(self, name: object) -> bool:
        return any(name in (v.name, v.code) for v in self.values)

    def value(self, name: str) -> Value:
        """A number with its unit, by its name or its code.

        Raises
        ------
        DataError
            There is none of that name.
        """
        for v in self.values:
            if name in (v.name, v.code):
                return v
        known = [v.name for v in self.values]
        raise DataError(f"no {name!r} in this analysis{did_you_mean(name, known)}; known: {', '.join(known)}")

    @property
    def table(self) -> pd.DataFrame:
        """One row per number: value, unit, code, meaning."""
        import pandas as pd

        rows = [(v.value, v.unit, v.code, v.meaning) for v in self.values]
        return pd.DataFrame(rows, index=[v.name for v in self.values], columns=["value", "unit", "code", "meaning"])

    @property
    def heading(self) -> str:
        """Who, what and how, in one line."""
        who = ", ".join(x for x in (self.subject and f"subject {self.subject}", self.region) if x)
        how = {"bolus": "iv bolus", "infusion": "iv infusion"}.get(self.route, self.route)
        return f"{who + ': ' if who else ''}{self.dose or 'dose not said'}, {how}, {self.method} trapezoids"

    def __str__(self) -> str:
        wide = max(len(v.name) for v in self.values)
        unit = max(len(v.unit) for v in self.values)
        lines = [f"  {v.name:<{wide}}  {v.value:>11.5g}  {v.unit:<{unit}}  {v.meaning}" for v in self.values]
        return "\n".join([self.heading, *lines, *(f"! {w}" for w in self.warnings)])

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><td>{escape(v.name)}</td><td style='text-align:right'>{v.value:.5g}</td><td>{escape(v.unit)}</td>"
            f"<td style='text-align:left'>{escape(v.meaning)}</td></tr>"
            for v in self.values
        )
        notes = "".join(f"<li>{escape(w)}</li>" for w in self.warnings)
        below = f"<ul>{notes}</ul>" if notes else ""
        return f"<p><b>{escape(self.heading)}</b></p><table>{cells}</table>{below}"

    def plot(self) -> Any:
        """The curve with its terminal line, as a matplotlib figure."""
        from ..plot_nca import nca_figure

        return nca_figure([self])


@dataclass(frozen=True, slots=True, eq=False)
class NCAStudy:
    """Analyses of several curves, and what could not be analysed.

    Parameters
    ----------
    one : the analyses
    failed : (who, why) of curves that could not be analysed [text]
    """

    one: tuple[NCA, ...]
    failed: tuple[tuple[str, str], ...] = ()

    def __iter__(self) -> Iterator[NCA]:
        return iter(self.one)

    def __len__(self) -> int:
        return len(self.one)

    def __getitem__(self, subject: str) -> NCA:
        for n in self.one:
            if n.subject == subject:
                return n
        raise DataError(f"no subject {subject!r}; known: {', '.join(n.subject for n in self.one)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all numbers, in order."""
        return tuple(dict.fromkeys(v.name for n in self.one for v in n.values))

    @property
    def table(self) -> pd.DataFrame:
        """One row per curve, one column per number with its unit, e.g. ``half_life [h]``."""
        import pandas as pd

        rows = [
            {"subject": n.subject, "region": n.region} | {f"{v.name} [{v.unit}]": v.value for v in n.values}
            for n in self.one
        ]
        return pd.DataFrame(rows).set_index(["subject", "region"])

    @property
    def summary(self) -> pd.DataFrame:
        """Per number: n, geometric mean and CV (100 sqrt(exp(s2) - 1), s2 the variance of logs), median, range."""
        import pandas as pd

        rows = {}
        for name, column in self.table.items():
            x = np.asarray(column, dtype=float)
            x = x[np.isfinite(x)]
            positive = x.size and bool(np.all(x > 0))
            mean = math.exp(np.log(x).mean()) if positive else math.nan
            spread = np.log(x).var(ddof=1) if positive and x.size > 1 else math.nan
            rows[name] = {
                "n": x.size,
                "geometric mean": mean,
                "CV [%]": 100 * math.sqrt(math.expm1(spread)) if not math.isnan(spread) else math.nan,
                "median": float(np.median(x)) if x.size else math.nan,
                "lowest": float(x.min()) if x.size else math.nan,
                "highest": float(x.max()) if x.size else math.nan,
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know, each with the subjects it holds for."""
        whom: dict[str, list[str]] = {}
        for n in self.one:
            for text in n.warnings:
                whom.setdefault(text, []).append(n.subject or n.region)
        said = [f"{_few(names)}: {text}" for text, names in whom.items()]
        return (*said, *(f"{who}: not analysed: {why}" for who, why in self.failed))

    def __str__(self) -> str:
        if not self.one:
            return "\n".join(["no curve could be analysed", *(f"! {w}" for w in self.warnings)])
        shown = [n for n in _SHOWN if n in self.names]
        units = [next(v.unit for n in self.one for v in n.values if v.name == name) for name in shown]
        header = ["subject", *(f"{name} [{unit}]" for name, unit in zip(shown, units, strict=True))]
        several = len({n.region for n in self.one}) > 1
        rows = []
        for n in self.one:
            numbers = [f"{n[name]:.4g}" if name in n else "" for name in shown]
            rows.append([f"{n.subject} {n.region}" if several else n.subject, *numbers])
        if not several and len(self.one) > 1:
            means = self.summary
            for row in ("geometric mean", "CV [%]"):
                cells = means.loc[header[1:], row].to_numpy(dtype=float)
                rows.append([row, *("" if np.isnan(x) else f"{x:.4g}" for x in cells)])
        widths = [max(len(r[k]) for r in [header, *rows]) for k in range(len(header))]
        lines = ["  ".join(cell.rjust(w) for cell, w in zip(r, widths, strict=True)) for r in [header, *rows]]
        head = self.one[0].heading.split(": ")[-1].split(", ", 1)[-1]
        return "\n".join([f"{len(self.one)} curves, {head}", *lines, *(f"! {w}" for w in self.warnings)])

    def plot(self) -> Any:
        """Every curve with its terminal line, as a matplotlib figure."""
        from ..plot_nca import nca_figure

        return nca_figure(self.one)


_SHOWN = (
    "cmax", "tmax", "c0", "auc_last", "auc_tau", "auc_inf", "extrapolated", "half_life", "cl", "cl_f", "vz", "vz_f",
    "vss", "mrt",
)  # fmt: skip


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
