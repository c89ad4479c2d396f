from typing import Any

import pytest
from pydantic import ValidationError

from everyflop.spec.pool import Link, Pool


def pool(**changes: Any) -> Pool:
    fields = {"name": "a", "device": "h100-sxm", "count": 8, "price_per_device_hour": 2.0, **changes}
    return Pool.model_validate(fields)


@pytest.mark.parametrize(
    ("written", "least", "most"),
    [(512, 512, 512), ("2K", 2000, 2000), ([8, 64], 8, 64), ((8, 8), 8, 8), (["1_000", "1.5K"], 1000, 1500)],
)
def test_a_count_is_a_number_or_the_least_and_the_most(written: Any, least: int, most: int):
    offered = pool(count=written)

    assert (offered.least_devices, offered.most_devices) == (least, most)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (0, "at least one device"),
        ([0, 8], "at least one device"),
        ([64, 8], "the least comes first"),
        ([8], "write a number of devices"),
        ([8, 9, 10], "write a number of devices"),
        (0.5, "whole numbers"),
        ([True, 8], "whole numbers"),
        (None, "whole numbers"),
        ("many", "is not a count"),
        (10**30, "more than there are"),
    ],
)
def test_a_count_that_is_none_is_refused(written: Any, said: str):
    with pytest.raises(ValidationError, match=said):
        pool(count=written)


@pytest.mark.parametrize("price", [0, -1, float("nan"), float("inf"), True, None, "2.5"])
def test_a_price_is_a_positive_number(price: Any):
    with pytest.raises(ValidationError, match="price_per_device_hour"):
        pool(price_per_device_hour=price)


@pytest.mark.parametrize("currency", ["usd", "US", "EURO", "$", "", "U S"])
def test_a_currency_is_three_capital_letters(currency: str):
    with pytest.raises(ValidationError, match="currency"):
        pool(currency=currency)


def test_devices_that_are_kept_fail_at_dlrovers_rate_unless_something_else_is_said():
    assert pool().failure_rate * 30 == pytest.approx(0.08, abs=0.002)  # 8 % a month
    assert pool(failures_per_device_day=0).failure_rate == 0
    assert pool(failures_per_device_day=0.01).failure_rate == 0.01


def test_spot_devices_must_say_how_often_they_go_away():
    with pytest.raises(ValidationError, match="failures_per_device_day is needed by spot = true"):
        pool(spot=True)

    with pytest.raises(ValidationError, match="failures_per_device_day is 0, and that contradicts spot = true"):
        pool(spot=True, failures_per_device_day=0)

    assert pool(spot=True, failures_per_device_day=0.5).failure_rate == 0.5


def test_a_checkpoint_of_ling_1t_is_written_in_the_published_half_minute():
    size_gb, devices = 12 * 1000, 2016  # 12 bytes for each of 10**12 parameters

    assert size_gb / devices / pool().checkpoint_gb_per_s == pytest.approx(30, rel=0.02)


@pytest.mark.parametrize("share", [0, -0.1, 1.01, 40])
def test_a_share_lies_between_0_and_1(share: float):
    with pytest.raises(ValidationError, match="max_share"):
        pool(max_share=share)


def test_a_link_connects_two_pools_or_the_islands_of_one():
    assert Link(between=("a", "b"), gbit_per_s=10).price_per_gb == 0
    assert Link(between=("a", "a"), gbit_per_s=10).latency_ms == 1


@pytest.mark.parametrize("change", [{"gbit_per_s": 0}, {"gbit_per_s": -1}, {"latency_ms": -1}, {"price_per_gb": -0.1}])
def test_a_link_that_carries_nothing_is_refused(change: dict[str, float]):
    with pytest.raises(ValidationError, match=next(iter(change))):
        Link.model_validate({"between": ["a", "b"], "gbit_per_s": 10, **change})
