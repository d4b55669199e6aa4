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

from dataclasses import dataclass, field
from typing import NamedTuple

# Operations by number of operands. Comparisons and logic give truth values, which only logic and "select" take.
NULLARY = ("load", "const")
UNARY = (
    "neg", "abs", "sqrt", "exp", "log", "tanh", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
    "floor", "ceil", "not",
)  # fmt: skip
BINARY = ("add", "sub", "mul", "div", "pow", "min", "max", "lt", "le", "gt", "ge", "eq", "ne", "and", "or")
TERNARY = ("select",)  # select(condition, if true, if false)
TRUTH = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not"})
COMMUTE = frozenset({"add", "mul", "min", "max", "eq", "ne", "and", "or"})


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
        """One operation on earlier results; what is trivial (x*1, x+0, x/1, -(-x)) is not written."""
        if len(operands) == 2:
            a, b = operands
            one, zero = self._is(b, 1.0), self._is(b, 0.0)
            if (code in ("mul", "div", "pow") and one) or (code in ("add", "sub") and zero):
                return a
            if (code == "mul" and self._is(a, 1.0)) or (code == "add" and self._is(a, 0.0)):
                return b
            if code == "sub" and self._is(a, 0.0):
                return self.apply("neg", b)
            if code in COMMUTE:
                operands = (a, b) if a <= b else (b, a)
        if code == "neg" and self.operations[operands[0]].code == "neg":
            return self.operations[operands[0]].operands[0]
        return self._number(Operation(code, operands))

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
        needed = set()
        waiting = [s.source for s in self.stores]
        while waiting:
            k = waiting.pop()
            if k not in needed:
                needed.add(k)
                waiting.extend(self.operations[k].operands)
        new = {old: k for k, old in enumerate(sorted(needed))}
        operations = tuple(
            o._replace(operands=tuple(new[a] for a in o.operands)) for k, o in enumerate(self.operations) if k in needed
        )
        return Tape(name, arguments, operations, tuple(s._replace(source=new[s.source]) for s in self.stores))
