"""What islands exchange beside weights, as one fp64 vector each: a step's sums, and the routers' running state."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everyflop.model.moe.balance import RouterStats
from everyflop.train.session import Session
from everyflop.train.step import StepSums

Vector = NDArray[np.float64]


def sums_to_vector(sums: StepSums) -> Vector:
    """Return a step's sums; those of several islands add up to the sums of the whole batch."""
    head = [sums.ce.item(), sums.tokens, float(sums.mtp_ce), sums.mtp_tokens, sums.positions]
    routers = [value.detach().cpu().double().reshape(-1) for stats in sums.routers for value in stats]
    return np.concatenate([np.array(head, dtype=np.float64), *(value.numpy() for value in routers)])


def sums_from_vector(vector: Vector, like: StepSums) -> StepSums:
    """Return the sums in a vector, with the shapes and types of one island's own."""
    values = torch.from_numpy(vector.copy())
    ce, tokens, mtp_ce, mtp_tokens, positions = values[:5]
    rest, routers = values[5:], []
    for stats in like.routers:
        parts: list[Tensor] = []
        for own in stats:
            parts.append(rest[: own.numel()].view(own.shape).to(own))
            rest = rest[own.numel() :]
        routers.append(RouterStats(*parts))
    return StepSums(
        ce=ce.to(like.ce),
        tokens=round(tokens.item()),
        mtp_ce=mtp_ce.to(like.mtp_ce),
        mtp_tokens=round(mtp_tokens.item()),
        positions=round(positions.item()),
        routers=routers,
    )


def _router_tensors(session: Session) -> list[Tensor]:
    biases = [router.expert_bias for router in session.model.routers if router.spec.expert_bias]
    return [*biases, session.logits.mean_L, session.logits.square_L]


def routers_to_vector(session: Session) -> Vector:
    """Return expert biases and the running statistics of router logits."""
    return torch.cat([tensor.cpu().double().reshape(-1) for tensor in _router_tensors(session)]).numpy()


@torch.no_grad()
def routers_from_vector(session: Session, vector: Vector, *, before: Vector | None = None) -> None:
    """Set them from a vector. With the vector of `before`, each bias keeps the mean that it had there."""
    values, old = torch.from_numpy(vector.copy()), None if before is None else torch.from_numpy(before.copy())
    n_biases, first = len(_router_tensors(session)) - 2, 0
    for number, tensor in enumerate(_router_tensors(session)):
        part = values[first : first + tensor.numel()]
        if old is not None and number < n_biases:
            part = part - part.mean() + old[first : first + tensor.numel()].mean()
        tensor.copy_(part.view(tensor.shape))
        first += tensor.numel()
