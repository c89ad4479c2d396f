"""The type for statistics, softmax and losses."""

from torch import Tensor, float64


def at_least_fp32(x: Tensor) -> Tensor:
    """Return x in fp32, or in fp64 if it is that."""
    return x if x.dtype == float64 else x.float()
