"""Draws have the spread that was asked for, and errors that choices share cancel between them."""

from dataclasses import replace

import numpy as np
import pytest

from everyflop.planner.choose.settle import Settled
from everyflop.planner.plan.desk import Desk
from everyflop.planner.plan.uncertainty import (
    Chances,
    cost_width,
    log_speed_covariance,
    log_spread,
    normal_draws,
    spread,
)
from everyflop.planner.predict.predictor import load_predictor

from ..fleets import A100, H100, MI300X, desk, fleet

CALIBRATION = load_predictor().calibration


def alone(asked: Desk, pool: int) -> Settled:
    """Return the best choice on one pool."""
    best = asked.alone(pool).best()
    assert best
    return best


def test_draws_have_the_covariance_that_was_asked_for():
    wanted = np.array([[0.04, 0.03, 0.0], [0.03, 0.09, -0.01], [0.0, -0.01, 0.01]])

    assert np.cov(normal_draws(wanted).T) == pytest.approx(wanted, abs=1e-3)


def test_draws_are_the_same_each_time():
    assert np.array_equal(normal_draws(np.eye(4)), normal_draws(np.eye(4)))


def test_a_tenth_of_draws_lies_below_p10():
    # The standard normal distribution has its tenth percentile at -1.2816.
    assert np.quantile(normal_draws(np.eye(1)), 0.1) == pytest.approx(-1.2816, abs=0.005)


def test_ends_of_a_lognormal_figure_are_its_quantiles():
    found = log_spread(100.0, 0.2)

    assert (found.p10, found.p50, found.p90) == pytest.approx((77.39, 100.0, 129.21), abs=0.01)


def test_a_spread_always_holds_its_middle():
    found = spread(5.0, np.array([6.0, 7.0, 8.0]))

    assert found.p10 == 5.0


def test_the_bill_of_one_island_is_as_unsure_as_its_speed():
    asked = desk(fleet(H100), max_islands=1)
    choice = alone(asked, 0)
    log_sd = np.sqrt(log_speed_covariance([choice.found[0].evidence], CALIBRATION)[0, 0])

    assert log_sd == pytest.approx(choice.found[0].log_sd, rel=1e-6)
    assert cost_width(asked.market, choice, CALIBRATION) == pytest.approx(np.exp(2 * 1.2816 * log_sd), rel=0.01)


def test_of_two_pools_of_one_chip_the_cheaper_one_is_surely_cheaper():
    asked = desk(fleet(A100, {**A100, "price_per_device_hour": 2.1}))
    chances = Chances(asked.market, [alone(asked, 0), alone(asked, 1)], CALIBRATION)

    assert chances.cheaper(0, 1) > 0.99


def test_the_same_margin_between_two_chips_is_less_sure():
    asked = desk(fleet(A100, MI300X))
    one, other = alone(asked, 0), alone(asked, 1)
    margin = 1.4 * one.bill.cost / other.bill.cost
    dearer = replace(
        other,
        bill=replace(other.bill, cost=margin * other.bill.cost),
        islands=(replace(other.islands[0], money_per_hour=margin * other.islands[0].money_per_hour),),
    )

    assert 0.5 < Chances(asked.market, [one, dearer], CALIBRATION).cheaper(0, 1) < 0.99


def test_two_chips_together_are_surer_than_the_less_sure_of_them():
    asked = desk(fleet(A100, MI300X))
    mix = asked.best_mix(2)
    assert mix

    widths = [cost_width(asked.market, choice, CALIBRATION) for choice in (mix, alone(asked, 0), alone(asked, 1))]
    assert widths[0] < max(widths[1:])


def test_what_waits_for_links_anyway_is_less_unsure_of_its_speed():
    fast, slow = (desk(fleet(A100, MI300X, gbit_per_s=gbit)) for gbit in (10_000, 1))
    widths = []
    for asked in (fast, slow):
        mix = asked.best_mix(2)
        assert mix
        widths.append(cost_width(asked.market, mix, CALIBRATION))

    assert widths[1] < 0.9 * widths[0]
