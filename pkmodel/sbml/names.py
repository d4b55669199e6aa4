"""Names of a file made fit for a model, and the way back."""

from __future__ import annotations

import keyword
from collections.abc import Mapping

from ..errors import ExpressionError
from ..expressions import check_name


class SafeNames:
    """Gives each id of a file a name that a model may use, always the same one; `original` maps them back.

    Parameters
    ----------
    wishes : id -> what to name it after; default the id itself
    """

    def __init__(self, wishes: Mapping[str, str] | None = None) -> None:
        self.original: dict[str, str] = {}
        self._safe: dict[str, str] = {}
        self._wishes = wishes or {}

    def __call__(self, id: str) -> str:
        """The name of an id of the file."""
        if id not in self._safe:
            self._safe[id] = self._new(self._wishes.get(id, id))
            self.original[self._safe[id]] = id
        return self._safe[id]

    def fresh(self, wish: str) -> str:
        """A name that nothing has yet, near to `wish`."""
        name = self._new(wish)
        self.original[name] = wish
        return name

    def _new(self, wish: str) -> str:
        name = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in wish)
        name = name.lstrip("_") + "_" * (len(name) - len(name.lstrip("_")))  # a name begins with a letter
        if not name or not name[0].isalpha():
            name = f"n{name}"
        if keyword.iskeyword(name):
            name += "_"
        try:
            check_name(name, "")
        except ExpressionError:
            name += "_"
        count, base = 2, name
        while name in self.original:
            name, count = f"{base}_{count}", count + 1
        return name
