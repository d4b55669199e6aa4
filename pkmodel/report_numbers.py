"""What the main job found, as plain dictionaries and rows: every number beside its unit, and where it comes from."""

from __future__ import annotations

import csv
import math
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__
from .dosimetry.values import spread
from .evidence import TOLERANCE_NOTE
from .nuclides import nuclide
from .report_folder import FORMAT

if TYPE_CHECKING:
    import numpy.typing as npt

    from .dosimetry.result import TIA, Doses
    from .main_job import MainJob

    Floats = npt.NDArray[np.float64]

STATEMENT = (
    "Research software, not a medical device: nothing here is a prescription. pkmodel segments no images; "
    "activities, volumes and their errors are those of the data."
)
_PACKAGES = ("numpy", "scipy", "numba", "sympy", "lmfit", "pandas", "xarray", "matplotlib")


def results(job: MainJob, files: list[str]) -> dict[str, Any]:
    """Everything as plain dictionaries, every number beside its unit."""
    injected = job.curves.injected_activity
    return {
        "format": FORMAT,
        "format_version": 1,
        "statement": STATEMENT,
        "headline": job.headline(),
        "study": {
            "name": job.study.name,
            "title": job.study.title,
            "citation": job.study.citation,
            "doi": job.study.doi,
            "digest": job.study.digest,
        },
        "subject": job.curves.subject,
        "nuclide": job.curves.nuclide,
        "agent": job.curves.agent,
        "injected_activity": {"value": injected, "unit": "MBq"},
        "fit": _fit(job),
        "comparison": _comparison(job),
        "tia": [_tia(job, organ) for organ in job.tia.organs],
        "doses": [_dose(job, organ) for organ in job.doses.organs],
        "plan": _plan(job),
        "practice": [
            {"organ": p.organ, "method": p.method, "tia": {"value": p.tia, "unit": "MBq h"}}
            | {"difference": {"value": p.difference, "unit": "1"}, "note": p.note}
            for p in job.practice
        ],
        "published": [
            {"organ": a.organ, "quantity": a.quantity, "unit": a.unit, "expected": a.expected, "got": a.got}
            | {"difference": {"value": a.difference, "unit": "1"}, "method": a.method, "source": a.source}
            for a in job.against
        ],
        "warnings": list(job.warnings),
        "provenance": provenance(job),
        "files": files,
    }


def provenance(job: MainJob) -> dict[str, Any]:
    """Digests, versions and settings: what is needed to get the same numbers again."""
    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "pkmodel": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "packages": versions(),
        "nuclide_table": str(nuclide(job.curves.nuclide).table),
        "data_digest": job.study.digest,
        "model": job.fit.model.name,
        "model_digest": job.fit.model.digest,
        **dict(job.settings),
    }


@lru_cache(maxsize=1)
def versions() -> Mapping[str, str]:
    """Versions of the packages that decide the numbers."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def _fit(job: MainJob) -> dict[str, Any]:
    fit = job.fit
    columns = ["parameter", "region", "value", "se", "low", "high", "unit"]
    estimates = [dict(zip(columns, row, strict=True)) for row in fit.table[columns].to_numpy().tolist()]
    derived = fit.derived.reset_index()[["label", "value", "se", "unit"]].to_dict("records")
    return {
        "model": fit.model.name,
        "protocol": fit.protocol.name,
        "method": fit.method,
        "points": fit.points,
        "AIC": fit.aic,
        "AICc": fit.aicc,
        "BIC": fit.bic,
        "estimates": estimates,
        "derived": derived,
    }


def _comparison(job: MainJob) -> dict[str, Any] | None:
    if job.comparison is None or job.simpler is None:
        return None
    tia = zip(job.simpler.organs, job.simpler.data["tia_point"].to_numpy(), strict=True)
    return {
        "criterion": job.comparison.criterion,
        "models": job.comparison.table.to_dict("records"),
        "tia_of_simpler_model": {organ: {"value": float(value), "unit": "MBq h"} for organ, value in tia},
        "notes": job.comparison.notes,
    }


class Row:
    """One organ of a TIA or of doses; xarray's own selection would take a tenth of the whole job."""

    def __init__(self, result: TIA | Doses, organ: str) -> None:
        self._data, self._at = result.data, result.organs.index(organ)

    def number(self, name: str) -> float:
        """Value of a variable that has one per organ."""
        return float(self._data[name].to_numpy()[self._at])

    def draws(self, name: str) -> Floats:
        """Draws of a variable, (draws,)."""
        return np.asarray(self._data[name].to_numpy()[self._at], dtype=float)


