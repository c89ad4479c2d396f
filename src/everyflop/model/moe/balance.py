"""Keep experts evenly used: balance loss, router z-loss, and the aux-free bias.

Losses are computed within each sequence, so that neither accumulation nor the size of a micro-batch changes them.

Shapes: B sequences of T' tokens, T = B T' tokens, E experts, K chosen, L routers.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from everyflop.model.moe.router import Routing


class RouterStats(NamedTuple):
    """One router's sums over the tokens of a micro-batch. Sums add up over micro-batches."""

    counts_E: Tensor
    """Tokens sent to each expert, int64."""
    balance: Tensor
    """Balance loss times tokens; 1 a token when every expert is used alike."""
    z: Tensor
    """Squared log-sum-exp of the logits, summed over tokens."""
    logit_sum: Tensor
    logit_square_sum: Tensor


def router_stats(routing: Routing, n_sequences: int) -> RouterStats:
    """Sum up one router's decisions over T tokens, with gradients through `balance` and `z`.

    Balance loss of a sequence: sum over experts of (share of choices times E) times mean score, with a token's scores
    scaled to sum to 1 (DeepSeek-V3, arXiv 2412.19437, eq. 17 to 20). z-loss: ST-MoE, arXiv 2202.08906, eq. 5.
    """
    T, E = routing.logits_TE.shape
    K = routing.ids_TK.shape[1]
    per_sequence = T // n_sequences
    chosen_BE = torch.zeros(n_sequences, E, dtype=routing.scores_TE.dtype, device=routing.ids_TK.device)
    ids_BS = routing.ids_TK.view(n_sequences, per_sequence * K)
    chosen_BE.scatter_add_(1, ids_BS, torch.ones_like(ids_BS, dtype=chosen_BE.dtype))
    share_BE = chosen_BE * (E / (K * per_sequence))
    scores_TE = routing.scores_TE / (routing.scores_TE.sum(-1, keepdim=True) + 1e-20)
    score_sum_BE = scores_TE.view(n_sequences, per_sequence, E).sum(1)
    return RouterStats(
        counts_E=chosen_BE.sum(0).to(torch.int64),  # whole numbers, exact in fp32 up to 2**24 for a sequence
        balance=(share_BE * score_sum_BE).sum(),
        z=routing.logits_TE.logsumexp(-1).square().sum(),
        logit_sum=routing.logits_TE.detach().sum(),
        logit_square_sum=routing.logits_TE.detach().square().sum(),
    )


def add_stats(parts: list[list[RouterStats]]) -> list[RouterStats]:
    """Add several micro-batches' statistics, router by router."""
    per_router = zip(*parts, strict=True)
    return [RouterStats(*(torch.stack(values).sum(0) for values in zip(*same, strict=True))) for same in per_router]


@torch.no_grad()
def update_bias(expert_bias_E: Tensor, counts_E: Tensor, step: float) -> None:
    """Raise the bias of under-used experts and lower that of over-used ones, in place, without moving the mean.

    b += step * (s - mean(s)), s = sign(mean load - load): Ling 2.0, once a step, from the whole batch's counts.
    """
    load_E = counts_E.to(expert_bias_E.dtype)
    direction_E = (load_E.mean() - load_E).sign()
    expert_bias_E += step * (direction_E - direction_E.mean())


def relative_load(counts_E: Tensor) -> Tensor:
    """Return each expert's load over the mean load, in fp64 on the processor; 1 everywhere is perfect balance."""
    load_E = counts_E.cpu().double()  # some accelerators have no fp64
    return load_E / load_E.mean().clamp(min=1e-9)
