"""The main job: one patient's serial images in, organ doses and what the next cycles may have out.

``run`` chains the verbs of the package and adds no arithmetic of its own: load, fit, compare, integrate, dose, plan.
With ``out`` it also writes the report (`pkmodel.report`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .assembly import load_model
from .data import Curves, Study, load_study
from .dosimetry.absorbed import Mass, dose
from .dosimetry.integration import integrate
from .dosimetry.limits import Limit
from .dosimetry.planning import Plan, plan
from .dosimetry.present import round_down, show
from .dosimetry.result import TIA, Doses
from .dosimetry.s_values import Daughters, organ_shape
from .errors import DataError, DoseError, FitError
from .evidence import (
    SIMPLER,
    TOLERANCE_NOTE,
    Against,
    Practice,
    body_for_bound,
    choice_of_model,
    default_limits,
    practice_methods,
    published_comparison,
    with_simpler,
)
from .inference.fitting import fit as fit_curves
from .inference.protocol import Protocol, load_protocol
from .model import Model

if TYPE_CHECKING:
    from .inference.compare import Comparison
    from .inference.result import Fit

PROTOCOL = "serial_spect"
Limits = Mapping[str, str | float] | Sequence[Limit]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MainJob:
    """Everything `run` found, in the order it was found.

    Parameters
    ----------
    study, curves : the data and the subject
    fit : of the model the doses rest on
    comparison : with a simpler model, None where the points do not allow one
    simpler : TIA of that simpler model, None where there is none
    tia, doses : with draws
    masses : organ -> (mass, standard deviation), from CT volumes where the user gave none [g]
    plan : for the cycles asked for, None where no limit is known
    schedules : the same limits for 1 to 6 further cycles
    limits_given : whether the user gave the limits [bool]
    practice, against : integrals of daily practice; numbers published from the same data
    notes : what `run` itself has to say [text]
    paths : name -> file, where a report was written
    settings : what was asked for
    """

    study: Study
    curves: Curves
    fit: Fit
    comparison: Comparison | None
    simpler: TIA | None
    tia: TIA
    doses: Doses
    masses: Mapping[str, tuple[float, float]]
    plan: Plan | None
    schedules: Plan | None
    limits_given: bool
    practice: tuple[Practice, ...]
    against: tuple[Against, ...]
    notes: tuple[str, ...] = ()
    paths: Mapping[str, Path] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Every warning of every step, once."""
        steps = (self.curves, self.fit, self.tia, self.doses, *((self.plan,) if self.plan else ()))
        return tuple(dict.fromkeys([*(x for s in steps for x in s.warnings), *self.notes]))

    def headline(self) -> list[str]:
        """The answer in a few sentences."""
        given = self.doses.injected_activity
        points, draws = self.doses.data["dose_point"].to_numpy(), self.doses.data["dose"].to_numpy()
        parts = [
            f"{organ.replace('_', ' ')} {show(float(point), 3)} Gy{_interval(row)}"
            for organ, point, row in zip(self.doses.organs, points, draws, strict=True)
        ]
        per = "per MBq injected" if self.curves.injected_activity is None else f"from {given / 1000:.4g} GBq"
        lines = [f"Self-dose {per} of {self.curves.agent or self.curves.nuclide}: {', '.join(parts)}."]
        if self.plan is None:
            return [*lines, "No activity was planned, because no limit is known for these organs."]
        one = self.plan.best
        cycles = "1 further cycle" if one.number == 1 else f"{one.number} further cycles of equal activity"
        lines.append(
            f"With P(any limit exceeded) at or below {self.plan.probability:g}, {cycles} may have at most "
            f"{round_down(one.activity / 1000)} GBq each; limited by {one.limiting.replace('_', ' ')}."
        )
        return lines

    def __str__(self) -> str:
        blocks = ["\n".join(self.headline()), str(self.fit), str(self.tia), str(self.doses)]
        if self.plan is not None:
            blocks.append(str(self.plan))
        blocks.append("\n".join(f"! {n}" for n in self.notes))
        return "\n\n".join(b for b in blocks if b)

    __repr__ = __str__


