"""What `pkmodel predict` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .cli_output import UsageError, pairs, progress, say, warn

if TYPE_CHECKING:
    from .data import Curves, Study
    from .model import Model

_PICTURES = (".png", ".svg", ".pdf")
NEAR = 6.0  # h, between a scan and the time it is called by


def predict_and_show(
    population: str,
    study: str,
    *,
    subject: str | None,
    cycle: str | None,
    at: str | None,
    model: str | None,
    cold: bool,
    covariates: Sequence[str],
    masses: Sequence[str],
    accept_changed_model: bool,
    out: Sequence[Path],
    seed: int,
) -> None:
    """Predict, print, and write what was asked for."""
    from .cli_verbs import _check_files, _picture, _write
    from .data import load_study
    from .inference.population_file import PopulationModel
    from .single_time import predict_tia
    from .single_time.scans import at_times

    _check_files(out, (".csv", *_PICTURES))
    known = PopulationModel.load(population)
    previous, curves = _cycles(load_study(study), subject, cycle)
    regions = [c.region for c in curves if c.region in known.noise]
    if left := [r for r in curves.regions if r not in regions]:
        say(f"not in the population, left out: {', '.join(left)}", "")
    if not regions:
        raise UsageError(
            f"{population}: knows {', '.join(known.noise)}, but {curves.subject} has {', '.join(curves.regions)}; "
            "rename the regions of the table, or give another population"
        )
    curves = curves.select(regions)
    if at is not None:
        curves = at_times(curves, _times(at), NEAR)
        if not len(curves):
            raise UsageError(f"--at {at}: no scan of {curves.subject} is within {NEAR:g} h of these times")
    with progress() as step:
        step("sampling")
        found = predict_tia(
            known, curves, model=_model(model, cold, known.nuclide), previous=previous, seed=seed,
            covariates={n: _value(v) for n, v in pairs(covariates, "--covariate", "CrCl=65 mL/min").items()} or None,
            accept_changed_model=accept_changed_model,
        )  # fmt: skip
    say(str(found).split("\n!", 1)[0])
    if weights := pairs(masses, "--mass", "kidneys=310 g"):
        doses = found.dose(masses=dict(weights))
        say("", str(doses).split("\n!", 1)[0])
        warn(doses.warnings)
    else:
        warn(found.warnings)
    for path in out:
        if path.suffix == ".csv":
            _write(path, found.table.to_csv)
        else:
            _picture(path, found.plot())
    say(*(f"wrote {path}" for path in out))


def _cycles(study: Study, subject: str | None, cycle: str | None) -> tuple[list[Curves], Curves]:
    """Earlier cycles of one subject, and the one asked about."""
    if subject is None:
        if len(study.subjects) > 1:
            raise UsageError(f"{study.name} has several subjects; say --subject {study.subjects[0]}")
        subject = study.subjects[0]
    mine = [c for c in study if c.subject == subject]
    if not mine:
        raise UsageError(f"--subject {subject!r}: {study.name} has {', '.join(study.subjects)}")
    names = [c.occasion for c in mine]
    if cycle is not None and cycle not in names:
        raise UsageError(
            f"--cycle {cycle!r}: {subject} has {', '.join(n or '(one cycle without a name)' for n in names)}"
        )
    k = len(mine) - 1 if cycle is None else names.index(cycle)
    return mine[:k], mine[k]


def _times(text: str) -> list[float]:
    try:
        return [float(t.strip().removesuffix("h")) for t in text.split(",")]
    except ValueError:
        raise UsageError(f"--at {text!r} cannot be read; write 48 or 24,96 (hours after injection)") from None


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _model(name: str | None, cold: bool, nuclide: str) -> Model | None:
    """The model named, labelled as the population's; None: found by its equations."""
    if name is None:
        return None
    from .assembly import load_model
    from .labelling import label

    plain = load_model(name)
    return label(plain, nuclide, cold=cold) if nuclide and not plain.nuclide else plain
