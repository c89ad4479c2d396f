"""Scaling laws of MoE pre-training, from "Towards Greater Leverage" (arXiv 2507.17702), and the defaults that follow.

Compute C is in FLOP: 6 x active parameters (embedding and head included) x tokens. With that count the laws return
the published settings of Ling 2.0: for Ling-flash-2.0 (6.1 B active, 20 T tokens) a learning rate of 2.60e-4 where
2.61e-4 was used, and 8,418 sequences of 4,096 tokens where 8,352 were used.
"""

from dataclasses import dataclass
from math import log2, log10

from everyflop.accounting.parameters import count_parameters
from everyflop.spec.model import ModelSpec

FITTED_FLOP = (1e18, 6e20)
"""The compute range of the runs that the laws were fitted to."""

LARGEST_LR = 4e-3
"""Our cap: below the fitted range the law goes on rising (1e-2 at 3e13 FLOP), and rates that high were not tried."""

FEWEST_STEPS = 100
"""Our cap: a short run takes smaller batches than the law's, so that warm-up and decay have steps to work with."""

LARGEST_LEVERAGE = 7.0
"""Extrapolation ends here: the largest leverage that was checked at scale, near 1e22 FLOP and by Ling 2.0."""

CHECKED_FLOP = 1e22
"""About the largest compute at which the leverage of single shapes was held against dense models. At 1e24 Ling-Plus was
seen to have more than 3.5; the law says 6.0 there and 4.2 here."""


def training_compute(spec: ModelSpec, tokens: float) -> float:
    """Return the FLOP by which the laws measure a run; not the model FLOPs that MFU counts (see flops.py)."""
    return 6.0 * count_parameters(spec).active * tokens


def optimal_lr(compute: float) -> float:
    """Return the best peak learning rate (AdamW) for a compute budget in FLOP."""
    return 1.1576 * compute**-0.1529


def optimal_batch_tokens(compute: float) -> float:
    """Return the best number of tokens in one optimizer step for a compute budget in FLOP."""
    return 0.0694 * compute**0.3644


@dataclass(frozen=True, slots=True)
class Allocation:
    """How to spend a compute budget: the model's size, in training FLOPs per token, and the tokens to train on."""

    flops_per_token: float
    tokens: float


def optimal_allocation(compute: float) -> Allocation:
    """Return the model size and token count that reach the lowest loss with a compute budget in FLOP."""
    return Allocation(flops_per_token=0.1915 * compute**0.5095, tokens=5.2232 * compute**0.4905)


def optimal_dense_allocation(compute: float) -> Allocation:
    """Return the same for a dense model."""
    return Allocation(flops_per_token=0.0655 * compute**0.5422, tokens=15.2582 * compute**0.4578)


def leverage(activation: float, granularity: float, compute: float) -> float:
    """Return how many times less compute an MoE needs than a dense model for the same loss, at most LARGEST_LEVERAGE.

    activation is (chosen + shared) / (all + shared) experts, granularity is 2 x hidden / expert width.
    """
    return min(fitted_leverage(activation, granularity, compute), LARGEST_LEVERAGE)


def checked_leverage(activation: float, granularity: float, compute: float) -> float:
    """Return the same with the compute held at CHECKED_FLOP.

    Beyond it the cap alone would make ever denser shapes as good as sparse ones.
    """
    return leverage(activation, granularity, min(compute, CHECKED_FLOP))


def fitted_leverage(activation: float, granularity: float, compute: float) -> float:
    """Return the law behind `leverage` as fitted, without the cap."""
    least, most = 1.63e-2, 5.28e16
    saturated = 1 / (1 / (activation + 1 / (1 / least - 1 / most)) + 1 / most)
    # The paper does not print the bases: only log10 of compute and log2 of granularity return its own examples.
    exponent = 1.23 - 7.61e-2 * log10(compute) + 1.67e-2 * log2(granularity) ** 2 - 1.17e-1 * log2(granularity)
    return saturated**exponent


def default_lr(spec: ModelSpec, tokens: int) -> float:
    """Return the peak learning rate of a run that sets none: the law's, at most LARGEST_LR."""
    return min(optimal_lr(training_compute(spec, tokens)), LARGEST_LR)


def default_batch_tokens(spec: ModelSpec, tokens: int, seq_len: int) -> int:
    """Return the batch of a run that sets none: the law's, in whole sequences, small enough for FEWEST_STEPS steps.

    A batch is one sequence at least, also where fewer steps than that fit.
    """
    best = round(optimal_batch_tokens(training_compute(spec, tokens)) / seq_len)
    most = tokens // (FEWEST_STEPS * seq_len)
    return max(1, min(best, most)) * seq_len


def law_note(compute: float) -> str:
    """Say in one sentence how far the laws can be trusted at a compute budget in FLOP."""
    least, most = FITTED_FLOP
    if compute < least:
        return f"{compute:.1e} FLOP is below the laws' fitted range ({least:.0e} to {most:.0e}): an extrapolation."
    if compute > most:
        return f"{compute:.1e} FLOP is above the laws' fitted range ({least:.0e} to {most:.0e}): an extrapolation."
    return f"{compute:.1e} FLOP is inside the laws' fitted range ({least:.0e} to {most:.0e})."
