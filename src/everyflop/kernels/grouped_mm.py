"""Multiply each expert's rows by that expert's matrix.

Rows arrive sorted by expert. `reference` is the specification: a plain loop. `grouped_mm` gives the same result through
one call of torch's grouped matmul where that exists for the type and shape (`select`). It is a custom operator with its
own backward, because the built-in one fails under torch.compile in fp32 and refuses expanded gradients (torch 2.13).

Shapes: S rows, E experts, I input channels, O output channels. `ends_E` (int32) is the row after each expert's last;
rows after the last end are nobody's, and what is returned for them has no meaning.
"""

import torch
from torch import Tensor
from torch.nn.functional import grouped_mm as _torch_grouped_mm

from everyflop.kernels.choice import Choice

_ALIGNMENT_BYTES = 16
"""Torch's grouped matmul needs rows of a multiple of this size."""


def select(dtype: torch.dtype, *widths: int) -> Choice:
    """Choose by type and matrix widths alone, so that the same model makes the same choice everywhere."""
    if dtype not in (torch.float32, torch.bfloat16):
        return Choice("grouped_mm", "loop", f"torch's grouped matmul has no {dtype}")
    if any(width * dtype.itemsize % _ALIGNMENT_BYTES for width in widths):
        return Choice("grouped_mm", "loop", f"widths {widths} in {dtype} are not multiples of {_ALIGNMENT_BYTES} bytes")
    return Choice("grouped_mm", "torch", "one call for all experts")


def reference(x_SI: Tensor, w_EOI: Tensor, ends_E: Tensor) -> Tensor:
    """Return (S, O): row s times the transposed matrix of its expert, one expert after the other."""
    starts = [0, *ends_E.tolist()]
    parts = [x_SI[starts[e] : starts[e + 1]] @ w_EOI[e].T for e in range(len(w_EOI))]
    return torch.cat(parts)


def grouped_mm(x_SI: Tensor, w_EOI: Tensor, ends_E: Tensor) -> Tensor:
    """Return (S, O) in x's type, differentiable in x and w, which must have the same type.

    Gradients equal those of `reference`; an expert without rows gets a zero gradient.
    """
    # Torch's grouped matmul refuses the strides of some views, such as expanded rows.
    return _rows_times_matrices(x_SI.contiguous(), w_EOI, ends_E, True)


@torch.library.custom_op("everyflop::rows_times_matrices", mutates_args=())
def _rows_times_matrices(x: Tensor, w: Tensor, ends: Tensor, transpose: bool) -> Tensor:
    matrices = w.transpose(1, 2) if transpose else w
    if select(x.dtype, *w.shape[1:]).implementation == "torch":
        return _torch_grouped_mm(x, matrices, offs=ends)
    y, starts = x.new_zeros(len(x), matrices.shape[2]), [0, *ends.tolist()]
    for e, matrix in enumerate(matrices):
        y[starts[e] : starts[e + 1]] = x[starts[e] : starts[e + 1]] @ matrix
    return y


@_rows_times_matrices.register_fake
def _(x: Tensor, w: Tensor, ends: Tensor, transpose: bool) -> Tensor:
    return x.new_empty(x.shape[0], w.shape[1] if transpose else w.shape[2])


@torch.library.custom_op("everyflop::rows_times_rows", mutates_args=())
def _rows_times_rows(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    """Return (E, L, R): left-transposed times right, summed over each expert's rows."""
    if select(left.dtype, left.shape[1], right.shape[1]).implementation == "torch":
        return _torch_grouped_mm(left.t(), right, offs=ends)
    starts = [0, *ends.tolist()]
    return torch.stack([left[starts[e] : starts[e + 1]].T @ right[starts[e] : starts[e + 1]] for e in range(len(ends))])


@_rows_times_rows.register_fake
def _(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    return left.new_empty(ends.shape[0], left.shape[1], right.shape[1])


def _keep_inputs(ctx, inputs, output) -> None:
    x, w, ends, ctx.transpose = inputs
    ctx.save_for_backward(x, w, ends)


def _backward(ctx, grad: Tensor):
    x, w, ends = ctx.saved_tensors
    grad = grad.contiguous()
    grad_x = _rows_times_matrices(grad, w, ends, not ctx.transpose) if ctx.needs_input_grad[0] else None
    grad_w = None
    if ctx.needs_input_grad[1]:
        grad_w = _rows_times_rows(grad, x, ends) if ctx.transpose else _rows_times_rows(x, grad, ends)
    return grad_x, grad_w, None, None


_rows_times_matrices.register_autograd(_backward, setup_context=_keep_inputs)
