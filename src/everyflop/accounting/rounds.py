"""How often islands exchange in a run: at every step of its start where it has one, then in rounds. Pure."""

from dataclasses import dataclass
from math import ceil

from everyflop.accounting.memory import FP32
from everyflop.spec.exchange import ExchangeSpec


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
    gradients = min(steps, ceil(how.sync_share * steps))
    return Exchanges(gradients, (steps - gradients) / how.steps_between_exchanges)


def copies_of(how: ExchangeSpec, steps: float) -> float:
    """Return how many times bytes_per_parameter travel in a run of so many optimizer steps."""
    found = exchanges_of(how, steps)
    return found.gradients * FP32 / how.bytes_per_parameter + found.weights
