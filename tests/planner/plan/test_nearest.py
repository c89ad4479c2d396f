"""When no plan fits, every way out that is named really is one."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everyflop.planner.choose.market import Caps
from everyflop.planner.plan.desk import Desk
from everyflop.planner.plan.nearest import no_plan, rounded_up, ways_out

from ..fleets import A100, H100, MI300X, desk, fleet

FREE = desk(fleet(H100, A100, MI300X))
CHEAPEST, FASTEST = FREE.best(), FREE.under(Caps(), "time").best()


def under(**shares: float) -> Desk:
    """Return the desk with limits as shares of what is needed without any."""
    assert CHEAPEST
    assert FASTEST
    cost, days, devices = shares.get("cost"), shares.get("days"), shares.get("devices")
    caps = Caps(
        cost=cost and cost * CHEAPEST.bill.cost,
        days=days and days * FASTEST.bill.days,
        supplier_share=shares.get("supplier_share"),
        devices=devices and int(devices * CHEAPEST.bill.devices),
    )
    return FREE.under(caps)


TIGHT = [
    {"cost": 0.9},
    {"days": 0.9},
    {"supplier_share": 0.2},
    {"devices": 0.1},
    {"cost": 0.9, "days": 5.0},
    {"cost": 1.05, "days": 1.05},
    {"cost": 1.5, "days": 1.1, "supplier_share": 0.5},
    {"days": 2.0, "devices": 1.0},
]


@pytest.mark.parametrize("limits", TIGHT, ids=str)
def test_with_the_limit_that_is_named_and_no_other_change_a_plan_fits(limits):
    asked = under(**limits)
    assert asked.best() is None

    for way in ways_out(asked, "USD"):
        found = way.desk.best()
        assert found, way.limit
        assert not way.desk.broken(found)


@pytest.mark.parametrize(("number", "named"), [(0, "budget"), (1, "deadline"), (2, "supplier"), (3, "devices")])
def test_a_limit_that_binds_alone_is_the_one_named(number, named):
    ways = [way.limit for way in ways_out(under(**TIGHT[number]), "USD")]

    assert len(ways) == 1
    assert named in ways[0]


def test_the_budget_that_is_named_is_no_larger_than_its_last_figure_makes_it():
    assert CHEAPEST
    (way,) = ways_out(under(cost=0.9), "USD")

    assert way.desk.caps.cost == pytest.approx(CHEAPEST.bill.cost, rel=0.01)
    assert way.desk.under(replace(way.desk.caps, cost=0.99 * way.desk.caps.cost)).best() is None


def test_a_pool_that_may_not_train_everything_is_named():
    asked = desk(fleet({**H100, "max_share": 0.5}))

    assert "a max_share of 100 % of the tokens for pool a" in str(no_plan(asked, "USD"))


def test_limits_that_bind_together_are_told_together():
    said = str(no_plan(under(cost=0.5, days=0.5), "USD"))

    assert "no change of one limit alone would do" in said
    assert "the budget is" in said
    assert "the deadline is" in said


def test_more_islands_are_named_where_they_would_do():
    pools = fleet(H100, MI300X)
    caps = Caps(supplier_share=0.9)
    one, two = (desk(pools, caps=caps, max_islands=islands) for islands in (1, 2))

    assert "- 2 islands: " in str(no_plan(one, "USD", wider=[two]))


@settings(max_examples=200)
@given(st.floats(1e-3, 1e12))
def test_rounded_up_is_never_less_and_never_a_percent_more(value):
    assert value * (1 - 1e-9) <= rounded_up(value) <= 1.01 * value
