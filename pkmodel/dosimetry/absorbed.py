"""Absorbed dose from time-integrated activity: ``D(target) = sum_source TIA(source) S(target <- source)``.

MIRD schema (Bolch et al. 2009, MIRD pamphlet 21, J Nucl Med 50:477). Two ways, and the result says which was used:

* self-dose only, with S values computed from the nuclide's emissions and the patient's own organ masses; the
  cross-dose that is missing is bounded for each organ;
* a full sum over a matrix of S values that the user brings, with its self terms scaled to the patient's masses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, overload

import numpy as np
import xarray as xr

from ..errors import DoseError
from ..nuclides import nuclide as find_nuclide
from .comparison import DoseComparison
from .cross_dose import cross_dose_bound
from .present import show
from .result import TIA, Doses
from .s_values import Daughters, s_self, scale_mass
from .values import canonical, lognormal, stream, variable

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

Mass = float | str | tuple[float | str, float | str]


@overload
def dose(
    tia: TIA,
    *,
    masses: Mapping[str, Mass] | None = ...,
    s: xr.DataArray | None = ...,
    mass_relative_sd: float | Mapping[str, float] | None = ...,
    daughters: Daughters | None = ...,
    body_mass: float | str | None = ...,
    seed: int = ...,
) -> Doses: ...


@overload
def dose(
    tia: Mapping[str, TIA],
    *,
    masses: Mapping[str, Mass] | None = ...,
    s: xr.DataArray | None = ...,
    mass_relative_sd: float | Mapping[str, float] | None = ...,
    daughters: Daughters | None = ...,
    body_mass: float | str | None = ...,
    seed: int = ...,
) -> DoseComparison: ...


def dose(
    tia: TIA | Mapping[str, TIA],
    *,
    masses: Mapping[str, Mass] | None = None,
    s: xr.DataArray | None = None,
    mass_relative_sd: float | Mapping[str, float] | None = None,
    daughters: Daughters | None = None,
    body_mass: float | str | None = None,
    seed: int = 0,
) -> Doses | DoseComparison:
    """Absorbed dose of every organ of a TIA, with draws.

    Errors of mass, S value and TIA are drawn independently, also between organs. An error in the outline of an organ,
    which enters its activity and its mass, is therefore counted twice rather than cancelled.

    Parameters
    ----------
    tia : TIA, or name -> TIA to compare several agents or patients
    masses : organ -> mass: number [g], text such as ``"250 g"``, or (mass, standard deviation)
    s : (target, source) DataArray of S values with a units attribute, for the full MIRD sum; None: self-dose only,
        from emissions and mass. Where `masses` are given its self terms are scaled from the matrix's own reference
        masses, coordinate ``mass_g`` of target [Gy/(MBq h)]
    mass_relative_sd : relative standard deviation of the masses that bring none; one number or organ -> number [1]
    daughters : ``"none"`` or ``"equilibrium"``, as in `s_self`, which demands it where daughters matter [text]
    body_mass : for the bound on the missing cross-dose, number [g] or text; None: no bound
    seed : of the draws of mass and S value [1]

    Returns
    -------
    Doses, or DoseComparison for a mapping

    Raises
    ------
    DoseError
        A mass is missing or not positive, or the S matrix lacks a source, its units or its reference masses.
    """
    if isinstance(tia, Mapping):
        return DoseComparison(
            {
                name: dose(
                    one,
                    masses=masses,
                    s=s,
                    mass_relative_sd=mass_relative_sd,
                    daughters=daughters,
                    body_mass=body_mass,
                    seed=seed,
                )
                for name, one in tia.items()
            }
        )
    rng = stream(seed, "mass and S value")
    if s is not None:
        return _full(tia, s, masses, mass_relative_sd, daughters, rng)
    return _self_only(tia, masses, mass_relative_sd, daughters, body_mass, rng)


def read_mass(organ: str, given: Mass, relative_sd: float | Mapping[str, float] | None) -> tuple[float, float]:
    """Mass of one organ and its standard deviation [g]."""
    if isinstance(given, tuple):
        mean = canonical(given[0], "g", f"mass of {organ}")
        spread = 0.0 if given[1] == 0 else canonical(given[1], "g", f"standard deviation of the mass of {organ}")
        return mean, spread
    mean = canonical(given, "g", f"mass of {organ}")
    relative = relative_sd.get(organ, 0.0) if isinstance(relative_sd, Mapping) else (relative_sd or 0.0)
    if not (np.isfinite(relative) and 0 <= relative < 1):
        raise DoseError(f"mass of {organ}: relative standard deviation {relative!r}; allowed: from 0 to below 1")
    return mean, mean * float(relative)


def _draw_masses(
    organs: Sequence[str],
    masses: Mapping[str, Mass] | None,
    relative_sd: float | Mapping[str, float] | None,
    draws: int,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    missing = [x for x in organs if x not in (masses or {})]
    if missing:
        raise DoseError(
            f"no mass for {', '.join(missing)}: a dose needs one. Give masses={{'{missing[0]}': 250.0}} in gram, text "
            "such as '250 g', or (mass, standard deviation); a volume times 1.05 g/mL serves for soft tissue"
        )
    pairs = np.array([read_mass(x, (masses or {})[x], relative_sd) for x in organs]).reshape(-1, 2)
    return pairs[:, 0], lognormal(pairs[:, 0], pairs[:, 1], draws, rng)


def _self_only(
    tia: TIA,
    masses: Mapping[str, Mass] | None,
    relative_sd: float | Mapping[str, float] | None,
    daughters: Daughters | None,
    body_mass: float | str | None,
    rng: np.random.Generator,
) -> Doses:
    draws = _draw_count(tia, 1000)
    mass, mass_draws = _draw_masses(tia.organs, masses, relative_sd, draws, rng)
    n = len(tia.organs)
    s_point, s_relative_sd, s_draws = np.empty(n), np.empty(n), np.empty((n, draws))
    notes: dict[str, str] = {}
    for i, organ in enumerate(tia.organs):
        one = s_self(tia.nuclide, float(mass[i]), organ=organ, daughters=daughters)
        s_point[i], s_relative_sd[i], notes[organ] = one.value, one.relative_sd, one.note
        s_draws[i] = scale_mass(one, float(mass[i]), mass_draws[i])
    factor = lognormal(np.ones(n), s_relative_sd, draws, rng)
    point = tia.data["tia_point"].to_numpy() * s_point
    tia_draws = np.broadcast_to(tia.data["tia"].to_numpy(), (n, draws))
    bound = _missing_cross_dose(tia, mass, daughters, body_mass)
    warnings = [*tia.warnings, *_notes(notes), _not_included(tia.organs, point, bound)]
    return _doses(
        tia,
        tia.organs,
        point=point,
        draws=tia_draws * s_draws * factor,
        mass=(mass, mass_draws),
        s=(s_point, s_relative_sd),
        bound=bound,
        kinetics=tuple(tia.data[x].to_numpy() for x in ("rate_point", "share_point", "rate", "share")),
        warnings=tuple(warnings),
    )


def _draw_count(tia: TIA, least: int) -> int:
    """As many draws as the TIA has; where it has one, enough for the uncertainty of mass and S value."""
    size = int(tia.data.sizes["draw"])
    return size if size > 1 else least


def _missing_cross_dose(tia: TIA, mass: Floats, daughters: Daughters | None, body_mass: float | str | None) -> Floats:
    """Bound the cross-dose to each organ [Gy]: all that is not in the organs decays in the body; nan: no body mass."""
    if body_mass is None:
        return np.full(len(tia.organs), np.nan)
    activities = dict(zip(tia.organs, map(float, tia.data["tia_point"].to_numpy()), strict=True))
    grams = dict(zip(tia.organs, map(float, mass), strict=True))
    everything = tia.injected_activity / find_nuclide(tia.nuclide).decay_constant
    bounds = [
        cross_dose_bound(
            organ,
            grams,
            activities,
            tia.nuclide,
            remainder_tia=max(everything - sum(activities.values()), 0.0),
            body_mass_g=canonical(body_mass, "g", "body mass"),
            daughters=daughters,
        )
        for organ in tia.organs
    ]
    return np.array(bounds)


def _not_included(organs: Sequence[str], point: Floats, bound: Floats) -> str:
    """Say in words what a self-dose leaves out, and how much that can be at most."""
    start = "self-dose only: photons from other organs and from the rest of the body are not included"
    if np.isnan(bound).all():
        return f"{start}; give body_mass to bound what is missing"
    shares = np.divide(100.0 * bound, point, out=np.full(len(point), np.inf), where=point > 0)
    limits = (f"{x} {show(b, 2)} Gy ({show(p, 2)} %)" for x, b, p in zip(organs, bound, shares, strict=True))
    return f"{start}; at most {', '.join(limits)}"


def _notes(by_organ: Mapping[str, str]) -> list[str]:
    """Give one line per distinct note, with the organs it belongs to."""
    return [
        f"{', '.join(x for x in by_organ if by_organ[x] == note)}: {note}"
        for note in dict.fromkeys(by_organ.values())
        if note
    ]


def _full(
    tia: TIA,
    s: xr.DataArray,
    masses: Mapping[str, Mass] | None,
    relative_sd: float | Mapping[str, float] | None,
    daughters: Daughters | None,
    rng: np.random.Generator,
) -> Doses:
    matrix = _checked_matrix(tia, s)
    targets = [str(x) for x in matrix["target"].to_numpy()]
    draws = _draw_count(tia, 1000 if masses else 1)
    values = matrix.sel(source=list(tia.organs)).to_numpy()  # targets, sources
    reference = (
        matrix["mass_g"].to_numpy().astype(float) if "mass_g" in matrix.coords else np.full(len(targets), np.nan)
    )
    mass, mass_draws = reference.copy(), np.repeat(reference[:, None], draws, axis=1)
    s_draws = np.repeat(values[:, :, None], draws, axis=2)
    s_point = values.copy()
    for organ in masses or {}:
        if organ not in targets:
            raise DoseError(f"mass of {organ}: the S matrix has no such target; its targets are: {', '.join(targets)}")
        i = targets.index(organ)
        if not np.isfinite(reference[i]):
            raise DoseError(
                f"mass of {organ}: its self term cannot be scaled, because the S matrix has no reference mass for it; "
                "give the matrix a coordinate mass_g on target [g], or leave the mass out"
            )
        mean, drawn = _draw_masses([organ], masses, relative_sd, draws, rng)
        mass[i], mass_draws[i] = mean[0], drawn[0]
        if organ in tia.organs:
            j = tia.organs.index(organ)
            # the matrix gives the value, the emissions the share of it that photons give
            model = s_self(tia.nuclide, float(reference[i]), organ=organ, daughters=daughters or "none")
            own_s = replace(model, value=float(values[i, j]))
            s_point[i, j] = float(scale_mass(own_s, float(reference[i]), mean[0]))
            s_draws[i, j] = scale_mass(own_s, float(reference[i]), drawn[0])
    parts_point = s_point * tia.data["tia_point"].to_numpy()  # Gy from each source
    tia_draws = np.broadcast_to(tia.data["tia"].to_numpy(), (len(tia.organs), draws))
    parts = s_draws * tia_draws
    not_measured = [str(x) for x in matrix["source"].to_numpy() if str(x) not in tia.organs]
    warnings = [*tia.warnings, f"self-dose and cross-dose from: {', '.join(tia.organs)}"]
    if not_measured:
        warnings.append(
            f"sources of the S matrix without activity in this TIA count as zero: {', '.join(not_measured)}"
        )
    if not masses:
        warnings.append("S values are those of the matrix's reference person; no organ mass of this patient was given")
    warnings.append("S values of the matrix are taken as exact: their uncertainty is not in the intervals")
    own = [tia.organs.index(x) if x in tia.organs else -1 for x in targets]
    return _doses(
        tia,
        targets,
        point=parts_point.sum(axis=1),
        draws=parts.sum(axis=1),
        mass=(mass, mass_draws),
        s=(np.array([s_point[i, j] if j >= 0 else np.nan for i, j in enumerate(own)]), np.zeros(len(targets))),
        bound=np.full(len(targets), np.nan if not_measured else 0.0),
        kinetics=_mixed_kinetics(tia, parts_point, parts),
        warnings=tuple(warnings),
    )


def _checked_matrix(tia: TIA, s: xr.DataArray) -> xr.DataArray:
    from ..units import factor, same_dimension

    if set(s.dims) != {"target", "source"}:
        raise DoseError(f"S matrix: found dimensions {tuple(map(str, s.dims))}; needed: target and source")
    unit = s.attrs.get("units")
    if not unit:
        raise DoseError("S matrix: it does not say its unit; set s.attrs['units'] = 'Gy/(MBq h)' or 'mGy/(MBq s)'")
    if not same_dimension(str(unit), "Gy/(MBq h)"):
        raise DoseError(
            f"S matrix: unit {unit!r} is not a dose per activity and time; allowed: 'Gy/(MBq h)', 'mGy/(MBq s)'"
        )
    absent = [x for x in tia.organs if x not in s["source"].to_numpy()]
    if absent:
        raise DoseError(
            f"S matrix: no source {', '.join(absent)}; its sources are: {', '.join(map(str, s['source'].to_numpy()))}. "
            "Rename the organ, or sum its activity into one that is there"
        )
    matrix = s.transpose("target", "source") * factor(str(unit))
    if not np.all(np.isfinite(matrix.to_numpy()) & (matrix.to_numpy() >= 0)):
        raise DoseError("S matrix: it holds values that are negative or not finite")
    return matrix


def _mixed_kinetics(tia: TIA, parts_point: Floats, parts: Floats) -> tuple[Floats, ...]:
    """Dose-rate kinetics of each target: the sources' exponentials, weighted with the dose each source gives."""
    data = tia.data
    total_point, total = parts_point.sum(axis=1), parts.sum(axis=1)
    weight_point = np.divide(
        parts_point, total_point[:, None], out=np.zeros_like(parts_point), where=total_point[:, None] > 0
    )
    weight = np.divide(parts, total[:, None, :], out=np.zeros_like(parts), where=total[:, None, :] > 0)
    targets, sources, draws = parts.shape
    terms = data.sizes["term"]
    shape = (sources, draws, terms)
    rate = np.broadcast_to(data["rate"].to_numpy(), shape).transpose(1, 0, 2).reshape(draws, -1)
    share = np.broadcast_to(data["share"].to_numpy(), shape)
    share_mix = np.einsum("tsd,sdk->tdsk", weight, share).reshape(targets, draws, -1)
    share_point_mix = np.einsum("ts,sk->tsk", weight_point, data["share_point"].to_numpy()).reshape(targets, -1)
    rate_point = np.broadcast_to(data["rate_point"].to_numpy().reshape(1, -1), share_point_mix.shape)
    return rate_point, share_point_mix, np.broadcast_to(rate[None], share_mix.shape), share_mix


