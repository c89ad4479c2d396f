"""Memory of one training step of our own model on one device that holds all of it.

`memory.py` predicts layouts of many devices in other systems; this is what `train` holds here, layers not compiled
(compiled ones keep less): fp32 parameters, gradients and moments, what the backward pass needs of a micro-batch (tests
hold these bytes against what autograd keeps), and the most that one layer's backward pass works with.

Letters as in the model: H hidden, E experts, M expert width, K chosen, V vocabulary, R rows at the experts.
"""

from dataclasses import dataclass
from math import prod
from typing import Literal

from everyflop.accounting.expert_rows import expert_rows
from everyflop.accounting.loss_chunks import loss_chunk
from everyflop.accounting.parameters import parameter_shapes
from everyflop.spec.model import ModelSpec

FP32, INT64, INT32 = 4, 8, 4


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Bytes of tensors at the fullest moment of a step."""

    parameters: int
    moments: int
    gradients: int
    """Those that are there at that moment."""
    kept: int
    """For the backward pass, at that moment."""
    working: int
    """What the operation at work makes and drops."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.parameters + self.moments + self.gradients + self.kept + self.working


@dataclass(frozen=True, slots=True)
class _Batch:
    """A micro-batch and the bytes of a number that is computed with: 2 of bf16, 4 of fp32."""

    rows: int
    seq_len: int
    width: int

    @property
    def tokens(self) -> int:
        return self.rows * self.seq_len

    @property
    def copied(self) -> int:
        """1 where what is cast between fp32 and the type that is computed in exists twice; 0 where both are one."""
        return 0 if self.width == FP32 else 1


def step_memory(
    spec: ModelSpec,
    *,
    rows: int,
    seq_len: int,
    precision: Literal["bf16", "fp32"],
    recompute: bool = False,
    micro_batches: int = 1,
) -> StepMemory:
    """Return the fullest of the moments that may be: the loss, each layer's backward pass, and the end of it.

    `rows` sequences, each of one document, make a micro-batch. Raises ValueError for what has no formula yet.
    """
    batch = _batch(spec, rows, seq_len, precision)
    shapes = parameter_shapes(spec)
    parameters = FP32 * sum(map(prod, shapes.values()))
    layer_gradients = [
        FP32 * sum(prod(shape) for name, shape in shapes.items() if name.startswith(f"layers.{layer}."))
        for layer in range(spec.n_layers)
    ]
    whole = [_layer(spec, layer, batch) for layer in range(spec.n_layers)]
    kept = [batch.tokens * spec.hidden * batch.width] * spec.n_layers if recompute else whole
    ends = _outside_layers(spec, batch)
    table = FP32 * spec.vocab_size * spec.hidden
    accumulated = parameters if micro_batches > 1 else 0
    buffers = loss_chunk(batch.tokens, spec.vocab_size) * spec.vocab_size * (FP32 + batch.width * batch.copied)
    matrix = spec.vocab_size * spec.hidden * batch.width * batch.copied
    moments = [
        # The loss: its matrix's gradient is part of what is kept; then it is scaled.
        (accumulated, sum(kept) + ends, max(buffers + matrix, table)),
    ]
    for layer in range(spec.n_layers):
        again = whole[layer] if recompute else 0
        done = accumulated or table + sum(layer_gradients[layer + 1 :])
        working = _working(spec, layer, batch)
        moments.append((done, sum(kept[: layer + 1]) + again, working))
    moments.append((accumulated or parameters - (0 if spec.tied_embeddings else table), 0, table))
    gradients, still_kept, working = max(moments, key=sum)
    return StepMemory(parameters, 2 * parameters, gradients, still_kept, working)


def kept_of_step(spec: ModelSpec, *, rows: int, seq_len: int, precision: Literal["bf16", "fp32"]) -> int:
    """Return the bytes that the forward pass of a micro-batch keeps for the backward pass; parameters not counted."""
    batch = _batch(spec, rows, seq_len, precision)
    return sum(_layer(spec, layer, batch) for layer in range(spec.n_layers)) + _outside_layers(spec, batch)


def _batch(spec: ModelSpec, rows: int, seq_len: int, precision: Literal["bf16", "fp32"]) -> _Batch:
    without = {
        "MLA": spec.attention != "gqa",
        "MTP layers": spec.n_mtp_layers,
        "clip_qkv": spec.clip_qkv is not None,
        "norm_head": spec.norm_head,
        "a window shorter than the sequence": spec.sliding_window is not None and spec.sliding_window < seq_len,
    }
    if found := [name for name, is_there in without.items() if is_there]:
        raise ValueError(f"the memory of a step has no formula yet for {', '.join(found)}")
    return _Batch(rows, seq_len, 2 if precision == "bf16" else FP32)


