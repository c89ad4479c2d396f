"""Pools become offers: figures filled in, prices in the plan's currency, numbers of devices to look at."""

from itertools import pairwise

import pytest

from everyflop.catalog.load import load_catalog
from everyflop.planner.choose.offers import Offer, offers_of
from everyflop.planner.choose.supply import market_of

from ..fleets import A100, H100, LITE, desk, fleet


def offer(pool: dict, **more) -> Offer:
    (made,), unusable = offers_of(fleet(pool, **more), load_catalog())
    assert not unusable
    return made


def test_a_pool_that_is_taken_whole_is_one_island_or_even_parts():
    assert offer({**H100, "count": 96}).counts(4) == [24, 32, 48, 96]
    assert offer({**H100, "count": 100}).counts(3) == [50, 100]


def test_of_a_range_all_whole_nodes_are_looked_at_where_they_are_few():
    assert offer({**A100, "count": [30, 64]}).counts(1) == [30, 32, 40, 48, 56, 64]
    assert offer({**A100, "count": [1, 4]}).counts(1) == [1, 2, 3, 4]


def test_of_a_wide_range_numbers_in_even_ratios_are_looked_at_closely_for_one_island_and_less_so_for_several():
    wide = offer({**A100, "count": [32, 32_000]})
    one, two, four = wide.counts(1), wide.counts(2), wide.counts(4)

    assert max(b / a for a, b in pairwise(one)) <= 1.25  # below 80 devices a node is more than a step
    assert 50 < len(one) <= 66
    assert len(four) < len(two) < len(one)
    assert {32_000, 16_000} < set(two)
    assert {32_000, 16_000, 10_664, 8_000} < set(four)


def test_numbers_of_devices_with_their_own_layouts_are_among_those_looked_at():
    for count in (64, [32, 1024]):
        made = offer({**A100, "count": count})
        assert {*made.counts(1), *made.counts(4)} >= set(made.anchors)


def test_prices_are_in_the_currency_of_the_plan():
    dear = {**H100, "currency": "EUR"}

    assert offer(dear, money={"currency": "USD", "rates": {"EUR": 1.1}}).price_per_device_hour == pytest.approx(3.08)


def test_the_vendor_is_the_supplier_unless_the_fleet_names_one():
    assert offer(H100).supplier == "NVIDIA"
    assert offer({**H100, "supplier": "Cloud A"}).supplier == "Cloud A"


def test_failures_grow_and_checkpoints_shrink_with_the_devices():
    # 290 B parameters at 12 bytes are 3,480 GB: 64 devices at 0.2 GB/s write them in 272 s.
    failures = offer({**H100, "failures_per_device_day": 0.01, "restart_minutes": 5}).failures(64, 290e9)

    assert failures.per_day == pytest.approx(0.64)
    assert failures.save_s == pytest.approx(271.9, abs=0.1)
    assert failures.restart_s == 300


def test_a_device_without_any_known_speed_is_unusable():
    offers, unusable = offers_of(fleet({"device": "cpu", "count": 1}, H100), load_catalog())

    assert [offer.pool.name for offer in offers] == ["b"]
    assert "everyflop measure" in unusable["a"]


def test_what_is_inferred_of_a_device_is_said():
    own = {"name": "card", "vendor": "Me", "like": "a100-80g", "bf16_tflops": 200}

    assert any("inferred from a100-80g" in note for note in offer({"device": "card", "count": 8}, device=[own]).notes)


def test_islands_of_one_pool_share_its_network_by_default():
    asked = desk(fleet({**H100, "count": 64, "scale_out_gbit_per_s": 400}), max_islands=2)

    assert asked.market.gbit_per_s[0, 0] == 16 * 400  # the ports of the smallest that is looked at


def test_links_and_their_prices_hold_both_ways():
    pools = fleet(H100, A100, gbit_per_s=100, price_per_gb=0.02)
    market = market_of(pools, desk(pools).supply)

    assert market.gbit_per_s[0, 1] == market.gbit_per_s[1, 0] == 100
    assert market.price_per_gb[1, 0] == 0.02
    assert market.latency_s[0, 1] == market.latency_s[1, 0] == 0.001  # by default 1 ms


@pytest.mark.parametrize("bytes_per_parameter", [1, 2, 4])
def test_gradients_travel_once_a_step_however_many_bytes_weights_have(bytes_per_parameter):
    islands = {"steps_between_exchanges": 1, "bytes_per_parameter": bytes_per_parameter}
    market = desk(fleet(H100, A100, islands=islands)).market

    assert market.latency_s[0, 1] / market.steps_between_exchanges == pytest.approx(0.001)


def test_an_option_is_as_fast_as_failures_leave_its_layout():
    supply = desk(fleet({**H100, "failures_per_device_day": 0.05}), max_islands=1).supply
    found = supply.found(0, 64, LITE.batch_seqs)
    assert found
    (option,) = supply.options(1)

    kept = supply.offers[0].failures(64, float(supply.training.dims.total_parameters)).kept_share
    assert kept < 0.99
    assert option.tokens_per_s == pytest.approx(kept * found.tokens_per_s)
    assert option.money_per_hour == pytest.approx(64 * 2.8)


def test_below_one_large_node_no_more_numbers_are_looked_at():
    pod = {"device": "tpu-v5p", "count": [64, 640], "price_per_device_hour": 1.0}

    assert 50 < len(offer(pod).counts(1)) <= 66


def test_a_pool_whose_devices_always_fail_says_so():
    supply = desk(fleet({**H100, "failures_per_device_day": 24, "count": 512}), max_islands=1).supply

    assert supply.why_nothing(0) == "failures eat all of its time: look at failures_per_device_day = 24"
