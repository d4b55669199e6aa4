"""Our engine on a benchmark problem, asked for what the peers are asked for: all states at all output times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.problems import RATE, Problem
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


def _records(problem: Problem, system: Autonomous) -> Records:
    rows = [(t, Kind.ADD_STATE, system.state(c), amount) for t, c, amount in problem.doses]
    rows += [(t, Kind.SET_PARAM, system.parameter(RATE), rate) for t, rate in problem.infusions]
    time, kind, index, value = zip(*sorted(rows), strict=True)
    return Records(
        np.array([time]), np.array([kind], np.int8), np.array([index], np.int64), np.array([value], dtype=float)
    )
