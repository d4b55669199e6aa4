"""Run the SBML semantic test suite (github.com/sbmlteam/sbml-test-suite) and say how many cases pass.

    python scripts/sbml_suite.py PATH/cases/semantic [--cases 00001,00002] [--level l2v4] [--written] [--show]

A case is *supported* where the file is read; one that uses what `read_sbml` refuses by name (algebraic rules, delays,
fast reactions, packages ...) is counted by its reason. A case passes where every number of the expected table is met
within the suite's own tolerances, |found - expected| <= absolute + relative*|expected|.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from pkmodel.compiler.autonomous import autonomous
from pkmodel.compiler.system import build_system
from pkmodel.errors import PkmodelError
from pkmodel.model import Observable
from pkmodel.sbml import Imported, import_sbml, read_sbml, write_sbml
from pkmodel.solve.records import records
from pkmodel.trigger_walk import Machine
from pkmodel.triggers import triggered

RTOL, ATOL = 1e-9, 1e-13
PACKAGES = ("comp", "fbc")
REASONS = {  # words of the refusal -> what is not supported
    "algebraic rule": "algebraic rule",
    "csymbol delay": "delay of a value (csymbol delay)",
    "fast reaction": "fast reaction",
    "factorial": "factorial of what moves",
    "the SBML package": "SBML package",
    "trigger time": "delayed event that sets a concentration in a volume that changes",
    "otherwise": "piecewise without otherwise",
    "the number": "infinite or undefined number",
    "has the infinite": "infinite or undefined number",
    "has no value": "a value that the file does not give",
    "circular": "circular definition",
}


@dataclass(frozen=True)
class Outcome:
    """How a case went: passed, failed (why), or not supported (why)."""

    case: str
    tags: tuple[str, ...]
    passed: bool
    supported: bool
    why: str = ""


def tags_of(folder: Path) -> tuple[str, ...]:
    text = (folder / f"{folder.name}-model.m").read_text(errors="replace")
    found: list[str] = []
    for line in ("componentTags", "testTags"):
        match = re.search(rf"^{line}:[ \t]*(.*)$", text, re.MULTILINE)
        found += [t.strip() for t in match[1].split(",") if t.strip()] if match else []
    return tuple(found)


def file_of(folder: Path, level: str) -> Path | None:
    """The model of a case: of the level asked for, else of the highest there is."""
    files = sorted(folder.glob(f"{folder.name}-sbml-l*.xml"))
    files = [f for f in files if level in f.name] if level else files
    return files[-1] if files else None


def settings_of(folder: Path) -> dict[str, str]:
    text = (folder / f"{folder.name}-settings.txt").read_text(errors="replace")
    return {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in text.splitlines()) if k.strip()}


def names(text: str) -> list[str]:
    return [n.strip() for n in text.split(",") if n.strip()]


def simulated(read: Imported, settings: dict[str, str], wanted: list[str], times: np.ndarray) -> np.ndarray:
    """Columns of the expected table."""
    amounts, concentrations = names(settings.get("amount", "")), names(settings.get("concentration", ""))
    observables = {}
    for k, id in enumerate(wanted):
        if id not in read.values:
            raise PkmodelError(f"{id!r} has no value")
        source = read.values
        if id in read.amounts and id in (*amounts, *concentrations):
            source = read.amounts if id in amounts else read.concentrations
        observables[f"wanted_{k}"] = Observable(name=f"wanted_{k}", expression=source[id], unit="1")
    model = replace(read.model, observables=observables)
    system = autonomous(build_system(model), report=tuple(observables))
    values = model.canonical_values()
    p = np.array([values[n] for n in model.primary])
    run = Machine(triggered(system, model)).run(p, records([]), times, RTOL, ATOL)
    if run.status:
        raise ArithmeticError(f"{run.message} at t = {run.until:g}")
    return run.out


def try_case(folder: Path, level: str, written: bool) -> Outcome | None:
    file = file_of(folder, level)
    if file is None:
        return None
    tags = tags_of(folder)

    def outcome(passed: bool, supported: bool, why: str = "") -> Outcome:
        return Outcome(folder.name, tags, passed, supported, why)

    if any(t.startswith("fbc:") for t in tags):
        return outcome(False, False, "SBML package")
    try:
        read = import_sbml(file, units="none")
        if written:
            read = replace(read, model=read_sbml(write_sbml(read.model), units="none"))
    except PkmodelError as error:
        reason = next((r for words, r in REASONS.items() if words in str(error)), "")
        return outcome(False, not reason, reason or str(error))
    settings = settings_of(folder)
    expected = pd.read_csv(folder / f"{folder.name}-results.csv", skipinitialspace=True)
    # pandas counts repeated names, as of a variable called Time
    wanted = [re.sub(r"\.\d+$", "", c.strip()) for c in expected.columns[1:]]
    times = expected.iloc[:, 0].to_numpy(float)
    try:
        found = simulated(read, settings, wanted, times)
    except (PkmodelError, ArithmeticError, ValueError, TypeError) as error:
        return outcome(False, True, f"{type(error).__name__}: {error}")
    target = expected.iloc[:, 1:].to_numpy(float)
    allowed = float(settings["absolute"]) + float(settings["relative"]) * np.abs(target)
    with np.errstate(invalid="ignore"):
        wrong = ~((np.abs(found - target) <= allowed) | (np.isnan(found) & np.isnan(target)) | (found == target))
    if not wrong.any():
        return outcome(True, True)
    row, column = (int(i[0]) for i in np.nonzero(wrong))
    why = f"{wanted[column]} at t = {times[row]:g}: expected {target[row, column]:g}, found {found[row, column]:g}"
    return outcome(False, True, why)


def run(folders: list[Path], level: str, written: bool) -> Iterator[Outcome]:
    for k, folder in enumerate(folders):
        found = try_case(folder, level, written)
        if found is not None:
            yield found
        if k % 50 == 0:
            print(f"\r{k} of {len(folders)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="the suite's folder cases/semantic")
    parser.add_argument("--cases", default="", help="only these, separated by commas")
    parser.add_argument("--level", default="", help="files of this level and version only, e.g. l2v4")
    parser.add_argument(
        "--written", action="store_true", help="write each model with write_sbml and read it back first"
    )
    parser.add_argument("--show", action="store_true", help="print every case that fails")
    options = parser.parse_args()
    folders = [f for f in sorted(options.path.iterdir()) if f.is_dir() and f.name.isdigit()]
    if options.cases:
        folders = [f for f in folders if f.name in options.cases.split(",")]
    begun = time.perf_counter()
    outcomes = list(run(folders, options.level, options.written))
    took = time.perf_counter() - begun
    supported = [o for o in outcomes if o.supported]
    passed = [o for o in supported if o.passed]
    if options.show:
        for o in supported:
            if not o.passed:
                print(f"{o.case}: {o.why}  [{', '.join(o.tags)}]")
    rate = 100 * len(passed) / max(1, len(supported))
    print(f"{len(passed)} of {len(supported)} supported cases pass ({rate:.1f} %),")
    print(f"{100 * len(passed) / max(1, len(outcomes)):.1f} % of all {len(outcomes)} cases; {took:.0f} s")
    print("not supported:")
    for reason, count in Counter(o.why for o in outcomes if not o.supported).most_common():
        print(f"  {count:4d}  {reason}")


if __name__ == "__main__":
    main()
