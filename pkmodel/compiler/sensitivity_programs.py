"""Programs for derivatives of the solution, as tapes: pushed forward along directions, or pulled back as gradients.

Forward, lanes are directions; everything that belongs to the patient is one number for all of them. Backward, lanes are
patients. `second_order` has the matrices; `llvm_sensitivity` puts the programs together to a step.

Array names: y, u, Y: state at the start of the step, result and argument of a stage; s: derivative of y; M: the
matrices of the stages; weights: derivatives of the levers; dp: those of the parameters; v: solution of a transposed
solve with right-hand side b; back, bar, pbar: cotangents of y, of the levers, of the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .lower import Constants, Hoisting, Lowering
from .programs import Programs
from .second_order import Element, SecondOrder, second_order
from .tape import Builder, Tape

# Arguments with one number for all lanes, of the programs whose lanes are directions, and of "prepare" (stages).
SPREAD: Mapping[str, frozenset[str]] = {
    "prepare": frozenset({"y", "q"}),
    "push": frozenset({"M"}),
    "solve": frozenset({"w"}),
    "push_levers": frozenset({"q"}),
    "push_initial": frozenset({"q"}),
    "push_report": frozenset({"y", "q"}),
}


@dataclass(frozen=True, slots=True)
class SensitivityPrograms:
    """The tapes by name, and the sizes of their arrays.

    Once per patient and wherever a record switches a parameter::

        constants(q)                         fills q behind the parameters, for these programs and the system's own
        push_levers(q, dp, weights)          derivatives of the levers, then their negatives
        pull_levers(q, bar, pbar)            pbar += (d levers/dp)' bar

    At the start and at outputs::

        push_initial(q, dp, s)               s += (d y_0/dp) dp
        pull_initial(q, back, pbar)          pbar += (d y_0/dp)' back
        push_report(y, q, s, dp, out)        derivative of what is reported
        pull_report(y, q, g, back, pbar)     back += (d report/dy)' g, pbar += (d report/dp)' g

    In every step::

        prepare(Y, u, y, q, M)               the matrices of a stage
        push(Z, s, M, k)                     k += [J(Y) - J(y)] Z + G s
        pull(Y, y, u, v, b, q, g, z, back, bar)
                                             z = g v - b + [J(Y) - J(y)]' v; back += z + G' v; bar += F' v

    Parameters
    ----------
    second : SecondOrder
    tapes : programs by name
    places : (any, 3) array: row, entry of M and weight of every product that makes up F dp
    entries : length of M
    nq : length of q
    levers : number of levers; there are twice as many weights
    """

    second: SecondOrder
    tapes: Mapping[str, Tape]
    places: NDArray[np.int64]
    entries: int
    nq: int
    levers: int


def sensitivity_programs(
    programs: Programs,
    free: Iterable[int],
    *,
    stride: int = 8,
    transform: Callable[[SecondOrder], SecondOrder] = lambda second: second,
) -> SensitivityPrograms:
    """Write the programs.

    Parameters
    ----------
    programs : of the system
    free : positions in the system's parameters that derivatives may be asked for
    stride : distance in M between the entries of one stage
    transform : changes the matrices before they are written; for tests that leave something out
    """
    equations = programs.equations
    second = transform(second_order(equations, free))
    constants = equations.constants.copy()
    tapes = {"pull": _pull(programs, second, constants)}
    tapes["prepare"], tapes["push"], places, entries = _stage(programs, second, constants, stride)
    tapes["push_levers"], tapes["pull_levers"] = _levers(programs, second)
    tapes["push_initial"], tapes["pull_initial"] = _initial(programs, second)
    tapes["push_report"], tapes["pull_report"] = _report(programs, second, constants)
    tapes["constants"] = constants.tape()
    return SensitivityPrograms(second, tapes, places, entries, constants.size, len(second.levers))


def _writer(programs: Programs, second: SecondOrder, constants: Constants, builder: Builder) -> Hoisting:
    """Writer of a stage's expressions."""
    equations = programs.equations
    places = {s: ("q", i) for i, s in enumerate(equations.system.parameters)}
    places |= {s: ("Y", i) for i, s in enumerate(equations.system.states)}
    places |= {s: ("y", i) for i, s in enumerate(second.start)}
    places |= {s: ("u", i) for i, s in enumerate(second.stage)}
    at_start = dict(zip(equations.system.states, second.start, strict=True))
    write = Hoisting(builder, places, constants, equations.whole | {e.xreplace(at_start) for e in equations.whole})
    for symbol, value in second.cores.items():
        write.done[symbol] = write.number(value)
    return write


