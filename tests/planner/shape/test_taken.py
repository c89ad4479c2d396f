"""What a run takes of the limits on a fleet."""

import pytest

from everyflop.catalog.load import load_catalog
from everyflop.planner.shape.taken import Asked
from everyflop.spec.plan import Limits
from everyflop.spec.presets import preset

from ..fleets import A100, H100, LITE, fleet, plan

FLEET = fleet(H100, A100)


def asked(budget: float, fleet=FLEET, **limits) -> Asked:
    return Asked(fleet, load_catalog(), Limits(max_islands=2, **limits), budget)


def test_of_a_budget_a_run_takes_its_plans_cost():
    cost = plan(FLEET, max_islands=2).total.cost.p50

    assert asked(2 * cost).mixed(LITE) == pytest.approx(0.5)
    assert asked(2 * cost).alone(LITE) == pytest.approx(0.5, rel=0.01)  # one pool is cheapest here
    assert asked(1.0).cost(LITE) == pytest.approx(cost, rel=0.01)


def test_a_deadline_that_no_plan_keeps_is_taken_more_than_once():
    fastest = plan(FLEET, objective="time", max_islands=2)

    share = asked(1e9, deadline_days=fastest.total.days.p50 / 2).mixed(LITE)

    assert share == pytest.approx(2, rel=0.01)


def test_alone_the_deadline_counts_where_it_takes_more_than_the_budget():
    only = fleet(H100)
    made = plan(only, max_islands=1)

    share = asked(made.total.cost.p50 * 10, only, deadline_days=made.total.days.p50 / 3).alone(LITE)

    assert share == pytest.approx(3, rel=0.01)


def test_alone_no_more_devices_are_taken_than_allowed():
    assert asked(1e9, fleet(H100), max_devices=32).alone(LITE) is None


def test_a_run_that_fits_no_pool_has_no_share():
    tiny = fleet({"device": "h100-sxm", "count": 1})
    large = LITE.model_copy(update={"model": preset("ling-1t")})

    assert asked(1e9, tiny).alone(large) is None
    assert asked(1e9, tiny).mixed(large) is None
    assert asked(1e9, tiny).cost(large) is None