def _spread(point: float, draws: Any, unit: str) -> dict[str, Any]:
    sd, low, high = spread(draws)
    return {"value": point, "sd": sd, "low": low, "high": high, "unit": unit}


def _tia(job: MainJob, organ: str) -> dict[str, Any]:
    one = Row(job.tia, organ)
    return {
        "organ": organ,
        "tia": _spread(one.number("tia_point"), one.draws("tia"), "MBq h"),
        "tiac": _spread(one.number("tiac_point"), one.draws("tiac"), "h"),
        "extrapolated_fraction": {"value": one.number("extrapolated_fraction"), "unit": "1"},
    }


def _dose(job: MainJob, organ: str) -> dict[str, Any]:
    one = Row(job.doses, organ)
    return {
        "organ": organ,
        "dose": _spread(one.number("dose_point"), one.draws("dose"), "Gy"),
        "dose_per_activity": _spread(one.number("dose_per_activity_point"), one.draws("dose_per_activity"), "Gy/GBq"),
        "mass": _spread(one.number("mass_point"), one.draws("mass"), "g"),
        "s_self": {
            "value": one.number("s_point"),
            "sd": one.number("s_point") * one.number("s_relative_sd"),
            "unit": "Gy/(MBq h)",
        },
        "cross_dose_at_most": {"value": one.number("cross_bound"), "unit": "Gy"},
    }


def _plan(job: MainJob) -> dict[str, Any] | None:
    plan = job.plan
    if plan is None or job.schedules is None:
        return None

    def schedule(one: Any) -> dict[str, Any]:
        return {
            "cycles": one.number,
            "activity_per_cycle": {"value": one.activity, "unit": "MBq"},
            "limited_by": one.limiting,
            "probability_any_exceeded": one.exceeded(one.activity)[0],
        }

    return {
        "regimen": plan.regimen,
        "counts_measured_administration": plan.counts_measured,
        "probability": plan.probability,
        "interval": {"value": plan.interval, "unit": "h"},
        "limits": [
            {"organ": x.organ, "value": x.value, "unit": "Gy", "kind": x.kind, "already": x.already, "source": x.source}
            for x in plan.limits
        ],
        "limits_are": "the user's" if job.limits_given else TOLERANCE_NOTE,
        "best": schedule(plan.best),
        "by_number_of_cycles": [schedule(s) for s in job.schedules.schedules],
        "warnings": list(plan.warnings),
    }


def doses_csv(job: MainJob) -> str:
    """One row per organ, the unit in each column's name."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ["dose_Gy", "dose_Gy_per_GBq", "mass_g", "TIA_MBq_h", "TIAC_h"]
    header = [f"{n}{end}" for n in names for end in ("", "_sd", "_low", "_high")]
    writer.writerow(["organ", *header, "S_self_Gy_per_MBq_h", "extrapolated_fraction", "cross_dose_at_most_Gy"])
    for organ in job.doses.organs:
        dose = _dose(job, organ)
        tia = _tia(job, organ) if organ in job.tia.organs else {}
        cells: list[Any] = [organ]
        for part in (dose["dose"], dose["dose_per_activity"], dose["mass"], tia.get("tia"), tia.get("tiac")):
            cells += [_cell(part[k]) for k in ("value", "sd", "low", "high")] if part else [""] * 4
        tail = tia["extrapolated_fraction"]["value"] if tia else math.nan
        writer.writerow([*cells, *map(_cell, (dose["s_self"]["value"], tail, dose["cross_dose_at_most"]["value"]))])
    return out.getvalue()


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.8g}"


def plain(value: Any) -> Any:
    """The same for JSON: NumPy numbers as plain ones, nan and infinity as null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