def _stage(
    programs: Programs, second: SecondOrder, constants: Constants, stride: int
) -> tuple[Tape, Tape, NDArray[np.int64], int]:
    """`prepare`, `push`, the places of the forcing, and the length of M; entries that differ in sign share a place."""
    values = Builder()
    write = _writer(programs, second, constants, values)
    slots: dict[int, int] = {}

    def place(element: Element) -> tuple[int, int]:
        sign, number = values.signed(write.number(element.value))
        return sign, slots.setdefault(number, len(slots))

    builder = Builder()
    rows: dict[int, list[int]] = {}
    for kind, vector in (("moving", "Z"), ("curvature", "s")):
        for element in getattr(second, kind):
            sign, at = place(element)
            product = builder.apply("mul", builder.load("M", at * stride), builder.load(vector, element.column))
            rows.setdefault(element.row, []).append(product if sign > 0 else builder.apply("neg", product))
    for row in sorted(rows):
        total = builder.load("k", row)
        for product in rows[row]:
            total = builder.apply("add", total, product)
        builder.store("k", row, total)
    levers = len(second.levers)
    forced = [(e.row, *place(e), e.column) for e in second.forcing]
    places = [(row, at * stride, lever if sign > 0 else levers + lever) for row, sign, at, lever in forced]
    for number, at in slots.items():
        values.store("M", at, number)
    return (
        values.tape("prepare", "Y", "u", "y", "q", "M"),
        builder.tape("push", "Z", "s", "M", "k"),
        np.array(sorted(places, key=lambda p: (p[2] % levers, p[0])), dtype=np.int64).reshape(-1, 3),
        max(len(slots), 1),
    )


def _pull(programs: Programs, second: SecondOrder, constants: Constants) -> Tape:
    builder = Builder()
    write = _writer(programs, second, constants, builder)
    n = len(second.start)
    v = [builder.load("v", i) for i in range(n)]

    def gather(elements: Iterable[Element], start: Mapping[int, int]) -> dict[int, int]:
        """start + transposed elements times v, by column."""
        total = dict(start)
        for e in elements:
            sign, number = builder.signed(write.number(e.value))
            product = builder.apply("mul", number, v[e.row])
            total[e.column] = builder.apply("add" if sign > 0 else "sub", total[e.column], product)
        return total

    g = builder.load("g", 0)
    b = [builder.load("b", i) for i in range(n)]
    z = gather(second.moving, {j: builder.apply("sub", builder.apply("mul", g, v[j]), b[j]) for j in range(n)})
    back = {j: builder.apply("add", builder.load("back", j), z[j]) for j in range(n)}
    results = {
        "z": z,
        "back": gather(second.curvature, back),
        "bar": gather(second.forcing, {k: builder.load("bar", k) for k in {e.column for e in second.forcing}}),
    }
    for array, values in results.items():
        for at, number in sorted(values.items()):
            builder.store(array, at, number)
    return builder.tape("pull", "Y", "y", "u", "v", "b", "q", "g", "z", "back", "bar")


def _products(builder: Builder, write: Lowering, elements: Iterable[Element], vector: str) -> dict[int, list[int]]:
    """Elements times a vector, by row."""
    rows: dict[int, list[int]] = {}
    for e in elements:
        rows.setdefault(e.row, []).append(builder.apply("mul", write.number(e.value), builder.load(vector, e.column)))
    return rows


def _transposed(elements: Iterable[Element]) -> list[Element]:
    return [Element(e.column, e.row, e.value) for e in elements]


def _accumulate(builder: Builder, rows: Mapping[int, list[int]], array: str) -> None:
    for row in sorted(rows):
        total = builder.load(array, row)
        for product in rows[row]:
            total = builder.apply("add", total, product)
        builder.store(array, row, total)


def _levers(programs: Programs, second: SecondOrder) -> tuple[Tape, Tape]:
    builder = Builder()
    write = Lowering(builder, programs.equations.places)
    rows = _products(builder, write, second.steering, "dp")
    count = len(second.levers)
    for row in range(count):
        total = builder.const(0.0)
        for product in rows.get(row, []):
            total = builder.apply("add", total, product)
        builder.store("weights", row, total)
        builder.store("weights", count + row, builder.apply("neg", total))
    push = builder.tape("push_levers", "q", "dp", "weights")
    builder = Builder()
    write = Lowering(builder, programs.equations.places)
    _accumulate(builder, _products(builder, write, _transposed(second.steering), "bar"), "pbar")
    return push, builder.tape("pull_levers", "q", "bar", "pbar")


def _initial(programs: Programs, second: SecondOrder) -> tuple[Tape, Tape]:
    tapes = []
    for name, elements, arrays in (
        ("push_initial", second.initial_by_parameter, ("q", "dp", "s")),
        ("pull_initial", _transposed(second.initial_by_parameter), ("q", "back", "pbar")),
    ):
        builder = Builder()
        write = Lowering(builder, programs.equations.places)
        _accumulate(builder, _products(builder, write, elements, arrays[1]), arrays[2])
        tapes.append(builder.tape(name, *arrays))
    return tapes[0], tapes[1]


def _report(programs: Programs, second: SecondOrder, constants: Constants) -> tuple[Tape, Tape]:
    builder = Builder()
    write = programs.equations.hoisting(builder, constants)
    rows = _products(builder, write, second.reported, "s")
    for row, products in _products(builder, write, second.reported_by_parameter, "dp").items():
        rows.setdefault(row, []).extend(products)
    for row in range(programs.no):
        first, *others = rows.get(row) or [builder.const(0.0)]
        for product in others:
            first = builder.apply("add", first, product)
        builder.store("out", row, first)
    push = builder.tape("push_report", "y", "q", "s", "dp", "out")
    builder = Builder()
    write = programs.equations.hoisting(builder, constants)
    _accumulate(builder, _products(builder, write, _transposed(second.reported), "g"), "back")
    _accumulate(builder, _products(builder, write, _transposed(second.reported_by_parameter), "g"), "pbar")
    return push, builder.tape("pull_report", "y", "q", "g", "back", "pbar")
