"""What failures, checkpoints and exchanges leave of an island's speed.

Failures: an island stops when any of its devices fails, loses what it did since its last checkpoint, and starts again.
Checkpoints are as far apart as is best for that rate. Exchanges: after a number of inner steps, islands hand in
their updates to a coordinator, which sends them the merged one; nothing of it is hidden behind computing. Shares lie in
0..1.
"""

from dataclasses import dataclass
from math import exp, expm1, sqrt
from typing import TypeVar

import numpy as np

from everyflop.base.units import SECONDS_PER_DAY

TOLERATED_LOSS_SHARE = 0.05
"""The share of the time that the least link speed may cost."""

Many = TypeVar("Many", float, np.ndarray)

WAYS = 2
"""To the coordinator and back, one after the other."""


@dataclass(frozen=True, slots=True)
class Failures:
    """What goes wrong on an island, and what that costs."""

    per_day: float
    """Of the whole island."""
    save_s: float
    """Training stands still for this long at each checkpoint."""
    restart_s: float
    """From a failure to the first new step."""

    @property
    def best_interval_s(self) -> float:
        """Seconds of training between two checkpoints: the square root rule of Young and Daly."""
        return sqrt(2 * self.save_s * SECONDS_PER_DAY / self.per_day) if self.per_day else float("inf")

    @property
    def kept_share(self) -> float:
        """Share of the time that is training which is not lost again.

        With failures at random times (rate r) an interval s with its save c takes e^(rR) (e^(r(s + c)) - 1) / r on
        average, repeats and restarts R included (Daly 2006); to first order the loss is c/s + r (s/2 + R).
        """
        rate = self.per_day / SECONDS_PER_DAY
        interval = max(self.best_interval_s, 1.0)
        due = rate * (interval + self.save_s) if rate else 0.0
        if due + rate * self.restart_s > _HOPELESS:
            return 0.0
        lost_again = expm1(due) / due if due else 1.0
        return exp(-rate * self.restart_s) / lost_again / (1 + self.save_s / interval)


_HOPELESS = 30.0
"""Failures due before the next checkpoint, from which on nothing is ever finished."""


def exchange_s(size_gb: Many, *, gbit_per_s: Many, latency_s: Many | float = 0.0) -> Many:
    """Return the seconds of one exchange: updates go to the coordinator, and when all are there the merged one back.

    It stands beside one of the islands; size_gb is all that travels each way over the link.
    """
    return WAYS * (size_gb * 8 / gbit_per_s + latency_s)


def kept_after_exchanges(tokens_per_s: float, *, exchange_s: float, tokens_between: float) -> float:
    """Return the share of the time that is left beside exchanges; the speed is that of all islands together."""
    return 1 / (1 + exchange_s * tokens_per_s / tokens_between)


def least_link_gbit_per_s(size_gb: float, *, round_s: float, latency_s: float = 0.0) -> float | None:
    """Return the link speed at which exchanges cost TOLERATED_LOSS_SHARE of the time; None where latency alone does.

    round_s is the training time between two exchanges.
    """
    tolerated_s = round_s * TOLERATED_LOSS_SHARE / (1 - TOLERATED_LOSS_SHARE) - WAYS * latency_s
    return WAYS * size_gb * 8 / tolerated_s if tolerated_s > 0 else None
