"""A whole PET-BIDS folder: which files belong to which scan, who was scanned, and ``study.toml`` where it has one.

Raw data lie in ``sub-X[/ses-Y]/pet/``; curves of regions in ``derivatives/NAME/sub-X[/ses-Y]/pet/*_tacs.tsv`` and their
volumes in ``*_morph.tsv``, as petprep writes them (common practice, BEP023; not yet part of the specification).
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import DataError
from .bids_files import belongs, column_of, entities, read_json, read_table, value_of
from .bids_scan import UNIT_KEYS, Reading, Regions, Scan, read_scan

_SEX = {"m": "male", "male": "male", "f": "female", "female": "female"}
_STUDY_KEYS = {"name", "title", "citation", "doi", "terms", "notes", "bids"}
_BIDS_KEYS = {
    "derivatives", "segmentation", "regions", "unit", "units", "scans", "blood_decay_corrected",
    "decay_corrected_reason", "negative",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """What a BIDS folder holds, as read."""

    name: str
    title: str
    citation: str
    doi: str
    terms: str
    notes: str
    scans: tuple[Scan, ...]
    digest: str  # SHA-256 over every file that was read


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which scans of a folder, and how they are read; `per_scan` are units of single scans by their name."""

    how: Reading = field(default_factory=Reading)
    per_scan: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    derivatives: str | None = None
    segmentation: str | None = None
    subjects: Sequence[str] | None = None
    sessions: Sequence[str] | None = None


def read_folder(folder: Path, choice: Choice) -> Folder:
    """Every chosen scan of a folder.

    Parameters
    ----------
    folder : the folder with ``dataset_description.json``
    choice : see `Choice`

    Raises
    ------
    DataError
        It is not a BIDS folder, nothing in it fits, a scan has no curves, or a file is wrong.
    """
    about = read_json(folder / "dataset_description.json")
    people = _participants(folder, choice.how.units.get("weight"))
    found = [p for p in sorted(folder.glob("sub-*/**/*_pet.json")) if p.parent.name == "pet"]
    if not found:
        raise DataError(f"{folder.name}: no scan found; allowed: sub-X/pet/*_pet.json or sub-X/ses-Y/pet/*_pet.json")
    chosen = [p for p in found if _wanted(entities(p.name), choice)]
    if not chosen:
        names = ", ".join(p.name.removesuffix("_pet.json") for p in found[:6])
        raise DataError(f"{folder.name}: no scan of that subject and session; it has {len(found)}: {names} ...")
    scans_of = {p.name.removesuffix("_pet.json") for p in found}
    if unknown := sorted(set(choice.per_scan) - scans_of):
        raise DataError(
            f"{folder.name}: units of {', '.join(unknown)}: no such scan and no such unit; allowed: "
            f"{', '.join(UNIT_KEYS)}, or a scan such as {sorted(scans_of)[0]!r}"
        )
    derived = _derivatives(folder, choice.derivatives)
    used: list[Path] = [folder / "dataset_description.json", *folder.glob("participants.tsv")]
    scans = []
    for path in chosen:
        said = entities(path.name)
        tacs = _table_of(derived, said, "tacs", choice.segmentation, path.name)
        morph = _table_of(derived, {"sub": said["sub"]}, "morph", entities(tacs.name).get("seg"), "") if tacs else None
        blood = sorted(p for p in path.parent.glob("*_blood.tsv") if belongs(p.name, said))
        if tacs is None and not blood:
            raise DataError(f"{path.name}: no *_tacs.tsv under derivatives/ and no *_blood.tsv beside it")
        person = people.get(f"sub-{said['sub']}", {})
        own = choice.per_scan.get(path.name.removesuffix("_pet.json"), {})
        how = replace(choice.how, units={**choice.how.units, **own})
        scan = read_scan(path, tacs, blood, how, body_mass=person.get("mass"), volumes=_volumes(morph))
        scans.append(replace(scan, sex=person.get("sex"), warnings=(*scan.warnings, *person.get("warnings", ()))))
        used += [path, *blood, *(p.with_suffix(".json") for p in blood), *(p for p in (tacs, morph) if p)]
    return Folder(
        name=folder.name,
        title=str(about.get("Name", folder.name)),
        citation=_citation(about),
        doi=str(about.get("DatasetDOI", "")).removeprefix("doi:"),
        terms=f"{about.get('License', 'not stated')} (dataset_description.json)",
        notes="",
        scans=tuple(scans),
        digest=_digest(folder, used),
    )


