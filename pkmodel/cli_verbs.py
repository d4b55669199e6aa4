"""What each subcommand of `pkmodel` does; heavy libraries are imported by the verbs that need them."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cli_output import UsageError, progress, say, table, warn, whole_numbers
from .errors import did_you_mean
from .library import Kind, find, list_names

if TYPE_CHECKING:
    from .main_job import MainJob

_KINDS: dict[str, Kind] = {"models": "model", "studies": "study", "protocols": "protocol"}
_PICTURES = (".png", ".svg", ".pdf")


def show_library(what: str) -> None:
    """Print names and titles of what is shipped; of everything but nuclides where nothing is named."""
    wanted = [*_KINDS] if not what else [what]
    for k, kind in enumerate(wanted):
        if kind == "nuclides":
            _show_nuclides()
        elif kind in _KINDS:
            rows = [[name, _title(_KINDS[kind], name)] for name in list_names(_KINDS[kind])]
            say(*([""] if k else []))
            table([kind, "what it is"], rows)
        else:
            known = [*_KINDS, "nuclides"]
            raise UsageError(f"list {kind!r} is not known{did_you_mean(kind, known)}; allowed: {', '.join(known)}")


def _title(kind: Kind, name: str) -> str:
    entry = find(kind, name)
    file = entry.joinpath("study.toml") if kind == "study" else entry
    return " ".join(str(tomllib.loads(file.read_text(encoding="utf-8")).get("title", "")).split())


def _show_nuclides() -> None:
    from .nuclides import list_nuclides, nuclide

    rows = []
    for name in list_nuclides():
        one = nuclide(name)
        daughters = ", ".join(f"{b.daughter} {100 * b.fraction:.4g} %" for b in one.branches if b.fraction > 0)
        energy = [one.energy["alpha"], one.electrons, one.energy["photon"]]
        rows.append([name, _half_life(one.half_life), *energy, daughters])
    header = ["nuclide", "half-life", "alpha [MeV]", "electrons [MeV]", "photons [MeV]", "decays to"]
    table(header, rows)


def _half_life(hours: float) -> str:
    for unit, size in (("y", 8766.0), ("d", 24.0), ("h", 1.0), ("min", 1 / 60)):
        if hours >= size:
            return f"{hours / size:.4g} {unit}"
    return f"{hours * 3600:.4g} s"


def check_model(name: str) -> bool:
    """Print what can be proved about a model and how its reference numbers come out; whether all hold."""
    from .assembly import load_model
    from .checks import check
    from .reference import run_checks

    model = load_model(name)
    report = check(model)
    say(str(report))
    rows = run_checks(model)
    if rows:
        say("")
        cells = [
            ["ok" if r.ok else "FAIL", r.name, f"{r.expected:.8g}", f"{r.got:.8g}", f"{r.rtol:g}", r.source]
            for r in rows
        ]
        table(["", "reference number", "expected", "got", "tolerance", "source"], cells)
    else:
        say("no reference numbers in the file ([[check]])")
    return bool(report) and all(r.ok for r in rows)


def simulate_model(
    name: str,
    text: str,
    *,
    nuclide: str | None,
    cold: bool,
    amount: str | None,
    days: float | None,
    out: Sequence[Path],
    log: bool,
) -> None:
    """Print observables at ten times and their integrals; write them where asked."""
    _check_files(out, (".nc", ".csv", *_PICTURES))
    from .assembly import load_model
    from .labelling import label
    from .regimen import Regimen
    from .simulation import simulate

    with progress() as step:
        step("simulating")
        model = load_model(name)
        if nuclide is not None:
            model = label(model, nuclide, cold=cold)
        elif cold:
            raise UsageError("--cold follows unlabelled ligand beside a label; give --nuclide as well")
        if days is not None and not days > 0:
            raise UsageError(f"--days {days:g}: must be above zero")
        run = simulate(model, Regimen(text, nuclide=nuclide or "", amount=amount), days=days)
        observables = [str(v) for v in run.data_vars if f"integral_{v}" in run]
        for path in out:
            if path.suffix == ".nc":
                _write(path, lambda p: run.to_netcdf(p, engine="h5netcdf"))
            elif path.suffix == ".csv":
                frame = run[observables].to_dataframe().rename_axis("time [h]")
                frame.columns = [f"{v} [{run[v].attrs['units']}]" for v in observables]
                _write(path, frame.to_csv)
            else:
                from .plot import simulation_figure

                _picture(path, simulation_figure(run, scale="log" if log else "linear"))
    last = run.sizes["time"] - 1
    every = sorted({round(k * last / 9) for k in range(10)})
    header = ["time [h]", *(f"{v} [{run[v].attrs['units']}]" for v in observables)]
    rows = [[f"{float(run['time'][k]):.5g}", *(float(run[v][k]) for v in observables)] for k in every]
    table(header, rows, title=f"{run.attrs['model']}: {run.attrs['regimen']}")
    ends = [[v, float(run[f"integral_{v}"][-1]), str(run[f"integral_{v}"].attrs["units"])] for v in observables]
    say("")
    table(["integral from 0 to the last time", "value", "unit"], ends)
    warn([w for w in str(run.attrs["warnings"]).split("; ") if w])
    say(*(f"wrote {path}" for path in out))


def fit_study(
    study: str,
    *,
    subject: str | None,
    model: str | None,
    protocol: str | None,
    out: Sequence[Path],
    log: bool,
    seed: int,
) -> None:
    """Print a fit and write it where asked."""
    _check_files(out, (".nc", ".csv", *_PICTURES))
    from .main_job import fit_one

    with progress() as step:
        step("fitting")
        result = fit_one(study, subject=subject, model=model, protocol=protocol, seed=seed)
        for path in out:
            if path.suffix == ".nc":
                _write(path, result.to_netcdf)
            elif path.suffix == ".csv":
                _write(path, result.table.to_csv)
            else:
                from .plot import fit_figure

                _picture(path, fit_figure(result, scale="log" if log else "linear"))
    say(str(result))
    say(*(f"wrote {path}" for path in out))


def run_and_report(study: str, *, out: Path | None, command: str, settings: Mapping[str, Any]) -> None:
    """The main job with its report; prints the answer and where the report is."""
    folder = out if out is not None else _default_folder(study, settings.get("subject"))
    job = _job(study, {**settings, "out": folder, "command": command})
    say(*job.headline(), "")
    _dose_table(job)
    if job.plan is not None:
        say("")
        one = job.plan.best
        rows = []
        each = one.exceeded(one.activity)[1]
        for limit, p, (_, r) in zip(job.plan.limits, each, job.plan.against_limits().iterrows(), strict=True):
            rows.append([limit.organ, str(limit).split(": ", 1)[1], float(r["value [Gy]"]), f"{100 * p:.1f} %"])
        table(["limit of", "limit", "reached [Gy]", "P(exceeded)"], rows, title=f"plan: {job.plan.regimen}")
    say("")
    warn(job.warnings)
    say("research software, not a medical device", f"report: {job.paths['report']}")


def dose_study(study: str, *, csv: Path | None, settings: Mapping[str, Any]) -> None:
    """Print organ doses and write them where asked."""
    job = _job(study, settings)
    if csv is not None:
        from .report_numbers import doses_csv

        _write(csv, lambda p: p.write_text(doses_csv(job), encoding="utf-8"))
    _dose_table(job)
    warn([w for w in job.warnings if "limit" not in w])
    say(*([f"wrote {csv}"] if csv else []))


def plan_study(study: str, settings: Mapping[str, Any]) -> None:
    """Print a plan."""
    job = _job(study, settings)
    if job.plan is None:
        raise UsageError(f'{job.notes[-1]}: --limit "{job.doses.organs[0]}=23 Gy"')
    say(str(job.plan).split("\n!", 1)[0], "")
    warn(job.warnings)


def _job(study: str, settings: Mapping[str, Any]) -> MainJob:
    from .main_job import run

    options = dict(settings)
    if "cycles" in options:
        options["cycles"] = whole_numbers(options["cycles"], "--cycles")
    with progress() as step:
        return run(study, progress=step, **options)


def _dose_table(job: MainJob) -> None:
    frame = job.doses.table()
    if frame["missing at most [Gy]"].isna().all():
        frame = frame.drop(columns="missing at most [Gy]")
    rows = [[str(i), *row] for i, row in zip(frame.index, frame.to_numpy().tolist(), strict=True)]
    given = job.doses.injected_activity
    who = f"{job.curves.subject} of {job.study.name}: {job.doses.nuclide}, {given:.6g} MBq"
    table(["organ", *frame.columns], rows, title=f"absorbed dose, {who}")


def _default_folder(study: str, subject: str | None) -> Path:
    """``STUDY_report`` in the working directory, with the subject where one was named."""
    path = Path(study)
    if path.name in ("study.toml", "tac.csv"):
        path = path.parent
    name = path.resolve().name
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in "_".join(x for x in (name, subject) if x))
    return Path(f"{safe}_report")


def _check_files(out: Sequence[Path], allowed: Sequence[str]) -> None:
    """Refuse, before any work, a file that could not be written."""
    for path in out:
        if path.suffix not in allowed:
            raise UsageError(f"--out {path}: the ending {path.suffix!r} is not known; allowed: {', '.join(allowed)}")
        if not path.absolute().parent.is_dir():
            raise UsageError(f"--out {path}: there is no folder {path.absolute().parent}")


def _write(path: Path, how: Callable[[Path], Any]) -> None:
    """Write a file beside its place and move it there when it is whole."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        how(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _picture(path: Path, figure: Any) -> None:
    kind = path.suffix[1:]
    _write(path, lambda p: figure.savefig(p, format=kind, dpi=200))
