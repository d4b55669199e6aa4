"""Which daughters are followed, what must be said of them, and what a labelled chain makes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pkmodel.chains import Daughters, Release, decay_scheme
from pkmodel.checks import check
from pkmodel.errors import ModelError, PkmodelError
from pkmodel.expressions import symbol
from pkmodel.labelling import label
from pkmodel.model import Model
from pkmodel.model_file import model_from_dict
from pkmodel.nuclides import nuclide
from pkmodel.parts import Event
from pkmodel.regimen import Regimen
from pkmodel.simulation import simulate
from support import report

TIMES = np.array([0.0, 0.3, 5.0, 60.0, 300.0])
TIGHT: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-16}


def body(unit: str = "nmol") -> Model:
    return model_from_dict(
        {
            "name": "body",
            "parameters": {"ke": "0.3 1/h", "kin": "0.1 1/h", "kout": "0.02 1/h", "V": "3 L"},
            "compartments": {"plasma": {"unit": unit, "region": "blood"}, "lesion": {"unit": unit, "region": "tumour"}},
            "administration": {"iv": "plasma"},
            "flows": ["plasma -> : ke*plasma", "plasma -> lesion: kin*plasma - kout*lesion"],
            "observables": {"concentration": "plasma/V", "tumour": "lesion"},
        }
    )


def saturable() -> Model:
    return model_from_dict(
        {
            "name": "sat",
            "parameters": {"ke": "0.3 1/h", "R": "4 nmol", "kon": "0.4 1/nmol/h", "koff": "0.2 1/h"},
            "compartments": {"plasma": "nmol", "bound": {"unit": "nmol", "receptor": "R"}},
            "administration": {"iv": "plasma"},
            "flows": ["plasma -> : ke*plasma", "plasma -> bound: kon*plasma*(R - bound) - koff*bound"],
            "observables": {"blood": "plasma", "tumour": "bound"},
        }
    )


def free(**changes: Any) -> Model:
    return model_from_dict(
        {
            "name": "free",
            "parameters": {"f_in": "2 1/h", "f_out": "0.3 1/h", "V": "3 L"},
            "compartments": {"plasma": "nmol", "kidney": "nmol"},
            "flows": ["plasma -> kidney: f_in*plasma", "kidney -> : f_out*kidney"],
            "observables": {"concentration": "plasma/V", "kidney": "kidney"},
            **changes,
        }
    )


BI = Release(fraction=0.36, model=free(), into={"*": "plasma"}, source="a paper")


def test_the_scheme_of_actinium() -> None:
    """Decays per decay of 225Ac, from the branches of ICRP Publication 107 multiplied by hand."""
    scheme = decay_scheme("Ac-225")
    assert scheme.followed == ("Ac-225", "Fr-221", "Bi-213", "Tl-209", "Pb-209")
    decays = {"Ac-225": 1.0}
    for name in scheme.followed:
        for d, share in scheme.feeds[name].items():
            decays[d] = decays.get(d, 0.0) + decays[name] * float(share)
    short = {e: decays[p] * float(w) for p, fed in scheme.short.items() for e, w in fed.items()}
    by_hand = {"Fr-221": 1.0, "Bi-213": 0.99988, "Tl-209": 0.020897492, "Pb-209": 0.99988}
    for name, expected in {**by_hand, "At-217": 1.0, "Po-213": 0.978982508}.items():
        report(f"decays of {name} per 225Ac", expected, (decays | short)[name], rtol=1e-12)
    report("lag of 213Bi [h]", 0.0323 / 3600 / np.log(2), scheme.lag["Bi-213"], rtol=1e-12)


@pytest.mark.parametrize(
    ("parent", "moves", "followed"),
    [
        ("Pb-212", "1 min", ("Pb-212", "Bi-212", "Tl-208")),
        ("Pb-212", "5 min", ("Pb-212", "Bi-212")),
        ("At-211", "1 min", ("At-211", "Bi-207")),
        ("Ac-225", "10 min", ("Ac-225", "Bi-213", "Pb-209")),
        ("Po-216", "1 min", ("Po-216", "Pb-212", "Bi-212", "Tl-208")),
        ("Lu-177", "1 min", ("Lu-177",)),
        ("Tc-99m", "1 min", ("Tc-99m",)),
    ],
)
def test_who_moves(parent: str, moves: str, followed: tuple[str, ...]) -> None:
    labelled = label(body(), parent, daughters="in place", moves=moves)
    lambdas = {n.removeprefix("lambda_") for n in labelled.parameters if n.startswith("lambda_")} - {"phys"}
    assert lambdas == {f.replace("-", "") for f in followed[1:]}
    assert labelled.nuclide == parent and check(labelled)


def test_chelated_daughters_go_where_the_ligand_goes() -> None:
    """Of a linear ligand, each activity is the ligand's share times Bateman's solution, here for two members."""
    run = simulate(label(body(), "Pb-212", daughters="with ligand"), Regimen("5 MBq once"), TIMES)
    plain = simulate(body(), Regimen("1 nmol once"), TIMES)
    pb, bi = nuclide("Pb-212").decay_constant, nuclide("Bi-212").decay_constant
    for i, t in enumerate(TIMES[1:], 1):
        whole = 5.0 * bi / (bi - pb) * (np.exp(-pb * t) - np.exp(-bi * t))
        for o in ("tumour", "concentration"):
            report(f"212Bi, {o} at {t:g} h", float(plain[o][i]) * whole, float(run[f"{o}_Bi212"][i]), rtol=1e-11)
    assert run["concentration_Bi212"].attrs["units"] == "MBq/L"


def test_molecules_are_kept_with_cold_ligand() -> None:
    """Hot, cold and daughters' ligand together are the unlabelled saturable model, whatever has left the chelate."""
    labelled = label(saturable(), "Pb-212", cold=True, daughters={"Bi-212": BI, "Tl-208": "in place"})
    run = simulate(labelled, Regimen("600 MBq once", amount="9 nmol"), TIMES, **TIGHT)
    plain = simulate(saturable(), Regimen("9 nmol once"), TIMES, **TIGHT)
    for c in ("plasma", "bound"):
        for i, t in enumerate(TIMES):
            total = sum(float(run[f"state_{c}_{kind}"][i]) for kind in ("hot", "cold", "Bi212"))
            report(f"{c} at {t:g} h", float(plain[f"state_{c}"][i]), total, rtol=1e-8, atol=1e-13)
    assert float(run["tumour_Bi212"][2]) > 0 and check(labelled)


