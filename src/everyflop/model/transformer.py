"""The one transformer: a causal language model of dense and MoE layers for every family.

Parameters keep their type (fp32 in training); activations have `compute_dtype`. Layers return their router's statistics
instead of storing them, so that recomputing a layer counts nothing twice.

Shapes: B sequences, T positions, H hidden, V vocabulary.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from everyflop.backend.compiler import compiled
from everyflop.kernels.cross_entropy import IGNORED, linear_cross_entropy
from everyflop.kernels.wide import at_least_fp32
from everyflop.model.attention import AttentionContext, build_attention, first_keys, mask_after_past
from everyflop.model.cache import KVCache
from everyflop.model.layers import Linear, RMSNorm, SwiGLU
from everyflop.model.moe.balance import RouterStats
from everyflop.model.moe.layer import MoE
from everyflop.model.moe.noise import RoutingNoise
from everyflop.model.moe.router import Router
from everyflop.model.rope import rope_tables
from everyflop.spec.model import ModelSpec


@dataclass(frozen=True, slots=True)
class LossSums:
    """Sums over the tokens that count, in fp32 at least; the caller divides."""

    ce: Tensor
    """Cross entropy in nats."""
    tokens: Tensor
    mtp_ce: Tensor
    mtp_tokens: Tensor
    routers: list[RouterStats]
    """One for each MoE layer in order, MTP layers last."""


class Block(nn.Module):
    """Pre-norm attention and feed-forward part, each added to the residual stream."""

    def __init__(self, spec: ModelSpec, layer: int, router: int):
        super().__init__()
        self.attn_norm = RMSNorm(spec.hidden, spec.norm_eps)
        self.attn = build_attention(spec, layer)
        self.ffn_norm = RMSNorm(spec.hidden, spec.norm_eps)
        self.ffn = SwiGLU(spec.hidden, spec.dense_width) if spec.is_dense(layer) else MoE(spec, router)

    def forward(
        self, x_BTH: Tensor, context: AttentionContext, noise: RoutingNoise | None
    ) -> tuple[Tensor, RouterStats | None]:
        """Map (B, T, H) to the same shape; a dense layer has no statistics."""
        x_BTH = x_BTH + self.attn(self.attn_norm(x_BTH), context)
        if isinstance(self.ffn, MoE):
            y_BTH, stats = self.ffn(self.ffn_norm(x_BTH), noise)
            return x_BTH + y_BTH, stats
        return x_BTH + self.ffn(self.ffn_norm(x_BTH)), None


class MTPLayer(nn.Module):
    """Predict the token after next: one more block over the hidden state and the next token's embedding."""

    def __init__(self, spec: ModelSpec, layer: int, router: int):
        super().__init__()
        self.embed_norm = RMSNorm(spec.hidden, spec.norm_eps)
        self.hidden_norm = RMSNorm(spec.hidden, spec.norm_eps)
        self.merge = Linear(2 * spec.hidden, spec.hidden)
        self.block = Block(spec, layer, router)
        self.norm = RMSNorm(spec.hidden, spec.norm_eps)

    def forward(
        self, next_BTH: Tensor, hidden_BTH: Tensor, context: AttentionContext, noise: RoutingNoise | None
    ) -> tuple[Tensor, RouterStats | None]:
        """Map next tokens' embeddings and normed hidden states to normed states for the head."""
        merged = self.merge(torch.cat([self.embed_norm(next_BTH), self.hidden_norm(hidden_BTH)], dim=-1))
        y_BTH, stats = self.block(merged, context, noise)
        return self.norm(y_BTH), stats


