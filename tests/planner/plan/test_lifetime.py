"""Plans that nobody could see the end of."""

import pytest

import everyflop as ef
from everyflop.base.errors import ExpectedNo

from ..fleets import A100, H100, fleet

FAILING = {**H100, "count": 512, "failures_per_device_day": 24}


def test_a_plan_that_outlives_its_devices_is_no_plan():
    with pytest.raises(ExpectedNo, match=r"takes .* years, .* look at failures_per_device_day"):
        ef.plan(fleet(FAILING), model="ling-plus", tokens="1T")


def test_beside_a_way_that_ends_one_that_does_not_is_a_pool_that_cannot_be_used():
    made = ef.plan(fleet({**A100, "count": 256}, FAILING, gbit_per_s=0), model="ling-plus", tokens="1T")

    assert made.recommended == "a"
    assert [choice.name for choice in made.alternatives] == ["a"]
    assert "years, and no device lasts 100" in made.unusable["b"]
