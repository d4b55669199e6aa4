"""What every PET method returns: named estimates with errors, the points and which of them counted, and what to know.

Names follow the consensus nomenclature (Innis 2007, doi:10.1038/sj.jcbfm.9600493).
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """One result: value, standard error (0: fixed, nan: unknown), unit, and what it is."""

    name: str
    value: float
    se: float
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """What a method compares: the ordinate as measured and as fitted, over time and over its abscissa.

    x, y and fitted are those of the method's own plot; for methods that fit the curve itself, x is time.
    """

    t: Array  # (n,) middle of each frame [min]
    x: Array  # (n,)
    y: Array  # (n,)
    fitted: Array  # (n,)
    used: NDArray[np.bool_]  # (n,)
    variance: Array  # (n,) of y, up to one factor
    x_label: str
    y_label: str


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class PetResult:
    """Estimates of one method for one region.

    Parameters
    ----------
    method, subject, region : names [text]
    estimates : in the order of importance
    points : the data in the method's own coordinates
    t_star : middle of the first frame used, nan where the method uses all [min]
    settings : what was fixed or chosen [text]
    bias : what is known to be wrong with the method, in words [text]
    notes : what was done to the data [text]
    warnings : what should make a reader doubt the numbers [text]
    reference : where the method is described [text]
    """

    method: str
    subject: str
    region: str
    estimates: tuple[Estimate, ...]
    points: Points
    reference: str
    bias: str
    t_star: float = float("nan")
    settings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    straight: bool = False  # whether the plot is a line through points

    def __getitem__(self, name: str) -> float:
        return self.estimate(name).value

    def estimate(self, name: str) -> Estimate:
        """One estimate by its name.

        Raises
        ------
        FitError
            The method does not estimate it.
        """
        for one in self.estimates:
            if one.name == name:
                return one
        known = [e.name for e in self.estimates]
        raise FitError(f"{self.method}: no {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")

    @property
    def values(self) -> dict[str, float]:
        """Name -> value."""
        return {e.name: e.value for e in self.estimates}

    @property
    def residuals(self) -> Array:
        """(n,) measured minus fitted ordinate, all points [unit of the ordinate]."""
        return self.points.y - self.points.fitted

    @property
    def table(self) -> pd.DataFrame:
        """One row per estimate: value, se, rse_percent, unit, meaning."""
        import pandas as pd

        rows = [[e.value, e.se, _relative(e), e.unit, e.meaning] for e in self.estimates]
        columns = ["value", "se", "rse_percent", "unit", "meaning"]
        return pd.DataFrame(rows, index=pd.Index([e.name for e in self.estimates], name="parameter"), columns=columns)

    def plot(self, **options: Any) -> Any:
        """Figure of points, fit and residuals (see `pkmodel.plot_pet.pet_figure`)."""
        from ..plot_pet import pet_figure

        return pet_figure(self, **options)

    def _rows(self) -> list[list[str]]:
        rows = [["parameter", "value", "se", "RSE %", "unit"]]
        for e in self.estimates:
            fixed = e.se == 0
            se = "fixed" if fixed else "unknown" if np.isnan(e.se) else f"{e.se:.2g}"
            rse = "" if fixed or np.isnan(e.se) else f"{_relative(e):.1f}"
            rows.append([e.name, f"{e.value:.5g}", se, rse, e.unit])
        return rows

    def _words(self) -> list[str]:
        lines = [f"known bias: {self.bias}"] if self.bias else []
        lines += [f"note: {x}" for x in self.notes]
        return lines + [f"warning: {x}" for x in self.warnings]

    def _title(self) -> str:
        used = int(self.points.used.sum())
        where = "" if np.isnan(self.t_star) else f" from t* = {self.t_star:.4g} min"
        chosen = f" ({'; '.join(self.settings)})" if self.settings else ""
        return f"{self.method}: {self.region}, {self.subject}; {used} of {self.points.t.size} points{where}{chosen}"

    def __str__(self) -> str:
        rows = self._rows()
        widths = [max(len(r[k]) for r in rows) for k in range(5)]
        lines = [
            "  ".join([r[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(r[1:4], widths[1:4], strict=True)), r[4]])
            for r in rows
        ]
        return "\n".join([self._title(), *(x.rstrip() for x in lines), *self._words()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, *body = self._rows()
        cells = "".join(f"<th>{html.escape(c)}</th>" for c in head)
        lines = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in body)
        words = "".join(f"<li>{html.escape(w)}</li>" for w in self._words())
        return f"<p><b>{html.escape(self._title())}</b></p><table><tr>{cells}</tr>{lines}</table><ul>{words}</ul>"


def _relative(e: Estimate) -> float:
    return float("nan") if e.value == 0 else 100.0 * e.se / abs(e.value)
