"""Decay chains against Bateman's solution in 60 digits, and free daughters against an independent exponential."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mpmath as mp  # type: ignore[import-untyped, unused-ignore]
import pytest
import sympy as sp

from pkmodel.chains import Release
from pkmodel.expressions import symbol
from pkmodel.labelling import label
from pkmodel.model import Compartment, Model, Observable
from pkmodel.model_file import model_from_dict
from pkmodel.nuclides import nuclide
from pkmodel.regimen import Regimen
from pkmodel.simulation import simulate
from support import report

CHAINS = ["Ac-225", "Pb-212", "Ra-223", "Th-227", "At-211", "I-131", "Mo-99", "Bi-213", "Ra-224", "Th-228", "U-230"]
TIMES = [0.05, 2.0, 30.0, 400.0, 3000.0]
GIVEN = 10.0  # MBq


def trapped() -> Model:
    """Ligand that stays where it was put."""
    return model_from_dict(
        {
            "name": "trapped",
            "compartments": {"inside": "nmol"},
            "administration": {"it": "inside"},
            "observables": {"tumour": "inside"},
        }
    )


def paths(name: str) -> list[tuple[tuple[str, ...], mp.mpf]]:
    """Every path down the decay scheme with the product of its branches, straight from the table."""
    n = nuclide(name)
    whole = max(mp.mpf(1), sum((mp.mpf(str(b.fraction)) for b in n.branches), mp.mpf(0)))
    found: list[tuple[tuple[str, ...], Any]] = [((name,), mp.mpf(1))]
    for b in n.branches:
        if b.daughter_state == "listed":
            found += [((name, *p), w * mp.mpf(str(b.fraction)) / whole) for p, w in paths(b.daughter)]
    return found


def bateman(name: str, t: float) -> dict[str, tuple[mp.mpf, mp.mpf]]:
    """Activity of every nuclide at t and its integral so far, from GIVEN of the first (Bateman 1910)."""
    with mp.workdps(60):
        at = mp.mpf(t)
        out: dict[str, tuple[mp.mpf, mp.mpf]] = {}
        for path, weight in paths(name):
            rate = [mp.log(2) / mp.mpf(nuclide(p).half_life) for p in path]
            value = integral = mp.mpf(0)
            for i, r in enumerate(rate):
                product = mp.mpf(1)
                for j, other in enumerate(rate):
                    if j != i:
                        product *= other / (other - r)
                # atoms of the last, from activity/rate[0] atoms of the first, times its decay constant
                value += product * r * mp.exp(-r * at)
                integral += product * (-mp.expm1(-r * at))
            scale = weight * GIVEN / rate[0]
            a, b = out.get(path[-1], (mp.mpf(0), mp.mpf(0)))
            out[path[-1]] = (a + scale * value, b + scale * integral)
        return out


@pytest.mark.parametrize("parent", CHAINS)
def test_every_nuclide_of_a_chain_in_place(parent: str) -> None:
    """All of them followed, from 0.3 us to 33 y of half-life, in one exact propagation."""
    run = simulate(label(trapped(), parent, daughters="in place", moves=0.0), Regimen(f"{GIVEN} MBq once"), TIMES)
    assert run.attrs["solver"] == "exact propagation"
    for i, t in enumerate(TIMES):
        expected = bateman(parent, t)
        assert len(expected) > 1
        for name, (activity, integral) in expected.items():
            shown = "tumour" if name == parent else f"tumour_{name.replace('-', '')}"
            report(f"{name} at {t:g} h", float(activity), float(run[shown][i]), rtol=1e-10, atol=1e-290)
            report(f"decays of {name}", float(integral), float(run[f"integral_{shown}"][i]), rtol=1e-10, atol=1e-290)


@pytest.mark.parametrize("parent", ["Ac-225", "Pb-212", "Ra-223", "Th-227", "At-211"])
def test_short_lived_daughters_in_equilibrium_are_off_by_what_is_said(parent: str) -> None:
    """Early by the mean lives passed over; over all time the number of decays is exact."""
    labelled = label(trapped(), parent, daughters="in place")
    end = 40.0 * nuclide(parent).half_life
    run = simulate(labelled, Regimen(f"{GIVEN} MBq once"), [30.0, end])
    for o in labelled.observables.values():
        if "equilibrium" not in o.meaning:
            continue
        before, now, after = (bateman(parent, t)[o.nuclide][0] for t in (29.99, 30.0, 30.01))
        change = abs(float((after - before) / now)) / 0.02  # of ln A [1/h]
        lag = float(o.meaning.split(", ")[1].split()[0]) / 3600.0
        off = abs(float(run[o.name][0] / now) - 1.0)
        print(f"{parent}: {o.nuclide} in equilibrium: off by {off:.2e} at 30 h, lag times rate {change * lag:.2e}")
        assert off <= 1.05 * change * lag + 1e-13
        decays = bateman(parent, end)[o.nuclide][1]
        report(f"all decays of {o.nuclide}", float(decays), float(run[f"integral_{o.name}"][1]), rtol=1e-10)


def whole_body() -> Model:
    return model_from_dict(
        {
            "name": "body",
            "parameters": {"ke": "0.3 1/h", "kin": "0.1 1/h", "kout": "0.02 1/h"},
            "compartments": {"plasma": "nmol", "tumour": "nmol"},
            "administration": {"iv": "plasma"},
            "flows": ["plasma -> : ke*plasma", "plasma -> tumour: kin*plasma - kout*tumour"],
            "observables": {"blood": "plasma", "tumour": "tumour"},
        }
    )


def free_bismuth() -> Model:
    return model_from_dict(
        {
            "name": "bismuth",
            "parameters": {"b_kidney": "1.4 1/h", "b_back": "0.05 1/h", "b_urine": "0.4 1/h"},
            "compartments": {"plasma": "nmol", "kidney": "nmol"},
            "flows": ["plasma -> kidney: b_kidney*plasma - b_back*kidney", "plasma -> : b_urine*plasma"],
            "observables": {"blood": "plasma", "kidney": "kidney"},
        }
    )


def free_francium() -> Model:
    return model_from_dict(
        {
            "name": "francium",
            "parameters": {"f_muscle": "3 1/h"},
            "compartments": {"plasma": "nmol", "muscle": "nmol"},
            "flows": ["plasma -> muscle: f_muscle*plasma"],
            "observables": {"blood": "plasma", "muscle": "muscle"},
        }
    )


def released(model: Model, **more: Any) -> Model:
    return label(
        model,
        "Ac-225",
        daughters={
            "Fr-221": Release(fraction={"tumour": 0.4, "*": 1.0}, model=free_francium(), into={"*": "plasma"}),
            "Bi-213": Release(
                fraction=0.7, model=free_bismuth(), into={"tumour": "in place", "muscle": "in place", "*": "plasma"}
            ),
            "Tl-209": "in place",
            "Pb-209": "in place",
        },
        **more,
    )


def test_released_daughters_move_by_their_own_kinetics() -> None:
    """The same system written by hand as one matrix and exponentiated by Taylor series in 50 digits."""
    run = simulate(released(whole_body()), Regimen(f"{GIVEN} MBq once"), [0.5, 6.0, 48.0, 300.0])
    names = "P T FT fP fM BT tT mM bP bK uT".split()  # of Ac, Fr on ligand, Fr free, Bi on ligand, stays, free
    n = {s: i for i, s in enumerate(names)}
    n["BP"] = len(n)  # Bi on ligand that came back to plasma
    n["FP"] = len(n)  # Fr on ligand that came back to plasma
    with mp.workdps(50):
        ac, fr, bi = (mp.log(2) / mp.mpf(nuclide(x).half_life) for x in ("Ac-225", "Fr-221", "Bi-213"))
        w = mp.mpf("0.99988")
        A = mp.zeros(len(n))

        def flow(a: str, b: str, k: Any) -> None:
            A[n[a], n[a]] -= k
            if b:
                A[n[b], n[a]] += k

        for x in ("", "F", "B"):  # what is on the ligand goes with it
            flow(x + "P", "", mp.mpf("0.3"))
            flow(x + "P", x + "T", mp.mpf("0.1"))
            flow(x + "T", x + "P", mp.mpf("0.02"))
        flow("P", "fP", ac)
        flow("T", "FT", ac * mp.mpf("0.6"))
        flow("T", "fP", ac * mp.mpf("0.4"))
        flow("fP", "fM", mp.mpf(3))
        flow("FP", "BP", fr * w * mp.mpf("0.3"))
        flow("FP", "bP", fr * w * mp.mpf("0.7"))
        flow("FP", "", fr * (1 - w))
        flow("FT", "BT", fr * w * mp.mpf("0.3"))
        flow("FT", "tT", fr * w * mp.mpf("0.7"))
        flow("FT", "", fr * (1 - w))
        flow("fP", "bP", fr * w)
        flow("fP", "", fr * (1 - w))
        flow("fM", "mM", fr * w)
        flow("fM", "", fr * (1 - w))
        flow("bP", "bK", mp.mpf("1.4"))
        flow("bK", "bP", mp.mpf("0.05"))
        flow("bP", "", mp.mpf("0.4"))
        for x in ("BP", "BT", "tT", "mM", "bP", "bK"):
            flow(x, "", bi)
        start = mp.zeros(len(n), 1)
        start[n["P"]] = GIVEN / ac
        for i, t in enumerate(run.time.values):
            x = mp.expm(A * mp.mpf(float(t)), method="taylor") * start
            expected = {
                "blood": ac * x[n["P"]],
                "tumour": ac * x[n["T"]],
                "blood_Fr221": fr * (x[n["FP"]] + x[n["fP"]]),
                "tumour_Fr221": fr * x[n["FT"]],
                "muscle_Fr221": fr * x[n["fM"]],
                "muscle_At217": fr * x[n["fM"]],
                "blood_Bi213": bi * (x[n["BP"]] + x[n["bP"]]),
                "tumour_Bi213": bi * (x[n["BT"]] + x[n["tT"]]),
                "kidney_Bi213": bi * x[n["bK"]],
                "muscle_Bi213": bi * x[n["mM"]],
                "kidney_Po213": bi * x[n["bK"]] * mp.mpf("0.9791"),
            }
            for name, value in expected.items():
                report(f"{name} at {t:g} h", float(value), float(run[name][i]), rtol=1e-11)


def closed(model: Model) -> Model:
    """Everything that leaves is collected: what is excreted, by the state it came from, and what has become stable."""
    compartments = dict(model.compartments) | {"stable": Compartment(name="stable", unit="nmol")}
    flows = []
    for f in model.flows:
        target = f.target or "stable"
        if not f.target and not f.decay:
            target = f"out_{f.source}"
            compartments[target] = Compartment(name=target, unit="nmol")
        flows.append(replace(f, target=target))
    total = Observable(name="atoms", unit="nmol", expression=sp.Add(*(symbol(c) for c in compartments)))
    return replace(model, compartments=compartments, flows=tuple(flows), observables={"atoms": total})


@pytest.mark.parametrize(
    ("parent", "how"),
    [("Ac-225", "in place"), ("Ac-225", "released"), ("Th-227", "with ligand"), ("Th-227", "in place")],
)
def test_atoms_are_conserved(parent: str, how: str) -> None:
    labelled = released(whole_body()) if how == "released" else label(whole_body(), parent, daughters=how)
    run = simulate(closed(labelled), Regimen(f"{GIVEN} MBq every 1 wk x 3"), [0.0, 10.0, 200.0, 1000.0, 20000.0])
    each = GIVEN / nuclide(parent).mbq_per_nmol
    for i, doses in enumerate([1, 1, 2, 3, 3]):
        report(f"atoms at {float(run.time[i]):g} h", doses * each, float(run["atoms"][i]), rtol=1e-12)
    assert float(run["state_stable"][-1]) > 1e-3 * each
