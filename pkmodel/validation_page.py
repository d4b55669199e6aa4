"""The validation page: a table and a figure of every published number beside the model's, written by one function."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from .dosimetry.present import show
from .library import list_models
from .plot_style import png
from .plot_validation import validation_figure
from .validation import FACTOR, Row, Validation, validate

PAGE = Path("docs") / "validation.md"
FIGURE = Path("notebooks") / "images" / "validation.png"
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
CLOSE = 0.03  # relative difference of two printed numbers that is rounding, or a processor's


def write_page(
    root: Path | str, *, agents: Sequence[str] | None = None, progress: Callable[[str], None] | None = None
) -> Validation:
    """Follow every agent with published facts, and write the page and its figure.

    Parameters
    ----------
    root : folder of the checkout; `PAGE` and `FIGURE` are written below it [path]
    agents : names; default all with published facts [text]
    progress : called with a sentence before each agent

    Returns
    -------
    Validation
    """
    found = validate(agents, progress=progress)
    place = Path(root)
    for path in (PAGE, FIGURE):
        place.joinpath(path).parent.mkdir(parents=True, exist_ok=True)
    place.joinpath(PAGE).write_text(page(found), encoding="utf-8")
    place.joinpath(FIGURE).write_bytes(png(validation_figure(found), 170))
    return found


def page(found: Validation) -> str:
    """Text of the page [Markdown]."""
    met = sum(r.met for r in found.rows)
    spread = [r for r in found.rows if r.inside is not None]
    inside = sum(bool(r.inside) for r in spread)
    rest = len(found.rows) - len(spread)
    lines = [
        "# Agents beside what was published of them",
        "Written by `make validation` from [`models/agents/published.csv`](../models/agents/published.csv), never by",
        "hand; a test fails when it is not what the models say today. Where an agent was fitted to a number, its",
        "reason says so; misses stay in.",
        "",
        f"{len(found.rows)} published numbers of {len(found.agents)} agents: {met} met. Of {len(spread)} with a",
        f"printed spread, {inside} lie inside it (mean ± 2 SD or the printed range, whichever is wider);",
        f"the other {rest} count as met within a factor {FACTOR:g}.",
        "Doses are self-doses: photons from other organs are missing, which",
        "matters for 89Zr, 131I, 111In, 68Ga, 18F and 64Cu; the reason says what they could add at most, an upper",
        "bound that published S values undercut 4 to 14 times.",
        "",
        "![Model over published for every number, with the published spread](../notebooks/images/validation.png)",
        "",
        "| agent | numbers | met | ratio, geometric mean | all within |",
        "|---|---|---|---|---|",
    ]
    blocks = {a: [r for r in found.rows if r.fact.agent == a] for a in found.agents}
    lines += [_summary(a, rows) for a, rows in blocks.items()]
    for agent, rows in blocks.items():
        lines += ["", f"## {agent}", "| region | quantity | published | spread | n | model | ratio | met | reason |"]
        lines += ["|---|---|---|---|---|---|---|---|---|", *(_line(r) for r in rows), "", _sources(rows)]
    if found.failed:
        lines += ["", "## Not followed"] + [f"- {a}: {why}" for a, why in found.failed.items()]
    silent = sorted(a for a in _agents() if a not in found.agents)
    lines += ["", "## Agents without a published number here", ", ".join(silent) + "." if silent else "None."]
    return "\n".join(lines) + "\n"


def _agents() -> list[str]:
    """Agents of people in the library."""
    from .assembly.tree import read

    names = []
    for name in list_models():
        raw, _, _ = read(name)
        if "tracer" in raw and not name.startswith("mouse_"):
            names.append(name)
    return names


def _summary(agent: str, rows: Sequence[Row]) -> str:
    ratios = [r.ratio for r in rows if r.ratio > 0 and math.isfinite(r.ratio)]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan
    worst = max((max(x, 1 / x) for x in ratios), default=math.nan)
    met = sum(r.met for r in rows)
    return f"| [{agent}](#{agent}) | {len(rows)} | {met} | {show(mean, 2)} | factor {show(worst, 2)} |"


def _line(r: Row) -> str:
    low, high = r.fact.band
    spread = "" if math.isnan(low) else f"{show(low, 3)} to {show(high, 3)}"
    value = f"{show(r.fact.value, 3)} {r.fact.unit}".replace(" 1", "")
    mark = "yes" if r.met else "**no**"
    unverified = " (unverified)" if r.fact.status == "unverified" else ""
    got = "never falls" if math.isinf(r.got) else show(r.got, 3)
    ratio = "" if math.isinf(r.got) else show(r.ratio, 2)
    cells = [r.fact.region.replace("_", " "), r.fact.what, value + unverified, spread, r.fact.n, got, ratio]
    return "| " + " | ".join([*cells, mark, r.reason.replace("|", "/")]) + " |"


def _sources(rows: Sequence[Row]) -> str:
    return "Sources: " + "; ".join(dict.fromkeys(r.fact.source for r in rows if r.fact.source)) + "."


def differences(old: str, new: str) -> list[str]:
    """What two pages say differently: words, or numbers that are further apart than rounding.

    Parameters
    ----------
    old, new : pages [text]
    """
    a, b = old.splitlines(), new.splitlines()
    out = [f"{len(a)} lines, now {len(b)}"] if len(a) != len(b) else []
    for before, after in zip(a, b, strict=False):
        if before == after:
            continue
        x, y = ([float(v) for v in NUMBER.findall(t)] for t in (before, after))
        words = NUMBER.sub("#", before) == NUMBER.sub("#", after)
        if not words or any(abs(p - q) > CLOSE * max(abs(p), abs(q), 1e-12) for p, q in zip(x, y, strict=False)):
            out.append(f"- {before}\n+ {after}")
    return out
