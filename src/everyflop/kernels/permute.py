"""Bring tokens to rows, and rows back to tokens, by gathers alone, forward and backward.

A scatter would need atomic additions, whose order threads decide; and rows that hold no token, which fill an expert's
block up to a round number, would be read by it. Here neither their content nor their gradient ever matters.

Shapes: T tokens, K rows of each, R >= T K rows, D channels. `place_TK` is each copy's row, `token_R` each row's token
(any, where it holds none).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


class _ToRows(Function):
    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, token_R: Tensor, place_TK: Tensor) -> Tensor:
        ctx.save_for_backward(place_TK)
        return x_TD.index_select(0, token_R)

    @staticmethod
    def backward(ctx: Any, grad_RD: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (place_TK,) = ctx.saved_tensors
        return _gathered(grad_RD, place_TK).sum(1), None, None


class _ToTokens(Function):
    @staticmethod
    def forward(ctx: Any, y_RD: Tensor, weights_TK: Tensor, token_R: Tensor, place_TK: Tensor) -> Tensor:
        ctx.save_for_backward(y_RD, weights_TK, token_R, place_TK)
        return _weighted(_gathered(y_RD, place_TK), weights_TK)

    @staticmethod
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        y_RD, weights_TK, token_R, place_TK = ctx.saved_tensors
        weight_R = torch.zeros_like(token_R, dtype=weights_TK.dtype).scatter_(
            0, place_TK.flatten(), weights_TK.flatten()
        )
        grad_y_RD = grad_TD.index_select(0, token_R) * weight_R[:, None]
        grad_weights_TK = torch.bmm(_gathered(y_RD, place_TK), grad_TD[:, :, None])[:, :, 0]
        return grad_y_RD, grad_weights_TK, None, None


def to_rows(x_TD: Tensor, token_R: Tensor, place_TK: Tensor) -> Tensor:
    """Return (R, D): each row's token; differentiable in x."""
    return _ToRows.apply(x_TD, token_R, place_TK)


def to_tokens(y_RD: Tensor, weights_TK: Tensor, token_R: Tensor, place_TK: Tensor) -> Tensor:
    """Return (T, D): each token's rows, weighted and summed; differentiable in y and weights, which have one type."""
    return _ToTokens.apply(y_RD, weights_TK, token_R, place_TK)


def reference_to_tokens(y_RD: Tensor, weights_TK: Tensor, place_TK: Tensor) -> Tensor:
    """Return what `to_tokens` must, gradients included, by torch's own operations."""
    return (y_RD[place_TK] * weights_TK[:, :, None]).sum(1)


def _gathered(rows_RD: Tensor, place_TK: Tensor) -> Tensor:
    return rows_RD.index_select(0, place_TK.flatten()).view(*place_TK.shape, -1)


def _weighted(y_TKD: Tensor, weights_TK: Tensor) -> Tensor:
    return torch.bmm(weights_TK[:, None, :], y_TKD)[:, 0]
