"""Attention of a whole sequence to itself; on the processor, its gradient block by block of queries.

`reference` is the specification. torch's fused kernels are taken wherever a device has good ones; on the processor the
fused backward pass makes little of units for bf16, and batched matmuls of blocks do it (`select`): scores of a block
stay in its cache, and nothing is computed for keys that no query of a block may look at. Scores and softmax are in
fp32, as in fused kernels. Softmax comes back from each query's log-sum-exp, and its gradient from the sum of output
times gradient (FlashAttention, arXiv 2205.14135, algorithm 4).

Shapes: B rows, T positions, N query heads, M key-value heads, r = N / M, D channels of queries and keys, V of values;
t queries of a block. Query head j reads key-value head j // r. The query at position t looks at keys first_BT[b, t] to
t; first_BT is (B or 1, T), int64, and never falls along a row; None means 0 everywhere.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from everyflop.kernels.choice import Choice
from everyflop.kernels.wide import at_least_fp32, exact_bmm

LOG2_E = math.log2(math.e)
"""Scores are in powers of 2: exp of some math libraries takes ten to fifty times as long where nothing is left."""
BLOCK_QUERIES = 128
BLOCK_SCORES = 2**20
"""At most so many scores at once, or those of one head: 4 MiB in fp32, which a core's caches hold."""


def select(device_type: str) -> Choice:
    """Choose by device alone."""
    if device_type == "cpu":
        return Choice("attention", "blocked", "torch's fused kernel forward, batched matmuls of cached blocks backward")
    return Choice("attention", "torch", "the device's fused kernel")


def attention(q_BTND: Tensor, k_BTMD: Tensor, v_BTMV: Tensor, first_BT: Tensor | None, scale: float) -> Tensor:
    """Return (B, T, N, V) in the values' type; differentiable in queries, keys and values."""
    if select(q_BTND.device.type).implementation == "blocked":
        return _forward(q_BTND, k_BTMD, v_BTMV, first_BT, scale)[0]
    mask, repeats = None if first_BT is None else seen(first_BT), q_BTND.shape[2] // k_BTMD.shape[2]
    if mask is not None and repeats > 1:  # fused kernels take a mask or groups of heads, and not both
        k_BTMD, v_BTMV = (x.repeat_interleave(repeats, dim=2) for x in (k_BTMD, v_BTMV))
    return fused(q_BTND, k_BTMD, v_BTMV, mask, scale, causal=mask is None)


def fused(q_BTND: Tensor, k_BTMD: Tensor, v_BTMV: Tensor, mask: Tensor | None, scale: float, *, causal: bool) -> Tensor:
    """Return the same by torch's fused kernel, also for queries that follow a past."""
    q, k, v = (x.transpose(1, 2) for x in (q_BTND, k_BTMD, v_BTMV))
    y = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return y.transpose(1, 2)


def reference(q_BTND: Tensor, k_BTMD: Tensor, v_BTMV: Tensor, first_BT: Tensor | None, scale: float) -> Tensor:
    """Return the same, all scores at once."""
    T, repeats = q_BTND.shape[1], q_BTND.shape[2] // k_BTMD.shape[2]
    k, v = (x.repeat_interleave(repeats, dim=2) for x in (k_BTMD, v_BTMV))
    scores = torch.einsum("btnd,bsnd->bnts", q_BTND, k) * scale
    mask = seen(torch.zeros(1, T, dtype=torch.int64, device=k.device) if first_BT is None else first_BT)
    return torch.einsum("bnts,bsnv->btnv", scores.masked_fill(~mask, float("-inf")).softmax(-1), v)


def seen(first_BT: Tensor) -> Tensor:
    """Return (B or 1, 1, T, T), True where a query may look."""
    key = torch.arange(first_BT.shape[1], device=first_BT.device)
    return ((key <= key[:, None]) & (key >= first_BT[:, :, None]))[:, None]


