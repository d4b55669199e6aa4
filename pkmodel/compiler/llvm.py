"""A tape as LLVM assembly: the back end that makes one patient a lane of a vector.

Operations are written in the order of the tape, which groups what belongs together; a load is written where its value
is first needed and a store as soon as its value is known. So few values are alive at a time, and registers hold most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from .assembly import FAST, Module, Writer
from .llvm_math import LIBRARY, VECTOR, vector_function
from .tape import NULLARY, Operation, Store, Tape

_COMPARE = {"lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "eq": "oeq", "ne": "une"}
_INTRINSIC = {"abs": "fabs", "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "min": "minimum", "max": "maximum"}


def emit(
    module: Module,
    tape: Tape,
    lanes: int,
    *,
    broadcast: frozenset[str] = frozenset(),
    internal: bool = False,
    accumulate: frozenset[str] = frozenset(),
    name: str = "",
) -> None:
    """Write a tape into a module as ``void name(double *, ...)``, one pointer an argument of the tape.

    Parameters
    ----------
    module : Module, that the function is added to
    tape : Tape
    lanes : int, patients computed at once [1]
    broadcast : arrays with one number ``a[i]`` for all lanes; all others hold ``a[i*lanes + lane]``
    internal : whether only functions of this module call it
    accumulate : arrays that a store adds to instead of setting; the tape must not load them
    name : of the function, by default the tape's

    Raises
    ------
    ValueError
        The tape stores into an array with one number for all lanes.
    """
    if wrong := {s.array for s in tape.stores} & broadcast:
        raise ValueError(f"tape {tape.name}: stores into {', '.join(sorted(wrong))}, which has no lanes")
    w = Writer(module, name or tape.name, lanes, tape.arguments, internal=internal)
    read = {(o.array, o.at): k for k, o in enumerate(tape.operations) if o.code == "load"}
    stores: dict[int, list[Store]] = defaultdict(list)
    for s in tape.stores:
        stores[s.source].append(s)
    value: dict[int, str] = {}

    def need(k: int) -> str:
        if k not in value:
            o = tape.operations[k]
            value[k] = _operation(w, o, [need(a) for a in o.operands], broadcast)
        return value[k]

    def put(k: int) -> None:
        for s in stores[k]:
            result = need(k)
            if (s.array, s.at) in read:
                need(read[s.array, s.at])  # what is overwritten is read first
            if s.array in accumulate:
                result = w.add(w.load(f"%{s.array}", s.at), result)
            w.store(result, f"%{s.array}", s.at)

    late = [k for k, o in enumerate(tape.operations) if o.code in NULLARY]  # loads and constants wait for their use
    for k, o in enumerate(tape.operations):
        if o.code not in NULLARY:
            need(k)
            put(k)
    for k in late:
        put(k)
    w.end()


def _operation(w: Writer, o: Operation, v: list[str], broadcast: frozenset[str]) -> str:
    if o.code == "load":
        return (w.spread if o.array in broadcast else w.load)(f"%{o.array}", o.at)
    if o.code == "const":
        return w.number(o.value)
    if o.code in _COMPARE:
        return w.compare(_COMPARE[o.code], *v)
    if o.code in VECTOR or o.code in LIBRARY:
        return w.apply(vector_function(w.module, o.code, w.lanes), *v)
    if o.code in _INTRINSIC:
        return w.intrinsic(_INTRINSIC[o.code], *v, flags=FAST)
    simple: dict[str, Callable[..., str]] = {
        "add": w.add, "sub": w.sub, "mul": w.mul, "div": w.div, "neg": w.neg, "select": w.select, "not": w.negate,
    }  # fmt: skip
    if o.code in simple:
        return simple[o.code](*v)
    return w.logic(o.code, *v)
