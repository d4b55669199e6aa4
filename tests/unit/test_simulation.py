"""Giving a regimen to a model and following it: events, inputs, results, and what is refused."""

from __future__ import annotations

import math
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from pkmodel.assembly import load_model
from pkmodel.errors import ModelError, SimulationError
from pkmodel.labelling import label
from pkmodel.model import Model
from pkmodel.model_file import model_from_dict
from pkmodel.nuclides import nuclide
from pkmodel.regimen import Administration, Regimen
from pkmodel.simulation import prepare, simulate
from support import report

K = 0.2


def wash(**extra: Any) -> Model:
    return model_from_dict(
        {
            "name": "wash",
            "parameters": {"k": f"{K} 1/h"},
            "compartments": {"a": "nmol"},
            "administration": {"iv": "a"},
            "flows": ["a -> : k*a"],
            "observables": {"A": "a"},
            **extra,
        }
    )


def saturable() -> Model:
    return wash(parameters={"Vm": "2 nmol/h", "Km": "3 nmol"}, flows=["a -> : Vm*a/(Km + a)"])


def driven() -> Model:
    return wash(
        parameters={"k": f"{K} 1/h", "delay": {"value": 0.0, "unit": "h"}, "K1": "1 1/h"},
        inputs={"C": {"unit": "nmol/L", "delay": "delay"}},
        flows=["a -> : k*a", " -> a: K1*C"],
        compartments={"a": "nmol/L"},
        administration={},
        observables={"A": "a", "input": "C"},
    )


def value(run: xr.Dataset, i: int, name: str = "A") -> float:
    return float(run[name][i])


def test_bolus() -> None:
    run = simulate(wash(), "10 nmol once", [0.0, 1.0, 5.0, 50.0])
    for i, t in enumerate(run.time.values):
        report(f"amount at {t:g} h", 10 * math.exp(-K * t), value(run, i), rtol=1e-13)
        report(f"integral to {t:g} h", 10 * -math.expm1(-K * t) / K, value(run, i, "integral_A"), rtol=1e-13)
    assert run.attrs["solver"] == "exact propagation"


def test_infusion() -> None:
    run = simulate(wash(), "10 nmol over 4 h once", [0.0, 1.0, 4.0, 9.0])
    for i, t in enumerate([0.0, 1.0, 4.0, 9.0]):
        inside = 10 / 4 / K * -math.expm1(-K * min(t, 4.0)) * math.exp(-K * max(t - 4.0, 0.0))
        report(f"amount at {t:g} h", inside, value(run, i), rtol=1e-13)


def test_repeated_doses_and_the_dose_at_an_output_time_counts() -> None:
    run = simulate(wash(), "10 nmol every 6 h x 3", [0.0, 6.0, 12.0, 18.0])
    q = math.exp(-6 * K)
    for i, expected in enumerate([10.0, 10 * (1 + q), 10 * (1 + q + q**2), 10 * (q + q**2 + q**3)]):
        report(f"after dose {i + 1}", expected, value(run, i), rtol=1e-13)


def test_rounding_does_not_lose_a_dose() -> None:
    """Three times 0.1 h is not 0.3 h in floating point; the dose at 0.3 h is given at 0.3 h all the same."""
    run = simulate(wash(), "10 nmol every 0.1 h x 4", [0.3])
    q = math.exp(-0.1 * K)
    report("four doses", 10 * (1 + q + q**2 + q**3), value(run, 0), rtol=1e-13)
    over = simulate(wash(), Regimen("10 nmol over 0.1 h once at 0.2 h"), [0.3])
    report("an infusion that ends there", 10 / 0.1 / K * -math.expm1(-0.1 * K), value(over, 0), rtol=1e-12)


def test_two_doses_at_once_add_up() -> None:
    two = Regimen.of(Administration(1.0, amount=3.0), Administration(1.0, amount=4.0))
    report("3 and 4 nmol", 7.0, value(simulate(wash(), two, [1.0]), 0), rtol=1e-15)


@pytest.mark.parametrize("model", [wash(), saturable()], ids=["linear", "nonlinear"])
def test_nothing_given_and_nothing_after_the_end(model: Model) -> None:
    assert value(simulate(model, "0 nmol once", [0.0, 5.0]), 1) == 0.0
    assert value(simulate(model, None, [0.0, 5.0]), 1) == 0.0
    late = Regimen("10 nmol once") + Regimen("10 nmol once at 100 h") + Regimen("10 nmol over 50 h once at 3 h")
    early = Regimen("10 nmol once") + Regimen.of(Administration(3.0, amount=2 / 5 * 1.0, duration=2.0))
    report(
        "later events change nothing",
        value(simulate(model, early, [5.0]), 0),
        value(simulate(model, late, [5.0]), 0),
        rtol=1e-9,
    )
    assert value(simulate(model, "10 nmol once", [0.0]), 0) == 10.0
    assert value(simulate(model, "10 nmol once at 2 h", [1.0, 3.0]), 0) == 0.0


