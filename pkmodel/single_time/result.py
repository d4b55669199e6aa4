"""`ReducedScan`: what one, two or three scans say of a patient whose population is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Curves
from ..dosimetry.absorbed import dose
from ..dosimetry.present import html_list, html_table, text_list, text_table
from ..dosimetry.result import TIA, Doses
from ..dosimetry.values import spread
from ..inference.population_file import PopulationModel
from .practice import Practised
from .sampling import Draws

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

POPULATION = "population model"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ReducedScan:
    """Time-integrated activities of one cycle from few scans, beside the answers of daily practice.

    Parameters
    ----------
    population : what was known before
    curves : the scans of this cycle
    previous : scans of earlier cycles
    tia : per region, with draws; goes on to `dose`
    practised : answers of daily practice for the same scans
    parameters : table of the patient's parameters: typical, estimate, 95 % interval in their unit, shrinkage [1]
    information : region -> share of the population's variance of ln TIA that the scans took away [1]
    distance : of the patient from the population: squared distance, its degrees of freedom, and how many patients in a
        population lie farther [1]
    draws : of the parameters and integrals
    method : how the draws were made [text]
    """

    population: PopulationModel
    curves: Curves
    previous: tuple[Curves, ...]
    tia: TIA
    practised: tuple[Practised, ...]
    parameters: pd.DataFrame
    information: dict[str, float]
    distance: tuple[float, int, float]
    draws: Draws
    method: str

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before using the numbers."""
        return self.tia.warnings

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the regions."""
        return self.tia.organs

    @property
    def table(self) -> pd.DataFrame:
        """One row per region and method: TIA with its 95 % interval [MBq h], TIAC [h], half-life used [h]."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        given = self.tia.injected_activity
        for region in self.regions:
            one = self.tia.data.sel(organ=region)
            _, low, high = spread(one["tia"].to_numpy())
            point = float(one["tia_point"])
            rows.append(_row(region, POPULATION, point, low, high, given, np.nan, ""))
            rows += [
                _row(region, p.method, p.tia, np.nan, np.nan, given, p.half_life, p.note)
                for p in self.practised
                if p.region == region
            ]
        return pd.DataFrame(rows).set_index(["region", "method"])

    def dose(self, **settings: Any) -> Doses:
        """Absorbed doses with their intervals: `dose` of the TIA, with its settings (masses, s, body_mass)."""
        return dose(self.tia, **settings)

    def plot(self) -> Figure:
        """TIA of each region by every method, with the interval of the population's."""
        from ..plot_single_time import single_time_figure

        return single_time_figure(self)

    def _heading(self) -> str:
        scans = sorted({f"{t:.4g}" for c in self.curves for t in c.t}, key=float)
        cycle = f", cycle {self.curves.occasion}" if self.curves.occasion else ""
        earlier = f", after {len(self.previous)} earlier cycle{'s'[: len(self.previous) > 1]}" if self.previous else ""
        return (
            f"TIA of {self.curves.subject}{cycle} from {len(scans)} scan{'s'[: len(scans) > 1]} at {', '.join(scans)} h"
            f"{earlier}: population of {self.population.model}, {self.method}"
        )

    def _lines(self) -> tuple[list[str], list[list[Any]]]:
        table = self.table.reset_index()
        return [str(c) for c in table.columns], table.to_numpy().tolist()

    def __str__(self) -> str:
        return self._heading() + "\n" + text_table(*self._lines()) + text_list(self.warnings)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(*self._lines(), caption=self._heading()) + html_list(self.warnings)


def _row(
    region: str, method: str, tia: float, low: float, high: float, given: float, half_life: float, note: str
) -> dict[str, Any]:
    return {
        "region": region,
        "method": method,
        "TIA [MBq h]": tia,
        "2.5 %": low,
        "97.5 %": high,
        "TIAC [h]": tia / given,
        "half-life [h]": half_life,
        "note": note,
    }
