"""PET-BIDS: frames from ``*_pet.json``, curves from ``*_tacs.tsv``, blood from ``*_blood.tsv`` with its sidecar.

Units are carried as each file states them: tissue in Bq/mL beside blood in kBq/mL stays visible until ``to_unit``.
What BIDS leaves open is asked for, not assumed: whether blood samples are decay-corrected, the body mass. Frame tables
(``_tacs.tsv``) are common practice (BEP023), not yet part of the specification.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..data import Curves
from ..errors import DataError, NuclideError, UnitError
from ..nuclides import nuclide
from ..units import dimension, factor, quantity
from .curve import Array, Curve, measure_of

_BLOOD = {
    "plasma_radioactivity": ("plasma", "plasma"),
    "whole_blood_radioactivity": ("whole_blood", "blood"),
    "metabolite_parent_fraction": ("parent_fraction", "parent_fraction"),
}
_SECONDS = 1.0 / 3600.0


def read_frames(pet_json: str | Path) -> tuple[Array, Array]:
    """Start and end of the frames of a ``*_pet.json``, relative to the file's time zero.

    Parameters
    ----------
    pet_json : path of the file [text]

    Returns
    -------
    t_start, t_end : (n,) arrays, increasing, not overlapping [h]

    Raises
    ------
    DataError
        The frames are missing, overlap, or hold end times where durations belong.
    """
    path = Path(pet_json)
    return _frames(_json(path), path.name)


def read_pet(
    pet_json: str | Path,
    tacs: str | Path | None = None,
    blood: Sequence[str | Path] = (),
    *,
    blood_decay_corrected: bool | None = None,
    body_mass: str | None = None,
    negative: Literal["refuse", "keep"] = "refuse",
) -> Curves:
    """Curves of one PET scan from its BIDS files.

    Parameters
    ----------
    pet_json : the scan's ``*_pet.json`` [text]
    tacs : its ``*_tacs.tsv``, columns frame_start, frame_end [s] and one per region [text]
    blood : its ``*_blood.tsv`` files; each needs the ``.json`` beside it for its units [text]
    blood_decay_corrected : whether blood values are corrected to injection; must be said where there is blood [bool]
    body_mass : such as "75.8 kg" (``participants.tsv`` has it), for SUV [text]
    negative : "refuse" values below zero, or "keep" them with a warning (early frames and background-corrected blood)

    Raises
    ------
    DataError
        Something in the files is wrong or not said; the message names file, row, found and allowed.
    """
    path = Path(pet_json)
    meta = _json(path)
    warnings: list[str] = []
    subject = next((part.removeprefix("sub-") for part in path.name.split("_") if part.startswith("sub-")), path.stem)
    name = _nuclide(meta, path.name)
    injection = float(meta.get("InjectionStart", 0.0)) * _SECONDS
    common: dict[str, Any] = {"subject": subject, "nuclide": name}
    common["injected_activity"] = _injected(meta, path.name, warnings)
    if body_mass is not None:
        common["body_mass"] = _value(body_mass, "g", f"{path.name}: body_mass")
    curves: list[Curve] = []
    if tacs is not None:
        curves += _tacs(Path(tacs), meta, path.name, injection, common, negative, warnings)
    if blood and blood_decay_corrected is None:
        raise DataError(
            f"{Path(blood[0]).name}: whether blood is decay-corrected is not in the file; allowed: "
            "blood_decay_corrected=True or False"
        )
    for file in blood:
        curves += _blood(Path(file), injection, bool(blood_decay_corrected), common, negative, warnings, len(blood) > 1)
    if not curves:
        raise DataError(f"{path.name}: no curve read; give tacs= and, or, blood= files that hold values")
    units = sorted({curve.unit for curve in curves if curve.kind != "parent_fraction"})
    if len(units) > 1:
        warnings.append(f"curves are in different units, {' and '.join(units)}; use .to_unit before comparing them")
    return Curves(
        subject=subject,
        study=path.name.removesuffix("_pet.json"),
        nuclide=name,
        agent=str(meta.get("TracerName", "not stated")),
        curves=tuple(curves),
        injected_activity=common["injected_activity"],
        amount=_amount(meta, path.name),
        body_mass=common.get("body_mass"),
        warnings=tuple(warnings),
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path.name}: the file is missing; looked at {path}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path.name}: holds a {type(found).__name__}; allowed: a JSON object")
    return found


def _need(meta: dict[str, Any], key: str, file: str) -> Any:
    if key not in meta:
        raise DataError(f"{file}: {key} is missing; PET-BIDS requires it")
    return meta[key]


def _value(text: str, like: str, who: str) -> float:
    try:
        found = quantity(text, who)
    except UnitError as error:
        raise DataError(str(error)) from None
    if found.dimension != dimension(like):
        raise DataError(f"{who}: {text!r} has dimension {found.dimension}; allowed: a quantity like '1 {like}'")
    return found.value


def _check_unit(unit: str, who: str) -> None:
    try:
        measure_of(unit, who)
    except UnitError as error:
        raise DataError(str(error)) from None


def _nuclide(meta: dict[str, Any], file: str) -> str:
    try:
        return nuclide(str(_need(meta, "TracerRadionuclide", file))).name
    except NuclideError as error:
        raise DataError(f"{file}: TracerRadionuclide: {error}") from None


def _frames(meta: dict[str, Any], file: str) -> tuple[Array, Array]:
    start = np.asarray(_need(meta, "FrameTimesStart", file), dtype=float)
    duration = np.asarray(_need(meta, "FrameDuration", file), dtype=float)
    if start.shape != duration.shape or start.ndim != 1 or not len(start):
        raise DataError(
            f"{file}: FrameTimesStart has {start.size} numbers, FrameDuration {duration.size}; allowed: as many"
        )
    if not np.all(np.isfinite(start)) or not np.all(np.isfinite(duration)) or np.any(duration <= 0):
        raise DataError(f"{file}: FrameDuration and FrameTimesStart must be finite and durations above zero [s]")
    end = start + duration
    over = np.flatnonzero(end[:-1] > start[1:] + 1e-6 * (1 + start[1:]))
    if len(over):
        i = int(over[0])
        as_ends = int(np.sum(np.isclose(duration[:-1], start[1:])))
        hint = (
            f"FrameDuration looks like frame END times (it equals the next frame's start in {as_ends} of "
            f"{len(start) - 1} frames); write FrameDuration = end - start"
            if as_ends > 0.8 * (len(start) - 1)
            else "allowed: each frame ends before the next starts"
        )
        raise DataError(
            f"{file}: {len(over)} of {len(start) - 1} frames overlap the next, first frame {i + 1}: {start[i]:g} to "
            f"{end[i]:g} s, while frame {i + 2} starts at {start[i + 1]:g} s. {hint}"
        )
    return start * _SECONDS, end * _SECONDS


def _injected(meta: dict[str, Any], file: str, warnings: list[str]) -> float | None:
    """Injected activity, unless the file contradicts itself (a known trap: kBq labelled Bq)."""
    if "InjectedRadioactivity" not in meta:
        return None
    text = f"{meta['InjectedRadioactivity']} {_need(meta, 'InjectedRadioactivityUnits', file)}"
    stated = _value(text, "MBq", f"{file}: InjectedRadioactivity")
    other = float(meta.get("RadionuclideTotalDose", stated * 1e6)) * 1e-6
    if stated > 0 and abs(other / stated - 1) > 0.1:
        warnings.append(
            f"{file}: InjectedRadioactivity is {stated:.6g} MBq but RadionuclideTotalDose {other:.6g} MBq; the "
            "injected activity is left out, so %IA and SUV need .replace(injected_activity=...) on each curve"
        )
        return None
    return stated if stated > 0 else None


def _amount(meta: dict[str, Any], file: str) -> float | None:
    """Injected ligand [nmol], from an amount, or from a mass and the molar mass."""
    if "InjectedMass" not in meta or "InjectedMassUnits" not in meta:
        return None
    unit = str(meta["InjectedMassUnits"])
    try:
        dim, scale = dimension(unit), factor(unit)
    except UnitError:
        return None
    if dim == dimension("nmol"):
        return float(meta["InjectedMass"]) * scale
    if dim == dimension("g") and meta.get("TracerMolecularWeightUnits") == "g/mol":
        return float(meta["InjectedMass"]) * scale / float(_need(meta, "TracerMolecularWeight", file)) * 1e9
    return None


def _tsv(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.reader(stream, delimiter="\t"))
    except FileNotFoundError:
        raise DataError(f"{path.name}: the file is missing; looked at {path}") from None
    if len(lines) < 2:
        raise DataError(f"{path.name}: a header and at least one row are needed, found {len(lines)} lines")
    for number, cells in enumerate(lines, start=1):
        if cells and len(cells) != len(lines[0]):
            raise DataError(f"{path.name} row {number}: {len(cells)} cells, the header names {len(lines[0])} columns")
    return lines[0], [cells for cells in lines[1:] if cells]


def _column(header: list[str], body: list[list[str]], name: str, file: str) -> Array:
    """Numbers of a column; BIDS writes ``n/a`` where there is none (NaN here)."""
    if name not in header:
        raise DataError(f"{file}: column {name!r} is missing; found: {', '.join(header[:12])}")
    index, found = header.index(name), []
    for number, cells in enumerate(body, start=2):
        text = cells[index].strip()
        try:
            value = math.nan if text == "n/a" else float(text)
        except ValueError:
            raise DataError(f"{file} row {number}: {name} is {text!r}; allowed: a number or n/a") from None
        if text != "n/a" and not math.isfinite(value):
            raise DataError(f"{file} row {number}: {name} is {text!r}; allowed: a finite number or n/a")
        found.append(value)
    return np.array(found)


def _sign(value: Array, who: str, file: str, negative: str, warnings: list[str]) -> None:
    below = np.flatnonzero(value < 0)
    if not len(below):
        return
    text = f"{file} row {below[0] + 2}: {who} is {value[below[0]]:g} ({len(below)} values below zero)"
    if negative != "keep":
        raise DataError(f"{text}; allowed: zero or above, or negative='keep' to leave them in with a warning")
    warnings.append(f"{text}; kept as asked")


def _tacs(
    path: Path,
    meta: dict[str, Any],
    json_file: str,
    injection: float,
    common: dict[str, Any],
    negative: str,
    warnings: list[str],
) -> list[Curve]:
    header, body = _tsv(path)
    start = _column(header, body, "frame_start", path.name) * _SECONDS
    end = _column(header, body, "frame_end", path.name) * _SECONDS
    expected = _frames(meta, json_file)
    if len(start) != len(expected[0]) or not np.allclose(start, expected[0]) or not np.allclose(end, expected[1]):
        raise DataError(f"{path.name}: its frames differ from FrameTimesStart and FrameDuration of {json_file}")
    if start[0] < injection - 1e-9:
        raise DataError(
            f"{path.name} row 2: the first frame starts before injection; allowed: frames from injection on"
        )
    corrected = _need(meta, "ImageDecayCorrected", json_file)
    if not isinstance(corrected, bool):
        raise DataError(f"{json_file}: ImageDecayCorrected is {corrected!r}; allowed: true, false")
    reference = float(meta.get("ImageDecayCorrectionTime", 0.0)) * _SECONDS
    if corrected and abs(reference - injection) > 1e-6:
        raise DataError(
            f"{json_file}: decay correction refers to {reference:.6g} h, injection is at {injection:.6g} h; allowed: "
            "correction to injection"
        )
    unit = str(_need(meta, "Units", json_file))
    _check_unit(unit, f"{json_file}: Units")
    curves = []
    for region in header:
        if region in ("frame_start", "frame_end"):
            continue
        value = _column(header, body, region, path.name)
        _sign(value, region, path.name, negative, warnings)
        keep = np.isfinite(value)
        curves.append(
            _curve(
                region, "tissue", start - injection, end - injection, value, keep, unit, corrected, path.name, common
            )
        )
    return curves


def _blood(
    path: Path,
    injection: float,
    corrected: bool,
    common: dict[str, Any],
    negative: str,
    warnings: list[str],
    several: bool,
) -> list[Curve]:
    sidecar = path.with_suffix(".json")
    meta = _json(sidecar)
    header, body = _tsv(path)
    unit = str(_need(_need(meta, "time", sidecar.name), "Units", sidecar.name))
    scale = _value(f"1 {unit}", "h", f"{sidecar.name}: time")
    time = _column(header, body, "time", path.name) * scale - injection
    recording = re.search(r"recording-([A-Za-z0-9]+)", path.name)
    curves = []
    for column, (region, kind) in _BLOOD.items():
        if column not in header:
            continue
        value = _column(header, body, column, path.name)
        keep = np.isfinite(value) & np.isfinite(time)
        if not keep.any():
            continue
        early = np.flatnonzero(keep & (time < -1e-9))
        if len(early):
            raise DataError(
                f"{path.name} row {early[0] + 2}: time is {time[early[0]]:.6g} h after injection; allowed: from zero on"
            )
        unit = "1"
        if kind == "parent_fraction":
            if np.any((value[keep] < 0) | (value[keep] > 1)):
                raise DataError(f"{path.name}: {column} reaches {np.nanmax(value):g}; allowed: a fraction from 0 to 1")
        else:
            unit = str(_need(_need(meta, column, sidecar.name), "Units", f"{sidecar.name}: {column}"))
            _check_unit(unit, f"{sidecar.name}: {column}")
            _sign(value, column, path.name, negative, warnings)
        label = f"{region}_{recording[1]}" if several and recording else region
        curves.append(_curve(label, kind, time, time, value, keep, unit, corrected, path.name, common))
    return curves


def _curve(
    region: str,
    kind: str,
    start: Array,
    end: Array,
    value: Array,
    keep: npt.NDArray[np.bool_],
    unit: str,
    corrected: bool,
    file: str,
    common: dict[str, Any],
) -> Curve:
    order = np.flatnonzero(keep)[np.argsort(start[keep], kind="stable")]
    twice = np.flatnonzero(np.diff(start[order]) <= 0)
    if len(twice):
        rows = sorted((int(order[twice[0]]) + 2, int(order[twice[0] + 1]) + 2))
        raise DataError(f"{file} rows {rows[0]} and {rows[1]}: {region} is given twice for one time; allowed: once")
    nothing = np.full(len(order), math.nan)
    return Curve(
        region=region,
        kind=kind,
        t_start=np.maximum(start[order], 0.0),
        t_end=np.maximum(end[order], 0.0),
        value=value[order],
        sd=nothing,
        weights=nothing,
        n=np.ones(len(order), dtype=np.int64),
        unit=unit,
        decay_corrected=corrected,
        volume=nothing,
        rows=tuple(int(i) + 2 for i in order),
        source=file,
        **common,
    )
