"""Agents beside published numbers: the page in the repository is what the models say, and its parts compute rightly."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from format_models import SLOW

import pkmodel as pk
from pkmodel.errors import LibraryError
from pkmodel.library import list_models
from pkmodel.plot_validation import validation_figure
from pkmodel.validation import Fact, Followed, Row, Validation, bound, dose, evaluate, facts, half_life, validate
from pkmodel.validation_page import PAGE, differences, page
from support import ROOT, report

AGENTS = list(dict.fromkeys(f.agent for f in facts()))
QUICK = ("lu177_dotatate", "lu177_psma617", "i131_mibg")


def test_facts_are_of_agents_that_exist_and_say_where_they_are_from() -> None:
    known = list_models()
    for fact in facts():
        assert fact.agent in known and (not fact.of or fact.of in known), fact
        assert fact.source and fact.value > 0 and fact.status in ("published", "unverified"), fact
        low, high = fact.band
        assert math.isnan(low) or low <= fact.value <= high, fact


def _section(text: str, agent: str) -> str:
    return text.split(f"\n## {agent}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("agent", [a for a in AGENTS if a in QUICK])
def test_the_page_is_what_the_models_say(agent: str) -> None:
    _check_section(agent)


@pytest.mark.slow
@pytest.mark.parametrize("agent", [a for a in AGENTS if a not in QUICK])
def test_the_page_is_what_all_models_say(agent: str) -> None:
    _check_section(agent)


def _check_section(agent: str) -> None:
    """The section of one agent, computed anew; `make validation` writes it."""
    found = validate([agent])
    assert not found.failed, found.failed
    for r in found.rows:
        print(f"{r.fact.region} {r.fact.what}: published {r.fact.value:g} {r.fact.unit}, got {r.got:.4g}, met: {r.met}")
    old = _section((ROOT / PAGE).read_text(encoding="utf-8"), agent)
    wrong = differences(old, _section(page(found), agent))
    assert not wrong, "run `make validation`:\n" + "\n".join(wrong)


def test_every_fact_is_on_the_page() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    for agent in AGENTS:
        rows = [x for x in _section(text, agent).splitlines() if x.startswith("|")][2:]
        assert len(rows) == sum(f.agent == agent for f in facts()), agent


def _course(**share: list[float]) -> Followed:
    """A course of 131I without a model, for sums by hand."""
    model = pk.label(pk.load_model("psma617_siebinga2023"), "I-131")
    times = np.array([0.0, 24.0, 48.0, 96.0])
    lam = math.log(2) / (8.0207 * 24)
    given = {k: np.array(v) * np.exp(-lam * times) for k, v in share.items()}
    return Followed(model, times, given, np.full(4, np.nan), {k: 10.0 for k in share}, {})


def test_half_life_content_and_ratio_by_hand() -> None:
    course = _course(liver=[1.0, 0.5, 0.25, 0.0625])
    fact = Fact(
        agent="a", region="liver", quantity="biological half-life", value=20, sd=3, unit="h", from_h=0, until_h=96
    )
    report("biological half-life [h]", 24.0, half_life(course, "liver", fact), rtol=1e-3)
    row = evaluate(Fact(agent="a", region="liver", quantity="content", value=25, unit="%IA", from_h=48), {"a": course})
    report("content [%IA]", 25.0, row.got, rtol=1e-3)
    effective = Fact(
        agent="a", region="liver", quantity="effective half-life", value=21, unit="h", from_h=0, until_h=96
    )
    report(
        "effective half-life [h]", 1 / (1 / 24 + 1 / (8.0207 * 24)), half_life(course, "liver", effective), rtol=1e-3
    )
    none = evaluate(Fact(agent="a", region="tail", quantity="dose", value=1, unit="mGy/MBq"), {"a": course})
    assert math.isnan(none.got) and "no region tail" in none.reason and not none.met


def test_what_counts_as_met() -> None:
    fact = Fact(agent="a", region="b", quantity="dose", value=1.0, sd=0.1, low=0.7, high=1.1, unit="mGy/MBq")
    assert fact.band == (0.7, 1.2)
    assert Row(fact=fact, got=0.75).met and not Row(fact=fact, got=1.25).met
    bare = Fact(agent="a", region="b", quantity="dose", value=1.0, unit="mGy/MBq")
    assert Row(fact=bare, got=1.9).met and Row(fact=bare, got=1.9).inside is None and not Row(fact=bare, got=0.4).met
    assert "at 4 h" in Fact(agent="a", region="b", quantity="content", value=1, unit="%IA", from_h=4).what


def test_dose_of_a_region_by_hand() -> None:
    """177Lu in 300 g: 0.1479 MeV of charged particles a decay (ICRP 107), and little from photons."""
    model = pk.label(SLOW, "Lu-177")
    times = np.array([0.0, 1.0])
    course = Followed(model, times, {"kidneys": times, "liver": times}, times, {"kidneys": 10.0, "liver": 20.0}, {})
    report("kidneys [mGy/MBq]", 10.0 * 1000 * 0.57678 * 0.1479 / 300, dose(course, "kidneys"), rtol=0.03)
    most = bound(course, "kidneys")
    assert 0 < most < 10 * dose(course, "kidneys")
    short = Fact(agent="a", region="kidneys", quantity="dose", value=100.0, unit="mGy/MBq")
    assert "cannot close it" in evaluate(short, {"a": course}).reason
    assert math.isnan(dose(course, "spleen")), "no such region"


def test_figure_and_page_of_a_few_rows() -> None:
    fact = Fact(agent="one", region="kidneys", quantity="dose", value=1.0, sd=0.2, unit="mGy/MBq", source="a paper")
    gone = Fact(agent="two", region="spleen", quantity="content", value=1.0, unit="%IA", from_h=4, source="a book")
    rows = (Row(fact=fact, got=1.1), Row(fact=gone, got=math.nan, reason="the model has no region spleen"))
    found = Validation(rows, {"three": "it does not load"})
    text = page(found)
    assert "2 published numbers of 2 agents: 1 met" in text and "three: it does not load" in text
    assert differences(text, text.replace("1.10", "1.11")) == [] and differences(text, text.replace("1.10", "1.30"))
    assert len(validation_figure(found).axes) == 2
    assert list(found.table()["met"]) == [True, False]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match=r"no published facts.*zr89_trastuzumab"):
        validate(["zr89_trastuzumap"])
    path = tmp_path / "facts.csv"
    path.write_text("agent,region,quantity,value,unit\na,b,mass,1,g\n")
    with pytest.raises(LibraryError, match=r"row 1.*quantity 'mass'"):
        facts(path)
    path.write_text("agent,region,quantity,value,unit\na,b,dose,one,mGy/MBq\n")
    with pytest.raises(LibraryError, match=r"row 1"):
        facts(path)
