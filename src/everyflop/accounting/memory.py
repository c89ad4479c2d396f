"""Memory of the fullest device by component, for any layout. GiB in the results, bytes inside.

Weights, gradients and optimizer state follow mixed-precision AdamW: bf16 weights, fp32 gradients, and 12 bytes a weight
of fp32 master copy and moments (ZeRO, arXiv 1910.02054). With zero3 the fp32 weights themselves are sharded and a few
layers at a time are gathered in bf16. Activations follow Korthikanti et al. (arXiv 2205.05198), written out for SwiGLU,
grouped queries, flash attention and experts.
"""

import numpy as np

from everyflop.accounting.dims import Dims, Numbers
from everyflop.accounting.layouts import RECOMPUTES, SHARDINGS, Layouts
from everyflop.accounting.shards import Shard, shard
from everyflop.base.units import GIB

BF16, FP32 = 2, 4
MASTER_AND_MOMENTS = 12
GATHERED_LAYERS = 2
"""zero3: the layer in use and the next one."""
CONTEXT_GIB = 1.0
"""What the device's driver and its collectives hold."""


def memory(dims: Dims, layouts: Layouts, *, seq_len: Numbers, n_micro: np.ndarray) -> dict[str, np.ndarray]:
    """Return GiB by component for each layout; n_micro is the number of micro-batches of a step."""
    held = shard(dims, layouts)
    parts = {
        **_states(held, layouts),
        "activations": _activations(dims, held, layouts, seq_len, n_micro),
        "logits": _logits(dims, layouts, seq_len),
    }
    return {name: part / GIB for name, part in parts.items()} | {"context": np.full(len(layouts), CONTEXT_GIB)}


def _states(held: Shard, layouts: Layouts) -> dict[str, np.ndarray]:
    replicas = layouts.dp * layouts.cp  # every rank with the same weights shares them
    level = layouts.sharding
    dense, experts = held.shared_by_dp + held.embedding, held.experts

    def spread(from_level: str) -> np.ndarray:
        is_sharded = level >= SHARDINGS.index(from_level)
        return dense / np.where(is_sharded, replicas, 1) + experts / np.where(is_sharded, layouts.edp, 1)

    zero3 = level == SHARDINGS.index("zero3")
    layer = held.total / np.maximum(held.layers, 1)
    gathered = BF16 * GATHERED_LAYERS * np.minimum(layer, held.total) + 0 * dense
    return {
        "weights": np.where(zero3, spread("zero3") * FP32 + gathered, held.total * BF16),
        "gradients": spread("zero2") * FP32 + np.where(zero3, FP32 / BF16 * gathered / GATHERED_LAYERS, 0),
        "optimizer": spread("zero1") * np.where(zero3, 8, MASTER_AND_MOMENTS),
    }


def layer_activation_bytes(dims: Dims, layouts: Layouts, moe_share: Numbers) -> np.ndarray:
    """Return what the backward pass of a layer needs of each token of a micro-batch, on one device, without recompute.

    Between tensor-parallel parts the sequence is divided too (sequence parallelism), so that tp divides all of it.
    """
    h, q = dims.hidden, dims.n_heads * dims.qk_dim
    kv = dims.n_kv_heads * (dims.qk_dim + dims.v_dim)
    out = dims.n_heads * dims.v_dim
    stream = 2 * h + 2 * h  # two norms: what goes in and what comes out
    attention = q + kv + out + 0.1 * q  # and the softmax statistics
    ffn = (dims.dense_matrices - 1 + 1) * dims.dense_width
    routed = dims.experts_per_token * (h + dims.dense_matrices * dims.expert_width + h)
    moe = dims.dense_matrices * dims.shared_width + routed + 2 * dims.n_experts
    return BF16 * (stream + attention + (1 - moe_share) * ffn + moe_share * moe) / layouts.tp


def _activations(dims: Dims, held: Shard, layouts: Layouts, seq_len: Numbers, n_micro: np.ndarray) -> np.ndarray:
    tokens = layouts.micro_batch * seq_len / layouts.cp
    whole = layer_activation_bytes(dims, layouts, held.moe_share)
    kept = np.choose(layouts.recompute, [whole, 0.6 * whole, BF16 * dims.hidden / layouts.tp])
    warm_up = np.where(layouts.vpp > 1, 1 + (layouts.pp - 1) / (layouts.pp * layouts.vpp), 1.0)
    in_flight = np.minimum(layouts.pp * warm_up, np.maximum(n_micro, 1))
    again = np.where(layouts.recompute == RECOMPUTES.index("none"), 0.0, whole)
    return tokens * (held.layers * in_flight * kept + again)


def _logits(dims: Dims, layouts: Layouts, seq_len: Numbers) -> np.ndarray:
    tokens = layouts.micro_batch * seq_len / layouts.cp
    on_stage = np.where(layouts.pp > 1, 0.0, 1.0)
    return on_stage * tokens * dims.vocab / layouts.tp * (BF16 + 2 * FP32)
