"""The solver finds what trying everything finds, and obeys what a user would call common sense."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from everyflop.planner.choose.line_ups import Wanted
from everyflop.planner.choose.market import Caps, bill_of, broken_caps
from everyflop.planner.choose.mix import best_pick

from ..markets import market, option, try_all

few = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def questions(draw):
    """Draw a market of two to four pools, options, caps and an objective."""
    n = draw(st.integers(2, 4))
    counts = [draw(st.sampled_from([(8, 64), (16, 32), (8, 128), (24, 24)])) for _ in range(n)]
    links = draw(st.lists(st.sampled_from([0.0, 20.0, 100.0, 100.0, 800.0]), min_size=n * n, max_size=n * n))
    prices = draw(st.lists(st.sampled_from([0.0, 0.0, 0.02]), min_size=n * n, max_size=n * n))
    gbit, price = (np.array(values).reshape(n, n) for values in (links, prices))
    made = market(
        draw(st.lists(st.sampled_from(["x", "y", "z"]), min_size=n, max_size=n)),
        counts=counts,
        max_share=[draw(st.sampled_from([1.0, 1.0, 0.6, 0.4])) for _ in range(n)],
        gbit=np.maximum(gbit, gbit.T),
        price_per_gb=np.maximum(price, price.T),
        steps_between=draw(st.sampled_from([5, 30, 300])),
        exchange_gb=draw(st.sampled_from([30.0, 600.0])),
    )
    per_device = [(draw(st.integers(200, 2000)), draw(st.integers(5, 40))) for _ in range(n)]
    options = {
        islands: [
            option(pool, devices, speed=speed * (1 - 0.02 * islands) * devices**-0.05, price=price)
            for pool, (speed, price) in enumerate(per_device)
            for devices in (8, 16, 24, 64)
            if devices <= counts[pool][1]
        ]
        for islands in (1, 2, 3)
    }
    loosest = try_all(made, options, Caps())
    assume(loosest is not None)
    caps = Caps(
        cost=draw(st.sampled_from([None, 1.05, 1.5])),
        days=draw(st.sampled_from([None, 0.3, 0.6, 0.95])),
        supplier_share=draw(st.sampled_from([None, 0.5, 0.7])),
        devices=draw(st.sampled_from([None, 48, 100])),
    )
    scaled = dataclasses.replace(
        caps,
        cost=caps.cost and caps.cost * loosest.bill.cost,
        days=caps.days and caps.days * loosest.bill.days,
    )
    return made, options, scaled, draw(st.sampled_from(["cost", "time"])), draw(st.sampled_from([1, 2]))


@few
@given(questions())
def test_the_solver_finds_what_trying_everything_finds(question):
    made, options, caps, objective, least_pools = question

    found = best_pick(made, options, caps, objective=objective, wanted=Wanted(least_pools=least_pools))
    best = try_all(made, options, caps, objective=objective, least_pools=least_pools)

    assert (found is None) == (best is None)
    if found and best:
        figure = "cost" if objective == "cost" else "days"
        assert getattr(found.bill, figure) == pytest.approx(getattr(best.bill, figure), rel=1e-5)
        assert not list(broken_caps(made, found.islands, caps))
        assert len(found.pools) >= least_pools


@few
@given(questions())
def test_the_same_question_has_the_same_answer(question):
    made, options, caps, objective, least_pools = question

    first, second = (
        best_pick(made, options, caps, objective=objective, wanted=Wanted(least_pools=least_pools)) for _ in range(2)
    )

    assert first == second


@few
@given(questions(), st.integers(0, 3))
def test_a_pool_that_vanishes_never_makes_the_bill_lower(question, gone):
    made, options, caps, _, _ = question
    fewer = {islands: [o for o in offered if o.pool != gone] for islands, offered in options.items()}

    before, after = best_pick(made, options, caps), best_pick(made, fewer, caps)

    assert after is None or (before is not None and after.bill.cost >= before.bill.cost * (1 - 1e-5))


@few
@given(questions(), st.integers(0, 3))
def test_a_lower_price_never_makes_the_bill_higher(question, pool):
    made, options, caps, _, _ = question
    cheaper = {
        islands: [
            dataclasses.replace(o, money_per_hour=o.money_per_hour * (0.7 if o.pool == pool else 1.0)) for o in offered
        ]
        for islands, offered in options.items()
    }

    before, after = best_pick(made, options, caps), best_pick(made, cheaper, caps)

    assert before is None or (after is not None and after.bill.cost <= before.bill.cost * (1 + 1e-5))


def test_without_limits_no_mix_is_cheaper_than_its_cheapest_member():
    made = market(extra={1: 0.0, 2: 0.0})
    offered = [option(0, 64, speed=1000, price=10), option(1, 64, speed=900, price=10)]

    alone = best_pick(made, {1: offered}, Caps())
    mixed = best_pick(made, {2: offered}, Caps(), wanted=Wanted(least_pools=2))

    assert alone
    assert alone.islands == (offered[0],)
    assert mixed
    assert mixed.bill.cost > alone.bill.cost


def test_a_deadline_that_no_pool_meets_alone_is_met_by_two():
    made = market(counts=[(1, 10), (1, 10)], tokens=1e9, exchange_gb=1e-6, extra={1: 0.0, 2: 0.0})
    offered = [option(0, 10, speed=100, price=1), option(1, 10, speed=100, price=2)]
    deadline = Caps(days=0.6 * 1e9 / 1000 / 86_400)  # one island alone takes 1e9 / 1000 seconds

    pick = best_pick(made, {1: offered, 2: offered}, deadline)

    assert pick
    assert pick.pools == (0, 1)


def test_a_cap_on_suppliers_forces_the_dearer_one_in():
    made = market(("x", "y"), counts=[(1, 10), (1, 10)], exchange_gb=1e-6)
    offered = [option(0, 10, speed=100, price=1), option(1, 10, speed=100, price=2)]

    pick = best_pick(made, {1: offered, 2: offered}, Caps(supplier_share=0.5))

    assert pick
    assert pick.bill.shares == (0.5, 0.5)


def test_pools_without_a_link_are_never_mixed():
    apart = market(gbit=[[100.0, 0.0], [0.0, 100.0]])
    offered = [option(0, 10, speed=100, price=1), option(1, 10, speed=100, price=2)]

    assert best_pick(apart, {2: offered}, Caps(), wanted=Wanted(least_pools=2)) is None


def test_a_slow_link_makes_the_faster_neighbour_the_better_partner():
    # 600 GB between a and b at 1 Gbit/s take 80 minutes each round; c is dearer and next door.
    slow = np.array([[1000.0, 1.0, 1000.0], [1.0, 1000.0, 1000.0], [1000.0, 1000.0, 1000.0]])
    made = market(("x", "y", "z"), counts=[(64, 64)] * 3, gbit=slow, exchange_gb=600.0)
    offered = [option(0, 64, speed=900, price=9), option(1, 64, speed=900, price=9), option(2, 64, speed=900, price=12)]

    pick = best_pick(made, {2: offered}, Caps(supplier_share=0.6))

    assert pick
    assert pick.pools in ((0, 2), (1, 2))


def test_traffic_is_paid_for():
    # 10 rounds of 120 M tokens, in each of which both islands send the other 100 GB.
    made = market(price_per_gb=0.05, exchange_gb=100.0, tokens=1.2e9, extra={1: 0.0, 2: 0.0})
    free = market(exchange_gb=100.0, tokens=1.2e9, extra={1: 0.0, 2: 0.0})
    pair = [option(0, 8, speed=1000, price=1), option(1, 8, speed=1000, price=1)]

    assert bill_of(made, pair).cost - bill_of(free, pair).cost == pytest.approx(10 * 2 * 100 * 0.05)


def test_of_the_ling_devices_only_a_is_worth_adding_to_d_at_equal_mfu():
    # Table 1 of arXiv 2503.05139: TFLOP/s and CNY an hour. At 35 % MFU of 6 x 28.8e9 FLOP a token.
    table = {"a": (370, 7.0), "b": (120, 4.5), "c": (312, 10.0), "d": (989, 27.5), "e": (147, 5.64)}
    per_tflops = 0.35 * 1e12 / (6 * 28.8e9)
    made = market(tuple("abcde"), counts=[(1024, 1024)] * 5, exchange_gb=1e-6, extra={1: 0.0, 2: 0.0})
    offered = [
        option(n, 1024, speed=tflops * per_tflops, price=price) for n, (tflops, price) in enumerate(table.values())
    ]
    d_alone = best_pick(made, {1: [offered[3]]}, Caps())
    assert d_alone

    for number, name in enumerate(table):
        if name != "d":
            mixed = best_pick(made, {2: [offered[number], offered[3]]}, Caps(), wanted=Wanted(least_pools=2))
            assert mixed
            assert (mixed.bill.cost < d_alone.bill.cost) == (name == "a")
