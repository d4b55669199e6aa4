"""What a tape means: a slow interpreter, one operation after the other, that every back end is held against.

It computes with whatever numbers the arrays hold: one patient, many side by side (the last axis), or complex ones,
with which a derivative is read from an imaginary part (Squire and Trapp 1998, doi:10.1137/S003614459631241X).
Complex numbers are compared by their real part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .tape import Tape

Values = NDArray[Any]


def _abs(x: Values) -> Values:
    return np.where(np.real(x) < 0, -x, x) if np.iscomplexobj(x) else np.abs(x)


def _min(x: Values, y: Values) -> Values:
    return np.where(np.isnan(x), x, np.where(np.isnan(y) | (np.real(y) < np.real(x)), y, x))


def _max(x: Values, y: Values) -> Values:
    return np.where(np.isnan(x), x, np.where(np.isnan(y) | (np.real(y) > np.real(x)), y, x))


def _compare(compare: Callable[[Values, Values], Values]) -> Callable[[Values, Values], Values]:
    return lambda x, y: compare(np.real(x), np.real(y))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "neg": np.negative, "abs": _abs, "sqrt": np.sqrt, "exp": np.exp, "log": np.log, "tanh": np.tanh, "sin": np.sin,
    "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh,
    "cosh": np.cosh, "floor": lambda x: np.floor(np.real(x)), "ceil": lambda x: np.ceil(np.real(x)),
    "not": np.logical_not, "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power,
    "min": _min, "max": _max, "lt": _compare(np.less), "le": _compare(np.less_equal), "gt": _compare(np.greater),
    "ge": _compare(np.greater_equal), "eq": _compare(np.equal), "ne": _compare(np.not_equal),
    "and": np.logical_and, "or": np.logical_or, "select": np.where,
}  # fmt: skip


def evaluate(tape: Tape, **arrays: Values) -> None:
    """Run a program; what it stores is written into the given arrays.

    Parameters
    ----------
    tape : the program
    arrays : (size,) or (size, lanes) arrays of float or complex, by the names of `tape.arguments`

    Raises
    ------
    ValueError
        An argument of the program is not given.
    """
    if missing := set(tape.arguments) - set(arrays):
        raise ValueError(f"tape {tape.name}: no array given for {', '.join(sorted(missing))}")
    results: list[Any] = []
    with np.errstate(all="ignore"):
        for o in tape.operations:
            if o.code == "load":
                results.append(np.array(arrays[o.array][o.at]))  # a copy: a store must not change what was read
            elif o.code == "const":
                results.append(np.float64(o.value))
            else:
                results.append(OPERATIONS[o.code](*(results[a] for a in o.operands)))
    for s in tape.stores:
        arrays[s.array][s.at] = results[s.source]
