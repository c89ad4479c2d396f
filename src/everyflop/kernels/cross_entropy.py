"""The loss of a head's logits, chunk by chunk of tokens, so that all logits never exist at once.

Logits, their log-sum-exp and the gradient of a chunk are computed together in the forward pass, in the same memory; the
backward pass only scales what is there (the formulation of Liger, arXiv 2410.10989). `reference` is the specification:
all logits, then torch's cross entropy.

Shapes: T tokens, H hidden, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from everyflop.accounting.loss_chunks import loss_chunk
from everyflop.kernels.wide import at_least_fp32

IGNORED = -100
"""As a target: the token does not count."""


def reference(hidden_TH: Tensor, weight_VH: Tensor, targets_T: Tensor) -> Tensor:
    """Return the sum of -log p(target), in fp32 at least, over tokens whose target is not IGNORED."""
    logits_TV = at_least_fp32(F.linear(hidden_TH, weight_VH.to(hidden_TH.dtype)))
    return F.cross_entropy(logits_TV, targets_T, ignore_index=IGNORED, reduction="sum")


def linear_cross_entropy(hidden_TH: Tensor, weight_VH: Tensor, targets_T: Tensor) -> Tensor:
    """Return the same; differentiable in hidden and weight, once.

    The weight may have another type than the hidden states, which matmuls run in; its gradient has its own, summed
    over chunks in fp32 at least.
    """
    wanted = torch.is_grad_enabled()
    loss, _, _ = _chunked(
        hidden_TH,
        weight_VH,
        targets_T,
        wanted and hidden_TH.requires_grad,
        wanted and weight_VH.requires_grad,
    )
    return loss


@torch.library.custom_op("everyflop::linear_cross_entropy", mutates_args=())
def _chunked(
    hidden: Tensor, weight: Tensor, targets: Tensor, wants_hidden: bool, wants_weight: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss and its gradients in hidden and weight; empty ones where they are not wanted."""
    T, V = len(hidden), len(weight)
    matrix = weight.to(hidden.dtype)
    loss = torch.zeros((), dtype=at_least_fp32(hidden[:0]).dtype, device=hidden.device)
    grad_hidden = torch.empty_like(hidden) if wants_hidden else hidden.new_empty(0)
    grad_weight = torch.zeros_like(weight, dtype=loss.dtype) if wants_weight else weight.new_empty(0)
    step = max(1, loss_chunk(T, V))  # of no tokens there is no chunk
    # New memory for each chunk would cost more than what is computed in it.
    narrow_tV = hidden.new_empty(step, V)
    wide_tV = narrow_tV if loss.dtype == hidden.dtype else torch.empty_like(narrow_tV, dtype=loss.dtype)
    for first in range(0, T, step):
        part, targets_t = hidden[first : first + step], targets[first : first + step]
        narrow, wide = narrow_tV[: len(part)], wide_tV[: len(part)]
        logits = wide.copy_(torch.mm(part, matrix.T, out=narrow))
        counts_t1, target_t1 = (targets_t != IGNORED)[:, None], targets_t.clamp(min=0)[:, None]
        shares = logits.sub_(logits.amax(1, keepdim=True))
        of_target_t1 = shares.gather(1, target_t1)
        sum_t1 = shares.exp_().sum(1, keepdim=True)
        loss += ((sum_t1.log() - of_target_t1) * counts_t1).sum()
        if not (wants_hidden or wants_weight):
            continue
        # A logit's gradient is share / sum, less 1 at the target; the narrow sides of the matmuls are divided instead.
        shares.scatter_add_(1, target_t1, -sum_t1)
        grad, divide_t1 = narrow.copy_(shares), counts_t1 / sum_t1
        if wants_hidden:
            grad_hidden[first : first + step] = (grad @ matrix) * divide_t1
        if wants_weight:
            grad_weight += grad.T @ (part * divide_t1).to(part.dtype)
    return loss, grad_hidden, grad_weight.to(weight.dtype)


@_chunked.register_fake
def _(
    hidden: Tensor, weight: Tensor, targets: Tensor, wants_hidden: bool, wants_weight: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    grad_hidden = torch.empty_like(hidden) if wants_hidden else hidden.new_empty(0)
    grad_weight = torch.empty_like(weight) if wants_weight else weight.new_empty(0)
    return hidden.new_empty((), dtype=dtype), grad_hidden, grad_weight


def _keep_gradients(ctx, inputs, output) -> None:
    _, _, _, ctx.wants_hidden, ctx.wants_weight = inputs
    _, grad_hidden, grad_weight = output
    ctx.mark_non_differentiable(grad_hidden, grad_weight)
    ctx.save_for_backward(grad_hidden, grad_weight)


def _backward(ctx, grad: Tensor, _grad_hidden, _grad_weight):
    grad_hidden, grad_weight = ctx.saved_tensors
    # A tensor without dimensions is multiplied in its own precision and changes no type.
    scaled_hidden = grad_hidden * grad if ctx.wants_hidden else None
    return scaled_hidden, grad_weight * grad if ctx.wants_weight else None, None, None, None


_chunked.register_autograd(_backward, setup_context=_keep_gradients)
