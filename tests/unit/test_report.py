"""The report: self-contained, escaped, complete, and there as a whole or not at all."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pkmodel import report as report_module
from pkmodel.data import load_study
from pkmodel.errors import PkmodelError
from pkmodel.main_job import MainJob, run
from pkmodel.report import write_report
from pkmodel.report_folder import whole_folder
from pkmodel.report_numbers import doses_csv
from pkmodel.report_page import link_dois
from support import ROOT, report

EVIL = "<script>alert(1)</script>"
FILES = ["doses.csv", "figures", "fit.nc", "report.html", "results.json"]


@pytest.fixture(scope="module")
def job() -> MainJob:
    return run("snmmi_p004", draws=300, command="pkmodel run snmmi_p004")


@pytest.fixture(scope="module")
def folder(job: MainJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "inner" / "p004"
    write_report(job, out)
    return out


class _Page(HTMLParser):
    """Tags, their attributes, and whether they nest."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.text += data


def _links(page: _Page) -> Iterator[str]:
    for _, attributes in page.tags:
        yield from (attributes[k] for k in ("href", "src", "action", "data", "srcset") if k in attributes)


def test_every_file_is_there(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == FILES
    pictures = ["doses.svg", "fit.svg", "integrals.svg", "plan.svg"]
    assert sorted(p.name for p in folder.joinpath("figures").iterdir()) == pictures
    assert [p.name for p in folder.parent.iterdir()] == ["p004"], "nothing else beside it"


def test_the_page_is_self_contained(folder: Path) -> None:
    text = folder.joinpath("report.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert not page.open, f"left open: {page.open}"
    for link in _links(page):
        assert link.startswith(("#", "data:image/svg+xml;base64,", "https://doi.org/10.")), link[:80]
    names = [tag for tag, _ in page.tags]
    assert "script" not in names and "link" not in names
    assert "@import" not in text and "url(" not in text
    assert any(a.get("name") == "viewport" for t, a in page.tags if t == "meta")
    assert all(a.get("alt") for t, a in page.tags if t == "img")
    assert "@media print" in text
    anchors = {link[1:] for link in _links(page) if link.startswith("#")}
    assert anchors <= {a["id"] for _, a in page.tags if "id" in a}
    print(f"report.html: at most 600 kB, got {len(text) / 1000:.0f} kB")
    assert len(text) < 600_000


def test_the_page_says_what_matters(folder: Path, job: MainJob) -> None:
    text = folder.joinpath("report.html").read_text(encoding="utf-8")
    page = " ".join(_Page(text).text.split())
    for organ in job.doses.organs:
        dose = float(job.doses.data["dose_point"].sel(organ=organ))
        assert organ.replace("_", " ") in page and f"{dose:.2f}" in page
    assert page.index("further cycles") < page.index("Deep Blue Data"), "the answer comes first"
    for words in ("not a medical device", "segments no images", "used for illustration", "O'Donoghue 2004"):
        assert words in page
    assert job.study.digest in page and job.fit.model.digest in page and "pkmodel run snmmi_p004" in page
    for warning in job.warnings:
        assert " ".join(warning.split()) in page, warning


def test_results_hold_every_number_with_its_unit(folder: Path, job: MainJob) -> None:
    found = json.loads(folder.joinpath("results.json").read_text(encoding="utf-8"))
    doses = {d["organ"]: d for d in found["doses"]}
    report(
        "kidney_left dose, published by a voxel method [Gy]", 2.741417, doses["kidney_left"]["dose"]["value"], rtol=0.06
    )
    tia = {t["organ"]: t for t in found["tia"]}
    report("liver TIA, published [MBq h]", 56425.334755, tia["liver"]["tia"]["value"], rtol=1e-4)
    assert (doses["liver"]["dose"]["unit"], tia["liver"]["tia"]["unit"]) == ("Gy", "MBq h")
    assert found["provenance"]["data_digest"] == job.study.digest
    assert found["provenance"]["model_digest"] == job.fit.model.digest
    assert {"numpy", "numba", "lmfit"} <= set(found["provenance"]["packages"])
    assert found["provenance"]["seed"] == 0 and found["warnings"] == list(job.warnings)
    assert found["plan"]["limits"][0]["source"]
    bound = found["doses"][0]["cross_dose_at_most"]
    assert bound["unit"] == "Gy" and 0 < bound["value"] < found["doses"][0]["dose"]["value"]
    assert "NaN" not in folder.joinpath("results.json").read_text(encoding="utf-8"), "not known is null, never NaN"
    assert sorted(found["files"]) == sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()
    )


def test_doses_csv(folder: Path) -> None:
    with folder.joinpath("doses.csv").open(encoding="utf-8") as file:
        rows = {row["organ"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["kidney_left", "kidney_right", "liver", "spleen"]
    report("liver TIA, published [MBq h]", 56425.334755, float(rows["liver"]["TIA_MBq_h"]), rtol=1e-4)
    assert float(rows["liver"]["dose_Gy_low"]) < float(rows["liver"]["dose_Gy"]) < float(rows["liver"]["dose_Gy_high"])
    assert 0 < float(rows["liver"]["cross_dose_at_most_Gy"]) < float(rows["liver"]["dose_Gy"])


def test_the_fit_can_be_read_again(folder: Path, job: MainJob) -> None:
    import xarray as xr

    with xr.open_dataset(folder / "fit.nc", engine="h5netcdf") as data:
        assert data.attrs["model_digest"] == job.fit.model.digest
        assert data.sizes["parameter"] == 12


def test_everything_from_the_data_is_escaped(tmp_path: Path) -> None:
    study = load_study("snmmi_p004")
    curves = study["P004"]
    renamed = curves.replace(
        subject=EVIL,
        agent=f"{EVIL}\" onload='x'",
        warnings=(EVIL,),
        curves=tuple(c.replace(subject=EVIL, region=f"{EVIL}_{c.region}") for c in curves),
    )
    words = {"name": EVIL, "title": EVIL, "citation": f"{EVIL} doi:10.1/<b>", "terms": EVIL, "notes": EVIL}
    evil = study.replace(**words, curves=(renamed,))
    organ = f"{EVIL}_liver"
    write_report(run(evil, limits={organ: "30 Gy"}, draws=100, command=EVIL), tmp_path / "out")
    text = tmp_path.joinpath("out", "report.html").read_text(encoding="utf-8")
    assert "<script" not in text.lower()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    page = _Page(text)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    for picture in tmp_path.joinpath("out", "figures").iterdir():
        assert "<script" not in picture.read_text(encoding="utf-8").lower()


def test_dois_become_links_and_nothing_else_does() -> None:
    assert str(link_dois("see doi:10.7302/864r-tb45.")) == (
        'see <a href="https://doi.org/10.7302/864r-tb45">doi:10.7302/864r-tb45</a>.'
    )
    assert str(link_dois('doi:10.1000/x"><b> http://a.b')).count("<a ") == 1
    assert "<b>" not in str(link_dois('doi:10.1000/x"><b>'))
    assert "<a" not in str(link_dois("http://example.org javascript:x"))


def test_a_foreign_folder_is_refused(job: MainJob, tmp_path: Path) -> None:
    mine = tmp_path / "thesis"
    mine.mkdir()
    mine.joinpath("chapter.txt").write_text("mine")
    for check in (lambda: write_report(job, mine), lambda: run("snmmi_p004", out=mine)):
        with pytest.raises(PkmodelError, match="holds no pkmodel report: nothing was written"):
            check()
    assert [p.name for p in tmp_path.rglob("*")] == ["thesis", "chapter.txt"]
    mine.joinpath("results.json").write_text('{"format": "something else"}')
    with pytest.raises(PkmodelError, match="holds no pkmodel report"):
        write_report(job, mine)
    with pytest.raises(PkmodelError, match="is a file"):
        write_report(job, mine / "chapter.txt")


def test_an_earlier_report_is_replaced_and_notes_in_it_are_kept(job: MainJob, tmp_path: Path) -> None:
    out = tmp_path / "report"
    out.mkdir()  # empty is fine
    write_report(job, out)
    out.joinpath("notes.txt").write_text("mine")
    out.joinpath("figures", "sketch.txt").write_text("mine")
    out.joinpath("report.html").write_text("old")
    write_report(job, out)
    assert out.joinpath("report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert out.joinpath("notes.txt").read_text() == out.joinpath("figures", "sketch.txt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_an_interrupted_report_leaves_nothing(
    job: MainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def fail(*_: object) -> str:
        raise error

    monkeypatch.setattr(report_module, "doses_csv", fail)
    with pytest.raises(error):
        write_report(job, tmp_path / "deep" / "er" / "out")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    write_report(job, tmp_path / "out")
    before = tmp_path.joinpath("out", "report.html").read_bytes()
    monkeypatch.setattr(report_module, "doses_csv", fail)
    with pytest.raises(error):
        write_report(job, tmp_path / "out")
    assert tmp_path.joinpath("out", "report.html").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_is_put_back_if_the_swap_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    with whole_folder(out) as folder:
        folder.joinpath("results.json").write_text('{"format": "pkmodel report", "files": ["results.json"]}')
    rename = Path.rename

    def stubborn(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise OSError("disk gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stubborn)
    with pytest.raises(OSError, match="disk gone"), whole_folder(out) as folder:
        folder.joinpath("x").write_text("new")
    assert [p.name for p in out.iterdir()] == ["results.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_terminated_process_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, time, pkmodel.report as r\n"
        "def wait(*a):\n"
        "    open('../ready', 'w').close(); time.sleep(60)\n"
        "r.doses_csv = wait\n"
        "sys.argv = ['pkmodel', 'run', 'snmmi_p004', '--out', 'out']\n"
        "from pkmodel.cli import main; main()"
    )
    place = tmp_path / "work"
    place.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=place, env=_environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    for _ in range(1200):
        if tmp_path.joinpath("ready").exists() or child.poll() is not None:
            break
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    _, message = child.communicate(timeout=30)
    assert child.returncode == 128 + signal.SIGTERM, message
    assert b"interrupted" in message and b"Traceback" not in message
    assert list(place.iterdir()) == []


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_doses_csv_of_a_bounded_job() -> None:
    text = doses_csv(run("snmmi_p004", body_mass="70 kg", draws=100))
    assert all(float(line.rpartition(",")[2]) > 0 for line in text.splitlines()[1:]), "the bound is in the last column"
