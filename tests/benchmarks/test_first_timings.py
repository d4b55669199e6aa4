"""First timings, printed and never asserted: CPU time of our solvers beside SciPy's, interleaved in one run.

The engine's benchmarks against its named peers come with the engine; these keep an eye on what is here now.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import pkmodel as pk
from pkmodel.simulation import prepare

ROUNDS = 7
TIMES = np.array([1.0, 24.0, 48.0, 72.0, 168.0])


def _cpu(work: Callable[[], object], repeat: int) -> float:
    begin = time.process_time()
    for _ in range(repeat):
        work()
    return (time.process_time() - begin) / repeat * 1e3


@pytest.mark.bench
@pytest.mark.parametrize("name", ["psma617_siebinga2023", "whole_body_linear"])
def test_one_patient_against_scipy(name: str) -> None:
    model = pk.load_model(name)
    regimen = "6 GBq once" if name.startswith("psma") else "10 nmol once"
    problem = prepare(model, regimen, TIMES, rtol=1e-6)
    c, p = problem.compiled, problem.defaults
    start = c.initial(p) + sum(amount * c.entries(p)[route] for _, route, amount, _ in problem._doses)
    none = np.zeros(0)
    if c.linear:
        a, _, _ = c.matrices(p)

        def slope(t: float, y: np.ndarray) -> np.ndarray:
            return np.asarray(a @ y)
    else:
        out = np.zeros(start.size)

        def slope(t: float, y: np.ndarray) -> np.ndarray:
            c.module.rhs(t, y, none, p, out)
            return out.copy()

    def scipy_run() -> object:
        return solve_ivp(slope, (0.0, TIMES[-1]), start, method="LSODA", t_eval=TIMES, rtol=1e-6, atol=1e-9)

    def ours() -> object:
        return problem.solve(p)

    ours(), scipy_run()
    pairs = [(_cpu(ours, 50), _cpu(scipy_run, 5)) for _ in range(ROUNDS)]
    ratios = [b / a for a, b in pairs]
    mine, theirs = (float(np.median([x[k] for x in pairs])) for k in (0, 1))
    print(
        f"\n{name}: pkmodel {mine:.2f} ms, SciPy LSODA {theirs:.2f} ms of CPU per solve; "
        f"ratio {np.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) over {ROUNDS} rounds"
    )
