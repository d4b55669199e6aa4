"""The command ``pkmodel``: the verbs of the package, one subcommand each.

Nothing heavy is imported until a verb needs it; the verbs themselves are in `cli_verbs`.
"""

from __future__ import annotations

import gc
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from . import __version__, cli_data
from .cli_output import INTERRUPTED, failure

app = typer.Typer(
    name="pkmodel",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Compartment models of radiopharmaceuticals: serial imaging in, absorbed dose and a plan out.\n\n"
    "Research software, not a medical device. It segments no images.",
    epilog="Start with:  pkmodel run snmmi_p004",
)

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="name of a data set, or the path of its folder")]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="name of a model, or the path of its file")]
Subject = Annotated[str | None, typer.Option(help="which subject, where the data set has several")]
ModelOption = Annotated[str | None, typer.Option("--model", help="name or path; default the protocol's")]
Protocol = Annotated[str | None, typer.Option(help="fit protocol, name or path  [default: serial_spect]")]
Limits = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="ORGAN=LIMIT", help='"kidneys=23 Gy"; repeat for more; default published values'),
]
Already = Annotated[
    list[str] | None,
    typer.Option("--already", metavar="ORGAN=DOSE", help="received before the measured cycle, in the limit's kind"),
]
Masses = Annotated[
    list[str] | None, typer.Option("--mass", metavar="ORGAN=MASS", help='"liver=1800 g"; default from the CT volumes')
]
Cycles = Annotated[str, typer.Option(metavar="N", help="further cycles: 3, 1-6 or 1,2,4")]
Interval = Annotated[str, typer.Option(help="from one cycle to the next")]
Probability = Annotated[float, typer.Option(help="accepted probability that any limit is exceeded")]
BodyMass = Annotated[str | None, typer.Option(help='bounds the cross-dose that is missing: "70 kg"')]
Daughters = Annotated[str | None, typer.Option(help="none or equilibrium; must be said for chains such as Ac-225")]
Seed = Annotated[int, typer.Option(help="of every random draw", min=0)]


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"pkmodel {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="show the version and stop", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command("run")
def run_command(
    study: StudyName,
    subject: Subject = None,
    model: ModelOption = None,
    protocol: Protocol = None,
    out: Annotated[Path | None, typer.Option(help="folder of the report  [default: STUDY_report]")] = None,
    limit: Limits = None,
    already: Already = None,
    mass: Masses = None,
    body_mass: BodyMass = None,
    daughters: Daughters = None,
    cycles: Cycles = "3",
    interval: Interval = "8 wk",
    probability: Probability = 0.05,
    seed: Seed = 0,
) -> None:
    """The main job: fit, integrate, dose, plan; writes a report.

    \b
    Examples:
      pkmodel run snmmi_p004
      pkmodel run my_patient/ --subject P01 --limit "kidneys=23 Gy" --body-mass "70 kg"
      pkmodel run snmmi_p004 --limit "kidney_left=40 Gy BED (a/b 2.5 Gy, repair 2.8 h)"
    """
    from .cli_verbs import run_and_report

    settings = _settings(subject, model, protocol, limit, already, mass, body_mass, daughters)
    settings |= {"cycles": cycles, "interval": interval, "probability": probability, "seed": seed}
    run_and_report(study, out=out, command=shlex.join(["pkmodel", *sys.argv[1:]]), settings=settings)


@app.command("list")
def list_command(
    what: Annotated[str, typer.Argument(metavar="[WHAT]", help="models, studies, protocols or nuclides")] = "",
) -> None:
    """Names of what is shipped: models, studies, protocols, nuclides.

    \b
    Examples:
      pkmodel list
      pkmodel list models
    """
    from .cli_verbs import show_library

    show_library(what)


@app.command("check")
def check_command(model: ModelName) -> None:
    """Prove a model's units and balances, and run its reference numbers; exit status 1 if anything fails.

    \b
    Examples:
      pkmodel check organ_2_phase
      pkmodel check my_model.toml
    """
    from .cli_verbs import check_model

    if not check_model(model):
        raise typer.Exit(1)


