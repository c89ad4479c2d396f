from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from everyflop.base.errors import UsageError
from everyflop.spec.fleet import Fleet


def pool(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "device": "x", "count": 8, "price_per_device_hour": 2.0, "currency": "USD", **changes}


def fleet(*pools: dict[str, Any], links: list[tuple[str, str]] | None = None, **tables: Any) -> Fleet:
    linked = [{"between": pair, "gbit_per_s": 10.0, "price_per_gb": 0.7} for pair in links or []]
    return Fleet.model_validate({"pool": pools, "link": linked, **tables})


# --- money ---


def test_the_currency_of_plans_is_the_one_that_all_pools_share():
    assert fleet(pool("a", currency="CNY"), pool("b", currency="CNY")).currency == "CNY"


def test_pools_without_a_currency_take_that_of_the_money_table():
    cheap = fleet(pool("a", currency=None), money={"currency": "EUR"})

    assert cheap.currency == "EUR"
    assert cheap.price_per_device_hour(cheap.pools[0]) == 2.0


def test_prices_in_other_currencies_are_converted_at_the_users_rate():
    both = fleet(pool("a"), pool("b", currency="CNY"), money={"currency": "CNY", "rates": {"USD": 7.0}})

    assert [both.price_per_device_hour(p) for p in both.pools] == [14.0, 2.0]


def test_a_fleet_can_be_had_in_another_currency_that_it_has_a_rate_for():
    both = fleet(
        pool("a"), pool("b", currency=None), links=[("a", "b")], money={"currency": "CNY", "rates": {"USD": 7.0}}
    )

    dollars = both.in_currency("USD")

    assert dollars.currency == "USD"
    assert [dollars.price_per_device_hour(p) for p in dollars.pools] == pytest.approx([2.0, 2 / 7])
    assert dollars.links[0].price_per_gb == pytest.approx(0.1)


@given(st.floats(0.001, 1000), st.floats(0.001, 1000))
def test_changing_the_currency_back_and_forth_changes_no_price(dollar: float, euro: float):
    money = {"currency": "CNY", "rates": {"USD": dollar, "EUR": euro}}
    three = fleet(pool("a"), pool("b", currency="EUR"), pool("c", currency="CNY"), links=[("a", "a")], money=money)

    again = three.in_currency("EUR").in_currency("USD").in_currency("CNY")

    assert [again.price_per_device_hour(p) for p in again.pools] == pytest.approx([2 * dollar, 2 * euro, 2.0])
    assert again.links[0].price_per_gb == pytest.approx(0.7)


def test_a_rate_is_never_invented():
    with pytest.raises(UsageError, match=r"no rate for EUR.*EUR = \.\.\. to \[money\.rates\], how many USD one EUR is"):
        fleet(pool("a")).in_currency("EUR")


@pytest.mark.parametrize(
    ("pools", "money", "said"),
    [
        ([pool("a"), pool("b", currency="CNY")], {}, "money.currency is needed"),
        ([pool("a"), pool("b", currency="CNY")], {"currency": "USD"}, "set money.rates.CNY, how many USD one CNY is"),
        ([pool("a", currency=None)], {}, "a price needs its currency"),
        ([pool("a")], {"rates": {"USD": 2.0}}, "money.rates.USD must be 1"),
    ],
)
def test_prices_that_cannot_be_compared_are_refused(pools: list[dict[str, Any]], money: dict[str, Any], said: str):
    with pytest.raises(ValidationError, match=said):
        fleet(*pools, money=money)


# --- links ---


def test_a_link_is_found_from_both_ends():
    linked = fleet(pool("a"), pool("b"), pool("c"), links=[("b", "a"), ("c", "b"), ("c", "c")])

    assert linked.link_between("a", "b") is linked.link_between("b", "a") is linked.links[0]
    assert linked.link_between("c", "c") is linked.links[2]
    assert linked.link_between("a", "c") is None
    assert linked.link_between("a", "a") is None


def test_pools_without_any_links_are_a_fleet_to_compare():
    assert len(fleet(pool("a"), pool("b")).pools) == 2


@pytest.mark.parametrize(
    ("links", "said"),
    [
        ([("a", "h10")], r"link\[0\].between names 'h10', which is no pool.name: did you mean 'h100'\?"),
        ([("a", "zzz"), ("a", "h100")], "known are a, h100, alone"),
        ([("a", "h100"), ("h100", "a")], r"link\[1\].between is the same as link\[0\].between"),
        ([("a", "a"), ("h100", "a"), ("a", "a")], r"link\[2\].between is the same as link\[0\].between"),
        ([("a", "h100"), ("a", "alone")], "'alone', whose pool.alone is true"),
    ],
)
def test_links_that_connect_nothing_new_are_refused(links: list[tuple[str, str]], said: str):
    with pytest.raises(ValidationError, match=said):
        fleet(pool("a"), pool("h100"), pool("alone", alone=True), links=links)


def test_a_pool_that_no_link_reaches_is_a_mistake_where_others_are_linked():
    with pytest.raises(ValidationError, match=r"pool\[2\].name 'c' cannot be reached"):
        fleet(pool("a"), pool("b"), pool("c"), links=[("a", "b"), ("c", "c")])


def test_a_pool_that_is_meant_to_be_alone_needs_no_link():
    kept_apart = fleet(pool("a"), pool("b"), pool("c", alone=True), links=[("a", "b"), ("c", "c")])

    assert kept_apart.link_between("a", "c") is None


def test_pools_that_are_linked_in_two_groups_are_fine():
    assert fleet(*map(pool, "abcd"), links=[("a", "b"), ("c", "d")]).link_between("b", "c") is None


# --- the whole ---


def test_a_pool_has_no_name_that_an_island_of_another_may_have():
    with pytest.raises(ValidationError, match=r"pool\[1\].name 'a-1' is also what an island of pool 'a' may be called"):
        Fleet.model_validate({"pool": [pool("a"), pool("a-1")]})
    assert fleet(pool("b-1"), pool("b-x"))


@pytest.mark.parametrize("table", ["pool", "device"])
def test_names_tell_entries_apart(table: str):
    twice = (
        {"pool": [pool("a"), pool("a")]} if table == "pool" else {"pool": [pool("a")], "device": [{"name": "a"}] * 2}
    )

    with pytest.raises(ValidationError, match=rf"{table}\[1\].name 'a' is {table}\[0\].name already"):
        Fleet.model_validate(twice)


def test_a_fleet_has_a_pool():
    with pytest.raises(ValidationError, match="at least 1 item"):
        fleet()


def test_a_file_has_one_spelling_of_its_tables():
    with pytest.raises(ValidationError, match=r"pools\n\s+Extra inputs"):
        Fleet.model_validate({"pool": [pool("a")], "pools": [pool("b")]})
