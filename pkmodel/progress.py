"""A progress bar for what takes more than two seconds; nothing where nobody is looking."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE = 2.0  # s before a bar appears
OFTEN = 0.2  # s between two changes of it below a notebook's cell


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
    notebook = "ipykernel" in sys.modules
    if not (notebook or sys.stderr.isatty()):
        yield lambda done: None
        return
    bar = _Cell(what, total) if notebook else _Terminal(what, total)
    began, shown, count = time.monotonic(), False, 0

    def advance(done: int) -> None:
        nonlocal shown, count
        count += done
        if not shown and time.monotonic() - began > PATIENCE and count < total:
            shown = True
        if shown:
            bar.show(count)

    try:
        yield advance
    finally:
        if shown:
            bar.clear()


class _Terminal:
    """A bar of rich's."""

    def __init__(self, what: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task(what, total=total)
        self.started = False

    def show(self, count: int) -> None:
        if not self.started:
            self.bar.start()
            self.started = True
        self.bar.update(self.task, completed=count)

    def clear(self) -> None:
        self.bar.stop()


class _Cell:
    """HTML below a notebook's cell: rich's own bar there needs ipywidgets, and warns where they are missing."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self.handle: Any = None
        self.last = 0.0

    def show(self, count: int) -> None:
        if self.handle is not None and time.monotonic() - self.last < OFTEN:
            return
        from html import escape

        self.last = time.monotonic()
        self._write(
            f'<progress value="{count}" max="{self.total}" style="width: 20em"></progress> {escape(self.what)} '
            f"{count}/{self.total}"
        )

    def clear(self) -> None:
        self._write("")

    def _write(self, page: str) -> None:
        import IPython.display

        display: Any = IPython.display.display  # untyped
        if self.handle is None:
            self.handle = display({"text/html": page, "text/plain": ""}, raw=True, display_id=True)
        else:
            self.handle.update({"text/html": page, "text/plain": ""}, raw=True)
