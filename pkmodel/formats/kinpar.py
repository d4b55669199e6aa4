"""``*_kinpar.tsv``: kinetic parameters, one row per region, as petfit and PET-BIDS derivatives (BEP023) name them.

A file is called ``{pet}_model-{MODEL}_kinpar.tsv``; a standard error is the column ``VT-se``; units, meanings, model
and software are in the ``.json`` beside it. Numbers are written so that reading them gives the same doubles.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import DataError
from .bids_files import entities, read_json, read_table

if TYPE_CHECKING:
    import pandas as pd

MODEL_LABELS = {
    "one_tissue": "1TCM",
    "two_tissue": "2TCM",
    "two_tissue_vnd": "2TCM",
    "two_tissue_irreversible": "2TCMirr",
    "two_tissue_endothelial": "2TCM1k",
    "three_tissue_irreversible": "3TCMirr",
}
_LABELLED = re.compile(r"(?P<parameter>[^\[@]+)(\[(?P<region>[^\]]*)\])?(@(?P<occasion>.+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One number of one region of one scan; an empty region means all regions of that scan."""

    pet: str
    region: str
    parameter: str
    value: float
    se: float
    unit: str
    meaning: str = ""


def write_kinpar(
    results: Any,
    folder: str | Path,
    *,
    pet: str | None = None,
    model: str | None = None,
    desc: str | None = None,
) -> tuple[Path, ...]:
    """Write fitted parameters, one ``*_kinpar.tsv`` with its ``.json`` for each scan.

    Parameters
    ----------
    results : a `Fit`, a population fit, a result of `pkmodel.pet`, several of them, or a table with the columns
        subject (and occasion), region, parameter, value, se, unit
    folder : where the files go; made where it is not there [text]
    pet : what the names of the files begin with, such as "sub-04_ses-test"; default from subject and occasion [text]
    model : label in the names, letters and digits; default 1TCM, 2TCM, 2TCMirr ... by the model or method [text]
    desc : an entity ``desc-`` more, such as "model1" [text]

    Returns
    -------
    tuple of Path
        The tables.

    Raises
    ------
    DataError
        There is nothing to write, a number is given twice, or a label is not letters and digits.
    """
    several = isinstance(results, Sequence) or (isinstance(results, Iterable) and not hasattr(results, "table"))
    each = list(results) if several and not hasattr(results, "columns") else [results]
    if not each:
        raise DataError("write_kinpar: no result to write")
    by_file: dict[tuple[str, str], list[_Row]] = {}
    about: dict[str, Mapping[str, Any]] = {}
    for one in each:
        label = model or _label_of(one)
        if not re.fullmatch(r"[A-Za-z0-9]+", label):
            raise DataError(f"write_kinpar: model {label!r} cannot be in a file name; allowed: letters and digits")
        about[label] = _about(one)
        for row in _rows(_by_scan(one), pet):
            by_file.setdefault((row.pet, label), []).append(row)
    written = []
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"write_kinpar: folder {folder} cannot be made: {error.strerror}; name another") from None
    for (name, label), rows in by_file.items():
        stem = "_".join(x for x in (name, f"model-{label}", f"desc-{desc}" if desc else "", "kinpar") if x)
        written.append(_write(Path(folder) / f"{stem}.tsv", name, label, rows, about[label]))
    return tuple(written)


def read_kinpar(path: str | Path) -> pd.DataFrame:
    """Read a ``*_kinpar.tsv`` with its ``.json``: one row per region and parameter.

    Parameters
    ----------
    path : of the table [text]

    Returns
    -------
    DataFrame
        pet, model, region, parameter, value, se (nan: not given), unit.

    Raises
    ------
    DataError
        A file is missing or a cell is not a number.
    """
    import pandas as pd

    file = Path(path)
    header, body = read_table(file)
    meta = read_json(file.with_suffix(".json"))
    known = [h for h in header if h not in ("pet", "region") and not h.endswith("-se")]
    said = entities(file.name)
    prefix = file.name.partition("_model-")[0]
    rows = []
    for number, cells in enumerate(body, start=2):
        row = dict(zip(header, cells, strict=True))
        for p in known:
            numbers = [_number(row.get(c, "n/a"), f"{file.name} row {number}: {c}") for c in (p, f"{p}-se")]
            unit = meta.get(p, {}).get("Units", "")
            rows.append([row.get("pet", prefix), said.get("model", ""), row.get("region", ""), p, *numbers, unit])
    return pd.DataFrame(rows, columns=["pet", "model", "region", "parameter", "value", "se", "unit"])


def _number(text: str, who: str) -> float:
    try:
        return math.nan if text == "n/a" else float(text)
    except ValueError:
        raise DataError(f"{who} is {text!r}; allowed: a number or n/a") from None


def _by_scan(result: Any) -> Any:
    """A population fit as a table of its subjects and occasions; anything else as it is."""
    if hasattr(result, "columns") or not hasattr(result, "individual_fits"):
        return result
    import pandas as pd

    from .kinpar_population import individual_rows

    return pd.DataFrame(individual_rows(result))


