"""Model FLOPs of one trained token from the sizes of a model, for many models at once.

The same count as accounting/flops.py makes from a model's parameters: matmuls only, forward and backward, logits
included, recomputation left out. Tables of other projects count attention in full or leave it out: see `scores`.
"""

from typing import Literal

import numpy as np

from everyflop.accounting.dims import Dims, Numbers

Scores = Literal["causal", "full", "none"]


def training_flops_per_token(dims: Dims, seq_len: Numbers, *, scores: Scores = "causal") -> np.ndarray:
    """Return FLOPs; scores: attention's inner products over the keys a token can see, over all, or not counted."""
    moe = dims.router_weights + dims.experts_per_token * dims.expert_weights + dims.shared_weights
    layers = dims.n_layers * dims.attention_weights + dims.n_dense_layers * dims.dense_weights + dims.n_moe_layers * moe
    head = dims.vocab * dims.hidden * (1 + dims.extra_heads)
    full = dims.windowed_share * np.minimum(dims.window, seq_len) + (1 - dims.windowed_share) * seq_len
    seen = {"causal": dims.causal_keys(seq_len), "full": full, "none": 0.0}[scores]
    inner = dims.n_layers * dims.n_heads * (dims.qk_dim + dims.v_dim) * seen
    return 6 * np.asarray(layers + head) + 6 * inner
