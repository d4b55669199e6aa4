"""The files a model is put together from, collected before anything is written out."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import LibraryError, ModelError
from ..library import find
from ..model import Model
from ..model_file import COMPOSING, model_from_dict


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One file of the tree: what it says itself, and the words by which it puts others together."""

    name: str
    origin: str  # file name for messages
    folder: Path | None  # where files beside it are looked for; None in the library
    depth: int  # 0 for the file that was asked for; what is nearer to it has the last word
    own: Model
    words: Mapping[str, Any]  # COMPOSING -> as written


def read(name: str | Path, folder: Path | None = None, who: str = "") -> tuple[Mapping[str, Any], str, Path | None]:
    """A file as a dictionary, its name for messages, and the folder it lies in (None: the library).

    Raises
    ------
    LibraryError
        There is no such file.
    ModelError
        It is not TOML.
    """
    beside = folder / f"{name}.toml" if folder is not None and "/" not in str(name) else None
    try:
        entry = beside if beside is not None and beside.is_file() else find("model", name)
    except LibraryError as error:
        raise LibraryError(f"{who}: {error}" if who else str(error)) from None
    text = entry.read_text(encoding="utf-8")
    return _parsed(text, entry.name), entry.name, entry.parent if isinstance(entry, Path) else None


@lru_cache(maxsize=512)
def _parsed(text: str, origin: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"{origin}: not valid TOML: {error}") from None


def layer_file(name: str, folder: Path | None, who: str) -> Model:
    """The model of a layer, as its file has it.

    Raises
    ------
    LibraryError, ModelError
        There is no such file, or it is itself put together from others.
    """
    raw, origin, _ = read(name, folder, who)
    if composed := [k for k in COMPOSING if k in raw]:
        raise ModelError(f"{who}: layer {name}: a layer is one plain model, but {origin} has {', '.join(composed)}")
    return _model(raw, origin)


_made: dict[int, tuple[Mapping[str, Any], Model]] = {}


def _model(raw: Mapping[str, Any], origin: str) -> Model:
    """The plain part of a dictionary; the same dictionary (kept by `_parsed`) is read once."""
    known = _made.get(id(raw))
    if known is not None and known[0] is raw:
        return known[1]
    model = model_from_dict({k: v for k, v in raw.items() if k not in COMPOSING}, origin)
    _made[id(raw)] = (raw, model)
    return model


def collect(raw: Mapping[str, Any], origin: str, folder: Path | None) -> list[Leaf]:
    """Every file of the tree once, the nearest to its root first.

    Parameters
    ----------
    raw : the root, as a dictionary
    origin : its name for messages [text]
    folder : where files beside it are looked for, before the library [path]

    Raises
    ------
    LibraryError, ModelError
        A part does not exist or does not hold together; the message names who asked for it.
    """
    leaves: list[Leaf] = []
    level = [(raw, origin, folder)]
    seen: set[str] = set()
    depth = 0
    while level:
        following: list[tuple[Mapping[str, Any], str, Path | None]] = []
        for content, where, near in level:
            name = str(content.get("name", where))
            if name in seen:
                continue
            seen.add(name)
            own = _model(content, where)
            words = {k: content[k] for k in COMPOSING if k in content}
            leaves.append(Leaf(name=name, origin=where, folder=near, depth=depth, own=own, words=words))
            parts = words.get("parts", [])
            if not isinstance(parts, list) or not all(isinstance(p, str) for p in parts):
                raise ModelError(f"{where}: parts is a list of names of model files, found {parts!r}")
            following += [read(p, near, f"{where}: part {p!r}") for p in parts]
        level, depth = following, depth + 1
    return leaves
