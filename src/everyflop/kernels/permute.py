"""Bring tokens to rows, and rows back to tokens, without a scatter.

A scatter would need atomic additions, whose order threads decide. Here each token sums its own rows, in the order of
its choices, and rows that hold no token, which fill an expert's block up to a round number, are never read.

Shapes: T tokens, K rows of each, R >= T K rows, D channels. `place_TK` is each copy's row, `token_R` each row's token
(any, where it holds none). `to_rows` and `to_tokens` are each other's gradient.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function


def to_rows(x_TD: Tensor, token_R: Tensor) -> Tensor:
    """Return (R, D): each row's token. Not differentiable: what computes with rows asks for `to_tokens` itself."""
    return x_TD.index_select(0, token_R)


def summed(y_RD: Tensor, place_TK: Tensor) -> Tensor:
    """Return (T, D), the sum of each token's rows, computed in fp32 at least; one pass over them."""
    return F.embedding_bag(place_TK, y_RD, mode="sum")


class _ToTokens(Function):
    @staticmethod
    def forward(ctx: Any, y_RD: Tensor, token_R: Tensor, place_TK: Tensor) -> Tensor:
        ctx.save_for_backward(token_R)
        return summed(y_RD, place_TK)

    @staticmethod
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (token_R,) = ctx.saved_tensors
        return to_rows(grad_TD, token_R), None, None


def to_tokens(y_RD: Tensor, token_R: Tensor, place_TK: Tensor) -> Tensor:
    """Return `summed`, differentiable in y; the gradient of rows that hold no token has any value."""
    return _ToTokens.apply(y_RD, token_R, place_TK)
