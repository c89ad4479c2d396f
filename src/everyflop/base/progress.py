"""Show how far a long operation is: a bar on a terminal, a plain line now and then elsewhere. Always on stderr."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, TextIO

from everyflop.base.units import short_time

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

LINE_EVERY_S = 5.0
"""Shortest time between two plain lines, so that the log of a long run stays readable."""


class Bar(Protocol):
    """What the operation tells: that some of its units are done."""

    def advance(self, count: int = 1) -> None:
        """Say that `count` more units are done."""
        ...


class OpenProgress(Protocol):
    """How a function that takes long is handed its display: `progress` below, or `quiet`."""

    def __call__(self, title: str, *, total: int, unit: str) -> AbstractContextManager[Bar]:
        """Open a display of `total` units, such as files."""
        ...


@contextlib.contextmanager
def progress(
    title: str, *, total: int, unit: str, stream: TextIO | None = None, now_s: Callable[[], float] = time.monotonic
) -> Iterator[Bar]:
    """Show the progress of the block, which calls `advance` on what it is given until `total` units are done."""
    out: TextIO = stream or sys.stderr
    if out.isatty():
        with _bar(title, total, unit, out) as bar:
            yield bar
    else:
        lines = _Lines(title, total, unit, out, now_s)
        yield lines
        lines.finish()


@contextlib.contextmanager
def quiet(title: str, *, total: int, unit: str) -> Iterator[Bar]:
    """Show nothing."""
    yield _Silence()


class _Silence:
    def advance(self, count: int = 1) -> None:
        pass


class _Lines:
    def __init__(self, title: str, total: int, unit: str, stream: TextIO, now_s: Callable[[], float]):
        self._title, self._total, self._unit, self._stream, self._now_s = title, total, unit, stream, now_s
        self._done = 0
        self._started_s = self._last_line_s = now_s()
        self._print(f"{title}: {total:,} {unit}")

    def advance(self, count: int = 1) -> None:
        self._done += count
        now_s = self._now_s()
        if now_s - self._last_line_s >= LINE_EVERY_S and self._done:
            self._last_line_s = now_s
            left_s = (now_s - self._started_s) * max(self._total - self._done, 0) / self._done
            self._print(f"{self._title}: {self._done:,} of {self._total:,} {self._unit}, {short_time(left_s)} left")

    def finish(self) -> None:
        self._print(f"{self._title}: {self._done:,} {self._unit} in {short_time(self._now_s() - self._started_s)}")

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


@contextlib.contextmanager
def _bar(title: str, total: int, unit: str, stream: TextIO) -> Iterator[Bar]:
    from rich import progress as rich  # 40 ms that a plain --help should not pay
    from rich.console import Console

    in_gib = rich.DownloadColumn(binary_units=True)  # or in MiB, by the total
    columns = (
        rich.TextColumn("{task.description}", markup=False),  # a title may name a user's folder
        rich.BarColumn(),
        *((in_gib,) if unit == "bytes" else (rich.MofNCompleteColumn(), rich.TextColumn(unit))),
        rich.TimeRemainingColumn(elapsed_when_finished=True),
    )
    with rich.Progress(*columns, console=Console(file=stream)) as display:
        yield _RichBar(display, display.add_task(title, total=total))


class _RichBar:
    def __init__(self, display: "RichProgress", task: "TaskID"):
        self._display, self._task = display, task

    def advance(self, count: int = 1) -> None:
        self._display.advance(self._task, count)
