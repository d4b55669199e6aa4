"""Event records against NONMEM 7.4.3: the 54 schedules of `nmtest` (K. Baron and M. Fidler, R package nlmixr2data).

One-compartment model with a depot, CL 1.1, V 20, KA 1.5, concentration 1000 A2/V; lag and bioavailability act on doses
into the central compartment. Its file is not ours to ship: the test reads `nmtest.csv` (the data frame written as CSV)
from ../shared/oracles/nmtest or from the folder named by PKMODEL_NMTEST, and is skipped where neither has it.

NONMEM values have five digits. In twelve schedules the lag is longer than the interval of a steady state; there
NONMEM runs backwards in time, to negative concentrations, up to the lag less one interval after the record, so
only what follows is compared (`BACKWARDS`).
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pkmodel.model import Model
from pkmodel.model_file import model_from_dict
from pkmodel.regimen import Administration, Regimen
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


def rows() -> dict[int, list[dict[str, float]]]:
    folder = os.environ.get("PKMODEL_NMTEST")
    path = Path(folder) / "nmtest.csv" if folder else shared("oracles/nmtest/nmtest.csv")
    found: dict[int, list[dict[str, float]]] = defaultdict(list)
    with path.open() as file:
        for row in csv.DictReader(file):
            found[int(row["id"])].append({k: float(v) for k, v in row.items()})
    return found


def model() -> Model:
    return model_from_dict(
        {
            "name": "nmtest",
            "parameters": {"CL": "1.1 L/h", "V": "20 L", "KA": "1.5 1/h"},
            "compartments": {"depot": "nmol", "central": "nmol"},
            "administration": {"oral": "depot", "iv": "central"},
            "flows": ["depot -> central: KA*depot", "central -> : CL/V*central"],
            "observables": {"cp": {"formula": "1000*central/V", "unit": "nmol/L"}},
        }
    )


def administrations(row: dict[str, float]) -> list[Administration]:
    """One record as we say it."""
    if row["evid"] == 3:
        return [Administration(row["time"], reset=True)]
    central, repeats = row["cmt"] == 2, int(row["addl"]) if row["ii"] else 0
    first = Administration(
        row["time"],
        amount=row["amt"],
        into="iv" if central else "oral",
        rate=max(row["rate"], 0.0),
        duration=row["dur2"] if row["rate"] == -2 else 0.0,
        lag=row["lagt"] if central else 0.0,
        fraction=row["bioav"] if central else 1.0,
        steady={0: "", 1: "replace", 2: "add"}[int(row["ss"])],
        every=row["ii"] if row["ss"] else 0.0,
        reset=row["evid"] == 4,
    )
    later = [
        replace(
            first, time=row["time"] + k * row["ii"], ordered=row["time"], steady="", every=0.0, reset=False
        )
        for k in range(1, repeats + 1)
    ]  # fmt: skip
    return [first, *later]


def compare(number: int, table: list[dict[str, float]], method: str) -> float:
    """Largest difference from NONMEM, relative to its largest concentration."""
    doses = [a for row in table if row["evid"] for a in administrations(row)]
    seen = [row for row in table if not row["evid"]]
    times = np.unique([row["time"] for row in seen])
    problem = prepare(model(), Regimen.of(*doses), times, method=method)  # type: ignore[arg-type]
    got = dict(zip(times.tolist(), problem.solve().observed[0].tolist(), strict=True))
    top = max(row["cp"] for row in seen)
    records = [r for r in table if r["evid"]]
    errors = [0.0]
    for row in seen:
        last = max((r for r in records if r["time"] <= row["time"] and r["ss"]), key=lambda r: r["time"], default=None)
        if number in BACKWARDS and last is not None and row["time"] < last["time"] + last["lagt"] - last["ii"]:
            continue
        errors.append(abs(got[row["time"]] - row["cp"]) / top)
    return max(errors)


@pytest.mark.parametrize("method", ["exact", "rosenbrock"])
@pytest.mark.parametrize("group", GROUPS)
def test_nonmem(group: str, method: str) -> None:
    tables = rows()
    for number in GROUPS[group]:
        report(f"{group}, id {number}: error over Cmax", 0.0, compare(number, tables[number], method), atol=TOLERANCE)


def test_every_schedule_is_in_a_group() -> None:
    assert sorted(n for ids in GROUPS.values() for n in ids) == sorted(rows())
