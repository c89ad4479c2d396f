"""What another shape would save of a published model's bill, for the same loss by the law of efficiency leverage."""

from collections.abc import Callable
from dataclasses import dataclass

from everyflop.accounting.laws import CHECKED_FLOP, leverage, training_compute
from everyflop.planner.shape.shape import EXPERT_COUNTS, Shape, activation_of, granularity_of, shape_for
from everyflop.spec.model import ModelSpec


@dataclass(frozen=True, slots=True)
class Reshaped:
    """A published run and the one that would equal it; the loss is implied by the law, the costs are predicted."""

    name: str
    model: ModelSpec
    tokens: int
    cost: float
    """Of the published run, on the same fleet."""
    shape: Shape
    shape_cost: float

    @property
    def compute(self) -> float:
        """FLOP of the published run, as the laws count them."""
        return training_compute(self.model, self.tokens)

    @property
    def leverage(self) -> float:
        """Of the published model over a dense one."""
        return _leverage(self.model, self.compute)

    @property
    def compute_saved_share(self) -> float:
        """Of the published run's FLOP."""
        return 1 - self.shape.compute / self.compute

    @property
    def checked_saved_share(self) -> float:
        """The same with both leverages at CHECKED_FLOP, where the law was checked."""
        return 1 - _leverage(self.model, CHECKED_FLOP) / _leverage(self.shape.model, CHECKED_FLOP)

    @property
    def cost_saved_share(self) -> float:
        """Of the published run's cost; below 0 where the other shape costs more."""
        return 1 - self.shape_cost / self.cost


def reshaped(
    model: ModelSpec, tokens: int, *, name: str, cost: float, bill: Callable[[Shape], float | None]
) -> Reshaped | None:
    """Return the cheapest run that has the same dense equivalent as a published model on some tokens.

    bill predicts what a run costs; None where it cannot be run. Of equals, the one with fewer experts.
    """
    compute = training_compute(model, tokens)
    equal = [equal_shape(compute * _leverage(model, compute), n_experts=n_experts) for n_experts in EXPERT_COUNTS]
    priced = [(price, shape) for shape in equal if (price := bill(shape)) is not None]
    if not priced:
        return None
    price, shape = min(priced, key=lambda pair: pair[0])
    return Reshaped(name, model, tokens, cost, shape, price)


def equal_shape(dense_equivalent: float, *, n_experts: int) -> Shape:
    """Return the shape whose dense equivalent is this many FLOP."""
    shape = shape_for(dense_equivalent / 4, n_experts=n_experts)
    for _ in range(10):  # the leverage grows with the sixth root of compute or slower: each round is 6 times nearer
        shape = shape_for(dense_equivalent / shape.leverage, n_experts=n_experts)
    return shape


def _leverage(model: ModelSpec, compute: float) -> float:
    return leverage(activation_of(model), granularity_of(model), compute)
