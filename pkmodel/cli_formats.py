"""What `pkmodel compare-formats` and `pkmodel validate` do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .cli_output import UsageError, pairs, progress, say, table, warn

_PICTURES = (".png", ".svg", ".pdf")


def compare_and_show(
    formats: str,
    nuclides: Sequence[str],
    *,
    target: str,
    kd: Sequence[str],
    host: str,
    tumour: str,
    amount: str,
    limits: Sequence[str],
    patients: int,
    sweep: bool,
    out: Sequence[Path],
    seed: int,
) -> None:
    """Compare, print a table for each nuclide, and write what was asked for."""
    from .cli_verbs import _check_files, _picture, _write

    _check_files(out, (".csv", ".nc", *_PICTURES))
    names = [f.strip() for f in formats.split(",") if f.strip()]
    if not names:
        raise UsageError(f'--formats {formats!r} names none; write --formats "igg,fab"')
    from .comparison import compare_formats, sweep_tumour
    from .comparison.formats import NUCLIDES

    chosen = list(nuclides) or list(NUCLIDES)
    affinity = _affinities(kd, names)
    at = pairs(limits, "--limit", "kidneys=23 Gy") or None
    with progress() as step:
        found = compare_formats(
            names, chosen, target=target, KD=affinity, host=host, tumour=tumour, amount=amount, limits=at,
            n=patients, seed=seed, progress=step,
        )  # fmt: skip
        changed = (
            sweep_tumour(
                names, nuclide_name=chosen[-1], target=target, KD=affinity, host=host, amount=amount,
                n=min(patients, 30), seed=seed, progress=step,
            )
            if sweep
            else None
        )  # fmt: skip
    say(str(found).split("\n!", 1)[0])
    if changed is not None:
        say("", str(changed).split("\n!", 1)[0])
    warn([*found.warnings, *(changed.warnings if changed else ())])
    for path in out:
        if path.suffix == ".nc":
            _write(path, found.to_netcdf)
        elif path.suffix == ".csv":
            _write(path, found.table().to_csv)
            if changed is not None:
                beside = path.with_name(f"{path.stem}_sweep.csv")
                _write(beside, lambda p: changed.table().to_csv(p, index=False))
                say(f"wrote {beside}")
        else:
            _picture(path, found.plot())
            if changed is not None:
                beside = path.with_name(f"{path.stem}_sweep{path.suffix}")
                _picture(beside, changed.plot())
                say(f"wrote {beside}")
    say(*(f"wrote {path}" for path in out), "research software, not a medical device")


def _affinities(given: Sequence[str], formats: Sequence[str]) -> str | dict[str, str]:
    """One KD for all, or one for each format: ``--kd "1 nmol/L" --kd "fab=20 nmol/L"``."""
    common, own = "1 nmol/L", {}
    for text in given:
        name, equals, value = (x.strip() for x in text.partition("="))
        if not equals:
            common = name
        elif name not in formats:
            raise UsageError(f"--kd {text!r}: {name} is not compared; compared are {', '.join(formats)}")
        else:
            own[name] = value
    return {f: own.get(f, common) for f in formats} if own else common


def validate_and_show(agents: Sequence[str], page: Path | None) -> None:
    """Set agents beside published numbers, print them, and write the page where asked."""
    from .validation import validate
    from .validation_page import FIGURE, PAGE, write_page

    if page is not None and agents:
        raise UsageError("--page is of all agents; leave the names out")
    if page is not None and not page.joinpath("models").is_dir():
        raise UsageError(f"--page {page}: this is no checkout, it has no folder models")
    with progress() as step:
        found = validate(agents, progress=step) if page is None else write_page(page, progress=step)
    header = ["agent", "region", "quantity", "published", "spread", "model", "ratio", "met"]
    rows = []
    for r in found.rows:
        low, high = r.fact.band
        spread = "" if low != low else f"{low:.3g} to {high:.3g}"
        value = f"{r.fact.value:.3g} {r.fact.unit}"
        cells = [r.fact.agent, r.fact.region, r.fact.what, value, spread, f"{r.got:.3g}", f"{r.ratio:.2g}"]
        rows.append([*cells, "yes" if r.met else "no"])
    table(header, rows)
    say("", f"{sum(r.met for r in found.rows)} of {len(found.rows)} met; self-doses only, misses stay in")
    warn([f"{a}: {why}" for a, why in found.failed.items()])
    if page is not None:
        say(f"wrote {page / PAGE}", f"wrote {page / FIGURE}")
