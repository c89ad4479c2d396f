"""Many layouts as arrays."""

import numpy as np
import pytest

from everyflop.accounting.layouts import Layouts
from everyflop.spec.layout import Layout

SOME = [
    Layout(),
    Layout(tp=2, pp=4, vpp=3, cp=2, ep=8, dp=4, sharding="zero3", recompute="full", micro_batch=2),
    Layout(tp=8, ep=4, etp=2, dp=1, recompute="selective"),
]


def test_layouts_come_back_as_they_went_in():
    arrays = Layouts.of(SOME)

    assert [arrays.at(i) for i in range(len(arrays))] == SOME


def test_devices_and_replicas_of_an_expert_follow_from_the_degrees():
    arrays = Layouts.of(SOME)

    assert arrays.devices.tolist() == [1, 2 * 4 * 2 * 4, 8]
    assert arrays.edp.tolist() == [1, 2 * 2 * 4 // 8, 1]


def test_some_of_them_are_taken_by_mask():
    assert Layouts.of(SOME).take(np.array([False, True, False])).at(0) == SOME[1]


def test_expert_parallel_must_divide_the_stage():
    with pytest.raises(ValueError, match="does not divide tp x cp x dp = 2"):
        Layout(ep=4, dp=2)
