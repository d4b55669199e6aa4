"""What a long run has computed is never lost, and never mixed with another run's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pkmodel.errors import SimulationError
from pkmodel.part_store import PartStore

RUN = {"model": "a", "parameters": "b"}


def frame() -> xr.Dataset:
    data = xr.Dataset(coords={"time": ("time", np.arange(4.0), {"units": "h"})})
    data["patient"] = ("patient", np.empty(0, dtype="U3"))
    data["tumour"] = (("patient", "time"), np.empty((0, 4)), {"units": "MBq"})
    data["status"] = ("patient", np.empty(0, np.int8))
    data.attrs = {"solver": "none"}
    return data


def part(k: int, length: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(k)
    return {
        "patient": np.array([f"p{k}{i}" for i in range(length)]),
        "tumour": rng.random((length, 4)),
        "status": np.zeros(length, np.int8),
    }


def test_parts_become_one_file(tmp_path: Path) -> None:
    store = PartStore(tmp_path / "runs.nc", RUN)
    assert not store.finished()
    store.open()
    sizes = [5, 5, 2]
    for k, length in enumerate(sizes):
        store.write(k, part(k, length))
    store.join(frame(), "patient", 3)
    assert store.finished() and not store.folder.exists()
    with xr.open_dataset(tmp_path / "runs.nc", engine="h5netcdf") as data:
        expected = np.concatenate([part(k, n)["tumour"] for k, n in enumerate(sizes)])
        np.testing.assert_array_equal(data["tumour"], expected)
        assert data["tumour"].attrs["units"] == "MBq" and data.attrs["solver"] == "none"
        assert list(data["patient"].values[:2]) == ["p00", "p01"]


def test_a_damaged_part_counts_as_absent(tmp_path: Path) -> None:
    store = PartStore(tmp_path / "runs.nc", RUN)
    store.open()
    store.write(0, part(0))
    file = next(store.folder.glob("*.npz"))
    whole = file.read_bytes()
    for damaged in (whole[:-40], b"", b"not a zip file at all", whole[:60] + b"\0" * 200 + whole[260:]):
        file.write_bytes(damaged)
        assert store.read(0) is None
        with pytest.raises(SimulationError, match="gone or damaged"):
            store.join(frame(), "patient", 1)
    assert store.read(1) is None


def test_another_run_is_refused(tmp_path: Path) -> None:
    store = PartStore(tmp_path / "runs.nc", RUN)
    store.open()
    other = PartStore(tmp_path / "runs.nc", RUN | {"parameters": "c"})
    with pytest.raises(SimulationError, match="parameters differ"):
        other.open()
    store.write(0, part(0))
    store.join(frame(), "patient", 1)
    with pytest.raises(SimulationError, match="parameters differ"):
        other.finished()


def test_a_file_that_is_no_result_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "runs.nc").write_text("mine")
    with pytest.raises(SimulationError, match="cannot be read"):
        PartStore(tmp_path / "runs.nc", RUN).finished()
    assert (tmp_path / "runs.nc").read_text() == "mine"
