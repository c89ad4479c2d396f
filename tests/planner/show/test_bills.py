"""What a bill consists of."""

import pytest

from everyflop.planner.show.bills import TRAFFIC, bill_of, traffic_lines
from everyflop.spec.plan import Choice


@pytest.fixture
def mix(plan) -> Choice:
    """Islands on a and d, whose links cost nothing."""
    return plan.alternatives[1]


@pytest.fixture
def sending(mix) -> Choice:
    """The same, where traffic costs a tenth of the bill."""
    cost = mix.total.cost
    total = mix.total.model_copy(update={"cost": cost.model_copy(update={"p50": cost.p50 / 0.9})})
    return mix.model_copy(update={"total": total})


def test_each_pool_costs_the_hours_of_its_devices(mix):
    bill, hours = bill_of(mix), 24 * mix.total.days.p50

    assert bill == pytest.approx({"a": 4096 * 7.0 * hours, "d": 2048 * 27.5 * hours})
    assert sum(bill.values()) == pytest.approx(mix.total.cost.p50)


def test_what_is_left_of_a_bill_is_the_traffic(sending):
    bill = bill_of(sending)

    assert bill[TRAFFIC] == pytest.approx(0.1 * sending.total.cost.p50)
    assert sum(bill.values()) == pytest.approx(sending.total.cost.p50)


def test_traffic_is_told_where_it_costs_anything(mix, sending):
    assert traffic_lines(mix, "a + d", "CNY") == []
    assert traffic_lines(sending, "a + d", "CNY")[0].endswith("CNY, 10 % of its bill")
