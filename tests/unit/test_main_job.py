"""The main job on the real patient: every step's numbers arrive, limits are sourced, the measured cycle counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pkmodel.data import load_study
from pkmodel.dosimetry.limits import Limit
from pkmodel.dosimetry.planning import plan
from pkmodel.dosimetry.present import round_down
from pkmodel.dosimetry.result import Doses
from pkmodel.errors import DataError, DoseError, LibraryError, PkmodelError
from pkmodel.evidence import default_limits, tissue_of
from pkmodel.main_job import MainJob, organ_masses, run
from support import report


@pytest.fixture(scope="module")
def job() -> MainJob:
    return run("snmmi_p004")


def test_published_results_are_met(job: MainJob) -> None:
    # qurit/PyTheranostics, patient 004 of the SNMMI challenge; its doses are of a voxel method
    published = {("kidney_left", "TIA"): 7593.752576, ("liver", "TIA"): 56425.334755}
    published |= {("kidney_left", "A"): 108.742068, ("kidney_left", "l1"): 0.0140814260, ("liver", "l2"): 0.6575597175}
    published |= {("kidney_left", "dose"): 2.741417, ("liver", "dose"): 2.347016}
    found = {(a.organ, a.quantity): a for a in job.against}
    for key, expected in published.items():
        tolerance = 0.06 if key[1] == "dose" else 1e-4
        report(f"{key[0]} {key[1]} [{found[key].unit}]", expected, found[key].got, rtol=tolerance)
        report(f"{key[0]} {key[1]}: what the table calls published", expected, found[key].expected, rtol=1e-6)
    assert "whole_fov" not in {a.organ for a in job.against}


def test_practice_methods_are_off_as_known(job: MainJob) -> None:
    found = {(p.organ, p.method): p.difference for p in job.practice}
    # ranges of ../shared/therapy/README.md over the four organs
    for start, low, high in (("trapezoid, physical", 0.30, 0.43), ("Haenscheid, scan at 28 h", -0.51, -0.21)):
        values = [d for (_, m), d in found.items() if m.startswith(start)]
        report(f"{start}: smallest", low, min(values), atol=0.006)
        report(f"{start}: largest", high, max(values), atol=0.006)
    madsen = {o for o, m in found if m.startswith("Madsen")}
    assert madsen == {"kidney_left", "kidney_right"}, "only organs with a published half-life"


def test_masses_come_from_the_volumes(job: MainJob) -> None:
    volumes = [233.608, 234.092, 247.647, 248.583]  # mL, tac.csv
    mean, sd = job.masses["kidney_left"]
    report("kidney_left mass [g]", 1.04 * float(np.mean(volumes)), mean, rtol=1e-9)
    report("kidney_left SD of mass [g]", 1.04 * float(np.std(volumes, ddof=1)), sd, rtol=1e-9)


def test_default_limits_are_read_and_sourced() -> None:
    limits = {x.organ: x for x in default_limits(["kidney_left", "kidney_right", "liver", "spleen", "parotid_left"])}
    assert set(limits) == {"kidney_left", "kidney_right", "liver", "parotid_left"}
    report("kidney limit, lower end of 15 to 17 Gy [Gy]", 15.0, limits["kidney_left"].value)
    assert "O'Donoghue 2004" in limits["kidney_left"].source
    assert all(x.source and "Emami" not in x.source for x in limits.values()), "Emami's table was not read"
    assert tissue_of("spleen") == ""


def test_the_report_of_limits_says_illustration(job: MainJob) -> None:
    assert not job.limits_given
    assert any("used here for illustration" in n for n in job.notes)
    mine = run("snmmi_p004", limits={"kidney_left": "23 Gy"}, draws=200)
    assert mine.limits_given and not any("illustration" in n for n in mine.notes)


def test_the_measured_cycle_counts_in_every_draw(job: MainJob) -> None:
    assert job.plan is not None
    dose = job.doses.data["dose_per_activity"].sel(organ=["kidney_left", "kidney_right"]).to_numpy()  # Gy/GBq
    liver = job.doses.data["dose_per_activity"].sel(organ="liver").to_numpy()
    activity, cycles = job.plan.best.activity / 1000, job.plan.best.number
    total = activity * cycles + job.doses.injected_activity / 1000  # GBq, measured cycle included
    passed = ((dose * total > 15.0 * (1 + 1e-9)).any(axis=0) | (liver * total > 30.0 * (1 + 1e-9))).mean()
    print(f"P(any limit exceeded): at most 0.05, got {passed:.4f}")
    assert passed <= 0.05
    above = total * 1.005
    assert ((dose * above > 15.0).any(axis=0) | (liver * above > 30.0)).mean() > 0.05
    report("3 cycles share what one would get [MBq]", job.plan.best.activity * 3, _one(job), rtol=1e-9)


def _one(job: MainJob) -> float:
    assert job.schedules is not None
    return job.schedules.schedule(1).activity


def _certain(job: MainJob) -> Doses:
    """The same doses without uncertainty."""
    data = job.doses.data.isel(draw=[0]).copy(deep=True)
    for name in ("dose", "dose_per_activity", "rate", "share"):
        data[name][:] = data[f"{name}_point"].expand_dims("draw").transpose(*data[name].dims)
    return Doses(data)


def test_counting_the_measured_cycle_in_bed(job: MainJob) -> None:
    doses = _certain(job)
    limit = Limit(organ="kidney_left", value=35.0, kind="BED", alpha_beta=2.5, repair_half_life=2.8)
    found = plan(doses, [limit], cycles=1, count_measured=True)
    one = doses.data.sel(organ="kidney_left")
    rate, share = one["rate_point"].to_numpy(), one["share_point"].to_numpy()
    mu, a = np.log(2) / 2.8, share * rate
    g = 2 * float((np.outer(a, a) / (mu + rate[:, None]) / (rate[:, None] + rate)).sum())  # facts/equations.md 5.3
    given = float(one["dose_point"])
    planned = found.best.activity / 1000 * float(one["dose_per_activity_point"])
    total = sum(d * (1 + g * d / 2.5) for d in (given, planned))
    report("BED of the measured and the planned cycle [Gy]", 35.0, total, rtol=1e-9)
    report("in the plan's own table [Gy]", 35.0, float(found.against_limits()["value [Gy]"].iloc[0]), rtol=1e-9)


def test_nothing_is_left_when_the_measured_cycle_passed_the_limit(job: MainJob) -> None:
    for limit in ("2 Gy", "2 Gy BED (a/b 2.5 Gy, repair 2.8 h)"):
        found = plan(job.doses, {"kidney_left": limit}, cycles=2, count_measured=True)
        report(f"activity under {limit} [MBq]", 0.0, found.best.activity, atol=0.0)
        assert found.exceedance(1e-9) == 1.0
        assert any("uses them up" in w for w in found.warnings)


def test_already_received_lowers_the_activity() -> None:
    free = run("snmmi_p004", limits={"kidney_left": "23 Gy"}, draws=300)
    less = run("snmmi_p004", limits={"kidney_left": "23 Gy"}, already={"kidney_left": "5 Gy"}, draws=300)
    same = run("snmmi_p004", limits={"kidney_left": "18 Gy"}, draws=300)
    assert free.plan and less.plan and same.plan
    assert less.plan.best.activity < free.plan.best.activity
    report("5 of 23 Gy received: as 18 Gy [MBq]", same.plan.best.activity, less.plan.best.activity, rtol=1e-12)
    with pytest.raises(DoseError, match="already names 'spleen'"):
        run("snmmi_p004", already={"spleen": "5 Gy"}, draws=300)


def test_the_simpler_model_and_what_it_would_change(job: MainJob) -> None:
    assert job.comparison is not None and job.simpler is not None
    assert [f.model.name.split("_Lu")[0] for f in job.comparison.fits] == ["organ_2_phase", "organ_1_phase"]
    assert any("The doses rest on organ_2_phase" in n for n in job.notes)
    other = run("snmmi_p004", model="organ_1_phase", draws=200)
    assert other.comparison is None
    assert other.fit.protocol.name == "serial_spect_1_phase"


def test_body_mass_bounds_the_missing_dose(job: MainJob) -> None:
    assert any("takes 60 kg" in w for w in job.warnings)
    assumed = job.doses.data["cross_bound"].to_numpy()
    bounded = run("snmmi_p004", body_mass="70 kg", draws=200)
    assert not any("takes 60 kg" in w for w in bounded.warnings)
    bound = bounded.doses.data["cross_bound"].to_numpy()
    assert np.all(np.isfinite(bound)) and np.all(bound > 0)
    assert np.all(assumed > bound), "a lighter body adds more, so the assumed one bounds the heavier"
    assert bounded.plan is not None and bounded.plan.best.with_missing < bounded.plan.best.activity


def test_the_same_seed_gives_the_same_numbers(job: MainJob) -> None:
    again, other = run("snmmi_p004"), run("snmmi_p004", seed=1)
    np.testing.assert_array_equal(again.doses.data["dose"], job.doses.data["dose"])
    assert not np.array_equal(other.doses.data["dose"], job.doses.data["dose"])


def test_text_reads_well(job: MainJob) -> None:
    first, second = job.headline()
    assert first.startswith("Self-dose from 7.21 GBq of [177Lu]Lu-DOTATATE: kidney left 2.64 Gy")
    assert "3 further cycles of equal activity may have at most" in second
    assert "limited by kidney left" in second
    assert "not a medical device" in str(job)
    assert len(job.warnings) == len(set(job.warnings))


def test_nothing_is_written_without_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("snmmi_p004", draws=100)
    assert list(tmp_path.iterdir()) == []


def test_refusals() -> None:
    with pytest.raises(LibraryError, match="did you mean 'snmmi_p004'"):
        run("snmmi_p04")
    with pytest.raises(DataError, match=r"has 2 subjects .* say which: rest, exercise"):
        run("dbodc_99mtc")
    with pytest.raises(DataError, match="has no subject 'P005'"):
        run("snmmi_p004", subject="P005")
    with pytest.raises(DoseError, match="no such organ"):
        run("snmmi_p004", masses={"hart": "300 g"})
    with pytest.raises(PkmodelError, match="whole_fov"):
        run("snmmi_p004", limits={"whole_fov": "20 Gy"})


def test_masses_without_volumes() -> None:
    curves = load_study("snmmi_p004")["P004"].select(["liver", "spleen"])
    bare = curves.replace(curves=tuple(c.replace(volume=np.full(len(c), np.nan)) for c in curves))
    with pytest.raises(DoseError, match='--mass spleen="250 g"'):
        organ_masses(bare, ["spleen", "liver"], {"liver": "1800 g"})
    masses, notes = organ_masses(bare, ["liver"], {"liver": "1800 g"})
    assert masses == {"liver": "1800 g"} and notes == []
    single = curves["liver"].replace(volume=np.array([2000.0, np.nan, np.nan, np.nan]))
    masses, notes = organ_masses(curves.replace(curves=(single,)), ["liver"], None, 0.1)
    report("one volume: mass [g]", 2080.0, masses["liver"][0], rtol=1e-12)
    report("one volume: SD from the protocol [g]", 208.0, masses["liver"][1], rtol=1e-12)
    assert "one scan" in notes[0]


def test_an_organ_without_a_published_limit_gets_no_plan() -> None:
    study = load_study("snmmi_p004")
    only = replace(study, curves=(study["P004"].select(["spleen"]),))
    found = run(only, draws=100)
    assert found.plan is None
    assert any("give limits to get a plan" in n for n in found.notes)
    assert "No activity was planned" in found.headline()[1]


@pytest.mark.parametrize(("x", "text"), [(10.249, "10.2"), (7.69, "7.69"), (0.0, "0"), (1999.9, "1990"), (5.0, "5")])
def test_printed_activities_are_rounded_down(x: float, text: str) -> None:
    assert round_down(x) == text
