"""A plan without a model: what to train for a budget on a fleet, and how."""

from collections.abc import Callable
from dataclasses import dataclass

from everyflop.accounting.laws import training_compute
from everyflop.catalog.catalog import Catalog
from everyflop.planner.make_plan import make_plan
from everyflop.planner.reshape import Reshaped, reshaped
from everyflop.planner.shape import Shape
from everyflop.planner.spend import Bill, best_shape
from everyflop.planner.workloads import workload_of
from everyflop.spec.fleet import Fleet
from everyflop.spec.plan import Limits, Plan
from everyflop.spec.workload import Precision, Workload

KNOWN, KNOWN_TOKENS = "ling-plus", 10**12
"""The published run that shapes are compared with: the one whose bill its makers published."""

NAME = "shape"


@dataclass(frozen=True, slots=True)
class ShapedPlan:
    """What to train for a budget, how, and what the same would save of a published run's bill."""

    shape: Shape
    plan: Plan
    reshaped: Reshaped


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

    run_file and plan_file are where the launch command will find the shape and the plan. Raises ExpectedNo where
    nothing can be trained.
    """
    unpriced = limits.model_copy(update={"budget": None})

    def cost(work: Workload) -> float:
        made = make_plan(work, fleet, catalog=catalog, limits=unpriced, model_option="", launch="")
        return made.total.cost.p50

    known = workload_of(KNOWN, tokens=KNOWN_TOKENS, precision=precision).workload
    known_cost = cost(known)
    known_compute = training_compute(known.model, KNOWN_TOKENS)
    bill = _bill(cost, precision)
    shape = best_shape(budget, bill, first_guess=known_compute * budget / known_cost)
    plan = make_plan(
        shape.workload(NAME, precision),
        fleet,
        catalog=catalog,
        limits=limits.model_copy(update={"budget": budget}),
        model_option=f"--run {run_file}",
        launch=f"everyflop train {run_file} --plan {plan_file}",
    )
    compared = reshaped(
        known.model, KNOWN_TOKENS, name=KNOWN, cost=known_cost, n_experts=shape.model.n_experts, bill=bill
    )
    return ShapedPlan(shape, plan, compared)


def _bill(cost: Callable[[Workload], float], precision: Precision) -> Bill:
    return lambda shape: cost(shape.workload(NAME, precision))
