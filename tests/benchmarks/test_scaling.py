"""Cost of the engine against states, patients and threads, and from the text of a model to its first result."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.measure import ROUNDS, Spread, cpu, interleave, keep, show, wall, where
from benchmarks.ours import Prepared, prepare
from benchmarks.peers import Solver, casadi_cvodes, numbalsoda_lsoda, quiet
from benchmarks.problems import RTOL, cord, equations, problem
from support import ROOT

Array = NDArray[np.float64]
CELLS = (2, 4, 9, 24, 49, 74, 124)  # rings of the cord: 12 to 500 states
SWEPT = {"CasADi CVODES": (casadi_cvodes, 124), "numbalsoda": (numbalsoda_lsoda, 49)}  # and up to how many rings
PATIENTS = (1, 10, 100, 1_000, 10_000, 100_000)
MOST_OF_P2 = int(os.environ.get("BENCH_PATIENTS", "10000"))


@pytest.mark.bench
def test_states() -> None:
    """One family, the tumour cord in ever finer rings: 12 to 500 states."""
    data = [states(cells) for cells in CELLS]
    rows = []
    for d in data:
        n, us, steps = d["states"], d["us"], d["steps"]
        peers = [d[name] for name in SWEPT if name in d]
        rows.append(
            [f"{n}", us.text(), f"{steps:.0f}", f"{us.median * 1e3 / steps / n:.1f}", f"{d['first']:.2f}"]
            + [f"{peer.median:.3g} ({peer.median / us.median:.0f}x)" for peer in peers]
        )
    columns = ["states", "CPU us a patient", "steps", "ns a step and state", "text to first result [s]", *SWEPT]
    show("Tumour cord, 12 to 500 states; times of peers in us", columns, rows, where())
    keep("states", data)


def states(cells: int) -> dict[str, Any]:
    """Cost of one size: processor time of ours and of the peers, steps, and seconds to the first result."""
    p = cord(cells)
    begin = time.process_time()
    mine = prepare(p)
    ours = mine.solver(RTOL, p.atol)
    our_sets = p.sets(64, mine.names)
    ours(our_sets[:8])
    first = time.process_time() - begin
    e = equations(p)
    count = 8 if cells < 50 else 2
    their_sets = p.sets(64, e.names)[:count]
    peers: dict[str, Callable[[int], object]] = {}
    for name, (maker, largest) in SWEPT.items():
        if cells <= largest:
            with quiet(), contextlib.suppress(ImportError):
                peer = maker(e, RTOL, e.atol)
                peer(their_sets[:1])
                peers[name] = partial(repeated, peer, their_sets)
    times, found = interleave(partial(repeated, ours, our_sets), peers, rounds=3)
    run = mine.engine.run(our_sets, mine.records, p.times, RTOL, p.atol)
    about: dict[str, Any] = {"states": len(e.states), "first": first, "steps": float(run.steps.mean())}
    about |= {"us": Spread.of([t / len(our_sets) * 1e6 for t in times])}
    return about | {name: Spread.of([t / count * 1e6 for t in theirs]) for name, (theirs, _) in found.items()}


def repeated(solve: Solver, sets: Array, _round: int) -> None:
    """The same work in every round."""
    solve(sets)


@pytest.mark.bench
def test_patients() -> None:
    """1 to 100 000 patients: all states of P1; of P2 the activity of 8 organs and its integrals, as a trial would."""
    rows, data = [], []
    for name, most in (("P1", 100_000), ("P2", MOST_OF_P2)):
        mine = prepare(problem(name), report=None if name == "P2" else ())
        sets = problem(name).sets(most, mine.names)
        for count in (n for n in PATIENTS if n <= most):
            work = partial(follow, mine, sets[:count], name == "P1")
            work()
            us = Spread.of([cpu(work, 0.05) / count * 1e6 for _ in range(3 if count <= 1000 else 1)])
            rows.append([name, f"{count}", us.text()])
            data.append({"problem": name, "patients": count, "us": us})
    show("Cost against patients, one thread", ["problem", "patients", "CPU us a patient"], rows, where())
    keep("patients", data)


def follow(mine: Prepared, sets: Array, states: bool) -> None:
    """Solve, and see that all went well."""
    p = mine.problem
    run = mine.engine.run(sets, mine.records, p.times, RTOL, p.atol, states=states)
    assert not run.failed.size


@pytest.mark.bench
def test_threads() -> None:
    """One thread and two, 1000 patients.

    By the clock, which other work on the machine slows; and in processor time, which tells what two threads cost one
    another: two threads on two free cores are twice the inverse of it faster.
    """
    rows, data = [], []
    for name in ("P2s", "P2", "P3"):
        mine = prepare(problem(name))
        sets = problem(name).sets(1000, mine.names)
        one, two = (partial(mine.solver(RTOL, problem(name).atol, threads=k), sets) for k in (1, 2))
        assert np.array_equal(one(), two())
        clock = [(wall(one), wall(two)) for _ in range(ROUNDS)]
        faster, used = Spread.of([a / b for a, b in clock]), Spread.of([cpu(two) / cpu(one) for _ in range(ROUNDS)])
        best = [min(times) for times in zip(*clock, strict=True)]
        met = "met" if faster.median >= 1.7 else "missed"
        rows.append([name, *(f"{t:.3f}" for t in best), faster.text(), used.text(), f"1.7x {met}"])
        data.append({"problem": name, "wall": clock, "ratio": faster, "cpu": used})
    columns = ["problem", "one, best [s]", "two, best [s]", "faster by the clock", "CPU of two over one", "target"]
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
            cases["from disk"] = [_child(way, new) for _ in range(3)]
            cases["new model"] = [_child(way, {**new, "PKMODEL_CACHE": f"{cache}/{k}"}) for k in range(3)]
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
