"""Bytes that one device sends in an optimizer step, by collective and by link, for any layout.

Ranks are placed as Megatron-LM does: tensor parallel ranks are neighbours, then context, then data (with the experts
folded into these three), and pipeline stages are farthest apart. Links inside a domain (a node, a rack) and the network
between domains are counted apart. A ring over several domains enters each one through the network ports of all its
members there.
"""

from dataclasses import dataclass

import numpy as np

from everyflop.accounting.dims import Dims, Numbers
from everyflop.accounting.layouts import RECOMPUTES, SHARDINGS, Layouts
from everyflop.accounting.memory import BF16, FP32
from everyflop.accounting.shards import shard


@dataclass(frozen=True, slots=True)
class Bytes:
    """What one device sends, by link; arrays, one entry for each layout."""

    inside: np.ndarray
    """Over the links of its domain."""
    between: np.ndarray
    """Over its own network port."""

    def times(self, factor: Numbers) -> "Bytes":
        """Scale both."""
        return Bytes(self.inside * factor, self.between * factor)

    def plus(self, other: "Bytes") -> "Bytes":
        """Add two."""
        return Bytes(self.inside + other.inside, self.between + other.between)


def ring(volume: np.ndarray, size: np.ndarray, inner: Numbers, domain: Numbers) -> Bytes:
    """Return bytes of an all-gather or reduce-scatter of `volume` bytes over `size` ranks that are `inner` apart."""
    near = np.minimum(size, np.maximum(domain // inner, 1))
    domains = size / near
    return Bytes(volume * (near - 1) / near, volume * (domains - 1) / domains / near)


def to_experts(volume: np.ndarray, size: np.ndarray, inner: Numbers, domain: Numbers, copies: Numbers) -> Bytes:
    """Return bytes of an all-to-all that sends each token, in all `volume` bytes once, to `copies` random ranks.

    A token goes to each other domain once, however many of its experts are there, and is copied on inside (DeepEP).
    """
    near = np.minimum(size, np.maximum(domain // inner, 1))
    domains = size / near
    others = (domains - 1) * (1 - (1 - 1 / domains) ** copies)  # expected number of other domains met
    return Bytes(volume * copies * (near - 1) / near, volume * others)


def traffic(
    dims: Dims, layouts: Layouts, *, seq_len: Numbers, n_micro: np.ndarray, domain: Numbers
) -> dict[str, Bytes]:
    """Return the bytes of a step by collective: tensor, context, expert, data, pipeline."""
    held = shard(dims, layouts)
    tokens = layouts.micro_batch * seq_len / layouts.cp
    passes = n_micro * held.layers
    again = np.where(layouts.recompute == RECOMPUTES.index("full"), 1, 0)
    return {
        "tensor": _tensor(dims, layouts, tokens, domain, held.moe_share).times(passes * (2 + again)),
        "context": _context(dims, layouts, tokens, domain).times(passes * (3 + again)),
        "expert": _expert(dims, layouts, tokens, domain).times(passes * held.moe_share * (2 + again)),
        "data": _data(dims, layouts, n_micro, domain),
        "pipeline": _pipeline(dims, layouts, tokens, domain).times(n_micro * 2),
    }


def _tensor(dims: Dims, layouts: Layouts, tokens: np.ndarray, domain: Numbers, moe_share: Numbers) -> Bytes:
    """One forward pass of a layer: gather and scatter around attention, and around a dense or tensor-parallel FFN."""
    volume = BF16 * tokens * dims.hidden
    attention = ring(volume, layouts.tp, 1, domain).times(2)
    dense = attention.times(1 - moe_share)
    routed = ring(volume * dims.experts_per_token / layouts.tp, layouts.etp, 1, domain).times(2 * moe_share)
    return attention.plus(dense).plus(routed)


def _context(dims: Dims, layouts: Layouts, tokens: np.ndarray, domain: Numbers) -> Bytes:
    kv = BF16 * tokens * layouts.cp * dims.n_kv_heads * (dims.qk_dim + dims.v_dim) / layouts.tp
    return ring(kv, layouts.cp, layouts.tp, domain)


def _expert(dims: Dims, layouts: Layouts, tokens: np.ndarray, domain: Numbers) -> Bytes:
    """Dispatch and combine of one forward pass."""
    volume = BF16 * tokens / layouts.tp * dims.hidden
    return to_experts(volume, layouts.ep, layouts.etp, domain, dims.experts_per_token).times(2)


def _data(dims: Dims, layouts: Layouts, n_micro: np.ndarray, domain: Numbers) -> Bytes:
    """Gradients reduced in fp32 and bf16 weights gathered once a step; with zero3 for each micro-batch.

    With pipeline stages zero3 keeps the gathered weights through the step, see memory.py.
    """
    held = shard(dims, layouts)
    zero3 = layouts.sharding == SHARDINGS.index("zero3")
    times = np.where(layouts.pp > 1, 1, n_micro)
    volume = np.where(zero3, times * (2 * BF16 + BF16), FP32 + np.where(layouts.sharding > 0, BF16, FP32))
    replicas = layouts.dp * layouts.cp
    dense = ring((held.shared_by_dp + held.tables) * volume, replicas, layouts.tp, domain)
    experts = ring(held.experts * volume, layouts.edp, layouts.ep * layouts.etp, domain)
    return dense.plus(experts)


def _pipeline(dims: Dims, layouts: Layouts, tokens: np.ndarray, domain: Numbers) -> Bytes:
    volume = BF16 * tokens * dims.hidden / layouts.tp * np.where(layouts.pp > 1, layouts.vpp, 0)
    near = layouts.devices <= domain
    return Bytes(np.where(near, volume, 0), np.where(near, 0, volume))