@app.command("simulate")
def simulate_command(
    model: ModelName,
    regimen: Annotated[str, typer.Argument(metavar="REGIMEN", help='"7.4 GBq once", "7.4 GBq every 8 wk x 4"')],
    nuclide: Annotated[str | None, typer.Option(help="label the model with it")] = None,
    cold: Annotated[bool, typer.Option("--cold", help="follow unlabelled ligand as well")] = False,
    amount: Annotated[str | None, typer.Option(help='ligand in each administration: "100 nmol"')] = None,
    days: Annotated[float | None, typer.Option(help="how long to follow it")] = None,
    out: Annotated[list[Path] | None, typer.Option(help="file: .nc, .csv, .png, .svg or .pdf; repeat for more")] = None,
    log: Annotated[bool, typer.Option("--log", help="logarithmic axis in the figure")] = False,
) -> None:
    """Give a regimen to a model and follow it.

    \b
    Examples:
      pkmodel simulate organ_2_phase "7.4 GBq once" --nuclide Lu-177 --days 10
      pkmodel simulate psma617_siebinga2023 "7.4 GBq once" --nuclide Lu-177 --cold --amount "100 nmol" --out run.csv
    """
    from .cli_verbs import simulate_model

    simulate_model(model, regimen, nuclide=nuclide, cold=cold, amount=amount, days=days, out=out or [], log=log)


@app.command("fit")
def fit_command(
    study: StudyName,
    subject: Subject = None,
    model: ModelOption = None,
    protocol: Protocol = None,
    out: Annotated[list[Path] | None, typer.Option(help="file: .nc, .csv, .png, .svg or .pdf; repeat for more")] = None,
    log: Annotated[bool, typer.Option("--log", help="logarithmic axis in the figure")] = False,
    seed: Seed = 0,
) -> None:
    """Fit a model to the curves of one subject.

    \b
    Examples:
      pkmodel fit snmmi_p004
      pkmodel fit snmmi_p004 --model organ_1_phase --out fit.nc --out fit.png
    """
    from .cli_verbs import fit_study

    fit_study(study, subject=subject, model=model, protocol=protocol, out=out or [], log=log, seed=seed)


@app.command("dose")
def dose_command(
    study: StudyName,
    subject: Subject = None,
    model: ModelOption = None,
    protocol: Protocol = None,
    mass: Masses = None,
    body_mass: BodyMass = None,
    daughters: Daughters = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="write the table there as well")] = None,
    seed: Seed = 0,
) -> None:
    """Organ doses of one subject, without a report.

    \b
    Examples:
      pkmodel dose snmmi_p004
      pkmodel dose snmmi_p004 --body-mass "70 kg" --csv doses.csv
    """
    from .cli_verbs import dose_study

    settings = _settings(subject, model, protocol, None, None, mass, body_mass, daughters) | {"seed": seed}
    dose_study(study, csv=csv, settings=settings)


@app.command("plan")
def plan_command(
    study: StudyName,
    subject: Subject = None,
    model: ModelOption = None,
    protocol: Protocol = None,
    limit: Limits = None,
    already: Already = None,
    mass: Masses = None,
    body_mass: BodyMass = None,
    daughters: Daughters = None,
    cycles: Cycles = "1-6",
    interval: Interval = "8 wk",
    probability: Probability = 0.05,
    seed: Seed = 0,
) -> None:
    """The largest activity further cycles may have, without a report.

    \b
    Examples:
      pkmodel plan snmmi_p004 --limit "kidney_left=23 Gy" --limit "liver=30 Gy"
      pkmodel plan snmmi_p004 --limit "kidney_left=23 Gy" --cycles 3 --already "kidney_left=5 Gy"
    """
    from .cli_verbs import plan_study

    settings = _settings(subject, model, protocol, limit, already, mass, body_mass, daughters)
    plan_study(study, settings | {"cycles": cycles, "interval": interval, "probability": probability, "seed": seed})


