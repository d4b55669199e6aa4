"""From the text of P2 to its first result, in a process of its own; prints seconds as JSON.

    python -m benchmarks.cold engine|simulate

Imports are timed by themselves: they are the same for every model, and a notebook has paid for them.
"""

from __future__ import annotations

import json
import sys
import time


def main(way: str) -> None:
    """Time imports, and everything after them, by the clock and by the processor."""
    begin = time.perf_counter()
    import llvmlite.binding  # type: ignore[import-untyped, unused-ignore]
    import numba  # type: ignore[import-untyped, unused-ignore]
    import pint
    import sympy

    import pkmodel as pk
    from benchmarks.ours import prepare
    from benchmarks.problems import CYCLES, HOT, RTOL, problem

    assert llvmlite and numba and pint and sympy
    imports = time.perf_counter() - begin
    p = problem("P2")
    begin, used = time.perf_counter(), time.process_time()
    if way == "engine":
        prepared = prepare(p, keep=True)
        result = prepared.solver(RTOL, p.atol)(p.sets(1, prepared.names))
        assert result.shape == (1, p.times.size, 74)
    else:
        model = p.read()
        activity = HOT * model.parameters["mbq_per_nmol"].canonical
        doses = (pk.Administration(t, activity=activity, amount=60.0 + HOT) for t in CYCLES)
        data = pk.simulate(model, pk.Regimen.of(*doses), p.times, rtol=RTOL)
        assert data["tumour"].size == p.times.size
    gone = {"imports": imports, "wall": time.perf_counter() - begin, "cpu": time.process_time() - used}
    print(json.dumps(gone))


if __name__ == "__main__":
    main(sys.argv[1])
