"""What the dosimetry verbs hand on: time-integrated activities (TIA) and absorbed doses (Doses).

Each is a thin, frozen wrapper around an xarray Dataset with units in the attributes. A value appears twice: as a
point estimate (``tia_point``) and as draws (``tia``), so that uncertainty travels without extra code. The kinetics
travel too, as a sum of exponentials::

    A(t) = TIA * sum_i share_i * rate_i * exp(-rate_i t),   sum_i share_i = 1

because biological effects depend on the dose rate. Shares may be negative (uptake); unused terms have share 0 and
rate 1; nan means that the kinetics are not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..errors import DoseError
from ..nuclides import nuclide as find_nuclide
from ..parts import WHOLE_BODY
from .present import html_list, html_table, text_list, text_table
from .values import canonical, lognormal, spread, stream, tia_factor, variable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]

_ROUNDING = 1e-9  # an activity that stays for ever has exactly the physical mean life: allow for rounding


def _check_names(what: str, data: xr.Dataset, needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in data]
    if missing:
        raise DoseError(f"{what}: the Dataset lacks {', '.join(missing)}; needed: {', '.join(needed)}")


def _check_finite(what: str, data: xr.Dataset, names: Sequence[str], unit: str) -> None:
    """Refuse a value that is negative or not a number, naming the organ it belongs to."""
    for name in names:
        values = data[name].to_numpy().reshape(data.sizes["organ"], -1)
        for organ, row in zip(data["organ"].to_numpy(), values, strict=True):
            wrong = row[~(np.isfinite(row) & (row >= 0))]
            if wrong.size:
                raise DoseError(
                    f"{organ}: {what} ({name}) has {wrong.size} of {row.size} values that are negative or not finite, "
                    f"the first is {wrong[0]:g} {unit}; allowed: finite and not negative. "
                    "Check the fit of this region, or leave the region out"
                )


def select(data: xr.Dataset, organs: Sequence[str] | None) -> list[str]:
    """Give all organs of a result, or those asked for where it has them."""
    known = [str(x) for x in data["organ"].to_numpy()]
    if organs is None:
        return known
    unknown = [x for x in organs if x not in known]
    if unknown:
        raise DoseError(f"{', '.join(map(repr, unknown))} is not in this result; it has: {', '.join(known)}")
    return list(organs)


def title(data: xr.Dataset, what: str) -> str:
    """Give the headline of a result: of whom, which nuclide, how much, by which method."""
    attrs = data.attrs
    who = " ".join(str(attrs[k]) for k in ("study", "subject") if attrs.get(k))
    return (
        f"{what}{' of ' + who if who else ''}: {attrs.get('nuclide', '')}, "
        f"{attrs['injected_activity_MBq']:.6g} MBq injected, method {attrs.get('method') or 'not said'}"
    )


class _Result:
    """What TIA and Doses share: a table, its text and HTML, and a NetCDF file."""

    __slots__ = ()
    data: xr.Dataset
    warnings: tuple[str, ...]
    _what = ""

    def table(self, organs: Sequence[str] | None = None) -> pd.DataFrame:
        raise NotImplementedError

    @property
    def organs(self) -> tuple[str, ...]:
        """Names of the organs in this result."""
        return tuple(str(x) for x in self.data["organ"].to_numpy())

    @property
    def nuclide(self) -> str:
        """Canonical name of the nuclide."""
        return str(self.data.attrs["nuclide"])

    @property
    def injected_activity(self) -> float:
        """Injected activity [MBq]."""
        return float(self.data.attrs["injected_activity_MBq"])

    def _rows(self) -> tuple[list[str], list[list[Any]]]:
        table = self.table()
        header = [str(table.index.name), *map(str, table.columns)]
        return header, [[str(i), *row] for i, row in zip(table.index, table.to_numpy(), strict=True)]

    def __str__(self) -> str:
        return title(self.data, self._what) + "\n" + text_table(*self._rows()) + text_list(self.warnings)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(*self._rows(), caption=title(self.data, self._what)) + html_list(self.warnings)

    def to_netcdf(self, path: str | Path) -> None:
        """Write the Dataset with its warnings as a NetCDF file."""
        data = self.data.assign_attrs(warnings="\n".join(self.warnings))
        data.to_netcdf(path, engine="h5netcdf")


def _read_netcdf(path: str | Path) -> tuple[xr.Dataset, tuple[str, ...]]:
    with xr.open_dataset(path, engine="h5netcdf") as file:
        data = file.load()
    warnings = str(data.attrs.pop("warnings", ""))
    return data, tuple(x for x in warnings.split("\n") if x)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TIA(_Result):
    """Time-integrated activity of organs and tumours, with draws and kinetics.

    Parameters
    ----------
    data : Dataset over organ, draw, term: tia_point, tia [MBq h], tiac_point, tiac [h], extrapolated_fraction [1],
        rate_point, rate [1/h], share_point, share [1]; attributes nuclide, injected_activity_MBq, method, study,
        subject
    warnings : tuple of sentences for the user [text]

    Raises
    ------
    DoseError
        A value is negative or not finite, or a TIAC is above the physical mean life of the nuclide: more than the
        injected activity, staying for ever, could give.
    """

    data: xr.Dataset
    warnings: tuple[str, ...] = ()
    _what = "Time-integrated activity"

    def __post_init__(self) -> None:
        needed = ("tia_point", "tia", "tiac_point", "tiac", "extrapolated_fraction")
        _check_names("TIA", self.data, (*needed, "rate_point", "share_point", "rate", "share"))
        _check_finite("TIA", self.data, ("tia_point", "tia"), "MBq h")
        given = str(self.data.attrs.get("given") or self.nuclide)  # of a daughter: the nuclide that was injected
        mean_life = max(1.0 / find_nuclide(n).decay_constant for n in (self.nuclide, given))
        for organ, tiac in zip(self.organs, self.data["tiac_point"].to_numpy(), strict=True):
            if tiac > mean_life * (1.0 + _ROUNDING):
                raise DoseError(
                    f"{organ}: the TIAC is {tiac:.6g} h (TIA {tiac * self.injected_activity:.6g} MBq h), above the "
                    f"physical mean life of {self.nuclide}; the largest possible is {mean_life:.6g} h, when all "
                    f"{self.injected_activity:.6g} MBq stay there. Check the unit (MBq h, h, kBq h/MBq), the injected "
                    "activity, and whether the curve was decay-corrected"
                )
        extra: list[str] = []
        above = (self.data["tiac"] > mean_life * (1.0 + _ROUNDING)).mean("draw").to_numpy()
        for organ, part in zip(self.organs, above, strict=True):
            if part > 0:
                extra.append(
                    f"{organ}: {part:.1%} of the draws have a TIAC above the physical mean life ({mean_life:.4g} h); "
                    "the spread is wider than physics allows"
                )
        whole = [o for o in self.organs if o == WHOLE_BODY]  # the sum of the others, not one more
        total = float(self.data["tiac_point"].drop_sel(organ=whole).sum())
        if total > mean_life * (1.0 + _ROUNDING):
            extra.append(
                f"the TIACs of all regions add up to {total:.4g} h, above the physical mean life {mean_life:.4g} h: "
                "regions overlap, or the activities are not calibrated"
            )
        object.__setattr__(self, "warnings", (*self.warnings, *(x for x in extra if x not in self.warnings)))

    @classmethod
    def from_arrays(
        cls,
        organs: Sequence[str],
        *,
        point: npt.ArrayLike,
        draws: npt.ArrayLike,
        rate_point: npt.ArrayLike,
        share_point: npt.ArrayLike,
        rate: npt.ArrayLike,
        share: npt.ArrayLike,
        nuclide: str,
        injected_activity: float | str,
        extrapolated_fraction: npt.ArrayLike | None = None,
        method: str = "",
        study: str = "",
        subject: str = "",
        given: str = "",
        warnings: tuple[str, ...] = (),
    ) -> TIA:
        """Build a TIA from plain arrays.

        Parameters
        ----------
        organs : names of n organs [text]
        point : (n,) array, time-integrated activities [MBq h]
        draws : (n, draws) array [MBq h]
        rate_point, share_point : (n, terms) arrays [1/h], [1]
        rate, share : (n, draws, terms) arrays [1/h], [1]
        nuclide : name, for example ``"Lu-177"`` [text]
        injected_activity : number [MBq] or text such as ``"7.4 GBq"``
        extrapolated_fraction : (n,) array, part of the integral beyond the last measurement; nan if unknown [1]
        given : of a daughter: the nuclide that was injected [text]
        """
        injected = canonical(injected_activity, "MBq", "injected activity")
        tail = np.full(len(organs), np.nan) if extrapolated_fraction is None else extrapolated_fraction
        tiac_point, tiac = np.asarray(point, dtype=float) / injected, np.asarray(draws, dtype=float) / injected
        one, all_draws = ("organ",), ("organ", "draw")
        data = xr.Dataset(
            {
                "tia_point": variable(one, point, "MBq h", "time-integrated activity, point estimate"),
                "tia": variable(all_draws, draws, "MBq h", "time-integrated activity"),
                "tiac_point": variable(one, tiac_point, "h", "time-integrated activity coefficient, point estimate"),
                "tiac": variable(all_draws, tiac, "h", "time-integrated activity coefficient"),
                "extrapolated_fraction": variable(one, tail, "1", "part of the integral after the last measurement"),
                "rate_point": variable(("organ", "term"), rate_point, "1/h", "effective rate, point estimate"),
                "share_point": variable(("organ", "term"), share_point, "1", "share of the integral, point estimate"),
                "rate": variable((*all_draws, "term"), rate, "1/h", "effective rate"),
                "share": variable((*all_draws, "term"), share, "1", "share of the integral"),
            },
            coords={"organ": [str(x) for x in organs]},
            attrs={
                "nuclide": find_nuclide(nuclide).name,
                "injected_activity_MBq": injected,
                "method": method,
                "study": study,
                "subject": subject,
                **({"given": find_nuclide(given).name} if given else {}),
            },
        )
        return cls(data, warnings)

    @classmethod
    def from_values(
        cls,
        values: Mapping[str, float],
        *,
        nuclide: str,
        injected_activity: float | str,
        unit: str = "MBq h",
        sd: Mapping[str, float] | None = None,
        effective_half_life: Mapping[str, float] | None = None,
        draws: int = 1000,
        seed: int = 0,
        study: str = "",
        subject: str = "",
    ) -> TIA:
        """Bring your own time-integrated activities.

        Parameters
        ----------
        values : organ -> TIA, or TIAC where the unit is a time [unit]
        nuclide : name, for example ``"Lu-177"`` [text]
        injected_activity : number [MBq] or text such as ``"7.4 GBq"``
        unit : an activity times a time (``"MBq h"``) for TIA, a time (``"h"``) for TIAC [text]
        sd : organ -> standard deviation, drawn log-normally; organs not named have none [unit]
        effective_half_life : organ -> effective half-life, for dose rates; organs not named have none [h]
        draws : number of draws; one where there is no `sd` [1]
        seed : of the draws [1]

        Raises
        ------
        DoseError
            The unit is neither, a name in `sd` or `effective_half_life` is not in `values`, or a value is impossible.
        """
        if not values:
            raise DoseError("no time-integrated activity was given; write for example {'kidneys': 22.7}")
        injected = canonical(injected_activity, "MBq", "injected activity")
        scale = tia_factor(unit, injected)
        organs = list(values)
        for name, given in (("sd", sd), ("effective_half_life", effective_half_life)):
            unknown = [x for x in given or {} if x not in values]
            if unknown:
                raise DoseError(f"{name} names {', '.join(map(repr, unknown))}; the organs are: {', '.join(organs)}")
        point = np.array([float(values[x]) * scale for x in organs])
        width = np.array([float((sd or {}).get(x, 0.0)) * scale for x in organs])
        if not np.all(np.isfinite(width) & (width >= 0)):
            raise DoseError(f"sd must be finite and not negative; found {dict(sd or {})}")
        samples = lognormal(point, width, draws if width.any() else 1, stream(seed, "TIA values"))
        physical = find_nuclide(nuclide)
        rates = np.full((len(organs), 1), np.nan)
        for i, organ in enumerate(organs):
            if organ in (effective_half_life or {}):
                half_life = float((effective_half_life or {})[organ])
                if not 0 < half_life <= physical.half_life * (1.0 + _ROUNDING):
                    raise DoseError(
                        f"{organ}: effective half-life {half_life:g} h; allowed: above 0 and at most the physical "
                        f"half-life of {physical.name}, {physical.half_life:.6g} h"
                    )
                rates[i] = np.log(2.0) / half_life
        shares = np.where(np.isnan(rates), np.nan, 1.0)
        shape = (*samples.shape, 1)
        return cls.from_arrays(
            organs,
            point=point,
            draws=samples,
            rate_point=rates,
            share_point=shares,
            rate=np.broadcast_to(rates[:, None, :], shape),
            share=np.broadcast_to(shares[:, None, :], shape),
            nuclide=physical.name,
            injected_activity=injected,
            method="values given by the user",
            study=study,
            subject=subject,
        )

    @classmethod
    def from_netcdf(cls, path: str | Path) -> TIA:
        """Read what `to_netcdf` wrote."""
        return cls(*_read_netcdf(path))

    def table(self, organs: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per organ: TIA with standard deviation and 95 % interval [MBq h], TIAC [h], extrapolated part."""
        import pandas as pd

        rows = []
        for organ in select(self.data, organs):
            one = self.data.sel(organ=organ)
            sd, low, high = spread(one["tia"].to_numpy())
            rows.append(
                {
                    "organ": organ,
                    "TIA [MBq h]": float(one["tia_point"]),
                    "sd": sd,
                    "2.5 %": low,
                    "97.5 %": high,
                    "TIAC [h]": float(one["tiac_point"]),
                    "extrapolated": float(one["extrapolated_fraction"]),
                }
            )
        return pd.DataFrame(rows).set_index("organ")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Doses(_Result):
    """Absorbed dose of organs and tumours for the injected activity, and per GBq, with draws.

    Parameters
    ----------
    data : Dataset over organ, draw, term: dose_point, dose [Gy], dose_per_activity_point, dose_per_activity [Gy/GBq],
        mass_point, mass [g], s_point [Gy/(MBq h)], s_relative_sd [1], cross_bound [Gy], rate_point, rate [1/h],
        share_point, share [1] of the dose rate; attributes as in `TIA`
    warnings : tuple of sentences for the user [text]

    Raises
    ------
    DoseError
        A dose is negative or not finite.
    """

    data: xr.Dataset
    warnings: tuple[str, ...] = ()
    _what = "Absorbed dose"

    def __post_init__(self) -> None:
        needed = ("dose_point", "dose", "dose_per_activity_point", "dose_per_activity", "mass_point", "mass", "s_point")
        kinetics = ("rate_point", "share_point", "rate", "share")
        _check_names("Doses", self.data, (*needed, "s_relative_sd", "cross_bound", *kinetics))
        _check_finite("absorbed dose", self.data, ("dose_point", "dose"), "Gy")

    @classmethod
    def from_netcdf(cls, path: str | Path) -> Doses:
        """Read what `to_netcdf` wrote."""
        return cls(*_read_netcdf(path))

    def table(self, organs: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per organ: dose with standard deviation and 95 % interval [Gy], dose per activity [Gy/GBq], mass [g].

        The last column bounds what is missing: the cross-dose cannot be larger than this [Gy].
        """
        import pandas as pd

        rows = []
        for organ in select(self.data, organs):
            one = self.data.sel(organ=organ)
            sd, low, high = spread(one["dose"].to_numpy())
            rows.append(
                {
                    "organ": organ,
                    "dose [Gy]": float(one["dose_point"]),
                    "sd": sd,
                    "2.5 %": low,
                    "97.5 %": high,
                    "dose [Gy/GBq]": float(one["dose_per_activity_point"]),
                    "mass [g]": float(one["mass_point"]),
                    "missing at most [Gy]": float(one["cross_bound"]),
                }
            )
        return pd.DataFrame(rows).set_index("organ")
