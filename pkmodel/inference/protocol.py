"""A fit protocol as data: what is free, what is shared or tied, how the error behaves, how many starts.

Protocols are text in ``fitting/``; this reads them. The code that fits is beside this file.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..errors import FitError
from ..library import find
from ..observation import Mode
from ..units import quantity

Transform = Literal["log", "logit", "none"]
ERROR_KINDS = ("constant", "proportional", "combined", "counts", "table", "weights")


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """One free parameter: numbers in the model's declared unit; None takes the model's value or bound."""

    start: float | None = None
    lower: float | None = None
    upper: float | None = None
    transform: Transform | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorModel:
    """Variance of one measurement up to a scale (see `likelihood.variances`)."""

    kind: str = "constant"
    additive: float = 0.0  # combined: constant part of the SD, in the curve's unit
    proportional: float = 0.0  # combined: relative part of the SD [1]
    pooled: bool = False  # one scale for all regions, each relative to its largest value
    absolute: bool = False  # the variances are known, not only their ratios (table, combined)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How to fit; change it with `replace`."""

    name: str = "default"
    title: str = ""
    model: str = ""  # the model it was made for; a default only
    free: Mapping[str, Free] = field(default_factory=dict)
    fixed: Mapping[str, float | str] = field(default_factory=dict)
    shared: tuple[str, ...] = ()  # one value for all regions
    ties: Mapping[str, str] = field(default_factory=dict)  # k2 = "K1": equal values
    error: ErrorModel = ErrorModel()
    observation: Mode | None = None
    cold: bool = False
    starts: int = 8
    seed: int = 0
    mass_relative_sd: float | None = None
    source: str = ""

    def replace(self, **changes: Any) -> Protocol:
        """A copy with some settings changed."""
        return replace(self, **changes)


_KEYS = (
    "name title model free fixed shared ties error observation cold starts seed mass_relative_sd source".split()
)


def load_protocol(name: str | Path) -> Protocol:
    """Read a protocol by name or from a file.

    Raises
    ------
    LibraryError
        There is no such protocol.
    FitError
        The file has an unknown key or a setting that makes no sense.
    """
    entry = find("protocol", name)
    try:
        raw = tomllib.loads(entry.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise FitError(f"{entry.name}: not valid TOML: {error}") from None
    return protocol_from_dict(raw, entry.name)


def protocol_from_dict(raw: Mapping[str, Any], who: str = "protocol") -> Protocol:
    """Build a protocol from a dictionary with the words of a protocol file."""
    _known(raw, _KEYS, who)
    settings = dict(raw)
    settings["free"] = {n: _free(n, v, who) for n, v in raw.get("free", {}).items()}
    settings["shared"] = tuple(raw.get("shared", ()))
    settings["error"] = _error(raw.get("error", {}), who)
    if raw.get("observation") not in (None, "frame", "midpoint"):
        raise FitError(f"{who}: observation {raw['observation']!r} is not known; allowed: frame, midpoint")
    for key in ("starts", "seed"):
        if key in raw and (not isinstance(raw[key], int) or raw[key] < (1 if key == "starts" else 0)):
            raise FitError(f"{who}: {key} = {raw[key]!r} must be a whole number, at least {1 if key == 'starts' else 0}")
    for n, v in raw.get("fixed", {}).items():
        if isinstance(v, str):
            quantity(v, f"{who}: fixed {n}")
    if both := set(raw.get("fixed", {})) & set(raw.get("free", {})):
        raise FitError(f"{who}: {', '.join(sorted(both))}: free and fixed at once")
    return Protocol(**settings)


def _known(raw: Mapping[str, Any], allowed: list[str], who: str) -> None:
    for key in raw:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise FitError(f"{who}: key {key!r} is not known{hint}; allowed: {', '.join(allowed)}")


def _free(name: str, raw: Any, who: str) -> Free:
    if not isinstance(raw, Mapping):
        raise FitError(f"{who}: free {name}: expected a table such as {{ start = 0.1 }}, found {raw!r}")
    _known(raw, ["start", "lower", "upper", "transform"], f"{who}: free {name}")
    if raw.get("transform") not in (None, "log", "logit", "none"):
        raise FitError(f"{who}: free {name}: transform {raw['transform']!r} is not known; allowed: log, logit, none")
    for key in ("start", "lower", "upper"):
        if key in raw and (isinstance(raw[key], bool) or not isinstance(raw[key], int | float)):
            raise FitError(f"{who}: free {name}: {key} = {raw[key]!r} is not a number")
    return Free(**raw)


def _error(raw: Any, who: str) -> ErrorModel:
    if not isinstance(raw, Mapping):
        raise FitError(f"{who}: error: expected a table such as {{ kind = 'constant' }}, found {raw!r}")
    _known(raw, ["kind", "additive", "proportional", "pooled", "absolute"], f"{who}: error")
    model = ErrorModel(**raw)
    if model.kind not in ERROR_KINDS:
        raise FitError(f"{who}: error kind {model.kind!r} is not known; allowed: {', '.join(ERROR_KINDS)}")
    if model.additive < 0 or model.proportional < 0 or not math.isfinite(model.additive + model.proportional):
        raise FitError(f"{who}: error: additive and proportional must not be negative")
    if model.kind == "combined" and model.additive == model.proportional == 0:
        raise FitError(f"{who}: error kind 'combined' needs additive or proportional above zero")
    return model
