"""Which pools could train together, with how many islands on each.

A line-up fixes the pools of the islands but not their sizes. Its links are known, so what exchanges take is too.
"""

import functools
from dataclasses import dataclass

import numpy as np

from everyflop.planner.choose.bundles import Offered
from everyflop.planner.choose.market import Market


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which line-ups count."""

    least_pools: int = 1
    member: int | None = None
    """A pool that must be among them."""


ANY = Wanted()


@dataclass(frozen=True, slots=True)
class LineUps:
    """Arrays of N line-ups of M islands each."""

    pools: np.ndarray
    """(N, M) in rising order."""
    runs: np.ndarray
    """(N, M): where a pool stands first, how many islands are on it; else 0."""
    stop_s: np.ndarray
    """Of one exchange."""
    traffic: np.ndarray
    """Price of exchanges for each token."""

    @property
    def islands(self) -> int:
        """How many islands each has."""
        return self.pools.shape[1]

    def take(self, kept: np.ndarray | slice) -> "LineUps":
        """Return some of them."""
        return LineUps(self.pools[kept], self.runs[kept], self.stop_s[kept], self.traffic[kept])

    def parts(self, number: int) -> list[tuple[int, int]]:
        """Return (pool, islands on it) for each pool of one line-up."""
        return [(int(p), int(n)) for p, n in zip(self.pools[number], self.runs[number], strict=True) if n]


def line_ups(market: Market, offered: Offered, islands: int, wanted: Wanted = ANY) -> LineUps:
    """Return all line-ups of so many islands whose pools can exchange with each other and have what it takes."""
    linked = tuple(map(tuple, (market.gbit_per_s > 0).tolist()))
    pools, runs = _line_ups(linked, tuple(offered), islands, wanted)
    exchanges = market.exchanges(pools)
    return LineUps(pools, runs, exchanges.stop_s, exchanges.traffic)


@functools.lru_cache(maxsize=256)
def _line_ups(
    linked: tuple[tuple[bool, ...], ...], offered: tuple[tuple[int, int], ...], islands: int, wanted: Wanted
) -> tuple[np.ndarray, np.ndarray]:
    """Return pools and runs; kept, since many questions are asked about the same pools."""
    able = np.array(sorted({pool for pool, _ in offered}))
    pools = able.reshape(-1, 1)
    for _ in range(islands - 1):
        pools = _extended(np.array(linked), pools, able)
    runs = _runs(pools)
    there = np.zeros((len(linked), islands + 1), dtype=bool)
    there[tuple(np.array(offered).T)] = True
    there[:, 0] = True
    kept = there[pools, runs].all(axis=1) & ((runs > 0).sum(axis=1) >= wanted.least_pools)
    if wanted.member is not None:
        kept &= (pools == wanted.member).any(axis=1)
    return pools[kept], runs[kept]


def _extended(linked: np.ndarray, pools: np.ndarray, able: np.ndarray) -> np.ndarray:
    """Return the line-ups with one more island on a later pool, or on the last one again."""
    rows, more = np.nonzero(able >= pools[:, -1:])
    longer = np.column_stack([pools[rows], able[more]])
    return longer[linked[longer[:, :-1], longer[:, -1:]].all(axis=1)]


def _runs(pools: np.ndarray) -> np.ndarray:
    counts = (pools[:, :, None] == pools[:, None, :]).sum(axis=2)
    first = np.ones(pools.shape, dtype=bool)
    first[:, 1:] = pools[:, 1:] != pools[:, :-1]
    return np.where(first, counts, 0)
