"""Machine code on disk: found again, and never the reason that a model cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from kernel_support import call, check_step, one_operation, two_states
from pkmodel.compiler import cache, machine
from pkmodel.compiler.machine import Library, Source, Target, available, backend, default_lanes, library
from pkmodel.errors import ModelError, PkmodelError
from support import ROOT

pytestmark = pytest.mark.skipif(bool(available()), reason=f"no vector code here: {available()}")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PKMODEL_CACHE", str(tmp_path))
    monkeypatch.delenv("PKMODEL_BACKEND", raising=False)
    monkeypatch.delenv("PKMODEL_LANES", raising=False)
    return tmp_path


def source() -> Source:
    return Source(tapes={"one_add": one_operation("add")}, facts={"size": 3})


def never() -> Source:
    pytest.fail("the programs were written again")


def works(kernels: machine.Kernels) -> bool:
    x, out = np.ones((3, kernels.lanes)), np.zeros(kernels.lanes)
    call(kernels, "one_add", x, out)
    return bool((out == 2.0).all()) and kernels.facts["size"] == 3


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.o"))


def test_second_time_needs_no_programs(folder: Path) -> None:
    assert works(library("digest", source))
    assert len(files(folder)) == 1
    assert works(library("digest", never))


def test_step_from_disk() -> None:
    library("two", two_states)
    check_step(library("two", never))


def test_another_process_finds_it(folder: Path) -> None:
    """A new process links what this one compiled; it has no programs at all."""
    library("digest", source)
    text = (
        "from pkmodel.compiler.machine import library\n"
        "kernels = library('digest', lambda: 1/0)\n"
        "print(kernels.lanes, kernels.facts['size'], kernels.address('one_add') != 0)"
    )
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(default_lanes()), "3", "True"]


def test_no_digest_no_file(folder: Path) -> None:
    assert works(library("", source))
    assert not files(folder)


def test_one_file_for_each_digest_and_width(folder: Path) -> None:
    library("a", source, 8)
    library("a", source, 1)
    library("b", source, 1)
    assert len(files(folder)) == 3


def test_another_processor_has_another_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home folder shared by machines: code of one is not run on the other."""
    library("digest", source, 2)
    monkeypatch.setattr(machine, "host", lambda: Target("generic", ""))
    assert works(library("digest", source, 2))
    assert len(files(folder)) == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "text"])
def test_damaged_file_costs_time_only(damage: str, folder: Path) -> None:
    library("digest", source)
    path = files(folder)[0]
    good = path.read_bytes()
    middle = len(good) // 2
    bad = {
        "cut": good[:middle],
        "changed": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
        "empty": b"",
        "text": b"# sha256 0\nnothing",
    }
    path.write_bytes(bad[damage])
    assert works(library("digest", source))
    assert path.read_bytes() == good
    assert works(library("digest", never))


def test_file_that_is_whole_but_not_machine_code(folder: Path) -> None:
    """Sealed, but not what the linker takes."""
    library("digest", source)
    cache._write(files(folder)[0], b"nothing")
    assert works(library("digest", source))
    assert works(library("digest", never))


def test_an_error_of_the_model_leaves(folder: Path) -> None:
    def broken() -> Source:
        raise ModelError("no such function")

    with pytest.raises(ModelError, match="no such function"):
        library("digest", broken)
    assert not files(folder)


def test_folder_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file stands where the folder should be, which stops even a superuser."""
    (folder / "file").write_text("")
    monkeypatch.setenv("PKMODEL_CACHE", str(folder / "file"))
    assert works(library("digest", source))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user that permissions stop")
def test_folder_that_is_read_only(folder: Path) -> None:
    folder.chmod(0o500)
    try:
        assert works(library("digest", source))
    finally:
        folder.chmod(0o700)


def test_two_processes_at_once(folder: Path) -> None:
    """They start together on an empty folder, as the workers of a pool do."""
    text = (
        "from pkmodel.compiler.machine import Source, library\n"
        "from pkmodel.compiler.tape import Builder\n"
        "b = Builder()\n"
        "b.store('y', 0, b.apply('exp', b.load('y', 0)))\n"
        "tape = b.tape('grow', 'y')\n"
        "input()\n"
        "print(library('digest', lambda: Source(tapes={'grow': tape})).address('grow') > 0)"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", text], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    assert [worker.communicate()[0].strip() for worker in workers] == ["True"] * 2
    assert len(files(folder)) == 1
    assert not list(folder.rglob("*.tmp"))


def test_threads_at_once(folder: Path) -> None:
    results: list[bool] = []

    def work(number: int) -> None:
        results.append(works(library(f"digest {number % 2}", source)))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8
    assert len(files(folder)) == 2


def test_environment_chooses_the_back_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backend() == "simd"
    monkeypatch.setenv("PKMODEL_BACKEND", "scalar")
    kernels = library("digest", source)
    assert not isinstance(kernels, Library) and kernels.lanes == 1 and works(kernels)
    monkeypatch.setenv("PKMODEL_BACKEND", "fast")
    with pytest.raises(PkmodelError, match="PKMODEL_BACKEND is 'fast'; allowed: simd, scalar"):
        backend()


def test_without_vector_code_the_plain_back_end_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available", lambda: "no target for this processor")
    kernels = library("digest", source)
    assert not isinstance(kernels, Library) and works(kernels)
    monkeypatch.setenv("PKMODEL_BACKEND", "simd")
    with pytest.raises(PkmodelError, match="no target for this processor"):
        backend()


def test_environment_chooses_the_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PKMODEL_LANES", "4")
    kernels = library("digest", source)
    assert kernels.lanes == 4 and works(kernels)
    monkeypatch.setenv("PKMODEL_LANES", "3")
    with pytest.raises(PkmodelError, match="PKMODEL_LANES is '3'; allowed: 1, 2, 4"):
        default_lanes()


def test_unknown_kernel() -> None:
    with pytest.raises(KeyError):
        library("digest", source).address("other")