class CausalLM(nn.Module):
    """A causal language model. `compute_dtype` None computes in the embedding's own type."""

    def __init__(self, spec: ModelSpec, compute_dtype: torch.dtype | None = None):
        super().__init__()
        self.spec, self.compute_dtype = spec, compute_dtype
        self.recompute = False
        """Keep only each layer's input for the backward pass and compute the rest again."""
        self.compiled = False
        """Run layers compiled while training; shapes must be the same in every step then."""
        moe_layers = [i for i in range(spec.n_layers) if not spec.is_dense(i)]
        self.embed = nn.Embedding(spec.vocab_size, spec.hidden)
        self.layers = nn.ModuleList(
            Block(spec, i, moe_layers.index(i) if i in moe_layers else -1) for i in range(spec.n_layers)
        )
        self.norm = RMSNorm(spec.hidden, spec.norm_eps)
        self.head = None if spec.tied_embeddings else Linear(spec.hidden, spec.vocab_size)
        self.mtp = nn.ModuleList(
            MTPLayer(spec, spec.n_layers + j, len(moe_layers) + j) for j in range(spec.n_mtp_layers)
        )

    @property
    def trained_mtp(self) -> list[MTPLayer]:
        """The MTP layers that the loss reaches: none when it weighs nothing."""
        return list(self.mtp) if self.spec.mtp_loss_weight else []  # type: ignore[arg-type]

    @property
    def routers(self) -> list[Router]:
        """The routers whose statistics `losses` returns, in that order."""
        blocks = [*self.layers, *(layer.block for layer in self.trained_mtp)]
        return [block.ffn.router for block in blocks if isinstance(block.ffn, MoE)]

    def forward(self, ids_BT: Tensor, cache: KVCache | None = None) -> Tensor:
        """Return logits (B, T, V), fp32 at least. With a cache, ids are the tokens that follow its content."""
        hidden_BTH, _, _ = self._hidden(ids_BT, None, None, cache)
        if cache is not None:
            cache.advance(ids_BT.shape[1])
        return self.logits(hidden_BTH)

    def loss(self, ids_BT: Tensor) -> Tensor:
        """Return the mean next-token cross entropy over B (T - 1) tokens, plus the weighted MTP loss if any."""
        mask = torch.ones_like(ids_BT[:, 1:], dtype=torch.bool)
        sums = self.losses(ids_BT[:, :-1], ids_BT[:, 1:], mask)
        loss = sums.ce / sums.tokens
        if self.trained_mtp:
            loss = loss + self.spec.mtp_loss_weight * sums.mtp_ce / sums.mtp_tokens
        return loss

    def losses(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        mask_BT: Tensor,
        *,
        documents_BT: Tensor | None = None,
        noise: RoutingNoise | None = None,
    ) -> LossSums:
        """Sum the losses of targets where mask_BT is True.

        documents_BT keeps attention, and the MTP target, inside each document. targets_BT are inputs_BT moved by one.
        """
        hidden_BTH, context, stats = self._hidden(inputs_BT, documents_BT, noise, None)
        ce = self._cross_entropy(hidden_BTH, targets_BT, mask_BT)
        mtp_ce, mtp_tokens = ce.new_zeros(()), mask_BT.new_zeros((), dtype=torch.int64)
        for layer in self.trained_mtp:
            y_BTH, found = layer(self._embed(targets_BT), hidden_BTH, context, noise)
            stats.append(found)
            ahead_BT = mask_BT[:, 1:] & mask_BT[:, :-1]
            if documents_BT is not None:
                ahead_BT = ahead_BT & (documents_BT[:, 1:] == documents_BT[:, :-1])
            mtp_ce = mtp_ce + self._cross_entropy(y_BTH[:, :-1], targets_BT[:, 1:], ahead_BT)
            mtp_tokens = mtp_tokens + ahead_BT.sum()
        return LossSums(ce, mask_BT.sum(), mtp_ce, mtp_tokens, stats)

    def logits(self, hidden_BTH: Tensor) -> Tensor:
        """Return (..., V) in fp32 at least, from normed hidden states."""
        hidden_BTH, weight_VH = self._head_inputs(hidden_BTH)
        return at_least_fp32(F.linear(hidden_BTH, weight_VH.to(hidden_BTH.dtype)))

    def _head_inputs(self, hidden_BTH: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden states and the matrix whose product logits are."""
        weight_VH = self.embed.weight if self.head is None else self.head.weight
        if self.spec.norm_head:
            # Dividing column j of the matrix by its norm is dividing channel j of the state by it.
            norm_H = at_least_fp32(weight_VH.detach()).norm(dim=0) + 1e-7
            hidden_BTH = (at_least_fp32(hidden_BTH) / norm_H).to(hidden_BTH.dtype)
        return hidden_BTH, weight_VH

    def _cross_entropy(self, hidden_BTH: Tensor, targets_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Return the sum of -log p(target) in nats where mask_BT is True."""
        hidden_BTH, weight_VH = self._head_inputs(hidden_BTH)
        targets_T = targets_BT.masked_fill(~mask_BT, IGNORED).flatten()
        return linear_cross_entropy(hidden_BTH.flatten(0, 1), weight_VH, targets_T)

    def _embed(self, ids_BT: Tensor) -> Tensor:
        return self.embed(ids_BT).to(self.compute_dtype or self.embed.weight.dtype)

    def _hidden(
        self, ids_BT: Tensor, documents_BT: Tensor | None, noise: RoutingNoise | None, cache: KVCache | None
    ) -> tuple[Tensor, AttentionContext, list[RouterStats]]:
        """Return normed states (B, T, H), what attention shared, and every router's statistics."""
        n_past, n_new = (cache.length if cache else 0), ids_BT.shape[1]
        positions = torch.arange(n_past, n_past + n_new, device=ids_BT.device)
        table_dtype = torch.float64 if self.embed.weight.dtype == torch.float64 else torch.float32
        rope = rope_tables(self.spec, positions, table_dtype)
        window, device = self.spec.sliding_window, ids_BT.device
        if cache is None:
            first_BT = first_keys(n_new, window=window, documents_BT=documents_BT, device=device)
            context = AttentionContext(rope, first_BT)
        else:
            mask = mask_after_past(n_new, n_past, window=window, device=device)
            context = AttentionContext(rope, cache=cache, mask=mask)
        x_BTH, stats = self._embed(ids_BT), []
        run = self._runner(noise, cache)
        for block in self.layers:
            x_BTH, found = run(block, x_BTH, context, noise)
            stats += [found] if found is not None else []
        return self.norm(x_BTH), context, stats

    def _runner(self, noise: RoutingNoise | None, cache: KVCache | None) -> Callable[..., Any]:
        """Return what runs a layer. Noise changes with every step, and would be compiled anew in each."""
        if not torch.is_grad_enabled():
            return Block.__call__
        if self.recompute:
            return functools.partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
        return _compiled_block() if self.compiled and noise is None and cache is None else Block.__call__


@functools.cache
def _compiled_block() -> Callable[..., Any]:
    """All layers of one kind share what is compiled."""
    return compiled(Block.forward)
