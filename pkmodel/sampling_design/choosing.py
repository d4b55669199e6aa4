"""The verbs: `design` chooses scans, `sampling_adequacy` judges given ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SimulationError, did_you_mean
from ..model import Model
from ..regimen import Regimen
from .clinic import Clinic
from .information import ABOUT_TIA, Criterion, make_criterion, not_informed, of_scans
from .population import PopulationCriterion, sensitivities, study_information
from .possible import candidates_of, latest, with_fixed
from .reading import make_setting, scan_times
from .result import Design
from .scan_noise import Noise
from .search import Candidates, Indices, choose, polish
from .setting import Setting

if TYPE_CHECKING:
    import pandas as pd

    from ..inference.population_file import PopulationModel

Array = NDArray[np.float64]
METHODS = ("auto", "exact", "exchange")


def design(
    model: Model | str,
    regimen: Regimen | str | None = None,
    *,
    scans: int | Sequence[int] = 3,
    organs: Sequence[str] | Mapping[str, float] | str | None = None,
    criterion: str = "tia",
    of: Sequence[str] = (),
    nuclide: str | None = None,
    cold: bool = False,
    free: Sequence[str] | None = None,
    spread: Mapping[str, float] | None = None,
    omega: pd.DataFrame | None = None,
    population: PopulationModel | str | Path | None = None,
    prior: bool = True,
    noise: Noise | Mapping[str, Noise] | None = None,
    clinic: Clinic | None = None,
    times: ArrayLike | None = None,
    last: float | None = None,
    minutes: float | Sequence[float] = 0.0,
    budget: float | None = None,
    gap: float = 0.0,
    windows: Sequence[tuple[float, float]] | None = None,
    fixed: Sequence[float] = (),
    target: float | None = None,
    patients: int | pd.DataFrame = 0,
    subjects: int = 0,
    expression: str = "block",
    mass_sd: Mapping[str, float] | None = None,
    method: str = "auto",
    polished: bool | None = None,
    seed: int = 0,
    inputs: Mapping[str, Any] | None = None,
    covariates: Mapping[str, Any] | None = None,
) -> Design:
    """Choose when to scan, how often and how long, so that time-integrated activity becomes most precise.

    Parameters
    ----------
    model : labelled or not, or the name of one
    regimen : a Regimen or text; default that of the agent
    scans : how many; a list tries each, and takes the fewest that reach `target`, else the most [1]
    organs : observables that are imaged and whose TIA counts; name -> weight, 0: imaged only; default all activities
    criterion : "tia" (root mean square relative SD of TIA over the organs; c-optimal), "dose" (the same scans, with the
        masses' SD reported), "worst" (the largest organ), "D" (all parameters), "A", "Ds" (the parameters `of`) [text]
    of : parameters of interest of "Ds" [text]
    nuclide, cold : label the model, as `label` does
    free : unknown parameters; default those with a spread [text]
    spread : coefficient of variation between patients, in place of or beside the model's own, name -> cv [1]
    omega : covariance between patients on the scale of the fit (logarithms), names as index and columns
    population : a population that was fitted, or its file; gives typical values and omega
    prior : whether the spread counts as information about the patient (Bayesian, MAP); False: scans alone count
    noise : relative SD of one organ in one scan, or `ScanNoise`; one for all or name -> noise; default 10 % (assumed)
    clinic : opening hours; default any time
    times : when scans may begin, in place of a grid [h]
    last : latest end of a scan; default one week, or five half-lives if that is less [h]
    minutes : length of the frames, or the lengths to choose from [min]
    budget : all frames together at most [min]
    gap : least time between scans [h]
    windows : (from, to) in which the first, second, ... scan begins, one for each scan [h]
    fixed : scans that are done anyway, beside those that are chosen [h]
    target : relative SD that is good enough [1]
    patients : number of patients drawn from the population, or a table as of `cohort`, over whom the criterion is
        averaged (robust design); 0: the typical one
    subjects : above 0: plan a population study of so many subjects, all scanned alike (criterion D, Ds or A)
    expression : of a population's information: "block", "full" (first order) or "foce" [text]
    mass_sd : relative SD of organ masses, name -> SD [1]
    method : "exact" (all combinations), "exchange" or "auto": exact where that takes a second or two [text]
    polished : move the scans off the grid to the best minute; default where neither `clinic` nor `times` is given
    seed : of draws and starts [1]
    inputs, covariates : as of `simulate`

    Returns
    -------
    Design
        Scans and expected precision; ``print`` it, ``.plot()``, ``.leave_out()``, ``.add_scan()``.

    Raises
    ------
    SimulationError
        Something cannot be read, windows or hours leave nothing, or no such set of scans determines what is asked for;
        the message names the parameters.
    """
    setting = make_setting(
        model, regimen, organs, nuclide_name=nuclide, cold=cold, free=free, spread=spread, omega=omega,
        population=population, prior=prior, noise=noise, patients=patients, seed=seed, inputs=inputs,
        covariates=covariates,
    )  # fmt: skip
    who = setting.model.who
    if method not in METHODS:
        raise SimulationError(f"{who}: method {method!r}{did_you_mean(method, METHODS)}; allowed: {', '.join(METHODS)}")
    numbers = [scans] if isinstance(scans, int) else [] if isinstance(scans, str) else sorted(set(scans))
    if not all(isinstance(n, int) for n in numbers) or not numbers or min(numbers) < 1:
        raise SimulationError(
            f"{who}: scans = {scans!r}; no scans tell nothing: give 1 or more, or several numbers, as [1, 2, 3]"
        )
    if windows is not None and any(n != len(windows) for n in numbers):
        raise SimulationError(f"{who}: {len(windows)} windows for {numbers[-1]} scans; give one window for each scan")
    candidates = candidates_of(setting, clinic, times, last, minutes, gap, windows, budget, fixed)
    whole = with_fixed(candidates, fixed, float(np.min(minutes)) / 60.0)
    judged = _criterion(setting, criterion, of, whole, subjects, expression, seed)
    size, always = candidates.start.size, np.arange(candidates.start.size, whole.start.size)

    def objective(sets: Indices) -> Array:
        return judged(np.hstack([sets, np.broadcast_to(always, (len(sets), always.size))]))

    steps: list[tuple[int, float, Array]] = []
    chosen: Design | None = None
    for n in numbers:
        cost = 100 if subjects else len(setting.people)
        found = choose(objective, candidates, n, method=method, patients=cost, seed=seed)
        if not math.isfinite(found.value):
            if n != numbers[-1]:
                continue
            raise SimulationError(_undetermined(setting, judged, size, n))
        start, hours, value, how = whole.start[found.indices], whole.hours[found.indices], found.value, found.method
        free_to_move = clinic is None and times is None if polished is None else polished
        if free_to_move and not subjects and not len(fixed):
            start, value = _polished(setting, judged, candidates, found.indices, clinic, windows)
            how += ", then off the grid"
        order = np.argsort(np.concatenate([start, whole.start[always]]), kind="stable")
        start = np.concatenate([start, whole.start[always]])[order]
        hours = np.concatenate([hours, whole.hours[always]])[order]
        steps.append((n, value, start))
        chosen = _design(
            setting, start, hours, criterion, of, value, how, found.tried, candidates, judged, clinic, subjects,
            expression, mass_sd, tuple(steps), target, seed,
        )  # fmt: skip
        if target is not None and value <= target:
            break
    assert chosen is not None
    return chosen


def sampling_adequacy(
    model: Model | str,
    regimen: Regimen | str | None,
    times: ArrayLike,
    *,
    organs: Sequence[str] | Mapping[str, float] | str | None = None,
    criterion: str = "tia",
    of: Sequence[str] = (),
    nuclide: str | None = None,
    cold: bool = False,
    free: Sequence[str] | None = None,
    spread: Mapping[str, float] | None = None,
    omega: pd.DataFrame | None = None,
    population: PopulationModel | str | Path | None = None,
    prior: bool = True,
    noise: Noise | Mapping[str, Noise] | None = None,
    minutes: float | Sequence[float] = 0.0,
    clinic: Clinic | None = None,
    gap: float = 0.0,
    last: float | None = None,
    patients: int | pd.DataFrame = 0,
    subjects: int = 0,
    expression: str = "block",
    mass_sd: Mapping[str, float] | None = None,
    seed: int = 0,
    inputs: Mapping[str, Any] | None = None,
    covariates: Mapping[str, Any] | None = None,
) -> Design:
    """Judge a protocol: what its scans will tell of each parameter, TIA and dose, before anyone is injected.

    Parameters
    ----------
    model, regimen : as of `design`
    times : (n,) array, beginnings of the scans after the first administration [h]
    organs, criterion, of, nuclide, cold, free, spread, omega, population, prior, noise, clinic, gap, last, patients,
        subjects, expression, mass_sd, seed, inputs, covariates : as of `design`
    minutes : length of all frames, or of each [min]

    Returns
    -------
    Design
        With ``method`` "given". What is not determined is infinite, and said in its warnings.

    Raises
    ------
    SimulationError
        There are no scans, one is before the injection, two overlap, or a name is not known.
    """
    setting = make_setting(
        model, regimen, organs, nuclide_name=nuclide, cold=cold, free=free, spread=spread, omega=omega,
        population=population, prior=prior, noise=noise, patients=patients, seed=seed, inputs=inputs,
        covariates=covariates,
    )  # fmt: skip
    start, hours = scan_times(times, np.asarray(minutes, dtype=float) / 60.0, setting.model.who)
    grid = Candidates(start, hours, 0.0, None, math.inf)
    judged = _criterion(setting, criterion, of, grid, subjects, expression, seed)
    value = float(judged(np.arange(start.size)[None, :])[0])
    more = None
    if not setting.model.inputs:
        wide = (
            None if last is None and start[-1] + hours[-1] <= latest(setting) else last or float(start[-1] + hours[-1])
        )
        more = candidates_of(setting, clinic, None, wide, float(np.min(minutes)), gap, None, None, ())
    return _design(
        setting, start, hours, criterion, of, value, "given", 0, more, None, clinic, subjects, expression, mass_sd, (),
        None, seed,
    )  # fmt: skip


def _criterion(
    setting: Setting, kind: str, of: Sequence[str], grid: Candidates, subjects: int, expression: str, seed: int
) -> Criterion | PopulationCriterion:
    who = setting.model.who
    if not subjects:
        totals = setting.totals() if kind in ABOUT_TIA else None
        return make_criterion(setting, kind, setting.expected(grid.start, grid.hours), totals, of)
    if subjects < 0 or kind not in ("D", "Ds", "A"):
        raise SimulationError(f"{who}: a study of {subjects} subjects with criterion {kind!r}; allowed: D, Ds, A")
    sens = sensitivities(setting, grid.start, grid.hours, expression, seed=seed)
    found = PopulationCriterion(setting, sens, kind, expression, subjects)
    if kind != "Ds":
        return found
    names = study_information(setting, sens, [(np.arange(1), 1)], expression).names
    if not of or any(n not in names for n in of):
        raise SimulationError(f"{who}: criterion Ds needs of=[...], some of {', '.join(names)}")
    return PopulationCriterion(setting, sens, kind, expression, subjects, tuple(names.index(n) for n in of))


def _polished(
    setting: Setting,
    judged: Criterion | PopulationCriterion,
    candidates: Candidates,
    indices: Indices,
    clinic: Clinic | None,
    windows: Sequence[tuple[float, float]] | None,
) -> tuple[Array, float]:
    """The same scans moved in continuous time, within opening hours and windows."""
    assert isinstance(judged, Criterion)
    start, hours = candidates.start[indices], candidates.hours[indices]
    bounds = []
    for k, t in enumerate(start):
        low, high = float(candidates.start[0]), float(candidates.start[-1])
        if clinic is not None:
            low, high = next((a, b - hours[k]) for a, b in clinic.intervals(t + 24.0) if a - 1e-9 <= t <= b + 1e-9)
        if windows is not None:
            low, high = max(low, windows[k][0]), min(high, windows[k][1])
        bounds.append((max(low, 1e-3), high))
    totals = setting.totals() if judged.kind in ABOUT_TIA else None
    of = [setting.slots[k].parameter for k in judged.subset]

    def value_at(trial: Array) -> float:
        now = make_criterion(setting, judged.kind, setting.expected(trial, hours), totals, of)
        return float(now(np.arange(trial.size)[None, :])[0])

    return polish(value_at, start, bounds, hours, candidates.gap)


def _undetermined(setting: Setting, judged: Criterion | PopulationCriterion, size: int, scans: int) -> str:
    """Why no set of scans will do, naming the parameters."""
    who = setting.model.who
    if isinstance(judged, PopulationCriterion):
        found = study_information(setting, judged.sens, [(np.arange(size), judged.subjects)], judged.expression)
        lost = [n for n, se in zip(found.names, found.relative_se, strict=True) if np.isnan(se)]
        what = (
            f"even all candidates together do not determine {', '.join(lost)}" if lost else f"{scans} scans are too few"
        )
        return f"{who}: the information is singular: {what}; add scans or organs, or take parameters as known"
    lost = not_informed(setting, judged.scans[0].sum(axis=0) + setting.precision)
    if lost:
        what = f"even all candidates together do not determine {', '.join(lost)}"
    else:
        names = ", ".join(s.parameter for s in setting.slots)
        what = f"{scans} scan{'s' if scans > 1 else ''} cannot determine {names} without prior knowledge"
    remedy = "add scans or organs, fix parameters, or give spread= with prior=True"
    return f"{who}: the information is singular: {what}; {remedy}"


def _design(
    setting: Setting, start: Array, hours: Array, kind: str, of: Sequence[str], value: float, how: str, tried: int,
    candidates: Candidates | None, judged: Criterion | PopulationCriterion | None, clinic: Clinic | None, subjects: int,
    expression: str, mass_sd: Mapping[str, float] | None, steps: tuple[tuple[int, float, Array], ...],
    target: float | None, seed: int,
) -> Design:  # fmt: skip
    masses = dict(mass_sd or {})
    if unknown := [n for n in masses if n not in setting.names]:
        raise SimulationError(f"{setting.model.who}: mass_sd of {unknown[0]}: imaged are {', '.join(setting.names)}")
    if subjects:
        sens = sensitivities(setting, start, hours, expression, seed=seed)
        study = study_information(setting, sens, [(np.arange(start.size), subjects)], expression)
        return Design(
            setting, start, hours, kind, value, how, tried, None, None, None, clinic, None, study, masses, steps, target
        )  # fmt: skip
    has_tia = bool(setting.model.nuclide) and not setting.model.inputs and any(o.activity for o in setting.organs)
    totals = setting.totals() if has_tia else None
    own = make_criterion(setting, kind, setting.expected(start, hours), totals, of)
    extra = None
    if candidates is not None:
        size = candidates.start.size
        extra = judged.scans[:, :size] if isinstance(judged, Criterion) else None
        extra = of_scans(setting, setting.expected(candidates.start, candidates.hours)) if extra is None else extra
    return Design(
        setting, start, hours, kind, value, how, tried, own, candidates, extra, clinic, totals, None, masses, steps,
        target,
    )  # fmt: skip
