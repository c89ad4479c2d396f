"""Choose experts for each token.

A router turns hidden states into expert ids and weights. It holds no expert weights and moves nothing: that is
dispatch.py. All of it runs in fp32 at least, since near ties decide which expert learns.

Shapes: T tokens, H hidden, E experts, G expert groups, e experts of a group, K chosen.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everyflop.kernels.wide import at_least_fp32
from everyflop.model.moe.noise import RoutingNoise
from everyflop.spec.model import ModelSpec


class Routing(NamedTuple):
    """The router's decision. ids are int64; the others are fp32 at least."""

    ids_TK: Tensor
    weights_TK: Tensor
    logits_TE: Tensor
    scores_TE: Tensor


class Router(nn.Module):
    """Score each expert, choose K, weigh them by their unbiased scores."""

    def __init__(self, spec: ModelSpec, layer: int):
        super().__init__()
        self.spec, self.layer = spec, layer
        self.weight = nn.Parameter(torch.empty(spec.n_experts, spec.hidden))
        if spec.expert_bias:
            self.expert_bias: Tensor
            self.register_buffer("expert_bias", torch.zeros(spec.n_experts))

    def forward(self, x_TH: Tensor, noise: RoutingNoise | None = None) -> Routing:
        """Route T tokens; `noise` blends the logits with keyed noise while routing warms up."""
        spec = self.spec
        logits_TE = F.linear(at_least_fp32(x_TH), at_least_fp32(self.weight))
        used_TE = logits_TE if noise is None else noise.blend(logits_TE, self.layer)
        scores_TE = used_TE.sigmoid() if spec.score == "sigmoid" else used_TE.softmax(dim=-1)
        with torch.no_grad():
            biased_TE = scores_TE + self.expert_bias.to(scores_TE.dtype) if spec.expert_bias else scores_TE
            ids_TK = choose(
                biased_TE, n_groups=spec.n_groups, keep_groups=spec.keep_groups, top_k=spec.experts_per_token
            )
        weights_TK = scores_TE.gather(1, ids_TK)
        if spec.normalise_weights:
            # A sum of sigmoids can vanish; softmax scores of the best K cannot.
            weights_TK = weights_TK / (weights_TK.sum(-1, keepdim=True) + (1e-20 if spec.score == "sigmoid" else 0.0))
        return Routing(ids_TK, weights_TK * spec.routed_scale, logits_TE, scores_TE)


def choose(scores_TE: Tensor, *, n_groups: int, keep_groups: int, top_k: int) -> Tensor:
    """Return (T, K) expert ids, looking only inside the best keep_groups groups of each token.

    A group's score is the sum of its two best experts. Other groups are masked with -inf: with 0, an expert of a
    masked group would beat a kept one whose biased score is negative.
    """
    if n_groups > 1:
        T, E = scores_TE.shape
        scores_TGe = scores_TE.view(T, n_groups, E // n_groups)
        group_score_TG = scores_TGe.topk(2, dim=-1).values.sum(-1)
        kept_TG = torch.zeros_like(group_score_TG, dtype=torch.bool)
        kept_TG.scatter_(1, group_score_TG.topk(keep_groups, dim=-1).indices, True)
        scores_TE = scores_TGe.masked_fill(~kept_TG[..., None], float("-inf")).view(T, E)
    return scores_TE.topk(top_k, dim=-1).indices