@app.command("compare-formats")
def compare_formats_command(
    formats: Annotated[
        str, typer.Option(help="comma-separated: igg,fab,nanobody")
    ] = "igg,fab,nanobody,affibody,peptide",
    nuclide: Annotated[
        list[str] | None, typer.Option(help="repeat for more  [default: Zr-89, Ga-68, Lu-177]", metavar="NUCLIDE")
    ] = None,
    target: Annotated[str, typer.Option(help="her2, or another target_... of the library")] = "her2",
    kd: Annotated[
        list[str] | None,
        typer.Option("--kd", metavar="[FORMAT=]KD", help='"1 nmol/L"; "fab=20 nmol/L" for one; default 1 nmol/L'),
    ] = None,
    host: Annotated[str, typer.Option(help="adult_male, adult_female or mouse")] = "adult_male",
    tumour: Annotated[str, typer.Option(help="tumour_simple, tumour_solid or your own")] = "tumour_simple",
    amount: Annotated[str, typer.Option(help="ligand given, the same for all formats")] = "20 nmol",
    limit: Limits = None,
    patients: Annotated[int, typer.Option(help="virtual patients, for the spread", min=0, max=10000)] = 100,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="also change matrix, pressure and stroma of a solid tumour")
    ] = False,
    out: Annotated[list[Path] | None, typer.Option(help="file: .csv, .nc, .png, .svg or .pdf; repeat for more")] = None,
    seed: Seed = 0,
) -> None:
    """One binder in several formats: when to image, contrast, dose, therapeutic index, with their spread.

    \b
    Examples:
      pkmodel compare-formats
      pkmodel compare-formats --formats igg,fab --nuclide Lu-177 --kd "igg=0.3 nmol/L" --kd "fab=20 nmol/L" --out f.csv
    """
    from .cli_formats import compare_and_show

    compare_and_show(
        formats, nuclide or [], target=target, kd=kd or [], host=host, tumour=tumour, amount=amount,
        limits=limit or [], patients=patients, sweep=sweep,
        out=out or [], seed=seed,
    )  # fmt: skip


@app.command("design")
def design_command(
    model: ModelName,
    regimen: Annotated[
        str | None, typer.Argument(metavar="[REGIMEN]", help='"7.4 GBq once"; default the agent\'s')
    ] = None,
    organs: Annotated[str | None, typer.Option(help="kidneys,tumour=2: imaged, with weights; 0: imaged only")] = None,
    scans: Annotated[str, typer.Option(metavar="N", help="how many: 3, 1-4 or 1,2,4")] = "3",
    at: Annotated[str | None, typer.Option(help='judge these scans instead: "4,24,96" h after injection')] = None,
    single: Annotated[bool, typer.Option("--single", help="the best time of one scan, with its curve")] = False,
    nuclide: Annotated[str | None, typer.Option(help="label the model with it")] = None,
    cold: Annotated[bool, typer.Option("--cold", help="follow unlabelled ligand as well")] = False,
    criterion: Annotated[str, typer.Option(help="tia, worst, D or A")] = "tia",
    spread: Annotated[
        list[str] | None, typer.Option(metavar="NAME=CV", help='between patients: "k_washout=30 %"; repeat for more')
    ] = None,
    free: Annotated[str | None, typer.Option(help="unknown parameters  [default: those with a spread]")] = None,
    no_prior: Annotated[bool, typer.Option("--no-prior", help="the scans alone count, not the spread")] = False,
    noise: Annotated[
        list[str] | None, typer.Option(metavar="[ORGAN=]SD", help='of one organ in one scan: "10 %"; repeat for more')
    ] = None,
    clinic: Annotated[str | None, typer.Option(help='injection, so that opening hours count: "Mon 10:00"')] = None,
    hours: Annotated[str, typer.Option(help="the clinic is open")] = "8-17",
    days: Annotated[str, typer.Option(help="on these days")] = "Mon-Fri",
    last: Annotated[str | None, typer.Option(help='latest scan: "10 d"  [default: one week, or 5 half-lives]')] = None,
    minutes: Annotated[str, typer.Option(help="length of a frame, or lengths to choose from: 10,20,40")] = "0",
    budget: Annotated[str | None, typer.Option(help="minutes of camera time, all frames together")] = None,
    gap: Annotated[str, typer.Option(help='least time between scans: "12 h"')] = "0 h",
    window: Annotated[
        list[str] | None, typer.Option(metavar="A-B", help='of the first, second, ... scan: "20-28 h"; repeat for more')
    ] = None,
    target: Annotated[str | None, typer.Option(help='the fewest scans that reach it: "5 %"')] = None,
    patients: Annotated[int, typer.Option(help="average over virtual patients; 0: the typical one", min=0)] = 0,
    out: Annotated[list[Path] | None, typer.Option(help="file: .csv, .png, .svg or .pdf; repeat for more")] = None,
    seed: Seed = 0,
) -> None:
    """When to scan: the times that make time-integrated activity most precise, or what given times will tell.

    \b
    Examples:
      pkmodel design psma617_siebinga2023 "7.4 GBq once" --nuclide Lu-177 --organs kidneys,tumour --clinic "Mon 10:00"
      pkmodel design psma617_siebinga2023 "7.4 GBq once" --nuclide Lu-177 --organs kidneys --at 4,24,96 --noise "8 %"
    """
    from .cli_design import design_and_show

    design_and_show(
        model, regimen, organs=organs, scans=scans, at=at, single=single, nuclide=nuclide, cold=cold,
        criterion=criterion, spread=spread or [], free=free, prior=not no_prior, noise=noise or [], clinic=clinic,
        hours=hours, days=days, last=last, minutes=minutes, budget=budget, gap=gap, window=window or [], target=target,
        patients=patients, out=out or [], seed=seed,
    )  # fmt: skip


