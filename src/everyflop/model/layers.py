"""The small layers: linear, RMSNorm, SwiGLU.

Parameters keep their own type (fp32 when training); each layer casts them to the type of what flows in.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everyflop.kernels.wide import at_least_fp32


class Linear(nn.Module):
    """A matrix (O, I), and a bias (O) if asked for; both are cast to the input's type."""

    def __init__(self, n_in: int, n_out: int, *, bias: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))
        self.bias = nn.Parameter(torch.empty(n_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., I) to (..., O)."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class RMSNorm(nn.Module):
    """Divide by the root mean square over the last dimension, in fp32, then scale by a weight."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return x's shape and type."""
        wide = at_least_fp32(x)
        normal = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return normal.to(x.dtype) * self.weight.to(x.dtype)


def swiglu(gate_up: Tensor) -> Tensor:
    """Map (..., 2I), gate channels first, to (..., I): silu(gate) * up."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


class SwiGLU(nn.Module):
    """The dense feed-forward part, with gate and up projections in one matrix."""

    def __init__(self, hidden: int, width: int):
        super().__init__()
        self.gate_up = Linear(hidden, 2 * width)
        self.down = Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., hidden) to the same shape."""
        return self.down(swiglu(self.gate_up(x)))
