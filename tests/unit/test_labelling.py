"""Decay as a transformation: what the label adds, and what must come out the same as without it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sympy as sp

from pkmodel.assembly import load_model
from pkmodel.checks import check
from pkmodel.errors import ModelError, NuclideError, PkmodelError
from pkmodel.expressions import parse, symbol
from pkmodel.labelling import _as_written, carriers, label
from pkmodel.model import Compartment, Flow, Model, Observable
from pkmodel.model_file import model_from_dict
from pkmodel.nuclides import nuclide
from pkmodel.regimen import Regimen
from pkmodel.simulation import simulate
from pkmodel.units import quantity
from support import report

LU = nuclide("Lu-177")
TIMES = np.array([0.0, 0.5, 3.0, 24.0, 100.0, 400.0])
TIGHT: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-16}


def saturable(**extra: Any) -> Model:
    """Plasma, a tumour with few receptors, and their occupancy."""
    return model_from_dict(
        {
            "name": "tumour",
            "parameters": {
                "CL": "0.3 L/h",
                "V": "3 L",
                "PS": "0.2 L/h",
                "Vt": "0.05 L",
                "R": "4 nmol",
                "kon": "0.36 L/nmol/h",
                "koff": "0.36 1/h",
                "kint": "0.05 1/h",
            },
            "compartments": {
                "plasma": "nmol",
                "free": "nmol",
                "bound": {"unit": "nmol", "receptor": "R"},
                "inside": "nmol",
            },
            "administration": {"iv": "plasma"},
            "flows": [
                "plasma -> : CL*plasma/V",
                "plasma -> free: PS*(plasma/V - free/Vt)",
                "free -> bound: kon/Vt*free*(R - bound) - koff*bound",
                "bound -> inside: kint*bound",
            ],
            "observables": {
                "plasma_concentration": "plasma/V",
                "tumour": "free + bound + inside",
                "occupied": "bound/R",
                "on_receptor": "bound",
            },
            **extra,
        }
    )


def test_linear_model_labelled_is_unlabelled_times_decay() -> None:
    model = load_model("two_compartment")
    hot = simulate(label(model, "Lu-177"), Regimen("7.4 GBq once"), TIMES)
    amount = 7400.0 / LU.mbq_per_nmol
    plain = simulate(model, Regimen(f"{amount!r} nmol once"), TIMES)
    for i, t in enumerate(TIMES):
        expected = float(plain["plasma"][i]) * np.exp(-LU.decay_constant * t) * LU.mbq_per_nmol
        report(f"activity concentration at {t:g} h", expected, float(hot["plasma"][i]), rtol=1e-12)
    assert hot["plasma"].attrs["units"] == "MBq/L"


def test_hot_and_cold_of_a_linear_model_are_exact_too() -> None:
    model = load_model("whole_body_linear")
    both = simulate(label(model, "Lu-177", cold=True), Regimen("7.4 GBq once", amount="20 nmol"), TIMES)
    plain = simulate(model, Regimen("20 nmol once"), TIMES)
    assert both.attrs["solver"] == "exact propagation"
    for i, t in enumerate(TIMES):
        for c in model.compartments:
            total = float(both[f"state_{c}_hot"][i] + both[f"state_{c}_cold"][i])
            report(f"{c} at {t:g} h", float(plain[f"state_{c}"][i]), total, rtol=1e-12)


@pytest.mark.parametrize("amount", ["12 nmol", "60 nmol"])
def test_hot_and_cold_together_follow_the_unlabelled_saturable_model(amount: str) -> None:
    model = saturable()
    both = simulate(label(model, "Lu-177", cold=True), Regimen("7.4 GBq once", amount=amount), TIMES, **TIGHT)
    plain = simulate(model, Regimen(f"{amount} once"), TIMES, **TIGHT)
    for c in model.compartments:
        for i, t in enumerate(TIMES):
            total = float(both[f"state_{c}_hot"][i] + both[f"state_{c}_cold"][i])
            report(f"{c} at {t:g} h", float(plain[f"state_{c}"][i]), total, rtol=1e-8, atol=1e-13)


def test_hot_share_is_the_share_of_the_dose_that_has_not_decayed() -> None:
    """Hot and cold behave alike, so everywhere the hot share is the share given times exp(-lambda t)."""
    both = simulate(label(saturable(), "Lu-177", cold=True), Regimen("7.4 GBq once", amount="40 nmol"), TIMES, **TIGHT)
    given = 7400.0 / LU.mbq_per_nmol / 40.0
    for i, t in enumerate(TIMES[1:-1], 1):  # at 400 h nothing is left
        hot, cold = float(both["state_bound_hot"][i]), float(both["state_bound_cold"][i])
        report(f"hot share at {t:g} h", given * np.exp(-LU.decay_constant * t), hot / (hot + cold), rtol=1e-7)


def test_cold_ligand_competes() -> None:
    labelled = label(saturable(), "Lu-177", cold=True)
    bound = [
        float(simulate(labelled, Regimen("7.4 GBq once", amount=a), [3.0])["on_receptor"][0])
        for a in ("12 nmol", "30 nmol", "100 nmol", "1000 nmol")
    ]
    print("activity on the receptors [MBq] with 12, 30, 100, 1000 nmol:", bound)
    assert bound[0] > bound[1] > bound[2] > bound[3] > 0
    # 1000 nmol fill all 4 nmol of receptor, and the hot share of the ligand is the hot share of what is bound
    full = 4.0 * 7400.0 / 1000.0 * np.exp(-3 * LU.decay_constant)
    report("activity on full receptors", full, bound[3], rtol=0.01)


def with_sinks(model: Model, both: bool) -> Model:
    """Everything that leaves is collected, in excreta that decay too and in the count of decays."""
    labelled_flows = []
    compartments = dict(model.compartments)
    kinds = ("hot", "cold") if both else ("",)
    for kind in kinds:
        name = f"excreted_{kind}".rstrip("_")
        compartments[name] = Compartment(name=name, unit="nmol")
    compartments["decayed"] = Compartment(name="decayed", unit="nmol")
    for f in model.flows:
        target = f.target
        if not target:
            target = "decayed" if f.decay else f"excreted_{f.source.rpartition('_')[2]}" if both else "excreted"
        labelled_flows.append(replace(f, target=target))
    return replace(model, compartments=compartments, flows=tuple(labelled_flows), observables={
        "all": Observable(name="all", unit="nmol", expression=sp.Add(*(symbol(c) for c in compartments)))
    })  # fmt: skip


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("base", ["linear", "saturable"])
def test_given_is_present_or_excreted_or_decayed(base: str, cold: bool) -> None:
    model = load_model("two_compartment") if base == "linear" else saturable()
    whole = with_sinks(label(model, "Lu-177", cold=cold), cold)
    regimen = Regimen("7.4 GBq every 1 wk x 3", amount="20 nmol")
    run = simulate(whole, regimen, [0.0, 100.0, 400.0, 2000.0], **TIGHT)
    each = 20.0 if cold else 7400.0 / LU.mbq_per_nmol
    for i, doses in enumerate([1, 1, 3, 3]):
        report(
            f"all at {float(run.time[i]):g} h",
            doses * each,
            float(run["all"][i]),
            rtol=1e-12 if base == "linear" else 1e-8,
        )
    if not cold:
        assert float(run["state_decayed"][-1]) > 0.01


def test_decay_flows_are_marked_and_count_for_every_ligand() -> None:
    for cold in (False, True):
        labelled = label(saturable(), "177Lu", cold=cold)
        decays = [f for f in labelled.flows if f.decay]
        suffix = "_hot" if cold else ""
        assert [f.source for f in decays] == [c + suffix for c in ("plasma", "free", "bound", "inside")]
        assert {f.target for f in decays} == (
            {c + "_cold" for c in ("plasma", "free", "bound", "inside")} if cold else {""}
        )
        assert labelled.nuclide == "Lu-177"
        assert labelled.parameters["lambda_phys"].fixed and labelled.parameters["mbq_per_nmol"].fixed
        assert check(labelled)


def test_observables_are_activities_where_they_are_amounts() -> None:
    for cold in (False, True):
        seen = label(saturable(), "Lu-177", cold=cold).observables
        assert {n: o.unit for n, o in seen.items()} == {
            "plasma_concentration": "MBq/L",
            "tumour": "MBq",
            "occupied": "1",
            "on_receptor": "MBq",
        }
    run = simulate(label(saturable(), "Lu-177", cold=True), Regimen("7.4 GBq once", amount="40 nmol"), [5.0])
    total = float(run["state_bound_hot"][0] + run["state_bound_cold"][0])
    report("occupancy counts hot and cold", total / 4.0, float(run["occupied"][0]), rtol=1e-12)
    hot = float(run["state_bound_hot"][0]) * LU.mbq_per_nmol
    report("activity counts the hot", hot, float(run["on_receptor"][0]), rtol=1e-12)


def test_sites_are_neither_labelled_nor_seen() -> None:
    model = model_from_dict(
        {
            "name": "sites",
            "parameters": {"kon": "0.1 1/nmol/h", "koff": "0.2 1/h", "R0": "5 nmol"},
            "compartments": {
                "free": "nmol",
                "bound": "nmol",
                "receptor": {"unit": "nmol", "kind": "site", "initial": "R0"},
            },
            "administration": {"iv": "free"},
            "flows": ["free -> bound: kon*free*receptor - koff*bound", "receptor -> : kon*free*receptor - koff*bound"],
            "observables": {"sum": "bound + receptor"},
        }
    )
    labelled = label(model, "Lu-177", cold=True)
    assert set(labelled.compartments) == {"free_hot", "free_cold", "bound_hot", "bound_cold", "receptor"}
    assert labelled.observables["sum"].expression == symbol("bound_hot") * symbol("mbq_per_nmol")
    run = simulate(labelled, Regimen("3 GBq once", amount="20 nmol"), [0.0, 5.0, 50.0], **TIGHT)
    held = run["state_receptor"] + run["state_bound_hot"] + run["state_bound_cold"]
    for i in range(3):
        report("receptor, free and occupied", 5.0, float(held[i]), rtol=1e-9)


def test_measured_inputs_are_hot_and_production_is_cold() -> None:
    raw: dict[str, Any] = {
        "name": "m",
        "parameters": {"K": "1 L/h", "c": "2 nmol/h"},
        "compartments": {"a": "nmol"},
        "inputs": {"Cp": "nmol/L"},
        "observables": {"o": "a"},
    }
    driven = label(model_from_dict({**raw, "flows": [" -> a: K*Cp"]}), "F-18", cold=True)
    assert [f.target for f in driven.flows if not f.decay] == ["a_hot"]
    made = model_from_dict({**raw, "flows": [" -> a: c"]})
    assert [f.target for f in label(made, "F-18", cold=True).flows if not f.decay] == ["a_cold"]
    with pytest.raises(ModelError, match=r"makes ligand inside the body.*label\(\.\.\., cold=True\)"):
        label(made, "F-18")


def test_what_a_model_starts_with_is_cold() -> None:
    raw: dict[str, Any] = {
        "name": "m",
        "parameters": {"k": "1 1/h"},
        "flows": ["a -> : k*a"],
        "observables": {"o": "a"},
    }
    endogenous = model_from_dict({**raw, "parameters": {"k": "1 1/h", "a0": "3 nmol"},
                                  "compartments": {"a": {"unit": "nmol", "initial": "a0"}}})  # fmt: skip
    both = label(endogenous, "F-18", cold=True).compartments
    assert both["a_hot"].initial == 0 and both["a_cold"].initial == symbol("a0")
    with pytest.raises(ModelError, match="a starts with ligand that nobody gave"):
        label(endogenous, "F-18")
    active = model_from_dict({**raw, "parameters": {"k": "1 1/h", "a0": "3 MBq"},
                              "compartments": {"a": {"unit": "MBq", "initial": "a0"}}})  # fmt: skip
    assert label(active, "F-18", cold=True).compartments["a_hot"].initial == symbol("a0")
    assert label(active, "F-18").compartments["a"].initial == symbol("a0")


@pytest.mark.parametrize(
    ("rate", "share", "rest"),
    [
        ("Q*(s/V - b/W)", "Q/V", "-Q*b/W"),
        ("k*s*(R - b) - koff*b", "k*(R - b)", "-koff*b"),
        ("V*s/(W + s) + k", "V/(W + s)", "k"),
        ("k*s*b", "k*b", "0"),
        ("k*b", "0", "k*b"),
        ("k*s**2", None, None),
        ("k*(s - b)*(R - s)", None, None),
        ("k*s + exp(s)", None, None),
    ],
)
def test_a_carrier_that_is_written_as_a_factor(rate: str, share: str | None, rest: str | None) -> None:
    known = "Q V W R k koff s b".split()
    wanted = share and rest and (parse(share, known, "share"), parse(rest, known, "rest"))
    assert _as_written(parse(rate, known, "rate"), symbol("s")) == wanted


def test_carriers_of_a_flow() -> None:
    model = saturable()
    bind = model.flows[2]
    forward, back, made = carriers(model, bind)
    kon, vt, r, bound, koff = (symbol(s) for s in ("kon", "Vt", "R", "bound", "koff"))
    assert sp.expand(forward - kon / vt * (r - bound)) == 0
    assert sp.expand(back + koff) == 0 and made == 0


def _small(rate: str, **extra: Any) -> Model:
    return model_from_dict(
        {
            "name": "small",
            "parameters": {"Vm": "2 nmol/h", "k": "3 nmol", "n": "1.7 1", "kb": "0.1 1/h"},
            "compartments": {"a": "nmol", "b": "nmol"},
            "administration": {"iv": "a"},
            "flows": [f"a -> b: {rate}"],
            "observables": {"A": "a", "B": "b"},
            **extra,
        }
    )


@pytest.mark.parametrize(
    "rate",
    [
        "Vm*a/(k + a)",
        "Vm*hill(a, k, n)",
        "Vm*hill(a, k, 2)",
        "Vm*(a/k)**1.5",
        "kb*a*exp(-a/k)",
        "kb*a*where(t < 5, 1, 2)",
    ],
)
def test_saturable_rates_of_one_carrier(rate: str) -> None:
    """Hot and cold of each law add up to the law, from an empty second compartment on."""
    model = _small(rate)
    both = simulate(label(model, "Lu-177", cold=True), Regimen("3 GBq once", amount="10 nmol"), TIMES, **TIGHT)
    plain = simulate(model, Regimen("10 nmol once"), TIMES, **TIGHT)
    for i, t in enumerate(TIMES):
        total = float(both["state_b_hot"][i] + both["state_b_cold"][i])
        report(f"{rate} at {t:g} h", float(plain["B"][i]), total, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("rate", ["Vm", "kb*k", "Vm*tanh(a/k)", "kb*(a + k)", "Vm*k/(k + a)"])
def test_a_rate_that_nobody_carries(rate: str) -> None:
    with pytest.raises(ModelError, match=r"flow a -> b: .*divided between hot and cold"):
        label(_small(rate), "Lu-177", cold=True)


def test_refusals() -> None:
    model = saturable()
    cases: list[tuple[Model, Any, type[PkmodelError], str]] = [
        (label(model, "Lu-177"), "Lu-177", ModelError, "already labelled with Lu-177"),
        (model, "Xx-177", NuclideError, "Xx-177"),
        (_small("kb*a", compartments={"a": "g", "b": "g"}), "Lu-177", ModelError, "compartment a is in 'g'"),
        (model.rename({"kint": "lambda_phys"}), "Lu-177", ModelError, "'lambda_phys' is reserved"),
        (model.rename({"free": "plasma_hot"}), "Lu-177", ModelError, "plasma_hot: the label needs this name"),
        (
            replace(
                model,
                compartments={**model.compartments, "s": Compartment(name="s", unit="nmol", kind="site")},
                flows=(*model.flows, Flow(source="s", target="free", rate=symbol("koff") * symbol("s"))),
            ),
            "Lu-177",
            ModelError,
            "flow s -> free runs between ligand and binding site",
        ),
    ]
    for broken, which, kind, says in cases:
        with pytest.raises(kind, match=says):
            label(broken, which, cold=True)


def test_the_constants_are_those_of_the_nuclide() -> None:
    half_life = 6.647 * 24  # ICRP Publication 107
    labelled = label(load_model("organ_1_phase"), "Lu-177")
    values = labelled.canonical_values()
    report("lambda of Lu-177 [1/h]", np.log(2) / half_life, values["lambda_phys"], rtol=1e-3)
    # 1 nmol is 6.02214076e14 atoms; activity is lambda N
    activity = values["lambda_phys"] / 3600 * 6.02214076e14 / 1e6
    report("MBq in one nmol", activity, values["mbq_per_nmol"], rtol=1e-9)
    report("in text", values["mbq_per_nmol"], quantity(f"{activity} MBq").value, rtol=1e-9)