def test_saturable_against_its_implicit_solution() -> None:
    run = simulate(saturable(), "10 nmol once", [1.0, 5.0, 20.0], rtol=1e-10)
    assert "Rosenbrock" in run.attrs["solver"]
    for i, t in enumerate([1.0, 5.0, 20.0]):
        x = value(run, i)
        report(f"time at which {x:.6g} nmol are left", t, (3 * math.log(10 / x) + 10 - x) / 2, rtol=1e-8)
        report("integral", (3 * (10 - x) + (100 - x * x) / 2) / 2, value(run, i, "integral_A"), rtol=1e-8)


def test_input_is_integrated_exactly() -> None:
    """A ramp of slope s into a washout: s/k (t - (1 - exp(-kt))/k), whatever the knots and output times."""
    run = simulate(driven(), None, [0.37, 2.0, 7.1], inputs={"C": ([0.0, 1.1, 8.0], [0.0, 2.2, 16.0])})
    for i, t in enumerate([0.37, 2.0, 7.1]):
        report(f"ramp at {t} h", 2 / K * (t - -math.expm1(-K * t) / K), value(run, i), rtol=1e-12)
        report(f"the input itself at {t} h", 2 * t, value(run, i, "input"), rtol=1e-13)
        report("and its integral", t * t, value(run, i, "integral_input"), rtol=1e-13)


@pytest.mark.parametrize("late", [-0.5, 0.0, 0.8])
def test_a_delay_shifts_the_input(late: float) -> None:
    curve = {"C": ([0.0, 1.0, 3.0, 30.0], [0.0, 4.0, 1.0, 1.0])}
    shifted = {"C": (np.array([0.0, 1.0, 3.0, 30.0]) + late, [0.0, 4.0, 1.0, 1.0])}
    a = simulate(driven().replace(delay=late), None, [0.5, 2.0, 9.0], inputs=curve)
    b = simulate(driven(), None, [0.5, 2.0, 9.0], inputs=shifted)
    for i in range(3):
        report(f"delay {late:g} h", value(b, i), value(a, i), rtol=1e-12)


def test_an_input_is_zero_before_it_begins_and_says_so() -> None:
    run = simulate(driven(), None, [1.0, 3.0], inputs={"C": ([2.0, 5.0], [1.0, 1.0])})
    assert value(run, 0) == 0.0
    report("an hour of 1 nmol/L", -math.expm1(-K) / K, value(run, 1), rtol=1e-12)
    assert "begins at 2 h above zero" in run.attrs["warnings"]


@pytest.mark.parametrize(
    ("times", "says"),
    [([-1.0, 2.0], "not be negative"), ([2.0, 1.0], "must increase"), ([1.0, 1.0], "must increase"),
     ([], "list of finite numbers"), ([math.nan], "finite"), ([[1.0, 2.0]], "list of finite numbers")],
)  # fmt: skip
def test_times_are_checked(times: Any, says: str) -> None:
    with pytest.raises(SimulationError, match=says):
        simulate(wash(), "10 nmol once", times)


