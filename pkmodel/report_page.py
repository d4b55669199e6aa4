"""The page of the report: what is shown where, as plain text that the template escapes."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from .dosimetry.present import round_down, show
from .dosimetry.values import spread
from .report_numbers import Row

if TYPE_CHECKING:
    from .main_job import MainJob

_DOI = re.compile(r"(?:doi:\s?|https://doi\.org/)(10\.\d{4,9}/[^\s,;()<>&\"']*[A-Za-z0-9])")


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; `words` are the columns that stand to the left, the others are numbers and stand to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: tuple[int, ...] = (0,)

    def without_empty(self, cell: str) -> Table:
        """The same without columns that say only `cell`."""
        keep = [k for k in range(len(self.header)) if not self.rows or any(row[k] != cell for row in self.rows)]
        words = tuple(new for new, k in enumerate(keep) if k in self.words)
        return Table([self.header[k] for k in keep], [[row[k] for k in keep] for row in self.rows], words)


def page(job: MainJob, pictures: Mapping[str, str], about: Mapping[str, Any]) -> str:
    """HTML of the report.

    Parameters
    ----------
    job : what was found
    pictures : name -> SVG
    about : as written to ``results.json``
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"doi": link_dois, "organ": lambda name: str(name).replace("_", " ")}
    source = files("pkmodel").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        job=job,
        about=about,
        pictures={name: _data_uri(text) for name, text in pictures.items()},
        cards=_cards(job),
        activities=_activities(job),
        estimates=_estimates(job),
        criteria=_criteria(job),
        by_model=_by_model(job),
        integrals=_integrals(job),
        practice=_practice(job),
        practice_sources=_practice_sources(job),
        doses=_doses(job),
        limits=_limits(job),
        sources=_sources(job),
        schedules=_schedules(job),
        expected=_expected(job),
        published=_published(job),
        provenance=_provenance(about["provenance"]),
    )


def link_dois(text: str) -> Any:
    """Text, escaped, with its DOIs as links."""
    from markupsafe import Markup, escape

    return Markup(_DOI.sub(r'<a href="https://doi.org/\1">doi:\1</a>', str(escape(text))))


def _data_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _range(low: float, high: float, digits: int = 3) -> str:
    return "" if math.isnan(low) else f"{show(low, digits)} to {show(high, digits)}"


def _percent(x: float, sign: bool = False) -> str:
    return "" if math.isnan(x) else f"{100 * x:{'+' if sign else ''}.1f} %"


def _cards(job: MainJob) -> list[dict[str, str]]:
    cards = []
    for organ in job.doses.organs:
        one = Row(job.doses, organ)
        _, low, high = spread(one.draws("dose"))
        cards.append(
            {
                "organ": organ,
                "dose": show(one.number("dose_point"), 3),
                "interval": _range(low, high),
                "per": show(one.number("dose_per_activity_point"), 3),
            }
        )
    return cards


def _activities(job: MainJob) -> Table:
    rows = []
    for c in job.curves:
        used = "yes" if c.region in job.tia.organs else f"no ({c.kind.replace('_', ' ')})"
        for i in range(len(c)):
            when = f"{c.t_start[i]:.5g}" if c.t_start[i] == c.t_end[i] else f"{c.t_start[i]:.5g} to {c.t_end[i]:.5g}"
            sd = show(float(c.sd[i]), 4) if np.isfinite(c.sd[i]) else "-"
            volume = show(float(c.volume[i]), 4) if np.isfinite(c.volume[i]) else "-"
            rows.append(
                [c.region if i == 0 else "", used if i == 0 else "", when, show(float(c.value[i]), 5), sd, volume]
            )
    unit = ", ".join(dict.fromkeys(c.unit for c in job.curves))
    return Table(["region", "used", "time [h]", f"value [{unit}]", "SD", "volume [mL]"], rows, (0, 1)).without_empty(
        "-"
    )


def _estimates(job: MainJob) -> Table:
    rows = []
    for name, r in job.fit.table.iterrows():
        rows.append(
            [
                str(name),
                show(float(r["value"]), 4),
                show(float(r["se"]), 2),
                _percent(float(r["rse_percent"]) / 100),
                _range(float(r["low"]), float(r["high"])),
                str(r["unit"]),
            ]
        )
    for name, r in job.fit.derived.iterrows():
        rows.append(
            [
                str(name),
                show(float(r["value"]), 4),
                show(float(r["se"]), 2),
                _percent(float(r["rse_percent"]) / 100),
                "",
                str(r["unit"]),
            ]
        )
    return Table(["parameter", "value", "SE", "relative SE", "95 % interval", "unit"], rows)


def _criteria(job: MainJob) -> Table | None:
    if job.comparison is None or job.simpler is None:
        return None
    rows = []
    for fit, weight in zip(job.comparison.fits, job.comparison.weights, strict=True):
        numbers = [f"{x:.1f}" if math.isfinite(x) else "undefined" for x in (fit.aic, fit.aicc, fit.bic)]
        share = "-" if math.isnan(weight) else f"{weight:.3f}"
        rows.append([fit.model.name, str(fit.points), str(fit.estimated), *numbers, share])
    return Table(["model", "points", "estimated", "AIC", "AICc", "BIC", "weight by AICc"], rows)


def _by_model(job: MainJob) -> Table | None:
    if job.comparison is None or job.simpler is None:
        return None
    used, other = (t.data["tia_point"].to_numpy() for t in (job.tia, job.simpler))
    rows = [
        [organ, show(float(a), 5), show(float(b), 5), _percent(float(b / a) - 1.0, True)]
        for organ, a, b in zip(job.tia.organs, used, other, strict=True)
    ]
    names = [f"TIA by {f.model.name} [MBq h]" for f in job.comparison.fits]
    return Table(["organ", *names, "difference"], rows)


