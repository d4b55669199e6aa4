"""Systems to differentiate, and the engine's scheme written a second time: plain NumPy, complex numbers, given steps.

With a complex parameter p + i 1e-30 dp the imaginary part of every number is its derivative, free of cancellation
(Squire & Trapp 1998, doi:10.1137/S003614459631241X). So the same steps, walked once in complex arithmetic, say what the
derivatives of the discrete solution are; none of the code under test takes part, only the programs of the model, run
by the interpreter that defines what a program means.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import ArrayLike, NDArray

from pkmodel.compiler.autonomous import Autonomous
from pkmodel.compiler.programs import Programs
from pkmodel.compiler.tape_reference import evaluate
from pkmodel.solve import rosenbrock
from pkmodel.solve.records import Kind, Records, records
from support import shared

type Floats = NDArray[np.float64]

TINY = 1e-30


@dataclass(frozen=True)
class Problem:
    """A system with parameters, records and output times."""

    system: Autonomous
    p: Floats
    records: Records
    times: Floats
    atol: float

    def until(self, end: float) -> Problem:
        """The beginning of the problem: no output after `end` hours."""
        return Problem(self.system, self.p, self.records, self.times[self.times <= end], self.atol)

    def patients(self, count: int, spread: float = 0.2) -> Floats:
        """(count, primary) parameters scattered about the problem's own."""
        return np.asarray(self.p * np.exp(spread * np.random.default_rng(3).standard_normal((count, len(self.p)))))


@lru_cache
def benchmark_problem(name: str) -> Problem:
    """One of the benchmark problems P1, P2s, P2, P3, which lie beside the repository."""
    path = shared("bench/models.py")
    spec = importlib.util.spec_from_file_location("benchmark_models", path)
    assert spec is not None and spec.loader is not None
    models: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(models)
    m = models.get(name)
    real = {s: sp.Symbol(s.name, real=True) for s in (*m.states, *m.params)}
    states, parameters = (tuple(real[s] for s in group) for group in (m.states, m.params))
    initial = [sp.Integer(0)] * m.n
    if name == "P3":  # receptor and antigen start at their steady states
        by_name = {s.name: s for s in parameters}
        initial[2] = by_name["ksyn"] / by_name["kdeg"]
        initial[6::4] = [by_name["Ag"]] * len(initial[6::4])
    system = Autonomous(
        states=states, parameters=parameters, primary=len(parameters), initial=tuple(initial), report=states,
        rates=tuple(sp.sympify(e).xreplace(real) for e in m.f), report_names=tuple(s.name for s in states),
    )  # fmt: skip
    rows = [(t, Kind.ADD_STATE, i, a) if i < m.n else (t, Kind.SET_PARAM, i - m.n, a) for t, i, a in m.doses]
    return Problem(system, models.sample(m, 4)[1], records(rows), np.asarray(m.tout), 1e-7 if name == "P3" else 1e-9)


@lru_cache
def laws() -> Problem:
    """A small model with every kind of rate law, explicit time, an infusion, a reset, and events at equal times."""
    A, C, R, V, time = states = sp.symbols("A C R V time", real=True)
    names = "ka Vm Km CL g EC r Kc kq w F"
    ka, Vm, Km, CL, g, EC, r, Kc, kq, w, F = primary = sp.symbols(names, real=True)
    rate = sp.Symbol("rate of infusion", real=True)
    effect = C**g / (EC**g + C**g)
    system = Autonomous(
        states=states,
        parameters=(*primary, rate),
        primary=len(primary),
        rates=(
            -ka * A,
            ka * A - Vm * C / (Km + C) - CL * C + F * rate,
            w * (1 + sp.exp(-kq * time) * sp.sin(time / 7)) * effect - kq * R * sp.sqrt(R + 1),
            r * V * sp.log(Kc / V) - sp.Min(C, R) * V * kq / 10 - sp.tanh(C / Km) * r * V,
            sp.Integer(1),
        ),
        initial=(sp.Integer(0), F, w / (10 * kq), 5 * F, sp.Integer(0)),
        report=(C, R * V, sp.log(V) / Km, C / (Km + C) + w * time),
        report_names=("C", "RV", "log V", "bound"),
    )
    p = np.array([0.8, 2.0, 1.0, 0.05, 1.7, 1.5, 0.004, 50.0, 0.3, 0.6, 0.9])
    rows = [
        (0.0, Kind.ADD_STATE, 0, 12.0),
        (0.5, Kind.SET_PARAM, 11, 3.0),
        (2.0, Kind.ADD_PARAM, 11, 1.5),
        (3.0, Kind.ADD_PARAM, 11, -1.5),
        (3.5, Kind.SET_PARAM, 11, 0.0),
        (6.0, Kind.SET_STATE, 0, 0.3),
        (6.0, Kind.ADD_STATE, 0, 9.0),
        (6.0, Kind.SET_PARAM, 11, 2.0),
        (6.0, Kind.ADD_STATE, 1, 1.0),
        (8.0, Kind.SET_PARAM, 11, 0.0),
        (9.0, Kind.SET_STATE, 2, 0.7),
    ]
    times = np.array([0.0, 0.2, 0.5, 1.0, 2.0, 2.5, 3.2, 5.0, 6.0, 6.1, 7.0, 9.0, 10.0, 14.0])
    return Problem(system, p, records(rows), times, 1e-9)


