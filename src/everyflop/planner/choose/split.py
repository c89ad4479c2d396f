"""How islands divide a batch: in proportion to their speeds, in whole micro-batches."""

from collections.abc import Sequence
from math import gcd

LARGEST_GRAIN = 16
"""Sequences: the largest micro-batch that layouts are tried with."""
GRAINS_PER_ISLAND = 64
"""At least; so that rounding costs an island no more than a percent of its part."""


def grain(batch_seqs: int, islands: int) -> int:
    """Return the sequences that a part is a multiple of: a power of two that divides the batch, small beside a part."""
    largest = gcd(batch_seqs, LARGEST_GRAIN)
    while largest > 1 and largest * islands * GRAINS_PER_ISLAND > batch_seqs:
        largest //= 2
    return largest


def even_part(batch_seqs: int, islands: int) -> int:
    """Return the part of an island if all are equally fast."""
    unit = grain(batch_seqs, islands)
    return batch_seqs // islands // unit * unit


def split_batch(batch_seqs: int, speeds: Sequence[float]) -> tuple[int, ...]:
    """Return each island's part in proportion to its speed, one grain at least; they add up to the batch."""
    unit = grain(batch_seqs, len(speeds))
    spare = batch_seqs // unit - len(speeds)
    exact = [1 + spare * speed / sum(speeds) for speed in speeds]
    parts = [int(part) for part in exact]
    by_rest = sorted(range(len(parts)), key=lambda island: parts[island] - exact[island])
    for island in by_rest[: batch_seqs // unit - sum(parts)]:
        parts[island] += 1
    return tuple(part * unit for part in parts)
