"""LLVM assembly as text: a `Module` is a list of functions, a `Writer` writes one of them.

Every value is a vector of `lanes` numbers, one patient a lane, or a plain ``double`` where `lanes` is one. The language
is described at https://llvm.org/docs/LangRef.html; pointers are opaque, as in LLVM 15 and later.

Two kinds of arithmetic exist. ``FAST`` may be regrouped and fused (``a*b + c`` rounded once), which costs no accuracy
that a rate law could notice. ``EXACT`` is IEEE 754 to the letter, for the error terms of the elementary functions,
which regrouping would cancel. Neither assumes that NaN and infinity do not exist: a failed patient is found by his NaN.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FAST = "reassoc nsz arcp contract "
FUSED = "contract "
EXACT = ""


@dataclass(slots=True)
class Module:
    """Functions and declarations, each written once, by name."""

    functions: dict[str, str] = field(default_factory=dict)
    declarations: dict[str, str] = field(default_factory=dict)

    def declare(self, name: str, text: str) -> str:
        """Make sure an outer function or intrinsic is known; returns its name."""
        self.declarations.setdefault(name, text)
        return name

    def once(self, name: str, write: Callable[[], None]) -> str:
        """Make sure a helper function is written; returns its name."""
        if name not in self.functions:
            self.functions[name] = ""  # a helper may need itself no more than once
            write()
        return name

    def __str__(self) -> str:
        return "\n".join([*self.declarations.values(), "", *self.functions.values(), ATTRIBUTES])


# Full-width registers where there are any; no frame pointer games, no unwinding.
ATTRIBUTES = 'attributes #0 = { nounwind noinline "prefer-vector-width"="512" "min-legal-vector-width"="512" }\n'


class Writer:
    """One function, written from the top; every method that computes returns the name of its result.

    Parameters
    ----------
    module : Module, that the finished function is added to
    name : str
    lanes : int, numbers of a vector [1]
    pointers : names of arguments that are arrays
    vectors : names of arguments that are vectors; a function with such arguments returns a vector
    internal : whether only functions of this module call it
    """

    def __init__(
        self,
        module: Module,
        name: str,
        lanes: int,
        pointers: Sequence[str] = (),
        vectors: Sequence[str] = (),
        *,
        internal: bool = False,
    ) -> None:
        self.module, self.name, self.first = module, name, 0
        self._shape(lanes)
        self.lines: list[str] = []
        self.count = 0
        self.blocks = 0
        self.block = "entry"
        arguments = [f"ptr noalias %{p}" for p in pointers] + [f"{self.type} %{v}" for v in vectors]
        result = self.type if vectors else "void"
        scope = "internal " if internal else ""
        self.head = f"define {scope}{result} @{name}({', '.join(arguments)}) #0 {{\nentry:"

    def _shape(self, lanes: int) -> None:
        """How many numbers a vector has, and what LLVM calls its type."""
        self.lanes = lanes
        self.type = f"<{lanes} x double>" if lanes > 1 else "double"
        self.whole = f"<{lanes} x i64>" if lanes > 1 else "i64"
        self.truth = f"<{lanes} x i1>" if lanes > 1 else "i1"
        self.suffix = f"v{lanes}f64" if lanes > 1 else "f64"

    @contextmanager
    def window(self, first: int, width: int) -> Iterator[None]:
        """Inside, vectors have `width` numbers, and vector 0 of an array starts at its number `first`."""
        lanes, before = self.lanes, self.first
        self._shape(width)
        self.first = first
        yield
        self._shape(lanes)
        self.first = before

    def end(self, result: str = "") -> None:
        """Close the function and add it to the module."""
        self.lines.append(f"ret {self.type} {result}" if result else "ret void")
        body = "\n".join(f"  {line}" if not line.endswith(":") else line for line in self.lines)
        self.module.functions[self.name] = f"{self.head}\n{body}\n}}\n"

    def write(self, text: str) -> str:
        """One instruction that has a result."""
        name = f"%t{self.count}"
        self.count += 1
        self.lines.append(f"{name} = {text}")
        return name

    # --- numbers -------------------------------------------------------------------------------------------------

    def number(self, value: float) -> str:
        """A constant, the same in all lanes."""
        text = f"0x{struct.pack('>d', value).hex().upper()}"
        return f"splat (double {text})" if self.lanes > 1 else text

    def integer(self, value: int) -> str:
        """A 64-bit whole constant, the same in all lanes."""
        return f"splat (i64 {value})" if self.lanes > 1 else str(value)

    def add(self, a: str, b: str, flags: str = FAST) -> str:
        return self.write(f"fadd {flags}{self.type} {a}, {b}")

    def sub(self, a: str, b: str, flags: str = FAST) -> str:
        return self.write(f"fsub {flags}{self.type} {a}, {b}")

    def mul(self, a: str, b: str, flags: str = FAST) -> str:
        return self.write(f"fmul {flags}{self.type} {a}, {b}")

    def div(self, a: str, b: str, flags: str = FAST) -> str:
        return self.write(f"fdiv {flags}{self.type} {a}, {b}")

    def neg(self, a: str) -> str:
        return self.write(f"fneg {self.type} {a}")

    def intrinsic(self, name: str, *values: str, flags: str = "") -> str:
        """An operation that LLVM knows by name (``fabs``, ``sqrt``, ``fma``, ...)."""
        full = f"llvm.{name}.{self.suffix}"
        types = ", ".join([self.type] * len(values))
        self.module.declare(full, f"declare {self.type} @{full}({types})")
        return self.write(f"call {flags}{self.type} @{full}({', '.join(f'{self.type} {v}' for v in values)})")

    def sum(self, a: str) -> str:
        """Sum of a vector's numbers, in any order."""
        if self.lanes == 1:
            return a
        full = f"llvm.vector.reduce.fadd.{self.suffix}"
        self.module.declare(full, f"declare double @{full}(double, {self.type})")
        return self.write(f"call {FAST}double @{full}(double 0.0, {self.type} {a})")

    def call(self, function: str, *pointers: str) -> None:
        """Call a function of the module that takes arrays."""
        self.lines.append(f"call void @{function}({', '.join(f'ptr {p}' for p in pointers)})")

    def apply(self, function: str, *values: str) -> str:
        """Call a function of the module that takes and returns vectors."""
        return self.write(f"call {self.type} @{function}({', '.join(f'{self.type} {v}' for v in values)})")

    # --- truth and bits ------------------------------------------------------------------------------------------

    def compare(self, how: str, a: str, b: str) -> str:
        """``olt``, ``oeq``, ... false with NaN; ``une``, ``uno``, ... true with NaN."""
        return self.write(f"fcmp {how} {self.type} {a}, {b}")

    def logic(self, how: str, a: str, b: str) -> str:
        """``and``, ``or``, ``xor`` of truth values."""
        return self.write(f"{how} {self.truth} {a}, {b}")

    def negate(self, a: str) -> str:
        """``not`` of a truth value."""
        return self.logic("xor", a, "splat (i1 true)" if self.lanes > 1 else "true")

    def select(self, condition: str, yes: str, no: str) -> str:
        return self.write(f"select {self.truth} {condition}, {self.type} {yes}, {self.type} {no}")

    def bits(self, a: str) -> str:
        """The 64 bits of each number."""
        return self.write(f"bitcast {self.type} {a} to {self.whole}")

    def from_bits(self, a: str) -> str:
        return self.write(f"bitcast {self.whole} {a} to {self.type}")

    def on_bits(self, how: str, a: str, b: str) -> str:
        """``add``, ``sub``, ``and``, ``or``, ``shl``, ``lshr`` of 64-bit whole numbers."""
        return self.write(f"{how} {self.whole} {a}, {b}")

    # --- memory --------------------------------------------------------------------------------------------------

    def address(self, array: str, at: int | str, width: int | None = None) -> str:
        """Where vector `at` of an array lies; `width` numbers each, from the first on (default: as in the window)."""
        first, width = (self.first, self.lanes) if width is None else (0, width)
        if isinstance(at, int):
            offset = first + at * width
            return self.write(f"getelementptr inbounds double, ptr {array}, i64 {offset}") if offset else array
        if first:
            array = self.write(f"getelementptr inbounds double, ptr {array}, i64 {first}")
        return self.write(f"getelementptr inbounds [{width} x double], ptr {array}, i64 {at}")

    def load(self, array: str, at: int | str) -> str:
        return self.write(f"load {self.type}, ptr {self.address(array, at)}, align 8")

    def spread(self, array: str, at: int | str) -> str:
        """One number of an array in all lanes."""
        return self.widen(self.write(f"load double, ptr {self.address(array, at, 1)}, align 8"))

    def widen(self, one: str) -> str:
        """A single number in all lanes."""
        if self.lanes == 1:
            return one
        first = self.write(f"insertelement {self.type} poison, double {one}, i64 0")
        return self.write(
            f"shufflevector {self.type} {first}, {self.type} poison, <{self.lanes} x i32> zeroinitializer"
        )

    def store(self, value: str, array: str, at: int | str) -> None:
        self.lines.append(f"store {self.type} {value}, ptr {self.address(array, at)}, align 8")

    # --- loops ---------------------------------------------------------------------------------------------------

    @contextmanager
    def loop(self, count: int, start: Sequence[str] = ()) -> Iterator[Loop]:
        """Repeat what is written inside `count` times; `start` are vectors carried from turn to turn."""
        self.blocks += 1
        before, inside, after = self.block, f"loop{self.blocks}", f"after{self.blocks}"
        self.lines += [f"br label %{inside}", f"{inside}:"]
        turn = f"%i{self.blocks}"
        carried = [f"{turn}.{k}" for k in range(len(start))]
        at = len(self.lines)
        self.block = inside
        state = Loop(turn, carried, list(carried))
        yield state
        heads = [f"{turn} = phi i64 [ 0, %{before} ], [ {turn}.next, %{self.block} ]"]
        heads += [
            f"{name} = phi {self.type} [ {first}, %{before} ], [ {last}, %{self.block} ]"
            for name, first, last in zip(carried, start, state.last, strict=True)
        ]
        self.lines[at:at] = heads
        self.lines += [
            f"{turn}.next = add nuw nsw i64 {turn}, 1",
            f"{turn}.more = icmp ult i64 {turn}.next, {count}",
            f"br i1 {turn}.more, label %{inside}, label %{after}",
            f"{after}:",
        ]
        self.block = after


@dataclass(slots=True)
class Loop:
    """Inside of a loop: its counter, the carried vectors as they come in, and as they leave (to be set)."""

    turn: str
    carried: list[str]
    last: list[str]
