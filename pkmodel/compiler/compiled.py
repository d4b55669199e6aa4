"""`compile_model`: a model and its kernels, ready for a solver."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from ..model import Model
from .autonomous import Autonomous, autonomous
from .cache import cached_module
from .codegen import CODE_VERSION, generate, generate_slopes
from .engine import Engine
from .system import build_system

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Compiled:
    """Kernels of one model; values are arrays in canonical units, in the order of these names."""

    digest: str
    states: tuple[str, ...]
    parameters: tuple[str, ...]
    inputs: tuple[str, ...]
    observables: tuple[str, ...]
    routes: tuple[str, ...]
    switches: tuple[str, ...]  # parameters of the autonomous system that conditions on time have become
    linear: bool
    module: ModuleType
    source: ByDigest

    @cached_property
    def slopes(self) -> ModuleType:
        """Derivatives of what `module` computes; made when first asked for."""
        name = hashlib.sha256(f"slopes of {self.digest}".encode()).hexdigest()
        return cached_module(name, lambda: generate_slopes(build_system(self.source.model), f"slopes {self.digest}"))

    @property
    def compartments(self) -> int:
        """Number of states before the integrals."""
        return len(self.states) - len(self.observables)

    def engine(
        self, infused: tuple[str, ...] = (), report: tuple[str, ...] | None = None, states: bool = False
    ) -> Engine:
        """Solver of the model as an autonomous system, for any model; made once, when first asked for.

        Parameters
        ----------
        infused : routes by which something is infused [text]
        report : what its runs report; default observables, then their integrals [text]
        states : whether `report` names states
        """
        return _engine(self.source, infused, report, states)

    def initial(self, p: Array) -> Array:
        """Initial state, (n,)."""
        out = np.zeros(len(self.states))
        self.module.initial(p, out)
        return out

    def initial_dp(self, p: Array) -> Array:
        """Derivative of the initial state, (n, parameters)."""
        out = np.zeros((len(self.states), len(self.parameters)))
        self.slopes.initial_dp(p, out)
        return out

    def initial_of(self, p: Array) -> Array:
        """Initial states, (n, N), at parameters (k, N)."""
        out = np.zeros((len(self.states), p.shape[1]))
        self.module.initial(p, out)
        return out

    def moments_of(self, p: Array) -> Array:
        """Moments of the conditions on time, (switches, N) [h], at parameters (k, N); see `switches`."""
        out = np.zeros((len(self.switches), p.shape[1]))
        with np.errstate(all="ignore"):
            self.module.moments(p, out)
        return out

    def moments_dp(self, p: Array) -> Array:
        """Derivative of the moments of one patient, (switches, parameters) [h]."""
        out = np.zeros((len(self.switches), len(self.parameters)))
        with np.errstate(all="ignore"):
            self.slopes.moments_dp(p, out)
        return out

    def entries_of(self, p: Array) -> Array:
        """Fractions of a dose that each state receives, (routes, n, N), at parameters (k, N)."""
        out = np.zeros((len(self.routes), len(self.states), p.shape[1]))
        self.module.entries(p, out)
        return out

    def entries(self, p: Array) -> Array:
        """Fraction of a dose that each state receives, (routes, n)."""
        out = np.zeros((len(self.routes), len(self.states)))
        self.module.entries(p, out)
        return out

    def entries_dp(self, p: Array) -> Array:
        """Derivative of `entries`, (routes, n, parameters)."""
        out = np.zeros((len(self.routes), len(self.states), len(self.parameters)))
        self.slopes.entries_dp(p, out)
        return out

    def matrices(self, p: Array) -> tuple[Array, Array, Array]:
        """A, B, c of a linear model dx/dt = A x + B u + c."""
        n, q = len(self.states), len(self.inputs)
        a, b, c = np.zeros((n, n)), np.zeros((n, q)), np.zeros(n)
        self.module.matrices(p, a, b, c)
        return a, b, c

    def dmatrices(self, p: Array) -> tuple[Array, Array, Array]:
        """Derivatives of A, B, c, each with the parameter first."""
        n, q, k = len(self.states), len(self.inputs), len(self.parameters)
        da, db, dc = np.zeros((k, n, n)), np.zeros((k, n, q)), np.zeros((k, n))
        self.slopes.dmatrices(p, da, db, dc)
        return da, db, dc

    def observe(self, t: Array, y: Array, u: Array, p: Array) -> Array:
        """Observables, (observables, times), from states (n, times) and inputs (q, times)."""
        out = np.zeros((len(self.observables), t.size))
        self.module.observe(t, y, u, p, out)
        return out

    def observe_tangent(self, t: Array, y: Array, u: Array, p: Array, dy: Array, du: Array, dp: Array) -> Array:
        """Derivative of the observables along directions.

        Parameters
        ----------
        t : (m,) array [h]
        y : (n, m) array, states
        u : (q, m) array, inputs
        p : (k,) array, parameters
        dy : (directions, n, m) array
        du : (directions, q, m) array
        dp : (directions, k) array

        Returns
        -------
        (directions, observables, m) array
        """
        k, m = len(self.observables), t.size
        by_y, by_u = np.zeros((k, len(self.states), m)), np.zeros((k, len(self.inputs), m))
        by_p = np.zeros((k, len(self.parameters), m))
        self.slopes.observe_dy(t, y, u, p, by_y)
        self.slopes.observe_du(t, y, u, p, by_u)
        self.slopes.observe_dp(t, y, u, p, by_p)
        result: Array = np.einsum("onm,dnm->dom", by_y, dy)
        result += np.einsum("oqm,dqm->dom", by_u, du)
        result += np.einsum("okm,dk->dom", by_p, dp)
        return result


@lru_cache(maxsize=256)
def _compile(digest: str, model: ByDigest) -> Compiled:
    header = f"equations {digest}, first met in the model {model.model.name!r}"
    module = cached_module(digest, lambda: generate(build_system(model.model), header))
    meta = module.META
    return Compiled(
        digest=digest,
        states=tuple(meta["states"]),
        parameters=tuple(meta["parameters"]),
        inputs=tuple(meta["inputs"]),
        observables=tuple(meta["observables"]),
        routes=tuple(meta["routes"]),
        switches=tuple(meta["switches"]),
        linear=bool(meta["linear"]),
        module=module,
        source=model,
    )


@lru_cache(maxsize=256)
def _engine(model: ByDigest, infused: tuple[str, ...], report: tuple[str, ...] | None, states: bool) -> Engine:
    system: Autonomous = autonomous(
        build_system(model.model), infused=infused, report=report, states=states, switched=not model.model.events
    )
    words = json.dumps([CODE_VERSION, model.model.digest, infused, report, states])
    return Engine(system, hashlib.sha256(words.encode()).hexdigest())


class ByDigest:
    """A model that compares equal by its equations, so that changed values find the same kernels."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __hash__(self) -> int:
        return hash(self.model.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByDigest) and other.model.digest == self.model.digest


def compile_model(model: Model) -> Compiled:
    """Compile a model, or find what was compiled before (memory, then disk).

    The digest covers equations and units, not values: a patient with other numbers costs nothing.
    """
    digest = hashlib.sha256(f"{CODE_VERSION}:{model.digest}".encode()).hexdigest()
    return _compile(digest, ByDigest(model))
