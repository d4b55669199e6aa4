"""Mice: every published organ-time point of each format beside the model, after at most four fitted parameters.

Tables of killed animals (datasets/*_mouse), in percent of the injected dose per gram, decay-corrected. What was fitted
and to what is in the agents' files (status "fitted") and repeated by scripts/fit_mouse.py.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from types import ModuleType
from typing import Any

import pytest

import pkmodel as pk
from support import ROOT, report


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fit_mouse", ROOT / "scripts" / "fit_mouse.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fit_mouse"] = module  # its dataclasses ask for it
    spec.loader.exec_module(module)
    return module


MICE = _script()
SHARE = 0.7  # of the points inside a factor 2
MISSED = {
    "mouse_i125_pib_zher3": "5 of 20 (25 %): label that left the kidney circulates (blood 0.37 %ID/g at 4 h, the model "
    "0.04), and no pool of it is modelled; kidneys and tumour at 4 h are inside",
}


@cache
def points_of(agent: str) -> tuple[Any, ...]:
    case = next(c for c in MICE.CASES if c.agent == agent)
    points = tuple(MICE.compare(case))
    print(MICE.table(case, list(points)))
    return points


def at(agent: str, organ: str, time: float) -> Any:
    return next(p for p in points_of(agent) if p.organ == organ and p.time == time)


def _cases() -> list[Any]:
    marks = {a: [pytest.mark.xfail(strict=True, reason=why)] for a, why in MISSED.items()}
    return [pytest.param(c.agent, id=c.agent, marks=marks.get(c.agent, [])) for c in MICE.CASES]


@pytest.mark.parametrize("agent", _cases())
def test_seven_in_ten_points_are_inside_a_factor_two(agent: str) -> None:
    points = points_of(agent)
    share = sum(p.inside for p in points) / len(points)
    print(f"{agent}: {100 * share:.0f} % inside a factor 2; wanted {100 * SHARE:.0f} %")
    assert share >= SHARE


@pytest.mark.parametrize("agent", [c.agent for c in MICE.CASES])
def test_at_most_four_numbers_were_fitted(agent: str) -> None:
    model = pk.load_model(agent)
    free = MICE.fitted(model)
    print(f"{agent}: {len(free)} fitted: {', '.join(free)}")
    assert len(free) <= 4
    for name in free:
        assert "_mouse" in model.parameters[name].source, "says what it was fitted to"


def test_nothing_fitted_is_shared_without_a_word() -> None:
    """Two agents share a fitted number only where both name the same file of their protein."""
    fits = [set(fit.agents) for fit in MICE.FITS]
    for fit in MICE.FITS:
        for agent in fit.agents:
            free = MICE.fitted(pk.load_model(agent))
            own = {n for f in MICE.FITS if agent in f.agents for n in f.free}
            for name in set(free) - own:
                assert agent == "mouse_i125_pib_zher3" and name in MICE.fitted(pk.load_model("mouse_in111_zher3"))
    assert sum(len(f) for f in fits) == len(MICE.CASES)


def test_an_affibody_in_the_kidney_with_a_label_that_stays_and_one_that_leaves() -> None:
    stays, leaves = at("mouse_in111_zher3", "kidneys", 4.0), at("mouse_i125_pib_zher3", "kidneys", 4.0)
    report("111In, kidneys at 4 h [%ID/g]", 291.0, stays.model, rtol=1.0)
    report("125I-PIB, kidneys at 4 h [%ID/g]", 2.7, leaves.model, rtol=1.0)
    assert stays.inside and leaves.inside and stays.model > 10 * leaves.model


def test_an_antibody_in_the_tumour_with_a_label_that_stays_and_one_that_leaves() -> None:
    stays, leaves = at("mouse_lu177_l8a4", "tumour", 192.0), at("mouse_i125_sgmib_l8a4", "tumour", 192.0)
    report("177Lu, tumour on day 8 [%ID/g]", 15.27, stays.model, rtol=1.0)
    report("125I-SGMIB, tumour on day 8 [%ID/g]", 2.86, leaves.model, rtol=1.0)
    assert stays.inside and leaves.inside and stays.model > leaves.model


def test_a_diabody_with_indium_is_predicted_from_the_one_with_iodine() -> None:
    """Nothing is fitted to the 111In-DOTA diabody: Yazaki 2001, abstract, doi:10.1021/bc000092h."""
    wanted = (("tumour", 2.0, 12.5), ("tumour", 6.0, 13.3), ("kidneys", 6.0, 183.5))
    (got,) = MICE.predicted(pk.load_model("mouse_in111_t84_diabody"), [(o, t) for o, t, _ in wanted])
    for (organ, time, published), value in zip(wanted, got, strict=True):
        report(f"111In diabody, {organ} at {time:g} h [%ID/g]", published, float(value), rtol=1.0)
        assert 0.5 <= value / published <= 2.0
