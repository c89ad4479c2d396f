"""Windows of random tokens, to measure speed before there is any data."""

import numpy as np

from everyflop.data.windows import WindowBatch


def random_windows(vocab_size: int, rows: int, *, seq_len: int) -> WindowBatch:
    """Return windows of one document each; the same ones for the same arguments."""
    ids_BT1 = np.random.default_rng(0).integers(0, vocab_size, (rows, seq_len + 1))
    return WindowBatch(
        inputs_BT=np.ascontiguousarray(ids_BT1[:, :-1]),
        targets_BT=np.ascontiguousarray(ids_BT1[:, 1:]),
        loss_mask_BT=np.ones((rows, seq_len), dtype=np.bool_),
        documents_BT=np.zeros((rows, seq_len), dtype=np.int32),
        sample_numbers_B=np.arange(rows),
    )
