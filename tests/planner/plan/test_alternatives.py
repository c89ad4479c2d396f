"""The choices that a plan compares."""

from dataclasses import replace
from itertools import pairwise

import pytest

from everyflop.planner.choose.market import Caps
from everyflop.planner.plan.alternatives import front, mixes, singles
from everyflop.planner.plan.reasons import why

from ..fleets import A100, H100, MI300X, desk, fleet

ASKED = desk(fleet(H100, A100, MI300X))


def test_every_pool_that_can_train_the_model_is_shown_alone():
    assert [choice.pools for choice in singles(ASKED)] == [(0,), (1,), (2,)]


def test_there_is_a_best_mix_of_each_number_of_islands():
    found = mixes(ASKED)

    assert [len(choice.islands) for choice in found] == [2, 3]
    assert all(len(choice.pools) > 1 for choice in found)


def test_a_pool_that_breaks_a_limit_alone_is_shown_with_it():
    few = ASKED.under(Caps(devices=32))
    shown = singles(few)

    assert len(shown) == 3
    assert [bool(few.broken(choice)) for choice in shown] == [True, False, False]  # a is 64 devices or nothing


def test_a_pool_that_misses_the_deadline_is_shown_as_near_as_it_comes():
    fast = ASKED.under(Caps(), "time")
    soon = ASKED.under(Caps(days=0.01))

    for pool, choice in enumerate(singles(soon)):
        nearest = fast.alone(pool).best()
        assert nearest
        assert choice.bill.days == pytest.approx(nearest.bill.days)


def test_the_front_goes_from_the_cheapest_to_the_fastest():
    points = front(ASKED, ())
    cheapest, fastest = ASKED.best(), ASKED.under(Caps(), "time").best()
    assert cheapest
    assert fastest

    assert points[0].bill.cost == cheapest.bill.cost
    assert points[-1].bill.days == fastest.bill.days
    assert all(dearer.bill.days < cheaper.bill.days for cheaper, dearer in pairwise(points))


def test_nothing_on_the_front_is_beaten_by_anything_shown():
    for point in front(ASKED, ()):
        for choice in (*singles(ASKED), *mixes(ASKED)):
            better = choice.bill.cost < 0.999 * point.bill.cost and choice.bill.days < 0.999 * point.bill.days
            assert not better


def reason(asked) -> str:
    alone, mixed = singles(asked), mixes(asked)
    best = next(choice for choice in asked.better([*alone, *mixed]) if not asked.broken(choice))
    return why(asked, best, alone, mixed, {})


def test_a_pool_that_is_cheaper_than_every_mix_says_by_how_much():
    assert reason(ASKED).startswith("do not mix: ")
    assert "% more money" in reason(ASKED)


def test_a_mix_says_which_limit_rules_pools_out():
    said = reason(ASKED.under(replace(ASKED.caps, supplier_share=0.6)))

    assert said.startswith("mix: no pool alone keeps the limits")
    assert "one supplier may train 60%" in said


def test_a_mix_that_is_faster_says_than_what():
    assert "less time than" in reason(ASKED.under(Caps(), "time"))


def test_the_only_pool_is_called_so():
    assert reason(desk(fleet(H100), max_islands=1)) == "a is the only pool"
