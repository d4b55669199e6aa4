"""One Rosenbrock step, its dense output and the interpolation, as LLVM assembly around the kernels of a model.

A Rosenbrock method in the form that needs no product with the Jacobian (Hairer & Wanner 1996, section IV.7, (7.25);
doi:10.1007/978-3-642-05221-7): with W = 1/(gamma h) - J,

    W k_i = f(y + sum_{j<i} a_ij k_j) + (1/h) sum_{j<i} c_ij k_j,      i = 1 ... s,

and the new state is the argument of the last stage plus its k, which is also the estimate of the error (a stiffly
accurate method). Before each stage one loop over the states reads every k_j once and writes both sums: the argument
into `u`, the other into the place of k_i, to which the right-hand side adds itself and which the solve then overwrites.
Where there is one patient only, such a loop takes eight states at once instead of eight patients.
After the last stage whose argument is such a sum (the next arguments just add the newest k), the early k_j are not read
again: that stage's loop also writes their part of the later sums, which leaves less to be kept in the fastest cache.

The dense output of Rodas5P (Steinebach 2023, doi:10.1007/s10543-023-00967-x) has three vectors D_r = sum_j h_rj k_j,

    y(t + theta h) = (1 - theta) y + theta (u + (1 - theta)(D_0 + theta (D_1 + theta D_2))).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .assembly import FAST, Module, Writer
from .llvm import emit
from .tape import Tape

STEP_KERNELS = ("step", "dense", "interpolate")
WIDTHS = (8, 4, 2, 1)  # states taken at once where there is one lane: as many as possible, then the rest
SMALL = 16  # fewer states than this are taken one by one: a vector must wait until its parts are in the cache
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

    @property
    def last_sum(self) -> int:
        """Last stage whose argument is not the argument before plus the k before."""
        a, last = self.a, self.stages - 1
        while last > 1 and a[last, last - 1] == 1.0 and np.array_equal(a[last, : last - 1], a[last - 1, : last - 1]):
            last -= 1
        return last


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
    emit_dense(module, states, tableau, lanes)
    emit_interpolate(module, states, lanes)


def weighted_sum(w: Writer, weights: Sequence[float], values: Sequence[str], start: str = "") -> str:
    """start + sum of weight * value, without the terms of weight zero; weight one is not multiplied."""
    total = start
    for weight, value in zip(weights, values, strict=True):
        if weight:
            term = value if weight == 1.0 else w.mul(w.number(weight), value)
            total = w.add(total, term) if total else term
    return total or w.number(0.0)


def windows(w: Writer, n: int) -> Iterator[int]:
    """Parts of the states that are one loop each; gives the turns of that loop.

    With several lanes there is one part and a state a turn. A single lane is widened: a turn takes as many states as
    fit.
    """
    if w.lanes > 1:
        yield n
        return
    first = 0
    for width in WIDTHS if n >= SMALL else (1,):
        turns = (n - first) // width
        if turns:
            with w.window(first, width):
                yield turns
            first += turns * width


def _step(module: Module, n: int, factors: int, tableau: Tableau, lanes: int) -> None:
    w = Writer(module, "step", lanes, ["y", "q", "ctl", "atol", "K", "u", "w"])
    stages = [w.address("%K", j * n) for j in range(tableau.stages)]
    w.call("factor", "%y", "%q", w.address("%ctl", 1), "%w")
    w.call("rhs", "%y", "%q", stages[0])
    w.call("solve", "%w", stages[0])
    per_h = w.load("%ctl", 0)
    for i in range(1, tableau.stages):
        for turns in windows(w, n):
            here = w.widen(per_h) if lanes == 1 else per_h
            with w.loop(turns) as loop:
                _stage(w, tableau, i, stages, here, loop.turn)
        w.call(_ADDING, "%u", "%q", stages[i])
        w.call("solve", "%w", stages[i])
    _finish(w, n, factors, stages[-1])


def _stage(w: Writer, tableau: Tableau, i: int, stages: Sequence[str], per_h: str, at: str) -> None:
    """Of one state: the argument of stage i, and what its right-hand side gets from earlier stages."""
    a, c, last = tableau.a.tolist(), tableau.c.tolist(), tableau.last_sum
    if i > last:
        k = [w.load(s, at) for s in stages[last:i]]
        w.store(w.add(w.load("%u", at), k[-1]), "%u", at)
        known = weighted_sum(w, c[i][last:i], k, w.load(stages[i], at))
    else:
        k = [w.load(s, at) for s in stages[:i]]
        w.store(weighted_sum(w, a[i][:i], k, w.load("%y", at)), "%u", at)
        known = weighted_sum(w, c[i][:i], k)
    w.store(w.mul(per_h, known), stages[i], at)
    if i == last:
        for later in range(i + 1, tableau.stages):
            w.store(weighted_sum(w, c[later][:i], k), stages[later], at)


def _finish(w: Writer, n: int, factors: int, last: str) -> None:
    """The new state, the mean squared error in units of the tolerance, and the pivot growth."""
    alone, totals, each = w.lanes == 1, [], w.load("%ctl", 2)
    for turns in windows(w, n):
        relative = w.widen(each) if alone else each
        with w.loop(turns, [w.number(0.0)]) as loop:
            at = loop.turn
            error, old = w.load(last, at), w.load("%y", at)
            new = w.add(w.load("%u", at), error)
            w.store(new, "%u", at)
            size = w.intrinsic("maximum", w.intrinsic("fabs", new), w.intrinsic("fabs", old), flags=FAST)
            least = w.load("%atol", at) if alone else w.spread("%atol", at)
            ratio = w.div(error, w.add(least, w.mul(relative, size)))
            loop.last[0] = w.add(loop.carried[0], w.mul(ratio, ratio))
        totals.append(w.sum(loop.last[0]) if alone else loop.last[0])
    total = weighted_sum(w, [1.0] * len(totals), totals)
    w.store(w.div(total, w.number(float(n))), "%ctl", 3)
    w.store(w.load("%w", factors - 1), "%ctl", 4)
    w.end()


def emit_dense(module: Module, n: int, tableau: Tableau, lanes: int) -> None:
    """Write ``dense(K, D)``, which needs no other kernel.

    Parameters
    ----------
    module : Module
    n : int, states [1]
    tableau : Tableau
    lanes : int, patients computed at once [1]
    """
    w = Writer(module, "dense", lanes, ["K", "D"])
    stages = [w.address("%K", j * n) for j in range(tableau.stages)]
    results = [w.address("%D", r * n) for r in range(3)]
    for turns in windows(w, n):
        with w.loop(turns) as loop:
            k = [w.load(s, loop.turn) for s in stages]
            for weights, result in zip(tableau.dense.tolist(), results, strict=True):
                w.store(weighted_sum(w, weights, k), result, loop.turn)
    w.end()


def emit_interpolate(module: Module, n: int, lanes: int) -> None:
    """Write ``interpolate(y, u, D, theta, out)``, which needs no other kernel.

    Parameters
    ----------
    module : Module
    n : int, states [1]
    lanes : int, patients computed at once [1]
    """
    w = Writer(module, "interpolate", lanes, ["y", "u", "D", "theta", "out"])
    passed = w.load("%theta", 0)
    dense = [w.address("%D", r * n) for r in range(3)]
    for turns in windows(w, n):
        theta = w.widen(passed) if lanes == 1 else passed
        left = w.sub(w.number(1.0), theta)
        with w.loop(turns) as loop:
            at = loop.turn
            d0, d1, d2 = (w.load(d, at) for d in dense)
            bend = w.add(d0, w.mul(theta, w.add(d1, w.mul(theta, d2))))
            end = w.add(w.load("%u", at), w.mul(left, bend))
            w.store(w.add(w.mul(left, w.load("%y", at)), w.mul(theta, end)), "%out", at)
    w.end()