def run(
    study: str | Path | Study,
    *,
    subject: str | None = None,
    model: Model | str | None = None,
    protocol: Protocol | str | None = None,
    out: str | Path | None = None,
    limits: Limits | None = None,
    already: Mapping[str, float | str] | None = None,
    cycles: int | Iterable[int] = 3,
    interval: float | str = "8 wk",
    probability: float = 0.05,
    masses: Mapping[str, Mass] | None = None,
    body_mass: float | str | None = None,
    daughters: Daughters | None = None,
    draws: int = 1000,
    seed: int = 0,
    command: str = "",
    progress: Callable[[str], None] | None = None,
) -> MainJob:
    """From a patient's serial images to organ doses and a plan for further cycles.

    Parameters
    ----------
    study : a data set, its name, or the path of its folder
    subject : needed where the data set has several [text]
    model, protocol : default the protocol's model, and ``serial_spect``
    out : folder of the report; None: compute only, write nothing
    limits : as in `plan`; they hold for the measured and the further cycles together. None: published tolerance doses
        of organs that have one, for illustration
    already : organ -> received before the measured administration, in the kind of its limit, as in `plan`
    cycles, interval, probability : of the plan, as in `plan`
    masses : organ -> mass [g]; organs not named take the mean CT volume of their curve
    body_mass : bounds the cross-dose that is not included; default the study's, or a reference adult's, number [g] or
        text
    daughters : as in `dose`; must be said where daughters matter
    draws, seed : of the uncertainty [1]
    command : recorded in the report [text]
    progress : called with the name of each step

    Returns
    -------
    MainJob

    Raises
    ------
    PkmodelError
        The message says which step was refused and what to change. Nothing is written then.
    """
    step = progress or (lambda _: None)
    if out is not None:
        from .report_folder import refuse_foreign

        refuse_foreign(Path(out))
    step("reading the data")
    data = study if isinstance(study, Study) else load_study(study)
    curves = _subject(data, subject)
    step("fitting")
    chosen, rules = _what_to_fit(model, protocol)
    result = fit_curves(chosen, curves, rules, seed=seed)
    step("comparing models")
    comparison, notes = with_simpler(result, curves, seed)
    step("integrating")
    tia = integrate(result, draws=draws, seed=seed)
    simpler = integrate(comparison.fits[1], draws=0, seed=seed) if comparison else None
    notes += choice_of_model(comparison, tia, simpler)
    step("computing doses")
    weights, said = organ_masses(curves, tia.organs, masses, rules.mass_relative_sd)
    notes += said
    body, assumed = body_for_bound(body_mass, curves, weights)
    notes += assumed
    doses = dose(tia, masses=weights, daughters=daughters, body_mass=body, seed=seed)
    step("planning")
    used = _limits(limits, already or {}, doses.organs)
    planned = schedules = None
    if used:
        rest: dict[str, Any] = {"interval": interval, "probability": probability, "count_measured": True}
        planned = plan(doses, used, cycles=cycles, **rest)
        schedules = plan(doses, used, cycles=range(1, 7), **rest)
        notes += [TOLERANCE_NOTE] if limits is None else []
    else:
        notes.append(f"no published limit is known for {', '.join(doses.organs)}; give limits to get a plan")
    job = MainJob(
        study=data,
        curves=curves,
        fit=result,
        comparison=comparison,
        simpler=simpler,
        tia=tia,
        doses=doses,
        masses=weights,
        plan=planned,
        schedules=schedules,
        limits_given=limits is not None,
        practice=practice_methods(curves, tia),
        against=published_comparison(data, curves, tia, doses),
        notes=tuple(notes),
        settings={
            "model": chosen.name,
            "protocol": rules.name,
            "interval": str(interval),
            "probability": probability,
            "body_mass_g": None if body is None else str(body),
            "daughters": daughters,
            "draws": draws,
            "seed": seed,
            "command": command,
        },
    )
    if out is None:
        return job
    from .report import write_report

    step("writing the report")
    return replace(job, paths=write_report(job, Path(out)))


def fit_one(
    study: str | Path | Study,
    *,
    subject: str | None = None,
    model: Model | str | None = None,
    protocol: Protocol | str | None = None,
    seed: int = 0,
) -> Fit:
    """The first half of the main job: load, choose model and protocol, fit. Parameters as in `run`."""
    data = study if isinstance(study, Study) else load_study(study)
    chosen, rules = _what_to_fit(model, protocol)
    return fit_curves(chosen, _subject(data, subject), rules, seed=seed)


