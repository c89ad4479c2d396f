"""What one device of a pipeline stage holds: weights and layers, for the first stage, the second, and the last.

Stages hold whole layers, as evenly as they go, dense layers first. The first one has the embedding, the last one the
head; with one stage they are the same. A second one that is not the last has neither, and fewer dense layers than the
first.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from everyflop.accounting.dims import Dims, Numbers
from everyflop.accounting.layouts import Layouts

Stage = Literal["first", "second", "last"]


@dataclass(frozen=True, slots=True)
class Shard:
    """Weights that lie on one device before any data-parallel sharding; arrays, one entry for each layout."""

    layers: np.ndarray
    """Layers of the stage, fractional where stages are uneven."""
    moe_share: Numbers
    """Of these layers, those with experts."""
    shared_by_dp: np.ndarray
    """Weights that all data-parallel ranks hold: attention, dense layers, shared experts, routers."""
    tables: np.ndarray
    """Embedding or head; both with one stage."""
    experts: np.ndarray
    """Routed experts' weights, replicated edp times."""

    @property
    def total(self) -> np.ndarray:
        """All weights on the device."""
        return self.shared_by_dp + self.tables + self.experts


def shard(dims: Dims, layouts: Layouts, stage: Stage | None = None) -> Shard:
    """Return what a device of a stage holds; without a stage, of an average one that has the embedding too."""
    tp = layouts.tp
    layers = dims.n_layers / layouts.pp
    moe_share = _moe_share(dims, layers, stage)
    dense_layer = (dims.attention_weights + (1 - moe_share) * dims.dense_weights + moe_share * dims.shared_weights) / tp
    dense_layer = dense_layer + 2 * dims.hidden + moe_share * dims.router_weights
    tables = np.where(layouts.pp > 1, 0 if stage == "second" else 1, 2 - dims.tied)
    table = (dims.vocab * dims.hidden * tables + dims.learned_positions) / tp
    experts = layers * moe_share * dims.n_experts * dims.expert_weights / (layouts.ep * layouts.etp)
    return Shard(layers, moe_share, layers * dense_layer, table, experts)


def _moe_share(dims: Dims, layers: np.ndarray, stage: Stage | None) -> Numbers:
    if stage is None:
        return dims.n_moe_layers / dims.n_layers
    before = {"first": 0 * layers, "second": layers, "last": dims.n_layers - layers}[stage]
    return 1 - np.clip((dims.n_dense_layers - before) / layers, 0, 1)
