"""The same tumour seen by each format as matrix, pressure and stroma change; size against affinity by the models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ..dosimetry.present import html_list, html_table, show, text_list, text_table
from ..dosimetry.s_values import Daughters
from ..errors import SimulationError, did_you_mean
from ..model import Model
from ..nuclides import nuclide
from ..units import dimension, factor, quantity
from .doses import organ_doses
from .following import BLOOD, follow
from .formats import FORMATS, HALF_LIVES, ORGANS, TUMOUR
from .kinetics import grid, weights
from .recipes import KON, Setting, build, label_of, target_parts
from .shared_draws import evaluate, shared_patients

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

SOLID = "tumour_solid"
OVER: dict[str, tuple[float, ...]] = {
    "gag_tumour": (0.0, 0.0025, 0.005, 0.01, 0.02, 0.03),
    "p_vessel_tumour": (5.0, 7.0, 10.0, 13.0, 15.6, 20.0, 25.0),
    "stroma_tumour": (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75),
}
"""Matrix (volume share of glycosaminoglycans, the fine fibres that shut large molecules out), pressure (that of the
tumour's vessels, which interstitial pressure follows) and stroma (share of the tumour's tissue)."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TumourSweep:
    """Tumour uptake and dose of each format against properties of the tumour, one at a time.

    Parameters
    ----------
    data : Dataset over parameter, format, step, time, draw: value (parameter, step) in the parameter's unit, uptake and
        uptake_point [%IA/g], dose and dose_point [Gy/GBq of the nuclide]; steps beyond a parameter's last are nan
    warnings : sentences for the user [text]
    """

    data: xr.Dataset
    warnings: tuple[str, ...] = ()

    @property
    def formats(self) -> tuple[str, ...]:
        """Names of the formats."""
        return tuple(str(x) for x in self.data["format"].to_numpy())

    @property
    def parameters(self) -> tuple[str, ...]:
        """Properties of the tumour that were changed."""
        return tuple(str(x) for x in self.data["parameter"].to_numpy())

    def table(self) -> pd.DataFrame:
        """One row for each parameter, value and format: uptake and dose, with 5 and 95 % of the patients."""
        import pandas as pd

        rows = []
        for p in self.parameters:
            for f in self.formats:
                one = self.data.sel(parameter=p, format=f)
                for k in np.flatnonzero(np.isfinite(one["value"].to_numpy())):
                    at = one.isel(step=k)
                    row: dict[str, Any] = {"parameter": p, "value": float(at["value"]), "format": f}
                    row["dose [Gy/GBq]"] = float(at["dose_point"])
                    row["dose 5 %"], row["dose 95 %"] = _band(at["dose"].to_numpy())
                    for j, t in enumerate(self.data["time"].to_numpy()):
                        name = f"uptake at {t:g} h [%IA/g]"
                        row[name] = float(at["uptake_point"][j])
                        row[f"{name} 5 %"], row[f"{name} 95 %"] = _band(at["uptake"].to_numpy()[j])
                    rows.append(row)
        return pd.DataFrame(rows)

    def _rows(self) -> tuple[list[str], list[list[str]]]:
        """Dose at the lowest and the highest value, and what lies between them."""
        header = ["property", "from", "to", *(f"{f} [Gy/GBq]" for f in self.formats)]
        rows = []
        for p in self.parameters:
            one = self.data.sel(parameter=p)
            value = one["value"].to_numpy()
            last = int(np.flatnonzero(np.isfinite(value))[-1])
            ends = [one["dose_point"].sel(format=f).to_numpy()[[0, last]] for f in self.formats]
            cells = [f"{show(float(a), 2)} to {show(float(b), 2)}" for a, b in ends]
            rows.append([p, show(float(value[0]), 3), show(float(value[last]), 3), *cells])
        return header, rows

    def __str__(self) -> str:
        head = f"tumour dose of {self.data.attrs['nuclide']} as the tumour changes, one property at a time"
        return f"{head}\n{text_table(*self._rows())}{text_list(self.warnings)}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        caption = f"tumour dose of {self.data.attrs['nuclide']}"
        return html_table(*self._rows(), caption=caption) + html_list(self.warnings)

    def plot(self, what: str = "dose") -> Figure:
        """Figure of the ``"dose"`` or the ``"uptake"``, a panel for each property."""
        from ..plot_formats import sweep_figure

        return sweep_figure(self, what)


