"""Which pools could train together, and what they lose in exchanges."""

import numpy as np
import pytest

from everyflop.planner.choose.bundles import bundles_of
from everyflop.planner.choose.line_ups import Wanted, line_ups

from ..markets import market, option

FOUR = [option(pool, 8, speed=1, price=1) for pool in range(4)]


def rows(made, islands: int, wanted: Wanted | None = None) -> set[tuple[int, ...]]:
    found = line_ups(made, bundles_of(made, FOUR, islands), islands, wanted or Wanted())
    return {tuple(map(int, row)) for row in found.pools}


def test_a_member_that_is_wanted_is_in_every_line_up_at_any_place():
    made = market(tuple("wxyz"))
    every = rows(made, 3)

    assert rows(made, 3, Wanted(member=2)) == {row for row in every if 2 in row}


def test_of_at_least_two_pools_none_is_alone():
    made = market(tuple("wxyz"))

    assert rows(made, 2, Wanted(least_pools=2)) == {(a, b) for a, b in rows(made, 2) if a != b}


def test_a_pool_with_too_few_devices_is_not_taken_twice():
    made = market(tuple("wxyz"), counts=[(8, 8), (8, 16), (8, 8), (8, 8)])

    assert {row for row in rows(made, 2) if len(set(row)) == 1} == {(1, 1)}


def test_exchanges_take_and_cost_what_they_do_at_the_best_place_for_the_coordinator():
    gbit = np.array([[10.0, 20.0, 5.0], [20.0, 10.0, 40.0], [5.0, 40.0, 10.0]])
    prices = np.array([[0.0, 0.01, 0.02], [0.01, 0.0, 0.04], [0.02, 0.04, 0.0]])
    made = market(tuple("xyz"), gbit=gbit, price_per_gb=prices, exchange_gb=100.0)
    trio = line_ups(made, bundles_of(made, FOUR[:3], 3), 3, Wanted(least_pools=3))

    # To the coordinator at y and back, 100 GB over each of two links, each round of 120 M tokens.
    assert trio.traffic[0] == pytest.approx(2 * 100 * (0.01 + 0.04) / 120e6)
    assert trio.stop_s[0] == pytest.approx(2 * (100 * 8 / 20 + 0.001))
