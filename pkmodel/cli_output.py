"""How the command line speaks: tables, progress, one clean message for what went wrong."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from .dosimetry.present import show
from .errors import LibraryError, PkmodelError

_NUMBER = re.compile(r"[-+]?\d*\.?\d+(e[-+]?\d+)?( %)?$")
FAILED, USAGE, INTERRUPTED = 1, 2, 130


class UsageError(PkmodelError):
    """An option that cannot be read."""


def say(*lines: str) -> None:
    """Print lines of text as they are; nothing where there are none."""
    for line in lines:
        print(line)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """Print a table: drawn in a terminal, plain aligned columns in a pipe; names are never broken."""
    cells = [[show(cell) for cell in row] for row in rows]
    words = [all(isinstance(row[k], str) and not _NUMBER.match(row[k]) for row in rows) for k in range(len(header))]
    if not sys.stdout.isatty():
        say(*([title] if title else []), *_plain(header, cells, words))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold")
    for k, name in enumerate(header):
        whole = max((len(row[0]) for row in cells), default=0) if k == 0 else None
        drawn.add_column(name, justify="left" if words[k] else "right", min_width=whole, overflow="fold")
    for row in cells:
        drawn.add_row(*map(Text, row))  # as text: a name in brackets is not a style
    Console().print(drawn)


def _plain(header: Sequence[str], cells: Sequence[Sequence[str]], words: Sequence[bool]) -> Iterator[str]:
    """Aligned columns, words to the left and numbers to the right, each row on one line."""
    lines = [header, ["-" * max(map(len, column)) for column in zip(header, *cells, strict=True)], *cells]
    widths = [len(rule) for rule in lines[1]]
    for line in lines:
        pairs = zip(line, widths, words, strict=True)
        yield "  ".join(cell.ljust(w) if left else cell.rjust(w) for cell, w, left in pairs).rstrip()


def warn(lines: Sequence[str]) -> None:
    """Print warnings on standard error, yellow in a terminal."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    for line in lines:
        print(f"\033[33m! {line}\033[0m" if colour else f"! {line}", file=sys.stderr)


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A spinner that names the step, on standard error, in a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield lambda step: status.update(step)


def failure(error: BaseException, stream: TextIO | None = None) -> int:
    """Print what went wrong in one message and give the exit status; ``PKMODEL_TRACEBACK=1`` shows where."""
    out = stream or sys.stderr
    if os.environ.get("PKMODEL_TRACEBACK"):
        import traceback

        traceback.print_exception(error, file=out)
    if isinstance(error, KeyboardInterrupt):
        print("pkmodel: interrupted", file=out)
        return INTERRUPTED
    if isinstance(error, PkmodelError):
        print(f"pkmodel: {error}", file=out)
        return USAGE if isinstance(error, LibraryError | UsageError) else FAILED
    if isinstance(error, OSError):
        place = f": {error.filename}" if error.filename else ""
        print(f"pkmodel: {error.strerror or error}{place}", file=out)
        return FAILED
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f" at {os.path.basename(where.tb_frame.f_code.co_filename)}:{where.tb_lineno}" if where else ""
    print(
        f"pkmodel: this is a fault of pkmodel, please report it: {type(error).__name__}: {error}{place}; "
        "set PKMODEL_TRACEBACK=1 to see more",
        file=out,
    )
    return FAILED


def pairs(given: Sequence[str] | None, option: str, example: str) -> dict[str, str]:
    """Read ``NAME=VALUE`` options.

    Raises
    ------
    UsageError
        One has no ``=``, or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        name, value = name.strip(), value.strip()
        if not (equals and name and value):
            raise UsageError(f'{option} {text!r} cannot be read; write {option} "{example}"')
        if name in found:
            raise UsageError(f"{option} names {name!r} twice; give it once")
        found[name] = value
    return found


def whole_numbers(text: str, option: str) -> list[int]:
    """Read ``4``, ``1-6`` or ``1,2,4``.

    Raises
    ------
    UsageError
        The text is none of these, or a number is below 1.
    """
    found: list[int] = []
    for part in text.split(","):
        low, dash, high = part.partition("-")
        try:
            first = int(low)
            last = int(high) if dash else first
        except ValueError:
            raise UsageError(f"{option} {text!r} cannot be read; write 3, 1-6 or 1,2,4") from None
        if not 1 <= first <= last <= 100:
            raise UsageError(f"{option} {text!r}: allowed are whole numbers from 1 to 100, the smaller first")
        found += range(first, last + 1)
    return found
