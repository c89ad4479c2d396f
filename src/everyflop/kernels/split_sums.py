"""Matrix products as another device might sum them: a stand-in for its numerics, where only this one is at hand.

Devices keep the same type and differ in the order and the width of their sums. This one cuts the inner dimension of
each product into parts, and rounds each part's sum to the operands' type before it is added: what a device does that
spreads the inner dimension over its cores (split-K) and has no wide accumulator between them.
"""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

PART = 64
"""Numbers of the inner dimension that are summed as the device at hand does."""

_ATEN = torch.ops.aten


class SplitSums(TorchDispatchMode):
    """While it is entered, matrix products in this thread sum in parts, backward passes included.

    Left as they are: attention, which is one operation here, and sums over an expert's rows. Compiled code does not
    pass through it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.products = 0
        """Products that were summed in parts. 0 after a step means that nothing passed through here."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do an operation; `func` is torch's."""
        kwargs = kwargs or {}
        if func is _ATEN.addmm.default and not kwargs:  # a linear layer with a bias
            bias, *factors = args
            return self.__torch_dispatch__(_ATEN.mm.default, types, tuple(factors)) + bias
        rows_by_matrices = func is _ATEN._grouped_mm.default and args[1].ndim == 3
        if func in (_ATEN.mm.default, _ATEN.bmm.default) or rows_by_matrices:
            return self._in_parts(func, *args, **kwargs)
        return func(*args, **kwargs)

    def _in_parts(self, func: Any, left: Any, right: Any, *args: Any, **kwargs: Any) -> Any:
        self.products += 1
        total = None
        for start in range(0, max(left.shape[-1], 1), PART):
            of = slice(start, start + PART)
            part = func(left[..., of], right[..., of, :], *args, **kwargs)
            total = part if total is None else total + part
        return total
