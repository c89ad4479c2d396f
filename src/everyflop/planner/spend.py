"""What to train for a sum of money: the shape whose predicted bill is the budget.

Money per FLOP depends on speed, speed on the shape, and the shape on the FLOP that the money buys. So a guess is
planned, its bill corrects the guess, and so on until the bill is the budget.
"""

from collections.abc import Callable
from dataclasses import replace

from everyflop.base.errors import ExpectedNo
from everyflop.planner.shape import EXPERT_COUNTS, Shape, shape_for

Bill = Callable[[Shape], float]
"""Predicts what a shape's run costs; raises ExpectedNo where it cannot be run."""

SPENT_SHARE = 0.995
"""Of the budget, so that rounding does not break it."""

_TOLERANCE = 0.004
_FREE_ROUNDS = 3
_MOST_ROUNDS = 8
_SAME_SHARE = 0.01


def best_shape(budget: float, bill: Bill, *, first_guess: float) -> Shape:
    """Return the shape that gets furthest for a budget: the largest dense equivalent over numbers of experts.

    first_guess is a compute in FLOP. Of equals, the one with fewer experts. Raises ExpectedNo where none can be run.
    """
    found: list[Shape] = []
    refusal: ExpectedNo | None = None
    for n_experts in EXPERT_COUNTS:
        try:
            found.append(affordable(budget, bill, n_experts=n_experts, first_guess=first_guess))
        except ExpectedNo as no:
            refusal = no
    if not found:
        raise refusal or ExpectedNo("no shape fits the budget.")
    furthest = max(shape.dense_equivalent for shape in found)
    return next(shape for shape in found if shape.dense_equivalent >= (1 - _SAME_SHARE) * furthest)


def affordable(budget: float, bill: Bill, *, n_experts: int, first_guess: float) -> Shape:
    """Return the shape with so many experts whose bill is the budget, less a little."""
    shape = shape_for(first_guess, n_experts=n_experts)
    for turn in range(_MOST_ROUNDS):
        off = budget * SPENT_SHARE / bill(shape)
        if abs(off - 1) < _TOLERANCE:
            break
        # Bills jump between sizes and between batches, perhaps over the budget: after some rounds only tokens move.
        shape = shape_for(shape.compute * off, n_experts=n_experts) if turn < _FREE_ROUNDS else _longer(shape, off)
    return shape


def _longer(shape: Shape, times: float) -> Shape:
    steps = max(1, int(shape.tokens * times / shape.batch_tokens))
    return replace(shape, tokens=steps * shape.batch_tokens)
