"""Attention of a whole sequence to itself, block by block of queries.

`reference` is the specification. torch's fused attention is taken wherever a device has a good one; on the processor
blocks of batched matmuls are faster (`select`): scores of a block stay in its cache, and matmuls run on the units for
bf16. Scores and softmax are in fp32, as in fused kernels; keys after a block's last query are skipped.

Shapes: B rows, T positions, N query heads, M key-value heads, r = N / M, D channels of queries and keys, V of values.
Query head j reads key-value head j // r. A mask is (B or 1, 1, T, T), True where a query may look, and causal.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from everyflop.kernels.choice import Choice
from everyflop.kernels.wide import at_least_fp32

BLOCK_QUERIES = 128
BLOCK_SCORES = 2**20
"""At most so many scores at once, or those of one head: 4 MiB in fp32, which a core's caches hold."""


def select(device_type: str) -> Choice:
    """Choose by device alone."""
    if device_type == "cpu":
        return Choice("attention", "blocked", "batched matmuls of cached blocks outrun torch's fused kernel there")
    return Choice("attention", "torch", "the device's fused kernel")


def attention(q_BTND: Tensor, k_BTMD: Tensor, v_BTMV: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Return (B, T, N, V) in the values' type; differentiable in queries, keys and values."""
    if select(q_BTND.device.type).implementation == "blocked":
        return _blocked(q_BTND, k_BTMD, v_BTMV, mask, scale)
    return fused(q_BTND, k_BTMD, v_BTMV, mask, scale, causal=mask is None)


def fused(q_BTND: Tensor, k_BTMD: Tensor, v_BTMV: Tensor, mask: Tensor | None, scale: float, *, causal: bool) -> Tensor:
    """Return the same by torch's fused kernel, also for queries that follow a past."""
    q, k, v = (x.transpose(1, 2) for x in (q_BTND, k_BTMD, v_BTMV))
    y = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return y.transpose(1, 2)


def reference(q_BTND: Tensor, k_BTMD: Tensor, v_BTMV: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Return the same, all scores at once."""
    T, repeats = q_BTND.shape[1], q_BTND.shape[2] // k_BTMD.shape[2]
    k, v = (x.repeat_interleave(repeats, dim=2) for x in (k_BTMD, v_BTMV))
    scores = torch.einsum("btnd,bsnd->bnts", q_BTND, k) * scale
    seen = torch.ones(T, T, dtype=torch.bool, device=scores.device).tril() if mask is None else mask
    return torch.einsum("bnts,bsnv->btnv", scores.masked_fill(~seen, float("-inf")).softmax(-1), v)


@torch.library.custom_op("everyflop::blocked_attention", mutates_args=())
def _blocked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    B, T, N, _ = q.shape
    M, V = k.shape[2], v.shape[3]
    y = torch.empty(B, T, N, V, dtype=v.dtype, device=v.device)
    for b, heads in _parts(B, T, N, M):
        qs, ks, vs = _queries(q[b], M, heads, scale), _keys(k[b], heads), v[b, :, heads].transpose(0, 1)
        out = y[b].view(T, M, N // M, V)[:, heads].permute(1, 2, 0, 3)
        for first, last in _blocks(T):
            weights = _weights(qs[:, :, first:last], ks[:, :last], _of(mask, b), first).to(v.dtype)
            out[:, :, first:last] = torch.bmm(weights, vs[:, :last]).unflatten(1, (N // M, last - first))
    return y


@_blocked.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    return v.new_empty(*q.shape[:3], v.shape[3])


@torch.library.custom_op("everyflop::blocked_attention_backward", mutates_args=())
def _blocked_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    B, T, N, D = q.shape
    M, V = k.shape[2], v.shape[3]
    r = N // M
    grad_q, grad_k, grad_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    for b, heads in _parts(B, T, N, M):
        qs, ks = _queries(q[b], M, heads, scale), _keys(k[b], heads)
        narrow_k, vs = k[b, :, heads].transpose(0, 1).contiguous(), _keys(v[b], heads)
        grads = grad[b].view(T, M, r, V)[:, heads].permute(1, 2, 0, 3)
        out = grad_q[b].view(T, M, r, D)[:, heads].permute(1, 2, 0, 3)
        sum_k, sum_v = (torch.zeros(len(vs), T, width, dtype=qs.dtype, device=q.device) for width in (D, V))
        for first, last in _blocks(T):
            block = qs[:, :, first:last]
            weights = _weights(block, ks[:, :last], _of(mask, b), first)
            grad_y = grads[:, :, first:last].flatten(1, 2)
            grad_weights = torch.bmm(at_least_fp32(grad_y), vs[:, :last].transpose(1, 2))  # fp32: what follows cancels
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype).to(q.dtype)
            grad_block = torch.bmm(grad_scores, narrow_k[:, :last]).mul_(scale)
            out[:, :, first:last] = grad_block.unflatten(1, (r, last - first))
            # The queries of `block` carry the scale already.
            sum_k[:, :last] += torch.bmm(grad_scores.transpose(1, 2), block.flatten(1, 2).to(q.dtype))
            sum_v[:, :last] += torch.bmm(weights.to(v.dtype).transpose(1, 2), grad_y)
        grad_k[b, :, heads], grad_v[b, :, heads] = sum_k.transpose(0, 1), sum_v.transpose(0, 1)
    return grad_q, grad_k, grad_v


@_blocked_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _keep_inputs(ctx, inputs, output) -> None:
    q, k, v, mask, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, mask)


def _backward(ctx, grad: Tensor):
    q, k, v, mask = ctx.saved_tensors
    return *_blocked_backward(grad.contiguous(), q, k, v, mask, ctx.scale), None, None


_blocked.register_autograd(_backward, setup_context=_keep_inputs)


def _parts(B: int, T: int, N: int, M: int) -> list[tuple[int, slice]]:
    """Return rows and key-value heads whose scores of one block are looked at together."""
    heads = max(1, min(M, BLOCK_SCORES // (N // M * min(BLOCK_QUERIES, T) * T)))
    return [(b, slice(first, first + heads)) for b in range(B) for first in range(0, M, heads)]


def _blocks(T: int) -> Iterator[tuple[int, int]]:
    for first in range(0, T, BLOCK_QUERIES):
        yield first, min(first + BLOCK_QUERIES, T)


def _queries(q_TND: Tensor, M: int, heads: slice, scale: float) -> Tensor:
    """Return (heads, r, T, D), scaled, in fp32 at least."""
    return (at_least_fp32(q_TND) * scale).unflatten(1, (M, -1))[:, heads].permute(1, 2, 0, 3)


def _keys(k_TMD: Tensor, heads: slice) -> Tensor:
    """Return (heads, T, D) in fp32 at least."""
    return at_least_fp32(k_TMD[:, heads]).transpose(0, 1).contiguous()


def _of(mask: Tensor | None, b: int) -> Tensor | None:
    return None if mask is None else mask[min(b, len(mask) - 1), 0]


def _weights(q_MrtD: Tensor, k_MsD: Tensor, mask_TT: Tensor | None, first: int) -> Tensor:
    """Return (heads, r t, s): softmax of the scores of queries from `first` on against keys up to the last of them."""
    _, r, t, _ = q_MrtD.shape
    scores = torch.bmm(q_MrtD.flatten(1, 2), k_MsD.transpose(1, 2))
    by_head = scores.unflatten(1, (r, t))
    if mask_TT is None:
        later = torch.full((t, t), float("-inf"), dtype=scores.dtype, device=scores.device).triu(1)
        by_head[..., first:] += later
    else:
        by_head.masked_fill_(~mask_TT[first : first + t, : first + t], float("-inf"))
    return scores.softmax(-1)
