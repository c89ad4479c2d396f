"""Share windows among sources by weight.

Training windows come in blocks of equal size. Every block holds the same number of windows of each source, as near to
the weights as whole numbers allow, so weights are met not only at the end of a run but all along it.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everyflop.base.errors import DataError


def block_counts(weights: Sequence[float], block: int) -> NDArray[np.int64]:
    """Return how many windows of each source a block holds: within one of its exact share, `block` in total.

    Windows that rounding down leaves over go to the largest remainders, the first source first among equals.
    """
    exact = np.asarray(weights, dtype=np.float64) / math.fsum(weights) * block
    counts = np.floor(exact).astype(np.int64)
    left_over = block - int(counts.sum())
    by_remainder = np.argsort(-(exact - counts), kind="stable")
    counts[by_remainder[:left_over]] += 1
    return counts


def require_all_present(names: Sequence[str], weights: Sequence[float], block: int) -> None:
    """Raise DataError when a source's weight is too small for one window in a block."""
    counts = block_counts(weights, block)
    absent = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if absent:
        enough = math.ceil(math.fsum(weights) / min(weights))
        raise DataError(
            f"data.mixture_block = {block} windows are too few for the weight of {', '.join(map(repr, absent))}: not "
            f"one window in a block. Set it to {enough} or more, raise the weight, or leave the source out."
        )
