"""Types for statistics, softmax and losses, and matmuls whose results have them."""

from typing import Any

import torch
from torch import Tensor, float64


def at_least_fp32(x: Tensor) -> Tensor:
    """Return x in fp32, or in fp64 if it is that."""
    return x if x.dtype == float64 else x.float()


def exact_bmm(left: Tensor, right: Tensor, *, of: torch.dtype) -> Tensor:
    """Return the batched product of fp32 (or fp64) tensors whose numbers all have the type `of`.

    Products of bf16 numbers are exact in fp32, so the processor's units for bf16 may make them: torch has no matmul of
    bf16 tensors with an fp32 result there, but oneDNN may be told to round fp32 inputs, which changes nothing of these.
    """
    if of != torch.bfloat16 or left.device.type != "cpu":
        return torch.bmm(left, right)
    settings: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # torch sets it in a way checkers miss
    before, settings.fp32_precision = settings.fp32_precision, "bf16"
    try:
        return torch.bmm(left, right)
    finally:
        settings.fp32_precision = before
