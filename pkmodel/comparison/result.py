"""What a comparison of formats found: one frozen table with draws, that prints, draws and writes itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..dosimetry.present import html_list, html_table, show, text_list, text_table
from ..errors import PkmodelError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.figure import Figure

CRITERION = (
    "image at: largest (T - B)^2/(T + B) exp(-lambda t), tumour T over background B, within ten half-lives; "
    "S/N: its root there, over that of the best format"
)
MATCH = "match: mean tumour uptake that the decays see, over the largest uptake; fits: half-life with the best match"
INDEX = "index: dose of the tumour when the first organ reaches its limit"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FormatComparison:
    """Formats of one binder in the same virtual patients, for several nuclides.

    Parameters
    ----------
    data : Dataset over format, label, nuclide, region, organ, time, draw. Typical patient as ``<name>_point``, the
        virtual patients as ``<name>`` along draw (nan: left out): uptake [%IA/g, decay-corrected], tiac [h],
        dose [Gy/GBq], best_time [h]; signal to noise, contrast [1] and uptake_then [%IA/g] at that time, nan where a
        lesion never stands out while there is activity; match [1], index [Gy],
        activity [GBq], ratio [1]; only typical: window_first, window_last [h], best_half_life [h], peak_time [h],
        limiting [text], cross_bound [Gy/GBq]
    warnings : sentences for the user [text]
    """

    data: xr.Dataset
    warnings: tuple[str, ...] = ()

    @property
    def formats(self) -> tuple[str, ...]:
        """Names of the formats."""
        return tuple(str(x) for x in self.data["format"].to_numpy())

    @property
    def nuclides(self) -> tuple[str, ...]:
        """Names of the nuclides."""
        return tuple(str(x) for x in self.data["nuclide"].to_numpy())

    @property
    def organs(self) -> tuple[str, ...]:
        """Names of everything that has a dose, the tumour first."""
        return tuple(str(x) for x in self.data["organ"].to_numpy())

    def table(self, nuclide: str | None = None) -> pd.DataFrame:
        """One row for each format and nuclide, with 5 and 95 % of the patients.

        Parameters
        ----------
        nuclide : only this one; default all [text]

        Raises
        ------
        PkmodelError
            The comparison has no such nuclide.
        """
        import pandas as pd

        rows = []
        for n in self._nuclides(nuclide):
            for f in self.formats:
                one = self.data.sel(format=f, nuclide=n)
                row: dict[str, Any] = {"nuclide": n, "format": f}
                for name, title in _COLUMNS.items():
                    row[title] = float(one[f"{name}_point"])
                    if name in one:
                        row[f"{title} 5 %"], row[f"{title} 95 %"] = _spread(one[name])
                for organ in self.organs:
                    d = one.sel(organ=organ)
                    row[f"dose {organ} [Gy/GBq]"] = float(d["dose_point"])
                    row[f"dose {organ} 5 %"], row[f"dose {organ} 95 %"] = _spread(d["dose"])
                    row[f"cross-dose {organ} at most [Gy/GBq]"] = float(d["cross_bound"])
                row["limiting organ"] = str(one["limiting"].item())
                rows.append(row)
        return pd.DataFrame(rows).set_index(["nuclide", "format"])

    def uptake_table(self) -> pd.DataFrame:
        """Uptake of every format and region over time, long: typical patient with 5 and 95 % [%IA/g]."""
        import pandas as pd

        parts = []
        for f in self.formats:
            for label in self.data["label"].to_numpy():
                one = self.data.sel(format=f, label=label)
                with np.errstate(all="ignore"):
                    low, high = np.nanquantile(one["uptake"].to_numpy(), [0.05, 0.95], axis=-1)
                for k, region in enumerate(self.data["region"].to_numpy()):
                    frame: dict[str, Any] = {"format": f, "label": str(label), "region": str(region)}
                    frame |= {"time [h]": self.data["time"].to_numpy()}
                    frame |= {"uptake [%IA/g]": one["uptake_point"].to_numpy()[k], "5 %": low[k], "95 %": high[k]}
                    parts.append(pd.DataFrame(frame))
        return pd.concat(parts, ignore_index=True)

    def __str__(self) -> str:
        blocks = [self._headline()]
        for n in self.nuclides:
            blocks += [f"\n{n}, half-life {show(float(self.data['half_life'].sel(nuclide=n)))} h"]
            blocks += [text_table(*self._rows(n))]
        blocks += ["", CRITERION, MATCH, INDEX, "in brackets: 5 to 95 % of the virtual patients"]
        return "\n".join(blocks) + text_list(self.warnings)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = [html_table(*self._rows(n), caption=f"{n}: {self._headline()}") for n in self.nuclides]
        return "".join(parts) + html_list([CRITERION, MATCH, INDEX, *self.warnings])

    def _headline(self) -> str:
        a = self.data.attrs
        return f"formats compared: {a['what']}, {a['patients']} virtual patients, {a['amount']} given"

    def _rows(self, nuclide: str) -> tuple[list[str], list[list[str]]]:
        one = self.data.sel(nuclide=nuclide)
        header = ["format", "image at [h]", "contrast", "S/N", "match", "fits [h]"]
        best = float(np.nanmax(one["signal_point"].to_numpy(), initial=0.0)) or np.nan
        header += [f"{o.replace('_', ' ')} [Gy/GBq]" for o in self.organs] + ["index [Gy]", "limited by"]
        rows = []
        for f in self.formats:
            x = one.sel(format=f)
            cells = [f, _cell(x, "best_time", 3), _cell(x, "contrast", 2)]
            cells += [show(float(x["signal_point"]) / best, 2), show(float(x["match_point"]), 2)]
            cells += [show(float(x["best_half_life_point"]), 2)]
            cells += [_cell(x.sel(organ=o), "dose", 2) for o in self.organs]
            rows.append([*cells, _cell(x, "index", 2), str(x["limiting"].item())])
        return header, rows

    def _nuclides(self, nuclide: str | None) -> Sequence[str]:
        if nuclide is None:
            return self.nuclides
        if nuclide not in self.nuclides:
            raise PkmodelError(
                f"nuclide {nuclide!r}{did_you_mean(nuclide, self.nuclides)}: compared were {', '.join(self.nuclides)}"
            )
        return (nuclide,)

    def plot(self, what: str = "overview", **options: Any) -> Figure:
        """Figure of ``"overview"``, ``"uptake"``, ``"contrast"``, ``"dose"`` or ``"index"``.

        Raises
        ------
        PkmodelError
            There is no such figure.
        """
        from ..plot_formats import comparison_figure

        return comparison_figure(self, what, **options)

    def to_netcdf(self, path: str | Path) -> None:
        """Write everything, draws included."""
        self.data.assign_attrs(warnings="\n".join(self.warnings)).to_netcdf(path, engine="h5netcdf")


_COLUMNS = {
    "best_time": "best imaging time [h]",
    "window_first": "90 % of that from [h]",
    "window_last": "90 % of that to [h]",
    "contrast": "tumour to background then",
    "signal": "signal to noise then [any]",
    "uptake_then": "tumour uptake then [%IA/g]",
    "match": "half-life match",
    "best_half_life": "half-life that fits best [h]",
    "peak_time": "tumour peak at [h]",
    "index": "tumour dose at the limit [Gy]",
    "ratio": "tumour over limiting organ",
    "activity": "activity at the limit [GBq]",
}


def _spread(values: xr.DataArray) -> tuple[float, float]:
    """5 and 95 % of the patients that count."""
    x = values.to_numpy().ravel()
    good = x[np.isfinite(x)]
    if good.size < 2 or 2 * good.size < x.size:  # most have none, so an interval of the others would mislead
        return float("nan"), float("nan")
    low, high = np.quantile(good, [0.05, 0.95])
    return float(low), float(high)


def _cell(one: xr.Dataset, name: str, digits: int) -> str:
    low, high = _spread(one[name])
    middle = show(float(one[f"{name}_point"]), digits)
    return middle if np.isnan(low) else f"{middle} ({show(low, digits)} to {show(high, digits)})"
