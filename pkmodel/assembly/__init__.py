"""Put a whole model together from files: a host's organs x layers of tissue x vector x target x label.

`parts` are joined as they are. A layer is a model of one organ; it is written again for every organ that a row of
``[[layers]]`` names, each name with the organ's suffix, its ports tied to the neighbours that ``[connect]`` names.
Layers of one organ share their compartments by name, so ``receptor`` adds binding to what ``perfused`` brought.
``[table.X]`` holds one column of the organ table; a number asked for and given nowhere is an error.

The whole tree of files is collected before anything is written out, so the order of parts does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..model import Model
from ..model_file import COMPOSING, model_from_dict
from .tree import collect, read
from .writing import written_model

__all__ = ["assemble", "load_model"]


def load_model(name: str | Path) -> Model:
    """Read a model by name or from a file, and put it together where it names parts.

    Parameters
    ----------
    name : name as listed by ``list_models()``, or a path [text]

    Returns
    -------
    Model
        Flat: it knows no parts any more, and ``to_toml`` writes it as one file.

    Raises
    ------
    LibraryError
        There is no such model, or it names a part that does not exist.
    ModelError, UnitError
        The file does not hold together; the message names the file and the part.
    """
    raw, origin, folder = read(name)
    if not any(k in raw for k in COMPOSING):
        return model_from_dict(raw, origin)
    return written_model(collect(raw, origin, folder))


def assemble(
    name: str,
    parts: Sequence[str] = (),
    *,
    layers: Sequence[Mapping[str, Any]] = (),
    table: Mapping[str, Any] | None = None,
    set: Mapping[str, Any] | None = None,
    **words: Any,
) -> Model:
    """Put a model together in Python, with the words of a file.

    Parameters
    ----------
    name : of the result [text]
    parts : names of model files [text]
    layers : rows such as ``{"file": "receptor", "organs": ["tumour"]}``
    table : columns of the organ table, ``{"Bmax": {"unit": "nmol/L", "values": {"tumour": 40}, ...}}``
    set : the last word on parameters: ``{"Q_tumour": "0.1 L/h"}``
    words : anything else a model file may say (title, tracer, parameters ...)

    Examples
    --------
    >>> adult = assemble("adult", ["adult_male"])
    >>> adult.parameters["mass_liver"].unit
    'g'

    Raises
    ------
    LibraryError, ModelError, UnitError
        As `load_model`.
    """
    raw: dict[str, Any] = {"name": name, "parts": list(parts), **words}
    raw |= {k: v for k, v in {"layers": list(layers), "table": table, "set": set}.items() if v}
    if not isinstance(name, str):
        raise ModelError(f"assemble: the first argument is the name of the result, found {name!r}")
    return written_model(collect(raw, name, None))
