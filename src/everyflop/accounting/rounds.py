"""How often islands exchange in a run: at every step of its start where it has one, then in rounds. Pure."""

from math import ceil

from everyflop.spec.exchange import ExchangeSpec


def exchanges_in(how: ExchangeSpec, steps: float) -> float:
    """Return how often islands exchange gradients or updates in a run of so many optimizer steps."""
    if how.steps_between_exchanges == 1:
        return steps
    gradients = min(steps, ceil(how.sync_share * steps))
    return gradients + (steps - gradients) / how.steps_between_exchanges
