"""Fit the mouse agents of models/agents/mouse to their tables, and compare every published point with the model.

``python scripts/fit_mouse.py`` repeats every fit from the values in the files and prints what it finds beside them
(weighted by nothing: least squares of log ratios, soft_l1, so that one organ the model has wrong does not bend the
rest); ``--figure`` draws notebooks/images/mouse_formats.png. What is fitted is what the files call ``fitted``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import pkmodel as pk
from pkmodel.requirements import number
from pkmodel.units import factor

ROOT = Path(__file__).resolve().parents[1]
AT_ONCE = 5 / 60  # what "0 h" stands for: killed right after injection [h]
HOST = {"lung": "lungs", "tumor": "tumour", "stomach": "rest"}  # region of a table -> organ of the mouse
WHOLE = ("thyroid",)  # regions given per organ, not per gram
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Case:
    """One agent and the curves it is compared with."""

    agent: str
    study: str
    subject: str


@dataclass(frozen=True, slots=True)
class Fit:
    """Agents fitted together, the parameters that this fit moves, and the organs it sees (none: all)."""

    agents: tuple[str, ...]
    free: tuple[str, ...]
    organs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Point:
    """One organ at one time."""

    organ: str
    time: float
    published: float
    model: float

    @property
    def ratio(self) -> float:
        """Model over published."""
        return self.model / self.published

    @property
    def inside(self) -> bool:
        """Whether the two are within a factor 2."""
        return bool(0.5 <= self.ratio <= 2.0)


CASES = (
    Case("mouse_in111_mn14", "mn14_111in_mouse", "in111"),
    Case("mouse_lu177_l8a4", "l8a4_177lu_mouse", "lu177"),
    Case("mouse_i125_sgmib_l8a4", "l8a4_177lu_mouse", "i125"),
    Case("mouse_in111_trastuzumab_irdye", "trastuzumab_irdye_111in_mouse", "in111"),
    Case("mouse_lu177_panitumumab_fab2", "panitumumab_fab2_mouse", "lu177"),
    Case("mouse_i131_t84_diabody", "t84_diabody_131i_mouse", "i131"),
    Case("mouse_i125_l19_scfv", "l19_scfv_mouse", "l19"),
    Case("mouse_in111_hsa_zher2", "hsa_zher2_111in_mouse", "in111"),
    Case("mouse_in111_zher3", "zher3_affibody_mouse", "in111"),
    Case("mouse_i125_pib_zher3", "zher3_affibody_mouse", "i125"),
    Case("mouse_lu177_2rs15d", "nanobody_2rs15d_177lu_mouse", "lu177"),
)
FITS = (
    Fit(("mouse_in111_mn14",), ("CL", "Rkrogh_tumour", "Ki_other", "k_label")),
    Fit(("mouse_lu177_l8a4", "mouse_i125_sgmib_l8a4"), ("CL", "kint_egfrviii", "k_krogh", "k_lu177", "k_sgmib")),
    Fit(("mouse_in111_trastuzumab_irdye",), ("CL", "Rkrogh_tumour")),
    Fit(("mouse_lu177_panitumumab_fab2",), ("CL", "Ki_other")),
    Fit(("mouse_i131_t84_diabody",), ("theta", "kint_cea", "k_krogh", "k_label")),
    Fit(("mouse_i125_l19_scfv",), ("theta", "kint_tumour", "Rkrogh_tumour", "k_label")),
    Fit(("mouse_in111_hsa_zher2",), ("CL", "Rkrogh_tumour")),
    Fit(("mouse_in111_zher3",), ("CL", "her3")),  # the protein from the label that stays
    Fit(("mouse_i125_pib_zher3",), ("k_label",), ("kidneys",)),  # then the other label
    Fit(("mouse_lu177_2rs15d",), ("Rkrogh_tumour", "k_label")),
)


def grams(model: pk.Model) -> dict[str, float]:
    """Mass of every organ and of the blood outside organs [g]."""
    known: dict[str, Any] = {}
    names = [n for n in model.parameters if n.startswith("mass_") and not n.startswith(("mass_exp_", "mass_ref_"))]
    out = {n.removeprefix("mass_"): float(number(n, model.parameters, known)) / factor("g") for n in names}
    volume, density = (float(number(n, model.parameters, known)) for n in ("V_blood", "rho_blood"))
    return {**out, "blood": volume * density / factor("g")} | dict.fromkeys(WHOLE, 1.0)


def water(model: pk.Model) -> dict[str, float]:
    """Share of the body's extracellular water in each organ of a model with free iodide; none without."""
    if "iodide" not in model.observables:
        return {}
    known: dict[str, Any] = {}
    size = {n: float(number(n, model.parameters, known)) for n in model.parameters if n.startswith(("V", "Hct"))}
    out = {n[3:]: size[n] + size.get(f"Vi_{n[3:]}", 0.0) for n in size if n.startswith("Vp_") and "_ref_" not in n}
    out |= {"tumour": size["Vp_tumour"] + size["Vi_acc_tumour"], "brain": size["Vp_brain"]}
    return {o: v / size["V_ecf"] for o, v in {**out, "blood": size["V_blood"] * (1 - size["Hct"])}.items()}


