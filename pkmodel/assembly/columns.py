"""The organ table: ``[table.X]`` gives X_<organ> for the organs that ask for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ModelError, did_you_mean
from ..expressions import FUNCTIONS, symbol
from ..model import Parameter
from ..model_file import read_parameter
from .layers import EVERY
from .tree import Leaf

ABOUT = ("unit", "meaning", "source", "status", "cv", "lower", "upper", "fixed")
_COLUMN = (*ABOUT, "values", "formula", "organs")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def names_in(formula: str) -> set[str]:
    """Names of parameters in a formula of a model file."""
    return {w for w in _WORD.findall(formula) if w not in FUNCTIONS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One ``[table.X]`` of one file."""

    name: str
    about: Mapping[str, Any]
    values: Mapping[str, Any]
    organs: tuple[str, ...]  # of the formula; empty: of all
    depth: int
    origin: str

    def rank(self, organ: str) -> tuple[int, int] | None:
        """How strong its word on an organ is (the lower the stronger), None where it has none.

        An organ named beats ``"*"``; of two equal ones, the file nearer to the root has the last word.
        """
        if organ in self.values or organ in self.organs:
            return 0, self.depth
        if EVERY in self.values or ("formula" in self.about and not self.organs):
            return 1, self.depth
        return None

    def entry(self, organ: str) -> dict[str, Any]:
        """The parameter of one organ, in the words of a model file."""
        if organ not in self.values and "formula" in self.about and (organ in self.organs or not self.organs):
            return dict(self.about)
        said = self.values.get(organ, self.values.get(EVERY))
        about = {k: v for k, v in self.about.items() if k != "formula"}
        return {**about, **(said if isinstance(said, Mapping) else {"value": said})}


def read_column(name: str, raw: Any, leaf: Leaf) -> Column:
    """One column of a file.

    Raises
    ------
    ModelError
        A key is not known, or there is neither a value nor a formula.
    """
    who = f"{leaf.origin}: [table.{name}]"
    if not isinstance(raw, Mapping):
        raise ModelError(f"{who}: a column is a table with unit, values and source, found {raw!r}")
    for key in raw:
        if key not in _COLUMN:
            raise ModelError(
                f"{who}: key {key!r} is not known{did_you_mean(key, _COLUMN)}; allowed: {', '.join(_COLUMN)}"
            )
    values = raw.get("values", {})
    if not isinstance(values, Mapping) or not (values or "formula" in raw):
        raise ModelError(f'{who}: needs values = {{ liver = 1.8, "*" = 0.5 }} or a formula')
    about = {k: v for k, v in raw.items() if k in (*ABOUT, "formula")}
    organs = tuple(raw.get("organs", ()))
    return Column(name=name, about=about, values=values, organs=organs, depth=leaf.depth, origin=who)


class Table:
    """All columns, and the names they and the layers make: what resolves ``Bmax_liver``."""

    def __init__(self, columns: Iterable[Column], bases: Iterable[str], instances: Iterable[str]) -> None:
        self.columns: dict[str, list[Column]] = {}
        for c in columns:
            self.columns.setdefault(c.name, []).append(c)
        self.bases = {*bases, *self.columns}
        self.instances = tuple(instances)

    def split(self, name: str) -> tuple[str, str] | None:
        """``Bmax_liver`` -> (Bmax, liver); None where it is no such name."""
        for organ in self.instances:
            base = name.removesuffix(f"_{organ}")
            if base != name and base in self.bases:
                return base, organ
        return None

    def find(self, base: str, organ: str, known: Iterable[str] = ()) -> Parameter | None:
        """The parameter that the columns give for one organ, if they do.

        Raises
        ------
        ModelError
            Two files of equal standing disagree.
        """
        ranked = sorted(
            ((rank, c) for c in self.columns.get(base, ()) if (rank := c.rank(organ)) is not None), key=lambda x: x[0]
        )
        if not ranked:
            return None
        first, *others = [(rank, self._read(c, base, organ, known)) for rank, c in ranked]
        for rank, other in others:
            if rank == first[0] and (other.value, other.formula, other.unit) != (
                first[1].value, first[1].formula, first[1].unit,
            ):  # fmt: skip
                raise ModelError(
                    f"{ranked[0][1].origin} and {ranked[1][1].origin} differ about {base}_{organ}; "
                    "say which in [set] of the file that brings them together"
                )
        return first[1]

    def _read(self, c: Column, base: str, organ: str, known: Iterable[str]) -> Parameter:
        raw = c.entry(organ)
        names = names_in(str(raw.get("formula", "")))
        p = read_parameter(f"{base}_{organ}", raw, names, f"{c.origin}: {organ}")
        return self.suffixed(p, organ, known)

    def suffixed(self, p: Parameter, organ: str, known: Iterable[str] = ()) -> Parameter:
        """The formula of a column with the organ's own names in it."""
        if p.formula is None:
            return p
        swap = {
            s: symbol(f"{s.name}_{organ}")
            for s in p.formula.free_symbols
            if s.name in self.bases and s.name not in known
        }
        return replace(p, formula=p.formula.xreplace(swap))
