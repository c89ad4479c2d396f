"""Who trains which samples: every global sample number is held by one island at most, and consumed once.

An island holds ranges of numbers and consumes them in their order. What it gives back, or held when it was lost, is
free again and goes out before any new number. So is what an update was trained on that was rejected, once: data that
spoils the update of whoever trains on it is not tried for ever. Pure bookkeeping: no clock, no sockets.
"""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

Ranges = list[list[int]]
"""[first, count] each, in the order of use."""


def count(ranges: Ranges) -> int:
    """Return how many numbers ranges hold."""
    return sum(n for _, n in ranges)


def take(ranges: Ranges, n: int) -> tuple[Ranges, Ranges]:
    """Return the first n numbers of ranges and the rest. Raises ValueError if there are fewer."""
    if n > count(ranges):
        raise ValueError(f"{n} samples wanted of {count(ranges)} held")
    taken: Ranges = []
    left = [list(one) for one in ranges]
    while n:
        first, here = left[0]
        used = min(n, here)
        taken.append([first, used])
        left[0] = [first + used, here - used]
        left = left if left[0][1] else left[1:]
        n -= used
    return taken, left


def numbers(ranges: Ranges) -> list[int]:
    """Return the sample numbers in ranges."""
    return [number for first, n in ranges for number in range(first, first + n)]


@dataclass(slots=True)
class SampleTable:
    """Which of `total` samples are used up, held or free."""

    total: int
    next: int = 0
    """The first number that was never handed out."""
    free: Ranges = field(default_factory=list)
    """Numbers below `next` that came back unused, ascending."""
    held: dict[str, Ranges] = field(default_factory=dict)
    rejected: Ranges = field(default_factory=list)
    """Numbers that were freed again because what was trained on them did not count."""

    @property
    def unclaimed(self) -> int:
        """How many numbers nobody has used or holds."""
        return max(0, self.total - self.next + count(self.free))

    @property
    def consumed(self) -> int:
        """How many numbers are used up."""
        return self.next - count(self.free) - sum(count(ranges) for ranges in self.held.values())

    def top_up(self, island: str, wanted: int) -> Ranges:
        """Let an island hold `wanted` numbers, or as many as there are; return all that it holds."""
        held = self.held.setdefault(island, [])
        missing = min(max(0, wanted - count(held)), self.unclaimed)
        again, self.free = take(self.free, min(missing, count(self.free)))
        fresh = missing - count(again)
        held += again + ([[self.next, fresh]] if fresh else [])
        self.next += fresh
        return [list(one) for one in held]

    def consume(self, island: str, n: int) -> Ranges:
        """Take note that an island used the first n numbers it holds; return them. ValueError if it holds fewer."""
        used, self.held[island] = take(self.held.get(island, []), n)
        return used

    def reject(self, island: str, n: int) -> tuple[Ranges, Ranges]:
        """Take note that the first n numbers an island holds were trained on in vain; return which of these are used up
        and which are free again: all, unless some of them were in vain before. ValueError if it holds fewer.
        """
        tried = self.consume(island, n)
        if any(first < other + m and other < first + k for first, k in tried for other, m in self.rejected):
            return tried, []
        self.free, self.rejected = sorted(self.free + tried), sorted(self.rejected + tried)
        return [], tried

    def give_back(self, island: str) -> None:
        """Free all that an island holds."""
        self.free = sorted(self.free + self.held.pop(island, []))

    def to_json(self) -> dict[str, Any]:
        """Return the table as plain JSON, which later changes leave alone."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "SampleTable":
        """Return the table that to_json wrote; what this everyflop does not know of it is left out."""
        return cls(**copy.deepcopy({one.name: facts[one.name] for one in fields(cls) if one.name in facts}))
