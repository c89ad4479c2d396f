"""Pass each token's copies through their experts, and weigh what comes out.

`reference` is the specification: one expert after the other. `experts` is one operator with its own backward pass that
keeps the tokens and the first matmul's result, R rows of gate and up channels, and nothing else of R rows: it gathers
tokens again where it needs them, and weighs the hidden channels rather than the output, so that the output needs not be
kept for the gradient of the weights.

Shapes: T tokens, K rows of each, R rows sorted by expert, H hidden, M expert width, E experts. Rows of expert e end
before `ends_E[e]`; those that hold no copy have weight 0, so that they add nothing to any gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from everyflop.kernels.grouped_mm import matrices_times_rows, rows_times_rows
from everyflop.kernels.permute import summed, to_rows


def reference(
    x_TH: Tensor, weight_R: Tensor, token_R: Tensor, ends_E: Tensor, gate_up_EMH: Tensor, down_EHM: Tensor
) -> Tensor:
    """Return (R, H): each row's token through its expert, times its weight."""
    starts, parts = [0, *ends_E.tolist()], []
    for e, (gate_up, down) in enumerate(zip(gate_up_EMH, down_EHM, strict=True)):
        rows = slice(starts[e], starts[e + 1])
        gate, up = (x_TH[token_R[rows]] @ gate_up.T).chunk(2, dim=-1)
        parts.append((F.silu(gate) * up) @ down.T * weight_R[rows, None])
    return torch.cat([*parts, x_TH.new_zeros(len(token_R) - starts[-1], x_TH.shape[1])])


def experts(
    x_TH: Tensor,
    weight_R: Tensor,
    token_R: Tensor,
    place_TK: Tensor,
    ends_E: Tensor,
    gate_up_EMH: Tensor,
    down_EHM: Tensor,
) -> Tensor:
    """Return the same in x's type; differentiable in x, weights and matrices.

    Weights and matrices may have another type, and their gradients have theirs. What is returned for rows that hold no
    copy has no meaning.
    """
    return _forward(x_TH, weight_R, token_R, place_TK, ends_E, gate_up_EMH, down_EHM)[0]


@torch.library.custom_op("everyflop::experts", mutates_args=())
def _forward(
    x: Tensor, weight: Tensor, token: Tensor, place: Tensor, ends: Tensor, gate_up: Tensor, down: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the rows, and the first matmul's."""
    channels_R2M = matrices_times_rows(gate_up.to(x.dtype), to_rows(x, token), ends)
    gate, up = channels_R2M.chunk(2, dim=-1)
    hidden = F.silu(gate).mul_(up).mul_(weight.to(x.dtype)[:, None])
    return matrices_times_rows(down.to(x.dtype), hidden, ends), channels_R2M


@_forward.register_fake
def _(x, weight, token, place, ends, gate_up, down):
    return x.new_empty(len(token), x.shape[1]), x.new_empty(len(token), gate_up.shape[1])


@torch.library.custom_op("everyflop::experts_backward", mutates_args=())
def _gradients(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    token: Tensor,
    place: Tensor,
    ends: Tensor,
    gate_up: Tensor,
    down: Tensor,
    channels: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, weights, gate and up, and down."""
    (gate, up), weight_R1 = channels.chunk(2, dim=-1), weight.to(x.dtype)[:, None]
    active = F.silu(gate)
    plain = active * up
    grad_hidden = matrices_times_rows(down.mT.to(x.dtype), grad, ends)
    grad_weight = (grad_hidden * plain).sum(-1, dtype=weight.dtype)
    grad_down = rows_times_rows(grad, plain.mul_(weight_R1), ends).to(down.dtype)
    del plain
    grad_plain = grad_hidden.mul_(weight_R1)
    grad_channels = torch.empty_like(channels)
    torch.mul(grad_plain, active, out=grad_channels[:, up.shape[1] :])
    grad_channels[:, : up.shape[1]] = torch.ops.aten.silu_backward(grad_plain.mul_(up), gate)
    del active, grad_plain, grad_hidden
    grad_gate_up = rows_times_rows(grad_channels, to_rows(x, token), ends).to(gate_up.dtype)
    grad_x = summed(matrices_times_rows(gate_up.mT.to(x.dtype), grad_channels, ends), place)
    return grad_x, grad_weight, grad_gate_up, grad_down


@_gradients.register_fake
def _(grad, x, weight, token, place, ends, gate_up, down, channels):
    return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(gate_up), torch.empty_like(down)


def _keep(ctx, inputs, output) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs, output[1])


def _backward(ctx, grad: Tensor, _grad_channels: Tensor):
    grad_x, grad_weight, grad_gate_up, grad_down = _gradients(grad.contiguous(), *ctx.saved_tensors)
    return grad_x, grad_weight, None, None, None, grad_gate_up, grad_down


_forward.register_autograd(_backward, setup_context=_keep)
