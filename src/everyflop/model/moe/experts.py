"""The experts' matrices, stacked, and one pass of dispatched tokens through them.

Shapes: R rows sorted by expert, E experts, H hidden, M expert width.
"""

import torch
from torch import Tensor, nn

from everyflop.kernels.experts import experts
from everyflop.model.moe.dispatch import Dispatched


class Experts(nn.Module):
    """E SwiGLU networks; gate and up projections share one matrix for each expert, gate rows first."""

    def __init__(self, n_experts: int, hidden: int, width: int):
        super().__init__()
        self.gate_up = nn.Parameter(torch.empty(n_experts, 2 * width, hidden))
        self.down = nn.Parameter(torch.empty(n_experts, hidden, width))

    def forward(self, sent: Dispatched) -> Tensor:
        """Return (R, H): each row's token through its expert, weighted; what comes of empty rows has no meaning."""
        return experts(sent.x_TD, sent.weight_R, sent.token_R, sent.place_TK, sent.ends_E, self.gate_up, self.down)
