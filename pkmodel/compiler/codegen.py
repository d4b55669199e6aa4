"""Equations to the source text of a small Python module, common subexpressions computed once.

The matrices of a linear model are compiled by numba; what the solver of nonlinear models needs becomes machine code by
another way (`engine`). What is evaluated once for all output times or patients (observables, initial states, fractions
given) is NumPy over arrays, which needs no compilation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sympy as sp
from sympy.printing.str import StrPrinter

from ..errors import ModelError
from ..expressions import TIME, symbol
from ..sharing import substitute, substitute_all, symbols_of
from .derivative import derivative
from .powers import one_sided, written
from .switches import switches
from .system import System

_CLOCK = sp.Symbol("t", real=True)
_TIGHT = 100  # precedence that puts everything but a name in brackets
CODE_VERSION = 7  # raise it whenever the generated text or the solver interface changes


class _Printer(StrPrinter):  # type: ignore[misc]  # sympy has no type information
    """Expressions as Python text: of floats for numba (`math`), or of arrays over time (`numpy`)."""

    def __init__(self, arrays: bool) -> None:
        super().__init__()
        self.arrays = arrays
        self.module = "numpy" if arrays else "math"

    def _print_Rational(self, e: sp.Rational) -> str:
        return repr(float(e)) if e >= 0 else f"({float(e)!r})"

    def _print_Exp1(self, e: sp.Expr) -> str:
        return repr(math.e)

    _print_Integer = _print_Rational
    _print_One = _print_Zero = _print_NegativeOne = _print_Half = _print_Rational

    def _print_Function(self, e: Any) -> str:
        raise ModelError(f"no code can be written for {e}")  # expressions.FUNCTIONS lists what can

    def _print_Mul(self, e: sp.Mul) -> str:
        number, rest = e.as_coeff_Mul()
        top, bottom = [], []
        for part in rest.as_ordered_factors() if rest != 1 else ():
            power = part.as_base_exp()[1]
            if power.is_Rational and power < 0:
                bottom.append(1 / part)
            else:
                top.append(part)
        size = abs(number)
        factors = [repr(float(size))] if size != 1 or not top else []
        text = "*".join(factors + [self.parenthesize(f, _TIGHT) for f in top])
        if bottom:
            under = "*".join(self.parenthesize(f, _TIGHT) for f in bottom)
            text += f"/({under})" if len(bottom) > 1 else f"/{under}"
        return f"-{text}" if number < 0 else text

    def _print_Pow(self, e: sp.Pow, rational: bool = False) -> str:
        base, power = e.args
        inside = self.parenthesize(base, _TIGHT)
        if power == sp.Rational(1, 2):
            return f"{self.module}.sqrt({self._print(base)})"
        if power.is_Integer:  # whole powers stay whole, so that the compiler makes products of them
            whole = abs(int(power))
            text = inside if whole == 1 else f"({inside}**{whole})"
            return text if power > 0 else f"1.0/{text}"
        return f"{inside}**{self.parenthesize(power, _TIGHT)}"

    def _print_function(self, e: Any) -> str:
        name = {"exp": "exp", "log": "log", "tanh": "tanh"}[e.func.__name__]
        return f"{self.module}.{name}({self._print(e.args[0])})"

    _print_exp = _print_log = _print_tanh = _print_function

    def _print_floor(self, e: sp.floor) -> str:
        return f"{self.module}.floor({self._print(e.args[0])})"

    def _print_Abs(self, e: sp.Abs) -> str:
        return f"{'numpy.abs' if self.arrays else 'math.fabs'}({self._print(e.args[0])})"

    def _extreme(self, args: Sequence[sp.Expr], scalar: str, array: str) -> str:
        text = str(self._print(args[0]))
        for a in args[1:]:
            text = f"{array if self.arrays else scalar}({text}, {self._print(a)})"
        return text

    def _print_Min(self, e: sp.Min) -> str:
        return self._extreme(e.args, "min", "numpy.minimum")

    def _print_Max(self, e: sp.Max) -> str:
        return self._extreme(e.args, "max", "numpy.maximum")

    def _choose(self, condition: str, yes: str, no: str) -> str:
        return f"numpy.where({condition}, {yes}, {no})" if self.arrays else f"({yes} if {condition} else {no})"

    def _print_Piecewise(self, e: sp.Piecewise) -> str:
        text = str(self._print(e.args[-1][0]))
        for value, condition in reversed(e.args[:-1]):
            text = self._choose(self._print(condition), self._print(value), text)
        return text

    def _print_Relational(self, e: Any) -> str:
        return f"({self._print(e.lhs)} {e.rel_op} {self._print(e.rhs)})"


Entry = tuple[str, sp.Expr]  # where a value goes, and the value
_MATRICES = "void(float64[::1], float64[:, ::1], float64[:, ::1], float64[::1])"
_DMATRICES = "void(float64[::1], float64[:, :, ::1], float64[:, :, ::1], float64[:, ::1])"


_LONGEST_KERNEL = 400  # lines; beyond it compiling takes longer than any fit runs, and plain Python does


def generate(system: System, header: str) -> str:
    """Source text of the module of one model: its values (`header` is its first comment)."""
    place, y, u, _ = _places(system)
    rates, observed = _laws(system, place, y, u)
    blocks = _head(system, header)
    if system.linear:
        a, b, c = _matrices(rates, y, u)
        blocks.append(_kernel("matrices", "p, A, B, c", repr(_MATRICES), a + b + _nonzero(c)))
    blocks.append(_array("observe", "t, y, u, p, out", [(f"out[{i}]", e) for i, e in enumerate(observed)]))
    blocks.append(_array("initial", "p, out", [(f"out[{i}]", e) for i, e in enumerate(place(system.initial))]))
    moments = place(s.moment for s in switches(system))
    blocks.append(_array("moments", "p, out", [(f"out[{i}]", e) for i, e in enumerate(moments)]))
    blocks.append(_array("entries", "p, out", _given(system, place)))
    return "\n".join(blocks)


def generate_slopes(system: System, header: str) -> str:
    """Source text of the module of its derivatives, which only fits and sensitivities ask for."""
    place, y, u, p = _places(system)
    rates, observed = _laws(system, place, y, u)
    blocks = _head(system, header)
    if system.linear:
        slopes = [
            (f"d{name[0]}[{k}, {name[2:]}", derivative(e, s))
            for part in _matrices(rates, y, u)
            for name, e in part
            for k, s in enumerate(p)
            if s in symbols_of(e)
        ]
        blocks.append(_kernel("dmatrices", "p, dA, dB, dc", repr(_DMATRICES), _nonzero(slopes)))
    for name, variables in (("observe_dy", y), ("observe_dp", p), ("observe_du", u)):
        blocks.append(_array(name, "t, y, u, p, out", _jacobian("out", observed, variables)))
    blocks.append(_array("initial_dp", "p, out", _jacobian("out", place(system.initial), p)))
    moments = place(s.moment for s in switches(system))
    blocks.append(_array("moments_dp", "p, out", _jacobian("out", moments, p)))
    given = [(f"{name[:-1]}, {j}]", derivative(e, s)) for name, e in _given(system, place) for j, s in enumerate(p)]
    blocks.append(_array("entries_dp", "p, out", _nonzero(given)))
    return "\n".join(blocks)


_Place = Callable[[Iterable[sp.Expr]], list[sp.Expr]]


def _places(system: System) -> tuple[_Place, list[sp.Symbol], list[sp.Symbol], list[sp.Symbol]]:
    """What puts array elements in the place of names, and the elements: states, inputs, parameters."""
    y = [sp.Symbol(f"y[{i}]", real=True) for i in range(len(system.states))]
    u = [sp.Symbol(f"u[{i}]", real=True) for i in range(len(system.inputs))]
    p = [sp.Symbol(f"p[{i}]", real=True) for i in range(len(system.parameters))]
    swap = {symbol(n): s for n, s in zip(system.states[: system.compartments], y, strict=False)}
    swap |= {symbol(n): s for n, s in zip(system.inputs, u, strict=True)}
    swap |= {symbol(n): s for n, s in zip(system.parameters, p, strict=True)}
    swap[symbol(TIME)] = _CLOCK
    known: dict[sp.Basic, sp.Basic] = {}
    return (lambda items: [substitute(e, swap, known) for e in items]), y, u, p


def _laws(system: System, place: _Place, y: list[sp.Symbol], u: list[sp.Symbol]) -> tuple[list[sp.Expr], list[sp.Expr]]:
    """Rates and observables, of array elements."""
    moving = (*y, *u, _CLOCK)
    rates, observed = ([one_sided(e, moving) for e in place(part)] for part in (system.rates, system.observed))
    return rates, observed


def _matrices(
    rates: list[sp.Expr], y: list[sp.Symbol], u: list[sp.Symbol]
) -> tuple[list[Entry], list[Entry], list[Entry]]:
    """A, B and c of a linear model."""
    zero = {s: sp.Integer(0) for s in (*y, *u)}
    c = [(f"c[{i}]", e) for i, e in enumerate(substitute_all(rates, zero))]
    return _jacobian("A", rates, y), _jacobian("B", rates, u), c


def _given(system: System, place: _Place) -> list[Entry]:
    """Fractions of a dose that each state receives."""
    n = len(system.states)
    fractions = enumerate(e for route in system.entries for e in place(route))
    return _nonzero([(f"out[{k // n}, {k % n}]", e) for k, e in fractions])


def _head(system: System, header: str) -> list[str]:
    return [
        f"# {header.encode('ascii', 'replace').decode().splitlines()[0]}\n",  # a comment, whatever a model is called
        "import math\n\nimport numpy\n",
        "from pkmodel.solve.jit import njit\n" if system.linear else "",
        f"META = {_meta(system)!r}\n",
    ]


def _meta(system: System) -> dict[str, Any]:
    return {
        "states": system.states,
        "parameters": system.parameters,
        "inputs": system.inputs,
        "observables": system.observables,
        "routes": system.routes,
        "switches": tuple(s.past.name for s in switches(system)),
        "linear": system.linear,
        "code_version": CODE_VERSION,
    }


def _jacobian(name: str, rows: Sequence[sp.Expr], variables: Sequence[sp.Symbol]) -> list[Entry]:
    out = []
    for i, row in enumerate(rows):
        present = symbols_of(row)
        out += [(f"{name}[{i}, {j}]", derivative(row, v)) for j, v in enumerate(variables) if v in present]
    return _nonzero(out)


def _nonzero(entries: list[Entry]) -> list[Entry]:
    return [(n, e) for n, e in entries if e != 0]


def _body(entries: list[Entry], printer: Any) -> list[str]:
    names = sp.numbered_symbols("w", real=True)
    shared, values = sp.cse([written(e) for _, e in entries], symbols=names, order="none")
    lines = [f"    {s} = {printer.doprint(e)}" for s, e in shared]
    lines += [f"    {n} = {printer.doprint(v)}" for (n, _), v in zip(entries, values, strict=True)]
    return lines


def _kernel(name: str, args: str, signature: str, entries: list[Entry]) -> str:
    body = _body(entries, _Printer(arrays=False))
    plain = len(body) > _LONGEST_KERNEL
    head = (
        ["", f"def {name}({args}):", "    p = p.tolist()"]
        if plain
        else [f"\n@njit({signature})", f"def {name}({args}):"]
    )
    lines = [*head, *body]
    return "\n".join([*lines, "    return", ""])


def _array(name: str, args: str, entries: list[Entry]) -> str:
    return "\n".join([f"\ndef {name}({args}):", *_body(entries, _Printer(arrays=True)), "    return", ""])