def _integrals(job: MainJob) -> Table:
    rows = []
    for organ, r in job.tia.table().iterrows():
        rows.append(
            [
                str(organ),
                show(r["TIA [MBq h]"], 5),
                _range(r["2.5 %"], r["97.5 %"], 4),
                show(r["TIAC [h]"], 4),
                _percent(float(r["extrapolated"])),
            ]
        )
    return Table(["organ", "TIA [MBq h]", "95 % interval", "TIAC [h]", "after the last scan"], rows)


def _practice(job: MainJob) -> Table:
    found = {(p.method, p.organ): p for p in job.practice}
    rows = []
    for method in dict.fromkeys(p.method for p in job.practice):
        cells = []
        for organ in job.tia.organs:
            one = found.get((method, organ))
            cells.append(
                "" if one is None else "not possible" if math.isnan(one.tia) else _percent(one.difference, True)
            )
        rows.append([method, *cells])
    return Table(["method", *(o.replace("_", " ") for o in job.tia.organs)], rows)


def _practice_sources(job: MainJob) -> list[str]:
    """Where the methods of one scan come from, once each."""
    found = {p.method.partition(",")[0]: p.note for p in job.practice if "doi:" in p.note}
    return [f"{method}: {note}" for method, note in found.items()]


def _doses(job: MainJob) -> Table:
    rows = []
    for organ in job.doses.organs:
        one = Row(job.doses, organ)
        _, low, high = spread(one.draws("dose"))
        _, per_low, per_high = spread(one.draws("dose_per_activity"))
        mass_sd = spread(one.draws("mass"))[0]
        bound = one.number("cross_bound")
        rows.append(
            [
                organ,
                show(one.number("dose_point"), 3),
                _range(low, high),
                show(one.number("dose_per_activity_point"), 3),
                _range(per_low, per_high),
                f"{show(one.number('mass_point'), 4)} ± {show(mass_sd, 2)}",
                show(1000 * one.number("s_point"), 4),
                "not known" if math.isnan(bound) else show(bound, 2),
            ]
        )
    names = ["organ", "dose [Gy]", "95 % interval", "per activity [Gy/GBq]", "95 % interval", "mass ± SD [g]"]
    return Table([*names, "S self [mGy/(MBq h)]", "cross-dose at most [Gy]"], rows).without_empty("not known")


def _limits(job: MainJob) -> Table | None:
    if job.plan is None:
        return None
    table = job.plan.against_limits()
    rows = []
    each = job.plan.best.exceeded(job.plan.best.activity)[1]
    for limit, p, (_, r) in zip(job.plan.limits, each, table.iterrows(), strict=True):
        text = str(limit).removeprefix(f"{limit.organ}: ")
        reached = f"{show(r['value [Gy]'], 3)} ({_range(r['2.5 %'], r['97.5 %'])})"
        rows.append([limit.organ, text, reached, _percent(p)])
    return Table(["organ", "limit", "reached under the plan [Gy]", "P(exceeded)"], rows)


def _sources(job: MainJob) -> list[str]:
    """Where each limit comes from, once for all organs that share it."""
    by_source: dict[str, list[str]] = {}
    for limit in job.plan.limits if job.plan else ():
        by_source.setdefault(limit.source or "given by the user", []).append(limit.organ.replace("_", " "))
    return [f"{', '.join(organs)}: {source}" for source, organs in by_source.items()]


def _schedules(job: MainJob) -> Table | None:
    if job.plan is None or job.schedules is None:
        return None
    rows = []
    for one in job.schedules.schedules:
        rows.append(
            [
                str(one.number),
                round_down(one.activity / 1000),
                round_down(one.number * one.activity / 1000),
                one.limiting.replace("_", " "),
                _percent(one.exceeded(one.activity)[0]),
                "not known" if math.isnan(one.with_missing) else round_down(one.with_missing / 1000),
            ]
        )
    further = "further cycles" if job.plan.counts_measured else "cycles"
    names = [further, "largest per cycle [GBq]", "in total [GBq]", "limited by", "P(any limit exceeded)"]
    return Table([*names, "if all missing dose were real [GBq]"], rows, (0, 3)).without_empty("not known")


def _expected(job: MainJob) -> Table | None:
    if job.plan is None:
        return None
    rows = []
    for organ, r in job.plan.expected().iterrows():
        rows.append([str(organ), show(r["dose [Gy]"], 3), _range(r["2.5 %"], r["97.5 %"])])
    return Table(["organ", "dose of the planned cycles [Gy]", "95 % interval"], rows)


def _published(job: MainJob) -> Table | None:
    if not job.against:
        return None
    rows = [
        [
            a.organ,
            a.quantity,
            a.unit,
            show(a.expected, 6),
            show(a.got, 6),
            "below 0.0001 %" if abs(a.difference) < 1e-6 else f"{100 * a.difference:+.2g} %",
        ]
        for a in job.against
    ]
    return Table(["organ", "quantity", "unit", "published", "found here", "difference"], rows, (0, 1, 2))


def _provenance(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    names = {
        "written": "written (UTC)",
        "data_digest": "data, SHA-256",
        "model_digest": "model, SHA-256",
        "nuclide_table": "nuclide table, version",
        "body_mass_g": "body mass [g]",
    }
    rows = []
    for key, value in about.items():
        if key == "packages":
            rows.append(("packages", ", ".join(f"{k} {v}" for k, v in value.items())))
        elif value not in (None, ""):
            rows.append((names.get(key, key.replace("_", " ")), str(value)))
    return rows