def _doses(
    tia: TIA,
    organs: Sequence[str],
    *,
    point: Floats,
    draws: Floats,
    mass: tuple[Floats, Floats],
    s: tuple[Floats, Floats],
    bound: Floats,
    kinetics: tuple[Floats, ...],
    warnings: tuple[str, ...],
) -> Doses:
    gbq = tia.injected_activity / 1000.0
    one, two = ("organ",), ("organ", "draw")
    rate_point, share_point, rate, share = kinetics
    many = (len(organs), draws.shape[1], rate.shape[-1])
    data = xr.Dataset(
        {
            "dose_point": variable(one, point, "Gy", "absorbed dose, point estimate"),
            "dose": variable(two, draws, "Gy", "absorbed dose"),
            "dose_per_activity_point": variable(
                one, point / gbq, "Gy/GBq", "dose per injected activity, point estimate"
            ),
            "dose_per_activity": variable(two, draws / gbq, "Gy/GBq", "dose per injected activity"),
            "mass_point": variable(one, mass[0], "g", "mass, point estimate"),
            "mass": variable(two, mass[1], "g", "mass"),
            "s_point": variable(one, s[0], "Gy/(MBq h)", "self S value"),
            "s_relative_sd": variable(one, s[1], "1", "relative standard deviation of the S value"),
            "cross_bound": variable(one, bound, "Gy", "upper bound of the dose that is not included"),
            "rate_point": variable(("organ", "term"), rate_point, "1/h", "dose-rate rate, point estimate"),
            "share_point": variable(("organ", "term"), share_point, "1", "dose-rate share, point estimate"),
            "rate": variable(("organ", "draw", "term"), np.broadcast_to(rate, many), "1/h", "dose-rate rate"),
            "share": variable(("organ", "draw", "term"), np.broadcast_to(share, many), "1", "dose-rate share"),
        },
        coords={"organ": list(organs)},
        attrs=dict(tia.data.attrs),
    )
    return Doses(data, warnings)
