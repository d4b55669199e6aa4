"""Work on expressions that share parts: each part once, however often it occurs.

The formulas of a whole body are written out in its rates: every flow of blood holds the heart's output, which holds the
body's mass. As a tree such a rate has a hundred times the nodes it has as a graph, and SymPy's own `xreplace`,
`free_symbols` and `atoms` walk the tree. These walk the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

import sympy as sp


def substitute[T: sp.Basic](
    e: T, swap: Mapping[sp.Basic, sp.Basic], known: dict[sp.Basic, sp.Basic] | None = None
) -> T:
    """``e.xreplace(swap)``, each shared part replaced once.

    Parameters
    ----------
    e : any expression or condition
    swap : what is replaced by what
    known : replaced already; give one dictionary to several calls with the same `swap`
    """
    done = {} if known is None else known

    def replaced(part: sp.Basic) -> sp.Basic:
        if part in swap:
            return swap[part]
        if not part.args:
            return part
        if part not in done:
            args = [replaced(a) for a in part.args]
            same = all(a is b for a, b in zip(args, part.args, strict=True))
            done[part] = part if same else part.func(*args)
        return done[part]

    result: T = replaced(e)
    return result


def substitute_all(expressions: Iterable[sp.Expr], swap: Mapping[sp.Basic, sp.Basic]) -> tuple[sp.Expr, ...]:
    """`substitute` for several expressions that share parts."""
    known: dict[sp.Basic, sp.Basic] = {}
    return tuple(substitute(e, swap, known) for e in expressions)


@lru_cache(maxsize=1 << 17)
def symbols_of(e: sp.Basic) -> frozenset[sp.Symbol]:
    """``e.free_symbols``, remembered for every part."""
    if isinstance(e, sp.Symbol):
        return frozenset((e,))
    found: frozenset[sp.Symbol] = frozenset()
    for a in e.args:
        inside = symbols_of(a)
        found = inside if inside >= found else found if found >= inside else found | inside
    return found


def parts_of(*expressions: sp.Basic) -> Iterator[sp.Basic]:
    """Every part of the expressions, each once."""
    waiting, seen = list(expressions), set(expressions)
    while waiting:
        part = waiting.pop()
        yield part
        for a in part.args:
            if a not in seen:
                seen.add(a)
                waiting.append(a)
