"""The module that joins a linear model of few states to `solve.modal`: its matrices as compiled code.

Channels of a model are, in this order: its inputs, its dose routes, what it makes itself (a step of one at time zero),
its initial state (an impulse of one at time zero). The system is dx/dt = A x + G u over the channels u; the rows below
those of the compartments are the observables.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from types import ModuleType

from ..sharing import symbols_of
from .cache import cached_module, code_digest
from .codegen import Entry, _kernel, _laws, _matrices, _places
from .compiled import Compiled
from .derivative import derivative
from .system import System, build_system

FEW = 6  # compartments, above which exact propagation is as fast

_FILL = """
N, STATES, CHANNELS, PARAMETERS = {rows}, {states}, {channels}, {parameters}
CONSTANT, INITIAL = {constant}, {initial}


@njit("void(f8[:,::1], f8[:,:,::1], i8[::1], f8[:,:,::1], f8[:,:,::1], f8[:,:,:,::1], f8[:,:,:,::1], f8[:,::1], "
      "f8[:,:,::1])")
def fill(P, along, delay, A, G, dA, dG, wait, later):
    by_a, by_g = np.zeros((PARAMETERS, N, STATES)), np.zeros((PARAMETERS, N, CHANNELS))
    nd = along.shape[1]
    A[:], G[:], dA[:], dG[:] = 0.0, 0.0, 0.0, 0.0
    for s in range(P.shape[0]):
        values(P[s], A[s], G[s])
        if nd:
            slopes(P[s], by_a, by_g)
        for d in range(nd):
            for q in range(PARAMETERS):
                weight = along[s, d, q]
                if weight != 0.0:
                    for i in range(N):
                        for j in range(STATES):
                            dA[s, d, i, j] += weight * by_a[q, i, j]
                        for j in range(CHANNELS):
                            dG[s, d, i, j] += weight * by_g[q, i, j]
        for c in range(CHANNELS):
            wait[s, c] = P[s, delay[c]] if delay[c] >= 0 else 0.0
            for d in range(nd):
                later[s, d, c] = along[s, d, delay[c]] if delay[c] >= 0 else 0.0
"""
_HEAD = """# joins parts of pkmodel.solve

import numpy as np

from pkmodel.solve.jit import njit
"""
_ROWS = """from pkmodel.solve.modal import follow
from pkmodel.solve.modal_eigen import modes


@njit("void(f8[:,:,::1], f8[:,:,::1], f8[:,:,:,::1], f8[:,:,:,::1], f8[:,::1], f8[:,:,::1], i8[::1], i8[:,::1], "
      "f8[::1], f8[::1], f8[::1], f8[::1], i8[::1], f8[::1], i8[::1], i8[::1], i8[::1], i8[::1], f8[::1], i8[::1], "
      "f8[::1], f8[:,::1], i8[::1])")
def rows(A, G, dA, dG, wait, later, which, bounds, at, jump, u, m, clock, times, row, observable, start, end, scale,
         place, value, tangent, status):
    n, observables, channels, nd = A.shape[2], A.shape[1] - A.shape[2], G.shape[2], dA.shape[1]
    lam, V, W, M = np.empty(n), np.empty((n, n)), np.empty((n, n)), np.empty((n + 1, n))
    h, g = np.empty((observables, n)), np.empty((n, channels))
    a, b = np.empty((nd, observables, channels, n)), np.empty((nd, observables, channels, n))
    longest = 0
    for w in range(clock.size - 1):
        longest = max(longest, clock[w + 1] - clock[w])
    Z = np.empty((4, longest))
    for s in range(A.shape[0]):
        w = which[s]
        status[s] = modes(A[s], n, lam, V, W)
        if status[s] == 0:
            status[s] = follow(
                A[s], G[s], dA[s], dG[s], wait[s], later[s], lam, V, W, bounds[w], at, jump, u, m, clock[w],
                clock[w + 1], times, row[w], row[w + 1], observable, start, end, scale, place[s], h, g, M, a, b, Z,
                value, tangent)
        if status[s] > 1:
            value[place[s] : place[s] + row[w + 1] - row[w]] = np.nan
            tangent[place[s] : place[s] + row[w + 1] - row[w]] = np.nan
"""
_EXACTLY = """from pkmodel.solve.exponential import march
from pkmodel.solve.modal_march import grid, lay, read


@njit("i8(f8[:,::1], f8[:,::1], f8[:,:,::1], f8[:,:,::1], f8[::1], f8[:,::1], i8[::1], f8[::1], f8[::1], f8[::1], "
      "f8[::1], i8, i8, f8[::1], i8, i8, i8[::1], i8[::1], i8[::1], f8[::1], i8, f8[::1], f8[:,::1])")
def _one(A, G, dA, dG, wait, later, bounds, at, jump, u, m, begin, finish, times, first, stop, observable, start,
         end, scale, place, value, tangent):
    stops = grid(wait, bounds, at, begin, finish, times)
    nd, s, N, n, channels = dA.shape[0], stops.size - 1, A.shape[0], A.shape[1], G.shape[1]
    jumps, djumps = np.zeros((s + 1, N)), np.zeros((nd, s + 1, N))
    u0, du, du0 = np.zeros((s, channels)), np.zeros((s, channels)), np.zeros((nd, s, channels))
    lay(A, G, dG, wait, later, bounds, at, jump, u, m, stops, jumps, djumps, u0, du, du0)
    square, moved = np.zeros((N, N)), np.zeros((nd, N, N))
    square[:, :n] = A
    moved[:, :, :n] = dA
    X, S = np.empty((s + 1, N)), np.empty((s + 1, nd, N))
    code = march(
        square, G, np.zeros(N), moved, dG, np.zeros((nd, N)), np.zeros(N), np.zeros((nd, N)), stops, jumps, djumps,
        np.zeros((s, N)), np.zeros((nd, s, N)), u0, du, du0, np.zeros((nd, s, channels)), X, S)
    if code == 0:
        code = read(A, G, dA, dG, stops, u0, du0, X, S, begin, times, first, stop, observable, start, end, scale,
                    place, value, tangent)
    return code