def sweep_tumour(
    formats: Sequence[str] | Mapping[str, Model] = FORMATS,
    over: Mapping[str, Sequence[float]] | None = None,
    *,
    nuclide_name: str = "Lu-177",
    times: Sequence[float] = (24.0,),
    target: str | Sequence[str] = "her2",
    KD: str | Mapping[str, str] = "1 nmol/L",
    kon: str = KON,
    host: str = "adult_male",
    tumour: str = SOLID,
    label: str | None = None,
    parts: Sequence[str] = (),
    set: Mapping[str, Any] | None = None,
    amount: str = "20 nmol",
    daughters: Daughters = "equilibrium",
    n: int = 30,
    seed: int = 0,
    spread: Mapping[str, float] | None = None,
    progress: Callable[[str], None] | None = None,
) -> TumourSweep:
    """Change one property of the tumour at a time, and see what each format makes of it.

    Parameters
    ----------
    formats, target, KD, kon, host, tumour, parts, set, amount, daughters, n, seed, spread, progress : as in
        `compare_formats`
    over : parameter -> values in its declared unit; default matrix, pressure and stroma of `tumour_solid`
    nuclide_name : whose dose is computed [text]
    times : at which uptake is given [h]
    label : file of `models/labels`; default by element [text]

    Returns
    -------
    TumourSweep

    Raises
    ------
    LibraryError, ModelError, UnitError, SimulationError
        As `compare_formats`; or a property is not a parameter of the tumour with a value.
    """
    import pandas as pd

    say = progress or (lambda step: None)
    x = nuclide(nuclide_name)
    wanted = {k: tuple(map(float, v)) for k, v in (over or OVER).items()}
    if not wanted or not all(wanted.values()):
        raise SimulationError('a sweep needs values: over={"collagen_tumour": [0, 0.03, 0.06]}')
    nmol = _amount(amount)
    setting = Setting(
        target=target_parts(target), host=host, tumour=tumour, KD=KD, kon=kon, parts=tuple(parts), set=set or {}
    )
    names = list(formats)
    steps = max(map(len, wanted.values()))
    seen = np.asarray(times, dtype=float)
    hours = np.unique(np.concatenate([grid(HALF_LIVES * x.half_life, 100), seen]))
    value = np.full((len(wanted), steps), np.nan)
    uptake = np.full((len(wanted), len(names), steps, seen.size, n + 1), np.nan)
    dose = np.full((len(wanted), len(names), steps, n + 1), np.nan)
    lost = 0
    for j, f in enumerate(names):
        model = formats[f] if isinstance(formats, Mapping) else build(f, setting, label or label_of(x.name))
        people = shared_patients(model, n, seed, spread)
        for i, (name, values) in enumerate(wanted.items()):
            if name not in model.primary:
                raise SimulationError(
                    f"{model.who}: sweep over {name!r}{did_you_mean(name, model.primary)}: not a parameter with a value"
                )
            say(f"{f}: {name}")
            rows = pd.concat([people.assign(**{name: v}) for v in values], ignore_index=True)
            one = follow(model, rows, nmol, hours, (TUMOUR,))
            lost += one.left_out
            tiac = one.share[TUMOUR] @ weights(hours, x.decay_constant)
            for k, v in enumerate(values):
                own = slice(k * (n + 1), (k + 1) * (n + 1))
                value[i, k] = v
                uptake[i, j, k] = one.per_gram[TUMOUR][own][:, np.searchsorted(hours, seen)].T
                dose[i, j, k] = organ_doses(
                    {TUMOUR: tiac[own]}, {TUMOUR: one.mass[TUMOUR][own]}, x.name, daughters=daughters, seed=seed
                )[TUMOUR]  # fmt: skip
    units = [model.parameters[name].unit for name in wanted]
    coords = {"parameter": list(wanted), "format": names, "time": ("time", seen, {"units": "h"})}
    data = xr.Dataset(
        {
            "value": (("parameter", "step"), value),
            "uptake_point": (("parameter", "format", "step", "time"), uptake[..., 0], {"units": "%IA/g"}),
            "uptake": (("parameter", "format", "step", "time", "draw"), uptake[..., 1:], {"units": "%IA/g"}),
            "dose_point": (("parameter", "format", "step"), dose[..., 0], {"units": "Gy/GBq"}),
            "dose": (("parameter", "format", "step", "draw"), dose[..., 1:], {"units": "Gy/GBq"}),
        },
        {**coords, "unit": ("parameter", units)},
        {"nuclide": x.name, "patients": n, "amount": amount},
    )
    notes = [f"{lost} runs left out: numbers that do not go together, or no solution"] if lost else []
    return TumourSweep(data, tuple(notes))


