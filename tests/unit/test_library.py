"""Names to files: what is shipped, what a typo gets, and that a stale copy elsewhere is never read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pkmodel import library
from pkmodel.errors import LibraryError
from support import ROOT


def test_root_holds_the_three_folders() -> None:
    root = library.library_root()
    for folder in ("models", "datasets", "fitting"):
        assert root.joinpath(folder).is_dir(), folder


def test_names_are_sorted_unique_and_found() -> None:
    for kind in ("model", "study", "protocol"):
        names = library.list_names(kind)
        assert list(names) == sorted(set(names))
        for name in names:
            found = library.find(kind, name)
            assert found.is_dir() if kind == "study" else found.is_file()
    assert library.list_studies() == library.list_names("study")
    assert library.list_models() == library.list_names("model")
    assert library.list_protocols() == library.list_names("protocol")
    assert "snmmi_p004" in library.list_studies()


def test_typo_gets_the_nearest_name() -> None:
    with pytest.raises(LibraryError, match=r"study 'snmi_p004' is not in the library; did you mean 'snmmi_p004'"):
        library.find("study", "snmi_p004")


def test_unknown_kind() -> None:
    with pytest.raises(LibraryError, match="library kind 'studies' is not known; allowed: model, study, protocol"):
        library.list_names("studies")  # type: ignore[arg-type]


def test_paths(tmp_path: Path) -> None:
    model = tmp_path / "mine.toml"
    model.write_text("name = 'mine'\n")
    assert library.find("model", model) == model
    assert library.find("model", str(model)) == model
    with pytest.raises(LibraryError, match="there is no such file"):
        library.find("model", tmp_path / "absent.toml")
    folder = tmp_path / "study"
    folder.mkdir()
    with pytest.raises(LibraryError, match=r"holds no study\.toml"):
        library.find("study", folder)
    (folder / "study.toml").write_text("")
    assert library.find("study", folder) == folder
    assert library.find("study", folder / "study.toml") == folder
    with pytest.raises(LibraryError, match="there is no such folder"):
        library.find("study", tmp_path / "nowhere")


def test_models_in_sub_folders_and_clashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("models/organs/kidney.toml", "models/plasma/two.toml", "models/.cache/junk.toml"):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    monkeypatch.setattr(library, "library_root", lambda: tmp_path)
    assert library.list_models() == ("kidney", "two")
    assert library.find("model", "kidney") == tmp_path / "models/organs/kidney.toml"
    assert library.list_studies() == ()
    (tmp_path / "models/plasma/kidney.toml").write_text("")
    with pytest.raises(LibraryError, match="model name 'kidney' is used by two files"):
        library.list_models()


def test_stale_copy_in_site_packages_is_not_read(tmp_path: Path) -> None:
    """An editable install leaves pkmodel/_library in site-packages; the checkout must win."""
    stale = tmp_path / "pkmodel" / "_library" / "datasets" / "stale"
    stale.mkdir(parents=True)
    (stale / "study.toml").write_text("")
    code = "import pkmodel.library as l; print(l.library_root()); print(*l.list_studies())"
    path = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]; "
    done = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert Path(done.stdout.splitlines()[0]) == ROOT
    assert "stale" not in done.stdout