@njit("void(f8[:,:,::1], f8[:,:,::1], f8[:,:,:,::1], f8[:,:,:,::1], f8[:,::1], f8[:,:,::1], i8[::1], i8[:,::1], "
      "f8[::1], f8[::1], f8[::1], f8[::1], i8[::1], f8[::1], i8[::1], i8[::1], i8[::1], i8[::1], f8[::1], i8[::1], "
      "f8[::1], f8[:,::1], i8[::1])")
def exactly(A, G, dA, dG, wait, later, which, bounds, at, jump, u, m, clock, times, row, observable, start, end, scale,
            place, value, tangent, status):
    for s in range(A.shape[0]):
        if status[s] != 1:
            continue
        w = which[s]
        status[s] = _one(
            A[s], G[s], dA[s], dG[s], wait[s], later[s], bounds[w], at, jump, u, m, clock[w], clock[w + 1],
            times, row[w], row[w + 1], observable, start, end, scale, place[s], value, tangent)
        if status[s]:
            value[place[s] : place[s] + row[w + 1] - row[w]] = np.nan
            tangent[place[s] : place[s] + row[w + 1] - row[w]] = np.nan
"""


@lru_cache(maxsize=1)
def modal_rows() -> ModuleType:
    """Compiled `rows`, the same for all models: from matrices to predictions, or status 1 where modes cannot say."""
    return _joined(_ROWS)


@lru_cache(maxsize=1)
def exact_rows() -> ModuleType:
    """Compiled `exactly`, with the arguments of `rows`: exact propagation of the members whose status is 1."""
    return _joined(_EXACTLY)


def _joined(text: str) -> ModuleType:
    name = hashlib.sha256(f"{code_digest()} {text}".encode()).hexdigest()
    return cached_module(name, lambda: _HEAD + text)


def modal_module(compiled: Compiled) -> ModuleType | None:
    """The compiled module of a linear model of few compartments; None for any other.

    Its `fill` computes, for S members (a patient, a region, a start of a search) with parameters P (S, K) and their
    derivatives along (S, k, K) k directions, what `modal_rows().rows` turns into predictions: A (S, N, STATES),
    G (S, N, CHANNELS), dA (S, k, N, STATES), dG (S, k, N, CHANNELS), wait (S, CHANNELS), later (S, k, CHANNELS);
    delay (CHANNELS,) is the number of the parameter that delays a channel, or -1. `rows` goes on with which (S,), the
    course of each member; per course bounds (courses, CHANNELS + 1), clock and row (courses + 1,) into the arrays of
    knots, times and rows (see `solve.modal.follow`); place (S,) first row of each member in value (R,) and
    tangent (R, k); status (S,): 0, or a code of `solve.status`, or 1: `exact_rows().exactly` with the same
    arguments then propagates those members exactly (near-equal or complex eigenvalues).
    """
    if not compiled.linear or not 0 < compiled.compartments <= FEW:
        return None
    return _module(compiled.digest, _Source(compiled))


class _Source:
    """A compiled model, equal to any other so that the cache below looks at its digest alone."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Source)


@lru_cache(maxsize=256)
def _module(digest: str, source: _Source) -> ModuleType | None:
    name = hashlib.sha256(f"matrices of {digest} {code_digest()}".encode()).hexdigest()
    module = cached_module(name, lambda: generate(build_system(source.compiled.source.model), digest))
    return module if hasattr(module, "fill") else None


def generate(system: System, digest: str) -> str:
    """Source text of the module; without `fill` where the matrices are too long to compile."""
    place, y, u, p = _places(system)
    rates, _ = _laws(system, place, y, u)
    n, q, routes = system.compartments, len(system.inputs), len(system.routes)
    a, b, c = _matrices(rates, y[:n], u)
    channels = q + routes + 2
    vectors: list[Entry] = [(f"G{name[1:]}", e) for name, e in b]
    for k, route in enumerate(system.entries):
        vectors += [(f"G[{i}, {q + k}]", e) for i, e in enumerate(place(route)[:n]) if e != 0]
    made = [(f"G[{i}, {channels - 2}]", e) for i, (_, e) in enumerate(c) if e != 0]
    begun = [(f"G[{i}, {channels - 1}]", e) for i, e in enumerate(place(system.initial)[:n]) if e != 0]
    entries = a + vectors + made + begun
    slopes = [
        (f"d{name[0]}[{k}, {name[2:]}", derivative(e, s))
        for name, e in entries
        for k, s in enumerate(p)
        if s in symbols_of(e)
    ]
    slopes = [(name, e) for name, e in slopes if e != 0]
    head = f"# matrices of {digest}\n\nimport math\n\nimport numpy as np\n\nfrom pkmodel.solve.jit import njit\n"
    first = _kernel("values", "p, A, G", '"void(f8[::1], f8[:,::1], f8[:,::1])"', entries)
    second = _kernel("slopes", "p, dA, dG", '"void(f8[::1], f8[:,:,::1], f8[:,:,::1])"', slopes)
    if "@njit" not in first or "@njit" not in second:
        return "# too long to be compiled\n"
    text = _FILL.format(
        rows=n + len(system.observables), states=n, channels=channels, parameters=len(system.parameters),
        constant=bool(made), initial=bool(begun),
    )  # fmt: skip
    return head + first + second + text
