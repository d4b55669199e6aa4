"""Cost of the engine against states, patients and threads, and from the text of a model to its first result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure import ROUNDS, Spread, cpu, interleave, keep, show, wall, where
from benchmarks.ours import prepare
from benchmarks.peers import casadi_compiled, casadi_cvodes, numbalsoda_lsoda, quiet
from benchmarks.problems import RTOL, cord, equations, problem
from support import ROOT

CELLS = (2, 4, 9, 24, 49, 74, 124)  # rings of the cord: 12 to 500 states
PATIENTS = (1, 10, 100, 1_000, 10_000, 100_000)


@pytest.mark.bench
def test_states() -> None:
    """One family, the tumour cord in ever finer rings: 12 to 500 states."""
    rows, data = [], []
    makers = {"CasADi CVODES, as C": casadi_compiled, "CasADi CVODES": casadi_cvodes, "numbalsoda": numbalsoda_lsoda}
    for cells in CELLS:
        p = cord(cells)
        begin = time.perf_counter()
        mine = prepare(p)
        ours = mine.solver(RTOL, p.atol)
        our_sets = p.sets(64, mine.names)
        ours(our_sets[:8])
        made = time.perf_counter() - begin
        e = equations(p)
        their_sets = p.sets(8, e.names)[: 8 if cells < 50 else 2]
        peers = {}
        for name, maker in makers.items():
            if name == "CasADi CVODES" and "CasADi CVODES, as C" in peers:
                continue
            try:
                with quiet():
                    peers[name] = maker(e, RTOL, e.atol)
                    peers[name](their_sets[:1])
            except ImportError:
                continue
        count = len(their_sets)
        times, found = interleave(
            lambda _, s=our_sets: ours(s),  # type: ignore[misc]
            {n: lambda _, f=f, s=their_sets: f(s) for n, f in peers.items()},  # type: ignore[misc]
            rounds=3,
        )
        us = Spread.of([t / 64 * 1e6 for t in times])
        run = mine.engine.run(our_sets, mine.records, p.times, RTOL, p.atol)
        steps = float(run.steps.mean())
        row = {"states": 4 + 4 * cells, "us": us, "steps": steps, "first": made}
        row |= {n: Spread.of([t / count * 1e6 for t in v[0]]) for n, v in found.items()}
        data.append(row)
        peer_cells = [f"{t / count * 1e3:.3g} ms ({t / count * 1e6 / us.median:.0f}x)" for t in
                      (float(np.median(v[0])) for v in found.values())]  # fmt: skip
        per_step = us.median * 1e3 / steps / (4 + 4 * cells)
        rows.append([str(4 + 4 * cells), us.text(), f"{steps:.0f}", f"{per_step:.2f}", f"{made:.1f}", *peer_cells])
    columns = ["states", "CPU us a patient", "steps", "ns a step and state", "text to first [s]", *found]
    show("Tumour cord, 12 to 500 states", columns, rows, where())
    keep("states", data)


@pytest.mark.bench
def test_patients() -> None:
    """1 to 100 000 patients; P2 reports its 8 organs and their integrals, as a trial would."""
    rows, data = [], []
    for name, most in (("P1", 100_000), ("P2", 10_000)):
        p = problem(name)
        mine = prepare(p, report=None if name == "P2" else ())
        sets = p.sets(most, mine.names)
        for count in (n for n in PATIENTS if n <= most):

            def work(sets: object = sets[:count]) -> None:
                run = mine.engine.run(sets, mine.records, p.times, RTOL, p.atol, states=name == "P1")  # type: ignore[arg-type]
                assert not run.failed.size

            work() if count < 1000 else None
            us = Spread.of([cpu(work, 0.02) / count * 1e6 for _ in range(3 if count <= 1000 else 1)])
            rows.append([name, f"{count}", us.text()])
            data.append({"problem": name, "patients": count, "us": us})
    show("Cost against patients, one thread", ["problem", "patients", "CPU us a patient"], rows, where())
    keep("patients", data)


@pytest.mark.bench
def test_threads() -> None:
    """One thread and two, 1000 patients, by the clock; other work on the machine makes it worse than it is."""
    rows, data = [], []
    for name in ("P2s", "P2", "P3"):
        p = problem(name)
        mine = prepare(p)
        sets = p.sets(1000, mine.names)
        one, two = (mine.solver(RTOL, p.atol, threads=k) for k in (1, 2))
        assert np.array_equal(one(sets), two(sets))
        pairs = [(wall(lambda: one(sets)), wall(lambda: two(sets))) for _ in range(ROUNDS)]  # noqa: B023
        ratio = Spread.of([a / b for a, b in pairs])
        used = Spread.of([cpu(lambda: two(sets)) / cpu(lambda: one(sets)) for _ in range(2)])  # noqa: B023
        met = "met" if ratio.median >= 1.7 else "missed"
        fastest = min(b for _, b in pairs)
        rows.append(
            [name, f"{min(a for a, _ in pairs):.3f}", f"{fastest:.3f}", ratio.text(), used.text(), f"1.7x {met}"]
        )
        data.append({"problem": name, "wall": pairs, "ratio": ratio, "cpu": used})
    columns = ["problem", "one, best [s]", "two, best [s]", "faster", "CPU of two over one", "target"]
    show("1000 patients on one thread and on two", columns, rows, where())
    keep("threads", data)


@pytest.mark.bench
def test_first_result() -> None:
    """P2 from its text: everything fresh, a fresh model, and machine code from disk."""
    rows, data = [], {}
    for way in ("engine", "simulate"):
        with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as drivers:
            new = {"PKMODEL_CACHE": cache, "NUMBA_CACHE_DIR": drivers}
            cases = {"first use ever": [_child(way, new)]}
            cases["from disk"] = [_child(way, new) for _ in range(ROUNDS)]
            fresh = []
            for k in range(ROUNDS):
                fresh.append(_child(way, {"PKMODEL_CACHE": f"{cache}/{k}", "NUMBA_CACHE_DIR": drivers}))
            cases["new model"] = fresh
        for case, found in cases.items():
            took = {k: Spread.of([f[k] for f in found]) for k in ("imports", "wall", "cpu")}
            target = {"new model": 2.0, "from disk": 0.3}.get(case)
            met = "" if target is None else f"{target} s {'met' if took['wall'].median <= target else 'missed'}"
            rows.append([f"{way}, {case}", *(took[k].text() for k in ("imports", "wall", "cpu")), met])
            data[f"{way}, {case}"] = took
    columns = ["P2, from text to first result", "imports [s]", "then, by the clock [s]", "CPU [s]", "target"]
    show("From text to first result", columns, rows, where())
    keep("first result", data)


def _child(way: str, environment: dict[str, str]) -> dict[str, float]:
    path = os.pathsep.join([str(ROOT), str(Path(ROOT) / "tests")])
    out = subprocess.run(
        [sys.executable, "-m", "benchmarks.cold", way], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, **environment, "PYTHONPATH": path},
    )  # fmt: skip
    if out.returncode:
        raise RuntimeError(out.stderr[-2000:])
    found: dict[str, float] = json.loads(out.stdout)
    return found
