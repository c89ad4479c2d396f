"""What another shape would save of a published model's bill, for the same loss by the law of efficiency leverage."""

from dataclasses import dataclass

from everyflop.accounting.laws import leverage, training_compute
from everyflop.planner.shape import Shape, activation_of, granularity_of, shape_for
from everyflop.planner.spend import Bill
from everyflop.spec.model import ModelSpec


@dataclass(frozen=True, slots=True)
class Reshaped:
    """A published run and the one that would equal it; the loss is implied by the law, the costs are predicted."""

    name: str
    tokens: int
    compute: float
    """FLOP of the published run."""
    leverage: float
    """Of the published model over a dense one."""
    cost: float
    """Of the published run, on the same fleet."""
    shape: Shape
    shape_cost: float

    @property
    def compute_saved_share(self) -> float:
        """Of the published run's FLOP."""
        return 1 - self.shape.compute / self.compute

    @property
    def cost_saved_share(self) -> float:
        """Of the published run's cost; below 0 where the other shape costs more."""
        return 1 - self.shape_cost / self.cost


def reshaped(spec: ModelSpec, tokens: int, *, name: str, cost: float, n_experts: int, bill: Bill) -> Reshaped:
    """Return the run with so many experts that has the same dense equivalent as a published model on some tokens."""
    compute = training_compute(spec, tokens)
    lever = leverage(activation_of(spec), granularity_of(spec), compute)
    shape = equal_shape(compute * lever, n_experts=n_experts)
    return Reshaped(name, tokens, compute, lever, cost, shape, bill(shape))


def equal_shape(dense_equivalent: float, *, n_experts: int) -> Shape:
    """Return the shape whose dense equivalent is this many FLOP."""
    shape = shape_for(dense_equivalent / 4, n_experts=n_experts)
    for _ in range(10):  # the leverage grows with the sixth root of compute or slower: each round is 6 times nearer
        shape = shape_for(dense_equivalent / shape.leverage, n_experts=n_experts)
    return shape
