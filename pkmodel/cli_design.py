"""What `pkmodel design` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .cli_output import UsageError, pairs, progress, say, warn, whole_numbers
from .units import quantity

_PICTURES = (".png", ".svg", ".pdf")


def design_and_show(
    model: str,
    regimen: str | None,
    *,
    organs: str | None,
    scans: str,
    at: str | None,
    single: bool,
    nuclide: str | None,
    cold: bool,
    criterion: str,
    spread: Sequence[str],
    free: str | None,
    prior: bool,
    noise: Sequence[str],
    clinic: str | None,
    hours: str,
    days: str,
    last: str | None,
    minutes: str,
    budget: str | None,
    gap: str,
    window: Sequence[str],
    target: str | None,
    patients: int,
    out: Sequence[Path],
    seed: int,
) -> None:
    """Choose or judge scans, print them, and write what was asked for."""
    from .cli_verbs import _check_files, _picture, _write

    _check_files(out, (".csv", *_PICTURES))
    if at and single:
        raise UsageError("--at judges given scans, --single looks for one: give one of the two")
    from .sampling_design import Clinic, best_time, design, sampling_adequacy

    weights = {n: _number(w, "--organs") for n, w in _weighted(organs).items()} or None
    common: dict[str, Any] = {
        "organs": weights, "nuclide": nuclide, "cold": cold, "seed": seed,
        "spread": {n: _share(v, "--spread") for n, v in pairs(spread, "--spread", "k_washout=30 %").items()} or None,
        "free": _names(free), "noise": _noise(noise),
        "clinic": Clinic(clinic, hours, days) if clinic else None, "last": _hours(last, "--last") if last else None,
    }  # fmt: skip
    lengths = [_number(m, "--minutes") for m in minutes.split(",")]
    with progress() as step:
        step("looking for scans")
        result: Any
        if single:
            result = best_time(model, regimen, minutes=lengths[0], **common)
        elif at:
            times = [_hours(t, "--at") for t in at.split(",")]
            result = sampling_adequacy(
                model, regimen, times, criterion=criterion, prior=prior, minutes=lengths[0], patients=patients, **common
            )
        else:
            result = design(
                model, regimen, scans=whole_numbers(scans, "--scans"), criterion=criterion, prior=prior,
                minutes=lengths, budget=_number(budget, "--budget") if budget else None, gap=_hours(gap, "--gap"),
                windows=[_window(w) for w in window] or None, target=_share(target, "--target") if target else None,
                patients=patients, **common,
            )  # fmt: skip
    say(str(result).split("\n!", 1)[0])
    warn(result.warnings)
    for path in out:
        if path.suffix == ".csv":
            _write(path, (result.table() if single else result.scans).to_csv)
        else:
            _picture(path, result.plot())
    say(*(f"wrote {path}" for path in out), "research software, not a medical device")


def _weighted(text: str | None) -> dict[str, str]:
    """``kidneys,tumour=2`` -> names and weights."""
    out: dict[str, str] = {}
    for part in (text or "").split(","):
        name, _, weight = (x.strip() for x in part.partition("="))
        if name:
            out[name] = weight or "1"
    return out


def _names(text: str | None) -> list[str] | None:
    return [n.strip() for n in text.split(",") if n.strip()] if text else None


def _noise(given: Sequence[str]) -> Any:
    """``10 %`` for all, or ``kidneys=5 %`` for one; repeat for more."""
    if not given:
        return None
    named = [g for g in given if "=" in g]
    if not named:
        return _share(given[-1], "--noise")
    if len(named) < len(given):
        raise UsageError('--noise: one for all ("10 %") or one for each organ ("kidneys=5 %"), not both')
    return {n: _share(v, "--noise") for n, v in pairs(named, "--noise", "kidneys=5 %").items()}


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is not a number") from None


def _share(text: str, option: str) -> float:
    """``30 %`` or ``0.3``."""
    plain = text.strip()
    return _number(plain[:-1], option) / 100 if plain.endswith("%") else _number(plain, option)


def _hours(text: str, option: str) -> float:
    """``12 h``, ``3 d`` or a plain number of hours."""
    plain = text.strip()
    if plain and plain[-1].isalpha():
        return quantity(plain, option).value
    return _number(plain, option)


def _window(text: str) -> tuple[float, float]:
    """``20-28`` -> (20, 28) [h]."""
    first, dash, end = text.removesuffix("h").strip().partition("-")
    if not dash:
        raise UsageError(f'--window {text!r} cannot be read; write --window "20-28 h"')
    return _number(first.strip(), "--window"), _number(end.strip(), "--window")
