"""What the loader refuses. Every message names the file, the row, what was found and what is allowed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pkmodel.data import load_study
from pkmodel.errors import DataError
from pkmodel.nuclides import nuclide

HEADER = "subject,region,t,value,unit,n,decay_corrected,nuclide,agent"
GOOD = (
    HEADER,
    "P01,liver,4,300,MBq,1,no,Lu-177,DOTATATE",
    "P01,liver,24,200,MBq,1,no,Lu-177,DOTATATE",
    "P01,liver,96,80,MBq,1,no,Lu-177,DOTATATE",
)
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


def write(folder: Path, *lines: str, study: str = STUDY, subject: str = SUBJECT, more: str = "") -> Path:
    (folder / "tac.csv").write_text("\n".join(lines) + "\n")
    (folder / "study.toml").write_text(study + subject + more)
    return folder


def refused(folder: Path, *fragments: str, file: str = "tac.csv") -> str:
    """The message, which must hold the file's name and every fragment."""
    with pytest.raises(DataError) as caught:
        load_study(folder)
    text = str(caught.value)
    print(text)
    for fragment in (f"{folder.name}/{file}", *fragments):
        assert fragment in text, f"{fragment!r} is not in: {text}"
    return text


def row(number: int, cells: str) -> tuple[str, ...]:
    """The good table with line `number` of the file replaced."""
    return tuple(cells if i == number else line for i, line in enumerate(GOOD, start=1))


def test_the_good_table_is_accepted_without_a_warning(tmp_path: Path) -> None:
    assert load_study(write(tmp_path, *GOOD)).warnings == ()


# header


def test_unknown_column(tmp_path: Path) -> None:
    lines = [GOOD[0].replace("decay_corrected", "decaycorrected"), *GOOD[1:]]
    refused(
        write(tmp_path, *lines),
        "row 1: column 'decaycorrected' is not known",
        "did you mean 'decay_corrected'",
        "allowed: ",
    )


def test_missing_column(tmp_path: Path) -> None:
    refused(
        write(tmp_path, "subject,t,value", "P01,4,300"), "row 1: column 'region' is missing; found: subject, t, value"
    )


def test_double_column(tmp_path: Path) -> None:
    refused(
        write(tmp_path, HEADER + ",value", *(line + ",1" for line in GOOD[1:])), "row 1: column 'value' appears 2 times"
    )


@pytest.mark.parametrize("times", ["t,t_start,t_end", "t_start", "t,t_end"])
def test_two_ways_of_time(tmp_path: Path, times: str) -> None:
    refused(
        write(tmp_path, f"subject,region,{times},value"), "row 1: found time columns", "either t, or t_start and t_end"
    )


def test_no_decay_flag_at_all(tmp_path: Path) -> None:
    lines = [",".join(cell for i, cell in enumerate(line.split(",")) if i != 6) for line in GOOD]
    refused(
        write(tmp_path, *lines),
        "row 1: 'decay_corrected' is not said: no column 'decay_corrected' and no decay_corrected = ...",
        "yes or no; pkmodel never assumes it",
    )


def test_spread_without_its_kind(tmp_path: Path) -> None:
    refused(write(tmp_path, HEADER + ",sd", GOOD[1] + ",3"), "row 1: column 'sd' needs sd_kind = 'sd' or 'sem'")


def test_volume_without_its_unit(tmp_path: Path) -> None:
    refused(write(tmp_path, HEADER + ",volume", GOOD[1] + ",3"), "row 1: column 'volume' needs volume_unit = 'mL'")


def test_empty_files(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY + SUBJECT)
    refused(tmp_path, "the file is missing")
    (tmp_path / "tac.csv").write_text("")
    refused(tmp_path, "the file is empty")
    refused(write(tmp_path, HEADER), "a header but no row")
    (tmp_path / "tac.csv").write_bytes("é".encode("latin-1"))
    refused(tmp_path, "not UTF-8")


def test_row_with_a_cell_too_few(tmp_path: Path) -> None:
    refused(
        write(tmp_path, *row(3, "P01,liver,24,200,MBq,1,no,Lu-177")), "row 3: found 8 cells, the header names 9 columns"
    )


# one row