def measured(case: Case) -> list[tuple[str, float, float]]:
    """Organ of the mouse, time [h] and value [%ID/g] of every published point."""
    out = []
    for curve in pk.load_study(case.study)[case.subject]:
        organ = HOST.get(curve.region, curve.region)
        out += [(organ, float(t), float(v)) for t, v in zip(curve.t_start, curve.value, strict=True)]
    return out


def predicted(model: pk.Model, wanted: list[tuple[str, float]], rows: pd.DataFrame | None = None) -> Array:
    """What the model has at those organs and times [%ID/g], decay left out as in the tables.

    Parameters
    ----------
    model : an agent as loaded, not labelled
    wanted : organ and time [h]
    rows : parameters to change, one row a variant; default the model's own

    Returns
    -------
    array
        (variants, len(wanted)).
    """
    amount = model.tracer["amount"]
    times = sorted({0.0} | {max(t, AT_ONCE) for _, t in wanted})
    organs = sorted({o for o, _ in wanted})
    first = next(n for n, p in model.parameters.items() if p.value is not None)
    if rows is None:
        rows = pd.DataFrame({first: [model.parameters[first].value]})
    dose = pk.Regimen(f"{amount} once", into="injection")
    part = water(model)
    seen = [*organs, *(["iodide"] if part else [])]
    run = pk.simulate(model, dose, times, parameters=rows, observables=seen, rtol=1e-8, atol=1e-13)
    given, mass = float(amount.split()[0]), grams(model)
    amounts = {o: run[o].values + (part[o] * run["iodide"].values if part else 0.0) for o in organs}
    at = [(o, times.index(max(t, AT_ONCE))) for o, t in wanted]
    return np.array([[100.0 * amounts[o][q, k] / given / mass[o] for o, k in at] for q in range(len(rows))])


def compare(case: Case) -> list[Point]:
    """Every published point of an agent beside the model's."""
    data = measured(case)
    (got,) = predicted(pk.load_model(case.agent), [(o, t) for o, t, _ in data])
    return [Point(o, t, v, float(g)) for (o, t, v), g in zip(data, got, strict=True)]


def fitted(model: pk.Model) -> dict[str, float]:
    """Parameters that were fitted, with their values in the declared units."""
    return {n: float(p.value) for n, p in model.parameters.items() if p.status == "fitted" and p.value is not None}


def table(case: Case, points: list[Point]) -> str:
    """Organ, time, published, model, ratio, and whether inside a factor 2; then the share and the parameters."""
    model = pk.load_model(case.agent)
    lines = [case.agent, f"  {'organ':<10} {'h':>6} {'published':>9} {'model':>9} {'ratio':>7}"]
    for p in points:
        mark = "" if p.inside else "  outside"
        lines.append(f"  {p.organ:<10} {p.time:6g} {p.published:9.4g} {p.model:9.4g} {p.ratio:7.2f}{mark}")
    inside = sum(p.inside for p in points)
    lines.append(f"  inside a factor 2: {inside} of {len(points)} = {100 * inside / len(points):.0f} %")
    known = [f"{n} = {v:.4g} {model.parameters[n].unit}" for n, v in fitted(model).items()]
    return "\n".join([*lines, f"  fitted: {', '.join(known) or 'none'}"])


