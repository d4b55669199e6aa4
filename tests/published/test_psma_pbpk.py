"""PSMA ligands: the published whole-body model written again, then doses on the reference man.

The published file of the model does not balance its blood flows; what is compared here is the same model with flows
that do. Where a published dose does not come out it stands here with its gap.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from peptide_oracle import psma, solve

import pkmodel as pk
from support import report

GRID = np.concatenate([[0.0], np.geomspace(0.01, 3000.0, 400)])
BLOOD = ("arterial", "venous")


@cache
def hot(name: str) -> pk.Model:
    return pk.label(pk.load_model(name), "Lu-177", cold=True)


def test_flows_balance() -> None:
    """Arteries give what lungs bring, veins take what organs give back, the liver passes the portal blood on."""
    for name in ("psma_pbpk", "lu177_psma617"):
        found = pk.check(pk.load_model(name))
        print(found)
        assert found


@pytest.mark.parametrize("back", [0.0, 1.0])
def test_against_the_equations_written_again(back: float) -> None:
    """Both published fates of the released label against SciPy's Radau: every region, its curve and its integral."""
    rate = float(hot("psma_pbpk").parameters["lambda_phys"].canonical) / 60
    times = np.array([0.0, 0.5, 2.0, 24.0, 168.0])
    amounts, integrals = solve(psma(back), 100.0, rate, 60 * times)
    model = hot("psma_pbpk").replace(f_released_back=back)
    run = pk.simulate(model, pk.Regimen("1 MBq once", amount="100 nmol"), times)
    for organ in psma().organs:
        off = float(np.abs(run[organ].values[1:] - amounts[organ][1:]).max() / amounts[organ].max())
        report(f"{organ}: curve, of its largest value", 0.0, off, atol=2e-6)
        report(f"{organ}: integral [h]", integrals[organ][-1] / 60, float(run[f"integral_{organ}"][-1]), rtol=2e-6)


def test_liver_of_the_published_file_once_it_balances() -> None:
    """0.4392 h: the published file solved by libRoadRunner after both of its flows were mended, liver 1.3829 h before.

    It has a decay constant 1.3 % smaller and a kidney compartment that does not decay, so agreement is to a per cent.
    """
    run = pk.simulate(hot("psma_pbpk"), pk.Regimen("1 MBq once", amount="100 nmol"), [0, 3000.0])
    report("liver [h]", 0.4392, float(run["integral_liver"][-1]), rtol=0.02)


@pytest.mark.parametrize("back", [0.0, 1.0])
@pytest.mark.parametrize("name", ["psma_pbpk", "lu177_psma617"])
def test_nothing_is_lost(name: str, back: float) -> None:
    """Given = present + excreted + decayed, of activity and of molecules, over ten half-lives."""
    model = hot(name).replace(f_released_back=back)
    run = pk.simulate(model, pk.Regimen("7.4 GBq once", amount="100 nmol"), [0, 1, 24, 240, 1595.0])
    rate = float(model.parameters["lambda_phys"].canonical)
    here = (run["whole_body"] + run["urine"]).values
    decayed = rate * (run["integral_whole_body"] + run["integral_urine"]).values
    report("activity, of that given", 0.0, float(np.max(np.abs((here + decayed) / 7400 - 1))), atol=1e-9)
    every = np.sum([run[v].values for v in run if str(v).startswith("state_")], axis=0)
    report("molecules, of those given", 0.0, float(np.max(np.abs(every / 100 - 1))), atol=1e-9)


def doses(name: str, nmol: float, masses: dict[str, float]) -> dict[str, float]:
    """Self-dose of a bolus [Gy/GBq], by `integrate` and `dose`."""
    run = pk.simulate(hot(name), pk.Regimen("1 GBq once", amount=f"{nmol} nmol"), [0, 2500.0])
    found = pk.dose(pk.integrate(run[[n for o in masses for n in (o, f"integral_{o}")]]), masses=masses)
    print(found)
    return {o: float(found.data["dose"].sel(organ=o).mean()) for o in masses}


