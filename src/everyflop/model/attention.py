"""Causal attention: grouped-query (GQA), and multi-head latent (MLA, DeepSeek).

Both make queries, keys and values for `attend`; projections and norms are all that differs.

Shapes: B rows, T positions, N query heads, M key-value heads, D channels of a head, H hidden.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from everyflop.kernels.attention import attention, fused
from everyflop.model.cache import KVCache
from everyflop.model.layers import Linear, RMSNorm
from everyflop.model.rope import RopeTables, yarn_mscale
from everyflop.spec.model import ModelSpec


@dataclass(frozen=True, slots=True)
class AttentionContext:
    """What all layers of one forward pass share."""

    rope: RopeTables
    first_BT: Tensor | None = None
    """The first key that each query may look at; None means key 0. Without a cache."""
    cache: KVCache | None = None
    mask: Tensor | None = None
    """With a cache: (1, 1, T, past + T), True where a query may look; None means plain causal or a single query."""


def first_keys(n: int, *, window: int | None, documents_BT: Tensor | None, device: torch.device) -> Tensor | None:
    """Return (B or 1, T), the first key that each of T = n queries may look at; None where that is always key 0.

    documents_BT holds an id for each position; positions of one document lie side by side.
    """
    if documents_BT is None and (window is None or window >= n):
        return None
    position = torch.arange(n, device=device)
    first_BT = (position - (window or n) + 1).clamp(min=0)[None]
    if documents_BT is None:
        return first_BT
    begins_BT = torch.ones_like(documents_BT, dtype=torch.bool)
    begins_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    return torch.maximum((begins_BT * position).cummax(1).values, first_BT)


def mask_after_past(n_queries: int, n_past: int, *, window: int | None, device: torch.device) -> Tensor | None:
    """Return (1, 1, T, past + T), True where a query may look; None where plain causal attention says the same."""
    n_keys = n_past + n_queries
    window = n_keys if window is None else window
    if window >= n_keys and (n_past == 0 or n_queries == 1):
        return None
    query = torch.arange(n_past, n_keys, device=device)[:, None]
    key = torch.arange(n_keys, device=device)
    return ((key <= query) & (key > query - window))[None, None]


def attend(
    q_BTND: Tensor, k_BTMD: Tensor, v_BTMD: Tensor, context: AttentionContext, layer: int, scale: float
) -> Tensor:
    """Return (B, T, N * D of values). Query head j reads key-value head j // (N / M)."""
    if context.cache is None:
        return attention(q_BTND, k_BTMD, v_BTMD, context.first_BT, scale).flatten(2)
    k, v = context.cache.extend(layer, k_BTMD.transpose(1, 2), v_BTMD.transpose(1, 2))
    causal = context.mask is None and q_BTND.shape[1] == k.shape[2]
    return fused(q_BTND, k.transpose(1, 2), v.transpose(1, 2), context.mask, scale, causal=causal).flatten(2)


class GroupedQueryAttention(nn.Module):
    """One packed projection: all query heads, then all key heads, then all value heads."""

    def __init__(self, spec: ModelSpec, layer: int):
        super().__init__()
        self.spec, self.layer = spec, layer
        n_q, n_kv = spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim
        self.qkv = Linear(spec.hidden, n_q + 2 * n_kv, bias=spec.qkv_bias)
        self.out = Linear(n_q, spec.hidden, bias=spec.out_bias)
        if spec.qk_norm != "none":
            per_head = spec.qk_norm == "head"
            self.q_norm = RMSNorm(spec.head_dim if per_head else n_q, spec.norm_eps)
            self.k_norm = RMSNorm(spec.head_dim if per_head else n_kv, spec.norm_eps)

    def forward(self, x_BTH: Tensor, context: AttentionContext) -> Tensor:
        """Map (B, T, H) to the same shape."""
        spec = self.spec
        n_q, n_kv = spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim
        q, k, v = self.qkv(x_BTH).split([n_q, n_kv, n_kv], dim=-1)
        if spec.qk_norm == "full":
            q, k = self.q_norm(q), self.k_norm(k)
        if spec.clip_qkv is not None:
            q, k, v = (x.clamp(-spec.clip_qkv, spec.clip_qkv) for x in (q, k, v))
        q, k, v = (x.unflatten(-1, (-1, spec.head_dim)) for x in (q, k, v))
        if spec.qk_norm == "head":
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = context.rope.rotate(q), context.rope.rotate(k)
        return self.out(attend(q, k, v, context, self.layer, spec.head_dim**-0.5))


LATENT_NORM_EPS = 1e-6
"""DeepSeek's code fixes it, whatever rms_norm_eps says."""


class LatentAttention(nn.Module):
    """MLA: keys and values grow from one low-rank latent; the rotated part of a key is shared by all heads.

    Heads are expanded as in training; the cache holds expanded keys and values.
    """

    def __init__(self, spec: ModelSpec, layer: int):
        super().__init__()
        self.spec, self.layer = spec, layer
        q_out = spec.n_heads * spec.qk_dim
        if spec.q_rank is None:
            self.q = Linear(spec.hidden, q_out)
        else:
            self.q_down = Linear(spec.hidden, spec.q_rank, bias=spec.qkv_bias)
            self.q_down_norm = RMSNorm(spec.q_rank, LATENT_NORM_EPS)
            self.q_up = Linear(spec.q_rank, q_out)
        self.kv_down = Linear(spec.hidden, spec.kv_rank + spec.rope_head_dim, bias=spec.qkv_bias)
        self.kv_down_norm = RMSNorm(spec.kv_rank, LATENT_NORM_EPS)
        self.kv_up = Linear(spec.kv_rank, spec.n_heads * (spec.nope_head_dim + spec.v_head_dim))
        self.out = Linear(spec.n_heads * spec.v_head_dim, spec.hidden, bias=spec.out_bias)
        self.scale = spec.qk_dim**-0.5
        if spec.yarn is not None and spec.yarn.mscale_all_dim:
            self.scale *= yarn_mscale(spec.yarn.factor, spec.yarn.mscale_all_dim) ** 2

    def forward(self, x_BTH: Tensor, context: AttentionContext) -> Tensor:
        """Map (B, T, H) to the same shape."""
        spec = self.spec
        q = self.q(x_BTH) if spec.q_rank is None else self.q_up(self.q_down_norm(self.q_down(x_BTH)))
        q_plain, q_turned = q.unflatten(-1, (spec.n_heads, -1)).split([spec.nope_head_dim, spec.rope_head_dim], dim=-1)
        latent, k_turned = self.kv_down(x_BTH).split([spec.kv_rank, spec.rope_head_dim], dim=-1)
        kv = self.kv_up(self.kv_down_norm(latent)).unflatten(-1, (spec.n_heads, -1))
        k_plain, v = kv.split([spec.nope_head_dim, spec.v_head_dim], dim=-1)
        k_turned = context.rope.rotate(k_turned.unsqueeze(2)).expand(-1, -1, spec.n_heads, -1)
        q = torch.cat([q_plain, context.rope.rotate(q_turned)], dim=-1)
        k = torch.cat([k_plain, k_turned], dim=-1)
        return self.out(attend(q, k, v, context, self.layer, self.scale))


def build_attention(spec: ModelSpec, layer: int) -> nn.Module:
    """Return the attention that the spec names."""
    return LatentAttention(spec, layer) if spec.attention == "mla" else GroupedQueryAttention(spec, layer)
