"""Results of a long run, kept as they come: one file a chunk of patients, joined into one NetCDF file at the end.

A part is written beside its place and renamed, so what is there is whole, whatever interrupts the run. The folder knows
what run it belongs to; the same run finds its parts and goes on, and another is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .errors import SimulationError

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[Any]


@dataclass(frozen=True)
class PartStore:
    """Parts of one run beside the file they become: ``runs.nc`` has its parts in ``runs.nc.parts``.

    Parameters
    ----------
    path : the finished file [path]
    run : what decides the numbers (digests of model, doses, parameters, times, tolerances), as text
    """

    path: Path
    run: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """Where the parts lie until all are there."""
        return self.path.with_name(self.path.name + ".parts")

    def open(self) -> None:
        """Make the folder, or see that it belongs to this run.

        Raises
        ------
        SimulationError
            It holds the parts of another run; the message names what differs.
        """
        note = self.folder / "run.json"
        if note.exists():
            try:
                found = json.loads(note.read_text())
            except ValueError:
                found = {}
            self._same(found, self.folder)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with _whole(note) as stream:
            stream.write(json.dumps(dict(self.run), indent=1).encode())

    def finished(self) -> bool:
        """Whether the finished file is there and is of this run.

        Raises
        ------
        SimulationError
            A file of that name is of another run, or no result of ours.
        """
        if not self.path.exists():
            return False
        import h5py  # type: ignore[import-untyped, unused-ignore]

        try:
            with h5py.File(self.path) as file:
                found = json.loads(file.attrs.get("run", "{}"))
        except OSError as error:
            raise SimulationError(f"{self.path}: is there and cannot be read ({error}); move it away") from None
        self._same(found, self.path)
        return True

    def _same(self, found: Mapping[str, str], where: Path) -> None:
        differs = [k for k, v in self.run.items() if found.get(k) != v]
        if differs:
            raise SimulationError(
                f"{where}: belongs to another run ({', '.join(differs)} differ); give another file name, or delete it"
            )

    def write(self, part: int, arrays: Mapping[str, Array]) -> None:
        """Keep one chunk, whole or not at all."""
        with _whole(self._part(part)) as stream:
            np.savez(stream, allow_pickle=False, **arrays)

    def read(self, part: int) -> dict[str, Array] | None:
        """One chunk; None where it is absent or damaged, so that it is computed again."""
        try:
            with np.load(self._part(part), allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, KeyError):
            return None
        except Exception as error:  # zipfile.BadZipFile, which numpy does not promise to raise
            if "zip" in type(error).__name__.lower():
                return None
            raise

    def _part(self, part: int) -> Path:
        return self.folder / f"{part:06d}.npz"

    def join(self, frame: xr.Dataset, dimension: str, parts: int) -> None:
        """Write the finished file part by part, then let the parts go.

        Parameters
        ----------
        frame : every variable with its attributes, of length zero along `dimension`
        dimension : the one the parts follow each other along [text]
        parts : how many there are [1]
        """
        import h5netcdf
        import h5py

        temporary = self.path.with_name(self.path.name + ".tmp")
        with h5netcdf.File(temporary, "w") as file:
            for name, size in frame.sizes.items():
                file.dimensions[str(name)] = None if name == dimension else size
            for name, values in frame.variables.items():
                kind = h5py.string_dtype() if values.dtype.kind in "UO" else values.dtype
                chunks = tuple(64 if d == dimension else max(1, values.sizes[d]) for d in values.dims) or None
                variable = file.create_variable(str(name), values.dims, kind, chunks=chunks)
                variable.attrs.update({k: v for k, v in values.attrs.items() if v != ""})
                if dimension not in values.dims:
                    variable[...] = values.values
            start = 0
            for k in range(parts):
                arrays = self.read(k)
                if arrays is None:
                    raise SimulationError(f"{self._part(k)}: is gone or damaged; run again, and it is computed anew")
                length = next(iter(arrays.values())).shape[0]
                file.resize_dimension(dimension, start + length)
                for name, array in arrays.items():
                    file.variables[name][start : start + length] = (
                        array.astype(object) if array.dtype.kind == "U" else array
                    )
                start += length
            file.attrs.update({str(k): v for k, v in frame.attrs.items() if v != ""})
            file.attrs["run"] = json.dumps(dict(self.run))
        os.replace(temporary, self.path)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def _whole(path: Path) -> Any:
    """A file that appears when it is complete."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        stream: BinaryIO
        with os.fdopen(handle, "wb") as stream:
            yield stream
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
