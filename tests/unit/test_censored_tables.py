"""Limits and missing values in the long table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pkmodel.data import load_study
from pkmodel.errors import DataError
from pkmodel.inference.observations import gather
from pkmodel.inference.protocol import ErrorModel

STUDY = """
name = "cut"
title = "made up"
citation = "made up"
terms = "made up"
time_unit = "h"
unit = "MBq"
n = "1"
decay_corrected = "yes"
nuclide = "Lu-177"
agent = "tracer"
[[subjects]]
id = "A"
injected_activity = "100 MBq"
"""


def _folder(path: Path, rows: str) -> Path:
    folder = path / "cut"
    folder.mkdir()
    (folder / "study.toml").write_text(STUDY)
    (folder / "SOURCE.md").write_text("made up")
    (folder / "tac.csv").write_text("subject,region,t,value,censored\n" + rows)
    return folder


def test_below_above_and_missing(tmp_path: Path) -> None:
    study = load_study(
        _folder(tmp_path, "A,liver,1,20,\nA,liver,2,30,above\nA,liver,24,,missing\nA,liver,72,0.5,below\n")
    )
    liver = study["A"]["liver"]
    assert liver.censored.tolist() == [0, 1, 2, -1] and np.isnan(liver.value[2])
    assert "at least 30" in str(liver) and "below 0.5" in str(liver) and "missing" in str(liver)
    assert study["A"].table["censored"].tolist() == [0, 1, 2, -1]
    data = gather(list(study["A"]), ErrorModel())
    assert data.censored.tolist() == [0, 1, 0, -1] and data.counted.tolist() == [True, True, False, True]
    assert liver.to_unit("kBq").censored.tolist() == [0, 1, 2, -1]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("A,liver,1,20,blq", "row 2: censored 'blq' is not known; allowed: below, above, missing"),
        ("A,liver,1,20,missing", "row 2: value is 20 but censored says 'missing'"),
        ("A,liver,1,,", "row 2: value is missing"),
        ("A,liver,1,,below", "row 2: value is missing"),
    ],
)
def test_wrong_words_are_named_with_their_row(tmp_path: Path, row: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_study(_folder(tmp_path, row + "\nA,liver,2,10,\n"))
