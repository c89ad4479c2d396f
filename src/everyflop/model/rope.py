"""Rotary position embedding, with YaRN (arXiv 2309.00071).

Shapes: B rows, T positions, N heads, D channels of a head, r of them rotated.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from everyflop.spec.model import ModelSpec, YarnSpec


@dataclass(frozen=True, slots=True)
class RopeTables:
    """Cosine and sine of each position's angles, (T, r/2), and how channels pair up."""

    cos: Tensor
    sin: Tensor
    interleaved: bool

    def rotate(self, x_BTND: Tensor) -> Tensor:
        """Rotate the first r channels of each head and pass the rest through."""
        r = 2 * self.cos.shape[-1]
        turned, rest = x_BTND[..., :r], x_BTND[..., r:]
        if self.interleaved:
            a, b = turned[..., 0::2], turned[..., 1::2]
        else:
            a, b = turned.chunk(2, dim=-1)
        cos, sin = self.cos[:, None].to(x_BTND.dtype), self.sin[:, None].to(x_BTND.dtype)
        # Interleaved pairs come out as halves: queries and keys alike, so their products are the same.
        return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1)


def rope_tables(spec: ModelSpec, positions_T: Tensor, dtype: torch.dtype) -> RopeTables:
    """Compute the tables for some positions; angles in `dtype`, which is fp32 or fp64."""
    r = spec.rope_dim
    exponents = torch.arange(0, r, 2, dtype=dtype, device=positions_T.device) / r
    frequencies = 1.0 / (spec.rope_theta**exponents)
    scale = 1.0
    if spec.yarn is not None:
        ramp = _yarn_ramp(spec.yarn, r, spec.rope_theta).to(positions_T.device, dtype)
        frequencies = frequencies / spec.yarn.factor * ramp + frequencies * (1 - ramp)
        scale = yarn_scale(spec.yarn)
    angles = positions_T.to(dtype)[:, None] * frequencies
    return RopeTables(angles.cos() * scale, angles.sin() * scale, spec.rope_interleaved)


def _yarn_ramp(yarn: YarnSpec, r: int, theta: float) -> Tensor:
    """Return (r/2,): 0 where a frequency is kept, 1 where it is divided by the factor, linear between."""

    def channel_of(rotations: float) -> float:
        return r * math.log(yarn.original_max_positions / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = channel_of(yarn.beta_fast), channel_of(yarn.beta_slow)
    if yarn.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, r - 1)
    width = (high - low) or 0.001  # as the reference does, so that equal ends make a step
    return ((torch.arange(r // 2, dtype=torch.float64) - low) / width).clamp(0, 1)


def yarn_scale(yarn: YarnSpec) -> float:
    """Return the factor on cos and sin."""
    if yarn.attention_factor is not None:
        return yarn.attention_factor
    if yarn.mscale and yarn.mscale_all_dim:
        return yarn_mscale(yarn.factor, yarn.mscale) / yarn_mscale(yarn.factor, yarn.mscale_all_dim)
    return yarn_mscale(yarn.factor, 1.0)


def yarn_mscale(factor: float, mscale: float) -> float:
    """Return 0.1 mscale ln(factor) + 1, and 1 where nothing is stretched."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0
