"""A model as cost formulas see it: widths and weights of a layer, nothing about behaviour.

Every field is a number or a numpy array of numbers, one for each of many cases: the formulas are plain arithmetic, so
that one call answers for one layout or for a hundred thousand. Dense models are described too, since most published
measurements are of those.
"""

from dataclasses import dataclass

import numpy as np

from everyflop.accounting.parameters import count_parameters
from everyflop.spec.model import ModelSpec

Numbers = np.ndarray | float | int


@dataclass(frozen=True, slots=True)
class Dims:
    """Sizes of a decoder-only transformer. Weights are entries of matrices, in one layer unless said otherwise."""

    hidden: Numbers
    n_layers: Numbers
    """Main layers and MTP layers together."""
    n_dense_layers: Numbers
    """Of those, layers with a dense feed-forward part."""
    vocab: Numbers
    n_heads: Numbers
    n_kv_heads: Numbers
    qk_dim: Numbers
    """Channels of a query or key head."""
    v_dim: Numbers
    """Channels of a value head."""
    attention_weights: Numbers
    dense_width: Numbers
    dense_matrices: Numbers
    """3 with SwiGLU, 2 with a plain MLP."""
    n_experts: Numbers
    """0 for a dense model."""
    experts_per_token: Numbers
    expert_width: Numbers
    shared_width: Numbers
    window: Numbers = 0
    """Keys that a token sees at most in layers with a window, itself included."""
    windowed_share: Numbers = 0
    """Of the layers, those with a window; in the others a token sees all before it."""
    extra_heads: Numbers = 0
    """MTP layers pass the head once more each."""
    tied: Numbers = 0
    learned_positions: Numbers = 0
    """Entries of a learned position embedding."""

    def causal_keys(self, seq_len: Numbers) -> Numbers:
        """Return the keys that a token of a sequence sees, on average over positions and layers."""
        window = np.minimum(self.window, seq_len)
        seen = window - window**2 / (2 * np.asarray(seq_len))
        return self.windowed_share * seen + (1 - self.windowed_share) * seq_len / 2

    @property
    def n_moe_layers(self) -> Numbers:
        """Layers with experts."""
        return self.n_layers - self.n_dense_layers

    @property
    def dense_weights(self) -> Numbers:
        """Feed-forward weights of a dense layer."""
        return self.dense_matrices * self.hidden * self.dense_width

    @property
    def expert_weights(self) -> Numbers:
        """Weights of one routed expert."""
        return self.dense_matrices * self.hidden * self.expert_width

    @property
    def shared_weights(self) -> Numbers:
        """Weights of the shared expert of a layer."""
        return self.dense_matrices * self.hidden * self.shared_width

    @property
    def router_weights(self) -> Numbers:
        """Router weights of an MoE layer."""
        return self.hidden * self.n_experts

    @property
    def total_parameters(self) -> Numbers:
        """All parameters, input embedding, head and MTP layers included."""
        layers = self.n_layers * (self.attention_weights + 2 * self.hidden) + self.n_dense_layers * self.dense_weights
        moe = self.router_weights + self.n_experts * self.expert_weights + self.shared_weights
        embeddings = self.vocab * self.hidden * (2 - self.tied) + self.learned_positions
        return layers + self.n_moe_layers * moe + embeddings + self.hidden

    @property
    def active_parameters(self) -> Numbers:
        """Parameters that one token meets."""
        idle = self.n_moe_layers * (self.n_experts - self.experts_per_token) * self.expert_weights
        return self.total_parameters - idle


def dims_of(spec: ModelSpec) -> Dims:
    """Return the sizes of a model that everyflop can train, without MTP layers that have no loss and stay untrained."""
    mtp = spec.n_mtp_layers if spec.mtp_loss_weight else 0
    count = count_parameters(spec)
    return Dims(
        hidden=spec.hidden,
        n_layers=spec.n_layers + mtp,
        n_dense_layers=len(spec.dense_layers),
        vocab=spec.vocab_size,
        n_heads=spec.n_heads,
        n_kv_heads=spec.n_kv_heads,
        qk_dim=spec.qk_dim,
        v_dim=spec.value_dim,
        attention_weights=count.attention // spec.n_layers,
        dense_width=spec.dense_width,
        dense_matrices=3,
        n_experts=spec.n_experts,
        experts_per_token=spec.experts_per_token,
        expert_width=spec.expert_width,
        shared_width=spec.shared_width,
        window=spec.sliding_window or 0,
        windowed_share=int(spec.sliding_window is not None),
        extra_heads=mtp,
        tied=int(spec.tied_embeddings),
    )
