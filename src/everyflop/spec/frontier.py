"""What islands cost in learning, as measured: extra tokens for the loss of one process, by how they exchange."""

from collections.abc import Mapping
from itertools import pairwise

FRONTIER: Mapping[float, Mapping[int, Mapping[int, float]]] = {
    0.0: {2: {1: 0.0, 4: 0.053, 8: 0.092, 24: 0.228}, 4: {1: 0.0, 8: 0.176}},
    0.2: {2: {1: 0.0, 2: 0.007, 8: 0.018, 24: 0.072, 100: 0.171}, 4: {1: 0.0, 8: 0.045}},
}
"""Share of the tokens at the run's start over which gradients are exchanged at every step -> number of islands -> mean
steps between exchanges afterwards -> extra tokens, as a share: means over seeds of bench/islands_quality.py (a 4 M
parameter Mixture-of-Experts model, FRONTIER_STEPS steps of 2,048 tokens). Between entries it is linear.

How unsure that is: by several per cent where it rests on one seed, which is everywhere but at two islands every 8 and
24 steps after a start, and nobody has measured larger models or longer runs with these islands. "Scaling Laws for
DiLoCo" (arXiv 2503.09799, every 30 steps) found 0 % with 2 replicas of 10B dense and 6 % with 4, but 18 and 39 % by its
law over all sizes; MoE runs of Decoupled DiLoCo (arXiv 2604.21428) lost nothing.
"""

FRONTIER_STEPS = 2000
"""Optimizer steps of the runs that were measured."""

FRONTIER_SOURCE = (
    "measured with a 4 M parameter model over 2,000 steps, bench/islands_quality.py; published runs lost from 0 to 6 % "
    "with far larger models, and to 39 % by a law over small ones"
)

MOST_STEPS = max(max(by_steps) for by_islands in FRONTIER.values() for by_steps in by_islands.values())
"""The longest rounds that were measured."""


def measured_steps(sync_share: float) -> list[int]:
    """Return the steps between exchanges that two islands were measured with after such a start; after any start that
    was, where this one was not."""
    tables = [FRONTIER[sync_share]] if sync_share in FRONTIER else [*FRONTIER.values()]
    return sorted({steps for by_islands in tables for steps in by_islands[2] if steps > 1})


def measured_extra_tokens(steps: int, sync_share: float) -> dict[int, float]:
    """Return extra tokens by number of islands, as far as they were measured with so many steps between exchanges.

    A longer start than any that was measured is taken to bring nothing more.
    """
    sync_share = min(sync_share, max(FRONTIER))
    low = max(start for start in FRONTIER if start <= sync_share)
    high = min(start for start in FRONTIER if start >= sync_share)
    shorter, longer = _by_islands(low, steps), _by_islands(high, steps)
    part = (sync_share - low) / (high - low) if high > low else 0.0
    return {n: shorter[n] + part * (longer[n] - shorter[n]) for n in sorted(shorter.keys() & longer.keys())}


def _by_islands(start: float, steps: int) -> dict[int, float]:
    return {n: _between(by_steps, steps) for n, by_steps in FRONTIER[start].items() if steps <= max(by_steps)}


def _between(table: Mapping[int, float], at: int) -> float:
    """Return what a table has there, linear between its entries."""
    for (low, less), (high, more) in pairwise(table.items()):
        if at <= high:
            return less + (more - less) * (at - low) / (high - low)
    raise AssertionError("the table ends before")
