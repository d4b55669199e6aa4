"""A folder that appears whole or not at all: written beside its place, moved there when it is complete."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import PkmodelError

FORMAT = "pkmodel report"
RESULTS = "results.json"


def refuse_foreign(out: Path) -> None:
    """Refuse a place that holds anything but an earlier report.

    Raises
    ------
    PkmodelError
        `out` is a file, or a folder with something in it that is not a report.
    """
    if out.is_dir():
        if any(out.iterdir()) and _files_of(out) is None:
            raise PkmodelError(
                f"{out} is not empty and holds no pkmodel report: nothing was written; name a new folder, or an "
                "earlier report to replace"
            )
    elif out.exists() or out.is_symlink():
        raise PkmodelError(f"{out} is a file, not a folder: nothing was written; name another place with --out")


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A new folder to write into, which becomes `out` when the block ends well and vanishes when it does not.

    An earlier report at `out` is replaced; files of others in it are kept.
    """
    refuse_foreign(out)
    place = Path(os.path.abspath(out))
    made = _make_parents(place.parent)
    new = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".part", dir=place.parent))
    try:
        yield new
        umask = os.umask(0)
        os.umask(umask)
        new.chmod(0o777 & ~umask)
        _swap(new, place)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        for folder in made:
            folder.rmdir()
        raise


def _make_parents(folder: Path) -> list[Path]:
    """Make the folders that are missing; those made, innermost first."""
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _swap(new: Path, place: Path) -> None:
    """Move `new` to `place`; what was there goes away only once `new` has taken its place."""
    if not place.exists():
        new.rename(place)
        return
    ours = _files_of(place) or set()
    old = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".old", dir=place.parent))
    earlier = old / "report"
    place.rename(earlier)
    try:
        new.rename(place)
    except BaseException:
        earlier.rename(place)
        old.rmdir()
        raise
    for path in sorted(p for p in earlier.rglob("*") if not p.is_dir()):
        name = path.relative_to(earlier)
        target = place / name
        if name.as_posix() not in ours and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _files_of(folder: Path) -> set[str] | None:
    """Files of an earlier report, or None where the folder is not one."""
    try:
        found = json.loads(folder.joinpath(RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return None
    return {str(name) for name in found.get("files", [])}
