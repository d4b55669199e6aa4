"""Biologically effective dose (BED) of a decaying dose rate, with repair during irradiation.

Linear-quadratic model with mono-exponential repair (rate mu): a dose rate ``D'(t)`` has

    BED = D (1 + G D / (alpha/beta)),
    G   = 2/D^2  int_0^inf D'(t) int_0^t D'(w) exp(-mu (t - w)) dw dt.

Sources: Dale 1985, Br J Radiol 58:515, doi:10.1259/0007-1285-58-690-515 (exponential dose rates); Baechler et al.
2008, Med Phys 35 (sums of exponentials); MIRD pamphlet 20 (Wessels et al. 2008, J Nucl Med 49; kidneys).
With a sum of exponentials of any sign G is a double sum; overlapping cycles keep it in closed form (`_pulse_pair`).
No proliferation during treatment and no relative biological effectiveness are included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..errors import DoseError
from .present import html_list, html_table, text_list, text_table
from .result import Doses, select, title
from .values import canonical, spread, variable

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]

LN2 = float(np.log(2.0))


def _pulse_pair(first: Floats, second: Floats, mu: float, tau: float) -> Floats:
    """Integrate ``exp(-first x) exp(-second y) exp(-mu |tau + y - x|)`` over x, y from 0 to infinity [h^2].

    x runs in the earlier pulse, y in the one that starts `tau` later. Splitting where the two clocks meet gives three
    terms; the last is the divided difference of exp(-s tau) at s = first and s = mu, written so that it stays exact
    where the two rates coincide.
    """
    overlap = np.exp(-first * tau) / (first + second) * (1.0 / (first + mu) + 1.0 / (second + mu))
    gap = np.abs(mu - first) * tau
    smooth = np.where(gap > 0, -np.expm1(-gap) / np.where(gap > 0, gap, 1.0), 1.0)
    return np.asarray(overlap + tau * np.exp(-np.minimum(first, mu) * tau) * smooth / (second + mu), dtype=float)


def incomplete_repair_factor(
    shares: npt.ArrayLike,
    rates: npt.ArrayLike,
    repair_half_life: float | str,
    *,
    cycles: int = 1,
    interval: float | str | None = None,
) -> Floats:
    """Lea-Catcheside factor G of a dose rate ``D sum_i share_i rate_i exp(-rate_i t)``, exact.

    Parameters
    ----------
    shares : (..., terms) array, summing to 1; may be negative [1]
    rates : (..., terms) array, positive effective rates [1/h]
    repair_half_life : half-life of sublethal damage, number [h] or text
    cycles : identical administrations; their overlap is integrated exactly [1]
    interval : from one administration to the next, number [h] or text; None: so long that all damage is repaired

    Returns
    -------
    (...) array: G that multiplies the square of the TOTAL dose of all cycles [1]

    Raises
    ------
    DoseError
        Kinetics are unknown (nan), a rate is not positive, or `cycles` is not a positive whole number.
    """
    s, rate = np.broadcast_arrays(np.asarray(shares, dtype=float), np.asarray(rates, dtype=float))
    if s.ndim == 0 or not (np.all(np.isfinite(s)) and np.all(np.isfinite(rate)) and np.all(rate > 0)):
        raise DoseError(
            "the kinetics are not known or not usable: rates must be finite and positive [1/h], shares finite. "
            "Give an effective half-life, or integrate a fitted model"
        )
    if not np.allclose(s.sum(axis=-1), 1.0, rtol=0, atol=1e-6):
        raise DoseError(f"the shares of a dose rate add up to {np.ravel(s.sum(axis=-1))[0]:g}; they must add up to 1")
    if isinstance(cycles, bool) or int(cycles) != cycles or cycles < 1:
        raise DoseError(f"cycles: found {cycles!r}; allowed: a whole number, 1 or more")
    mu = LN2 / canonical(repair_half_life, "h", "repair half-life")
    first, second = rate[..., :, None], rate[..., None, :]
    weight = (s * rate)[..., :, None] * (s * rate)[..., None, :]

    def pair(tau: float) -> Floats:
        return np.asarray((weight * _pulse_pair(first, second, mu, tau)).sum(axis=(-1, -2)))

    # within one cycle only w < t counts: half of the symmetric integral at tau = 0, doubled again by the 2 in G
    total = cycles * np.asarray((weight / ((mu + first) * (first + second))).sum(axis=(-1, -2))) * 2.0
    if interval is not None and cycles > 1:
        spacing = canonical(interval, "h", "interval between cycles")
        for k in range(1, int(cycles)):
            total = total + 2.0 * (cycles - k) * pair(k * spacing)
    return np.asarray(total / cycles**2, dtype=float)


def bed_from_exponentials(
    dose: npt.ArrayLike,
    shares: npt.ArrayLike,
    rates: npt.ArrayLike,
    alpha_beta: float | str,
    repair_half_life: float | str,
    *,
    cycles: int = 1,
    interval: float | str | None = None,
) -> Floats:
    """Give the BED of `cycles` administrations, each with absorbed dose `dose`.

    Parameters
    ----------
    dose : (...) array, absorbed dose of ONE cycle [Gy]
    shares, rates : (..., terms) arrays of the dose rate ``dose sum share rate exp(-rate t)`` [1], [1/h]
    alpha_beta : ratio alpha/beta of the tissue, number [Gy] or text
    repair_half_life : number [h] or text
    cycles, interval : as in `incomplete_repair_factor`

    Returns
    -------
    (...) array, BED of all cycles together [Gy]
    """
    ratio = canonical(alpha_beta, "Gy", "alpha/beta")
    total = np.asarray(dose, dtype=float) * cycles
    g = incomplete_repair_factor(shares, rates, repair_half_life, cycles=cycles, interval=interval)
    return np.asarray(total * (1.0 + g * total / ratio), dtype=float)


def eqd2(bed: npt.ArrayLike, alpha_beta: float | str) -> Floats:
    """Dose in 2-Gy fractions with the same effect: ``EQD2 = BED / (1 + 2 Gy / (alpha/beta))``.

    Parameters
    ----------
    bed : (...) array [Gy]
    alpha_beta : ratio alpha/beta of the tissue, number [Gy] or text

    Returns
    -------
    (...) array [Gy]
    """
    return np.asarray(np.asarray(bed, dtype=float) / (1.0 + 2.0 / canonical(alpha_beta, "Gy", "alpha/beta")))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BED:
    """Biologically effective dose by organ: `data` holds bed, eqd2 [Gy] and g [1], each as point and draws."""

    data: xr.Dataset
    warnings: tuple[str, ...] = ()

    def table(self, organs: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per organ: BED with standard deviation and 95 % interval, EQD2 [Gy], G and the parameters used."""
        import pandas as pd

        rows = []
        for organ in select(self.data, organs):
            one = self.data.sel(organ=organ)
            sd, low, high = spread(one["bed"].to_numpy())
            rows.append(
                {
                    "organ": organ,
                    "BED [Gy]": float(one["bed_point"]),
                    "sd": sd,
                    "2.5 %": low,
                    "97.5 %": high,
                    "EQD2 [Gy]": float(one["eqd2_point"]),
                    "dose [Gy]": float(one["dose_point"]),
                    "G": float(one["g_point"]),
                    "alpha/beta [Gy]": float(one["alpha_beta"]),
                    "repair half-life [h]": float(one["repair_half_life"]),
                }
            )
        return pd.DataFrame(rows).set_index("organ")

    def _rows(self) -> tuple[list[str], list[list[Any]]]:
        table = self.table()
        return ["organ", *table.columns], [[str(i), *r] for i, r in zip(table.index, table.to_numpy(), strict=True)]

    def __str__(self) -> str:
        return title(self.data, "BED") + "\n" + text_table(*self._rows()) + text_list(self.warnings)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(*self._rows(), caption=title(self.data, "BED")) + html_list(self.warnings)


