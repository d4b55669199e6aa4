"""Reference solutions of the benchmark problems, by methods that share nothing with ours.

P1 is linear: its matrix exponential to 50 digits (mpmath). P2s, P2 and P3 are solved by the explicit method of order
8 of Dormand and Prince (numbalsoda; its steps are held short by stability, so its error is rounding) and confirmed by
Radau IIA (SciPy, Hairer & Wanner, doi:10.1007/978-3-642-05221-7), implicit and of order 5.
`references.npz` keeps `SETS` parameter sets at every tenth output time; make it anew with

    python -m benchmarks.references        # in tests/, with numbalsoda; ten minutes
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from benchmarks.peers import Solver, numbalsoda_dop853, scipy_solve_ivp
from benchmarks.problems import Equations, equations, problem

Array = NDArray[np.float64]
FILE = Path(__file__).with_name("references.npz")
SETS = 6
FIRST, EVERY = 4, 10  # of the output times, those that are kept


def reference(name: str, sets: int = SETS) -> tuple[Array, Array]:
    """States of the first sets at the kept times, (sets, m, n), and the largest value of each, (sets, 1, n)."""
    if name == "P1":
        full = exact(equations(problem("P1")), sets)
        return full[:, FIRST::EVERY], np.abs(full).max(1, keepdims=True)
    with np.load(FILE) as kept:
        return kept[name][:sets], kept[f"{name}_largest"][:sets]


def error(found: Array, kept: Array, largest: Array) -> float:
    """Largest error of any state at any kept time, over the largest value that state ever has."""
    return float((np.abs(found[: len(kept), FIRST::EVERY] - kept) / largest).max())


def exact(equations: Equations, count: int) -> Array:
    """Solution of a linear problem by matrix exponentials to 50 digits, (count, m, n)."""
    import mpmath as mp  # type: ignore[import-untyped, unused-ignore]

    with mp.workdps(50):
        states, parameters = sp.Matrix(equations.states), equations.parameters
        rates = sp.Matrix(equations.rates)
        matrix = rates.jacobian(states)
        constant = rates.subs(dict.fromkeys(equations.states, 0))
        made = sp.lambdify([parameters], matrix.row_join(constant), "mpmath")
        n = len(equations.states)
        out = np.empty((count, equations.times.size, n))
        for values, rows in zip(problem(equations.name).sets(count, equations.names), out, strict=True):
            p = [mp.mpf(float(v)) for v in values]
            y, at = mp.zeros(n + 1, 1), 0
            y[n] = 1  # the constant part multiplies one
            for begin, end, given, times in equations.segments():
                for index, value in given:
                    if index < n:
                        y[index] += mp.mpf(value)
                    else:
                        p[index - n] = mp.mpf(value)
                a = mp.zeros(n + 1, n + 1)
                a[:n, :] = mp.matrix(made(p))
                for t in times:
                    moved = mp.expm(a * (mp.mpf(float(t)) - mp.mpf(begin)), method="taylor") * y
                    rows[at] = [float(x) for x in moved[:n]]
                    at += 1
                y = mp.expm(a * (mp.mpf(end) - mp.mpf(begin)), method="taylor") * y
    return out


def explicit(equations: Equations) -> Solver:
    """The reference method."""
    return numbalsoda_dop853(stopping(equations), 1e-13, 1e-4 * equations.atol)


def implicit(equations: Equations) -> Solver:
    """What confirms it."""
    return scipy_solve_ivp(stopping(equations), 1e-11, 1e-4 * equations.atol, "Radau")


def stopping(equations: Equations) -> Equations:
    """The same with a stop at each output time: both methods interpolate less exactly than they step."""
    stops = tuple((float(t), 0, 0.0) for t in equations.times[:-1])
    return replace(equations, events=tuple(sorted((*equations.events, *stops))))


def main() -> None:
    """Compute the references, confirm one set of each by the second method, and write the file."""
    kept: dict[str, Array] = {}
    for name in ("P2s", "P2", "P3"):
        e = equations(problem(name))
        sets = problem(name).sets(SETS, e.names)
        found = explicit(e)(sets)
        largest = np.abs(found).max(1, keepdims=True)
        second = implicit(replace(e, times=e.times[FIRST::EVERY]))(sets[:1])
        print(f"{name}: explicit against implicit {error(found[:1], second, largest[:1]):.1e}", flush=True)
        kept |= {name: found[:, FIRST::EVERY], f"{name}_largest": largest}
    np.savez_compressed(FILE, **kept)  # type: ignore[arg-type]
    print(f"{FILE.name}: {FILE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
