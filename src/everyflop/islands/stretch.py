"""How a run's exchanges are spread over it: the farther islands stray in a step, the sooner they meet. Pure.

Islands stray by their learning rate, and what that costs in learning grows faster than it: about as (lr / peak)**1.5
for every step apart, fitted to three runs with rounds of 24 steps. By that law as many exchanges cost within 4 % of the
least where the length of a round is inverse to the learning rate; docs/decisions/0014 has runs beside it. Until the
warm-up ends it counts as over.
"""

from math import ceil
from statistics import fmean

from everyflop.optim.schedules import lr_at
from everyflop.spec.train import OptimSpec, TrainSpec

LONGEST = 4.0
"""Rounds over the mean rate are this much longer than the others' mean at most: who dies in one loses it."""

POINTS = 200
"""Of the part of a run, over which its mean learning rate is taken."""


def stretch(tokens_done: int, train: TrainSpec, optim: OptimSpec, *, sync_share: float = 0.0) -> float:
    """Return the length of a round after so many tokens over the mean of those after a synchronous start.

    With rounds of the mean length the rest of the run has as many exchanges.
    """
    warm = ceil(optim.warmup_share * train.tokens)

    def rate(tokens: int) -> float:
        at = max(tokens, warm)
        return lr_at(at, batch_tokens=0, optim=optim, peak_lr=1.0, total_tokens=train.tokens)

    begins, apart = sync_share * train.tokens, (1 - sync_share) * train.tokens
    rates = [rate(int(begins + (point + 0.5) / POINTS * apart)) for point in range(POINTS)]
    least = fmean(rates) / LONGEST
    return fmean(max(one, least) for one in rates) / max(rate(tokens_done), least)
