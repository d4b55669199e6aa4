"""Every radiopharmaceutical: it loads, its equations hold, it is followed, nothing is lost, organs have TIACs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import sympy as sp

import pkmodel as pk
from pkmodel.expressions import symbol
from pkmodel.library import find, list_models
from pkmodel.model import OUTSIDE, Model, Observable
from support import report

FILES = {n: find("model", n) for n in list_models()}
AGENTS = [n for n, f in FILES.items() if "agents" in str(f) and "\ntracer" in f.read_text(encoding="utf-8")]
load = cache(pk.load_model)
ASKED = """
zr89_trastuzumab cu64_trastuzumab lu177_trastuzumab in111_trastuzumab i131_trastuzumab y90_trastuzumab
in111_nls_trastuzumab zr89_pertuzumab lu177_pertuzumab zr89_bevacizumab zr89_atezolizumab zr89_cd8_minibody
zr89_pas_fab ga68_2rs15d f18_2rs15d lu177_2rs15d ac225_2rs15d in111_aby002 ga68_aby002 in111_aby025 ga68_aby025
ga68_zher2 tc99m_hynic_h6f tc99m_g3 tc99m_adapt6 cu64_sar_bombesin ga68_nodaga_mj9 lu177_psma617 lu177_psmait
ga68_psma11 bi213_psma617 ac225_psma617 i131_mip1095 lu177_dotatate y90_dotatate ga68_dotatate cu64_dotatate
lu177_dotatoc y90_dotatoc ga68_dotatoc cu64_dotatoc in111_pentetreotide pb212_dotamtate lu177_eb_tate i131_iodide
i123_iodide i124_iodide i131_mibg ra223_chloride sr89_chloride sm153_edtmp lu177_edtmp ga68_fapi46 ga68_fapi04
lu177_fap2286 f18_fmiso f18_fes zr89_trop2 cu64_dual_nanoparticle f18_fdg y90_anti_cd66 i131_tositumomab
l19_scfv_dimer l19_sip l19_igg i131_t84_diabody in111_mn14 lu177_l8a4
""".split()
ALL = "everything"
SEEN: dict[str, str] = {}  # digest of equations -> the agent that was followed with cold ligand


def test_every_agent_of_the_field_is_there() -> None:
    assert set(ASKED) <= set(AGENTS), f"missing: {sorted(set(ASKED) - set(AGENTS))}"


def _with_everything(model: Model) -> Model:
    """The model with one more observable: all ligand that has not left the equations."""
    ligand = [symbol(n) for n, c in model.compartments.items() if c.kind == "ligand"]
    total = Observable(name=ALL, expression=sp.Add(*ligand), unit="nmol")
    return replace(model, observables={**model.observables, ALL: total})


def _given(model: Model) -> tuple[str, str]:
    activity, amount = str(model.tracer["activity"]), str(model.tracer.get("amount", ""))
    return activity, amount


@pytest.mark.parametrize("name", AGENTS)
def test_agent(name: str) -> None:
    model = load(name)
    found = pk.check(model)
    print(found)
    assert found
    lost = [str(f) for f in model.flows if f.target == OUTSIDE]
    assert not lost, "what leaves the body is collected in urine or faeces, so that nothing is lost"

    nuclide = str(model.tracer["nuclide"])
    hot = pk.label(_with_everything(model), nuclide)
    activity, amount = _given(model)
    route = str(model.tracer.get("route", ""))
    decay = pk.nuclide(nuclide).decay_constant
    times = np.array([0.0, 0.1, 1.0, 5.0, 10.0]) / decay
    run = pk.simulate(hot, pk.Regimen(f"{activity} once", into=route, amount=amount or None), times)
    given = float(run.attrs["given_MBq"])
    present = run[ALL].to_numpy()
    decayed = decay * run[f"integral_{ALL}"].to_numpy()
    for k in range(times.size):
        report(f"present and excreted + decayed [MBq], {times[k]:.3g} h", given, present[k] + decayed[k], rtol=1e-9)
    for organ in run.data_vars:
        if organ in hot.observables:
            assert float(run[organ].min()) >= -1e-6 * given, f"{organ} becomes negative"
    tia = pk.integrate(run.drop_vars([ALL, f"integral_{ALL}"]))
    print(tia)
    assert len(tia.organs) >= 3
    assert model.unverified == "" or any(w.startswith("unverified") for w in tia.warnings), "unread numbers say so"


@pytest.mark.parametrize("name", AGENTS)
def test_agent_with_cold_ligand(name: str) -> None:
    model = load(name)
    if (twin := SEEN.setdefault(model.digest, name)) != name:
        pytest.skip(f"the equations are those of {twin}")
    nuclide = str(model.tracer["nuclide"])
    both = pk.label(model, nuclide, cold=True)
    activity, amount = _given(model)
    route = str(model.tracer.get("route", ""))
    times = np.array([0.0, 0.1, 1.0, 5.0, 10.0]) / pk.nuclide(nuclide).decay_constant
    run = pk.simulate(both, pk.Regimen(f"{activity} once", into=route, amount=amount or "100 nmol"), times)
    ligand = [n for n, c in both.compartments.items() if c.kind == "ligand"]
    total = np.sum([run[f"state_{n}"].to_numpy() for n in ligand], axis=0)
    for k in range(times.size):
        report(f"hot and cold [nmol], {times[k]:.3g} h", total[0], total[k], rtol=1e-9)