def run_fit(fit: Fit) -> dict[str, float]:
    """Repeat one fit from the values in the files."""
    from scipy.optimize import least_squares

    cases = [c for c in CASES if c.agent in fit.agents]
    models = [pk.load_model(c.agent) for c in cases]
    data = [[row for row in measured(c) if not fit.organs or row[0] in fit.organs] for c in cases]
    logs = np.log([v for rows in data for _, _, v in rows])
    start = np.log([next(m.parameters[n].value for m in models if n in m.parameters) for n in fit.free])
    step = 1e-3
    limits = [next(m.parameters[n] for m in models if n in m.parameters) for n in fit.free]
    low = np.log([max(p.lower or 0.0, 1e-5) for p in limits])
    high = np.log([p.upper if p.upper is not None and np.isfinite(p.upper) else 1e4 for p in limits]) - 2 * step

    def ratios(x: Array) -> tuple[Array, Array]:
        many = np.exp(np.vstack([x, x + step * np.eye(len(x))]))
        parts = []
        for model, rows in zip(models, data, strict=True):
            own = [k for k, n in enumerate(fit.free) if n in model.parameters]
            changes = pd.DataFrame(many[:, own], columns=[fit.free[k] for k in own])
            parts.append(predicted(model, [(o, t) for o, t, _ in rows], changes))
        got = np.log(np.maximum(np.concatenate(parts, axis=1), 1e-12))
        return got[0] - logs, (got[1:] - got[0]).T / step

    seen: dict[bytes, tuple[Array, Array]] = {}

    def at(x: Array) -> tuple[Array, Array]:
        return seen.setdefault(x.tobytes(), ratios(x)) if x.tobytes() not in seen else seen[x.tobytes()]

    found = least_squares(
        lambda x: at(x)[0], start, lambda x: at(x)[1], (low, high), loss="soft_l1", f_scale=0.35, max_nfev=40, xtol=1e-4
    )
    return dict(zip(fit.free, np.exp(found.x).tolist(), strict=True))


def draw(path: Path) -> None:
    """Curves of some organs against the published points, one panel an agent."""
    from pkmodel.plot_style import log_axis, new_figure, style

    shown = {"blood": "#b2182b", "tumour": "#222222", "kidneys": "#e08214", "liver": "#7f3b08", "muscle": "#4393c3"}
    with style():
        figure = new_figure(11.0, 8.2, layout="constrained")
        axes = figure.subplots(3, 4).ravel()
        for ax, case in zip(axes, CASES, strict=False):
            data = [row for row in measured(case) if row[0] in shown]
            end = max(t for _, t, _ in data)
            grid = np.unique(np.concatenate([np.linspace(AT_ONCE, end / 8, 40), np.linspace(end / 8, end, 40)]))
            organs = [o for o in shown if any(r[0] == o for r in data)]
            (got,) = predicted(pk.load_model(case.agent), [(o, float(t)) for o in organs for t in grid])
            for o, curve in zip(organs, got.reshape(len(organs), -1), strict=True):
                ax.plot(grid, curve, color=shown[o], lw=1.2)
                here = [(max(t, AT_ONCE), v) for r, t, v in data if r == o]
                ax.plot(*zip(*here, strict=True), "o", color=shown[o], ms=3.5, label=o)
            low = min(v for _, _, v in data)
            ax.set_ylim(low / 3, 3 * max(v for _, _, v in data))
            log_axis(ax)
            ax.set_title(case.agent.removeprefix("mouse_").replace("_", " "), fontsize=9)
            ax.set_xlabel("h after injection")
        axes[0].set_ylabel("%ID/g")
        for ax in axes[len(CASES) :]:
            ax.set_axis_off()
        handles = {label: h for ax in axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        axes[-1].legend(handles.values(), handles.keys(), loc="center", title="points: published; lines: model")
        figure.savefig(path, dpi=150)


def main() -> None:
    """Fits, tables or the figure, as asked."""
    if "--figure" in sys.argv:
        draw(ROOT / "notebooks" / "images" / "mouse_formats.png")
        return
    chosen = [a for a in sys.argv[1:] if not a.startswith("--")]
    for fit in FITS:
        if chosen and not any(a in agent for a in chosen for agent in fit.agents):
            continue
        if "--tables" not in sys.argv:
            files = fitted(pk.load_model(fit.agents[-1])) | fitted(pk.load_model(fit.agents[0]))
            for name, value in run_fit(fit).items():
                print(f"{fit.agents[0]}: {name}: file {files.get(name, float('nan')):.4g}, fit {value:.4g}")
        for case in CASES:
            if case.agent in fit.agents:
                print(table(case, compare(case)))


if __name__ == "__main__":
    main()
