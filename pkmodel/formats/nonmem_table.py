"""The text of a NONMEM data file: lines to records, whatever header and separator it has.

NM-TRAN reads fixed columns and ``$INPUT``; files in the wild carry a header, comment lines and dots for what is
missing. Accepted here: comma, tab or blanks between cells; a header that may begin with ``#`` or ``@``; lines that
begin with ``#`` or ``@``, a first column ``C`` with a C in rows to leave out, ``TABLE NO.`` lines, and with
``ignore="@"`` every line that begins with a letter. Numbers may be written ``1.0D+3``; ``.``, ``NA`` and nothing are
missing (NM-TRAN reads them as zero: here a zero that matters must be written).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from .long_row import Problems
from .study_file import nearest

KNOWN = (
    "ID", "TIME", "DATE", "DAT1", "DAT2", "DAT3", "AMT", "RATE", "II", "ADDL", "SS", "EVID", "MDV", "CMT", "DV", "DVID",
    "CENS", "LIMIT", "BLQ", "LLOQ", "L2",
)  # fmt: skip
ALSO = {"BQL": "BLQ", "BLOQ": "BLQ", "LOQ": "LLOQ", "DUR": "DUR", "#ID": "ID", "CID": "ID"}
DATES = {"DATE": "mdy", "DAT1": "dmy", "DAT2": "ymd", "DAT3": "ydm"}
MISSING_CELLS = ("", ".", "NA", "NaN", "nan")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eEdD][-+]?\d+)?$")


@dataclass(frozen=True, slots=True)
class Line:
    """One record as text, by the name of its column."""

    number: int  # in the file, from 1
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """A file cut into records; columns of NONMEM in capitals, all others as written."""

    file: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


def read_table(
    path: str | Path,
    problems: Problems,
    *,
    columns: str | Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    drop: Sequence[str] = (),
    ignore: str = "#",
) -> Table:
    """Cut a file into records.

    Parameters
    ----------
    path : of the file [text]
    problems : takes what is wrong with single rows
    columns : names in order, as in ``$INPUT``, for a file without a header [text]
    rename : the file's name of a column -> the name wanted
    drop : columns to leave out [text]
    ignore : "#", or "@" to leave out every line that begins with a letter, as NM-TRAN's ``IGNORE=@`` [text]

    Raises
    ------
    DataError
        There is no such file, no header, or a column is there twice.
    """
    place = Path(path)
    try:
        text = place.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{place.name}: there is no such file; looked at {place}") from None
    except IsADirectoryError:
        raise DataError(f"{place.name}: is a folder; give the file in it") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{place.name}: byte {error.start} is not UTF-8 text; save the file as UTF-8") from None
    if ignore not in ("#", "@"):
        raise DataError(f"{place.name}: ignore = {ignore!r}; allowed: '#' or '@'")
    numbered = [
        (k, line)
        for k, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.lstrip().upper().startswith("TABLE NO")
    ]
    if not numbered:
        raise DataError(f"{place.name}: the file is empty")
    separator = next((s for s in (",", "\t") if any(s in line for _, line in numbered[:2])), None)
    if ";" in numbered[0][1] and separator is None:
        raise DataError(f"{place.name} row {numbered[0][0]}: cells are separated by ';'; allowed: comma, tab or blanks")
    names = columns.split() if isinstance(columns, str) else list(columns)
    if not names:
        names, numbered = _header(numbered, separator, rename or {}, place.name)
    names = _standard(names, rename or {}, place.name)
    kept = [n for n in names if n not in drop and n != "C"]
    if unknown := [n for n in drop if n not in names]:
        raise DataError(
            f"{place.name}: drop = {unknown[0]!r} is not a column{nearest(unknown[0], names)} has: {_list(names)}"
        )
    lines = []
    for at, line in numbered:
        first = line.lstrip()[0]
        if first in "#@" or (ignore == "@" and first.isalpha()):
            continue
        cells = _cells(line, separator)
        if len(cells) > len(names) and not any(cells[len(names) :]):
            cells = cells[: len(names)]
        if names[0] == "C" and cells[0].upper() == "C":
            continue
        if len(cells) != len(names):
            problems.row(at, f"has {len(cells)} cells, but there are {len(names)} columns ({_list(names)})")
            continue
        found = dict(zip(names, cells, strict=True))
        lines.append(Line(at, {n: found[n] for n in kept}))
    return Table(place.name, tuple(kept), tuple(lines))


def _header(
    numbered: list[tuple[int, str]], separator: str | None, rename: Mapping[str, str], file: str
) -> tuple[list[str], list[tuple[int, str]]]:
    """Names of the columns and the lines below them; comment lines above are passed over."""
    for k, (number, line) in enumerate(numbered):
        bare = line.strip().lstrip("#@").strip() if line.lstrip()[0] in "#@" else line
        names = [name.strip().strip('"') for name in _cells(bare, separator)]
        standard = {ALSO.get(n.upper(), n.upper()) for n in (rename.get(n, n) for n in names)}
        if {"ID", "TIME"} <= standard or ("ID" in standard and standard & set(DATES)):
            return names, numbered[k + 1 :]
        if line.lstrip()[0] not in "#@":
            raise DataError(
                f"{file} row {number}: found {line.strip()[:60]!r} where the names of the columns belong, with ID and "
                "TIME among them; a file without a header needs columns='ID TIME AMT DV ...', as in $INPUT"
            )
    raise DataError(f"{file}: has only comments; the names of the columns belong into its first line")


def _cells(line: str, separator: str | None) -> list[str]:
    cells = line.split(separator) if separator else line.split()
    return [c.strip().strip('"') for c in cells]


def _standard(names: Sequence[str], rename: Mapping[str, str], file: str) -> list[str]:
    if unknown := [n for n in rename if n not in names]:
        raise DataError(
            f"{file}: rename = {unknown[0]!r} is not a column{nearest(unknown[0], names)} has: {_list(names)}"
        )
    out = []
    for name in names:
        name = rename.get(name, name)
        upper = ALSO.get(name.upper(), name.upper())
        out.append(upper if upper in (*KNOWN, "C") else name)
    if twice := sorted({n for n in out if out.count(n) > 1}):
        raise DataError(f"{file}: column {twice[0]} is there twice; rename or drop one")
    for name in out:
        if not name:
            raise DataError(f"{file}: a column has no name; the header is {_list(out)}")
    return out


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


def number(text: str) -> float:
    """A number of a cell; NaN where it is missing.

    Raises
    ------
    ValueError
        It is neither.
    """
    if text in MISSING_CELLS:
        return math.nan
    if not _NUMBER.match(text):
        raise ValueError(text)
    return float(text.replace("D", "E").replace("d", "e"))


def hours(text: str) -> float:
    """A clock time, ``h:mm`` or ``h:mm:ss`` [h].

    Raises
    ------
    ValueError
        It is not one.
    """
    parts = text.split(":")
    if not 2 <= len(parts) <= 3 or not all(re.fullmatch(r"\d+(\.\d+)?", p) for p in parts):
        raise ValueError(text)
    values = [float(p) for p in parts]
    if any(v >= 60 for v in values[1:]):
        raise ValueError(text)
    return sum(v / 60.0**k for k, v in enumerate(values))


def day(text: str, order: str) -> float:
    """A date as a day number: ``10/21/24``, ``10-21-2024`` or a plain number; years of two digits are 1951 to 2050.

    Parameters
    ----------
    text : of the cell
    order : "mdy", "dmy", "ymd" or "ydm" [text]

    Raises
    ------
    ValueError
        It is no date in that order.
    """
    from datetime import date

    parts = re.split(r"[-/.]", text)
    if len(parts) == 1:
        return float(int(text))
    if len(parts) == 2:  # no year: NM-TRAN then knows no leap years either
        parts = [*parts, "2001"] if order in ("mdy", "dmy") else ["2001", *parts]
    if len(parts) != 3:
        raise ValueError(text)
    found = {key: int(part) for key, part in zip(order, parts, strict=True)}
    year = found["y"]
    if year < 100:
        year += 1900 if year > 50 else 2000
    return float(date(year, found["m"], found["d"]).toordinal())
