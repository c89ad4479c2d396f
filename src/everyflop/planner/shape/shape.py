"""What to train with a compute budget: an MoE's sizes, its tokens, batch and learning rate, from scaling laws.

The laws (accounting/laws.py) say how large a model is best and how its experts should be cut. What they leave open is
taken from Ling 2.0, whose three models follow them: experts of a quarter of the hidden width (granularity 8), 8 chosen
and one shared, a first layer in about 24 dense, hidden over layers between 102 and 128.
"""

import functools
from bisect import bisect_left
from dataclasses import dataclass
from math import ceil

from everyflop.accounting.flops import flops_per_token
from everyflop.accounting.laws import (
    LARGEST_LR,
    checked_leverage,
    leverage,
    optimal_allocation,
    optimal_batch_tokens,
    optimal_lr,
)
from everyflop.base.errors import ExpectedNo
from everyflop.planner.plan.workloads import SEQ_LEN, round_batch
from everyflop.spec.model import ModelSpec
from everyflop.spec.workload import Precision, Workload

EXPERT_COUNTS = (128, 256, 512, 1024)
"""Activations of 7.0, 3.5, 1.75 and 0.88 %; the law's study went down to 0.8 %."""

GRANULARITY = 8
"""The law's best is 11, and better by 1.3 % at 1e22 FLOP; narrower experts multiply more slowly."""

CHOSEN, SHARED = 8, 1
HEAD_DIM = 128
LAYERS_PER_DENSE = 24
VOCAB_SIZE = 157_184
"""Ling 2.0's."""

FLOPS_PER_PARAMETER = 6
"""Forward and backward pass of one token, as the laws count them."""
_HIDDEN = (*range(512, 4096, 256), *range(4096, 16_385, 512))


@dataclass(frozen=True, slots=True)
class Shape:
    """What to train with a compute budget."""

    model: ModelSpec
    active: int
    """Parameters that one token meets, embedding and head included."""
    tokens: int
    batch_tokens: int
    lr: float
    """Peak learning rate of AdamW."""
    seq_len: int = SEQ_LEN

    @property
    def compute(self) -> float:
        """FLOP of the run, as the laws count them."""
        return float(FLOPS_PER_PARAMETER * self.active * self.tokens)

    @property
    def leverage(self) -> float:
        """How many times less compute than a dense model of the same loss it needs, by the law with its cap."""
        return leverage(activation_of(self.model), granularity_of(self.model), self.compute)

    @property
    def dense_equivalent(self) -> float:
        """FLOP with which the best dense model would reach the same loss."""
        return self.compute * self.leverage

    @property
    def merit(self) -> float:
        """What shapes are ranked by: the dense equivalent by the law as far as it was checked, in FLOP."""
        return self.compute * checked_leverage(activation_of(self.model), granularity_of(self.model), self.compute)

    def workload(self, name: str, precision: Precision) -> Workload:
        """Return the run as a plan needs it."""
        return Workload(
            name=name,
            model=self.model,
            tokens=self.tokens,
            seq_len=self.seq_len,
            batch_tokens=self.batch_tokens,
            precision=precision,
        )


def activation_of(spec: ModelSpec) -> float:
    """Return which share of a layer's experts a token meets, shared ones included."""
    always = spec.n_shared_experts
    return (spec.experts_per_token + always) / (spec.n_experts + always)


def granularity_of(spec: ModelSpec) -> float:
    """Return twice the hidden width over an expert's."""
    return 2 * spec.hidden / spec.expert_width


def attention_share(spec: ModelSpec, seq_len: int) -> float:
    """Return the share of attention in the FLOPs between embedding and head.

    The study saw no difference between 20 and 50 %.
    """
    flops = flops_per_token(spec, seq_len)
    return (flops.attention_projections + flops.attention_scores) / (flops.forward - flops.head - flops.mtp)


