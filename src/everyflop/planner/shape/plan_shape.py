"""A plan without a model: what to train for a budget on a fleet, and how."""

import shlex
from dataclasses import dataclass

from everyflop.accounting.laws import training_compute
from everyflop.catalog.catalog import Catalog
from everyflop.planner.plan.lifetime import within_a_lifetime
from everyflop.planner.plan.make_plan import make_plan
from everyflop.planner.plan.workloads import launch_command, workload_of
from everyflop.planner.shape.reshape import Reshaped, reshaped
from everyflop.planner.shape.shape import EXPERT_COUNTS, Shape, shape_for
from everyflop.planner.shape.spend import LEAST_FLOP, best_shape, largest
from everyflop.planner.shape.taken import Asked
from everyflop.spec.fleet import Fleet
from everyflop.spec.plan import Limits, Plan
from everyflop.spec.workload import Precision

KNOWN, KNOWN_TOKENS = "ling-plus", 10**12
"""The published run that shapes are compared with: the one whose bill its makers published."""

NAME = "shape"

_FIRST_GUESS = 1e22
"""FLOP, where no pool can train the published model and so nothing is known of the fleet."""


@dataclass(frozen=True, slots=True)
class ShapedPlan:
    """What to train for a budget, how, and what the same would save of a published run's bill."""

    shape: Shape
    plan: Plan
    reshaped: Reshaped | None
    """None where no pool can train the published model, or none its equal."""


def plan_shape(
    fleet: Fleet,
    budget: float,
    *,
    catalog: Catalog,
    precision: Precision,
    limits: Limits,
    run_file: str,
    plan_file: str,
) -> ShapedPlan:
    """Return what to train for a budget in the fleet's currency, and its plan at the lowest cost.

    Numbers of experts are compared on single pools, which is quick; how much of the best is trained is asked of mixes
    too. run_file and plan_file are where the launch command will find the shape and the plan. Raises ExpectedNo where
    nothing can be trained.
    """
    limits = limits.model_copy(update={"budget": budget})
    asked = Asked(fleet, catalog, limits, budget)
    known = workload_of(KNOWN, tokens=KNOWN_TOKENS, precision=precision).workload
    known_cost = asked.cost(known)
    buys = training_compute(known.model, KNOWN_TOKENS) * budget / known_cost if known_cost else _FIRST_GUESS
    shape = _shape(asked, precision, first_guess=buys)
    made = make_plan(
        shape.workload(NAME, precision),
        fleet,
        catalog=catalog,
        limits=limits,
        model_option=f"--run {shlex.quote(run_file)}",
        launch=launch_command(run_file, plan_file),
    )
    plan = within_a_lifetime(made)
    if known_cost is None:
        return ShapedPlan(shape, plan, None)

    def bill(equal: Shape) -> float | None:
        return asked.cost(equal.workload(NAME, precision))

    return ShapedPlan(shape, plan, reshaped(known.model, KNOWN_TOKENS, name=KNOWN, cost=known_cost, bill=bill))


def _shape(asked: Asked, precision: Precision, *, first_guess: float) -> Shape:
    """Return what to train; the smallest shape where nothing fits, so that its plan says why."""
    alone = best_shape(lambda shape: asked.alone(shape.workload(NAME, precision)), first_guess=first_guess)
    n_experts = alone.model.n_experts if alone else EXPERT_COUNTS[0]
    found = largest(
        lambda shape: asked.mixed(shape.workload(NAME, precision)),
        n_experts=n_experts,
        first_guess=alone.compute if alone else first_guess,
    )
    return found or shape_for(LEAST_FLOP, n_experts=n_experts)
