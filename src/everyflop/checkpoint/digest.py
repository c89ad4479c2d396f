"""One hash for a set of weights: equal if and only if names, shapes, dtypes and every bit are equal."""

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor

from everyflop.checkpoint.tensors import dtype_name


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hash tensors of any dtype and device in the order of their names.

    For each tensor one line `["name", "dtype", [shape]]` as JSON and then its bytes, little-endian.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, dtype_name(tensor.dtype), list(tensor.shape)]).encode() + b"\n")
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)  # as bytes: numpy has no bfloat16
    return digest.hexdigest()
