"""Parts of a tumour combine in any selection, change what they should, and refuse what cannot be."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from pkmodel.assembly import assemble, load_model
from pkmodel.checks import check
from pkmodel.errors import DoseError, ModelError
from pkmodel.heterogeneity import dose_volume, eud, factors, split
from pkmodel.model import Model
from pkmodel.reference import run_checks
from pkmodel.requirements import number
from pkmodel.simulation import simulate
from pkmodel.units import factor
from support import report

PARTS = ("tumour_matrix", "tumour_pressure", "tumour_stroma", "tumour_immune")
FILES = (
    "base simple solid perfused receptor target fcgr hypoxia matrix pressure stroma immune measured_oxygen krogh_oxygen"
).split()
IGG = {
    "kel": "0.0125 1/h", "Vplasma": "3 L", "Hct": "0.43 1", "Rh": "4.838 nm", "Dfree": "6.2e-7 cm2/s",
    "P_tumour": "3.873e-7 cm/s", "eps": "0.2393 1", "KD": "1 nmol/L", "kon": "0.36 L/nmol/h",
}  # fmt: skip


def body(*parts: str, layers: tuple[Any, ...] = (), set_: dict[str, Any] | None = None, **changes: str) -> Model:
    """A plasma of 3 L with a tumour of the parts named, 400 nmol/L of target on its cancer cells."""
    return assemble(
        "body",
        ["tumour_simple", *parts],
        layers=[{"organs": ["tumour"], **(row if isinstance(row, dict) else {"file": row})} for row in layers],
        table={
            "Bmax": {"unit": "nmol/L", "values": {"tumour": 400}},
            "kint": {"unit": "1/h", "values": {"tumour": 0.05}},
            "V_inlet": {"unit": "L", "formula": "Vplasma"},
        },
        set=set_ or {},
        parameters={**IGG, **changes, "koff": {"formula": "kon*KD", "unit": "1/h"}},
        compartments={"plasma": {"unit": "nmol", "region": "blood"}, "gone": {"unit": "nmol", "region": "urine"}},
        flows=["plasma -> gone: kel*plasma"],
        administration={"injection": {"plasma": "1"}},
        connect={"*": {"inlet": "plasma", "outlet": "plasma", "lymph": "plasma"}},
    )


def value(model: Model, name: str) -> float:
    found = number(name, model.parameters, {})
    assert found is not None
    return float(found) / factor(model.parameters[name].unit)


@pytest.mark.parametrize("name", FILES)
def test_every_file_proves_itself(name: str) -> None:
    model = load_model(f"tumour_{name}")
    for row in run_checks(model):
        report(row.name, row.expected, row.got, rtol=row.rtol, atol=row.atol)


@pytest.mark.parametrize(
    "chosen", [c for k in range(5) for c in combinations(PARTS, k)], ids=lambda c: "+".join(c) or "none"
)
def test_any_selection_of_parts_hangs_together(chosen: tuple[str, ...]) -> None:
    model = body(*chosen)
    cancer = 1.0 - 0.3 * ("tumour_stroma" in chosen) - 0.1 * ("tumour_immune" in chosen)
    report("share of cancer cells", cancer, value(model, "cancer_tumour"), rtol=1e-12)
    assert (value(model, "DD0_tumour") < 1.0) == ("tumour_matrix" in chosen)
    assert (value(model, "L_tumour") > 0.0) == ("tumour_pressure" in chosen)


def test_proofs_hold_with_everything() -> None:
    fap = {"b": "b_fap", "Bmax": "Bmax_fap", "kint": "kint_fap", "KD": "KD_fap", "kon": "kon_fap", "koff": "koff_fap"}
    layers = ({"file": "tumour_target", "rename": {**fap, "share": "stroma"}}, "tumour_fcgr", "tumour_hypoxia")
    given = {
        "Bmax_fap_tumour": "50 nmol/L", "kint_fap_tumour": "0.05 1/h", "KD_fap": "5 nmol/L", "kon_fap": "0.4 L/nmol/h",
        "koff_fap": "2 1/h",
    }  # fmt: skip
    model = body(*PARTS, "tumour_measured_oxygen", layers=layers, set_=given)
    found = check(model)
    print(found)
    assert found


def test_a_denser_matrix_shuts_out_the_large_and_spares_the_small() -> None:
    """Twice the GAG: room exp(-0.005 (1 + Rh/0.55)^2) of what it was, diffusion by sqrt(0.01) - sqrt(0.005)."""
    for kind, size in (("IgG", 4.838), ("peptide", 1.02)):
        model = body("tumour_matrix", Rh=f"{size} nm", set_={"gag_tumour": "0.01 1"})
        report(f"{kind}: room", np.exp(-0.005 * (1 + size / 0.55) ** 2), value(model, "Phi_matrix_tumour"), rtol=1e-9)
        d = np.exp(-np.sqrt(0.01) * size / 0.55 - np.sqrt(0.03) * size / 20)
        report(f"{kind}: diffusion", d, value(model, "DD0_tumour"), rtol=1e-9)


def test_a_small_ligand_is_delivered_as_a_capillary_delivers() -> None:
    """Renkin and Crone at steady state: plasma held at 1 nmol/L, tumour emptied by a sink: Q (1 - exp(-PS/Q))."""
    sink = {"kint_tumour": "1e6 1/h", "Bmax_tumour": "1e9 nmol/L"}
    model = body(P_tumour="1.171875e-4 cm/s", Dfree="1 cm2/s", eps="0.45 1", set_=sink, kel="0 1/h")
    flow = value(model, "Q_tumour")
    ps = 1.171875e-4 * 3600 * 28.4444444 * value(model, "V_tumour")  # cm/s * 1/cm * L
    run = simulate(model, "3000000 nmol once", [0.0, 0.05, 0.1])
    rate = float(run["tumour"][2] - run["tumour"][1]) / 0.05 / 1e6
    # plasma loses 0.3 % meanwhile
    report("uptake per plasma concentration [L/h]", flow * (1.0 - np.exp(-ps / flow)), rate, rtol=4e-3)


def test_pressure_drains_the_rim_and_not_the_core() -> None:
    """At steady state an unbound ligand has the mean of rim and core: leak*C_rim + (1 - leak) of plasma's."""
    model = body("tumour_pressure", set_={"Bmax_tumour": "0 nmol/L"}, kel="0 1/h")
    run = simulate(model, "3000 nmol once", [0.0, 4000.0])
    plasma = float(run["blood"][1]) / 3.0
    inside = float(run["state_i_tumour"][1]) / value(model, "Vi_acc_tumour")
    k, open_, sigma, leak = (value(model, f"{n}_tumour") for n in ("k_wall", "jv_open", "sigma_F", "leak"))
    rim = (k + open_ * (1.0 - sigma)) / (k + open_)
    # the part that passes the wall against the fluid is reduced (Patlak), which the two zones leave out
    report("interstitium over plasma", leak * rim + 1.0 - leak, inside / plasma, rtol=0.05)


