"""The tape: one straight-line program, written once and handed to every back end.

A tape reads numbers from named arrays, combines them one operation at a time, and stores results into named arrays.
Each operation gets the next number and names its operands by theirs, so a tape can be read from the top::

    0  load  y 0            # y[0]
    1  load  q 2            # q[2]
    2  mul   0 1
    store f 0 <- 2          # f[0] = y[0]*q[2]

The builder gives equal operations the same number: whatever is computed twice is computed once (common
subexpressions; value numbering, Cocke & Schwartz 1970). `llvm` turns a tape into vector machine code, one patient a
lane; `scalar` into the numba function that is its readable twin.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

# Operations by number of operands. Comparisons and logic give truth values, which only logic and "select" take.
# What every back end must agree on (`tape_reference` is the specification): arithmetic as in IEEE 754, so 0/0 is NaN
# and 1/0 infinite; log and sqrt of a negative number are NaN; pow as in C, so pow(x, 0) is 1 (also pow(0, 0)) and a
# negative base is NaN unless the power is whole; min and max are NaN where either operand is, and the first operand
# where both are equal; a comparison with NaN is false ("ne" true); select takes one value, whatever the other is.
NULLARY = ("load", "const")
UNARY = (
    "neg", "abs", "sqrt", "exp", "log", "tanh", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
    "floor", "ceil", "not",
)  # fmt: skip
BINARY = ("add", "sub", "mul", "div", "pow", "min", "max", "lt", "le", "gt", "ge", "eq", "ne", "and", "or")
TERNARY = ("select",)  # select(condition, if true, if false)
TRUTH = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not"})
COMMUTE = frozenset({"add", "mul", "eq", "ne", "and", "or"})
_FOLD: dict[str, Callable[..., float]] = {  # what is computed while the tape is written
    "neg": operator.neg, "abs": abs, "sqrt": math.sqrt, "exp": math.exp, "log": math.log, "tanh": math.tanh,
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "pow": math.pow,
}  # fmt: skip


class Operation(NamedTuple):
    """One line of a tape; ``load`` reads ``array[at]``, ``const`` is ``value``."""

    code: str
    operands: tuple[int, ...] = ()
    array: str = ""
    at: int = 0
    value: float = 0.0


class Store(NamedTuple):
    """``array[at] = operation number``."""

    array: str
    at: int
    source: int


@dataclass(frozen=True, slots=True)
class Tape:
    """A program; `arguments` are the arrays in the order of the compiled function's pointers.

    Loads come before stores, so an array may be both read and written (a solve in place). A store of an
    array that the program also reads never changes what a load sees.
    """

    name: str
    arguments: tuple[str, ...]
    operations: tuple[Operation, ...]
    stores: tuple[Store, ...]

    @property
    def flops(self) -> int:
        """Arithmetic operations, by which programs are compared."""
        return sum(o.code not in NULLARY for o in self.operations)

    def __str__(self) -> str:
        lines = [f"{self.name}({', '.join(self.arguments)})"]
        for k, o in enumerate(self.operations):
            what = f"{o.array}[{o.at}]" if o.code == "load" else f"{o.value!r}" if o.code == "const" else ""
            lines.append(f"{k:5d}  {o.code:6s} {what}{' '.join(map(str, o.operands))}".rstrip())
        lines += [f"{s.array}[{s.at}] = {s.source}" for s in self.stores]
        return "\n".join(lines)


@dataclass(slots=True)
class Builder:
    """Writes a tape; equal operations get the same number."""

    operations: list[Operation] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)
    known: dict[Operation, int] = field(default_factory=dict)

    def _number(self, operation: Operation) -> int:
        at = self.known.get(operation)
        if at is None:
            at = self.known[operation] = len(self.operations)
            self.operations.append(operation)
        return at

    def load(self, array: str, at: int) -> int:
        """``array[at]``."""
        return self._number(Operation("load", array=array, at=at))

    def const(self, value: float) -> int:
        """A number known now."""
        return self._number(Operation("const", value=float(value)))

    def apply(self, code: str, *operands: int) -> int:
        """One operation on earlier results.

        What is trivial is not written: numbers are combined now, x*1, x/1, x+0 and -(-x) are x, and signs move
        outwards (a*(-b) is -(a*b), a + (-b) is a - b) to where most of them meet another and vanish.
        """
        known = self._folded(code, operands)
        if known is not None:
            return known
        if code == "neg":
            return self._negated(operands[0])
        if code == "abs":
            return self._number(Operation(code, (self.signed(operands[0])[1],)))
        if code in ("add", "sub"):
            return self._added(operands[0], operands[1], code == "sub")
        if code in ("mul", "div"):
            return self._multiplied(code, operands[0], operands[1])
        if code == "pow" and self._is(operands[1], 1.0):
            return operands[0]
        return self._number(Operation(code, tuple(sorted(operands)) if code in COMMUTE else operands))

    def signed(self, number: int) -> tuple[int, int]:
        """A result as sign (1 or -1) and the result without it."""
        o = self.operations[number]
        if o.code == "neg":
            return -1, o.operands[0]
        if o.code == "const" and o.value < 0:
            return -1, self.const(-o.value)
        return 1, number

    def value(self, number: int) -> float | None:
        """The number itself where it is known now."""
        o = self.operations[number]
        return o.value if o.code == "const" else None

    def _folded(self, code: str, operands: tuple[int, ...]) -> int | None:
        values = [self.operations[a].value for a in operands if self.operations[a].code == "const"]
        if len(values) < len(operands) or code not in _FOLD:
            return None
        try:
            result = _FOLD[code](*values)
        except (ValueError, ArithmeticError):
            return None  # what is not a finite number is left to the machine, which has NaN and infinity
        return self.const(result) if math.isfinite(result) else None

    def _negated(self, a: int) -> int:
        o = self.operations[a]
        if o.code == "neg":
            return o.operands[0]
        if o.code == "sub":
            return self._number(Operation("sub", o.operands[::-1]))
        return self._number(Operation("neg", (a,)))

    def _added(self, a: int, b: int, subtract: bool) -> int:
        (of_a, x), (of_b, y) = self.signed(a), self.signed(b)
        if subtract:
            of_b = -of_b
        if self._is(y, 0.0):
            return a
        if self._is(x, 0.0):
            return y if of_b > 0 else self._negated(y)
        if of_a == of_b:
            both = self._number(Operation("add", (min(x, y), max(x, y))))
            return both if of_a > 0 else self._negated(both)
        return self._number(Operation("sub", (x, y) if of_a > 0 else (y, x)))

    def _multiplied(self, code: str, a: int, b: int) -> int:
        (of_a, x), (of_b, y) = self.signed(a), self.signed(b)
        if self._is(y, 1.0):
            result = x
        elif code == "mul" and self._is(x, 1.0):
            result = y
        else:
            result = self._number(Operation(code, (min(x, y), max(x, y)) if code == "mul" else (x, y)))
        return result if of_a == of_b else self._negated(result)

    def _is(self, number: int, value: float) -> bool:
        o = self.operations[number]
        return o.code == "const" and o.value == value

    def store(self, array: str, at: int, number: int) -> None:
        """``array[at] = result number``."""
        self.stores.append(Store(array, at, number))

    def tape(self, name: str, *arguments: str) -> Tape:
        """The finished program; what no store needs is left out.

        Raises
        ------
        ValueError
            The program uses an array that is not among the arguments.
        """
        used = {o.array for o in self.operations if o.code == "load"} | {s.array for s in self.stores}
        if missing := used - set(arguments):
            raise ValueError(f"tape {name}: uses {', '.join(sorted(missing))}, which is not an argument")
        operations = _divisions(self.operations, self.stores)
        needed = set()
        waiting = [s.source for s in self.stores]
        while waiting:
            k = waiting.pop()
            if k not in needed:
                needed.add(k)
                waiting.extend(operations[k].operands)
        new = {old: k for k, old in enumerate(sorted(needed))}
        written = tuple(
            o._replace(operands=tuple(new[a] for a in o.operands)) for k, o in enumerate(operations) if k in needed
        )
        return Tape(name, arguments, written, tuple(s._replace(source=new[s.source]) for s in self.stores))


def _divisions(operations: list[Operation], stores: list[Store]) -> list[Operation]:
    """a*(1/b) as a/b where that reciprocal serves nobody else: a reciprocal pays when it is shared."""
    uses = Counter(a for o in operations for a in o.operands) + Counter(s.source for s in stores)
    out = list(operations)
    for k, o in enumerate(operations):
        if o.code != "mul":
            continue
        for r, other in (o.operands, o.operands[::-1]):
            of = operations[r]
            if of.code == "div" and uses[r] == 1 and operations[of.operands[0]] == Operation("const", value=1.0):
                out[k] = Operation("div", (other, of.operands[1]))
                break
    return out
