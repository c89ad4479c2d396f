"""The training stream: which window is global sample number n, as a pure function of (seed, phase, n).

Samples come in blocks of mixture_block. A block holds a fixed count of each source's windows (mixture.py) in an order
of its own. Sample k of a source is window permutation(k mod n_windows) of its epoch k div n_windows, with a permutation
of its own for every epoch. Nothing is stored and ranks play no part, so how samples are shared out over devices never
changes which samples there are.

Shapes: B samples, T positions in a window.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from everyflop.data.mixture import block_counts, require_all_present
from everyflop.data.order import key_of, permute
from everyflop.data.tokenizer import load_tokenizer
from everyflop.data.windows import WindowBatch, WindowSet

_DECODE_TOGETHER = 256


class TrainStream:
    """An endless stream of training samples; epochs follow each other without a seam."""

    def __init__(
        self,
        windows: WindowSet,
        *,
        names: Sequence[str],
        weights: Sequence[float],
        block: int,
        seed: int,
        phase: int,
        tokenizer_path: Path,
    ):
        """Mix the shards of `windows`, one source each. Raises DataError when a weight is too small for the block."""
        require_all_present(names, weights, block)
        self.names = tuple(names)
        self._windows = windows
        self._counts = block_counts(weights, block)
        self._slots = np.cumsum(self._counts) - self._counts  # first slot of each source in a block
        self._block, self._seed, self._phase = block, seed, phase
        self._tokenizer_path = tokenizer_path

    def batch(self, first: int, count: int) -> WindowBatch:
        """Return samples first .. first + count - 1."""
        return self.batch_of(np.arange(first, first + count))

    def batch_of(self, numbers: ArrayLike) -> WindowBatch:
        """Return the samples with these global numbers, in their order. ValueError for a negative one."""
        numbers_B = np.atleast_1d(np.asarray(numbers, dtype=np.int64))
        batch = self._windows.windows(self.window_indices(numbers_B))
        return dataclasses.replace(batch, sample_numbers_B=numbers_B)

    def window_indices(self, numbers_B: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which window of the set each sample is."""
        sources_B, ordinals_B = self._place(numbers_B)
        indices_B = np.empty_like(ordinals_B)
        for source in np.unique(sources_B):
            size = int(self._windows.sizes[source])
            epochs_B = np.where(sources_B == source, ordinals_B // size, -1)
            for epoch in np.unique(epochs_B[epochs_B >= 0]):
                here = epochs_B == epoch
                key = key_of("windows", self._seed, self._phase, self.names[source], int(epoch))
                indices_B[here] = self._windows.starts[source] + permute(ordinals_B[here] % size, size, key=key)
        return indices_B

    def epochs_at(self, sample_number: int) -> dict[str, float]:
        """Return how many times each source has been read when samples 0 .. sample_number - 1 are consumed."""
        blocks, rest = divmod(sample_number, self._block)
        sources, _ = self._place(np.arange(sample_number - rest, sample_number))
        used = blocks * self._counts + np.bincount(sources, minlength=len(self.names))
        return dict(zip(self.names, (used / self._windows.sizes).tolist(), strict=True))

    def consumed_text(self, n_samples: int) -> Iterator[bytes]:
        """Yield the UTF-8 text of the targets of samples 0 .. n_samples - 1, one sample at a time."""
        tokenizer = load_tokenizer(self._tokenizer_path, eot_id=self._windows.eot_id)
        for first in range(0, n_samples, _DECODE_TOGETHER):
            batch = self.batch(first, min(_DECODE_TOGETHER, n_samples - first))
            rows = zip(batch.targets_BT, batch.loss_mask_BT, strict=True)
            yield from (text.encode() for text in tokenizer.decode([ids[mask] for ids, mask in rows]))

    def _place(self, numbers_B: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the source of each sample, and which of that source's samples it is."""
        if numbers_B.size and numbers_B.min() < 0:
            raise ValueError(f"sample number {numbers_B.min()} is negative")
        blocks_B, positions_B = np.divmod(numbers_B, self._block)
        slots_B = np.empty_like(positions_B)
        for block in np.unique(blocks_B):
            here = blocks_B == block
            key = key_of("block", self._seed, self._phase, int(block))
            slots_B[here] = permute(positions_B[here], self._block, key=key)
        sources_B = np.searchsorted(self._slots, slots_B, side="right") - 1
        return sources_B, blocks_B * self._counts[sources_B] + slots_B - self._slots[sources_B]
