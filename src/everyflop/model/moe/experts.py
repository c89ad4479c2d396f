"""The experts' matrices, stacked, and one pass of sorted rows through them.

Shapes: R rows sorted by expert, E experts, H hidden, M expert width.
"""

import torch
from torch import Tensor, nn

from everyflop.kernels.grouped_mm import grouped_mm
from everyflop.model.layers import swiglu


class Experts(nn.Module):
    """E SwiGLU networks; gate and up projections share one matrix for each expert, gate rows first."""

    def __init__(self, n_experts: int, hidden: int, width: int):
        super().__init__()
        self.gate_up = nn.Parameter(torch.empty(n_experts, 2 * width, hidden))
        self.down = nn.Parameter(torch.empty(n_experts, hidden, width))

    def forward(self, rows_RH: Tensor, ends_E: Tensor) -> Tensor:
        """Map (R, H) to (R, H), each row by its own expert; what comes of rows after the last end has no meaning."""
        hidden_RM = swiglu(grouped_mm(rows_RH, self.gate_up.to(rows_RH.dtype), ends_E))
        return grouped_mm(hidden_RM, self.down.to(rows_RH.dtype), ends_E)
