"""Bring tokens to their experts and back.

The model calls `dispatch`, runs the experts on what came, and calls `combine`. Where the experts live is decided
outside the model: here all of them are local; across ranks an object with the same two methods exchanges tokens.

Shapes: T tokens, K chosen, D channels, S = T K copies, R >= S rows sorted by expert, E experts.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from everyflop.kernels.permute import to_rows, to_tokens

BLOCK_ROWS = 16
"""Each expert's rows fill up to a multiple of this. Matmul libraries make a kernel for each number of rows, and 32
experts have 32 new numbers in every step: with whole blocks, grouped matmuls were 1.5 times as fast (bench/kernels.py).
Accelerators' grouped kernels work in such blocks anyway."""


class Dispatched(NamedTuple):
    """Rows at their experts, and the way back. Rows that hold no copy have any content; nothing reads them."""

    rows_RD: Tensor
    ends_E: Tensor
    """The row after each expert's last (int32). Rows after the last end belong to nobody."""
    token_R: Tensor
    """The token of each row."""
    place_TK: Tensor
    """The row that holds each copy."""


class Dispatch(Protocol):
    """What the model needs to reach experts."""

    def dispatch(self, x_TD: Tensor, ids_TK: Tensor, n_experts: int) -> Dispatched:
        """Gather each token once for each expert it chose, sorted by expert."""
        ...

    def combine(self, y_RD: Tensor, sent: Dispatched, weights_TK: Tensor) -> Tensor:
        """Return (T, D): each token's rows, weighted and summed."""
        ...


class LocalDispatch:
    """All experts are here."""

    def dispatch(self, x_TD: Tensor, ids_TK: Tensor, n_experts: int) -> Dispatched:
        """Gather each token once for each expert it chose, sorted by expert, ties in token order."""
        S, K = ids_TK.numel(), ids_TK.shape[1]
        block = block_rows(S, n_experts)
        R = S if block == 1 else -(-(S + n_experts * (block - 1)) // block) * block  # enough whatever is chosen
        sorted_ids_S, order_S = ids_TK.flatten().sort(stable=True)
        full_E = torch.searchsorted(sorted_ids_S, torch.arange(n_experts, device=ids_TK.device), right=True)
        counts_E = full_E.diff(prepend=full_E.new_zeros(1))
        room_E = (counts_E + block - 1) // block * block
        ends_E = room_E.cumsum(0)
        # A copy's row: where its expert's rows begin, and how many copies of the same expert came before.
        moved_E = (ends_E - room_E) - (full_E - counts_E)
        row_S = torch.arange(S, device=ids_TK.device) + moved_E.index_select(0, sorted_ids_S)
        place_S = torch.empty_like(order_S).scatter_(0, order_S, row_S)
        token_R = torch.zeros(R, dtype=torch.int64, device=ids_TK.device).scatter_(0, row_S, order_S // K)
        place_TK = place_S.view(ids_TK.shape)
        return Dispatched(to_rows(x_TD, token_R, place_TK), ends_E.to(torch.int32), token_R, place_TK)

    def combine(self, y_RD: Tensor, sent: Dispatched, weights_TK: Tensor) -> Tensor:
        """Return (T, D) in y's type."""
        return to_tokens(y_RD, weights_TK.to(y_RD.dtype), sent.token_R, sent.place_TK)


def block_rows(copies: int, n_experts: int) -> int:
    """Return what an expert's rows fill up to a multiple of; by shape alone. 1 where that would be mostly filling."""
    return BLOCK_ROWS if copies >= BLOCK_ROWS * n_experts else 1
