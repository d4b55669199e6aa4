"""Where generated modules are kept: one file per model, named by the digest of its equations.

A second process finds the file, and numba finds the machine code it stored beside it. A folder that cannot be written
(or a damaged file) costs time, never a result: the module is then built in a temporary folder.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from .codegen import CODE_VERSION

_ENVIRONMENT = "PKMODEL_CACHE"


def cache_folder() -> Path:
    """Folder of generated modules: ``$PKMODEL_CACHE``, else the user's cache folder."""
    chosen = os.environ.get(_ENVIRONMENT)
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pkmodel"
    return base / f"v{CODE_VERSION}"


def cached_module(digest: str, source: Callable[[], str]) -> ModuleType:
    """Import the module of a digest, writing it first where it is absent or damaged."""
    name = f"pkmodel_generated_{digest[:32]}"
    if name in sys.modules:
        return sys.modules[name]
    text: str | None = None
    for folder in (cache_folder(), Path(tempfile.mkdtemp(prefix="pkmodel-"))):
        path = folder / f"{name}.py"
        for fresh in (False, True):
            try:
                if fresh or not path.exists():
                    text = text or source()
                    _write(path, text)
                return _import(name, path)
            except (SyntaxError, ImportError, AttributeError, ValueError):
                continue  # a damaged file: write it again
            except OSError:
                break  # a folder that cannot be written: try the next
    raise OSError(f"no folder to write generated code in; set {_ENVIRONMENT} to one that can be written")


def _write(path: Path, text: str) -> None:
    """Write whole or not at all, so that two processes never read half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _import(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        module.META  # noqa: B018  a truncated file has no META
        module.entries_dp  # noqa: B018  the last function written
    except BaseException:
        del sys.modules[name]
        raise
    return module