def test_activities_of_a_linear_model_do_not_depend_on_cold_ligand() -> None:
    said: Daughters = {"Bi-212": BI, "Tl-208": "left out"}
    one = simulate(label(body(), "Pb-212", daughters=said), Regimen("5 MBq once"), TIMES)
    two = simulate(label(body(), "Pb-212", True, daughters=said), Regimen("5 MBq once", amount="9 nmol"), TIMES)
    names = [v for v in map(str, one.data_vars) if "_Bi212" in v and not v.startswith("state")]
    assert {"tumour_Bi212", "kidney_Bi212", "integral_kidney_Bi212"} <= {*names}
    for v in names:
        for i, t in enumerate(TIMES):
            report(f"{v} at {t:g} h", float(one[v][i]), float(two[v][i]), rtol=1e-11, atol=1e-18)


def test_a_released_fraction_is_a_parameter() -> None:
    """The activity of 212Bi in a place is a straight line in the fraction that is released."""

    def kidney_and_tumour(f: float) -> list[float]:
        run = simulate(labelled.replace(released_Bi212=f), Regimen("5 MBq once"), [20.0])
        return [float(run[o][0]) for o in ("kidney_Bi212", "tumour_Bi212", "concentration_Bi212")]

    labelled = label(body(), "Pb-212", daughters={"Bi-212": BI, "Tl-208": "left out"})
    fraction = labelled.parameters["released_Bi212"]
    assert (fraction.value, fraction.lower, fraction.upper, fraction.source) == (0.36, 0.0, 1.0, "a paper")
    run = simulate(labelled, Regimen("5 MBq once"), [20.0], sensitivities=["released_Bi212"])
    for k, (o, none, all_) in enumerate(
        zip(("kidney", "tumour", "concentration"), kidney_and_tumour(0.0), kidney_and_tumour(1.0), strict=True)
    ):
        slope = all_ - none
        report(f"{o}", none + 0.36 * slope, kidney_and_tumour(0.36)[k], rtol=1e-12)
        report(f"slope of {o}", slope, float(run[f"d_{o}_Bi212_d_released_Bi212"][0]), rtol=1e-10)


