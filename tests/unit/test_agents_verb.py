"""`load_agent` and `regimen_of`: what the tracer table of a file says, and what it may not say."""

from __future__ import annotations

from typing import Any

import pytest

import pkmodel as pk
from pkmodel.agents import load_agent, read_daughters, regimen_of
from pkmodel.chains import Release
from pkmodel.errors import LibraryError, ModelError, NuclideError
from support import report


def _ligand(**tracer: Any) -> pk.Model:
    """Ligand that binds to a tumour for good."""
    return pk.model_from_dict(
        {
            "name": "ligand",
            "parameters": {"k": "0.05 1/h"},
            "compartments": {
                "plasma": {"unit": "nmol", "region": "blood"},
                "cells": {"unit": "nmol", "region": "tumour"},
            },
            "flows": ["plasma -> cells: k*plasma"],
            "administration": {"injection": "plasma"},
            "observables": {"tumour": "cells", "whole_body": "plasma + cells"},
            "tracer": tracer,
        }
    )


def test_the_tracer_labels_and_gives() -> None:
    model = _ligand(
        nuclide="177Lu", activity="7.4 GBq", amount="100 nmol", schedule="every 6 wk x 6", duration="30 min"
    )
    agent = load_agent(model)
    regimen = regimen_of(agent)
    first = regimen.administrations[0]
    print(f"expected 6 doses of 7400 MBq / 100 nmol over 0.5 h, got {regimen}")
    assert (agent.nuclide, regimen.nuclide) == ("Lu-177", "Lu-177")
    assert (len(regimen.administrations), first.activity, first.amount, first.duration) == (6, 7400.0, 100.0, 0.5)
    assert {"plasma_hot", "plasma_cold"} <= set(agent.compartments), "an amount is followed unless cold = false"
    assert "plasma" in load_agent(model, cold=False).compartments


def test_without_an_amount_there_is_nothing_cold() -> None:
    agent = load_agent(_ligand(nuclide="Lu-177", activity="1 GBq"))
    assert "plasma" in agent.compartments
    assert regimen_of(agent).administrations[0].amount is None


def test_another_nuclide_is_the_same_file() -> None:
    model = _ligand(nuclide="Ac-225", activity="8 MBq", daughters="free")
    assert load_agent(model, "Lu-177").nuclide == "Lu-177"
    back = load_agent(_ligand(nuclide="Lu-177", activity="8 MBq"), "Ac-225")
    assert "whole_body_Bi213" in back.observables, "the daughters of the table come with the nuclide"
    assert regimen_of(load_agent(model, "Lu-177")).nuclide == "Lu-177"


def test_free_bismuth_goes_to_the_kidneys_and_no_atom_is_lost() -> None:
    """Of 217At 0.012 % go by 217Rn to 213Po (ICRP 107); every other decay of 225Ac brings one of 213Bi somewhere."""
    agent = load_agent(_ligand(nuclide="Ac-225", activity="8 MBq", daughters="free"))
    run = pk.simulate(agent, regimen_of(agent), [24.0 * 400])
    parent = float(run["integral_whole_body"][-1])
    daughter = sum(float(run[f"integral_{place}_Bi213"][-1]) for place in ("whole_body", "urine", "faeces"))
    report("decays of 213Bi over those of 225Ac", 0.99988, daughter / parent, rtol=1e-6)
    kidneys = float(run["integral_kidneys_Bi213"][-1]) / parent
    print(f"213Bi in the kidneys: {kidneys:.2%} of all decays, though the ligand has no kidneys")
    assert 0.005 < kidneys < 0.1


def test_radium_as_shipped_keeps_count_of_lead() -> None:
    agent = load_agent("ra223_chloride")
    assert regimen_of(agent).activity == 21.0
    run = pk.simulate(agent, "1 MBq once", [24.0 * 300])
    places = ("whole_body", "urine", "faeces")
    parent, lead, thallium = (
        sum(float(run[f"integral_{place}{suffix}"][-1]) for place in places) for suffix in ("", "_Pb211", "_Tl207")
    )
    report("decays of 211Pb over those of 223Ra (a little lead is sweated)", 1.0, lead / parent, rtol=2e-5)
    report("decays of 207Tl over those of 211Pb", 0.99724, thallium / lead, rtol=1e-4)


def test_the_words_of_a_file_become_releases() -> None:
    said = {"Bi-213": {"fraction": 0.9, "model": "ion_bismuth", "into": "blood_Bi"}, "*": "in place"}
    read = read_daughters(said, "Ac-225")
    assert isinstance(read, dict)
    bismuth = read["Bi-213"]
    assert isinstance(bismuth, Release)
    assert (bismuth.fraction, dict(bismuth.into), read["*"]) == (0.9, {"*": "blood_Bi"}, "in place")
    assert read_daughters(None, "Ac-225") is None
    assert read_daughters("in place", "Ac-225") == "in place"


@pytest.mark.parametrize("parent", ["Ac-225", "Bi-213", "Pb-212", "Ra-224", "Ra-223", "Th-227", "At-211"])
def test_every_daughter_that_moves_is_spoken_of(parent: str) -> None:
    agent = load_agent(_ligand(nuclide=parent, activity="8 MBq", daughters="free"))
    assert agent.nuclide == parent


def test_a_share_nobody_has_read_says_so() -> None:
    agent = load_agent(_ligand(nuclide="Pb-212", activity="100 MBq", daughters="free"))
    released = agent.parameters["released_Bi212"]
    print(f"{released.value} {released.status}: {released.source}")
    assert (released.value, released.status) == (0.36, "unverified")


@pytest.mark.parametrize(
    ("tracer", "words"),
    [
        ({}, ["ligand", "no tracer", "label(model, nuclide)"]),
        ({"nuclid": "Lu-177"}, ["'nuclid' is not known", "did you mean 'nuclide'", "allowed"]),
        ({"activity": "1 GBq"}, ["names no nuclide"]),
        ({"nuclide": "Lu-177", "daughters": "free"}, ["free daughters of Lu-177", "Ac-225"]),
        ({"nuclide": "Ac-225", "daughters": 3}, ["a word or a table", "3"]),
        ({"nuclide": "Ac-225", "daughters": {"Bi-213": 1.0}}, ["Bi-213", "1.0", "in place", "fraction"]),
        ({"nuclide": "Ac-225", "daughters": {"Bi-213": {"fraction": 1, "modle": "x"}}}, ["'modle'", "model"]),
        ({"nuclide": "Ac-225", "daughters": "free", "moves": "3 GBq"}, ["no time", "1 min"]),
    ],
)
def test_what_a_tracer_may_not_say(tracer: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ModelError) as error:
        load_agent(_ligand(**tracer))
    print(error.value)
    assert all(w in str(error.value) for w in words)


def test_names_that_do_not_exist() -> None:
    with pytest.raises(NuclideError):
        load_agent(_ligand(nuclide="Lu-1777", activity="1 GBq"))
    with pytest.raises(LibraryError, match="ion_bismut"):
        load_agent(_ligand(nuclide="Ac-225", daughters={"Bi-213": {"fraction": 1, "model": "ion_bismut"}}))
    with pytest.raises(ModelError, match="neither activity nor amount"):
        regimen_of(_ligand(nuclide="Lu-177"))


def test_without_a_word_a_dose_goes_where_the_tracer_says() -> None:
    model = pk.load_model("zr89_trastuzumab")  # its ion has a route too, named first
    run = pk.simulate(model, "333 nmol once", [0.0, 1.0])
    assert float(run["blood"][0]) == pytest.approx(333.0)
