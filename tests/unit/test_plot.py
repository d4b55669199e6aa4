"""Figures: what they show is what was found, they carry units, and they leave matplotlib as they met it."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

import pkmodel as pk
from pkmodel import plot
from pkmodel.errors import PkmodelError
from pkmodel.main_job import MainJob, run
from pkmodel.plot_style import label
from support import report


@pytest.fixture(scope="module")
def job() -> MainJob:
    return run("snmmi_p004", body_mass="70 kg", draws=400)


def test_the_fit_figure_shows_data_curve_band_and_residuals(job: MainJob) -> None:
    figure = plot.fit_figure(job.fit, tia=job.tia)
    assert len(figure.axes) == 2 * len(job.tia.organs)
    top, bottom = figure.axes[0], figure.axes[1]
    assert top.get_title(loc="left") == "kidney left"
    assert top.get_ylabel() == "activity [MBq]"
    assert bottom.get_xlabel() == "time after injection [h]"
    measured = job.curves["kidney_left"]
    drawn = next(line for line in top.lines if line.get_linestyle() == "None")
    np.testing.assert_allclose(np.asarray(drawn.get_ydata(), dtype=float), measured.value)
    curve = next(line for line in top.lines if line.get_label() == "fit")
    x, y = (np.asarray(a, dtype=float) for a in (curve.get_xdata(), curve.get_ydata()))
    # the published fit, A (exp(-l1 t) - exp(-l2 t)), SNMMI challenge patient 004
    expected = 108.742068 * (np.exp(-0.0140814260 * x[-1]) - np.exp(-0.845429128 * x[-1]))
    report("kidney_left, drawn curve at the last scan [MBq]", float(expected), float(y[-1]), rtol=1e-6)
    assert top.collections, "no band"


def test_a_band_from_the_fit_and_from_the_integral_agree(job: MainJob) -> None:
    grid = np.array([10.0, 60.0, 120.0])
    middle, given = plot._prediction(job.fit, "liver", grid, job.tia, 0, 0)
    again, drawn = plot._prediction(job.fit, "liver", grid, None, 400, 0)
    np.testing.assert_allclose(middle, again, rtol=1e-9)
    assert given is not None and drawn is not None
    for a, b in zip(given, drawn, strict=True):
        np.testing.assert_allclose(a, b, rtol=0.01)


def test_logarithmic_axis_and_one_region(job: MainJob) -> None:
    figure = plot.fit_figure(job.fit, regions=["liver"], scale="log", draws=50)
    assert figure.axes[0].get_yscale() == "log"
    assert len(figure.axes) == 2


def test_refusals(job: MainJob) -> None:
    with pytest.raises(PkmodelError, match=r"'heart' was not fitted; fitted: kidney_left"):
        plot.fit_figure(job.fit, regions=["heart"])
    with pytest.raises(PkmodelError, match="allowed: linear, log"):
        plot.fit_figure(job.fit, scale="cubic")  # type: ignore[arg-type]


def test_fit_plot_is_the_same_figure(job: MainJob) -> None:
    assert len(job.fit.plot(draws=20).axes) == 8


def test_the_dose_figure_says_doses_and_what_is_missing(job: MainJob) -> None:
    text = plot.svg(plot.dose_figure(job.doses))
    for organ in ("kidney left", "kidney right", "liver", "spleen"):
        assert organ in text
    assert "if all missing cross-dose were real" in text
    assert f"{float(job.doses.data['dose_point'].sel(organ='liver')):.2f} Gy" in text


def test_the_plan_figure_marks_the_chosen_activity(job: MainJob) -> None:
    assert job.plan is not None
    figure = plot.plan_figure(job.plan, job.schedules)
    left, right = figure.axes
    dot = next(line for line in left.lines if line.get_marker() == "o")
    report("dot: activity [GBq]", job.plan.best.activity / 1000, float(np.ravel(dot.get_xdata())[0]), rtol=1e-12)
    assert len(right.patches) == 6
    assert left.get_xlabel() == "activity per cycle [GBq]"


def test_the_integrals_figure_has_every_method(job: MainJob) -> None:
    text = plot.svg(plot.tia_figure(job.tia, job.practice))
    for method in ("trapezoid, physical tail", "mono-exponential, all scans", "Haenscheid, scan at 103 h", "Madsen"):
        assert method in text


def test_a_run_is_drawn_by_unit() -> None:
    model = pk.label(pk.load_model("psma617_siebinga2023"), "Lu-177", cold=True)
    run_ = pk.simulate(model, pk.Regimen("7.4 GBq once", amount="100 nmol"), days=5)
    units = {str(run_[v].attrs["units"]) for v in run_.data_vars if f"integral_{v}" in run_}
    figure = plot.simulation_figure(run_, scale="log")
    assert len([ax for ax in figure.axes if ax.axison]) == len(units)
    with pytest.raises(PkmodelError, match="it has:"):
        plot.simulation_figure(run_, names=["heart"])


def test_svg_is_reproducible_and_keeps_text(job: MainJob) -> None:
    first, second = (plot.svg(plot.dose_figure(job.doses)) for _ in range(2))
    assert first == second
    assert "<text" in first
    assert not re.search(r"<(script|image|foreignObject)", first)


def test_names_are_not_mathematics() -> None:
    assert label("a$b_c") == r"a\$b c"


def test_no_global_setting_changes_and_no_pyplot(job: MainJob) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    loaded = "matplotlib.pyplot" in sys.modules
    figure = plot.dose_figure(job.doses)
    assert plot.png(figure, dpi=50).startswith(b"\x89PNG")
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    assert dict(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == loaded