LU = nuclide("Lu-177")
COLD = label(wash(), "Lu-177", cold=True)
REFUSED: dict[str, tuple[Model, Any, dict[str, Any], str]] = {
    "amount missing": (wash(), "7.4 GBq once", {}, "not labelled, so .* needs an amount"),
    "activity missing": (label(wash(), "Lu-177"), "10 nmol once", {}, "labelled with Lu-177, so .* needs an activity"),
    "cold missing": (COLD, "7.4 GBq once", {}, "follows cold ligand, so .* needs an amount"),
    "hot above amount": (COLD, Regimen("7.4 GBq once", amount="1 nmol"), {},
        r"7400 MBq is 10\.18 nmol .*more than the 1 nmol"),
    "other nuclide": (COLD, Regimen("7.4 GBq once", amount="20 nmol", nuclide="Ac-225"), {},
        "the regimen gives Ac-225"),
    "other nuclide of a model in MBq": (label(load_model("psma617_siebinga2023"), "Lu-177"),
        Regimen("7.4 GBq once", nuclide="Ac-225"), {}, "the regimen gives Ac-225"),
    "model in MBq given nmol": (load_model("psma617_siebinga2023"), "10 nmol once", {}, "its states are activities"),
    "unknown route": (wash(), "10 nmol once into iw", {}, "into 'iw'.*known: iv"),
    "no route": (driven(), "10 nmol once", {"inputs": {"C": ([0, 9], [1, 1])}}, "no way to give"),
    "input missing": (driven(), None, {}, r"input C \[nmol/L\] is not given; pass inputs="),
    "input unknown": (wash(), "1 nmol once", {"inputs": {"C": ([0, 9], [1, 1])}}, "C: no such input; known: none"),
    "input too short": (driven(), None, {"inputs": {"C": ([0, 1], [1, 1])}}, "ends at 1 h, but .* until 2 h"),
    "input backwards": (driven(), None, {"inputs": {"C": ([0, 3, 2], [1, 1, 1])}}, "must increase; knot 3 at 2 h"),
    "input with nan": (driven(), None, {"inputs": {"C": ([0, 3], [1, math.nan])}}, "must be finite"),
    "input of one point": (driven(), None, {"inputs": {"C": ([0], [1])}}, "at least two times"),
    "input of two lengths": (driven(), None, {"inputs": {"C": ([0, 3], [1, 2, 3])}}, "as many values"),
    "sensitivity unknown": (wash(), "1 nmol once", {"sensitivities": ["kk"]}, "kk: no such parameter; known: k"),
    "an amount into masses": (wash(compartments={"a": "g"}), "1 nmol once", {}, "its states are masses"),
    "neither amount, activity nor mass": (wash(compartments={"a": "L"}), "1 nmol once", {}, "a is in 'L'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    model, regimen, options, says = REFUSED[case]
    with pytest.raises(SimulationError, match=says):
        simulate(model, regimen, [0.0, 2.0], **options)


def test_a_parameter_without_a_value_is_refused() -> None:
    with pytest.raises(ModelError, match="no value for k"):
        simulate(wash(parameters={"k": {"unit": "1/h"}}), "1 nmol once", [1.0])


def test_carrier_free_ligand_is_not_refused_for_rounding() -> None:
    regimen = Regimen("7.4 GBq once", amount=f"{7400.0 / LU.mbq_per_nmol!r} nmol")
    run = simulate(COLD, regimen, [0.0])
    assert value(run, 0, "state_a_cold") == pytest.approx(0.0, abs=1e-12)


def test_a_solver_that_fails_says_why() -> None:
    explosive = wash(parameters={"k": "1 1/nmol/h"}, flows=[" -> a: k*a*a"])
    with pytest.raises(SimulationError, match="wash: ") as error:
        simulate(explosive, "1 nmol once", [2.0])
    print(error.value)


def test_warning_where_saturation_meets_a_label_without_cold() -> None:
    quiet = simulate(label(wash(), "Lu-177"), "1 GBq once", [1.0])
    assert quiet.attrs["warnings"] == ""
    loud = simulate(label(saturable(), "Lu-177"), "1 GBq once", [1.0])
    assert "saturates but is labelled without cold=True: cold ligand is not followed" in loud.attrs["warnings"]
    both = simulate(label(saturable(), "Lu-177", cold=True), Regimen("1 GBq once", amount="2 nmol"), [1.0])
    assert both.attrs["warnings"] == ""
    in_mbq = simulate(label(load_model("psma617_siebinga2023"), "Lu-177"), "1 GBq once", [1.0])
    assert "decayed ligand frees its place" in in_mbq.attrs["warnings"]


def test_units_in_the_result() -> None:
    model = wash(
        parameters={"k": f"{K} 1/h", "V": "2 L"},
        observables={"A": {"formula": "a", "unit": "pmol"}, "c": "a/V"},
    )
    run = simulate(model, "10 nmol once", [0.0, 5.0])
    assert run.time.attrs["units"] == "h"
    assert run["A"].attrs["units"] == "pmol" and run["integral_A"].attrs["units"] == "pmol h"
    assert run["c"].attrs["units"] == "nmol/L" and run["state_a"].attrs["units"] == "nmol"
    report("in pmol", 1e4 * math.exp(-1), value(run, 1), rtol=1e-12)
    report("in nmol/L", 5 * math.exp(-1), value(run, 1, "c"), rtol=1e-12)
    labelled = simulate(label(model, "Lu-177"), "1 GBq once", [0.0])
    assert labelled["A"].attrs["units"] == "MBq" and labelled["c"].attrs["units"] == "MBq/L"
    report("1 GBq", 1000.0, value(labelled, 0), rtol=1e-12)


def test_netcdf_round_trip(tmp_path: Path) -> None:
    run = simulate(label(wash(), "Lu-177"), "7.4 GBq every 1 wk x 2", days=14, sensitivities=["k"])
    assert run.time.size == 200 and float(run.time[-1]) == 336.0
    path = tmp_path / "run.nc"
    run.to_netcdf(path, engine="h5netcdf")
    with xr.open_dataset(path, engine="h5netcdf") as again:
        xr.testing.assert_identical(again.load(), run)
    assert run.attrs["nuclide"] == "Lu-177" and run.attrs["model"] == "wash_Lu177" and len(run.attrs["digest"]) == 64
    assert run.attrs["regimen"] == "7.4 GBq every 1 wk x 2"


def test_default_times_reach_past_the_last_dose() -> None:
    run = simulate(wash(), "1 nmol over 2 h every 1 wk x 3")
    assert float(run.time[-1]) == 2 * 168 + 2 + 240


def test_a_problem_is_prepared_once_and_solved_for_many_values() -> None:
    problem = prepare(wash(), "10 nmol once", [5.0])
    report("other values", 10 * math.exp(-0.5), problem.solve(np.array([0.1])).observed[0, 0], rtol=1e-13)
    report("model's own", 10 * math.exp(-1.0), problem.solve().observed[0, 0], rtol=1e-13)
    report(
        "changed model",
        10 * math.exp(-5.0),
        replace(problem, model=problem.model.replace(k="1 1/h")).solve().observed[0, 0],
        rtol=1e-13,
    )


def test_a_compartment_is_a_route_of_its_own() -> None:
    """`into` names a route or a compartment; a labelled compartment takes hot and cold by its plain name."""
    model = load_model("two_compartment")
    by_route = simulate(model, "10 nmol once", [0.0, 5.0])["plasma"]
    by_name = simulate(model, Regimen("10 nmol once", into="central"), [0.0, 5.0])["plasma"]
    assert np.array_equal(by_route, by_name)
    hot = label(model, "Lu-177", cold=True)
    plain = simulate(hot, Regimen("100 MBq once", amount="10 nmol"), [0.0, 5.0])["plasma"]
    named = simulate(hot, Regimen("100 MBq once", into="central", amount="10 nmol"), [0.0, 5.0])["plasma"]
    assert np.array_equal(plain, named)
    with pytest.raises(SimulationError, match="no way to give"):
        simulate(model, Regimen("10 nmol once", into="centrl"), [0.0, 5.0])


def test_a_model_with_a_triggered_event() -> None:
    """Washout until half is left; then it is filled up to 10 nmol, every ln 2/k hours."""
    model = wash(
        parameters={"k": f"{K} 1/h", "half": "5 nmol", "full": "10 nmol"},
        events=[{"when": "a < half", "set": {"a": "full"}, "name": "refill"}],
    )
    problem = prepare(model, "10 nmol once", [3.0, 5.0, 9.0], rtol=1e-10)
    solution = problem.solve()
    assert solution.status == 0 and "Rosenbrock" in solution.method
    span = math.log(2) / K
    for i, t in enumerate(problem.times):
        report(f"amount at {t:g} h", 10 * math.exp(-K * (t % span)), solution.states[0, i], rtol=1e-8)
    with pytest.raises(SimulationError, match="no derivatives of a model with events"):
        problem.solve(directions=[0])


def test_an_observable_may_have_the_name_of_a_compartment() -> None:
    text = """
    name = "same"
    parameters = { k = "0.5 1/h", Km = "2 nmol" }
    compartments = { a = "nmol", urine = "nmol" }
    flows = ["a -> urine: k*a/(1 + a/Km)"]
    observables = { urine = "urine", body = "a + urine" }
    """
    raw = tomllib.loads(text)
    hot = label(model_from_dict(raw), "Lu-177")
    run = simulate(hot, "3 GBq once into a", [1.0, 4.0])
    both = run["body"] - run["urine"]
    for k in range(2):
        molar = float(run["body"][k]) / float(run["state_a"][k] + run["state_urine"][k])
        report("a, from the observables [MBq]", molar * float(run["state_a"][k]), float(both[k]), rtol=1e-9)
        report("urine [MBq]", molar * float(run["state_urine"][k]), float(run["urine"][k]), rtol=1e-9)
