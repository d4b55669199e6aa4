"""Measured time-activity data: `Study` (a data set), `Curves` (one subject), `Curve` (one region).

A data set is a folder with ``tac.csv`` (the long table), ``study.toml`` (subjects, units, citation) and ``SOURCE.md``;
``datasets/README.md`` says how to write one. Loading it checks every row and what the rows mean together.

>>> study = load_study("snmmi_p004")
>>> patient = study["P004"]
>>> patient["kidney_left"].to_unit("%IA").value
"""

from __future__ import annotations

import difflib
import hashlib
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .covariates import Covariate
from .errors import DataError
from .formats.bids_folder import Folder, describes_bids, read_described
from .formats.bids_scan import Scan
from .formats.curve import KINDS, Array, Curve, decay_factor
from .formats.long_table import read_long_table
from .formats.plausibility import check_plausible
from .formats.study_file import Published, read_study_file
from .library import find
from .regimen import Regimen

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KINDS", "Curve", "Curves", "Published", "Study", "decay_factor", "load_study"]

_FILES = ("tac.csv", "study.toml", "SOURCE.md")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curves:
    """All time-activity curves of one subject (or one cohort's means).

    Parameters
    ----------
    subject, study : names [text]
    nuclide : canonical name, such as "Lu-177" [text]
    agent : what was injected [text]
    curves : one `Curve` per region
    injected_activity : activity at t = 0, None where the source does not say [MBq]
    amount : injected ligand, or None [nmol]
    body_mass : or None [g]
    sex : "female", "male", "mixed" or None [text]
    warnings : what a reader of any result must know [text]
    occasion : which cycle or visit, where one subject has several `Curves` [text]
    regimen : what was given and when, where the source says; None: `injected_activity` and `amount` at t = 0
    covariates : what else is known of the subject, by name: a number, or a `Covariate` where it changes in time
    covariate_units : their units, by name, as far as the source says; `personal` sets them into a model [text]
    """

    subject: str
    study: str
    nuclide: str
    agent: str
    curves: tuple[Curve, ...]
    injected_activity: float | None = None
    amount: float | None = None
    body_mass: float | None = None
    sex: str | None = None
    note: str = ""
    warnings: tuple[str, ...] = ()
    occasion: str = ""
    regimen: Regimen | None = None
    covariates: Mapping[str, float | Covariate] = field(default_factory=dict)
    covariate_units: Mapping[str, str] = field(default_factory=dict)

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of all regions, in the table's order."""
        return tuple(curve.region for curve in self.curves)

    @property
    def organs(self) -> tuple[str, ...]:
        """Names of the regions that may get a dose: kind ``tissue`` only, never a box of the field of view."""
        return tuple(curve.region for curve in self.curves if curve.kind == "tissue")

    def __getitem__(self, region: str) -> Curve:
        for curve in self.curves:
            if curve.region == region:
                return curve
        near = difflib.get_close_matches(region, self.regions, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        raise DataError(f"subject {self.subject} has no region {region!r}{hint} known: {', '.join(self.regions)}")

    def __iter__(self) -> Iterator[Curve]:
        return iter(self.curves)

    def __len__(self) -> int:
        return len(self.curves)

    def __contains__(self, region: object) -> bool:
        return region in self.regions

    def replace(self, **changes: Any) -> Curves:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def select(self, regions: Sequence[str]) -> Curves:
        """Only these regions, in the order given.

        Raises
        ------
        DataError
            A region is not there.
        """
        names = [regions] if isinstance(regions, str) else list(regions)
        return self.replace(curves=tuple(self[name] for name in names))

    def decay_correct(self) -> Curves:
        """Every curve corrected for decay to injection."""
        return self.replace(curves=tuple(curve.decay_correct() for curve in self.curves))

    def decay_uncorrect(self) -> Curves:
        """Every curve as activity present when it was measured."""
        return self.replace(curves=tuple(curve.decay_uncorrect() for curve in self.curves))

    def to_unit(self, unit: str, *, density: str | None = None) -> Curves:
        """Every curve in one unit; parent fractions, which have none, stay as they are.

        Parameters
        ----------
        unit : Bq, Bq/mL, Bq/g, %IA, %IA/mL, %IA/g, SUV or a multiple [text]
        density : such as "1.05 g/mL", where mass and volume must be related [text]

        Raises
        ------
        DataError
            A conversion needs something that is not known.
        """
        kept = (c if c.kind == "parent_fraction" else c.to_unit(unit, density=density) for c in self.curves)
        return self.replace(curves=tuple(kept))

    @property
    def table(self) -> pd.DataFrame:
        """One row per value: region, kind, t_start, t_end, t [h], value, sd, weight, n, unit, decay_corrected, volume
        [mL], mass [g], nuclide, row (line in the file); where any is,
        censored (-1 below, +1 at least, 2 missing)."""
        import pandas as pd

        frames = []
        for c in self.curves:
            columns: dict[str, Any] = {
                "region": c.region,
                "kind": c.kind,
                "t_start": c.t_start,
                "t_end": c.t_end,
                "t": c.t,
            }
            columns |= {"value": c.value, "sd": c.sd, "weight": c.weights, "n": c.n, "unit": c.unit}
            columns |= {"decay_corrected": c.decay_corrected, "volume": c.volume}
            columns |= {"mass": float("nan") if c.mass is None else c.mass, "nuclide": c.nuclide}
            if any(one.censored.any() for one in self.curves):
                columns["censored"] = c.censored
            columns["row"] = np.array(c.rows) if c.rows else -1
            frames.append(pd.DataFrame(columns))
        return pd.concat(frames, ignore_index=True)

    def _heading(self) -> str:
        given = "injected activity not stated" if self.injected_activity is None else _activity(self.injected_activity)
        if self.regimen is not None:
            given = _given(self.regimen)
        what = ", ".join(x for x in (self.agent, self.nuclide, given) if x)
        when = f", occasion {self.occasion}" if self.occasion else ""
        return f"{self.subject} of {self.study}{when}: {what}"

    def _overview(self) -> tuple[list[str], list[list[str]]]:
        header = ["region", "kind", "points", "time [h]", "value", "unit", "decay-corrected", "volume [mL]"]
        rows = []
        for c in self.curves:
            corrected = "yes" if c.decay_corrected else "no"
            cells = [
                c.region,
                c.kind,
                str(len(c)),
                _range(np.concatenate([c.t_start, c.t_end])),
                _range(c.value),
                c.unit,
            ]
            rows.append([*cells, corrected, _range(c.volume)])
        return header, rows

    def __str__(self) -> str:
        header, rows = self._overview()
        if all(row[-1] == "" for row in rows):
            header, rows = header[:-1], [row[:-1] for row in rows]
        return "\n".join([self._heading(), *_text_table(header, rows), *_wrapped("! ", self.warnings)])

    def _repr_html_(self) -> str:
        return _html(self._heading(), *self._overview(), self.warnings)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Study:
    """A data set: subjects with their curves, where the numbers come from, and what was published from them.

    Parameters
    ----------
    name, title, citation, doi, terms, notes : as in ``study.toml`` [text]
    curves : one `Curves` per subject
    published : numbers published from the same data
    digest : SHA-256 over tac.csv, study.toml and SOURCE.md [hex text]
    """

    name: str
    title: str
    citation: str
    doi: str
    terms: str
    notes: str
    curves: tuple[Curves, ...]
    published: tuple[Published, ...]
    digest: str

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names of the subjects, each once, in the order of the data."""
        return tuple(dict.fromkeys(one.subject for one in self.curves))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of all subjects; one that holds for several is given once, with their names."""
        whom: dict[str, list[str]] = {}
        for one in self.curves:
            for text in one.warnings:
                whom.setdefault(text, []).append(one.subject)
        everyone = list(self.subjects)
        said = {text: list(dict.fromkeys(names)) for text, names in whom.items()}
        return tuple(
            f"{'all subjects' if len(who) > 3 and who == everyone else ', '.join(who)}: {text}"
            for text, who in said.items()
        )

    def __getitem__(self, key: str | tuple[str, str]) -> Curves:
        """One subject's curves; of one with several occasions ``study[subject, occasion]``."""
        subject, occasion = (key, None) if isinstance(key, str) else key
        mine = [one for one in self.curves if one.subject == subject]
        found = [one for one in mine if occasion in (None, one.occasion)]
        if len(found) == 1:
            return found[0]
        if mine:
            said = f"has no occasion {occasion!r}" if occasion is not None else f"has {len(mine)} occasions"
            raise DataError(
                f"study {self.name}: subject {subject} {said}; known: {', '.join(one.occasion for one in mine)}; say "
                f"study[{subject!r}, {mine[0].occasion!r}]"
            )
        near = difflib.get_close_matches(subject, self.subjects, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        raise DataError(f"study {self.name} has no subject {subject!r}{hint} known: {', '.join(self.subjects)}")

    def __iter__(self) -> Iterator[Curves]:
        return iter(self.curves)

    def __len__(self) -> int:
        return len(self.curves)

    def __contains__(self, subject: object) -> bool:
        return subject in self.subjects or subject in [(one.subject, one.occasion) for one in self.curves]

    def replace(self, **changes: Any) -> Study:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def published_value(self, region: str, quantity: str, subject: str | None = None) -> Published | None:
        """The published number of that name for a region, or None; the study's first subject unless one is named."""
        wanted = self.subjects[0] if subject is None else subject
        for one in self.published:
            if (one.subject, one.region, one.quantity) == (wanted, region, quantity):
                return one
        return None

    def _overview(self) -> tuple[list[str], list[list[str]]]:
        header = ["subject", "nuclide", "injected", "regions", "values", "time [h]", "agent"]
        several = any(one.occasion for one in self.curves)
        rows = []
        for one in self.curves:
            times = np.concatenate([np.zeros(0), *(t for c in one for t in (c.t_start, c.t_end))])
            given = "not stated" if one.injected_activity is None else _activity(one.injected_activity, "")
            if one.regimen is not None:
                given = _given(one.regimen)
            counts = [str(len(one)), str(sum(len(c) for c in one))]
            name = f"{one.subject} {one.occasion}" if several else one.subject
            rows.append([name, one.nuclide, given, *counts, _range(times), one.agent])
        return header, rows

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.title}", *_text_table(*self._overview())]
        lines += _wrapped("source: ", [self.citation]) + _wrapped("terms: ", [self.terms])
        lines += _wrapped("! ", self.warnings)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        footer = f"<p>{escape(self.citation)}</p><p>Terms: {escape(self.terms)}</p>"
        return _html(f"{self.name}: {self.title}", *self._overview(), self.warnings) + footer


def load_study(name: str | Path, *, strict: bool = True) -> Study:
    """Load a data set by its name in the library or by the path of its folder, checking everything in it.

    Parameters
    ----------
    name : as listed by ``list_studies()``, or a folder with study.toml and tac.csv, or study.toml with ``[bids]`` in
        a PET-BIDS folder (one without: `read_bids`) [text]
    strict : raise on what physics forbids (the default) or turn it into warnings [bool]

    Returns
    -------
    Study

    Raises
    ------
    LibraryError
        There is no such data set.
    DataError
        Something in the files is wrong; the message names file, row, what was found and what is allowed.
    """
    folder = find("study", name)
    contents = {file: _read(folder, file) for file in _FILES if folder.joinpath(file).is_file()}
    if "tac.csv" not in contents:
        described = _text(contents.get("study.toml", b""), f"{folder.name}/study.toml")
        if describes_bids(described):
            return study_of_folder(read_described(Path(str(folder)), described, f"{folder.name}/study.toml"))
        raise DataError(
            f"{folder.name}/tac.csv: the file is missing; a data set is a folder with tac.csv and study.toml"
        )
    table_file = f"{folder.name}/tac.csv"
    info = read_study_file(_text(contents["study.toml"], f"{folder.name}/study.toml"), f"{folder.name}/study.toml")
    table = read_long_table(_text(contents["tac.csv"], table_file), table_file, info)
    everyone = []
    for subject in info.subjects.values():
        curves = tuple(curve for curve in table.curves if curve.subject == subject.id)
        found = check_plausible(curves, info.regions, table_file, kinds_said=table.kinds_said, strict=strict)
        everyone.append(
            Curves(
                subject=subject.id,
                study=info.name,
                nuclide=curves[0].nuclide,
                agent=table.agents[subject.id],
                curves=curves,
                injected_activity=subject.injected_activity,
                amount=subject.amount,
                body_mass=subject.body_mass,
                sex=subject.sex,
                note=subject.note,
                warnings=table.warnings[subject.id] + found,
            )
        )
    return Study(
        name=info.name,
        title=info.title,
        citation=info.citation,
        doi=info.doi,
        terms=info.terms,
        notes=info.notes,
        curves=tuple(everyone),
        published=info.published,
        digest=_digest(contents),
    )


def curves_of_scan(scan: Scan, study: str) -> Curves:
    """One PET scan as one subject's curves; the session is the occasion."""
    return Curves(
        subject=scan.subject,
        study=study,
        nuclide=scan.nuclide,
        agent=scan.agent,
        curves=scan.curves,
        injected_activity=scan.injected_activity,
        amount=scan.amount,
        body_mass=scan.body_mass,
        sex=scan.sex,
        warnings=scan.warnings,
        occasion=scan.session,
    )


def study_of_folder(folder: Folder) -> Study:
    """A PET-BIDS folder as a study."""
    return Study(
        name=folder.name,
        title=folder.title,
        citation=folder.citation,
        doi=folder.doi,
        terms=folder.terms,
        notes=folder.notes,
        curves=tuple(curves_of_scan(scan, folder.name) for scan in folder.scans),
        published=(),
        digest=folder.digest,
    )


def _read(folder: Traversable, file: str) -> bytes:
    return folder.joinpath(file).read_bytes()


def _text(content: bytes, file: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: byte {error.start} is not UTF-8 text; save the file as UTF-8") from None


def _digest(contents: dict[str, bytes]) -> str:
    total = hashlib.sha256()
    for name in sorted(contents):
        total.update(f"{name}\0{len(contents[name])}\0".encode())
        total.update(contents[name])
    return total.hexdigest()


def _activity(mbq: float, tail: str = " injected") -> str:
    for unit, size in (("GBq", 1e3), ("MBq", 1.0), ("kBq", 1e-3)):
        if mbq >= size:
            return f"{mbq / size:.5g} {unit}{tail}"
    return f"{mbq * 1e6:.5g} Bq{tail}"


def _given(regimen: Regimen) -> str:
    """How many doses, and how much in all."""
    doses = [a for a in regimen.administrations if a.given or a.constant]
    totals = {unit: sum(a.given for a in doses if a.unit == unit) for unit in ("MBq", "nmol", "g")}
    said = [f"{1e3 * x:.5g} mg" if unit == "g" else f"{x:.5g} {unit}" for unit, x in totals.items() if x]
    return f"{len(doses)} dose{'' if len(doses) == 1 else 's'}" + (f", {' and '.join(said)}" if said else "")


def _range(values: Array) -> str:
    seen = values[np.isfinite(values)]
    if not len(seen):
        return ""
    low, high = (f"{x:.0f}" if x >= 1e4 else f"{x:.4g}" for x in (seen.min(), seen.max()))
    return low if low == high else f"{low} to {high}"


def _wrapped(mark: str, texts: Sequence[str]) -> list[str]:
    indent = " " * len(mark)
    return [line for text in texts for line in textwrap.wrap(text, 112, initial_indent=mark, subsequent_indent=indent)]


def _text_table(header: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in [header, *rows]]
    return ["  " + line.rstrip() for line in [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]]


def _html(title: str, header: list[str], rows: list[list[str]], warnings: Sequence[str]) -> str:
    head = "".join(f"<th style='text-align:left'>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    notes = "".join(f"<li>{escape(text)}</li>" for text in warnings)
    below = f"<p>Warnings</p><ul>{notes}</ul>" if notes else ""
    return f"<p><b>{escape(title)}</b></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"
