"""Ours against the peers on four problems: same equations, sets, outputs and tolerances, interleaved in one process.

Printed and kept, never asserted: how fast a shared machine is says nothing about whether the code is right.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.measure import ROUNDS, Spread, interleave, keep, show, where
from benchmarks.ours import exact, prepare
from benchmarks.peers import PEERS, Solver, quiet
from benchmarks.problems import RTOL, Equations, equations, problem
from benchmarks.references import SETS, error, reference

Array = NDArray[np.float64]
COUNT = int(os.environ.get("BENCH_SETS", "200"))  # parameter sets a round; 5 rounds see all 1000
QUICK = {"P1": 5}  # times as many, so that five rounds take all 1000 sets each
EXACT, FINER = "pkmodel, exact propagation", "pkmodel, as exact as the best peer"
TARGETS: dict[str, dict[str, int]] = {
    EXACT: {},
    FINER: {},
    "CasADi CVODES": {"P2": 25, "P3": 30},
    "CasADi CVODES, as C": {"P2": 25, "P3": 30},
    "numbalsoda": {"P1": 10, "P2": 45, "P3": 50},
    "libroadrunner": {"P2": 45, "P3": 40},
    "SciPy LSODA (solve_ivp)": {"P2": 75, "P3": 70},
    "SciPy LSODA (odeint)": {"P2": 75, "P3": 70},
}  # how many times faster than each peer the engine is meant to be


def available(e: Equations, names: tuple[str, ...] = tuple(PEERS)) -> tuple[dict[str, Solver], dict[str, str]]:
    """Peers that are installed, warmed up, and why the others are not."""
    present: dict[str, Solver] = {}
    absent: dict[str, str] = {}
    first = problem_sets(e.name, e.names, 1)
    for name in names:
        try:
            with quiet():
                present[name] = PEERS[name](e, RTOL, e.atol)
                present[name](first)
        except ImportError as why:
            absent[name] = str(why)
    return present, absent


def problem_sets(name: str, names: tuple[str, ...], count: int) -> Array:
    """The first parameter sets of a problem."""
    return problem(name).sets(max(count, 1), names)


@pytest.mark.bench
@pytest.mark.parametrize("name", ["P1", "P2s", "P2", "P3"])
def test_peers(name: str) -> None:
    p = problem(name)
    e = equations(p)
    mine = prepare(p)
    ours = mine.solver(RTOL, p.atol)
    peers, absent = available(e)
    kept, largest = reference(name)
    count = min(COUNT * QUICK.get(name, 1), COUNT * ROUNDS)
    our_sets, their_sets = p.sets(COUNT * ROUNDS, mine.names), p.sets(COUNT * ROUNDS, e.names)
    errors = {"pkmodel": error(ours(our_sets[:SETS]), kept, largest)}

    def share(sets: Array, k: int) -> Array:
        begin = count * k % len(sets)
        return sets[begin : begin + count]

    def work(peer: Solver) -> Callable[[int], object]:
        def run(k: int) -> None:
            with quiet():
                peer(share(their_sets, k))

        return run

    ours(share(our_sets, 0))
    with quiet():
        errors |= {n: error(peer(their_sets[:SETS]), kept, largest) for n, peer in peers.items()}
    ours_too = [e.names.index(n) for n in mine.names]
    rtol = RTOL
    while errors.get(FINER, errors["pkmodel"]) > min(errors.values()) and rtol > 0.1 * RTOL:
        rtol *= 0.8
        finer = mine.solver(rtol, p.atol * rtol / RTOL)
        errors[FINER] = error(finer(our_sets[:SETS]), kept, largest)
        peers[FINER] = lambda sets, finer=finer: finer(sets[:, ours_too])  # type: ignore[misc]
    if name == "P1":
        columns, ours_exactly = exact(p)
        same = [e.names.index(c) for c in columns]
        peers[EXACT] = lambda sets: ours_exactly(sets[:, same])
        errors[EXACT] = error(ours_exactly(their_sets[:SETS][:, same]), kept, largest)
    times, found = interleave(lambda k: ours(share(our_sets, k)), {n: work(peer) for n, peer in peers.items()})

    finer_costs = found[FINER][1] if FINER in found else [1.0] * ROUNDS
    per_set = Spread.of([t / count * 1e6 for t in times])
    rows = [["pkmodel", per_set.text(), "1", f"{errors['pkmodel']:.1e}", ""]]
    data: dict[str, Any] = {"pkmodel": {"us": per_set, "error": errors["pkmodel"]}}
    for peer, (theirs, ratios) in found.items():
        us, ratio = Spread.of([t / count * 1e6 for t in theirs]), Spread.of(ratios)
        rows.append(
            [peer, us.text(), ratio.text(), f"{errors[peer]:.1e}", verdict(name, peer, ratios, errors, finer_costs)]
        )
        data[peer] = {"us": us, "ratio": ratio, "error": errors[peer], "target": TARGETS[peer].get(name)}
    rows += [[peer, "absent", "", "", why] for peer, why in absent.items()]
    show(
        f"{name}: {len(e.states)} states, rtol {RTOL:g}, atol {p.atol:g}, all states at {p.times.size} times",
        ["solver", "CPU us a patient", "times slower than pkmodel", "error", "target"],
        rows,
        f"{ROUNDS} rounds of {count} parameter sets each; median (smallest to largest); error over {SETS} sets against "
        f"an independent reference\n{where()}",
    )
    keep(name, {"rounds": ROUNDS, "sets": count, "states": len(e.states), "solvers": data})


def verdict(name: str, peer: str, ratios: list[float], errors: dict[str, float], finer: list[float]) -> str:
    """Whether a target is met, with its number; where the peer is more exact, by ours at its error (`finer` costs)."""
    target = TARGETS[peer].get(name)
    if target is None:
        return ""
    if errors["pkmodel"] <= errors[peer]:
        return f"{target}x {'met' if median(ratios) >= target else 'missed'}"
    level = median([a / b for a, b in zip(ratios, finer, strict=True)])
    return f"{target}x {'met' if level >= target else 'missed'}: {level:.3g} at its error"


@pytest.mark.bench
@pytest.mark.parametrize("name", ["P2", "P3"])
def test_one_patient_alone(name: str) -> None:
    """One patient a call, so that nothing is shared among lanes."""
    p = problem(name)
    e = equations(p)
    mine = prepare(p)
    ours = mine.solver(RTOL, p.atol)
    peers, absent = available(e, ("CasADi CVODES", "numbalsoda"))
    our_sets, their_sets = p.sets(20, mine.names), p.sets(20, e.names)

    def each(solve: Solver, sets: Array) -> Callable[[int], object]:
        def run(k: int) -> None:
            for i in range(len(sets)):
                solve(sets[i : i + 1])

        return run

    each(ours, our_sets)(0)
    times, found = interleave(each(ours, our_sets), {n: each(peer, their_sets) for n, peer in peers.items()})
    rows = [["pkmodel", Spread.of([t / 20 * 1e3 for t in times]).text(), "1"]]
    data = {"pkmodel": {"ms": Spread.of([t / 20 * 1e3 for t in times])}}
    for peer, (theirs, ratios) in found.items():
        rows.append([peer, Spread.of([t / 20 * 1e3 for t in theirs]).text(), Spread.of(ratios).text()])
        data[peer] = {"ms": Spread.of([t / 20 * 1e3 for t in theirs]), "ratio": Spread.of(ratios)}
    rows += [[peer, "absent", why] for peer, why in absent.items()]
    note = "target on P2: 20x numbalsoda" if name == "P2" else ""
    show(f"{name}, one patient a call", ["solver", "CPU ms a patient", "times slower than pkmodel"], rows, note)
    keep(f"{name} alone", data)
