"""What the README shows of the benchmarks: the figure, and the table as Markdown; both from one file of results.

python -m benchmarks.readme results.json notebooks/images/bench_engine.png > table.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pkmodel.plot_style import BLACK, BLUE, GREEN, MARKS, ORANGE, PURPLE, SKY, VERMILLION, WIDTH, new_figure, png, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "pkmodel": BLUE,
    "CasADi CVODES": VERMILLION,
    "CasADi CVODES, as C": ORANGE,
    "numbalsoda": GREEN,
    "libroadrunner": PURPLE,
    "SciPy LSODA (solve_ivp)": BLACK,
    "SciPy LSODA (odeint)": SKY,
}
MARK = dict(zip(COLOURS, MARKS, strict=True))


def precision(ax: Axes, data: list[dict[str, Any]]) -> None:
    """Error against processor time, a point a tolerance."""
    for name in ("pkmodel", "CasADi CVODES", "numbalsoda", "libroadrunner"):
        points = [row["solvers"][name] for row in data if name in row["solvers"]]
        times = [p["us"]["median"] / 1e3 for p in points]
        ax.plot(times, [p["error"] for p in points], color=COLOURS[name], marker=MARK[name], markersize=4, label=name)
    ax.set(xscale="log", yscale="log", xlabel="CPU time a patient [ms]", ylabel="largest relative error")
    ax.set_title("Work and precision, P2")


def sizes(ax: Axes, data: list[dict[str, Any]]) -> None:
    """Processor time against the number of states."""
    for name in ("pkmodel", "CasADi CVODES", "numbalsoda"):
        rows = [(d["states"], d["us" if name == "pkmodel" else name]["median"] / 1e3) for d in data
                if name == "pkmodel" or name in d]  # fmt: skip
        if rows:
            ax.plot(*zip(*rows, strict=True), color=COLOURS[name], marker=MARK[name], markersize=4, label=name)
    ax.set(xscale="log", yscale="log", xlabel="states", ylabel="CPU time a patient [ms]")
    ax.set_title("Size, tumour cord")


def ratios(ax: Axes, results: dict[str, Any]) -> None:
    """How many times slower each peer is, with the spread of the rounds."""
    peers = [n for n in COLOURS if n != "pkmodel"]
    for k, problem in enumerate(("P2", "P3")):
        solvers = results[problem]["solvers"]
        for j, peer in enumerate(peers):
            if peer not in solvers:
                continue
            r = solvers[peer]["ratio"]
            at = j + (k - 0.5) * 0.34
            spread = [[r["median"] - r["smallest"]], [r["largest"] - r["median"]]]
            ax.barh(at, r["median"], 0.3, color=COLOURS[peer], alpha=1.0 if k == 0 else 0.45)
            ax.errorbar(r["median"], at, xerr=spread, color=BLACK, linewidth=0.8)
            ax.text(r["largest"] * 1.02 + 0.8, at, f"{problem}: {r['median']:.0f}×", va="center", fontsize=7)
    ax.set_yticks(range(len(peers)), [p.replace(" (", "\n(").replace(", ", ",\n") for p in peers])
    ax.invert_yaxis()
    ax.set_xlabel("times the CPU of pkmodel")
    ax.set_title("Peers at rtol 1e-6")
    ax.set_xlim(0, 1.2 * ax.get_xlim()[1])


def draw(results: dict[str, Any]) -> bytes:
    """The figure as PNG."""
    with style():
        figure = new_figure(WIDTH * 1.25, 3.1, "constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.1, 1.0, 1.0))
        ratios(left, results)
        precision(middle, results["P2 work-precision"])
        sizes(right, results["states"])
        right.set_ylim(top=20.0 * right.get_ylim()[1])  # room for the names
        right.legend(*middle.get_legend_handles_labels(), loc="upper left")
        return png(figure, 200)


def table(results: dict[str, Any]) -> str:
    """Solvers by rows: processor time of ours, and how many times that the others need."""
    problems = [n for n in ("P1", "P2s", "P2", "P3") if n in results]
    heads = [f"{n}, {results[n]['states']} states" for n in problems]
    lines = [f"| CPU time a patient | {' | '.join(heads)} | error on P2, P3 |", "|---" * (len(heads) + 2) + "|"]
    for name in COLOURS:
        cells = [_cell(results[n]["solvers"].get(name)) for n in problems]
        errors = [results[n]["solvers"].get(name, {}).get("error") for n in ("P2", "P3") if n in problems]
        shown = ", ".join("" if e is None else f"{e:.0e}".replace("e-0", "e-") for e in errors)
        lines.append(f"| {name} | {' | '.join(cells)} | {shown} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if "ratio" not in row:
        return f"**{row['us']['median']:.3g} us**"
    r = row["ratio"]
    return f"{r['median']:.0f} x ({r['smallest']:.0f} to {r['largest']:.0f})"


if __name__ == "__main__":
    found = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_bytes(draw(found))
    print(table(found))
