"""Virtual patients follow the published spread, are the same for a seed, and stay within bounds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pkmodel.assembly import load_model
from pkmodel.cohorts import cohort
from pkmodel.errors import SimulationError
from pkmodel.model import Parameter
from support import report

PSMA = "psma617_siebinga2023"


def test_median_and_spread_are_the_published() -> None:
    """Median = typical value and CV = sd/mean of the log-normal, within four standard errors of 20 000 patients."""
    n = 20_000
    people = cohort(PSMA, n, seed=1)
    model = load_model(PSMA)
    assert list(people.columns) == ["k10_typical", "Bmax", "k13", "k41", "k15_typical"]
    for name in people:
        p = model.parameters[str(name)]
        assert p.cv is not None and p.value is not None
        omega = np.sqrt(np.log1p(p.cv**2))
        logs = np.log(people[name])
        report(f"median of {name}", p.value, float(np.exp(logs.mean())), rtol=4 * omega / np.sqrt(n))
        report(f"CV of {name}", p.cv, float(np.sqrt(np.expm1(logs.var(ddof=1)))), rtol=8 / np.sqrt(2 * n))
    rest = people.corr(method="spearman").to_numpy()[np.triu_indices(5, 1)]
    assert np.abs(rest).max() < 5 / np.sqrt(n)


def test_a_patient_is_the_same_whatever_the_number() -> None:
    few, many = cohort(PSMA, 5, seed=9), cohort(PSMA, 50, seed=9)
    pd.testing.assert_frame_equal(few, many[:5])
    assert not np.allclose(few, cohort(PSMA, 5, seed=10))


def test_correlation_of_logarithms() -> None:
    names = ["k13", "k10_typical"]
    wanted = pd.DataFrame([[1.0, 0.6], [0.6, 1.0]], names, names)
    people = cohort(PSMA, 20_000, seed=2, correlation=wanted)
    got = np.corrcoef(np.log(people["k13"]), np.log(people["k10_typical"]))[0, 1]
    report("correlation", 0.6, got, atol=4 * (1 - 0.36) / np.sqrt(20_000))


def test_spread_may_be_changed_added_and_left_out() -> None:
    people = cohort(PSMA, 10, seed=1, spread={"Bmax": 0, "tumour_volume": 0.5})
    assert "Bmax" not in people and "tumour_volume" in people
    assert people.attrs["cv"]["tumour_volume"] == 0.5


def test_bounds_are_kept_and_said() -> None:
    model = load_model(PSMA)
    narrow = model.replace(Bmax=Parameter(name="Bmax", unit="MBq", value=40.4, cv=0.593, lower=20, upper=60))
    people = cohort(narrow, 500, seed=4)
    assert people["Bmax"].between(20, 60).all() and people.attrs["redrawn"] > 0
    none = model.replace(Bmax=Parameter(name="Bmax", unit="MBq", value=40.4, cv=0.593, lower=40.3999, upper=40.4001))
    with pytest.raises(SimulationError, match="bounds of Bmax"):
        cohort(none, 2, seed=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "at least one patient"),
        ({"spread": {"Bmx": 0.2}}, "Bmax"),
        ({"spread": {"k10": 0.2}}, "no such parameter with a value"),
        ({"spread": {"Bmax": -0.1}}, "0 or more"),
        ({"spread": {"Bmax": float("nan")}}, "0 or more"),
        ({"correlation": pd.DataFrame([[1.0]], ["V1"], ["V1"])}, "V1, which does not vary"),
        ({"correlation": pd.DataFrame([[1.0, 2.0], [2.0, 1.0]], ["k13", "k41"], ["k13", "k41"])}, "positive definite"),
        ({"correlation": pd.DataFrame([[1.0, 0.2], [0.4, 1.0]], ["k13", "k41"], ["k13", "k41"])}, "symmetric"),
    ],
)
def test_bad_input_is_named(changes: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"n": 3, "seed": 1} | changes
    with pytest.raises(SimulationError, match=message):
        cohort(PSMA, **arguments)  # type: ignore[arg-type]


def test_a_model_without_spread_says_so() -> None:
    with pytest.raises(SimulationError, match="no parameter has a spread"):
        cohort("one_tissue", 3, seed=1)
