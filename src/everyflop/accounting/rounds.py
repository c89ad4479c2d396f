"""How often islands exchange in a run: at every step of its start, then in rounds that grow with it. Pure."""

import sys
from dataclasses import dataclass
from math import ceil

from everyflop.accounting.memory import FP32
from everyflop.spec.exchange import ExchangeSpec


def longest_round(steps_done: float, round_share: float) -> int:
    """Return how many steps a round may have after steps_done of the run: a share of them, 1 at least."""
    return max(1, int(round_share * steps_done)) if round_share < 1 else sys.maxsize


@dataclass(frozen=True, slots=True)
class Exchanges:
    """How often islands exchange in a run."""

    gradients: float
    """At every step of the start, in fp32."""
    weights: float
    """At the end of each round."""

    @property
    def total(self) -> float:
        """Of both kinds."""
        return self.gradients + self.weights


def exchanges_of(how: ExchangeSpec, steps: float) -> Exchanges:
    """Return how often islands exchange in a run of so many optimizer steps."""
    if how.steps_between_exchanges == 1:
        return Exchanges(steps, 0)
    done = gradients = min(steps, ceil(how.sync_share * steps))
    weights = 0.0
    while done < steps:
        longest = longest_round(done, how.round_share)
        if longest >= how.steps_between_exchanges:  # from here on all rounds are alike
            return Exchanges(gradients, weights + (steps - done) / how.steps_between_exchanges)
        done += longest
        weights += 1
    return Exchanges(gradients, weights)


def copies_of(how: ExchangeSpec, steps: float) -> float:
    """Return how many times bytes_per_parameter travel in a run of so many optimizer steps."""
    found = exchanges_of(how, steps)
    return found.gradients * FP32 / how.bytes_per_parameter + found.weights
