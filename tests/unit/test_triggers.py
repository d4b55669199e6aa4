"""Events with a trigger, against what can be worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import sbml_texts as x
from pkmodel.compiler.autonomous import autonomous
from pkmodel.compiler.system import build_system
from pkmodel.errors import ModelError, SimulationError
from pkmodel.model import Model
from pkmodel.model_file import model_from_dict, model_from_toml, model_to_toml
from pkmodel.simulation import simulate
from pkmodel.solve.records import Kind, records
from pkmodel.solve.status import Status
from pkmodel.trigger_walk import Followed, Machine
from pkmodel.triggers import settled, triggered

HALF = math.log(2) / 0.1  # [h]


def washout(*events: dict[str, Any], **more: Any) -> Model:
    """An organ that empties with 0.1/h from 1 nmol, and a counter."""
    return model_from_dict(
        {
            "name": "washout",
            "parameters": {"k": "0.1 1/h", "start": "1 nmol", "top": "1 nmol"},
            "compartments": {"organ": {"unit": "nmol", "initial": "start"}, "count": "nmol"},
            "flows": ["organ -> : k*organ"],
            "observables": {"organ_now": "organ", "counted": "count"},
            "events": list(events),
            **more,
        }
    )


def run(model: Model, *times: float, given: Any = ()) -> Followed:
    model = settled(model)
    system = autonomous(build_system(model), report=("organ_now", "counted"))
    values = model.canonical_values()
    p = np.array([values[n] for n in model.primary])
    return Machine(triggered(system, model)).run(p, records(given), np.array(times), 1e-10, 1e-13)


def test_a_level_is_found_where_it_is_crossed() -> None:
    """Refilled at a half: after each half-life, exactly."""
    model = washout({"name": "refill", "when": "organ < 0.5", "set": {"organ": "top", "count": "count + 1"}})
    got = run(model, 0.0, HALF * 2.5, 50.0)
    assert [name for _, name in got.happened] == ["refill"] * 7
    np.testing.assert_allclose([t for t, _ in got.happened], HALF * np.arange(1, 8), rtol=1e-8)
    assert got.out[1, 0] == pytest.approx(2**-0.5, rel=1e-7)
    assert got.out[:, 1].tolist() == [0.0, 2.0, 7.0]


def test_a_time_is_met_exactly_and_reported_after() -> None:
    model = washout({"when": "t >= 4.3", "set": {"organ": "organ + 1"}})
    got = run(model, 4.0, 4.3, 5.0)
    assert [t for t, _ in got.happened] == [4.3]
    assert got.out[1, 0] == pytest.approx(math.exp(-0.43) + 1, rel=1e-8)
    assert got.out[2, 0] == pytest.approx(math.exp(-0.5) + math.exp(-0.07), rel=1e-8)


def test_values_of_the_trigger_or_of_the_moment() -> None:
    late: dict[str, Any] = {"when": "t >= 1", "delay": "2/k*k", "set": {"count": "organ"}}
    early = run(washout(late), 4.0).out[0, 1]
    now = run(washout({**late, "use_trigger_values": False}), 4.0).out[0, 1]
    assert early == pytest.approx(math.exp(-0.1), rel=1e-8)
    assert now == pytest.approx(math.exp(-0.3), rel=1e-8)


def test_what_is_not_persistent_is_called_off() -> None:
    window: dict[str, Any] = {"when": "t > 1 and t < 2", "delay": "3", "set": {"count": "count + 1"}}
    assert run(washout(window), 6.0).out[0, 1] == 1.0
    assert run(washout({**window, "persistent": False}), 6.0).out[0, 1] == 0.0


def test_whether_an_event_that_holds_from_the_start_happens() -> None:
    always: dict[str, Any] = {"when": "t >= 0", "set": {"count": "5"}}
    assert run(washout(always), 0.0, 1.0).out[:, 1].tolist() == [0.0, 0.0]
    assert run(washout({**always, "initial_value": False}), 0.0, 1.0).out[:, 1].tolist() == [5.0, 5.0]


def test_the_highest_priority_goes_first() -> None:
    low: dict[str, Any] = {
        "name": "low", "when": "t >= 1", "priority": "1", "set": {"count": "count*10"}, "use_trigger_values": False
    }  # fmt: skip
    high: dict[str, Any] = {"name": "high", "when": "t >= 1", "priority": "k*100", "set": {"count": "count + 1"}}
    got = run(washout(low, high), 2.0)
    assert [name for _, name in got.happened] == ["high", "low"]
    assert got.out[0, 1] == 10.0


def test_a_parameter_that_an_event_sets_moves_and_its_formulas_with_it() -> None:
    """k = 0.1 until 2, then 0.3; twice = 2 k."""
    model = washout(
        {"when": "t >= 2", "set": {"k": "3*k"}},
        parameters={"k": "0.1 1/h", "start": "1 nmol", "twice": {"formula": "2*k", "unit": "1/h"}},
        flows=["organ -> : twice*organ"],
    )
    assert settled(model).compartments["k_now"].unit == "1/h"
    assert run(model, 3.0).out[0, 0] == pytest.approx(math.exp(-0.2 * 2 - 0.6), rel=1e-8)
    assert run(model.replace(k=0.2), 3.0).out[0, 0] == pytest.approx(math.exp(-0.4 * 2 - 1.2), rel=1e-8)


def test_doses_and_events_at_one_time() -> None:
    """A dose of 1 at t = 1 lifts the organ over its limit; the event sees it at once."""
    model = washout({"when": "organ > 1.5", "set": {"organ": "organ/2"}})
    got = run(model, 1.0, given=[(1.0, Kind.ADD_STATE, 0, 1.0)])
    assert got.happened[0][0] == 1.0
    assert got.out[0, 0] == pytest.approx((math.exp(-0.1) + 1) / 2, rel=1e-8)


def test_two_times_that_are_one_but_for_rounding() -> None:
    """0.1 + 0.2 is not 0.3 in doubles."""
    one: dict[str, Any] = {"when": "t >= 0.3", "set": {"count": "count + 1"}, "use_trigger_values": False}
    late: dict[str, Any] = {**one, "when": "t >= 0.1", "delay": "0.2"}
    twice: dict[str, Any] = {**one, "delay": "0.1"}
    got = run(washout(one, late, twice, twice), 0.5)
    assert got.out[0, 1] == 4.0


def test_events_without_end_are_a_status() -> None:
    up: dict[str, Any] = {"when": "count < 1", "set": {"count": "1"}, "initial_value": False}
    down: dict[str, Any] = {"when": "count >= 1", "set": {"count": "0"}, "initial_value": False}
    got = run(washout(up, down), 1.0)
    assert got.status == Status.TOO_MANY_STEPS
    assert "at t = 0 h events set each other off without end" in got.message
    assert np.isnan(got.out).all()


def test_events_survive_text_and_new_names() -> None:
    model = washout(
        {"name": "refill", "when": "organ < 0.5 or not t < 9", "delay": "0.1", "priority": "k", "set": {"organ": "top"}}
    )
    again = model_from_toml(model_to_toml(model))
    assert again == model
    assert again.digest == model.digest
    assert model.digest != washout().digest
    renamed = model.rename({"organ": "liver", "top": "full"})
    assert set(renamed.events[0].assignments) == {"liver"}
    np.testing.assert_array_equal(run(renamed, 30.0).out, run(model, 30.0).out)
    assert "refill: when" in str(model)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"when": "t > 1", "set": {"liver": "1"}}, "'liver' cannot be set"),
        ({"when": "t > 1", "set": {"organ": "liver"}}, "'liver' in 'liver' is not known"),
        ({"when": "t", "set": {"organ": "1"}}, "expected a condition such as"),
        ({"set": {"organ": "1"}}, "'when'"),
        ({"when": "t > 1", "set": {"organ": "1"}, "then": "2"}, "'then' is not known"),
    ],
)
def test_bad_events(event: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        washout(event)


def test_what_a_run_refuses() -> None:
    model = washout({"when": "t >= 2", "set": {"k": "3*k"}})
    with pytest.raises(SimulationError, match="settled"):
        triggered(autonomous(build_system(model)), model)
    with pytest.raises(SimulationError, match="finite"):
        model = settled(model)
        machine = Machine(triggered(autonomous(build_system(model)), model))
        machine.run(np.full(3, np.nan), records([]), np.array([1.0]))


def test_a_model_without_events_is_followed_too() -> None:
    got = x.follow(washout(), [0.0, 1.0])
    np.testing.assert_allclose(got["organ_now"], [1.0, math.exp(-0.1)], rtol=1e-8)


def test_simulate_follows_events_with_doses() -> None:
    """1 nmol given at t = 0; k is 0.1 until 2, then 0.3; the rate of loss is observed."""
    model = washout(
        {"when": "t >= 2", "set": {"k": "3*k"}},
        compartments={"organ": "nmol", "count": "nmol"},
        observables={"amount": "organ", "loss": "k*organ"},
    )
    data = simulate(model, "1 nmol once into organ", times=[0.0, 1.0, 2.0, 3.0])
    expected = np.exp([0.0, -0.1, -0.2, -0.5])
    np.testing.assert_allclose(data["amount"], expected, rtol=1e-7)
    np.testing.assert_allclose(data["loss"], expected * [0.1, 0.1, 0.3, 0.3], rtol=1e-7)
    until = (1 - expected[2]) / 0.1
    assert float(data["integral_amount"][3]) == pytest.approx(until + (expected[2] - expected[3]) / 0.3, rel=1e-7)
    with pytest.raises(SimulationError, match="no derivatives"):
        simulate(model, "1 nmol once into organ", times=[1.0], sensitivities=["k"])