def test_doses_of_177lu_psma617() -> None:
    """Kidneys, salivary glands, liver and marrow of the reference man inside the range of the published cohorts.

    Lowest mean - 2 SD to highest mean + 2 SD where an SD is given: Violet 2019 (0.39, parotid 0.58 and submandibular
    0.44, liver 0.10, marrow 0.11), Fendler 2017 (0.5 to 0.6, salivary 1.0), Hohberg 2016 (0.53; 0.72), Kabasakal 2017
    (kidneys 0.82 +- 0.25, parotid 1.9 +- 1.19, marrow 0.03 +- 0.008). Liver: a population study gives 0.12 (its rates).
    """
    got = doses("lu177_psma617", 90, {"kidneys": 310.0, "salivary_glands": 85.0, "liver": 1800.0, "spleen": 150.0})
    run = pk.simulate(hot("lu177_psma617"), pk.Regimen("1 MBq once", amount="90 nmol"), GRID)
    plasma = sum(run[f"state_{c}_hot"].values for c in BLOOD) / (0.33 * 3.0)  # L: ICRP 89
    blood = (1 - 2.3 / 5.3) * np.trapezoid(plasma / float(run["state_venous_hot"][0]), GRID)
    got["red_marrow"] = blood * 1e3 * pk.s_self("Lu-177", 1000.0).value
    published = {
        "kidneys": (0.39, 0.82 + 2 * 0.25),
        "salivary_glands": (0.44, 1.9 + 2 * 1.19),
        "liver": (0.05, 0.20),
        "spleen": (0.03, 0.12),
        "red_marrow": (0.03 - 2 * 0.008, 0.11),
    }
    for organ, (low, high) in published.items():
        print(f"{organ}: {got[organ]:.3f} Gy/GBq, published {low:.2f} to {high:.2f}")
    for organ in ("kidneys", "salivary_glands", "liver", "red_marrow"):
        assert published[organ][0] <= got[organ] <= published[organ][1], organ
    assert 0.12 < got["spleen"] < 0.25, "missed: 0.20 Gy/GBq for 0.06 (Violet 2019, 0.03 to 0.12)"


def test_published_structure_alone_misses_liver_and_blood() -> None:
    """With the published sieving and without unspecific uptake the liver gets a sixth of 0.10 Gy/GBq.

    That is why `ligand_psma617` takes both from a population study; the published set stays reachable.
    """
    model = hot("lu177_psma617").replace(of_patients=0.0)
    run = pk.simulate(model, pk.Regimen("1 MBq once", amount="90 nmol"), [0, 2500.0])
    dose = float(run["integral_liver"][-1]) * 1e3 * pk.s_self("Lu-177", 1800.0, organ="liver").value
    print(f"liver: {dose:.4f} Gy/GBq, published 0.10 (Violet 2019)")
    assert 0.01 < dose < 0.03


def test_more_ligand_saturates() -> None:
    """10 to 1000 nmol: every organ with PSMA takes a smaller share, glands and kidneys lose more than the liver."""
    rows = {}
    for nmol in (10, 100, 1000):
        run = pk.simulate(hot("lu177_psma617"), pk.Regimen("1 MBq once", amount=f"{nmol} nmol"), [0, 2500.0])
        rows[nmol] = {o: float(run[f"integral_{o}"][-1]) for o in ("tumour", "kidneys", "salivary_glands", "liver")}
    for organ in rows[10]:
        tau = [rows[n][organ] for n in rows]
        print(f"{organ}: TIAC {tau[0]:.3f}, {tau[1]:.3f}, {tau[2]:.3f} h at 10, 100, 1000 nmol")
        if organ != "liver":
            assert tau[0] > tau[1] > tau[2] > 0


ALPHA = {"Ac-225": 5.892, "Fr-221": 6.420, "At-217": 7.201, "Bi-213": 0.1245, "Po-213": 8.537}  # MeV, ICRP 107
ELECTRONS = {"Bi-213": 0.444, "Pb-209": 0.197}
KILOGRAM = {
    "kidneys": 0.310,
    "salivary_glands": 0.085,
    "liver": 1.8,
    "red_marrow": 1.17,
    "spleen": 0.150,
    "tumour": 0.02,
}


