"""What one device of the fullest pipeline stage holds: weights and layers.

Stages hold whole layers, as evenly as they go; the first one has the embedding, the last one the head. The first stage
is the fullest: it keeps the most micro-batches in flight.
"""

from dataclasses import dataclass

import numpy as np

from everyflop.accounting.dims import Dims, Numbers
from everyflop.accounting.layouts import Layouts


@dataclass(frozen=True, slots=True)
class Shard:
    """Weights that lie on one device before any data-parallel sharding; arrays, one entry for each layout."""

    layers: np.ndarray
    """Layers of the stage, fractional where stages are uneven."""
    moe_share: Numbers
    """Of these layers, those with experts."""
    shared_by_dp: np.ndarray
    """Weights replicated over tp-wise data parallel ranks: attention, dense layers, shared experts, routers."""
    embedding: np.ndarray
    """Input embedding on the first stage; with one stage the head as well."""
    experts: np.ndarray
    """Routed experts' weights, replicated edp times."""

    @property
    def total(self) -> np.ndarray:
        """All weights on the device."""
        return self.shared_by_dp + self.embedding + self.experts


def shard(dims: Dims, layouts: Layouts) -> Shard:
    """Return what a device of the first stage holds."""
    tp = layouts.tp
    layers = dims.n_layers / layouts.pp
    moe_share = dims.n_moe_layers / dims.n_layers
    dense_layer = (dims.attention_weights + (1 - moe_share) * dims.dense_weights + moe_share * dims.shared_weights) / tp
    dense_layer = dense_layer + 2 * dims.hidden + moe_share * dims.router_weights
    tables = np.where(layouts.pp > 1, 1, 2 - dims.tied)
    embedding = (dims.vocab * dims.hidden * tables + dims.learned_positions) / tp
    experts = layers * moe_share * dims.n_experts * dims.expert_weights / (layouts.ep * layouts.etp)
    return Shard(layers, moe_share, layers * dense_layer, embedding, experts)