def walk(
    programs: Programs,
    sizes: Floats,
    p: NDArray[np.complex128],
    acts: Records,
    values: NDArray[np.complex128],
    times: Floats,
    initial: ArrayLike = 0.0,
) -> NDArray[np.complex128]:
    """The scheme on given steps.

    Parameters
    ----------
    programs : of the system
    sizes : (steps,) lengths, negative where a step meets a record or the last output [h]
    p : (k, lanes) parameters, one direction a lane
    acts : records of one patient
    values : (E, lanes) their values
    times : (m,) of the outputs [h]
    initial : (n, lanes), added to the initial state

    Returns
    -------
    (m, r, lanes) array
    """
    n, lanes = programs.n, p.shape[1]
    q, y = np.zeros((programs.nq, lanes), complex), np.zeros((n, lanes), complex)
    q[: len(p)] = p
    evaluate(programs.tapes["constants"], q=q)
    evaluate(programs.tapes["initial"], q=q, y=y)
    y += initial
    out = np.zeros((len(times), programs.no, lanes), complex)
    t, e, o = 0.0, 0, 0

    def land() -> None:
        nonlocal e, o
        while e < acts.time.shape[1] and acts.time[0, e] <= t:
            kind, i = acts.kind[0, e], acts.index[0, e]
            into = y if kind <= Kind.SET_STATE else q
            into[i] = values[e] + (into[i] if kind in (Kind.ADD_STATE, Kind.ADD_PARAM) else 0)
            evaluate(programs.tapes["constants"], q=q)
            e += 1
        while o < len(times) and times[o] <= t:
            evaluate(programs.tapes["report"], y=y, q=q, out=out[o])
            o += 1

    land()
    for size in sizes:
        stop = min(times[-1], acts.time[0, e]) if e < acts.time.shape[1] else times[-1]
        h = stop - t if size < 0 else size
        u, dense = _step(programs, y, q, h)
        while o < len(times) and (times[o] < stop if size < 0 else times[o] <= t + h):
            theta = (times[o] - t) / h
            bend = dense[0] + theta * (dense[1] + theta * dense[2])
            inside = (1 - theta) * y + theta * (u + (1 - theta) * bend)
            evaluate(programs.tapes["report"], y=inside, q=q, out=out[o])
            o += 1
        y, t = u, stop if size < 0 else t + h
        if size < 0:
            land()
    return out


def _step(programs: Programs, y: NDArray[Any], q: NDArray[Any], h: float) -> tuple[NDArray[Any], NDArray[Any]]:
    n, lanes = y.shape
    values = np.zeros((len(programs.plan.pattern), lanes), complex)
    evaluate(programs.tapes["jacobian"], y=y, q=q, J=values)
    W = np.zeros((lanes, n, n), complex)
    for (i, j), v in zip(programs.plan.pattern, values, strict=True):
        W[:, i, j] = -v
    W[:, range(n), range(n)] += 1 / (rosenbrock.GAMMA * h)
    K = np.zeros((8, n, lanes), complex)
    for i in range(8):
        f = np.zeros((n, lanes), complex)
        evaluate(programs.tapes["rhs"], y=y + np.einsum("j,jnl->nl", rosenbrock.A[i], K), q=q, f=f)
        f += np.einsum("j,jnl->nl", rosenbrock.C[i], K) / h
        K[i] = np.linalg.solve(W, f.T[..., None])[..., 0].T
    return y + np.einsum("j,jnl->nl", rosenbrock.M, K), np.einsum("rj,jnl->rnl", rosenbrock.H, K)


def complex_step(
    programs: Programs, sizes: Floats, problem: Problem, p: Floats, dp: Floats, dvalue: Floats, dinitial: Floats
) -> Floats:
    """(m, r, nd) derivatives of the walk along directions dp (nd, primary), dvalue (E, nd), dinitial (nd, n)."""
    full = np.zeros((programs.k, len(dp)), complex)
    full[: len(p)] = p[:, None] + 1j * TINY * dp.T
    values = problem.records.value[0][:, None] + 1j * TINY * dvalue
    out = walk(programs, sizes, full, problem.records, values, problem.times, 1j * TINY * dinitial.T)
    return np.asarray(out.imag / TINY)


def worst(got: Floats, expected: Floats) -> float:
    """Largest error of derivatives (m, r, nd), in units of the largest value of each direction."""
    size = np.abs(expected).max(axis=(0, 1)) + 1e-300
    return float((np.abs(got - expected) / size).max())
