"""Weights for merging checkpoints, derived from the learning-rate decay that the merge stands in for.

WSM (arXiv 2507.17634): checkpoints θ_0 ... θ_k at equal distances along a run with a constant learning rate differ by
the updates g_1 ... g_k between them, θ_j = θ_0 + g_1 + ... + g_j. A weighted sum of them is therefore θ_0 plus every
update g_i scaled by w_i = c_i + ... + c_k: what a learning rate scaled by w_i would have done.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import sqrt
from typing import Literal

Method = Literal["one-minus-sqrt", "mean"]

_DECAYS: dict[Method, Callable[[float], float]] = {
    "one-minus-sqrt": lambda progress: 1 - sqrt(progress),  # best of those the paper compares
    "mean": lambda progress: 1 - progress,
}


def merge_coefficients(decay: Sequence[float]) -> list[float]:
    """Return c_0 ... c_k for the decay w_1 ... w_k: c_0 = 1 - w_1, c_j = w_j - w_{j+1}, c_k = w_k.

    Raises ValueError unless 1 >= w_1 >= ... >= w_k >= 0, as a negative coefficient stands for no decay.
    """
    bounded = [1.0, *decay, 0.0]
    coefficients = [here - after for here, after in pairwise(bounded)]
    if min(coefficients) < 0:
        raise ValueError(f"the decay {list(decay)} must fall from at most 1 to at least 0")
    return coefficients


def merge_weights(n_checkpoints: int, *, method: Method) -> list[float]:
    """Return one weight for each checkpoint, oldest first, for checkpoints at equal distances; they sum to 1.

    The span is cut into n equal parts and the decay is read at their inner borders, i/n for i = 1 ... n-1: "mean"
    (linear decay) then gives every checkpoint the same weight, as it should, and none weighs nothing.
    """
    decay = _DECAYS[method]
    return merge_coefficients([decay(i / n_checkpoints) for i in range(1, n_checkpoints)])
