"""``study.toml``: what a table of numbers cannot say about itself.

Who measured what in whom, what the columns' units are, which region is which organ, and which results were published
from the same data. Every number with a dimension is text with its unit. An unknown key is an error, not a comment.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import DataError, UnitError
from ..units import dimension, quantity
from .curve import KINDS

FLAGS = ("yes", "no", "assumed yes", "assumed no")

_STUDY_KEYS = {
    "name", "title", "citation", "doi", "terms", "notes", "time_unit", "volume_unit", "mass_unit", "sd_kind",
    "unit", "n", "decay_corrected", "decay_corrected_reason", "nuclide", "agent", "subjects", "regions", "published",
}  # fmt: skip
_SUBJECT_KEYS = {
    "id", "injected_activity", "amount", "body_mass", "sex", "n", "nuclide", "agent", "decay_corrected", "injection",
    "citation", "note",
}  # fmt: skip
_REGION_KEYS = {"kind", "organ", "part_of", "mass", "note", "continued_uptake"}
_PUBLISHED_KEYS = {"subject", "source", "method", "note", "units", "regions"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One ``[[subjects]]`` entry: injected activity [MBq], amount [nmol], body mass [g], time of injection [h]."""

    id: str
    injected_activity: float | None = None
    amount: float | None = None
    body_mass: float | None = None
    sex: str | None = None
    injection: float = 0.0
    citation: str = ""
    note: str = ""
    defaults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One ``[regions.NAME]`` entry: kind, organ, containing region, mass [g], reason for a slow tail."""

    name: str
    kind: str | None = None
    organ: str | None = None
    part_of: str | None = None
    mass: float | None = None
    note: str = ""
    continued_uptake: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One number somebody published from the same data."""

    subject: str
    region: str
    quantity: str
    value: float
    unit: str
    method: str
    source: str

    def __str__(self) -> str:
        return f"{self.subject} {self.region}: {self.quantity} = {self.value:.6g} {self.unit} ({self.source})"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFile:
    """All of ``study.toml``, checked; `defaults` are the values that hold for every row of the table."""

    file: str
    name: str
    title: str
    citation: str
    doi: str
    terms: str
    notes: str
    time_unit: str
    volume_unit: str | None
    mass_unit: str | None
    sd_kind: str | None
    decay_reason: str
    defaults: Mapping[str, str]
    subjects: Mapping[str, Subject]
    regions: Mapping[str, Region]
    published: tuple[Published, ...]


