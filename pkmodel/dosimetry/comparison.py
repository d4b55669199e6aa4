"""Doses of several agents, patients or regimens side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import DoseError
from .present import html_table, text_table
from .result import Doses

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DoseComparison(Mapping[str, Doses]):
    """Doses of several agents or patients side by side, by name."""

    results: Mapping[str, Doses]

    def __getitem__(self, name: str) -> Doses:
        return self.results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def table(self, organs: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per organ, one column per name: dose per activity [Gy/GBq]; nan where a name lacks the organ."""
        import pandas as pd

        known = list(dict.fromkeys(x for doses in self.results.values() for x in doses.organs))
        unknown = [x for x in organs or () if x not in known]
        if unknown:
            raise DoseError(f"{', '.join(map(repr, unknown))} is in none of these results; known: {', '.join(known)}")
        columns = {name: doses.table()["dose [Gy/GBq]"] for name, doses in self.results.items()}
        return pd.DataFrame(columns).reindex(list(organs or known)).rename_axis("organ")

    def _rows(self) -> tuple[list[str], list[list[Any]]]:
        table = self.table()
        return ["organ", *table.columns], [[str(i), *r] for i, r in zip(table.index, table.to_numpy(), strict=True)]

    def __str__(self) -> str:
        return "Absorbed dose per activity [Gy/GBq]\n" + text_table(*self._rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(*self._rows(), caption="Absorbed dose per activity [Gy/GBq]")
