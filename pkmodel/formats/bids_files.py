"""Files of a PET-BIDS folder as they are: JSON objects, tables with ``n/a``, frames, the entities of a file's name."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, UnitError
from ..units import dimension, quantity
from .curve import Array

SECONDS = 1.0 / 3600.0


def read_json(path: Path) -> dict[str, Any]:
    """A file's JSON object.

    Raises
    ------
    DataError
        The file is missing, not JSON, or not an object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path.name}: the file is missing; looked at {path}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path.name}: holds a {type(found).__name__}; allowed: a JSON object")
    return found


def need(meta: Mapping[str, Any], key: str, file: str) -> Any:
    """A value that PET-BIDS requires.

    Raises
    ------
    DataError
        It is missing.
    """
    if key not in meta:
        raise DataError(f"{file}: {key} is missing; PET-BIDS requires it")
    return meta[key]


def value_of(text: str, like: str, who: str) -> float:
    """A quantity such as "75.8 kg" in canonical units, of the dimension of `like`.

    Raises
    ------
    DataError
        It is not a quantity, or of another dimension.
    """
    try:
        found = quantity(text, who)
    except UnitError as error:
        raise DataError(str(error)) from None
    if found.dimension != dimension(like):
        raise DataError(f"{who}: {text!r} has dimension {found.dimension}; allowed: a quantity like '1 {like}'")
    return found.value


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table separated by tabs.

    Raises
    ------
    DataError
        The file is missing, has no row, or a row has another number of cells than the header.
    """
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


def column_of(header: list[str], body: list[list[str]], name: str, file: str) -> Array:
    """Numbers of a column; BIDS writes ``n/a`` where there is none (NaN here).

    Raises
    ------
    DataError
        There is no such column, or a cell is neither a finite number nor n/a.
    """
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


def frames_of(meta: Mapping[str, Any], file: str) -> tuple[Array, Array]:
    """Start and end of the frames of a ``*_pet.json``, from the file's time zero, (n,) each [h].

    Raises
    ------
    DataError
        The frames are missing, overlap, or hold end times where durations belong; frames are counted from 1.
    """
    start = np.asarray(need(meta, "FrameTimesStart", file), dtype=float)
    duration = np.asarray(need(meta, "FrameDuration", file), dtype=float)
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
    return start * SECONDS, end * SECONDS


def entities(file: str) -> dict[str, str]:
    """Entities of a BIDS file name: "sub-04_ses-test_pet.json" gives {"sub": "04", "ses": "test"}."""
    stem = file.split(".")[0]
    return dict(part.split("-", 1) for part in stem.split("_") if re.fullmatch(r"[A-Za-z]+-[A-Za-z0-9+]+", part))


def belongs(file: str, to: Mapping[str, str], *, ignore: Sequence[str] = ()) -> bool:
    """Whether a file has every entity of a scan and none that contradicts it."""
    mine = entities(file)
    return all(mine.get(key) == value for key, value in to.items() if key not in ignore)
