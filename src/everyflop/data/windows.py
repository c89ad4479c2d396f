"""Cut token streams into windows to train and validate on.

The targets of a source are its token stream: t1 .. tn end-of-text, document after document. The inputs are the same
stream one position later, with end-of-text in front: a document is read as end-of-text t1 .. tn, and every token is a
target exactly once. Window w covers targets [w * T, (w + 1) * T); the last one is padded with end-of-text outside the
loss mask.

Shapes: B windows, T positions in a window.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from everyflop.data.shards import Shard
from everyflop.data.tokenizer import Tokenizer

_DECODE_TOGETHER = 256


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Windows as a model takes them."""

    inputs_BT: NDArray[np.int64]
    targets_BT: NDArray[np.int64]
    loss_mask_BT: NDArray[np.bool_]
    """False for padding."""
    documents_BT: NDArray[np.int32]
    """Constant inside a document, different in the next one; all 0 when attention may cross documents."""
    sample_numbers_B: NDArray[np.int64]
    """What was asked for: window indices, or global sample numbers of a training stream."""


class WindowSet:
    """All windows of one or more shards, one shard after the other."""

    def __init__(
        self, shards: Sequence[Shard], *, seq_len: int, eot_id: int, attend_within_document: bool, text_bytes: int
    ):
        self.shards = tuple(shards)
        self.seq_len = seq_len
        self.eot_id = eot_id
        self.attend_within_document = attend_within_document
        self.text_bytes = text_bytes
        """UTF-8 bytes of the documents."""
        self.n_tokens = sum(len(shard.tokens_N) for shard in shards)
        """Targets in all windows, end-of-text included."""
        self.sizes = np.array([count_windows(len(shard.tokens_N), seq_len) for shard in shards], dtype=np.int64)
        """Windows of each shard."""
        self.starts = np.cumsum(self.sizes) - self.sizes
        """First window of each shard."""

    def __len__(self) -> int:
        return int(self.sizes.sum())

    def windows(self, indices: ArrayLike) -> WindowBatch:
        """Return the windows with these indices in [0, len), in their order. IndexError for any other index."""
        indices_B = np.atleast_1d(np.asarray(indices, dtype=np.int64))
        if indices_B.size and (indices_B.min() < 0 or indices_B.max() >= len(self)):
            raise IndexError(f"windows {indices_B.min()} to {indices_B.max()} asked of {len(self)}")
        shards_B = np.searchsorted(self.starts, indices_B, side="right") - 1
        stream_BT1 = np.full((len(indices_B), self.seq_len + 1), self.eot_id, dtype=np.int64)
        lengths_B = np.zeros(len(indices_B), dtype=np.int64)
        for row, (shard, index) in enumerate(zip(shards_B, indices_B - self.starts[shards_B], strict=True)):
            lengths_B[row] = self._read(self.shards[shard].tokens_N, int(index), stream_BT1[row])
        inputs_BT = np.ascontiguousarray(stream_BT1[:, :-1])
        return WindowBatch(
            inputs_BT=inputs_BT,
            targets_BT=np.ascontiguousarray(stream_BT1[:, 1:]),
            loss_mask_BT=np.arange(self.seq_len) < lengths_B[:, None],
            documents_BT=self._documents(inputs_BT),
            sample_numbers_B=indices_B,
        )

    def texts(self, tokenizer: Tokenizer) -> Iterator[str]:
        """Yield every document's text."""
        for shard in self.shards:
            for first in range(0, len(shard.lengths_D), _DECODE_TOGETHER):
                numbers = range(first, min(first + _DECODE_TOGETHER, len(shard.lengths_D)))
                yield from tokenizer.decode([shard.document(number) for number in numbers])

    def _read(self, tokens_N: NDArray[np.integer], index: int, row: NDArray[np.int64]) -> int:
        """Fill a row with the window's targets and the token before them; return how many targets there are."""
        start = index * self.seq_len
        targets = tokens_N[start : start + self.seq_len]
        row[1 : 1 + len(targets)] = targets
        if start:
            row[0] = tokens_N[start - 1]
        return len(targets)

    def _documents(self, inputs_BT: NDArray[np.int64]) -> NDArray[np.int32]:
        if not self.attend_within_document:
            return np.zeros(inputs_BT.shape, dtype=np.int32)
        return np.cumsum(inputs_BT == self.eot_id, axis=1, dtype=np.int32)  # end-of-text starts a document


def count_windows(n_tokens: int, seq_len: int) -> int:
    """Return how many windows hold n_tokens targets."""
    return -(-n_tokens // seq_len)