def map_size_affinity(
    MW: ArrayLike,
    KD: ArrayLike,
    *,
    format_name: str = "scfv",
    nuclide_name: str = "Lu-177",
    time: float = 24.0,
    target: str | Sequence[str] = "her2",
    kon: str = KON,
    host: str = "adult_male",
    tumour: str = "tumour_simple",
    label: str | None = None,
    organs: Sequence[str] = ORGANS,
    amount: str = "20 nmol",
    set: Mapping[str, Any] | None = None,
    model: Model | None = None,
) -> xr.Dataset:
    """Tumour uptake and dose over size and affinity, by the whole-body models: for proteins without an Fc.

    The closed form is `size_affinity.size_affinity_map`; this adds kidneys, saturation and decay.

    Parameters
    ----------
    MW : (s,) array, molar mass of a globular protein [kDa]
    KD : (a,) array, dissociation constants [nmol/L]
    format_name : whose file is used for all but the size [text]
    nuclide_name : whose doses are computed [text]
    time : of the uptake [h]
    model : own model with parameters ``MW`` and ``KD``, instead of a format
    target, kon, host, tumour, label, organs, amount, set : as in `compare_formats`

    Returns
    -------
    xarray.Dataset
        Over MW and KD: ``uptake`` [%IA/g], ``to_blood`` [1] and ``dose_<organ>`` [Gy/GBq]; nan where no run ended.

    Raises
    ------
    LibraryError, ModelError, SimulationError
        As `compare_formats`.
    """
    import pandas as pd

    x = nuclide(nuclide_name)
    size, affinity = (np.atleast_1d(np.asarray(v, dtype=float)) for v in (MW, KD))
    if model is None:
        setting = Setting(target=target_parts(target), host=host, tumour=tumour, kon=kon, set=set or {})
        model = build(format_name, setting, label or label_of(x.name))
    if lacking := [p for p in ("MW", "KD") if p not in model.primary]:
        raise SimulationError(f"{model.who}: no parameter {' and '.join(lacking)} with a value to vary")
    a, b = np.meshgrid(size, affinity, indexing="ij")
    given = {"MW": (a, "kg/mol"), "KD": (b, "nmol/L")}
    rows = pd.DataFrame({p: v.ravel() * factor(u) / factor(model.parameters[p].unit) for p, (v, u) in given.items()})
    wanted = tuple(dict.fromkeys((TUMOUR, *organs)))
    hours = np.unique([*grid(HALF_LIVES * x.half_life, 100), time])
    one = follow(model, rows, _amount(amount), hours, (*wanted, BLOOD))
    k = int(np.searchsorted(hours, time))
    shape, dims = a.shape, ("MW", "KD")
    uptake = one.per_gram[TUMOUR][:, k]
    with np.errstate(divide="ignore", invalid="ignore"):
        to_blood = uptake / one.per_gram[BLOOD][:, k]
    values: dict[str, Any] = {
        "uptake": (dims, uptake.reshape(shape), {"units": "%IA/g"}),
        "to_blood": (dims, to_blood.reshape(shape), {"units": "1"}),
    }
    for organ in wanted:
        tiac = {organ: one.share[organ] @ weights(hours, x.decay_constant)}
        got = _doses_at_own_mass(tiac, one.mass, x.name)[organ]
        values[f"dose_{organ}"] = (dims, got.reshape(shape), {"units": "Gy/GBq"})
    sieving = evaluate(model, ["theta", "P_tumour", "eps"], rows)
    values |= {n: ("MW", v.reshape(shape)[:, 0]) for n, v in sieving.items()}
    coords = {"MW": ("MW", size, {"units": "kg/mol"}), "KD": ("KD", affinity, {"units": "nmol/L"})}
    attrs = {"nuclide": x.name, "time": f"{time:g} h", "amount": amount, "model": model.name}
    return xr.Dataset(values, coords, attrs)


def _doses_at_own_mass(tiac: Mapping[str, Array], mass: Mapping[str, Array], name: str) -> dict[str, Array]:
    """Doses without model error: every row is a typical patient."""
    out = {}
    for organ, values in tiac.items():
        one = {organ: np.array([1.0])}
        per_hour = organ_doses(one, {organ: mass[organ][:1]}, name, daughters="equilibrium", seed=0)
        out[organ] = values * per_hour[organ][0]
    return out


def _amount(text: str) -> float:
    read = quantity(text, "amount")
    if read.dimension != dimension("nmol") or not read.value > 0:
        raise SimulationError(f"amount {text!r}; allowed: an amount of ligand above zero, such as '20 nmol'")
    return float(read.value)


def _band(draws: Array) -> tuple[float, float]:
    x = draws[np.isfinite(draws)]
    if x.size < 2:
        return float("nan"), float("nan")
    low, high = np.quantile(x, [0.05, 0.95])
    return float(low), float(high)
