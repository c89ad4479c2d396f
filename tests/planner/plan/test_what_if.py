"""What changes the bill, and what leaves it alone."""

from dataclasses import replace

import pytest

from everyflop.planner.choose.market import Caps
from everyflop.planner.plan.what_if import what_if

from ..fleets import A100, H100, MI300X, desk, fleet

ASKED = desk(fleet(H100, A100, MI300X))
BEST = ASKED.best()


@pytest.fixture(scope="module")
def told() -> dict[str, object]:
    assert BEST
    return {one.change: one for one in what_if(ASKED, BEST)}


def test_each_pool_vanishes_and_gets_dearer_and_cheaper(told):
    assert set(told) == {
        *(f"pool {name} vanishes" for name in "abc"),
        *(f"price of {name} {move} %" for name in "abc" for move in ("+30", "-30")),
    }


def test_a_pool_that_vanishes_or_gets_dearer_never_lowers_the_bill(told):
    assert BEST
    for name in "abc":
        assert told[f"pool {name} vanishes"].cost >= BEST.bill.cost * (1 - 1e-6)
        assert told[f"price of {name} +30 %"].cost >= BEST.bill.cost * (1 - 1e-6)
        assert told[f"price of {name} -30 %"].cost <= BEST.bill.cost * (1 + 1e-6)


def test_a_price_moves_the_bill_of_the_pool_that_is_used_by_as_much(told):
    assert BEST
    (pool,) = BEST.pools
    name = ASKED.market.pools[pool].name

    assert told[f"price of {name} -30 %"].cost == pytest.approx(0.7 * BEST.bill.cost, rel=0.01)


def test_asking_only_mixes_with_the_cheaper_pool_finds_what_asking_all_finds():
    fast = ASKED.under(Caps(), "time").best()
    assert fast
    under_pressure = ASKED.under(Caps(days=1.5 * fast.bill.days))
    best = under_pressure.best()
    assert best

    told = {one.change: one.cost for one in what_if(under_pressure, best)}
    for pool, rule in enumerate(ASKED.market.pools):
        again = under_pressure.at_price(pool, 0.7).best()
        assert again
        assert told[f"price of {rule.name} -30 %"] == pytest.approx(again.bill.cost, rel=1e-3)


def test_where_no_plan_is_left_it_is_said():
    only = desk(fleet(H100))
    best = only.best()
    assert best
    gone = next(iter(what_if(only, best)))

    assert (gone.cost, gone.days) == (None, None)
    assert gone.best == "no plan keeps the limits"


def test_under_a_budget_a_dearer_pool_may_leave_no_plan():
    assert BEST
    tight = ASKED.under(replace(ASKED.caps, cost=1.01 * BEST.bill.cost))
    told = {one.change: one.cost for one in what_if(tight, BEST)}
    name = ASKED.market.pools[BEST.pools[0]].name

    assert told[f"price of {name} +30 %"] is None
