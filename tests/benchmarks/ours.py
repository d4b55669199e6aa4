"""Our engine on a benchmark problem, asked for what the peers are asked for: all states at all output times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import pkmodel as pk
from benchmarks.problems import RATE, Problem
from pkmodel import simulation
from pkmodel.compiler.autonomous import Autonomous, autonomous
from pkmodel.compiler.engine import Engine
from pkmodel.compiler.system import build_system
from pkmodel.solve.records import Kind, Records

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An engine with the doses of its problem."""

    problem: Problem
    engine: Engine
    records: Records

    @property
    def names(self) -> tuple[str, ...]:
        """Primary parameters, the columns of a parameter set."""
        system = self.engine.system
        return tuple(s.name for s in system.parameters[: system.primary])

    def solver(
        self, rtol: float, atol: float, *, lanes: int | None = None, threads: int = 1
    ) -> Callable[[Array], Array]:
        """A function from parameter sets (N, k) to states (N, m, n), in the words of the peers."""

        def solve(sets: Array) -> Array:
            run = self.engine.run(
                sets, self.records, self.problem.times, rtol, atol, states=True, lanes=lanes, threads=threads
            )
            if run.failed.size:
                raise RuntimeError(run.message(int(run.failed[0])))
            assert run.states is not None
            return run.states

        return solve


def prepare(problem: Problem, *, keep: bool = False, report: tuple[str, ...] | None = ()) -> Prepared:
    """Compile a problem; `keep` its machine code on disk; `report` names observables, None all of them."""
    model = problem.read()
    infused = ("injection",) if problem.infusions else ()
    system = autonomous(build_system(model), infused=infused, report=report)
    digest = f"{model.digest} {infused} {report}" if keep else ""
    return Prepared(problem, Engine(system, digest), _records(problem, system))


def exact(problem: Problem) -> tuple[tuple[str, ...], Callable[[Array], Array]]:
    """Exact propagation of P1, one patient after the other: what a fit of a linear model calls; and its columns."""
    model = problem.read()
    per_nmol = model.parameters["mbq_per_nmol"].canonical
    (begin, rate), (end, _) = problem.infusions
    given = [pk.Administration(t, activity=amount * per_nmol) for t, _, amount in problem.doses]
    given.append(pk.Administration(begin, activity=rate * (end - begin) * per_nmol, duration=end - begin))
    bound = simulation.prepare(model, pk.Regimen.of(*given), problem.times)

    def solve(sets: Array) -> Array:
        return np.stack([bound.solve(p).states.T for p in sets])

    return bound.compiled.parameters, solve


def _records(problem: Problem, system: Autonomous) -> Records:
    rows = [(t, Kind.ADD_STATE, system.state(c), amount) for t, c, amount in problem.doses]
    rows += [(t, Kind.SET_PARAM, system.parameter(RATE), rate) for t, rate in problem.infusions]
    time, kind, index, value = zip(*sorted(rows), strict=True)
    return Records(
        np.array([time]), np.array([kind], np.int8), np.array([index], np.int64), np.array([value], dtype=float)
    )
