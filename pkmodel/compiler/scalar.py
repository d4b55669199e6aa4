"""A tape as Python text for numba: the plain back end, one patient at a time, and the readable twin of the fast one.

Each kernel becomes a function of arrays with one line an operation, as in ::

    def _rhs(y, q, f):
        v2 = y[0]*q[2]
        f[0] = -v2

and, under the same name without the underscore, a C function of pointers, so that a driver cannot tell the back ends
apart. The step, its dense output and the interpolation are those of `llvm_step`, as loops.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .cache import cached_module, code_digest
from .tape import Operation, Tape

if TYPE_CHECKING:
    from .llvm_step import Tableau
    from .machine import Source

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==",
    "ne": "!=", "and": "and", "or": "or",
}  # fmt: skip
_PREFIX = {"neg": "-", "not": "not "}
_CALL = {"abs": "abs", "min": "_min", "max": "_max", "pow": "_pow"}

_HEAD = '''"""Kernels of one model for one patient; written by pkmodel, may be deleted at any time."""

import math

import numpy as np
from numba import carray, cfunc, types

from pkmodel.solve.jit import njit

POINTER = types.CPointer(types.float64)
FACTS = {facts!r}


@njit("f8(f8, f8)")
def _min(a, b):
    return a if a < b or a != a else b


@njit("f8(f8, f8)")
def _max(a, b):
    return a if a > b or a != a else b


@njit("f8(f8, f8)")
def _pow(a, b):
    return math.pow(a, b)

'''

_STEP = """
N = {n}
A = np.array({a!r})
C = np.array({c!r})
H = np.array({h!r})


@njit("void(f8[::1], f8[::1], f8[::1], f8[::1], f8[::1], f8[::1], f8[::1])")
def _step(y, q, ctl, atol, K, u, w):
    _factor(y, q, ctl[1:2], w)
    for i in range({stages}):
        k = K[i * N : i * N + N]
        for s in range(N):
            total = y[s]
            for j in range(i):
                total += A[i, j] * K[j * N + s]
            u[s] = total
        _rhs(u, q, k)
        for s in range(N):
            total = 0.0
            for j in range(i):
                total += C[i, j] * K[j * N + s]
            k[s] += ctl[0] * total
        _solve(w, k)
    total = 0.0
    for s in range(N):
        error = K[{last} * N + s]
        u[s] += error
        ratio = error / (atol[s] + ctl[2] * _max(abs(u[s]), abs(y[s])))
        total += ratio * ratio
    ctl[3] = total / N
    ctl[4] = w[-1]


@njit("void(f8[::1], f8[::1])")
def _dense(K, D):
    for r in range(3):
        for s in range(N):
            total = 0.0
            for j in range({stages}):
                total += H[r, j] * K[j * N + s]
            D[r * N + s] = total


@njit("void(f8[::1], f8[::1], f8[::1], f8[::1], f8[::1])")
def _interpolate(y, u, D, theta, out):
    a = theta[0]
    b = 1.0 - a
    for s in range(N):
        out[s] = b * y[s] + a * (u[s] + b * (D[s] + a * (D[N + s] + a * D[2 * N + s])))

