"""Where generated code is kept: one file per model, named by the digest of its equations.

A module is Python text, beside which numba stores its machine code; `cached_bytes` keeps what LLVM made as it is. A
second process finds the file. A folder that cannot be written (or a damaged file) costs time, never a result: each file
begins with the checksum of what follows; where the folder fails, a module is built in a temporary one and bytes are
built anew.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from .codegen import CODE_VERSION

_ENVIRONMENT = "PKMODEL_CACHE"
_LOCK = threading.RLock()


def cache_folder() -> Path:
    """Folder of generated modules: ``$PKMODEL_CACHE``, else the user's cache folder."""
    chosen = os.environ.get(_ENVIRONMENT)
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pkmodel"
    return base / f"v{CODE_VERSION}"


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Digest of the text of the compiler and the solvers: another version never runs this one's machine code."""
    files = [p for folder in ("compiler", "solve") for p in (Path(__file__).parents[1] / folder).glob("*.py")]
    text = hashlib.sha256(str(CODE_VERSION).encode())
    for path in sorted(files):
        with contextlib.suppress(OSError):  # a package without its text has the version number only
            text.update(path.read_bytes())
    return text.hexdigest()


def cached_module(digest: str, source: Callable[[], str]) -> ModuleType:
    """Import the module of a digest, writing it first where it is absent or damaged.

    Parameters
    ----------
    digest : str, of the equations [text]
    source : writes the module; called only where no good file is found

    Raises
    ------
    OSError
        Not even a temporary folder can be written.
    """
    name = f"pkmodel_generated_{digest[:32]}"
    with _LOCK:
        if name in sys.modules:
            return sys.modules[name]
        path = cache_folder() / f"{name}.py"
        text = _read(path)
        try:
            if text is None:
                text = source()
                _write(path, text.encode())
            return _import(name, path)
        except Exception:
            # Nothing of the cache may decide whether a model can be used: not its permissions, and not the machine
            # code numba keeps there. An error of the model's own comes again below, and leaves.
            text = text or source()
        path = _temporary_folder() / path.name
        _write(path, text.encode())
        return _import(name, path)


def cached_bytes(name: str, make: Callable[[], bytes]) -> bytes:
    """Contents of a cached file, made and written first where it is absent or damaged.

    Parameters
    ----------
    name : file name, in which all that the contents depend on is digested
    make : builds the contents; called only where no good file is found
    """
    found = _read_bytes(cache_folder() / name)
    if found is None:
        found = make()
        replace_bytes(name, found)
    return found


def replace_bytes(name: str, contents: bytes) -> None:
    """Write a cached file; a folder that cannot be written costs the next process its time.

    Parameters
    ----------
    name : file name
    contents : what `cached_bytes` is to give from now on
    """
    with contextlib.suppress(OSError):
        _write(cache_folder() / name, contents)


@lru_cache(maxsize=1)
def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="pkmodel-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _read(path: Path) -> str | None:
    """Text of a cached module; None where there is none that is good."""
    found = _read_bytes(path)
    return None if found is None else found.decode()


def _read_bytes(path: Path) -> bytes | None:
    """Contents under the seal; None where the file is absent, unreadable, cut off or changed."""
    try:
        seal, _, contents = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    return contents if seal == _seal(contents) else None


def _seal(contents: bytes) -> bytes:
    return f"# sha256 {hashlib.sha256(contents).hexdigest()}".encode()


def _write(path: Path, contents: bytes) -> None:
    """Write whole or not at all, so that two processes never read half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(_seal(contents) + b"\n" + contents)
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
    except BaseException:
        del sys.modules[name]
        raise
    return module
