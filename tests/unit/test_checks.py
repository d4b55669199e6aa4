"""Proofs from the equations: what holds is proved, what does not is named."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sympy as sp

from pkmodel.checks import check
from pkmodel.expressions import symbol
from pkmodel.labelling import label
from pkmodel.model import Flow, Model
from pkmodel.model_file import model_from_dict

# Serum flows [L/min] of the published PSMA model, doi:10.1186/s41181-023-00236-w: gut and spleen drain into the liver.
FLOWS = {"F_liver": 0.2552, "F_GI": 0.6282, "F_spleen": 0.1178}


def perfusion(liver_out: str) -> Model:
    """Arteries, gut, spleen and liver, veins, lungs; what leaves the liver is `liver_out`."""
    volumes = {f"V_{o}": "0.2 L" for o in ("art", "vein", "gut", "spleen", "liver")}

    def carried(source: str, target: str, flow: str) -> dict[str, str]:
        return {"from": source, "to": target, "carrier": flow, "rate": f"({flow})*{source}/V_{source}"}

    return model_from_dict(
        {
            "name": "perfusion",
            "parameters": {
                **{n: f"{v} L/min" for n, v in FLOWS.items()},
                **volumes,
                "F": {"formula": "F_liver + F_GI + F_spleen", "unit": "L/h"},
            },
            "compartments": dict.fromkeys(["art", "vein", "gut", "spleen", "liver"], "nmol"),
            "flows": [
                carried("vein", "art", "F"),
                carried("art", "gut", "F_GI"),
                carried("art", "spleen", "F_spleen"),
                carried("art", "liver", "F_liver"),
                carried("gut", "liver", "F_GI"),
                carried("spleen", "liver", "F_spleen"),
                carried("liver", "vein", liver_out),
            ],
            "observables": {"total": "art + vein + gut + spleen + liver"},
        }
    )


def test_balanced_perfusion_is_proved() -> None:
    found = check(perfusion("F_liver + F_GI + F_spleen"))
    print(found)
    assert found and "ok   flow balance: 5 nodes, proved" in str(found)


def test_the_published_liver_defect_is_named() -> None:
    """The liver receives three flows and only one leaves (facts of the published SBML file, defect 0)."""
    found = check(perfusion("F_liver"))
    print(found)
    assert not found
    (balance,) = [f for f in found.findings if f.what == "flow balance"]
    assert "liver: in minus out is F_GI + F_spleen" in balance.detail
    number = (FLOWS["F_GI"] + FLOWS["F_spleen"]) * 60
    assert f"= {number:+.4g} L/h" in balance.detail
    assert "vein: in minus out is -F_GI - F_spleen" in balance.detail
    assert "spleen: in" not in balance.detail and "gut: in" not in balance.detail


def test_balance_survives_the_label() -> None:
    assert check(label(perfusion("F_liver + F_GI + F_spleen"), "Lu-177", cold=True))
    assert not check(label(perfusion("F_liver"), "Lu-177", cold=True))


def test_what_only_fills_need_not_balance() -> None:
    pelvis = model_from_dict(
        {
            "name": "pelvis",
            "parameters": {"GFR": "0.1 L/min", "V": "0.3 L"},
            "compartments": {"kidney": "nmol", "bladder": "nmol"},
            "flows": [{"from": "kidney", "to": "bladder", "rate": "GFR*kidney/V", "carrier": "GFR"}],
            "observables": {"o": "bladder"},
        }
    )
    found = check(pelvis)
    assert "bladder:" not in str(found) and "kidney: in minus out is -GFR = -6 L/h" in str(found)


def two(flow: str, a: str = "nmol", b: str = "nmol", **extra: object) -> Model:
    return model_from_dict(
        {
            "name": "two",
            "parameters": {"k": "0.1 1/h", "B": "5 nmol", "c": "1 nmol/h"},
            "compartments": {"a": a, "b": b},
            "flows": [flow],
            "observables": {"o": "a"},
            **extra,
        }
    )


def test_mass_balance() -> None:
    assert check(two("a -> b: k*a*(1 - b/B)"))
    sites = two("a -> b: k*a", b={"unit": "nmol", "kind": "site"})  # type: ignore[arg-type]
    found = check(sites)
    print(found)
    assert "turns ligand into a binding site" in str(found) and not found


def test_concentrations_of_two_regions_do_not_balance() -> None:
    here, there = {"unit": "nmol/L", "region": "here"}, {"unit": "nmol/L", "region": "there"}
    assert check(two("a -> b: k*a", here, here))  # type: ignore[arg-type]
    found = check(two("a -> b: k*a", here, there))  # type: ignore[arg-type]
    print(found)
    assert not found and "between concentrations of two regions, 'here' and 'there'; use amounts" in str(found)


@pytest.mark.parametrize("flow", ["a -> b: c", "a -> : k*B", "a -> b: k*(b - a)*2 + k*b", "b -> a: k*(2*a + b)"])
def test_flow_out_of_an_empty_compartment(flow: str) -> None:
    found = check(two(flow))
    print(found)
    assert "FAIL signs" in str(found) and "when it is empty" in str(found)


def test_signs_are_checked_where_values_are_missing() -> None:
    raw = {
        "name": "m",
        "parameters": {"c": {"unit": "nmol/h"}},
        "compartments": {"a": "nmol"},
        "observables": {"o": "a"},
    }
    assert "FAIL signs" in str(check(model_from_dict({**raw, "flows": ["a -> : c"]})))


def test_notes() -> None:
    found = check(two("a -> b: k*a"))
    assert "unused parameters: B, c" in str(found) and "not part of any observable: b" in str(found)
    assert "nothing of this model can be compared" in str(check(replace(two("a -> b: k*a"), observables={})))
    shaky = two("a -> b: k*a", parameters={"k": {"value": 1, "unit": "1/h", "status": "unverified"}})
    assert "unverified numbers in two: k" in str(check(shaky))


def test_units_of_every_part_are_reported_at_once() -> None:
    wrong = two(
        "a -> b: k*a*B",
        administration={"iv": {"a": "k"}},
        observables={"o": {"formula": "a*k", "unit": "nmol"}, "p": "a"},
    )
    found = check(wrong)
    print(found)
    for part in ("flow a -> b (at a [nmol])", "(at b [nmol])", "administration iv into a", "observable o: "):
        assert part in str(found)


def test_a_flow_added_in_code_is_checked_too() -> None:
    base = two("a -> b: k*a")
    extra = Flow(source="b", target="", rate=symbol("k") * symbol("b") ** 2)
    found = check(replace(base, flows=(*base.flows, extra)))
    assert "substance^2 * time^-1, but should be substance * time^-1" in str(found)
    assert check(replace(base, flows=(*base.flows, replace(extra, rate=sp.Integer(0)))))
