"""The round log: one JSON line for each commit, flushed to disk before anybody hears of it.

A line holds all that a coordinator needs to go on: where the run stands, the sample table, what each island did, has
done and has cost, the guards' verdicts and hashes. Islands keep the same lines.
"""

from pathlib import Path
from typing import Any

from everyflop.base.files import append_line, keep_lines, read_lines, sync_file

SCHEMA = 1

NEWEST = 3
"""Commits that an island's speed is taken from."""


class RoundLog:
    """Appends commits to a file."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, record: dict[str, Any]) -> None:
        """Add one commit, durably."""
        append_line(self.path, record)
        sync_file(self.path)

    def last(self) -> dict[str, Any] | None:
        """Return the newest commit."""
        lines = read_lines(self.path)
        return lines[-1] if lines else None

    def went_on_without(self, record: dict[str, Any] | None) -> bool:
        """Whether a commit is of a past that the run has gone back from: there are later ones here, and not this."""
        lines = read_lines(self.path) if record else []
        return bool(record and lines and record["time"] < lines[-1]["time"]) and record not in lines

    def cut(self, round_number: int) -> int:
        """Drop the commits that led beyond a round, which nobody holds any more; return how many they were."""
        return len(keep_lines(self.path, lambda line: line["round"] < round_number))


def newest_speed(path: Path, island: str) -> float | None:
    """Return an island's tokens/s while it trained in the newest rounds of a log; None where it did not."""
    members = (record["members"].get(island) for record in reversed(read_lines(path)))
    trained = [member for member in members if member and member["train_s"] > 0][:NEWEST]
    return sum(m["tokens"] for m in trained) / sum(m["train_s"] for m in trained) if trained else None
