"""Keys and values of past tokens, kept for generation.

Shapes: B rows, N key-value heads, T positions, D channels.
"""

import torch
from torch import Tensor


class KVCache:
    """Room for `capacity` positions in each layer; filled from the front."""

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.length = 0
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def extend(self, layer: int, k_BNTD: Tensor, v_BNTD: Tensor) -> tuple[Tensor, Tensor]:
        """Append one layer's new keys and values, and return all of that layer's so far."""
        end = self.length + k_BNTD.shape[2]
        # A single token past the end would be dropped in silence: it broadcasts into an empty slice.
        assert end <= self.capacity, f"{end} positions do not fit a cache of {self.capacity}"
        if layer not in self._layers:
            self._layers[layer] = (self._room(k_BNTD), self._room(v_BNTD))
        keys, values = self._layers[layer]
        keys[:, :, self.length : end] = k_BNTD
        values[:, :, self.length : end] = v_BNTD
        return keys[:, :, :end], values[:, :, :end]

    def advance(self, n_tokens: int) -> None:
        """Count tokens as past, after every layer was extended by them."""
        self.length += n_tokens

    def _room(self, x_BNTD: Tensor) -> Tensor:
        B, N, _, D = x_BNTD.shape
        return torch.empty(B, N, self.capacity, D, dtype=x_BNTD.dtype, device=x_BNTD.device)
