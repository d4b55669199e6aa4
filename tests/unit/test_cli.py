"""The command line: every verb, every refusal one clean message, and what the main job costs."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import pkmodel
from pkmodel import cli, cli_output
from pkmodel.cli_output import UsageError, pairs, whole_numbers
from support import ROOT, report

LIMIT = 6.0  # s of processor time for `pkmodel run snmmi_p004`, warm
QUICK = 2.8  # s to import the libraries it cannot do without, on a machine where that limit is meant
RATIO = 2.5  # the same in units of that import, on any machine; 1.8 to 2.1 was measured


@dataclass
class Done:
    """What one command did."""

    status: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def pkm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run the command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PKMODEL_TRACEBACK", raising=False)
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def call(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["pkmodel", *arguments])
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        text = capsys.readouterr()
        assert "Traceback" not in text.err
        return Done(status, text.out, text.err)

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*"))


def test_version_and_help(pkm: Command) -> None:
    assert pkm("--version").out == f"pkmodel {pkmodel.__version__}\n"
    text = pkm("--help").out
    for verb in ("run", "list", "check", "simulate", "fit", "dose", "plan"):
        assert verb in text
    assert "not a medical device" in text
    for verb in ("run", "list", "check", "simulate", "fit", "dose", "plan"):
        done = pkm(verb, "--help")
        assert done.status == 0 and f"pkmodel {verb}" in done.out, "no example"


def test_list_names_are_whole_when_piped(pkm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    text = pkm("list").out
    for name in (*pkmodel.list_models(), *pkmodel.list_studies(), *pkmodel.list_protocols()):
        assert any(line.split()[0] == name for line in text.splitlines() if line.split())
    nuclides = pkm("list", "nuclides").out
    assert any(line.startswith("Lu-177 ") and "Hf-177" in line for line in nuclides.splitlines())
    assert _files(tmp_path) == []
    wrong = pkm("list", "model")
    assert wrong.status == 2 and "did you mean 'models'?" in wrong.err and "nuclides" in wrong.err


def test_list_is_quick_and_leaves_nothing(tmp_path: Path) -> None:
    heavy = "lmfit pymc arviz matplotlib sympy pandas xarray numba pint scipy".split()
    code = (
        "import sys; sys.argv = ['pkmodel', 'list']\n"
        "from pkmodel.cli import main\n"
        "main()\n"
        f"print(*[m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )
    done = _child(["-c", code.replace("main()\n", "try:\n    main()\nexcept SystemExit: pass\n")], tmp_path)
    assert done.stderr.strip() == "", "these were loaded for a list"
    assert "snmmi_p004" in done.stdout
    assert _files(tmp_path) == []


def test_check(pkm: Command, tmp_path: Path) -> None:
    done = pkm("check", "organ_2_phase")
    assert done.status == 0
    assert "all checks hold" in done.out and "7593.75" in done.out
    text = ROOT.joinpath("models", "organs", "organ_2_phase.toml").read_text(encoding="utf-8")
    tmp_path.joinpath("wrong.toml").write_text(text.replace("7593.752576", "7000"), encoding="utf-8")
    wrong = pkm("check", "wrong.toml")
    assert wrong.status == 1 and "FAIL" in wrong.out
    tmp_path.joinpath("typo.toml").write_text(text.replace("k_uptake*on_the_way", "k_uptak*on_the_way"))
    typo = pkm("check", "typo.toml")
    assert typo.status == 1 and typo.err.startswith("pkmodel: typo.toml") and "k_uptak" in typo.err


def test_run_writes_the_report_and_prints_the_answer(pkm: Command, tmp_path: Path) -> None:
    done = pkm("run", "snmmi_p004", "--limit", "kidney_left=23 Gy", "--body-mass", "70 kg", "--cycles", "2")
    assert done.status == 0, done.err
    assert "kidney left 2.64 Gy" in done.out and "2 further cycles" in done.out
    assert "report: snmmi_p004_report" in done.out and "not a medical device" in done.out
    assert "! " in done.err, "warnings go to standard error"
    found = json.loads(tmp_path.joinpath("snmmi_p004_report", "results.json").read_text(encoding="utf-8"))
    assert found["provenance"]["command"].startswith("pkmodel run snmmi_p004 --limit 'kidney_left=23 Gy'")
    report("limit [Gy]", 23.0, found["plan"]["limits"][0]["value"])
    assert found["doses"][0]["cross_dose_at_most"]["value"] > 0
    again = pkm("run", "snmmi_p004", "--out", "snmmi_p004_report")
    assert again.status == 0, "an earlier report may be replaced"
    assert _files(tmp_path)[0] != ".", "nothing hidden is left"
    assert not [p for p in tmp_path.rglob(".*")]


def test_dose_plan_and_fit(pkm: Command, tmp_path: Path) -> None:
    done = pkm("dose", "snmmi_p004", "--csv", "doses.csv")
    assert done.status == 0 and "kidney_left" in done.out
    assert tmp_path.joinpath("doses.csv").read_text().startswith("organ,dose_Gy,")
    done = pkm("plan", "snmmi_p004", "--limit", "kidney_left=23 Gy", "--cycles", "1,3")
    assert done.status == 0 and "Largest activity per number of cycles" in done.out
    done = pkm("fit", "snmmi_p004", "--out", "fit.nc", "--out", "fit.csv", "--out", "fit.png", "--log")
    assert done.status == 0 and "k_washout[liver]" in done.out
    assert _files(tmp_path) == ["doses.csv", "fit.csv", "fit.nc", "fit.png"]
    assert tmp_path.joinpath("fit.png").read_bytes().startswith(b"\x89PNG")


def test_simulate(pkm: Command, tmp_path: Path) -> None:
    done = pkm(
        *("simulate", "organ_2_phase", "7210.4255996394995 MBq once", "--nuclide", "Lu-177", "--days", "200"),
        *("--out", "run.csv", "--out", "run.nc", "--out", "run.svg"),
    )
    assert done.status == 0, done.err
    line = next(x for x in done.out.splitlines() if x.startswith("organ "))
    report("integral of the published kidney [MBq h]", 7593.752576, float(line.split()[1]), rtol=1e-3)
    assert _files(tmp_path) == ["run.csv", "run.nc", "run.svg"]
    assert tmp_path.joinpath("run.csv").read_text().splitlines()[0] == "time [h],organ [MBq]"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["run", "snmmi_p04"], 2, "did you mean 'snmmi_p004'?"),
        (["run", "dbodc_99mtc"], 1, "say which: rest, exercise"),
        (["run", "./nowhere"], 2, "no such folder"),
        (["run", "snmmi_p004", "--limit", "23 Gy"], 2, "--limit '23 Gy' cannot be read"),
        (["run", "snmmi_p004", "--limit", "spleen=23 kg"], 1, "23 kg"),
        (["run", "snmmi_p004", "--limit", "heart=23 Gy"], 1, "no such organ in the doses"),
        (["run", "snmmi_p004", "--cycles", "0"], 2, "--cycles '0'"),
        (["run", "snmmi_p004", "--cycles", "many"], 2, "write 3, 1-6 or 1,2,4"),
        (["run", "snmmi_p004", "--probability", "2"], 1, "above 0 and below 1"),
        (["run", "snmmi_p004", "--body-mass", "70 cm"], 1, "body mass"),
        (["run", "snmmi_p004", "--daughters", "some"], 2, "none and equilibrium"),
        (["run", "snmmi_p004", "--model", "organ_2_phases"], 2, "did you mean 'organ_2_phase"),
        (["fit", "snmmi_p004", "--out", "fit.doc"], 2, "'.doc' is not known"),
        (["fit", "snmmi_p004", "--out", "no/where/fit.nc"], 2, "there is no folder"),
        (["dose", "snmmi_p004", "--csv", "no/where.csv"], 1, "No such file"),
        (["simulate", "organ_2_phase", "7.4 GBq sometimes"], 1, "sometimes"),
        (["simulate", "organ_2_phase", "7.4 GBq once", "--cold"], 2, "--nuclide"),
        (["simulate", "organ_2_phase", "7.4 GBq once", "--nuclide", "Lu-178"], 1, "Lu-17"),
        (["check", "nothing.toml"], 2, "no such file"),
        (["run"], 2, "STUDY"),
        (["run", "snmmi_p004", "--colour"], 2, "--colour"),
        (["walk"], 2, "walk"),
    ],
)
def test_refusals_are_one_message_and_write_nothing(
    pkm: Command, tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    done = pkm(*arguments)
    print(f"pkmodel {' '.join(arguments)}: status {done.status}: {done.err.strip()}")
    assert done.status == status
    assert words in done.err
    assert done.err.count("pkmodel: ") <= 1
    assert _files(tmp_path) == []


def test_a_bad_study_writes_nothing(pkm: Command, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    for name in ("study.toml", "tac.csv"):
        text = ROOT.joinpath("datasets", "snmmi_p004", name).read_text(encoding="utf-8")
        bad.joinpath(name).write_text(
            text.replace("kidney_left,3.741111111111111,98.561432", "kidney_left,3.741111111111111,-98")
        )
    done = pkm("run", "bad")
    assert done.status == 1 and "row 2" in done.err
    assert _files(tmp_path) == ["bad", "study.toml", "tac.csv"]


def test_a_foreign_folder_is_refused_before_any_work(pkm: Command, tmp_path: Path) -> None:
    tmp_path.joinpath("thesis").mkdir()
    tmp_path.joinpath("thesis", "chapter.txt").write_text("mine")
    done = pkm("run", "snmmi_p004", "--out", "thesis")
    assert done.status == 1 and "holds no pkmodel report" in done.err
    assert _files(tmp_path) == ["chapter.txt", "thesis"]


def test_faults_interrupts_and_missing_files(
    pkm: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import pkmodel.cli_verbs

    def broken(_: str) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(pkmodel.cli_verbs, "show_library", broken)
    done = pkm("list")
    assert done.status == 1 and "this is a fault of pkmodel" in done.err and "test_cli.py" in done.err

    def missing(_: str) -> None:
        Path("gone.csv").read_text()

    monkeypatch.setattr(pkmodel.cli_verbs, "show_library", missing)
    done = pkm("list")
    assert (done.status, done.err) == (1, "pkmodel: No such file or directory: gone.csv\n")

    def stopped(_: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(pkmodel.cli_verbs, "show_library", stopped)
    done = pkm("list")
    assert done.status == 130 and "interrupted" in done.err


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    code = "import sys; sys.argv = ['pkmodel', 'list', 'nuclides']; from pkmodel.cli import main; main()"
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()
    assert child.stderr.read() == b""
    child.wait(60)


def test_tables_in_a_terminal_keep_names_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "50")
    cli_output.table(["name", "what"], [["a_rather_long_name_of_a_model", "[red] words " * 9]], title="t")
    text = capsys.readouterr().out
    assert "a_rather_long_name_of_a_model" in text and "[red]" in text


def test_options_are_read() -> None:
    assert pairs(["a=1 Gy", "b = 2 Gy BED (a/b = 2.5 Gy, repair 2.8 h)"], "--limit", "x=1") == {
        "a": "1 Gy",
        "b": "2 Gy BED (a/b = 2.5 Gy, repair 2.8 h)",
    }
    with pytest.raises(UsageError, match="twice"):
        pairs(["a=1", "a=2"], "--limit", "x=1")
    assert whole_numbers("1-3,5", "--cycles") == [1, 2, 3, 5]
    with pytest.raises(UsageError, match="smaller first"):
        whole_numbers("6-1", "--cycles")


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _child(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, *arguments]
    return subprocess.run(start, cwd=folder, env=_environment(), capture_output=True, text=True, check=True)


def _cost(arguments: list[str], folder: Path) -> float:
    """Processor time of a new process, user and system [s]."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _child(arguments, folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def test_processor_time_of_the_main_job(tmp_path: Path) -> None:
    """At most 6 s where the machine is quick; everywhere at most so many times the import of its libraries.

    Processor time of the same work varies by half on shared machines within a minute, so the two are measured in turn
    and the seconds are judged only while the libraries import as fast as where the 6 s were set.
    """
    main_job = ["-c", "import sys; sys.argv = ['pkmodel', 'run', 'snmmi_p004']; from pkmodel.cli import main; main()"]
    libraries = ["-c", "import lmfit, sympy, numba, pandas, xarray, pint, matplotlib.figure, h5netcdf, typer"]
    _child(main_job, tmp_path)  # writes the compiled kernels
    rounds = [(_cost(main_job, tmp_path), _cost(libraries, tmp_path)) for _ in range(3)]
    cost, imports = min(rounds, key=lambda pair: pair[1])
    ratio = min(c / i for c, i in rounds)
    print(f"pkmodel run snmmi_p004: expected at most {LIMIT} s of processor time, got {cost:.2f} s")
    print(f"  in units of importing its libraries ({imports:.2f} s): at most {RATIO}, got {ratio:.2f}")
    assert ratio <= RATIO
    if imports <= QUICK:
        assert cost <= LIMIT