def test_fractions_by_place_and_atoms_that_stay() -> None:
    said = {"Bi-212": replace(BI, fraction={"tumour": 0.1, "*": 1}, into={"lesion": "in place", "*": "plasma"})}
    labelled = label(body(), "Pb-212", daughters={**said, "Tl-208": "in place"})
    assert "released_Bi212_tumour" in labelled.parameters and "released_Bi212" not in labelled.parameters
    bi = {c for c in labelled.compartments if "Bi212" in c}
    assert bi == {"plasma_Bi212", "lesion_Bi212", "lesion_Bi212_stays", "plasma_Bi212_free", "kidney_Bi212_free"}
    assert labelled.observables["tumour_Bi212"].nuclide == "Bi-212" and labelled.observables["tumour"].nuclide == ""
    assert labelled.parameters["V"].value == 3.0  # of one name, so one parameter
    assert check(labelled)


def test_daughters_can_be_given() -> None:
    labelled = label(body(), "Pb-212", daughters={"Bi-212": BI, "*": "in place"})
    for into, seen in (("iv_Bi212", "concentration"), ("kidney_Bi212_free", "kidney"), ("lesion_Bi212", "tumour")):
        run = simulate(labelled, Regimen("6 MBq once", into=into), [0.0])
        volume = 3.0 if seen == "concentration" else 1.0
        report(f"given into {into}", 6.0 / volume, float(run[f"{seen}_Bi212"][0]), rtol=1e-12)
    assert check(label(body(), "At-211", daughters="with ligand"))  # 207Bi: more atoms than 211At per MBq


def test_a_model_in_activities_gives_the_same() -> None:
    said: Daughters = {"Bi-212": BI, "Tl-208": "left out"}
    atoms = simulate(label(body(), "Pb-212", daughters=said), Regimen("5 MBq once"), TIMES)
    active = simulate(label(body("MBq"), "Pb-212", daughters=said), Regimen("5 MBq once"), TIMES)
    for v in ("tumour", "tumour_Bi212", "kidney_Bi212", "kidney_Po212"):
        for i, t in enumerate(TIMES):
            report(f"{v} at {t:g} h", float(atoms[v][i]), float(active[v][i]), rtol=1e-11, atol=1e-18)


