"""One optimizer step on a batch: forward and backward > judge > apply, where nothing speaks against it.

The loop trains with it and the micro-benchmark times it, so that both do the same.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import Parameter

from everyflop.base.errors import ExpectedNo
from everyflop.data.windows import WindowBatch
from everyflop.model.moe.balance import update_bias
from everyflop.optim.part import step_on_part
from everyflop.train.judge import fault
from everyflop.train.session import Session
from everyflop.train.step import Counts, StepSums, micro_batches


class StepTooLarge(ExpectedNo):
    """The gradients of a step need more memory than there is; no weight has changed."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a step found, and whether its gradients were applied."""

    sums: StepSums
    loss: float
    grad_norm: float
    fault: str | None
    """Why nothing was applied; None where it was."""


def attempt_step(session: Session, batch: WindowBatch, *, lr: float) -> Attempt:
    """Compute a batch's gradients and apply them to the session's weights if loss and norm are finite."""
    return conclude(session, compute(session, batch), lr=lr)


def compute(session: Session, batch: WindowBatch, *, whole: Counts | None = None) -> StepSums:
    """Put a batch's gradients into the parameters and return its sums; `whole` are counts of which it is a part.

    Raises StepTooLarge where memory is not enough.
    """
    session.optimizer.zero_grad(set_to_none=True)
    batches = list(micro_batches(batch, session.settled.micro_batch))
    with memory_explained(session.settled.micro_batch, StepTooLarge):
        return session.step.forward_backward(batches, step=session.progress.step, logits=session.logits, whole=whole)


@contextlib.contextmanager
def memory_explained(micro_batch: int, kind: type[ExpectedNo] = ExpectedNo) -> Iterator[None]:
    """Say what to do where the block needs more memory than the device has."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if type(error) is RuntimeError and "allocate memory" not in str(error):
            raise  # on a processor torch has no error of its own for this
        raise kind(
            f"the training step does not fit into the device's memory: {(str(error) or 'no memory').splitlines()[0]} "
            f"Lower train.micro_batch = {micro_batch}, or set train.recompute=layer."
        ) from None


def conclude(session: Session, sums: StepSums, *, lr: float, part: float = 1.0) -> Attempt:
    """Clip the gradients and apply them if loss and norm are finite.

    `part` is the share of the batch that they are the mean of. The norm of a part's mean is mostly noise, which is
    1 / sqrt(part) times the whole batch's, and so is what it is clipped to.
    """
    optimizer = session.optimizer
    loss = (sums.ce / sums.tokens).item()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    clip = session.settled.run.optim.clip / part**0.5
    grad_norm = clip_gradients(parameters, clip)
    cause = fault(loss, grad_norm)
    if cause is None:
        with memory_explained(session.settled.micro_batch):  # the first step makes the moments
            _apply(session, sums, lr, part)
    return Attempt(sums, loss, grad_norm, cause)


def clip_gradients(parameters: list[Parameter], most: float) -> float:
    """Scale gradients down to a norm, and return the one that they had. Those below it are not read a second time."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], foreach=True)
    found = norm.item()
    if found > most - 1e-6:  # where torch's clipping begins
        torch.nn.utils.clip_grads_with_norm_(parameters, most, norm, foreach=True)
    return found


def _apply(session: Session, sums: StepSums, lr: float, part: float) -> None:
    step_on_part(session.optimizer, part, lr=lr)
    for router, stats in zip(session.model.routers, sums.routers, strict=True):
        if router.spec.expert_bias:
            update_bias(router.expert_bias, stats.counts_E, session.settled.run.router.bias_update)
    session.logits.update(sums.routers, sums.positions)
