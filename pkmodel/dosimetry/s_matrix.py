"""Import of a user's S matrix (OLINDA, IDAC, MIRDcalc, OpenDose, own Monte Carlo) from CSV.

The package ships no such matrix: the published ones are not ours to give. Units are never guessed.
"""

from __future__ import annotations

import csv
import hashlib
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DoseError, UnitError
from ..units import dimension, factor

if TYPE_CHECKING:
    import xarray as xr

CANONICAL = "Gy/(MBq h)"

_Entry = tuple[int, str, str, str]  # row number in the file, target, source, text of the value


def load_s_matrix(path: str | Path, *, units: str | None = None) -> xr.DataArray:
    """Read an S matrix.

    Two forms are understood. Wide: the first column holds the targets, the header the sources. Long: three columns
    ``target, source, value``. Lines that start with ``#`` are comments; ``# units: mGy/(MBq s)`` states the units.

    Parameters
    ----------
    path : CSV file, separated by comma, semicolon or tab [text]
    units : of the values, dose per activity and time, if the file does not say it itself [text]

    Returns
    -------
    xarray.DataArray, dims (target, source), attrs ``units`` (``Gy/(MBq h)``), ``file``, ``sha256``, ``file_units``

    Raises
    ------
    DoseError
        Units missing, contradictory or of the wrong dimension; a value that is negative, not finite or not a
        number; a label or pair that appears twice; a pair that is missing. The message names file, row and column.
    """
    import xarray as xr

    file = Path(path)
    if not file.is_file():
        raise DoseError(f"S matrix {file}: no such file")
    raw = file.read_bytes()
    try:
        lines = raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DoseError(f"S matrix {file.name}: not a text file in UTF-8 ({error.reason})") from None
    stated, scale = _units(file.name, lines, units)

    numbered = [(i + 1, line) for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")]
    if len(numbered) < 2:
        raise DoseError(f"{file.name}: no rows; needed: a header line and at least one row")
    separator = max(",;\t", key=numbered[0][1].count)
    cells = list(csv.reader((line for _, line in numbered), delimiter=separator))
    header = [cell.strip() for cell in cells[0]]
    body = [(number, [cell.strip() for cell in row]) for (number, _), row in zip(numbered[1:], cells[1:], strict=True)]
    for number, row in body:
        if len(row) != len(header):
            raise DoseError(f"{file.name} row {number}: {len(row)} cells, but the header has {len(header)} columns")

    entries = _long(file.name, header, body) if "target" in header and "source" in header else _wide(header, body)
    targets = list(dict.fromkeys(target for _, target, _, _ in entries))
    sources = list(dict.fromkeys(source for _, _, source, _ in entries))
    values = np.full((len(targets), len(sources)), np.nan)
    rows: dict[tuple[str, str], int] = {}
    for number, target, source, text in entries:
        where = f"{file.name} row {number}, column {source!r}"
        if not target or not source:
            raise DoseError(f"{where}: the {'source' if target else 'target'} has no name")
        if (target, source) in rows:
            first = rows[target, source]
            raise DoseError(f"{where}: {target} <- {source} is given twice, first in row {first}; keep one of them")
        rows[target, source] = number
        values[targets.index(target), sources.index(source)] = _value(text, where) * scale
    missing = np.argwhere(np.isnan(values))
    if missing.size:
        t, s = missing[0]
        raise DoseError(
            f"{file.name}: no value for {targets[t]} <- {sources[s]} ({len(missing)} pairs are missing); "
            "write 0 where there is no dose"
        )
    return xr.DataArray(
        values,
        dims=("target", "source"),
        coords={"target": targets, "source": sources},
        name="s_value",
        attrs={
            "units": CANONICAL,
            "file": file.name,
            "sha256": hashlib.sha256(raw).hexdigest(),
            "file_units": stated,
        },
    )


def _units(name: str, lines: list[str], argument: str | None) -> tuple[str, float]:
    """The units of the file and their factor to Gy/(MBq h)."""
    found = [m[1].strip() for line in lines if (m := re.match(r"\s*#\s*units?\s*:\s*(.+)", line, re.IGNORECASE))]
    stated = argument if argument is not None else (found[0] if found else None)
    if stated is None:
        raise DoseError(
            f"{name}: the units of the S values are not stated; add a line '# units: mGy/(MBq s)' to the file "
            "or give units='mGy/(MBq s)'"
        )
    try:
        for text in (*found, stated):
            if dimension(text) != dimension(CANONICAL):
                raise DoseError(
                    f"{name}: units {text!r} are {dimension(text)}; an S value is dose per activity and time, "
                    "for example Gy/(MBq h) or mGy/(MBq s)"
                )
            if not math.isclose(factor(text), factor(stated), rel_tol=1e-12):
                raise DoseError(f"{name}: the file says {text!r}, the argument {stated!r}; which one is right?")
    except UnitError as error:
        raise DoseError(f"{name}: {error}") from None
    return stated, factor(stated)


def _wide(header: list[str], body: list[tuple[int, list[str]]]) -> list[_Entry]:
    entries = []
    for number, row in body:
        entries += [(number, row[0], source, text) for source, text in zip(header[1:], row[1:], strict=True)]
    return entries


def _long(name: str, header: list[str], body: list[tuple[int, list[str]]]) -> list[_Entry]:
    if "value" not in header:
        raise DoseError(f"{name}: the long form needs the columns target, source, value; found {', '.join(header)}")
    t, s, v = (header.index(c) for c in ("target", "source", "value"))
    return [(number, row[t], row[s], row[v]) for number, row in body]


def _value(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise DoseError(f"{where}: {text!r} is not a number") from None
    if not math.isfinite(value) or value < 0.0:
        raise DoseError(f"{where}: {text} is not possible for an S value; it is a number, zero or greater")
    return value
