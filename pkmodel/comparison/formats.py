"""`compare_formats`: one binder in several formats, with several nuclides, in the same virtual patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..dosimetry.s_values import Daughters
from ..errors import DoseError, SimulationError
from ..model import Model
from ..nuclides import Nuclide, nuclide
from ..units import dimension, quantity
from .doses import cross_bounds, organ_doses, read_limits, therapeutic_index
from .following import BLOOD, Followed, follow
from .kinetics import best_half_life, detectability, grid, match, peak, weights, window
from .recipes import KON, Setting, build, label_of, target_parts
from .result import FormatComparison
from .shared_draws import shared_patients

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

TUMOUR = "tumour"
FORMATS = ("igg", "fab", "affibody", "nanobody", "peptide")
NUCLIDES = ("Zr-89", "Ga-68", "Lu-177")
ORGANS = ("kidneys", "liver", "red_marrow")
HALF_LIVES = 8.0  # of the longest-lived nuclide that are followed; then physical decay alone
OWN = "as given"  # label of models that the caller brings


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be followed: one run for each format and label."""

    runs: Mapping[tuple[str, str], Model]
    nuclides: tuple[Nuclide, ...]
    labels: tuple[str, ...]  # of each nuclide
    times: Array
    nmol: float
    regions: tuple[str, ...]
    organs: tuple[str, ...]
    background: str


def compare_formats(
    formats: Sequence[str] | Mapping[str, Model] = FORMATS,
    nuclides: Sequence[str] | str = NUCLIDES,
    *,
    target: str | Sequence[str] = "her2",
    KD: str | Mapping[str, str] = "1 nmol/L",
    kon: str = KON,
    host: str = "adult_male",
    tumour: str = "tumour_simple",
    labels: Mapping[str, str] | None = None,
    parts: Sequence[str] = (),
    set: Mapping[str, Any] | None = None,
    amount: str = "20 nmol",
    organs: Sequence[str] = ORGANS,
    background: str = BLOOD,
    limits: Mapping[str, str | float] | None = None,
    daughters: Daughters = "equilibrium",
    n: int = 100,
    seed: int = 0,
    spread: Mapping[str, float] | None = None,
    progress: Callable[[str], None] | None = None,
) -> FormatComparison:
    """Compare formats of one binder: uptake, contrast, time to image, half-life, dose and therapeutic index.

    Every format is followed once per label chemistry, in the same virtual patients: a parameter that two formats share
    (an organ, the tumour, the target) has the same value in both for patient i. Activity of every nuclide follows
    from that, because a bolus keeps its specific activity everywhere.

    Parameters
    ----------
    formats : names of files ``vector_<format>``; or name -> own unlabelled Model with observables of the organs and
        parameters ``mass_<organ>``
    nuclides : names [text]
    target : ``"her2"``, the rest of a file name ``target_...``, or names of files [text]
    KD : of the binder, one for all or format -> KD [text with unit]
    kon : of the binder [text with unit]
    host, tumour : files of `models/hosts` and `models/tumours` [text]
    labels : nuclide -> file of `models/labels`; default by element (`label_of`)
    parts : further files of `models/`, e.g. a tissue expression [text]
    set : last word on parameters of every format, as in a model file
    amount : ligand given, the same for all formats [text with unit]
    organs : that get a dose, besides the tumour [text]
    background : region that a lesion must stand out from [text]
    limits : organ -> absorbed dose at which formats are compared; default kidneys 23, red marrow 2, liver 30 Gy
    daughters : ``"equilibrium"``: short-lived daughters decay where the nuclide does; ``"none"`` [text]
    n : virtual patients beside the typical one [1]
    seed : of the patients [1]
    spread : coefficients of variation in place of the models' own, e.g. ``{"KD": 0.3}``; where a model has no such
        parameter it is passed over [1]
    progress : called with a sentence before each step

    Returns
    -------
    FormatComparison

    Raises
    ------
    LibraryError
        A format, target, host, tumour or label does not exist.
    ModelError, UnitError
        Parts do not go together, or a number cannot be read.
    SimulationError
        A model lacks an organ or its mass, or the typical patient fails.
    """
    say = progress or (lambda step: None)
    chosen = tuple(nuclide(x) for x in ([nuclides] if isinstance(nuclides, str) else nuclides))
    if not chosen or not formats:
        raise SimulationError("a comparison needs at least one format and one nuclide")
    given = quantity(amount, "amount")
    if given.dimension != dimension("nmol") or not given.value > 0:
        raise SimulationError(f"amount {amount!r}; allowed: an amount of ligand above zero, such as '20 nmol'")
    own = isinstance(formats, Mapping)
    chemistry = tuple(OWN if own else (labels or {}).get(x.name) or label_of(x.name) for x in chosen)
    runs: dict[tuple[str, str], Model] = {}
    if isinstance(formats, Mapping):
        runs = {(f, OWN): m for f, m in formats.items()}
    else:
        setting = Setting(
            target=target_parts(target), host=host, tumour=tumour, KD=KD, kon=kon, parts=tuple(parts), set=set or {}
        )
        for f in dict.fromkeys(formats):
            for label in dict.fromkeys(chemistry):
                say(f"{f}: putting the model together with {label}")
                runs[f, label] = build(f, setting, label)
    wanted = tuple(dict.fromkeys((TUMOUR, *organs)))
    plan = _Plan(
        runs, chosen, chemistry, grid(HALF_LIVES * max(x.half_life for x in chosen)), given.value,
        tuple(dict.fromkeys((*wanted, background, BLOOD))), wanted, background,
    )  # fmt: skip
    followed = {}
    for (f, label), model in runs.items():
        say(f"{f}, {label}: {n} patients")
        table = shared_patients(model, n, seed, spread)
        followed[f, label] = follow(model, table, plan.nmol, plan.times, plan.regions)
    say("doses")
    data, notes = _table(plan, followed, read_limits(limits), daughters, seed)
    what = "own models" if own else f"{', '.join(target_parts(target))}; {host}; {tumour}"
    data.attrs = {"what": what, "amount": amount, "patients": n, "seed": seed, "background": background}
    return FormatComparison(data, tuple(notes))