def describes_bids(text: str) -> bool:
    """Whether a ``study.toml`` says that its folder is in PET-BIDS: it has a table ``[bids]``."""
    try:
        return "bids" in tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False


def read_described(folder: Path, text: str, who: str) -> Folder:
    """A BIDS folder whose ``study.toml`` says how to read it.

    Parameters
    ----------
    folder : with ``dataset_description.json`` and ``study.toml``
    text : contents of ``study.toml`` [text]
    who : how messages name it [text]

    Raises
    ------
    DataError
        A key is unknown, missing or of the wrong type, or a file of the folder is wrong.
    """
    raw = tomllib.loads(text)
    _known(raw, _STUDY_KEYS, who)
    for key in ("name", "title", "citation", "terms"):
        if not isinstance(raw.get(key), str) or not raw[key].strip():
            raise DataError(f"{who}: {key} is missing; a study.toml of a BIDS folder says name, title, citation, terms")
    bids = raw["bids"]
    if not isinstance(bids, Mapping):
        raise DataError(f"{who}: bids = {bids!r}; write a table, [bids]")
    _known(bids, _BIDS_KEYS, f"{who}: [bids]")
    corrected, reason = _corrected(bids, who)
    choice = Choice(
        how=Reading(
            regions=as_regions(bids.get("regions")),
            unit=bids.get("unit"),
            units=bids.get("units", {}),
            blood_decay_corrected=corrected,
            negative=bids.get("negative", "refuse"),
        ),
        per_scan=bids.get("scans", {}),
        derivatives=bids.get("derivatives"),
        segmentation=bids.get("segmentation"),
    )
    found = read_folder(folder, choice)
    if reason:
        found = replace(found, scans=tuple(replace(s, warnings=(*s.warnings, reason)) for s in found.scans))
    digest = hashlib.sha256((found.digest + text).encode()).hexdigest()
    own = {key: raw.get(key, "") for key in ("name", "title", "citation", "terms", "notes")}
    return replace(found, **own, doi=raw.get("doi", found.doi), digest=digest)


def as_regions(given: Mapping[str, str | Sequence[str]] | Sequence[str] | str | None) -> Regions | None:
    """Regions as a mapping: a name stands for itself, a list of columns for their average."""
    if given is None:
        return None
    if isinstance(given, str):
        return {given: [given]}
    if isinstance(given, Mapping):
        return {name: [member] if isinstance(member, str) else list(member) for name, member in given.items()}
    return {name: [name] for name in given}


def _corrected(bids: Mapping[str, Any], who: str) -> tuple[bool | None, str]:
    """Whether blood is corrected for decay, and what a reader must know where that is assumed."""
    said = bids.get("blood_decay_corrected")
    if said is None or isinstance(said, bool):
        return said, ""
    reason = bids.get("decay_corrected_reason", "")
    if said not in ("assumed yes", "assumed no") or not reason:
        raise DataError(
            f"{who}: blood_decay_corrected = {said!r}; allowed: true, false, or 'assumed yes', 'assumed no' with "
            "decay_corrected_reason"
        )
    return said == "assumed yes", f"decay correction of blood {said}: {reason}"


def _known(raw: Mapping[str, Any], allowed: set[str], who: str) -> None:
    if unknown := sorted(set(raw) - allowed):
        raise DataError(f"{who}: {', '.join(unknown)}: not known; allowed: {', '.join(sorted(allowed))}")


