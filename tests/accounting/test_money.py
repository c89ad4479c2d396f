import pytest

from everyflop.accounting.money import cost, cost_per_gtoken


def test_two_devices_for_half_an_hour_cost_one_device_hour():
    assert cost(2 * 1800, 10.0) == pytest.approx(10.0)


def test_a_billion_tokens_cost_the_hours_they_take_times_the_price():
    # 1e9 tokens at 1e6 tokens/s take 1000 s = 0.2778 h; times 36 is 10.
    assert cost_per_gtoken(1_000_000, 36.0) == pytest.approx(10.0)


def test_ling_plus_on_device_d_costs_what_its_report_says():
    # 6.35 M for 1 T tokens at 27.5 an hour are 230,909 device hours: 1203 tokens/s on each device.
    assert 1000 * cost_per_gtoken(1e12 / (230_909 * 3600), 27.5) == pytest.approx(6.35e6, rel=1e-4)