def nearest(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` or nothing."""
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def read_study_file(text: str, file: str) -> StudyFile:
    """Read and check the text of a ``study.toml``.

    Parameters
    ----------
    text : contents [text]
    file : name for messages [text]

    Raises
    ------
    DataError
        Not TOML, an unknown or missing key, a value of the wrong type, unit or dimension.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{file}: not valid TOML: {error}") from None
    _known(raw, _STUDY_KEYS, file)
    for key in ("name", "title", "citation", "terms", "time_unit"):
        if key not in raw:
            raise DataError(
                f"{file}: key {key!r} is missing; every study.toml says name, title, citation, terms, time_unit"
            )
    plain = {k: v for k, v in raw.items() if k not in ("subjects", "regions", "published", "n", "decay_corrected")}
    for key, value in plain.items():
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{file}: {key} = {value!r}; it must be text that is not empty")
    for key, example, like in (("time_unit", "h", "h"), ("volume_unit", "mL", "mL"), ("mass_unit", "g", "g")):
        if key in raw:
            _unit_like(raw[key], like, f"{file}: {key}", example)
    sd_kind = raw.get("sd_kind")
    if sd_kind not in (None, "sd", "sem"):
        raise DataError(
            f"{file}: sd_kind = {sd_kind!r}; allowed: 'sd' (spread between subjects), 'sem' (error of the mean)"
        )
    subjects = _subjects(raw.get("subjects"), file)
    return StudyFile(
        file=file,
        name=raw["name"],
        title=raw["title"],
        citation=raw["citation"],
        doi=raw.get("doi", ""),
        terms=raw["terms"],
        notes=raw.get("notes", ""),
        time_unit=raw["time_unit"],
        volume_unit=raw.get("volume_unit"),
        mass_unit=raw.get("mass_unit"),
        sd_kind=sd_kind,
        decay_reason=raw.get("decay_corrected_reason", ""),
        defaults=_defaults(raw, file),
        subjects=subjects,
        regions=_regions(raw.get("regions", {}), file),
        published=_published(raw.get("published", []), file, subjects),
    )


def _known(raw: Mapping[str, Any], allowed: set[str], who: str) -> None:
    for key in raw:
        if key not in allowed:
            raise DataError(
                f"{who}: key {key!r} is not known{nearest(key, allowed)} allowed: {', '.join(sorted(allowed))}"
            )


def _unit_like(unit: Any, like: str, who: str, example: str) -> None:
    try:
        if dimension(unit, who) == dimension(like):
            return
    except UnitError as error:
        raise DataError(str(error)) from None
    raise DataError(f"{who} = {unit!r} has dimension {dimension(unit)}; allowed: a unit like {example!r}")


def _quantity(
    raw: Mapping[str, Any], key: str, like: str, example: str, who: str, *, signed: bool = False
) -> float | None:
    if key not in raw:
        return None
    text = raw[key]
    if not isinstance(text, str):
        raise DataError(
            f"{who}: {key} = {text!r} has no unit; write text with its unit, for example {key} = {example!r}"
        )
    try:
        found = quantity(text, f"{who}: {key}")
    except UnitError as error:
        raise DataError(str(error)) from None
    if found.dimension != dimension(like):
        raise DataError(
            f"{who}: {key} = {text!r} has dimension {found.dimension}; write for example {key} = {example!r}"
        )
    if found.value <= 0 and not signed:
        raise DataError(f"{who}: {key} = {text!r}; it must be above zero; leave it out where it is not known")
    return found.value


def _defaults(raw: Mapping[str, Any], who: str) -> dict[str, str]:
    """Values for whole columns; ``n`` is a number and ``decay_corrected`` may be a TOML boolean."""
    found: dict[str, str] = {}
    for key in ("unit", "n", "decay_corrected", "nuclide", "agent"):
        if key in raw:
            value = raw[key]
            found[key] = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    if "decay_corrected" in found and found["decay_corrected"] not in FLAGS:
        raise DataError(
            f"{who}: decay_corrected = {found['decay_corrected']!r}; allowed: {', '.join(FLAGS)} "
            "(the last two with decay_corrected_reason = why)"
        )
    return found


def _subjects(raw: Any, file: str) -> dict[str, Subject]:
    if not isinstance(raw, list) or not raw:
        raise DataError(
            f'{file}: no [[subjects]]; list every subject of the table, for example [[subjects]] id = "P01"'
        )
    found: dict[str, Subject] = {}
    for position, entry in enumerate(raw, start=1):
        who = f"{file}: [[subjects]] number {position}"
        _known(entry, _SUBJECT_KEYS, who)
        if not isinstance(entry.get("id"), str) or not entry["id"].strip():
            raise DataError(f"{who}: id is missing; allowed: the text in the table's column 'subject'")
        name = entry["id"].strip()
        if name in found:
            raise DataError(f"{who}: subject {name!r} is listed twice")
        who = f"{file}: subject {name}"
        if entry.get("sex") not in (None, "female", "male", "mixed"):
            raise DataError(
                f"{who}: sex = {entry['sex']!r}; allowed: female, male, mixed; leave it out where not known"
            )
        found[name] = Subject(
            id=name,
            injected_activity=_quantity(entry, "injected_activity", "MBq", "7.4 GBq", who),
            amount=_quantity(entry, "amount", "nmol", "100 nmol", who),
            body_mass=_quantity(entry, "body_mass", "g", "72 kg", who),
            sex=entry.get("sex"),
            injection=_quantity(entry, "injection", "h", "0 h", who, signed=True) or 0.0,
            citation=entry.get("citation", ""),
            note=entry.get("note", ""),
            defaults=_defaults(entry, who),
        )
    return found


def _regions(raw: Any, file: str) -> dict[str, Region]:
    found: dict[str, Region] = {}
    if not isinstance(raw, Mapping):
        raise DataError(f"{file}: regions must be tables such as [regions.kidney_left]")
    for name, entry in raw.items():
        who = f"{file}: region {name}"
        if not isinstance(entry, Mapping):
            raise DataError(f"{who}: {entry!r}; write a table such as [regions.{name}] kind = 'tissue'")
        _known(entry, _REGION_KEYS, who)
        kind = entry.get("kind")
        if kind is not None and kind not in KINDS:
            raise DataError(f"{who}: kind = {kind!r}{nearest(str(kind), KINDS)} allowed: {', '.join(KINDS)}")
        if "continued_uptake" in entry and not str(entry["continued_uptake"]).strip():
            raise DataError(f"{who}: continued_uptake is empty; say why activity still arrives at the last points")
        found[name] = Region(
            name=name,
            kind=kind,
            organ=entry.get("organ"),
            part_of=entry.get("part_of"),
            mass=_quantity(entry, "mass", "g", "310 g", who),
            note=entry.get("note", ""),
            continued_uptake=entry.get("continued_uptake"),
        )
    for name, region in found.items():
        if region.part_of is not None and region.part_of not in found:
            raise DataError(
                f"{file}: region {name}: part_of = {region.part_of!r} is not a region{nearest(region.part_of, found)}"
            )
    return found


def _published(raw: Any, file: str, subjects: Mapping[str, Subject]) -> tuple[Published, ...]:
    found: list[Published] = []
    for position, block in enumerate(raw, start=1):
        who = f"{file}: [[published]] number {position}"
        _known(block, _PUBLISHED_KEYS, who)
        for key in ("subject", "source", "units", "regions"):
            if key not in block:
                raise DataError(f"{who}: key {key!r} is missing; allowed: {', '.join(sorted(_PUBLISHED_KEYS))}")
        if block["subject"] not in subjects:
            raise DataError(f"{who}: subject {block['subject']!r} is not listed; known: {', '.join(subjects)}")
        for name, unit in block["units"].items():
            try:
                dimension(unit, f"{who}: {name}")
            except UnitError as error:
                raise DataError(str(error)) from None
        for region, values in block["regions"].items():
            for name, value in values.items():
                if name not in block["units"]:
                    raise DataError(f"{who}: region {region}: {name!r} has no unit; known: {', '.join(block['units'])}")
                found.append(
                    Published(
                        subject=block["subject"],
                        region=region,
                        quantity=name,
                        value=float(value),
                        unit=block["units"][name],
                        method=block.get("method", ""),
                        source=block["source"],
                    )
                )
    return tuple(found)
