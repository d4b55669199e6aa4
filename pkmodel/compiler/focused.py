"""An engine for what was asked: the reduced system, behind the parameters and records of the whole one.

What no requested result depends on is left out before a program is written (`reduce`): a study that reports the kidneys
carries no integral over the liver. Callers go on speaking of the whole system; this file translates.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..solve.records import Kind, Records
from .autonomous import autonomous
from .codegen import CODE_VERSION
from .compiled import ByDigest, Compiled
from .engine import Engine, Run
from .machine import default_lanes
from .reduce import reduced
from .system import build_system

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Focused:
    """A smaller engine, and where its states and parameters lie in the whole system.

    Parameters
    ----------
    engine : of the reduced system
    states, parameters : new numbers of the whole system's states and parameters, -1 where one was left out
    primary : numbers of the primary parameters that were kept
    """

    engine: Engine
    states: Integers
    parameters: Integers
    primary: Integers

    def run(self, p: Floats, records: Records, times: Floats, rtol: float, atol: float, *, threads: int = 1) -> Run:
        """Solve N patients of the whole system.

        Parameters
        ----------
        p : (N, primary) array, all primary parameters; one that is left out may be anything
        records : of each patient, or one row for all
        times : (m,) array, not decreasing [h]
        rtol, atol : tolerances
        threads : how many
        """
        lanes = default_lanes()  # however few: the last chunk of a population rounds as the others do
        kept = np.ascontiguousarray(p[:, self.primary])
        return self.engine.run(kept, self.translated(records), times, rtol, atol, lanes=lanes, threads=threads)

    def translated(self, records: Records) -> Records:
        """Records of the reduced system: what changes nothing that is left never happens."""
        of_state = records.kind <= Kind.SET_STATE
        last = np.where(of_state, len(self.states), len(self.parameters)) - 1
        at = np.minimum(records.index, last)  # filling has any index
        new = np.where(of_state, self.states[np.where(of_state, at, 0)], self.parameters[np.where(of_state, 0, at)])
        time = np.where(new >= 0, records.time, np.inf)
        order = np.argsort(time, axis=1, kind="stable")
        used = int(np.isfinite(time).sum(axis=1).max(initial=0))
        rows = (time, records.kind, np.maximum(new, 0), records.value)
        return Records(*(np.take_along_axis(a, order, axis=1)[:, :used] for a in rows))


def focused(
    compiled: Compiled, infused: tuple[str, ...], report: tuple[str, ...], given: tuple[str, ...] | None
) -> Focused:
    """The engine for some results of a model.

    Parameters
    ----------
    compiled : the model
    infused : routes by which something is infused [text]
    report : what is to be reported, as in `autonomous` [text]
    given : routes by which anything is given; None: any state may be set, so that none is known to stay zero [text]
    """
    return _focused(compiled.source, infused, report, given)


@lru_cache(maxsize=256)
def _focused(
    model: ByDigest, infused: tuple[str, ...], report: tuple[str, ...], given: tuple[str, ...] | None
) -> Focused:
    system = build_system(model.model)
    whole = autonomous(system, infused=infused, report=report, switched=not model.model.events)
    entered = None
    if given is not None:
        inputs = {whole.state(name) for name in system.inputs}
        routes = [system.entries[system.routes.index(r)] for r in given]
        doses = {i for parts in routes for i, fraction in enumerate(parts[: system.compartments]) if fraction != 0}
        entered = sorted(inputs | doses)
    small = reduced(whole, entered)
    states, parameters = (np.full(len(a), -1) for a in (whole.states, whole.parameters))
    states[list(small.states)] = np.arange(len(small.states))
    parameters[list(small.parameters)] = np.arange(len(small.parameters))
    words = json.dumps(["focused", CODE_VERSION, model.model.digest, infused, report, entered])
    engine = Engine(small.system, hashlib.sha256(words.encode()).hexdigest())
    primary = np.array([i for i in small.parameters if i < whole.primary], dtype=np.int64)
    return Focused(engine, states, parameters, primary)
