"""Many patients: the same numbers as one by one, whatever the threads, chunks and failures, on disk or in memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pkmodel as pk
from pkmodel import populations
from pkmodel.cohorts import cohort
from pkmodel.errors import SimulationError
from pkmodel.model import Model
from pkmodel.part_store import PartStore
from pkmodel.populations import simulate_population
from pkmodel.solve.status import Status
from support import report

PSMA = "psma617_siebinga2023"
TIMES = np.linspace(0.0, 2000.0, 23)
DOSES = "7.4 GBq every 6 wk x 2"
WANTED = ["tumour", "integral_salivary_glands"]


@pytest.fixture(scope="module")
def model() -> Model:
    return pk.label(pk.load_model(PSMA), "Lu-177", cold=True)


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    return cohort(PSMA, 60, seed=5)


@pytest.fixture(scope="module")
def together(model: Model, people: pd.DataFrame) -> xr.Dataset:
    return simulate_population(model, DOSES, people, TIMES, observables=WANTED)


def test_each_patient_is_solved_as_if_alone(model: Model, people: pd.DataFrame, together: xr.Dataset) -> None:
    """Against the single run at its tighter tolerance (1e-8 against 1e-6)."""
    for i in (0, 17, 59):
        alone = pk.simulate(model.replace(**{str(k): v for k, v in people.iloc[i].items()}), DOSES, TIMES)
        for name in WANTED:
            worst = float(np.abs(alone[name] - together[name][i]).max() / np.abs(alone[name]).max())
            report(f"{name} of patient {i}: largest difference", 0.0, worst, atol=1e-6)
    assert together["tumour"].attrs["units"] == "MBq" and together.attrs["solver"] == "Rosenbrock (Rodas5P)"
    assert not together["status"].any() and (together["steps"] > 10).all()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_and_chunks_change_no_bit(
    model: Model, people: pd.DataFrame, together: xr.Dataset, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(populations, "LARGEST_CHUNK", 7 * threads)
    again = simulate_population(model, DOSES, people, TIMES, observables=WANTED, threads=threads)
    for name in WANTED:
        np.testing.assert_array_equal(again[name], together[name])


def test_a_patient_that_fails_leaves_the_others_alone(model: Model, people: pd.DataFrame, together: xr.Dataset) -> None:
    bad = people.copy()
    bad.loc[17, "Bmax"] = np.nan
    bad.loc[18, "Bmax"] = 0.0
    result = simulate_population(model, DOSES, bad, TIMES, observables=WANTED)
    assert np.flatnonzero(result["status"]).tolist() == [17, 18]
    assert result["status"][17] == Status.BAD_INPUT and result["status"][18] == Status.NOT_FINITE
    assert result["tumour"][17].isnull().all() and result.attrs["failed"] == 2
    assert "patient 17: Bmax = nan is not a finite number" in result.attrs["failures"]
    assert "patient 18: a value became infinite" in result.attrs["failures"] and "2 of 60" in result.attrs["warnings"]
    others = np.setdiff1d(np.arange(60), [17, 18])
    np.testing.assert_array_equal(result["tumour"][others], together["tumour"][others])


def test_one_regimen_for_each_patient(model: Model, people: pd.DataFrame) -> None:
    given = [f"{2 + k % 5} GBq over {10 + k % 3} min once" if k % 2 else f"{2 + k % 5} GBq once" for k in range(60)]
    result = simulate_population(model, given, people, TIMES, observables=WANTED)
    for i in (0, 1, 7, 42):
        alone = simulate_population(model, given[i], people[i : i + 1], TIMES, observables=WANTED)
        worst = float(np.abs(result["tumour"][i] - alone["tumour"][0]).max() / alone["tumour"].max())
        report(f"tumour of patient {i}: largest difference", 0.0, worst, atol=1e-6)
    assert result.attrs["regimen"] == "one for each patient"
    with pytest.raises(SimulationError, match="2 regimens for 60 patients"):
        simulate_population(model, ["1 GBq once"] * 2, people, TIMES)


def test_few_patients_of_a_linear_model_are_exact_and_many_agree() -> None:
    model = pk.load_model("plasma/two_compartment") if "plasma/two_compartment" in pk.list_models() else None
    model = model or pk.load_model("two_compartment")
    names = [n for n in model.primary if model.parameters[n].value]
    rng = np.random.default_rng(2)
    table = pd.DataFrame({n: (model.parameters[n].value or 0) * np.exp(0.2 * rng.standard_normal(150)) for n in names})
    times = np.linspace(0, 24, 9)
    few = simulate_population(model, "10 nmol once", table[:20], times)
    many = simulate_population(model, "10 nmol once", table, times)
    assert few.attrs["solver"] == "exact propagation" and many.attrs["solver"].startswith("Rosenbrock")
    name = next(iter(model.observables))
    scale = np.abs(few[name].values).max(axis=1, keepdims=True)
    report(
        "largest difference", 0.0, float((np.abs(few[name].values - many[name].values[:20]) / scale).max()), atol=1e-6
    )


def test_on_disk_as_in_memory(model: Model, people: pd.DataFrame, together: xr.Dataset, tmp_path: Path) -> None:
    file = tmp_path / "runs.nc"
    written = simulate_population(model, DOSES, people, TIMES, observables=WANTED, file=file)
    for name in (*WANTED, "status", "steps", "patient", "time"):
        np.testing.assert_array_equal(written[name], together[name])
        assert written[name].attrs == together[name].attrs
    written.close()
    began = file.stat().st_mtime_ns
    simulate_population(model, DOSES, people, TIMES, observables=WANTED, file=file).close()
    assert file.stat().st_mtime_ns == began  # what is finished is not computed again
    with pytest.raises(SimulationError, match="another run \\(regimen differ"):
        simulate_population(model, "1 GBq once", people, TIMES, observables=WANTED, file=file)
    with pytest.raises(SimulationError, match="parameters differ"):
        simulate_population(model, DOSES, people * 1.01, TIMES, observables=WANTED, file=file)


INTERRUPTED = """
import sys, numpy as np, pkmodel as pk
from pkmodel import populations
from pkmodel.cohorts import cohort
populations.LARGEST_CHUNK = 64
model = pk.label(pk.load_model("psma617_siebinga2023"), "Lu-177", cold=True)
people = cohort("psma617_siebinga2023", int(sys.argv[2]), seed=5)
populations.simulate_population(
    model, "7.4 GBq every 6 wk x 2", people, np.linspace(0.0, 2000.0, 23), observables=["tumour"], file=sys.argv[1]
)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_goes_on(model: Model, tmp_path: Path, how: signal.Signals) -> None:
    """A real process, stopped in the middle; what it had computed is kept and used."""
    n, file = 20_000, tmp_path / "runs.nc"
    child = subprocess.Popen([sys.executable, "-c", INTERRUPTED, str(file), str(n)], stderr=subprocess.PIPE, text=True)
    folder = tmp_path / "runs.nc.parts"
    until = time.monotonic() + 120
    while len(list(folder.glob("*.npz"))) < 4 and child.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(child.pid, how)
    _, said = child.communicate(timeout=60)
    kept = sorted(folder.glob("*.npz"))
    assert 4 <= len(kept) < n // 64 and not file.exists()
    if how == signal.SIGINT:
        assert "the same call goes on from there" in said
    before = {p.name: p.stat().st_mtime_ns for p in kept}
    # a shorter run of the same patients is another run; the same run takes what is there
    store = PartStore(file, {})
    assert store.read(0) is not None
    touched = {p.name: p.stat().st_mtime_ns for p in sorted(folder.glob("*.npz"))[: len(before)]}
    assert touched == before
    people = cohort(PSMA, 64, seed=5)
    alone = simulate_population(model, DOSES, people, TIMES, observables=["tumour"])
    first = store.read(0)
    assert first is not None
    np.testing.assert_array_equal(first["tumour"], alone["tumour"])


