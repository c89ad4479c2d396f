"""Where a run stands: a few integers, the routers' running statistics, and the ledger of skipped samples."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from everyflop.accounting.money import cost
from everyflop.model.moe.balance import RouterStats

STATISTICS_DECAY = 0.99
"""Weight of the past in the running mean and variance of router logits."""


@dataclass(slots=True)
class RouterLogits:
    """Running mean and mean square of each router's logits, (L,) fp32. They start as a standard normal's."""

    mean_L: Tensor
    square_L: Tensor

    @classmethod
    def fresh(cls, n_routers: int, device: torch.device) -> "RouterLogits":
        """Return the statistics of a run that has not begun."""
        return cls(torch.zeros(n_routers, device=device), torch.ones(n_routers, device=device))

    def update(self, routers: list[RouterStats], n_tokens: int) -> None:
        """Take in one optimizer step's sums over n_tokens (padding included, as the routers saw it)."""
        for layer, stats in enumerate(routers):
            n_logits = n_tokens * len(stats.counts_E)
            self.mean_L[layer].lerp_(stats.logit_sum / n_logits, 1 - STATISTICS_DECAY)
            self.square_L[layer].lerp_(stats.logit_square_sum / n_logits, 1 - STATISTICS_DECAY)

    @property
    def std_L(self) -> Tensor:
        """Standard deviation of each router's logits."""
        return (self.square_L - self.mean_L.square()).clamp(min=0).sqrt()


@dataclass(slots=True)
class Progress:
    """What is done so far. All of it fits in a checkpoint's state.json."""

    step: int = 0
    tokens: int = 0
    samples: int = 0
    """Global sample number of the next window."""
    seconds: float = 0.0
    """Time the devices were held for this run's steps and what comes between them, over all its processes."""
    cost: float | None = 0.0
    """Of that time, at the price of the day; None where some of it had no price."""
    skipped_in_a_row: int = 0
    ledger: list[dict[str, Any]] = field(default_factory=list)
    """Batches left out of training: first sample, count, step, cause."""

    def charge(self, seconds: float, price_per_hour: float | None) -> None:
        """Add time that the devices were held for."""
        self.seconds += seconds
        self.cost = None if self.cost is None or price_per_hour is None else self.cost + cost(seconds, price_per_hour)

    def catch_up(self, line: Mapping[str, Any]) -> None:
        """Take time and cost from a line of an earlier process that knew of more: what was paid stays paid."""
        if line.get("seconds", 0.0) > self.seconds:
            self.seconds, self.cost = line["seconds"], line.get("cost")