def _limits(given: Limits | None, already: Mapping[str, float | str], organs: Sequence[str]) -> Sequence[Limit]:
    """The user's limits or the published ones, each with what was received before."""
    if given is None:
        found = [
            Limit.parse(x.organ, f"{x.value!r} Gy", already=already.get(x.organ, 0.0), source=x.source)
            for x in default_limits(organs)
        ]
    elif isinstance(given, Mapping):
        found = [
            Limit.parse(
                organ, text if isinstance(text, str) else f"{float(text)!r} Gy", already=already.get(organ, 0.0)
            )
            for organ, text in given.items()
        ]
    else:
        found = list(given)
        if already:
            raise DoseError("already: with Limit objects, give what was received in each Limit, as already=...")
    limited = [x.organ for x in found]
    if stray := [x for x in already if x not in limited]:
        known = ", ".join(limited) or "no organ"
        raise DoseError(f"already names {', '.join(map(repr, stray))}, without a limit; limits are set for: {known}")
    return found


def _subject(study: Study, subject: str | None) -> Curves:
    if subject is not None:
        return study[subject]
    if len(study) != 1:
        raise DataError(
            f"{study.name} has {len(study)} subjects and this job is for one; say which: {', '.join(study.subjects)}"
        )
    return next(iter(study))


def _what_to_fit(model: Model | str | None, protocol: Protocol | str | None) -> tuple[Model, Protocol]:
    """Model and protocol, each from the other where one is left out."""
    if protocol is None:
        protocol = PROTOCOL if model is None else _protocol_of(model)
    rules = load_protocol(protocol) if isinstance(protocol, str) else protocol
    if model is None and not rules.model:
        raise FitError(f"protocol {rules.name} names no model; say which to fit")
    chosen = model if isinstance(model, Model) else load_model(model or rules.model)
    return chosen, rules


def _protocol_of(model: Model | str) -> Protocol | str:
    """The protocol made for a model, else everything free with the error model of the default protocol."""
    from .inference.fitting import default_protocol

    built = model if isinstance(model, Model) else load_model(model)
    for name in (PROTOCOL, SIMPLER):
        if load_protocol(name).model == built.name:
            return name
    usual = load_protocol(PROTOCOL)
    return default_protocol(built).replace(error=usual.error, starts=usual.starts, observation=usual.observation)


def organ_masses(
    curves: Curves,
    organs: Sequence[str],
    given: Mapping[str, Mass] | None = None,
    relative_sd: float | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Masses of organs from the volumes of their curves, with the scatter of the contours as standard deviation.

    Parameters
    ----------
    curves : with volumes [mL]
    organs : that need a mass [text]
    given : organ -> mass, goes before the volumes [g]
    relative_sd : for organs with a single volume [1]

    Returns
    -------
    organ -> (mass, standard deviation) [g], and notes

    Raises
    ------
    DoseError
        An organ has neither a mass nor a volume, or `given` names an organ that is not there.
    """
    stray = [x for x in given or {} if x not in organs]
    if stray:
        raise DoseError(f"mass of {', '.join(map(repr, stray))}: no such organ; the organs are: {', '.join(organs)}")
    out: dict[str, Any] = {}
    single: list[str] = []
    measured: list[str] = []
    missing: list[str] = []
    for organ in organs:
        curve = curves[organ]
        volumes = curve.volume[np.isfinite(curve.volume)]
        if given and organ in given:
            out[organ] = given[organ]
        elif curve.mass is not None:
            out[organ] = (curve.mass, curve.mass * (relative_sd or 0.0))
        elif volumes.size:
            density = organ_shape(organ)[0].density
            mean = float(volumes.mean()) * density
            spread = float(np.std(volumes, ddof=1)) * density if volumes.size > 1 else mean * (relative_sd or 0.0)
            out[organ] = (mean, spread)
            (measured if volumes.size > 1 else single).append(f"{organ} at {density:g} g/mL")
        else:
            missing.append(organ)
    if missing:
        raise DoseError(
            f'no mass and no volume for {", ".join(missing)}: give masses, for example --mass {missing[0]}="250 g" '
            f"or masses={{'{missing[0]}': '250 g'}}, or a volume column in tac.csv"
        )
    notes = []
    if measured:
        notes.append(f"mass = mean CT volume x density, its scatter over the scans as SD: {', '.join(measured)}")
    if single:
        sd = f"{relative_sd:.0%}" if relative_sd else "no"
        notes.append(f"mass = CT volume of one scan x density, {sd} uncertainty: {', '.join(single)}")
    return out, notes


def _interval(values: Any) -> str:
    if values.size < 2:
        return ""
    low, high = np.quantile(values, [0.025, 0.975])
    return f" ({show(low, 3)} to {show(high, 3)})"