def shape_for(compute: float, *, n_experts: int) -> Shape:
    """Return the shape on which the laws would spend a compute budget in FLOP.

    Raises ExpectedNo where the best size is beyond what shapes are made for.
    """
    wanted = optimal_allocation(compute).flops_per_token / FLOPS_PER_PARAMETER
    sizes = _ladder(n_experts)
    if not sizes[0][0] / 1.5 <= wanted <= sizes[-1][0] * 1.5:
        raise ExpectedNo(
            f"no shape fits: the laws would spend {compute:.1e} FLOP on a model with {wanted:.2e} active parameters, "
            f"and shapes are made from {sizes[0][0]:.1e} to {sizes[-1][0]:.1e}. Change --budget, or name a --model."
        )
    after = bisect_left(sizes, (wanted, 0, 0))
    _, hidden, layers = min(
        sizes[max(after - 1, 0) : after + 1], key=lambda size: max(size[0] / wanted, wanted / size[0])
    )
    return spend(compute, model_of(hidden, layers, n_experts))


def spend(compute: float, model: ModelSpec) -> Shape:
    """Return how to train one of our models with a compute budget in FLOP: tokens, batch and learning rate."""
    active = active_parameters(model.hidden, model.n_layers, model.n_experts)
    batch = max(1, round(optimal_batch_tokens(compute) / SEQ_LEN))
    batch_tokens = round_batch(batch) * SEQ_LEN
    steps = max(1, round(compute / (FLOPS_PER_PARAMETER * active * batch_tokens)))
    return Shape(model, active, steps * batch_tokens, batch_tokens, min(optimal_lr(compute), LARGEST_LR))


def model_of(hidden: int, layers: int, n_experts: int) -> ModelSpec:
    """Return the model with these sizes."""
    width = expert_width(hidden)
    return ModelSpec(
        family="ling-v2",
        vocab_size=VOCAB_SIZE,
        hidden=hidden,
        n_layers=layers,
        dense_layers=tuple(range(_dense(layers))),
        dense_width=(CHOSEN + SHARED) * width,
        n_heads=hidden // HEAD_DIM,
        n_kv_heads=_kv_heads(hidden),
        head_dim=HEAD_DIM,
        rotary_dim=HEAD_DIM // 2,
        n_experts=n_experts,
        experts_per_token=CHOSEN,
        expert_width=width,
        n_shared_experts=SHARED,
        n_groups=8,
        keep_groups=4,
        max_positions=32_768,
    )


def expert_width(hidden: int) -> int:
    """Return an expert's width."""
    return 2 * hidden // GRANULARITY


def active_parameters(hidden: int, layers: int, n_experts: int) -> int:
    """Return how many parameters of such a model one token meets, without listing them all."""
    attention = 2 * hidden * HEAD_DIM * (hidden // HEAD_DIM + _kv_heads(hidden)) + 2 * HEAD_DIM
    met = 3 * hidden * (CHOSEN + SHARED) * expert_width(hidden)
    routers = (layers - _dense(layers)) * hidden * n_experts
    ends = 2 * VOCAB_SIZE * hidden + hidden
    return ends + layers * (attention + met + 2 * hidden) + routers


def _kv_heads(hidden: int) -> int:
    heads = hidden // HEAD_DIM
    return next(n for n in (8 if heads > 32 else 4, 4, 2) if heads % n == 0)


def _dense(layers: int) -> int:
    return max(1, round(layers / LAYERS_PER_DENSE))


@functools.cache
def _ladder(n_experts: int) -> list[tuple[int, int, int]]:
    """Return active parameters, hidden width and layers of all shapes, smallest first.

    One list in one order, so that more compute never gets the smaller model.
    """
    return sorted(
        (active_parameters(hidden, layers, n_experts), hidden, layers)
        for hidden in _HIDDEN
        for layers in range(ceil(hidden / 128), int(hidden / 102.4) + 1)
    )
