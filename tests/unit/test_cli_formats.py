"""`pkmodel compare-formats` and `pkmodel validate` on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from pkmodel import cli
from pkmodel.cli_formats import _affinities
from pkmodel.cli_output import UsageError


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["pkmodel", *arguments])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_compare_formats(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = ["--formats", "nanobody,affibody", "--nuclide", "Lu-177", "--kd", "affibody=0.1 nmol/L", "--patients", "4"]
    status = _run(monkeypatch, "compare-formats", *wanted, "--out", "f.csv", "--out", "f.png")
    done = capsys.readouterr()
    assert status == 0, done.err
    assert "Lu-177, half-life" in done.out and "nanobody" in done.out and "not a medical device" in done.out
    assert "not for planning" in done.err
    table = pd.read_csv("f.csv", index_col=["nuclide", "format"])
    assert list(table.index) == [("Lu-177", "nanobody"), ("Lu-177", "affibody")]
    assert (table["dose kidneys [Gy/GBq]"] > table["dose liver [Gy/GBq]"]).all(), "small proteins go to the kidneys"
    assert Path("f.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--formats", "nanobdy"], "did you mean 'nanobody'"),
        (["--formats", ","], "names none"),
        (["--kd", "igg2=1 nmol/L"], "igg2 is not compared"),
        (["--out", "f.txt"], "'.txt' is not known"),
        (["--limit", "kidneys"], "cannot be read"),
    ],
)
def test_what_is_wrong_is_one_clean_message(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "compare-formats", *arguments) in (1, 2)
    assert message in capsys.readouterr().err


def test_affinities() -> None:
    assert _affinities([], ["igg"]) == "1 nmol/L"
    assert _affinities(["3 nmol/L", "fab=20 nmol/L"], ["igg", "fab"]) == {"igg": "3 nmol/L", "fab": "20 nmol/L"}
    with pytest.raises(UsageError):
        _affinities(["fab=1 nmol/L"], ["igg"])


def test_validate_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(monkeypatch, "validate", "zr89_trastuzumap") == 2
    assert "did you mean 'zr89_trastuzumab'" in capsys.readouterr().err
    assert _run(monkeypatch, "validate", "--page", str(tmp_path)) == 2
    assert "no checkout" in capsys.readouterr().err
