"""What a user gets wrong in a fit, a population, PET, NCA or a design is refused in words, before computing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from population_models import decay_model, samples
from psma_cohort import patients, population
from synthetic import curve, curves, protocol

import pkmodel as pk
from pkmodel import pet
from pkmodel.data import Curves
from pkmodel.errors import PkmodelError
from pkmodel.inference.population.uncertainty import Information
from pkmodel.inference.population_parts import coefficient_of_variation
from pkmodel.pet.measured import see
from support import report

T = np.array([0.0, 1.0, 2.0, 4.0, 8.0])
DECAYS = (2.0, 20.0, 48.0, 96.0)


def _people(**covariates: Any) -> list[Curves]:
    values = 50 * np.exp(-0.3 * T)
    return [samples(f"p{i}", T, values * (1 + 0.05 * i), dose=100, **covariates) for i in range(3)]


def _population(data: Any, **settings: Any) -> Any:
    rules = protocol("ke V", error={"kind": "proportional"})
    return pk.fit_population(decay_model(), data, rules, **({"effects": {"ke": 0.3}} | settings))


def _same(value: float) -> list[Curves]:
    return [samples(f"p{i}", T, np.full(T.size, value)) for i in range(3)]


def _never_seen() -> list[Curves]:
    return [samples(f"p{i}", T * 1e4 + 1e4, [5.0, 4.0, 3.0, 2.0, 1.0]) for i in range(2)]


WEIGHT = pk.Effects(between={"ke": 0.3}, covariates=(pk.relation("V", "weight", reference=60.0),))


@pytest.mark.parametrize(
    ("data", "settings", "words"),
    [
        (_same(30.0), {}, "plasma: all 15 values are 30, so nothing is learned .* is it the right column"),
        (_people(weight=70.0), {"effects": WEIGHT}, "weight is the same for everybody, so its effect on V cannot"),
        (
            _never_seen(),
            {},
            "likelihood of subject p0, p1 is zero .* whether a proportional error meets a prediction of",
        ),
        ([samples("p0", T - 1, T + 1.0)], {}, r"plasma: value 1 \(-1 h\) lies before the first administration"),
        ([1, 2], {}, "a population is made of Curves.* found int"),
        (_people(), {"standard_errors": "robust"}, "standard_errors 'robust' is not known; allowed: sandwich, r, s"),
        (_people(), {"iterations": 0}, "iterations = 0; allowed: a whole number above zero"),
        (_people(), {"seed": -1}, "seed = -1; allowed: a whole number of 0 or more"),
        (_people(), {"maxiter": 3}, "focei: setting maxiter is not known; it has iterations only"),
        (
            _people(),
            {"method": "saem", "smothing": 3},
            r"saem: setting smothing is not known \(did you mean 'smoothing'",
        ),
        (_people(), {"method": "bayes", "drawz": 3}, r"bayes: setting drawz is not known \(did you mean 'draws'\?\)"),
        (_people(), {"method": "bayes", "file": "no/such/run.nc"}, "there is no folder no/such; make it first"),
    ],
)
def test_populations(data: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(PkmodelError, match=words):
        _population(data, **settings)


def test_a_spread_beyond_all_numbers_is_printed_as_infinite() -> None:
    report(
        "CV of a log-normal with variance 0.25",
        math.sqrt(math.exp(0.25) - 1),
        coefficient_of_variation(0.25),
        rtol=1e-12,
    )
    assert coefficient_of_variation(1e6) == math.inf


def test_a_curvature_that_has_no_inverse_gives_no_standard_errors() -> None:
    flat = Information(np.array([[1.0, 1.0], [1.0, 1.0 + 1e-16]]), np.eye(2), np.ones(2))
    assert not flat.definite
    assert np.isnan(flat.covariance()).all() and math.isnan(flat.missing)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"drawz": 3}, "bayes: setting drawz is not known"),
        ({"seed": "a"}, "seed = 'a'; allowed: a whole number"),
        ({"priors": [1]}, "priors: found a list; give a table, parameter -> prior"),
        ({"file": "no/such/run.nc"}, "there is no folder no/such"),
        ({"file": "."}, "is a folder; give the name of a file in it"),
    ],
)
def test_draws(settings: dict[str, Any], words: str) -> None:
    data = curves(curve("liver", DECAYS, [20.0, 15.0, 9.0, 4.0]))
    with pytest.raises(PkmodelError, match=words):
        pk.fit("organ_1_phase", data, protocol("fraction k_washout"), method="bayes", **settings)


def test_a_file_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.nc"
    file.write_text("my notes")
    data = curves(curve("liver", DECAYS, [20.0, 15.0, 9.0, 4.0]))
    with pytest.raises(PkmodelError, match="is not a run that was kept"):
        pk.fit("organ_1_phase", data, protocol("fraction k_washout"), method="bayes", file=file)
    assert file.read_text() == "my notes"


def test_files(tmp_path: Path) -> None:
    with pytest.raises(PkmodelError, match="cannot be read: Is a directory"):
        pk.PopulationModel.load(tmp_path)
    units = {"TIME": "h", "AMT": "nmol", "DV": "nmol/L"}
    with pytest.raises(PkmodelError, match="is a folder; give the file in it"):
        pk.read_nonmem(tmp_path, units=units)
    with pytest.raises(PkmodelError, match="cannot be written: No such file"):
        pk.write_nonmem(_people(), tmp_path / "no" / "x.csv", units=units, ids={"p0": 1, "p1": 2, "p2": 3})
    with pytest.raises(PkmodelError, match="kind 'fengg' is not known; allowed: feng, exponential"):
        pk.fit_with_input("one_tissue", _people()[0], kind="fengg")  # type: ignore[arg-type]


FRAMES = np.arange(12.0)
ARRAY: Any = np.ones(12)
LIST: Any = [1.0, 2.0]


def _frames(value: Any, **more: Any) -> Any:
    settings: dict[str, Any] = {
        "unit": "kBq/mL",
        "time_unit": "min",
        "nuclide": "C-11",
        "decay_corrected": True,
        "region": "thalamus",
    }
    return pet.frames(5 * FRAMES, 5 * FRAMES + 5, value, **(settings | more))


def _plasma(**more: Any) -> Any:
    settings: dict[str, Any] = {
        "unit": "kBq/mL",
        "time_unit": "min",
        "nuclide": "C-11",
        "decay_corrected": True,
        "region": "plasma",
    }
    return pet.samples(5 * FRAMES, 50 * np.exp(-0.1 * FRAMES), **(settings | more))


def _rise() -> Any:
    return _frames(20 * (1 - np.exp(-0.3 * (FRAMES + 0.5))))


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda: pet.logan(ARRAY, _plasma(), frames=5), "a ndarray is not one curve; take one of a scan"),
        (lambda: pet.logan(_rise(), LIST, frames=5), "a list is not one curve"),
        (lambda: pet.logan(_frames(np.zeros(12)), _plasma(), frames=5), "no value is above zero"),
        (lambda: pet.srtm(_rise(), _frames(np.zeros(12))), "no value is above zero"),
        (lambda: pet.srtm(_rise(), _rise().take(FRAMES > 3)), "begins at 20 min, the target at 0 min; both must cover"),
        (
            lambda: pet.arterial_input(_plasma(), delay=500.0),
            "a delay of 500 min, but samples end at 55 min; was it in seconds",
        ),
        (
            lambda: pet.logan(_rise(), _plasma().replace(unit="mg/L"), frames=5),
            "'mg/L' is a mass per volume; of a tracer",
        ),
        (lambda: pk.nca([1, 2, 3, 4], [4, 3, 2, 1], unit="mg/L", route="bolus", points=2), "points = 2; a terminal"),
        (lambda: pk.nca(["a", "b"], [1, 2], unit="mg/L", route="bolus"), "times or concentrations are not numbers"),
        (lambda: pk.Clinic("Mon 10:00", days=("Mon",)), "write text, as 'Mon-Fri'"),  # type: ignore[arg-type]
    ],
)
def test_pet_plasma_and_the_clinic(run: Callable[[], Any], words: str) -> None:
    with pytest.raises(PkmodelError, match=words):
        run()


def test_a_curve_that_does_not_change_is_said_to() -> None:
    assert "every value of thalamus is 7 kBq/mL: it does not change in time" in see(_frames(np.full(12, 7.0))).notes


def test_the_last_frames_may_be_asked_for_in_every_line() -> None:
    late = pet.mrtm1(_rise(), _frames(15 * (1 - np.exp(-0.4 * (FRAMES + 0.5)))), frames=6)
    assert "6 of 12 points" in str(late)


@pytest.fixture(scope="module")
def organ() -> Any:
    """A labelled organ of two phases."""
    return pk.label(pk.load_model("organ_1_phase"), "Lu-177")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scans": "two"}, "scans = 'two'"),
        ({"noise": "10 %"}, "'10 %' is not a number; write 0.1 for 10 %"),
        ({"spread": {"k_washout": "30 %"}}, "write 0.3 for 30 %"),
        ({"clinic": "Mon 10:00"}, r"write clinic=Clinic\('Mon 10:00'\)"),
        ({"population": "none.toml"}, "population file none.toml: there is no such file"),
    ],
)
def test_designs(organ: Any, changes: dict[str, Any], words: str) -> None:
    settings: dict[str, Any] = {"scans": 1, "spread": {"k_washout": 0.3}, "noise": 0.1} | changes
    with pytest.raises(PkmodelError, match=words):
        pk.design(organ, "7.4 GBq once", **settings)
    with pytest.raises(PkmodelError, match="are not numbers; give hours"):
        pk.sampling_adequacy(organ, "7.4 GBq once", ["24 h"], spread={"k_washout": 0.3}, noise=0.1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "organ_1_phase"}, "give a labelled model"),
        ({"times": []}, "no times to scan at"),
        ({"regions": "organ"}, r"regions='organ' is one name; give a list"),
        ({"noise": {}}, "no noise for organ"),
        ({"noise": "10 %"}, "noise of organ is '10 %'; allowed"),
        ({"noise": -0.1}, "noise of organ is -0.1; allowed"),
    ],
)
def test_virtual_scans(organ: Any, changes: dict[str, Any], words: str) -> None:
    people = pk.cohort(organ, 2, seed=1, spread={"k_washout": 0.3})
    settings = {"model": organ, "activity": "7.4 GBq", "patients": people, "times": [24], "regions": ["organ"]}
    with pytest.raises(PkmodelError, match=words):
        pk.virtual_scans(**(settings | {"noise": 0.1, "seed": 1} | changes))


def test_few_scans() -> None:
    people, truth = patients(2, 0.05, times=(24.0, 96.0))
    known = population(0.05)
    one = people[0].replace(curves=tuple(c.take(c.t == 24) for c in people[0]))
    whole: Any = people
    for run, words in (
        (lambda: pk.predict_tia(known, whole), "a list is not one patient's scans; give Curves"),
        (
            lambda: pk.predict_tia(known, one, half_life={"kidny": 50.0}),
            r"half_life of 'kidny' \(did you mean 'kidneys'",
        ),
        (lambda: pk.leave_scans_out(known, whole[0]), "one patient is no cohort"),
        (lambda: pk.leave_scans_out(known, [one]), "one scan, so none can be left out"),
        (lambda: pk.leave_scans_out(known, people, truth=truth.iloc[:1]), "truth: no subject"),
        (lambda: pk.leave_scans_out(known, people, truth=truth.add_suffix("s")), "truth: no region"),
        (lambda: pk.leave_scans_out(known, people, truth={"kidneys": 3.0}), "truth is a dict; needed: a DataFrame"),  # type: ignore[arg-type]
    ):
        with pytest.raises(PkmodelError, match=words):
            run()
