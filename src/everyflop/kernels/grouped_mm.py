"""Multiply each expert's rows by that expert's matrix, and each expert's rows by its other rows.

Rows arrive sorted by expert. The references are the specification: a plain loop. The others give the same through one
call of torch's grouped matmul where that exists for the type and shape (`select`). They have no gradients of their own:
`kernels/experts.py` calls the second for those of the first.

Shapes: R rows, E experts, I input channels, O output channels. `ends_E` (int32) is the row after each expert's last;
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


def matrices_times_rows(w_EOI: Tensor, x_RI: Tensor, ends_E: Tensor) -> Tensor:
    """Return (R, O): the matrix of each row's expert times the row."""
    if select(x_RI.dtype, *w_EOI.shape[1:]).implementation == "torch":
        return _torch_grouped_mm(x_RI, w_EOI.mT, offs=ends_E)
    return reference_matrices_times_rows(w_EOI, x_RI, ends_E)


def rows_times_rows(left_RO: Tensor, right_RI: Tensor, ends_E: Tensor) -> Tensor:
    """Return (E, O, I): left-transposed times right, summed over each expert's rows; zero for an expert without any."""
    if select(left_RO.dtype, left_RO.shape[1], right_RI.shape[1]).implementation == "torch":
        return _torch_grouped_mm(left_RO.t(), right_RI, offs=ends_E)
    return reference_rows_times_rows(left_RO, right_RI, ends_E)


def reference_matrices_times_rows(w_EOI: Tensor, x_RI: Tensor, ends_E: Tensor) -> Tensor:
    """Return the same, one expert after the other."""
    y_RO, starts = x_RI.new_zeros(len(x_RI), w_EOI.shape[1]), [0, *ends_E.tolist()]
    for e, matrix in enumerate(w_EOI):
        y_RO[starts[e] : starts[e + 1]] = x_RI[starts[e] : starts[e + 1]] @ matrix.T
    return y_RO


def reference_rows_times_rows(left_RO: Tensor, right_RI: Tensor, ends_E: Tensor) -> Tensor:
    """Return the same, one expert after the other."""
    starts = [0, *ends_E.tolist()]
    rows = [slice(starts[e], starts[e + 1]) for e in range(len(ends_E))]
    return torch.stack([left_RO[of].T @ right_RI[of] for of in rows])
