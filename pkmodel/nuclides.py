"""Nuclides: half-lives, branching, mean energies and photon lines, from our own small table.

Three tables beside this package hold the numbers (``tables/nuclides.csv``, ``branches.csv``, ``photons.csv``; where
they come from is in ``tables/README.md``). ``nuclide("177Lu")`` reads one. A user's own table, for example with a
newer half-life, replaces or adds rows for as long as a ``with nuclide_table(path):`` block lasts.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import NuclideError

AVOGADRO = 6.02214076e23  # 1/mol, exact in the SI since 2019
ENERGIES = ("alpha", "recoil", "beta_minus", "beta_plus", "conversion", "auger", "photon")

_HOURS = {"us": 1e-6 / 3600, "ms": 1e-3 / 3600, "s": 1 / 3600, "min": 1 / 60, "h": 1.0, "d": 24.0, "y": 8766.0}
_NAME = re.compile(r"(?:([A-Z][a-z]?)-?(\d{1,3}(?:m\d?)?)|(\d{1,3}(?:m\d?)?)-?([A-Z][a-z]?))", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Branch:
    """One way a nuclide decays: daughter, fraction of decays, mode (``B-``, ``EC/B+``, ``A``, ``IT``)."""

    daughter: str
    fraction: float
    mode: str
    daughter_state: str
    """``stable``, ``listed`` (a row of the table) or ``long-lived`` (over 1000 years, no row)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nuclide:
    """What the package knows of one nuclide; the attribute docstrings give the units."""

    name: str
    """Canonical name, e.g. ``Lu-177``, ``Tc-99m``."""
    z: int
    a: int
    half_life: float
    """[h]"""
    energy: Mapping[str, float] = field(compare=False)
    """Mean energy per decay by kind of emission: alpha, recoil (of the nucleus after an alpha), beta_minus,
    beta_plus, conversion, auger, photon [MeV]."""
    photons: npt.NDArray[np.float64] = field(compare=False)
    """(n, 2) energy of each X, gamma and annihilation line [MeV] and its yield per decay [1]."""
    branches: tuple[Branch, ...]
    electron_range: float
    """Energy-weighted CSDA range of the electrons and positrons in water at 1 g/cm3; nan if not known [cm]."""
    source: str
    status: str
    table: str
    """Version of the table the row comes from."""

    @property
    def decay_constant(self) -> float:
        """lambda = ln 2 / half-life [1/h]."""
        return math.log(2.0) / self.half_life

    @property
    def mbq_per_nmol(self) -> float:
        """Activity of one nanomole, lambda N_A [MBq/nmol]."""
        return self.decay_constant / 3600.0 * AVOGADRO * 1e-9 * 1e-6

    @property
    def electrons(self) -> float:
        """Mean electron and positron energy per decay: beta, conversion and Auger [MeV]."""
        return sum(self.energy[k] for k in ("beta_minus", "beta_plus", "conversion", "auger"))

    @property
    def non_penetrating(self) -> float:
        """Mean energy per decay of everything but photons (alpha, recoil, electrons), not RBE weighted [MeV]."""
        return self.energy["alpha"] + self.energy["recoil"] + self.electrons


@dataclass(frozen=True, slots=True)
class _Table:
    version: str
    rows: Mapping[str, Mapping[str, str]]
    branches: Mapping[str, tuple[Branch, ...]]
    photons: Mapping[str, tuple[tuple[float, float], ...]]
    origin: Mapping[str, str]  # nuclide -> version of the table that gave its row


def canonical_name(name: str) -> str:
    """Spell a nuclide as ``Lu-177`` or ``Tc-99m``, whether or not it is in the table.

    Parameters
    ----------
    name : str, such as ``177Lu``, ``Lu177``, ``lu-177``, ``99mTc``, ``[18F]`` [text]

    Raises
    ------
    NuclideError
        The text does not have the form of a nuclide.
    """
    text = name.strip().strip("[]").replace(" ", "").replace("_", "-") if isinstance(name, str) else ""
    match = _NAME.fullmatch(text)
    if match is None:
        raise NuclideError(f"nuclide {name!r} is not written as a nuclide; write for example 'Lu-177' or 'Tc-99m'")
    symbol, mass = (match[1], match[2]) if match[1] else (match[4], match[3])
    return f"{symbol.capitalize()}-{mass.lower()}"


def nuclide(name: str | Nuclide, *, table: str | Path | None = None) -> Nuclide:
    """One nuclide by name.

    Parameters
    ----------
    name : str, in any usual spelling: ``Lu-177``, ``177Lu``, ``Lu177``, ``[177Lu]``; or a Nuclide, returned as it is
    table : path of a user's table for this one call (see `nuclide_table`) [text]

    Raises
    ------
    NuclideError
        The name is not in the table; the message lists the nearest names.
    """
    if isinstance(name, Nuclide):
        return name
    if table is not None:
        with nuclide_table(table):
            return nuclide(name)
    found = canonical_name(name)
    current = _current.get() or _shipped()
    if found not in current.rows:
        raise NuclideError(
            f"nuclide {name!r} is not in the table (version {current.version}); nearest names: "
            f"{', '.join(_nearest(found, list(current.rows)))}; "
            "add it with your own table: with nuclide_table('my_nuclides.csv')"
        )
    return _build(current, found)