@torch.library.custom_op("everyflop::attention", mutates_args=())
def _forward(q: Tensor, k: Tensor, v: Tensor, firsts: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Return the outputs, and (B, N, T) the log-sum-exp of each query's scores, by torch's fused kernel."""
    N, M, D, V = q.shape[2], k.shape[2], q.shape[3], v.shape[3]
    width = max(D, V)  # the kernel wants one; channels of zeros change no score
    q, k, v = (x if x.shape[3] == width else F.pad(x, (0, width - x.shape[3])) for x in (q, k, v))
    if M != N:
        k, v = (x.unsqueeze(3).expand(-1, -1, -1, N // M, -1).flatten(2, 3) for x in (k, v))
    mask = None
    if firsts is not None and firsts.any():
        mask = torch.zeros(1, dtype=q.dtype, device=q.device).masked_fill(~seen(firsts), float("-inf"))
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    y, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, is_causal=mask is None, attn_mask=mask, scale=scale
    )
    return y.transpose(1, 2)[..., :V].contiguous(), lse.contiguous()


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, firsts: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    B, T, N, _ = q.shape
    return v.new_empty(B, T, N, v.shape[3]), at_least_fp32(q.new_empty(B, N, T))


@torch.library.custom_op("everyflop::attention_backward", mutates_args=())
def _blocked(
    grad: Tensor, y: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, firsts: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    B, T, N, D = q.shape
    M, V = k.shape[2], v.shape[3]
    r = N // M
    narrow_q, narrow_grad, narrow_k = _by_head(q, M), _by_head(grad, M), _by_head(k, M)
    wide_q, wide_grad = at_least_fp32(narrow_q), at_least_fp32(narrow_grad)
    wide_k, wide_v = at_least_fp32(narrow_k), at_least_fp32(_by_head(v, M))
    minus_lse = _by_head(lse.mT[..., None], M) * -LOG2_E
    total = (wide_grad * _by_head(y, M)).sum(-1, keepdim=True)
    grad_q = torch.empty_like(narrow_q)
    grad_k, grad_v = (torch.zeros(B, M, T, width, dtype=wide_q.dtype, device=q.device) for width in (D, V))
    for at, block in _parts(B, M, r, T, firsts, wide_q):
        queries, keys = (*at, slice(block.first * r, block.last * r)), (*at, slice(block.low, block.last))
        scores = exact_bmm(wide_q[queries], wide_k[keys].mT, of=q.dtype)
        torch.add(minus_lse[queries], scores, alpha=scale * LOG2_E, out=scores)
        scores.unflatten(1, (-1, r))[..., -block.hidden.shape[2] :] += block.hidden
        weights = scores.exp2_()
        grad_weights = exact_bmm(wide_grad[queries], wide_v[keys].mT, of=q.dtype)
        grad_scores = grad_weights.sub_(total[queries]).mul_(weights).to(q.dtype)
        grad_q[queries] = torch.bmm(grad_scores, narrow_k[keys])
        grad_k[keys] += torch.bmm(grad_scores.mT, narrow_q[queries])
        grad_v[keys] += torch.bmm(weights.to(v.dtype).mT, narrow_grad[queries])
    grad_q = grad_q.mul_(scale).view(B, M, T, r, D).transpose(1, 2).reshape(q.shape)
    grad_k, grad_v = (x.transpose(1, 2).to(k.dtype).contiguous() for x in (grad_k.mul_(scale), grad_v))
    return grad_q, grad_k, grad_v


@_blocked.register_fake
def _(
    grad: Tensor, y: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, firsts: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _keep_inputs(ctx, inputs, output) -> None:
    q, k, v, firsts, ctx.scale = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*output, q, k, v, firsts)


def _backward(ctx, grad: Tensor, _grad_lse: Tensor):
    return *_blocked(grad, *ctx.saved_tensors, ctx.scale), None, None


_forward.register_autograd(_backward, setup_context=_keep_inputs)


@dataclass(frozen=True, slots=True)
class _Block:
    """Queries from `first` to before `last`, which look at keys from `low` on."""

    low: int
    first: int
    last: int
    hidden: Tensor
    """(t, 1, the last keys): added to scores; -inf where a query may not look."""


def _parts(
    B: int, M: int, r: int, T: int, firsts: Tensor | None, like: Tensor
) -> Iterator[tuple[tuple[int, slice], _Block]]:
    """Yield the row and the key-value heads whose scores are looked at together, and the block."""
    heads = max(1, min(M, BLOCK_SCORES // (r * min(BLOCK_QUERIES, T) * T)))
    rows = [_blocks(starts, like) for starts in ([[0] * T] if firsts is None else firsts.tolist())]
    for b, first in product(range(B), range(0, M, heads)):
        for block in rows[b % len(rows)]:
            yield (b, slice(first, first + heads)), block


def _blocks(starts: list[int], like: Tensor) -> list[_Block]:
    """Cut a row; keys begin at whole blocks, so that matmuls have few different sizes."""
    blocks, T = [], len(starts)
    later = torch.full((BLOCK_QUERIES, BLOCK_QUERIES), float("-inf"), dtype=like.dtype, device=like.device).triu(1)
    for first in range(0, T, BLOCK_QUERIES):
        last = min(first + BLOCK_QUERIES, T)
        low = starts[first] // BLOCK_QUERIES * BLOCK_QUERIES
        hidden = later[: last - first, : last - first]
        if starts[last - 1] > low:  # a document begins on the way
            key = torch.arange(low, last, device=like.device)
            early = key < torch.tensor(starts[first:last], device=like.device)[:, None]
            hidden = F.pad(hidden, (first - low, 0)).masked_fill_(early, float("-inf"))
        blocks.append(_Block(low, first, last, hidden[:, None]))
    return blocks


def _by_head(x_BTND: Tensor, M: int) -> Tensor:
    """Return (B, M, T r, D): the r heads of a key-value head side by side at each position."""
    return x_BTND.unflatten(2, (M, -1)).transpose(1, 2).flatten(2, 3).contiguous()
