"""Where the shipped models, data sets and fit protocols lie, and how a name finds its file.

Contents are text (TOML, CSV), never code, so finding one runs nothing. A name is the file's stem
(``models/organs/kidney.toml`` is ``"kidney"``) or, for a study, its folder's name; a path to one's own file or
folder works wherever a name does.
"""

from __future__ import annotations

import difflib
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from .errors import LibraryError

Kind = Literal["model", "study", "protocol"]

_FOLDER: dict[str, str] = {"model": "models", "study": "datasets", "protocol": "fitting"}
_LISTED_BY: dict[str, str] = {"model": "list_models()", "study": "list_studies()", "protocol": "list_protocols()"}


def library_root() -> Traversable:
    """Folder that holds ``models/``, ``fitting/`` and ``datasets/``: inside the wheel, or the checkout's top level.

    In an editable install ``pkmodel`` is the checkout, so a stale ``_library`` left in site-packages is never read.
    """
    packaged = files("pkmodel").joinpath("_library")
    return packaged if packaged.is_dir() else Path(__file__).parents[1]


def list_names(kind: Kind) -> tuple[str, ...]:
    """Names of everything shipped of one kind, sorted.

    Parameters
    ----------
    kind : "model", "study" or "protocol" [text]

    Raises
    ------
    LibraryError
        The kind is not one of the three, or two files share a name.
    """
    return tuple(sorted(_entries(kind)))


def list_models() -> tuple[str, ...]:
    """Names of the shipped models; load one with ``load_model(name)``."""
    return list_names("model")


def list_studies() -> tuple[str, ...]:
    """Names of the shipped data sets; load one with ``load_study(name)``."""
    return list_names("study")


def list_protocols() -> tuple[str, ...]:
    """Names of the shipped fit protocols."""
    return list_names("protocol")


def find(kind: Kind, name: str | Path) -> Traversable:
    """File of a model or protocol, or folder of a study, from its name or from a path.

    Text with a path separator or the suffix ``.toml`` is a path and is never looked up in the library; anything else
    is looked up there first, then as a path relative to the working directory.

    Parameters
    ----------
    kind : "model", "study" or "protocol" [text]
    name : name as listed by ``list_names(kind)``, or a path [text]

    Returns
    -------
    Traversable
        A ``.toml`` file (model, protocol) or a folder with ``study.toml`` in it (study).

    Raises
    ------
    LibraryError
        Nothing of that name or at that path; the message proposes the nearest names.
    """
    entries = _entries(kind)
    text = str(name)
    named_as_path = isinstance(name, Path) or "/" in text or "\\" in text or text.endswith(".toml")
    if not named_as_path and text in entries:
        return entries[text]
    path = Path(text).expanduser()
    if kind == "study":
        # the study.toml or tac.csv of a folder means the folder
        folder = path.parent if path.name in ("study.toml", "tac.csv") else path
        if folder.joinpath("study.toml").is_file():
            return folder
        if folder.is_dir() and (named_as_path or any(folder.glob("*.csv"))):
            raise LibraryError(
                f"study {text!r}: the folder holds no study.toml; a data set is a folder with tac.csv, study.toml "
                "and SOURCE.md: datasets/README.md shows a complete one"
            )
    elif path.is_file():
        return path
    if named_as_path:
        raise LibraryError(f"{kind} {text!r}: there is no such {'folder' if kind == 'study' else 'file'}")
    raise LibraryError(f"{kind} {text!r} is not in the library; {_advice(kind, text, entries)}")


def _advice(kind: Kind, text: str, entries: dict[str, Traversable]) -> str:
    near = difflib.get_close_matches(text, entries, n=3, cutoff=0.5)
    if near:
        return f"did you mean {', '.join(map(repr, near))}? {_LISTED_BY[kind]} names all {len(entries)}"
    if entries and len(entries) <= 12:
        return f"known: {', '.join(sorted(entries))}; a path to your own works too"
    return f"{_LISTED_BY[kind]} names all {len(entries)}; a path to your own works too"


def _entries(kind: str) -> dict[str, Traversable]:
    if kind not in _FOLDER:
        raise LibraryError(f"library kind {kind!r} is not known; allowed: {', '.join(_FOLDER)}")
    top = library_root().joinpath(_FOLDER[kind])
    if not top.is_dir():
        return {}
    if kind == "study":
        return {e.name: e for e in top.iterdir() if e.is_dir() and e.joinpath("study.toml").is_file()}
    found: dict[str, Traversable] = {}
    for entry in _toml_files(top):
        stem = entry.name.removesuffix(".toml")
        if stem in found:
            raise LibraryError(
                f"{kind} name {stem!r} is used by two files, {found[stem]} and {entry}; names must be unique"
            )
        found[stem] = entry
    return found


def _toml_files(folder: Traversable) -> list[Traversable]:
    inside: list[Traversable] = []
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir():
            inside += _toml_files(entry)
        elif entry.name.endswith(".toml"):
            inside.append(entry)
    return inside
