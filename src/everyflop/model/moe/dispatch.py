"""Bring tokens to their experts and back.

The model calls `dispatch`, runs the experts on what came, and calls `combine`. Where the experts live is decided
outside the model: here all of them are local; across ranks an object with the same two methods exchanges tokens.

Shapes: T tokens, K chosen, D channels, S = T K rows sorted by expert, E experts.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Dispatched(NamedTuple):
    """Rows at their experts: (S, D), the row after each expert's last (int32), and the way back."""

    rows_SD: Tensor
    ends_E: Tensor
    place_S: Tensor
    """For each (token, choice), the row that holds it."""


class Dispatch(Protocol):
    """What the model needs to reach experts."""

    def dispatch(self, x_TD: Tensor, ids_TK: Tensor, n_experts: int) -> Dispatched:
        """Gather each token once for each expert it chose, sorted by expert."""
        ...

    def combine(self, y_SD: Tensor, sent: Dispatched, weights_TK: Tensor) -> Tensor:
        """Return (T, D): each token's rows, weighted and summed."""
        ...


class LocalDispatch:
    """All experts are here. Only gathers, no scatter: results do not depend on threads racing."""

    def dispatch(self, x_TD: Tensor, ids_TK: Tensor, n_experts: int) -> Dispatched:
        """Gather each token once for each expert it chose, sorted by expert, ties in token order."""
        ids_S = ids_TK.flatten()
        order_S = ids_S.argsort(stable=True)
        place_S = torch.empty_like(order_S).scatter_(0, order_S, torch.arange(len(order_S), device=order_S.device))
        ends_E = count_tokens(ids_TK, n_experts).cumsum(0).to(torch.int32)
        rows_SD = x_TD.index_select(0, order_S // ids_TK.shape[1])
        return Dispatched(rows_SD, ends_E, place_S)

    def combine(self, y_SD: Tensor, sent: Dispatched, weights_TK: Tensor) -> Tensor:
        """Return (T, D) in y's type."""
        T, K = weights_TK.shape
        y_TKD = y_SD.index_select(0, sent.place_S).view(T, K, -1)
        return torch.einsum("tkd,tk->td", y_TKD, weights_TK.to(y_SD.dtype))


def count_tokens(ids_TK: Tensor, n_experts: int) -> Tensor:
    """Return (E,) int64: how many tokens chose each expert."""
    return torch.zeros(n_experts, dtype=torch.int64, device=ids_TK.device).scatter_add_(
        0, ids_TK.flatten(), torch.ones_like(ids_TK.flatten())
    )
