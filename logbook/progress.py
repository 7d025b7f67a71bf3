"""A bar on the terminal for long work: on stderr, and only where that is a terminal, so that no log and no pipe has it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn


class Bar:
    """What is done of something, in bytes. Does nothing until `begin`, and nothing at all without a terminal."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None) if progress else None

    def begin(self, what: str, total: int) -> None:
        """`total` bytes are to come."""
        if self._progress is not None and self._task is not None:
            self._progress.reset(self._task, description=what, total=total)

    def done(self, count: int) -> None:
        """`count` bytes more are done."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, count)


@contextmanager
def bar() -> Iterator[Bar]:
    """A bar while the block runs; it leaves no trace. Lines that are printed meanwhile on stderr stand above it."""
    if not sys.stderr.isatty():
        yield Bar(None)
        return
    columns = (TextColumn("{task.description:9}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bar(progress)
