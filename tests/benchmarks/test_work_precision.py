"""What an error costs: tolerance from 1e-3 to 1e-9, error against the independent reference, processor time."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from benchmarks.measure import Spread, interleave, keep, show, where
from benchmarks.ours import prepare
from benchmarks.peers import PEERS, Solver, quiet
from benchmarks.problems import RTOL, equations, problem
from benchmarks.references import SETS, error, reference
from benchmarks.test_peers import Array

TOLERANCES = tuple(10.0**-k for k in range(3, 10))
COUNT = 8  # parameter sets of a peer; ours takes eight times as many, to be as long
SHOWN = ("CasADi CVODES", "numbalsoda", "libroadrunner")


def quietly(solve: Solver, sets: Array, _round: int) -> None:
    """The same work in every round, without a peer's messages."""
    with quiet():
        solve(sets)


@pytest.mark.bench
@pytest.mark.parametrize("name", ["P2", "P3"])
def test_work_precision(name: str) -> None:
    p = problem(name)
    e = equations(p)
    mine = prepare(p)
    kept, largest = reference(name)
    our_sets, their_sets = p.sets(8 * COUNT, mine.names), p.sets(COUNT, e.names)
    rows, data = [], []
    for rtol in TOLERANCES:
        atol = p.atol * rtol / RTOL
        ours = mine.solver(rtol, atol)
        errors = {"pkmodel": error(ours(our_sets[:SETS]), kept, largest)}
        peers: dict[str, Any] = {}
        for peer in SHOWN:
            try:
                with quiet():
                    solve = PEERS[peer](e, rtol, atol)
                    errors[peer] = error(solve(their_sets[:SETS]), kept, largest)
            except (ImportError, RuntimeError):  # absent, or the tolerance is beyond it
                continue
            peers[peer] = partial(quietly, solve, their_sets)
        times, found = interleave(lambda _, f=ours: f(our_sets), peers, rounds=3)  # type: ignore[misc]
        us = {"pkmodel": Spread.of([t / len(our_sets) * 1e6 for t in times])}
        us |= {peer: Spread.of([t / COUNT * 1e6 for t in theirs]) for peer, (theirs, _) in found.items()}
        data.append({"rtol": rtol, "solvers": {n: {"us": us[n], "error": errors[n]} for n in us}})
        rows.append([f"{rtol:.0e}", *(f"{us[n].median:.4g} us, {errors[n]:.1e}" if n in us else "" for n in
                                      ("pkmodel", *SHOWN))])  # fmt: skip
    show(f"{name}: CPU time and error by tolerance", ["rtol", "pkmodel", *SHOWN], rows, where())
    keep(f"{name} work-precision", data)