@pytest.mark.parametrize(
    ("cells", "fragments"),
    [
        ("P01,liver,24,200,MBq,1,,Lu-177,DOTATATE", ["decay_corrected is missing", "allowed: yes, no"]),
        ("P01,liver,24,200,MBq,1,unknown,Lu-177,DOTATATE", ["decay_corrected is 'unknown'", "allowed: yes, no"]),
        ("P01,liver,24,200,MBq,1,assumed no,Lu-177,DOTATATE", ["'assumed no'", "needs decay_corrected_reason"]),
        (
            "P01,liver,24,200,MBqq,1,no,Lu-177,DOTATATE",
            ["unit 'MBqq' is not known", "did you mean 'MBq'", "allowed: activity"],
        ),
        ("P01,liver,24,200,mL,1,no,Lu-177,DOTATATE", ["unit 'mL' has dimension length^3", "allowed: activity"]),
        ("P01,liver,24,200,,1,no,Lu-177,DOTATATE", ["unit is missing"]),
        ("P01,liver,24,0.2,1,1,no,Lu-177,DOTATATE", ["unit '1' with kind 'tissue'", "for parent_fraction only"]),
        ("P01,liver,24,200,SUV,1,no,Lu-177,DOTATATE", ["unit SUV with decay_corrected 'no'"]),
        ("P01,liver,24,-200,MBq,1,no,Lu-177,DOTATATE", ["value is -200", "allowed: a number, zero or above"]),
        ("P01,liver,24,NaN,MBq,1,no,Lu-177,DOTATATE", ["value is 'NaN'", "allowed: a number, zero or above"]),
        ("P01,liver,24,inf,MBq,1,no,Lu-177,DOTATATE", ["value is 'inf'", "allowed: a number, zero or above"]),
        ("P01,liver,24,,MBq,1,no,Lu-177,DOTATATE", ["value is missing", "leave the row out"]),
        ("P01,liver,24,2oo,MBq,1,no,Lu-177,DOTATATE", ["value '2oo' is not a number"]),
        ("P01,liver,x,200,MBq,1,no,Lu-177,DOTATATE", ["t is 'x'", "allowed: a finite number in h"]),
        (
            "P01,liver,-1,200,MBq,1,no,Lu-177,DOTATATE",
            ["t is -1 h, which is 1 h before injection", "from injection on"],
        ),
        ("P01,liver,24,200,MBq,0,no,Lu-177,DOTATATE", ["n is '0'", "allowed: a whole number from 1"]),
        ("P01,liver,24,200,MBq,2.5,no,Lu-177,DOTATATE", ["n is '2.5'", "allowed: a whole number from 1"]),
        ("P01,liver,24,200,MBq,1,no,Lu-777,DOTATATE", ["nuclide 'Lu-777'", "not in the table", "Lu-177"]),
        ("P01,liver,24,200,MBq,1,no,lutetium,DOTATATE", ["nuclide 'lutetium'", "write for example 'Lu-177'"]),
        ("P02,liver,24,200,MBq,1,no,Lu-177,DOTATATE", ["subject 'P02' is not in", "did you mean 'P01'", "known: P01"]),
        ("P01,,24,200,MBq,1,no,Lu-177,DOTATATE", ["region is empty"]),
    ],
)
def test_one_bad_row(tmp_path: Path, cells: str, fragments: list[str]) -> None:
    refused(write(tmp_path, *row(3, cells)), "row 3:", *fragments)


def test_bad_spread_weight_mass_kind(tmp_path: Path) -> None:
    study = STUDY + 'sd_kind = "sd"\nmass_unit = "g"\n'
    for column, cell, found in (
        ("sd", "0", "sd is 0; allowed: a number above zero"),
        ("sd", "-1", "sd is -1; allowed: a number above zero"),
        ("weight", "-1", "weight is -1; allowed: a number, zero or above"),
        ("mass", "0", "mass is 0; allowed: a number above zero"),
        ("kind", "tisue", "kind 'tisue' is not known; did you mean 'tissue'"),
    ):
        refused(write(tmp_path, f"{HEADER},{column}", f"{GOOD[1]},{cell}", study=study), f"row 2: {found}")


def test_all_problems_are_reported_together(tmp_path: Path) -> None:
    lines = [GOOD[0], *(line.replace("MBq", "MBqq") for line in GOOD[1:])]
    text = refused(write(tmp_path, *lines), "has 3 problems", "row 2:", "row 3:", "row 4:")
    assert text.count("did you mean 'MBq'") == 3


# rows of one curve


def test_duplicate_rows(tmp_path: Path) -> None:
    refused(
        write(tmp_path, *GOOD, GOOD[2]),
        "rows 3 and 5: region liver of subject P01 is given twice at 24 h",
        "allowed: one row per subject, region and time",
    )


FRAMES = "subject,region,t_start,t_end,value"
ONCE = STUDY + 'unit = "kBq/mL"\nn = 1\ndecay_corrected = "yes"\nnuclide = "F-18"\nagent = "FDG"\n'