@app.command("predict")
def predict_command(
    population: Annotated[
        str, typer.Argument(metavar="POPULATION", help="file of a population, from a fit or a paper")
    ],
    study: StudyName,
    subject: Subject = None,
    cycle: Annotated[str | None, typer.Option(help="which of several; earlier ones inform it  [default: last]")] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIMES", help='use only the scans nearest these: "48" or "24,96" h')
    ] = None,
    model: Annotated[str | None, typer.Option(help="it was estimated with; default found by its equations")] = None,
    cold: Annotated[bool, typer.Option("--cold", help="the model follows unlabelled ligand as well")] = False,
    covariate: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help='of the patient: "CrCl=65 mL/min"; repeat for more')
    ] = None,
    mass: Masses = None,
    accept_changed_model: Annotated[
        bool, typer.Option("--accept-changed-model", help="go on with equations that are not the population's")
    ] = False,
    out: Annotated[list[Path] | None, typer.Option(help="file: .csv, .png, .svg or .pdf; repeat for more")] = None,
    seed: Seed = 0,
) -> None:
    """Dosimetry from one, two or three scans, with a population and beside the methods of daily practice.

    \b
    Examples:
      pkmodel predict psma617.toml my_patient/ --at 48 --mass "kidneys=310 g"
      pkmodel predict psma617.toml my_patient/ --cycle 2 --out tia.csv --out tia.png
    """
    from .cli_single_time import predict_and_show

    predict_and_show(
        population, study, subject=subject, cycle=cycle, at=at, model=model, cold=cold, covariates=covariate or [],
        masses=mass or [], accept_changed_model=accept_changed_model, out=out or [], seed=seed,
    )  # fmt: skip


@app.command("validate")
def validate_command(
    agent: Annotated[list[str] | None, typer.Argument(metavar="[AGENT]...", help="default all with facts")] = None,
    page: Annotated[
        Path | None, typer.Option(help="folder of a checkout: write docs/validation.md and its figure")
    ] = None,
) -> None:
    """Agents beside what was published of them: doses, half-lives, content; misses stay in.

    \b
    Examples:
      pkmodel validate zr89_trastuzumab
      pkmodel validate --page .
    """
    from .cli_formats import validate_and_show

    validate_and_show(agent or [], page)


cli_data.register(app)


def _settings(
    subject: str | None,
    model: str | None,
    protocol: str | None,
    limit: list[str] | None,
    already: list[str] | None,
    mass: list[str] | None,
    body_mass: str | None,
    daughters: str | None,
) -> dict[str, Any]:
    """Options that several verbs share, as `main_job.run` takes them."""
    from .cli_output import UsageError, pairs

    if daughters not in (None, "none", "equilibrium"):
        raise UsageError(f"--daughters {daughters!r}: allowed are none and equilibrium")
    return {
        "subject": subject,
        "model": model,
        "protocol": protocol,
        "limits": pairs(limit, "--limit", "kidneys=23 Gy") or None,
        "already": pairs(already, "--already", "kidneys=12 Gy") or None,
        "masses": pairs(mass, "--mass", "liver=1800 g") or None,
        "body_mass": body_mass,
        "daughters": daughters,
    }


def _stop(number: int, _: object) -> None:
    print("pkmodel: interrupted", file=sys.stderr)
    sys.exit(128 + number)  # as an exception, so that half-written folders are cleared away


def main() -> None:
    """Run the command line; every failure is one message and an exit status that is not zero."""
    for name in ("SIGINT", "SIGTERM"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _stop)
    gc.set_threshold(200_000, 50, 50)  # loading libraries makes much that stays: looking for garbage costs 0.3 s
    try:
        app(prog_name="pkmodel")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        sys.exit(failure(error))


if __name__ == "__main__":
    main()
