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
KNOWN_SIZE = ("combined", "table", "weights")  # kinds whose variances may be known, not only their ratios


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """One free parameter: numbers in the model's declared unit; None takes the model's value or bound."""

    start: float | None = None
    lower: float | None = None
    upper: float | None = None
    transform: Transform | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorModel:
    """Variance of one measurement up to a scale (see `variances.variance_of`)."""

    kind: str = "constant"
    additive: float = 0.0  # combined: constant part of the SD, in the curve's unit
    proportional: float = 0.0  # combined: relative part of the SD [1]
    pooled: bool = False  # one scale for all regions, each relative to its largest value
    absolute: bool = False  # the variances are known, not only their ratios (combined, table, weights)


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
    priors: Mapping[str, Any] = field(default_factory=dict)  # what is known before; see `bayes.priors`

    def replace(self, **changes: Any) -> Protocol:
        """A copy with some settings changed."""
        return replace(self, **changes)


_KEYS = (
    "name title model free fixed shared ties error observation cold starts seed mass_relative_sd source priors".split()
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
    """Build a protocol from a dictionary with the words of a protocol file.

    Parameters
    ----------
    raw : as TOML gives it
    who : how messages name it [text]

    Raises
    ------
    FitError
        A key is unknown or a setting makes no sense; the message names both.
    """
    _known(raw, _KEYS, who)
    settings = dict(raw)
    for key in ("free", "fixed", "ties", "priors"):
        if not isinstance(raw.get(key, {}), Mapping):
            raise FitError(f"{who}: {key}: expected a table of parameters, found {raw[key]!r}")
    for key in ("name", "title", "model", "source"):
        if not isinstance(raw.get(key, ""), str):
            raise FitError(f"{who}: {key} = {raw[key]!r} is not text")
    settings["free"] = {n: _free(n, v, who) for n, v in raw.get("free", {}).items()}
    settings["shared"] = _shared(raw.get("shared", []), who)
    settings["error"] = _error(raw.get("error", {}), who)
    if raw.get("observation") not in (None, "frame", "midpoint"):
        raise FitError(f"{who}: observation {raw['observation']!r} is not known; allowed: frame, midpoint")
    for key, least in (("starts", 1), ("seed", 0)):
        v = raw.get(key, least)
        if isinstance(v, bool) or not isinstance(v, int) or v < least:
            raise FitError(f"{who}: {key} = {v!r} must be a whole number, at least {least}")
    if not isinstance(raw.get("cold", False), bool):
        raise FitError(f"{who}: cold = {raw['cold']!r} must be true or false")
    sd = raw.get("mass_relative_sd")
    if sd is not None and not (_is_number(sd) and 0 <= sd < 1):
        raise FitError(f"{who}: mass_relative_sd = {sd!r} must be a number from 0 to below 1")
    for n, v in raw.get("fixed", {}).items():
        if isinstance(v, str):
            quantity(v, f"{who}: fixed {n}")
        elif not _is_number(v):
            raise FitError(f"{who}: fixed {n} = {v!r} is neither a number nor text with a unit")
    for n, v in raw.get("ties", {}).items():
        if not isinstance(v, str):
            raise FitError(f"{who}: tie {n} = {v!r}: expected the name of a parameter, such as k2 = 'K1'")
    if both := set(raw.get("fixed", {})) & set(raw.get("free", {})):
        raise FitError(f"{who}: {', '.join(sorted(both))}: free and fixed at once")
    return Protocol(**settings)


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)


def _shared(raw: Any, who: str) -> tuple[str, ...]:
    if not isinstance(raw, list | tuple) or not all(isinstance(n, str) for n in raw):
        raise FitError(f"{who}: shared: expected a list of parameters such as ['delay'], found {raw!r}")
    return tuple(raw)


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
        # a bound may be infinite, a start may not
        if key in raw and not (_is_number(raw[key]) or (key != "start" and raw[key] in (math.inf, -math.inf))):
            raise FitError(f"{who}: free {name}: {key} = {raw[key]!r} is not a number")
    return Free(**raw)


def _error(raw: Any, who: str) -> ErrorModel:
    if not isinstance(raw, Mapping):
        raise FitError(f"{who}: error: expected a table such as {{ kind = 'constant' }}, found {raw!r}")
    _known(raw, ["kind", "additive", "proportional", "pooled", "absolute"], f"{who}: error")
    kind = raw.get("kind", "constant")
    if kind not in ERROR_KINDS:
        raise FitError(f"{who}: error kind {kind!r} is not known; allowed: {', '.join(ERROR_KINDS)}")
    for key in ("pooled", "absolute"):
        if not isinstance(raw.get(key, False), bool):
            raise FitError(f"{who}: error: {key} = {raw[key]!r} must be true or false")
    for key in ("additive", "proportional"):
        if key in raw and kind != "combined":
            raise FitError(f"{who}: error: {key} belongs to kind 'combined', but the kind is {kind!r}")
        if key in raw and not (_is_number(raw[key]) and raw[key] >= 0):
            raise FitError(f"{who}: error: {key} = {raw[key]!r} must be a number that is not negative")
    model = ErrorModel(**raw)
    if kind == "combined" and model.additive == model.proportional == 0:
        raise FitError(f"{who}: error kind 'combined' needs additive or proportional above zero")
    if model.absolute and kind not in KNOWN_SIZE:
        raise FitError(
            f"{who}: error kind {kind!r} gives variances only up to a scale, so it cannot be absolute; "
            f"allowed: {', '.join(KNOWN_SIZE)}"
        )
    if model.absolute and model.pooled:
        raise FitError(f"{who}: error: absolute variances have no scale to pool")
    return model
