"""Algebraic rules, 0 = f, as assignment rules: each is solved for the one variable that nothing else determines.

A variable is free where it is not constant, has no rule, takes part in no reaction (or as a boundary species), and no
event sets it. A rule that holds one free variable gives it; that may leave one in another rule, and so on. What then
stands with none, or with several, cannot be followed: the file has too many equations, too few, or some that must be
solved together.
"""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from ..errors import ModelError
from ..expressions import symbol, to_text
from .document import Document


def solved(document: Document) -> Document:
    """The document with an assignment rule in place of each algebraic one.

    Raises
    ------
    ModelError
        A rule cannot be solved by itself, or is not linear in its variable.
    """
    waiting = list(document.algebraic)
    assignment = dict(document.assignment)
    free = _free(document)
    while waiting:
        ready = [rule for rule in waiting if len(_in(rule[1], free)) == 1]
        if not ready:
            line, rule = waiting[0]
            found = ", ".join(_in(rule, free)) or "none"
            raise ModelError(
                f"{document.who}, line {line}: an algebraic rule that does not determine one variable by itself (free "
                f"in it: {found}) is not supported; write an assignment rule"
            )
        line, rule = ready[0]
        (name,) = _in(rule, free)
        assignment[name] = _solution(rule, name, f"{document.who}, line {line}")
        waiting.remove(ready[0])
        free.discard(name)
    return replace(document, assignment=assignment)


def _free(document: Document) -> set[str]:
    """Variables that nothing determines."""
    reacting = {p.species for r in document.reactions.values() for p in r.participants}
    known = {*document.assignment, *document.rate, *(t for e in document.events for t in e.assignments)}
    return {
        q.id
        for q in document.quantities.values()
        if not q.constant and q.id not in known and (q.boundary or q.id not in reacting)
    }


def _in(rule: sp.Expr, free: set[str]) -> tuple[str, ...]:
    return tuple(sorted(s.name for s in rule.free_symbols if s.name in free))


def _solution(rule: sp.Expr, name: str, who: str) -> sp.Expr:
    """Solve 0 = a x + b for x."""
    x = symbol(name)
    slope = sp.diff(rule, x)
    if slope == 0 or x in slope.free_symbols:
        raise ModelError(
            f"{who}: an algebraic rule that is not linear in {name}, {to_text(rule)[:80]} = 0, is not supported; write "
            "an assignment rule"
        )
    return -rule.xreplace({x: sp.Integer(0)}) / slope
