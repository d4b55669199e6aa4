"""The wheel a user installs holds the package and its library, nothing else, and works away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import ROOT

pytestmark = pytest.mark.packaging

# What lies about in a working folder and must not reach a user
JUNK = (
    "models/.ipynb_checkpoints/draft-checkpoint.toml",
    "datasets/scratch.tmp",
    "fitting/__pycache__/junk.pyc",
    "pkmodel/__pycache__/junk.pyc",
    "demo_report/junk.html",
)
JUNK_NAMES = {Path(name).name for name in JUNK}

LOAD_EVERYTHING = """
import sys
from pathlib import Path
import pkmodel as pk

assert Path(pk.__file__).is_relative_to(sys.prefix), pk.__file__
for kind, names, load in (
    ("model", pk.list_models(), pk.load_model),
    ("study", pk.list_studies(), pk.load_study),
    ("protocol", pk.list_protocols(), pk.load_protocol),
):
    for name in names:
        load(name)
    print(kind, len(names))
"""


def _run(*command: str | Path, cwd: Path) -> str:
    """Run a command as a user elsewhere would: without this interpreter's paths in the environment."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git would take, plus the junk of a working folder."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout, so there is no list of what belongs to it")
    listed = _run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    copy = tmp_path_factory.mktemp("tree")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    for name in JUNK:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("junk\n", encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution as for a release."""
    dist = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--outdir", dist, tree, cwd=dist)
    assert len(list(dist.glob("pkmodel-*.tar.gz"))) == 1
    (built,) = dist.glob("*.whl")
    return built


def test_wheel_holds_the_package_and_nothing_else(wheel: Path, tree: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    top = {name.split("/")[0] for name in names}
    info = {name for name in top if name.endswith(".dist-info")}
    assert len(info) == 1 and top == {"pkmodel"} | info, f"top-level names in the wheel: {sorted(top)}"

    expected = {
        f"pkmodel/{path.relative_to(tree / 'pkmodel').as_posix()}"
        for path in (tree / "pkmodel").rglob("*")
        if path.is_file() and path.name not in JUNK_NAMES
    } | {
        f"pkmodel/_library/{path.relative_to(tree).as_posix()}"
        for folder in ("models", "fitting", "datasets")
        for path in (tree / folder).rglob("*")
        if path.is_file() and path.name not in JUNK_NAMES
    }
    got = {name for name in names if name.startswith("pkmodel/")}
    assert got == expected, f"missing: {sorted(expected - got)}; not wanted: {sorted(got - expected)}"
    for part in ("_library/models", "_library/fitting", "_library/datasets", "tables"):
        assert any(name.startswith(f"pkmodel/{part}/") for name in names), f"the wheel has no pkmodel/{part}"
    assert "pkmodel/py.typed" in names
    assert any(name.startswith(next(iter(info))) and name.endswith("LICENSE") for name in names)


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Iterator[Path]:
    """Folder of the programs of a new environment that holds the wheel and what it asks for."""
    venv = tmp_path / "venv"
    _run(sys.executable, "-m", "venv", venv, cwd=tmp_path)
    programs = venv / ("Scripts" if os.name == "nt" else "bin")
    _run(programs / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel, cwd=tmp_path)
    yield programs
    shutil.rmtree(venv)  # half a gigabyte, which pytest would keep


def test_wheel_works_in_a_clean_environment_from_another_folder(installed: Path, tree: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    loaded = _run(installed / "python", "-c", LOAD_EVERYTHING, cwd=elsewhere)
    print(loaded)
    counts = {kind: int(n) for kind, n in (line.split() for line in loaded.splitlines())}
    assert counts == {
        "model": len([path for path in (tree / "models").rglob("*.toml") if path.name not in JUNK_NAMES]),
        "study": len(list((tree / "datasets").glob("*/study.toml"))),
        "protocol": len([path for path in (tree / "fitting").rglob("*.toml") if path.name not in JUNK_NAMES]),
    }

    listed = _run(installed / "pkmodel", "list", cwd=elsewhere)
    missing = [path.parent.name for path in (tree / "datasets").glob("*/study.toml") if path.parent.name not in listed]
    assert not missing, f"`pkmodel list` does not name {missing}"
    assert not list(elsewhere.iterdir()), "looking at the library left files behind"
