"""A progress bar for what takes more than two seconds; nothing where nobody is looking."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 2.0  # s before a bar appears


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far a long run is, on standard error of a terminal or below a notebook's cell.

    Parameters
    ----------
    what : what is counted [text]
    total : how many there are [1]

    Yields
    ------
    function
        To be called with the number that has just been done.
    """
    if not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task(what, total=total)
    began, shown = time.monotonic(), False

    def advance(done: int) -> None:
        nonlocal shown
        bar.advance(task, done)
        if not shown and time.monotonic() - began > PATIENCE and not bar.finished:
            bar.start()
            shown = True

    try:
        yield advance
    finally:
        if shown:
            bar.stop()