def _layer(spec: ModelSpec, layer: int, batch: _Batch) -> int:
    """Return what one layer keeps."""
    ffn = _dense(spec, spec.dense_width, batch) if spec.is_dense(layer) else _moe(spec, batch)
    norms = 2 * _norm(batch, spec.hidden)
    return norms + _attention(spec, batch) + ffn


def _outside_layers(spec: ModelSpec, batch: _Batch) -> int:
    """Return what embedding, last norm and loss keep: ids, and the gradients of hidden states and matrix."""
    T, H = batch.tokens, spec.hidden
    tables = 0 if batch.copied else 2 * batch.seq_len * (spec.rope_dim // 2) * FP32  # cosines and sines, for all
    return INT64 * T + _norm(batch, H) + T * H * batch.width + FP32 * spec.vocab_size * H + tables


def _norm(batch: _Batch, channels: int, *, heads: int = 1, is_own: bool = True) -> int:
    """A norm keeps its input in fp32, one number for each of its heads, its result, and its weight.

    In fp32 the input is kept as it is: `is_own` says whether only this norm keeps it.
    """
    statistics = FP32 * batch.tokens * heads
    weight = batch.copied * batch.width * (channels // heads)
    wide = FP32 * batch.tokens * channels * (1 if batch.copied or is_own else 0)
    return wide + statistics + batch.tokens * channels * batch.width + weight


def _attention(spec: ModelSpec, batch: _Batch) -> int:
    T, c, d = batch.tokens, batch.width, spec.head_dim
    n_q, n_kv = spec.n_heads * d, spec.n_kv_heads * d
    kept = T * spec.hidden * c  # what is projected
    kept += T * (n_q + 2 * n_kv) * c  # queries, keys and values side by side: values are a view of them
    if spec.qk_norm != "none":
        per_head = spec.qk_norm == "head"
        kept += _norm(batch, n_q, heads=spec.n_heads if per_head else 1, is_own=False)
        kept += _norm(batch, n_kv, heads=spec.n_kv_heads if per_head else 1, is_own=False)
    kept += batch.copied * 4 * batch.seq_len * (spec.rope_dim // 2) * c  # cosines and sines, of queries and of keys
    kept += T * (n_q + n_kv) * c  # turned
    kept += T * (n_q * c + FP32 * spec.n_heads)  # output, and log-sum-exp
    return kept + batch.copied * c * spec.hidden * (n_q + 2 * n_kv + n_q)


def _dense(spec: ModelSpec, width: int, batch: _Batch, *, is_shared: bool = False) -> int:
    """What goes in, gate and up channels, silu of the gate, their product, and copies of both matrices."""
    H, c = spec.hidden, batch.width
    goes_in = 0 if is_shared else batch.tokens * H * c
    return goes_in + batch.tokens * 4 * width * c + batch.copied * c * 3 * H * width


def _moe(spec: ModelSpec, batch: _Batch) -> int:
    T, c, H, E, K = batch.tokens, batch.width, spec.hidden, spec.n_experts, spec.experts_per_token
    R = expert_rows(T * K, E)
    router = batch.copied * FP32 * T * H + 2 * FP32 * T * E + INT64 * T * K  # input, logits, scores, ids
    if spec.normalise_weights:
        router += FP32 * T * (K + 1)
    places = INT64 * T * K + (FP32 + INT64) * R + INT32 * E
    losses = FP32 * (2 * T + batch.rows * E)
    experts = T * H * c + R * 2 * spec.expert_width * c
    shared = _dense(spec, spec.shared_width, batch, is_shared=True) if spec.n_shared_experts else 0
    return router + places + losses + experts + shared


def _working(spec: ModelSpec, layer: int, batch: _Batch) -> int:
    """Return the most that a layer's backward pass makes and drops."""
    T, c, H = batch.tokens, batch.width, spec.hidden
    flow = 2 * T * H * c  # gradients of the residual stream, and of what was added to it
    if spec.is_dense(layer):
        return flow + T * 4 * spec.dense_width * c + 3 * H * spec.dense_width * (c * batch.copied + FP32)
    R, M = expert_rows(T * spec.experts_per_token, spec.n_experts), spec.expert_width
    matrix = spec.n_experts * H * M
    # Gradients of all three matrices, of two in the type that is computed in too; rows of tokens and of gradients.
    return flow + R * (2 * H + 2 * M) * c + 3 * matrix * FP32 + 2 * matrix * c * batch.copied
