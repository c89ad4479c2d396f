"""How much can be trained within limits of money and time, and with how many experts that gets furthest.

What a FLOP takes depends on speed, speed on the shape, and the shape on the FLOP that the limits allow. So a guess is
planned, what it takes corrects the guess, and so on. Compute goes in steps of 1 %, and the answer is the last step
that keeps the limits: where more compute takes more, a wider limit never gives a smaller run.
"""

from collections.abc import Callable
from math import ceil, log

from everyflop.planner.shape.shape import EXPERT_COUNTS, Shape, shape_for

Taken = Callable[[Shape], float | None]
"""Predicts which share of the limits a run takes: 1 where it just keeps them; None where it has no plan."""

STEP = 1.01
LEAST_FLOP, MOST_FLOP = 2e19, 3e25
"""Where shapes are looked for: those of all numbers of experts reach so far."""

_BLIND_STEPS = 70
"""Half the compute: how far to go down from a run that has no plan."""


def best_shape(taken: Taken, *, first_guess: float) -> Shape | None:
    """Return the run that gets furthest within the limits, of equals the one with fewer experts; None without any.

    first_guess is a compute in FLOP; it decides how soon the answer is found, not which.
    """
    found: list[Shape] = []
    for n_experts in EXPERT_COUNTS:
        if shape := largest(taken, n_experts=n_experts, first_guess=first_guess):
            found.append(shape)
            first_guess = shape.compute
    return max(found, key=lambda shape: shape.merit, default=None)


def largest(taken: Taken, *, n_experts: int, first_guess: float) -> Shape | None:
    """Return the largest run with so many experts that keeps the limits; None where the smallest breaks them."""
    first, last = _step(LEAST_FLOP), _step(MOST_FLOP)
    kept, broken = first - 1, last + 1
    step = min(max(_step(first_guess), first), last)
    while broken - kept > 1:
        share = taken(shape_for(STEP**step, n_experts=n_experts))
        if share is not None and share <= 1:
            kept = step
        else:
            broken = step
        # If what is taken grew with the compute alone, this would be the last step that keeps the limits.
        step -= _BLIND_STEPS if share is None else ceil(log(share, STEP))
        if not kept < step < broken:
            step = kept + 1 if step == kept else (kept + broken) // 2
    return shape_for(STEP**kept, n_experts=n_experts) if kept >= first else None


def _step(compute: float) -> int:
    return ceil(log(compute, STEP))
