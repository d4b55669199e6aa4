"""Write what the main job found: a page to read, numbers for machines, the fit, and figures for a paper.

========================  ==========================================================================
``report.html``           one self-contained page: no script, no font, no picture from anywhere else
``results.json``          every number with its unit, digests, versions, warnings
``doses.csv``             one row per organ
``fit.nc``                the fit: estimates, covariance, residuals
``figures/*.svg``         the figures, for a paper; `figures` gives them to save in another form
========================  ==========================================================================
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from .report_folder import RESULTS, whole_folder
from .report_numbers import doses_csv, plain, results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .main_job import MainJob


def write_report(job: MainJob, out: Path) -> dict[str, Path]:
    """Write the report of a main job; either all of its files appear in `out`, or nothing changes.

    Parameters
    ----------
    job : result of `main_job.run`
    out : folder; new, empty, or an earlier report, which is replaced

    Returns
    -------
    dict: name -> path of each file

    Raises
    ------
    PkmodelError
        `out` holds something else.
    """
    from .plot import svg
    from .report_page import page

    files = {"report": "report.html", "results": RESULTS, "doses": "doses.csv", "fit": "fit.nc"}
    pictures: dict[str, str] = {}
    with whole_folder(out) as folder:
        folder.joinpath("figures").mkdir()
        for name, figure in figures(job).items():
            pictures[name] = svg(figure)
            files[f"figure_{name}"] = f"figures/{name}.svg"
            folder.joinpath(files[f"figure_{name}"]).write_text(pictures[name], encoding="utf-8")
        about = results(job, sorted(files.values()))
        folder.joinpath(files["report"]).write_text(page(job, pictures, about), encoding="utf-8")
        folder.joinpath(files["doses"]).write_text(doses_csv(job), encoding="utf-8")
        job.fit.to_netcdf(folder / files["fit"])
        text = json.dumps(plain(about), indent=1, ensure_ascii=False, allow_nan=False)
        folder.joinpath(files["results"]).write_text(text + "\n", encoding="utf-8")
    return {name: out / file for name, file in files.items()}


def figures(job: MainJob) -> dict[str, Figure]:
    """The figures of the report by name."""
    from . import plot

    made = {
        "fit": plot.fit_figure(job.fit, tia=job.tia),
        "integrals": plot.tia_figure(job.tia, job.practice),
        "doses": plot.dose_figure(job.doses),
    }
    if job.plan is not None:
        made["plan"] = plot.plan_figure(job.plan, job.schedules)
    return made
