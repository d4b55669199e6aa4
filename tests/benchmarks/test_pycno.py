"""The published whole-body PSMA model of qurit/PyCNO (SBML, 192 states): 1000 patients on two threads.

The file has no licence, so it is not here: fetch it and name it in ``BENCH_PYCNO``
(https://github.com/qurit/PyCNO, src/pycno/models/PSMA.sbml). Its own package needs 4.4 s a patient.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

from benchmarks.measure import ROUNDS, Spread, cpu, keep, show, wall, where
from benchmarks.problems import RTOL
from pkmodel.compiler.autonomous import autonomous
from pkmodel.compiler.engine import Engine
from pkmodel.compiler.system import build_system
from pkmodel.expressions import symbol
from pkmodel.model import Model, Observable
from pkmodel.solve.records import Kind, records

ORGANS = "Tumor1 Tumor2 TumorRest Kidney SG Liver Spleen Prostate RedMarrow".split()
TIMES = np.linspace(0.0, 30 * 24.0, 31)  # [h]
PATIENTS = 1000
THEIRS = 4.4 * PATIENTS  # what the file's own package needs, one patient after the other [s]


def observed(model: Model) -> Model:
    """The model with hot ligand of each organ as what is reported."""
    parts = {o: [symbol(c) for c in model.compartments if c.startswith(o) and "Hot" in c] for o in ORGANS}
    wanted = {f"hot_{o}": Observable(name=f"hot_{o}", expression=sp.Add(*c), unit="1") for o, c in parts.items()}
    return replace(model, observables=wanted)


@pytest.mark.bench
def test_pycno() -> None:
    path = Path(os.environ.get("BENCH_PYCNO", "absent"))
    if not path.exists():
        pytest.skip("name the file PSMA.sbml of qurit/PyCNO in BENCH_PYCNO")
    pytest.importorskip("libsbml")
    from pkmodel.sbml import read_sbml

    begin = time.perf_counter()
    model = observed(read_sbml(str(path), names="name"))
    read = time.perf_counter() - begin
    system = autonomous(build_system(model), report=tuple(model.observables))
    engine = Engine(system)
    names = [s.name for s in system.parameters[: system.primary]]
    values = model.canonical_values()
    sets = np.tile([values[n] for n in names], (PATIENTS, 1))
    densities = [k for k, n in enumerate(names) if n.startswith("Rden")]
    assert densities
    sets[:, densities] *= np.exp(0.5 * np.random.default_rng(1).standard_normal((PATIENTS, len(densities))))
    doses = records(
        [(0.0, Kind.ADD_STATE, system.state("Vein_Hot"), 10.0), (0.0, Kind.ADD_STATE, system.state("Vein_Cold"), 100.0)]
    )

    def solve(threads: int, count: int = PATIENTS) -> None:
        run = engine.run(sets[:count], doses, TIMES, RTOL, 1e-9, threads=threads)
        assert not run.failed.size, run.message(int(run.failed[0]))

    solve(1, 8)
    first = time.perf_counter() - begin
    took = Spread.of([wall(lambda: solve(2)) for _ in range(ROUNDS)])
    used = Spread.of([cpu(lambda: solve(1, 200)) / 200 * 1e3 for _ in range(ROUNDS)])
    met = f"10 s {'met' if took.median <= 10 else 'missed'}"
    rows = [[f"{len(system.states)}", f"{read:.2f}", f"{first:.2f}", used.text(), took.text(), met]]
    columns = [
        "states",
        "import [s]",
        "to first result [s]",
        "CPU ms a patient",
        "1000 patients, 2 threads [s]",
        "target",
    ]
    note = f"30 days, 31 times; its own package: {THEIRS:.0f} s\n{where()}"
    show("PSMA model of PyCNO", columns, rows, note)
    keep("pycno", {"states": len(system.states), "read": read, "first": first, "ms": used, "wall": took})