def test_resuming_computes_only_what_is_missing(
    model: Model, people: pd.DataFrame, together: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(populations, "LARGEST_CHUNK", 16)
    solved: list[slice] = []
    original = populations.Population.solve

    def solve(self: populations.Population, part: slice) -> dict[str, np.ndarray]:
        if len(solved) == 2:
            raise KeyboardInterrupt
        solved.append(part)
        return original(self, part)

    file = tmp_path / "runs.nc"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) as stopped:
        patch.setattr(populations.Population, "solve", solve)
        simulate_population(model, DOSES, people, TIMES, observables=WANTED, file=file)
    assert any("32 of 60 patients are kept" in note for note in stopped.value.__notes__)
    again: list[slice] = []

    def watched(self: populations.Population, part: slice) -> dict[str, np.ndarray]:
        again.append(part)
        return original(self, part)

    monkeypatch.setattr(populations.Population, "solve", watched)
    result = simulate_population(model, DOSES, people, TIMES, observables=WANTED, file=file)
    assert [p.start for p in again] == [32, 48]
    np.testing.assert_array_equal(result["tumour"], together["tumour"])


def test_too_much_for_the_memory_asks_for_a_file(
    model: Model, people: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(populations, "IN_MEMORY_BYTES", 10_000)
    with pytest.raises(SimulationError, match=r"60 patients x 23 times x 2 results .* file='runs.nc'"):
        simulate_population(model, DOSES, people, TIMES, observables=WANTED)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"Bmx": [1.0]}), "column 'Bmx' is not a parameter"),
        (pd.DataFrame({"k10": [1.0]}), "k10 is a formula"),
        (pd.DataFrame({"Bmax": ["forty"]}), "Bmax holds something that is not a number"),
        (pd.DataFrame({"Bmax": [40.0, -1.0]}), "Bmax of patient 1 is -1 MBq; allowed: 0 to inf"),
        (pd.DataFrame({"Bmax": []}), "has no rows"),
        (pd.DataFrame([[1.0, 2.0]], columns=["Bmax", "Bmax"]), "Bmax: a parameter stands in two columns"),
        ({"Bmax": [40.0]}, "must be a pandas DataFrame"),
    ],
)
def test_bad_tables_are_named(model: Model, table: pd.DataFrame, message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        simulate_population(model, DOSES, table, TIMES)


def test_bad_requests_are_named(model: Model, people: pd.DataFrame) -> None:
    with pytest.raises(SimulationError, match="no observable 'tumor'"):
        simulate_population(model, DOSES, people, TIMES, observables=["tumor"])
    with pytest.raises(SimulationError, match="nothing to report"):
        simulate_population(model, DOSES, people, TIMES, observables=[])
    with pytest.raises(SimulationError, match="not linear"):
        simulate_population(model, DOSES, people, TIMES, method="exact")
