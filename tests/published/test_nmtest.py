"""Event records against NONMEM 7.4.3: the 54 schedules of `nmtest` (K. Baron and M. Fidler, R package nlmixr2data).

One-compartment model with a depot, CL 1.1, V 20, KA 1.5, concentration 1000 A2/V; lag, bioavailability and duration act
on doses into the central compartment. Its file is not ours to ship: the test reads `nmtest.csv` (the data frame written
as CSV) from ../shared/oracles/nmtest or from the folder named by PKMODEL_NMTEST, and is skipped where neither has it.
The file is read as any NONMEM file is, by `read_nonmem`.

NONMEM values have five digits. In twelve schedules the lag is longer than the interval of a steady state; there
NONMEM runs backwards in time, to negative concentrations, up to the lag less one interval after the record, so
only what follows is compared (`BACKWARDS`).
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from pkmodel.data import Curves, Study
from pkmodel.formats.nonmem import Route, read_nonmem
from pkmodel.formats.nonmem_write import write_nonmem
from pkmodel.model import Model
from pkmodel.model_file import model_from_dict
from pkmodel.own_values import personal
from pkmodel.simulation import prepare
from support import report, shared

TOLERANCE = 2e-4  # of the largest concentration
BACKWARDS = {409, 410, 411, 415, 509, 510, 610, 709, 809, 825, 909, 1009}
GROUPS = {
    "repeated doses, infusions, lags": [1, 2, 3, 4, 5, 6, 7, 8, 16, 17, 18, 102],
    "steady state": [9, 10, 11, 12, 13, 14, 15, 19, 22, 109, 110, 111, 210, 211, 310, 311, 609],
    "reset": [20, 21, 23, 24],
    "added steady state": [25, 125, 225, 325, 425, 525, 625, 725],
    "constant infusion": [26],
    "lag longer than the interval": sorted(BACKWARDS),
}
SUPERPOSITION = [*range(1, 20), 21, 22, 102, 109, 110, 111, 210, 211, 310, 311, 609]  # plain sums of single doses do
UNITS = {"TIME": "h", "AMT": "nmol", "DV": "nmol/L"}
ROUTES: dict[int, str | Route] = {1: "oral", 2: Route("iv", lag="lagt", fraction="bioav", duration="dur2", rate="rat2")}


@cache
def model() -> Model:
    return model_from_dict(
        {
            "name": "nmtest",
            "parameters": {"CL": "1.1 L/h", "V": "20 L", "KA": "1.5 1/h"}
            | {"lagt": "0 h", "bioav": "1 1", "dur2": "2 h", "rat2": "10 nmol/h"},
            "compartments": {"depot": "nmol", "central": "nmol"},
            "administration": {"oral": "depot", "iv": "central"},
            "flows": ["depot -> central: KA*depot", "central -> : CL/V*central"],
            "observables": {"cp": {"formula": "1000*central/V", "unit": "nmol/L"}},
        }
    )


@cache
def study() -> Study:
    folder = os.environ.get("PKMODEL_NMTEST")
    path = Path(folder) / "nmtest.csv" if folder else shared("oracles/nmtest/nmtest.csv")
    return read_nonmem(
        path, units=UNITS, model=model(), routes=ROUTES, regions={2: "cp"}, rename={"cp": "DV"}, drop=("mode",)
    )


def compare(number: int, person: Curves, method: str) -> float:
    """Largest difference from NONMEM, relative to its largest concentration."""
    one, varying = personal(model(), person)
    curve, regimen = person["cp"], person.regimen
    assert regimen is not None
    problem = prepare(one, regimen, curve.t, method=method, covariates=varying)  # type: ignore[arg-type]
    got = problem.solve().observed[0]
    steady = [a for a in regimen.administrations if a.steady]
    errors = [0.0]
    for t, expected, c in zip(curve.t, curve.value, got, strict=True):
        last = max((a for a in steady if a.time <= t), key=lambda a: a.time, default=None)
        if number in BACKWARDS and last is not None:
            lags = person.covariates["lagt"]
            lag = 0.0 if last.into != "iv" else lags if isinstance(lags, float) else float(lags.at(last.time))
            if t < last.time + lag - last.every:
                continue
        errors.append(abs(c - expected) / curve.value.max())
    return float(max(errors))


@pytest.mark.parametrize("method", ["exact", "rosenbrock"])
@pytest.mark.parametrize("group", GROUPS)
def test_nonmem(group: str, method: str) -> None:
    for number in GROUPS[group]:
        error = compare(number, study()[str(number)], method)
        report(f"{group}, id {number}: error over Cmax", 0.0, error, atol=TOLERANCE)


def test_every_schedule_is_in_a_group() -> None:
    assert sorted(n for ids in GROUPS.values() for n in ids) == sorted(int(s) for s in study().subjects)
    assert len(SUPERPOSITION) == 30
    assert set(SUPERPOSITION) <= {n for ids in GROUPS.values() for n in ids} - BACKWARDS


def test_written_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "again.csv"
    write_nonmem(study(), path, units=UNITS, routes=ROUTES)
    again = read_nonmem(path, units=UNITS, model=model(), routes=ROUTES)
    for one, other in zip(study(), again, strict=True):
        assert (one.subject, one.regimen) == (other.subject, other.regimen)
        assert {k: str(c) for k, c in one.covariates.items()} == {k: str(c) for k, c in other.covariates.items()}
        a, b = one["cp"], other["cp"]
        assert a.value.tolist() == b.value.tolist()
        assert a.t.tolist() == b.t.tolist()