"""


class ScalarLibrary:
    """Kernels compiled by numba; the counterpart of `machine.Library`.

    Attributes
    ----------
    lanes : int, always one [1]
    names : kernels it holds
    facts : as given in the source
    """

    lanes = 1

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self.facts: Mapping[str, Any] = MappingProxyType(module.FACTS)
        self.names: tuple[str, ...] = module.NAMES

    def address(self, name: str) -> int:
        """Machine address of a kernel.

        Raises
        ------
        KeyError
            The library has no kernel of that name.
        """
        if name not in self.names:
            raise KeyError(name)
        return int(getattr(self._module, name).address)


def scalar_library(digest: str, build: Callable[[], Source]) -> ScalarLibrary:
    """Kernels of a model from numba, compiled now or found on disk.

    Parameters
    ----------
    digest : str, of everything `build` depends on; empty: the programs' own text is digested [text]
    build : writes the programs; called only where no module is found
    """
    text = "" if digest else module_text(build())
    key = hashlib.sha256(f"scalar:{code_digest()}:{digest}:{text}".encode()).hexdigest()
    return ScalarLibrary(cached_module(key, lambda: text or module_text(build())))


def module_text(source: Source) -> str:
    """The Python module of a source.

    Parameters
    ----------
    source : Source, of which `extra` and `broadcast` mean nothing here
    """
    sizes = {name: _sizes(tape) for name, tape in source.tapes.items()}
    parts = [_HEAD.format(facts=dict(source.facts))]
    parts += [function_text(tape, name) for name, tape in source.tapes.items()]
    if source.tableau is not None:
        n, nq = sizes["rhs"]["f"], max(s.get("q", 1) for s in sizes.values())
        nw, stages = sizes["factor"]["w"], source.tableau.stages
        parts.append(_step_text(source.tableau, n))
        sizes["step"] = {"y": n, "q": nq, "ctl": 5, "atol": n, "K": stages * n, "u": n, "w": nw}
        sizes["dense"] = {"K": stages * n, "D": 3 * n}
        sizes["interpolate"] = {"y": n, "u": n, "D": 3 * n, "theta": 1, "out": n}
    parts += [_pointers(name, arguments) for name, arguments in sizes.items()]
    return "\n".join([*parts, f"NAMES = {tuple(sizes)!r}", ""])


def function_text(tape: Tape, name: str) -> str:
    """One kernel as a function of arrays.

    Parameters
    ----------
    tape : Tape
    name : of the kernel; the function gets an underscore before it
    """
    changed = {s.array for s in tape.stores}
    signature = ", ".join(["f8[::1]"] * len(tape.arguments))
    lines = [f'@njit("void({signature})")', f"def _{name}({', '.join(tape.arguments)}):"]
    text: list[str] = []
    for k, o in enumerate(tape.operations):
        if o.code == "const":
            text.append(_number(o.value))
        elif o.code == "load" and o.array not in changed:
            text.append(f"{o.array}[{o.at}]")
        else:  # what is overwritten below must be read before
            right = f"{o.array}[{o.at}]" if o.code == "load" else _expression(o, [text[a] for a in o.operands])
            lines.append(f"    v{k} = {right}")
            text.append(f"v{k}")
    lines += [f"    {s.array}[{s.at}] = {text[s.source]}" for s in tape.stores]
    return "\n".join([*lines, "    return", "", ""])


def _number(value: float) -> str:
    if not math.isfinite(value):
        return {math.inf: "math.inf", -math.inf: "(-math.inf)"}.get(value, "math.nan")
    return f"({value!r})" if value < 0 else repr(value)


def _expression(o: Operation, v: list[str]) -> str:
    if o.code in _INFIX:
        return f" {_INFIX[o.code]} ".join(v)
    if o.code in _PREFIX:
        return f"{_PREFIX[o.code]}{v[0]}"
    if o.code == "select":
        return f"{v[1]} if {v[0]} else {v[2]}"
    if o.code in ("floor", "ceil"):
        return f"np.{o.code}({v[0]})"
    return f"{_CALL.get(o.code, f'math.{o.code}')}({', '.join(v)})"


def _sizes(tape: Tape) -> dict[str, int]:
    """Length of each argument, as far as the program reaches."""
    size = dict.fromkeys(tape.arguments, 1)
    for array, at in [(o.array, o.at) for o in tape.operations if o.code == "load"] + [s[:2] for s in tape.stores]:
        size[array] = max(size[array], at + 1)
    return size


def _step_text(tableau: Tableau, n: int) -> str:
    def numbers(matrix: NDArray[np.float64]) -> list[list[float]]:
        return np.asarray(matrix).tolist()  # type: ignore[no-any-return]

    return _STEP.format(
        n=n,
        a=numbers(tableau.a),
        c=numbers(tableau.c),
        h=numbers(tableau.dense),
        stages=tableau.stages,
        last=tableau.stages - 1,
    )


def _pointers(name: str, sizes: Mapping[str, int]) -> str:
    """The C function of a kernel."""
    arrays = ", ".join(f"carray({argument}, {size})" for argument, size in sizes.items())
    types = ", ".join(["POINTER"] * len(sizes))
    return (
        f'@cfunc(types.void({types}), cache=True, error_model="numpy")\n'
        f"def {name}({', '.join(sizes)}):\n    _{name}({arrays})\n\n"
    )
