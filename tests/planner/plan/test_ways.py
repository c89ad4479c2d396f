"""Which way islands exchange is chosen by what it costs in learning and on the links."""

import pytest

from everyflop.planner.plan.desk import Desk
from everyflop.planner.plan.ways import possible_ways, with_best_way
from everyflop.spec.exchange import ExchangeSpec

from ..fleets import A100, H100, LITE, MI300X, desk, fleet


def chosen(gbit_per_s: float, **islands: object) -> Desk:
    """Return the desk of three pools with such links."""
    pools = fleet(H100, A100, MI300X, gbit_per_s=gbit_per_s, islands=islands)
    return with_best_way(desk(pools), pools)


def test_the_thinner_the_links_the_rarer_the_exchanges():
    often = [1 / chosen(gbit_per_s).market.steps_between_exchanges for gbit_per_s in (10_000, 400, 20, 2)]

    assert often == sorted(often, reverse=True)
    assert often[0] > 3 * often[-1]


def test_the_best_mix_with_that_way_is_at_least_as_good_as_with_any_other():
    pools = fleet(H100, A100, MI300X, gbit_per_s=100)
    best = chosen(100).best_mix(2)
    assert best

    for way in ExchangeSpec().ways:
        own = pools.model_copy(update={"islands": way.model_copy(update={"max_islands": way.known_islands})})
        other = desk(own, max_islands=min(3, way.known_islands)).best_mix(2)
        assert other
        assert best.bill.cost <= other.bill.cost * (1 + 1e-9)


def test_what_the_fleet_file_says_stays():
    way = chosen(2, steps_between_exchanges=8, sync_share=0.2).way

    assert (way.steps_between_exchanges, way.sync_share) == (8, 0.2)


def test_no_more_islands_are_offered_than_the_chosen_way_is_known_for():
    rare = chosen(2, sync_share=0.0, max_islands=4)

    assert rare.way.steps_between_exchanges == 24
    assert [*rare.options] == [1, 2]


def test_a_single_possible_way_is_taken_though_it_is_not_the_usual_one():
    short = LITE.model_copy(update={"tokens": 60 * LITE.batch_tokens})
    pools = fleet(H100, A100, islands={"sync_share": 0.1})
    usual = desk(pools)
    usual.supply.workload = short

    assert with_best_way(usual, pools).way.steps_between_exchanges == 4


def test_islands_on_one_pool_choose_too():
    often = []
    for gbit_per_s in (10_000, 1):
        pool = fleet(H100, link=[{"between": ["a", "a"], "gbit_per_s": gbit_per_s}])
        often.append(1 / with_best_way(desk(pool), pool).market.steps_between_exchanges)

    assert often[0] > 3 * often[1]


@pytest.mark.parametrize(
    ("steps", "possible"),
    [(19, set()), (20, {2}), (40, {2, 4}), (80, {2, 4, 8}), (999, {2, 4, 8, 24}), (1000, {2, 4, 8, 24, 100})],
)
def test_islands_exchange_ten_times_at_least(steps: int, possible: set[int]):
    run = LITE.model_copy(update={"tokens": steps * LITE.batch_tokens})

    assert {way.steps_between_exchanges for way in possible_ways(run, ExchangeSpec())} == possible