def _per_organ(what: str, given: float | str | Mapping[str, float | str], organs: Sequence[str]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        return dict.fromkeys(organs, given)
    unknown = [x for x in given if x not in organs]
    if unknown:
        raise DoseError(f"{what} names {', '.join(map(repr, unknown))}; the doses have: {', '.join(organs)}")
    return dict(given)


def bed(
    doses: Doses,
    alpha_beta: float | str | Mapping[str, float | str],
    repair_half_life: float | str | Mapping[str, float | str],
    *,
    cycles: int = 1,
    interval: float | str | None = None,
) -> BED:
    """Give the BED of each organ for the doses' injected activity, given `cycles` times.

    Parameters
    ----------
    doses : result of `dose`
    alpha_beta : one value for all organs, or organ -> value; numbers [Gy] or text. There is no default
    repair_half_life : likewise; numbers [h] or text. There is no default
    cycles : identical administrations [1]
    interval : between administrations, number [h] or text; None: all damage is repaired in between

    Returns
    -------
    BED, for the organs that have both parameters

    Raises
    ------
    DoseError
        An organ is unknown, a parameter is missing or not positive, or the kinetics of an organ are not known.
    """
    ratios = _per_organ("alpha_beta", alpha_beta, doses.organs)
    repairs = _per_organ("repair_half_life", repair_half_life, doses.organs)
    missing = sorted(set(ratios) ^ set(repairs))
    if missing and isinstance(alpha_beta, Mapping) and isinstance(repair_half_life, Mapping):
        raise DoseError(f"{', '.join(missing)}: give alpha_beta and repair_half_life both; one of the two is missing")
    organs = [x for x in doses.organs if x in ratios and x in repairs]
    columns: dict[str, list[Any]] = {"bed_point": [], "bed": [], "g_point": [], "g": [], "eqd2_point": [], "eqd2": []}
    numbers: dict[str, list[float]] = {"alpha_beta": [], "repair_half_life": [], "dose_point": []}
    for organ in organs:
        one = doses.data.sel(organ=organ)
        ratio = canonical(ratios[organ], "Gy", f"{organ}: alpha/beta")
        repair = canonical(repairs[organ], "h", f"{organ}: repair half-life")
        numbers["alpha_beta"].append(ratio)
        numbers["repair_half_life"].append(repair)
        numbers["dose_point"].append(cycles * float(one["dose_point"]))
        for end in ("_point", ""):
            g = organ_g(doses, organ, repair, cycles=cycles, interval=interval, point=bool(end))
            total = cycles * one["dose" + end].to_numpy()
            value = total * (1.0 + g * total / ratio)
            columns["g" + end].append(g)
            columns["bed" + end].append(value)
            columns["eqd2" + end].append(eqd2(value, ratio))
    units = {"bed": "Gy", "eqd2": "Gy", "g": "1", "alpha_beta": "Gy", "repair_half_life": "h", "dose_point": "Gy"}
    variables = {
        name: variable(
            ("organ",) if np.ndim(values[0]) == 0 else ("organ", "draw"),
            np.stack(values),
            units.get(name) or units[name.removesuffix("_point")],
            name,
        )
        for name, values in {**columns, **numbers}.items()
    }
    attrs = {**doses.data.attrs, "cycles": cycles, "interval": "well separated" if interval is None else str(interval)}
    return BED(xr.Dataset(variables, coords={"organ": organs}, attrs=attrs), doses.warnings)


def organ_g(
    doses: Doses,
    organ: str,
    repair_half_life: float | str,
    *,
    cycles: int = 1,
    interval: float | str | None = None,
    point: bool = False,
) -> Floats:
    """Factor G of one organ of a dose result: (draws,) array, or () for the point estimate [1].

    Raises
    ------
    DoseError
        The organ's kinetics are not known, so its dose rate is not known either.
    """
    end = "_point" if point else ""
    one = doses.data.sel(organ=organ)
    shares, rates = one["share" + end].to_numpy(), one["rate" + end].to_numpy()
    try:
        return incomplete_repair_factor(shares, rates, repair_half_life, cycles=cycles, interval=interval)
    except DoseError as error:
        raise DoseError(f"{organ}: a BED needs the dose rate over time; {error}") from None
