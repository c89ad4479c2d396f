"""Prices and rates that cannot be meant."""

from typing import Any

import pytest

from everyflop.spec.plausible_money import implausible_money


def hints(tables: dict[str, Any]) -> dict[str, str]:
    return {problem.key: problem.hint for problem in implausible_money(tables)}


def one(key: str, value: Any, **others: Any) -> dict[str, Any]:
    table, name = key.split(".")
    return {table: [{name: value, **others}]}


def in_two_currencies(price: float, currency: str, rate: Any) -> dict[str, Any]:
    """A pool priced in one currency, in a fleet of dollars."""
    return {
        "money": {"currency": "USD", "rates": {currency: rate}},
        "pool": [{"price_per_device_hour": price, "currency": currency}],
    }


@pytest.mark.parametrize("price", [98.32, 1_800, 25_000, 250_000])  # of a node, a month, a year, a purchase
def test_a_price_that_is_not_for_one_device_and_hour_is_found(price: float):
    (hint,) = hints(one("pool.price_per_device_hour", price, currency="USD")).values()

    assert "divide a node's price by its devices" in hint


def test_a_price_per_second_is_found():
    assert hints(one("pool.price_per_device_hour", 0.0007, currency="USD")) == {
        "pool[0].price_per_device_hour": "it looks like a price per second: write 2.52"
    }


@pytest.mark.parametrize("where", ["pool", "money"])
def test_prices_are_judged_in_their_own_currency(where: str):
    pool = {"price_per_device_hour": 60, **({"currency": "CNY"} if where == "pool" else {})}
    money = {"money": {"currency": "CNY" if where == "money" else "USD"}}

    assert hints({"pool": [pool], **money}) == {}
    assert hints({"pool": [{**pool, "currency": "USD"}], **money}) != {}


def test_prices_in_a_currency_of_unknown_size_are_left_alone():
    assert hints(one("pool.price_per_device_hour", 90_000, currency="VND")) == {}


def test_a_price_per_terabyte_is_found():
    pool = {"currency": "USD"}

    assert hints({"pool": [pool], "link": [{"price_per_gb": 90}]}) == {
        "link[0].price_per_gb": "it looks like a price per TB: write 0.09"
    }


@pytest.mark.parametrize(
    ("rate", "hint"),
    [
        (1e9, "how many USD one CNY is: about 0.12"),
        (7.1, "it looks upside down: write 0.141"),
        (1e-6, "how many USD one CNY is: about 0.12"),
    ],
)
def test_a_rate_between_known_currencies_is_found_where_it_cannot_be_one(rate: float, hint: str):
    assert hints(in_two_currencies(7.0, "CNY", rate)) == {"money.rates.CNY": hint}


@pytest.mark.parametrize(("currency", "rate"), [("CNY", 0.14), ("EUR", 1.16), ("GBP", 1.34), ("INR", 0.0113)])
def test_rates_of_today_are_plausible(currency: str, rate: float):
    assert hints(in_two_currencies(2.0 / rate, currency, rate)) == {}


def test_a_price_in_a_currency_of_unknown_size_is_judged_after_its_conversion():
    assert hints(in_two_currencies(90_000, "VND", 4e-5)) == {}
    assert hints(in_two_currencies(90_000, "VND", 40)) == {
        "pool[0].price_per_device_hour": "90000 VND at money.rates.VND: one of them is wrong"
    }


@pytest.mark.parametrize("rate", ["0.14", True, None, 0, -1, float("nan")])
def test_a_rate_that_is_no_positive_number_is_left_to_validation(rate: Any):
    assert hints(in_two_currencies(7.0, "CNY", rate)) == {}


@pytest.mark.parametrize("price", ["2.5", True, None, 0, -5, float("nan")])
def test_a_price_that_is_no_positive_number_is_left_to_validation(price: Any):
    assert hints(one("pool.price_per_device_hour", price, currency="USD")) == {}
