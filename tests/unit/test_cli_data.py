"""`pkmodel nca` and `pkmodel convert`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pkmodel.cli import app
from pkmodel.errors import PkmodelError

UNITS = ["--unit", "TIME=h", "--unit", "AMT=mg", "--unit", "DV=mg/L"]
DATA = """# a bolus of two people
ID TIME AMT CP
1 0 100 .
1 1 . 4
1 3 . 2
1 5 . 1
1 7 . 0.5
2 0 100 .
2 1 . 8
2 3 . 4
2 5 . 2
2 7 . 1
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "two.dat"
    path.write_text(DATA)
    return path


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_nca(data: Path, tmp_path: Path) -> None:
    files = [tmp_path / "nca.csv", tmp_path / "nca.png"]
    out = [word for path in files for word in ("--out", str(path))]
    text = run("nca", str(data), *UNITS, "--rename", "CP=DV", "--route", "bolus", *out)
    assert "half_life [h]" in text
    assert "geometric mean" in text
    assert files[0].read_text().count("\n") == 3
    assert files[1].stat().st_size > 5000
    one = run("nca", str(data), *UNITS, "--rename", "CP=DV", "--route", "bolus", "--subject", "2")
    assert "terminal half-life" in one  # 2 h exactly: it halves every two hours
    assert any(line.split()[:3] == ["half_life", "2", "h"] for line in one.splitlines())


def test_convert(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "plain.csv"
    text = run("convert", str(data), str(out), *UNITS, "--rename", "CP=DV", "--cmt", "1=iv")
    assert "2 subjects" in text
    assert out.read_text().splitlines()[:2] == [
        "ID,TIME,EVID,AMT,RATE,II,ADDL,SS,CMT,DV,MDV,CENS",
        "1,0,1,100,0,0,0,0,1,.,1,.",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--unit", "TIME=h"], "the unit of AMT, DV is not said"),
        ([*UNITS, "--rename", "CP=DV"], "say one of bolus, infusion, extravascular"),
        ([*UNITS, "--rename", "CP=DV", "--after", "third"], "allowed are first and last"),
        ([*UNITS, "--rename", "CP=DV", "--cmt", "oral=1"], "the first is a number"),
        ([*UNITS, "--rename", "CP=DV", "--out", "x.xls"], "the ending '.xls' is not known"),
    ],
)
def test_bad_words(words: list[str], message: str, data: Path) -> None:
    with pytest.raises(PkmodelError) as caught:
        run("nca", str(data), *words)
    assert message in str(caught.value)
