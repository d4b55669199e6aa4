"""Conditions that a model's numbers must meet (`[[require]]`): a share above one, a KD that is not koff over kon.

They are looked at whenever a model is made, so that a file, a changed value and a patient's own organ are all refused
at once. What has no value yet is not judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sympy as sp

from .errors import ModelError
from .expressions import to_text
from .parts import Parameter, Requirement


def meet(requirements: Iterable[Requirement], parameters: Mapping[str, Parameter], who: str) -> None:
    """Check every requirement whose parameters all have values.

    Raises
    ------
    ModelError
        One does not hold; the message gives the condition, the numbers and the reason.
    """
    known: dict[str, sp.Expr | None] = {}
    for r in requirements:
        names = sorted(s.name for s in r.condition.free_symbols)
        numbers = {n: number(n, parameters, known) for n in names}
        if any(value is None for value in numbers.values()):
            continue
        holds = r.condition.xreplace({s: numbers[s.name] for s in r.condition.free_symbols})
        if holds is not sp.true and not bool(holds):
            found = ", ".join(f"{n} = {_said(n, numbers, parameters)}" for n in names)
            why = f": {r.why}" if r.why else ""
            raise ModelError(f"{who}: {to_text(r.condition)} does not hold, found {found}{why}")


def _said(name: str, numbers: Mapping[str, sp.Expr | None], parameters: Mapping[str, Parameter]) -> str:
    p = parameters[name]
    return f"{p.value:g} {p.unit}" if p.value is not None else f"{float(numbers[name] or 0):g} (canonical units)"


def number(name: str, parameters: Mapping[str, Parameter], known: dict[str, sp.Expr | None]) -> sp.Expr | None:
    """Value of a parameter in canonical units, formulas worked out; None where something has no value.

    Parameters
    ----------
    name : of a parameter [text]
    parameters : all of them
    known : what was worked out already; grows
    """
    if name in known:
        return known[name]
    known[name] = None  # stands while its formula is worked out: a circle has no value
    p = parameters[name]
    if p.formula is None:
        known[name] = None if p.value is None else sp.Float(p.canonical)
        return known[name]
    inside = {s: number(s.name, parameters, known) for s in p.formula.free_symbols}
    if all(v is not None for v in inside.values()):
        known[name] = p.formula.xreplace(inside).evalf()
    return known[name]