def _wanted(said: Mapping[str, str], choice: Choice) -> bool:
    subjects, sessions = _bare(choice.subjects, "sub-"), _bare(choice.sessions, "ses-")
    return (subjects is None or said["sub"] in subjects) and (sessions is None or said.get("ses", "") in sessions)


def _bare(names: Sequence[str] | None, prefix: str) -> list[str] | None:
    if names is None:
        return None
    return [n.removeprefix(prefix) for n in ([names] if isinstance(names, str) else names)]


def _derivatives(folder: Path, name: str | None) -> Path | None:
    """The folder under ``derivatives/`` that has curves of regions; None where there is none."""
    top = folder / "derivatives"
    with_tacs = sorted({p.relative_to(top).parts[0] for p in top.glob("*/sub-*/**/*_tacs.tsv")})
    if name is not None:
        if name not in with_tacs:
            raise DataError(f"{folder.name}: derivatives {name!r} has no *_tacs.tsv; found: {', '.join(with_tacs)}")
        return top / name
    if len(with_tacs) > 1:
        raise DataError(f"{folder.name}: curves in {' and '.join(with_tacs)}; say derivatives={with_tacs[0]!r}")
    return top / with_tacs[0] if with_tacs else None


def _table_of(
    derived: Path | None, said: Mapping[str, str], kind: str, segmentation: str | None, scan: str
) -> Path | None:
    """The one table of a kind that belongs to a scan or to a person; several are an error, none is None."""
    if derived is None:
        return None
    found = [
        p
        for p in sorted(derived.glob(f"sub-{said['sub']}/**/*_{kind}.tsv"))
        if belongs(p.name, said) and segmentation in (None, entities(p.name).get("seg"))
    ]
    if len(found) > 1 and scan:
        names = ", ".join(p.name for p in found)
        raise DataError(f"{scan}: {len(found)} tables of curves: {names}; say segmentation='gtm' or the like")
    return found[0] if found else None


def _volumes(morph: Path | None) -> dict[str, float]:
    """Volumes of regions by name [mL]."""
    if morph is None:
        return {}
    header, body = read_table(morph)
    if "name" not in header:
        raise DataError(f"{morph.name}: column 'name' is missing; found: {', '.join(header)}")
    size = column_of(header, body, "volume-mm3", morph.name) * 1e-3
    at = header.index("name")
    return {row[at]: float(v) for row, v in zip(body, size, strict=True)}


def _participants(folder: Path, weight_unit: str | None) -> dict[str, dict[str, Any]]:
    """Sex and, where its unit is said, body mass [g] of each participant."""
    path = folder / "participants.tsv"
    if not path.is_file():
        return {}
    header, body = read_table(path)
    sidecar = folder / "participants.json"
    if weight_unit is None and sidecar.is_file():
        weight_unit = read_json(sidecar).get("weight", {}).get("Units")
    out: dict[str, dict[str, Any]] = {}
    given = "weight" in header
    mass = column_of(header, body, "weight", path.name) if weight_unit and given else None
    unsaid = f"{path.name}: weight has no unit, so it is left out; say units={{'weight': 'kg'}} if that is what it is"
    for k, row in enumerate(body):
        who = dict(zip(header, row, strict=True))
        one: dict[str, Any] = {"sex": _SEX.get(who.get("sex", "").strip().lower())}
        if given and mass is None:
            one["warnings"] = (unsaid,)
        if mass is not None and mass[k] == mass[k]:
            one["mass"] = value_of(f"{mass[k]} {weight_unit}", "g", f"{path.name} row {k + 2}: weight")
        out[who.get("participant_id", "")] = one
    return out


def _citation(about: Mapping[str, Any]) -> str:
    authors = [str(a) for a in about.get("Authors", [])]
    first = f"{authors[0]} et al. " if len(authors) > 1 else "".join(f"{a}. " for a in authors)
    return f"{first}{about.get('Name', 'no title')}. {about.get('DatasetDOI', '')}".strip()


def _digest(folder: Path, files: Sequence[Path]) -> str:
    total = hashlib.sha256()
    for path in sorted(set(files)):
        content = path.read_bytes()
        total.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()