def test_overlapping_frames(tmp_path: Path) -> None:
    refused(
        write(tmp_path, FRAMES, "P01,liver,0,1,3", "P01,liver,1,3,3", "P01,liver,2,5,3", study=ONCE),
        "rows 3 and 4: region liver of subject P01: frame 1 to 3 h overlaps the next, which starts at 2 h",
        "allowed: each frame ends before the next starts",
    )


def test_frames_that_touch_are_accepted(tmp_path: Path) -> None:
    third = 1 / 3
    lines = (f"P01,liver,{i * third},{(i + 1) * third},3" for i in range(5))
    assert len(load_study(write(tmp_path, FRAMES, *lines, study=ONCE))["P01"]["liver"]) == 5


def test_frame_that_ends_before_it_starts(tmp_path: Path) -> None:
    refused(
        write(tmp_path, FRAMES, "P01,liver,2,2,3", study=ONCE),
        "row 2: t_end 2 is not after t_start 2",
        "allowed: t_end > t_start",
    )


def test_time_zero_after_the_first_frame(tmp_path: Path) -> None:
    refused(
        write(
            tmp_path,
            FRAMES,
            "P01,liver,0,1,3",
            "P01,liver,1,2,3",
            study=ONCE,
            subject=SUBJECT + 'injection = "0.5 h"\n',
        ),
        "row 2: t_start is 0 h, which is 0.5 h before injection",
        "allowed: times from injection on",
    )


@pytest.mark.parametrize(
    ("cells", "what"),
    [
        ("P01,liver,24,200,kBq,1,no,Lu-177,DOTATATE", "unit is 'MBq', then 'kBq'"),
        ("P01,liver,24,200,MBq,1,yes,Lu-177,DOTATATE", "flag is 'no', then 'yes'"),
        ("P01,liver,24,200,MBq,1,no,Y-90,DOTATATE", "nuclide is 'Lu-177', then 'Y-90'"),
        ("P01,liver,24,200,MBq,1,no,Lu-177,PSMA-617", "agent is 'DOTATATE', then 'PSMA-617'"),
    ],
)
def test_rows_that_disagree(tmp_path: Path, cells: str, what: str) -> None:
    refused(write(tmp_path, *row(3, cells)), "rows 2 and 3:", what, "allowed: one")


def test_two_spellings_of_one_nuclide_agree(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, *row(3, "P01,liver,24,200,MBq,1,no,177Lu,DOTATATE")))
    assert study["P01"].nuclide == study["P01"]["liver"].nuclide == "Lu-177"


def test_table_and_study_that_disagree(tmp_path: Path) -> None:
    refused(
        write(tmp_path, *GOOD, study=STUDY + 'nuclide = "Y-90"\n'),
        "row 2: nuclide is 'Lu-177' but",
        "says 'Y-90'; say it once",
    )


# what physics forbids


@pytest.mark.parametrize("name", ["whole_fov", "remainder_of_fov", "FOV", "field_of_view", "scan-box", "bounding box"])
def test_a_box_named_as_an_organ(tmp_path: Path, name: str) -> None:
    lines = [line.replace("liver", name) for line in GOOD]
    refused(write(tmp_path, *lines), f"row 2: region {name!r} is named like a box", "allowed: kind = 'field_of_view'")
    stated = [HEADER + ",kind", *(line + ",tissue" for line in lines[1:])]
    refused(write(tmp_path, *stated), "named like a box")
    box = [HEADER + ",kind", *(line + ",field_of_view" for line in lines[1:])]
    assert load_study(write(tmp_path, *box))["P01"].organs == ()


def test_a_box_by_its_volume(tmp_path: Path) -> None:
    lines = [HEADER + ",volume", *(line + ",97500" for line in GOOD[1:])]
    refused(
        write(tmp_path, *lines, study=STUDY + 'volume_unit = "mL"\n', subject=SUBJECT + 'body_mass = "72 kg"\n'),
        "row 2: region 'liver' has a volume of 97500 mL, more than the whole body of 72000 g",
        "kind = 'field_of_view'",
    )


@pytest.mark.parametrize(
    ("name", "kind"), [("urine", "excreta"), ("Plasma", "plasma"), ("blood", "blood"), ("total_body", "whole_body")]
)
def test_a_fluid_is_not_taken_for_an_organ(tmp_path: Path, name: str, kind: str) -> None:
    lines = [line.replace("liver", name) for line in GOOD]
    refused(write(tmp_path, *lines), f"row 2: region {name!r} is named like {kind}", f"say kind = {kind!r}")


