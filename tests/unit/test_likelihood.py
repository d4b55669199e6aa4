"""The Jacobian is the derivative of the residuals, for every way in which parameters enter; groups share nothing."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import Array, curve, curves, protocol

from pkmodel.assembly import load_model
from pkmodel.inference.binding import build_likelihood
from pkmodel.inference.fitting import fit
from pkmodel.inference.likelihood import Likelihood
from pkmodel.inference.measured_inputs import read_inputs
from pkmodel.labelling import label
from pkmodel.regimen import Regimen
from pkmodel.simulation import simulate
from support import report

# Sixth-order central difference: error h^6, so h = 1e-2 leaves about 1e-12 of curvature
STENCIL = ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60))


def _difference(likelihood: Likelihood, x: Array, step: float) -> Array:
    out = np.zeros((likelihood.points, x.size))
    for j in range(x.size):
        e = np.zeros(x.size)
        e[j] = step
        for m, w in STENCIL:
            out[:, j] += w * (likelihood.residuals(x + m * e) - likelihood.residuals(x - m * e)) / step
    return out


def _check(name: str, likelihood: Likelihood, *, step: float = 1e-2, rtol: float = 1e-7) -> None:
    """At three random points around the start, each column relative to its largest entry."""
    rng = np.random.default_rng(11)
    begin = np.array([s.to_scale(s.start) for s in likelihood.slots])
    for k in range(3):
        scale = np.array([1.0 if s.transform != "none" else 0.2 * max(abs(s.start), 1e-3) for s in likelihood.slots])
        x = begin + 0.3 * rng.standard_normal(begin.size) * scale
        exact, numeric = likelihood.jacobian(x), np.empty((likelihood.points, x.size))
        for j in range(x.size):
            numeric[:, j] = _difference(likelihood, x, step * scale[j])[:, j]
        size = np.abs(exact).max(axis=0)
        assert np.all(size > 0)
        report(f"{name}, point {k + 1}: worst error", 0.0, float((np.abs(exact - numeric) / size).max()), atol=rtol)


def _spect() -> Likelihood:
    t = np.array([1.0, 4.0, 24.0, 72.0, 168.0])
    liver = curve("liver", t, [20.0, 30, 25, 12, 4])
    kidney = curve("kidney", t, [9.0, 12, 9, 4, 1], decay_corrected=True, t_end=t + 0.5)
    rules = protocol("fraction k_uptake k_washout", shared=["k_uptake"])
    return build_likelihood(label(load_model("organ_2_phase"), "Lu-177"), curves(liver, kidney), rules)


def test_regions_with_a_shared_rate() -> None:
    likelihood = _spect()
    assert [s.label for s in likelihood.slots] == [
        "fraction[liver]", "k_uptake", "k_washout[liver]", "fraction[kidney]", "k_washout[kidney]"
    ]  # fmt: skip
    _check("two regions, shared uptake", likelihood)


def test_logit_and_plain_scales() -> None:
    t = np.array([1.0, 4.0, 24.0, 72.0, 168.0])
    free = {
        "fraction": {"transform": "logit"},
        "share": {"transform": "logit", "upper": 0.9},
        "k_fast": {"transform": "none", "start": 0.2, "lower": 0.1},
        "k_slow": {},
        "k_uptake": {},
    }
    model = label(load_model("organ_3_phase"), "Lu-177")
    _check("logit and plain", build_likelihood(model, curves(curve("liver", t, [20.0, 30, 25, 12, 4])), protocol(free)))


def _blood() -> dict[str, tuple[Array, Array]]:
    t = np.array([0.0, 0.3, 0.6, 1.0, 1.5, 3.0, 6.0, 12.0, 30.0, 60.0, 100.0]) / 60
    cp = np.array([0.0, 4.0, 60.0, 45.0, 25.0, 12.0, 7.0, 4.0, 2.0, 1.0, 0.6])
    return {"Cp": (t, cp), "Cb": (t, 0.8 * cp + np.where(t > 0, 0.3, 0.0))}


def _brain(model: str, free: str, **settings: object) -> Likelihood:
    start = np.array([0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0]) / 60
    end = np.array([0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0]) / 60
    changes = {"unit": "kBq/mL", "nuclide": "C-11", "decay_corrected": True}
    data = curves(*(curve(r, start, np.linspace(1, 9, 8), t_end=end, **changes) for r in ("FC", "CBL")))
    loaded = load_model(model)
    inputs, _ = read_inputs(loaded, data, _blood())
    return build_likelihood(loaded, data, protocol(free, **settings), inputs)


@pytest.mark.parametrize("observation", ["frame", "midpoint"])
def test_one_tissue_with_a_delay_shared_by_two_regions(observation: str) -> None:
    likelihood = _brain("one_tissue", "K1 k2 vB delay", shared=["delay"], observation=observation)
    # at a delay the prediction has kinks where a knot crosses a frame's edge, so steps stay far below a second
    _check(f"1TCM with delay, {observation}", likelihood, step=2e-4, rtol=1e-6)


def test_a_tie_moves_both() -> None:
    _check("2TCM, k2 = K1 and k4 = k3", _brain("two_tissue", "K1 k3", ties={"k2": "K1", "k4": "k3"}))


def test_a_whole_body_with_several_observables() -> None:
    t = np.array([0.5, 2.0, 6.0, 24.0, 72.0])
    truth = simulate(label(load_model("whole_body_linear"), "Lu-177"), "1 GBq once", t)
    names = ("kidneys", "liver", "remainder", "whole_body", "blood")
    data = curves(*(curve(n, t, truth[n].to_numpy()) for n in names))
    rules = protocol("k_urine k_kidneys_in k_kidneys_out k_liver_in k_liver_out k_rest_in k_rest_out")
    model = label(load_model("whole_body_linear"), "Lu-177")
    likelihood = build_likelihood(model, data, rules)
    assert len(likelihood.groups()) == 1 and likelihood.points == 25
    _check("whole body, five observables", likelihood)


def _patient() -> tuple[Array, dict[str, Array]]:
    t = np.array([1.0, 4.0, 24.0, 48.0, 96.0, 168.0])
    model = label(load_model("psma617_siebinga2023"), "Lu-177", cold=True)
    truth = simulate(model, Regimen("6 GBq once"), t)
    return t, {n: truth[n].to_numpy() for n in ("salivary_glands", "kidneys", "tumour")}


def test_a_nonlinear_model() -> None:
    """Hot and cold ligand compete for the glands of the population model."""
    t, truth = _patient()
    data = curves(*(curve(n, t, v, injected_activity=6000.0) for n, v in truth.items()))
    model = label(load_model("psma617_siebinga2023"), "Lu-177", cold=True)
    likelihood = build_likelihood(model, data, protocol("Bmax k12 k13 k15_typical k10_typical"))
    assert not likelihood.blocks[0].problem.compiled.linear
    _check("PSMA-617 with saturable glands", likelihood, rtol=2e-5)


def test_a_nonlinear_model_is_recovered_from_its_own_curves() -> None:
    t, truth = _patient()
    data = curves(*(curve(n, t, v, injected_activity=6000.0) for n, v in truth.items()), injected_activity=6000.0)
    free = {"Bmax": {"start": 60.0}, "k12": {"start": 0.015}, "k13": {"start": 0.006}, "k15_typical": {"start": 5e-4}}
    got = fit("psma617_siebinga2023", data, protocol(free, cold=True, starts=1))
    true = {n: load_model("psma617_siebinga2023").parameters[n].value for n in free}
    for name, value in true.items():
        assert value is not None
        report(f"PSMA-617 {name}", value, got.values[name], rtol=1e-5)


def test_a_whole_body_is_recovered_from_its_own_curves() -> None:
    t = np.array([0.5, 2.0, 6.0, 24.0, 72.0, 120.0])
    model = load_model("whole_body_linear")
    truth = simulate(label(model, "Lu-177"), "1 GBq once", t)
    names = ("kidneys", "liver", "remainder", "blood")
    data = curves(*(curve(n, t, truth[n].to_numpy()) for n in names), curve("box", t, t, kind="field_of_view"))
    free = {n: {"start": 1.5 * (model.parameters[n].value or 0)} for n in ("k_urine", "k_kidneys_in", "k_liver_out")}
    got = fit("whole_body_linear", data, protocol(free))
    assert got.likelihood.regions == names  # never the box
    for name in free:
        report(f"whole body {name}", model.parameters[name].value or 0.0, got.values[name], rtol=1e-8)


def test_groups_share_no_parameter_and_leave_none_out() -> None:
    t = np.array([1.0, 4.0, 24.0, 72.0])
    data = curves(*(curve(r, t, [20.0, 30, 25, 12]) for r in ("a", "b", "c")))
    model = label(load_model("organ_2_phase"), "Lu-177")
    apart = build_likelihood(model, data, protocol("fraction k_uptake k_washout")).groups()
    assert [g.regions for g in apart] == [("a",), ("b",), ("c",)]
    whole = build_likelihood(model, data, protocol("fraction k_uptake k_washout", shared=["k_washout"]))
    (together,) = whole.groups()
    assert together.regions == ("a", "b", "c")
    x = np.array([s.to_scale(s.start) for s in whole.slots])
    assert np.array_equal(together.residuals(x), whole.residuals(x))
    assert np.array_equal(together.jacobian(x), whole.jacobian(x))


def test_a_datum_without_weight_has_no_residual() -> None:
    t = np.array([1.0, 4.0, 24.0, 72.0])
    c = curve("a", t, [20.0, 999.0, 25, 12], weights=np.array([1.0, 0.0, 1.0, 1.0]))
    model = label(load_model("organ_1_phase"), "Lu-177")
    likelihood = build_likelihood(model, curves(c), protocol("fraction k_washout", error={"kind": "weights"}))
    assert likelihood.points == 3
    x = np.array([s.to_scale(s.start) for s in likelihood.slots])
    assert likelihood.residuals(x).shape == (3,) and likelihood.jacobian(x).shape == (3, 2)
