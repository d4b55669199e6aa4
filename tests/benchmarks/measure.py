"""How the benchmarks measure, and where their results go.

Processor time of the process, because these machines are shared; a peer is compared with ours only inside one round,
where ours runs just before and just after it on the same parameter sets. What is told of several rounds is the median,
with the smallest and the largest.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.plain import FOLDER

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
RESULTS = Path(os.environ.get("BENCH_RESULTS", FOLDER / "results.json"))
PACKAGES = "numpy scipy numba llvmlite sympy casadi numbalsoda libroadrunner".split()


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, smallest and largest of several rounds."""

    median: float
    smallest: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int = 3) -> str:
        """``median (smallest to largest)``."""
        return f"{self.median:.{digits}g} ({self.smallest:.{digits}g} to {self.largest:.{digits}g})"


def cpu(work: Callable[[], object], at_least: float = 0.0) -> float:
    """Processor time of one call, all threads together; repeated until `at_least` seconds have gone [s]."""
    gc.collect()
    begin, calls = time.process_time(), 0
    while True:
        work()
        calls += 1
        gone = time.process_time() - begin
        if gone >= at_least:
            return gone / calls


def wall(work: Callable[[], object]) -> float:
    """Time of one call by the clock [s]."""
    gc.collect()
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def interleave(
    ours: Callable[[int], object], peers: Mapping[str, Callable[[int], object]], rounds: int = ROUNDS
) -> tuple[list[float], dict[str, tuple[list[float], list[float]]]]:
    """Processor times of ours, and of each peer with its ratio to ours around it.

    Parameters
    ----------
    ours, peers : work of a given round, the same for all
    rounds : how many

    Returns
    -------
    times of ours [s], and by peer: (times [s], ratios [1])
    """
    mine: list[float] = []
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in peers}
    for k in range(rounds):
        before = cpu(lambda k=k: ours(k), 0.1)  # type: ignore[misc]
        mine.append(before)
        for name, peer in peers.items():
            theirs = cpu(lambda k=k, peer=peer: peer(k))  # type: ignore[misc]
            after = cpu(lambda k=k: ours(k), 0.1)  # type: ignore[misc]
            mine.append(after)
            found[name][0].append(theirs)
            found[name][1].append(theirs / (0.5 * (before + after)))
            before = after
    return mine, found


def machine() -> dict[str, Any]:
    """Processor, cores, load and versions."""
    model = platform.processor() or platform.machine()
    cores = Path("/proc/cpuinfo")
    if cores.exists():
        lines = [line.partition(":")[2].strip() for line in cores.read_text().splitlines() if "model name" in line]
        family = [
            line.partition(":")[2].strip() for line in cores.read_text().splitlines() if line.startswith("model\t")
        ]
        model = f"{lines[0]} (model {family[0]})" if lines and family else model
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    from pkmodel.compiler.machine import backend, default_lanes, host

    features = host().features
    vectors = next((v for v in ("avx512f", "avx2", "neon") if f"+{v}" in features), "no vectors")
    return {
        "processor": model,
        "llvm": f"{host().cpu}, {vectors}",
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else -1.0,
        "python": platform.python_version(),
        "versions": versions,
        "backend": f"{backend()}, {default_lanes()} lanes",
    }


def where() -> str:
    """The machine in one line."""
    m = machine()
    return f"{m['processor']}, {m['llvm']}, {m['cores']} cores, load {m['load']:.1f}; {m['backend']}"


def keep(section: str, data: Any) -> None:
    """Put one section into the file of results; the others stay."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["machine"] = machine()
    results[section] = data
    RESULTS.write_text(json.dumps(results, indent=1, default=lambda x: asdict(x)))


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> None:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, caption=note or None, title_justify="left", caption_justify="left")
    for k, name in enumerate(columns):
        table.add_column(name, justify="left" if k == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=140).print("\n", table)
