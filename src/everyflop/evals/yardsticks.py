"""What compressors and a byte 5-gram make of a validation text: yardsticks for a model's bits per byte.

The 5-gram interpolates orders 1 to 5 by Witten and Bell: the more different bytes have followed a context, the more
weight goes to the shorter context, and at last to a uniform byte. Every byte has a positive probability and all 256
sum to 1, so its bits per byte are an honest code length.

Letters: N positions of a text, G distinct n-grams, C distinct contexts.
"""

import gzip
import lzma
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everyflop.base.errors import DataError

ORDER = 5


def yardsticks(validation_text: bytes, training_text: Iterable[bytes]) -> dict[str, float]:
    """Return bits per byte of the validation text under "gzip", "xz" and "byte_5gram".

    gzip -9 and xz -9e compress the validation text by itself; the 5-gram learns from the training text, whose pieces
    are joined. Raises DataError for an empty validation text.
    """
    if not validation_text:
        raise DataError("the validation text is empty: no bits per byte can be given. Add documents to it.")
    n_bytes = len(validation_text)
    return {
        "gzip": 8 * len(gzip.compress(validation_text, compresslevel=9)) / n_bytes,
        "xz": 8 * len(lzma.compress(validation_text, preset=9 | lzma.PRESET_EXTREME)) / n_bytes,
        "byte_5gram": ByteNgram(b"".join(training_text)).bits_per_byte(validation_text),
    }


class ByteNgram:
    """A byte n-gram model of orders 1 to 5, counted from one text."""

    def __init__(self, text: bytes):
        self._tables = [_count(_ngrams(text, n)) for n in range(1, ORDER + 1)]

    def probabilities(self, text: bytes) -> NDArray[np.float64]:
        """Return (N,) the probability of each byte after up to four bytes before it in the text."""
        p_N = np.full(len(text), 1 / 256)
        for n, table in enumerate(self._tables, 1):
            # The first n - 1 bytes have too little before them for this order, and keep the lower one's value.
            p_N[n - 1 :] = table.interpolate(_ngrams(text, n), p_N[n - 1 :])
        return p_N

    def bits_per_byte(self, text: bytes) -> float:
        """Return the mean code length of a text's bytes."""
        return float(-np.log2(self.probabilities(text)).mean())


@dataclass(frozen=True, slots=True)
class _Table:
    """The counts of one order. An n-gram is a number, first byte highest, so that a shift leaves its context."""

    ngrams_G: NDArray[np.int64]
    count_G: NDArray[np.int64]
    contexts_C: NDArray[np.int64]
    total_C: NDArray[np.int64]
    """How often each context was met with a byte after it."""
    distinct_C: NDArray[np.int64]
    """How many different bytes followed it."""

    def interpolate(self, ngrams_N: NDArray[np.int64], lower_N: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (count + distinct * lower) / (total + distinct); the lower order's value after an unseen context."""
        count_N = _look_up(self.ngrams_G, self.count_G, ngrams_N)
        total_N = _look_up(self.contexts_C, self.total_C, ngrams_N >> 8)
        distinct_N = _look_up(self.contexts_C, self.distinct_C, ngrams_N >> 8)
        return np.where(total_N > 0, (count_N + distinct_N * lower_N) / np.maximum(total_N + distinct_N, 1), lower_N)


def _ngrams(text: bytes, n: int) -> NDArray[np.int64]:
    """Return the (N - n + 1,) n-grams of a text, one for each byte that has n - 1 bytes before it."""
    bytes_N = np.frombuffer(text, dtype=np.uint8)
    size = max(0, len(text) - n + 1)
    ngrams_N = np.zeros(size, dtype=np.int64)
    for i in range(n):
        ngrams_N = (ngrams_N << 8) | bytes_N[i : i + size]
    return ngrams_N


def _count(ngrams_N: NDArray[np.int64]) -> _Table:
    ngrams_G, count_G = np.unique(ngrams_N, return_counts=True)
    # N-grams are sorted, so those of one context are neighbours.
    contexts_C, first_C, distinct_C = np.unique(ngrams_G >> 8, return_index=True, return_counts=True)
    total_C = np.add.reduceat(count_G, first_C) if len(first_C) else count_G
    return _Table(ngrams_G, count_G, contexts_C, total_C, distinct_C)


def _look_up(keys: NDArray[np.int64], values: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the values of wanted keys, 0 where a key is absent; keys are sorted."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=np.int64)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)
