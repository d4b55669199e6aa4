"""Read what a user says of a design: the words of the verbs become a `Setting`, or a refusal that names the word."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SimulationError, did_you_mean
from ..inference.protocol import Free
from ..inference.slots import Slot, make_slot
from ..model import Model
from ..nuclides import nuclide
from ..regimen import Regimen
from ..units import dimension, factor
from .scan_noise import Noise, ScanNoise, noise_of
from .setting import Imaged, Setting

if TYPE_CHECKING:
    import pandas as pd

    from ..inference.population_file import PopulationModel

Array = NDArray[np.float64]


def make_setting(
    model: Model | str,
    regimen: Regimen | str | None,
    organs: Sequence[str] | Mapping[str, float] | str | None,
    *,
    nuclide_name: str | None = None,
    cold: bool = False,
    free: Sequence[str] | None = None,
    spread: Mapping[str, float] | None = None,
    omega: pd.DataFrame | None = None,
    population: PopulationModel | str | Path | None = None,
    prior: bool = True,
    noise: Noise | Mapping[str, Noise] | None = None,
    patients: int | pd.DataFrame = 0,
    seed: int = 0,
    inputs: Mapping[str, Any] | None = None,
    covariates: Mapping[str, Any] | None = None,
) -> Setting:
    """Read what a user says; the words are those of `design`."""
    if isinstance(population, str | Path):
        from ..inference.population_file import PopulationModel

        population = PopulationModel.load(population)
    loaded, plan, said = _load(model, regimen, nuclide_name or (population.nuclide if population else None), cold)
    if population is not None:
        loaded = population.apply(loaded)
    who = loaded.who
    chosen = _organs(loaded, organs)
    if noise is None and population is not None:
        noise = _noise_of_population(population, tuple(chosen), who)
    errors = noise_of(noise, tuple(chosen), who)
    notes = said if noise is not None else [*said, "noise: 10 % of one organ in one scan is an assumption; give noise="]
    slots, matrix, known = _unknowns(loaded, free, spread or {}, omega, population)
    names = list(loaded.observables)
    imaged = tuple(
        Imaged(n, names.index(n), loaded.observables[n].unit, errors[n], w,
               dimension(loaded.observables[n].unit) == dimension("MBq"))
        for n, w in chosen.items()
    )  # fmt: skip
    if prior and not known.any():
        notes.append("nothing is known of the parameters beforehand: no spread, so no prior information")
    setting = Setting(
        loaded, plan, slots, imaged, matrix, known, np.zeros((0, len(slots))), prior, dict(inputs or {}),
        dict(covariates or {}), tuple(notes),
    )  # fmt: skip
    return replace(setting, people=_people(setting, patients, seed))


def _load(
    model: Model | str, regimen: Regimen | str | None, hot: str | None, cold: bool
) -> tuple[Model, Regimen, list[str]]:
    """The labelled model, what is given, and what was taken for granted."""
    from ..agents import load_agent, regimen_of

    notes: list[str] = []
    if isinstance(model, str):
        from ..assembly import load_model

        model = load_model(model)
    if not model.nuclide and not hot and "nuclide" in (model.tracer or {}):
        model = load_agent(model)
    elif hot and not model.nuclide:
        from ..labelling import label

        model = label(model, hot, cold=cold)
    elif hot and nuclide(hot).name != model.nuclide:
        raise SimulationError(f"{model.who}: labelled with {model.nuclide}, not {hot}; leave out nuclide=")
    if regimen is None and model.inputs:
        return model, Regimen.nothing(), notes
    if regimen is None:
        whole = regimen_of(model)
        plan = Regimen.of(whole.administrations[0], nuclide=whole.nuclide)
        if len(whole.administrations) > 1:
            notes.append(f"given as {whole.text}: scans and TIA are of the first administration; say regimen= for more")
        return model, plan, notes
    return model, Regimen(regimen) if isinstance(regimen, str) else regimen, notes


def _organs(model: Model, given: Sequence[str] | Mapping[str, float] | str | None) -> dict[str, float]:
    every = [o.name for o in model.observables.values() if dimension(o.unit) == dimension("MBq")]
    if given is None:
        given = every if every else list(model.observables)
    if isinstance(given, str):
        given = [given]
    weights = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given, 1.0)
    if not weights:
        raise SimulationError(f"{model.who}: no organ is imaged; known: {', '.join(model.observables)}")
    for name, weight in weights.items():
        if name not in model.observables:
            raise SimulationError(
                f"{model.who}: {name!r}{did_you_mean(name, model.observables)}: no such organ; known: "
                f"{', '.join(model.observables)}"
            )
        if not (math.isfinite(weight) and weight >= 0):
            raise SimulationError(f"{model.who}: weight of {name} is {weight}; allowed: 0 (imaged only) or more")
    if not sum(weights.values()) > 0:
        raise SimulationError(f"{model.who}: the weights of all organs are 0; give one a weight above 0")
    return {n: float(w) for n, w in weights.items()}


def _unknowns(
    model: Model,
    free: Sequence[str] | None,
    spread: Mapping[str, float],
    omega: pd.DataFrame | None,
    population: PopulationModel | None,
) -> tuple[tuple[Slot, ...], Array, NDArray[np.bool_]]:
    """Unknown parameters, their covariance between patients, and which have one."""
    if population is not None:
        return _of_population(model, free, population)
    for name, cv in spread.items():
        if name not in model.primary:
            raise SimulationError(
                f"{model.who}: spread of {name!r}{did_you_mean(name, model.primary)}: no such parameter with a value; "
                f"known: {', '.join(model.primary)}"
            )
        if not isinstance(cv, int | float) or not 0 <= cv < math.inf:
            raise SimulationError(
                f"{model.who}: spread of {name} is {cv!r}; write 0.3 for 30 %: a coefficient of variation is 0 or more"
            )
    own = {n: (spread[n] if n in spread else model.parameters[n].cv) or 0.0 for n in model.primary}
    names = list(free) if free is not None else [n for n, cv in own.items() if cv > 0]
    if omega is not None and free is None:
        names = [str(n) for n in omega.index]
    if not names:
        raise SimulationError(
            f"{model.who}: no parameter is unknown; give spread={{name: cv}} (what is known beforehand) or free=[name]"
        )
    if unknown := [n for n in names if n not in model.primary]:
        raise SimulationError(
            f"{model.who}: {unknown[0]!r}{did_you_mean(unknown[0], model.primary)}: no such parameter with a value; "
            f"known: {', '.join(model.primary)}"
        )
    slots = tuple(make_slot(model, n, Free(), "") for n in names)
    sd = np.array([_sd(s, own[s.parameter]) for s in slots])
    matrix = np.diag(sd**2)
    if omega is not None:
        table = omega.reindex(index=names, columns=names).to_numpy(dtype=float)
        given = np.isfinite(np.diag(table))
        table = np.where(np.isfinite(table), table, 0.0)
        matrix = np.where(given[:, None] & given[None, :], table, matrix * (~given)[:, None])
        if not np.allclose(matrix, matrix.T) or np.any(np.linalg.eigvalsh(matrix) < -1e-12):
            raise SimulationError(f"{model.who}: omega must be symmetric and positive definite")
    return slots, matrix, np.diag(matrix) > 0


def _sd(slot: Slot, cv: float) -> float:
    """Standard deviation on the scale of the fit of a coefficient of variation."""
    if slot.transform == "log":
        return math.sqrt(math.log1p(cv**2))
    return cv * abs(slot.start) / float(slot.slope(slot.to_scale(slot.start)))


def _of_population(
    model: Model, free: Sequence[str] | None, population: PopulationModel
) -> tuple[tuple[Slot, ...], Array, NDArray[np.bool_]]:
    """The same from a known population: typical values and the spread of a new patient on a new occasion."""
    keep = [int(k) for k in population.varying if free is None or population.slots[int(k)].parameter in free]
    if regional := [s.label for s in population.slots if s.region]:
        raise SimulationError(
            f"{model.who}: the population has parameters of single regions ({', '.join(regional)}); design one region "
            "at a time, with spread="
        )
    if not keep:
        raise SimulationError(f"{model.who}: nothing of what may be free varies in this population")
    slots = tuple(population.slots[k] for k in keep)
    matrix = (population.omega + population.occasion_omega)[np.ix_(keep, keep)]
    return slots, matrix, np.diag(matrix) > 0


def _noise_of_population(population: PopulationModel, organs: Sequence[str], who: str) -> dict[str, Noise]:
    """Its residual errors, for the organs that are imaged."""
    out: dict[str, Noise] = {}
    known = dict(population.noise)
    if len(known) == len(organs) == 1:  # a model of one region calls it by its own word
        known = dict(zip(organs, known.values(), strict=True))
    for name in organs:
        if name not in known:
            raise SimulationError(
                f"{who}: the population has no residual error for {name}; known: {', '.join(known)}; give noise="
            )
        error = known[name]
        out[name] = ScanNoise(proportional=error.proportional, additive=error.additive)
    return out


def _people(setting: Setting, patients: int | pd.DataFrame, seed: int) -> Array:
    """The typical patient alone, or a cohort."""
    if isinstance(patients, int):
        if patients < 0:
            raise SimulationError(f"{setting.model.who}: patients = {patients}; allowed: 0 (the typical one) or more")
        return setting.drawn(patients, seed) if patients else setting.typical[None, :]
    out = np.tile(setting.typical, (len(patients), 1))
    for k, slot in enumerate(setting.slots):
        if slot.parameter in patients:
            out[:, k] = slot.to_scale(np.asarray(patients[slot.parameter], dtype=float) * factor(slot.unit))
    if not len(out) or not np.isfinite(out).all():
        raise SimulationError(
            f"{setting.model.who}: the table of patients is empty or holds values that are not finite"
        )
    return out


def scan_times(given: ArrayLike, hours: float | ArrayLike, who: str) -> tuple[Array, Array]:
    """Check the scans of a protocol: beginnings and lengths, both (n,) [h].

    Raises
    ------
    SimulationError
        There are none, one is before the injection, or two overlap.
    """
    try:
        start = np.atleast_1d(np.asarray(given, dtype=float))
    except (TypeError, ValueError):
        raise SimulationError(f"{who}: times {given!r} are not numbers; give hours, e.g. [4, 24, 96]") from None
    length = np.broadcast_to(np.asarray(hours, dtype=float), start.shape).copy()
    if start.ndim != 1 or start.size == 0:
        raise SimulationError(f"{who}: no scans; give times after the injection, e.g. [4, 24, 96] h")
    if not np.isfinite(start).all() or np.any(start < 0):
        early = start[~(start >= 0)][0]
        raise SimulationError(f"{who}: a scan at {early:g} h is before the injection; times are hours after it")
    if not np.isfinite(length).all() or np.any(length < 0):
        raise SimulationError(f"{who}: lengths of frames must be 0 or more, found {length.tolist()}")
    order = np.argsort(start, kind="stable")
    start, length = start[order], length[order]
    clash = np.flatnonzero((start[1:] < (start + length)[:-1] - 1e-9) | (np.diff(start) <= 0))
    if clash.size:
        k = int(clash[0])
        raise SimulationError(
            f"{who}: the scan at {start[k + 1]:g} h begins before that at {start[k]:g} h is over; move or shorten one"
        )
    return start, length
