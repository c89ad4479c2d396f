"""A model's parameters, gradients and moments as one flat array each, in the order of parameter names."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from everyflop.islands.codec import Flat


def flatten(tensors: Sequence[Tensor]) -> Flat:
    """Return copies of tensors, one after the other, in host memory."""
    flat, parts = _room_for(tensors)
    for tensor, part in zip(tensors, parts, strict=True):
        part.copy_(tensor.detach().reshape(-1))
    return flat


def gradients_of(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return their gradients; where there is none, as for an expert that no token chose, zeros, which it has then."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = parameter.detach().new_zeros(parameter.shape)
    return [cast(Tensor, parameter.grad) for parameter in parameters]


def moved_from(flat: Flat, tensors: Sequence[Tensor]) -> Flat:
    """Return a flat array minus tensors: how far they moved from it, downhill."""
    left, parts = _room_for(tensors)
    before = torch.from_numpy(flat).split([tensor.numel() for tensor in tensors])
    for tensor, anchor, part in zip(tensors, before, parts, strict=True):
        torch.sub(anchor, tensor.detach().reshape(-1).cpu(), out=part)
    return left


def _room_for(tensors: Sequence[Tensor]) -> tuple[Flat, Sequence[Tensor]]:
    """Return an empty array for all tensors, and its part for each.

    numpy asks for large pages and torch does not: its arrays are there in half of the time.
    """
    sizes = [tensor.numel() for tensor in tensors]
    flat = np.empty(sum(sizes), dtype=str(tensors[0].dtype).removeprefix("torch."))
    return flat, torch.from_numpy(flat).split(sizes)


@torch.no_grad()
def unflatten_into(flat: Flat, tensors: Sequence[Tensor]) -> None:
    """Copy a flat array into tensors, in the same order. Raises ValueError when sizes differ."""
    if flat.size != (size := sum(tensor.numel() for tensor in tensors)):
        raise ValueError(f"{flat.size} numbers for tensors of {size}")
    flat = flat if flat.flags.writeable else flat.copy()
    for tensor, part in zip(tensors, torch.from_numpy(flat).split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))