def alpha_doses(name: str, followed: tuple[str, ...], amount: str) -> dict[str, float]:
    """Sv per MBq with RBE 5, all particles absorbed where each daughter decays."""
    model = pk.load_agent(name)
    end = 20 / pk.nuclide(str(model.nuclide)).decay_constant
    run = pk.simulate(model, pk.Regimen("1 MBq once", amount=amount), [0, end])
    out = dict.fromkeys(KILOGRAM, 0.0)
    for nuclide in followed:
        tia = pk.integrate(run, nuclide_name=nuclide).data["tia_point"]
        energy = 5 * ALPHA.get(nuclide, 0.0) + ELECTRONS.get(nuclide, 0.0)
        for organ, mass in KILOGRAM.items():
            out[organ] += 5.7678e-4 * energy * float(tia.sel(organ=organ)) / mass
    return out


@pytest.mark.parametrize("organ", ["kidneys", "salivary_glands", "liver", "red_marrow", "spleen", "tumour"])
def test_doses_of_213bi_psma617(organ: str) -> None:
    """Kratochwil 2018 (3 patients, from 68Ga-PSMA-617, doi:10.1007/s00259-017-3817-y) within a factor 2."""
    published = {"kidneys": 8.1, "salivary_glands": 8.1, "liver": 1.2, "red_marrow": 0.52, "spleen": 1.4, "tumour": 7.6}
    got = _bismuth()[organ] * 1e3
    print(f"{organ}: {got:.2f} Sv/GBq, published {published[organ]}")
    assert published[organ] / 2 <= got <= published[organ] * 2


@cache
def _bismuth() -> dict[str, float]:
    return alpha_doses("bi213_psma617", ("Bi-213", "Po-213", "Pb-209"), "50 nmol")


def test_actinium_gives_its_dose_through_all_its_daughters() -> None:
    """Kidneys and glands of 225Ac-PSMA-617: 0.7 and 2.3 Sv/MBq are quoted of Kratochwil 2017 (not read); factor 2.

    Daughters beside actinium give four fifths of it, bismuth born in blood reaches the kidneys.
    """
    chain = ("Ac-225", "Fr-221", "At-217", "Bi-213", "Po-213", "Pb-209")
    got = alpha_doses("ac225_psma617", chain, "50 nmol")
    alone = alpha_doses("ac225_psma617", ("Ac-225",), "50 nmol")
    for organ, quoted in (("kidneys", 0.7), ("salivary_glands", 2.3)):
        print(f"{organ}: {got[organ]:.2f} Sv/MBq, {alone[organ] / got[organ]:.2f} by actinium alone, quoted {quoted}")
        assert quoted / 2 <= got[organ] <= quoted * 2
        assert alone[organ] / got[organ] == pytest.approx(5.892 / 28.2, rel=0.03)


@pytest.mark.parametrize("name", ["lu177_psmait", "lu177_fap2286"])
def test_kidneys_keep_what_tubule_cells_break_down(name: str) -> None:
    """Without the breakdown of what the tubule takes up, kidneys get less than a third of the dose."""
    model = pk.label(pk.load_model(name), "Lu-177", cold=True)
    tau = []
    for k_lys in ("2.4 1/h", "0 1/h"):
        run = pk.simulate(model.replace(k_lys=k_lys), pk.Regimen("1 MBq once", amount="100 nmol"), [0, 2500.0])
        tau.append(float(run["integral_kidneys"][-1]))
    print(f"kidneys: {tau[0]:.3f} h, without breakdown {tau[1]:.3f} h")
    # by hand: filtered (almost all), times the share taken up, times the share broken down, times how long it stays
    uptake, stays = (
        (0.04, 1 / (2.9e-4 * 60 + 0.0043441)) if name == "lu177_psmait" else (0.02, 1 / (0.00606 + 0.0043441))
    )
    back = uptake * 7.2 * 0.66 / 0.164  # 1/h: returned to plasma from 0.164 L of tubule cells
    report("kept in tubule cells [h]", uptake * 2.4 / (2.4 + back) * stays, tau[0] - tau[1], rtol=0.15)
    assert tau[1] < tau[0] / 3
