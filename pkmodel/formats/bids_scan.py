"""One PET scan from its BIDS files: curves of tissue and blood, each in the unit its file states, checked together."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import DataError, NuclideError, UnitError
from ..nuclides import nuclide
from ..units import dimension, factor
from .bids_files import SECONDS, column_of, entities, frames_of, need, read_json, read_table, value_of
from .bids_units import same_size, suv_possible
from .curve import Array, Curve, measure_of

Negative = Literal["refuse", "keep", "zero"]
Regions = Mapping[str, Sequence[str]]  # name -> columns of the table, averaged by volume where there are several
BLOOD = {
    "plasma_radioactivity": ("plasma", "plasma"),
    "whole_blood_radioactivity": ("whole_blood", "blood"),
    "metabolite_parent_fraction": ("parent_fraction", "parent_fraction"),
}
UNIT_KEYS = ("tissue", "plasma_radioactivity", "whole_blood_radioactivity", "InjectedRadioactivity", "weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a scan is to be read: what BIDS leaves open, and what its files get wrong."""

    regions: Regions | None = None
    unit: str | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    blood_decay_corrected: bool | None = None
    negative: Negative = "refuse"

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.units) - set(UNIT_KEYS)):
            raise DataError(f"units: {', '.join(unknown)}: not known; allowed: {', '.join(UNIT_KEYS)}")
        if self.negative not in ("refuse", "keep", "zero"):
            raise DataError(f"negative = {self.negative!r} is not known; allowed: 'refuse', 'keep', 'zero'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One scan as read; `session` is empty where the name of the file has none."""

    subject: str
    session: str
    name: str
    nuclide: str
    agent: str
    curves: tuple[Curve, ...]
    injected_activity: float | None = None
    amount: float | None = None
    body_mass: float | None = None
    sex: str | None = None
    warnings: tuple[str, ...] = ()


def read_scan(
    pet_json: Path,
    tacs: Path | None,
    blood: Sequence[Path],
    how: Reading,
    *,
    body_mass: float | None = None,
    volumes: Mapping[str, float] | None = None,
) -> Scan:
    """Read and check one scan.

    Parameters
    ----------
    pet_json, tacs, blood : its files
    how : see `Reading`
    body_mass : [g]
    volumes : of the regions of `tacs` by name [mL]

    Raises
    ------
    DataError
        Something in the files is wrong or not said; the message names file, row, found and allowed.
    """
    meta = read_json(pet_json)
    warnings: list[str] = []
    name = pet_json.name.removesuffix("_pet.json")
    said = entities(pet_json.name)
    reader = _Reader(meta, pet_json.name, how, said.get("sub", name), body_mass, volumes or {}, warnings)
    curves: list[Curve] = [] if tacs is None else reader.tacs(tacs)
    if blood and how.blood_decay_corrected is None:
        raise DataError(
            f"{blood[0].name}: whether blood is decay-corrected is not in the file; allowed: "
            "blood_decay_corrected=True or False"
        )
    for file in blood:
        curves += reader.blood(file, several=len(blood) > 1)
    if not curves:
        raise DataError(f"{pet_json.name}: no curve read; give tacs= and, or, blood= files that hold values")
    units = sorted({curve.unit for curve in curves if curve.kind != "parent_fraction"})
    if len(units) > 1 and how.unit is None:
        warnings.append(
            f"curves are in different units, {' and '.join(units)}; use .to_unit before comparing them (or unit= here)"
        )
    same_size(curves, how.units, name)
    injected = reader.injected
    if injected is not None and not suv_possible(curves, injected, body_mass, pet_json.name, warnings):
        injected = None
    curves = [c.replace(injected_activity=injected) for c in curves]
    if how.unit is not None:
        curves = [c if c.kind == "parent_fraction" else c.to_unit(how.unit) for c in curves]
    return Scan(
        subject=said.get("sub", name),
        session=said.get("ses", ""),
        name=name,
        nuclide=reader.nuclide,
        agent=str(meta.get("TracerName", "not stated")),
        curves=tuple(curves),
        injected_activity=injected,
        amount=_amount(meta, pet_json.name),
        body_mass=body_mass,
        warnings=tuple(warnings),
    )


class _Reader:
    """The files of one scan, with what they share."""

    def __init__(
        self,
        meta: dict[str, Any],
        file: str,
        how: Reading,
        subject: str,
        body_mass: float | None,
        volumes: Mapping[str, float],
        warnings: list[str],
    ) -> None:
        self.meta, self.file, self.how, self.volumes, self.warnings = meta, file, how, volumes, warnings
        try:
            self.nuclide = nuclide(str(need(meta, "TracerRadionuclide", file))).name
        except NuclideError as error:
            raise DataError(f"{file}: TracerRadionuclide: {error}") from None
        self.injection = float(meta.get("InjectionStart", 0.0)) * SECONDS
        self.injected = _injected(meta, file, how.units.get("InjectedRadioactivity"), warnings)
        self.common = {"subject": subject, "nuclide": self.nuclide, "body_mass": body_mass}

    def tacs(self, path: Path) -> list[Curve]:
        """Curves of the regions of a ``*_tacs.tsv``."""
        header, body = read_table(path)
        start = column_of(header, body, "frame_start", path.name) * SECONDS
        end = column_of(header, body, "frame_end", path.name) * SECONDS
        expected = frames_of(self.meta, self.file)
        if len(start) != len(expected[0]) or not np.allclose(start, expected[0]) or not np.allclose(end, expected[1]):
            raise DataError(f"{path.name}: its frames differ from FrameTimesStart and FrameDuration of {self.file}")
        start, end = start - self.injection, end - self.injection
        if start[0] < -1e-9:
            raise DataError(
                f"{path.name} row 2: the first frame starts before injection; allowed: frames from injection on"
            )
        corrected = self._corrected()
        unit = self.how.units.get("tissue") or str(need(self.meta, "Units", self.file))
        _check_unit(unit, f"{self.file}: Units")
        columns = [c for c in header if c not in ("frame_start", "frame_end")]
        wanted = {c: [c] for c in columns} if self.how.regions is None else self.how.regions
        curves = []
        for region, members in wanted.items():
            if missing := [m for m in members if m not in columns]:
                raise DataError(f"{path.name}: no region {', '.join(missing)}; known: {', '.join(columns)}")
            parts = [column_of(header, body, m, path.name) for m in members]
            parts = [self._sign(p, m, path.name) for p, m in zip(parts, members, strict=True)]
            value, volume = self._together(parts, members, path.name)
            keep = np.isfinite(value)
            curve = _curve(region, "tissue", (start, end), value, keep, unit, corrected, path.name, self.common)
            curves.append(curve.replace(volume=np.full(len(curve), volume)))
        return curves

    def _together(self, parts: list[Array], members: Sequence[str], file: str) -> tuple[Array, float]:
        """Average of several columns by volume, and the whole volume [mL]."""
        sizes = np.array([self.volumes.get(m, math.nan) for m in members])
        if len(members) == 1:
            return parts[0], float(sizes[0])
        if not np.all(np.isfinite(sizes)):
            unknown = ", ".join(m for m, size in zip(members, sizes, strict=True) if not math.isfinite(size))
            raise DataError(f"{file}: {unknown}: no volume in a *_morph.tsv, so these cannot be averaged by volume")
        return np.average(parts, axis=0, weights=sizes), float(sizes.sum())

    def _corrected(self) -> bool:
        corrected = need(self.meta, "ImageDecayCorrected", self.file)
        if not isinstance(corrected, bool):
            raise DataError(f"{self.file}: ImageDecayCorrected is {corrected!r}; allowed: true, false")
        reference = float(self.meta.get("ImageDecayCorrectionTime", 0.0)) * SECONDS
        if corrected and abs(reference - self.injection) > 1e-6:
            raise DataError(
                f"{self.file}: decay correction refers to {reference:.6g} h, injection is at {self.injection:.6g} h; "
                "allowed: correction to injection"
            )
        return corrected

    def blood(self, path: Path, *, several: bool) -> list[Curve]:
        """Plasma, whole blood and parent fraction of a ``*_blood.tsv`` with the ``.json`` beside it."""
        sidecar = path.with_suffix(".json")
        meta = read_json(sidecar)
        header, body = read_table(path)
        unit = str(need(need(meta, "time", sidecar.name), "Units", sidecar.name))
        scale = value_of(f"1 {unit}", "h", f"{sidecar.name}: time")
        time = column_of(header, body, "time", path.name) * scale - self.injection
        recording = re.search(r"recording-([A-Za-z0-9]+)", path.name)
        curves = []
        for column, (region, kind) in BLOOD.items():
            if column not in header:
                continue
            value = column_of(header, body, column, path.name)
            keep = np.isfinite(value) & np.isfinite(time)
            if not keep.any():
                continue
            early = np.flatnonzero(keep & (time < -1e-9))
            if len(early):
                raise DataError(
                    f"{path.name} row {early[0] + 2}: time is {time[early[0]]:.6g} h after injection; allowed: from "
                    "zero on"
                )
            unit = "1"
            if kind == "parent_fraction":
                outside = np.flatnonzero(keep & ((value < 0) | (value > 1)))
                if len(outside):
                    raise DataError(
                        f"{path.name} {_rows(outside)}: {column} is {value[outside[0]]:g}; allowed: a fraction from 0 "
                        "to 1 (is it in percent?)"
                    )
            else:
                stated = need(need(meta, column, sidecar.name), "Units", f"{sidecar.name}: {column}")
                unit = self.how.units.get(column) or str(stated)
                _check_unit(unit, f"{sidecar.name}: {column}")
                value = self._sign(value, column, path.name)
            label = f"{region}_{recording[1]}" if several and recording else region
            corrected = bool(self.how.blood_decay_corrected)
            curves.append(_curve(label, kind, (time, time), value, keep, unit, corrected, path.name, self.common))
        return curves

    def _sign(self, value: Array, who: str, file: str) -> Array:
        below = np.flatnonzero(value < 0)
        if not len(below):
            return value
        many = f"{len(below)} values below zero"
        text = f"{file} {_rows(below)}: {who} is {value[below[0]]:g} ({many})"
        if self.how.negative == "refuse":
            raise DataError(
                f"{text}; allowed: zero or above, or negative='keep' to leave them in, negative='zero' to take them "
                "as zero, each with a warning"
            )
        self.warnings.append(f"{text}; {'kept' if self.how.negative == 'keep' else 'taken as zero'} as asked")
        return value if self.how.negative == "keep" else np.where(value < 0, 0.0, value)


def _rows(at: npt.NDArray[np.intp]) -> str:
    """Lines of a file, as a message names them."""
    named = [str(int(i) + 2) for i in at[:6]]
    more = f" and {len(at) - 6} more" if len(at) > 6 else ""
    return f"row{'s' if len(at) > 1 else ''} {', '.join(named)}{more}"


def _check_unit(unit: str, who: str) -> None:
    try:
        measure_of(unit, who)
    except UnitError as error:
        raise DataError(str(error)) from None


def _injected(meta: dict[str, Any], file: str, said: str | None, warnings: list[str]) -> float | None:
    """Injected activity [MBq], unless the file contradicts itself (a known trap: kBq labelled Bq)."""
    if "InjectedRadioactivity" not in meta:
        return None
    unit = said or need(meta, "InjectedRadioactivityUnits", file)
    stated = value_of(f"{meta['InjectedRadioactivity']} {unit}", "MBq", f"{file}: InjectedRadioactivity")
    other = float(meta.get("RadionuclideTotalDose", stated * 1e6)) * 1e-6
    if stated > 0 and abs(other / stated - 1) > 0.1:
        thousand = abs(other / stated / 1000 - 1) < 0.1
        right = "; say units={'InjectedRadioactivity': 'kBq'} if that is what it is" if thousand else ""
        warnings.append(
            f"{file}: InjectedRadioactivity is {stated:.6g} MBq but RadionuclideTotalDose {other:.6g} MBq; the "
            f"injected activity is left out, so %IA and SUV need .replace(injected_activity=...) on each curve{right}"
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
        return float(meta["InjectedMass"]) * scale / float(need(meta, "TracerMolecularWeight", file)) * 1e9
    return None


def _curve(
    region: str,
    kind: str,
    times: tuple[Array, Array],
    value: Array,
    keep: npt.NDArray[np.bool_],
    unit: str,
    corrected: bool,
    file: str,
    common: dict[str, Any],
) -> Curve:
    start, end = times
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
