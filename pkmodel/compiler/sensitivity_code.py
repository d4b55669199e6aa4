"""Machine code of a system's derivatives: kernels in the order in which the drivers want them.

Vectors hold eight steps, eight stages, a few directions or several patients, each where it serves; so one library has
kernels for different numbers of lanes. `plain` code has one lane for everything and no fused step: it is what
the scalar back end runs, and what solves with pivoting where the fixed order of pivots fails.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..solve import adjoint as backward_driver
from ..solve import rosenbrock
from ..solve import tangents as forward_driver
from .assembly import Module
from .engine import Engine
from .llvm import emit
from .llvm_sensitivity import emit_adjoint_step, emit_stages, emit_tangent_step
from .llvm_step import Tableau, emit_dense, emit_interpolate
from .machine import Kernels, Source, backend, default_lanes, library
from .second_order import SecondOrder
from .sensitivity_programs import SPREAD, SensitivityPrograms, sensitivity_programs

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]

STAGES = rosenbrock.STAGES
TABLEAU = Tableau(rosenbrock.A, rosenbrock.C, rosenbrock.H, rosenbrock.GAMMA)
_PUSHES = ("push_levers", "push_initial", "push_report", "push")
_PULLS = ("pull_levers", "pull_initial", "pull_report")


@dataclass(frozen=True, slots=True, eq=False)
class Code:
    """Kernels and sizes that a driver needs.

    Parameters
    ----------
    kernels : machine addresses in the driver's order
    lanes : steps (forward) or patients (backward) in a vector
    width : directions in a vector; one for backward code
    nq, nw, entries, levers : lengths of q, of the work array of a step, of M, and number of levers
    head : (any,) numbers that the work array starts with
    places, steering : products that make up F pdot, and (lever, parameter) of the levers' derivatives
    owners : keep the machine code alive
    """

    kernels: Integers
    lanes: int
    width: int
    nq: int
    nw: int
    entries: int
    levers: int
    head: Floats
    places: Integers
    steering: Integers
    owners: tuple[Kernels, ...]


class SensitivityCode:
    """Makes the code when it is first needed.

    Parameters
    ----------
    engine : of the system
    free : positions in the system's parameters that derivatives may be asked for
    transform : changes the matrices before programs are written; nothing is then kept on disk
    """

    def __init__(
        self, engine: Engine, free: Iterable[int], transform: Callable[[SecondOrder], SecondOrder] | None = None
    ) -> None:
        self.engine = engine
        self.free = tuple(free)
        self._transform = transform
        self._lock = threading.RLock()
        self._programs: dict[int, SensitivityPrograms] = {}
        self._codes: dict[tuple[str, int], Code] = {}

    def programs(self, stride: int) -> SensitivityPrograms:
        """The tapes.

        Parameters
        ----------
        stride : distance in M between the entries of one stage
        """
        with self._lock:
            if stride not in self._programs:
                made = sensitivity_programs(
                    self.engine.programs, self.free, stride=stride, transform=self._transform or (lambda second: second)
                )
                self._programs[stride] = made
            return self._programs[stride]

    def forward(self, width: int, *, pivoting: bool = False) -> Code:
        """Code for `tangents.push`.

        Parameters
        ----------
        width : directions in a vector
        pivoting : whether each step is solved with pivoting
        """
        if pivoting or backend() == "scalar":
            return self._kept("pivoting" if pivoting else "plain", 1, lambda: self._plain_forward(pivoting))
        return self._kept("forward", width, lambda: self._vector_forward(width))

    def backward(self, lanes: int) -> Code:
        """Code for `adjoint.pull`.

        Parameters
        ----------
        lanes : patients in a vector
        """
        lanes = 1 if backend() == "scalar" else lanes
        return self._kept("backward", lanes, lambda: self._backward(lanes))

    def _kept(self, kind: str, lanes: int, make: Callable[[], Code]) -> Code:
        with self._lock:
            if (kind, lanes) not in self._codes:
                self._codes[kind, lanes] = make()
            return self._codes[kind, lanes]

    def _library(self, kind: str, source: Callable[[], Source], lanes: int) -> Kernels:
        digest = self.engine.digest
        if not digest or self._transform is not None:
            return library("", source, lanes)
        told = f"{digest}/{kind}/{','.join(map(str, self.free))}"
        return library(hashlib.sha256(told.encode()).hexdigest(), source, lanes)

    def _facts(self, own: SensitivityPrograms) -> dict[str, Any]:
        return {
            "nq": own.nq,
            "nw": self.engine.programs.nw,
            "entries": own.entries,
            "levers": own.levers,
            "places": own.places.tolist(),
            "steering": [(e.row, e.column) for e in own.second.steering],
        }

    def _code(
        self, kernels: Iterable[int], lanes: int, width: int, facts: Mapping[str, Any], owners: tuple[Kernels, ...],
        nw: int | None = None, head: Floats | None = None,
    ) -> Code:  # fmt: skip
        return Code(
            np.array(list(kernels), dtype=np.int64), lanes, width, facts["nq"], nw or facts["nw"], facts["entries"],
            facts["levers"], np.zeros(0) if head is None else head,
            np.array(facts["places"], dtype=np.int64).reshape(-1, 3),
            np.array(facts["steering"], dtype=np.int64).reshape(-1, 2), owners,
        )  # fmt: skip

    def _vector_forward(self, width: int) -> Code:
        def source() -> Source:
            own, base = self.programs(STAGES), self.engine.programs
            tapes = {name: own.tapes[name] for name in _PUSHES} | {"solve": base.tapes["solve"]}

            def extra(module: Module, lanes: int) -> tuple[str, ...]:
                emit_tangent_step(module, base.n, TABLEAU, lanes, stride=STAGES)
                emit_dense(module, base.n, TABLEAU, lanes)
                emit_interpolate(module, base.n, lanes)
                emit(module, own.tapes["prepare"], STAGES, broadcast=SPREAD["prepare"])
                emit_stages(module, base.n, TABLEAU, STAGES)
                for tape in (own.tapes["constants"], *(base.tapes[name] for name in ("initial", "rhs", "report"))):
                    emit(module, tape, 1)
                singles = ("constants", "initial", "rhs", "report")
                return ("tangent", "dense", "interpolate", "prepare", "stages", *singles)

            return Source(tapes=tapes, broadcast=SPREAD, extra=(extra,), facts=self._facts(own))

        code, steps = self._library("forward", source, width), self.engine.library(default_lanes())
        others = {"dense_tangent": "dense", "interpolate_tangent": "interpolate"}
        kernels = [
            steps.address(name) if name in ("step", "dense", "interpolate") else code.address(others.get(name, name))
            for name in forward_driver.KERNELS
        ]
        return self._code(kernels, steps.lanes, width, code.facts, (code, steps))

    def _plain(self, stride: int) -> Kernels:
        """Every program for one lane."""

        def source() -> Source:
            own, base = self.programs(stride), self.engine.programs
            shared = ("initial", "rhs", "report", "solve", "solve_transposed")  # the last two where there is an order
            tapes = {**own.tapes, **{name: base.tapes[name] for name in shared if name in base.tapes}}
            return Source(tapes=tapes, facts=self._facts(own))

        return self._library("plain", source, 1)

    def _plain_forward(self, pivoting: bool) -> Code:
        code, steps = self._plain(1), self.engine.library(1)
        others = {
            "dense": steps, "interpolate": steps, "step": steps, "dense_tangent": steps, "interpolate_tangent": steps,
        }  # fmt: skip
        kernels = [
            0
            if name in ("tangent", "stages", *("solve",) * pivoting)
            else others.get(name, code).address(name.removesuffix("_tangent"))
            for name in forward_driver.KERNELS
        ]
        if not pivoting:
            return self._code(kernels, 1, 1, code.facts, (code, steps))
        pivots = self.engine.pivoting()
        kernels[forward_driver.STEP] = rosenbrock.step_kernel.address
        kernels[forward_driver.SOLVE] = int(pivots.head[5])
        return self._code(kernels, 1, 1, code.facts, (code, steps), pivots.nw, pivots.head)

    def _backward(self, lanes: int) -> Code:
        plain = backend() == "scalar"

        def source() -> Source:
            own, base = self.programs(STAGES), self.engine.programs
            tapes = {name: own.tapes[name] for name in ("constants", "pull", "pull_report")}
            tapes["solve_transposed"] = base.tapes["solve_transposed"]
            single = {name: own.tapes[name] for name in ("constants", *_PULLS)}
            single |= {name: base.tapes[name] for name in ("initial", "rhs")}

            def extra(module: Module, lanes: int) -> tuple[str, ...]:
                for outputs in (False, True):
                    emit_adjoint_step(module, base.n, TABLEAU, lanes, outputs=outputs)
                for name, tape in single.items():
                    emit(module, tape, 1, name=f"{name}_one")
                return ("adjoint", "adjoint_output", *(f"{name}_one" for name in single))

            return Source(tapes=tapes, extra=(extra,), facts=self._facts(own))

        code = self._plain(1) if plain else self._library("backward", source, lanes)
        steps = self.engine.library(lanes)
        kernels = []
        for name in backward_driver.KERNELS:
            if name in ("step", "dense", "interpolate"):
                kernels.append(steps.address(name))
            elif plain:
                kernels.append(0 if name in ("adjoint", "adjoint_output") else code.address(name.removesuffix("_one")))
            else:
                kernels.append(code.address(name))
        return self._code(kernels, lanes, 1, code.facts, (code, steps))
