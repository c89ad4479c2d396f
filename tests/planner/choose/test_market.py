"""Bills of islands, worked by hand."""

import numpy as np
import pytest

from everyflop.planner.choose.market import Caps, bill_of, broken_caps

from ..markets import market, option


def test_one_island_costs_its_price_for_the_time_that_its_tokens_take():
    # 1e9 tokens at 10 x 100 a second: 1e6 s, 277.8 h at 10 x 2.
    bill = bill_of(market(tokens=1e9), [option(0, 10, speed=100, price=2)])

    assert bill.days == pytest.approx(1e6 / 86_400)
    assert bill.cost == pytest.approx(5555.6, abs=0.1)
    assert (bill.devices, bill.shares, bill.kept_share) == (10, (1.0,), 1.0)


def test_two_islands_train_extra_tokens_and_stop_for_exchanges():
    # Rounds of 120 M tokens at 2,000 a second are 60,000 s; 100 GB over 1 Gbit/s take 800 s and 1 ms each way.
    made = market(tokens=1e9, gbit=1.0, extra={1: 0.0, 2: 0.03})
    bill = bill_of(made, [option(0, 10, speed=100, price=1), option(1, 10, speed=100, price=1)])

    assert bill.kept_share == pytest.approx(60_000 / 61_600.002)
    assert bill.days == pytest.approx(1.03e9 / 2000 * 61_600.002 / 60_000 / 86_400)


def test_the_slowest_link_holds_up_all():
    links = [[9.0, 9.0, 1.0], [9.0, 9.0, 9.0], [1.0, 9.0, 9.0]]
    made = market(("x", "y", "z"), gbit=links, exchange_gb=90.0)

    duo = [option(pool, 8, speed=100, price=1) for pool in (0, 2)]
    stop_s, tokens_per_s = 2 * (90 * 8 + 0.001), 2 * 800
    assert bill_of(made, duo).kept_share == pytest.approx(1 / (1 + stop_s * tokens_per_s / made.tokens_between))


def test_the_coordinator_stands_where_exchanges_are_shortest():
    links = [[9.0, 9.0, 1.0], [9.0, 9.0, 9.0], [1.0, 9.0, 9.0]]
    made = market(("x", "y", "z"), gbit=links, exchange_gb=90.0)

    assert made.exchanges(np.array([[0, 1, 2]])).stop_s == pytest.approx([2 * (90 * 8 / 9 + 0.001)]), "beside y"


def test_only_links_to_where_the_coordinator_stands_are_paid_and_among_equals_it_stands_where_they_are_cheapest():
    quick, slow = [[9.0, 9.0, 9.0], [9.0, 9.0, 1.0], [9.0, 1.0, 9.0]], 9.0
    dear_between_b_and_c = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.09], [0.0, 0.09, 0.0]]
    line_up = np.array([[0, 1, 2]])
    beside_a = market(("x", "y", "z"), gbit=quick, price_per_gb=dear_between_b_and_c).exchanges(line_up)
    dear_to_a = [[0.0, 0.03, 0.01], [0.03, 0.0, 0.01], [0.01, 0.01, 0.0]]
    beside_c = market(("x", "y", "z"), gbit=slow, price_per_gb=dear_to_a).exchanges(line_up)

    assert (beside_a.hub[0], beside_a.traffic[0]) == (0, 0.0)
    # 100 GB there and back over two links at 0.01, each 120 M tokens
    assert (beside_c.hub[0], beside_c.traffic[0]) == (2, pytest.approx(2 * 2 * 100 * 0.01 / 120e6))


def test_islands_of_one_pool_share_the_link_to_the_coordinator():
    made = market(gbit=[[90.0, 1.0], [1.0, 90.0]], exchange_gb=1.0)
    line_ups = np.array([[0, 0, 1, 1], [0, 0, 0, 1]])

    # two updates of 8 Gbit over 1 Gbit/s wherever it stands, or one where it stands beside the three
    assert made.exchanges(line_ups).stop_s == pytest.approx([2 * (16 + 0.001), 2 * (8 + 0.001)])
    alike = made.exchanges(np.array([[0, 0, 0]]))
    assert alike.stop_s == pytest.approx([2 * (2 * 8 / 90 + 0.001)]), "two others send to it"
    assert made.exchanges(np.array([[0]])).stop_s == pytest.approx([0.0])


@pytest.mark.parametrize(
    ("caps", "word"),
    [
        (Caps(cost=5000), "budget"),
        (Caps(days=10), "deadline"),
        (Caps(devices=9), "devices"),
        (Caps(supplier_share=0.5), "x trains 100% of the tokens"),
    ],
)
def test_each_limit_that_is_broken_is_said_with_numbers(caps, word):
    (said,) = broken_caps(market(tokens=1e9), [option(0, 10, speed=100, price=2)], caps)

    assert word in said


def test_a_small_run_that_breaks_limits_is_told_by_how_much():
    said = list(broken_caps(market(tokens=1e4), [option(0, 10, speed=100, price=2)], Caps(cost=0.05, days=0.0001)))

    assert said == [
        "it costs 0.0556 and the budget is 0.0500",
        "it takes 0.000116 days and the deadline is 0.0001",
    ]


def test_rules_of_pools_are_limits_too():
    made = market(counts=[(16, 64), (1, 8)], max_share=[0.4, 1.0])
    said = list(broken_caps(made, [option(0, 8, speed=100, price=2), option(1, 8, speed=100, price=2)], Caps()))

    assert said == [
        "pool a trains 50% of the tokens and its max_share is 40%",
        "it takes 8 devices of pool a, and 16 to 64 are on offer",
    ]
