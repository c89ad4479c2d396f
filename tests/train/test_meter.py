import pytest

from everyflop.spec.train import MoneySpec
from everyflop.train.meter import Meter


def test_an_hour_costs_the_price_of_an_hour():
    meter = Meter(MoneySpec(price_per_device_hour=2.5), flops_per_token=1.0, peak_flops_per_s=1.0)

    assert meter.cost(3600) == pytest.approx(2.5)
    assert meter.cost(90) == pytest.approx(0.0625)  # a fortieth of an hour


def test_a_price_of_nothing_costs_nothing():
    assert Meter(MoneySpec(price_per_device_hour=0.0), 1.0, 1.0).cost(100) == 0


def test_without_a_price_the_cost_is_unknown_and_not_zero():
    assert Meter(MoneySpec(), 1.0, 1.0).cost(100) is None


def test_mfu_is_the_share_of_the_measured_matmul_rate_that_the_models_flops_use():
    meter = Meter(MoneySpec(), flops_per_token=60e6, peak_flops_per_s=1e12)

    assert meter.mfu(5000) == pytest.approx(0.3)  # 5,000 x 60 MFLOP = 0.3 TFLOP/s