def test_more_activity_than_was_given(tmp_path: Path) -> None:
    """80 + 600 + 300 MBq of 1000 MBq at 96 h, when decay leaves 659 MBq: 148.7 %."""
    lines = (*GOOD, "P01,spleen,96,600,MBq,1,no,Lu-177,DOTATATE", "P01,liver_lesion,96,300,MBq,1,no,Lu-177,DOTATATE")
    share = 100 * 980 / 1000 * math.exp(nuclide("Lu-177").decay_constant * 96)
    text = refused(write(tmp_path, *lines), "rows 4 and 5 and 6:", "together hold", "allowed: at most 105 %")
    assert f"{share:.4g} % of the injected activity at 96 h" in text


def test_a_region_inside_another_is_not_counted_twice(tmp_path: Path) -> None:
    lines = [GOOD[0], "P01,liver,4,700,MBq,1,no,Lu-177,X", "P01,lesion,4,600,MBq,1,no,Lu-177,X"]
    refused(write(tmp_path, *lines), "regions liver, lesion together hold 132.3 %")
    load_study(write(tmp_path, *lines, more='[regions.liver]\n[regions.lesion]\npart_of = "liver"\n'))


def _tail(last: float, half_life: float, apart: float = 72.0) -> list[str]:
    """Two points `apart` hours apart that fall with the given effective half-life."""
    return [
        HEADER,
        f"P01,liver,{last - apart},200,MBq,1,no,Lu-177,DOTATATE",
        f"P01,liver,{last},{200 * 2 ** (-apart / half_life)},MBq,1,no,Lu-177,DOTATATE",
    ]


def test_effective_half_life_above_the_physical_one(tmp_path: Path) -> None:
    text = refused(
        write(tmp_path, *_tail(96, 210)),
        "rows 2 and 3: region liver: effective half-life between 24 and 96 h is 210 h",
        "allowed without decay correction: at or below it",
        "decay_corrected = 'yes'",
        "continued_uptake = 'why'",
    )
    assert f"physical half-life of Lu-177 is {nuclide('Lu-177').half_life:.4g} h" in text
    warnings = load_study(tmp_path, strict=False)["P01"].warnings
    assert len(warnings) == 1 and "210 h" in warnings[0]


def test_tail_that_does_not_fall_after_a_physical_half_life(tmp_path: Path) -> None:
    lines = (HEADER, "P01,liver,150,100,MBq,1,no,Lu-177,X", "P01,liver,200,120,MBq,1,no,Lu-177,X")
    refused(write(tmp_path, *lines), "effective half-life between 150 and 200 h is infinite (it does not fall)")


def test_uptake_phase_is_not_judged(tmp_path: Path) -> None:
    lines = (HEADER, "P01,liver,4,100,MBq,1,no,Lu-177,X", "P01,liver,24,120,MBq,1,no,Lu-177,X")
    assert load_study(write(tmp_path, *lines)).warnings == ()


def test_tail_at_the_physical_half_life_only_warns(tmp_path: Path) -> None:
    at = nuclide("Lu-177").half_life * 1.02
    (text,) = load_study(write(tmp_path, *_tail(96, at))).warnings
    assert "within noise or 5 %" in text
    assert load_study(write(tmp_path, *_tail(96, nuclide("Lu-177").half_life * 0.999))).warnings == ()


def test_tail_within_noise_only_warns(tmp_path: Path) -> None:
    lines = [HEADER + ",sd", *(line + ",20" for line in _tail(96, 210)[1:])]
    (text,) = load_study(write(tmp_path, *lines, study=STUDY + 'sd_kind = "sd"\n')).warnings
    assert "210 h" in text and "within noise" in text


def test_stated_continued_uptake_becomes_a_warning(tmp_path: Path) -> None:
    more = '[regions.liver]\ncontinued_uptake = "antibody still arrives on day 4"\n'
    (text,) = load_study(write(tmp_path, *_tail(96, 210), more=more)).warnings
    assert "stated as continued uptake: antibody still arrives on day 4" in text


def test_assumed_flag_becomes_a_warning(tmp_path: Path) -> None:
    lines = [line.replace(",no,", ",assumed yes,") for line in GOOD]
    study = STUDY + 'decay_corrected_reason = "as the whole group does"\n'
    one = load_study(write(tmp_path, *lines, study=study))["P01"]
    assert one["liver"].decay_corrected
    assert one.warnings == ("decay correction is assumed yes (the source does not say): as the whole group does",)


def test_spread_above_the_value_warns(tmp_path: Path) -> None:
    lines = [HEADER + ",sd", *(line + ",100" for line in GOOD[1:])]
    (text,) = load_study(write(tmp_path, *lines, study=STUDY + 'sd_kind = "sd"\n')).warnings
    assert "tac.csv row 4: region liver: sd 100 is above the value 80" in text
