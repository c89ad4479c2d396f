"""Show islands while they train: a live table on a terminal, a plain line now and then elsewhere. Always on stderr."""

import math
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from everyflop.accounting.money import cost
from everyflop.base.progress import LINE_EVERY_S
from everyflop.base.units import MIB, money, short_count, short_time
from everyflop.spec.run import RunSpec
from everyflop.train.bill import bill, price_of, total


class IslandsDisplay:
    """Takes the coordinator's status and shows it."""

    def __init__(self, run: RunSpec, *, stream: TextIO | None = None, now_s: Callable[[], float] = time.monotonic):
        self._run, self._stream, self._now_s = run, stream or sys.stderr, now_s
        self._live: Live | None = None
        self._last_line_s = -LINE_EVERY_S
        self.said_what_to_expect = False

    def __enter__(self) -> "IslandsDisplay":
        if self._stream.isatty():
            self._live = Live(console=Console(file=self._stream), auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def note(self, text: str) -> None:
        """Show a line that stays."""
        if self._live is not None:
            self._live.console.print(text)
        else:
            print(text, file=self._stream, flush=True)

    def show(self, status: dict[str, Any]) -> None:
        """Show where the run stands, and when it begins how long it will take and what it will cost."""
        if status["exchange"] and not self.said_what_to_expect:
            self.said_what_to_expect = True
            self.note(self.expectation(status))
        if self._live is not None:
            self._live.update(self.table(status), refresh=True)
        elif self._now_s() - self._last_line_s >= LINE_EVERY_S and status["tokens"]:
            self._last_line_s = math.inf if status["ended"] else self._now_s()  # the last line once
            print(self.line(status), file=self._stream, flush=True)

    def expectation(self, status: dict[str, Any]) -> str:
        """Return what the islands' own measurements say of the time and the money that the rest of the run takes."""
        present = {name: one["tokens_per_s"] for name, one in status["islands"].items() if one["state"] != "away"}
        speed, left = max(sum(present.values()), 1e-9), status["total_tokens"] - status["tokens"]
        paid = [(one, price_of(one, self._run)) for one in self._run.island if one.name in present]
        hourly = [one.devices * price for one, price in paid if price is not None]
        amount = f"{money(cost(left / speed, sum(hourly)), self._run.money.currency)}{self._example}"
        if free := [one.name for one, price in paid if price is None]:
            amount = f"an unknown cost ({', '.join(free)}: no price)"
        text = f"{short_count(left)} tokens to train: about {short_time(left / speed)} and {amount}"
        simulated = f" (simulated: {', '.join(self._simulated)})" if self._simulated else ""
        speed_text = f"{short_count(speed)} tokens/s that islands measured by themselves, without exchanges"
        return f"{text}, at {speed_text}{simulated}"

    def line(self, status: dict[str, Any]) -> str:
        """Return the status as one line."""
        away = {name for name, one in status["islands"].items() if one["state"] == "away" and not status["ended"]}
        islands = (
            f"{self._shown(name)} {'away' if name in away else short_count(one['tokens_per_s'])}"
            for name, one in status["islands"].items()
        )
        return f"{self._whole(status)} | tokens/s: {', '.join(islands)}"

    def table(self, status: dict[str, Any]) -> Table:
        """Return the status as a table, one row for each island."""
        currency = self._run.money.currency
        bills = bill({"accounts": status["islands"]}, self._run)
        table = Table("island", "state", "tokens/s", "share", "rounds", "sent", currency, caption=self._whole(status))
        batch = sum(one["share"] for one in status["islands"].values())
        for name, one in status["islands"].items():
            amount = bills[name]
            table.add_row(
                self._shown(name),
                "done" if status["ended"] else one["state"],
                short_count(one["tokens_per_s"]),
                f"{100 * one['share'] / batch:.0f} %" if batch else "",
                str(one["rounds"]),
                f"{one['sent_bytes'] / MIB:.0f} MiB",
                "" if amount is None else f"{amount:.4g}",
            )
        return table

    @property
    def _simulated(self) -> list[str]:
        return [island.name for island in self._run.island if island.simulated]

    def _shown(self, name: str) -> str:
        return f"{name} (simulated)" if name in self._simulated else name

    @property
    def _example(self) -> str:
        return " at example prices" if self._run.money.example else ""

    def _whole(self, status: dict[str, Any]) -> str:
        ended = status["ended"]
        there = (one for one in status["islands"].values() if ended or one["state"] != "away")
        speed = sum(one["tokens_per_s"] for one in there)
        amount = total(bill({"accounts": status["islands"]}, self._run))
        left_s = (status["total_tokens"] - status["tokens"]) / speed if speed else None
        apart = status["exchange"] == "weights" and status["steps"] > 1
        exchange = (f"every {status['steps']} steps" if apart else "every step") if status["exchange"] else ""
        ending = "the last validation is under way" if ended == "finished" else ended
        parts = [
            f"round {status['round']}{f' (exchange {exchange})' if exchange else ''}",
            f"step {status['step']}",
            f"{short_count(status['tokens'])} tokens",
            "" if status["loss"] is None else f"loss {status['loss']:.3f}",
            f"{short_count(speed)} tokens/s",
            "" if amount is None else money(amount, self._run.money.currency) + self._example,
            ending if ended else "" if left_s is None else f"{short_time(left_s)} left",
        ]
        return " | ".join(part for part in parts if part)
