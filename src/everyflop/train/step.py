"""Forward and backward over one step's micro-batches.

The loop calls `forward_backward` and never the model: pipelines and islands have the same call.

Shapes: B sequences, T positions, E experts, L routers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from everyflop.data.windows import WindowBatch
from everyflop.model.moe.balance import RouterStats, add_stats
from everyflop.model.moe.noise import RoutingNoise
from everyflop.model.transformer import CausalLM, LossSums
from everyflop.spec.train import RouterSpec
from everyflop.train.state import RouterLogits


@dataclass(frozen=True, slots=True)
class StepSums:
    """One step's sums over all its micro-batches; gradients are already those of the means."""

    ce: Tensor
    """Cross entropy in nats, summed over `tokens`."""
    tokens: int
    """Targets that counted."""
    mtp_ce: Tensor
    mtp_tokens: int
    positions: int
    """Positions computed, padding included."""
    routers: list[RouterStats]


@dataclass(frozen=True, slots=True)
class Counts:
    """What the losses of a step are divided by; known before anything is computed."""

    tokens: int
    """Targets that count."""
    mtp_tokens: int
    """Targets of the token after next; 0 without MTP."""
    positions: int
    """Positions computed, padding included."""


class LocalStep:
    """Runs micro-batches one after the other on one device; gradients accumulate in the parameters' type (fp32)."""

    def __init__(self, model: CausalLM, router: RouterSpec, *, seed: int, device: torch.device):
        self.model, self.router, self.seed, self.device = model, router, seed, device

    def counts(self, micro_batches: Sequence[WindowBatch]) -> Counts:
        """Count the targets and positions of a step."""
        return Counts(
            tokens=sum(int(batch.loss_mask_BT.sum()) for batch in micro_batches),
            mtp_tokens=sum(_mtp_tokens(batch) for batch in micro_batches) if self.model.trained_mtp else 0,
            positions=sum(batch.inputs_BT.size for batch in micro_batches),
        )

    def forward_backward(
        self,
        micro_batches: Sequence[WindowBatch],
        *,
        step: int,
        logits: RouterLogits,
        whole: Counts | None = None,
    ) -> StepSums:
        """Add the step's gradients to the parameters and return its sums.

        The loss is a mean over the whole step's targets, however they are split: every micro-batch's sums are divided
        by the step's counts. With `whole` these micro-batches are a part of a step with those counts, and the gradients
        of all its parts add up to those of the step.
        """
        counts = self.counts(micro_batches)
        parts = [self._backward(batch, step, logits, whole or counts) for batch in micro_batches]
        return StepSums(
            ce=torch.stack([part.ce for part in parts]).sum(),
            tokens=counts.tokens,
            mtp_ce=torch.stack([part.mtp_ce for part in parts]).sum(),
            mtp_tokens=counts.mtp_tokens,
            positions=counts.positions,
            routers=add_stats([part.routers for part in parts]),
        )

    def _backward(self, batch: WindowBatch, step: int, logits: RouterLogits, counts: Counts) -> LossSums:
        """Add a micro-batch's gradients and return its sums, without what autograd keeps for those that weigh nothing.

        The backward pass frees only what it reaches, and through what a router's statistics kept autograd would hold
        whole layers until the step's end.
        """
        sums = self._losses(batch, step, logits)
        self._objective(sums, counts).backward()
        return replace(sums, ce=sums.ce.detach(), mtp_ce=sums.mtp_ce.detach(), routers=_detached(sums.routers))

    def _losses(self, batch: WindowBatch, step: int, logits: RouterLogits) -> LossSums:
        noise = None
        if step < self.router.noise_warmup_steps:
            numbers_B = torch.from_numpy(batch.sample_numbers_B).to(self.device)
            noise = RoutingNoise(
                self.seed, step, self.router.noise_warmup_steps, numbers_B, logits.mean_L, logits.std_L
            )
        return window_losses(self.model, batch, self.device, noise)

    def _objective(self, sums: LossSums, counts: Counts) -> Tensor:
        loss = sums.ce / counts.tokens
        if self.model.trained_mtp:  # also without a target: parameters without gradients would count fewer steps
            loss = loss + self.model.spec.mtp_loss_weight * sums.mtp_ce / max(counts.mtp_tokens, 1)
        for stats in sums.routers:
            if self.router.balance_loss:
                loss = loss + self.router.balance_loss * stats.balance / counts.positions
            if self.router.z_loss:
                loss = loss + self.router.z_loss * stats.z / counts.positions
        return loss


def window_losses(
    model: CausalLM, batch: WindowBatch, device: torch.device, noise: RoutingNoise | None = None
) -> LossSums:
    """Return a model's loss sums on windows; attention is masked only where a window holds several documents.

    A compiled model always gets a mask: with and without one it would be compiled twice.
    """
    several = model.compiled or bool((batch.documents_BT != batch.documents_BT[:, :1]).any())
    return model.losses(
        torch.from_numpy(batch.inputs_BT).to(device),
        torch.from_numpy(batch.targets_BT).to(device),
        torch.from_numpy(batch.loss_mask_BT).to(device),
        documents_BT=torch.from_numpy(batch.documents_BT).to(device) if several else None,
        noise=noise,
    )


def micro_batches(batch: WindowBatch, size: int) -> Iterator[WindowBatch]:
    """Cut a batch into micro-batches of `size` sequences."""
    for first in range(0, len(batch.sample_numbers_B), size):
        rows = slice(first, first + size)
        yield WindowBatch(
            inputs_BT=batch.inputs_BT[rows],
            targets_BT=batch.targets_BT[rows],
            loss_mask_BT=batch.loss_mask_BT[rows],
            documents_BT=batch.documents_BT[rows],
            sample_numbers_B=batch.sample_numbers_B[rows],
        )


def _mtp_tokens(batch: WindowBatch) -> int:
    """Count the targets of the token after next, as the model will."""
    same = batch.documents_BT[:, 1:] == batch.documents_BT[:, :-1]
    return int((batch.loss_mask_BT[:, 1:] & batch.loss_mask_BT[:, :-1] & same).sum())


def _detached(routers: list[RouterStats]) -> list[RouterStats]:
    return [RouterStats(*(value.detach() for value in stats)) for stats in routers]
