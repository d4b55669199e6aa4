"""The equations of a problem as plain compiled functions, as somebody without our engine would write them.

SymPy finds common subexpressions and prints Python; numba compiles it. The file is kept in a temporary folder so that
numba finds its machine code again. These serve SciPy, numbalsoda and the references.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from benchmarks.problems import Equations

Array = NDArray[np.float64]
FOLDER = Path(tempfile.gettempdir()) / "pkmodel_benchmarks"


@dataclass(frozen=True, slots=True)
class Plain:
    """`rhs(y, p)` and `jacobian(y, p)` return new arrays; `fill(y, p, out)` does not."""

    rhs: Callable[[Array, Array], Array]
    jacobian: Callable[[Array, Array], Array]
    fill: Callable[[Array, Array, Array], None]
    module: ModuleType


def plain(equations: Equations, *, jacobian: bool = True) -> Plain:
    """Compile the right-hand side and, if asked, the dense analytic Jacobian of a problem."""
    source = _source(equations, jacobian)
    name = f"plain_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # numba looks it up when it reads its cache
    spec.loader.exec_module(module)
    return Plain(module.rhs, getattr(module, "jacobian", module.rhs), module.fill, module)


def _source(equations: Equations, jacobian: bool) -> str:
    n = len(equations.states)
    names = {s: sp.Symbol(f"y{i}", real=True) for i, s in enumerate(equations.states)}
    names |= {p: sp.Symbol(f"p{i}", real=True) for i, p in enumerate(equations.parameters)}
    rates = [sp.sympify(r).xreplace(names) for r in equations.rates]
    lines = ["import numpy as np", "from numba import njit", "from math import *"]
    body = _body({f"out[{i}]": r for i, r in enumerate(rates)})
    lines += ["", "@njit(cache=True, error_model='numpy')", "def fill(y, p, out):", *body]
    lines += ["", "@njit(cache=True, error_model='numpy')", "def rhs(y, p):", f"    out = np.empty({n})", *body]
    lines += ["    return out"]
    if jacobian:
        entries = {
            f"out[{i}, {j}]": sp.diff(r, s)
            for i, r in enumerate(rates)
            for j, s in enumerate(names[x] for x in equations.states)
            if s in r.free_symbols
        }
        lines += [
            "",
            "@njit(cache=True, error_model='numpy')",
            "def jacobian(y, p):",
            f"    out = np.zeros(({n}, {n}))",
        ]
        lines += [*_body(entries), "    return out"]
    return "\n".join(lines) + "\n"


def _body(results: dict[str, Any]) -> list[str]:
    """Assignments that fill `results`, common parts first."""
    common, reduced = sp.cse(list(results.values()), symbols=sp.numbered_symbols("x"), optimizations=None)
    used = sorted({s.name for e in (*reduced, *(c for _, c in common)) for s in sp.sympify(e).free_symbols})
    lines = [f"    {s} = {s[0]}[{s[1:]}]" for s in used if s[0] in "yp"]
    lines += [f"    {s} = {sp.pycode(e)}" for s, e in common]
    return lines + [f"    {at} = {sp.pycode(e)}" for at, e in zip(results, reduced, strict=True)]


def starts(equations: Equations, sets: Array) -> Array:
    """Initial states of each parameter set, before any dose, (N, n)."""
    initial = sp.lambdify([equations.parameters], [sp.sympify(x) for x in equations.initial], "math")
    return np.array([initial(p) for p in sets], dtype=float)
