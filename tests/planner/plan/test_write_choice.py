"""A choice as plan.json has it: its figures fit each other."""

import pytest

from everyflop.planner.choose.market import bill_of
from everyflop.planner.choose.settle import Settled
from everyflop.planner.plan.uncertainty import Chances
from everyflop.planner.plan.write_choice import Yardstick, write_choice
from everyflop.planner.predict.predictor import load_predictor
from everyflop.spec.exchange import ExchangeSpec

from ..fleets import A100, H100, LITE, MI300X, desk, fleet

POOLS = fleet(H100, A100, MI300X, price_per_gb=0.01)
ASKED = desk(POOLS)


def written(choice, yardstick=None):
    chances = Chances(ASKED.market, [choice], load_predictor().calibration)
    return write_choice(ASKED, chances, 0, yardstick)


def together(asked, *parts):
    """Write the islands of several choices as one choice."""
    islands = tuple(island for part in parts for island in part.islands)
    found = tuple(one for part in parts for one in part.found)
    choice = Settled(islands, found, bill_of(asked.market, islands))
    return write_choice(asked, Chances(asked.market, [choice], load_predictor().calibration), 0, None)


@pytest.fixture(scope="module")
def mix():
    found = ASKED.best_mix(2)
    assert found
    return found


def test_islands_share_the_bill_and_the_tokens(mix):
    choice = written(mix)

    assert sum(island.cost.p50 for island in choice.islands) == pytest.approx(choice.total.cost.p50)
    assert sum(island.share for island in choice.islands) == pytest.approx(1)
    assert sum(island.batch_seqs for island in choice.islands) == LITE.batch_seqs
    assert sum(island.devices for island in choice.islands) == choice.total.devices


def test_speeds_less_what_is_lost_are_the_speed_of_all(mix):
    choice = written(mix)
    kept = sum(island.tokens_per_s.p50 * island.goodput_share for island in choice.islands)

    assert kept == pytest.approx(choice.total.tokens_per_s.p50)
    needed = 1 + ExchangeSpec().extra_tokens(2)
    assert choice.total.token_efficiency == pytest.approx(1 / needed)
    assert choice.total.days.p50 == pytest.approx(needed * LITE.tokens / kept / 86_400)


def test_at_its_break_even_mfu_an_island_costs_what_the_cheapest_pool_does(mix):
    choice = written(mix, Yardstick(pool=-1, cost_per_ttoken=1000.0))

    for island in choice.islands:
        assert island.break_even_mfu
        assert island.cost_per_ttoken.p50 * island.mfu / island.break_even_mfu == pytest.approx(1000.0)


def test_the_cheapest_pool_has_no_break_even():
    singles = [ASKED.alone(pool).best() for pool in range(3)]
    yardstick = Yardstick.of(ASKED, [one for one in singles if one])
    assert yardstick

    assert written(singles[yardstick.pool], yardstick).islands[0].break_even_mfu is None


def test_the_least_link_is_that_at_which_a_twentieth_of_the_time_is_lost(mix):
    choice = written(mix)
    (least,) = {island.least_link_gbit_per_s for island in choice.islands}
    assert least

    # The model goes to the coordinator and back, half a byte a parameter, at each step of a fifth and every 8 then.
    gb = 0.5 * ASKED.supply.training.dims.total_parameters / 1e9
    round_s = LITE.batch_tokens / (0.2 + 0.8 / 8) / sum(island.tokens_per_s for island in mix.islands)
    assert 2 * (gb * 8 / least + 0.001) == pytest.approx(round_s * 0.05 / 0.95, rel=1e-4)  # 1 ms of latency each way
    assert {island.link_gbit_per_s for island in choice.islands} == {400}


def test_links_are_those_to_the_coordinator():
    links = [{"between": [a, b], "gbit_per_s": gbit} for a, b, gbit in (("a", "b", 90), ("a", "c", 90), ("b", "c", 1))]
    asked = desk(fleet(H100, A100, MI300X, link=links))
    alone = [choice for pool in range(3) if (choice := asked.alone(pool).best())]
    found = together(asked, *(Settled(one.islands[:1], one.found[:1], one.bill) for one in alone))

    assert {island.link_gbit_per_s for island in found.islands} == {90}


def test_islands_of_one_pool_need_a_link_for_all_of_them(mix):
    one, other = (Settled((i,), (f,), mix.bill) for i, f in zip(mix.islands, mix.found, strict=True))
    two, four = together(ASKED, one, other), together(ASKED, one, one, other, other)

    gb = 0.5 * ASKED.supply.training.dims.total_parameters / 1e9
    least = [max(island.least_link_gbit_per_s or 0 for island in choice.islands) for choice in (two, four)]
    lost_s = [2 * (n * gb * 8 / gbit_per_s + 0.001) for n, gbit_per_s in zip((1, 2), least, strict=True)]
    assert lost_s[1] == pytest.approx(lost_s[0] / 2, rel=1e-4)  # twice the islands take half as long for a round


def test_one_island_needs_no_link():
    best = ASKED.best()
    assert best
    (island,) = written(best).islands

    assert (island.link_gbit_per_s, island.least_link_gbit_per_s) == (None, None)


def test_islands_of_one_pool_are_numbered():
    two = desk(fleet({**A100, "count": 128}), max_islands=2)
    both = two.under(two.caps).only(lambda option: option.devices == 64).best()
    assert both
    chances = Chances(two.market, [both], load_predictor().calibration)
    choice = write_choice(two, chances, 0, None)

    assert choice.kind == "single"
    assert [island.name for island in choice.islands] == ["a-1", "a-2"]


def test_islands_of_the_cheapest_pool_cost_together_what_the_yardstick_says():
    several = desk(fleet({**H100, "count": 64}), max_islands=4)
    choice = several.alone(0).best()
    assert choice
    yardstick = Yardstick.of(several, [choice])
    assert yardstick
    chances = Chances(several.market, [choice], load_predictor().calibration)
    written_out = write_choice(several, chances, 0, None)

    by_share = sum(island.share * island.cost_per_ttoken.p50 for island in written_out.islands)
    assert by_share == pytest.approx(yardstick.cost_per_ttoken)
    assert by_share == pytest.approx(written_out.total.cost_per_ttoken.p50)
