import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from everyflop.planner.show.charts.axes import linear_axis, wide_axis

positive = st.floats(1e-9, 1e15)


@pytest.mark.parametrize(
    ("least", "largest", "ticks"),
    [
        (0.0, 10.0, (0, 2, 4, 6, 8, 10)),
        (0.0, 10.1, (0, 2.5, 5, 7.5, 10, 12.5)),
        (0.0, 0.34, (0, 0.1, 0.2, 0.3, 0.4)),
        (27.6, 64.2, (20, 30, 40, 50, 60, 70)),
        (0.0, 0.0, (0, 1)),
    ],
)
def test_ticks_are_round_and_hold_both_ends(least, largest, ticks):
    assert linear_axis(least, largest, 0, 100).ticks == pytest.approx(ticks)


def test_values_lie_in_proportion_between_the_ends():
    axis = linear_axis(0.0, 10.0, 100, 300)

    assert [axis.at(value) for value in (0.0, 5.0, 10.0)] == pytest.approx([100, 200, 300])


def test_values_that_are_alike_start_at_zero():
    axis = wide_axis([30.0, 60.0], 0, 100)

    assert axis.ticks[0] == 0
    assert axis.note == ""


def test_values_far_apart_are_drawn_on_a_logarithmic_axis_and_it_says_so():
    axis = wide_axis([3.0, 300.0], 0, 100)

    assert axis.note == ", logarithmic"
    assert axis.ticks == pytest.approx((2, 5, 10, 20, 50, 100, 200, 500))
    assert axis.at(20.0) - axis.at(2.0) == pytest.approx(axis.at(200.0) - axis.at(20.0))


def test_nothing_is_drawn_from_zero_too():
    assert wide_axis([0.0, 0.0], 0, 100).holds(0.0)
    assert wide_axis([0.0, 5.0], 0, 100).note == ""


@given(st.lists(positive, min_size=1, max_size=5))
def test_an_axis_holds_all_its_values_and_its_ticks_rise(values):
    axis = wide_axis(values, 0, 100)

    rounding = 1e-9  # a tick of 1e-05 may come out as 0.999...e-05
    assert all(-rounding <= axis.at(value) <= 100 + rounding for value in values)
    assert list(axis.ticks) == sorted(axis.ticks)


@given(positive, positive)
@example(1e15, 999999999999999.8)  # nearer to each other than ticks can be
def test_a_linear_axis_has_at_most_eight_ticks(one, other):
    least, largest = sorted((one, other))

    assert 2 <= len(linear_axis(least, largest, 0, 100).ticks) <= 8
