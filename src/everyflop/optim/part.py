"""AdamW on a part of a batch, so that the steps of all parts have the step of the whole batch as their mean.

AdamW divides m, which is linear in gradients, by the root of v, which is not. So m and v are kept in the whole batch's
units here: with p the part's share of the batch and g its mean gradient, m takes in p g, of which the sum over parts is
the whole batch's gradient, and v its square, of which the sum over parts is the whole batch's for a token that only one
of them has seen, and where noise outweighs the gradient. The learning rate is 1 / p times the whole's. While v is the
same for all parts, the mean of their steps, weighted by p, is then the whole batch's step.

To keep v the same, parts agree now and then on its mean over each row: a token's embedding, an expert's matrix, an
output's weights. Rows differ in how often they have a gradient at all; the numbers in a row differ far less.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import AdamW

Rows = NDArray[np.float64]
"""One number for each row (index of the first dimension) of each parameter, one parameter after the other."""

TINY = 1e-30
"""A mean square below this is a rest of rounding: fp32 moments decay to a denormal and stay there."""


def step_on_part(optimizer: AdamW, part: float, *, lr: float) -> None:
    """Do a step at the whole batch's learning rate with the mean gradients of a part (0 to 1] of the batch.

    The gradients are scaled in place.
    """
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if part != 1:
        torch._foreach_mul_(gradients, part)
    decays = [group["weight_decay"] for group in optimizer.param_groups]
    for group, decay in zip(optimizer.param_groups, decays, strict=True):
        group["lr"], group["weight_decay"] = lr / part, decay * part
    optimizer.step()
    for group, decay in zip(optimizer.param_groups, decays, strict=True):
        group["weight_decay"] = decay


def scale_momentum(optimizer: AdamW, factor: float) -> None:
    """Multiply m, as when a part of the batch becomes another."""
    if factor != 1 and (momentum := [state["exp_avg"] for state in optimizer.state.values()]):
        torch._foreach_mul_(momentum, factor)


def row_squares(optimizer: AdamW, parameters: Sequence[Tensor]) -> Rows:
    """Return the mean of v over each row; zeros before the first step."""
    rows = [
        optimizer.state[p]["exp_avg_sq"].view(len(p), -1).mean(1) if p in optimizer.state else p.new_zeros(len(p))
        for p in parameters
    ]
    return torch.cat(rows).cpu().double().numpy()


@torch.no_grad()
def scale_row_squares(optimizer: AdamW, parameters: Sequence[Tensor], before: Rows, after: Rows) -> None:
    """Multiply each row of v by after / before; to a row that had no gradient before, add `after` throughout."""
    seen = before > TINY
    factors = torch.from_numpy(np.where(seen, after, 1.0) / np.where(seen, before, 1.0))
    fresh = torch.from_numpy(np.where(seen, 0.0, after))
    sizes = [len(p) for p in parameters]
    for p, factor, value in zip(parameters, factors.split(sizes), fresh.split(sizes), strict=True):
        if p in optimizer.state:
            rows = optimizer.state[p]["exp_avg_sq"].view(len(p), -1)
            rows.mul_(factor.to(rows)[:, None]).add_(value.to(rows)[:, None])
