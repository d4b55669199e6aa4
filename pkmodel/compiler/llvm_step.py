"""One Rosenbrock step, its dense output and the interpolation, as LLVM assembly around the kernels of a model.

A Rosenbrock method in the form that needs no product with the Jacobian (Hairer & Wanner 1996, section IV.7, (7.25);
doi:10.1007/978-3-642-05221-7): with W = 1/(gamma h) - J,

    W k_i = f(y + sum_{j<i} a_ij k_j) + (1/h) sum_{j<i} c_ij k_j,      i = 1 ... s,

and the new state is the argument of the last stage plus its k, which is also the estimate of the error (a stiffly
accurate method). Before each stage one loop over the states reads every k_j once and writes both sums: the argument
into `u`, the other into the place of k_i, to which the right-hand side adds itself and which the solve then overwrites.

The dense output of Rodas5P (Steinebach 2023, doi:10.1007/s10543-023-00967-x) has three vectors D_r = sum_j h_rj k_j,

    y(t + theta h) = (1 - theta) y + theta (u + (1 - theta)(D_0 + theta (D_1 + theta D_2))).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .assembly import FAST, Module, Writer
from .llvm import emit
from .tape import Tape

STEP_KERNELS = ("step", "dense", "interpolate")
_ADDING = "rhs.adding"


@dataclass(frozen=True, slots=True)
class Tableau:
    """Coefficients of a stiffly accurate Rosenbrock method with s stages.

    Attributes
    ----------
    a : (s, s) array, strictly lower triangular, weights of the stages' arguments [1]
    c : (s, s) array, strictly lower triangular, weights divided by h on the right-hand side [1]
    dense : (3, s) array, weights of the dense output [1]
    gamma : float, diagonal coefficient [1]
    """

    a: NDArray[np.float64]
    c: NDArray[np.float64]
    dense: NDArray[np.float64]
    gamma: float

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.a)


def emit_step(module: Module, rhs: Tape, states: int, factors: int, tableau: Tableau, lanes: int) -> None:
    """Write ``step``, ``dense`` and ``interpolate`` into a module that holds ``factor`` and ``solve``.

    Parameters
    ----------
    module : Module, with ``factor(y, q, g, w)`` and ``solve(w, x)``
    rhs : Tape, ``rhs(y, q, f)``, from which a variant is made that adds to f
    states : int, n [1]
    factors : int, length of w, whose last entry is the pivot growth [1]
    tableau : Tableau
    lanes : int, patients computed at once [1]
    """
    emit(module, rhs, lanes, internal=True, accumulate=frozenset({"f"}), name=_ADDING)
    _step(module, states, factors, tableau, lanes)
    _dense(module, states, tableau, lanes)
    _interpolate(module, states, lanes)


def _sum(w: Writer, weights: Sequence[float], values: Sequence[str], start: str = "") -> str:
    """start + sum of weight * value, without the terms of weight zero; weight one is not multiplied."""
    total = start
    for weight, value in zip(weights, values, strict=True):
        if weight:
            term = value if weight == 1.0 else w.mul(w.number(weight), value)
            total = w.add(total, term) if total else term
    return total or w.number(0.0)


def _step(module: Module, n: int, factors: int, tableau: Tableau, lanes: int) -> None:
    w = Writer(module, "step", lanes, ["y", "q", "ctl", "atol", "K", "u", "w"])
    stages = [w.address("%K", j * n) for j in range(tableau.stages)]
    w.call("factor", "%y", "%q", w.address("%ctl", 1), "%w")
    per_h = w.load("%ctl", 0)
    for i, k in enumerate(stages):
        with w.loop(n) as loop:
            at = loop.turn
            earlier = [w.load(stages[j], at) for j in range(i)]
            w.store(_sum(w, tableau.a[i, :i].tolist(), earlier, w.load("%y", at)), "%u", at)
            w.store(w.mul(per_h, _sum(w, tableau.c[i, :i].tolist(), earlier)), k, at)
        w.call(_ADDING, "%u", "%q", k)
        w.call("solve", "%w", k)
    # the new state, and the squared error in units of the tolerance
    relative = w.load("%ctl", 2)
    with w.loop(n, [w.number(0.0)]) as loop:
        at = loop.turn
        error, old = w.load(stages[-1], at), w.load("%y", at)
        new = w.add(w.load("%u", at), error)
        w.store(new, "%u", at)
        size = w.intrinsic("maximum", w.intrinsic("fabs", new), w.intrinsic("fabs", old), flags=FAST)
        ratio = w.div(error, w.add(_tolerance(w, at), w.mul(relative, size)), "")
        loop.last[0] = w.add(loop.carried[0], w.mul(ratio, ratio))
    w.store(w.div(loop.last[0], w.number(float(n))), "%ctl", 3)
    w.store(w.load("%w", factors - 1), "%ctl", 4)
    w.end()


def _tolerance(w: Writer, at: str) -> str:
    one = w.write(f"load double, ptr {w.address('%atol', at, 1)}, align 8")
    if w.lanes == 1:
        return one
    first = w.write(f"insertelement {w.type} poison, double {one}, i64 0")
    return w.write(f"shufflevector {w.type} {first}, {w.type} poison, <{w.lanes} x i32> zeroinitializer")


def _dense(module: Module, n: int, tableau: Tableau, lanes: int) -> None:
    w = Writer(module, "dense", lanes, ["K", "D"])
    stages = [w.address("%K", j * n) for j in range(tableau.stages)]
    results = [w.address("%D", r * n) for r in range(3)]
    with w.loop(n) as loop:
        k = [w.load(s, loop.turn) for s in stages]
        for weights, result in zip(tableau.dense.tolist(), results, strict=True):
            w.store(_sum(w, weights, k), result, loop.turn)
    w.end()


def _interpolate(module: Module, n: int, lanes: int) -> None:
    w = Writer(module, "interpolate", lanes, ["y", "u", "D", "theta", "out"])
    theta = w.load("%theta", 0)
    left = w.sub(w.number(1.0), theta)
    dense = [w.address("%D", r * n) for r in range(3)]
    with w.loop(n) as loop:
        at = loop.turn
        d0, d1, d2 = (w.load(d, at) for d in dense)
        bend = w.add(d0, w.mul(theta, w.add(d1, w.mul(theta, d2))))
        end = w.add(w.load("%u", at), w.mul(left, bend))
        w.store(w.add(w.mul(left, w.load("%y", at)), w.mul(theta, end)), "%out", at)
    w.end()