def _table(
    plan: _Plan,
    followed: Mapping[tuple[str, str], Followed],
    limits: Mapping[str, float],
    daughters: Daughters,
    seed: int,
) -> tuple[xr.Dataset, list[str]]:
    """Everything that follows from the courses."""
    import xarray as xr

    formats = list(dict.fromkeys(f for f, _ in plan.runs))
    chemistry = list(dict.fromkeys(plan.labels))
    patients = next(iter(followed.values())).per_gram[TUMOUR].shape[0]
    shape = (len(formats), len(chemistry), len(plan.regions), plan.times.size)
    point, draws = np.empty(shape), np.empty((*shape, patients - 1), dtype=np.float32)
    for (f, label), one in followed.items():
        i, j = formats.index(f), chemistry.index(label)
        for k, region in enumerate(plan.regions):
            point[i, j, k] = one.per_gram[region][0]
            draws[i, j, k] = one.per_gram[region][1:].T
    pairs = list(zip(plan.nuclides, plan.labels, strict=True))
    cells = [[_cell(plan, followed[f, c], x, limits, daughters, seed) for x, c in pairs] for f in formats]
    values: dict[str, Any] = {
        "uptake_point": (("format", "label", "region", "time"), point, {"units": "%IA/g"}),
        "uptake": (("format", "label", "region", "time", "draw"), draws, {"units": "%IA/g"}),
        "half_life": ("nuclide", [x.half_life for x in plan.nuclides], {"units": "h"}),
    }
    for name, unit in _UNITS.items():
        stacked = np.array([[cell[name] for cell in row] for row in cells])
        dims = ("format", "nuclide", *(("organ",) if name in _BY_ORGAN else ()))
        about = {"units": unit}
        if stacked.ndim == len(dims):
            values[name if name == "cross_bound" else f"{name}_point"] = (dims, stacked, about)
            continue
        values[f"{name}_point"] = (dims, stacked[..., 0], about)
        values[name] = ((*dims, "draw"), stacked[..., 1:], about)
    values["limiting"] = (("format", "nuclide"), np.array([[cell["limiting"] for cell in row] for row in cells]))
    coords: dict[str, Any] = {
        "format": formats,
        "label": chemistry,
        "region": list(plan.regions),
        "organ": list(plan.organs),
    }
    coords |= {"nuclide": [x.name for x in plan.nuclides], "time": ("time", plan.times, {"units": "h"})}
    coords |= {"label_of": ("nuclide", list(plan.labels))}
    return xr.Dataset(values, coords), _notes(plan, followed, limits, values["cross_bound"][1], values["dose_point"][1])