@pytest.mark.parametrize(
    ("parts", "change", "message"),
    [
        (("tumour_matrix",), {"collagen_tumour": "1.2 1"}, "collagen_tumour = 1.2 lies outside its bounds 0 to 0.39"),
        (("tumour_matrix",), {"gag_tumour": "-0.1 1"}, "gag_tumour = -0.1 lies outside its bounds"),
        (("tumour_pressure",), {"p_vessel_tumour": "-3 mmHg"}, "p_vessel_tumour = -3 lies outside its bounds"),
        (("tumour_pressure",), {"p_vessel_tumour": "1 mmHg"}, "pressures and osmotic pressures do not fit"),
        (("tumour_stroma", "tumour_immune"), {"stroma_tumour": "0.95 1"}, "shares of one tumour"),
        ((), {"Rkrogh_tumour": "7 um"}, "a capillary lies inside the tissue it supplies"),
        ((), {"vB_tumour": "0.8 1"}, "no room is left for cells"),
        ((), {"mass_tumour": "20 mL"}, "mass_tumour"),
    ],
)
def test_what_cannot_be_is_refused(parts: tuple[str, ...], change: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError if "mass" not in message else Exception, match=message):
        model = body(*parts)
        model.replace(**change)


def test_a_fibre_fraction_above_one_in_a_file() -> None:
    with pytest.raises(ModelError, match=r"collagen_tumour = 1\.2 lies outside its bounds"):
        body("tumour_matrix", set_={"collagen_tumour": {"value": 1.2, "unit": "1", "lower": 0, "upper": 0.39}})