def _rows(result: Any, pet: str | None) -> Iterator[_Row]:
    """Every number of a result, whatever kind of result it is."""
    bare = hasattr(result, "columns")  # a table
    table = result if bare else result.table
    whole = "" if bare else str(getattr(result, "region", ""))
    parameters = getattr(getattr(result, "model", None), "parameters", {})
    derived = getattr(getattr(result, "model", None), "derived", {})
    frames = [table]
    if not bare and getattr(result, "derived", None) is not None:
        frames.append(result.derived)
    for frame in frames:
        for label, row in zip(frame.index, frame.to_dict("records"), strict=True):
            parts = _LABELLED.fullmatch(str(label))
            read = parts.groupdict() if parts else {}
            name = str(row.get("parameter") or read.get("parameter") or label)
            region = row.get("region") or read.get("region") or whole
            known = parameters.get(name) or derived.get(name)
            yield _Row(
                pet=pet or _pet(result, row, read.get("occasion") or ""),
                region=str(region or ""),
                parameter=name,
                value=float(row["value"]),
                se=float(row.get("se", math.nan)),
                unit=str(row.get("unit", "")),
                meaning=str(row.get("meaning", getattr(known, "meaning", ""))),
            )


def _pet(result: Any, row: Mapping[str, Any], occasion: str) -> str:
    """Beginning of the file's name, from subject and occasion."""
    bare = hasattr(result, "columns")
    curves = None if bare else getattr(result, "curves", None)
    subject = row.get("subject") or ("" if bare else getattr(result, "subject", "")) or getattr(curves, "subject", "")
    occasion = str(row.get("occasion") or occasion or getattr(curves, "occasion", "") or "")
    if not subject:
        raise DataError("write_kinpar: the result does not say whose it is; give pet='sub-01' or the like")
    parts = {"sub": str(subject).removeprefix("sub-"), "ses": occasion.removeprefix("ses-")}
    return "_".join(f"{k}-{re.sub('[^A-Za-z0-9+]', '', v)}" for k, v in parts.items() if v)


def _label_of(result: Any) -> str:
    model = None if hasattr(result, "columns") else getattr(result, "model", None)
    if model is not None:
        name = model if isinstance(model, str) else str(model.name)
        return MODEL_LABELS.get(name, re.sub("[^A-Za-z0-9]", "", name))
    method = re.sub("[^A-Za-z0-9]", "", str(getattr(result, "method", "")))
    if not method:
        raise DataError("write_kinpar: the result does not say which model it is of; give model='2TCM' or the like")
    return method


def _about(result: Any) -> dict[str, Any]:
    """What a reader of the numbers must know."""
    if hasattr(result, "columns"):
        return {}
    model = getattr(result, "model", None)
    found: dict[str, Any] = {}
    if model is not None and not isinstance(model, str):
        found = {"ModelName": model.name, "ModelTitle": model.title, "ModelDigest": model.digest}
        found["References"] = list(model.references)
    elif reference := getattr(result, "reference", ""):
        found = {"ModelName": result.method, "References": [reference], "KnownBias": getattr(result, "bias", "")}
    if (protocol := getattr(result, "protocol", None)) is not None:
        found["Fixed"] = {n: str(v) for n, v in protocol.fixed.items()}
        found["Weighting"] = protocol.error.kind
    found["Warnings"] = [str(w) for w in getattr(result, "warnings", ())]
    return found


def _write(path: Path, pet: str, label: str, rows: list[_Row], about: Mapping[str, Any]) -> Path:
    """One table and its sidecar; what all regions share is repeated in each row."""
    regions = list(dict.fromkeys(r.region for r in rows if r.region)) or [""]
    names = list(dict.fromkeys(r.parameter for r in rows))
    cells: dict[tuple[str, str], _Row] = {}
    for row in rows:
        for region in [row.region] if row.region else regions:
            if (region, row.parameter) in cells:
                raise DataError(f"{path.name}: {row.parameter} of {region or 'the scan'} is given twice")
            cells[region, row.parameter] = row
    with_error = [n for n in names if any(math.isfinite(r.se) for r in rows if r.parameter == n)]
    header = ["pet", "region", *(c for n in names for c in ([n, f"{n}-se"] if n in with_error else [n]))]
    lines = ["\t".join(header)]
    for region in regions:
        line = [pet, region or "n/a"]
        for n in names:
            one = cells.get((region, n))
            line.append(_text(one.value if one else math.nan))
            if n in with_error:
                line.append(_text(one.se if one else math.nan))
        lines.append("\t".join(line))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sidecar: dict[str, Any] = {
        "Description": f"Kinetic parameters, {label}",
        "SoftwareName": "pkmodel",
        "SoftwareVersion": __version__,
        **about,
    }
    for n in names:
        first = next(r for r in rows if r.parameter == n)
        sidecar[n] = {"Description": first.meaning, "Units": first.unit}
        if n in with_error:
            sidecar[f"{n}-se"] = {"Description": f"standard error of {n}", "Units": first.unit}
    path.with_suffix(".json").write_text(json.dumps(sidecar, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _text(value: float) -> str:
    return repr(value) if math.isfinite(value) else "n/a"
