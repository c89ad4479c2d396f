"""What islands have cost, also those that have left."""

import pytest

from everyflop.train.bill import bill, total


@pytest.fixture
def run(make_run):
    """Two devices at 1 an hour in a, and one at the run's price, 2, in b."""
    islands = [{"name": "a", "devices": 2, "price_per_device_hour": 1.0}, {"name": "b"}]
    return make_run(island=islands, money={"currency": "USD", "price_per_device_hour": 2.0})


def test_an_island_costs_what_its_account_says_whatever_its_price_is_now(run):
    assert bill({"accounts": {"a": {"held_s": 3600.0, "cost": 7.0}}}, run)["a"] == 7.0


def test_an_island_that_left_has_been_paid(run):
    accounts = {"a": {"held_s": 10.0, "cost": 0.5}, "gone": {"held_s": 20.0, "cost": 4.0}}

    assert bill({"accounts": accounts}, run) == {"a": 0.5, "b": 0.0, "gone": 4.0}
    assert total(bill({"accounts": accounts}, run)) == 4.5


def test_accounts_that_know_no_cost_are_billed_at_todays_price(run):
    accounts = {"a": {"held_s": 3600.0}, "b": {"held_s": 1800.0, "cost": None}}

    assert bill({"accounts": accounts}, run) == {"a": 2.0, "b": 1.0}


def test_what_an_island_of_no_known_price_cost_is_not_known_and_so_is_the_total(run):
    bills = bill({"accounts": {"gone": {"held_s": 5.0}}}, run)

    assert bills["gone"] is None
    assert total(bills) is None
