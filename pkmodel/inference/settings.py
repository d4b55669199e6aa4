"""What a user says of a method, checked before anything is computed: unknown words, seeds, files of a run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import FitError, did_you_mean

NETCDF = b"\x89HDF"  # what files of NetCDF 4 begin with


def check_settings(
    method: str, settings: Mapping[str, Any], function: Callable[..., Any] | None = None, *, taken: Collection[str] = ()
) -> None:
    """Refuse settings that a method does not have.

    Parameters
    ----------
    method : named in the message [text]
    settings : as given by the user
    function : whose keywords are allowed; None: there are none
    taken : keywords of it that the verb itself gives [text]

    Raises
    ------
    FitError
        A setting is not known; the message says which are.
    """
    words = inspect.signature(function).parameters.values() if function else ()
    allowed = [w.name for w in words if w.kind is w.KEYWORD_ONLY and w.name not in taken]
    for name in settings:
        if name not in allowed:
            has = f"allowed: {', '.join(allowed)}" if allowed else "it has iterations only"
            raise FitError(f"{method}: setting {name} is not known{did_you_mean(name, allowed)}; {has}")


def check_seed(seed: object) -> None:
    """Refuse what seeds no generator; None means the protocol's."""
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
        raise FitError(f"seed = {seed!r}; allowed: a whole number of 0 or more")


def check_sampling(settings: Mapping[str, Any]) -> None:
    """Before anything is drawn: priors are a table, and the file can be written or is one of a run.

    Raises
    ------
    FitError
        The message says what to give instead.
    """
    priors, file = settings.get("priors"), settings.get("file")
    if priors is not None and not isinstance(priors, Mapping):
        raise FitError(f"priors: found a {type(priors).__name__}; give a table, parameter -> prior")
    if file is None:
        return
    path = Path(file)
    if not path.parent.is_dir():
        raise FitError(f"file {path}: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise FitError(f"file {path}: is a folder; give the name of a file in it, as {path / 'run.nc'}")
    if path.is_file() and not _begins(path, NETCDF):
        raise FitError(f"file {path}: is not a run that was kept (NetCDF); give another file, or remove this one")


def _begins(path: Path, with_: bytes) -> bool:
    with path.open("rb") as opened:
        return opened.read(len(with_)) == with_