_BY_ORGAN = ("tiac", "dose", "cross_bound")
_UNITS = {
    "tiac": "h", "dose": "Gy/GBq", "cross_bound": "Gy/GBq", "best_time": "h", "window_first": "h", "window_last": "h",
    "contrast": "1", "signal": "(%IA/g)^0.5", "uptake_then": "%IA/g", "match": "1", "best_half_life": "h",
    "peak_time": "h", "index": "Gy", "activity": "GBq", "ratio": "1",
}  # fmt: skip


def _cell(
    plan: _Plan, one: Followed, x: Nuclide, limits: Mapping[str, float], daughters: Daughters, seed: int
) -> dict[str, Any]:
    """One format with one nuclide: (patients,) arrays, the typical patient first."""
    decay, times = x.decay_constant, plan.times
    tiac = {o: one.share[o] @ weights(times, decay) for o in plan.organs}
    doses = organ_doses(tiac, one.mass, x.name, daughters=daughters, seed=seed)
    index = therapeutic_index(doses, limits)
    if math.isnan(one.body_mass):
        bounds = dict.fromkeys(plan.organs, math.nan)
    else:
        bounds = cross_bounds(tiac, one.mass, x.name, body_mass=one.body_mass, daughters=daughters)
    lesion, behind = one.per_gram[TUMOUR], one.per_gram[plan.background]
    seen = detectability(lesion, behind, times, decay)
    when, height = peak(seen, times)
    first, last = window(seen[0], times)
    then, there = _at(lesion, times, when), _at(behind, times, when)
    with np.errstate(divide="ignore", invalid="ignore"):
        contrast = then / there
    return {
        "tiac": np.array([tiac[o] for o in plan.organs]),
        "dose": np.array([doses[o] for o in plan.organs]),
        "cross_bound": np.array([bounds[o] for o in plan.organs]),
        "best_time": when,
        "window_first": first,
        "window_last": last,
        "contrast": contrast,
        "signal": np.sqrt(height),
        "uptake_then": then,
        "match": match(lesion, times, decay),
        "best_half_life": best_half_life(lesion[0], times),
        "peak_time": float(peak(lesion[:1], times)[0][0]),
        "index": index.tumour,
        "activity": index.activity,
        "ratio": index.ratio,
        "limiting": str(index.organ[0]),
    }


def _at(values: Array, times: Array, when: Array) -> Array:
    """Value of each patient's curve at a time of its own; nan where there is no such time."""
    out = np.full(when.shape, np.nan)
    for i, t in enumerate(when):
        if np.isfinite(t):
            out[i] = np.interp(t, times, values[i])
    return out


def _notes(
    plan: _Plan, followed: Mapping[tuple[str, str], Followed], limits: Mapping[str, float], bound: Array, dose: Array
) -> list[str]:
    """What a reader must know."""
    at = ", ".join(f"{o} {v:g} Gy" for o, v in limits.items())
    notes = [f"limits are there to set formats beside each other, not for planning: {at}"]
    if lost := {f"{f} with {label}": one.left_out for (f, label), one in followed.items() if one.left_out}:
        notes.append("patients left out: " + ", ".join(f"{k} {v}" for k, v in lost.items()))
    if np.isfinite(bound).any():
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(dose > 0, bound / dose, np.nan)
        worst = []
        for k, x in enumerate(plan.nuclides):
            most = zip(plan.organs, np.nanmax(share[:, k], axis=0), strict=True)
            worst.append(f"{x.name} " + ", ".join(f"{o} {100 * m:.0f} %" for o, m in most))
        notes.append(f"self-dose only; photons from elsewhere add at most (bound, any format): {'; '.join(worst)}")
    else:
        notes.append("self-dose only; photons from other organs are not included")
    if any(o == "red_marrow" for o in plan.organs):
        notes.append("red marrow: electrons that leave it for bone are counted in it, an upper bound")
    if missing := [o for o in limits if o not in plan.organs]:
        raise DoseError(f"limit of {', '.join(missing)}: no dose is computed for it; name it in organs= as well")
    every = {n: p for m in plan.runs.values() for n, p in m.parameters.items() if p.value is not None}
    unverified = sorted(n for n, p in every.items() if p.status == "unverified")
    if unverified:
        few = ", ".join(unverified[:6]) + (f" and {len(unverified) - 6} more" if len(unverified) > 6 else "")
        notes.append(f"{len(unverified)} parameters are unverified: {few}")
    return notes
