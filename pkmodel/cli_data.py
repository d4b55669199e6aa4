"""`pkmodel nca` and `pkmodel convert`: what the command line does with NONMEM data files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .data import Study

Units = Annotated[
    list[str] | None,
    typer.Option("--unit", metavar="COLUMN=UNIT", help="of TIME, AMT and DV: TIME=h; repeat for each"),
]
Drop = Annotated[list[str] | None, typer.Option("--drop", metavar="COLUMN", help="to leave out; repeat for more")]
Rename = Annotated[
    list[str] | None, typer.Option("--rename", metavar="COLUMN=NAME", help="CONC=DV: how a column is called here")
]
Routes = Annotated[
    list[str] | None,
    typer.Option("--cmt", metavar="N=ROUTE", help="1=oral: where doses into CMT N go; repeat"),
]
Regions = Annotated[
    list[str] | None, typer.Option("--dvid", metavar="N=REGION", help="2=metabolite: what samples with DVID N are of")
]
Source = Annotated[str, typer.Argument(metavar="FILE", help="NONMEM data file, or the name or folder of a data set")]


def register(app: typer.Typer) -> None:
    """Add the two commands to the command line."""
    app.command("nca")(nca_command)
    app.command("convert")(convert_command)


def nca_command(
    file: Source,
    unit: Units = None,
    route: Annotated[str | None, typer.Option(help="bolus, infusion or extravascular")] = None,
    infusion: Annotated[str, typer.Option(help='how long it ran, where the file does not say: "30 min"')] = "",
    dose: Annotated[str, typer.Option(help='where the file does not say: "320 mg"')] = "",
    tau: Annotated[str, typer.Option(help='interval of a steady state: "12 h"')] = "",
    method: Annotated[str, typer.Option(help="linear-up log-down, or linear")] = "linear-up log-down",
    lloq: Annotated[float | None, typer.Option(help="limit of quantification, in the unit of DV")] = None,
    after: Annotated[str, typer.Option(help="of several doses: first or last")] = "only",
    subject: Annotated[str | None, typer.Option(help="one subject only, with all its numbers")] = None,
    drop: Drop = None,
    rename: Rename = None,
    cmt: Routes = None,
    dvid: Regions = None,
    out: Annotated[list[Path] | None, typer.Option(help="file: .csv, .png, .svg or .pdf; repeat for more")] = None,
) -> None:
    """Non-compartmental analysis: areas, half-life, clearance, volumes, with diagnostics.

    \b
    Examples:
      pkmodel nca theo.csv --unit TIME=h --unit AMT=mg --unit DV=mg/L --route extravascular
      pkmodel nca theo.csv --unit TIME=h --unit AMT=mg --unit DV=mg/L --route extravascular --out nca.csv --out nca.png
    """
    from .cli_output import UsageError, say
    from .cli_verbs import _PICTURES, _check_files, _picture, _write
    from .noncompartmental import nca

    if after not in ("only", "first", "last"):
        raise UsageError(f"--after {after!r}: allowed are first and last")
    _check_files(out or [], (".csv", *_PICTURES))
    study = _read(file, unit, drop, rename, cmt, dvid)
    found = nca(
        study if subject is None else study[subject], route=route, infusion=infusion, dose=dose, tau=tau, method=method,
        lloq=lloq, after=after,
    )  # fmt: skip
    say(str(found) if subject is None else "\n\n".join(map(str, found)))
    for path in out or ():
        if path.suffix == ".csv":
            _write(path, found.table.to_csv)
        else:
            _picture(path, found.plot())
    say(*(f"wrote {path}" for path in out or ()))


def convert_command(
    file: Source,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="NONMEM data file to write, .csv")],
    unit: Units = None,
    drop: Drop = None,
    rename: Rename = None,
    cmt: Routes = None,
    dvid: Regions = None,
) -> None:
    """A NONMEM data file of any form, or a data set, checked and written as a plain NONMEM data file.

    \b
    Examples:
      pkmodel convert run1.dat clean.csv --unit TIME=h --unit AMT=mg --unit DV=mg/L
    """
    from .cli_output import say, warn
    from .cli_verbs import _check_files, _write
    from .formats.nonmem_write import write_nonmem

    _check_files([out], (".csv",))
    study = _read(file, unit, drop, rename, cmt, dvid)
    routes, regions = _numbered(cmt, "--cmt", "1=oral"), _numbered(dvid, "--dvid", "1=plasma")
    ids = None
    if not all(name.replace(".", "", 1).isdigit() for name in study.subjects):
        ids = {name: k for k, name in enumerate(dict.fromkeys(study.subjects), start=1)}
    _write(out, lambda p: write_nonmem(study, p, units=_units(unit), routes=routes, regions=regions, ids=ids))
    warn(list(study.warnings))
    if ids:
        say("NONMEM knows subjects by number: " + ", ".join(f"{name} is {k}" for name, k in ids.items()))
    say(f"wrote {out}: {len(dict.fromkeys(study.subjects))} subjects")


def _read(
    file: str,
    unit: list[str] | None,
    drop: list[str] | None,
    rename: list[str] | None,
    cmt: list[str] | None,
    dvid: list[str] | None,
) -> Study:
    from .cli_output import pairs
    from .data import load_study
    from .formats.nonmem import read_nonmem

    if not Path(file).is_file():
        return load_study(file)
    return read_nonmem(
        file, units=_units(unit), drop=tuple(drop or ()), rename=pairs(rename, "--rename", "CONC=DV"),
        routes=_numbered(cmt, "--cmt", "1=oral"), regions=_numbered(dvid, "--dvid", "1=plasma"),
    )  # fmt: skip


def _units(unit: list[str] | None) -> dict[str, str]:
    from .cli_output import UsageError, pairs

    found = pairs(unit, "--unit", "TIME=h")
    if missing := [n for n in ("TIME", "AMT", "DV") if n not in found]:
        said = " ".join(f"--unit {n}={u}" for n, u in (("TIME", "h"), ("AMT", "mg"), ("DV", "mg/L")))
        raise UsageError(f"the unit of {', '.join(missing)} is not said; write for example {said}")
    return found


def _numbered(given: list[str] | None, option: str, example: str) -> dict[int, Any] | None:
    """``N=NAME`` options by their number, None where there are none."""
    from .cli_output import UsageError, pairs

    found = pairs(given, option, example)
    if bad := [n for n in found if not n.isdigit()]:
        raise UsageError(f'{option} "{bad[0]}={found[bad[0]]}": the first is a number; write {option} "{example}"')
    return {int(n): name for n, name in found.items()} or None
