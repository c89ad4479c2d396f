"""Bring tokens to their experts and back.

The model calls `dispatch`, runs the experts on what came, and calls `combine`. Where the experts live is decided
outside the model: here all of them are local; across ranks an object with the same two methods exchanges tokens.

Shapes: T tokens, K chosen, D channels, S = T K copies, R >= S rows sorted by expert, E experts.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from everyflop.accounting.expert_rows import block_rows, expert_rows
from everyflop.kernels.permute import to_tokens


class Dispatched(NamedTuple):
    """Which token each row at the experts is, and the way back. Rows that hold no copy have any token, and weight 0."""

    x_TD: Tensor
    """The tokens that are here."""
    weight_R: Tensor
    token_R: Tensor
    place_TK: Tensor
    """The row that holds each copy."""
    ends_E: Tensor
    """The row after each expert's last (int32). Rows after the last end belong to nobody."""


class Dispatch(Protocol):
    """What the model needs to reach experts."""

    def dispatch(self, x_TD: Tensor, ids_TK: Tensor, weights_TK: Tensor, n_experts: int) -> Dispatched:
        """Give each token a row for each expert it chose, sorted by expert."""
        ...

    def combine(self, y_RD: Tensor, sent: Dispatched) -> Tensor:
        """Return (T, D): each token's weighted rows, summed."""
        ...


class LocalDispatch:
    """All experts are here."""

    def dispatch(self, x_TD: Tensor, ids_TK: Tensor, weights_TK: Tensor, n_experts: int) -> Dispatched:
        """Give each token a row for each expert it chose, sorted by expert, ties in token order."""
        S, K = ids_TK.numel(), ids_TK.shape[1]
        block, R = block_rows(S, n_experts), expert_rows(S, n_experts)
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
        weight_R = weights_TK.new_zeros(R).scatter(0, place_S, weights_TK.flatten())
        return Dispatched(x_TD, weight_R, token_R, place_S.view(ids_TK.shape), ends_E.to(torch.int32))

    def combine(self, y_RD: Tensor, sent: Dispatched) -> Tensor:
        """Return (T, D) in y's type."""
        return to_tokens(y_RD, sent.token_R, sent.place_TK)
