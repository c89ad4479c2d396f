"""Show a run while it trains: one live line on a terminal, a plain line now and then elsewhere. Always on stderr."""

import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from everyflop.base.progress import LINE_EVERY_S
from everyflop.base.units import money, short_count, short_time

SPEED_OF_S = 3600.0
"""The time left is told from as much of the past. rich takes half a minute by default, in which a step may not end."""


class Display:
    """Takes each step's metrics and shows the latest."""

    def __init__(
        self,
        total_tokens: int,
        done_tokens: int,
        currency: str,
        *,
        stream: TextIO | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ):
        self._total, self._start, self._currency = total_tokens, done_tokens, currency
        self._stream, self._now_s = stream or sys.stderr, now_s
        self._live: Progress | None = None
        self._started_s = now_s()
        self._last_line_s = -LINE_EVERY_S

    def __enter__(self) -> "Display":
        self._started_s = self._now_s()
        if self._stream.isatty():
            columns = (
                BarColumn(bar_width=20),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            clock = {"speed_estimate_period": SPEED_OF_S, "get_time": self._now_s}
            self._live = Progress(*columns, console=Console(file=self._stream), **clock)
            self._task = self._live.add_task("starting", total=self._total, completed=self._start)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def step(self, line: dict[str, Any]) -> None:
        """Show a step's metrics."""
        text = describe(line, self._currency)
        if self._live is not None:
            self._live.update(self._task, completed=line["tokens"], description=text)
        elif self._now_s() - self._last_line_s >= LINE_EVERY_S or line["tokens"] >= self._total:
            self._last_line_s = self._now_s()
            elapsed_s = self._now_s() - self._started_s
            left_s = elapsed_s * (self._total - line["tokens"]) / max(line["tokens"] - self._start, 1)
            print(f"{text} | {short_time(elapsed_s)} | {short_time(left_s)} left", file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """Show a line that stays."""
        if self._live is not None:
            self._live.console.print(text)
        else:
            print(text, file=self._stream, flush=True)


def describe(line: dict[str, Any], currency: str) -> str:
    """Return one step's metrics as a line of text."""
    parts = [
        f"step {line['step']}",
        f"{short_count(line['tokens'])} tokens",
        f"loss {line['loss']:.3f}",
        f"{short_count(line['tokens_per_s'])} tokens/s",
        f"MFU {100 * line['mfu']:.0f} %",
    ]
    if line["cost"] is not None:
        parts.append(money(line["cost"], currency))
    return " | ".join(parts)
