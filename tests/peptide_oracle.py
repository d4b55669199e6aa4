"""The published whole-body models of peptides, written again from their equations and solved by SciPy.

Nothing of pkmodel is used: time in min, amounts in nmol, volumes in L. Total ligand (labelled and unlabelled) competes
for the receptors. Structure and equations:
Kletting P et al. J Nucl Med 2016;57:503, doi:10.2967/jnumed.115.164699 (S1 to S13), with the physiology of Budiansah I
et al. EJNMMI Phys 2025;12:26, doi:10.1186/s40658-025-00726-7 (Table S1), and Begum NJ et al. EJNMMI Radiopharm Chem
2024;9:6, doi:10.1186/s41181-023-00236-w. Every vascular node balances here: lungs, arteries and veins carry the flow
of all organs and tumours, and the liver drains what the portal vein brings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

PORTAL = ("spleen", "gut")  # they drain into the liver


@dataclass(frozen=True, slots=True, kw_only=True)
class Organ:
    """One organ: volumes in L, flow and PS in L/min, receptors in nmol."""

    Vp: float
    Vi: float
    Q: float
    PS: float = 0.0
    R0: float = 0.0
    kint: float = 0.0
    krel: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """All organs, and what they have in common."""

    organs: Mapping[str, Organ]
    V_arterial: float
    V_venous: float
    V_serum: float
    Vcell: float
    GFR: float
    theta: float
    f_exc: float
    kon: float
    koff: float
    kpr: float = 0.0
    back: float = 0.0  # share of the released label that returns to the interstitium


def dotatate(patient: Mapping[str, Any]) -> Body:
    """The model of Budiansah 2025 with the typical values of its Table 1.

    Parameters
    ----------
    patient : BSA [m2], Hct, WT [kg], GFR [L/min], female, net, and volumes of kidneys, liver, spleen, tumour [mL]
    """
    hct, female, net, bw = patient["Hct"], patient["female"], patient["net"], patient["WT"] / 71
    serum = (2.4 if female else 2.8) * (1 - hct) * patient["BSA"]
    flow = 1.23 * serum
    v = {
        "kidneys": patient["kidneys"] / 1000,
        "liver": patient["liver"] / 1000,
        "spleen": patient["spleen"] / 1000,
        "reproductive": (0.080 if female else 0.016) * bw,
        "lungs": bw,
        "adrenals": 0.014 * bw,
        "muscle": 30.078 * bw,
        "gut": (0.385 + 0.548 + 0.104 + 0.105) * bw,
        "skin": 3.408 * bw,
        "adipose": 13.465 * bw,
        "red_marrow": 1.1 * bw,
        "bone": (10.165 - 1.1) * bw,
        "heart": 0.341 * bw,
        "brain": 1.45 * bw,
    }
    v["rest"] = patient["WT"] - sum(v.values())
    vp = {o: f * serum for o, f in {
        "lungs": 0.105, "muscle": 0.14, "gut": 0.076, "skin": 0.03, "adipose": 0.05, "red_marrow": 0.04,
        "bone": 0.07 - 0.04, "heart": 0.01, "brain": 0.012,
    }.items()}  # fmt: skip
    vp |= {"liver": 0.085 * v["liver"], "spleen": 0.12 * v["spleen"], "kidneys": 0.055 * v["kidneys"]}
    vp |= {"reproductive": (0.07 if female else 0.04) * (1 - hct) * v["reproductive"]}
    vp |= {"adrenals": 0.03 * (1 - hct) * v["adrenals"]}
    arterial, venous = (0.06 + 0.045) * serum, (0.18 + 0.045) * serum
    vp["rest"] = serum - arterial - venous - sum(vp.values())
    ratio = {"lungs": 5.5, "muscle": 5.9, "gut": 8.8, "skin": 8.9, "adipose": 15.5, "red_marrow": 3.7, "bone": 9.3}
    ratio |= {"heart": 3.7, "rest": 3.7, "brain": 1.0}
    vi = {o: a * vp[o] for o, a in ratio.items()}
    vi |= {"liver": 0.2 * v["liver"], "spleen": 0.2 * v["spleen"], "kidneys": 0.15 * v["kidneys"]}
    vi |= {"reproductive": (0.5 if female else 0.25) * v["reproductive"], "adrenals": 0.24 * v["adrenals"]}
    share = {"liver": 0.065, "spleen": 0.03, "kidneys": 0.19, "muscle": 0.17, "gut": 0.16, "skin": 0.05}
    share |= {"adipose": 0.05, "red_marrow": 0.03, "bone": 0.05, "heart": 0.04, "brain": 0.12}
    q = {o: f * flow for o, f in share.items()}
    q |= {"reproductive": (1.0 if female else 0.18) * (1 - hct) * v["reproductive"]}
    q |= {"adrenals": 6 * (1 - hct) * v["adrenals"]}
    q["rest"] = flow - sum(q.values())
    kps = {o: 2.0 for o in ("liver", "spleen", "lungs", "adrenals")}
    kps |= {o: 0.02 for o in ("muscle", "gut", "skin", "adipose", "red_marrow", "bone", "heart", "rest")}
    kps |= {"reproductive": 0.2 if female else 0.1, "kidneys": 0.0, "brain": 0.0}
    density = {"kidneys": 4.55, "liver": 0.94, "spleen": 7.37, "rest": 0.36}
    relative = {"reproductive": 0.092 if female else 0.26, "adrenals": 1.65, "muscle": 0.0056, "gut": 0.16}
    density |= {o: 4.55 * f for o, f in (relative | {"red_marrow": 0.028}).items()}
    v["tumour"] = patient["tumour"] / 1000
    vp["tumour"], vi["tumour"] = (0.1 if net else 0.11) * v["tumour"], (0.3 if net else 0.23) * v["tumour"]
    q["tumour"] = (1.0 if net else 0.9) * (1 - hct) * v["tumour"]
    kps["tumour"], density["tumour"] = 0.2 if net else 0.31, 15.9
    organs = {
        o: Organ(
            Vp=vp[o], Vi=vi[o], Q=q.get(o, 0.0), PS=kps[o] * v[o], R0=density.get(o, 0.0) * v[o],
            kint=1.39e-3 if o == "tumour" else 2.36e-3, krel=1.15e-4 if o == "tumour" else 1.01e-4,
        )
        for o in v
    }  # fmt: skip
    cell = (v["kidneys"] - vi["kidneys"] - vp["kidneys"]) * 2 / 3
    return Body(
        organs=organs, V_arterial=arterial, V_venous=venous, V_serum=serum, Vcell=cell, GFR=patient["GFR"],
        theta=0.66, f_exc=0.98, kon=0.04 / 0.4, koff=0.04, kpr=5.5e-4,
    )  # fmt: skip


def psma(back: float = 0.0, body_weight: float = 100.0, BSA: float = 1.9, hct: float = 0.4) -> Body:
    """The model of Begum 2024 for 177Lu-PSMA-I&T, with the values of its published file.

    Parameters
    ----------
    back : share of the released label that returns to the interstitium: 0 or 1 in the two published files
    body_weight, BSA, hct : of the published virtual patient [kg, m2, 1]
    """
    bw, serum = body_weight / 71, 2.8 * (1 - hct) * BSA
    flow = 1.23 * serum
    v = {"kidneys": 0.311, "salivary_glands": 0.021, "liver": 1.91, "spleen": 0.183, "gut": 1.187 * bw}
    v |= {"prostate": 0.016 * bw, "muscle": 30.078 * bw, "skin": 3.408 * bw, "brain": 1.45 * bw, "lungs": bw}
    v |= {"heart": 0.341 * bw, "red_marrow": 1.1 * bw, "bone": (10.165 - 1.1) * bw, "adipose": 13.465 * bw}
    v["rest"] = body_weight - sum(v.values())
    vp = {"gut": 0.076, "muscle": 0.14, "skin": 0.03, "brain": 0.012, "lungs": 0.105, "heart": 0.01, "adipose": 0.05}
    vp |= {"red_marrow": 0.04, "bone": 0.03}
    vp = {o: f * serum for o, f in vp.items()}
    vp |= {"kidneys": 0.055 * v["kidneys"], "salivary_glands": 0.03 * (1 - hct) * v["salivary_glands"]}
    vp |= {"liver": 0.085 * v["liver"], "spleen": 0.12 * v["spleen"], "prostate": 0.004 * (1 - hct) * v["prostate"]}
    vp["rest"] = serum - sum(vp.values())  # as published: large vessels are not taken off
    ratio = {"gut": 8.8, "rest": 4.1, "muscle": 5.9, "skin": 8.9, "lungs": 5.5, "heart": 3.7, "bone": 8.4}
    vi = {o: a * vp[o] for o, a in (ratio | {"adipose": 15.5, "red_marrow": 3.7}).items()}
    vi |= {o: f * v[o] for o, f in {"kidneys": 0.15, "salivary_glands": 0.23, "liver": 0.2, "spleen": 0.2}.items()}
    vi |= {"prostate": 0.25 * v["prostate"], "brain": 1.0}
    share = {"muscle": 0.17, "gut": 0.16, "skin": 0.05, "adipose": 0.05, "red_marrow": 0.03, "bone": 0.05}
    share |= {"heart": 0.04, "brain": 0.12, "liver": 0.065, "spleen": 0.03, "kidneys": 0.19}
    q = {o: f * flow for o, f in share.items()}
    q |= {"prostate": 0.18 * (1 - hct) * v["prostate"], "salivary_glands": 0.074 * v["salivary_glands"]}
    q["rest"] = flow - sum(q.values())
    kps = {o: 2.0 for o in ("liver", "spleen", "lungs", "salivary_glands", "red_marrow")} | {"prostate": 0.1}
    kps |= {o: 0.02 for o in ("gut", "muscle", "skin", "adipose", "heart", "bone", "rest")}
    density = {"kidneys": 14, "salivary_glands": 38, "prostate": 26.6, "liver": 1.33, "spleen": 0.532, "gut": 1.596}
    krel = {"salivary_glands": 4.2e-4}
    for name, volume, sites in (("tumour", 0.01, 57), ("tumour2", 0.34, 19), ("tumour_rest", 13 / 266, 266)):
        v[name], vp[name], vi[name] = volume, 0.05 * (1 - hct) * volume, 0.38 * volume
        q[name], kps[name], density[name], krel[name] = 0.5 * volume, 0.6, sites, 1.5e-4
    organs = {
        o: Organ(
            Vp=vp[o], Vi=vi[o], Q=q.get(o, 0.0), PS=kps.get(o, 0.0) * v[o], R0=density.get(o, 0.0) * v[o],
            kint=1e-3, krel=krel.get(o, 2.9e-4),
        )
        for o in v
    }  # fmt: skip
    cell = (v["kidneys"] - vi["kidneys"] - vp["kidneys"]) * 2 / 3
    return Body(
        organs=organs, V_arterial=0.105 * serum, V_venous=0.225 * serum, V_serum=serum, Vcell=cell,
        GFR=0.2 / 3 * 201 / 151, theta=0.66, f_exc=0.96, kon=0.046, koff=0.368, back=back,
    )  # fmt: skip


def solve(
    body: Body, dose: float, decay: float, minutes: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Labelled ligand by region after a bolus into the veins, and its integral from 0, per labelled ligand given.

    All ligand is followed. Labelled and unlabelled ligand behave alike, so of a bolus the labelled share is the same
    everywhere and falls with decay alone: that a model which follows both finds the same is part of the test.

    Parameters
    ----------
    body : from `dotatate` or `psma`
    dose : all ligand given [nmol]
    decay : physical decay constant [1/min]
    minutes : (n,) array, increasing, from 0 [min]
    """
    names = tuple(body.organs)
    n, organ = len(names), body.organs
    k = names.index("kidneys")

    def column(what: str) -> np.ndarray:
        return np.array([getattr(organ[o], what) for o in names])

    Vp, Vi, Q, PS, R0 = (column(x) for x in ("Vp", "Vi", "Q", "PS", "R0"))
    kint, krel = column("kint"), column("krel")
    lung, liver = names.index("lungs"), names.index("liver")
    portal = [names.index(o) for o in PORTAL]
    systemic = np.array([o != "lungs" for o in names])
    Qt = Q[systemic].sum()
    Qin = np.where(systemic, Q, 0.0)
    drains = np.array([o not in (*PORTAL, "lungs") for o in names])
    Qout = Qin.copy()
    Qout[liver] += Q[portal].sum()
    fil, exc = body.GFR * body.theta, body.GFR * body.theta * body.f_exc
    rea = fil - exc
    size = 4 * n + 6  # v, i, b, n of every organ; arterial, venous, protein, cells, urine, released

    def linear(x: np.ndarray) -> np.ndarray:
        """Rates of everything but binding."""
        v, i, b, inside = x[:n], x[n : 2 * n], x[2 * n : 3 * n], x[3 * n : 4 * n]
        art, ven, _, cell, _, _ = x[4 * n :]
        cv, ci = v / Vp, i / Vi
        dv = Qin * art / body.V_arterial - Qout * cv - PS * (cv - ci)
        dv[lung] += Qt * (ven / body.V_venous - cv[lung])
        dv[liver] += (Q[portal] * cv[portal]).sum()
        dv[k] += -fil * cv[k] + rea * cell / body.Vcell
        back = krel * inside
        di = PS * (cv - ci) + body.koff * b + body.back * back
        di[k] += fil * (cv[k] - ci[k])
        db = -(body.koff + kint) * b
        dn = kint * b - back
        dart = Qt * (cv[lung] - art / body.V_arterial)
        dven = (Qout * cv)[drains].sum() - (Qt / body.V_venous + body.kpr) * ven
        other = [dart, dven, body.kpr * ven, rea * (ci[k] - cell / body.Vcell), exc * ci[k]]
        return np.concatenate([dv, di, db, dn, other, [(1 - body.back) * back.sum()]])

    A = np.array([linear(e) for e in np.eye(size)]).T  # the same as a matrix
    at_i, at_b, o = slice(n, 2 * n), slice(2 * n, 3 * n), np.arange(n)
    per = body.kon / Vi
    sums = np.zeros((n + 3, size))  # regions, serum, urine, released
    for j in range(n):
        sums[j, [j, n + j, 2 * n + j, 3 * n + j]] = 1
    sums[k, 4 * n + 3] = 1
    sums[n, [*range(n), 4 * n, 4 * n + 1, 4 * n + 2]] = 1 / body.V_serum
    sums[n + 1, 4 * n + 4] = sums[n + 2, 4 * n + 5] = 1

    def rhs(t: float, y: np.ndarray) -> np.ndarray:
        x = y[:size]
        out = np.concatenate([A @ x, sums @ x * np.exp(-decay * t) / dose])
        bound = per * x[at_i] * (R0 - x[at_b])
        out[at_i] -= bound
        out[at_b] += bound
        return out

    def jacobian(t: float, y: np.ndarray) -> np.ndarray:
        J = np.zeros((y.size, y.size))
        J[:size, :size] = A
        J[size:, :size] = sums * np.exp(-decay * t) / dose
        for row, sign in ((n, -1.0), (2 * n, 1.0)):
            J[row + o, n + o] += sign * per * (R0 - y[at_b])
            J[row + o, 2 * n + o] -= sign * per * y[at_i]
        return J

    y = np.zeros(size + n + 3)
    y[4 * n + 1] = dose
    run = solve_ivp(
        rhs, (0.0, float(minutes[-1])), y, "Radau", minutes, rtol=1e-8, atol=1e-12, jac=jacobian, max_step=np.inf
    )
    labels = (*names, "serum", "urine", "released")
    now = run.y[:size].T @ sums.T * np.exp(-decay * minutes)[:, None] / dose
    return dict(zip(labels, now.T, strict=True)), dict(zip(labels, run.y[size:], strict=True))