def list_nuclides() -> tuple[str, ...]:
    """Canonical names of all nuclides in the current table, by atomic number."""
    return tuple((_current.get() or _shipped()).rows)


def decay_factor(name: str | Nuclide, t: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Fraction of the activity left after a time, exp(-lambda t).

    Parameters
    ----------
    name : str or Nuclide [text]
    t : (n,) array or number, time since reference, may be negative [h]
    """
    return np.asarray(np.exp(-nuclide(name).decay_constant * np.asarray(t, dtype=np.float64)))


def chain(name: str | Nuclide) -> tuple[tuple[Nuclide, float], ...]:
    """Parent and radioactive daughters with their decays per decay of the parent.

    The weight is the product of branching fractions, summed over paths. It is right for a time-integrated dose
    when every daughter decays where its parent did; it says nothing on when. The walk stops at a stable daughter
    and at one whose half-life is longer than the parent's: in 131I -> 131mXe, 211At -> 207Bi or 99mTc -> 99Tc the
    daughter is a source of its own with kinetics of its own, and counting all its decays here would be wrong.

    Parameters
    ----------
    name : str or Nuclide [text]

    Returns
    -------
    tuple of (Nuclide, weight), the parent first with weight 1 [decays per parent decay]
    """
    parent = nuclide(name)
    members: dict[str, Nuclide] = {parent.name: parent}
    weights: dict[str, float] = {parent.name: 1.0}

    def follow(mother: Nuclide, weight: float) -> None:
        for branch in mother.branches:
            if branch.daughter_state != "listed":
                continue
            daughter = nuclide(branch.daughter)
            if daughter.half_life > parent.half_life:
                continue
            members[daughter.name] = daughter
            weights[daughter.name] = weights.get(daughter.name, 0.0) + weight * branch.fraction
            follow(daughter, weight * branch.fraction)

    follow(parent, 1.0)
    return tuple((members[k], weights[k]) for k in members)


@contextmanager
def nuclide_table(path: str | Path) -> Iterator[None]:
    """Use a user's table on top of the shipped one inside a ``with`` block.

    Parameters
    ----------
    path : CSV file with the columns of ``nuclides.csv``, or a folder with any of ``nuclides.csv``, ``branches.csv``,
        ``photons.csv`` [text]. In ``nuclides.csv`` an empty cell keeps the shipped value, so a newer half-life is
        one line: ``nuclide,half_life,half_life_unit,source``. The branches or photon lines of a nuclide that
        appears in the user's file replace all of the shipped ones.

    Raises
    ------
    NuclideError
        A file is missing or a row cannot be used; the message names file, row and column.
    """
    token = _current.set(_merge(_current.get() or _shipped(), Path(path)))
    try:
        yield
    finally:
        _current.reset(token)


_current: ContextVar[_Table | None] = ContextVar("nuclide_table", default=None)


def _nearest(name: str, known: list[str]) -> list[str]:
    element = name.split("-")[0] + "-"
    same = [k for k in known if k.startswith(element)]
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    return list(dict.fromkeys([*same[:6], *close])) or difflib.get_close_matches(name, known, n=3, cutoff=0.0)


def _read(text: str, who: str) -> tuple[str, list[tuple[int, dict[str, str]]]]:
    """Version from the header comments, and the rows with their line numbers."""
    lines = text.splitlines()
    comments = [line for line in lines if line.startswith("#")]
    version = next((c.partition("version:")[2].strip() for c in comments if "version:" in c), who)
    numbered = [(i + 1, line) for i, line in enumerate(lines) if line.strip() and not line.startswith("#")]
    reader = csv.DictReader(io.StringIO("\n".join(line for _, line in numbered)), restkey="", restval="")
    rows = []
    for (number, _), row in zip(numbered[1:], reader, strict=True):
        if "" in row:
            raise NuclideError(f"{who} row {number}: more cells than the header has columns")
        rows.append((number, {str(k).strip(): str(v).strip() for k, v in row.items()}))
    return version, rows


def _number(row: Mapping[str, str], column: str, who: str, *, low: float = 0.0, high: float = math.inf) -> float:
    try:
        value = float(row[column])
    except (KeyError, ValueError):
        raise NuclideError(f"{who}: column {column!r} needs a number, found {row.get(column, 'no column')!r}") from None
    if not low <= value <= high or math.isinf(value):
        raise NuclideError(f"{who}: {column} = {value:g} is outside [{low:g}, {high:g}]")
    return value


def _branches(rows: list[tuple[int, dict[str, str]]], who: str) -> dict[str, tuple[Branch, ...]]:
    found: dict[str, list[Branch]] = {}
    for number, row in rows:
        here = f"{who} row {number}"
        state = row.get("daughter_state", "")
        if state not in ("stable", "listed", "long-lived"):
            raise NuclideError(f"{here}: daughter_state {state!r} is not known; allowed: stable, listed, long-lived")
        branch = Branch(row["daughter"], _number(row, "fraction", here, high=1.0), row.get("mode", ""), state)
        found.setdefault(canonical_name(row["parent"]), []).append(branch)
    for parent, branches in found.items():
        total = sum(b.fraction for b in branches)
        if abs(total - 1.0) > 2e-3:
            raise NuclideError(f"{who}: the branches of {parent} sum to {total:g}, not to 1")
    return {k: tuple(v) for k, v in found.items()}


def _photons(rows: list[tuple[int, dict[str, str]]], who: str) -> dict[str, tuple[tuple[float, float], ...]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for number, row in rows:
        here = f"{who} row {number}"
        line = (_number(row, "energy_MeV", here), _number(row, "yield", here))
        found.setdefault(canonical_name(row["nuclide"]), []).append(line)
    return {k: tuple(v) for k, v in found.items()}


@lru_cache(maxsize=1)
def _shipped() -> _Table:
    folder = files("pkmodel") / "tables"
    text = {f: (folder / f"{f}.csv").read_text(encoding="utf-8") for f in ("nuclides", "branches", "photons")}
    version, rows = _read(text["nuclides"], "nuclides.csv")
    return _Table(
        version,
        {row["nuclide"]: row for _, row in rows},
        _branches(_read(text["branches"], "branches.csv")[1], "branches.csv"),
        _photons(_read(text["photons"], "photons.csv")[1], "photons.csv"),
        {row["nuclide"]: version for _, row in rows},
    )


def _merge(base: _Table, path: Path) -> _Table:
    """The base table with a user's rows on top."""
    paths = {f: path / f"{f}.csv" if path.is_dir() else path for f in ("nuclides", "branches", "photons")}
    paths = {f: p for f, p in paths.items() if p.is_file() and (path.is_dir() or f == "nuclides")}
    if not paths:
        raise NuclideError(f"nuclide table {path}: no such file, or a folder without nuclides.csv; give a CSV file")
    rows, origin, version = dict(base.rows), dict(base.origin), f"{base.version} + {path.name}"
    branches, photons = dict(base.branches), dict(base.photons)
    if "nuclides" in paths:
        own, numbered = _read(paths["nuclides"].read_text(encoding="utf-8"), path.name)
        for number, row in numbered:
            if "nuclide" not in row:
                raise NuclideError(f"{path.name}: there is no column 'nuclide'; found {', '.join(row)}")
            name = canonical_name(row["nuclide"])
            if not row.get("source"):
                raise NuclideError(f"{path.name} row {number}: {name} has no source; every row needs one")
            if bool(row.get("half_life")) != bool(row.get("half_life_unit")):
                raise NuclideError(f"{path.name} row {number}: half_life and half_life_unit must come together")
            stated = {k: v for k, v in row.items() if v}
            rows[name] = {**base.rows.get(name, {}), "status": "user", **stated, "nuclide": name}
            origin[name] = own
    if "branches" in paths:
        branches |= _branches(_read(paths["branches"].read_text(encoding="utf-8"), "branches.csv")[1], "branches.csv")
    if "photons" in paths:
        photons |= _photons(_read(paths["photons"].read_text(encoding="utf-8"), "photons.csv")[1], "photons.csv")
    merged = _Table(version, rows, branches, photons, origin)
    for name in rows.keys() - {k for k in base.rows if rows[k] is base.rows[k]}:
        _build(merged, name)  # so that a bad row is found here, not in the middle of a fit
    return merged


def _build(table: _Table, name: str) -> Nuclide:
    row = table.rows[name]
    who = f"nuclide {name} (table {table.origin[name]})"
    unit = row.get("half_life_unit", "")
    if unit not in _HOURS:
        raise NuclideError(f"{who}: half_life_unit {unit!r} is not known; allowed: {', '.join(_HOURS)}")
    half_life = _number(row, "half_life", who) * _HOURS[unit]
    if half_life <= 0.0:
        raise NuclideError(f"{who}: the half-life must be positive, found {row['half_life']}")
    lines = np.array(table.photons.get(name, ()), dtype=np.float64).reshape(-1, 2)
    lines.setflags(write=False)
    return Nuclide(
        name=name,
        z=int(_number(row, "Z", who)),
        a=int(_number(row, "A", who)),
        half_life=half_life,
        energy={k: _number(row, k, who) for k in ENERGIES},
        photons=lines,
        branches=table.branches.get(name, ()),
        electron_range=_number(row, "electron_range_cm", who) if row.get("electron_range_cm") else math.nan,
        source=row["source"],
        status=row["status"],
        table=table.origin[name],
    )


TABLE_VERSION = "1.0"
"""Version of the shipped nuclide table; a test asserts that the files carry the same."""
