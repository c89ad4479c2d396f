"""Stochastic routing warm-up (Ling V1): expert choice starts as matched noise and fades to the learned logits.

    logits' = a * logits + (1 - a) * (mean + std * noise),  a = step / warm-up steps

mean and std are running statistics of the layer's logits. The noise is a function of (seed, step, layer, sample number,
position, expert), so that no split over micro-batches, ranks or recomputation changes it.

Shapes: B rows, T' positions of a row, T = B T' tokens, E experts.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RoutingNoise:
    """One micro-batch's noise. `mean_L` and `std_L` have an entry for each router, MTP ones last."""

    seed: int
    step: int
    warmup_steps: int
    sample_numbers_B: Tensor
    mean_L: Tensor
    std_L: Tensor

    def blend(self, logits_TE: Tensor, layer: int) -> Tensor:
        """Return logits with their share of noise; gradients flow through the logits' share."""
        T, E = logits_TE.shape
        positions = T // len(self.sample_numbers_B)
        share = min(self.step / self.warmup_steps, 1.0)
        key = _mix(torch.tensor([self.seed, self.step, layer])).tolist()
        # Each number is scrambled after the ones before it are in: swapping two of them gives other noise.
        sample_B = _mix(self.sample_numbers_B + key[0])
        token_T = (sample_B[:, None] + torch.arange(positions, device=logits_TE.device)).flatten()
        hashed_TE = _mix(_mix(token_T)[:, None] + _mix(torch.arange(E, device=logits_TE.device) + key[1]))
        noise_TE = gaussian(_mix(hashed_TE + key[2])).to(logits_TE.dtype)
        return share * logits_TE + (1 - share) * (self.mean_L[layer] + self.std_L[layer] * noise_TE)


def gaussian(bits: Tensor) -> Tensor:
    """Turn int64 hash bits into standard normal fp32 numbers (Box-Muller on the two halves)."""
    u = ((bits >> 32) & 0xFFFFFF).float().add_(0.5).mul_(2.0**-24)
    v = (bits & 0xFFFFFF).float().mul_(2.0**-24)
    return torch.sqrt(-2 * torch.log(u)) * torch.cos(2 * math.pi * v)


def _mix(x: Tensor) -> Tensor:
    """Scramble int64 numbers (the finaliser of splitmix64; products wrap)."""
    x = x + -7046029254386353131
    x = (x ^ _shift(x, 30)) * -4658895280553007687
    x = (x ^ _shift(x, 27)) * -7723592293110705685
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros; torch's int64 shift copies the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
