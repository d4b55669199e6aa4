"""Two resolutions of one tumour: they agree where they must, and the spatial one obeys closed forms."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from pkmodel.assembly import assemble
from pkmodel.checks import check
from pkmodel.errors import ModelError
from pkmodel.model import Model
from pkmodel.simulation import simulate
from pkmodel.spatial import grid, twin
from support import report

PLASMA: dict[str, Any] = {
    "compartments": {"plasma": {"unit": "nmol", "region": "blood"}, "gone": {"unit": "nmol", "region": "urine"}},
    "flows": ["plasma -> gone: kel*plasma"],
    "administration": {"injection": {"plasma": "1"}},
    "connect": {"*": {"inlet": "plasma", "outlet": "plasma", "lymph": "plasma"}},
}
IGG = {
    "kel": "0.0125 1/h", "Vplasma": "3 L", "Hct": "0.43 1", "Rh": "4.838 nm", "Dfree": "6.2e-7 cm2/s",
    "P_tumour": "3.873e-7 cm/s", "eps": "0.2393 1", "KD": "1 nmol/L", "kon": "0.36 L/nmol/h",
}  # fmt: skip


def body(bmax: float = 400.0, kint: float = 0.05, set_: dict[str, str] | None = None, **changes: str) -> Model:
    """A plasma of 3 L with tumour_simple in it."""
    given = {**IGG, **changes}
    parameters = {**given, "koff": {"formula": "kon*KD", "unit": "1/h"}}
    table = {
        "Bmax": {"unit": "nmol/L", "values": {"tumour": bmax}},
        "kint": {"unit": "1/h", "values": {"tumour": kint}},
        "V_inlet": {"unit": "L", "formula": "Vplasma"},
    }
    return assemble("body", ["tumour_simple"], table=table, parameters=parameters, set=set_ or {}, **PLASMA)


@lru_cache(maxsize=1)
def igg() -> tuple[Any, Any, Any, Any]:
    model = body()
    spatial = twin(model, shells=8)
    times = [0.0, 6.0, 24.0, 96.0, 240.0]
    return model, spatial, simulate(model, "10 nmol once", times), simulate(spatial.model, "10 nmol once", times)


@pytest.mark.parametrize(
    ("shape", "depth", "entry"), [("cylinder", 67.0, 8.0), ("sphere", 200.0, 200.0), ("slab", 50.0, 0.0)]
)
def test_shells_fill_the_tissue(shape: Any, depth: float, entry: float) -> None:
    g = grid(shape, depth, 20, entry=entry, growth=1.15)
    report(f"{shape}: shares add up", 1.0, float(g.shares.sum()), rtol=1e-14)
    inner, outer = {"cylinder": (8.0, 75.0), "sphere": (0.0, 200.0), "slab": (0.0, 50.0)}[shape]
    power = {"cylinder": 2, "sphere": 3, "slab": 1}[shape]
    first = sorted((g.entry, g.entry + (-1 if shape == "sphere" else 1) * g.edges[1]))
    share = (first[1] ** power - first[0] ** power) / (outer**power - inner**power)
    report(f"{shape}: share of the first shell", share, float(g.shares[0]), rtol=1e-12)


def test_proofs_hold_for_the_twin() -> None:
    _, spatial, _, _ = igg()
    found = check(spatial.model)
    print(found)
    assert found


def test_well_mixed_limit() -> None:
    """Proteins leave vessels slowly and spread fast: the shells together do what the compartment does."""
    _, _, one, many = igg()
    for k, t in list(enumerate(one["time"].values))[1:]:
        report(f"tumour at {t:g} h [nmol]", float(one["tumour"][k]), float(many["tumour"][k]), rtol=0.05)
    report("its integral [nmol h]", float(one["integral_tumour"][-1]), float(many["integral_tumour"][-1]), rtol=0.01)


def test_nothing_is_lost_in_the_cylinder() -> None:
    _, _, _, many = igg()
    for k, t in enumerate(many["time"].values):
        there = sum(float(many[o][k]) for o in ("whole_body", "urine"))
        report(f"given = present + excreted at {t:g} h", 10.0, there, rtol=1e-9)


def test_bound_falls_with_the_distance_and_free_is_what_the_profile_says() -> None:
    model, spatial, _, many = igg()
    bound = spatial.profile(many, "b")
    assert np.all(np.diff(bound.values[:, 1]) < 0.0), (
        "early on, cells at the vessel hold most: the binding-site barrier"
    )
    amount = float((bound.values[:, 2] * spatial.grid.shares).sum()) * model.canonical_values()["mass_tumour"] / 1040.0
    states = sum(float(many[f"state_b_tumour_s{k + 1}"][2]) for k in range(8))
    report("the profile adds up to the amount [nmol]", states, amount, rtol=1e-12)


def test_nothing_is_lost_in_a_sphere() -> None:
    spatial = twin(body(), shells=5, shape="sphere", depth=150.0)
    run = simulate(spatial.model, "10 nmol once", [0.0, 24.0, 240.0])
    for k in (1, 2):
        report("sphere: given = present + excreted", 10.0, float(run["whole_body"][k] + run["urine"][k]), rtol=1e-9)


def test_front_of_a_tight_binder_in_a_slab() -> None:
    """Shrinking core: what has come in is bound, behind a front at x with x^2 = 2 D eps AUC/Ag.

    Graff CP, Wittrup KD. Cancer Res 2003;63:1288. The plasma stands still, the wall does not resist, binding is
    fast and for good, and nothing is taken in: then the front is where the theory says, full sites behind it.
    """
    eps, bmax, plasma = 0.25, 1000.0, 10.0  # sites far above what is free: the core shrinks slowly
    tight = {"kel": "0 1/h", "P_tumour": "1 cm/s", "KD": "1e-6 nmol/L", "kon": "100 L/nmol/h", "eps": f"{eps} 1"}
    flow = {"perfusion_tumour": "10000 1/min", "mass_tumour": "0.05 g"}  # plasma loses 0.1 %
    spatial = twin(body(bmax, 0.0, flow, **tight), shells=30, shape="slab", depth=90.0, growth=1.0)
    hours = np.array([0.0, 1.0, 2.0, 4.0])
    run = simulate(spatial.model, f"{3.0 * plasma} nmol once", hours, rtol=1e-6)
    held = (spatial.profile(run, "b").values * spatial.grid.shares[:, None]).sum(axis=0) / bmax * 90.0
    squared = 2.0 * 6.2e-7 * 1e8 * 3600.0 * eps * plasma * hours / bmax  # D in um2/h
    for t, x2, got in zip(hours[1:], squared[1:], held[1:], strict=True):
        report(f"front at {t:g} h [um]", float(np.sqrt(x2)), float(got), rtol=0.05)
    report("four times as long, twice as far", 2.0, float(held[3] / held[1]), rtol=0.02)


def test_steady_profile_of_a_sphere_converges_at_second_order() -> None:
    """Trapped at first order everywhere and fed at its surface: c = sinh(m x)/(x sinh m), mean 3 (m coth m - 1)/m^2."""
    errors = []
    for shells in (6, 12, 24):
        g = grid("sphere", 1.0, shells, entry=1.0, growth=1.0)
        a = np.zeros((shells, shells))
        between = g.faces[1:]
        for k, conductance in enumerate(between):
            a[[k, k + 1], [k, k + 1]] += conductance
            a[k, k + 1] -= conductance
            a[k + 1, k] -= conductance
        a[0, 0] += g.faces[0]
        m = 3.0
        a += np.diag(m**2 * g.shares)
        source = np.zeros(shells)
        source[0] = g.faces[0]
        mean = float(g.shares @ np.linalg.solve(a, source))
        errors.append(abs(mean - 3.0 * (m / np.tanh(m) - 1.0) / m**2))
    for coarse, fine in pairwise(errors):
        report("order of convergence", 2.0, float(np.log2(coarse / fine)), atol=0.25)


def test_lag_of_the_mean_is_the_compartment_s_resistance() -> None:
    """krogh_G of tumour_perfused against the finite volumes: uniform sink in a cylinder from 8 to 75 um."""
    g = grid("cylinder", 67.0, 400, entry=8.0, growth=1.0)
    through = 1.0 - np.concatenate([[0.0], np.cumsum(g.shares)[:-1]])  # all that is taken further out crosses each face
    lag = np.cumsum(through / g.faces)
    report("mean lag per sink and diffusion [um2]", 4265.5727, float(g.shares @ lag), rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: grid("cube", 50.0, 10), "'cube' is not known; allowed: slab, cylinder, sphere"),  # type: ignore[arg-type]
        (lambda: grid("slab", 50.0, 1), "at least 2 shells"),
        (lambda: grid("cylinder", 50.0, 10), "the radius of its capillary"),
        (lambda: grid("sphere", 50.0, 10, entry=8.0), "at its surface"),
        (lambda: twin(body(), shape="sphere"), "a sphere needs depth="),
        (lambda: twin(body(), depth=30.0), "change those"),
        (lambda: twin(body(), "node"), "no v_node"),
        (lambda: igg()[1].profile(igg()[3], "x"), "no part 'x'; known: i, b, n"),
    ],
)
def test_what_makes_no_sense(make: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make()
