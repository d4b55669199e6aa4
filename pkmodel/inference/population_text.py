"""A population as text: TOML that can be read and written by hand, with draws in a NetCDF file beside it.

Numbers are written so that reading gives the same bits. `typical` is for people, in the declared unit; `theta` is the
same number on the scale of the fit, in canonical units. Where both are given they must agree, so that a unit or a
number changed by hand in one place only is found.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError, UnitError, did_you_mean
from ..units import dimension, factor, quantity
from .population_parts import CovariateEffect, EndpointNoise, PopulationDraws, coefficient_of_variation
from .slots import Slot

if TYPE_CHECKING:
    from .population_file import PopulationModel

Array = NDArray[np.float64]
FORMAT = "pkmodel population 1"
_TOP = "format model digest nuclide subjects method source note parameter between occasions uncertainty noise fixed "
_TOP += "covariate draws"
_PARAMETER = "name region unit transform lower upper typical theta"
_AGREE = 1e-9  # relative, between a typical value and its theta


def write(population: PopulationModel, path: Path) -> None:
    """Write the text, and the draws beside it."""
    if not path.parent.is_dir():
        raise FitError(f"population file {path}: there is no folder {path.parent}; make it first, the fit is not lost")
    lines = [
        "# A population for pkmodel: theta and all covariances are on the scale of the fit, in canonical units",
        f"format = {_text(FORMAT)}",
        *(f"{n} = {_text(getattr(population, n))}" for n in ("model", "digest", "nuclide")),
        f"subjects = {population.subjects}",
        *(f"{n} = {_text(getattr(population, n))}" for n in ("method", "source", "note")),
    ]
    if population.draws is not None:
        beside = path.with_suffix(".nc")
        _write_draws(population, beside)
        lines.append(f"draws = {_text(beside.name)}")
    for i, s in enumerate(population.slots):
        size = factor(s.unit)
        cv = coefficient_of_variation(population.omega[i, i]) if s.transform == "log" else math.nan
        lines += ["", "[[parameter]]" + (f"  # varies by {100 * cv:.3g} % between subjects" if cv > 0 else "")]
        lines += [f"name = {_text(s.parameter)}", *([f"region = {_text(s.region)}"] if s.region else [])]
        lines += [f"unit = {_text(s.unit)}", f"transform = {_text(s.transform)}"]
        lines += [f"lower = {_number(s.lower / size)}", f"upper = {_number(s.upper / size)}"]
        lines += [f"typical = {float(s.from_scale(population.theta[i])) / size:.12g}"]
        lines += [f"theta = {_number(population.theta[i])}"]
    matrices = (("between", population.omega), ("occasions", population.occasion_omega))
    for name, matrix in matrices:
        lines += _matrix(name, matrix, population.labels, np.diag(matrix) > 0)
    known = np.isfinite(np.diag(population.theta_covariance))
    lines += _matrix("uncertainty", population.theta_covariance, population.labels, known)
    for region, noise in population.noise.items():
        lines += ["", f"[noise.{json.dumps(region)}]", f"kind = {_text(noise.kind)}"]
        lines += [f"additive = {_number(noise.additive)}", f"proportional = {_number(noise.proportional)}"]
        lines += [f"unit = {_text(noise.unit)}"]
    for effect in population.covariates:
        lines += ["", "[[covariate]]"]
        lines += [f"{n} = {_text(v) if isinstance(v, str) else _number(v)}" for n, v in asdict(effect).items()]
    if population.fixed:
        lines += ["", "[fixed]", *(f"{n} = {_text(v)}" for n, v in population.fixed.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote, or a person, as the fields of a `PopulationModel`."""
    who = f"population file {path}"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FitError(f"{who}: there is no such file") from None
    except OSError as error:
        raise FitError(f"{who}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FitError(f"{who}: not valid TOML: {error}") from None
    _known(raw, _TOP.split(), who)
    if raw.get("format") != FORMAT:
        raise FitError(f"{who}: format is {raw.get('format')!r}; this version reads {FORMAT!r}")
    _needed(raw, ("model", "digest", "parameter", "between", "noise"), who)
    try:
        return _build(raw, path, who)
    except UnitError as error:
        raise FitError(f"{who}: {error}") from None
    except FitError as error:
        if str(error).startswith(who):
            raise
        raise FitError(f"{who}: {error}") from None


def _build(raw: Mapping[str, Any], path: Path, who: str) -> dict[str, Any]:
    slots, theta = zip(*(_parameter(p, who) for p in _tables(raw, "parameter", who)), strict=True)
    labels = [s.label for s in slots]
    if twice := {n for n in labels if labels.count(n) > 1}:
        raise FitError(f"{who}: {', '.join(sorted(twice))}: written twice")
    unknown = np.full((len(slots),) * 2, np.nan)
    noise = {}
    for region, entry in _mapping(raw, "noise", who).items():
        _known(entry, [f.name for f in fields(EndpointNoise)], f"{who}: noise of {region}")
        if entry.get("unit"):
            dimension(entry["unit"], f"{who}: noise of {region}")
        noise[region] = EndpointNoise(**entry)
    effects = []
    for entry in _tables(raw, "covariate", who):
        _known(entry, [f.name for f in fields(CovariateEffect)], f"{who}: covariate")
        _needed(entry, ("parameter", "covariate", "kind", "coefficient"), f"{who}: covariate")
        effects.append(CovariateEffect(**entry))
    fixed = dict(_mapping(raw, "fixed", who))
    for name, text in fixed.items():
        quantity(str(text), f"{who}: fixed {name}")
    return dict(
        **{n: str(raw.get(n, "")) for n in ("model", "digest", "nuclide", "method", "source", "note")},
        subjects=int(raw.get("subjects", 0)),
        slots=slots,
        theta=np.array(theta),
        omega=_read_matrix(raw, "between", labels, np.zeros(unknown.shape), who),
        occasion_omega=_read_matrix(raw, "occasions", labels, np.zeros(unknown.shape), who),
        theta_covariance=_read_matrix(raw, "uncertainty", labels, unknown, who),
        noise=noise,
        fixed=fixed,
        covariates=tuple(effects),
        draws=_read_draws(path.parent / raw["draws"], labels, who) if "draws" in raw else None,
    )


def _parameter(raw: Mapping[str, Any], who: str) -> tuple[Slot, float]:
    """One parameter and its theta."""
    _known(raw, _PARAMETER.split(), f"{who}: parameter")
    _needed(raw, ("name", "unit"), f"{who}: parameter")
    name = f"{who}: parameter {raw['name']}"
    size = factor(raw["unit"], name)
    transform = raw.get("transform", "log")
    if transform not in ("log", "logit", "none"):
        raise FitError(f"{name}: transform {transform!r} is not known; allowed: log, logit, none")
    lower = float(raw.get("lower", 0.0 if transform == "log" else -math.inf)) * size
    upper = float(raw.get("upper", math.inf)) * size
    slot = Slot(raw["name"], raw.get("region", ""), raw["unit"], transform, math.nan, lower, upper)
    if "theta" not in raw and "typical" not in raw:
        raise FitError(f"{name}: neither typical nor theta is given; write typical = 0.3 in {raw['unit']}")
    with np.errstate(all="ignore"):
        theta = float(raw["theta"]) if "theta" in raw else float(slot.to_scale(float(raw["typical"]) * size))
        value = float(slot.from_scale(theta))
    if "typical" in raw and not math.isclose(value / size, float(raw["typical"]), rel_tol=_AGREE, abs_tol=1e-300):
        raise FitError(
            f"{name}: typical is {raw['typical']} {raw['unit']}, but theta = {theta!r} means {value / size:.10g} "
            f"{raw['unit']}; unit, typical and theta must agree: correct one, or leave theta out"
        )
    return Slot(slot.parameter, slot.region, slot.unit, transform, value, lower, upper), theta


def _matrix(name: str, matrix: Array, labels: Sequence[str], used: NDArray[np.bool_]) -> list[str]:
    """A covariance, only of the parameters it is about."""
    if not used.any():
        return []
    names = [x for x, u in zip(labels, used, strict=True) if u]
    rows = [f"  [{', '.join(map(_number, row))}]," for row in matrix[np.ix_(used, used)]]
    return ["", f"[{name}]", f"parameters = [{', '.join(map(_text, names))}]", "covariance = [", *rows, "]"]


def _read_matrix(raw: Mapping[str, Any], key: str, labels: Sequence[str], out: Array, who: str) -> Array:
    entry = _mapping(raw, key, who)
    if not entry:
        return out
    who = f"{who}: {key}"
    _known(entry, ["parameters", "covariance", "cv"], who)
    _needed(entry, ("parameters",), who)
    names = list(entry["parameters"])
    for n in names:
        if n not in labels:
            raise FitError(
                f"{who}: {n!r}{did_you_mean(n, labels)} is no parameter of this file; it has: {', '.join(labels)}"
            )
    if ("cv" in entry) == ("covariance" in entry):
        raise FitError(f"{who}: give either covariance, a square table, or cv, one number for each parameter")
    found = np.array(entry.get("covariance", 0.0), dtype=float) if "covariance" in entry else np.diag(
        np.log1p(np.array(entry["cv"], dtype=float) ** 2)
    )  # fmt: skip
    if found.shape != (len(names), len(names)):
        raise FitError(f"{who}: covariance has shape {found.shape} for {len(names)} parameters: {', '.join(names)}")
    at = [labels.index(n) for n in names]
    out = out.copy()
    out[np.ix_(at, at)] = found
    return out


def _write_draws(population: PopulationModel, path: Path) -> None:
    import xarray as xr

    draws = population.draws
    assert draws is not None
    one, square = ("draw", "parameter"), ("draw", "parameter", "other")
    xr.Dataset(
        {"theta": (one, draws.theta), "omega": (square, draws.omega), "occasion_omega": (square, draws.occasion_omega)},
        {"parameter": list(population.labels), "other": list(population.labels)},
        {"model": population.model, "digest": population.digest},
    ).to_netcdf(path, engine="h5netcdf")


def _read_draws(path: Path, labels: Sequence[str], who: str) -> PopulationDraws:
    import xarray as xr

    if not path.is_file():
        raise FitError(
            f"{who}: its draws {path.name} are not beside it; copy both files, or delete the line draws = ..."
        )
    with xr.open_dataset(path, engine="h5netcdf") as file:
        data = file.load()
    if (names := [str(x) for x in data["parameter"].to_numpy()]) != list(labels):
        raise FitError(f"{who}: {path.name} has parameters {', '.join(names)}; needed: {', '.join(labels)}")
    return PopulationDraws(*(data[n].to_numpy().astype(float) for n in ("theta", "omega", "occasion_omega")))


def _known(raw: Mapping[str, Any], allowed: Sequence[str], who: str) -> None:
    for key in raw:
        if key not in allowed:
            raise FitError(
                f"{who}: key {key!r} is not known{did_you_mean(key, allowed)}; allowed: {', '.join(allowed)}"
            )


def _needed(raw: Mapping[str, Any], keys: Sequence[str], who: str) -> None:
    if missing := [k for k in keys if k not in raw]:
        raise FitError(f"{who}: {', '.join(missing)} is missing")


def _mapping(raw: Mapping[str, Any], key: str, who: str) -> Mapping[str, Any]:
    found = raw.get(key, {})
    if not isinstance(found, Mapping):
        raise FitError(f"{who}: {key}: expected a table, found {found!r}")
    return found


def _tables(raw: Mapping[str, Any], key: str, who: str) -> list[Mapping[str, Any]]:
    found = raw.get(key, [])
    if not (isinstance(found, list) and all(isinstance(x, Mapping) for x in found)):
        raise FitError(f"{who}: {key}: expected [[{key}]] tables, found {found!r}")
    if key == "parameter" and not found:
        raise FitError(f"{who}: it has no parameter; write [[parameter]] tables")
    return found


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    return (
        "inf"
        if value == math.inf
        else "-inf"
        if value == -math.inf
        else "nan"
        if math.isnan(value)
        else repr(float(value))
    )
