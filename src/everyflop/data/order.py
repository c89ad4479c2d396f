"""Shuffle [0, n) by a formula: where number i goes is computed, never stored.

A Feistel network is a bijection on pairs of half-words whatever its round function does; walking on until the result
lands below n makes it a bijection on [0, n). No index file, no memory, and any sample is addressable at once.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6


def key_of(*parts: int | str) -> int:
    """Return a 64-bit key that depends on every part and on their order, and is the same on every machine."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def permute(numbers: NDArray[np.int64], n: int, *, key: int) -> NDArray[np.int64]:
    """Return the image of each number under the bijection of [0, n) that the key picks.

    All numbers must lie in [0, n), otherwise ValueError.
    """
    if numbers.size and (numbers.min() < 0 or numbers.max() >= n):
        raise ValueError(f"numbers from {numbers.min()} to {numbers.max()} are not all in [0, {n})")
    half_bits = max(1, ((n - 1).bit_length() + 1) // 2)
    values = _feistel(numbers.astype(np.uint64), half_bits, key)
    while (outside := values >= n).any():  # at most 3 of 4 values lie outside, so this ends soon
        values[outside] = _feistel(values[outside], half_bits, key)
    return values.astype(np.int64)


def _feistel(values: NDArray[np.uint64], half_bits: int, key: int) -> NDArray[np.uint64]:
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> shift, values & mask
    for number in range(ROUNDS):
        round_key = np.uint64(key_of(key, number))
        left, right = right, left ^ (_scramble(right ^ round_key) & mask)
    return (left << shift) | right


def _scramble(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix all bits of each value: the finaliser of SplitMix64 (Steele et al. 2014); products wrap at 2**64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