# regions
def test_factors_keep_the_mean_and_have_the_spread() -> None:
    got = factors(200, {"perfusion": 0.6, "Bmax": 0.8}, correlation=0.5)
    for name, cv in (("perfusion", 0.6), ("Bmax", 0.8)):
        report(f"{name}: mean", 1.0, float(got[name].mean()), rtol=1e-12)
        report(f"{name}: cv", cv, float(got[name].std()), rtol=0.06)
    r = np.corrcoef(np.log(got["perfusion"]), np.log(got["Bmax"]))[0, 1]
    report("correlation of the logarithms", 0.5, float(r), atol=0.02)


def test_regions_that_do_not_differ_are_the_tumour() -> None:
    model = body()
    regions = split(model, n=2, cv={"perfusion": 0.0, "Bmax": 0.0})
    assert check(regions)
    times = [0.0, 24.0, 96.0]
    whole, parts = (simulate(m, "10 nmol once", times) for m in (model, regions))
    for k in (1, 2):
        report("tumour [nmol]", float(whole["tumour"][k]), float(parts["tumour"][k]), rtol=1e-6)
        report("half of it", float(whole["tumour"][k]) / 2, float(parts["tumour_1"][k]), rtol=1e-6)


def test_regions_keep_flow_and_antigen_of_the_whole() -> None:
    regions = split(body(*PARTS), n=5, cv={"perfusion": 0.6, "Bmax": 0.8}, correlation=0.4)
    flow = sum(value(regions, f"Q_tumour_{k}") for k in range(1, 6))
    report("flow [L/h]", value(body(*PARTS), "Q_tumour"), flow, rtol=1e-9)
    sites = sum(value(regions, f"Bmax_tumour_{k}") * value(regions, f"V_tumour_{k}") for k in range(1, 6))
    report("sites [nmol]", 400.0 * 20.0 / 1040.0, sites, rtol=1e-9)
    doubled = regions.replace(perfusion_tumour=0.4)
    report(
        "the tumour's own number rules", 2 * flow, sum(value(doubled, f"Q_tumour_{k}") for k in range(1, 6)), rtol=1e-9
    )


def test_uneven_dose_counts_less() -> None:
    """-ln((e^-1 + e^-3)/2)/0.1 = 15.663 Gy for 10 and 30 Gy; the mean is 20."""
    report("two halves", -np.log((np.exp(-1.0) + np.exp(-3.0)) / 2) / 0.1, eud([10.0, 30.0], 0.1), rtol=1e-12)
    report("even dose", 25.0, eud([25.0] * 4, 0.35), rtol=1e-12)
    report("high doses do not underflow", 4000.0 + np.log(4.0), eud([4000.0, 8000.0, 8000.0, 8000.0], 1.0), rtol=1e-12)
    got = dose_volume([10.0, 20.0, 40.0], [0.0, 15.0, 40.0, 41.0], volumes=[1.0, 1.0, 2.0])
    for expected, found in zip([1.0, 0.75, 0.5, 0.0], got, strict=True):
        report("volume that gets at least this", expected, float(found), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: split(body(), "node"), ModelError, "no parameter V_node"),
        (lambda: split(body(), cv={"perfuson": 0.5}), ModelError, "did you mean 'perfusion_tumour'"),
        (lambda: split(body(), n=0), ModelError, "at least one region"),
        (lambda: factors(4, {"a": 0.5, "b": 0.5}, 1.5), ModelError, "correlation from -1 to 1"),
        (lambda: eud([10.0, -1.0], 0.1), DoseError, "none below zero"),
        (lambda: eud([10.0], 0.0), DoseError, "alpha must be above zero"),
        (lambda: dose_volume([1.0, 2.0], [1.0], volumes=[1.0]), DoseError, "as many volumes as doses"),
    ],
)
def test_regions_that_make_no_sense(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
