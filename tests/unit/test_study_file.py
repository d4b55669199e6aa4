"""What is refused in ``study.toml``; the message names the file, the key, what was found and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkmodel.data import load_study
from pkmodel.errors import DataError

TABLE = "subject,region,t,value,unit,n,decay_corrected,nuclide,agent\nP01,liver,4,300,MBq,1,no,Lu-177,DOTATATE\n"
STUDY = """name = "bad"
title = "a study made up for a test"
citation = "none"
terms = "none"
time_unit = "h"
"""
SUBJECT = """[[subjects]]
id = "P01"
injected_activity = "1 GBq"
"""


@pytest.mark.parametrize(
    ("study", "subject", "more", "fragments"),
    [
        (STUDY + "name = ", SUBJECT, "", ["not valid TOML"]),
        (STUDY.replace("title", "titel"), SUBJECT, "", ["key 'titel' is not known; did you mean 'title'"]),
        (STUDY.replace('terms = "none"', ""), SUBJECT, "", ["key 'terms' is missing"]),
        (
            STUDY.replace('"h"', '"MBq"'),
            SUBJECT,
            "",
            ["time_unit = 'MBq' has dimension activity; allowed: a unit like 'h'"],
        ),
        (STUDY.replace('"h"', '"hourz"'), SUBJECT, "", ["time_unit: unit 'hourz' is not known"]),
        (STUDY + 'sd_kind = "std"\n', SUBJECT, "", ["sd_kind = 'std'; allowed: 'sd'", "'sem'"]),
        (STUDY + 'decay_corrected = "unknown"\n', SUBJECT, "", ["decay_corrected = 'unknown'; allowed: yes, no"]),
        (STUDY, "", "", ["no [[subjects]]"]),
        (STUDY, SUBJECT.replace("1 GBq", "1"), "", ["subject P01", "injected_activity", "has no unit"]),
        (STUDY, SUBJECT.replace('"1 GBq"', "1000"), "", ["injected_activity = 1000 has no unit"]),
        (STUDY, SUBJECT.replace("1 GBq", "1 kg"), "", ["injected_activity = '1 kg' has dimension mass"]),
        (STUDY, SUBJECT.replace("1 GBq", "0 GBq"), "", ["it must be above zero"]),
        (STUDY, SUBJECT + 'sex = "f"\n', "", ["sex = 'f'; allowed: female, male, mixed"]),
        (STUDY, SUBJECT + '[[subjects]]\nid = "P01"\n', "", ["subject 'P01' is listed twice"]),
        (STUDY, SUBJECT + '[[subjects]]\nid = "P02"\n', "", ["subject 'P02' has no row in"]),
        (STUDY, SUBJECT, "[regions.livr]\n", ["region 'livr' has no row in", "did you mean 'liver'"]),
        (STUDY, SUBJECT, '[regions.liver]\nkind = "organ"\n', ["region liver: kind = 'organ'", "allowed: tissue"]),
        (STUDY, SUBJECT, '[regions.liver]\npart_of = "body"\n', ["part_of = 'body' is not a region"]),
        (STUDY, SUBJECT, '[[published]]\nsubject = "P01"\n', ["[[published]] number 1: key 'source' is missing"]),
        (
            STUDY,
            SUBJECT,
            '[[published]]\nsubject = "P01"\nsource = "x"\nunits = { dose = "Gyy" }\nregions.liver = { dose = 1 }\n',
            ["dose: unit 'Gyy' is not known"],
        ),
        (
            STUDY,
            SUBJECT,
            '[[published]]\nsubject = "P01"\nsource = "x"\nunits = { dose = "Gy" }\nregions.liver = { tia = 1 }\n',
            ["region liver: 'tia' has no unit"],
        ),
    ],
)
def test_bad_study_file(tmp_path: Path, study: str, subject: str, more: str, fragments: list[str]) -> None:
    (tmp_path / "tac.csv").write_text(TABLE)
    (tmp_path / "study.toml").write_text(study + subject + more)
    with pytest.raises(DataError) as caught:
        load_study(tmp_path)
    text = str(caught.value)
    print(text)
    for fragment in (f"{tmp_path.name}/study.toml", *fragments):
        assert fragment in text, f"{fragment!r} is not in: {text}"