def test_nothing_is_guessed() -> None:
    driven = model_from_dict(
        {
            "name": "driven",
            "parameters": {"K": "1 L/h"},
            "compartments": {"a": "nmol"},
            "inputs": {"Cp": "nmol/L"},
            "flows": [" -> a: K*Cp"],
            "observables": {"o": "a"},
        }
    )
    nonlinear = free(flows=["plasma -> kidney: f_in*plasma**2/kidney"])
    held = replace(
        body(),
        events=(Event(trigger=symbol("plasma") > 1, assignments={"lesion": symbol("plasma")}, name="wash"),),
    )
    concentration = body("nmol/L")
    rest: dict[str, Any] = {"*": "in place"}
    cases: list[tuple[Model, Any, str]] = [
        (body(), {"Bi-212": "in place"}, "what becomes of Tl-208 .* is not said"),
        (body(), {}, "what becomes of Bi-212 .*Release"),
        (body(), "away", "'away' is not known; allowed: a Release, 'in place', 'with ligand', 'left out'"),
        (body(), "left out", "'left out' needs the name of a daughter"),
        (body(), {"Bi-213": "in place", **rest}, "Bi-213: no daughter that moves .*known: Bi-212, Tl-208"),
        (body(), {"Po-212": "in place", **rest}, "Po-212: no daughter that moves"),
        (body(), {"Bi-212": "in place", "Tl-208": "with ligand"}, "Tl-208 is also born from Bi-212 that is free in"),
        (body(), {"Bi-212": Release(fraction=1.2), **rest}, "released fraction is 1.2; it must be from 0 to 1"),
        (body(), {"Bi-212": Release(fraction={"plasma": 0.1}), **rest}, "how much is released in 'lesion' is not said"),
        (body(), {"Bi-212": replace(BI, into={"blood": "plasma"}), **rest}, "free in 'lesion' is not said; add"),
        (body(), {"Bi-212": replace(BI, into={"lesions": "plasma", "*": "plasma"}), **rest}, "did you mean 'lesion'"),
        (body(), {"Bi-212": Release(fraction={"tumor": 0.1, "*": 1}), **rest}, "fraction: 'tumor' is no compartment"),
        (body(), {"Bi-212": replace(BI, into={"*": "kidneys"}), **rest}, "did you mean 'kidney'"),
        (body(), {"Bi-212": Release(fraction=0.5, into={"*": "plasma"}), **rest}, "'into' needs the model"),
        (body(), {"Bi-212": replace(BI, model=nonlinear), **rest}, "is not linear; a free daughter is a trace"),
        (body(), {"Bi-212": replace(BI, model=label(free(), "Lu-177")), **rest}, "is labelled already"),
        (body(), {"Bi-212": replace(BI, model=driven, into={"*": "a"}), **rest}, "is driven by Cp"),
        (
            body(),
            {"Bi-212": replace(BI, model=free().replace(V=9.0)), **rest},
            "V: 3.0 L in one and 9.0 L in the other",
        ),
        (body().rename({"ke": "lambda_Bi212"}), rest, "lambda_Bi212: the label needs this name"),
        (body().rename({"tumour": "concentration_Bi212"}), rest, "concentration_Bi212: the label needs this name"),
        (driven, rest, "driven by Cp, and what daughters that brings is not known"),
        (held, "with ligand", "event wash reads or sets lesion, plasma"),
        (
            concentration,
            {"Bi-212": replace(BI, model=free(observables={})), **rest},
            "is a concentration, and goes into",
        ),
    ]
    for model, daughters, says in cases:
        with pytest.raises(PkmodelError, match=says):
            label(model, "Pb-212", daughters=daughters)
    with pytest.raises(PkmodelError, match=r"activity of Bi-212 in tumour: .* have different dimensions"):
        shown = free(observables={"tumour": "kidney/V"})
        label(body(), "Pb-212", daughters={"Bi-212": replace(BI, model=shown), **rest})
    with pytest.raises(ModelError, match="'3 km' is no time"):
        label(body(), "Pb-212", daughters="in place", moves="3 km")
    with pytest.raises(ModelError, match="event wash"):
        label(held, "Pb-212", cold=True)
    assert label(held, "Pb-212").events == held.events


def test_a_fraction_that_changes_nothing_is_refused() -> None:
    """Bismuth is born from francium; where that has left the ligand already, no bismuth is born on it."""
    with pytest.raises(ModelError, match=r"released_Bi213 changes nothing.*say 'with ligand'"):
        label(body(), "Ac-225", daughters={"Bi-213": BI, "*": "in place"})
