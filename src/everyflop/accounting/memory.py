"""Memory of the fullest device by component, for any layout. GiB in the results, bytes inside.

Weights, gradients and optimizer state follow mixed-precision AdamW: bf16 weights, fp32 gradients, and 12 bytes a weight
of fp32 master copy and moments (ZeRO, arXiv 1910.02054). With zero3 the fp32 weights themselves are sharded and a few
layers at a time are gathered in bf16; with pipeline stages they stay gathered, or every micro-batch would gather them
again. Activations follow Korthikanti et al. (arXiv 2205.05198), written out for SwiGLU, grouped queries, flash
attention and experts.
"""

from typing import get_args

import numpy as np

from everyflop.accounting.dims import Dims, Numbers
from everyflop.accounting.layouts import RECOMPUTES, SHARDINGS, Layouts
from everyflop.accounting.shards import Shard, Stage, shard
from everyflop.base.units import GIB

BF16, FP32 = 2, 4
MOMENTS, MASTER_AND_MOMENTS = 8, 12
GATHERED_LAYERS = 2
"""zero3: the layer in use and the next one."""
LOGIT_BYTES, TORCH_LOGIT_BYTES = 8, 14
"""Bytes of one logit through the loss and back: fused vocabulary-parallel cross-entropy, and plain torch, which holds
bf16 and fp32 copies and both gradients at once. zero3 runs are of the second kind."""
SELECTIVE_SHARE = 0.5
"""Of a layer's activations, what selective recomputation keeps."""
FRAGMENTATION_SHARE = 0.04
"""Of activations and logits: blocks of the allocator that no tensor fits into."""
CONTEXT_GIB = 1.0
"""What the device's driver and the buffers of its collectives hold."""


def memory(dims: Dims, layouts: Layouts, *, seq_len: Numbers, n_micro: np.ndarray) -> dict[str, np.ndarray]:
    """Return GiB by component of each layout's fullest device; n_micro is the number of micro-batches of a step.

    The first pipeline stage keeps the most micro-batches in flight, the second nearly as many and has more layers with
    experts where a model begins with dense ones, the last one has the logits: the fullest counts. Where dense layers
    fill several stages, a later one may be fuller than the second.
    """
    stages = [_stage(stage, dims, layouts, seq_len, n_micro) for stage in get_args(Stage)]
    totals = np.array([np.sum(list(stage.values()), axis=0) for stage in stages])
    totals[1] = np.where(layouts.pp > 2, totals[1], 0.0)  # with fewer stages there is no second between two others
    fullest = totals.argmax(axis=0)
    return {name: np.choose(fullest, [stage[name] for stage in stages]) / GIB for name in stages[0]}


def _stage(stage: Stage, dims: Dims, layouts: Layouts, seq_len: Numbers, n_micro: np.ndarray) -> dict[str, np.ndarray]:
    held = shard(dims, layouts, stage)
    in_flight = _in_flight(layouts, n_micro, stage)
    has_logits = (layouts.pp == 1) | (stage == "last")
    activations = _activations(dims, held, layouts, seq_len, in_flight)
    logits = has_logits * _logits(dims, layouts, seq_len)
    return {
        **_states(held, layouts),
        "activations": activations,
        "logits": logits,
        "fragmentation": FRAGMENTATION_SHARE * (activations + logits),
        "context and buffers": np.full(len(layouts), CONTEXT_GIB * GIB),
    }


def _states(held: Shard, layouts: Layouts) -> dict[str, np.ndarray]:
    replicas = layouts.dp * layouts.cp  # every rank with the same weights shares them
    level = layouts.sharding
    dense, experts = held.shared_by_dp + held.tables, held.experts

    def spread(from_level: str) -> np.ndarray:
        is_sharded = level >= SHARDINGS.index(from_level)
        return dense / np.where(is_sharded, replicas, 1) + experts / np.where(is_sharded, layouts.edp, 1)

    zero3 = level == SHARDINGS.index("zero3")
    layers_gathered = np.where(layouts.pp > 1, held.layers, np.minimum(GATHERED_LAYERS, held.layers))
    gathered = np.where(zero3, held.total / held.layers * layers_gathered, 0.0)
    return {
        "weights": np.where(zero3, spread("zero3") * FP32 + gathered * BF16, held.total * BF16),
        "gradients": spread("zero2") * FP32 + gathered * BF16,
        "optimizer": spread("zero1") * np.where(zero3, MOMENTS, MASTER_AND_MOMENTS),
    }


def layer_activation_bytes(dims: Dims, layouts: Layouts, moe_share: Numbers) -> np.ndarray:
    """Return what the backward pass of a layer needs of each token of a micro-batch, on one device, without recompute.

    Between tensor-parallel parts the sequence is divided too (sequence parallelism), so that tp divides all of it.
    """
    h, q, out = dims.hidden, dims.n_heads * dims.qk_dim, dims.n_heads * dims.v_dim
    kv = dims.n_kv_heads * (dims.qk_dim + dims.v_dim)
    norms = 2 * (h + h)  # of both, what goes in and what comes out
    dense = dims.dense_matrices * dims.dense_width
    routed = dims.experts_per_token * (2 * h + dims.dense_matrices * dims.expert_width)
    moe = dims.dense_matrices * dims.shared_width + routed + 2 * dims.n_experts
    return BF16 * (norms + q + kv + out + (1 - moe_share) * dense + moe_share * moe) / layouts.tp


def _activations(dims: Dims, held: Shard, layouts: Layouts, seq_len: Numbers, in_flight: np.ndarray) -> np.ndarray:
    tokens = layouts.micro_batch * seq_len / layouts.cp
    whole = layer_activation_bytes(dims, layouts, held.moe_share)
    kept = np.choose(layouts.recompute, [whole, SELECTIVE_SHARE * whole, BF16 * dims.hidden / layouts.tp])
    again = np.where(layouts.recompute == RECOMPUTES.index("none"), 0.0, whole)  # of the layer that is at work
    return tokens * (held.layers * in_flight * kept + again)


def _in_flight(layouts: Layouts, n_micro: np.ndarray, stage: Stage) -> np.ndarray:
    """Return the micro-batches whose activations a stage keeps in 1F1B, more with virtual stages.

    With them, rank r of pp goes forward (vpp - 1) pp + 2 (pp - 1 - r) + 1 times, each through 1 / vpp of its layers,
    before it first goes back (Narayanan et al., arXiv 2104.04473).
    """
    pp, vpp = layouts.pp, layouts.vpp
    rank = {"first": 0, "second": 1, "last": pp - 1}[stage]
    kept = np.where(vpp > 1, ((vpp - 1) * pp + 2 * (pp - 1 - rank) + 1) / vpp, pp - rank)
    return np.minimum(np.maximum(kept, 1), np.maximum(n_micro, 1))


def _logits(dims: Dims, layouts: Layouts, seq_len: Numbers) -> np.ndarray:
    tokens = layouts.micro_batch * seq_len / layouts.cp
    each = np.where(layouts.sharding == SHARDINGS.index("zero3"), TORCH_LOGIT_BYTES, LOGIT_BYTES)
    return tokens * dims.vocab * (1 + dims.extra_heads) / layouts.tp * each
